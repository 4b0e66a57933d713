//! One connection of HTTP/1.1, to a client or to an upstream: its buffers, and the framing of the message under way.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BufMut as _, BytesMut};
use http::HeaderMap;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

use crate::codec::chunked::{Chunks, Piece};
use crate::codec::head::{HeadLimits, HeadParser};
use crate::heads::put_field;
use crate::message::{Length, Reply, Request};
use crate::pump::{Fault, Front, Sink, Source};
use crate::trailers;

/// Bytes that one read asks for: the first, and at most. A peer that fills them is asked for more the next time.
const READ_BYTES: (usize, usize) = (4 * 1024, 64 * 1024);
/// Bytes that wait to be sent before no more are taken.
const WAITING_BYTES_MAX: usize = 64 * 1024;
/// Data from this size on is sent from where it lies; smaller pieces are gathered.
const GATHERED_BYTES_MAX: usize = 16 * 1024;

/// A connection.
pub(crate) struct Wire<S> {
    stream: S,
    input: BytesMut,
    output: BytesMut,
    read_bytes: usize,
    decoder: Decoder,
    encoder: Encoder,
    /// The trailers of the message that came in last.
    received: Option<Box<HeaderMap>>,
    /// Those of the message that goes out, where the peer wants any.
    sent: Option<Box<HeaderMap>>,
    wants_trailers: bool,
}

/// What is left of the body that comes in.
enum Decoder {
    Ended,
    Length(u64),
    Chunked(Chunks),
    /// Until the peer ends the connection; whether it has.
    UntilEnd(bool),
}

/// What is left of the body that goes out.
enum Encoder {
    Ended,
    Length(u64),
    Chunked,
    /// Ends with the connection.
    UntilEnd,
    /// The same, and only its one direction ends.
    Tunnel,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(crate) fn new(stream: S) -> Self {
        let (input, output) = (BytesMut::new(), BytesMut::new());
        Self {
            stream,
            input,
            output,
            read_bytes: READ_BYTES.0,
            decoder: Decoder::Ended,
            encoder: Encoder::Ended,
            received: None,
            sent: None,
            wants_trailers: false,
        }
    }

    pub(crate) const fn stream(&self) -> &S {
        &self.stream
    }

    /// Whether bytes are there that nobody has asked for yet.
    pub(crate) fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// Whether all of the message was taken that came in last.
    pub(crate) const fn has_received(&self) -> bool {
        matches!(self.decoder, Decoder::Ended | Decoder::Length(0))
    }

    /// Gives memory back that only a large message needed.
    pub(crate) fn rest(&mut self) {
        if self.input.is_empty() && self.input.capacity() > 2 * READ_BYTES.0 {
            self.input = BytesMut::new();
        }
        if self.output.is_empty() && self.output.capacity() > GATHERED_BYTES_MAX {
            self.output = BytesMut::new();
        }
        self.read_bytes = READ_BYTES.0;
    }

    /// Where the head of the next message is written.
    pub(crate) const fn head(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// The body that follows the head which was read.
    pub(crate) fn receive(&mut self, length: Length, is_chunked: bool) {
        self.received = None;
        self.decoder = match length {
            Length::None | Length::Known(0) => Decoder::Ended,
            Length::Known(bytes) => Decoder::Length(bytes),
            Length::Unknown if is_chunked => Decoder::Chunked(Chunks::default()),
            Length::Unknown => Decoder::UntilEnd(false),
        };
    }

    /// The body that follows the head which was written.
    pub(crate) fn send(&mut self, length: Length, is_chunked: bool) {
        (self.sent, self.wants_trailers) = (None, false);
        self.encoder = match length {
            Length::None | Length::Known(0) => Encoder::Ended,
            Length::Known(bytes) => Encoder::Length(bytes),
            Length::Unknown if is_chunked => Encoder::Chunked,
            Length::Unknown => Encoder::UntilEnd,
        };
    }

    /// The peer wants the trailers of the message whose head was written.
    pub(crate) const fn send_trailers(&mut self) {
        self.wants_trailers = true;
    }

    /// From here on bytes mean what the two ends make of them.
    pub(crate) fn tunnel(&mut self) {
        (self.decoder, self.encoder) = (Decoder::UntilEnd(false), Encoder::Tunnel);
    }

    /// Waits for the first byte of a message. `false` when the peer has ended the connection instead.
    pub(crate) fn poll_first_byte(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if !self.input.is_empty() {
            return Poll::Ready(Ok(true));
        }
        Poll::Ready(Ok(ready!(self.poll_read(cx))? > 0))
    }

    /// Reads the head of a request.
    pub(crate) fn poll_request(
        &mut self,
        cx: &mut Context<'_>,
        parser: &mut HeadParser,
        limits: HeadLimits,
        request: &mut Request,
    ) -> Poll<Result<(), Fault>> {
        loop {
            if let Some(length) = parser.request(&self.input, limits, request)? {
                self.input.advance(length);
                return Poll::Ready(Ok(()));
            }
            if ready!(self.poll_read(cx))? == 0 {
                return Poll::Ready(Err(Fault::ended()));
            }
        }
    }

    /// Reads the head of a reply.
    pub(crate) fn poll_reply(
        &mut self,
        cx: &mut Context<'_>,
        parser: &mut HeadParser,
        limits: HeadLimits,
        is_head: bool,
        reply: &mut Reply,
    ) -> Poll<Result<(), Fault>> {
        loop {
            if let Some(length) = parser.reply(&self.input, limits, is_head, reply)? {
                self.input.advance(length);
                return Poll::Ready(Ok(()));
            }
            if ready!(self.poll_read(cx))? == 0 {
                return Poll::Ready(Err(Fault::ended()));
            }
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.input.reserve(self.read_bytes);
        let room = self.input.capacity() - self.input.len();
        // The future keeps nothing from one poll to the next.
        let read = ready!(pin!(self.stream.read_buf(&mut self.input)).poll(cx))?;
        if read == room && self.read_bytes < READ_BYTES.1 {
            self.read_bytes *= 4;
        }
        Poll::Ready(Ok(read))
    }

    /// Sends what waits, as far as the peer takes it.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let sent = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.output))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.output.advance(sent);
        }
        Poll::Ready(Ok(()))
    }

    /// Takes data that goes out as it is.
    fn poll_take_raw(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Fault>> {
        if data.len() < GATHERED_BYTES_MAX {
            if self.output.len() >= WAITING_BYTES_MAX {
                ready!(self.poll_drain(cx))?;
            }
            self.output.put_slice(data);
            return Poll::Ready(Ok(data.len()));
        }
        if self.output.is_empty() {
            return Poll::Ready(Ok(ready!(Pin::new(&mut self.stream).poll_write(cx, data))?));
        }
        if !self.stream.is_write_vectored() {
            ready!(self.poll_drain(cx))?;
            return Poll::Ready(Ok(ready!(Pin::new(&mut self.stream).poll_write(cx, data))?));
        }
        let parts = [io::IoSlice::new(&self.output), io::IoSlice::new(data)];
        let sent = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, &parts))?;
        let waiting = sent.min(self.output.len());
        self.output.advance(waiting);
        Poll::Ready(Ok(sent - waiting))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Source for Wire<S> {
    fn front(&mut self) -> Result<Front, Fault> {
        let there = self.input.len();
        Ok(match &mut self.decoder {
            Decoder::Ended | Decoder::Length(0) => Front::End,
            Decoder::Length(left) => match there.min(usize::try_from(*left).unwrap_or(usize::MAX)) {
                0 => Front::Empty,
                bytes => Front::Data(bytes),
            },
            Decoder::Chunked(chunks) => loop {
                match chunks.piece(&self.input)? {
                    Piece::Framing(bytes) => self.input.advance(bytes),
                    Piece::Data(bytes) => break Front::Data(bytes),
                    Piece::More => break Front::Empty,
                    Piece::End => {
                        if self.received.is_none() && chunks.trailer().len() > 0 {
                            self.received = trailers::of_fields(chunks.trailer()).map(Box::new);
                        }
                        break Front::End;
                    }
                }
            },
            Decoder::UntilEnd(_) if there > 0 => Front::Data(there),
            Decoder::UntilEnd(true) => Front::End,
            Decoder::UntilEnd(false) => Front::Empty,
        })
    }

    fn data(&self) -> &[u8] {
        &self.input
    }

    fn take(&mut self, bytes: usize) {
        self.input.advance(bytes);
        match &mut self.decoder {
            Decoder::Length(left) => *left = left.saturating_sub(u64::try_from(bytes).unwrap_or(u64::MAX)),
            Decoder::Chunked(chunks) => chunks.take(bytes),
            Decoder::Ended | Decoder::UntilEnd(_) => {}
        }
    }

    fn trailers(&self) -> Option<&HeaderMap> {
        self.received.as_deref()
    }

    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        if ready!(self.poll_read(cx))? == 0 {
            match &mut self.decoder {
                Decoder::UntilEnd(ended) => *ended = true,
                _ => return Poll::Ready(Err(Fault::ended())),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Sink for Wire<S> {
    fn poll_take(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Fault>> {
        match self.encoder {
            // The other side sends more than its head has said, or where there is no body.
            Encoder::Ended | Encoder::Length(0) => Poll::Ready(Err(io::Error::from(io::ErrorKind::InvalidData).into())),
            Encoder::Length(left) => {
                let most = data.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let taken = ready!(self.poll_take_raw(cx, data.get(..most).unwrap_or(data)))?;
                self.encoder = Encoder::Length(left.saturating_sub(u64::try_from(taken).unwrap_or(u64::MAX)));
                Poll::Ready(Ok(taken))
            }
            Encoder::UntilEnd | Encoder::Tunnel => self.poll_take_raw(cx, data),
            Encoder::Chunked => {
                if self.output.len() >= WAITING_BYTES_MAX {
                    ready!(self.poll_drain(cx))?;
                }
                put_chunk(&mut self.output, data);
                Poll::Ready(Ok(data.len()))
            }
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        ready!(self.poll_drain(cx))?;
        Poll::Ready(Ok(ready!(Pin::new(&mut self.stream).poll_flush(cx))?))
    }

    fn put_trailers(&mut self, trailers: &HeaderMap) {
        if self.wants_trailers {
            self.sent = Some(Box::new(trailers.clone()));
        }
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        match self.encoder {
            Encoder::Chunked => {
                self.output.put_slice(b"0\r\n");
                for (name, value) in self.sent.take().iter().flat_map(|trailers| trailers.iter()) {
                    put_field(&mut self.output, name.as_str().as_bytes(), value.as_bytes());
                }
                self.output.put_slice(b"\r\n");
                self.encoder = Encoder::Ended;
            }
            Encoder::Length(left) if left > 0 => return Poll::Ready(Err(Fault::ended())),
            Encoder::Tunnel => {
                ready!(self.poll_send(cx))?;
                return Poll::Ready(Ok(ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?));
            }
            Encoder::Ended | Encoder::Length(_) | Encoder::UntilEnd => {}
        }
        self.poll_send(cx)
    }
}

/// A chunk: its size in hexadecimal digits, and its data.
fn put_chunk(output: &mut BytesMut, data: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    output.reserve(data.len() + 20);
    let digits = (usize::BITS - data.len().leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        output.put_u8(DIGITS[data.len() >> (4 * place) & 15]);
    }
    output.put_slice(b"\r\n");
    output.put_slice(data);
    output.put_slice(b"\r\n");
}

impl<S: AsyncWrite + Unpin> Wire<S> {
    /// Ends the connection in order, so that the peer reads what was sent last.
    pub(crate) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + Unpin> Wire<S> {
    /// Reads and forgets; how many bytes, 0 at the end.
    pub(crate) fn poll_forget(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.input.clear();
        self.input.reserve(READ_BYTES.0);
        pin!(self.stream.read_buf(&mut self.input)).poll(cx)
    }
}
