//! What makes two records with one idempotency key the same: a hash of 128 bits over routing key, value and headers.
//!
//! It is part of the written contract between clients: two XXH3 hashes of 64 bits, seeds 1 and 2, over each part
//! preceded by its length in eight bytes, little endian; an absent part has the length 2^64 - 1. Headers are name, then
//! value, in their order. Those that belong to a single try do not count: `traceparent`, `tracestate` and `baggage`.

use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

/// Headers of tracing: each try has its own.
const UNCOUNTED: [&str; 3] = ["traceparent", "tracestate", "baggage"];

/// The fingerprint of a record.
pub fn fingerprint<'a>(
    routing_key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: impl Iterator<Item = (&'a str, Option<&'a [u8]>)> + Clone,
) -> [u8; 16] {
    let mut short = Short { bytes: [0; SHORT_BYTES], length: 0 };
    let counted = || headers.clone().filter(|(name, _)| !UNCOUNTED.contains(name));
    let parts = || {
        let named = counted().flat_map(|(name, value)| [Some(name.as_bytes()), value]);
        [routing_key, value].into_iter().chain(named)
    };
    let both = if parts().all(|part| short.put(part)) {
        let bytes = short.bytes.get(..short.length).unwrap_or_default();
        [xxh3_64_with_seed(bytes, 1), xxh3_64_with_seed(bytes, 2)]
    } else {
        [1, 2].map(|seed| {
            let mut hasher = Xxh3::with_seed(seed);
            parts().for_each(|part| {
                hasher.update(&length_of(part).to_le_bytes());
                hasher.update(part.unwrap_or(&[]));
            });
            hasher.digest()
        })
    };
    let [low, high] = both.map(u128::from);
    (low | high << 64).to_le_bytes()
}

/// Records up to this are hashed in one piece: a hash that takes pieces costs more to begin than they do.
const SHORT_BYTES: usize = 1280;

/// What is hashed, in one piece.
struct Short {
    bytes: [u8; SHORT_BYTES],
    length: usize,
}

impl Short {
    /// Adds a part; says whether it fits.
    fn put(&mut self, part: Option<&[u8]>) -> bool {
        let content = part.unwrap_or(&[]);
        let end = self.length + 8 + content.len();
        let Some((length, place)) =
            self.bytes.get_mut(self.length..end).and_then(|place| place.split_first_chunk_mut())
        else {
            return false;
        };
        *length = length_of(part).to_le_bytes();
        place.copy_from_slice(content);
        self.length = end;
        true
    }
}

fn length_of(part: Option<&[u8]>) -> u64 {
    part.map_or(u64::MAX, |bytes| bytes.len() as u64)
}

/// What names a record's key to the broker, which does not look into the body: the fingerprint of a record that has nothing
/// but this key. Never zeros, which stand for a record without a key.
pub fn record_key(key: &[u8]) -> [u8; 16] {
    let hash = fingerprint(Some(key), None, [].into_iter());
    if hash == [0; 16] { [0xff; 16] } else { hash }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_and_the_whole_give_the_same_hash() {
        // The contract, word for word.
        let expected = |value: &[u8]| {
            let hash = |seed| {
                let mut hasher = Xxh3::with_seed(seed);
                for part in [&b"key"[..], value, b"name", b"content"] {
                    hasher.update(&(part.len() as u64).to_le_bytes());
                    hasher.update(part);
                }
                hasher.digest()
            };
            (u128::from(hash(1)) | u128::from(hash(2)) << 64).to_le_bytes()
        };
        for length in [0, 1, 100, 200, 240, 1000, SHORT_BYTES - 46, SHORT_BYTES - 45, SHORT_BYTES, 5000] {
            let value = vec![7; length];
            let headers = [("name", Some(&b"content"[..]))].into_iter();
            assert_eq!(fingerprint(Some(b"key"), Some(&value), headers), expected(&value), "{length}");
        }
    }

    #[test]
    fn every_part_and_its_place_counts() {
        let none = [].into_iter();
        let base = fingerprint(Some(b"k"), Some(b"v"), none.clone());
        assert_eq!(base, fingerprint(Some(b"k"), Some(b"v"), none.clone()));
        let others = [
            fingerprint(None, Some(b"v"), none.clone()),
            fingerprint(Some(b""), Some(b"v"), none.clone()),
            fingerprint(Some(b"kv"), Some(b""), none.clone()),
            fingerprint(Some(b"k"), None, none),
            fingerprint(Some(b"k"), Some(b"v"), [("a", None)].into_iter()),
            fingerprint(Some(b"k"), Some(b"v"), [("a", Some(&b""[..]))].into_iter()),
        ];
        let traced =
            fingerprint(Some(b"k"), Some(b"v"), [("traceparent", Some(&b"00-af31"[..]))].into_iter());
        assert_eq!(base, traced, "another try has another trace");
        for (index, other) in others.iter().enumerate() {
            assert_ne!(base, *other, "variant {index}");
            assert!(!others[..index].contains(other), "variant {index} equals an earlier one");
        }
    }
}
