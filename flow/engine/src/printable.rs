//! Text of others, made fit to be shown.
//!
//! **Problem.** Names in certificates, answers of servers, file names: whoever writes them can put in characters that a
//! terminal obeys instead of showing (control and escape sequences), that turn the text around (bidirectional marks), that
//! forge a line of their own (newlines), or that can't be seen at all. **Principle.** Such characters are written as their
//! escape, `\u{1b}`. It is done twice, for either place can be forgotten: where a text becomes a detail ([`text`]), and where it
//! is printed (`garant/src/terminal.rs`, for standard output and standard error alike). Text that was escaped once stays as
//! it is the second time. The numbers of the operating system, which the standard library puts behind its words, are left out
//! at the same places ([`in_words`]).

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text on one line, with every character that is not simply shown written as its escape.
pub fn text(text: &str) -> Cow<'_, str> {
    let text = in_words(text);
    if text.chars().all(is_shown) {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 16);
    text.chars().for_each(|c| push(&mut out, c));
    Cow::Owned(out)
}

/// What the system says when a disk is full, before its number, and what we say everywhere else.
const FULL: (&str, &str) = ("No space left on device", "the disk is full");

/// The text without the numbers of errors of the operating system: the words before them say the same, and a person reads
/// them. A full disk is called so, whoever found it.
pub fn in_words(text: &str) -> Cow<'_, str> {
    const NUMBER: &str = " (os error ";
    if !text.contains(NUMBER) {
        return Cow::Borrowed(text);
    }
    let mut words = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(NUMBER) {
        let digits = after.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'-').count();
        match before.strip_suffix(FULL.0) {
            Some(before) if after.starts_with("28)") => words.extend([before, FULL.1]),
            _ => words.push_str(before),
        }
        match after[digits..].strip_prefix(')') {
            Some(after) if digits > 0 => rest = after,
            _ => {
                words.push_str(NUMBER);
                rest = after;
            }
        }
    }
    Cow::Owned(words + rest)
}

/// Adds a character to a text that is shown.
pub fn push(out: &mut String, c: char) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c if is_shown(c) => out.push(c),
        // A String takes everything.
        c => write!(out, "\\u{{{:x}}}", u32::from(c)).unwrap_or_default(),
    }
}

/// Whether a character is shown as itself: no control character (Unicode category Cc), no mark of direction, no separator of
/// lines, nothing that has no width and changes what is around it (Cf).
pub const fn is_shown(c: char) -> bool {
    !matches!(
        c,
        '\0'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{ad}'
            | '\u{34f}'
            | '\u{600}'..='\u{605}'
            | '\u{61c}'
            | '\u{6dd}'
            | '\u{70f}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_written_out() {
        for (given, expected) in [
            ("CN=shop.example, O=Café – 株式会社", "CN=shop.example, O=Café – 株式会社"),
            ("\x1b[2J\x1b[31mowned", "\\u{1b}[2J\\u{1b}[31mowned"),
            ("\x1b]0;title\x07", "\\u{1b}]0;title\\u{7}"),
            ("\u{9b}2J", "\\u{9b}2J"),
            ("a\r\nb\tc\0\x7f", "a\\r\\nb\\tc\\u{0}\\u{7f}"),
            ("gpj.\u{202e}exe\u{2066}\u{200f}", "gpj.\\u{202e}exe\\u{2066}\\u{200f}"),
            ("pay\u{200b}pal\u{feff}\u{ad}", "pay\\u{200b}pal\\u{feff}\\u{ad}"),
            ("one\u{2028}two\u{e0041}", "one\\u{2028}two\\u{e0041}"),
            ("", ""),
        ] {
            assert_eq!(text(given), expected);
            assert_eq!(text(expected), expected, "once more changes nothing");
        }
    }

    #[test]
    fn numbers_of_the_system_are_left_out() {
        for (given, words) in [
            ("No such file or directory (os error 2)", "No such file or directory"),
            (
                "a: Permission denied (os error 13): b: Broken pipe (os error 32)",
                "a: Permission denied: b: Broken pipe",
            ),
            ("Unknown error (os error -5)", "Unknown error"),
            ("a: No space left on device (os error 28); b", "a: the disk is full; b"),
            ("No space left on device", "No space left on device"),
            ("it says (os error two), (os error 2", "it says (os error two), (os error 2"),
            ("", ""),
        ] {
            assert_eq!((in_words(given).as_ref(), text(given).as_ref()), (words, words));
        }
    }

    #[test]
    fn no_control_character_is_shown() {
        for c in (0..=0x0010_ffff).filter_map(char::from_u32).filter(|c| c.is_control()) {
            assert!(!is_shown(c), "{c:?}");
        }
    }
}
