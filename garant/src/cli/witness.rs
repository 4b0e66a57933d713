//! `garant witness`: remembers the checkpoints of other people's logs, and cosigns what continues them.
//!
//! One small file holds its key and, per log, the last checkpoint that it cosigned. It is written before each answer. A
//! witness that forgets is worth nothing: never put an old copy of the file back; retire the witness and make another.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use engine::clock::SystemClock;
use engine::random::SystemRandom;
use engine::{CancellationToken, Random as _};
use journal::note::{SigningKey, VerifierKey};
use journal::witness::{Refusal, State};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};
use web::witness::Persist;

use crate::cli::runtime;
use crate::data::write_whole;
use crate::failure::{Failure, USAGE};
use crate::terminal::Terminal;

#[derive(Subcommand, Debug)]
pub(crate) enum Witness {
    /// Make a witness: its state file and its key. Prints the key that logs and readers need
    Init(Init),
    /// Cosign the checkpoints of the logs that are given or known (C2SP tlog-witness)
    Serve(Serve),
}

#[derive(Args, Debug)]
pub(crate) struct Init {
    /// The state file to make
    #[arg(long, value_name = "FILE")]
    state: PathBuf,

    /// Name of the witness, such as witness.example
    #[arg(long)]
    name: String,

    /// Write the result as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Serve {
    /// The state file
    #[arg(long, value_name = "FILE")]
    state: PathBuf,

    /// Where to listen
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8482")]
    listen: SocketAddr,

    /// Key of a log to cosign for; may be given several times, and is remembered
    #[arg(long = "log", value_name = "KEY")]
    logs: Vec<String>,

    /// Write one line of JSON with the URL and the keys once it listens
    #[arg(long)]
    json: bool,
}

/// The state file.
#[derive(Serialize, Deserialize)]
struct File {
    key: String,
    #[serde(flatten)]
    state: State,
}

impl Witness {
    pub(crate) fn run(self, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        match self {
            Self::Init(command) => command.run(terminal),
            Self::Serve(command) => command.run(terminal),
        }
    }
}

impl Init {
    fn run(self, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        let mut seed = [0; 32];
        SystemRandom.fill(&mut seed);
        let key = SigningKey::generate(seed, &self.name).map_err(|error| {
            Failure::new(format!("`{}` can't be the name of a witness", self.name)).because(&error).code(USAGE)
        })?;
        if self.state.exists() {
            return Err(Failure::new(format!("{} is there already", self.state.display()))
                .remedy("a witness must not forget: name another file for another witness"));
        }
        File { key: key.to_text(), state: State::default() }.write(&self.state)?;
        if self.json {
            let vkey = key.cosigner_vkey().to_string();
            terminal.json(&serde_json::json!({ "name": self.name, "vkey": vkey, "state": self.state }));
        } else {
            terminal.line(key.cosigner_vkey());
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl File {
    fn read(path: &Path) -> Result<Self, Failure> {
        let failed = |error: &(dyn std::error::Error + 'static)| {
            Failure::new(format!("the state of the witness, {}, can't be read", path.display()))
                .because(error)
                .remedy("make one with `garant witness init`")
        };
        let text = fs::read(path).map_err(|error| failed(&error))?;
        serde_json::from_slice(&text).map_err(|error| failed(&error))
    }

    fn write(&self, path: &Path) -> Result<(), Failure> {
        let failed = |error: &(dyn std::error::Error + 'static)| {
            Failure::new(format!("the state of the witness can't be written to {}", path.display())).because(error)
        };
        let text = serde_json::to_vec_pretty(self).map_err(|error| failed(&error))?;
        write_whole(path, &text, 0o600).map_err(|error| failed(&error))
    }
}

impl Serve {
    fn run(self, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        let lock = self.lock()?;
        let mut file = File::read(&self.state)?;
        let key = SigningKey::from_text(&file.key)
            .map_err(|error| Failure::new("the key of the witness can't be read").because(&error))?;
        for log in &self.logs {
            let vkey: VerifierKey = log.parse().map_err(|error| {
                Failure::new(format!("`{log}` is not the key of a log")).because(&error).code(USAGE)
            })?;
            file.state.trust(vkey);
        }
        file.write(&self.state)?;
        if file.state.logs.is_empty() {
            return Err(Failure::new("there is no log to cosign for").remedy("name one with --log KEY").code(USAGE));
        }
        runtime()?.block_on(self.serve(file, key, terminal))?;
        drop(lock);
        Ok(ExitCode::SUCCESS)
    }

    /// Two processes on one state would forget for each other.
    fn lock(&self) -> Result<fs::File, Failure> {
        let mut name = self.state.file_name().unwrap_or_default().to_owned();
        name.push(".lock");
        let path = self.state.with_file_name(name);
        let failed = |error: &(dyn std::error::Error + 'static)| {
            Failure::new(format!("{} can't be locked", path.display()))
                .because(error)
                .remedy("is another process of this witness running?")
        };
        let file = fs::File::create(&path).map_err(|error| failed(&error))?;
        file.try_lock().map_err(|error| failed(&error))?;
        Ok(file)
    }

    async fn serve(&self, file: File, key: SigningKey, terminal: &mut Terminal) -> Result<(), Failure> {
        let refused = |error: &(dyn std::error::Error + 'static)| {
            Failure::new(format!("nothing can listen on {}", self.listen))
                .because(error)
                .remedy("name another address with --listen")
        };
        let listener = tokio::net::TcpListener::bind(self.listen).await.map_err(|error| refused(&error))?;
        let address = listener.local_addr().map_err(|error| refused(&error))?;
        let count = file.state.logs.len();
        if self.json {
            let vkey = key.cosigner_vkey().to_string();
            let url = format!("http://{address}/");
            terminal.json(&serde_json::json!({ "ready": true, "url": url, "vkey": vkey, "logs": count }));
        } else {
            terminal.line(format!("{} cosigns for {count} logs at http://{address}/", key.cosigner_vkey()));
        }
        let keeper = Keeper { path: self.state.clone(), key: file.key };
        let witness = web::witness::Witness::new(key, file.state, Arc::new(keeper), Arc::new(SystemClock));
        let router = web::witness::router(Arc::new(witness));
        let stop = CancellationToken::new();
        let failed =
            |error: &(dyn std::error::Error + 'static)| Failure::new("signals can't be received").because(error);
        let mut terminate = signal(SignalKind::terminate()).map_err(|error| failed(&error))?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| failed(&error))?;
        let stopping = stop.clone();
        let signals = async move {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            stopping.cancel();
        };
        tokio::join!(web::serve(listener, router, stop), signals);
        Ok(())
    }
}

/// Keeps the state in its file, and evidence beside it.
struct Keeper {
    path: PathBuf,
    key: String,
}

impl Persist for Keeper {
    fn persist(&self, state: &State) -> io::Result<()> {
        let file = File { key: self.key.clone(), state: state.clone() };
        file.write(&self.path).map_err(|failure| io::Error::other(failure.to_string()))
    }

    /// One file of evidence: the first fork convicts, and a log that goes on forking must not fill the disk.
    fn accuse(&self, request: &str, refusal: &Refusal) -> io::Result<()> {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(".evidence");
        let path = self.path.with_file_name(name);
        if path.exists() {
            return Ok(());
        }
        write_whole(&path, format!("{refusal}\n\n{request}").as_bytes(), 0o644)
    }
}
