//! One question to S3: signed, sent, and sent again while that can help.

use std::collections::BTreeMap;

use bytes::Bytes;
use engine::http::{HttpFailure, Request, Response};
use engine::net::DialError;
use event::Span;
use jiff::Timestamp;
use rusty_s3::Method;
use rusty_s3::signing::sign;

use super::refusal::Refusal;
use super::xml::Element;
use super::{ObjectError, S3, Why, length_of};

/// For how long a signature is good; Amazon refuses what is signed fifteen minutes ahead of its clock, too.
const SIGNED_FOR_S: u64 = 15 * 60;
/// The first pause before a question is asked again; each one after it is twice as long.
const FIRST_PAUSE: Span = Span::from_millis(250);
/// Longest pause.
const PAUSE_MAX: Span = Span::from_secs(8);
/// How long a question without a large body may take.
const ANSWER_WITHIN: Span = Span::from_secs(30);
/// The least that is expected of a connection, in bytes a second.
const BYTES_PER_SECOND_MIN: u64 = 64 * 1024;
/// Longest answer but for that with an object, in bytes.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A question.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) method: Method,
    /// The object; the bucket itself without one.
    key: Option<String>,
    /// The right that it needs, as policies of Amazon call it.
    pub(super) needs: &'static str,
    query: BTreeMap<&'static str, String>,
    headers: BTreeMap<&'static str, String>,
    body: Bytes,
    answer_bytes_max: usize,
    /// How many bytes the answer will have.
    expected: u64,
}

impl Question {
    fn new(method: Method, key: Option<String>, needs: &'static str) -> Self {
        let (query, headers, body) = (BTreeMap::new(), BTreeMap::new(), Bytes::new());
        Self { method, key, needs, query, headers, body, answer_bytes_max: ANSWER_BYTES_MAX, expected: 0 }
    }

    pub(super) fn of_object(method: Method, key: String, needs: &'static str) -> Self {
        Self::new(method, Some(key), needs)
    }

    pub(super) fn of_bucket(method: Method, needs: &'static str) -> Self {
        Self::new(method, None, needs)
    }

    pub(super) fn is_of_object(&self) -> bool {
        self.key.is_some()
    }

    /// Whether it has this header field.
    pub(super) fn has(&self, header: &str) -> bool {
        self.headers.contains_key(header)
    }

    pub(super) fn query(mut self, name: &'static str, value: &str) -> Self {
        self.query.insert(name, value.to_owned());
        self
    }

    /// A header field; its name is in lower case.
    pub(super) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(name, value.to_owned());
        self
    }

    pub(super) fn body(mut self, body: Bytes) -> Self {
        self.body = body;
        self
    }

    pub(super) fn answer_bytes_max(mut self, max: usize) -> Self {
        self.answer_bytes_max = max;
        self
    }

    pub(super) fn expecting(mut self, bytes: u64) -> Self {
        self.expected = bytes;
        self
    }
}

/// What a failed attempt says.
struct Failed {
    error: ObjectError,
    /// Whether another attempt may succeed.
    is_passing: bool,
    /// How long the provider asks us to wait.
    pause: Option<Span>,
}

impl S3 {
    /// Asks until there is an answer that is a success, or has one of the `expected` statuses.
    ///
    /// # Errors
    /// Any other answer, or none within the patience of this place. The message names the last cause.
    pub(super) async fn ask(&self, name: &str, asked: &Question, expected: &[u16]) -> Result<Response, ObjectError> {
        let began = self.clock.monotonic();
        let mut attempts = 0_u32;
        loop {
            let failed = match self.attempt(name, asked).await {
                Ok(answer)
                    if answer.success() || expected.contains(&answer.status) && !Refusal::of(&answer).is_passing() =>
                {
                    return Ok(answer);
                }
                Ok(answer) => self.failed(name, asked, &answer),
                Err(failed) => failed,
            };
            attempts += 1;
            let pause = self.pause(attempts).max(failed.pause.unwrap_or(Span::ZERO));
            let spent = self.clock.monotonic().since(began);
            if !failed.is_passing {
                return Err(failed.error);
            }
            if spent + pause > self.patience {
                let reason = match attempts {
                    1 => failed.error.reason,
                    _ => format!("{} (asked {attempts} times in {} s)", failed.error.reason, spent.secs()),
                };
                return Err(ObjectError { reason, ..failed.error });
            }
            tracing::debug!(place = self.place, name, reason = failed.error.reason, "asked again after a pause");
            tokio::time::sleep(pause.to_std()).await;
        }
    }

    /// The pause after so many failed attempts: between a half and the whole of what it may be, so that those who were
    /// refused together do not come back together.
    pub(super) fn pause(&self, attempts: u32) -> Span {
        let whole = (FIRST_PAUSE.micros() << attempts.saturating_sub(1).min(16)).min(PAUSE_MAX.micros());
        let off = i64::try_from(self.random.number() % 1000).unwrap_or(0);
        Span::from_micros(whole - whole / 2 * off / 1000)
    }

    async fn attempt(&self, name: &str, asked: &Question) -> Result<Response, Failed> {
        let final_failure =
            |why, reason: String| Failed { error: self.error(name, why, reason), is_passing: false, pause: None };
        let secret = self.secrets.open(&self.secret_key).await;
        let secret = secret.map_err(|error| final_failure(Why::Refused, error.to_string()))?;
        let secret = std::str::from_utf8(secret.bytes()).map_err(|_| {
            final_failure(Why::Refused, format!("the secret key in {} is no text; write it again", self.secret_key))
        })?;
        let now = Timestamp::from_microsecond(self.clock.now().micros());
        let now = now.map_err(|_| final_failure(Why::Impossible, "the clock of this machine is off by ages".into()))?;
        let url = asked.key.as_ref().map_or_else(|| self.bucket.base_url().clone(), |key| self.bucket.object_url(key));
        let query = asked.query.iter().map(|(name, value)| (*name, value.as_str()));
        let headers = asked.headers.iter().map(|(name, value)| (*name, value.as_str()));
        let (method, region) = (asked.method, self.bucket.region());
        let url = sign(&now, method, url, &self.access_key, secret, None, region, SIGNED_FOR_S, query, headers);
        let method = match asked.method {
            Method::Head => engine::http::Method::HEAD,
            Method::Get => engine::http::Method::GET,
            Method::Post => engine::http::Method::POST,
            Method::Put => engine::http::Method::PUT,
            Method::Delete => engine::http::Method::DELETE,
        };
        let mut request = Request::new(method, url.as_str())
            .body(asked.body.clone())
            .body_bytes_max(asked.answer_bytes_max)
            .within(self.within(asked));
        for (name, value) in &asked.headers {
            request = request.header(name, value);
        }
        // The URL of its error holds a signature: only the failure is told.
        request.send_over(&self.net, &self.connections).await.map_err(|error| match error.failure {
            failure @ HttpFailure::BodyTooLarge { .. } => final_failure(Why::Damaged, failure.to_string()),
            failure @ (HttpFailure::Request(_) | HttpFailure::Redirect(_)) => {
                final_failure(Why::Impossible, failure.to_string())
            }
            failure @ HttpFailure::Dial(DialError::Tls { .. }) => final_failure(Why::Unavailable, failure.to_string()),
            failure => {
                let error = self.error(name, Why::Unavailable, failure.to_string());
                Failed { error, is_passing: true, pause: None }
            }
        })
    }

    /// How long an attempt may take: as its bytes need over a slow line, or at the pace that is shared with others.
    fn within(&self, asked: &Question) -> Span {
        let bytes = length_of(&asked.body).max(asked.expected);
        let pace =
            self.bytes_per_second_max.map_or(BYTES_PER_SECOND_MIN, |max| (max / 8).clamp(1, BYTES_PER_SECOND_MIN));
        ANSWER_WITHIN + Span::from_secs(i64::try_from(bytes / pace).unwrap_or(i64::MAX))
    }

    fn failed(&self, name: &str, asked: &Question, answer: &Response) -> Failed {
        let refusal = Refusal::of(answer);
        let error = self.explain(name, asked, &refusal);
        Failed { error, is_passing: refusal.is_passing(), pause: refusal.retry_after }
    }

    /// The error of an answer that is none of those that were expected.
    pub(super) fn refused(&self, name: &str, asked: &Question, answer: &Response) -> ObjectError {
        self.explain(name, asked, &Refusal::of(answer))
    }

    /// The document of an answer that is a success.
    pub(super) fn parse(&self, name: &str, answer: &Response) -> Result<Element, ObjectError> {
        // Some answer 200 first and find out then.
        match Element::parse(&answer.body) {
            Some(root) if root.name != "Error" => Ok(root),
            _ => Err(self.error(name, Why::Unavailable, "the answer is no document of S3; is `endpoint` one of S3?")),
        }
    }
}
