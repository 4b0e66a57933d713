//! Heartbeats on their way from the web to the watch.
//!
//! **Problem.** `200 OK` to a backup job's ping is a promise: the team will not be alerted for it. It must not be given for
//! a ping that is lost a moment later. **Principle.** The web hands a ping over and waits for its [`Delivery`] to be
//! acknowledged, which the watch does once the ping is in the journal. When the queue is full, when the watch is being
//! restarted, when the answer takes too long, the answer is [`Receipt::Busy`], and the job tries again.
//!
//! The hub belongs to neither engine. Which uuids are known survives a restart of the watch, and so do queued pings.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use event::{ProbeId, Time};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc, oneshot, watch};

/// Most pings that wait for the watch.
const QUEUE_MAX: usize = 1024;

/// Longest wait for a receipt.
const RECEIPT_LIMIT: Duration = Duration::from_secs(5);

/// The message of a ping.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// The job started.
    Start,
    /// The job succeeded.
    Success,
    /// The job failed.
    Fail,
}

/// A ping: a message of a job, as it arrived.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ping {
    /// The secret of the heartbeat, as in the address that was asked for.
    pub uuid: String,
    /// The message.
    pub ping: Said,
    /// The run of the job that the message belongs to, when the job tells its runs apart: a UUID in lower case. Not public.
    pub run: Option<String>,
    /// When the ping arrived.
    pub at: Time,
    /// Length of the body that came with it; the body itself is not kept.
    pub body_bytes: u64,
}

/// The answer to a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Receipt {
    /// The ping is recorded.
    Known,
    /// No heartbeat has this uuid.
    Unknown,
    /// The ping could not be recorded now: the job should try again.
    Busy,
    /// The job sends more pings than are taken: this one was not recorded.
    TooMany,
}

/// A ping for the watch, with its receipt. Dropped without [`acknowledge`](Self::acknowledge), it answers [`Receipt::Busy`].
#[derive(Debug)]
pub struct Delivery {
    /// Which heartbeat.
    pub probe: ProbeId,
    /// What arrived.
    pub ping: Ping,
    receipt: oneshot::Sender<Receipt>,
}

impl Delivery {
    /// Answers the job that its ping is recorded.
    pub fn acknowledge(self) {
        self.answer(Receipt::Known);
    }

    /// Answers the job that it sends too many.
    pub fn refuse(self) {
        self.answer(Receipt::TooMany);
    }

    /// Whether the job still waits for its receipt. One that does not was answered [`Receipt::Busy`].
    pub fn is_awaited(&self) -> bool {
        !self.receipt.is_closed()
    }

    fn answer(self, receipt: Receipt) {
        if self.receipt.send(receipt).is_err() {
            tracing::debug!(probe = %self.probe, "the job did not wait for its receipt");
        }
    }
}

/// The queue between web and watch, and the known heartbeats. Clones share both.
#[derive(Clone)]
pub struct Pings {
    known: watch::Sender<Arc<HashMap<String, ProbeId>>>,
    queue: mpsc::Sender<Delivery>,
    listener: Arc<Mutex<mpsc::Receiver<Delivery>>>,
}

impl Default for Pings {
    fn default() -> Self {
        Self::new()
    }
}

impl Pings {
    /// A queue without known heartbeats.
    pub fn new() -> Self {
        let (queue, listener) = mpsc::channel(QUEUE_MAX);
        Self { known: watch::Sender::new(Arc::default()), queue, listener: Arc::new(Mutex::new(listener)) }
    }

    /// Replaces the known heartbeats: their uuids and their probes.
    pub fn know(&self, heartbeats: HashMap<String, ProbeId>) {
        self.known.send_replace(Arc::new(heartbeats));
    }

    /// Whether a heartbeat has this uuid.
    pub fn knows(&self, uuid: &str) -> bool {
        self.known.borrow().contains_key(uuid)
    }

    /// Hands a ping over and waits for its receipt, five seconds at most.
    pub async fn deliver(&self, ping: Ping) -> Receipt {
        let known = self.known.borrow().get(&ping.uuid).cloned();
        let Some(probe) = known else { return Receipt::Unknown };
        let (receipt, recorded) = oneshot::channel();
        if self.queue.try_send(Delivery { probe, ping, receipt }).is_err() {
            return Receipt::Busy;
        }
        match tokio::time::timeout(RECEIPT_LIMIT, recorded).await {
            Ok(Ok(receipt)) => receipt,
            Ok(Err(_)) | Err(_) => Receipt::Busy,
        }
    }

    /// The receiving end. There is one; a second caller waits until the first has dropped it.
    pub async fn listen(&self) -> Listener {
        Listener(self.listener.clone().lock_owned().await)
    }
}

/// The receiving end of the queue.
pub struct Listener(OwnedMutexGuard<mpsc::Receiver<Delivery>>);

impl Listener {
    /// The next ping. Pings whose sender has stopped waiting are skipped: it was answered [`Receipt::Busy`].
    pub async fn next(&mut self) -> Delivery {
        loop {
            match self.0.recv().await {
                Some(delivery) if delivery.receipt.is_closed() => {}
                Some(delivery) => return delivery,
                // Every sender is dropped: no ping can come any more.
                None => std::future::pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ping(uuid: &str) -> Ping {
        Ping { uuid: uuid.to_owned(), ping: Said::Success, run: None, at: Time::from_secs(1), body_bytes: 0 }
    }

    fn hub() -> Pings {
        let pings = Pings::new();
        pings.know(HashMap::from([("1234".to_owned(), "nightly".parse().expect("a name"))]));
        pings
    }

    #[tokio::test(start_paused = true)]
    async fn known_only_once_acknowledged() {
        let pings = hub();
        assert_eq!(pings.deliver(ping("4321")).await, Receipt::Unknown);

        let web = tokio::spawn({
            let pings = pings.clone();
            async move { pings.deliver(ping("1234")).await }
        });
        let mut listener = pings.listen().await;
        let delivery = listener.next().await;
        assert_eq!(delivery.probe.as_str(), "nightly");
        assert!(!web.is_finished(), "nothing is recorded yet");
        delivery.acknowledge();
        assert_eq!(web.await.expect("no panic"), Receipt::Known);
    }

    #[tokio::test(start_paused = true)]
    async fn an_aborted_watch_makes_the_job_try_again() {
        let pings = hub();
        let listener = pings.listen().await;
        let watch = tokio::spawn(async move {
            let mut listener = listener;
            let _delivery = listener.next().await;
            panic!("while recording");
        });
        assert_eq!(pings.deliver(ping("1234")).await, Receipt::Busy);
        assert!(watch.await.is_err());
        // The next attempt gets the receiving end that the panic dropped, and only pings whose sender still waits.
        assert_eq!(pings.deliver(ping("1234")).await, Receipt::Busy, "nobody listens");
        let mut listener = pings.listen().await;
        let (receipt, ()) = tokio::join!(pings.deliver(ping("1234")), async { listener.next().await.acknowledge() });
        assert_eq!(receipt, Receipt::Known);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_is_busy_at_once() {
        let pings = hub();
        let waiting: Vec<_> = (0..QUEUE_MAX)
            .map(|_| {
                let pings = pings.clone();
                tokio::spawn(async move { pings.deliver(ping("1234")).await })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(1)).await;
        #[expect(clippy::disallowed_methods, reason = "the paused clock of tokio is the clock of this test")]
        let before = tokio::time::Instant::now();
        assert_eq!(pings.deliver(ping("1234")).await, Receipt::Busy);
        assert_eq!(before.elapsed(), Duration::ZERO, "no waiting at the bound");
        for task in waiting {
            assert_eq!(task.await.expect("no panic"), Receipt::Busy);
        }
    }
}
