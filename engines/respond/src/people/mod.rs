//! Who is on call when, and in which order people are told.
//!
//! Pure code: the time, the policy and the overrides are arguments. [`People`] is what the policy says; [`Schedule::on_call`]
//! and [`Schedule::shifts`] say who is on call, [`Escalation::at`] how far an escalation has come, [`QuietHours`] whom not to
//! disturb, and [`Calendar`] writes shifts for calendar programs.

mod calendar;
mod clock;
mod escalation;
pub mod names;
mod quiet;
mod schedule;
mod shifts;
mod window;

#[cfg(test)]
mod tests;

use event::{Time, Zone};
use policy::{Document, EscalationName, PersonName, ScheduleName, Section, SectionDoc, Table};

pub use calendar::Calendar;
pub use clock::Date;
pub use escalation::{Escalation, EscalationState, EscalationStep};
pub use quiet::{PersonHours, QuietHours};
pub use schedule::{Layer, Schedule};
pub use shifts::{HORIZON, OVERRIDES_MAX, Override, SHIFTS_MAX, Shift, ShiftSource};
pub use window::Window;

/// What the policy says of the people of the team.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct People {
    /// The zone at the top of the policy.
    pub zone: Zone,
    /// Who is on call when.
    pub schedules: Vec<Schedule>,
    /// Who is told when nobody has acknowledged.
    pub escalations: Vec<Escalation>,
    /// When people are not to be disturbed: one for each person.
    pub hours: Vec<PersonHours>,
}

/// Whom a step of an escalation tells at an instant.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Told {
    /// Each once, in the order of the step.
    pub people: Vec<PersonName>,
    /// Schedules by which nobody is on call.
    pub empty: Vec<ScheduleName>,
}

/// Why an override is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RefusedOverride {
    /// The policy has no such schedule.
    #[error("no schedule is called `{0}`: the policy declares {1}")]
    Schedule(ScheduleName, String),
    /// The policy has no such person.
    #[error("no person is called `{0}`: the policy declares {1}")]
    Person(PersonName, String),
    /// It ends before it begins.
    #[error("the override ends at {0}, which is not after its start: write a later end")]
    Empty(Time),
    /// It is over already.
    #[error("the override ended at {0}, which is past: what was is not changed by it")]
    Past(Time),
    /// It is longer than [`HORIZON`].
    #[error("the override lasts longer than {HORIZON}: change the layers of the schedule in the policy instead")]
    Long,
    /// Its reason is too long.
    #[error("the reason is longer than {REASON_BYTES_MAX} bytes: shorten it")]
    Reason,
    /// The schedule has [`OVERRIDES_MAX`].
    #[error("the schedule `{0}` has {OVERRIDES_MAX} overrides: remove some first")]
    Many(ScheduleName),
}

/// How long the reason of an override may be.
pub const REASON_BYTES_MAX: usize = 500;

impl People {
    /// Takes its tables out of the document. Where a table names no zone, the one at the top of the policy holds.
    pub fn read(document: &mut Document) -> Self {
        let zone = document.top::<TopZone>().map_or(Zone::UTC, |top| top.0);
        Self {
            zone: zone.clone(),
            schedules: document.tables("schedule").into_iter().map(|read: Schedule| read.or_in(&zone)).collect(),
            escalations: document.tables("escalation"),
            hours: document.tables("person").into_iter().map(|read: PersonHours| read.or_in(&zone)).collect(),
        }
    }

    /// The chapters of `docs/policy.md` about these tables.
    pub fn reference() -> Vec<SectionDoc> {
        vec![
            SectionDoc::of::<PersonHours>("person", true),
            SectionDoc::of::<Schedule>("schedule", true),
            SectionDoc::of::<Escalation>("escalation", true),
        ]
    }

    /// The schedule of that name.
    pub fn schedule(&self, name: &ScheduleName) -> Option<&Schedule> {
        self.schedules.iter().find(|schedule| schedule.name == *name)
    }

    /// The escalation of that name.
    pub fn escalation(&self, name: &EscalationName) -> Option<&Escalation> {
        self.escalations.iter().find(|escalation| escalation.name == *name)
    }

    /// When the quiet hours end that the person is in; nothing when they may be disturbed.
    pub fn quiet_until(&self, person: &PersonName, at: Time) -> Option<Time> {
        self.hours.iter().find(|hours| hours.person == *person)?.quiet.ends(at)
    }

    /// Whether an override may be made at `now`, beside those that there are.
    ///
    /// # Errors
    /// Why not.
    pub fn check_override(&self, made: &Override, now: Time, others: &[Override]) -> Result<(), RefusedOverride> {
        let Override { schedule, person, interval, .. } = made;
        if self.schedule(schedule).is_none() {
            let known = self.schedules.iter().map(|schedule| schedule.name.as_str());
            return Err(RefusedOverride::Schedule(schedule.clone(), listed(known)));
        }
        if self.hours.iter().all(|hours| hours.person != *person) {
            let known = self.hours.iter().map(|hours| hours.person.as_str());
            return Err(RefusedOverride::Person(person.clone(), listed(known)));
        }
        if interval.is_empty() {
            return Err(RefusedOverride::Empty(interval.end));
        }
        if interval.end <= now {
            return Err(RefusedOverride::Past(interval.end));
        }
        if interval.length() > HORIZON {
            return Err(RefusedOverride::Long);
        }
        if made.reason.len() > REASON_BYTES_MAX {
            return Err(RefusedOverride::Reason);
        }
        let of_this = others.iter().filter(|other| other.schedule == *schedule && other.id != made.id).count();
        if of_this >= OVERRIDES_MAX {
            return Err(RefusedOverride::Many(schedule.clone()));
        }
        Ok(())
    }

    /// What is sound and may still surprise, each in a sentence without a full stop.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for schedule in &self.schedules {
            let name = &schedule.name;
            if let Some(at) = schedule.uncovered() {
                warnings.push(format!("nobody is on call by the schedule `{name}` at {at}: no layer applies then"));
            }
            let mut steps = self.escalations.iter().flat_map(|escalation| &escalation.steps);
            if !steps.any(|step| step.schedules.contains(name)) {
                warnings.push(format!("no escalation names the schedule `{name}`: nobody is told by it"));
            }
        }
        warnings
    }

    /// The overrides that have an effect: those of schedules and people that the policy still declares. Whatever is shown or told
    /// of who is on call rests on these.
    pub fn in_effect(&self, overrides: &[Override]) -> Vec<Override> {
        let known = |made: &&Override| {
            self.schedule(&made.schedule).is_some() && self.hours.iter().any(|hours| hours.person == made.person)
        };
        overrides.iter().filter(known).cloned().collect()
    }

    /// The zone of the times that a person reads.
    pub fn zone_of(&self, person: &str) -> &Zone {
        let hours = self.hours.iter().find(|hours| hours.person.as_str() == person);
        hours.map_or(&self.zone, PersonHours::zone)
    }

    /// Whom the step tells at the instant. An override that names somebody who has left the policy has no effect.
    pub fn told(&self, step: &EscalationStep, at: Time, overrides: &[Override]) -> Told {
        let overrides = self.in_effect(overrides);
        let mut told = Told::default();
        let mut tell = |person: PersonName| {
            if !told.people.contains(&person) {
                told.people.push(person);
            }
        };
        let mut empty = Vec::new();
        for name in &step.schedules {
            match self.schedule(name).and_then(|schedule| schedule.on_call(at, &overrides)) {
                Some(shift) => tell(shift.person),
                None => empty.push(name.clone()),
            }
        }
        step.people.iter().cloned().for_each(tell);
        told.empty = empty;
        told
    }
}

/// The first few names, for a message.
fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN_MAX: usize = 8;
    let names: Vec<String> = names.take(SHOWN_MAX + 1).map(|name| format!("`{name}`")).collect();
    match names.get(..SHOWN_MAX) {
        _ if names.is_empty() => "none".to_owned(),
        Some(shown) if names.len() > SHOWN_MAX => format!("{} and others", shown.join(", ")),
        _ => names.join(", "),
    }
}

/// The zone at the top of the policy, which the pages read as well: a mistake in it is found by both, and shown once.
struct TopZone(Zone);

impl Section for TopZone {
    const ABOUT: &'static str = "The zone at the top of the policy.";
    const EXAMPLE: &'static str = "";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        Some(Self(table.or("time_zone", Zone::UTC, "the time zone in which people read times")))
    }
}
