//! Receipts: what a gateway says of messages that it has taken. WA-4.

use super::*;

/// A team whose first channel is one that sends receipts.
fn team() -> Team {
    let both = "{ mail = \"lea@shop.example\" }, { sms = \"+33600000000\", severity = [\"critical\"] }";
    let turned = "{ sms = \"+33600000000\", severity = [\"critical\"] }, { mail = \"lea@shop.example\" }";
    assert!(POLICY.contains(both));
    Team::with(&POLICY.replace(both, turned))
}

fn failed() -> Delivery {
    Delivery::Failed { reason: "not delivered".to_owned() }
}

fn notes(team: &mut Team) -> Vec<String> {
    let notes = std::mem::take(&mut team.notes);
    let words = notes.into_iter().filter_map(|note| match note {
        Note::Notified { thread, state } => {
            Some(format!("{} {state}", thread.channel.split('-').next().unwrap_or_default()))
        }
        _ => None,
    });
    words.collect()
}

/// Queued, handed over, delivered, acknowledged: each in the journal, each once.
#[test]
fn a_receipt_says_that_a_message_was_delivered() {
    let mut team = team();
    team.down("shop");
    team.seconds(3);
    let arrived = team.inbox[0].clone();
    assert_eq!(team.arrived(), ["Léa sms: Firing"]);
    assert_eq!(team.states("shop"), ["Léa sms: handed_over"]);
    team.seconds(5);
    for _ in 0..2 {
        team.receipt(&arrived, Delivery::Delivered);
    }
    // The first word counts.
    team.receipt(&arrived, failed());
    assert_eq!(team.states("shop"), ["Léa sms: delivered"]);
    let alert = team.desk.find("probe/shop-answers").expect("it fires");
    let at = crate::view::alert(&team.desk, alert, team.now)["notified"][0]["at"].clone();
    assert_eq!(at, team.now.wall.to_rfc3339(), "when it was delivered");
    team.restart(Span::from_secs(1), Span::ZERO);
    assert_eq!(team.states("shop"), ["Léa sms: delivered"], "kept");
    team.acknowledge("shop", "Léa");
    team.write();
    assert_eq!(team.states("shop"), ["Léa sms: acknowledged"]);
    assert_eq!(notes(&mut team), ["sms queued", "sms handed_over", "sms delivered", "sms acknowledged"]);
    assert_eq!(team.arrived(), Vec::<String>::new());
}

/// What can't be delivered counts as refused: the next channel at once, and the next person where none is left.
#[test]
fn what_is_not_delivered_goes_to_the_next_channel_and_the_next_person() {
    let mut team = team();
    team.down("shop");
    team.seconds(3);
    let arrived = team.inbox[0].clone();
    team.receiver("Léa sms", Receiver::Refusing);
    team.receipt(&arrived, failed());
    team.receipt(&arrived, failed());
    assert_eq!(team.states("shop"), ["Léa sms: failed"]);
    team.seconds(1);
    assert_eq!(team.arrived(), ["Léa sms: Firing", "Léa mail: Firing"]);
    assert_eq!(notes(&mut team), ["sms queued", "sms handed_over", "sms failed", "mail queued", "mail handed_over"]);

    let alone = POLICY.replace("{ mail = \"lea@shop.example\" }, ", "");
    let mut team = Team::with(&alone);
    team.down("shop");
    team.seconds(3);
    let arrived = team.inbox[0].clone();
    team.receipt(&arrived, failed());
    team.seconds(1);
    assert_eq!(team.arrived(), ["Léa sms: Firing", "Max mail: Firing"]);
    // It is tried again ten minutes later, as what was refused is.
    team.seconds(601);
    let again = team.inbox.iter().find(|arrived| arrived.to == "Léa sms").expect("tried again").clone();
    assert_ne!(again.id, arrived.id, "another message");
    team.receipt(&arrived, failed());
    assert!(
        team.states("shop").contains(&"Léa sms: handed_over".to_owned()),
        "the old receipt is about the old message"
    );
    team.receipt(&again, Delivery::Delivered);
    assert!(team.states("shop").contains(&"Léa sms: delivered".to_owned()));
}

/// The end that did not arrive is told on the next channel, also when all was settled; a receipt for what is forgotten changes
/// nothing.
#[test]
fn an_end_that_was_not_delivered_is_told_elsewhere() {
    let mut team = team();
    team.down("shop");
    team.seconds(3);
    let first = team.inbox[0].clone();
    team.receipt(&first, Delivery::Delivered);
    team.up("shop");
    team.seconds(60);
    let end = team.inbox[1].clone();
    assert_eq!(team.arrived(), ["Léa sms: Firing", "Léa sms: Resolved"]);
    team.receiver("Léa sms", Receiver::Refusing);
    team.receipt(&end, failed());
    team.seconds(1);
    assert_eq!(team.arrived(), ["Léa mail: Resolved"]);
    team.receiver("Léa sms", Receiver::Well);
    team.seconds(601);
    assert_eq!(team.arrived(), ["Léa sms: Resolved"], "once more, as what was refused is");
    team.pass(Span::from_days(3));
    let rows = team.rows.clone();
    team.receipt(&end, Delivery::Delivered);
    team.receipt(&first, failed());
    assert_eq!(team.rows, rows);
}

/// A digest is one message: its receipt is about all that it told.
#[test]
fn the_receipt_of_a_digest_is_about_all_of_it() {
    let mut team = team();
    team.receiver("Léa sms", Receiver::Dead);
    team.receiver("Léa mail", Receiver::Dead);
    team.down("shop");
    team.seconds(40);
    team.down("mail");
    team.seconds(40);
    team.receiver("Léa sms", Receiver::Well);
    team.seconds(301);
    let digest = team.inbox.iter().find(|arrived| arrived.to == "Léa sms").expect("a message").clone();
    assert_eq!(digest.what, What::Digest);
    team.receipt(&digest, Delivery::Delivered);
    for service in ["shop", "mail"] {
        assert!(
            team.states(service).contains(&"Léa sms: delivered".to_owned()),
            "{service}: {:?}",
            team.states(service)
        );
    }
}

/// A gateway may call back before it has answered.
#[test]
fn a_receipt_before_the_answer_counts_after_it() {
    for delivery in [Delivery::Delivered, failed()] {
        let mut team = team();
        team.down("shop");
        team.now = Now { steady: team.now.steady + Span::from_secs(2), wall: team.now.wall + Span::from_secs(2) };
        team.desk.turn(team.now);
        team.now = Now { steady: team.now.steady + Span::from_secs(2), wall: team.now.wall + Span::from_secs(2) };
        team.desk.turn(team.now);
        let letters = team.desk.letters(team.now);
        let [letter] = &letters[..] else { panic!("{letters:?}") };
        let key = letter.threads[0].key.clone();
        team.desk.receipt(&key, 0, delivery.clone(), team.now);
        assert_eq!(team.states("shop"), ["Léa sms: queued"]);
        team.desk.sent(letter, &Sent::Accepted { reference: None }, 0, team.now);
        let state = if delivery == Delivery::Delivered { "delivered" } else { "failed" };
        assert_eq!(team.states("shop"), [format!("Léa sms: {state}")]);
    }
    // Of one that was not taken over after all, it says nothing.
    let mut team = team();
    team.down("shop");
    for _ in 0..2 {
        team.now = Now { steady: team.now.steady + Span::from_secs(2), wall: team.now.wall + Span::from_secs(2) };
        team.desk.turn(team.now);
    }
    let letters = team.desk.letters(team.now);
    team.desk.receipt(&letters[0].threads[0].key.clone(), 0, Delivery::Delivered, team.now);
    let again = Sent::Again { reason: "no answer".to_owned(), after: None };
    team.desk.sent(&letters[0], &again, 0, team.now);
    assert_eq!(team.states("shop"), ["Léa sms: retrying"]);
}

/// What everybody may read since the last call: the word, the failure, and the seconds from its first look to then.
fn told_to_everybody(team: &mut Team) -> Vec<String> {
    let notes = std::mem::take(&mut team.notes);
    let words = notes.into_iter().filter_map(|note| match note {
        Note::Reacted { to, alert, at } => {
            let alert = &team.desk.alerts[&alert];
            let seconds = at.since(alert.opening.shown_by.expect("of a failure")).micros() / 1_000_000;
            Some(format!("{to:?} {} {seconds}", alert.key))
        }
        _ => None,
    });
    words.collect()
}

/// Everybody may read that a failure was told of, delivered and acknowledged, and how fast: each once, whatever is repeated, and over a
/// restart.
#[test]
fn everybody_may_read_once_that_it_was_delivered_and_acknowledged() {
    let mut team = team();
    team.down("shop");
    team.seconds(5);
    let arrived = team.inbox[0].clone();
    assert_eq!(told_to_everybody(&mut team), ["Failure probe/shop-answers 1"]);
    for round in 0..3 {
        team.receipt(&arrived, Delivery::Delivered);
        let expected = if round == 0 { &["Delivered probe/shop-answers 5"][..] } else { &[] };
        assert_eq!(told_to_everybody(&mut team), expected, "round {round}");
        team.restart(Span::from_secs(1), Span::ZERO);
    }
    team.seconds(32);
    for (round, by) in ["Léa", "Max", "Léa"].into_iter().enumerate() {
        team.acknowledge("shop", by);
        team.write();
        let expected = if round == 0 { &["Acknowledged probe/shop-answers 40"][..] } else { &[] };
        assert_eq!(told_to_everybody(&mut team), expected, "round {round}");
        team.restart(Span::from_secs(1), Span::ZERO);
    }
    // The acknowledgement expires, others are told and take it on: that was not the first time.
    team.pass(Span::from_days(1));
    team.acknowledge("shop", "Max");
    team.up("shop");
    team.seconds(60);
    let last = team.inbox.iter().rfind(|arrived| arrived.to == "Léa sms").expect("told of the end").clone();
    team.receipt(&last, Delivery::Delivered);
    assert_eq!(told_to_everybody(&mut team), Vec::<String>::new());
}

/// One message about several failures is about each of them; what joins later was in no message before, and what is over needs nobody.
#[test]
fn one_message_is_delivered_for_each_failure_that_it_tells_of() {
    let mut team = team();
    team.down("shop");
    team.down("blog");
    team.seconds(5);
    let arrived = team.inbox[0].clone();
    team.down("wiki");
    team.up("blog");
    team.receipt(&arrived, Delivery::Delivered);
    let mut told = told_to_everybody(&mut team);
    told.sort();
    let expected = [
        "Delivered probe/blog-answers 5",
        "Delivered probe/shop-answers 5",
        "Failure probe/blog-answers 1",
        "Failure probe/shop-answers 1",
    ];
    assert_eq!(told, expected);
    team.seconds(2);
    team.acknowledge("shop", "Léa");
    team.write();
    let mut told = told_to_everybody(&mut team);
    told.sort();
    assert_eq!(told, ["Acknowledged probe/shop-answers 7", "Acknowledged probe/wiki-answers 2"]);
}

/// A receipt that comes late is about the failure that its message told of, not about the one after it.
#[test]
fn a_late_receipt_is_about_the_failure_before() {
    let mut team = team();
    team.down("shop");
    team.seconds(5);
    let first = team.inbox[0].clone();
    assert_eq!(told_to_everybody(&mut team), ["Failure probe/shop-answers 1"]);
    team.up("shop");
    team.seconds(2);
    team.down("shop");
    team.seconds(1);
    let mut early = Team { now: team.now, rows: team.rows.clone(), ..self::team() };
    early.restart(Span::ZERO, Span::ZERO);
    early.receipt(&first, Delivery::Delivered);
    assert_eq!(early.states("shop"), ["Léa sms: delivered"]);
    assert_eq!(told_to_everybody(&mut early), Vec::<String>::new(), "nobody was told of the second failure yet");

    team.seconds(900);
    assert!(team.arrived().contains(&"Léa mail: Firing".to_owned()), "the next channel");
    let told = told_to_everybody(&mut team);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("Failure probe/shop-answers "), "{told:?}");
    team.receipt(&first, Delivery::Delivered);
    assert_eq!(told_to_everybody(&mut team), Vec::<String>::new());
}

/// What is about nothing that everybody may read of has no such entries.
#[test]
fn of_what_is_not_public_nobody_else_reads() {
    let mut team = team();
    let opening = Opening { shown_by: None, ..team.opening("shop", Severity::Critical) };
    let state = SignalState::Open(Box::new(opening));
    team.desk.signal(Signal { key: "probe/shop-answers".to_owned(), state }, team.now);
    team.seconds(5);
    let arrived = team.inbox[0].clone();
    team.receipt(&arrived, Delivery::Delivered);
    team.acknowledge("shop", "Léa");
    team.write();
    assert_eq!(told_to_everybody(&mut team), Vec::<String>::new());
    assert_eq!(team.states("shop"), ["Léa sms: acknowledged"]);
}
