//! Golden bytes: what every message and the batch look like on the wire, for ever.
//!
//! Each file beside this one holds one frame, or one batch, as hex. A difference means that the format changed, which
//! existing clients and data directories do not survive: it needs a new version, not a new file. For a message that
//! is new, write its file with `WEIR_GOLDEN=write cargo test -p tests --test golden`.

use std::collections::BTreeSet;
use std::fmt::{Debug, Write as _};
use std::path::PathBuf;
use std::{env, fs};

use bytes::{Bytes, BytesMut};
use weir_protocol::frame::{FrameKind, RawFrame, take_frame};
use weir_protocol::limits::FRAME_BYTES_MAX;
use weir_protocol::message::Message;

mod samples;

/// Says what is wrong if bytes do not decode to the thing.
type Check = Box<dyn Fn(&Bytes) -> Result<(), String>>;

/// A thing with a name and the bytes that stand for it.
struct Sample {
    name: &'static str,
    kind: Option<FrameKind>,
    bytes: Bytes,
    check: Check,
}

impl Sample {
    fn message<M: Message + Debug + PartialEq + 'static>(name: &'static str, message: M) -> Self {
        let bytes = message.to_frame();
        let check = move |bytes: &Bytes| {
            let mut rest = bytes.clone();
            let frame: RawFrame = take_frame(&mut rest, FRAME_BYTES_MAX)
                .map_err(|error| error.to_string())?
                .ok_or("not a whole frame")?;
            let decoded = M::from_frame(&frame).map_err(|error| error.to_string())?;
            if decoded == message { Ok(()) } else { Err(format!("decodes to {decoded:?}")) }
        };
        Self { name, kind: Some(M::KIND), bytes, check: Box::new(check) }
    }

    fn path(&self) -> PathBuf {
        directory().join(format!("{}.hex", self.name))
    }
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("wire")
}

/// Lines of 16 bytes, after one of explanation.
fn to_text(sample: &Sample) -> String {
    let mut text = format!("# {}, {} bytes\n", sample.name, sample.bytes.len());
    for line in sample.bytes.chunks(16) {
        let bytes: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(text, "{}", bytes.join(" ")).expect("writing to a string cannot fail");
    }
    text
}

fn from_text(text: &str) -> Bytes {
    let digits = text.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace);
    digits.map(|byte| u8::from_str_radix(byte, 16).expect("two hex digits")).collect::<BytesMut>().freeze()
}

#[test]
fn bytes_are_what_they_always_were() {
    let write = env::var_os("WEIR_GOLDEN").is_some_and(|value| value == "write");
    let mut wrong = Vec::new();
    for sample in samples::compressed() {
        if write && !sample.path().exists() {
            fs::write(sample.path(), to_text(&sample)).unwrap();
        }
    }
    for sample in samples::all() {
        if write {
            fs::write(sample.path(), to_text(&sample)).unwrap();
        }
        match fs::read_to_string(sample.path()) {
            Ok(text) if from_text(&text) == sample.bytes => {}
            Ok(text) => wrong.push(format!("{}: was\n{text}but is\n{}", sample.name, to_text(&sample))),
            Err(error) => wrong.push(format!("{}: {error}", sample.path().display())),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn golden_bytes_are_understood() {
    for sample in samples::all().into_iter().chain(samples::compressed()) {
        let text = fs::read_to_string(sample.path()).unwrap();
        let outcome = (sample.check)(&from_text(&text));
        assert_eq!(outcome, Ok(()), "{}", sample.name);
    }
}

#[test]
fn every_kind_of_frame_has_golden_bytes() {
    let kinds: BTreeSet<FrameKind> = samples::all().iter().filter_map(|sample| sample.kind).collect();
    for kind in FrameKind::ALL {
        assert!(kinds.contains(kind), "{kind:?} has no sample");
    }
}

#[test]
fn every_golden_file_belongs_to_a_sample() {
    let mut known: BTreeSet<PathBuf> = BTreeSet::new();
    for sample in samples::all().iter().chain(&samples::compressed()) {
        assert!(known.insert(sample.path()), "{} stands for two things", sample.name);
    }
    for entry in fs::read_dir(directory()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "hex") {
            assert!(known.contains(&path), "{} belongs to nothing", path.display());
        }
    }
}
