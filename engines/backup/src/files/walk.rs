//! The walk: everything below the paths of a backup, in the order in which trees hold it.
//!
//! A directory comes before what is in it, and its entries come in the order of the bytes of their names. The directories above the
//! paths come first, so that their owners and modes are kept too. What can't be listed is a problem with a name; a path of the backup
//! itself that can't be is the end of the walk.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::{FilesError, Problem};

/// File systems in which the kernel shows its state, by their numbers (linux/magic.h): proc, sysfs, cgroup 1 and 2, devpts, debugfs,
/// tracefs, securityfs, bpf, pstore, configfs, mqueue, binfmt_misc, selinuxfs, efivarfs. Reading them never ends, or changes things.
const KERNEL: [u64; 15] = [
    0x9fa0,
    0x6265_6572,
    0x0027_e0eb,
    0x6367_7270,
    0x1cd1,
    0x6462_6720,
    0x7472_6163,
    0x7363_6673,
    0xcafe_4a11,
    0x6165_676c,
    0x6265_6570,
    0x1980_0202,
    0x4249_4e4d,
    0xf97c_ff8c,
    0xde5e_81e4,
];

/// What is walked.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// The paths, in order, none below another.
    pub(super) roots: Vec<PathBuf>,
    excluded: Gitignore,
    one_file_system: bool,
}

/// One step of a walk.
#[derive(Debug)]
pub(super) enum Step {
    /// Something to keep.
    Entry(PathBuf, Metadata),
    /// A pattern leaves it out.
    Excluded,
    /// A socket: whoever listens makes it anew, and nothing of it can be kept.
    Socket,
    /// Another file system is mounted on it, which is not entered: the directory is kept, as an empty one.
    Mount(PathBuf, &'static str),
    /// It went away between the listing of its directory and the look at it.
    Gone,
    /// It can't be looked at, or what is in it can't be listed.
    Problem(PathBuf, io::Error),
    /// A path of the backup can't be: the walk is over.
    Failed(PathBuf, io::Error),
}

impl Plan {
    /// The plan for these absolute paths.
    ///
    /// # Errors
    /// A path is not absolute, or a pattern is none.
    pub(super) fn new(paths: &[PathBuf], exclude: &[String], one_file_system: bool) -> Result<Self, FilesError> {
        let mut roots: Vec<PathBuf> = Vec::new();
        for path in paths {
            let path: PathBuf = path.components().collect();
            let has_parents = path.components().any(|part| part == std::path::Component::ParentDir);
            if !path.is_absolute() || has_parents || path.to_str().is_none() {
                return Err(source(&path, "the path is to be absolute, in UTF-8, and without `..`"));
            }
            roots.push(path);
        }
        roots.sort();
        roots.dedup();
        let mut outermost: Vec<PathBuf> = Vec::new();
        for root in roots {
            // Paths sort by their parts: what is below another comes after it.
            if outermost.last().is_none_or(|last| !root.starts_with(last)) {
                outermost.push(root);
            }
        }
        if outermost.is_empty() {
            return Err(source(Path::new("paths"), "there is nothing to back up: name a path or a volume"));
        }
        let mut patterns = GitignoreBuilder::new("/");
        for pattern in exclude {
            let wrong = |_| source(Path::new(pattern), "that is no pattern as in `.gitignore`");
            patterns.add_line(None, pattern).map_err(wrong)?;
        }
        let excluded = patterns.build().map_err(|_| source(Path::new("exclude"), "there are too many patterns"))?;
        Ok(Self { roots: outermost, excluded, one_file_system })
    }

    /// Whether a walk would enter this directory, a path without links.
    pub(super) fn reaches(&self, directory: &Path) -> bool {
        let Some(root) = self.roots.iter().find(|root| directory.starts_with(root)) else { return false };
        // A root is walked whatever the patterns say.
        let below: Vec<&Path> = directory.ancestors().take_while(|path| path != root).collect();
        below.into_iter().all(|path| {
            let device = |path: Option<&Path>| path.and_then(|path| fs::metadata(path).ok()).map(|found| found.dev());
            let is_mount = self.one_file_system && device(Some(path)) != device(path.parent());
            !is_mount && !self.excluded.matched(path, true).is_ignore()
        })
    }

    /// Why what is mounted there is not entered.
    fn not_entered(&self, path: &Path) -> io::Result<Option<&'static str>> {
        if self.one_file_system {
            return Ok(Some("another file system is mounted there"));
        }
        let kind = rustix::fs::statfs(path)?.f_type;
        Ok(KERNEL.contains(&kind.cast_unsigned()).then_some("the kernel shows itself there, and nothing is stored"))
    }

    /// Walks.
    pub(super) fn walk(&self) -> Walk {
        let roots = self.roots.clone().into_iter().collect();
        Walk { plan: self.clone(), roots, frames: Vec::new(), next: VecDeque::new(), above: PathBuf::new() }
    }
}

/// What is to be backed up can't be read as a whole.
pub(super) fn source(path: &Path, reason: impl std::fmt::Display) -> FilesError {
    let mut problems = super::Problems::default();
    problems.add(path, reason);
    let Problem { path, reason } = problems.named.remove(0);
    FilesError::Source { path, reason }
}

/// What a path of the backup is. A link is none: it alone would be kept, and nothing of what is behind it.
pub(super) fn itself(path: &Path) -> io::Result<Metadata> {
    let found = fs::symlink_metadata(path)?;
    if !found.is_symlink() {
        return Ok(found);
    }
    let to = fs::read_link(path)?;
    Err(io::Error::other(format!("it is a link to {}: name the place itself", to.display())))
}

/// A directory that is being walked.
#[derive(Debug)]
struct Frame {
    path: PathBuf,
    device: u64,
    names: std::vec::IntoIter<OsString>,
}

/// A walk, step by step.
#[derive(Debug)]
pub(super) struct Walk {
    plan: Plan,
    roots: VecDeque<PathBuf>,
    frames: Vec<Frame>,
    next: VecDeque<Step>,
    /// The directory above a root that came last.
    above: PathBuf,
}

impl Walk {
    /// The directories above a root that did not come yet, then the root.
    fn begin(&mut self, root: &Path) {
        let mut above: Vec<&Path> = root.ancestors().skip(1).filter(|path| path.parent().is_some()).collect();
        above.reverse();
        for path in above.into_iter().filter(|path| !self.above.starts_with(path)) {
            match itself(path) {
                Ok(found) => self.next.push_back(Step::Entry(path.to_owned(), found)),
                Err(error) => return self.fail(path, error),
            }
        }
        root.parent().unwrap_or(root).clone_into(&mut self.above);
        match itself(root) {
            Err(error) => self.fail(root, error),
            Ok(found) if !found.is_dir() => self.next.push_back(Step::Entry(root.to_owned(), found)),
            Ok(found) => {
                let device = found.dev();
                if root.parent().is_some() {
                    self.next.push_back(Step::Entry(root.to_owned(), found));
                }
                match names(root) {
                    Ok(names) => self.frames.push(Frame { path: root.to_owned(), device, names }),
                    Err(error) => self.fail(root, error),
                }
            }
        }
    }

    fn fail(&mut self, path: &Path, error: io::Error) {
        self.roots.clear();
        self.frames.clear();
        self.next.clear();
        self.next.push_back(Step::Failed(path.to_owned(), error));
    }

    /// An entry of a directory.
    fn enter(&mut self, path: PathBuf, device: u64) -> Step {
        let found = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Step::Gone,
            Err(error) => return Step::Problem(path, error),
            Ok(found) => found,
        };
        if self.plan.excluded.matched(&path, found.is_dir()).is_ignore() {
            return Step::Excluded;
        }
        if found.file_type().is_socket() {
            return Step::Socket;
        }
        if found.is_dir() {
            let mounted = if found.dev() == device { Ok(None) } else { self.plan.not_entered(&path) };
            match mounted.and_then(|reason| reason.map_or_else(|| names(&path).map(Ok), |reason| Ok(Err(reason)))) {
                Ok(Ok(names)) => self.frames.push(Frame { path: path.clone(), device: found.dev(), names }),
                Ok(Err(reason)) => self.next.push_back(Step::Mount(path.clone(), reason)),
                // It is kept, without what is in it.
                Err(error) => self.next.push_back(Step::Problem(path.clone(), error)),
            }
        }
        Step::Entry(path, found)
    }
}

impl Iterator for Walk {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        loop {
            if let Some(step) = self.next.pop_front() {
                return Some(step);
            }
            if let Some(frame) = self.frames.last_mut() {
                match frame.names.next() {
                    Some(name) => {
                        let (path, device) = (frame.path.join(name), frame.device);
                        return Some(self.enter(path, device));
                    }
                    None => drop(self.frames.pop()),
                }
            } else {
                let root = self.roots.pop_front()?;
                self.begin(&root);
            }
        }
    }
}

/// Names in a directory, in the order of their bytes.
fn names(folder: &Path) -> io::Result<std::vec::IntoIter<OsString>> {
    let mut names: Vec<OsString> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
    names.sort_unstable();
    Ok(names.into_iter())
}

/// Whether there is nothing in a directory.
pub(super) fn is_empty(folder: &Path) -> io::Result<bool> {
    Ok(fs::read_dir(folder)?.next().is_none())
}
