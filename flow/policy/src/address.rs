//! Where something answers: hosts, ports and HTTP URLs.
//!
//! A URL of the policy is what a probe asks and what a customer is shown, so it is read strictly, by RFC 3986 and not as a
//! browser would guess: no user name or password (a policy is no place for secrets), no fragment (a server never sees
//! it), no character that needs escaping, no IPv4 address in disguise (`0x7f.1`).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::value::{Slot, Value};

/// Longest URL, as most servers bound their request line.
const URL_BYTES_MAX: usize = 2048;

/// Why a text is not an address, and what to write instead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadAddress {
    /// What is wrong, as it follows the name of the key: `has no port`.
    pub reason: &'static str,
    /// What to write instead.
    pub remedy: &'static str,
}

impl fmt::Display for BadAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.remedy)
    }
}

impl std::error::Error for BadAddress {}

const fn bad<T>(reason: &'static str, remedy: &'static str) -> Result<T, BadAddress> {
    Err(BadAddress { reason, remedy })
}

/// A name to resolve, or an address.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Address {
    /// A host name in lower case, without a final dot.
    Name(String),
    /// An IP address.
    Ip(IpAddr),
}

impl FromStr for Address {
    type Err = BadAddress;

    /// As in a URL: an IPv6 address stands in brackets. Host names by RFC 1123, and `_` as DNS allows.
    fn from_str(text: &str) -> Result<Self, BadAddress> {
        if let Some(inner) = text.strip_prefix('[') {
            let address = inner.strip_suffix(']').and_then(|inner| inner.parse::<Ipv6Addr>().ok());
            return match address {
                Some(address) => Ok(Self::Ip(address.into())),
                None => bad("is not an IPv6 address", "write it like [2001:db8::1]"),
            };
        }
        if text.is_empty() {
            return bad("has no host name", "write the name of a server, such as shop.example");
        }
        if !text.is_ascii() {
            return bad(
                "has a host name with letters outside ASCII",
                "write the name as the DNS has it, starting with xn--",
            );
        }
        if text.ends_with('.') {
            return bad("has a dot at the end of the host name", "remove it: certificates name hosts without");
        }
        let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(letter)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if text.len() > 253 || !text.split('.').all(label) {
            return bad(
                "has no valid host name",
                "use letters, digits, `-` and dots, 63 characters at most between two dots",
            );
        }
        // A last label that looks like a number makes an address of it (WHATWG URL, "ends in a number").
        let last = text.rsplit('.').next().unwrap_or_default();
        let hexadecimal = last.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()));
        if hexadecimal || last.bytes().all(|b| b.is_ascii_digit()) {
            return match text.parse::<Ipv4Addr>() {
                Ok(address) => Ok(Self::Ip(address.into())),
                Err(_) => bad("is not an IPv4 address", "write four decimal numbers, such as 192.0.2.1"),
            };
        }
        Ok(Self::Name(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for Address {
    /// As in a URL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Ip(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// Splits `host` or `host:port`; the colons inside brackets are the host's.
fn split_port(text: &str) -> Result<(&str, Option<u16>), BadAddress> {
    let host_end = text.find(']').map_or(0, |bracket| bracket + 1);
    let Some(colon) = text.get(host_end..).and_then(|rest| rest.find(':')).map(|colon| host_end + colon) else {
        return Ok((text, None));
    };
    let (host, port) = (text.get(..colon).unwrap_or_default(), text.get(colon + 1..).unwrap_or_default());
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(number) if digits && number != 0 => Ok((host, Some(number))),
        _ => bad(
            "has no valid port",
            "write a number from 1 to 65535 after the colon; an IPv6 address stands in brackets",
        ),
    }
}

/// A host and a port.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HostPort {
    /// The host.
    pub host: Address,
    /// The port, never 0.
    pub port: u16,
}

impl FromStr for HostPort {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let (host, port) = split_port(text)?;
        let host = host.parse()?;
        match port {
            Some(port) => Ok(Self { host, port }),
            None => bad("has no port", "add a colon and the port, such as shop.example:443"),
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Whether a URL is spoken in clear or over TLS.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Scheme {
    /// In clear.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port when a URL names none.
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// An HTTP URL.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Url {
    scheme: Scheme,
    host: Address,
    port: u16,
    /// Starts with `/`.
    target: String,
}

impl Url {
    /// In clear or over TLS.
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host.
    pub const fn host(&self) -> &Address {
        &self.host
    }

    /// The port: that of the scheme when none is written.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Path and query, as they stand in the request line; starts with `/`.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Path without query; starts with `/`.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or("/")
    }

    /// Host, and port unless it is that of the scheme: the value of the `Host` header.
    pub fn authority(&self) -> String {
        if self.port == self.scheme.default_port() {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Url {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        if text.len() > URL_BYTES_MAX {
            return bad("is longer than 2048 bytes", "shorten it: many servers refuse longer ones");
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return bad("is not a URL", "start with https:// or http://");
        };
        let scheme = if scheme.eq_ignore_ascii_case("https") {
            Scheme::Https
        } else if scheme.eq_ignore_ascii_case("http") {
            Scheme::Http
        } else {
            return bad("is not an HTTP URL", "start with https:// or http://");
        };
        if rest.contains('#') {
            return bad("has a fragment", "remove the `#` and what follows: a server never sees it");
        }
        let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(authority_end);
        if authority.contains('@') {
            return bad("has a user name", "remove everything up to the `@`: a policy is no place for secrets");
        }
        let (host, port) = split_port(authority)?;
        let host = host.parse()?;
        check_target(target)?;
        let slash = if target.starts_with('/') { "" } else { "/" };
        Ok(Self { scheme, host, port: port.unwrap_or(scheme.default_port()), target: format!("{slash}{target}") })
    }
}

/// Path and query by RFC 3986, sections 3.3 and 3.4.
fn check_target(target: &str) -> Result<(), BadAddress> {
    let mut bytes = target.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let mut digit = || bytes.next().is_some_and(|b| b.is_ascii_hexdigit());
                if !(digit() && digit()) {
                    return bad(
                        "has a `%` that escapes nothing",
                        "write two hexadecimal digits after it, or %25 for itself",
                    );
                }
            }
            other if other.is_ascii_alphanumeric() || b"/?:@-._~!$&'()*+,;=".contains(&other) => {}
            _ => {
                return bad(
                    "has a character that may not stand in a URL",
                    "escape it with `%` and two hexadecimal digits, such as %20 for a space",
                );
            }
        }
    }
    Ok(())
}

impl fmt::Display for Url {
    /// In its shortest form: no port if it is that of the scheme.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme.as_str(), self.authority(), self.target)
    }
}

fn read<V: Value + FromStr<Err = BadAddress>>(mut slot: Slot<'_>) -> Option<V> {
    match slot.text::<V>()?.parse() {
        Ok(value) => Some(value),
        Err(BadAddress { reason, remedy }) => {
            slot.wrong(format!("`{}` {reason}", slot.key()), remedy);
            None
        }
    }
}

impl Value for Url {
    const SHAPE: &'static str = "an HTTP URL";
    const EXAMPLE: &'static str = "\"https://shop.example/health\"";

    fn read(mut slot: Slot<'_>) -> Option<Self> {
        // What stands in a query is often a token.
        slot.hide_after('?');
        read(slot)
    }
}

impl Value for HostPort {
    const SHAPE: &'static str = "a host and a port";
    const EXAMPLE: &'static str = "\"shop.example:443\"";

    fn read(slot: Slot<'_>) -> Option<Self> {
        read(slot)
    }
}

impl Value for Address {
    const SHAPE: &'static str = "a host name or an IP address";
    const EXAMPLE: &'static str = "\"shop.example\"";

    fn read(slot: Slot<'_>) -> Option<Self> {
        read(slot)
    }
}

#[cfg(test)]
mod tests;
