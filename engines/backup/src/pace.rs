//! A bound on what is read in a second, by all who share it.

use engine::CancellationToken;
use event::Span;

/// Bytes a second: a disk, or a provider, has other things to do.
const BYTES_PER_SECOND: u64 = 32 * 1024 * 1024;
/// What is read in less than that, in microseconds, is waited for later, with the rest.
const WAITED_MIN: u64 = 100_000;

/// A bound on what is read in a second; and the end of it, when everybody is to stop.
#[derive(Debug)]
pub(crate) struct Pace {
    /// For how long nobody has waited yet, in microseconds.
    owed: tokio::sync::Mutex<u64>,
    stop: CancellationToken,
}

impl Pace {
    /// One that ends with `stop`.
    pub(crate) fn new(stop: CancellationToken) -> Self {
        Self { owed: tokio::sync::Mutex::default(), stop }
    }

    /// Waits for as long as so many bytes, which were read just now, may take.
    pub(crate) async fn after(&self, bytes: u64) {
        let mut owed = self.owed.lock().await;
        *owed = owed.saturating_add(bytes.saturating_mul(1_000_000) / BYTES_PER_SECOND);
        if *owed < WAITED_MIN {
            return;
        }
        let span = Span::from_micros(i64::try_from(std::mem::take(&mut *owed)).unwrap_or(i64::MAX));
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep(span.to_std()) => {}
        }
    }

    /// Whether everybody is to stop.
    pub(crate) fn has_ended(&self) -> bool {
        self.stop.is_cancelled()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_more_is_read_than_may_be() {
        let stop = CancellationToken::new();
        let pace = Pace::new(stop.clone());
        let clock = engine::clock::SimClock::starting_at(event::Time::from_secs(0));
        for _ in 0..1000 {
            pace.after(BYTES_PER_SECOND / 100).await;
        }
        let took = event::Clock::now(&clock).since(event::Time::from_secs(0));
        assert!((Span::from_secs(9)..=Span::from_secs(11)).contains(&took), "{took:?}");
        stop.cancel();
        pace.after(u64::MAX / 2_000_000).await;
        assert!(pace.has_ended());
    }
}
