//! The numbers taken in one run of an observer, in a space that does not grow with them.
//!
//! An observer counts its events, so nearly all of them are one range. What makes another is a hole: a number on its way, one
//! that was given to an event and never sent, or one that was lost at the bound of a queue.

/// Most holes that are remembered. The oldest is given up first: its numbers count as taken, so that nothing is ever taken
/// twice. What is still on its way is among the newest, and overtaken by far fewer than these.
pub const HOLES_MAX: usize = 1024;

/// The numbers taken so far. Stores keep one for each (observer, boot).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Numbers {
    /// First and last of each range, from the lowest to the highest; between two there is a hole.
    ranges: Vec<(u64, u64)>,
}

impl Numbers {
    /// Takes a number. Returns whether it is new: not taken before, nor in a hole that was given up.
    pub fn take(&mut self, number: u64) -> bool {
        // Ranges before this place begin at or below the number.
        let place = self.ranges.partition_point(|(first, _)| *first <= number);
        let before = place.checked_sub(1);
        if before.is_some_and(|before| number <= self.ranges[before].1) {
            return false;
        }
        let follows = before.filter(|&before| self.ranges[before].1 + 1 == number);
        let precedes = self.ranges.get(place).is_some_and(|(first, _)| number + 1 == *first);
        match (follows, precedes) {
            (Some(before), true) => {
                self.ranges[before].1 = self.ranges[place].1;
                self.ranges.remove(place);
            }
            (Some(before), false) => self.ranges[before].1 = number,
            (None, true) => self.ranges[place].0 = number,
            (None, false) => self.ranges.insert(place, (number, number)),
        }
        if self.ranges.len() > HOLES_MAX + 1 {
            self.ranges[1].0 = self.ranges[0].0;
            self.ranges.remove(0);
        }
        true
    }

    /// The bytes to store: first and last of each range, little-endian.
    pub(crate) fn encode(&self) -> Vec<u8> {
        self.ranges.iter().flat_map(|(first, last)| [first.to_le_bytes(), last.to_le_bytes()]).flatten().collect()
    }

    /// The numbers from stored bytes; `None` when they are damaged.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (numbers, rest) = bytes.as_chunks::<8>();
        let (pairs, odd) = numbers.as_chunks::<2>();
        let ranges: Vec<_> =
            pairs.iter().map(|[first, last]| (u64::from_le_bytes(*first), u64::from_le_bytes(*last))).collect();
        let ordered = ranges.iter().all(|(first, last)| first <= last)
            && ranges.windows(2).all(|pair| pair[0].1 < pair[1].0 && pair[1].0 - pair[0].1 > 1);
        (rest.is_empty() && odd.is_empty() && ordered).then_some(Self { ranges })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use drawn::Draws;

    use super::*;

    #[test]
    fn each_number_is_taken_once() {
        let mut draws = Draws::from_environment();
        for _ in 0..200 {
            let (mut numbers, mut model) = (Numbers::default(), BTreeSet::new());
            for _ in 0..200 {
                let number = if draws.below(20) == 0 { u64::MAX - draws.below(3) } else { draws.below(150) };
                assert_eq!(numbers.take(number), model.insert(number), "{number} of {numbers:?}");
                assert_eq!(Numbers::decode(&numbers.encode()), Some(numbers.clone()));
            }
        }
    }

    #[test]
    fn in_order_they_are_one_range_and_holes_are_bounded() {
        let mut numbers = Numbers::default();
        assert!((0..100_000).all(|number| numbers.take(number)));
        assert_eq!(numbers.encode().len(), 16);
        assert!((100_000..200_000).step_by(2).skip(1).all(|number| numbers.take(number)));
        assert_eq!(numbers.ranges.len(), HOLES_MAX + 1);
        assert!((0..200_000).step_by(2).all(|number| number == 100_000 || !numbers.take(number)), "no longer");
    }

    #[test]
    fn what_is_damaged_is_not_read() {
        let encode = |numbers: &[u64]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<_>>();
        for damaged in [&[1][..], &[2, 1], &[5, 6, 1, 2], &[1, 2, 3, 4], &[1, 3, 2, 4]] {
            assert_eq!(Numbers::decode(&encode(damaged)), None, "{damaged:?}");
        }
        assert_eq!(Numbers::decode(&[0; 15]), None);
    }
}
