//! Buffers that are used again: fresh memory costs a page fault for every 4 KiB.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use bytes::{Bytes, BytesMut};

/// How many of the oldest buffers are looked at for one that nobody uses any more.
const LOOK_AT: usize = 8;

/// Buffers that may still be in use elsewhere. They are given out again once nobody else holds them.
#[derive(Debug)]
pub(crate) struct BufferPool {
    bytes_max: usize,
    retired: Mutex<Retired>,
}

#[derive(Debug, Default)]
struct Retired {
    buffers: VecDeque<Bytes>,
    bytes: usize,
}

impl BufferPool {
    /// A pool that keeps at most so many bytes.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, retired: Mutex::default() }
    }

    /// Takes a buffer that its owner is done with. Slices of it may still be held by others.
    pub(crate) fn retire(&self, buffer: Bytes) {
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        if retired.bytes + buffer.len() <= self.bytes_max {
            retired.bytes += buffer.len();
            retired.buffers.push_back(buffer);
        }
    }

    /// A buffer with nothing in it and room for at least `capacity` bytes.
    pub(crate) fn take(&self, capacity: usize) -> BytesMut {
        self.reuse(capacity).unwrap_or_else(|| BytesMut::with_capacity(capacity))
    }

    fn reuse(&self, capacity: usize) -> Option<BytesMut> {
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..LOOK_AT.min(retired.buffers.len()) {
            let buffer = retired.buffers.pop_front()?;
            if !buffer.is_unique() {
                retired.buffers.push_back(buffer);
                continue;
            }
            retired.bytes -= buffer.len();
            if let Ok(mut buffer) = buffer.try_into_mut() {
                buffer.clear();
                if buffer.capacity() >= capacity {
                    return Some(buffer);
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(byte: u8, length: usize) -> Bytes {
        let mut buffer = BytesMut::with_capacity(length);
        buffer.resize(length, byte);
        buffer.freeze()
    }

    #[test]
    fn a_buffer_comes_back_only_when_nobody_holds_it() {
        let pool = BufferPool::new(1 << 20);
        let buffer = filled(7, 1000);
        let at = buffer.as_ptr();
        let slice = buffer.slice(10..20);
        pool.retire(buffer);
        let other = pool.take(1000);
        assert_ne!(other.as_ptr(), at);
        assert_eq!(&slice[..], [7; 10]);
        drop(slice);
        let same = pool.take(1000);
        assert_eq!((same.as_ptr(), same.len()), (at, 0));
    }

    #[test]
    fn it_keeps_no_more_than_its_bound() {
        let pool = BufferPool::new(1500);
        pool.retire(filled(1, 1000));
        pool.retire(filled(2, 1000));
        assert_eq!(pool.retired.lock().unwrap().buffers.len(), 1);
    }
}
