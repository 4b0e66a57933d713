//! The policy as garant reads it: nouns, parts and public form.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::Failure;
use engine::net::IpNet;
use event::policy::Applied;
use event::{Interval, Ppb, Span, Time};
use policy::{Basics, Document, Located, Mistakes, Nouns, Part, Section, SectionDoc, Sources, Table};
use promise::Subject;
use promise::objective::{Answered, Availability, Freshness, Limit, Objective, Reaction, Restore};

use crate::registry::{PartChannel, PolicyPart, Registry, typed};

/// Keys of the policy that are read at the start only, with their values.
pub(crate) type Fixed = BTreeMap<String, String>;

/// A policy without mistakes: what `garant up` runs by.
#[derive(Debug)]
pub(crate) struct Configuration {
    /// The tables that every policy has, whatever engines there are.
    pub(crate) basics: Basics,
    /// The declared services, hosts, people and other nouns.
    nouns: Nouns,
    /// The parts, in the order of [`crate::parts`].
    parts: Vec<Arc<dyn Part>>,
    /// The public form of the policy, as it is journaled.
    pub(crate) applied: Arc<Applied>,
    /// The files, for the team's record of changes.
    sources: Sources,
}

impl Configuration {
    /// Reads `path` and `conf.d/*.toml` beside it. All mistakes or a policy, nothing between.
    pub(crate) fn load(path: &Path, registry: &Registry) -> Result<Self, Mistakes> {
        Self::load_as(path, None, registry)
    }

    /// The same, as if `path` held this text: before it is written.
    pub(crate) fn load_as(path: &Path, text: Option<&str>, registry: &Registry) -> Result<Self, Mistakes> {
        let mut document = Document::load_as(path, text)?;
        let basics = Basics::read(&mut document);
        let nouns = Nouns::read(&mut document);
        let mut parts: Vec<_> = registry.parts.iter().map(|part| (part.read)(&mut document, &nouns)).collect();
        let longest = parts.iter().filter_map(|part| part.looks_back()).max();
        if let (Some(basics), Some(value)) = (&basics, longest) {
            let place = document.place_of("promise");
            basics.journal.check_retention(&mut document, Located { value, place });
        }
        let mut applied = Applied {
            revision: String::new(),
            services: Vec::new(),
            probes: Vec::new(),
            findings: Vec::new(),
            maintenance: Vec::new(),
            promises: Vec::new(),
        };
        nouns.publish(&mut applied);
        for part in &parts {
            part.publish(&mut applied);
        }
        document.check(&applied);
        let (basics, sources) = document.finish_with(basics)?;
        applied.revision = promise::revision::of_policy(&applied);
        for part in &mut parts {
            part.set_revision(&applied.revision);
        }
        let parts = parts.into_iter().map(Arc::from).collect();
        Ok(Self { basics, nouns, parts, applied: Arc::new(applied), sources })
    }

    /// The part of this type; `None` when the list has none.
    pub(crate) fn part<P: Part>(&self) -> Option<Arc<P>> {
        self.parts.iter().find_map(typed)
    }

    /// A channel for each part, filled with it.
    pub(crate) fn channels(&self, parts: &[PolicyPart]) -> Result<Vec<Box<dyn PartChannel>>, Failure> {
        parts.iter().zip(&self.parts).map(|(entry, part)| entry.channel(part)).collect()
    }

    /// Fills the channels that [`Self::channels`] made of the policy before.
    pub(crate) fn fill(&self, channels: &[Box<dyn PartChannel>]) {
        channels.iter().zip(&self.parts).for_each(|(channel, part)| channel.replace(part));
    }

    /// The keys that can't change while garant runs, with their values.
    pub(crate) fn fixed(&self) -> Fixed {
        let of_parts = self.parts.iter().flat_map(|part| part.fixed());
        self.basics.fixed().into_iter().chain(of_parts).map(|(key, value)| (key.to_owned(), value)).collect()
    }

    /// The first key that differs from those of the running garant and can't change while it runs.
    pub(crate) fn needs_a_restart(&self, running: &Fixed) -> Option<String> {
        let now = self.fixed();
        now.into_iter().find(|(key, value)| running.get(key) != Some(value)).map(|(key, _)| key)
    }

    /// The files, for the team's record of changes.
    pub(crate) const fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Tables that are read and checked but have no effect in this release, so that their author does not believe that
    /// somebody is alerted.
    pub(crate) fn unused(&self) -> Vec<&'static str> {
        let of_parts = self.parts.iter().flat_map(|part| part.unused());
        self.nouns.unused().into_iter().chain(of_parts).collect()
    }

    /// What can't be read on this host of the files that the policy names, beside those of the policy itself.
    pub(crate) fn unread(&self) -> Vec<String> {
        self.parts.iter().flat_map(|part| part.unread()).chain(self.closed_to_the_agent()).collect()
    }

    /// The files of the policy that the agent is to read and may not, as far as this process can tell.
    fn closed_to_the_agent(&self) -> Vec<String> {
        let (Some(guard), Some(hosts)) = (self.part::<guard::Config>(), self.part::<hosts::Config>()) else {
            return Vec::new();
        };
        let closed = guard.files().filter(|file| hosts.agent.may_read(file) == Some(false));
        let words = |file: &Path| {
            let (file, user) = (file.display(), &hosts.agent.user);
            format!(
                "the list {file}: the agent, which runs as {user}, or as root without its capabilities where there is no such user, \
                 may not read it: `chmod o+r` it, and `o+x` its folders"
            )
        };
        closed.map(words).collect()
    }

    /// Warnings: what is correct and may still surprise its author, as of now.
    pub(crate) fn warnings(&self, now: Time) -> Vec<String> {
        let of_parts = self.parts.iter().flat_map(|part| part.warnings());
        let warnings = of_parts.chain(finer_than_seen(&self.applied)).chain(over(&self.applied, now));
        let warnings = warnings.chain(self.sooner_than_expected()).chain(never_proven(&self.applied));
        let warnings = warnings.chain(self.rarer_than_promised()).chain(self.untested_as_root());
        warnings.chain(self.unheard_heartbeats()).chain(self.exposed_files()).collect()
    }

    /// The promises that a heartbeat breaks while it is on time: it may be silent for longer than they promise.
    fn sooner_than_expected(&self) -> BTreeSet<String> {
        let Some(watched) = self.part::<watch::Config>() else { return BTreeSet::new() };
        let mut warnings = BTreeSet::new();
        for promise in &self.applied.promises {
            for objective in promise.objectives.iter().filter_map(Objective::of) {
                let Objective::Freshness(Freshness { probe, at_most, .. }) = objective else { continue };
                let Some(heartbeat) = watched.probes.iter().find(|declared| declared.id == probe) else { continue };
                let every = heartbeat.every;
                if at_most <= every {
                    warnings.insert(format!(
                        "promise `{}`: at most {at_most} between two successes, and heartbeat `{probe}` expects one every {every}, \
                         so a job that is on time breaks the promise: make `at_most` longer, or `every` shorter",
                        promise.id
                    ));
                }
            }
        }
        warnings
    }

    /// The promises that backups break while they are on time: they are made no sooner than the promise allows at most, and each takes
    /// some time.
    fn rarer_than_promised(&self) -> BTreeSet<String> {
        let paces = self.part::<backup::Config>().map(|backups| backups.paces()).unwrap_or_default();
        let mut warnings = BTreeSet::new();
        for promise in &self.applied.promises {
            for objective in promise.objectives.iter().filter_map(Objective::of) {
                let (probe, at_most, limit) = match objective {
                    Objective::Freshness(Freshness { probe, at_most, .. }) => (probe, at_most, None),
                    Objective::Restore(Restore { probe, at_most, limit, .. }) => (probe, at_most, Some(limit)),
                    _ => continue,
                };
                let Some(pace) = paces.iter().find(|pace| pace.probe == probe) else { continue };
                let (limit, (every, key), is_of_age) = match limit {
                    None => ("at_most", (pace.every, pace.key), false),
                    Some(Limit::Every) => ("every", (pace.every, pace.key), false),
                    Some(Limit::LosesAtMost) => ("loses_at_most", pace.loses.unwrap_or_default(), true),
                    // How long a restore takes is not known before it was made.
                    Some(Limit::Within) => continue,
                };
                if at_most > every {
                    continue;
                }
                let shorter = key.map(|key| format!(", or `{key}` of the backup shorter")).unwrap_or_default();
                let why = if is_of_age {
                    let backup = &pace.backup;
                    format!(
                        "the newest instant that can be restored of `{backup}` gets {every} old, and older by the time that a backup takes"
                    )
                } else {
                    format!("`{probe}` succeeds each {every} at best, and later by the time that it takes")
                };
                warnings.insert(format!(
                    "promise `{}`: `{limit}` is {at_most}, and {why}, so backups that are on time break the promise: make `{limit}` \
                     longer{shorter}",
                    promise.id
                ));
            }
        }
        warnings
    }

    /// Backups of which none can be tested, for their agent has no user of its own: as root without capabilities it can't become the
    /// user of a database, and the programs of databases do not run as root.
    fn untested_as_root(&self) -> Option<String> {
        let (backups, hosts) = (self.part::<backup::Config>()?, self.part::<hosts::Config>()?);
        let (settings, agent) = (backups.settings()?, &hosts.agent);
        let needs_a_user = !settings.mariadb.is_empty()
            || !settings.postgres.is_empty()
            || settings.files.iter().any(|files| !files.checks.is_empty());
        let is_root = agent.socket.is_none() && agent.ids().is_some_and(|(uid, _)| uid == 0);
        let (cause, remedy) = if agent.user == "root" {
            ("[agent] has the agent run as root".to_owned(), "name another `user`".to_owned())
        } else {
            let user = &agent.user;
            let remedy = format!("make it with `adduser --system --group {user}`");
            (format!("there is no user `{user}` on this host, so that the agent runs as root"), remedy)
        };
        (needs_a_user && is_root).then(|| {
            format!(
                "{cause}, without the right to become another user: no database can be restored for a test, and no check of files \
                 run. Before the first test, {remedy}"
            )
        })
    }

    /// Heartbeats that jobs elsewhere may expect the public listener to take.
    fn unheard_heartbeats(&self) -> Option<String> {
        let Basics { publication, pages, .. } = &self.basics;
        let unheard = pages.public.is_some() && !publication.publish && !pages.pings;
        (unheard && self.applied.probes.iter().any(|probe| &*probe.kind == "heartbeat")).then(|| {
            "the public listener takes no heartbeats while `publish` is false: have the jobs ping the team's listener, or write \
             `pings = true` in [pages]"
                .to_owned()
        })
    }

    /// The files of the policy that hold something private, and that everybody on this machine can read.
    pub(crate) fn exposed_files(&self) -> Vec<String> {
        let exposed = self.sources.private_files().into_iter().filter(|name| everybody_reads(Path::new(name)));
        let warning = |name: &str| {
            format!(
                "{name} can be read by every user of this machine, and holds what is nobody else's business (addresses of \
                 heartbeats, header fields, people): close it with `chmod o-r {name}`"
            )
        };
        exposed.map(warning).collect()
    }
}

/// Maintenance that excuses nothing any more unless an earlier policy announced it: it began before this policy.
fn over(applied: &Applied, now: Time) -> impl Iterator<Item = String> {
    let begun = applied.maintenance.iter().filter(move |maintenance| maintenance.interval.start <= now);
    begun.map(move |maintenance| {
        let Interval { start, end } = maintenance.interval;
        let services: Vec<_> = maintenance.services.iter().map(|service| format!("`{service}`")).collect();
        let (services, tense) = (services.join(", "), if end <= now { "is over" } else { "has begun" });
        format!(
            "the maintenance of {services} from {start} to {end} {tense}: it excuses an outage only if the policy in effect \
             announced it before it began"
        )
    })
}

/// The promises of availability that an outage may break without being seen: it is shorter than the longest time between two
/// looks at a probe of the service.
fn finer_than_seen(applied: &Applied) -> Vec<String> {
    let mut warnings = Vec::new();
    for promise in &applied.promises {
        for objective in promise.objectives.iter().filter_map(Objective::of) {
            let Objective::Availability(Availability { service, at_least, over }) = objective else { continue };
            let of_service = applied.probes.iter().filter(|probe| probe.service == service);
            let Some(slowest) = of_service.max_by_key(|probe| probe.every) else { continue };
            let missing = i128::from(Ppb::ONE.parts() - at_least.parts()) * i128::from(over.micros());
            let budget = Span::from_micros(i64::try_from(missing / i128::from(Ppb::ONE.parts())).unwrap_or(i64::MAX));
            if budget < slowest.every {
                let budget = web::Language::English.span(budget).replace('\u{202f}', " ");
                warnings.push(format!(
                    "promise `{}`: over {over} it may be missed for {budget}, and an outage shorter than {} may pass unseen, for so \
                     seldom is `{}` asked: ask it more often, or judge over a longer window",
                    promise.id, slowest.every, slowest.id
                ));
            }
        }
    }
    warnings
}

/// The promises that stay unproven, because nothing looks at their service.
fn never_proven(applied: &Applied) -> BTreeSet<String> {
    let mut warnings = BTreeSet::new();
    for promise in &applied.promises {
        for objective in promise.objectives.iter().filter_map(Objective::of) {
            let remedy = match objective.subject() {
                Subject::Service(service) if applied.probes.iter().all(|probe| probe.service != service) => {
                    format!("service `{service}` has no probe: add one with service = \"{service}\"")
                }
                Subject::Service(service)
                    if matches!(objective, Objective::Reaction(Reaction { to: Answered::Offences, .. }))
                        && !applied.probes.iter().any(|p| p.service == service && &*p.kind == guard::NAME) =>
                {
                    format!("no probe of service `{service}` sees offences: name the service of [guard]")
                }
                Subject::AllServices if applied.probes.is_empty() => "no service has a probe: add one".to_owned(),
                _ => continue,
            };
            warnings.insert(format!("promise `{}` stays unproven, for {remedy}", promise.id));
        }
    }
    warnings
}

/// Whether every user of the machine can read the file: its own rights say so, and those of each folder above it.
fn everybody_reads(path: &Path) -> bool {
    let allows = |path: &Path, right: u32| std::fs::metadata(path).is_ok_and(|metadata| metadata.mode() & right != 0);
    let Ok(path) = path.canonicalize() else { return false };
    allows(&path, 0o004) && path.ancestors().skip(1).all(|folder| allows(folder, 0o001))
}

/// `docs/policy.md`.
pub(crate) fn reference(registry: &Registry) -> String {
    let parts = registry.parts.iter().flat_map(|part| (part.reference)());
    let sections: Vec<SectionDoc> = Basics::reference().into_iter().chain(Nouns::reference()).chain(parts).collect();
    policy::reference(&sections)
}

/// `[network]`: the name servers and the certificates that garant trusts.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Network {
    name_servers: Vec<SocketAddr>,
    authorities: Option<PathBuf>,
    redirects_may_reach: Vec<IpNet>,
    notifications_may_reach: Vec<IpNet>,
}

impl Network {
    /// The options that the network is made with.
    pub(crate) fn options(&self) -> engine::net::NetOptions {
        engine::net::NetOptions {
            name_servers: self.name_servers.clone(),
            extra_roots: self.authorities.clone(),
            redirects_may_reach: self.redirects_may_reach.clone(),
            notifications_may_reach: self.notifications_may_reach.clone(),
        }
    }
}

impl Part for Network {
    fn read(document: &mut Document, _nouns: &Nouns) -> Self {
        document.table("network").unwrap_or_default()
    }

    fn reference() -> Vec<SectionDoc> {
        vec![SectionDoc::of::<Self>("network", false)]
    }

    fn fixed(&self) -> Vec<(&'static str, String)> {
        let servers: Vec<String> = self.name_servers.iter().map(ToString::to_string).collect();
        let authorities = self.authorities.as_deref().unwrap_or(Path::new("")).display();
        let ranges = |ranges: &[IpNet]| ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        vec![
            ("name_servers in [network]", servers.join(", ")),
            ("authorities in [network]", authorities.to_string()),
            ("redirects_may_reach in [network]", ranges(&self.redirects_may_reach)),
            ("notifications_may_reach in [network]", ranges(&self.notifications_may_reach)),
        ]
    }
}

impl Section for Network {
    const ABOUT: &'static str = "\
How garant itself uses the network: probes, witnesses, notifications. Read at the start; a change needs a restart.";

    const EXAMPLE: &'static str = r#"
[network]
name_servers = ["192.0.2.53:53"]
authorities = "/etc/garant/internal-ca.pem"
redirects_may_reach = ["10.1.0.0/16"]
notifications_may_reach = ["10.2.0.7"]
"#;

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let name_servers = table.list("name_servers", "name servers to ask, instead of those of the machine");
        let authorities = table.optional(
            "authorities",
            "a file of certificates, in PEM, to trust beside those of the machine: of authorities, or self-signed ones of servers",
        );
        let redirects_may_reach = table.list(
            "redirects_may_reach",
            "Addresses inside (private, loopback, link-local and the like) that a redirect from a public address may lead to; others \
             are not followed. What a probe names is asked as it is written, wherever it is",
        );
        let notifications_may_reach = table.list(
            "notifications_may_reach",
            "Addresses inside that webhooks, chats, ntfy and gateways for text messages may be on; notifications go to no others. The \
             mail server of [mail] is asked wherever it is",
        );
        Some(Self { name_servers, authorities, redirects_may_reach, notifications_may_reach })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(text: &str) -> Configuration {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("garant.toml");
        std::fs::write(&path, text).expect("written");
        Configuration::load(&path, &Registry::garant()).unwrap_or_else(|mistakes| panic!("{}", mistakes.render(false)))
    }

    fn with(more: &str) -> Configuration {
        policy(&format!("[journal]\nname = \"shop.example\"\n{more}"))
    }

    fn unused(more: &str) -> Vec<&'static str> {
        with(more).unused()
    }

    /// 99.9 % of ten minutes is 600 ms, which a probe of five minutes can't see; of 30 days it is 43 min 12 s.
    #[test]
    fn a_promise_finer_than_its_probes_is_named() {
        let promise = |over: &str| {
            let declared = "[[service]]\nname = \"shop\"\n[[probe.tcp]]\nname = \"front\"\nservice = \"shop\"\n\
                address = \"192.0.2.1:443\"\nevery = \"5 min\"\n[[promise]]\nid = \"AV-1\"\ntext.fr = \"Oui.\"\ntext.en = \"Yes.\"\n";
            let objective =
                format!("availability = {{ service = \"shop\", at_least = \"99.9 %\", over = \"{over}\" }}\n");
            finer_than_seen(&with(&format!("{declared}{objective}")).applied)
        };
        let [warning] = &promise("10 min")[..] else { panic!("one promise") };
        assert!(warning.contains("`AV-1`") && warning.contains("0.6 s") && warning.contains("`front`"), "{warning}");
        assert!(promise("30 d").is_empty());
    }

    /// A service with a probe over HTTP and a heartbeat, a service without any probe, and a promise.
    fn promising(objective: &str) -> String {
        format!(
            "[journal]\nname = \"shop.example\"\n[[service]]\nname = \"shop\"\n[[service]]\nname = \"empty\"\n\
             [[probe.http]]\nname = \"front\"\nservice = \"shop\"\nurl = \"http://192.0.2.1/\"\n\
             [[probe.heartbeat]]\nname = \"dump\"\nservice = \"shop\"\nuuid = \"9f8a1b3c-5d7e-4f60-8a2b-4c6d8e0f1a3b\"\n\
             every = \"1 h\"\n[[promise]]\nid = \"P-1\"\ntext.fr = \"Oui.\"\ntext.en = \"Yes.\"\n{objective}\n"
        )
    }

    /// WA-2: a promise that no evidence can ever prove is a mistake in its line, and no verdict that is broken for good.
    #[test]
    fn freshness_is_promised_of_what_has_successes() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("garant.toml");
        let load = |more: &str, probe: &str| {
            let objective = format!("freshness = {{ probe = \"{probe}\", at_most = \"2 h\", over = \"1 d\" }}");
            std::fs::write(&path, promising(&objective) + more).expect("written");
            Configuration::load(&path, &Registry::garant()).map(drop).map_err(|mistakes| mistakes.render(false))
        };
        assert_eq!(load("", "dump"), Ok(()));
        let mistakes = load("", "front").expect_err("no heartbeat");
        for part in ["garant.toml:20:", "`front` is a [[probe.http]]", "name a [[probe.heartbeat]]", "service `shop`"] {
            assert!(mistakes.contains(part), "{part} in {mistakes}");
        }
        // Beside other mistakes it is told, too, and of a probe that is not there only that.
        let mistakes = load("[[probe.tcp]]\nname = \"broken\"\n", "front").expect_err("two mistakes");
        assert!(mistakes.contains("`front` is a [[probe.http]]") && mistakes.contains("needs `service`"), "{mistakes}");
        let mistakes = load("[[probe.tcp]]\nname = \"broken\"\n", "broken").expect_err("a mistake");
        assert!(!mistakes.contains("freshness tells"), "{mistakes}");
    }

    /// BK-1, BK-5: a promise that backups break while they are on time is warned of.
    #[test]
    fn backups_that_are_rarer_than_promised_are_named() {
        let warnings = |objective: &str| {
            let text = format!(
                "[journal]\nname = \"shop.example\"\n[[service]]\nname = \"backup\"\n[[region]]\nname = \"near\"\nprovider = \"one\"\n\
                 [backup]\nservice = \"backup\"\nkey = {{ file = \"/etc/garant/backup.key\" }}\nrestore_every = \"12 h\"\n\
                 copy = [{{ name = \"near\", region = \"near\", directory = \"/mnt/backup\" }}]\n\
                 mariadb = [{{ name = \"db\", full_every = \"6 h\", incremental_every = \"1 h\" }}]\n\
                 files = [{{ name = \"www\", paths = [\"/srv\"], every = \"2 h\" }}]\n\
                 [[promise]]\nid = \"BK-1\"\ntext.fr = \"Oui.\"\ntext.en = \"Yes.\"\n{objective}\n"
            );
            policy(&text).rarer_than_promised().into_iter().collect::<Vec<_>>().join("\n")
        };
        let freshness = |backup: &str, kind: &str, at_most: &str| {
            warnings(&format!(
                "freshness = {{ backup = \"{backup}\", kind = \"{kind}\", at_most = \"{at_most}\", over = \"9 d\" }}"
            ))
        };
        for (backup, kind, never, holds) in [
            ("db", "full", "6 h", "7 h"),
            ("db", "incremental", "1 h", "90 min"),
            ("db", "log", "1 min", "2 min"),
            ("db", "restore", "12 h", "13 h"),
            ("www", "full", "2 h", "3 h"),
        ] {
            let warning = freshness(backup, kind, never);
            assert!(warning.contains("`BK-1`") && warning.contains(&format!("`{backup}-{kind}`")), "{kind}: {warning}");
            assert_eq!(freshness(backup, kind, holds), "", "{kind}");
        }
        let restore = |backup: &str, more: &str| {
            warnings(&format!("restore = {{ backup = \"{backup}\", {more}, within = \"1 min\", over = \"9 d\" }}"))
        };
        for (backup, never, named) in [
            ("db", "every = \"12 h\"", "`restore_every` of the backup shorter"),
            ("db", "every = \"13 h\", loses_at_most = \"1 min\"", "can be restored of `db` gets 1 min old"),
            ("www", "every = \"13 h\", loses_at_most = \"2 h\"", "or `every` of the backup shorter"),
        ] {
            let warning = restore(backup, never);
            assert!(warning.contains(named) && warning.lines().count() == 1, "{never}: {warning}");
        }
        assert_eq!(restore("db", "every = \"13 h\", loses_at_most = \"15 min\""), "");
    }

    /// BK-5: that no restore can be tested is said before the first test.
    #[test]
    fn an_agent_that_can_test_no_restore_is_named() {
        let warning = |agent: &str, backup: &str| {
            let text = format!(
                "[journal]\nname = \"shop.example\"\n[[service]]\nname = \"backup\"\n[[region]]\nname = \"near\"\nprovider = \"one\"\n\
                 [agent]\n{agent}\n[backup]\nservice = \"backup\"\nkey = {{ file = \"/etc/garant/backup.key\" }}\n\
                 copy = [{{ name = \"near\", region = \"near\", directory = \"/mnt/backup\" }}]\n{backup}\n"
            );
            policy(&text).untested_as_root().unwrap_or_default()
        };
        let database = "mariadb = [{ name = \"db\" }]";
        let made = "adduser --system --group no-such-user";
        assert!(warning("user = \"no-such-user\"", database).contains(made));
        assert!(warning("user = \"root\"", database).contains("name another `user`"));
        assert_eq!(warning("user = \"nobody\"", database), "");
        assert_eq!(warning("user = \"no-such-user\"\nsocket = \"/run/garant-agent/agent.sock\"", database), "");
        assert_eq!(warning("user = \"no-such-user\"", "files = [{ name = \"www\", paths = [\"/srv\"] }]"), "");
    }

    /// BK-7: files that are not there are named before anybody misses them.
    #[test]
    fn files_that_are_not_there_are_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path(), &link).expect("linked");
        let unread = |path: &Path| {
            let text = format!(
                "[journal]\nname = \"shop.example\"\n[[service]]\nname = \"backup\"\n[[region]]\nname = \"near\"\nprovider = \"one\"\n\
                 [backup]\nservice = \"backup\"\nkey = {{ file = \"/etc/garant/backup.key\" }}\n\
                 copy = [{{ name = \"near\", region = \"near\", directory = \"/mnt/backup\" }}]\n\
                 files = [{{ name = \"www\", paths = [\"{}\"] }}]\n",
                path.display()
            );
            policy(&text).unread().join("\n")
        };
        assert_eq!(unread(folder.path()), "");
        let gone = unread(&folder.path().join("gone"));
        assert!(gone.contains("the files `www`:") && gone.contains("/gone: No such file"), "{gone}");
        assert!(unread(&link).contains("it is a link to"), "{}", unread(&link));
    }

    /// The files of the guard that can't be read on this machine, or not by its agent, are named.
    #[test]
    fn lists_that_are_not_there_or_closed_to_the_agent_are_named() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let list = folder.path().join("drop.txt");
        let text = format!(
            "[journal]\nname = \"shop.example\"\n[[service]]\nname = \"guard\"\n[guard]\nservice = \"guard\"\nlists = [\"{}\"]\n\
             [agent]\nuser = \"nobody\"\n",
            list.display()
        );
        let unread = || policy(&text).unread().join("\n");
        assert!(unread().contains("drop.txt: it is not there"), "{}", unread());
        std::fs::write(&list, "192.0.2.0/24\n").expect("written");
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("set");
        assert_eq!(unread(), "");
        std::fs::set_permissions(&list, std::fs::Permissions::from_mode(0o600)).expect("set");
        assert!(unread().contains("drop.txt: the agent, which runs as nobody"), "{}", unread());
    }

    #[test]
    fn promises_that_nothing_can_keep_are_named() {
        let warnings = |objective: &str| policy(&promising(objective)).warnings(Time::from_secs(0)).join("\n");
        let freshness = |at_most: &str| {
            warnings(&format!("freshness = {{ probe = \"dump\", at_most = \"{at_most}\", over = [\"2 d\", \"9 d\"] }}"))
        };
        for at_most in ["59 min", "1 h"] {
            let warning = freshness(at_most);
            assert!(warning.contains("`dump` expects one every 1 h") && warning.contains("`P-1`"), "{warning}");
            assert_eq!(warning.matches("P-1").count(), 1, "once for all windows: {warning}");
        }
        assert!(!freshness("61 min").contains("P-1"));
        for (objective, about) in [
            ("availability = { service = \"empty\", at_least = \"99 %\", over = \"1 d\" }", "service = \"empty\""),
            ("coverage = { service = \"empty\", at_least = \"99 %\", over = \"1 d\" }", "service `empty` has no probe"),
            ("reaction = { service = \"empty\", within = \"1 min\", over = \"1 d\" }", "service `empty` has no probe"),
            ("coverage = { service = \"shop\", at_least = \"99 %\", over = \"1 d\" }", ""),
            ("reaction = { within = \"1 min\", over = \"1 d\" }", ""),
            (
                "reaction = { service = \"shop\", to = \"offences\", within = \"2 s\", over = \"1 d\" }",
                "no probe of service `shop` sees offences",
            ),
            (
                "reaction = { service = \"empty\", to = \"offences\", within = \"2 s\", over = \"1 d\" }\n\
                 [guard]\nservice = \"empty\"\nscenarios = [\"sshd\"]",
                "",
            ),
        ] {
            let warning = warnings(objective);
            assert!(warning.contains(about), "{objective}: {warning}");
            assert_eq!(warning.contains("stays unproven"), !about.is_empty(), "{objective}: {warning}");
        }
    }

    #[test]
    fn what_has_no_effect_yet_is_named() {
        assert!(unused("[[service]]\nname = \"shop\"\n[[observer]]\nname = \"here\"\n").is_empty());
        let all = "[[region]]\nname = \"north\"\nprovider = \"ovh\"\n[[host]]\nname = \"web-1\"\n\
            [[observer]]\nname = \"here\"\nregion = \"north\"\n\
            [mail]\nserver = \"mail.shop.example:587\"\nfrom = \"garant@shop.example\"\n\
            [[person]]\nname = \"Léa\"\nchannel = { mail = \"lea@shop.example\" }\n\
            [[service]]\nname = \"shop\"\ndepends_on = \"database\"\n\
            [[service]]\nname = \"database\"\nhost = \"web-1\"\nregion = \"north\"\n\
            [[probe.tcp]]\nname = \"database\"\nservice = \"database\"\naddress = \"192.0.2.1:5432\"\nhost = \"web-1\"\n";
        assert_eq!(unused(all), ["`region` of [[observer]]"]);
    }

    /// A folder that is closed hides what is in it, whatever the rights of the file.
    #[test]
    fn a_private_policy_that_everybody_reads_is_named() {
        use std::fs::Permissions;
        use std::os::unix::fs::PermissionsExt as _;
        let (open, closed) = (Permissions::from_mode(0o755), Permissions::from_mode(0o700));
        let heartbeat = "[[service]]\nname = \"shop\"\n[[probe.heartbeat]]\nname = \"job\"\nservice = \"shop\"\n\
            uuid = \"0b1c7a52-6f6c-4e0e-9d57-1c3c1a6f2f10\"\n";
        let plain = "[[service]]\nname = \"shop\"\n";
        for (text, mode, folder_rights, named) in [
            (heartbeat, 0o644, &open, true),
            (heartbeat, 0o640, &open, false),
            (heartbeat, 0o600, &open, false),
            (heartbeat, 0o644, &closed, false),
            (plain, 0o644, &open, false),
        ] {
            let folder = tempfile::tempdir().expect("a folder");
            std::fs::set_permissions(folder.path(), folder_rights.clone()).expect("ours");
            let path = folder.path().join("garant.toml");
            std::fs::write(&path, format!("[journal]\nname = \"shop.example\"\n{text}")).expect("written");
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).expect("ours");
            let policy = Configuration::load(&path, &Registry::garant()).expect("a policy");
            let warnings = policy.warnings(Time::from_secs(0));
            assert_eq!(warnings.iter().any(|warning| warning.contains("chmod o-r")), named, "{mode:o}: {warnings:?}");
        }
    }

    #[test]
    fn heartbeats_that_the_public_listener_does_not_take_are_named() {
        let heartbeat = "[[service]]\nname = \"shop\"\n[[probe.heartbeat]]\nname = \"job\"\nservice = \"shop\"\n\
            uuid = \"0b1c7a52-6f6c-4e0e-9d57-1c3c1a6f2f10\"\n";
        for (pages, named) in [
            ("", false),
            ("[pages]\npublic = \"127.0.0.1:1\"\n", true),
            ("[pages]\npublic = \"127.0.0.1:1\"\npings = true\n", false),
        ] {
            let warnings = with(&format!("{pages}{heartbeat}")).warnings(Time::from_secs(0));
            assert_eq!(warnings.iter().any(|warning| warning.contains("`pings = true`")), named, "{pages}");
        }
    }

    #[test]
    fn what_needs_a_restart_is_named() {
        let running = with("").fixed();
        for (change, expected) in [
            ("", None),
            ("retention = { audit = \"30 d\" }\n[[service]]\nname = \"shop\"\n", None),
            ("[pages]\nurl = \"https://trust.shop.example\"\n", None),
            ("[pages]\nlisten = \"127.0.0.1:1\"\n", Some("listen in [pages]")),
            ("[pages]\npublic = \"127.0.0.1:1\"\n", Some("public in [pages]")),
            ("[network]\nname_servers = \"192.0.2.1:53\"\n", Some("name_servers in [network]")),
            ("[network]\nauthorities = \"/ca.pem\"\n", Some("authorities in [network]")),
            ("[network]\nredirects_may_reach = \"10.0.0.0/8\"\n", Some("redirects_may_reach in [network]")),
            ("[network]\nnotifications_may_reach = \"10.0.0.0/8\"\n", Some("notifications_may_reach in [network]")),
        ] {
            let changed = with(change);
            assert_eq!(changed.needs_a_restart(&running).as_deref(), expected, "{change}");
        }
        let renamed = policy("[journal]\nname = \"other.example\"\n");
        assert_eq!(renamed.needs_a_restart(&running).as_deref(), Some("name in [journal]"));
    }
}
