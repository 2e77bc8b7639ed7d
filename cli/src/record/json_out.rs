//! A record as one JSON object on a line. Written by hand: it is on the path of every record that is printed.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Row;

/// Appends the record and a newline to `out`.
pub(crate) fn write_json(row: &Row<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"topic\":");
    string(row.topic, out);
    numbers(row, out);
    out.push(b',');
    bytes_field("key", row.key, out);
    out.push(b',');
    bytes_field("value", row.value, out);
    out.extend_from_slice(b",\"headers\":[");
    for (index, (name, value)) in row.headers.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b"{\"key\":" } else { b",{\"key\":" });
        string(name, out);
        out.push(b',');
        bytes_field("value", value.as_deref(), out);
        out.push(b'}');
    }
    out.extend_from_slice(b"],");
    bytes_field("id", row.id, out);
    out.extend_from_slice(b"}\n");
}

fn numbers(row: &Row<'_>, out: &mut Vec<u8>) {
    write!(
        out,
        ",\"partition\":{},\"offset\":{},\"timestamp\":{},\"create_time\":{}",
        row.partition, row.offset, row.timestamp, row.create_time
    )
    .expect("writing to memory cannot fail");
}

/// Appends `"name":"text"`, or `"name_b64":"..."` if the bytes are not UTF-8, or `"name":null` if there are none.
fn bytes_field(name: &str, bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    match bytes.map(|bytes| (bytes, str::from_utf8(bytes))) {
        None => out.extend_from_slice(b"\":null"),
        Some((_, Ok(text))) => {
            out.extend_from_slice(b"\":");
            string(text, out);
        }
        Some((bytes, Err(_))) => {
            out.extend_from_slice(b"_b64\":\"");
            out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
            out.push(b'"');
        }
    }
}

fn string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("writing to memory cannot fail");
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn json(row: &Row<'_>) -> serde_json::Value {
        let mut out = Vec::new();
        write_json(row, &mut out);
        assert_eq!(out.pop(), Some(b'\n'), "a record is a line");
        assert!(!out.contains(&b'\n'), "a record is one line");
        serde_json::from_slice(&out).unwrap()
    }

    fn row<'a>(key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> Row<'a> {
        Row {
            topic: "orders",
            partition: 3,
            offset: 17,
            timestamp: 1_700_000_000_000_001,
            create_time: -5,
            key,
            value,
            headers: &[],
            id: None,
        }
    }

    #[test]
    fn text_is_text_and_bytes_are_base64() {
        let object = json(&row(Some(b"user \"42\"\n"), Some(&[0xff, 0x00])));
        assert_eq!(
            object,
            serde_json::json!({"topic": "orders", "partition": 3, "offset": 17, "timestamp": 1_700_000_000_000_001_i64,
                "create_time": -5, "key": "user \"42\"\n", "value_b64": "/wA=", "headers": [], "id": null})
        );
    }

    #[test]
    fn missing_is_null_and_empty_is_empty() {
        let object = json(&row(None, Some(b"")));
        assert_eq!(object["key"], serde_json::Value::Null);
        assert_eq!(object["value"], "");
        assert_eq!(json(&row(Some(b""), None))["value"], serde_json::Value::Null);
    }

    #[test]
    fn headers_repeat_and_may_be_binary_or_null() {
        let headers = [
            ("a".to_owned(), Some(Bytes::from_static(b"1"))),
            ("a".to_owned(), Some(Bytes::from_static(&[0x80]))),
            ("b".to_owned(), None),
        ];
        let object = json(&Row { headers: &headers, id: Some(b"pay-7"), ..row(None, None) });
        assert_eq!(
            object["headers"],
            serde_json::json!([{"key": "a", "value": "1"}, {"key": "a", "value_b64": "gA=="}, {"key": "b", "value": null}])
        );
        assert_eq!(object["id"], "pay-7");
    }
}
