use std::fs;

use store::Reading;

use super::*;
use crate::source::testing::{ask, plain};

/// A `/proc` in which the processors were busy for so many of a hundred ticks, and the memory is used by so many percent.
fn look_at(busy: u64, memory: u64, mdstat: Option<&str>) -> Look {
    let proc = tempfile::tempdir().expect("a directory");
    fs::write(proc.path().join("stat"), format!("cpu  {busy} 0 0 {} 0 0 0 0 0 0\n", 100 - busy)).expect("written");
    let meminfo = format!("MemTotal: 100 kB\nMemAvailable: {} kB\n", 100 - memory);
    fs::write(proc.path().join("meminfo"), meminfo).expect("written");
    if let Some(text) = mdstat {
        fs::write(proc.path().join("mdstat"), text).expect("written");
    }
    look(proc.path(), &[PathBuf::from("/")]).expect("readable")
}

fn machine() -> Machine {
    let limit = Ppb::new(800_000_000);
    let limits = Limits { cpu: limit, memory: limit, disk: limit, lasting: Span::from_secs(300) };
    Machine { limits, disks: Vec::new(), ticks: Mutex::new(None), reading: Arc::default() }
}

fn level_of(answer: &Answer, finding: &str) -> Option<Level> {
    answer.symptoms.iter().find(|symptom| symptom.finding.as_str() == finding).map(|symptom| symptom.level)
}

/// WA-2: at 80 % it is a finding, at 75 % it may still be, below it is over; RAID at once.
#[test]
fn figures_become_symptoms() {
    for (memory, expect) in [(80, Level::High), (79, Level::Between), (75, Level::Between), (74, Level::Low)] {
        let answer = machine().answer(&look_at(0, memory, None));
        assert_eq!(level_of(&answer, "memory-usage"), Some(expect), "{memory} %: {}", answer.text);
        assert_eq!(answer.reading, Reading::Up, "a full machine is a finding, not an outage");
    }
    let degraded = machine().answer(&look_at(0, 0, Some(include_str!("fixtures/mdstat-degraded"))));
    assert_eq!(level_of(&degraded, "raid-degraded"), Some(Level::High));
    assert!(degraded.text.contains("RAID md1: 1 of 2 members work"), "{}", degraded.text);
    let healthy = machine().answer(&look_at(0, 0, Some(include_str!("fixtures/mdstat-healthy"))));
    assert_eq!(level_of(&healthy, "raid-degraded"), Some(Level::Low));
    assert!(level_of(&healthy, "disk-usage").is_some());
}

#[test]
fn use_of_processors_is_a_difference() {
    let machine = machine();
    let earlier = CpuTicks::parse("cpu  0 0 0 0 0 0 0 0").expect("ticks");
    let first = machine.answer(&Look { ticks: earlier, ..look_at(0, 0, None) });
    assert_eq!((first.value, level_of(&first, "cpu-usage")), (None, None), "nothing to compare with yet");
    let second = machine.answer(&look_at(90, 0, None));
    assert_eq!((second.value, level_of(&second, "cpu-usage")), (Some(9_000), Some(Level::High)));
}

#[test]
fn what_can_not_be_read_is_unknown() {
    let proc = tempfile::tempdir().expect("a directory");
    let reason = look(proc.path(), &[]).err().expect("an empty directory");
    assert!(reason.contains("stat can't be read"), "{reason}");
    let nowhere = disk_share(Path::new("/nonexistent/garant")).expect_err("no such directory");
    assert!(nowhere.contains("/nonexistent/garant"), "{nowhere}");
}

#[tokio::test]
async fn this_machine_can_be_looked_at() {
    let answer = ask(&plain(), "host", "disk = \"99.9 %\"\ndisks = [\"/\"]").await;
    assert_eq!(answer.reading, Reading::Up, "{}", answer.text);
    assert!(answer.text.contains("memory "), "{}", answer.text);
    assert!(answer.text.contains("disk of / "), "{}", answer.text);
}

/// A file system that hangs holds one thread, not one more at each turn.
#[tokio::test]
async fn a_look_that_hangs_is_not_repeated() {
    let machine = machine();
    machine.reading.store(true, Ordering::Release);
    let (net, clock) = (plain(), engine::clock::SimClock::starting_at(event::Time::from_secs(0)));
    let asking = Asking { net: &net, clock: &clock, timeout: Span::from_secs(1) };
    let answer = machine.ask(&asking).await;
    assert_eq!(answer.reading, Reading::Unknown);
    machine.reading.store(false, Ordering::Release);
    assert_eq!(machine.ask(&asking).await.reading, Reading::Up);
    assert_eq!(machine.ask(&asking).await.reading, Reading::Up, "the flag is lowered after each look");
}
