//! The channels on which people are told, one file each.
//!
//! **Problem.** A notification is sent while things are broken, to servers that others run: it waits for ever on one of them,
//! is lost in another's error page, or says a token in the very log that it is about. **Principle.** A channel carries one
//! composed message to one person and says which of three things has happened: accepted, not now, not this way. Time and
//! answers are bounded, redirects are not followed, addresses inside are not reached unless the policy allows it, a secret is
//! opened for one attempt, and what a server says is counted and never quoted. When to try again is for the caller to decide.
//!
//! A new channel is one file here and one line in `channels!`; the conformance suite (`conformance.rs`) then asks of it what it
//! asks of all.

use std::fmt;
use std::sync::Arc;

use engine::door::Call;
use engine::net::Net;
use engine::{BoxFuture, Clock, Random, Secrets};
use event::Span;
use policy::{Document, Section, SectionDoc, Slot, Table, Value};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

mod compose;
#[cfg(test)]
mod conformance;
mod hook;
mod request;

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

impl Severity {
    /// All of them, from the least.
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Critical];

    /// The word for it, as in the policy.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl Value for Severity {
    const SHAPE: &'static str = "\"info\", \"warning\" or \"critical\"";
    const EXAMPLE: &'static str = "\"critical\"";

    fn read(slot: Slot<'_>) -> Option<Self> {
        slot.choose(&[("info", Self::Info), ("warning", Self::Warning), ("critical", Self::Critical)])
    }
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
    /// What follows `/r/` in the address at which a gateway says what became of this message: a secret.
    pub receipt: String,
}

/// What a receipt says of a message that was accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Delivery {
    /// It reached the person's device.
    Delivered,
    /// It did not, and never will.
    Failed {
        /// Why, for the team; no secret, no address of a person.
        reason: String,
    },
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

    /// What a call at the address of a receipt says; nothing, if it is no last word, or the channel knows of no receipts.
    fn receipt(&self, _call: &Call) -> Option<Delivery> {
        None
    }
}

/// What a kind of channel is to the policy.
trait Kind: fmt::Debug + Clone + PartialEq + Sized {
    /// Its name, and its key in an element of `channel`.
    const NAME: &'static str;

    /// Takes its keys out of an element of `channel`; nothing when its own key is not there, or after a mistake.
    fn read(table: &mut Table<'_>) -> Option<Self>;

    /// The table that says through whom it sends, if it needs one.
    fn provider(&self) -> Option<&'static str> {
        None
    }

    /// Where it leads: of two channels of a person that are the same, the same.
    fn leads_to(&self) -> String;

    /// Ready to send; nothing without the provider that it needs.
    fn open(&self, providers: &Providers) -> Option<Arc<dyn Channel>>;

    /// What is sound and may still surprise.
    fn warnings(&self, _secrets: &Secrets) -> Vec<String> {
        Vec::new()
    }
}

/// Each kind is the name of its file and the type of its keys in the policy.
macro_rules! channels {
    ($($module:ident: $kind:ident;)*) => {
        $(pub mod $module;)*

        /// A channel of any kind.
        #[derive(Clone, PartialEq, Debug)]
        enum Target {
            $($kind($module::$kind),)*
        }

        /// The names of all kinds, in the order of `docs/policy.md`.
        pub const CHANNEL_KINDS: &[&str] = &[$($module::$kind::NAME,)*];

        impl Target {
            /// Reads the keys of every kind: what is not asked for would be a mistake.
            fn read(table: &mut Table<'_>) -> Option<Self> {
                let mut target = None;
                $(if let Some(read) = <$module::$kind as Kind>::read(table) { target = Some(Self::$kind(read)); })*
                target
            }

            const fn kind(&self) -> &'static str {
                match self { $(Self::$kind(_) => $module::$kind::NAME,)* }
            }

            fn provider(&self) -> Option<&'static str> {
                match self { $(Self::$kind(kind) => kind.provider(),)* }
            }

            fn leads_to(&self) -> String {
                match self { $(Self::$kind(kind) => kind.leads_to(),)* }
            }

            fn open(&self, providers: &Providers) -> Option<Arc<dyn Channel>> {
                match self { $(Self::$kind(kind) => kind.open(providers),)* }
            }

            fn warnings(&self, secrets: &Secrets) -> Vec<String> {
                match self { $(Self::$kind(kind) => kind.warnings(secrets),)* }
            }
        }
    };
}

channels! {
    mail: Mail;
    sms: Sms;
    webhook: Webhook;
    slack: Slack;
    mattermost: Mattermost;
    ntfy: Ntfy;
}

/// One way to reach a person, as the policy writes it: an element of `channel` in `[[person]]`.
#[derive(Clone, PartialEq, Debug)]
pub struct ChannelSettings {
    target: Target,
    severities: Vec<Severity>,
}

impl ChannelSettings {
    /// The kind: `mail`, `sms`.
    pub const fn kind(&self) -> &'static str {
        self.target.kind()
    }

    /// A name for it that stays when others are added, moved or removed, and tells nobody where it leads: the kind, and a
    /// digest of the address.
    pub fn key(&self) -> String {
        let digest = compose::hex(&Sha256::digest(self.target.leads_to().as_bytes()));
        format!("{}-{}", self.kind(), &digest[..16])
    }

    /// Whether it is for messages of this severity.
    pub fn takes(&self, severity: Severity) -> bool {
        self.severities.is_empty() || self.severities.contains(&severity)
    }

    /// The table that must be in the policy for it, such as `mail`.
    pub fn provider(&self) -> Option<&'static str> {
        self.target.provider()
    }

    /// Ready to send; nothing if the table that it needs is not there.
    pub fn open(&self, providers: &Providers) -> Option<Arc<dyn Channel>> {
        self.target.open(providers)
    }

    /// What is sound and may still surprise, each in a sentence without a full stop.
    pub fn warnings(&self, secrets: &Secrets) -> Vec<String> {
        self.target.warnings(secrets)
    }
}

impl Section for ChannelSettings {
    const ABOUT: &'static str = "One way to reach somebody: a table with the key of exactly one kind of channel.";
    const EXAMPLE: &'static str = "";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let target = Target::read(table);
        let severities = table.list(
            "severity",
            "The severities that this channel is for; all, if absent. Of a person's channels every one that takes a severity is used",
        );
        let named: Vec<&str> = CHANNEL_KINDS.iter().copied().filter(|kind| table.has(kind)).collect();
        match named[..] {
            [] => {
                let kinds: Vec<String> = CHANNEL_KINDS.iter().map(|kind| format!("`{kind}`")).collect();
                let remedy = format!("write one of {}, such as {{ mail = \"lea@shop.example\" }}", kinds.join(", "));
                table.mistake("", "a channel without an address", remedy);
            }
            [_] => {}
            [first, second, ..] => {
                let remedy = format!("write {{ {first} = … }}, {{ {second} = … }}");
                table.mistake(second, "one channel with two addresses", remedy);
                return None;
            }
        }
        Some(Self { target: target?, severities })
    }
}

/// Through whom garant sends: the tables `[mail]`, `[sms]` and `[slack]`.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Providers {
    mail: Option<Arc<mail::Server>>,
    sms: Option<Arc<sms::Gateway>>,
    slack: Option<Arc<slack::Workspace>>,
}

impl Providers {
    /// Takes its tables out of the policy.
    pub fn read(document: &mut Document) -> Self {
        Self {
            mail: document.table("mail").map(Arc::new),
            sms: document.table("sms").map(Arc::new),
            slack: document.table("slack").map(Arc::new),
        }
    }

    /// Its chapters of `docs/policy.md`.
    pub fn reference() -> Vec<SectionDoc> {
        vec![
            SectionDoc::of::<mail::Server>("mail", false),
            SectionDoc::of::<sms::Gateway>("sms", false),
            SectionDoc::of::<slack::Workspace>("slack", false),
        ]
    }

    /// What is sound and may still surprise, each in a sentence without a full stop.
    pub fn warnings(&self, secrets: &Secrets) -> Vec<String> {
        let mail = self.mail.iter().flat_map(|server| server.warnings(secrets));
        let sms = self.sms.iter().flat_map(|gateway| gateway.warnings(secrets));
        mail.chain(sms).chain(self.slack.iter().flat_map(|workspace| workspace.warnings(secrets))).collect()
    }
}
