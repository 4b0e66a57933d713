//! The archive of a base of MariaDB, `xbstream`: pieces of files, in the order in which they were read.
//!
//! ```text
//! 8 bytes    "XBSTCK01"
//! 1 byte     flags
//! 1 byte     kind: "P" a piece, "E" the end of a file
//! 4 bytes    length of the path, and the path
//! of a piece:
//! 8 bytes    length
//! 8 bytes    where in the file it begins
//! 4 bytes    CRC-32 (IEEE 802.3) of the bytes, and the bytes
//! ```
//!
//! Numbers have their lowest byte first. Files may be mixed. mariadb-backup also renames, removes and writes again what has changed while
//! it read (it is seldom so, and no document says how it is written): that is left to `mbstream`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};

use super::{Archive, Tree, malformed};

const MAGIC: &[u8; 8] = b"XBSTCK01";
const HEAD: usize = 14;
const PIECE_HEAD: usize = 20;
/// Longest path.
const PATH_MAX: usize = 4096;
/// Most files that are open at a time: each of its threads has one.
const OPEN_MAX: usize = 512;
/// The rights of its files: those that mariadb-backup gives, which are not in the stream.
const MODE: u32 = 0o640;

/// The reader.
#[derive(Default)]
pub(crate) struct XbStream {
    state: State,
    /// Bytes of a head that is not whole yet.
    head: Vec<u8>,
    open: BTreeMap<Vec<u8>, Open>,
}

#[derive(Default)]
enum State {
    #[default]
    Head,
    Path {
        is_end: bool,
        length: usize,
    },
    PieceHead(Vec<u8>),
    Piece {
        path: Vec<u8>,
        left: u64,
        crc: u32,
        hash: crc32fast::Hasher,
    },
}

struct Open {
    file: File,
    bytes: u64,
}

impl Archive for XbStream {
    fn take(&mut self, mut bytes: &[u8], tree: &mut Tree) -> io::Result<()> {
        while !bytes.is_empty() {
            if let State::Piece { path, left, crc, hash } = &mut self.state {
                let (now, rest) = bytes.split_at(usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len()));
                let open = self.open.get_mut(path).ok_or_else(|| malformed("a piece of it is of no file"))?;
                hash.update(now);
                open.file.write_all(now)?;
                tree.grown(&open.file, open.bytes, open.bytes + now.len() as u64)?;
                open.bytes += now.len() as u64;
                *left -= now.len() as u64;
                bytes = rest;
                if *left == 0 {
                    if hash.clone().finalize() != *crc {
                        return Err(malformed(format!(
                            "a piece of {} does not have its checksum",
                            String::from_utf8_lossy(path)
                        )));
                    }
                    self.state = State::Head;
                }
                continue;
            }
            let wanted = match &self.state {
                State::Path { length, .. } => *length,
                State::PieceHead(_) => PIECE_HEAD,
                _ => HEAD,
            };
            let (now, rest) = bytes.split_at((wanted - self.head.len()).min(bytes.len()));
            self.head.extend(now);
            bytes = rest;
            if self.head.len() == wanted {
                let head = std::mem::take(&mut self.head);
                self.state = self.next(&head, tree)?;
            }
        }
        Ok(())
    }

    fn end(&mut self, _: &mut Tree) -> io::Result<()> {
        if !matches!(self.state, State::Head) || !self.head.is_empty() {
            return Err(malformed("it ends within a piece"));
        }
        match self.open.keys().next() {
            None => Ok(()),
            Some(path) => Err(malformed(format!("it ends within the file {}", String::from_utf8_lossy(path)))),
        }
    }
}

impl XbStream {
    /// What comes behind a head that is whole.
    fn next(&mut self, head: &[u8], tree: &Tree) -> io::Result<State> {
        match std::mem::take(&mut self.state) {
            State::Head => {
                let (magic, rest) = head.split_at(MAGIC.len());
                if magic != MAGIC {
                    return Err(malformed("a piece of it does not begin as one"));
                }
                let [flags, kind, length @ ..] = rest else { return Err(malformed("a head of it is short")) };
                let is_end = match (flags, kind) {
                    (0, b'P') => false,
                    (0, b'E') => true,
                    (_, kind) => {
                        let why = format!("it has a piece of the kind {kind:#04x} with the flags {flags:#04x}");
                        return Err(io::Error::new(io::ErrorKind::Unsupported, why));
                    }
                };
                let length = usize::try_from(number(length)).unwrap_or(usize::MAX);
                if length == 0 || length > PATH_MAX {
                    return Err(malformed("a path of it is too long, or none"));
                }
                Ok(State::Path { is_end, length })
            }
            State::Path { is_end: false, .. } => Ok(State::PieceHead(head.to_vec())),
            State::Path { is_end: true, .. } => {
                // A file without a piece is empty.
                let open = match self.open.remove(head) {
                    Some(open) => open,
                    None => Open { file: tree.file(head, MODE)?, bytes: 0 },
                };
                tree.done(open.file, open.bytes)?;
                Ok(State::Head)
            }
            State::PieceHead(path) => {
                let (length, rest) = head.split_at(8);
                let (at, crc) = rest.split_at(8);
                let (left, at) = (number(length), number(at));
                if !self.open.contains_key(&path) {
                    if self.open.len() >= OPEN_MAX {
                        return Err(malformed("too many files of it are mixed"));
                    }
                    self.open.insert(path.clone(), Open { file: tree.file(&path, MODE)?, bytes: 0 });
                }
                if self.open.get(&path).is_none_or(|open| open.bytes != at) {
                    let why = format!("a piece of {} is not behind the one before", String::from_utf8_lossy(&path));
                    return Err(io::Error::new(io::ErrorKind::Unsupported, why));
                }
                if left == 0 {
                    return Ok(State::Head);
                }
                let crc = u32::try_from(number(crc)).unwrap_or_default();
                Ok(State::Piece { path, left, crc, hash: crc32fast::Hasher::new() })
            }
            State::Piece { .. } => Err(malformed("a head of it is within a piece")),
        }
    }
}

/// A number of up to eight bytes, the lowest first.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
