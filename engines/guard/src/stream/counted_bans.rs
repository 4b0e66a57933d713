//! Which bans a rule that counts bans (`recidive`) has counted, so that an offence that two programs have banned is one.
//!
//! **Problem.** Such a rule reads what fail2ban logs of its bans, and is told of those of garant. While both run, and where garant
//! reads a log back whose offenders fail2ban has banned before it was switched off, one offence has two bans. **Principle.** The
//! one that comes second does not count: a ban of garant whose offence is no later than a ban that fail2ban has logged of the same
//! address by the same jail, and a ban that fail2ban has logged while one of garant's, which was counted, was in force.

use std::collections::BTreeMap;

use event::Time;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Most addresses, each of a rule, of which that is known. Beyond it, a quarter is forgotten: those that were banned the longest ago.
const COUNTED_MAX: usize = 10_000;

/// What was counted of an address and a rule.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default, Debug)]
pub(crate) struct Counted {
    /// When the last ban was that fail2ban has logged.
    logged: Option<Time>,
    /// The last ban of garant: from its offence, until when.
    made: Option<(Time, Option<Time>)>,
}

impl Counted {
    fn last(&self) -> Option<Time> {
        self.logged.max(self.made.map(|(at, _)| at))
    }
}

/// What was counted of each, as it is kept.
pub(crate) type CountedBansState = Vec<(IpNet, String, Counted)>;

/// The bans that one rule has counted.
#[derive(Default, Debug)]
pub(crate) struct CountedBans(BTreeMap<(IpNet, String), Counted>);

impl CountedBans {
    /// What was kept.
    pub(crate) fn restored(state: CountedBansState) -> Self {
        Self(state.into_iter().map(|(network, rule, counted)| ((network, rule), counted)).collect())
    }

    /// To be kept.
    pub(crate) fn state(&self) -> CountedBansState {
        self.0.iter().map(|((network, rule), counted)| (*network, rule.clone(), *counted)).collect()
    }

    /// Notes a ban that fail2ban has logged; whether it counts.
    pub(crate) fn logged(&mut self, network: IpNet, rule: &str, at: Time) -> bool {
        let counted = self.of(network, rule);
        let is_made = counted.made.is_some_and(|(since, until)| since <= at && until.is_none_or(|until| at <= until));
        counted.logged = counted.logged.max(Some(at));
        !is_made
    }

    /// Notes a ban of garant, for an offence of then; whether it counts.
    pub(crate) fn made(&mut self, network: IpNet, rule: &str, at: Time, until: Option<Time>) -> bool {
        let counted = self.of(network, rule);
        let is_logged = counted.logged.is_some_and(|logged| at <= logged);
        if !is_logged {
            counted.made = Some((at, until));
        }
        !is_logged
    }

    fn of(&mut self, network: IpNet, rule: &str) -> &mut Counted {
        let key = (network, rule.to_owned());
        if self.0.len() >= COUNTED_MAX && !self.0.contains_key(&key) {
            let mut ages: Vec<Option<Time>> = self.0.values().map(Counted::last).collect();
            let (_, oldest_kept, _) = ages.select_nth_unstable(COUNTED_MAX / 4);
            let oldest_kept = *oldest_kept;
            self.0.retain(|_, counted| counted.last() > oldest_kept);
        }
        self.0.entry(key).or_default()
    }
}
