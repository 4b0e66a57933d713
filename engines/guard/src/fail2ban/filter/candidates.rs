//! Which patterns a line could match at all, by the literals in it.

use aho_corasick::{AhoCorasick, MatchKind};

use super::expression::Expression;

/// The literals of all patterns of a filter, searched at once.
#[derive(Debug)]
pub(super) struct Candidates {
    automaton: Option<AhoCorasick>,
    /// The patterns that each literal speaks for.
    patterns: Vec<Vec<usize>>,
    /// The patterns that no literal speaks for.
    always: Vec<u64>,
    /// The same for texts beyond ASCII.
    always_beyond_ascii: Vec<u64>,
}

fn set(bits: &mut [u64], index: usize) {
    if let Some(word) = bits.get_mut(index / 64) {
        *word |= 1 << (index % 64);
    }
}

/// Whether a pattern is among those found.
pub(super) fn has(bits: &[u64], index: usize) -> bool {
    bits.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
}

impl Candidates {
    pub(super) fn of(expressions: &[Expression]) -> Self {
        let words = expressions.len().div_ceil(64);
        let mut always = vec![0; words];
        let mut always_beyond_ascii = vec![0; words];
        let mut literals: Vec<String> = Vec::new();
        let mut patterns: Vec<Vec<usize>> = Vec::new();
        for (index, expression) in expressions.iter().enumerate() {
            let Some(found) = expression.pattern().literals() else {
                set(&mut always, index);
                set(&mut always_beyond_ascii, index);
                continue;
            };
            if found.only_ascii {
                set(&mut always_beyond_ascii, index);
            }
            for text in found.texts {
                if let Some(known) = literals.iter().position(|known| *known == text) {
                    patterns[known].push(index);
                } else {
                    literals.push(text);
                    patterns.push(vec![index]);
                }
            }
        }
        let automaton =
            AhoCorasick::builder().match_kind(MatchKind::Standard).ascii_case_insensitive(true).build(&literals).ok();
        if automaton.is_none() {
            (0..expressions.len()).for_each(|index| set(&mut always, index));
        }
        Self { automaton, patterns, always, always_beyond_ascii }
    }

    /// The patterns that `text` could match, into `bits`; whether there is one.
    pub(super) fn find(&self, text: &str, is_ascii: bool, bits: &mut Vec<u64>) -> bool {
        bits.clear();
        bits.extend_from_slice(if is_ascii { &self.always } else { &self.always_beyond_ascii });
        if let Some(automaton) = &self.automaton
            && automaton.patterns_len() > 0
        {
            for found in automaton.find_overlapping_iter(text) {
                for pattern in &self.patterns[found.pattern().as_usize()] {
                    set(bits, *pattern);
                }
            }
        }
        bits.iter().any(|word| *word != 0)
    }
}
