//! The connection of a client: in clear, or over TLS.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use rustls::ProtocolVersion;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// A version of TLS.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum TlsVersion {
    /// Below 1.2.
    Old,
    V1_2,
    V1_3,
}

impl TlsVersion {
    /// What rustls calls so.
    pub(crate) const fn of(version: ProtocolVersion) -> Self {
        match version {
            ProtocolVersion::TLSv1_3 => Self::V1_3,
            ProtocolVersion::TLSv1_2 => Self::V1_2,
            _ => Self::Old,
        }
    }

    /// As people write it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Old => "below 1.2",
            Self::V1_2 => "1.2",
            Self::V1_3 => "1.3",
        }
    }
}

/// A connection of a client.
pub(crate) enum ClientStream {
    Clear(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl ClientStream {
    pub(crate) const fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// The version of TLS that the client speaks; `None` in clear.
    pub(crate) fn tls_version(&self) -> Option<TlsVersion> {
        let Self::Tls(stream) = self else { return None };
        Some(stream.get_ref().1.protocol_version().map_or(TlsVersion::Old, TlsVersion::of))
    }

    /// Whether the client and the gate have agreed on HTTP/2 (ALPN, RFC 7301).
    pub(crate) fn speaks_http2(&self) -> bool {
        match self {
            Self::Clear(_) => false,
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }

    /// The name that the client has asked for in its handshake.
    pub(crate) fn server_name(&self) -> Option<&str> {
        match self {
            Self::Clear(_) => None,
            Self::Tls(stream) => stream.get_ref().1.server_name(),
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        !self.is_tls()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
