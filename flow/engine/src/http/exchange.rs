//! One request over one connection.

use std::pin::pin;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::http::uri::Authority;
use hyper_util::rt::TokioIo;

use super::redirect::join;
use super::{Failure, HeaderValue, Method, Phases, Request, Response, USER_AGENT, Uri, header};
use crate::net::{Deadline, Net, Phase, Stopwatch, Target};

/// Longest head of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Fields that say what is understood, and so may go to any server. Every other one was meant for the origin that the request
/// names: nobody can tell by its name which is a token.
const FOR_ANYBODY: [header::HeaderName; 5] =
    [header::ACCEPT, header::ACCEPT_LANGUAGE, header::ACCEPT_ENCODING, header::ACCEPT_CHARSET, header::USER_AGENT];

/// A request to one address, and how many redirects led to it.
pub(super) struct Hop {
    request: Request,
    pub(super) url: Uri,
    authority: Authority,
    secure: bool,
    followed: u8,
}

impl Hop {
    pub(super) fn first(request: Request) -> Result<Self, (String, Failure)> {
        if let Some(name) = request.extra.as_ref().and_then(|extra| extra.bad_header.as_ref()) {
            let reason = format!("the header field `{name}` has a name or a value that HTTP does not allow");
            return Err((request.url.to_string(), Failure::Request(reason)));
        }
        match request.url.parse::<Uri>() {
            Ok(url) => Self::to(request, url),
            Err(error) => {
                Err((request.url.to_string(), Failure::Request(format!("its address is not a URL: {error}"))))
            }
        }
    }

    fn to(request: Request, url: Uri) -> Result<Self, (String, Failure)> {
        let failed = |reason: &str| Err((url.to_string(), Failure::Request(reason.to_owned())));
        let secure = match url.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return failed("its address must start with http:// or https://"),
        };
        match url.authority().cloned() {
            Some(authority) if authority.as_str().contains('@') => {
                // Shown without name and password: this text ends up in logs.
                let reason = "its address must not hold a name and password: use an `Authorization` header";
                Err((format!("//{}{}", authority.host(), url.path()), Failure::Request(reason.to_owned())))
            }
            Some(authority) => Ok(Self { request, url, authority, secure, followed: 0 }),
            None => failed("its address has no host"),
        }
    }

    fn target(&self) -> Target {
        let host = self.authority.host();
        let target = if self.secure {
            Target::tls(host, self.authority.port_u16().unwrap_or(443), self.request.verify)
        } else {
            Target::tcp(host, self.authority.port_u16().unwrap_or(80))
        };
        let addresses = self.request.extra.as_ref().map(|extra| extra.addresses.clone()).unwrap_or_default();
        Target { addresses, ..target }
    }

    /// Scheme, host and port (RFC 6454).
    fn origin(&self) -> (bool, String, u16) {
        let port = self.authority.port_u16().unwrap_or(if self.secure { 443 } else { 80 });
        (self.secure, self.authority.host().to_ascii_lowercase(), port)
    }

    /// The head and body to send.
    fn message(&self) -> Result<hyper::Request<Full<Bytes>>, Failure> {
        let request = &self.request;
        let path = self.url.path_and_query().map_or("/", |path| path.as_str());
        let body = request.extra.as_ref().map(|extra| extra.body.clone()).unwrap_or_default();
        let mut message = hyper::Request::new(Full::new(body));
        *message.method_mut() = request.method.clone();
        *message.uri_mut() = path.parse().map_err(|error| Failure::Request(format!("its path is no path: {error}")))?;
        let headers = message.headers_mut();
        let host = HeaderValue::from_str(self.authority.as_str());
        headers.insert(header::HOST, host.map_err(|error| Failure::Request(error.to_string()))?);
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        headers.extend(request.extra.as_ref().map(|extra| extra.headers.clone()).unwrap_or_default());
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        Ok(message)
    }

    /// Connects, sends the request, reads the answer. Adds each phase that was reached to `phases`.
    pub(super) async fn send(&self, net: &Net, deadline: Deadline, phases: &mut Phases) -> Result<Response, Failure> {
        let message = self.message()?;
        let mut watch = Stopwatch::start();
        let dialed = match net.dial(&self.target(), deadline).await {
            Ok(dialed) => dialed,
            Err(error) => {
                let spent = watch.read();
                match error.phase() {
                    Phase::Dns => phases.dns = phases.dns + spent,
                    Phase::Tls => phases.tls = phases.tls + spent,
                    _ => phases.connect = phases.connect + spent,
                }
                return Err(Failure::Dial(error));
            }
        };
        phases.dns = phases.dns + dialed.phases.dns;
        phases.connect = phases.connect + dialed.phases.connect;
        phases.tls = phases.tls + dialed.phases.tls;

        let (remote, peer) = (dialed.remote, dialed.peer);
        let mut phase = Phase::FirstByte;
        let exchange = async {
            let io = TokioIo::new(dialed.stream);
            let (mut sender, connection) =
                http1::Builder::new().max_buf_size(HEAD_BYTES_MAX).handshake(io).await.map_err(broken(phase))?;
            watch.lap();
            let work = async {
                let answer = sender.send_request(message).await.map_err(broken(phase))?;
                phases.first_byte = phases.first_byte + watch.lap();
                phase = Phase::Body;
                let (head, body) = answer.into_parts();
                Ok((head, read(body, self.request.body_bytes_max).await?))
            };
            driven(connection, work).await
        };
        let exchanged: Option<Result<_, Failure>> = deadline.run(exchange).await;
        let (head, body) = exchanged.ok_or(Failure::Timeout { phase, within: deadline.span() })??;
        Ok(Response {
            status: head.status.as_u16(),
            headers: head.headers,
            body,
            phases: *phases,
            peer,
            remote,
            url: self.url.clone(),
        })
    }

    /// The next hop, if the response asks for one and the request allows it.
    pub(super) fn follow(&self, response: &Response) -> Result<Option<Self>, Failure> {
        let asks = matches!(response.status, 301 | 302 | 303 | 307 | 308);
        let location = response.headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
        let Some(location) = location.filter(|_| asks && self.request.redirects_max > 0) else {
            return Ok(None);
        };
        if self.followed == self.request.redirects_max {
            return Err(Failure::Redirect(format!("it redirects more than {} times", self.followed)));
        }
        let Some(url) = join(&self.url, location) else {
            return Err(Failure::Redirect(format!("it redirects to `{location}`, which is not a URL")));
        };
        let mut request = self.request.clone();
        if response.status == 303 || (matches!(response.status, 301 | 302) && request.method == Method::POST) {
            // RFC 9110, sections 15.4.2 to 15.4.4: the answer is fetched with a GET.
            request.method = Method::GET;
            let extra = request.extra_mut();
            extra.body = Bytes::new();
            extra.headers.remove(header::CONTENT_TYPE);
        }
        let mut next =
            Self::to(request, url).map_err(|(url, _)| Failure::Redirect(format!("it redirects to {url}")))?;
        if next.origin() != self.origin() {
            let extra = next.request.extra_mut();
            extra.addresses.clear();
            extra.body = Bytes::new();
            let kept = FOR_ANYBODY.into_iter().filter_map(|name| Some((name.clone(), extra.headers.remove(name)?)));
            extra.headers = kept.collect();
        }
        if self.secure && !next.secure {
            return Err(Failure::Redirect(format!("it redirects from https to http ({}): not followed", next.url)));
        }
        next.followed = self.followed + 1;
        Ok(Some(next))
    }
}

/// Runs `work` while driving the connection it needs. A connection that ends first has left its result for `work`.
async fn driven<T>(connection: impl Future<Output = hyper::Result<()>>, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    tokio::select! {
        biased;
        done = &mut work => done,
        ended = connection => {
            if let Err(error) = ended {
                tracing::trace!(%error, "the connection ended early");
            }
            work.await
        }
    }
}

fn broken(phase: Phase) -> impl Fn(hyper::Error) -> Failure {
    move |error| {
        let mut reason = error.to_string();
        if let Some(cause) = std::error::Error::source(&error) {
            reason = format!("{reason}: {cause}");
        }
        Failure::Protocol { phase, reason }
    }
}

/// Reads the body, `max` bytes at most.
async fn read(mut body: Incoming, max: usize) -> Result<Bytes, Failure> {
    let too_large = Failure::BodyTooLarge { limit_bytes: max };
    // A length that is announced is enough to refuse; one that is announced too small is counted below all the same.
    if body.size_hint().lower() > u64::try_from(max).unwrap_or(u64::MAX) {
        return Err(too_large);
    }
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(broken(Phase::Body))?.into_data() else { continue };
        if whole.len() + data.len() > max {
            return Err(too_large);
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}
