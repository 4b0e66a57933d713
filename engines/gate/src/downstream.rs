//! What a version of HTTP has to offer on the side of the client, beside the bodies: how a reply begins, and how the gate answers by
//! itself.

use std::task::{Context, Poll};

use bytes::BufMut as _;

use crate::heads::{Extras, OwnReply, put_reply};
use crate::message::{Reply, Request};
use crate::pump::{Fault, Sink, Source};
use crate::stream::ClientStream;
use crate::wire::Wire;

/// The request of a client that is being answered: its body comes out of it, and the reply goes into it.
pub(crate) trait Downstream: Source + Sink {
    /// Has the client send the body that it holds back.
    fn poll_continue(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>>;

    /// Whether the client has given the request up, as far as that can be known without reading on. Wakes the task when it does.
    fn is_given_up(&mut self, cx: &mut Context<'_>) -> bool;

    /// Whether the client knows where a reply ends.
    fn knows_the_end_of(&self, request: &Request, reply: &Reply) -> bool;

    /// Begins a reply; its body is what the sink takes from now on. `keeps` is whether the connection takes another request.
    fn begin(&mut self, request: &Request, reply: &Reply, keeps: bool, extras: &Extras) -> Result<(), Fault>;

    /// Begins and ends a reply of the gate itself, which is sent by [`Sink::poll_send`]; how many bytes its body has.
    fn say(&mut self, reply: &OwnReply<'_>, date: &str, keeps: bool, is_head: bool) -> Result<u64, Fault>;
}

impl Downstream for Wire<ClientStream> {
    fn poll_continue(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        if self.head().is_empty() {
            self.head().put_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        self.poll_send(cx)
    }

    fn is_given_up(&mut self, cx: &mut Context<'_>) -> bool {
        // What comes next on the connection may be another request, and belongs to nobody yet: it is kept, and nothing more is read.
        !self.has_input() && self.has_received() && matches!(self.poll_first_byte(cx), Poll::Ready(Ok(false) | Err(_)))
    }

    fn knows_the_end_of(&self, request: &Request, reply: &Reply) -> bool {
        reply.length != crate::message::Length::Unknown || request.version.has_chunks()
    }

    fn begin(&mut self, request: &Request, reply: &Reply, keeps: bool, extras: &Extras) -> Result<(), Fault> {
        let is_chunked = request.version.has_chunks();
        put_reply(self.head(), reply, is_chunked, keeps, extras);
        if reply.status == 101 {
            self.tunnel();
        } else {
            self.send(reply.length, is_chunked);
            if request.wants_trailers() {
                self.send_trailers();
            }
        }
        Ok(())
    }

    fn say(&mut self, reply: &OwnReply<'_>, date: &str, keeps: bool, is_head: bool) -> Result<u64, Fault> {
        Ok(reply.put(self.head(), date, keeps, is_head))
    }
}
