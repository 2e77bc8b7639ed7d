//! What one peer can make a node keep.

use super::*;
use crate::core::requests::REQUESTS_WAITING_MAX;

/// The codes of the requests that failed.
fn failures(script: &mut Script) -> Vec<ErrorCode> {
    let failed = script.sent.extract_if(.., |(_, frame)| frame.kind == FrameKind::Failure);
    failed.map(|(_, frame)| Failure::from_frame(&frame).unwrap().code).collect()
}

#[test]
fn requests_that_wait_for_the_disk_are_bounded_and_their_places_come_back() {
    let mut script = Script::new(0);
    script.publish(0, 0, b"x");
    script.publish(0, 1, b"x");
    script.sync();
    for request in 0..u32::try_from(REQUESTS_WAITING_MAX).unwrap() {
        script.trim(request, TrimBefore::Offset(Offset::new(1)), false);
    }
    assert_eq!(failures(&mut script), []);
    script.trim(7, TrimBefore::Offset(Offset::new(1)), false);
    let refused: Failure = script.take(CONTROL, FrameKind::Failure);
    assert_eq!((refused.code, refused.retry_after_ms), (ErrorCode::Throttled, 100));
    script.sync();
    script.trim(8, TrimBefore::Offset(Offset::new(2)), false);
    assert_eq!(failures(&mut script), []);
}

#[test]
fn the_bytes_of_a_batch_whose_answer_waits_stay_held() {
    let mut script = Script::new(0);
    script.publish(0, 0, b"first");
    let held = script.node.figures().held_bytes;
    script.publish(0, 5, b"a gap");
    script.publish(0, 0, b"first");
    assert!(script.node.figures().held_bytes > 2 * held, "neither answer has gone");
    script.sync();
    assert_eq!(script.node.figures().held_bytes, 0);
    script.publish(0, 5, b"a gap");
    assert_eq!(script.node.figures().held_bytes, 0, "this one is answered at once");
}

#[test]
fn reads_that_nobody_waits_for_any_more_count_until_they_end() {
    let mut script = Script::new(1 << 20);
    script.publish(0, 0, b"x");
    script.sync();
    script.flush(0, 1, 0);
    for generation in 0..10 {
        script.subscribe(0, generation, StartAt::Time(Timestamp::from_micros(0)));
    }
    assert_eq!(script.actions.cold_reads.len(), 10, "as many as a lane may read partitions");
    script.subscribe(0, 10, StartAt::Earliest);
    let ended: PartitionEnded = script.take(SUBSCRIBE, FrameKind::PartitionEnded);
    assert_eq!((ended.generation, ended.code), (10, ErrorCode::Throttled));
    let read = script.actions.cold_reads.remove(0);
    script.event(Event::ColdAnswer(ColdAnswer { read, result: ColdResult::Offset(None) }));
    script.subscribe(0, 11, StartAt::Earliest);
    let started: PartitionStarted = script.take(SUBSCRIBE, FrameKind::PartitionStarted);
    assert_eq!(started.generation, 11);
}
