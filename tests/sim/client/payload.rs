//! Values and the bytes they stand for.

use harness::Random;

/// The bytes of a value: nobody could have made them by chance.
pub(crate) fn payload(value: u64, bytes_max: u64) -> Vec<u8> {
    let mut random = Random::new(value);
    let length = random.between(8, bytes_max.max(9));
    let mut bytes = value.to_le_bytes().to_vec();
    while (bytes.len() as u64) < length {
        bytes.extend(random.next().to_le_bytes());
    }
    bytes
}

/// The value that bytes stand for, if somebody made them.
pub(crate) fn value_of(bytes: &[u8], bytes_max: u64) -> Option<u64> {
    let (first, _) = bytes.split_first_chunk::<8>()?;
    let value = u64::from_le_bytes(*first);
    (payload(value, bytes_max) == bytes).then_some(value)
}
