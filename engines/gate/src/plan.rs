//! The desired state made ready: sites by their names, groups of upstreams with their health, files read.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;
use sha2::{Digest as _, Sha256};

use crate::codec::target::loosest;
use crate::count::Count;
use crate::file;
use crate::group::{Group, Upstream};
use crate::hardening::{Added, Hardening};
use crate::health::Rules;
use crate::message::Fields;
use crate::served::Served;
use crate::settings::{self, Desired};

/// Largest document that is shown when no upstream works.
pub(crate) const DOCUMENT_BYTES_MAX: u64 = 256 * 1024;

/// What the gate does until another desired state comes.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) sites: Vec<Arc<Site>>,
    by_name: HashMap<String, Named>,
    pub(crate) gate: Option<settings::Gate>,
    pub(crate) acme: Option<settings::Acme>,
}

/// What a name leads to.
#[derive(Clone)]
pub(crate) enum Named {
    Site(Arc<Site>),
    /// To this domain.
    Redirect(Arc<Site>),
}

/// A site.
pub(crate) struct Site {
    pub(crate) settings: settings::Site,
    /// Where all goes that no route takes.
    group: Arc<Group>,
    /// The longest path first.
    routes: Vec<(String, Arc<Group>)>,
    pub(crate) document: Option<Vec<u8>>,
    /// Requests under way.
    in_flight: AtomicU32,
    pub(crate) counts: SiteCounts,
    pub(crate) hardening: Hardening,
    /// Shared with the site of before: what was under way at a reload ends there.
    pub(crate) served: Arc<Served>,
    closing: Mutex<Option<Closing>>,
    ranges: Vec<Range>,
}

/// Who may ask for the paths below one.
struct Range {
    settings: settings::Range,
    /// The loosest reading of its path.
    loosest: String,
}

impl Range {
    fn of(settings: &settings::Range) -> Self {
        // The policy has no path that is refused.
        let loosest = loosest(&settings.path).unwrap_or_default();
        Self { settings: settings.clone(), loosest }
    }
}

/// What is counted of a site.
#[derive(Default, Debug)]
pub(crate) struct SiteCounts {
    pub(crate) requests: Count,
    /// Answered 5xx, by an upstream or the gate, or cut off by an upstream.
    pub(crate) failed: Count,
}

/// A site that lets nobody in.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, Debug)]
pub(crate) struct Closing {
    /// But for these.
    pub(crate) except: Vec<IpNet>,
    /// Since when.
    pub(crate) since: event::Time,
}

/// A request under way at a site, counted until it is dropped.
pub(crate) struct Admission(Arc<Site>);

impl Drop for Admission {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Site {
    /// The group that a path goes to, which has no parameters.
    pub(crate) fn group(&self, path: &str) -> &Arc<Group> {
        self.routes.iter().find(|(prefix, _)| is_below(path, prefix)).map_or(&self.group, |(_, group)| group)
    }

    /// All groups, the one of the whole site first.
    pub(crate) fn groups(&self) -> impl Iterator<Item = (&str, &Arc<Group>)> {
        let routes = self.routes.iter().map(|(path, group)| (path.as_str(), group));
        [("/", &self.group)].into_iter().chain(routes)
    }

    /// Where a path has moved, which has no parameters.
    pub(crate) fn redirect(&self, path: &str) -> Option<&settings::Redirect> {
        self.settings.redirects.iter().find(|redirect| redirect.from == path)
    }

    /// Counts a request; `None` where the site has as many as it may.
    pub(crate) fn admit(self: &Arc<Self>) -> Option<Admission> {
        let most = self.settings.requests_max;
        let admitted = self
            .in_flight
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < most).then_some(count + 1));
        admitted.ok().map(|_| Admission(Arc::clone(self)))
    }

    /// Closes or opens it for visitors.
    pub(crate) fn close(&self, closing: Option<Closing>) {
        *self.closing.lock().unwrap_or_else(PoisonError::into_inner) = closing;
    }

    pub(crate) fn closing(&self) -> Option<Closing> {
        self.closing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What a reply of the gate itself says as any reply of the site.
    pub(crate) fn own_fields(&self, is_tls: bool) -> Added {
        self.hardening.missing(&Fields::default(), is_tls)
    }

    /// Whether a visitor may ask for a path, by the ranges that count for it however the server behind reads it.
    ///
    /// The longest range that fits the path counts. A server that reads more into the path may find itself below a longer one, up to
    /// the one of the loosest reading: all of these have to let the visitor in.
    pub(crate) fn allows(&self, visitor: IpAddr, path: &str) -> bool {
        if self.ranges.is_empty() {
            return true;
        }
        // A canonical path has such a reading.
        let Ok(loosest) = loosest(path) else { return false };
        let visitor = visitor.to_canonical();
        let has = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&visitor));
        let lets_in = |range: &settings::Range| !has(&range.deny) && (range.allow.is_empty() || has(&range.allow));
        let exact = self.ranges.iter().filter(|range| is_below(path, &range.settings.path));
        let least = exact.max_by_key(|range| range.settings.path.len()).map_or(0, |range| range.loosest.len());
        let mut of_readings = self.ranges.iter().filter(|range| is_below(&loosest, &range.loosest));
        of_readings.all(|range| range.loosest.len() < least || lets_in(&range.settings))
    }

    /// Whether a visitor is let in.
    pub(crate) fn lets_in(&self, visitor: IpAddr) -> bool {
        let closing = self.closing.lock().unwrap_or_else(PoisonError::into_inner);
        let is_excepted = |closing: &Closing| {
            let visitor = visitor.to_canonical();
            closing.except.iter().any(|range| range.contains(&visitor))
        };
        // A command narrows what the policy says, and widens nothing.
        !self.settings.closed && closing.as_ref().is_none_or(is_excepted)
    }
}

impl Plan {
    /// The plan for this desired state. Upstreams that `before` had too keep their health, and sites are as closed as they were. What
    /// can't be read is said in `problems`.
    pub(crate) fn of(desired: &Desired, before: &Self, problems: &mut Vec<String>) -> Self {
        let mut plan = Self { gate: Some(desired.gate.clone()), acme: desired.acme.clone(), ..Self::default() };
        for settings in &desired.sites {
            let old = before.site(&settings.domain);
            let document = settings.down_file.as_ref().and_then(|path| match file::read(path, DOCUMENT_BYTES_MAX) {
                Ok(document) => Some(document),
                Err(error) => {
                    problems.push(format!(
                        "the file that {} shows when it is down, {}, can't be read: {error}",
                        settings.domain,
                        path.display()
                    ));
                    old.and_then(|old| old.document.clone())
                }
            });
            let rules = Rules {
                up_after: settings.up_after,
                down_after: settings.down_after,
                eject_after: settings.eject_after,
                eject_for: settings.eject_for,
            };
            let known = || old.into_iter().flat_map(|old| old.groups()).flat_map(|(_, group)| &group.upstreams);
            let group = |upstreams: &[settings::Upstream]| Arc::new(group(upstreams, rules, known));
            let mut routes: Vec<_> =
                settings.routes.iter().map(|route| (route.path.clone(), group(&route.upstreams))).collect();
            routes.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
            let site = Arc::new(Site {
                settings: settings.clone(),
                group: group(&settings.upstreams),
                routes,
                document,
                in_flight: AtomicU32::new(0),
                counts: SiteCounts::default(),
                served: old.map(|old| Arc::clone(&old.served)).unwrap_or_default(),
                hardening: Hardening::new(settings.security_headers, old.and_then(|old| old.hardening.step())),
                closing: Mutex::new(old.and_then(|old| old.closing())),
                ranges: settings.ranges.iter().map(Range::of).collect(),
            });
            if let Some(old) = old {
                site.counts.requests.follow(&old.counts.requests);
                site.counts.failed.follow(&old.counts.failed);
            }
            for name in &settings.redirect_from {
                plan.by_name.insert(name.clone(), Named::Redirect(Arc::clone(&site)));
            }
            plan.by_name.insert(settings.domain.clone(), Named::Site(Arc::clone(&site)));
            plan.sites.push(site);
        }
        plan
    }

    /// What a host leads to.
    pub(crate) fn named(&self, host: &str) -> Option<&Named> {
        self.by_name.get(host)
    }

    /// Whether a visitor may ask for a path of a site of this name.
    pub(crate) fn lets_in(&self, host: &str, path: &str, visitor: IpAddr) -> bool {
        matches!(self.named(host), Some(Named::Site(site)) if site.lets_in(visitor) && site.allows(visitor, path))
    }

    /// The sites that are closed by a command.
    pub(crate) fn closed(&self) -> BTreeMap<String, Closing> {
        self.sites.iter().filter_map(|site| Some((site.settings.domain.clone(), site.closing()?))).collect()
    }

    /// All upstreams, each as often as it is in a group.
    pub(crate) fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.sites.iter().flat_map(|site| site.groups()).flat_map(|(_, group)| &group.upstreams)
    }

    /// Gives these upstreams no new requests, and all the others some.
    pub(crate) fn drain(&self, drained: &BTreeMap<SocketAddr, event::Time>) {
        self.upstreams().for_each(|upstream| upstream.drain(drained.contains_key(&upstream.address)));
    }

    /// The site of this domain.
    pub(crate) fn site(&self, domain: &str) -> Option<&Arc<Site>> {
        match self.named(domain) {
            Some(Named::Site(site)) => Some(site),
            _ => None,
        }
    }
}

/// Whether a path is the one of `prefix` or below it, in whole segments.
fn is_below(path: &str, prefix: &str) -> bool {
    let rest = path.strip_prefix(prefix);
    rest.is_some_and(|rest| prefix.ends_with('/') || rest.is_empty() || rest.starts_with('/'))
}

fn group<'k, K: Iterator<Item = &'k Arc<Upstream>>>(
    upstreams: &[settings::Upstream],
    rules: Rules,
    known: impl Fn() -> K,
) -> Group {
    let mut ranks: BTreeMap<Option<&str>, u32> = BTreeMap::new();
    let upstreams = upstreams.iter().map(|upstream| {
        let next = u32::try_from(ranks.len()).unwrap_or(u32::MAX);
        let rank = *ranks.entry(upstream.region.as_deref()).or_insert(next);
        let new = Upstream::new(upstream, rank, mark(upstream.address));
        match known().find(|known| known.address == upstream.address) {
            Some(known) => Arc::new(new.with_health_of(known)),
            None => Arc::new(new),
        }
    });
    Group::new(upstreams.collect(), rules)
}

/// What the cookie of affinity says of an upstream: the same in every gate, and not its address.
fn mark(address: SocketAddr) -> String {
    let digest = Sha256::digest(format!("garant gate affinity {address}"));
    let number = digest.iter().take(6).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    format!("{number:012x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    /// A site with these ranges: path, whom it lets in.
    fn site(ranges: &[(&str, &str)]) -> Arc<Site> {
        let mut desired = Config::of_one_site();
        let of = |(path, network): &(&str, &str)| settings::Range {
            path: (*path).to_owned(),
            allow: vec![network.parse().expect("a network")],
            deny: Vec::new(),
        };
        desired.sites[0].ranges = ranges.iter().map(of).collect();
        let plan = Plan::of(&desired, &Plan::default(), &mut Vec::new());
        Arc::clone(&plan.sites[0])
    }

    const OFFICE: &str = "203.0.113.0/24";
    const ALL: &str = "0.0.0.0/0";

    /// By the longest range that fits, whatever the server behind makes of the path: what fits in some reading alone keeps out, and
    /// never lets in.
    #[test]
    fn a_range_holds_for_every_reading_of_a_path() {
        let stranger: IpAddr = "192.0.2.1".parse().expect("an address");
        let closed = site(&[("/wp-admin", OFFICE), ("/a/b", OFFICE)]);
        for path in [
            "/wp-admin",
            "/wp-admin/x",
            "/wp-admin;x",
            "/wp-admin;x/y",
            "/a;x/b",
            "/a;x/b;y/c",
            "/a%3Bx/b",
            "/A/b",
            "/WP-ADMIN/",
            "/wp-admin./x",
            "/wp-admin%20",
            "/%2577p-admin",
            "/a%252Fb",
            "/a%255Cb/c",
            "/wp-admin%3F",
            "/wp-admin%2523/x",
        ] {
            assert!(!closed.allows(stranger, path), "{path}");
            assert!(closed.allows("203.0.113.9".parse().expect("an address"), path), "{path}");
        }
        for path in ["/", "/wp-administrator", "/x/wp-admin", "/a", "/a/bc", "/x;/wp-admin"] {
            assert!(closed.allows(stranger, path), "{path}");
        }
        let open = site(&[("/", OFFICE), ("/pub", ALL), ("/pub/draft", OFFICE)]);
        for path in ["/pub", "/pub/x", "/pub/Style.css", "/pub/page;jsessionid=AB", "/pub/x%252Fy", "/pub/Inc."] {
            assert!(open.allows(stranger, path), "{path}");
        }
        for path in ["/", "/x", "/pub;x/y", "/PUB/x", "/pub./x", "/pub%20", "/pub%3Bx", "/pub/draft", "/pub/DRAFT/x"] {
            assert!(!open.allows(stranger, path), "{path}");
        }
        let deep = site(&[("/y/x", OFFICE), ("/y/x/a", ALL)]);
        assert!(!deep.allows(stranger, "/y;p/x/a%252Fb"), "a servlet container reads `/y/x/a%252Fb`");
    }

    /// A command narrows what the policy says.
    #[test]
    fn a_command_opens_nothing_that_the_policy_closes() {
        let (office, stranger) = ("203.0.113.9".parse().expect("one"), "192.0.2.1".parse().expect("one"));
        let mut desired = Config::of_one_site();
        let closing = || Closing { except: vec![OFFICE.parse().expect("one")], since: event::Time::from_secs(1) };
        let lets_in = |plan: &Plan| (plan.sites[0].lets_in(office), plan.sites[0].lets_in(stranger));
        let open = Plan::of(&desired, &Plan::default(), &mut Vec::new());
        assert_eq!(lets_in(&open), (true, true));
        open.sites[0].close(Some(closing()));
        assert_eq!(lets_in(&open), (true, false));
        desired.sites[0].closed = true;
        let closed = Plan::of(&desired, &open, &mut Vec::new());
        assert_eq!(lets_in(&closed), (false, false), "whoever the command excepts is not let in");
        closed.sites[0].close(None);
        assert_eq!(lets_in(&closed), (false, false));
        closed.sites[0].close(Some(closing()));
        assert_eq!(lets_in(&closed), (false, false));
    }
}
