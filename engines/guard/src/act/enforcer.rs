//! What joins bans, allowlist and packet filter: every ban, and every end of one, goes through here.
//!
//! **Order.** A ban is written down and enforced at the same time, and acknowledged when both are done. When the process dies in
//! between there is either a ban in the file that the kernel has not, which the next [`reconcile`](Enforcer::reconcile) mends, or
//! one in the kernel that the file has not, which the first one adopts. **Mending** is the same path at every start, after every
//! reboot, and whenever somebody else has changed our table: read, compare, change what differs; when the table is gone or its
//! rules are not ours, one transaction makes all of it again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use engine::EventNumber;
use event::{Clock, Monotonic, Span, Time};
use ipnet::IpNet;

use super::allowlist::{canonical, widened};
use super::bans::longer;
use super::firewall::NoFirewall;
use super::{
    Admission, Allowlist, Ban, BanCounts, BanKey, Bans, BansError, Caps, Firewall, FirewallError, Held, Hold, Lasting,
    Missed, Origin, PastBans, Ports, Refusal, Scans, Wanted,
};

#[cfg(test)]
mod tests;

/// The rule of bans that the kernel made by itself.
const SCAN_RULE: &str = "port-scan";
/// The rule of bans that were found in the kernel and not in the file.
pub(crate) const ADOPTED_RULE: &str = "adopted";
/// A difference of times that is none: the kernel tells whole seconds, and reading takes a while.
const TOLERANCE: Span = Span::from_secs(5);
/// Longest time that is compared: the packet filter is given no longer one.
const COMPARED_MAX: Span = Span::from_days(365);

/// Most time that a change of the packet filter is taken to have taken: none takes longer, unless this machine slept.
const LATE_MAX: Span = Span::from_secs(60);

/// What is asked every few seconds and takes so long is asked less often.
const LONG: Span = Span::from_micros(200_000);

/// The end of the year 9999.
const CALENDAR_END: Time = Time::from_secs(253_402_300_800);

/// A ban that is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// Whom to ban.
    pub network: IpNet,
    /// The rule that asks.
    pub rule: String,
    /// Which ports to close.
    pub ports: Ports,
    /// How long for.
    pub lasts: Lasting,
    /// When the offence was, for the label of the ban; now, unless it was imported.
    pub since: Option<Time>,
    /// How it comes about. Only [`Origin::Detected`] is counted against the caps.
    pub origin: Origin,
}

/// What became of a ban that was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Done {
    /// It is durable and enforced.
    Banned(Ban),
    /// It was in force already, and has the longer of both times: that is durable and enforced.
    Prolonged(Ban),
    /// It is durable, and was enforced already: as one that was found in the packet filter at the start, which this one takes the
    /// place of.
    Known(Ban),
    /// It is over the cap, and nothing was done.
    Simulated {
        /// What was asked for.
        request: Request,
        /// Whether the cap has just been reached: that is alerted of.
        first: bool,
    },
    /// It must not be.
    Refused(Request, Refusal),
}

/// What differed between the packet filter and the bans; all of it has been mended.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a difference of its own, and any of them may be")]
pub struct Drift {
    /// Our table was not there: a reboot, or somebody removed it.
    pub table_gone: bool,
    /// A rule of ours was missing or changed.
    pub rules_changed: bool,
    /// Bans that were not enforced.
    pub missing: usize,
    /// Bans that were enforced for another time than meant.
    pub times: usize,
    /// What was held back without a ban.
    pub extra: usize,
    /// Of those, what has been adopted, at a start.
    pub adopted: usize,
    /// The set of allowed networks was another.
    pub allow_changed: bool,
    /// The set of networks of lists was another.
    pub lists_changed: bool,
}

impl Drift {
    /// Whether nothing differed.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl std::fmt::Display for Drift {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut all = Vec::new();
        let facts = [
            (self.table_gone, "the table was gone"),
            (self.rules_changed, "rules were missing or changed"),
            (self.allow_changed, "the allowed networks were others"),
            (self.lists_changed, "the networks of lists were others"),
        ];
        all.extend(facts.into_iter().filter(|(is_so, _)| *is_so).map(|(_, words)| words.to_owned()));
        let counts = [
            (self.missing, "bans were missing"),
            (self.times, "bans had another time"),
            (self.extra, "were banned without a ban"),
        ];
        all.extend(counts.into_iter().filter(|(count, _)| *count > 0).map(|(count, words)| format!("{count} {words}")));
        f.write_str(&all.join(", "))
    }
}

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum EnforcerError {
    /// The packet filter could not be changed.
    #[error(transparent)]
    Firewall(#[from] FirewallError),
    /// The file could not be written.
    #[error(transparent)]
    Bans(#[from] BansError),
    /// The thread that writes the file died.
    #[error("the bans could not be written down: the task ended early")]
    Task,
}

/// Numbers for the events that tell of bans.
pub type EventNumbers = Arc<dyn Fn() -> EventNumber + Send + Sync>;

/// Bans and unbans.
pub struct Enforcer {
    /// The packet filter that is changed: that of the kernel, and none in simulation.
    firewall: Arc<dyn Firewall>,
    kernel: Arc<dyn Firewall>,
    is_simulated: bool,
    bans: Arc<Mutex<Bans>>,
    clock: Arc<dyn Clock>,
    numbers: EventNumbers,
    /// Who is never banned. After a change of it, [`allow_changed`](Self::allow_changed) is to be called.
    pub allowlist: Allowlist,
    caps: Caps,
    lists: Vec<IpNet>,
    /// How many networks of lists are left out whole.
    left_out: usize,
    scans: Option<Scans>,
    /// What the packet filter allows, as it was told last.
    allowed: Option<Vec<IpNet>>,
    /// The networks of lists, as it was told last.
    listed: Option<Vec<IpNet>>,
    /// What was allowed when the bans were last compared with it.
    judged: Option<Vec<IpNet>>,
    /// Whether the packet filter has been compared once.
    compared: bool,
    /// Sources of scans that the kernel bans, and that are banned here too.
    scanned: BTreeSet<IpNet>,
    /// Why the bans can't be written down; `None` while they can.
    unwritten: Option<String>,
    /// What was missed of scans, as it was asked last; nothing before that.
    missed: Option<Missed>,
    /// The longest time that a change took: what is held may last for so much longer than its ban, for it lasts from when the packet
    /// filter came to it.
    late: Span,
    /// When it is looked thoroughly next whether the table is there.
    thorough_at: Option<Monotonic>,
    /// When it is asked next what was missed of scans.
    missed_at: Option<Monotonic>,
}

impl Enforcer {
    /// Joins them. Nothing is enforced before the first [`reconcile`](Self::reconcile).
    pub fn new(
        firewall: Arc<dyn Firewall>,
        bans: Bans,
        clock: Arc<dyn Clock>,
        numbers: EventNumbers,
        allowlist: Allowlist,
        caps: Caps,
        scans: Option<Scans>,
    ) -> Self {
        let bans = Arc::new(Mutex::new(bans));
        let (lists, scanned) = (Vec::new(), BTreeSet::new());
        Self {
            kernel: Arc::clone(&firewall),
            is_simulated: false,
            left_out: 0,
            firewall,
            bans,
            clock,
            numbers,
            allowlist,
            caps,
            lists,
            scans,
            allowed: None,
            listed: None,
            judged: None,
            compared: false,
            scanned,
            unwritten: None,
            missed: None,
            late: Span::ZERO,
            thorough_at: None,
            missed_at: None,
        }
    }

    /// Begins or ends the simulation, in which bans are written down and nobody is dropped. What the kernel holds is to be taken
    /// out of it by [`remove_from_firewall`](Self::remove_from_firewall) at the beginning, and is made again by
    /// [`reconcile`](Self::reconcile) at the end.
    pub fn simulate(&mut self, is_simulated: bool) {
        if self.is_simulated != is_simulated {
            self.firewall = if is_simulated { Arc::new(NoFirewall) } else { Arc::clone(&self.kernel) };
            self.is_simulated = is_simulated;
            (self.allowed, self.listed, self.judged) = (None, None, None);
        }
    }

    /// What is remembered of earlier bans, for whoever works out how long the next one lasts, on any thread.
    pub fn history(&self) -> History {
        History(Arc::clone(&self.bans))
    }

    /// Remembers bans of another program: whom, by which rule, how many there were but for one that is in force here, and when the last
    /// one began.
    ///
    /// # Errors
    /// The file could not be written.
    pub async fn remember(&mut self, past: Vec<(IpNet, String, u32, Time)>) -> Result<(), EnforcerError> {
        let past = past.into_iter().filter(|(_, _, count, _)| *count > 0).map(|(network, rule, count, last)| {
            (BanKey { network: canonical(network), rule }, PastBans { count, last })
        });
        let past: Vec<_> = past.collect();
        self.change(move |bans| bans.remember(past)).await
    }

    /// Why the bans of late can't be written down; `None` while they can. They are in force all the same.
    pub fn unwritten(&self) -> Option<&str> {
        self.unwritten.as_deref()
    }

    /// Says how rules count earlier bans from now on.
    pub fn count_as(&mut self, counts: BanCounts) {
        self.bans.lock().unwrap_or_else(PoisonError::into_inner).count_as(counts);
    }

    /// Notes that all bans so far are in the journal.
    ///
    /// # Errors
    /// The file could not be written: they are journaled once more after a restart.
    pub async fn told(&self) -> Result<(), EnforcerError> {
        self.change(Bans::told).await
    }

    /// The bans in force now.
    pub fn bans(&self) -> Vec<Ban> {
        self.with_bans(|bans| bans.iter().cloned().collect())
    }

    /// Asks the bans something.
    pub fn with_bans<T>(&self, ask: impl FnOnce(&Bans) -> T) -> T {
        ask(&self.bans.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the bans on a thread that may block.
    async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Bans) -> Result<T, BansError> + Send + 'static,
    ) -> Result<T, EnforcerError> {
        let bans = Arc::clone(&self.bans);
        let (now, monotonic) = (self.clock.now(), self.clock.monotonic());
        let work = move || {
            let mut bans = bans.lock().unwrap_or_else(PoisonError::into_inner);
            // Where the file can't be written, the labels have moved all the same, and the next change writes them.
            if let Err(error) = bans.read_clocks(now, monotonic) {
                tracing::warn!(%error, "the clock was set, and the bans can't be written down yet");
            }
            change(&mut bans)
        };
        Ok(tokio::task::spawn_blocking(work).await.map_err(|_| EnforcerError::Task)??)
    }

    /// Bans those that may be banned. Where the file can't be written, because the disk is full, they are banned all the same, and
    /// [`unwritten`](Self::unwritten) says so; bans that are taken over from elsewhere are not.
    ///
    /// # Errors
    /// The packet filter could not be changed, or too many are banned: nobody was banned.
    pub async fn ban(&mut self, requests: Vec<Request>) -> Result<Vec<Done>, EnforcerError> {
        self.change(|_| Ok(())).await?;
        let (now, began) = (self.clock.now(), self.clock.monotonic());
        let mut done = Vec::with_capacity(requests.len());
        let mut bans: BTreeMap<BanKey, Ban> = BTreeMap::new();
        for request in requests {
            match self.allowlist.judge(request.network) {
                Err(refusal) => done.push(Done::Refused(request, refusal)),
                Ok(held) => match self.admit(&request) {
                    Admission::Simulate { first } => done.push(Done::Simulated { request, first }),
                    Admission::Enforce => {
                        let ban = self.made(request, held, now);
                        let longest = match bans.remove(&ban.key()) {
                            Some(other) => Ban { until: later(other.until, ban.until), ..ban },
                            None => ban,
                        };
                        bans.insert(longest.key(), longest);
                    }
                },
            }
        }
        if bans.is_empty() {
            return Ok(done);
        }
        let mut new: Vec<Ban> = bans.into_values().collect();
        // What was found in the packet filter is one of these: an offence of before the last end is read again.
        let adopted = |ban: &Ban| BanKey { network: ban.hold.network, rule: ADOPTED_RULE.to_owned() };
        let mut known = BTreeSet::new();
        self.with_bans(|bans| {
            for ban in new.iter_mut().filter(|ban| ban.origin == Origin::Detected) {
                let found = bans.get(&adopted(ban)).filter(|found| found.hold == ban.hold && ban.since <= found.since);
                if let Some(found) = found {
                    ban.until = later(found.until, ban.until);
                    known.insert(ban.key());
                }
            }
        });
        let replaced: Vec<BanKey> = new.iter().filter(|ban| known.contains(&ban.key())).map(adopted).collect();
        let mut holds = BTreeMap::new();
        for ban in &new {
            let left = ban.until.map(|until| until.since(now));
            let held = holds.entry(ban.hold.clone()).or_insert(left);
            *held = longer(*held, left);
        }
        // Another ban may want the same hold for longer.
        self.with_bans(|bans| {
            for (hold, left) in &mut holds {
                if let Some(other) = bans.lasting(hold, now) {
                    *left = longer(*left, other);
                }
            }
        });
        let rows = new.clone();
        let may_wait = new.iter().all(|ban| ban.origin != Origin::Imported);
        let write = self.change(move |bans| {
            let keys = rows.iter().map(Ban::key).chain(replaced.iter().cloned());
            let before: Vec<_> = keys.filter_map(|key| bans.get(&key).cloned()).collect();
            match bans.add(rows.clone()).and_then(|()| bans.remove(&replaced, true)) {
                Err(error @ BansError::Io { .. }) if may_wait => {
                    bans.hold(rows);
                    bans.let_go(&replaced, true);
                    Ok((before, Some(error.to_string())))
                }
                done => done.map(|_| (before, None)),
            }
        });
        let (written, enforced) = tokio::join!(write, self.firewall.ban(&holds));
        self.late = self.late.max(self.since(began));
        let before = match written {
            Ok((before, unwritten)) => {
                self.unwritten = unwritten;
                before
            }
            Err(error) => {
                // The kernel must not hold what nobody can find: it is taken out, or given the time it had.
                self.compare(&mut Drift::default(), false).await?;
                return Err(error);
            }
        };
        let enforced = match enforced {
            Err(FirewallError::Gone) => self.replace().await,
            other => other.map_err(EnforcerError::from),
        };
        if let Err(error) = enforced {
            let keys: Vec<_> = new.iter().map(Ban::key).collect();
            self.take_out(keys, false).await?;
            self.change(move |bans| {
                bans.add(before.clone()).unwrap_or_else(|_| bans.hold(before));
                Ok(())
            })
            .await?;
            return Err(error);
        }
        let prolonged: BTreeSet<BanKey> =
            before.iter().filter(|ban| ban.until.is_none_or(|until| until > now)).map(Ban::key).collect();
        let outcome = |ban: Ban| match ban.key() {
            key if known.contains(&key) => Done::Known(ban),
            key if prolonged.contains(&key) => Done::Prolonged(ban),
            _ => Done::Banned(ban),
        };
        done.extend(new.into_iter().map(outcome));
        Ok(done)
    }

    fn admit(&mut self, request: &Request) -> Admission {
        match request.origin {
            Origin::Detected => self.caps.admit(&request.rule, self.clock.monotonic()),
            Origin::Manual | Origin::Imported | Origin::Adopted => Admission::Enforce,
        }
    }

    fn made(&self, request: Request, held: IpNet, now: Time) -> Ban {
        let Request { network, rule, ports, lasts, since, origin } = request;
        let until = end_of(now, lasts);
        let mut ban = Ban {
            network: canonical(network),
            rule,
            hold: Hold { network: held, ports },
            since: since.unwrap_or(now).min(now),
            until,
            count: 0,
            uncounted: false,
            origin,
            event: Some((self.numbers)()),
        };
        let key = ban.key();
        let (current, past) = self.with_bans(|bans| {
            ban.uncounted = origin == Origin::Detected && bans.is_uncounted(&key, ban.since);
            (bans.get_at(&key, now).cloned(), bans.counted(&key))
        });
        ban.count = past.map_or(0, |past| past.count);
        if let Some(current) = current {
            // The same ban once more is no further one, and never a shorter one.
            ban.until = later(current.until, ban.until);
            (ban.count, ban.uncounted, ban.since) = (current.count, current.uncounted, current.since);
        }
        ban
    }

    /// Ends bans. What other bans want held stays held. Where the file can't be written, because the disk is full, they are over
    /// all the same, and [`unwritten`](Self::unwritten) says so.
    ///
    /// # Errors
    /// The packet filter could not be changed: they are ended in the file, and [`reconcile`](Self::reconcile) lifts them.
    pub async fn unban(&mut self, keys: Vec<BanKey>, forget: bool) -> Result<Vec<Ban>, EnforcerError> {
        let ended = self.take_out(keys, forget).await?;
        self.lift(&ended).await?;
        Ok(ended)
    }

    /// Takes bans out, and out of the file as soon as it can be written.
    async fn take_out(&mut self, keys: Vec<BanKey>, forget: bool) -> Result<Vec<Ban>, EnforcerError> {
        let (ended, unwritten) = self
            .change(move |bans| {
                Ok(match bans.remove(&keys, forget) {
                    Ok(ended) => (ended, None),
                    Err(error) => (bans.let_go(&keys, forget), Some(error.to_string())),
                })
            })
            .await?;
        if unwritten.is_some() {
            self.unwritten = unwritten;
        }
        Ok(ended)
    }

    /// The bans of networks around the address or network: wider than that of one customer, and so of others too.
    pub fn bans_around(&self, network: IpNet) -> Vec<Ban> {
        let network = canonical(network);
        self.with_bans(|bans| bans.iter().filter(|ban| is_around(ban, network)).cloned().collect())
    }

    /// Ends all bans of the address or network, and of everything within it, by any rule; with `around`, those of
    /// [`bans_around`](Self::bans_around) too.
    ///
    /// # Errors
    /// As [`unban`](Self::unban).
    pub async fn unban_network(
        &mut self,
        network: IpNet,
        around: bool,
        forget: bool,
    ) -> Result<Vec<Ban>, EnforcerError> {
        let network = canonical(network);
        // Whoever asks for an address wants it to be reachable: also what a ban of another address of its /64 holds back.
        let meets = |ban: &&Ban| {
            let is_held = ban.network.contains(&network) || ban.hold.network.contains(&network);
            network.contains(&ban.network) || is_held && (around || !is_around(ban, network))
        };
        let keys = self.with_bans(|bans| bans.iter().filter(meets).map(Ban::key).collect());
        let ended = self.unban(keys, forget).await?;
        if self.scanned.iter().any(|scanned| scanned.contains(&network) || network.contains(scanned)) {
            // The kernel bans it by itself, too.
            self.scanned.clear();
            self.replace().await?;
        }
        Ok(ended)
    }

    /// Ends all bans: everything is made anew, so scanners that only the kernel bans are free too.
    ///
    /// # Errors
    /// As [`unban`](Self::unban).
    pub async fn unban_all(&mut self, forget: bool) -> Result<Vec<Ban>, EnforcerError> {
        let keys: Vec<_> = self.with_bans(|bans| bans.iter().map(Ban::key).collect());
        let ended = self.take_out(keys, forget).await?;
        self.scanned.clear();
        self.replace().await?;
        Ok(ended)
    }

    /// How long ago something began that the packet filter was to do.
    fn since(&self, began: Monotonic) -> Span {
        self.clock.monotonic().since(began).min(LATE_MAX)
    }

    async fn lift(&mut self, ended: &[Ban]) -> Result<(), EnforcerError> {
        let (now, began) = (self.clock.now(), self.clock.monotonic());
        let holds: BTreeSet<_> = ended.iter().map(|ban| ban.hold.clone()).collect();
        for ban in ended {
            // Who scans again is told of again.
            self.scanned.remove(&ban.network);
        }
        let (mut still, mut free) = (BTreeMap::new(), Vec::new());
        for hold in holds {
            match self.with_bans(|bans| bans.lasting(&hold, now)) {
                Some(left) => _ = still.insert(hold, left),
                None => free.push(hold),
            }
        }
        let mut done = self.firewall.unban(&free).await;
        if done.is_ok() {
            done = self.firewall.ban(&still).await;
            self.late = self.late.max(self.since(began));
        }
        match done {
            Err(FirewallError::Gone) => self.replace().await,
            done => Ok(done?),
        }
    }

    /// Tells the packet filter who is allowed, and ends bans of those who are now. Returned are those that ended.
    ///
    /// # Errors
    /// As [`unban`](Self::unban).
    pub async fn allow_changed(&mut self) -> Result<Vec<Ban>, EnforcerError> {
        let networks = self.allowlist.networks();
        if self.judged.as_ref() == Some(&networks) {
            return Ok(Vec::new());
        }
        if self.allowed.as_ref() != Some(&networks) {
            match self.firewall.allow(&networks).await {
                Err(FirewallError::Gone) => self.replace().await?,
                done => done?,
            }
            self.allowed = Some(networks.clone());
            let lists = self.listed_pieces();
            self.firewall.lists(&lists).await?;
            self.listed = Some(lists);
        }
        let refused = |ban: &&Ban| matches!(self.allowlist.judge(ban.network), Err(Refusal::Allowed { .. }));
        let keys: Vec<_> = self.with_bans(|bans| bans.iter().filter(refused).map(Ban::key).collect());
        let ended = if keys.is_empty() { Vec::new() } else { self.unban(keys, false).await? };
        self.judged = Some(networks);
        Ok(ended)
    }

    /// Replaces whom rules spare. Bans that hold back neighbours of theirs with them hold back the offender alone from the next
    /// [`reconcile`](Self::reconcile) on.
    ///
    /// # Errors
    /// The thread that writes died.
    pub async fn spare(&mut self, networks: impl IntoIterator<Item = IpNet>) -> Result<(), EnforcerError> {
        self.allowlist.spare(networks);
        let narrowed: Vec<(BanKey, Hold)> = self.with_bans(|bans| {
            let wide = bans.iter().filter(|ban| ban.hold.network != ban.network);
            wide.filter(|ban| self.allowlist.spares(ban.hold.network))
                .map(|ban| (ban.key(), Hold { network: ban.network, ports: ban.hold.ports.clone() }))
                .collect()
        });
        if narrowed.is_empty() {
            return Ok(());
        }
        let narrow = move |bans: &mut Bans| {
            bans.hold_instead(narrowed);
            Ok(())
        };
        self.change(narrow).await
    }

    /// Replaces the networks of lists, cut around who is allowed.
    ///
    /// # Errors
    /// The packet filter could not be changed: the next [`reconcile`](Self::reconcile) tries again.
    pub async fn lists(&mut self, lists: Vec<IpNet>) -> Result<(), EnforcerError> {
        self.lists = lists;
        let networks = self.listed_pieces();
        match self.firewall.lists(&networks).await {
            Err(FirewallError::Gone) => self.replace().await,
            done => {
                done?;
                self.listed = Some(networks);
                Ok(())
            }
        }
    }

    /// The networks of lists as the packet filter is given them.
    fn listed_pieces(&mut self) -> Vec<IpNet> {
        let (pieces, left_out) = self.allowlist.without_allowed(&self.lists);
        self.left_out = left_out;
        pieces
    }

    /// How many networks of lists are banned, and how many are left out: too wide, of no sender, in too many pieces around who is
    /// allowed, or wholly of them.
    pub const fn listed(&self) -> (usize, usize) {
        (self.lists.len().saturating_sub(self.left_out), self.left_out)
    }

    /// Whether a list names the network, or a part of it.
    pub fn is_listed(&self, network: IpNet) -> bool {
        self.lists.iter().any(|listed| listed.contains(&network) || network.contains(listed))
    }

    /// Changes how port scans are noticed, if at all.
    ///
    /// # Errors
    /// The packet filter could not be changed.
    pub async fn scans(&mut self, scans: Option<Scans>) -> Result<(), EnforcerError> {
        if self.scans == scans {
            return Ok(());
        }
        self.scans = scans;
        self.replace().await
    }

    /// Changes how many bans may begin in a minute; those of the last minute are forgotten.
    pub fn caps(&mut self, caps: Caps) {
        self.caps = caps;
    }

    /// Takes out bans whose time is over, and tidies the file, or writes down what could not be written before. To be called every few
    /// seconds.
    ///
    /// # Errors
    /// The thread that writes died.
    pub async fn expire(&mut self) -> Result<Vec<Ban>, EnforcerError> {
        let clock = Arc::clone(&self.clock);
        let (ended, unwritten) = self
            .change(move |bans| {
                let ended = bans.expire(clock.now());
                Ok((ended, bans.tidy(clock.now()).err()))
            })
            .await?;
        self.unwritten = unwritten.map(|error| error.to_string());
        for ban in &ended {
            self.scanned.remove(&ban.network);
        }
        Ok(ended)
    }

    /// Whether our table is there: to be asked every few seconds, and bans wait for it. So what takes long, as with very many bans or
    /// in a flood of scans, is looked at less often. When it is not there, [`reconcile`](Self::reconcile).
    ///
    /// # Errors
    /// The packet filter could not be read.
    pub async fn is_present(&mut self) -> Result<bool, EnforcerError> {
        let began = self.clock.monotonic();
        if self.thorough_at.is_some_and(|at| began < at) {
            return Ok(self.firewall.is_present(false).await?);
        }
        let is_present = self.firewall.is_present(true).await?;
        self.thorough_at = Some(self.again_after(began));
        Ok(is_present)
    }

    /// When to ask again what was asked at `began`, so that the answers take a tenth of the time at most.
    fn again_after(&self, began: Monotonic) -> Monotonic {
        let now = self.clock.monotonic();
        let took = now.since(began);
        if took < LONG { now } else { Monotonic(now.0.saturating_add(took.min(LATE_MAX).micros().saturating_mul(10))) }
    }

    /// Compares the packet filter with what it is to hold, and mends it.
    ///
    /// # Errors
    /// The packet filter could not be read or changed.
    pub async fn reconcile(&mut self) -> Result<Drift, EnforcerError> {
        self.change(|_| Ok(())).await?;
        let mut drift = Drift::default();
        let first = !std::mem::replace(&mut self.compared, true);
        let done = self.compare(&mut drift, first).await;
        self.compared &= done.is_ok();
        done.map(|()| drift)
    }

    async fn compare(&mut self, drift: &mut Drift, adopt: bool) -> Result<(), EnforcerError> {
        let (before, began) = (self.clock.now(), self.clock.monotonic());
        let Some(held) = self.firewall.read().await? else {
            drift.table_gone = true;
            return self.replace().await;
        };
        // A kernel that can't notice scans is asked for it once, at the start.
        let asked = adopt || held.scans.is_some();
        drift.rules_changed = !held.intact || (asked && held.scans != self.scans);
        if adopt {
            drift.adopted = self.adopt(&held, self.clock.now()).await?;
        }
        // What was read is of some instant between the two; with many bans, on a slow machine, they are far apart.
        let slack = Slack { read: self.since(began), late: self.late };
        let wanted = self.with_bans(|bans| bans.holds(before));
        let (mut set, resumed) = (BTreeMap::new(), self.clock.monotonic());
        for (hold, left) in &wanted {
            let is_over = left.is_some_and(|left| left - slack.read <= TOLERANCE);
            match held.bans.get(hold) {
                None if !is_over => drift.missing += 1,
                Some(there) if slack.differ(*left, *there) => drift.times += 1,
                _ => continue,
            }
            if left.is_none_or(|left| left > slack.read) {
                set.insert(hold.clone(), left.map(|left| left - slack.read));
            }
        }
        let unwanted = held.bans.iter().filter(|(hold, _)| !wanted.contains_key(*hold));
        let (extra, over): (Vec<_>, Vec<_>) = unwanted
            .filter(|(_, left)| left.is_none_or(|left| left > TOLERANCE))
            .partition(|(_, left)| left.is_none_or(|left| left > TOLERANCE + slack.late));
        drift.extra = extra.len() + drift.adopted;
        let freed: Vec<Hold> = extra.into_iter().chain(over).map(|(hold, _)| hold.clone()).collect();
        let allow = self.allowlist.networks();
        let lists = self.listed_pieces();
        // What is wanted may have changed since the packet filter was told: somebody else has changed only what is neither.
        let by_others = |held: &Vec<IpNet>, wanted: &Vec<IpNet>, told: &Option<Vec<IpNet>>| {
            held != wanted && told.as_ref().is_none_or(|told| held != told)
        };
        drift.allow_changed = by_others(&held.allow, &allow, &self.allowed);
        drift.lists_changed = by_others(&held.lists, &lists, &self.listed);
        if drift.rules_changed {
            return self.replace().await;
        }
        // What is allowed comes first.
        if held.allow != allow {
            self.firewall.allow(&allow).await?;
        }
        self.allowed = Some(allow);
        if held.lists != lists {
            self.firewall.lists(&lists).await?;
        }
        self.listed = Some(lists);
        self.firewall.unban(&freed).await?;
        let done = self.firewall.ban(&set).await;
        self.late = self.late.max(self.since(resumed));
        Ok(done?)
    }

    /// Makes bans of what is held without one.
    async fn adopt(&mut self, held: &Held, now: Time) -> Result<usize, EnforcerError> {
        let wanted = self.with_bans(|bans| bans.holds(now));
        let mut bans = Vec::new();
        for (hold, left) in held.bans.iter().filter(|(hold, _)| !wanted.contains_key(hold)) {
            // Of which address the /64 was held back is not known: whom a rule spares is not cut off for it.
            let is_neighbour =
                matches!(hold.network, IpNet::V6(v6) if v6.prefix_len() == 64) && self.allowlist.spares(hold.network);
            let is_over = left.is_some_and(|left| left <= TOLERANCE);
            if is_over || is_neighbour || self.allowlist.judge(hold.network).is_err() {
                continue;
            }
            let until = left.map(|left| Time::from_micros(now.micros().saturating_add(left.micros())));
            let (network, hold, rule) = (hold.network, hold.clone(), ADOPTED_RULE.to_owned());
            let event = Some((self.numbers)());
            bans.push(Ban {
                network,
                rule,
                hold,
                since: now,
                until,
                count: 0,
                uncounted: false,
                origin: Origin::Adopted,
                event,
            });
        }
        let count = bans.len();
        if count > 0 {
            let unwritten = self
                .change(move |all| match all.add(bans.clone()) {
                    // They are in the kernel, whatever the disk takes.
                    Err(error @ BansError::Io { .. }) => {
                        all.hold(bans);
                        Ok(Some(error.to_string()))
                    }
                    done => done.map(|()| None),
                })
                .await?;
            if unwritten.is_some() {
                self.unwritten = unwritten;
            }
        }
        Ok(count)
    }

    /// Makes everything in the packet filter again, in one transaction.
    async fn replace(&mut self) -> Result<(), EnforcerError> {
        let allow = self.allowlist.networks();
        let lists = self.listed_pieces();
        let began = self.clock.monotonic();
        let bans = self.with_bans(|bans| bans.holds(self.clock.now()));
        let wanted = Wanted { allow, lists, bans, scans: self.scans.clone() };
        self.firewall.replace(&wanted).await?;
        // All that is held is of this change.
        self.late = self.since(began);
        (self.allowed, self.listed) = (Some(wanted.allow), Some(wanted.lists));
        Ok(())
    }

    /// Whether the rules by which the kernel notices scans are as they were made, to be asked beside everything else, for it takes long
    /// in a flood of scans; nothing to ask where scans are not noticed. When they are not, [`mend_scans`](Self::mend_scans).
    pub fn has_scan_rules(&self) -> Option<impl Future<Output = Result<bool, FirewallError>> + Send + use<>> {
        let firewall = Arc::clone(&self.firewall);
        self.scans.is_some().then_some(async move { firewall.has_scan_rules().await })
    }

    /// Makes everything again, as somebody else has changed the rules by which scans are noticed.
    ///
    /// # Errors
    /// The packet filter could not be changed.
    pub async fn mend_scans(&mut self) -> Result<Drift, EnforcerError> {
        self.replace().await?;
        Ok(Drift { rules_changed: true, ..Drift::default() })
    }

    /// Asks the kernel whom it banned for scanning ports, and makes bans of those that are new, so that they are told of, survive a
    /// reboot and can be lifted. To be called every few seconds.
    ///
    /// # Errors
    /// The packet filter could not be read or changed.
    pub async fn poll_scans(&mut self) -> Result<Vec<Done>, EnforcerError> {
        if self.scans.is_none() {
            return Ok(Vec::new());
        }
        let scanned = self.firewall.scanned().await?;
        let (now, lasts) = (self.clock.now(), self.scans.as_ref().map_or(Span::ZERO, |scans| scans.ban));
        self.scanned.retain(|network| scanned.iter().any(|(there, _)| there == network));
        let mut requests = Vec::new();
        for (network, left) in scanned {
            // One of before the last start is a ban already.
            let key = BanKey { network, rule: SCAN_RULE.to_owned() };
            if self.scanned.insert(network) && self.with_bans(|bans| bans.get(&key).is_none()) {
                let (rule, ports, origin) = (SCAN_RULE.to_owned(), Ports::All, Origin::Detected);
                // The kernel has banned it since, and tells how long it goes on.
                let since = Some(now - (lasts - left).max(Span::ZERO));
                requests.push(Request { network, rule, ports, lasts: Some(left), since, origin });
            }
        }
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let done = self.ban(requests).await?;
        if done.iter().any(|done| matches!(done, Done::Refused(..))) {
            // The kernel knows a /64 as one source: that of a neighbour is that of this host, too.
            self.scanned.clear();
            self.replace().await?;
        }
        Ok(done)
    }

    /// What was missed of scans since the last time that this was asked; nothing, the first time.
    ///
    /// # Errors
    /// The packet filter could not be read.
    pub async fn missed(&mut self) -> Result<Missed, EnforcerError> {
        let began = self.clock.monotonic();
        if self.scans.is_none() || self.missed_at.is_some_and(|at| began < at) {
            return Ok(Missed::default());
        }
        let now = self.firewall.missed().await?;
        self.missed_at = Some(self.again_after(began));
        // What was missed before a start is not missed now.
        let before = self.missed.replace(now).unwrap_or(now);
        // They begin anew with the table.
        let since = |now: u64, before: u64| now.checked_sub(before).unwrap_or(now);
        Ok(Missed {
            tcp: since(now.tcp, before.tcp),
            udp: since(now.udp, before.udp),
            unbanned: since(now.unbanned, before.unbanned),
        })
    }

    /// Removes everything of ours from the packet filter; the file stays.
    ///
    /// # Errors
    /// The packet filter could not be changed.
    pub async fn remove_from_firewall(&mut self) -> Result<(), EnforcerError> {
        (self.allowed, self.listed) = (None, None);
        Ok(self.kernel.remove().await?)
    }

    /// Whether the kernel holds anything of ours, also in simulation.
    ///
    /// # Errors
    /// The packet filter could not be read.
    pub async fn is_in_kernel(&self) -> Result<bool, EnforcerError> {
        Ok(self.kernel.is_present(true).await?)
    }
}

/// The bans, for who only asks: see [`Enforcer::history`].
#[derive(Clone, Debug)]
pub struct History(Arc<Mutex<Bans>>);

impl History {
    /// Of these bans, for tests without a packet filter.
    #[cfg(test)]
    pub(crate) const fn of(bans: Arc<Mutex<Bans>>) -> Self {
        Self(bans)
    }

    /// What is remembered of earlier bans of this network by this rule, where one of them counts.
    pub fn past(&self, network: IpNet, rule: &str) -> Option<PastBans> {
        let bans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bans.past(&BanKey { network, rule: rule.to_owned() }).filter(|past| past.count > 0)
    }

    /// How many bans there were before the next one of this network by this rule, as the rule counts them.
    pub fn counted(&self, network: IpNet, rule: &str) -> u32 {
        let bans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bans.counted(&BanKey { network, rule: rule.to_owned() }).map_or(0, |past| past.count)
    }

    /// Whether a ban by this rule holds back just this.
    pub fn holds_back(&self, held: IpNet, rule: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).holds_back(held, rule)
    }

    /// What bans hold back, each with the rule. Takes a while where there are many.
    pub fn held_back(&self) -> BTreeSet<(IpNet, String)> {
        let bans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bans.iter().map(|ban| (ban.hold.network, ban.rule.clone())).collect()
    }
}

/// Whether the ban is of a network around this one that is wider than that of one customer.
fn is_around(ban: &Ban, network: IpNet) -> bool {
    ban.network.contains(&network) && ban.network.prefix_len() < widened(network).prefix_len()
}

/// When what begins now ends; never, where that is beyond the calendar.
pub(crate) fn end_of(now: Time, lasts: Lasting) -> Option<Time> {
    let end = Time::from_micros(now.micros().saturating_add(lasts?.micros()));
    (end < CALENDAR_END).then_some(end)
}

/// The later of two ends; none is the latest.
pub fn later(a: Option<Time>, b: Option<Time>) -> Option<Time> {
    Some(a?.max(b?))
}

/// By how much what is held may differ from what is wanted although nobody else has changed it.
#[derive(Clone, Copy)]
struct Slack {
    /// How long the reading took: so much of the time that a ban has left may have passed.
    read: Span,
    /// How long the slowest change took: so much longer may it last.
    late: Span,
}

impl Slack {
    /// Whether a hold lasts for another time than was wanted before the reading.
    fn differ(self, wanted: Lasting, there: Lasting) -> bool {
        match (wanted, there) {
            (None, None) => false,
            (Some(wanted), Some(there)) => {
                let is_short = there.min(COMPARED_MAX) < wanted.min(COMPARED_MAX) - self.read - TOLERANCE;
                let is_long = there.min(COMPARED_MAX) > wanted.min(COMPARED_MAX) + self.late + TOLERANCE;
                is_short || is_long
            }
            _ => true,
        }
    }
}
