//! What has rotted on the disk is found by the broker itself, before anybody reads it.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use harness::{Broker, Lines};

const LIMIT: Duration = Duration::from_secs(60);

/// The first segment of a broker's data.
fn segment(broker: &Broker) -> PathBuf {
    let files = std::fs::read_dir(broker.data_directory().join("segments")).expect("it has segments");
    let mut paths: Vec<PathBuf> = files.map(|entry| entry.expect("it can be read").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    paths.sort();
    paths.swap_remove(0)
}

#[test]
fn a_flipped_bit_is_named_with_segment_partition_and_offsets_and_the_file_stays() {
    // given: a broker with records in segments, one of them damaged while nobody ran
    let mut broker = Broker::start();
    let lines = Lines::numbered(0, 5_000);
    let file = broker.file("lines.txt", lines.text().as_bytes());
    broker.text(&["send", "orders", "--create", "--file", &file]);
    broker.terminate().expect_code(0);
    let path = segment(&broker);
    let mut file = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(4096 + 1000)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(4096 + 1000)).unwrap();
    file.write_all(&[byte[0] ^ 1]).unwrap();
    drop(file);
    let before = std::fs::read(&path).unwrap();
    // when
    broker.restart();
    // then
    let mut found = String::new();
    while !found.contains("all segments were verified") {
        found += &broker.process().stderr().next_line(LIMIT).expect("a pass comes to its end");
    }
    assert!(found.contains("stored records are damaged"), "{found}");
    assert!(found.contains(path.file_name().unwrap().to_str().unwrap()), "{found}");
    assert!(found.contains("partition=") && found.contains("from=0 "), "{found}");
    assert_eq!(std::fs::read(&path).unwrap(), before, "a scrub changes nothing");
    // The thread ends with the broker, though its next pass is a day away.
    broker.terminate().expect_code(0);
}
