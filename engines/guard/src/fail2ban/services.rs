//! Ports as an action names them: numbers, ranges, and names of `/etc/services`.

use std::collections::BTreeMap;

use serde::Serialize;

/// Ports that are known where `/etc/services` is missing or does not have them.
const KNOWN: [(&str, u16); 26] = [
    ("ftp", 21),
    ("ftp-data", 20),
    ("ftps", 990),
    ("ftps-data", 989),
    ("ssh", 22),
    ("telnet", 23),
    ("smtp", 25),
    ("submission", 587),
    ("submissions", 465),
    ("smtps", 465),
    ("ssmtp", 465),
    ("urd", 465),
    ("domain", 53),
    ("http", 80),
    ("https", 443),
    ("pop3", 110),
    ("pop3s", 995),
    ("imap", 143),
    ("imap2", 143),
    ("imap3", 220),
    ("imaps", 993),
    ("sieve", 4190),
    ("mysql", 3306),
    ("postgresql", 5432),
    ("ldap", 389),
    ("socks", 1080),
];
/// Most names that are kept.
const NAMES_MAX: usize = 20_000;

/// One port of an action, or several.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Port {
    /// From one number to another, both included.
    Range(u16, u16),
    /// A name of `/etc/services`.
    Name(String),
}

impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Range(from, to) if from == to => write!(f, "{from}"),
            Self::Range(from, to) => write!(f, "{from}-{to}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl Port {
    /// Reads `22`, `1024:2048` (or `1024-2048`) and `ssh`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{}` is no port: write a number, a range `from:to`, or a name of /etc/services",
                super::options::short(text)
            )
        };
        let number = |text: &str| text.parse::<u16>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
        if let Some(port) = number(text) {
            return Ok(Self::Range(port, port));
        }
        if let Some((from, to)) = text.split_once([':', '-'])
            && (from.is_empty() || number(from).is_some())
            && (to.is_empty() || number(to).is_some())
        {
            // As iptables reads an open range.
            let from = if from.is_empty() { 0 } else { number(from).ok_or_else(wrong)? };
            let to = if to.is_empty() { u16::MAX } else { number(to).ok_or_else(wrong)? };
            return if from <= to { Ok(Self::Range(from, to)) } else { Err(wrong()) };
        }
        let named = text.len() <= 64
            && text.chars().any(char::is_alphabetic)
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_+.*/".contains(c));
        if named { Ok(Self::Name(text.to_owned())) } else { Err(wrong()) }
    }
}

/// Numbers of the names of `/etc/services`.
#[derive(Clone, Default, Debug)]
pub struct Services {
    names: BTreeMap<String, Vec<u16>>,
}

impl Services {
    /// Reads the text of `/etc/services`; lines that are none are passed over.
    pub fn parse(text: &str) -> Self {
        let mut names: BTreeMap<String, Vec<u16>> = BTreeMap::new();
        for line in text.lines() {
            let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
            let (Some(name), Some(port)) = (words.next(), words.next()) else { continue };
            let Some(port) = port.split_once('/').and_then(|(port, _)| port.parse().ok()) else { continue };
            for name in [name].into_iter().chain(words) {
                if names.len() >= NAMES_MAX {
                    break;
                }
                let ports = names.entry(name.to_owned()).or_default();
                if !ports.contains(&port) && ports.len() < 8 {
                    ports.push(port);
                }
            }
        }
        Self { names }
    }

    /// The ranges of some ports, or the name that is not known.
    pub fn ranges(&self, ports: &[Port]) -> Result<Vec<(u16, u16)>, String> {
        let mut ranges = Vec::new();
        for port in ports {
            match port {
                Port::Range(from, to) => ranges.push((*from, *to)),
                Port::Name(name) => match (self.names.get(name), KNOWN.iter().find(|(known, _)| known == name)) {
                    (Some(ports), _) => ranges.extend(ports.iter().map(|&port| (port, port))),
                    (None, Some(&(_, port))) => ranges.push((port, port)),
                    (None, None) => return Err(name.clone()),
                },
            }
        }
        Ok(ranges)
    }
}
