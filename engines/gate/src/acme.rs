//! Certificates from an authority (ACME, RFC 8555): ordered when a site has none, renewed when two thirds of its life are over.
//!
//! One file holds the chain and the key of a site, so that no crash leaves one without the other. An order that fails costs nothing
//! but another attempt, later each time; the certificate that is there goes on meanwhile.
//!
//! **Who answers a challenge.** Of `http-01`, any gate that has the account: the answer is the token and the fingerprint of the account's
//! key, which is no secret, so nothing is kept of an order that another gate has begun. Gates in several regions share the key of their
//! account, and whichever is asked answers. Of `tls-alpn-01`, the gate that has ordered.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use engine::Context;
use engine::net::Certificate;
use event::{Monotonic, Span, Time};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

use crate::plan::{Plan, Site};
use crate::settings;
use crate::worker::{News, Shared};

mod account;
pub(crate) mod challenges;
mod order;

use account::Account;
use order::Fault;

/// Longest time of one order.
const ORDER_WITHIN: Duration = Duration::from_mins(3);
/// Shortest and longest time between two looks at what is due.
const LOOK_MIN: Duration = Duration::from_secs(1);
const LOOK_MAX: Duration = Duration::from_mins(1);
/// Wait after the first order that failed: where the authority did not answer, and where it refused. Twice as long each time.
const UNREACHED_AGAIN: Span = Span::from_secs(5);
const REFUSED_AGAIN: Span = Span::from_secs(60);
/// Longest wait after an order that failed.
const AGAIN_MAX: Span = Span::from_secs(6 * 3600);

/// The folder of certificates in the state of the gate.
pub(crate) fn folder(state: &Path) -> PathBuf {
    state.join("acme")
}

/// The file of the certificate of a site and its key. A domain has neither slashes nor dots in a row.
pub(crate) fn file(folder: &Path, domain: &str) -> PathBuf {
    folder.join(format!("{domain}.pem"))
}

/// What decides whether a certificate is to be renewed.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Held {
    not_before: Time,
    not_after: Time,
    names: BTreeSet<String>,
}

impl Held {
    /// The certificate in a file; `None` where there is none that can be read.
    fn read(path: &Path) -> Option<Self> {
        let first = CertificateDer::pem_file_iter(path).ok()?.next()?.ok()?;
        let Certificate { not_before, not_after, names, .. } = Certificate::of_der(&first)?;
        Some(Self { not_before, not_after, names: names.into_iter().collect() })
    }

    /// When it is to be renewed: after two thirds of its life, or earlier by up to a twenty-fourth, so that the certificates of a
    /// thousand sites that were ordered together are not renewed together.
    fn renewed_at(&self, domain: &str) -> Time {
        let life = self.not_after.since(self.not_before).micros().max(0);
        let digest = Sha256::digest(format!("{domain} {}", self.not_after.micros()));
        let drawn = digest.iter().take(4).fold(0_i64, |number, byte| number << 8 | i64::from(*byte));
        let early = (i128::from(life / 24) * i128::from(drawn)) >> 32;
        let early = i64::try_from(early).unwrap_or(0);
        Time::from_micros(self.not_before.micros() + life / 3 * 2 - early)
    }
}

/// How long to wait for the next attempt, after so many that failed.
fn again_after(fault: &Fault, failures: u32) -> Span {
    let first = match fault {
        Fault::Unreached(_) => UNREACHED_AGAIN,
        Fault::Refused(_) => REFUSED_AGAIN,
    };
    let doubled = first.micros().saturating_mul(1 << failures.min(16));
    Span::from_micros(doubled.min(AGAIN_MAX.micros()))
}

/// The attempts at a certificate that have failed in a row.
struct Failed {
    times: u32,
    again: Monotonic,
}

/// Orders and renews the certificates of the plan in effect, one after the other, for as long as the engine runs.
pub(crate) struct Keeper {
    pub(crate) context: Context,
    pub(crate) shared: Arc<Shared>,
    /// The folder of certificates.
    pub(crate) folder: PathBuf,
}

impl Keeper {
    pub(crate) async fn keep(self) {
        let mut plans = self.shared.plan.subscribe();
        let mut failed: BTreeMap<String, Failed> = BTreeMap::new();
        loop {
            let plan = Arc::clone(&plans.borrow_and_update());
            let next = self.look(&plan, &mut failed).await;
            tokio::select! {
                changed = plans.changed() => match changed {
                    // Whoever has mended something wants to see at once whether it helps.
                    Ok(()) => failed.clear(),
                    Err(_) => return,
                },
                () = tokio::time::sleep(next.clamp(LOOK_MIN, LOOK_MAX)) => {}
            }
        }
    }

    /// Orders what is due. How long until something else is.
    async fn look(&self, plan: &Plan, failed: &mut BTreeMap<String, Failed>) -> Duration {
        let Some(acme) = &plan.acme else {
            self.shared.challenges.set_account(None);
            return LOOK_MAX;
        };
        let account = match Account::open(&self.context.secrets, acme.account.as_ref(), &self.folder).await {
            Ok(account) => account,
            Err(why) => {
                self.tell("", Some(format!("the account at the authority of certificates can't be used: {why}")));
                return LOOK_MAX;
            }
        };
        self.shared.challenges.set_account(Some(account.thumbprint()));
        self.tell("", None);
        let mut next = LOOK_MAX;
        for site in plan.sites.iter().filter(|site| site.settings.acme) {
            let domain = &site.settings.domain;
            let path = file(&self.folder, domain);
            let held = {
                let path = path.clone();
                tokio::task::spawn_blocking(move || Held::read(&path)).await
            };
            let held = held.ok().flatten().filter(|held| held.names == names(site));
            let now = self.context.clock.now();
            if let Some(renewed_at) = held.map(|held| held.renewed_at(domain)).filter(|at| *at > now) {
                next = next.min(renewed_at.since(now).to_std());
                continue;
            }
            let monotonic = self.context.clock.monotonic();
            if let Some(wait) =
                failed.get(domain).map(|failed| failed.again.since(monotonic)).filter(|wait| wait.micros() > 0)
            {
                next = next.min(wait.to_std());
                continue;
            }
            match self.order(&account, acme, site, &path).await {
                Ok(()) => {
                    failed.remove(domain);
                    self.tell(domain, None);
                    next = LOOK_MIN;
                }
                Err(fault) => {
                    let times = failed.get(domain).map_or(0, |failed| failed.times);
                    let wait = again_after(&fault, times);
                    let again = Monotonic(monotonic.0.saturating_add(wait.micros()));
                    failed.insert(domain.clone(), Failed { times: times + 1, again });
                    self.tell(domain, Some(format!("the certificate of {domain} was not obtained: {fault}")));
                    next = next.min(wait.to_std());
                }
            }
        }
        next
    }

    async fn order(&self, account: &Account, acme: &settings::Acme, site: &Site, path: &Path) -> Result<(), Fault> {
        let names: Vec<String> = names(site).into_iter().collect();
        let ordering = order::order(&self.context, account, acme, &names, &self.shared.challenges);
        let ordered = timeout(ORDER_WITHIN, ordering).await;
        self.shared.challenges.forget(&names);
        let late = || Fault::Unreached("the authority had not answered after three minutes".to_owned());
        let text = ordered.unwrap_or_else(|_| Err(late()))?;
        let path = path.to_owned();
        let written = tokio::task::spawn_blocking(move || store::write_whole(&path, text.as_bytes(), 0o600)).await;
        let written = written.unwrap_or_else(|error| Err(io::Error::other(error)));
        // Not again at once: the authority counts the certificates that it gives.
        written.map_err(|error| Fault::Refused(format!("it can't be written to the state of the gate: {error}")))
    }

    fn tell(&self, domain: &str, fault: Option<String>) {
        self.shared.tell(News::Certificate { site: domain.to_owned(), fault, at: self.context.clock.now() });
    }
}

/// The names of a certificate.
fn names(site: &Site) -> BTreeSet<String> {
    site.settings.redirect_from.iter().chain([&site.settings.domain]).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_after_two_thirds_and_not_with_all_others() {
        let day = 86_400 * 1_000_000;
        let held =
            Held { not_before: Time::from_micros(0), not_after: Time::from_micros(90 * day), names: BTreeSet::new() };
        let all: BTreeSet<i64> = (0..100).map(|site| held.renewed_at(&format!("{site}.example")).micros()).collect();
        let (first, last) = (all.first().expect("some"), all.last().expect("some"));
        assert!(*first >= 56 * day && *last <= 60 * day, "{first} {last}");
        assert!(all.len() == 100 && last - first > 2 * day, "spread");
    }

    #[test]
    fn attempts_come_later_each_time() {
        let refused = Fault::Refused(String::new());
        let waits: Vec<i64> = (0..12).map(|times| again_after(&refused, times).micros() / 1_000_000).collect();
        assert_eq!(waits, [60, 120, 240, 480, 960, 1920, 3840, 7680, 15_360, 21_600, 21_600, 21_600]);
        assert_eq!(again_after(&Fault::Unreached(String::new()), 0), Span::from_secs(5));
        assert_eq!(again_after(&refused, u32::MAX), AGAIN_MAX);
    }
}
