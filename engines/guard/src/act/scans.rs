//! Port scans, noticed and banned by the kernel alone.
//!
//! **Problem.** A scan of a thousand ports is over before a program has read a log of it, and a log line for each refused
//! packet is an attack of its own. **Principle.** A chain at `input` remembers which source asked for which port that nobody
//! listens on; a bucket for each source counts ports that it had not asked for yet; when it overflows the source goes into a
//! set of banned sources, with a timeout, and the engine reads that set every few seconds to tell of it.
//!
//! What is never counted: packets of connections that exist; ports that somebody listens on (the expression `socket`), whatever
//! the tables of others do with them; ports of containers (their packets are forwarded and never reach `input`); what is
//! allowed; and whoever has sent data over a connection with this host in the last minutes. That last rule is what keeps a
//! forged sender address from cutting off somebody who really uses this host, and a late answer of a name server from looking
//! like a scan. Of IPv6, a source is the network of 64 bits: one machine has all of its addresses. How many sources are banned in a minute is bounded by the kernel too: a flood of forged addresses bans few.
//!
//! Besides SYN, packets without any of SYN, ACK and RST (null, FIN and Xmas scans) are counted: no connection has those.

use std::fmt::Write as _;

use event::Span;

/// When a source scans ports, and how long it is banned for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scans {
    /// Most different closed ports that a source may ask for within `window`; one more bans it.
    pub ports: u16,
    /// How long a port that was asked for is remembered. After it the source may ask for as many ports again.
    pub window: Span,
    /// How long a source is banned for.
    pub ban: Span,
    /// Most sources that the kernel bans in a minute.
    pub bans_per_minute: u16,
}

impl Default for Scans {
    fn default() -> Self {
        Self { ports: 15, window: Span::from_secs(60), ban: Span::from_secs(3600), bans_per_minute: 60 }
    }
}

/// How long whoever sent data over a connection counts as somebody who uses this host.
const PEER_MIN: i64 = 10;
/// Most sources and ports that the kernel remembers at a time; beyond it, none is added until some have timed out.
const SOURCES_MAX: u32 = 65_536;
const PORTS_MAX: u32 = 65_536;

/// The families: the digit in the names of sets, the type of the address, and the source as it is counted.
pub(super) const FAMILIES: [(char, &str, &str); 2] =
    [('4', "ipv4_addr", "ip saddr"), ('6', "ipv6_addr", "ip6 saddr & ffff:ffff:ffff:ffff::")];

impl Scans {
    /// The settings as the comment of a rule has them: the ones that a table was made with are read back from it.
    fn settings(&self) -> String {
        let Self { ports, window, ban, bans_per_minute } = self;
        format!("{ports} {} {} {bans_per_minute}", window.secs(), ban.secs())
    }

    /// The settings in the comment of a rule, when it has some.
    pub(super) fn of_comment(comment: &str) -> Option<Self> {
        let numbers: Vec<_> = comment.strip_prefix("count4 ")?.split(' ').collect();
        let [ports, window, ban, bans_per_minute] = numbers[..] else { return None };
        let seconds = |text: &str| text.parse().ok().map(Span::from_secs);
        Some(Self {
            ports: ports.parse().ok()?,
            window: seconds(window)?,
            ban: seconds(ban)?,
            bans_per_minute: bans_per_minute.parse().ok()?,
        })
    }

    /// The sets, within the table. They are there whether or not scans are noticed.
    pub(super) fn write_sets(text: &mut String) {
        for (n, kind, _) in FAMILIES {
            // Writing to a string can't fail.
            _ = writeln!(
                text,
                "set peer{n} {{ type {kind}; size {SOURCES_MAX}; flags dynamic,timeout; }}\n\
                 set asked{n} {{ type {kind} . inet_proto . inet_service; size {PORTS_MAX}; flags dynamic,timeout; }}\n\
                 set asking{n} {{ type {kind}; size {SOURCES_MAX}; flags dynamic,timeout; }}\n\
                 set scanned{n} {{ type {kind}; size {SOURCES_MAX}; flags dynamic,timeout; }}"
            );
        }
    }

    /// The chain, within the table; the comment of each of its rules goes to `rules`.
    pub(super) fn write_chain(&self, text: &mut String, rules: &mut Vec<String>) {
        // Before the tables of others, which may drop what a scan asks for, and after destination NAT.
        text.push_str("chain scans { type filter hook input priority filter - 10; policy accept;\n");
        let mut rule = |text: &mut String, name: String, rule: &str| {
            _ = writeln!(text, "{rule} comment \"{name}\"");
            rules.push(format!("scans {name}"));
        };
        rule(text, "lo".into(), "iif lo accept");
        for (n, _, source) in FAMILIES {
            let plain = source.split(" &").next().unwrap_or(source);
            let name = |what: &str| format!("{what}{n}");
            rule(text, name("allow"), &format!("{plain} @allow{n} accept"));
            // The family is named: within `inet`, an address of one family is looked up in packets of that family only.
            let data = "tcp flags & (fin | syn | rst | psh) == psh";
            let peer = format!("update @peer{n} {{ {source} timeout {PEER_MIN}m }} accept");
            rule(text, name("tcp"), &format!("ct state established {data} {peer}"));
            rule(text, name("udp"), &format!("ct state established meta l4proto udp ct direction reply {peer}"));
        }
        rule(text, "known".into(), "ct state established,related accept");
        rule(text, "other".into(), "meta l4proto != { tcp, udp } accept");
        // Whether the socket is transparent does not matter: the expression ends the rule where there is no socket.
        rule(text, "open".into(), "socket wildcard { 0, 1 } accept");
        rule(text, "stray".into(), "meta l4proto tcp tcp flags & (ack | rst) != 0 accept");
        let Self { ports, window, ban, bans_per_minute } = self;
        let settings = self.settings();
        let (window, ban) = (window.secs().clamp(1, 86_400), ban.secs().clamp(1, 86_400 * 365));
        // The bucket empties over the window, and holds `ports`.
        let rate = (i64::from(*ports) * 60 / window).max(1);
        for (n, _, source) in FAMILIES {
            let key = format!("{source} . meta l4proto . th dport");
            rule(text, format!("peer{n}"), &format!("{source} @peer{n} accept"));
            rule(text, format!("again{n}"), &format!("{key} @asked{n} accept"));
            rule(
                text,
                format!("count{n} {settings}"),
                &format!(
                    "add @asked{n} {{ {key} timeout {window}s }} \
                     update @asking{n} {{ {source} timeout {}s limit rate over {rate}/minute burst {ports} packets }} \
                     limit rate {bans_per_minute}/minute burst {bans_per_minute} packets \
                     add @scanned{n} {{ {source} timeout {ban}s }} drop",
                    window.saturating_mul(2)
                ),
            );
        }
        text.push_str("}\n");
    }
}

#[cfg(test)]
mod tests;
