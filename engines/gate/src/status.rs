//! How the gate stands, for `garant gate status`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use engine::door::Reply;
use event::Time;
use serde_json::{Value, json};

use crate::count::Count;
use crate::group::{Group, Upstream};
use crate::hsts::Step;
use crate::plan::Site;
use crate::stream::TlsVersion;
use crate::tls::{Shown, lowest_allowed};
use crate::worker::Shared;

const DAY_MICROS: i64 = 86_400_000_000;

/// The whole state as JSON.
pub(crate) fn status<'p>(
    shared: &Arc<Shared>,
    is_desired: bool,
    certificates: &BTreeMap<String, Shown>,
    problems: impl Iterator<Item = &'p String>,
) -> Reply {
    let plan = Arc::clone(&shared.plan.borrow());
    let (now, wall) = (shared.clock.monotonic(), shared.clock.now());
    let upstream = |path: &str, group: &Group, upstream: &Upstream| {
        let (health, since) = upstream.health();
        let drained = shared.drained().get(&upstream.address).copied();
        let until = health.ejected_until.map(|until| Time::from_micros(wall.micros() + until.since(now).micros()));
        json!({
            "path": path,
            "upstream": upstream.address.to_string(),
            "region": upstream.region,
            "region_rank": upstream.rank,
            "used": upstream.is_usable() || !upstream.is_drained() && !group.upstreams.iter().any(|it| it.is_usable()),
            "state": if drained.is_some() { "drained" } else { health.state.word() },
            "since": drained.or(since),
            "reason": if drained.is_some() { "somebody has drained it: `garant gate resume` ends that" } else { &health.reason },
            "in_flight": upstream.in_flight(),
            "requests": upstream.counts.requests.read(),
            "failed": upstream.counts.failed.read(),
            "retried": upstream.counts.retried.read(),
            "ejected_until": until,
        })
    };
    let sites: Vec<Value> = plan
        .sites
        .iter()
        .map(|site| {
            let of_group = |(path, group): (&str, &Arc<Group>)| -> Vec<Value> {
                group.upstreams.iter().map(|it| upstream(path, group, it)).collect()
            };
            let closing = site.closing();
            let by_command = closing.as_ref().map(|_| "command");
            let by_policy = site.settings.closed.then_some("policy");
            json!({
                "site": site.settings.domain,
                "closed": closing.is_some() || site.settings.closed,
                "closed_by": by_policy.into_iter().chain(by_command).collect::<Vec<_>>(),
                "closed_except": closing.iter().flat_map(|closing| &closing.except).map(ToString::to_string).collect::<Vec<_>>(),
                "closed_since": closing.as_ref().map(|closing| closing.since),
                "requests": site.counts.requests.read(),
                "failed": site.counts.failed.read(),
                "served": served(site, certificates.get(&site.settings.domain), wall),
                "upstreams": site.groups().flat_map(of_group).collect::<Vec<_>>(),
            })
        })
        .collect();
    let listeners: Vec<Value> = shared
        .listeners
        .borrow()
        .iter()
        .map(|it| json!({ "address": it.address.to_string(), "tls": it.is_tls }))
        .collect();
    let refused: serde_json::Map<String, Value> = shared
        .tally
        .refusals()
        .filter(|(_, count)| *count > 0)
        .map(|(refusal, count)| (refusal.class().to_owned(), count.into()))
        .collect();
    Reply::json(&json!({
        "desired": is_desired,
        "listeners": listeners,
        "connections": shared.tally.connections.load(Ordering::Relaxed),
        "bans": shared.bans.borrow().count(),
        "refused": refused,
        "problems": problems.collect::<Vec<_>>(),
        "sites": sites,
    }))
}

/// How a site was really served, since the gate has known it: what the findings of `observe` are about, as figures.
fn served(site: &Site, certificate: Option<&Shown>, now: Time) -> Value {
    let served = &site.served;
    let versions = [TlsVersion::Old, TlsVersion::V1_2, TlsVersion::V1_3];
    let over: Vec<(TlsVersion, u64)> = versions.into_iter().zip(served.over_tls.each_ref().map(Count::read)).collect();
    let seen = over.iter().find(|(_, requests)| *requests > 0).map(|(version, _)| version.word());
    let requests: serde_json::Map<String, Value> =
        over.iter().map(|(version, requests)| (version.word().to_owned(), (*requests).into())).collect();
    let of_certificate = |shown: &Shown| {
        let days = |until: Time| until.since(now).micros().div_euclid(DAY_MICROS);
        let problem = match shown {
            Shown::Nothing => Some("there is none"),
            Shown::Good { .. } => None,
            Shown::Wrong { why, .. } => Some(why.as_str()),
        };
        json!({ "until": shown.until(), "days_left": shown.until().map(days), "problem": problem })
    };
    let speaks_tls = site.settings.speaks_tls();
    json!({
        "answered": served.answered.read(),
        "failed": served.failed.read(),
        "tls": speaks_tls.then(|| json!({
            "lowest_allowed": lowest_allowed().map(TlsVersion::word),
            "lowest_seen": seen,
            "requests": requests,
        })),
        "certificate": certificate.map(of_certificate),
        "clear": {
            "redirects_to_https": speaks_tls && site.settings.redirect_to_https,
            "redirected": served.sent_to_https.read(),
            "requests": served.clear.read(),
        },
        "headers": speaks_tls.then(|| json!({
            "all": served.careful.read(),
            "lacking": served.bare.read(),
            "hsts": site.hardening.step().map(Step::value),
        })),
    })
}
