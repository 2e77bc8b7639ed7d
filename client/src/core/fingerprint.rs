//! What makes two records with one idempotency key the same: a hash of 128 bits over routing key, value and headers.
//!
//! It is part of the written contract between clients: two XXH3 hashes of 64 bits, seeds 1 and 2, over each part
//! preceded by its length in eight bytes, little endian; an absent part has the length 2^64 - 1. Headers are name, then
//! value, in their order. Those that belong to a single try do not count: `traceparent`, `tracestate` and `baggage`.

use xxhash_rust::xxh3::Xxh3;

/// Headers of tracing: each try has its own.
const UNCOUNTED: [&str; 3] = ["traceparent", "tracestate", "baggage"];

/// The fingerprint of a record.
pub fn fingerprint<'a>(
    routing_key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: impl Iterator<Item = (&'a str, Option<&'a [u8]>)> + Clone,
) -> [u8; 16] {
    let hash = |seed| {
        let mut hasher = Xxh3::with_seed(seed);
        part(&mut hasher, routing_key);
        part(&mut hasher, value);
        for (name, value) in headers.clone().filter(|(name, _)| !UNCOUNTED.contains(name)) {
            part(&mut hasher, Some(name.as_bytes()));
            part(&mut hasher, value);
        }
        hasher.digest()
    };
    let both = u128::from(hash(1)) | u128::from(hash(2)) << 64;
    both.to_le_bytes()
}

fn part(hasher: &mut Xxh3, bytes: Option<&[u8]>) {
    let length = bytes.map_or(u64::MAX, |bytes| bytes.len() as u64);
    hasher.update(&length.to_le_bytes());
    hasher.update(bytes.unwrap_or(&[]));
}

#[cfg(test)]
mod tests {
    use super::*;

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
