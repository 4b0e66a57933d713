//! The channel `ntfy`: a message to a topic of ntfy, which rings a telephone.

use std::sync::Arc;

use engine::http::Request;
use engine::{BoxFuture, Secrets};
use policy::{Secret, Table, Url};
use serde_json::{Value as Json, json};
use zeroize::Zeroizing;

use super::hook::{HookUrl, unopened};
use super::request::{Wanted, ask, failed};
use super::{Channel, Kind, Means, Message, Providers, Sent, Severity, What, compose};

/// Longest text of a message, in bytes: ntfy makes a file of one of more than 4096.
const TEXT_BYTES_MAX: usize = 3800;
/// Longest identifier of a sequence, in bytes.
const SEQUENCE_BYTES_MAX: usize = 64;

/// `ntfy`, and `token` beside it.
#[derive(Clone, PartialEq, Debug)]
pub struct Ntfy {
    url: HookUrl,
    token: Option<Secret>,
}

impl Kind for Ntfy {
    const NAME: &'static str = "ntfy";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let url = table.optional(
            Self::NAME,
            "A topic of ntfy, such as `\"https://ntfy.shop.example/garant-lea\"`, or where its address is kept. A URL here is never \
             journaled: without a token, whoever knows a topic may read it",
        );
        let token = table.optional("token", "Of ntfy: an access token, which begins with `tk_`");
        if token.is_some() && !table.has(Self::NAME) {
            table.mistake("token", "`token` is for ntfy", "remove it, or add `ntfy`");
        }
        let url: HookUrl = url?;
        if let HookUrl::Plain(address) = &url
            && parts(address).is_none()
        {
            table.mistake(
                "ntfy",
                "the address names no topic",
                "write it like \"https://ntfy.shop.example/garant-lea\"",
            );
            return None;
        }
        Some(Self { url, token })
    }

    fn leads_to(&self) -> String {
        self.url.leads_to()
    }

    fn open(&self, _providers: &Providers) -> Option<Arc<dyn Channel>> {
        Some(Arc::new(self.clone()))
    }

    fn warnings(&self, secrets: &Secrets) -> Vec<String> {
        let token = self.token.as_ref().and_then(|token| unopened("ntfy", token, secrets));
        self.url.warnings("ntfy", secrets).into_iter().chain(token).collect()
    }
}

/// The address of the server, to which JSON is sent, and the topic.
fn parts(url: &Url) -> Option<(String, String)> {
    let path = url.path().trim_end_matches('/');
    let (folder, topic) = path.rsplit_once('/')?;
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let sound = (1..=64).contains(&topic.len()) && topic.bytes().all(letter);
    sound.then(|| (format!("{}://{}{folder}/", url.scheme().as_str(), url.authority()), topic.to_owned()))
}

/// How loud it is, from 1 to 5, and the sign before the title.
const fn loudness(message: &Message) -> (u8, &'static str) {
    match (message.what, message.severity) {
        (What::Resolved, _) => (3, "white_check_mark"),
        (What::Test | What::Hold, _) | (_, Severity::Info) => (3, "information_source"),
        (_, Severity::Warning) => (4, "warning"),
        (_, Severity::Critical) => (5, "rotating_light"),
    }
}

impl Channel for Ntfy {
    fn kind(&self) -> &'static str {
        Self::NAME
    }

    fn send<'a>(&'a self, message: &'a Message, _earlier: Option<&'a str>, means: Means<'a>) -> BoxFuture<'a, Sent> {
        Box::pin(async move {
            let not_now = |reason: String| Sent::Again { reason, after: None };
            let url = match self.url.open(means.secrets).await {
                Ok(url) => url,
                Err(error) => return not_now(error.to_string()),
            };
            let Some((server, topic)) = parts(&url) else {
                return not_now(
                    "the address that is kept for ntfy names no topic: write it like \
                                https://ntfy.shop.example/garant-lea"
                        .to_owned(),
                );
            };
            let (priority, tag) = loudness(message);
            let mut body = json!({
                "topic": topic,
                "title": compose::subject(message),
                "message": compose::whole(message, TEXT_BYTES_MAX),
                "priority": priority,
                "tags": [tag],
            });
            if let Some(link) = &message.link {
                body["click"] = compose::line(link).into();
            }
            // Later messages of the thread take the place of the first, as does another attempt.
            let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            if message.thread.len() <= SEQUENCE_BYTES_MAX && message.thread.bytes().all(letter) {
                body["sequence_id"] = message.thread.as_str().into();
            }
            let mut request = Request::post(server, body.to_string()).header("Content-Type", "application/json");
            if let Some(token) = &self.token {
                let token = match means.secrets.open(token).await {
                    Ok(token) => token,
                    Err(error) => return not_now(error.to_string()),
                };
                request = request.header("Authorization", &*Zeroizing::new([b"Bearer ", token.bytes()].concat()));
            }
            let host = url.host().to_string();
            match ask(request, message, &host, Wanted::Body, means).await {
                // A page that somebody on the way puts in, such as that of a hotel, is no answer of ntfy.
                Ok(response) if response.success() => match serde_json::from_slice::<Json>(&response.body) {
                    Ok(answer) if answer["id"].is_string() => Sent::Accepted { reference: None },
                    _ => not_now(format!("{host} answers with something else than the answer of ntfy")),
                },
                Ok(response) => failed(&response, &host, means.clock),
                Err(sent) => sent,
            }
        })
    }
}
