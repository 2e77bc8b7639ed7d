//! How a broker's memory is divided, as a sum that can be followed, and whether what clients may do fits.
//!
//! Every share is a part of the whole, so twice the memory is twice of everything. What is bounded by numbers of things
//! (connections, partitions) is checked here, before a broker starts; what is bounded by bytes is checked by the
//! ledger while it runs.

use std::fmt;

use crate::core::ledger::Budget;

/// Parts that memory is divided into.
const PARTS: u64 = 64;

/// Bytes that may be under way on a connection, in each direction, when it comes in. Wider windows are taken from what
/// connections leave of their share.
pub const FIRST_WINDOW_BYTES: u32 = 16 << 10;

/// Answers of a connection that have memory whatever others do.
pub const ANSWERS_KEPT_BYTES: u64 = 4 << 10;

/// A connection: its state, its control stream, the windows it comes in with, and answers.
///
/// Measured: an idle connection of our client takes 134 KiB on loopback, where a datagram has up to 64 KiB, and half of that on
/// a network.
pub const CONNECTION_BYTES: u64 = (132 << 10) + 2 * (FIRST_WINDOW_BYTES as u64) + ANSWERS_KEPT_BYTES;

/// State of a stream: two tasks, and what the transport keeps. Measured: 5.9 KiB with one reader.
pub const STREAM_BYTES: u64 = 6 << 10;

/// A reader's position in a partition, and what waits for its news. Measured: 332 bytes.
pub const CURSOR_BYTES: u64 = 384;

/// A partition without records, in the node and in storage. Measured: 330 bytes; one that is used has more.
pub const PARTITION_BYTES: u64 = 1 << 10;

/// A topic, beside its partitions.
pub const TOPIC_BYTES: u64 = 512;

/// A key of a batch that is in no segment yet: in the table by which it is recognised, and on its way to a file.
pub const RECENT_KEY_BYTES: u64 =
    weir_storage::dedup::RECENT_KEY_BYTES + weir_storage::dedup::STAGED_KEY_BYTES;

/// A key in the filter by which most new ones are told from older ones, and its share of what stands around.
pub const FILTERED_KEY_BYTES: u64 = 3;

/// Most connections, topics and partitions a broker takes by itself, however much memory it has.
const CONNECTIONS_MAX_DEFAULT: u64 = 1024;
const TOPICS_MAX_DEFAULT: u64 = 10_000;
const PARTITIONS_MAX_DEFAULT: u64 = 100_000;

/// How many of what a broker may have to hold.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Demand {
    /// Connections; as many as fit if `None`.
    pub connections: Option<u64>,
    /// Lanes of subscriptions, each reading one partition. Not limited by itself: its connection is.
    pub subscriptions: u64,
    /// Topics; as many as fit if `None`.
    pub topics: Option<u64>,
    /// Partitions; as many as fit if `None`.
    pub partitions: Option<u64>,
    /// Unflushed bytes at which a segment is written.
    pub flush_bytes: u64,
    /// Longest frame with a batch.
    pub largest_batch_bytes: u64,
    /// Longest answer to a batch: one that tells of each of its records.
    pub largest_answer_bytes: u64,
}

/// One part of the memory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Share {
    /// Its name, as in metrics.
    pub name: &'static str,
    /// What it is for.
    pub purpose: &'static str,
    /// Its bytes.
    pub bytes: u64,
    /// What must fit into it.
    pub needs: Vec<Need>,
}

/// Something that must fit: a number of things of one size.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Need {
    /// What.
    pub what: &'static str,
    /// How many.
    pub count: u64,
    /// Bytes of each.
    pub each_bytes: u64,
}

/// How the memory of a broker is divided.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Plan {
    /// All of it.
    pub memory_bytes: u64,
    /// Its parts; together they are all of it.
    pub shares: Vec<Share>,
    /// Connections there may be.
    pub connections_max: u64,
    /// Topics there may be.
    pub topics_max: u64,
    /// Partitions there may be.
    pub partitions_max: u64,
}

impl Need {
    /// Bytes of all of them.
    pub const fn bytes(&self) -> u64 {
        self.count.saturating_mul(self.each_bytes)
    }
}

impl Share {
    /// Bytes of everything that must fit.
    pub fn needed_bytes(&self) -> u64 {
        self.needs.iter().fold(0, |sum, need| sum.saturating_add(need.bytes()))
    }

    /// Whether it does not fit.
    pub fn is_exceeded(&self) -> bool {
        self.needed_bytes() > self.bytes
    }
}

impl Plan {
    /// Divides `memory_bytes`.
    pub fn new(memory_bytes: u64, demand: &Demand) -> Self {
        let part = |parts: u64| memory_bytes / PARTS * parts;
        let (connections, registry) = (part(14), part(3));
        let connections_max = demand.connections.unwrap_or_else(|| {
            // A quarter is left for streams and wider windows.
            (connections / 4 * 3 / CONNECTION_BYTES).clamp(1, CONNECTIONS_MAX_DEFAULT)
        });
        let topics_max =
            demand.topics.unwrap_or_else(|| (registry / 8 / TOPIC_BYTES).clamp(1, TOPICS_MAX_DEFAULT));
        let of_topics = topics_max.saturating_mul(TOPIC_BYTES);
        let partitions_max = demand.partitions.unwrap_or_else(|| {
            (registry.saturating_sub(of_topics) / PARTITION_BYTES).clamp(1, PARTITIONS_MAX_DEFAULT)
        });
        let most = [connections_max, topics_max, partitions_max];
        let mut shares = shares(memory_bytes, demand, most);
        let divided: u64 = shares.iter().map(|share| share.bytes).sum();
        shares.push(Share {
            name: "program",
            purpose: "the program itself: threads, sockets, indexes",
            bytes: memory_bytes - divided,
            needs: Vec::new(),
        });
        Self { memory_bytes, shares, connections_max, topics_max, partitions_max }
    }

    /// Bytes of a share.
    ///
    /// # Panics
    /// If there is none of that name.
    pub fn bytes_of(&self, name: &str) -> u64 {
        let share = self.shares.iter().find(|share| share.name == name);
        share.expect("shares are named in this file").bytes
    }

    /// Bytes that each pool of the ledger has.
    pub fn budget(&self) -> Budget {
        Budget {
            ingest: self.bytes_of("ingest"),
            unflushed: self.bytes_of("unflushed"),
            hot_cache: self.bytes_of("hot-cache"),
            delivery: self.bytes_of("delivery"),
            connections: self.bytes_of("connections"),
            dedup: self.bytes_of("dedup"),
            groups: self.bytes_of("groups"),
            control: self.bytes_of("control"),
        }
    }

    /// Whether everything fits.
    pub fn fits(&self) -> bool {
        !self.shares.iter().any(Share::is_exceeded)
    }
}

/// What memory is divided into, but for what is left, if there may be so many connections, topics and partitions.
fn shares(memory_bytes: u64, demand: &Demand, most: [u64; 3]) -> Vec<Share> {
    let part = |parts: u64| memory_bytes / PARTS * parts;
    let [connections_max, topics_max, partitions_max] = most;
    let need = |what, count, each_bytes| Need { what, count, each_bytes };
    let share = |name, parts, purpose, needs| Share { name, purpose, bytes: part(parts), needs };
    let largest = demand.largest_batch_bytes;
    vec![
        share(
            "ingest",
            8,
            "batches that arrive or are not durable yet",
            vec![need("largest batches", 2, largest)],
        ),
        share(
            "unflushed",
            16,
            "durable batches that are in no segment yet",
            // While one segment is written the next one is gathered.
            vec![need("segments (--flush-bytes)", 2, demand.flush_bytes)],
        ),
        share("hot-cache", 3, "flushed batches, for readers near the end", Vec::new()),
        share("buffers", 3, "idle buffers that are used again", Vec::new()),
        share(
            "delivery",
            4,
            "deliveries that have not left, reads for them",
            vec![need("largest batches", 2, largest)],
        ),
        share(
            "connections",
            14,
            "state, windows and streams of connections",
            vec![
                need("connections", connections_max, CONNECTION_BYTES),
                need("subscriptions", demand.subscriptions, STREAM_BYTES + CURSOR_BYTES),
            ],
        ),
        share(
            "registry",
            3,
            "topics and partitions",
            vec![
                need("topics", topics_max, TOPIC_BYTES),
                need("partitions", partitions_max, PARTITION_BYTES),
            ],
        ),
        share(
            "dedup",
            2,
            "idempotency keys of records in no segment yet",
            vec![need("keys", part(2) / RECENT_KEY_BYTES, RECENT_KEY_BYTES)],
        ),
        share(
            "key-filters",
            2,
            "older keys, so that new ones need no look at the disk",
            vec![need("keys", part(2) / FILTERED_KEY_BYTES, FILTERED_KEY_BYTES)],
        ),
        share("groups", 1, "members and positions of consumer groups", Vec::new()),
        share(
            "control",
            2,
            "answers, beside those each connection has memory for",
            vec![need("largest answers", 2, demand.largest_answer_bytes)],
        ),
    ]
}

/// The sum, a line for each share and each thing that must fit.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<12}{:>12}", "memory", size(self.memory_bytes))?;
        for share in &self.shares {
            write!(f, "\n  {:<12}{:>10}  {}", share.name, size(share.bytes), share.purpose)?;
            for need in &share.needs {
                let (count, each, bytes) = (need.count, size(need.each_bytes), size(need.bytes()));
                write!(f, "\n{:>28}{count} {} x {each} = {bytes}", "", need.what)?;
            }
            if share.is_exceeded() {
                let (needed, bytes) = (size(share.needed_bytes()), size(share.bytes));
                write!(f, "\n{:>28}TOO MUCH: {needed} do not fit {bytes}", "")?;
            }
        }
        Ok(())
    }
}

/// A number of bytes for people.
fn size(bytes: u64) -> String {
    /// Sizes at and above this many bytes are shown in a unit, the largest first.
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    for (unit, name) in UNITS {
        if bytes >= unit {
            let tenths = u128::from(bytes) * 10 / u128::from(unit);
            return format!("{}.{} {name}", tenths / 10, tenths % 10);
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEMAND: Demand = Demand {
        connections: None,
        subscriptions: 0,
        topics: None,
        partitions: None,
        flush_bytes: 8 << 20,
        largest_batch_bytes: 1 << 20,
        largest_answer_bytes: 1 << 20,
    };

    #[test]
    fn the_shares_are_all_of_the_memory_whatever_it_is() {
        for memory_bytes in [64 << 20, (64 << 20) + 63, 512 << 20, 2 << 30, (1 << 40) - 1] {
            let plan = Plan::new(memory_bytes, &DEMAND);
            assert!(plan.fits(), "{plan}");
            let sum: u64 = plan.shares.iter().map(|share| share.bytes).sum();
            assert_eq!(sum, memory_bytes);
            assert!(plan.budget().total() < memory_bytes);
            assert!(plan.bytes_of("program") >= memory_bytes / 64 * 6);
        }
    }

    #[test]
    fn what_is_not_said_follows_from_the_memory() {
        let small = Plan::new(64 << 20, &DEMAND);
        assert_eq!((small.connections_max, small.topics_max, small.partitions_max), (64, 768, 2688));
        let large = Plan::new(64 << 30, &DEMAND);
        let most = (large.connections_max, large.topics_max, large.partitions_max);
        assert_eq!(most, (1024, 10_000, 100_000));
    }

    #[test]
    fn too_much_is_shown_where_it_is_too_much() {
        let greedy = Demand { connections: Some(1000), subscriptions: 10_000, ..DEMAND };
        let plan = Plan::new(64 << 20, &greedy);
        assert!(!plan.fits());
        let text = plan.to_string();
        assert!(text.contains("1000 connections x 168.0 KiB = 164.0 MiB"), "{text}");
        assert!(text.contains("10000 subscriptions x 6.3 KiB = 62.2 MiB"), "{text}");
        assert!(text.contains("TOO MUCH: 226.3 MiB do not fit 14.0 MiB"), "{text}");
        assert_eq!(text.matches("TOO MUCH").count(), 1, "{text}");
        assert!(
            Plan::new(u64::MAX, &Demand { partitions: Some(u64::MAX), ..DEMAND })
                .to_string()
                .contains("TOO MUCH")
        );
    }
}
