//! The door: how the commands of this host ask the gate, with a server or without.

use std::net::SocketAddr;

use engine::door::{Access, Call, Listeners, Method, Mount, Reply};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The mount of the commands.
pub(crate) const API: &str = "/api/v1/gate";
/// Most ranges that a closed site lets in.
const EXCEPT_MAX: usize = 1000;

/// What a command wants of the engine.
#[derive(Debug)]
pub(crate) enum Wish {
    /// How it is doing.
    Status,
    /// To let nobody into a site but these.
    Close { site: String, except: Vec<IpNet> },
    /// To let everybody in again.
    Open { site: String },
    /// To give an upstream no new requests.
    Drain { upstream: SocketAddr },
    /// To give it some again.
    Resume { upstream: SocketAddr },
}

/// Whom a closed site lets in.
#[derive(Serialize, Deserialize, Default, Debug)]
pub(crate) struct CloseOrder {
    pub(crate) except: Vec<IpNet>,
}

/// The mount, as `engine::door::Orders` takes it.
pub(crate) const MOUNT: &[Mount] = &[Mount {
    prefix: API,
    listeners: Listeners::Team,
    access: Access::TeamToken,
    methods: &[Method::Get, Method::Post, Method::Delete],
    body_bytes_max: 64 * 1024,
}];
/// What a caller is told whom the engine can't answer.
pub(crate) const LOST: &str = "the gate starts, or has failed: look at its log";

/// What a call wants.
pub(crate) fn wish(call: &Call) -> Result<Wish, Reply> {
    match (call.method, &call.segments()[..]) {
        (Method::Get, ["status"]) => Ok(Wish::Status),
        (Method::Post, ["closed", site]) => {
            let order: CloseOrder = call.json()?;
            if order.except.len() > EXCEPT_MAX {
                return Err(Reply::error(413, "more ranges than a closed site may let in"));
            }
            Ok(Wish::Close { site: domain(site), except: order.except })
        }
        (Method::Delete, ["closed", site]) => Ok(Wish::Open { site: domain(site) }),
        (Method::Post, ["drained", upstream]) => Ok(Wish::Drain { upstream: address(upstream)? }),
        (Method::Delete, ["drained", upstream]) => Ok(Wish::Resume { upstream: address(upstream)? }),
        _ => Err(Reply::error(404, "the gate knows nothing of that name")),
    }
}

/// A domain as the policy has it: names have no case.
fn domain(text: &str) -> String {
    text.to_ascii_lowercase()
}

fn address(text: &str) -> Result<SocketAddr, Reply> {
    text.parse().map_err(|_| Reply::error(400, &format!("`{text}` is no address with a port, as 10.1.0.10:8080 is")))
}
