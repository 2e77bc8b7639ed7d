//! What stands for a key, and for the record that was sent under it.

use std::fmt;

use siphasher::sip128::SipHasher24;
use weir_protocol::limits::IDEMPOTENCY_KEY_BYTES_MAX;
use weir_protocol::units::{PartitionKey, TopicId};

/// Makes digests of keys. A secret of each log, told to nobody: who does not know it cannot choose keys that collide.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct KeySeed([u8; 16]);

/// A key within its topic: 128 bits of a keyed hash. Evenly spread, so that it can be searched for by value.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct KeyDigest(pub [u8; 16]);

/// Keeps digests of records' keys apart from those of idempotency keys: both are made with the seed, these with its bits
/// changed.
const VERSION_MASK: u8 = 0x5a;

/// What makes two records with one key the same: a hash that the client has made of all that counts.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Fingerprint(pub [u8; 16]);

impl KeySeed {
    /// A seed of 16 random bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes, to be stored.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// The digest of an idempotency key that was sent to a topic with a routing key of this hash.
    ///
    /// # Panics
    /// If the key is longer than its limit, which decoding has excluded.
    pub fn digest(&self, topic: TopicId, routing_hash: u64, key: &[u8]) -> KeyDigest {
        assert!(key.len() <= IDEMPOTENCY_KEY_BYTES_MAX, "an idempotency key is within its limit");
        let mut input = [0u8; 16 + 8 + IDEMPOTENCY_KEY_BYTES_MAX];
        let (topic_part, rest) = input.split_at_mut(16);
        let (hash_part, key_part) = rest.split_at_mut(8);
        topic_part.copy_from_slice(&topic.to_bytes());
        hash_part.copy_from_slice(&routing_hash.to_le_bytes());
        let (used, unused) = key_part.split_at_mut(key.len());
        used.copy_from_slice(key);
        let length = 16 + 8 + IDEMPOTENCY_KEY_BYTES_MAX - unused.len();
        let (input, _) = input.split_at(length);
        KeyDigest(SipHasher24::new_with_key(&self.0).hash(input).as_bytes())
    }

    /// The digest of a record's own key in its partition, of which the client has told the hash.
    pub fn version(&self, partition: PartitionKey, record_key: [u8; 16]) -> KeyDigest {
        let mut input = [0u8; 16 + 4 + 16];
        let (topic_part, rest) = input.split_at_mut(16);
        let (partition_part, key_part) = rest.split_at_mut(4);
        topic_part.copy_from_slice(&partition.topic.to_bytes());
        partition_part.copy_from_slice(&partition.partition.get().to_le_bytes());
        key_part.copy_from_slice(&record_key);
        let secret = self.0.map(|byte| byte ^ VERSION_MASK);
        KeyDigest(SipHasher24::new_with_key(&secret).hash(&input).as_bytes())
    }
}

impl KeyDigest {
    /// The first half as a number, by which digests are in the same order as by their bytes.
    pub(crate) const fn high(self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// The second half as a number.
    pub(super) const fn low(self) -> u64 {
        let [.., a, b, c, d, e, f, g, h] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

impl fmt::Debug for KeySeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeySeed(secret)")
    }
}

impl fmt::Display for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyDigest({self})")
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

#[cfg(test)]
mod tests {
    use weir_protocol::units::PartitionId;

    use super::*;

    #[test]
    fn a_digest_is_the_keyed_hash_of_topic_routing_hash_and_key() {
        // Computed with another implementation of SipHash, in Python, that gives the vectors of the reference.
        let seed = KeySeed::from_bytes(std::array::from_fn(|index| u8::try_from(index).unwrap()));
        let topic = TopicId::from_bytes([7; 16]);
        let digests = [(0, &b"k"[..]), (1, b"k"), (0, b"kk"), (0, &[0; 64])];
        let digests = digests.map(|(hash, key)| seed.digest(topic, hash, key).to_string());
        assert_eq!(digests, VECTORS);
    }

    const VECTORS: [&str; 4] = [
        "bdc967f82bf098224c9e7b92e7e77ec7",
        "c7ab08d1d1dd72aec637366af3c8ca06",
        "be5527756ad6edb941696d8e126ae3f0",
        "420a1ffa4e87d8ab28528e2a3b0485c0",
    ];

    #[test]
    fn everything_counts_in_a_digest() {
        let seed = KeySeed::from_bytes([1; 16]);
        let topic = TopicId::from_bytes([2; 16]);
        let digest = seed.digest(topic, 3, b"key");
        assert_eq!(digest, seed.digest(topic, 3, b"key"));
        assert_ne!(digest, KeySeed::from_bytes([9; 16]).digest(topic, 3, b"key"));
        assert_ne!(digest, seed.digest(TopicId::from_bytes([9; 16]), 3, b"key"));
        assert_ne!(digest, seed.digest(topic, 9, b"key"));
        assert_ne!(digest, seed.digest(topic, 3, b"kez"));
        assert_ne!(seed.digest(topic, 3, b"a"), seed.digest(topic, 3, b"a\0"));
    }

    #[test]
    fn a_key_of_a_record_is_no_idempotency_key_and_belongs_to_its_partition() {
        let seed = KeySeed::from_bytes([1; 16]);
        let at = |topic, partition| PartitionKey {
            topic: TopicId::from_bytes([topic; 16]),
            partition: PartitionId::new(partition),
        };
        let digest = seed.version(at(2, 3), [4; 16]);
        assert_eq!(digest, seed.version(at(2, 3), [4; 16]));
        assert_ne!(digest, seed.version(at(9, 3), [4; 16]));
        assert_ne!(digest, seed.version(at(2, 9), [4; 16]));
        assert_ne!(digest, seed.version(at(2, 3), [9; 16]));
        // An idempotency key that somebody has made of the same bytes.
        let hash = u64::from_le_bytes([3, 0, 0, 0, 4, 4, 4, 4]);
        assert_ne!(digest, seed.digest(TopicId::from_bytes([2; 16]), hash, &[4; 12]));
    }

    #[test]
    fn the_seed_is_not_printed() {
        assert_eq!(format!("{:?}", KeySeed::from_bytes([0xaa; 16])), "KeySeed(secret)");
    }
}
