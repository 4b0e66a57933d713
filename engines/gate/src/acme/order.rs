//! One order of a certificate: names are proved, a key is made, a certificate is fetched.

use std::pin::Pin;
use std::sync::Arc;

use engine::net::{Net, NetOptions};
use engine::{Context, http};
use event::Span;
use http_body_util::{BodyExt as _, Full};
use instant_acme::{
    Account as Client, AuthorizationStatus, BodyWrapper, BytesResponse, ChallengeType, Error, HttpClient, Identifier,
    NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::CertifiedKey;

use super::account::Account;
use super::challenges::Challenges;
use crate::settings::{Acme, Challenge};

/// Longest time of one question to the authority.
const ASKED_WITHIN: Span = Span::from_secs(20);
/// Longest answer of an authority: a chain has some kilobytes.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// Orders that are begun anew at once, where the authority refuses one nonce after the other.
const NONCES_MAX: usize = 5;
const BAD_NONCE: &str = "urn:ietf:params:acme:error:badNonce";

/// Why there is no certificate.
#[derive(Clone, PartialEq, Eq, thiserror::Error, Debug)]
pub(super) enum Fault {
    /// The authority did not answer, or not as one does.
    #[error("{0}")]
    Unreached(String),
    /// It answered, and refused.
    #[error("{0}")]
    Refused(String),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error {
            Error::Api(problem) => {
                Self::Refused(format!("the authority refuses it: {}", engine::net::printable(&problem.to_string())))
            }
            other => Self::Unreached(format!("the authority does not answer as it should: {}", reasons(&other))),
        }
    }
}

/// An error with its causes.
fn reasons(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let said = next.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = next.source();
    }
    engine::printable::text(&text).into_owned()
}

/// Orders a certificate for these names: its chain and its key, in PEM.
pub(super) async fn order(
    context: &Context,
    account: &Account,
    acme: &Acme,
    names: &[String],
    challenges: &Challenges,
) -> Result<zeroize::Zeroizing<String>, Fault> {
    let net = match &acme.authority {
        None => Arc::clone(&context.net),
        Some(path) => {
            let options = NetOptions { extra_roots: Some(path.clone()), ..NetOptions::default() };
            let net = Net::new(&options, Arc::clone(&context.clock));
            Arc::new(net.map_err(|error| Fault::Refused(error.to_string()))?)
        }
    };
    let mut nonces = 0;
    loop {
        match attempt(&net, account, acme, names, challenges).await {
            Err(Attempt::Client(Error::Api(problem)))
                if problem.r#type.as_deref() == Some(BAD_NONCE) && nonces < NONCES_MAX =>
            {
                nonces += 1;
            }
            Err(Attempt::Client(error)) => return Err(error.into()),
            Err(Attempt::Fault(fault)) => return Err(fault),
            Ok(text) => return Ok(text),
        }
    }
}

/// Why an attempt has ended.
enum Attempt {
    Client(Error),
    Fault(Fault),
}

impl From<Error> for Attempt {
    fn from(error: Error) -> Self {
        Self::Client(error)
    }
}

async fn attempt(
    net: &Arc<Net>,
    account: &Account,
    acme: &Acme,
    names: &[String],
    challenges: &Challenges,
) -> Result<zeroize::Zeroizing<String>, Attempt> {
    let builder = Client::builder_with_http(Box::new(Web(Arc::clone(net))));
    let (client, _) = builder.create_from_key(account.key()?, acme.directory.clone()).await?;
    let identifiers: Vec<Identifier> = names.iter().cloned().map(Identifier::Dns).collect();
    let mut order = client.new_order(&NewOrder::new(&identifiers)).await?;
    prove(&mut order, acme.challenge, challenges).await?;
    let ready = order.poll_ready(&RetryPolicy::default()).await;
    if !matches!(ready, Ok(OrderStatus::Ready)) {
        let found = why_not(&mut order).await;
        return Err(match (found, ready) {
            (Some(why), _) => Attempt::Fault(Fault::Refused(why)),
            (None, Err(error)) => error.into(),
            (None, Ok(status)) => Attempt::Fault(Fault::Refused(format!("the order is {status:?}"))),
        });
    }
    let key = zeroize::Zeroizing::new(order.finalize().await?);
    let chain = order.poll_certificate(&RetryPolicy::default()).await?;
    Ok(zeroize::Zeroizing::new(format!("{chain}\n{}", *key)))
}

/// Has the authority look at every name that it wants a proof of.
async fn prove(order: &mut Order, by: Challenge, challenges: &Challenges) -> Result<(), Attempt> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status != AuthorizationStatus::Pending {
            continue;
        }
        let kind = match by {
            Challenge::Http01 => ChallengeType::Http01,
            Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
        };
        let name = authorization.identifier().to_string();
        let refused = || Fault::Refused(format!("the authority does not prove {name} by {}", by.as_str()));
        let mut challenge = authorization.challenge(kind).ok_or_else(|| Attempt::Fault(refused()))?;
        if by == Challenge::TlsAlpn01 {
            let digest = challenge.key_authorization().digest();
            let shown = shown(&name, digest.as_ref());
            challenges.show(&name, Arc::new(shown.map_err(|why| Attempt::Fault(Fault::Refused(why)))?));
        }
        challenge.set_ready().await?;
    }
    Ok(())
}

/// Why an order did not get ready, by the names that were not proved.
async fn why_not(order: &mut Order) -> Option<String> {
    let mut authorizations = order.authorizations();
    let mut said = Vec::new();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        // What is known of it is from before it was looked at.
        authorization.refresh().await.ok()?;
        let problems = authorization.challenges.iter().filter_map(|challenge| challenge.error.as_ref());
        said.extend(problems.map(|problem| engine::net::printable(&problem.to_string())));
    }
    (!said.is_empty()).then(|| {
        format!("the authority could not see that the name is ours ({}): let it reach this gate under every name of the site", said.join("; "))
    })
}

/// The certificate that proves a name in a handshake (RFC 8737, section 3).
fn shown(name: &str, digest: &[u8]) -> Result<CertifiedKey, String> {
    let failed = |error: &dyn std::fmt::Display| format!("no certificate for the challenge can be made: {error}");
    let key = KeyPair::generate().map_err(|error| failed(&error))?;
    let mut parameters = CertificateParams::new(vec![name.to_owned()]).map_err(|error| failed(&error))?;
    parameters.custom_extensions.push(CustomExtension::new_acme_identifier(digest));
    let certificate = parameters.self_signed(&key).map_err(|error| failed(&error))?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| failed(&error))?;
    let key = aws_lc_rs::sign::any_supported_type(&key).map_err(|error| failed(&error))?;
    // Without the look whether the two belong together: it would not understand the extension, which is critical.
    Ok(CertifiedKey::new(vec![certificate.der().clone()], key))
}

/// The client of the web as the client of ACME takes one.
struct Web(Arc<Net>);

impl HttpClient for Web {
    fn request(
        &self,
        request: ::http::Request<BodyWrapper<bytes::Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let net = Arc::clone(&self.0);
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            let mut asked = http::Request::new(head.method, head.uri.to_string())
                .within(ASKED_WITHIN)
                .body_bytes_max(ANSWER_BYTES_MAX);
            if !body.is_empty() {
                asked = asked.body(body);
            }
            for (name, value) in &head.headers {
                asked = asked.header(name.as_str(), value);
            }
            let answer = asked.send(&net).await.map_err(|error| Error::Other(Box::new(error)))?;
            let mut response = ::http::Response::new(Full::new(answer.body));
            *response.status_mut() =
                ::http::StatusCode::from_u16(answer.status).map_err(|error| Error::Other(Box::new(error)))?;
            *response.headers_mut() = answer.headers;
            Ok(BytesResponse::from(response))
        })
    }
}
