//! A jail, as the reader of the configuration hands it on: which logs, which filter, how many failures in which time, what then.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use event::Span;
use ipnet::{IpNet, Ipv4Net};
use serde::Serialize;

use super::actions::Action;
use super::definition::{FilterDefinition, UseDns};
use super::problem::{Place, Problem};

/// What a configuration directory says.
#[derive(Clone, PartialEq, Serialize, Debug)]
pub struct Jails {
    /// Enabled jails, in the order of the files.
    pub jails: Vec<Jail>,
    /// Names of the jails that are not enabled.
    pub disabled: Vec<String>,
    /// Enabled jails that can't be read.
    pub broken: Vec<BrokenJail>,
    /// What fail2ban would have warned of.
    pub notes: Vec<Problem>,
    /// Of these, files that are there and were passed over, because they can't be read or are no text.
    #[serde(skip)]
    pub passed_over: Vec<Problem>,
    /// Of these, switches that are neither on nor off, and count as off.
    #[serde(skip)]
    pub mistyped: Vec<Problem>,
}

/// A jail that can't be read.
#[derive(Clone, PartialEq, Serialize, Debug)]
pub struct BrokenJail {
    /// Its name.
    pub name: String,
    /// Why, and what to do.
    pub problems: Vec<Problem>,
}

/// One enabled jail.
#[derive(Clone, PartialEq, Serialize, Debug)]
pub struct Jail {
    /// Name: that of its section.
    pub name: String,
    /// Where its section says its first option.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// Where its lines come from.
    pub backend: Backend,
    /// Files to read, when they come from files.
    pub log_paths: Vec<LogPath>,
    /// The filter, with the patterns that the jail itself adds.
    pub filter: FilterDefinition,
    /// Failures within `find_time` that make an offence (`maxretry`).
    pub max_retry: u32,
    /// Lines of a failure that are kept (`maxmatches`).
    pub max_matches: u32,
    /// In which time (`findtime`).
    pub find_time: Span,
    /// How long a ban lasts (`bantime`).
    pub ban_time: BanTime,
    /// Longer for those who come back (`bantime.increment`); `None` when it is off.
    pub increment: Option<Increment>,
    /// Who is never banned (`ignoreip`).
    pub ignored: Vec<Ignored>,
    /// Whether addresses of this host are never banned (`ignoreself`).
    pub ignore_self: bool,
    /// Command that fail2ban asks whether to ignore an address (`ignorecommand`); garant runs none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ignore_command: Option<String>,
    /// Whether names in place of addresses are looked up (`usedns`).
    pub use_dns: UseDns,
    /// Encoding of the files (`logencoding`); `auto` is that of the locale.
    pub log_encoding: String,
    /// Time zone of dates that name none (`logtimezone`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_time_zone: Option<String>,
    /// What is done about an offence.
    pub actions: Vec<Action>,
    /// Where its options stand, by their names.
    #[serde(skip)]
    pub places: BTreeMap<String, Place>,
}

/// Where the lines of a jail come from.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// Files, however changes of them are noticed: `auto`, `pyinotify`, `gamin`, `polling`.
    Files,
    /// journald: `systemd`, with its options.
    Journal(Vec<(String, String)>),
}

/// A file to read, or several.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct LogPath {
    /// Path, with `*`, `?` and `[…]`.
    pub pattern: String,
    /// Whether what is there at the start is skipped (`tail`).
    pub tail: bool,
}

/// How long a ban lasts.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum BanTime {
    /// For ever: -1.
    Forever,
    /// For so long; nobody is banned where that is not positive.
    For(Span),
}

/// How bans get longer. Formula, factor and multipliers are as they are written; `detect` reads them.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct Increment {
    /// `bantime.factor`.
    pub factor: Option<String>,
    /// `bantime.formula`.
    pub formula: Option<String>,
    /// `bantime.multipliers`.
    pub multipliers: Option<String>,
    /// `bantime.maxtime`.
    pub max_time: Option<Span>,
    /// `bantime.rndtime`.
    pub rnd_time: Option<Span>,
    /// `bantime.overalljails`: whether bans by other jails count.
    pub overall_jails: bool,
}

/// Who is never banned.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Ignored {
    /// An address or a network.
    Network(IpNet),
    /// A name, whose addresses fail2ban looks up.
    Name(String),
    /// An address with what is no length of a network, as it is written: the address alone is spared, as by fail2ban.
    Mistaken(String, IpNet),
}

impl Ignored {
    /// The name, when it has to be looked up to know whom it spares. This host itself is never banned.
    pub(crate) fn unknown_name(&self) -> Option<&str> {
        match self {
            Self::Name(name) if !["localhost", "ip6-localhost", "localhost.localdomain"].contains(&name.as_str()) => {
                Some(name)
            }
            _ => None,
        }
    }

    /// Reads `10.0.0.1`, `10.0.0.0/8`, `10.0.0.0/255.0.0.0`, `fe80::/10`; all that begins with no address is a name.
    pub(crate) fn parse(text: &str) -> Self {
        let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let Ok(address) = address.parse::<IpAddr>().map(|address| address.to_canonical()) else {
            return Self::Name(text.to_owned());
        };
        let network = match (length, address) {
            (None, address) => Some(IpNet::from(address)),
            (Some(length), IpAddr::V4(v4)) if length.contains('.') => {
                length.parse::<Ipv4Addr>().ok().and_then(|mask| Ipv4Net::with_netmask(v4, mask).ok()).map(IpNet::from)
            }
            (Some(length), address) => length.parse().ok().and_then(|length| IpNet::new(address, length).ok()),
        };
        network.map_or_else(
            || Self::Mistaken(text.to_owned(), IpNet::from(address)),
            |network| Self::Network(network.trunc()),
        )
    }
}
