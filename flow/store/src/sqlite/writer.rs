//! The thread that writes, and what it does when it can't.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use event::engine::StorageFault;
use event::{BootId, Day, Monotonic, Observed, ObserverId, Retention, Span, Time};
use journal::note::SigningKey;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::database::Failure;
use super::destroy::Destruction;
use super::transaction::Log;
use crate::log::Outcome;
use crate::reserve::Reserve;
use crate::{Fault, StorageHealth, StoreError};

/// What may wait for the writer, in KiB; beyond, callers wait before they hand over.
const QUEUE_KIB: u32 = 64 * 1024;
/// Events after which a commit takes no more: about 10 ms of work, so nobody waits much longer than two commits.
const EVENTS_PER_COMMIT: usize = 1024;
/// Bytes after which a commit takes no more.
const KIB_PER_COMMIT: usize = 4 * 1024;
/// How often a storage that failed is tried again without being asked.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// How often it is tried again when callers ask.
const RETRY_WHEN_ASKED_EVERY: Span = Span::from_millis(100);

/// Something to do in a transaction.
pub(super) enum Work {
    Append(Vec<Observed>),
    Save { name: String, expected: Option<u64>, cursor: u64, state: Vec<u8> },
    Publish { note: String, size: u64 },
    Sign(Vec<SigningKey>),
    Destroy { class: Retention, day: Day },
}

impl Work {
    /// How many events it appends.
    pub(super) fn events(&self) -> usize {
        if let Self::Append(events) = self { events.len() } else { 0 }
    }

    /// Roughly what it holds in memory.
    fn kib(&self) -> usize {
        match self {
            Self::Append(events) => events.iter().map(|event| 1 + event.body.get().len() / 1024).sum(),
            Self::Save { state, .. } => 1 + state.len() / 1024,
            Self::Publish { .. } | Self::Sign(_) | Self::Destroy { .. } => 1,
        }
    }
}

type Reply = oneshot::Sender<Outcome>;

/// Work, whom to answer, and its share of the queue.
struct Job {
    work: Work,
    reply: Reply,
    room: OwnedSemaphorePermit,
}

enum Message {
    Job(Job),
    Stop,
}

/// How the storage is doing, told by the threads, asked by anybody.
#[derive(Default)]
pub(super) struct Health {
    fault: Mutex<Option<Fault>>,
    entries_refused: AtomicU64,
    pub(super) samples_dropped: AtomicU64,
    reserve_ready: AtomicBool,
}

impl Health {
    pub(super) fn report(&self) -> StorageHealth {
        StorageHealth {
            fault: self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            entries_refused: self.entries_refused.load(Ordering::Relaxed),
            samples_dropped: self.samples_dropped.load(Ordering::Relaxed),
            reserve_ready: self.reserve_ready.load(Ordering::Relaxed),
        }
    }

    fn set_fault(&self, fault: Option<Fault>) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }
}

/// The writer as its callers see it.
pub(super) struct Writer {
    jobs: Sender<Message>,
    room: Arc<Semaphore>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(
        log: Log,
        reserve: Reserve,
        health: Arc<Health>,
        size: watch::Sender<u64>,
        own: OwnEvents,
    ) -> io::Result<Self> {
        let (jobs, queue) = channel();
        let mut thread = Thread {
            log,
            reserve,
            health,
            size,
            own,
            queue,
            stopping: false,
            outage: None,
            destructions: VecDeque::new(),
        };
        thread.prepare_reserve();
        let thread = std::thread::Builder::new().name("journal-writer".to_owned()).spawn(move || thread.run())?;
        Ok(Self { jobs, room: Arc::new(Semaphore::new(QUEUE_KIB as usize)), thread: Some(thread) })
    }

    /// Hands work over and waits until it is durable or refused.
    pub(super) async fn run(&self, work: Work) -> Outcome {
        let kib = u32::try_from(work.kib()).unwrap_or(u32::MAX);
        if kib > QUEUE_KIB {
            let (size, max) = (u64::from(kib) * 1024, u64::from(QUEUE_KIB) * 1024);
            return Err(StoreError::TooLarge { what: "a call", size, max });
        }
        let room = Arc::clone(&self.room).acquire_many_owned(kib).await.map_err(|_| StoreError::Closed)?;
        let (reply, answer) = oneshot::channel();
        self.jobs.send(Message::Job(Job { work, reply, room })).map_err(|_| StoreError::Closed)?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // A thread that ended by itself needs no telling, and a panic of it was already reported by its hook.
        let told = self.jobs.send(Message::Stop);
        if let (Ok(()), Some(thread)) = (told, self.thread.take()) {
            thread.join().unwrap_or_default();
        }
    }
}

/// The store as an observer of itself.
pub(super) struct OwnEvents {
    pub(super) observer: ObserverId,
    pub(super) boot: BootId,
    pub(super) next: u64,
}

impl OwnEvents {
    /// Appends what the store has to say of itself. Its sequence goes on only when this is in the log: what is said
    /// again after a doubt is found to be there.
    pub(super) fn append(&mut self, log: &mut Log, bodies: &[OwnEvent]) -> Result<(), Failure> {
        let at = log.clock.now();
        let events = (self.next..).zip(bodies).map(|(sequence, body)| body.observed(self, sequence, at));
        let events: Vec<_> = events.collect::<Result<_, _>>().map_err(io::Error::other)?;
        self.next += events.len() as u64;
        let outcome = log.commit(vec![Work::Append(events)]);
        if outcome.is_err() {
            self.next -= bodies.len() as u64;
        }
        outcome.map(drop)
    }
}

/// What the store has to say of itself.
pub(super) enum OwnEvent {
    Opened(event::journal::Opened),
    Succeeded(event::journal::Succeeded),
    Fault(StorageFault),
}

impl OwnEvent {
    fn observed(&self, own: &OwnEvents, sequence: u64, at: Time) -> Result<Observed, serde_json::Error> {
        match self {
            Self::Opened(body) => Observed::new(body, own.observer.clone(), own.boot, sequence, at),
            Self::Succeeded(body) => Observed::new(body, own.observer.clone(), own.boot, sequence, at),
            Self::Fault(body) => Observed::new(body, own.observer.clone(), own.boot, sequence, at),
        }
    }
}

/// The storage does not take anything at the moment.
struct Outage {
    fault: Fault,
    /// Whether the journal says so.
    recorded: bool,
    tried: Monotonic,
}

impl Outage {
    fn event(&self, over: bool) -> OwnEvent {
        OwnEvent::Fault(StorageFault { since: self.fault.since, reason: self.fault.reason.clone(), over })
    }

    fn refusal(&self) -> StoreError {
        let Fault { since, full, reason } = self.fault.clone();
        if full { StoreError::Full { since, reason } } else { StoreError::Unavailable { since, reason } }
    }
}

struct Thread {
    log: Log,
    reserve: Reserve,
    health: Arc<Health>,
    size: watch::Sender<u64>,
    own: OwnEvents,
    queue: Receiver<Message>,
    stopping: bool,
    outage: Option<Outage>,
    destructions: VecDeque<(Destruction, Reply)>,
}

impl Thread {
    fn run(mut self) {
        while !self.stopping {
            let jobs = self.next_jobs();
            if self.outage.is_some() {
                self.recover(!jobs.is_empty());
            }
            if let Some(outage) = &self.outage {
                let refusal = outage.refusal();
                self.refuse(jobs.into_iter().map(|job| (job.work.events(), job.reply)).collect(), &refusal);
            } else {
                self.commit(jobs);
                self.destroy_some();
            }
        }
    }

    /// What is waiting, as far as one commit takes it; waits when nothing is and there is nothing else to do.
    fn next_jobs(&mut self) -> Vec<Job> {
        let first = if self.outage.is_some() {
            self.queue.recv_timeout(RETRY_EVERY)
        } else if self.destructions.is_empty() {
            self.queue.recv().map_err(RecvTimeoutError::from)
        } else {
            self.queue.recv_timeout(Duration::ZERO)
        };
        let mut jobs = Vec::new();
        let (mut events, mut kib) = (0, 0);
        let mut next = first;
        loop {
            match next {
                Ok(Message::Job(job)) => {
                    events += job.work.events();
                    kib += job.work.kib();
                    jobs.push(job);
                }
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => {
                    self.stopping = true;
                    return jobs;
                }
                Err(RecvTimeoutError::Timeout) => return jobs,
            }
            if events >= EVENTS_PER_COMMIT || kib >= KIB_PER_COMMIT {
                return jobs;
            }
            next = self.queue.try_recv().map_err(|error| match error {
                TryRecvError::Empty => RecvTimeoutError::Timeout,
                TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
            });
        }
    }

    fn commit(&mut self, jobs: Vec<Job>) {
        if jobs.is_empty() {
            return;
        }
        let mut works = Vec::with_capacity(jobs.len());
        let mut replies = Vec::with_capacity(jobs.len());
        // Held until the callers are answered, so that the bound of the queue counts what is being written.
        let mut room = Vec::with_capacity(jobs.len());
        for job in jobs {
            if let Work::Destroy { class, day } = job.work {
                self.begin_destruction(class, day, job.reply);
                continue;
            }
            replies.push((job.work.events(), job.reply));
            works.push(job.work);
            room.push(job.room);
        }
        match self.log.commit(works) {
            Ok(answers) => {
                self.tell_size();
                for ((_, reply), outcome) in replies.into_iter().zip(answers) {
                    answer(reply, outcome);
                }
            }
            Err(failure) => {
                let refusal = self.begin_outage(&failure);
                self.refuse(replies, &refusal);
            }
        }
    }

    fn tell_size(&self) {
        let size = self.log.frontier.size();
        self.size.send_if_modified(|told| std::mem::replace(told, size) != size);
    }

    fn refuse(&self, replies: Vec<(usize, Reply)>, refusal: &StoreError) {
        for (events, reply) in replies {
            self.health.entries_refused.fetch_add(events as u64, Ordering::Relaxed);
            answer(reply, Err(refusal.clone()));
        }
    }

    fn begin_destruction(&mut self, class: Retention, day: Day, reply: Reply) {
        match Destruction::begin(&self.log, class, day) {
            Ok(Ok(destruction)) => self.destructions.push_back((destruction, reply)),
            Ok(Err(refusal)) => answer(reply, Err(refusal)),
            Err(failure) => answer(reply, Err(self.begin_outage(&failure))),
        }
    }

    /// One step of the oldest destruction, so that entries need not wait for all of it.
    fn destroy_some(&mut self) {
        let Some((mut destruction, reply)) = self.destructions.pop_front() else { return };
        match destruction.step(&mut self.log) {
            Ok(None) => self.destructions.push_front((destruction, reply)),
            Ok(Some(entries)) => answer(reply, Ok(vec![entries])),
            Err(failure) => answer(reply, Err(self.begin_outage(&failure))),
        }
    }

    /// Makes sure that the reserve is there before it is needed.
    fn prepare_reserve(&mut self) {
        match self.reserve.fill() {
            Ok(()) => self.health.reserve_ready.store(true, Ordering::Relaxed),
            Err(error) => {
                self.begin_outage(&Failure::File(error));
            }
        }
    }

    /// Gives the reserve up, and journals the fault with it.
    fn begin_outage(&mut self, failure: &Failure) -> StoreError {
        let fault = Fault { since: self.log.clock.now(), full: failure.is_full(), reason: failure.to_string() };
        tracing::error!(reason = %fault.reason, full = fault.full, "the storage refuses: entries are refused until it works again");
        let mut outage = Outage { fault, recorded: false, tried: self.log.clock.monotonic() };
        self.release_reserve();
        outage.recorded = self.own.append(&mut self.log, &[outage.event(false)]).is_ok();
        self.health.set_fault(Some(outage.fault.clone()));
        self.tell_size();
        let refusal = outage.refusal();
        self.outage = Some(outage);
        refusal
    }

    /// Looks whether the storage works again: it does when the reserve can be made anew, there is room beside it, and the
    /// entry that says so is in the log.
    fn recover(&mut self, asked: bool) {
        let Some(mut outage) = self.outage.take() else { return };
        let now = self.log.clock.monotonic();
        if asked && now.since(outage.tried) < RETRY_WHEN_ASKED_EVERY {
            self.outage = Some(outage);
            return;
        }
        outage.tried = now;
        if !outage.recorded {
            outage.recorded = self.own.append(&mut self.log, &[outage.event(false)]).is_ok();
        }
        let works_again = outage.recorded
            && self.reserve.fill().and_then(|()| self.reserve.has_room_beside()).unwrap_or(false)
            && self.own.append(&mut self.log, &[outage.event(true)]).is_ok();
        if works_again {
            tracing::info!("the storage works again");
            self.health.reserve_ready.store(true, Ordering::Relaxed);
            self.health.set_fault(None);
        } else {
            self.release_reserve();
            self.outage = Some(outage);
        }
        self.tell_size();
    }

    fn release_reserve(&self) {
        self.health.reserve_ready.store(false, Ordering::Relaxed);
        if let Err(error) = self.reserve.release() {
            tracing::error!(%error, "the reserve can't be given up");
        }
    }
}

/// A caller that gave up meanwhile gets no answer.
fn answer(reply: Reply, outcome: Outcome) {
    reply.send(outcome).unwrap_or_default();
}
