//! The longest files, functions and structs: whoever makes one longer looks twice.

use std::fmt::Write as _;

use crate::source::Source;
use crate::tree::Tree;

/// How many of each are shown.
const SHOWN: usize = 10;

/// Something with a length, and where it is.
struct Sized {
    length: usize,
    place: String,
}

/// The ten longest of each sort, as text.
pub(crate) fn report(tree: &Tree) -> String {
    let is_test = |source: &&Source| source.path.ends_with("tests.rs") || source.name().contains("/tests/");
    let sources: Vec<&Source> = tree.sources.iter().filter(|source| !is_test(source)).collect();
    let files = sources.iter().map(|source| Sized { length: own_lines(source), place: source.name() });
    let functions = sources.iter().flat_map(|source| bodies(source, "fn ", Shape::Lines));
    let structs = sources.iter().flat_map(|source| bodies(source, "struct ", Shape::Fields));
    let mut text = String::new();
    section(&mut text, "longest files (lines without tests; 400)", files.collect());
    section(&mut text, "longest functions (lines; 70)", functions.collect());
    section(&mut text, "longest structs (fields; 15)", structs.collect());
    text
}

fn section(text: &mut String, title: &str, mut items: Vec<Sized>) {
    items.sort_by_key(|item| std::cmp::Reverse(item.length));
    writeln!(text, "{title}").expect("writing to a string cannot fail");
    for item in items.iter().take(SHOWN) {
        writeln!(text, "  {:5}  {}", item.length, item.place).expect("writing to a string cannot fail");
    }
}

/// Lines before the tests at the end.
fn own_lines(source: &Source) -> usize {
    let lines: Vec<&str> = source.text.lines().collect();
    let tests = lines.iter().rposition(|line| line.starts_with("mod tests {"));
    tests.unwrap_or(lines.len())
}

/// What is counted between the braces.
#[derive(Clone, Copy)]
enum Shape {
    Lines,
    Fields,
}

/// Items that begin with a keyword and have a body in braces.
fn bodies(source: &Source, keyword: &str, shape: Shape) -> Vec<Sized> {
    let mut found = Vec::new();
    for (number, line) in source.code.lines().enumerate().take(own_lines(source)) {
        let Some(at) = line.find(keyword).filter(|at| *at == 0 || line[..*at].ends_with([' ', '('])) else {
            continue;
        };
        let name: String =
            line[at + keyword.len()..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if name.is_empty() {
            continue;
        }
        let Some(body) = body(&source.code, number) else { continue };
        let length = match shape {
            Shape::Lines => body.lines().count(),
            Shape::Fields => body.lines().filter(|line| is_field(line)).count(),
        };
        found.push(Sized { length, place: format!("{}:{} {name}", source.name(), number + 1) });
    }
    found
}

/// From the line on to the brace that closes the first one opened, if one opens before a semicolon.
fn body(code: &str, from_line: usize) -> Option<&str> {
    let start: usize = code.split_inclusive('\n').take(from_line).map(str::len).sum();
    let rest = code.get(start..)?;
    let open = rest.find('{')?;
    if rest[..open].contains(';') {
        return None;
    }
    let mut depth = 0usize;
    for (at, c) in rest.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return rest.get(..=at),
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// Whether a line of a struct's body names a field.
fn is_field(line: &str) -> bool {
    let line = line.trim_start();
    let name = line.strip_prefix("pub(crate) ").or_else(|| line.strip_prefix("pub ")).unwrap_or(line);
    let identifier: String = name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    !identifier.is_empty() && name[identifier.len()..].starts_with(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_and_structs_are_measured() {
        let text =
            "fn a() {\n    b();\n}\n\nstruct S {\n    pub x: u8,\n    y: u8,\n}\ntrait T {\n    fn c();\n}\n";
        let source = Source::new("x/src/lib.rs".into(), text);
        let lengths = |keyword, shape| -> Vec<usize> {
            bodies(&source, keyword, shape).iter().map(|item| item.length).collect()
        };
        assert_eq!(lengths("fn ", Shape::Lines), [3]);
        assert_eq!(lengths("struct ", Shape::Fields), [2]);
    }
}
