//! The channel `webhook`: a message as JSON to an address of the team, signed if there is a secret for it.

use std::sync::Arc;

use engine::http::Request;
use engine::{BoxFuture, Secrets};
use hmac::{Hmac, KeyInit as _, Mac as _};
use policy::{Secret, Table};
use serde::Serialize;
use sha2::Sha256;

use super::hook::{HookUrl, unopened};
use super::request::{Wanted, ask, failed};
use super::{Channel, Kind, Language, Means, Message, Providers, Sent, Severity, What, compose};

/// Longest text of a message, in bytes.
const TEXT_BYTES_MAX: usize = 32 * 1024;
/// Longest `fields` of a message, in bytes; longer ones are left out.
const FIELDS_BYTES_MAX: usize = 64 * 1024;

/// `webhook`, and `secret` beside it.
#[derive(Clone, PartialEq, Debug)]
pub struct Webhook {
    url: HookUrl,
    secret: Option<Secret>,
}

impl Kind for Webhook {
    const NAME: &'static str = "webhook";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let url = table.optional(
            Self::NAME,
            "An address that gets each message as JSON in a POST, or where it is kept if the address is itself a secret. A URL \
             here is never journaled",
        );
        let secret = table.optional(
            "secret",
            "Of a webhook: the secret that signs it. `X-Garant-Signature: t=<seconds>,v1=<hex>` is then HMAC-SHA256 over \
             `<seconds>.<body>`",
        );
        if secret.is_some() && !table.has(Self::NAME) {
            table.mistake("secret", "`secret` is for a webhook", "remove it, or add `webhook`");
        }
        Some(Self { url: url?, secret })
    }

    fn leads_to(&self) -> String {
        self.url.leads_to()
    }

    fn open(&self, _providers: &Providers) -> Option<Arc<dyn Channel>> {
        Some(Arc::new(self.clone()))
    }

    fn warnings(&self, secrets: &Secrets) -> Vec<String> {
        let signed = self.secret.as_ref().and_then(|secret| unopened("the webhook", secret, secrets));
        self.url.warnings("the webhook", secrets).into_iter().chain(signed).collect()
    }
}

/// What is sent. Keys are for ever.
#[derive(Serialize)]
struct Body<'a> {
    version: u8,
    id: &'a str,
    thread: &'a str,
    what: What,
    severity: Severity,
    language: Language,
    subject: String,
    short: String,
    text: String,
    link: Option<String>,
    runbook: Option<String>,
    fields: Option<&'a serde_json::Value>,
}

impl Body<'_> {
    fn of(message: &Message) -> Vec<u8> {
        let short_enough = |fields: &&serde_json::Value| fields.to_string().len() <= FIELDS_BYTES_MAX;
        let body = Body {
            version: 1,
            id: &message.id,
            thread: &message.thread,
            what: message.what,
            severity: message.severity,
            language: message.language,
            subject: compose::subject(message),
            short: compose::cut(compose::line(&message.short), TEXT_BYTES_MAX),
            text: compose::cut(compose::lines(&message.text), TEXT_BYTES_MAX),
            link: message.link.as_deref().map(compose::line),
            runbook: message.runbook.as_deref().map(|runbook| compose::cut(compose::lines(runbook), TEXT_BYTES_MAX)),
            fields: Some(&message.fields).filter(short_enough),
        };
        serde_json::to_vec(&body).unwrap_or_default()
    }
}

/// The value of `X-Garant-Signature`.
fn signature(secret: &[u8], seconds: i64, body: &[u8]) -> String {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return String::new() };
    mac.update(format!("{seconds}.").as_bytes());
    mac.update(body);
    format!("t={seconds},v1={}", compose::hex(&mac.finalize().into_bytes()))
}

impl Channel for Webhook {
    fn kind(&self) -> &'static str {
        Self::NAME
    }

    fn send<'a>(&'a self, message: &'a Message, _earlier: Option<&'a str>, means: Means<'a>) -> BoxFuture<'a, Sent> {
        Box::pin(async move {
            let url = match self.url.open(means.secrets).await {
                Ok(url) => url,
                Err(error) => return Sent::Again { reason: error.to_string(), after: None },
            };
            let body = Body::of(message);
            let mut request = Request::post(url.to_string(), body.clone()).header("Content-Type", "application/json");
            if let Some(secret) = &self.secret {
                let secret = match means.secrets.open(secret).await {
                    Ok(secret) => secret,
                    Err(error) => return Sent::Again { reason: error.to_string(), after: None },
                };
                let seconds = means.clock.now().micros().div_euclid(1_000_000);
                request = request.header("X-Garant-Signature", signature(secret.bytes(), seconds, &body));
            }
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

    /// As Python has it: `hmac.new(b"Jefe", b"1.what do ya want", "sha256").hexdigest()`.
    #[test]
    fn the_signature_is_that_of_others() {
        let expected = "t=1,v1=c44c8a28337cb766024041cdda4308bcdb0224b5d068e845dc55a1c8b4c64fdc";
        assert_eq!(signature(b"Jefe", 1, b"what do ya want"), expected);
    }
}
