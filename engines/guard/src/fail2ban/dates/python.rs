//! Regular expressions of Python (`re`, of text) as `fancy_regex` takes them, with the same meaning.
//!
//! What differs is rewritten: classes of characters, `$`, word boundaries, braces that are no repetition, conditions, and
//! escapes. A text of ASCII is matched by a smaller automaton than any other, so there are two forms.

use std::fmt::Write;
use std::iter::Peekable;
use std::str::Chars;

/// The texts that an expression is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Texts {
    /// Those of ASCII only.
    Ascii,
    /// All.
    Unicode,
}

/// Letters that are one for Python when their case is ignored.
const OTHER_I: [char; 4] = ['i', 'I', '\u{130}', '\u{131}'];
/// The same in a class.
const EVERY_I: &str = r"iI\x{130}\x{131}";

/// The parts of a class for `\w`, `\d` and `\s`.
const fn class_of(letter: char, texts: Texts) -> Option<&'static str> {
    Some(match (letter, texts) {
        ('w', Texts::Ascii) => "0-9A-Za-z_",
        ('w', Texts::Unicode) => r"\p{L}\p{N}_",
        ('d', Texts::Ascii) => "0-9",
        ('d', Texts::Unicode) => r"\p{Nd}",
        ('s', Texts::Ascii) => r"\x09-\x0d\x1c-\x20",
        ('s', Texts::Unicode) => r"\p{White_Space}\x1c-\x1f",
        _ => return None,
    })
}

/// An expression in translation.
struct Translation<'a> {
    rest: Peekable<Chars<'a>>,
    texts: Texts,
    is_multi_line: bool,
    /// Whether the case of letters is ignored, in each group that is open.
    is_caseless: Vec<bool>,
    groups: Vec<Option<String>>,
    written: String,
}

/// An expression of Python, and the names of its groups from 1 on.
#[derive(Debug)]
pub(super) struct Translated {
    /// The expression for `fancy_regex`.
    pub(super) regex: String,
    /// Its capturing groups in their order, with their names.
    pub(super) groups: Vec<Option<String>>,
}

/// The flags at the start of `regex`, such as `iu` of `(?iu)`, and what follows them.
fn global_flags(regex: &str) -> Option<(&str, &str)> {
    let (flags, rest) = regex.strip_prefix("(?")?.split_once(')')?;
    (!flags.is_empty() && flags.bytes().all(|byte| byte.is_ascii_lowercase())).then_some((flags, rest))
}

/// Translates `regex`; the reason when it is none, or when nothing here has its meaning.
pub(super) fn translate(regex: &str, texts: Texts) -> Result<Translated, String> {
    let (mut flags, mut rest) = (String::new(), regex);
    while let Some((more, behind)) = global_flags(rest) {
        flags.push_str(more);
        rest = behind;
    }
    if let Some(other) = flags.chars().find(|flag| !"imsu".contains(*flag)) {
        return Err(format!("the flag {other} is not supported"));
    }
    let mut translation = Translation {
        rest: rest.chars().peekable(),
        texts,
        is_multi_line: flags.contains('m'),
        is_caseless: vec![flags.contains('i')],
        groups: Vec::new(),
        written: String::new(),
    };
    flags.retain(|flag| flag != 'u');
    if !flags.is_empty() {
        translation.write(format_args!("(?{flags})"));
    }
    while let Some(next) = translation.rest.next() {
        translation.item(next)?;
    }
    Ok(Translated { regex: translation.written, groups: translation.groups })
}

impl Translation<'_> {
    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        let written = self.written.write_fmt(text);
        debug_assert!(written.is_ok(), "a string takes everything");
    }

    fn item(&mut self, next: char) -> Result<(), String> {
        match next {
            '\\' => self.escape(),
            '[' => self.class(),
            '(' => self.group(),
            '{' => {
                self.braces();
                Ok(())
            }
            '$' if self.is_multi_line => {
                self.written.push('$');
                Ok(())
            }
            '$' => {
                self.written.push_str(r"(?=\n?\z)");
                Ok(())
            }
            '}' | ']' => {
                self.literal(next);
                Ok(())
            }
            ')' => {
                self.is_caseless.pop();
                self.written.push(')');
                Ok(())
            }
            '.' | '^' | '|' | '*' | '+' | '?' => {
                self.written.push(next);
                Ok(())
            }
            other => {
                self.literal(other);
                Ok(())
            }
        }
    }

    /// Whether the case of letters is ignored where the dotless and the dotted `i` may be: for Python they are the same letter as
    /// `i`, and for Rust they are not.
    fn has_other_i(&self) -> bool {
        self.texts == Texts::Unicode && self.is_caseless.last() == Some(&true)
    }

    /// A character that stands for itself.
    fn literal(&mut self, character: char) {
        if OTHER_I.contains(&character) && self.has_other_i() {
            self.write(format_args!("[{EVERY_I}]"));
        } else if character.is_ascii_alphanumeric() || character == ' ' || !character.is_ascii() {
            self.written.push(character);
        } else if character.is_ascii_control() {
            self.write(format_args!(r"\x{:02x}", u32::from(character)));
        } else if "_:;,'\"/<>=@!%`".contains(character) {
            self.written.push(character);
        } else {
            self.write(format_args!(r"\{character}"));
        }
    }

    /// A character in a class that stands for itself.
    fn member(&mut self, character: char) {
        if character.is_ascii_alphanumeric() || !character.is_ascii() {
            self.written.push(character);
        } else {
            self.write(format_args!(r"\x{:02x}", u32::from(character)));
        }
    }

    /// The code point of `digits` hexadecimal digits.
    fn hexadecimal(&mut self, digits: usize) -> Result<char, String> {
        let mut value = 0;
        for _ in 0..digits {
            let digit = self.rest.next().and_then(|digit| digit.to_digit(16));
            value = value * 16 + digit.ok_or("an escape has too few hexadecimal digits")?;
        }
        char::from_u32(value).ok_or_else(|| "an escape is no character".to_owned())
    }

    /// The character that an escape of one stands for, after the backslash.
    fn escaped(&mut self, letter: char) -> Result<char, String> {
        Ok(match letter {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'f' => '\x0c',
            'v' => '\x0b',
            'a' => '\x07',
            'x' => self.hexadecimal(2)?,
            'u' => self.hexadecimal(4)?,
            'U' => self.hexadecimal(8)?,
            '0' => {
                let mut value = 0;
                for _ in 0..2 {
                    let Some(digit) = self.rest.peek().and_then(|digit| digit.to_digit(8)) else { break };
                    self.rest.next();
                    value = value * 8 + digit;
                }
                char::from_u32(value).unwrap_or('\0')
            }
            other if other.is_ascii_alphanumeric() => return Err(format!(r"\{other} is no escape")),
            other => other,
        })
    }

    fn escape(&mut self) -> Result<(), String> {
        let letter = self.rest.next().ok_or("it ends in a backslash")?;
        let lower = letter.to_ascii_lowercase();
        if let Some(parts) = class_of(lower, self.texts) {
            let not = if letter == lower { "" } else { "^" };
            self.write(format_args!("[{not}{parts}]"));
            return Ok(());
        }
        match (letter, self.texts) {
            ('b' | 'B', Texts::Ascii) => self.write(format_args!(r"\{letter}")),
            ('b', Texts::Unicode) => {
                self.written.push_str(r"(?:(?<=[\p{L}\p{N}_])(?![\p{L}\p{N}_])|(?<![\p{L}\p{N}_])(?=[\p{L}\p{N}_]))");
            }
            ('B', Texts::Unicode) => {
                self.written.push_str(r"(?:(?<=[\p{L}\p{N}_])(?=[\p{L}\p{N}_])|(?<![\p{L}\p{N}_])(?![\p{L}\p{N}_]))");
            }
            ('A', _) => self.written.push_str(r"\A"),
            ('Z', _) => self.written.push_str(r"\z"),
            ('1'..='9', _) => {
                let mut group = letter.to_digit(10).unwrap_or(0) as usize;
                if let Some(digit) = self.rest.peek().and_then(|digit| digit.to_digit(10)) {
                    self.rest.next();
                    group = group * 10 + digit as usize;
                }
                if group > self.groups.len() {
                    return Err(format!("it refers to group {group}, which it has not yet"));
                }
                self.write(format_args!(r"(?:\{group})"));
            }
            _ => {
                let character = self.escaped(letter)?;
                self.literal(character);
            }
        }
        Ok(())
    }

    /// One character of a class, or `None` after a whole class such as `\d`, which has been written.
    fn class_part(&mut self, next: char) -> Result<Option<char>, String> {
        if next != '\\' {
            return Ok(Some(next));
        }
        let letter = self.rest.next().ok_or("a class ends in a backslash")?;
        let lower = letter.to_ascii_lowercase();
        if let Some(parts) = class_of(lower, self.texts) {
            let (open, close) = if letter == lower { ("", "") } else { ("[^", "]") };
            self.write(format_args!("{open}{parts}{close}"));
            return Ok(None);
        }
        match letter {
            'b' => Ok(Some('\x08')),
            _ => self.escaped(letter).map(Some),
        }
    }

    fn class(&mut self) -> Result<(), String> {
        self.written.push('[');
        if self.rest.next_if_eq(&'^').is_some() {
            self.written.push('^');
        }
        let mut is_first = true;
        loop {
            let next = self.rest.next().ok_or("a class has no end")?;
            if next == ']' && !is_first {
                self.written.push(']');
                return Ok(());
            }
            is_first = false;
            let Some(from) = self.class_part(next)? else { continue };
            let mut ahead = self.rest.clone();
            let is_range = ahead.next() == Some('-') && ahead.next().is_some_and(|to| to != ']');
            self.member(from);
            let mut last = from;
            if is_range {
                self.rest.next();
                let to = self.rest.next().ok_or("a class has no end")?;
                self.written.push('-');
                match self.class_part(to)? {
                    Some(to) if from <= to => {
                        self.member(to);
                        last = to;
                    }
                    _ => return Err("a class has a range without an end".to_owned()),
                }
            }
            if self.has_other_i() && OTHER_I.iter().any(|other| (from..=last).contains(other)) {
                self.written.push_str(EVERY_I);
            }
        }
    }

    /// A repetition, or a brace that stands for itself.
    fn braces(&mut self) {
        let mut ahead = self.rest.clone();
        let inner: String = ahead.by_ref().take_while(|next| *next != '}').collect();
        let is_closed = self.rest.clone().nth(inner.chars().count()) == Some('}');
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let (from, to) = inner.split_once(',').map_or((inner.as_str(), None), |(from, to)| (from, Some(to)));
        if !is_closed || inner.is_empty() || !digits(from) || !to.is_none_or(digits) {
            self.literal('{');
            return;
        }
        let from = if from.is_empty() { "0" } else { from };
        match to {
            None => self.write(format_args!("{{{from}}}")),
            Some(to) => self.write(format_args!("{{{from},{to}}}")),
        }
        self.rest = ahead;
    }

    /// A name up to `end`.
    fn name(&mut self, end: char) -> Result<String, String> {
        let mut name = String::new();
        loop {
            match self.rest.next() {
                Some(next) if next == end && !name.is_empty() => return Ok(name),
                Some(next) if next == '_' || next.is_ascii_alphanumeric() => name.push(next),
                _ => return Err("the name of a group is none".to_owned()),
            }
        }
    }

    fn known(&self, name: &str) -> Result<(), String> {
        let is_known = self.groups.iter().flatten().any(|known| known == name)
            || name.parse().is_ok_and(|number: usize| (1..=self.groups.len()).contains(&number));
        if is_known { Ok(()) } else { Err(format!("it refers to the group {name}, which it has not yet")) }
    }

    /// What follows an opening parenthesis.
    fn group(&mut self) -> Result<(), String> {
        let is_caseless = self.is_caseless.last() == Some(&true);
        self.is_caseless.push(is_caseless);
        if self.rest.next_if_eq(&'?').is_none() {
            self.groups.push(None);
            self.written.push('(');
            return Ok(());
        }
        match self.rest.next().ok_or("a group has no end")? {
            'P' => match self.rest.next() {
                Some('<') => {
                    let name = self.name('>')?;
                    if self.groups.iter().flatten().any(|known| *known == name) {
                        return Err(format!("the group {name} is in it twice"));
                    }
                    self.write(format_args!("(?P<{name}>"));
                    self.groups.push(Some(name));
                }
                Some('=') => {
                    let name = self.name(')')?;
                    self.known(&name)?;
                    self.write(format_args!(r"\k<{name}>"));
                }
                _ => return Err("(?P is followed by neither < nor =".to_owned()),
            },
            '(' => {
                let name = self.name(')')?;
                self.known(&name)?;
                if name.starts_with(|first: char| first.is_ascii_digit()) {
                    self.write(format_args!("(?({name})"));
                } else {
                    self.write(format_args!("(?(<{name}>)"));
                }
            }
            '#' => {
                while self.rest.next().ok_or("a comment has no end")? != ')' {}
                self.is_caseless.pop();
            }
            '<' => match self.rest.next() {
                Some(kind @ ('=' | '!')) => self.write(format_args!("(?<{kind}")),
                _ => return Err("(?< is followed by neither = nor !".to_owned()),
            },
            kind @ (':' | '=' | '!' | '>') => self.write(format_args!("(?{kind}")),
            first => {
                let mut flags = String::from(first);
                loop {
                    match self.rest.next() {
                        Some(':') => break,
                        Some(flag) if "ims-".contains(flag) => flags.push(flag),
                        _ => return Err("flags are not at its start".to_owned()),
                    }
                }
                if !"ims-".contains(first) {
                    return Err(format!("the flag {first} is not supported"));
                }
                let (on, off) = flags.split_once('-').unwrap_or((&flags, ""));
                if let Some(is_caseless) = self.is_caseless.last_mut() {
                    *is_caseless = (*is_caseless || on.contains('i')) && !off.contains('i');
                }
                self.write(format_args!("(?{flags}:"));
            }
        }
        Ok(())
    }
}
