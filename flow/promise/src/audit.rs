//! Computes every journaled verdict again, from exactly the entries that it says it read (BX-4): the core of `garant verify`.
//!
//! A verdict reads the entries below its `tree_size`, and is itself written a little later. So entries are kept aside
//! until the next verdict says how far to fold. The wait is bounded: a verdict that reads the log as it was more than
//! [`BEHIND_MAX`] entries ago, or as it was before what another verdict read, is refused.
//!
//! Evidence is destroyed when its time is over, and then the oldest verdicts can't be computed again. Those whose window
//! reaches back to [`RETOLD_WITHIN`] after the destroyed days, or beyond, are *out of reach*; and so is, when the log was
//! silent for longer than that, what reaches back beyond the first policy that is journaled afterwards. They are counted as
//! neither wrong nor confirmed, since the holder of the log's key can destroy what contradicts a verdict: the [`Standing`] of
//! each latest verdict is shown with it. Later verdicts must be right, for policies and states are journaled again in the
//! meantime. And what a policy that can be read declares is never out of reach.
//!
//! A log that a later release wrote is no fault. Every rule belongs to its evaluator, so a verdict of another evaluator, on an
//! objective that this release does not know, or in a version that it can't read, is *not judged*: it is counted, and no more
//! confirmed than one that is out of reach.
//!
//! What is left out is found too: a promise in effect without a verdict for more than [`LAPSE`] of log time. Log time is
//! time during which the log was written: a silence counts for [`SILENCE_MAX`] at most, because a server that is switched
//! off owes no verdicts.

use std::collections::{BTreeMap, VecDeque};

use event::policy::Applied;
use event::promise::{Figure, Verdict};
use event::{Body as _, Envelope, ObserverId, PromiseId, Span, Time};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::EVALUATOR;
use crate::fact::Fact;
use crate::judge::Judge;
use crate::objective::Objective;
use crate::observed::SKEW;
use crate::revision::Revision;

/// How many entries that verdicts rest on may come between those that a verdict read and the verdict.
pub const BEHIND_MAX: usize = 65_536;

/// Longest time between the instant as of which a verdict was computed and its recording.
pub const OLD_MAX: Span = Span::from_secs(2 * 3600);

/// Longest time that an objective in effect may be without a verdict, in log time: a day and an hour of grace.
pub const LAPSE: Span = Span::from_secs(25 * 3600);

/// The most that a silence of the log counts for, in log time.
pub const SILENCE_MAX: Span = Span::from_secs(300);

/// Time within which policies in effect and states of probes are journaled again, so that they outlive destroyed evidence.
pub const RETOLD_WITHIN: Span = Span::from_days(2);

/// Most faults that are described; further ones are counted.
pub const FAULTS_MAX: usize = 1000;

/// How often lapses are looked for, in log time.
pub(crate) const LOOK_EVERY: Span = Span::from_secs(600);

/// A fault of a journaled verdict, or of an entry that verdicts rest on.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum VerdictFault {
    /// The verdict does not follow from the entries.
    #[error(
        "entry {sequence}: the verdict on {promise} (objective {objective}) says {}, but the first {tree_size} entries \
         of the log make it {}; it was altered, or what it rests on was",
        said(journaled),
        said(computed)
    )]
    Mismatch {
        /// The verdict's own entry.
        sequence: u64,
        /// Which promise.
        promise: PromiseId,
        /// Which of its objectives.
        objective: u32,
        /// Entries that it says it read.
        tree_size: u64,
        /// As it is in the log.
        journaled: Box<Verdict>,
        /// As it should be.
        computed: Box<Verdict>,
    },
    /// No such promise or objective was in effect.
    #[error(
        "entry {sequence}: a verdict on {promise} (objective {objective}), which no policy had put into effect by then"
    )]
    NotDeclared {
        /// The verdict's own entry.
        sequence: u64,
        /// Which promise.
        promise: PromiseId,
        /// Which of its objectives.
        objective: u32,
    },
    /// The verdict says that it read entries that come after it.
    #[error("entry {sequence}: the verdict on {promise} says that it read {tree_size} entries, more than there were")]
    FromTheFuture {
        /// The verdict's own entry.
        sequence: u64,
        /// Which promise.
        promise: PromiseId,
        /// Entries that it says it read.
        tree_size: u64,
    },
    /// The verdict read fewer entries than one before it, or than the bound allows.
    #[error(
        "entry {sequence}: the verdict on {promise} goes back: it read {tree_size} entries where at least {least} were \
         to be read, so it may leave out what had become known"
    )]
    GoesBack {
        /// The verdict's own entry.
        sequence: u64,
        /// Which promise.
        promise: PromiseId,
        /// Entries that it says it read.
        tree_size: u64,
        /// Entries it had to read.
        least: u64,
    },
    /// The verdict was computed as of an instant that is not near its recording.
    #[error(
        "entry {sequence}: the verdict on {promise} is as of {at} but was recorded at {recorded_at}: it is dated to suit"
    )]
    Dated {
        /// The verdict's own entry.
        sequence: u64,
        /// Which promise.
        promise: PromiseId,
        /// As of when it was computed.
        at: Time,
        /// When it was recorded.
        recorded_at: Time,
    },
    /// A promise in effect was not judged for too long.
    #[error(
        "entry {sequence}: {promise} (objective {objective}) has no verdict for more than 25 h of log time although it \
         was in effect: verdicts were left out"
    )]
    Lapsed {
        /// The first entry after the time allowed.
        sequence: u64,
        /// Which promise.
        promise: PromiseId,
        /// Which of its objectives.
        objective: u32,
    },
    /// Something was changed under an unchanged name.
    #[error("entry {sequence}: {what} calls itself revision {claimed}, but its content {}", made(computed.as_deref()))]
    Revision {
        /// The entry of the policy.
        sequence: u64,
        /// `the policy`, or which promise.
        what: String,
        /// As it is in the log.
        claimed: String,
        /// As it should be; nothing when its bytes do not begin with it.
        computed: Option<String>,
    },
    /// A verdict may rest on this entry and it can't be read.
    #[error("entry {sequence}: {reason}; it counts for nothing")]
    Unreadable {
        /// The entry.
        sequence: u64,
        /// What the reader says.
        reason: String,
    },
}

fn made(revision: Option<&str>) -> String {
    match revision {
        Some(revision) => format!("is revision {revision}"),
        None => "does not begin with that, as it must".to_owned(),
    }
}

fn said(verdict: &Verdict) -> String {
    let figure = |Figure { low, high, target, .. }: Figure| format!("[{low}, {high}] of {target}");
    let figure = verdict.figure.map_or_else(|| "no figure".to_owned(), figure);
    let revision = &verdict.revision;
    let reasons = verdict.reasons.len();
    format!("{:?} with {figure}, {reasons} reasons, revision {revision}", verdict.outcome).to_lowercase()
}

/// Why this release does not judge a verdict.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotJudged {
    /// The verdict was computed by other rules.
    #[error("computed by evaluator {0}; this release has evaluator {EVALUATOR}")]
    Evaluator(i64),
    /// The objective is of a kind that this release does not know, or has a key that it does not know.
    #[error("on an objective that this release does not know")]
    Objective,
    /// The entry is of a version that this release does not know.
    #[error("an entry of version {0}; this release knows version {known}", known = Verdict::KIND.version)]
    Version(u16),
}

/// The result of computing a verdict again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// The verdict follows from the entries.
    Confirmed,
    /// Entries that the verdict rests on, or a later verdict, are destroyed: it can't be confirmed.
    OutOfReach,
    /// This release does not know the rules of the verdict; another may tell whether it holds.
    NotJudged(NotJudged),
    /// The verdict is wrong.
    Faulty,
}

/// The last verdict on an objective.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Latest {
    /// Which promise.
    pub promise: PromiseId,
    /// Which of its objectives.
    pub objective: u32,
    /// Its entry.
    pub sequence: u64,
    /// The verdict; `None` when this release can't read it.
    pub verdict: Option<Verdict>,
    /// The result of computing it again.
    pub standing: Standing,
    /// Whether this revision of the promise is in effect at the end of the log; true when that can't be told.
    pub in_effect: bool,
}

/// The result of a [`Recheck`].
#[derive(Clone, Debug)]
pub struct Rechecked {
    /// Number of journaled verdicts that were computed again, or refused.
    pub verdicts: u64,
    /// Number of those out of reach, because what they rest on is destroyed.
    pub out_of_reach: u64,
    /// Number of those that this release did not judge.
    pub not_judged: u64,
    /// Whether the objective of one of these can't be told, and one in effect has no other verdict.
    pub has_unknown: bool,
    /// Whether the policy in effect at the end of the log can be read.
    pub policy_is_known: bool,
    /// The first [`FAULTS_MAX`] faults, in the order of the log.
    pub faults: Vec<VerdictFault>,
    /// Number of further faults.
    pub more_faults: u64,
    /// The last verdict on each objective.
    pub latest: Vec<Latest>,
    /// The fold of the whole log.
    pub judge: Judge,
}

impl Rechecked {
    /// The verdicts in effect that were not confirmed.
    pub fn unconfirmed(&self) -> impl Iterator<Item = &Latest> {
        self.latest.iter().filter(|latest| latest.in_effect && latest.standing != Standing::Confirmed)
    }

    /// Whether the policy in effect can be read, and every verdict in effect was computed again and is right.
    pub fn is_confirmed(&self) -> bool {
        self.policy_is_known && !self.has_unknown && self.unconfirmed().next().is_none()
    }
}

/// The members that every version of a verdict has.
#[derive(Clone, Deserialize)]
struct Header {
    promise: PromiseId,
    revision: String,
    objective: u32,
    /// As wide as any number of a body, whatever that of this release is.
    evaluator: i64,
}

/// A policy of which the promises are left as bytes.
#[derive(Deserialize)]
struct RawPromises<'a> {
    #[serde(borrow)]
    promises: Vec<&'a RawValue>,
}

/// The last verdict on an objective, so far.
struct Last {
    sequence: u64,
    revision: String,
    verdict: Option<Verdict>,
    standing: Standing,
}

/// An entry that is not folded yet.
struct Waiting {
    sequence: u64,
    observer: ObserverId,
    recorded_at: Time,
    fact: Fact,
}

/// Reads a log from its first entry on and computes its verdicts again.
#[derive(Default)]
pub struct Recheck {
    judge: Judge,
    waiting: VecDeque<Waiting>,
    /// Lowest tree size that may still be read.
    least: u64,
    verdicts: u64,
    out_of_reach: u64,
    not_judged: u64,
    /// Windows that start before this rest on destroyed evidence.
    reach: Option<Time>,
    /// Log time of the newest destroyed entry; `None` once a policy comes after it.
    untold_since: Option<Span>,
    /// The newest `policy.applied` without payload, or of a later version.
    policy_lost: Option<u64>,
    /// The newest verdict that can't be read at all, not even its objective, and the standing that earlier verdicts have since.
    verdict_lost: Option<(u64, Standing)>,
    faults: Vec<VerdictFault>,
    more_faults: u64,
    latest: BTreeMap<(PromiseId, u32), Last>,
    /// Log time so far, and when the newest entry was recorded.
    clock: Span,
    recorded_at: Option<Time>,
    look_at: Span,
    /// Objectives in effect, by revision, with the log time of their last verdict or their declaration.
    expected: BTreeMap<(PromiseId, String, u32), Span>,
}

impl Recheck {
    /// A recheck that has read nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the public entry `sequence` without its payload, which is destroyed. The leaf has its kind `coarse` and the `hour`
    /// since the epoch in which it was recorded. The caller checks that the destruction was recorded, and calls this in place of
    /// [`entry`](Self::entry).
    pub fn destroyed(&mut self, sequence: u64, coarse: &str, hour: i64) {
        self.reach = self.reach.max(Some(Time::from_secs(hour.saturating_add(1).saturating_mul(3600)) + RETOLD_WITHIN));
        self.untold_since = Some(self.clock);
        if coarse == Applied::KIND.name {
            self.policy_lost = Some(sequence);
        } else if coarse == Verdict::KIND.name {
            self.lose_verdict(sequence, Standing::OutOfReach);
        }
    }

    /// Takes a verdict whose objective can't be told.
    fn lose_verdict(&mut self, sequence: u64, standing: Standing) {
        self.verdict_lost = Some((sequence, standing));
        // Whichever objective it was on was not left out.
        let clock = self.clock;
        self.expected.values_mut().for_each(|seen| *seen = clock);
    }

    /// Takes the entry `sequence`, in the order of the log; `None` for an entry of a team kind.
    pub fn entry(&mut self, sequence: u64, envelope: Option<&Envelope>) {
        let Some(envelope) = envelope else { return };
        self.advance(sequence, envelope.recorded_at);
        if envelope.kind == Verdict::KIND.name {
            return self.verdict(sequence, envelope);
        }
        if envelope.kind == Applied::KIND.name && envelope.version > Applied::KIND.version {
            // What is in effect from here on can't be told without knowing that version.
            self.policy_lost = Some(sequence);
            self.expected.clear();
        }
        let fact = match Fact::read(envelope) {
            Ok(Some(fact)) => fact,
            Ok(None) => return,
            Err(unreadable) => return self.unreadable(sequence, &unreadable),
        };
        if let Fact::Applied(applied) = &fact {
            self.declared(sequence, applied, envelope.body.get());
            // After a long silence, states are journaled again as soon as the policy is.
            if self.untold_since.take().is_some() {
                self.reach = self.reach.max(Some(envelope.recorded_at));
            }
        }
        let (observer, recorded_at) = (envelope.observer.clone(), envelope.recorded_at);
        self.waiting.push_back(Waiting { sequence, observer, recorded_at, fact });
        if self.waiting.len() > BEHIND_MAX
            && let Some(oldest) = self.waiting.front()
        {
            self.fold_below(oldest.sequence + 1);
        }
    }

    /// Ends the recheck: the log has `size` entries.
    pub fn finish(mut self, size: u64) -> Rechecked {
        self.fold_below(size);
        let policy_is_known = self.policy_is_known();
        let judge = &self.judge;
        let lost = self.verdict_lost;
        let promises = judge.policy().into_iter().flat_map(|policy| &policy.promises);
        let mut objectives =
            promises.flat_map(|promise| (0u32..).zip(&promise.objectives).map(move |(n, _)| (promise, n)));
        let has_unknown = matches!(lost, Some((_, Standing::NotJudged(_))))
            && objectives.any(|(promise, number)| !self.latest.contains_key(&(promise.id.clone(), number)));
        let latest = std::mem::take(&mut self.latest).into_iter().map(|((promise, objective), last)| {
            let Last { sequence, revision, verdict, standing } = last;
            let declared = judge.clause(&promise, objective);
            let in_effect = !policy_is_known || declared.is_some_and(|(promise, _)| promise.revision == revision);
            let standing = match lost {
                Some((lost, worth)) if lost > sequence && standing != Standing::Faulty => worth,
                _ => standing,
            };
            Latest { promise, objective, sequence, verdict, standing, in_effect }
        });
        Rechecked {
            latest: latest.collect(),
            policy_is_known,
            not_judged: self.not_judged,
            has_unknown,
            verdicts: self.verdicts,
            out_of_reach: self.out_of_reach,
            faults: self.faults,
            more_faults: self.more_faults,
            judge: self.judge,
        }
    }

    fn verdict(&mut self, sequence: u64, envelope: &Envelope) {
        let later = (envelope.version > Verdict::KIND.version).then_some(NotJudged::Version(envelope.version));
        let Header { promise, revision, objective, evaluator } = match serde_json::from_str(envelope.body.get()) {
            Ok(header) => header,
            Err(unreadable) => {
                return match later {
                    None => self.unreadable(sequence, &unreadable),
                    Some(why) => {
                        self.not_judged += 1;
                        self.lose_verdict(sequence, Standing::NotJudged(why));
                    }
                };
            }
        };
        if let Some(seen) = self.expected.get_mut(&(promise.clone(), revision.clone(), objective)) {
            *seen = self.clock;
        }
        let why = later.or_else(|| (evaluator != i64::from(EVALUATOR)).then_some(NotJudged::Evaluator(evaluator)));
        let verdict = envelope.body::<Verdict>();
        let standing = match (why, &verdict) {
            (Some(why), _) => Standing::NotJudged(why),
            (None, Some(Ok(verdict))) => match self.recompute(sequence, envelope.recorded_at, verdict) {
                Ok(standing) => standing,
                Err(fault) if self.excuses(&fault) && self.rests_on_destroyed(verdict) => Standing::OutOfReach,
                Err(fault) => {
                    self.fault(fault);
                    Standing::Faulty
                }
            },
            (None, Some(Err(unreadable))) => return self.unreadable(sequence, unreadable),
            (None, None) => return,
        };
        *match standing {
            Standing::OutOfReach => &mut self.out_of_reach,
            Standing::NotJudged(_) => &mut self.not_judged,
            Standing::Confirmed | Standing::Faulty => &mut self.verdicts,
        } += 1;
        let verdict = verdict.and_then(Result::ok);
        self.latest.insert((promise, objective), Last { sequence, revision, verdict, standing });
    }

    /// Whether the policy in effect can be read.
    fn policy_is_known(&self) -> bool {
        self.judge.policy_sequence().is_some_and(|known| self.policy_lost.is_none_or(|lost| lost < known))
    }

    /// Whether destroyed evidence could explain the fault. What a policy that can be read declares needs no other evidence.
    fn excuses(&self, fault: &VerdictFault) -> bool {
        match fault {
            VerdictFault::NotDeclared { .. } => !self.policy_is_known(),
            VerdictFault::Mismatch { journaled, computed, .. } => {
                !self.policy_is_known() || journaled.revision == computed.revision
            }
            _ => false,
        }
    }

    fn recompute(&mut self, sequence: u64, recorded_at: Time, verdict: &Verdict) -> Result<Standing, VerdictFault> {
        let &Verdict { objective, tree_size, at, .. } = verdict;
        let promise = verdict.promise.clone();
        if tree_size > sequence {
            return Err(VerdictFault::FromTheFuture { sequence, promise, tree_size });
        }
        if tree_size < self.least {
            return Err(VerdictFault::GoesBack { sequence, promise, tree_size, least: self.least });
        }
        if at > recorded_at + SKEW || at < recorded_at - OLD_MAX {
            return Err(VerdictFault::Dated { sequence, promise, at, recorded_at });
        }
        self.fold_below(tree_size);
        match self.judge.verdict(&promise, objective, at) {
            None => match self.judge.clause(&promise, objective) {
                Some((declared, _)) if declared.revision == verdict.revision => {
                    Ok(Standing::NotJudged(NotJudged::Objective))
                }
                _ => Err(VerdictFault::NotDeclared { sequence, promise, objective }),
            },
            Some(computed) if computed == *verdict => Ok(Standing::Confirmed),
            Some(computed) => {
                let (journaled, computed) = (Box::new(verdict.clone()), Box::new(computed));
                Err(VerdictFault::Mismatch { sequence, promise, objective, tree_size, journaled, computed })
            }
        }
    }

    /// Whether a verdict that can't be computed again may rest on destroyed evidence. The window is the one that is
    /// declared: what the verdict says of it is no excuse.
    fn rests_on_destroyed(&self, verdict: &Verdict) -> bool {
        let objective =
            self.judge.clause(&verdict.promise, verdict.objective).and_then(|(_, clause)| Objective::of(clause));
        let over = objective.map_or(Span::ZERO, |objective| objective.over());
        let untold = self.untold_since.is_some_and(|since| self.clock - since <= RETOLD_WITHIN);
        untold || self.reach.is_some_and(|reach| verdict.at - over < reach)
    }

    fn fold_below(&mut self, size: u64) {
        if size <= self.least {
            return;
        }
        self.least = size;
        while let Some(waiting) = self.waiting.pop_front_if(|w| w.sequence < size) {
            self.judge.fold(waiting.sequence, &waiting.observer, waiting.recorded_at, &waiting.fact);
        }
        self.judge.skip(size - 1);
    }

    fn declared(&mut self, sequence: u64, applied: &Applied, body: &str) {
        // From the bytes, so that a release that does not know all keys gets the same.
        let raw: RawPromises<'_> = serde_json::from_str(body).unwrap_or(RawPromises { promises: Vec::new() });
        let promises = applied.promises.iter().zip(raw.promises);
        let promises = promises.map(|(p, raw)| (format!("promise {}", p.id), &p.revision, raw.get()));
        for (what, claimed, json) in promises.chain([("the policy".to_owned(), &applied.revision, body)]) {
            let revision = Revision::of(json);
            if !revision.as_ref().is_some_and(Revision::holds) {
                let computed = revision.map(|revision| revision.computed);
                self.fault(VerdictFault::Revision { sequence, what, claimed: claimed.clone(), computed });
            }
        }
        let mut before = std::mem::take(&mut self.expected);
        for promise in &applied.promises {
            for (objective, _) in (0u32..).zip(&promise.objectives) {
                let key = (promise.id.clone(), promise.revision.clone(), objective);
                let seen = before.remove(&key).unwrap_or(self.clock);
                self.expected.insert(key, seen);
            }
        }
    }

    fn advance(&mut self, sequence: u64, recorded_at: Time) {
        let silence = self.recorded_at.map_or(Span::ZERO, |before| recorded_at.since(before));
        self.recorded_at = Some(recorded_at);
        self.clock = self.clock + silence.clamp(Span::ZERO, SILENCE_MAX);
        if self.clock < self.look_at {
            return;
        }
        self.look_at = self.clock + LOOK_EVERY;
        let clock = self.clock;
        let lapsed: Vec<_> = self.expected.iter_mut().filter(|(_, seen)| clock - **seen > LAPSE).collect();
        let mut faults = Vec::new();
        for ((promise, _, objective), seen) in lapsed {
            // Told once; again after as long a time without a verdict.
            *seen = clock;
            faults.push(VerdictFault::Lapsed { sequence, promise: promise.clone(), objective: *objective });
        }
        for fault in faults {
            self.fault(fault);
        }
    }

    fn unreadable(&mut self, sequence: u64, unreadable: &dyn std::error::Error) {
        self.fault(VerdictFault::Unreadable { sequence, reason: unreadable.to_string() });
    }

    fn fault(&mut self, fault: VerdictFault) {
        if self.faults.len() < FAULTS_MAX { self.faults.push(fault) } else { self.more_faults += 1 }
    }
}
