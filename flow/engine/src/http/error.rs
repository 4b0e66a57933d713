//! What can go wrong with a request, by phase.

use std::fmt;

use event::Span;

use super::{RedirectFault, RequestPhases};
use crate::net::{DialError, Phase, Shown};

/// A request without a whole answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpError {
    /// What was asked for, after redirects.
    pub url: String,
    /// What went wrong.
    pub failure: HttpFailure,
    /// How long the phases before took.
    pub phases: RequestPhases,
    /// The certificates of a server with which TLS was agreed upon before; what a refused handshake showed is in `failure`.
    pub shown: Option<Box<Shown>>,
}

/// The reason why a request has no whole answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HttpFailure {
    /// The request itself makes no sense; nothing was sent.
    Request(String),
    /// There was no connection.
    Dial(DialError),
    /// The answer is not HTTP, or only a part of one.
    Protocol {
        /// While doing what.
        phase: Phase,
        /// How it shows.
        reason: String,
    },
    /// The deadline passed after the connection was there.
    Timeout {
        /// While doing what.
        phase: Phase,
        /// How long all of it might have taken.
        within: Span,
    },
    /// The answer is longer than what the request allows.
    BodyTooLarge {
        /// The most it might be, in bytes.
        limit_bytes: usize,
    },
    /// It redirects to where nobody should follow.
    Redirect(RedirectFault),
}

impl HttpError {
    /// The phase that failed; `None` when it is the request that is wrong, or where it redirects to.
    pub fn phase(&self) -> Option<Phase> {
        match &self.failure {
            HttpFailure::Request(_) | HttpFailure::Redirect(_) => None,
            HttpFailure::Dial(error) => Some(error.phase()),
            HttpFailure::Protocol { phase, .. } | HttpFailure::Timeout { phase, .. } => Some(*phase),
            HttpFailure::BodyTooLarge { .. } => Some(Phase::Body),
        }
    }

    /// Whether it was the deadline.
    pub fn timed_out(&self) -> bool {
        matches!(self.failure, HttpFailure::Timeout { .. } | HttpFailure::Dial(DialError::Timeout { .. }))
    }
}

impl fmt::Display for HttpFailure {
    /// Without the URL, which may hold a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(reason) => write!(f, "the request can't be sent: {reason}"),
            Self::Dial(error) => write!(f, "{error}"),
            Self::Protocol { phase, reason } => write!(f, "no valid HTTP answer, while {phase}: {reason}"),
            Self::Timeout { phase, within } => write!(f, "not done after {within}, while {phase}"),
            Self::BodyTooLarge { limit_bytes } => write!(f, "the answer is longer than {limit_bytes} bytes"),
            Self::Redirect(fault) => write!(f, "{fault}"),
        }
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.url, self.failure)
    }
}

impl std::error::Error for HttpError {}
