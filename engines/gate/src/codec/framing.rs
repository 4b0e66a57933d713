//! Where a message ends, and whether another may follow (RFC 9112, sections 6 and 9): judged once, when the head is whole.

use crate::codec::head;
use crate::codec::refusal::Refusal;
use crate::message::{Fields, Length, Name, Reply, Request, Version, host_and_port};

/// Judges the fields of a request that decide anything. `authority` is that of an absolute target.
pub(crate) fn judge_request(request: &mut Request, authority: Option<&str>) -> Result<(), Refusal> {
    let mut hosts = request.fields.known(Name::Host);
    let host = hosts.next().ok_or(Refusal::NoHost)?;
    if hosts.next().is_some() {
        return Err(Refusal::ManyHosts);
    }
    let (host, port) = host_and_port(host)?;
    if let Some(authority) = authority
        && head::authority(authority)? != (host.clone(), port)
    {
        return Err(Refusal::HostUnlikeTarget);
    }
    let is_1_1 = request.version != Version::Http10;
    let length = length(&request.fields, is_1_1)?.unwrap_or_default();
    let fields = &request.fields;
    request.keeps = is_1_1 && !fields.has_element(Name::Connection, "close");
    let wants_upgrade = is_1_1 && fields.has_element(Name::Connection, "upgrade");
    // Any other protocol is one that the gate does not speak: the field is dropped, and the request is an ordinary one.
    request.upgrades = wants_upgrade
        && fields.known(Name::Upgrade).count() == 1
        && fields.first(Name::Upgrade).is_some_and(|to| to.eq_ignore_ascii_case(b"websocket"));
    if request.upgrades && (request.method != "GET" || length.has_body()) {
        return Err(Refusal::BadUpgrade);
    }
    request.expects = match fields.first(Name::Expect) {
        None => false,
        Some(expectation) if expectation.eq_ignore_ascii_case(b"100-continue") && is_1_1 => length.has_body(),
        Some(_) => return Err(Refusal::Expectation),
    };
    (request.host, request.port, request.length) = (host, port, length);
    Ok(())
}

/// Judges the fields of a reply that decide anything; `is_head` for one to `HEAD`.
pub(crate) fn judge_reply(reply: &mut Reply, is_head: bool) -> Result<(), Refusal> {
    let length = length(&reply.fields, reply.is_1_1)?;
    let has_none = is_head || reply.status < 200 || matches!(reply.status, 204 | 304);
    if matches!(reply.status, 100..=199 | 204) && length.is_some_and(|length| length != Length::Known(0)) {
        // RFC 9112, section 6.1: it has no body, and says that it has.
        return Err(Refusal::BadLength);
    }
    let is_closed = reply.fields.has_element(Name::Connection, "close");
    reply.length = if has_none { Length::None } else { length.unwrap_or(Length::Unknown) };
    let ends_by_itself = has_none || length.is_some();
    reply.keeps = reply.is_1_1 && !is_closed && ends_by_itself;
    Ok(())
}

/// The length that `Content-Length` and `Transfer-Encoding` give; `None` where there is neither.
fn length(fields: &Fields, is_1_1: bool) -> Result<Option<Length>, Refusal> {
    let mut lengths = fields.known(Name::ContentLength);
    let mut codings = fields.known(Name::TransferEncoding);
    let (length, coding) = (lengths.next(), codings.next());
    if coding.is_some() && length.is_some() {
        return Err(Refusal::LengthAndCoding);
    }
    if lengths.next().is_some() {
        return Err(Refusal::ManyLengths);
    }
    if let Some(coding) = coding {
        if !is_1_1 {
            return Err(Refusal::CodingOfOldVersion);
        }
        if codings.next().is_some() || !coding.eq_ignore_ascii_case(b"chunked") {
            return Err(Refusal::UnknownCoding);
        }
        return Ok(Some(Length::Unknown));
    }
    length.map(|digits| decimal(digits).map(Length::Known)).transpose()
}

/// Digits and nothing else: no sign, no list, no more than fits.
fn decimal(digits: &[u8]) -> Result<u64, Refusal> {
    if digits.is_empty() || digits.len() > 18 {
        return Err(if digits.contains(&b',') { Refusal::ManyLengths } else { Refusal::BadLength });
    }
    digits.iter().try_fold(0_u64, |number, digit| match digit {
        b'0'..=b'9' => Ok(number * 10 + u64::from(digit - b'0')),
        b',' => Err(Refusal::ManyLengths),
        _ => Err(Refusal::BadLength),
    })
}
