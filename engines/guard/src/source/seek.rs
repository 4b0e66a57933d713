//! Where to start in a log that is seen for the first time: not before `findtime`, without reading what is older.

use std::io;
use std::os::unix::fs::FileExt as _;

use event::Time;

use super::log_file::LogFile;

/// Bytes within which a search ends, and which it looks through for a date.
const NEAR: u64 = 64 * 1024;

/// Goes to a line at or before the first one that is not before `since`, by halves; `time_of` says the time of a line that has
/// one. Where no line in reach has a time, the search goes on before it: rather too much is read than too little, for the filter
/// drops what is too old.
pub(super) fn seek_to(
    file: &mut LogFile,
    since: Time,
    mut time_of: impl FnMut(&[u8]) -> Option<Time>,
) -> io::Result<()> {
    let (mut from, mut to) = (0, file.size()?);
    let mut buffer = vec![0; usize::try_from(NEAR).unwrap_or(0)];
    while to - from > NEAR {
        let middle = from + (to - from) / 2;
        let read = file.file.read_at(&mut buffer, middle)?;
        let Some(start) = memchr::memchr(b'\n', &buffer[..read]).map(|at| at + 1) else {
            to = middle;
            continue;
        };
        let mut at = start;
        let mut time = None;
        while let Some(end) = memchr::memchr(b'\n', &buffer[at..read]) {
            time = time_of(&buffer[at..at + end]);
            if time.is_some() {
                break;
            }
            at += end + 1;
        }
        match time {
            Some(time) if time < since => from = middle + start as u64,
            _ => to = middle,
        }
    }
    file.seek(from)
}
