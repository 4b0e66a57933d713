//! What the watch knows of itself, in the words of the pages. Engines and pages know nothing of each other, so it is here
//! that one is translated for the other.

use std::sync::Arc;

use ::watch::{Expiry, Figures, Standing};
use engine::metrics::{Source, Text, Value};
use event::{ObserverId, ProbeId, Span};
use store::Reading;
use web::{Phases, ProbeStanding, Probes};

/// What the pages ask the watch.
pub(crate) fn probes(figures: Arc<Figures>) -> Probes {
    let translated = |((probe, observer), standing): ((ProbeId, ObserverId), Standing)| ProbeStanding {
        probe,
        observer,
        state: standing.state,
        at: standing.at,
        took: standing.took,
        value: standing.value,
        phases: phases(standing.phases),
        certificate_expires: standing.certificate.map(Expiry::time),
        text: standing.text,
    };
    Arc::new(move || figures.standings().into_iter().map(translated).collect())
}

fn phases(phases: ::watch::Phases) -> Phases {
    let ::watch::Phases { dns, connect, tls, first_byte, body } = phases;
    let [dns, connect, tls, first_byte, body] =
        [dns, connect, tls, first_byte, body].map(|micros| Span::from_micros(i64::from(micros)));
    Phases { dns, connect, tls, first_byte, body }
}

/// The watch's own counters, for `/metrics`.
pub(crate) struct Watch(pub(crate) Arc<Figures>);

impl Source for Watch {
    fn write(&self, text: &mut Text) {
        let counts = self.0.counts();
        let lanes = u64::try_from(counts.lanes).unwrap_or(u64::MAX);
        text.gauge("garant_watch_lanes", "", "Pairs of probe and observer.").sample(&[], lanes);
        let mut samples = text.counter("garant_watch_samples", "", "Samples by reading; late ones are unknown.");
        for (reading, word) in Reading::ALL.into_iter().zip(["up", "degraded", "down", "unknown"]) {
            samples.sample(&[("reading", word)], counts.samples[reading as usize]);
        }
        let cut_off = u64::try_from(counts.cut_off).unwrap_or(u64::MAX);
        text.gauge("garant_watch_cut_off", "", "Observers whose own way out is dead: no canary answers.")
            .sample(&[], cut_off);
        text.counter("garant_watch_skipped", "", "Turns that were not started: too late, or no room.")
            .sample(&[], counts.skipped);
        text.counter("garant_watch_late_starts", "", "Starts more than 100 ms behind their turn.")
            .sample(&[], counts.late_starts);
        text.gauge("garant_watch_start_delay_max_seconds", "seconds", "The latest start so far, against its turn.")
            .sample(&[], Value::Millionths(counts.lateness_max.micros()));
    }
}
