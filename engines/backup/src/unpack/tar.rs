//! The archive of a base of PostgreSQL: `ustar` (POSIX.1-1988, pax(1)), as the server sends it.
//!
//! Blocks of 512 bytes: a head, the bytes of the file up to the next block. Two blocks of zeros end an archive; over the replication
//! protocol the server leaves them to the client, so that the end may come behind any entry. There are files and folders, and no links:
//! where tablespaces are is in a map of its own.

use std::fs::File;
use std::io::{self, Write as _};

use super::{Archive, Tree, malformed};

const BLOCK: usize = 512;
/// The rights of an entry that are kept: those of user, group and others.
const MODE: u64 = 0o777;

/// The reader.
#[derive(Default)]
pub(crate) struct Tar {
    state: State,
    head: Vec<u8>,
}

#[derive(Default)]
enum State {
    /// A head comes next, or the end.
    #[default]
    Between,
    /// So many bytes of a file, of so many, and then so many up to the next block.
    Within { file: File, left: u64, of: u64, behind: u64 },
    /// Bytes of no meaning.
    Behind(u64),
    /// The block of zeros was there: more of them follow.
    Over,
}

impl Archive for Tar {
    fn take(&mut self, mut bytes: &[u8], tree: &mut Tree) -> io::Result<()> {
        while !bytes.is_empty() {
            self.state = match std::mem::take(&mut self.state) {
                State::Between => {
                    let (head, rest) = bytes.split_at(bytes.len().min(BLOCK - self.head.len()));
                    self.head.extend(head);
                    bytes = rest;
                    if self.head.len() < BLOCK {
                        return Ok(());
                    }
                    let next = entry(&self.head, tree)?;
                    self.head.clear();
                    next
                }
                State::Within { mut file, left, of, behind } => {
                    let (now, rest) = bytes.split_at(usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len()));
                    file.write_all(now)?;
                    bytes = rest;
                    tree.grown(&file, of - left, of - left + now.len() as u64)?;
                    let left = left - now.len() as u64;
                    if left > 0 {
                        State::Within { file, left, of, behind }
                    } else {
                        tree.done(file, of)?;
                        State::of_behind(behind)
                    }
                }
                State::Behind(left) => {
                    let (now, rest) = bytes.split_at(usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len()));
                    bytes = rest;
                    State::of_behind(left - now.len() as u64)
                }
                State::Over if bytes.iter().all(|byte| *byte == 0) => return self.over(),
                State::Over => return Err(malformed("something is behind its end")),
            };
        }
        Ok(())
    }

    fn end(&mut self, _: &mut Tree) -> io::Result<()> {
        match self.state {
            State::Between if self.head.is_empty() => Ok(()),
            State::Over => Ok(()),
            _ => Err(malformed("it ends within an entry")),
        }
    }
}

impl Tar {
    fn over(&mut self) -> io::Result<()> {
        self.state = State::Over;
        Ok(())
    }
}

impl State {
    const fn of_behind(left: u64) -> Self {
        if left == 0 { Self::Between } else { Self::Behind(left) }
    }
}

/// Begins the entry of a head.
fn entry(head: &[u8], tree: &Tree) -> io::Result<State> {
    if head.iter().all(|byte| *byte == 0) {
        return Ok(State::Over);
    }
    let field = |from: usize, bytes: usize| head.get(from..from + bytes).unwrap_or_default();
    let sum: u64 =
        head.iter().enumerate().map(|(at, byte)| u64::from(if (148..156).contains(&at) { b' ' } else { *byte })).sum();
    if number(field(148, 8)) != Some(sum) {
        return Err(malformed("a head of it does not have its checksum"));
    }
    let (name, prefix) = (text(field(0, 100)), text(field(345, 155)));
    let name = if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() };
    let no_number = || malformed("a number in a head of it is none");
    let size = number(field(124, 12)).ok_or_else(no_number)?;
    let mode = u32::try_from(number(field(100, 8)).ok_or_else(no_number)? & MODE).unwrap_or(0o600);
    match head.get(156) {
        Some(b'5') => {
            tree.folder(&name, mode)?;
            Ok(State::Between)
        }
        Some(b'0' | 0) => {
            let file = tree.file(&name, mode)?;
            let behind = size.next_multiple_of(BLOCK as u64) - size;
            if size > 0 {
                return Ok(State::Within { file, left: size, of: size, behind });
            }
            tree.done(file, 0)?;
            Ok(State::Between)
        }
        _ => Err(malformed(format!("its entry {} is neither a file nor a folder", String::from_utf8_lossy(&name)))),
    }
}

/// The bytes before the first zero.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A number: octal, or in base 256 where the first bit is set, as files of 8 GiB and more need it.
pub(super) fn number(field: &[u8]) -> Option<u64> {
    match field.split_first()? {
        (first, rest) if first & 0x80 != 0 => {
            let (high, low) = rest.split_at_checked(rest.len().checked_sub(8)?)?;
            let is_small = *first == 0x80 && high.iter().all(|byte| *byte == 0);
            is_small.then(|| low.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
        }
        _ => {
            let digits = std::str::from_utf8(text(field)).ok()?.trim();
            if digits.is_empty() { Some(0) } else { u64::from_str_radix(digits, 8).ok() }
        }
    }
}
