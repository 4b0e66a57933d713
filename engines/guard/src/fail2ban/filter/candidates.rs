//! Which patterns a line could match at all, by the literals in it: those of one filter, and the filters of many.

use std::collections::BTreeMap;
use std::ops::Range;

use aho_corasick::packed::Searcher;
use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

use super::super::pattern::Literals;
use super::expression::Expression;
use super::grams::{self, Counts, GRAM, Grams};

/// How many bytes of literals an automaton may have that is as fast as can be; beyond it, it is as small as can be.
const FAST_LIMIT: usize = 32 << 10;

/// Of how many lines some are counted, to know which literals are in the lines of a log.
const COUNTED: u32 = 1 << 10;
/// After how many lines they are counted again.
const COUNTED_AGAIN: u32 = 1 << 20;

/// Literals that stand for patterns or filters, searched at once.
///
/// A pattern has several sets of literals, and one is searched for. Which of them is rarest depends on the log: `GET /` is in
/// every line of some. So it is counted in a few lines, and again in a while.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    sources: Vec<Source>,
    count: usize,
    /// Whether all are searched regardless of case, in one pass.
    is_one_pass: bool,
    /// Lines seen since it was last counted.
    lines: u32,
    exact: Automaton,
    ignoring_case: Automaton,
    /// Of the literals regardless of case those that are long enough, where all are searched in one pass.
    grams: Grams,
    /// What lines had, while it is counted.
    counts: Counts,
    /// What no literal speaks for.
    always: Vec<u64>,
    /// The same for texts beyond ASCII.
    always_beyond_ascii: Vec<u64>,
    /// The longest literal.
    longest: usize,
}

/// A pattern and its literals.
#[derive(Debug)]
struct Source {
    /// What it speaks for.
    owner: usize,
    literals: Option<Literals>,
    /// The set that is searched for.
    chosen: usize,
    /// The lines that had a text of each set, of those that were counted.
    seen: Vec<u32>,
}

impl Source {
    fn chosen(&self) -> Option<(&Literals, &[String])> {
        let literals = self.literals.as_ref()?;
        Some((literals, literals.sets.get(self.chosen)?))
    }

    /// Counts the sets of which a text is in a line.
    fn count(&mut self, line: &str, in_small_letters: &str) {
        let Some(literals) = self.literals.as_ref().filter(|literals| literals.sets.len() > 1) else { return };
        let line = if literals.ignores_case { in_small_letters } else { line };
        for (set, seen) in literals.sets.iter().zip(&mut self.seen) {
            *seen += u32::from(set.iter().any(|text| line.contains(text.as_str())));
        }
    }

    /// Takes the set that was in the fewest lines.
    fn choose(&mut self) {
        self.chosen = (0..self.seen.len()).min_by_key(|set| self.seen[*set]).unwrap_or(0);
        self.seen.fill(0);
    }
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

/// Sets a bit.
pub(super) fn set(bits: &mut [u64], index: usize) {
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
        Self::of(expressions.iter().enumerate(), expressions.len(), false)
    }

    /// Those of the filters with these patterns.
    pub(super) fn of_filters<'f>(filters: impl ExactSizeIterator<Item = &'f [Expression]>) -> Self {
        let count = filters.len();
        let all = filters.enumerate().flat_map(|(filter, of)| of.iter().map(move |expression| (filter, expression)));
        Self::of(all, count, true)
    }

    /// What the literals of expressions stand for, of `count`.
    fn of<'e>(expressions: impl Iterator<Item = (usize, &'e Expression)>, count: usize, is_one_pass: bool) -> Self {
        let sources = expressions.map(|(owner, expression)| {
            let literals = expression.pattern().literals();
            let seen = vec![0; literals.as_ref().map_or(0, |literals| literals.sets.len())];
            Source { owner, literals, chosen: 0, seen }
        });
        let mut candidates = Self { sources: sources.collect(), count, is_one_pass, ..Self::default() };
        candidates.build();
        candidates
    }

    /// Makes the automata of the chosen sets.
    fn build(&mut self) {
        let words = self.count.div_ceil(64);
        let (mut always, mut always_beyond_ascii) = (vec![0; words], vec![0; words]);
        let (mut exact, mut ignoring_case) = (BTreeMap::<_, Vec<_>>::new(), BTreeMap::<_, Vec<_>>::new());
        self.longest = 0;
        for source in &self.sources {
            let Some((literals, texts)) = source.chosen() else {
                set(&mut always, source.owner);
                set(&mut always_beyond_ascii, source.owner);
                continue;
            };
            if literals.ignores_case {
                set(&mut always_beyond_ascii, source.owner);
            }
            for text in texts {
                self.longest = self.longest.max(text.len());
                if literals.ignores_case || self.is_one_pass {
                    ignoring_case.entry(text.to_ascii_lowercase()).or_default().push(source.owner);
                } else {
                    exact.entry(text.clone()).or_default().push(source.owner);
                }
            }
        }
        if self.is_one_pass {
            let long = ignoring_case.extract_if(.., |text, _| text.len() >= GRAM);
            self.grams = Grams::of(long, &self.counts);
        }
        let (exact, ignoring_case) = (Automaton::of(exact, false), Automaton::of(ignoring_case, true));
        if exact.is_none() || ignoring_case.is_none() {
            (0..self.count).for_each(|owner| set(&mut always, owner));
            always_beyond_ascii.clone_from(&always);
        }
        (self.exact, self.ignoring_case) = (exact.unwrap_or_default(), ignoring_case.unwrap_or_default());
        (self.always, self.always_beyond_ascii) = (always, always_beyond_ascii);
    }

    /// Counts the literals of a line, without a part of it, when it is one of those that are counted; chooses by them after the last.
    /// To be called once for each line.
    pub(super) fn note(&mut self, line: &str, part: &Range<usize>) {
        if self.lines < COUNTED {
            // One of eight, and not each eighth: lines of some logs come in turns.
            if self.lines.wrapping_mul(0x9e37_79b1) >> 29 == 0 {
                let line = [&line[..part.start], &line[part.end..]].concat();
                let in_small_letters = line.to_ascii_lowercase();
                self.sources.iter_mut().for_each(|source| source.count(&line, &in_small_letters));
                if self.is_one_pass {
                    grams::count(&line, &mut self.counts);
                }
            }
            if self.lines + 1 == COUNTED {
                self.sources.iter_mut().for_each(Source::choose);
                self.build();
                self.counts = Counts::new();
            }
        }
        self.lines = (self.lines + 1) % COUNTED_AGAIN;
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
        // What is in the part speaks too: that costs less than two searches.
        self.find_more(line.as_bytes(), bits);
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
        self.grams.find(text, bits);
    }
}
