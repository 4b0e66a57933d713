//! The announcer: an engine that writes one line to standard error for each change of a service, a finding or a verdict.
//!
//! An outage must be in the log of the machine whether or not anything notifies anybody. So each evaluation of the judge is compared
//! with the one before, and each difference is a line; a change for the worse is a warning. A start is no change: what is the same
//! as before it is not written again.
//!
//! Ten thousand services may change at once, and a log that is flooded is not read: at most [`LINES_MAX`] lines are written in a
//! [`PERIOD`], and the others are counted.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use engine::standing::ProbeStanding;
use engine::{BoxFuture, Context, Engine, EngineError};
use event::evidence::State;
use event::promise::Outcome;
use event::{FindingId, Monotonic, ObserverId, ProbeId, PromiseId, ServiceId, Span};
use promise::{Began, InEffect};
use tracing::field::display;
use web::Language;

/// Most lines of a [`PERIOD`].
const LINES_MAX: usize = 50;
/// Time after which the number of lines left out is written.
const PERIOD: Span = Span::from_secs(10);
/// Longest time between two signs of life to the supervisor.
const LOOK_EVERY: Span = Span::from_secs(5);
/// Most observations that one line names.
const DETAILS_MAX: usize = 3;

/// The engine that announces the evaluations that `state` receives.
pub(crate) struct Announcer {
    pub(crate) state: Arc<web::State>,
}

impl Engine for Announcer {
    fn name(&self) -> &'static str {
        "announcer"
    }

    fn stop_order(&self) -> u8 {
        5
    }

    fn run(&self, context: Context) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(self.announce(context))
    }
}

impl Announcer {
    async fn announce(&self, context: Context) -> Result<(), EngineError> {
        let mut evaluations = self.state.in_effect.clone();
        let mut budget = LineBudget::new(context.clock.monotonic());
        let mut before: Option<Arc<InEffect>> = None;
        loop {
            context.progress.tick();
            tokio::select! {
                () = context.stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(LOOK_EVERY.to_std()) => {}
                changed = evaluations.changed() => if changed.is_err() { return Ok(()) },
            }
            if let Some(left_out) = budget.next(context.clock.monotonic()) {
                tracing::warn!(left_out, "more changed than is listed here: `garant status` shows what is now");
            }
            let now = Arc::clone(&evaluations.borrow_and_update());
            if now.evaluated_at().is_none() || before.as_ref().is_some_and(|before| Arc::ptr_eq(before, &now)) {
                continue;
            }
            let changes = changes(before.as_deref(), &now);
            before = Some(now);
            if changes.is_empty() {
                continue;
            }
            let standings = (self.state.probes)();
            let policy = Arc::clone(&self.state.policy.borrow());
            let probes = policy.applied.as_ref().map(|applied| applied.probes.as_slice()).unwrap_or_default();
            for change in changes {
                if budget.take() {
                    change.write(&standings, probes);
                }
            }
        }
    }
}

/// The lines that may still be written in a period.
struct LineBudget {
    since: Monotonic,
    lines: usize,
    left_out: usize,
}

impl LineBudget {
    const fn new(since: Monotonic) -> Self {
        Self { since, lines: LINES_MAX, left_out: 0 }
    }

    /// Begins the next period, if it is time; returns the number of lines that the last one left out, if any.
    fn next(&mut self, now: Monotonic) -> Option<usize> {
        if now.since(self.since) < PERIOD {
            return None;
        }
        let left_out = self.left_out;
        *self = Self::new(now);
        (left_out > 0).then_some(left_out)
    }

    /// Takes one line; false, and counted, when none is left.
    const fn take(&mut self) -> bool {
        if self.lines == 0 {
            self.left_out += 1;
            return false;
        }
        self.lines -= 1;
        true
    }
}

/// A change that is announced by a line.
#[derive(Clone, PartialEq, Debug)]
enum Announcement {
    Service { service: ServiceId, before: Option<State>, now: Option<State>, began: Began },
    Found { finding: FindingId, probe: ProbeId, observer: ObserverId, began: Option<Began> },
    Judged { promise: PromiseId, objective: u32, before: Option<Outcome>, now: Outcome, figure: String },
}

/// The changes between two evaluations. Without one before, only the verdicts whose outcome is new with this one.
fn changes(before: Option<&InEffect>, now: &InEffect) -> Vec<Announcement> {
    let mut changes = Vec::new();
    if let Some(before) = before {
        if !Arc::ptr_eq(&before.services, &now.services) {
            for (service, standing) in now.services.iter() {
                let (was, now) = (before.services.get(service).and_then(|was| was.state), standing.state);
                if was != now {
                    changes.push(Announcement::Service {
                        service: service.clone(),
                        before: was,
                        now,
                        began: Began { by: standing.since, after: standing.began_after },
                    });
                }
            }
        }
        if !Arc::ptr_eq(&before.open_findings, &now.open_findings) {
            let keys: BTreeSet<_> = before.open_findings.keys().chain(now.open_findings.keys()).collect();
            for key in keys {
                let (was, began) = (before.open_findings.get(key), now.open_findings.get(key).copied());
                if was.is_some() != began.is_some() {
                    let (finding, probe, observer) = key.clone();
                    changes.push(Announcement::Found { finding, probe, observer, began });
                }
            }
        }
    }
    for evaluated in now.evaluated() {
        let verdict = &evaluated.verdict;
        let same = |other: &event::promise::Verdict| {
            (&other.promise, other.objective) == (&verdict.promise, verdict.objective)
        };
        let was = before.and_then(|before| before.evaluated().iter().find(|other| same(&other.verdict)));
        let was = was.map(|was| was.verdict.outcome);
        let is_new = if before.is_some() { was != Some(verdict.outcome) } else { evaluated.since == verdict.at };
        if is_new {
            let english = Language::English;
            let figure = verdict.figure.map_or_else(|| "nothing yet".to_owned(), |figure| english.figure(&figure));
            changes.push(Announcement::Judged {
                promise: verdict.promise.clone(),
                objective: verdict.objective,
                before: was,
                now: verdict.outcome,
                figure: figure.replace('\u{202f}', " "),
            });
        }
    }
    changes
}

const fn state_word(state: Option<State>) -> &'static str {
    match state {
        Some(State::Up) => "up",
        Some(State::Degraded) => "degraded",
        Some(State::Down) => "down",
        Some(State::Flapping) => "undecided",
        None => "unknown",
    }
}

const fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Kept => "kept",
        Outcome::Broken => "broken",
        Outcome::Unproven => "unproven",
    }
}

impl Announcement {
    /// Whether the change is for the worse: its line is a warning.
    const fn is_bad(&self) -> bool {
        match self {
            Self::Service { now, .. } => matches!(now, Some(State::Down | State::Flapping | State::Degraded)),
            Self::Found { began, .. } => began.is_some(),
            Self::Judged { before, now, .. } => {
                matches!((before, now), (_, Outcome::Broken) | (Some(Outcome::Kept), Outcome::Unproven))
            }
        }
    }

    /// Writes the line.
    fn write(&self, standings: &[ProbeStanding], probes: &[event::policy::Probe]) {
        macro_rules! line {
            ($($line:tt)*) => {
                if self.is_bad() { tracing::warn!($($line)*) } else { tracing::info!($($line)*) }
            };
        }
        match self {
            Self::Service { service, before, now, began: Began { by: since, after } } => {
                let why = if self.is_bad() { details(service, standings, probes) } else { String::new() };
                let (state, before) = (state_word(*now), state_word(*before));
                let (service, why) = (service.as_str(), (!why.is_empty()).then_some(why.as_str()));
                let began_after = after.map(display);
                line!(service, state, before, %since, began_after, why, "a service changed its state");
            }
            Self::Found { finding, probe, observer, began } => {
                let row = standings.iter().find(|row| row.probe == *probe && row.observer == *observer);
                let open = row.and_then(|row| row.findings.iter().find(|open| open.finding == *finding));
                let (what, finding, probe) = (open.map(|open| open.text.as_str()), finding.as_str(), probe.as_str());
                let observer = observer.as_str();
                match began {
                    Some(Began { by: since, after }) => {
                        let began_after = after.map(display);
                        line!(finding, probe, observer, %since, began_after, what, "a finding is open");
                    }
                    None => line!(finding, probe, observer, "a finding is over"),
                }
            }
            Self::Judged { promise, objective, before, now, figure } => {
                let (outcome, promise) = (outcome_word(*now), promise.as_str());
                match before.map(outcome_word) {
                    Some(before) => {
                        line!(
                            promise,
                            objective,
                            outcome,
                            before,
                            figure,
                            "an objective was judged otherwise than before"
                        );
                    }
                    None => line!(promise, objective, outcome, figure, "an objective was judged for the first time"),
                }
            }
        }
    }
}

/// The observations behind the state of a service: at most [`DETAILS_MAX`], each with its probe and vantage, those that are down
/// first.
fn details(service: &ServiceId, standings: &[ProbeStanding], probes: &[event::policy::Probe]) -> String {
    let probes: BTreeSet<&ProbeId> =
        probes.iter().filter(|probe| probe.service == *service).map(|probe| &probe.id).collect();
    let mut rows: Vec<_> = standings.iter().filter(|row| !row.text.is_empty() && probes.contains(&row.probe)).collect();
    rows.sort_by_key(|row| row.state.is_none_or(|(state, _)| state != State::Down));
    let mut text = String::new();
    for row in rows.iter().take(DETAILS_MAX) {
        let gap = if text.is_empty() { "" } else { "; " };
        // Writing to a String can't fail.
        let _infallible = write!(text, "{gap}{} from {}: {}", row.probe, row.observer.vantage(), row.text);
    }
    if rows.len() > DETAILS_MAX {
        let _infallible = write!(text, "; {} more", rows.len() - DETAILS_MAX);
    }
    text
}

#[cfg(test)]
mod tests {
    use event::promise::Verdict;
    use event::{Interval, Time};
    use promise::ServiceStanding;

    use super::*;

    fn verdict(at: i64, outcome: Outcome) -> Verdict {
        let at = Time::from_secs(at);
        Verdict {
            promise: "AV-1".parse().expect("a name"),
            revision: "r1".to_owned(),
            objective: 0,
            evaluator: promise::EVALUATOR,
            tree_size: 1,
            at,
            window: Interval::new(at, at),
            outcome,
            figure: None,
            reasons: vec![],
            evidence: vec![],
        }
    }

    fn evaluation(
        at: i64,
        state: Option<State>,
        found: bool,
        outcome: Outcome,
        journaled: Option<Outcome>,
    ) -> InEffect {
        let mut in_effect = InEffect::default();
        if let Some(journaled) = journaled {
            in_effect.take(7, verdict(1, journaled));
        }
        in_effect.evaluate(Time::from_secs(at), [verdict(at, outcome)]);
        let since = Time::from_secs(at);
        in_effect.services =
            Arc::new([("shop".parse().expect("a name"), ServiceStanding { state, since, began_after: None })].into());
        let key = ["disk-usage", "machine", "here.watch"];
        let key = (key[0].parse().expect("a name"), key[1].parse().expect("a name"), key[2].parse().expect("a name"));
        in_effect.open_findings =
            Arc::new(found.then_some((key, Began { by: since, after: None })).into_iter().collect());
        in_effect
    }

    /// A line for each change and none for what stays; after a start only for what the start changed.
    #[test]
    fn each_change_is_a_line() {
        use Outcome::{Broken, Kept, Unproven};
        let told = |before: Option<&InEffect>, now: &InEffect| -> Vec<(String, bool)> {
            let word = |change: &Announcement| match change {
                Announcement::Service { before, now, .. } => format!("{} {}", state_word(*before), state_word(*now)),
                Announcement::Found { began, .. } => format!("found {}", began.is_some()),
                Announcement::Judged { before, now, .. } => format!("{:?} {now:?}", *before),
            };
            changes(before, now).iter().map(|change| (word(change), change.is_bad())).collect()
        };
        let line = |text: &str, bad| (text.to_owned(), bad);
        let up = evaluation(10, Some(State::Up), false, Kept, Some(Kept));
        assert_eq!(told(None, &up), [], "as before the start");
        assert_eq!(told(Some(&up), &up), []);
        let down = evaluation(20, Some(State::Down), true, Broken, Some(Kept));
        assert_eq!(told(None, &down), [line("None Broken", true)]);
        let expected = [line("up down", true), line("found true", true), line("Some(Kept) Broken", true)];
        assert_eq!(told(Some(&up), &down), expected);
        let expected = [line("down up", false), line("found false", false), line("Some(Broken) Kept", false)];
        assert_eq!(told(Some(&down), &up), expected);
        let lost = evaluation(30, None, false, Unproven, Some(Kept));
        assert_eq!(told(Some(&up), &lost), [line("up unknown", false), line("Some(Kept) Unproven", true)]);
    }

    /// Whatever changes, the log of the machine gets so many lines in so long, and the number of the others.
    #[test]
    fn lines_have_a_bound() {
        let mut budget = LineBudget::new(Monotonic::default());
        assert_eq!((0..10_000).filter(|_| budget.take()).count(), LINES_MAX);
        assert_eq!(budget.next(Monotonic(PERIOD.micros() - 1)), None);
        assert_eq!(budget.next(Monotonic(PERIOD.micros())), Some(10_000 - LINES_MAX));
        assert!(budget.take());
        assert_eq!(budget.next(Monotonic(2 * PERIOD.micros())), None);
    }

    /// A line says which probe saw what, of few.
    #[test]
    fn a_line_names_the_probe() {
        let row = |probe: &str, text: &str| ProbeStanding {
            or_before: false,
            probe: probe.parse().expect("a name"),
            observer: "paris.watch".parse().expect("a name"),
            state: None,
            at: Time::from_secs(0),
            took: Span::ZERO,
            value: None,
            phases: engine::standing::Phases::default(),
            certificate_expires: None,
            text: text.to_owned(),
            findings: vec![],
        };
        let probe = |id: &str, service: &str| event::policy::Probe {
            id: id.parse().expect("a name"),
            kind: "http".into(),
            service: service.parse().expect("a name"),
            every: Span::from_secs(10),
            observers: [].into(),
            agreement: event::policy::Agreement::Majority,
        };
        let probes = [probe("front", "shop"), probe("mx", "mail"), probe("api", "shop")];
        let rows = [row("api", ""), row("front", "status 502"), row("mx", "refused")];
        let shop = "shop".parse().expect("a name");
        assert_eq!(details(&shop, &rows, &probes), "front from paris: status 502");
        let many: Vec<_> = (0..5).map(|_| row("front", "no")).collect();
        assert!(details(&shop, &many, &probes).ends_with("; 2 more"));
    }
}
