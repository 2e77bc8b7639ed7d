//! Words that have no place in a layer, or nowhere.

use crate::source::{Source, has_word};
use crate::tree::Tree;

/// Where a rule holds.
struct Rule {
    /// What the path has to look like.
    applies: fn(&str) -> bool,
    /// Words that must not stand there.
    words: &'static [&'static str],
    /// Whether comments and texts count as well.
    everywhere: bool,
    /// What is wrong with them.
    reason: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        applies: |path| path.contains("/src/core/") || path.ends_with("/src/core.rs"),
        words: &[
            "tokio",
            "quinn",
            "rustls",
            "Instant",
            "SystemTime",
            "std::thread",
            "std::fs",
            "std::net",
            "std::env",
            "Mutex",
            "RwLock",
            "thread_local!",
            "HashMap",
            "HashSet",
        ],
        everywhere: false,
        reason: "a machine knows no clock, thread, file, socket, lock, or map in random order",
    },
    Rule {
        applies: |path| path.starts_with("protocol/src/"),
        words: &["tokio", "quinn", "Instant", "SystemTime", "std::thread", "std::fs", "std::net", "std::env"],
        everywhere: false,
        reason: "the protocol is bytes and numbers",
    },
    Rule {
        applies: |path| path.starts_with("storage/src/"),
        words: &["tokio", "quinn", "std::net"],
        everywhere: false,
        reason: "storage knows no network",
    },
    Rule {
        applies: |path| !path.starts_with("storage/src/disk/map.rs"),
        words: &["unsafe"],
        everywhere: false,
        reason: "only storage/src/disk/map.rs has a reason for it",
    },
    Rule {
        applies: |path| !path.starts_with("tests/tidy/"),
        words: &["TODO", "FIXME", "XXX", "todo!", "dbg!", "unimplemented!"],
        everywhere: true,
        reason: "open an issue instead",
    },
    Rule {
        applies: |path| !path.starts_with("tests/tidy/"),
        words: &["unbounded", "unbounded_channel", "UnboundedSender", "UnboundedReceiver"],
        everywhere: true,
        reason: "every queue has a named bound",
    },
];

/// Every place where a word stands that must not.
pub(crate) fn forbidden(tree: &Tree) -> Vec<String> {
    RULES.iter().flat_map(|rule| tree.sources.iter().flat_map(|source| findings(rule, source))).collect()
}

fn findings(rule: &Rule, source: &Source) -> Vec<String> {
    if !(rule.applies)(&source.name()) {
        return Vec::new();
    }
    let text = if rule.everywhere { &source.text } else { &source.code };
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for word in rule.words.iter().filter(|word| has_word(line, word)) {
            findings.push(format!("{}:{}: {word} ({})", source.name(), number + 1, rule.reason));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> usize {
        let tree =
            Tree { root: "/".into(), sources: vec![Source::new(path.into(), text)], pages: Vec::new() };
        forbidden(&tree).len()
    }

    #[test]
    fn planted_words_are_found() {
        let core = "broker/src/core/shard.rs";
        assert_eq!(found(core, "use std::collections::HashMap;"), 1);
        assert_eq!(found(core, "// not a HashMap\nuse std::collections::BTreeMap;"), 0);
        assert_eq!(found("broker/src/server/quic.rs", "use std::collections::HashMap;"), 0);
        assert_eq!(found("broker/src/server/quic.rs", "let n = std::time::Instant::now(); // TODO"), 1);
        assert_eq!(found(core, "let now = Instant::now();"), 1);
        assert_eq!(found("storage/src/disk/map.rs", "unsafe { map() }"), 0);
        assert_eq!(found("storage/src/disk/os.rs", "unsafe { map() }"), 1);
        assert_eq!(found("cli/src/main.rs", "let (a, b) = unbounded_channel();"), 1);
    }
}
