//! The rounds of the watch, without I/O: clocks and answers go in, questions and entries come out.
//!
//! Everything that decides is here, and nothing that waits: [`Rounds`] is told the time and what was answered, and says
//! whom to ask and what to journal. So a year of outages, a suspended process or a clock that jumps is a test of some
//! milliseconds, and the task that drives it ([`crate::run`]) is too simple to be wrong.
//!
//! Two disturbances are noticed before anything else is believed:
//!
//! * **The process stood still** (SIGSTOP, a suspended machine, a starved executor) for half a second or more. What was under
//!   way then says nothing about the service, and that time is in no record of coverage.
//! * **The wall clock stepped** against the monotonic one. Labels before and after can't be compared. Coverage begins anew,
//!   states are forgotten, and the step is journaled for every observer here.
//!
//! [`engine::clock::ClockWatch`] notices both.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use engine::Random;
use engine::clock::{ClockWatch, Oddity};
use engine::reason::{Reason, TimeoutPhase};
use event::engine::{Blind, BlindCause};
use event::evidence::Covered;
use event::{Clock, Interval, Monotonic, ObserverId, ProbeId, Span, Time};
use store::Reading;

use crate::config::Config;
use crate::coverage::{self, CoverageRecorder};
use crate::figures::Figures;
use crate::finding::Hysteresis;
use crate::in_flight::{InFlight, Waiting};
use crate::lane::{Lane, LaneState, Question};
use crate::moment::Moment;
use crate::observe::{Change, Observe, Seen};
use crate::order::{Done, Effect, Order, OrderOutcome, WatchEvent};
use crate::schedule::{Cause, Due, LaneId, Schedule, first_turn, lateness_max, turn_after};
use crate::source::heartbeat::{Heartbeat, TimeUnheard};
use crate::source::{Answer, Declared, Probe};
use crate::uplink::{self, Blame, Uplink};

/// How long after a first failure the same observer asks again; less when the probe's timeout is short.
const CONFIRM_PAUSE: Span = Span::from_secs(1);
/// Within what time what is new is asked for the first time, not waiting for its turn, which may be a day away: nothing is
/// known until then. Of very many, a thousand a second are.
const FIRST_WITHIN: Span = Span::from_secs(3);
/// How often a state that does not change is journaled again: evidence is destroyed with its day, and what is known must
/// stand in younger entries by then (a verifier allows two days).
const JOURNAL_AGAIN_EVERY: Span = Span::from_days(1);
/// How often the clocks are looked at, whatever else happens.
pub(crate) const LOOK_EVERY: Span = Span::from_millis(250);
/// How much too late a look is to count as a standstill: with [`LOOK_EVERY`], no stop of half a second goes unnoticed.
const LOOK_LATENESS_MAX: Span = Span::from_millis(250);
/// From this length on, a standstill also ends what lasts: doubts, findings on their way, the patience with heartbeats.
const LONG_STANDSTILL: Span = Span::from_secs(5);

/// The clock watch whose findings [`Rounds::look`] takes.
pub(crate) fn clock_watch(clock: Arc<dyn Clock>) -> ClockWatch {
    ClockWatch::new(clock, LOOK_EVERY).with_lateness_max(LOOK_LATENESS_MAX)
}

/// A question under way.
struct Flight {
    lane: LaneId,
    declared: Arc<Declared>,
    /// When it was due, and when there was room for it.
    due: Monotonic,
    let_in: Monotonic,
    /// Whether the process stood still or the clock stepped meanwhile.
    disturbed: bool,
}

/// The lanes of all local observers, and when each is asked.
pub(crate) struct Rounds {
    process: ObserverId,
    /// File descriptors that the process may have.
    descriptors: Option<u64>,
    random: Arc<dyn Random>,
    in_flight: InFlight,
    lanes: BTreeMap<LaneId, Box<Lane>>,
    /// The lanes of each probe, sorted by its name, and the oldest first.
    by_probe: Vec<(ProbeId, LaneId)>,
    coverage: BTreeMap<ObserverId, CoverageRecorder>,
    uplinks: BTreeMap<ObserverId, Uplink>,
    schedule: Schedule,
    flights: HashMap<u64, Flight>,
    /// Questions to canaries under way.
    canaries: HashMap<u64, ObserverId>,
    next_lane: u32,
    next_number: u64,
    last_look: Moment,
    /// The last time in which heartbeats could not arrive.
    absence: TimeUnheard,
    /// Since when nothing can be journaled.
    mute_since: Option<Time>,
    figures: Arc<Figures>,
}

impl Rounds {
    /// Without lanes; see [`apply`](Self::apply). `process` is the observer of the process itself, `descriptors` the number
    /// of files and sockets it may have open, `None` without a limit.
    pub(crate) fn new(
        now: Moment,
        process: ObserverId,
        figures: Arc<Figures>,
        random: Arc<dyn Random>,
        descriptors: Option<u64>,
    ) -> Self {
        Self {
            process,
            descriptors,
            random,
            in_flight: InFlight::new(),
            lanes: BTreeMap::new(),
            by_probe: Vec::new(),
            coverage: BTreeMap::new(),
            uplinks: BTreeMap::new(),
            schedule: Schedule::default(),
            flights: HashMap::new(),
            canaries: HashMap::new(),
            next_lane: 0,
            next_number: 0,
            last_look: now,
            absence: TimeUnheard { since: None, until: now.wall },
            mute_since: None,
            figures,
        }
    }

    /// Puts a policy into effect: unchanged probes keep their state, new ones start, removed ones stop. Each record of
    /// coverage ends here, so that it speaks of one revision.
    pub(crate) fn apply(&mut self, config: &Config, now: Moment, effects: &mut Vec<Effect>) {
        self.coverage.retain(|observer, coverage| {
            let stays = config.observers.contains(observer);
            if !stays && self.mute_since.is_none() {
                effects.extend(records(observer, coverage.finish(now.wall)));
            }
            stays
        });
        for observer in &config.observers {
            let coverage = self.coverage.entry(observer.clone()).or_insert_with(|| CoverageRecorder::new(now.wall));
            coverage.revise(&config.revision, now.wall);
        }
        let mut wanted: HashMap<(&ProbeId, &ObserverId), &Arc<Declared>> = HashMap::new();
        for declared in &config.probes {
            wanted.extend(declared.observers.iter().map(|observer| ((&declared.id, observer), declared)));
        }
        let mut kept = HashSet::new();
        let mut gone = Vec::new();
        for (&id, lane) in &self.lanes {
            match wanted.get(&(&lane.declared.id, &lane.observer)) {
                Some(declared) if declared.says_the_same(&lane.declared) => {
                    kept.insert((lane.declared.id.clone(), lane.observer.clone()));
                }
                _ => gone.push(id),
            }
        }
        for id in gone {
            self.remove(id, now);
        }
        self.apply_canaries(config, now, effects);
        let new = wanted.len() - kept.len();
        let rush = Span::from_millis(i64::try_from(new).unwrap_or(i64::MAX / 1000)).max(FIRST_WITHIN);
        // In the order of the policy, so that a test sees the same lanes in every run.
        for declared in &config.probes {
            for observer in declared.observers.iter() {
                if !kept.contains(&(declared.id.clone(), observer.clone())) {
                    self.add(declared, observer, now, rush);
                }
            }
        }
        self.by_probe = self.lanes.iter().map(|(&id, lane)| (lane.declared.id.clone(), id)).collect();
        self.by_probe.sort_unstable();
        let asked = self.lanes.values().map(|lane| (lane.declared.timeout, lane.declared.asked_every));
        self.in_flight.set_limits(&config.options, asked, self.descriptors);
        let lanes = self.lanes.values().map(|lane| (&lane.declared.id, &lane.observer));
        self.figures.set_lanes(lanes);
    }

    /// Adds a lane: asked within `rush` for the first time, and on its turns from then on.
    fn add(&mut self, declared: &Arc<Declared>, observer: &ObserverId, now: Moment, rush: Span) {
        let id = LaneId(self.next_lane);
        self.next_lane += 1;
        let every = declared.asked_every;
        let first = first_turn(now.monotonic, every.min(rush), &*self.random);
        let lane = Lane {
            declared: Arc::clone(declared),
            observer: observer.clone(),
            observe: Observe::new(every, declared.probe.confirm()),
            findings: BTreeMap::new(),
            state: None,
            journaled_at: now.monotonic,
            doubted: None,
            failure: String::new(),
            failure_reasons: Vec::new(),
            question: Question::None,
            asked_at: now.monotonic,
            turn_missed: false,
            called: false,
        };
        if let Some(coverage) = self.coverage.get_mut(observer) {
            coverage.add(id, declared.id.clone(), every, now.wall);
        }
        if let Some(heartbeat) = declared.probe.heartbeat() {
            heartbeat.was_absent(self.absence);
        }
        self.lanes.insert(id, Box::new(lane));
        self.schedule.plan(id, first, Cause::Turn);
    }

    fn remove(&mut self, id: LaneId, now: Moment) {
        let Some(lane) = self.lanes.remove(&id) else { return };
        if let Some(coverage) = self.coverage.get_mut(&lane.observer) {
            coverage.remove(id, now.wall);
        }
        // Flights and turns of a lane that is gone are recognised when they come back.
    }

    /// Sets the canaries. Failures that wait for a canary that is removed are unknown.
    fn apply_canaries(&mut self, config: &Config, now: Moment, effects: &mut Vec<Effect>) {
        let gone: Vec<ObserverId> = self
            .uplinks
            .iter()
            .filter(|(observer, uplink)| config.canaries.get(*observer) != Some(uplink.canary()))
            .map(|(observer, _)| observer.clone())
            .collect();
        for observer in gone {
            let Some(mut uplink) = self.uplinks.remove(&observer) else { continue };
            self.canaries.retain(|_, asked_for| *asked_for != observer);
            self.uplink_was_dead(&observer, uplink.dead_since(), now.wall, effects);
            for done in uplink.release() {
                self.settle(done, false, now, effects);
            }
        }
        for (observer, canary) in &config.canaries {
            self.uplinks.entry(observer.clone()).or_insert_with(|| Uplink::new(Arc::clone(canary)));
        }
        self.figures.set_cut_off(self.cut_off());
    }

    /// Number of observers whose uplink is dead.
    fn cut_off(&self) -> usize {
        self.uplinks.values().filter(|uplink| uplink.dead_since().is_some()).count()
    }

    /// When to look again at the latest, if no answer comes before.
    pub(crate) fn next(&self) -> Option<Monotonic> {
        self.schedule.next().into_iter().chain(self.uplinks.values().filter_map(Uplink::due)).min()
    }

    /// Looks at the clocks: notices disturbances, starts the questions that are due, journals the records that are complete.
    /// Called every [`LOOK_EVERY`] at least, and before every answer.
    pub(crate) fn look(&mut self, now: Moment, oddities: &[Oddity], effects: &mut Vec<Effect>) {
        self.notice(now, oddities, effects);
        self.let_in(now, effects);
        while let Some(due) = self.schedule.pop(now.monotonic) {
            self.start(due, now, effects);
        }
        self.ask_canaries(now, effects);
        if self.mute_since.is_none() {
            for (observer, coverage) in &mut self.coverage {
                effects.extend(records(observer, coverage.complete(now.wall)));
            }
        }
    }

    /// Takes the time since the last look out of all coverage, and believes nothing that was under way.
    fn notice(&mut self, now: Moment, oddities: &[Oddity], effects: &mut Vec<Effect>) {
        let last = std::mem::replace(&mut self.last_look, now);
        if oddities.is_empty() {
            return;
        }
        self.disturb(now);
        let step = oddities.iter().find_map(|oddity| match oddity {
            Oddity::Stepped(step) => Some(*step),
            Oddity::StoodStill(..) => None,
        });
        let stood_still = now.monotonic.since(last.monotonic);
        let long = stood_still > LONG_STANDSTILL && oddities.iter().any(|o| matches!(o, Oddity::StoodStill(..)));
        if step.is_none() && !long {
            tracing::debug!(%stood_still, "the watch stood still: that time is unproven");
            return self.take_out(Interval::new(last.wall, now.wall.max(last.wall)));
        }
        let what = oddities.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        tracing::warn!("{what}: that time is unproven");
        if let Some(step) = step {
            let by = step.to.since(step.from);
            self.heartbeats(None).for_each(|heartbeat| heartbeat.step(by));
            self.absence =
                TimeUnheard { since: self.absence.since.map(|since| since + by), until: self.absence.until + by };
        }
        if long {
            // In labels of the clock as it is now.
            self.was_absent(now.wall - stood_still, now.wall);
        }
        let dead: Vec<_> = self
            .uplinks
            .iter_mut()
            .filter_map(|(observer, uplink)| Some((observer.clone(), uplink.interrupt(now.wall)?)))
            .collect();
        for (observer, since) in dead {
            self.uplink_was_dead(&observer, Some(since), last.wall, effects);
        }
        if let Some(step) = step {
            self.begin_anew(last.wall, now.wall, effects);
            // The engine's own timekeeper journals it for the vantage point that the process is.
            for observer in self.coverage.keys().filter(|observer| observer.vantage() != self.process.vantage()) {
                effects.push(Effect::Journal(observer.clone(), WatchEvent::ClockStepped(step)));
            }
            return;
        }
        for (&id, lane) in &mut self.lanes {
            lane.findings.values_mut().for_each(Hysteresis::interrupt);
            if lane.observe.in_doubt() {
                lane.drop_doubt();
                if let Some(coverage) = self.coverage.get_mut(&lane.observer) {
                    coverage.retract(id);
                }
            }
        }
        self.take_out(Interval::new(last.wall, now.wall.max(last.wall)));
    }

    /// Notes in all coverage that the process stood still.
    fn take_out(&mut self, interval: Interval) {
        self.coverage.values_mut().for_each(|coverage| coverage.stood_still(interval));
    }

    /// The clock stepped: what was seen until `last` is journaled, and everything is seen anew from `now` on.
    fn begin_anew(&mut self, last: Time, now: Time, effects: &mut Vec<Effect>) {
        self.lanes.values_mut().for_each(|lane| lane.forget());
        for (observer, coverage) in &mut self.coverage {
            let lived = coverage.finish(last);
            if self.mute_since.is_none() {
                effects.extend(records(observer, lived));
            }
            coverage.restart(now);
        }
    }

    /// Makes every question under way unknown, those to canaries too.
    fn disturb(&mut self, now: Moment) {
        for flight in self.flights.values_mut() {
            flight.disturbed = true;
        }
        for observer in self.canaries.drain().map(|(_, observer)| observer) {
            if let Some(uplink) = self.uplinks.get_mut(&observer) {
                uplink.answered(None, now.monotonic, now.wall);
            }
        }
    }

    /// The heartbeats of one observer, or of all.
    fn heartbeats<'a>(&'a self, of: Option<&'a ObserverId>) -> impl Iterator<Item = &'a Heartbeat> {
        let lanes = self.lanes.values().filter(move |lane| of.is_none_or(|observer| lane.observer == *observer));
        lanes.filter_map(|lane| lane.declared.probe.heartbeat())
    }

    /// Tells the heartbeats that no ping could arrive during this time.
    fn was_absent(&mut self, since: Time, until: Time) {
        self.absence = TimeUnheard { since: Some(since), until };
        self.heartbeats(None).for_each(|heartbeat| heartbeat.was_absent(self.absence));
    }

    fn start(&mut self, due: Due, now: Moment, effects: &mut Vec<Effect>) {
        let Some(lane) = self.lanes.get_mut(&due.lane) else { return };
        let is_turn = due.cause == Cause::Turn;
        if lane.question == Question::Asked {
            // The question under way answers this turn too; the next turn is drawn once it is over.
            lane.turn_missed |= is_turn;
            lane.called &= is_turn;
            return;
        }
        let behind = now.monotonic.since(due.at);
        let lateness_max = lateness_max(lane.declared.asked_every);
        if is_turn {
            // Turns that passed while the process stood still are not made up for.
            let turn = if behind > lateness_max { now.monotonic } else { due.at };
            self.schedule.plan(due.lane, turn_after(turn, lane.declared.asked_every, &*self.random), Cause::Turn);
        }
        // Whoever waits for room from its last turn on keeps its place.
        if behind > lateness_max || is_turn && lane.question == Question::Waiting {
            lane.called &= is_turn;
            if is_turn {
                self.figures.count_skipped();
                if let Some(coverage) = self.coverage.get_mut(&lane.observer) {
                    let look = coverage::Look { start: now.wall, end: now.wall, known: false, blind: BTreeSet::new() };
                    coverage.looked(due.lane, look, lane.observe.in_doubt());
                }
                effects.push(Effect::Sample(lane.sample(now.wall, Span::ZERO, Reading::Unknown, None)));
            }
            return;
        }
        let target = lane.declared.probe.target();
        if self.in_flight.admits(self.flights.len(), target, due.cause) {
            self.ask(due, now, effects);
        } else {
            lane.question = Question::Waiting;
            self.in_flight.wait(due.lane, due.cause, due.at, target);
        }
    }

    /// Asks those who waited for room, in their order, as long as there is some.
    fn let_in(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        while let Some(Waiting { lane, cause, due, .. }) = self.in_flight.next(self.flights.len()) {
            // Whoever was called while it waited had two places.
            if self.lanes.get(&lane).is_some_and(|lane| lane.question == Question::Waiting) {
                self.ask(Due { at: due, lane, cause }, now, effects);
            }
        }
    }

    fn ask(&mut self, due: Due, now: Moment, effects: &mut Vec<Effect>) {
        let Some(lane) = self.lanes.get_mut(&due.lane) else { return };
        lane.called &= due.cause != Cause::Call;
        lane.question = Question::Asked;
        lane.asked_at = now.monotonic;
        let number = self.next_number;
        self.next_number += 1;
        self.in_flight.begin(lane.declared.probe.target());
        let order = Order { number, probe: Arc::clone(&lane.declared.probe), timeout: lane.declared.timeout };
        let declared = Arc::clone(&lane.declared);
        let flight = Flight { lane: due.lane, declared, due: due.at, let_in: now.monotonic, disturbed: false };
        self.flights.insert(number, flight);
        effects.push(Effect::Ask(order));
    }

    /// Takes an answer. [`look`](Self::look) has been called with the same `now`.
    pub(crate) fn answered(&mut self, done: Done, now: Moment, effects: &mut Vec<Effect>) {
        if let Some(observer) = self.canaries.remove(&done.number) {
            return self.canary_answered(&observer, &done, now, effects);
        }
        let Some(lane) = self.flights.get(&done.number).and_then(|flight| self.lanes.get(&flight.lane)) else {
            return self.settle(done, true, now, effects);
        };
        let uplink = self.uplinks.get_mut(&lane.observer);
        let Some(uplink) = uplink.filter(|_| lane.declared.probe.reaches_out() && done.outcome.is_failure()) else {
            let believed = !done.outcome.may_be_ours();
            return self.settle(done, believed, now, effects);
        };
        match uplink.blame(done.started.monotonic, lane.doubted) {
            Blame::Target => self.settle(done, true, now, effects),
            Blame::Ourselves => self.settle(done, false, now, effects),
            Blame::AskCanaryFirst => {
                uplink.hold(done);
                self.ask_canaries(now, effects);
            }
        }
    }

    /// Asks the canaries for which failures wait.
    fn ask_canaries(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        for (observer, uplink) in &mut self.uplinks {
            if uplink.due().is_some_and(|due| due <= now.monotonic) {
                uplink.asked(now.monotonic);
                self.canaries.insert(self.next_number, observer.clone());
                let probe = Arc::clone(uplink.canary()) as Arc<dyn Probe>;
                effects.push(Effect::Ask(Order { number: self.next_number, probe, timeout: uplink::TIMEOUT }));
                self.next_number += 1;
            }
        }
    }

    /// Takes the answer of a canary, or its absence, and settles the failures that waited for it.
    fn canary_answered(&mut self, observer: &ObserverId, done: &Done, now: Moment, effects: &mut Vec<Effect>) {
        let Some(uplink) = self.uplinks.get_mut(observer) else { return };
        let was_alive = uplink.dead_since().is_none();
        let verdict = uplink.answered(Some(done.outcome.is_good()), now.monotonic, now.wall);
        if let Some(since) = uplink.dead_since().filter(|_| was_alive) {
            tracing::warn!(
                "observer {observer}: none of its canaries has answered since {since}; its own uplink is taken to be down. \
                 Failures that it sees are recorded as unknown until one answers. Check the network of that machine."
            );
        }
        self.uplink_was_dead(observer, verdict.dead_since, now.wall, effects);
        if let Some(since) = verdict.dead_since {
            let absence = TimeUnheard { since: Some(since), until: now.wall };
            self.heartbeats(Some(observer)).for_each(|heartbeat| heartbeat.was_absent(absence));
        }
        if !verdict.believed {
            for (&id, lane) in &mut self.lanes {
                if lane.observer == *observer && lane.observe.in_doubt() && lane.declared.probe.reaches_out() {
                    lane.drop_doubt();
                    if let Some(coverage) = self.coverage.get_mut(observer) {
                        coverage.retract(id);
                    }
                }
            }
        }
        for done in verdict.held {
            self.settle(done, verdict.believed, now, effects);
        }
        self.figures.set_cut_off(self.cut_off());
    }

    /// Journals a time during which the uplink of the observer was dead: nothing could be observed over it.
    fn uplink_was_dead(&mut self, observer: &ObserverId, since: Option<Time>, end: Time, effects: &mut Vec<Effect>) {
        let Some(since) = since.filter(|&since| since < end) else { return };
        let interval = Interval::new(since, end);
        if let Some(coverage) = self.coverage.get_mut(observer) {
            let reach_out =
                self.lanes.iter().filter(|(_, lane)| lane.observer == *observer && lane.declared.probe.reaches_out());
            coverage.could_not_look(reach_out.map(|(&id, _)| id), interval);
        }
        if self.mute_since.is_none() {
            let blind = Blind { engine: crate::NAME.to_owned(), interval, cause: BlindCause::Uplink };
            effects.push(Effect::Journal(observer.clone(), WatchEvent::Blind(blind)));
        }
    }

    /// Takes an answer whose fault is decided: a failure is the observer's own unless `believed`.
    fn settle(&mut self, done: Done, believed: bool, now: Moment, effects: &mut Vec<Effect>) {
        let Some(flight) = self.flights.remove(&done.number) else { return };
        self.in_flight.end(flight.declared.probe.target());
        let Some(lane) = self.lanes.get_mut(&flight.lane) else { return };
        lane.question = Question::None;
        if std::mem::take(&mut lane.turn_missed) {
            let turn = turn_after(lane.asked_at, lane.declared.asked_every, &*self.random).max(now.monotonic);
            self.schedule.plan(flight.lane, turn, Cause::Turn);
        }
        let started_after = |instant: Monotonic| done.started.monotonic.since(instant);
        let took = done.ended.monotonic.since(done.started.monotonic);
        // To wait for room makes it late, but no less true.
        let too_late = started_after(flight.let_in) > lateness_max(lane.declared.asked_every)
            || took > lane.declared.timeout + lateness_max(lane.declared.asked_every);
        let mut answer = match done.outcome {
            OrderOutcome::Answered(answer) => answer,
            OrderOutcome::TimedOut if lane.declared.probe.reaches_out() => {
                let within = lane.declared.timeout;
                let reason = Reason::Timeout { within, phase: TimeoutPhase::Answer };
                Answer::down(format!("no answer within {within}")).because(vec![reason])
            }
            // The probe only reads this machine: one of its disks hangs, or the machine itself.
            OrderOutcome::TimedOut => Answer::unknown(format!("no answer within {}", lane.declared.timeout)),
            OrderOutcome::Failed => Answer::unknown("the probe itself failed: this is a defect of garant"),
        };
        if let Some(slow) = lane.declared.slower_than.filter(|&slow| answer.reading == Reading::Up && took > slow) {
            answer.reading = Reading::Degraded;
            answer.text = format!("slower than {slow}: {}", answer.text);
            answer.reasons.insert(0, Reason::Slow { slower_than: slow });
        }
        if !believed && answer.reading == Reading::Down {
            answer.text = format!("no canary vouches for our own way out: {}", answer.text);
        }
        if flight.disturbed || too_late || (!believed && answer.reading == Reading::Down) {
            answer.reading = Reading::Unknown;
            answer.symptoms.clear();
        }
        self.figures.count_start(started_after(flight.due), answer.reading);

        let seen = Seen { start: done.started.wall, end: done.started.wall + took, reading: answer.reading };
        effects.push(Effect::Sample(lane.sample(seen.start, took, seen.reading, answer.value)));
        if seen.reading == Reading::Down {
            lane.failure.clone_from(&answer.text);
            lane.failure_reasons.clone_from(&answer.reasons);
        }
        let was_in_doubt = lane.observe.in_doubt();
        let mut changes = Vec::new();
        lane.observe.take(seen, &mut changes);
        for &change in &changes {
            let Change { state, after, by } = change;
            lane.state = Some(LaneState { state, since: by, or_before: after == by });
            lane.journal_change(&change, &answer, took, effects);
        }
        let turned = lane.find(&answer, seen, took, effects);
        let in_doubt = lane.observe.in_doubt();
        lane.doubted = in_doubt.then(|| lane.doubted.unwrap_or(done.started.monotonic));
        let known = seen.reading != Reading::Unknown;
        if now.monotonic.since(lane.journaled_at) >= JOURNAL_AGAIN_EVERY && !in_doubt && known {
            lane.journaled_at = now.monotonic;
            lane.journal_again(seen.end, effects);
        }
        if let Some(coverage) = self.coverage.get_mut(&lane.observer) {
            let blind = if known { lane.blind(&answer) } else { BTreeSet::new() };
            coverage.looked(flight.lane, coverage::Look { start: seen.start, end: seen.end, known, blind }, in_doubt);
            if turned || !changes.is_empty() {
                coverage.hurry(flight.lane, seen.end);
            }
        }
        if in_doubt && seen.reading == Reading::Down {
            answer.text = format!("not confirmed yet: {}", answer.text);
        }
        self.figures.stand(&lane.declared.id, &lane.observer, lane.state, &answer, seen.start, took);
        self.figures.set_findings(&lane.declared.id, &lane.observer, lane.open_findings());
        if in_doubt && !was_in_doubt {
            self.confirm(flight.lane, now);
        }
    }

    /// Asks again after a first failure: this observer after a pause, all others at once.
    fn confirm(&mut self, id: LaneId, now: Moment) {
        let Some(lane) = self.lanes.get(&id) else { return };
        let pause = CONFIRM_PAUSE.min(Span::from_micros(lane.declared.timeout.micros() / 2));
        let lanes: Vec<LaneId> = self.lanes_of(&lane.declared.id).collect();
        for other in lanes {
            let at = if other == id { Monotonic(now.monotonic.0 + pause.micros()) } else { now.monotonic };
            self.call(other, at);
        }
    }

    fn call(&mut self, id: LaneId, at: Monotonic) {
        // One call at a time: observers that call each other would never stop.
        if let Some(lane) = self.lanes.get_mut(&id)
            && !lane.called
            && lane.question != Question::Asked
        {
            lane.called = true;
            self.schedule.plan(id, at, Cause::Call);
        }
    }

    /// The lanes of a probe, the oldest first.
    fn lanes_of<'a>(&'a self, probe: &'a ProbeId) -> impl Iterator<Item = LaneId> + 'a {
        let first = self.by_probe.partition_point(|(of, _)| of < probe);
        self.by_probe[first..].iter().take_while(move |(of, _)| of == probe).map(|(_, id)| *id)
    }

    /// The heartbeat that takes a ping, with its observer. `None` while nothing is evidence, and of a probe that there is not.
    pub(crate) fn hearer(&self, probe: &ProbeId) -> Option<(ObserverId, Arc<dyn Probe>)> {
        let id = self.lanes_of(probe).next()?;
        if self.mute_since.is_some() {
            return None;
        }
        self.lanes.get(&id).map(|lane| (lane.observer.clone(), Arc::clone(&lane.declared.probe)))
    }

    /// The probe of that name, if it is asked.
    pub(crate) fn probe(&self, probe: &ProbeId) -> Option<Arc<dyn Probe>> {
        let id = self.lanes_of(probe).next()?;
        self.lanes.get(&id).map(|lane| Arc::clone(&lane.declared.probe))
    }

    /// Has a heartbeat looked at soon, for a ping was taken.
    pub(crate) fn call_probe(&mut self, probe: &ProbeId, now: Moment) {
        let first = self.lanes_of(probe).next();
        if let Some(id) = first {
            self.call(id, now.monotonic);
        }
    }

    /// Notes that a success of this probe was journaled: its record is written soon.
    pub(crate) fn succeeded(&mut self, probe: &ProbeId, at: Time) {
        let Some(id) = self.lanes_of(probe).next() else { return };
        let coverage = self.lanes.get(&id).and_then(|lane| self.coverage.get_mut(&lane.observer));
        if let Some(coverage) = coverage {
            coverage.hurry(id, at);
        }
    }

    /// Notes that a ping of this heartbeat was refused at `at`: what it said was not heard.
    pub(crate) fn not_heard(&mut self, probe: &ProbeId, at: Time) {
        let lanes: Vec<LaneId> = self.lanes_of(probe).collect();
        for id in lanes {
            let coverage = self.lanes.get(&id).and_then(|lane| self.coverage.get_mut(&lane.observer));
            if let Some(coverage) = coverage {
                coverage.not_heard(id, at);
            }
        }
    }

    /// Notes that the journal takes nothing any more. From now on nothing is evidence: coverage is dropped unwritten, states
    /// are forgotten, and the first samples afterwards journal them anew.
    pub(crate) fn mute(&mut self, now: Moment) {
        if self.mute_since.is_some() {
            return;
        }
        self.mute_since = Some(now.wall);
        for lane in self.lanes.values_mut() {
            lane.forget();
        }
    }

    /// Notes that the journal works again.
    pub(crate) fn unmute(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        let Some(since) = self.mute_since.take() else { return };
        self.was_absent(since, now.wall);
        // What was observed meanwhile is in no entry.
        for lane in self.lanes.values_mut() {
            lane.forget();
        }
        for (observer, coverage) in &mut self.coverage {
            coverage.restart(now.wall);
            let interval = Interval::new(since, now.wall);
            let blind = Blind { engine: crate::NAME.to_owned(), interval, cause: BlindCause::Storage };
            effects.push(Effect::Journal(observer.clone(), WatchEvent::Blind(blind)));
        }
    }

    /// Journals everything observed until now, without waiting for questions under way.
    pub(crate) fn stop(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        let dead: Vec<_> =
            self.uplinks.iter().map(|(observer, uplink)| (observer.clone(), uplink.dead_since())).collect();
        for (observer, since) in dead {
            self.uplink_was_dead(&observer, since, now.wall, effects);
        }
        for (observer, coverage) in &mut self.coverage {
            let lived = coverage.finish(now.wall);
            if self.mute_since.is_none() {
                effects.extend(records(observer, lived));
            }
        }
    }
}

fn records(observer: &ObserverId, records: Vec<Covered>) -> impl Iterator<Item = Effect> {
    records.into_iter().map(|record| Effect::Journal(observer.clone(), WatchEvent::Covered(record)))
}

#[cfg(test)]
mod tests;
