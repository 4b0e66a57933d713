//! Who is on call at an instant, and the shifts of a while.
//!
//! A schedule is a stack of sources: its layers from the bottom, then the overrides, the newest on top. For each instant each
//! source has a *piece*: the longest interval around it in which the source says the same, "this person, in this turn" or
//! nothing. The answer is that of the topmost source that says something, and it holds for as long as none of the pieces down to
//! it ends. So a shift is found whole wherever one asks, the same from the middle as from the start, and its identity in a
//! calendar does not depend on the question.

use event::{Interval, Span, Spans, Time};
use policy::PersonName;
use serde::{Deserialize, Serialize};

use super::names::{person_as_text, schedule_as_text};
use super::schedule::{Layer, Schedule};
use super::window::spans;

/// How far ahead shifts are computed in one go.
pub const HORIZON: Span = Span::from_days(400);
/// How many shifts and gaps are computed in one go; the rest is left out.
pub const SHIFTS_MAX: usize = 20_000;
/// How many overrides one schedule may have; beyond, the oldest have no effect, and [`super::People::check_override`] refuses
/// one more.
pub const OVERRIDES_MAX: usize = 1000;
/// How far around an interval windows are looked for, in days: they recur every week, and a zone may leave a day out.
const AROUND_DAYS: i64 = 15;

/// All of time.
const ALWAYS: Interval = Interval::new(Time::from_micros(i64::MIN), Time::from_micros(i64::MAX));

/// Somebody is on call instead of whom the layers name. A swap is two of them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Override {
    /// Its identifier: ASCII letters, digits and `-`.
    pub id: String,
    /// The schedule.
    #[serde(with = "schedule_as_text")]
    pub schedule: policy::ScheduleName,
    /// Who is on call.
    #[serde(with = "person_as_text")]
    pub person: PersonName,
    /// When.
    pub interval: Interval,
    /// Who made it.
    pub by: String,
    /// Why; may be empty.
    pub reason: String,
    /// When it was made: the newest wins.
    pub made_at: Time,
}

/// An interval in which one person is on call, for one reason.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shift {
    /// Who is on call.
    pub person: PersonName,
    /// From when, and until when.
    pub interval: Interval,
    /// Why it is them.
    pub source: ShiftSource,
}

/// What a shift comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ShiftSource {
    /// A turn in a layer.
    Layer {
        /// The layer, by its index.
        layer: usize,
        /// The turn, 0 for the first.
        turn: u64,
    },
    /// An override.
    Override {
        /// Its identifier.
        id: String,
        /// Who made it.
        by: String,
        /// Why; may be empty.
        reason: String,
    },
}

impl Schedule {
    /// The shift that the instant is in: who is on call, and until when. Nothing while nobody is. `overrides` may hold those of
    /// other schedules too.
    pub fn on_call(&self, at: Time, overrides: &[Override]) -> Option<Shift> {
        Sources::of(self, overrides, Interval::new(at, at)).piece(at).1
    }

    /// The shifts of which a part is inside `within`, whole and in order. What is more than [`HORIZON`] after its start is left
    /// out, and what is beyond [`SHIFTS_MAX`].
    pub fn shifts(&self, within: Interval, overrides: &[Override]) -> Vec<Shift> {
        self.pieces(within, overrides).into_iter().filter_map(|(_, shift)| shift).collect()
    }

    /// When nobody is on call in `within`, under the same bounds.
    pub fn gaps(&self, within: Interval, overrides: &[Override]) -> Spans {
        let pieces = self.pieces(within, overrides);
        let empty = pieces.into_iter().filter(|(_, shift)| shift.is_none());
        empty.map(|(interval, _)| interval.intersect(within)).collect()
    }

    fn pieces(&self, within: Interval, overrides: &[Override]) -> Vec<(Interval, Option<Shift>)> {
        let end = within.end.min(within.start + HORIZON);
        let sources = Sources::of(self, overrides, Interval::new(within.start, end));
        let mut pieces = Vec::new();
        let mut at = within.start;
        while at < end && pieces.len() < SHIFTS_MAX {
            let (interval, shift) = sources.piece(at);
            // Each piece holds its instant, so each step goes forward.
            at = interval.end;
            pieces.push((interval, shift));
        }
        pieces
    }
}

/// The sources of a schedule, with what is the same for all instants of a while.
struct Sources<'a> {
    schedule: &'a Schedule,
    /// When each layer applies.
    applies: Vec<Spans>,
    /// The newest first.
    overrides: Vec<&'a Override>,
}

impl<'a> Sources<'a> {
    fn of(schedule: &'a Schedule, overrides: &'a [Override], within: Interval) -> Self {
        let ours = |made: &&Override| made.schedule == schedule.name && !made.interval.is_empty();
        let mut overrides: Vec<&Override> = overrides.iter().filter(ours).collect();
        // Of two that were made at the same instant, the one that comes later in the list.
        overrides.reverse();
        overrides.sort_by_key(|made| std::cmp::Reverse(made.made_at));
        overrides.truncate(OVERRIDES_MAX);
        let applies = schedule.layers.iter().map(|layer| applies(schedule, layer, within)).collect();
        Self { schedule, applies, overrides }
    }

    /// The piece of all sources together that the instant is in.
    fn piece(&self, at: Time) -> (Interval, Option<Shift>) {
        let mut bounds = ALWAYS;
        for made in &self.overrides {
            let (interval, is_inside) = around(std::slice::from_ref(&made.interval), at);
            bounds = bounds.intersect(interval);
            if is_inside {
                let Override { id, by, reason, person, .. } = (*made).clone();
                let source = ShiftSource::Override { id, by, reason };
                return (bounds, Some(Shift { person, interval: bounds, source }));
            }
        }
        let clock = &self.schedule.clock;
        for (index, (layer, applies)) in self.schedule.layers.iter().zip(&self.applies).enumerate().rev() {
            let (interval, is_inside) = around(applies.intervals(), at);
            bounds = bounds.intersect(interval);
            if !is_inside {
                continue;
            }
            let turn = layer.turn_at(clock, at);
            let of_turn = Interval::new(layer.begins(clock, turn), layer.begins(clock, turn + 1));
            bounds = bounds.intersect(of_turn);
            if let (Some(person), Ok(turn)) = (layer.person(turn), u64::try_from(turn)) {
                let source = ShiftSource::Layer { layer: index, turn };
                return (bounds, Some(Shift { person: person.clone(), interval: bounds, source }));
            }
        }
        (bounds, None)
    }
}

/// When a layer applies, for as long as matters to the instants of `within`.
fn applies(schedule: &Schedule, layer: &Layer, within: Interval) -> Spans {
    let clock = &schedule.clock;
    let begun = Interval::new(layer.begins(clock, 0), ALWAYS.end);
    if layer.only.is_empty() {
        return [begun].into_iter().collect();
    }
    // A layer that begins later is looked at where it begins.
    let first = clock.date(within.start).plus(-AROUND_DAYS).max(layer.from().plus(-AROUND_DAYS));
    let last = clock.date(within.end).plus(AROUND_DAYS).max(layer.from().plus(AROUND_DAYS));
    let windows = spans(&layer.only, clock, first, last);
    windows.clip(begun)
}

/// The interval of a set that the instant is in and true, or the one between two of them and false.
fn around(intervals: &[Interval], at: Time) -> (Interval, bool) {
    let after = intervals.partition_point(|interval| interval.start <= at);
    let before = after.checked_sub(1).and_then(|index| intervals.get(index));
    match before {
        Some(interval) if at < interval.end => (*interval, true),
        _ => {
            let start = before.map_or(ALWAYS.start, |interval| interval.end);
            let end = intervals.get(after).map_or(ALWAYS.end, |interval| interval.start);
            (Interval::new(start, end), false)
        }
    }
}
