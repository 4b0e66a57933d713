//! The one path of a request (RFC 3986, section 6.2): what a site, a route and an upstream decide by is what is sent.
//!
//! A path that the gate reads in one way and the program behind in another is how a protected path is reached under another name.
//! So percent-encoded letters are decoded, dots and doubled slashes are taken out, and what has no one meaning is refused: an encoded
//! slash, backslash or zero, a backslash, and a segment that some server reads as dots or as nothing, such as `..;` or `;` for those
//! of Java.
//!
//! What is left may be read in several ways still, and each of them is in honest use: `/a;jsessionid=1` is `/a` to a servlet, `/A` is
//! `/a` to Windows, `/a%2520` is `/a%20` to whoever decodes twice. No server reads more into a path than [`loosest`] does, which is
//! what address ranges hold for besides the path itself.

use std::borrow::Cow;

use crate::codec::refusal::Refusal;

/// What of the doubtful a site allows.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Leniency {
    /// `%2f` and `%5c`, for programs that take names with slashes in one segment; sent on as they are.
    pub(crate) encoded_slashes: bool,
}

/// The canonical form of a path and its query, into `canonical`. The length of the path in it.
pub(crate) fn canonical(target: &str, leniency: Leniency, canonical: &mut String) -> Result<usize, Refusal> {
    canonical.clear();
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let path = path.as_bytes();
    if is_plain(path) {
        canonical.push_str(target);
        return Ok(path.len());
    }
    let mut rest = path;
    while let [first, after @ ..] = rest {
        rest = after;
        match first {
            b'/' => {
                end_segment(canonical)?;
                if !canonical.ends_with('/') {
                    canonical.push('/');
                }
            }
            b'\\' => return Err(Refusal::BadTarget),
            b'%' => {
                let [high, low, after @ ..] = rest else { return Err(Refusal::BadTarget) };
                rest = after;
                let digit = |digit: u8| char::from(digit).to_digit(16).ok_or(Refusal::BadTarget);
                let code = digit(*high)? * 16 + digit(*low)?;
                let byte = u8::try_from(code).map_err(|_| Refusal::BadTarget)?;
                match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                        canonical.push(char::from(byte));
                    }
                    b'/' | b'\\' if !leniency.encoded_slashes => return Err(Refusal::BadTarget),
                    0..=0x1f | 0x7f => return Err(Refusal::BadTarget),
                    _ => {
                        canonical.push('%');
                        canonical.push(char::from(high.to_ascii_uppercase()));
                        canonical.push(char::from(low.to_ascii_uppercase()));
                    }
                }
            }
            byte => canonical.push(char::from(*byte)),
        }
    }
    end_segment(canonical)?;
    if canonical.is_empty() {
        canonical.push('/');
    }
    drop(loosest(canonical)?);
    let length = canonical.len();
    if let Some(query) = query {
        canonical.push('?');
        canonical.push_str(query);
    }
    Ok(length)
}

/// Whether a path is canonical already, as most are.
fn is_plain(path: &[u8]) -> bool {
    let is_doubtful = |byte: &u8| matches!(byte, b'%' | b'\\' | b';');
    path.first() == Some(&b'/')
        && !path.iter().any(is_doubtful)
        && !path.windows(2).any(|pair| matches!(pair, b"//" | b"/."))
}

/// Takes the dots out of the segment that has just ended (RFC 3986, section 5.2.4).
fn end_segment(path: &mut String) -> Result<(), Refusal> {
    let start = path.rfind('/').map_or(0, |slash| slash + 1);
    match path.get(start..).unwrap_or_default() {
        "." => path.truncate(start),
        ".." => {
            let parent = path.get(..start.saturating_sub(1)).and_then(|above| above.rfind('/'));
            path.truncate(parent.ok_or(Refusal::BadTarget)? + 1);
        }
        _ => {}
    }
    Ok(())
}

/// A path as a servlet container reads it: without the parameters of its segments (RFC 3986, section 3.3).
pub(crate) fn without_parameters(path: &str) -> Cow<'_, str> {
    if !path.contains(';') {
        return Cow::Borrowed(path);
    }
    let names = path.split('/').map(|segment| segment.split_once(';').map_or(segment, |(name, _)| name));
    Cow::Owned(names.collect::<Vec<_>>().join("/"))
}

/// A canonical path as the program reads it that reads most into it: decoded until there is nothing to decode, backslashes as slashes,
/// each segment to its `;`, `?`, `#` or control character, without the dots and spaces at its end, in small letters. A path is refused
/// that is read as leading elsewhere then: by a segment of dots, by one that is empty before others, by overlong UTF-8.
pub(crate) fn loosest(path: &str) -> Result<String, Refusal> {
    let decoded = decoded_wholly(path.as_bytes());
    if has_overlong(&decoded) {
        return Err(Refusal::BadTarget);
    }
    let mut loosest = Vec::with_capacity(decoded.len());
    let mut segments = decoded.split(|byte| matches!(byte, b'/' | b'\\')).skip(1).peekable();
    while let Some(segment) = segments.next() {
        let end = segment.iter().position(|byte| matches!(byte, b';' | b'?' | b'#' | 0..=0x1f | 0x7f));
        let name = segment.get(..end.unwrap_or(segment.len())).unwrap_or(segment);
        let kept = name.iter().rposition(|byte| !matches!(byte, b'.' | b' ')).map_or(0, |last| last + 1);
        if kept > 0 {
            loosest.push(b'/');
            loosest.extend(name.iter().take(kept).map(u8::to_ascii_lowercase));
        } else if name.contains(&b'.') || (segments.peek().is_some() && !segment.is_empty()) {
            return Err(Refusal::BadTarget);
        }
    }
    // What is no UTF-8 may be any character: alike in what is compared with it.
    Ok(String::from_utf8_lossy(&loosest).into_owned())
}

/// Bytes without any percent-encoding that is left, nor one that decoding brings forth.
fn decoded_wholly(encoded: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut decoded: Vec<u8> = Vec::with_capacity(encoded.len());
    for byte in encoded {
        decoded.push(*byte);
        // What was decoded may be the last digit of another one.
        while let [.., b'%', high, low] = decoded[..]
            && let (Some(high), Some(low)) = (digit(high), digit(low))
        {
            decoded.truncate(decoded.len() - 3);
            decoded.push(high << 4 | low);
        }
    }
    decoded
}

/// Whether a character is written in more bytes than it needs, by which old decoders take slashes and dots (RFC 3629, section 10).
fn has_overlong(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|pair| {
        matches!(
            pair,
            [0xc0 | 0xc1, 0x80..=0xbf] | [0xe0, 0x80..=0x9f] | [0xf0, 0x80..=0x8f] | [0xf8 | 0xfc, 0x80..=0x87]
        )
    })
}
