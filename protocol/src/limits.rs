//! Every limit of the wire and of the batch, with its reason. What one side may choose within them is told in
//! the first exchange of a connection.

/// Longest producer part of a batch that any Weir will ever accept. Bounds all lengths to 32 bits with room.
pub const BATCH_BYTES_LIMIT: u32 = 16 << 20;

/// Longest producer part a broker accepts by default: the largest record plus what stands around it.
pub const BATCH_BYTES_MAX_DEFAULT: u32 = (1 << 20) + (64 << 10);

/// Longest key, value and headers of one record together, by default.
pub const RECORD_BYTES_MAX_DEFAULT: u32 = 1 << 20;

/// Records in one batch. Keeps a void bitmap at 8 KiB.
pub const BATCH_RECORDS_MAX: u32 = 1 << 16;

/// Shortest record in a body: length, attributes, two deltas, key, value and header count of one byte each.
pub const RECORD_BODY_BYTES_MIN: u32 = 7;

/// Headers of one record.
pub const RECORD_HEADERS_MAX: usize = 1024;

/// Longest idempotency key. It fits every UUID, ULID and hash in text form.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 64;

/// How long a topic remembers idempotency keys unless told otherwise: longer than anybody tries again by hand.
pub const DEDUP_HORIZON_US_DEFAULT: u64 = 600_000_000;

/// Exceptions in one frame. Keeps it under 512 KiB.
pub const PUBLISH_EXCEPTIONS_MAX: usize = 16_384;

/// Longest topic, group and client name.
pub const NAME_BYTES_MAX: usize = 128;

/// Names that producers of one topic may have claimed. Bounds what they take of a node's state near 200 KiB a topic.
pub const CLAIMS_PER_TOPIC_MAX: usize = 1024;

/// Longest explanation in an error, and longest version text.
pub const TEXT_BYTES_MAX: usize = 1024;

/// Largest offset and sequence on the wire and in a batch: a signed 64-bit number holds it, and adding a batch's
/// records to it cannot overflow.
pub const NUMBER_MAX: u64 = u64::MAX / 2;

/// Partitions of one topic.
pub const TOPIC_PARTITIONS_MAX: u32 = 10_000;

/// Entries in one page of a listing. Keeps a page under 512 KiB.
pub const PAGE_ENTRIES_MAX: u32 = 1_000;

/// Records above the first unsettled one that a group may be ahead with. Keeps a cursor under 129 KiB.
pub const CURSOR_WINDOW_RECORDS: u64 = 1 << 20;

/// Ranges in one acknowledgement of a group's member. Keeps it within a request.
pub const ACK_RANGES_MAX: usize = 240;

/// Offsets that a start or a reset of a group may name. Keeps it within a request; longer resets go in pages.
pub const START_OFFSETS_MAX: usize = 256;

/// Records in one statement about failures, and records of a partition that a group may have to deliver again: all of them
/// fit a frame with their reasons.
pub const FAILURES_PER_FRAME_MAX: usize = 1024;

/// Longest reason for a failure that is kept.
pub const REASON_BYTES_MAX: usize = 256;

/// Longest time from a failure to the next delivery: a day.
pub const BACKOFF_MS_MAX: u32 = 86_400_000;

/// Members of one group. Keeps a description of it under 512 KiB.
pub const GROUP_MEMBERS_MAX: usize = 1_000;

/// Shortest lease: below it the delays of a network end leases that are in use.
pub const LEASE_MS_MIN: u32 = 100;

/// Longest lease, and longest time a member that left may take to come back.
pub const LEASE_MS_MAX: u32 = 3_600_000;

/// Longest body of a frame that carries no batches: a page of a listing.
pub const CONTROL_FRAME_BYTES_MAX: u32 = 512 << 10;

/// Longest body of a frame from a client that carries no batch. Holds every greeting and every request; bounds what a
/// client that begins a frame on each of its streams can cost.
pub const REQUEST_FRAME_BYTES_MAX: u32 = 4 << 10;

/// What a frame may carry beside one batch: its fixed fields and the broker section with a full bitmap.
pub const BATCH_FRAME_OVERHEAD_BYTES: u32 = 16 << 10;

/// Longest body of any frame.
pub const FRAME_BYTES_MAX: u32 = BATCH_BYTES_LIMIT + BATCH_FRAME_OVERHEAD_BYTES;

/// Batches of one producer and partition that may be unacknowledged. The broker remembers as many results.
pub const UNACKED_BATCHES_MAX: usize = 64;

/// Streams that one producer or one subscription spreads its partitions over.
pub const LANES_MAX_DEFAULT: u32 = 16;

/// Entries in one acknowledgement frame.
pub const ACK_ENTRIES_MAX: usize = 4096;

const _: () =
    assert!(RECORD_BYTES_MAX_DEFAULT < BATCH_BYTES_MAX_DEFAULT, "the largest record must fit a batch");
const _: () = assert!(BATCH_BYTES_MAX_DEFAULT <= BATCH_BYTES_LIMIT, "the default must be within the format");
const _: () = assert!(
    BATCH_FRAME_OVERHEAD_BYTES as usize
        >= 64 + crate::batch::BROKER_SECTION_BYTES + BATCH_RECORDS_MAX as usize / 8,
    "the fixed fields and a full void bitmap must fit"
);
const _: () = assert!(REQUEST_FRAME_BYTES_MAX <= CONTROL_FRAME_BYTES_MAX, "requests are control frames");
