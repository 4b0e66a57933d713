//! The body of an answer that reports progress to the slot of its connection.
//!
//! A body is often one piece of megabytes, which the HTTP library takes at once and sends for minutes. [`ProgressBody`]
//! hands it on in small pieces: the library asks for each when the peer has taken the one before, or nearly, and each such
//! request is reported.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use super::slots::Slot;

/// Longest piece.
const PIECE_BYTES: usize = 64 * 1024;

/// A body that is handed on in pieces of at most [`PIECE_BYTES`] and reports each; see the top of this module.
pub(super) struct ProgressBody {
    body: Body,
    /// The part of the last piece that is still to be handed on.
    rest: Bytes,
    slot: Arc<Slot>,
}

impl ProgressBody {
    pub(super) const fn new(body: Body, slot: Arc<Slot>) -> Self {
        Self { body, rest: Bytes::new(), slot }
    }
}

impl HttpBody for ProgressBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        if this.rest.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                ended => return Poll::Ready(ended),
            }
        }
        this.slot.progressed();
        let piece = this.rest.split_to(this.rest.len().min(PIECE_BYTES));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let of_body = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(of_body.lower().saturating_add(rest));
        if let Some(upper) = of_body.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::super::slots::Slots;
    use super::*;

    #[tokio::test]
    async fn it_is_handed_on_whole_in_small_pieces() {
        let slot = Slots::default().take("192.0.2.1".parse().expect("an address"), 1).expect("there is room");
        let content: Vec<u8> = (0..300_000_u32).map(|i| i.to_be_bytes()[3]).collect();
        let mut body = ProgressBody::new(Body::from(content.clone()), Arc::new(slot));
        let mut got = Vec::new();
        while !body.is_end_stream() {
            assert_eq!(body.size_hint().exact(), Some((content.len() - got.len()) as u64));
            let piece = body.frame().await.expect("more").expect("no error").into_data().expect("data");
            assert!(piece.len() <= PIECE_BYTES, "{}", piece.len());
            got.extend_from_slice(&piece);
        }
        assert!(got == content);
    }
}
