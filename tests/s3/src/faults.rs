//! Faults on demand: what goes wrong between a client and a server that works.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Request, Response};
use s3s::service::S3Service;

use crate::lock;

type AnyError = Box<dyn std::error::Error + Send + Sync>;
type Answer = Response<UnsyncBoxBody<Bytes, AnyError>>;

/// What goes wrong with a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Nothing is done: an answer with this status and this code.
    Refused(u16, &'static str),
    /// Nothing is done: the connection breaks before an answer.
    Dropped,
    /// All is done: the connection breaks before an answer.
    AnswerLost,
    /// All is done: the connection breaks after half of the body of the answer.
    AnswerCut,
    /// All is done: a byte of the body of the answer is another one.
    AnswerAltered,
    /// All is done, after so long.
    Slow(Duration),
}

/// The faults that were asked for, and the requests that came.
#[derive(Clone, Default, Debug)]
pub(crate) struct Faults {
    planned: Arc<Mutex<Vec<Planned>>>,
    requests: Arc<Mutex<Vec<String>>>,
}

#[derive(Debug)]
struct Planned {
    method: &'static str,
    part: &'static str,
    left: usize,
    fault: Fault,
}

impl Faults {
    pub(crate) fn plan(&self, method: &'static str, part: &'static str, left: usize, fault: Fault) {
        lock(&self.planned).push(Planned { method, part, left, fault });
    }

    pub(crate) fn left(&self) -> usize {
        lock(&self.planned).iter().map(|planned| planned.left).sum()
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        lock(&self.requests).clone()
    }

    /// Notes a request, and says what is to go wrong with it.
    fn meet(&self, request: &Request<Incoming>) -> Option<Fault> {
        let query = request.uri().query().unwrap_or_default();
        let query: Vec<&str> = query.split('&').filter(|pair| !pair.starts_with("X-Amz-")).collect();
        let uri = format!("{}?{}", request.uri().path(), query.join("&"));
        lock(&self.requests).push(format!("{} {uri}", request.method()));
        let mut planned = lock(&self.planned);
        let fits = |planned: &&mut Planned| {
            planned.left > 0 && request.method() == planned.method && uri.contains(planned.part)
        };
        let found = planned.iter_mut().find(fits)?;
        found.left -= 1;
        Some(found.fault)
    }
}

/// Answers a request, with the fault that is due.
pub(crate) async fn answer(
    service: &S3Service,
    faults: &Faults,
    request: Request<Incoming>,
) -> Result<Answer, AnyError> {
    let fault = faults.meet(&request);
    match fault {
        Some(Fault::Dropped) => return Err("dropped, as asked for".into()),
        Some(Fault::Refused(status, code)) => return refused(status, code),
        Some(Fault::Slow(time)) => tokio::time::sleep(time).await,
        _ => {}
    }
    let answer = service.call(request.map(s3s::Body::from)).await.map_err(|error| format!("{error:?}"))?;
    match fault {
        Some(Fault::AnswerLost) => Err("done and not told, as asked for".into()),
        Some(Fault::AnswerCut) => cut(answer).await,
        Some(Fault::AnswerAltered) => altered(answer).await,
        _ => Ok(answer.map(|body| body.map_err(Into::into).boxed_unsync())),
    }
}

fn full(body: impl Into<Bytes>) -> UnsyncBoxBody<Bytes, AnyError> {
    Full::new(body.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

fn refused(status: u16, code: &str) -> Result<Answer, AnyError> {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>as asked for</Message></Error>");
    Ok(Response::builder().status(status).body(full(body))?)
}

async fn cut(answer: Response<s3s::Body>) -> Result<Answer, AnyError> {
    let (head, body) = answer.into_parts();
    let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
    let half = Frame::data(body.slice(..body.len() / 2));
    let frames = futures_util::stream::iter([Ok(half), Err(AnyError::from("cut off, as asked for"))]);
    Ok(Response::from_parts(head, StreamBody::new(frames).boxed_unsync()))
}

async fn altered(answer: Response<s3s::Body>) -> Result<Answer, AnyError> {
    let (head, body) = answer.into_parts();
    let mut body = body.collect().await.map_err(|error| error.to_string())?.to_bytes().to_vec();
    let middle = body.len() / 2;
    if let Some(byte) = body.get_mut(middle) {
        *byte ^= 1;
    }
    Ok(Response::from_parts(head, full(body)))
}
