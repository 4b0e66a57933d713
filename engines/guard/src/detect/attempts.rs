//! Failures counted by what failed, as the fail manager of fail2ban counts them (`server/failmanager.py`, `server/ticket.py`).
//!
//! One ticket for each address (or other failure id). A failure later than the one before stretches the ticket's interval; when
//! that exceeds `findtime`, the count is estimated from its rate over the interval, not cut. What an observer of fail2ban decides
//! depends on that estimate to the last bit, so it is made with the same floating-point operations, from instants that are kept as
//! whole microseconds.

use std::collections::HashMap;
use std::hash::Hash;

use event::{Span, Time};
use serde::{Deserialize, Serialize};

/// How many failures within what time are an offence, and how many tickets are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AttemptsLimits {
    /// Failures that make an offence (`maxretry`).
    pub max_retry: u32,
    /// Time within which they must be (`findtime`).
    pub find_time: Span,
    /// Most tickets at once. One more, and those whose last failure is the longest ago go: an eighth of them, which is counted
    /// in [`Attempts::evicted`].
    pub tickets_max: usize,
}

/// One failure, as a filter found it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure<K> {
    /// What failed: an address, or what the filter marked as its id.
    pub id: K,
    /// When.
    pub time: Time,
    /// Attempts that the filter says the line stands for (`failures`); 0 when it says nothing, which counts as one.
    pub attempts: u32,
}

/// What is to be banned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Offence<K> {
    /// Of whom.
    pub id: K,
    /// The last failure.
    pub time: Time,
    /// Attempts altogether, as the lines say them.
    pub attempts: u64,
    /// The count that reached `maxretry`.
    pub retries: u64,
}

/// What is counted for one id.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct TicketState {
    /// The last failure.
    time: Time,
    /// Start of the interval: `first` less `first_less`.
    first: Time,
    /// Nothing, or `findtime` once the interval was cut to it.
    first_less: Span,
    /// The count that is compared with `maxretry`, in halves: those known from earlier bans may count for one and a half.
    half_retries: u64,
    /// Attempts as the lines say them.
    attempts: u64,
}

/// All tickets, as a value to be stored with the positions in the logs that they were counted up to.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Default, Debug)]
pub struct AttemptsState<K> {
    tickets: Vec<(K, TicketState)>,
    failures: u64,
    evicted: u64,
}

impl<K> AttemptsState<K> {
    /// Forgets the tickets whose last failure was before then.
    pub fn forget_before(&mut self, then: Time) {
        self.tickets.retain(|(_, ticket)| ticket.time >= then);
    }

    /// Tickets.
    pub const fn len(&self) -> usize {
        self.tickets.len()
    }

    /// Whether nothing is counted.
    pub const fn is_empty(&self) -> bool {
        self.tickets.is_empty()
    }
}

/// The tickets of one jail.
#[derive(Debug)]
pub struct Attempts<K> {
    limits: AttemptsLimits,
    tickets: HashMap<K, TicketState>,
    failures: u64,
    evicted: u64,
    next_service: Option<Time>,
    lines: u64,
}

/// Shortest time between two services, as in fail2ban.
const SERVICE_EVERY: Span = Span::from_secs(5);
/// Lines after which fail2ban looks whether a service is due.
const SERVICE_LINES: u64 = 100;

impl<K: Clone + Eq + Hash> Attempts<K> {
    /// No failure yet.
    pub fn new(limits: AttemptsLimits) -> Self {
        Self { limits, tickets: HashMap::new(), failures: 0, evicted: 0, next_service: None, lines: 0 }
    }

    /// Goes on from `state`.
    pub fn restored(limits: AttemptsLimits, state: AttemptsState<K>) -> Self {
        let AttemptsState { tickets, failures, evicted } = state;
        let mut restored = Self { failures, evicted, ..Self::new(limits) };
        restored.tickets = tickets.into_iter().collect();
        restored.make_room();
        restored
    }

    /// Its limits.
    pub const fn limits(&self) -> &AttemptsLimits {
        &self.limits
    }

    /// Everything that is counted, to be stored.
    pub fn state(&self) -> AttemptsState<K> {
        let tickets = self.tickets.iter().map(|(id, ticket)| (id.clone(), *ticket)).collect();
        AttemptsState { tickets, failures: self.failures, evicted: self.evicted }
    }

    /// Counts a failure. When it makes an offence, the ticket is given up and starts anew with the next one.
    pub fn add(&mut self, failure: &Failure<K>) -> Option<Offence<K>> {
        self.failures += 1;
        if let Some(ticket) = self.tickets.get_mut(&failure.id) {
            ticket.follow(failure.time, self.limits.find_time);
            ticket.half_retries = ticket.half_retries.saturating_add(2);
            ticket.attempts = ticket.attempts.saturating_add(u64::from(failure.attempts.max(1)));
        } else {
            let attempts = u64::from(failure.attempts.max(1));
            let ticket = TicketState {
                time: failure.time,
                first: failure.time,
                first_less: Span::default(),
                half_retries: attempts.saturating_mul(2),
                attempts,
            };
            self.tickets.insert(failure.id.clone(), ticket);
            self.make_room();
        }
        self.offence(&failure.id)
    }

    /// Counts `failure`, which [`add`](Self::add) has just counted and which made no offence, again for an address that was
    /// banned before: `bans` times, the last time at `last_ban`. With `bantime.increment` they have fewer tries: one counts for
    /// 2, 3, 5, 9 … but never for more than `maxretry` (`failureFound` in `server/observer.py`).
    ///
    /// `is_first` says whether that failure opened the ticket, for then its attempts are not added once more.
    pub fn add_known(&mut self, failure: &Failure<K>, bans: u32, last_ban: Time, is_first: bool) -> Option<Offence<K>> {
        // fail2ban compares with an instant that its database keeps in whole seconds, rounded half to even.
        if failure.time <= whole_seconds(last_ban) {
            return None;
        }
        let halves = (1_u64 << bans.min(20)) + 2;
        let halves = halves.min(u64::from(self.limits.max_retry) * 2);
        if halves <= 2 {
            return None;
        }
        let ticket = self.tickets.get_mut(&failure.id)?;
        self.failures += 1;
        ticket.follow(failure.time, self.limits.find_time);
        ticket.half_retries = ticket.half_retries.saturating_add(halves - 2);
        let attempts = if is_first { 1 } else { u64::from(failure.attempts.max(1)) };
        ticket.attempts = ticket.attempts.saturating_add(attempts);
        self.offence(&failure.id)
    }

    /// To be called after each line of the log: gives up old tickets when that is due, as fail2ban does after every hundred lines
    /// and not more often than each 5 s. When that happens is part of its decisions, for a ticket that is not given up is
    /// estimated.
    pub fn line_done(&mut self, now: Time) {
        self.lines += 1;
        if self.lines.is_multiple_of(SERVICE_LINES) {
            self.service(now);
        }
    }

    /// To be called after an offence and each ten seconds without lines: as [`line_done`](Self::line_done), without counting.
    pub fn service(&mut self, now: Time) {
        if self.next_service.is_none_or(|due| now >= due) {
            self.next_service = Some(now + SERVICE_EVERY);
            self.clean_up(now);
        }
    }

    /// Gives up the tickets without a failure within the last `findtime`.
    pub fn clean_up(&mut self, now: Time) {
        let oldest = seconds(now) - self.limits.find_time.micros() as f64 / 1e6;
        self.tickets.retain(|_, ticket| seconds(ticket.time) > oldest);
    }

    /// Forgets what was counted for `id`, because it was unbanned by hand or is allowed now.
    pub fn forget(&mut self, id: &K) {
        self.tickets.remove(id);
    }

    /// Tickets now.
    pub fn len(&self) -> usize {
        self.tickets.len()
    }

    /// Whether nothing is counted.
    pub fn is_empty(&self) -> bool {
        self.tickets.is_empty()
    }

    /// Whether something is counted for `id`.
    pub fn holds(&self, id: &K) -> bool {
        self.tickets.contains_key(id)
    }

    /// Failures counted altogether ("Total failed" of fail2ban).
    pub const fn failures(&self) -> u64 {
        self.failures
    }

    /// Tickets that went because there were too many. More than 0 is a finding: their addresses start again from nothing.
    pub const fn evicted(&self) -> u64 {
        self.evicted
    }

    fn offence(&mut self, id: &K) -> Option<Offence<K>> {
        let ticket = *self.tickets.get(id)?;
        if ticket.half_retries < u64::from(self.limits.max_retry) * 2 {
            return None;
        }
        let (id, _) = self.tickets.remove_entry(id)?;
        Some(Offence { id, time: ticket.time, attempts: ticket.attempts, retries: ticket.half_retries / 2 })
    }

    fn make_room(&mut self) {
        if self.tickets.len() <= self.limits.tickets_max {
            return;
        }
        let going = (self.limits.tickets_max / 8).max(self.tickets.len() - self.limits.tickets_max);
        let mut times: Vec<Time> = self.tickets.values().map(|ticket| ticket.time).collect();
        let (_, last, _) = times.select_nth_unstable(going - 1);
        let (last, mut left) = (*last, going);
        self.tickets.retain(|_, ticket| {
            let stays = left == 0 || ticket.time > last;
            left -= usize::from(!stays);
            stays
        });
        self.evicted += (going - left) as u64;
    }
}

impl TicketState {
    /// Stretches the interval to a failure at `time`. One that is not later changes nothing: clocks go backwards, and lines of two
    /// files come in any order.
    fn follow(&mut self, time: Time, find_time: Span) {
        if time <= self.time {
            return;
        }
        let find_s = find_time.micros() as f64 / 1e6;
        let (now_s, first_s) = (seconds(time), seconds(self.first) - self.first_less.micros() as f64 / 1e6);
        if first_s < now_s - find_s {
            let retries = self.half_retries as f64 / 2.0;
            self.half_retries = whole(retries / (now_s - first_s) * find_s).saturating_mul(2);
            (self.first, self.first_less) = (time, find_time);
        }
        self.time = time;
    }
}

/// Seconds since 1970, as Python has them.
fn seconds(time: Time) -> f64 {
    time.micros() as f64 / 1e6
}

/// Python's `int(round(x))` of what is not negative: half to even.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count, and `as` saturates")]
fn whole(x: f64) -> u64 {
    x.round_ties_even() as u64
}

/// An instant as the database of fail2ban keeps it.
pub(crate) fn whole_seconds(time: Time) -> Time {
    let (seconds, rest) = (time.micros().div_euclid(1_000_000), time.micros().rem_euclid(1_000_000));
    let up = rest > 500_000 || (rest == 500_000 && seconds % 2 != 0);
    Time::from_secs(seconds + i64::from(up))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempts(max_retry: u32, find_s: i64, tickets_max: usize) -> Attempts<&'static str> {
        Attempts::new(AttemptsLimits { max_retry, find_time: Span::from_secs(find_s), tickets_max })
    }

    fn at(id: &'static str, time_s: i64) -> Failure<&'static str> {
        Failure { id, time: Time::from_secs(time_s), attempts: 0 }
    }

    #[test]
    fn the_failure_that_reaches_maxretry_is_an_offence_and_the_next_starts_anew() {
        let mut attempts = attempts(3, 600, 10);
        assert_eq!(attempts.add(&at("a", 1000)), None);
        assert_eq!(attempts.add(&at("a", 1001)), None);
        assert_eq!(attempts.add(&at("b", 1002)), None);
        let offence = attempts.add(&at("a", 1003));
        assert_eq!(offence, Some(Offence { id: "a", time: Time::from_secs(1003), attempts: 3, retries: 3 }));
        assert_eq!(attempts.add(&at("a", 1004)), None);
        assert_eq!((attempts.len(), attempts.failures()), (2, 5));
    }

    #[test]
    fn a_clock_that_goes_back_counts_and_keeps_the_last_failure() {
        let mut attempts = attempts(3, 600, 10);
        attempts.add(&at("a", 5000));
        attempts.add(&at("a", 1000));
        let offence = attempts.add(&at("a", 4000)).expect("the third");
        assert_eq!(offence.time, Time::from_secs(5000));
    }

    #[test]
    fn at_the_bound_the_longest_silent_go_and_are_counted() {
        let mut attempts = attempts(3, 600, 16);
        let names: Vec<&'static str> = (0..17).map(|n| &*format!("host{n}").leak()).collect();
        for (name, time) in names.iter().zip(1000..) {
            attempts.add(&at(name, time));
        }
        assert_eq!((attempts.len(), attempts.evicted()), (15, 2));
        assert!(!attempts.holds(&names[0]) && !attempts.holds(&names[1]) && attempts.holds(&names[2]));
    }

    #[test]
    fn what_is_stored_goes_on_where_it_was() {
        let mut attempts = attempts(3, 600, 16);
        attempts.add(&at("a", 1000));
        attempts.add(&at("a", 3000));
        let text = serde_json::to_string(&attempts.state()).expect("a value");
        let state: AttemptsState<String> = serde_json::from_str(&text).expect("the same");
        let mut again = Attempts::restored(attempts.limits, state);
        let failure = Failure { id: "a".to_owned(), time: Time::from_secs(3001), attempts: 0 };
        assert_eq!(again.add(&failure).is_some(), attempts.add(&at("a", 3001)).is_some());
        assert_eq!(again.failures(), attempts.failures());
    }
}
