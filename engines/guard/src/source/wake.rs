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
use super::log_file::Identity;

/// Most watches.
const WATCHES_MAX: usize = 4096;
/// Time between two looks where everything is watched: what no event tells of (a network file system, an event that was dropped)
/// waits no longer.
const WATCHED: Span = Span::from_secs(5);
/// Time between two looks where something can't be watched.
const POLLED: Span = Span::from_secs(1);

/// A watch of the kernel, which is one of a file or directory, whatever its path leads to later.
#[derive(Debug)]
struct Watch {
    number: i32,
    /// Which one was at the path, as far as the look before knew.
    of: Option<Identity>,
}

/// Wakes whoever follows logs.
#[derive(Debug)]
pub struct Wake {
    inotify: Option<AsyncFd<OwnedFd>>,
    watches: HashMap<PathBuf, Watch>,
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
            directories.extend(tail.watched_directories());
            files.extend(tail.watched_files());
        }
        let of_directories = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        let of_files = WatchFlags::MODIFY | WatchFlags::ATTRIB | WatchFlags::MOVE_SELF;
        let directories = directories.into_iter().map(|(path, of)| (path, of, of_directories, true));
        let files = files.into_iter().map(|(path, of)| (path, of, of_files, false));
        let wanted: Vec<_> = directories.chain(files).collect();
        let paths: HashMap<&Path, Option<Identity>> = wanted.iter().map(|(path, of, ..)| (*path, *of)).collect();
        // A path may lead elsewhere without a word of the kernel: something was mounted over it, or a directory above it replaced.
        let stays = |path: &PathBuf, watch: &Watch| {
            paths.get(path.as_path()).is_some_and(|now| now.is_none() || *now == watch.of)
        };
        let stale: Vec<i32> =
            self.watches.extract_if(|path, watch| !stays(path, watch)).map(|(_, watch)| watch.number).collect();
        for number in stale {
            // Two paths of one file have one watch.
            if !self.watches.values().any(|watch| watch.number == number) {
                self.directories.remove(&number);
                // It is gone with its file, where this fails.
                _ = inotify::remove_watch(inotify.get_ref(), number);
            }
        }
        self.is_complete = true;
        for (path, of, flags, is_directory) in wanted {
            if self.watches.contains_key(path) {
                continue;
            }
            match inotify::add_watch(inotify.get_ref(), path, flags) {
                Ok(number) if self.watches.len() < WATCHES_MAX => {
                    self.watches.insert(path.to_path_buf(), Watch { number, of });
                    self.is_new = true;
                    if is_directory {
                        self.directories.insert(number);
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
            let numbers = self.watches.values().map(|watch| watch.number);
            gone.extend(numbers.filter(|number| !self.directories.contains(number)));
        }
        self.watches.retain(|_, watch| !gone.contains(&watch.number));
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

    fn run(arguments: &[&str]) {
        #[expect(clippy::disallowed_methods, reason = "a test has a file system mounted")]
        let status = std::process::Command::new(arguments[0]).args(&arguments[1..]).status();
        assert!(status.is_ok_and(|status| status.success()), "{arguments:?} (root is needed)");
    }

    /// A file system of its own, at a path.
    struct Mounted(String);

    impl Mounted {
        fn at(path: &Path) -> Self {
            let path = path.display().to_string();
            run(&["mount", "-t", "tmpfs", "-o", "size=64k", "none", &path]);
            Self(path)
        }
    }

    impl Drop for Mounted {
        fn drop(&mut self) {
            run(&["umount", "-l", &self.0]);
        }
    }

    /// NH-1, JO-1: a log is what is at its path now, whatever was mounted over a directory of it or took its place: what is written
    /// there wakes, and what was left before is read, each line once.
    #[tokio::test]
    async fn a_directory_that_is_mounted_over_or_replaced_is_watched_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let (directory, aside) = (folder.path().join("log"), folder.path().join("aside"));
        let path = directory.join("a.log");
        std::fs::create_dir(&directory).expect("a directory");
        std::fs::write(&path, "").expect("a log");
        let follows = vec![Follow { pattern: path.display().to_string(), start: Start::Beginning }];
        let mut tail = Tail::new(follows, TailLimits::default(), &Positions::default());
        let clock = engine::clock::SystemClock;
        let (mut wake, mut expected) = (Wake::new(), Vec::new());
        wake.every = [Span::from_days(1); 2];
        let mut read = Vec::new();
        let mut look = |wake: &mut Wake| {
            let batch = tail.look(&clock, &mut |_, _| None);
            read.extend(batch.lines().map(|line| String::from_utf8_lossy(line.bytes).into_owned()));
            wake.watch([&tail]);
            read.clone()
        };
        look(&mut wake);
        let (mut mounted, patience) = (None, Span::from_secs(60).to_std());
        for change in ["none", "mounted", "none", "unmounted", "none", "replaced", "none"] {
            let write = |line: &str| {
                let mut file = std::fs::OpenOptions::new().append(true).create(true).open(&path).expect("a log");
                writeln!(file, "{line}").expect("written");
                line.to_owned()
            };
            expected.push(write(&format!("before {}", expected.len())));
            match change {
                "mounted" => mounted = Some(Mounted::at(&directory)),
                "unmounted" => drop(mounted.take()),
                "replaced" => {
                    std::fs::rename(&directory, &aside).expect("renamed");
                    std::fs::create_dir(&directory).expect("a directory");
                }
                _ => {}
            }
            expected.push(write(&format!("after {}", expected.len())));
            // The look that comes in any case.
            look(&mut wake);
            for _ in 0..3 {
                expected.push(write(&format!("then {}", expected.len())));
                let all = async {
                    loop {
                        wake.wait().await;
                        if look(&mut wake).len() >= expected.len() {
                            break;
                        }
                    }
                };
                tokio::time::timeout(patience, all)
                    .await
                    .expect("each line wakes: without, the first look comes in a day");
            }
        }
        assert_eq!(look(&mut wake), expected);
    }

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
