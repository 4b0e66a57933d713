//! What `nft -j list` writes, read back (libnftables-json(5)).

use std::net::IpAddr;

use event::Span;
use ipnet::IpNet;
use serde::Deserialize;

use super::owner::Owner;
use super::script::{OWNER, SetKey, Shape};
use super::{BANS_MAX, NETWORKS_MAX};
use crate::act::{FirewallError, Held, Lasting, Scans};

#[derive(Deserialize)]
struct Listing {
    nftables: Vec<Object>,
}

/// One object: each has one field. Those that are of no use to us have none.
#[derive(Deserialize)]
struct Object {
    set: Option<Set>,
    rule: Option<Rule>,
}

#[derive(Deserialize)]
struct Set {
    name: String,
    #[serde(default)]
    elem: Vec<Element>,
}

#[derive(Deserialize)]
struct Rule {
    chain: String,
    comment: Option<String>,
}

/// An element: bare, or with the time that it has left.
#[derive(Deserialize)]
#[serde(untagged)]
enum Element {
    Timed { elem: Timed },
    Bare(Key),
}

#[derive(Deserialize)]
struct Timed {
    val: Key,
    expires: Option<i64>,
    counter: Option<Counter>,
}

#[derive(Deserialize)]
struct Counter {
    packets: u64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Key {
    Number(#[expect(dead_code, reason = "only whether there is one is of use")] u64),
    Address(IpAddr),
    Prefix {
        prefix: Prefix,
    },
    Range {
        range: (IpAddr, IpAddr),
    },
    /// A protocol.
    Name(String),
    /// Keys of other sets, which somebody else has put there.
    Other(serde::de::IgnoredAny),
}

#[derive(Deserialize)]
struct Prefix {
    addr: IpAddr,
    len: u8,
}

impl Element {
    fn address(&self) -> Option<(IpAddr, Lasting)> {
        match self {
            Self::Bare(Key::Address(address)) => Some((*address, None)),
            // The kernel gives whole seconds: half of one more is the best guess, and one more loses nothing.
            Self::Timed { elem: Timed { val: Key::Address(address), expires, .. } } => {
                Some((*address, expires.map(|seconds| Span::from_secs(seconds.saturating_add(1)))))
            }
            _ => None,
        }
    }

    /// The networks of an element of a set of intervals.
    fn networks(&self) -> Vec<IpNet> {
        let (Self::Bare(key) | Self::Timed { elem: Timed { val: key, .. } }) = self;
        match key {
            Key::Address(address) => vec![IpNet::from(*address)],
            Key::Prefix { prefix } => IpNet::new(prefix.addr, prefix.len).into_iter().collect(),
            Key::Range { range: (IpAddr::V4(start), IpAddr::V4(end)) } => {
                ipnet::Ipv4Subnets::new(*start, *end, 0).map(IpNet::V4).collect()
            }
            Key::Range { range: (IpAddr::V6(start), IpAddr::V6(end)) } => {
                ipnet::Ipv6Subnets::new(*start, *end, 0).map(IpNet::V6).collect()
            }
            Key::Number(_) | Key::Range { .. } | Key::Name(_) | Key::Other(_) => Vec::new(),
        }
    }
}

fn parse(json: &[u8]) -> Result<Vec<Object>, FirewallError> {
    let listing: Listing = serde_json::from_slice(json)
        .map_err(|error| FirewallError::Unreadable(format!("`nft -j list` wrote what is not understood: {error}")))?;
    Ok(listing.nftables)
}

/// Reads the whole table. The shape is there when the rules are exactly those that we write; the owner when one is named.
pub(super) fn table(json: &[u8]) -> Result<(Held, Option<Shape>, Option<Owner>), FirewallError> {
    let mut held = Held::default();
    let mut rules = Vec::new();
    let mut shape = Shape::default();
    let mut sets = Vec::new();
    let (mut marked, mut owner) = (false, None);
    for object in parse(json)? {
        if let Some(Rule { chain, comment }) = object.rule {
            let comment = comment.unwrap_or_default();
            if chain == OWNER {
                owner = Owner::of_comment(&comment);
                continue;
            }
            shape.scans = shape.scans.or_else(|| Scans::of_comment(&comment));
            rules.push(format!("{chain} {comment}"));
        }
        let Some(Set { name, elem }) = object.set else { continue };
        match name.as_str() {
            super::script::MARKER => marked = !elem.is_empty(),
            "allow4" | "allow6" => held.allow.extend(elem.iter().flat_map(Element::networks).take(NETWORKS_MAX)),
            "list4" | "list6" => held.lists.extend(elem.iter().flat_map(Element::networks).take(NETWORKS_MAX)),
            _ => {
                if let Some(key) = SetKey::parse(&name) {
                    let room = BANS_MAX.saturating_sub(held.bans.len());
                    let addresses = elem.iter().filter_map(Element::address).take(room);
                    held.bans.extend(addresses.filter_map(|(address, left)| Some((key.hold(address)?, left))));
                    shape.scopes.insert(key);
                }
            }
        }
        sets.push(name);
    }
    held.allow = IpNet::aggregate(&held.allow);
    held.lists = IpNet::aggregate(&held.lists);
    held.scans.clone_from(&shape.scans);
    held.intact = marked && same_rules(&rules, &shape.rules());
    let shape = held.intact.then_some(shape);
    Ok((held, shape, owner))
}

/// The owner that the one chain of the listing names.
pub(super) fn owner(json: &[u8]) -> Result<Option<Owner>, FirewallError> {
    let mut rules = parse(json)?.into_iter().filter_map(|object| object.rule);
    Ok(rules.find_map(|rule| Owner::of_comment(&rule.comment.unwrap_or_default())))
}

/// Whether both have the same rules in the same order in each chain, whatever the order of the chains.
fn same_rules(a: &[String], b: &[String]) -> bool {
    let by_chain = |rules: &[String]| {
        let mut rules = rules.to_vec();
        // Stable: the order within a chain stays.
        rules.sort_by(|a, b| a.split(' ').next().cmp(&b.split(' ').next()));
        rules
    };
    by_chain(a) == by_chain(b)
}

/// Whether the one set of the listing has an element.
pub(super) fn has_elements(json: &[u8]) -> bool {
    parse(json)
        .is_ok_and(|objects| objects.iter().any(|object| object.set.as_ref().is_some_and(|set| !set.elem.is_empty())))
}

/// The networks of the one set of the listing.
pub(super) fn networks(json: &[u8]) -> Result<Vec<IpNet>, FirewallError> {
    let sets = parse(json)?.into_iter().filter_map(|object| object.set);
    Ok(sets.flat_map(|set| set.elem).flat_map(|element| element.networks()).take(NETWORKS_MAX).collect())
}

/// Whether the rules of the table that is listed are exactly those that we write.
pub(super) fn has_rules(json: &[u8], expected: &[String]) -> Result<bool, FirewallError> {
    let rules = parse(json)?.into_iter().filter_map(|object| object.rule);
    let rules: Vec<_> = rules.map(|rule| format!("{} {}", rule.chain, rule.comment.unwrap_or_default())).collect();
    Ok(same_rules(&rules, expected))
}

/// The packets that the set of the listing has counted of this protocol, or of all.
pub(super) fn packets(json: &[u8], protocol: Option<&str>) -> Result<u64, FirewallError> {
    let elements = parse(json)?.into_iter().filter_map(|object| object.set).flat_map(|set| set.elem);
    let counted = elements.filter_map(|element| match element {
        Element::Timed { elem: Timed { val: Key::Name(name), counter: Some(counter), .. } }
            if protocol.is_none_or(|protocol| protocol == name) =>
        {
            Some(counter.packets)
        }
        _ => None,
    });
    Ok(counted.fold(0, u64::saturating_add))
}

/// The sources in a set of banned scanners, and how long each is banned for still.
pub(super) fn scanned(json: &[u8]) -> Result<Vec<(IpNet, Span)>, FirewallError> {
    let mut all = Vec::new();
    for set in parse(json)?.into_iter().filter_map(|object| object.set) {
        for (address, left) in set.elem.iter().filter_map(Element::address) {
            let prefix = if address.is_ipv6() { 64 } else { 32 };
            if let (Ok(network), Some(left)) = (IpNet::new(address, prefix), left) {
                all.push((network, left));
            }
        }
    }
    Ok(all)
}
