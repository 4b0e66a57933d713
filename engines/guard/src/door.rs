//! The door: how the commands of this host ask the engine in its agent, with a server or without.

use std::net::IpAddr;

use engine::command::network_of;
use engine::door::{Access, Call, Listeners, Method, Mount, Reply};
use event::{Span, Time};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The mount of the commands.
pub(crate) const API: &str = "/api/v1/guard";
/// Most bans of one import.
pub(crate) const IMPORTED_MAX: usize = 200_000;
/// Longest ban that is not for ever.
const BAN_MAX: Span = Span::from_days(36_525);
/// Most bans of one answer.
pub(crate) const BANS_SHOWN: usize = 5000;
/// Longest body: an import, of which each ban is some hundred bytes.
const BODY_BYTES_MAX: usize = 7 * 1024 * 1024;

/// What a command wants of the engine.
#[derive(Debug)]
pub(crate) enum Wish {
    /// How it is doing.
    Status,
    /// The bans in force: [`BANS_SHOWN`] of them, after so many.
    Bans { offset: usize },
    /// To read the files that the policy names again.
    Reload,
    /// Who is never banned, and why.
    Allowed,
    /// To take off what was learned of an address from logins.
    Disown(IpAddr),
    /// A ban.
    Ban(BanOrder),
    /// The end of bans: of this network, or of all. Their history is forgotten with `forget`; bans of networks around it are ended
    /// with `around`.
    Unban { network: Option<IpNet>, around: bool, forget: bool },
    /// Bans and history of fail2ban.
    Import(Vec<ImportedBan>),
}

/// A ban that somebody orders.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) struct BanOrder {
    /// Whom.
    pub(crate) network: IpNet,
    /// For how long; for ever without it.
    pub(crate) lasts: Option<Span>,
}

/// A ban that is taken over.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) struct ImportedBan {
    /// Whom.
    pub(crate) network: IpNet,
    /// The jail.
    pub(crate) rule: String,
    /// Since when.
    pub(crate) since: Time,
    /// Until when; `None` for ever.
    pub(crate) until: Option<Time>,
    /// How many times the jail had banned it, this time included.
    pub(crate) count: u32,
    /// What the jail closes, where it is known: for a jail that is not followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ports: Option<String>,
}

/// The mount, as `engine::door::Orders` takes it.
pub(crate) const MOUNT: &[Mount] = &[Mount {
    prefix: API,
    listeners: Listeners::Team,
    access: Access::TeamToken,
    methods: &[Method::Get, Method::Post, Method::Delete],
    body_bytes_max: BODY_BYTES_MAX,
}];
/// What a caller is told whom the engine can't answer.
pub(crate) const LOST: &str = "the guard starts, or has failed: look at the log of the agent";

/// What a call wants.
pub(crate) fn wish(call: &Call) -> Result<Wish, Reply> {
    match (call.method, &call.segments()[..]) {
        (Method::Get, ["status"]) => Ok(Wish::Status),
        (Method::Get, ["bans"]) => {
            let offset = call.parameter("offset").and_then(|text| text.parse().ok()).unwrap_or(0);
            Ok(Wish::Bans { offset })
        }
        (Method::Get, ["allow"]) => Ok(Wish::Allowed),
        (Method::Post, ["reload"]) => Ok(Wish::Reload),
        (Method::Post, ["bans"]) => {
            let order: BanOrder = call.json()?;
            if order.lasts.is_some_and(|lasts| !(Span::from_secs(1)..=BAN_MAX).contains(&lasts)) {
                return Err(Reply::error(
                    400,
                    "a ban lasts for a second at least and for a hundred years at most, or for ever",
                ));
            }
            Ok(Wish::Ban(order))
        }
        (Method::Post, ["import"]) => {
            let bans: Vec<ImportedBan> = call.json()?;
            if bans.len() > IMPORTED_MAX {
                return Err(Reply::error(413, "more bans than are imported at once"));
            }
            Ok(Wish::Import(bans))
        }
        (Method::Delete, ["allow", address]) => match address.parse::<IpAddr>() {
            Ok(address) => Ok(Wish::Disown(address.to_canonical())),
            Err(_) => Err(Reply::error(400, "that is no address")),
        },
        (Method::Delete, ["bans"]) => Ok(Wish::Unban { network: None, around: true, forget: is_set(call, "forget") }),
        (Method::Delete, ["bans", network]) => {
            let network = network_of(network).ok_or_else(|| {
                Reply::Json(
                    400,
                    json!({ "error": format!("`{network}` is no address and no network") }).to_string().into(),
                )
            })?;
            let (around, forget) = (is_set(call, "around"), is_set(call, "forget"));
            Ok(Wish::Unban { network: Some(network), around, forget })
        }
        _ => Err(Reply::error(404, "the guard knows nothing of that name")),
    }
}

fn is_set(call: &Call, parameter: &str) -> bool {
    call.parameter(parameter) == Some("true")
}
