//! The channel `slack`: a message to a channel of Slack, as a bot in one thread, or over an incoming webhook.

use std::sync::Arc;

use engine::http::{HeaderMap, Request};
use engine::{BoxFuture, Secrets};
use policy::{Secret, Section, Slot, Table, Url, Value};
use serde_json::{Value as Json, json};
use zeroize::Zeroizing;

use super::hook::{HookUrl, unopened};
use super::request::{Wanted, ask, failed, retry_after};
use super::{Channel, Kind, Means, Message, Providers, Sent, What, compose};

/// Longest text of a message, in bytes: Slack recommends 4000 characters, and cuts at 40 000.
const TEXT_BYTES_MAX: usize = 8 * 1024;
/// Where the methods of Slack are.
const API: &str = "https://slack.com/api";

/// `[slack]`: the bot that writes.
#[derive(Clone, PartialEq, Debug)]
pub struct Workspace {
    token: Secret,
    api: Url,
}

impl Section for Workspace {
    const ABOUT: &'static str = "\
The bot that writes to channels of Slack, for every `{ slack = \"C…\" }` of a person. It needs the scope `chat:write`, and must be \
in the channel. What it writes about one alert is one thread.";
    const EXAMPLE: &'static str = r#"
[slack]
token = { file = "/etc/garant/slack-token" }
"#;

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let token = table.required("token", "The token of the bot, which begins with `xoxb-`");
        let api: Option<Url> =
            table.optional("api", "Where the methods of Slack are, for another than `https://slack.com/api`");
        let api = api.or_else(|| API.parse().ok());
        Some(Self { token: token?, api: api? })
    }
}

impl Workspace {
    /// What is sound and may still surprise.
    pub(super) fn warnings(&self, secrets: &Secrets) -> Vec<String> {
        unopened("[slack]", &self.token, secrets).into_iter().collect()
    }
}

/// `slack`.
#[derive(Clone, PartialEq, Debug)]
pub enum Slack {
    /// The identifier of a channel or of a person, for the bot.
    Conversation(String),
    /// Where the address of an incoming webhook is kept.
    Incoming(Secret),
}

impl Value for Slack {
    const SHAPE: &'static str = "the identifier of a channel, or where the address of an incoming webhook is kept";
    const EXAMPLE: &'static str = "\"C0123456789\"";

    fn read(mut slot: Slot<'_>) -> Option<Self> {
        if !slot.is_text() {
            return Secret::read(slot).map(Self::Incoming);
        }
        let text = slot.text::<Self>()?;
        if text.starts_with("https://") {
            slot.hide();
            let remedy = "write it into a file, and name it here: { file = \"/etc/garant/slack-webhook\" }";
            slot.wrong("the address of an incoming webhook is a secret, and the policy must hold none", remedy);
            return None;
        }
        let sound = (9..=32).contains(&text.len())
            && text.starts_with(['C', 'G', 'D', 'U', 'W'])
            && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
        if sound {
            return Some(Self::Conversation(text.to_owned()));
        }
        let remedy =
            "write what Slack shows under \"About\" of the channel, such as \"C0123456789\": its name may change";
        slot.wrong(format!("`{}` is not the identifier of a channel", slot.key()), remedy);
        None
    }
}

impl Kind for Slack {
    const NAME: &'static str = "slack";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        table.optional(
            Self::NAME,
            "A channel of Slack by its identifier, which needs the table `[slack]`, or `{ file = … }` with the address of an \
             incoming webhook, which has no threads",
        )
    }

    fn provider(&self) -> Option<&'static str> {
        matches!(self, Self::Conversation(_)).then_some("slack")
    }

    fn leads_to(&self) -> String {
        match self {
            Self::Conversation(id) => id.clone(),
            Self::Incoming(secret) => secret.to_string(),
        }
    }

    fn open(&self, providers: &Providers) -> Option<Arc<dyn Channel>> {
        Some(match self {
            Self::Conversation(id) => Arc::new(Conversation { id: id.clone(), workspace: providers.slack.clone()? }),
            Self::Incoming(secret) => {
                Arc::new(Incoming { kind: Self::NAME, url: HookUrl::Kept(secret.clone()), text: slack_text })
            }
        })
    }

    fn warnings(&self, secrets: &Secrets) -> Vec<String> {
        match self {
            Self::Conversation(_) => Vec::new(),
            Self::Incoming(secret) => HookUrl::Kept(secret.clone()).warnings("the webhook of Slack", secrets),
        }
    }
}

/// The text, with what Slack would take for a mention or a link made plain.
fn slack_text(message: &Message) -> String {
    let escaped = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    format!(
        "*{}*\n{}",
        escaped(&compose::subject(message)).replace('*', "∗"),
        escaped(&compose::whole(message, TEXT_BYTES_MAX))
    )
}

/// A channel of Slack, to a bot.
#[derive(Debug)]
struct Conversation {
    id: String,
    workspace: Arc<Workspace>,
}

impl Channel for Conversation {
    fn kind(&self) -> &'static str {
        Slack::NAME
    }

    fn send<'a>(&'a self, message: &'a Message, earlier: Option<&'a str>, means: Means<'a>) -> BoxFuture<'a, Sent> {
        Box::pin(async move {
            let not_now = |reason: String| Sent::Again { reason, after: None };
            let token = match means.secrets.open(&self.workspace.token).await {
                Ok(token) => token,
                Err(error) => return not_now(error.to_string()),
            };
            let earlier = earlier.filter(|earlier| is_timestamp(earlier));
            let mut body = json!({
                "channel": self.id,
                "text": slack_text(message),
                "unfurl_links": false,
                "unfurl_media": false,
            });
            if let Some(earlier) = earlier {
                body["thread_ts"] = earlier.into();
                // An end that only a thread knows of leaves the channel in alarm.
                body["reply_broadcast"] = (message.what == What::Resolved).into();
            }
            let bearer = Zeroizing::new([b"Bearer ", token.bytes()].concat());
            let api = self.workspace.api.to_string();
            let request = Request::post(format!("{}/chat.postMessage", api.trim_end_matches('/')), body.to_string())
                .header("Content-Type", "application/json; charset=utf-8")
                .header("Authorization", &*bearer);
            let host = self.workspace.api.host().to_string();
            let response = match ask(request, message, &host, Wanted::Body, means).await {
                Ok(response) if response.success() => response,
                Ok(response) => return failed(&response, &host, means.clock),
                Err(sent) => return sent,
            };
            let answer: Json = serde_json::from_slice(&response.body).unwrap_or_default();
            match (answer["ok"].as_bool(), answer["ts"].as_str()) {
                (Some(true), ts) => {
                    let first = earlier.or_else(|| ts.filter(|ts| is_timestamp(ts)));
                    Sent::Accepted { reference: first.map(str::to_owned) }
                }
                (Some(false), _) => {
                    let error = answer["error"].as_str().unwrap_or_default();
                    refused(&host, error, &response.headers, means)
                }
                (None, _) => not_now(format!("{host} answers with something else than the answer of Slack")),
            }
        })
    }
}

/// The time of a message, by which Slack knows it: `1503435956.000247`.
fn is_timestamp(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

/// What an error of `chat.postMessage` means.
fn refused(host: &str, error: &str, headers: &HeaderMap, means: Means<'_>) -> Sent {
    let word = !error.is_empty() && error.len() <= 40 && error.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    let error = if word { error } else { "unknown" };
    let reason = format!("{host} answers `{error}`");
    let remedy = match error {
        "ratelimited"
        | "rate_limited"
        | "internal_error"
        | "fatal_error"
        | "request_timeout"
        | "service_unavailable"
        | "team_added_to_org" => {
            return Sent::Again { reason, after: retry_after(headers, means.clock.now()) };
        }
        "not_in_channel" => "invite the bot into the channel",
        "channel_not_found" => "check the identifier of the channel, and invite the bot into it",
        "is_archived" => "the channel is archived: name another",
        "invalid_auth" | "not_authed" | "account_inactive" | "token_revoked" | "token_expired" | "missing_scope" => {
            "check the token of [slack], which needs `chat:write`"
        }
        _ => "Slack says under chat.postMessage what that is",
    };
    Sent::Refused { reason: format!("{reason}: {remedy}") }
}

/// An incoming webhook of Slack, or of a chat that understands the same.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) kind: &'static str,
    pub(super) url: HookUrl,
    pub(super) text: fn(&Message) -> String,
}

impl Channel for Incoming {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn send<'a>(&'a self, message: &'a Message, _earlier: Option<&'a str>, means: Means<'a>) -> BoxFuture<'a, Sent> {
        Box::pin(async move {
            let url = match self.url.open(means.secrets).await {
                Ok(url) => url,
                Err(error) => return Sent::Again { reason: error.to_string(), after: None },
            };
            let body = json!({ "text": (self.text)(message) });
            let request = Request::post(url.to_string(), body.to_string()).header("Content-Type", "application/json");
            let host = url.host().to_string();
            match ask(request, message, &host, Wanted::Status, means).await {
                Ok(response) if response.success() => Sent::Accepted { reference: None },
                Ok(response) => failed(&response, &host, means.clock),
                Err(sent) => sent,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_sound() {
        policy::SectionDoc::check::<Workspace>("slack", false)
            .unwrap_or_else(|error| panic!("{}", error.render(false)));
    }
}
