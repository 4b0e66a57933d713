//! The thread that writes, its queue, and how much of the queue one commit takes.

mod outage;

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use event::{Day, Retention};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::destroy::{self, Destruction};
use super::own::OwnEvents;
use super::transaction::Log;
use super::work::{Job, Reply, Work};
use crate::reserve::Reserve;
use crate::{AppendsRefused, StorageHealth, StoreError};
use outage::Outage;

/// What may wait for the writer, in KiB; beyond, callers wait before they hand over.
const QUEUE_KIB: u32 = 64 * 1024;
/// Events after which a commit takes no more: about 10 ms of work, so nobody waits much longer than two commits.
const EVENTS_PER_COMMIT: usize = 1024;
/// Bytes after which a commit takes no more.
const KIB_PER_COMMIT: usize = 4 * 1024;
/// How often a storage that failed is tried again without being asked.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// How often is looked whether the files are still there while there is nothing to write.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A job, and its share of the queue.
struct Queued {
    job: Job,
    permit: OwnedSemaphorePermit,
}

enum Message {
    Job(Queued),
    Stop,
}

/// Condition of the storage, written by the threads and read by [`Read::health`](crate::Read::health).
#[derive(Default)]
pub(super) struct Health {
    fault: Mutex<Option<AppendsRefused>>,
    entries_refused: AtomicU64,
    pub(super) samples_dropped: AtomicU64,
    pub(super) sample_files_damaged: AtomicU64,
    reserve_ready: AtomicBool,
}

impl Health {
    pub(super) fn report(&self) -> StorageHealth {
        StorageHealth {
            fault: self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            entries_refused: self.entries_refused.load(Ordering::Relaxed),
            samples_dropped: self.samples_dropped.load(Ordering::Relaxed),
            sample_files_damaged: self.sample_files_damaged.load(Ordering::Relaxed),
            reserve_ready: self.reserve_ready.load(Ordering::Relaxed),
        }
    }

    fn set_fault(&self, fault: Option<AppendsRefused>) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }
}

/// The callers' side of the writer thread.
pub(super) struct Writer {
    jobs: Sender<Message>,
    queue_kib: Arc<Semaphore>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread and returns the callers' side of it.
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
        Ok(Self { jobs, queue_kib: Arc::new(Semaphore::new(QUEUE_KIB as usize)), thread: Some(thread) })
    }

    /// Queues a job and waits until it is durable or refused.
    pub(super) async fn run<T>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Result<T, StoreError> {
        let (reply, answer) = Reply::new();
        let job = job(reply);
        let kib = u32::try_from(job.kib()).unwrap_or(u32::MAX);
        if kib > QUEUE_KIB {
            let (size, max) = (u64::from(kib) * 1024, u64::from(QUEUE_KIB) * 1024);
            return Err(StoreError::TooLarge { what: "a call", size, max });
        }
        let permit = Arc::clone(&self.queue_kib).acquire_many_owned(kib).await.map_err(|_| StoreError::Closed)?;
        self.jobs.send(Message::Job(Queued { job, permit })).map_err(|_| StoreError::Closed)?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // A thread that has ended by itself needs no message, and its panic was already reported by the hook.
        let told = self.jobs.send(Message::Stop);
        if let (Ok(()), Some(thread)) = (told, self.thread.take()) {
            thread.join().unwrap_or_default();
        }
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
    destructions: VecDeque<(Destruction, Reply<u64>)>,
}

impl Thread {
    fn run(mut self) {
        while !self.stopping {
            let jobs = self.next_jobs();
            if self.outage.is_some() {
                self.recover(!jobs.is_empty());
            } else if let Some(reason) = self.log.files.lost() {
                self.begin_displacement(reason);
            }
            if let Some(outage) = &self.outage {
                let refusal = outage.refusal();
                for Queued { job, .. } in jobs {
                    self.count_refused(job.events());
                    job.refuse(&refusal);
                }
            } else {
                self.commit(jobs);
                self.destroy_some();
            }
        }
    }

    /// The jobs of the next commit, at most as many as one commit takes; waits when there are none and no destruction is
    /// under way.
    fn next_jobs(&mut self) -> Vec<Queued> {
        let first = if self.outage.is_some() {
            self.queue.recv_timeout(RETRY_EVERY)
        } else if self.destructions.is_empty() {
            self.queue.recv_timeout(LOOK_EVERY)
        } else {
            self.queue.recv_timeout(Duration::ZERO)
        };
        let mut jobs = Vec::new();
        let (mut events, mut kib) = (0, 0);
        let mut next = first;
        loop {
            match next {
                Ok(Message::Job(queued)) => {
                    events += queued.job.events();
                    kib += queued.job.kib();
                    jobs.push(queued);
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

    fn commit(&mut self, jobs: Vec<Queued>) {
        let mut works = Vec::with_capacity(jobs.len());
        // Held until the callers are answered, so that the bound of the queue counts what is being written.
        let mut held = Vec::with_capacity(jobs.len());
        for Queued { job, permit } in jobs {
            match job {
                Job::Commit(work) => {
                    works.push(work);
                    held.push(permit);
                }
                Job::Intend { class, day, reply } => self.intend(class, day, reply),
                Job::Destroy { class, day, reply } => self.begin_destruction(class, day, reply),
            }
        }
        if works.is_empty() {
            return;
        }
        let events = works.iter().map(Work::events).sum();
        let refusal = self.log.commit(&mut works).err().map(|failure| self.begin_outage(&failure));
        if refusal.is_some() {
            self.count_refused(events);
        } else {
            self.send_size();
        }
        for work in works {
            work.finish(refusal.as_ref());
        }
    }

    fn send_size(&self) {
        let size = self.log.frontier.size();
        self.size.send_if_modified(|told| std::mem::replace(told, size) != size);
    }

    fn count_refused(&self, events: usize) {
        self.health.entries_refused.fetch_add(events as u64, Ordering::Relaxed);
    }

    fn intend(&mut self, class: Retention, day: Day, reply: Reply<Option<u64>>) {
        match destroy::intend(&mut self.log, &mut self.own, class, day) {
            Ok(outcome) => {
                self.send_size();
                reply.answer(outcome);
            }
            Err(failure) => reply.answer(Err(self.begin_outage(&failure))),
        }
    }

    fn begin_destruction(&mut self, class: Retention, day: Day, reply: Reply<u64>) {
        match Destruction::begin(&self.log, class, day) {
            Ok(Ok(Some(destruction))) => self.destructions.push_back((destruction, reply)),
            Ok(Ok(None)) => reply.answer(Ok(0)),
            Ok(Err(refusal)) => reply.answer(Err(refusal)),
            Err(failure) => reply.answer(Err(self.begin_outage(&failure))),
        }
    }

    /// Does one step of the oldest destruction, so that entries need not wait for all of it.
    fn destroy_some(&mut self) {
        let Some((mut destruction, reply)) = self.destructions.pop_front() else { return };
        match destruction.step(&mut self.log, &mut self.own) {
            Ok(None) => self.destructions.push_front((destruction, reply)),
            Ok(Some(entries)) => {
                self.send_size();
                reply.answer(Ok(entries));
            }
            Err(failure) => reply.answer(Err(self.begin_outage(&failure))),
        }
    }
}
