//! The bans of this host, durable without any server.
//!
//! **File.** `bans.log` in the state directory, 0600: a line for each change, with a checksum. It is appended to and written
//! through to the disk before anything is acknowledged, one `fsync` for all changes of a call; from time to time it is written
//! anew beside itself and renamed. After `kill -9` or a power cut everything that was acknowledged is there; a line that was
//! being written, or that the disk has damaged, is left out and counted.
//!
//! **Time.** `until` is a label of the wall clock, which may step; a ban lasts as long as it was said to last. While the process
//! runs, lengths are measured by the monotonic clock (as the kernel does for its timeouts): when the wall clock steps, the labels
//! of all bans move with it. The difference between the clocks is in the file with the number of the boot, so a step while
//! nothing ran is noticed the same way; after a reboot the wall clock is all there is, and then no ban lasts longer than it
//! was meant to in all. A clock that stands before a ban began (a machine without a battery, before its time is set) is such a case.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use engine::EventNumber;
use event::{Monotonic, Span, Time};
use ipnet::IpNet;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

#[cfg(test)]
use super::Ports;
use super::allowlist::widened;
use super::{Hold, Lasting};
use crate::detect::whole_seconds;

mod line;
#[cfg(test)]
mod tests;

use line::Line;

const FILE: &str = "bans.log";
/// A copy of a file of which lines could not be read.
const FILE_DAMAGED: &str = "bans.log.damaged";
const FILE_NEXT: &str = "bans.log.next";
/// Most bytes of a line.
const LINE_BYTES_MAX: u64 = 4096;
/// Most bytes of the name of a rule.
pub(super) const RULE_BYTES_MAX: usize = 128;
/// Most bans in force.
const BANS_MAX: usize = 500_000;
/// Most bans of the past that are remembered, for those who come back; beyond it, the oldest go.
const PAST_MAX: usize = 500_000;
/// Lines beyond twice those that are needed, at which the file is written anew.
const SPARE_LINES: usize = 4096;
/// Bytes that are written at a time.
const BLOCK_BYTES: usize = 1024 * 1024;
/// A difference between the clocks that is a step, and no drift.
const STEP_MIN: Span = Span::from_secs(2);

/// How a ban came about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A rule of ours found an offence.
    Detected,
    /// A person asked for it.
    Manual,
    /// It was taken over from fail2ban.
    Imported,
    /// It was found in the packet filter and not in the file: enforced, and not yet written down when the process died.
    Adopted,
}

/// One ban.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ban {
    /// Who was banned: an address, or a network.
    pub network: IpNet,
    /// The rule that it was banned by; at most 128 bytes are kept.
    pub rule: String,
    /// What the packet filter holds back for it.
    pub hold: Hold,
    /// When it began.
    pub since: Time,
    /// When it ends; `None` is never.
    pub until: Option<Time>,
    /// How many times it had been banned before, as the rule counts that: see [`Bans::counted`].
    pub count: u32,
    /// Whether the next bans do not count it: see [`Bans::is_uncounted`].
    pub uncounted: bool,
    /// How it came about.
    pub origin: Origin,
    /// The number of its event, until that is known to be in the journal: told again after a crash, it is there once.
    pub event: Option<EventNumber>,
}

/// What tells one ban from another: each rule bans for itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct BanKey {
    /// Who was banned.
    pub network: IpNet,
    /// By which rule.
    pub rule: String,
}

impl Ban {
    /// What tells it from another.
    pub fn key(&self) -> BanKey {
        BanKey { network: self.network, rule: self.rule.clone() }
    }
}

/// What is remembered of bans that ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PastBans {
    /// How many there were that count, with the one in force.
    pub count: u32,
    /// When the last one began.
    pub last: Time,
}

/// How rules count earlier bans, as fail2ban does: a rule counts its own, unless it is named here.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BanCounts {
    /// Rules that count the bans of all rules (`bantime.overalljails`).
    pub of_all: BTreeSet<String>,
    /// Rules whose bans never grow: each counts as one ban of an address for those others, however many it made.
    pub once: BTreeSet<String>,
}

/// What was found when the file was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Opened {
    /// Bans in force.
    pub in_force: usize,
    /// Bans that ended while nothing ran.
    pub ended: usize,
    /// Lines that could not be read, and were left out.
    pub damaged: usize,
    /// How far the wall clock was set while nothing ran, if that is known.
    pub step: Span,
}

/// Why the bans could not be written down or read.
#[derive(Debug, thiserror::Error)]
pub enum BansError {
    /// The file can't be read or written. Nothing that was to be written is acknowledged.
    #[error("the file of bans {path} can't be {what}: {error}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        error: io::Error,
    },
    /// More bans than are kept.
    #[error("{BANS_MAX} bans are in force, and no more are kept: remove some with `garant guard unban`")]
    Full,
}

/// The bans in force, those of the past, and their file. Every method that changes something returns when that is on the disk;
/// it blocks its thread.
pub struct Bans {
    dir: PathBuf,
    file: File,
    /// Bytes of the file that are whole lines.
    length: u64,
    lines: usize,
    /// Set when the file may end in half a line that could not be taken off: it is written anew first.
    torn: bool,
    /// Set when lines of the file can't be read and no copy of it could be kept so far.
    uncopied: bool,
    boot: String,
    /// The wall clock less the monotonic clock.
    offset: Span,
    in_force: BTreeMap<BanKey, Ban>,
    past: BTreeMap<BanKey, PastBans>,
    past_kept: Span,
    counts: BanCounts,
    /// Bans that nobody has been told of yet: see [`told`](Self::told).
    untold: BTreeMap<BanKey, Ban>,
}

impl fmt::Debug for Bans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bans").field("dir", &self.dir).field("in_force", &self.in_force.len()).finish_non_exhaustive()
    }
}

fn offset(now: Time, monotonic: Monotonic) -> Span {
    Span::from_micros(now.micros().saturating_sub(monotonic.0))
}

fn moved(time: Time, by: Span) -> Time {
    Time::from_micros(time.micros().saturating_add(by.micros()))
}

impl Bans {
    /// Opens the file in the directory, or makes it. `boot` names this start of the machine (`/proc/sys/kernel/random/boot_id`);
    /// bans of the past are remembered for `past_kept`.
    ///
    /// # Errors
    /// The file can't be read or written.
    pub fn open(
        dir: &Path,
        boot: &str,
        past_kept: Span,
        now: Time,
        monotonic: Monotonic,
    ) -> Result<(Self, Opened), BansError> {
        let path = dir.join(FILE);
        let failed = |what| {
            let path = path.clone();
            move |error| BansError::Io { what, path, error }
        };
        let file = open_append(&path).map_err(failed("opened"))?;
        let mut bans = Self {
            dir: dir.to_owned(),
            length: 0,
            lines: 0,
            torn: false,
            uncopied: false,
            boot: boot.to_owned(),
            offset: offset(now, monotonic),
            in_force: BTreeMap::new(),
            past: BTreeMap::new(),
            past_kept,
            counts: BanCounts::default(),
            untold: BTreeMap::new(),
            file,
        };
        let mut opened = Opened::default();
        let recorded = bans.replay(&mut opened).map_err(failed("read"))?;
        let known_boot = recorded.as_ref().is_some_and(|(before, _)| before == boot);
        if let Some((before, offset)) = recorded
            && before == boot
        {
            opened.step = moved_by(bans.offset, offset);
            bans.relabel(opened.step);
        }
        let mut changed = opened.damaged > 0 || opened.step != Span::ZERO || bans.lines == 0;
        // The clock stands before the ban began: what it had left is unknown, and no more than all of it.
        for ban in bans.in_force.values_mut().filter(|ban| now < ban.since) {
            changed = true;
            let whole = ban.until.map(|until| until.since(ban.since));
            ban.since = now;
            ban.until = whole.map(|whole| moved(now, whole));
        }
        // A copy for a person to look at: what can't be read is written no more.
        bans.uncopied = opened.damaged > 0;
        let before = bans.in_force.len();
        bans.in_force.retain(|_, ban| ban.until.is_none_or(|until| until > now));
        opened.ended = before - bans.in_force.len();
        opened.in_force = bans.in_force.len();
        bans.forget(now);
        bans.torn = changed;
        let written = if changed || known_boot {
            bans.mend()
        } else {
            // What stands above it are labels of the wall clock, as it was and is.
            let clock = Line::Clock { boot: boot.to_owned(), offset: bans.offset };
            bans.append(std::iter::once(clock))
        };
        if let Err(error) = written {
            // What was read is in force all the same: it is written as soon as there is room.
            tracing::error!(%error, "the bans are known, and can't be written down yet");
            bans.torn = true;
        }
        Ok((bans, opened))
    }

    /// Bans in force, each with its key, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Ban> {
        self.in_force.values()
    }

    /// The ban in force, if there is one.
    pub fn get(&self, key: &BanKey) -> Option<&Ban> {
        self.in_force.get(key)
    }

    /// How many are in force.
    pub fn len(&self) -> usize {
        self.in_force.len()
    }

    /// Whether none is in force.
    pub fn is_empty(&self) -> bool {
        self.in_force.is_empty()
    }

    /// What is remembered of earlier bans by this rule.
    pub fn past(&self, key: &BanKey) -> Option<PastBans> {
        self.past.get(key).copied()
    }

    /// Says how rules count earlier bans from now on.
    pub fn count_as(&mut self, counts: BanCounts) {
        self.counts = counts;
    }

    /// How many bans there were before the next one of this network by this rule, as the rule counts them, and when the last one
    /// began. That of a rule which counts those of all rules is written down as one more than their sum, and is in the next sum as such:
    /// so fail2ban has it, and with two such rules the count grows faster than there are bans.
    pub fn counted(&self, key: &BanKey) -> Option<PastBans> {
        if self.counts.of_all.contains(&key.rule) { self.past_of_all(key.network) } else { self.past(key) }
    }

    /// Whether a ban for an offence of then does not count for the next ones: its rule counts the bans of all rules, and the offence is
    /// no later than the last of them. So it is with `recidive`, whose offence is the ban of another rule, within the second of the
    /// failure that this ban was made for. fail2ban takes it for a line that is read twice (`incrBanTime` in `server/observer.py`), by
    /// times in whole seconds: it bans, and does not write the ban down.
    pub fn is_uncounted(&self, key: &BanKey, at: Time) -> bool {
        let last = self.counts.of_all.contains(&key.rule).then(|| self.past_of_all(key.network)).flatten();
        last.is_some_and(|past| at <= whole_seconds(past.last))
    }

    /// What is remembered of earlier bans of this network by any rule: their sum, and the last one.
    fn past_of_all(&self, network: IpNet) -> Option<PastBans> {
        let first = BanKey { network, rule: String::new() };
        let all = self.past.range(first..).take_while(|(key, _)| key.network == network).map(|(key, past)| {
            let most = if self.counts.once.contains(&key.rule) { 1 } else { u32::MAX };
            PastBans { count: past.count.min(most), ..*past }
        });
        all.reduce(|a, b| PastBans { count: a.count.saturating_add(b.count), last: a.last.max(b.last) })
    }

    /// How long the hold is to last from `now` on: the longest of the bans that want it; `None` when none does.
    pub fn lasting(&self, hold: &Hold, now: Time) -> Option<Lasting> {
        // What a ban holds back has its network within: the bans that are asked for stand together.
        let (first, last) = (hold.network.network(), hold.network.broadcast());
        let first = BanKey { network: IpNet::new(first, 0).ok()?, rule: String::new() };
        let within = self.in_force.range(first..).take_while(|(key, _)| key.network.addr() <= last).map(|(_, ban)| ban);
        let lengths = within.filter(|ban| ban.hold == *hold).map(|ban| ban.until.map(|until| until.since(now)));
        lengths.filter(|left| left.is_none_or(|left| left > Span::ZERO)).reduce(longer)
    }

    /// Whether a ban by this rule holds back just this.
    pub fn holds_back(&self, held: IpNet, rule: &str) -> bool {
        let Ok(first) = IpNet::new(held.network(), 0) else { return false };
        let first = BanKey { network: first, rule: String::new() };
        let mut within = self.in_force.range(first..).take_while(|(key, _)| key.network.addr() <= held.broadcast());
        within.any(|(key, ban)| key.rule == rule && ban.hold.network == held)
    }

    /// How long each hold is to last from `now` on: the longest of the bans that want it.
    pub fn holds(&self, now: Time) -> BTreeMap<Hold, Lasting> {
        let mut holds: BTreeMap<Hold, Lasting> = BTreeMap::new();
        for ban in self.in_force.values() {
            let left = ban.until.map(|until| until.since(now));
            if left.is_some_and(|left| left <= Span::ZERO) {
                continue;
            }
            holds.entry(ban.hold.clone()).and_modify(|most| *most = longer(*most, left)).or_insert(left);
        }
        holds
    }

    /// Writes bans down, in the place of those with the same key. They are durable when this returns; after an error none is.
    ///
    /// # Errors
    /// The file can't be written, or there are too many.
    pub fn add(&mut self, mut bans: Vec<Ban>) -> Result<(), BansError> {
        for ban in &mut bans {
            let end = ban.rule.floor_char_boundary(RULE_BYTES_MAX);
            ban.rule.truncate(end);
        }
        if self.in_force.len() + bans.iter().filter(|ban| !self.in_force.contains_key(&ban.key())).count() > BANS_MAX {
            return Err(BansError::Full);
        }
        self.append(bans.iter().map(Line::of_ban))?;
        for ban in bans {
            self.apply(ban);
        }
        self.bound_past();
        Ok(())
    }

    /// Takes bans in that could not be written down: they are in force, and are written as soon as the file can be.
    pub fn hold(&mut self, mut bans: Vec<Ban>) {
        for ban in &mut bans {
            let end = ban.rule.floor_char_boundary(RULE_BYTES_MAX);
            ban.rule.truncate(end);
        }
        for ban in bans {
            self.apply(ban);
        }
        self.bound_past();
        self.torn = true;
    }

    /// Remembers bans of another program: of each key how many there were before the one in force here, or in all where none is, and
    /// when the last one began. What is known already is not made less.
    ///
    /// # Errors
    /// The file can't be written: nothing is remembered.
    pub fn remember(&mut self, past: Vec<(BanKey, PastBans)>) -> Result<(), BansError> {
        let (mut raised, mut remembered) = (Vec::new(), Vec::new());
        for (mut key, PastBans { count, last }) in past {
            key.rule.truncate(key.rule.floor_char_boundary(RULE_BYTES_MAX));
            if let Some(ban) = self.in_force.get(&key).filter(|ban| !ban.uncounted) {
                if ban.count < count {
                    raised.push(Ban { count, ..ban.clone() });
                }
                continue;
            }
            let known = self.past.get(&key);
            if known.is_none_or(|known| known.count < count) {
                let last = known.map_or(last, |known| known.last.max(last));
                remembered.push((key, PastBans { count, last }));
            }
        }
        // These bans are in the journal already.
        let mark = (!raised.is_empty() && self.untold.is_empty()).then_some(Line::Told {});
        let lines =
            remembered.iter().map(|(key, past)| Line::of_past(key, *past)).chain(raised.iter().map(Line::of_ban));
        self.append(lines.chain(mark).collect::<Vec<_>>().into_iter())?;
        self.past.extend(remembered);
        for ban in raised {
            let key = ban.key();
            self.past.entry(key.clone()).and_modify(|past| past.count = ban.count.saturating_add(1));
            if let Some(untold) = self.untold.get_mut(&key) {
                untold.count = ban.count;
            }
            self.in_force.insert(key, ban);
        }
        self.bound_past();
        Ok(())
    }

    /// What bans hold back, by one rule each: bans of several addresses of IPv6 that hold back one network are one. In order.
    pub fn held_each(&self, mut each: impl FnMut(&[&Ban])) {
        let mut of_rules: BTreeMap<(&Hold, &str), Vec<&Ban>> = BTreeMap::new();
        let mut bans = self.in_force.values().peekable();
        // The addresses of a network stand together.
        while let Some(ban) = bans.next() {
            let customer = widened(ban.network);
            let is_last = bans.peek().is_none_or(|next| widened(next.network) != customer);
            if is_last && of_rules.is_empty() {
                each(&[ban]);
                continue;
            }
            of_rules.entry((&ban.hold, &ban.rule)).or_default().push(ban);
            if is_last {
                for bans in of_rules.values() {
                    each(bans);
                }
                of_rules.clear();
            }
        }
    }

    /// How many there are of [`held_each`](Self::held_each).
    pub fn held_len(&self) -> usize {
        let mut count = 0;
        self.held_each(|_| count += 1);
        count
    }

    /// Gives bans that are in force something else to hold back. Where the file can't be written, that is so all the same, and is
    /// written as soon as it can be.
    pub fn hold_instead(&mut self, holds: Vec<(BanKey, Hold)>) {
        for (key, hold) in holds {
            for ban in [self.in_force.get_mut(&key), self.untold.get_mut(&key)].into_iter().flatten() {
                ban.hold.clone_from(&hold);
            }
            self.torn = true;
        }
        if let Err(error) = self.mend() {
            tracing::warn!(%error, "what bans hold back has changed, and can't be written down yet");
        }
    }

    /// The ban in force at `now`, if there is one: one whose time is over is none, whether or not it was taken out.
    pub fn get_at(&self, key: &BanKey, now: Time) -> Option<&Ban> {
        self.in_force.get(key).filter(|ban| ban.until.is_none_or(|until| until > now))
    }

    /// Takes bans out. What is remembered of them stays, unless `forget`.
    ///
    /// # Errors
    /// The file can't be written: they are all still in force.
    pub fn remove(&mut self, keys: &[BanKey], forget: bool) -> Result<Vec<Ban>, BansError> {
        let there: Vec<_> = keys.iter().filter(|key| self.in_force.contains_key(*key) || forget).collect();
        self.append(there.iter().map(|key| Line::of_removed(key, forget)))?;
        if forget {
            for key in &there {
                self.past.remove(*key);
            }
        }
        Ok(there.into_iter().filter_map(|key| self.in_force.remove(key)).collect())
    }

    /// Takes bans out whose end could not be written down: they are over, and that is written as soon as the file can be.
    pub fn let_go(&mut self, keys: &[BanKey], forget: bool) -> Vec<Ban> {
        if forget {
            for key in keys {
                self.past.remove(key);
            }
        }
        self.torn = true;
        keys.iter().filter_map(|key| self.in_force.remove(key)).collect()
    }

    /// Takes out bans whose time is over. Nothing is written: the next start finds them ended too.
    pub fn expire(&mut self, now: Time) -> Vec<Ban> {
        let over = |ban: &Ban| ban.until.is_some_and(|until| until <= now);
        let ended: Vec<_> = self.in_force.values().filter(|ban| over(ban)).cloned().collect();
        for ban in &ended {
            self.in_force.remove(&ban.key());
        }
        ended
    }

    /// Takes a reading of both clocks: when the wall clock was set, the labels of all bans move with it, and the file is
    /// written anew. To be called before anything is asked about the time. Says how far the clock was set.
    ///
    /// # Errors
    /// The file can't be written; the labels have moved.
    pub fn read_clocks(&mut self, now: Time, monotonic: Monotonic) -> Result<Span, BansError> {
        let step = moved_by(offset(now, monotonic), self.offset);
        if step == Span::ZERO {
            return Ok(step);
        }
        self.offset = offset(now, monotonic);
        self.relabel(step);
        self.torn = true;
        self.mend()?;
        Ok(step)
    }

    /// Forgets bans that ended long ago, and writes the file anew when much of it is of no use any more.
    ///
    /// # Errors
    /// The file can't be written; the old one is there.
    pub fn tidy(&mut self, now: Time) -> Result<(), BansError> {
        self.forget(now);
        if self.lines > 2 * (self.in_force.len() + self.past.len()) + SPARE_LINES {
            self.torn = true;
        }
        self.mend()
    }

    fn relabel(&mut self, step: Span) {
        for ban in self.in_force.values_mut() {
            ban.since = moved(ban.since, step);
            ban.until = ban.until.map(|until| moved(until, step));
        }
        self.past.values_mut().for_each(|past| past.last = moved(past.last, step));
    }

    fn forget(&mut self, now: Time) {
        let kept = self.past_kept;
        self.past.retain(|key, past| self.in_force.contains_key(key) || now.since(past.last) <= kept);
    }

    fn bound_past(&mut self) {
        if self.past.len() <= PAST_MAX {
            return;
        }
        // A tenth at a time: to look for the oldest takes as long as there are many.
        let mut ages: Vec<_> = self.past.iter().map(|(key, past)| (past.last, key.clone())).collect();
        ages.sort_unstable();
        ages.truncate(self.past.len() - PAST_MAX + PAST_MAX / 10);
        for (_, key) in &ages {
            self.past.remove(key);
        }
    }

    /// Bans that were written down and enforced, and of which it is not known whether they are in the journal: the process ended
    /// in between.
    pub fn untold(&self) -> Vec<Ban> {
        self.untold.values().cloned().collect()
    }

    /// Notes that all bans so far are in the journal. Not written through: after a power cut some are journaled once more.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn told(&mut self) -> Result<(), BansError> {
        if self.untold.is_empty() {
            return Ok(());
        }
        self.all_told();
        let mut text = Vec::new();
        Line::Told {}.write(&mut text);
        if let Err(error) = self.file.write_all(&text) {
            self.torn = self.file.set_len(self.length).is_err();
            return Err(self.error("written", error));
        }
        self.length += text.len() as u64;
        self.lines += 1;
        Ok(())
    }

    fn all_told(&mut self) {
        for key in std::mem::take(&mut self.untold).keys() {
            if let Some(ban) = self.in_force.get_mut(key) {
                ban.event = None;
            }
        }
    }

    fn apply(&mut self, ban: Ban) {
        self.untold.insert(ban.key(), ban.clone());
        let mut past = PastBans { count: ban.count.saturating_add(1), last: ban.since };
        if ban.uncounted {
            let before = self.past.get(&ban.key());
            past.count = before.map_or(0, |before| before.count);
            past.last = before.map_or(ban.since, |before| before.last.max(ban.since));
        }
        self.past.insert(ban.key(), past);
        self.in_force.insert(ban.key(), ban);
    }

    /// Reads the file; the last reading of the clocks in it is the result.
    fn replay(&mut self, opened: &mut Opened) -> io::Result<Option<(String, Span)>> {
        let mut reader = BufReader::with_capacity(256 * 1024, File::open(self.dir.join(FILE))?);
        let mut clock = None;
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            if (&mut reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes)? == 0 {
                return Ok(clock);
            }
            self.length += bytes.len() as u64;
            self.lines += 1;
            match Line::parse(&bytes) {
                None => opened.damaged += 1,
                Some(Line::Clock { boot, offset }) => {
                    // A line is labelled by the clock of its time: that of the last one counts for all, as the file is written
                    // anew after a step.
                    clock = Some((boot, offset));
                }
                Some(line) => self.replay_line(line),
            }
        }
    }

    fn replay_line(&mut self, line: Line) {
        match line {
            Line::Clock { .. } => {}
            Line::Told {} => self.all_told(),
            Line::Ban(row) => {
                if let Some(ban) = row.ban().filter(|_| self.in_force.len() < BANS_MAX) {
                    self.apply(ban);
                }
            }
            Line::Removed { network, rule, forget } => {
                let Ok(network) = network.parse() else { return };
                let key = BanKey { network, rule };
                self.in_force.remove(&key);
                if forget {
                    self.past.remove(&key);
                }
            }
            Line::Past { network, rule, count, last } => {
                let Ok(network) = network.parse() else { return };
                if self.past.len() < PAST_MAX {
                    self.past.insert(BanKey { network, rule }, PastBans { count, last });
                }
            }
        }
    }

    fn error(&self, what: &'static str, error: io::Error) -> BansError {
        BansError::Io { what, path: self.dir.join(FILE), error }
    }

    /// Appends lines and writes them through.
    fn append(&mut self, lines: impl Iterator<Item = Line>) -> Result<(), BansError> {
        self.mend()?;
        let mut text = Vec::new();
        let mut count = 0;
        for line in lines {
            line.write(&mut text);
            count += 1;
        }
        if count == 0 {
            return Ok(());
        }
        if let Err(error) = self.file.write_all(&text).and_then(|()| self.file.sync_data()) {
            // What was written of it is taken off again; it was not acknowledged.
            self.torn = self.file.set_len(self.length).is_err();
            return Err(self.error("written", error));
        }
        self.length += text.len() as u64;
        self.lines += count;
        Ok(())
    }

    /// Writes the file anew when that is due.
    fn mend(&mut self) -> Result<(), BansError> {
        if self.uncopied {
            std::fs::copy(self.dir.join(FILE), self.dir.join(FILE_DAMAGED))
                .map_err(|error| self.error("copied", error))?;
            self.uncopied = false;
        }
        if self.torn {
            self.rewrite().map_err(|error| self.error("written anew", error))?;
        }
        Ok(())
    }

    /// Writes all that is known beside the file, and puts it in its place.
    fn rewrite(&mut self) -> io::Result<()> {
        let next = self.dir.join(FILE_NEXT);
        match std::fs::remove_file(&next) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let past = self
            .past
            .iter()
            .filter(|(key, _)| self.in_force.get(*key).is_none_or(|ban| ban.uncounted))
            .map(|(key, past)| Line::of_past(key, *past));
        let clock = Line::Clock { boot: self.boot.clone(), offset: self.offset };
        let mut file = open_append(&next)?;
        let (mut lines, mut length, mut block) = (0, 0, Vec::new());
        let (untold, told): (Vec<_>, Vec<_>) =
            self.in_force.iter().partition(|(key, _)| self.untold.contains_key(*key));
        let [untold, told] = [untold, told].map(|bans| bans.into_iter().map(|(_, ban)| Line::of_ban(ban)));
        let mark = (told.len() > 0).then_some(Line::Told {});
        let all = std::iter::once(clock).chain(past).chain(told).chain(mark).chain(untold);
        for line in all {
            lines += 1;
            line.write(&mut block);
            if block.len() > BLOCK_BYTES {
                length += block.len() as u64;
                file.write_all(&block)?;
                block.clear();
            }
        }
        length += block.len() as u64;
        file.write_all(&block)?;
        file.sync_all()?;
        std::fs::rename(&next, self.dir.join(FILE))?;
        File::open(&self.dir)?.sync_all()?;
        (self.file, self.length, self.lines, self.torn) = (file, length, lines, false);
        Ok(())
    }
}

/// Opens the file, or makes it: no link is followed, and nothing else in its place is waited for.
fn open_append(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("there is something else in its place")) }
}

/// How far the wall clock was set between two readings of its distance to the monotonic clock.
fn moved_by(now: Span, before: Span) -> Span {
    let step = now - before;
    if step.micros().saturating_abs() < STEP_MIN.micros() { Span::ZERO } else { step }
}

/// The longer of two.
pub(super) fn longer(a: Lasting, b: Lasting) -> Lasting {
    Some(a?.max(b?))
}
