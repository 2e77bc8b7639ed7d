//! A Rust source, with comments and literals told apart from code by a small scanner.

use std::path::PathBuf;

/// A Rust source file.
#[derive(Debug)]
pub(crate) struct Source {
    /// Relative to the root.
    pub(crate) path: PathBuf,
    /// As it stands in the file.
    pub(crate) text: String,
    /// The same lines and columns, with blanks for comments and for what literals contain.
    pub(crate) code: String,
}

impl Source {
    pub(crate) fn new(path: PathBuf, text: &str) -> Self {
        Self { path, text: text.to_owned(), code: blank_all_but_code(text) }
    }

    /// The path with `/` between its parts.
    pub(crate) fn name(&self) -> String {
        self.path.to_string_lossy().replace('\\', "/")
    }
}

/// Whether `word` stands in `line` with no letter, digit or underscore beside it.
pub(crate) fn has_word(line: &str, word: &str) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let longer_before = word.starts_with(part_of_word) && before.is_some_and(part_of_word);
        let longer_after = word.ends_with(part_of_word) && after.is_some_and(part_of_word);
        !longer_before && !longer_after
    })
}

/// What the scanner is in the middle of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Code,
    LineComment,
    BlockComment { depth: usize },
    Text,
    RawText { hashes: usize },
}

fn blank_all_but_code(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut state = State::Code;
    let mut at = 0;
    while let Some(&c) = characters.get(at) {
        let rest = &characters[at..];
        let (next, taken, keep) = step(state, rest, characters[..at].last().copied());
        for &taken_character in &rest[..taken] {
            code.push(if keep || taken_character == '\n' { taken_character } else { ' ' });
        }
        assert!(taken > 0, "the scanner stands still at {c:?}");
        state = next;
        at += taken;
    }
    code
}

/// The state after the next characters, how many these are, and whether they are code.
fn step(state: State, rest: &[char], before: Option<char>) -> (State, usize, bool) {
    match state {
        State::Code => step_in_code(rest, before),
        State::LineComment if rest.starts_with(&['\n']) => (State::Code, 1, false),
        State::LineComment => (state, 1, false),
        State::BlockComment { depth } if rest.starts_with(&['*', '/']) => {
            let next = if depth == 1 { State::Code } else { State::BlockComment { depth: depth - 1 } };
            (next, 2, false)
        }
        State::BlockComment { depth } if rest.starts_with(&['/', '*']) => {
            (State::BlockComment { depth: depth + 1 }, 2, false)
        }
        State::BlockComment { .. } => (state, 1, false),
        State::Text if rest.starts_with(&['\\']) => (state, rest.len().min(2), false),
        State::Text if rest.starts_with(&['"']) => (State::Code, 1, true),
        State::Text => (state, 1, false),
        State::RawText { hashes } => {
            let ends =
                rest.starts_with(&['"']) && rest.iter().skip(1).take_while(|c| **c == '#').count() >= hashes;
            if ends { (State::Code, 1 + hashes, true) } else { (state, 1, false) }
        }
    }
}

fn step_in_code(rest: &[char], before: Option<char>) -> (State, usize, bool) {
    if rest.starts_with(&['/', '/']) {
        return (State::LineComment, 2, false);
    }
    if rest.starts_with(&['/', '*']) {
        return (State::BlockComment { depth: 1 }, 2, false);
    }
    if rest.starts_with(&['"']) {
        return (State::Text, 1, true);
    }
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let prefix = rest.iter().take_while(|c| matches!(c, 'b' | 'c' | 'r')).count();
    if !in_word && (1..=2).contains(&prefix) && rest[prefix - 1] == 'r' {
        let hashes = rest[prefix..].iter().take_while(|c| **c == '#').count();
        if rest.get(prefix + hashes) == Some(&'"') {
            return (State::RawText { hashes }, prefix + hashes + 1, true);
        }
    }
    match rest {
        // A character literal, not a lifetime: '"', '{' and '\'' would lead the scanner astray.
        ['\'', '\\', _, tail @ ..] => {
            let more = tail.iter().take_while(|c| **c != '\'').count();
            (State::Code, (3 + more + 1).min(rest.len()), false)
        }
        ['\'', _, '\'', ..] => (State::Code, 3, false),
        _ => (State::Code, 1, true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_not_code() {
        let cases = [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */ d */ e", "a                   e"),
            (r#"f("b // \" c") d"#, r#"f("         ") d"#),
            ("r#\"b \" c\"# d", "r#\"     \"# d"),
            (r#"'"' x '\'' y 'a z"#, r#"    x      y 'a z"#),
            ("b'{' for'", "b    for'"),
        ];
        for (text, code) in cases {
            assert_eq!(blank_all_but_code(text), code, "{text}");
        }
    }

    #[test]
    fn words_stand_alone() {
        assert!(has_word("use std::fs;", "std::fs"));
        assert!(!has_word("unsafe_code", "unsafe"));
        assert!(has_word("x.todo!()", "todo!"));
        assert!(!has_word("my_todo!()", "todo!"));
    }
}
