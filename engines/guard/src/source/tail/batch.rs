//! What a look has found: lines, and what is to be said about the logs.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;

use event::Monotonic;
use rustix::io::Errno;

use super::{FILES_MAX, PATHS_MAX, TailLimits};

/// Why a log is not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Problem {
    /// The account may not read it.
    Denied,
    /// It is a directory, a device or a pipe.
    NotRegular,
    /// Its symbolic links lead in a circle.
    Circle,
    /// The file system fails, with this error of the kernel.
    Failed(i32),
}

/// Something about a log that a person may want to know.
#[derive(Clone, PartialEq, Eq, thiserror::Error, Debug)]
pub enum Notice {
    /// It can't be read: said once, until it can.
    #[error("{path} is not read: {}", words(*problem))]
    Unreadable {
        /// The log or its directory.
        path: String,
        /// Why.
        problem: Problem,
    },
    /// It can be read again.
    #[error("{path} is read again")]
    Readable {
        /// The log.
        path: String,
    },
    /// It was rotated by renaming.
    #[error("{path} was rotated")]
    Rotated {
        /// The log.
        path: String,
    },
    /// It was truncated. Without a copy of it, what was written since the last look is lost; with one, only what came between
    /// the copy and the truncation.
    #[error("{path} was truncated{}", if *has_copy { "; the rest of it was read from its copy" } else { ", and there is no copy of it: what was written in the moment before may not have been read" })]
    Truncated {
        /// The log.
        path: String,
        /// Whether a copy was found.
        has_copy: bool,
    },
    /// What was left of it when it was last read is not found, or can't be read.
    #[error(
        "the rest of {path} is gone: it was deleted, moved to another directory or compressed before it could be read"
    )]
    RestGone {
        /// The log.
        path: String,
    },
    /// There are more logs than are followed: said once of a pattern, until there are not.
    #[error(
        "{path}: not all of its logs are read, for there are more than {PATHS_MAX} for one jail; name fewer in `logpath`, or give \
         jails of their own to some"
    )]
    TooMany {
        /// The pattern or the log.
        path: String,
    },
    /// More of its files wait to be read than are kept open, and the oldest is given up.
    #[error("the oldest file of {path} is given up: more than {FILES_MAX} of its rotation wait to be read")]
    GivenUp {
        /// The log.
        path: String,
    },
}

fn words(problem: Problem) -> Cow<'static, str> {
    match problem {
        Problem::Denied => {
            "permission denied; add the account of the agent to the group of the log, which is `adm` on Debian".into()
        }
        Problem::NotRegular => "it is no regular file; name a file, or a pattern of files".into(),
        Problem::Circle => {
            "symbolic links of its path lead in a circle; `namei -l` shows them: point the wrong one at the file".into()
        }
        Problem::Failed(code) => {
            let error = io::Error::from_raw_os_error(code);
            format!("its file system answers {error}; the kernel log says more: `journalctl -k`").into()
        }
    }
}

/// A line in a batch.
#[derive(Clone, Copy, Debug)]
struct Piece {
    slot: u32,
    start: u32,
    length: u32,
    end: u64,
    in_operation: bool,
    end_seen: Option<Monotonic>,
    is_cut: bool,
}

/// One line of a log.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// Path at which its file was followed.
    pub path: &'a Arc<str>,
    /// Its bytes, without the line feed; [`Encoding::decode`](crate::source::Encoding::decode) makes text of them.
    pub bytes: &'a [u8],
    /// Offset of its end in the file.
    pub end: u64,
    /// The end of this log had been reached: the line was written just now. Before, a filter drops what is older than
    /// `findtime`.
    pub in_operation: bool,
    /// When the end of this log was seen last, before this line came; nothing before it was seen once.
    pub end_seen: Option<Monotonic>,
    /// It is longer than the bound, and was cut.
    pub is_cut: bool,
}

/// What one look has found. To be committed together with the positions after it.
#[derive(Debug)]
pub struct Batch {
    bytes: Vec<u8>,
    pieces: Vec<Piece>,
    paths: Vec<Arc<str>>,
    /// What is to be said.
    pub notices: Vec<Notice>,
    line_max: usize,
    lines_max: usize,
    bytes_max: usize,
    charged: usize,
    in_operation: bool,
    end_seen: Option<Monotonic>,
}

impl Batch {
    pub(in crate::source) const fn new(limits: &TailLimits) -> Self {
        let TailLimits { line_max, lines_max, bytes_max, .. } = *limits;
        Self {
            bytes: Vec::new(),
            pieces: Vec::new(),
            paths: Vec::new(),
            notices: Vec::new(),
            line_max,
            lines_max,
            bytes_max,
            charged: 0,
            in_operation: false,
            end_seen: None,
        }
    }

    pub(super) fn name<'a>(&mut self, paths: impl Iterator<Item = &'a str>) {
        self.paths = paths.map(Arc::from).collect();
    }

    /// The lines: of each file in their order, and of an older file before those of a newer one of the same path.
    pub fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        self.pieces.iter().filter_map(|piece| {
            let start = piece.start as usize;
            Some(Line {
                path: self.paths.get(piece.slot as usize)?,
                bytes: self.bytes.get(start..start + piece.length as usize)?,
                end: piece.end,
                in_operation: piece.in_operation,
                end_seen: piece.end_seen,
                is_cut: piece.is_cut,
            })
        })
    }

    /// How many lines.
    pub const fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Whether no log has a new line.
    pub const fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Lines that were cut.
    pub fn cut(&self) -> usize {
        self.pieces.iter().filter(|piece| piece.is_cut).count()
    }

    /// Whether it ended at its bound: there may be more to read at once.
    pub const fn has_more(&self) -> bool {
        self.is_full()
    }

    pub(in crate::source) const fn is_full(&self) -> bool {
        self.pieces.len() >= self.lines_max || self.charged >= self.bytes_max || self.bytes.len() >= self.bytes_max
    }

    pub(in crate::source) const fn line_max(&self) -> usize {
        self.line_max
    }

    pub(in crate::source) const fn charge(&mut self, bytes: usize) {
        self.charged = self.charged.saturating_add(bytes);
    }

    /// Says of which log the next lines are: whether its end was reached once, and when last.
    pub(super) const fn set_in_operation(&mut self, in_operation: bool, end_seen: Option<Monotonic>) {
        (self.in_operation, self.end_seen) = (in_operation, end_seen);
    }

    #[expect(clippy::cast_possible_truncation, reason = "a batch is bounded far below 4 GiB")]
    pub(in crate::source) fn push(&mut self, slot: u32, line: &[u8], end: u64, is_cut: bool) {
        let (start, length) = (self.bytes.len() as u32, line.len() as u32);
        let (in_operation, end_seen) = (self.in_operation, self.end_seen);
        self.bytes.extend_from_slice(line);
        self.pieces.push(Piece { slot, start, length, end, in_operation, end_seen, is_cut });
    }
}

impl Problem {
    pub(super) fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::Denied,
            io::ErrorKind::InvalidInput => Self::NotRegular,
            _ => match error.raw_os_error() {
                Some(code) if code == Errno::LOOP.raw_os_error() => Self::Circle,
                code => Self::Failed(code.unwrap_or(Errno::IO.raw_os_error())),
            },
        }
    }
}
