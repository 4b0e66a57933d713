//! The door: how the commands of this host ask the engine in its agent, with a server or without.

use engine::door::{Access, Call, Listeners, Method, Mount, Reply};
use serde::{Deserialize, Serialize};

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

/// The mount, as `engine::door::Orders` takes it.
pub(crate) const MOUNT: &[Mount] = &[Mount {
    prefix: API,
    listeners: Listeners::Team,
    access: Access::TeamToken,
    methods: &[Method::Get, Method::Post],
    body_bytes_max: BODY_BYTES_MAX,
}];
/// What a caller is told whom the engine can't answer.
pub(crate) const LOST: &str = "the backup engine starts, or has failed: look at the log of the agent";

/// What a call wants.
pub(crate) fn wish(call: &Call) -> Result<Wish, Reply> {
    match (call.method, &call.segments()[..]) {
        (Method::Get, ["status"]) => Ok(Wish::Status),
        (Method::Post, ["run" | "rewound"]) => call.json(),
        _ => Err(Reply::error(404, "the backup engine knows nothing of that name")),
    }
}
