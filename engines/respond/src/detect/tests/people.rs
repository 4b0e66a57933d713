//! Who is told, when, and how often. WA-2, WA-3, WA-4.

use super::*;

/// Nobody acknowledges: the second channel after five minutes, the next person after fifteen, a reminder after an hour. An
/// acknowledgement stops all of it until it expires.
#[test]
fn an_acknowledgement_stops_the_escalation_and_expires() {
    let mut team = Team::new();
    team.down("shop");
    team.seconds(299);
    assert_eq!(team.arrived(), ["Léa mail: Firing"]);
    team.seconds(5);
    assert_eq!(team.arrived(), ["Léa sms: Firing"]);
    team.seconds(10 * 60);
    assert_eq!(team.arrived(), ["Max mail: Firing"]);
    team.seconds(3600);
    let mut reminders = team.arrived();
    reminders.sort();
    assert_eq!(reminders, ["Léa mail: Reminder", "Léa sms: Reminder", "Max mail: Reminder"]);

    team.acknowledge("shop", "Max");
    team.seconds(4 * 3600 - 60);
    assert_eq!(team.arrived(), Vec::<String>::new());
    team.seconds(120);
    let mut again = team.arrived();
    again.sort();
    assert_eq!(again, ["Léa mail: Reminder", "Léa sms: Reminder", "Max mail: Reminder"]);
    team.up("shop");
    team.seconds(30);
    let mut ends = team.arrived();
    ends.sort();
    assert_eq!(ends, ["Léa mail: Resolved", "Léa sms: Resolved", "Max mail: Resolved"]);
}

/// Whoever it is handed over to is told at once; when they do not acknowledge it goes on as the policy says.
#[test]
fn an_alert_is_handed_over() {
    let mut team = Team::new();
    team.down("shop");
    team.seconds(5);
    team.acknowledge("shop", "Léa");
    team.desk.hand_over(team.number("shop"), "Max", team.now).expect("it fires");
    team.seconds(5);
    assert_eq!(team.arrived(), ["Léa mail: Firing", "Max mail: Firing"]);
    // Max leaves the team: the policy has the alert again.
    let max = POLICY.find("[[person]]\nname = \"Max\"").expect("Max");
    let end = POLICY.find("[[escalation]]").expect("the escalation");
    let without =
        format!("{}{}", &POLICY[..max], &POLICY[end..]).replace(", { person = \"Max\", after = \"15 min\" }", "");
    team.follow(&without);
    team.up("shop");
    team.seconds(10);
    assert_eq!(team.arrived(), ["Léa mail: Resolved"]);
}

/// What is not critical waits for the end of the quiet hours; what is, does not.
#[test]
fn quiet_hours_hold_back_what_can_wait() {
    let mut team = Team::new();
    // Noon in Paris, and so 23:00.
    team.seconds(11 * 3600);
    team.fails("wiki", Severity::Warning);
    team.seconds(3600);
    assert_eq!(team.arrived(), Vec::<String>::new());
    team.down("mail");
    team.seconds(3);
    assert_eq!(team.arrived(), ["Léa mail: Firing"]);
    team.acknowledge("mail", "Léa");
    team.seconds(6 * 3600 + 3000);
    assert!(!team.arrived().iter().any(|what| what == "Léa mail: Firing"), "before seven");
    team.seconds(600);
    assert!(team.inbox.iter().any(|arrived| arrived.subject.contains("wiki is down")), "{:?}", team.inbox);
}

/// A warning that becomes critical reaches those who have a channel for critical alerts only.
#[test]
fn a_raised_alert_reaches_those_it_now_concerns() {
    let policy = POLICY
        .replace("step = [{ person = \"Léa\" }, {", "step = [{ person = [\"Léa\", \"Max\"] }, {")
        .replace("{ mail = \"max@shop.example\" }", "{ mail = \"max@shop.example\", severity = [\"critical\"] }");
    let mut team = Team::with(&policy);
    team.fails("shop", Severity::Warning);
    team.seconds(70);
    assert_eq!(team.arrived(), ["Léa mail: Firing"]);
    team.fails("shop", Severity::Critical);
    team.seconds(5);
    let mut told = team.arrived();
    told.sort();
    assert_eq!(told, ["Léa mail: Update", "Max mail: Firing"]);
}

/// Nobody is on call for the first step: the next one is told at once, for a warning too.
#[test]
fn a_step_without_anybody_is_skipped() {
    let schedule = "[[schedule]]\nname = \"ops\"\nlayer = [{ people = [\"Léa\"], every = \"day\", hand_over = \"08:00\", \
                    from = \"2030-01-01\" }]\n";
    let policy = format!("{}{schedule}", POLICY.replace("{ person = \"Léa\" }", "{ schedule = \"ops\" }"));
    for (severity, seconds) in [(Severity::Critical, 2), (Severity::Warning, 62)] {
        let mut team = Team::with(&policy);
        team.fails("shop", severity);
        team.seconds(seconds);
        assert_eq!(team.arrived(), ["Max mail: Firing"], "{severity:?}");
    }
}

/// A test message is not mixed with alerts: each alert keeps its link, and the test comes as well.
#[test]
fn a_test_is_a_message_of_its_own() {
    let mut team = Team::new();
    team.down("shop");
    let channel = team.rules.people[0].channels[0].id.clone();
    team.seconds(0);
    team.now = Now { steady: team.now.steady + Span::from_secs(1), wall: team.now.wall + Span::from_secs(1) };
    team.desk.queue_test("Léa", channel, team.now);
    team.seconds(10);
    assert!(team.inbox[0].link, "{:?}", team.inbox);
    assert_eq!(team.arrived(), ["Léa mail: Firing", "Léa mail: Test"]);
}
