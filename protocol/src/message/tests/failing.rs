//! Messages about records that fail.

use super::*;
use crate::Redelivery;
use crate::limits::REASON_BYTES_MAX;

fn redelivery() -> impl Strategy<Value = Redelivery> {
    (any::<[u32; 3]>(), option::of(text(128))).prop_map(|([min, max, attempts_max], name)| Redelivery {
        backoff_min_ms: min,
        backoff_max_ms: max,
        attempts_max,
        dead_letter: name.filter(|name| !name.is_empty()),
    })
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        Just(Verdict::Retry),
        any::<u32>().prop_map(Verdict::RetryAfter),
        Just(Verdict::Reject),
        Just(Verdict::Return),
    ]
}

fn failed() -> impl Strategy<Value = FailedRecord> {
    (offset(), any::<u32>(), verdict(), text(REASON_BYTES_MAX))
        .prop_map(|(offset, attempt, verdict, reason)| FailedRecord { offset, attempt, verdict, reason })
}

fn outcome() -> impl Strategy<Value = FailureOutcome> {
    let again = (any::<[u32; 2]>(), option::of(code()))
        .prop_map(|([attempt, wait_ms], refused)| AfterFailure::Again { attempt, wait_ms, refused });
    let next = prop_oneof![again, Just(AfterFailure::DeadLetter), Just(AfterFailure::Over)];
    (offset(), next).prop_map(|(offset, next)| FailureOutcome { offset, next })
}

fn failing_partition() -> impl Strategy<Value = FailingPartition> {
    (partition(), offset(), any::<[u32; 5]>(), option::of(code())).prop_map(
        |(partition, first, [records, failed, returned, wait_ms, letters], letters_refused)| {
            FailingPartition {
                partition,
                records,
                first,
                failed,
                returned,
                wait_ms,
                letters,
                letters_refused,
            }
        },
    )
}

proptest! {
    #[test]
    fn messages_about_failures_round_trip(
        number in any::<u64>(), partition in partition(), lease in any::<u64>().prop_map(LeaseEpoch::new),
        records in vec(failed(), 0..5), refused in option::of(code()), outcomes in vec(outcome(), 0..5),
        failing in vec((offset(), any::<[u32; 2]>()), 0..5),
    ) {
        round_trip(&FailRecords { number, partition, lease, records });
        round_trip(&RecordsFailed { number, partition, refused, outcomes });
        let failing = failing.into_iter();
        let failing = failing.map(|(offset, [attempt, wait_ms])| FailingRecord { offset, attempt, wait_ms });
        round_trip(&PartitionFailures { partition, lease, records: failing.collect() });
    }

    #[test]
    fn requests_about_redelivery_round_trip(
        request in any::<u32>(), (topic, group) in (text(128), text(128)), first_partition in partition(),
        redelivery in redelivery(), more in any::<bool>(), partitions in vec(failing_partition(), 0..5),
    ) {
        let (topic_name, group_name) = (topic.clone(), group.clone());
        let set = redelivery.clone();
        round_trip(&SetRedelivery { request, topic: topic_name, group: group_name, redelivery: set });
        round_trip(&DescribeFailures { request, topic, group, first_partition });
        round_trip(&GroupFailures { request, redelivery, more, partitions });
    }
}

#[test]
fn a_verdict_or_outcome_that_nobody_knows_is_refused_at_its_byte() {
    let (partition, lease) = (PartitionId::ZERO, LeaseEpoch::ZERO);
    let record =
        FailedRecord { offset: Offset::ZERO, attempt: 1, verdict: Verdict::Retry, reason: String::new() };
    let fail = FailRecords { number: 0, partition, lease, records: vec![record] };
    assert_eq!(refusal(&fail, |body| body[36] = 4), (36, Problem::Invalid { what: "verdict", value: 4 }));
    assert_eq!(
        refusal(&fail, |body| body[37] = 1),
        (36, Problem::Invalid { what: "verdict", value: 0 }),
        "a time where none belongs"
    );
    let outcome = FailureOutcome { offset: Offset::ZERO, next: AfterFailure::DeadLetter };
    let failed = RecordsFailed { number: 0, partition, refused: None, outcomes: vec![outcome] };
    assert_eq!(refusal(&failed, |body| body[26] = 3), (26, Problem::Invalid { what: "outcome", value: 3 }));
}
