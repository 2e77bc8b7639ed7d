//! Values and the bytes they stand for.

use harness::Random;

/// The length of a value's bytes, and where the bytes behind the first eight come from.
fn shape(value: u64, bytes_max: u64) -> (usize, Random) {
    let mut random = Random::new(value);
    let least = random.between(8, if bytes_max > 9 { bytes_max } else { 9 });
    (usize::try_from(least.next_multiple_of(8)).unwrap_or(0), random)
}

/// The bytes of a value: nobody could have made them by chance.
pub(crate) fn payload(value: u64, bytes_max: u64) -> Vec<u8> {
    let (length, mut random) = shape(value, bytes_max);
    let mut bytes = Vec::with_capacity(length);
    bytes.extend(value.to_le_bytes());
    while bytes.len() < length {
        bytes.extend(random.next().to_le_bytes());
    }
    bytes
}

/// The value that bytes stand for, if somebody made them.
pub(crate) fn value_of(bytes: &[u8], bytes_max: u64) -> Option<u64> {
    let (words, rest) = bytes.as_chunks::<8>();
    let (first, words) = words.split_first()?;
    let value = u64::from_le_bytes(*first);
    let (length, mut random) = shape(value, bytes_max);
    let is_whole = bytes.len() == length && rest.is_empty();
    (is_whole && words.iter().all(|word| u64::from_le_bytes(*word) == random.next())).then_some(value)
}
