//! The desk: decides which alerts there are, which of them have one cause, and who is owed which message.
//!
//! Nothing here does I/O: [`run`](crate::run) brings signals, requests, times and the results of channels, and carries rows, events
//! and letters away. So a year of nights is a test of milliseconds, and a crash is the loss of a value.
//!
//! **One cause, one message.** The first alert of a place is told at once, but for a second in which others may come. Alerts that
//! come soon after it, in the same region, are gathered; those that come later join when their host or region has failed as a
//! whole, or when one service can't do without the other. All of them follow the first: nobody is told of them one by one, the
//! scope is told as one update. What is in another region, or comes later without any of these, is a new cause, and told at once.
//!
//! **Told is a difference.** Each person and channel has a [`Thread`] per leading alert; see there.
//!
//! Two clocks: deadlines are compared with `steady`, which never steps while the process runs; what people read, schedules and
//! silences are of the wall.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use event::evidence::ReactedTo;
use event::policy::Text;
use event::{Interval, RegionId, ServiceId, Span, Time};
use serde::{Deserialize, Serialize};
use store::Row;

use super::alert::{
    Acknowledgement, Alert, AlertId, Answers, GatheredBy, Lead, Opening, Scope, Signal, SignalState, Source,
};
use super::places::Places;
use super::silence::{ReadySilence, SILENCES_MAX, Silence};
use super::thread::{Budget, MessageNumber, NEXT_TRY_MAX, REFUSALS_MAX, Thread, ThreadKey, Told, pause};
use crate::act::{Delivery, Language, Sent, Severity, What};

/// Most alerts that are kept; beyond it new ones are counted and told as one.
pub const ALERTS_MAX: usize = 20_000;
/// How long the first alert of a place waits for others before it is told.
const FIRST_WAIT: Span = Span::from_secs(1);
/// How long after the last alert of a group another one is gathered, whatever relates them besides their place.
const GATHER: Span = Span::from_secs(30);
/// The same where the policy declares no region: that two services have one cause is then no more than likely.
const GATHER_ANYWHERE: Span = Span::from_secs(15);
/// Longest gathering.
const GATHER_MAX: Span = Span::from_secs(120);
/// Longest gathering of as many alerts as [`MANY`].
const GATHER_MANY_MAX: Span = Span::from_secs(900);
/// So many alerts of one region that a further one has hardly another cause.
const MANY: usize = 10;
/// How long a group must be over before it is told to be.
const OVER_WAIT: Span = Span::from_secs(5);
/// Time within which an alert that comes again continues the one before.
const AGAIN_WITHIN: Span = Span::from_secs(600);
/// An alert that opened so often in [`FLAP_WITHIN`] flaps.
const FLAP_OPENINGS: usize = 3;
const FLAP_WITHIN: Span = Span::from_secs(1800);
/// How long one that flaps must be quiet to be over.
const FLAP_QUIET: Span = Span::from_secs(600);
/// How long after a start an alert lasts whose source may not have been heard meanwhile.
const AFTER_START: Span = Span::from_secs(300);
/// How far ahead an alert may end by itself.
const UNTIL_MAX: Span = Span::from_days(31);
/// How long alerts are kept after they are over.
const KEPT: Span = Span::from_secs(86_400);
/// Time between the first and the second update of a scope; four times as long to each further one.
const UPDATE_EVERY: Span = Span::from_secs(60);
const UPDATE_EVERY_MAX: Span = Span::from_secs(3600);
/// How often the team is reminded of a hold.
const HOLD_REMIND_EVERY: Span = Span::from_secs(3600);
/// How long a message about what is over is tried in vain before it is given up, with a line in the log. What fires is told of
/// however long that takes.
pub const GIVE_UP_AFTER: Span = Span::from_days(7);

/// The clocks of a turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// Never steps while the process runs.
    pub steady: Time,
    /// What a clock on the wall shows.
    pub wall: Time,
}

/// A channel of a person, without the means to send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChannelRule {
    /// What tells it from the person's other channels: its kind, and a number from the second of a kind on.
    pub id: String,
    /// `mail`, `sms`.
    pub kind: String,
    /// The severities that it is for.
    pub severities: BTreeSet<Severity>,
}

/// A person who is told.
#[derive(Clone)]
pub struct PersonRule {
    /// The name in the policy.
    pub name: String,
    /// The language.
    pub language: Language,
    /// The channels, the first one first.
    pub channels: Vec<ChannelRule>,
    /// When a quiet hour that is under way at this time ends; `None` at other times.
    pub quiet_until: Arc<dyn Fn(Time) -> Option<Time> + Send + Sync>,
}

/// One step of an escalation policy: who is told, and how long after the first message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StepRule {
    /// Persons and schedules.
    pub targets: Vec<Target>,
    /// Time after the step before.
    pub after: Span,
}

/// Whom a step names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// A person.
    Person(String),
    /// Whoever is on call then.
    Schedule(String),
}

/// An escalation policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EscalationRule {
    /// Its steps: at least one.
    pub steps: Vec<StepRule>,
    /// How often all of them are repeated.
    pub repeat: u32,
    /// Time between the last step and the first of the repetition.
    pub repeat_after: Span,
}

/// Says who is on call by a schedule, at a time.
pub type OnCall = Arc<dyn Fn(&str, Time) -> Vec<String> + Send + Sync>;

/// All that the desk needs of the policy.
#[derive(Clone)]
pub struct Rules {
    /// Where services run.
    pub places: Arc<Places>,
    /// The people.
    pub people: Vec<PersonRule>,
    /// Escalation policies by name; the empty name is that of alerts that name none.
    pub escalations: BTreeMap<String, EscalationRule>,
    /// The escalation policy of services that name one.
    pub escalation_of: BTreeMap<ServiceId, String>,
    /// How long an alert of each severity must be open before anybody is told.
    pub after: BTreeMap<Severity, Span>,
    /// How often those who were told are reminded of what nobody took on.
    pub remind_every: BTreeMap<Severity, Span>,
    /// How long nobody acknowledges before the person's next channel is tried.
    pub next_channel_after: Span,
    /// How long an acknowledgement lasts.
    pub acknowledged_for: Span,
    /// Announced maintenance.
    pub maintenance: Vec<(Vec<ServiceId>, Interval)>,
    /// Who is on call by a schedule, at a time.
    pub on_call: OnCall,
    /// The time of the last weekly test that was due at a time; `None` when there is none.
    pub test_due: Arc<dyn Fn(Time) -> Option<Time> + Send + Sync>,
}

/// What is journaled of the desk's decisions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Note {
    /// An alert that leads began, was acknowledged, changed its scope, or is over.
    Alert(AlertId, &'static str),
    /// A message was queued, handed over, or failed.
    Notified {
        /// The thread.
        thread: ThreadKey,
        /// `queued`, `handed_over`, `delivered`, `failed`, `acknowledged`.
        state: &'static str,
    },
    /// Somebody was told of a failure, was reached, or took it on, for the public: which alert.
    Reacted {
        /// Which of the three.
        to: ReactedTo,
        /// The alert.
        alert: AlertId,
        /// When a channel accepted the message, when its receipt came, or when somebody acknowledged.
        at: Time,
    },
    /// A test message was accepted.
    Tested {
        /// When it was asked for.
        queued_at: Time,
        /// When a channel accepted it.
        at: Time,
    },
    /// A silence was made or ended.
    Silenced(Box<Silence>),
    /// What garant sends to customers is held, or no longer.
    Held(bool, String, String),
}

/// A message that is due: the threads that it settles, all of one person and channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Letter {
    /// The person, by name.
    pub person: String,
    /// The channel.
    pub channel: String,
    /// The threads, the most urgent first.
    pub threads: Vec<LetterThread>,
    /// The occasion.
    pub what: What,
    /// The time at which it was handed to the channel.
    pub at: Time,
}

/// One thread of a letter, and what it will have told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LetterThread {
    /// The thread.
    pub key: ThreadKey,
    /// The occasion for this thread.
    pub what: What,
    /// How often a member has become worse by then.
    pub worsened: u32,
    /// How often the group has fired again by then.
    pub again: u32,
    /// The severity that is told.
    pub severity: Severity,
    /// Whether it is told to be over.
    pub over: bool,
    /// The alerts of the group at that time: as many as have joined it.
    pub joined: u32,
}

/// The hold: what garant sends to customers is stopped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Hold {
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Time,
}

/// The desk.
pub struct Desk {
    pub(crate) rules: Arc<Rules>,
    pub(crate) alerts: BTreeMap<AlertId, Alert>,
    by_key: HashMap<String, AlertId>,
    /// Alerts that fire, and that nobody decided about yet.
    pending: BTreeSet<AlertId>,
    /// Alerts that lead a group which is not settled.
    leads: BTreeSet<AlertId>,
    /// Members of each group, the leader included, in the order in which they joined.
    pub(crate) members: BTreeMap<AlertId, Vec<AlertId>>,
    /// The places of each group.
    pub(crate) scopes: BTreeMap<AlertId, Scope>,
    /// Groups of whose members nobody is told now: silenced, or under maintenance.
    quieted: BTreeSet<AlertId>,
    /// How many members of each group fire.
    firing: BTreeMap<AlertId, usize>,
    /// Groups by what they gather.
    gathering: BTreeMap<GatheredBy, AlertId>,
    /// The failures of each service that fire.
    failed_service: HashMap<ServiceId, BTreeSet<AlertId>>,
    pub(crate) threads: BTreeMap<ThreadKey, Thread>,
    /// Threads of outages that are over and told.
    past: BTreeMap<ThreadKey, Thread>,
    budgets: BTreeMap<(String, String), Budget>,
    pub(crate) silences: BTreeMap<String, ReadySilence>,
    /// The silences that match each alert, whether they hold now or not. Kept up when an alert or a silence changes: of thousands of
    /// silenced alerts none is compared with anything at a turn.
    matching: BTreeMap<AlertId, BTreeSet<String>>,
    /// How often an alert was compared with a silence.
    #[cfg(test)]
    pub(crate) comparisons: usize,
    pub(crate) hold: Option<Hold>,
    /// Pseudonyms of people, by name.
    pub(crate) pseudonyms: BTreeMap<String, String>,
    pub(crate) memory: Memory,
    in_flight: BTreeSet<(String, String)>,
    /// Receipts that came before the answer of the channel that took the message, by person and channel under way.
    early: BTreeMap<(String, String), (MessageNumber, Delivery)>,
    /// Groups of which it was said that the policy leaves nobody to be told.
    unheard: BTreeSet<AlertId>,
    dirty: BTreeSet<String>,
    notes: Vec<Note>,
    wakes: Option<Time>,
}

/// The numbers that outlive everything.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) struct Memory {
    /// The next alert's number.
    next: AlertId,
    /// Sixteen hexadecimal digits that tell this installation's messages from all others.
    pub(crate) name: String,
    /// The key of one-time links, in base64.
    pub(crate) link_key: String,
    /// The last weekly test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tested_at: Option<Time>,
}

const MEMORY: &str = "memory";
const HOLD: &str = "hold";
/// Key of the alert about alerts for which there is no room.
const TOO_MANY: &str = "too-many-alerts";

mod escalation;
mod grouping;
mod letters;
mod requests;

impl Desk {
    /// A desk without alerts. `name` and `link_key` are drawn once for an installation.
    pub fn new(rules: Arc<Rules>, name: String, link_key: String) -> Self {
        let memory = Memory { next: 1, name, link_key, tested_at: None };
        let mut desk = Self::empty(rules, memory);
        desk.dirty.insert(MEMORY.to_owned());
        desk
    }

    fn empty(rules: Arc<Rules>, memory: Memory) -> Self {
        Self {
            rules,
            alerts: BTreeMap::new(),
            by_key: HashMap::new(),
            pending: BTreeSet::new(),
            leads: BTreeSet::new(),
            members: BTreeMap::new(),
            scopes: BTreeMap::new(),
            quieted: BTreeSet::new(),
            firing: BTreeMap::new(),
            gathering: BTreeMap::new(),
            failed_service: HashMap::new(),
            threads: BTreeMap::new(),
            past: BTreeMap::new(),
            budgets: BTreeMap::new(),
            silences: BTreeMap::new(),
            matching: BTreeMap::new(),
            #[cfg(test)]
            comparisons: 0,
            hold: None,
            pseudonyms: BTreeMap::new(),
            memory,
            in_flight: BTreeSet::new(),
            early: BTreeMap::new(),
            unheard: BTreeSet::new(),
            dirty: BTreeSet::new(),
            notes: Vec::new(),
            wakes: None,
        }
    }

    /// The desk of a run before, out of its rows; `None` when there was none. A row that can't be read is left out, with a line in
    /// the log: one damaged alert must not silence all others.
    pub fn restore(rules: Arc<Rules>, rows: impl IntoIterator<Item = (String, Vec<u8>)>, now: Now) -> Option<Self> {
        let rows: BTreeMap<String, Vec<u8>> = rows.into_iter().collect();
        let memory = serde_json::from_slice(rows.get(MEMORY)?).ok()?;
        let mut desk = Self::empty(rules, memory);
        for (key, value) in &rows {
            if let Err(error) = desk.take_row(key, value) {
                tracing::warn!(row = key, %error, "a row of the alerts can't be read: it is left out");
            }
        }
        desk.bring_back(now.steady);
        for alert in desk.alerts.values() {
            desk.by_key.insert(alert.key.clone(), alert.id);
            let group = alert.follows.unwrap_or(alert.id);
            if alert.follows.is_some() || alert.lead.is_some() {
                desk.members.entry(group).or_default().push(alert.id);
                desk.scopes.entry(group).or_default().add(&alert.opening);
                if alert.fires() {
                    *desk.firing.entry(group).or_default() += 1;
                }
            } else if alert.fires() {
                desk.pending.insert(alert.id);
            }
        }
        let all: Vec<AlertId> = desk.alerts.keys().copied().collect();
        for id in all {
            desk.match_alert(id);
        }
        // The policy may be another one.
        desk.try_refused_again(|_| true);
        for alert in desk.alerts.values() {
            let Some(lead) = &alert.lead else { continue };
            if !lead.settled {
                desk.leads.insert(alert.id);
            }
            let members = desk.members.entry(alert.id).or_default();
            // The leader is the first that joined.
            if let Some(place) = members.iter().position(|id| *id == alert.id) {
                let leader = members.remove(place);
                members.insert(0, leader);
            }
            if lead.over_at.is_none() && alert.opening.source.is_failure() {
                desk.gathering.insert(alert.gathered_by(), alert.id);
            }
        }
        let failed: Vec<_> = desk.alerts.values().filter(|alert| alert.fires()).map(|alert| alert.id).collect();
        for id in failed {
            desk.index_failure(id);
        }
        Some(desk)
    }

    /// Brings times of the run before that are in the future back to now: the clock was set back since, and nothing may wait for it
    /// to come round.
    fn bring_back(&mut self, now: Time) {
        let back = |at: &mut Time| *at = (*at).min(now);
        for alert in self.alerts.values_mut() {
            back(&mut alert.opened_at);
            if let Some(until) = &mut alert.opening.until {
                // While this was down its source could not tell it again.
                *until = (*until).clamp(now + AFTER_START, now + UNTIL_MAX);
            }
            alert.over_at.iter_mut().for_each(back);
            alert.openings.iter_mut().for_each(back);
            alert.answers.told_at.iter_mut().for_each(back);
            let Some(lead) = &mut alert.lead else { continue };
            back(&mut lead.begun_at);
            back(&mut lead.step_at);
            lead.gathers_until = lead.gathers_until.min(now + GATHER);
            lead.next_update_at = lead.next_update_at.min(now + UPDATE_EVERY_MAX);
            lead.over_at.iter_mut().for_each(back);
            if let Some(acknowledged) = &mut lead.acknowledged {
                acknowledged.until = acknowledged.until.min(now + self.rules.acknowledged_for);
            }
        }
        for thread in self.threads.values_mut() {
            back(&mut thread.queued_at);
            thread.next_try = thread.next_try.min(now + NEXT_TRY_MAX);
            thread.failing_since.iter_mut().for_each(back);
            thread.remind_at.iter_mut().for_each(back);
            thread.test_at.iter_mut().for_each(back);
            if let Some(told) = &mut thread.told {
                back(&mut told.at);
                told.delivered_at.iter_mut().for_each(back);
            }
        }
    }

    fn take_row(&mut self, key: &str, value: &[u8]) -> Result<(), serde_json::Error> {
        match key.split_once('/') {
            Some(("alert", _)) => {
                let alert: Alert = serde_json::from_slice(value)?;
                self.memory.next = self.memory.next.max(alert.id + 1);
                self.alerts.insert(alert.id, alert);
            }
            Some(("thread", _)) => {
                let thread: Thread = serde_json::from_slice(value)?;
                let threads = if thread.past { &mut self.past } else { &mut self.threads };
                threads.insert(thread.key.clone(), thread);
            }
            Some(("budget", rest)) => {
                if let Some((person, channel)) = rest.split_once('/') {
                    self.budgets.insert((person.to_owned(), channel.to_owned()), serde_json::from_slice(value)?);
                }
            }
            Some(("silence", _)) => {
                let silence: Silence = serde_json::from_slice(value)?;
                if let Ok(ready) = ReadySilence::new(silence) {
                    self.silences.insert(ready.silence.id.clone(), ready);
                }
            }
            Some(("person", pseudonym)) => {
                self.pseudonyms.insert(serde_json::from_slice(value)?, pseudonym.to_owned());
            }
            None if key == HOLD => self.hold = serde_json::from_slice(value)?,
            _ => {}
        }
        Ok(())
    }

    /// The rows that changed since the last call.
    pub fn take_rows(&mut self) -> Vec<Row> {
        let dirty = std::mem::take(&mut self.dirty);
        dirty
            .into_iter()
            .map(|key| match self.row(&key) {
                Some(value) => Row::Put { key, value },
                None => Row::Delete { key },
            })
            .collect()
    }

    fn row(&self, key: &str) -> Option<Vec<u8>> {
        let json = match key.split_once('/') {
            Some(("alert", id)) => serde_json::to_vec(self.alerts.get(&id.parse().ok()?)?),
            Some(("thread", rest)) => {
                let mut parts = rest.splitn(3, '/');
                let alert = parts.next()?.parse().ok()?;
                let (person, channel) = (parts.next()?.to_owned(), parts.next()?.to_owned());
                let key = ThreadKey { alert, person, channel };
                serde_json::to_vec(self.threads.get(&key).or_else(|| self.past.get(&key))?)
            }
            Some(("budget", rest)) => {
                let (person, channel) = rest.split_once('/')?;
                serde_json::to_vec(self.budgets.get(&(person.to_owned(), channel.to_owned()))?)
            }
            Some(("silence", id)) => serde_json::to_vec(&self.silences.get(id)?.silence),
            Some(("person", pseudonym)) => {
                serde_json::to_vec(self.pseudonyms.iter().find(|(_, found)| *found == pseudonym)?.0)
            }
            None if key == MEMORY => serde_json::to_vec(&self.memory),
            None if key == HOLD => serde_json::to_vec(self.hold.as_ref()?),
            _ => return None,
        };
        json.ok()
    }

    /// What is to be journaled since the last call.
    pub fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }

    /// Whether anything changed that [`Self::take_rows`] and [`Self::take_notes`] would give.
    pub fn has_changed(&self) -> bool {
        !self.dirty.is_empty() || !self.notes.is_empty()
    }

    /// When the next turn is due at the latest.
    pub fn wakes(&self) -> Option<Time> {
        self.wakes
    }

    fn wake_at(&mut self, at: Time) {
        self.wakes = Some(self.wakes.map_or(at, |before| before.min(at)));
    }

    fn mark(&mut self, id: AlertId) {
        self.dirty.insert(format!("alert/{id:012}"));
    }

    fn mark_thread(&mut self, key: &ThreadKey) {
        self.dirty.insert(format!("thread/{}/{}/{}", key.alert, key.person, key.channel));
    }

    /// Follows another policy. What a channel refused is tried again.
    pub fn follow(&mut self, rules: Arc<Rules>) {
        self.rules = rules;
        self.try_refused_again(|_| true);
    }

    /// What a channel refused is owed again, also of what is over.
    fn try_refused_again(&mut self, which: impl Fn(&Thread) -> bool) {
        let refused = self.threads.values().filter(|thread| thread.refused && which(thread));
        let refused: Vec<_> = refused.map(|thread| thread.key.clone()).collect();
        for key in refused {
            if let Some(thread) = self.threads.get_mut(&key) {
                thread.refused = false;
                (thread.attempts, thread.next_try) = (0, thread.queued_at);
                self.mark_thread(&key);
            }
            if let Some(lead) = self.alerts.get_mut(&key.alert).and_then(|alert| alert.lead.as_mut()) {
                lead.settled = false;
                self.leads.insert(key.alert);
                self.mark(key.alert);
            }
        }
    }

    /// Tries again what was refused a while ago, but not for ever.
    fn try_refusals(&mut self, now: Now) {
        let again = |thread: &&Thread| thread.refused && (1..REFUSALS_MAX).contains(&thread.refusals);
        let next = self.threads.values().filter(again).map(|thread| thread.next_try).min();
        match next {
            Some(next) if next <= now.steady => {
                self.try_refused_again(|thread| again(&thread) && thread.next_try <= now.steady);
            }
            Some(next) => self.wake_at(next),
            None => {}
        }
    }

    /// The alert of this key.
    pub fn find(&self, key: &str) -> Option<&Alert> {
        self.alerts.get(self.by_key.get(key)?)
    }

    /// Whether an alert of this key fires.
    pub fn fires(&self, key: &str) -> bool {
        self.find(key).is_some_and(Alert::fires)
    }

    /// Keys of the alerts that fire and start with `prefix`.
    pub fn firing_keys(&self, prefix: &str) -> Vec<String> {
        let firing = self.alerts.values().filter(|alert| alert.fires() && alert.key.starts_with(prefix));
        firing.map(|alert| alert.key.clone()).collect()
    }

    /// Takes a signal.
    pub fn signal(&mut self, signal: Signal, now: Now) {
        match signal.state {
            SignalState::Open(opening) => self.open(signal.key, *opening, now),
            SignalState::Over(at) => self.over(&signal.key, at, now),
            SignalState::Gone(at) => {
                let alert = self.by_key.get(&signal.key).and_then(|id| self.alerts.get_mut(id));
                if let Some(alert) = alert.filter(|alert| alert.fires()) {
                    alert.gone = true;
                }
                self.over(&signal.key, at, now);
            }
        }
    }

    fn open(&mut self, key: String, opening: Opening, now: Now) {
        if let Some(id) = self.by_key.get(&key).copied() {
            let Some(alert) = self.alerts.get_mut(&id) else { return };
            let again = match alert.over_at {
                None => false,
                Some(over) if now.steady.since(over) <= AGAIN_WITHIN => true,
                // Long ago: another alert, of the same key.
                Some(_) => return self.open_new(key, opening, now),
            };
            if !again && alert.opening == opening {
                return;
            }
            // Slow, then down: another failure, which nobody was told of yet.
            let worse = !again && opening.source.is_failure() && !alert.opening.source.is_failure();
            let since = if again { opening.since } else { alert.opening.since.min(opening.since) };
            let shown_by = if again || worse { opening.shown_by } else { alert.opening.shown_by.or(opening.shown_by) };
            if worse {
                alert.unanswered();
            }
            let severity_before = alert.opening.severity;
            let services_before = std::mem::take(&mut alert.opening.services);
            alert.opening = Opening { since, shown_by, ..opening };
            if again {
                alert.over_at = None;
                alert.unanswered();
                alert.gone = false;
                alert.opened_at = now.steady;
                alert.openings.retain(|at| now.steady.since(*at) < FLAP_WITHIN);
                alert.openings.push(now.steady);
                alert.flapping = alert.openings.len() >= FLAP_OPENINGS;
                let group = if alert.lead.is_some() { Some(id) } else { alert.follows };
                match group {
                    Some(group) => self.fires_again(group, now),
                    None => drop(self.pending.insert(id)),
                }
            }
            self.unindex_failure(id, &services_before);
            self.index_failure(id);
            self.match_alert(id);
            if worse {
                let group = self.alerts.get(&id).and_then(|alert| alert.follows).unwrap_or(id);
                if let Some(lead) = self.alerts.get_mut(&group).and_then(|alert| alert.lead.as_mut()) {
                    lead.worsened += 1;
                    self.mark(group);
                }
            }
            let raised = self.alerts.get(&id).is_some_and(|alert| alert.opening.severity > severity_before);
            if raised {
                self.raise(id, now);
            }
            self.mark(id);
            return;
        }
        self.open_new(key, opening, now);
    }

    fn open_new(&mut self, key: String, opening: Opening, now: Now) {
        if self.alerts.len() >= ALERTS_MAX && key != TOO_MANY && !self.make_room() {
            tracing::error!(key, most = ALERTS_MAX, "too many alerts fire at once: this one is told to nobody");
            if !self.fires(TOO_MANY) {
                self.open(TOO_MANY.to_owned(), too_many(now.wall), now);
            }
            return;
        }
        let id = self.memory.next;
        self.memory.next += 1;
        self.dirty.insert(MEMORY.to_owned());
        let alert = Alert {
            id,
            key: key.clone(),
            opening,
            opened_at: now.steady,
            over_at: None,
            openings: vec![now.steady],
            flapping: false,
            gone: false,
            reacted: false,
            answers: Answers::default(),
            follows: None,
            lead: None,
        };
        self.alerts.insert(id, alert);
        self.by_key.insert(key, id);
        self.pending.insert(id);
        self.index_failure(id);
        self.match_alert(id);
        self.mark(id);
    }

    /// Removes what has been over for longest, a good part of it at once; false when all fire.
    fn make_room(&mut self) -> bool {
        let settled = self.alerts.values().filter(|alert| {
            !alert.fires() && alert.follows.is_none() && alert.lead.as_ref().is_none_or(|lead| lead.settled)
        });
        let mut oldest: Vec<_> = settled.map(|alert| (alert.over_at, alert.id)).collect();
        oldest.sort_unstable();
        for (_, id) in oldest {
            self.remove(id);
            if self.alerts.len() <= ALERTS_MAX - ALERTS_MAX / 10 {
                break;
            }
        }
        self.alerts.len() < ALERTS_MAX
    }

    fn index_failure(&mut self, id: AlertId) {
        let Some(alert) = self.alerts.get(&id).filter(|alert| alert.fires() && alert.opening.source.is_failure())
        else {
            return;
        };
        for service in &alert.opening.services {
            self.failed_service.entry(service.clone()).or_default().insert(id);
        }
    }

    /// Forgets that these services fail by this alert: others may show that they do.
    fn unindex_failure(&mut self, id: AlertId, services: &BTreeSet<ServiceId>) {
        for service in services {
            if let Some(failures) = self.failed_service.get_mut(service) {
                failures.remove(&id);
                if failures.is_empty() {
                    self.failed_service.remove(service);
                }
            }
        }
    }

    fn fires_again(&mut self, group: AlertId, now: Now) {
        *self.firing.entry(group).or_default() += 1;
        let Some(alert) = self.alerts.get_mut(&group) else { return };
        let (by, is_failure) = (alert.gathered_by(), alert.opening.source.is_failure());
        let Some(lead) = alert.lead.as_mut() else { return };
        if lead.over_at.take().is_some() {
            // Who was told that it is over is told that it is not.
            lead.acknowledged = None;
            (lead.step, lead.step_at, lead.begun_at) = (0, now.steady, now.steady);
            let was_settled = std::mem::take(&mut lead.settled);
            lead.again += 1;
            if is_failure {
                // What fails with it this time has the same cause.
                lead.gathers_until = now.steady + GATHER;
                self.gathering.insert(by, group);
            }
            self.leads.insert(group);
            self.notes.push(Note::Alert(group, "firing"));
            let threads: Vec<ThreadKey> = self.threads.range(range_of(group)).map(|(key, _)| key.clone()).collect();
            for key in threads {
                self.mark_thread(&key);
                let Some(thread) = self.threads.get_mut(&key) else { continue };
                thread.acknowledged_at = None;
                // Whoever knows that it was over need not be told this time: that is for whoever is on call now. Whose channel
                // refused the end still waits for one.
                let knows = thread.told.as_ref().is_none_or(|told| told.over);
                if was_settled
                    && knows
                    && let Some(thread) = self.threads.remove(&key)
                {
                    self.past.insert(key, Thread { past: true, ..thread });
                }
            }
            if was_settled {
                self.tell_more(group, now);
            }
        }
        self.mark(group);
    }

    fn over(&mut self, key: &str, at: Time, now: Now) {
        let Some(id) = self.by_key.get(key).copied() else { return };
        if self.alerts.get(&id).is_none_or(|alert| !alert.fires()) {
            return;
        }
        if self.lasted(id, at, now) {
            // Both ends may come at once, after a time in which nobody read: it was no blip.
            if self.pending.contains(&id) {
                self.place(id, now);
            }
            self.tell_at_once(id, now);
        }
        let Some(alert) = self.alerts.get_mut(&id) else { return };
        alert.over_at = Some(now.steady);
        let group = if alert.lead.is_some() { Some(id) } else { alert.follows };
        let services = alert.opening.services.clone();
        self.unindex_failure(id, &services);
        self.mark(id);
        if self.pending.remove(&id) {
            // Nobody was to be told yet.
            return;
        }
        let Some(group) = group else { return };
        let left = self.firing.entry(group).or_default();
        *left = left.saturating_sub(1);
        if *left == 0
            && let Some(lead) = self.alerts.get_mut(&group).and_then(|alert| alert.lead.as_mut())
        {
            lead.over_at = Some(now.steady);
            self.mark(group);
        }
    }

    /// Called when a member of a group matters more than before.
    fn raise(&mut self, id: AlertId, now: Now) {
        let Some(alert) = self.alerts.get(&id) else { return };
        let (severity, group) = (alert.opening.severity, alert.follows.unwrap_or(id));
        let Some(lead) = self.alerts.get_mut(&group).and_then(|alert| alert.lead.as_mut()) else { return };
        if severity > lead.severity {
            lead.severity = severity;
            (lead.step, lead.step_at) = (0, now.steady);
            self.mark(group);
            self.tell_more(group, now);
        }
    }

    /// The places of what fires in a group; of all that was in it once nothing does.
    pub fn scope_now(&self, id: AlertId) -> Scope {
        let members = self.members.get(&id).into_iter().flatten().filter_map(|member| self.alerts.get(member));
        let mut scope = Scope::default();
        let mut fires = false;
        for alert in members.filter(|alert| alert.fires()) {
            fires = true;
            scope.add(&alert.opening);
        }
        if fires { scope } else { self.scopes.get(&id).cloned().unwrap_or_default() }
    }

    /// The labels of an alert, by which silences find it.
    pub fn labels(&self, alert: &Alert) -> BTreeMap<String, String> {
        let opening = &alert.opening;
        let mut labels = opening.labels.clone();
        let mut set = |name: &str, value: Option<&str>| {
            if let Some(value) = value {
                labels.entry(name.to_owned()).or_insert_with(|| value.to_owned());
            }
        };
        set("alertname", Some(&alert.key));
        set("severity", Some(opening.severity.as_str()));
        set("source", Some(opening.source.as_str()));
        set("service", opening.services.first().map(ServiceId::as_str));
        set("probe", opening.probe.as_ref().map(event::ProbeId::as_str));
        set("host", opening.hosts.first().map(event::HostId::as_str));
        set("region", opening.region.as_ref().map(RegionId::as_str));
        labels
    }

    /// The silences that cover an alert now.
    pub fn silenced_by(&self, alert: &Alert, wall: Time) -> Vec<&str> {
        let matching = self.matching.get(&alert.id).into_iter().flatten();
        let holding = matching.filter_map(|id| self.silences.get(id)).filter(|ready| ready.holds_at(wall));
        holding.map(|ready| ready.silence.id.as_str()).collect()
    }

    /// Finds the silences that match an alert, which is new or has other labels now.
    fn match_alert(&mut self, id: AlertId) {
        let Some(alert) = self.alerts.get(&id) else { return };
        let found: BTreeSet<String> = if self.silences.is_empty() {
            BTreeSet::new()
        } else {
            let labels = self.labels(alert);
            let found = self.silences.values().filter(|ready| ready.matches(&labels));
            found.map(|ready| ready.silence.id.clone()).collect()
        };
        #[cfg(test)]
        {
            self.comparisons += self.silences.len();
        }
        if found.is_empty() {
            self.matching.remove(&id);
        } else {
            self.matching.insert(id, found);
        }
    }

    /// Finds the alerts that a silence matches, which is new or says something else now.
    fn match_silence(&mut self, id: &str) {
        for matching in self.matching.values_mut() {
            matching.remove(id);
        }
        if let Some(ready) = self.silences.get(id) {
            let found = self.alerts.values().filter(|alert| ready.matches(&self.labels(alert)));
            let found: Vec<AlertId> = found.map(|alert| alert.id).collect();
            #[cfg(test)]
            {
                self.comparisons += self.alerts.len();
            }
            for alert in found {
                self.matching.entry(alert).or_default().insert(id.to_owned());
            }
        }
        self.matching.retain(|_, matching| !matching.is_empty());
    }

    /// Whether all services of an alert are under announced maintenance.
    pub fn in_maintenance(&self, alert: &Alert, wall: Time) -> bool {
        let services = &alert.opening.services;
        let excused = |service: &ServiceId| {
            let mut windows = self.rules.maintenance.iter();
            windows
                .any(|(services, interval)| interval.start <= wall && wall < interval.end && services.contains(service))
        };
        !services.is_empty() && services.iter().all(excused)
    }

    /// Whether there is room again for alerts that were left out: they are to be told once more.
    pub fn has_room_again(&mut self, now: Now) -> bool {
        let firing = || self.alerts.values().filter(|alert| alert.fires()).count();
        if !self.fires(TOO_MANY) || firing() > ALERTS_MAX - ALERTS_MAX / 10 {
            return false;
        }
        self.over(TOO_MANY, now.wall, now);
        true
    }

    /// Decides all that is due at `now`. Letters to be sent come from [`Self::letters`].
    pub fn turn(&mut self, now: Now) {
        self.wakes = None;
        self.expire(now);
        self.try_refusals(now);
        self.place_pending(now);
        let leads: Vec<AlertId> = self.leads.iter().copied().collect();
        for lead in leads {
            self.tend(lead, now);
        }
        self.test(now);
    }

    /// The pseudonym under which the journal knows a person. Derived from the installation and the name: the row that leads back
    /// can be erased.
    pub fn pseudonym(&mut self, name: &str) -> String {
        if let Some(pseudonym) = self.pseudonyms.get(name) {
            return pseudonym.clone();
        }
        let taken: BTreeSet<&String> = self.pseudonyms.values().collect();
        let pseudonym = (0..u32::MAX)
            .map(|round| {
                let digest = crate::digest(&[self.memory.link_key.as_bytes(), name.as_bytes(), &round.to_be_bytes()]);
                format!("p-{}", crate::hex(&digest[..4]))
            })
            .find(|candidate| !taken.contains(candidate))
            .unwrap_or_default();
        self.pseudonyms.insert(name.to_owned(), pseudonym.clone());
        self.dirty.insert(format!("person/{pseudonym}"));
        pseudonym
    }

    /// The name of a person, by pseudonym.
    pub fn name_of(&self, pseudonym: &str) -> Option<&str> {
        self.pseudonyms.iter().find(|(_, found)| *found == pseudonym).map(|(name, _)| name.as_str())
    }
}

/// Time after which those of the policy are told when whoever an alert was handed over to does not acknowledge.
const AFTER_HAND_OVER: Span = Span::from_secs(900);
/// Shortest time between two steps of an escalation.
const MIN_STEP: Span = Span::from_secs(60);

/// Why a request about an alert is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// No alert has this number.
    NotThere,
    /// It is over.
    Over,
    /// Nobody was told of it yet: it may be a blip, or it is silenced.
    NotTold,
    /// The policy names no such person.
    NoSuchPerson,
}

/// What is told instead of alerts for which there is no room.
fn too_many(since: Time) -> Opening {
    Opening {
        severity: Severity::Critical,
        title: Text {
            fr: format!("Plus de {ALERTS_MAX} alertes à la fois : les suivantes ne sont pas dites une à une"),
            en: format!("More than {ALERTS_MAX} alerts at once: further ones are not told one by one"),
        },
        ..Opening::bare(Source::Engine, since)
    }
}

fn held(hold: &Hold) -> Opening {
    Opening {
        title: Text {
            fr: "Les messages aux clients sont suspendus".to_owned(),
            en: "Messages to customers are held".to_owned(),
        },
        detail: format!("{}: {}", hold.by, hold.reason),
        ..Opening::bare(Source::Hold, hold.since)
    }
}

/// All threads of one alert.
pub(crate) fn range_of(id: AlertId) -> std::ops::Range<ThreadKey> {
    let first = |alert| ThreadKey { alert, person: String::new(), channel: String::new() };
    first(id)..first(id + 1)
}
