//! Idempotency keys on a real disk: what a key takes in memory and on the disk, how fast new and known keys are told apart, and
//! how long a start takes.
//!
//! ```text
//! cargo bench -p benches --bench keys                                   5 million keys, some 2 GB, ten seconds
//! WEIR_KEYS=100000000 TMPDIR=/data cargo bench -p benches --bench keys  100 million, some 13 GB, some minutes
//! ```

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use weir_protocol::batch::{
    BatchBuilder, BatchIdentity, BrokerSection, Compression, RecordInput, StoredBatch, TableRow, Voids,
};
use weir_protocol::limits::DEDUP_HORIZON_US_DEFAULT;
use weir_protocol::message::TopicSettings;
use weir_protocol::units::{
    Epoch, Offset, PartitionId, PartitionKey, ProducerId, Sequence, Timestamp, TopicId,
};
use weir_storage::dedup::{KeySeed, RECENT_KEY_BYTES, Recent, entries};
use weir_storage::disk::OsDisk;
use weir_storage::frame::{Frame, TopicDefinition};
use weir_storage::journal::Prepared;
use weir_storage::store::{OpenOptions, Opened, open};

const KEYS_DEFAULT: u64 = 5_000_000;
const BATCH_KEYS: u64 = 1000;
const FLUSH_KEYS: u64 = 250_000;
/// Batches that become durable together.
const COMMIT_BATCHES: usize = 50;
const PROBES: u64 = 1_000_000;
const LOOKUPS: u64 = 20_000;
/// Keys of a batch of small records.
const MARKED_KEYS: usize = 5_000;
const ROUTING_HASH: u64 = 7;
const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);
const PARTITION: PartitionKey =
    PartitionKey { topic: TopicId::from_bytes([9; 16]), partition: PartitionId::new(0) };

fn batch(first: u64) -> StoredBatch {
    let mut builder = BatchBuilder::new(1 << 20);
    for number in first..first + BATCH_KEYS {
        let key = number.to_le_bytes();
        let row = TableRow { routing_hash: ROUTING_HASH, idempotency_key: Some(&key), ..TableRow::default() };
        builder.push(&RecordInput { row, ..RecordInput::default() }).expect("a thousand small records fit");
    }
    let identity = BatchIdentity {
        producer: ProducerId::new(1),
        producer_epoch: Epoch::ZERO,
        sequence: Sequence::new(first / BATCH_KEYS),
        partition: PARTITION,
    };
    let section = BrokerSection {
        base_offset: Offset::new(first),
        append_time: NOW,
        partition_epoch: Epoch::ZERO,
        voids: Voids::NONE,
    };
    StoredBatch { section, producer: builder.finish(&identity, Compression::None) }
}

fn topic() -> Frame {
    let settings = TopicSettings {
        partitions: 1,
        retention_age_us: None,
        // What is remembered of keys does not depend on their records.
        retention_bytes: Some(1),
        batch_bytes_max: 1 << 20,
        explicit_partitions: false,
        dedup_horizon_us: Some(DEDUP_HORIZON_US_DEFAULT),
        keyed_versions: false,
        dedup_keys_per_second: None,
        dedup_since: Timestamp::ZERO,
    };
    let (id, name) = (PARTITION.topic, "keys".to_owned());
    Frame::Topic(TopicDefinition { id, name, created: NOW, revision: 1, settings })
}

fn commit(opened: &mut Opened<OsDisk>, mut frames: Vec<Frame>) {
    while opened.journal.prepare_spare().expect("the disk takes a journal file") == Prepared::More {}
    let committed = opened.journal.commit(&mut frames).expect("the journal has room");
    opened.flusher.accept(frames, committed.end);
}

fn flush(opened: &mut Opened<OsDisk>, recent: &mut Recent) {
    let flushed = opened.flusher.flush(NOW).expect("the disk takes a segment");
    opened.journal.release(flushed.release);
    recent.release(flushed.keys);
    while opened.flusher.maintain(NOW).expect("the disk takes a merge").more {}
}

fn fill(directory: &Path, keys: u64) {
    let mut opened = open(OsDisk, directory, OpenOptions::default(), NOW).expect("a new directory");
    let mut recent = Recent::new(2 * FLUSH_KEYS * RECENT_KEY_BYTES);
    commit(&mut opened, vec![topic()]);
    let mut flushing = Duration::ZERO;
    let mut pushing = Duration::ZERO;
    let mut frames = Vec::new();
    for first in (0..keys).step_by(1000) {
        let batch = batch(first);
        let began = Instant::now();
        for entry in entries(&opened.key_seed, PARTITION.topic, &batch) {
            if recent.get(entry.digest).is_none() {
                recent.push(entry.digest, entry.place);
            }
        }
        pushing += began.elapsed();
        frames.push(Frame::Append { partition: PARTITION, acked_below: Sequence::ZERO, batch });
        if frames.len() == COMMIT_BATCHES || first + BATCH_KEYS >= keys {
            commit(&mut opened, std::mem::take(&mut frames));
        }
        if (first + BATCH_KEYS).is_multiple_of(FLUSH_KEYS) {
            let began = Instant::now();
            flush(&mut opened, &mut recent);
            flushing += began.elapsed();
        }
    }
    flush(&mut opened, &mut recent);
    say(&format!("digest, look up and push a recent key    {:8.0} ns", nanos(pushing, keys)));
    say(&format!("flush and merge a key, with its record   {:8.0} ns", nanos(flushing, keys)));
    opened.flusher.close(NOW).expect("an orderly end");
}

fn measure(directory: &Path, keys: u64) {
    let before = resident_bytes();
    let began = Instant::now();
    let opened = open(OsDisk, directory, OpenOptions::default(), NOW).expect("what was just written");
    say(&format!("start                                    {:8.0} ms", began.elapsed().as_secs_f64() * 1e3));
    let figures = opened.reader.key_figures();
    let per_key = |bytes: u64| bytes as f64 / figures.keys as f64;
    say(&format!("keys, generations                        {} {}", figures.keys, figures.generations));
    say(&format!("memory of an old key                     {:8.2} bytes", per_key(figures.memory_bytes)));
    say(&format!("disk of an old key                       {:8.2} bytes", per_key(figures.disk_bytes)));
    let resident = resident_bytes().saturating_sub(before);
    say(&format!("resident memory for the directory        {:8.1} MB", resident as f64 / 1e6));
    let digest =
        |seed: &KeySeed, number: u64| seed.digest(PARTITION.topic, ROUTING_HASH, &number.to_le_bytes());
    let began = Instant::now();
    let new = (keys..keys + PROBES).map(|number| digest(&opened.key_seed, number));
    let taken = new.filter(|digest| opened.reader.may_hold_key(*digest)).count();
    say(&format!("ask the filters for a new key            {:8.0} ns", nanos(began.elapsed(), PROBES)));
    say(&format!("new keys that filters let through        {taken} of {PROBES}"));
    let new: Vec<_> = (keys..keys + PROBES).map(|number| digest(&opened.key_seed, number)).collect();
    let began = Instant::now();
    for batch in new.chunks(MARKED_KEYS) {
        opened.reader.mark_keys(batch, &mut vec![false; batch.len()]);
    }
    say(&format!("the same for a batch, hashed before      {:8.0} ns", nanos(began.elapsed(), PROBES)));
    let began = Instant::now();
    for number in (0..keys).step_by(usize::try_from(keys.div_ceil(LOOKUPS)).expect("few")) {
        let found = opened.reader.find_key(digest(&opened.key_seed, number)).expect("the disk is whole");
        assert!(found.is_some_and(|entry| entry.place.offset.get() == number), "every key is found");
    }
    say(&format!("look a known key up on the disk          {:8.0} ns", nanos(began.elapsed(), LOOKUPS)));
}

fn nanos(time: Duration, count: u64) -> f64 {
    time.as_secs_f64() * 1e9 / count as f64
}

/// Memory of this process, in bytes; 0 where the system does not tell.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

fn say(line: &str) {
    writeln!(std::io::stdout(), "{line}").expect("somebody reads what is measured");
}

fn main() {
    let keys = std::env::var("WEIR_KEYS").ok().map_or(KEYS_DEFAULT, |keys| keys.parse().expect("a number"));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let began = Instant::now();
    fill(directory.path(), keys.next_multiple_of(BATCH_KEYS));
    say(&format!("{keys} keys written in                 {:8.1} s", began.elapsed().as_secs_f64()));
    measure(directory.path(), keys);
}
