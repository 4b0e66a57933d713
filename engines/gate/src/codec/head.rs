//! Heads of requests and replies, line by line as they arrive (RFC 9112, sections 2 to 5).
//!
//! A line ends with CR LF and is judged as soon as it is there, so what is wrong is refused at once, not when the head is whole or
//! its deadline over.

use crate::codec::framing;
use crate::codec::refusal::Refusal;
use crate::message::{Fields, Reply, Request, Version, host_and_port};

/// The bounds of a head. At a bound the message is refused.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_field_names, reason = "each is a maximum, and says so where it is used")]
pub(crate) struct HeadLimits {
    /// Bytes of the whole head, line ends included.
    pub(crate) bytes_max: usize,
    /// Bytes of the first line.
    pub(crate) line_bytes_max: usize,
    /// Fields.
    pub(crate) fields_max: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { bytes_max: 32 * 1024, line_bytes_max: 8 * 1024, fields_max: 100 }
    }
}

/// How far a head has been read.
#[derive(Default, Debug)]
pub(crate) struct HeadParser {
    at: usize,
    has_first_line: bool,
    target: Target,
}

/// The form of the target of a request.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
enum Target {
    /// `/path`.
    #[default]
    Origin,
    /// `http://host/path`, with its authority.
    Absolute(String),
}

/// Ends a line.
const LINE_END: &[u8] = b"\r\n";

/// What a byte may be part of.
const TOKEN: u8 = 1;
const VALUE: u8 = 2;

/// The classes of bytes: tokens (RFC 9110, section 5.6.2), and values of fields, which hold no control character but the tab.
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "the loop ends at 256")]
        let is = byte as u8;
        let is_token = is.is_ascii_alphanumeric()
            || matches!(
                is,
                b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
            );
        let is_value = is == b'\t' || (is >= 0x20 && is != 0x7f);
        classes[byte] = if is_token { TOKEN } else { 0 } | if is_value { VALUE } else { 0 };
        byte += 1;
    }
    classes
};

fn all_are(bytes: &[u8], class: u8) -> bool {
    // Without an early end, so that the compiler makes it wide.
    bytes.iter().fold(class, |all, byte| all & CLASSES[usize::from(*byte)]) == class
}

/// Why a line is refused that holds a byte which no line may.
fn wrong_byte(line: &[u8]) -> Refusal {
    if line.contains(&b'\r') { Refusal::BareCarriageReturn } else { Refusal::ControlCharacter }
}

impl HeadParser {
    /// Reads the lines of `input`, which begins with the head and has grown since the last call. The length of the head once
    /// it is whole.
    pub(crate) fn request(
        &mut self,
        input: &[u8],
        limits: HeadLimits,
        request: &mut Request,
    ) -> Result<Option<usize>, Refusal> {
        // One line end before a request is passed over (RFC 9112, section 2.2): old programs send it behind a body.
        if self.at == 0 && input.starts_with(LINE_END) {
            self.at = LINE_END.len();
        }
        while let Some(line) = self.line(input, limits)? {
            if !self.has_first_line {
                self.has_first_line = true;
                request.clear();
                self.target = request_line(line, request)?;
            } else if line.is_empty() {
                let target = std::mem::take(&mut self.target);
                let length = std::mem::take(self).at;
                let authority = match &target {
                    Target::Origin => None,
                    Target::Absolute(authority) => Some(authority.as_str()),
                };
                framing::judge_request(request, authority)?;
                return Ok(Some(length));
            } else {
                field_line(line, limits, &mut request.fields)?;
            }
        }
        Ok(None)
    }

    /// The same for the reply to a request: `is_head` for one to `HEAD`.
    pub(crate) fn reply(
        &mut self,
        input: &[u8],
        limits: HeadLimits,
        is_head: bool,
        reply: &mut Reply,
    ) -> Result<Option<usize>, Refusal> {
        while let Some(line) = self.line(input, limits)? {
            if !self.has_first_line {
                self.has_first_line = true;
                reply.clear();
                status_line(line, reply)?;
            } else if line.is_empty() {
                let length = std::mem::take(self).at;
                framing::judge_reply(reply, is_head)?;
                return Ok(Some(length));
            } else {
                field_line(line, limits, &mut reply.fields)?;
            }
        }
        Ok(None)
    }

    /// The next whole line, without its end.
    fn line<'i>(&mut self, input: &'i [u8], limits: HeadLimits) -> Result<Option<&'i [u8]>, Refusal> {
        let rest = input.get(self.at..).unwrap_or_default();
        let (most, too_long) = if self.has_first_line {
            (limits.bytes_max, Refusal::HeadTooLong)
        } else {
            (limits.line_bytes_max, Refusal::TargetTooLong)
        };
        let Some(end) = memchr::memchr(b'\n', rest) else {
            return if self.at + rest.len() > most { Err(too_long) } else { Ok(None) };
        };
        if self.at + end + 1 > most {
            return Err(too_long);
        }
        let line = rest.get(..end).and_then(|line| line.strip_suffix(b"\r")).ok_or(Refusal::BareLineFeed)?;
        self.at += end + 1;
        Ok(Some(line))
    }
}

/// `METHOD SP target SP HTTP/1.1` (RFC 9112, section 3), with one space each.
fn request_line(line: &[u8], request: &mut Request) -> Result<Target, Refusal> {
    if !all_are(line, VALUE) {
        return Err(wrong_byte(line));
    }
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Refusal::BadRequestLine);
    };
    request.version = match version {
        b"HTTP/1.1" => Version::Http11,
        b"HTTP/1.0" => Version::Http10,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            return Err(Refusal::BadVersion);
        }
        _ => return Err(Refusal::BadRequestLine),
    };
    if !is_method(method) {
        return Err(Refusal::BadMethod);
    }
    if matches!(method, b"CONNECT" | b"TRACE" | b"TRACK") {
        return Err(Refusal::MethodNotTaken);
    }
    if !is_target(target) {
        return Err(Refusal::BadTarget);
    }
    let text = |part: &[u8]| String::from_utf8(part.to_vec()).map_err(|_| Refusal::BadTarget);
    request.method.push_str(&text(method)?);
    if target.starts_with(b"/") {
        request.target.push_str(&text(target)?);
        return Ok(Target::Origin);
    }
    let scheme_end = memchr::memmem::find(target, b"://").ok_or(Refusal::BadTarget)?;
    let (scheme, rest) = target.split_at(scheme_end);
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return Err(Refusal::BadTarget);
    }
    let rest = rest.get(3..).unwrap_or_default();
    let path_at = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(path_at);
    if !path.starts_with(b"/") {
        request.target.push('/');
    }
    request.target.push_str(&text(path)?);
    Ok(Target::Absolute(text(authority)?))
}

/// Whether a method is made of capital letters and hyphens, as all that are registered.
pub(crate) fn is_method(method: &[u8]) -> bool {
    (1..=32).contains(&method.len()) && method.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'-')
}

/// Whether a target is visible ASCII, without what a URI never holds unencoded (RFC 3986, section 2) and programs read in two ways.
pub(crate) fn is_target(target: &[u8]) -> bool {
    target.iter().all(|byte| matches!(byte, 0x21..=0x7e) && !matches!(byte, b'#' | b'<' | b'>' | b'"'))
}

/// Whether a name and a value are those of a field.
pub(crate) fn is_field(name: &[u8], value: &[u8]) -> bool {
    !name.is_empty() && all_are(name, TOKEN) && all_are(value, VALUE)
}

/// `HTTP/1.1 SP 200 SP reason` (RFC 9112, section 4); the second space may be missing with the reason.
fn status_line(line: &[u8], reply: &mut Reply) -> Result<(), Refusal> {
    if !all_are(line, VALUE) {
        return Err(wrong_byte(line));
    }
    reply.is_1_1 = match line.get(..9) {
        Some(b"HTTP/1.1 ") => true,
        Some(b"HTTP/1.0 ") => false,
        _ => return Err(Refusal::BadStatusLine),
    };
    let (status, reason) = (line.get(9..12), line.get(12..).unwrap_or_default());
    let status = status.filter(|status| status.iter().all(u8::is_ascii_digit)).ok_or(Refusal::BadStatusLine)?;
    reply.status = status.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0'));
    if !(100..600).contains(&reply.status) || !(reason.is_empty() || reason.starts_with(b" ")) {
        return Err(Refusal::BadStatusLine);
    }
    reply.reason.push_str(&String::from_utf8_lossy(reason.get(1..).unwrap_or_default()));
    Ok(())
}

/// `name: value` (RFC 9112, section 5).
pub(crate) fn field_line(line: &[u8], limits: HeadLimits, fields: &mut Fields) -> Result<(), Refusal> {
    if fields.len() >= limits.fields_max {
        return Err(Refusal::TooManyFields);
    }
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(Refusal::FoldedField);
    }
    let colon = memchr::memchr(b':', line).ok_or(Refusal::BadField)?;
    let (name, value) = line.split_at(colon);
    if name.is_empty() || !all_are(name, TOKEN) {
        return Err(Refusal::BadField);
    }
    let mut value = value.get(1..).unwrap_or_default();
    if !all_are(value, VALUE) {
        return Err(wrong_byte(value));
    }
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    fields.push(name, value);
    Ok(())
}

/// The host that an absolute target names, as [`host_and_port`] reads it.
pub(crate) fn authority(text: &str) -> Result<(String, Option<u16>), Refusal> {
    host_and_port(text.as_bytes()).map_err(|_| Refusal::BadTarget)
}
