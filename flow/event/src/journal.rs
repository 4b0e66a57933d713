//! What happens to the log itself. All public, and kept as long as the log: a stranger who verifies needs each of them.

use serde::{Deserialize, Serialize};

use crate::{Body, Day, Family, Kind};

/// First entry of a log.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Opened {
    /// Origin of its checkpoints.
    pub origin: String,
    /// Verifier key (signed-note vkey) of its checkpoints.
    pub vkey: String,
}

impl Body for Opened {
    const KIND: Kind = Kind::permanent("journal.opened", Family::Security);
}

/// This log follows another that can't be continued: second entry of such a log.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Continued {
    /// Origin of the log before.
    pub old_origin: String,
    /// The highest checkpoint remembered of it, as the whole signed note.
    pub old_checkpoint: String,
    /// Entries of it that are at hand; fewer than the checkpoint says when entries were lost.
    pub old_size_at_hand: u64,
    /// Why, in the operator's words.
    pub reason: String,
}

impl Body for Continued {
    const KIND: Kind = Kind::permanent("journal.continued", Family::Security);
}

/// From here on a second key signs checkpoints as well. Whoever trusts the first key learns the second from this entry.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct KeyAnnounced {
    /// Verifier key that will remain.
    pub vkey: String,
    /// Verifier key that will go.
    pub replaces: String,
}

impl Body for KeyAnnounced {
    const KIND: Kind = Kind::permanent("journal.key_announced", Family::Security);
}

/// From here on this key signs no more.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct KeyRetired {
    /// The verifier key.
    pub vkey: String,
}

impl Body for KeyRetired {
    const KIND: Kind = Kind::permanent("journal.key_retired", Family::Security);
}

/// The key of a day is about to be destroyed because its class has been kept for as long as the policy says.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct DestructionIntended {
    /// Retention class, as in [`crate::Retention::as_str`].
    pub class: String,
    /// UTC day of `recorded_at`.
    pub day: Day,
    /// How many payloads can no longer be read once the key is gone.
    pub entries: u64,
}

impl Body for DestructionIntended {
    const KIND: Kind = Kind::permanent("journal.destruction_intended", Family::Security);
}

/// The key of a day is destroyed, in this place and so in every copy of the payloads.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Destroyed {
    /// Retention class.
    pub class: String,
    /// UTC day of `recorded_at`.
    pub day: Day,
    /// How many payloads it sealed.
    pub entries: u64,
}

impl Body for Destroyed {
    const KIND: Kind = Kind::permanent("journal.destroyed", Family::Security);
}
