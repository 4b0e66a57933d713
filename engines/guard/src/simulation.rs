//! The bans of a simulation: whom which rule would have banned, and until when. They are never in force.
//!
//! Each is known until it would end, and so is the offence that it answers: when its lines are read once more, also after the
//! simulation, it is not judged again.

use std::collections::BTreeMap;

use event::{Span, Time};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::act::{BanKey, Ports};
use crate::stream::FoundOffence;

/// Most bans; beyond it, those of the oldest offences go.
const BANS_MAX: usize = 10_000;
/// How long one without an end is known after its last offence when the simulation is over.
const KNOWN_FOR: Span = Span::from_days(30);

/// A ban that was not made.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub(crate) struct SimulatedBan {
    network: IpNet,
    /// What would be dropped.
    pub(crate) held: IpNet,
    /// The rule.
    pub(crate) rule: String,
    /// What would be closed.
    pub(crate) ports: String,
    /// The first offence.
    pub(crate) since: Time,
    /// The last one that was judged.
    last: Time,
    /// When it would end; `None` is never.
    pub(crate) until: Option<Time>,
}

/// All of them.
#[derive(Clone, Default, Debug)]
pub(crate) struct SimulatedBans(BTreeMap<BanKey, SimulatedBan>);

impl SimulatedBans {
    /// Those that were kept.
    pub(crate) fn kept(bans: Vec<SimulatedBan>) -> Self {
        Self(bans.into_iter().map(|ban| (BanKey { network: ban.network, rule: ban.rule.clone() }, ban)).collect())
    }

    /// In the order of their addresses.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &SimulatedBan> {
        self.0.values()
    }

    /// Whether an offence was judged already.
    pub(crate) fn has_judged(&self, offence: &FoundOffence) -> bool {
        self.0.get(&key(offence)).is_some_and(|ban| offence.at <= ban.last)
    }

    /// Whether there is a ban of the offender that lasts as long as one that would end at `until`.
    pub(crate) fn lasts(&self, offence: &FoundOffence, until: Option<Time>) -> bool {
        let lasts = |ban: &SimulatedBan| ban.until.is_none_or(|ends| until.is_some_and(|until| ends >= until));
        self.0.get(&key(offence)).is_some_and(lasts)
    }

    /// Adds one, or makes the one that is there longer.
    pub(crate) fn add(&mut self, offence: &FoundOffence, held: IpNet, ports: &Ports, until: Option<Time>) {
        let key = key(offence);
        let since = self.0.get(&key).map_or(offence.at, |ban| ban.since);
        let (network, rule, last) = (key.network, key.rule.clone(), offence.at);
        self.0.insert(key, SimulatedBan { network, held, rule, ports: ports.to_string(), since, last, until });
        if self.0.len() > BANS_MAX
            && let Some(oldest) = self.0.iter().min_by_key(|(_, ban)| ban.last).map(|(key, _)| key.clone())
        {
            self.0.remove(&oldest);
        }
    }

    /// Takes out those that would be over.
    pub(crate) fn expire(&mut self, now: Time, is_simulated: bool) {
        self.0.retain(|_, ban| match ban.until {
            Some(until) => until > now,
            None => is_simulated || now.since(ban.last) <= KNOWN_FOR,
        });
    }

    /// Takes out those of the network, and of everything within it; all of them without one.
    pub(crate) fn end(&mut self, network: Option<IpNet>) -> Vec<SimulatedBan> {
        let meets = |ban: &SimulatedBan| {
            network.is_none_or(|network| network.contains(&ban.network) || ban.held.contains(&network))
        };
        self.0.extract_if(.., |_, ban| meets(ban)).map(|(_, ban)| ban).collect()
    }
}

impl SimulatedBan {
    /// Who offended.
    pub(crate) const fn network(&self) -> IpNet {
        self.network
    }
}

fn key(offence: &FoundOffence) -> BanKey {
    BanKey { network: offence.network, rule: offence.rule.to_string() }
}
