//! Bytes of a log as text: `logencoding`, with the semantics of Python's `errors="replace"`.

use std::borrow::Cow;

/// An encoding of `logencoding`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Encoding {
    /// UTF-8. A maximal part of an invalid sequence becomes one U+FFFD.
    #[default]
    Utf8,
    /// Each byte beyond 127 becomes U+FFFD.
    Ascii,
    /// ISO 8859-1: each byte is the character of its number.
    Latin1,
}

/// An encoding that is not read.
#[derive(Clone, PartialEq, Eq, thiserror::Error, Debug)]
#[error("logencoding `{0}` is not read: only auto, utf-8, ascii and latin-1 are")]
pub struct UnknownEncoding(String);

impl Encoding {
    /// The encoding that Python knows by this name; `auto` is UTF-8, whatever the locale.
    pub fn named(name: &str) -> Result<Self, UnknownEncoding> {
        let plain: String = name.trim().to_ascii_lowercase().replace([' ', '-'], "_");
        match plain.as_str() {
            "auto" | "utf_8" | "utf8" | "u8" | "utf" | "cp65001" => Ok(Self::Utf8),
            "ascii" | "us_ascii" | "646" | "ansi_x3.4_1968" => Ok(Self::Ascii),
            "latin_1" | "latin1" | "latin" | "l1" | "8859" | "cp819" | "iso8859_1" | "iso_8859_1" | "iso8859" => {
                Ok(Self::Latin1)
            }
            _ => Err(UnknownEncoding(name.to_owned())),
        }
    }

    /// The text of a line, without the carriage returns and line feeds that it ends with.
    pub fn decode(self, line: &[u8]) -> Cow<'_, str> {
        let end = line.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
        self.decode_all(&line[..end])
    }

    /// The text of `bytes`, with everything in it.
    pub(super) fn decode_all(self, bytes: &[u8]) -> Cow<'_, str> {
        match self {
            Self::Utf8 => String::from_utf8_lossy(bytes),
            _ if bytes.is_ascii() => String::from_utf8_lossy(bytes),
            Self::Ascii => {
                bytes.iter().map(|byte| if byte.is_ascii() { char::from(*byte) } else { '\u{fffd}' }).collect()
            }
            Self::Latin1 => bytes.iter().map(|byte| char::from(*byte)).collect(),
        }
    }
}
