//! What holds of the source tree itself: layers keep to their words, every file is used, every error code has its page,
//! every link leads somewhere.
//!
//! Sizes are signals, not laws: the longest files, functions and structs are printed (`--nocapture` shows them).

#![expect(clippy::indexing_slicing, reason = "a panic in a test is a failure with a line number")]

mod dead;
mod docs;
mod sizes;
mod source;
mod tree;
mod words;

use crate::tree::Tree;

/// Fails with one line for each finding.
fn assert_none(what: &str, findings: &[String]) {
    assert!(findings.is_empty(), "{what}:\n  {}", findings.join("\n  "));
}

#[test]
fn layers_keep_to_their_words() {
    assert_none("forbidden words", &words::forbidden(&Tree::read()));
}

#[test]
fn every_source_file_is_compiled() {
    assert_none("files that no module declares", &dead::files(&Tree::read()));
}

#[test]
fn every_error_code_has_a_section() {
    assert_none("docs/errors.md", &docs::codes(&Tree::read()));
}

#[test]
fn every_relative_link_resolves() {
    assert_none("broken links", &docs::links(&Tree::read()));
}

#[test]
fn every_word_of_the_glossary_is_explained() {
    assert_none("docs/glossary.md", &docs::glossary(&Tree::read()));
}

#[test]
fn every_decision_is_in_the_index() {
    assert_none("docs/decisions", &docs::decisions(&Tree::read()));
}

#[test]
fn sizes_are_shown() {
    let report = sizes::report(&Tree::read());
    assert!(report.contains("longest functions"));
    println!("{report}");
}
