//! `garant witness`: a witness of other people's logs, which remembers their checkpoints and cosigns those that continue them.
//!
//! One small file holds its key and, per log, the last checkpoint that it cosigned. It is written before each answer. A
//! witness that forgets is worth nothing: never put an old copy of the file back; retire the witness and make another.
//! Beside it lie a lock, and what convicts a log of having signed two histories, if one did.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use engine::clock::SystemClock;
use engine::random::SystemRandom;
use engine::{CancellationToken, Random as _};
use journal::note::{KeyType, SigningKey, VerifierKey};
use journal::witness::{Fork, WitnessState, checkpoint_path};
use serde::{Deserialize, Serialize};
use store::write_whole;
use web::witness::Persist;

use crate::cli::runtime;
use crate::failure::{Failure, USAGE};
use crate::signals::StopSignals;
use crate::terminal::Terminal;

/// Most pieces of evidence kept against one log.
const EVIDENCE_MAX: u32 = 4;

#[derive(Subcommand, Debug)]
pub(crate) enum WitnessCommand {
    /// Make a witness: its state file and its key. Prints the key that logs and readers need
    Init(WitnessInitCommand),
    /// Cosign the checkpoints of the logs that are given or known (C2SP tlog-witness)
    Serve(ServeCommand),
}

#[derive(Args, Debug)]
pub(crate) struct WitnessInitCommand {
    /// The state file to make
    #[arg(long, value_name = "FILE")]
    state: PathBuf,

    /// Name of the witness, such as witness.example: part of its key, and of every cosignature
    #[arg(long)]
    name: String,

    /// Write the result as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ServeCommand {
    /// The state file
    #[arg(long, value_name = "FILE")]
    state: PathBuf,

    /// Where to listen
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8482")]
    listen: SocketAddr,

    /// Key of a log to cosign for; may be given several times, and is remembered. The keys given for a log are from then on
    /// all that count for it: give both while it replaces its key, and the new one alone afterwards
    #[arg(long = "log", value_name = "KEY")]
    logs: Vec<String>,

    /// Origin of a log to cosign for no longer, such as shop.example/1; may be given several times. What was cosigned of it
    /// stays remembered
    #[arg(long, value_name = "ORIGIN")]
    forget: Vec<String>,

    /// Write one line of JSON with the URL and the keys once it listens
    #[arg(long)]
    json: bool,
}

/// Contents of the state file: the key of the witness, and what it cosigned.
#[derive(Serialize, Deserialize)]
struct StateFileContent {
    key: String,
    #[serde(flatten)]
    state: WitnessState,
}

impl WitnessCommand {
    pub(crate) fn run(self, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        match self {
            Self::Init(command) => command.run(terminal),
            Self::Serve(command) => command.run(terminal),
        }
    }
}

impl WitnessInitCommand {
    fn run(self, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        let mut seed = [0; 32];
        SystemRandom.fill(&mut seed);
        let key = SigningKey::generate(seed, &self.name).map_err(|error| {
            Failure::new(format!("`{}` can't be the name of a witness", self.name))
                .because(&error)
                .remedy("take a domain of yours, such as witness.example")
                .code(USAGE)
        })?;
        if self.state.exists() {
            return Err(Failure::new(format!("{} is there already", self.state.display()))
                .remedy("a witness must not forget: name another file for another witness"));
        }
        StateFileContent { key: key.to_text(), state: WitnessState::default() }
            .write(&self.state)
            .map_err(|failure| failure.remedy("name a file in a directory that is there and that you may write"))?;
        if self.json {
            let vkey = key.cosigner_vkey().to_string();
            terminal.json(&serde_json::json!({ "name": self.name, "vkey": vkey, "state": self.state }));
        } else {
            terminal.line(key.cosigner_vkey());
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl StateFileContent {
    fn read(path: &Path) -> Result<Self, Failure> {
        use std::os::unix::fs::PermissionsExt as _;
        let failed = |error: &(dyn std::error::Error + 'static)| {
            Failure::new(format!("the state of the witness, {}, can't be read", path.display())).because(error)
        };
        let text = fs::read(path).map_err(|error| {
            failed(&error).remedy(match error.kind() {
                io::ErrorKind::NotFound => "correct the path, or make a witness with `garant witness init`",
                _ => "run garant as the user that owns it",
            })
        })?;
        let mode = fs::metadata(path).map_err(|error| failed(&error))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(Failure::new(format!("{} can be read by others than its owner", path.display())).remedy(
                format!(
                    "it holds the key: retire the witness if others may have read it, else `chmod 600 {}`",
                    path.display()
                ),
            ));
        }
        serde_json::from_slice(&text).map_err(|error| {
            failed(&error).remedy(
                "this is no state file, or it is damaged. Don't put an old copy back: retire this witness and make another",
            )
        })
    }

    fn write(&self, path: &Path) -> Result<(), Failure> {
        let failed = |error: &(dyn std::error::Error + 'static)| {
            Failure::new(format!("the state of the witness can't be written to {}", path.display())).because(error)
        };
        let text = serde_json::to_vec_pretty(self).map_err(|error| failed(&error))?;
        write_whole(path, &text, 0o600).map_err(|error| failed(&error))
    }
}

impl ServeCommand {
    fn run(self, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        let keys: Vec<VerifierKey> = self.logs.iter().map(|log| log_key(log)).collect::<Result<_, _>>()?;
        // Before the lock: a path that was mistyped must leave nothing behind.
        StateFileContent::read(&self.state)?;
        let lock = self.lock()?;
        let mut file = StateFileContent::read(&self.state)?;
        let key = SigningKey::from_text(&file.key)
            .map_err(|error| Failure::new("the key of the witness can't be read").because(&error))?;
        file.state.trust_only(&keys);
        for origin in &self.forget {
            if !file.state.distrust(origin) {
                return Err(Failure::new(format!("no log `{origin}` is known to this witness"))
                    .remedy("write its origin, the part of its key before the first `+`")
                    .code(USAGE));
            }
        }
        if file.state.logs.values().all(|log| log.keys.is_empty()) {
            return Err(Failure::new("there is no log to cosign for").remedy("name one with --log KEY").code(USAGE));
        }
        runtime()?.block_on(self.serve(file, key, terminal))?;
        drop(lock);
        Ok(ExitCode::SUCCESS)
    }

    /// Locks the state: two processes on it would each forget what the other cosigned.
    fn lock(&self) -> Result<fs::File, Failure> {
        let path = beside(&self.state, ".lock");
        let failed = || Failure::new(format!("{} can't be locked", path.display()));
        let mut options = fs::OpenOptions::new();
        // A link that somebody put there is not followed, and nothing is emptied.
        let no_follow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
        options.write(true).create(true).truncate(false).mode(0o600).custom_flags(no_follow);
        let file = options.open(&path).map_err(|error| {
            failed().because(&error).remedy("run garant as the user that owns the state file and may write beside it")
        })?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(fs::TryLockError::WouldBlock) => {
                Err(Failure::new(format!("another process serves the witness of {}", self.state.display()))
                    .remedy("stop that one first, or give this one a state file of its own with `garant witness init`"))
            }
            Err(fs::TryLockError::Error(error)) => {
                Err(failed().because(&error).remedy("put the state file on a file system that knows locks"))
            }
        }
    }

    async fn serve(&self, file: StateFileContent, key: SigningKey, terminal: &mut Terminal) -> Result<(), Failure> {
        let refused = |error: &(dyn std::error::Error + 'static)| {
            Failure::new(format!("nothing can listen on {}", self.listen))
                .because(error)
                .remedy("name another address with --listen")
        };
        #[expect(clippy::disallowed_methods, reason = "this is where the witness starts")]
        let listener = tokio::net::TcpListener::bind(self.listen).await.map_err(|error| refused(&error))?;
        let address = listener.local_addr().map_err(|error| refused(&error))?;
        let mut signals = StopSignals::taken(Arc::new(SystemClock))?;
        file.write(&self.state)?;
        for (origin, log) in &file.state.logs {
            let keys: Vec<_> = log.keys.iter().map(VerifierKey::key_id_hex).collect();
            let keys =
                if keys.is_empty() { "no longer cosigned".to_owned() } else { format!("keys {}", keys.join(", ")) };
            terminal.note(format!("{origin}: {} entries cosigned; {keys}", log.size));
        }
        let count = file.state.logs.values().filter(|log| !log.keys.is_empty()).count();
        if self.json {
            let vkey = key.cosigner_vkey().to_string();
            let url = format!("http://{address}/");
            terminal.json(&serde_json::json!({ "ready": true, "url": url, "vkey": vkey, "logs": count }));
        } else {
            terminal.line(format!("{} cosigns for {count} logs at http://{address}/", key.cosigner_vkey()));
        }
        let keeper = StateFile { path: self.state.clone(), key: file.key };
        let witness = web::witness::Witness::new(key, file.state, Arc::new(keeper), Arc::new(SystemClock));
        let router = web::witness::router(Arc::new(witness));
        let connections = engine::descriptors::public_connections(engine::descriptors::limit());
        let stop = CancellationToken::new();
        // The first signal lets answers under way end; the second ends the process at once.
        let signals = async {
            signals.next().await;
            stop.cancel();
            signals.next().await
        };
        tokio::select! {
            () = web::serve(listener, router, stop.clone(), connections) => {}
            _ = signals => {}
        }
        Ok(())
    }
}

fn log_key(text: &str) -> Result<VerifierKey, Failure> {
    let failed = || Failure::new(format!("`{text}` is not the key of a log")).code(USAGE);
    let key: VerifierKey = text.parse().map_err(|error| failed().because(&error))?;
    if key.key_type() == KeyType::Ed25519 {
        Ok(key)
    } else {
        Err(failed().remedy("this is the key of a witness: take the one in the file `vkey` of the log"))
    }
}

/// `path` with `suffix` behind its name.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

/// Persists the state of the witness in its file, and evidence beside it.
struct StateFile {
    path: PathBuf,
    key: String,
}

impl Persist for StateFile {
    fn persist(&self, state: &WitnessState) -> io::Result<()> {
        let file = StateFileContent { key: self.key.clone(), state: state.clone() };
        file.write(&self.path).map_err(|failure| io::Error::other(failure.to_string()))
    }

    /// Writes the evidence beside the state, a few files for each log: the first fork convicts, and a log that goes on
    /// forking must not fill the disk nor take the place of the evidence against another.
    fn accuse(&self, fork: &Fork) -> io::Result<()> {
        let text = fork.to_string();
        let log = checkpoint_path(&fork.origin).get(..16).unwrap_or_default().to_owned();
        for number in 1..=EVIDENCE_MAX {
            let path = beside(&self.path, &format!(".evidence-{log}-{number}"));
            match fs::read(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return write_whole(&path, text.as_bytes(), 0o644);
                }
                Err(error) => return Err(error),
                Ok(before) if before == text.as_bytes() => return Ok(()),
                Ok(_) => {}
            }
        }
        Ok(())
    }
}
