//! Conditions that stand in no single entry: promises that burn, by the judge's evaluation, and witnesses that stay away, by the
//! published checkpoint.

use std::collections::BTreeMap;

use event::policy::Text;
use event::{Span, Time};
use journal::published::Published;
use promise::{Burning, InEffect};

use crate::act::Severity;
use crate::config::Alerting;
use crate::detect::alert::{Opening, Signal, SignalState, Source};
use crate::detect::desk::Desk;

/// How long a checkpoint is published without a witness before that is a condition.
const WITNESS_AWAY: Span = Span::from_secs(600);

/// What is compared with the desk at each turn.
#[derive(Default)]
pub struct Standing {
    /// Since when each witness is missing.
    away: BTreeMap<String, Time>,
}

impl Standing {
    /// The signals by the last evaluation: what burns is open, and what burnt is over.
    pub fn burning(in_effect: &InEffect, desk: &Desk, alerting: &Alerting, now: Time) -> Vec<Signal> {
        let key = |burning: &Burning| format!("burn/{}/{}", burning.promise, burning.objective);
        let mut signals: Vec<Signal> = in_effect
            .burning
            .iter()
            .filter(|burning| !desk.fires(&key(burning)))
            .map(|burning| Signal {
                key: key(burning),
                state: SignalState::Open(Box::new(burn(burning, alerting, now))),
            })
            .collect();
        let over =
            desk.firing_keys("burn/").into_iter().filter(|open| in_effect.burning.iter().all(|it| key(it) != *open));
        signals.extend(over.map(|key| Signal { key, state: SignalState::Over(now) }));
        signals
    }

    /// The signals by the published checkpoint: which of the witnesses of the policy did not cosign for a while.
    pub fn witnesses<'a>(
        &mut self,
        published: Option<&Published>,
        names: impl Iterator<Item = &'a str>,
        desk: &Desk,
        alerting: &Alerting,
        now: Time,
    ) -> Vec<Signal> {
        let Some(published) = published else { return Vec::new() };
        let missing: Vec<&str> =
            names.filter(|name| published.cosignatures.iter().all(|cosigned| cosigned.witness != *name)).collect();
        self.away.retain(|name, _| missing.contains(&name.as_str()));
        for name in &missing {
            self.away.entry((*name).to_owned()).or_insert(now);
        }
        let mut signals = Vec::new();
        for (name, since) in self.away.iter().filter(|(_, since)| now.since(**since) >= WITNESS_AWAY) {
            let key = format!("witness/{name}");
            if desk.fires(&key) {
                continue;
            }
            let title = Text {
                fr: format!("Le témoin {name} ne cosigne plus le journal"),
                en: format!("The witness {name} no longer cosigns the log"),
            };
            let severity = alerting.severity(Source::Witness, None, None, None, None);
            let opening = Opening { severity, title, ..Opening::bare(Source::Witness, *since) };
            signals.push(Signal { key, state: SignalState::Open(Box::new(opening)) });
        }
        let open = desk.firing_keys("witness/").into_iter();
        let back = open.filter(|key| key.strip_prefix("witness/").is_none_or(|name| !self.away.contains_key(name)));
        signals.extend(back.map(|key| Signal { key, state: SignalState::Over(now) }));
        signals
    }
}

fn burn(burning: &Burning, alerting: &Alerting, now: Time) -> Opening {
    let Burning { promise, over, tenths, fast, service, .. } = burning;
    let rate = format!("{},{}", tenths / 10, tenths % 10);
    let title = Text {
        fr: format!("La promesse {promise} est en danger : son budget s’use {rate} fois trop vite depuis {over}"),
        en: format!(
            "The promise {promise} is at risk: its budget is used {} times too fast over {over}",
            rate.replace(',', ".")
        ),
    };
    let said = alerting.severity(Source::Burn, None, None, None, Some(promise));
    let severity = if *fast { said } else { said.min(Severity::Warning) };
    let runbook = alerting.runbook(None, None, None, Some(promise));
    Opening { severity, title, services: [service.clone()].into(), runbook, ..Opening::bare(Source::Burn, now) }
}
