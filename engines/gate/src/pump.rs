//! Carries a body from one side to the other, with back-pressure: nothing more is read while the other side takes nothing.
//!
//! Both directions of an exchange are pumped by one task, so that an upstream may answer before it has the whole request. The
//! traits [`Source`] and [`Sink`] are what a version of HTTP has to offer.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use h2::Reason;
use http::HeaderMap;

use crate::codec::refusal::Refusal;

/// What is at the front of a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Front {
    /// So many bytes of data.
    Data(usize),
    /// Nothing that is here already.
    Empty,
    /// The body is over.
    End,
}

/// Why a side can't go on.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It sends what is refused.
    Refused(Refusal),
    /// The connection broke, or ended in the middle.
    Broken(io::Error),
    /// It was waited for in vain.
    Late,
    /// It has not looked at what was sent, and says so (RFC 9113, section 8.7): nothing was done, and it may be sent again.
    Unseen(Unseen),
    /// It has given up one stream of HTTP/2.
    Reset(Reason),
    /// It is let in no more.
    ShutOut,
}

/// What an upstream did not look at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unseen {
    /// This request: it has too much to do.
    Stream,
    /// Any request on this connection that comes after those that it answers still: it goes.
    Connection,
}

impl Fault {
    pub(crate) fn ended() -> Self {
        Self::Broken(io::ErrorKind::UnexpectedEof.into())
    }

    /// Whether it says nothing of the other side: this process or its host is out of descriptors, ports or memory.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self, Self::Broken(error) if is_ours(error))
    }

    /// Why, in words for the team.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Refused(refusal) => format!("what it answers is refused: {}", refusal.class()),
            Self::Broken(error) => match error.kind() {
                io::ErrorKind::UnexpectedEof => "the connection ended before the reply".to_owned(),
                io::ErrorKind::ConnectionRefused => "the connection is refused".to_owned(),
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "the connection was reset".to_owned(),
                _ => format!("the connection broke: {error}"),
            },
            Self::Late => "no answer in time".to_owned(),
            Self::Unseen(Unseen::Stream) => "it refuses the stream".to_owned(),
            Self::Unseen(Unseen::Connection) => "it goes (GOAWAY)".to_owned(),
            Self::ShutOut => "it is let in no more".to_owned(),
            Self::Reset(reason) => format!("it has reset the stream ({reason:?})"),
        }
    }
}

/// As [`Fault::is_ours`], of an error.
pub(crate) fn is_ours(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let ours = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL];
    ours.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

/// Where a body comes from.
pub(crate) trait Source {
    /// What is at the front, framing passed over.
    fn front(&mut self) -> Result<Front, Fault>;
    /// The data that [`front`](Self::front) has told of.
    fn data(&self) -> &[u8];
    /// So many bytes of it were taken.
    fn take(&mut self, bytes: usize);
    /// Waits for more. Only called when the front is [empty](Front::Empty).
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>>;
    /// The fields that came behind the body, once it is over, as far as they go on.
    fn trailers(&self) -> Option<&HeaderMap> {
        None
    }
}

/// Where a body goes.
pub(crate) trait Sink {
    /// Takes some of the data, perhaps without sending it yet.
    fn poll_take(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Fault>>;
    /// Sends what was taken.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>>;
    /// Has these fields come behind the body, where its version of HTTP can.
    fn put_trailers(&mut self, _trailers: &HeaderMap) {}
    /// Sends what was taken, and that it is all.
    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>>;
}

/// Which side failed, or is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Source,
    Sink,
}

/// How far one direction is.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Flow {
    /// Bytes of data so far.
    pub(crate) bytes: u64,
    /// All of it has arrived.
    pub(crate) is_done: bool,
    /// Who is waited for, since the last time it was looked.
    pub(crate) waits_for: Option<Side>,
}

impl Flow {
    /// Carries what there is. Ready when the body is over and sent.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut impl Source,
        sink: &mut impl Sink,
    ) -> Poll<Result<(), (Side, Fault)>> {
        if self.is_done {
            return Poll::Ready(Ok(()));
        }
        loop {
            match source.front().map_err(|fault| (Side::Source, fault))? {
                Front::Data(bytes) => {
                    self.waits_for = Some(Side::Sink);
                    let data = source.data().get(..bytes).unwrap_or_default();
                    let taken = ready!(sink.poll_take(cx, data)).map_err(|fault| (Side::Sink, fault))?;
                    source.take(taken);
                    self.bytes += u64::try_from(taken).unwrap_or(0);
                }
                Front::End => {
                    self.waits_for = Some(Side::Sink);
                    if let Some(trailers) = source.trailers() {
                        sink.put_trailers(trailers);
                    }
                    ready!(sink.poll_finish(cx)).map_err(|fault| (Side::Sink, fault))?;
                    (self.is_done, self.waits_for) = (true, None);
                    return Poll::Ready(Ok(()));
                }
                Front::Empty => {
                    if let Poll::Ready(more) = source.poll_more(cx) {
                        more.map_err(|fault| (Side::Source, fault))?;
                        continue;
                    }
                    let sent = sink.poll_send(cx).map_err(|fault| (Side::Sink, fault))?;
                    self.waits_for = Some(if sent.is_pending() { Side::Sink } else { Side::Source });
                    return Poll::Pending;
                }
            }
        }
    }
}

/// A source whose first bytes are kept, so that another upstream can be sent them again.
pub(crate) struct Replayed<'s, S> {
    source: &'s mut S,
    kept: BytesMut,
    /// So many of the kept bytes were taken by the present sink.
    at: usize,
    bytes_max: usize,
    /// Something was taken that is not kept.
    is_past: bool,
}

impl<'s, S: Source> Replayed<'s, S> {
    pub(crate) fn new(source: &'s mut S, bytes_max: usize) -> Self {
        Self { source, kept: BytesMut::new(), at: 0, bytes_max, is_past: false }
    }

    /// Whether nothing of it was taken yet.
    pub(crate) fn is_untouched(&self) -> bool {
        self.kept.is_empty() && !self.is_past
    }

    /// Whether another sink can be given all of it.
    pub(crate) const fn can_replay(&self) -> bool {
        !self.is_past
    }

    /// Begins again, for another sink.
    pub(crate) const fn replay(&mut self) {
        self.at = 0;
    }

    pub(crate) const fn inner(&mut self) -> &mut S {
        self.source
    }
}

impl<S: Source> Source for Replayed<'_, S> {
    fn front(&mut self) -> Result<Front, Fault> {
        if self.at < self.kept.len() {
            return Ok(Front::Data(self.kept.len() - self.at));
        }
        self.source.front()
    }

    fn data(&self) -> &[u8] {
        if self.at < self.kept.len() { self.kept.get(self.at..).unwrap_or_default() } else { self.source.data() }
    }

    fn take(&mut self, bytes: usize) {
        if self.at < self.kept.len() {
            self.at += bytes;
            return;
        }
        if !self.is_past && self.kept.len() + bytes <= self.bytes_max {
            self.kept.extend_from_slice(self.source.data().get(..bytes).unwrap_or_default());
            self.at = self.kept.len();
        } else {
            self.is_past = true;
            self.kept.advance(self.kept.len());
            self.at = 0;
        }
        self.source.take(bytes);
    }

    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.source.poll_more(cx)
    }

    fn trailers(&self) -> Option<&HeaderMap> {
        self.source.trailers()
    }
}

/// A sink for what nobody wants any more.
pub(crate) struct Nowhere;

impl Sink for Nowhere {
    fn poll_take(&mut self, _cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Fault>> {
        Poll::Ready(Ok(data.len()))
    }

    fn poll_send(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(Ok(()))
    }

    fn poll_finish(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    struct Pieces(Vec<&'static [u8]>);

    impl Source for Pieces {
        fn front(&mut self) -> Result<Front, Fault> {
            Ok(self.0.first().map_or(Front::End, |piece| Front::Data(piece.len())))
        }
        fn data(&self) -> &[u8] {
            self.0[0]
        }
        fn take(&mut self, bytes: usize) {
            self.0[0] = &self.0[0][bytes..];
            if self.0[0].is_empty() {
                self.0.remove(0);
            }
        }
        fn poll_more(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
            Poll::Pending
        }
    }

    /// Takes two bytes at a time, and breaks after so many.
    struct Breaks(Vec<u8>, usize);

    impl Sink for Breaks {
        fn poll_take(&mut self, _cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Fault>> {
            if self.0.len() >= self.1 {
                return Poll::Ready(Err(Fault::ended()));
            }
            let taken = data.len().min(2);
            self.0.extend_from_slice(&data[..taken]);
            Poll::Ready(Ok(taken))
        }
        fn poll_send(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
            Poll::Ready(Ok(()))
        }
        fn poll_finish(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Whoever comes after one that broke is given the same bytes, until more were taken than are kept.
    #[test]
    fn a_body_is_replayed_within_its_bound() {
        let mut cx = Context::from_waker(Waker::noop());
        let mut pieces = Pieces(vec![b"abc", b"defg", b"hi"]);
        let mut source = Replayed::new(&mut pieces, 6);
        let mut pump = |source: &mut Replayed<'_, Pieces>, breaks_after| {
            let mut sink = Breaks(Vec::new(), breaks_after);
            let done = Flow::default().poll(&mut cx, source, &mut sink).map_err(|(side, _)| side);
            (done, sink.0)
        };
        assert_eq!(pump(&mut source, 4), (Poll::Ready(Err(Side::Sink)), b"abcde".to_vec()));
        assert!(source.can_replay());
        source.replay();
        assert_eq!(pump(&mut source, 6), (Poll::Ready(Err(Side::Sink)), b"abcdefg".to_vec()));
        assert!(!source.can_replay(), "seven bytes were taken, and six may be kept");
        let mut pieces = Pieces(vec![b"abc"]);
        let mut source = Replayed::new(&mut pieces, 6);
        assert_eq!(pump(&mut source, 9), (Poll::Ready(Ok(())), b"abc".to_vec()));
        source.replay();
        assert_eq!(pump(&mut source, 9), (Poll::Ready(Ok(())), b"abc".to_vec()));
    }
}
