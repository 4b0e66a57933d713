//! The HTTP/1.1 codec: bytes of a peer become a [`Request`](crate::message::Request) or a [`Reply`](crate::message::Reply), or
//! are refused with the class of what is wrong.
//!
//! **Problem.** Two programs that read one stream of bytes as different requests let a stranger send a request that nobody checked
//! (RFC 9112, section 11.2). Every laxness helps: a bare line feed, a second length, a space before a colon. **Principle.** What has
//! two readings is refused and the connection closed, from clients and from upstreams alike; what is sent on is written anew from
//! what was understood, never copied. So no byte of framing of one side reaches the other.
//!
//! [`head`] splits heads, [`framing`] decides where a body ends, [`chunked`] takes chunks apart, [`target`] makes one canonical path of
//! a target. None of them does I/O.

pub(crate) mod cases;
pub(crate) mod chunked;
pub(crate) mod framing;
pub(crate) mod head;
pub(crate) mod refusal;
pub(crate) mod target;
#[cfg(test)]
mod tests;
