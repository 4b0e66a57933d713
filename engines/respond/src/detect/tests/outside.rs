//! Alerts of a Prometheus at the desk: which are one, and how long they last. WA-4, WA-5.

use serde_json::{Value, json};

use super::*;
use crate::source::alertmanager::PostableAlert;

impl Team {
    /// A Prometheus sends this alert, with an end so many seconds ahead.
    fn posted(&mut self, labels: &Value, summary: &str, ends_in: i64) {
        let mut document = Document::from_text("garant.toml", POLICY);
        let nouns = Nouns::read(&mut document);
        let alerting = Config::read(&mut document, &nouns).alerting;
        let ends = (self.now.wall + Span::from_secs(ends_in)).to_rfc3339();
        let alert = json!({ "labels": labels, "annotations": { "summary": summary }, "endsAt": ends });
        let alert: PostableAlert = serde_json::from_value(alert).expect("an alert");
        let signal = alert.signal("prometheus", &alerting, self.now).expect("sound");
        self.desk.signal(signal, self.now);
    }
}

/// Two alerts at no place of the policy have nothing in common but the time: each is told.
#[test]
fn what_comes_at_the_same_time_is_not_one() {
    let mut team = Team::new();
    team.posted(&json!({ "alertname": "Certificate", "severity": "critical" }), "A certificate ends", 3600);
    team.posted(&json!({ "alertname": "Backup", "severity": "critical" }), "No backup", 3600);
    team.down("mail");
    team.seconds(60);
    // Three causes at the same second are one mail that lists them.
    let texts: Vec<String> = team.inbox.iter().map(|told| format!("{}\n{}", told.subject, told.text)).collect();
    let text = texts.join("\n");
    for title in ["A certificate ends", "No backup", "mail is down"] {
        assert!(text.contains(&format!("[critical] {title}")), "{title} in {text}");
    }
}

/// Forty alerts of one name are one message and one update, which says how many and names the first ones.
#[test]
fn alerts_of_one_name_are_one() {
    let mut team = Team::new();
    for number in 0..40 {
        let labels = json!({ "alertname": "Down", "severity": "critical", "instance": format!("i-{number}:9100") });
        team.posted(&labels, &format!("i-{number} is gone"), 3600);
        if number % 10 == 0 {
            team.seconds(2);
        }
    }
    team.seconds(120);
    let last = team.inbox.last().expect("told").clone();
    assert_eq!(team.inbox.len(), 2, "{:?}", team.inbox);
    assert_eq!(team.inbox[0].subject, "[critical] i-0 is gone");
    assert_eq!(last.subject, "[critical] i-0 is gone, and 39 more");
    assert!(last.text.contains("Also: i-1 is gone ; i-2 is gone"), "{}", last.text);
}

/// An alert at a host of the policy is one with what else fails there, and its words are in the message.
#[test]
fn an_alert_joins_what_fails_at_its_host() {
    let mut team = Team::new();
    team.posted(
        &json!({ "alertname": "Exporter", "severity": "critical", "instance": "web-1:9100" }),
        "web-1 is gone",
        3600,
    );
    team.seconds(3);
    team.down("shop");
    team.down("blog");
    team.seconds(120);
    assert_eq!(team.inbox.len(), 2, "{:?}", team.inbox);
    assert_eq!(team.inbox[0].subject, "[critical] web-1 is gone");
    assert_eq!(team.inbox[1].subject, "[critical] Host web-1: 2 services down");
    team.arrived();
    let mut team = Team::new();
    team.down("blog");
    team.posted(
        &json!({ "alertname": "Disk", "severity": "critical", "host": "web-1" }),
        "The disk of web-1 is full",
        3600,
    );
    team.seconds(60);
    let text = &team.inbox.last().expect("told").text;
    assert!(text.contains("Also: The disk of web-1 is full"), "{text}");
}

/// It lasts as long as it is sent again, whatever the wall clock does; then it is over.
#[test]
fn an_alert_ends_when_it_is_not_sent_again() {
    let mut team = Team::new();
    let labels = json!({ "alertname": "Backup", "severity": "critical" });
    for _ in 0..10 {
        team.posted(&labels, "No backup", 240);
        team.seconds(60);
    }
    assert_eq!(team.arrived().first().map(String::as_str), Some("Léa mail: Firing"));
    // The clock steps an hour ahead: nothing has ended for that.
    team.now.wall = team.now.wall + Span::from_secs(3600);
    team.seconds(30);
    assert!(!team.arrived().iter().any(|told| told.contains("Resolved")));
    // 240 s after it was sent last.
    team.seconds(140);
    assert!(!team.arrived().iter().any(|told| told.contains("Resolved")));
    team.seconds(30);
    assert!(team.arrived().iter().any(|told| told.contains("Resolved")));
}

/// While garant is down nobody can say that it lasts: it gets five minutes to be sent again.
#[test]
fn an_alert_outlasts_a_restart() {
    let mut team = Team::new();
    let labels = json!({ "alertname": "Backup", "severity": "critical" });
    team.posted(&labels, "No backup", 240);
    team.seconds(30);
    team.arrived();
    team.restart(Span::from_secs(3600), Span::ZERO);
    team.seconds(290);
    assert!(!team.arrived().iter().any(|told| told.contains("Resolved")));
    team.seconds(20);
    assert!(team.arrived().iter().any(|told| told.contains("Resolved")));
}

/// An alert is compared with a silence when one of the two changes, and not at each turn: thousands of silenced alerts cost nothing.
#[test]
fn silences_are_matched_once_per_change() {
    use crate::detect::silence::{Matcher, Silence};
    let mut team = Team::new();
    let matcher = |service: &str| Matcher {
        name: "service".to_owned(),
        value: service.to_owned(),
        is_regex: true,
        is_equal: true,
    };
    let silence = |id: &str, service: &str, now: Now| Silence {
        id: id.to_owned(),
        matchers: vec![matcher(service)],
        starts_at: now.wall,
        ends_at: now.wall + Span::from_secs(7200),
        updated_at: now.wall,
        by: "Léa".to_owned(),
        comment: String::new(),
    };
    let services: Vec<String> = (0..500).map(|number| format!("service-{number}")).collect();
    team.desk.silence(silence("a", "service-.*", team.now), team.now).expect("a silence");
    for service in &services {
        team.fails(service, Severity::Critical);
    }
    team.turn();
    assert_eq!(team.desk.comparisons, 500, "one silence, once for each alert");
    team.seconds(600);
    // The same condition, told again.
    for service in &services {
        let opening = team.desk.find(&format!("probe/{service}-answers")).expect("it fires").opening.clone();
        let state = SignalState::Open(Box::new(opening));
        team.desk.signal(Signal { key: format!("probe/{service}-answers"), state }, team.now);
    }
    team.seconds(60);
    assert_eq!(team.desk.comparisons, 500, "no turn compares anything");
    assert_eq!(team.arrived(), Vec::<String>::new());
    team.desk.silence(silence("b", "other", team.now), team.now).expect("a silence");
    team.seconds(60);
    assert_eq!(team.desk.comparisons, 1000, "a new silence, once with each alert");
    // One that matters more now, and is silenced still.
    team.fails("service-7", Severity::Warning);
    team.seconds(60);
    assert_eq!(team.desk.comparisons, 1002);
    // The first one says something else: what it no longer matches is told.
    team.desk.silence(silence("a", "service-[1-9].*", team.now), team.now).expect("a silence");
    team.seconds(20);
    assert_eq!(team.desk.comparisons, 1502);
    assert_eq!(team.arrived(), ["Léa mail: Firing"]);
    team.restart(Span::from_secs(1), Span::ZERO);
    team.seconds(20);
    assert_eq!(team.desk.comparisons, 1000, "anew, with what is kept");
    team.desk.end_silence("a", team.now);
    team.seconds(20);
    assert!(!team.arrived().is_empty(), "it ended");
    assert_eq!(team.desk.comparisons, 1000);
}
