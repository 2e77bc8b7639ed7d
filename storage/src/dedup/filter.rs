//! Filters: whether a key is surely in none of the records of a generation, without looking at the disk.
//!
//! Binary fuse filters, one for each shard, so that they can be made while a generation is written from front to back. A shard
//! holds an even part of the digests' range.
//!
//! ```text
//! x  = second half of the digest (big endian) + seed      h  = murmur3 finalizer of x (64 bits)
//! h0 = h * segment count length >> 64                     h1 = (h0 + segment length) ^ (h >> 18 & segment length - 1)
//! h2 = (h0 + 2 * segment length) ^ (h & segment length - 1)
//! surely new, unless cell[h0] ^ cell[h1] ^ cell[h2] = h ^ h >> 32, in the bits of a cell
//! ```
//!
//! Cells of 16 bits take a key for one of theirs once in 65,536 times. Their lower halves alone are a filter, too, which
//! does so once in 256 times.

use std::sync::Arc;

use bytes::BufMut;
use weir_protocol::DecodeError;
use weir_protocol::read::Reader;
use xorf::{BinaryFuse16, DmaSerializable};

use super::KeyDigest;

/// Keys of a shard, about. What it takes to make a filter of them, some 10 MiB, is all the memory a new generation
/// needs; larger ones would hardly have smaller cells.
const SHARD_KEYS: u64 = 1 << 18;

/// Length of the description of a shard.
pub(super) const SHARD_BYTES: usize = 40;

/// A filter over the keys of one generation.
#[derive(Debug)]
pub(crate) struct Filter {
    shards: Arc<[Shard]>,
    cells: Cells,
}

/// What is kept of each key.
#[derive(Debug)]
enum Cells {
    Wide(Box<[u16]>),
    Narrow(Box<[u8]>),
}

/// How much memory a filter may take.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Width {
    /// No filter: each key is looked for on the disk.
    None,
    /// One byte a cell.
    Narrow,
    /// Two bytes a cell.
    Wide,
}

/// The filter of one part of the range of digests.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Shard {
    kind: ShardKind,
    /// How many cells it has.
    cell_count: u32,
    /// Its first cell.
    first_cell: u64,
    seed: u64,
    segment_length: u32,
    segment_count_length: u32,
    /// Hash of its cells on the disk.
    pub(super) hash: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ShardKind {
    /// There are no keys.
    Empty,
    /// A binary fuse filter.
    Fuse,
    /// None could be made, which has never been seen: everything may be in it.
    Unsure,
}

impl Filter {
    /// Whether a key may be in the generation. If not, it surely is not.
    pub(crate) fn may_contain(&self, digest: KeyDigest) -> bool {
        match &self.cells {
            Cells::Wide(cells) => self.holds(digest, cells, 0xffff),
            Cells::Narrow(cells) => self.holds(digest, cells, 0xff),
        }
    }

    /// Marks those of some keys that may be in the generation. One after the other, so that the memory is waited for together:
    /// that makes up nearly all of the time.
    pub(crate) fn mark(&self, digests: &[KeyDigest], marks: &mut [bool]) {
        match &self.cells {
            Cells::Wide(cells) => self.mark_in(digests, marks, cells, 0xffff),
            Cells::Narrow(cells) => self.mark_in(digests, marks, cells, 0xff),
        }
    }

    fn mark_in<C: Copy + Into<u64>>(
        &self,
        digests: &[KeyDigest],
        marks: &mut [bool],
        cells: &[C],
        mask: u64,
    ) {
        for (digest, mark) in digests.iter().zip(marks) {
            *mark |= self.holds(*digest, cells, mask);
        }
    }

    #[inline]
    fn holds<C: Copy + Into<u64>>(&self, digest: KeyDigest, cells: &[C], mask: u64) -> bool {
        let Some(shard) = self.shards.get(shard_of(digest, self.shards.len())) else {
            return true;
        };
        match shard.kind {
            ShardKind::Empty => return false,
            ShardKind::Unsure => return true,
            ShardKind::Fuse => {}
        }
        let hash = mix(digest.low().wrapping_add(shard.seed));
        let [first, second, third] = shard.places(hash);
        let cell = |place: usize| cells.get(place).map_or(0, |cell| (*cell).into());
        (cell(first) ^ cell(second) ^ cell(third) ^ hash ^ hash >> 32) & mask == 0
    }

    /// A filter from what stands in a file. `cells` are those of all shards.
    pub(super) fn from_bytes(shards: Arc<[Shard]>, cells: &[u8], width: Width) -> Option<Self> {
        let cells = match width {
            Width::None => return None,
            Width::Wide => {
                Cells::Wide(cells.as_chunks().0.iter().map(|cell| u16::from_le_bytes(*cell)).collect())
            }
            Width::Narrow => Cells::Narrow(cells.as_chunks::<2>().0.iter().map(|[low, _]| *low).collect()),
        };
        Some(Self { shards, cells })
    }

    /// The same filter with narrow cells.
    pub(crate) fn narrowed(&self) -> Self {
        let cells = match &self.cells {
            Cells::Wide(cells) => cells.iter().map(|cell| cell.to_le_bytes()[0]).collect(),
            Cells::Narrow(cells) => cells.clone(),
        };
        Self { shards: Arc::clone(&self.shards), cells: Cells::Narrow(cells) }
    }

    /// How wide its cells are.
    pub(crate) const fn width(&self) -> Width {
        match &self.cells {
            Cells::Wide(_) => Width::Wide,
            Cells::Narrow(_) => Width::Narrow,
        }
    }

    /// How many cells it has.
    #[cfg(test)]
    const fn cell_count(&self) -> usize {
        match &self.cells {
            Cells::Wide(cells) => cells.len(),
            Cells::Narrow(cells) => cells.len(),
        }
    }
}

impl Shard {
    #[inline]
    fn places(&self, hash: u64) -> [usize; 3] {
        let first = (u128::from(hash) * u128::from(self.segment_count_length)) >> 64;
        let first = u64::try_from(first).expect("below a number of 32 bits");
        let length = u64::from(self.segment_length);
        let mask = length.wrapping_sub(1);
        let second = (first + length) ^ (hash >> 18 & mask);
        let third = (first + 2 * length) ^ (hash & mask);
        let at = |place: u64| usize::try_from(self.first_cell.wrapping_add(place)).unwrap_or(usize::MAX);
        [at(first), at(second), at(third)]
    }

    /// The bytes of its cells among those of all shards.
    pub(super) fn bytes(&self) -> std::ops::Range<usize> {
        let first = usize::try_from(self.first_cell * 2).unwrap_or(usize::MAX);
        first..first.saturating_add(self.cell_count as usize * 2)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64_le(self.first_cell);
        out.put_u64_le(self.seed);
        out.put_u32_le(self.segment_length);
        out.put_u32_le(self.segment_count_length);
        out.put_u32_le(self.cell_count);
        out.put_u32_le(match self.kind {
            ShardKind::Empty => 0,
            ShardKind::Fuse => 1,
            ShardKind::Unsure => 2,
        });
        out.put_u64_le(self.hash);
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            first_cell: reader.u64()?,
            seed: reader.u64()?,
            segment_length: reader.u32()?,
            segment_count_length: reader.u32()?,
            cell_count: reader.u32()?,
            kind: match reader.u32()? {
                0 => ShardKind::Empty,
                1 => ShardKind::Fuse,
                _ => ShardKind::Unsure,
            },
            hash: reader.u64()?,
        })
    }
}

/// Makes a filter of keys that come in order.
#[derive(Debug)]
pub(super) struct FilterBuilder {
    shard_count: usize,
    shards: Vec<Shard>,
    cells: Vec<u16>,
    /// The keys of the shard after those that are made.
    keys: Vec<u64>,
}

impl FilterBuilder {
    /// For at most this many keys.
    pub(super) fn new(keys_max: u64) -> Self {
        let shard_count = usize::try_from(keys_max.div_ceil(SHARD_KEYS).max(1)).expect("fits memory");
        Self { shard_count, shards: Vec::with_capacity(shard_count), cells: Vec::new(), keys: Vec::new() }
    }

    /// Adds a key, which is not less than those before.
    pub(super) fn push(&mut self, digest: KeyDigest) {
        let shard = shard_of(digest, self.shard_count);
        while self.shards.len() < shard {
            self.finish_shard();
        }
        self.keys.push(digest.low());
    }

    /// The filter, with all cells as they are stored. `hash` is told the cells of each shard.
    pub(super) fn finish(mut self, hash: impl Fn(&[u8]) -> u64) -> (Filter, Vec<u8>) {
        while self.shards.len() < self.shard_count {
            self.finish_shard();
        }
        let bytes: Vec<u8> = self.cells.iter().flat_map(|cell| cell.to_le_bytes()).collect();
        for shard in &mut self.shards {
            shard.hash = hash(bytes.get(shard.bytes()).expect("the cells of all shards"));
        }
        let cells = Cells::Wide(self.cells.into_boxed_slice());
        (Filter { shards: self.shards.into(), cells }, bytes)
    }

    fn finish_shard(&mut self) {
        // Filters are made of different numbers.
        self.keys.sort_unstable();
        self.keys.dedup();
        let mut shard = Shard {
            kind: ShardKind::Empty,
            cell_count: 0,
            first_cell: self.cells.len() as u64,
            seed: 0,
            segment_length: 0,
            segment_count_length: 0,
            hash: 0,
        };
        if !self.keys.is_empty() {
            shard.kind = ShardKind::Unsure;
            if let Ok(made) = BinaryFuse16::try_from_iterator(self.keys.iter().copied()) {
                let mut descriptor = [0; BinaryFuse16::DESCRIPTOR_LEN];
                made.dma_copy_descriptor_to(&mut descriptor);
                let mut fields = Reader::new(&descriptor);
                let read = (fields.u64(), fields.u32(), fields.u32(), fields.u32());
                if let (Ok(seed), Ok(segment_length), Ok(_), Ok(segment_count_length)) = read {
                    shard.kind = ShardKind::Fuse;
                    shard.cell_count = u32::try_from(made.fingerprints.len()).expect("few cells a shard");
                    (shard.seed, shard.segment_length) = (seed, segment_length);
                    shard.segment_count_length = segment_count_length;
                    self.cells.extend_from_slice(&made.fingerprints);
                }
            }
        }
        self.shards.push(shard);
        self.keys.clear();
    }
}

impl Filter {
    /// The shards, as they are stored.
    pub(super) fn shards(&self) -> &[Shard] {
        &self.shards
    }
}

/// Where about in their shards filters look for a key: those that look there in this order move through memory from front to
/// back. Nearly all filters are made with the first seed that is tried; for the others the order is as good as any.
pub(crate) fn order_of(digest: KeyDigest) -> u64 {
    mix(digest.low().wrapping_add(FIRST_SEED))
}

/// The first number of the generator that makes seeds.
const FIRST_SEED: u64 = 0x910a_2dec_8902_5cc1;

#[inline]
fn shard_of(digest: KeyDigest, shard_count: usize) -> usize {
    let shard = (u128::from(digest.high()) * shard_count as u128) >> 64;
    usize::try_from(shard).expect("below the number of shards")
}

/// The finalizer of MurmurHash3, 64 bits.
const fn mix(mut hash: u64) -> u64 {
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ hash >> 33
}

#[cfg(test)]
mod tests {
    use xxhash_rust::xxh3::xxh3_128_with_seed;

    use super::*;

    fn digests(count: u64, seed: u64) -> Vec<KeyDigest> {
        let digest = |number: u64| KeyDigest(xxh3_128_with_seed(&number.to_le_bytes(), seed).to_be_bytes());
        let mut digests: Vec<_> = (0..count).map(digest).collect();
        digests.sort_unstable();
        digests
    }

    fn filter(digests: &[KeyDigest], keys_max: u64) -> (Filter, Vec<u8>) {
        let mut builder = FilterBuilder::new(keys_max);
        digests.iter().for_each(|digest| builder.push(*digest));
        builder.finish(|_| 7)
    }

    #[test]
    fn no_key_of_a_generation_is_ever_called_new() {
        for count in [0, 1, 2, 3, 10, 100, 5_000, 300_000] {
            let own = digests(count, 1);
            let (made, bytes) = filter(&own, count * 2);
            let mut stored = Vec::new();
            made.shards().iter().for_each(|shard| shard.encode(&mut stored));
            let mut reader = Reader::new(&stored);
            let shards =
                made.shards().iter().map(|_| Shard::decode(&mut reader).unwrap()).collect::<Vec<_>>();
            assert_eq!(made.shards(), shards);
            let read = |width| Filter::from_bytes(shards.clone().into(), &bytes, width).unwrap();
            for filter in [&made, &made.narrowed(), &read(Width::Wide), &read(Width::Narrow)] {
                assert!(own.iter().all(|digest| filter.may_contain(*digest)), "{count} keys");
                let mut marks = vec![false; own.len()];
                filter.mark(&own, &mut marks);
                assert!(marks.iter().all(|mark| *mark), "{count} keys at once");
            }
        }
    }

    #[test]
    fn few_others_may_be_there_and_a_key_takes_little_memory() {
        let (wide, _) = filter(&digests(300_000, 1), 300_000);
        let others = digests(1_000_000, 2);
        let taken = |filter: &Filter| {
            let mut marks = vec![false; others.len()];
            filter.mark(&others, &mut marks);
            assert!(others.iter().zip(&marks).all(|(digest, mark)| filter.may_contain(*digest) == *mark));
            marks.iter().filter(|mark| **mark).count()
        };
        let (found, narrow) = (taken(&wide), taken(&wide.narrowed()));
        assert!(found < 100, "{found} of a million");
        assert!((3_000..5_000).contains(&narrow), "{narrow} of a million");
        let bytes = wide.cell_count() * 2 * 100 / 300_000;
        assert!(bytes <= 240, "{bytes} hundredths of a byte a key");
    }

    #[test]
    fn nearly_all_filters_are_made_with_the_first_seed() {
        let seeds = (0..20).map(|seed| filter(&digests(5_000, seed), 5_000).0.shards()[0].seed);
        assert!(seeds.filter(|seed| *seed == FIRST_SEED).count() >= 15);
    }

    #[test]
    fn keys_that_look_alike_do_no_harm() {
        let mut own = digests(1000, 1);
        for (number, digest) in own.iter_mut().enumerate().take(10) {
            digest.0[8..].copy_from_slice(&[5; 8]);
            digest.0[0] = u8::try_from(number).unwrap();
        }
        own.sort_unstable();
        let (made, _) = filter(&own, 1000);
        assert!(own.iter().all(|digest| made.may_contain(*digest)));
    }
}
