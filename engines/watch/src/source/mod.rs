//! What can be asked: one file per kind of probe.
//!
//! A new kind is one file here and one line in `kinds!`.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use engine::net::Net;
use event::{Clock, FindingId, ObserverId, Span, Time};
use policy::{Document, SectionDoc};

pub use store::Reading;

use crate::config::Declared;
use crate::figures::{Expiry, Phases};

pub mod canary;
mod reason;
#[cfg(test)]
pub(crate) mod testing;

/// A kind of probe: where the policy declares it, and who reads it there.
pub struct Kind {
    /// `http`, as in `[[probe.http]]` and in the public policy.
    pub name: &'static str,
    pub(crate) read: fn(&mut Document, &Arc<[ObserverId]>) -> Vec<Declared>,
    pub(crate) reference: fn() -> SectionDoc,
}

/// Each kind is the name of its file and of its table in the policy, and the type of its settings there.
macro_rules! kinds {
    ($($name:ident: $settings:ident;)*) => {
        $(pub mod $name;)*

        /// All kinds, in the order of `docs/policy.md`.
        pub const KINDS: &[Kind] = &[$(
            Kind {
                name: stringify!($name),
                read: |document, observers| {
                    let settings = document.tables::<$name::$settings>(concat!("probe.", stringify!($name)));
                    let declared = |settings| Declared::new(stringify!($name), settings, observers);
                    settings.into_iter().map(declared).collect()
                },
                reference: || SectionDoc::of::<$name::$settings>(concat!("probe.", stringify!($name)), true),
            },
        )*];
    };
}

kinds! {
    http: Http;
    tcp: Tcp;
    tls: Tls;
    dns: Dns;
    heartbeat: Expected;
    host: Host;
}

/// Longest text of an answer, in bytes; what is longer is cut.
pub const TEXT_BYTES_MAX: usize = 500;

/// What a probe gets to ask with.
pub struct Asking<'a> {
    /// The way out: names, connections, certificates.
    pub net: &'a Net,
    /// Both clocks.
    pub clock: &'a dyn Clock,
    /// How long the answer may take. The caller stops waiting then, whatever the probe does; a probe may give it to what
    /// it calls, to fail with a better reason.
    pub timeout: Span,
}

/// A figure that a detector watches, such as the share of a disk that is used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Symptom {
    /// What is looked for.
    pub finding: FindingId,
    /// Whether it is over its threshold, under the lower one at which it ends, or between both.
    pub level: Level,
    /// How long it must last.
    pub lasting: Span,
    /// What is over the threshold, where that may be several, such as disks: when another joins while the finding is open,
    /// the team is told.
    pub about: Vec<String>,
    /// In words, for the team.
    pub text: String,
}

/// Where a figure stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// At or over the threshold.
    High,
    /// Under the threshold, but not by enough to call it over.
    Between,
    /// Well under the threshold.
    Low,
}

/// What came back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// What it shows.
    pub reading: Reading,
    /// In words, for the team: status, error, figure and threshold. No secret and nothing that the other side sent but a
    /// status or a banner's absence: bodies may hold personal data.
    pub text: String,
    /// A figure in the unit of the kind; see the kind.
    pub value: Option<i64>,
    /// Where the time went, as far as it got.
    pub phases: Phases,
    /// When the certificate that was shown expires.
    pub certificate: Option<Expiry>,
    /// For detectors.
    pub symptoms: Vec<Symptom>,
    /// Of a failure: that it may as well be our own way out. It counts when a canary answers, and is unknown when there is
    /// none.
    pub may_be_ours: bool,
}

impl Answer {
    /// An answer without figure.
    pub fn new(reading: Reading, text: impl Into<String>) -> Self {
        let mut text = text.into();
        if text.len() > TEXT_BYTES_MAX {
            let end = (0..=TEXT_BYTES_MAX).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
            text.truncate(end);
        }
        let (phases, symptoms) = (Phases::default(), Vec::new());
        Self { reading, text, value: None, phases, certificate: None, symptoms, may_be_ours: false }
    }

    /// All is well.
    pub fn up(text: impl Into<String>) -> Self {
        Self::new(Reading::Up, text)
    }

    /// It answers, but not as fast as it should.
    pub fn degraded(text: impl Into<String>) -> Self {
        Self::new(Reading::Degraded, text)
    }

    /// It does not answer, or not as it should.
    pub fn down(text: impl Into<String>) -> Self {
        Self::new(Reading::Down, text)
    }

    /// Nothing can be said, through no fault of what was asked.
    pub fn unknown(text: impl Into<String>) -> Self {
        Self::new(Reading::Unknown, text)
    }

    /// The same with a figure.
    #[must_use]
    pub fn with_value(mut self, value: i64) -> Self {
        self.value = Some(value);
        self
    }

    /// The same with where the time went and, over TLS, whose certificate was shown.
    pub(crate) fn with_connection(mut self, phases: Phases, peer: Option<&engine::net::Peer>) -> Self {
        self.phases = phases;
        self.certificate =
            peer.and_then(|peer| peer.certificate.as_ref()).map(|certificate| Expiry::at(certificate.not_after));
        self
    }
}

/// A kind of probe, ready to ask.
///
/// # Contract
///
/// * [`ask`](Self::ask) asks once and says what it saw. It does not retry: confirmation is the watch's matter, and a
///   hidden retry would turn an outage into slowness.
/// * It may be dropped at any await: the watch stops waiting at the timeout. It leaves nothing running behind.
/// * It never panics on what the other side sends, and bounds what it reads.
/// * [`Reading::Down`] means that the *other side* failed. What fails here (no file descriptor left, `/proc` can't be
///   read) is [`Reading::Unknown`]: our troubles are not its outage.
/// * It is asked by one caller at a time per observer, and by several observers at once.
#[async_trait]
pub trait Probe: Send + Sync {
    /// Asks once.
    async fn ask(&self, asking: &Asking<'_>) -> Answer;

    /// Whom it asks, `host:port`: the number of questions under way to one target is bounded. `None` when it asks nobody.
    fn target(&self) -> Option<&str> {
        None
    }

    /// Whether its answers come over the network, so that a dead way out looks like a failure.
    fn reaches_out(&self) -> bool {
        true
    }

    /// Whether a first failure needs confirmation; not so for what is merely read here.
    fn confirm(&self) -> bool {
        true
    }

    /// What detectors look for in its answers.
    fn findings(&self) -> Vec<FindingId> {
        Vec::new()
    }

    /// Where signs of life arrive, for a kind that waits for them.
    fn heartbeat(&self) -> Option<&heartbeat::Heartbeat> {
        None
    }
}

/// A probe and its settings, as the policy declares it.
pub trait Settings: policy::Section + Debug {
    /// The keys that all kinds share.
    fn common(&self) -> &crate::config::Common;
    /// Ready to ask.
    fn into_probe(self) -> Arc<dyn Probe>;
    /// How often the probe is asked; for a kind that waits, more often than a sign of life is due.
    fn asked_every(&self) -> Span {
        self.common().every
    }
}

/// A moment of both clocks, read together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Moment {
    /// For labels.
    pub(crate) wall: Time,
    /// For lengths.
    pub(crate) monotonic: event::Monotonic,
}

impl Moment {
    /// Reads both clocks.
    pub(crate) fn of(clock: &dyn Clock) -> Self {
        Self { wall: clock.now(), monotonic: clock.monotonic() }
    }
}
