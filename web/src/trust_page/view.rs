//! The view of the trust page in one language: every text that the template shows.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use askama::Template;
use event::ServiceId;
use event::policy::{Applied, Promise};
use event::promise::{Outcome, Verdict};
use journal::published::Published;
use promise::Subject;
use promise::objective::{Availability, Objective};
use promise::{InEffect, VerdictInEffect};

use crate::answer::STYLE;
use crate::lang::{Language, Times, Words};
use crate::state::{Listener, State};
use crate::status::{self, CurrentState, ServiceStatus};

/// Announced windows that are shown; more than a few are a calendar, not a warning.
const MAINTENANCE_MAX: usize = 10;
/// Most services whose present state is shown.
const SERVICES_MAX: usize = 20;
/// Most open findings that the team's page lists.
const FINDINGS_MAX: usize = 50;
/// Most services whose resolution is shown: those asked least often.
const RESOLUTIONS_MAX: usize = 10;

#[derive(Template)]
#[template(path = "trust_page.html")]
pub(super) struct TrustPage {
    style: &'static str,
    w: &'static Words,
    language: &'static str,
    public: bool,
    name: String,
    summary: [OutcomeView; 3],
    services: Vec<ServiceView>,
    others_up: Option<String>,
    findings: Vec<FindingView>,
    other_findings: Option<String>,
    evaluated: Option<String>,
    zone: String,
    resolution: Option<String>,
    promises: Vec<PromiseView>,
    maintenance: Vec<MaintenanceView>,
    log: Option<LogView>,
    command: String,
}

struct MaintenanceView {
    services: String,
    text: String,
    when: String,
}

struct ServiceView {
    title: String,
    state: OutcomeView,
    since: Option<String>,
    unwatched: Option<String>,
    maintenance: Option<String>,
}

/// An open finding: shown to the team, whatever is published.
struct FindingView {
    title: String,
    place: String,
    text: String,
    since: String,
}

struct PromiseView {
    id: String,
    sentence: String,
    /// Its outcome, where its objectives have one each.
    verdict: Option<OutcomeView>,
    class: &'static str,
    /// How many windows its rows have together.
    windows: usize,
    rows: Vec<RowView>,
}

/// Objectives that differ in their window only.
struct RowView {
    /// Whether this is the first of its promise.
    is_first: bool,
    measure: String,
    promised: String,
    windows: Vec<WindowView>,
}

struct WindowView {
    measured: String,
    /// The length of the window, where there are several, and up to when it speaks.
    of: String,
    verdict: OutcomeView,
    since: Option<String>,
    reasons: Vec<String>,
    /// When the last verdict in the log was judged, unless that is since when it holds.
    recorded: Option<String>,
    proof: Proof,
}

/// An outcome as a class, a sign and a word, perhaps with a count: markup without any text of the policy.
struct OutcomeView {
    class: &'static str,
    sign: &'static str,
    word: String,
}

impl OutcomeView {
    fn new(outcome: Outcome, word: impl Into<String>) -> Self {
        let (class, sign) = match outcome {
            Outcome::Kept => ("k", "✓"),
            Outcome::Broken => ("b", "✗"),
            Outcome::Unproven => ("u", "?"),
        };
        Self { class, sign, word: word.into() }
    }

    /// So many of them; none has no sign, for "✓ 0 kept" would look like praise.
    fn counted(outcome: Outcome, count: usize, word: String) -> Self {
        let view = Self::new(outcome, word);
        if count == 0 { Self { class: "", sign: "", ..view } } else { view }
    }
}

impl fmt::Display for OutcomeView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gap = if self.sign.is_empty() { "" } else { " " };
        write!(f, "<b class=\"{}\">{}{gap}{}</b>", self.class, self.sign, self.word)
    }
}

enum Proof {
    /// There is no verdict to prove.
    None,
    /// The verdict is in the log, but no published checkpoint covers it yet.
    Pending,
    /// `/log/proof/<sequence>.tlog-proof`
    Entry { sequence: u64, text: String },
}

struct LogView {
    origin: String,
    size: String,
    at: String,
    root: String,
    fingerprint: String,
    witnesses: Vec<String>,
}

impl TrustPage {
    pub(super) fn new(state: &State, language: Language, reader: Listener) -> Self {
        let policy = Arc::clone(&state.policy.borrow());
        let in_effect = Arc::clone(&state.in_effect.borrow());
        let published = state.published.borrow().clone();
        let identity = Arc::clone(&state.identity.borrow());
        let words = language.words();
        let times = Times { language, zone: &policy.zone, now: state.clock.now() };

        let promises = policy.applied.as_ref().map(|applied| {
            let composer =
                Composer { times, language, words, applied, in_effect: &in_effect, published: published.as_deref() };
            applied.promises.iter().map(|promise| composer.promise(promise)).collect::<Vec<_>>()
        });
        let promises = promises.unwrap_or_default();
        let with = |class| promises.iter().filter(|promise| promise.class == class).count();
        let (services, others_up) = present(&state.present.services(state), times);
        let (findings, left_out) = match (reader, policy.applied.as_deref()) {
            (Listener::Team, Some(applied)) => found(state, applied, &in_effect, times),
            _ => Default::default(),
        };
        let counts = [with("k"), with("b"), with("u")];
        let words_of = language.summary(counts[0], counts[1], counts[2]);
        let outcomes = [Outcome::Kept, Outcome::Broken, Outcome::Unproven];
        let summary = [0, 1, 2].map(|i| OutcomeView::counted(outcomes[i], counts[i], words_of[i].clone()));
        Self {
            style: STYLE,
            w: words,
            language: language.code(),
            public: policy.publish,
            name: identity.name.clone(),
            summary,
            services,
            others_up: (others_up > 0).then(|| language.others_up(others_up)),
            findings,
            other_findings: (left_out > 0).then(|| language.other_findings(left_out)),
            resolution: policy.applied.as_ref().and_then(|applied| resolution(applied, language)),
            evaluated: in_effect.evaluated_at().map(|at| times.evaluated(at)),
            zone: times.zone(),
            maintenance: policy.applied.as_ref().map(|applied| announced(applied, times)).unwrap_or_default(),
            log: published.as_deref().map(|published| LogView {
                origin: published.origin.clone(),
                size: language.count(published.size),
                at: times.instant(published.at),
                root: published.root.to_string(),
                fingerprint: identity.fingerprint.clone(),
                witnesses: published.cosignatures.iter().map(|c| times.cosigned(&c.witness, c.at)).collect(),
            }),
            command: format!("garant verify {}log/ --vkey '{}'", identity.url, identity.vkey),
            promises,
        }
    }
}

struct Composer<'a> {
    times: Times<'a>,
    language: Language,
    words: &'static Words,
    applied: &'a Applied,
    in_effect: &'a InEffect,
    published: Option<&'a Published>,
}

impl Composer<'_> {
    fn promise(&self, promise: &Promise) -> PromiseView {
        // The policy is the one that this process applied, so it has all of these objectives.
        let objectives = (0..).zip(&promise.objectives).filter_map(|(number, clause)| {
            let objective = Objective::of(clause)?;
            let key = (objective.measure(), objective.subject(), self.language.promised(objective.promised()));
            Some((key, objective, number))
        });
        let objectives: Vec<_> = objectives.collect();
        let outcome = self.outcome(self.in_effect.outcome(promise));
        let rows = objectives.chunk_by(|(one, ..), (other, ..)| one == other).map(|same| self.row(promise, same));
        let mut rows: Vec<_> = rows.collect();
        if let Some(first) = rows.first_mut() {
            first.is_first = true;
        }
        PromiseView {
            id: promise.id.to_string(),
            sentence: Language::set(self.language.of(&promise.text)),
            class: outcome.class,
            windows: objectives.len(),
            rows,
            verdict: (objectives.len() > 1).then_some(outcome),
        }
    }

    /// The row of objectives that differ in their window only.
    fn row<K>(&self, promise: &Promise, same: &[(K, Objective, u32)]) -> RowView {
        let mut row = RowView { is_first: false, measure: String::new(), promised: String::new(), windows: Vec::new() };
        for (_, objective, number) in same {
            let subject = self.subject(&objective.subject());
            let is_alone = same.len() == 1;
            row.measure = if is_alone {
                self.language.objective(objective, &subject)
            } else {
                self.language.any_window(objective, &subject)
            };
            row.promised = self.language.promised(objective.promised());
            let name = (!is_alone).then(|| self.language.window(objective.over()));
            row.windows.push(self.window(name, promise, objective.key(), *number));
        }
        row
    }

    fn window(&self, name: Option<String>, promise: &Promise, kind: &str, number: u32) -> WindowView {
        let found = self.in_effect.now(promise, number);
        let journaled = self.in_effect.of(promise, number);
        let verdict = found.map(|found| &found.verdict);
        let figure = verdict.and_then(|verdict| verdict.figure.as_ref());
        let mut reasons: Vec<String> =
            verdict.iter().flat_map(|v| &v.reasons).map(|reason| self.language.reason(kind, reason)).collect();
        let is_other = |outcome| verdict.is_some_and(|verdict| verdict.outcome != outcome);
        // The last verdict in the log, unless that says what is shown, since when that is so.
        let told = journaled.filter(|journaled| {
            is_other(journaled.verdict.outcome) || found.is_none_or(|found| found.since != journaled.verdict.at)
        });
        if verdict.is_none() {
            reasons.push(self.words.not_judged.to_owned());
        }
        let as_of = verdict.map(|verdict| self.times.as_of(verdict.window.end));
        WindowView {
            of: [name, as_of].into_iter().flatten().collect::<Vec<_>>().join(", "),
            measured: figure
                .map_or_else(|| self.words.nothing_measured.to_owned(), |figure| self.language.figure(figure)),
            verdict: self.outcome(verdict.map_or(Outcome::Unproven, |verdict| verdict.outcome)),
            since: found.map(|found| {
                self.times.beside(found.since.min(self.times.now), told.map(|journaled| journaled.verdict.at))
            }),
            reasons,
            recorded: told.map(|journaled| {
                let Verdict { outcome, at, .. } = journaled.verdict;
                let other = is_other(outcome).then(|| self.word(outcome));
                self.times.recorded(at, found.map_or(at, |found| found.since), other)
            }),
            proof: self.proof(journaled),
        }
    }

    fn proof(&self, found: Option<&VerdictInEffect>) -> Proof {
        match (found, self.published) {
            (None, _) => Proof::None,
            (Some(found), Some(published)) if found.sequence < published.size => {
                Proof::Entry { sequence: found.sequence, text: self.language.entry(found.sequence) }
            }
            (Some(_), _) => Proof::Pending,
        }
    }

    /// The name that customers know the subject by. A probe has no title: it is named by its service, and where that has
    /// several, by the probe's own name, which is public.
    fn subject(&self, subject: &Subject) -> String {
        match subject {
            Subject::Service(service) => self.title(service),
            Subject::AllServices => self.words.all_services.to_owned(),
            Subject::Probe(probe) => {
                let declared = self.applied.probes.iter().find(|declared| declared.id == *probe);
                declared.map_or_else(|| probe.to_string(), |row| format!("{} ({probe})", self.title(&row.service)))
            }
            Subject::Finding(finding) => {
                let declared = self.applied.findings.iter().find(|declared| declared.finding == *finding);
                declared.map_or_else(|| finding.to_string(), |row| self.language.of(&row.title).to_owned())
            }
        }
    }

    fn title(&self, service: &ServiceId) -> String {
        title(self.applied, self.language, service)
    }

    fn outcome(&self, outcome: Outcome) -> OutcomeView {
        OutcomeView::new(outcome, self.word(outcome))
    }

    const fn word(&self, outcome: Outcome) -> &'static str {
        match outcome {
            Outcome::Kept => self.words.kept,
            Outcome::Broken => self.words.broken,
            Outcome::Unproven => self.words.unproven,
        }
    }
}

/// The services as they are now: first those that are not up, then the others, as far as there is room; and how many more are up.
fn present(services: &[ServiceStatus], times: Times<'_>) -> (Vec<ServiceView>, usize) {
    let language = times.language;
    let mut services: Vec<_> = services.iter().collect();
    services.sort_by_key(|service| service.state == CurrentState::Up);
    let left_out = services.split_off(services.len().min(SERVICES_MAX));
    let view = |service: &&ServiceStatus| {
        let outcome = match service.state {
            CurrentState::Up => Outcome::Kept,
            CurrentState::Down => Outcome::Broken,
            CurrentState::Degraded | CurrentState::Unknown | CurrentState::Undecided => Outcome::Unproven,
        };
        ServiceView {
            title: language.of(&service.title).to_owned(),
            state: OutcomeView::new(outcome, language.words().states[service.state as usize]),
            since: service.since.map(|since| times.since_between(service.began_after, since)),
            unwatched: service.unwatched.map(|breaks| times.unwatched(breaks.length, breaks.last)),
            maintenance: service.maintenance.as_ref().map(|window| times.maintained(window.until)),
        }
    };
    let others_up = left_out.iter().filter(|service| service.state == CurrentState::Up).count();
    (services.iter().map(view).collect(), others_up)
}

/// The findings that are open, as far as there is room, and how many more there are: on what, the figure and the threshold, and
/// since when.
fn found(state: &State, applied: &Applied, in_effect: &InEffect, times: Times<'_>) -> (Vec<FindingView>, usize) {
    let (mut shown, mut left_out) = (Vec::new(), 0);
    for row in (state.probes)() {
        for open in status::findings(in_effect, &row) {
            if shown.len() == FINDINGS_MAX {
                left_out += 1;
                continue;
            }
            let declared = applied.findings.iter().find(|declared| declared.finding == open.finding);
            let title = declared.map(|declared| times.language.of(&declared.title).to_owned());
            shown.push(FindingView {
                title: title.unwrap_or_else(|| open.finding.to_string()),
                place: format!("{}, {}", row.probe, row.observer.vantage()),
                text: times.zone.of_text(&open.text).into_owned(),
                since: times.since_between(open.began_after, open.since),
            });
        }
    }
    (shown, left_out)
}

/// The name that customers know a service by.
fn title(applied: &Applied, language: Language, id: &ServiceId) -> String {
    let declared = applied.services.iter().find(|service| service.id == *id);
    declared.map_or_else(|| id.to_string(), |service| language.of(&service.title).to_owned())
}

/// Sentences on the resolution of services with a promise of availability: outages shorter than the longest `every` of their
/// probes may pass unseen.
fn resolution(applied: &Applied, language: Language) -> Option<String> {
    let objectives = applied.promises.iter().flat_map(|promise| &promise.objectives).filter_map(Objective::of);
    let promised: BTreeSet<ServiceId> = objectives
        .filter_map(|objective| match objective {
            Objective::Availability(Availability { service, .. }) => Some(service),
            _ => None,
        })
        .collect();
    let slowest = promised.iter().filter_map(|service| {
        let probes = applied.probes.iter().filter(|probe| probe.service == *service);
        probes.map(|probe| probe.every).max().map(|every| (title(applied, language, service), every))
    });
    let mut services: Vec<_> = slowest.collect();
    services.sort_by_key(|(_, every)| std::cmp::Reverse(*every));
    services.truncate(RESOLUTIONS_MAX);
    (!services.is_empty()).then(|| language.resolution(&services))
}

/// Maintenance under way or to come, soonest first.
fn announced(applied: &Applied, times: Times<'_>) -> Vec<MaintenanceView> {
    let Times { language, now, .. } = times;
    let mut windows: Vec<_> = applied.maintenance.iter().filter(|window| window.interval.end > now).collect();
    windows.sort_by_key(|window| window.interval.start);
    let view = |window: &event::policy::Maintenance| {
        let services: Vec<String> = window.services.iter().map(|id| title(applied, language, id)).collect();
        MaintenanceView {
            services: services.join(", "),
            text: Language::set(language.of(&window.text)),
            when: times.between(window.interval.start, window.interval.end),
        }
    };
    windows.into_iter().take(MAINTENANCE_MAX).map(view).collect()
}
