//! A connection to PostgreSQL over its socket: the protocol of its front end, version 3, as far as a backup needs it
//! (PostgreSQL 15, chapters 55.2 to 55.4): simple queries, the commands of replication, and both ways of COPY.
//!
//! Every wait is bounded but that for the next message, which the caller bounds.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use bytes::{Buf as _, BytesMut};
use engine::OpenedSecret;
use engine::net::Deadline;
use event::Span;
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::backend::{ErrorFields, ErrorResponseBody, Header, Message};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// Largest message that is read, in bytes. A server sends at most 16 blocks of its log in one, and 32 KiB of a base.
const MESSAGE_BYTES_MAX: i32 = 4 * 1024 * 1024;
/// What is read at once, in bytes.
const READ_BYTES: usize = 256 * 1024;
/// Longest time for a connection, a short query, and for the server to take what it is sent.
const ANSWERS_WITHIN: Span = Span::from_secs(30);
/// The tag of the message that begins a COPY in both directions, which `postgres_protocol` does not know.
const COPY_BOTH_RESPONSE: u8 = b'W';
/// Most rows of an answer.
const ROWS_MAX: usize = 10_000;

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode<'a> {
    /// Queries in SQL.
    Sql,
    /// Queries in SQL, in this database.
    Database(&'a str),
    /// Commands of physical replication.
    Replication,
}

/// An error that the server reports.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}{}", detail.as_ref().map(|detail| format!(" ({detail})")).unwrap_or_default())]
pub(super) struct Refusal {
    /// SQLSTATE.
    pub(super) code: String,
    /// What it says.
    pub(super) message: String,
    /// What it says beside.
    pub(super) detail: Option<String>,
}

/// A connection failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    /// There is none.
    #[error("it can't be connected to: {0}")]
    Connect(io::Error),
    /// It broke.
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    /// The server refuses.
    #[error("{0}")]
    Refused(Refusal),
    /// The server says nothing.
    #[error("it has not answered within {0}")]
    Silent(Span),
    /// The server does not do what the protocol says.
    #[error("{0}")]
    Unexpected(String),
}

impl WireError {
    /// The SQLSTATE of a refusal.
    pub(super) fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(refusal) => Some(&refusal.code),
            _ => None,
        }
    }
}

/// A row: its columns as text.
pub(super) type Row = Vec<Option<String>>;

/// A connection.
pub(super) struct Connection {
    stream: UnixStream,
    incoming: BytesMut,
    parameters: BTreeMap<String, String>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects to the socket, as `user`.
    pub(super) async fn open(
        socket: &Path,
        user: &str,
        password: Option<&OpenedSecret>,
        mode: Mode<'_>,
    ) -> Result<Self, WireError> {
        within(ANSWERS_WITHIN, async {
            let stream = UnixStream::connect(socket).await.map_err(WireError::Connect)?;
            let mut connection = Self { stream, incoming: BytesMut::new(), parameters: BTreeMap::new() };
            let mut parameters = vec![("user", user), ("application_name", "garant"), ("client_encoding", "UTF8")];
            match mode {
                Mode::Sql => parameters.push(("database", "postgres")),
                Mode::Database(name) => parameters.push(("database", name)),
                Mode::Replication => parameters.push(("replication", "true")),
            }
            let mut out = BytesMut::new();
            frontend::startup_message(parameters, &mut out)?;
            connection.write(&out).await?;
            connection.authenticate(user, password).await?;
            loop {
                match connection.next().await? {
                    Message::BackendKeyData(_) => {}
                    Message::ReadyForQuery(_) => return Ok(connection),
                    _ => return Err(unexpected("after the connection was made")),
                }
            }
        })
        .await
    }

    async fn authenticate(&mut self, user: &str, password: Option<&OpenedSecret>) -> Result<(), WireError> {
        let needed = || {
            let text =
                "it asks for a password, and none is given: name one in the policy, or let pg_hba.conf say `peer`";
            password.map(OpenedSecret::bytes).ok_or_else(|| WireError::Unexpected(text.to_owned()))
        };
        let mut scram: Option<ScramSha256> = None;
        loop {
            let mut out = BytesMut::new();
            match (self.next().await?, &mut scram) {
                (Message::AuthenticationOk, None) => return Ok(()),
                (Message::AuthenticationCleartextPassword, None) => {
                    frontend::password_message(needed()?, &mut out)?;
                }
                (Message::AuthenticationMd5Password(body), None) => {
                    let hash = md5_hash(user.as_bytes(), needed()?, body.salt());
                    frontend::password_message(hash.as_bytes(), &mut out)?;
                }
                (Message::AuthenticationSasl(_), None) => {
                    let begun = ScramSha256::new(needed()?, ChannelBinding::unsupported());
                    frontend::sasl_initial_response(SCRAM_SHA_256, begun.message(), &mut out)?;
                    scram = Some(begun);
                }
                (Message::AuthenticationSaslContinue(body), Some(begun)) => {
                    begun.update(body.data())?;
                    frontend::sasl_response(begun.message(), &mut out)?;
                }
                // Only now the server has proved that it knows the password too.
                (Message::AuthenticationSaslFinal(body), Some(begun)) => {
                    begun.finish(body.data())?;
                    scram = None;
                    continue;
                }
                _ => {
                    let text = "it asks for a way to authenticate that is not known here: let pg_hba.conf say `peer` or \
                                `scram-sha-256`";
                    return Err(WireError::Unexpected(text.to_owned()));
                }
            }
            self.write(&out).await?;
        }
    }

    /// A parameter that the server reported, such as `server_version`.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// The next message but those that say nothing here. May be dropped and asked for again.
    pub(super) async fn next(&mut self) -> Result<Message, WireError> {
        loop {
            let header = Header::parse(&self.incoming)?;
            if header.is_some_and(|header| header.len() > MESSAGE_BYTES_MAX) {
                return Err(WireError::Unexpected("it sends a message that is longer than any it should".to_owned()));
            }
            if let Some(header) = header.filter(|header| header.tag() == COPY_BOTH_RESPONSE) {
                // Its length does not count the tag in front of it.
                let length = usize::try_from(header.len()).unwrap_or(usize::MAX).saturating_add(1);
                if self.incoming.len() >= length {
                    self.incoming.advance(length);
                    continue;
                }
                self.read().await?;
                continue;
            }
            match Message::parse(&mut self.incoming)? {
                Some(Message::NoticeResponse(body)) => {
                    tracing::debug!(message = refusal(body.fields()).message, "PostgreSQL notes");
                }
                Some(Message::ParameterStatus(body)) => {
                    self.parameters.insert(body.name()?.to_owned(), body.value()?.to_owned());
                }
                Some(Message::ErrorResponse(body)) => return Err(refused(&body)),
                Some(message) => return Ok(message),
                None => self.read().await?,
            }
        }
    }

    async fn read(&mut self) -> Result<(), WireError> {
        self.incoming.reserve(READ_BYTES);
        if self.stream.read_buf(&mut self.incoming).await? == 0 {
            let text = "PostgreSQL has closed it";
            return Err(WireError::Broken(io::Error::new(io::ErrorKind::UnexpectedEof, text)));
        }
        Ok(())
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        within(ANSWERS_WITHIN, async { Ok(self.stream.write_all(bytes).await?) }).await
    }

    /// Sends a query, and reads nothing.
    pub(super) async fn send(&mut self, query: &str) -> Result<(), WireError> {
        let mut out = BytesMut::new();
        frontend::query(query, &mut out)?;
        self.write(&out).await
    }

    /// Sends data of a COPY.
    pub(super) async fn send_data(&mut self, data: &[u8]) -> Result<(), WireError> {
        let mut out = BytesMut::new();
        frontend::CopyData::new(data)?.write(&mut out);
        self.write(&out).await
    }

    /// Says that this side has no more data and no more questions.
    pub(super) async fn part(&mut self) -> Result<(), WireError> {
        let mut out = BytesMut::new();
        frontend::copy_done(&mut out);
        frontend::terminate(&mut out);
        self.write(&out).await
    }

    /// The first rows of one statement, which may take so long: of several the server refuses all (extended query).
    pub(super) async fn first_rows(&mut self, sql: &str, time: Span, rows: u16) -> Result<Vec<Row>, WireError> {
        within(time, async {
            let mut out = BytesMut::new();
            frontend::parse("", sql, [], &mut out)?;
            let none = |(), _: &mut BytesMut| Ok(postgres_protocol::IsNull::Yes);
            frontend::bind("", "", [], [(); 0], none, [], &mut out)
                .map_err(|_| WireError::Unexpected("the question can't be sent".to_owned()))?;
            frontend::execute("", i32::from(rows), &mut out)?;
            frontend::sync(&mut out);
            self.write(&out).await?;
            let (mut found, mut error) = (Vec::new(), None);
            loop {
                match self.next().await {
                    Ok(Message::DataRow(row)) => found.push(columns(&row)?),
                    Ok(
                        Message::ParseComplete
                        | Message::BindComplete
                        | Message::PortalSuspended
                        | Message::CommandComplete(_)
                        | Message::EmptyQueryResponse,
                    ) => {}
                    Ok(Message::ReadyForQuery(_)) => return error.map_or(Ok(found), Err),
                    Ok(_) => return Err(unexpected("to a statement")),
                    Err(refused @ WireError::Refused(_)) => error = Some(refused),
                    Err(other) => return Err(error.unwrap_or(other)),
                }
            }
        })
        .await
    }

    /// The rows of a short query, or of a command of replication. After an error the connection may be used on, unless it broke.
    pub(super) async fn query(&mut self, query: &str) -> Result<Vec<Row>, WireError> {
        within(ANSWERS_WITHIN, async {
            self.send(query).await?;
            let (mut rows, mut error) = (Vec::new(), None);
            loop {
                match self.next().await {
                    Ok(Message::DataRow(row)) if rows.len() < ROWS_MAX => {
                        rows.push(columns(&row)?);
                    }
                    Ok(
                        Message::RowDescription(_)
                        | Message::CommandComplete(_)
                        | Message::EmptyQueryResponse
                        | Message::DataRow(_),
                    ) => {}
                    Ok(Message::ReadyForQuery(_)) => return error.map_or(Ok(rows), Err),
                    Ok(_) => return Err(unexpected("to a query")),
                    Err(refused @ WireError::Refused(_)) => error = Some(refused),
                    Err(other) => return Err(error.unwrap_or(other)),
                }
            }
        })
        .await
    }
}

/// The columns of a row.
pub(super) fn columns(row: &postgres_protocol::message::backend::DataRowBody) -> Result<Row, WireError> {
    let text = |range: std::ops::Range<usize>| {
        let bytes = row.buffer().get(range).unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    };
    Ok(row.ranges().map(|range| Ok(range.map(text))).collect()?)
}

/// Runs `work` for `span` at most.
pub(super) async fn within<T>(span: Span, work: impl Future<Output = Result<T, WireError>>) -> Result<T, WireError> {
    Deadline::within(span).run(work).await.unwrap_or(Err(WireError::Silent(span)))
}

/// The server has answered something else.
pub(super) fn unexpected(when: &str) -> WireError {
    WireError::Unexpected(format!("it has sent something that the protocol does not know {when}"))
}

fn refused(body: &ErrorResponseBody) -> WireError {
    WireError::Refused(refusal(body.fields()))
}

fn refusal(mut fields: ErrorFields<'_>) -> Refusal {
    let mut refusal = Refusal { code: String::new(), message: String::new(), detail: None };
    while let Ok(Some(field)) = fields.next() {
        let value = engine::printable::text(&String::from_utf8_lossy(field.value_bytes())).into_owned();
        match field.type_() {
            b'C' => refusal.code = value,
            b'M' => refusal.message = value,
            b'D' => refusal.detail = Some(value),
            _ => {}
        }
    }
    refusal
}
