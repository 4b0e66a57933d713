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

/// A delay as a person reads it in a line of the log, to a tenth of a second.
pub(super) fn in_seconds(delay: Span) -> String {
    let tenths = (delay.micros() + 50_000) / 100_000;
    match (tenths / 10, tenths % 10) {
        (seconds, 0) => format!("{seconds} s"),
        (seconds, tenth) => format!("{seconds}.{tenth} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SeededRandom;

    #[test]
    fn a_delay_is_told_in_seconds() {
        for (micros, told) in [(0, "0 s"), (7_966_400, "8 s"), (1_830_000, "1.8 s"), (60_000_000, "60 s")] {
            assert_eq!(in_seconds(Span::from_micros(micros)), told);
        }
    }

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
