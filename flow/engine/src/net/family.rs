//! The two families of addresses, for whoever watches one of them.

use std::fmt;
use std::net::IpAddr;

use policy::{Slot, Value};

/// A family of IP addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// That of an address.
    pub const fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

impl Value for Family {
    const SHAPE: &'static str = "\"ipv4\" or \"ipv6\"";
    const EXAMPLE: &'static str = "\"ipv6\"";

    fn read(slot: Slot<'_>) -> Option<Self> {
        slot.choose(&[("ipv4", Self::V4), ("ipv6", Self::V6)])
    }
}
