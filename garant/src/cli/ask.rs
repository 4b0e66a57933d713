//! What a command of an engine is given: the running garant to ask, and the terminal.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::clock::SystemClock;
use engine::command::{Answer, CommandContext, JudgedPolicy, Question, Style, Watcher};
use engine::http::{Method, Request, header};
use engine::net::{Net, NetOptions};
use engine::random::SystemRandom;
use engine::{BoxFuture, CancellationToken, Clock, Context, Programs, Progress, Random as _, Recorder, Secrets, door};
use event::{BootId, Observed, Span, Time, Zone};
use hosts::{AgentPlace, Role};
use tokio::runtime::Runtime;
use tokio::signal::unix::SignalKind;

use crate::cli::reload::tell;
use crate::configuration::Configuration;
use crate::data::Running;
use crate::failure::{Failure, USAGE};
use crate::registry::Registry;
use crate::roles::up::role_state;
use crate::signals::StopSignals;
use crate::team_token::TeamToken;
use crate::terminal::{self, Terminal};

/// Longest wait for an answer: a call may take [`door::CALL_TIME_MAX`].
const WITHIN: Span = Span::from_secs(15);
/// Longest answer, in bytes.
const BYTES_MAX: usize = 16 * 1024 * 1024;
/// Status of an answer to somebody without the token.
const UNAUTHORIZED: u16 = 401;

/// The context of a command of an engine.
pub(crate) struct Asking<'a> {
    data: PathBuf,
    runtime: &'a Runtime,
    registry: &'a Registry,
    terminal: &'a mut Terminal,
    /// The exit code of a command that was interrupted while it waited for an answer.
    interrupted: Cell<Option<u8>>,
    /// Signals to stop, from the first wait on: one that comes between two waits ends the next.
    signals: Cell<Option<StopSignals>>,
}

impl<'a> Asking<'a> {
    /// The context of a command that asks the garant that runs on `data`, and waits on `runtime`.
    pub(crate) fn new(data: PathBuf, runtime: &'a Runtime, registry: &'a Registry, terminal: &'a mut Terminal) -> Self {
        Self { data, runtime, registry, terminal, interrupted: Cell::new(None), signals: Cell::new(None) }
    }

    /// The signals to stop, to be put back after a wait.
    fn signals(&self) -> Result<StopSignals, Failure> {
        let _within = self.runtime.enter();
        self.signals.take().map_or_else(|| StopSignals::taken(Arc::new(SystemClock)), Ok)
    }

    fn ask_role(&self, role: &Role, socket: Option<&Path>, question: &Question) -> Result<Answer, Failure> {
        let Role { noun, .. } = role;
        let started = AgentPlace { state: role_state(&self.data, role) }.socket(role);
        let of_unit = PathBuf::from(format!("/run/garant-{noun}/{noun}.sock"));
        // One that can't be looked for is taken to be there: then it is said what is refused.
        let is_started = started.try_exists().unwrap_or(true);
        let is_looked_for = socket.is_none() && !is_started;
        let socket = socket.unwrap_or_else(|| if is_started { &started } else { &of_unit });
        let answer = self.runtime.block_on(hosts::agent::ask(socket, question, WITHIN));
        let (status, body) = answer.map_err(|error| {
            let is_there = matches!(error.kind(), std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock);
            let what = if is_there { format!("the {noun} does not answer in time at") } else { format!("no {noun} answers at") };
            let place = if is_looked_for {
                format!("{}, nor at {}", started.display(), socket.display())
            } else {
                socket.display().to_string()
            };
            let failure = Failure::new(format!("{what} {place}")).because(&error);
            failure.remedy(match error.kind() {
                std::io::ErrorKind::PermissionDenied => {
                    "run this command as root, or as a user who may enter that directory and is in the group of the socket"
                        .to_owned()
                }
                std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => format!(
                    "start `garant up` as root, or the unit garant-{noun}.service; where it runs on another data directory, name that \
                     with --data, or the socket of the {noun} with --{noun}"
                ),
                std::io::ErrorKind::TimedOut => {
                    "it is busy or stopped, and may do later what was asked: see how it stands before asking again".to_owned()
                }
                _ => format!("look at the log of the {noun}: it runs, and is busy, or of another release"),
            })
        })?;
        Ok(Answer { status, body: body.into() })
    }

    /// How a command has ended; one that fails because a question was interrupted has the exit code of that.
    pub(crate) fn ended(&self, ended: Result<u8, Failure>) -> Result<u8, Failure> {
        let code = self.interrupted.get();
        ended.map_err(|failure| match code {
            Some(code) => failure.code(code),
            None => failure,
        })
    }
}

/// The exit code of a command that a signal has ended.
fn exit_code(kind: SignalKind) -> u8 {
    u8::try_from(128 + kind.as_raw_value()).unwrap_or(1)
}

impl CommandContext for Asking<'_> {
    fn ask(&self, question: Question) -> Result<Answer, Failure> {
        let running = Running::read(&self.data)?;
        let token = TeamToken::read(&self.data)?;
        let url = format!("{}{}", running.team.trim_end_matches('/'), question.target);
        let failed = |error: &(dyn std::error::Error + 'static)| {
            Failure::new(format!("process {} does not answer at {url}", running.pid))
                .because(error)
                .remedy("look at what it says on its standard error")
        };
        let method = match question.method {
            door::Method::Get => Method::GET,
            door::Method::Post => Method::POST,
            door::Method::Delete => Method::DELETE,
        };
        let mut request = Request::new(method, url.clone())
            .header(header::AUTHORIZATION.as_str(), token.authorization().as_bytes())
            .within(WITHIN)
            .body_bytes_max(BYTES_MAX);
        if !question.body.is_empty() {
            request = request.header(header::CONTENT_TYPE.as_str(), "application/json").body(question.body);
        }
        let response = self.runtime.block_on(async {
            let net = Net::new(&NetOptions::default(), Arc::new(SystemClock)).map_err(|error| failed(&error))?;
            request.send(&net).await.map_err(|error| failed(&error))
        })?;
        if response.status == UNAUTHORIZED {
            return Err(Failure::new(format!(
                "process {} does not take the team token in {}",
                running.pid,
                self.data.display()
            ))
            .remedy("restart garant: it reads its token at the start"));
        }
        Ok(Answer { status: response.status, body: response.body })
    }

    fn ask_agent(&self, socket: Option<&Path>, question: Question) -> Result<Answer, Failure> {
        self.ask_role(&Role::AGENT, socket, &question)
    }

    fn ask_gate(&self, socket: Option<&Path>, question: Question) -> Result<Answer, Failure> {
        self.ask_role(&Role::GATE, socket, &question)
    }

    fn zone(&self) -> Result<Zone, Failure> {
        // A name that this release does not know is shown in UTC, and said so by the zone itself.
        Ok(Zone::named(&Running::read(&self.data)?.time_zone).unwrap_or_default())
    }

    fn now(&self) -> Time {
        SystemClock.now()
    }

    fn painted(&self, style: Style, text: &str) -> String {
        self.terminal.painted(style, text)
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.terminal.raw(bytes);
    }

    fn line(&mut self, text: &str) {
        self.terminal.line(text);
    }

    fn json(&mut self, value: &serde_json::Value) {
        self.terminal.json(value);
    }

    fn note(&self, text: &str) {
        self.terminal.note(text);
    }

    fn means(&self) -> Result<Context, Failure> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let net = Net::new(&NetOptions::default(), Arc::clone(&clock)).map_err(|error| {
            Failure::new("the certificates that this machine trusts can't be read")
                .because(&error)
                .remedy("install the package ca-certificates")
        })?;
        let observer = "server.command".parse();
        let observer = observer.map_err(|error: event::BadName| Failure::new("no observer").because(&error))?;
        let mut boot = [0; 16];
        SystemRandom.fill(&mut boot);
        Ok(Context {
            random: Arc::new(SystemRandom),
            net: Arc::new(net),
            programs: Arc::new(Programs::of_system()),
            secrets: Arc::new(Secrets::of_system()),
            recorder: Recorder::new(Arc::new(Nowhere), observer, BootId::from_bytes(boot), Arc::clone(&clock)),
            clock,
            progress: Progress::default(),
            stop: CancellationToken::new(),
        })
    }

    fn wait(&self, work: BoxFuture<'_, ()>) -> Result<(), Failure> {
        let mut signals = self.signals()?;
        let waited = self.runtime.block_on(async {
            tokio::select! {
                () = work => Ok(()),
                kind = signals.next() => {
                    Err(Failure::new("interrupted: what was begun is not finished").code(exit_code(kind)))
                }
            }
        });
        self.signals.set(Some(signals));
        waited
    }

    fn watcher(&self) -> Arc<dyn Watcher> {
        Arc::new(self.terminal.bytes_bar())
    }

    fn counter(&self) -> Arc<dyn Watcher> {
        Arc::new(self.terminal.count_bar())
    }

    fn prompts(&self) -> bool {
        Terminal::is_interactive()
    }

    fn prompt(&self, question: &str) -> Option<String> {
        // Before the question is seen: Ctrl-C in answer to it is not to be lost.
        let mut signals = self.signals().ok()?;
        if !self.terminal.question(question) {
            return None;
        }
        // Once signals are taken, Ctrl-C ends no read: it is waited for beside it, on a thread that nothing waits for.
        let (tell, typed) = tokio::sync::oneshot::channel();
        drop(std::thread::spawn(|| drop(tell.send(terminal::typed()))));
        let answer = self.runtime.block_on(async {
            tokio::select! {
                typed = typed => typed.ok()?,
                kind = signals.next() => {
                    self.interrupted.set(Some(exit_code(kind)));
                    None
                }
            }
        });
        self.signals.set(Some(signals));
        if answer.is_none() {
            Terminal::no_answer();
        }
        answer
    }

    fn judge(&self, policy: &Path, text: &str) -> Result<JudgedPolicy, Failure> {
        let configuration = Configuration::load_as(policy, Some(text), self.registry).map_err(|mistakes| {
            let shown = mistakes.render(self.terminal.err_coloured());
            let is_written = std::fs::read_to_string(policy).is_ok_and(|written| written == text);
            let what = if is_written {
                "the policy has mistakes"
            } else {
                "the policy would have mistakes, and is left as it is"
            };
            Failure::new(format!("{what}:\n{shown}")).code(USAGE)
        })?;
        let agent = configuration.part::<hosts::Config>().map(|hosts| hosts.agent.clone()).unwrap_or_default();
        Ok(JudgedPolicy { agent_ids: agent.ids(), agent: agent.user, agent_socket: agent.socket })
    }

    fn reload(&self, policy: &Path) -> Result<bool, Failure> {
        if store::holder(&self.data).is_none() {
            return Ok(false);
        }
        let before = Running::read(&self.data)?;
        let is_same = |one: &Path, other: &Path| {
            one.canonicalize().ok().is_some_and(|one| other.canonicalize().is_ok_and(|it| it == one))
        };
        if !is_same(policy, &before.policy) {
            let (pid, other) = (before.pid, before.policy.display());
            return Err(Failure::new(format!("process {pid} runs by another policy, {other}"))
                .remedy(format!("give that file with --policy {other}, or another directory with --data")));
        }
        match tell(&self.data, &before)?.reload_error {
            Some(error) => Err(Failure::new(format!("process {} does not take the policy: {error}", before.pid))),
            None => Ok(true),
        }
    }
}

/// Where events go that nobody keeps.
struct Nowhere;

#[async_trait::async_trait]
impl store::Sink for Nowhere {
    async fn take(&self, _events: Vec<Observed>) -> Result<store::Taken, store::StoreError> {
        Ok(store::Taken::Spooled)
    }
}
