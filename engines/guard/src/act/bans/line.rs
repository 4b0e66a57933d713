//! A line of the file of bans.

use engine::EventNumber;
use event::{Span, Time};
use serde::{Deserialize, Serialize};

use super::{Ban, BanKey, Origin, PastBans};
use crate::act::{Hold, Ports};
use crate::checked_line;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    /// A ban, in the place of the one with the same key.
    Ban(Row),
    /// A ban ended before its time.
    Removed {
        network: String,
        rule: String,
        #[serde(default)]
        forget: bool,
    },
    /// What is remembered of bans that ended.
    Past { network: String, rule: String, count: u32, last: Time },
    /// The bans in the lines before this one are in the journal.
    Told {},
    /// The wall clock less the monotonic clock, on which the labels of all lines rest.
    Clock { boot: String, offset: Span },
}

#[derive(Serialize, Deserialize)]
pub(super) struct Row {
    network: String,
    rule: String,
    hold: String,
    ports: String,
    since: Time,
    until: Option<Time>,
    count: u32,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    uncounted: bool,
    origin: Origin,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    event: Option<EventNumber>,
}

impl Row {
    pub(super) fn ban(self) -> Option<Ban> {
        let Self { network, rule, hold, ports, since, until, count, uncounted, origin, event } = self;
        let hold = Hold { network: hold.parse().ok()?, ports: Ports::parse(&ports)? };
        Some(Ban { network: network.parse().ok()?, rule, hold, since, until, count, uncounted, origin, event })
    }
}

impl Line {
    pub(super) fn of_ban(ban: &Ban) -> Self {
        Self::Ban(Row {
            network: ban.network.to_string(),
            rule: ban.rule.clone(),
            hold: ban.hold.network.to_string(),
            ports: ban.hold.ports.to_string(),
            since: ban.since,
            until: ban.until,
            count: ban.count,
            uncounted: ban.uncounted,
            origin: ban.origin,
            event: ban.event,
        })
    }

    pub(super) fn of_removed(key: &BanKey, forget: bool) -> Self {
        Self::Removed { network: key.network.to_string(), rule: key.rule.clone(), forget }
    }

    pub(super) fn of_past(key: &BanKey, past: PastBans) -> Self {
        Self::Past { network: key.network.to_string(), rule: key.rule.clone(), count: past.count, last: past.last }
    }

    pub(super) fn write(&self, to: &mut Vec<u8>) {
        checked_line::write(self, to);
    }

    /// The line, when it is whole and as it was written.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        checked_line::parse(bytes)
    }
}
