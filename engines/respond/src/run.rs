//! The engine: carries entries, requests, times and results to the [`Desk`], and rows, events and letters away from it.
//!
//! Each turn is one transaction: the cursor, the rows that changed, and the events that say so. Letters are sent after it, and
//! their results are the next turn: send, then mark. So after a crash a message may be sent twice, with the same identifier, and
//! none is lost. While the storage takes nothing, what is to be written waits in memory and messages are sent all the same: a full
//! disk must not silence the alert that says so.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use engine::door::{Call, Reply};
use engine::http::Request as HttpRequest;
use engine::{BoxFuture, Context, Engine, EngineError, Feed};
use event::evidence::Reacted;
use event::policy::Applied;
use event::{Body, Monotonic, Observed, Span, Time};
use journal::published::Published;
use promise::InEffect;
use store::{Consumers, Read, Row, Select, Step, StoreError};
use subtle::ConstantTimeEq as _;
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::task::JoinSet;

#[cfg(test)]
mod campaign;

use crate::act::{Language, Means, Sent};
use crate::compose::Composer;
use crate::config::{Alerting, Config};
use crate::detect::desk::{Desk, Letter, Note, Now};
use crate::events::{AlertChanged, HoldChanged, Notified, OnCallChanged, Silenced};
use crate::figures::Figures;
use crate::people::Override;
use crate::source::journal::JournalFold;
use crate::source::standing::Standing;

/// Longest wait between two turns.
const TURN_EVERY: Span = Span::from_secs(5);
/// Shortest time between two turns that entries of the journal ask for.
const SPACING: Duration = Duration::from_millis(20);
/// Longest time of one attempt to send.
const SEND_WITHIN: Duration = Duration::from_secs(30);
/// How long a stop waits for messages under way.
const FINISH_WITHIN: Duration = Duration::from_secs(3);
/// Most rows of one transaction.
const ROWS_MAX: usize = 2000;
/// Most events of one transaction.
const EVENTS_MAX: usize = 500;
/// Most events that wait while the storage takes nothing; at the bound the oldest go.
const WAITING_MAX: usize = 10_000;
/// Time between two attempts to write what waits.
const WRITE_AGAIN: Span = Span::from_secs(5);
/// How often the outside is told that all of this works.
const HEARTBEAT_EVERY: Span = Span::from_secs(60);
/// How often tokens are read again.
const TOKENS_EVERY: Span = Span::from_secs(60);
/// How old the judge's last evaluation may be while it counts as working.
const EVALUATED_WITHIN: Span = Span::from_secs(120);
/// Most requests that wait for the engine.
const REQUESTS_MAX: usize = 64;

/// A request of somebody outside, with the place of its answer.
pub(crate) struct Request {
    pub(crate) call: Call,
    pub(crate) reply: oneshot::Sender<Reply>,
}

/// What callers are judged by before anything is read: digests of tokens, and the key of links.
#[derive(Clone, Default)]
pub(crate) struct Admission {
    /// Names and digests of the tokens of intakes.
    pub(crate) tokens: Vec<(String, [u8; 32])>,
    /// The key of one-time links; empty before the first start.
    pub(crate) link_key: String,
}

impl Admission {
    /// The name of the intake whose token this is.
    pub(crate) fn intake(&self, secret: &[u8]) -> Option<&str> {
        let digest = crate::digest(&[secret]);
        let mut found = None;
        // All are compared, so that the time does not tell which.
        for (name, token) in &self.tokens {
            if bool::from(token.ct_eq(&digest)) {
                found = Some(name.as_str());
            }
        }
        found
    }
}

/// The engine, as it is made once: what outlives an attempt.
pub struct Respond {
    config: watch::Receiver<Arc<Config>>,
    applied: watch::Receiver<Arc<Applied>>,
    in_effect: watch::Receiver<Arc<InEffect>>,
    published: watch::Receiver<Option<Arc<Published>>>,
    journal: Arc<dyn Read>,
    consumers: Arc<dyn Consumers>,
    requests: mpsc::Sender<Request>,
    listener: Arc<Mutex<mpsc::Receiver<Request>>>,
    admission: watch::Sender<Arc<Admission>>,
    overrides: Arc<RwLock<Vec<Override>>>,
    figures: Arc<Figures>,
}

impl Respond {
    /// The engine over this part of the policy.
    pub fn new(
        config: watch::Receiver<Arc<Config>>,
        applied: watch::Receiver<Arc<Applied>>,
        in_effect: watch::Receiver<Arc<InEffect>>,
        published: watch::Receiver<Option<Arc<Published>>>,
        journal: Arc<dyn Read>,
        consumers: Arc<dyn Consumers>,
    ) -> Self {
        let (requests, listener) = mpsc::channel(REQUESTS_MAX);
        Self {
            config,
            applied,
            in_effect,
            published,
            journal,
            consumers,
            requests,
            listener: Arc::new(Mutex::new(listener)),
            admission: watch::Sender::new(Arc::default()),
            overrides: Arc::default(),
            figures: Arc::default(),
        }
    }

    /// The figures, to be put into `/metrics`.
    pub fn figures(&self) -> Arc<Figures> {
        Arc::clone(&self.figures)
    }

    /// The door at which people and programs ask.
    pub fn door(&self) -> crate::door::RespondDoor {
        crate::door::RespondDoor::new(self.requests.clone(), self.admission.subscribe())
    }

    async fn respond(&self, context: Context) -> Result<(), EngineError> {
        let mut listener = self.listener.clone().lock_owned().await;
        let mut config = self.config.clone();
        let mut applied = self.applied.clone();
        let mut size = self.journal.size_watch();
        let mut state = State::load(self, &context).await?;
        let mut sending = Sending::default();
        let mut heartbeat: JoinSet<()> = JoinSet::new();
        loop {
            context.progress.tick();
            if config.has_changed().unwrap_or(false) || applied.has_changed().unwrap_or(false) {
                let (config, applied) =
                    (Arc::clone(&config.borrow_and_update()), Arc::clone(&applied.borrow_and_update()));
                state.follow(config, &applied, &context);
            }
            size.mark_unchanged();
            state.read(&context).await?;
            let now = state.now(&context);
            state.stand(&self.in_effect.borrow(), self.published.borrow().as_deref(), now);
            state.desk.turn(now);
            let letters = state.desk.letters(now);
            self.figures.stand(&state.desk);
            state.write(&context, false).await?;
            if context.stop.is_cancelled() {
                return state.finish(sending, &context).await;
            }
            for letter in letters {
                state.send(letter, now, &context, &mut sending);
            }
            state.beat(&self.in_effect.borrow(), now, &context, &mut heartbeat);
            if state.tokens_read_at.is_none_or(|at| now.steady.since(at) >= TOKENS_EVERY) {
                state.tokens_read_at = Some(now.steady);
                state.admitted = Arc::new(state.admission(&context).await);
                self.admission.send_replace(Arc::clone(&state.admitted));
            }
            let wait = state.desk.wakes().map_or(TURN_EVERY, |at| at.since(now.steady)).min(TURN_EVERY);
            let wait = if state.waits_to_write() { wait.min(WRITE_AGAIN) } else { wait };
            tokio::select! {
                () = context.stop.cancelled() => {}
                () = tokio::time::sleep(wait.max(Span::from_millis(10)).to_std()) => {}
                Ok(()) = appended(&mut size) => {}
                Ok(()) = config.changed() => config.mark_changed(),
                Ok(()) = applied.changed() => applied.mark_changed(),
                Some((letter, sent)) = sending.next() => {
                    self.figures.sent(&letter.channel, &sent);
                    state.sent(&letter, &sent, &context);
                }
                Some(request) = listener.recv() => {
                    let now = state.now(&context);
                    let reply = state.answer(&request.call, now, &context);
                    state.desk.turn(now);
                    // The answer is given once what it says is durable.
                    state.write(&context, false).await?;
                    if request.reply.send(reply).is_err() {
                        tracing::debug!("whoever asked did not wait for the answer");
                    }
                }
            }
            // Results that are there already are one turn.
            while let Some((letter, sent)) = sending.next_already() {
                self.figures.sent(&letter.channel, &sent);
                state.sent(&letter, &sent, &context);
            }
            while heartbeat.try_join_next().is_some() {}
        }
    }
}

/// Waits for an entry, and no less than [`SPACING`]: a thousand entries a second are not a thousand turns.
async fn appended(size: &mut watch::Receiver<u64>) -> Result<(), watch::error::RecvError> {
    tokio::time::sleep(SPACING).await;
    size.changed().await
}

impl Engine for Respond {
    fn name(&self) -> &'static str {
        crate::NAME
    }

    fn stop_order(&self) -> u8 {
        3
    }

    fn run(&self, context: Context) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(self.respond(context))
    }
}

/// The letters under way, each in a task of its own.
#[derive(Default)]
struct Sending {
    tasks: JoinSet<Sent>,
    letters: HashMap<tokio::task::Id, Letter>,
}

impl Sending {
    fn spawn(&mut self, letter: Letter, send: impl Future<Output = Sent> + Send + 'static) {
        let task = self.tasks.spawn(send);
        self.letters.insert(task.id(), letter);
    }

    /// The next result; `None` when nothing is under way.
    async fn next(&mut self) -> Option<(Letter, Sent)> {
        let done = self.tasks.join_next_with_id().await?;
        self.result(done)
    }

    /// A result that is there already.
    fn next_already(&mut self) -> Option<(Letter, Sent)> {
        let done = self.tasks.try_join_next_with_id()?;
        self.result(done)
    }

    fn result(&mut self, done: Result<(tokio::task::Id, Sent), tokio::task::JoinError>) -> Option<(Letter, Sent)> {
        let (id, sent) = match done {
            Ok(done) => done,
            // A channel that panics must not keep its place for ever.
            Err(error) => {
                let reason = "the channel failed in an unexpected way: see the log".to_owned();
                (error.id(), Sent::Again { reason, after: None })
            }
        };
        self.letters.remove(&id).map(|letter| (letter, sent))
    }
}

/// The state of one attempt.
pub(crate) struct State {
    pub(crate) desk: Desk,
    fold: JournalFold,
    feed: Feed,
    cursor: Option<u64>,
    position: u64,
    pub(crate) config: Arc<Config>,
    pub(crate) alerting: Alerting,
    /// Whom the door lets in.
    pub(crate) admitted: Arc<Admission>,
    standing: Standing,
    consumers: Arc<dyn Consumers>,
    pub(crate) overrides: Arc<RwLock<Vec<Override>>>,
    /// Rows of the last changes that the store has not taken yet.
    rows: BTreeMap<String, Row>,
    events: Vec<Observed>,
    failing_since: Option<Time>,
    base: (Time, Monotonic),
    beat_at: Option<Time>,
    tokens_read_at: Option<Time>,
}

impl State {
    async fn load(respond: &Respond, context: &Context) -> Result<Self, EngineError> {
        let config = Arc::clone(&respond.config.borrow());
        let applied = Arc::clone(&respond.applied.borrow());
        let alerting = config.alerting.clone().with(&applied);
        let base = (context.clock.now(), context.clock.monotonic());
        let overrides = Arc::clone(&respond.overrides);
        let cursor = respond.consumers.position(crate::NAME).await?;
        let mut fold = JournalFold::beginning_at(base.0);
        let mut rows = Vec::new();
        let mut last: Option<String> = None;
        loop {
            let some = respond.consumers.rows(crate::NAME, "", last.as_deref(), store::ROWS_MAX).await?;
            let Some((key, _)) = some.last() else { break };
            last = Some(key.clone());
            rows.extend(some);
            context.progress.tick();
        }
        let mut known = Vec::new();
        let mut desk_rows = Vec::new();
        for (key, value) in rows {
            if let Some(("override", _)) = key.split_once('/') {
                known.extend(serde_json::from_slice::<Override>(&value).ok());
            } else if !fold.take_row(&key, &value) {
                desk_rows.push((key, value));
            }
        }
        *overrides.write().unwrap_or_else(PoisonError::into_inner) = known;
        let rules = Arc::new(config.rules(reader(&overrides)));
        let now = Now { steady: base.0, wall: base.0 };
        let desk = Desk::restore(Arc::clone(&rules), desk_rows, now).unwrap_or_else(|| {
            let mut key = [0; 32];
            context.random.fill(&mut key);
            let name = format!("{:016x}", context.random.number());
            Desk::new(rules, name, STANDARD_NO_PAD.encode(key))
        });
        let feed = Feed::new(Arc::clone(&respond.journal), cursor.unwrap_or(0), Select::Kinds(JournalFold::kinds()));
        let mut state = Self {
            desk,
            fold,
            feed,
            cursor,
            position: cursor.unwrap_or(0),
            config,
            alerting,
            admitted: Arc::default(),
            standing: Standing::default(),
            consumers: Arc::clone(&respond.consumers),
            overrides,
            rows: BTreeMap::new(),
            events: Vec::new(),
            failing_since: None,
            base,
            beat_at: None,
            tokens_read_at: None,
        };
        let mut signals = state.fold.follow(&applied, &state.alerting, now.steady);
        signals.extend(state.fold.reconcile(state.desk.firing_keys(""), &applied, now.steady));
        if cursor.is_none() {
            // The first start: what is wrong now counts, and not what once was.
            while let Some(batch) = state.feed.read(&context.progress).await? {
                for envelope in batch.entries.iter().filter_map(|entry| entry.envelope.as_ref()) {
                    drop(state.fold.take(envelope, &state.alerting, now.steady));
                }
                state.position = batch.to;
            }
            for signal in state.fold.open(&state.alerting) {
                state.desk.signal(signal, now);
            }
        } else {
            for signal in signals {
                state.desk.signal(signal, now);
            }
        }
        state.end_of_intakes(now);
        Ok(state)
    }

    /// When this attempt began.
    pub(crate) const fn started_at(&self) -> Time {
        self.base.0
    }

    /// The clocks. The steady one goes on from where the wall clock was at the start.
    pub(crate) fn now(&self, context: &Context) -> Now {
        let steady = self.base.0 + context.clock.monotonic().since(self.base.1);
        Now { steady, wall: context.clock.now() }
    }

    fn follow(&mut self, config: Arc<Config>, applied: &Arc<Applied>, context: &Context) {
        let now = self.now(context);
        self.alerting = config.alerting.clone().with(applied);
        self.desk.follow(Arc::new(config.rules(reader(&self.overrides))));
        self.config = config;
        self.tokens_read_at = None;
        let mut signals = self.fold.follow(applied, &self.alerting, now.steady);
        signals.extend(self.fold.reconcile(self.desk.firing_keys(""), applied, now.steady));
        for signal in signals {
            self.desk.signal(signal, now);
        }
        self.end_of_intakes(now);
    }

    /// Reads the new entries.
    async fn read(&mut self, context: &Context) -> Result<(), EngineError> {
        self.fold.passes(context.clock.now());
        while let Some(batch) = self.feed.read(&context.progress).await? {
            let now = self.now(context);
            for envelope in batch.entries.iter().filter_map(|entry| entry.envelope.as_ref()) {
                for signal in self.fold.take(envelope, &self.alerting, now.steady) {
                    self.desk.signal(signal, now);
                }
            }
            self.position = batch.to;
        }
        let now = self.now(context);
        if self.desk.has_room_again(now) {
            for signal in self.fold.open(&self.alerting) {
                self.desk.signal(signal, now);
            }
        }
        // While nothing can be written no observer is heard, and it is not their fault.
        if self.waits_to_write() || self.desk.fires("storage") {
            self.fold.excuse(now.steady);
        }
        for signal in self.fold.look(&self.alerting, now.steady) {
            self.desk.signal(signal, now);
        }
        Ok(())
    }

    /// Compares what stands in no single entry with the alerts.
    fn stand(&mut self, in_effect: &InEffect, published: Option<&Published>, now: Now) {
        let mut signals = Standing::burning(in_effect, &self.desk, &self.alerting, now.wall);
        let witnesses = self.config.witnesses();
        signals.extend(self.standing.witnesses(published, witnesses, &self.desk, &self.alerting, now.steady));
        for signal in signals {
            self.desk.signal(signal, now);
        }
    }

    /// Whether the store has refused something that is still to be written.
    const fn waits_to_write(&self) -> bool {
        self.failing_since.is_some()
    }

    /// Writes what changed.
    async fn write(&mut self, context: &Context, _last: bool) -> Result<(), EngineError> {
        let now = self.now(context);
        for row in self.desk.take_rows().into_iter().chain(self.fold.take_rows()) {
            self.rows.insert(row.key().to_owned(), row);
        }
        for note in self.desk.take_notes() {
            match self.event(&note, context, now) {
                Ok(event) => self.events.extend(event),
                Err(error) => tracing::error!(%error, "an event of the alerts can't be journaled"),
            }
        }
        // The cursor alone is written now and then only: reading a few entries again does no harm.
        let moved = self.cursor.is_none_or(|cursor| self.position >= cursor + CURSOR_EVERY);
        if self.rows.is_empty() && self.events.is_empty() && !moved {
            return Ok(());
        }
        loop {
            let keys: Vec<String> = self.rows.keys().take(ROWS_MAX).cloned().collect();
            let rows: Vec<Row> = keys.iter().filter_map(|key| self.rows.get(key).cloned()).collect();
            let events: Vec<Observed> = self.events.iter().take(EVENTS_MAX).cloned().collect();
            let (written, count) = (keys.len(), events.len());
            let is_last = written == self.rows.len() && count == self.events.len();
            // The cursor moves with the last of them: until then the entries would be read again.
            let to = if is_last { self.position } else { self.cursor.unwrap_or(0) };
            let step = Step { rows, events, ..Step::new(crate::NAME, self.cursor, to) };
            match self.consumers.step(step).await {
                Ok(_) => {
                    self.cursor = Some(to);
                    for key in keys {
                        self.rows.remove(&key);
                    }
                    self.events.drain(..count);
                    if let Some(since) = self.failing_since.take() {
                        tracing::info!(%since, "the state of the alerts is written again");
                    }
                    context.progress.tick();
                    if is_last {
                        return Ok(());
                    }
                }
                Err(
                    error @ (StoreError::Full { .. } | StoreError::Unavailable { .. } | StoreError::Displaced { .. }),
                ) => {
                    if self.failing_since.is_none() {
                        self.failing_since = Some(now.wall);
                        tracing::error!(%error, "the state of the alerts can't be written: people are told all the same");
                    }
                    if let Some(beyond) = self.events.len().checked_sub(WAITING_MAX).filter(|beyond| *beyond > 0) {
                        self.events.drain(..beyond);
                        tracing::error!(
                            events = beyond,
                            "the storage takes nothing: the oldest events of the alerts are lost"
                        );
                    }
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn event(&mut self, note: &Note, context: &Context, now: Now) -> Result<Option<Observed>, EngineError> {
        let seal = |body: &dyn SealBy| body.seal(context, now.wall);
        let event = match note {
            Note::Alert(id, state) => {
                let Some(alert) = self.desk.alerts.get(id) else { return Ok(None) };
                let lead = alert.lead.as_ref();
                let person = lead.and_then(|lead| match *state {
                    "acknowledged" => lead.acknowledged.as_ref().map(|it| it.by.clone()),
                    "handed_over" => lead.handed_to.clone(),
                    _ => None,
                });
                let body = AlertChanged {
                    alert: *id,
                    key: alert.key.clone(),
                    state: (*state).to_owned(),
                    severity: lead.map_or(alert.opening.severity, |lead| lead.severity),
                    alerts: self.desk.members.get(id).map_or(1, |members| members.len() as u64),
                    person: person.map(|name| self.desk.pseudonym(&name)),
                };
                seal(&body)?
            }
            Note::Notified { thread, state } => {
                let known = self.desk.threads.get(thread);
                let reason = known.filter(|_| *state == "failed").and_then(|thread| thread.failure.clone());
                let body = Notified {
                    alert: thread.alert,
                    person: thread.person.clone(),
                    channel: thread.channel.clone(),
                    state: (*state).to_owned(),
                    reason,
                };
                if let Some(reason) = &body.reason {
                    tracing::warn!(alert = thread.alert, channel = %thread.channel, %reason, "somebody could not be told");
                }
                seal(&body)?
            }
            Note::Reacted { to, alert, at } => {
                let Some(alert) = self.desk.alerts.get(alert) else { return Ok(None) };
                let opening = &alert.opening;
                let (Some(probe), Some(by)) = (opening.probe.clone(), opening.shown_by) else { return Ok(None) };
                let (finding, at) = (opening.finding.clone(), *at);
                seal(&Reacted { to: *to, ..Reacted::to_failure(probe, finding, by, at) })?
            }
            Note::Tested { queued_at, at } => {
                // Both times are of the wall clock, as far as it did not step meanwhile.
                let queued_at = now.wall - now.steady.since(*queued_at);
                seal(&Reacted::to_test(queued_at, *at))?
            }
            Note::Silenced(silence) => {
                let matchers = silence.matchers.iter().map(ToString::to_string).collect();
                let body = Silenced {
                    id: silence.id.clone(),
                    matchers,
                    from: silence.starts_at,
                    to: silence.ends_at,
                    person: self.desk.pseudonym(&silence.by),
                    comment: silence.comment.clone(),
                };
                seal(&body)?
            }
            Note::Held(held, by, reason) => {
                let body = HoldChanged { held: *held, person: self.desk.pseudonym(by), reason: reason.clone() };
                seal(&body)?
            }
        };
        // A pseudonym that was given just now is a row of the same transaction.
        for row in self.desk.take_rows() {
            self.rows.insert(row.key().to_owned(), row);
        }
        Ok(Some(event))
    }

    /// Journals a change of who is on call, and keeps it.
    pub(crate) fn keep_override(&mut self, made: Override, removed: bool, by: &str, context: &Context, now: Now) {
        let body = OnCallChanged {
            id: made.id.clone(),
            schedule: made.schedule.to_string(),
            person: self.desk.pseudonym(made.person.as_str()),
            from: made.interval.start,
            to: made.interval.end,
            by: self.desk.pseudonym(by),
            removed,
        };
        match body.seal(context, now.wall) {
            Ok(event) => self.events.push(event),
            Err(error) => tracing::error!(%error, "a change of who is on call can't be journaled"),
        }
        let key = format!("override/{}", made.id);
        let mut overrides = self.overrides.write().unwrap_or_else(PoisonError::into_inner);
        overrides.retain(|known| known.id != made.id);
        let row = match serde_json::to_vec(&made) {
            Ok(value) if !removed => {
                overrides.push(made);
                Row::Put { key: key.clone(), value }
            }
            _ => Row::Delete { key: key.clone() },
        };
        self.rows.insert(key, row);
    }

    /// Waits for the letters under way when the engine stops, so that the next start does not send them again.
    async fn finish(&mut self, mut sending: Sending, context: &Context) -> Result<(), EngineError> {
        let all = async {
            while let Some((letter, sent)) = sending.next().await {
                self.sent(&letter, &sent, context);
            }
        };
        if tokio::time::timeout(FINISH_WITHIN, all).await.is_err() {
            tracing::warn!("a message is still under way: it may be sent again after the next start");
        }
        self.write(context, true).await
    }

    /// Sends a letter in a task of its own.
    fn send(&self, letter: Letter, now: Now, context: &Context, sending: &mut Sending) {
        let rule = self.desk.rules.people.iter().find(|person| person.name == letter.person);
        let language = rule.map_or(Language::En, |person| person.language);
        let links = self.config.links();
        let composer = Composer {
            desk: &self.desk,
            zone: self.config.people().zone_of(&letter.person),
            links: links.as_deref(),
            now,
        };
        let channels = self.config.channels(&letter.person);
        let channel = channels.into_iter().find(|(id, _)| *id == letter.channel).map(|(_, channel)| channel);
        let first = letter.threads.first().and_then(|thread| self.desk.threads.get(&thread.key));
        let earlier = first.and_then(|thread| thread.refers_to().map(str::to_owned));
        let (Some(message), Some(channel)) = (composer.message(&letter, language), channel) else {
            let reason = "the policy has no such channel any more".to_owned();
            sending.spawn(letter, async move { Sent::Refused { reason } });
            return;
        };
        let context = context.clone();
        sending.spawn(letter, async move {
            let means = Means {
                net: &context.net,
                secrets: &context.secrets,
                clock: context.clock.as_ref(),
                random: context.random.as_ref(),
            };
            let sent = tokio::time::timeout(SEND_WITHIN, channel.send(&message, earlier.as_deref(), means)).await;
            let late = || Sent::Again { reason: format!("no answer within {} s", SEND_WITHIN.as_secs()), after: None };
            sent.unwrap_or_else(|_| late())
        });
    }

    fn sent(&mut self, letter: &Letter, sent: &Sent, context: &Context) {
        let now = self.now(context);
        self.desk.sent(letter, sent, context.random.number(), now);
    }

    /// Tells the outside that journal, judge and notifications work, once a minute while they do.
    fn beat(&mut self, in_effect: &InEffect, now: Now, context: &Context, tasks: &mut JoinSet<()>) {
        let Some(secret) = self.config.heartbeat() else { return };
        if self.beat_at.is_some_and(|at| now.steady.since(at) < HEARTBEAT_EVERY) || !tasks.is_empty() {
            return;
        }
        let judged = in_effect.evaluated_at().is_some_and(|at| now.wall.since(at) <= EVALUATED_WITHIN);
        if self.waits_to_write() || !judged {
            return;
        }
        self.beat_at = Some(now.steady);
        let (secret, context) = (secret.clone(), context.clone());
        tasks.spawn(async move {
            let url = match context.secrets.open(&secret).await {
                Ok(opened) => String::from_utf8_lossy(opened.bytes()).trim().to_owned(),
                Err(error) => {
                    tracing::warn!(%error, "the heartbeat to the outside can't be sent");
                    return;
                }
            };
            let answer =
                HttpRequest::get(url).within(Span::from_secs(15)).body_bytes_max(64 * 1024).send(&context.net).await;
            // The address is a secret: the error of the client would show it.
            match answer {
                Ok(answer) if answer.success() => {}
                Ok(answer) => tracing::warn!(status = answer.status, "the heartbeat to the outside was not taken"),
                Err(error) => tracing::warn!(reason = %error.failure, "the heartbeat to the outside was not taken"),
            }
        });
    }

    async fn admission(&self, context: &Context) -> Admission {
        let mut tokens = Vec::new();
        for intake in &self.config.intakes {
            match context.secrets.open(&intake.token).await {
                Ok(token) => tokens.push((intake.name.clone(), crate::digest(&[token.bytes()]))),
                Err(error) => tracing::warn!(intake = intake.name, %error, "this program can't tell any alerts"),
            }
        }
        Admission { tokens, link_key: self.desk.memory.link_key.clone() }
    }
}

/// Entries after which the cursor is written although nothing else changed.
const CURSOR_EVERY: u64 = 200;

fn reader(overrides: &Arc<RwLock<Vec<Override>>>) -> Arc<dyn Fn() -> Vec<Override> + Send + Sync> {
    let overrides = Arc::clone(overrides);
    Arc::new(move || overrides.read().unwrap_or_else(PoisonError::into_inner).clone())
}

/// A body of whatever type, sealed by the recorder.
trait SealBy {
    fn seal(&self, context: &Context, at: Time) -> Result<Observed, EngineError>;
}

impl<B: Body> SealBy for B {
    fn seal(&self, context: &Context, at: Time) -> Result<Observed, EngineError> {
        Ok(context.recorder.seal(self, at)?)
    }
}
