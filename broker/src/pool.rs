//! Recycled buffers for received batches.
//!
//! A batch lives until it is flushed, then its memory is wanted again at once for the next. Giving it back to the
//! allocator would cost the page faults of fresh memory, which are as dear as the whole transport; so buffers
//! return here when the last slice of them is dropped, on whatever thread that happens.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Smallest buffer that is recycled; the allocator is good at smaller ones.
const POOLED_BYTES_MIN: usize = 16 << 10;

/// Sizes in each doubling: a buffer wastes at most a quarter.
const STEPS: usize = 4;

/// Doublings from the smallest to the largest size: 16 KiB to 32 MiB.
const DOUBLINGS: usize = 11;

/// Buffers by size, ready to be used again.
#[derive(Clone, Debug)]
pub struct BufferPool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    idle: Mutex<Idle>,
    idle_bytes_max: usize,
}

#[derive(Debug)]
struct Idle {
    classes: [Vec<Vec<u8>>; STEPS * DOUBLINGS],
    bytes: usize,
}

impl BufferPool {
    /// A pool that keeps at most `idle_bytes_max` bytes of unused buffers.
    pub fn new(idle_bytes_max: usize) -> Self {
        let classes = std::array::from_fn(|_| Vec::new());
        Self(Arc::new(Shared { idle: Mutex::new(Idle { classes, bytes: 0 }), idle_bytes_max }))
    }

    /// A buffer that will hold exactly `length` bytes. Its present content is meaningless.
    pub fn take(&self, length: usize) -> Buffer {
        let Some((class, capacity)) = class_of(length) else {
            return Buffer { bytes: vec![0; length], length, pool: None };
        };
        let mut idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let recycled = idle.classes.get_mut(class).and_then(Vec::pop);
        if recycled.is_some() {
            idle.bytes -= capacity;
        }
        drop(idle);
        let bytes = recycled.unwrap_or_else(|| vec![0; capacity]);
        Buffer { bytes, length, pool: Some(self.clone()) }
    }

    fn give_back(&self, bytes: Vec<u8>) {
        let Some((class, capacity)) = class_of(bytes.len()) else { return };
        let mut idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.bytes + capacity <= self.0.idle_bytes_max
            && let Some(buffers) = idle.classes.get_mut(class)
        {
            buffers.push(bytes);
            idle.bytes += capacity;
        }
    }
}

/// Bytes that a buffer for `length` bytes really takes.
pub fn capacity_of(length: usize) -> usize {
    class_of(length).map_or(length, |(_, capacity)| capacity)
}

/// The size class that holds `length` bytes, and its size; `None` for lengths that are not pooled.
fn class_of(length: usize) -> Option<(usize, usize)> {
    if length < POOLED_BYTES_MIN {
        return None;
    }
    for doubling in 0..DOUBLINGS {
        let base = POOLED_BYTES_MIN << doubling;
        for step in 0..STEPS {
            let capacity = base + base / STEPS * step;
            if length <= capacity {
                return Some((doubling * STEPS + step, capacity));
            }
        }
    }
    None
}

/// A buffer of known length, filled from the front.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    length: usize,
    pool: Option<BufferPool>,
}

impl Buffer {
    /// Its bytes.
    ///
    /// # Panics
    /// Never: a buffer holds its length.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..self.length).expect("a buffer holds its length")
    }

    /// Its bytes as slices that can be shared; the buffer returns to its pool when the last one is dropped.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.length).expect("a buffer holds its length")
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.give_back(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_returns_when_its_last_slice_is_dropped() {
        let pool = BufferPool::new(1 << 20);
        let mut buffer = pool.take(20_000);
        buffer.as_mut_slice().fill(7);
        let address = buffer.as_ref().as_ptr();
        let bytes = buffer.freeze();
        let slice = bytes.slice(10_000..);
        drop(bytes);
        assert_ne!(pool.take(20_000).as_ref().as_ptr(), address, "still in use");
        drop(slice);
        let again: Vec<_> = (0..2).map(|_| pool.take(17_000)).collect();
        assert!(again.iter().any(|buffer| buffer.as_ref().as_ptr() == address), "the buffer came back");
    }

    #[test]
    fn every_length_fits_its_class_with_little_waste() {
        for length in (POOLED_BYTES_MIN..4 << 20).step_by(4093) {
            let (_, capacity) = class_of(length).expect("within the pooled sizes");
            assert!(capacity >= length);
            assert!(capacity <= length + length / 4 + 4096, "{length} wastes too much in {capacity}");
        }
        assert_eq!(class_of(POOLED_BYTES_MIN - 1), None);
    }

    #[test]
    fn idle_memory_is_bounded() {
        let pool = BufferPool::new(64 << 10);
        drop((0..100).map(|_| pool.take(16 << 10)).collect::<Vec<_>>());
        assert_eq!(pool.0.idle.lock().unwrap().bytes, 64 << 10);
    }
}
