//! Half-open spans of time and sets of them.

use serde::{Deserialize, Serialize};

use crate::{Span, Time};

/// From `start` (included) to `end` (not included).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Debug)]
pub struct Interval {
    /// First instant inside.
    pub start: Time,
    /// First instant after.
    pub end: Time,
}

impl Interval {
    /// The interval `[start, end)`; empty when `end` is not after `start`.
    pub const fn new(start: Time, end: Time) -> Self {
        Self { start, end }
    }

    /// How long it is; never negative.
    pub fn length(self) -> Span {
        if self.is_empty() { Span::ZERO } else { self.end.since(self.start) }
    }

    /// Whether no instant is inside.
    pub fn is_empty(self) -> bool {
        self.end <= self.start
    }

    /// The instants in both.
    #[must_use]
    pub fn intersect(self, other: Self) -> Self {
        Self { start: self.start.max(other.start), end: self.end.min(other.end) }
    }
}

/// A set of instants as sorted, disjoint, non-touching intervals.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug, Default)]
#[serde(transparent)]
pub struct Spans(Vec<Interval>);

impl Spans {
    /// The empty set.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The intervals, in order.
    pub fn intervals(&self) -> &[Interval] {
        &self.0
    }

    /// Whether no instant is inside.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds the instants of `interval`. Constant time when it comes after all others, as it nearly always does.
    pub fn add(&mut self, interval: Interval) {
        if interval.is_empty() {
            return;
        }
        match self.0.last_mut() {
            None => {
                // Most sets have one interval: no room for more is taken beforehand.
                self.0.reserve_exact(1);
                self.0.push(interval);
            }
            Some(last) if interval.start > last.end => self.0.push(interval),
            Some(last) if interval.start >= last.start => last.end = last.end.max(interval.end),
            Some(_) => self.add_inside(interval),
        }
    }

    fn add_inside(&mut self, interval: Interval) {
        let first = self.0.partition_point(|i| i.end < interval.start);
        let after = self.0.partition_point(|i| i.start <= interval.end);
        let merged =
            self.0[first..after].iter().fold(interval, |m, i| Interval::new(m.start.min(i.start), m.end.max(i.end)));
        self.0.splice(first..after, [merged]);
    }

    /// The instants in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        if self.0.is_empty() || other.0.is_empty() {
            return if self.0.is_empty() { other.clone() } else { self.clone() };
        }
        let (mut i, mut j) = (0, 0);
        let mut out = Self(Vec::with_capacity(self.0.len() + other.0.len()));
        loop {
            let next = match (self.0.get(i), other.0.get(j)) {
                (None, None) => return out,
                (Some(a), Some(b)) if a.start <= b.start => (*a, &mut i),
                (Some(a), None) => (*a, &mut i),
                (_, Some(b)) => (*b, &mut j),
            };
            out.add(next.0);
            *next.1 += 1;
        }
    }

    /// The instants in both.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        let (mut i, mut j) = (0, 0);
        let mut out = Self::new();
        while let (Some(a), Some(b)) = (self.0.get(i), other.0.get(j)) {
            out.add(a.intersect(*b));
            if a.end < b.end { i += 1 } else { j += 1 }
        }
        out
    }

    /// The instants of `within` that are not in this set.
    #[must_use]
    pub fn complement(&self, within: Interval) -> Self {
        let mut out = Self::new();
        let mut from = within.start;
        let first = self.0.partition_point(|i| i.end <= within.start);
        for interval in &self.0[first..] {
            if interval.start >= within.end {
                break;
            }
            out.add(Interval::new(from, interval.start.min(within.end)));
            from = from.max(interval.end);
        }
        out.add(Interval::new(from, within.end));
        out
    }

    /// The instants of this set that are not in `other`.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        if other.0.is_empty() {
            return self.clone();
        }
        let mut out = Self::new();
        let mut others = &other.0[..];
        for interval in &self.0 {
            let mut from = interval.start;
            others = &others[others.iter().take_while(|o| o.end <= from).count()..];
            for other in others.iter().take_while(|o| o.start < interval.end) {
                out.add(Interval::new(from, other.start));
                from = other.end;
            }
            out.add(Interval::new(from, interval.end));
        }
        out
    }

    /// The part of this set inside `within`.
    #[must_use]
    pub fn clip(&self, within: Interval) -> Self {
        let mut clipped = Self(self.touching(within).to_vec());
        clipped.cut(within);
        clipped
    }

    /// What of each interval is inside `within`, without a set of its own.
    pub fn inside(&self, within: Interval) -> impl Iterator<Item = Interval> {
        self.touching(within).iter().map(move |i| i.intersect(within))
    }

    /// The intervals of which a part is inside `within`, whole.
    fn touching(&self, within: Interval) -> &[Interval] {
        let first = self.0.partition_point(|i| i.end <= within.start);
        let after = self.0.partition_point(|i| i.start < within.end);
        &self.0[first.min(after)..after]
    }

    /// Removes what is not inside `within`.
    pub fn cut(&mut self, within: Interval) {
        if within.is_empty() {
            return self.0.clear();
        }
        self.0.truncate(self.0.partition_point(|i| i.start < within.end));
        self.0.drain(..self.0.partition_point(|i| i.end <= within.start));
        if let Some(first) = self.0.first_mut() {
            first.start = first.start.max(within.start);
        }
        if let Some(last) = self.0.last_mut() {
            last.end = last.end.min(within.end);
        }
    }

    /// Removes each interval that is neither the first nor reaches `before`; the others stay whole.
    pub fn drain_between_first_and(&mut self, before: Time) {
        let reaching = self.0.partition_point(|i| i.end < before);
        self.0.drain(1.min(reaching)..reaching);
    }

    /// Whether the instant is inside.
    pub fn contains(&self, time: Time) -> bool {
        let after = self.0.partition_point(|i| i.start <= time);
        after > 0 && time < self.0[after - 1].end
    }

    /// The sum of the lengths.
    pub fn length(&self) -> Span {
        self.0.iter().fold(Span::ZERO, |sum, i| sum + i.length())
    }
}

impl FromIterator<Interval> for Spans {
    fn from_iter<I: IntoIterator<Item = Interval>>(intervals: I) -> Self {
        let mut spans = Self::new();
        for interval in intervals {
            spans.add(interval);
        }
        spans
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(pairs: &[(i64, i64)]) -> Spans {
        pairs.iter().map(|&(a, b)| Interval::new(Time::from_micros(a), Time::from_micros(b))).collect()
    }

    /// Every operation against the same operation on a plain array of booleans, for every pair of small sets.
    #[test]
    fn operations_agree_with_sets_of_instants() {
        const N: i64 = 6;
        let as_spans = |bits: u32| {
            // Added from the last to the first, so that the slow path is the one tested.
            (0..N)
                .rev()
                .filter(|i| bits & (1 << i) != 0)
                .map(|i| Interval::new(Time::from_micros(i), Time::from_micros(i + 1)))
                .collect::<Spans>()
        };
        let as_bits = |s: &Spans| (0..N).filter(|&i| s.contains(Time::from_micros(i))).fold(0u32, |b, i| b | (1 << i));
        let all = Interval::new(Time::from_micros(0), Time::from_micros(N));
        let mask = (1 << N) - 1;
        for a in 0..=mask {
            let sa = as_spans(a);
            assert_eq!(as_bits(&sa), a);
            assert_eq!(as_bits(&sa.complement(all)), !a & mask);
            assert_eq!(sa.length().micros(), i64::from(a.count_ones()));
            for b in 0..=mask {
                let sb = as_spans(b);
                assert_eq!(as_bits(&sa.union(&sb)), a | b);
                assert_eq!(as_bits(&sa.intersect(&sb)), a & b);
                assert_eq!(as_bits(&sa.minus(&sb)), a & !b);
                assert_eq!(sa.minus(&sb), as_spans(a & !b));
                assert_eq!(sa.union(&sb), as_spans(a | b));
                for window in sa.union(&sb).intervals().windows(2) {
                    assert!(window[0].end < window[1].start, "disjoint and not touching");
                }
            }
        }
    }

    #[test]
    fn clip_keeps_what_is_inside() {
        let s = spans(&[(0, 10), (20, 30)]);
        let clipped = s.clip(Interval::new(Time::from_micros(5), Time::from_micros(25)));
        assert_eq!(clipped, spans(&[(5, 10), (20, 25)]));
        for (start, end) in (0..35).flat_map(|start| (start..35).map(move |end| (start, end))) {
            let within = Interval::new(Time::from_micros(start), Time::from_micros(end));
            let mut cut = s.clone();
            cut.cut(within);
            assert_eq!(cut, s.clip(within), "{within:?}");
            assert_eq!(cut, s.inside(within).collect(), "{within:?}");
            assert_eq!(cut, s.intersect(&[within].into_iter().collect()), "{within:?}");
        }
    }
}
