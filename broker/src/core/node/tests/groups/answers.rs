//! What members say is answered also where nobody has memory for more.

use weir_protocol::message::{AfterFailure, FailRecords, FailedRecord, RecordsFailed, Verdict};

use super::*;
use crate::core::answers::REQUEST_BYTES;
use crate::plan::ANSWERS_KEPT_BYTES;

const CONNECTION: ConnectionId = ConnectionId(1);

impl Script {
    /// So many records fail, from the first on; the statement is heard, and the peer takes the answer.
    fn fail_first(&mut self, lease: LeaseEpoch, count: usize) -> RecordsFailed {
        assert!(self.node.answers().promise(CONNECTION, REQUEST_BYTES), "it is heard");
        let record = |offset| FailedRecord {
            offset: Offset::new(offset),
            attempt: 1,
            verdict: Verdict::Retry,
            reason: String::new(),
        };
        let records = (0..).take(count).map(record).collect();
        let fail = FailRecords { number: 1, partition: PartitionId::ZERO, lease, records };
        self.event(Event::Member(lane(MEMBER), FromMember::Fail(fail)));
        self.sync();
        let failed = self.take(MEMBER, FrameKind::RecordsFailed);
        let answers = self.node.answers();
        answers.left(CONNECTION, answers.held(CONNECTION));
        failed
    }
}

#[test]
fn failures_are_answered_with_every_pool_full_and_what_has_no_memory_changes_nothing() {
    let mut script = Script::with_group_of(LIMITS, 300);
    let lease = script.member();
    script.node.answers().open(CONNECTION);
    let ledger = script.node.ledger().clone();
    let full = ledger.reserve(Pool::Control, ledger.room(Pool::Control)).unwrap();
    let outcomes = |failed: RecordsFailed| (failed.refused, failed.outcomes.len());

    let most = FailRecords::RECORDS_AT_ONCE;
    assert!((RecordsFailed::frame_bytes(most) as u64) < ANSWERS_KEPT_BYTES);
    let failed = script.fail_first(lease, most);
    assert!(matches!(failed.outcomes[0].next, AfterFailure::Again { attempt: 2, .. }), "{failed:?}");
    assert_eq!(outcomes(failed), (None, most));

    let before = script.journaled.len();
    assert_eq!(outcomes(script.fail_first(lease, 300)), (Some(ErrorCode::Throttled), 0));
    assert_eq!(script.journaled.len(), before);
    drop(full);
    assert_eq!(outcomes(script.fail_first(lease, 300)), (None, 300));
    assert_eq!((script.node.answers().held(CONNECTION), ledger.taken(Pool::Control)), (0, 0));
}
