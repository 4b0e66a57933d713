//! `kill -9` at any instant loses nothing that was acknowledged, and leaves no half of what was not.
//!
//! The test starts itself as a child that appends and prints what was acknowledged, kills it, and looks.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use event::{Envelope, Retention};

use super::{open, options, temporary};
use crate::conformance::{self, ManualClock, START, Subject, journal_cases, signing_key};
use crate::sqlite::Sqlite;
use crate::{Journal as _, Projections as _};

const DIR: &str = "GARANT_STORE_TEST_DIR";
const ROUND: &str = "GARANT_STORE_TEST_ROUND";
const WRITERS: u8 = 8;

/// Not a test by itself: what the child process does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let (Ok(dir), Ok(round)) = (std::env::var(DIR), std::env::var(ROUND)) else { return };
    let round: u8 = round.parse().expect("a number");
    let store = match open(Path::new(&dir)) {
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
    let mut cursor = store.load("judge").await.expect("readable").map(|saved| saved.cursor);
    loop {
        let next = cursor.map_or(0, |cursor| cursor + 1);
        store.save("judge", cursor, next, next.to_be_bytes().repeat(1000)).await.expect("saved");
        println!("saved {next}");
        cursor = Some(next);
    }
}

fn start(dir: &Path, round: u8) -> Child {
    #[expect(clippy::disallowed_methods, reason = "the child is this test itself, and it has to be killed")]
    let mut command = std::process::Command::new(std::env::current_exe().expect("a test has a file"));
    command
        .args(["sqlite::tests::killed::child", "--exact", "--nocapture"])
        .env(DIR, dir)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the child starts")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost() {
    let dir = temporary();
    let mut acknowledged: BTreeMap<u64, String> = BTreeMap::new();
    let mut saved = None;
    for round in 0..10 {
        let mut child = start(dir.path(), round);
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let reader = std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>());
        // From before the log is open to far into appending.
        std::thread::sleep(Duration::from_millis(15 + u64::from(round) * 37));
        child.kill().expect("killed");
        child.wait().expect("gone");
        for line in reader.join().expect("no panic") {
            let mut words = line.split(' ');
            match (words.next(), words.next(), words.next()) {
                (Some("ack"), Some(place), Some(text)) => {
                    let place = place.parse().expect("a place");
                    assert_eq!(acknowledged.insert(place, text.to_owned()), None, "place {place} given twice");
                }
                (Some("saved"), Some(cursor), None) => saved = cursor.parse().ok(),
                _ => assert!(!line.starts_with("refused"), "{line}"),
            }
        }
        check(dir.path(), &acknowledged, saved).await;
    }
    assert!(acknowledged.len() > 200, "only {} entries were acknowledged: the test shows little", acknowledged.len());
}

async fn check(dir: &Path, acknowledged: &BTreeMap<u64, String>, saved: Option<u64>) {
    let clock = ManualClock::at(START);
    let store = Sqlite::open(options(dir, &clock)).expect("it opens after a kill: the tree is that of the head");
    let subject = Subject {
        journal: Arc::clone(&store) as _,
        projections: Arc::clone(&store) as _,
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
    if let Some(projection) = store.load("judge").await.expect("readable") {
        assert!(saved.is_none_or(|saved| projection.cursor >= saved), "{} after {saved:?}", projection.cursor);
        assert_eq!(projection.state, projection.cursor.to_be_bytes().repeat(1000), "state and cursor agree");
    } else {
        assert_eq!(saved, None);
    }
}

#[tokio::test]
async fn a_second_process_is_refused_and_told_who_is_there() {
    let dir = temporary();
    let _first = open(dir.path()).expect("a new directory");
    let output = start(dir.path(), 0).wait_with_output().expect("it ends by itself");
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    let holder = format!("process {} since 2026-11-22T10:00:30Z", std::process::id());
    assert!(output.contains("refused") && output.contains(&holder), "{output}");
}
