//! What comes back from a probe.

use std::borrow::Cow;
use std::num::NonZeroU32;

use engine::reason::{REASONS_MAX, Reason};
use event::{FindingId, Span, Time};
use store::Reading;

/// Longest text of an answer, in bytes; what is longer is cut.
pub const TEXT_BYTES_MAX: usize = 500;

/// A figure that a detector watches, such as the share of a disk that is used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Symptom {
    /// What is looked for.
    pub finding: FindingId,
    /// Where the figure stands, if it could be read.
    pub level: Level,
    /// How long it must last.
    pub lasting: Span,
    /// What is over the threshold, where that may be several, such as disks: when another joins while the finding is open,
    /// the team is told.
    pub about: Vec<String>,
    /// In words, for the team.
    pub text: String,
    /// The same for programs, as far as there are kinds for it.
    pub reasons: Vec<Reason>,
}

/// Where a figure stands: what a look says of a finding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// It could not be read: nobody knows whether the finding is there. The same as an answer that does not speak of it.
    Unread,
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
    /// Why it is not as it should be, for programs and other languages; none where only the words tell it.
    pub reasons: Vec<Reason>,
    /// A figure in the unit of the kind; see the kind.
    pub value: Option<i64>,
    /// Where the time went, as far as it got.
    pub phases: CompactPhases,
    /// When the first certificate expires of the chain that was shown.
    pub certificate: Option<Expiry>,
    /// For detectors: one for each of [`Probe::findings`](super::Probe::findings) that could be looked for.
    pub symptoms: Vec<Symptom>,
    /// Of a failure: that it may as well be our own way out. It counts when a canary answers, and is unknown when there is
    /// none.
    pub may_be_ours: bool,
}

impl Answer {
    /// An answer without figure. What others may have put into the text is escaped, see [`engine::printable`].
    pub fn new(reading: Reading, text: impl Into<String>) -> Self {
        let text = text.into();
        let mut text = match engine::printable::text(&text) {
            Cow::Borrowed(_) => text,
            Cow::Owned(escaped) => escaped,
        };
        if text.len() > TEXT_BYTES_MAX {
            let end = (0..=TEXT_BYTES_MAX).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
            text.truncate(end);
        }
        let (phases, symptoms, reasons) = (CompactPhases::default(), Vec::new(), Vec::new());
        Self { reading, text, reasons, value: None, phases, certificate: None, symptoms, may_be_ours: false }
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

    /// The same with its reasons.
    #[must_use]
    pub fn because(mut self, mut reasons: Vec<Reason>) -> Self {
        reasons.truncate(REASONS_MAX);
        self.reasons = reasons;
        self
    }

    /// The same with a figure.
    #[must_use]
    pub fn with_value(mut self, value: i64) -> Self {
        self.value = Some(value);
        self
    }

    /// The same with where the time went and, over TLS, the certificates that were shown.
    pub(crate) fn with_connection(mut self, phases: CompactPhases, shown: Option<&engine::net::Shown>) -> Self {
        self.phases = phases;
        self.certificate = shown.and_then(|shown| shown.first_to_end.as_ref()).map(|first| Expiry::at(first.until));
        self
    }
}

/// Where the time of an answer went, in microseconds; 0 for what it did not go through. A phase of more than an hour, which
/// no timeout allows, is shown as one: there are tens of thousands of these.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct CompactPhases {
    /// Resolving the name.
    pub dns: u32,
    /// Opening the TCP connection.
    pub connect: u32,
    /// The TLS handshake.
    pub tls: u32,
    /// From the connection being ready to the head of the answer.
    pub first_byte: u32,
    /// From the head of the answer to its end.
    pub body: u32,
}

impl CompactPhases {
    /// Of a connection that got this far; nothing was asked over it.
    pub(crate) fn of_connection(dns: Span, connect: Span, tls: Span) -> Self {
        Self { dns: compact(dns), connect: compact(connect), tls: compact(tls), ..Self::default() }
    }

    /// Of a request.
    pub(crate) fn of_request(phases: &engine::http::RequestPhases, whole: bool) -> Self {
        let engine::http::RequestPhases { dns, connect, tls, first_byte, total } = *phases;
        // What a failed request leaves over was spent in the phase that failed, whichever that was.
        let body = if whole { total - (dns + connect + tls + first_byte) } else { Span::ZERO };
        let connection = Self::of_connection(dns, connect, tls);
        Self { first_byte: compact(first_byte), body: compact(body), ..connection }
    }

    /// As the pages take them.
    pub(crate) fn spans(self) -> engine::standing::Phases {
        let Self { dns, connect, tls, first_byte, body } = self;
        let [dns, connect, tls, first_byte, body] =
            [dns, connect, tls, first_byte, body].map(|micros| Span::from_micros(i64::from(micros)));
        engine::standing::Phases { dns, connect, tls, first_byte, body }
    }
}

fn compact(span: Span) -> u32 {
    u32::try_from(span.micros().max(0)).unwrap_or(u32::MAX)
}

/// When a certificate expires: whole seconds since 1970, from 1970 to 2106. One that is said to live longer is shown as
/// living until then.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Expiry(NonZeroU32);

impl Expiry {
    pub(crate) fn at(time: Time) -> Self {
        let seconds = u32::try_from(time.micros().div_euclid(1_000_000).max(1)).unwrap_or(u32::MAX);
        Self(NonZeroU32::new(seconds).unwrap_or(NonZeroU32::MIN))
    }

    /// The instant.
    pub fn time(self) -> Time {
        Time::from_secs(i64::from(self.0.get()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server's certificate, a name server, a mount point: whoever wrote it, it does not reach a terminal raw.
    #[test]
    fn text_of_others_is_escaped() {
        let answer = Answer::down("certificate of CN=\u{1b}]0;owned\u{7}\u{202e}moc.elpmaxe\nup: all is well");
        assert_eq!(answer.text, "certificate of CN=\\u{1b}]0;owned\\u{7}\\u{202e}moc.elpmaxe\\nup: all is well");
        let long = Answer::down("\u{1b}".repeat(TEXT_BYTES_MAX));
        assert!(long.text.len() <= TEXT_BYTES_MAX);
    }

    #[test]
    fn figures_stay_within_their_four_bytes() {
        let of = |phases: [i64; 5]| {
            let [dns, connect, tls, first_byte, total] = phases.map(Span::from_micros);
            engine::http::RequestPhases { dns, connect, tls, first_byte, total }
        };
        let whole = CompactPhases::of_request(&of([1, 20, 300, 4_000, 54_321]), true);
        assert_eq!(whole, CompactPhases { dns: 1, connect: 20, tls: 300, first_byte: 4_000, body: 50_000 });
        // It failed while it waited for the answer: that is not the time of a body.
        let failed = CompactPhases::of_request(&of([1, 20, 300, 0, 9_000_000]), false);
        assert_eq!(failed, CompactPhases { dns: 1, connect: 20, tls: 300, first_byte: 0, body: 0 });
        let absurd = CompactPhases::of_request(&of([i64::MAX, -1, 0, 0, 0]), false);
        assert_eq!((absurd.dns, absurd.connect), (u32::MAX, 0));
        for (secs, shown) in [(1_796_083_200, 1_796_083_200), (-5, 1), (0, 1), (9_999_999_999, i64::from(u32::MAX))] {
            assert_eq!(Expiry::at(Time::from_secs(secs)).time(), Time::from_secs(shown), "{secs}");
        }
    }
}
