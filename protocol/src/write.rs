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
