//! Values of histories, and the bytes they stand for.

use crate::Random;

/// The length of a value's bytes, and where the bytes behind the first eight come from.
fn shape(value: u64, bytes_max: u64) -> (usize, Random) {
    let mut random = Random::new(value);
    let least = random.between(8, if bytes_max > 9 { bytes_max } else { 9 });
    (usize::try_from(least.next_multiple_of(8)).unwrap_or(0), random)
}

/// The bytes of a value, at most about so many: nobody could have made them by chance.
pub fn payload(value: u64, bytes_max: u64) -> Vec<u8> {
    let (length, mut random) = shape(value, bytes_max);
    let mut bytes = Vec::with_capacity(length);
    bytes.extend(value.to_le_bytes());
    while bytes.len() < length {
        bytes.extend(random.next().to_le_bytes());
    }
    bytes
}

/// The value that bytes stand for, if somebody made them.
pub fn value_of(bytes: &[u8], bytes_max: u64) -> Option<u64> {
    let (words, rest) = bytes.as_chunks::<8>();
    let (first, words) = words.split_first()?;
    let value = u64::from_le_bytes(*first);
    let (length, mut random) = shape(value, bytes_max);
    let is_whole = bytes.len() == length && rest.is_empty();
    (is_whole && words.iter().all(|word| u64::from_le_bytes(*word) == random.next())).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_stand_for_a_value_only_as_they_were_made() {
        for value in [0, 1, 5 << 32, u64::MAX] {
            let bytes = payload(value, 600);
            assert_eq!(value_of(&bytes, 600), Some(value));
            let mut other = bytes.clone();
            *other.last_mut().unwrap() ^= 1;
            assert_eq!(value_of(&other, 600), None, "one bit differs");
            assert_eq!(value_of(&bytes[..bytes.len() - 1], 600), None, "the last byte is gone");
        }
    }
}
