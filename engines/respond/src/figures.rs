//! Figures of respond for `/metrics`.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use engine::metrics::{MetricsSource, MetricsText};

use crate::act::{Sent, Severity};
use crate::detect::desk::Desk;

/// The figures: what fires, what is owed, and what was sent since the start.
#[derive(Default, Debug)]
pub struct Figures(Mutex<Counts>);

#[derive(Default, Debug)]
struct Counts {
    /// Alerts that fire and follow no other, by severity.
    firing: [u64; 3],
    /// Alerts that fire and follow another.
    following: u64,
    /// Messages that are owed and were not accepted yet.
    owed: u64,
    held: bool,
    /// Attempts by channel and outcome.
    sent: BTreeMap<(String, &'static str), u64>,
}

impl Figures {
    /// Takes what stands now.
    pub(crate) fn stand(&self, desk: &Desk) {
        let (mut firing, mut following) = ([0; 3], 0);
        for alert in desk.alerts.values().filter(|alert| alert.fires()) {
            match alert.follows {
                Some(_) => following += 1,
                None => firing[alert.opening.severity as usize] += 1,
            }
        }
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (counts.firing, counts.following) = (firing, following);
        counts.owed = desk.threads.values().filter(|thread| thread.attempts > 0).count() as u64;
        counts.held = desk.hold.is_some();
    }

    /// Counts the outcome of an attempt.
    pub(crate) fn sent(&self, channel: &str, sent: &Sent) {
        let kind = channel.split('-').next().unwrap_or_default().to_owned();
        let outcome = match sent {
            Sent::Accepted { .. } => "accepted",
            Sent::Again { .. } => "again",
            Sent::Refused { .. } => "refused",
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).sent.entry((kind, outcome)).or_default() += 1;
    }
}

impl MetricsSource for Figures {
    fn write(&self, text: &mut MetricsText) {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut firing = text.gauge("garant_respond_alerts", "", "Alerts that fire and follow no other.");
        for severity in Severity::ALL {
            firing.sample(&[("severity", severity.as_str())], counts.firing[severity as usize]);
        }
        let help = "Alerts that fire and follow another, which is their cause.";
        text.gauge("garant_respond_alerts_following", "", help).sample(&[], counts.following);
        let help = "Messages that a channel did not accept yet.";
        text.gauge("garant_respond_messages_waiting", "", help).sample(&[], counts.owed);
        let help = "Whether messages to customers are held.";
        text.gauge("garant_respond_hold", "", help).sample(&[], u64::from(counts.held));
        let mut sent =
            text.counter("garant_respond_attempts", "", "Attempts to send a message, by what became of them.");
        for ((channel, outcome), count) in &counts.sent {
            sent.sample(&[("channel", channel.as_str()), ("outcome", *outcome)], *count);
        }
    }
}
