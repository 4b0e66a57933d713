//! On-call schedules, as the policy writes them: layers of rotations.
//!
//! A layer is a rotation: its people take turns, each of so many days of the calendar, and hand over at a time that a clock on
//! the wall shows. A later layer wins where it applies, an override wins over all layers. Where nothing applies, nobody is on
//! call. What is on call at which instant is computed in [`super::shifts`].

use std::fmt;
use std::str::FromStr;

use event::{Time, Zone};
use policy::{PersonName, ScheduleName, Section, Slot, Table, Value};

use super::clock::{Date, WallClock, clock_text, minutes_of, weekday_named, weekday_word};
use super::window::{Window, cover_the_week, missing_of_the_week};

/// How many layers a schedule may have.
const LAYERS_MAX: usize = 20;
/// How many people may take turns in one layer.
const PEOPLE_MAX: usize = 100;
/// How many parts of the week a layer may be limited to.
const WINDOWS_MAX: usize = 20;
/// How many days one turn may last.
const TURN_DAYS_MAX: i64 = 364;

/// Who is on call when.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Schedule {
    /// Its name.
    pub name: ScheduleName,
    /// The layers, of which a later one wins over an earlier one: at least one.
    pub layers: Vec<Layer>,
    /// The clock by which people hand over.
    pub(super) clock: WallClock,
    /// Whether the table names a zone of its own.
    has_zone: bool,
}

/// A rotation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layer {
    /// The people who take turns, in their order: at least one.
    pub people: Vec<PersonName>,
    /// The day of the first hand-over.
    from: Date,
    /// How long a turn is, in days of the calendar.
    days: i64,
    /// The time of the hand-over, in minutes after midnight.
    minutes: i64,
    /// The parts of the week in which the layer applies; none for all of it.
    pub(super) only: Vec<Window>,
}

impl Schedule {
    /// The same by the clock of `zone`, unless the schedule has one of its own.
    #[must_use]
    pub fn or_in(mut self, zone: &Zone) -> Self {
        if !self.has_zone {
            self.clock = WallClock::of(zone);
        }
        self
    }

    /// The zone of the clock by which people hand over.
    pub const fn zone(&self) -> &Zone {
        self.clock.zone()
    }

    /// The instant that somebody means who writes `2026-12-10 18:00`, by the clock of the schedule, or a time of RFC 3339.
    pub fn time_of(&self, text: &str) -> Option<Time> {
        if let Some((date, time)) = text.trim().split_once([' ', 'T'])
            && let (Some(date), Some(minutes)) = (Date::parse(date), minutes_of(time))
        {
            return Some(self.clock.first(date, minutes));
        }
        Time::parse_rfc3339(text.trim())
    }

    /// A time of the week at which no layer applies, such as `Mon 07:00`, once all have begun; nothing when there is none.
    pub fn uncovered(&self) -> Option<String> {
        if self.layers.iter().any(|layer| layer.only.is_empty()) {
            return None;
        }
        let windows: Vec<Window> = self.layers.iter().flat_map(|layer| layer.only.iter().cloned()).collect();
        missing_of_the_week(&windows)
    }
}

impl Layer {
    /// The day of the first hand-over.
    pub(super) const fn from(&self) -> Date {
        self.from
    }

    /// The instant at which a turn begins, the first one being 0.
    pub(super) fn begins(&self, clock: &WallClock, turn: i64) -> Time {
        clock.first(self.from.plus(turn.saturating_mul(self.days)), self.minutes)
    }

    /// The turn that the instant is in; negative before the first.
    pub(super) fn turn_at(&self, clock: &WallClock, at: Time) -> i64 {
        let mut turn = clock.date(at).since(self.from).div_euclid(self.days);
        // The day has the hand-over in it, or zones have moved the day: one or two steps, bounded for the ends of the calendar.
        for _ in 0..4 {
            if self.begins(clock, turn) > at {
                turn -= 1;
            } else if self.begins(clock, turn + 1) <= at {
                turn += 1;
            }
        }
        turn
    }

    /// Whose turn it is.
    pub(super) fn person(&self, turn: i64) -> Option<&PersonName> {
        let count = i64::try_from(self.people.len()).ok().filter(|count| *count > 0)?;
        self.people.get(usize::try_from(turn.rem_euclid(count)).ok()?)
    }
}

impl Section for Schedule {
    const ABOUT: &'static str = "Who is on call when. People take turns in layers, of which a later one wins where it applies; overrides \
        (`garant oncall`) win over all of them. Turns are days of the calendar and times of a clock on the wall: a hand-over at 09:00 \
        stays at 09:00 when the clock changes. One that the clock leaves out, in the night on which it is set forward, is at the jump; \
        one that it shows twice is at the first time.";
    const EXAMPLE: &'static str = r#"
[[schedule]]
name = "ops"
time_zone = "Europe/Paris"
layer = [
  { people = ["Léa", "Max"], every = "week", hand_over = "Mon 09:00", from = "2026-12-07" },
  { people = ["Noé"], every = "day", hand_over = "08:00", from = "2026-12-07", only = ["Mon-Fri 08:00-18:00"] },
]
"#;

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let name = table.declare("name", "what escalations call it");
        let zone: Option<Zone> = table.optional(
            "time_zone",
            "the zone of the clock by which people hand over; absent, the zone at the top of the policy",
        );
        let layers: Option<Vec<Layer>> = table.required_list("layer", "rotations; a later one wins where it applies");
        let layers = layers?;
        if layers.len() > LAYERS_MAX {
            table.mistake("layer", format!("more than {LAYERS_MAX} layers"), "make two schedules of it");
        }
        let clock = WallClock::of(zone.as_ref().unwrap_or(&Zone::UTC));
        Some(Self { name: name?, layers, clock, has_zone: zone.is_some() })
    }
}

impl Section for Layer {
    const ABOUT: &'static str = "A rotation.";
    const EXAMPLE: &'static str = "";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let people: Option<Vec<PersonName>> = table.required_list("people", "who takes turns, in this order");
        let every: Option<Turn> = table.required("every", "how long a turn is: days of the calendar, or weeks");
        let hand_over: Option<HandOver> = table.required(
            "hand_over",
            "when the next one takes over, by the clock on the wall; with the day of the week where turns are weeks",
        );
        let from: Option<Date> = table.required(
            "from",
            "the day of the first hand-over, to the first of the people; before it the layer does not apply",
        );
        let mut only: Vec<Window> =
            table.list("only", "the parts of the week in which the layer applies; absent, always");
        if people.as_ref().is_some_and(|people| people.len() > PEOPLE_MAX) {
            table.mistake("people", format!("more than {PEOPLE_MAX} people"), "make two layers of it");
        }
        if only.len() > WINDOWS_MAX {
            table.mistake("only", format!("more than {WINDOWS_MAX} parts of the week"), "join what follows each other");
        }
        if cover_the_week(&only) {
            only = Vec::new();
        }
        let (every, hand_over, from) = (every?, hand_over?, from?);
        match (every.is_weeks, hand_over.weekday) {
            (true, None) => {
                let example = format!("hand_over = \"{} {hand_over}\"", weekday_word(from.weekday()));
                table.mistake("hand_over", "turns of weeks, and no day of the week", format!("write {example}"));
            }
            (false, Some(_)) => {
                let remedy = format!("write hand_over = \"{}\"", clock_text(hand_over.minutes));
                table.mistake("hand_over", "turns of days, and a day of the week", remedy);
            }
            (true, Some(weekday)) if weekday != from.weekday() => {
                let [before, after] = from.nearest(weekday);
                let reason = format!("{from} is not a {}, on which people hand over", weekday_word(weekday));
                table.mistake("from", reason, format!("write \"{before}\" or \"{after}\""));
            }
            _ => {}
        }
        Some(Self { people: people?, from, days: every.days, minutes: hand_over.minutes, only })
    }
}

/// How long a turn is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Turn {
    days: i64,
    is_weeks: bool,
}

impl FromStr for Turn {
    type Err = ();

    /// `day`, `3 days`, `week`, `2 weeks`.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (count, unit) = text.split_once(' ').map_or((Ok(1), text), |(count, unit)| (count.parse::<i64>(), unit));
        let days = match unit {
            "day" | "days" => 1,
            "week" | "weeks" => 7,
            _ => return Err(()),
        };
        let total =
            count.map_err(drop)?.checked_mul(days).filter(|total| (1..=TURN_DAYS_MAX).contains(total)).ok_or(())?;
        Ok(Self { days: total, is_weeks: days == 7 })
    }
}

impl Value for Turn {
    const SHAPE: &'static str = "\"day\", \"week\", or a number of them up to \"52 weeks\"";
    const EXAMPLE: &'static str = "\"2 weeks\"";

    fn read(slot: Slot<'_>) -> Option<Self> {
        slot.parse()
    }
}

/// When people hand over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct HandOver {
    weekday: Option<usize>,
    minutes: i64,
}

impl FromStr for HandOver {
    type Err = ();

    /// `08:00`, `Mon 09:00`.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (weekday, time) = match text.split_once(' ') {
            Some((day, time)) => (Some(weekday_named(day).ok_or(())?), time),
            None => (None, text),
        };
        Ok(Self { weekday, minutes: minutes_of(time).ok_or(())? })
    }
}

impl fmt::Display for HandOver {
    /// The time alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&clock_text(self.minutes))
    }
}

impl Value for HandOver {
    const SHAPE: &'static str = "a time, with the day of the week where turns are weeks";
    const EXAMPLE: &'static str = "\"Mon 09:00\"";

    fn read(slot: Slot<'_>) -> Option<Self> {
        slot.parse()
    }
}
