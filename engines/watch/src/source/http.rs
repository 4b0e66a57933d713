//! HTTP: the page comes, with the right status, the right words, the right headers, over TLS that will last.
//!
//! One request over one new connection, HTTP/1.1: what a customer's first visit does. Everything that is wrong with an
//! answer is told at once. Its figure is the status.

use std::sync::Arc;

use async_trait::async_trait;
use engine::Secrets;
use engine::http::{
    HeaderMap, HeaderName, HeaderValue, HttpError, HttpFailure, Method, Request, RequestPhases, Response,
};
use engine::net::Family;
use engine::reason::Reason;
use policy::{Address, HostPort, Section, Slot, Table, Url, Value};

use self::body::Watching;
use self::sent::Fields;
use super::tls::{DAYS, Required, Version};
use crate::source::sent::Sent;
use crate::source::{self, Answer, Asking, Common, Probe, Settings, family};

mod body;
mod sent;

/// A note on an answer that has no length of its own.
const ENDED_WITHOUT_CLOSE_NOTIFY: &str = "; the TLS connection ended without close_notify, so it may have been cut off";

/// What a probe without `contains` is told of an answer that never ends.
const NEVER_ENOUGH: &str = "; the answer goes on without an end, so nobody can say that no text of `contains_not` comes: name a text \
    in `contains` up to which it is read";

const BODY_BYTES_MAX: u32 = 1024 * 1024;

/// A status, or a range of them, as `200-299`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Statuses {
    first: u16,
    last: u16,
}

impl std::str::FromStr for Statuses {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let status = |text: &str| text.trim().parse().ok().filter(|status| (100..=599).contains(status)).ok_or(());
        let (first, last) = (status(first)?, status(last)?);
        if first <= last { Ok(Self { first, last }) } else { Err(()) }
    }
}

impl Value for Statuses {
    const SHAPE: &'static str = "a status of HTTP or a range of them";
    const EXAMPLE: &'static str = "\"200-299\"";

    fn read(slot: Slot<'_>) -> Option<Self> {
        slot.parse()
    }
}

/// A header field, as `Name: value`; the value may be missing where only the name matters.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Field {
    name: HeaderName,
    value: Option<String>,
}

impl std::str::FromStr for Field {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (name, value) = text.split_once(':').map_or((text, None), |(name, value)| (name, Some(value.trim())));
        let name = name.trim().parse().map_err(|_| ())?;
        if value.is_some_and(|value| value.is_empty() || HeaderValue::from_str(value).is_err()) {
            return Err(());
        }
        Ok(Self { name, value: value.map(str::to_owned) })
    }
}

impl Value for Field {
    const SHAPE: &'static str = "a header field";
    const EXAMPLE: &'static str = "\"Accept: text/html\"";

    fn read(slot: Slot<'_>) -> Option<Self> {
        slot.parse()
    }
}

/// How it is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Verb(Method);

impl Value for Verb {
    const SHAPE: &'static str = "\"GET\", \"HEAD\", \"POST\", \"PUT\" or \"OPTIONS\"";
    const EXAMPLE: &'static str = "\"HEAD\"";

    fn read(slot: Slot<'_>) -> Option<Self> {
        let methods = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::OPTIONS];
        let words: Vec<_> = methods.iter().map(|method| (method.as_str(), Self(method.clone()))).collect();
        slot.choose(&words)
    }
}

impl std::fmt::Display for Verb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// `[[probe.http]]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Http {
    common: Common,
    url: Url,
    /// Where to connect to instead.
    address: Option<Box<HostPort>>,
    family: Option<Family>,
    method: Verb,
    sent: Fields,
    send: Option<Sent>,
    redirects: u16,
    expected: Expected,
    tls: Required,
}

/// The statuses that are good unless the policy says otherwise.
const GOOD: [Statuses; 1] = [Statuses { first: 200, last: 299 }];

/// What a good answer is like.
#[derive(Clone, PartialEq, Debug)]
struct Expected {
    /// None for [`GOOD`].
    status: Vec<Statuses>,
    contains: Vec<String>,
    contains_not: Vec<String>,
    headers: Vec<Field>,
    /// Longest body, packed or not.
    body_bytes_max: usize,
}

impl Section for Http {
    const ABOUT: &'static str = "A page that is fetched: over a new connection each time, as a customer's first visit is. Down when \
        there is no answer, or any of what is required does not hold.";
    const EXAMPLE: &'static str = "[[probe.http]]\nname = \"shop-front\"\nservice = \"shop\"\n\
        url = \"https://shop.example/health\"\nevery = \"10 s\"\ncontains = \"in stock\"\nslower_than = \"2 s\"\n\
        headers = { Accept = \"text/html\", X-Api-Key = { file = \"/etc/garant/shop-key\" } }\n\
        certificate_days = 14\nrequire_headers = [\"Strict-Transport-Security\", \"X-Frame-Options: DENY\"]\n";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let common = Common::read_asked(table);
        let url: Option<Url> = table.required("url", "What to fetch.");
        let about = "Host and port to connect to instead of those of `url`, such as one server of several behind a name. The \
            `Host` that is sent and the name in the certificate are still those of `url`.";
        let address: Option<HostPort> = table.optional("address", about);
        let host = address.as_ref().map(|address| &address.host).or(url.as_ref().map(Url::host));
        let family = family::read(table, host);
        let method = table.or("method", Verb(Method::GET), "How to ask.");
        let about = "Header fields to send, by name: each a text, or `{ file = … }` or `{ credential = … }`, which is opened at \
            each question. A secret, such as `Authorization` or a cookie, must be kept so. Texts are *never \
            journaled*. A redirect to another origin gets none of them but `Accept` and its like.";
        let sent: Fields = table.optional("headers", about).unwrap_or_default();
        let about = "Text to send as the body, or `{ file = … }` or `{ credential = … }` for one that holds a secret, such as a \
            form with a password. A redirect to another origin does not get it.";
        let send: Option<Sent> = table.optional("send", about);
        let status = table.list("status", "Statuses that are good. By default \"200-299\".");
        let contains = table.list("contains", "Texts that must all be in the body, as a browser shows it: unpacked (gzip, deflate, br) and in its charset. Of an \
            answer that never ends (server-sent events, a camera, a radio) nothing more is waited for than these.");
        let contains_not = table.list("contains_not", "Texts of which none may be in the body; of an answer without an end (server-sent events, say), in what comes up to the texts of `contains`.");
        let about = "Header fields that the answer must have; with a value, one that the field must hold somewhere.";
        let headers = table.list("require_headers", about);
        let redirects = table.or_in("redirects", 0, &(0..=10), "How many redirects to follow.");
        let range = 1..=16 * 1024 * 1024;
        let body_bytes_max = table.or_in(
            "body_bytes_max",
            BODY_BYTES_MAX,
            &range,
            "Longest body, packed or unpacked. A longer one is a failure.",
        );
        let days = table.or_in("certificate_days", 0, &(0..=3650), DAYS);
        let version = table.or("tls_at_least", Version::Tls12, "Oldest version of TLS that may be agreed upon.");
        sent.check(table);
        if let Some(url) = url.as_ref().filter(|url: &&Url| url.scheme() == policy::Scheme::Http && redirects == 0)
            && days > 0
        {
            let reason = format!("nothing that {url} answers with has a certificate");
            table.mistake("certificate_days", reason, "write an https URL, or remove `certificate_days`");
        }
        let body_bytes_max = usize::try_from(body_bytes_max).unwrap_or(usize::MAX);
        let expected = Expected { status, contains, contains_not, headers, body_bytes_max };
        expected.check(&method.0, table);
        let tls = Required { days, version };
        tls.provide(table);
        Some(Self {
            common: common?,
            url: url?,
            address: address.map(Box::new),
            family,
            method,
            sent,
            send,
            redirects,
            expected,
            tls,
        })
    }
}

impl Settings for Http {
    fn common(&self) -> &Common {
        &self.common
    }

    fn into_probe(self: Arc<Self>) -> Arc<dyn Probe> {
        let target = match &self.address {
            Some(address) => address.to_string().into(),
            None => format!("{}:{}", self.url.host(), self.url.port()).into(),
        };
        Arc::new(Fetch { target, settings: self })
    }
}

impl Http {
    /// The request, without the header fields and the body to send. It is made for each question: kept, it would cost each of ten thousand
    /// probes some hundred bytes.
    fn request(&self) -> Request {
        let request = Request::new(self.method.0.clone(), self.url.to_string())
            .body_bytes_max(self.expected.body_bytes_max)
            .redirects_max(u8::try_from(self.redirects).unwrap_or(u8::MAX));
        let request = match &self.address {
            Some(address) => request.at(address.host.to_string(), address.port),
            None => request,
        };
        match self.family {
            Some(family) => request.family(family),
            None => request,
        }
    }
}

/// A page to fetch.
struct Fetch {
    target: Box<str>,
    settings: Arc<Http>,
}

impl Fetch {
    /// Over which family of addresses an answer came, where there was a choice.
    fn over(&self, response: &Response) -> String {
        let Http { url, address, .. } = &*self.settings;
        match address.as_ref().map_or(url.host(), |address| &address.host) {
            Address::Ip(_) => String::new(),
            Address::Name(_) => format!("over {}, ", Family::of(response.remote.ip())),
        }
    }
}

impl Expected {
    fn statuses(&self) -> &[Statuses] {
        if self.status.is_empty() { &GOOD } else { &self.status }
    }

    /// Reports what no answer can fulfil.
    fn check(&self, method: &Method, table: &mut Table<'_>) {
        let bodiless =
            |range: &Statuses| range.last < 200 || (range.first == range.last && matches!(range.first, 204 | 304));
        let no_body = match method {
            &Method::HEAD => Some("an answer to HEAD has no body"),
            _ if self.statuses().iter().all(bodiless) => Some("an answer of this `status` has no body"),
            _ => None,
        };
        for (key, texts) in [("contains", &self.contains), ("contains_not", &self.contains_not)] {
            if let Some(reason) = no_body.filter(|_| !texts.is_empty()) {
                let remedy =
                    format!("ask with GET for another `status`, or remove `{key}`: nothing could ever be in it");
                table.mistake(key, reason, remedy);
            }
        }
        if let Some(text) = self.contains.iter().find(|text| text.len() > self.body_bytes_max) {
            let reason = format!("a text of {} bytes, and the body may have {}", text.len(), self.body_bytes_max);
            table.mistake("contains", reason, "no answer could hold it: shorten it, or raise `body_bytes_max`");
        }
        let within = |text: &&String| self.contains.iter().any(|wanted| wanted.contains(text.as_str()));
        if let Some(text) = self.contains_not.iter().find(within) {
            let reason = format!("\"{text}\" must not be in the body, and is in a text of `contains`");
            table.mistake("contains_not", reason, "no answer could fulfil both: remove one of the two");
        }
    }

    /// All that is not as expected.
    fn faults(&self, response: &Response) -> Vec<(String, Reason)> {
        let mut faults = Vec::new();
        if !self.statuses().iter().any(|range| (range.first..=range.last).contains(&response.status)) {
            let leads_nowhere =
                if response.leads_nowhere() { ", which redirects to no address that can be read" } else { "" };
            let text = format!("status {}{leads_nowhere}", response.status);
            faults.push((text, Reason::Status { status: response.status }));
        }
        faults.extend(self.faults_of_body(response));
        for Field { name, value } in &self.headers {
            let mut values =
                response.headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
            match value {
                None if values.next().is_none() => {
                    faults.push((format!("no header `{name}`"), Reason::header_lacks(name, None)));
                }
                Some(wanted) if !values.any(|value| holds_ignoring_case(&value, wanted)) => {
                    let text = format!("no header `{name}` that holds \"{wanted}\"");
                    faults.push((text, Reason::header_lacks(name, Some(wanted))));
                }
                _ => {}
            }
        }
        faults
    }
}

impl Expected {
    /// The texts that the body lacks or must not hold; the body is unpacked and decoded for them only.
    fn faults_of_body(&self, response: &Response) -> Vec<(String, Reason)> {
        if self.contains.is_empty() && self.contains_not.is_empty() {
            return Vec::new();
        }
        let read = match body::readable(&response.headers, &response.body, self.body_bytes_max) {
            Ok(read) => read,
            Err(fault) => return vec![(fault.clone(), Reason::said(&fault))],
        };
        let holds = |text: &&String| body::holds(&read, text);
        let lacking = self.contains.iter().filter(|text| !holds(text));
        let held = self.contains_not.iter().filter(holds);
        let lacking = lacking.map(|text| (format!("the body lacks \"{text}\""), Reason::body_lacks(text)));
        lacking.chain(held.map(|text| (format!("the body holds \"{text}\""), Reason::body_holds(text)))).collect()
    }
}

/// Values of header fields that matter here (directives, tokens) are compared without case.
fn holds_ignoring_case(text: &str, wanted: &str) -> bool {
    text.to_ascii_lowercase().contains(&wanted.to_ascii_lowercase())
}

/// Where the time went: the phases that there were, and all of it.
fn phases(phases: &RequestPhases) -> String {
    let RequestPhases { dns, connect, tls, first_byte, total } = phases;
    let reached = [("name", dns), ("connection", connect), ("TLS", tls), ("first byte", first_byte)];
    let reached = reached.into_iter().filter(|(_, span)| span.micros() > 0);
    let told = reached.chain([("all", total)]).map(|(phase, span)| format!("{phase} {} ms", span.micros() / 1000));
    told.collect::<Vec<_>>().join(", ")
}

fn failed(error: &HttpError, tls: Required, now: event::Time) -> Answer {
    let phases_so_far = source::CompactPhases::of_request(&error.phases, false);
    let answer = match &error.failure {
        HttpFailure::Dial(dial) => return tls.refused(dial, phases_so_far, now),
        HttpFailure::Request(reason) => Answer::unknown(format!("the request can't be sent: {reason}")),
        HttpFailure::Redirect(fault) => Answer::down(fault.to_string()).because(Reason::of_request(&error.failure)),
        _ => {
            let text = error.to_string();
            let without_url = text.strip_prefix(&error.url).and_then(|text| text.strip_prefix(": "));
            Answer::down(format!("{} ({})", without_url.unwrap_or(&text), phases(&error.phases)))
                .because(Reason::of_request(&error.failure))
        }
    };
    let shown = error.shown.as_deref();
    let answer = answer.with_connection(phases_so_far, shown);
    match shown {
        Some(shown) => tls.with_expiry(answer, shown, now),
        None => answer,
    }
}

#[async_trait]
impl Probe for Fetch {
    async fn ask(&self, asking: &Asking<'_>) -> Answer {
        let Http { sent, send, expected, tls, .. } = &*self.settings;
        let request = self.settings.request().within(asking.timeout);
        let request = match sent.added_to(request, asking.secrets).await {
            Ok(request) => request,
            Err(error) => return Answer::unknown(error.to_string()),
        };
        let request = match send {
            None => request,
            Some(send) => match send.open(asking.secrets).await {
                Ok(body) => request.body(body.to_vec()),
                Err(error) => return Answer::unknown(error.to_string()),
            },
        };
        let mut watching = Watching::new(&expected.contains, &expected.contains_not);
        let mut enough = |_, headers: &HeaderMap, body: &[u8]| watching.enough(headers, body);
        let response = match request.send_until(asking.net, &mut enough).await {
            Ok(response) => response,
            Err(error) => {
                let mut answer = failed(&error, *tls, asking.clock.now());
                if watching.never_enough() && error.timed_out() {
                    answer.text.push_str(NEVER_ENOUGH);
                }
                return answer;
            }
        };
        let mut faults = expected.faults(&response);
        if let Some(peer) = &response.peer {
            faults.extend(tls.faults(&peer.shown, peer.version));
        }
        let over = self.over(&response);
        let answer = if faults.is_empty() {
            let note = if response.close_notify_missing { ENDED_WITHOUT_CLOSE_NOTIFY } else { "" };
            Answer::up(format!("status {}{note} ({over}{})", response.status, phases(&response.phases)))
        } else {
            let (told, reasons): (Vec<String>, Vec<Reason>) = faults.into_iter().unzip();
            Answer::down(format!("{} ({over}{})", told.join("; "), phases(&response.phases))).because(reasons)
        };
        let answer = answer.with_value(i64::from(response.status)).with_connection(
            source::CompactPhases::of_request(&response.phases, true),
            response.peer.as_ref().map(|p| &p.shown),
        );
        match &response.peer {
            Some(peer) => tls.with_expiry(answer, &peer.shown, asking.clock.now()),
            None => answer,
        }
    }

    fn target(&self) -> Option<&str> {
        Some(&self.target)
    }

    fn findings(&self) -> Vec<source::Finding> {
        self.settings.tls.finding().into_iter().collect()
    }

    fn warnings(&self) -> Vec<String> {
        let secrets = Secrets::of_system();
        let mut warnings = self.settings.sent.warnings(&secrets);
        warnings.extend(self.settings.send.as_ref().and_then(|send| send.warning(&secrets)));
        warnings
    }
}

#[cfg(test)]
mod tests;
