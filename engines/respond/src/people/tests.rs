//! What is read of a policy, who is on call by it, and what calendars get. Times of zones in bulk are compared with Python's in
//! tests/it/schedules.rs.

use event::{Interval, Span, Time};
use policy::{Document, Mistakes, Section};

use super::*;

const NAMES: &str = "time_zone = \"Europe/Paris\"\n[[person]]\nname = \"Léa\"\nquiet = [\"22:00-07:00\"]\n[[person]]\nname = \"Max\"\n\
                     time_zone = \"America/New_York\"\nquiet = [\"22:00-07:00\", \"Sat-Sun\"]\n[[person]]\nname = \"Noé\"\n";

const SCHEDULE: &str = r#"
[[schedule]]
name = "ops"
layer = [
  { people = ["Léa", "Max"], every = "week", hand_over = "Mon 09:00", from = "2026-12-07" },
  { people = ["Noé"], every = "day", hand_over = "08:00", from = 2026-12-07, only = ["Mon-Fri 08:00-18:00"] },
]
"#;

const ESCALATION: &str = r#"
[[escalation]]
name = "default"
step = [
  { schedule = "ops" },
  { schedule = ["ops"], person = "Max", after = "15 min" },
]
repeat = 2
repeat_after = "45 min"
"#;

fn read(text: &str) -> Result<People, Mistakes> {
    let mut document = Document::from_text("garant.toml", text);
    let people = People::read(&mut document);
    document.finish().map(|_| people)
}

fn sound() -> People {
    read(&format!("{NAMES}{SCHEDULE}{ESCALATION}")).expect("a sound policy")
}

fn time(text: &str) -> Time {
    Time::parse_rfc3339(text).unwrap_or_else(|| panic!("{text}"))
}

fn interval(from: &str, to: &str) -> Interval {
    Interval::new(time(from), time(to))
}

fn person(name: &str) -> PersonName {
    name.parse().expect("a name")
}

fn schedule(name: &str) -> ScheduleName {
    name.parse().expect("a name")
}

fn made(id: &str, who: &str, from: &str, to: &str, made_at: &str) -> Override {
    Override {
        id: id.to_owned(),
        schedule: schedule("ops"),
        person: person(who),
        interval: interval(from, to),
        by: "Léa".to_owned(),
        reason: String::new(),
        made_at: time(made_at),
    }
}

/// Each shift as `from to who`, in UTC.
fn shown(shifts: &[Shift]) -> Vec<String> {
    let text = |shift: &Shift| {
        format!("{} {} {}", shift.interval.start.to_rfc3339(), shift.interval.end.to_rfc3339(), shift.person)
    };
    shifts.iter().map(text).collect()
}

fn check(text: &str, expected: &[&str]) {
    let mistakes = read(text).expect_err("a mistake");
    let found: Vec<String> =
        mistakes.list().iter().map(|mistake| format!("{} | {}", mistake.reason(), mistake.remedy())).collect();
    assert_eq!(found, expected, "{text}");
}

#[test]
fn examples_are_sound() {
    SectionDoc::check::<Schedule>("schedule", true).expect("its example");
    SectionDoc::check::<Escalation>("escalation", true).expect("its example");
    SectionDoc::check::<PersonHours>("person", true).expect("its example");
    assert_eq!(People::reference().len(), 3);
    assert!(Schedule::EXAMPLE.contains("layer"));
}

/// WA-4: somebody is on call, by turns, and a later layer wins where it applies.
#[test]
fn people_take_turns() {
    let people = sound();
    let ops = people.schedule(&schedule("ops")).expect("it is declared");
    assert_eq!(ops.zone().name(), "Europe/Paris", "the zone of the policy");
    for (at, who, until) in [
        ("2026-12-07T06:59:59Z", None, ""),
        // By Paris, 08:00 to 18:00 is Noé; the hand-over of the week at 09:00 is beneath it.
        ("2026-12-07T07:00:00Z", Some("Noé"), "2026-12-07T17:00:00Z"),
        ("2026-12-07T16:59:59Z", Some("Noé"), "2026-12-07T17:00:00Z"),
        ("2026-12-07T17:00:00Z", Some("Léa"), "2026-12-08T07:00:00Z"),
        ("2026-12-12T12:00:00Z", Some("Léa"), "2026-12-14T07:00:00Z"),
        ("2026-12-14T17:00:00Z", Some("Max"), "2026-12-15T07:00:00Z"),
        ("2026-12-21T17:00:00Z", Some("Léa"), "2026-12-22T07:00:00Z"),
        // In summer 08:00 is 06:00 in UTC.
        ("2027-07-05T06:00:00Z", Some("Noé"), "2027-07-05T16:00:00Z"),
    ] {
        let shift = ops.on_call(time(at), &[]);
        assert_eq!(shift.as_ref().map(|shift| shift.person.as_str()), who, "{at}");
        if let Some(shift) = shift {
            assert_eq!(shift.interval.end.to_rfc3339(), until, "{at}");
        }
    }
    for extreme in [i64::MIN, i64::MAX] {
        ops.on_call(Time::from_micros(extreme), &[]);
        ops.shifts(Interval::new(Time::from_micros(extreme), Time::from_micros(i64::MAX)), &[]);
    }
}

/// What is asked for does not change what a shift is; nothing overlaps; the instant and the list agree.
#[test]
fn shifts_are_whole_wherever_one_asks() {
    let people = sound();
    let ops = people.schedule(&schedule("ops")).expect("it is declared");
    let overrides = [
        made("a", "Max", "2027-03-27T12:00:00Z", "2027-03-29T12:00:00Z", "2027-01-01T00:00:00Z"),
        made("b", "Noé", "2027-03-28T00:00:00Z", "2027-03-28T06:00:00Z", "2027-01-02T00:00:00Z"),
    ];
    let all = ops.shifts(interval("2027-03-01T00:00:00Z", "2027-05-01T00:00:00Z"), &overrides);
    assert!(all.windows(2).all(|pair| pair[0].interval.end == pair[1].interval.start), "{:?}", shown(&all));
    for shift in &all {
        let middle = shift.interval.start + Span::from_micros(shift.interval.length().micros() / 2);
        for at in [shift.interval.start, middle, shift.interval.end - Span::from_micros(1)] {
            assert_eq!(ops.on_call(at, &overrides).as_ref(), Some(shift), "{at}");
            let asked = ops.shifts(Interval::new(at, at + Span::from_micros(1)), &overrides);
            assert_eq!(asked.as_slice(), std::slice::from_ref(shift));
        }
    }
    let night = interval("2027-03-27T18:00:00Z", "2027-03-29T13:00:00Z");
    assert_eq!(
        shown(&ops.shifts(night, &overrides)),
        [
            "2027-03-27T12:00:00Z 2027-03-28T00:00:00Z Max",
            "2027-03-28T00:00:00Z 2027-03-28T06:00:00Z Noé",
            "2027-03-28T06:00:00Z 2027-03-29T12:00:00Z Max",
            "2027-03-29T12:00:00Z 2027-03-29T16:00:00Z Noé",
        ]
    );
    let far = ops.shifts(interval("2027-01-01T00:00:00Z", "2037-01-01T00:00:00Z"), &[]);
    let last = far.last().expect("there are some").interval;
    assert!(
        last.start < time("2027-01-01T00:00:00Z") + HORIZON && last.end >= time("2028-02-05T00:00:00Z"),
        "{last:?}"
    );
}

#[test]
fn overrides_win_and_the_newest_of_them() {
    let people = sound();
    let ops = people.schedule(&schedule("ops")).expect("it is declared");
    let (from, to) = ("2026-12-10T00:00:00Z", "2026-12-10T06:00:00Z");
    let old = made("old", "Max", from, to, "2026-12-01T00:00:00Z");
    let new = made("new", "Noé", from, to, "2026-12-02T00:00:00Z");
    let who = |overrides: &[Override]| ops.on_call(time("2026-12-10T03:00:00Z"), overrides).map(|shift| shift.person);
    assert_eq!(who(&[]), Some(person("Léa")));
    for overrides in [[old.clone(), new.clone()], [new.clone(), old.clone()]] {
        assert_eq!(who(&overrides), Some(person("Noé")), "whatever their order");
    }
    let same_time = Override { made_at: new.made_at, ..old.clone() };
    assert_eq!(who(&[new.clone(), same_time]), Some(person("Max")), "the later one in the list");
    let elsewhere = Override { schedule: schedule("managers"), ..new.clone() };
    let empty = Override { interval: interval(to, from), ..new.clone() };
    assert_eq!(who(&[old.clone(), elsewhere, empty]), Some(person("Max")));
    // Before anybody's first turn, an override is enough.
    let early = made("early", "Max", "2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z", "2026-10-01T00:00:00Z");
    let november = interval("2026-10-31T00:00:00Z", "2026-11-03T00:00:00Z");
    let early = std::slice::from_ref(&early);
    assert_eq!(shown(&ops.shifts(november, early)), ["2026-11-01T00:00:00Z 2026-11-02T00:00:00Z Max"]);
    let gaps = ops.gaps(november, early);
    assert_eq!(gaps.length(), Span::from_days(2), "{gaps:?}");
    let row = serde_json::to_string(&old).expect("a row");
    assert!(row.contains(r#""person":"Max""#), "{row}");
    assert_eq!(serde_json::from_str::<Override>(&row).expect("it is read again"), old);
    assert!(serde_json::from_str::<Override>(&row.replace("\"ops\"", "\"o p s\"")).is_err());
}

/// Two people who change places are two overrides.
#[test]
fn a_swap_is_two_overrides() {
    let people = sound();
    let ops = people.schedule(&schedule("ops")).expect("it is declared");
    let at = |text: &str, overrides: &[Override]| ops.on_call(time(text), overrides).map(|shift| shift.person);
    let (saturday, next) = ("2026-12-12T12:00:00Z", "2026-12-19T12:00:00Z");
    assert_eq!((at(saturday, &[]), at(next, &[])), (Some(person("Léa")), Some(person("Max"))));
    let swap = [
        made("a", "Max", "2026-12-12T00:00:00Z", "2026-12-13T00:00:00Z", "2026-12-01T00:00:00Z"),
        made("b", "Léa", "2026-12-19T00:00:00Z", "2026-12-20T00:00:00Z", "2026-12-01T00:00:00Z"),
    ];
    assert_eq!((at(saturday, &swap), at(next, &swap)), (Some(person("Max")), Some(person("Léa"))));
}

#[test]
fn overrides_are_checked_before_they_are_kept() {
    let people = sound();
    let now = time("2026-12-09T00:00:00Z");
    let sound = made("a", "Max", "2026-12-08T00:00:00Z", "2026-12-10T06:00:00Z", "2026-12-09T00:00:00Z");
    let refused = |made: &Override, others: &[Override]| {
        people.check_override(made, now, others).map_err(|refused| refused.to_string())
    };
    assert_eq!(refused(&sound, &[]), Ok(()), "one that has begun is sound");
    let many: Vec<Override> =
        (0..OVERRIDES_MAX).map(|index| Override { id: index.to_string(), ..sound.clone() }).collect();
    assert_eq!(refused(&Override { id: "7".to_owned(), ..sound.clone() }, &many), Ok(()), "one that is changed");
    for (made, others, message) in [
        (
            Override { schedule: schedule("op"), ..sound.clone() },
            &[][..],
            "no schedule is called `op`: the policy declares `ops`",
        ),
        (
            Override { person: person("Lea"), ..sound.clone() },
            &[],
            "no person is called `Lea`: the policy declares `Léa`, `Max`, `Noé`",
        ),
        (
            Override { interval: Interval::new(now, now), ..sound.clone() },
            &[],
            "the override ends at 2026-12-09T00:00:00Z, which is not after its start: write a later end",
        ),
        (
            Override { interval: interval("2026-12-01T00:00:00Z", "2026-12-02T00:00:00Z"), ..sound.clone() },
            &[],
            "the override ended at 2026-12-02T00:00:00Z, which is past: what was is not changed by it",
        ),
        (
            Override { interval: interval("2026-12-01T00:00:00Z", "2028-12-02T00:00:00Z"), ..sound.clone() },
            &[],
            "the override lasts longer than 400 d: change the layers of the schedule in the policy instead",
        ),
        (
            Override { reason: "x".repeat(REASON_BYTES_MAX + 1), ..sound.clone() },
            &[],
            "the reason is longer than 500 bytes: shorten it",
        ),
        (sound.clone(), &many, "the schedule `ops` has 1000 overrides: remove some first"),
    ] {
        assert_eq!(refused(&made, others), Err(message.to_owned()));
    }
    assert_eq!(people.check_override(&sound, now, &many[1..]), Ok(()));
    assert_eq!(
        People::default().check_override(&sound, now, &[]).map_err(|refused| refused.to_string()),
        Err("no schedule is called `ops`: the policy declares none".to_owned())
    );
}

#[test]
fn times_are_written_by_the_clock_of_the_schedule() {
    let people = sound();
    let ops = people.schedule(&schedule("ops")).expect("it is declared");
    for (text, instant) in [
        ("2026-12-10 18:00", Some("2026-12-10T17:00:00Z")),
        ("2026-07-10T18:00", Some("2026-07-10T16:00:00Z")),
        ("2026-12-10T18:00:00Z", Some("2026-12-10T18:00:00Z")),
        ("2026-12-10T18:00:00+02:00", Some("2026-12-10T16:00:00Z")),
        ("2026-03-29 02:30", Some("2026-03-29T01:00:00Z")),
        ("tomorrow", None),
        ("2026-12-10", None),
        ("18:00", None),
    ] {
        assert_eq!(ops.time_of(text).map(Time::to_rfc3339).as_deref(), instant, "{text}");
    }
}

#[test]
fn what_may_surprise_is_said() {
    assert_eq!(sound().warnings(), Vec::<String>::new());
    let text = format!(
        "{NAMES}[[schedule]]\nname = \"ops\"\nlayer = [{{ people = \"Léa\", every = \"day\", hand_over = \"08:00\", \
         from = \"2026-12-07\", only = [\"Mon-Fri 08:00-18:00\", \"18:00-08:00\"] }}]\n"
    );
    assert_eq!(
        read(&text).expect("a sound policy").warnings(),
        [
            "nobody is on call by the schedule `ops` at Sat 08:00: no layer applies then",
            "no escalation names the schedule `ops`: nobody is told by it",
        ]
    );
}

/// A limit on everything: as many shifts as there may be, in a policy at all its limits, and no more.
#[test]
fn a_schedule_at_its_limits() {
    let windows: Vec<String> = (0..20).map(|hour| format!("{hour:02}:10-{hour:02}:50")).collect();
    let layer = |index: i64| {
        let only: Vec<String> =
            windows.iter().map(|window| window.replace(":10", &format!(":{}", 10 + index))).collect();
        format!(
            "{{ people = [\"Léa\", \"Max\"], every = \"day\", hand_over = \"00:00\", from = \"2026-12-07\", only = {only:?} }}"
        )
    };
    let layers: Vec<String> = (0..20).map(layer).collect();
    let people =
        read(&format!("{NAMES}[[schedule]]\nname = \"ops\"\nlayer = [{}]\n", layers.join(","))).expect("sound");
    let ops = &people.schedules[0];
    let start = time("2027-01-01T00:00:00Z");
    let overrides: Vec<Override> = (0..1000)
        .map(|index| {
            let from = start + Span::from_secs(600 * index);
            let interval = Interval::new(from, from + Span::from_secs(300));
            Override {
                id: index.to_string(),
                interval,
                ..made("", "Noé", "2027-01-01T00:00:00Z", "2027-01-02T00:00:00Z", "2026-12-01T00:00:00Z")
            }
        })
        .collect();
    let shifts = ops.shifts(Interval::new(start, start + Span::from_days(800)), &overrides);
    assert!(shifts.len() > 10_000 && shifts.len() <= SHIFTS_MAX, "{}", shifts.len());
}

/// A layer that begins later ends the long turns beneath it, however far away that is.
#[test]
fn a_layer_above_ends_a_long_turn() {
    let text = format!(
        "{NAMES}[[schedule]]\nname = \"ops\"\ntime_zone = \"UTC\"\nlayer = [\n\
         {{ people = \"Léa\", every = \"52 weeks\", hand_over = \"Mon 00:00\", from = \"2027-01-04\" }},\n\
         {{ people = \"Max\", every = \"day\", hand_over = \"00:00\", from = \"2027-09-01\", only = \"Sat 10:00-12:00\" }}]\n"
    );
    let people = read(&text).expect("a sound policy");
    let shifts = people.schedules[0].shifts(interval("2027-02-01T00:00:00Z", "2027-09-05T00:00:00Z"), &[]);
    assert_eq!(
        shown(&shifts),
        [
            "2027-01-04T00:00:00Z 2027-09-04T10:00:00Z Léa",
            "2027-09-04T10:00:00Z 2027-09-04T12:00:00Z Max",
            "2027-09-04T12:00:00Z 2027-09-11T10:00:00Z Léa",
        ]
    );
}

/// Hand-overs that the clock leaves out or shows twice.
#[test]
fn hand_overs_at_night_are_at_one_instant() {
    let text = format!(
        "{NAMES}[[schedule]]\nname = \"ops\"\nlayer = {{ people = [\"Léa\", \"Max\"], every = \"day\", hand_over = \"02:30\", \
         from = \"2026-01-01\" }}\n"
    );
    let ops = &read(&text).expect("a sound policy").schedules[0];
    assert_eq!(
        shown(&ops.shifts(interval("2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z"), &[])),
        ["2026-03-28T01:30:00Z 2026-03-29T01:00:00Z Léa", "2026-03-29T01:00:00Z 2026-03-30T00:30:00Z Max"],
        "the clock jumps from 02:00 to 03:00"
    );
    assert_eq!(
        shown(&ops.shifts(interval("2026-10-24T12:00:00Z", "2026-10-25T12:00:00Z"), &[])),
        ["2026-10-24T00:30:00Z 2026-10-25T00:30:00Z Léa", "2026-10-25T00:30:00Z 2026-10-26T01:30:00Z Max"],
        "02:30 comes twice"
    );
}

#[test]
fn quiet_hours_are_by_the_clock_of_the_person() {
    let people = sound();
    for (who, at, until) in [
        ("Léa", "2026-12-07T20:59:59Z", None),
        ("Léa", "2026-12-07T21:00:00Z", Some("2026-12-08T06:00:00Z")),
        ("Léa", "2026-12-08T05:59:59Z", Some("2026-12-08T06:00:00Z")),
        ("Léa", "2026-12-08T06:00:00Z", None),
        ("Max", "2026-12-07T21:00:00Z", None),
        ("Max", "2026-12-08T03:00:00Z", Some("2026-12-08T12:00:00Z")),
        // Friday 22:00 to Monday 07:00, in three parts that touch each other.
        ("Max", "2026-12-12T03:00:00Z", Some("2026-12-14T12:00:00Z")),
        ("Noé", "2026-12-08T03:00:00Z", None),
    ] {
        let ends = people.quiet_until(&person(who), time(at));
        assert_eq!(ends.map(Time::to_rfc3339).as_deref(), until, "{who} {at}");
    }
    let lea = &people.hours[0].quiet;
    assert!(lea.is_quiet(time("2026-12-07T21:00:00Z")) && !lea.is_quiet(time("2026-12-07T12:00:00Z")));
    assert_eq!(people.quiet_until(&person("nobody"), time("2026-12-08T03:00:00Z")), None);
}

/// WA-4: whoever does not acknowledge is not the last to be told.
#[test]
fn escalations_go_on_until_their_end() {
    let people = sound();
    let default = people.escalation(&"default".parse().expect("a name")).expect("it is declared");
    let minutes = |minutes: i64| Span::from_secs(minutes * 60);
    for (elapsed, round, step, next) in [
        (-5, 0, None, Some(0)),
        (0, 0, Some(0), Some(15)),
        (14, 0, Some(0), Some(15)),
        (15, 0, Some(1), Some(60)),
        (59, 0, Some(1), Some(60)),
        (60, 1, Some(0), Some(75)),
        (75, 1, Some(1), Some(120)),
        (120, 2, Some(0), Some(135)),
        (135, 2, Some(1), None),
        (10_000, 2, Some(1), None),
    ] {
        let expected = EscalationState { round, step, next: next.map(minutes) };
        assert_eq!(default.at(minutes(elapsed)), expected, "{elapsed} min");
    }
    let now = time("2026-12-10T03:00:00Z");
    let told = |step: usize, at: Time, overrides: &[Override]| people.told(&default.steps[step], at, overrides);
    assert_eq!(told(0, now, &[]).people, [person("Léa")]);
    assert_eq!(told(1, now, &[]).people, [person("Léa"), person("Max")]);
    let max = made("a", "Max", "2026-12-10T00:00:00Z", "2026-12-10T06:00:00Z", "2026-12-01T00:00:00Z");
    assert_eq!(told(1, now, std::slice::from_ref(&max)).people, [person("Max")], "each once");
    let gone = Override { person: person("Zoé"), ..max.clone() };
    let renamed = Override { schedule: schedule("managers"), ..max.clone() };
    assert_eq!(people.in_effect(&[gone.clone(), max.clone(), renamed]), [max]);
    assert_eq!(told(0, now, &[gone]).people, [person("Léa")], "who has left is not told");
    let before = told(1, time("2026-12-01T00:00:00Z"), &[]);
    assert_eq!(before, Told { people: vec![person("Max")], empty: vec![schedule("ops")] });
}

#[test]
fn mistakes_say_what_to_write() {
    let layer =
        |layer: &str| format!("{NAMES}[[schedule]]\nname = \"ops\"\nlayer = [{{ people = \"Léa\", {layer} }}]\n");
    let week = "every = \"week\", hand_over = \"Mon 09:00\"";
    check(
        &layer(&format!("{week}, from = \"2026-12-08\"")),
        &["2026-12-08 is not a Mon, on which people hand over | write \"2026-12-07\" or \"2026-12-14\""],
    );
    check(
        &layer("every = \"week\", hand_over = \"09:00\", from = \"2026-12-07\""),
        &["turns of weeks, and no day of the week | write hand_over = \"Mon 09:00\""],
    );
    check(
        &layer("every = \"day\", hand_over = \"Mon 09:00\", from = \"2026-12-07\""),
        &["turns of days, and a day of the week | write hand_over = \"09:00\""],
    );
    check(
        &layer("every = \"53 weeks\", hand_over = \"Mon 9:00\", from = \"7 December\", only = \"Mon-Fri 18:00\""),
        &[
            "`53 weeks` is not \"day\", \"week\", or a number of them up to \"52 weeks\" | write it like \"2 weeks\"",
            "`Mon 9:00` is not a time, with the day of the week where turns are weeks | write it like \"Mon 09:00\"",
            "`7 December` is not a day | write year, month and day, such as \"2026-12-07\"",
            "`Mon-Fri 18:00` is not a part of the week | write days and times, or one of the two, such as \
             \"Mon-Fri 08:00-18:00\", \"22:00-07:00\", \"Sat-Sun\" or \"Fri 18:00-Mon 08:00\"; a whole day is \"00:00-24:00\"",
        ],
    );
    let twice = "\"Léa\", ".repeat(101);
    check(
        &format!(
            "{NAMES}[[schedule]]\nname = \"ops\"\nlayer = {{ people = [{twice}], {week}, from = \"2026-12-07\" }}\n"
        ),
        &["more than 100 people | make two layers of it"],
    );
    check(
        &format!(
            "{NAMES}[[schedule]]\nname = \"ops\"\nlayer = {{ people = \"Lea\", {week}, from = \"2026-12-07\" }}\n"
        ),
        &["no person is called `Lea` | did you mean `Léa`? Otherwise declare it with [[person]]"],
    );
    check(
        &format!("{NAMES}{SCHEDULE}[[escalation]]\nname = \"default\"\nstep = [{{ schedule = \"op\" }}]\n"),
        &["no schedule is called `op` | did you mean `ops`? Otherwise declare it with [[schedule]]"],
    );
    check(
        &format!("{NAMES}[[escalation]]\nname = \"default\"\nstep = [{{ after = \"5 min\" }}]\n"),
        &["a step that tells nobody | write { schedule = \"…\" } or { person = \"…\" }"],
    );
    check(
        &format!("{NAMES}[[escalation]]\nname = \"default\"\nstep = [{{ person = [] }}]\n"),
        &["`person` is empty | write the name of a person, such as person = [\"…\"]"],
    );
    check(
        &format!(
            "{NAMES}[[escalation]]\nname = \"default\"\nstep = [{{ person = \"Léa\" }}, {{ person = \"Max\" }}]\n"
        ),
        &[
            "the step is after 0 s, and the one before it after 0 s | write how long the alert has not been acknowledged: \
           longer at each step, such as after = \"15 min\"",
        ],
    );
    check(
        "[[person]]\nname = \"Léa\"\nquiet = [\"00:00-24:00\"]\n",
        &["quiet the whole week: nothing but the critical would ever be sent | leave some hours out"],
    );
    check(
        "time_zone = \"Europe/Pari\"\n",
        &["`Europe/Pari` is not the name of a time zone | did you mean \"Europe/Paris\"?"],
    );
}

/// No name of a person stands in what is journaled of a policy.
#[test]
fn people_are_private() {
    let mut document = Document::from_text("garant.toml", &format!("{NAMES}{SCHEDULE}{ESCALATION}"));
    People::read(&mut document);
    let sources = document.finish().expect("a sound policy");
    let redacted = sources.redacted(|_| "…".to_owned());
    let text = format!("{redacted:?}");
    assert!(text.contains("ops") && text.contains("hand_over"), "{text}");
    for name in ["Léa", "Max", "Noé"] {
        assert!(!text.contains(name), "{name} in {text}");
    }
}

#[test]
fn calendars_are_as_the_standard_says() {
    let people = sound();
    let ops = people.schedule(&schedule("ops")).expect("it is declared");
    let mut swap = made("swap", "Max", "2026-12-10T00:00:00Z", "2026-12-10T06:00:00Z", "2026-12-01T00:00:00Z");
    swap.reason = "dentist; back at 6,\nreally \\o/ \u{7}".to_owned();
    let shifts = ops.shifts(interval("2026-12-09T18:00:00Z", "2026-12-10T08:00:00Z"), &[swap]);
    let made_at = time("2026-12-01T12:00:00Z");
    let text = Calendar::of_schedule(&ops.name, &shifts, "shop.example", made_at);
    let expected = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//garant//on-call schedule//EN\r\nCALSCALE:GREGORIAN\r\n\
        METHOD:PUBLISH\r\nNAME:ops\r\nX-WR-CALNAME:ops\r\nREFRESH-INTERVAL;VALUE=DURATION:PT1H\r\nX-PUBLISHED-TTL:PT1H\r\n\
        BEGIN:VEVENT\r\nUID:ops-1796835600000000@shop.example\r\nDTSTAMP:20261201T120000Z\r\nDTSTART:20261209T170000Z\r\n\
        DTEND:20261210T000000Z\r\nSUMMARY:ops: Léa\r\nTRANSP:TRANSPARENT\r\nEND:VEVENT\r\n\
        BEGIN:VEVENT\r\nUID:ops-1796860800000000@shop.example\r\nDTSTAMP:20261201T120000Z\r\nDTSTART:20261210T000000Z\r\n\
        DTEND:20261210T060000Z\r\nSUMMARY:ops: Max\r\nDESCRIPTION:Léa: dentist\\; back at 6\\,\\nreally \\\\o/ \r\n\
        TRANSP:TRANSPARENT\r\nEND:VEVENT\r\n";
    assert!(text.starts_with(expected), "{text}");
    let max =
        Calendar::of_person(&person("Max"), shifts.iter().map(|shift| (&ops.name, shift)), "shop.example", made_at);
    assert_eq!(max.matches("BEGIN:VEVENT").count(), 1, "{max}");
    let empty = Calendar::of_person(&person("Zoé"), [], "shop.example", made_at);
    assert!(empty.contains("BEGIN:VTIMEZONE") && empty.ends_with("END:VCALENDAR\r\n"), "{empty}");

    let long = Calendar::new(&"é,".repeat(200), "shop.example", made_at).finish();
    assert!(long.split("\r\n").all(|line| line.len() <= 75), "{long}");
    assert!(long.replace("\r\n ", "").contains(&"é\\,".repeat(200)));
}
