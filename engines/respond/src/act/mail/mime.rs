//! A message in the form of RFC 5322: header fields, and a body of two parts, plain text and HTML.
//!
//! Everything is ASCII with lines of 76 characters, so no server on the way has a reason to change it and to break its
//! signature. Nothing in it is random: another attempt sends the same message, and a receiver can tell.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use event::Time;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use sha2::{Digest as _, Sha256};

use super::MailAddress;
use crate::act::{Language, Message, compose};

/// Longest text of a message, in bytes.
const TEXT_BYTES_MAX: usize = 32 * 1024;
/// Longest line of a body, in characters (RFC 2045, section 6.7).
const LINE_CHARS_MAX: usize = 76;
/// Bytes of text in an encoded word: at most 75 characters (RFC 2047, section 2).
const WORD_BYTES_MAX: usize = 45;
/// Longest identifier, in bytes: those of others too.
const ID_BYTES_MAX: usize = 250;

/// A message, whole.
pub(super) struct Mail {
    /// Each with its name, folded, without the end of its last line.
    headers: Vec<(&'static str, String)>,
    body: String,
    id: String,
}

impl Mail {
    /// Puts a message together; `earlier` is the identifier of the first of its thread.
    pub(super) fn new(
        message: &Message,
        (from, to): (&MailAddress, &MailAddress),
        earlier: Option<&str>,
        now: Time,
    ) -> Self {
        let id = message_id(&message.id, from.domain());
        let boundary = boundary(&id);
        let mut headers = vec![
            ("From", format!("garant <{}>", from.0)),
            ("To", format!("<{}>", to.0)),
            ("Subject", unstructured(&compose::subject(message))),
            ("Date", date(now)),
            ("Message-ID", id.clone()),
        ];
        if let Some(earlier) = earlier {
            headers.push(("In-Reply-To", earlier.to_owned()));
            headers.push(("References", earlier.to_owned()));
        }
        headers.extend([
            ("Auto-Submitted", "auto-generated".to_owned()),
            ("MIME-Version", "1.0".to_owned()),
            ("Content-Type", format!("multipart/alternative;\r\n boundary=\"{boundary}\"")),
        ]);
        let plain = quoted_printable(&compose::whole(message, TEXT_BYTES_MAX));
        let html = quoted_printable(&html(message));
        let mut body = String::new();
        for (kind, part) in [("plain", plain), ("html", html)] {
            let head =
                format!("Content-Type: text/{kind}; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable");
            body = format!("{body}--{boundary}\r\n{head}\r\n\r\n{part}\r\n");
        }
        body = format!("{body}--{boundary}--\r\n");
        Self { headers, body, id }
    }

    /// Its header fields.
    pub(super) fn headers(&self) -> &[(&'static str, String)] {
        &self.headers
    }

    /// Its body, with CR LF.
    pub(super) fn body(&self) -> &str {
        &self.body
    }

    /// Its identifier, in angle brackets.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Puts a header field before the others.
    pub(super) fn put_first(&mut self, header: (&'static str, String)) {
        self.headers.insert(0, header);
    }

    /// All of it.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = String::new();
        for (name, value) in &self.headers {
            // A String takes everything.
            write!(bytes, "{name}: {value}\r\n").unwrap_or_default();
        }
        format!("{bytes}\r\n{}", self.body).into_bytes()
    }
}

/// `<id@domain>`, the same for each attempt.
fn message_id(id: &str, domain: &str) -> String {
    let sound = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' };
    let id: String = id.chars().map(sound).take(100).collect();
    format!("<{id}@{domain}>")
}

/// Whether a reference of the thread can be one: `<…@…>`, nothing that would begin another field.
pub(super) fn is_message_id(text: &str) -> bool {
    let inner = text.strip_prefix('<').and_then(|rest| rest.strip_suffix('>'));
    let sound = |inner: &str| {
        inner.contains('@') && inner.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'<' | b'>'))
    };
    text.len() <= ID_BYTES_MAX && inner.is_some_and(sound)
}

/// What parts the body: never a line of quoted-printable, in which `=` is followed by hexadecimal digits.
fn boundary(id: &str) -> String {
    let digest = compose::hex(&Sha256::digest(id.as_bytes()));
    format!("=_{}", &digest[..24])
}

/// The date in the form of RFC 5322.
fn date(now: Time) -> String {
    let timestamp = Timestamp::from_microsecond(now.micros()).unwrap_or_default();
    jiff::fmt::rfc2822::to_string(&timestamp.to_zoned(TimeZone::UTC)).unwrap_or_default()
}

/// A field of free text: as it is, or in encoded words (RFC 2047), folded.
fn unstructured(text: &str) -> String {
    if text.is_ascii() && !text.contains("=?") && text.len() <= LINE_CHARS_MAX - "Subject: ".len() {
        return text.to_owned();
    }
    let mut words = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (word, after) = rest.split_at(rest.floor_char_boundary(WORD_BYTES_MAX));
        words.push(format!("=?utf-8?B?{}?=", STANDARD.encode(word)));
        rest = after;
    }
    words.join("\r\n ")
}

/// The text as quoted-printable (RFC 2045, section 6.7), with CR LF. A dot at the start of a line, and a `From `, are encoded
/// too: there are servers that take the first for the end, and the second for the start of a message.
fn quoted_printable(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len() + text.len() / 4);
    for (number, line) in text.split('\n').enumerate() {
        if number > 0 {
            encoded.push_str("\r\n");
        }
        let mut column = 0;
        let bytes = line.as_bytes();
        for (index, &byte) in bytes.iter().enumerate() {
            let last = index + 1 == bytes.len();
            let plain = match byte {
                b'=' => false,
                b'.' => column > 0,
                b'F' => column > 0 || !line[index..].starts_with("From "),
                b' ' | b'\t' => !last,
                other => other.is_ascii_graphic(),
            };
            let width = if plain { 1 } else { 3 };
            // One column is for the `=` of a soft end of line.
            if column + width > LINE_CHARS_MAX - 1 {
                encoded.push_str("=\r\n");
                column = 0;
            }
            if plain && !(column == 0 && byte == b'.') {
                encoded.push(char::from(byte));
                column += 1;
            } else {
                // A String takes everything.
                write!(encoded, "={byte:02X}").unwrap_or_default();
                column += 3;
            }
        }
    }
    encoded
}

/// The message as HTML: its text, what to do, and a link. No picture, no style from elsewhere.
fn html(message: &Message) -> String {
    let language = match message.language {
        Language::Fr => "fr",
        Language::En => "en",
    };
    let mut body = String::new();
    let text = compose::cut(compose::lines(&message.text), TEXT_BYTES_MAX);
    for paragraph in text.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()) {
        body = format!("{body}<p>{}</p>\n", escaped(paragraph).replace('\n', "<br>\n"));
    }
    if let Some(runbook) = &message.runbook {
        let runbook = compose::cut(compose::lines(runbook), TEXT_BYTES_MAX / 4);
        let label = compose::runbook_label(message.language);
        body = format!("{body}<p>{label} {}</p>\n", linked(&runbook));
    }
    if let Some(link) = &message.link {
        body = format!("{body}<p>{} {}</p>\n", compose::link_label(message), linked(&compose::line(link)));
    }
    let title = escaped(&compose::subject(message));
    format!(
        "<!DOCTYPE html>\n<html lang=\"{language}\"><head><meta charset=\"utf-8\"><title>{title}</title></head>\n<body>\n{body}</body></html>"
    )
}

/// A link, if it is one to the web; else the text.
fn linked(text: &str) -> String {
    let web = text.starts_with("https://") || text.starts_with("http://");
    let text = escaped(text);
    if web && !text.contains(char::is_whitespace) {
        format!("<a href=\"{text}\">{text}</a>")
    } else {
        text.replace('\n', "<br>\n")
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_encoded() {
        let line = "x".repeat(80);
        for (text, encoded) in [
            ("a=b", "a=3Db"),
            ("été \nsuite", "=C3=A9t=C3=A9=20\r\nsuite"),
            (".\n..a", "=2E\r\n=2E.a"),
            ("From here", "=46rom here"),
            (&line, &format!("{}=\r\n{}", "x".repeat(75), "x".repeat(5))),
        ] {
            assert_eq!(quoted_printable(text), encoded, "{text}");
        }
        assert!(
            quoted_printable(&"é.".repeat(1000)).split("\r\n").all(|line| line.len() <= 76 && !line.starts_with('.'))
        );
    }

    #[test]
    fn subjects_are_words() {
        assert_eq!(unstructured("shop is down"), "shop is down");
        assert_eq!(unstructured("où"), "=?utf-8?B?b8O5?=");
        let folded = unstructured(&"é".repeat(100));
        assert!(folded.split("\r\n").all(|line| line.len() <= 76), "{folded}");
    }

    #[test]
    fn references_begin_no_other_field() {
        assert!(is_message_id("<a-1@shop.example>"));
        for bad in ["", "a@b", "<a>", "<a@b>\r\nBcc: <c@d>", "<a@b> <c@d>", "<é@b>"] {
            assert!(!is_message_id(bad), "{bad:?}");
        }
        assert_eq!(message_id("a\r\nb", "x.fr"), "<a--b@x.fr>");
    }
}
