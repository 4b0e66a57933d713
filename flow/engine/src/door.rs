//! The door of an engine: how somebody outside asks an engine something, or has it do something.
//!
//! **Problem.** An engine that people act on (who acknowledges, who is on call) must be reached from outside: from the command
//! line, by a link in a message, by another program that reports something. It must not serve HTTP for that, nor may the
//! crate that does know any engine. **Principle.** An engine has at most one [`Door`]. It declares its [`Mount`]s, and gets a
//! [`Call`] for each request below one of them: parsed, bounded, and with the team token already judged where the mount asks
//! for it. Its [`Reply`] is data, or a [`DoorPage`] that is rendered in the style of all pages. So a test of an engine
//! calls its door without a socket.
//!
//! What the caller of a door guarantees, in this order:
//!
//! 1. the host is one of the team's, on the team's listener;
//! 2. the method is one that the mount takes (405), and the path is decoded: UTF-8, no control character, no `.` or `..`
//!    ([`PATH_SEGMENTS_MAX`]; 404);
//! 3. no page of another site has sent a call that changes something (403, by `Sec-Fetch-Site`);
//! 4. the team token is right, where the mount wants it (401); else [`Door::admit`] did not refuse the caller;
//! 5. the body is JSON or a form (415), has at most [`Mount::body_bytes_max`] bytes (413), and was there within
//!    [`CALL_TIME_MAX`] (408); at most [`CALLS_MAX`] calls of a mount are under way at once (503). A body is read only for a
//!    caller who was let in.

mod orders;

use std::fmt;

use bytes::Bytes;
use event::policy::Text;
use event::{Span, Time};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::form_urlencoded;
use zeroize::Zeroizing;

use crate::BoxFuture;
use crate::command::Question;

pub use orders::{Order, OrderDoor, Orders};

/// Longest time of a call, from its head to its reply. At the bound the future of the call is dropped, and the answer is 503.
pub const CALL_TIME_MAX: Span = Span::from_secs(10);
/// Calls of one mount that are under way at a time. At the bound a further one is answered 503.
pub const CALLS_MAX: usize = 16;
/// Segments of a path after the prefix of its mount. A longer one is answered 404.
pub const PATH_SEGMENTS_MAX: usize = 8;
/// Parameters of a query that are read; the others are dropped.
pub const QUERY_MAX: usize = 64;

/// The door of an engine.
///
/// # Contract
///
/// * A [`Method::Get`] never changes anything: whoever previews a link in a message gets it, and `HEAD` arrives as one. But for an
///   address that a program alone is given, which knows no other method, and where a second call changes nothing.
/// * [`call`](Self::call) may be dropped at any `await`: what must not be half done is one transaction of a store.
/// * On a mount of [`Access::OfTheEngine`] the engine checks a secret of its own: a token in the [`Call::credential`], or one
///   in the path. Secrets are compared in constant time, or by their hashes.
pub trait Door: Send + Sync {
    /// The addresses below which the door is called. The same ones at each call.
    fn mounts(&self) -> &'static [Mount];

    /// Judges a caller of a mount of [`Access::OfTheEngine`] before the body is read: the call has everything but its body.
    /// Without waiting for anything. A caller that is refused here costs neither memory nor one of the [`CALLS_MAX`].
    ///
    /// # Errors
    /// The reply to a caller who is not let in.
    fn admit(&self, _call: &Call) -> Result<(), Reply> {
        Ok(())
    }

    /// Answers the call.
    fn call(&self, call: Call) -> BoxFuture<'_, Reply>;
}

/// An address below which a door is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mount {
    /// The path, `/api/v1/alerts`: it begins with `/` and does not end with one.
    pub prefix: &'static str,
    /// Where it is served.
    pub listeners: Listeners,
    /// Who judges the caller.
    pub access: Access,
    /// The methods that it takes; the others are answered 405. `HEAD` comes with [`Method::Get`].
    pub methods: &'static [Method],
    /// Longest body, in bytes; 413 beyond. 0 for a mount that takes none.
    pub body_bytes_max: usize,
}

/// The listeners that serve a mount.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Listeners {
    /// The team's listener alone.
    Team,
    /// The team's listener and the public one, also when the policy publishes nothing.
    Everybody,
}

/// Who judges the caller of a mount.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// The caller has the team token, as whoever may read the data directory. On the team's listener only.
    TeamToken,
    /// The engine judges the caller itself.
    OfTheEngine,
}

/// The method of a call.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Method {
    /// Reads, and changes nothing.
    Get,
    /// Changes something.
    Post,
    /// Takes something away.
    Delete,
}

impl Method {
    /// The word of HTTP for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Delete => "DELETE",
        }
    }
}

/// A request of somebody outside to an engine.
#[derive(Clone, Debug)]
pub struct Call {
    /// The prefix of the mount that was called.
    pub mount: &'static str,
    /// The method.
    pub method: Method,
    /// The path after the prefix, segment by segment, each percent-decoded: a `/` in one is part of it. A final `/` adds none.
    pub path: Vec<String>,
    /// The parameters of the query, decoded, in their order. At most [`QUERY_MAX`].
    pub query: Vec<(String, String)>,
    /// What the field `Authorization` holds; `None` for one that is missing, of another scheme, or not readable. Checked
    /// already on a mount of [`Access::TeamToken`].
    pub credential: Option<Credential>,
    /// The body.
    pub body: CallBody,
    /// When it came.
    pub at: Time,
}

/// The body of a call.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub enum CallBody {
    /// There is none.
    #[default]
    Empty,
    /// Bytes that are said to be JSON (`application/json`, `application/…+json`).
    Json(Bytes),
    /// Bytes that are said to be a form (`application/x-www-form-urlencoded`).
    Form(Bytes),
}

/// What a caller shows to be let in. Wiped when it is dropped, and shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A token (RFC 6750).
    Bearer(Zeroizing<Vec<u8>>),
    /// A name and a password (RFC 7617), for clients that know nothing else.
    Basic {
        /// The name.
        user: String,
        /// The password.
        password: Zeroizing<Vec<u8>>,
    },
}

impl Credential {
    /// The token, or the password.
    pub fn secret(&self) -> &[u8] {
        match self {
            Self::Bearer(secret) | Self::Basic { password: secret, .. } => secret,
        }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl Call {
    /// A call without parameters, credential and body.
    pub fn new(method: Method, mount: &'static str, path: &[&str], at: Time) -> Self {
        let path = path.iter().map(ToString::to_string).collect();
        Self { mount, method, path, query: Vec::new(), credential: None, body: CallBody::Empty, at }
    }

    /// The path after the prefix, to be matched.
    pub fn segments(&self) -> Vec<&str> {
        self.path.iter().map(String::as_str).collect()
    }

    /// The parameter of this name; the first one if there are several.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The JSON of the body.
    ///
    /// # Errors
    /// The reply 415 to a body that is not said to be JSON, 400 to one that is no such value.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Reply> {
        let CallBody::Json(bytes) = &self.body else { return Err(Reply::error(415, "the body must be JSON")) };
        serde_json::from_slice(bytes).map_err(|error| Reply::error(400, &format!("the body can't be read: {error}")))
    }

    /// The fields of the form in the body, decoded, in their order; none when it is no form.
    pub fn form(&self) -> Vec<(String, String)> {
        let CallBody::Form(bytes) = &self.body else { return Vec::new() };
        form_urlencoded::parse(bytes).into_owned().collect()
    }

    /// The field of this name in the form of the body; the first one if there are several.
    pub fn field(&self, name: &str) -> Option<String> {
        self.form().into_iter().find(|(found, _)| found == name).map(|(_, value)| value)
    }
}

/// The answer of an engine to a [`Call`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// JSON with this status.
    Json(u16, Vec<u8>),
    /// Text with this status.
    Text(u16, String),
    /// A calendar (RFC 5545).
    Calendar(String),
    /// A page for people, with this status.
    DoorPage(u16, Box<DoorPage>),
    /// The page of all refusals with this status, which says nothing of what there is: 404 for a link that is none.
    Refused(u16),
}

impl Reply {
    /// The value as JSON, with status 200.
    pub fn json(value: &impl Serialize) -> Self {
        Self::json_with(200, value)
    }

    /// The value as JSON, with this status.
    pub fn json_with(status: u16, value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(bytes) => Self::Json(status, bytes),
            Err(error) => Self::error(500, &format!("the answer can't be written: {error}")),
        }
    }

    /// An error for programs, `{"error": "…"}`; a command shows the text to its user.
    pub fn error(status: u16, why: &str) -> Self {
        Self::Json(status, serde_json::json!({ "error": why }).to_string().into_bytes())
    }

    /// Its status.
    pub const fn status(&self) -> u16 {
        match self {
            Self::Json(status, _) | Self::Text(status, _) | Self::DoorPage(status, _) | Self::Refused(status) => {
                *status
            }
            Self::Calendar(_) => 200,
        }
    }
}

/// A page for people, in both languages: the reader's is shown. It holds text, rows, and at most a few buttons; each sends a
/// form with one field to the address of the page itself, by [`Method::Post`].
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct DoorPage {
    /// The heading, and the title of the window.
    pub title: Text,
    /// Paragraphs below it.
    pub paragraphs: Vec<Text>,
    /// Terms with their values.
    pub rows: Vec<(Text, Text)>,
    /// What the reader may do.
    pub buttons: Vec<Button>,
}

/// A button of a [`DoorPage`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Button {
    /// What it says.
    pub label: Text,
    /// Name of the field that it sends.
    pub name: &'static str,
    /// Value of the field.
    pub value: String,
}

impl DoorPage {
    /// A page with a heading alone.
    pub fn titled(fr: impl Into<String>, en: impl Into<String>) -> Self {
        Self { title: both(fr, en), ..Self::default() }
    }

    /// Adds a paragraph.
    #[must_use]
    pub fn paragraph(mut self, fr: impl Into<String>, en: impl Into<String>) -> Self {
        self.paragraphs.push(both(fr, en));
        self
    }

    /// Adds a term with its value.
    #[must_use]
    pub fn row(mut self, term: Text, value: Text) -> Self {
        self.rows.push((term, value));
        self
    }

    /// Adds a button that sends the field `name` with this value.
    #[must_use]
    pub fn button(mut self, label: Text, name: &'static str, value: impl Into<String>) -> Self {
        self.buttons.push(Button { label, name, value: value.into() });
        self
    }

    /// The page as a reply.
    pub fn reply(self, status: u16) -> Reply {
        Reply::DoorPage(status, Box::new(self))
    }
}

/// A text in both languages.
pub fn both(fr: impl Into<String>, en: impl Into<String>) -> Text {
    Text { fr: fr.into(), en: en.into() }
}

/// A text that is the same in both languages: a name, a time.
pub fn alike(text: impl Into<String>) -> Text {
    let text = text.into();
    Text { fr: text.clone(), en: text }
}

/// The call that the question becomes at a mount of the team; `None` when it is below none, or is not taken there.
pub fn call_of(door: &dyn Door, question: &Question, at: Time) -> Option<Call> {
    let (path, query) = question.target.split_once('?').unwrap_or((&question.target, ""));
    let below = door.mounts().iter().filter_map(|mount| {
        let rest = path.strip_prefix(mount.prefix)?;
        (rest.is_empty() || rest.starts_with('/')).then_some((mount, rest))
    });
    let (mount, rest) = below.max_by_key(|(mount, _)| mount.prefix.len())?;
    let taken = mount.access == Access::TeamToken
        && mount.methods.contains(&question.method)
        && question.body.len() <= mount.body_bytes_max;
    let sent = question.body.clone();
    let body = if sent.is_empty() { CallBody::Empty } else { CallBody::Json(sent.into()) };
    let query = form_urlencoded::parse(query.as_bytes()).into_owned().take(QUERY_MAX).collect();
    let path = segments(rest)?;
    taken.then_some(Call { mount: mount.prefix, method: question.method, path, query, credential: None, body, at })
}

/// The segments of a path after the prefix of its mount, decoded; `None` for a path that means nothing or may mean two things.
pub fn segments(rest: &str) -> Option<Vec<String>> {
    let Some(rest) = rest.strip_prefix('/').filter(|rest| !rest.is_empty()) else { return Some(Vec::new()) };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let segments: Vec<String> =
        rest.split('/').take(PATH_SEGMENTS_MAX + 1).map(percent_decoded).collect::<Option<_>>()?;
    let plain =
        |segment: &String| !matches!(segment.as_str(), "" | "." | "..") && !segment.chars().any(char::is_control);
    (segments.len() <= PATH_SEGMENTS_MAX && segments.iter().all(plain)).then_some(segments)
}

/// The text that percent-encoding stands for (RFC 3986, section 2.1); `None` when it is broken or no UTF-8.
fn percent_decoded(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        decoded.push(if byte == b'%' { u8::try_from(digit()? * 16 + digit()?).ok()? } else { byte });
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests;
