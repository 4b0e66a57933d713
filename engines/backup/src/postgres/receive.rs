//! The receiver: a standby that keeps the log in the repository instead of a disk.
//!
//! One task reads what the server sends (`START_REPLICATION`, "Streaming Replication Protocol", PostgreSQL 15, chapter 55.4), cuts it
//! into pieces between two records, and adds one piece at a time to the repository. While that takes long, it reads on until
//! [`WAITING_BYTES_MAX`] wait, and then no more: the rest waits in the log of the server, which its slot keeps. The server is told what
//! is durable in the repository, and nothing else is remembered anywhere.
//!
//! Beside it the server is asked every second how far it has written. Once all of that is here, whatever was committed before the
//! question is here too: that instant is the `through` of the next piece.

use std::sync::Arc;

use engine::{BoxFuture, CancellationToken, Context};
use event::{Monotonic, Span, Time};
use postgres_protocol::message::backend::Message;
use tokio::time::MissedTickBehavior;

use super::ahead::Ahead;
use super::records::{BLOCK_BYTES, Records};
use super::resume::{self, From, PieceFacts, Start};
use super::server::{self, Identity, Server, Slot, Written, micros_of_message};
use super::wire::{Connection, WireError, unexpected};
use super::{Lsn, Postgres};
use crate::database::{DatabaseError, IDLE_EVERY, PieceHead, Shipped, WAITING_BYTES_MAX};
use crate::objects::Why;
use crate::sealed::{LogWriter, Repository, RepositoryError};

/// How often it is looked at what is to be done, and how often the server is asked how far it is.
const LOOKS_EVERY: Span = Span::from_secs(1);
/// How often the server is told how far we are, at least. It parts after a minute without (`wal_sender_timeout`).
const TELLS_EVERY: Span = Span::from_secs(10);
/// How long the server may be silent, which is asked to answer every [`TELLS_EVERY`].
const SILENT_MAX: Span = Span::from_secs(60);
/// How long a piece that could not be added waits until it is tried again.
const AGAIN: Span = Span::from_secs(2);
/// How long it may take, when the engine is to stop, to receive what the server has written, and then to make it durable.
const STOPS_WITHIN: Span = Span::from_secs(5);
/// How often the server's clock is read before anything is received: one answer may be slow.
const READINGS: usize = 3;
/// The states in which the server says that it does not have what it is asked for: no such file.
const LOG_GONE: &str = "58P01";

/// Why receiving has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ended {
    /// The engine is to stop.
    Stopped,
    /// The server has gone on to another timeline.
    Timeline,
    /// The server has thrown away what comes next.
    LogGone,
    /// What comes does not go on from what is there.
    Diverged,
}

/// See [`crate::database::Database::follow`].
pub(super) async fn follow(
    of: &Postgres,
    context: &Context,
    repository: &Arc<Repository>,
    shipped: &mut (dyn FnMut(Shipped) + Send),
) -> Result<(), DatabaseError> {
    let mut from = From::End;
    loop {
        let mut receiver = tokio::select! {
            () = context.stop.cancelled() => return Ok(()),
            receiver = Receiver::begin(of, context, repository, from) => receiver?,
        };
        let ended = receiver.receive(shipped).await;
        receiver.drain(shipped).await?;
        match ended? {
            Ended::Stopped => return Ok(()),
            Ended::Timeline => from = From::End,
            Ended::LogGone if from == From::End => from = From::Slot,
            Ended::LogGone => {
                return Err(of.error("it has thrown away the part of its log that its slot is to hold back"));
            }
            Ended::Diverged => from = From::NewLog,
        }
    }
}

/// A piece that is to be added.
#[derive(Debug)]
struct Piece {
    start: Lsn,
    end: Lsn,
    head: PieceHead,
    payload: Vec<u8>,
    /// See [`Shipped::needs_base`].
    needs_base: bool,
}

/// What has been received and is in no piece yet.
#[derive(Debug)]
struct Waiting {
    /// The position of the first byte.
    start: Lsn,
    bytes: Vec<u8>,
    /// Tells records apart; `None` once they could not be read.
    records: Option<Records>,
    first_commit: Option<Time>,
    last_commit: Option<Time>,
    through: Time,
    /// Whether a tablespace was made in it.
    needs_base: bool,
    /// Whether the last record is the one with which a server stops in good order.
    is_stopped: bool,
}

/// The bytes do not go on from those before.
#[derive(Debug)]
struct Diverges;

impl Waiting {
    fn end(&self) -> Lsn {
        Lsn(self.start.0 + u64::try_from(self.bytes.len()).unwrap_or(u64::MAX))
    }

    fn is_full(&self) -> bool {
        self.bytes.len() >= WAITING_BYTES_MAX
    }

    /// Up to where records are whole.
    fn whole_end(&self) -> Lsn {
        self.records.as_ref().map_or_else(|| self.end(), |records| records.boundary().at)
    }

    /// Takes what comes next. `clock_ahead` is how far the clock that wrote it is ahead of ours.
    fn take(&mut self, data: &[u8], clock_ahead: Span) -> Result<(), Diverges> {
        self.bytes.extend_from_slice(data);
        let Some(records) = &mut self.records else { return Ok(()) };
        let (first, last, through) = (&mut self.first_commit, &mut self.last_commit, &mut self.through);
        let (needs_base, is_stopped) = (&mut self.needs_base, &mut self.is_stopped);
        let read = records.feed(data, |record| {
            *needs_base |= record.makes_tablespace;
            *is_stopped = record.is_stop;
            if let Some(at) = record.commit {
                first.get_or_insert(at);
                *last = Some(at);
                // A commit that was acknowledged before this one took its time has its record before the one of this.
                *through = (*through).max(at - clock_ahead);
            }
        });
        match read {
            Ok(()) => {}
            Err(_) if !records.goes_on() => return Err(Diverges),
            Err(error) => {
                tracing::warn!(%error, "commits are not told apart any more: the log is kept, and can't be restored to an instant by itself");
                self.records = None;
            }
        }
        Ok(())
    }

    /// How much can leave, and the last record in it. Between two records if possible: a record that is not whole commits nothing.
    fn cut(&self) -> Option<(Lsn, Option<Lsn>)> {
        let cut = match &self.records {
            None => (self.end(), None),
            // What fills up a segment may be more than may wait, and proves nothing: it is the same in every past of the server.
            Some(records) if !(records.goes_on() || records.is_skipping() && self.is_full()) => return None,
            Some(records) if records.boundary().at > self.start => (records.boundary().at, records.boundary().previous),
            // At the start of a block it is found out again where records begin.
            Some(_) if self.is_full() => (Lsn(self.end().0 - self.end().0 % BLOCK_BYTES), None),
            Some(records) => (self.start, records.boundary().previous),
        };
        (cut.0 > self.start).then_some(cut)
    }

    /// A piece of all that can leave, which may be nothing.
    fn piece(&mut self, facts: &PieceFacts) -> Piece {
        let known = self.records.as_ref().and_then(|records| records.boundary().previous);
        let (end, last_record) = self.cut().unwrap_or((self.start, known));
        let length = usize::try_from(end.0 - self.start.0).unwrap_or(usize::MAX).min(self.bytes.len());
        let rest = self.bytes.split_off(length);
        let payload = std::mem::replace(&mut self.bytes, rest);
        let start = std::mem::replace(&mut self.start, end);
        let facts = PieceFacts { last_record, is_stopped: self.is_stopped, ..facts.clone() };
        let head = PieceHead {
            through: self.through,
            first_commit: self.first_commit.take(),
            last_commit: self.last_commit.take(),
            facts: serde_json::to_value(facts).unwrap_or_default(),
        };
        Piece { start, end, head, payload, needs_base: std::mem::take(&mut self.needs_base) }
    }
}

/// A piece on its way, and what there is afterwards.
type Shipping = BoxFuture<'static, (LogWriter, Shipment, Result<(), RepositoryError>)>;

/// What is remembered of a piece on its way.
#[derive(Debug)]
struct Shipment {
    end: Lsn,
    through: Time,
    bytes: u64,
    needs_base: bool,
}

/// A question to the server how far it is.
type Asking = BoxFuture<'static, (Connection, Time, Time, Result<Written, WireError>)>;

struct Receiver<'a> {
    of: &'a Postgres,
    context: &'a Context,
    wire: Connection,
    /// The connection on which the server is asked, while it is not.
    sql: Option<Connection>,
    asking: Option<Asking>,
    /// The server had written up to here before that instant.
    asked: Option<(Lsn, Time)>,
    log: String,
    timeline: u32,
    facts: PieceFacts,
    /// What is known of its clock.
    ahead: Option<Ahead>,
    waiting: Waiting,
    /// Since when something waits that can leave.
    waiting_since: Option<Monotonic>,
    writer: Option<LogWriter>,
    shipping: Option<Shipping>,
    durable: Lsn,
    shipped_at: Monotonic,
    shipped_through: Time,
    is_new_log: bool,
    told_at: Monotonic,
    heard_at: Monotonic,
}

impl<'a> Receiver<'a> {
    /// Connects, finds out where to go on, and lets the server begin.
    async fn begin(
        of: &'a Postgres,
        context: &'a Context,
        repository: &Arc<Repository>,
        from: From,
    ) -> Result<Self, DatabaseError> {
        let mut sql = of.sql(context).await?;
        let server = Server::ask(of, &mut sql).await?;
        let mut wire = of.replication(context).await?;
        let failed = |error: WireError| of.error(error);
        let identity = Identity::ask(&mut wire).await.map_err(failed)?;
        let slot = Slot::have(&of.slot(), &mut sql, &mut wire).await.map_err(failed)?;
        Slot::free(&of.slot(), &mut sql, |_| false).await.map_err(failed)?;
        let Start { log, writer, timeline, at, previous, through, is_new } =
            resume::start(of, repository, &identity, (&slot, server.segment_bytes), from).await?;
        let command = format!("START_REPLICATION SLOT {} PHYSICAL {at} TIMELINE {timeline}", of.slot());
        wire.send(&command).await.map_err(failed)?;
        let started = server::started(&mut sql).await.map_err(failed)?;
        let mut ahead: Option<Ahead> = None;
        for _ in 0..READINGS {
            let before = context.clock.now();
            let written = Written::ask(&mut sql, server.segment_bytes).await.map_err(failed)?;
            let read = Ahead::read(written.clock, (before, context.clock.now()), context.clock.monotonic());
            ahead = Some(read.after(ahead));
        }
        let now = context.clock.monotonic();
        let facts = PieceFacts {
            version: server.version,
            segment_bytes: server.segment_bytes,
            history: identity.history.of(timeline),
            last_record: None,
            clock_ahead_us: ahead.map_or(0, |ahead| ahead.guess().micros()),
            started: Some(started - ahead.map_or(Span::ZERO, Ahead::guess)),
            is_stopped: false,
        };
        tracing::info!(backup = of.name, log, timeline, from = %at, "the log of PostgreSQL is received");
        let waiting = Waiting {
            start: at,
            bytes: Vec::new(),
            records: Some(Records::starting_at(at, server.segment_bytes, previous)),
            first_commit: None,
            last_commit: None,
            through,
            needs_base: false,
            is_stopped: false,
        };
        Ok(Self {
            of,
            context,
            wire,
            sql: Some(sql),
            asking: None,
            asked: None,
            log,
            timeline,
            facts,
            ahead,
            waiting,
            waiting_since: None,
            writer: Some(writer),
            shipping: None,
            durable: at,
            shipped_at: now,
            shipped_through: through,
            is_new_log: is_new,
            told_at: now,
            heard_at: now,
        })
    }

    async fn receive(&mut self, shipped: &mut (dyn FnMut(Shipped) + Send)) -> Result<Ended, DatabaseError> {
        let mut look = tokio::time::interval(LOOKS_EVERY.to_std());
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (stop, mut stopping) = (self.context.stop.clone(), None);
        let late = late(&stop);
        tokio::pin!(late);
        loop {
            self.ship_if_due();
            let may_read = !self.waiting.is_full();
            if stopping.is_some_and(|since| self.waiting.through >= since) {
                return Ok(Ended::Stopped);
            }
            tokio::select! {
                () = stop.cancelled(), if stopping.is_none() => {
                    stopping = Some(self.context.clock.now());
                    self.asked = None;
                    self.ask();
                }
                () = &mut late => return Ok(Ended::Stopped),
                message = self.wire.next(), if may_read => match message {
                    Ok(message) => {
                        self.heard_at = self.context.clock.monotonic();
                        if let Some(ended) = self.take(message).await? {
                            return Ok(ended);
                        }
                    }
                    Err(error) if error.code() == Some(LOG_GONE) => return Ok(Ended::LogGone),
                    Err(error) => return Err(self.of.error(error)),
                },
                done = ready(&mut self.shipping) => {
                    self.shipping = None;
                    self.shipped(done, shipped)?;
                    self.tell(false).await?;
                }
                answer = ready(&mut self.asking) => {
                    self.asking = None;
                    self.answered(answer)?;
                }
                _ = look.tick() => {
                    let now = self.context.clock.monotonic();
                    if !may_read {
                        self.heard_at = now;
                    }
                    if now.since(self.heard_at) > SILENT_MAX {
                        return Err(self.of.error(WireError::Silent(SILENT_MAX)));
                    }
                    if now.since(self.told_at) >= TELLS_EVERY {
                        self.tell(true).await?;
                    }
                    self.ask();
                }
            }
        }
    }

    /// A message of the server.
    async fn take(&mut self, message: Message) -> Result<Option<Ended>, DatabaseError> {
        let bad = || self.of.error(unexpected("while it sends its log"));
        match message {
            Message::CopyData(body) => match body.data() {
                [b'w', rest @ ..] => {
                    let (head, data) = rest.split_at_checked(24).ok_or_else(bad)?;
                    let from = Lsn(head.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes)));
                    if from != self.waiting.end() {
                        let at = self.waiting.end();
                        return Err(self.of.error(format!("it sends its log from {from} on, where {at} comes next")));
                    }
                    if self.waiting.take(data, Span::from_micros(self.facts.clock_ahead_us)).is_err() {
                        // What the server has proved meanwhile it has proved of another past.
                        self.waiting.through = self.waiting.through.min(self.shipped_through);
                        return Ok(Some(Ended::Diverged));
                    }
                    if self.waiting_since.is_none() && self.waiting.cut().is_some() {
                        self.waiting_since = Some(self.context.clock.monotonic());
                    }
                    self.prove();
                }
                [b'k', rest @ ..] => {
                    if rest.get(16) == Some(&1) {
                        self.tell(false).await?;
                    }
                }
                _ => return Err(bad()),
            },
            Message::CopyDone => return Ok(Some(Ended::Timeline)),
            _ => return Err(bad()),
        }
        Ok(None)
    }

    /// Adds a piece, if it is time and none is on its way.
    fn ship_if_due(&mut self) {
        if self.shipping.is_some() {
            return;
        }
        let now = self.context.clock.monotonic();
        let has_waited = self.waiting_since.is_some_and(|since| now.since(since) >= self.of.ship_after);
        let is_idle = now.since(self.shipped_at) >= IDLE_EVERY && self.waiting.through > self.shipped_through;
        if has_waited || is_idle || (self.waiting.is_full() && self.waiting.cut().is_some()) {
            self.ship();
        }
    }

    fn ship(&mut self) {
        let Some(mut writer) = self.writer.take() else { return };
        let (piece, timeline, backup) = (self.waiting.piece(&self.facts), self.timeline, self.of.name.clone());
        self.waiting_since = None;
        let bytes = u64::try_from(piece.payload.len()).unwrap_or(u64::MAX);
        let needs_base = piece.needs_base;
        let shipment = Shipment { end: piece.end, through: piece.head.through, bytes, needs_base };
        self.shipping = Some(Box::pin(async move {
            let Piece { start, end, head, payload, .. } = piece;
            let mut added = writer.append(timeline, start.0, end.0, &head, payload).await;
            let mut is_told = false;
            while let Err(error) = &added
                && may_pass(error)
            {
                if !is_told {
                    tracing::warn!(backup, %error, "a piece of log can't be added, and waits; the server keeps what comes behind it");
                    is_told = true;
                }
                tokio::time::sleep(AGAIN.to_std()).await;
                added = writer.flush().await;
            }
            if is_told && added.is_ok() {
                tracing::info!(backup, "the piece of log that waited is added");
            }
            (writer, shipment, added)
        }));
    }

    /// A piece is durable, or never will be.
    fn shipped(
        &mut self,
        (writer, shipment, added): (LogWriter, Shipment, Result<(), RepositoryError>),
        shipped: &mut (dyn FnMut(Shipped) + Send),
    ) -> Result<(), DatabaseError> {
        added?;
        self.writer = Some(writer);
        self.durable = shipment.end;
        self.shipped_at = self.context.clock.monotonic();
        self.shipped_through = shipment.through;
        let is_new_log = std::mem::take(&mut self.is_new_log);
        let Shipment { through, bytes, needs_base, .. } = shipment;
        shipped(Shipped { log: self.log.clone(), through, bytes, is_new_log, needs_base });
        if self.waiting.cut().is_some() {
            self.waiting_since.get_or_insert(self.shipped_at);
        }
        Ok(())
    }

    /// Tells the server how far we are.
    async fn tell(&mut self, to_answer: bool) -> Result<(), DatabaseError> {
        let mut status = vec![b'r'];
        for number in [self.waiting.end().0, self.durable.0, 0] {
            status.extend(number.to_be_bytes());
        }
        status.extend(micros_of_message(self.context.clock.now()).to_be_bytes());
        status.push(u8::from(to_answer));
        self.told_at = self.context.clock.monotonic();
        self.wire.send_data(&status).await.map_err(|error| self.of.error(error))
    }

    /// Asks how far the server has written, unless an answer is still awaited or all of the last one is not here yet.
    fn ask(&mut self) {
        if self.asked.is_some() {
            return;
        }
        let Some(mut sql) = self.sql.take() else { return };
        let (clock, segment_bytes) = (Arc::clone(&self.context.clock), self.facts.segment_bytes);
        self.asking = Some(Box::pin(async move {
            let before = clock.now();
            let written = Written::ask(&mut sql, segment_bytes).await;
            (sql, before, clock.now(), written)
        }));
    }

    fn answered(
        &mut self,
        (sql, before, after, written): (Connection, Time, Time, Result<Written, WireError>),
    ) -> Result<(), DatabaseError> {
        let written = written.map_err(|error| self.of.error(error))?;
        self.sql = Some(sql);
        let read = Ahead::read(written.clock, (before, after), self.context.clock.monotonic());
        let ahead = self.ahead.insert(read.after(self.ahead));
        self.facts.clock_ahead_us = ahead.guess().micros();
        self.asked = Some((written.end, before));
        self.prove();
        Ok(())
    }

    /// Sees whether all is here that the server had written when it was asked.
    fn prove(&mut self) {
        if let Some((end, before)) = self.asked
            && self.waiting.whole_end() >= end
        {
            self.waiting.through = before;
            self.asked = None;
        }
    }

    /// Makes durable what was received. Where the engine is to stop, not for longer than that may take.
    async fn drain(&mut self, shipped: &mut (dyn FnMut(Shipped) + Send)) -> Result<(), DatabaseError> {
        let stop = self.context.stop.clone();
        let all = async {
            loop {
                if self.shipping.is_none() {
                    let has_news = self.waiting.cut().is_some() || self.waiting.through > self.shipped_through;
                    if !has_news || self.writer.is_none() {
                        return Ok::<(), DatabaseError>(());
                    }
                    self.ship();
                }
                let done = ready(&mut self.shipping).await;
                self.shipping = None;
                self.shipped(done, shipped)?;
            }
        };
        tokio::select! {
            drained = all => drained?,
            () = late(&stop) => {
                return Err(self.of.error("what was received last is not in the repository: it is received again at the next start"));
            }
        }
        // The server may be gone, which is why this ends.
        if self.tell(false).await.is_ok() && self.wire.part().await.is_ok() {
            tracing::debug!(backup = self.of.name, "the server is told how far it was received");
        }
        Ok(())
    }
}

/// Waits until the engine has been to stop for a while.
async fn late(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(STOPS_WITHIN.to_std()).await;
}

/// What a future gives that is there, or nothing ever.
async fn ready<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// Whether adding the same object again may go well.
fn may_pass(error: &RepositoryError) -> bool {
    matches!(error, RepositoryError::Object(error)
        if matches!(error.why, Why::Missing | Why::Refused | Why::Full | Why::Unavailable))
}
