//! Consumer groups: made, looked at, moved and removed.

use std::time::{Duration, SystemTime};

use weir_protocol::ErrorCode;
use weir_protocol::limits::{NUMBER_MAX, START_OFFSETS_MAX};
use weir_protocol::message::{self as wire, WaitsFor};
use weir_protocol::units::{Offset, PartitionId};

use crate::admin::{Admin, Trim, TrimBefore};
use crate::core::requests::Repeat;
use crate::error::Error;
use crate::message::system_time;
use crate::net::shared::expect;
use crate::options::{Redelivery, Start};

/// A consumer group in short.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct GroupSummary {
    /// Its name.
    pub group: String,
    /// The topic it reads.
    pub topic: String,
    /// When it was made.
    pub created: SystemTime,
    /// Its members.
    pub members: u32,
    /// Partitions of its topic.
    pub partitions: u32,
    /// Records that it has not settled.
    pub lag: u64,
}

/// A member of a group.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct GroupMember {
    /// Its name.
    pub member: String,
    /// Whether the broker has its stream.
    pub connected: bool,
    /// Partitions leased to it.
    pub partitions: u32,
    /// Milliseconds until its leases end if it is not heard of.
    pub lease_left_ms: u32,
}

/// Where a group stands in a partition.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct GroupPartition {
    /// The partition.
    pub partition: u32,
    /// The first record that is not settled.
    pub committed: u64,
    /// The offset after the last visible record.
    pub end_offset: u64,
    /// Records that are not settled.
    pub lag: u64,
    /// Records above `committed` that are settled.
    pub settled_above: u64,
    /// The member it is leased to.
    pub owner: Option<String>,
    /// The lease.
    pub lease: Option<u64>,
    /// Whether the owner was asked to give it back.
    pub revoked: bool,
    /// What the owner's reading waits for: [`WaitsFor::Records`] if it has everything, [`WaitsFor::Application`] if it takes no
    /// more now. `None` if nothing reads it: it is free, about to be given back, or waits for a record that has failed.
    pub waits_for: Option<WaitsFor>,
}

/// A group with its members and positions.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct GroupDescription {
    /// The group in short.
    pub summary: GroupSummary,
    /// Its members, in order of name.
    pub members: Vec<GroupMember>,
    /// All partitions, in order of number.
    pub partitions: Vec<GroupPartition>,
}

/// What a group does with records that fail, and which have.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct GroupFailures {
    /// What it does.
    pub redelivery: Redelivery,
    /// Partitions with records that have failed, in order of number.
    pub partitions: Vec<FailingPartition>,
}

/// A partition with records that have failed.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct FailingPartition {
    /// The partition.
    pub partition: u32,
    /// Records that are to be delivered again.
    pub records: u32,
    /// The first of them.
    pub first: Option<u64>,
    /// How often that one has failed.
    pub failed: u32,
    /// How often it came back without a verdict.
    pub returned: u32,
    /// Time until it is delivered again.
    pub wait: Duration,
    /// Dead letters that are not in the dead-letter topic yet.
    pub letters: u32,
    /// Why they are not, if they were tried.
    pub letters_wait_for: Option<&'static str>,
}

/// Where a group stood in a partition, and where it stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct MovedPosition {
    /// The partition.
    pub partition: u32,
    /// The first record that was not settled.
    pub from: u64,
    /// The first record that is not settled now.
    pub to: u64,
}

impl Admin {
    /// Makes a group that reads a topic from a start on; where an offset or checkpoint names no start, from the first
    /// record on.
    ///
    /// More than 256 partitions cannot be given offsets of their own at once: such a group is made with the first or the
    /// next records, and moved.
    ///
    /// # Errors
    /// `WEIR-4102` if the topic has one of that name, `WEIR-2001` if there is no such topic, `WEIR-2003` for a name that
    /// is not allowed, `WEIR-4001` with both bounds for an offset that a partition does not hold, `WEIR-1028` if the
    /// connection was lost before the answer came: then it may have been made.
    ///
    /// # Cancel safety
    /// If dropped before completion the group may have been made.
    pub async fn create_group(&self, topic: &str, group: &str, start: &Start) -> Result<(), Error> {
        let start = self.group_start(topic, start).await?;
        if let wire::GroupStart::Offsets(named) = &start
            && named.len() > START_OFFSETS_MAX
        {
            return Err(Error::invalid(format!(
                "a group starts in at most {START_OFFSETS_MAX} partitions at an offset of its own, not in {}: make it with \
                 the first or the next records, and move it then",
                named.len()
            )));
        }
        let (topic, group) = (topic.to_owned(), group.to_owned());
        let make = move |request| wire::CreateGroup { request, topic, group, start };
        expect::<wire::Done>(&self.shared().request(make, Repeat::Never).await?).map(|_| ())
    }

    /// Removes a group that has no members, with its positions.
    ///
    /// # Errors
    /// `WEIR-4101` if there is no such group, `WEIR-4105` if it has members, `WEIR-1028` if the connection was lost
    /// before the answer came: then it may have been removed.
    ///
    /// # Cancel safety
    /// If dropped before completion the group may have been removed.
    pub async fn delete_group(&self, topic: &str, group: &str) -> Result<(), Error> {
        let (topic, group) = (topic.to_owned(), group.to_owned());
        let make = move |request| wire::DeleteGroup { request, topic, group };
        expect::<wire::Done>(&self.shared().request(make, Repeat::Never).await?).map(|_| ())
    }

    /// Moves a group, whose members go on from there: all partitions, or the one that [`Start::Offset`] names. A dry run
    /// moves nothing and says what would be. More than 256 offsets go in pages: the group moves in one after the other.
    ///
    /// # Errors
    /// `WEIR-4101` if there is no such group, `WEIR-4001` with both bounds for an offset that a partition does not hold.
    ///
    /// # Cancel safety
    /// If dropped before completion the group may have been moved.
    pub async fn reset_group(
        &self,
        topic: &str,
        group: &str,
        to: &Start,
        dry_run: bool,
    ) -> Result<Vec<MovedPosition>, Error> {
        let to = match self.group_start(topic, to).await? {
            wire::GroupStart::Offsets(offsets) => offsets,
            to @ (wire::GroupStart::Earliest | wire::GroupStart::Latest) => {
                return self.reset_page((topic, group), to, dry_run).await;
            }
        };
        let pages = || to.chunks(START_OFFSETS_MAX).map(|page| wire::GroupStart::Offsets(page.to_vec()));
        if !dry_run && to.len() > START_OFFSETS_MAX {
            // What one page would be refused for moves nothing of another.
            for page in pages() {
                self.reset_page((topic, group), page, true).await?;
            }
        }
        let mut moved = Vec::new();
        for page in pages() {
            moved.extend(self.reset_page((topic, group), page, dry_run).await?);
        }
        Ok(moved)
    }

    async fn reset_page(
        &self,
        (topic, group): (&str, &str),
        to: wire::GroupStart,
        dry_run: bool,
    ) -> Result<Vec<MovedPosition>, Error> {
        let (topic, group) = (topic.to_owned(), group.to_owned());
        let make = move |request| wire::ResetGroup { request, topic, group, to, dry_run };
        let answer: wire::GroupReset = expect(&self.shared().request(make, Repeat::Harmless).await?)?;
        let moved = answer.partitions.iter().map(|moved| MovedPosition {
            partition: moved.partition.get(),
            from: moved.from.get(),
            to: moved.to.get(),
        });
        Ok(moved.collect())
    }

    /// All groups, in order of their names and their topics' names.
    ///
    /// # Errors
    /// If the broker cannot be asked.
    ///
    /// # Cancel safety
    /// If dropped before completion nothing happened.
    pub async fn list_groups(&self) -> Result<Vec<GroupSummary>, Error> {
        let mut groups: Vec<GroupSummary> = Vec::new();
        loop {
            let last = groups.last().map(|last| (last.group.clone(), last.topic.clone()));
            let (after_group, after_topic) = last.unwrap_or_default();
            let make = move |request| wire::ListGroups { request, after_group, after_topic };
            let page: wire::GroupList = expect(&self.shared().request(make, Repeat::Harmless).await?)?;
            let is_last = !page.more || page.groups.is_empty();
            groups.extend(page.groups.into_iter().map(summary));
            if is_last {
                return Ok(groups);
            }
        }
    }

    /// A group with its members and all its positions.
    ///
    /// # Errors
    /// `WEIR-4101` if there is no such group.
    ///
    /// # Cancel safety
    /// If dropped before completion nothing happened.
    pub async fn describe_group(&self, topic: &str, group: &str) -> Result<GroupDescription, Error> {
        let mut partitions = Vec::new();
        loop {
            let first_partition = PartitionId::new(u32::try_from(partitions.len()).unwrap_or(u32::MAX));
            let (topic, group) = (topic.to_owned(), group.to_owned());
            let make = move |request| wire::DescribeGroup { request, topic, group, first_partition };
            let page: wire::GroupDescription = expect(&self.shared().request(make, Repeat::Harmless).await?)?;
            let count = page.partitions.len();
            partitions.extend(page.partitions.iter().map(|info| partition(info, &page.members)));
            if count == 0 || partitions.len() >= page.group.partitions as usize {
                let members = page.members.into_iter().map(|info| GroupMember {
                    member: info.member,
                    connected: info.connected,
                    partitions: info.partitions,
                    lease_left_ms: info.lease_left_ms,
                });
                let members = members.collect();
                return Ok(GroupDescription { summary: summary(page.group), members, partitions });
            }
        }
    }

    /// Says what a group does with records that fail, from now on.
    ///
    /// # Errors
    /// `WEIR-4101` if there is no such group, `WEIR-4113` if there is no such dead-letter topic or it recognises no records
    /// that are sent again, `WEIR-2004` for times that make no sense.
    ///
    /// # Cancel safety
    /// If dropped before completion it may have been said.
    pub async fn set_redelivery(
        &self,
        topic: &str,
        group: &str,
        redelivery: &Redelivery,
    ) -> Result<(), Error> {
        let (topic, group, redelivery) = (topic.to_owned(), group.to_owned(), redelivery.0.clone());
        let make = move |request| wire::SetRedelivery { request, topic, group, redelivery };
        expect::<wire::Done>(&self.shared().request(make, Repeat::Harmless).await?).map(|_| ())
    }

    /// What a group does with records that fail, and the partitions that have some.
    ///
    /// # Errors
    /// `WEIR-4101` if there is no such group.
    ///
    /// # Cancel safety
    /// If dropped before completion nothing happened.
    pub async fn group_failures(&self, topic: &str, group: &str) -> Result<GroupFailures, Error> {
        let mut partitions: Vec<FailingPartition> = Vec::new();
        loop {
            let next = partitions.last().map_or(0, |last| last.partition + 1);
            let (topic, group) = (topic.to_owned(), group.to_owned());
            let first_partition = PartitionId::new(next);
            let make = move |request| wire::DescribeFailures { request, topic, group, first_partition };
            let page: wire::GroupFailures = expect(&self.shared().request(make, Repeat::Harmless).await?)?;
            let is_last = !page.more || page.partitions.is_empty();
            partitions.extend(page.partitions.iter().map(failing));
            if is_last {
                return Ok(GroupFailures { redelivery: Redelivery(page.redelivery), partitions });
            }
        }
    }

    /// What the broker is told: it knows first and next records, and offsets.
    async fn group_start(&self, topic: &str, start: &Start) -> Result<wire::GroupStart, Error> {
        let offsets: Vec<(u32, u64)> = match start {
            Start::Earliest => return Ok(wire::GroupStart::Earliest),
            Start::Latest => return Ok(wire::GroupStart::Latest),
            Start::Offset(partition, offset) => vec![(*partition, *offset)],
            Start::Resume(checkpoint) => checkpoint.positions().collect(),
            Start::Last(count) => {
                let partitions = self.describe_topic(topic).await?.partitions.into_iter();
                let place = |start: u64, end: u64| end.saturating_sub(*count).max(start);
                partitions.map(|info| (info.partition, place(info.start_offset, info.end_offset))).collect()
            }
            Start::Timestamp(time) => {
                let mut offsets = Vec::new();
                for info in self.describe_topic(topic).await?.partitions {
                    let (partition, before) = (info.partition, TrimBefore::Time(*time));
                    let found = self.trim(topic, Trim { partition, before, dry_run: true }).await?;
                    offsets.push((partition, found.start_offset));
                }
                offsets
            }
        };
        if let Some((_, offset)) = offsets.iter().find(|(_, offset)| *offset > NUMBER_MAX) {
            return Err(Error::invalid(format!("{offset} is no offset")));
        }
        let place = |(partition, offset)| (PartitionId::new(partition), Offset::new(offset));
        Ok(wire::GroupStart::Offsets(offsets.into_iter().map(place).collect()))
    }
}

/// Whether a group that was to be made is there.
pub(crate) fn is_there(error: &Error) -> bool {
    error.broker_code() == Some(ErrorCode::GroupExists)
}

fn failing(info: &wire::FailingPartition) -> FailingPartition {
    FailingPartition {
        partition: info.partition.get(),
        records: info.records,
        first: (info.records > 0).then_some(info.first.get()),
        failed: info.failed,
        returned: info.returned,
        wait: Duration::from_millis(u64::from(info.wait_ms)),
        letters: info.letters,
        letters_wait_for: info.letters_refused.map(ErrorCode::name),
    }
}

fn summary(info: wire::GroupInfo) -> GroupSummary {
    GroupSummary {
        group: info.group,
        topic: info.topic,
        created: system_time(info.created),
        members: info.members,
        partitions: info.partitions,
        lag: info.lag,
    }
}

fn partition(info: &wire::GroupPartition, members: &[wire::MemberInfo]) -> GroupPartition {
    let (committed, end_offset) = (info.committed.get(), info.end_offset.get());
    let owner = info.owner.and_then(|(owner, _)| members.get(owner as usize));
    GroupPartition {
        partition: info.partition.get(),
        committed,
        end_offset,
        lag: end_offset.saturating_sub(committed).saturating_sub(info.settled_above),
        settled_above: info.settled_above,
        owner: owner.map(|owner| owner.member.clone()),
        lease: info.owner.map(|(_, lease)| lease.get()),
        revoked: info.revoked,
        waits_for: info.waits_for,
    }
}
