//! A dead letter: the record that was given up, and what is told of it in headers.

use serde_json::{Value, json};
use weir_client::{Delivered, Message};

/// How headers begin that the broker adds.
const OURS: &str = "weir-";

/// A record of a dead-letter topic.
#[derive(Debug)]
pub(super) struct Letter<'a>(pub(super) &'a Delivered);

impl Letter<'_> {
    /// What a header says; the last of its name, since the broker adds behind what was there.
    pub(super) fn told(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.message.headers.iter().rev().find(|(header, _)| header == name)?;
        str::from_utf8(value.as_deref()?).ok()
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.told(name)?.parse().ok()
    }

    /// The topic it came from, if it is a letter.
    pub(super) fn origin(&self) -> Option<&str> {
        self.told("weir-origin-topic")
    }

    /// The record as it was before it was given up, under a key by which it is recognised when it is sent again; nothing if
    /// its content is lost.
    pub(super) fn original(&self) -> Option<Message> {
        if self.told("weir-content-lost").is_some() {
            return None;
        }
        let Message { key, value, headers, .. } = self.0.message.clone();
        let headers = headers.into_iter().filter(|(name, _)| !name.starts_with(OURS)).collect();
        let again = format!("redrive-{}", self.0.message.idempotency_key.as_deref().map(text)?);
        Some(Message { key, value, headers, idempotency_key: Some(again.into()), ..Message::default() })
    }

    /// All that is told, as an object.
    pub(super) fn json(&self) -> Value {
        let message = &self.0.message;
        json!({
            "partition": self.0.partition,
            "offset": self.0.offset,
            "origin": {
                "topic": self.origin(),
                "partition": self.number("weir-origin-partition"),
                "offset": self.number("weir-origin-offset"),
            },
            "group": self.told("weir-group"),
            "attempts": self.number("weir-attempts"),
            "returned": self.number("weir-returned"),
            "reason": self.told("weir-reason"),
            "first_failure": self.number("weir-first-failure"),
            "last_failure": self.number("weir-last-failure"),
            "content_lost": self.told("weir-content-lost"),
            "key": message.key.as_deref().map(text),
            "value_bytes": message.value.as_ref().map(bytes::Bytes::len),
        })
    }

    /// A row of the table of letters.
    pub(super) fn row(&self) -> Vec<String> {
        let or_dash = |told: Option<&str>| told.unwrap_or("-").to_owned();
        let origin = format!(
            "{}:{}:{}",
            or_dash(self.origin()),
            or_dash(self.told("weir-origin-partition")),
            or_dash(self.told("weir-origin-offset"))
        );
        vec![
            format!("{}:{}", self.0.partition, self.0.offset),
            origin,
            or_dash(self.told("weir-group")),
            or_dash(self.told("weir-attempts")),
            self.0.message.key.as_deref().map_or_else(|| "-".to_owned(), text),
            or_dash(self.told("weir-reason")),
        ]
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
