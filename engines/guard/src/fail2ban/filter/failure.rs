//! What is known of a failure, from one line or from several of one connection.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use event::{Span, Time};

use super::Host;
use super::expression::Hit;

/// How many connections are remembered at once.
const MAX_CONNECTIONS: usize = 100;
/// How long a connection is remembered.
const CONNECTION_AGE: Span = Span::from_secs(5 * 60);

/// What a group of a pattern matched.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Value {
    /// A text.
    Text(String),
    /// Several groups that are one value (`<F-TUPLE_…>`).
    Tuple(Vec<Option<String>>),
}

impl Value {
    /// The text, when it is one.
    pub fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    fn is_empty(&self) -> bool {
        matches!(self, Self::Text(text) if text.is_empty())
    }
}

/// What is known of a failure.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Failure {
    /// The groups that matched, by name: `user`, `fid`, `mlfid`, `fport` …
    pub fields: BTreeMap<Arc<str>, Value>,
    /// All users that a connection tried.
    pub users: BTreeSet<Value>,
    /// How many lines tell of it.
    pub lines: usize,
    /// The address, where something else identifies the author.
    pub ip: Option<Host>,
    /// Lines that told of no failure yet.
    pub(super) nofail_lines: usize,
    /// Whether something is missing: who it is, most often.
    pub(super) is_pending: bool,
}

impl Failure {
    /// A field that is a text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.fields.get(name).and_then(Value::text)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.fields.get(name).is_some_and(|value| !value.is_empty())
    }

    fn take(&mut self, name: &str) -> bool {
        self.fields.remove(name).is_some_and(|value| !value.is_empty())
    }

    fn note_user(&mut self, user: Option<&Value>) {
        if let Some(user) = user.filter(|user| !user.is_empty()) {
            self.users.insert(user.clone());
        }
    }
}

/// The connections that several lines tell of, by what identifies them (`<F-MLFID>`).
#[derive(Clone, Default, Debug)]
pub(super) struct Connections {
    /// In the order in which they were first seen.
    known: VecDeque<Connection>,
}

/// A connection.
#[derive(Clone, Debug)]
struct Connection {
    id: Value,
    /// Tells most identifiers apart, at once.
    hash: u64,
    until: Time,
    failure: Failure,
}

impl Connections {
    fn position(&self, id: &Value) -> Option<usize> {
        let hash = hash(id);
        self.known.iter().rposition(|known| known.hash == hash && known.id == *id)
    }

    fn get(&mut self, id: &Value, now: Time) -> Option<Failure> {
        let at = self.position(id)?;
        if self.known[at].until > now {
            return Some(self.known[at].failure.clone());
        }
        self.known.remove(at);
        None
    }

    fn insert(&mut self, id: Value, failure: Failure, now: Time) {
        if self.known.len() >= MAX_CONNECTIONS {
            while let Some(known) = self.known.pop_front() {
                if known.until > now && self.known.len() < MAX_CONNECTIONS {
                    break;
                }
            }
        }
        self.known.push_back(Connection { hash: hash(&id), id, until: now + CONNECTION_AGE, failure });
    }

    /// Writes back what became of a failure that is remembered.
    pub(super) fn update(&mut self, id: &Value, failure: &Failure) {
        if let Some(at) = self.position(id) {
            self.known[at].failure.clone_from(failure);
        }
    }

    /// Joins what a line tells with what is known of its connection.
    pub(super) fn merge(&mut self, id: &Value, mut new: Failure, hit: &Hit, now: Time) -> Failure {
        let known = self.get(id, now);
        let mut gained = new.has("mlfgained");
        if gained
            && !new.has("nofail")
            && let Some(value) = new.fields.get("mlfgained").cloned()
        {
            new.fields.insert(Arc::from("nofail"), value);
        }
        let mut no_failure = gained || new.has("nofail");
        let forgotten = new.take("mlfforget");
        let mut users = 0;
        let mut failure = if let Some(mut known) = known {
            known.note_user(new.fields.get("user"));
            users = known.users.len();
            let was_waiting = known.take("nofail") | known.take("mlfgained");
            if gained {
                known.is_pending = false;
            }
            if !was_waiting && !known.is_pending {
                known.lines = 0;
            }
            known.fields.extend(new.fields);
            if forgotten && let Some(at) = self.position(id) {
                self.known.remove(at);
            }
            known
        } else {
            if !forgotten {
                let user = new.fields.get("user").cloned();
                new.note_user(user.as_ref());
                users = new.users.len();
                self.insert(id.clone(), new.clone(), now);
            }
            new
        };
        if std::mem::take(&mut failure.is_pending) || users > 1 {
            failure.fields.remove("nofail");
            failure.fields.remove("mlfgained");
            no_failure = false;
            gained = false;
        }
        if !no_failure {
            failure.lines += std::mem::take(&mut failure.nofail_lines);
            if !gained {
                failure.lines += hit.matched();
            }
        } else if !forgotten {
            failure.nofail_lines += hit.matched();
        }
        failure
    }
}

fn hash(id: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}
