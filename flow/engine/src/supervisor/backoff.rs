//! The delay before the next attempt of an engine.

use event::Span;

use crate::Random;

/// Delay after the first failure.
const FIRST: Span = Span::from_secs(1);

/// Longest delay.
const MAX: Span = Span::from_secs(60);

/// An engine that ran for this long was well: its next failure counts as the first.
pub(super) const HEALTHY_AFTER: Span = Span::from_secs(120);

/// The delay after `failures` failures in a row, shortened by up to a fifth at random.
pub(super) fn delay(failures: u32, random: &dyn Random) -> Span {
    let doublings = failures.saturating_sub(1).min(16);
    let full = (FIRST.micros() << doublings).min(MAX.micros());
    let off = i64::try_from(random.number() % 1000).unwrap_or(0);
    Span::from_micros(full - full / 5 * off / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SeededRandom;

    #[test]
    fn it_doubles_up_to_a_minute_and_is_never_the_same() {
        let random = SeededRandom::new(1);
        for (failures, full_s) in [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (8, 60), (u32::MAX, 60)] {
            let delays: Vec<Span> = (0..100).map(|_| delay(failures, &random)).collect();
            let full = Span::from_secs(full_s).micros();
            assert!(delays.iter().all(|d| d.micros() <= full && d.micros() >= full * 4 / 5), "{failures}: {delays:?}");
            assert!(delays.iter().any(|d| d != &delays[0]), "{failures}: no jitter");
        }
    }
}
