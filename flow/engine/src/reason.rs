//! Why something is not as it should be: a small vocabulary that programs understand, beside the words of a probe for people.
//!
//! **Problem.** A probe says what it saw in English sentences. Whoever tells people in another language, or counts reasons, must not
//! take sentences apart. **Principle.** Beside its words an answer has its reasons, each a kind with its parameters; what has none is
//! told as it was said, [`Reason::Said`]. A kind of a later release reads as [`Reason::Unknown`].

use event::{Span, Time};
use serde::{Deserialize, Serialize};

use crate::http::HttpFailure;
use crate::net::{CertificateFault, DialError, Link, Phase, ResolveError, ResolveFailure, TlsFailure};
use crate::printable;

/// Most reasons of an answer; what is beyond is in its words.
pub const REASONS_MAX: usize = 8;
/// Longest text in a reason, in bytes; what is longer is cut.
const TEXT_BYTES_MAX: usize = 200;

/// One reason.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the parameters are called what they are")]
pub enum Reason {
    /// Nobody listens there.
    ConnectionRefused { address: String },
    /// There is no connection; the system said why.
    ConnectionFailed { address: String, said: String },
    /// There is no way to that network.
    NoWay { address: String },
    /// It took too long.
    Timeout { within: Span, phase: TimeoutPhase },
    /// The name does not exist.
    NoSuchName { name: String },
    /// The name has no record of that type, or no address of that family.
    NoRecords { name: String },
    /// The name server answers that it fails, or that it will not.
    NameServerFails { name: String, code: String },
    /// No name server answered in time.
    NameServersSilent { name: String },
    /// No record has these values.
    RecordMissing { records: String, values: Vec<String> },
    /// It does not speak TLS, or not one that both understand.
    TlsFailed { address: String, said: String },
    /// An older version of TLS was agreed upon than is required.
    TlsTooOld { version: String, required: String },
    /// A certificate has expired; of the chain when `of` names it, else the server's own.
    CertificateExpired { of: Option<String>, at: Time },
    /// A certificate expires soon.
    CertificateExpires { of: Option<String>, days: i64, at: Time },
    /// A certificate is not valid yet.
    CertificateNotYetValid { of: Option<String>, from: Time },
    /// The certificate is for other names.
    CertificateName { expected: String, names: Vec<String> },
    /// The certificate is its own issuer.
    CertificateSelfSigned,
    /// The issuer of the certificate, or the root of its chain, is not trusted.
    CertificateIssuer { issuer: String },
    /// The status of an answer over HTTP is another than expected.
    Status { status: u16 },
    /// The body lacks a text.
    BodyLacks { text: String },
    /// The body holds a text that it must not.
    BodyHolds { text: String },
    /// The answer lacks a header, or the value that it is to have.
    HeaderLacks { name: String, value: Option<String> },
    /// It redirects too often, or to where nobody should follow.
    Redirect { said: String },
    /// What answers is no HTTP, or broke off.
    NoAnswer { said: String },
    /// It answers, and not as fast as it should.
    Slow { slower_than: Span },
    /// It does not say the expected text.
    GreetingMissing,
    /// The job said that it failed.
    JobFailed,
    /// The job started and did not finish in time.
    JobUnfinished { within: Span },
    /// No sign of life of a job; `since` is absent when there never was one.
    HeartbeatMissing { since: Option<Time>, every: Span, grace: Span },
    /// So much of something is used, in hundredths of a percent.
    Used { what: Resource, of: String, share: i64, limit: String },
    /// Disks that can only be read.
    DisksReadOnly { disks: Vec<String> },
    /// An array that is not complete, or not there.
    Raid { said: String },
    /// In the words of the probe.
    Said { text: String },
    /// One of a later release.
    #[serde(other)]
    Unknown,
}

/// During what the time was over.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum TimeoutPhase {
    /// Resolving the name.
    Name,
    /// Opening the connection.
    Connection,
    /// Agreeing upon TLS.
    Tls,
    /// Waiting for the answer.
    Answer,
    /// Another one.
    #[serde(other)]
    Other,
}

impl From<Phase> for TimeoutPhase {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Dns => Self::Name,
            Phase::Connect => Self::Connection,
            Phase::Tls => Self::Tls,
            _ => Self::Answer,
        }
    }
}

/// What is used up.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// The room on a disk.
    Disk,
    /// The inodes of a disk.
    Inodes,
    /// The processors.
    Processors,
    /// The memory.
    Memory,
    /// Another one.
    #[serde(other)]
    Other,
}

/// A text of others: its characters are simply shown, and it is not long.
fn plain(text: &(impl ToString + ?Sized)) -> String {
    let text = text.to_string();
    let mut text = printable::text(&text).into_owned();
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    text
}

fn plain_all<T: ToString>(texts: impl IntoIterator<Item = T>) -> Vec<String> {
    texts.into_iter().take(REASONS_MAX).map(|text| plain(&text)).collect()
}

impl Reason {
    /// In the words of the probe, which no kind has.
    pub fn said(text: &(impl ToString + ?Sized)) -> Self {
        Self::Said { text: plain(text) }
    }

    /// An array that is not complete.
    pub fn raid(said: &str) -> Self {
        Self::Raid { said: plain(said) }
    }

    /// No record of this type has these values.
    pub fn record_missing(records: &impl ToString, values: &[String]) -> Self {
        Self::RecordMissing { records: plain(records), values: plain_all(values) }
    }

    /// The body lacks this text.
    pub fn body_lacks(text: &str) -> Self {
        Self::BodyLacks { text: plain(text) }
    }

    /// The body holds this text.
    pub fn body_holds(text: &str) -> Self {
        Self::BodyHolds { text: plain(text) }
    }

    /// The answer lacks a header, or its value.
    pub fn header_lacks(name: &impl ToString, value: Option<&str>) -> Self {
        Self::HeaderLacks { name: plain(name), value: value.map(plain) }
    }

    /// So much of something is used, in hundredths of a percent.
    pub fn used(what: Resource, of: &str, share: i64, limit: &(impl ToString + ?Sized)) -> Self {
        Self::Used { what, of: plain(of), share, limit: plain(limit) }
    }

    /// Disks that can only be read.
    pub fn disks_read_only(disks: &[String]) -> Self {
        Self::DisksReadOnly { disks: plain_all(disks) }
    }

    /// A certificate expires soon.
    pub fn expires(link: &Link, days: i64, at: Time) -> Self {
        Self::CertificateExpires { of: subject(link), days, at }
    }

    /// What is wrong with a certificate.
    pub fn of_certificate(fault: &CertificateFault) -> Self {
        match fault {
            CertificateFault::Expired { link, since } => Self::CertificateExpired { of: subject(link), at: *since },
            CertificateFault::NotYetValid { link, from } => {
                Self::CertificateNotYetValid { of: subject(link), from: *from }
            }
            CertificateFault::WrongName { expected, presented } => {
                Self::CertificateName { expected: plain(expected), names: plain_all(presented) }
            }
            CertificateFault::SelfSigned => Self::CertificateSelfSigned,
            CertificateFault::UnknownRoot { root: issuer } | CertificateFault::UnknownIssuer { issuer } => {
                Self::CertificateIssuer { issuer: plain(issuer) }
            }
            CertificateFault::BadSignature { .. } | CertificateFault::OtherKey { .. } | CertificateFault::Other(_) => {
                Self::said(&format!("certificate: {fault}"))
            }
        }
    }

    /// Why a name has no answer.
    pub fn of_name(error: &ResolveError) -> Self {
        let name = plain(&error.name);
        match &error.failure {
            ResolveFailure::NoSuchName => Self::NoSuchName { name },
            ResolveFailure::NoRecords => Self::NoRecords { name },
            ResolveFailure::Refused(code) => Self::NameServerFails { name, code: plain(code) },
            ResolveFailure::Timeout | ResolveFailure::Unreachable(_) => Self::NameServersSilent { name },
            _ => Self::said(error),
        }
    }

    /// Why there is no connection.
    pub fn of_connection(error: &DialError) -> Vec<Self> {
        vec![match error {
            DialError::Dns(error) => Self::of_name(error),
            DialError::OtherFamily { host, .. } => Self::NoRecords { name: plain(host) },
            DialError::Refused { address } => Self::ConnectionRefused { address: address.to_string() },
            DialError::Connect { address, reason } => {
                Self::ConnectionFailed { address: address.to_string(), said: plain(reason) }
            }
            DialError::NoWay { address, .. } => Self::NoWay { address: address.to_string() },
            DialError::Tls { failure: TlsFailure::Certificate(faults), .. } => {
                return faults.iter().take(REASONS_MAX).map(Self::of_certificate).collect();
            }
            DialError::Tls { address, failure, .. } => {
                Self::TlsFailed { address: address.to_string(), said: plain(failure) }
            }
            DialError::Timeout { phase, within } => Self::Timeout { within: *within, phase: (*phase).into() },
            DialError::NotAsked { .. } | DialError::Forbidden { .. } | DialError::Inside { .. } => Self::said(error),
        }]
    }

    /// Why there is no whole answer over HTTP.
    pub fn of_request(failure: &HttpFailure) -> Vec<Self> {
        vec![match failure {
            HttpFailure::Dial(error) => return Self::of_connection(error),
            HttpFailure::Protocol { reason, .. } => Self::NoAnswer { said: plain(reason) },
            HttpFailure::Timeout { phase, within } => Self::Timeout { within: *within, phase: (*phase).into() },
            HttpFailure::Redirect(fault) => Self::Redirect { said: plain(fault) },
            HttpFailure::Request(_) | HttpFailure::BodyTooLarge { .. } => Self::said(failure),
        }]
    }
}

/// The subject of a certificate of a chain that is not the server's own.
fn subject(link: &Link) -> Option<String> {
    match link {
        Link::Own => None,
        Link::Intermediate(subject) | Link::Root(subject) => Some(plain(subject)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is journaled today is read by every later release, and what a later one journals says nothing to this one.
    #[test]
    fn a_reason_is_read_as_it_was_written() {
        for (reason, json) in [
            (Reason::Status { status: 503 }, r#"{"kind":"status","status":503}"#),
            (Reason::CertificateSelfSigned, r#"{"kind":"certificate_self_signed"}"#),
            (
                Reason::Timeout { within: Span::from_secs(1), phase: Phase::Tls.into() },
                r#"{"kind":"timeout","within":1000000,"phase":"tls"}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&reason).expect("JSON"), json);
            assert_eq!(serde_json::from_str::<Reason>(json).expect("read"), reason);
        }
        let later: Reason = serde_json::from_str(r#"{"kind":"volcano","height":3}"#).expect("read");
        assert_eq!(later, Reason::Unknown);
    }

    #[test]
    fn texts_of_others_are_shown_simply_and_are_not_long() {
        assert_eq!(Reason::body_lacks("a\u{1b}[31m\n"), Reason::BodyLacks { text: "a\\u{1b}[31m\\n".to_owned() });
        let Reason::Said { text } = Reason::said(&"é".repeat(1000)) else { panic!("said") };
        assert_eq!(text.len(), TEXT_BYTES_MAX);
    }
}
