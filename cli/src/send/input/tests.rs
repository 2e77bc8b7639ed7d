use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// Gives out what it holds piece by piece, as a pipe does.
struct Pieces(VecDeque<Vec<u8>>);

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let Some(piece) = self.0.pop_front() else { return Ok(0) };
        let count = piece.len().min(buffer.len());
        buffer[..count].copy_from_slice(&piece[..count]);
        if count < piece.len() {
            self.0.push_front(piece[count..].to_vec());
        }
        Ok(count)
    }
}

/// Blocks that reading makes of the pieces.
fn blocks_of(pieces: Vec<Vec<u8>>, format: InputFormat) -> Vec<Block> {
    let (send, mut receive) = mpsc::channel(10_000);
    let pieces = pieces.into_iter().filter(|piece| !piece.is_empty()).collect();
    read(Pieces(pieces), Path::new("test"), format, &send).unwrap();
    drop(send);
    std::iter::from_fn(|| receive.blocking_recv()).map(Result::unwrap).collect()
}

fn lines_of(pieces: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let blocks = blocks_of(pieces, InputFormat::Lines);
    blocks.into_iter().flat_map(|block| Lines { rest: block.bytes }).map(|line| line.to_vec()).collect()
}

fn text(lines: &[&str]) -> Vec<Vec<u8>> {
    lines.iter().map(|line| line.as_bytes().to_vec()).collect()
}

#[test]
fn lines_end_at_newlines_and_at_the_end() {
    assert_eq!(lines_of(text(&["a\nb\n"])), text(&["a", "b"]));
    assert_eq!(lines_of(text(&["a\nb"])), text(&["a", "b"]), "a last line without a newline counts");
    assert_eq!(lines_of(text(&["a\r\n\n\nb"])), text(&["a\r", "", "", "b"]), "empty lines and \\r stay");
    assert_eq!(lines_of(text(&["\n"])), text(&[""]));
    assert_eq!(lines_of(vec![]), text(&[]));
    assert_eq!(lines_of(text(&["hel", "lo\nwor", "ld"])), text(&["hello", "world"]));
}

#[test]
fn raw_input_is_one_record_even_if_it_is_empty() {
    let all = |pieces| -> Vec<Vec<u8>> {
        blocks_of(pieces, InputFormat::Raw).iter().map(|block| block.bytes.to_vec()).collect()
    };
    assert_eq!(all(text(&["a\nb", "\nc\n"])), text(&["a\nb\nc\n"]));
    assert_eq!(all(vec![]), text(&[""]));
}

#[test]
fn blocks_know_the_number_of_their_first_line() {
    let blocks = blocks_of(text(&["1\n2\n3", "3\n4\n", "5"]), InputFormat::Json);
    let numbers: Vec<u64> = blocks.iter().map(|block| block.first_line).collect();
    assert_eq!(numbers, [1, 3, 5]);
}

#[test]
fn a_line_beyond_the_limit_is_refused() {
    let (send, _receive) = mpsc::channel(10);
    let failure =
        read(std::io::repeat(b'x').take(100 << 20), Path::new("big"), InputFormat::Lines, &send).unwrap_err();
    assert!(failure.to_string().contains("longer than 33554432 bytes"), "{failure}");
}

proptest! {
    #[test]
    fn lines_do_not_depend_on_how_the_input_arrives(
        pieces in proptest::collection::vec(proptest::collection::vec(
            prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..40), 0..20),
    ) {
        let whole = pieces.concat();
        let mut expected: Vec<Vec<u8>> = whole.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        if expected.last().is_some_and(Vec::is_empty) {
            expected.pop();
        }
        prop_assert_eq!(lines_of(pieces), expected);
    }
}
