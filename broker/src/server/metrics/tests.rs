use std::collections::BTreeSet;
use std::time::Duration;

use super::*;

/// The value on the line that starts with this, which must be there once.
fn value(page: &str, series: &str) -> String {
    let values: Vec<_> =
        page.lines().filter_map(|line| line.strip_prefix(series)?.strip_prefix(' ')).collect();
    assert_eq!(values.len(), 1, "{series} stands there once");
    values[0].to_owned()
}

#[test]
fn what_was_counted_is_on_the_page() {
    let metrics = Metrics::default();
    metrics.bytes_received.add(1_000);
    metrics.bytes_received.increment();
    metrics.connections.add(3);
    metrics.connections.subtract(1);
    metrics.journal_room_bytes.set(77);
    metrics.connections_refused.increment(Refusal::Address);
    metrics.connection_closed(ErrorCode::GoingAway);
    metrics.connection_closed(ErrorCode::GoingAway);
    metrics.connection_ended(&ConnectionError::TimedOut);
    metrics.connection_ended(&ConnectionError::LocallyClosed);
    metrics.observe_node(&NodeFigures {
        topics: 4,
        taken_bytes: [1, 2, 5, 0, 0, 0, 0, 9],
        ..NodeFigures::default()
    });
    let keys = DedupFigures { flushed_keys: 8, lost_generations: 1, ..DedupFigures::default() };
    let counts = KeyedCounts { stored: 3, conflicts: 2, ..KeyedCounts::default() };
    metrics.observe_keys(&keys, vec![("orders".to_owned(), counts)]);

    let page = metrics.render();

    assert_eq!(value(&page, "weir_received_bytes_total"), "1001");
    assert_eq!(value(&page, "weir_connections"), "2");
    assert_eq!(value(&page, "weir_journal_room_bytes"), "77");
    assert_eq!(value(&page, "weir_connections_refused_total{reason=\"address\"}"), "1");
    assert_eq!(value(&page, "weir_connections_refused_total{reason=\"connections\"}"), "0");
    assert_eq!(value(&page, "weir_connections_closed_total{code=\"WEIR-1008\"}"), "2");
    assert_eq!(value(&page, "weir_connections_ended_total{by=\"silence\"}"), "1");
    assert_eq!(value(&page, "weir_connections_ended_total{by=\"transport\"}"), "0");
    assert_eq!(value(&page, "weir_topics"), "4");
    assert_eq!(value(&page, "weir_memory_taken_bytes{pool=\"hot-cache\"}"), "5");
    assert_eq!(value(&page, "weir_memory_taken_bytes{pool=\"control\"}"), "9");
    assert_eq!(value(&page, "weir_keys_flushed"), "8");
    assert_eq!(value(&page, "weir_key_generations_lost"), "1");
    let keyed = |outcome: &str| {
        let series = format!("weir_topic_keyed_records_total{{topic=\"orders\",outcome=\"{outcome}\"}}");
        value(&page, &series)
    };
    assert_eq!([keyed("stored"), keyed("conflict"), keyed("full")], ["3", "2", "0"]);
    assert_eq!(metrics.connections_closed.value(ErrorCode::GoingAway), 2);
}

#[test]
fn readiness_is_what_was_set_last() {
    let metrics = Metrics::default();
    assert_eq!(metrics.readiness(), Readiness::Starting);
    for (readiness, shown) in [
        (Readiness::Ready, "1"),
        (Readiness::Draining, "0"),
        (Readiness::Failed, "0"),
        (Readiness::Starting, "0"),
    ] {
        metrics.set_readiness(readiness);
        assert_eq!(metrics.readiness(), readiness);
        assert_eq!(value(&metrics.render(), "weir_ready"), shown);
    }
}

#[test]
fn histograms_count_what_is_not_larger_than_the_bound() {
    let metrics = Metrics::default();
    for micros in [1, 50, 51, 2_000_000, 3_000_000, 60_000_000] {
        metrics.journal_sync.observe_duration(Duration::from_micros(micros));
    }
    metrics.journal_commit_bytes.observe(4096);
    metrics.journal_commit_bytes.observe(4097);

    let page = metrics.render();

    let sync = |bound| value(&page, &format!("weir_journal_sync_seconds_bucket{{le=\"{bound}\"}}"));
    assert_eq!(sync("0.000050"), "2");
    assert_eq!(sync("0.000100"), "3");
    assert_eq!(sync("2.000000"), "4");
    assert_eq!(sync("10.000000"), "5");
    assert_eq!(sync("+Inf"), "6");
    assert_eq!(value(&page, "weir_journal_sync_seconds_count"), "6");
    assert_eq!(value(&page, "weir_journal_sync_seconds_sum"), "65.000102");
    assert_eq!(value(&page, "weir_journal_commit_bytes_bucket{le=\"4096\"}"), "1");
    assert_eq!(value(&page, "weir_journal_commit_bytes_sum"), "8193");
    assert_eq!(metrics.journal_commit_bytes.count(), 2);
}

#[test]
fn the_page_is_in_the_format() {
    let page = Metrics::default().render();
    assert!(page.ends_with('\n'));
    let mut names = BTreeSet::new();
    let mut series = BTreeSet::new();
    let mut current = String::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').unwrap();
            assert!(text.ends_with('.'), "{name} has help: {text}");
            let kind = lines.next().unwrap().strip_prefix(&format!("# TYPE {name} ")).unwrap();
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
            assert!(name.starts_with("weir_"));
            assert!(names.insert(name), "{name} stands there twice");
            current = name.to_owned();
        } else {
            let (name, number) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with(&current), "{name} stands under {current}");
            assert!(series.insert(name), "{name} stands there twice");
            assert!(number.parse::<f64>().is_ok(), "{line}");
        }
    }
    assert!(names.len() > 30);
}
