//! The engine: follows the desired state, and carries lines, offences and bans between the parts.
//!
//! One attempt opens the bans and mends the packet filter; a [`Session`] lasts for as long as one desired state. Logs are read on a
//! thread that may block; everything else is this loop, and what commands want of it ([`orders`]).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use engine::door::{Door, Order, Orders, Reply};
use engine::statement::{Said, Statement};
use engine::{BoxFuture, Context, DesiredState, Engine, EngineError, EventNumber};
use event::evidence::{Reacted, State};
use event::{Body, Monotonic, Observed, Span, Time};
use ipnet::IpNet;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};

use crate::act::{
    ADOPTED_RULE, Allowlist, Ban, BanCounts, BanKey, Bans, Caps, Done, Drift, Enforcer, EnforcerError, Firewall,
    FirewallError, HostFacts, Missed, Nft, Origin, Ports, Refusal, Request, Scans, Sessions, SshSettings, end_of,
    shown,
};
use crate::config::{BANS_NOT_ENFORCED, Desired, FINDINGS, OFFENDERS_BANNED, Settings};
use crate::detect::BanLength;
use crate::door::{self, Wish};
use crate::events::{Attempts, Banned, Mended, Spared, Unbanned};
use crate::fail2ban::Jails;
use crate::figures::{Figures, Standing};
use crate::kept::{Kept, Resumed, resume};
use crate::lists;
use crate::login::Login;
use crate::on_ban::OnBan;
use crate::plan::{Impairment, Plan};
use crate::simulation::SimulatedBans;
use crate::source::{Journal, JournalBatch, JournalError, Wake};
use crate::stream::{Found, FoundOffence, MadeBan, Rule, Stream, StreamState};
use crate::totals::{RuleTotals, Totals};

mod impaired;
mod logins;
mod orders;
#[cfg(test)]
mod tests;

use impaired::is_about_reading;
use logins::{CONFIRM_EVERY, past_logins};

/// Where the positions in logs and the counts of failures are kept.
const LOGS: &str = "logs.json";
/// How often the host is looked at, bans are expired and the packet filter is asked whether our table is there.
const TURN: Duration = Duration::from_secs(5);
/// How often at most it is looked at before a ban.
const LOOK_BEFORE_BAN_EVERY: Span = Span::from_secs(1);
/// How often the packet filter is compared as a whole; less often where that takes long, for bans wait for it.
const RECONCILE_EVERY: Span = Span::from_secs(60);
const RECONCILE_EVERY_MAX: Span = Span::from_secs(600);
/// How often what was counted is kept, when it has changed: what is read again after a crash. It is written whole, so a large one is
/// kept less often: once a second for each so many bytes, and once a minute in any case.
const KEEP_EVERY: Span = Span::from_secs(1);
const KEEP_EVERY_MAX: Span = Span::from_secs(60);
const KEPT_BYTES_A_SECOND: usize = 256 * 1024;
/// How long the history of bans is remembered: as fail2ban's `dbpurgeage`, and longer for those who come back.
const HISTORY_KEPT: Span = Span::from_days(30);
/// How long after its last ban the finding stays open that a rule has banned of which somebody is told.
const TOLD: Span = Span::from_secs(600);
/// What can be impaired while every log is read.
const PACKET_FILTER: &str = "packet filter";
const CAP: &str = "bans";
const BANS_FILE: &str = "file of bans";
const POSITIONS: &str = "positions in logs";
const SSH_SESSIONS: &str = "sessions of ssh";
const ON_BAN: &str = "on_ban";
const PORT_SCANS: &str = "port scans";
/// Most counts of a minute that are kept until they are in the journal; beyond it, the oldest are lost when the process is killed.
const COUNTS_MAX: usize = 10_000;
/// What is impaired when the length of a ban can't be worked out.
const FORMULA: &str = "bantime.formula of ";
const LIST: &str = "list ";
const LISTS: &str = "lists";
/// Most addresses, each of a rule, of which it is said that they are spared.
const SPARED_MAX: usize = 10_000;
/// How often at most it is told that a ban in force was prolonged, and most of those that are counted until then.
const PROLONGED_TOLD_EVERY: Span = Span::from_secs(60);
const PROLONGED_MAX: usize = 10_000;
/// Events that are journaled together.
const EVENTS_AT_ONCE: usize = 500;

/// Rules, and how often something was with them.
type Counted = Vec<(Arc<str>, u64)>;

/// The engine.
pub struct Guard {
    desired: DesiredState,
    state: PathBuf,
    orders: Orders<Wish>,
    figures: Arc<Figures>,
    /// A packet filter in the place of the kernel's, for tests.
    firewall: Option<Arc<dyn Firewall>>,
}

/// What goes from one session to the next.
struct Carried {
    enforcer: Enforcer,
    totals: Totals,
    sessions: Sessions,
    /// What is kept of the logs, where a session went before.
    kept: Option<Kept>,
    /// The jails of fail2ban that were followed.
    jails: Option<Jails>,
    /// What was said of lists that were never read.
    unknown_lists: BTreeMap<String, String>,
}

/// What is to be told of a ban in force that was prolonged.
struct Prolonged {
    /// Since when it is to be told.
    since: Monotonic,
    /// The entry, so far.
    told: Banned,
}

/// Why a session is over.
enum Over {
    /// The engine is to stop.
    Stop,
    /// Something else is desired.
    Desired,
    /// The files are to be read again; where the answer goes.
    Reload(oneshot::Sender<Reply>),
}

impl Guard {
    /// The engine, which keeps its own state in this directory.
    pub fn new(desired: DesiredState, state: PathBuf) -> Self {
        Self { desired, state, orders: Orders::default(), figures: Arc::default(), firewall: None }
    }

    /// The same, with a packet filter of a test.
    #[cfg(test)]
    fn with_firewall(self, firewall: Arc<dyn Firewall>) -> Self {
        Self { firewall: Some(firewall), ..self }
    }

    /// Its figures, for `/metrics` of the server.
    pub fn figures(&self) -> Arc<Figures> {
        Arc::clone(&self.figures)
    }

    /// Its door.
    pub fn door(&self) -> impl Door + use<> {
        self.orders.door(door::MOUNT, door::wish, door::LOST)
    }

    async fn guard(&self, context: Context) -> Result<(), EngineError> {
        let mut orders = self.orders.queue().await;
        let mut desired = self.desired.clone();
        let mut carried: Option<Carried> = None;
        let mut reload: Option<oneshot::Sender<Reply>> = None;
        // Tells the program of an earlier policy of the ends, while none has a guard.
        let mut ends: Option<OnBan> = None;
        let mut tick = tokio::time::interval(TURN);
        loop {
            let Some(wanted) = desired.current::<Desired>()? else {
                self.figures.stand(None);
                if let Some(mut carried) = carried.take() {
                    // Nothing is wanted any more: what is in the kernel of ours would ban for ever what nobody can see.
                    match carried.enforcer.remove_from_firewall().await {
                        Err(EnforcerError::Firewall(FirewallError::Owned(_))) => {}
                        done => done?,
                    }
                }
                let ending = match &mut ends {
                    Some(ending) => ending,
                    None => ends.insert(OnBan::end_all(&self.state, &context).await?),
                };
                tokio::select! {
                    () = context.stop.cancelled() => return Ok(()),
                    _ = tick.tick() => context.progress.tick(),
                    () = desired.changed() => {}
                    ended = ending.ended() => ended??,
                    Some((_, answer)) = orders.recv() => {
                        drop(answer.send(Reply::error(409, "no policy with [guard] is followed on this host: nothing is read and nobody banned; the log of garant says \
                             why, where the policy has it")));
                    }
                }
                continue;
            };
            if let Some(ending) = ends.take() {
                ending.stop().await;
            }
            let mut carry = if let Some(carried) = carried.take() {
                carried
            } else {
                let enforcer = self.enforcer(&context, &wanted.settings).await?;
                let (totals, sessions) = (Totals::since(context.clock.now()), Sessions::new(SshSettings::default()));
                Carried { enforcer, totals, sessions, kept: None, jails: None, unknown_lists: BTreeMap::new() }
            };
            reconfigure(&mut carry.enforcer, &wanted.settings).await;
            let mut session = Session::begin(&context, wanted, self, carry).await?;
            if let Some(answer) = reload.take() {
                let (mistakes, notes) = (&session.mistakes, &session.notes);
                let reply = json!({ "reloaded": mistakes.is_empty(), "mistakes": mistakes, "notes": notes });
                drop(answer.send(Reply::json(&reply)));
            }
            let over = session.run(&mut orders, &mut desired).await?;
            carried = Some(session.end().await?);
            match over {
                Over::Stop => return Ok(()),
                Over::Desired => {}
                Over::Reload(answer) => reload = Some(answer),
            }
        }
    }

    /// Opens the bans of this host. Nothing is enforced yet.
    async fn enforcer(&self, context: &Context, settings: &Settings) -> Result<Enforcer, EngineError> {
        let (state, clock) = (self.state.clone(), Arc::clone(&context.clock));
        let opened = tokio::task::spawn_blocking(move || {
            let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
            Bans::open(&state, boot.trim(), HISTORY_KEPT, clock.now(), clock.monotonic())
        });
        let (bans, opened) = opened.await??;
        if opened.damaged > 0 {
            tracing::error!(lines = opened.damaged, "lines of the file of bans can't be read: they were left out");
        }
        tracing::info!(in_force = opened.in_force, ended = opened.ended, "the bans of this host are known");
        let of_test = self.firewall.clone();
        let firewall = of_test.unwrap_or_else(|| Arc::new(Nft::new((*context.programs).clone())));
        let recorder = context.recorder.clone();
        Ok(Enforcer::new(
            firewall,
            bans,
            Arc::clone(&context.clock),
            Arc::new(move || recorder.number()),
            allowlist(settings),
            caps(settings),
            scans(settings),
        ))
    }
}

impl Engine for Guard {
    fn name(&self) -> &'static str {
        crate::NAME
    }

    fn stop_order(&self) -> u8 {
        4
    }

    fn run(&self, context: Context) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(self.guard(context))
    }
}

/// The same bans under other settings. What the packet filter does not take now is mended later.
async fn reconfigure(enforcer: &mut Enforcer, settings: &Settings) {
    enforcer.allowlist.configure(settings.allow.iter().copied());
    enforcer.caps(caps(settings));
    enforcer.simulate(settings.simulate);
    if let Err(error) = enforcer.scans(scans(settings)).await {
        tracing::warn!(%error, "the packet filter does not follow the policy yet");
    }
}

fn allowlist(settings: &Settings) -> Allowlist {
    Allowlist::new(settings.allow.iter().copied(), settings.logins_remembered)
}

const fn caps(settings: &Settings) -> Caps {
    Caps::new(settings.bans_per_minute_max, settings.bans_per_minute_max)
}

fn scans(settings: &Settings) -> Option<Scans> {
    (settings.scans && !settings.simulate).then(|| Scans { ban: settings.scan_ban, ..Scans::default() })
}

/// The time of one desired state.
struct Session<'a> {
    context: &'a Context,
    figures: &'a Figures,
    settings: Settings,
    state: &'a Path,
    enforcer: Enforcer,
    streams: Vec<Stream>,
    /// What is left of rules that are not followed.
    left: Vec<StreamState>,
    statement: Statement,
    sessions: Sessions,
    wake: Wake,
    /// Entries of the journal of systemd, for the stream of this number.
    entries: mpsc::Receiver<(usize, Result<JournalBatch, JournalError>)>,
    /// Those who read the journal; they end with this.
    _readers: JoinSet<()>,
    /// The same, by the numbers of their streams.
    readers_of: BTreeMap<usize, AbortHandle>,
    /// Why bans are not in force; `None` while they are.
    unenforced: Option<String>,
    /// What is not followed or not read now.
    impaired: BTreeMap<String, String>,
    /// When that of it which passes by itself was seen last.
    passing: BTreeMap<String, Monotonic>,
    totals: Totals,
    rules: usize,
    /// What of the configuration can't be read, and the jails that are followed.
    mistakes: Vec<String>,
    /// What can be read, and is not followed as it may be meant.
    notes: Vec<String>,
    jails: Option<Jails>,
    is_dirty: bool,
    /// Whether it is to be kept at once.
    is_urgent: bool,
    kept_at: Monotonic,
    /// The bytes that it had last.
    kept_bytes: usize,
    /// When these rules began to be followed, new ones for the first time.
    began: Time,
    /// What is being written now.
    keeping: Option<JoinHandle<std::io::Result<usize>>>,
    compared_at: Option<Monotonic>,
    compare_every: Span,
    counted_at: Monotonic,
    /// When the host was looked at last.
    host_at: Monotonic,
    /// When the lists were read last.
    listed_at: Option<Monotonic>,
    reading_lists: JoinSet<lists::ReadLists>,
    /// Whether the rules by which the kernel notices scans are as they were made, while that is looked at.
    looking_at_scans: JoinSet<Result<bool, FirewallError>>,
    /// What is said of lists that were never read.
    unknown_lists: BTreeMap<String, String>,
    spared: BTreeSet<(IpNet, String)>,
    /// Logs that are not there.
    not_there: BTreeSet<String>,
    /// Bans in force that were prolonged, until that is told.
    prolonged: BTreeMap<BanKey, Prolonged>,
    /// The program of the policy.
    on_ban: OnBan,
    /// Until when the finding about bans that somebody is told of stays open, and the words on the last of them.
    tells: Option<(Time, String)>,
    /// What was counted in a minute and is not known to be in the journal.
    counts: Vec<(EventNumber, Time, Attempts)>,
    /// Who would be banned, by a simulation.
    simulated: SimulatedBans,
    /// When scans went unnoticed last.
    missed_at: Option<Monotonic>,
    /// Logins that files tell of, when they were, and when they were read: they count once the kernel says that they are sessions.
    unconfirmed: VecDeque<(Login, Time, Monotonic)>,
}

impl<'a> Session<'a> {
    async fn begin(
        context: &'a Context,
        desired: Desired,
        guard: &'a Guard,
        carried: Carried,
    ) -> Result<Self, EngineError> {
        let Carried { mut enforcer, mut totals, mut sessions, kept, jails: before, mut unknown_lists } = carried;
        let (settings, revision) = (desired.settings.clone(), desired.revision.clone());
        let (now, monotonic) = (context.clock.now(), context.clock.monotonic());
        let logins_since = now - settings.logins_remembered;
        let (path, state) = (guard.state.join(LOGS), guard.state.clone());
        let is_start = kept.is_none();
        let plan = tokio::task::spawn_blocking(move || {
            // What was logged up to then is known already, but for what came in the last seconds.
            let kept_at = std::fs::metadata(&path).and_then(|kept| kept.modified()).ok();
            let kept_at = kept_at.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
            let kept_at = kept_at.map(|at| Time::from_micros(i64::try_from(at.as_micros()).unwrap_or(0)));
            let logins_since = kept_at.map_or(logins_since, |at| logins_since.max(at - Span::from_secs(60)));
            let read = || {
                match std::fs::read(&path) {
                Ok(text) => serde_json::from_slice(&text).unwrap_or_else(|error| {
                    tracing::error!(%error, file = %path.display(), "the positions in logs can't be read: logs are read as new ones");
                    Kept::default()
                }),
                Err(_) => Kept::default(),
            }
            };
            let kept: Kept = kept.unwrap_or_else(read);
            let Plan { streams, impaired, rules, mut mistakes, notes, jails } =
                Plan::make(&desired, before.as_ref(), now);
            let lists = &desired.settings.lists;
            unknown_lists
                .retain(|what, _| lists.iter().any(|list| *what == format!("{LIST}{list}") && !list.starts_with('/')));
            for list in lists {
                let what = format!("{LIST}{list}");
                mistakes.extend(lists::file_error(list).map(|error| format!("{what}: {}", lists::words(&error))));
                unknown_lists.extend(lists::never_read(list, &state).map(|reason| (what, reason)));
            }
            let Resumed { streams, left } = resume(streams, kept.streams, now);
            let streams = streams.into_iter().enumerate();
            let streams: Vec<Stream> = streams.map(|(number, (plan, kept))| Stream::new(number, plan, kept)).collect();
            let kept = (kept.counts, kept.simulated, (kept.logins, kept.disowned));
            ((streams, left), (impaired, (mistakes, notes), unknown_lists), (rules, jails), logins_since, kept)
        });
        let ((mut streams, left), (impaired, (mistakes, notes), unknown_lists), (rules, jails), since, kept) =
            plan.await?;
        let (counts, simulated, (logins, disowned)) = kept;
        let past = past_logins(context, &streams, logins_since, is_start.then_some(since)).await;
        totals.hand_over(rules_of(&mut streams));
        sessions.configure(SshSettings::read(Path::new("/etc/ssh")));
        for (address, at) in disowned {
            enforcer.allowlist.disown(address, at.min(now));
        }
        for (address, at) in logins {
            enforcer.allowlist.logged_in(address, at.min(now));
        }
        let (sender, entries) = mpsc::channel(4);
        let (mut readers, mut readers_of) = (JoinSet::new(), BTreeMap::new());
        for stream in &streams {
            if let Some((settings, since, cursor)) = stream.journal() {
                let (settings, cursor, number) = (settings.clone(), cursor.cloned(), stream.number);
                let reader = read_journal(context.clone(), settings, since, cursor, number, sender.clone());
                readers_of.insert(number, readers.spawn(reader));
            }
        }
        let spared: Vec<IpNet> = streams.iter().flat_map(|of| &of.rules).flat_map(Rule::spared).copied().collect();
        enforcer.spare(spared).await?;
        let mut as_counted = BanCounts::default();
        for rule in streams.iter().flat_map(|of| &of.rules) {
            match rule.counts() {
                (true, true) => as_counted.of_all.insert(rule.name.to_string()),
                (true, false) => continue,
                (false, _) => as_counted.once.insert(rule.name.to_string()),
            };
        }
        enforcer.count_as(as_counted);
        let (program, simulates) = (settings.on_ban.clone(), settings.simulate);
        let bans = (!simulates).then(|| enforcer.history());
        let on_ban = OnBan::start(program, &guard.state, bans, context).await?;
        let mut session = Self {
            context,
            figures: &guard.figures,
            state: &guard.state,
            enforcer,
            streams,
            left,
            statement: Statement::new(settings.probe.clone(), settings.service.clone(), revision, &FINDINGS, now),
            sessions,
            wake: Wake::new(),
            entries,
            _readers: readers,
            readers_of,
            unenforced: None,
            impaired: BTreeMap::new(),
            passing: BTreeMap::new(),
            totals,
            rules,
            mistakes,
            notes,
            jails,
            is_dirty: false,
            is_urgent: false,
            kept_at: monotonic,
            kept_bytes: 0,
            began: now,
            keeping: None,
            compared_at: None,
            compare_every: RECONCILE_EVERY,
            counted_at: monotonic,
            host_at: monotonic,
            listed_at: None,
            reading_lists: JoinSet::new(),
            looking_at_scans: JoinSet::new(),
            unknown_lists: if settings.simulate { BTreeMap::new() } else { unknown_lists },
            spared: BTreeSet::new(),
            not_there: BTreeSet::new(),
            prolonged: BTreeMap::new(),
            on_ban,
            tells: None,
            counts,
            simulated: SimulatedBans::kept(simulated),
            missed_at: None,
            unconfirmed: VecDeque::new(),
            settings,
        };
        tracing::info!(rules, streams = session.streams.len(), "the rules of this host are followed");
        for Impairment { what, reason } in impaired {
            session.impair(what, reason).await?;
        }
        for (what, reason) in session.unknown_lists.clone() {
            session.impair(what, reason).await?;
        }
        session.tell().await?;
        session.tell_counts(0).await?;
        // Before anybody is banned.
        session.take_logins(past);
        session.tells = session.told();
        session.turn().await?;
        Ok(session)
    }

    /// Until when somebody is told of the bans that were made before the start, and the words on the last of them.
    fn told(&self) -> Option<(Time, String)> {
        let rules = self.streams.iter().flat_map(|stream| &stream.rules);
        let telling: BTreeSet<&str> = rules.filter(|rule| rule.tells).map(|rule| &*rule.name).collect();
        if telling.is_empty() {
            return None;
        }
        self.enforcer.with_bans(|bans| {
            let is_told = |ban: &&Ban| ban.origin == Origin::Detected && telling.contains(&*ban.rule);
            bans.iter().filter(is_told).max_by_key(|ban| ban.since).map(|ban| (ban.since + TOLD, words_on(ban)))
        })
    }

    /// Journals the bans that were made just before the process was killed.
    async fn tell(&mut self) -> Result<(), EngineError> {
        let mut events = Vec::new();
        for ban in self.enforcer.with_bans(Bans::untold) {
            let (address, rule) = (shown(ban.hold.network), ban.rule);
            let (log, failures, until, count) = (String::new(), 0, ban.until, ban.count);
            let enforced = !self.settings.simulate;
            let banned = Banned { address, rule, log, failures, until, count, enforced, prolonged: 0 };
            events.push(self.seal_ban(&banned, ban.event)?);
        }
        if !events.is_empty() {
            self.send(events).await?;
        }
        Ok(())
    }

    /// Runs until the engine is to stop, something else is desired, or the files are to be read again.
    async fn run(
        &mut self,
        orders: &mut mpsc::Receiver<Order<Wish>>,
        desired: &mut DesiredState,
    ) -> Result<Over, EngineError> {
        let context = self.context;
        let mut turns = tokio::time::interval(TURN);
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        turns.tick().await;
        loop {
            context.progress.tick();
            let has_more = self.look().await?;
            let waits = !self.unconfirmed.is_empty();
            if waits && context.clock.monotonic().since(self.host_at) >= CONFIRM_EVERY {
                self.look_at_host().await?;
                self.lift_contradicted().await?;
            }
            self.keep_beside().await?;
            tokio::select! {
                biased;
                () = context.stop.cancelled() => return Ok(Over::Stop),
                () = desired.changed() => return Ok(Over::Desired),
                Some((wish, answer)) = orders.recv() => {
                    if answer.is_closed() {
                        // Whoever asked was told that it was late, and asks again.
                        continue;
                    }
                    if matches!(wish, Wish::Reload) {
                        return Ok(Over::Reload(answer));
                    }
                    let reply = self.order(wish).await?;
                    drop(answer.send(reply));
                }
                Some(read) = self.reading_lists.join_next() => self.listed(read?).await?,
                Some(looked) = self.looking_at_scans.join_next() => self.looked_at_scans(looked?).await?,
                ended = self.on_ban.ended() => ended??,
                _ = turns.tick() => self.turn().await?,
                Some((number, entries)) = self.entries.recv() => self.journal(number, entries).await?,
                in_folder = self.wake.wait(), if !has_more => {
                    if in_folder {
                        self.streams.iter_mut().for_each(Stream::expand_again);
                    }
                }
                () = std::future::ready(()), if has_more => {}
                () = tokio::time::sleep(CONFIRM_EVERY.to_std()), if waits => {}
            }
        }
    }

    /// Keeps everything, and says what is not said yet.
    async fn end(mut self) -> Result<Carried, EngineError> {
        self.count().await?;
        self.tell_prolonged(true).await?;
        self.keep().await?;
        let kept = Some(self.kept());
        if let Some(covered) = self.statement.end() {
            self.context.recorder.record(&covered).await?;
        }
        self.totals.take_back(rules_of(&mut self.streams));
        let Self { enforcer, totals, sessions, jails, unknown_lists, on_ban, .. } = self;
        on_ban.stop().await;
        Ok(Carried { enforcer, totals, sessions, kept, jails, unknown_lists })
    }

    /// Reads what is new in all logs, and acts on it. Whether there is more.
    async fn look(&mut self) -> Result<bool, EngineError> {
        let mut streams = std::mem::take(&mut self.streams);
        let (clock, random) = (Arc::clone(&self.context.clock), Arc::clone(&self.context.random));
        let history = self.enforcer.history();
        let looked = tokio::task::spawn_blocking(move || {
            let mut draw = || draw_ppb(random.as_ref());
            let found: Vec<Found> =
                streams.iter_mut().map(|stream| stream.look(clock.as_ref(), &history, &mut draw)).collect();
            Stream::join_level(&mut streams);
            (streams, found)
        });
        let (streams, mut found) = looked.await?;
        self.streams = streams;
        for (_, reader) in
            self.readers_of.extract_if(.., |number, _| !self.streams.iter().any(|of| of.number == *number))
        {
            reader.abort();
        }
        self.wake.watch(self.streams.iter().filter_map(Stream::tail));
        let has_more = found.iter().any(|found| found.has_more);
        // Of all streams, before any of their offences: the log of another rule may be ahead.
        for found in &mut found {
            let logins = std::mem::take(&mut found.logins);
            self.logged_in(logins).await?;
        }
        for found in found {
            self.found(found).await?;
        }
        Ok(has_more)
    }

    /// Judges entries of the journal, and acts on them.
    async fn journal(&mut self, number: usize, entries: Result<JournalBatch, JournalError>) -> Result<(), EngineError> {
        let what = "the journal of systemd";
        let batch = match entries {
            Ok(batch) => batch,
            Err(error) => return self.impair(what.to_owned(), error.to_string()).await,
        };
        self.recover(what).await?;
        let mut streams = std::mem::take(&mut self.streams);
        let (clock, random) = (Arc::clone(&self.context.clock), Arc::clone(&self.context.random));
        let history = self.enforcer.history();
        let judged = tokio::task::spawn_blocking(move || {
            let mut draw = || draw_ppb(random.as_ref());
            let stream = streams.iter_mut().find(|stream| stream.number == number);
            let found = stream.map(|stream| stream.entries(batch, clock.as_ref(), &history, &mut draw));
            (streams, found)
        });
        let (streams, found) = judged.await?;
        self.streams = streams;
        match found {
            Some(found) => self.found(found).await,
            None => Ok(()),
        }
    }

    /// Acts on what was found.
    async fn found(&mut self, found: Found) -> Result<(), EngineError> {
        let now = self.context.clock.now();
        self.totals.lines += found.lines;
        self.is_dirty |= found.lines > 0 || !found.notices.is_empty();
        self.logged_in(found.logins).await?;
        self.notices(found.notices).await?;
        self.gave_up(found.given_up, found.forgotten).await?;
        self.act(found.offences, now).await
    }

    /// Ends bans of those who are allowed now.
    async fn lift_allowed(&mut self) -> Result<(), EngineError> {
        for ban in self.enforcer.allow_changed().await? {
            let event = self.unbanned(&ban)?;
            self.send(vec![event]).await?;
        }
        Ok(())
    }

    /// Bans those who are to be banned, and those who were banned too often by it.
    async fn act(&mut self, mut offences: Vec<FoundOffence>, now: Time) -> Result<(), EngineError> {
        // Rules that count bans may count each other's; a ban that is in force is none that is made, so this ends.
        while !offences.is_empty() {
            let banned = self.ban(offences, now).await?;
            offences = self.recidivists(&banned).await?;
        }
        Ok(())
    }

    /// Has the rules that count bans count those that were just made; the offences that they complete.
    async fn recidivists(&mut self, banned: &[MadeBan]) -> Result<Vec<FoundOffence>, EngineError> {
        let mut offences = Vec::new();
        if banned.is_empty() || !self.streams.iter().any(Stream::counts_bans) {
            return Ok(offences);
        }
        let (now, random) = (self.context.clock.now(), Arc::clone(&self.context.random));
        let (history, mut draw) = (self.enforcer.history(), || draw_ppb(random.as_ref()));
        let (mut given_up, mut forgotten) = (Vec::new(), Vec::new());
        for stream in &mut self.streams {
            let found = stream.banned(banned, now, &history, &mut draw);
            offences.extend(found.offences);
            given_up.extend(found.given_up);
            forgotten.extend(found.forgotten);
        }
        self.gave_up(given_up, forgotten).await?;
        // What was read is read again after a crash, and bans nobody anew: then it would not count. So it is kept at once.
        (self.is_dirty, self.is_urgent) = (true, true);
        self.keep_beside().await?;
        Ok(offences)
    }

    /// Bans those who are to be banned, and journals it. The bans that were made.
    async fn ban(&mut self, offences: Vec<FoundOffence>, now: Time) -> Result<Vec<MadeBan>, EngineError> {
        let mut made = Vec::new();
        let mut requests = Vec::new();
        let mut details: BTreeMap<(IpNet, String), FoundOffence> = BTreeMap::new();
        // The first of several offences of one is the one that its ban is made for.
        let mut first: BTreeMap<(IpNet, String), Time> = BTreeMap::new();
        let mut events = Vec::new();
        for offence in offences {
            if let Some(error) = &offence.no_result {
                let reason = format!(
                    "it has no result ({error}), and the plain `bantime` is taken: correct it in the jail, or remove it"
                );
                self.impair(format!("{FORMULA}{}", offence.rule), reason).await?;
            }
            let left = left(&offence, now);
            if left.is_some_and(|left| left <= Span::ZERO) {
                continue;
            }
            let key = (offence.network, offence.rule.to_string());
            let until = end_of(now, left);
            let is_answered = self.enforcer.with_bans(|bans| answered(bans, &offence, until, now));
            if is_answered || self.simulated.has_judged(&offence) {
                continue;
            }
            let Some(ports) = offence.ports.clone() else {
                self.totals.simulated += 1;
                events.push(self.seal(&banned(&offence, until, 0, false))?);
                continue;
            };
            if self.settings.simulate {
                self.look_before_ban().await?;
                events.extend(self.simulated(&offence, &ports, until)?);
                continue;
            }
            requests.push(Request {
                network: offence.network,
                rule: offence.rule.to_string(),
                ports,
                lasts: left,
                since: Some(offence.at),
                origin: Origin::Detected,
            });
            first.entry(key.clone()).and_modify(|at| *at = offence.at.min(*at)).or_insert(offence.at);
            let complete = details.get(&key).map_or(offence.complete, |other| other.complete.min(offence.complete));
            details.insert(key, FoundOffence { complete, ..offence });
        }
        if !requests.is_empty() {
            self.look_before_ban().await?;
            match self.enforcer.ban(requests).await {
                Ok(done) => {
                    made.extend(bans_made(&done).map(|ban| {
                        let at = first.get(&(ban.network, ban.rule.clone())).copied().unwrap_or(ban.at);
                        MadeBan { at, ..ban }
                    }));
                    events.extend(self.done(done, &details).await?);
                }
                Err(error) => {
                    self.unenforced(&error.to_string()).await?;
                    for offence in details.values() {
                        events.push(self.seal(&banned(offence, None, 0, false))?);
                    }
                }
            }
        }
        if !events.is_empty() {
            self.send(events).await?;
            self.is_dirty = true;
        }
        self.tell_unwritten().await?;
        Ok(made)
    }

    /// The event of an offence that a simulation bans nobody for, if there is one.
    fn simulated(
        &mut self,
        offence: &FoundOffence,
        ports: &Ports,
        until: Option<Time>,
    ) -> Result<Option<Observed>, EngineError> {
        if self.simulated.lasts(offence, until) {
            return Ok(None);
        }
        match self.enforcer.allowlist.judge(offence.network) {
            Ok(held) => self.simulated.add(offence, held, ports, until),
            Err(refusal) => return self.spared(offence.network, offence.rule.to_string(), &refusal),
        }
        self.totals.simulated += 1;
        self.seal(&banned(offence, until, 0, false)).map(Some)
    }

    /// The event of somebody who may not be banned: once for each address and rule, for an office that mistypes a password does so
    /// all day.
    fn spared(&mut self, network: IpNet, rule: String, refusal: &Refusal) -> Result<Option<Observed>, EngineError> {
        if self.spared.len() >= SPARED_MAX || !self.spared.insert((network, rule.clone())) {
            return Ok(None);
        }
        self.seal(&Spared { address: shown(network), rule, reason: refusal.to_string() }).map(Some)
    }

    /// Says whether bans can be written down.
    async fn tell_unwritten(&mut self) -> Result<(), EngineError> {
        match self.enforcer.unwritten().map(ToOwned::to_owned) {
            Some(reason) => self.impair(BANS_FILE.to_owned(), reason).await,
            None => self.recover(BANS_FILE).await,
        }
    }

    /// The events of what became of bans, with the slowest of them for everybody.
    async fn done(
        &mut self,
        done: Vec<Done>,
        details: &BTreeMap<(IpNet, String), FoundOffence>,
    ) -> Result<Vec<Observed>, EngineError> {
        let now = self.context.clock.now();
        let mut events = Vec::new();
        let mut slowest: Option<Time> = None;
        for done in done {
            let is_known = matches!(done, Done::Known(_));
            match done {
                Done::Banned(ban) | Done::Known(ban) => {
                    *if self.settings.simulate { &mut self.totals.simulated } else { &mut self.totals.bans } += 1;
                    let offence = details.get(&(ban.network, ban.rule.clone()));
                    let enforced = !self.settings.simulate;
                    let event = Banned {
                        address: shown(ban.hold.network),
                        rule: ban.rule.clone(),
                        log: offence.map(|offence| offence.log.to_string()).unwrap_or_default(),
                        failures: offence.map_or(0, |offence| u32::try_from(offence.failures).unwrap_or(u32::MAX)),
                        until: ban.until,
                        count: ban.count,
                        enforced,
                        prolonged: 0,
                    };
                    events.push(self.seal_ban(&event, ban.event)?);
                    if is_known {
                        self.on_ban.changed(ban.hold.network, ADOPTED_RULE);
                    }
                    self.on_ban.changed(ban.hold.network, &ban.rule);
                    if offence.is_some_and(|offence| offence.tells) {
                        self.tells = Some((now + TOLD, words_on(&ban)));
                        if self.statement.is_open(OFFENDERS_BANNED) {
                            events.push(self.seal(&self.detail(Some(OFFENDERS_BANNED)))?);
                        }
                    }
                    // When the kernel dropped for one that is known, nobody can say: it was before the last end.
                    if let Some(offence) = offence.filter(|_| !is_known) {
                        // Nobody could answer what was over before the rule was there.
                        let complete = offence.complete;
                        let since = if offence.is_of_new_rule { complete.max(self.began) } else { complete };
                        slowest = Some(slowest.map_or(since, |at| at.min(since)));
                    }
                    tracing::info!(address = shown(ban.hold.network), rule = ban.rule, enforced, "banned");
                }
                Done::Prolonged(ban) => {
                    events.extend(self.prolonged(&ban, details.get(&(ban.network, ban.rule.clone())))?);
                }
                Done::Simulated { request, first } => {
                    self.totals.simulated += 1;
                    if let Some(offence) = details.get(&(request.network, request.rule.clone())) {
                        events.push(self.seal(&banned(offence, None, 0, false))?);
                    }
                    if first {
                        let reason = format!(
                            "more than {} bans in a minute: further ones are recorded and not enforced. Look at what the \
                             rules match, and raise `bans_per_minute_max` in [guard] if it is an attack",
                            self.settings.bans_per_minute_max
                        );
                        self.impair_for_now(CAP.to_owned(), reason).await?;
                    }
                }
                Done::Refused(request, refusal) => {
                    events.extend(self.spared(request.network, request.rule, &refusal)?);
                }
            }
        }
        if let Some(since) = slowest {
            events.push(self.seal(&Reacted::to_offence(self.settings.probe.clone(), since, now))?);
        }
        Ok(events)
    }

    /// Counts that a ban in force lasts longer, for whoever goes on is told of once a minute. The entry of what could not be counted.
    fn prolonged(&mut self, ban: &Ban, offence: Option<&FoundOffence>) -> Result<Option<Observed>, EngineError> {
        let since = self.context.clock.monotonic();
        let told = Banned {
            address: shown(ban.hold.network),
            rule: ban.rule.clone(),
            log: offence.map(|offence| offence.log.to_string()).unwrap_or_default(),
            failures: offence.map_or(0, |offence| u32::try_from(offence.failures).unwrap_or(u32::MAX)),
            until: ban.until,
            count: ban.count,
            enforced: !self.settings.simulate,
            prolonged: 1,
        };
        if let Some(Prolonged { told: known, .. }) = self.prolonged.get_mut(&ban.key()) {
            let (failures, prolonged) =
                (known.failures.saturating_add(told.failures), known.prolonged.saturating_add(1));
            *known = Banned { failures, prolonged, ..told };
        } else if self.prolonged.len() < PROLONGED_MAX {
            self.prolonged.insert(ban.key(), Prolonged { since, told });
        } else {
            return self.seal(&told).map(Some);
        }
        Ok(None)
    }

    /// Journals the bans that were prolonged and not told of for a minute, or all of them.
    async fn tell_prolonged(&mut self, all: bool) -> Result<(), EngineError> {
        let now = self.context.clock.monotonic();
        let due =
            self.prolonged.extract_if(.., |_, prolonged| all || now.since(prolonged.since) >= PROLONGED_TOLD_EVERY);
        let due: Vec<Prolonged> = due.map(|(_, prolonged)| prolonged).collect();
        let mut events = Vec::with_capacity(due.len());
        for prolonged in due {
            events.push(self.seal(&prolonged.told)?);
        }
        if !events.is_empty() {
            self.send(events).await?;
        }
        Ok(())
    }

    fn seal<B: Body>(&self, body: &B) -> Result<Observed, EngineError> {
        Ok(self.context.recorder.seal(body, self.context.clock.now())?)
    }

    /// The event of a ban, under the number that was written down with it.
    fn seal_ban(&self, banned: &Banned, number: Option<EventNumber>) -> Result<Observed, EngineError> {
        let (recorder, now) = (&self.context.recorder, self.context.clock.now());
        Ok(recorder.seal_numbered(banned, now, number.unwrap_or_else(|| recorder.number()))?)
    }

    /// Journals events, some hundred at a time, with a sign of life between. Once they are durable, the bans so far are told of.
    async fn send(&self, events: Vec<Observed>) -> Result<bool, EngineError> {
        let mut is_durable = true;
        for events in events.chunks(EVENTS_AT_ONCE) {
            is_durable &= self.context.recorder.send(events.to_vec()).await?.is_durable();
            self.context.progress.tick();
        }
        if is_durable && let Err(error) = self.enforcer.told().await {
            tracing::debug!(%error, "these bans are journaled once more after a restart");
        }
        Ok(is_durable)
    }

    async fn unenforced(&mut self, reason: &str) -> Result<(), EngineError> {
        self.unenforced = Some(reason.to_owned());
        self.impair(PACKET_FILTER.to_owned(), reason.to_owned()).await
    }

    /// Learns who is never banned because of what this host is, and who is logged in.
    async fn look_at_host(&mut self) -> Result<(), EngineError> {
        let facts = tokio::task::spawn_blocking(|| HostFacts::read(Path::new("/"))).await?;
        let monotonic = self.context.clock.monotonic();
        let sessions = self.sessions.look(&facts, self.context.clock.now(), monotonic);
        self.confirm_logins(&sessions, monotonic);
        self.enforcer.allowlist.look(&facts, sessions, []);
        self.host_at = monotonic;
        Ok(())
    }

    /// Looks at the host before a ban, unless it has just been looked at: somebody may have come since the last turn.
    async fn look_before_ban(&mut self) -> Result<(), EngineError> {
        if self.context.clock.monotonic().since(self.host_at) >= LOOK_BEFORE_BAN_EVERY {
            self.look_at_host().await?;
        }
        Ok(())
    }

    /// Looks at the host and the packet filter, and says how it stands.
    async fn turn(&mut self) -> Result<(), EngineError> {
        self.missing().await?;
        self.look_at_host().await?;
        let monotonic = self.context.clock.monotonic();
        match self.sessions.unknown() {
            Some(reason) => self.impair_for_now(SSH_SESSIONS.to_owned(), reason.to_owned()).await?,
            None if self.passing.remove(SSH_SESSIONS).is_some() => self.recover(SSH_SESSIONS).await?,
            None => {}
        }
        self.enforcer.allowlist.forget(self.context.clock.now());
        let enforced = if self.settings.simulate { self.withdraw().await } else { self.enforce(monotonic).await };
        if let Err(error) = enforced {
            self.unenforced(&error.to_string()).await?;
        } else if self.unenforced.take().is_some() {
            self.recover(PACKET_FILTER).await?;
        }
        self.follow_bans().await?;
        self.tell_prolonged(false).await?;
        self.tell_unwritten().await?;
        self.lists(monotonic).await?;
        self.pass(monotonic).await?;
        if monotonic.since(self.counted_at) >= Span::from_secs(60) {
            self.counted_at = monotonic;
            self.count().await?;
        }
        let now = self.context.clock.now();
        let all_read = !self.impaired.keys().any(|what| is_about_reading(what));
        let enforced = self.is_enforced();
        self.figures.stand(Some(self.standing(enforced)));
        let tells = self.tells.as_ref().is_some_and(|(until, _)| *until > now);
        let is_partly = self.impaired.keys().any(|what| self.finding_of(what) == Some(BANS_NOT_ENFORCED));
        let state = match () {
            () if self.unenforced.is_some() => State::Down,
            // That nobody is banned is meant; whether it would work is not known.
            () if self.settings.simulate => State::Flapping,
            // Nobody knows whether somebody was to be banned.
            () if self.missed_at.is_some() => State::Flapping,
            () => State::Up,
        };
        let said = self.statement.turn(now, state, all_read, &[!all_read, !enforced || is_partly, tells]);
        self.say(said).await
    }

    /// Nobody is dropped in simulation, also not by what an earlier start has left in the kernel.
    async fn withdraw(&mut self) -> Result<(), EngineError> {
        match self.enforcer.is_in_kernel().await {
            // What another agent has made is none of ours.
            Ok(false)
            | Err(EnforcerError::Firewall(FirewallError::Missing | FirewallError::NoRight | FirewallError::Owned(_))) => {
                Ok(())
            }
            Ok(true) | Err(_) => Ok(self.enforcer.remove_from_firewall().await?),
        }
    }

    /// Ends the bans whose time is over, and says whether the program of the policy knows of all.
    async fn follow_bans(&mut self) -> Result<(), EngineError> {
        for ban in self.enforcer.expire().await? {
            self.on_ban.changed(ban.hold.network, &ban.rule);
        }
        self.simulated.expire(self.context.clock.now(), self.settings.simulate);
        match self.on_ban.trouble() {
            Some(reason) => self.impair(ON_BAN.to_owned(), reason).await,
            None => self.recover(ON_BAN).await,
        }
    }

    /// Has the lists read when they are due, beside everything else: a server of one may not answer. Bans what they name, and no
    /// longer what they do not.
    async fn lists(&mut self, monotonic: Monotonic) -> Result<(), EngineError> {
        let is_due = self.listed_at.is_none_or(|at| monotonic.since(at) >= lists::EVERY);
        if is_due && self.reading_lists.is_empty() && !self.settings.lists.is_empty() && !self.settings.simulate {
            self.listed_at = Some(monotonic);
            let (lists, state, context) = (self.settings.lists.clone(), self.state.to_owned(), self.context.clone());
            self.reading_lists.spawn(async move { lists::read(&lists, &state, &context).await });
        }
        if self.settings.lists.is_empty() && self.enforcer.listed() != (0, 0) {
            // The policy names none any more.
            self.listed((Vec::new(), BTreeMap::new())).await?;
        }
        Ok(())
    }

    /// Bans what lists name, and no longer what they do not.
    async fn listed(&mut self, (networks, wrong): lists::ReadLists) -> Result<(), EngineError> {
        let unknown = wrong.iter().filter(|(_, trouble)| trouble.is_unknown);
        self.unknown_lists =
            unknown.map(|(list, trouble)| (format!("{LIST}{list}"), trouble.reasons.join("; "))).collect();
        for list in self.settings.lists.clone() {
            match wrong.get(&list) {
                Some(trouble) => self.impair(format!("{LIST}{list}"), trouble.reasons.join("; ")).await?,
                None => self.recover(&format!("{LIST}{list}")).await?,
            }
        }
        if let Err(error) = self.enforcer.lists(networks).await {
            self.unenforced(&error.to_string()).await?;
        }
        match self.enforcer.listed() {
            (_, 0) => self.recover(LISTS).await,
            (_, left_out) => {
                let reason = format!(
                    "{left_out} of the networks are not banned: they are wider than /8 (IPv4) or /19 (IPv6), no packet comes from \
                     there, or they hold too many who are allowed, or nobody else"
                );
                self.impair(LISTS.to_owned(), reason).await
            }
        }
    }

    /// Says which logs are not there, and which are now.
    async fn missing(&mut self) -> Result<(), EngineError> {
        let missing: BTreeMap<String, String> = self.streams.iter().filter_map(Stream::missing).collect();
        for (logs, reason) in &missing {
            self.impair(logs.clone(), reason.clone()).await?;
            self.not_there.insert(logs.clone());
        }
        let found: Vec<String> = self.not_there.iter().filter(|logs| !missing.contains_key(*logs)).cloned().collect();
        for logs in found {
            self.not_there.remove(&logs);
            self.recover(&logs).await?;
        }
        Ok(())
    }

    async fn enforce(&mut self, monotonic: Monotonic) -> Result<(), EngineError> {
        let is_due = self.compared_at.is_none_or(|at| monotonic.since(at) >= self.compare_every);
        if is_due || self.unenforced.is_some() || !self.enforcer.is_present().await? {
            let is_first = self.compared_at.is_none();
            let began = self.context.clock.monotonic();
            let drift = self.enforcer.reconcile().await?;
            let took = self.context.clock.monotonic().since(began).min(RECONCILE_EVERY_MAX);
            let a_tenth = Span::from_micros(took.micros().saturating_mul(10));
            self.compare_every = a_tenth.clamp(RECONCILE_EVERY, RECONCILE_EVERY_MAX);
            self.compared_at = Some(monotonic);
            if !is_first {
                self.mended(&drift).await?;
            }
            if self.looking_at_scans.is_empty()
                && let Some(look) = self.enforcer.has_scan_rules()
            {
                self.looking_at_scans.spawn(look);
            }
        }
        self.lift_allowed().await?;
        self.look_for_missed(monotonic).await?;
        let scanned = self.enforcer.poll_scans().await?;
        if !scanned.is_empty() {
            let made: Vec<MadeBan> = bans_made(&scanned).collect();
            let events = self.done(scanned, &BTreeMap::new()).await?;
            self.send(events).await?;
            let offences = self.recidivists(&made).await?;
            self.act(offences, self.context.clock.now()).await?;
        }
        Ok(())
    }

    /// Journals what somebody else had changed.
    async fn mended(&self, drift: &Drift) -> Result<(), EngineError> {
        if drift.is_none() {
            return Ok(());
        }
        let what = drift.to_string();
        tracing::warn!(what, "something else had changed garant's table: it is as it was");
        self.context.recorder.record(&Mended { what }).await?;
        Ok(())
    }

    /// Mends the rules by which scans are noticed, where they were changed. A look that failed is made again in a minute.
    async fn looked_at_scans(&mut self, looked: Result<bool, FirewallError>) -> Result<(), EngineError> {
        match looked {
            Ok(false) if self.unenforced.is_none() => match self.enforcer.mend_scans().await {
                Ok(drift) => self.mended(&drift).await,
                Err(error) => self.unenforced(&error.to_string()).await,
            },
            Err(error) => {
                tracing::debug!(%error, "the rules that notice port scans were not looked at");
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }

    /// Says whether scans went unnoticed, for as long as what the kernel remembers may have no room.
    async fn look_for_missed(&mut self, monotonic: Monotonic) -> Result<(), EngineError> {
        let Missed { tcp, udp, unbanned } = self.enforcer.missed().await?;
        let mut reasons = Vec::new();
        let protocols: Vec<&str> = [("TCP", tcp), ("UDP", udp)].iter().filter(|of| of.1 > 0).map(|of| of.0).collect();
        if !protocols.is_empty() {
            reasons.push(format!(
                "so many senders ask for closed ports over {} that the kernel has no room to count more: scans by others are not \
                 noticed. They may be forged",
                protocols.join(" and ")
            ));
        }
        if unbanned > 0 {
            reasons.push(format!(
                "more than {} sources were to be banned for scans in a minute: some were not. They may be forged",
                Scans::default().bans_per_minute
            ));
        }
        if !reasons.is_empty() {
            self.missed_at = Some(monotonic);
            return self.impair(PORT_SCANS.to_owned(), reasons.join("; ")).await;
        }
        if self.missed_at.is_some_and(|at| monotonic.since(at) >= Scans::default().window) {
            self.missed_at = None;
            return self.recover(PORT_SCANS).await;
        }
        Ok(())
    }

    fn unbanned(&self, ban: &crate::act::Ban) -> Result<Observed, EngineError> {
        self.on_ban.changed(ban.hold.network, &ban.rule);
        self.seal(&Unbanned { address: shown(ban.hold.network), rule: ban.rule.clone() })
    }

    /// Journals what is said. The words come after the change that they are of.
    async fn say(&self, said: Said) -> Result<(), EngineError> {
        let mut events = Vec::new();
        if let Some(changed) = &said.changed {
            events.push(self.seal(changed)?);
            if changed.state != State::Up {
                events.push(self.seal(&self.detail(None))?);
            }
        }
        for found in &said.found {
            events.push(self.seal(found)?);
            let finding = FINDINGS.into_iter().find(|name| found.open && *name == found.finding.as_str());
            if let Some(finding) = finding {
                events.push(self.seal(&self.detail(Some(finding)))?);
            }
        }
        if let Some(covered) = &said.covered {
            events.push(self.seal(covered)?);
        }
        if !events.is_empty() {
            self.send(events).await?;
        }
        Ok(())
    }

    /// Journals what was counted since the last time.
    async fn count(&mut self) -> Result<(), EngineError> {
        let (recorder, now) = (&self.context.recorder, self.context.clock.now());
        let mut counts = Vec::new();
        for rule in self.streams.iter_mut().flat_map(|stream| &mut stream.rules) {
            let failures = std::mem::take(&mut rule.failures);
            let addresses = std::mem::take(&mut rule.addresses).len();
            if failures > 0 {
                let addresses = u64::try_from(addresses).unwrap_or(u64::MAX);
                let event = Attempts { rule: rule.name.to_string(), failures, addresses };
                counts.push((recorder.number(), now, event));
            }
        }
        if counts.is_empty() {
            return Ok(());
        }
        // What waits behind a full disk is in memory already, and in the file as far as there is room.
        let excess = (self.counts.len() + counts.len()).saturating_sub(COUNTS_MAX).min(self.counts.len());
        self.counts.drain(..excess);
        let new = self.counts.len();
        self.counts.extend(counts);
        // In one write, the rules have counted nothing and this is to be told.
        self.keep().await?;
        self.tell_counts(new).await
    }

    /// Journals what was counted, from this one on. Once it is durable, so is what was sent before.
    async fn tell_counts(&mut self, from: usize) -> Result<(), EngineError> {
        let mut events = Vec::with_capacity(self.counts.len() - from);
        for (number, at, event) in &self.counts[from..] {
            events.push(self.context.recorder.seal_numbered(event, *at, *number)?);
        }
        if !events.is_empty() && self.send(events).await? {
            self.counts.clear();
            self.is_dirty = true;
        }
        Ok(())
    }

    /// What is to be kept, of this instant.
    fn kept(&self) -> Kept {
        Kept {
            streams: self.streams.iter().map(Stream::state).chain(self.left.iter().cloned()).collect(),
            logins: self.enforcer.allowlist.logins().iter().map(|(address, at)| (*address, *at)).collect(),
            disowned: self.enforcer.allowlist.disowned().iter().map(|(address, at)| (*address, *at)).collect(),
            counts: self.counts.clone(),
            simulated: self.simulated.iter().cloned().collect(),
        }
    }

    /// Keeps positions and counts, of one instant. What can't be kept is read again after a crash.
    async fn keep(&mut self) -> Result<(), EngineError> {
        self.finish_keeping().await?;
        self.begin_keeping();
        self.finish_keeping().await
    }

    /// The same when it is due, beside everything else: bans do not wait for it, however much it is.
    async fn keep_beside(&mut self) -> Result<(), EngineError> {
        match &self.keeping {
            Some(task) if !task.is_finished() => return Ok(()),
            Some(_) => self.finish_keeping().await?,
            None => {}
        }
        let is_due = self.context.clock.monotonic().since(self.kept_at) >= keep_every(self.kept_bytes);
        if self.is_dirty && (self.is_urgent || is_due) {
            self.begin_keeping();
        }
        Ok(())
    }

    fn begin_keeping(&mut self) {
        let state = self.kept();
        let path = self.state.join(LOGS);
        (self.is_dirty, self.is_urgent, self.kept_at) = (false, false, self.context.clock.monotonic());
        self.keeping = Some(tokio::task::spawn_blocking(move || {
            let text = serde_json::to_vec(&state)?;
            store::write_whole(&path, &text, 0o600).map(|()| text.len())
        }));
    }

    async fn finish_keeping(&mut self) -> Result<(), EngineError> {
        let Some(task) = self.keeping.take() else { return Ok(()) };
        match task.await? {
            Ok(bytes) => {
                self.kept_bytes = bytes;
                self.recover(POSITIONS).await
            }
            Err(error) => {
                self.is_dirty = true;
                self.impair(POSITIONS.to_owned(), format!("they can't be kept, and are tried again: {error}")).await
            }
        }
    }

    fn standing(&self, is_enforced: bool) -> Standing {
        let mut rules: BTreeMap<String, RuleTotals> = BTreeMap::new();
        for rule in self.streams.iter().flat_map(|stream| &stream.rules) {
            let totals = rules.entry(rule.name.to_string()).or_default();
            totals.failures += rule.totals.failures;
            totals.offences += rule.totals.offences;
        }
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        Standing {
            is_enforced,
            bans: number(self.enforcer.with_bans(Bans::held_len)),
            unread: number(self.impaired.keys().filter(|what| is_about_reading(what)).count()),
            banned: self.totals.bans,
            lines: self.totals.lines,
            rules,
        }
    }

    /// Whether the packet filter drops who is banned.
    const fn is_enforced(&self) -> bool {
        self.unenforced.is_none() && !self.settings.simulate
    }
}

/// How often what has so many bytes is kept.
fn keep_every(bytes: usize) -> Span {
    let seconds = i64::try_from(bytes / KEPT_BYTES_A_SECOND).unwrap_or(i64::MAX);
    Span::from_secs(seconds.clamp(KEEP_EVERY.secs(), KEEP_EVERY_MAX.secs()))
}

/// Reads the journal of systemd for ever, and starts over where it ended.
async fn read_journal(
    context: Context,
    settings: crate::source::JournalSettings,
    since: Span,
    mut cursor: Option<String>,
    number: usize,
    entries: mpsc::Sender<(usize, Result<JournalBatch, JournalError>)>,
) {
    loop {
        // journalctl does not notice a journal that begins later.
        while settings.missing(Path::new("/")).is_some() {
            tokio::time::sleep(TURN).await;
        }
        let followed = Journal::follow(&context.programs, &settings, cursor.as_deref(), since, context.clock.now());
        let error = match followed {
            Ok(mut journal) => loop {
                match journal.next().await {
                    Ok(batch) => {
                        cursor = batch.cursor.clone().or(cursor);
                        if entries.send((number, Ok(batch))).await.is_err() {
                            return;
                        }
                    }
                    Err(error) => break error,
                }
            },
            Err(error) => error,
        };
        if entries.send((number, Err(error))).await.is_err() {
            return;
        }
        tokio::time::sleep(TURN).await;
    }
}

/// The rules of streams, by name, with what they have counted.
fn rules_of(streams: &mut [Stream]) -> impl Iterator<Item = (&str, &mut RuleTotals)> {
    streams.iter_mut().flat_map(|stream| &mut stream.rules).map(|rule| (&*rule.name, &mut rule.totals))
}

/// A random number below a thousand million.
fn draw_ppb(random: &dyn engine::Random) -> u32 {
    u32::try_from(random.number() % 1_000_000_000).unwrap_or(0)
}

/// How much is left of the ban of an offence, which counts from the last failure: of one that is long ago, little or nothing.
pub(crate) fn left(offence: &FoundOffence, now: Time) -> Option<Span> {
    match offence.lasts {
        BanLength::Forever => None,
        BanLength::For(span) => Some(span - now.since(offence.at)),
    }
}

/// Whether an offence whose ban would end at `until` has its ban already. One that has ended by `now` is none, for who offends again
/// is banned again.
pub(crate) fn answered(bans: &Bans, offence: &FoundOffence, until: Option<Time>, now: Time) -> bool {
    let key = BanKey { network: offence.network, rule: offence.rule.to_string() };
    // A line that is read again after a crash: its ban was made, and is not to be longer because of itself.
    let is_again = bans.past(&key).is_some_and(|past| offence.at <= past.last);
    let lasts = |ban: &Ban| ban.until.is_none_or(|ends| until.is_some_and(|until| ends >= until));
    is_again || bans.get_at(&key, now).is_some_and(lasts)
}

/// What somebody is told of a ban.
fn words_on(ban: &Ban) -> String {
    let until = ban.until.map_or_else(|| "for ever".to_owned(), |until| format!("until {until}"));
    format!("{} is banned by {} {until}", shown(ban.hold.network), ban.rule)
}

/// The bans among what was done.
fn bans_made(done: &[Done]) -> impl Iterator<Item = MadeBan> {
    done.iter().filter_map(|done| match done {
        Done::Banned(ban) | Done::Known(ban) => {
            Some(MadeBan { network: ban.network, rule: ban.rule.clone(), at: ban.since, until: ban.until })
        }
        _ => None,
    })
}

/// The event of an offence that bans nobody.
fn banned(offence: &FoundOffence, until: Option<Time>, count: u32, enforced: bool) -> Banned {
    Banned {
        address: shown(offence.network),
        rule: offence.rule.to_string(),
        log: offence.log.to_string(),
        failures: u32::try_from(offence.failures).unwrap_or(u32::MAX),
        until,
        count,
        enforced,
        prolonged: 0,
    }
}
