//! What is published of a service, beside what it really was: outages that come back with the probe's own period, or only
//! while nobody looks. `cargo test -p garant-watch truth -- --nocapture` prints the figures.

use event::Spans;

use super::*;

/// When the service is down, on the monotonic clock.
type Down = Arc<Mutex<Vec<(i64, i64)>>>;

/// A service that is down at these times and answers at once.
fn up_but(down: &Down) -> World {
    let down = Arc::clone(down);
    Box::new(move |_, _, now| {
        let is_down = down.lock().expect("not poisoned").iter().any(|&(start, end)| (start..end).contains(&now));
        (if is_down { Reading::Down } else { Reading::Up }, 5_000)
    })
}

/// A service that is down for so long at the beginning of each period.
fn periodic(down: i64, period: i64) -> World {
    Box::new(move |_, _, now| (if now % period < down { Reading::Down } else { Reading::Up }, 5_000))
}

impl Simulation {
    /// What the records say was observed of this probe.
    fn observed(&self, probe: &str) -> Spans {
        let lane = self.rounds.lanes.values().find(|lane| lane.declared.id.as_str() == probe).expect("a probe");
        let class = Covered::class(lane.declared.asked_every);
        let mut observed = Spans::new();
        for (_, entry) in &self.entries {
            let WatchEvent::Covered(record) = entry else { continue };
            if record.every != class {
                continue;
            }
            let gaps = record.gaps.iter().filter(|gap| gap.probe.as_str() == probe).map(|gap| gap.interval);
            let gaps: Spans = gaps.collect();
            gaps.complement(record.interval).intervals().iter().for_each(|&lived| observed.add(lived));
        }
        observed
    }

    /// When the probe was up for certain, and when it was down for certain, as a verdict computes it.
    fn certain(&self, probe: &str, window: Interval) -> (Spans, Spans) {
        let observed = self.observed(probe).clip(window);
        let changed = self.entries.iter().filter_map(|(_, entry)| match entry {
            WatchEvent::Changed(changed) if changed.probe.as_str() == probe => Some(changed),
            _ => None,
        });
        let changes: Vec<_> = changed.collect();
        let (mut up, mut down) = (Spans::new(), Spans::new());
        for (n, change) in changes.iter().enumerate() {
            let certain = Interval::new(change.by, changes.get(n + 1).map_or(window.end, |next| next.after));
            match change.state {
                State::Up | State::Degraded => up.add(certain),
                State::Down => down.add(certain),
                State::Flapping => {}
            }
        }
        (up.intersect(&observed), down.intersect(&observed))
    }

    /// The share of `window` for which the probe was certainly up, and that for which it was not certainly down, in millionths:
    /// as a verdict on availability is computed.
    fn figure(&self, probe: &str, window: Interval) -> (i64, i64) {
        let (up, down) = self.certain(probe, window);
        let share = |spans: &Spans| {
            i64::try_from(i128::from(spans.length().micros()) * 1_000_000 / i128::from(window.length().micros()))
                .expect("a share")
        };
        (share(&up), 1_000_000 - share(&down))
    }

    /// The process ends, in good order or killed, and another one starts after so many microseconds.
    fn start_again(&mut self, config: &Config, is_killed: bool, away: i64, seed: u64) {
        if !is_killed {
            let mut effects = Vec::new();
            self.rounds.stop(self.moment(), &mut effects);
            effects.retain(|effect| !matches!(effect, Effect::Ask(_)));
            self.perform(effects);
        }
        self.under_way.clear();
        self.hands.pass(away);
        let (clock, random) = (self.hands.clone(), Arc::new(SeededRandom::new(seed)));
        self.rounds = Rounds::new(self.moment(), observer("process"), Arc::clone(&self.figures), random, None);
        self.clocks = ClockWatch::new(clock, Span::from_micros(self.look_every)).with_lateness_max(LOOK_LATENESS_MAX);
        self.reload(config);
    }

    fn reload(&mut self, config: &Config) {
        let mut effects = Vec::new();
        self.rounds.apply(config, self.moment(), &mut effects);
        self.perform(effects);
    }
}

fn percent(millionths: i64) -> String {
    format!("{}.{:03} %", millionths / 10_000, millionths % 10_000 / 10)
}

/// An outage that comes back with the period of the probe is met as often as it is long, and not always or never.
#[test]
fn no_outage_hides_behind_a_period() {
    const HOUR: i64 = 3_600;
    // The probe's `every`, down so many milliseconds at the beginning of so many; for how many hours; by how much the figure
    // may be off, in millionths: three standard deviations of what chance does.
    let cases = [
        (2, 700, 2_000, 10, 5_000),
        (2, 100, 2_000, 10, 5_000),
        (10, 3_000, 10_000, 40, 5_000),
        (60, 1_000, 60_000, 500, 2_500),
        (60, 20_000, 60_000, 200, 5_000),
        (60, 90_000, 600_000, 200, 5_000),
        (10, 15_000, 120_000, 60, 5_000),
        (600, 60_000, 600_000, 5_000, 10_000),
    ];
    for (every, down, period, hours, chance) in cases {
        let config = config(vec![declared("front", every, 1, &["local"], None)]);
        let mut simulation = Simulation::looking_every(every * S, &config, periodic(down * 1_000, period * 1_000));
        simulation.run(hours * HOUR + every + 130);
        let window = Interval::new(wall(2 * every), wall(hours * HOUR - 2 * every));
        let (low, high) = simulation.figure("front", window);
        let truth = 1_000_000 - down * 1_000_000 / period;
        println!(
            "asked every {every} s, down {down} ms of every {period} ms: truth {}, published {} to {}",
            percent(truth),
            percent(low),
            percent(high)
        );
        assert!(low <= truth + chance && truth <= high + chance, "{low} ≤ {truth} ≤ {high}");
        // An outage that is longer than the time between two looks is always met: then the middle is the truth on average,
        // and the bounds are as far from it as one look is long. A shorter one is met by chance, and what comes and goes is
        // undecided: there the truth is between the bounds, and no more is said.
        if down >= every * 1_000 {
            let middle = i64::midpoint(low, high);
            assert!((middle - truth).abs() <= chance, "{middle} is not {truth} on average");
        }
        let observed = simulation.observed("front").clip(window).length();
        assert_eq!(observed, window.length(), "every instant is between two looks in their turn");
    }
}

/// The process stops again and again, and the service is down exactly then: nothing of that time is claimed.
#[test]
fn nothing_is_claimed_of_time_in_which_the_process_stood_still() {
    let random = SeededRandom::new(7);
    let drawn = |from: i64, to: i64| {
        from + i64::try_from(random.number() % u64::try_from(to - from).expect("positive")).expect("small")
    };
    for every in [2, 10, 60] {
        let down = Down::default();
        let config = config(vec![declared("front", every, 1, &["local"], None)]);
        let mut simulation = Simulation::new(&config, up_but(&down));
        simulation.run(120);
        let (begun, mut lost) = (simulation.now(), 0);
        for _ in 0..200 {
            simulation.run(drawn(3, 30));
            let (start, stop) = (simulation.now(), drawn(500_000, 7 * S));
            down.lock().expect("not poisoned").push((start, start + stop));
            simulation.hands.pass(stop);
            lost += stop;
        }
        simulation.run(30);
        let whole = simulation.now() - begun;
        simulation.run(2 * every + 120);
        let label = |monotonic: i64| Time::from_micros(START * S - 50 * S + monotonic);
        let observed = simulation.observed("front");
        for &(start, end) in &*down.lock().expect("not poisoned") {
            let claimed = observed.clip(Interval::new(label(start), label(end)));
            assert_eq!(claimed.length(), Span::ZERO, "every {every} s: {claimed:?}");
        }
        let (low, high) = simulation.figure("front", Interval::new(label(begun), label(begun + whole)));
        let truth = 1_000_000 - lost * 1_000_000 / whole;
        println!(
            "asked every {every} s, down while the process stood still: truth {}, published {} to {}",
            percent(truth),
            percent(low),
            percent(high)
        );
        assert!(low <= truth && truth <= high, "{low} ≤ {truth} ≤ {high}");
        assert!(low > truth - 350_000, "and most of what was lived is proved: {low} of {truth}");
        assert!(simulation.changes().iter().all(|change| change.1 == State::Up), "nobody is accused");
    }
}

/// The watch starts again, is killed, or reloads the probe, or its storage comes back, and the first answer takes its time. The
/// service changes meanwhile, sometimes twice, so that the first answer shows the state of before: nothing is claimed to have
/// been up while it was down, or the reverse, at any instant. A target of long answers would otherwise be credited with the
/// state that was journaled before.
#[test]
fn nothing_is_claimed_while_the_first_answer_is_under_way() {
    for (every, timeout, rounds) in [(12, 10, 150), (60, 10, 100), (600, 30, 40)] {
        let random = Arc::new(SeededRandom::new(11));
        let drawn = {
            let random = Arc::clone(&random);
            move |from: i64, to: i64| {
                from + i64::try_from(random.number() % u64::try_from(to - from).expect("positive")).expect("small")
            }
        };
        // The instants at which the service changes, up at first; and until when it answers slowly.
        let world = Arc::new(Mutex::new((Vec::<i64>::new(), 0_i64)));
        let is_down = |flips: &[i64], at: i64| flips.partition_point(|&flip| flip <= at) % 2 == 1;
        let answers: World = {
            let (world, random) = (Arc::clone(&world), Arc::clone(&random));
            Box::new(move |_, _, now| {
                let (flips, slow_until) = &*world.lock().expect("not poisoned");
                let draw = i64::try_from(random.number() % 1_000_000).expect("small");
                let took = if now < *slow_until { timeout * S / 2 + draw * timeout * 2 / 5 } else { draw / 4 };
                // The state at some instant while the question was under way.
                let shown = now + took * i64::try_from(random.number() % 100).expect("small") / 100;
                (if is_down(flips, shown) { Reading::Down } else { Reading::Up }, took)
            })
        };
        let policy = |settings: i64| {
            let mut front = declared("front", every, timeout, &["local"], None);
            (front.slower_than, front.settings) = (None, Arc::new(settings));
            Config { revision: format!("r{settings}"), ..config(vec![front]) }
        };
        let mut config = policy(0);
        let mut simulation = Simulation::looking_every(every * S / 50, &config, answers);
        simulation.run(3 * every + 30);
        let begun = simulation.moment().wall;
        for round in 0..rounds {
            simulation.run(drawn(3 * every, 6 * every) + 30);
            let (now, away) = (simulation.now(), drawn(S / 10, 3 * S));
            {
                let (flips, slow_until) = &mut *world.lock().expect("not poisoned");
                let changes = drawn(0, 3);
                if changes > 0 {
                    flips.push(now - drawn(0, S / 10));
                }
                if changes > 1 {
                    flips.push(now + away + drawn(0, timeout * S * 4 / 5));
                }
                *slow_until = now + away + 4 * S;
            }
            match drawn(0, 4) {
                0 => simulation.start_again(&config, false, away, 100 + round),
                1 => simulation.start_again(&config, true, away, 100 + round),
                2 => {
                    config = policy(i64::try_from(round).expect("small") + 1);
                    simulation.reload(&config);
                }
                _ => {
                    let now = simulation.moment();
                    simulation.rounds.mute(now);
                    simulation.run(away / S + 1);
                    let mut effects = Vec::new();
                    simulation.rounds.unmute(simulation.moment(), &mut effects);
                    simulation.perform(effects);
                }
            }
        }
        simulation.run(2 * every + 130);
        let window = Interval::new(begun, simulation.moment().wall);
        let label = |monotonic: i64| Time::from_micros(START * S - 50 * S + monotonic);
        let flips = world.lock().expect("not poisoned").0.clone();
        let outages = flips.chunks(2).map(|flips| match *flips {
            [start, end] => Interval::new(label(start), label(end)),
            _ => Interval::new(label(flips[0]), window.end),
        });
        let truly_down: Spans = outages.collect();
        let truly_down = truly_down.clip(window);
        let (up, down) = simulation.certain("front", window);
        // A state that is seen once holds for a microsecond at least, so that brackets follow one another.
        let longer = |spans: Spans| -> Spans {
            spans.intervals().iter().filter(|interval| interval.length().micros() > 1).copied().collect()
        };
        let (false_up, false_down) = (longer(up.intersect(&truly_down)), longer(down.minus(&truly_down)));
        assert!(false_up.is_empty(), "every {every} s: up for certain, and was down: {false_up:?}");
        assert!(false_down.is_empty(), "every {every} s: down for certain, and was up: {false_down:?}");
        let certain = (up.length() + down.length()).micros();
        assert!(certain > window.length().micros() / 2, "most is known all the same: {certain} of {window:?}");
        assert!(!up.is_empty() && !down.is_empty());
    }
}

/// A finding that is high since the first look is unknown until it has lasted, to the answer of the look that says so: what was
/// journaled before the start says nothing of that time.
#[test]
fn a_finding_that_has_not_lasted_since_the_start_is_not_known() {
    let finding: FindingId = "disk-usage".parse().expect("a name");
    let mut machine = declared("machine", 10, 5, &["local"], None);
    machine.findings = Box::from([finding.clone()]);
    let config = config(vec![machine]);
    let world: World = Box::new(|_, _, _| (Reading::Up, 3 * S));
    let mut simulation = Simulation::new(&config, world);
    let symptom = |level| Symptom {
        finding: finding.clone(),
        level,
        lasting: Span::from_secs(60),
        about: Vec::new(),
        text: "disk".to_owned(),
        reasons: Vec::new(),
    };
    simulation.symptoms.insert("machine", symptom(Level::Low));
    simulation.run(120);
    simulation.symptoms.insert("machine", symptom(Level::High));
    simulation.start_again(&config, false, S, 7);
    let started = simulation.moment().wall;
    simulation.run(300);
    let mut missing = Spans::new();
    let mut opened = None;
    for (_, entry) in &simulation.entries {
        match entry {
            WatchEvent::Covered(record) => record.gaps.iter().for_each(|gap| missing.add(gap.interval)),
            WatchEvent::Found(found) if found.open => opened = Some(found.by),
            _ => {}
        }
    }
    let opened = opened.expect("it opens");
    assert!(opened.since(started) > Span::from_secs(60), "after it lasted: {opened:?}");
    let unknown = missing.clip(Interval::new(started, opened));
    assert_eq!(unknown.length(), opened.since(started), "to the end of the look that shows it: {unknown:?}");
    assert!(missing.clip(Interval::new(opened, opened + Span::from_secs(60))).is_empty(), "known from then on");
}

/// Another probe hangs and takes the only slot, so nobody asks this one, which is down.
#[test]
fn nothing_is_claimed_while_a_probe_is_not_admitted() {
    let world: World = Box::new(|probe, _, now| match (probe.as_str(), now > 170 * S) {
        ("hang", true) => (Reading::Up, i64::MAX),
        ("front", true) => (Reading::Down, 5_000),
        _ => (Reading::Up, 5_000),
    });
    let probes = vec![declared("hang", 10, 9, &["local"], None), declared("front", 10, 5, &["local"], None)];
    let mut limited = config(probes);
    limited.options = WatchOptions { in_flight_max: Some(1), per_target_max: 1 };
    let mut simulation = Simulation::new(&limited, world);
    simulation.run(600);
    let window = Interval::new(wall(0), wall(450));
    let (low, high) = simulation.figure("front", window);
    let truth = 120 * 1_000_000 / 450;
    println!("not admitted while down: truth {}, published {} to {}", percent(truth), percent(low), percent(high));
    // It may have been down for an `every` when that was first seen.
    assert!(low <= truth + 10_000_000 / 450 && truth <= high, "{low} ≤ {truth} ≤ {high}");
}

/// While a canary decides whose failure it is, and then says that it is our own, nothing is claimed; nor of a probe that is
/// asked so seldom that it was not its turn.
#[test]
fn nothing_is_claimed_while_the_uplink_is_dead() {
    let cut = 203 * S..500 * S;
    let world: World =
        Box::new(move |_, _, now| if cut.contains(&now) { (Reading::Down, 5 * S) } else { (Reading::Up, 5_000) });
    let probes = vec![declared("front", 10, 3, &["local"], None), declared("seldom", 3_600, 3, &["local"], None)];
    let mut simulation = Simulation::new(&with_canary(probes, &["local"]), world);
    simulation.run(8_000);
    let blind = simulation.entries.iter().find_map(|(_, entry)| match entry {
        WatchEvent::Blind(blind) => Some(blind.interval),
        _ => None,
    });
    let blind = blind.expect("it says that it is blind");
    for probe in ["front", "seldom"] {
        let observed = simulation.observed(probe);
        assert_eq!(observed.clip(blind).length(), Span::ZERO, "{probe}: {blind:?}");
        assert!(observed.contains(wall(120)) && observed.contains(wall(700)), "{probe}: {observed:?}");
    }
}

/// A finding that an answer does not speak of was not looked for: the probe was observed, this finding was not.
#[test]
fn what_a_detector_does_not_say_is_a_gap_of_the_finding() {
    let finding: FindingId = "disk-usage".parse().expect("a name");
    let mut machine = declared("machine", 10, 5, &["local"], None);
    machine.findings = Box::from([finding.clone(), "raid-degraded".parse().expect("a name")]);
    let mut simulation = Simulation::new(&config(vec![machine]), nothing());
    let symptom = |level| Symptom {
        finding: finding.clone(),
        level,
        lasting: Span::ZERO,
        about: Vec::new(),
        text: "disk".to_owned(),
        reasons: Vec::new(),
    };
    for (level, seconds) in [(Level::High, 100), (Level::Unread, 100), (Level::High, 250)] {
        simulation.symptoms.insert("machine", symptom(level));
        simulation.run(seconds);
    }
    let mut missing: BTreeMap<&str, Spans> = BTreeMap::new();
    for (_, entry) in &simulation.entries {
        let WatchEvent::Covered(record) = entry else { continue };
        for gap in &record.gaps {
            missing.entry(gap.finding.as_ref().map_or("", FindingId::as_str)).or_default().add(gap.interval);
        }
    }
    let window = Interval::new(wall(15), wall(300));
    let unread = missing["disk-usage"].clip(window);
    let [unread] = unread.intervals() else { panic!("{unread:?}") };
    assert!(unread.start <= wall(100) && unread.start >= wall(89), "back to the last look that could: {unread:?}");
    assert!(unread.end >= wall(200) && unread.end <= wall(211), "on to the first that can: {unread:?}");
    assert_eq!(missing["raid-degraded"].clip(window).length(), window.length(), "never said");
    assert_eq!(missing[""].clip(window).length(), Span::ZERO, "the machine itself was observed");
    let found: Vec<_> = simulation
        .entries
        .iter()
        .filter_map(|(_, entry)| match entry {
            WatchEvent::Found(found) => Some(found.open),
            _ => None,
        })
        .collect();
    assert_eq!(found, [true], "it stays what it was");
}
