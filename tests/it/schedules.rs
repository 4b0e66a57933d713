//! On-call schedules and quiet hours, compared with the zones and the calendar of Python; calendars, read by Python's icalendar.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use drawn::Draws;
use event::{Day, Interval, Span, Time};
use policy::Document;
use respond::people::{Calendar, Override, People, Shift, ShiftSource};
use serde_json::{Value, json};

use crate::harness::{command, number, python, transcript};

/// Zones, and a day of each on which its clock is set forward or back, or that it leaves out.
const DAYS: &[(&str, &str)] = &[
    ("UTC", "2026-06-01"),
    ("Europe/Paris", "2026-03-29"),
    ("Europe/Paris", "2026-10-25"),
    ("America/New_York", "2026-03-08"),
    ("America/New_York", "2026-11-01"),
    ("Australia/Lord_Howe", "2026-04-05"),
    ("Australia/Lord_Howe", "2026-10-04"),
    // Back for Ramadan, and forward after it.
    ("Africa/Casablanca", "2025-02-23"),
    ("Africa/Casablanca", "2025-04-06"),
    // At midnight: back into the day before, and over the first hour of a day.
    ("America/Sao_Paulo", "2018-02-18"),
    ("America/Sao_Paulo", "2018-11-04"),
    ("Asia/Beirut", "2026-10-25"),
    // 2011-12-30 was left out.
    ("Pacific/Apia", "2011-12-30"),
    ("Pacific/Apia", "2012-04-01"),
];

const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const DAY_MINUTES: i64 = 24 * 60;

/// Runs the script, with `input` on its standard input.
fn asked(python: &Path, word: &str, input: &[u8]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("verify-python/schedules.py");
    let mut child = command(python);
    child.arg(script).arg(word).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().expect("Python starts");
    let mut stdin = child.stdin.take().expect("piped");
    let output = std::thread::scope(|scope| {
        // Both at once: neither pipe holds everything.
        scope.spawn(move || drop(stdin.write_all(input)));
        child.wait_with_output().expect("it ends")
    });
    assert!(output.status.success(), "{}", transcript(&output));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn clock(minutes: i64) -> String {
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

/// Most often in the small hours, in which clocks are set.
fn minutes(draws: &mut Draws) -> i64 {
    match draws.below(3) {
        0 => draws.below(DAY_MINUTES),
        1 => draws.below(8) * 30,
        _ => draws.below(4 * 60),
    }
}

/// A part of the week: as the policy writes it, and what it means.
fn window(draws: &mut Draws) -> (String, Value) {
    let (from, to) = (minutes(draws), minutes(draws));
    let first: usize = draws.below(7);
    let ahead: usize = draws.below(7);
    let range: Vec<bool> = (0..7).map(|day| (day + 7 - first) % 7 <= ahead).collect();
    let days = format!("{}-{}", WEEKDAYS[first], WEEKDAYS[(first + ahead) % 7]);
    let end = if to > from { to } else { to + DAY_MINUTES };
    let (text, days, from, to) = match draws.below(4) {
        0 if from != to => (format!("{}-{}", clock(from), clock(to)), vec![true; 7], from, end),
        1 if from != to => (format!("{days} {}-{}", clock(from), clock(to)), range, from, end),
        2 => {
            let only_first: Vec<bool> = (0..7).map(|day| day == first).collect();
            let last = WEEKDAYS[(first + ahead) % 7];
            let until = to + i64::try_from(ahead).expect("a few days") * DAY_MINUTES;
            let until = if until > from { until } else { until + 7 * DAY_MINUTES };
            (format!("{} {}-{last} {}", WEEKDAYS[first], clock(from), clock(to)), only_first, from, until)
        }
        _ => (days, range, 0, DAY_MINUTES),
    };
    (text, json!({"days": days, "from": from, "to": to}))
}

fn windows(draws: &mut Draws, most: usize) -> (String, Value) {
    let drawn: Vec<_> = (0..draws.below(most + 1)).map(|_| window(draws)).collect();
    let (texts, meanings): (Vec<_>, Vec<_>) = drawn.into_iter().unzip();
    (format!("{texts:?}"), Value::Array(meanings))
}

/// A drawn schedule: the policy, and the question to Python without its instants.
fn schedule(draws: &mut Draws, zone: &str, day: Day) -> (String, Value) {
    let mut layers = Vec::new();
    let mut meanings = Vec::new();
    for _ in 0..=draws.below(3) {
        let people: Vec<usize> = (0..=draws.below(4)).map(|_| draws.below(5)).collect();
        let names: Vec<String> = people.iter().map(|index| format!("p{index}")).collect();
        // Begun some time ago, or about to begin.
        let from = day.days() + 2 - draws.below::<i64>(40);
        let date = Day::from_days(from).to_string();
        // 1970-01-01 was a Thursday.
        let weekday = WEEKDAYS[usize::try_from((from + 3).rem_euclid(7)).expect("of seven")];
        let (hand_over, count) = (minutes(draws), 1 + draws.below::<i64>(4));
        let (every, days, when) = match draws.below(4) {
            0 => ("day".to_owned(), 1, clock(hand_over)),
            1 => (format!("{count} days"), count, clock(hand_over)),
            2 => ("week".to_owned(), 7, format!("{weekday} {}", clock(hand_over))),
            _ => (format!("{count} weeks"), 7 * count, format!("{weekday} {}", clock(hand_over))),
        };
        let (only, only_means) = windows(draws, 2);
        layers.push(format!(
            "{{ people = {names:?}, every = \"{every}\", hand_over = \"{when}\", from = \"{date}\", only = {only} }}"
        ));
        meanings.push(json!({
            "people": names, "days": days, "hand_over": hand_over, "from": date, "only": only_means,
        }));
    }
    let (mut quiet, mut quiet_means) = windows(draws, 3);
    let people: Vec<String> = (1..5).map(|index| format!("[[person]]\nname = \"p{index}\"\n")).collect();
    let people = people.concat();
    let policy = |quiet: &str| {
        format!(
            "time_zone = \"{zone}\"\n[[person]]\nname = \"p0\"\nquiet = {quiet}\n{people}[[schedule]]\nname = \"ops\"\nlayer = [{}]\n",
            layers.join(",\n")
        )
    };
    if read(&policy(&quiet)).is_none() {
        // The whole week is refused.
        (quiet, quiet_means) = ("[]".to_owned(), json!([]));
    }
    (policy(&quiet), json!({"zone": zone, "layers": meanings, "quiet": quiet_means}))
}

fn read(policy: &str) -> Option<People> {
    let mut document = Document::from_text("garant.toml", policy);
    let people = People::read(&mut document);
    match document.finish() {
        Ok(_) => Some(people),
        Err(mistakes) => {
            assert!(mistakes.list().iter().all(|mistake| mistake.reason().starts_with("quiet")), "{policy}{mistakes}");
            None
        }
    }
}

fn overrides(draws: &mut Draws, around: Interval) -> Vec<Override> {
    let made = |index: i64, draws: &mut Draws| {
        let start = around.start + Span::from_micros(draws.below(around.length().micros()));
        let length = Span::from_secs(60 * (1 + draws.below::<i64>(2 * DAY_MINUTES)));
        Override {
            id: index.to_string(),
            schedule: "ops".parse().expect("a name"),
            person: format!("p{}", draws.below(5)).parse().expect("a name"),
            interval: Interval::new(start, start + length),
            by: String::new(),
            reason: String::new(),
            // Each of another time, in no order.
            made_at: Time::from_micros(draws.below::<i64>(1_000_000) * 10 + index),
        }
    };
    (0..draws.below(4)).map(|index| made(index, draws)).collect()
}

/// WA-4: who is on call, and who is not to be disturbed, at drawn instants and at every hand-over around days on which the clock
/// is set; and nobody, where it is nobody.
#[test]
fn who_is_on_call_is_what_python_says() {
    let Some(python) = python() else { return };
    let mut draws = Draws::from_environment();
    let mut drawn = Vec::new();
    let mut input = Vec::new();
    for round in 0..usize::try_from(number("GARANT_SCHEDULES", 150)).expect("a number") {
        let (zone, date) = DAYS[round % DAYS.len()];
        let noon = Time::parse_rfc3339(&format!("{date}T12:00:00Z")).expect("a day");
        let (policy, mut question) = schedule(&mut draws, zone, noon.day());
        let people = read(&policy).expect("a sound policy");
        let ops = &people.schedules[0];
        let near = Interval::new(noon - Span::from_days(4), noon + Span::from_days(4));
        let overrides = overrides(&mut draws, near);
        let mut instants = BTreeSet::new();
        for _ in 0..60 {
            instants.insert(near.start + Span::from_micros(draws.below(near.length().micros())));
        }
        for _ in 0..20 {
            instants.insert(noon + Span::from_secs(draws.below::<i64>(500 * 86_400) - 50 * 86_400));
        }
        for half_hour in -48..48 {
            instants.insert(noon + Span::from_secs(half_hour * 1800));
        }
        // On both sides of what we say is an edge.
        let shifts = ops.shifts(near, &overrides);
        let gaps = ops.gaps(near, &overrides);
        let edges = shifts.iter().map(|shift| shift.interval).chain(gaps.intervals().iter().copied());
        let mut edges: Vec<Time> = edges.flat_map(|interval| [interval.start, interval.end]).collect();
        let lulls: Vec<Time> = instants.iter().filter_map(|at| people.hours[0].quiet.ends(*at)).collect();
        edges.extend(lulls);
        instants.extend(edges.iter().flat_map(|edge| [*edge, *edge - Span::from_micros(1)]));

        // The list of shifts, the gaps and the answer for an instant are one thing.
        for at in instants.iter().filter(|at| near.start <= **at && **at < near.end) {
            let inside: Vec<&Shift> =
                shifts.iter().filter(|shift| shift.interval.start <= *at && *at < shift.interval.end).collect();
            let now = ops.on_call(*at, &overrides);
            assert_eq!(inside, now.iter().collect::<Vec<_>>(), "{at} in\n{policy}{overrides:#?}");
            assert_eq!(gaps.contains(*at), now.is_none(), "{at} in\n{policy}");
        }

        let instants: Vec<Time> = instants.into_iter().collect();
        let made = |made: &Override| {
            json!({
                "person": made.person.as_str(), "made_at": made.made_at.micros(),
                "start": made.interval.start.micros(), "end": made.interval.end.micros(),
            })
        };
        question["overrides"] = overrides.iter().map(made).collect();
        question["instants"] = instants.iter().map(|at| at.micros()).collect();
        writeln!(input, "{question}").expect("a text grows");
        drawn.push((policy, people, overrides, instants));
    }
    let answers = asked(&python, "on-call", &input);
    let answers: Vec<Value> = answers.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(answers.len(), drawn.len());
    let (mut on_call, mut nobody, mut quiet) = (0, 0, 0);
    for ((policy, people, overrides, instants), answer) in drawn.iter().zip(&answers) {
        for (index, at) in instants.iter().enumerate() {
            let ours = people.schedules[0].on_call(*at, overrides);
            let ours = ours.as_ref().map(|shift| shift.person.as_str());
            assert_eq!(ours, answer["on_call"][index].as_str(), "{at} in\n{policy}{overrides:#?}");
            let is_quiet = people.hours[0].quiet.is_quiet(*at);
            assert_eq!(Some(is_quiet), answer["quiet"][index].as_bool(), "quiet at {at} in\n{policy}");
            on_call += usize::from(ours.is_some());
            nobody += usize::from(ours.is_none());
            quiet += usize::from(is_quiet);
        }
    }
    assert!(on_call > 0 && nobody > 0 && quiet > 0, "{on_call} {nobody} {quiet}");
}

/// What a calendar program reads is what was written: the same events under the same identifiers, and every text as it was.
#[test]
fn icalendar_reads_our_calendars() {
    let Some(python) = python() else { return };
    let mut draws = Draws::from_environment();
    let policy = "[[person]]\nname = \"Léa, dite « L\\\\; »\"\n[[person]]\nname = \"Max\"\n[[schedule]]\nname = \"ops\"\n\
         time_zone = \"Europe/Paris\"\nlayer = [{ people = [\"Léa, dite « L\\\\; »\", \"Max\"], every = \"day\", \
         hand_over = \"02:30\", from = \"2026-03-01\", only = \"Fri-Mon\" }]\n";
    let people = read(policy).expect("a sound policy");
    let ops = &people.schedules[0];
    let spring = Interval::new(time("2026-03-20T00:00:00Z"), time("2026-04-20T00:00:00Z"));
    let swap = Override {
        id: "swap".to_owned(),
        schedule: ops.name.clone(),
        person: "Max".parse().expect("a name"),
        interval: Interval::new(time("2026-03-29T00:15:00Z"), time("2026-03-29T04:00:00Z")),
        by: "Léa".to_owned(),
        reason: (0..200).map(|_| draws.pick(&[';', ',', '\\', '\n', 'n', ':', '"', ' ', 'é', '🚨', 'x'])).collect(),
        made_at: time("2026-03-19T00:00:00Z"),
    };
    let shifts = ops.shifts(spring, std::slice::from_ref(&swap));
    let made_at = time("2026-03-20T00:00:00Z");
    let read_back = |text: &str| -> Vec<Value> {
        assert!(text.split("\r\n").all(|line| line.len() <= 75 && !line.contains(['\n', '\r'])), "{text}");
        serde_json::from_str(&asked(&python, "calendar", text.as_bytes())).expect("JSON")
    };
    let expected = |shift: &Shift| {
        let Interval { start, end } = shift.interval;
        let description = match &shift.source {
            ShiftSource::Override { by, reason, .. } => format!("{by}: {reason}"),
            ShiftSource::Layer { .. } => String::new(),
        };
        json!({
            "uid": format!("ops-{}@shop.example", start.micros()), "summary": format!("ops: {}", shift.person),
            "start": start.micros() / 1_000_000, "end": end.micros() / 1_000_000,
            "made_at": made_at.micros() / 1_000_000, "description": description,
        })
    };
    let all = read_back(&Calendar::of_schedule(&ops.name, &shifts, "shop.example", made_at));
    assert_eq!(all, shifts.iter().map(expected).collect::<Vec<_>>());
    let uids: BTreeSet<&str> = all.iter().filter_map(|event| event["uid"].as_str()).collect();
    assert!(uids.len() == shifts.len() && shifts.len() > 10, "{uids:?}");

    let lea = &people.hours[0].person;
    let of_lea = shifts.iter().filter(|shift| shift.person == *lea).map(expected).collect::<Vec<_>>();
    let named = shifts.iter().map(|shift| (&ops.name, shift));
    assert_eq!(read_back(&Calendar::of_person(lea, named, "shop.example", made_at)), of_lea);
    assert!(!of_lea.is_empty());
    let none = Calendar::of_schedule(&ops.name, &[], "shop.example", made_at);
    assert_eq!(read_back(&none), Vec::<Value>::new(), "an empty calendar is one");
}

fn time(text: &str) -> Time {
    Time::parse_rfc3339(text).expect("RFC 3339")
}
