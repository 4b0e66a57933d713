//! The policy and the verdicts that are published beside the tree of a certain size, read from the store: see
//! [`journal::listing`].
//!
//! Only entries of a few kinds matter, and the leaves name the kind. Going forward, the payloads of those are opened. At the start
//! the search goes backwards: the policy in effect is journaled again each day and so is every verdict, so it ends within a day
//! or two of the newest entry, whatever the age of the log.

use std::collections::BTreeSet;

use engine::Progress;
use event::promise::Verdict;
use event::{Envelope, PromiseId};
use journal::leaf::Leaf;
use journal::listing::Listing;
use store::{RANGE_MAX, Read, Select, StoreError};

/// The list beside the first `size` entries.
#[derive(Default)]
pub(crate) struct Listed {
    pub(crate) listing: Listing,
    size: u64,
}

/// An entry of a kind that the list is made of.
struct ListedEntry {
    sequence: u64,
    coarse: String,
    /// `None` when its payload is destroyed.
    envelope: Option<Envelope>,
}

impl ListedEntry {
    fn tell(&self, listing: &mut Listing) {
        match &self.envelope {
            Some(envelope) => listing.take(self.sequence, envelope),
            None => listing.lose(&self.coarse),
        }
    }
}

impl Listed {
    /// The list as of the first `size` entries.
    pub(crate) async fn at(journal: &dyn Read, size: u64, progress: &Progress) -> Result<Self, StoreError> {
        let mut newest_first = Vec::new();
        let mut search = Search::default();
        let mut end = size;
        while end > 0 && !search.is_over() {
            let start = end.saturating_sub(RANGE_MAX);
            for found in concerned(journal, start, end).await?.into_iter().rev() {
                if !search.is_over() {
                    search.see(&found);
                    newest_first.push(found);
                }
            }
            progress.tick();
            end = start;
        }
        let mut listing = Listing::new();
        newest_first.iter().rev().for_each(|found| found.tell(&mut listing));
        Ok(Self { listing, size })
    }

    /// Advances the list to the first `size` entries.
    pub(crate) async fn advance(
        &mut self,
        journal: &dyn Read,
        size: u64,
        progress: &Progress,
    ) -> Result<(), StoreError> {
        while self.size < size {
            let end = size.min(self.size + RANGE_MAX);
            for found in concerned(journal, self.size, end).await? {
                found.tell(&mut self.listing);
            }
            progress.tick();
            self.size = end;
        }
        Ok(())
    }
}

/// The entries from `start` to `end` that the list is made of.
async fn concerned(journal: &dyn Read, start: u64, end: u64) -> Result<Vec<ListedEntry>, StoreError> {
    let entries = journal.select_all(start..end, &Select::Kinds(Listing::KINDS.to_vec())).await?;
    let found = entries.into_iter().filter_map(|entry| {
        let coarse = Leaf::parse(&entry.leaf).ok()?.coarse;
        let envelope = entry.payload.and_then(|payload| Envelope::decode(&payload.bytes).ok());
        Some(ListedEntry { sequence: entry.sequence, coarse, envelope })
    });
    Ok(found.collect())
}

/// The state of the search backwards.
#[derive(Default)]
struct Search {
    /// Objectives of the policy in effect, once it is found.
    wanted: Option<BTreeSet<(PromiseId, u32)>>,
    seen: BTreeSet<(PromiseId, u32)>,
}

impl Search {
    fn see(&mut self, found: &ListedEntry) {
        if let Some(Ok(verdict)) = found.envelope.as_ref().and_then(Envelope::body::<Verdict>) {
            self.seen.insert((verdict.promise, verdict.objective));
            return;
        }
        if self.wanted.is_none() && found.coarse != <Verdict as event::Body>::KIND.name {
            let mut listing = Listing::new();
            found.tell(&mut listing);
            self.wanted = Some(listing.objectives().map(|(promise, number)| (promise.clone(), number)).collect());
        }
    }

    fn is_over(&self) -> bool {
        self.wanted.as_ref().is_some_and(|wanted| wanted.is_subset(&self.seen))
    }
}

#[cfg(test)]
mod tests {
    use event::policy::{Applied, Clause, Promise, Text};
    use event::promise::Outcome;
    use event::{Body, BootId, Interval, Observed, Retention};
    use store::Append as _;
    use store::conformance::{self, ManualClock, START, event};
    use store::sqlite::Sqlite;

    use super::*;

    fn policy(revision: &str) -> Applied {
        let coverage = r#"{"objective":"coverage","service":"shop","at_least":1000000000,"over":86400000000}"#;
        let coverage: Clause = serde_json::from_str(coverage).expect("JSON");
        let promise = |id: &str| Promise {
            id: id.parse().expect("a name"),
            revision: revision.to_owned(),
            text: Text::default(),
            objectives: vec![coverage.clone()],
        };
        let (services, probes, findings, maintenance) = (vec![], vec![], vec![], vec![]);
        let promises = vec![promise("AV-1"), promise("BK-1")];
        Applied { revision: "a".to_owned(), services, probes, findings, maintenance, promises }
    }

    fn verdict(promise: &str, revision: &str) -> Verdict {
        Verdict {
            promise: promise.parse().expect("a name"),
            revision: revision.to_owned(),
            objective: 0,
            evaluator: 1,
            tree_size: 1,
            at: START,
            window: Interval::new(START, START),
            outcome: Outcome::Unproven,
            figure: None,
            reasons: vec![],
            evidence: vec![],
        }
    }

    fn observed<B: Body>(number: u64, body: &B) -> Observed {
        let (observer, boot) = ("here".parse().expect("a name"), BootId::from_bytes([3; 16]));
        Observed::new(body, observer, boot, number, START).expect("serialises")
    }

    /// Backwards from any size and forwards to it, the list is the same.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_way_to_a_size_does_not_matter() {
        let folder = tempfile::tempdir().expect("a folder");
        let store =
            Sqlite::open(conformance::options(folder.path(), &ManualClock::at(START))).expect("a new directory");
        store.append((0..5000).map(|n| event(1, n, Retention::Audit, "x")).collect()).await.expect_err("too many");
        for part in [0..4000, 4000..8000] {
            store.append(part.map(|n| event(1, n, Retention::Audit, "x")).collect()).await.expect("appended");
        }
        let mut expected = Vec::new();
        for (number, revision) in (0..).step_by(5).zip(["r1", "r1", "r2"]) {
            let events = vec![
                observed(number, &policy(revision)),
                observed(number + 1, &verdict("AV-1", revision)),
                event(2, number, Retention::Audit, "between"),
                observed(number + 2, &verdict("BK-1", revision)),
                observed(number + 3, &verdict("AV-1", revision)),
            ];
            let places = store.append(events).await.expect("appended");
            expected = vec![places[4], places[3]];
        }
        let size = store.head().await.expect("a head").size;
        let progress = Progress::default();
        let mut forwards = Listed::default();
        for size in (0..20).chain(size - 20..=size) {
            forwards.advance(store.as_ref(), size, &progress).await.expect("readable");
            let backwards = Listed::at(store.as_ref(), size, &progress).await.expect("readable");
            let [one, other] = [&forwards, &backwards].map(|listed| {
                let verdicts = serde_json::to_string(&listed.listing.verdicts()).expect("JSON");
                (verdicts, listed.listing.policy_body().map(|body| body.get().to_owned()), listed.size)
            });
            assert_eq!(one, other, "{size}");
        }
        let listed: Vec<_> = forwards.listing.verdicts().iter().map(|listed| listed.sequence).collect();
        assert_eq!(listed, expected);
    }
}
