//! Random numbers for tests, reproducible from a seed that a failing test prints.

/// A sequence of numbers that is the same on every machine (SplitMix64; Vigna, splitmix64.c).
#[derive(Clone, Debug)]
pub struct Draws(u64);

impl Draws {
    /// The sequence of the given seed.
    pub const fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// The sequence of `GARANT_SEED`, or of 1. The seed is printed: the harness shows it when the test fails.
    #[expect(clippy::print_stdout, reason = "what the harness of the tests captures")]
    pub fn from_environment() -> Self {
        let seed = std::env::var("GARANT_SEED")
            .map_or(1, |text| text.parse().unwrap_or_else(|_| panic!("GARANT_SEED={text} is no number")));
        println!("GARANT_SEED={seed}");
        Self(seed)
    }

    /// The next number of the sequence.
    pub const fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// A number from 0 to `bound`, without it; 0 when there is none.
    pub fn below<N: TryFrom<u64> + TryInto<u64>>(&mut self, bound: N) -> N {
        let bound: u64 = bound.try_into().unwrap_or(0);
        match N::try_from(self.number() % bound.max(1)) {
            Ok(number) => number,
            Err(_) => unreachable!("it is less than a number of that type"),
        }
    }

    /// True with a probability of `percent`.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One element of `of`, drawn.
    ///
    /// # Panics
    ///
    /// When `of` is empty.
    pub fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_that_of_the_reference() {
        let mut draws = Draws::of(0);
        assert_eq!(draws.number(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(draws.number(), 0x6e78_9e6a_a1b9_65f4);
    }

    #[test]
    fn bounds_hold() {
        let mut draws = Draws::of(7);
        let mut seen = [false; 3];
        for _ in 0..100 {
            seen[draws.below(3_usize)] = true;
            assert!((0..5).contains(&draws.below(5_i64)));
        }
        assert_eq!((seen, draws.below(0_usize), draws.below(-1_i64)), ([true; 3], 0, 0));
    }
}
