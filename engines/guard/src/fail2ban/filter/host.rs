//! What a line names as its author: an address, a network, a name, or anything else that identifies it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An author, as fail2ban's `IPAddr` reads it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Host {
    text: String,
    network: Option<(IpAddr, u8)>,
}

/// A text that can't be read as an author: a mask that is none, or a character that no address can have.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error, Debug)]
#[error("what identifies the author of the line is no address and has a mask that is no number, or the character 0")]
pub struct BadHost;

/// How a text is to be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum As {
    /// As it stands.
    Raw,
    /// As an address or a network, when it is one.
    Any,
    /// As an address of the fourth version.
    V4,
    /// As an address of the sixth version.
    V6,
    /// As an address in a network with this length of prefix.
    Prefix(u32),
    /// As an address of a version that does not exist.
    Nothing,
}

impl Host {
    /// The text, in its canonical form where it is an address; a network that is no single address has its prefix.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The address, when it is one alone.
    pub fn address(&self) -> Option<IpAddr> {
        self.network
            .filter(|(address, prefix)| *prefix == if address.is_ipv4() { 32 } else { 128 })
            .map(|(address, _)| address)
    }

    /// The address and the length of its prefix, when it is an address or a network.
    pub fn network(&self) -> Option<(IpAddr, u8)> {
        self.network
    }

    pub(super) fn raw(text: &str) -> Self {
        Self { text: text.to_owned(), network: None }
    }

    pub(super) fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::v4(u32::from(address), 32),
            IpAddr::V6(address) => Self::v6(u128::from(address), None),
        }
    }

    pub(super) fn read(text: &str, how: As) -> Result<Self, BadHost> {
        let (text, how) = if how == As::Any { unwrapped(text)? } else { (text, how) };
        if how == As::Raw {
            return Ok(Self::raw(text));
        }
        if text.contains('\0') {
            return Err(BadHost);
        }
        let prefix = if let As::Prefix(prefix) = how { Some(prefix) } else { None };
        if !matches!(how, As::V6 | As::Nothing)
            && let Ok(address) = text.parse::<Ipv4Addr>()
        {
            let bits = u32::from(address);
            return Ok(match prefix {
                Some(prefix) => Self::v4(bits & !u32::MAX.checked_shr(prefix).unwrap_or(0), prefix),
                None => Self::v4(bits, 32),
            });
        }
        if !matches!(how, As::V4 | As::Nothing)
            && let Ok(address) = text.parse::<Ipv6Addr>()
        {
            return Ok(Self::v6(u128::from(address), prefix));
        }
        Ok(Self::raw(text))
    }

    fn v4(bits: u32, prefix: u32) -> Self {
        let address = Ipv4Addr::from(bits);
        let text = if prefix > 0 && prefix < 32 { format!("{address}/{prefix}") } else { address.to_string() };
        Self { text, network: Some((IpAddr::V4(address), u8::try_from(prefix).unwrap_or(u8::MAX))) }
    }

    fn v6(bits: u128, prefix: Option<u32>) -> Self {
        let Some(prefix) = prefix else {
            if bits >> 32 == 0xffff {
                return Self::v4(u32::try_from(bits & 0xffff_ffff).unwrap_or(0), 32);
            }
            return Self { text: v6_text(bits), network: Some((IpAddr::V6(Ipv6Addr::from(bits)), 128)) };
        };
        let bits = bits & !u128::MAX.checked_shr(prefix).unwrap_or(0);
        let mut text = v6_text(bits);
        if prefix > 0 && prefix < 128 {
            text = format!("{text}/{prefix}");
        }
        Self { text, network: Some((IpAddr::V6(Ipv6Addr::from(bits)), u8::try_from(prefix).unwrap_or(u8::MAX))) }
    }

    /// The number of the address: what a mask is told by.
    fn bits(&self) -> u128 {
        match self.network {
            Some((IpAddr::V4(address), _)) => u128::from(u32::from(address)),
            Some((IpAddr::V6(address), _)) => u128::from(address),
            None => 0,
        }
    }
}

/// As `inet_ntop` of the C library writes it: `::/96` has its last part as an address of the fourth version.
fn v6_text(bits: u128) -> String {
    if (0x1_0000..=0xffff_ffff).contains(&bits) {
        return format!("::{}", Ipv4Addr::from(u32::try_from(bits).unwrap_or(0)));
    }
    Ipv6Addr::from(bits).to_string()
}

/// A text without the brackets of an address with a port, and with its mask taken off.
fn unwrapped(text: &str) -> Result<(&str, As), BadHost> {
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).filter(|inner| !inner.is_empty());
    let text = inner.unwrap_or(text);
    let Some((text, mask)) = text.split_once('/') else { return Ok((text, As::Any)) };
    let prefix = if mask.contains(['.', ':']) { i64::from(prefix_of(mask)?) } else { number(mask).ok_or(BadHost)? };
    Ok((
        text,
        match prefix {
            0.. => As::Prefix(u32::try_from(prefix).unwrap_or(u32::MAX)),
            // What the numbers stand for in fail2ban, below zero.
            -1 => As::Any,
            -2 => As::Raw,
            -4 => As::V4,
            -12 => As::V6,
            _ => As::Nothing,
        },
    ))
}

/// The length of the prefix that a mask such as `255.255.255.0` stands for.
fn prefix_of(mask: &str) -> Result<u32, BadHost> {
    let bits = Host::read(mask, As::Any)?.bits();
    if bits == 0 {
        return Ok(0);
    }
    let (ones, whole) = match u32::try_from(bits) {
        Ok(bits) => (bits.leading_ones(), u128::from(u32::MAX)),
        Err(_) => (bits.leading_ones(), u128::MAX),
    };
    if bits == whole & !whole.checked_shr(ones).unwrap_or(0) { Ok(ones) } else { Err(BadHost) }
}

/// A number as Python's `int` reads it.
pub(super) fn number(text: &str) -> Option<i64> {
    let text = text.trim();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.is_empty() || digits.starts_with('_') || digits.ends_with('_') || digits.contains("__") {
        return None;
    }
    let mut value: i64 = 0;
    for c in digits.chars().filter(|c| *c != '_') {
        value = value.saturating_mul(10).saturating_add(i64::from(c.to_digit(10)?)).min(1 << 40);
    }
    Some(if negative { -value } else { value })
}
