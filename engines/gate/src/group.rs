//! The upstreams that one part of a site goes to, and which of them is given the next request.
//!
//! Regions come in the order in which the policy first names them: the first one with an upstream that may be used takes all
//! requests. In a region, of two drawn upstreams the one with less to do and quicker answers is taken (power of two choices over a
//! moving average), which needs no view of all, and herds onto nobody.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use event::{Monotonic, Span, Time};

use crate::count::Count;
use crate::health::{Health, Rules, State};
use crate::settings::{self, Protocol};

/// Retries that a group may have in hand, in thousandths: at most, and at the start.
const BUDGET_MAX: i64 = 1_000_000;
const BUDGET_FIRST: i64 = 200_000;
/// What each request adds to them: a fifth of a retry.
const BUDGET_OF_REQUEST: i64 = 200;
/// What each second adds, so that a site with few visitors has some.
pub(crate) const BUDGET_OF_SECOND: i64 = 10_000;
/// The rank of no region.
const NO_REGION: u32 = u32::MAX;
/// Weight of a new answer in the moving average, as a power of two.
const AVERAGE_SHIFT: u32 = 3;

/// A server behind the gate, with what is known of it. It outlives a reload of the policy that names it again.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    pub(crate) region: Option<String>,
    pub(crate) protocol: Protocol,
    /// The rank of its region in the group.
    pub(crate) rank: u32,
    /// What its cookie of affinity says.
    pub(crate) mark: String,
    pub(crate) counts: Counts,
    /// Whether it is up.
    is_well: AtomicBool,
    /// Whether somebody wants it to get no new requests.
    is_drained: AtomicBool,
    /// Requests under way.
    in_flight: AtomicU32,
    /// Failures of requests in a row.
    failures: AtomicU32,
    /// Moving average of the time to the head of a reply, in µs.
    average_us: AtomicU64,
    health: Mutex<(Health, Option<Time>)>,
}

/// What is counted of an upstream.
#[derive(Default, Debug)]
pub(crate) struct Counts {
    pub(crate) requests: Count,
    pub(crate) failed: Count,
    pub(crate) retried: Count,
    pub(crate) ejections: Count,
}

impl Upstream {
    pub(crate) fn new(settings: &settings::Upstream, rank: u32, mark: String) -> Self {
        Self {
            address: settings.address,
            region: settings.region.clone(),
            protocol: settings.protocol,
            rank,
            mark,
            counts: Counts::default(),
            is_well: AtomicBool::new(true),
            is_drained: AtomicBool::new(false),
            in_flight: AtomicU32::new(0),
            failures: AtomicU32::new(0),
            average_us: AtomicU64::new(0),
            health: Mutex::default(),
        }
    }

    /// The same upstream in another policy: what is known of it stays known.
    pub(crate) fn with_health_of(self, before: &Self) -> Self {
        let health = before.lock().clone();
        self.is_well.store(before.is_well(), Ordering::Relaxed);
        self.average_us.store(before.average_us.load(Ordering::Relaxed), Ordering::Relaxed);
        for (ours, theirs) in self.counts.all().into_iter().zip(before.counts.all()) {
            ours.follow(theirs);
        }
        *self.lock() = health;
        self
    }

    /// Whether it is given new requests: it is up, and nobody drains it.
    pub(crate) fn is_usable(&self) -> bool {
        self.is_well() && !self.is_drained()
    }

    /// Whether neither checks nor requests have taken it out.
    pub(crate) fn is_well(&self) -> bool {
        self.is_well.load(Ordering::Relaxed)
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.is_drained.load(Ordering::Relaxed)
    }

    /// Gives it no new requests, or some again; those under way go on.
    pub(crate) fn drain(&self, is_drained: bool) {
        self.is_drained.store(is_drained, Ordering::Relaxed);
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// How it stands, and since when, if that has changed since the start.
    pub(crate) fn health(&self) -> (Health, Option<Time>) {
        self.lock().clone()
    }

    /// Changes its health; whether its state is another one now.
    pub(crate) fn change(&self, now: Time, change: impl FnOnce(&mut Health) -> bool) -> bool {
        let mut held = self.lock();
        let has_changed = change(&mut held.0);
        if has_changed {
            held.1 = Some(now);
            self.failures.store(0, Ordering::Relaxed);
        }
        self.is_well.store(held.0.state == State::Up, Ordering::Relaxed);
        has_changed
    }

    /// A reply has begun, after this time.
    pub(crate) fn answered(&self, after: Span) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
        let sample = u64::try_from(after.micros()).unwrap_or(0).max(1);
        let average = self.average_us.load(Ordering::Relaxed);
        let next = if average == 0 { sample } else { average - (average >> AVERAGE_SHIFT) + (sample >> AVERAGE_SHIFT) };
        // Of two threads that write at once, one is forgotten: it is an average.
        self.average_us.store(next, Ordering::Relaxed);
    }

    /// A request has failed there; whether so many in a row have that it is to be ejected.
    pub(crate) fn failed(&self, eject_after: u32) -> bool {
        self.counts.failed.add();
        self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1) >= eject_after
    }

    /// What one more request would wait for.
    fn load(&self) -> u64 {
        let average = self.average_us.load(Ordering::Relaxed).max(1);
        average.saturating_mul(u64::from(self.in_flight()) + 1)
    }

    fn lock(&self) -> MutexGuard<'_, (Health, Option<Time>)> {
        // Nothing that can panic runs under this lock.
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn all(&self) -> [&Count; 4] {
        [&self.requests, &self.failed, &self.retried, &self.ejections]
    }
}

/// A request under way at an upstream, counted until it is dropped.
pub(crate) struct Visit(Arc<Upstream>);

impl Visit {
    /// `None` where the upstream has as many as it may.
    fn begin(upstream: &Arc<Upstream>, most: u32) -> Option<Self> {
        let begun = upstream
            .in_flight
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < most).then_some(count + 1));
        begun.ok().map(|_| Self(Arc::clone(upstream)))
    }

    pub(crate) const fn upstream(&self) -> &Arc<Upstream> {
        &self.0
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why no upstream was picked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unpicked {
    /// All that may be used have as many requests as they may.
    Busy,
    /// None may be used that was not tried.
    None,
}

/// The upstreams of a part of a site.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) upstreams: Vec<Arc<Upstream>>,
    pub(crate) rules: Rules,
    budget: AtomicI64,
    /// The rank of the region that requests go to.
    active: AtomicU32,
}

impl Group {
    pub(crate) fn new(upstreams: Vec<Arc<Upstream>>, rules: Rules) -> Self {
        Self { upstreams, rules, budget: AtomicI64::new(BUDGET_FIRST), active: AtomicU32::new(0) }
    }

    /// The upstream for a request that was `tried` at others, of those that may be used, or of all but drained ones with `any`. Two numbers are
    /// drawn of `random`.
    pub(crate) fn pick(
        &self,
        tried: &[SocketAddr],
        mark: Option<&[u8]>,
        any: bool,
        most: u32,
        random: u64,
    ) -> Result<Visit, Unpicked> {
        let may = |upstream: &Upstream| if any { !upstream.is_drained() } else { upstream.is_usable() };
        let is_open = |upstream: &&Arc<Upstream>| may(upstream) && !tried.contains(&upstream.address);
        if let Some(mark) = mark
            && let Some(upstream) = self.upstreams.iter().filter(is_open).find(|it| it.mark.as_bytes() == mark)
            && let Some(visit) = Visit::begin(upstream, most)
        {
            return Ok(visit);
        }
        let mut is_busy = false;
        let mut rank = self.upstreams.iter().filter(is_open).map(|upstream| upstream.rank).min();
        while let Some(current) = rank {
            let of_region = || self.upstreams.iter().filter(is_open).filter(|it| it.rank == current);
            let count = of_region().count();
            let draw = |number: u64| usize::try_from(number % u64::try_from(count).unwrap_or(1).max(1)).unwrap_or(0);
            let first = draw(random & 0xffff_ffff);
            // Another one than the first, where there is one.
            let step = if count > 1 { 1 + draw(random >> 32) % (count - 1) } else { 0 };
            let of = |index: usize| of_region().nth(index % count.max(1));
            let better = match (of(first), of(first + step)) {
                (Some(one), Some(other)) if other.load() < one.load() => Some(other),
                (one, _) => one,
            };
            if let Some(visit) = better.into_iter().chain(of_region()).find_map(|it| Visit::begin(it, most)) {
                return Ok(visit);
            }
            is_busy = true;
            rank = self.upstreams.iter().filter(is_open).map(|it| it.rank).filter(|it| *it > current).min();
        }
        Err(if is_busy { Unpicked::Busy } else { Unpicked::None })
    }

    /// Whether one more of the group may be ejected: half of it stays, whatever requests meet.
    pub(crate) fn may_eject(&self) -> bool {
        let is_ejected =
            |upstream: &&Arc<Upstream>| matches!(upstream.lock().0.state, State::Ejected | State::Returning);
        let ejected = self.upstreams.iter().filter(is_ejected).count();
        (ejected + 1) * 2 <= self.upstreams.len()
    }

    /// A request of the group has come.
    pub(crate) fn count(&self) {
        self.earn(BUDGET_OF_REQUEST);
    }

    /// Adds thousandths of retries.
    pub(crate) fn earn(&self, thousandths: i64) {
        if self.budget.load(Ordering::Relaxed) < BUDGET_MAX {
            self.budget.fetch_add(thousandths, Ordering::Relaxed);
        }
    }

    /// Whether one more retry may be made: where everything fails, retries would make it worse.
    pub(crate) fn may_retry(&self) -> bool {
        let spend = |budget: i64| (budget >= 1000).then(|| budget - 1000);
        self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend).is_ok()
    }

    /// The region that requests go to now, and the one that they went to, when that has changed; `None` for one is that none of its
    /// upstreams may be used. Asked after each change of a state.
    pub(crate) fn failover(&self) -> Option<(Option<u32>, Option<u32>)> {
        let now = self.upstreams.iter().filter(|it| it.is_usable()).map(|it| it.rank).min().unwrap_or(NO_REGION);
        let before = self.active.swap(now, Ordering::Relaxed);
        let shown = |rank: u32| (rank != NO_REGION).then_some(rank);
        (before != now).then(|| (shown(before), shown(now)))
    }

    /// The name of the region of this rank.
    pub(crate) fn region(&self, rank: Option<u32>) -> String {
        let found = self.upstreams.iter().find(|upstream| Some(upstream.rank) == rank);
        found.and_then(|upstream| upstream.region.clone()).unwrap_or_else(|| "none".to_owned())
    }

    /// Ends ejections whose time is over; the upstreams whose state has changed.
    pub(crate) fn pass_time(&self, now: (Time, Monotonic)) -> Vec<Arc<Upstream>> {
        let changes = |upstream: &&Arc<Upstream>| upstream.change(now.0, |health| health.passed(now.1, true));
        self.upstreams.iter().filter(changes).map(Arc::clone).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { up_after: 2, down_after: 3, eject_after: 3, eject_for: Span::from_secs(10) };
    const MOST: u32 = 2;

    /// Two upstreams in each of two regions: 1 and 2, 3 and 4.
    fn group() -> Group {
        let upstream = |last: u8| {
            let address = SocketAddr::from(([127, 0, 0, last], 80));
            let (region, protocol) = (Some(format!("r{}", last / 3)), Protocol::Http1);
            let settings = settings::Upstream { address, region, protocol };
            Arc::new(Upstream::new(&settings, u32::from(last / 3), format!("m{last}")))
        };
        Group::new((1..5).map(upstream).collect(), RULES)
    }

    fn number(visit: &Visit) -> u16 {
        let SocketAddr::V4(address) = visit.upstream().address else { unreachable!("all are of IPv4") };
        u16::from(address.ip().octets()[3])
    }

    fn fail(group: &Group, index: usize) {
        let may_eject = group.may_eject();
        let upstream = &group.upstreams[index];
        upstream.change(Time::from_secs(0), |health| health.failed("reset", RULES, may_eject, Monotonic(0)));
    }

    fn down(group: &Group, index: usize) {
        for _ in 0..3 {
            group.upstreams[index]
                .change(Time::from_secs(0), |health| health.checked(Err("refused"), RULES, Monotonic(0)));
        }
    }

    /// The first region takes all while one of its upstreams may be used, and has room.
    #[test]
    fn regions_come_in_their_order() {
        let group = group();
        let picked = |group: &Group, random| group.pick(&[], None, false, MOST, random).map(|it| number(&it));
        for random in 0..50_u64 {
            assert!(picked(&group, random.wrapping_mul(0x9e37_79b9_7f4a_7c15)).expect("one") < 3);
        }
        assert_eq!(group.failover(), None);
        down(&group, 0);
        assert_eq!((picked(&group, 7), group.failover()), (Ok(2), None));
        down(&group, 1);
        assert!(picked(&group, 7).expect("one") > 2);
        assert_eq!(group.failover(), Some((Some(0), Some(1))));
        down(&group, 2);
        down(&group, 3);
        assert_eq!((picked(&group, 7), group.failover()), (Err(Unpicked::None), Some((Some(1), None))));
        assert!(group.pick(&[], None, true, MOST, 7).is_ok(), "all are tried where none may be used");
    }

    /// An upstream that was tried is not asked again; one that has as much as it may is passed over, and none is more than full.
    #[test]
    fn nobody_is_tried_twice_or_overfilled() {
        let group = group();
        let mut tried = Vec::new();
        for _ in 0..4 {
            tried.push(group.pick(&tried, None, false, MOST, 99).expect("one").upstream().address);
        }
        assert_eq!(group.pick(&tried, None, true, MOST, 99).map(|it| number(&it)), Err(Unpicked::None));
        let mut visits: Vec<Visit> = (0..8).map(|_| group.pick(&[], None, false, MOST, 3).expect("room")).collect();
        assert!(visits[..4].iter().all(|visit| number(visit) < 3), "the nearest region first");
        assert_eq!(group.pick(&[], None, false, MOST, 3).map(|it| number(&it)), Err(Unpicked::Busy));
        visits.pop();
        assert!(group.pick(&[], None, false, MOST, 3).is_ok());
    }

    /// Of two, the one that answers sooner and has less to do; a visitor stays where its cookie says, while that may be used.
    #[test]
    fn the_less_loaded_and_the_marked_are_taken() {
        let group = group();
        group.upstreams[0].answered(Span::from_millis(500));
        group.upstreams[1].answered(Span::from_millis(1));
        for random in 0..20 {
            assert_eq!(group.pick(&[], None, false, 99, random).map(|it| number(&it)), Ok(2));
        }
        assert_eq!(group.pick(&[], Some(b"m4"), false, 99, 0).map(|it| number(&it)), Ok(4));
        down(&group, 3);
        assert_eq!(group.pick(&[], Some(b"m4"), false, 99, 0).map(|it| number(&it)), Ok(2));
    }

    /// Half of a group stays whatever requests meet; what checks find is not held back by that.
    #[test]
    fn ejections_have_a_cap_that_checks_have_not() {
        let group = group();
        for index in 0..4 {
            fail(&group, index);
        }
        let states = |group: &Group| group.upstreams.iter().map(|it| it.health().0.state).collect::<Vec<_>>();
        assert_eq!(states(&group), [State::Ejected, State::Ejected, State::Up, State::Up]);
        for index in 0..4 {
            down(&group, index);
        }
        assert_eq!(states(&group), [State::Down; 4]);
        let alone = Group::new(vec![Arc::clone(&group.upstreams[0])], RULES);
        assert!(!alone.may_eject(), "where there is one, it stays");
    }

    #[test]
    fn retries_have_a_budget() {
        let group = group();
        let retries = (0..10_000).filter(|_| group.may_retry()).count();
        assert_eq!(retries, 200);
        (0..50).for_each(|_| group.count());
        assert_eq!((0..100).filter(|_| group.may_retry()).count(), 10, "a fifth of what came");
        (0..1_000_000).for_each(|_| group.count());
        assert_eq!((0..10_000).filter(|_| group.may_retry()).count(), 1000, "and never more than so many in hand");
    }
}
