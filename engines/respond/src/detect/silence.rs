//! Silences: alerts that match are told to nobody until the silence ends by itself.
//!
//! The matchers are those of Alertmanager, since its clients make silences here as well: a label equals a value, or matches an
//! anchored regular expression, or does not.

use std::collections::BTreeMap;
use std::fmt;

use event::Time;
use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

/// Largest compiled expression, in bytes: a label is short, and so is what matches it.
const EXPRESSION_BYTES_MAX: usize = 256 * 1024;
/// Most matchers of a silence.
pub const MATCHERS_MAX: usize = 20;
/// Most silences that are kept.
pub const SILENCES_MAX: usize = 1000;
/// Longest text of a name, a value or a comment, in bytes.
pub const TEXT_BYTES_MAX: usize = 1024;

/// Longest JSON of a silence.
const SILENCE_BYTES_MAX: usize = 16 * 1024;

/// A condition on one label.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Matcher {
    /// The label.
    pub name: String,
    /// The value, or the expression.
    pub value: String,
    /// Whether the value is a regular expression that the whole label must match.
    #[serde(rename = "isRegex", default)]
    pub is_regex: bool,
    /// Whether the label must match, rather than must not.
    #[serde(rename = "isEqual", default = "yes")]
    pub is_equal: bool,
}

const fn yes() -> bool {
    true
}

impl fmt::Display for Matcher {
    /// As people write it: `service="shop"`, `region!~"a|b"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operator = match (self.is_equal, self.is_regex) {
            (true, false) => "=",
            (true, true) => "=~",
            (false, false) => "!=",
            (false, true) => "!~",
        };
        write!(f, "{}{operator}\"{}\"", self.name, self.value)
    }
}

impl Matcher {
    /// That the label has this value.
    pub fn equals(name: &str, value: &str) -> Self {
        Self { name: name.to_owned(), value: value.to_owned(), is_regex: false, is_equal: true }
    }

    /// Reads `name=value`, `name!=value`, `name=~expression`, `name!~expression`, as Alertmanager does: the value may be quoted,
    /// with `\n`, `\"` and `\\` in the quotes. `None` for what is no matcher.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))?;
        let (name, rest) = text.split_at(end);
        let rest = rest.trim_start();
        let operators = [("=~", true, true), ("!~", true, false), ("!=", false, false), ("=", false, true)];
        let (value, is_regex, is_equal) = operators
            .iter()
            .find_map(|(sign, regex, equal)| Some((rest.strip_prefix(sign)?.trim_start(), *regex, *equal)))?;
        let value = match value.strip_prefix('"') {
            Some(quoted) => unquoted(quoted)?,
            None => value.to_owned(),
        };
        (!name.is_empty()).then(|| Self { name: name.to_owned(), value, is_regex, is_equal })
    }

    fn expression(&self) -> Result<Regex, String> {
        RegexBuilder::new(&format!("^(?s:{})$", self.value))
            .size_limit(EXPRESSION_BYTES_MAX)
            .build()
            .map_err(|_| format!("the expression for `{}` can't be used: write a simpler one", self.name))
    }
}

/// A silence.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Silence {
    /// Its identifier: a UUID.
    pub id: String,
    /// All of them must hold.
    pub matchers: Vec<Matcher>,
    /// When it begins.
    pub starts_at: Time,
    /// When it ends by itself.
    pub ends_at: Time,
    /// When it was made or changed last.
    pub updated_at: Time,
    /// Who made it.
    pub by: String,
    /// Why.
    pub comment: String,
}

/// Matchers with their expressions compiled.
#[derive(Clone, Debug)]
pub struct Filter(Vec<(Matcher, Option<Regex>)>);

impl Filter {
    /// Compiles them.
    ///
    /// # Errors
    /// What is wrong with a matcher, and what to do.
    pub fn new(matchers: Vec<Matcher>) -> Result<Self, String> {
        let ready = |matcher: Matcher| {
            let expression = matcher.is_regex.then(|| matcher.expression()).transpose()?;
            Ok((matcher, expression))
        };
        Ok(Self(matchers.into_iter().map(ready).collect::<Result<_, String>>()?))
    }

    /// Whether all of them hold for these labels. A missing label is an empty one.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|(matcher, expression)| {
            let value = labels.get(&matcher.name).map_or("", String::as_str);
            let found = expression.as_ref().map_or_else(|| matcher.value == value, |it| it.is_match(value));
            found == matcher.is_equal
        })
    }
}

/// The text up to the quote that ends it, which must be the last character.
fn unquoted(quoted: &str) -> Option<String> {
    let mut value = String::new();
    let mut chars = quoted.chars();
    loop {
        match chars.next()? {
            '"' => return chars.next().is_none().then_some(value),
            '\\' => match chars.next()? {
                'n' => value.push('\n'),
                c @ ('"' | '\\') => value.push(c),
                c => value.extend(['\\', c]),
            },
            c => value.push(c),
        }
    }
}

/// A silence with its expressions compiled.
#[derive(Clone, Debug)]
pub struct ReadySilence {
    /// The silence.
    pub silence: Silence,
    filter: Filter,
}

impl ReadySilence {
    /// Compiles it.
    ///
    /// # Errors
    /// What is wrong with a matcher, or with the times, and what to do.
    pub fn new(silence: Silence) -> Result<Self, String> {
        if silence.matchers.is_empty() || silence.matchers.len() > MATCHERS_MAX {
            return Err(format!("a silence has 1 to {MATCHERS_MAX} matchers"));
        }
        if silence.ends_at <= silence.starts_at {
            return Err("the silence ends before it begins: write a later end".to_owned());
        }
        let texts = silence.matchers.iter().flat_map(|matcher| [&matcher.name, &matcher.value]);
        if texts.chain([&silence.by, &silence.comment]).any(|text| text.len() > TEXT_BYTES_MAX) {
            return Err(format!("a text of the silence is longer than {TEXT_BYTES_MAX} bytes"));
        }
        if silence.matchers.iter().any(|matcher| matcher.name.is_empty()) {
            return Err("a matcher names no label".to_owned());
        }
        // A row and an event hold it; a control character is six bytes there.
        if serde_json::to_vec(&silence).is_ok_and(|json| json.len() > SILENCE_BYTES_MAX) {
            return Err(format!("the silence is longer than {SILENCE_BYTES_MAX} bytes: use fewer or shorter matchers"));
        }
        let filter = Filter::new(silence.matchers.clone())?;
        if filter.matches(&BTreeMap::new()) {
            return Err("every matcher holds for an alert without labels: name at least one value".to_owned());
        }
        Ok(Self { silence, filter })
    }

    /// Whether it is in effect.
    pub fn holds_at(&self, now: Time) -> bool {
        self.silence.starts_at <= now && now < self.silence.ends_at
    }

    /// Whether an alert with these labels is silenced by it.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.filter.matches(labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silence(matchers: Vec<Matcher>) -> Result<ReadySilence, String> {
        ReadySilence::new(Silence {
            id: "6f6b4a52-7c3b-4c0b-9b0e-000000000001".to_owned(),
            matchers,
            starts_at: Time::from_secs(10),
            ends_at: Time::from_secs(20),
            updated_at: Time::from_secs(10),
            by: "lea".to_owned(),
            comment: String::new(),
        })
    }

    fn matcher(name: &str, value: &str, is_regex: bool, is_equal: bool) -> Matcher {
        Matcher { name: name.to_owned(), value: value.to_owned(), is_regex, is_equal }
    }

    /// As Alertmanager matches: all matchers, whole labels, a missing label is an empty one.
    #[test]
    fn silences_match_as_those_of_alertmanager() {
        let labels: BTreeMap<String, String> =
            [("service", "shop"), ("region", "gravelines")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        for (matchers, expected) in [
            (vec![matcher("service", "shop", false, true)], true),
            (vec![matcher("service", "sho", false, true)], false),
            (vec![matcher("service", "sh.p", true, true)], true),
            (vec![matcher("service", "hop", true, true)], false),
            (vec![matcher("service", "mail|shop", true, true)], true),
            (vec![matcher("service", "shop", false, true), matcher("region", "strasbourg", false, true)], false),
            (vec![matcher("service", "shop", false, true), matcher("region", "strasbourg", false, false)], true),
            (vec![matcher("service", "shop", false, true), matcher("host", "", false, true)], true),
        ] {
            let silence = silence(matchers.clone()).expect("sound");
            assert_eq!(silence.matches(&labels), expected, "{matchers:?}");
        }
        assert!(silence(vec![matcher("service", "shop", false, true)]).expect("sound").holds_at(Time::from_secs(10)));
        assert!(!silence(vec![matcher("service", "shop", false, true)]).expect("sound").holds_at(Time::from_secs(20)));
    }

    #[test]
    fn matchers_are_read_as_alertmanager_reads_them() {
        for (text, expected) in [
            ("service=shop", matcher("service", "shop", false, true)),
            ("  service = \"a b\" ", matcher("service", "a b", false, true)),
            ("region!~\"a=b\"", matcher("region", "a=b", true, false)),
            ("job:x=~a|b", matcher("job:x", "a|b", true, true)),
            (r#"a="q\"n\nb\\w\d""#, matcher("a", "q\"n\nb\\w\\d", false, true)),
            ("a!=", matcher("a", "", false, false)),
        ] {
            assert_eq!(Matcher::parse(text).as_ref(), Some(&expected), "{text}");
        }
        for text in ["", "service", "=shop", "ser vice=shop", "a=\"b", "a=\"b\"c", "{a=b}", "a~b"] {
            assert_eq!(Matcher::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_silences_everything_or_costs_too_much_is_refused() {
        for matchers in [
            vec![],
            vec![matcher("service", ".*", true, true)],
            vec![matcher("service", "shop", false, false)],
            vec![matcher("service", "(", true, true)],
            vec![matcher("service", "((a{100}){100}){100}", true, true)],
            vec![matcher("service", &"x".repeat(2000), false, true)],
            vec![matcher("service", "shop", false, true), matcher("", "x", false, true)],
            // More than a row takes, once control characters are written out.
            vec![matcher("service", &"\u{1}".repeat(1000), false, true); 20],
        ] {
            assert!(silence(matchers.clone()).is_err(), "{matchers:?}");
        }
    }
}
