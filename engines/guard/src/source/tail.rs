//! Log files followed by their paths, through every kind of rotation.
//!
//! Each path is a [`Slot`]: the file that is there now, and before it those that were there and may still grow. A look asks each
//! path which file it has now and reads what is new, oldest file first. What makes it a rotation is the identity of the file (device
//! and inode); what makes it a truncation is that the bytes before the offset have changed. Files that were read stay known, so
//! that one that comes back under another name, or as a copy, is not read again.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use event::{Clock, Monotonic, Span, Time};

use super::glob;
use super::log_file::{Identity, LogFile, Outcome};
use super::position::{Place, Position, Positions, WINDOW};
use super::siblings::{Rest, is_compressed, is_rotated, rest_of};

mod batch;
mod places;

pub use batch::{Batch, Line, Notice, Problem};

/// Where to start in a log that is seen for the first time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// At its end (`tail`).
    End,
    /// At its beginning (`head`).
    Beginning,
    /// About where its lines are no older than this: `findtime`.
    Since(Span),
}

/// A path, or a pattern of paths, and where to start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Follow {
    /// The path; `*`, `?` and `[…]` are as in Python's `glob`.
    pub pattern: String,
    /// Where to start.
    pub start: Start,
}

/// What bounds a look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TailLimits {
    /// Longest line, in bytes without its end; of a longer one that much is taken.
    pub line_max: usize,
    /// Most lines of a batch.
    pub lines_max: usize,
    /// Most bytes that a batch reads, but for its last line.
    pub bytes_max: usize,
    /// Most paths.
    pub paths_max: usize,
    /// Most files that were read and are remembered.
    pub done_max: usize,
    /// How long a file that is no longer at its path is kept open after its last line: a daemon goes on writing to it until it is
    /// told of the rotation. A deleted file keeps its space on disk for so long.
    pub linger: Span,
    /// How often patterns are expanded again.
    pub expand_every: Span,
    /// After what time a last line without an end is taken as it is, and what follows as another one. Nothing, as in fail2ban: it is
    /// waited for, because half a line may hold half an address.
    pub partial_after: Option<Span>,
}

impl Default for TailLimits {
    fn default() -> Self {
        Self {
            line_max: 64 * 1024,
            lines_max: 10_000,
            bytes_max: 4 * 1024 * 1024,
            paths_max: PATHS_MAX,
            done_max: 1000,
            linger: Span::from_secs(60),
            expand_every: Span::from_secs(10),
            partial_after: None,
        }
    }
}

/// Most logs of one stream of lines.
const PATHS_MAX: usize = 1000;
/// Most files of one path at once; beyond it the oldest are given up and said.
const FILES_MAX: usize = 16;
/// How long a log is to be readable whose file system has failed, before it is said to be read again: one that fails now and then is
/// said once.
const RECOVERED_AFTER: Span = Span::from_secs(60);

/// One path.
#[derive(Debug)]
struct Slot {
    path: String,
    start: Start,
    /// Open files, the oldest first.
    files: Vec<LogFile>,
    /// The last of `files` is at the path.
    has_current: bool,
    /// Where its file was when this started, as long as the path was not looked at.
    before: Option<Position>,
    /// The last file that was there, when none is open.
    last: Option<Position>,
    /// Its end was reached once: what comes now is written now.
    in_operation: bool,
    /// When its end was seen last, or that there is no file.
    end_seen: Option<Monotonic>,
    problem: Option<Problem>,
    /// Since when it can be read, where it could not be.
    well_since: Option<Monotonic>,
    /// Since when the last line of the current file waits for its end, and at which offset.
    partial: Option<(u64, u64, Monotonic)>,
}

/// The logs that are followed.
#[derive(Debug)]
pub struct Tail {
    follows: Vec<Follow>,
    limits: TailLimits,
    slots: Vec<Slot>,
    /// Files that were read, the oldest first.
    done: Vec<Position>,
    /// Positions of files that were being finished when this started.
    rotated: Vec<Position>,
    directories: Vec<PathBuf>,
    /// The directories where a new file would matter, and which ones they were at the last look.
    watched: Vec<(PathBuf, Option<Identity>)>,
    /// Directories that may not be read, which was said.
    refused: BTreeSet<String>,
    /// Patterns of which not all logs are followed, which was said.
    crowded: BTreeSet<String>,
    expand_at: Option<Monotonic>,
    buffer: Vec<u8>,
    /// There was a look: what has no content until now is new.
    has_looked: bool,
    /// Which slot is read first, so that one busy log does not starve the others.
    turn: usize,
}

impl Tail {
    /// Follows `follows` from where `positions` say. Nothing is opened yet.
    pub fn new(follows: Vec<Follow>, limits: TailLimits, positions: &Positions) -> Self {
        let of = |place| positions.files.iter().filter(move |position| position.place == place).cloned();
        let mut tail = Self {
            buffer: vec![0; limits.line_max.max(128 * 1024) + 2 * WINDOW],
            follows,
            limits,
            slots: Vec::new(),
            done: of(Place::Done).collect(),
            rotated: of(Place::Rotated).collect(),
            directories: Vec::new(),
            watched: Vec::new(),
            refused: BTreeSet::new(),
            crowded: BTreeSet::new(),
            expand_at: None,
            has_looked: false,
            turn: 0,
        };
        for position in of(Place::Current).chain(of(Place::Rotated)) {
            if !tail.slots.iter().any(|slot| slot.path == position.path) {
                tail.slots.push(Slot::new(position.path.clone(), Start::Beginning));
            }
            if let Some(slot) = tail.slots.last_mut().filter(|_| position.place == Place::Current) {
                slot.before = Some(position);
            }
        }
        tail
    }

    /// Whether another one has come to the same places in the same logs. Where a log is not there just now, it is not known what is
    /// left to read of it.
    pub(crate) fn is_level_with(&self, other: &Self) -> bool {
        let is_settled = |slot: &Slot| slot.has_current || (slot.before.is_none() && slot.last.is_none());
        let are_settled = |tail: &Self| tail.rotated.is_empty() && tail.slots.iter().all(is_settled);
        let files = |tail: &Self| {
            let of = |slot: &Slot| {
                let files = slot.files.iter().map(|file| (slot.path.clone(), file.identity, file.offset));
                files.collect::<Vec<_>>()
            };
            tail.slots.iter().flat_map(of).collect::<BTreeSet<_>>()
        };
        are_settled(self)
            && are_settled(other)
            && self.slots.iter().any(|slot| slot.has_current)
            && files(self) == files(other)
    }

    /// Takes over what another one, which is level with it, knows of files that were read.
    pub(crate) fn join(&mut self, other: Self) {
        let new: Vec<Position> = other.done.into_iter().filter(|position| !self.done.contains(position)).collect();
        // At the bound, those of the other go first.
        self.done.splice(0..0, new);
    }

    /// Where everything is read to: after the last batch.
    pub fn positions(&self) -> Positions {
        let mut positions = Positions::default();
        for slot in &self.slots {
            positions.files.extend(slot.before.clone());
            let last = slot.files.len().checked_sub(usize::from(slot.has_current));
            positions.files.extend(slot.files.iter().enumerate().map(|(at, file)| {
                let place = if Some(at) == last && slot.has_current { Place::Current } else { Place::Rotated };
                file.position(&slot.path, place)
            }));
        }
        positions.files.extend(self.rotated.iter().cloned());
        positions.files.extend(self.done.iter().cloned());
        positions
    }

    /// Directories where a new file would matter: what to be woken by. Each with what was there at the last look, if that is known: by
    /// the same path, another one may be reached now.
    pub(super) fn watched_directories(&self) -> impl Iterator<Item = (&Path, Option<Identity>)> {
        self.watched.iter().map(|(path, identity)| (path.as_path(), *identity))
    }

    /// The paths that are read, in the same way.
    pub(super) fn watched_files(&self) -> impl Iterator<Item = (&Path, Option<Identity>)> {
        let open = self.slots.iter().filter(|slot| !slot.files.is_empty());
        open.map(|slot| (Path::new(&slot.path), slot.current().map(|file| file.identity)))
    }

    /// The paths with a file that can be read.
    pub fn read_paths(&self) -> impl Iterator<Item = &str> {
        let is_read = |slot: &&Slot| slot.has_current && slot.problem.is_none();
        self.slots.iter().filter(is_read).map(|slot| slot.path.as_str())
    }

    /// Notes which directories are to be watched, and which ones they are now.
    fn look_at_directories(&mut self) {
        let of_files = self.slots.iter().flat_map(|slot| &slot.files).map(|file| &file.directory);
        let all: BTreeSet<PathBuf> = self.directories.iter().chain(of_files).cloned().collect();
        let identified = all.into_iter().map(|path| {
            let identity = std::fs::metadata(&path).ok().map(|metadata| Identity::of(&metadata));
            (path, identity)
        });
        self.watched = identified.collect();
    }

    /// Has the patterns expanded again with the next look, because a directory has changed.
    pub const fn expand_again(&mut self) {
        self.expand_at = None;
    }

    /// Reads what is new. `time_of` says the time of a line of a path, for [`Start::Since`]. The batch is full when
    /// [`Batch::has_more`]: then look again at once.
    pub fn look(&mut self, clock: &dyn Clock, time_of: &mut dyn FnMut(&str, &[u8]) -> Option<Time>) -> Batch {
        let mut batch = Batch::new(&self.limits);
        let monotonic = clock.monotonic();
        self.reopen_rotated();
        if self.expand_at.is_none_or(|at| monotonic >= at) {
            self.expand(&mut batch);
            self.expand_at = Some(Monotonic(monotonic.0.saturating_add(self.limits.expand_every.micros())));
        }
        batch.name(self.slots.iter().map(|slot| slot.path.as_str()));
        for at in 0..self.slots.len() {
            self.locate(at, clock, time_of, &mut batch);
        }
        let slots = self.slots.len();
        self.turn = if slots == 0 { 0 } else { (self.turn + 1) % slots };
        for at in (self.turn..slots).chain(0..self.turn) {
            self.read(at, monotonic, &mut batch);
        }
        self.look_at_directories();
        self.has_looked = true;
        while self.done.len() > self.limits.done_max {
            self.done.remove(0);
        }
        batch
    }

    /// Makes slots of the paths that there are now.
    fn expand(&mut self, batch: &mut Batch) {
        self.directories.clear();
        let (mut refused, mut crowded) = (BTreeSet::new(), BTreeSet::new());
        for follow in &self.follows {
            let mut paths = vec![follow.pattern.clone()];
            if glob::is_pattern(&follow.pattern) {
                let expanded = glob::expand(&follow.pattern);
                refused.extend(expanded.refused.into_iter().map(|directory| directory.display().to_string()));
                if expanded.too_many {
                    crowded.insert(follow.pattern.clone());
                }
                self.directories.extend(expanded.directories);
                paths = expanded.paths;
                paths.retain(|path| !is_compressed(path));
            } else if let Some(parent) = Path::new(&follow.pattern).parent() {
                self.directories.push(parent.to_path_buf());
            }
            for path in paths {
                if let Some(slot) = self.slots.iter_mut().find(|slot| slot.path == path) {
                    slot.start = follow.start;
                } else if self.slots.len() < self.limits.paths_max {
                    let mut slot = Slot::new(path, follow.start);
                    slot.last = self.done.iter().rfind(|position| position.path == slot.path).cloned();
                    self.slots.push(slot);
                } else {
                    crowded.insert(follow.pattern.clone());
                }
            }
        }
        self.refuse(refused, batch);
        self.crowd(crowded, batch);
        // A path that matches no longer stays as long as it has a file, or may have one: its rest is read.
        let follows = &self.follows;
        self.slots.retain(|slot| {
            let is_named = follows.iter().any(|follow| follow.pattern == slot.path);
            let has_file = !slot.files.is_empty() || slot.before.is_some();
            let stays = is_named || has_file || Path::new(&slot.path).symlink_metadata().is_ok();
            if !stays && slot.problem.is_some() {
                // What is no longer there is no longer unread.
                batch.notices.push(Notice::Readable { path: slot.path.clone() });
            }
            stays
        });
        // A log comes before what its rotation makes of it, whose names are longer: what is a copy is known by the original.
        self.slots.sort_by_key(|slot| slot.path.len());
        self.directories.sort_unstable();
        self.directories.dedup();
    }

    /// Says once of each directory that it may not be read, and that it may again.
    pub(super) fn refuse(&mut self, refused: BTreeSet<String>, batch: &mut Batch) {
        let problem = Problem::Denied;
        let said = refused.difference(&self.refused).map(|path| Notice::Unreadable { path: path.clone(), problem });
        batch.notices.extend(said);
        let over = self.refused.difference(&refused).map(|path| Notice::Readable { path: path.clone() });
        batch.notices.extend(over);
        self.refused = refused;
    }

    /// Says once of each pattern that not all of its logs are followed, and that they are again.
    fn crowd(&mut self, crowded: BTreeSet<String>, batch: &mut Batch) {
        let said = crowded.difference(&self.crowded).map(|path| Notice::TooMany { path: path.clone() });
        batch.notices.extend(said);
        let over = self.crowded.difference(&crowded).map(|path| Notice::Readable { path: path.clone() });
        batch.notices.extend(over);
        self.crowded = crowded;
    }
}

impl Slot {
    const fn new(path: String, start: Start) -> Self {
        Self {
            path,
            start,
            files: Vec::new(),
            has_current: false,
            before: None,
            last: None,
            in_operation: false,
            end_seen: None,
            problem: None,
            well_since: None,
            partial: None,
        }
    }
}
