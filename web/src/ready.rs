//! `/ready`: whether garant does its work, for process managers and load balancers. 200 when every engine runs and the
//! journal takes entries, else 503; the body says what is wrong.
//!
//! The answer does not depend on the services that are watched: a server must not be restarted because a customer's site is
//! down.

use std::sync::Arc;

use axum::Router;
use axum::extract::State as FromState;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use serde::{Deserialize, Serialize};

use crate::answer;
use crate::state::State;
use crate::status::{self, EngineStatus};

/// The body of the answer.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct Readiness {
    /// Whether all is well.
    pub ready: bool,
    /// Why the journal refuses entries, while it does.
    pub fault: Option<String>,
    /// The engines.
    pub engines: Vec<EngineStatus>,
}

pub(crate) fn routes() -> Router<Arc<State>> {
    Router::new().route("/ready", get(ready))
}

async fn ready(FromState(state): FromState<Arc<State>>) -> Response {
    let engines = status::engines(&state);
    let fault = state.journal.health().fault.map(|fault| fault.reason);
    let ready = fault.is_none() && engines.iter().all(|engine| engine.healthy);
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    answer::json(code, &Readiness { ready, fault, engines })
}
