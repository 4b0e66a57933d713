//! A request of a channel over HTTP, and what its answer means for the message.
//!
//! One request, one connection: there are few, and a connection that was left open over a quiet night is one that a firewall has
//! forgotten. What a server says is never quoted, for it may quote what it was sent.

use engine::http::{HeaderMap, HttpFailure, Request, Response, header};
use engine::net::DialError;
use event::{Clock, Span, Time};

use super::{Means, Message, Sent};

/// How long all of a request may take.
const WITHIN: Span = Span::from_secs(15);
/// How much of an answer is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Longest time that a server may ask to be left alone: whoever asks for more is tried all the same.
const AFTER_MAX: Span = Span::from_secs(3600);

/// Whether the answer is of any interest beside its status.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wanted {
    /// The status alone.
    Status,
    /// Its body too, the first 64 KiB of it.
    Body,
}

/// Sends the request of a message; `host` is how errors call the other side. Any answer is one.
pub(super) async fn ask(
    request: Request,
    message: &Message,
    host: &str,
    wanted: Wanted,
    means: Means<'_>,
) -> Result<Response, Sent> {
    let request =
        request.header("Idempotency-Key", &message.id).within(WITHIN).body_bytes_max(usize::MAX).public_only();
    let mut enough = |_: u16, _: &HeaderMap, body: &[u8]| wanted == Wanted::Status || body.len() >= ANSWER_BYTES_MAX;
    request.send_until(means.net, &mut enough).await.map_err(|error| match error.failure {
        failure @ (HttpFailure::Request(_) | HttpFailure::Dial(DialError::Inside { .. })) => {
            Sent::Refused { reason: format!("{host}: {failure}") }
        }
        failure => Sent::Again { reason: format!("{host}: {failure}"), after: None },
    })
}

/// What an answer that is none of success means: not now, or not this way.
pub(super) fn failed(response: &Response, host: &str, clock: &dyn Clock) -> Sent {
    let status = response.status;
    let remedy = match status {
        408 | 425 | 429 | 500..=599 => {
            let after = retry_after(&response.headers, clock.now());
            return Sent::Again { reason: format!("{host} answers with status {status}"), after };
        }
        300..=399 => "redirects are not followed: name the address that it leads to",
        401 | 403 | 407 => "check the token or password that is kept for it, and what it allows",
        404 | 410 => "that address is no longer there: make a new one and name it in the policy",
        413 => "it takes no messages of this length",
        _ => "check the address and its settings there",
    };
    Sent::Refused { reason: format!("{host} answers with status {status}: {remedy}") }
}

/// `Retry-After` (RFC 9110, section 10.2.3): seconds, or a date.
pub(super) fn retry_after(headers: &HeaderMap, now: Time) -> Option<Span> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let after = if let Ok(seconds) = text.parse::<u32>() {
        Span::from_secs(i64::from(seconds))
    } else {
        let date = jiff::fmt::rfc2822::parse(text).ok()?;
        Time::from_micros(date.timestamp().as_microsecond()).since(now)
    };
    Some(after.clamp(Span::ZERO, AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_may_ask_for_time() {
        let now = Time::parse_rfc3339("2026-11-22T23:00:00Z").expect("a time");
        for (value, after) in [
            ("30", Some(Span::from_secs(30))),
            ("Sun, 22 Nov 2026 23:01:00 GMT", Some(Span::from_secs(60))),
            ("Sun, 22 Nov 2026 22:00:00 GMT", Some(Span::ZERO)),
            ("999999", Some(AFTER_MAX)),
            ("soon", None),
            ("-1", None),
        ] {
            let headers = HeaderMap::from_iter([(header::RETRY_AFTER, value.parse().expect("a value"))]);
            assert_eq!(retry_after(&headers, now), after, "{value}");
        }
    }
}
