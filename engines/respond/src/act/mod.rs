//! The channels on which people are told, one file each.

use std::fmt;

use engine::net::Net;
use engine::{BoxFuture, Clock, Random, Secrets};
use event::Span;
use serde::{Deserialize, Serialize};

/// How much an alert matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// To be known.
    Info,
    /// To be looked at in working hours.
    Warning,
    /// To be looked at now, whatever the hour.
    Critical,
}

/// The language in which a person is told.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Language {
    /// French.
    Fr,
    /// English.
    En,
}

/// The occasion of a message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Something fires, and this person did not know.
    Firing,
    /// The scope, the severity or the cause of what fires has changed.
    Update,
    /// It fires still.
    Reminder,
    /// It is over.
    Resolved,
    /// Several alerts in one message.
    Digest,
    /// A test: nothing is wrong.
    Test,
    /// What garant sends to customers is held, or held no longer.
    Hold,
}

/// One message to one person, composed: each channel takes the fields that fit it.
#[derive(Clone, PartialEq, Debug)]
pub struct Message {
    /// Identifier of the message, the same at each attempt to send it: ASCII letters, digits and `-`.
    pub id: String,
    /// Identifier of the thread: messages about one alert share it. ASCII letters, digits and `-`.
    pub thread: String,
    /// The occasion.
    pub what: What,
    /// The severity.
    pub severity: Severity,
    /// The language of all texts.
    pub language: Language,
    /// One line, of 120 characters at most.
    pub subject: String,
    /// A sentence for channels that have little room, without the link.
    pub short: String,
    /// The whole text, in plain lines, without the link.
    pub text: String,
    /// A one-time address at which the receiver can acknowledge.
    pub link: Option<String>,
    /// What to do: a text or a URL, from the policy.
    pub runbook: Option<String>,
    /// The same for programs.
    pub fields: serde_json::Value,
}

/// The outcome of an attempt to send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Sent {
    /// The other side has taken the message over.
    Accepted {
        /// What later messages of the thread refer to, or the provider's own identifier.
        reference: Option<String>,
    },
    /// Not now: another attempt may succeed.
    Again {
        /// Why, for the team; no secret, no address of a person.
        reason: String,
        /// The time that the other side asked to be left alone.
        after: Option<Span>,
    },
    /// Not this way: another attempt would fail as well.
    Refused {
        /// Why, for the team, and what to do; no secret, no address of a person.
        reason: String,
    },
}

/// The outside world of a channel.
#[derive(Clone, Copy)]
pub struct Means<'a> {
    /// Names, connections, TLS.
    pub net: &'a Net,
    /// Opens the secrets that the policy keeps elsewhere.
    pub secrets: &'a Secrets,
    /// Clocks.
    pub clock: &'a dyn Clock,
    /// Random bytes.
    pub random: &'a dyn Random,
}

/// A way to reach one person, with all that it needs to know.
///
/// # Contract
///
/// * `send` ends within 30 seconds, whatever the other side does, and may be dropped at any `await`.
/// * It is called again with the same message after a crash, or after [`Sent::Again`]: what can be told apart by the message's
///   id arrives once.
/// * No text that it returns holds a secret or an address of a person.
pub trait Channel: fmt::Debug + Send + Sync {
    /// The kind, as in the policy: `mail`, `sms`.
    fn kind(&self) -> &'static str;

    /// Sends the message. `earlier` is the reference that the first message of the thread got.
    fn send<'a>(&'a self, message: &'a Message, earlier: Option<&'a str>, means: Means<'a>) -> BoxFuture<'a, Sent>;
}
