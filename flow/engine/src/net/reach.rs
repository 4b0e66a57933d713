//! Which addresses a redirect may lead to, and a notification go to.
//!
//! **Problem.** Whoever controls a probed server chooses where a followed redirect leads: to the database port of the
//! monitor's own network, to the metadata service of its cloud. **Principle.** What the policy names is asked as it is
//! written. Where somebody else's answer leads, from a public address, must be public too, or be in a range that the policy
//! allows. The addresses that a connection is opened to are judged, and not the name: a name may mean another one tomorrow.
//! So is where a notification goes: whoever may enter a webhook is not thereby let into the network of the monitor.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use ipnet::IpNet;

/// What a policy allows beside public addresses.
#[derive(Clone, Default, Debug)]
pub(crate) struct Reach {
    /// To redirects.
    pub(crate) redirects: Vec<IpNet>,
    /// To notifications.
    pub(crate) notifications: Vec<IpNet>,
    /// Taken for public ones: a test has no other server than its own machine.
    pub(crate) taken_for_public: Vec<IpAddr>,
}

impl Reach {
    /// Whether everybody may be led there.
    pub(crate) fn allows_redirect(&self, address: IpAddr) -> bool {
        self.is_public(address) || within(&self.redirects, address)
    }

    /// Whether a notification may go there.
    pub(crate) fn allows_notification(&self, address: IpAddr) -> bool {
        self.is_public(address) || within(&self.notifications, address)
    }

    pub(crate) fn is_public(&self, address: IpAddr) -> bool {
        let public = match address.to_canonical() {
            IpAddr::V4(address) => is_public_v4(address),
            IpAddr::V6(address) => is_public_v6(address),
        };
        public || self.taken_for_public.contains(&address)
    }
}

fn within(ranges: &[IpNet], address: IpAddr) -> bool {
    ranges.iter().any(|range| range.contains(&address.to_canonical()))
}

/// Whether it is globally reachable, by the registry of special-purpose addresses of IANA (RFC 6890); ranges for
/// documentation and benchmarks are not.
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (18..20).contains(&b)))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let v4 = |at: usize| {
        let [high, low] = [at, at + 1].map(|at| segments.get(at).copied().unwrap_or_default());
        is_public_v4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)))
    };
    match segments {
        // Translated to IPv4 on the way: RFC 6052; 6to4, RFC 3056.
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => v4(6),
        [0x2002, ..] => v4(1),
        // Teredo, benchmarks, ORCHID; documentation.
        [0x2001, 0..0x200 | 0xdb8, ..] | [0x3fff, 0..0x1000, ..] => false,
        // Everything that is global unicast (RFC 4291, section 2.4, as assigned).
        [first, ..] => (0x2000..0x4000).contains(&first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_public_is_known() {
        let reach = Reach::default();
        for public in ["1.1.1.1", "100.63.255.255", "172.32.0.1", "198.20.0.1", "2606:4700::1111", "64:ff9b::101:101"] {
            assert!(reach.allows_redirect(public.parse().expect("an address")), "{public}");
        }
        for inner in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "3fff::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!reach.allows_redirect(inner.parse().expect("an address")), "{inner}");
        }
        let redirects = vec!["10.1.0.0/16".parse().expect("a range"), "::1/128".parse().expect("a range")];
        let reach = Reach { redirects, ..Reach::default() };
        for (address, allowed) in
            [("10.1.2.3", true), ("::ffff:10.1.2.3", true), ("10.2.0.1", false), ("::1", true), ("127.0.0.1", false)]
        {
            assert_eq!(reach.allows_redirect(address.parse().expect("an address")), allowed, "{address}");
            assert!(!reach.allows_notification(address.parse().expect("an address")), "{address}");
        }
    }
}
