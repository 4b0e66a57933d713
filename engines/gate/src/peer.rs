//! The upstream's end of one exchange, whichever version of HTTP is spoken there.

use std::task::{Context, Poll};

use http::HeaderMap;
use tokio::net::TcpStream;

use crate::codec::head::{HeadLimits, HeadParser};
use crate::http2::upstream::Call;
use crate::message::{Name, Reply};
use crate::pump::{Fault, Front, Sink, Source};
use crate::wire::Wire;

/// An upstream that has been sent the head of a request.
pub(crate) enum Peer {
    /// A connection, for this one request.
    Http1(Wire<TcpStream>),
    /// A stream of a connection that others use too.
    Http2(Call),
}

impl Peer {
    /// Reads the head of a reply: informational ones too, of HTTP/1.1.
    pub(crate) fn poll_reply(
        &mut self,
        cx: &mut Context<'_>,
        parser: &mut HeadParser,
        is_head: bool,
        reply: &mut Reply,
    ) -> Poll<Result<(), Fault>> {
        match self {
            Self::Http1(wire) => wire.poll_reply(cx, parser, HeadLimits::default(), is_head, reply),
            Self::Http2(call) => call.poll_reply(cx, is_head, reply),
        }
    }

    /// The body that follows the head which was read.
    pub(crate) fn receive(&mut self, reply: &Reply) {
        if let Self::Http1(wire) = self {
            wire.receive(reply.length, reply.fields.first(Name::TransferEncoding).is_some());
        }
    }

    /// An answer did not come in time.
    pub(crate) fn doubt(&self) {
        if let Self::Http2(call) = self {
            call.doubt();
        }
    }
}

impl Source for Peer {
    fn front(&mut self) -> Result<Front, Fault> {
        match self {
            Self::Http1(wire) => wire.front(),
            Self::Http2(call) => call.front(),
        }
    }

    fn data(&self) -> &[u8] {
        match self {
            Self::Http1(wire) => wire.data(),
            Self::Http2(call) => call.data(),
        }
    }

    fn take(&mut self, bytes: usize) {
        match self {
            Self::Http1(wire) => wire.take(bytes),
            Self::Http2(call) => call.take(bytes),
        }
    }

    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        match self {
            Self::Http1(wire) => wire.poll_more(cx),
            Self::Http2(call) => call.poll_more(cx),
        }
    }

    fn trailers(&self) -> Option<&HeaderMap> {
        match self {
            Self::Http1(wire) => wire.trailers(),
            Self::Http2(call) => call.trailers(),
        }
    }
}

impl Sink for Peer {
    fn poll_take(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Fault>> {
        match self {
            Self::Http1(wire) => wire.poll_take(cx, data),
            Self::Http2(call) => call.poll_take(cx, data),
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        match self {
            Self::Http1(wire) => wire.poll_send(cx),
            Self::Http2(call) => call.poll_send(cx),
        }
    }

    fn put_trailers(&mut self, trailers: &HeaderMap) {
        match self {
            // Nobody says whether a program behind HTTP/1.1 keeps them apart: most merge them into the head, or stumble.
            Self::Http1(_) => {}
            Self::Http2(call) => call.put_trailers(trailers),
        }
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        match self {
            Self::Http1(wire) => wire.poll_finish(cx),
            Self::Http2(call) => call.poll_finish(cx),
        }
    }
}
