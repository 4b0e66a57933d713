//! A WebSocket after its handshake: bytes are carried both ways, and understood only as far as is needed to end it in order.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use event::Span;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::downstream::Downstream;
use crate::exchange::SHUT_OUT;
use crate::meter::{Quiet, STEP};
use crate::pump::{Fault, Flow, Front, Side, Sink, Source};
use crate::stay::Stay;
use crate::websocket::{Frames, GOING_AWAY, VIOLATION, farewell, masked_farewell};
use crate::wire::Wire;
use crate::worker::Worker;

/// How long a tunnel may carry nothing.
const QUIET_MAX: Span = Span::from_secs(3600);
/// How long each side may take to be told that the gate goes.
const FAREWELL_WITHIN: Duration = Duration::from_millis(500);

/// What a tunnel has carried.
pub(crate) struct Carried {
    /// Bytes that the client was sent.
    pub(crate) bytes: u64,
    /// Why it was cut.
    pub(crate) cut: Option<&'static str>,
}

/// Carries until a side ends, nothing has moved for an hour, or what was begun has to end: then both sides are told so, between two
/// frames of theirs. The client is told 1001 where the gate goes, 1008 where it is let in no more: what comes again by itself after the
/// one does not after the other. For the upstream its client goes away, which is 1001.
pub(crate) async fn carry(
    worker: &Worker,
    stay: &Stay<'_>,
    client: &mut impl Downstream,
    upstream: &mut Wire<TcpStream>,
) -> Carried {
    let (mut there, mut back, mut quiet) = (Flow::default(), Flow::default(), Quiet::default());
    let (mut of_client, mut of_upstream) = (Frames::default(), Frames::default());
    let mut is_broken = false;
    let mut has_stayed_too_long = false;
    let cut = loop {
        let step = poll_fn(|cx| {
            if !there.is_done && !is_broken {
                let mut source = Watched { source: &mut *client, frames: &mut of_client };
                match there.poll(cx, &mut source, upstream) {
                    Poll::Ready(Err((Side::Source, _))) => return Poll::Ready(Err("the client went away")),
                    Poll::Ready(Err((Side::Sink, _))) => is_broken = true,
                    Poll::Ready(Ok(())) | Poll::Pending => {}
                }
            }
            let mut source = Watched { source: &mut *upstream, frames: &mut of_upstream };
            match back.poll(cx, &mut source, client) {
                Poll::Ready(Err((Side::Source, _))) => Poll::Ready(Err("the upstream broke off")),
                Poll::Ready(Err((Side::Sink, _))) => Poll::Ready(Err("the client went away")),
                Poll::Ready(Ok(())) => Poll::Ready(Ok(None)),
                Poll::Pending if !of_upstream.takes_another() => Poll::Pending,
                Poll::Pending if stay.is_over() => Poll::Ready(Ok(Some(VIOLATION))),
                Poll::Pending if worker.is_ending() => Poll::Ready(Ok(Some(GOING_AWAY))),
                Poll::Pending => Poll::Pending,
            }
        });
        match timeout(STEP, step).await {
            Ok(Ok(None)) => break None,
            Ok(Ok(Some(code))) => {
                let key = u32::try_from(worker.draw() >> 32).unwrap_or_default();
                drop(timeout(FAREWELL_WITHIN, tell(client, &farewell(code))).await);
                if of_client.takes_another() && !is_broken {
                    drop(timeout(FAREWELL_WITHIN, tell(upstream, &masked_farewell(key))).await);
                }
                break (code == VIOLATION).then_some(SHUT_OUT);
            }
            Ok(Err(why)) => break Some(why),
            // A frame that does not end keeps nobody in.
            Err(_step) if stay.is_over() && std::mem::replace(&mut has_stayed_too_long, true) => break Some(SHUT_OUT),
            Err(_step) if quiet.lasts(there.bytes + back.bytes, QUIET_MAX) => break Some("the tunnel carried nothing"),
            Err(_step) => {}
        }
    };
    Carried { bytes: back.bytes, cut }
}

/// Sends one side a last frame.
async fn tell(side: &mut impl Sink, mut frame: &[u8]) -> Result<(), Fault> {
    while !frame.is_empty() {
        let taken = poll_fn(|cx| side.poll_take(cx, frame)).await?;
        frame = frame.get(taken..).unwrap_or_default();
    }
    poll_fn(|cx| side.poll_finish(cx)).await
}

/// A side whose frames are followed.
struct Watched<'w, S> {
    source: &'w mut S,
    frames: &'w mut Frames,
}

impl<S: Source> Source for Watched<'_, S> {
    fn front(&mut self) -> Result<Front, Fault> {
        self.source.front()
    }

    fn data(&self) -> &[u8] {
        self.source.data()
    }

    fn take(&mut self, bytes: usize) {
        self.frames.pass(self.source.data().get(..bytes).unwrap_or_default());
        self.source.take(bytes);
    }

    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.source.poll_more(cx)
    }
}
