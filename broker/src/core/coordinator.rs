//! The topics of a node: names are unique, and a topic counts from the moment its definition is durable.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;

use uuid::Builder;
use weir_protocol::ErrorCode;
use weir_protocol::limits::{BATCH_BYTES_LIMIT, NAME_BYTES_MAX, TOPIC_PARTITIONS_MAX};
use weir_protocol::message::{TopicInfo, TopicList, TopicSettings};
use weir_protocol::units::{Timestamp, TopicId};
use weir_storage::frame::TopicDefinition;

mod horizon;

use horizon::KeyNeeds;

/// Least value of a topic's longest batch: a batch of one small record must fit.
const BATCH_BYTES_MIN: u32 = 4 << 10;

/// Why a request about topics was refused: a code and the facts.
pub type Refusal = (ErrorCode, String);

/// How much a node may hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TopicLimits {
    /// Topics.
    pub topics_max: usize,
    /// Partitions of all topics together.
    pub partitions_max: u64,
    /// Longest batch any topic may allow.
    pub batch_bytes_max: u32,
    /// Bytes on the disk for the idempotency keys of all topics together.
    pub key_disk_bytes: u64,
}

/// All topics, by name and by identity.
#[derive(Debug)]
pub struct Coordinator {
    limits: TopicLimits,
    topics: BTreeMap<String, Topic>,
    names: BTreeMap<TopicId, String>,
    partitions: u64,
    /// What the horizons of all topics need.
    keys: KeyNeeds,
    random: Random,
}

#[derive(Debug)]
struct Topic {
    definition: TopicDefinition,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// The definition is on its way to the disk.
    Creating,
    /// It counts.
    Live,
    /// The deletion is on its way to the disk: nothing new for it.
    Deleting,
}

impl Coordinator {
    /// With the topics that recovery found. `seed` makes the identities of new ones.
    pub fn recovered(
        limits: TopicLimits,
        definitions: impl IntoIterator<Item = TopicDefinition>,
        seed: u64,
    ) -> Self {
        let mut coordinator = Self {
            limits,
            topics: BTreeMap::new(),
            names: BTreeMap::new(),
            partitions: 0,
            keys: KeyNeeds::new(limits.key_disk_bytes),
            random: Random(seed),
        };
        for definition in definitions {
            coordinator.keys.add(&definition.settings);
            coordinator.partitions += u64::from(definition.settings.partitions);
            coordinator.names.insert(definition.id, definition.name.clone());
            coordinator.topics.insert(definition.name.clone(), Topic { definition, phase: Phase::Live });
        }
        coordinator
    }

    /// Begins to make a topic; it counts once [`Coordinator::confirm`] is called.
    ///
    /// # Errors
    /// A bad name or setting, a name that is taken, or a full node.
    pub fn create(
        &mut self,
        name: &str,
        settings: TopicSettings,
        now: Timestamp,
    ) -> Result<TopicDefinition, Refusal> {
        let settings = TopicSettings { dedup_since: Timestamp::ZERO, ..settings };
        check_name(name)?;
        self.check_settings(&settings)?;
        self.keys.check(&settings, None)?;
        if self.topics.len() >= self.limits.topics_max {
            return Err((
                ErrorCode::TooManyTopics,
                format!("the limit is {} topics", self.limits.topics_max),
            ));
        }
        let partitions = self.partitions + u64::from(settings.partitions);
        if partitions > self.limits.partitions_max {
            let max = self.limits.partitions_max;
            let detail = format!("{partitions} partitions would exceed the limit of {max} of this broker");
            return Err((ErrorCode::TooManyTopics, detail));
        }
        let Entry::Vacant(vacant) = self.topics.entry(name.to_owned()) else {
            return Err((ErrorCode::TopicExists, format!("topic '{name}' exists")));
        };
        let id = self.random.topic_id(now);
        let definition = TopicDefinition { id, name: name.to_owned(), created: now, revision: 0, settings };
        vacant.insert(Topic { definition: definition.clone(), phase: Phase::Creating });
        self.names.insert(id, name.to_owned());
        self.partitions = partitions;
        self.keys.add(&settings);
        Ok(definition)
    }

    /// Changes a topic's settings. The new definition is in force at once and becomes durable soon. `key_time` is the time by
    /// which keys age.
    ///
    /// # Errors
    /// An unknown topic or a bad setting.
    ///
    /// # Panics
    /// Never: the topic was just found.
    pub fn alter(
        &mut self,
        name: &str,
        settings: TopicSettings,
        key_time: Timestamp,
    ) -> Result<TopicDefinition, Refusal> {
        let live = self.live(name)?;
        let old = live.settings;
        let settings = TopicSettings { dedup_since: horizon::since(&old, &settings, key_time), ..settings };
        if settings.partitions != live.settings.partitions {
            let (old, new) = (live.settings.partitions, settings.partitions);
            let detail =
                format!("the number of partitions is fixed: topic '{name}' has {old}, asked for {new}");
            return Err((ErrorCode::InvalidSetting, detail));
        }
        if settings.explicit_partitions != live.settings.explicit_partitions {
            let detail = "who chooses partitions is fixed when a topic is made".to_owned();
            return Err((ErrorCode::InvalidSetting, detail));
        }
        if settings.keyed_versions && !live.settings.keyed_versions {
            let detail = format!(
                "nobody knows the versions of the keys that topic '{name}' has: a new topic can keep them"
            );
            return Err((ErrorCode::InvalidSetting, detail));
        }
        self.check_settings(&settings)?;
        self.keys.check(&settings, Some(&old))?;
        self.keys.remove(&old);
        self.keys.add(&settings);
        let topic = self.topics.get_mut(name).expect("found above");
        topic.definition.settings = settings;
        topic.definition.revision += 1;
        Ok(topic.definition.clone())
    }

    /// Begins to delete a topic; it is gone once [`Coordinator::remove`] is called.
    ///
    /// # Errors
    /// An unknown topic.
    ///
    /// # Panics
    /// Never: the topic was just found.
    pub fn delete(&mut self, name: &str) -> Result<TopicId, Refusal> {
        let id = self.live(name)?.id;
        let topic = self.topics.get_mut(name).expect("found above");
        topic.phase = Phase::Deleting;
        Ok(id)
    }

    /// The definition of a new topic is durable: the topic counts.
    pub fn confirm(&mut self, id: TopicId) -> Option<&TopicDefinition> {
        let topic = self.topics.get_mut(self.names.get(&id)?)?;
        if topic.phase == Phase::Creating {
            topic.phase = Phase::Live;
        }
        Some(&topic.definition)
    }

    /// The deletion is durable: the topic is gone.
    pub fn remove(&mut self, id: TopicId) -> Option<TopicDefinition> {
        let topic = self.topics.remove(&self.names.remove(&id)?)?;
        self.partitions -= u64::from(topic.definition.settings.partitions);
        self.keys.remove(&topic.definition.settings);
        Some(topic.definition)
    }

    /// A topic that counts, by name.
    ///
    /// # Errors
    /// [`ErrorCode::TopicNotFound`].
    pub fn live(&self, name: &str) -> Result<&TopicDefinition, Refusal> {
        match self.topics.get(name) {
            Some(Topic { definition, phase: Phase::Live }) => Ok(definition),
            Some(_) | None => Err((ErrorCode::TopicNotFound, format!("no topic '{name}'"))),
        }
    }

    /// A topic that counts, by identity.
    ///
    /// # Errors
    /// [`ErrorCode::TopicDeleted`]: an identity is known only to those who saw the topic.
    pub fn live_by_id(&self, id: TopicId) -> Result<&TopicDefinition, Refusal> {
        let topic = self.names.get(&id).and_then(|name| self.topics.get(name));
        match topic {
            Some(Topic { definition, phase: Phase::Live }) => Ok(definition),
            Some(_) | None => Err((ErrorCode::TopicDeleted, format!("topic {id} does not exist any more"))),
        }
    }

    /// A page of at most so many of the topics whose names come after `after`.
    pub fn list(&self, request: u32, after: &str, entries: usize) -> TopicList {
        let mut live = self.behind(after);
        let topics: Vec<TopicInfo> =
            live.by_ref().take(entries).map(|definition| info(0, definition)).collect();
        TopicList { request, more: live.next().is_some(), topics }
    }

    /// The topics that count whose names come after `after`, in order.
    pub fn behind(&self, after: &str) -> impl Iterator<Item = &TopicDefinition> {
        let later = self.topics.range::<str, _>((Bound::Excluded(after), Bound::Unbounded));
        let live = later.map(|(_, topic)| topic).filter(|topic| topic.phase == Phase::Live);
        live.map(|topic| &topic.definition)
    }

    /// Topics there are, whether they count or not.
    pub fn topics(&self) -> usize {
        self.topics.len()
    }

    /// Partitions of all topics together.
    pub const fn partitions(&self) -> u64 {
        self.partitions
    }

    fn check_settings(&self, settings: &TopicSettings) -> Result<(), Refusal> {
        let refuse = |detail: String| Err((ErrorCode::InvalidSetting, detail));
        if !(1..=TOPIC_PARTITIONS_MAX).contains(&settings.partitions) {
            let partitions = settings.partitions;
            return refuse(format!("{partitions} partitions: a topic has 1 to {TOPIC_PARTITIONS_MAX}"));
        }
        let most = self.limits.batch_bytes_max.min(BATCH_BYTES_LIMIT);
        if !(BATCH_BYTES_MIN..=most).contains(&settings.batch_bytes_max) {
            let bytes = settings.batch_bytes_max;
            return refuse(format!(
                "longest batch of {bytes} bytes: the range is {BATCH_BYTES_MIN} to {most}"
            ));
        }
        if settings.retention_age_us == Some(0) {
            return refuse("a retention age of 0 would keep nothing".to_owned());
        }
        if settings.retention_bytes == Some(0) {
            return refuse("retention of 0 bytes would keep nothing".to_owned());
        }
        Ok(())
    }
}

/// When another try makes sense after a refusal, in milliseconds; 0 where that follows from something else.
#[expect(clippy::wildcard_enum_match_arm, reason = "most refusals do not pass")]
pub const fn retry_after_ms(code: ErrorCode) -> u32 {
    match code {
        // A look at whether the disk has space again costs little, and takes about as long.
        ErrorCode::StorageFull => 1000,
        ErrorCode::Throttled => 100,
        _ => 0,
    }
}

/// What clients are told of a topic.
pub fn info(request: u32, definition: &TopicDefinition) -> TopicInfo {
    TopicInfo {
        request,
        id: definition.id,
        name: definition.name.clone(),
        created: definition.created,
        settings: definition.settings,
    }
}

/// Names are plain, so that they need no quoting in a shell, a URL or a log.
pub(crate) fn check_name(name: &str) -> Result<(), Refusal> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(plain) {
        return Err((ErrorCode::InvalidName, format!("{name:?} is no name")));
    }
    if name.starts_with("__") {
        return Err((ErrorCode::InvalidName, format!("{name:?}: names that begin with __ are the broker's")));
    }
    Ok(())
}

/// A small generator of numbers that look random: identities must differ, not be secret.
#[derive(Debug)]
struct Random(u64);

impl Random {
    /// Steele, Lea and Flood's SplitMix64.
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn topic_id(&mut self, now: Timestamp) -> TopicId {
        let mut random = [0u8; 10];
        let (high, low) = (self.next().to_le_bytes(), self.next().to_le_bytes());
        random.iter_mut().zip(high.into_iter().chain(low)).for_each(|(byte, value)| *byte = value);
        let millis = u64::try_from(now.as_micros() / 1000).unwrap_or(0);
        let uuid = Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
        TopicId::from_bytes(uuid.into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use weir_protocol::limits::DEDUP_HORIZON_US_DEFAULT;

    use super::*;

    const LIMITS: TopicLimits =
        TopicLimits { topics_max: 3, partitions_max: 20, batch_bytes_max: 1 << 20, key_disk_bytes: 1 << 30 };

    fn settings(partitions: u32) -> TopicSettings {
        TopicSettings {
            partitions,
            retention_age_us: None,
            retention_bytes: None,
            batch_bytes_max: 1 << 20,
            explicit_partitions: false,
            dedup_horizon_us: Some(DEDUP_HORIZON_US_DEFAULT),
            keyed_versions: false,
            dedup_keys_per_second: None,
            dedup_since: Timestamp::ZERO,
        }
    }

    fn coordinator() -> Coordinator {
        Coordinator::recovered(LIMITS, [], 7)
    }

    #[test]
    fn a_topic_counts_only_once_it_is_durable() {
        let mut coordinator = coordinator();
        let id = coordinator.create("orders", settings(2), Timestamp::ZERO).unwrap().id;
        assert_eq!(coordinator.live("orders").unwrap_err().0, ErrorCode::TopicNotFound);
        let again = coordinator.create("orders", settings(2), Timestamp::ZERO).unwrap_err();
        assert_eq!(again.0, ErrorCode::TopicExists);
        coordinator.confirm(id);
        assert_eq!(coordinator.live("orders").unwrap().id, id);
        coordinator.delete("orders").unwrap();
        assert_eq!(coordinator.live_by_id(id).unwrap_err().0, ErrorCode::TopicDeleted);
        coordinator.remove(id).unwrap();
        let new = coordinator.create("orders", settings(2), Timestamp::ZERO).unwrap();
        assert_ne!(new.id, id, "identities are not reused");
    }

    #[test]
    fn limits_are_kept_and_given_back() {
        let mut coordinator = coordinator();
        let id = coordinator.create("a", settings(15), Timestamp::ZERO).unwrap().id;
        let full = coordinator.create("b", settings(6), Timestamp::ZERO).unwrap_err();
        assert_eq!(full.0, ErrorCode::TooManyTopics);
        coordinator.confirm(id);
        coordinator.delete("a").unwrap();
        coordinator.remove(id);
        assert!(coordinator.create("b", settings(20), Timestamp::ZERO).is_ok());
        assert_eq!(coordinator.partitions(), 20);
    }

    #[test]
    fn bad_names_and_settings_are_refused() {
        let mut coordinator = coordinator();
        for name in ["", "a b", "a/b", "..\u{e4}", "__x", &"x".repeat(129)] {
            let refusal = coordinator.create(name, settings(1), Timestamp::ZERO).unwrap_err();
            assert_eq!(refusal.0, ErrorCode::InvalidName, "{name:?}");
        }
        for bad in [
            settings(0),
            settings(10_001),
            TopicSettings { batch_bytes_max: 1 << 21, ..settings(1) },
            TopicSettings { batch_bytes_max: 1, ..settings(1) },
            TopicSettings { retention_age_us: Some(0), ..settings(1) },
            TopicSettings { retention_bytes: Some(0), ..settings(1) },
        ] {
            let refusal = coordinator.create("a", bad, Timestamp::ZERO).unwrap_err();
            assert_eq!(refusal.0, ErrorCode::InvalidSetting, "{bad:?}");
        }
    }

    #[test]
    fn versions_of_keys_can_be_given_up_and_not_be_taken_up_again() {
        let mut coordinator = coordinator();
        let versioned = TopicSettings { keyed_versions: true, ..settings(1) };
        let id = coordinator.create("a", versioned, Timestamp::ZERO).unwrap().id;
        coordinator.confirm(id);
        assert!(coordinator.alter("a", versioned, Timestamp::ZERO).is_ok());
        assert!(coordinator.alter("a", settings(1), Timestamp::ZERO).is_ok());
        assert_eq!(
            coordinator.alter("a", versioned, Timestamp::ZERO).unwrap_err().0,
            ErrorCode::InvalidSetting
        );
    }

    #[test]
    fn pages_follow_each_other_by_name() {
        let limits = TopicLimits { topics_max: 5000, partitions_max: 5000, ..LIMITS };
        let mut coordinator = Coordinator::recovered(limits, [], 1);
        for number in 0..2500 {
            let id = coordinator.create(&format!("t{number:04}"), settings(1), Timestamp::ZERO).unwrap().id;
            coordinator.confirm(id);
        }
        let (mut after, mut seen) = (String::new(), Vec::new());
        loop {
            let page = coordinator.list(1, &after, 1000);
            seen.extend(page.topics.into_iter().map(|topic| topic.name));
            after = seen.last().unwrap().clone();
            if !page.more {
                break;
            }
        }
        assert_eq!(seen.len(), 2500);
        assert!(seen.is_sorted());
    }
}
