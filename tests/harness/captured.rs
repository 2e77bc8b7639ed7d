//! What a process has printed so far, to be read while it runs.

use std::io::Read;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Bytes that arrive from a process, and whether more may come.
#[derive(Clone, Debug, Default)]
pub struct Captured {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    /// Where the next line begins.
    line_start: usize,
    closed: bool,
}

impl Captured {
    /// Reads until the end, on the calling thread.
    pub(crate) fn read_all(&self, mut from: impl Read) {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = from.read(&mut buffer).unwrap_or(0);
            let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.bytes.extend_from_slice(buffer.get(..read).unwrap_or_default());
            state.closed = read == 0;
            self.shared.changed.notify_all();
            if read == 0 {
                return;
            }
        }
    }

    /// The next line that was not returned yet, without its end; `None` if the output has ended.
    ///
    /// # Panics
    /// If neither comes within `limit`.
    pub fn next_line(&self, limit: Duration) -> Option<String> {
        let deadline = Instant::now() + limit;
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let rest = state.bytes.get(state.line_start..).unwrap_or_default();
            let end = rest.iter().position(|byte| *byte == b'\n');
            if let Some(line) = end.and_then(|end| rest.get(..end)) {
                let line = String::from_utf8_lossy(line).into_owned();
                state.line_start += end.map_or(0, |end| end + 1);
                return Some(line);
            }
            if state.closed {
                return None;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no line within {limit:?}; so far: {}", String::from_utf8_lossy(rest));
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Everything there is by now.
    pub fn bytes(&self) -> Vec<u8> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).bytes.clone()
    }

    /// Everything there is by now, as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }
}
