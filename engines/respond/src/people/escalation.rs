//! Escalation policies: who is told when nobody has acknowledged.

use event::Span;
use policy::{EscalationName, Located, Mistake, PersonName, ScheduleName, Section, Table, Value};

/// How many steps one may have.
const STEPS_MAX: usize = 20;
/// How many people and schedules one step may tell.
const TARGETS_MAX: usize = 20;
/// How often one may begin again.
const REPEAT_MAX: u32 = 100;
/// How long after the alert a step may be.
const AFTER_MAX: Span = Span::from_days(7);

/// Steps, each of which tells more people while an alert is not acknowledged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Escalation {
    /// Its name.
    pub name: EscalationName,
    /// The steps, the first one first: at least one.
    pub steps: Vec<EscalationStep>,
    /// How often all of it is begun again after the last step.
    pub repeat: u32,
    /// How long after the last step it is begun again.
    pub repeat_after: Span,
}

/// One step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EscalationStep {
    /// How long the alert has been unacknowledged, from the beginning of the escalation or of its repetition.
    pub after: Span,
    /// The schedules of which whoever is on call is told.
    pub schedules: Vec<ScheduleName>,
    /// The people who are told in any case.
    pub people: Vec<PersonName>,
}

/// How far an escalation has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EscalationState {
    /// The repetition, 0 for the first time.
    pub round: u32,
    /// The last step that is due, by its index; nothing before the first.
    pub step: Option<usize>,
    /// When the next step is due, counted from the beginning; nothing after the last.
    pub next: Option<Span>,
}

impl Escalation {
    /// How far it has come when the alert has been unacknowledged for `elapsed`.
    pub fn at(&self, elapsed: Span) -> EscalationState {
        let round_micros = self.round_length().micros();
        let round = elapsed.micros().max(0).checked_div(round_micros).unwrap_or(0).min(i64::from(self.repeat));
        let begun = Span::from_micros(round * round_micros);
        let due = self.steps.iter().take_while(|step| begun + step.after <= elapsed).count();
        let next = match self.steps.get(due) {
            Some(step) => Some(begun + step.after),
            None if round < i64::from(self.repeat) => Some(begun + self.round_length() + self.first_after()),
            None => None,
        };
        EscalationState { round: u32::try_from(round).unwrap_or(self.repeat), step: due.checked_sub(1), next }
    }

    /// From the beginning of one repetition to that of the next.
    fn round_length(&self) -> Span {
        self.steps.last().map_or(Span::ZERO, |last| last.after) + self.repeat_after
    }

    fn first_after(&self) -> Span {
        self.steps.first().map_or(Span::ZERO, |first| first.after)
    }
}

impl Section for Escalation {
    const ABOUT: &'static str = "Who is told of an alert, and who else when nobody acknowledges it. The steps end as soon as somebody \
        does.";
    const EXAMPLE: &'static str = r#"
[[escalation]]
name = "default"
step = [
  { schedule = "ops" },
  { schedule = "managers", person = "Léa", after = "15 min" },
]
repeat = 3
repeat_after = "30 min"
"#;

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let name = table.declare("name", "what services and alerts call it");
        let steps: Option<Vec<Located<EscalationStep>>> = table.required_list("step", "who is told, step by step");
        let repeat =
            table.or_in("repeat", 3, &(0..=REPEAT_MAX), "how often all steps are begun again after the last one");
        let range = Span::from_secs(60)..=AFTER_MAX;
        let about = "how long after the last step they are begun again";
        let repeat_after = table.or_in("repeat_after", Span::from_secs(30 * 60), &range, about);
        let steps = steps?;
        if steps.len() > STEPS_MAX {
            table.mistake("step", format!("more than {STEPS_MAX} steps"), "tell more people in one step, or repeat");
        }
        let mut before: Option<Span> = None;
        for step in &steps {
            if let Some(before) = before.filter(|before| step.value.after <= *before) {
                let reason = format!("the step is after {}, and the one before it after {before}", step.value.after);
                let remedy = "write how long the alert has not been acknowledged: longer at each step, such as after = \"15 min\"";
                table.report(Mistake::new(step.place, reason, remedy));
            }
            before = Some(step.value.after);
        }
        let steps = steps.into_iter().map(|step| step.value).collect();
        Some(Self { name: name?, steps, repeat, repeat_after })
    }
}

impl Section for EscalationStep {
    const ABOUT: &'static str = "Who is told, and when.";
    const EXAMPLE: &'static str = "";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let schedules: Vec<ScheduleName> = some(table, "schedule", "whoever is on call by these schedules");
        let people: Vec<PersonName> = some(table, "person", "these people, whether or not they are on call");
        let after = table.or_in(
            "after",
            Span::ZERO,
            &(Span::ZERO..=AFTER_MAX),
            "how long the alert has not been acknowledged when they are told",
        );
        let targets = schedules.len() + people.len();
        if targets > TARGETS_MAX {
            table.mistake("", format!("a step that tells more than {TARGETS_MAX}"), "name a schedule, or add a step");
        }
        if targets == 0 && !table.has("schedule") && !table.has("person") {
            table.mistake("", "a step that tells nobody", "write { schedule = \"…\" } or { person = \"…\" }");
            return None;
        }
        Some(Self { after, schedules, people })
    }
}

/// One value or several; an empty list is a mistake, for it looks as if somebody were told.
fn some<V: Value>(table: &mut Table<'_>, key: &'static str, about: &'static str) -> Vec<V> {
    if table.has(key) { table.required_list(key, about).unwrap_or_default() } else { table.list(key, about) }
}
