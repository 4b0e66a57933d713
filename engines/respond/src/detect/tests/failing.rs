//! Receivers that are dead, refuse, or come back: nothing is lost. WA-4.

use super::*;

/// Dead during the whole outage, in all its ways: one message to each channel afterwards, which says both ends.
#[test]
fn a_dead_receiver_gets_one_message_afterwards() {
    let mut team = Team::new();
    for of in ["Léa mail", "Léa sms", "Max mail"] {
        team.receiver(of, Receiver::Dead);
    }
    team.down("blog");
    team.seconds(60);
    team.down("shop");
    team.down("wiki");
    team.seconds(3600);
    for service in ["blog", "shop", "wiki"] {
        team.up(service);
    }
    team.seconds(600);
    assert_eq!(team.arrived(), Vec::<String>::new());
    for of in ["Léa mail", "Léa sms", "Max mail"] {
        team.receiver(of, Receiver::Well);
    }
    team.seconds(301);
    let mut arrived = team.arrived();
    arrived.sort();
    // Two alerts, for the second one came after a minute: one message.
    assert_eq!(arrived, ["Léa mail: Digest", "Léa sms: Digest", "Max mail: Digest"]);
    team.seconds(7200);
    assert_eq!(team.arrived(), Vec::<String>::new());
}

/// The second channel when the first one refuses, at once, and when it is dead, after half a minute.
#[test]
fn the_second_channel_is_tried() {
    for (does, seconds) in [(Receiver::Refusing, 3), (Receiver::Dead, 40)] {
        let mut team = Team::new();
        team.receiver("Léa mail", does);
        team.down("shop");
        team.seconds(seconds);
        assert_eq!(team.arrived(), ["Léa sms: Firing"], "{does:?}");
    }
}

/// Nobody waits for somebody who can't be reached: the next person is told, and nobody else is by that.
#[test]
fn the_next_person_is_told_when_all_channels_fail() {
    let policy = POLICY.replace(
        "[[escalation]]",
        "[[person]]\nname = \"Noé\"\nlanguage = \"en\"\nchannel = [{ mail = \"noe@shop.example\" }]\n[[escalation]]",
    );
    let policy =
        policy.replace("after = \"15 min\" }]", "after = \"15 min\" }, { person = \"Noé\", after = \"30 min\" }]");
    let mut team = Team::with(&policy);
    team.receiver("Léa mail", Receiver::Dead);
    team.receiver("Léa sms", Receiver::Refusing);
    team.down("shop");
    team.seconds(45);
    assert_eq!(team.arrived(), ["Max mail: Firing"]);
    team.seconds(120);
    assert_eq!(team.arrived(), Vec::<String>::new(), "Noé has fifteen minutes more");
    team.seconds(15 * 60);
    assert_eq!(team.arrived(), ["Noé mail: Firing"]);
}

/// All whom the policy names for a critical alert can't be reached: everybody else is told.
#[test]
fn everybody_is_told_when_nobody_can_be_reached() {
    let policy = POLICY.replace(", { person = \"Max\", after = \"15 min\" }", "");
    let mut team = Team::with(&policy);
    team.receiver("Léa mail", Receiver::Refusing);
    team.receiver("Léa sms", Receiver::Refusing);
    team.down("shop");
    team.seconds(5);
    assert_eq!(team.arrived(), ["Max mail: Firing"]);
}

/// The end has the same guarantee: a channel that dies after the first message, an outage of days, another channel.
#[test]
fn the_end_of_a_long_outage_is_not_given_up() {
    let mut team = Team::new();
    team.fails("shop", Severity::Warning);
    team.seconds(3 * 86_400);
    let _ = team.arrived();
    team.receiver("Léa mail", Receiver::Dead);
    team.up("shop");
    team.seconds(3600);
    assert_eq!(team.arrived(), Vec::<String>::new(), "Léa has no other channel for a warning");
    team.receiver("Léa mail", Receiver::Well);
    team.seconds(301);
    assert_eq!(team.arrived(), ["Léa mail: Resolved"]);

    let mut team = Team::new();
    team.down("shop");
    team.seconds(60);
    team.acknowledge("shop", "Léa");
    let _ = team.arrived();
    team.receiver("Léa mail", Receiver::Dead);
    team.up("shop");
    team.seconds(60);
    assert_eq!(team.arrived(), ["Léa sms: Resolved"]);
}

/// What fires is told however long the receiver was dead.
#[test]
fn what_fires_is_never_given_up() {
    let mut team = Team::new();
    for of in ["Léa mail", "Léa sms", "Max mail"] {
        team.receiver(of, Receiver::Dead);
    }
    team.down("shop");
    team.seconds(30 * 3600);
    for of in ["Léa mail", "Léa sms", "Max mail"] {
        team.receiver(of, Receiver::Well);
    }
    team.seconds(301);
    let mut arrived = team.arrived();
    arrived.sort();
    assert_eq!(arrived, ["Léa mail: Firing", "Léa sms: Firing", "Max mail: Firing"]);
}

/// A message that is tried again keeps its identifier, so that a receiver can tell.
#[test]
fn an_attempt_keeps_the_identifier() {
    let mut team = Team::new();
    team.down("shop");
    team.seconds(2);
    let first = team.inbox[0].id.clone();
    team.up("shop");
    team.seconds(10);
    assert_ne!(team.inbox[1].id, first, "another message");
    // A crash between sending and marking: the same again.
    let mut team = Team::new();
    team.down("shop");
    team.pass(Span::from_millis(500));
    let before = team.rows.clone();
    team.seconds(1);
    assert_eq!(team.inbox.len(), 1);
    team.rows = before;
    team.restart(Span::from_secs(2), Span::ZERO);
    team.seconds(5);
    assert_eq!(team.inbox.len(), 2);
    assert_eq!(team.inbox[0].id, team.inbox[1].id);
}

/// Over is what was told; it fires again and is over again while the receiver is dead: the second time is told as well.
#[test]
fn an_outage_that_nobody_was_told_of_is_told_after_the_next_one_too() {
    let mut team = Team::new();
    team.down("shop");
    team.seconds(60);
    team.up("shop");
    team.seconds(60);
    assert_eq!(team.arrived(), ["Léa mail: Firing", "Léa mail: Resolved"]);
    team.receiver("Léa mail", Receiver::Dead);
    team.down("shop");
    team.seconds(8);
    team.up("shop");
    team.seconds(6);
    team.receiver("Léa mail", Receiver::Well);
    team.seconds(60);
    assert_eq!(team.arrived(), ["Léa mail: Resolved"]);
}
