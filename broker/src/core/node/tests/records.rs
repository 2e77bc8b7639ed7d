//! Records of a lane: a batch goes while one is left, from memory and from segments, and a lane without says so.

use proptest::prelude::*;
use weir_protocol::message::WaitsFor;

use super::*;

/// Batches of so many records each, on one partition, and what is in segments of them: all below an index.
fn script(counts: &[u32], flushed: usize) -> Script {
    let mut script = Script::new(1 << 20);
    let mut ends = vec![0];
    for (sequence, count) in (0..).zip(counts) {
        let mut builder = BatchBuilder::new(16 << 10);
        for _ in 0..*count {
            builder.push(&RecordInput { value: Some(b"x"), ..RecordInput::default() }).unwrap();
        }
        let identity = BatchIdentity {
            producer: ProducerId::new(9),
            producer_epoch: Epoch::ZERO,
            sequence: Sequence::new(sequence),
            partition: script.key(0),
        };
        let batch = builder.finish(&identity, Compression::None);
        let bytes = (Publish::OVERHEAD_BYTES + batch.length()) as u64;
        script.arrives(lane(PUBLISH), Publish { acked_below: Sequence::ZERO, batch }, bytes);
        ends.push(ends.last().unwrap() + u64::from(*count));
    }
    script.sync();
    script.flush(0, ends[flushed], 0);
    script
}

impl Script {
    fn grant_records(&mut self, limit: u64) {
        self.event(Event::GrantedRecords(lane(SUBSCRIBE), limit));
    }

    /// Records of each batch that was delivered. What waits to leave does.
    fn delivered_records(&mut self) -> Vec<u32> {
        let mut records = Vec::new();
        while self.kinds().contains(&FrameKind::Deliver) {
            let deliver: Deliver = self.take(SUBSCRIBE, FrameKind::Deliver);
            records.extend(Deliver::measures(&deliver.batches).map(|batch| batch.records));
            let bytes = (Deliver::OVERHEAD_BYTES + deliver.batches.len()) as u64;
            self.event(Event::Sent(lane(SUBSCRIBE), bytes));
        }
        records
    }

    /// Reads of segments find everything below an offset from theirs on, whatever was asked for.
    fn answer_reads(&mut self, flushed_end: u64) {
        for read in std::mem::take(&mut self.actions.cold_reads) {
            let crate::core::event::ColdWant::Batches { from, .. } = read.want else { continue };
            let mut bytes = Vec::new();
            let mut end = from;
            for write in &self.journaled {
                let Frame::Append { batch, .. } = &write.frame else { continue };
                if batch.base_offset() >= from && batch.end_offset().get() <= flushed_end {
                    batch.encode(&mut bytes);
                    end = batch.end_offset();
                }
            }
            let result = ColdResult::Batches { bytes: bytes.into(), end };
            self.event(Event::ColdAnswer(ColdAnswer { read, result }));
        }
    }
}

#[test]
fn a_batch_goes_while_a_record_is_left_and_who_has_none_waits_for_records() {
    let mut script = script(&[3, 3, 3], 0);
    script.grant_records(4);
    script.subscribe(0, 0, StartAt::Earliest);
    assert_eq!(script.delivered_records(), [3, 3], "the second begins within the limit");
    assert_eq!(script.causes()[1], WaitsFor::RecordsCredit);
    script.grant_records(6);
    assert_eq!(script.delivered_records(), [0; 0]);
    script.grant_records(7);
    assert_eq!(script.delivered_records(), [3]);
    assert_eq!(script.causes()[1], WaitsFor::Records);
}

#[test]
fn what_segments_hold_is_cut_where_the_records_end() {
    let mut script = script(&[2, 2, 2, 2], 4);
    script.grant_records(3);
    script.subscribe(0, 0, StartAt::Earliest);
    script.answer_reads(8);
    assert_eq!(script.delivered_records(), [2, 2]);
    assert_eq!(script.causes()[1], WaitsFor::RecordsCredit);
    script.grant_records(100);
    script.answer_reads(8);
    assert_eq!(script.delivered_records(), [2, 2], "and goes on there");
}

proptest! {
    /// Whatever the batches, and however few records are granted at a time: no batch begins beyond the limit, and all come.
    #[test]
    fn records_are_delivered_within_their_limit_and_to_the_end(
        counts in prop::collection::vec(1u32..20, 1..12),
        flushed in any::<prop::sample::Index>(),
        grants in prop::collection::vec(1u64..9, 1..300),
    ) {
        let flushed = flushed.index(counts.len() + 1);
        let flushed_end = counts[..flushed].iter().map(|count| u64::from(*count)).sum();
        let mut script = script(&counts, flushed);
        let (mut limit, mut sent, mut delivered) = (0, 0, Vec::new());
        script.grant_records(0);
        script.subscribe(0, 0, StartAt::Earliest);
        for grant in grants.iter().cycle().take(300) {
            script.answer_reads(flushed_end);
            for records in script.delivered_records() {
                prop_assert!(sent < limit, "a batch begins beyond {limit}");
                sent += u64::from(records);
                delivered.push(records);
            }
            limit += grant;
            script.grant_records(limit);
        }
        prop_assert_eq!(delivered, counts);
    }
}
