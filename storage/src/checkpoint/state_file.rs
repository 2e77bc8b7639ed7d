//! State files: the parts of the state that changed between two checkpoints, written once.
//!
//! ```text
//! state file = header (72 bytes) , parts, back to back
//! header     = magic (8) , version u32 , part count u32 , compatible features u64 , read-only compatible features u64 ,
//!              incompatible features u64 , node id (16) , number u64 , hash of the 64 bytes before u64
//! ```
//!
//! The incompatible feature 1 says that the topics have claims.
//!
//! Which part stands where, and its hash, says the manifest. Parts that changed together share a file, so that a
//! checkpoint costs one sync however many parts changed.

use std::collections::BTreeMap;
use std::io::{ErrorKind, IoSlice};
use std::path::{Path, PathBuf};

use bytes::BufMut;
use weir_protocol::DecodeError;
use weir_protocol::read::Reader;
use weir_protocol::write::Write;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::{Manifest, Part, PartPlace, Paths};
use crate::disk::{Context, Disk, DiskError, File, Mode};
use crate::state::{NodeState, decode_groups, decode_partitions, decode_topics};

/// Name of a state file.
pub(crate) fn state_name(number: u64) -> String {
    format!("{number:020}.{EXTENSION}")
}

/// The number in the name of a state file.
pub(crate) fn state_id_of_name(name: &str) -> Option<u64> {
    let number = name.strip_suffix(EXTENSION)?.strip_suffix('.')?.parse().ok()?;
    (state_name(number) == name).then_some(number)
}

/// Why the state cannot be read.
#[derive(Debug)]
pub(crate) enum LoadError {
    /// A part is missing or not what was written.
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A later version wrote it.
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format version.
        version: u32,
        /// The unknown feature bits.
        features: u64,
    },
    /// The disk failed.
    Disk(DiskError),
}

impl From<DiskError> for LoadError {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

/// Parts of the state as bytes.
#[derive(Debug, Default)]
pub(crate) struct EncodedParts {
    /// Each part.
    pub(crate) parts: BTreeMap<Part, Vec<u8>>,
    /// Whether the topics have claims behind them.
    pub(crate) has_claims: bool,
}

/// Writes parts to a new file and syncs it. The directory is left to be synced.
pub(crate) fn write_parts<D: Disk>(
    disk: &D,
    paths: &Paths,
    node: &[u8; 16],
    number: u64,
    encoded: &EncodedParts,
) -> Result<BTreeMap<Part, PartPlace>, DiskError> {
    let path = paths.state.join(state_name(number));
    let mut bytes = encode_header(node, number, encoded);
    let mut places = BTreeMap::new();
    for (part, content) in &encoded.parts {
        let place = PartPlace {
            file: number,
            position: bytes.len() as u64,
            bytes: content.len() as u64,
            hash: hash(node, number, *part, content),
        };
        places.insert(*part, place);
        bytes.extend_from_slice(content);
    }
    let file = disk.create(&path, Mode::Write, 0).context("make", &path)?;
    let written = file.write_all_at(&[IoSlice::new(&bytes)], 0).context("write", &path);
    let synced = written.and_then(|()| file.sync_data().context("sync", &path));
    if let Err(error) = synced {
        // What cannot be removed is left over until the next start.
        drop(disk.remove(&path));
        return Err(error);
    }
    Ok(places)
}

/// Reads the state that a manifest names.
pub(crate) fn load<D: Disk>(disk: &D, paths: &Paths, manifest: &Manifest) -> Result<NodeState, LoadError> {
    let mut state = NodeState::default();
    for (part, place) in &manifest.parts {
        let path = paths.state.join(state_name(place.file));
        let damaged = |what: String| LoadError::Damaged { path: path.clone(), what };
        let file = match disk.open(&path, Mode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(damaged("missing".to_owned())),
            Err(error) => return Err(error).context("open", &path).map_err(LoadError::from),
        };
        let length = file.length().context("read the length of", &path)?;
        check_format(&file, &path, length)?;
        if place.position.checked_add(place.bytes).is_none_or(|end| end > length) {
            return Err(damaged(format!("it has only {length} bytes")));
        }
        let mut content =
            vec![0; usize::try_from(place.bytes).expect("it lies within a file that was written")];
        file.read_exact_at(&mut content, place.position).context("read", &path)?;
        if hash(&manifest.node, place.file, *part, &content) != place.hash {
            let end = place.position + place.bytes;
            return Err(damaged(format!("wrong checksum of bytes {}..{end}", place.position)));
        }
        let decoded: Result<(), DecodeError> = match part {
            Part::Topics => decode_topics(&content)
                .map(|(topics, claims)| (state.topics, state.claims) = (topics, claims)),
            Part::Groups => decode_groups(&content).map(|groups| state.groups = groups),
            Part::Shard(_) => decode_partitions(&content).map(|mut more| state.partitions.append(&mut more)),
        };
        decoded.map_err(|error| damaged(error.to_string()))?;
    }
    Ok(state)
}

/// Refuses a file whose header says that a later version wrote it. A damaged header says nothing, and does no harm: each
/// part has a hash of its own.
fn check_format<F: File>(file: &F, path: &Path, length: u64) -> Result<(), LoadError> {
    if length < HEADER_BYTES as u64 {
        return Ok(());
    }
    let mut header = [0; HEADER_BYTES];
    file.read_exact_at(&mut header, 0).context("read", path)?;
    match decode_features(&header) {
        Ok(Some((version, features))) if version != VERSION || features & !FEATURES_KNOWN != 0 => {
            let features = features & !FEATURES_KNOWN;
            Err(LoadError::NewerFormat { path: path.to_owned(), version, features })
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

/// The version, and the features that one must know; `None` if the header is not what was written.
fn decode_features(header: &[u8; HEADER_BYTES]) -> Result<Option<(u32, u64)>, DecodeError> {
    let mut reader = Reader::new(header);
    let hash = xxh3_64(reader.clone().take(HEADER_BYTES - 8)?);
    let is_ours = reader.take(MAGIC.len())? == MAGIC;
    let version = reader.u32()?;
    reader.u32()?;
    reader.u64()?;
    let features = reader.u64()? | reader.u64()?;
    reader.bytes16()?;
    reader.u64()?;
    Ok((is_ours && reader.u64()? == hash).then_some((version, features)))
}

fn encode_header(node: &[u8; 16], number: u64, encoded: &EncodedParts) -> Vec<u8> {
    let incompatible = if encoded.has_claims { FEATURE_CLAIMS } else { 0 };
    let mut out = Vec::with_capacity(HEADER_BYTES);
    out.put_slice(&MAGIC);
    out.put_u32_le(VERSION);
    out.put_count(encoded.parts.len());
    for features in [0, 0, incompatible] {
        out.put_u64_le(features);
    }
    out.put_slice(node);
    out.put_u64_le(number);
    out.put_u64_le(xxh3_64(&out));
    assert!(out.len() == HEADER_BYTES, "the fields fill the header");
    out
}

/// Hash of a part, salted with where it belongs.
pub(super) fn hash(node: &[u8; 16], number: u64, part: Part, content: &[u8]) -> u64 {
    let mut salt = [0u8; 28];
    let mut rest = &mut salt[..];
    rest.put_slice(node);
    rest.put_u64_le(number);
    rest.put_u32_le(part.code());
    xxh3_64_with_seed(content, xxh3_64(&salt))
}

const EXTENSION: &str = "state";
pub(crate) const MAGIC: [u8; 8] = *b"WEIRSTA1";
const VERSION: u32 = 1;
/// Feature bits this version knows; a file with others in the two latter sets is not read.
const FEATURES_KNOWN: u64 = FEATURE_CLAIMS;
/// The topics have claims behind them: who does not know these would take them for damage.
const FEATURE_CLAIMS: u64 = 1;
pub(super) const HEADER_BYTES: usize = 72;
