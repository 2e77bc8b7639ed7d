//! From a key to its partition: a written contract, so that every client in every language agrees.
//!
//! The hash is XXH3 (64 bits, seed 0) of the routing key. A topic's partitions divide the hash space
//! `0..2^64` into ranges; the partition of a key is the one whose range holds its hash. A topic made with `n`
//! partitions gives partition `i` the range from `ceil(i * 2^64 / n)` to `ceil((i + 1) * 2^64 / n)`, so that its
//! partition is `floor(hash * n / 2^64)`. Ranges, not remainders: a partition can be split in two without
//! moving any key of the others.

use xxhash_rust::xxh3::xxh3_64;

use crate::units::PartitionId;

/// Hash of a routing key.
pub fn routing_hash(key: &[u8]) -> u64 {
    xxh3_64(key)
}

/// The partition of `hash` in a topic that was made with `partitions` partitions and never split.
///
/// # Panics
/// If `partitions` is 0.
pub fn partition_of(hash: u64, partitions: u32) -> PartitionId {
    assert!(partitions > 0, "a topic has at least one partition");
    let product = u128::from(hash) * u128::from(partitions);
    PartitionId::new(u32::try_from(product >> 64).expect("the quotient is below the number of partitions"))
}

/// First hash of partition `index` in a topic that was made with `partitions` partitions.
///
/// # Panics
/// If `index` is not below `partitions`.
pub fn range_start(index: u32, partitions: u32) -> u64 {
    assert!(index < partitions, "the partition is one of the topic's");
    let start = (u128::from(index) << 64).div_ceil(u128::from(partitions));
    u64::try_from(start).expect("the start of a range is below 2^64")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_where_the_contract_says() {
        // Computed with another implementation of XXH3 (Python's xxhash) and whole-number arithmetic.
        let all_bytes: Vec<u8> = (0..=255).collect();
        let vectors: [(&[u8], u64, u32, u32); 12] = [
            (b"", 0x2d06_8005_38d3_94c2, 16, 2),
            (b"a", 0xe6c6_32b6_1e96_4e1f, 16, 14),
            (b"abc", 0x78af_5f94_892f_3950, 1, 0),
            (b"abc", 0x78af_5f94_892f_3950, 3, 1),
            (b"abc", 0x78af_5f94_892f_3950, 16, 7),
            (b"abc", 0x78af_5f94_892f_3950, 10_000, 4714),
            (b"user-42", 0x50fe_4b21_cf7b_09cd, 16, 5),
            (b"user-42", 0x50fe_4b21_cf7b_09cd, 1000, 316),
            ("Zürich".as_bytes(), 0x0ba4_4fcc_12cc_a74e, 64, 2),
            (&all_bytes, 0x9408_a443_3b95_2d71, 10_000, 5782),
            (&[b'x'; 1000], 0xc0a4_877b_962c_ba82, 7, 5),
            (&[0], 0xc44b_dff4_074e_ecdb, 5, 3),
        ];
        for (key, hash, partitions, partition) in vectors {
            assert_eq!(routing_hash(key), hash, "hash of {key:?}");
            assert_eq!(
                partition_of(hash, partitions).get(),
                partition,
                "partition of {key:?} of {partitions}"
            );
        }
        let starts = [(1, 3, 0x5555_5555_5555_5556), (1, 10_000, 0x0006_8db8_bac7_10cc)];
        for (index, partitions, start) in starts {
            assert_eq!(range_start(index, partitions), start);
        }
    }

    #[test]
    fn ranges_and_quotient_agree_at_every_boundary() {
        for partitions in [1, 2, 3, 7, 16, 1000, 9_999, 10_000] {
            assert_eq!(range_start(0, partitions), 0);
            for index in 1..partitions {
                let start = range_start(index, partitions);
                assert_eq!(partition_of(start, partitions).get(), index);
                assert_eq!(partition_of(start - 1, partitions).get(), index - 1);
            }
        }
    }
}
