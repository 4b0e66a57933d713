//! One stream of lines and the rules that read it: lines become failures, failures become offences. No I/O but reading the logs;
//! nothing here waits, so it runs on a thread that may block.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use event::{Clock, Span, Time, Zone};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::act::{History, Ports, shown};
use crate::detect::{Attempts, AttemptsState, BanLength, BanTimes, Failure, Offence};
use crate::fail2ban::dates::{DateDetector, LogLine};
use crate::fail2ban::filter::{Filter, FilterSet, LineError, Match, NoNames};
use crate::login::{Login, login};
use crate::plan::{RulePlan, SourcePlan, StreamPlan};
use crate::source::{Encoding, JournalBatch, JournalSettings, Notice, Positions, Tail, TailLimits, has_file};
use crate::totals::RuleTotals;

mod counted_bans;

use counted_bans::{CountedBans, CountedBansState};

/// Addresses of failures that are counted apart in a minute; beyond it they are only counted as failures.
const ADDRESSES_MAX: usize = 100_000;
/// How long nobody has looked, from when on a line that is late is dated by its log for what is told of the reaction: longer than two
/// looks are apart while all goes well.
const UNSEEN_MIN: Span = Span::from_secs(10);
/// How far the date of a login may lie behind now: clocks and zones differ.
const DATES_DIFFER: Span = Span::from_secs(3600);

/// A stream with its rules.
pub(crate) struct Stream {
    /// The number by which its readers know it.
    pub(crate) number: usize,
    key: Arc<str>,
    source: Source,
    encoding: Encoding,
    /// For looking into a log that is seen for the first time: what is found there says nothing of the lines to come.
    seek_dates: DateDetector,
    /// Whether its logs are those of sshd: a login is believed from no other, for others hold what strangers write.
    reads_sshd: bool,
    /// The filters of the rules, in their order.
    filters: FilterSet,
    pub(crate) rules: Vec<Rule>,
}

/// Where its lines come from.
enum Source {
    Files(Box<Tail>, Vec<String>),
    /// The journal of systemd, which somebody else reads: how far.
    Journal {
        settings: JournalSettings,
        since: Span,
        cursor: Option<String>,
    },
}

/// A rule with what it counts.
pub(crate) struct Rule {
    pub(crate) name: Arc<str>,
    attempts: Attempts<String>,
    times: BanTimes,
    ports: Option<Ports>,
    ignored: Vec<IpNet>,
    pub(crate) tells: bool,
    counts_bans: Option<Zone>,
    /// The bans that it has counted, where it counts bans.
    counted_bans: CountedBans,
    /// Whether it is one of garant's own, which no jail says.
    is_own: bool,
    /// Whether it is followed for the first time.
    is_new: bool,
    /// Failures of this minute, and of whom.
    pub(crate) failures: u64,
    pub(crate) addresses: BTreeSet<String>,
    pub(crate) totals: RuleTotals,
}

/// What is kept of a stream from one run to the next. Positions and counts are of one instant: a line that counts is behind the
/// position, and one that does not is before it.
#[derive(Clone, Default, Serialize, Deserialize, Debug)]
pub(crate) struct StreamState {
    pub(crate) key: String,
    pub(crate) positions: Positions,
    pub(crate) attempts: Vec<(String, AttemptsState<String>)>,
    /// What each rule has counted in this minute: failures, and of whom.
    #[serde(default)]
    pub(crate) minute: Vec<(String, u64, BTreeSet<String>)>,
    /// The bans that rules which count bans have counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) counted_bans: Vec<(String, CountedBansState)>,
    /// The longest `findtime` of its rules.
    #[serde(default)]
    pub(crate) find_time: Span,
    /// Since when no stream goes on with it; nothing of a stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) left: Option<Time>,
}

impl StreamState {
    /// Whether it is of a rule of this name, perhaps among others.
    pub(crate) fn has(&self, rule: &str) -> bool {
        self.attempts.iter().any(|(name, _)| name == rule)
    }
}

/// What one look has found.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) offences: Vec<FoundOffence>,
    /// Successful logins to sshd, and when.
    pub(crate) logins: Vec<(Login, Time)>,
    pub(crate) notices: Vec<Notice>,
    pub(crate) lines: u64,
    /// There is more to read at once.
    pub(crate) has_more: bool,
    /// Rules with a pattern that was given up at its limit of steps.
    pub(crate) given_up: Vec<(Arc<str>, u64)>,
    /// Rules that forgot addresses with failures, because there were too many.
    pub(crate) forgotten: Vec<(Arc<str>, u64)>,
}

/// A ban that was made, for rules that count bans.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct MadeBan {
    pub(crate) network: IpNet,
    pub(crate) rule: String,
    /// The last failure of the offence that it was made for.
    pub(crate) at: Time,
    pub(crate) until: Option<Time>,
}

/// Somebody who is to be banned.
pub(crate) struct FoundOffence {
    pub(crate) rule: Arc<str>,
    pub(crate) network: IpNet,
    pub(crate) log: Arc<str>,
    /// The last failure.
    pub(crate) at: Time,
    /// When it was complete, for what is told of the reaction: see [`complete_at`].
    pub(crate) complete: Time,
    pub(crate) failures: u64,
    pub(crate) lasts: BanLength,
    /// Why the formula of the rule has no result for it, if so: `lasts` is the plain time.
    pub(crate) no_result: Option<String>,
    /// What is to be closed; `None` for a rule that only tells.
    pub(crate) ports: Option<Ports>,
    /// Whether somebody is to be told of the ban.
    pub(crate) tells: bool,
    /// Whether the rule is followed for the first time: then the offence may be of before that.
    pub(crate) is_of_new_rule: bool,
}

impl Stream {
    /// The stream of a plan, going on from what was kept.
    pub(crate) fn new(number: usize, plan: StreamPlan, kept: StreamState) -> Self {
        let StreamPlan { key, source, encoding, seek_dates, rules } = plan;
        let source = match source {
            SourcePlan::Files(follows) => {
                let patterns = follows.iter().map(|follow| follow.pattern.clone()).collect();
                Source::Files(Box::new(Tail::new(follows, TailLimits::default(), &kept.positions)), patterns)
            }
            SourcePlan::Journal(settings, since) => {
                let cursor = kept.positions.journals.get(&settings.name()).cloned();
                Source::Journal { settings, since, cursor }
            }
        };
        let reads_sshd = rules.iter().any(|rule| rule.reads_sshd);
        let rules = rules.into_iter().map(|rule| {
            let counted = kept.attempts.iter().find(|(name, _)| **name == *rule.name).map(|(_, state)| state.clone());
            Rule::new(rule, counted)
        });
        let (mut rules, filters): (Vec<Rule>, _) = rules.unzip();
        for (name, failures, addresses) in kept.minute {
            if let Some(rule) = rules.iter_mut().find(|rule| *rule.name == *name) {
                (rule.failures, rule.addresses) = (failures, addresses);
            }
        }
        for (name, bans) in kept.counted_bans {
            if let Some(rule) = rules.iter_mut().find(|rule| *rule.name == *name) {
                rule.counted_bans = CountedBans::restored(bans);
            }
        }
        let mut filters = FilterSet::new(filters);
        // They see lines that the others do not.
        for index in (0..rules.len()).filter(|index| rules[*index].counts_bans.is_some()) {
            filters.set_apart(index);
        }
        Self { number, key, source, encoding, seek_dates, reads_sshd, filters, rules }
    }

    /// What is to be kept, of this instant.
    pub(crate) fn state(&self) -> StreamState {
        let attempts = self.rules.iter().map(|rule| (rule.name.to_string(), rule.attempts.state()));
        let positions = match &self.source {
            Source::Files(tail, _) => tail.positions(),
            Source::Journal { settings, cursor, .. } => {
                let mut positions = Positions::default();
                positions.journals.extend(cursor.iter().map(|cursor| (settings.name(), cursor.clone())));
                positions
            }
        };
        let counted = self.rules.iter().filter(|rule| rule.failures > 0);
        let minute = counted.map(|rule| (rule.name.to_string(), rule.failures, rule.addresses.clone()));
        let counting = self.rules.iter().filter(|rule| rule.counts_bans.is_some());
        let counted_bans = counting.map(|rule| (rule.name.to_string(), rule.counted_bans.state()));
        let find_time = self.rules.iter().map(|rule| rule.attempts.limits().find_time).max();
        StreamState {
            key: self.key.to_string(),
            positions,
            attempts: attempts.collect(),
            minute: minute.collect(),
            counted_bans: counted_bans.collect(),
            find_time: find_time.unwrap_or_default(),
            left: None,
        }
    }

    /// Joins streams of the same logs that have come to the same place, so that each line is read once for the rules of both.
    pub(crate) fn join_level(streams: &mut Vec<Self>) {
        for at in (1..streams.len()).rev() {
            let (before, rest) = streams.split_at_mut(at);
            let is_level = |other: &&mut Self| rest.first().is_some_and(|stream| other.is_level_with(stream));
            if let Some(number) = before.iter_mut().find(is_level).map(|other| other.number) {
                let joining = streams.remove(at);
                if let Some(other) = streams.iter_mut().find(|stream| stream.number == number) {
                    other.join(joining);
                }
            }
        }
    }

    fn is_level_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.key, &other.key)
            && match (&self.source, &other.source) {
                (Source::Files(tail, _), Source::Files(others, _)) => tail.is_level_with(others),
                (Source::Journal { cursor, .. }, Source::Journal { cursor: others, .. }) => {
                    cursor.is_some() && cursor == others
                }
                _ => false,
            }
    }

    fn join(&mut self, other: Self) {
        if let (Source::Files(tail, _), Source::Files(others, _)) = (&mut self.source, other.source) {
            tail.join(*others);
        }
        self.reads_sshd |= other.reads_sshd;
        self.filters.append(other.filters);
        self.rules.extend(other.rules);
    }

    /// The journal that somebody is to read for it, from where.
    pub(crate) const fn journal(&self) -> Option<(&JournalSettings, Span, Option<&String>)> {
        match &self.source {
            Source::Journal { settings, since, cursor } => Some((settings, *since, cursor.as_ref())),
            Source::Files(..) => None,
        }
    }

    /// The files that it reads, when it reads files.
    pub(crate) const fn tail(&self) -> Option<&Tail> {
        match &self.source {
            Source::Files(tail, _) => Some(tail),
            Source::Journal { .. } => None,
        }
    }

    /// The logs that are read now, for people.
    pub(crate) fn logs(&self) -> Vec<String> {
        match &self.source {
            Source::Files(tail, _) => tail.read_paths().map(ToOwned::to_owned).collect(),
            Source::Journal { settings, .. } if settings.missing(Path::new("/")).is_some() => Vec::new(),
            Source::Journal { settings, .. } => vec![journal_name(settings)],
        }
    }

    /// The logs that it is to read and what to do, when none of them is there.
    pub(crate) fn missing(&self) -> Option<(String, String)> {
        let is_own = self.rules.iter().all(|rule| rule.is_own);
        match &self.source {
            Source::Files(_, patterns) => {
                let is_there = patterns.iter().any(|pattern| has_file(pattern));
                let reason = if is_own {
                    "it is not there, and is read as soon as it is. Have the service write such a log (rsyslog does for many), or take \
                     the scenario out of `scenarios` in [guard]"
                } else {
                    "it is not there, and is read as soon as it is. Where the log is in the journal of systemd, write \
                     `backend = systemd` in the jail"
                };
                // What counts the bans of garant itself needs no log of fail2ban, which is off.
                let is_needed = self.rules.iter().any(|rule| rule.counts_bans.is_none());
                (is_needed && !is_there).then(|| (patterns.join(", "), reason.to_owned()))
            }
            Source::Journal { settings, .. } => settings.missing(Path::new("/")).map(|folders| {
                let instead = if is_own {
                    "(by rsyslog) and run `garant guard reload`"
                } else {
                    "(by rsyslog) and name that as `logpath` of the jail"
                };
                let reason = format!(
                    "there is no journal in {folders}, and it is read as soon as there is one. Start systemd-journald, or have the \
                     log written to a file {instead}"
                );
                (journal_name(settings), reason)
            }),
        }
    }

    /// Has its patterns expanded again: a folder has changed.
    pub(crate) const fn expand_again(&mut self) {
        if let Source::Files(tail, _) = &mut self.source {
            tail.expand_again();
        }
    }

    /// Reads what is new, and judges it. Blocks for the disk.
    pub(crate) fn look(&mut self, clock: &dyn Clock, history: &History, draw_ppb: &mut dyn FnMut() -> u32) -> Found {
        let mut found = Found::default();
        let Source::Files(tail, _) = &mut self.source else { return found };
        let (encoding, seek_dates) = (self.encoding, &mut self.seek_dates);
        let mut batch = tail.look(clock, &mut |_, line| {
            let line = encoding.decode(line);
            let now = clock.now();
            let date = seek_dates.match_time(&LogLine::of(&line), now).ok()??;
            seek_dates.time_of(&date, &line, now).ok()
        });
        found.has_more = batch.has_more();
        found.notices = std::mem::take(&mut batch.notices);
        let before = self.troubles();
        let (looked, monotonic) = (clock.now(), clock.monotonic());
        for line in batch.lines() {
            found.lines += 1;
            let now = clock.now();
            let unseen = line.end_seen.map(|seen| monotonic.since(seen)).filter(|unseen| *unseen > UNSEEN_MIN);
            let unseen = unseen.map(|unseen| looked - unseen);
            let text = self.encoding.decode(line.bytes);
            if self.reads_sshd {
                found.logins.extend(dated_login(&mut self.seek_dates, &text, now));
            }
            let rules = &mut self.rules;
            self.filters.set_in_operation(line.in_operation);
            self.filters.process_line(&text, now, &mut NoNames, &mut |rule, matches| {
                let matches = rules[rule].uncounted(matches, &text, now);
                found.offences.extend(rules[rule].judged(matches, line.path, now, unseen, history, draw_ppb));
            });
            for rule in rules {
                rule.attempts.line_done(now);
            }
        }
        self.note_troubles(&before, &mut found);
        found
    }

    /// Judges entries of the journal that somebody has read for it.
    pub(crate) fn entries(
        &mut self,
        batch: JournalBatch,
        clock: &dyn Clock,
        history: &History,
        draw_ppb: &mut dyn FnMut() -> u32,
    ) -> Found {
        let mut found = Found::default();
        let before = self.troubles();
        let log: Arc<str> = Arc::from("journal");
        for line in batch.lines {
            found.lines += 1;
            let now = clock.now();
            if self.reads_sshd
                && line.is_of_sshd
                && let Some(login) = login(&line.text)
            {
                found.logins.push((Login { is_certain: true, ..login }, line.time.min(now)));
            }
            // journald dates what it gets itself.
            let unseen = (now.since(line.time) > UNSEEN_MIN).then_some(line.time);
            let rules = &mut self.rules;
            self.filters.set_in_operation(line.in_operation);
            self.filters.process_dated(&line.text, line.time, now, &mut NoNames, &mut |rule, matches| {
                let matches = rules[rule].uncounted(matches, &line.text, now);
                found.offences.extend(rules[rule].judged(matches, &log, now, unseen, history, draw_ppb));
            });
            for rule in rules {
                rule.attempts.line_done(now);
            }
        }
        if let (Source::Journal { cursor, .. }, Some(last)) = (&mut self.source, batch.cursor) {
            *cursor = Some(last);
        }
        self.note_troubles(&before, &mut found);
        found
    }

    /// Whether it reads files of sshd.
    pub(crate) const fn reads_files_of_sshd(&self) -> bool {
        self.reads_sshd && matches!(self.source, Source::Files(..))
    }

    /// Whether it reads a log of sshd in the journal of systemd, from the start on.
    pub(crate) fn is_new_journal_of_sshd(&self) -> bool {
        self.reads_sshd && matches!(self.source, Source::Journal { cursor: None, .. })
    }

    /// Whether a rule of it counts bans.
    pub(crate) fn counts_bans(&self) -> bool {
        self.rules.iter().any(|rule| rule.counts_bans.is_some())
    }

    /// Has the rules that count bans (`recidive`) count these: they read the line that fail2ban would have logged.
    pub(crate) fn banned(
        &mut self,
        bans: &[MadeBan],
        now: Time,
        history: &History,
        draw_ppb: &mut dyn FnMut() -> u32,
    ) -> Found {
        let mut found = Found::default();
        let before = self.troubles();
        let log: Arc<str> = Arc::from("bans of garant");
        for (index, rule) in self.rules.iter_mut().enumerate() {
            let (Some(zone), Some(filter)) = (rule.counts_bans.clone(), self.filters.filter_mut(index)) else {
                continue;
            };
            let name = Arc::clone(&rule.name);
            for ban in bans.iter().filter(|ban| *ban.rule != *name) {
                if !rule.counted_bans.made(ban.network, &ban.rule, ban.at, ban.until) {
                    continue;
                }
                let Some(line) = ban_line(ban.network, &ban.rule, now, &zone) else { continue };
                filter.set_in_operation(true);
                let matches = filter.process_line(&line, now, &mut NoNames);
                found.offences.extend(rule.judged(matches, &log, now, None, history, draw_ppb));
                rule.attempts.line_done(now);
            }
        }
        self.note_troubles(&before, &mut found);
        found
    }

    /// For each rule, how many searches were given up, and how many addresses with failures forgotten.
    fn troubles(&self) -> Vec<(u64, u64)> {
        let filters = self.filters.filters().iter();
        filters.zip(&self.rules).map(|(filter, rule)| (filter.step_limits(), rule.attempts.evicted())).collect()
    }

    fn note_troubles(&self, before: &[(u64, u64)], found: &mut Found) {
        for ((rule, now), before) in self.rules.iter().zip(self.troubles()).zip(before) {
            let (given_up, forgotten) = (now.0 - before.0, now.1 - before.1);
            if given_up > 0 {
                found.given_up.push((Arc::clone(&rule.name), given_up));
            }
            if forgotten > 0 {
                found.forgotten.push((Arc::clone(&rule.name), forgotten));
            }
        }
    }
}

/// A journal, for people.
fn journal_name(settings: &JournalSettings) -> String {
    let matches: Vec<String> = settings.matches.iter().map(|list| list.join(" ")).collect();
    format!("the journal of systemd ({})", matches.join(" + "))
}

/// The login that a line of a log tells of, at its own date; none that is of the future, or has no date.
fn dated_login(dates: &mut DateDetector, line: &str, now: Time) -> Option<(Login, Time)> {
    let login = login(line)?;
    let date = dates.match_time(&LogLine::of(line), now).ok()??;
    let at = dates.time_of(&date, line, now).ok()?;
    (at.since(now) < DATES_DIFFER).then(|| (login, at.min(now)))
}

/// What fail2ban logs of a ban.
fn ban_line(network: IpNet, rule: &str, now: Time, zone: &Zone) -> Option<String> {
    let date = zone.at(now)?;
    let milliseconds = now.micros().rem_euclid(1_000_000) / 1000;
    Some(format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02},{milliseconds:03} fail2ban.actions        [{}]: NOTICE  [{rule}] Ban {}",
        date.year,
        date.month,
        date.day,
        date.hour,
        date.minute,
        date.second,
        std::process::id(),
        shown(network)
    ))
}

/// The jail of a ban that fail2ban has logged: `… NOTICE  [sshd] Ban 192.0.2.1`.
fn banning_jail(line: &str) -> Option<&str> {
    let (before, _) = line.rsplit_once("] Ban ")?;
    before.rsplit_once('[').map(|(_, jail)| jail)
}

/// When an offence was complete that this failure has completed and that is dated `at`, for what is told of the reaction.
///
/// A line that is a minute late is taken for now, as by fail2ban, and so is the ban. Where nobody has looked at the log since `unseen`,
/// because the process or the machine stood still, that is no date of the offence: its line is as old as it says, where it came since,
/// and else, as far as anybody knows, as old as that look.
fn complete_at(found: &Match, at: Time, now: Time, unseen: Option<Time>) -> Time {
    let Some(unseen) = unseen else { return at };
    let own = found.written.or(found.time).unwrap_or(now);
    at.min(if (unseen..=now).contains(&own) { own } else { unseen })
}

/// Whom a failure is of.
fn network_of(found: &Match) -> Option<IpNet> {
    let (address, prefix) = found.host.as_ref()?.network()?;
    Some(IpNet::new(address, prefix).ok()?.trunc())
}

impl Rule {
    fn new(plan: RulePlan, counted: Option<AttemptsState<String>>) -> (Self, Filter) {
        let RulePlan { name, filter, limits, times, ports, ignored, reads_sshd: _, tells, counts_bans, is_own } = plan;
        let is_new = counted.is_none();
        let attempts = match counted {
            Some(state) => Attempts::restored(limits, state),
            None => Attempts::new(limits),
        };
        let (failures, addresses, totals) = (0, BTreeSet::new(), RuleTotals::default());
        let counted_bans = CountedBans::default();
        let rule = Self {
            name,
            attempts,
            times,
            ports,
            ignored,
            tells,
            counts_bans,
            counted_bans,
            is_own,
            is_new,
            failures,
            addresses,
            totals,
        };
        (rule, filter)
    }

    /// What the rule closes.
    pub(crate) fn ports(&self) -> Option<Ports> {
        self.ports.clone()
    }

    /// Whether those who come back are banned for longer, and whether that counts the bans of all rules.
    pub(crate) const fn counts(&self) -> (bool, bool) {
        (self.times.increments(), self.times.counts_all_jails())
    }

    /// Whom the rule never bans.
    pub(crate) fn spared(&self) -> &[IpNet] {
        &self.ignored
    }

    /// Forgets what was counted of an address that was unbanned.
    pub(crate) fn forget(&mut self, network: IpNet) {
        let text = if network.prefix_len() == network.max_prefix_len() {
            network.addr().to_string()
        } else {
            network.to_string()
        };
        self.attempts.forget(&text);
    }

    /// Of a rule that counts bans, without the ban of this line where that of garant for the same offence was counted.
    fn uncounted(
        &mut self,
        matches: Result<Vec<Match>, LineError>,
        line: &str,
        now: Time,
    ) -> Result<Vec<Match>, LineError> {
        let Some(jail) = self.counts_bans.as_ref().and_then(|_| banning_jail(line)) else { return matches };
        let is_new = |found: &Match| {
            let at = found.time.unwrap_or(now).min(now);
            network_of(found).is_none_or(|network| self.counted_bans.logged(network, jail, at))
        };
        let mut matches = matches?;
        matches.retain(is_new);
        Ok(matches)
    }

    /// Counts the failures of a line; the offences that they complete. The log was not looked at since `unseen`, where that is long.
    fn judged(
        &mut self,
        matches: Result<Vec<Match>, LineError>,
        log: &Arc<str>,
        now: Time,
        unseen: Option<Time>,
        history: &History,
        draw_ppb: &mut dyn FnMut() -> u32,
    ) -> Vec<FoundOffence> {
        let mut offences = Vec::new();
        match matches {
            Ok(matches) => {
                for failure in matches {
                    offences.extend(self.failed(&failure, log, now, unseen, history, draw_ppb));
                }
            }
            Err(error) => tracing::debug!(rule = &*self.name, log = &**log, %error, "a line was not judged"),
        }
        offences
    }

    /// Counts a failure; the offence that it completes.
    fn failed(
        &mut self,
        found: &Match,
        log: &Arc<str>,
        now: Time,
        unseen: Option<Time>,
        history: &History,
        draw_ppb: &mut dyn FnMut() -> u32,
    ) -> Option<FoundOffence> {
        let host = found.host.as_ref()?;
        let Some(network) = network_of(found) else {
            self.totals.nameless += 1;
            return None;
        };
        if self.ignored.iter().any(|ignored| ignored.contains(&network)) {
            return None;
        }
        self.failures += 1;
        self.totals.failures += 1;
        if self.addresses.len() < ADDRESSES_MAX {
            self.addresses.insert(host.text().to_owned());
        }
        let time = found.time.unwrap_or(now).min(now);
        let attempts = found.failure.text("failures").and_then(|text| text.parse().ok()).unwrap_or(0);
        let failure = Failure { id: host.text().to_owned(), time, attempts };
        let is_first = !self.attempts.holds(&failure.id);
        let mut offence = self.attempts.add(&failure);
        // As fail2ban, which asks for the bans of this jail here, and for those of all only when one is made.
        if self.times.increments()
            && offence.is_none()
            && let Some(past) = history.past(network, &self.name)
        {
            offence = self.attempts.add_known(&failure, past.count, past.last, is_first);
        }
        let Offence { time: at, attempts: failures, .. } = offence?;
        self.attempts.service(now);
        self.totals.offences += 1;
        let before = if self.times.increments() { u64::from(history.counted(network, &self.name)) } else { 0 };
        let (lasts, no_result) = match self.times.length(before, draw_ppb()) {
            Ok(lasts) => (lasts, None),
            Err(error) => (self.times.plain(), Some(error.to_string())),
        };
        Some(FoundOffence {
            rule: Arc::clone(&self.name),
            network,
            log: Arc::clone(log),
            at,
            complete: complete_at(found, at, now, unseen),
            failures,
            lasts,
            no_result,
            ports: self.ports.clone(),
            tells: self.tells,
            is_of_new_rule: self.is_new,
        })
    }
}

#[cfg(test)]
mod tests;
