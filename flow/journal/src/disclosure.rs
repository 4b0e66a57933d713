//! The line that opens a commitment.
//!
//! A payload bundle is text, one line per entry that is disclosed: `<sequence> <salt, base64> <payload>\n`. A payload is
//! one line of JSON, so a newline ends it and a person can read the file. Who has the line recomputes the commitment of
//! the leaf; who has only the leaf learns nothing, thanks to the salt.

use std::str;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::seal::Salt;
use crate::tile::parse_decimal;

/// An entry whose payload may be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Disclosure<'a> {
    /// Its place in the log.
    pub sequence: u64,
    /// The salt of its commitment.
    pub salt: Salt,
    /// The exact bytes that were committed.
    pub payload: &'a [u8],
}

/// A line that is no disclosure.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{found}` is not `<sequence> <salt, base64> <payload>`, ended by a newline")]
pub struct BadDisclosure {
    found: String,
}

impl BadDisclosure {
    fn of(line: &[u8]) -> Self {
        Self { found: String::from_utf8_lossy(&line[..line.len().min(80)]).into_owned() }
    }
}

impl<'a> Disclosure<'a> {
    /// Appends the line and its newline to `out`.
    pub fn write_line(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("{} {} ", self.sequence, STANDARD.encode(self.salt)).as_bytes());
        out.extend_from_slice(self.payload);
        out.push(b'\n');
    }

    /// Reads a line, given without its newline.
    pub fn parse(line: &'a [u8]) -> Result<Self, BadDisclosure> {
        let parts = || {
            let mut words = line.splitn(3, |byte| *byte == b' ');
            let sequence = parse_decimal(str::from_utf8(words.next()?).ok()?)?;
            let salt = STANDARD.decode(words.next()?).ok()?.try_into().ok()?;
            Some(Self { sequence, salt, payload: words.next()? })
        };
        parts().ok_or_else(|| BadDisclosure::of(line))
    }

    /// The lines of a payload bundle. Each ends with a newline, the last one too.
    pub fn parse_bundle(bytes: &'a [u8]) -> impl Iterator<Item = Result<Self, BadDisclosure>> {
        bytes.split_inclusive(|byte| *byte == b'\n').map(|line| match line.strip_suffix(b"\n") {
            Some(line) => Self::parse(line),
            None => Err(BadDisclosure::of(line)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_round_trip() {
        let one = Disclosure { sequence: 256, salt: [7; 32], payload: br#"{"type":"a b"}"# };
        let two = Disclosure { sequence: 258, salt: [8; 32], payload: b"{}" };
        let mut bytes = Vec::new();
        one.write_line(&mut bytes);
        two.write_line(&mut bytes);
        assert!(bytes.starts_with(b"256 BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc= {\"type\":\"a b\"}\n258 "));
        assert_eq!(Disclosure::parse_bundle(&bytes).collect::<Vec<_>>(), [Ok(one), Ok(two)]);
        assert_eq!(Disclosure::parse_bundle(b"").count(), 0);
        let unfinished = &bytes[..bytes.len() - 1];
        assert!(
            Disclosure::parse_bundle(unfinished).last().is_some_and(|line| line.is_err()),
            "the last line ends too"
        );
    }

    #[test]
    fn what_is_no_disclosure_is_refused() {
        for bad in ["", "1", "1 BwcH {}", "01 BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc= {}", "x y z"] {
            assert!(Disclosure::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(Disclosure::parse_bundle(b"\n\n").all(|line| line.is_err()), "an empty line is no disclosure");
    }
}
