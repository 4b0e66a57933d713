//! A small histogram of lengths of time, with exponential bounds.

use event::Span;

/// Lengths counted by power of two: the bucket `i` counts those of at least 2^(i+6) µs and less than 2^(i+7) µs, the first
/// also everything shorter (under 128 µs), the last everything longer (over 134 s). A figure read from it is at
/// most a factor of two off, which is enough to draw a distribution; exact extremes are in the [`Tally`](super::Tally) beside it.
/// A count stops at 2³² − 1: ten thousand histograms are held at once when an hour is rolled up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Histogram([u32; Histogram::BUCKETS]);

impl Histogram {
    /// How many buckets there are.
    pub const BUCKETS: usize = 22;
    const FIRST_EXPONENT: u32 = 6;

    /// Counts one more length.
    pub fn add(&mut self, took: Span) {
        let micros = u64::try_from(took.micros()).unwrap_or(0).max(1);
        let bucket = micros.ilog2().saturating_sub(Self::FIRST_EXPONENT) as usize;
        let count = &mut self.0[bucket.min(Self::BUCKETS - 1)];
        *count = count.saturating_add(1);
    }

    /// Adds the counts of another histogram.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine = mine.saturating_add(theirs);
        }
    }

    /// The counts with the length below which each bucket lies; the last has no such bound.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<Span>, u64)> {
        let last = Self::BUCKETS - 1;
        let bounds = (0u32..).map(|bucket| Span::from_micros(1 << (bucket + Self::FIRST_EXPONENT + 1)));
        let bounds = bounds.take(last).map(Some).chain(std::iter::once(None));
        bounds.zip(self.0.map(u64::from))
    }

    /// A length that at least `share` per thousand of the counted ones stay below, rounded up to a power of two; `None` when
    /// nothing was counted.
    pub fn quantile(&self, per_thousand: u64) -> Option<Span> {
        let total: u64 = self.0.iter().copied().map(u64::from).sum();
        let wanted = (total * per_thousand).div_ceil(1000).max(1);
        let mut seen = 0;
        (total > 0).then_some(())?;
        self.0.iter().zip(0u32..).find_map(|(count, i)| {
            seen += u64::from(*count);
            (seen >= wanted).then(|| Span::from_micros(1 << (i + Self::FIRST_EXPONENT + 1)))
        })
    }

    /// Compact bytes: (bucket, count) pairs of the buckets that are not empty, each count as LEB128.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (bucket, count) in (0u8..).zip(self.0).filter(|(_, count)| *count > 0) {
            bytes.push(bucket);
            let mut rest = u64::from(count);
            while rest >= 0x80 {
                bytes.push(low_seven_bits(rest) | 0x80);
                rest >>= 7;
            }
            bytes.push(low_seven_bits(rest));
        }
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote; `None` for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut histogram = Self::default();
        let mut rest = bytes.iter();
        while let Some(&bucket) = rest.next() {
            let mut count = 0u64;
            for shift in (0..64).step_by(7) {
                let byte = *rest.next()?;
                count |= u64::from(byte & 0x7f) << shift;
                if byte < 0x80 {
                    break;
                }
            }
            *histogram.0.get_mut(usize::from(bucket))? = u32::try_from(count).unwrap_or(u32::MAX);
        }
        Some(histogram)
    }
}

const fn low_seven_bits(number: u64) -> u8 {
    number.to_le_bytes()[0] & 0x7f
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_fall_between_their_bounds() {
        for micros in [0, 1, 127, 128, 255, 256, 1_000, 999_999, 134_217_727, 134_217_728, i64::MAX] {
            let mut histogram = Histogram::default();
            histogram.add(Span::from_micros(micros));
            let mut lower = 0;
            for (below, count) in histogram.buckets() {
                let upper = below.map_or(i64::MAX, Span::micros);
                let inside = (lower..upper).contains(&micros) || (below.is_none() && micros == i64::MAX);
                assert_eq!(count, u64::from(inside), "{micros} µs in [{lower}, {upper})");
                lower = upper;
            }
        }
    }

    #[test]
    fn bytes_hold_all_of_it() {
        let mut histogram = Histogram::default();
        assert_eq!(Histogram::from_bytes(&histogram.to_bytes()), Some(histogram));
        for i in 0..5_000 {
            histogram.add(Span::from_micros(i * i * 7));
        }
        assert_eq!(Histogram::from_bytes(&histogram.to_bytes()), Some(histogram));
        for broken in [&[1u8][..], &[200, 1], &[0, 0x80]] {
            assert_eq!(Histogram::from_bytes(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn a_quantile_is_less_than_a_factor_of_two_above() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(500), None);
        for millis in 1..=1000 {
            histogram.add(Span::from_millis(millis));
        }
        for (per_thousand, truth) in [(1, 1_000), (500, 500_000), (990, 990_000), (1000, 1_000_000)] {
            let read = histogram.quantile(per_thousand).expect("not empty").micros();
            assert!(truth < read && read <= 2 * truth, "{per_thousand} ‰: {read} for {truth}");
        }
    }
}
