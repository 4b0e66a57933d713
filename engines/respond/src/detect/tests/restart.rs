//! Restarts, changes of the policy, and clocks that are set. WA-4.

use super::*;

/// One history of failures and requests.
fn history(team: &mut Team, step: usize) {
    match step {
        0 | 36 => team.down("blog"),
        3 => team.down("shop"),
        4 => team.down("wiki"),
        9 => team.fails("mail", Severity::Warning),
        20 => team.acknowledge("blog", "Léa"),
        24 => team.up("shop"),
        30 | 40 => team.up("blog"),
        31 => team.up("wiki"),
        44 => team.up("mail"),
        _ => {}
    }
}

const STEPS: usize = 60;

/// A restart after any step of a history changes nothing of what is told.
#[test]
fn a_restart_in_any_state_changes_nothing() {
    let all = |restart_at: Option<usize>| {
        let mut team = Team::new();
        for step in 0..STEPS {
            history(&mut team, step);
            team.seconds(20);
            if restart_at == Some(step) {
                team.restart(Span::ZERO, Span::ZERO);
            }
        }
        let resolved = team.notes.iter().filter(|note| matches!(note, Note::Alert(_, "resolved"))).count();
        (team.arrived(), resolved)
    };
    let (undisturbed, resolved) = all(None);
    assert!(undisturbed.len() >= 7, "{undisturbed:?}");
    for step in 0..STEPS {
        assert_eq!(all(Some(step)), (undisturbed.clone(), resolved), "restarted after step {step}");
    }
}

/// The clock is a year ahead for a while, or a day, and set back over a restart: nothing waits for that time to come round.
#[test]
fn a_clock_set_back_holds_nothing_up() {
    for days in [1, 365] {
        let mut team = Team::new();
        team.down("shop");
        team.seconds(3600 + 20 * 60);
        team.receiver("Max mail", Receiver::Dead);
        let _ = team.arrived();
        team.restart(Span::from_secs(10), Span::from_days(-days));
        team.seconds(3660);
        let reminders = team.arrived();
        assert!(reminders.iter().any(|it| it == "Léa mail: Reminder"), "{days} days: {reminders:?}");
        team.up("shop");
        team.receiver("Max mail", Receiver::Well);
        team.seconds(310);
        let mut ends = team.arrived();
        ends.sort();
        assert_eq!(ends, ["Léa mail: Resolved", "Léa sms: Resolved", "Max mail: Resolved"], "{days} days");
    }
}

/// The weekly test is sent each week, also after a clock that was a year ahead.
#[test]
fn the_weekly_test_survives_a_clock_that_was_wrong() {
    let policy = POLICY.replace("weekly_test = \"never\"\n", "weekly_test = \"Mon 10:00\"\n");
    let mut team = Team::with(&policy);
    let week = Span::from_days(7);
    team.seconds(60);
    team.pass(week);
    assert_eq!(team.arrived(), ["Léa mail: Test"]);
    team.restart(Span::ZERO, Span::from_days(364));
    team.pass(week);
    let _ = team.arrived();
    team.restart(Span::ZERO, Span::from_days(-364));
    team.pass(week + week);
    assert!(team.arrived().iter().any(|it| it == "Léa mail: Test"), "no test for two weeks");
}

/// A channel that refused is tried again once the policy changes, or garant is started with another one.
#[test]
fn a_refused_channel_is_tried_again_after_mending() {
    for restarts in [false, true] {
        let mut team = Team::new();
        for of in ["Léa mail", "Léa sms", "Max mail"] {
            team.receiver(of, Receiver::Refusing);
        }
        team.down("shop");
        team.seconds(60);
        for of in ["Léa mail", "Léa sms", "Max mail"] {
            team.receiver(of, Receiver::Well);
        }
        team.seconds(60);
        assert_eq!(team.arrived(), Vec::<String>::new());
        if restarts {
            team.restart(Span::from_secs(5), Span::ZERO);
        } else {
            team.follow(POLICY);
        }
        team.seconds(10);
        let mut arrived = team.arrived();
        arrived.sort();
        assert_eq!(arrived, ["Léa mail: Firing", "Léa sms: Firing", "Max mail: Firing"], "restart: {restarts}");
    }
}

/// Somebody gets another address during an outage: the end is told there.
#[test]
fn another_address_gets_what_is_owed() {
    let mut team = Team::new();
    team.down("shop");
    team.seconds(1000);
    let _ = team.arrived();
    team.follow(&POLICY.replace("max@shop.example", "maxime@shop.example"));
    team.up("shop");
    team.seconds(20);
    let mut arrived = team.arrived();
    arrived.sort();
    assert_eq!(arrived, ["Léa mail: Resolved", "Léa sms: Resolved", "Max mail: Resolved"]);
}

/// The only person who was told leaves the team: those of the policy are told instead.
#[test]
fn somebody_who_leaves_is_replaced() {
    let mut team = Team::new();
    team.receiver("Léa mail", Receiver::Dead);
    team.down("shop");
    team.seconds(5);
    let lea = POLICY.find("[[person]]").expect("Léa");
    let max = POLICY.find("[[person]]\nname = \"Max\"").expect("Max");
    let without = format!("{}{}", &POLICY[..lea], &POLICY[max..]).replace("{ person = \"Léa\" }, ", "");
    team.follow(&without);
    team.seconds(10);
    assert_eq!(team.arrived(), ["Max mail: Firing"]);
}
