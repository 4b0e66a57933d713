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

/// A silence with its expressions compiled.
#[derive(Clone, Debug)]
pub struct ReadySilence {
    /// The silence.
    pub silence: Silence,
    expressions: Vec<Option<Regex>>,
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
        let expression = |matcher: &Matcher| matcher.is_regex.then(|| matcher.expression()).transpose();
        let expressions: Vec<_> = silence.matchers.iter().map(expression).collect::<Result<_, _>>()?;
        let matches_nothing = silence
            .matchers
            .iter()
            .zip(&expressions)
            .all(|(matcher, expression)| matches(matcher, expression.as_ref(), ""));
        if matches_nothing {
            return Err("every matcher holds for an alert without labels: name at least one value".to_owned());
        }
        Ok(Self { silence, expressions })
    }

    /// Whether it is in effect.
    pub fn holds_at(&self, now: Time) -> bool {
        self.silence.starts_at <= now && now < self.silence.ends_at
    }

    /// Whether an alert with these labels is silenced by it.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.silence.matchers.iter().zip(&self.expressions).all(|(matcher, expression)| {
            let value = labels.get(&matcher.name).map_or("", String::as_str);
            matches(matcher, expression.as_ref(), value)
        })
    }
}

fn matches(matcher: &Matcher, expression: Option<&Regex>, value: &str) -> bool {
    let found = expression.map_or_else(|| matcher.value == value, |expression| expression.is_match(value));
    found == matcher.is_equal
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
    fn what_silences_everything_or_costs_too_much_is_refused() {
        for matchers in [
            vec![],
            vec![matcher("service", ".*", true, true)],
            vec![matcher("service", "shop", false, false)],
            vec![matcher("service", "(", true, true)],
            vec![matcher("service", "((a{100}){100}){100}", true, true)],
            vec![matcher("service", &"x".repeat(2000), false, true)],
        ] {
            assert!(silence(matchers.clone()).is_err(), "{matchers:?}");
        }
    }
}
