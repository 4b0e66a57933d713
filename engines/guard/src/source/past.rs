//! Lines of the past: what the logs of before hold of a few words, read from their ends within a bound.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use event::Time;
use memchr::memmem::Finder;

use super::glob::{entries, expand, is_pattern};
use super::log_file::LogFile;
use super::siblings::{is_compressed, is_rotated};

/// Bytes read at once.
const PIECE: usize = 1024 * 1024;
/// Longest line that is looked at.
const LINE_MAX: usize = 8 * 1024;
/// Most files that are opened.
const FILES_MAX: usize = 256;

/// Hands out the lines with `words` of these logs, and of what they were rotated to, written since then, with when their file was
/// written last. The newest files are read first, and of each its end, up to `bytes_max` together; compressed ones are not.
pub(crate) fn past_lines(
    patterns: &[String],
    since: Time,
    words: &[u8],
    bytes_max: u64,
    each: &mut dyn FnMut(&[u8], Time),
) {
    let mut files = Vec::new();
    for pattern in patterns {
        let paths = if is_pattern(pattern) { expand(pattern).paths } else { vec![pattern.clone()] };
        for path in paths.iter().map(Path::new) {
            let (Some(folder), Some(base)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
                continue;
            };
            let names = entries(folder).unwrap_or_default().into_iter().map(|(name, _)| name);
            let names = names.filter(|name| name == base || is_rotated(base, name) && !is_compressed(name));
            files.extend(names.take(FILES_MAX).filter_map(|name| LogFile::open(&folder.join(name)).ok()));
        }
        if files.len() > FILES_MAX {
            break;
        }
    }
    files.retain(|file| file.modified() >= since);
    files.sort_by_key(|file| std::cmp::Reverse(file.modified()));
    files.dedup_by_key(|file| file.identity);
    let finder = Finder::new(words);
    let mut left = bytes_max;
    for file in &files {
        let size = file.size().unwrap_or(0);
        let from = size.saturating_sub(left);
        left -= size - from;
        search(&file.file, from, size, &finder, &mut |line| each(line, file.modified()));
    }
}

/// Hands out the lines between the offsets that hold what is searched for.
fn search(file: &File, from: u64, to: u64, finder: &Finder<'_>, each: &mut dyn FnMut(&[u8])) {
    let mut buffer = vec![0; PIECE + LINE_MAX];
    // What is left of the piece before: the start of a line.
    let mut kept = 0;
    let mut at = from;
    while at < to {
        let wanted = usize::try_from(to - at).unwrap_or(PIECE).min(PIECE);
        let read = match file.read_at(&mut buffer[kept..kept + wanted], at) {
            Ok(0) | Err(_) => return,
            Ok(read) => read,
        };
        at += read as u64;
        let end = kept + read;
        let whole = memchr::memrchr(b'\n', &buffer[..end]).map_or(0, |last| last + 1);
        let mut start = 0;
        while let Some(found) = finder.find(&buffer[start..whole]) {
            let found = start + found;
            let begin = memchr::memrchr(b'\n', &buffer[..found]).map_or(0, |before| before + 1);
            let stop = memchr::memchr(b'\n', &buffer[found..whole]).map_or(whole, |after| found + after);
            // The first line that is read may be the rest of one.
            if (begin > 0 || at - read as u64 > from || from == 0) && stop - begin <= LINE_MAX {
                each(&buffer[begin..stop]);
            }
            start = (stop + 1).min(whole);
        }
        let rest = whole.max(end.saturating_sub(LINE_MAX));
        buffer.copy_within(rest..end, 0);
        kept = end - rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(folder: &Path, since: Time, bytes_max: u64) -> Vec<String> {
        let mut lines = Vec::new();
        let pattern = folder.join("auth.log").to_str().expect("text").to_owned();
        past_lines(&[pattern], since, b"Accepted", bytes_max, &mut |line, _| {
            lines.push(String::from_utf8_lossy(line).into_owned());
        });
        lines
    }

    #[test]
    fn lines_of_a_log_and_of_its_rotated_ones_are_found_within_the_bound() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(lines_of(folder.path(), Time::default(), 1000), [""; 0], "no log");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
        write("auth.log.2.gz", "Accepted 9\n");
        write("auth.log.1", "Accepted 0\nx\nAccepted 1\n");
        write("other.log", "Accepted 8\n");
        // Longer than a piece, with lines that lie across its end, and one without an end.
        let filler = "x".repeat(4000) + "\n";
        let long: Vec<String> = (0..600).map(|n| format!("line {n} Accepted a\n{filler}")).collect();
        write("auth.log", &(long.concat() + "half a line, Accepted"));
        let found = lines_of(folder.path(), Time::default(), 64 * 1024 * 1024);
        assert_eq!(found.len(), 602, "{:?}", found.last());
        for n in 0..600 {
            assert!(found.contains(&format!("line {n} Accepted a")), "{n}");
        }
        assert!(found.contains(&"Accepted 0".to_owned()) && found.contains(&"Accepted 1".to_owned()));
        let bounded = lines_of(folder.path(), Time::default(), 10_000);
        assert_eq!(bounded, ["line 598 Accepted a", "line 599 Accepted a"], "the end of the newest");
        assert_eq!(lines_of(folder.path(), Time::from_secs(99_000_000_000), 10_000), [""; 0], "too old");
    }
}
