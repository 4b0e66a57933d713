//! What people see: the trust page, the log over HTTP, metrics, heartbeat intake, the witness endpoint.
//!
//! **Problem.** The same process holds what everybody should read and what nobody outside the team may. **Principle.** Two
//! routers, for two listeners, made from one [`State`]:
//!
//! | address | [`public`] | [`team`] |
//! |---|---|---|
//! | `/`, `/fr`, `/en` — the trust page | once the policy says `publish = true` | always |
//! | `/log/…` — the log, as files ([`journal::export`]) | once the policy says so | always |
//! | `/robots.txt`, `/favicon.ico` | once the policy says so | always |
//! | `/ping/<uuid>` — heartbeats | once the policy says `publish = true` or `pings = true` | always |
//! | `/healthz` — the process answers | always | always |
//! | `/metrics`, `/ready`, `/api/status.json` | never | always |
//! | below the [`Mount`](engine::door::Mount)s of engines ([`Doors`]) | those for everybody, always | always |
//!
//! The team's listener belongs on loopback: it asks nobody for a password, and answers only to the hosts of the team
//! ([`host`]). The payloads of entries for the team are on
//! neither, since nothing here needs them.
//!
//! A request computes nothing that grows with the log: the judge, the publisher and the watch leave what they know in [`State`], and a
//! page shows the latest of it. Figures and outcomes are of the judge's last evaluation, a proof is of the last verdict in the log. [`serve`] puts limits on everything that a peer can stretch; every answer carries the headers that
//! keep a browser from doing anything but showing it.
//!
//! What this crate does not know: how a verdict comes about, who asks the probes, where anything is stored.

mod answer;
mod budget;
mod door;
mod host;
mod lang;
mod log;
mod metrics;
mod ping;
pub mod ready;
mod serve;
mod state;
pub mod status;
mod trust_page;
mod usual;
pub mod witness;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use axum::Router;
use axum::extract::{Request, State as FromState};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::Response;

pub use budget::AnswerBudget;
pub use door::Doors;
pub use lang::{Language, Precision, Times};
pub use serve::serve;
pub use state::{Identity, ShownPolicy, State};

use state::Listener;

/// Everything, always: for the team, on loopback.
pub fn team(state: Arc<State>) -> Router {
    let routes = trust_page::routes(Listener::Team)
        .merge(log::routes())
        .merge(ping::routes())
        .merge(metrics::routes())
        .merge(ready::routes())
        .merge(status::routes())
        .merge(usual::team())
        .merge(usual::health());
    answer::listener(routes, state, Listener::Team)
}

/// What everybody may see, and only once the policy says `publish = true`; until then it looks as if there were nothing.
/// Heartbeats are taken from then on, or earlier where the policy says `pings = true`.
pub fn public(state: Arc<State>) -> Router {
    let shown = trust_page::routes(Listener::Public).merge(log::routes()).merge(usual::public());
    let shown = shown.layer(middleware::from_fn_with_state(Arc::clone(&state), when_published));
    let pings = ping::routes().layer(middleware::from_fn_with_state(Arc::clone(&state), when_taken));
    answer::listener(shown.merge(pings).merge(usual::health()), state, Listener::Public)
}

/// Pings are taken once the policy publishes, or says `pings = true` before that.
async fn when_taken(FromState(state): FromState<Arc<State>>, request: Request, next: Next) -> Response {
    let taken = {
        let policy = state.policy.borrow();
        policy.publish || policy.public_pings
    };
    if taken { next.run(request).await } else { answer::refusal(StatusCode::NOT_FOUND) }
}

async fn when_published(FromState(state): FromState<Arc<State>>, request: Request, next: Next) -> Response {
    if state.policy.borrow().publish { next.run(request).await } else { answer::refusal(StatusCode::NOT_FOUND) }
}
