//! Numbers that mean something, each with its own type, so that one cannot pass for another.

use std::fmt;

use uuid::Uuid;

/// Declares a newtype over an unsigned number: eleven of them need the same construction, access and display.
macro_rules! number {
    ($(#[$meta:meta])* $name:ident($inner:ty)) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name($inner);

        impl $name {
            /// The smallest value.
            pub const ZERO: Self = Self(0);

            /// Wraps a plain number.
            pub const fn new(value: $inner) -> Self {
                Self(value)
            }

            /// The plain number, for codecs and display.
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// Number of a record in its partition. The first record ever written has 0.
    Offset(u64)
}

number! {
    /// Number of a partition in its topic, from 0. Never reused.
    PartitionId(u32)
}

number! {
    /// Generation of a partition's owner or of a producer. A higher epoch fences a lower one.
    Epoch(u32)
}

number! {
    /// Number of a batch among those one producer sent to one partition, from 0.
    Sequence(u64)
}

number! {
    /// Identity of a producer, given out by the broker. Never reused on a node.
    ProducerId(u64)
}

number! {
    /// Identity of a consumer group, given out by the broker. Never reused on a node.
    GroupId(u64)
}

number! {
    /// Epoch of a lease: which right to a partition. A later lease of any partition has a higher one, also after a
    /// restart, so one of them names group, partition and owner.
    LeaseEpoch(u64)
}

number! {
    /// How often this node's data has been opened for writing. Raised, durably, by each start.
    Incarnation(u64)
}

number! {
    /// A place in the journal, in bytes since it was created. Never repeats.
    JournalPosition(u64)
}

number! {
    /// Number of a segment file on a node. Never reused.
    SegmentId(u64)
}

number! {
    /// One of the fixed number of parts a node's state is divided into, independent of its cores.
    VirtualShard(u16)
}

impl Offset {
    /// The offset `records` after this one.
    ///
    /// # Panics
    /// If the result does not fit 64 bits.
    #[must_use]
    pub const fn advance(self, records: u64) -> Self {
        Self(self.0 + records)
    }

    /// How many offsets lie in `earlier..self`.
    ///
    /// # Panics
    /// If `earlier` is later than `self`.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0 - earlier.0
    }
}

impl Sequence {
    /// The sequence after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Epoch {
    /// The epoch after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Incarnation {
    /// The incarnation after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl JournalPosition {
    /// The position `bytes` further on.
    #[must_use]
    pub const fn advance(self, bytes: u64) -> Self {
        Self(self.0 + bytes)
    }

    /// How many bytes lie in `earlier..self`.
    ///
    /// # Panics
    /// If `earlier` is later than `self`.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0 - earlier.0
    }
}

impl SegmentId {
    /// The identity after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A moment on the wall clock, in microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The Unix epoch.
    pub const ZERO: Self = Self(0);

    /// From microseconds since the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// The moment `micros` later, or the last one that can be expressed.
    #[must_use]
    pub const fn saturating_add_micros(self, micros: i64) -> Self {
        Self(self.0.saturating_add(micros))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} us", self.0)
    }
}

/// Identity of a topic. A topic created again under the same name has another one.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TopicId([u8; 16]);

impl TopicId {
    /// From the 16 bytes of a UUID.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes of the UUID.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Uuid::from_bytes(self.0).fmt(f)
    }
}

/// A partition among all partitions of a node.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PartitionKey {
    /// The topic it belongs to.
    pub topic: TopicId,
    /// Its number there.
    pub partition: PartitionId,
}

impl fmt::Display for PartitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// What an acknowledgement promises.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Durability {
    /// The operating system has the bytes: they survive the death of the process, not of the machine.
    Written,
    /// The bytes were synced: they survive a power cut.
    Durable,
}
