//! The size of a sample on disk.

use event::Span;

use super::{options, temporary};
use crate::conformance::{ManualClock, START};
use crate::sqlite::Sqlite;
use crate::{Reading, Sample, Samples as _};

#[tokio::test]
async fn a_sample_takes_about_twenty_bytes() {
    const PROBES: i64 = 1000;
    const ROUNDS: i64 = 60;
    let dir = temporary();
    let clock = ManualClock::at(START);
    let store = Sqlite::open(options(dir.path(), &clock)).expect("a new directory");
    // A thousand probes every ten seconds, in batches of a fifth of a second; some come seconds after they started.
    for round in 0..ROUNDS {
        for batch in 0..50 {
            let of_probe = |n: i64| {
                let probe = batch * (PROBES / 50) + n;
                let late = if probe % 10 == 0 { Span::from_millis(2_700) } else { Span::ZERO };
                Sample {
                    probe: format!("probe-{probe}").parse().expect("a name"),
                    observer: "gravelines".parse().expect("a name"),
                    at: START + Span::from_millis(round * 10_000 + batch * 200 + n * 10) - late,
                    took: Span::from_micros(20_000 + probe * 977),
                    reading: Reading::Up,
                    value: None,
                }
            };
            store.record((0..PROBES / 50).map(of_probe).collect());
            store.settle().await.expect("the thread lives");
        }
    }
    assert_eq!(crate::Read::health(&*store).samples_dropped, 0);
    drop(store);
    let bytes = std::fs::metadata(dir.path().join("samples/2026-11-22.db")).expect("a file").len();
    let per_sample = bytes.div_ceil((PROBES * ROUNDS).unsigned_abs());
    assert!(per_sample <= 25, "{per_sample} bytes per sample");
    println!("{bytes} bytes for {} samples", PROBES * ROUNDS);
}
