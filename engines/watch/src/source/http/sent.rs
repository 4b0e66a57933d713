//! The header fields that a probe sends: each a plain text, or a secret that is opened at each question.

use engine::http::{HeaderName, Request};
use engine::{SecretError, Secrets};
use policy::{Secret, Slot, Table, Value};

use crate::source::sent::Sent;

/// Longest value of a field, in bytes: servers refuse longer ones.
const VALUE_BYTES_MAX: usize = 8 * 1024;
/// Most fields of a probe.
const FIELDS_MAX: usize = 32;

/// Fields that are about the connection or the length of what is sent, or that name the server: the client sets them (RFC
/// 9110, section 7.6.1, and RFC 9112, section 6).
const OF_THE_CLIENT: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "trailers",
    "transfer-encoding",
    "upgrade",
];

/// Words in the name of a field that say that its value is a secret.
const SECRET_WORDS: [&str; 13] = [
    "apikey",
    "auth",
    "authentication",
    "authorization",
    "cookie",
    "credential",
    "credentials",
    "jwt",
    "key",
    "password",
    "secret",
    "session",
    "token",
];
/// Names that have such a word, and are none.
const NO_SECRETS: [&str; 4] = ["cache-key", "idempotency-key", "surrogate-key", "x-cache-key"];

/// `headers` of a probe.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Fields(Vec<(HeaderName, Sent)>);

impl Value for Fields {
    const SHAPE: &'static str = "a table of header fields, each a text or where a secret is kept";
    const EXAMPLE: &'static str = "{ Accept = \"text/html\", X-Api-Key = { file = \"/etc/garant/key\" } }";

    fn read(slot: Slot<'_>) -> Option<Self> {
        let named = slot.named::<Self, Named>()?;
        Some(Self(named.into_iter().map(|(_, Named(name, field))| (name, field)).collect()))
    }
}

/// A field that knows its name.
struct Named(HeaderName, Sent);

impl Value for Named {
    const SHAPE: &'static str = "a text, or where a secret is kept";
    const EXAMPLE: &'static str = "\"text/html\"";

    fn read(mut slot: Slot<'_>) -> Option<Self> {
        let key = slot.key().to_owned();
        if slot.is_text() {
            slot.hide();
        }
        let Ok(name) = key.parse::<HeaderName>() else {
            let reason = format!("`{}` is not the name of a header field", key.escape_debug());
            slot.wrong(reason, "use letters, digits and `-`, such as X-Request-Source");
            return None;
        };
        if OF_THE_CLIENT.contains(&name.as_str()) {
            let remedy = "remove it: garant sets it for the request that it sends";
            slot.wrong(format!("`{key}` is not for a policy to set"), remedy);
            return None;
        }
        if !slot.is_text() {
            return Secret::read(slot).map(|secret| Self(name, Sent::Kept(secret)));
        }
        if is_secret(name.as_str()) {
            let remedy = format!(
                "write the value into a file that only garant's user may read, and name it here: \
                 {key} = {{ file = \"/etc/garant/{}\" }}, or {{ credential = \"…\" }} for a credential of systemd",
                name.as_str()
            );
            slot.wrong(format!("`{key}` holds a secret, and the policy must hold none"), remedy);
            return None;
        }
        let text = slot.text::<Self>()?;
        match unsendable(text.as_bytes()) {
            None => Some(Self(name, Sent::Plain(text.to_owned()))),
            Some(reason) => {
                slot.wrong(format!("the value of `{key}` {reason}"), "write one line of ASCII, 8 KiB at most");
                None
            }
        }
    }
}

/// Whether the value of a field of this name, in lower case, is a secret.
fn is_secret(name: &str) -> bool {
    !NO_SECRETS.contains(&name) && name.split(['-', '_']).any(|word| SECRET_WORDS.contains(&word))
}

/// Why HTTP can't carry this value: visible ASCII with single spaces and tabs inside (RFC 9110, section 5.5).
fn unsendable(value: &[u8]) -> Option<&'static str> {
    let blank = |byte: Option<&u8>| byte.is_some_and(|byte| matches!(byte, b' ' | b'\t'));
    if value.is_empty() {
        Some("is empty")
    } else if value.len() > VALUE_BYTES_MAX {
        Some("is longer than 8 KiB")
    } else if !value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~')) {
        Some("holds a line break or another character that a header field can't")
    } else if blank(value.first()) || blank(value.last()) {
        Some("starts or ends with a blank")
    } else {
        None
    }
}

impl Fields {
    /// Reports what is wrong with the table as a whole.
    pub(super) fn check(&self, table: &mut Table<'_>) {
        let names: Vec<_> = self.0.iter().map(|(name, _)| name).collect();
        if let Some((_, twice)) = names.iter().enumerate().find(|(index, name)| names[..*index].contains(name)) {
            let reason = format!("`{twice}` is there twice: upper and lower case make no difference");
            table.mistake("headers", reason, "remove one of the two");
        }
        if names.len() > FIELDS_MAX {
            table.mistake("headers", format!("more than {FIELDS_MAX} header fields"), "send fewer");
        }
    }

    /// The request with these fields; what is kept elsewhere is opened now.
    pub(super) async fn added_to(&self, mut request: Request, secrets: &Secrets) -> Result<Request, SecretError> {
        for (name, field) in &self.0 {
            request = match field {
                Sent::Plain(value) => request.header(name.as_str(), value.as_bytes()),
                Sent::Kept(secret) => {
                    let value = secrets.open(secret).await?;
                    if let Some(error) = useless(name, secret, value.bytes()) {
                        return Err(error);
                    }
                    request.header(name.as_str(), value.bytes())
                }
            };
        }
        Ok(request)
    }

    /// What can't be opened on this machine. Credentials are passed over where systemd has handed over none, such as in a
    /// shell.
    pub(super) fn warnings(&self, secrets: &Secrets) -> Vec<String> {
        let kept = self.0.iter().filter_map(|(name, field)| match field {
            Sent::Kept(secret) => Some((name, secret)),
            Sent::Plain(_) => None,
        });
        let here = kept.filter(|(_, secret)| matches!(secret, Secret::File(_)) || secrets.has_credentials());
        let failed = |(name, secret): (&HeaderName, &Secret)| match secrets.open_now(secret) {
            Ok(value) => useless(name, secret, value.bytes()),
            Err(error) => Some(error),
        };
        here.filter_map(failed).map(|error| format!("it can't ask, for {error}")).collect()
    }
}

fn useless(name: &HeaderName, secret: &Secret, value: &[u8]) -> Option<SecretError> {
    let reason = unsendable(value)?;
    let remedy = format!("keep one line of ASCII in it, which is sent as `{name}`");
    Some(SecretError::useless(secret, format!("it {reason}"), remedy))
}
