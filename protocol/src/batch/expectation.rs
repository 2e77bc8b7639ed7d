//! What must be true of the log for a record to be stored.

use bytes::BufMut;

use crate::error::{DecodeError, Problem};
use crate::limits::NUMBER_MAX;
use crate::read::Reader;
use crate::units::Offset;

/// A condition on a record: it is stored only if the condition holds at the moment it would be appended. What was taken
/// before it counts, durable or not.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Expectation {
    /// It gets this offset: nothing was appended to its partition since somebody looked. Only the first record of a batch
    /// can expect that.
    PartitionAt(Offset),
    /// The last record of its partition with its key stands at this offset.
    KeyAt(Offset),
    /// Its partition never had a record with its key.
    KeyAbsent,
}

impl Expectation {
    /// Length of an entry of the column.
    pub(super) const BYTES: usize = 1 + 8;

    /// Whether it is about the record's key.
    pub const fn is_of_key(self) -> bool {
        matches!(self, Self::KeyAt(_) | Self::KeyAbsent)
    }

    /// An entry of the column.
    pub(super) fn encode(expectation: Option<Self>) -> [u8; Self::BYTES] {
        let (kind, offset) = match expectation {
            None => (0, Offset::ZERO),
            Some(Self::PartitionAt(offset)) => (1, offset),
            Some(Self::KeyAt(offset)) => (2, offset),
            Some(Self::KeyAbsent) => (3, Offset::ZERO),
        };
        let mut entry = [kind; Self::BYTES];
        let (_, mut rest) = entry.split_at_mut(1);
        rest.put_u64_le(offset.get());
        entry
    }

    /// Reads an entry of the column.
    pub(super) fn decode(entry: &[u8; Self::BYTES]) -> Result<Option<Self>, DecodeError> {
        let mut reader = Reader::new(entry);
        let kind = reader.u8()?;
        let value = reader.u64()?;
        if value > NUMBER_MAX {
            let problem = Problem::TooLarge { what: "expected offset", value, max: NUMBER_MAX };
            return Err(DecodeError::new(1, problem));
        }
        let offset = Offset::new(value);
        match kind {
            1 => Ok(Some(Self::PartitionAt(offset))),
            2 => Ok(Some(Self::KeyAt(offset))),
            0 | 3 if value != 0 => {
                Err(DecodeError::new(1, Problem::Invalid { what: "expected offset", value }))
            }
            0 => Ok(None),
            3 => Ok(Some(Self::KeyAbsent)),
            kind => {
                Err(DecodeError::new(0, Problem::Invalid { what: "expectation", value: u64::from(kind) }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{
        BatchBuilder, BatchIdentity, BuildError, Compression, ProducerBatch, RecordInput, TableRow,
    };
    use crate::units::{Epoch, PartitionId, PartitionKey, ProducerId, Sequence, TopicId};

    fn batch(rows: &[TableRow<'_>]) -> ProducerBatch {
        let mut builder = BatchBuilder::new(4096);
        for row in rows {
            builder.push(&RecordInput { row: *row, ..RecordInput::default() }).unwrap();
        }
        let identity = BatchIdentity {
            producer: ProducerId::new(1),
            producer_epoch: Epoch::ZERO,
            sequence: Sequence::ZERO,
            partition: PartitionKey { topic: TopicId::from_bytes([1; 16]), partition: PartitionId::ZERO },
        };
        builder.finish(&identity, Compression::None)
    }

    fn expecting(expectation: Expectation, record_key: Option<[u8; 16]>) -> TableRow<'static> {
        TableRow { expectation: Some(expectation), record_key, ..TableRow::default() }
    }

    /// What decoding says of a batch of one record.
    fn refusal(row: TableRow<'_>) -> Option<Problem> {
        let batch = batch(&[row]);
        ProducerBatch::decode(batch.bytes().clone()).err().map(|error| error.problem)
    }

    #[test]
    fn only_what_can_be_decided_is_taken() {
        let key_at = Expectation::KeyAt(Offset::new(7));
        for possible in [expecting(key_at, Some([1; 16])), expecting(Expectation::KeyAbsent, Some([1; 16]))] {
            assert_eq!(refusal(possible), None);
        }
        assert_eq!(refusal(expecting(Expectation::PartitionAt(Offset::ZERO), None)), None);
        let of = |value| Some(Problem::Invalid { what: "expectation", value });
        assert_eq!(refusal(expecting(key_at, None)), of(2), "a record without a key");
        assert_eq!(refusal(expecting(Expectation::KeyAbsent, Some([0; 16]))), of(3));
        let too_large = Problem::TooLarge { what: "expected offset", value: NUMBER_MAX + 1, max: NUMBER_MAX };
        let far = Expectation::PartitionAt(Offset::new(NUMBER_MAX + 1));
        assert_eq!(refusal(expecting(far, None)), Some(too_large));
        for (entry, what, value) in [
            ([4, 0, 0, 0, 0, 0, 0, 0, 0], "expectation", 4),
            ([0, 9, 0, 0, 0, 0, 0, 0, 0], "expected offset", 9),
            ([3, 9, 0, 0, 0, 0, 0, 0, 0], "expected offset", 9),
        ] {
            assert_eq!(Expectation::decode(&entry).unwrap_err().problem, Problem::Invalid { what, value });
        }
    }

    #[test]
    fn what_expects_an_offset_of_its_partition_begins_a_batch() {
        let first = expecting(Expectation::PartitionAt(Offset::new(5)), None);
        let mut builder = BatchBuilder::new(4096);
        let record = |row| RecordInput { row, ..RecordInput::default() };
        assert_eq!(builder.push(&record(first)), Ok(0));
        assert_eq!(builder.push(&record(TableRow::default())), Ok(1));
        assert_eq!(builder.push(&record(first)), Err(BuildError::Full));
    }

    #[test]
    fn each_record_has_its_expectation_and_its_key() {
        let rows = [
            expecting(Expectation::PartitionAt(Offset::new(5)), None),
            TableRow { record_key: Some([0; 16]), ..TableRow::default() },
            expecting(Expectation::KeyAt(Offset::new(6)), Some([2; 16])),
        ];
        let batch = ProducerBatch::decode(batch(&rows).bytes().clone()).unwrap();
        let read = batch.table().rows().map(|row| (row.expectation, row.record_key)).collect::<Vec<_>>();
        let [first, _, last] = rows;
        assert_eq!(read, [(first.expectation, None), (None, None), (last.expectation, last.record_key)]);
        assert!(batch.table().has_record_keys() && batch.table().needs_deciding());
    }
}
