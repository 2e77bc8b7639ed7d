//! Messages about what is remembered of idempotency keys.

use weir_protocol::message::{
    DedupDescription, DedupFigures, DescribeDedup, FindKey, KeyFound, KeyedCounts, RememberedKey, TopicDedup,
};

use super::{OFFSET, PARTITION, REQUEST, TIME};
use crate::Sample;

pub(super) fn all() -> Vec<Sample> {
    let name = "orders".to_owned();
    let key = b"pay-7".to_vec();
    let find = FindKey { request: REQUEST, name: name.clone(), routing_hash: 0x8182_8384_8586_8788, key };
    let known = RememberedKey {
        partition: PARTITION,
        offset: OFFSET,
        append_time: TIME,
        fingerprint: *b"fingerprint-0123",
        remaining_us: 0x9192_9394_9596_9798,
        is_recent: true,
    };
    let keys = DedupFigures {
        recent_keys: 1,
        recent_keys_max: 2,
        flushed_keys: 3,
        generations: 4,
        narrow_filters: 5,
        missing_filters: 6,
        lost_generations: 7,
        filter_bytes: 8,
        filter_bytes_max: 9,
        disk_bytes: 10,
        disk_bytes_max: 11,
    };
    let counts = KeyedCounts { stored: 12, duplicates: 13, conflicts: 14, expired: 15, full: 16 };
    let topics = vec![TopicDedup { name: name.clone(), horizon_us: 0xa1a2_a3a4_a5a6_a7a8, counts }];
    vec![
        Sample::message("find-key", find),
        Sample::message("key-found", KeyFound { request: REQUEST, key: Some(known) }),
        Sample::message("key-free", KeyFound { request: REQUEST, key: None }),
        Sample::message("describe-dedup", DescribeDedup { request: REQUEST, name, after: "last".to_owned() }),
        Sample::message("dedup-description", DedupDescription { request: REQUEST, more: true, keys, topics }),
    ]
}
