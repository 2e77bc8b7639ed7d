//! Memory to read into, used again: fresh memory costs more than reading into it.
//!
//! Invariant: what lies idle is never more than was allowed, and a buffer that is given out wastes at most a quarter.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Sizes are multiples of this, so that buffers fit more than one length.
const STEP_BYTES: usize = 16 << 10;

/// Buffers that are not in use.
#[derive(Debug)]
pub(super) struct Buffers {
    idle: Mutex<Idle>,
    idle_bytes_max: usize,
}

#[derive(Debug, Default)]
struct Idle {
    /// The one that was used last stands last.
    buffers: VecDeque<Vec<u8>>,
    bytes: usize,
}

/// Memory to read into. Goes back when dropped.
#[derive(Debug)]
pub(super) struct Buffer {
    memory: Vec<u8>,
    length: usize,
    buffers: Arc<Buffers>,
}

impl Buffers {
    /// None yet; so many bytes may lie idle.
    pub(super) fn new(idle_bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { idle: Mutex::default(), idle_bytes_max })
    }

    /// Memory of this length, with any content.
    pub(super) fn take(self: &Arc<Self>, length: usize) -> Buffer {
        let fits = |memory: &Vec<u8>| (length..=length + length / 3).contains(&memory.len());
        let mut idle = self.lock();
        let found = idle.buffers.iter().rposition(fits).and_then(|at| idle.buffers.remove(at));
        idle.bytes -= found.as_ref().map_or(0, Vec::len);
        drop(idle);
        let memory = found.unwrap_or_else(|| vec![0; rounded(length)]);
        Buffer { memory, length, buffers: Arc::clone(self) }
    }

    fn give_back(&self, memory: Vec<u8>) {
        if memory.len() > self.idle_bytes_max {
            return;
        }
        let mut idle = self.lock();
        idle.bytes += memory.len();
        idle.buffers.push_back(memory);
        // Sizes that nobody asks for any more go first.
        while idle.bytes > self.idle_bytes_max
            && let Some(oldest) = idle.buffers.pop_front()
        {
            idle.bytes -= oldest.len();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        // What is idle may be anything.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The size of a fresh buffer for so many bytes.
fn rounded(length: usize) -> usize {
    let rounded = length.next_multiple_of(STEP_BYTES);
    if rounded <= length + length / 3 { rounded } else { length }
}

impl Buffer {
    /// The memory.
    pub(super) fn as_mut(&mut self) -> &mut [u8] {
        self.memory.get_mut(..self.length).expect("the memory is at least that long")
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.memory.get(..self.length).expect("the memory is at least that long")
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.buffers.give_back(std::mem::take(&mut self.memory));
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_buffer_is_used_again_for_what_nearly_fills_it() {
        let buffers = Buffers::new(1 << 20);
        let mut first = buffers.take(100_000);
        first.as_mut().fill(7);
        drop(first);
        assert_eq!(buffers.take(90_000).as_ref(), [7; 90_000]);
        assert_eq!(buffers.take(1000).memory.len(), 1000, "little is not read into much");
        drop(buffers.take(2 << 20));
        assert_eq!(
            buffers.lock().bytes,
            rounded(100_000) + 1000,
            "what is longer than all that may lie idle is not kept"
        );
    }

    proptest! {
        #[test]
        fn no_more_lies_idle_than_allowed_and_little_is_wasted_model(
            steps in vec((any::<bool>(), 0usize..300_000), 0..200), most in 0usize..1_000_000,
        ) {
            let buffers = Buffers::new(most);
            let mut held = Vec::new();
            for (takes, length) in steps {
                if takes {
                    let buffer = buffers.take(length);
                    prop_assert_eq!(buffer.as_ref().len(), length);
                    prop_assert!(buffer.memory.len() <= length + length / 3);
                    held.push(buffer);
                } else if !held.is_empty() {
                    held.swap_remove(length % held.len());
                }
                let idle = buffers.lock();
                prop_assert_eq!(idle.bytes, idle.buffers.iter().map(Vec::len).sum::<usize>());
                prop_assert!(idle.bytes <= most);
            }
        }
    }
}
