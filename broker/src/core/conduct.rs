//! What a peer may do that costs work and moves no record: open streams again and again, say what changes nothing.

use weir_protocol::ErrorCode;

use crate::core::bucket::Bucket;
use crate::core::session::Violation;

/// Streams a peer may open, one after the other, before its greeting was answered. One is needed.
const STREAMS_BEFORE_GREETING: u32 = 16;

/// What conduct is measured by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ConductLimits {
    /// Streams open at a time, which may also be opened all at once.
    pub streams_max: u32,
    /// Streams opened in a second.
    pub streams_per_second: u32,
    /// Frames in a second that change nothing.
    pub idle_frames_per_second: u32,
}

/// How one peer behaves.
#[derive(Clone, Debug)]
pub struct Conduct {
    limits: ConductLimits,
    strange_streams: u32,
    streams: Bucket,
    idle_frames: Bucket,
}

impl Conduct {
    /// A peer that has done nothing yet.
    pub fn new(limits: ConductLimits) -> Self {
        let (streams, frames) =
            (u64::from(limits.streams_per_second), u64::from(limits.idle_frames_per_second));
        Self {
            limits,
            strange_streams: 0,
            streams: Bucket::new(streams, streams + u64::from(limits.streams_max)),
            idle_frames: Bucket::new(frames, frames),
        }
    }

    /// It opened a stream.
    ///
    /// # Errors
    /// If it opens too many.
    pub fn stream_opened(&mut self, is_greeted: bool, now_us: u64) -> Result<(), Violation> {
        let within = if is_greeted {
            self.streams.take(1, now_us).is_ok()
        } else {
            self.strange_streams += 1;
            self.strange_streams <= STREAMS_BEFORE_GREETING
        };
        let detail = || {
            let most = self.limits.streams_per_second;
            format!(
                "streams are opened faster than {most} in a second, or again and again without a greeting"
            )
        };
        if within { Ok(()) } else { Err(Violation { code: ErrorCode::TooManyStreams, detail: detail() }) }
    }

    /// It sent frames that changed nothing.
    ///
    /// # Errors
    /// If it sends too many.
    pub fn idle_frames(&mut self, count: u32, now_us: u64) -> Result<(), Violation> {
        if self.idle_frames.take(u64::from(count), now_us).is_ok() {
            return Ok(());
        }
        let detail =
            format!("more than {} frames in a second change nothing", self.limits.idle_frames_per_second);
        Err(Violation { code: ErrorCode::Protocol, detail })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ConductLimits =
        ConductLimits { streams_max: 4, streams_per_second: 10, idle_frames_per_second: 100 };

    #[test]
    fn a_stranger_opens_few_streams_whatever_time_passes() {
        let mut conduct = Conduct::new(LIMITS);
        let opened = (0..100).take_while(|second| conduct.stream_opened(false, second * 1_000_000).is_ok());
        assert_eq!(opened.count(), 16);
        assert!(conduct.stream_opened(true, 0).is_ok(), "the greeting changes that");
    }

    #[test]
    fn streams_may_be_opened_all_at_once_but_not_for_long() {
        let mut conduct = Conduct::new(LIMITS);
        assert!((0..14).all(|_| conduct.stream_opened(true, 0).is_ok()));
        let violation = conduct.stream_opened(true, 0).unwrap_err();
        assert_eq!(violation.code, ErrorCode::TooManyStreams);
        assert!(
            (1..100).all(|tenth| conduct.stream_opened(true, tenth * 100_000).is_ok()),
            "within the rate"
        );
    }

    #[test]
    fn too_many_frames_that_change_nothing_are_a_violation() {
        let mut conduct = Conduct::new(LIMITS);
        assert!(conduct.idle_frames(100, 0).is_ok());
        assert!(conduct.idle_frames(1, 10_000).is_ok());
        assert_eq!(conduct.idle_frames(2, 10_000).unwrap_err().code, ErrorCode::Protocol);
    }
}
