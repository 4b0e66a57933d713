//! The address of a webhook, which is itself a secret: whoever has it may speak.

use std::fmt;

use engine::{SecretError, Secrets};
use policy::{Scheme, Secret, Slot, Url, Value};

/// The address of a webhook.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum HookUrl {
    /// As the policy writes it.
    Plain(Url),
    /// Kept there.
    Kept(Secret),
}

impl fmt::Debug for HookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(url) => write!(f, "{}…", url.authority()),
            Self::Kept(secret) => fmt::Debug::fmt(secret, f),
        }
    }
}

impl Value for HookUrl {
    const SHAPE: &'static str = "an HTTP URL, or where one is kept";
    const EXAMPLE: &'static str = "\"https://hooks.shop.example/garant\"";

    /// A URL is hidden from the policy that is journaled.
    fn read(mut slot: Slot<'_>) -> Option<Self> {
        if slot.is_text() {
            slot.hide();
            return Url::read(slot).map(Self::Plain);
        }
        Secret::read(slot).map(Self::Kept)
    }
}

impl HookUrl {
    /// The address for one attempt.
    pub(super) async fn open(&self, secrets: &Secrets) -> Result<Url, SecretError> {
        match self {
            Self::Plain(url) => Ok(url.clone()),
            Self::Kept(secret) => {
                let opened = secrets.open(secret).await?;
                parsed(secret, opened.bytes())
            }
        }
    }

    /// Where it leads, for a digest.
    pub(super) fn leads_to(&self) -> String {
        match self {
            Self::Plain(url) => url.to_string(),
            Self::Kept(secret) => secret.to_string(),
        }
    }

    /// What is sound and may still surprise.
    pub(super) fn warnings(&self, what: &str, secrets: &Secrets) -> Vec<String> {
        match self {
            Self::Plain(url) => in_clear(what, url).into_iter().collect(),
            Self::Kept(secret) => {
                let Some(opened) = opened_here(secret, secrets) else { return Vec::new() };
                match opened.and_then(|opened| parsed(secret, opened.bytes())) {
                    Ok(url) => in_clear(what, &url).into_iter().collect(),
                    Err(error) => vec![format!("{what} can't be used, for {error}")],
                }
            }
        }
    }
}

fn parsed(secret: &Secret, bytes: &[u8]) -> Result<Url, SecretError> {
    let text = str::from_utf8(bytes).ok().map(str::trim);
    text.and_then(|text| text.parse().ok())
        .ok_or_else(|| SecretError::useless(secret, "it holds no URL", "write the address of the webhook into it"))
}

fn in_clear(what: &str, url: &Url) -> Option<String> {
    let clear = url.scheme() == Scheme::Http;
    clear.then(|| format!("{what} on {} is asked without TLS: whoever is on the way can read it", url.authority()))
}

/// Opens a secret where it can be opened on this machine: credentials are passed over where systemd has handed over none.
pub(super) fn opened_here(secret: &Secret, secrets: &Secrets) -> Option<Result<engine::OpenedSecret, SecretError>> {
    let here = matches!(secret, Secret::File(_)) || secrets.has_credentials();
    here.then(|| secrets.open_now(secret))
}

/// That a secret can't be opened on this machine.
pub(super) fn unopened(what: &str, secret: &Secret, secrets: &Secrets) -> Option<String> {
    let error = opened_here(secret, secrets)?.err()?;
    Some(format!("{what} can't be used, for {error}"))
}
