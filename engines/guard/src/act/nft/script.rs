//! The texts that `nft -f -` reads: what the table is made of, and each change of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::owner::Owner;
use super::{SCANS_TABLE, TABLE};
use crate::act::scans::{FAMILIES, NEIGHBOURS};
use crate::act::{Hold, Lasting, Ports, Protocol, Scans, Wanted};

/// A set that always has an element: who removes our table, or everything, removes it too.
pub(super) const MARKER: &str = "marker";
/// Most elements of one set.
const SET_MAX: u32 = 524_288;
/// The chain whose one rule says by which settings scans are noticed, if they are. No packet comes there.
const SETTINGS: &str = "scans";
/// The chain whose one rule names the process that the table is of. No packet comes there.
pub(super) const OWNER: &str = "owner";
/// Longest timeout that is set, three years less a bit; `nft` reads no more than eight digits. What is to last longer is given it
/// again whenever the kernel is compared with what is wanted.
pub(super) const TIMEOUT_S_MAX: i64 = 90_000_000;

/// The set that a hold is in.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct SetKey {
    v6: bool,
    prefix: u8,
    ports: Ports,
}

impl SetKey {
    pub(super) fn of(hold: &Hold) -> Self {
        let v6 = matches!(hold.network, IpNet::V6(_));
        Self { v6, prefix: hold.network.prefix_len(), ports: hold.ports.clone() }
    }

    /// `ban4_32_all`, `ban6_64_tcp_22_80`.
    pub(super) fn name(&self) -> String {
        format!("ban{}_{}_{}", if self.v6 { 6 } else { 4 }, self.prefix, self.ports)
    }

    /// The comment of its rule: as much of the name as fits into one.
    fn comment(&self) -> String {
        self.name().chars().take(120).collect()
    }

    /// The key of the set of this name, when it is one of ours.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (v6, rest) = match name.strip_prefix("ban4_") {
            Some(rest) => (false, rest),
            None => (true, name.strip_prefix("ban6_")?),
        };
        let (prefix, ports) = rest.split_once('_')?;
        let key = Self { v6, prefix: prefix.parse().ok()?, ports: Ports::parse(ports)? };
        (key.prefix <= if v6 { 128 } else { 32 } && key.name() == name).then_some(key)
    }

    /// The hold of an element of the set.
    pub(super) fn hold(&self, address: IpAddr) -> Option<Hold> {
        let network = IpNet::new(address, self.prefix).ok()?;
        (address.is_ipv6() == self.v6 && network.trunc() == network)
            .then(|| Hold { network, ports: self.ports.clone() })
    }

    fn write_set(&self, text: &mut String) {
        let kind = if self.v6 { "ipv6_addr" } else { "ipv4_addr" };
        push(text, format_args!("set {} {{ type {kind}; size {SET_MAX}; flags timeout; }}\n", self.name()));
    }

    /// The chain that its rule is in.
    const fn chain(&self) -> &'static str {
        match self.ports {
            Ports::All => "bans",
            Ports::Some(..) => "ports",
        }
    }

    fn rule(&self) -> String {
        let mut text = String::new();
        if let Ports::Some(protocol, ranges) = &self.ports {
            text.push_str(match protocol {
                Protocol::Tcp => "tcp dport { ",
                Protocol::Udp => "udp dport { ",
                Protocol::Both => "meta l4proto { tcp, udp } th dport { ",
            });
            for (number, (start, end)) in ranges.iter().enumerate() {
                text.push_str(if number == 0 { "" } else { ", " });
                push(&mut text, format_args!("{start}"));
                if start != end {
                    push(&mut text, format_args!("-{end}"));
                }
            }
            text.push_str(" } ");
        }
        text.push_str(if self.v6 { "ip6 saddr " } else { "ip saddr " });
        let mask = if self.v6 {
            Ipv6Net::new_assert(std::net::Ipv6Addr::UNSPECIFIED, self.prefix).netmask().to_string()
        } else {
            Ipv4Net::new_assert(std::net::Ipv4Addr::UNSPECIFIED, self.prefix).netmask().to_string()
        };
        if self.prefix < if self.v6 { 128 } else { 32 } {
            push(&mut text, format_args!("& {mask} "));
        }
        push(&mut text, format_args!("@{} drop comment \"{}\"\n", self.name(), self.comment()));
        text
    }
}

/// Which sets of bans there are, and whether scans are noticed: all that makes one table of ours differ from another, but for
/// the elements.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Shape {
    pub(super) scopes: BTreeSet<SetKey>,
    pub(super) scans: Option<Scans>,
}

impl Shape {
    /// The chain and the comment of each rule of the table of bans, in order.
    pub(super) fn rules(&self) -> Vec<String> {
        self.table().1
    }

    /// The table of bans without elements, and its rules.
    fn table(&self) -> (String, Vec<String>) {
        let mut text = format!("table inet {TABLE} {{\nset {MARKER} {{ type inet_service; }}\n");
        for (n, kind, _) in FAMILIES {
            push(&mut text, format_args!("set allow{n} {{ type {kind}; flags interval; }}\n"));
            push(&mut text, format_args!("set list{n} {{ type {kind}; flags interval; }}\n"));
        }
        self.scopes.iter().for_each(|key| key.write_set(&mut text));
        let mut rules = Vec::new();
        for chain in ["bans", "ports"] {
            push(&mut text, format_args!("chain {chain} {{\n"));
            for key in self.scopes.iter().filter(|key| key.chain() == chain) {
                push(&mut text, format_args!("{}", key.rule()));
                rules.push(format!("{chain} {}", key.comment()));
            }
            text.push_str("}\n");
        }
        for hook in ["input", "forward"] {
            push(&mut text, format_args!("chain {hook} {{ type filter hook {hook} priority -300; policy accept;\n"));
            for (name, rule) in [
                ("lo", "iif lo accept"),
                ("allow4", "ip saddr @allow4 accept"),
                ("allow6", "ip6 saddr @allow6 accept"),
                ("ports", "jump ports"),
            ] {
                push(&mut text, format_args!("{rule} comment \"{name}\"\n"));
                rules.push(format!("{hook} {name}"));
            }
            text.push_str("}\n");
        }
        text.push_str("chain guard { type filter hook prerouting priority -300; policy accept;\n");
        let mut rule = |name: &str, rule: &str| {
            push(&mut text, format_args!("{rule} comment \"{name}\"\n"));
            rules.push(format!("guard {name}"));
        };
        rule("lo", "iif lo accept");
        rule("neighbours", NEIGHBOURS);
        rule("allow4", "ip saddr @allow4 accept");
        rule("allow6", "ip6 saddr @allow6 accept");
        rule("bans", "jump bans");
        rule("ports", "jump ports");
        rule("list4", "ip saddr @list4 drop");
        rule("list6", "ip6 saddr @list6 drop");
        text.push_str("}\n");
        if let Some(scans) = &self.scans {
            let comment = scans.comment();
            push(&mut text, format_args!("chain {SETTINGS} {{\nreturn comment \"{comment}\"\n}}\n"));
            rules.push(format!("{SETTINGS} {comment}"));
        }
        text.push_str("}\n");
        (text, rules)
    }
}

/// Names the process that the table is of.
pub(super) fn own(owner: &Owner) -> String {
    let comment = owner.comment();
    format!(
        "add chain inet {TABLE} {OWNER}\nflush chain inet {TABLE} {OWNER}\nadd rule inet {TABLE} {OWNER} return comment \"{comment}\"\n"
    )
}

/// All of ours anew, in the place of what is there.
pub(super) fn replace(shape: &Shape, wanted: &Wanted, owner: &Owner) -> String {
    let mut text = remove();
    text.reserve(64 * (wanted.bans.len() + wanted.lists.len()));
    text.push_str(&shape.table().0);
    if let Some(scans) = &shape.scans {
        push(&mut text, format_args!("table inet {SCANS_TABLE} {{\n{}}}\n", scans.table().0));
    }
    text.push_str(&own(owner));
    push(&mut text, format_args!("add element inet {TABLE} {MARKER} {{ 1 }}\n"));
    text.push_str(&allow(shape, &wanted.allow));
    text.push_str(&lists(&wanted.lists));
    for (key, holds) in by_set(&wanted.bans) {
        elements(&mut text, TABLE, "add", &key.name(), holds.into_iter().map(timed));
    }
    text
}

/// Nothing of ours any more, whether or not there was something.
pub(super) fn remove() -> String {
    let remove = |table| format!("add table inet {table}\ndelete table inet {table}\n");
    remove(TABLE) + &remove(SCANS_TABLE)
}

/// The networks that are allowed, in tables of this shape.
pub(super) fn allow(shape: &Shape, networks: &[IpNet]) -> String {
    let mut text = replace_networks(TABLE, "allow", networks);
    if shape.scans.is_some() {
        text.push_str(&replace_networks(SCANS_TABLE, "allow", networks));
    }
    text
}

/// The networks of lists.
pub(super) fn lists(networks: &[IpNet]) -> String {
    replace_networks(TABLE, "list", networks)
}

/// The networks of `allow4` and `allow6`, or of `list4` and `list6`.
fn replace_networks(table: &str, sets: &str, networks: &[IpNet]) -> String {
    // A set of intervals takes no network that overlaps another.
    let networks = IpNet::aggregate(&networks.iter().map(IpNet::trunc).collect());
    let mut text = String::new();
    for v6 in [false, true] {
        let set = format!("{sets}{}", if v6 { 6 } else { 4 });
        push(&mut text, format_args!("flush set inet {table} {set}\n"));
        let of_family = networks.iter().filter(|network| matches!(network, IpNet::V6(_)) == v6);
        elements(&mut text, table, "add", &set, of_family.map(ToString::to_string));
    }
    text
}

/// Adds holds to a table of the shape `known`, so that it becomes one of the shape `then`.
pub(super) fn ban(known: &Shape, then: &Shape, holds: &BTreeMap<Hold, Lasting>) -> String {
    let mut text = String::new();
    if known.scopes != then.scopes {
        push(&mut text, format_args!("table inet {TABLE} {{\n"));
        then.scopes.difference(&known.scopes).for_each(|key| key.write_set(&mut text));
        push(&mut text, format_args!("}}\nflush chain inet {TABLE} bans\nflush chain inet {TABLE} ports\n"));
        for key in &then.scopes {
            push(&mut text, format_args!("add rule inet {TABLE} {} {}", key.chain(), key.rule()));
        }
    }
    for (key, holds) in by_set(holds) {
        let name = key.name();
        // An element that is there keeps its time when it is added again: it is taken out and put in, which no packet sees.
        elements(&mut text, TABLE, "add", &name, holds.iter().map(|(hold, _)| hold.network.addr().to_string()));
        elements(&mut text, TABLE, "delete", &name, holds.iter().map(|(hold, _)| hold.network.addr().to_string()));
        elements(&mut text, TABLE, "add", &name, holds.into_iter().map(timed));
    }
    text
}

/// Takes holds out of sets that are there, in tables of this shape.
pub(super) fn unban(shape: &Shape, holds: &[&Hold]) -> String {
    let mut text = String::new();
    let all: BTreeMap<Hold, Lasting> = holds.iter().map(|&hold| (hold.clone(), None)).collect();
    for (key, holds) in by_set(&all) {
        let name = key.name();
        // What is not there can't be deleted; what is there may be added again.
        for change in ["add", "delete"] {
            elements(&mut text, TABLE, change, &name, holds.iter().map(|(hold, _)| hold.network.addr().to_string()));
        }
    }
    if shape.scans.is_none() {
        return text;
    }
    // Whoever is let in again is so whatever it was banned for, and may have been banned by the kernel first.
    for (v6, prefix) in [(false, 32), (true, 64)] {
        let set = format!("scanned{}", if v6 { 6 } else { 4 });
        let sources = || {
            let of_set =
                |hold: &&&Hold| matches!(hold.network, IpNet::V6(_)) == v6 && hold.network.prefix_len() == prefix;
            holds.iter().filter(of_set).map(|hold| hold.network.addr()).collect::<BTreeSet<_>>()
        };
        for change in ["add", "delete"] {
            elements(&mut text, SCANS_TABLE, change, &set, sources().into_iter().map(|address| address.to_string()));
        }
    }
    text
}

fn by_set(holds: &BTreeMap<Hold, Lasting>) -> BTreeMap<SetKey, Vec<(&Hold, Lasting)>> {
    let mut sets: BTreeMap<SetKey, Vec<_>> = BTreeMap::new();
    for (hold, lasting) in holds {
        sets.entry(SetKey::of(hold)).or_default().push((hold, *lasting));
    }
    sets
}

fn timed((hold, lasting): (&Hold, Lasting)) -> String {
    let address = hold.network.addr();
    match lasting {
        None => address.to_string(),
        // Rounded up: a ban never ends early. None lasts no time at all, which would be for ever.
        Some(span) => {
            let seconds = span.micros().saturating_add(999_999) / 1_000_000;
            format!("{address} timeout {}s", seconds.clamp(1, TIMEOUT_S_MAX))
        }
    }
}

fn elements(text: &mut String, table: &str, change: &str, set: &str, elements: impl Iterator<Item = String>) {
    let mut elements = elements.peekable();
    if elements.peek().is_none() {
        return;
    }
    push(text, format_args!("{change} element inet {table} {set} {{ "));
    for (number, element) in elements.enumerate() {
        // A line is quoted whole in an error: short ones keep that readable.
        text.push_str(if number == 0 { "" } else { ",\n" });
        text.push_str(&element);
    }
    text.push_str(" }\n");
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a string can't fail.
    if text.write_fmt(arguments).is_err() {
        unreachable!("a string takes everything");
    }
}
