//! The orders of commands: what the door hands on is done by the loop of the engine, one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use engine::EngineError;
use engine::door::Reply;
use event::Span;
use ipnet::IpNet;
use serde_json::json;

use super::Session;
use crate::act::{Allowed, Ban, BanKey, Done, Origin, Ports, Refusal, Request, later, shown};
use crate::door::{BANS_SHOWN, BanOrder, ImportedBan, Wish};
use crate::lists;
use crate::simulation::SimulatedBan;
use crate::stream::Stream;

/// The rule of bans that a person orders.
const MANUAL: &str = "manual";
/// Most offenders of a network that are named.
const OFFENDERS_SHOWN: usize = 20;
/// Most networks around an address that are named.
const AROUND_SHOWN: usize = 5;

impl Session<'_> {
    /// Does what a command wants.
    pub(super) async fn order(&mut self, wish: Wish) -> Result<Reply, EngineError> {
        Ok(match wish {
            Wish::Status => Reply::json(&self.status()),
            Wish::Bans { offset } => Reply::json(&self.bans(offset)),
            // The loop does, for this is over then.
            Wish::Reload => Reply::error(500, "nothing was read again"),
            Wish::Allowed => {
                let allowed = self.enforcer.allowlist.reasons().into_iter();
                let allowed =
                    allowed.map(|(network, why)| json!({ "network": shown(network), "why": why.to_string() }));
                Reply::json(&allowed.collect::<Vec<_>>())
            }
            Wish::Disown(address) => {
                let is_known = self.enforcer.allowlist.disown(address, self.context.clock.now());
                self.unconfirmed.retain(|(login, ..)| login.from.ip() != address);
                // Before the answer: after a restart it must not be back.
                self.keep().await?;
                let still = self.enforcer.allowlist.why(address).map(|why| why.to_string());
                if let Err(error) = self.enforcer.allow_changed().await {
                    self.unenforced(&error.to_string()).await?;
                }
                Reply::json(&json!({ "removed": is_known, "address": address.to_string(), "allowed": still }))
            }
            Wish::Ban(BanOrder { network, lasts }) => {
                let request = Request {
                    network,
                    rule: MANUAL.to_owned(),
                    ports: Ports::All,
                    lasts,
                    since: None,
                    origin: Origin::Manual,
                };
                match self.enforcer.ban(vec![request]).await {
                    Ok(done) => self.answer(done).await?,
                    Err(error) => Reply::error(503, &error.to_string()),
                }
            }
            Wish::Unban { network, around, forget } => {
                let kept = match network {
                    Some(network) if !around => in_networks(&self.enforcer.bans_around(network)),
                    _ => None,
                };
                let ended = match network {
                    Some(network) => self.enforcer.unban_network(network, around, forget).await,
                    None => self.enforcer.unban_all(forget).await,
                };
                let listed = match network {
                    Some(network) if !self.settings.simulate && self.enforcer.is_listed(network) => {
                        let list = lists::naming(&self.settings.lists, self.state, network).await;
                        Some(list.unwrap_or_else(|| "of `lists` in [guard]".to_owned()))
                    }
                    _ => None,
                };
                match ended {
                    Ok(ended)
                        if ended.is_empty()
                            && let Some(kept) = &kept =>
                    {
                        Reply::error(409, kept)
                    }
                    Ok(ended)
                        if ended.is_empty()
                            && let Some(list) = &listed =>
                    {
                        Reply::error(409, &in_a_list(list))
                    }
                    Ok(ended) => {
                        let mut events = Vec::with_capacity(ended.len());
                        for ban in &ended {
                            events.push(self.unbanned(ban)?);
                        }
                        self.send(events).await?;
                        let simulated = if self.settings.simulate { self.simulated.end(network) } else { Vec::new() };
                        let over: Vec<(&str, IpNet)> = ended
                            .iter()
                            .map(|ban| (&*ban.rule, ban.network))
                            .chain(simulated.iter().map(|ban| (&*ban.rule, ban.network())))
                            .collect();
                        for rule in self.streams.iter_mut().flat_map(|stream| &mut stream.rules) {
                            let name = Arc::clone(&rule.name);
                            over.iter().filter(|(by, _)| **by == *name).for_each(|(_, of)| rule.forget(*of));
                        }
                        let unbanned = over.len();
                        self.is_dirty = true;
                        self.tell_unwritten().await?;
                        let mut answer = json!({ "unbanned": unbanned });
                        if let Some(reason) = self.enforcer.unwritten() {
                            answer["unwritten"] = reason.into();
                        }
                        if let Some(kept) = kept {
                            answer["around"] = kept.into();
                        }
                        if let Some(list) = listed {
                            answer["listed"] = in_a_list(&list).into();
                        }
                        Reply::json(&answer)
                    }
                    Err(error) => Reply::error(503, &error.to_string()),
                }
            }
            Wish::Import(bans) => self.import(bans).await?,
        })
    }

    async fn answer(&mut self, done: Vec<Done>) -> Result<Reply, EngineError> {
        let reply = done.iter().find_map(|done| match done {
            Done::Refused(_, refusal @ Refusal::Allowed { allowed, why: Allowed::Login, .. }) => {
                let allowed = shown(*allowed);
                Some(Reply::error(
                    409,
                    &format!("{refusal}. If nobody of yours logs in from there, `garant guard allow remove {allowed}` takes it off"),
                ))
            }
            Done::Refused(_, refusal) => Some(Reply::error(409, &refusal.to_string())),
            Done::Banned(ban) | Done::Prolonged(ban) | Done::Known(ban) => Some(Reply::json(&json!({
                "banned": true,
                "enforced": !self.settings.simulate,
                "address": shown(ban.hold.network),
                "until": ban.until.map(|until| until.to_string()),
            }))),
            Done::Simulated { .. } => None,
        });
        let events = self.done(done, &BTreeMap::new()).await?;
        self.send(events).await?;
        Ok(reply.unwrap_or_else(|| Reply::error(409, "nobody was banned")))
    }

    /// Takes over the bans of fail2ban that are still in force, with their history.
    async fn import(&mut self, bans: Vec<ImportedBan>) -> Result<Reply, EngineError> {
        let now = self.context.clock.now();
        let mut requests = Vec::new();
        let mut ports: BTreeMap<&str, Ports> = BTreeMap::new();
        for rule in self.streams.iter().flat_map(|stream| &stream.rules) {
            ports.insert(&rule.name, rule.ports().unwrap_or_default());
        }
        let (mut ended, mut known, mut history) = (0_usize, 0_usize, Vec::new());
        for ban in &bans {
            let lasts = ban.until.map(|until| until.since(now));
            let is_over = lasts.is_some_and(|lasts| lasts <= Span::ZERO);
            // The one in force is counted when it is made.
            let before = if is_over { ban.count } else { ban.count.saturating_sub(1) };
            history.push((ban.network, ban.rule.clone(), before, ban.since));
            if is_over {
                ended += 1;
                continue;
            }
            let key = BanKey { network: ban.network, rule: ban.rule.clone() };
            let lasts_as_long =
                |held: &Ban| held.until.is_none_or(|until| ban.until.is_some_and(|wanted| wanted <= until));
            if self.enforcer.with_bans(|bans| bans.get(&key).is_some_and(lasts_as_long)) {
                known += 1;
                continue;
            }
            requests.push(Request {
                network: ban.network,
                rule: ban.rule.clone(),
                // A ban of a jail that is not followed brings its ports with it.
                ports: ports
                    .get(ban.rule.as_str())
                    .cloned()
                    .or_else(|| Ports::parse(ban.ports.as_deref()?))
                    .unwrap_or_default(),
                lasts,
                since: Some(ban.since),
                origin: Origin::Imported,
            });
        }
        if let Err(error) = self.enforcer.remember(history).await {
            return Ok(Reply::error(503, &error.to_string()));
        }
        let done = match self.enforcer.ban(requests).await {
            Ok(done) => done,
            Err(error) => return Ok(Reply::error(503, &error.to_string())),
        };
        let taken =
            done.iter().filter(|done| matches!(done, Done::Banned(_) | Done::Prolonged(_) | Done::Known(_))).count();
        let spared = done.len() - taken;
        let events = self.done(done, &BTreeMap::new()).await?;
        self.send(events).await?;
        let enforced = !self.settings.simulate;
        Ok(Reply::json(&json!({
            "taken": taken, "known": known, "spared": spared, "ended": ended, "enforced": enforced,
        })))
    }

    fn status(&self) -> serde_json::Value {
        let mut banned: BTreeMap<String, usize> = BTreeMap::new();
        self.enforcer.with_bans(|bans| {
            bans.held_each(|bans| {
                if let Some(ban) = bans.first() {
                    match banned.get_mut(&ban.rule) {
                        Some(count) => *count += 1,
                        None => _ = banned.insert(ban.rule.clone(), 1),
                    }
                }
            });
        });
        let rules: Vec<_> = self
            .streams
            .iter()
            .flat_map(|stream| &stream.rules)
            .map(|rule| {
                let bans = banned.get(&*rule.name).copied().unwrap_or(0);
                let simulated = self.shown_simulated().filter(|ban| ban.rule == *rule.name).count();
                json!({
                    "rule": &*rule.name,
                    "failures": rule.totals.failures,
                    "offences": rule.totals.offences,
                    "nameless": rule.totals.nameless,
                    "banned": bans,
                    "simulated": simulated,
                })
            })
            .collect();
        let logs: BTreeSet<_> = self.streams.iter().flat_map(Stream::logs).collect();
        let impaired: Vec<_> =
            self.impaired.iter().map(|(what, reason)| json!({ "what": what, "reason": reason })).collect();
        let (listed, left_out) = if self.settings.simulate { (0, 0) } else { self.enforcer.listed() };
        json!({
            "enforced": self.is_enforced(),
            "simulated": self.settings.simulate,
            "bans": banned.values().sum::<usize>(),
            "bans_since_start": self.totals.bans,
            "bans_simulated": self.shown_simulated().count(),
            "simulated_since_start": self.totals.simulated,
            "rules": rules,
            "logs": logs,
            "lines": self.totals.lines,
            "since": self.totals.since.to_string(),
            "listed_networks": listed,
            "listed_networks_left_out": left_out,
            "enabled": self.rules,
            "follows": self.settings.fail2ban,
            "impaired": impaired,
            "on_ban": self.settings.on_ban.is_some().then(|| self.on_ban.status()),
        })
    }

    /// The bans that would be there without the simulation; none when there is no simulation.
    fn shown_simulated(&self) -> impl Iterator<Item = &SimulatedBan> {
        self.settings.simulate.then(|| self.simulated.iter()).into_iter().flatten()
    }

    /// The bans, and behind them those of a simulation.
    fn bans(&self, offset: usize) -> Vec<serde_json::Value> {
        let in_force = self.is_enforced();
        let (mut made, mut all) = (Vec::new(), 0);
        self.enforcer.with_bans(|bans| {
            bans.held_each(|bans| {
                if (offset..offset.saturating_add(BANS_SHOWN)).contains(&all) {
                    made.extend(row(bans, in_force));
                }
                all += 1;
            });
        });
        let simulated = self.shown_simulated().skip(offset.saturating_sub(all)).map(|ban| {
            json!({
                "address": shown(ban.held),
                "rule": ban.rule,
                "since": ban.since.to_string(),
                "until": ban.until.map(|until| until.to_string()),
                "count": 0,
                "ports": ban.ports,
                "in_force": false,
                "simulated": true,
            })
        });
        made.into_iter().chain(simulated).take(BANS_SHOWN).collect()
    }
}

/// What the bans of one rule hold back together, as a command is told.
fn row(bans: &[&Ban], in_force: bool) -> Option<serde_json::Value> {
    let first = bans.first()?;
    let until = bans.iter().map(|ban| ban.until).reduce(later).flatten();
    let mut row = json!({
        "address": shown(first.hold.network),
        "rule": first.rule,
        "since": bans.iter().map(|ban| ban.since).min().map(|since| since.to_string()),
        "until": until.map(|until| until.to_string()),
        "count": bans.iter().map(|ban| ban.count).max(),
        "ports": first.hold.ports.to_string(),
        "in_force": in_force,
        "simulated": false,
    });
    if first.network != first.hold.network {
        let offenders = bans.iter().take(OFFENDERS_SHOWN).map(|ban| shown(ban.network));
        row["offenders"] = offenders.collect::<Vec<_>>().into();
        row["offenders_count"] = bans.len().into();
    }
    Some(row)
}

/// Why somebody is banned who is in banned networks, and what to do.
fn in_networks(around: &[Ban]) -> Option<String> {
    let named: Vec<String> =
        around.iter().take(AROUND_SHOWN).map(|ban| format!("{} (by {})", shown(ban.network), ban.rule)).collect();
    let first = around.first()?;
    Some(format!(
        "it is in the banned network {}. `garant guard unban {}` ends the ban of that network, and so does `--yes` beside the address",
        named.join(", "),
        first.network
    ))
}

/// Why somebody is banned whom a list names, and what to do.
fn in_a_list(list: &str) -> String {
    format!(
        "the list {list} names it. Put it into `allow` of [guard] and run `garant reload`; `garant guard allow` shows who is never \
         banned"
    )
}
