//! Figures of the gate, which its server shows in `/metrics`.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use engine::metrics::{FiguresTold, ToldFigure, ToldSample};

use crate::worker::Shared;

const fn gauge(name: &'static str, about: &'static str, label: Option<&'static str>) -> ToldFigure {
    ToldFigure { name, about, is_counter: false, label }
}

const fn counter(name: &'static str, about: &'static str, label: Option<&'static str>) -> ToldFigure {
    ToldFigure { name, about, is_counter: true, label }
}

const CONNECTIONS: ToldFigure = gauge("garant_gate_connections", "Connections of clients that are open.", None);
const TURNED_AWAY: ToldFigure =
    counter("garant_gate_turned_away", "Connections that a bound has closed at once.", None);
const REQUESTS_TURNED_AWAY: ToldFigure =
    counter("garant_gate_requests_turned_away", "Requests that were refused because their address had too many.", None);
const BANS: ToldFigure = gauge("garant_gate_bans", "Networks that are let in nowhere.", None);
const BANS_BYTES: ToldFigure = gauge("garant_gate_bans_bytes", "Memory that these take.", None);
const BANNED: ToldFigure = counter("garant_gate_banned", "Connections of these that were closed.", None);
const HANDSHAKES_FAILED: ToldFigure =
    counter("garant_gate_handshakes_failed", "Handshakes of TLS that have failed.", None);
const PROXY_HEADS_REFUSED: ToldFigure = counter(
    "garant_gate_proxy_heads_refused",
    "Connections of declared proxies that did not say who the client is.",
    None,
);
const REPLIES: ToldFigure = counter("garant_gate_replies", "Replies to clients, by class of status.", Some("status"));
const REFUSED: ToldFigure = counter("garant_gate_refused", "Requests that were refused, by class.", Some("class"));
const REQUESTS: ToldFigure = counter("garant_gate_requests", "Requests of a site.", Some("site"));
const FAILED: ToldFigure = counter(
    "garant_gate_failed",
    "Requests that were answered 5xx, by an upstream or the gate, or cut off.",
    Some("site"),
);
const USABLE: ToldFigure =
    gauge("garant_gate_upstream_usable", "Whether an upstream is given requests.", Some("upstream"));
const VISITS: ToldFigure = counter("garant_gate_upstream_requests", "Requests sent to an upstream.", Some("upstream"));
const VISITS_FAILED: ToldFigure =
    counter("garant_gate_upstream_failed", "Requests that failed at an upstream.", Some("upstream"));
const RETRIED: ToldFigure = counter(
    "garant_gate_upstream_retried",
    "Requests that failed at an upstream and went to another.",
    Some("upstream"),
);
const EJECTIONS: ToldFigure =
    counter("garant_gate_upstream_ejections", "Times that an upstream was ejected.", Some("upstream"));
const LINES_LOST: ToldFigure = counter("garant_gate_log_lines_lost", "Lines of the access log that were lost.", None);

/// The figures. What is counted begins when the gate starts.
pub const FIGURES: &[ToldFigure] = &[
    CONNECTIONS,
    TURNED_AWAY,
    REQUESTS_TURNED_AWAY,
    BANS,
    BANS_BYTES,
    BANNED,
    HANDSHAKES_FAILED,
    PROXY_HEADS_REFUSED,
    REPLIES,
    REFUSED,
    REQUESTS,
    FAILED,
    USABLE,
    VISITS,
    VISITS_FAILED,
    RETRIED,
    EJECTIONS,
    LINES_LOST,
];

/// The figures as they stand; none while no site is desired.
#[derive(Default)]
pub struct Figures(pub(crate) OnceLock<Arc<Shared>>);

impl FiguresTold for Figures {
    fn told(&self) -> Vec<ToldSample> {
        let Some(shared) = self.0.get() else { return Vec::new() };
        let plan = Arc::clone(&shared.plan.borrow());
        if plan.sites.is_empty() {
            return Vec::new();
        }
        let mut told = Vec::new();
        let mut tell = |figure: ToldFigure, of: Option<String>, count: u64| {
            told.push(ToldSample { figure: figure.name.to_owned(), of, count });
        };
        let tally = &shared.tally;
        tell(CONNECTIONS, None, tally.connections.load(Ordering::Relaxed));
        tell(TURNED_AWAY, None, tally.turned_away.read());
        tell(REQUESTS_TURNED_AWAY, None, tally.requests_turned_away.read());
        let bans = Arc::clone(&shared.bans.borrow());
        tell(BANS, None, u64::try_from(bans.count()).unwrap_or(u64::MAX));
        tell(BANS_BYTES, None, u64::try_from(bans.bytes()).unwrap_or(u64::MAX));
        tell(BANNED, None, tally.banned.read());
        tell(HANDSHAKES_FAILED, None, tally.handshakes_failed.read());
        tell(PROXY_HEADS_REFUSED, None, tally.proxy_heads_refused.read());
        tell(LINES_LOST, None, tally.lines_lost.read());
        tally.replies().for_each(|(status, count)| tell(REPLIES, Some(status), count));
        tally.refusals().filter(|(_, count)| *count > 0).for_each(|(refusal, count)| {
            tell(REFUSED, Some(refusal.class().to_owned()), count);
        });
        for site in &plan.sites {
            let domain = &site.settings.domain;
            tell(REQUESTS, Some(domain.clone()), site.counts.requests.read());
            tell(FAILED, Some(domain.clone()), site.counts.failed.read());
            for (path, group) in site.groups() {
                for upstream in &group.upstreams {
                    let of = || Some(format!("{domain}{path} {}", upstream.address));
                    let counts = &upstream.counts;
                    tell(USABLE, of(), u64::from(upstream.is_usable()));
                    tell(VISITS, of(), counts.requests.read());
                    tell(VISITS_FAILED, of(), counts.failed.read());
                    tell(RETRIED, of(), counts.retried.read());
                    tell(EJECTIONS, of(), counts.ejections.read());
                }
            }
        }
        told
    }
}
