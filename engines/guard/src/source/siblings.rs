//! The files that a log was rotated to, found in its directory.
//!
//! A file that was renamed is known by its inode and by what was read of it; a copy (`copytruncate`) by what was read alone. Files
//! that came and went between two looks, because the log was rotated more than once, are those with a name of the rotation, never
//! read, and written after the one that was.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::path::Path;

use event::Span;

use super::glob::entries;
use super::log_file::{Identity, LogFile};
use super::position::Position;

/// Most files of one log that are opened to see which they are.
const OPENED_MAX: usize = 256;

/// How long a file that was made by a rotation may stand empty while the one before it is written.
const EMPTY_FOR: Span = Span::from_secs(3600);

/// What there is of a log behind a position.
#[derive(Default, Debug)]
pub(super) struct Rest {
    /// The file of the position, or the last copy that has it, where it goes on.
    pub(super) itself: Option<LogFile>,
    /// Copies of it that end before the position, at their ends: all that is in them was read.
    pub(super) behind: Vec<LogFile>,
    /// Files that came after it and were never read, oldest first.
    pub(super) between: Vec<LogFile>,
}

/// Endings of files that are compressed copies of a log.
const COMPRESSED: [&str; 8] = [".gz", ".bz2", ".xz", ".zst", ".lz4", ".lzo", ".Z", ".zip"];

/// Whether the file is a compressed copy by its name.
pub(super) fn is_compressed(path: &str) -> bool {
    COMPRESSED.iter().any(|ending| path.ends_with(ending))
}

/// Whether `name` is what a rotation calls an older `base`: `a.log.1`, `a.log-20260131`, `a-20260131.log`, `a.log.old`.
pub(super) fn is_rotated(base: &str, name: &str) -> bool {
    let marks = |text: &str| {
        let numbers = text.strip_prefix(['.', '-', '_']);
        numbers.is_some_and(|rest| {
            matches!(rest, "old" | "prev" | "save" | "bak")
                || rest.starts_with(|c: char| c.is_ascii_digit())
                    && rest.bytes().all(|byte| byte.is_ascii_digit() || b".-_:T".contains(&byte))
        })
    };
    if name.strip_prefix(base).is_some_and(marks) {
        return true;
    }
    let Some((stem, extension)) = base.rsplit_once('.') else { return false };
    let inner = name.strip_prefix(stem).and_then(|rest| rest.strip_suffix(extension)?.strip_suffix('.'));
    inner.is_some_and(marks)
}

/// What is left to read of the log called `base` in `directory` behind `position`, without the files in `known`.
///
/// `is_open` says that the file of the position is still being read: then only what came after it is searched for.
pub(super) fn rest_of(
    directory: &Path,
    base: &str,
    position: &Position,
    is_open: bool,
    known: &HashSet<Identity>,
    was_read: impl Fn(&LogFile) -> bool,
) -> Rest {
    let mut rest = Rest::default();
    let identity = Identity { device: position.device, inode: position.inode };
    let entries = entries(directory).unwrap_or_default();
    let candidates = entries.iter().filter(|(name, inode)| {
        name != base && !is_compressed(name) && (*inode == identity.inode || is_rotated(base, name))
    });
    let opened = candidates.take(OPENED_MAX).map(|(name, _)| LogFile::open(&directory.join(name)));
    let mut opened: Vec<LogFile> = opened.filter_map(Result::ok).collect();
    // By what was read: first the file itself, else its last copy, which has the most of it.
    opened.sort_by_key(|file| (file.identity != identity, Reverse(file.modified())));
    for mut file in opened {
        if known.contains(&file.identity) {
            continue;
        }
        // Of what was not read, the inode is all that is known.
        let is_it = if position.is_telling() { file.resume(position) } else { file.identity == identity };
        if is_it {
            if rest.itself.is_none() && !is_open {
                file.is_copy = file.identity != identity;
                rest.itself = Some(file);
            }
        } else if was_read(&file) {
            // An older log, or one that another path goes on with.
        } else if position.is_behind(&file) {
            if file.size().and_then(|size| file.seek(size)).is_ok() {
                rest.behind.push(file);
            }
        } else if is_newer(&file, position) {
            rest.between.push(file);
        }
    }
    rest.between.sort_by_key(LogFile::modified);
    rest
}

/// Whether a file came after the one with `position`. One that a rotation has made stands empty as long as its daemon goes on
/// writing to the old one.
fn is_newer(file: &LogFile, position: &Position) -> bool {
    let is_empty = file.size().is_ok_and(|size| size == 0);
    let behind = if is_empty { EMPTY_FOR } else { Span::ZERO };
    file.modified() >= position.modified - behind
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_rotation_are_told_from_other_logs() {
        for name in [
            "a.log.1",
            "a.log.12",
            "a.log-20260131",
            "a.log-20260131-1769817600",
            "a-20260131.log",
            "a.log.old",
            "a.1.log",
        ] {
            assert!(is_rotated("a.log", name), "{name}");
        }
        for name in ["a.log", "a.log_php", "a.log.err", "b.log.1", "a-b.log", "a.logs", "a.log.", "a.log.1x"] {
            assert!(!is_rotated("a.log", name), "{name}");
        }
        assert!(is_rotated("syslog", "syslog.1") && !is_rotated("syslog", "syslog-errors"));
        assert!(is_compressed("a.log.2.gz") && !is_compressed("a.log"));
    }
}
