//! A command that an engine adds to the command line, and what it is given.
//!
//! A command is a process of its own beside `garant up`. What it wants of the engine it asks at the engine's
//! [door](crate::door), with the team token from the data directory; [`CommandContext`] does so for it, and prints for it. A
//! test gives one that calls a door without a process between.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use event::{Time, Zone};
use ipnet::IpNet;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::form_urlencoded;

use crate::door::Method;
use crate::{BoxFuture, Context, Failure};

/// A command of an engine: `garant <command> …`, in help, completions and manual pages beside garant's own.
pub struct Command {
    /// Name, description, arguments and subcommands. `--data` is added to it, for its subcommands too.
    pub arguments: clap::Command,
    /// Runs the command and returns the exit code.
    pub run: fn(&clap::ArgMatches, &mut dyn CommandContext) -> Result<u8, Failure>,
}

/// The means of a command: the running garant, and the terminal.
pub trait CommandContext {
    /// Asks the garant that runs on the data directory, with the team token.
    ///
    /// # Errors
    /// None runs there, it does not answer, or the token is not what it expects. An answer with a status of failure is no
    /// error: see [`Answer::accepted`].
    fn ask(&self, question: Question) -> Result<Answer, Failure>;

    /// Asks the agent of this host, at this socket; without one, at that of the agent which the garant that runs on the data
    /// directory has started, else at the socket of the unit.
    ///
    /// # Errors
    /// No agent listens there, this user may not open the socket, or no answer comes.
    fn ask_agent(&self, socket: Option<&Path>, question: Question) -> Result<Answer, Failure>;

    /// Asks the gate of this host in the same way.
    ///
    /// # Errors
    /// As those of [`ask_agent`](Self::ask_agent).
    fn ask_gate(&self, socket: Option<&Path>, question: Question) -> Result<Answer, Failure>;

    /// The zone in which the running garant shows times.
    ///
    /// # Errors
    /// No garant runs on the data directory.
    fn zone(&self) -> Result<Zone, Failure>;

    /// The time.
    fn now(&self) -> Time;

    /// `text` in this style, where standard output is coloured.
    fn painted(&self, style: Style, text: &str) -> String;

    /// Prints a line of the result. What a terminal would obey is escaped, but for the colours of [`painted`](Self::painted).
    fn line(&mut self, text: &str);

    /// Prints a result for programs, as JSON on one line.
    fn json(&mut self, value: &serde_json::Value);

    /// Prints a result of another format as it is: a calendar.
    fn raw(&mut self, bytes: &[u8]);

    /// Prints a line on standard error: a warning, what to do next.
    fn note(&self, text: &str);

    /// The means of an engine, for a command that does its work itself, where no garant and no agent may be running. What is recorded
    /// with them goes nowhere.
    ///
    /// # Errors
    /// The certificates that this machine trusts can't be read.
    fn means(&self) -> Result<Context, Failure>;

    /// Does the work to its end, or drops it at SIGTERM and Ctrl-C: programs that it has started are killed then.
    ///
    /// # Errors
    /// It was interrupted.
    fn wait(&self, work: BoxFuture<'_, ()>) -> Result<(), Failure>;

    /// Who shows how far long work is: a bar on a terminal, else nobody.
    fn watcher(&self) -> Arc<dyn Watcher>;

    /// The same for work that is counted in things, not in bytes.
    fn counter(&self) -> Arc<dyn Watcher>;

    /// Whether there is a person to ask: standard input and standard error are a terminal.
    fn prompts(&self) -> bool;

    /// The line that a person types after this question; `None` where standard input or standard error is no terminal, at the end of
    /// what is typed, and at Ctrl-C.
    fn prompt(&self, question: &str) -> Option<String>;

    /// Judges the policy in this file as if it held this text, with what is in `conf.d` beside it. Writes nothing.
    ///
    /// # Errors
    /// The policy has mistakes; all of them are shown.
    fn judge(&self, policy: &Path, text: &str) -> Result<JudgedPolicy, Failure>;

    /// Has the garant that runs on the data directory take its policy again; `false` where none runs there.
    ///
    /// # Errors
    /// It runs by another policy, or does not take it.
    fn reload(&self, policy: &Path) -> Result<bool, Failure>;
}

/// What a command may know of a sound policy beside its own part of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JudgedPolicy {
    /// The user that the agent of this host runs as.
    pub agent: String,
    /// The number and the group of that user: those of root where there is no such user and `garant up` starts the agent.
    pub agent_ids: Option<(u32, u32)>,
    /// Its socket, where it is a unit of its own.
    pub agent_socket: Option<PathBuf>,
}

/// Who is told how far a long piece of work is: a progress bar, a log, nobody.
pub trait Watcher: Send + Sync {
    /// `done` of `of` bytes, or things, of this step are done; `of` is `None` where nobody knows.
    fn doing(&self, step: &str, done: u64, of: Option<u64>);
}

/// Nobody.
impl Watcher for () {
    fn doing(&self, _step: &str, _done: u64, _of: Option<u64>) {}
}

/// Colours and weights of text on a terminal, by meaning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Style {
    /// What is well.
    Good,
    /// What is wrong.
    Bad,
    /// What is not known, or may become wrong.
    Doubtful,
    /// What matters most.
    Strong,
    /// What matters least.
    Faint,
}

/// A question of a command to a door.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    /// The method.
    pub method: Method,
    /// The path, with its segments percent-encoded, and the query: `/api/v1/toy/a%20b?all=true`.
    pub target: String,
    /// JSON to send, or nothing.
    pub body: Vec<u8>,
}

impl Question {
    /// A question below the mount `prefix`.
    pub fn new(method: Method, prefix: &str) -> Self {
        Self { method, target: prefix.to_owned(), body: Vec::new() }
    }

    /// A question that reads.
    pub fn get(prefix: &str) -> Self {
        Self::new(Method::Get, prefix)
    }

    /// A question that changes something.
    pub fn post(prefix: &str) -> Self {
        Self::new(Method::Post, prefix)
    }

    /// Adds a segment to the path, whatever is in it. Comes before [`parameter`](Self::parameter). What no path can hold (`.`,
    /// `..`, nothing) is sent as a segment that no door takes.
    #[must_use]
    pub fn segment(mut self, segment: &str) -> Self {
        self.target.push('/');
        // However they are encoded, clients take them out of a path, and the segment before them too.
        let segment = if matches!(segment, "" | "." | "..") { "\0" } else { segment };
        // The encoding of forms leaves letters, digits and `*-._`, all of which mean themselves in a path.
        for part in form_urlencoded::byte_serialize(segment.as_bytes()) {
            self.target.push_str(if part == "+" { "%20" } else { part });
        }
        self
    }

    /// Adds a parameter to the query.
    #[must_use]
    pub fn parameter(mut self, name: &str, value: &str) -> Self {
        self.target.push(if self.target.contains('?') { '&' } else { '?' });
        let pair = form_urlencoded::Serializer::new(String::new()).append_pair(name, value).finish();
        self.target.push_str(&pair);
        self
    }

    /// Sends this value as JSON.
    ///
    /// # Errors
    /// The value can't be written as JSON.
    pub fn json(mut self, value: &impl Serialize) -> Result<Self, Failure> {
        self.body = serde_json::to_vec(value)
            .map_err(|error| Failure::new("the question can't be written as JSON").because(&error))?;
        Ok(self)
    }
}

/// The answer of a door to a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// The whole body.
    pub body: Bytes,
}

impl Answer {
    /// The answer when its status is 2xx.
    ///
    /// # Errors
    /// A failure of `what` with the reason that the answer gives, as [`Reply::error`](crate::door::Reply::error) writes it.
    pub fn accepted(self, what: &str) -> Result<Self, Failure> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        let said: Option<serde_json::Value> = serde_json::from_slice(&self.body).ok();
        let why = said.and_then(|said| said.get("error")?.as_str().map(ToOwned::to_owned));
        let why = why.unwrap_or_else(|| format!("the running garant answers with status {}", self.status));
        Err(Failure::new(what).because(&Failure::new(why)))
    }

    /// The JSON of the body.
    ///
    /// # Errors
    /// It is no such value: the running garant is of another release.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|error| {
            Failure::new("what the running garant answers can't be read")
                .because(&error)
                .remedy("run the command of the release that runs: this one may be another")
        })
    }
}

/// The address or network that a person writes: `203.0.113.7`, `2001:db8::/32`.
pub fn network_of(text: &str) -> Option<IpNet> {
    let address = || text.parse::<IpAddr>().ok().map(|address| IpNet::from(address.to_canonical()));
    address().or_else(|| text.parse().ok())
}

/// The text at a key of an answer; empty where there is none.
pub fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The number at a key of an answer; 0 where there is none.
pub fn count(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or(0)
}

/// The list at a key of an answer; empty where there is none.
pub fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Whether a key of an answer is `true`.
pub fn is_set(value: &Value, key: &str) -> bool {
    value.get(key).and_then(Value::as_bool).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_holds_whatever_it_is_about() {
        let question = Question::get("/api/v1/toy").segment("a b/ü?#%..").segment("~").parameter("q", "1 & 2");
        assert_eq!(question.target, "/api/v1/toy/a%20b%2F%C3%BC%3F%23%25../%7E?q=1+%26+2");
        for nowhere in ["", ".", ".."] {
            assert_eq!(Question::get("/x").segment(nowhere).segment("y").target, "/x/%00/y");
        }
        assert_eq!(question.parameter("é", "").target.rsplit_once('&').expect("two").1, "%C3%A9=");
    }

    #[test]
    fn a_refusal_says_why() {
        let answer = |status, body: &'static str| Answer { status, body: Bytes::from_static(body.as_bytes()) };
        assert_eq!(answer(201, "[1]").accepted("it").expect("2xx").json::<Vec<u8>>().expect("a list"), [1]);
        for (status, body, why) in [
            (404, r#"{"error":"no alert is called x"}"#, "it: no alert is called x"),
            (503, "busy", "it: the running garant answers with status 503"),
            (302, r#"{"error":1}"#, "it: the running garant answers with status 302"),
        ] {
            assert_eq!(answer(status, body).accepted("it").expect_err("refused").to_string(), why);
        }
        assert!(answer(200, "{").json::<String>().expect_err("half").to_string().contains("can't be read"));
    }
}
