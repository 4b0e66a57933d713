//! The bans in force, as the server knows them: what a gate is told, which may be on another host than the guard.
//!
//! **Problem.** The packet filter of the host of the guard drops whoever is banned; a gate elsewhere would let them in. **Principle.**
//! Bans and their ends are in the journal. An engine of the server folds them into rows, one for each network and rule, and tells the
//! networks to whoever asks, with the end of the longest ban of each. A ban that is only recorded (`simulate`) is none.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::{BoxFuture, Context, Driver, Engine, EngineError, Feed, Reconcile};
use event::{Body as _, Envelope, Span, Time};
use ipnet::IpNet;
use store::{Consumers, ROWS_MAX, Read, Row, Select, Step};
use tokio::sync::watch;

use crate::events::{Banned, Unbanned};

/// Name of the engine, and of the consumer.
pub const BANNED: &str = "banned";
/// Most networks that are told; of more, those that are banned for longest.
const TOLD_MAX: usize = 100_000;
/// How often bans that are over are forgotten.
const EVERY: Span = Span::from_secs(60);
/// The least time between two looks at the journal.
const SPACING: Span = Span::from_millis(500);

/// The networks that are banned, each with the end of its ban; `None` for ever.
pub type Networks = BTreeMap<IpNet, Option<Time>>;

/// Where they are told.
#[derive(Clone, Default, Debug)]
pub struct BansTold {
    networks: watch::Sender<Option<Arc<Networks>>>,
    changes: watch::Sender<()>,
}

impl BansTold {
    /// The networks that are banned now; `None` while the journal was not read.
    pub fn networks(&self) -> Option<Arc<Networks>> {
        self.networks.borrow().clone()
    }

    /// Changes whenever they do.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    fn tell(&self, networks: Networks) {
        let is_news = self.networks.send_if_modified(|told| {
            let is_news = told.as_deref() != Some(&networks);
            if is_news {
                *told = Some(Arc::new(networks));
            }
            is_news
        });
        if is_news {
            self.changes.send_replace(());
        }
    }
}

/// The engine. It tells the networks in `told`.
pub fn banned(journal: Arc<dyn Read>, rows: Arc<dyn Consumers>, told: BansTold) -> impl Engine {
    let size = journal.size_watch();
    let start =
        move || Fold { journal: Arc::clone(&journal), rows: Arc::clone(&rows), told: told.clone(), known: None };
    Driver::new(BANNED, 3, start).woken_by(size)
}

struct Fold {
    journal: Arc<dyn Read>,
    rows: Arc<dyn Consumers>,
    told: BansTold,
    known: Option<Known>,
}

/// What is stored, once it was read.
struct Known {
    feed: Feed,
    cursor: Option<u64>,
    bans: BTreeMap<String, Option<Time>>,
}

/// The key of the row of a ban.
fn key(address: &str, rule: &str) -> String {
    let mut key = format!("{address} {rule}");
    let mut most = store::KEY_BYTES_MAX.min(key.len());
    while !key.is_char_boundary(most) {
        most -= 1;
    }
    key.truncate(most);
    key
}

impl Known {
    async fn read(journal: Arc<dyn Read>, rows: &dyn Consumers) -> Result<Self, EngineError> {
        let cursor = rows.position(BANNED).await?;
        let (mut bans, mut last) = (BTreeMap::new(), None::<String>);
        loop {
            let some = rows.rows(BANNED, "", last.as_deref(), ROWS_MAX).await?;
            let Some((key, _)) = some.last() else { break };
            last = Some(key.clone());
            for (key, value) in some {
                let until = <[u8; 8]>::try_from(value.as_slice()).ok().map(i64::from_be_bytes).map(Time::from_micros);
                bans.insert(key, until);
            }
        }
        let feed = Feed::new(journal, cursor.unwrap_or(0), Select::Kinds(vec![Banned::KIND, Unbanned::KIND]));
        Ok(Self { feed, cursor, bans })
    }

    /// Takes an entry in; the row that it changes.
    fn take(&mut self, envelope: &Envelope, now: Time) -> Option<Row> {
        if let Some(Ok(Banned { address, rule, until, enforced, .. })) = envelope.body::<Banned>() {
            // One that was over when it was read was never in force here.
            if !enforced || until.is_some_and(|until| until <= now) {
                return None;
            }
            let key = key(&address, &rule);
            self.bans.insert(key.clone(), until);
            let value = until.map(|until| until.micros().to_be_bytes().to_vec()).unwrap_or_default();
            return Some(Row::Put { key, value });
        }
        let Unbanned { address, rule } = envelope.body::<Unbanned>()?.ok()?;
        let key = key(&address, &rule);
        self.bans.remove(&key)?;
        Some(Row::Delete { key })
    }

    /// Forgets what is over; the rows that go.
    fn forget(&mut self, now: Time) -> Vec<Row> {
        let over = self.bans.iter().filter(|(_, until)| until.is_some_and(|until| until <= now));
        let keys: Vec<String> = over.map(|(key, _)| key.clone()).take(ROWS_MAX).collect();
        for key in &keys {
            self.bans.remove(key);
        }
        keys.into_iter().map(|key| Row::Delete { key }).collect()
    }

    /// The networks, with the end of the longest ban of each.
    fn networks(&self) -> Networks {
        let mut networks = Networks::new();
        for (key, until) in &self.bans {
            let Some(network) = key.split(' ').next().and_then(engine::command::network_of) else { continue };
            let known = networks.entry(network.trunc()).or_insert(*until);
            *known = known.zip(*until).map(|(known, until)| known.max(until));
        }
        if networks.len() > TOLD_MAX {
            let mut all: Vec<_> = networks.into_iter().collect();
            all.sort_by_key(|(_, until)| std::cmp::Reverse(until.unwrap_or(Time::from_micros(i64::MAX))));
            all.truncate(TOLD_MAX);
            networks = all.into_iter().collect();
        }
        networks
    }
}

impl Reconcile for Fold {
    fn every(&self) -> Span {
        EVERY
    }

    fn spacing(&self) -> Span {
        SPACING
    }

    fn activate<'a>(&'a mut self, context: &'a Context) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async move {
            let mut known = match self.known.take() {
                Some(known) => known,
                None => Known::read(Arc::clone(&self.journal), self.rows.as_ref()).await?,
            };
            let now = context.clock.now();
            while let Some(batch) = known.feed.read(&context.progress).await? {
                let mut rows: Vec<Row> =
                    batch.entries.iter().filter_map(|entry| known.take(entry.envelope.as_ref()?, now)).collect();
                // A step takes so many rows: all but the last do not move the cursor, and are made again after a crash.
                while rows.len() > ROWS_MAX {
                    let rest = rows.split_off(ROWS_MAX);
                    let from = known.cursor;
                    self.rows.step(Step { rows, ..Step::new(BANNED, from, from.unwrap_or(0)) }).await?;
                    known.cursor = Some(from.unwrap_or(0));
                    rows = rest;
                }
                if !rows.is_empty() {
                    self.rows.step(Step { rows, ..Step::new(BANNED, known.cursor, batch.to) }).await?;
                    known.cursor = Some(batch.to);
                }
            }
            let over = known.forget(now);
            if !over.is_empty() {
                let to = known.cursor.unwrap_or(0);
                self.rows.step(Step { rows: over, ..Step::new(BANNED, known.cursor, to) }).await?;
                known.cursor = Some(to);
            }
            self.told.tell(known.networks());
            self.known = Some(known);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use engine::sim::World;
    use engine::{CancellationToken, Recorder, Supervisor};

    use super::*;

    const START: Time = Time::from_secs(1_800_000_000);

    fn banned(address: &str, rule: &str, until: Option<Time>, enforced: bool) -> Banned {
        let (address, rule) = (address.to_owned(), rule.to_owned());
        Banned { address, rule, log: String::new(), failures: 5, until, count: 1, enforced, prolonged: 0 }
    }

    async fn record(recorder: &Recorder, events: &[Banned]) {
        for event in events {
            recorder.record(event).await.expect("recorded");
        }
    }

    fn shown(networks: &Networks) -> Vec<String> {
        let until =
            |until: &Option<Time>| until.map_or("ever".to_owned(), |until| until.since(START).secs().to_string());
        networks.iter().map(|(network, end)| format!("{network} {}", until(end))).collect()
    }

    /// What is told of bans: the longest of each network, until it is over or taken back, and over a restart.
    #[tokio::test(start_paused = true)]
    async fn networks_are_told_while_they_are_banned() {
        let world = World::at(START);
        let recorder = world.recorder("server.guard".parse().expect("a name"));
        let at = |seconds| Some(START + Span::from_secs(seconds));
        record(
            &recorder,
            &[
                banned("203.0.113.7", "sshd", at(600), true),
                banned("203.0.113.7", "nginx", at(60), true),
                banned("2001:db8::/64", "sshd", None, true),
                banned("198.51.100.1", "sshd", at(600), false),
                banned("198.51.100.2", "sshd", at(-1), true),
            ],
        )
        .await;
        let run = |told: BansTold, stop: CancellationToken| {
            let engine = super::banned(world.journal.clone(), world.journal.clone(), told);
            let context = world.context("server.banned".parse().expect("a name")).expect("a context");
            tokio::spawn(async move { Supervisor::new(context).add(Arc::new(engine)).run(stop).await })
        };
        let (told, stop) = (BansTold::default(), CancellationToken::new());
        assert_eq!(told.networks(), None, "nothing is known yet, which is not that nobody is banned");
        let running = run(told.clone(), stop.clone());
        hear(&told, &["203.0.113.7/32 600", "2001:db8::/64 ever"]).await;
        let unbanned = Unbanned { address: "203.0.113.7".to_owned(), rule: "sshd".to_owned() };
        recorder.record(&unbanned).await.expect("recorded");
        // The other ban goes on, and then is over.
        hear(&told, &["203.0.113.7/32 60", "2001:db8::/64 ever"]).await;
        hear(&told, &["2001:db8::/64 ever"]).await;
        record(&recorder, &[banned("192.0.2.0/24", "sshd", at(86_400), true)]).await;
        hear(&told, &["192.0.2.0/24 86400", "2001:db8::/64 ever"]).await;
        stop.cancel();
        running.await.expect("it ends");
        let again = BansTold::default();
        let running = run(again.clone(), CancellationToken::new());
        hear(&again, &["192.0.2.0/24 86400", "2001:db8::/64 ever"]).await;
        running.abort();
    }

    /// Waits until this is told.
    async fn hear(told: &BansTold, expected: &[&str]) {
        let mut heard = told.networks.subscribe();
        let is_expected =
            |networks: &Option<Arc<Networks>>| networks.as_deref().is_some_and(|it| shown(it) == expected);
        let waiting = tokio::time::timeout(std::time::Duration::from_hours(1), heard.wait_for(is_expected));
        let is_told = waiting.await.is_ok_and(|told| told.is_ok());
        assert!(is_told, "{expected:?}: {:?}", told.networks().as_deref().map(shown));
    }

    #[test]
    fn of_too_many_the_longest_are_told() {
        let until = |number: u32| START + Span::from_secs(i64::from(number));
        let ban = |number: u32| (format!("{} sshd", std::net::Ipv4Addr::from(number)), Some(until(number)));
        let feed = Feed::new(World::at(START).journal.clone(), 0, Select::All);
        let known = Known { feed, cursor: None, bans: (0..100_010).map(ban).collect() };
        let networks = known.networks();
        assert_eq!(networks.len(), TOLD_MAX);
        assert!(!networks.contains_key(&"0.0.0.9/32".parse().expect("a network")), "the shortest are left out");
    }
}
