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
//! like a scan. Of IPv6, a source is the network of 64 bits: one machine has all of its addresses. How many sources are banned in a
//! minute is bounded by the kernel too: a flood of forged addresses bans few.
//!
//! **What a flood does.** Who forges senders can fill what the kernel remembers, and then nobody who is new is counted until some of
//! it has timed out: any memory for each source has an end, and there are more senders to forge than it has room for. So TCP and UDP
//! have memories of their own, and what was not counted, and who was not banned, is: by counters, which the engine reads and says.
//! All of it is in a table of its own: `nft` reads every element of a table before it lists anything of it but one set, and with
//! these sets full that takes seconds.
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

/// What was missed of scans, because there was no room or too many were to be banned: packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Missed {
    /// Of TCP that were not counted.
    pub tcp: u64,
    /// Of UDP that were not counted.
    pub udp: u64,
    /// Of sources that were to be banned, and were not.
    pub unbanned: u64,
}

/// How long whoever sent data over a connection counts as somebody who uses this host.
const PEER_MIN: i64 = 10;
/// Most sources and ports that the kernel remembers at a time; beyond it, none is added until some have timed out.
const SOURCES_MAX: u32 = 65_536;
const PORTS_MAX: u32 = 65_536;
/// Whoever asks is remembered for twice as long as what they asked for: so of the two, the memory of ports is full first.
const ASKING_MAX: u32 = 2 * PORTS_MAX;

/// The two protocols: what is behind the names of their sets, and how they are matched.
const PROTOCOLS: [(&str, &str); 2] = [("t", "tcp"), ("u", "udp")];
/// The sets whose elements, a protocol each, count packets: those that could not be counted, and those whose sources were not banned.
/// Sets, for to list a counter `nft` reads all tables of everybody.
pub(super) const UNCOUNTED: &str = "uncounted";
pub(super) const UNBANNED: &str = "unbanned";

/// Packets by which who is on this link finds this host and is found, whoever is banned: without them, nobody of IPv6 is reached.
pub(super) const NEIGHBOURS: &str = "ip6 hoplimit 255 icmpv6 type { 133, 134, 135, 136 } accept";
/// The word before the settings in a comment.
const SETTINGS: &str = "scans";

/// The families: the digit in the names of sets, the type of the address, and the source as it is counted.
pub(super) const FAMILIES: [(char, &str, &str); 2] =
    [('4', "ipv4_addr", "ip saddr"), ('6', "ipv6_addr", "ip6 saddr & ffff:ffff:ffff:ffff::")];

impl Scans {
    /// The settings as numbers.
    fn settings(&self) -> String {
        let Self { ports, window, ban, bans_per_minute } = self;
        format!("{ports} {} {} {bans_per_minute}", window.secs(), ban.secs())
    }

    /// The settings as the comment of a rule has them: the ones that a table was made with are read back from it.
    pub(super) fn comment(&self) -> String {
        format!("{SETTINGS} {}", self.settings())
    }

    /// The settings in the comment of a rule, when it has some.
    pub(super) fn of_comment(comment: &str) -> Option<Self> {
        let numbers: Vec<_> = comment.strip_prefix(SETTINGS)?.trim_start().split(' ').collect();
        let [ports, window, ban, bans_per_minute] = numbers[..] else { return None };
        let seconds = |text: &str| text.parse().ok().map(Span::from_secs);
        Some(Self {
            ports: ports.parse().ok()?,
            window: seconds(window)?,
            ban: seconds(ban)?,
            bans_per_minute: bans_per_minute.parse().ok()?,
        })
    }

    /// The sets, within the table.
    fn write_sets(text: &mut String) {
        for (n, kind, _) in FAMILIES {
            // Writing to a string can't fail.
            _ = writeln!(
                text,
                "set allow{n} {{ type {kind}; flags interval; }}\n\
                 set peer{n} {{ type {kind}; size {SOURCES_MAX}; flags dynamic,timeout; }}\n\
                 set scanned{n} {{ type {kind}; size {SOURCES_MAX}; flags dynamic,timeout; }}"
            );
            for (p, _) in PROTOCOLS {
                _ = writeln!(
                    text,
                    "set asked{n}{p} {{ type {kind} . inet_service; size {PORTS_MAX}; flags dynamic,timeout; }}\n\
                     set asking{n}{p} {{ type {kind}; size {ASKING_MAX}; flags dynamic,timeout; }}"
                );
            }
        }
        for set in [UNCOUNTED, UNBANNED] {
            _ = writeln!(text, "set {set} {{ type inet_proto; size 8; flags dynamic; }}");
        }
    }

    /// What is within the table, but for those who are allowed; and the chain and the comment of each of its rules, in order.
    pub(super) fn table(&self) -> (String, Vec<String>) {
        let (mut text, mut rules) = (String::new(), Vec::new());
        Self::write_sets(&mut text);
        // As in the other table: an accept there does not end this chain.
        text.push_str("chain guard { type filter hook prerouting priority -300; policy accept;\n");
        let mut rule = |name: &str, rule: &str| {
            _ = writeln!(text, "{rule} comment \"{name}\"");
            rules.push(format!("guard {name}"));
        };
        rule("lo", "iif lo accept");
        rule("neighbours", NEIGHBOURS);
        rule("allow4", "ip saddr @allow4 accept");
        rule("allow6", "ip6 saddr @allow6 accept");
        for (n, _, source) in FAMILIES {
            rule(&format!("scanned{n}"), &format!("{source} @scanned{n} drop"));
        }
        text.push_str("}\n");
        self.write_chains(&mut text, &mut rules);
        (text, rules)
    }

    /// The chains that count; the chain and the comment of each of their rules go to `rules`.
    fn write_chains(&self, text: &mut String, rules: &mut Vec<String>) {
        let Self { ports, window, ban, bans_per_minute } = self;
        let settings = self.settings();
        let (window, ban) = (window.secs().clamp(1, 86_400), ban.secs().clamp(1, 86_400 * 365));
        // The bucket empties over the window, and holds `ports`.
        let rate = (i64::from(*ports) * 60 / window).max(1);
        let mut rule = |text: &mut String, chain: &str, name: String, rule: &str| {
            _ = writeln!(text, "{rule} comment \"{name}\"");
            rules.push(format!("{chain} {name}"));
        };
        let name = |what: &str, n: char| format!("{what}{n}");
        for (n, _, source) in FAMILIES {
            let chain = name("banning", n);
            _ = writeln!(text, "chain {chain} {{");
            let limit = format!("limit rate {bans_per_minute}/minute burst {bans_per_minute} packets");
            let add = format!("{limit} add @scanned{n} {{ {source} timeout {ban}s }} drop");
            rule(text, &chain, name("ban", n), &add);
            // Over the limit.
            rule(text, &chain, name("unbanned", n), &format!("add @{UNBANNED} {{ meta l4proto counter }} accept"));
            text.push_str("}\n");
            for (p, _) in PROTOCOLS {
                let chain = format!("counting{n}{p}");
                _ = writeln!(text, "chain {chain} {{");
                let bucket = format!("limit rate over {rate}/minute burst {ports} packets");
                let timeout = window.saturating_mul(2);
                let count = format!("update @asking{n}{p} {{ {source} timeout {timeout}s {bucket} }} goto banning{n}");
                rule(text, &chain, format!("count{n}{p} {settings}"), &count);
                rule(text, &chain, format!("below{n}{p}"), "accept");
                text.push_str("}\n");
            }
        }
        // Before the tables of others, which may drop what a scan asks for, and after destination NAT.
        text.push_str("chain scans { type filter hook input priority filter - 10; policy accept;\n");
        let chain = "scans";
        rule(text, chain, "lo".into(), "iif lo accept");
        for (n, _, source) in FAMILIES {
            let plain = source.split(" &").next().unwrap_or(source);
            rule(text, chain, name("allow", n), &format!("{plain} @allow{n} accept"));
            // The family is named: within `inet`, an address of one family is looked up in packets of that family only.
            let data = "tcp flags & (fin | syn | rst | psh) == psh";
            let peer = format!("update @peer{n} {{ {source} timeout {PEER_MIN}m }} accept");
            rule(text, chain, name("tcp", n), &format!("ct state established {data} {peer}"));
            let udp = format!("ct state established meta l4proto udp ct direction reply {peer}");
            rule(text, chain, name("udp", n), &udp);
        }
        rule(text, chain, "known".into(), "ct state established,related accept");
        rule(text, chain, "other".into(), "meta l4proto != { tcp, udp } accept");
        // Whether the socket is transparent does not matter: the expression ends the rule where there is no socket.
        rule(text, chain, "open".into(), "socket wildcard { 0, 1 } accept");
        rule(text, chain, "stray".into(), "meta l4proto tcp tcp flags & (ack | rst) != 0 accept");
        for (n, _, source) in FAMILIES {
            rule(text, chain, name("peer", n), &format!("{source} @peer{n} accept"));
            for (p, protocol) in PROTOCOLS {
                let (of, key) = (format!("meta l4proto {protocol}"), format!("{source} . th dport"));
                rule(text, chain, format!("again{n}{p}"), &format!("{of} {key} @asked{n}{p} accept"));
                let add = format!("{of} add @asked{n}{p} {{ {key} timeout {window}s }} goto counting{n}{p}");
                rule(text, chain, format!("asked{n}{p}"), &add);
            }
        }
        // Where there is no room, the rule above ends before its verdict.
        rule(text, chain, "full".into(), &format!("add @{UNCOUNTED} {{ meta l4proto counter }} accept"));
        text.push_str("}\n");
    }
}

#[cfg(test)]
mod tests;
