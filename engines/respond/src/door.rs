//! The door of respond: its addresses, and the answers of the engine.
//!
//! The door judges tokens and links, and hands the call to the engine, which answers once what the answer says is durable. While the
//! engine is being started again, callers get 503 and come again.

use std::sync::Arc;

use engine::BoxFuture;
use engine::door::Method::{Delete, Get, Post};
use engine::door::{Access, Call, Credential, Door, Listeners, Mount, Reply};
use tokio::sync::{mpsc, oneshot, watch};

use crate::link::Use;
use crate::run::{Admission, Request};

pub(crate) const ALERTS: &str = "/api/v1/alerts";
pub(crate) const SILENCES: &str = "/api/v1/silences";
pub(crate) const ON_CALL: &str = "/api/v1/oncall";
pub(crate) const NOTIFY: &str = "/api/v1/notify";
pub(crate) const HOLDS: &str = "/api/v1/holds";
pub(crate) const HOLD: &str = "/api/v1/hold";
pub(crate) const INTAKE: &str = "/api/v1/intake";
pub(crate) const ALERTMANAGER: &str = "/api/v2";
pub(crate) const LINK: &str = "/a";
pub(crate) const RECEIPT: &str = "/r";

const fn team(prefix: &'static str) -> Mount {
    Mount {
        prefix,
        listeners: Listeners::Team,
        access: Access::TeamToken,
        methods: &[Get, Post, Delete],
        body_bytes_max: 64 * 1024,
    }
}

const fn program(prefix: &'static str, body_bytes_max: usize) -> Mount {
    Mount {
        prefix,
        listeners: Listeners::Team,
        access: Access::OfTheEngine,
        methods: &[Get, Post, Delete],
        body_bytes_max,
    }
}

/// The addresses.
const MOUNTS: &[Mount] = &[
    team(ALERTS),
    team(SILENCES),
    team(ON_CALL),
    team(NOTIFY),
    team(HOLDS),
    program(HOLD, 0),
    // A Prometheus sends as many as 256 alerts at once by default, with all their labels.
    program(INTAKE, 4 * 1024 * 1024),
    program(ALERTMANAGER, 4 * 1024 * 1024),
    Mount {
        prefix: LINK,
        listeners: Listeners::Everybody,
        access: Access::OfTheEngine,
        methods: &[Get, Post],
        body_bytes_max: 1024,
    },
    // Some gateways say by GET what became of a message. Nobody else sees the address, so nobody previews it.
    Mount {
        prefix: RECEIPT,
        listeners: Listeners::Everybody,
        access: Access::OfTheEngine,
        methods: &[Get, Post],
        body_bytes_max: 16 * 1024,
    },
];

/// The door.
pub struct RespondDoor {
    requests: mpsc::Sender<Request>,
    admission: watch::Receiver<Arc<Admission>>,
}

impl RespondDoor {
    pub(crate) fn new(requests: mpsc::Sender<Request>, admission: watch::Receiver<Arc<Admission>>) -> Self {
        Self { requests, admission }
    }
}

impl Door for RespondDoor {
    fn mounts(&self) -> &'static [Mount] {
        MOUNTS
    }

    fn admit(&self, call: &Call) -> Result<(), Reply> {
        let admission = Arc::clone(&self.admission.borrow());
        let used = match call.mount {
            LINK => Some(Use::Acknowledge),
            RECEIPT => Some(Use::Receipt),
            _ => None,
        };
        if let Some(used) = used {
            let known = match call.segments().as_slice() {
                [path] => used.read(&admission.link_key, path).is_some(),
                _ => false,
            };
            return if known { Ok(()) } else { Err(Reply::Refused(404)) };
        }
        let secret = call.credential.as_ref().map(Credential::secret);
        match secret.and_then(|secret| admission.intake(secret)) {
            Some(_) => Ok(()),
            None => Err(Reply::error(
                401,
                "send the token of an [[intake]], as a bearer or as the password of basic authentication",
            )),
        }
    }

    fn call(&self, call: Call) -> BoxFuture<'_, Reply> {
        Box::pin(async move {
            let (reply, answered) = oneshot::channel();
            let busy = || Reply::error(503, "garant is busy with alerts: ask again in some seconds");
            if self.requests.try_send(Request { call, reply }).is_err() {
                return busy();
            }
            answered.await.unwrap_or_else(|_| busy())
        })
    }
}
