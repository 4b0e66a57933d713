//! One expression of a filter: a pattern with the tags of fail2ban, and what its groups stand for.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::super::pattern::{Found, Pattern, PatternError, Shape, StepLimit};
use super::tally::Buffered;
use super::{Value, tags};

/// The groups of which one must say who it was.
const IDENTITIES: [&str; 5] = ["fid", "ip4", "ip6", "dns", "mlfid"];

/// A pattern of a filter.
#[derive(Debug)]
pub(super) struct Expression {
    pattern: Pattern,
    /// The groups that fill another when it is empty: their name, and the other.
    alternatives: Vec<(Arc<str>, Arc<str>)>,
    /// The groups that are joined to another.
    tuples: Vec<(Arc<str>, Arc<str>)>,
    skipped: Vec<usize>,
    content: Option<usize>,
}

/// A match, and which lines it took of those it saw.
#[derive(Debug)]
pub(super) struct Hit {
    pub(super) found: Found,
    /// The lines it took and those it left, for filters that see several.
    lines: Option<(Vec<Buffered>, Vec<Buffered>)>,
}

impl Hit {
    pub(super) fn matched(&self) -> usize {
        self.lines.as_ref().map_or(1, |(matched, _)| matched.len())
    }

    pub(super) fn matched_lines(&self) -> Option<&[Buffered]> {
        self.lines.as_ref().map(|(matched, _)| matched.as_slice())
    }

    pub(super) fn unmatched_lines(&self) -> Vec<Buffered> {
        self.lines.as_ref().map(|(_, unmatched)| unmatched.clone()).unwrap_or_default()
    }
}

impl Expression {
    pub(super) fn new(text: &str, only_addresses: bool, multi_line: bool) -> Result<Self, PatternError> {
        let expanded = tags::expand(text, only_addresses);
        if expanded.trim_start().is_empty() {
            return Err(PatternError::Empty);
        }
        let pattern = Pattern::new(&tags::localize_flags(&expanded), multi_line)?;
        let named = |prefix: &str| {
            let mut found: Vec<_> = pattern
                .names()
                .iter()
                .filter(|name| name.chars().count() > 4)
                .filter_map(|name| {
                    Some((Arc::clone(name), Arc::from(tags::group(without_number(name.strip_prefix(prefix)?)))))
                })
                .collect();
            found.sort();
            found
        };
        let skipped = (0..)
            .map_while(|number| pattern.names().iter().position(|name| **name == *format!("skiplines{number}")))
            .collect();
        let content = pattern.names().iter().position(|name| **name == *"content");
        Ok(Self { content, alternatives: named("alt_"), tuples: named("tuple_"), skipped, pattern })
    }

    pub(super) fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    pub(super) fn identifies(&self) -> bool {
        self.pattern.names().iter().any(|name| IDENTITIES.contains(&&**name))
    }

    /// Whether its groups are what they matched, and nothing is made of several.
    pub(super) fn is_plain(&self) -> bool {
        self.alternatives.is_empty() && self.tuples.is_empty()
    }

    /// What the group `content` matched, where it is a group like the others.
    pub(super) fn content(&self, found: &Found) -> Option<Range<usize>> {
        found.groups.get(self.content?)?.clone().filter(|span| !span.is_empty())
    }

    /// Searches `text`; `lines` are those that the text is taken for, for filters that see several.
    pub(super) fn search(
        &self,
        text: &str,
        shape: Shape,
        lines: Option<&[Buffered]>,
    ) -> Result<Option<Hit>, StepLimit> {
        let Some(found) = self.pattern.search(text, shape)? else { return Ok(None) };
        let Some(lines) = lines else { return Ok(Some(Hit { found, lines: None })) };
        if lines.len() <= 1 {
            return Ok(Some(Hit { found, lines: Some((lines.to_vec(), Vec::new())) }));
        }
        let bytes = text.as_bytes();
        let newlines = |end: usize| memchr::memchr_iter(b'\n', &bytes[..end]).count();
        let start_of = (found.span.start + 1).min(bytes.len());
        let start = memchr::memrchr(b'\n', &bytes[..start_of]).map_or(0, |at| at + 1);
        let end = match found.span.end.checked_sub(1) {
            Some(last) => memchr::memchr(b'\n', &bytes[last..]).map_or(bytes.len(), |at| last + at + 1),
            None => bytes.len(),
        };
        let first = newlines(start).min(lines.len());
        let last = newlines(end).clamp(first, lines.len());
        let mut matched = lines[first..last].to_vec();
        let mut unmatched = lines[..first].to_vec();
        let mut from = 0;
        for skipped in self.skipped_lines(text, &found) {
            if let Some(at) = matched.iter().skip(from).position(|line| line.text == skipped) {
                unmatched.push(matched.remove(from + at));
                from += at;
            }
        }
        unmatched.extend_from_slice(&lines[last..]);
        Ok(Some(Hit { found, lines: Some((matched, unmatched)) }))
    }

    fn skipped_lines<'t>(&self, text: &'t str, found: &Found) -> Vec<&'t str> {
        // They are joined before they are split; each ends with a newline, so that it comes to the same.
        self.skipped
            .iter()
            .filter_map(|group| found.groups[*group].clone())
            .flat_map(|span| split_lines(&text[span]))
            .collect()
    }

    /// What the groups matched, with those filled and joined that others fill and join; a group that did not match is `None`.
    pub(super) fn groups(&self, text: &str, found: &Found) -> BTreeMap<Arc<str>, Option<Value>> {
        let mut groups: BTreeMap<Arc<str>, Option<Value>> = self
            .pattern
            .names()
            .iter()
            .zip(&found.groups)
            .map(|(name, span)| (Arc::clone(name), span.clone().map(|span| Value::Text(text[span].to_owned()))))
            .collect();
        for (from, to) in &self.alternatives {
            let is_empty = |value: Option<&Option<Value>>| !matches!(value, Some(Some(value)) if *value != Value::Text(String::new()));
            if !is_empty(groups.get(from)) && is_empty(groups.get(to)) {
                let value = groups.get(from).cloned().flatten();
                groups.insert(Arc::clone(to), value);
            }
        }
        for (from, to) in &self.tuples {
            let value = groups.get(from).and_then(Option::as_ref).and_then(Value::text).map(str::to_owned);
            let joined = match groups.get(to).cloned().flatten() {
                Some(Value::Tuple(mut of)) => {
                    of.push(value);
                    of
                }
                Some(Value::Text(first)) => vec![Some(first), value],
                None => vec![None, value],
            };
            groups.insert(Arc::clone(to), Some(Value::Tuple(joined)));
        }
        groups
    }
}

/// `user_1` as `user`.
fn without_number(name: &str) -> &str {
    match name.rsplit_once('_') {
        Some((name, number)) if !number.is_empty() && number.chars().all(|c| c.is_ascii_digit()) => name,
        _ => name,
    }
}

/// The lines of a text, split where Python's `splitlines` does.
fn split_lines(text: &str) -> Vec<&str> {
    let ends = ['\n', '\r', '\x0b', '\x0c', '\x1c', '\x1d', '\x1e', '\u{85}', '\u{2028}', '\u{2029}'];
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(ends) {
        lines.push(&rest[..at]);
        rest = rest[at..].strip_prefix("\r\n").unwrap_or_else(|| {
            let mut rest = rest[at..].chars();
            rest.next();
            rest.as_str()
        });
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    lines
}
