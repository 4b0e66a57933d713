//! Revisions of policies and promises: digests of their content, so that nothing is changed under an unchanged name.
//!
//! A revision is the first 16 hexadecimal digits of the SHA-256 of bytes: those of a policy or a promise without its first
//! member, which is the `revision`. It is of bytes, so that a reader who does not know all keys computes the same.

use event::policy::{Applied, Promise};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// The revision that a policy or promise claims, and the one of its bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Revision {
    /// The member `revision`.
    pub claimed: String,
    /// The digest of the rest.
    pub computed: String,
}

impl Revision {
    /// The revisions of this JSON object; `None` when `revision` is not its first member.
    pub fn of(json: &str) -> Option<Self> {
        let (claimed, rest) = json.strip_prefix(r#"{"revision":""#)?.split_once("\",")?;
        let digest = Sha256::new().chain_update("{").chain_update(rest).finalize();
        let digits =
            |byte: &u8| [byte >> 4, byte & 15].map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)]));
        Some(Self { claimed: claimed.to_owned(), computed: digest.iter().take(8).flat_map(digits).collect() })
    }

    /// Whether the claim is right.
    pub fn holds(&self) -> bool {
        self.claimed == self.computed
    }
}

/// The revision of this promise; its field `revision` is not read.
pub fn of_promise(promise: &Promise) -> String {
    of(promise)
}

/// The revision of this policy; its field `revision` is not read.
pub fn of_policy(policy: &Applied) -> String {
    of(policy)
}

fn of(content: &impl Serialize) -> String {
    // Names, texts and integers always serialise, and `revision` is the first field of both structs.
    let json = serde_json::to_string(content).unwrap_or_default();
    Revision::of(&json).map(|revision| revision.computed).unwrap_or_default()
}
