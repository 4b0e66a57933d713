use serde_json::json;

use super::*;
use crate::source::intake::tests::{alerting, now};

fn posted(alert: Value) -> Result<Signal, String> {
    let alert: PostableAlert = serde_json::from_value(alert).map_err(|error| error.to_string())?;
    alert.signal("prometheus", &alerting(), now())
}

fn open(alert: Value) -> Opening {
    match posted(alert).expect("sound").state {
        SignalState::Open(opening) => *opening,
        SignalState::Over(at) | SignalState::Gone(at) => panic!("over at {at}"),
    }
}

fn after(seconds: i64) -> String {
    (now().wall + Span::from_secs(seconds)).to_rfc3339()
}

/// The end that a Prometheus gives lasts until then by the clock that never steps; one that has passed is the end.
#[test]
fn an_alert_lasts_until_its_end() {
    let labels = json!({ "alertname": "a" });
    for (times, lasts) in [
        (json!({ "labels": labels, "endsAt": after(240) }), 240),
        (json!({ "labels": labels }), 300),
        (json!({ "labels": labels, "endsAt": "0001-01-01T00:00:00Z", "startsAt": "0001-01-01T00:00:00.000Z" }), 300),
        (json!({ "labels": labels, "endsAt": "", "annotations": null }), 300),
        (json!({ "labels": labels, "endsAt": "9999-01-01T00:00:00Z" }), 31 * 86_400),
    ] {
        assert_eq!(open(times.clone()).until, Some(now().steady + Span::from_secs(lasts)), "{times}");
    }
    let over = posted(json!({ "labels": labels, "startsAt": after(-60), "endsAt": after(-1) })).expect("sound");
    assert_eq!(over.state, SignalState::Over(now().wall - Span::from_secs(1)));
    assert_eq!(over.key, posted(json!({ "labels": labels })).expect("sound").key);

    assert_eq!(open(json!({ "labels": labels, "startsAt": after(-60) })).since, now().wall - Span::from_secs(60));
    assert_eq!(open(json!({ "labels": labels, "startsAt": after(60) })).since, now().wall, "not in the future");
    for wrong in [
        json!({ "labels": labels, "startsAt": "noon" }),
        json!({ "labels": labels, "startsAt": after(60), "endsAt": after(30) }),
        json!({}),
        json!({ "labels": null }),
        json!({ "labels": [] }),
    ] {
        assert!(posted(wrong.clone()).is_err(), "{wrong}");
    }
}

/// All labels tell an alert from others, in whatever order, and nothing else does.
#[test]
fn the_key_is_of_the_labels() {
    let key = |alert: Value| posted(alert).expect("sound").key;
    let one = key(json!({ "labels": { "a": "1", "b": "2" } }));
    assert!(one.starts_with("outside/prometheus/"));
    assert_eq!(key(json!({ "labels": { "b": "2", "a": "1", "c": "" }, "annotations": { "summary": "x" } })), one);
    for other in
        [json!({ "a": "1" }), json!({ "a": "1b", "2": "" }), json!({ "a": "1", "b": "3" }), json!({ "ab": "12" })]
    {
        assert_ne!(key(json!({ "labels": other })), one);
    }
}

#[test]
fn addresses_of_sources_are_kept() {
    let alert = |url: &str| open(json!({ "labels": { "a": "b" }, "generatorURL": url })).url;
    assert_eq!(alert("http://prometheus:9090/graph").as_deref(), Some("http://prometheus:9090/graph"));
    assert_eq!(alert("javascript:alert(1)"), None);
    assert_eq!(alert(""), None);
}

#[test]
fn a_webhook_is_of_version_4() {
    let hook = |version: &str| -> Webhook<10> {
        serde_json::from_value(json!({ "version": version, "alerts": [] })).expect("a webhook")
    };
    assert_eq!(hook("4").check(), Ok(()));
    assert!(hook("5").check().is_err());
    let alert = |print: Value, status: &str| {
        let alert = json!({ "status": status, "labels": { "a": "b" }, "fingerprint": print });
        let alert: WebhookAlert = serde_json::from_value(alert).map_err(|error| error.to_string())?;
        alert.signal("am", &alerting(), now())
    };
    assert_eq!(alert(json!("0AF1"), "firing").expect("sound").key, "outside/am/0af1");
    assert_eq!(alert(json!("0af1"), "resolved").expect("sound").state, SignalState::Over(now().wall));
    assert!(alert(Value::Null, "firing").expect("sound").key.starts_with("outside/am/"));
    assert!(alert(json!("../x"), "firing").is_err());
    assert!(alert(json!("0af1"), "perhaps").is_err());
}

#[test]
fn a_silence_is_within_bounds() {
    let silence = |starts: i64, ends: i64| {
        let posted = json!({
            "matchers": [{ "name": "a", "value": "b", "isRegex": false }], "startsAt": after(starts), "endsAt": after(ends),
            "createdBy": " Léa\n", "comment": "x".repeat(1000),
        });
        let posted: PostableSilence = serde_json::from_value(posted).expect("a silence");
        posted.silence("id".to_owned(), "prometheus", now())
    };
    let sound = silence(-60, 3600).expect("sound");
    assert_eq!((sound.starts_at, sound.by.as_str()), (now().wall, "Léa"));
    assert_eq!(sound.comment.chars().count(), COMMENT_MAX + 1);
    assert!(sound.matchers[0].is_equal, "as Alertmanager's clients of old mean it");
    for (starts, ends) in [(-60, -1), (0, 0), (0, 32 * 86_400), (400 * 86_400, 400 * 86_400 + 60)] {
        assert!(silence(starts, ends).is_err(), "{starts} {ends}");
    }
    assert!(silence(86_400, 31 * 86_400).is_ok());
}
