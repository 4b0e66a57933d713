use super::*;

const LANE: LaneId = LaneId(0);
const OTHER: LaneId = LaneId(1);

fn at(seconds: i64) -> Time {
    Time::from_secs(seconds)
}

fn secs(time: Time) -> i64 {
    time.micros() / 1_000_000
}

fn between(start: i64, end: i64) -> Interval {
    Interval::new(at(start), at(end))
}

/// Coverage from 0 on, of lanes that are looked at this often.
fn coverage(every: &[i64]) -> CoverageRecorder {
    let mut coverage = CoverageRecorder::new(at(0));
    coverage.revise("r1", at(0));
    for (lane, &every) in (0..).zip(every) {
        coverage.add(LaneId(lane), format!("p{lane}").parse().expect("a name"), Span::from_secs(every), at(0));
    }
    coverage
}

fn look(start: i64, known: bool) -> Look {
    looking(start, start, known)
}

fn looking(start: i64, end: i64, known: bool) -> Look {
    Look { start: at(start), end: at(end), known, blind: BTreeSet::new() }
}

fn see(coverage: &mut CoverageRecorder, lane: LaneId, starts: impl IntoIterator<Item = i64>) {
    for start in starts {
        coverage.looked(lane, look(start, true), false);
    }
}

/// Start and end of the record, and its gaps: whose, of which finding, from and to.
type Told = (i64, i64, Vec<(String, i64, i64)>);

fn told(records: Vec<Covered>) -> Vec<Told> {
    let told = |record: Covered| {
        let gaps = record.gaps.iter().map(|gap| {
            let finding = gap.finding.as_ref().map(|finding| format!(" {finding}")).unwrap_or_default();
            (format!("{}{finding}", gap.probe), secs(gap.interval.start), secs(gap.interval.end))
        });
        (secs(record.interval.start), secs(record.interval.end), gaps.collect())
    };
    records.into_iter().map(told).collect()
}

fn gap(whose: &str, start: i64, end: i64) -> (String, i64, i64) {
    (whose.to_owned(), start, end)
}

#[test]
fn a_look_covers_back_and_never_forward() {
    let mut coverage = coverage(&[10, 10]);
    see(&mut coverage, LANE, (3..60).step_by(10));
    see(&mut coverage, OTHER, [3, 13, 23, 43, 53]);
    assert_eq!(told(coverage.complete(at(60))), [], "what is after the last look is open");
    see(&mut coverage, LANE, [63]);
    assert_eq!(told(coverage.complete(at(64))), [], "the record waits for all");
    see(&mut coverage, OTHER, [61]);
    let expect = vec![gap("p0", 0, 3), gap("p1", 0, 3), gap("p1", 23, 43)];
    assert_eq!(told(coverage.complete(at(65))), [(0, 60, expect)]);
    see(&mut coverage, LANE, (73..130).step_by(10));
    see(&mut coverage, OTHER, (71..130).step_by(10));
    assert_eq!(told(coverage.complete(at(130))), [(60, 120, vec![])]);
}

/// What a heartbeat was told and did not take: a gap from the first to the last of it between two looks, and no more.
#[test]
fn what_was_not_heard_is_a_gap() {
    let mut coverage = coverage(&[10, 10]);
    let micro = Span::from_micros(1);
    see(&mut coverage, LANE, [0]);
    for second in [3, 5, 4] {
        coverage.not_heard(LANE, at(second));
    }
    see(&mut coverage, LANE, [10, 20]);
    // One that waited in the queue while a look was taken counts from there on: what is decided may be written.
    coverage.not_heard(LANE, at(19));
    see(&mut coverage, LANE, [30]);
    see(&mut coverage, OTHER, (0..=30).step_by(10));
    let records = coverage.finish(at(30));
    let gaps: Vec<Interval> = records.iter().flat_map(|record| &record.gaps).map(|gap| gap.interval).collect();
    assert_eq!(gaps, [Interval::new(at(3), at(5) + micro), Interval::new(at(20), at(20) + micro)], "{records:?}");
}

/// While the first answer is under way, and the first after a gap, nobody knows the state: the gap lasts until it was there.
#[test]
fn a_first_look_covers_nothing_before_its_answer() {
    let mut coverage = coverage(&[10]);
    coverage.looked(LANE, looking(3, 8, true), false);
    coverage.looked(LANE, looking(13, 18, true), false);
    coverage.looked(LANE, looking(23, 25, false), false);
    coverage.looked(LANE, looking(33, 39, true), true);
    coverage.looked(LANE, looking(40, 44, true), false);
    coverage.looked(LANE, looking(50, 51, true), false);
    coverage.looked(LANE, looking(60, 60, true), false);
    assert_eq!(told(coverage.complete(at(61))), [(0, 60, vec![gap("p0", 0, 8), gap("p0", 13, 39)])]);
}

/// So is a finding: it is not known before the answer of the look that can tell.
#[test]
fn a_finding_is_not_known_before_the_answer_that_tells() {
    let mut coverage = coverage(&[10]);
    let blind = BTreeSet::from(["disk-usage".parse().expect("a name")]);
    coverage.looked(LANE, Look { blind, ..looking(0, 2, true) }, false);
    for start in [10, 20, 30, 40, 50, 60] {
        coverage.looked(LANE, looking(start, start + 4, true), false);
    }
    assert_eq!(told(coverage.complete(at(64))), [(0, 60, vec![gap("p0", 0, 2), gap("p0 disk-usage", 2, 14)])]);
}

/// A turn may be late by a tenth; what is further apart is unobserved, all of it.
#[test]
fn looks_cover_what_lies_between_only_in_their_turn() {
    for (second, covered) in [(10, true), (11, true), (12, false)] {
        let mut coverage = coverage(&[10]);
        see(&mut coverage, LANE, [0, second]);
        let gaps = if covered { vec![] } else { vec![gap("p0", 0, second)] };
        assert_eq!(told(coverage.finish(at(second))), [(0, second, gaps)], "{second} s apart");
    }
}

#[test]
fn a_look_that_shows_nothing_closes_nothing() {
    let mut coverage = coverage(&[10]);
    see(&mut coverage, LANE, [0, 10]);
    coverage.looked(LANE, look(14, false), false);
    // Eight seconds from the look before: nothing is known of what was between, for one in between could not see.
    see(&mut coverage, LANE, [18, 28, 38, 48, 58, 68]);
    assert_eq!(told(coverage.complete(at(70))), [(0, 60, vec![gap("p0", 10, 18)])]);
}

/// Nobody looks any more: the time is unobserved, and said to be, before verdicts have to call it late.
#[test]
fn what_nothing_closes_is_given_up() {
    let mut coverage = coverage(&[10]);
    see(&mut coverage, LANE, (0..70).step_by(10));
    assert_eq!(told(coverage.complete(at(70))), [(0, 60, vec![])]);
    let mut ends = Vec::new();
    for now in 71..1_000 {
        for record in coverage.complete(at(now)) {
            let (start, end) = (secs(record.interval.start), secs(record.interval.end));
            assert_eq!(told(vec![record]), [(start, end, vec![gap("p0", start, end)])]);
            ends.push(end);
        }
        let last = ends.last().copied().unwrap_or(60);
        assert!(now - last <= 10 + 120, "at {now} the last record ends at {last}");
    }
    assert!(ends.len() > 7, "{ends:?}");
    // A look that comes all the same covers nothing of it.
    see(&mut coverage, LANE, [1_000, 1_005]);
    let (start, end, gaps) = told(coverage.finish(at(1_005))).pop().expect("a record");
    assert_eq!((end, gaps), (1_005, vec![gap("p0", start, 1_000)]));
}

/// A first failure is one thing if it is confirmed, and nothing if it was our own.
#[test]
fn a_failure_in_doubt_holds_its_record_open() {
    for confirmed in [true, false] {
        let mut coverage = coverage(&[60]);
        see(&mut coverage, LANE, [0, 50]);
        coverage.looked(LANE, look(100, true), true);
        coverage.looked(LANE, look(101, false), true);
        coverage.looked(LANE, look(102, false), true);
        assert_eq!(told(coverage.complete(at(103))), [], "decided up to 50 s");
        let gaps = if confirmed {
            see(&mut coverage, LANE, [103, 121]);
            vec![gap("p0", 100, 103)]
        } else {
            coverage.retract(LANE);
            see(&mut coverage, LANE, [121]);
            vec![gap("p0", 60, 121)]
        };
        let mut records = told(coverage.finish(at(121)));
        let all: Vec<_> = records.iter_mut().flat_map(|record| std::mem::take(&mut record.2)).collect();
        let whole = if confirmed { gaps } else { vec![gap("p0", 50, 60), gap("p0", 60, 120), gap("p0", 120, 121)] };
        assert_eq!(all, whole, "confirmed: {confirmed}");
    }
}

/// Time in which the process stood still is in no record; what is before and after it is, if two looks are near enough.
#[test]
fn a_standstill_is_in_no_record() {
    let mut coverage = coverage(&[10, 60]);
    see(&mut coverage, LANE, (0..40).step_by(10));
    see(&mut coverage, OTHER, [0]);
    coverage.stood_still(between(34, 36));
    see(&mut coverage, LANE, [40, 50, 60]);
    assert_eq!(told(coverage.complete(at(61))), [], "the other probe waits for its turn");
    see(&mut coverage, OTHER, [58]);
    see(&mut coverage, LANE, [70]);
    assert_eq!(told(coverage.complete(at(70))), [(0, 34, vec![])]);
    coverage.stood_still(between(74, 90));
    see(&mut coverage, LANE, [95]);
    see(&mut coverage, OTHER, [110]);
    let expect = [(36, 74, vec![gap("p0", 70, 74)]), (90, 95, vec![gap("p0", 90, 95)])];
    assert_eq!(told(coverage.finish(at(95)))[..2], expect);
}

/// A machine that stops and goes for ever does not fill the memory.
#[test]
fn open_stretches_are_bounded() {
    let mut coverage = coverage(&[86_400]);
    see(&mut coverage, LANE, [0]);
    let mut records = 0;
    for n in 1..10_000 {
        coverage.stood_still(between(n * 2, n * 2 + 1));
        records += coverage.complete(at(n * 2 + 1)).len();
        assert!(coverage.classes[0].stretches.len() <= STRETCHES_MAX + 1);
    }
    assert!(records > 9_000, "each is told as a gap: {records}");
}

/// Probes that are asked seldom have records of their own, as long as they are asked seldom; none waits for them.
#[test]
fn records_are_as_long_as_probes_are_apart() {
    let mut coverage = coverage(&[10, 600, 3_600]);
    let mut records = Vec::new();
    for now in 0..=7_300 {
        for (lane, every) in [(LANE, 8), (OTHER, 500), (LaneId(2), 3_000)] {
            if now % every == 0 {
                see(&mut coverage, lane, [now]);
            }
        }
        records.extend(coverage.complete(at(now)));
        for every in [None, Some(600), Some(3_600)] {
            let of = |record: &&Covered| record.every.map(Span::secs) == every;
            let end = records.iter().rev().find(of).map_or(0, |record| secs(record.interval.end));
            assert!(now - end <= every.unwrap_or(10) + 120, "at {now}, of {every:?}, the last ends at {end}");
        }
    }
    assert!(records.iter().all(|record| record.gaps.is_empty()), "{records:?}");
    let lengths = |every: Option<i64>| -> Vec<i64> {
        let of = |record: &&Covered| record.every.map(Span::secs) == every;
        records.iter().filter(of).map(|record| record.interval.length().secs()).collect()
    };
    assert!(lengths(None).iter().all(|&length| length == 60), "{:?}", lengths(None));
    assert_eq!(lengths(Some(600)), [500; 14]);
    assert_eq!(lengths(Some(3_600)), [3_000; 2]);
}

/// A change is in a record within some seconds; when all is well, a record a minute is enough.
#[test]
fn what_would_be_lost_is_recorded_early() {
    let mut coverage = coverage(&[2]);
    let mut records = Vec::new();
    for now in 0..=100 {
        if now % 2 == 0 {
            see(&mut coverage, LANE, [now]);
        }
        if now == 20 || now == 22 {
            coverage.hurry(LANE, at(now));
        }
        records.extend(coverage.complete(at(now)).into_iter().map(|record| (now, record)));
    }
    let seen: Vec<_> = records.iter().map(|(now, r)| (*now, secs(r.interval.start), secs(r.interval.end))).collect();
    assert_eq!(seen, [(30, 0, 30), (90, 30, 90)]);
}

#[test]
fn a_finding_that_was_not_looked_for_is_a_gap_of_its_own() {
    let mut coverage = coverage(&[10]);
    let blind = |start, finding: &str| {
        let blind = BTreeSet::from([finding.parse().expect("a name")]);
        Look { blind, ..look(start, true) }
    };
    see(&mut coverage, LANE, [0, 10]);
    coverage.looked(LANE, blind(20, "disk-usage"), false);
    coverage.looked(LANE, blind(30, "disk-usage"), false);
    coverage.looked(LANE, blind(40, "raid-degraded"), false);
    coverage.looked(LANE, look(45, false), false);
    see(&mut coverage, LANE, [50, 60]);
    let gaps = vec![gap("p0", 40, 50), gap("p0 disk-usage", 10, 40), gap("p0 raid-degraded", 30, 40)];
    assert_eq!(told(coverage.complete(at(60))), [(0, 60, gaps)]);
}

/// While its uplink was dead, nobody could have seen an outage, also of a probe that was not asked meanwhile.
#[test]
fn a_dead_uplink_is_a_gap_of_who_was_not_asked() {
    let mut coverage = coverage(&[10, 60]);
    see(&mut coverage, LANE, [0, 10, 20]);
    see(&mut coverage, OTHER, [0]);
    coverage.could_not_look([LANE, OTHER].into_iter(), between(15, 40));
    see(&mut coverage, LANE, [45, 55, 65]);
    see(&mut coverage, OTHER, [60]);
    let gaps = vec![gap("p0", 20, 45), gap("p1", 15, 40)];
    assert_eq!(told(coverage.complete(at(65))), [(0, 60, gaps)]);
}

/// A reload ends the record, and loses nothing of a probe that stays.
#[test]
fn a_record_speaks_of_one_revision() {
    let mut coverage = coverage(&[10, 10]);
    see(&mut coverage, LANE, [0, 10, 20]);
    see(&mut coverage, OTHER, [0, 10, 20]);
    coverage.revise("r2", at(25));
    coverage.remove(OTHER, at(25));
    coverage.add(LaneId(2), "new".parse().expect("a name"), Span::from_secs(10), at(25));
    see(&mut coverage, LANE, [30, 40, 50, 60, 70, 80, 90]);
    see(&mut coverage, LaneId(2), [32, 42, 52, 62, 72, 82, 92]);
    let records = coverage.complete(at(92));
    assert_eq!(records.iter().map(|record| record.revision.as_str()).collect::<Vec<_>>(), ["r1", "r2"]);
    assert_eq!(told(records), [(0, 25, vec![gap("p1", 20, 25)]), (25, 85, vec![gap("new", 25, 32)])]);
    assert!(coverage.removed.is_empty());
    // All go.
    coverage.revise("r3", at(95));
    coverage.remove(LANE, at(95));
    coverage.remove(LaneId(2), at(95));
    assert_eq!(told(coverage.complete(at(96))), [(85, 95, vec![gap("p0", 90, 95), gap("new", 92, 95)])]);
    assert!(coverage.classes.is_empty() && coverage.removed.is_empty());
}

#[test]
fn after_a_step_of_the_clock_old_looks_cover_nothing() {
    let mut coverage = coverage(&[10]);
    see(&mut coverage, LANE, (0..3_610).step_by(10));
    let records = told(coverage.finish(at(3_605)));
    assert_eq!(records.len(), 61, "a record is a minute long at most");
    assert_eq!(records[60], (3_600, 3_605, vec![gap("p0", 3_600, 3_605)]));
    coverage.restart(at(5));
    see(&mut coverage, LANE, (12..70).step_by(10));
    assert_eq!(told(coverage.complete(at(72))), [], "one hour back");
    see(&mut coverage, LANE, [72]);
    assert_eq!(told(coverage.complete(at(73))), [(5, 65, vec![gap("p0", 5, 12)])]);
}

#[test]
fn nothing_to_observe_is_no_coverage() {
    let mut coverage = CoverageRecorder::new(at(0));
    coverage.revise("r1", at(0));
    assert_eq!(coverage.complete(at(120)), []);
    assert_eq!(coverage.finish(at(120)), []);
}
