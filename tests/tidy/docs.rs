//! Pages: every error code has its section, every link leads somewhere, every word of the glossary is explained.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use weir_protocol::{ErrorClass, ErrorCode};

use crate::tree::{Page, Tree};

/// Codes without a section in `docs/errors.md`, and sections that say something else than the code.
pub(crate) fn codes(tree: &Tree) -> Vec<String> {
    let Some(page) = tree.page("docs/errors.md") else { return vec!["the page is missing".to_owned()] };
    let mut findings = Vec::new();
    for code in ErrorCode::ALL {
        let class = match code.class() {
            ErrorClass::Retry => "Retry",
            ErrorClass::Fix => "Fix",
            ErrorClass::Fatal => "Fatal",
        };
        let expected = format!("`{code:?}` · class {class} · {}", code.text());
        match section(page, &format!("WEIR-{}", code.number())) {
            None => findings.push(format!("no section \"### WEIR-{}\" with \"{expected}\"", code.number())),
            Some(text) if text.contains(&expected) => {}
            Some(_) => findings.push(format!("WEIR-{} does not say \"{expected}\"", code.number())),
        }
    }
    for mention in tree.sources.iter().flat_map(|source| mentioned(&source.text)) {
        if section(page, &mention).is_none() {
            findings.push(format!("{mention} stands in a source but has no section"));
        }
    }
    findings
}

/// The text of a section, without its heading.
fn section<'a>(page: &'a Page, title: &str) -> Option<&'a str> {
    let (_, after) = page.text.split_once(&format!("\n### {title}\n"))?;
    Some(after.split("\n### ").next().unwrap_or(after))
}

/// Every code written out, such as `WEIR-2001`.
fn mentioned(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, prefix) in text.match_indices("WEIR-") {
        let digits: String = text[at + prefix.len()..].chars().take_while(char::is_ascii_digit).collect();
        if digits.len() == 4 {
            found.insert(format!("WEIR-{digits}"));
        }
    }
    found
}

/// Links that lead nowhere.
pub(crate) fn links(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for page in &tree.pages {
        for target in targets(&page.text) {
            if let Some(problem) = problem_of(tree, page, &target) {
                findings.push(format!("{}: {target}: {problem}", page.path.display()));
            }
        }
    }
    findings
}

fn problem_of(tree: &Tree, page: &Page, target: &str) -> Option<&'static str> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path =
        if file.is_empty() { page.path.clone() } else { without_dots(&page.path.with_file_name(file)) };
    if !tree.root.join(&path).exists() {
        return Some("there is no such file");
    }
    if anchor.is_empty() {
        return None;
    }
    let known = tree.pages.iter().find(|page| page.path == path)?;
    if anchors(&known.text).contains(anchor) { None } else { Some("there is no such heading") }
}

/// The path without `.` and `..`.
fn without_dots(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part.as_os_str().to_str() {
            Some("..") => {
                clean.pop();
            }
            Some(".") => {}
            Some(_) | None => clean.push(part),
        }
    }
    clean
}

/// Lines outside fenced code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// Targets of the links of a page, leaving out what stands in code.
fn targets(text: &str) -> Vec<String> {
    let mut targets = Vec::new();
    for line in prose(text) {
        let plain: String = line.split('`').step_by(2).collect();
        for (at, _) in plain.match_indices("](") {
            if let Some((target, _)) = plain[at + 2..].split_once(')') {
                targets.push(target.split_whitespace().next().unwrap_or_default().to_owned());
            }
        }
    }
    targets
}

/// What the headings of a page are called in links.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter(|line| line.starts_with('#'));
    let titles = headings.map(|line| line.trim_start_matches('#').trim().to_lowercase());
    titles
        .map(|title| {
            let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

/// Decision records that the index lacks, or that lack one of their parts.
pub(crate) fn decisions(tree: &Tree) -> Vec<String> {
    let Some(index) = tree.page("docs/decisions/README.md") else {
        return vec!["the index is missing".to_owned()];
    };
    let mut findings = Vec::new();
    for page in
        tree.pages.iter().filter(|page| page.path.starts_with("docs/decisions") && page.path != index.path)
    {
        let name = page.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !index.text.contains(&format!("({name})")) {
            findings.push(format!("{name} is not in the index"));
        }
        for part in ["**Question.**", "**Decision.**", "**Why.**"] {
            if !page.text.contains(part) {
                findings.push(format!("{name} lacks {part}"));
            }
        }
    }
    findings
}

/// Words every page uses in one meaning.
const WORDS: &[&str] = &[
    "topic",
    "partition",
    "segment",
    "record",
    "batch",
    "offset",
    "position",
    "journal",
    "frame",
    "block",
    "checkpoint",
    "log start offset",
    "high watermark",
    "epoch",
    "producer",
    "idempotency key",
    "consumer group",
    "member",
    "generation",
    "assignment",
    "lease",
    "cursor",
    "ack",
    "nack",
    "credit",
    "grant",
    "ledger",
    "shard",
    "session",
    "lane",
];

/// Words that the glossary lacks.
pub(crate) fn glossary(tree: &Tree) -> Vec<String> {
    let Some(page) = tree.page("docs/glossary.md") else { return vec!["the page is missing".to_owned()] };
    let missing = WORDS.iter().filter(|word| !page.text.contains(&format!("**{word}**")));
    missing.map(|word| format!("{word} is not explained")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_outside_code_only() {
        let text = "[a](b.md#c) and `[x](y)`\n```\n[p](q)\n```\n![i](pic.png \"title\")";
        assert_eq!(targets(text), ["b.md#c", "pic.png"]);
    }

    #[test]
    fn headings_become_anchors_as_on_the_web() {
        let expected = ["weir-2001", "a-word-and-code"].map(str::to_owned);
        assert_eq!(anchors("### WEIR-2001\n# A word, and `code`\n```\n# not\n```"), expected.into());
    }

    #[test]
    fn a_broken_link_is_found() {
        let page = Page {
            path: "docs/a.md".into(),
            text: "[x](missing.md) [y](#nothing) [z](#here)\n# Here".to_owned(),
        };
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned();
        let with = Tree { root, sources: Vec::new(), pages: vec![page] };
        let found = links(&with);
        assert!(found.iter().any(|finding| finding.contains("missing.md")), "{found:?}");
    }
}
