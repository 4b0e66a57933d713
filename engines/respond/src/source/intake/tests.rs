use policy::{Document, Nouns, Part as _};

use super::*;
use crate::Config;

pub(in crate::source) fn now() -> Now {
    Now { steady: event::Time::from_secs(500), wall: event::Time::from_secs(1_800_000_000) }
}

pub(in crate::source) fn alerting() -> Alerting {
    let text = r#"
[[region]]
name = "gravelines"
provider = "ovh"
[[region]]
name = "empty"
provider = "ovh"
[[host]]
name = "web1"
region = "gravelines"
[[host]]
name = "db.example"
region = "gravelines"
[[service]]
name = "shop"
title.fr = "La boutique"
title.en = "The shop"
host = "web1"
severity = "critical"
runbook = "https://wiki.example/shop"
"#;
    let mut document = Document::from_text("garant.toml", text);
    let nouns = Nouns::read(&mut document);
    Config::read(&mut document, &nouns).alerting
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
}

fn opened(pairs: &[(&str, &str)], annotations: &[(&str, &str)]) -> Opening {
    opening(labels(pairs).0, labels(annotations), &alerting(), now())
}

/// WA-4: an alert is where the policy says that there is something, and nowhere else.
#[test]
fn places_are_those_of_the_policy() {
    for (pairs, services, hosts, region) in [
        (&[("service", "shop")][..], &["shop"][..], &["web1"][..], Some("gravelines")),
        (&[("service", "shopp")], &[], &[], None),
        (&[("instance", "web1:9100")], &[], &["web1"], Some("gravelines")),
        (&[("instance", "web1.gravelines.example:9100")], &[], &["web1"], Some("gravelines")),
        (&[("instance", "db.example:5432")], &[], &["db.example"], Some("gravelines")),
        (&[("instance", "[2001:db8::1]:9100")], &[], &[], None),
        (&[("instance", "https://web1/")], &[], &[], None),
        // What the host is called elsewhere does not hide the instance.
        (&[("host", "i-0815"), ("instance", "web1:9100")], &[], &["web1"], Some("gravelines")),
        (&[("region", "empty")], &[], &[], Some("empty")),
        (&[("region", "mars")], &[], &[], None),
        // A host is where the policy says, whatever the label says.
        (&[("host", "web1"), ("region", "empty")], &[], &["web1"], Some("gravelines")),
        (&[("host", "../web1"), ("service", ""), ("region", "\u{1b}")], &[], &[], None),
    ] {
        let opening = opened(pairs, &[]);
        let found: Vec<&str> = opening.services.iter().map(ServiceId::as_str).collect();
        assert_eq!(found, services, "{pairs:?}");
        let found: Vec<&str> = opening.hosts.iter().map(HostId::as_str).collect();
        assert_eq!(found, hosts, "{pairs:?}");
        assert_eq!(opening.region.as_ref().map(RegionId::as_str), region, "{pairs:?}");
    }
}

#[test]
fn severities_are_understood() {
    for (pairs, expected) in [
        (&[("severity", "critical")][..], Severity::Critical),
        (&[("severity", "page")], Severity::Critical),
        (&[("severity", "ERROR")], Severity::Critical),
        (&[("severity", "warning"), ("service", "shop")], Severity::Warning),
        (&[("severity", "info")], Severity::Info),
        (&[("severity", "none")], Severity::Info),
        (&[("severity", "purple")], Severity::Warning),
        (&[], Severity::Warning),
        // What the policy says of the service, where the alert says nothing.
        (&[("service", "shop")], Severity::Critical),
    ] {
        assert_eq!(opened(pairs, &[]).severity, expected, "{pairs:?}");
    }
}

#[test]
fn a_title_and_what_to_do_are_found() {
    for (pairs, annotations, title, detail, runbook) in [
        (
            &[("alertname", "Down"), ("service", "shop")][..],
            &[("summary", "It is down."), ("description", "Since\n a  minute"), ("runbook_url", "https://r.example")][..],
            "It is down",
            "Since a minute",
            Some("https://r.example"),
        ),
        (
            &[("alertname", "Down"), ("service", "shop")],
            &[],
            "Down (shop)",
            "service=shop",
            Some("https://wiki.example/shop"),
        ),
        (&[("alertname", "Down"), ("instance", "a:1"), ("job", "n")], &[], "Down (a:1)", "instance=a:1, job=n", None),
        (&[("alertname", "Down")], &[("message", "m")], "Down", "m", None),
        (&[("job", "n")], &[("summary", " ")], "job=n", "job=n", None),
        (&[("alertname", "a\r\nBcc: b\u{202e}\u{1b}[2J")], &[], "a Bcc: b [2J", "", None),
    ] {
        let opening = opened(pairs, annotations);
        assert_eq!((opening.title.en.as_str(), opening.title.fr.as_str()), (title, title));
        assert_eq!(opening.detail, detail);
        assert_eq!(opening.runbook.as_ref().map(|text| text.en.as_str()), runbook);
    }
}

/// Whatever is sent, a row of the store takes it.
#[test]
fn an_alert_fits_a_row() {
    let control = "\u{1}".repeat(VALUE_BYTES_MAX);
    let most = |text: &str| Labels((0..LABELS_MAX).map(|index| (format!("l{index}"), text.to_owned())).collect());
    assert!(most(&control).sound().is_err_and(|why| why.contains("its labels are longer")));
    let quotes = "\"".repeat(50);
    let opening = opening(most(&quotes).sound().expect("sound"), most(&"\"é\n".repeat(9000)), &alerting(), now());
    let bytes = serde_json::to_vec(&opening).expect("JSON").len();
    assert!(bytes < store::VALUE_BYTES_MAX / 2, "{bytes}");
    assert!(!opening.annotations.is_empty());
}

#[test]
fn labels_are_judged() {
    assert_eq!(labels(&[("a", "x"), ("b", "")]).sound(), Ok(labels(&[("a", "x")]).0), "an empty label is none");
    let long = "x".repeat(VALUE_BYTES_MAX + 1);
    let name = "x".repeat(NAME_BYTES_MAX + 1);
    for pairs in [&[][..], &[("a", "")], &[("", "x")], &[("a\n", "x")], &[("a", &long)], &[(&name, "x")]] {
        assert!(labels(pairs).sound().is_err(), "{pairs:?}");
    }
}

#[test]
fn lines_are_cut_and_cleaned() {
    for (text, expected) in [
        ("", ""),
        ("  a \n b\t\u{0}c ", "a b c"),
        ("éé 株式", "éé 株式"),
        ("123456789", "12345678…"),
        ("1234567 9", "1234567 …"),
        ("12345678", "12345678"),
        ("\u{200b} \u{feff}a", "a"),
    ] {
        assert_eq!(line(text, 8).trim_start(), expected, "{text:?}");
    }
}

#[test]
fn addresses_are_of_the_web() {
    for text in ["http://a:9090/graph?g0.expr=up+%3D%3D+0", "https://wiki.example/é"] {
        assert_eq!(address(text).as_deref(), Some(text));
    }
    for text in ["", "javascript:alert(1)", "ftp://a", "http://a b", "http://a\n", "http://\u{202e}a"] {
        assert_eq!(address(text), None, "{text:?}");
    }
    assert_eq!(address(&format!("http://{}", "x".repeat(URL_BYTES_MAX))), None);
}

#[test]
fn a_key_names_its_intake() {
    let told = |key: &str, intake: &str| -> Signal {
        let plain: Plain = serde_json::from_value(serde_json::json!({ "key": key, "title": "t" })).expect("plain");
        plain.signal(intake, &alerting(), now()).expect("sound").0
    };
    let keys: BTreeSet<String> =
        [("a", "x"), ("b", "x"), ("a", "y"), ("x/a", "")].map(|(key, intake)| told(key, intake).key).into();
    assert_eq!(keys.len(), 4, "{keys:?}");
    assert_eq!(told("a/../../probe/shop", "x").key, told("a/../../probe/shop", "x").key);
    assert_eq!(intake_of(&told("a/../../probe/shop", "x").key), Some("x"));
    assert_eq!(intake_of("probe/shop"), None);
}

#[test]
fn lists_are_refused_before_they_take_memory() {
    type Few = AtMost<u8, 3>;
    assert_eq!(serde_json::from_str::<Few>("[1,2,3]").expect("few"), AtMost(vec![1, 2, 3]));
    assert!(serde_json::from_str::<Few>("[1,2,3,4").is_err_and(|error| error.to_string().contains("more than 3")));
    let many: Vec<String> = (0..=LABELS_MAX).map(|index| format!("\"l{index}\":\"\"")).collect();
    let many = many.join(",");
    assert!(
        serde_json::from_str::<Labels>(&format!("{{{many}"))
            .is_err_and(|error| error.to_string().contains("more than 64"))
    );
}
