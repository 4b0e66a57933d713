//! What an agent and its server say to each other: lines of JSON over a stream.
//!
//! The agent listens, on a Unix socket of its host; whoever may open the socket may speak. The first line of a connection says
//! what it is for: a server *attaches*, and from then on gets events and gives desired states until the connection ends, or a
//! command *asks* something of an engine and gets one answer.
//!
//! An event has no audience and no class: the receiver knows its kind, and says so. A line that this release does not know is an
//! error that ends the connection; what was not acknowledged stays in the spool.

use std::collections::BTreeMap;
use std::io;

use engine::metrics::ToldSample;
use event::{Sent, Time};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The version of this protocol. Another one is refused.
pub const PROTOCOL: u32 = 1;
/// The version of what two processes say to each other when one takes the place of the other, which may be of another release.
pub const HANDOVER: u32 = 1;
/// Longest line, in bytes: the largest event, with some room.
pub const LINE_BYTES_MAX: usize = 2 * event::PAYLOAD_BYTES_MAX;
/// Most bytes of events in one line, but for a single group that is larger.
pub const EVENTS_BYTES_MAX: usize = 512 * 1024;
/// Most samples of the figures of one engine; further ones are left out.
pub const FIGURES_MAX: usize = 1000;

/// What is said to an agent.
#[derive(Clone, Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum ToAgent {
    /// The first line of a server: it takes the events of this agent from now on. Another server that is attached is let go.
    Attach {
        /// [`PROTOCOL`].
        protocol: u32,
        /// Release of the server.
        version: String,
    },
    /// A desired state to follow from now on.
    Desired(Desired),
    /// The events below this number are in the journal.
    Taken {
        /// As in [`FromAgent::Events`].
        through: u64,
    },
    /// Of the events below this number, at least one will never be taken; the others are in the journal.
    Refused {
        /// As in [`FromAgent::Events`].
        through: u64,
        /// Why, and what to do.
        reason: String,
    },
    /// The first and only line of a command: a question to the door of an engine.
    Ask(Asked),
    /// The first line of a process that is to take the place of this one: it asks for its sockets.
    TakeOver {
        /// [`HANDOVER`].
        protocol: u32,
    },
    /// That process serves: the old one may let go.
    Serving {},
}

/// What an agent says.
#[derive(Clone, Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum FromAgent {
    /// The answer to [`ToAgent::Attach`].
    Hello {
        /// [`PROTOCOL`].
        protocol: u32,
        /// Release of the agent.
        version: String,
        /// The desired state that it follows; revision 0 when it has none yet.
        following: Desired,
        /// Number of its process.
        pid: i32,
    },
    /// What it follows now: the answer to [`ToAgent::Desired`].
    Following {
        /// Revision of the desired state that it follows.
        revision: u64,
        /// Why it does not follow the one that was sent.
        refused: Option<String>,
    },
    /// Events from its spool, in order. The next ones come once these are acknowledged.
    Events {
        /// The number to acknowledge.
        through: u64,
        /// The events.
        events: Vec<Sent>,
    },
    /// How its engines are doing: after each change, and every ten seconds.
    Standing(Standing),
    /// The answer to [`ToAgent::TakeOver`], with the lock on the state, the socket of the agent, and those that its engine listens on.
    Handed {
        /// How many descriptors come with it.
        sockets: usize,
        /// What the engine knows, in its own words.
        known: Box<RawValue>,
    },
    /// Another process takes the place of this one, at the same socket.
    HandsOver {},
    /// Another server has attached: this one is let go, and stays away until somebody wants it back.
    LetGo {},
    /// The answer to [`ToAgent::Ask`].
    Answer {
        /// Status code, as of HTTP.
        status: u16,
        /// The body.
        body: String,
    },
}

/// What an agent is to do: a part for each of its engines, in the engine's own words.
#[derive(Clone, Serialize, Deserialize, Default, Debug)]
pub struct Desired {
    /// Grows with each change. A lower one than that which is followed is refused.
    pub revision: u64,
    /// For each engine what it is to do; one that is not named does nothing.
    pub engines: BTreeMap<String, Box<RawValue>>,
}

impl Desired {
    /// Whether it asks for the same as another, whatever their revisions.
    pub fn asks_for(&self, engines: &BTreeMap<String, Box<RawValue>>) -> bool {
        self.engines.len() == engines.len()
            && self
                .engines
                .iter()
                .zip(engines)
                .all(|(ours, theirs)| ours.0 == theirs.0 && ours.1.get() == theirs.1.get())
    }
}

/// A question to the door of an engine.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct Asked {
    /// `GET`, `POST` or `DELETE`.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// JSON, or nothing.
    pub body: String,
}

/// How an agent is doing.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Default, Debug)]
pub struct Standing {
    /// Its engines.
    pub engines: Vec<EngineStanding>,
    /// Groups of events in its spool.
    pub spooled: u64,
    /// Events lost at the bound of the spool since its start.
    pub lost: u64,
    /// The figures of each engine that has some: [`FIGURES_MAX`] at most.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub figures: BTreeMap<String, Vec<ToldSample>>,
}

/// How an engine of an agent is doing.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct EngineStanding {
    /// Name of the engine.
    pub engine: String,
    /// `starting`, `running`, `restarting`, `stopping`, `stopped`, `failed`.
    pub state: String,
    /// Since when.
    pub since: Time,
    /// Reason of the last failure.
    pub last_error: Option<String>,
}

/// Reads one line; `None` at the end of the stream.
///
/// # Errors
/// The stream breaks, or a line is longer than [`LINE_BYTES_MAX`], or is not of this protocol.
pub async fn read<T: DeserializeOwned>(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    let most = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
    from.take(most).read_until(b'\n', &mut line).await?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.pop() != Some(b'\n') {
        let why = if line.len() + 1 >= LINE_BYTES_MAX { "a line is too long" } else { "a line ends in the middle" };
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    serde_json::from_slice(&line)
        .map(Some)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("a line is not of this protocol: {error}")))
}

/// Writes one line.
///
/// # Errors
/// The stream breaks.
pub async fn write(to: &mut (impl AsyncWrite + Unpin), value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    to.write_all(&line).await?;
    to.flush().await
}
