//! What says that a log has changed: inotify on the files and their directories, and a look now and then, which is all there is on a
//! network file system or where the kernel refuses more watches.

use std::collections::{HashMap, HashSet};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use event::Span;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use super::Tail;

/// Most watches.
const WATCHES_MAX: usize = 4096;
/// Time between two looks where everything is watched: what no event tells of (a network file system, an event that was dropped)
/// waits no longer.
const WATCHED: Span = Span::from_secs(5);
/// Time between two looks where something can't be watched.
const POLLED: Span = Span::from_secs(1);

/// Wakes whoever follows logs.
#[derive(Debug)]
pub struct Wake {
    inotify: Option<AsyncFd<OwnedFd>>,
    watches: HashMap<PathBuf, i32>,
    directories: HashSet<i32>,
    is_complete: bool,
    /// Something is watched that was not during the last look: what came before the watch is told by no event.
    is_new: bool,
    /// Time between two looks where everything is watched, and where something is not.
    every: [Span; 2],
}

impl Wake {
    /// Watches nothing yet. Must be made within a runtime of tokio.
    pub fn new() -> Self {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok();
        #[expect(deprecated, reason = "an OwnedFd keeps its descriptor open; `register` is unsafe code")]
        let inotify = inotify.and_then(|inotify| AsyncFd::new(inotify).ok());
        Self {
            inotify,
            watches: HashMap::new(),
            directories: HashSet::new(),
            is_complete: false,
            is_new: false,
            every: [WATCHED, POLLED],
        }
    }

    /// Whether everything is watched, and no log waits for the next look.
    pub const fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Watches what `tails` read now. To be called after each look, before waiting.
    pub fn watch<'a>(&mut self, tails: impl IntoIterator<Item = &'a Tail>) {
        let Some(inotify) = &self.inotify else { return };
        let (mut directories, mut files) = (Vec::new(), Vec::new());
        for tail in tails {
            let (of_directories, of_files) = tail.watched();
            directories.extend(of_directories);
            files.extend(of_files);
        }
        let of_directories = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE
            | WatchFlags::ONLYDIR;
        let of_files = WatchFlags::MODIFY | WatchFlags::ATTRIB | WatchFlags::MOVE_SELF;
        let directories = directories.into_iter().map(|path| (path, of_directories, true));
        let files = files.into_iter().map(|path| (Path::new(path), of_files, false));
        let wanted: Vec<_> = directories.chain(files).collect();
        let paths: HashSet<&Path> = wanted.iter().map(|(path, ..)| *path).collect();
        self.watches.retain(|path, watch| {
            let stays = paths.contains(path.as_path());
            if !stays {
                self.directories.remove(watch);
                // It is gone with its file, where this fails.
                _ = inotify::remove_watch(inotify.get_ref(), *watch);
            }
            stays
        });
        self.is_complete = true;
        for (path, flags, is_directory) in wanted {
            if self.watches.contains_key(path) {
                continue;
            }
            match inotify::add_watch(inotify.get_ref(), path, flags) {
                Ok(watch) if self.watches.len() < WATCHES_MAX => {
                    self.watches.insert(path.to_path_buf(), watch);
                    self.is_new = true;
                    if is_directory {
                        self.directories.insert(watch);
                    }
                }
                // A directory that is not there yet is met by the next expansion.
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                _ => self.is_complete = false,
            }
        }
    }

    /// Waits until something may have changed, at most until the next look is due. Says whether it was in a directory, so that
    /// patterns must be expanded again.
    pub async fn wait(&mut self) -> bool {
        if std::mem::take(&mut self.is_new) {
            return false;
        }
        let due = self.every[usize::from(!self.is_complete)];
        let Some(inotify) = &self.inotify else {
            tokio::time::sleep(due.to_std()).await;
            return false;
        };
        let Ok(Ok(mut ready)) = tokio::time::timeout(due.to_std(), inotify.readable()).await else { return false };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(inotify.get_ref(), &mut buffer);
        let (mut in_directory, mut gone) = (false, HashSet::new());
        // Bounded by what the kernel keeps; a writer that is faster than this loop is met at the next look.
        for _ in 0..16_384 {
            let Ok(event) = events.next() else {
                ready.clear_ready();
                break;
            };
            let flags = event.events();
            in_directory |= self.directories.contains(&event.wd()) || flags.contains(ReadFlags::QUEUE_OVERFLOW);
            // The path has another file now, or none: it is watched anew.
            if flags.intersects(ReadFlags::MOVE_SELF | ReadFlags::IGNORED | ReadFlags::ATTRIB) {
                gone.insert(event.wd());
            }
        }
        if in_directory {
            // Whatever was made there may stand at a watched path.
            gone.extend(self.watches.values().filter(|watch| !self.directories.contains(watch)));
        }
        self.watches.retain(|_, watch| !gone.contains(watch));
        self.directories.retain(|watch| !gone.contains(watch));
        in_directory
    }
}

impl Default for Wake {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::source::{Follow, Positions, Start, TailLimits};

    #[tokio::test]
    async fn a_line_wakes_and_so_does_a_file_that_takes_the_place_of_another() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.log");
        std::fs::write(&path, "").expect("a log");
        let follows = vec![Follow { pattern: path.display().to_string(), start: Start::Beginning }];
        let mut tail = Tail::new(follows, TailLimits::default(), &Positions::default());
        let clock = engine::clock::SystemClock;
        let mut wake = Wake::new();
        assert!(tail.look(&clock, &mut |_, _| None).is_empty());
        wake.watch([&tail]);
        wake.every = [Span::from_days(1); 2];
        let mut read = 0;
        let all = async {
            for round in 0..40_u32 {
                if round % 4 == 3 {
                    std::fs::rename(&path, directory.path().join(format!("a.log.{round}"))).expect("renamed");
                }
                let mut file = std::fs::OpenOptions::new().append(true).create(true).open(&path).expect("a log");
                file.write_all(b"line\n").expect("written");
                while read <= round {
                    if wake.wait().await {
                        tail.expand_again();
                    }
                    read += u32::try_from(tail.look(&clock, &mut |_, _| None).len()).expect("few");
                    wake.watch([&tail]);
                }
            }
        };
        tokio::time::timeout(Span::from_secs(60).to_std(), all)
            .await
            .expect("each line wakes: without, the first look comes in a day");
    }
}
