//! A composed message, made to fit: bounds, characters, and the few words that a channel adds.

use std::fmt::Write as _;

use engine::printable;

use super::{Language, Message, What};

/// Longest subject that is sent, in bytes.
const SUBJECT_BYTES_MAX: usize = 400;

/// Bytes in hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    let mut digits = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // A String takes everything.
        write!(digits, "{byte:02x}").unwrap_or_default();
    }
    digits
}

/// The text on one line, without characters that are not simply shown.
pub(super) fn line(text: &str) -> String {
    let spaced = text.chars().map(|c| if printable::is_shown(c) { c } else { ' ' });
    spaced.collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The text in its lines, each without characters that are not simply shown.
pub(super) fn lines(text: &str) -> String {
    let shown = |c| if c == '\n' || printable::is_shown(c) { c } else { ' ' };
    let lines: Vec<String> = text.lines().map(|line| line.chars().map(shown).collect::<String>()).collect();
    lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n").trim().to_owned()
}

/// At most so many bytes of the text, with a mark where it was cut.
pub(super) fn cut(mut text: String, bytes_max: usize) -> String {
    const MARK: &str = "…";
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max.saturating_sub(MARK.len())));
        text.truncate(text.trim_end().len());
        text.push_str(MARK);
    }
    text
}

/// The subject.
pub(super) fn subject(message: &Message) -> String {
    cut(line(&message.subject), SUBJECT_BYTES_MAX)
}

/// The whole text with what to do and where to acknowledge, in at most so many bytes; the address is whole or not there.
pub(super) fn whole(message: &Message, bytes_max: usize) -> String {
    let mut end = String::new();
    if let Some(runbook) = &message.runbook {
        end = format!("\n\n{} {}", runbook_label(message.language), cut(lines(runbook), bytes_max / 4));
    }
    if let Some(link) = &message.link {
        end = format!("{end}\n\n{} {}", link_label(message), line(link));
    }
    let text = cut(lines(&message.text), bytes_max.saturating_sub(end.len()));
    cut(text + &end, bytes_max)
}

/// What stands before the address at which the receiver can acknowledge.
pub(super) const fn link_label(message: &Message) -> &'static str {
    match (message.language, message.what) {
        (Language::Fr, What::Resolved | What::Test | What::Hold) => "Détails :",
        (Language::En, What::Resolved | What::Test | What::Hold) => "Details:",
        (Language::Fr, _) => "Prendre en charge :",
        (Language::En, _) => "Acknowledge:",
    }
}

/// What stands before what to do.
pub(super) const fn runbook_label(language: Language) -> &'static str {
    match language {
        Language::Fr => "Que faire :",
        Language::En => "What to do:",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_shown_is_left_out_and_what_is_long_is_cut() {
        assert_eq!(line("a\r\nBcc: b@x.fr\0\u{202e} c"), "a Bcc: b@x.fr c");
        assert_eq!(lines("one \r\n\u{1b}[31mtwo\n\n"), "one\n [31mtwo");
        for (max, cut_at) in [(20, "où est-il"), (9, "où es…"), (6, "où…"), (5, "o…"), (3, "…")] {
            assert_eq!(cut("où est-il".to_owned(), max), cut_at, "{max}");
        }
    }
}
