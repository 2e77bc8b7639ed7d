use weir_protocol::limits::DEDUP_HORIZON_US_DEFAULT;
use weir_protocol::units::SegmentId;

use super::super::catalog::Extent;
use super::*;
use crate::state::GivenUp;

fn settings(age_us: Option<u64>, bytes: Option<u64>) -> TopicSettings {
    TopicSettings {
        partitions: 1,
        retention_age_us: age_us,
        retention_bytes: bytes,
        batch_bytes_max: 1 << 20,
        explicit_partitions: false,
        dedup_horizon_us: Some(DEDUP_HORIZON_US_DEFAULT),
        keyed_versions: false,
        dedup_keys_per_second: None,
        dedup_since: Timestamp::ZERO,
    }
}

/// Four runs of 10 records and 100 bytes each, appended at 1,000, 2,000, 3,000 and 4,000 us.
fn log(log_start: u64) -> PartitionLog {
    let extents = (0..4).map(|number: u64| Extent {
        segment: SegmentId::new(number),
        run: 0,
        base_offset: Offset::new(number * 10),
        end_offset: Offset::new(number * 10 + 10),
        position: 4096,
        bytes: 100,
        last_append_time: Timestamp::from_micros(i64::try_from(number + 1).unwrap() * 1_000),
    });
    PartitionLog {
        log_start: Offset::new(log_start),
        flushed_end: Offset::new(40),
        extents: extents.collect(),
        bytes: 400,
        given_up: GivenUp::default(),
    }
}

#[test]
fn keeps_everything_without_settings() {
    let now = Timestamp::from_micros(i64::MAX);
    assert_eq!(log_start(&log(0), &settings(None, None), now), Offset::ZERO);
}

#[test]
fn whole_runs_go_when_their_last_batch_is_too_old() {
    let cases = [(2_000, 0), (2_001, 10), (3_000, 10), (3_001, 20), (5_000, 30), (5_001, 40), (-7, 0)];
    for (now, expected) in cases {
        let found = log_start(&log(0), &settings(Some(1_000), None), Timestamp::from_micros(now));
        assert_eq!(found, Offset::new(expected), "at {now}");
    }
}

#[test]
fn whole_runs_go_while_enough_bytes_remain() {
    for (bytes, expected) in [(400, 0), (301, 0), (300, 10), (299, 10), (200, 20), (1, 30), (0, 30)] {
        let found = log_start(&log(0), &settings(None, Some(bytes)), Timestamp::ZERO);
        assert_eq!(found, Offset::new(expected), "keep {bytes}");
    }
}

#[test]
fn a_log_start_inside_of_a_run_never_goes_back() {
    assert_eq!(log_start(&log(5), &settings(None, Some(350)), Timestamp::ZERO), Offset::new(5));
    assert_eq!(log_start(&log(5), &settings(None, Some(300)), Timestamp::ZERO), Offset::new(10));
}
