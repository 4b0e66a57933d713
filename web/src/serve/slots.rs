//! The connections of a listener, each with a slot; and which one loses its slot when a new connection needs it.
//!
//! [`super::serve`] gives each accepted connection a [`Slot`] and tells it when a request begins and when an answer makes
//! progress. When no slot is free, the connection without progress for the longest time is closed: one that waits for its
//! next request, one that is slow with its first, one that does not read its answer. A connection whose request is being
//! worked on keeps its slot; the bound on the time of an answer ends that. One address has a bounded number of slots.
//!
//! Refusing the newest connection instead would do harm: the same listener takes the heartbeats of the team's jobs, a client
//! that fills it with silent connections would keep them out, and the team would be alerted for backups that were made.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// The slots of a listener.
#[derive(Clone, Default)]
pub(super) struct Slots(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    by_address: HashMap<IpAddr, u32>,
    /// Connections by number, in the order of arrival.
    all: BTreeMap<u64, Connection>,
    /// Number of arrivals and of progress so far; a smaller number is earlier.
    events: u64,
}

impl Table {
    const fn next(&mut self) -> u64 {
        self.events += 1;
        self.events
    }
}

struct Connection {
    /// Number of its last progress; `None` while its request is being worked on.
    progressed: Option<u64>,
    leave: CancellationToken,
}

/// The slot of a connection, free again when dropped.
pub(super) struct Slot {
    slots: Slots,
    address: IpAddr,
    number: u64,
    /// Cancelled when the connection must close for another.
    pub(super) leave: CancellationToken,
}

impl Slots {
    /// A slot for a connection; `None` when the address has `max` already.
    pub(super) fn take(&self, peer: IpAddr, max: u32) -> Option<Slot> {
        let address = customer_of(peer);
        let mut table = self.lock();
        let count = table.by_address.entry(address).or_default();
        // An address that gets no slot has one already, so this entry stays of use.
        if *count >= max && !address.is_loopback() {
            return None;
        }
        *count += 1;
        let number = table.next();
        let leave = CancellationToken::new();
        table.all.insert(number, Connection { progressed: Some(number), leave: leave.clone() });
        drop(table);
        Some(Slot { slots: self.clone(), address, number, leave })
    }

    /// Closes the connection without progress for the longest time, other than `newcomer`; none while the requests of all
    /// are being worked on.
    pub(super) fn make_room(&self, newcomer: &Slot) {
        let table = self.lock();
        let others =
            table.all.iter().filter(|(number, other)| **number != newcomer.number && !other.leave.is_cancelled());
        let longest =
            others.filter_map(|(_, other)| Some((other.progressed?, other))).min_by_key(|(progressed, _)| *progressed);
        if let Some((_, other)) = longest {
            other.leave.cancel();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing that can panic runs under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// Called when a request has arrived whole, and is worked on from now on.
    pub(super) fn started(&self) {
        if let Some(connection) = self.slots.lock().all.get_mut(&self.number) {
            connection.progressed = None;
        }
    }

    /// Called when a part of an answer is asked for: what came before it was taken by the peer.
    pub(super) fn progressed(&self) {
        let mut table = self.slots.lock();
        let now = table.next();
        if let Some(connection) = table.all.get_mut(&self.number) {
            connection.progressed = Some(now);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut table = self.slots.lock();
        table.all.remove(&self.number);
        if let Some(count) = table.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                table.by_address.remove(&self.address);
            }
        }
    }
}

/// The part of an address that stands for one customer of a provider (RFC 6177: a /64 at the least).
fn customer_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// One address can't take all slots; a network of a provider counts as one; a proxy of this machine as everybody.
    #[test]
    fn an_address_has_so_many_slots() {
        let slots = Slots::default();
        let enter = |text: &str| slots.take(address(text), 2);
        let (first, second) = (enter("192.0.2.1"), enter("::ffff:192.0.2.1"));
        assert!(first.is_some() && second.is_some());
        assert!(enter("192.0.2.1").is_none(), "at the bound");
        assert!(enter("192.0.2.2").is_some(), "another address");
        drop(first);
        assert!(enter("192.0.2.1").is_some(), "a slot is free again");
        drop(second);
        let networks = (enter("2001:db8:0:1::1"), enter("2001:db8:0:1:ffff::2"));
        assert!(enter("2001:db8:0:1::3").is_none(), "one network");
        assert!(enter("2001:db8:0:2::3").is_some(), "another network");
        let proxied: Vec<_> = (0..10).map(|_| enter("127.0.0.1").expect("not bounded")).collect();
        assert!(enter("::1").is_some());
        drop((networks, proxied));
        assert!(slots.lock().by_address.is_empty() && slots.lock().all.is_empty(), "nothing is left behind");
    }

    #[test]
    fn the_connection_without_progress_for_the_longest_time_is_closed() {
        let slots = Slots::default();
        let enter = || slots.take(address("192.0.2.1"), 9).expect("there is room");
        let (silent, reading, working, newcomer) = (enter(), enter(), enter(), enter());
        working.started();
        reading.started();
        reading.progressed();
        silent.started();
        silent.progressed();
        let gone = || [&silent, &reading, &working, &newcomer].map(|slot| slot.leave.is_cancelled());
        reading.progressed();
        for expected in [[true, false, false, false], [true, true, false, false], [true, true, false, false]] {
            slots.make_room(&newcomer);
            assert_eq!(gone(), expected);
        }
        working.progressed();
        slots.make_room(&newcomer);
        assert_eq!(gone(), [true, true, true, false]);
    }
}
