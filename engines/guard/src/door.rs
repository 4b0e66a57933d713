//! The door: how the commands of this host ask the engine in its agent.

use std::sync::{Arc, Mutex, PoisonError};

use engine::BoxFuture;
use engine::door::{Access, Call, Door, Listeners, Method, Mount, Reply};
use serde_json::json;

use crate::config::Desired;

/// The mount of the commands.
pub(crate) const API: &str = "/api/v1/guard";

/// What the engine shows to its door.
#[derive(Default)]
pub(crate) struct Shared {
    desired: Mutex<Option<Desired>>,
}

impl Shared {
    pub(crate) fn set(&self, desired: Option<Desired>) {
        *self.desired.lock().unwrap_or_else(PoisonError::into_inner) = desired;
    }
}

/// The door of the engine.
pub struct GuardDoor(Arc<Shared>);

impl GuardDoor {
    pub(crate) const fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }
}

impl Door for GuardDoor {
    fn mounts(&self) -> &'static [Mount] {
        &[Mount {
            prefix: API,
            listeners: Listeners::Team,
            access: Access::TeamToken,
            methods: &[Method::Get, Method::Post, Method::Delete],
            body_bytes_max: 64 * 1024,
        }]
    }

    fn call(&self, call: Call) -> BoxFuture<'_, Reply> {
        let reply = match call.segments()[..] {
            ["status"] => {
                let desired = self.0.desired.lock().unwrap_or_else(PoisonError::into_inner).clone();
                Reply::json(&json!({ "desired": desired }))
            }
            _ => Reply::error(404, "the guard knows nothing of that name"),
        };
        Box::pin(std::future::ready(reply))
    }
}
