//! The rounds on simulated clocks and answers: outages, quorums, suspensions, steps, reloads, and ten thousand probes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Mutex;

use async_trait::async_trait;
use engine::random::SeededRandom;
use event::evidence::State;
use event::{Clock, FindingId};
use store::Sample;

use super::*;
use crate::config::WatchOptions;
use crate::source::canary::Canary;
use crate::source::{Asking, Level, Symptom};

const S: i64 = 1_000_000;
const START: i64 = 1_800_000_000;

/// A probe that the simulation answers for.
struct Stub(Option<&'static str>);

#[async_trait]
impl Probe for Stub {
    async fn ask(&self, _: &Asking<'_>) -> Answer {
        Answer::unknown("nobody asks it")
    }

    fn target(&self) -> Option<&str> {
        self.0
    }
}

/// Clocks that a test moves.
#[derive(Default)]
struct Hands(Mutex<(i64, i64)>);

impl Hands {
    fn pass(&self, micros: i64) {
        let mut hands = self.0.lock().expect("not poisoned");
        hands.0 += micros;
        hands.1 += micros;
    }

    fn step(&self, micros: i64) {
        self.0.lock().expect("not poisoned").0 += micros;
    }
}

impl Clock for Hands {
    fn now(&self) -> Time {
        Time::from_micros(self.0.lock().expect("not poisoned").0)
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic(self.0.lock().expect("not poisoned").1)
    }
}

fn observer(name: &str) -> ObserverId {
    name.parse().expect("a name")
}

fn declared(id: &str, every: i64, timeout: i64, observers: &[&str], target: Option<&'static str>) -> Declared {
    Declared {
        id: id.parse().expect("a name"),
        kind: "stub",
        host: None,
        service: "shop".parse().expect("a name"),
        every: Span::from_secs(every),
        asked_every: Span::from_secs(every),
        timeout: Span::from_secs(timeout),
        slower_than: Some(Span::from_millis(500)),
        observers: observers.iter().map(|name| observer(name)).collect(),
        agreement: event::policy::Agreement::Majority,
        findings: Box::default(),
        settings: Arc::new(every),
        probe: Arc::new(Stub(target)),
    }
}

fn config(probes: Vec<Declared>) -> Config {
    let mut observers: Vec<ObserverId> = probes.iter().flat_map(|probe| probe.observers.to_vec()).collect();
    observers.sort_unstable();
    observers.dedup();
    let canaries = BTreeMap::new();
    let probes = probes.into_iter().map(Arc::new).collect();
    Config { revision: "r1".to_owned(), observers, canaries, probes, options: WatchOptions::default() }
}

/// What the world answers to a question asked at that instant of the monotonic clock: the reading, and after how many µs;
/// more than the timeout is none in time.
type World = Box<dyn FnMut(&ProbeId, &ObserverId, i64) -> (Reading, i64)>;

/// When it is there, number of the order, both clocks when it was asked, reading.
type UnderWay = (i64, u64, i64, i64, u8);

struct Simulation {
    hands: Arc<Hands>,
    clocks: ClockWatch,
    rounds: Rounds,
    figures: Arc<Figures>,
    world: World,
    under_way: BinaryHeap<Reverse<UnderWay>>,
    entries: Vec<(ObserverId, WatchEvent)>,
    samples: Vec<Sample>,
    /// What the answers of these probes show to detectors.
    symptoms: HashMap<&'static str, Symptom>,
    in_flight_most: usize,
    look_every: i64,
    /// Failures may as well be of the observer's own way out.
    no_way: bool,
}

/// Stands for the reading of a question that was not answered in its time.
const TIMED_OUT: u8 = u8::MAX;

impl Simulation {
    fn new(config: &Config, world: World) -> Self {
        Self::looking_every(LOOK_EVERY.micros(), config, world)
    }

    fn looking_every(look_every: i64, config: &Config, world: World) -> Self {
        let hands = Arc::new(Hands(Mutex::new((START * S, 50 * S))));
        let clock: Arc<dyn Clock> = hands.clone();
        let figures = Arc::<Figures>::default();
        let random = Arc::new(SeededRandom::new(1));
        let mut rounds = Rounds::new(Moment::of(&*clock), observer("process"), Arc::clone(&figures), random, None);
        rounds.apply(config, Moment::of(&*clock), &mut Vec::new());
        let clocks = ClockWatch::new(clock, Span::from_micros(look_every)).with_lateness_max(LOOK_LATENESS_MAX);
        let under_way = BinaryHeap::new();
        let (entries, samples) = (Vec::new(), Vec::new());
        let symptoms = HashMap::new();
        let (in_flight_most, no_way) = (0, false);
        Self {
            hands,
            clocks,
            rounds,
            figures,
            world,
            under_way,
            entries,
            samples,
            symptoms,
            in_flight_most,
            look_every,
            no_way,
        }
    }

    fn moment(&self) -> Moment {
        Moment::of(&*self.hands)
    }

    fn now(&self) -> i64 {
        self.hands.monotonic().0
    }

    fn look(&mut self) {
        let oddities = self.clocks.look();
        let mut effects = Vec::new();
        let now = self.moment();
        self.rounds.look(now, &oddities, &mut effects);
        self.perform(effects);
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        let now = self.moment();
        for effect in effects {
            match effect {
                Effect::Ask(order) => {
                    let canary: ProbeId = "canary".parse().expect("a name");
                    let asked_of_lane = |flight: &Flight| {
                        let lane = &self.rounds.lanes[&flight.lane];
                        (&lane.declared.id, &lane.observer)
                    };
                    let (probe, observer) = match self.rounds.flights.get(&order.number) {
                        Some(flight) => asked_of_lane(flight),
                        None => (&canary, &self.rounds.canaries[&order.number]),
                    };
                    let (reading, took) = match order.probe.heartbeat() {
                        Some(heartbeat) => (heartbeat.read(now.wall).reading, 0),
                        None => (self.world)(probe, observer, now.monotonic.0),
                    };
                    let took_at_most = took.min(order.timeout.micros());
                    let reading = if took > took_at_most { TIMED_OUT } else { reading as u8 };
                    let answer_at = now.monotonic.0 + took_at_most;
                    let started = (now.wall.micros(), now.monotonic.0);
                    self.under_way.push(Reverse((answer_at, order.number, started.0, started.1, reading)));
                    self.in_flight_most = self.in_flight_most.max(self.rounds.flights.len());
                }
                Effect::Journal(observer, entry) => self.entries.push((observer, entry)),
                Effect::Sample(sample) => self.samples.push(sample),
            }
        }
    }

    /// Lets time pass, as the task of the watch would live it.
    fn run(&mut self, seconds: i64) {
        let end = self.now() + seconds * S;
        loop {
            self.look();
            let answer_at = self.under_way.peek().map_or(i64::MAX, |Reverse((at, ..))| *at);
            let due_at = self.rounds.next().map_or(i64::MAX, |due| due.0);
            let wake = answer_at.min(due_at).min(self.now() + self.look_every).max(self.now());
            if wake >= end {
                self.hands.pass(end - self.now());
                return;
            }
            self.hands.pass(wake - self.now());
            self.answer();
        }
    }

    /// Hands over the answers that are there.
    fn answer(&mut self) {
        while let Some(Reverse((at, number, wall, monotonic, reading))) = self.under_way.peek().copied() {
            if at > self.now() {
                return;
            }
            self.under_way.pop();
            self.look();
            let ended = self.moment();
            let started = Moment { wall: Time::from_micros(wall), monotonic: Monotonic(monotonic) };
            let outcome = if reading == TIMED_OUT {
                OrderOutcome::TimedOut
            } else {
                let reading = Reading::ALL[usize::from(reading)];
                let lane = self.rounds.flights.get(&number).and_then(|flight| self.rounds.lanes.get(&flight.lane));
                let shown = lane.and_then(|lane| self.symptoms.get(lane.declared.id.as_str()));
                let symptoms = shown.filter(|_| reading != Reading::Unknown).cloned().into_iter().collect();
                let text = format!("{reading:?}");
                OrderOutcome::Answered(Answer { may_be_ours: self.no_way, symptoms, ..Answer::new(reading, text) })
            };
            let mut effects = Vec::new();
            self.rounds.answered(Done { number, started, ended, outcome }, ended, &mut effects);
            self.perform(effects);
        }
    }

    fn changes(&self) -> Vec<(&str, State, i64, i64)> {
        let seconds = |time: Time| (time.micros() - START * S) / S;
        let changed = |(observer, entry): &'_ (ObserverId, WatchEvent)| match entry {
            WatchEvent::Changed(changed) => {
                Some((changed.state, seconds(changed.after), seconds(changed.by), observer.clone()))
            }
            _ => None,
        };
        self.entries
            .iter()
            .filter_map(|entry| changed(entry).map(|(state, after, by, _)| (entry.0.as_str(), state, after, by)))
            .collect()
    }

    fn coverage(&self, of: &str) -> event::Spans {
        let mut covered = event::Spans::new();
        for (observer, entry) in &self.entries {
            if let WatchEvent::Covered(coverage) = entry
                && observer.as_str() == of
            {
                let gaps: event::Spans = coverage.gaps.iter().map(|gap| gap.interval).collect();
                for lived in gaps.complement(coverage.interval).intervals() {
                    covered.add(*lived);
                }
            }
        }
        covered
    }
}

fn wall(seconds: i64) -> Time {
    Time::from_secs(START + seconds)
}

/// AV-1, WA-1: an outage is down from the first failing sample, back with the first good one, and its minutes are
/// covered.
#[test]
fn an_outage_is_told_as_it_was() {
    let outage = (50 + 100) * S..(50 + 200) * S;
    let down = outage.clone();
    let world: World =
        Box::new(move |_, _, now| if down.contains(&now) { (Reading::Down, 5_000) } else { (Reading::Up, 5_000) });
    let mut simulation = Simulation::new(&config(vec![declared("front", 10, 5, &["local"], None)]), world);
    simulation.run(60);
    assert!(simulation.figures.standings()[0].1.or_before, "the first look shows what may have been so before");
    simulation.run(340);
    assert!(!simulation.figures.standings()[0].1.or_before, "it was seen to change");
    let changes = simulation.changes();
    let [(_, State::Up, ..), (_, State::Down, after, by), (_, State::Up, last_bad, back)] = changes[..] else {
        panic!("{changes:?}")
    };
    assert!((90..=100).contains(&after) && (100..=111).contains(&by), "{changes:?}");
    assert!((190..=200).contains(&last_bad) && (200..=211).contains(&back), "{changes:?}");
    let covered = simulation.coverage("local");
    assert!(covered.clip(Interval::new(wall(20), wall(360))).length() == Span::from_secs(340), "{covered:?}");
    // Every change is explained to the team.
    let details = simulation.entries.iter().filter(|(_, entry)| matches!(entry, WatchEvent::Detail(_))).count();
    assert_eq!(details, changes.len());
}

/// A first failure is confirmed after a pause by the same observer, and at once by the others: all three know within two
/// seconds, not within an interval.
#[test]
fn all_observers_confirm_at_once() {
    let failed = Arc::new(Mutex::new(None));
    let first = Arc::clone(&failed);
    let world: World = Box::new(move |_, _, now| {
        if now > 150 * S {
            first.lock().expect("not poisoned").get_or_insert(now);
            return (Reading::Down, 20_000);
        }
        (Reading::Up, 20_000)
    });
    let names = ["gravelines", "strasbourg", "witness"];
    let mut simulation = Simulation::new(&config(vec![declared("front", 60, 10, &names, None)]), world);
    simulation.run(170);
    let first = failed.lock().expect("not poisoned").expect("it failed");
    let told_by: Vec<&str> =
        simulation.changes().iter().filter(|change| change.1 == State::Down).map(|change| change.0).collect();
    assert_eq!(told_by.len(), 3, "{:?}", simulation.changes());
    for (_, state, _, by) in simulation.changes() {
        let after_first = (START + by) * S - START * S - (first - 50 * S);
        assert!(state != State::Down || after_first < 2 * S, "down by {by}, first failure at {first}");
    }
}

/// Observers call each other once, and each pauses before it asks again: six questions, not a storm.
#[test]
fn confirmation_asks_no_more_than_it_must() {
    let world: World = Box::new(|_, _, now| (if now > 150 * S { Reading::Down } else { Reading::Up }, 20_000));
    let names = ["gravelines", "strasbourg", "witness"];
    let mut simulation = Simulation::new(&config(vec![declared("front", 60, 10, &names, None)]), world);
    simulation.run(200);
    let down = |sample: &&Sample| sample.reading == Reading::Down;
    let first = simulation.samples.iter().find(down).expect("it failed").at;
    let early = |sample: &&Sample| sample.at.since(first) < Span::from_secs(2);
    let asked: Vec<_> =
        simulation.samples.iter().filter(down).filter(early).map(|sample| sample.at.since(first)).collect();
    assert_eq!(asked.len(), 6, "{asked:?}");
    assert_eq!(asked.iter().filter(|&&after| after >= Span::from_secs(1)).count(), 3, "after the pause: {asked:?}");
}

/// One observer's own trouble is its own: the others are asked, and answer.
#[test]
fn one_blind_observer_is_alone() {
    let world: World = Box::new(|_, observer, now| {
        let broken = observer.as_str() == "strasbourg" && now > 150 * S;
        (if broken { Reading::Down } else { Reading::Up }, 20_000)
    });
    let names = ["gravelines", "strasbourg", "witness"];
    let mut simulation = Simulation::new(&config(vec![declared("front", 60, 10, &names, None)]), world);
    simulation.run(300);
    let down: Vec<_> = simulation.changes().into_iter().filter(|change| change.1 != State::Up).collect();
    assert_eq!(down.len(), 1, "{down:?}");
    assert_eq!((down[0].0, down[0].1), ("strasbourg", State::Down));
}

#[test]
fn a_lost_packet_is_a_blip_and_no_outage() {
    let mut lost = false;
    let world: World = Box::new(move |_, _, now| {
        let this = !lost && now > 150 * S;
        lost |= this;
        (if this { Reading::Down } else { Reading::Up }, 10_000)
    });
    let mut simulation = Simulation::new(&config(vec![declared("front", 60, 10, &["local"], None)]), world);
    simulation.run(300);
    let states: Vec<State> = simulation.changes().iter().map(|change| change.1).collect();
    assert_eq!(states, [State::Up, State::Flapping, State::Up]);
    let (_, _, from, _) = simulation.changes()[1];
    let (_, _, _, to) = simulation.changes()[2];
    let told = simulation.entries.iter().filter_map(|(_, entry)| match entry {
        WatchEvent::Detail(detail) => Some(detail.text.as_str()),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), ["Up", "Down", "Up"], "what was wrong is told, not what was good again");
    assert!(to - from <= 60 + 2, "undecided from the sample before to the confirmation after: {from} to {to}");
}

/// The process gets SIGSTOP for five minutes with questions under way, while all is well: unproven, no false alarm.
#[test]
fn a_suspended_watch_sees_nothing_and_says_so() {
    let world: World = Box::new(|_, _, _| (Reading::Up, 2 * S));
    let probes = (0..50).map(|n| declared(&format!("p{n}"), 10, 5, &["local"], None)).collect();
    let mut simulation = Simulation::new(&config(probes), world);
    simulation.run(200);
    assert!(!simulation.under_way.is_empty(), "questions are under way");
    // Both clocks go on; whoever waited for a timeout would see one now.
    simulation.hands.pass(300 * S);
    simulation.under_way = simulation
        .under_way
        .drain()
        .map(|Reverse((at, number, wall, monotonic, _))| Reverse((at, number, wall, monotonic, Reading::Down as u8)))
        .collect();
    simulation.answer();
    simulation.run(200);
    let alarms: Vec<_> = simulation.changes().into_iter().filter(|change| change.1 != State::Degraded).collect();
    assert!(alarms.is_empty(), "{alarms:?}");
    let covered = simulation.coverage("local");
    let stopped = Interval::new(wall(200), wall(500));
    assert_eq!(covered.clip(stopped).length(), Span::ZERO, "nobody observed it");
    assert_eq!(covered.clip(Interval::new(wall(20), wall(188))).length(), Span::from_secs(168), "up to the last looks");
    assert!(covered.clip(Interval::new(wall(515), wall(660))).length() == Span::from_secs(145), "life goes on");
    // Late turns and disturbed answers are unknown, not down.
    assert_eq!(simulation.figures.counts().samples[Reading::Down as usize], 0);
    assert!(simulation.figures.counts().samples[Reading::Unknown as usize] >= 50);
}

/// Whatever stood in the way of an answer on our side makes it unknown: a suspension shorter than the timeout, an answer
/// that was there in time but read too late, a start that came too late.
#[test]
fn our_own_delays_are_not_their_outage() {
    let up_then_down =
        || -> World { Box::new(|_, _, now| if now > 150 * S { (Reading::Down, S) } else { (Reading::Up, S) }) };
    let watched = |timeout| config(vec![declared("front", 100, timeout, &["local"], None)]);
    let failing = |simulation: &mut Simulation| {
        while simulation.under_way.is_empty() || simulation.now() < 150 * S {
            simulation.hands.pass(S / 10);
            simulation.answer();
            simulation.look();
        }
    };
    // Suspended for half a minute, of a timeout of a minute.
    let mut suspended = Simulation::new(&watched(60), up_then_down());
    failing(&mut suspended);
    suspended.hands.pass(30 * S);
    suspended.answer();
    // Busy for a while: too short to be called a standstill, too long for an answer.
    let mut starved = Simulation::new(&watched(1), up_then_down());
    starved.clocks = ClockWatch::new(starved.hands.clone(), Span::from_secs(60));
    failing(&mut starved);
    starved.hands.pass(15 * S);
    starved.answer();
    // The question itself left late.
    let mut late = Simulation::new(&watched(5), up_then_down());
    failing(&mut late);
    let Some(Reverse((at, number, wall, monotonic, reading))) = late.under_way.pop() else { panic!("under way") };
    let behind = 11 * S;
    late.under_way.push(Reverse((at + behind, number, wall + behind, monotonic + behind, reading)));
    late.clocks = ClockWatch::new(late.hands.clone(), Span::from_secs(60));
    late.hands.pass(at + behind - late.now());
    late.answer();
    for simulation in [suspended, starved, late] {
        assert!(simulation.under_way.is_empty(), "answered");
        assert_eq!(simulation.samples.last().map(|sample| sample.reading), Some(Reading::Unknown));
        assert!(simulation.rounds.lanes.values().all(|lane| !lane.observe.in_doubt()));
    }
}

/// A pause of three seconds, as of a virtual machine that is being moved: answers that it missed are unknown, and the pause
/// itself is unobserved.
#[test]
fn a_short_pause_is_no_blip() {
    let world: World = Box::new(|_, _, _| (Reading::Up, S));
    let probes = (0..50).map(|n| declared(&format!("p{n}"), 10, 5, &["local"], None)).collect();
    let mut simulation = Simulation::new(&config(probes), world);
    simulation.rounds.lanes.values_mut().for_each(|lane| {
        lane.declared = Arc::new(Declared { slower_than: None, ..Declared::clone(&lane.declared) });
    });
    simulation.run(200);
    let waiting = simulation.under_way.len();
    assert!(waiting > 0, "questions are under way");
    simulation.hands.pass(3 * S);
    simulation.under_way = simulation
        .under_way
        .drain()
        .map(|Reverse((at, number, wall, monotonic, _))| Reverse((at, number, wall, monotonic, Reading::Down as u8)))
        .collect();
    simulation.answer();
    simulation.run(200);
    assert!(simulation.changes().iter().all(|change| change.1 == State::Up), "{:?}", simulation.changes());
    let counts = simulation.figures.counts();
    assert_eq!(counts.samples[Reading::Down as usize], 0);
    assert!(counts.samples[Reading::Unknown as usize] >= u64::try_from(waiting).expect("few"), "{counts:?}");
    let covered = simulation.coverage("local");
    assert_eq!(covered.clip(Interval::new(wall(200), wall(203))).length(), Span::ZERO, "nobody looked");
    assert_eq!(covered.clip(Interval::new(wall(20), wall(188))).length(), Span::from_secs(168), "{covered:?}");
    assert_eq!(covered.clip(Interval::new(wall(225), wall(320))).length(), Span::from_secs(95), "{covered:?}");
}

/// A disk of this machine that hangs is our trouble, not an outage of a service; a server that hangs is.
#[test]
fn only_who_was_asked_can_be_late() {
    struct Here;
    #[async_trait]
    impl Probe for Here {
        async fn ask(&self, _: &Asking<'_>) -> Answer {
            Answer::unknown("nobody asks it")
        }
        fn reaches_out(&self) -> bool {
            false
        }
        fn confirm(&self) -> bool {
            false
        }
    }
    for (here, expect) in [(true, vec![State::Up]), (false, vec![State::Up, State::Down])] {
        let world: World = Box::new(|_, _, now| (Reading::Up, if now > 110 * S { i64::MAX } else { 1_000 }));
        let mut probe = declared("machine", 10, 5, &["local"], None);
        if here {
            probe.probe = Arc::new(Here);
        }
        let mut simulation = Simulation::new(&config(vec![probe]), world);
        simulation.run(200);
        assert_eq!(simulation.changes().iter().map(|change| change.1).collect::<Vec<_>>(), expect);
    }
}

/// What lasts was seen to last: neither a suspension, nor unknown samples, nor turns that were skipped count.
#[test]
fn a_finding_lasts_only_while_it_is_seen() {
    let blind = 150 * S..400 * S;
    for way in ["suspended", "paused", "unknown", "seen"] {
        let unseen = blind.clone();
        let world: World = Box::new(move |_, _, now| {
            (if way == "unknown" && unseen.contains(&now) { Reading::Unknown } else { Reading::Up }, 1_000)
        });
        let mut simulation = Simulation::new(&config(vec![declared("machine", 10, 5, &["local"], None)]), world);
        let finding: FindingId = "disk-usage".parse().expect("a name");
        let symptom = |level| Symptom {
            finding: finding.clone(),
            level,
            lasting: Span::from_secs(300),
            about: Vec::new(),
            text: "disk".to_owned(),
            reasons: Vec::new(),
        };
        simulation.symptoms.insert("machine", symptom(Level::Low));
        simulation.run(60);
        simulation.symptoms.insert("machine", symptom(Level::High));
        simulation.run(40);
        // Three hundred seconds and more on the clock, but not in one piece.
        let (asleep, awake) = match way {
            "suspended" => (250, 150),
            "paused" => (12, 270),
            _ => (0, 400),
        };
        simulation.hands.pass(asleep * S);
        simulation.run(awake);
        let open = |simulation: &Simulation| {
            simulation.entries.iter().any(|(_, entry)| matches!(entry, WatchEvent::Found(finding) if finding.open))
        };
        assert_eq!(open(&simulation), way == "seen", "{way}");
        simulation.run(170);
        assert!(open(&simulation), "{way}");
    }
}

/// A second disk that fills up while the finding is open is told to the team, once.
#[test]
fn what_joins_a_finding_is_told() {
    let world: World = Box::new(|_, _, _| (Reading::Up, 1_000));
    let mut simulation = Simulation::new(&config(vec![declared("machine", 10, 5, &["local"], None)]), world);
    let full = |disks: &[&str]| Symptom {
        finding: "disk-usage".parse().expect("a name"),
        level: Level::High,
        lasting: Span::ZERO,
        about: disks.iter().map(|disk| (*disk).to_owned()).collect(),
        text: disks.join("; "),
        reasons: Vec::new(),
    };
    for disks in [&["/"][..], &["/", "/srv"]] {
        simulation.symptoms.insert("machine", full(disks));
        simulation.run(100);
    }
    let told: Vec<&str> = simulation
        .entries
        .iter()
        .filter_map(|(_, entry)| match entry {
            WatchEvent::Detail(detail) if detail.text.starts_with('/') => Some(detail.text.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(told, ["/", "/; /srv"]);
}

/// A failure that was dropped is no evidence of "up", neither in a bracket nor in a record.
#[test]
fn a_dropped_doubt_proves_nothing() {
    let world: World = Box::new(|_, _, now| (if now > 150 * S { Reading::Down } else { Reading::Up }, 10_000));
    let mut simulation = Simulation::new(&config(vec![declared("front", 60, 10, &["local"], None)]), world);
    while !simulation.rounds.lanes.values().any(|lane| lane.observe.in_doubt()) {
        simulation.look();
        simulation.hands.pass(S / 10);
        simulation.answer();
    }
    let failed = simulation.samples.last().expect("it failed").at;
    let good = simulation.samples.iter().rev().find(|sample| sample.reading == Reading::Up).expect("before").at;
    simulation.hands.pass(8 * S);
    simulation.run(300);
    let down = simulation.entries.iter().find_map(|(_, entry)| match entry {
        WatchEvent::Changed(changed) if changed.state == State::Down => Some(changed.clone()),
        _ => None,
    });
    let down = down.expect("it is down");
    assert_eq!(down.after, good, "the last sample that showed it up");
    let claimed = simulation.coverage("local").clip(Interval::new(failed + Span::from_secs(1), down.by));
    assert!(claimed.length() < Span::from_secs(2), "nothing is claimed until the next sample: {claimed:?}");
}

/// While nothing can be journaled, a service goes down: what its samples cover says nothing of the state that stands in the
/// journal.
#[test]
fn samples_that_were_told_to_nobody_cover_nothing() {
    let world: World = Box::new(|_, _, now| (if now > 200 * S { Reading::Down } else { Reading::Up }, 10_000));
    let mut simulation = Simulation::new(&config(vec![declared("front", 60, 10, &["local"], None)]), world);
    simulation.run(130);
    let now = simulation.moment();
    simulation.rounds.mute(now);
    simulation.run(130);
    let (now, mut effects) = (simulation.moment(), Vec::new());
    simulation.entries.clear();
    simulation.rounds.unmute(now, &mut effects);
    simulation.perform(effects);
    simulation.run(200);
    let covered = simulation.coverage("local");
    let first = simulation.changes().first().map(|change| (change.1, change.3)).expect("told anew");
    assert_eq!(first.0, State::Down);
    let before = covered.clip(Interval::new(wall(260), wall(first.1 - 1)));
    assert!(before.length() <= Span::from_secs(2), "{before:?} before {first:?}");
}

fn with_canary(probes: Vec<Declared>, observers: &[&str]) -> Config {
    let canary = Canary::new(&["192.0.2.1:443".parse().expect("a host and a port")]).expect("a target");
    let canaries = observers.iter().map(|name| (observer(name), Arc::new(canary.clone()))).collect();
    Config { canaries, ..config(probes) }
}

/// A dead way out is not two hundred outages: nothing is down, nothing flaps, that time is unproven, and the journal says
/// why. Another observer that has its way out goes on proving.
#[test]
fn a_dead_uplink_is_no_outage() {
    for took in [1_000, 60 * S] {
        let cut = 203 * S..500 * S;
        let world: World = Box::new(move |_, observer, now| {
            let dead = observer.as_str() == "gravelines" && cut.contains(&now);
            if dead { (Reading::Down, took) } else { (Reading::Up, 20_000) }
        });
        let both = ["gravelines", "strasbourg"];
        let probes = (0..200).map(|n| declared(&format!("site-{n}"), 10, 5, &both, None)).collect();
        let mut simulation = Simulation::new(&with_canary(probes, &both), world);
        simulation.run(900);
        let changes = simulation.changes();
        let others: Vec<_> = changes.iter().filter(|change| change.1 != State::Up).collect();
        assert!(others.is_empty(), "{others:?}");
        assert_eq!(changes.len(), 400, "each was seen to be up, once by each");

        let covered = simulation.coverage("gravelines");
        assert!(!covered.contains(wall(300)) && !covered.contains(wall(440)), "{covered:?}");
        assert!(covered.contains(wall(100)) && covered.contains(wall(600)), "{covered:?}");
        assert!(simulation.coverage("strasbourg").contains(wall(300)));
        let blind: Vec<_> = simulation
            .entries
            .iter()
            .filter_map(|(observer, entry)| match entry {
                WatchEvent::Blind(blind) => Some((observer.as_str(), blind.cause, blind.interval)),
                _ => None,
            })
            .collect();
        let [("gravelines", BlindCause::Uplink, interval)] = blind[..] else { panic!("{blind:?}") };
        assert!(interval.start >= wall(150) && interval.start <= wall(160), "the first failure: {interval:?}");
        assert!(interval.end >= wall(450) && interval.end <= wall(461), "the first canary that answers: {interval:?}");
        assert_eq!(simulation.figures.counts().cut_off, 0);
    }
}

/// A site that dies together with the canary may be dead or not: that time is unproven. It is down from when the canary
/// answers again and the site does not.
#[test]
fn a_site_that_dies_with_the_canary() {
    let world: World = Box::new(|probe, _, now| {
        let back = if probe.as_str() == "canary" { 400 } else { 700 };
        if (203 * S..back * S).contains(&now) { (Reading::Down, 1_000) } else { (Reading::Up, 20_000) }
    });
    let probes = vec![declared("front", 10, 5, &["local"], None)];
    let mut simulation = Simulation::new(&with_canary(probes, &["local"]), world);
    simulation.run(900);
    let changes = simulation.changes();
    let states: Vec<_> = changes.iter().map(|change| change.1).collect();
    assert_eq!(states, [State::Up, State::Down, State::Up], "{changes:?}");
    let told = changes[1].3;
    assert!((350..=375).contains(&told), "once the canary is back: {told}");
    let covered = simulation.coverage("local");
    assert!(!covered.contains(wall(300)) && covered.contains(wall(600)), "{covered:?}");
}

/// No way to a network is our end or theirs: a canary that answers says that it is theirs, and without one nobody knows.
#[test]
fn no_way_to_a_network_is_an_outage_only_when_a_canary_says_so() {
    for (with, expect) in [(false, vec![State::Up]), (true, vec![State::Up, State::Down])] {
        let world: World = Box::new(move |probe, _, now| {
            let down = probe.as_str() != "canary" && now > 150 * S;
            (if down { Reading::Down } else { Reading::Up }, 1_000)
        });
        let probes = vec![declared("front", 10, 5, &["local"], None)];
        let config = if with { with_canary(probes, &["local"]) } else { config(probes) };
        let mut simulation = Simulation::new(&config, world);
        simulation.no_way = true;
        simulation.run(300);
        assert_eq!(simulation.changes().iter().map(|change| change.1).collect::<Vec<_>>(), expect);
        assert_eq!(simulation.coverage("local").contains(wall(200)), with, "unproven unless somebody vouches");
    }
}

/// AV-1, WA-3: with a canary that answers, an outage is told as fast and as exactly as without one.
#[test]
fn a_canary_that_answers_delays_nothing() {
    let outcomes = [false, true].map(|with| {
        let world: World = Box::new(move |probe, _, now| {
            let down = probe.as_str() != "canary" && (200 * S..400 * S).contains(&now);
            (if down { Reading::Down } else { Reading::Up }, 20_000)
        });
        let probes = vec![declared("front", 10, 5, &["local"], None)];
        let config = if with { with_canary(probes, &["local"]) } else { config(probes) };
        let mut simulation = Simulation::new(&config, world);
        simulation.run(500);
        (simulation.changes().iter().map(|c| (c.1, c.2, c.3)).collect::<Vec<_>>(), simulation.coverage("local"))
    });
    assert_eq!(outcomes[0].0.len(), 3);
    assert_eq!(outcomes[0], outcomes[1]);
}

/// Ten thousand failing services are no reason to flood somebody else's host.
#[test]
fn canaries_are_asked_no_more_than_needed() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let world: World = Box::new(move |probe, _, now| {
        let canary = probe.as_str() == "canary";
        if canary {
            log.lock().expect("not poisoned").push(now);
        }
        (if canary { Reading::Up } else { Reading::Down }, 1_000)
    });
    let probes = (0..2_000).map(|n| declared(&format!("site-{n}"), 10, 5, &["local"], None)).collect();
    let mut simulation = Simulation::new(&with_canary(probes, &["local"]), world);
    simulation.run(100);
    let asked = asked.lock().expect("not poisoned");
    assert!(asked.windows(2).all(|two| two[1] - two[0] >= S / 10), "ten a second at most");
    // While confirmations are under way, ten a second; then one a second vouches for all.
    assert!((80..=260).contains(&asked.len()), "{}", asked.len());
    assert_eq!(simulation.changes().len(), 2_000);
}

/// A failure that is held back when the process stands still says nothing, like anything else under way.
#[test]
fn what_waits_for_a_canary_does_not_outlive_a_suspension() {
    let world: World = Box::new(|probe, _, now| match probe.as_str() {
        "canary" => (Reading::Up, 2 * S),
        _ => (if now > 150 * S { Reading::Down } else { Reading::Up }, 1_000),
    });
    let mut simulation =
        Simulation::new(&with_canary(vec![declared("front", 10, 5, &["local"], None)], &["local"]), world);
    while simulation.rounds.canaries.is_empty() {
        simulation.look();
        simulation.hands.pass(S / 10);
        simulation.answer();
    }
    simulation.hands.pass(300 * S);
    simulation.run(100);
    let changes: Vec<_> = simulation.changes().iter().map(|change| (change.1, change.3)).collect();
    assert_eq!(changes.iter().map(|change| change.0).collect::<Vec<_>>(), [State::Up, State::Down]);
    assert!(changes[1].1 > 390, "the outage is seen after the suspension, not before: {changes:?}");
}

/// A canary that is taken away, or exchanged, leaves nobody waiting.
#[test]
fn a_reload_may_take_the_canary_away() {
    let world: World = Box::new(|probe, _, now| match probe.as_str() {
        "canary" => (Reading::Down, 3 * S),
        _ => (if now > 150 * S { Reading::Down } else { Reading::Up }, 1_000),
    });
    let probes = || vec![declared("front", 10, 5, &["local"], None)];
    let mut simulation = Simulation::new(&with_canary(probes(), &["local"]), world);
    simulation.run(200);
    assert!(simulation.changes().iter().all(|change| change.1 == State::Up));
    assert_eq!(simulation.figures.counts().cut_off, 1);
    let mut effects = Vec::new();
    let now = simulation.moment();
    simulation.rounds.apply(&config(probes()), now, &mut effects);
    simulation.perform(effects);
    simulation.run(60);
    assert_eq!(simulation.figures.counts().cut_off, 0);
    assert_eq!(
        simulation.changes().last().map(|change| change.1),
        Some(State::Down),
        "nothing vouches for it any more"
    );
}

/// A failure just before a suspension is neither confirmed nor a blip: its confirmation was never asked for.
#[test]
fn a_doubt_does_not_outlive_a_suspension() {
    let mut failed = false;
    let world: World = Box::new(move |_, _, now| {
        let this = !failed && now > 150 * S;
        failed |= this;
        (if this { Reading::Down } else { Reading::Up }, 10_000)
    });
    let mut simulation = Simulation::new(&config(vec![declared("front", 10, 5, &["local"], None)]), world);
    while !simulation.rounds.lanes.values().any(|lane| lane.observe.in_doubt()) {
        simulation.look();
        simulation.hands.pass(S / 10);
        simulation.answer();
    }
    simulation.hands.pass(300 * S);
    simulation.run(100);
    assert_eq!(simulation.changes().iter().map(|change| change.1).collect::<Vec<_>>(), [State::Up]);
}

/// After a step back, what samples had covered lies in the future of the new labels: it covers nothing.
#[test]
fn labels_of_the_old_clock_cover_nothing() {
    let world: World = Box::new(|_, _, now| (if now > 250 * S { Reading::Unknown } else { Reading::Up }, 100_000));
    let mut simulation = Simulation::new(&config(vec![declared("front", 10, 5, &["local"], None)]), world);
    simulation.run(201);
    simulation.hands.step(-3600 * S);
    simulation.run(300);
    assert_eq!(simulation.coverage("local").clip(Interval::new(wall(-3600), wall(-3100))).length(), Span::ZERO);
}

/// The wall clock steps an hour, forward and back: no false alarm, the step is told, no bracket is inverted, and the labels
/// of the doubtful hour prove nothing.
#[test]
fn a_stepped_clock_starts_a_new_book() {
    for step in [3600 * S, -3600 * S] {
        let world: World = Box::new(|_, _, _| (Reading::Up, 100_000));
        let probes = vec![declared("front", 10, 5, &["local"], None), declared("back", 10, 5, &["process"], None)];
        let mut simulation = Simulation::new(&config(probes), world);
        simulation.run(200);
        simulation.hands.step(step);
        simulation.run(200);
        let steps: Vec<_> = simulation
            .entries
            .iter()
            .filter_map(|(observer, entry)| match entry {
                WatchEvent::ClockStepped(stepped) => Some((observer.as_str(), *stepped)),
                _ => None,
            })
            .collect();
        let [(who, stepped)] = steps[..] else { panic!("{steps:?}") };
        assert_eq!(who, "local", "the timekeeper tells it for the process");
        assert_eq!(stepped.to.since(stepped.from).micros(), step);
        assert_eq!(stepped.from, wall(200));
        let mut states = 0;
        for (_, entry) in &simulation.entries {
            match entry {
                WatchEvent::Changed(changed) => {
                    states += 1;
                    assert_eq!(changed.state, State::Up);
                    assert!(changed.after <= changed.by, "{changed:?}");
                }
                WatchEvent::Covered(coverage) => {
                    let doubtful = coverage.interval.intersect(stepped.doubtful());
                    // Going back, the same labels are lived a second time; the step says that they are doubtful.
                    assert!(doubtful.is_empty() || step < 0, "{coverage:?}");
                    assert!(coverage.interval.length() <= Span::from_secs(60));
                }
                _ => {}
            }
        }
        assert_eq!(states, 4, "each probe tells its state again");
    }
}

/// A job that is due every hour, with ten minutes of grace; looked at every half minute.
fn hourly() -> (Declared, Arc<Heartbeat>) {
    struct Job(Arc<Heartbeat>);
    #[async_trait]
    impl Probe for Job {
        async fn ask(&self, asking: &Asking<'_>) -> Answer {
            self.0.ask(asking).await
        }
        fn confirm(&self) -> bool {
            false
        }
        fn heartbeat(&self) -> Option<&Heartbeat> {
            Some(&self.0)
        }
    }
    let uuid = "6ba7b810-9dad-41d1-80b4-00c04fd430c8".parse().expect("a UUID");
    let heartbeat = Arc::new(Heartbeat::new(uuid, Span::from_secs(3600), Span::from_secs(600)));
    let probe = Arc::new(Job(Arc::clone(&heartbeat)));
    (Declared { probe, slower_than: None, ..declared("job", 30, 10, &["local"], None) }, heartbeat)
}

fn nothing() -> World {
    Box::new(|_, _, _| (Reading::Up, 1_000))
}

/// A step of the wall clock is no time that passed: no job is late for it, and none is given more time.
#[test]
fn a_stepped_clock_makes_no_job_late() {
    for step in [2 * 3600 * S, -2 * 3600 * S] {
        let (job, heartbeat) = hourly();
        let mut simulation = Simulation::new(&config(vec![job]), nothing());
        heartbeat.hear(engine::heartbeat::Said::Success, None, simulation.moment().wall);
        simulation.run(600);
        simulation.hands.step(step);
        simulation.run(3_000);
        let states = |simulation: &Simulation| simulation.changes().iter().map(|c| c.1).collect::<Vec<_>>();
        assert_eq!(states(&simulation), [State::Up, State::Up], "told again after {step}, and not late");
        simulation.run(660);
        assert_eq!(states(&simulation), [State::Up, State::Up, State::Down], "late when it is late");
    }
}

/// A job that was due while the process stood still, or while nothing could be journaled, may have called in vain.
#[test]
fn a_job_that_could_not_be_heard_is_not_late() {
    for stood_still in [true, false] {
        let (job, heartbeat) = hourly();
        let mut simulation = Simulation::new(&config(vec![job]), nothing());
        heartbeat.hear(engine::heartbeat::Said::Success, None, simulation.moment().wall);
        simulation.run(3_600);
        if stood_still {
            simulation.hands.pass(1_200 * S);
        } else {
            let now = simulation.moment();
            simulation.rounds.mute(now);
            simulation.run(1_200);
            simulation.entries.clear();
            let (now, mut effects) = (simulation.moment(), Vec::new());
            simulation.rounds.unmute(now, &mut effects);
            simulation.perform(effects);
        }
        simulation.run(570);
        let down = |simulation: &Simulation| simulation.changes().iter().any(|change| change.1 == State::Down);
        assert!(!down(&simulation), "{:?}", simulation.changes());
        simulation.run(90);
        assert!(down(&simulation), "its time is over: {:?}", simulation.changes());
    }
}

/// A policy change keeps what is unchanged; the record ends where the revision does.
#[test]
fn a_reload_keeps_unchanged_probes() {
    let world: World = Box::new(|_, _, _| (Reading::Up, 100_000));
    let both = config(vec![declared("stays", 10, 5, &["local"], None), declared("goes", 10, 5, &["local"], None)]);
    let mut simulation = Simulation::new(&both, world);
    simulation.run(90);
    let mut changed = declared("changes", 10, 5, &["local"], None);
    changed.settings = Arc::new("other settings");
    let next =
        Config { revision: "r2".to_owned(), ..config(vec![declared("stays", 10, 5, &["local"], None), changed]) };
    let (now, mut effects) = (simulation.moment(), Vec::new());
    simulation.rounds.apply(&next, now, &mut effects);
    simulation.perform(effects);
    simulation.run(90);
    let told: Vec<&str> = simulation
        .entries
        .iter()
        .filter_map(|(_, entry)| match entry {
            WatchEvent::Changed(changed) => Some(changed.probe.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(told.iter().filter(|probe| **probe == "stays").count(), 1, "its state went on: {told:?}");
    assert!(told.contains(&"changes"));
    for (_, entry) in &simulation.entries {
        let WatchEvent::Covered(coverage) = entry else { continue };
        let expect = if coverage.interval.start < wall(90) { "r1" } else { "r2" };
        assert_eq!(coverage.revision, expect, "{:?}", coverage.interval);
        assert!(coverage.interval.end <= wall(90) || coverage.interval.start >= wall(90));
        let stays = coverage.gaps.iter().filter(|gap| gap.probe.as_str() == "stays" && gap.interval.start > wall(11));
        assert_eq!(stays.count(), 0, "no gap through the reload: {coverage:?}");
    }
    let goes = simulation.samples.iter().filter(|s| s.probe.as_str() == "goes" && s.at > wall(91)).count();
    assert_eq!(goes, 0);
}

/// A reload that changes nothing leaves nothing in the journal: a record of coverage ends with its minute, whatever signals
/// come.
#[test]
fn a_reload_without_a_change_journals_nothing() {
    let world = || -> World { Box::new(|_, _, _| (Reading::Up, 100_000)) };
    let config = config(vec![declared("stays", 10, 5, &["local"], None)]);
    let entries = |reloads: usize| {
        let mut simulation = Simulation::new(&config, world());
        for _ in 0..100 {
            simulation.run(3);
            for _ in 0..reloads {
                let (now, mut effects) = (simulation.moment(), Vec::new());
                simulation.rounds.apply(&config, now, &mut effects);
                assert!(effects.iter().all(|effect| !matches!(effect, Effect::Journal(..))), "at {now:?}");
                simulation.perform(effects);
            }
        }
        simulation.entries.len()
    };
    assert_eq!(entries(2), entries(0));
}

/// A storage that refuses makes everything unproven, and states are told anew afterwards.
#[test]
fn what_can_not_be_journaled_is_no_evidence() {
    let world: World = Box::new(|_, _, _| (Reading::Up, 100_000));
    let mut simulation = Simulation::new(&config(vec![declared("front", 10, 5, &["local"], None)]), world);
    simulation.run(130);
    let now = simulation.moment();
    simulation.rounds.mute(now);
    simulation.entries.clear();
    simulation.run(120);
    assert!(
        !simulation.entries.iter().any(|(_, entry)| matches!(entry, WatchEvent::Covered(_))),
        "no evidence while mute"
    );
    let (now, mut effects) = (simulation.moment(), Vec::new());
    simulation.entries.clear();
    simulation.rounds.unmute(now, &mut effects);
    simulation.perform(effects);
    simulation.run(120);
    assert_eq!(simulation.changes().len(), 1, "told anew");
    assert_eq!(simulation.coverage("local").clip(Interval::new(wall(120), wall(250))).length(), Span::ZERO);
    let blind = simulation.entries.iter().find_map(|(_, entry)| match entry {
        WatchEvent::Blind(blind) => Some((blind.cause, blind.interval)),
        _ => None,
    });
    assert_eq!(blind, Some((BlindCause::Storage, Interval::new(wall(130), wall(250)))));
}

/// What is new is known within seconds, however seldom it is asked; of very many, a thousand a second are asked.
#[test]
fn what_is_new_is_asked_at_once() {
    let up = || -> World { Box::new(|_, _, _| (Reading::Up, 10_000)) };
    let seldom = (0..20).map(|n| declared(&format!("seldom{n}"), 86_400, 10, &["local"], None)).collect();
    let mut simulation = Simulation::new(&config(seldom), up());
    simulation.run(4);
    assert_eq!(simulation.samples.len(), 20);
    simulation.run(60);
    assert!(simulation.samples.len() <= 21, "once: {}", simulation.samples.len());

    let many = (0..10_000).map(|n| declared(&format!("many{n}"), 60, 10, &["local"], None)).collect();
    let mut simulation = Simulation::new(&config(many), up());
    simulation.run(5);
    let asked = simulation.samples.len();
    assert!((4_000..6_500).contains(&asked), "{asked} in five seconds");
}

/// A server that hangs holds its own room only: the others are asked on time, and what found no room is unknown.
#[test]
fn a_hanging_target_does_not_hold_the_others() {
    let world: World =
        Box::new(
            |probe, _, _| {
                if probe.as_str().starts_with("hang") { (Reading::Down, i64::MAX) } else { (Reading::Up, 10_000) }
            },
        );
    let mut probes: Vec<Declared> =
        (0..40).map(|n| declared(&format!("hang{n}"), 10, 9, &["local"], Some("hanging:80"))).collect();
    probes.extend((0..40).map(|n| declared(&format!("fine{n}"), 10, 9, &["local"], Some("fine:80"))));
    let mut limited = config(probes);
    limited.options = WatchOptions { in_flight_max: Some(1000), per_target_max: 5 };
    let mut simulation = Simulation::new(&limited, world);
    simulation.run(120);
    assert!(simulation.in_flight_most <= 10, "{}", simulation.in_flight_most);
    let of = |prefix: &str, reading| {
        simulation.samples.iter().filter(|s| s.probe.as_str().starts_with(prefix) && s.reading == reading).count()
    };
    let fine = of("fine", Reading::Up);
    assert!((40 * 15..=40 * 18).contains(&fine), "none of the others missed a turn, after the first question: {fine}");
    assert_eq!(of("fine", Reading::Unknown), 0);
    assert!(of("hang", Reading::Unknown) > 100, "no room is not an outage");
    assert!(of("hang", Reading::Down) > 10);
}

/// With room for two, three probes that hang and one that answers: each is asked in its turn, and what it waits for that is
/// covered by nobody.
#[test]
fn without_room_each_is_asked_in_its_turn() {
    let world: World =
        Box::new(
            |probe, _, _| {
                if probe.as_str().starts_with("hang") { (Reading::Down, i64::MAX) } else { (Reading::Up, 10_000) }
            },
        );
    let mut probes: Vec<Declared> = (0..3).map(|n| declared(&format!("hang{n}"), 10, 9, &["hangs"], None)).collect();
    probes.push(declared("fine", 10, 9, &["answers"], None));
    let mut limited = config(probes);
    limited.options = WatchOptions { in_flight_max: Some(2), per_target_max: 100 };
    let mut simulation = Simulation::new(&limited, world);
    simulation.run(600);
    assert_eq!(simulation.in_flight_most, 2);
    let seen = |of: &str| -> Vec<i64> {
        let of_probe = simulation.samples.iter().filter(|s| s.probe.as_str() == of && s.reading != Reading::Unknown);
        of_probe.map(|sample| (sample.at.micros() - START * S) / S).collect()
    };
    for probe in ["hang0", "hang1", "hang2", "fine"] {
        let seen = seen(probe);
        let longest = seen.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(i64::MAX);
        // Two at a time, nine seconds each: before it are two that hang at most, and its own turn.
        assert!(longest <= 10 + 2 * 9 && seen[0] <= 2 * 9, "{probe} was not seen for {longest} s: {seen:?}");
    }
    let (seen, covered) = (seen("fine"), simulation.coverage("answers"));
    for pair in seen.windows(2).filter(|pair| pair[1] - pair[0] > 11) {
        let waited = Interval::new(wall(pair[0] + 1), wall(pair[1] - 1));
        assert!(covered.clip(waited).is_empty(), "{pair:?}");
    }
    assert!(seen.windows(2).any(|pair| pair[1] - pair[0] > 11), "it had to wait: {seen:?}");
    let changes: Vec<_> = simulation.changes().into_iter().map(|change| (change.0, change.1)).collect();
    assert_eq!(changes.iter().filter(|change| **change == ("hangs", State::Down)).count(), 3, "{changes:?}");
    assert_eq!(changes.iter().filter(|change| change.0 == "answers").count(), 1, "{changes:?}");
}

/// Most of ten thousand probes are black-holed: each is confirmed to be down, and no other misses a turn.
#[test]
fn a_mass_outage_blinds_nobody_else() {
    let world: World = Box::new(|probe, _, now| {
        let black_hole = probe.as_str().starts_with("gone") && now > 80 * S;
        (Reading::Up, if black_hole { i64::MAX } else { 10_000 })
    });
    let mut probes: Vec<Declared> =
        (0..6_000).map(|n| declared(&format!("gone-{n}"), 10, 5, &["local"], None)).collect();
    probes.extend((0..4_000).map(|n| declared(&format!("fine-{n}"), 10, 5, &["local"], None)));
    let mut simulation = Simulation::new(&config(probes), world);
    simulation.run(60);
    let counts = simulation.figures.counts();
    assert_eq!((counts.skipped, counts.samples[Reading::Unknown as usize]), (0, 0), "{counts:?}");
    assert!(simulation.in_flight_most > 3_000, "{}", simulation.in_flight_most);
    let down = simulation.changes().iter().filter(|change| change.1 == State::Down).count();
    assert_eq!(down, 6_000, "confirmed, each of them");
}

#[test]
fn slow_answers_are_degraded() {
    let world: World = Box::new(|_, _, now| (Reading::Up, if now > 110 * S { 700_000 } else { 100_000 }));
    let mut simulation = Simulation::new(&config(vec![declared("front", 10, 5, &["local"], None)]), world);
    simulation.run(200);
    let states: Vec<State> = simulation.changes().iter().map(|change| change.1).collect();
    assert_eq!(states, [State::Up, State::Degraded]);
}

/// Ten thousand probes at ten seconds: thirteen hundred starts a second, none late, and steady from the first second.
#[test]
fn ten_thousand_probes_keep_their_turns() {
    let world: World = Box::new(|_, _, _| (Reading::Up, 30_000));
    let probes = (0..10_000).map(|n| declared(&format!("p{n}"), 10, 5, &["local"], None)).collect();
    let mut simulation = Simulation::new(&config(probes), world);
    simulation.run(30);
    let counts = simulation.figures.counts();
    assert_eq!(counts.lanes, 10_000);
    assert!((38_000..=39_000).contains(&counts.samples[Reading::Up as usize]), "{counts:?}");
    assert_eq!((counts.late_starts, counts.skipped), (0, 0), "{counts:?}");
    assert!(simulation.in_flight_most < 100, "{}", simulation.in_flight_most);
}

/// A year of one probe at a minute with an outage a week: each told once, the down time within its brackets.
#[test]
fn a_year_passes_in_no_time() {
    const WEEK: i64 = 7 * 86_400;
    let outage = 1_000;
    let world: World = Box::new(move |_, _, now| {
        let down = (now / S - 50) % WEEK >= WEEK - outage;
        (if down { Reading::Down } else { Reading::Up }, 200_000)
    });
    let config = config(vec![declared("front", 60, 10, &["local"], None)]);
    let mut simulation = Simulation::looking_every(60 * S, &config, world);
    simulation.run(52 * WEEK);
    let changes = simulation.changes();
    assert_eq!(changes.iter().filter(|change| change.1 == State::Down).count(), 52, "one a week");
    let (mut low, mut high) = (0, 0);
    for pair in changes.windows(2) {
        if pair[0].1 == State::Down {
            low += pair[1].2 - pair[0].3;
            high += pair[1].3 - pair[0].2;
        }
    }
    // The last outage ends with the year.
    let truth = 51 * outage;
    assert!(low <= truth && truth <= high && high - low < 51 * 130, "{low} ≤ {truth} ≤ {high}");
    let covered = simulation.coverage("local").clip(Interval::new(wall(120), wall(52 * WEEK - 120)));
    assert_eq!(covered.length(), Span::from_secs(52 * WEEK - 240), "every minute observed");
}

/// Evidence is destroyed with its day. So what does not change is told again each day, state and findings, by each
/// observer; what nobody is sure of at that moment is told when somebody is.
#[test]
fn what_does_not_change_is_told_each_day() {
    const HOUR: i64 = 3600;
    // In doubt from a minute before the first day is over, until an hour after.
    let doubt = 50 + 24 * HOUR - 60..50 + 25 * HOUR;
    let world: World = Box::new(move |probe, _, now| {
        let unsure = probe.as_str() == "unsure" && doubt.contains(&(now / S));
        (if unsure { Reading::Unknown } else { Reading::Up }, 100_000)
    });
    let names = ["gravelines", "strasbourg"];
    let probes = vec![
        declared("front", 60, 10, &names, None),
        declared("disk", 60, 10, &["gravelines"], None),
        declared("unsure", 60, 10, &["gravelines"], None),
    ];
    let mut simulation = Simulation::looking_every(60 * S, &config(probes), world);
    let full = |level| {
        let finding = "disk-full".parse().expect("a name");
        Symptom { finding, level, lasting: Span::ZERO, about: Vec::new(), text: "80 %".to_owned(), reasons: Vec::new() }
    };
    simulation.symptoms.insert("disk", full(Level::Low));
    simulation.run(HOUR);
    simulation.symptoms.insert("disk", full(Level::High));
    simulation.run(HOUR);
    simulation.entries.clear();
    simulation.run(48 * HOUR);

    let seconds = |time: Time| (time.micros() - START * S) / S;
    let mut told: BTreeMap<(&str, &str), Vec<i64>> = BTreeMap::new();
    for (observer, entry) in &simulation.entries {
        match entry {
            WatchEvent::Changed(changed) => {
                assert_eq!((changed.state, changed.after), (State::Up, changed.by), "{changed:?}");
                told.entry((observer.as_str(), changed.probe.as_str())).or_default().push(seconds(changed.by));
            }
            WatchEvent::Found(finding) => {
                assert!(finding.open && finding.after == finding.by, "{finding:?}");
                told.entry((observer.as_str(), finding.finding.as_str())).or_default().push(seconds(finding.by));
            }
            WatchEvent::Detail(detail) => panic!("nothing new is explained: {detail:?}"),
            _ => {}
        }
    }
    // The samples of a probe are a minute apart, so each telling is up to a minute later than the day.
    for (whose, first, second) in [
        (("gravelines", "front"), 24 * HOUR, 48 * HOUR),
        (("strasbourg", "front"), 24 * HOUR, 48 * HOUR),
        (("gravelines", "disk"), 24 * HOUR, 48 * HOUR),
        (("gravelines", "disk-full"), 24 * HOUR, 48 * HOUR),
        (("gravelines", "unsure"), 25 * HOUR, 49 * HOUR),
    ] {
        let [day, next] = told[&whose][..] else { panic!("{whose:?} is told at {:?}", told[&whose]) };
        assert!((first..=first + 61).contains(&day), "{whose:?}: {day}");
        assert!((second..=second + 121).contains(&next), "{whose:?}: {next}");
    }
    assert_eq!(told.len(), 5, "{told:?}");
}

mod truth;
