//! The engine: follows the desired state, starts the work on each backup, and says how it stands.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use engine::door::{Door, Order, Orders, Reply};
use engine::{BoxFuture, CancellationToken, Context, DesiredState, Engine, EngineError};
use event::{FindingId, ProbeId, Span, Time};
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use crate::abilities;
use crate::board::Board;
use crate::config::{
    BACKUP_DAMAGED, BACKUP_FAILING, COPIES_TOGETHER, COPIES_UNEQUAL, COPY_ELSEWHERE, Desired, Kind, LOG_BROKEN,
    Settings,
};
use crate::door::{self, Wish};
use crate::elsewhere::Elsewhere;
use crate::events::Detail;
use crate::failed::FailedInstants;
use crate::figures::Figures;
use crate::files::Lease;
use crate::files_job::FilesJob;
use crate::inspection::{Inspection, Inspector, Of, PARTS};
use crate::job::{Job, read_time};
use crate::open::{key, open};
use crate::pace::Pace;
use crate::residency;
use crate::sealed::{Levelled, Repository, RepositoryError};
use crate::slots;
use crate::sources;
use crate::statement::{Said, Seen, Statement};

/// How often the board is looked at.
const TURN: Duration = Duration::from_secs(5);
/// How often the copies are compared, and what one lacks is brought to it.
const LEVEL_EVERY: Duration = Duration::from_mins(15);
/// How soon again where a copy did not answer, so that nobody who has mended it waits to see it.
const LEVEL_AGAIN: Duration = Duration::from_mins(2);
/// How long a repository that can't be opened is left alone.
const OPEN_AGAIN: Span = Span::from_secs(30);
/// The file that says when the repository key was last shown to be kept elsewhere.
const KEY_SHOWN: &str = "key-shown";
/// How often it is looked whether the repository key is still where the policy says.
const KEY_LOOKED_AT_EVERY: Span = Span::from_secs(60);
/// How long that counts.
const KEY_SHOWN_FOR: Span = Span::from_days(366);

/// The engine.
pub struct Backup {
    desired: DesiredState,
    state: PathBuf,
    orders: Orders<Wish>,
    board: Arc<Board>,
}

impl Backup {
    /// The engine, which keeps its own state in this directory.
    pub fn new(desired: DesiredState, state: PathBuf) -> Self {
        Self { desired, state, orders: Orders::default(), board: Arc::default() }
    }

    /// Its figures.
    pub fn figures(&self) -> Arc<Figures> {
        Arc::new(Figures(Arc::clone(&self.board)))
    }

    /// Its door.
    pub fn door(&self) -> impl Door + use<> {
        self.orders.door(door::MOUNT, door::wish, door::LOST)
    }

    async fn backup(&self, context: Context) -> Result<(), EngineError> {
        let mut orders = self.orders.queue().await;
        let mut desired = self.desired.clone();
        // What is done while no backup is wanted.
        let mut idle = JoinSet::new();
        let mut tick = tokio::time::interval(TURN);
        loop {
            let Some(wanted) = desired.current::<Desired>()? else {
                self.board.clear();
                // A state that is lost says nothing of what has left the policy.
                if idle.is_empty() && desired.is_told() {
                    let (state, board) = (self.state.clone(), Arc::clone(&self.board));
                    idle.spawn(slots::tend(state, Vec::new(), board, context.clone()));
                }
                tokio::select! {
                    () = context.stop.cancelled() => return Ok(()),
                    _ = tick.tick() => context.progress.tick(),
                    () = desired.changed() => {}
                    Some((_, answer)) = orders.recv() => {
                        let words = "no policy with [backup] is followed on this host: nothing is backed up".to_owned();
                        let words = [vec![words], self.board.left_slots()].concat().join("; ");
                        drop(answer.send(Reply::error(409, &words)));
                    }
                }
                continue;
            };
            idle.shutdown().await;
            let mut session = Session::begin(self, &context, wanted);
            let ends = session.run(&mut orders, &mut desired).await?;
            session.end().await?;
            if ends {
                return Ok(());
            }
        }
    }
}

impl Engine for Backup {
    fn name(&self) -> &'static str {
        crate::NAME
    }

    fn stop_order(&self) -> u8 {
        4
    }

    fn run(&self, context: Context) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(self.backup(context))
    }
}

/// The time of one desired state.
struct Session<'a> {
    engine: &'a Backup,
    context: &'a Context,
    settings: Settings,
    /// The revision of the policy that they are of.
    revision: String,
    statement: Statement,
    /// Why the repository can't be opened.
    closed: Option<String>,
    open_at: Option<Time>,
    repository: Option<Arc<Repository>>,
    /// Why the key that is in use could not be read again.
    key_lost: Option<String>,
    key_looked_at: Time,
    work: JoinSet<()>,
    /// The copies that do not burn with this host.
    elsewhere: Arc<Elsewhere>,
    jobs: Vec<Arc<Job>>,
    file_jobs: Vec<Arc<FilesJob>>,
    stop: CancellationToken,
}

impl<'a> Session<'a> {
    fn begin(engine: &'a Backup, context: &'a Context, desired: Desired) -> Self {
        engine.board.configure(&desired.settings);
        Self {
            engine,
            context,
            settings: desired.settings,
            revision: desired.revision.clone(),
            statement: Statement::new(desired.revision, context.clock.now()),
            closed: None,
            open_at: Some(context.clock.now()),
            repository: None,
            key_lost: None,
            key_looked_at: context.clock.now(),
            work: JoinSet::new(),
            elsewhere: Arc::default(),
            jobs: Vec::new(),
            file_jobs: Vec::new(),
            stop: context.stop.child_token(),
        }
    }

    /// Runs until something else is desired, or the engine is to stop: then it returns `true`.
    async fn run(
        &mut self,
        orders: &mut mpsc::Receiver<Order<Wish>>,
        desired: &mut DesiredState,
    ) -> Result<bool, EngineError> {
        let mut tick = tokio::time::interval(TURN);
        let (state, board) = (self.engine.state.clone(), Arc::clone(&self.engine.board));
        let context = Context { stop: self.stop.clone(), ..self.context.clone() };
        self.work.spawn(slots::tend(state, self.settings.postgres.clone(), board, context));
        loop {
            tokio::select! {
                () = self.context.stop.cancelled() => return Ok(true),
                () = desired.changed() => {
                    // A server that attaches says again what is known: a base that is being taken, or was asked for, goes on.
                    let wanted = desired.current::<Desired>()?;
                    if wanted.is_none_or(|it| it.settings != self.settings || it.revision != self.revision) {
                        return Ok(false);
                    }
                }
                _ = tick.tick() => {
                    self.context.progress.tick();
                    self.open_when_due().await;
                    self.look_at_key().await;
                    self.look_at_copies();
                    self.say().await?;
                }
                Some(ended) = self.work.join_next() => {
                    // Its loops end when they are told to, and never else.
                    if let Err(error) = ended {
                        return Err(EngineError::new(format!("the work on a backup has ended: {error}")));
                    }
                }
                Some((wish, answer)) = orders.recv() => drop(answer.send(self.answer(&wish).await)),
            }
        }
    }

    /// Opens the repository and starts the work, where that is due.
    async fn open_when_due(&mut self) {
        let now = self.context.clock.now();
        if self.open_at.is_none_or(|at| now < at && at.since(now) <= OPEN_AGAIN) {
            return;
        }
        match open(&self.settings, self.context).await {
            Ok(repository) => {
                self.open_at = None;
                self.closed = None;
                self.elsewhere.look(&self.settings).await;
                repository.all_behind();
                self.start(&repository);
                self.repository = Some(repository);
            }
            Err(error) => {
                self.open_at = Some(now + OPEN_AGAIN);
                self.closed = Some(error.to_string());
                for (name, _, kinds) in self.settings.backups() {
                    for kind in kinds {
                        self.engine.board.failed(name, kind, error.to_string());
                    }
                }
            }
        }
    }

    /// Looks whether the key that is in use is still where the policy says: it is read when a repository is opened, and who has lost it
    /// since would learn so from the next start, or from a restore.
    async fn look_at_key(&mut self) {
        let (Some(repository), now) = (&self.repository, self.context.clock.now()) else { return };
        if self.key_looked_at <= now && now.since(self.key_looked_at) < KEY_LOOKED_AT_EVERY {
            return;
        }
        self.key_looked_at = now;
        let lost = match key(&self.settings, self.context).await {
            Ok(key) if key.identity() == repository.key().identity() => None,
            Ok(_) => Some(format!("the key in {} is another one", self.settings.key.secret())),
            Err(error) => Some(error.to_string()),
        };
        self.key_lost = lost.map(|why| {
            format!(
                "the repository key that is in use is lost here ({why}): put it back from where it is kept elsewhere. Without it no backup                  can be read, and none is taken after the next start"
            )
        });
    }

    fn start(&mut self, repository: &Arc<Repository>) {
        let context = Context { stop: self.stop.clone(), ..self.context.clone() };
        let pace = Arc::new(Pace::new(self.stop.clone()));
        let inspector = |name: &str, of: Of, work: &std::path::Path, base_now: &Arc<Notify>| Inspector {
            name: name.to_owned(),
            of,
            repository: Arc::clone(repository),
            board: Arc::clone(&self.engine.board),
            remembered: work.join("checked"),
            pace: Arc::clone(&pace),
            base_now: Arc::clone(base_now),
        };
        for (settings, database) in sources::databases(&self.settings, &self.engine.state) {
            let job = Arc::new(Job {
                database,
                repository: Arc::clone(repository),
                board: Arc::clone(&self.engine.board),
                elsewhere: Arc::clone(&self.elsewhere),
                restore_every: self.settings.restore_every,
                work: self.engine.state.join(&settings.name),
                base_now: Arc::default(),
                base_asked: Notify::new(),
                test_now: Notify::new(),
                log_of_base: std::sync::Mutex::default(),
                settings,
            });
            make_folder(&job.work);
            FailedInstants::read(&job.work).show(&self.engine.board, &job.settings.name);
            self.jobs.push(Arc::clone(&job));
            self.work.spawn(Arc::clone(&job).look(context.clone()));
            self.work.spawn(Arc::clone(&job).follow(context.clone()));
            self.work.spawn(Arc::clone(&job).bases(context.clone()));
            let inspector = inspector(&job.settings.name, Of::Database, &job.work, &job.base_now);
            self.work.spawn(inspector.tend(context.clone()));
            if let Some(canary) = job.settings.canary.clone() {
                self.work.spawn(Arc::clone(&job).canary(canary, context.clone()));
            }
            self.work.spawn(job.tests(context.clone()));
        }
        for settings in &self.settings.files {
            let job = Arc::new(FilesJob {
                files: sources::files(settings),
                repository: Arc::clone(repository),
                board: Arc::clone(&self.engine.board),
                elsewhere: Arc::clone(&self.elsewhere),
                restore_every: self.settings.restore_every,
                state: self.engine.state.clone(),
                work: self.engine.state.join(&settings.name),
                take_now: Arc::default(),
                test_now: Notify::new(),
                settings: settings.clone(),
            });
            make_folder(&job.work);
            FailedInstants::read(&job.work).show(&self.engine.board, &job.settings.name);
            self.file_jobs.push(Arc::clone(&job));
            self.work.spawn(Arc::clone(&job).take(context.clone()));
            let inspector = inspector(&job.settings.name, Of::Files(job.files.clone()), &job.work, &job.take_now);
            self.work.spawn(inspector.tend(context.clone()));
            self.work.spawn(job.tests(context.clone()));
        }
        let board = Arc::clone(&self.engine.board);
        self.work.spawn(reside(self.settings.clone(), Arc::clone(&board), context.clone()));
        self.work.spawn(try_out(self.settings.clone(), Arc::clone(&board), context.clone()));
        let elsewhere = (self.settings.clone(), Arc::clone(&self.elsewhere));
        let take = self.jobs.iter().map(|job| &job.base_now).chain(self.file_jobs.iter().map(|job| &job.take_now));
        let take = take.map(Arc::clone).collect();
        self.work.spawn(level(Arc::clone(repository), board, elsewhere, take, context));
    }

    /// Writes to the board which copies are left alone.
    fn look_at_copies(&self) {
        if let Some(repository) = &self.repository {
            let states = repository.states().into_iter().map(|copy| (copy.name, copy.is_away));
            self.engine.board.copies_are_away(states.collect());
        }
    }

    /// Says what has changed, and what was covered.
    async fn say(&mut self) -> Result<(), EngineError> {
        let seen = self.seen();
        let before = self.statement.open();
        let said = self.statement.turn(self.context.clock.now(), &seen);
        for succeeded in self.engine.board.take_unsaid() {
            self.context.recorder.record(&succeeded).await?;
        }
        let opened: Vec<(FindingId, ProbeId)> =
            self.statement.open().into_iter().filter(|finding| !before.contains(finding)).collect();
        self.record(said).await?;
        // Words are of a finding that is open: whoever reads them earlier does not know what they are of.
        for (finding, probe) in opened {
            if let Some(text) = self.words(&finding, &probe).filter(|text| !text.is_empty()) {
                self.context.recorder.record(&Detail { probe, finding: Some(finding), text }).await?;
            }
        }
        Ok(())
    }

    async fn record(&self, said: Said) -> Result<(), EngineError> {
        for changed in &said.changed {
            self.context.recorder.record(changed).await?;
        }
        for found in &said.found {
            self.context.recorder.record(found).await?;
        }
        if let Some(covered) = &said.covered {
            self.context.recorder.record(covered).await?;
        }
        Ok(())
    }

    fn seen(&self) -> Seen {
        let mut seen = Seen::default();
        let lines = self.engine.board.lines();
        let (copies_wrong, away) = (!self.copies_wrong().is_empty(), self.all_away());
        let (inspections, now) = (self.engine.board.inspections(), self.context.clock.now());
        let residency = self.engine.board.residency();
        let (elsewhere, together) =
            residency.as_ref().map_or((false, false), |seen| (!seen.elsewhere.is_empty(), !seen.together.is_empty()));
        let is_unknown = residency.as_ref().is_none_or(|seen| !seen.unknown.is_empty() && !elsewhere);
        for (name, service, kinds) in self.settings.backups() {
            for kind in kinds {
                let Some(probe) = kind.probe(name) else { continue };
                let Some(line) = lines.get(&(name.to_owned(), kind)) else { continue };
                let is_failing =
                    line.failing().is_some() || (kind == Kind::Log && away.is_some()) || self.key_lost.is_some();
                if is_failing || line.succeeded.is_some() {
                    seen.probes.push((probe.clone(), service.clone(), !is_failing));
                }
                // A gap may have been open before a restart: it is not over because nobody has looked yet.
                let is_broken = if kind == Kind::Log { self.engine.board.is_broken(name) } else { Some(false) };
                let inspection = inspections.get(name);
                let is_checked = inspection.is_some_and(|found| found.is_known(now));
                // The same of damage: whoever has not looked does not say that there is none.
                let is_damaged = match inspection.map(Inspection::is_well) {
                    _ if kind != Kind::Full => Some(false),
                    Some(false) => Some(true),
                    _ => is_checked.then_some(false),
                };
                let findings = [
                    (BACKUP_FAILING, Some(is_failing)),
                    (COPIES_UNEQUAL, Some(kind == Kind::Full && copies_wrong)),
                    (BACKUP_DAMAGED, is_damaged),
                    (COPY_ELSEWHERE, Some(kind == Kind::Full && elsewhere)),
                    (
                        COPIES_TOGETHER,
                        (kind != Kind::Full || residency.is_some()).then_some(kind == Kind::Full && together),
                    ),
                    (LOG_BROKEN, is_broken),
                ];
                if kind == Kind::Full
                    && !is_checked
                    && let Ok(finding) = BACKUP_DAMAGED.parse()
                {
                    seen.unknown.push((finding, probe.clone()));
                }
                if is_unknown
                    && kind == Kind::Full
                    && let Ok(finding) = COPY_ELSEWHERE.parse()
                {
                    seen.unknown.push((finding, probe.clone()));
                }
                for (finding, open) in findings {
                    let Ok(finding) = finding.parse() else { continue };
                    match open {
                        Some(open) => seen.findings.push((finding, probe.clone(), open)),
                        None => seen.unknown.push((finding, probe.clone())),
                    }
                }
            }
        }
        seen
    }

    /// What is wrong with the copies: how they differed when they were compared, and which of them did not take what was added last.
    fn copies_wrong(&self) -> Vec<String> {
        let mut wrong = self.engine.board.copies();
        wrong.extend(self.failing_copies());
        wrong
    }

    fn failing_copies(&self) -> Vec<String> {
        let states = self.repository.as_ref().map(|repository| repository.states()).unwrap_or_default();
        states.into_iter().filter_map(|state| Some(format!("{}: {}", state.name, state.error?))).collect()
    }

    /// Why nothing leaves this host, where no copy takes anything: a log that waits says nothing by itself.
    fn all_away(&self) -> Option<String> {
        let failing = self.failing_copies();
        (!failing.is_empty() && failing.len() == self.settings.copies.len())
            .then(|| format!("nothing leaves this host: {}", failing.join("; ")))
    }

    /// What is to be known of a log that would burn with this host.
    fn burns(&self, kind: Kind) -> Option<String> {
        let repository = self.repository.as_ref().filter(|_| kind == Kind::Log)?;
        if self.elsewhere.is_none() {
            return Some("every copy is on a disk of this host, and burns with it".to_owned());
        }
        let behind =
            "no copy away from this host has all of it: what it has counts from the instant before it missed something";
        (!self.elsewhere.has_all(repository)).then(|| behind.to_owned())
    }

    /// What a finding is about, for the team.
    fn words(&self, finding: &FindingId, probe: &ProbeId) -> Option<String> {
        let (lines, broken) = (self.engine.board.lines(), self.engine.board.broken());
        let ((name, _), line) = lines.iter().find(|((name, kind), _)| kind.probe(name).as_ref() == Some(probe))?;
        match finding.as_str() {
            BACKUP_FAILING => line.failing().or_else(|| self.key_lost.clone()).or_else(|| self.all_away()),
            LOG_BROKEN => broken.get(name).cloned(),
            BACKUP_DAMAGED => Some(self.engine.board.inspections().get(name)?.words().join("; ")),
            COPY_ELSEWHERE => Some(self.engine.board.residency()?.elsewhere.join("; ")),
            COPIES_TOGETHER => Some(self.engine.board.residency()?.together.join("; ")),
            _ => Some(self.copies_wrong().join("; ")),
        }
    }

    async fn answer(&self, wish: &Wish) -> Reply {
        match wish {
            Wish::Journal(rewound) => match self.context.recorder.record(rewound).await {
                Ok(_) => Reply::json(&json!({ "journaled": rewound.backup })),
                Err(error) => Reply::error(503, &format!("it can't be recorded: {error}")),
            },
            Wish::Status => Reply::json(&self.status()),
            Wish::KeyShown { identity } => self.key_shown(identity),
            Wish::Run { name, kind } => {
                let job = self.jobs.iter().find(|job| job.settings.name == *name);
                let files = self.file_jobs.iter().find(|job| job.settings.name == *name);
                let asked = job.map(|job| (&job.base_asked, &job.test_now));
                let Some((take, test)) = asked.or(files.map(|job| (&*job.take_now, &job.test_now))) else {
                    let why = self.closed.clone().unwrap_or_else(|| format!("there is no backup of the name `{name}`"));
                    return Reply::error(404, &why);
                };
                if kind == "restore" { test } else { take }.notify_one();
                Reply::json(&json!({ "begun": name, "kind": kind }))
            }
        }
    }

    /// Writes down that the key was shown.
    fn key_shown(&self, identity: &str) -> Reply {
        let Some(repository) = &self.repository else {
            return Reply::error(503, self.closed.as_deref().unwrap_or("the repository is not open yet"));
        };
        if repository.key().identity() != identity {
            return Reply::error(409, "the agent uses another repository key");
        }
        let now = self.context.clock.now().to_rfc3339();
        match std::fs::write(self.engine.state.join(KEY_SHOWN), &now) {
            Ok(()) => Reply::json(&json!({ "shown": now })),
            Err(error) => Reply::error(500, &format!("the agent can't write it down: {error}")),
        }
    }

    /// What is to be known of the repository key; nothing while it was shown within a year.
    fn key_warning(&self, shown: Option<Time>) -> Option<String> {
        let asks = "show the one that is kept elsewhere to `garant backup key check`: without it no backup can be read once this \
                    host is gone";
        match shown {
            None => Some(format!("nobody has shown yet that the repository key is kept elsewhere: {asks}")),
            Some(at) if self.context.clock.now().since(at) > KEY_SHOWN_FOR => {
                Some(format!("the repository key was last shown more than a year ago, at {at}: {asks}"))
            }
            Some(_) => None,
        }
    }

    fn status(&self) -> Value {
        let residency = self.engine.board.residency().unwrap_or_default();
        let lines = self.engine.board.lines();
        let (broken, canaries) = (self.engine.board.broken(), self.engine.board.canaries());
        let inspections = self.engine.board.inspections();
        let key_shown = read_time(&self.engine.state.join(KEY_SHOWN));
        let away = self.all_away();
        let backups = self.settings.backups().map(|(name, service, kinds)| {
            let away = &away;
            let kinds = kinds.into_iter().filter_map(|kind| {
                let line = lines.get(&(name.to_owned(), kind))?;
                Some(json!({
                    "kind": kind.word(),
                    "succeeded": line.succeeded.map(Time::to_rfc3339),
                    "error": line
                        .failing()
                        .or_else(|| self.key_lost.clone())
                        .or_else(|| away.clone().filter(|_| kind == Kind::Log)),
                    "doing": line.doing,
                    "due": line.due.map(Time::to_rfc3339),
                    "notes": line.notes.iter().cloned().chain(self.burns(kind)).collect::<Vec<_>>(),
                }))
            });
            json!({
                "name": name,
                "service": service,
                "kinds": kinds.collect::<Vec<_>>(),
                "log_broken": broken.get(name),
                "canary_wrong": canaries.get(name),
                "check": inspections.get(name).map(|found| json!({
                    "at": found.at.map(Time::to_rfc3339),
                    "parts": found.parts,
                    "of": PARTS,
                    "read": found.read,
                    "wrong": found.words(),
                    "unseen": found.unseen,
                })),
            })
        });
        json!({
            "backups": backups.collect::<Vec<_>>(),
            "copies": self.settings.copies.iter().map(|copy| &copy.name).collect::<Vec<_>>(),
            "copies_wrong": self.copies_wrong(),
            "slots_left": self.engine.board.left_slots(),
            "copies_elsewhere": residency.elsewhere,
            "copies_together": residency.together,
            "copies_unknown": residency.unknown,
            "copies_lack": self.engine.board.lacking(),
            "key_shown": key_shown.map(Time::to_rfc3339),
            "key_warning": self.key_warning(key_shown),
            "closed": self.closed,
            "now": self.context.clock.now().to_rfc3339(),
        })
    }

    /// Stops the work, and says what was covered until now.
    async fn end(mut self) -> Result<(), EngineError> {
        self.stop.cancel();
        let ended = async { while self.work.join_next().await.is_some() {} };
        if tokio::time::timeout(Duration::from_secs(2), ended).await.is_err() {
            self.work.shutdown().await;
        }
        if let Some(covered) = self.statement.end() {
            self.context.recorder.record(&covered).await?;
        }
        Ok(())
    }
}

fn make_folder(folder: &std::path::Path) {
    if let Err(error) = std::fs::create_dir_all(folder) {
        tracing::error!(folder = %folder.display(), %error, "the folder of a backup can't be made");
    }
}

/// Looks at where the copies are, until the engine stops.
async fn reside(settings: Settings, board: Arc<Board>, context: Context) {
    while !context.stop.is_cancelled() {
        let found = residency::look(&settings, &context).await;
        let again = if found.unknown.is_empty() { LEVEL_EVERY } else { LEVEL_AGAIN };
        board.resides(found);
        tokio::select! {
            () = context.stop.cancelled() => return,
            () = tokio::time::sleep(again) => {}
        }
    }
}

/// Tries out what the buckets can do, until each has answered.
async fn try_out(settings: Settings, board: Arc<Board>, context: Context) {
    let mut left = settings.copies;
    let mut tick = tokio::time::interval(LEVEL_EVERY);
    while !left.is_empty() {
        tokio::select! {
            () = context.stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        for (copy, lacking) in abilities::of_copies(&mut left, &context).await {
            board.lacks(copy, lacking);
        }
    }
}

/// Compares the copies, and brings to each what it lacks, until the engine stops.
async fn level(
    repository: Arc<Repository>,
    board: Arc<Board>,
    (settings, elsewhere): (Settings, Arc<Elsewhere>),
    take: Vec<Arc<Notify>>,
    context: Context,
) {
    while !context.stop.is_cancelled() {
        elsewhere.look(&settings).await;
        let (wrong, copied, answered) = match level_once(&repository).await {
            Ok(levelled) => {
                // Nothing is left that could be brought back: what there is now is all that can be kept.
                if !levelled.emptied.is_empty() && levelled.emptied.len() == settings.copies.len() {
                    for take in &take {
                        take.notify_one();
                    }
                }
                (wrong_with(&levelled), levelled.copied, levelled.errors.is_empty())
            }
            Err(error) => (vec![error.to_string()], 0, false),
        };
        board.compared(wrong, copied);
        tokio::select! {
            () = context.stop.cancelled() => return,
            () = tokio::time::sleep(if answered { LEVEL_EVERY } else { LEVEL_AGAIN }) => {}
        }
    }
}

/// Brings to each copy what it lacks; a repository of files in which the server destroys is left alone meanwhile, for what is gone at
/// one copy only would be brought back.
async fn level_once(repository: &Arc<Repository>) -> Result<Levelled, RepositoryError> {
    let mut destroyed_in = Vec::new();
    for name in repository.folders("restic/").await? {
        if Lease::is_destroyed_in(repository, &name).await {
            destroyed_in.push(format!("restic/{name}/"));
        }
    }
    repository.level("", |name| destroyed_in.iter().any(|folder| name.starts_with(folder))).await
}

fn wrong_with(levelled: &Levelled) -> Vec<String> {
    let differing = levelled.differing.iter().take(5).map(|name| format!("{name} is not the same at each copy"));
    let mut wrong: Vec<String> = levelled.emptied.iter().cloned().chain(differing).collect();
    wrong.extend(levelled.errors.iter().take(5).map(ToString::to_string));
    wrong
}

#[cfg(test)]
mod tests;
