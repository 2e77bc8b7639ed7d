//! The record batch: the unit that is sent, stored and delivered, in the same bytes everywhere.
//!
//! ```text
//! stored batch  = broker section (32 bytes + void bitmap) , producer part
//! producer part = producer header (96 bytes) , body , record table
//! ```
//!
//! The producer makes the producer part and its checksum; nobody ever changes it. The broker makes the
//! broker section, with a checksum of its own, when it gives the batch its place. A batch is the same at every
//! place: nothing in it depends on the file or the stream it stands in.

mod builder;
mod compression;
mod expectation;
mod header;
mod measure;
mod record;
mod section;
mod table;
#[cfg(test)]
mod tests;

pub use builder::{BatchBuilder, BatchIdentity, BuildError, RecordInput};
pub use compression::Compression;
pub use expectation::Expectation;
pub use header::{PRODUCER_HEADER_BYTES, ProducerBatch, ProducerHeader};
pub use measure::BatchMeasure;
pub use record::{Header, Headers, Record, Records};
pub use section::{BROKER_SECTION_BYTES, BrokerSection, StoredBatch, Voids};
pub use table::{RecordTable, TableBuilder, TableRow};
