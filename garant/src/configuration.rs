//! The whole policy: what every crate reads of it, put together, and its public projection.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use event::policy::{self as public, Applied};
use policy::{Document, Journal, Located, Mistakes, Section, SectionDoc, Shared, Sources, Table};
use promise::PromiseSection;

/// Keys that are read at the start only, with what they say.
pub(crate) type Fixed = BTreeMap<String, String>;

/// A sound policy.
#[derive(Debug)]
pub(crate) struct Configuration {
    /// What belongs to no engine.
    pub(crate) shared: Shared,
    /// How the network is used.
    pub(crate) network: Network,
    /// Probes, under the revision of the policy.
    pub(crate) watch: Arc<watch::Config>,
    /// What everybody may see of it, as it is journaled.
    pub(crate) applied: Arc<Applied>,
    /// The files, for the team's record of changes.
    sources: Sources,
}

impl Configuration {
    /// Reads `path` and `conf.d/*.toml` beside it. All mistakes or a policy, nothing between.
    pub(crate) fn load(path: &Path) -> Result<Self, Mistakes> {
        let mut document = Document::load(path)?;
        let shared = Shared::read(&mut document);
        let observers = shared.as_ref().map(|shared| shared.observers.as_slice()).unwrap_or_default();
        let watch = watch::Config::read(&mut document, observers);
        for detector in watch.detectors() {
            document.provide(&detector.finding);
        }
        let promises: Vec<PromiseSection> = document.tables("promise");
        let network = document.table::<Network>("network").unwrap_or_default();
        if let Some(shared) = &shared {
            outlive(&mut document, &shared.journal, &promises);
        }
        let (shared, sources) = document.finish_with(shared)?;
        let promises = promises.into_iter().map(|section| section.promise).collect();
        let applied = Arc::new(project(&shared, &watch, promises));
        let watch = Arc::new(watch.of_revision(applied.revision.clone()));
        Ok(Self { shared, network, watch, applied, sources })
    }

    /// What can't change while garant runs: the key, and what it says.
    pub(crate) fn fixed(&self) -> Fixed {
        let Shared { journal, pages, .. } = &self.shared;
        let address = |address: Option<SocketAddr>| address.map(|address| address.to_string()).unwrap_or_default();
        let network = &self.network;
        let servers: Vec<String> = network.name_servers.iter().map(ToString::to_string).collect();
        let authorities = network.authorities.as_deref().unwrap_or(Path::new("")).display();
        [
            ("name in [journal]", journal.name.to_string()),
            ("listen in [pages]", pages.listen.to_string()),
            ("public in [pages]", address(pages.public)),
            ("name_servers in [network]", servers.join(", ")),
            ("authorities in [network]", authorities.to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
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

    /// What the policy declares and this release does nothing with: read and checked, so that it is ready when it is used.
    /// Whoever wrote it should not believe that somebody is alerted.
    pub(crate) fn unused(&self) -> Vec<&'static str> {
        let Shared { regions, hosts, services, people, observers, .. } = &self.shared;
        let declared = [
            ("[[person]]", !people.is_empty()),
            ("[[host]]", !hosts.is_empty()),
            ("[[region]]", !regions.is_empty()),
            ("`region` of [[observer]]", observers.iter().any(|observer| observer.region.is_some())),
            ("`depends_on` of [[service]]", services.iter().any(|service| !service.depends_on.is_empty())),
            ("`host` of [[service]]", services.iter().any(|service| !service.hosts.is_empty())),
            ("`region` of [[service]]", services.iter().any(|service| service.region.is_some())),
            ("`host` of a probe", self.watch.probes.iter().any(|probe| probe.host.is_some())),
        ];
        declared.into_iter().filter(|(_, is)| *is).map(|(what, _)| what).collect()
    }
}

/// What everybody may see: names that the team chose for the public, and no address, host or person.
fn project(shared: &Shared, watch: &watch::Config, promises: Vec<public::Promise>) -> Applied {
    let mut applied = Applied {
        revision: String::new(),
        services: shared
            .services
            .iter()
            .map(|service| public::Service { id: service.id.clone(), title: service.title.clone() })
            .collect(),
        probes: watch.public_probes(),
        findings: watch.detectors(),
        maintenance: shared
            .maintenance
            .iter()
            .map(|window| public::Maintenance {
                services: window.services.clone(),
                interval: window.interval,
                text: window.text.clone(),
            })
            .collect(),
        promises,
    };
    applied.revision = promise::revision::of_policy(&applied);
    applied
}

/// `docs/policy.md`.
pub(crate) fn reference() -> String {
    let mut sections: Vec<SectionDoc> = Shared::reference();
    sections.extend(watch::Config::reference());
    sections.push(SectionDoc::of::<PromiseSection>("promise", true));
    sections.push(SectionDoc::of::<Network>("network", false));
    policy::reference(&sections)
}

/// `[network]`: what garant asks names of, and which certificates it trusts.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Network {
    name_servers: Vec<SocketAddr>,
    authorities: Option<PathBuf>,
}

impl Network {
    /// What the network is made with.
    pub(crate) fn options(&self) -> engine::net::Options {
        engine::net::Options { name_servers: self.name_servers.clone(), extra_roots: self.authorities.clone() }
    }
}

impl Section for Network {
    const ABOUT: &'static str = "\
How garant itself uses the network: probes, witnesses. Read at the start; a change needs a restart.";

    const EXAMPLE: &'static str = r#"
[network]
name_servers = ["192.0.2.53:53"]
authorities = "/etc/garant/internal-ca.pem"
"#;

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let name_servers = table.list("name_servers", "name servers to ask, instead of those of the machine");
        let authorities = table.optional(
            "authorities",
            "a file of certificates, in PEM, of authorities to trust beside those of the machine",
        );
        Some(Self { name_servers, authorities })
    }
}

/// Evidence must be kept for longer than the longest window that is judged from it.
fn outlive(document: &mut Document, journal: &Journal, promises: &[PromiseSection]) {
    let longest = promises.iter().flat_map(|section| &section.promise.objectives).filter_map(public::Clause::read);
    let longest = longest.map(|objective| objective.over()).max();
    let place = document.place_of("promise");
    if let Some(value) = longest {
        journal.check_retention(document, Located { value, place });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(text: &str) -> Configuration {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("garant.toml");
        std::fs::write(&path, text).expect("written");
        Configuration::load(&path).unwrap_or_else(|mistakes| panic!("{}", mistakes.render(false)))
    }

    fn with(more: &str) -> Configuration {
        policy(&format!("[journal]\nname = \"shop.example\"\n{more}"))
    }

    fn unused(more: &str) -> Vec<&'static str> {
        with(more).unused()
    }

    #[test]
    fn what_has_no_effect_yet_is_named() {
        assert!(unused("[[service]]\nname = \"shop\"\n[[observer]]\nname = \"here\"\n").is_empty());
        let all = "[[region]]\nname = \"north\"\nprovider = \"ovh\"\n[[host]]\nname = \"web-1\"\n\
            [[observer]]\nname = \"here\"\nregion = \"north\"\n\
            [[person]]\nname = \"Léa\"\nchannel = { mail = \"lea@shop.example\" }\n\
            [[service]]\nname = \"shop\"\ndepends_on = \"database\"\n\
            [[service]]\nname = \"database\"\nhost = \"web-1\"\nregion = \"north\"\n\
            [[probe.tcp]]\nname = \"database\"\nservice = \"database\"\naddress = \"192.0.2.1:5432\"\nhost = \"web-1\"\n";
        assert_eq!(
            unused(all),
            [
                "[[person]]",
                "[[host]]",
                "[[region]]",
                "`region` of [[observer]]",
                "`depends_on` of [[service]]",
                "`host` of [[service]]",
                "`region` of [[service]]",
                "`host` of a probe"
            ]
        );
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
        ] {
            let changed = with(change);
            assert_eq!(changed.needs_a_restart(&running).as_deref(), expected, "{change}");
        }
        let renamed = policy("[journal]\nname = \"other.example\"\n");
        assert_eq!(renamed.needs_a_restart(&running).as_deref(), Some("name in [journal]"));
    }
}
