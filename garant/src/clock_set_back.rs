//! Journals that the clock was set back while nothing ran.
//!
//! Called by `garant up` and `garant log rotate` before they record anything else. The last entry is the only evidence of the step:
//! after another one, the log would be dated backwards for no reason, and the same time would be covered twice, once by an
//! observer that did not look. So there is an entry **for every vantage point here**, those of the observers of the policy
//! in effect and of the one before, and not for that of the process alone: evidence is judged for each vantage point.

use std::collections::BTreeSet;

use engine::{Clock, Recorder};
use event::engine::ClockStepped;
use event::policy::Applied;
use event::{ObserverId, Time};
use notary::log;
use store::Read;

use crate::failure::Failure;

/// Journals the step if the clock stands before the last entry; `applied` is the policy about to be in effect. False when a part
/// of it is not durable yet.
pub(crate) async fn journal(
    recorder: &Recorder,
    clock: &dyn Clock,
    store: &dyn Read,
    applied: &Applied,
) -> Result<bool, Failure> {
    let Some(stepped) = step(clock.now(), log::last_recorded(store).await?) else { return Ok(true) };
    tracing::warn!(
        "the clock was set back while nothing ran: it shows {}, and the last entry was recorded at {}. The time between is unproven; \
         what began in it is shown as beginning now",
        stepped.to,
        stepped.from,
    );
    let before = log::last_applied(store).await?;
    let mut durable = true;
    for observer in observers(recorder.observer(), [Some(applied), before.as_ref()]) {
        let recorded = recorder.for_observer(observer).record(&stepped).await;
        let recorded =
            recorded.map_err(|error| Failure::new("that the clock was set back can't be journaled").because(&error))?;
        durable &= recorded.is_durable();
    }
    Ok(durable)
}

fn step(now: Time, last: Option<Time>) -> Option<ClockStepped> {
    last.filter(|last| now < *last).map(|from| ClockStepped { from, to: now })
}

/// One observer of each vantage point: the process for its own, and for each of the others the first that looks from there
/// in one of the policies.
fn observers(process: &ObserverId, policies: [Option<&Applied>; 2]) -> Vec<ObserverId> {
    let probes = policies.into_iter().flatten().flat_map(|applied| &applied.probes);
    let mut vantages = BTreeSet::new();
    let all = [process].into_iter().chain(probes.flat_map(|probe| probe.observers.iter()));
    all.filter(|observer| vantages.insert(observer.vantage())).cloned().collect()
}

#[cfg(test)]
mod tests {
    use engine::Random as _;
    use engine::clock::SystemClock;
    use engine::random::SystemRandom;
    use event::policy::{Agreement, Probe};
    use event::{BootId, Envelope, Span};
    use store::conformance::{ManualClock, ORIGIN, signing_key};
    use store::sqlite::{Sqlite, SqliteOptions};

    use super::*;

    fn seen_by(vantage: &str) -> Applied {
        let vantage: event::VantageId = vantage.parse().expect("a name");
        let probe = Probe {
            id: "front".parse().expect("a name"),
            kind: "http".into(),
            service: "shop".parse().expect("a name"),
            every: Span::from_secs(10),
            observers: ["guard", "watch"].map(|engine| vantage.observer(engine)).into(),
            agreement: Agreement::Majority,
        };
        let (services, findings, maintenance, promises) = (vec![], vec![], vec![], vec![]);
        Applied { revision: vantage.to_string(), services, probes: vec![probe], findings, maintenance, promises }
    }

    /// An hour back is journaled for every vantage point of both policies; an hour forward for none.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_vantage_point_says_so() {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = ManualClock::at(SystemClock.now());
        let store = Sqlite::open(SqliteOptions {
            dir: folder.path().to_owned(),
            origin: ORIGIN.to_owned(),
            observer: log::server_observer("store").expect("a name"),
            signers: vec![signing_key(1)],
            remembered: Vec::new(),
            continues: None,
            clock: clock.clone(),
        })
        .expect("a new log");
        let mut boot = [0; 16];
        SystemRandom.fill(&mut boot);
        let observer = log::server_observer("supervisor").expect("a name");
        let recorder = Recorder::new(store.clone(), observer, BootId::from_bytes(boot), clock.clone());
        recorder.record(&seen_by("before")).await.expect("recorded");
        let (size, now) = (store.head().await.expect("a head").size, clock.now());
        let later = ManualClock::at(now + Span::from_secs(3600));
        assert!(journal(&recorder, later.as_ref(), store.as_ref(), &seen_by("local")).await.expect("journaled"));
        assert_eq!(store.head().await.expect("a head").size, size, "no step back");

        let earlier = ManualClock::at(now - Span::from_secs(3600));
        assert!(journal(&recorder, earlier.as_ref(), store.as_ref(), &seen_by("local")).await.expect("journaled"));
        let entries = store.entries(size..size + 9).await.expect("entries");
        let journaled: BTreeSet<String> = entries
            .into_iter()
            .map(|entry| Envelope::decode(&entry.payload.expect("a payload").bytes).expect("an envelope"))
            .filter(|envelope| envelope.body::<ClockStepped>().is_some_and(|body| body.is_ok_and(|s| s.from == now)))
            .map(|envelope| envelope.observer.to_string())
            .collect();
        assert_eq!(journaled, ["before.guard", "local.guard", "server.supervisor"].map(str::to_owned).into());
    }
}
