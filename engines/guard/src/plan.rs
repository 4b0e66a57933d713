//! What is to be followed on this host: the jails that the configuration of fail2ban enables, as rules of the engine.
//!
//! What can't be followed is no reason to follow nothing: it is said, by what it is about and why, and the rest runs.

use std::path::Path;
use std::sync::Arc;

use event::{Span, Time, Zone};
use ipnet::IpNet;

use crate::act::{Ports, Protocol};
use crate::config::{Desired, Settings};
use crate::detect::{AttemptsLimits, BanLength, BanTimes, BanTimesText};
use crate::fail2ban::dates::{DateDetector, DateSettings};
use crate::fail2ban::filter::{Filter, FilterSettings};
use crate::fail2ban::short_text as short;
use crate::fail2ban::{
    Action, ActionKind, Backend, BanAction, BanTime, Ignored, Jail, Jails, LogPath, Place, Port, Problem, ReadError,
    Services, UseDns, read_jails,
};
use crate::scenarios::Scenario;
use crate::source::{Encoding, Follow, JournalSettings, Positions, Start, names};

/// The filter of fail2ban that reads what fail2ban itself has logged of its bans.
const RECIDIVE: &str = "recidive";
/// What is done about what can't be read, where it could be before.
const AS_BEFORE: &str = "it is followed as it was read last, until it is mended and `garant guard reload` is run";
/// The same of all of it.
const ALL_AS_BEFORE: &str =
    "the configuration is followed as it was read last, until this is mended and `garant guard reload` is run";
/// What is said of a configuration of fail2ban in which no jail is enabled. It may be meant so.
pub(crate) const JAILS_OF: &str = "jails of ";
/// What is impaired when a jail that is followed bans nobody.
pub(crate) const BANS_OF: &str = "bans of jail ";
/// Most tickets of a rule at once.
pub(crate) const TICKETS_MAX: usize = 100_000;

/// The rules of this host, by the logs that they read.
pub(crate) struct Plan {
    pub(crate) streams: Vec<StreamPlan>,
    /// What is not followed.
    pub(crate) impaired: Vec<Impairment>,
    /// Enabled jails.
    pub(crate) rules: usize,
    /// What of the configuration can't be read, each with its place, the cause and what is done instead.
    pub(crate) mistakes: Vec<String>,
    /// What of it can be read and is not followed as it may be meant.
    pub(crate) notes: Vec<String>,
    /// The jails of fail2ban that are followed: what is gone back to when they can't be read later.
    pub(crate) jails: Option<Jails>,
}

/// Something that is not followed or not read, and why.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Impairment {
    /// What: a jail, a log, the packet filter.
    pub(crate) what: String,
    /// Why, and what to do.
    pub(crate) reason: String,
}

/// Logs, and the rules that read them alike: in one encoding and with dates of one kind, so each line is read once.
pub(crate) struct StreamPlan {
    /// What tells it from the other streams.
    pub(crate) key: Arc<str>,
    pub(crate) source: SourcePlan,
    pub(crate) encoding: Encoding,
    /// For looking into a log that is seen for the first time: what is found there says nothing of the lines to come.
    pub(crate) seek_dates: DateDetector,
    pub(crate) rules: Vec<RulePlan>,
}

/// Where lines come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum SourcePlan {
    /// Files.
    Files(Vec<Follow>),
    /// The journal of systemd, at first from so long ago.
    Journal(JournalSettings, Span),
}

impl StreamPlan {
    /// Whether it has a rule of this name.
    pub(crate) fn has(&self, rule: &str) -> bool {
        self.rules.iter().any(|known| *known.name == *rule)
    }
}

impl SourcePlan {
    /// Takes the places in the logs that it reads out of these.
    pub(crate) fn take_places(&self, positions: &mut Positions) -> Positions {
        match self {
            Self::Files(follows) => {
                let is_named = |path: &str| follows.iter().any(|follow| names(&follow.pattern, path));
                positions.take(&is_named, &|_| false)
            }
            Self::Journal(settings, _) => positions.take(&|_| false, &|name| *name == *settings.name()),
        }
    }
}

/// A rule.
pub(crate) struct RulePlan {
    pub(crate) name: Arc<str>,
    pub(crate) filter: Filter,
    pub(crate) limits: AttemptsLimits,
    pub(crate) times: BanTimes,
    /// What is closed; `None` for a rule that only tells.
    pub(crate) ports: Option<Ports>,
    /// Whom this rule never bans.
    pub(crate) ignored: Vec<IpNet>,
    /// Whether its logs are those of sshd, which tell of logins.
    pub(crate) reads_sshd: bool,
    /// Whether somebody is to be told of its bans: the jail had an action that sends mail.
    pub(crate) tells: bool,
    /// Its filter is `recidive`, so it counts the bans of the other rules; the zone in which it reads dates.
    pub(crate) counts_bans: Option<Zone>,
    /// Whether it is one of garant's own, which no jail says.
    pub(crate) is_own: bool,
}

impl Plan {
    const EMPTY: Self = Self {
        streams: Vec::new(),
        impaired: Vec::new(),
        rules: 0,
        mistakes: Vec::new(),
        notes: Vec::new(),
        jails: None,
    };

    /// Reads what the desired state names. `now` is the start: the years that a date without one may be of depend on it. What
    /// can't be read of the configuration of fail2ban is followed as it was `before`, where there was something.
    pub(crate) fn make(desired: &Desired, before: Option<&Jails>, now: Time) -> Self {
        let mut plan = Self::EMPTY;
        for name in &desired.settings.scenarios {
            let added = Scenario::named(name)
                .ok_or_else(|| "this release has no such rule: run the same release as the server".to_owned())
                .and_then(|scenario| plan.add_scenario(scenario, &desired.settings, now));
            match added {
                Ok(()) => plan.rules += 1,
                Err(reason) => plan.note(format!("scenario {name}"), &reason),
            }
        }
        let Some(folder) = &desired.settings.fail2ban else { return plan };
        match (read_jails(folder), before) {
            // fail2ban passes such a file over and says so in its log; what it enabled would silently no longer be followed.
            (Ok(jails), Some(before)) if !jails.passed_over.is_empty() => {
                plan.mistakes(folder, &jails.passed_over, ALL_AS_BEFORE);
                plan.add_jails(Jails { broken: Vec::new(), ..before.clone() }, None, now);
            }
            (Ok(jails), before) => {
                plan.mistakes(folder, &jails.passed_over, "until then it is passed over, as fail2ban does");
                plan.mistakes(folder, &jails.mistyped, "until then it counts as `false`, as with fail2ban");
                if jails.jails.is_empty() && jails.broken.is_empty() {
                    let reason = "no jail is enabled, so nobody is banned by one: write `enabled = true` into a jail of \
                                  jail.local, or remove `fail2ban` from [guard]";
                    plan.note(format!("{JAILS_OF}{}", folder.display()), reason);
                }
                plan.add_jails(jails, before, now);
            }
            (Err(ReadError(problems)), Some(before)) => {
                plan.mistakes(folder, &problems, ALL_AS_BEFORE);
                plan.add_jails(Jails { broken: Vec::new(), ..before.clone() }, None, now);
            }
            (Err(ReadError(problems)), None) => plan.mistakes(
                folder,
                &problems,
                "no jail is followed until this is mended and `garant guard reload` is run",
            ),
        }
        plan
    }

    /// Says what can't be read of a folder, each by its place, and what is done instead.
    fn mistakes(&mut self, folder: &Path, problems: &[Problem], instead: &str) {
        for Problem { place, message } in problems {
            let what = place.as_ref().map_or_else(|| folder.display().to_string(), Place::to_string);
            self.mistake(what, &format!("{message}; {instead}"));
        }
    }

    /// Says what can be read and is not followed as it may be meant.
    fn note(&mut self, what: String, reason: &str) {
        self.notes.push(format!("{what}: {reason}"));
        self.impair(what, reason.to_owned());
    }

    fn mistake(&mut self, what: String, reason: &str) {
        self.mistakes.push(format!("{what}: {reason}"));
        self.impair(what, reason.to_owned());
    }

    /// What of these jails would not be followed, by the name of the jail.
    pub(crate) fn refused(jails: &Jails, now: Time) -> Vec<Impairment> {
        let mut plan = Self::EMPTY;
        plan.add_jails(Jails { broken: Vec::new(), ..jails.clone() }, None, now);
        // Patterns are compiled when a line first needs them: here, so that it is known before.
        for rule in plan.streams.iter().flat_map(|stream| &stream.rules) {
            if let Err(error) = rule.filter.check(&rule.name) {
                plan.impaired.push(Impairment { what: format!("jail {}", rule.name), reason: error.to_string() });
            }
        }
        plan.impaired
    }

    /// Adds jails. One that can't be read is followed as it was `before`.
    fn add_jails(&mut self, jails: Jails, before: Option<&Jails>, now: Time) {
        let plan = self;
        let services = std::fs::read_to_string("/etc/services").unwrap_or_default();
        let services = Services::parse(&services);
        let as_before = |name: &str| before?.jails.iter().find(|jail| jail.name == name).cloned();
        let mut followed = Vec::new();
        for broken in &jails.broken {
            let why: Vec<String> = broken.problems.iter().map(ToString::to_string).collect();
            let (what, why) = (format!("jail {}", broken.name), why.join("; "));
            match as_before(&broken.name).filter(|jail| plan.add(jail, &services, now).is_ok()) {
                Some(jail) => {
                    plan.rules += 1;
                    plan.mistake(what, &format!("{why}: {AS_BEFORE}"));
                    followed.push(jail);
                }
                None => plan.mistake(what, &why),
            }
        }
        for jail in &jails.jails {
            let what = format!("jail {}", jail.name);
            match plan.add(jail, &services, now) {
                Ok(()) => {
                    plan.rules += 1;
                    followed.push(jail.clone());
                }
                // It would ban whom something spares that is not asked: so would it as it was before.
                Err(reason) if spares_unknown(jail).is_some() => match as_before(&jail.name) {
                    // Its rule is not followed from here on: a reload says so.
                    Some(_) => plan.mistake(what, &reason),
                    None => plan.note(what, &reason),
                },
                Err(reason) => match as_before(&jail.name).filter(|jail| plan.add(jail, &services, now).is_ok()) {
                    Some(jail) => {
                        plan.rules += 1;
                        plan.mistake(what, &format!("{reason}: {AS_BEFORE}"));
                        followed.push(jail);
                    }
                    None => plan.mistake(what, &reason),
                },
            }
        }
        for jail in &followed {
            for reason in [finds_nobody(jail), bans_nobody(jail)].into_iter().flatten() {
                plan.note(format!("{BANS_OF}{}", jail.name), &reason);
            }
        }
        plan.jails = Some(Jails { jails: followed, broken: Vec::new(), ..jails });
    }

    /// Adds a rule of garant's own.
    fn add_scenario(&mut self, scenario: &Scenario, settings: &Settings, now: Time) -> Result<(), String> {
        let (zone, find_time) = (local_zone(Path::new("/")), settings.within);
        let source = scenario.source(Path::new("/"), find_time);
        let dates = DateSettings { zone: &zone, log_zone: None, started: now };
        let seek_dates = DateDetector::new(None, &dates).map_err(|error| error.to_string())?;
        let of_filter = FilterSettings { use_dns: UseDns::No, find_time, ..FilterSettings::new(zone, now) };
        let filter = Filter::compile(&scenario.filter(), of_filter).map_err(|error| error.to_string())?;
        let times = BanTimes::parse(&BanTimesText::fixed(BanLength::For(settings.ban)));
        let rule = RulePlan {
            name: Arc::from(scenario.name),
            filter,
            limits: AttemptsLimits { max_retry: settings.failures, find_time, tickets_max: TICKETS_MAX },
            times: times.map_err(|error| error.to_string())?,
            ports: Some(
                Ports::some(scenario.protocol, scenario.ports.iter().copied()).map_err(|error| error.to_string())?,
            ),
            ignored: Vec::new(),
            reads_sshd: scenario.name == "sshd",
            tells: false,
            counts_bans: None,
            is_own: true,
        };
        self.join(format!("{source:?}"), source, Encoding::default(), seek_dates, rule);
        Ok(())
    }

    /// Adds a rule to the stream of its logs.
    fn join(&mut self, key: String, source: SourcePlan, encoding: Encoding, seek_dates: DateDetector, rule: RulePlan) {
        match self.streams.iter_mut().find(|stream| *stream.key == *key) {
            Some(stream) => stream.rules.push(rule),
            None => {
                self.streams.push(StreamPlan { key: Arc::from(key), source, encoding, seek_dates, rules: vec![rule] });
            }
        }
    }

    fn impair(&mut self, what: String, reason: String) {
        match self.impaired.iter_mut().find(|known| known.what == what) {
            Some(known) => known.reason = format!("{}; {reason}", known.reason),
            None => self.impaired.push(Impairment { what, reason }),
        }
    }

    fn add(&mut self, jail: &Jail, services: &Services, now: Time) -> Result<(), String> {
        if let Some(reason) = spares_unknown(jail) {
            return Err(reason);
        }
        let zone = local_zone(Path::new("/"));
        let settings = DateSettings { zone: &zone, log_zone: jail.log_time_zone.as_deref(), started: now };
        let date_pattern = jail.filter.datepattern.clone();
        let seek_dates = DateDetector::new(date_pattern.as_deref(), &settings).map_err(|error| error.to_string())?;
        let encoding = match jail.log_encoding.as_str() {
            "auto" | "" => Encoding::default(),
            name => Encoding::named(name).map_err(|error| error.to_string())?,
        };
        let source = source(jail, encoding)?;
        let key = format!(
            "{source:?} {encoding:?} {:?} {:?}",
            date_pattern.as_deref().unwrap_or_default(),
            jail.log_time_zone.as_deref().unwrap_or_default()
        );
        let rule = rule(jail, services, zone.clone(), now)?;
        self.join(key, source, encoding, seek_dates, rule);
        Ok(())
    }
}

/// Why it is not known whom the jail spares, if so: it would ban them.
fn spares_unknown(jail: &Jail) -> Option<String> {
    if jail.ignore_command.is_some() {
        return Some(
            "it has an `ignorecommand`, and no command is run on the word of a log: name the addresses in `ignoreip`, or in \
             `allow` of [guard], and remove it"
                .to_owned(),
        );
    }
    let names: Vec<String> = jail.ignored.iter().filter_map(Ignored::unknown_name).map(short).take(5).collect();
    (!names.is_empty()).then(|| {
        format!(
            "its `ignoreip` has {}, and names are not looked up, for who owns a name decides whom it spares: it would ban whom \
             fail2ban spares. Write the addresses in `ignoreip`, or in `allow` of [guard], and remove the name",
            names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
        )
    })
}

/// Why a jail that is followed finds nobody, if its filter has no pattern.
fn finds_nobody(jail: &Jail) -> Option<String> {
    jail.filter.failregex.is_empty().then(|| {
        format!(
            "its filter `{}` has no `failregex`, so it finds nobody: write one into filter.d/{0}.local or the jail, or switch the jail off",
            short(&jail.filter.name)
        )
    })
}

/// Why a jail that is followed bans nobody, if it names actions and garant takes none of those over that ban. One without any such
/// action bans nobody with fail2ban either.
fn bans_nobody(jail: &Jail) -> Option<String> {
    let is_ban = |action: &Action| matches!(action.kind, ActionKind::Ban(_));
    let refused: Vec<String> = jail
        .actions
        .iter()
        .filter(|action| matches!(action.kind, ActionKind::Refused(_)))
        .map(|action| format!("`{}`", short(&action.name)))
        .collect();
    (!refused.is_empty() && !jail.actions.iter().any(is_ban)).then(|| {
        format!(
            "its offenders are recorded and not banned, for {} is not taken over: write `banaction = nftables-multiport` in the \
             jail, with `on_ban` in [guard] for a program of yours; or, if nobody is to be banned, remove that action",
            refused.join(", ")
        )
    })
}

fn source(jail: &Jail, encoding: Encoding) -> Result<SourcePlan, String> {
    match &jail.backend {
        Backend::Files if jail.log_paths.is_empty() => {
            Err("it names no log to read: give it a `logpath`, or `backend = systemd`".to_owned())
        }
        Backend::Files => {
            let start = |tail| if tail { Start::End } else { Start::Since(jail.find_time) };
            let follow = |path: &LogPath| Follow { pattern: path.pattern.clone(), start: start(path.tail) };
            Ok(SourcePlan::Files(jail.log_paths.iter().map(follow).collect()))
        }
        Backend::Journal(options) => {
            let journal = journal_settings(jail.filter.journalmatch.clone(), options, encoding)?;
            Ok(SourcePlan::Journal(journal, jail.find_time))
        }
    }
}

/// Which journal, by the options of `systemd[…]`.
pub(crate) fn journal_settings(
    matches: Vec<Vec<String>>,
    options: &[(String, String)],
    encoding: Encoding,
) -> Result<JournalSettings, String> {
    let mut journal = JournalSettings { matches, encoding, ..JournalSettings::default() };
    for (name, value) in options {
        match name.as_str() {
            "journalpath" => journal.directory = Some(value.clone()),
            "journalfiles" => journal.files = value.split(',').map(|file| file.trim().to_owned()).collect(),
            "namespace" => journal.namespace = Some(value.clone()),
            "journalflags" => journal.all_journals = !value.contains("SYSTEM_ONLY") && value.trim() != "4",
            _ => return Err(format!("`{name}` is no option of `backend = systemd` that is known: remove it")),
        }
    }
    Ok(journal)
}

fn rule(jail: &Jail, services: &Services, zone: Zone, started: Time) -> Result<RulePlan, String> {
    let use_dns = match jail.use_dns {
        UseDns::Raw => UseDns::Raw,
        // A name in a log is what a stranger says of himself: it is never looked up, and bans nobody.
        UseDns::Yes | UseDns::Warn | UseDns::No => UseDns::No,
    };
    let (log_zone, find_time) = (jail.log_time_zone.clone(), jail.find_time);
    let counts_bans = (jail.filter.name == RECIDIVE)
        .then(|| log_zone.as_deref().and_then(Zone::named).unwrap_or_else(|| zone.clone()));
    let settings = FilterSettings { log_zone, use_dns, find_time, ..FilterSettings::new(zone, started) };
    let filter = Filter::compile(&jail.filter, settings).map_err(|error| error.to_string())?;
    let length = |time| match time {
        BanTime::Forever => BanLength::Forever,
        BanTime::For(span) => BanLength::For(span),
    };
    let mut text = BanTimesText::fixed(length(jail.ban_time));
    if let Some(increment) = jail.increment.clone() {
        text.increment = true;
        text.factor = increment.factor;
        text.formula = increment.formula;
        text.multipliers = increment.multipliers;
        text.max_time = increment.max_time;
        text.rnd_time = increment.rnd_time;
        text.overall_jails = increment.overall_jails;
    }
    let times = BanTimes::parse(&text).map_err(|error| error.to_string())?;
    let limits = AttemptsLimits { max_retry: jail.max_retry, find_time: jail.find_time, tickets_max: TICKETS_MAX };
    let ignored = jail.ignored.iter().filter_map(|ignored| match ignored {
        Ignored::Network(network) | Ignored::Mistaken(_, network) => Some(*network),
        Ignored::Name(_) => None,
    });
    Ok(RulePlan {
        name: Arc::from(jail.name.as_str()),
        filter,
        limits,
        times,
        ports: ports_of(jail, services)?,
        ignored: ignored.collect(),
        reads_sshd: jail.filter.name == "sshd",
        tells: jail.actions.iter().any(|action| matches!(action.kind, ActionKind::Notify(_))),
        counts_bans,
        is_own: false,
    })
}

/// What the bans of a jail close; `None` when it bans nobody.
pub(crate) fn ports_of(jail: &Jail, services: &Services) -> Result<Option<Ports>, String> {
    let bans: Vec<&BanAction> = jail
        .actions
        .iter()
        .filter_map(|action| if let ActionKind::Ban(ban) = &action.kind { Some(ban) } else { None })
        .collect();
    if bans.is_empty() { Ok(None) } else { ports(&bans, services).map(Some) }
}

/// What all of these actions close together.
fn ports(bans: &[&BanAction], services: &Services) -> Result<Ports, String> {
    let mut named: Vec<Port> = Vec::new();
    let (mut tcp, mut udp) = (false, false);
    for ban in bans {
        let Some(ports) = &ban.ports else { return Ok(Ports::All) };
        named.extend(ports.iter().cloned());
        (tcp, udp) = (tcp | ban.tcp, udp | ban.udp);
    }
    let ranges = services.ranges(&named).map_err(|name| {
        format!("`{name}` is no port that /etc/services knows: write its number in `port` of the jail")
    })?;
    let protocol = match (tcp, udp) {
        (true, false) => Protocol::Tcp,
        (false, true) => Protocol::Udp,
        _ => Protocol::Both,
    };
    if ranges.contains(&(0, u16::MAX)) {
        return Ok(Ports::All);
    }
    Ports::some(protocol, ranges).map_err(|error| error.to_string())
}

/// The zone of this host: what `/etc/localtime` leads to, or what `/etc/timezone` names; UTC where neither is known.
pub(crate) fn local_zone(root: &Path) -> Zone {
    let linked = std::fs::read_link(root.join("etc/localtime")).ok();
    let linked = linked.as_ref().and_then(|path| path.to_str()).and_then(|path| path.split_once("zoneinfo/"));
    let named = std::fs::read_to_string(root.join("etc/timezone")).unwrap_or_default();
    let mut names = linked.map(|(_, name)| name).into_iter().chain([named.trim()]);
    names.find_map(Zone::named).unwrap_or_default()
}
