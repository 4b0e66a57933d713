//! Which alerts are told, and which are one. WA-1, WA-5, MA-2.

use std::fmt::Write as _;

use super::*;
use crate::detect::silence::{Matcher, Silence};

/// A warning that is over within its minute alerts nobody; one that lasts does.
#[test]
fn a_blip_alerts_nobody() {
    let mut team = Team::new();
    team.fails("shop", Severity::Warning);
    team.seconds(50);
    team.up("shop");
    team.seconds(600);
    assert_eq!(team.arrived(), Vec::<String>::new());
    team.fails("shop", Severity::Warning);
    team.seconds(59);
    assert_eq!(team.arrived(), Vec::<String>::new());
    team.seconds(3);
    assert_eq!(team.arrived(), ["Léa mail: Firing"]);
}

/// A critical alert is told after a second, in the words of one service, with a link; and its end.
#[test]
fn the_first_alert_is_told_after_one_second() {
    let mut team = Team::new();
    team.down("shop");
    team.seconds(2);
    let first = team.inbox[0].clone();
    assert!(first.at.since(START) <= Span::from_millis(1100), "{:?}", first.at.since(START));
    assert_eq!((first.to.as_str(), first.what, first.link), ("Léa mail", What::Firing, true));
    assert_eq!(first.subject, "[critical] shop is down");
    team.seconds(60);
    team.up("shop");
    team.seconds(10);
    assert_eq!(team.arrived(), ["Léa mail: Firing", "Léa mail: Resolved"]);
}

/// What fails with a host is one message, and one update that names the host and how much of it; then one end.
#[test]
fn followers_are_told_as_one_update() {
    let mut team = Team::new();
    team.down("blog");
    team.seconds(3);
    team.down("shop");
    team.down("wiki");
    team.seconds(5);
    team.down("database");
    team.seconds(120);
    assert_eq!(team.inbox.len(), 2, "{:?}", team.inbox);
    assert_eq!(team.inbox[1].what, What::Update);
    assert_eq!(team.inbox[1].subject, "[critical] Region strasbourg: 2 hosts, 4 services down");
    for service in ["shop", "wiki", "database"] {
        team.up(service);
    }
    team.seconds(60);
    assert_eq!(team.inbox.len(), 2, "not over while one fails: {:?}", team.inbox);
    team.up("blog");
    team.seconds(10);
    assert_eq!(team.arrived(), ["Léa mail: Firing", "Léa mail: Update", "Léa mail: Resolved"]);
}

/// The cause may come after its consequence, whatever the time between, and is named.
#[test]
fn a_dependency_that_fails_is_the_cause() {
    let mut team = Team::new();
    team.down("shop");
    team.seconds(200);
    team.acknowledge("shop", "Léa");
    team.down("database");
    team.seconds(100);
    let update = team.inbox.last().expect("an update");
    assert_eq!(update.what, What::Update);
    assert!(update.text.contains("Likely cause: database is down"), "{}", update.text);
    assert!(update.text.contains("shop") && update.text.contains("database"), "{}", update.text);
    assert_eq!(team.arrived(), ["Léa mail: Firing", "Léa mail: Update"]);
}

/// One of two probes of a service is well again: the service still counts as failed, and its dependents still follow.
#[test]
fn a_service_with_two_probes_fails_while_one_does() {
    let mut team = Team::new();
    team.down("database");
    let other = SignalState::Open(Box::new(team.opening("database", Severity::Critical)));
    team.desk.signal(Signal { key: "probe/other".to_owned(), state: other }, team.now);
    team.seconds(200);
    team.desk.signal(Signal { key: "probe/other".to_owned(), state: SignalState::Over(team.now.wall) }, team.now);
    team.down("shop");
    team.seconds(3);
    assert!(team.desk.find("probe/shop-answers").expect("open").follows.is_some(), "{:?}", team.inbox);
}

/// A failure in another region is another cause, and told at once.
#[test]
fn a_cause_in_another_region_breaks_through() {
    let mut team = Team::new();
    team.down("blog");
    team.seconds(5);
    team.down("mail");
    team.seconds(2);
    assert_eq!(team.arrived(), ["Léa mail: Firing", "Léa mail: Firing"]);
    assert_ne!(team.number("blog"), team.number("mail"));
}

/// A second outage of the same region within minutes is one message again, of those that failed before and those that did not.
#[test]
fn a_second_outage_is_one_message() {
    let mut team = Team::new();
    team.down("blog");
    team.seconds(100);
    team.up("blog");
    team.seconds(100);
    assert_eq!(team.arrived(), ["Léa mail: Firing", "Léa mail: Resolved"]);
    team.down("blog");
    team.down("wiki");
    team.seconds(2);
    assert_eq!(team.arrived(), ["Léa mail: Firing"]);
}

/// Beyond the budget messages wait and are told as one digest; a new critical cause breaks through.
#[test]
fn a_budget_ends_in_a_digest() {
    let mut policy = POLICY.to_owned();
    for number in 0..12 {
        write!(policy, "[[region]]\nname = \"r{number}\"\nprovider = \"ovh\"\n").expect("a text");
        write!(policy, "[[service]]\nname = \"s{number}\"\nregion = \"r{number}\"\n").expect("a text");
    }
    let mut team = Team::with(&policy);
    for number in 0..12 {
        team.fails(&format!("s{number}"), Severity::Warning);
        team.seconds(70);
    }
    assert!(team.inbox.len() <= 8, "{:?}", team.inbox);
    team.down("mail");
    team.seconds(3);
    let breaks = team.inbox.last().expect("a message");
    assert!(breaks.subject.contains("mail is down") || breaks.text.contains("mail is down"), "{breaks:?}");
    team.seconds(700);
    let told: String = team.inbox.iter().map(|arrived| arrived.text.clone()).collect();
    for number in 0..12 {
        assert!(told.contains(&format!("s{number} is down")), "s{number} is told in the end:\n{told}");
    }
}

/// A service that fails and recovers all the time is told as such, once, and to be over once it has been quiet.
#[test]
fn what_flaps_is_told_once() {
    let mut team = Team::new();
    for _ in 0..40 {
        team.down("shop");
        team.seconds(20);
        team.up("shop");
        team.seconds(20);
    }
    let told = team.inbox.len();
    assert!(told <= 7, "{told} messages of 40 outages: {:?}", team.inbox);
    assert!(team.inbox.iter().any(|arrived| arrived.subject.contains("it flaps")), "{:?}", team.inbox);
    team.seconds(570);
    assert_eq!(team.inbox.len(), told, "{:?}", team.inbox);
    team.seconds(30);
    assert_eq!(team.inbox.last().map(|arrived| arrived.what), Some(What::Resolved));
    assert_eq!(team.inbox.len(), told + 2, "on both channels");
}

fn silence(team: &Team, service: &str, minutes: i64) -> Silence {
    Silence {
        id: "6f6b4a52-7c3b-4c0b-9b0e-000000000001".to_owned(),
        matchers: vec![Matcher::equals("service", service)],
        starts_at: team.now.wall,
        ends_at: team.now.wall + Span::from_secs(60 * minutes),
        updated_at: team.now.wall,
        by: "Léa".to_owned(),
        comment: "at work".to_owned(),
    }
}

/// A silence and a maintenance end by themselves, and what still fires then is told.
#[test]
fn silences_and_maintenance_end_by_themselves() {
    let mut team = Team::new();
    team.desk.silence(silence(&team, "shop", 30), team.now).expect("a sound silence");
    team.down("shop");
    team.seconds(29 * 60);
    assert_eq!(team.arrived(), Vec::<String>::new());
    team.seconds(2 * 60);
    assert_eq!(team.arrived(), ["Léa mail: Firing"]);

    let from = START.to_rfc3339();
    let to = (START + Span::from_secs(1800)).to_rfc3339();
    let window = format!(
        "{POLICY}[[maintenance]]\nservices = [\"shop\"]\nfrom = \"{from}\"\nto = \"{to}\"\ntext.fr = \"x\"\ntext.en = \"x\"\n"
    );
    let mut team = Team::with(&window);
    team.down("shop");
    team.seconds(29 * 60);
    assert_eq!(team.arrived(), Vec::<String>::new());
    team.seconds(2 * 60);
    assert_eq!(team.arrived(), ["Léa mail: Firing"]);
}

/// A silence that is made after the first message stops further ones, and not the end.
#[test]
fn a_silence_does_not_swallow_the_end() {
    let mut team = Team::new();
    team.down("shop");
    team.seconds(5);
    team.desk.silence(silence(&team, "shop", 600), team.now).expect("a sound silence");
    team.seconds(2 * 3600);
    assert_eq!(team.arrived(), ["Léa mail: Firing"], "no reminder, no second channel, nobody else");
    team.up("shop");
    team.seconds(10);
    assert_eq!(team.arrived(), ["Léa mail: Resolved"]);
}

/// The opening and the end are read at once, after a time in which nobody read: what lasted is told all the same.
#[test]
fn an_outage_that_is_read_afterwards_is_told() {
    let mut team = Team::new();
    team.down("shop");
    team.now = Now { steady: team.now.steady + Span::from_secs(300), wall: team.now.wall + Span::from_secs(300) };
    team.up("shop");
    team.seconds(10);
    assert_eq!(team.arrived(), ["Léa mail: Resolved"]);
}

/// The same while the clock was set back in between: an end before its beginning proves nothing.
#[test]
fn an_outage_over_a_clock_that_was_set_back_is_told() {
    let mut team = Team::new();
    team.down("shop");
    team.now.wall = team.now.wall - Span::from_days(1);
    team.up("shop");
    team.seconds(10);
    assert_eq!(team.arrived(), ["Léa mail: Resolved"]);
}
