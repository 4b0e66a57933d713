//! Randomness as an argument.

use std::sync::atomic::{AtomicU64, Ordering};

/// A source of random bytes.
pub trait Random: Send + Sync {
    /// Fills `bytes`.
    fn fill(&self, bytes: &mut [u8]);

    /// 64 random bits.
    fn number(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

/// The kernel's generator: good for keys, salts and identifiers.
#[derive(Clone, Copy, Default, Debug)]
pub struct SystemRandom;

impl Random for SystemRandom {
    /// # Panics
    ///
    /// When the kernel has no randomness to give. Linux has, from early boot on; going on without would make guessable
    /// keys, and no caller could do better than fail.
    fn fill(&self, bytes: &mut [u8]) {
        #[expect(clippy::disallowed_methods, reason = "this is the Random that everybody else is told to ask")]
        let filled = getrandom::fill(bytes);
        if let Err(error) = filled {
            panic!("the kernel gives no random bytes ({error}): nothing safe can be done without");
        }
    }
}

/// The same bytes in every run (SplitMix64). For tests only: anybody can guess them.
#[derive(Debug)]
pub struct SeededRandom(AtomicU64);

impl SeededRandom {
    /// A generator that starts from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }
}

impl Random for SeededRandom {
    fn fill(&self, bytes: &mut [u8]) {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        for chunk in bytes.chunks_mut(8) {
            let mut x = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
            x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            chunk.copy_from_slice(&(x ^ (x >> 31)).to_le_bytes()[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_gives_other_bytes_each_time() {
        assert_ne!(SystemRandom.number(), SystemRandom.number());
    }

    #[test]
    fn a_seed_gives_the_same_bytes_each_time() {
        // First output of the reference implementation for the seed 0 (Vigna, splitmix64.c).
        assert_eq!(SeededRandom::new(0).number(), 0xe220_a839_7b1d_cdaf);
        let mut odd = [0; 13];
        SeededRandom::new(7).fill(&mut odd);
        let mut again = [0; 13];
        SeededRandom::new(7).fill(&mut again);
        assert_eq!(odd, again);
    }
}
