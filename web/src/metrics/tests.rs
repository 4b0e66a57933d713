use std::collections::HashSet;
use std::sync::Arc;

use axum::http::StatusCode;
use engine::metrics::MetricsSource;

use super::*;
use crate::fake::{Fixture, applied, get, log_with};

/// Checks an exposition against the rules of OpenMetrics 1.0 that a collector relies on, and returns its samples.
fn samples(text: &str) -> Vec<(String, f64)> {
    let body = text.strip_suffix("# EOF\n").expect("it ends with # EOF");
    let (mut families, mut current, mut series) = (HashSet::new(), None, HashSet::new());
    let mut samples = Vec::new();
    for line in body.lines() {
        if let Some(meta) = line.strip_prefix("# ") {
            let mut words = meta.splitn(3, ' ');
            let (word, name, rest) =
                (words.next().expect("a word"), words.next().expect("a name"), words.next().expect("more"));
            match word {
                "TYPE" => {
                    assert!(families.insert(name), "{name} is written twice");
                    assert!(matches!(rest, "gauge" | "counter" | "info" | "stateset"), "{line}");
                    current = Some((name, rest));
                }
                "UNIT" => assert!(name.ends_with(&format!("_{rest}")), "{line}"),
                "HELP" => assert!(rest.ends_with('.'), "{line}"),
                _ => panic!("{line}"),
            }
            assert_eq!(current.map(|(family, _)| family), Some(name), "{line}");
            continue;
        }
        let (family, kind) = current.expect("a family comes first");
        let (name, value) = line.rsplit_once(' ').expect("a value");
        let bare = name.split('{').next().expect("a name");
        let suffix = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        assert_eq!(bare, format!("{family}{suffix}"), "{line}");
        if let Some(labels) = name.strip_prefix(bare).filter(|labels| !labels.is_empty()) {
            check_labels(labels);
        }
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
        assert!(!matches!(kind, "counter") || value >= 0.0, "{line}");
        assert!(!matches!(kind, "info" | "stateset") || matches!(line.rsplit(' ').next(), Some("0" | "1")), "{line}");
        assert!(series.insert(name.to_owned()), "{name} is there twice");
        samples.push((name.to_owned(), value));
    }
    samples
}

fn check_labels(labels: &str) {
    let inner = labels.strip_prefix('{').and_then(|l| l.strip_suffix('}')).expect(labels);
    let (mut in_value, mut escaped) = (false, false);
    for character in inner.chars() {
        match character {
            _ if escaped => {
                assert!(matches!(character, '\\' | '"' | 'n'), "{labels}");
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => in_value = !in_value,
            _ if in_value => {}
            _ => assert!(character.is_ascii_alphanumeric() || matches!(character, '_' | '=' | ','), "{labels}"),
        }
    }
    assert!(!in_value && !escaped, "{labels}");
}

#[tokio::test]
async fn what_is_exposed() {
    let fixture = Fixture::with(applied(), log_with(300), &["watch", "judge"]);
    let answer = get(fixture.team(), "/metrics").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let samples = samples(answer.text());
    let value = |name: &str| samples.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("{name}: {samples:?}")).1;
    for (name, expected) in [
        ("garant_journal_entries_total", 304.0),
        ("garant_journal_fault", 0.0),
        ("garant_log_published_entries", 304.0),
        ("garant_log_cosignatures", 1.0),
        ("garant_promise_outcome{promise=\"AV-1\",garant_promise_outcome=\"broken\"}", 1.0),
        ("garant_promise_outcome{promise=\"AV-1\",garant_promise_outcome=\"kept\"}", 0.0),
        ("garant_promise_outcome{promise=\"BK-1\",garant_promise_outcome=\"unproven\"}", 1.0),
        ("garant_objective_ratio{promise=\"AV-1\",objective=\"1\",end=\"high\"}", 0.999_899_999),
        ("garant_objective_ratio{promise=\"AV-1\",objective=\"0\",end=\"target\"}", 0.9999),
        ("garant_objective_budget_seconds{promise=\"AV-1\",objective=\"1\",end=\"used_at_least\"}", 2460.0),
        ("garant_objective_budget_seconds{promise=\"AV-1\",objective=\"1\",end=\"of\"}", 3153.0),
        ("garant_objective_window_seconds{promise=\"AV-1\",objective=\"1\",end=\"elapsed\"}", 1_036_680.0),
        ("garant_objective_window_seconds{promise=\"AV-1\",objective=\"1\",end=\"of\"}", 31_536_000.0),
        ("garant_objective_as_of_timestamp_seconds{promise=\"AV-1\",objective=\"1\"}", 1_795_388_280.0),
        ("garant_objective_outcome{promise=\"AV-1\",objective=\"1\",garant_objective_outcome=\"broken\"}", 1.0),
        ("garant_objective_journaled_entry{promise=\"AV-1\",objective=\"1\"}", 302.0),
        ("garant_objective_journaled_timestamp_seconds{promise=\"AV-1\",objective=\"1\"}", 1_795_388_340.0),
        ("garant_policy_reload_refused", 0.0),
        ("garant_probe_state{probe=\"shop-answers\",observer=\"strasbourg\",garant_probe_state=\"down\"}", 1.0),
        ("garant_probe_duration_seconds{probe=\"shop-answers\",observer=\"gravelines\"}", 0.012),
        ("garant_probe_phase_seconds{probe=\"shop-answers\",observer=\"gravelines\",phase=\"tls\"}", 0.005),
        ("garant_probe_phase_seconds{probe=\"shop-answers\",observer=\"gravelines\",phase=\"body\"}", 0.001),
        (
            "garant_probe_certificate_expiry_timestamp_seconds{probe=\"shop-answers\",observer=\"gravelines\"}",
            1_796_079_600.0,
        ),
        ("garant_service_state{service=\"shop\",garant_service_state=\"undecided\"}", 1.0),
        ("garant_engine_healthy{engine=\"watch\"}", 0.0),
        ("garant_engine_starts_total{engine=\"judge\"}", 0.0),
    ] {
        assert!((value(name) - expected).abs() < 1e-12, "{name} is {}", value(name));
    }
    // The other did not get as far as an answer.
    let unseen = |name: &&(String, f64)| name.0.contains("strasbourg") && name.0.contains("first_byte");
    assert_eq!(samples.iter().find(unseen), None);
    assert!(value("process_resident_memory_bytes") > 1e6);
}

#[tokio::test]
async fn a_source_adds_its_own() {
    struct Dropped;
    impl MetricsSource for Dropped {
        fn write(&self, text: &mut MetricsText) {
            text.counter("garant_test_lost", "", "Lost.").sample(&[("why", "a \"quote\"\n")], 3_u64);
        }
    }
    let mut fixture = Fixture::new();
    Arc::get_mut(&mut fixture.state).expect("not shared yet").figures.push(Arc::new(Dropped));
    let answer = get(fixture.team(), "/metrics").await;
    let samples = samples(answer.text());
    assert!(samples.contains(&("garant_test_lost_total{why=\"a \\\"quote\\\"\\n\"}".to_owned(), 3.0)), "{samples:?}");
}

#[tokio::test]
async fn a_fault_shows() {
    let fixture = Fixture::new();
    fixture.break_storage();
    let answer = get(fixture.team(), "/metrics").await;
    assert!(samples(answer.text()).contains(&("garant_journal_fault".to_owned(), 1.0)));
}
