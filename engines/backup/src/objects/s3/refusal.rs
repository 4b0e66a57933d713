//! What an answer of S3 means that is no success: whether to ask again, what kind of failure it is, and what to do.

use engine::http::Response;
use engine::printable;
use event::{Span, Time};

use super::wire::Question;
use super::xml::Element;
use super::{ObjectError, S3, Why, text_of};

/// From this difference of the clocks on, a refusal is put down to it.
const SKEW_MIN: Span = Span::from_secs(5 * 60);
/// Longest pause that a provider is granted.
const RETRY_AFTER_MAX_S: i64 = 60;
/// Longest message of a provider that is passed on, in characters.
const MESSAGE_CHARACTERS_MAX: usize = 200;

/// An answer that is no success.
pub(super) struct Refusal {
    status: u16,
    /// Its code, as `AccessDenied`; empty where there is none, as in an answer to HEAD.
    pub(super) code: String,
    message: String,
    /// The region, or the endpoint, that it leads to.
    elsewhere: Option<String>,
    /// The time at the provider.
    date: Option<Time>,
    /// How long it asks us to wait.
    pub(super) retry_after: Option<Span>,
}

impl Refusal {
    pub(super) fn of(answer: &Response) -> Self {
        let root = Element::parse(&answer.body).filter(|root| root.name == "Error").unwrap_or_default();
        let field = |name: &str| text_of(&answer.headers, name);
        let elsewhere = [field("x-amz-bucket-region").unwrap_or_default(), root.text("Region"), root.text("Endpoint")];
        let elsewhere =
            elsewhere.into_iter().find(|text| !text.is_empty()).map(|text| printable::text(text).into_owned());
        let message: String = root.text("Message").chars().take(MESSAGE_CHARACTERS_MAX).collect();
        Self {
            status: answer.status,
            code: printable::text(root.text("Code")).into_owned(),
            message: printable::text(message.trim_end_matches('.')).into_owned(),
            elsewhere,
            date: field("date").and_then(parse_http_date),
            retry_after: field("retry-after")
                .and_then(|text| text.parse().ok())
                .map(|seconds: i64| Span::from_secs(seconds.clamp(0, RETRY_AFTER_MAX_S))),
        }
    }

    /// Whether the same question may be answered well a little later.
    pub(super) fn is_passing(&self) -> bool {
        let by_code = matches!(
            self.code.as_str(),
            "SlowDown"
                | "InternalError"
                | "ServiceUnavailable"
                | "RequestTimeout"
                | "TooManyRequests"
                | "Throttling"
                | "ThrottlingException"
                | "OperationAborted"
        );
        by_code || self.is_damage() || matches!(self.status, 408 | 429 | 500 | 502 | 503 | 504)
    }

    /// Whether what was sent has not arrived as it was sent.
    fn is_damage(&self) -> bool {
        matches!(
            self.code.as_str(),
            "BadDigest"
                | "XAmzContentChecksumMismatch"
                | "XAmzContentSHA256Mismatch"
                | "XAmzChecksumMismatch"
                | "IncompleteBody"
        )
    }

    fn is_full(&self) -> bool {
        self.status == 507
            || matches!(
                self.code.as_str(),
                "QuotaExceeded" | "InsufficientStorage" | "InsufficientCapacity" | "XMinioStorageFull"
            )
            || self.message.to_ascii_lowercase().contains("cap exceeded")
    }
}

/// Reads `Sun, 29 Nov 2026 17:00:00 GMT` (RFC 9110, section 5.6.7).
fn parse_http_date(text: &str) -> Option<Time> {
    let timestamp = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Time::from_micros(timestamp.as_microsecond()))
}

impl S3 {
    /// The error that a refusal is: its kind, its cause and what to do about it.
    pub(super) fn explain(&self, name: &str, asked: &Question, refusal: &Refusal) -> ObjectError {
        let Refusal { status, code, message, .. } = refusal;
        let key = &self.access_key;
        let said = match (code.as_str(), message.as_str()) {
            ("", _) => format!("it answers {status}"),
            (_, "") => format!("it answers {status} {code}"),
            _ => format!("it answers {status} {code} ({message})"),
        };
        let elsewhere = refusal.elsewhere.as_deref();
        let now = self.clock.now();
        let skew = refusal.date.filter(|date| *status == 403 && date.since(now).micros().abs() > SKEW_MIN.micros());
        let (why, reason) = match code.as_str() {
            _ if skew.is_some() || code == "RequestTimeTooSkewed" => {
                let there = skew.or(refusal.date).map(|date| format!("{date} there and ")).unwrap_or_default();
                let remedy = "set the clock of this machine right, by NTP";
                (Why::Unavailable, format!("the clocks are too far apart: it is {there}{now} here; {remedy}"))
            }
            _ if refusal.is_full() => {
                (Why::Full, format!("{said}: there is no room left; make some, or raise the limit"))
            }
            _ if refusal.is_damage() => (Why::Damaged, format!("{said}: what arrives is not what is sent")),
            _ if refusal.is_passing() => (Why::Unavailable, said),
            "NoSuchBucket" => {
                (Why::Refused, format!("there is no bucket `{}`; create it, or correct `bucket`", self.bucket.name()))
            }
            "NoSuchKey" | "NoSuchVersion" => return self.missing(name),
            "InvalidAccessKeyId" | "NotSignedUp" => {
                (Why::Refused, format!("{said}: the access key `{key}` is not known there; correct `access_key`"))
            }
            "SignatureDoesNotMatch" => {
                let secret = &self.secret_key;
                (
                    Why::Refused,
                    format!("the secret key in {secret} is not that of the access key `{key}`; write the right one"),
                )
            }
            "AuthorizationHeaderMalformed"
            | "AuthorizationQueryParametersError"
            | "PermanentRedirect"
            | "TemporaryRedirect"
            | "IllegalLocationConstraintException" => (Why::Refused, self.is_elsewhere(&said, elsewhere)),
            "InvalidRequest" | "InvalidArgument" if message.to_ascii_lowercase().contains("object lock") => {
                let remedy = "use a bucket that was made with object lock, or write `lock = false`";
                (Why::Refused, format!("{said}; {remedy}"))
            }
            _ => match *status {
                301 | 302 | 307 | 308 => (Why::Refused, self.is_elsewhere(&said, elsewhere)),
                400 if elsewhere.is_some() => (Why::Refused, self.is_elsewhere(&said, elsewhere)),
                404 if asked.is_of_object() => return self.missing(name),
                401 | 403 => (Why::Refused, format!("{said}; allow the access key `{key}` {}", asked.needs)),
                501 => (Why::Refused, format!("{said}: this provider has no such thing; use another one")),
                _ => (Why::Refused, said),
            },
        };
        self.error(name, why, reason)
    }

    fn is_elsewhere(&self, said: &str, elsewhere: Option<&str>) -> String {
        let region = self.bucket.region();
        match elsewhere {
            Some(elsewhere) if elsewhere.contains('.') => {
                format!("{said}: the bucket is to be asked at `{elsewhere}`; write that in `endpoint`")
            }
            Some(elsewhere) if elsewhere != region => {
                format!("{said}: the bucket is in the region `{elsewhere}`, not `{region}`; write that in `s3_region`")
            }
            _ => format!("{said}: `endpoint` and `s3_region` are not those of the bucket; correct them"),
        }
    }
}
