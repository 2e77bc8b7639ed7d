//! The manifest as bytes.
//!
//! ```text
//! manifest = header (64 bytes) , body
//! header   = magic (8) , version u32 , body length u32 , compatible features u64 , read-only compatible features u64 ,
//!            incompatible features u64 , generation u64 , hash of the body u64 , hash of the 56 bytes before u64
//! body     = node id (16) , journal id (16) , incarnation u64 , applied position u64 , next segment u64 ,
//!            next state file u64 , flags u64 ,
//!            count u32 , segments: id u64 , bytes u64 , directory hash u64
//!            count u32 , parts: part u32 , reserved u32 , state file u64 , position u64 , bytes u64 , hash u64
//!            count u32 , retired segments: id u64
//!            count u32 , retired state files: number u64 ,
//!            seed of keys (16) , running time u64 ,
//!            count u32 , generations: number u64 , bytes u64 , entries u64 , directory hash u64 , class u32 , reserved u32 ,
//!            expires u64
//! ```
//!
//! The seed and what follows is there with the incompatible feature 1: who does not know it would forget keys. Feature 2 says
//! that some generations hold versions.
//!
//! A part is the number of its virtual shard, 65,535 for the topics, or 65,534 for the consumer groups. Flags: 1 clean shutdown, 2 the journal exists.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use bytes::BufMut;
use weir_protocol::read::Reader;
use weir_protocol::units::{Incarnation, JournalPosition, SegmentId, VirtualShard};
use weir_protocol::write::Write;
use weir_protocol::{DecodeError, Problem};
use xxhash_rust::xxh3::xxh3_64;

use super::{Manifest, Part, PartPlace, SegmentFacts};
use crate::dedup::KeySeed;
use crate::dedup::generation::{GenerationFacts, VERSIONS_CLASS};
use crate::disk::DiskError;
use crate::journal::JournalId;
use crate::limits::VIRTUAL_SHARDS;

/// Why a manifest cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ManifestError {
    /// A later version wrote it.
    #[error("{} needs features this version does not know: version {version}, bits {features:#x}", path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format version.
        version: u32,
        /// The unknown feature bits.
        features: u64,
    },
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl Manifest {
    /// The bytes of the slot.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(256 + self.segments.len() * SEGMENT_BYTES);
        body.put_slice(&self.node);
        body.put_slice(&self.journal.to_bytes());
        body.put_u64_le(self.incarnation.get());
        body.put_u64_le(self.applied.get());
        body.put_u64_le(self.next_segment.get());
        body.put_u64_le(self.next_state);
        let flag = |on: bool, bit: u64| if on { bit } else { 0 };
        body.put_u64_le(flag(self.clean, FLAG_CLEAN) | flag(self.born, FLAG_BORN));
        body.put_count(self.segments.len());
        for (segment, facts) in &self.segments {
            body.put_u64_le(segment.get());
            body.put_u64_le(facts.bytes);
            body.put_u64_le(facts.directory_hash);
        }
        body.put_count(self.parts.len());
        for (part, place) in &self.parts {
            body.put_u32_le(part.code());
            body.put_u32_le(0);
            body.put_u64_le(place.file);
            body.put_u64_le(place.position);
            body.put_u64_le(place.bytes);
            body.put_u64_le(place.hash);
        }
        body.put_count(self.retired_segments.len());
        self.retired_segments.iter().for_each(|segment| body.put_u64_le(segment.get()));
        body.put_count(self.retired_states.len());
        self.retired_states.iter().for_each(|file| body.put_u64_le(*file));
        if let Some(seed) = self.key_seed {
            self.encode_keys(seed, &mut body);
        }
        let mut out = Vec::with_capacity(HEADER_BYTES + body.len());
        out.put_slice(&MAGIC);
        out.put_u32_le(VERSION);
        out.put_count(body.len());
        let keys = if self.key_seed.is_some() { FEATURE_KEYS } else { 0 };
        let has_versions = self.generations.values().any(|facts| facts.class == VERSIONS_CLASS);
        let incompatible = keys | if has_versions { FEATURE_VERSIONS } else { 0 };
        for features in [0, 0, incompatible] {
            out.put_u64_le(features);
        }
        out.put_u64_le(self.generation);
        out.put_u64_le(xxh3_64(&body));
        out.put_u64_le(xxh3_64(&out));
        assert!(out.len() == HEADER_BYTES, "the fields fill the header");
        out.extend_from_slice(&body);
        out
    }

    fn encode_keys(&self, seed: KeySeed, body: &mut Vec<u8>) {
        body.put_slice(&seed.to_bytes());
        body.put_u64_le(self.running_us);
        body.put_count(self.generations.len());
        for (generation, facts) in &self.generations {
            body.put_u64_le(generation.get());
            body.put_u64_le(facts.bytes);
            body.put_u64_le(facts.entries);
            body.put_u64_le(facts.directory_hash);
            body.put_u32_le(facts.class);
            body.put_u32_le(0);
            body.put_u64_le(facts.expires_us);
        }
    }

    /// Reads a slot; `None` if it holds no whole manifest.
    pub(super) fn decode(bytes: &[u8], path: &Path) -> Result<Option<Self>, ManifestError> {
        let Some((header, rest)) = bytes.split_at_checked(HEADER_BYTES) else {
            return Ok(None);
        };
        let Ok(header) = Header::decode(header) else {
            return Ok(None);
        };
        if header.version != VERSION || header.features & !FEATURES_KNOWN != 0 {
            let (version, features) = (header.version, header.features & !FEATURES_KNOWN);
            return Err(ManifestError::NewerFormat { path: path.to_owned(), version, features });
        }
        let body = rest.get(..header.body_bytes).filter(|body| xxh3_64(body) == header.body_hash);
        Ok(body.and_then(|body| Self::decode_body(&mut Reader::new(body), &header).ok()))
    }

    fn decode_body(reader: &mut Reader<'_>, header: &Header) -> Result<Self, DecodeError> {
        let node = reader.bytes16()?;
        let journal = JournalId::from_bytes(reader.bytes16()?);
        let incarnation = Incarnation::new(reader.u64()?);
        let applied = JournalPosition::new(reader.u64()?);
        let next_segment = SegmentId::new(reader.u64()?);
        let next_state = reader.u64()?;
        let flags = reader.u64()?;
        let mut segments = BTreeMap::new();
        for _ in 0..reader.count("segment count", SEGMENT_BYTES)? {
            let segment = SegmentId::new(reader.u64()?);
            segments.insert(segment, SegmentFacts { bytes: reader.u64()?, directory_hash: reader.u64()? });
        }
        let mut parts = BTreeMap::new();
        for _ in 0..reader.count("part count", PART_BYTES)? {
            let part = Part::decode(reader)?;
            reader.u32()?;
            let (file, position) = (reader.u64()?, reader.u64()?);
            parts.insert(part, PartPlace { file, position, bytes: reader.u64()?, hash: reader.u64()? });
        }
        let retired_segments = decode_numbers(reader)?.into_iter().map(SegmentId::new).collect();
        let retired_states = decode_numbers(reader)?;
        let has_keys = header.features & FEATURE_KEYS != 0;
        let (key_seed, running_us, generations) = if has_keys {
            let seed = KeySeed::from_bytes(reader.bytes16()?);
            (Some(seed), reader.u64()?, decode_generations(reader)?)
        } else {
            (None, 0, BTreeMap::new())
        };
        Ok(Self {
            generation: header.generation,
            node,
            journal,
            incarnation,
            applied,
            next_segment,
            next_state,
            clean: flags & FLAG_CLEAN != 0,
            born: flags & FLAG_BORN != 0,
            segments,
            generations,
            key_seed,
            running_us,
            parts,
            retired_segments,
            retired_states,
        })
    }
}

fn decode_generations(reader: &mut Reader<'_>) -> Result<BTreeMap<SegmentId, GenerationFacts>, DecodeError> {
    let mut generations = BTreeMap::new();
    for _ in 0..reader.count("generation count", GENERATION_BYTES)? {
        let generation = SegmentId::new(reader.u64()?);
        let (bytes, entries, directory_hash) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let class = reader.u32()?;
        reader.u32()?;
        let facts = GenerationFacts { bytes, entries, directory_hash, class, expires_us: reader.u64()? };
        generations.insert(generation, facts);
    }
    Ok(generations)
}

fn decode_numbers(reader: &mut Reader<'_>) -> Result<BTreeSet<u64>, DecodeError> {
    let count = reader.count("retired count", 8)?;
    (0..count).map(|_| reader.u64()).collect()
}

impl Part {
    /// The number that stands for it.
    pub(super) fn code(self) -> u32 {
        match self {
            Self::Topics => PART_TOPICS,
            Self::Groups => PART_GROUPS,
            Self::Shard(shard) => u32::from(shard.get()),
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let error = |value: u32| Problem::Invalid { what: "part", value: u64::from(value) };
        let at = reader.position();
        match reader.u32()? {
            PART_TOPICS => Ok(Self::Topics),
            PART_GROUPS => Ok(Self::Groups),
            value => match u16::try_from(value) {
                Ok(shard) if shard < VIRTUAL_SHARDS => Ok(Self::Shard(VirtualShard::new(shard))),
                Ok(_) | Err(_) => Err(DecodeError::new(at, error(value))),
            },
        }
    }
}

/// A header whose hash was right.
struct Header {
    version: u32,
    body_bytes: usize,
    features: u64,
    generation: u64,
    body_hash: u64,
}

impl Header {
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let computed = xxh3_64(reader.clone().take(HEADER_BYTES - 8)?);
        let magic = reader.take(MAGIC.len())?;
        if magic != MAGIC {
            return Err(DecodeError::new(0, Problem::Invalid { what: "magic", value: 0 }));
        }
        let version = reader.u32()?;
        let body_bytes = reader.u32()? as usize;
        reader.u64()?;
        let features = reader.u64()? | reader.u64()?;
        let generation = reader.u64()?;
        let body_hash = reader.u64()?;
        if reader.u64()? != computed {
            return Err(reader.error(Problem::Invalid { what: "header hash", value: computed }));
        }
        Ok(Self { version, body_bytes, features, generation, body_hash })
    }
}

pub(crate) const MAGIC: [u8; 8] = *b"WEIRMAN1";
const VERSION: u32 = 1;
/// Feature bits this version knows; a directory with others is not touched.
const FEATURES_KNOWN: u64 = FEATURE_KEYS | FEATURE_VERSIONS;
/// The manifest names generations of keys.
const FEATURE_KEYS: u64 = 1;
/// Some of them hold versions: who does not keep them up to date would leave wrong ones behind.
const FEATURE_VERSIONS: u64 = 1 << 1;
pub(super) const HEADER_BYTES: usize = 64;
const SEGMENT_BYTES: usize = 24;
const PART_BYTES: usize = 40;
const GENERATION_BYTES: usize = 48;
const PART_TOPICS: u32 = 0xffff;
const PART_GROUPS: u32 = 0xfffe;
const FLAG_CLEAN: u64 = 1;
const FLAG_BORN: u64 = 2;
