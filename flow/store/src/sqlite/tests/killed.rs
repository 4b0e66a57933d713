//! `kill -9` at any instant loses nothing that was acknowledged, and leaves no half of what was not.
//!
//! A test starts itself as a child that appends and prints what was acknowledged, kills it, and looks. Fixed instants would
//! find again and again what they found the first time, so they are drawn. The seed is printed, and the same in each
//! ordinary run; `scripts/campaign kill N` draws another, and N instants.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use drawn::Draws;
use event::{Envelope, Retention};

use super::{open, options, temporary};
use crate::conformance::{self, ConformanceSubject, ManualClock, START, journal_cases, signing_key};
use crate::sqlite::Sqlite;
use crate::{Append as _, Consumers as _, Entry, Row, Rows as _, Step};

const DIR: &str = "GARANT_STORE_TEST_DIR";
const ROUND: &str = "GARANT_STORE_TEST_ROUND";
const KILLS: &str = "GARANT_KILLS";
const WRITERS: u8 = 8;
/// Boot of the consumer that steps: above the runs of all writers.
const STEPPING_BOOT: u8 = 200;
/// Kills of one directory before the next is begun: what is checked grows with each.
const ROUNDS: u8 = 10;
/// Latest kill while the log is being opened, in µs: from before it is open to the first entries.
const OPENING_US: u64 = 40_000;
/// Latest kill while entries are appended, in µs.
const INSTANTS_US: u64 = 400_000;

/// The directory and the round of a child; `None` in the test itself.
fn told() -> Option<(PathBuf, u8)> {
    let round = std::env::var(ROUND).ok()?.parse().expect("a number");
    Some((std::env::var_os(DIR).expect("a directory").into(), round))
}

/// A number from the environment.
fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// The work of a child: appends and steps, and prints what was acknowledged, until it is killed.
async fn append_for_ever(dir: &Path, round: u8) {
    let store = match open(dir) {
        Ok(store) => store,
        Err(refused) => return println!("refused {refused}"),
    };
    let mut tasks = Vec::new();
    for writer in 0..WRITERS {
        let store = Arc::clone(&store);
        tasks.push(tokio::spawn(async move {
            for sequence in 0.. {
                let boot = round * WRITERS + writer;
                let class = if sequence % 2 == 0 { Retention::Evidence } else { Retention::Audit };
                let text = format!("{boot}/{sequence}");
                let event = conformance::event(boot, sequence, class, &text);
                let place = store.append(vec![event]).await.expect("appended")[0];
                println!("ack {place} {text}");
            }
        }));
    }
    step_for_ever(store, round).await;
}

/// Each step journals one event, names it in a row of its own, and removes the row of the step before last.
async fn step_for_ever(store: Arc<Sqlite>, round: u8) {
    let boot = STEPPING_BOOT + round;
    let mut from = store.position("stepper").await.expect("readable");
    for sequence in 0.. {
        let to = from.map_or(0, |from| from + 1);
        let put = Row::Put { key: format!("{to:020}"), value: format!("{boot}/{sequence}").into_bytes() };
        let delete = to.checked_sub(2).map(|old| Row::Delete { key: format!("{old:020}") });
        let events = vec![conformance::event(boot, sequence, Retention::Evidence, &format!("{boot}/{sequence}"))];
        let rows = std::iter::once(put).chain(delete).collect();
        store.step(Step { consumer: "stepper", from, to, rows, events }).await.expect("made");
        println!("stepped {to}");
        from = Some(to);
    }
}

/// Starts the test of that name once more, as a child on `dir`.
fn start(test: &str, dir: &Path, round: u8) -> Child {
    #[expect(clippy::disallowed_methods, reason = "the child is this test itself, and it has to be killed")]
    let mut command = std::process::Command::new(std::env::current_exe().expect("a test has a file"));
    command
        .args([&format!("sqlite::tests::killed::{test}"), "--exact", "--nocapture"])
        .env(DIR, dir)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the child starts")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost() {
    if let Some((dir, round)) = told() {
        return append_for_ever(&dir, round).await;
    }
    let kills = number(KILLS, u64::from(ROUNDS));
    println!("{KILLS}={kills}");
    let mut draws = Draws::from_environment();
    let (mut left, mut acknowledged, mut in_vain) = (kills, 0, 0);
    while left > 0 {
        let rounds = u8::try_from(left).map_or(ROUNDS, |left| left.min(ROUNDS));
        left -= u64::from(rounds);
        let dir = temporary();
        let mut life = Life::default();
        for round in 0..rounds {
            // Opening is the shorter part of a life, and gets half of the kills.
            let span_us = if draws.below(2) == 0 { OPENING_US } else { INSTANTS_US };
            let instant = Duration::from_micros(draws.below(span_us));
            let before = life.acknowledged.len();
            let child = start("nothing_acknowledged_is_lost", dir.path(), round);
            life.end(child, instant);
            in_vain += usize::from(life.acknowledged.len() == before);
            println!("killed after {instant:?}, {} acknowledged", life.acknowledged.len() - before);
            check(dir.path(), &life).await;
        }
        acknowledged += life.acknowledged.len() as u64;
    }
    println!("{acknowledged} entries were acknowledged; {in_vain} of {kills} kills came before the first of a child");
    assert!(acknowledged > 5 * kills, "only {acknowledged} entries were acknowledged: the test shows little");
}

/// The acknowledgements of all children of one directory.
#[derive(Default)]
struct Life {
    acknowledged: BTreeMap<u64, String>,
    stepped: Option<u64>,
}

impl Life {
    /// Kills the child at that instant after its start, and reads its acknowledgements.
    fn end(&mut self, mut child: Child, instant: Duration) {
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let reader = std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>());
        #[expect(clippy::disallowed_methods, reason = "the child lives in real time")]
        std::thread::sleep(instant);
        child.kill().expect("killed");
        child.wait().expect("gone");
        for line in reader.join().expect("no panic") {
            let mut words = line.split(' ');
            match (words.next(), words.next(), words.next()) {
                (Some("ack"), Some(place), Some(text)) => {
                    let place = place.parse().expect("a place");
                    assert_eq!(self.acknowledged.insert(place, text.to_owned()), None, "place {place} given twice");
                }
                (Some("stepped"), Some(cursor), None) => self.stepped = cursor.parse().ok(),
                _ => assert!(!line.starts_with("refused"), "{line}"),
            }
        }
    }
}

async fn check(dir: &Path, life: &Life) {
    let Life { acknowledged, stepped } = life;
    let clock = ManualClock::at(START);
    let store = Sqlite::open(options(dir, &clock)).expect("it opens after a kill: the tree is that of the head");
    let subject = ConformanceSubject {
        journal: Arc::clone(&store) as _,
        consumers: Arc::clone(&store) as _,
        samples: Arc::clone(&store) as _,
        clock,
        vkey: signing_key(1).vkey(),
        place: Box::new(()),
    };
    let entries = journal_cases::check_whole_log(&subject).await;
    for (place, text) in acknowledged {
        let entry = usize::try_from(*place).ok().and_then(|place| entries.get(place));
        let payload = entry.and_then(|entry| entry.payload.as_ref()).unwrap_or_else(|| panic!("entry {place} is lost"));
        let envelope = Envelope::decode(&payload.bytes).expect("an envelope");
        assert_eq!(envelope.body.get(), format!("\"{text}\""), "entry {place}");
    }
    check_steps(&store, &entries, *stepped).await;
}

/// A row exists if and only if the event of its step does, but for the rows that later steps removed.
async fn check_steps(store: &Sqlite, entries: &[Entry], stepped: Option<u64>) {
    let payloads = entries.iter().filter_map(|entry| entry.payload.as_ref());
    let envelopes = payloads.map(|payload| Envelope::decode(&payload.bytes).expect("an envelope"));
    // The boots of the store itself are random.
    let of_steps =
        envelopes.filter(|envelope| envelope.kind == "watch.detail" && envelope.boot.bytes()[0] >= STEPPING_BOOT);
    let events: Vec<String> = of_steps.map(|envelope| envelope.body.get().trim_matches('"').to_owned()).collect();
    let position = store.position("stepper").await.expect("readable");
    assert!(position >= stepped, "{position:?} after {stepped:?}");
    assert_eq!(events.len() as u64, position.map_or(0, |cursor| cursor + 1), "one event for each step");
    let rows = store.rows("stepper", "", None, usize::MAX).await.expect("readable");
    let rows: Vec<(u64, String)> = rows
        .into_iter()
        .map(|(key, value)| (key.parse().expect("a number"), String::from_utf8(value).expect("text")))
        .collect();
    let last_two: Vec<_> = (0..).zip(events).collect();
    assert_eq!(rows, last_two[last_two.len().saturating_sub(2)..]);
}

#[tokio::test]
async fn a_second_process_is_refused_and_told_who_is_there() {
    if let Some((dir, round)) = told() {
        return append_for_ever(&dir, round).await;
    }
    let dir = temporary();
    let _first = open(dir.path()).expect("a new directory");
    let child = start("a_second_process_is_refused_and_told_who_is_there", dir.path(), 0);
    let output = child.wait_with_output().expect("it ends by itself");
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    let holder = format!("process {} since 2026-11-22T10:00:30Z", std::process::id());
    assert!(output.contains("refused") && output.contains(&holder), "{output}");
}
