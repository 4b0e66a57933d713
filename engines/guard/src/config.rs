//! `[guard]`: which rules are followed on this host, and who is never banned.

use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use event::policy::{Agreement, Applied, Detector, Text};
use event::{FindingId, ProbeId, ServiceId, Span};
use ipnet::IpNet;
use policy::{Document, Nouns, Part, Section, SectionDoc, Table};
use serde::{Deserialize, Serialize};

use crate::fail2ban::{BrokenJail, ReadError, read_jails};
use crate::lists::{file_error, words};
use crate::on_ban::not_runnable;
use crate::scenarios::{SCENARIOS, Scenario};

/// The kind of the probe, and its name unless the policy says another.
const PROBE: &str = "guard";

/// The finding that a declared log can't be read.
pub(crate) const LOGS_UNREAD: &str = "logs-unread";
/// The finding that bans are not enforced.
pub(crate) const BANS_NOT_ENFORCED: &str = "bans-not-enforced";

/// The finding that a rule of which somebody is to be told has banned lately.
pub(crate) const OFFENDERS_BANNED: &str = "offenders-banned";

/// The findings, in the order in which a turn is told of them.
pub(crate) const FINDINGS: [&str; 3] = [LOGS_UNREAD, BANS_NOT_ENFORCED, OFFENDERS_BANNED];

/// How long a ban may be, and the time in which failures are counted.
const BAN_LENGTHS: RangeInclusive<Span> = Span::from_secs(1)..=Span::from_days(3650);
/// The widest network that may be allowed: of IPv4, and of IPv6.
const WIDEST: (u8, u8) = (8, 16);

/// `[guard]`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Settings {
    /// The probe: what coverage and findings are said of.
    pub probe: ProbeId,
    /// The service that the probe belongs to.
    pub service: ServiceId,
    /// The configuration of fail2ban whose jails are followed.
    pub fail2ban: Option<PathBuf>,
    /// Addresses and networks that are never banned.
    pub allow: Vec<IpNet>,
    /// Detect and record, and ban nobody.
    pub simulate: bool,
    /// Most bans in a minute; beyond it, bans are recorded and not enforced.
    pub bans_per_minute_max: u32,
    /// Ban sources that try many ports.
    pub scans: bool,
    /// For how long a source of a port scan is banned.
    pub scan_ban: Span,
    /// Addresses of successful logins of this long are never banned.
    pub logins_remembered: Span,
    /// Rules of garant's own that are followed.
    #[serde(default)]
    pub scenarios: Vec<String>,
    /// So many failures
    #[serde(default)]
    pub failures: u32,
    /// within this time
    #[serde(default)]
    pub within: Span,
    /// cost a ban of this long, by a rule of garant's own.
    #[serde(default)]
    pub ban: Span,
    /// A program that is run for each ban and its end.
    #[serde(default)]
    pub on_ban: Option<PathBuf>,
    /// Files and URLs of lists of networks that are banned.
    #[serde(default)]
    pub lists: Vec<String>,
}

impl Section for Settings {
    const ABOUT: &'static str = "\
Reads logs by the rules of fail2ban and bans addresses in the packet filter. It runs in the agent of this host.";
    const EXAMPLE: &'static str =
        "[guard]\nservice = \"shop\"\nfail2ban = \"/etc/fail2ban\"\nallow = [\"203.0.113.0/24\"]\n";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let probe = table.declare_or(
            "name",
            PROBE.parse().ok(),
            "`guard`",
            "name of the probe that says whether every declared log is read",
        );
        let service = table.required("service", "the service that the probe belongs to; best one of its own");
        let fail2ban: Option<PathBuf> =
            table.optional("fail2ban", "the configuration of fail2ban whose enabled jails are followed, as it is");
        let allow: Vec<IpNet> =
            table.list("allow", "addresses and networks that are never banned, beside those that garant finds");
        let simulate = table.or("simulate", false, "detect and record, and ban nobody");
        let doc = "most bans in a minute; beyond it bans are recorded and not enforced, and the team is told";
        let bans_per_minute_max = table.or_in("bans_per_minute_max", 300, &(1..=1_000_000), doc);
        let scans = table.or(
            "scans",
            false,
            "ban sources that try more than 15 ports on which nothing listens within a minute",
        );
        let doc = "for how long the source of a port scan is banned";
        let scan_ban = table.or_in("scan_ban", Span::from_secs(3600), &BAN_LENGTHS, doc);
        let doc = "for how long the address of a successful login is never banned";
        let logins_remembered = table.or("logins_remembered", Span::from_secs(30 * 86_400), doc);
        let doc = "rules of garant's own, for a host without fail2ban: \"sshd\", \"nginx-auth\", \"web-probes\", \
                   \"postfix-sasl\", \"dovecot\", \"mariadb\"";
        let scenarios: Vec<String> = table.list("scenarios", doc);
        let doc = "so many failures of one address within `within` are an offence, for `scenarios`";
        let failures = table.or_in("failures", 5, &(1..=1000), doc);
        let doc = "within what time failures are counted, for `scenarios`";
        let within = table.or_in("within", Span::from_secs(600), &BAN_LENGTHS, doc);
        let doc = "for how long an offender is banned, for `scenarios`";
        let ban = table.or_in("ban", Span::from_secs(3600), &BAN_LENGTHS, doc);
        let doc = "a program that is run for each ban and its end, with `ban` or `unban`, the address and the rule as its \
                   arguments; without a shell, with the rights of the agent";
        let on_ban: Option<PathBuf> = table.optional("on_ban", doc);
        let doc = "lists of networks that are banned, such as Spamhaus DROP: files, or URLs that are fetched each hour";
        let lists: Vec<String> = table.list("lists", doc);
        for name in scenarios.iter().filter(|name| Scenario::named(name).is_none()) {
            let known: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
            let reason = format!("`{name}` is no rule of garant's own");
            table.mistake("scenarios", reason, format!("write some of {}", known.join(", ")));
        }
        for wide in allow.iter().filter(|network| {
            let widest = if network.addr().is_ipv4() { WIDEST.0 } else { WIDEST.1 };
            network.prefix_len() < widest
        }) {
            let reason = format!("`{wide}` is so wide that hardly anybody could be banned");
            table.mistake(
                "allow",
                reason,
                "allow the networks of the team; to ban nobody at first, write `simulate = true`",
            );
        }
        for list in lists.iter().filter(|list| !list.starts_with('/') && !list.starts_with("https://")) {
            let reason = format!("`{list}` is neither an absolute path nor a URL that begins with https://");
            table.mistake("lists", reason, "write the whole path of the file, or its https URL");
        }
        if fail2ban.is_none() && scenarios.is_empty() && lists.is_empty() && !scans && !table.is_example() {
            let remedy = "write `fail2ban = \"/etc/fail2ban\"`, or `scenarios = [\"sshd\"]`";
            table.mistake("service", "the guard has no rule to follow", remedy);
        }
        Some(Self {
            probe: probe?,
            service: service?,
            fail2ban,
            allow,
            simulate,
            bans_per_minute_max,
            scans,
            scan_ban,
            logins_remembered,
            scenarios,
            failures,
            within,
            ban,
            on_ban,
            lists,
        })
    }
}

/// The part of the policy that the engine reads.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Config {
    settings: Option<Settings>,
    revision: String,
}

/// What the engine is to do, as the agent keeps it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Desired {
    /// `[guard]`.
    pub settings: Settings,
    /// The revision of the policy, which coverage records name.
    pub revision: String,
}

impl Config {
    /// The files that the agent is to read whole.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let lists = self.settings.iter().flat_map(|settings| &settings.lists);
        lists.filter(|list| list.starts_with('/')).map(Path::new)
    }

    /// What the agent of this host is to do; `None` without `[guard]`.
    pub fn desired(&self) -> Option<Desired> {
        let settings = self.settings.clone()?;
        Some(Desired { settings, revision: self.revision.clone() })
    }
}

/// What can't be read of a configuration of fail2ban.
fn unread_jails(folder: &Path) -> Vec<String> {
    match read_jails(folder) {
        Ok(jails) => {
            let words = |jail: BrokenJail| {
                let why: Vec<String> = jail.problems.iter().map(ToString::to_string).collect();
                format!("the jail {}: {}", jail.name, why.join("; "))
            };
            let problems = jails.passed_over.iter().chain(&jails.mistyped).map(ToString::to_string);
            problems.chain(jails.broken.into_iter().map(words)).collect()
        }
        Err(ReadError(problems)) => problems.iter().map(ToString::to_string).collect(),
    }
}

fn finding(name: &str) -> Option<FindingId> {
    name.parse().ok()
}

impl Part for Config {
    fn read(document: &mut Document, _nouns: &Nouns) -> Self {
        let settings: Option<Settings> = document.table("guard");
        if settings.is_some() {
            for name in [LOGS_UNREAD, BANS_NOT_ENFORCED, OFFENDERS_BANNED].into_iter().filter_map(finding) {
                document.provide(&name);
            }
        }
        Self { settings, revision: String::new() }
    }

    fn reference() -> Vec<SectionDoc> {
        vec![SectionDoc::of::<Settings>("guard", false)]
    }

    fn unread(&self) -> Vec<String> {
        let Some(settings) = &self.settings else { return Vec::new() };
        let lists = settings.lists.iter().filter_map(|list| {
            // Whether the agent may read it is not known here.
            let error = file_error(list).filter(|error| error.kind() != io::ErrorKind::PermissionDenied)?;
            Some(format!("the list {list}: {}", words(&error)))
        });
        let jails = settings.fail2ban.as_deref().map(unread_jails).unwrap_or_default();
        let program = settings.on_ban.as_deref().and_then(not_runnable);
        let program = program.map(|why| format!("the program of `on_ban` in [guard], {why}"));
        jails.into_iter().chain(lists).chain(program).collect()
    }

    fn set_revision(&mut self, revision: &str) {
        revision.clone_into(&mut self.revision);
    }

    fn publish(&self, public: &mut Applied) {
        let (Some(settings), Ok(observer)) = (&self.settings, "server.guard".parse()) else { return };
        public.probes.push(event::policy::Probe {
            id: settings.probe.clone(),
            kind: PROBE.into(),
            service: settings.service.clone(),
            every: engine::statement::EVERY,
            observers: [observer].into(),
            agreement: Agreement::default(),
        });
        let titles = [
            (LOGS_UNREAD, "Un journal déclaré n’est pas lu", "A declared log is not read"),
            (BANS_NOT_ENFORCED, "Les bannissements ne sont pas appliqués", "Bans are not enforced"),
            (OFFENDERS_BANNED, "Des attaquants sont bannis", "Offenders are banned"),
        ];
        for (name, fr, en) in titles {
            let Some(finding) = finding(name) else { continue };
            let title = Text { fr: fr.to_owned(), en: en.to_owned() };
            public.findings.push(Detector { finding, title, probes: vec![settings.probe.clone()] });
        }
    }
}
