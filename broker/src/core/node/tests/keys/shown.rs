//! What is told of keys to those who ask.

use weir_protocol::message::{
    DedupDescription, DeleteTopic, DescribeDedup, FindKey, KeyFound, KeyedCounts, RememberedKey, TopicDedup,
};
use weir_storage::store::FoundKey;

use super::*;
use crate::core::dedup::{KeyLookup, KeyLookupAnswer};

const HORIZON_US: u64 = 600_000_000;

impl Script {
    fn ask(&mut self, key: &str) {
        let (name, key) = ("orders".to_owned(), key.as_bytes().to_vec());
        let find = FindKey { request: 4, name, routing_hash: 1, key };
        self.event(Event::Request(lane(CONTROL), Request::FindKey(find)));
    }

    fn told(&mut self) -> Option<RememberedKey> {
        let found: KeyFound = self.take(CONTROL, FrameKind::KeyFound);
        assert_eq!(found.request, 4);
        found.key
    }

    fn stats(&mut self, name: &str, after: &str) -> DedupDescription {
        let describe = DescribeDedup { request: 5, name: name.to_owned(), after: after.to_owned() };
        self.event(Event::Request(lane(CONTROL), Request::DescribeDedup(describe)));
        self.take(CONTROL, FrameKind::DedupDescription)
    }
}

#[test]
fn a_key_is_shown_from_memory_or_from_the_disk_or_not_at_all() {
    let mut script = Script::new(0);
    script.send(1, 0, &[("", "x"), ("k", "a")]);
    script.sync();
    script.ask("k");
    let mut fingerprint = [0; 16];
    fingerprint[0] = b'a';
    let OriginalRecord { partition, offset, append_time } = script.original(1);
    let recent = RememberedKey {
        partition,
        offset,
        append_time,
        fingerprint,
        remaining_us: HORIZON_US,
        is_recent: true,
    };
    assert_eq!(script.told(), Some(recent));
    script.ask("free");
    assert_eq!(script.told(), None);

    script.filter.maybe.store(true, Ordering::Relaxed);
    let entry = script.old("old", "a", 70);
    for (found, remembered) in [(Some(FoundKey { entry, remaining_us: 9 }), Some((70, 9))), (None, None)] {
        script.ask("old");
        let lookup = KeyLookup { lane: lane(CONTROL), request: 4, digest: entry.digest };
        assert_eq!(std::mem::take(&mut script.actions.key_lookups), [lookup]);
        let answer = KeyLookupAnswer { lane: lookup.lane, request: 4, found: Some(found) };
        script.event(Event::KeyLookedUp(answer));
        let told = script.told();
        assert_eq!(told.map(|key| (key.offset.get(), key.remaining_us)), remembered);
        assert!(told.is_none_or(|key| !key.is_recent));
    }
    // What cannot be read is not called free.
    script.ask("old");
    script.event(Event::KeyLookedUp(KeyLookupAnswer { lane: lane(CONTROL), request: 4, found: None }));
    let failure: Failure = script.take(CONTROL, FrameKind::Failure);
    assert_eq!((failure.request, failure.code), (4, ErrorCode::Internal));
    script.ask("");
    let failure: Failure = script.take(CONTROL, FrameKind::Failure);
    assert_eq!((failure.request, failure.code), (4, ErrorCode::KeyInvalid));
}

#[test]
fn outcomes_are_counted_for_each_topic_and_for_all() {
    let mut script = Script::new(0);
    let old = "00000000-0000-7cc3-98c4-dc0c0c07398f";
    script.now.wall = Timestamp::from_micros(2_000_000_000);
    script.now.monotonic_us = 2_000_000_000;
    script.send(1, 0, &[("k", "a"), ("k", "a"), ("l", "a"), ("k", "other"), (old, "x"), ("", "y")]);
    script.filter.full.store(true, Ordering::Relaxed);
    script.send(1, 1, &[("m", "a")]);
    let counts = KeyedCounts { stored: 2, duplicates: 1, conflicts: 1, expired: 1, full: 1 };
    let orders = TopicDedup { name: "orders".to_owned(), horizon_us: HORIZON_US, counts };
    let stats = script.stats("", "");
    assert_eq!((stats.request, stats.more, &stats.topics), (5, false, &vec![orders.clone()]));
    let keys = stats.keys;
    assert_eq!((keys.recent_keys, keys.recent_keys_max, keys.flushed_keys), (2, KEYS_MAX, 7));
    assert_eq!((keys.disk_bytes, keys.disk_bytes_max), (400, 1000));
    assert_eq!(script.stats("orders", "").topics, [orders]);
    assert_eq!(script.stats("", "orders").topics, []);
    assert_eq!(script.node.keyed_topics(9), [("orders".to_owned(), counts)]);

    let delete = DeleteTopic { request: 6, name: "orders".to_owned() };
    script.event(Event::Request(lane(CONTROL), Request::Delete(delete)));
    script.sync();
    assert_eq!(script.node.figures().keyed, counts, "a counter never goes back");
    assert_eq!(script.node.keyed_topics(9), []);
}
