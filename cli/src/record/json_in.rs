//! A line of JSON as a record: what `send --in json` takes, including what `tail --json` prints.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use weir_client::{Expect, Message};

use crate::value::from_micros;

/// Why a line is not a record.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LineError {
    /// It is not JSON, or not an object with the known fields.
    #[error("column {column}: {problem}")]
    Json {
        /// The byte of the line, from 1, at which it was noticed.
        column: usize,
        /// What was wrong.
        problem: String,
    },
    /// A field and its base64 form are both there.
    #[error("'{0}' and '{0}_b64' exclude each other")]
    Both(&'static str),
    /// A field is not base64.
    #[error("'{field}_b64' is not base64: {problem}")]
    Base64 {
        /// The field.
        field: &'static str,
        /// What was wrong.
        problem: base64::DecodeError,
    },
}

/// The fields of a line. Those that `tail` adds are taken and, where they cannot be chosen, ignored.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    key: Option<String>,
    key_b64: Option<String>,
    value: Option<String>,
    value_b64: Option<String>,
    headers: Option<Vec<HeaderLine>>,
    id: Option<String>,
    id_b64: Option<String>,
    id_time: Option<i64>,
    partition: Option<u32>,
    expect: Option<ExpectLine>,
    create_time: Option<i64>,
    offset: Option<IgnoredAny>,
    #[serde(rename = "topic")]
    _topic: Option<IgnoredAny>,
    #[serde(rename = "timestamp")]
    _timestamp: Option<IgnoredAny>,
}

/// What must be so for the record to be stored: `{"key_at": 7}`, `{"partition_at": 7}` or `"key_absent"`.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ExpectLine {
    PartitionAt(u64),
    KeyAt(u64),
    KeyAbsent,
}

impl From<ExpectLine> for Expect {
    fn from(line: ExpectLine) -> Self {
        match line {
            ExpectLine::PartitionAt(offset) => Self::PartitionAt(offset),
            ExpectLine::KeyAt(offset) => Self::KeyAt(offset),
            ExpectLine::KeyAbsent => Self::KeyAbsent,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderLine {
    key: String,
    value: Option<String>,
    value_b64: Option<String>,
}

/// Reads a record from a line.
///
/// A line with an `offset` is a record that was read from a topic: its `partition` says where it was, not where
/// it shall go, so it is not taken over.
pub(crate) fn parse_line(line: &[u8]) -> Result<Message, LineError> {
    let line: Line = serde_json::from_slice(line).map_err(|error| json_error(&error))?;
    let mut message = Message {
        key: field("key", line.key, line.key_b64)?,
        value: field("value", line.value, line.value_b64)?,
        headers: Vec::new(),
        idempotency_key: field("id", line.id, line.id_b64)?,
        idempotency_time: line.id_time.map(from_micros),
        partition: if line.offset.is_some() { None } else { line.partition },
        expect: line.expect.map(Expect::from),
        create_time: line.create_time.map(from_micros),
    };
    for header in line.headers.unwrap_or_default() {
        message.headers.push((header.key, field("value", header.value, header.value_b64)?));
    }
    Ok(message)
}

/// One field from its two forms.
fn field(
    name: &'static str,
    text: Option<String>,
    base64: Option<String>,
) -> Result<Option<Bytes>, LineError> {
    match (text, base64) {
        (Some(_), Some(_)) => Err(LineError::Both(name)),
        (Some(text), None) => Ok(Some(Bytes::from(text))),
        (None, Some(base64)) => {
            let bytes =
                STANDARD.decode(base64).map_err(|problem| LineError::Base64 { field: name, problem })?;
            Ok(Some(Bytes::from(bytes)))
        }
        (None, None) => Ok(None),
    }
}

/// The problem without serde's own position, which names line 1 of what is one line of many.
fn json_error(error: &serde_json::Error) -> LineError {
    let text = error.to_string();
    let problem = text.rsplit_once(" at line ").map_or(text.as_str(), |(problem, _)| problem);
    LineError::Json { column: error.column(), problem: problem.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::{Row, write_json};
    use super::*;

    #[test]
    fn every_field_is_taken() {
        let message = parse_line(
            br#"{"key":"k","value_b64":"/wA=","headers":[{"key":"h","value":"1"},{"key":"h"}],"id":"pay-7","id_time":7,
                "partition":3,"expect":{"key_at":7},"create_time":-5}"#,
        )
        .unwrap();
        assert_eq!(message.key.as_deref(), Some(&b"k"[..]));
        assert_eq!(message.value.as_deref(), Some(&[0xff, 0][..]));
        assert_eq!(
            message.headers,
            [("h".to_owned(), Some(Bytes::from_static(b"1"))), ("h".to_owned(), None)]
        );
        assert_eq!(message.idempotency_key.as_deref(), Some(&b"pay-7"[..]));
        assert_eq!(message.idempotency_time, Some(from_micros(7)));
        assert_eq!(message.partition, Some(3));
        assert_eq!(message.expect, Some(Expect::KeyAt(7)));
        let absent = parse_line(br#"{"key":"k","expect":"key_absent"}"#).unwrap();
        assert_eq!(absent.expect, Some(Expect::KeyAbsent));
        let first = parse_line(br#"{"expect":{"partition_at":0}}"#).unwrap();
        assert_eq!(first.expect, Some(Expect::PartitionAt(0)));
        assert_eq!(message.create_time, Some(from_micros(-5)));
    }

    #[test]
    fn null_and_absent_are_none_and_empty_is_empty() {
        let message = parse_line(br#"{"key":null,"value":""}"#).unwrap();
        assert_eq!((message.key, message.value), (None, Some(Bytes::new())));
        assert_eq!(parse_line(b"{}").unwrap().value, None);
    }

    #[test]
    fn what_tail_prints_is_the_same_record_again() {
        let headers = [("a".to_owned(), Some(Bytes::from_static(&[0x80, 1]))), ("a".to_owned(), None)];
        let row = Row {
            topic: "t",
            partition: 9,
            offset: 4,
            timestamp: 77,
            create_time: 55,
            key: Some(&[0xfe]),
            value: Some("line\nwith \"quotes\" and \u{1f980}".as_bytes()),
            headers: &headers,
            id: Some(b"id"),
        };
        let mut line = Vec::new();
        write_json(&row, &mut line);
        let message = parse_line(&line).unwrap();
        assert_eq!(message.key.as_deref(), row.key);
        assert_eq!(message.value.as_deref(), row.value);
        assert_eq!(message.headers, headers);
        assert_eq!(message.idempotency_key.as_deref(), row.id);
        assert_eq!(message.create_time, Some(from_micros(55)));
        assert_eq!(message.partition, None, "where it was does not decide where it goes");
    }

    #[test]
    fn a_wrong_line_says_where_and_what() {
        let text = |line: &[u8]| parse_line(line).unwrap_err().to_string();
        assert!(text(br#"{"vlaue":"x"}"#).contains("unknown field `vlaue`"));
        assert!(
            text(br#"{"value":5}"#).starts_with("column 10: invalid type: integer `5`"),
            "{}",
            text(br#"{"value":5}"#)
        );
        assert!(text(b"hello").starts_with("column 1: expected value"));
        assert!(text(b"\xff\xfe").starts_with("column 1: "));
        assert!(text(br#"{"value":"a","value_b64":"YQ=="}"#).contains("exclude each other"));
        assert!(text(br#"{"key_b64":"*"}"#).contains("'key_b64' is not base64"));
        assert!(text(br#"["a"]"#).starts_with("column "));
        assert!(text(b"{} x").starts_with("column 4: trailing characters"));
    }
}
