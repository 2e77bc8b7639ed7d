//! The format of `tail -f`: text with `%` fields and `\` escapes.

use std::io::Write as _;

use super::Row;

/// A field of a record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Field {
    Topic,
    Partition,
    Offset,
    Key,
    Value,
    Timestamp,
    Headers,
    Id,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Piece {
    Text(Vec<u8>),
    Field(Field),
}

/// What is printed for each record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Format {
    pieces: Vec<Piece>,
}

/// Why a text is not a format.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum FormatError {
    /// There is no such field.
    #[error(
        "unknown field '%{0}': use %t topic, %p partition, %o offset, %k key, %v value, %T timestamp, %h headers, %i id, %% percent"
    )]
    Field(char),
    /// There is no such escape.
    #[error("unknown escape '\\{0}': use \\n, \\r, \\t, \\0, \\\\")]
    Escape(char),
    /// The text ends where something must follow.
    #[error("the format ends in a lone '{0}'")]
    Ends(char),
}

impl Format {
    /// Each value on a line of its own.
    pub(crate) fn value_lines() -> Self {
        Self { pieces: vec![Piece::Field(Field::Value), Piece::Text(b"\n".to_vec())] }
    }

    /// Reads a format.
    pub(crate) fn parse(text: &str) -> Result<Self, FormatError> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            match character {
                '%' => match field(characters.next().ok_or(FormatError::Ends('%'))?)? {
                    Some(field) => {
                        take_literal(&mut literal, &mut pieces);
                        pieces.push(Piece::Field(field));
                    }
                    None => literal.push('%'),
                },
                '\\' => literal.push(escape(characters.next().ok_or(FormatError::Ends('\\'))?)?),
                other => literal.push(other),
            }
        }
        take_literal(&mut literal, &mut pieces);
        Ok(Self { pieces })
    }

    /// Appends the record to `out`. What it does not have is printed as nothing.
    pub(crate) fn write(&self, row: &Row<'_>, out: &mut Vec<u8>) {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text),
                Piece::Field(field) => write_field(*field, row, out),
            }
        }
    }
}

fn take_literal(literal: &mut String, pieces: &mut Vec<Piece>) {
    if !literal.is_empty() {
        pieces.push(Piece::Text(std::mem::take(literal).into_bytes()));
    }
}

/// The field behind a percent sign; none for the percent sign itself.
fn field(letter: char) -> Result<Option<Field>, FormatError> {
    Ok(Some(match letter {
        't' => Field::Topic,
        'p' => Field::Partition,
        'o' => Field::Offset,
        'k' => Field::Key,
        'v' => Field::Value,
        'T' => Field::Timestamp,
        'h' => Field::Headers,
        'i' => Field::Id,
        '%' => return Ok(None),
        other => return Err(FormatError::Field(other)),
    }))
}

fn escape(letter: char) -> Result<char, FormatError> {
    match letter {
        'n' => Ok('\n'),
        'r' => Ok('\r'),
        't' => Ok('\t'),
        '0' => Ok('\0'),
        '\\' => Ok('\\'),
        other => Err(FormatError::Escape(other)),
    }
}

fn write_field(field: Field, row: &Row<'_>, out: &mut Vec<u8>) {
    match field {
        Field::Topic => out.extend_from_slice(row.topic.as_bytes()),
        Field::Key => out.extend_from_slice(row.key.unwrap_or_default()),
        Field::Value => out.extend_from_slice(row.value.unwrap_or_default()),
        Field::Id => out.extend_from_slice(row.id.unwrap_or_default()),
        Field::Partition => number(i128::from(row.partition), out),
        Field::Offset => number(i128::from(row.offset), out),
        Field::Timestamp => number(i128::from(row.timestamp), out),
        Field::Headers => {
            for (index, (name, value)) in row.headers.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(name.as_bytes());
                out.push(b'=');
                out.extend_from_slice(value.as_deref().unwrap_or_default());
            }
        }
    }
}

fn number(value: i128, out: &mut Vec<u8>) {
    write!(out, "{value}").expect("writing to memory cannot fail");
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn printed(format: &str) -> Vec<u8> {
        let headers = [("a".to_owned(), Some(Bytes::from_static(b"1"))), ("b".to_owned(), None)];
        let row = Row {
            topic: "orders",
            partition: 3,
            offset: u64::MAX,
            timestamp: -9,
            create_time: 1,
            key: None,
            value: Some(b"\xffvalue"),
            headers: &headers,
            id: Some(b"pay-7"),
        };
        let mut out = Vec::new();
        Format::parse(format).unwrap().write(&row, &mut out);
        out
    }

    #[test]
    fn every_field_is_printed() {
        assert_eq!(
            printed("%t/%p:%o [%k] %v %T %h %i"),
            b"orders/3:18446744073709551615 [] \xffvalue -9 a=1,b= pay-7"
        );
    }

    #[test]
    fn escapes_and_percent_are_themselves() {
        assert_eq!(printed(r"a\tb\nc\\d\r\0%%v"), b"a\tb\nc\\d\r\0%v");
        assert_eq!(printed(""), b"");
        assert_eq!(printed("\u{e9}%%"), "\u{e9}%".as_bytes());
    }

    #[test]
    fn the_default_is_the_value_and_a_newline() {
        assert_eq!(Format::parse(r"%v\n"), Ok(Format::value_lines()));
    }

    #[test]
    fn what_is_unknown_is_refused() {
        assert_eq!(Format::parse("%x"), Err(FormatError::Field('x')));
        assert_eq!(Format::parse(r"\q"), Err(FormatError::Escape('q')));
        assert_eq!(Format::parse("100%"), Err(FormatError::Ends('%')));
        assert_eq!(Format::parse("\\"), Err(FormatError::Ends('\\')));
    }
}
