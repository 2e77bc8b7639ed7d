//! Shows a manifest and a state file.

use std::path::Path;

use weir_protocol::read::Reader;
use xxhash_rust::xxh3::xxh3_64;

use super::codec::HEADER_BYTES as MANIFEST_HEADER_BYTES;
use super::state_file::{HEADER_BYTES as STATE_HEADER_BYTES, hash};
use super::{
    MANIFEST_BYTES_MAX, Manifest, ManifestError, Part, PartPlace, Paths, read_slot, state_id_of_name,
};
use crate::dedup::generation::{VERSIONS_CLASS, class_horizon_us};
use crate::disk::{Context, Disk, File};
use crate::dump::{DumpError, Item, Sink};
use crate::state::{decode_groups, decode_partitions, decode_topics};

pub(crate) use super::codec::MAGIC as MANIFEST_MAGIC;
pub(crate) use super::state_file::MAGIC as STATE_MAGIC;

/// Shows a manifest.
pub(crate) fn manifest<F: File>(file: &F, path: &Path, sink: &mut Sink<'_>) -> Result<(), DumpError> {
    let length = file.length().context("read the length of", path)?;
    let item = Item::new(0, "manifest", 0..length);
    let Some(length) = usize::try_from(length).ok().filter(|_| length <= MANIFEST_BYTES_MAX) else {
        return sink.put(item.damaged("longer than any manifest"));
    };
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0).context("read", path)?;
    let manifest = match Manifest::decode(&bytes, path) {
        Ok(Some(manifest)) => manifest,
        Ok(None) => {
            let header = bytes.get(..MANIFEST_HEADER_BYTES).and_then(<[u8]>::split_last_chunk::<8>);
            let whole = header.is_some_and(|(covered, hash)| xxh3_64(covered) == u64::from_le_bytes(*hash));
            return sink.put(item.damaged(if whole {
                "wrong hash of the body"
            } else {
                "wrong header hash"
            }));
        }
        Err(ManifestError::Disk(error)) => return Err(error.into()),
        Err(error @ ManifestError::NewerFormat { .. }) => return sink.put(item.damaged(error)),
    };
    sink.put(
        item.number("generation", manifest.generation)
            .text("node", uuid::Uuid::from_bytes(manifest.node))
            .number("incarnation", manifest.incarnation.get())
            .number("applied", manifest.applied.get())
            .number("next_segment", manifest.next_segment.get())
            .number("next_state", manifest.next_state)
            .text("clean", manifest.clean)
            .text("journal_made", manifest.born)
            .number("running_us", manifest.running_us),
    )?;
    // What the body lists has no place of its own that would mean anything to somebody.
    for (segment, facts) in &manifest.segments {
        let item = Item::new(1, "segment", 0..0).number("segment", segment.get());
        let directory_hash = format_args!("{:016x}", facts.directory_hash).to_string();
        sink.put(item.number("file_bytes", facts.bytes).text("directory_hash", directory_hash))?;
    }
    for (part, place) in &manifest.parts {
        sink.put(
            Item::new(1, "part", 0..0)
                .text("part", part_name(*part))
                .number("state_file", place.file)
                .number("position", place.position)
                .number("part_bytes", place.bytes),
        )?;
    }
    for (generation, facts) in &manifest.generations {
        let item = Item::new(1, "generation", 0..0).number("generation", generation.get());
        let item = item.number("file_bytes", facts.bytes).number("keys", facts.entries);
        let item = if facts.class == VERSIONS_CLASS {
            item.text("of", "versions")
        } else {
            let horizon_us = class_horizon_us(facts.class);
            item.number("horizon_us_max", horizon_us).number("expires_us", facts.expires_us)
        };
        sink.put(item)?;
    }
    for segment in &manifest.retired_segments {
        sink.put(Item::new(1, "retired segment", 0..0).number("segment", segment.get()))?;
    }
    for number in &manifest.retired_states {
        sink.put(Item::new(1, "retired state file", 0..0).number("state_file", *number))?;
    }
    Ok(())
}

fn part_name(part: Part) -> String {
    match part {
        Part::Topics => "topics".to_owned(),
        Part::Groups => "groups".to_owned(),
        Part::Shard(shard) => format!("shard {shard}"),
    }
}

/// Shows a state file. Which part stands where says the manifest of its data directory.
pub(crate) fn state<D: Disk>(
    disk: &D,
    file: &D::File,
    path: &Path,
    sink: &mut Sink<'_>,
) -> Result<(), DumpError> {
    let length = file.length().context("read the length of", path)?;
    let mut header = vec![0; usize::try_from(length).unwrap_or(usize::MAX).min(STATE_HEADER_BYTES)];
    file.read_exact_at(&mut header, 0).context("read", path)?;
    let whole = header
        .split_last_chunk::<8>()
        .is_some_and(|(covered, hash)| xxh3_64(covered) == u64::from_le_bytes(*hash));
    let name = path.file_name().and_then(|name| name.to_str()).and_then(state_id_of_name);
    let count = header.get(12..16).and_then(|bytes| Reader::new(bytes).u32().ok());
    let mut item = Item::new(0, "state", 0..header.len() as u64);
    if let Some(count) = count.filter(|_| whole) {
        item = item.number("parts", count);
    }
    if let Some(number) = name {
        item = item.number("state_file", number);
    }
    sink.put(item.unless(whole, "wrong header hash"))?;
    let root = path.parent().and_then(Path::parent).map(Paths::new);
    let mut named = false;
    for slot in [0, 1] {
        let found = root.as_ref().and_then(|paths| read_slot(disk, &paths.slot(slot)).ok());
        let Some(manifest) = found.as_ref().and_then(super::Found::manifest) else { continue };
        for (part, place) in manifest.parts.iter().filter(|(_, place)| Some(place.file) == name) {
            show_part(file, path, (manifest, *part, place), sink)?;
            named = true;
        }
        if named {
            return Ok(());
        }
    }
    let rest = header.len() as u64..length;
    sink.put(
        Item::new(1, "parts", rest)
            .text("unchecked", "no manifest names this file, so nobody knows its parts"),
    )
}

fn show_part<F: File>(
    file: &F,
    path: &Path,
    (manifest, part, place): (&Manifest, Part, &PartPlace),
    sink: &mut Sink<'_>,
) -> Result<(), DumpError> {
    let length = file.length().context("read the length of", path)?;
    let end = place.position.saturating_add(place.bytes);
    let item = Item::new(1, "part", place.position..end).text("part", part_name(part));
    let Some(bytes) = usize::try_from(place.bytes).ok().filter(|_| end <= length) else {
        return sink.put(item.damaged(format_args!("the file has only {length} bytes")));
    };
    let mut content = vec![0; bytes];
    file.read_exact_at(&mut content, place.position).context("read", path)?;
    let is_right = hash(&manifest.node, place.file, part, &content) == place.hash;
    sink.put(item.unless(is_right, "wrong checksum"))?;
    let bytes = place.position..end;
    let decoded = match part {
        Part::Topics => decode_topics(&content).map(|(topics, claims)| {
            let show = |topic: &crate::frame::TopicDefinition| {
                Item::new(2, "topic", bytes.clone())
                    .text("topic", topic.id)
                    .text("name", &topic.name)
                    .number("partitions", topic.settings.partitions)
                    .number("revision", topic.revision)
            };
            let names =
                claims.iter().flat_map(|(topic, names)| names.iter().map(move |claimed| (topic, claimed)));
            let claimed = names.map(|(topic, (name, claim))| {
                let item = Item::new(2, "claim", bytes.clone()).text("topic", topic).text("name", name);
                item.number("producer", claim.producer.get()).number("epoch", claim.epoch.get())
            });
            topics.values().map(show).chain(claimed).collect::<Vec<_>>()
        }),
        Part::Groups => decode_groups(&content).map(|groups| {
            let show = |group: &crate::frame::GroupDefinition| {
                Item::new(2, "group", bytes.clone())
                    .number("group", group.id.get())
                    .text("name", &group.name)
                    .text("topic", group.topic)
            };
            groups.values().map(show).collect()
        }),
        Part::Shard(_) => decode_partitions(&content).map(|partitions| {
            let show =
                |(key, state): (&weir_protocol::units::PartitionKey, &crate::state::PartitionState)| {
                    Item::new(2, "partition", bytes.clone())
                        .text("partition", key)
                        .number("epoch", state.epoch.get())
                        .number("log_start", state.log_start.get())
                        .number("end_offset", state.end_offset.get())
                        .moment("last_append_time", state.last_append_time)
                        .number("producers", state.producers.count() as u64)
                        .number("cursors", state.cursors.len() as u64)
                        .number("failures", state.failures.len() as u64)
                };
            partitions.iter().map(show).collect()
        }),
    };
    match decoded {
        Ok(items) => items.into_iter().try_for_each(|item| sink.put(item)),
        Err(error) => sink.put(Item::new(2, "content", bytes).damaged(error)),
    }
}
