//! Which patterns a line could match at all, by the literals in it: those of one filter, and the filters of many.

use std::collections::BTreeMap;
use std::ops::Range;

use aho_corasick::packed::Searcher;
use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

use super::super::pattern::Literals;
use super::expression::Expression;

/// How many bytes of literals an automaton may have that is as fast as can be; beyond it, it is as small as can be.
const FAST_LIMIT: usize = 32 << 10;

/// Literals that stand for patterns or filters, searched at once.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    exact: Automaton,
    ignoring_case: Automaton,
    /// What no literal speaks for.
    always: Vec<u64>,
    /// The same for texts beyond ASCII.
    always_beyond_ascii: Vec<u64>,
    /// The longest literal.
    longest: usize,
}

/// Literals of one kind.
#[derive(Debug, Default)]
struct Automaton {
    search: Option<AhoCorasick>,
    /// What each literal speaks for.
    owners: Vec<Box<[usize]>>,
    /// What tells sooner that there is none of them in a text, where there is such a thing.
    any: Vec<Searcher>,
}

/// How many literals one of the searchers has that only tell whether there is any.
const SEARCHER_LITERALS: usize = 48;

/// Notes that a bit is set.
fn set(bits: &mut [u64], index: usize) {
    if let Some(word) = bits.get_mut(index / 64) {
        *word |= 1 << (index % 64);
    }
}

/// Whether a bit is set.
pub(super) fn has(bits: &[u64], index: usize) -> bool {
    bits.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
}

impl Automaton {
    /// The automaton of these literals; `None` when it can't be built.
    fn of(literals: BTreeMap<String, Vec<usize>>, ignores_case: bool) -> Option<Self> {
        if literals.is_empty() {
            return Some(Self::default());
        }
        let size: usize = literals.keys().map(String::len).sum();
        let kind = (size <= FAST_LIMIT).then_some(AhoCorasickKind::DFA);
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .ascii_case_insensitive(ignores_case)
            .kind(kind)
            .build(literals.keys())
            .ok()?;
        let texts: Vec<&String> = literals.keys().collect();
        let any = if ignores_case { None } else { texts.chunks(SEARCHER_LITERALS).map(Searcher::new).collect() };
        let owners = literals.into_values().map(|mut owners| {
            owners.dedup();
            owners.into_boxed_slice()
        });
        Some(Self { search: Some(automaton), owners: owners.collect(), any: any.unwrap_or_default() })
    }

    fn find(&self, text: &[u8], bits: &mut [u64]) {
        let Some(search) = &self.search else { return };
        if !self.any.is_empty() && self.any.iter().all(|any| any.find(text).is_none()) {
            return;
        }
        for found in search.find_overlapping_iter(text) {
            for owner in self.owners.get(found.pattern().as_usize()).into_iter().flatten() {
                set(bits, *owner);
            }
        }
    }
}

impl Candidates {
    /// Those of the patterns of a filter.
    pub(super) fn of_patterns(expressions: &[Expression]) -> Self {
        Self::of(
            expressions.iter().map(|expression| expression.pattern().literals()).enumerate(),
            expressions.len(),
            false,
        )
    }

    /// Those of the filters with these patterns.
    pub(super) fn of_filters<'f>(filters: impl ExactSizeIterator<Item = &'f [Expression]>) -> Self {
        let count = filters.len();
        let literals = filters.enumerate().flat_map(|(filter, expressions)| {
            expressions.iter().map(move |expression| (filter, expression.pattern().literals()))
        });
        Self::of(literals, count, true)
    }

    /// What the literals stand for, of `count`; `as_one` to search all of them regardless of case, in one pass.
    fn of(literals: impl Iterator<Item = (usize, Option<Literals>)>, count: usize, as_one: bool) -> Self {
        let words = count.div_ceil(64);
        let (mut always, mut always_beyond_ascii) = (vec![0; words], vec![0; words]);
        let (mut exact, mut ignoring_case) = (BTreeMap::<_, Vec<_>>::new(), BTreeMap::<_, Vec<_>>::new());
        let mut longest = 0;
        for (owner, literals) in literals {
            let Some(literals) = literals else {
                set(&mut always, owner);
                set(&mut always_beyond_ascii, owner);
                continue;
            };
            if literals.ignores_case {
                set(&mut always_beyond_ascii, owner);
            }
            for text in literals.texts {
                longest = longest.max(text.len());
                if literals.ignores_case || as_one {
                    ignoring_case.entry(text.to_ascii_lowercase()).or_default().push(owner);
                } else {
                    exact.entry(text).or_default().push(owner);
                }
            }
        }
        let (exact, ignoring_case) = (Automaton::of(exact, false), Automaton::of(ignoring_case, true));
        if exact.is_none() || ignoring_case.is_none() {
            (0..count).for_each(|owner| set(&mut always, owner));
            always_beyond_ascii.clone_from(&always);
        }
        Self {
            exact: exact.unwrap_or_default(),
            ignoring_case: ignoring_case.unwrap_or_default(),
            always,
            always_beyond_ascii,
            longest,
        }
    }

    /// What `text` speaks for, into `bits`; whether there is anything.
    pub(super) fn find(&self, text: &str, is_ascii: bool, bits: &mut Vec<u64>) -> bool {
        bits.clear();
        bits.extend_from_slice(if is_ascii { &self.always } else { &self.always_beyond_ascii });
        self.find_more(text.as_bytes(), bits);
        bits.iter().any(|word| *word != 0)
    }

    /// The same for a line without a part of it; `seam` is room for what stands around that part.
    pub(super) fn find_without(
        &self,
        line: &str,
        part: &Range<usize>,
        is_ascii: bool,
        bits: &mut Vec<u64>,
        seam: &mut Vec<u8>,
    ) -> bool {
        bits.clear();
        bits.extend_from_slice(if is_ascii { &self.always } else { &self.always_beyond_ascii });
        self.find_more(&line.as_bytes()[..part.start], bits);
        self.find_more(&line.as_bytes()[part.end..], bits);
        self.find_around(line, part, bits, seam);
        bits.iter().any(|word| *word != 0)
    }

    /// What is in a line without a part of it only because what stands around the part is then together.
    pub(super) fn find_around(&self, line: &str, part: &Range<usize>, bits: &mut [u64], seam: &mut Vec<u8>) {
        let bytes = line.as_bytes();
        if part.start > 0 && part.end < bytes.len() {
            let reach = self.longest.saturating_sub(1);
            seam.clear();
            seam.extend_from_slice(&bytes[part.start.saturating_sub(reach)..part.start]);
            seam.extend_from_slice(&bytes[part.end..bytes.len().min(part.end + reach)]);
            self.find_more(seam, bits);
        }
    }

    /// What `text` speaks for, beside what is in `bits`.
    fn find_more(&self, text: &[u8], bits: &mut [u64]) {
        self.exact.find(text, bits);
        self.ignoring_case.find(text, bits);
    }
}
