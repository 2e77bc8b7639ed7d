//! What the producers and readers of a topic wait for.

use bytes::{BufMut, Bytes};

use crate::error::{DecodeError, Problem};
use crate::frame::FrameKind;
use crate::limits::NAME_BYTES_MAX;
use crate::message::{Message, RequestId};
use crate::read::Reader;
use crate::units::PartitionId;
use crate::write::Write;

/// Asks what the lanes of a topic wait for. Answered by [`Explanation`], a page at a time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Explain {
    /// Number of the request.
    pub request: RequestId,
    /// The topic.
    pub name: String,
    /// Where the page begins: behind this one, the last of the page before. `None` for the first page.
    pub after: Option<WaitId>,
}

/// What a page of the lanes of a topic wait for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Explanation {
    /// The request this answers.
    pub request: RequestId,
    /// Whether there are more behind the last one.
    pub more: bool,
    /// In order of their identity.
    pub waits: Vec<Wait>,
}

/// Which wait. Producers come before readers, then in order of connection, stream and partition.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct WaitId {
    /// Whether it is a reader's, not a producer's.
    pub is_reader: bool,
    /// Number of the connection since the broker started.
    pub connection: u64,
    /// Number of the stream in its connection.
    pub stream: u64,
    /// The partition that is read; of a producer always 0.
    pub partition: PartitionId,
}

/// Declares what can be waited for with numbers and words in one table.
macro_rules! causes {
    ($($(#[$meta:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// What is waited for. The numbers are stable.
        #[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
        #[non_exhaustive]
        pub enum WaitsFor { $($(#[$meta])* #[doc = $text] $name,)* }

        impl WaitsFor {
            /// Every cause.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Its number on the wire.
            pub const fn number(self) -> u8 {
                match self { $(Self::$name => $number,)* }
            }

            /// The cause with this number, if there is one.
            pub const fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }

            /// Its name, as in metrics.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

causes! {
    /// A producer: it has credit and nothing of it waits; more is up to it.
    Producer = 0, "producer";
    /// A producer: batches of it wait for the disk.
    Disk = 1, "disk";
    /// A producer: it has no credit, because memory is full.
    ServerCredit = 2, "server-credit";
    /// A producer: the disk of the broker is full.
    StorageFull = 3, "storage-full";
    /// A producer: its client has published more than its quota, and is granted no more until that is made good.
    Quota = 4, "quota";
    /// A reader: it has everything that is visible.
    Records = 16, "records";
    /// A reader: its application has not taken what it was sent, so it grants no more.
    Application = 17, "application";
    /// A reader: what was sent has not left the broker; its connection is slow.
    Connection = 18, "connection";
    /// A reader: segments are being read for it.
    ColdRead = 19, "cold-read";
    /// A reader: its start is being looked up.
    Start = 20, "start";
    /// A reader: the broker has no memory for more deliveries.
    DeliveryMemory = 21, "delivery-memory";
    /// A reader: it is about to be sent something.
    Turn = 22, "turn";
    /// A reader: its application has not taken as many records as it wants to have at a time, so it grants no more.
    RecordsCredit = 23, "records-credit";
    /// A reader: its client was sent more than its quota, and is sent no more until that is made good.
    ReadQuota = 24, "read-quota";
}

/// What one lane, or one reader of a partition on it, waits for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Wait {
    /// Which.
    pub id: WaitId,
    /// The name the client gave itself; may be empty.
    pub client_name: String,
    /// What is waited for.
    pub waits_for: WaitsFor,
    /// Microseconds since anything moved for it.
    pub since_us: u64,
    /// Bytes it may still send, or be sent.
    pub credit_bytes: u64,
    /// Bytes of it that the broker holds: not durable yet, or not left yet.
    pub held_bytes: u64,
    /// Records that a reader has before it; of a producer always 0.
    pub lag_records: u64,
}

impl WaitId {
    fn encode(self, out: &mut impl BufMut) {
        out.put_u8(u8::from(self.is_reader));
        out.put_u64_le(self.connection);
        out.put_u64_le(self.stream);
        out.put_u32_le(self.partition.get());
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            is_reader: reader.flag("reader")?,
            connection: reader.u64()?,
            stream: reader.u64()?,
            partition: PartitionId::new(reader.u32()?),
        })
    }
}

impl Message for Explain {
    const KIND: FrameKind = FrameKind::Explain;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.request);
        out.put_text(&self.name);
        out.put_u8(u8::from(self.after.is_some()));
        if let Some(after) = self.after {
            after.encode(out);
        }
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        let request = reader.u32()?;
        let name = reader.text("topic name", NAME_BYTES_MAX)?;
        let goes_on = reader.flag("more")?;
        Ok(Self { request, name, after: goes_on.then(|| WaitId::decode(reader)).transpose()? })
    }
}

impl Message for Explanation {
    const KIND: FrameKind = FrameKind::Explanation;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.request);
        out.put_u8(u8::from(self.more));
        out.put_count(self.waits.len());
        for wait in &self.waits {
            wait.encode(out);
        }
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        let request = reader.u32()?;
        let more = reader.flag("more")?;
        let count = reader.count("waits", Wait::BYTES_MIN)?;
        let waits = (0..count).map(|_| Wait::decode(reader)).collect::<Result<_, _>>()?;
        Ok(Self { request, more, waits })
    }
}

impl Wait {
    /// The longest there is, with a name of the longest.
    pub const BYTES_MAX: usize = Self::BYTES_MIN + NAME_BYTES_MAX;

    /// Bytes with an empty name.
    const BYTES_MIN: usize = 21 + 2 + 1 + 4 * 8;

    fn encode(&self, out: &mut impl BufMut) {
        self.id.encode(out);
        out.put_text(&self.client_name);
        out.put_u8(self.waits_for.number());
        out.put_u64_le(self.since_us);
        out.put_u64_le(self.credit_bytes);
        out.put_u64_le(self.held_bytes);
        out.put_u64_le(self.lag_records);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: WaitId::decode(reader)?,
            client_name: reader.text("client name", NAME_BYTES_MAX)?,
            waits_for: waits_for(reader)?,
            since_us: reader.u64()?,
            credit_bytes: reader.u64()?,
            held_bytes: reader.u64()?,
            lag_records: reader.u64()?,
        })
    }
}

fn waits_for(reader: &mut Reader<'_>) -> Result<WaitsFor, DecodeError> {
    let at = reader.position();
    let number = reader.u8()?;
    let problem = Problem::Invalid { what: "cause of a wait", value: u64::from(number) };
    WaitsFor::from_number(number).ok_or_else(|| DecodeError::new(at, problem))
}
