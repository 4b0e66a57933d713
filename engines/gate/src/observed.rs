//! What the gate states for everybody of the sites that the policy has it observe: whether real requests were answered, and how the site
//! was really served.
//!
//! A minute in which more than the share that the policy names has failed is down, for those whose requests these were. One without
//! requests is what the checks of upstreams say, but for a site that nobody gets into for want of a certificate. Beside that, requests are
//! counted ([`Counting`]). No address, no path and no host is in any of it.

use std::collections::BTreeMap;

use engine::statement::{Said, Statement};
use event::evidence::{Counted, State};
use event::{Ppb, Span, Time};

use crate::counting::Counting;
use crate::plan::Site;
use crate::served::Served;
use crate::settings::{self, Observe};
use crate::tls::Shown;

/// The certificate ends soon, or browsers do not take it.
pub(crate) const CERTIFICATE: &str = "gate-certificate";
/// Somebody was served over a version of TLS below 1.2.
pub(crate) const OLD_TLS: &str = "gate-old-tls";
/// Somebody was served in clear.
pub(crate) const CLEAR: &str = "gate-clear";
/// A reply went out without a field that makes browsers careful.
pub(crate) const HEADERS: &str = "gate-headers";

/// The findings, in the order in which a turn is told of them.
pub(crate) const FINDINGS: [&str; 4] = [CERTIFICATE, OLD_TLS, CLEAR, HEADERS];

/// A certificate ends soon with so much left, or a quarter of its life where that is less.
const ENDS_SOON: Span = Span::from_days(14);

/// The statements of all sites that are observed.
#[derive(Default, Debug)]
pub(crate) struct Observed {
    sites: BTreeMap<String, OfSite>,
    /// Whether a turn was made: what a site has counted before the first one, it has counted since this process began.
    has_begun: bool,
}

#[derive(Debug)]
struct OfSite {
    observe: Observe,
    revision: String,
    statement: Statement,
    counting: Counting,
    /// What was counted when the minute began.
    before: Counts,
    began: Time,
    state: State,
    open: [bool; FINDINGS.len()],
}

/// What is counted of a site, as far as something is stated of it.
#[derive(Clone, Copy, Default, Debug)]
struct Counts {
    answered: u64,
    failed: u64,
    old_tls: u64,
    clear: u64,
    bare: u64,
}

impl Counts {
    fn of(served: &Served) -> Self {
        Self {
            answered: served.answered.read(),
            failed: served.failed.read(),
            old_tls: served.over_old_tls(),
            clear: served.clear.read(),
            bare: served.bare.read(),
        }
    }

    /// What was added since.
    const fn since(self, before: Self) -> Self {
        Self {
            answered: self.answered.saturating_sub(before.answered),
            failed: self.failed.saturating_sub(before.failed),
            old_tls: self.old_tls.saturating_sub(before.old_tls),
            clear: self.clear.saturating_sub(before.clear),
            bare: self.bare.saturating_sub(before.bare),
        }
    }
}

/// What is to be journaled of a site.
pub(crate) struct Stated {
    pub(crate) said: Said,
    /// Requests of the minute that has ended and those of them that failed, where some did.
    pub(crate) failures: Option<(u64, u64)>,
    /// The count of requests that is due.
    pub(crate) counted: Option<Counted>,
}

/// A minute of requests.
fn state_of(asked: u64, failed: u64, failing_above: Ppb, is_up: bool) -> State {
    if asked == 0 {
        return if is_up { State::Up } else { State::Down };
    }
    let share = u128::from(failed) * 1_000_000_000 / u128::from(asked);
    if share > u128::try_from(failing_above.parts()).unwrap_or(0) { State::Down } else { State::Up }
}

/// Whether a certificate ends soon, or is taken by no browser.
fn ends_soon(shown: Option<&Shown>, now: Time) -> bool {
    match shown {
        None => false,
        Some(Shown::Good { from, until }) => {
            let quarter = until.since(*from).micros() / 4;
            until.since(now).micros() < ENDS_SOON.micros().min(quarter)
        }
        Some(Shown::Nothing | Shown::Wrong { .. }) => true,
    }
}

/// Whether nobody gets into a site: it sends everybody on to TLS, and has no certificate there that browsers take.
fn lets_nobody_in(settings: &settings::Site, shown: Option<&Shown>) -> bool {
    let is_closed = matches!(shown, Some(Shown::Nothing | Shown::Wrong { lets_in: false, .. }));
    is_closed && settings.speaks_tls() && settings.redirect_to_https
}

impl Observed {
    /// A turn: every few seconds. What is to be journaled, with the site. `counts_all` says whether no other gate answers requests of
    /// these sites on this host: else no count is one of all of them.
    pub(crate) fn turn<'s>(
        &mut self,
        sites: impl Iterator<Item = &'s Site>,
        revision: &str,
        shown: &BTreeMap<String, Shown>,
        now: Time,
        counts_all: bool,
    ) -> Vec<(String, Stated)> {
        let mut stated = Vec::new();
        let is_first = !std::mem::replace(&mut self.has_begun, true);
        let mut left = std::mem::take(&mut self.sites);
        for site in sites {
            let domain = &site.settings.domain;
            let Some(observe) = &site.settings.observe else { continue };
            let mut known = match left.remove(domain) {
                Some(known) if known.observe == *observe && known.revision == revision => known,
                before => {
                    let mut known = OfSite::new(site, observe, revision, now);
                    if is_first {
                        // Replies that went out before this turn are those of its first minute.
                        known.before = Counts::default();
                    }
                    if let Some(mut before) = before {
                        // Up to now it was looked at under the policy of before.
                        stated.push((domain.clone(), before.turn(site, shown.get(domain), now)));
                        let said = Said { covered: before.statement.end(), ..Said::default() };
                        // Requests are those of the site, whatever is promised of them.
                        let counted = if before.counting.probe() == known.counting.probe() {
                            known.counting = before.counting;
                            None
                        } else {
                            before.counting.end()
                        };
                        stated.push((domain.clone(), Stated { said, failures: None, counted }));
                    }
                    known
                }
            };
            let mut news = known.turn(site, shown.get(domain), now);
            if counts_all {
                news.counted = known.counting.turn([site.served.answered.read(), site.served.failed.read()], now);
            }
            stated.push((domain.clone(), news));
            self.sites.insert(domain.clone(), known);
        }
        // What is observed no more is stated to its end.
        stated.extend(left.into_iter().map(|(domain, mut gone)| (domain, gone.end())));
        stated
    }

    /// What is not said yet, at the end.
    pub(crate) fn end(&mut self) -> Vec<(String, Stated)> {
        std::mem::take(&mut self.sites).into_iter().map(|(domain, mut gone)| (domain, gone.end())).collect()
    }
}

impl OfSite {
    fn new(site: &Site, observe: &Observe, revision: &str, now: Time) -> Self {
        let before = Counts::of(&site.served);
        let (probe, service) = (observe.probe.clone(), observe.service.clone());
        Self {
            observe: observe.clone(),
            revision: revision.to_owned(),
            statement: Statement::new(probe.clone(), service, revision.to_owned(), &FINDINGS, now),
            counting: Counting::new(probe, [before.answered, before.failed], now),
            before,
            began: now,
            state: State::Up,
            open: [false; FINDINGS.len()],
        }
    }

    fn turn(&mut self, site: &Site, shown: Option<&Shown>, now: Time) -> Stated {
        let counts = Counts::of(&site.served);
        let Counts { answered, failed, old_tls, clear, bare } = counts.since(self.before);
        let asked = answered + failed;
        let is_up = site.groups().all(|(_, group)| group.upstreams.iter().any(|upstream| upstream.is_usable()))
            && !lets_nobody_in(&site.settings, shown);
        let state = state_of(asked, failed, self.observe.failing_above, is_up);
        let open = [ends_soon(shown, now), old_tls > 0, clear > 0 && site.settings.speaks_tls(), bare > 0];
        // What fails is told at once; that it is over, at the end of a minute without it.
        let is_over = now.since(self.began) >= engine::statement::EVERY || now < self.began;
        let mut failures = None;
        if is_over {
            failures = (failed > 0).then_some((asked, failed));
            (self.before, self.began, self.state, self.open) = (counts, now, state, open);
        } else {
            if state == State::Down && (asked > 0 || !is_up) {
                self.state = state;
            }
            for (ours, theirs) in self.open.iter_mut().zip(open) {
                *ours |= theirs;
            }
        }
        Stated { said: self.statement.turn(now, self.state, true, &self.open), failures, counted: None }
    }

    fn end(&mut self) -> Stated {
        let said = Said { covered: self.statement.end(), ..Said::default() };
        Stated { said, failures: None, counted: self.counting.end() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::plan::Plan;

    #[test]
    fn a_minute_is_down_when_too_much_has_failed() {
        let five_percent = Ppb::new(50_000_000);
        for (asked, failed, is_up, state) in [
            (0, 0, true, State::Up),
            (0, 0, false, State::Down),
            (100, 5, false, State::Up),
            (100, 6, true, State::Down),
            (1, 1, true, State::Down),
            (u64::MAX, 1, true, State::Up),
        ] {
            assert_eq!(state_of(asked, failed, five_percent, is_up), state, "{failed} of {asked}");
        }
    }

    #[test]
    fn a_certificate_ends_soon() {
        let day = |day: i64| Time::from_micros(day * 86_400_000_000);
        let good = |days: i64| Shown::Good { from: day(0), until: day(days) };
        assert!(!ends_soon(Some(&good(90)), day(70)) && ends_soon(Some(&good(90)), day(77)));
        assert!(!ends_soon(Some(&good(8)), day(5)) && ends_soon(Some(&good(8)), day(7)), "a short one");
        let wrong = Shown::Wrong { why: String::new(), until: Some(day(90)), lets_in: false };
        assert!(ends_soon(Some(&wrong), day(0)) && !ends_soon(None, day(0)));
    }

    fn at(second: i64) -> Time {
        Time::from_secs(1_000_000 + second)
    }

    /// A site whose requests are those of this probe.
    fn plan(probe: &str, before: &Plan) -> Plan {
        let mut desired = Config::of_one_site();
        let (service, probe) = ("shop".parse().expect("a name"), probe.parse().expect("a name"));
        desired.sites[0].observe = Some(Observe { service, probe, failing_above: Ppb::new(10_000_000) });
        Plan::of(&desired, before, &mut Vec::new())
    }

    /// Turns every five seconds.
    fn turns(observed: &mut Observed, plan: &Plan, revision: &str, from: i64, to: i64) -> Vec<Stated> {
        turns_with(observed, plan, revision, &BTreeMap::new(), from, to)
    }

    /// The same with certificates.
    fn turns_with(
        observed: &mut Observed,
        plan: &Plan,
        revision: &str,
        shown: &BTreeMap<String, Shown>,
        from: i64,
        to: i64,
    ) -> Vec<Stated> {
        let turn = |second: i64| {
            let sites = plan.sites.iter().map(AsRef::as_ref);
            observed.turn(sites, revision, shown, at(second), true)
        };
        (from..=to).step_by(5).flat_map(turn).map(|(_, stated)| stated).collect()
    }

    fn counted(stated: &[Stated]) -> Vec<(Time, Time, u32)> {
        let counts = stated.iter().filter_map(|stated| stated.counted.as_ref());
        let failed = |counted: &Counted| counted.minutes.iter().map(|minute| minute.failed).sum();
        counts.map(|counted| (counted.interval.start, counted.interval.end, failed(counted))).collect()
    }

    /// BX-1: a reload leaves no time unobserved, and the count goes on; of a request that was under way at it too.
    #[test]
    fn a_reload_interrupts_nothing() {
        let mut observed = Observed::default();
        let before = plan("edge", &Plan::default());
        let mut stated = turns(&mut observed, &before, "one", 0, 25);
        let after = plan("edge", &before);
        // It has come by the plan of before.
        before.sites[0].served.failed.add();
        stated.extend(turns(&mut observed, &after, "two", 30, 60));
        assert_eq!(counted(&stated), [(at(0), at(60), 1)]);
        let covered = stated.iter().filter_map(|stated| stated.said.covered.as_ref());
        let covered: event::Spans = covered.map(|covered| covered.interval).collect();
        let last: event::Spans =
            observed.end().iter().filter_map(|(_, it)| Some(it.said.covered.as_ref()?.interval)).collect();
        assert_eq!(covered.union(&last).intervals(), [event::Interval::new(at(0), at(60))]);
    }

    /// What a process has served before its first turn is not taken for nothing: it would close a finding that every reply shows.
    #[test]
    fn the_first_turn_knows_what_was_served_before_it() {
        let (mut observed, plan) = (Observed::default(), plan("edge", &Plan::default()));
        plan.sites[0].served.bare.add();
        plan.sites[0].served.failed.add();
        let first = turns(&mut observed, &plan, "one", 0, 0);
        let headers =
            first[0].said.found.iter().find(|found| found.finding.as_str() == HEADERS).expect("it is told of");
        assert!(headers.open);
        assert_eq!(first[0].said.changed.as_ref().map(|changed| changed.state), Some(State::Down));
        // A site that comes later is new to this process, whatever else it was counted for.
        let later = turns(&mut Observed { has_begun: true, ..Observed::default() }, &plan, "one", 0, 0);
        assert!(later[0].said.found.iter().all(|found| !found.open));
    }

    /// A site that sends everybody to TLS and has no certificate there that browsers take is down in a minute in which nobody was
    /// answered; not where it takes requests in clear, nor where a name alone is missing that leads to it.
    #[test]
    fn a_site_without_a_certificate_lets_nobody_in() {
        let wrong = |lets_in| Shown::Wrong { why: String::new(), until: Some(at(0)), lets_in };
        let good = Shown::Good { from: at(0), until: at(8_000_000) };
        for (shown, speaks_tls, redirects, answered, down) in [
            (Shown::Nothing, true, true, false, true),
            (wrong(false), true, true, false, true),
            (wrong(true), true, true, false, false),
            (good, true, true, false, false),
            (Shown::Nothing, true, true, true, false),
            (Shown::Nothing, true, false, false, false),
            (Shown::Nothing, false, true, false, false),
        ] {
            let mut desired = Config::of_one_site();
            let (service, probe) = ("shop".parse().expect("a name"), "edge".parse().expect("a name"));
            let site = &mut desired.sites[0];
            site.observe = Some(Observe { service, probe, failing_above: Ppb::new(10_000_000) });
            (site.acme, site.certificate, site.redirect_to_https) = (speaks_tls, None, redirects);
            let shown = BTreeMap::from([(site.domain.clone(), shown)]);
            let plan = Plan::of(&desired, &Plan::default(), &mut Vec::new());
            let mut observed = Observed::default();
            if answered {
                plan.sites[0].served.answered.add();
            }
            let first = turns_with(&mut observed, &plan, "one", &shown, 0, 0);
            let state = first[0].said.changed.as_ref().map(|changed| changed.state);
            let expected = if down { State::Down } else { State::Up };
            assert_eq!(state, Some(expected), "{shown:?} {speaks_tls} {redirects} {answered}");
        }
    }

    /// Another probe counts from then on, and what was counted for the one before is told.
    #[test]
    fn another_probe_is_another_count() {
        let mut observed = Observed::default();
        let before = plan("edge", &Plan::default());
        let mut stated = turns(&mut observed, &before, "one", 0, 25);
        before.sites[0].served.failed.add();
        stated.extend(turns(&mut observed, &before, "one", 30, 30));
        stated.extend(turns(&mut observed, &plan("other", &before), "two", 35, 95));
        assert_eq!(counted(&stated), [(at(0), at(30), 1)]);
        let rest: Vec<Stated> = observed.end().into_iter().map(|(_, stated)| stated).collect();
        assert_eq!(counted(&rest), [(at(35), at(95), 0)]);
    }
}
