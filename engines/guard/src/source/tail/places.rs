//! Which file a path has, what became of the one before, and what there is to read in them.

use super::{
    Batch, Clock, FILES_MAX, HashSet, Identity, LogFile, Monotonic, Notice, Outcome, Path, Place, Position, Problem,
    RECOVERED_AFTER, Rest, Slot, Start, Tail, Time, io, is_rotated, rest_of,
};
use crate::source::seek::seek_to;

impl Tail {
    /// Opens again what was being finished when this started.
    pub(super) fn reopen_rotated(&mut self) {
        for position in std::mem::take(&mut self.rotated) {
            let Some(at) = self.slots.iter().position(|slot| slot.path == position.path) else {
                self.done.push(Position { place: Place::Done, ..position });
                continue;
            };
            self.reopen(at, position);
        }
    }

    /// Opens the file with `position`, which is no longer at its path, or a copy of it.
    fn reopen(&mut self, at: usize, position: Position) {
        let directory = real_directory(&self.slots[at].path);
        let open = self.open_identities();
        let rest = self.rest_of(at, &position, false, &directory, &open);
        let slot = &mut self.slots[at];
        if let Some(file) = rest.itself {
            slot.files.push(file);
        } else {
            let position = Position { place: Place::Done, ..position };
            slot.last = Some(position.clone());
            self.done.push(position);
        }
    }

    fn open_identities(&self) -> HashSet<Identity> {
        self.slots.iter().flat_map(|slot| slot.files.iter().map(|file| file.identity)).collect()
    }

    /// Looks which file the path of a slot has now.
    pub(super) fn locate(
        &mut self,
        at: usize,
        clock: &dyn Clock,
        time_of: &mut dyn FnMut(&str, &[u8]) -> Option<Time>,
        batch: &mut Batch,
    ) {
        let monotonic = clock.monotonic();
        let path = self.slots[at].path.clone();
        let opened = match std::fs::metadata(&path).map(|metadata| Identity::of(&metadata)) {
            Ok(identity) if self.slots[at].current().is_some_and(|file| file.identity == identity) => return,
            Ok(_) => LogFile::open(Path::new(&path)),
            Err(error) => Err(error),
        };
        let mut file = match opened {
            Ok(file) => file,
            Err(error) => {
                // It was renamed, and there is no new one yet.
                if error.kind() == io::ErrorKind::NotFound
                    && let Some(before) = self.slots[at].before.take()
                {
                    self.reopen(at, before);
                }
                return self.slots[at].has_none(&error, monotonic, batch);
            }
        };
        self.slots[at].recover(monotonic, batch);
        let is_it = |open: &LogFile| open.identity == file.identity;
        let owner = self.slots.iter().position(|slot| slot.files.iter().any(is_it));
        if owner == Some(at) {
            return self.slots[at].bring_back(file.identity);
        }
        // Another path reads it, for it was rotated from there to here, or is linked; or it is a copy of what is read there.
        if owner.is_some() || !self.is_ours(at, &file) {
            if let Some(before) = self.slots[at].before.take() {
                self.reopen(at, before);
            }
            return self.slots[at].retire(monotonic);
        }
        if let Some(before) = self.slots[at].before.take() {
            return self.follow_after(at, file, before, monotonic, batch);
        }
        // Of those that were read, or are copies of one that was, only what follows.
        let known = self.read_before(&file, &path).cloned();
        let slot = &mut self.slots[at];
        let is_open = !slot.files.is_empty();
        let had_current = slot.has_current;
        let is_deleted = slot.current().is_some_and(LogFile::is_deleted);
        let open = slot.files.last().map(|old| old.position(&path, Place::Done));
        if let Some(previous) = open.or_else(|| slot.last.take()) {
            // A file that was written anew, by an editor, with everything that was in it.
            if is_deleted && previous.is_telling() && file.resume(&previous) {
                slot.files.pop();
                slot.files.push(file);
                return;
            }
            slot.retire(monotonic);
            match known {
                // A link that goes back to where it led before.
                Some(known) => _ = file.resume(&known),
                None => _ = self.add_rest(at, self.slots[at].files.len(), &previous, is_open, &file, monotonic),
            }
            if had_current {
                batch.notices.push(Notice::Rotated { path });
            }
            return self.slots[at].set_current(file);
        }
        if let Some(known) = known {
            file.resume(&known);
            return slot.set_current(file);
        }
        let result = match slot.start {
            Start::Since(length) => seek_to(&mut file, clock.now() - length, |line| time_of(&path, line)),
            Start::End if !self.has_looked => {
                (slot.in_operation, slot.end_seen) = (true, Some(monotonic));
                file.seek_to_end()
            }
            Start::End | Start::Beginning => Ok(()),
        };
        match result {
            Ok(()) => slot.set_current(file),
            Err(error) => slot.has_none(&error, monotonic, batch),
        }
    }

    /// Whether a file that is new at a path is a log of its own, and not a copy that is being made of another one.
    fn is_ours(&self, at: usize, file: &LogFile) -> bool {
        let Ok(size) = file.size() else { return false };
        let name = base(&self.slots[at].path);
        let siblings = self.slots.iter().filter(|slot| is_rotated(base(&slot.path), name));
        if self.is_awaited(at, file) {
            return false;
        }
        siblings.flat_map(|slot| &slot.files).filter(|open| open.directory == file.directory).all(|open| {
            let position = open.position("", Place::Done);
            if size >= open.offset {
                size > 0 && (!position.is_telling() || position.before_in(&file.file).is_none())
            } else {
                size > 0 && open.is_start_of_this(file) == Some(false)
            }
        })
    }

    /// Whether another slot than `at` will go on with this file, or with the one that it is a copy of, when its turn comes after a
    /// start.
    fn is_awaited(&self, at: usize, file: &LogFile) -> bool {
        let others = self.slots.iter().enumerate().filter(|(other, _)| *other != at);
        others.filter_map(|(_, slot)| slot.before.as_ref()).any(|before| {
            if before.is_telling() {
                before.before_in(&file.file).is_some()
            } else {
                (before.device, before.inode) == (file.identity.device, file.identity.inode)
            }
        })
    }

    /// What is known of a file that was read before, whatever it was called.
    fn read_before(&self, file: &LogFile, path: &str) -> Option<&Position> {
        let has = |position: &&Position| position.is_telling() && position.before_in(&file.file).is_some();
        let same =
            |position: &&Position| (position.device, position.inode) == (file.identity.device, file.identity.inode);
        let itself = self.done.iter().filter(same).filter(has).max_by_key(|position| position.offset);
        itself.or_else(|| {
            let name = base(path);
            let named = |position: &&Position| {
                let known = base(&position.path);
                known == name || is_rotated(known, name) || is_rotated(name, known)
            };
            self.done.iter().filter(named).filter(has).max_by_key(|position| position.offset)
        })
    }

    /// The first file of a path after a start: what became of the one that it had before.
    fn follow_after(
        &mut self,
        at: usize,
        mut file: LogFile,
        before: Position,
        monotonic: Monotonic,
        batch: &mut Batch,
    ) {
        let is_same = (before.device, before.inode) == (file.identity.device, file.identity.inode);
        if is_same && file.resume(&before) {
            return self.slots[at].set_current(file);
        }
        let path = self.slots[at].path.clone();
        let (found, _) = self.add_rest(at, self.slots[at].files.len(), &before, false, &file, monotonic);
        if !found && !is_same && before.is_telling() && file.resume(&before) {
            // Written anew with everything that was in it, or a file system that numbers its files anew.
            return self.slots[at].set_current(file);
        }
        let is_gone = before.is_telling() && !found;
        self.done.push(Position { place: Place::Done, ..before });
        if is_same {
            batch.notices.push(Notice::Truncated { path, has_copy: found });
        } else {
            if is_gone {
                batch.notices.push(Notice::RestGone { path: path.clone() });
            }
            // Where the path is one of a rotation, the file that is there now has mostly been read at another one.
            let known = self.read_before(&file, &path).cloned();
            if let Some(known) = known {
                file.resume(&known);
            }
            batch.notices.push(Notice::Rotated { path });
        }
        self.slots[at].set_current(file);
    }

    /// Adds what is left of the file with `position`, and what came after it and before `current`, at `which` of the files of a
    /// slot. Says whether the file, or a copy of it, was found, and how many were added.
    fn add_rest(
        &mut self,
        at: usize,
        which: usize,
        position: &Position,
        is_open: bool,
        current: &LogFile,
        monotonic: Monotonic,
    ) -> (bool, usize) {
        let mut known = self.open_identities();
        known.insert(current.identity);
        let rest = self.rest_of(at, position, is_open, &current.directory, &known);
        let found = rest.itself.is_some() || !is_open && !rest.behind.is_empty();
        let mut files: Vec<LogFile> = rest.itself.into_iter().chain(rest.between).collect();
        for file in &mut files {
            file.silent_since = Some(monotonic);
        }
        let added = files.len();
        self.slots[at].files.splice(which..which, files);
        (found, added)
    }

    /// What there is behind `position` of the log of a slot, without the files in `known`. Copies that were read are known from now
    /// on.
    fn rest_of(
        &mut self,
        at: usize,
        position: &Position,
        is_open: bool,
        directory: &Path,
        known: &HashSet<Identity>,
    ) -> Rest {
        let of_path = self.done.iter().filter(|done| done.path == position.path);
        let was_read = |file: &LogFile| {
            self.read_before(file, &position.path).is_some()
                || of_path.clone().any(|done| done.is_behind(file))
                || self.is_awaited(at, file)
        };
        let rest = rest_of(directory, base(&self.slots[at].path), position, is_open, known, was_read);
        self.done.extend(rest.behind.iter().map(|copy| copy.position(&position.path, Place::Done)));
        rest
    }

    /// Gives up the oldest files of a slot that has too many.
    fn bound(&mut self, at: usize, batch: &mut Batch) {
        let slot = &mut self.slots[at];
        while slot.files.len() > FILES_MAX {
            let given_up = slot.files.remove(0);
            self.done.push(given_up.position(&slot.path, Place::Done));
            batch.notices.push(Notice::GivenUp { path: slot.path.clone() });
        }
    }

    /// Reads the files of a slot, the oldest first.
    pub(super) fn read(&mut self, at: usize, monotonic: Monotonic, batch: &mut Batch) {
        self.bound(at, batch);
        let mut which = 0;
        while which < self.slots[at].files.len() {
            let slot = &mut self.slots[at];
            batch.set_in_operation(slot.in_operation, slot.end_seen);
            let number = u32::try_from(at).unwrap_or(u32::MAX);
            let is_current = slot.has_current && which + 1 == slot.files.len();
            let lines = batch.len();
            let file = &mut slot.files[which];
            let outcome = file.read(batch, number, &mut self.buffer);
            match outcome {
                Ok(Outcome::Full) => return slot.recover(monotonic, batch),
                Ok(Outcome::End) => {}
                // What is left in its copy is at its place now.
                Ok(Outcome::Truncated) => {
                    self.restart(at, which, monotonic, batch);
                    continue;
                }
                Err(error) => {
                    slot.say(Problem::of(&error), batch);
                    if is_current {
                        return;
                    }
                    // The one behind it is read all the same, and this one given up when it does not come back.
                    let since = *slot.files[which].silent_since.get_or_insert(monotonic);
                    if monotonic.since(since) >= self.limits.linger {
                        let gone = slot.files.remove(which);
                        self.done.push(gone.position(&slot.path, Place::Done));
                        batch.notices.push(Notice::RestGone { path: slot.path.clone() });
                    } else {
                        which += 1;
                    }
                    continue;
                }
            }
            if is_current {
                slot.recover(monotonic, batch);
                (slot.in_operation, slot.end_seen) = (true, Some(monotonic));
                slot.wait_for_end(batch, number, &mut self.buffer, monotonic, self.limits.partial_after);
                which += 1;
                continue;
            }
            let file = &mut slot.files[which];
            let since = *file.silent_since.get_or_insert(monotonic);
            if batch.len() > lines {
                file.silent_since = Some(monotonic);
            } else if monotonic.since(since) >= self.limits.linger {
                // Read errors were met above; the line without an end is the last one.
                if file.finish(batch, number, &mut self.buffer).is_ok() {
                    let file = slot.files.remove(which);
                    let position = file.position(&slot.path, Place::Done);
                    if slot.files.is_empty() {
                        slot.last = Some(position.clone());
                    }
                    self.done.push(position);
                    continue;
                }
            }
            which += 1;
        }
        let slot = &mut self.slots[at];
        if slot.in_operation && !slot.has_current && slot.problem.is_none() {
            slot.end_seen = Some(monotonic);
        }
    }

    /// A file of a slot was truncated: looks for a copy of what was in it, and starts anew.
    fn restart(&mut self, at: usize, which: usize, monotonic: Monotonic, batch: &mut Batch) {
        let mut file = self.slots[at].files.remove(which);
        let path = self.slots[at].path.clone();
        let position = file.position(&path, Place::Done);
        file.restart();
        let (has_copy, added) = self.add_rest(at, which, &position, false, &file, monotonic);
        self.done.push(position);
        self.slots[at].files.insert(which + added, file);
        batch.notices.push(Notice::Truncated { path, has_copy });
    }
}

impl Slot {
    pub(super) fn current(&self) -> Option<&LogFile> {
        self.files.last().filter(|_| self.has_current)
    }

    fn set_current(&mut self, mut file: LogFile) {
        file.silent_since = None;
        self.files.push(file);
        (self.has_current, self.partial) = (true, None);
    }

    /// The file is no longer at its path.
    fn retire(&mut self, monotonic: Monotonic) {
        if std::mem::take(&mut self.has_current)
            && let Some(file) = self.files.last_mut()
        {
            file.silent_since = Some(monotonic);
        }
    }

    /// One of its files is at its path again.
    fn bring_back(&mut self, identity: Identity) {
        if let Some(which) = self.files.iter().position(|file| file.identity == identity) {
            let file = self.files.remove(which);
            self.set_current(file);
        }
    }

    /// The path has no file that can be read.
    fn has_none(&mut self, error: &io::Error, monotonic: Monotonic, batch: &mut Batch) {
        self.retire(monotonic);
        // Logs come and go: a path without a file is no problem of its own.
        if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) {
            self.say(Problem::of(error), batch);
        }
    }

    /// It can be opened or read: said at once, but where its file system had failed, which may fail again.
    fn recover(&mut self, monotonic: Monotonic, batch: &mut Batch) {
        let Some(problem) = self.problem else { return };
        let since = *self.well_since.get_or_insert(monotonic);
        if !matches!(problem, Problem::Failed(_)) || monotonic.since(since) >= RECOVERED_AFTER {
            (self.problem, self.well_since) = (None, None);
            batch.notices.push(Notice::Readable { path: self.path.clone() });
        }
    }

    fn say(&mut self, problem: Problem, batch: &mut Batch) {
        self.well_since = None;
        if self.problem != Some(problem) {
            self.problem = Some(problem);
            batch.notices.push(Notice::Unreadable { path: self.path.clone(), problem });
        }
    }

    /// Takes the last line without its end when that was waited for long enough.
    fn wait_for_end(
        &mut self,
        batch: &mut Batch,
        number: u32,
        buffer: &mut [u8],
        monotonic: Monotonic,
        partial_after: Option<event::Span>,
    ) {
        let (Some(after), Some(file)) = (partial_after, self.files.last_mut()) else { return };
        let Ok(size) = file.size() else { return };
        match self.partial {
            _ if size <= file.offset => self.partial = None,
            Some((offset, seen, since)) if (offset, seen) == (file.offset, size) => {
                if monotonic.since(since) >= after && file.finish(batch, number, buffer).is_ok() {
                    self.partial = None;
                }
            }
            _ => self.partial = Some((file.offset, size, monotonic)),
        }
    }
}

/// The name of the file at a path.
fn base(path: &str) -> &str {
    Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// The directory that a path leads to.
fn real_directory(path: &str) -> std::path::PathBuf {
    let path = Path::new(path);
    let real = path.canonicalize().ok().and_then(|real| real.parent().map(Path::to_path_buf));
    real.unwrap_or_else(|| path.parent().unwrap_or(Path::new("/")).to_path_buf())
}
