//! The two directions of a stream of HTTP/2, whoever is at its other end: bodies, their trailers, and what a reset means.

use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use h2::{Reason, RecvStream, SendStream};
use http::HeaderMap;

use crate::pump::{Fault, Front, Sink, Source, Unseen};
use crate::trailers::passed_on;

/// Bytes that one frame takes.
const FRAME_BYTES_MAX: usize = 16 * 1024;

/// What an error of a stream says of the other end.
pub(crate) fn fault(error: &h2::Error) -> Fault {
    match error.reason() {
        // Streams that the other end still answers when it goes outlive its GOAWAY: those that it names in it do not.
        Some(_) if error.is_go_away() && error.is_remote() => Fault::Unseen(Unseen::Connection),
        Some(Reason::REFUSED_STREAM) if error.is_reset() && error.is_remote() => Fault::Unseen(Unseen::Stream),
        Some(reason) if error.is_reset() && error.is_remote() => Fault::Reset(reason),
        // A stream that broke is as good as a connection that did.
        _ if error.is_io() => Fault::Broken(std::io::ErrorKind::ConnectionReset.into()),
        _ => Fault::Broken(std::io::ErrorKind::UnexpectedEof.into()),
    }
}

/// What comes in.
pub(super) struct Inbound {
    body: RecvStream,
    data: Bytes,
    trailers: Option<HeaderMap>,
    has_ended: bool,
}

impl Inbound {
    pub(super) fn of(body: RecvStream) -> Self {
        let has_ended = body.is_end_stream();
        Self { body, data: Bytes::new(), trailers: None, has_ended }
    }

    /// Whether nothing more comes.
    pub(super) const fn has_ended(&self) -> bool {
        self.has_ended
    }
}

impl Source for Inbound {
    fn front(&mut self) -> Result<Front, Fault> {
        Ok(match (self.data.len(), self.has_ended) {
            (0, true) => Front::End,
            (0, false) => Front::Empty,
            (bytes, _) => Front::Data(bytes),
        })
    }

    fn data(&self) -> &[u8] {
        &self.data
    }

    fn take(&mut self, bytes: usize) {
        self.data.advance(bytes);
        // The window opens by what was passed on, and by nothing else: that is the back-pressure. It fails on a stream that is gone,
        // which the next read says.
        drop(self.body.flow_control().release_capacity(bytes));
    }

    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        match ready!(self.body.poll_data(cx)) {
            Some(Ok(data)) => self.data = data,
            Some(Err(error)) => return Poll::Ready(Err(fault(&error))),
            None => {
                let trailers = ready!(self.body.poll_trailers(cx)).map_err(|error| fault(&error))?;
                self.trailers = trailers.as_ref().map(passed_on).filter(|trailers| !trailers.is_empty());
                self.has_ended = true;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn trailers(&self) -> Option<&HeaderMap> {
        self.trailers.as_ref()
    }
}

/// What goes out. The task of the connection sends it.
pub(super) struct Outbound {
    stream: SendStream<Bytes>,
    trailers: Option<HeaderMap>,
    has_ended: bool,
}

impl Outbound {
    pub(super) const fn of(stream: SendStream<Bytes>) -> Self {
        Self { stream, trailers: None, has_ended: false }
    }

    /// One whose head was all.
    pub(super) const fn ended(stream: SendStream<Bytes>) -> Self {
        Self { stream, trailers: None, has_ended: true }
    }

    pub(super) fn reset(&mut self, reason: Reason) {
        self.stream.send_reset(reason);
    }

    /// Whether the other end takes nothing more. Wakes the task when it does not.
    pub(super) fn is_reset(&mut self, cx: &mut Context<'_>) -> bool {
        !self.has_ended && self.stream.poll_reset(cx).is_ready()
    }

    /// Sends a last piece, which is small.
    pub(super) fn end_with(&mut self, data: Bytes) -> Result<(), Fault> {
        self.has_ended = true;
        self.stream.send_data(data, true).map_err(|error| fault(&error))
    }
}

impl Sink for Outbound {
    fn poll_take(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Fault>> {
        self.stream.reserve_capacity(data.len().min(FRAME_BYTES_MAX));
        loop {
            match self.stream.capacity() {
                0 => match ready!(self.stream.poll_capacity(cx)) {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Poll::Ready(Err(fault(&error))),
                    None => return Poll::Ready(Err(Fault::ended())),
                },
                room => {
                    let bytes = room.min(data.len()).min(FRAME_BYTES_MAX);
                    let frame = Bytes::copy_from_slice(data.get(..bytes).unwrap_or(data));
                    self.stream.send_data(frame, false).map_err(|error| fault(&error))?;
                    return Poll::Ready(Ok(bytes));
                }
            }
        }
    }

    fn poll_send(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(Ok(()))
    }

    fn put_trailers(&mut self, trailers: &HeaderMap) {
        self.trailers = Some(trailers.clone());
    }

    fn poll_finish(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        if std::mem::replace(&mut self.has_ended, true) {
            return Poll::Ready(Ok(()));
        }
        let ended = match self.trailers.take() {
            Some(trailers) => self.stream.send_trailers(trailers),
            None => self.stream.send_data(Bytes::new(), true),
        };
        Poll::Ready(ended.map_err(|error| fault(&error)))
    }
}
