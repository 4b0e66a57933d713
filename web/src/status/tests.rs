use axum::http::StatusCode;

use super::*;
use crate::fake::{Fixture, NOW, applied, get, log_with};
use crate::ready::Readiness;

/// What the command reads is what the server writes.
#[tokio::test]
async fn the_contract_with_the_command() {
    let fixture = Fixture::with(applied(), log_with(20), &["watch"]);
    let answer = get(fixture.team(), "/api/status.json").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("content-type"), "application/json");
    let status: Status = serde_json::from_slice(&answer.body).expect("a status");
    assert_eq!((status.publish, status.at, status.revision.as_deref()), (true, NOW, Some("fedcba9876543210")));
    assert_eq!((status.journal.size, status.journal.published_size), (24, Some(24)));
    assert_eq!(status.journal.witnesses, ["witness.example"]);
    let [service] = status.services.as_slice() else { panic!("{:?}", status.services) };
    assert_eq!((service.service.as_str(), service.state), ("shop", CurrentState::Undecided));
    let detail = DetailStatus {
        probe: "shop-answers".parse().expect("a name"),
        observers: ["strasbourg".parse().expect("a name")].into(),
        text: "status 502, \"200\" expected\\\n".to_owned(),
    };
    assert_eq!(service.details, [detail]);
    let [first, second] = status.probes.as_slice() else { panic!("{:?}", status.probes) };
    assert_eq!((first.observer.as_str(), first.state), ("gravelines", CurrentState::Up));
    assert_eq!(first.phases.each().map(|(phase, _)| phase).collect::<Vec<_>>().len(), 5);
    assert_eq!((second.state, second.phases.body), (CurrentState::Down, Span::ZERO));
    assert_eq!(second.certificate_expires, Some(NOW + Span::from_days(8)));
    let outcomes: Vec<_> =
        status.promises.iter().map(|p| (p.promise.as_str(), p.outcome, p.objectives.len())).collect();
    assert_eq!(outcomes, [("AV-1", Outcome::Broken, 2), ("BK-1", Outcome::Unproven, 1)]);
    let [engine] = status.engines.as_slice() else { panic!("{:?}", status.engines) };
    assert_eq!((engine.engine.as_str(), engine.state.as_str(), engine.healthy), ("watch", "starting", false));
    assert!(answer.text().contains("\"state\":\"undecided\""), "{}", answer.text());
}

#[test]
fn observers_agree_as_the_probe_says() {
    use event::evidence::State::{Degraded, Down, Flapping, Up};
    let row = |state: Option<event::evidence::State>| ProbeStanding {
        or_before: false,
        probe: "p".parse().expect("a name"),
        observer: "o".parse().expect("a name"),
        state: state.map(|state| (state, NOW)),
        at: NOW,
        took: Span::ZERO,
        value: None,
        phases: engine::standing::Phases::default(),
        certificate_expires: None,
        text: String::new(),
        findings: Vec::new(),
    };
    for (agreement, states, expected) in [
        (Agreement::Majority, &[][..], CurrentState::Unknown),
        (Agreement::Majority, &[None, None], CurrentState::Unknown),
        (Agreement::Majority, &[Some(Up), None], CurrentState::Up),
        (Agreement::Majority, &[Some(Up), Some(Degraded)], CurrentState::Degraded),
        (Agreement::Majority, &[Some(Up), Some(Down)], CurrentState::Undecided),
        (Agreement::Majority, &[Some(Up), Some(Down), Some(Down)], CurrentState::Down),
        (Agreement::Majority, &[Some(Up), Some(Up), Some(Down)], CurrentState::Up),
        (Agreement::Majority, &[Some(Up), Some(Flapping), Some(Up)], CurrentState::Up),
        (Agreement::Majority, &[Some(Up), Some(Flapping)], CurrentState::Undecided),
        (Agreement::Majority, &[Some(Up), Some(Flapping), Some(Degraded)], CurrentState::Degraded),
        (Agreement::Any, &[Some(Up), Some(Flapping)], CurrentState::Undecided),
        (Agreement::All, &[Some(Up), Some(Flapping)], CurrentState::Up),
        (Agreement::All, &[Some(Down), Some(Flapping)], CurrentState::Undecided),
        (Agreement::Any, &[Some(Up), Some(Up), Some(Down)], CurrentState::Down),
        (Agreement::All, &[Some(Up), Some(Down), Some(Down)], CurrentState::Up),
        (Agreement::All, &[Some(Down), None], CurrentState::Down),
    ] {
        let rows: Vec<_> = states.iter().map(|state| row(*state)).collect();
        assert_eq!(agreed(agreement, &rows.iter().collect::<Vec<_>>()), expected, "{agreement:?} {states:?}");
    }
}

/// The journal knows since when, also from before a restart; until its reader has heard of a change, the change is that of the
/// last probe.
#[test]
fn since_when_is_the_services_own() {
    let fixture = Fixture::new();
    let id: ServiceId = "shop".parse().expect("a name");
    let since = || services(&fixture.state, &(fixture.state.probes)(), fixture.state.clock.now())[0].since;
    let minute_ago = NOW - Span::from_secs(60);
    assert_eq!(since(), Some(minute_ago), "the journal says nothing yet");
    for (state, at, expected) in [
        (Some(event::evidence::State::Flapping), NOW - Span::from_days(2), NOW - Span::from_days(2)),
        (Some(event::evidence::State::Up), NOW - Span::from_days(2), minute_ago),
    ] {
        let standing = promise::ServiceStanding { state, since: at, began_after: None };
        fixture.in_effect.send_modify(|in_effect| {
            Arc::make_mut(in_effect).services = Arc::new([(id.clone(), standing)].into());
        });
        assert_eq!(since(), Some(expected), "{state:?}");
    }
    // What the first look of this run showed may have been so before.
    let mut fixture = fixture;
    let rows: Vec<_> =
        (fixture.state.probes)().into_iter().map(|row| ProbeStanding { or_before: true, ..row }).collect();
    let before = Arc::clone(&fixture.state.probes);
    Arc::get_mut(&mut fixture.state).expect("nobody else has it").probes = Arc::new(move || rows.clone());
    let of =
        |fixture: &Fixture| services(&fixture.state, &(fixture.state.probes)(), fixture.state.clock.now())[0].since;
    assert_eq!(of(&fixture), None);
    Arc::get_mut(&mut fixture.state).expect("nobody else has it").probes = before;
    // After a start, before the journal was read, the first look of this run is no change.
    fixture.in_effect.send_replace(Arc::default());
    assert_eq!(of(&fixture), None);
}

/// What holds since before a break was not watched then; a break before that, or of less than two seconds, is none of it.
#[test]
fn what_was_not_watched_is_told() {
    let fixture = Fixture::new();
    let ago = |seconds: i64| NOW - Span::from_secs(seconds);
    let standing =
        promise::ServiceStanding { state: Some(event::evidence::State::Flapping), since: ago(3600), began_after: None };
    let told = |breaks: &[Interval]| {
        fixture.in_effect.send_modify(|in_effect| {
            let in_effect = Arc::make_mut(in_effect);
            in_effect.services = Arc::new([("shop".parse().expect("a name"), standing)].into());
            in_effect.unwatched = Arc::new(breaks.iter().copied().collect());
        });
        services(&fixture.state, &(fixture.state.probes)(), fixture.state.clock.now())[0].unwatched
    };
    let (before, short) =
        (Interval::new(ago(7200), ago(3700)), Interval::new(ago(3000), ago(3000) + Span::from_millis(1900)));
    assert_eq!(told(&[before, short]), None);
    let (one, other) = (Interval::new(ago(2400), ago(1800)), Interval::new(ago(1200), ago(600)));
    assert_eq!(told(&[before, one]), Some(UnwatchedStatus { length: Span::from_secs(600), last: one }));
    assert_eq!(told(&[one, short, other]), Some(UnwatchedStatus { length: Span::from_secs(1200), last: other }));
}

/// What began while nobody looked is not said to have begun when somebody did again.
#[tokio::test]
async fn what_began_unwatched_is_said_to() {
    let fixture = Fixture::new();
    let state = Some(event::evidence::State::Flapping);
    let (since, after) = (NOW - Span::from_secs(600), NOW - Span::from_secs(4200));
    let standing = promise::ServiceStanding { state, since, began_after: Some(after) };
    fixture.in_effect.send_modify(|in_effect| {
        let in_effect = Arc::make_mut(in_effect);
        in_effect.services = Arc::new([("shop".parse().expect("a name"), standing)].into());
        in_effect.unwatched = Arc::new([Interval::new(after, since - Span::from_secs(2))].into_iter().collect());
    });
    let status = get(fixture.team(), "/api/status.json").await;
    let status: Status = serde_json::from_slice(&status.body).expect("a status");
    let shown = &status.services[0];
    assert_eq!((shown.since, shown.began_after, shown.unwatched), (Some(since), Some(after), None));
    let trust_page = get(fixture.team(), "/en").await;
    assert!(trust_page.text().contains("since some time between "), "{}", trust_page.text());
}

/// A clock that was set back: nothing holds since a time that is still to come, and that is said.
#[tokio::test]
async fn nothing_holds_since_the_future() {
    let fixture = Fixture::new();
    let status = || async {
        let answer = get(fixture.team(), "/api/status.json").await;
        serde_json::from_slice::<Status>(&answer.body).expect("a status")
    };
    assert_eq!(status().await.clock_behind, None);
    let ahead = Span::from_secs(3600);
    let standing = promise::ServiceStanding {
        state: Some(event::evidence::State::Flapping),
        since: NOW + ahead,
        began_after: None,
    };
    fixture.in_effect.send_modify(|in_effect| {
        Arc::make_mut(in_effect).services = Arc::new([("shop".parse().expect("a name"), standing)].into());
    });
    let now = status().await;
    assert_eq!((now.clock_behind, now.services[0].since, now.services[0].unwatched), (Some(ahead), Some(NOW), None));
}

/// A maintenance under way is said, one to come is not.
#[test]
fn maintenance_under_way_is_said() {
    let fixture = Fixture::new();
    let shown =
        || services(&fixture.state, &[], fixture.state.clock.now())[0].maintenance.clone().map(|window| window.until);
    assert_eq!(shown(), None);
    let end = NOW + Span::from_secs(600);
    fixture.policy.send_modify(|policy| {
        let applied = Arc::make_mut(Arc::make_mut(policy).applied.as_mut().expect("a policy"));
        applied.maintenance[0].interval = Interval::new(NOW - Span::from_secs(60), end);
    });
    assert_eq!(shown(), Some(end));
}

/// A finding shows its figure and since when; a refused reload its reason.
#[tokio::test]
async fn open_findings_and_refused_reloads_are_said() {
    let mut fixture = Fixture::new();
    let mut row = (fixture.state.probes)().remove(0);
    let finding: FindingId = "disk-usage".parse().expect("a name");
    let text = "disk of /srv 97.00 % used, threshold 90 %".to_owned();
    row.findings = vec![OpenFinding { finding: finding.clone(), text: text.clone(), since: NOW }];
    let key = (finding.clone(), row.probe.clone(), row.observer.clone());
    Arc::get_mut(&mut fixture.state).expect("nobody else has it").probes = Arc::new(move || vec![row.clone()]);
    let since = NOW - Span::from_days(1);
    fixture.in_effect.send_modify(|in_effect| {
        Arc::make_mut(in_effect).open_findings =
            Arc::new([(key, promise::Began { by: since, after: Some(since - Span::from_secs(66)) })].into());
    });
    let reason = "the policy has 1 mistake, the first in line 7 of garant.toml".to_owned();
    fixture.policy.send_modify(|policy| Arc::make_mut(policy).reload_error = Some(reason.clone()));
    let answer = get(fixture.team(), "/api/status.json").await;
    let status: Status = serde_json::from_slice(&answer.body).expect("a status");
    assert_eq!(
        status.probes[0].findings,
        [FindingStatus { finding, text, since, began_after: Some(since - Span::from_secs(66)) }]
    );
    assert_eq!(status.reload_error, Some(reason));
    let metrics = get(fixture.team(), "/metrics").await;
    for line in [
        "garant_finding_open{finding=\"disk-usage\",probe=\"shop-answers\",observer=\"gravelines\",text=\"disk of /srv 97.00 % \
         used, threshold 90 %\"} 1\n",
        "garant_finding_since_timestamp_seconds{finding=\"disk-usage\",probe=\"shop-answers\",observer=\"gravelines\"} 1795302000",
        "garant_policy_reload_refused 1\n",
    ] {
        assert!(metrics.text().contains(line), "{line} is missing in\n{}", metrics.text());
    }
    let public = get(fixture.public(), "/en").await;
    assert!(!public.text().contains("/srv") && !public.text().contains("line 7"));
}

#[test]
fn an_old_standing_says_nothing() {
    let fixture = Fixture::new();
    let policy = fixture.policy.borrow().clone();
    let probe = &policy.applied.as_ref().expect("a policy").probes[0];
    let mut row = (fixture.state.probes)().remove(0);
    assert!(is_fresh(probe, &row, NOW));
    row.at = NOW - Span::from_secs(3 * 10 + 61);
    assert!(!is_fresh(probe, &row, NOW));
}

/// What a process manager acts on.
#[tokio::test]
async fn ready_says_why_not() {
    let all_well = Fixture::with(applied(), log_with(3), &[]);
    let answer = get(all_well.team(), "/ready").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());

    all_well.break_storage();
    let answer = get(all_well.team(), "/ready").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    let readiness: Readiness = serde_json::from_slice(&answer.body).expect("a readiness");
    assert_eq!(readiness.fault.as_deref(), Some("no space left on device"));

    let starting = Fixture::with(applied(), log_with(3), &["watch"]);
    let answer = get(starting.team(), "/ready").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.text().contains("\"state\":\"starting\""), "{}", answer.text());
}

/// The policy of a hoster: all of its probes are shown, however many services they are of.
#[tokio::test]
async fn ten_thousand_probes_are_shown() {
    const PROBES: usize = 10_000;
    let mut applied = applied();
    let (service, probe) = (applied.services.remove(0), applied.probes.remove(0));
    let id = |number: usize| format!("service-{}", number % 1_000).parse().expect("a name");
    applied.services = (0..1_000).map(|number| event::policy::Service { id: id(number), ..service.clone() }).collect();
    let of = |number: usize| Probe {
        id: format!("probe-{number}").parse().expect("a name"),
        service: id(number),
        ..probe.clone()
    };
    applied.probes = (0..PROBES).map(of).collect();
    let probes = applied.probes.clone();
    let mut fixture = Fixture::with(applied, log_with(20), &["watch"]);
    let row = (fixture.state.probes)().remove(0);
    let standings =
        move || probes.iter().map(|probe| ProbeStanding { probe: probe.id.clone(), ..row.clone() }).collect::<Vec<_>>();
    Arc::get_mut(&mut fixture.state).expect("nobody else has it").probes = Arc::new(standings);
    for (path, lines) in [("/api/status.json", 0), ("/metrics", PROBES * 7 + 1_000 * 5)] {
        let answer = get(fixture.team(), path).await;
        assert!(answer.status == StatusCode::OK && answer.text().lines().count() >= lines, "{path}");
    }
}

/// The status is read while everything that it reads is written all the time: nobody waits for somebody who waits for him. A status
/// that held a channel while it borrowed it again stopped the judge, the journal and every page for ever.
#[test]
fn a_status_stops_nobody_who_writes() {
    let fixture = Fixture::with(applied(), log_with(20), &["watch"]);
    let state = Arc::clone(&fixture.state);
    let (done, is_done) = std::sync::mpsc::channel();
    for _ in 0..2 {
        let (state, done) = (Arc::clone(&state), done.clone());
        std::thread::spawn(move || {
            (0..2_000).for_each(|_| drop(of(&state)));
            done.send(()).expect("somebody waits");
        });
    }
    let (in_effect, identity) = (fixture.in_effect.clone(), fixture.identity.clone());
    std::thread::spawn(move || {
        let (standing, known) = (Arc::clone(&in_effect.borrow()), Arc::clone(&identity.borrow()));
        loop {
            in_effect.send_replace(Arc::clone(&standing));
            identity.send_replace(Arc::clone(&known));
        }
    });
    for _ in 0..2 {
        is_done.recv_timeout(std::time::Duration::from_mins(2)).expect("a status that waits for ever");
    }
}
