//! What is kept of the logs from one run to the next, and what of it each rule goes on with.
//!
//! A rule goes on where it stopped: behind the last line that it judged in each of its logs, with the failures that it had counted.
//! Its name and the log say which place that is, whatever its other settings were, so that no line counts twice for one rule. A rule
//! that goes away (a jail that is switched off, refused, or can't be read) leaves its places behind; when it comes back it judges
//! what came meanwhile, as fail2ban does by the positions in its database. What is left behind is bounded by [`LEFT_KEPT`] and
//! [`LEFT_MAX`].
//!
//! Rules with the same places share a stream, so that each line is read once for all of them. One that comes back is behind the
//! others at first: it has a stream of its own until it has come to where they are ([`Stream::join_level`]).
//!
//! [`Stream::join_level`]: crate::stream::Stream::join_level

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;

use engine::EventNumber;
use event::{Span, Time};
use serde::{Deserialize, Serialize};

use crate::detect::AttemptsState;
use crate::events::Attempts;
use crate::plan::{RulePlan, StreamPlan};
use crate::simulation::SimulatedBan;
use crate::stream::StreamState;

#[cfg(test)]
mod tests;

/// How long the places of a rule that went away are kept; longer where its `findtime` is, for nothing older is counted.
const LEFT_KEPT: Span = Span::from_days(30);
/// Most places and failures together of rules that went away. Beyond it, failures are forgotten before places, and those of rules
/// that went first before those of others: logs of such a rule are read as new ones.
const LEFT_MAX: usize = 50_000;

/// What is kept: of the logs and what was made of them, of one instant, and who logged in.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// Of streams, and of rules that went away.
    pub(crate) streams: Vec<StreamState>,
    #[serde(default)]
    pub(crate) logins: Vec<(IpAddr, Time)>,
    /// Whose logins up to when somebody has taken off.
    #[serde(default)]
    pub(crate) disowned: Vec<(IpAddr, Time)>,
    /// What was counted in the last minute and may not be in the journal yet: it is told again, as the same events.
    #[serde(default)]
    pub(crate) counts: Vec<(EventNumber, Time, Attempts)>,
    /// The bans of a simulation.
    #[serde(default)]
    pub(crate) simulated: Vec<SimulatedBan>,
}

/// Streams to be followed, each with what its rules go on with, and what is left of rules that are not.
pub(crate) struct Resumed {
    pub(crate) streams: Vec<(StreamPlan, StreamState)>,
    pub(crate) left: Vec<StreamState>,
}

/// Finds what the rules of these plans go on with in what was kept.
pub(crate) fn resume(plans: Vec<StreamPlan>, mut states: Vec<StreamState>, now: Time) -> Resumed {
    // What a rule left last says more than what it left before.
    states.sort_by_key(|state| (state.left.is_some(), Reverse(state.left)));
    let mut left: Vec<StreamState> = states.iter().flat_map(|state| left_of(state, &plans, now)).collect();
    bound(&mut left, now);
    let own: Vec<Vec<StreamState>> = plans
        .iter()
        .map(|plan| plan.rules.iter().map(|rule| state_of(&rule.name, plan, &plans, &states)).collect())
        .collect();
    let mut streams = Vec::new();
    for (plan, own) in plans.into_iter().zip(own) {
        let StreamPlan { key, source, encoding, seek_dates, rules } = plan;
        let mut groups: Vec<(StreamState, Vec<RulePlan>)> = Vec::new();
        for (rule, state) in rules.into_iter().zip(own) {
            match groups.iter_mut().find(|(group, _)| group.positions == state.positions) {
                Some((group, rules)) => {
                    group.attempts.extend(state.attempts);
                    group.minute.extend(state.minute);
                    group.counted_bans.extend(state.counted_bans);
                    rules.push(rule);
                }
                None => groups.push((state, vec![rule])),
            }
        }
        streams.extend(groups.into_iter().map(|(state, rules)| {
            let (key, source, seek_dates) = (key.clone(), source.clone(), seek_dates.clone());
            (StreamPlan { key, source, encoding, seek_dates, rules }, state)
        }));
    }
    Resumed { streams, left }
}

/// Whether a rule of a plan goes on with a state. A jail and a rule of garant's own may have one name: the stream tells them apart.
fn goes_on(rule: &str, plan: &StreamPlan, plans: &[StreamPlan], state: &StreamState) -> bool {
    let is_of_another = || plans.iter().any(|other| *other.key == *state.key && other.has(rule));
    state.has(rule) && (*state.key == *plan.key || !is_of_another())
}

/// What a rule goes on with, as the state of a stream of its own: its place in each log as it was there last, and its failures. One
/// that was not followed before is not among the rules of that state.
fn state_of(rule: &str, plan: &StreamPlan, plans: &[StreamPlan], states: &[StreamState]) -> StreamState {
    let mut own = StreamState { key: plan.key.to_string(), ..StreamState::default() };
    let mut attempts = AttemptsState::default();
    let mut is_new = true;
    for state in states.iter().filter(|state| goes_on(rule, plan, plans, state)) {
        is_new = false;
        let counted = state.attempts.iter().find(|(name, attempts)| name == rule && !attempts.is_empty());
        if attempts.is_empty() {
            attempts = counted.map(|(_, attempts)| attempts.clone()).unwrap_or_default();
        }
        own.minute.extend(state.minute.iter().filter(|(name, ..)| name == rule).cloned());
        if own.counted_bans.is_empty() {
            own.counted_bans.extend(state.counted_bans.iter().filter(|(name, _)| name == rule).cloned());
        }
        own.positions.add(plan.source.take_places(&mut state.positions.clone()));
    }
    if !is_new {
        own.attempts.push((rule.to_owned(), attempts));
    }
    own
}

/// What no rule of these plans goes on with: of rules that they do not have, everything; of others, the places in logs that they do
/// not read now.
fn left_of(state: &StreamState, plans: &[StreamPlan], now: Time) -> Vec<StreamState> {
    let mut rules: BTreeMap<Option<usize>, Vec<&(String, AttemptsState<String>)>> = BTreeMap::new();
    for attempts in &state.attempts {
        let plan = plans.iter().position(|plan| plan.has(&attempts.0) && goes_on(&attempts.0, plan, plans, state));
        rules.entry(plan).or_default().push(attempts);
    }
    let mut left = Vec::new();
    for (plan, rules) in rules {
        let mut rest = StreamState {
            key: state.key.clone(),
            positions: state.positions.clone(),
            left: Some(state.left.unwrap_or(now)),
            find_time: state.find_time,
            ..StreamState::default()
        };
        if let Some(plan) = plan.and_then(|number| plans.get(number)) {
            drop(plan.source.take_places(&mut rest.positions));
            rest.attempts = rules.iter().map(|(name, _)| (name.clone(), AttemptsState::default())).collect();
        } else {
            let is_of_these = |name: &str| rules.iter().any(|(of, _)| of == name);
            rest.attempts = rules.iter().copied().cloned().collect();
            rest.attempts.iter_mut().for_each(|(_, attempts)| attempts.forget_before(now - state.find_time));
            rest.counted_bans = state.counted_bans.iter().filter(|(name, _)| is_of_these(name)).cloned().collect();
            rest.minute = state.minute.iter().filter(|(name, ..)| is_of_these(name)).cloned().collect();
        }
        if rest.positions.len() > 0 {
            left.push(rest);
        }
    }
    left
}

/// Forgets what was left for too long, and what is too much.
fn bound(left: &mut Vec<StreamState>, now: Time) {
    left.retain(|state| state.left.is_none_or(|at| now.since(at) <= LEFT_KEPT.max(state.find_time)));
    left.sort_by_key(|state| Reverse(state.left));
    let mut room = LEFT_MAX;
    let mut fits = |size: usize| {
        let rest = room.checked_sub(size);
        room = rest.unwrap_or(room);
        rest.is_some()
    };
    left.retain(|state| fits(state.positions.len()));
    for state in left {
        if !fits(state.attempts.iter().map(|(_, attempts)| attempts.len()).sum()) {
            state.attempts.iter_mut().for_each(|(_, attempts)| *attempts = AttemptsState::default());
        }
    }
}
