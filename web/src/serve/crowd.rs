//! Who is connected, and who has to go when somebody else wants in.
//!
//! **Problem.** The same listener shows pages to strangers and takes the heartbeats of the team's jobs. Whoever fills it with
//! connections that say nothing, or do not read, keeps the jobs out, and the team is woken for backups that were made.
//! **Principle.** A place belongs to whoever makes use of it. When all are taken, the connection that moved nothing for the
//! longest time loses its own to the newcomer: one that waits for its next request, one that is slow with its first, one
//! that does not read its answer. A connection whose request is being worked on keeps its place; the bound on the time of
//! an answer ends that. And one address has a bounded number of places, so that it takes many to fill the room at all.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// All connections of a listener.
#[derive(Clone, Default)]
pub(super) struct Crowd(Arc<Mutex<Places>>);

#[derive(Default)]
struct Places {
    by_address: HashMap<IpAddr, u32>,
    /// In order of arrival.
    all: BTreeMap<u64, Occupant>,
    /// Counts arrivals and moves: what has the smaller number happened before.
    events: u64,
}

impl Places {
    const fn next(&mut self) -> u64 {
        self.events += 1;
        self.events
    }
}

struct Occupant {
    /// When it last moved something; `None` while its request is being worked on.
    moved: Option<u64>,
    leave: CancellationToken,
}

/// A place of one address, given back when it is dropped.
pub(super) struct Place {
    crowd: Crowd,
    address: IpAddr,
    number: u64,
    /// Cancelled when somebody else gets it.
    pub(super) leave: CancellationToken,
}

impl Crowd {
    /// `None` when the address has `max` places already.
    pub(super) fn enter(&self, peer: IpAddr, max: u32) -> Option<Place> {
        let address = whose(peer);
        let mut places = self.lock();
        let count = places.by_address.entry(address).or_default();
        // An address that got no place has one already, so nothing is left behind here.
        if *count >= max && !address.is_loopback() {
            return None;
        }
        *count += 1;
        let number = places.next();
        let leave = CancellationToken::new();
        places.all.insert(number, Occupant { moved: Some(number), leave: leave.clone() });
        drop(places);
        Some(Place { crowd: self.clone(), address, number, leave })
    }

    /// Takes the place of the connection that moved nothing for the longest time, for `newcomer`. Nobody loses one while
    /// all requests are being worked on.
    pub(super) fn make_room(&self, newcomer: &Place) {
        let places = self.lock();
        let others =
            places.all.iter().filter(|(number, other)| **number != newcomer.number && !other.leave.is_cancelled());
        let longest = others.filter_map(|(_, other)| Some((other.moved?, other))).min_by_key(|(moved, _)| *moved);
        if let Some((_, other)) = longest {
            other.leave.cancel();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        // Nothing that can panic runs under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// A request arrived whole, and is worked on from now on.
    pub(super) fn works(&self) {
        if let Some(occupant) = self.crowd.lock().all.get_mut(&self.number) {
            occupant.moved = None;
        }
    }

    /// A part of an answer is ready to be sent, and so all before it was taken.
    pub(super) fn moves(&self) {
        let mut places = self.crowd.lock();
        let now = places.next();
        if let Some(occupant) = places.all.get_mut(&self.number) {
            occupant.moved = Some(now);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.crowd.lock();
        places.all.remove(&self.number);
        if let Some(count) = places.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                places.by_address.remove(&self.address);
            }
        }
    }
}

/// The part of an address that stands for one customer of a provider (RFC 6177: a /64 at the least).
fn whose(address: IpAddr) -> IpAddr {
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

    /// One address can't take all the room; a network of a provider counts as one; a proxy of this machine as everybody.
    #[test]
    fn an_address_has_so_many_places() {
        let crowd = Crowd::default();
        let enter = |text: &str| crowd.enter(address(text), 2);
        let (first, second) = (enter("192.0.2.1"), enter("::ffff:192.0.2.1"));
        assert!(first.is_some() && second.is_some());
        assert!(enter("192.0.2.1").is_none(), "at the bound");
        assert!(enter("192.0.2.2").is_some(), "another address");
        drop(first);
        assert!(enter("192.0.2.1").is_some(), "a place was given back");
        drop(second);
        let networks = (enter("2001:db8:0:1::1"), enter("2001:db8:0:1:ffff::2"));
        assert!(enter("2001:db8:0:1::3").is_none(), "one network");
        assert!(enter("2001:db8:0:2::3").is_some(), "another network");
        let proxied: Vec<_> = (0..10).map(|_| enter("127.0.0.1").expect("not bounded")).collect();
        assert!(enter("::1").is_some());
        drop((networks, proxied));
        assert!(crowd.lock().by_address.is_empty() && crowd.lock().all.is_empty(), "nothing is left behind");
    }

    #[test]
    fn who_moved_nothing_for_the_longest_time_has_to_go() {
        let crowd = Crowd::default();
        let enter = || crowd.enter(address("192.0.2.1"), 9).expect("there is room");
        let (silent, reading, working, newcomer) = (enter(), enter(), enter(), enter());
        working.works();
        reading.works();
        reading.moves();
        silent.works();
        silent.moves();
        let gone = || [&silent, &reading, &working, &newcomer].map(|place| place.leave.is_cancelled());
        reading.moves();
        for expected in [[true, false, false, false], [true, true, false, false], [true, true, false, false]] {
            crowd.make_room(&newcomer);
            assert_eq!(gone(), expected);
        }
        working.moves();
        crowd.make_room(&newcomer);
        assert_eq!(gone(), [true, true, true, false]);
    }
}
