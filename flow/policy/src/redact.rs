//! The text of a policy without what no record may hold.

use std::ops::Range;

use toml_parser::lexer::TokenKind;

use crate::place::Place;

/// A value that no record may hold, or a part of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Hidden {
    pub(crate) place: Place,
    /// Only what follows the first such character.
    pub(crate) after: Option<char>,
}

impl Hidden {
    /// The bytes to leave out, of the value that stands at `start..end`; nothing if the character is not there.
    pub(crate) fn within(&self, text: &str, (start, end): (usize, usize)) -> Option<Redaction> {
        let whole = Redaction { bytes: start..end, quoted: true };
        let Some(mark) = self.after else { return Some(whole) };
        let written = text.get(start..end)?;
        // An escape sequence may stand for the character, or hide the end of the text.
        if written.contains('\\') {
            return Some(whole);
        }
        let quotes = written.bytes().take_while(|byte| matches!(byte, b'"' | b'\'')).count().min(3);
        let (from, to) = (start + written.find(mark)? + mark.len_utf8(), end.saturating_sub(quotes));
        (from < to).then_some(Redaction { bytes: from..to, quoted: false })
    }
}

/// Bytes to leave out.
pub(crate) struct Redaction {
    bytes: Range<usize>,
    /// Whether they are a whole value, so that a whole value has to stand for them.
    quoted: bool,
}

/// The text, with what `shown` makes of each secret, and without the words of its comments.
pub(crate) fn text(text: &str, secrets: Vec<Redaction>, shown: &mut impl FnMut(&str) -> String) -> String {
    let mut cuts: Vec<(Range<usize>, String)> = Vec::new();
    for Redaction { bytes, quoted } in secrets {
        let mark = shown(text.get(bytes.clone()).unwrap_or_default());
        cuts.push((bytes, if quoted { format!("\"{mark}\"") } else { mark }));
    }
    for token in toml_parser::Source::new(text).lex() {
        if token.kind() == TokenKind::Comment {
            cuts.push((token.span().start()..token.span().end(), "# …".to_owned()));
        }
    }
    // Of two that overlap the one that starts first and is longer holds the other.
    cuts.sort_by_key(|(bytes, _)| (bytes.start, std::cmp::Reverse(bytes.end)));
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for (bytes, replacement) in cuts {
        if bytes.start < done {
            continue;
        }
        out.push_str(text.get(done..bytes.start).unwrap_or_default());
        out.push_str(&replacement);
        done = bytes.end;
    }
    out.push_str(text.get(done..).unwrap_or_default());
    out
}
