//! What was received and has not left: bytes of the log, cut into pieces when it is time.
//!
//! A piece is of one file. It ends where the log was when it became due, in the middle of an event of more than a megabyte if need
//! be. The head of each piece says how to find out later whether a server still has the same log: see [`Facts`].

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::Clock;
use event::{Monotonic, Span, Time};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;

use super::events::{Format, Gtid};
use super::mark::{self, Mark, Position};
use crate::database::{IDLE_EVERY, PieceHead, SHIP_AFTER, WAITING_BYTES_MAX};
use crate::sealed::hex;

/// How long the start of a new log waits: bases wait for it.
const WAIT_AT_FIRST: Span = Span::from_secs(2);
/// Most pieces that wait: files that are changed all the time make small ones.
const PIECES_MAX: usize = 64;

/// What tells a file of a binary log from another one of its name.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(super) struct FileIdentity {
    /// Its name.
    pub(super) name: String,
    /// The second in which it was begun, by the clock of the server.
    pub(super) began_at: Time,
    /// The number of the server (`server_id`).
    pub(super) server: u32,
    /// The version of the server.
    pub(super) version: String,
}

impl FileIdentity {
    pub(super) fn new(name: &str, format: &Format) -> Self {
        Self {
            name: name.to_owned(),
            began_at: format.began_at,
            server: format.server,
            version: format.version.clone(),
        }
    }
}

/// The last event of a log, or what of it was received.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(super) struct Tail {
    /// Where it begins.
    pub(super) at: u64,
    /// SHA-256 of it, in hexadecimal.
    pub(super) sha256: String,
}

/// What the head of a piece says beside ([`PieceHead::facts`]).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(super) struct Facts {
    /// The file that it is of.
    pub(super) file: FileIdentity,
    /// Of a piece that begins a file: where the file before ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) before: Option<u64>,
    /// The last event of the log up to the end of the piece.
    pub(super) tail: Tail,
    /// The marks that the piece reaches, and the last one before them.
    pub(super) marks: Vec<Mark>,
}

/// A piece that is to leave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Piece {
    pub(super) file: u32,
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) head: PieceHead,
    pub(super) bytes: Vec<u8>,
}

/// The bytes that wait.
pub(super) struct Waiting {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    has_room: Notify,
    is_due: Notify,
}

struct State {
    file: FileIdentity,
    /// Behind everything that was received.
    position: Position,
    open: Open,
    tail_at: u64,
    tail: Sha256,
    closed: VecDeque<Arc<Piece>>,
    closed_bytes: usize,
    /// Marks that what was received does not reach, the oldest first.
    marks: Vec<Mark>,
    /// The last mark that is in a piece.
    last_mark: Option<Mark>,
    through: Time,
    /// When a piece was closed last.
    closed_at: Monotonic,
    wait: Span,
}

/// The piece that is being filled.
#[derive(Default)]
struct Open {
    start: u64,
    bytes: Vec<u8>,
    since: Option<Monotonic>,
    first_commit: Option<Time>,
    last_commit: Option<Time>,
    before: Option<u64>,
}

impl Waiting {
    /// For a log that begins with this file.
    pub(super) fn at_start(clock: Arc<dyn Clock>, number: u32, file: FileIdentity) -> Self {
        let position = Position { file: number, at: 0 };
        // Nothing is known yet but that whatever was committed before the file was begun is no matter of this log.
        let through = file.began_at;
        Self::new(clock, file, position, (0, Sha256::new()), through, None, WAIT_AT_FIRST)
    }

    /// For a log that goes on behind a piece; `tail` has hashed its last event.
    pub(super) fn behind(
        clock: Arc<dyn Clock>,
        position: Position,
        facts: &Facts,
        tail: Sha256,
        through: Time,
    ) -> Self {
        let (tail, last_mark) = ((facts.tail.at, tail), facts.marks.last().copied());
        Self::new(clock, facts.file.clone(), position, tail, through, last_mark, SHIP_AFTER)
    }

    fn new(
        clock: Arc<dyn Clock>,
        file: FileIdentity,
        position: Position,
        (tail_at, tail): (u64, Sha256),
        through: Time,
        last_mark: Option<Mark>,
        wait: Span,
    ) -> Self {
        let state = State {
            file,
            position,
            open: Open { start: position.at, ..Open::default() },
            tail_at,
            tail,
            closed: VecDeque::new(),
            closed_bytes: 0,
            marks: Vec::new(),
            last_mark,
            through,
            closed_at: clock.monotonic(),
            wait,
        };
        Self { clock, state: Mutex::new(state), has_room: Notify::new(), is_due: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Behind everything that was received.
    pub(super) fn position(&self) -> Position {
        self.state().position
    }

    /// What follows is of the next file.
    pub(super) fn next_file(&self, number: u32, file: FileIdentity) {
        let now = self.clock.monotonic();
        let mut state = self.state();
        if !state.open.bytes.is_empty() {
            state.close(now);
        }
        let before = Some(state.position.at);
        state.file = file;
        state.position = Position { file: number, at: 0 };
        state.open = Open { before, ..Open::default() };
        self.is_due.notify_one();
    }

    /// The next bytes of the file.
    pub(super) fn push(&self, bytes: &[u8], begins: bool, gtid: Option<(Gtid, Time)>) {
        let now = self.clock.monotonic();
        let mut state = self.state();
        if begins {
            state.tail_at = state.position.at;
            state.tail = Sha256::new();
        }
        state.tail.update(bytes);
        state.position.at += bytes.len() as u64;
        state.open.since.get_or_insert(now);
        state.open.bytes.extend(bytes);
        if let Some((_, at)) = gtid {
            state.open.first_commit.get_or_insert(at);
            state.open.last_commit = Some(at);
        }
        if state.is_full() {
            self.is_due.notify_one();
        }
    }

    /// A mark was made.
    pub(super) fn mark(&self, mark: Mark) {
        mark::add(&mut self.state().marks, mark);
    }

    /// Waits until there is room for more.
    pub(super) async fn room(&self) {
        while self.state().is_full() {
            self.has_room.notified().await;
        }
    }

    /// Waits until a piece is due, and gives it. It stays the first one until it has [`left`](Self::left).
    pub(super) async fn due(&self) -> Arc<Piece> {
        loop {
            let wait = {
                let now = self.clock.monotonic();
                let mut state = self.state();
                let wait = state.wait(now);
                if wait <= Span::ZERO && state.closed.is_empty() {
                    state.close(now);
                }
                if let Some(piece) = state.closed.front() {
                    return Arc::clone(piece);
                }
                wait
            };
            tokio::select! {
                () = tokio::time::sleep(wait.min(Span::from_secs(1)).to_std()) => {}
                () = self.is_due.notified() => {}
            }
        }
    }

    /// The first piece, without waiting until it is due; `None` where nothing waits.
    pub(super) fn first(&self) -> Option<Arc<Piece>> {
        let now = self.clock.monotonic();
        let mut state = self.state();
        if state.closed.is_empty() && !state.open.bytes.is_empty() {
            state.close(now);
        }
        state.closed.front().cloned()
    }

    /// The first piece is durable elsewhere.
    pub(super) fn left(&self) {
        let mut state = self.state();
        if let Some(piece) = state.closed.pop_front() {
            state.closed_bytes -= piece.bytes.len();
        }
        self.has_room.notify_one();
    }
}

impl State {
    fn is_full(&self) -> bool {
        self.closed_bytes + self.open.bytes.len() >= WAITING_BYTES_MAX || self.closed.len() >= PIECES_MAX
    }

    /// How long until a piece is due.
    fn wait(&self, now: Monotonic) -> Span {
        let until = |since: Monotonic, wait: Span| Span::from_micros(wait.micros() - now.since(since).micros());
        match self.open.since {
            Some(_) if self.open.bytes.len() >= WAITING_BYTES_MAX => Span::ZERO,
            Some(since) => until(since, self.wait),
            None if self.reached() > 0 => until(self.closed_at, IDLE_EVERY),
            None => Span::from_secs(1),
        }
    }

    /// How many marks lie before the end of what was received.
    fn reached(&self) -> usize {
        self.marks.iter().take_while(|mark| mark.position <= self.position).count()
    }

    fn close(&mut self, now: Monotonic) {
        let reached = self.reached();
        let mut marks: Vec<Mark> = self.last_mark.into_iter().collect();
        for mark in self.marks.drain(..reached) {
            mark::add(&mut marks, mark);
        }
        self.last_mark = marks.last().copied();
        if reached > 0 {
            self.through = self.last_mark.map_or(self.through, |mark| mark.asked);
        }
        let end = self.position.at;
        let open = std::mem::replace(&mut self.open, Open { start: end, ..Open::default() });
        let tail = Tail { at: self.tail_at, sha256: hex(&self.tail.clone().finalize()) };
        let facts = Facts { file: self.file.clone(), before: open.before, tail, marks };
        let head = PieceHead {
            through: self.through,
            first_commit: open.first_commit,
            last_commit: open.last_commit,
            facts: serde_json::to_value(facts).unwrap_or_default(),
        };
        self.closed_bytes += open.bytes.len();
        let piece = Piece { file: self.position.file, start: open.start, end, head, bytes: open.bytes };
        self.closed.push_back(Arc::new(piece));
        (self.closed_at, self.wait) = (now, SHIP_AFTER);
    }
}

#[cfg(test)]
mod tests {
    use engine::clock::SimClock;

    use super::*;

    fn identity(name: &str) -> FileIdentity {
        FileIdentity { name: name.into(), began_at: Time::from_secs(100), server: 7, version: "10.11".into() }
    }

    fn waiting() -> (Arc<SimClock>, Waiting) {
        let clock = Arc::new(SimClock::starting_at(Time::from_secs(1000)));
        let waiting = Waiting::at_start(Arc::clone(&clock) as _, 1, identity("binlog.000001"));
        (clock, waiting)
    }

    fn mark(clock: &SimClock, file: u32, at: u64) -> Mark {
        Mark { asked: clock.now(), answered: clock.now(), position: Position { file, at } }
    }

    fn facts(piece: &Piece) -> Facts {
        serde_json::from_value(piece.head.facts.clone()).expect("facts")
    }

    async fn soon(waiting: &Waiting) -> Option<Arc<Piece>> {
        tokio::time::timeout(Span::from_millis(1).to_std(), waiting.due()).await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_piece_leaves_when_its_first_byte_has_waited_for_long_enough() {
        let (clock, waiting) = waiting();
        waiting.push(&[1; 10], true, None);
        let first = waiting.due().await;
        assert_eq!((first.start, first.end, clock.now()), (0, 10, Time::from_secs(1002)), "at first it is quick");
        assert_eq!(first.head.through, Time::from_secs(100), "nothing proves more");
        waiting.left();
        let gtid = Gtid { domain: 0, server: 7, sequence: 1, has_rows_behind: false, is_standalone: false };
        waiting.push(&[2; 10], true, Some((gtid, Time::from_secs(1002))));
        waiting.mark(mark(&clock, 1, 20));
        waiting.mark(mark(&clock, 1, 21));
        let second = waiting.due().await;
        assert_eq!((second.start, second.end, clock.now()), (10, 20, Time::from_secs(1010)));
        assert_eq!(
            (second.head.through, second.head.last_commit),
            (Time::from_secs(1002), Some(Time::from_secs(1002)))
        );
        assert_eq!(facts(&second).marks.len(), 1, "the other lies behind it");
        assert_eq!(facts(&second).tail, Tail { at: 10, sha256: hex(&Sha256::digest([2; 10])) });
        assert_eq!(waiting.due().await, second, "it stays until it has left");
        waiting.left();
        assert!(soon(&waiting).await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_log_says_so_only_where_that_is_proved() {
        let (clock, waiting) = waiting();
        waiting.push(&[1; 10], true, None);
        waiting.due().await;
        waiting.left();
        assert!(tokio::time::timeout(Span::from_secs(300).to_std(), waiting.due()).await.is_err(), "no mark");
        waiting.mark(mark(&clock, 1, 10));
        let asked = clock.now();
        let idle = waiting.due().await;
        assert_eq!((idle.start, idle.end, idle.head.through, idle.bytes.len()), (10, 10, asked, 0));
        waiting.left();
        waiting.push(&[2; 10], true, None);
        let next = waiting.due().await;
        assert_eq!(next.head.through, asked);
        assert_eq!(facts(&next).marks.len(), 1, "the last one before is told again");
    }

    #[tokio::test(start_paused = true)]
    async fn files_are_pieces_of_their_own_and_memory_is_bounded() {
        let (_, waiting) = waiting();
        waiting.push(&[1; 10], true, None);
        waiting.next_file(2, identity("binlog.000002"));
        assert_eq!(soon(&waiting).await.expect("the file has ended").end, 10);
        waiting.left();
        waiting.push(&vec![2; WAITING_BYTES_MAX], true, None);
        let full = soon(&waiting).await.expect("at once");
        assert_eq!((full.file, full.start, facts(&full).before), (2, 0, Some(10)));
        assert!(tokio::time::timeout(Span::from_secs(60).to_std(), waiting.room()).await.is_err());
        waiting.left();
        waiting.room().await;
        // In the middle of an event.
        waiting.push(&[3; 10], true, None);
        let begun = waiting.first().expect("something waits");
        waiting.left();
        waiting.push(&[4; 10], false, None);
        let rest = waiting.first().expect("something waits");
        assert_eq!((begun.start + 10, rest.start), (begun.end, begun.end));
        assert_eq!(
            facts(&rest).tail,
            Tail { at: begun.start, sha256: hex(&Sha256::digest([[3; 10], [4; 10]].concat())) }
        );
        waiting.left();
        assert_eq!(waiting.first(), None);
        for file in 3..=u32::try_from(PIECES_MAX).expect("small") + 3 {
            waiting.push(&[5], true, None);
            waiting.next_file(file, identity("next"));
        }
        assert!(tokio::time::timeout(Span::from_secs(60).to_std(), waiting.room()).await.is_err(), "too many pieces");
    }
}
