//! The current state of each probe, for pages and status: never for a verdict.
//!
//! The watching engine provides it and the pages show it; neither knows the other.

use std::sync::Arc;

use event::{FindingId, ObserverId, ProbeId, Span, Time};
use serde::{Deserialize, Serialize};

/// Returns the current state of every probe of an engine, at once.
pub type Probes = Arc<dyn Fn() -> Vec<ProbeStanding> + Send + Sync>;

/// The current state of one probe, as one observer sees it: for the team, never for a verdict.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProbeStanding {
    /// Which probe.
    pub probe: ProbeId,
    /// Which observer.
    pub observer: ObserverId,
    /// The state and since when; `None` until it is known.
    pub state: Option<(event::evidence::State, Time)>,
    /// Whether it may have been so before, since the first look of this run already showed it.
    pub or_before: bool,
    /// When the probe was last asked.
    pub at: Time,
    /// How long the answer took.
    pub took: Span,
    /// The figure of the probe, in the unit of its kind.
    pub value: Option<i64>,
    /// Where the time of the last answer went.
    pub phases: Phases,
    /// When the certificate that was shown expires, over TLS.
    pub certificate_expires: Option<Time>,
    /// The last answer in words; empty while all is well.
    pub text: String,
    /// The findings that are open in it.
    pub findings: Vec<OpenFinding>,
}

/// A finding that is open in a probe, as one observer sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenFinding {
    /// What was found.
    pub finding: FindingId,
    /// In words, by the last look that could tell: on what, the figure and the threshold.
    pub text: String,
    /// Since when this run has known of it.
    pub since: Time,
}

/// Where the time of an answer went; zero, and not written, for what it did not go through.
#[derive(Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, Debug)]
#[serde(default)]
pub struct Phases {
    /// Resolving the name.
    #[serde(skip_serializing_if = "is_zero")]
    pub dns: Span,
    /// Opening the TCP connection.
    #[serde(skip_serializing_if = "is_zero")]
    pub connect: Span,
    /// The TLS handshake.
    #[serde(skip_serializing_if = "is_zero")]
    pub tls: Span,
    /// From the connection being ready to the head of the answer.
    #[serde(skip_serializing_if = "is_zero")]
    pub first_byte: Span,
    /// From the head of the answer to its end.
    #[serde(skip_serializing_if = "is_zero")]
    pub body: Span,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(span: &Span) -> bool {
    *span == Span::ZERO
}

impl Phases {
    /// The phases that took any time, each with its word.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, Span)> {
        let Self { dns, connect, tls, first_byte, body } = *self;
        [("dns", dns), ("connect", connect), ("tls", tls), ("first_byte", first_byte), ("body", body)]
            .into_iter()
            .filter(|(_, span)| *span > Span::ZERO)
    }
}
