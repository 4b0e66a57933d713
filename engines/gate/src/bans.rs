//! Networks that are let in nowhere: what a guard has banned, looked up before anything else is done for a client.
//!
//! For each length of prefix that occurs there is a sorted list, so that a look-up is one binary search for each, of which there are
//! two or three. A network of IPv4 takes 8 bytes, one of IPv6 20: 0.8 and 2 MB for a hundred thousand.

use std::cmp::Reverse;
use std::net::IpAddr;

use event::Time;
use ipnet::IpNet;

/// Most networks that are kept; further ones are passed over.
pub(crate) const NETWORKS_MAX: usize = 100_000;

/// The bans.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Bans {
    v4: Vec<Lengths<u32>>,
    v6: Vec<Lengths<u128>>,
    count: usize,
}

/// The networks of one length of prefix.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Lengths<A> {
    length: u8,
    /// Sorted.
    networks: Vec<A>,
    /// The minute, counted from 1970, with which each ban is over; 0 for ever.
    until: Vec<u32>,
}

impl<A: Copy + Ord> Lengths<A> {
    fn bans(&self, network: A, minute: u32) -> bool {
        let found = self.networks.binary_search(&network).ok().and_then(|place| self.until.get(place));
        found.is_some_and(|until| *until == 0 || *until > minute)
    }

    fn bytes(&self) -> usize {
        self.networks.capacity() * size_of::<A>() + self.until.capacity() * size_of::<u32>()
    }
}

/// Sorts networks by their length.
fn by_length<A: Copy + Ord>(mut all: Vec<(u8, A, u32)>) -> Vec<Lengths<A>> {
    // Of a network that is there twice, what lasts longest comes first, and stays.
    all.sort_unstable_by_key(|(length, network, until)| (*length, *network, Reverse(until.wrapping_sub(1))));
    all.dedup_by(|next, kept| (next.0, next.1) == (kept.0, kept.1));
    let groups = all.chunk_by(|one, other| one.0 == other.0);
    let of = |group: &[(u8, A, u32)]| Lengths {
        length: group.first().map_or(0, |first| first.0),
        networks: group.iter().map(|(_, network, _)| *network).collect(),
        until: group.iter().map(|(_, _, until)| *until).collect(),
    };
    groups.map(of).collect()
}

fn minute(time: Time) -> u32 {
    u32::try_from(time.micros().div_euclid(60_000_000).max(0)).unwrap_or(u32::MAX)
}

impl Bans {
    /// Of networks, each with the minute with which it is over, 0 for ever.
    pub(crate) fn of(networks: &[(IpNet, u32)]) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (network, until) in networks.iter().take(NETWORKS_MAX) {
            match network.trunc() {
                IpNet::V4(network) => v4.push((network.prefix_len(), network.network().to_bits(), *until)),
                IpNet::V6(network) => v6.push((network.prefix_len(), network.network().to_bits(), *until)),
            }
        }
        let count = v4.len() + v6.len();
        Self { v4: by_length(v4), v6: by_length(v6), count }
    }

    /// Whether nothing is done for a client.
    pub(crate) fn has(&self, client: IpAddr, now: Time) -> bool {
        let minute = minute(now);
        match client.to_canonical() {
            IpAddr::V4(address) => {
                let bits = address.to_bits();
                let network = |length: u8| bits & u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                self.v4.iter().any(|lengths| lengths.bans(network(lengths.length), minute))
            }
            IpAddr::V6(address) => {
                let bits = address.to_bits();
                let network = |length: u8| bits & u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
                self.v6.iter().any(|lengths| lengths.bans(network(lengths.length), minute))
            }
        }
    }

    /// How many networks.
    pub(crate) const fn count(&self) -> usize {
        self.count
    }

    /// The memory that they take.
    pub(crate) fn bytes(&self) -> usize {
        self.v4.iter().map(Lengths::bytes).sum::<usize>() + self.v6.iter().map(Lengths::bytes).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(networks: &[(&str, u32)]) -> Bans {
        let networks: Vec<_> =
            networks.iter().map(|(text, until)| (text.parse().expect("a network"), *until)).collect();
        Bans::of(&networks)
    }

    #[test]
    fn a_client_is_found_in_every_network() {
        let bans = of(&[
            ("203.0.113.7/32", 0),
            ("203.0.113.0/25", 10),
            ("10.0.0.0/8", 0),
            ("2001:db8::/64", 0),
            ("2001:db8:1::7/128", 10),
        ]);
        let at = |minute: i64| Time::from_secs(minute * 60);
        let has = |client: &str, minute| bans.has(client.parse().expect("an address"), at(minute));
        for client in ["203.0.113.7", "203.0.113.127", "10.255.0.1", "::ffff:10.0.0.1", "2001:db8::1", "2001:db8:1::7"]
        {
            assert!(has(client, 9), "{client}");
        }
        for client in ["203.0.113.128", "11.0.0.1", "2001:db8:0:1::1", "2001:db8:1::8", "::1", "127.0.0.1"] {
            assert!(!has(client, 9), "{client}");
        }
        assert!(has("203.0.113.7", 10) && !has("203.0.113.8", 10), "one ban is over, the other is for ever");
        let twice = of(&[("192.0.2.0/24", 10), ("192.0.2.0/24", 20), ("198.51.100.0/24", 10), ("198.51.100.0/24", 0)]);
        for client in ["192.0.2.1", "198.51.100.1"] {
            assert!(twice.has(client.parse().expect("an address"), at(15)), "the longer one counts: {client}");
        }
        assert!(of(&[("0.0.0.0/0", 0)]).has("192.0.2.1".parse().expect("an address"), at(0)));
        assert!(of(&[("::/0", 0)]).has("2001:db8::1".parse().expect("an address"), at(0)));
        assert!(!Bans::default().has("192.0.2.1".parse().expect("an address"), at(0)));
    }

    #[test]
    fn a_hundred_thousand_take_little_memory() {
        let v4: Vec<(IpNet, u32)> =
            (0..100_000_u32).map(|n| (IpNet::from(IpAddr::from((n * 7919).to_be_bytes())), 1)).collect();
        let bans = Bans::of(&v4);
        assert_eq!((bans.count(), bans.bytes()), (100_000, 800_000));
        let v6: Vec<(IpNet, u32)> =
            (0..100_000_u128).map(|n| (IpNet::from(IpAddr::from((n << 64 | 1).to_be_bytes())), 1)).collect();
        assert_eq!(Bans::of(&v6).bytes(), 2_000_000);
        let more: Vec<(IpNet, u32)> = v4.iter().chain(&v6).copied().collect();
        assert_eq!(Bans::of(&more).count(), NETWORKS_MAX, "at the bound");
    }
}
