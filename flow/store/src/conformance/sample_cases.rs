//! Cases for time series.

use std::collections::BTreeMap;

use event::{Interval, ObserverId, ProbeId, Span, Time};

use super::{ConformanceSubject, START};
use crate::{Bucket, HOURS_KEPT, MINUTES_KEPT, RAW_INTERVAL_MAX, RAW_KEPT, Reading, Resolution, Sample, StoreError};

fn probe(number: u64) -> ProbeId {
    format!("probe-{number}").parse().expect("a name")
}

fn observer(number: u64) -> ObserverId {
    format!("observer-{number}").parse().expect("a name")
}

/// Numbers that look random and are the same every time (Knuth's MMIX generator).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn sample(&mut self, from: Time, over: Span) -> Sample {
        let offset = self.below(over.micros().unsigned_abs());
        Sample {
            probe: probe(self.below(3)),
            observer: observer(self.below(2)),
            at: from + Span::from_micros(offset.cast_signed()),
            took: Span::from_micros(self.below(3_000_000).cast_signed()),
            reading: Reading::ALL[usize::try_from(self.below(4)).expect("small")],
            value: (self.below(2) == 0).then(|| self.below(10_000).cast_signed() - 5_000),
        }
    }
}

/// The buckets of the samples, computed from their definition.
fn model(
    samples: &[Sample],
    probe: &ProbeId,
    observer: Option<&ObserverId>,
    interval: Interval,
    unit: Span,
) -> Vec<Bucket> {
    let mut buckets: BTreeMap<Time, Bucket> = BTreeMap::new();
    for sample in samples {
        let start = Time::from_micros(sample.at.micros().div_euclid(unit.micros()) * unit.micros());
        let asked = sample.probe == *probe && observer.is_none_or(|name| *name == sample.observer);
        if asked && interval.start <= start && start < interval.end {
            let bucket = buckets.entry(start).or_insert_with(|| Bucket { start, ..Bucket::default() });
            bucket.readings[sample.reading as usize] += 1;
            bucket.took.add(sample.took.micros());
            bucket.spread.add(sample.took);
            sample.value.iter().for_each(|value| bucket.value.add(*value));
        }
    }
    buckets.into_values().collect()
}

async fn compare(subject: &ConformanceSubject, samples: &[Sample], when: &str) {
    subject.samples.settle().await.expect("settled");
    let hour = Span::from_secs(3600);
    let wide = Interval::new(START - Span::from_days(3), START + Span::from_days(3));
    let narrow = Interval::new(START + Span::from_secs(1234), START + hour + Span::from_secs(77));
    for interval in [wide, narrow] {
        for of_probe in 0..4 {
            let probe = probe(of_probe);
            for observer in [None, Some(observer(0)), Some(observer(1)), Some(observer(2))] {
                for (resolution, unit) in [(Resolution::Minute, Span::from_secs(60)), (Resolution::Hour, hour)] {
                    let found = subject.samples.range(&probe, observer.as_ref(), interval, resolution).await;
                    let expected = model(samples, &probe, observer.as_ref(), interval, unit);
                    assert_eq!(found.expect("readable"), expected, "{when}: {probe} {observer:?} {resolution:?}");
                }
            }
        }
    }
    // Single samples, of one observer so that their order is defined.
    let found = subject.samples.range(&probe(0), Some(&observer(0)), narrow, Resolution::Raw).await.expect("readable");
    let expected = model(samples, &probe(0), Some(&observer(0)), narrow, Span::from_millis(1));
    assert_eq!(found, expected, "{when}: single samples");
}

pub async fn buckets_equal_the_samples(subject: &ConformanceSubject) {
    let mut numbers = Numbers(1);
    let mut samples: Vec<Sample> = Vec::new();
    let mut known = std::collections::BTreeSet::new();
    let mut record = |subject: &ConformanceSubject, from: Time, over: Span, count: usize, samples: &mut Vec<Sample>| {
        let mut fresh: Vec<_> = (0..count).map(|_| numbers.sample(from, over)).collect();
        fresh.retain(|sample| {
            known.insert((sample.probe.clone(), sample.observer.clone(), sample.at.micros().div_euclid(1000)))
        });
        subject.samples.record(fresh.clone());
        samples.extend(fresh);
    };
    let (second, hour) = (Span::from_secs(1), Span::from_secs(3600));
    record(subject, START - hour, hour, 2_000, &mut samples);
    compare(subject, &samples, "while hours grow").await;
    subject.clock.advance(Span::from_secs(90));
    compare(subject, &samples, "after minutes were rolled up").await;
    record(subject, START - hour, hour, 500, &mut samples);
    compare(subject, &samples, "after samples came late").await;
    for _ in 0..8 {
        record(subject, subject.now() - second, Span::from_secs(1000), 200, &mut samples);
        subject.clock.advance(Span::from_secs(1000));
    }
    compare(subject, &samples, "after hours were rolled up").await;
    record(subject, START - Span::from_days(1), Span::from_days(1), 2_000, &mut samples);
    compare(subject, &samples, "after a day of samples came late").await;
    subject.clock.advance(Span::from_days(1));
    compare(subject, &samples, "a day later").await;
    assert_eq!(subject.journal.health().samples_dropped, 0);
}

pub async fn a_sample_sent_twice_counts_once(subject: &ConformanceSubject) {
    let sample = Numbers(2).sample(START, Span::from_secs(1));
    let again = Sample { reading: Reading::Unknown, took: Span::ZERO, ..sample.clone() };
    for _ in 0..2 {
        subject.samples.record(vec![sample.clone(), sample.clone()]);
        subject.samples.settle().await.expect("settled");
        subject.samples.record(vec![again.clone()]);
        subject.samples.settle().await.expect("settled");
        subject.clock.advance(Span::from_secs(3 * 3600));
    }
    let around = Interval::new(START - Span::from_days(1), START + Span::from_days(1));
    for resolution in [Resolution::Minute, Resolution::Hour] {
        let found = subject.samples.range(&sample.probe, None, around, resolution).await.expect("readable");
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].samples(), found[0].count(sample.reading)), (1, 1), "{resolution:?}");
    }
}

pub async fn unbelievable_times_are_dropped_and_counted(subject: &ConformanceSubject) {
    let now = subject.now();
    let day = Span::from_days(1);
    let at = |at: Time| Sample { at, ..Numbers(3).sample(START, Span::from_secs(1)) };
    let (oldest, newest) = (now - RAW_KEPT + Span::from_millis(1), now + day);
    subject.samples.record(vec![at(oldest), at(newest), at(now - RAW_KEPT), at(newest + Span::from_millis(1))]);
    subject.samples.settle().await.expect("settled");
    assert_eq!(subject.journal.health().samples_dropped, 2);
    let around = Interval::new(now - Span::from_days(9), now + Span::from_days(9));
    let found = subject.samples.range(&at(now).probe, None, around, Resolution::Minute).await.expect("readable");
    assert_eq!(found.iter().map(Bucket::samples).sum::<u64>(), 2);
    let refused = subject.samples.range(&at(now).probe, None, around, Resolution::Raw).await;
    assert!(matches!(refused, Err(StoreError::TooLarge { .. })), "more than {RAW_INTERVAL_MAX} of single samples");
}

pub async fn what_is_old_goes_as_a_whole(subject: &ConformanceSubject) {
    let sample = Numbers(4).sample(START, Span::from_secs(1));
    subject.samples.record(vec![sample.clone()]);
    subject.samples.settle().await.expect("settled");
    let day = Span::from_days(1);
    let around = Interval::new(START - Span::from_secs(3600), START + Span::from_secs(3600));
    let whole = RAW_INTERVAL_MAX.micros() >= around.length().micros();
    assert!(whole, "one read reaches over the sample");
    let there = async || {
        let mut counts = Vec::new();
        for resolution in [Resolution::Raw, Resolution::Minute, Resolution::Hour] {
            counts.push(subject.samples.range(&sample.probe, None, around, resolution).await.expect("readable").len());
        }
        counts
    };
    assert_eq!(there().await, [1, 1, 1]);
    let nothing = subject.samples.expire(START + RAW_KEPT).await.expect("nothing to do");
    assert_eq!(nothing.partitions, 0, "kept until the whole partition is old");
    for (kept, left) in
        [(RAW_KEPT, [0, 1, 1]), (MINUTES_KEPT, [0, 0, 1]), (HOURS_KEPT + Span::from_days(31), [0, 0, 0])]
    {
        subject.clock.advance((START + kept + day).since(subject.now()));
        let expired = subject.samples.expire(subject.now()).await.expect("expired");
        assert!(expired.partitions > 0 && expired.bytes > 0, "{expired:?}");
        assert_eq!(there().await, left, "after {kept}");
    }
}
