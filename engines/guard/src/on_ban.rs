//! The program of the policy that is told of bans and of their ends, `on_ban`.
//!
//! **Problem.** What the program drives (a firewall elsewhere, an interface of a provider) is to agree with the bans of this host.
//! It is slow, fails, and is in the middle of something when the agent stops; a call that is lost or overtaken leaves somebody
//! banned there for ever. **Principle.** Nothing is handed on as it happens. Of each network and rule there is what the program was
//! [`Told`] last, and what is so; where they differ it is run, until they agree. So a burst waits instead of being dropped, and a
//! ban that ended before anything was said of it needs no run.
//!
//! **Order.** One run at a time for a network, at most [`RUNS_MAX`] in all. **File.** `on_ban.log`, beside the bans, a
//! checked line for each change. That a run begins is written down before it does, as [`Told::Unclear`]: what was under way when
//! the process ended is done again, so the program is told at least once, and the last thing that it is told is so.
//! **Bound.** There are as many entries as there are bans that are in force, or of whose end the program was not told yet.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine::{Context, EngineError, Program, ProgramError};
use event::{Clock, Monotonic, Span};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};

use crate::act::{History, shown};
use crate::checked_line;
use crate::events::Acted;

const FILE: &str = "on_ban.log";
const FILE_NEXT: &str = "on_ban.log.next";
/// Most bytes of a line.
const LINE_BYTES_MAX: u64 = 4096;
/// Most runs at a time, and the longest.
const RUNS_MAX: usize = 32;
const RUN_MAX: Span = Span::from_secs(10);
/// How often a run that failed is tried in all, and how long is waited before the second time, doubling, and at most.
const TRIES_MAX: u32 = 10;
const WAIT: Span = Span::from_secs(1);
const WAIT_MAX: Span = Span::from_secs(300);
/// How often all bans are compared with what the program was told.
const COMPARE_EVERY: Span = Span::from_secs(60);
/// How often it is looked whether somebody has waited for long enough.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Lines beyond twice those that are needed, at which the file is written anew.
const SPARE_LINES: usize = 4096;
/// Most runs that fail that a status names.
const SHOWN_MAX: usize = 10;

/// What is said where runs have failed for [`TRIES_MAX`] times.
const GIVEN_UP: &str = "the program failed again and again, and is not told of some bans or of their ends any more: \
                        `garant guard status` says of which and why, and `garant guard reload` tries again";

/// What the program is told of: what is held back, by which rule.
type Key = (IpNet, String);

/// What the program was told last of a network and rule; of one that it was told nothing of, or its end, there is none.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
enum Told {
    /// A ban.
    Banned,
    /// Nobody knows: a run has begun, and has failed or not ended.
    Unclear,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// The program that the lines behind this one are of.
    Program(PathBuf),
    /// What it was told last.
    Told { network: IpNet, rule: String, told: Option<Told> },
}

/// Why something is told once more, or not any more.
#[derive(Clone, Debug)]
struct Failed {
    action: &'static str,
    tries: u32,
    reason: String,
}

/// What the program was told, and what it is to be told.
#[derive(Default)]
struct State {
    told: BTreeMap<Key, Told>,
    /// What is to be looked at, with its place in the order.
    waiting: BTreeMap<Key, (Monotonic, u64)>,
    order: BTreeMap<(Monotonic, u64), Key>,
    under_way: BTreeSet<IpNet>,
    failed: BTreeMap<Key, Failed>,
    places: u64,
    /// Why the program can't be run, as its file shows; `None` while it shows nothing of the kind.
    not_runnable: Option<String>,
    /// Why the file can't be written; `None` while it can.
    unwritten: Option<String>,
}

impl State {
    /// Has it looked at from then on.
    fn wait(&mut self, key: Key, from: Monotonic) {
        self.places += 1;
        let place = (from, self.places);
        if let Some(before) = self.waiting.insert(key.clone(), place) {
            self.order.remove(&before);
        }
        self.order.insert(place, key);
    }

    /// The run that is to begin next, if one is: whom, and with which word.
    fn next(&mut self, now: Monotonic, is_banned: &impl Fn(&Key) -> bool) -> Option<(Key, &'static str)> {
        loop {
            let mut due = self.order.range(..=(now, u64::MAX));
            let (place, key) = due.find(|(_, key)| !self.under_way.contains(&key.0))?;
            let (place, key) = (*place, key.clone());
            self.order.remove(&place);
            self.waiting.remove(&key);
            if let Some(action) = self.due(&key, is_banned) {
                self.under_way.insert(key.0);
                return Some((key, action));
            }
        }
    }

    /// What is to be said of it; nothing where the program knows.
    fn due(&self, key: &Key, is_banned: &impl Fn(&Key) -> bool) -> Option<&'static str> {
        match (is_banned(key), self.told.get(key)) {
            (true, Some(Told::Banned)) | (false, None) => None,
            (true, _) => Some("ban"),
            (false, _) => Some("unban"),
        }
    }

    fn tell(&mut self, key: &Key, told: Option<Told>) {
        match told {
            Some(told) => _ = self.told.insert(key.clone(), told),
            None => _ = self.told.remove(key),
        }
    }
}

/// The program of the policy, and who runs it. It ends with this.
pub(crate) struct OnBan {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
    clock: Arc<dyn Clock>,
    work: JoinSet<Result<(), EngineError>>,
}

impl OnBan {
    /// Goes on where the last one stopped. A program that is named anew is told of all bans that are in force; without one, what
    /// was told is forgotten. Without bans nobody is banned, as in simulation.
    pub(crate) async fn start(
        program: Option<PathBuf>,
        folder: &Path,
        bans: Option<History>,
        context: &Context,
    ) -> Result<Self, EngineError> {
        let (state, changed) = (Arc::new(Mutex::new(State::default())), Arc::new(Notify::new()));
        let mut work = JoinSet::new();
        let folder = folder.to_owned();
        let opened = tokio::task::spawn_blocking(move || Notes::open(&folder, program)).await?;
        if let Some((notes, told)) = opened {
            lock(&state).told = told;
            let runs = Runs {
                state: Arc::clone(&state),
                changed: Arc::clone(&changed),
                bans,
                context: context.clone(),
                notes: Arc::new(Mutex::new(notes)),
            };
            work.spawn(runs.run());
        }
        Ok(Self { state, changed, clock: Arc::clone(&context.clock), work })
    }

    /// Tells the program that was named last that nobody is banned any more, where nothing names one: there is no guard.
    pub(crate) async fn end_all(folder: &Path, context: &Context) -> Result<Self, EngineError> {
        let path = folder.join(FILE);
        let program = tokio::task::spawn_blocking(move || last_program(&path)).await?;
        Self::start(program, folder, None, context).await
    }

    /// A ban of this has begun or ended.
    pub(crate) fn changed(&self, network: IpNet, rule: &str) {
        if self.work.is_empty() {
            return;
        }
        let mut state = lock(&self.state);
        let key = (network, rule.to_owned());
        // What is to be said now may be something else than what has failed.
        state.failed.remove(&key);
        state.wait(key, self.clock.monotonic());
        self.changed.notify_one();
    }

    /// Waits until nobody runs the program any more: for ever, unless that failed.
    pub(crate) async fn ended(&mut self) -> Result<Result<(), EngineError>, JoinError> {
        match self.work.join_next().await {
            Some(ended) => ended,
            None => std::future::pending().await,
        }
    }

    /// Why bans or their ends are not told any more, or will not be; `None` while nothing is the matter.
    pub(crate) fn trouble(&self) -> Option<String> {
        let state = lock(&self.state);
        if let Some(reason) = &state.not_runnable {
            return Some(format!("the program can't be run, and is told of nothing: {reason}"));
        }
        state.failed.values().any(|failed| failed.tries >= TRIES_MAX).then(|| GIVEN_UP.to_owned())
    }

    /// How it stands, for people.
    pub(crate) fn status(&self) -> serde_json::Value {
        let state = lock(&self.state);
        let failed = state.failed.iter().take(SHOWN_MAX).map(|((network, rule), failed)| {
            json!({
                "action": failed.action,
                "address": shown(*network),
                "rule": rule,
                "tries": failed.tries,
                "reason": failed.reason,
                "given_up": failed.tries >= TRIES_MAX,
            })
        });
        json!({
            "waiting": state.waiting.len(),
            "under_way": state.under_way.len(),
            "failing": state.failed.len(),
            "failed": failed.collect::<Vec<_>>(),
            "not_runnable": state.not_runnable,
            "unwritten": state.unwritten,
        })
    }

    /// Ends what is under way; the next one does it again.
    pub(crate) async fn stop(mut self) {
        self.work.shutdown().await;
    }
}

/// Why this host can't run a program, as its file shows: a policy is checked with it, and a program that is not there is said before
/// the first ban. Blocks for the disk.
pub(crate) fn not_runnable(program: &Path) -> Option<String> {
    let reason = match std::fs::metadata(program) {
        Ok(file) if !file.is_file() => "it is no file".to_owned(),
        Ok(file) if file.permissions().mode() & 0o111 == 0 => "nobody may execute it: `chmod +x` it".to_owned(),
        Ok(_) => return None,
        Err(error) if error.kind() == io::ErrorKind::NotFound => "it is not there".to_owned(),
        Err(error) => error.to_string(),
    };
    Some(format!("{}: {reason}", program.display()))
}

fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who runs the program.
struct Runs {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
    /// Who is banned; nobody without it.
    bans: Option<History>,
    context: Context,
    notes: Arc<Mutex<Notes>>,
}

impl Runs {
    async fn run(self) -> Result<(), EngineError> {
        let program = lock(&self.notes).program.clone();
        let mut runs: JoinSet<(Key, &'static str, Option<String>)> = JoinSet::new();
        let mut compared_at: Option<Monotonic> = None;
        loop {
            let now = self.context.clock.monotonic();
            if compared_at.is_none_or(|at| now.since(at) >= COMPARE_EVERY) {
                compared_at = Some(now);
                self.compare(now, &program).await?;
            }
            let mut begun = Vec::new();
            while runs.len() + begun.len() < RUNS_MAX {
                let Some(next) = lock(&self.state).next(now, &|key| self.is_banned(key)) else { break };
                begun.push(next);
            }
            self.note(begun.iter().map(|(key, _)| (key.clone(), Some(Told::Unclear))).collect()).await?;
            for (key, action) in begun {
                let (programs, path) = (Arc::clone(&self.context.programs), program.clone());
                runs.spawn(async move {
                    let arguments = [action, &shown(key.0), &key.1];
                    let program = Program::at("the program of on_ban", path.clone());
                    let program = program.args(arguments).ends_alone().deadline(RUN_MAX);
                    let failed = programs.run(&program).await.err().map(|error| match error {
                        ProgramError::Missing(_) => {
                            format!("{} is not there, or what its first line names is not", path.display())
                        }
                        error => error.to_string(),
                    });
                    (key, action, failed)
                });
            }
            tokio::select! {
                Some(ended) = runs.join_next() => {
                    let mut all = vec![ended?];
                    while let Some(ended) = runs.try_join_next() {
                        all.push(ended?);
                    }
                    self.ended(all).await?;
                }
                () = self.changed.notified() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    fn is_banned(&self, (network, rule): &Key) -> bool {
        self.bans.as_ref().is_some_and(|bans| bans.holds_back(*network, rule))
    }

    /// Compares all bans with what the program was told, and looks whether it can be run at all.
    async fn compare(&self, now: Monotonic, program: &Path) -> Result<(), EngineError> {
        let (bans, state) = (self.bans.clone(), Arc::clone(&self.state));
        let program = program.to_owned();
        let work = move || {
            let not_runnable = not_runnable(&program);
            let banned = bans.as_ref().map(History::held_back).unwrap_or_default();
            let mut state = lock(&state);
            state.not_runnable = not_runnable;
            let ended = state.told.keys().filter(|key| !banned.contains(*key)).cloned();
            let begun = banned.iter().filter(|key| state.told.get(*key) != Some(&Told::Banned)).cloned();
            let mut differ: Vec<Key> = ended.chain(begun).collect();
            differ.retain(|key| {
                !state.waiting.contains_key(key) && !state.under_way.contains(&key.0) && !state.failed.contains_key(key)
            });
            for key in differ {
                state.wait(key, now);
            }
        };
        Ok(tokio::task::spawn_blocking(work).await?)
    }

    /// Takes in what became of runs.
    async fn ended(&self, runs: Vec<(Key, &'static str, Option<String>)>) -> Result<(), EngineError> {
        let mut told = Vec::new();
        for ((network, rule), action, failed) in &runs {
            let (address, rule) = (shown(*network), rule.clone());
            if let Some(reason) = failed {
                tracing::warn!(address, rule, action, "the program of `on_ban` failed: {reason}");
            } else {
                let now = (*action == "ban").then_some(Told::Banned);
                told.push(((*network, rule.clone()), now));
            }
            let acted = Acted { action: (*action).to_owned(), address, rule, failed: failed.clone() };
            self.context.recorder.record(&acted).await?;
        }
        self.note(told).await?;
        let now = self.context.clock.monotonic();
        let mut state = lock(&self.state);
        for (key, action, failed) in runs {
            state.under_way.remove(&key.0);
            // It may have changed meanwhile, and then it waits already.
            let is_changed = state.waiting.contains_key(&key);
            match failed {
                Some(reason) if !is_changed => {
                    let tries = state.failed.get(&key).map_or(0, |before| before.tries) + 1;
                    state.failed.insert(key.clone(), Failed { action, tries, reason });
                    if tries < TRIES_MAX {
                        let doubled = WAIT.micros().saturating_mul(1 << tries.saturating_sub(1).min(20));
                        let wait = Span::from_micros(doubled.min(WAIT_MAX.micros()));
                        state.wait(key, Monotonic(now.0.saturating_add(wait.micros())));
                    }
                }
                Some(_) => {}
                None => {
                    state.failed.remove(&key);
                    state.wait(key, now);
                }
            }
        }
        Ok(())
    }

    /// Writes down what the program was told. Where it can't be, it is as soon as there is room: after a kill before that, more is
    /// told once more.
    async fn note(&self, told: Vec<(Key, Option<Told>)>) -> Result<(), EngineError> {
        if told.is_empty() && lock(&self.state).unwritten.is_none() {
            return Ok(());
        }
        let (notes, state) = (Arc::clone(&self.notes), Arc::clone(&self.state));
        let work = move || {
            let mut notes = lock(&notes);
            let lines: Vec<Line> = told
                .iter()
                .map(|((network, rule), told)| Line::Told { network: *network, rule: rule.clone(), told: *told })
                .collect();
            let all = {
                let mut state = lock(&state);
                for (key, told) in &told {
                    state.tell(key, *told);
                }
                notes.is_to_be_written_anew(state.told.len()).then(|| state.told.clone())
            };
            let written = match all {
                Some(all) => notes.rewrite(&all),
                None => notes.append(&lines),
            };
            if let Err(error) = &written {
                tracing::warn!(%error, "what the program of `on_ban` was told can't be written down yet");
            }
            lock(&state).unwritten =
                written.err().map(|error| format!("{}: {error}", notes.folder.join(FILE).display()));
        };
        Ok(tokio::task::spawn_blocking(work).await?)
    }
}

/// The file of what the program was told. Its methods block for the disk.
struct Notes {
    folder: PathBuf,
    program: PathBuf,
    /// The file, and how many lines it has; none where it is to be written whole first.
    file: Option<(File, usize)>,
}

impl Notes {
    /// The file and what is in it of this program; nothing, and no file, without a program.
    fn open(folder: &Path, program: Option<PathBuf>) -> Option<(Self, BTreeMap<Key, Told>)> {
        let path = folder.join(FILE);
        let Some(program) = program else {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(%error, "what an earlier program of `on_ban` was told can't be forgotten");
                }
                _ => {}
            }
            return None;
        };
        let told = match read(&path, &program) {
            Ok((told, 0)) => told,
            Ok((told, damaged)) => {
                tracing::error!(damaged, file = %path.display(), "lines can't be read: the program of `on_ban` is told of some bans once more");
                told
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => {
                tracing::error!(%error, file = %path.display(), "it can't be read: the program of `on_ban` is told of all bans once more");
                BTreeMap::new()
            }
        };
        let mut notes = Self { folder: folder.to_owned(), program, file: None };
        if let Err(error) = notes.rewrite(&told) {
            tracing::warn!(%error, "what the program of `on_ban` was told can't be written down yet");
        }
        Some((notes, told))
    }

    fn is_to_be_written_anew(&self, needed: usize) -> bool {
        self.file.as_ref().is_none_or(|(_, lines)| *lines > 2 * needed + SPARE_LINES)
    }

    /// Appends lines and writes them through.
    fn append(&mut self, lines: &[Line]) -> io::Result<()> {
        let Some((file, count)) = &mut self.file else {
            return Err(io::Error::other("there is no room for it"));
        };
        let mut text = Vec::new();
        for line in lines {
            checked_line::write(line, &mut text);
        }
        if let Err(error) = file.write_all(&text).and_then(|()| file.sync_data()) {
            // What is known is written anew, whole.
            self.file = None;
            return Err(error);
        }
        *count += lines.len();
        Ok(())
    }

    /// Writes all that is known beside the file, and puts it in its place.
    fn rewrite(&mut self, told: &BTreeMap<Key, Told>) -> io::Result<()> {
        self.file = None;
        let (path, next) = (self.folder.join(FILE), self.folder.join(FILE_NEXT));
        match std::fs::remove_file(&next) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut text = Vec::new();
        checked_line::write(&Line::Program(self.program.clone()), &mut text);
        for ((network, rule), told) in told {
            let line = Line::Told { network: *network, rule: rule.clone(), told: Some(*told) };
            checked_line::write(&line, &mut text);
        }
        let mut file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&next)?;
        file.write_all(&text)?;
        file.sync_all()?;
        std::fs::rename(&next, &path)?;
        store::sync_folder(&path)?;
        self.file = Some((file, told.len() + 1));
        Ok(())
    }
}

/// The program that the file is of, if there is one and it can be read.
fn last_program(path: &Path) -> Option<PathBuf> {
    let mut reader = BufReader::new(File::open(path).ok()?);
    let (mut program, mut bytes) = (None, Vec::new());
    loop {
        bytes.clear();
        if (&mut reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes).ok()? == 0 {
            return program;
        }
        if let Some(Line::Program(of)) = checked_line::parse(&bytes) {
            program = Some(of);
        }
    }
}

/// What the file says that this program was told, and how many of its lines can't be read.
fn read(path: &Path, program: &Path) -> io::Result<(BTreeMap<Key, Told>, usize)> {
    let mut reader = BufReader::new(File::open(path)?);
    let (mut all, mut damaged, mut is_of_it, mut bytes) = (State::default(), 0, false, Vec::new());
    loop {
        bytes.clear();
        if (&mut reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes)? == 0 {
            return Ok((all.told, damaged));
        }
        match checked_line::parse(&bytes) {
            Some(Line::Program(of)) => is_of_it = of == program,
            Some(Line::Told { network, rule, told }) if is_of_it => all.tell(&(network, rule), told),
            Some(Line::Told { .. }) => {}
            None => damaged += 1,
        }
    }
}
