//! Takes chunks apart (RFC 9112, section 7.1), without a copy: says how many bytes are framing, and how many are data.

use crate::codec::head::{HeadLimits, field_line};
use crate::codec::refusal::Refusal;
use crate::message::{Fields, Name};

/// Longest line of a size, extensions included. They are dropped.
const SIZE_LINE_BYTES_MAX: usize = 256;
/// The bounds of the trailer.
const TRAILER: HeadLimits = HeadLimits { bytes_max: 8 * 1024, line_bytes_max: 8 * 1024, fields_max: 32 };

/// Where in the chunks a reader is.
#[derive(Default, Debug)]
pub(crate) struct Chunks {
    at: At,
    trailer: Fields,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum At {
    #[default]
    Size,
    Data(u64),
    /// The end of the line after data.
    DataEnd,
    Trailer,
    Ended,
}

/// What the first bytes of the input are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Piece {
    /// So many bytes of framing.
    Framing(usize),
    /// So many bytes of data.
    Data(usize),
    /// More has to come before anything can be said.
    More,
    /// The chunks have ended; what follows is of the next message.
    End,
}

impl Chunks {
    /// What `input` begins with. Framing counts as read; data is told of again until it was [taken](Self::take).
    pub(crate) fn piece(&mut self, input: &[u8]) -> Result<Piece, Refusal> {
        match self.at {
            At::Ended => Ok(Piece::End),
            At::Data(left) => {
                let there = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                Ok(if there == 0 { Piece::More } else { Piece::Data(there) })
            }
            At::DataEnd => match input {
                [b'\r', b'\n', ..] => {
                    self.at = At::Size;
                    Ok(Piece::Framing(2))
                }
                [] | [b'\r'] => Ok(Piece::More),
                _ => Err(Refusal::BadChunk),
            },
            At::Size => {
                let Some((line, length)) = line(input, SIZE_LINE_BYTES_MAX, Refusal::BadChunk)? else {
                    return early(input);
                };
                let size = size(line)?;
                self.at = if size == 0 { At::Trailer } else { At::Data(size) };
                Ok(Piece::Framing(length))
            }
            At::Trailer => {
                let Some((line, length)) = line(input, TRAILER.line_bytes_max, Refusal::BadTrailer)? else {
                    return Ok(Piece::More);
                };
                if line.is_empty() {
                    self.at = At::Ended;
                } else {
                    field_line(line, TRAILER, &mut self.trailer).map_err(|_| Refusal::BadTrailer)?;
                    let decides = self
                        .trailer
                        .iter()
                        .last()
                        .is_some_and(|field| !matches!(field.known, Name::Other | Name::Date));
                    if decides || self.trailer.bytes() > TRAILER.bytes_max {
                        return Err(Refusal::BadTrailer);
                    }
                }
                Ok(Piece::Framing(length))
            }
        }
    }

    /// The fields that came behind the data, so far.
    pub(crate) const fn trailer(&self) -> &Fields {
        &self.trailer
    }

    /// So many bytes of data were taken.
    pub(crate) fn take(&mut self, bytes: usize) {
        if let At::Data(left) = self.at {
            let left = left.saturating_sub(u64::try_from(bytes).unwrap_or(u64::MAX));
            self.at = if left == 0 { At::DataEnd } else { At::Data(left) };
        }
    }
}

/// A size that can't become one is refused before its line has ended.
fn early(input: &[u8]) -> Result<Piece, Refusal> {
    match input.first() {
        Some(first) if !first.is_ascii_hexdigit() => Err(Refusal::BadChunk),
        _ => Ok(Piece::More),
    }
}

/// The line that `input` begins with, without its end, and its length with it.
fn line(input: &[u8], bytes_max: usize, refusal: Refusal) -> Result<Option<(&[u8], usize)>, Refusal> {
    let within = input.get(..bytes_max).unwrap_or(input);
    match memchr::memchr(b'\n', within) {
        Some(end) => {
            let line = input.get(..end).and_then(|line| line.strip_suffix(b"\r")).ok_or(refusal)?;
            Ok(Some((line, end + 1)))
        }
        None if input.len() >= bytes_max => Err(refusal),
        None => Ok(None),
    }
}

/// `hex` or `hex;extension`, without spaces before the semicolon: some readers stop there, and some go on.
fn size(line: &[u8]) -> Result<u64, Refusal> {
    let (digits, extension) = line.split_at(line.iter().position(|byte| *byte == b';').unwrap_or(line.len()));
    // Sixteen digits fit, and none of more than 2^63 is a body.
    if digits.is_empty() || digits.len() > 15 {
        return Err(Refusal::BadChunk);
    }
    if !extension.iter().all(|byte| matches!(byte, b'\t' | 0x20..=0x7e)) {
        return Err(Refusal::BadChunk);
    }
    digits.iter().try_fold(0_u64, |size, digit| {
        let digit = char::from(*digit).to_digit(16).ok_or(Refusal::BadChunk)?;
        Ok(size * 16 + u64::from(digit))
    })
}
