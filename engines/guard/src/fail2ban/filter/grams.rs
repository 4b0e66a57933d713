//! Many literals searched in a line at once, regardless of case: those of all filters of a log.
//!
//! Of each literal four characters in a row stand for it, those that lines have least often. A line is walked once, and each four
//! of its characters are looked for in a table of bits that fits into the first cache; what is found there is compared whole. An
//! automaton of as many literals would leave the caches at every other character.

use std::collections::HashMap;

use super::candidates::set;

/// How many characters stand for a literal. A shorter one can't be searched for here.
pub(super) const GRAM: usize = 4;
/// How many bits the table has, as a power of two.
const TABLE: u32 = 16;

/// How often each four characters were in lines.
pub(super) type Counts = HashMap<u32, u32>;

/// A literal and the four characters that stand for it.
#[derive(Debug)]
struct Literal {
    text: Box<[u8]>,
    /// Where the four characters are in it.
    at: usize,
    /// What it speaks for.
    owners: Box<[usize]>,
}

/// The literals.
#[derive(Default, Debug)]
pub(super) struct Grams {
    /// A bit for each value of [`hash`] that a literal has.
    table: Vec<u64>,
    /// The literals of four characters, by their place.
    literals_of: HashMap<u32, Vec<usize>>,
    literals: Vec<Literal>,
}

/// Four characters, the same in capitals and small letters. Some others are the same, too, which is no harm.
fn gram(characters: [u8; GRAM]) -> u32 {
    u32::from_le_bytes(characters) | 0x2020_2020
}

fn grams(text: &[u8]) -> impl Iterator<Item = u32> + '_ {
    text.windows(GRAM).filter_map(|window| window.first_chunk().copied().map(gram))
}

const fn hash(gram: u32) -> usize {
    (gram.wrapping_mul(0x9e37_79b1) >> (32 - TABLE)) as usize
}

/// Counts the characters of a line.
pub(super) fn count(line: &str, counts: &mut Counts) {
    for gram in grams(line.as_bytes()) {
        *counts.entry(gram).or_default() += 1;
    }
}

impl Grams {
    /// The literals, each of [`GRAM`] characters at least, with what they speak for.
    pub(super) fn of(literals: impl Iterator<Item = (String, Vec<usize>)>, counts: &Counts) -> Self {
        let mut found = Self { table: vec![0; (1 << TABLE) / 64], ..Self::default() };
        for (text, mut owners) in literals {
            owners.dedup();
            let text = text.into_bytes();
            let how_often = |(_, gram): &(usize, u32)| counts.get(gram).copied().unwrap_or(0);
            let Some((at, gram)) = grams(&text).enumerate().min_by_key(how_often) else { continue };
            set(&mut found.table, hash(gram));
            found.literals_of.entry(gram).or_default().push(found.literals.len());
            found.literals.push(Literal { text: text.into(), at, owners: owners.into() });
        }
        found
    }

    /// Sets the bits of what the literals in a text speak for.
    pub(super) fn find(&self, text: &[u8], bits: &mut [u64]) {
        if self.literals.is_empty() {
            return;
        }
        for (place, gram) in grams(text).enumerate() {
            let hash = hash(gram);
            if self.table.get(hash / 64).is_some_and(|word| word >> (hash % 64) & 1 == 1) {
                self.compare(gram, text, place, bits);
            }
        }
    }

    /// Sets the bits of the literals that have these four characters at a place of a text.
    #[inline(never)]
    fn compare(&self, gram: u32, text: &[u8], place: usize, bits: &mut [u64]) {
        let literals = self.literals_of.get(&gram).into_iter().flatten().filter_map(|at| self.literals.get(*at));
        for Literal { text: literal, at, owners } in literals {
            let start = place.checked_sub(*at);
            let here = start.and_then(|start| text.get(start..start + literal.len()));
            if here.is_some_and(|here| here.eq_ignore_ascii_case(literal)) {
                owners.iter().for_each(|owner| set(bits, *owner));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use drawn::Draws;

    use super::*;

    fn drawn(draws: &mut Draws, most: usize) -> String {
        let length = draws.below(most);
        (0..length).map(|_| draws.pick(&['a', 'B', 'b', ' ', '@', '`', '[', '{', '1', '\u{e9}'])).collect()
    }

    #[test]
    fn what_is_found_is_what_is_there() {
        let mut draws = Draws::from_environment();
        for _ in 0..300 {
            let literals: Vec<(String, Vec<usize>)> = (0..20)
                .map(|owner| (format!("{}ab 1", drawn(&mut draws, 5)).to_ascii_lowercase(), vec![owner]))
                .collect();
            let mut counts = Counts::new();
            count(&drawn(&mut draws, 80), &mut counts);
            let grams = Grams::of(literals.iter().cloned(), &counts);
            for _ in 0..20 {
                let literal = draws.pick(&literals).0;
                let line =
                    format!("{}{}{}", drawn(&mut draws, 30), literal.to_ascii_uppercase(), drawn(&mut draws, 30));
                let mut bits = [0];
                grams.find(line.as_bytes(), &mut bits);
                let small = line.to_ascii_lowercase();
                for (text, owner) in &literals {
                    let is_found = bits[0] >> owner[0] & 1 == 1;
                    assert_eq!(is_found, small.contains(text.as_str()), "{text:?} in {line:?}");
                }
            }
        }
    }
}
