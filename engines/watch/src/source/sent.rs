//! What a probe sends beside its question: a plain text, or a secret that is opened at each question.

use std::fmt;

use engine::{SecretError, Secrets};
use policy::{Secret, Slot, Value};
use zeroize::Zeroizing;

/// A text to send.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Sent {
    /// As the policy writes it.
    Plain(String),
    /// The secret that is kept there.
    Kept(Secret),
}

impl fmt::Debug for Sent {
    /// A plain text may be a token under an innocent name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(_) => f.write_str("…"),
            Self::Kept(secret) => fmt::Debug::fmt(secret, f),
        }
    }
}

impl Value for Sent {
    const SHAPE: &'static str = "a text, or where a secret is kept";
    const EXAMPLE: &'static str = "\"PING\\n\"";

    /// A text is hidden from the policy that is journaled.
    fn read(mut slot: Slot<'_>) -> Option<Self> {
        if slot.is_text() {
            slot.hide();
            return slot.text::<Self>().map(|text| Self::Plain(text.to_owned()));
        }
        Secret::read(slot).map(Self::Kept)
    }
}

impl Sent {
    /// What is to be sent now.
    pub(super) async fn open(&self, secrets: &Secrets) -> Result<Zeroizing<Vec<u8>>, SecretError> {
        match self {
            Self::Plain(text) => Ok(Zeroizing::new(text.as_bytes().to_vec())),
            Self::Kept(secret) => Ok(Zeroizing::new(secrets.open(secret).await?.bytes().to_vec())),
        }
    }

    /// Why it can't be opened on this machine. A credential is passed over where systemd has handed over none, such as in a
    /// shell.
    pub(super) fn warning(&self, secrets: &Secrets) -> Option<String> {
        let Self::Kept(secret) = self else { return None };
        if matches!(secret, Secret::Credential(_)) && !secrets.has_credentials() {
            return None;
        }
        secrets.open_now(secret).err().map(|error| format!("it can't ask, for {error}"))
    }
}
