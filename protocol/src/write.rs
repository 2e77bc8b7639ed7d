//! Writers for the encodings that `read` reads.

use bytes::BufMut;

/// Appends values in the wire's encodings; little endian throughout.
pub trait Write: BufMut {
    /// Text, preceded by its length in two bytes.
    ///
    /// # Panics
    /// If the text is longer than 65,535 bytes: callers check their limits first.
    fn put_text(&mut self, text: &str) {
        let len = u16::try_from(text.len()).expect("text limits fit two bytes");
        self.put_u16_le(len);
        self.put_slice(text.as_bytes());
    }

    /// A count of items, in four bytes.
    ///
    /// # Panics
    /// If it does not fit 32 bits: all limits do.
    fn put_count(&mut self, count: usize) {
        self.put_u32_le(u32::try_from(count).expect("counts are limited to 32 bits"));
    }

    /// An unsigned number in 1 to 10 bytes of 7 bits.
    fn put_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.put_u8(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.put_u8(value.to_le_bytes()[0]);
    }

    /// A signed number in zigzag form.
    fn put_zigzag(&mut self, value: i64) {
        self.put_varint(zigzag(value));
    }
}

impl<B: BufMut + ?Sized> Write for B {}

/// Maps small absolute values to small unsigned ones.
pub const fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63).cast_unsigned()
}

/// How many bytes [`Write::put_varint`] takes for `value`.
pub const fn varint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// How many bytes [`Write::put_zigzag`] takes for `value`.
pub const fn zigzag_len(value: i64) -> usize {
    varint_len(zigzag(value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::Problem;
    use crate::read::Reader;

    fn written(value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_varint(value);
        out
    }

    #[test]
    fn varints_stand_as_the_contract_says() {
        let vectors: [(u64, &[u8]); 7] = [
            (0, &[0]),
            (1, &[1]),
            (127, &[0x7f]),
            (128, &[0x80, 0x01]),
            (300, &[0xac, 0x02]),
            (1 << 63, &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01]),
            (u64::MAX, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
        ];
        for (value, bytes) in vectors {
            assert_eq!(written(value), bytes, "{value}");
            assert_eq!(Reader::new(bytes).varint(), Ok(value));
        }
        let signed = [(0, 0), (-1, 1), (1, 2), (-2, 3), (i64::MAX, u64::MAX - 1), (i64::MIN, u64::MAX)];
        for (value, folded) in signed {
            assert_eq!(zigzag(value), folded);
        }
    }

    #[test]
    fn varints_beyond_64_bits_are_refused() {
        for last in [0x02, 0x7f, 0x80, 0x81] {
            let mut bytes = vec![0xff; 9];
            bytes.extend([last, 0]);
            let error = Reader::new(&bytes).varint().unwrap_err();
            assert!(matches!(error.problem, Problem::Invalid { what: "varint", .. }), "{last:#x}: {error}");
            assert_eq!(error.position, 0);
        }
    }

    proptest! {
        #[test]
        fn varints_round_trip_in_the_length_foretold(value in any::<u64>(), shift in 0u32..64) {
            let (value, signed) = (value >> shift, (value >> shift).cast_signed());
            let bytes = written(value);
            prop_assert_eq!(bytes.len(), varint_len(value));
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.varint(), Ok(value));
            prop_assert_eq!(reader.remaining(), 0);
            for cut in 0..bytes.len() {
                let problem = Problem::Truncated { needed: 1, available: 0 };
                prop_assert_eq!(Reader::new(&bytes[..cut]).varint().map_err(|e| e.problem), Err(problem));
            }
            let mut bytes = Vec::new();
            bytes.put_zigzag(signed);
            prop_assert_eq!(bytes.len(), zigzag_len(signed));
            prop_assert_eq!(Reader::new(&bytes).zigzag(), Ok(signed));
        }

        #[test]
        fn text_is_taken_up_to_its_limit(text in "\\PC{0,20}", max in 0usize..40) {
            let mut bytes = Vec::new();
            bytes.put_text(&text);
            let read = Reader::new(&bytes).text("name", max);
            if text.len() <= max {
                prop_assert_eq!(read.as_deref(), Ok(text.as_str()));
            } else {
                let problem = Problem::TooLarge { what: "name", value: text.len() as u64, max: max as u64 };
                prop_assert_eq!(read.map_err(|e| (e.position, e.problem)), Err((0, problem)));
            }
        }
    }
}
