//! The door: how the commands of this host ask the engine in its agent, with a server or without.

use engine::BoxFuture;
use engine::door::{Access, Call, Door, Listeners, Method, Mount, Reply};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::events::Rewound;

/// The mount of the commands.
pub(crate) const API: &str = "/api/v1/backup";
/// Longest body.
const BODY_BYTES_MAX: usize = 16 * 1024;

/// What a command wants of the engine.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Wish {
    /// How it is doing.
    Status,
    /// A base or a restore test now.
    Run {
        /// The backup.
        name: String,
        /// `full` or `restore`.
        kind: String,
    },
    /// That something is done to the data of this host is to be journaled.
    Journal(Rewound),
    /// That somebody has shown the repository key that is kept elsewhere is to be written down.
    KeyShown {
        /// What tells the key from others.
        identity: String,
    },
}

/// A wish, and where its answer goes.
pub(crate) type Order = (Wish, oneshot::Sender<Reply>);

/// The door of the engine.
pub struct BackupDoor(mpsc::Sender<Order>);

impl BackupDoor {
    pub(crate) const fn new(orders: mpsc::Sender<Order>) -> Self {
        Self(orders)
    }

    async fn ask(&self, wish: Wish) -> Reply {
        let (answer, answered) = oneshot::channel();
        let lost = || Reply::error(503, "the backup engine starts, or has failed: look at the log of the agent");
        if self.0.send((wish, answer)).await.is_err() {
            return lost();
        }
        answered.await.unwrap_or_else(|_| lost())
    }
}

impl Door for BackupDoor {
    fn mounts(&self) -> &'static [Mount] {
        &[Mount {
            prefix: API,
            listeners: Listeners::Team,
            access: Access::TeamToken,
            methods: &[Method::Get, Method::Post],
            body_bytes_max: BODY_BYTES_MAX,
        }]
    }

    fn call(&self, call: Call) -> BoxFuture<'_, Reply> {
        Box::pin(async move {
            match (call.method, &call.segments()[..]) {
                (Method::Get, ["status"]) => self.ask(Wish::Status).await,
                (Method::Post, ["run" | "rewound"]) => match call.json::<Wish>() {
                    Ok(wish) => self.ask(wish).await,
                    Err(reply) => reply,
                },
                _ => Reply::error(404, "the backup engine knows nothing of that name"),
            }
        })
    }
}
