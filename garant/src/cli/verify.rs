//! `garant verify`: verifies a log and computes its verdicts again, for anybody who doubts. A URL is copied into a temporary folder
//! first, and verified offline.

use std::fs;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use engine::Clock;
use engine::clock::SystemClock;
use engine::net::{Deadline, Resolver};
use event::{Span, Time};
use journal::audit::{self, AuditError, Audited, Authenticity, Directory, ExportSource, Report, Trust};
use journal::checkpoint::Checkpoint;
use journal::note::{Fingerprint, VerifierKey};
use journal::tlog_policy::TlogPolicy;
use notary::mirror;
use promise::audit::{Latest, Recheck, Rechecked, Standing};

use crate::cli::runtime;
use crate::failure::{Failure, USAGE};
use crate::registry::Registry;
use crate::terminal::{Style, Terminal};

/// Deadline of the DNS.
const DNS_WITHIN: Span = Span::from_secs(10);

/// Exit code when everything is consistent, but no key was given to authenticate the log with.
const SELF_CONSISTENT: u8 = 3;

/// Exit code when a verdict in effect could not be computed again.
const UNCONFIRMED: u8 = 4;

#[derive(Args, Debug)]
#[command(after_help = "\
Exit codes:
  0  authenticated: everything holds, under a key that you named
  3  self-consistent only: everything holds, under the key that lies beside the log; whoever replaced
     the one could replace the other. Name the key with --vkey, --fingerprint, --dns or --tlog-policy
  4  unconfirmed: nothing contradicts itself, but a verdict in effect was not computed again, so that
     it is only what the log says: what it rests on is destroyed, or a later release wrote it, by
     rules that this one does not know. Or no policy can be read. What is concerned is marked
  1  verification failed, or could not be done: the message says what was found and what it means
  2  called wrongly

What this can't tell: whether a probe told the truth, and whether something was never recorded. Time
that nobody recorded is unproven, never kept. docs/log.md says what each check is worth.")]
pub(crate) struct VerifyCommand {
    /// A folder made by `garant log export`, or the address of a log such as https://trust.example/log/
    #[arg(value_name = "URL|DIR")]
    source: String,

    /// The log's key, as its owner told you: shop.example/1+1a2b3c4d+AbCd…
    #[arg(long, value_name = "KEY")]
    vkey: Option<String>,

    /// Or only its fingerprint
    #[arg(long, value_name = "HEX", conflicts_with = "vkey")]
    fingerprint: Option<String>,

    /// Or its fingerprint as the TXT records of _garant.DOMAIN have it: worth as much as the way to your name server
    #[arg(long, value_name = "DOMAIN", conflicts_with_all = ["vkey", "fingerprint"])]
    dns: Option<String>,

    /// Name server to ask for it, instead of those of this machine
    #[arg(long, value_name = "ADDRESS:PORT", requires = "dns")]
    name_server: Option<SocketAddr>,

    /// A checkpoint that you kept from before: the log must continue it
    #[arg(long, value_name = "FILE")]
    since: Option<PathBuf>,

    /// Your policy on logs and witnesses (C2SP tlog-policy)
    #[arg(long, value_name = "FILE")]
    tlog_policy: Option<PathBuf>,

    /// How old the newest entry may be, such as "25 h"; `any` for an archive. A log that is kept up has a new entry a day
    #[arg(long, value_name = "AGE", default_value = "25 h")]
    max_age: String,

    /// Write the result as JSON
    #[arg(long)]
    json: bool,
}

impl VerifyCommand {
    pub(crate) fn run(self, registry: &Registry, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        let trust = Trust { team_kinds: registry.team_kinds().copied().collect(), ..self.trust()? };
        if self.source.starts_with("http://") || self.source.starts_with("https://") {
            let copy =
                tempfile::tempdir().map_err(|error| Failure::new("no temporary folder can be made").because(&error))?;
            let bar = terminal.progress("copying the log", 0);
            let mut progress = |done, of| {
                bar.set_length(of);
                bar.set_position(done);
            };
            runtime()?.block_on(mirror::copy(&self.source, copy.path(), &trust, &mut progress))?;
            bar.finish_and_clear();
            return self.verify(copy.path(), &trust, terminal);
        }
        let folder = PathBuf::from(&self.source);
        if !folder.is_dir() {
            return Err(Failure::new(format!("{} is neither a folder nor a URL", self.source))
                .remedy("name a folder made by `garant log export`, or an address that starts with https://"));
        }
        if !folder.join("checkpoint").exists() {
            return Err(Failure::new(format!("{} holds no log: it has no file `checkpoint`", self.source))
                .remedy("name a folder made by `garant log export`"));
        }
        self.verify(&folder, &trust, terminal)
    }

    fn trust(&self) -> Result<Trust, Failure> {
        let wrong = |what: &str, error: &(dyn std::error::Error + 'static)| {
            Failure::new(format!("{what} can't be used")).because(error).code(USAGE)
        };
        let vkey: Option<VerifierKey> =
            self.vkey.as_ref().map(|text| text.trim().parse()).transpose().map_err(|error| wrong("--vkey", &error))?;
        let mut fingerprints: Vec<Fingerprint> = Vec::new();
        if let Some(text) = &self.fingerprint {
            fingerprints.push(text.trim().parse().map_err(|error| wrong("--fingerprint", &error))?);
        }
        if let Some(domain) = &self.dns {
            fingerprints = runtime()?.block_on(fingerprints_of(domain, self.name_server))?;
        }
        let file = |path: &PathBuf| {
            read_bounded(path)
                .map_err(|error| Failure::new(format!("{} can't be read", path.display())).because(&error).code(USAGE))
        };
        let policy = self
            .tlog_policy
            .as_ref()
            .map(file)
            .transpose()?
            .map(|text| TlogPolicy::parse(&text))
            .transpose()
            .map_err(|error| wrong("--tlog-policy", &error))?;
        let max_age = match self.max_age.as_str() {
            "any" => None,
            text => Some(Span::parse(text).map_err(|error| wrong("--max-age", &error))?),
        };
        let since = self.since.as_ref().map(file).transpose()?;
        if let Some(since) = &since {
            Checkpoint::of_note(since).map_err(|error| wrong("--since", &error))?;
        }
        Ok(Trust { vkey, fingerprints, since, policy, at: Some(SystemClock.now()), max_age, ..Trust::default() })
    }

    fn verify(&self, folder: &Path, trust: &Trust, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        let bar = terminal.progress("verifying", 0);
        let examined = examine(&Directory::new(folder), trust, &mut |done, all| {
            bar.set_length(all);
            bar.set_position(done);
        });
        bar.finish_and_clear();
        let (report, rechecked) = match examined {
            Ok(both) => both,
            Err(error) if self.json => {
                terminal.json(&serde_json::json!({ "outcome": "failed", "reason": error.to_string() }));
                return Ok(ExitCode::FAILURE);
            }
            Err(error) => return Err(Failure::new(format!("{} does not hold", self.source)).because(&error)),
        };
        if self.json {
            terminal.json(&as_json(&report, &rechecked));
        } else {
            print(&report, &rechecked, terminal);
        }
        Ok(match Conclusion::of(&report, &rechecked) {
            Conclusion::Failed => ExitCode::FAILURE,
            Conclusion::Unconfirmed => ExitCode::from(UNCONFIRMED),
            Conclusion::SelfConsistent => ExitCode::from(SELF_CONSISTENT),
            Conclusion::Authenticated => ExitCode::SUCCESS,
        })
    }
}

/// Longest file that is named on the command line, in bytes: a checkpoint, or a policy.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Reads a file of at most [`FILE_BYTES_MAX`].
fn read_bounded(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(std::io::Error::other(format!("it is longer than {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

/// Audits the log and computes its verdicts again, in one pass.
fn examine(
    source: &dyn ExportSource,
    trust: &Trust,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(Report, Rechecked), AuditError> {
    let mut recheck = Recheck::new();
    let mut entry = |entry: Audited| {
        // Verdicts whose evidence is destroyed can't be recomputed: they are counted, and shown as such.
        if entry.envelope.is_none() && entry.leaf.is_public() {
            recheck.destroyed(entry.sequence, &entry.leaf.coarse, entry.leaf.hour);
        } else {
            recheck.entry(entry.sequence, entry.envelope.as_ref());
        }
    };
    let report = audit::audit(source, trust, &mut entry, progress)?;
    let rechecked = recheck.finish(report.size);
    Ok((report, rechecked))
}

/// The outcome of a verification, and its exit code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Conclusion {
    Failed,
    Unconfirmed,
    SelfConsistent,
    Authenticated,
}

impl Conclusion {
    fn of(report: &Report, rechecked: &Rechecked) -> Self {
        if !rechecked.faults.is_empty() {
            Self::Failed
        } else if !rechecked.is_confirmed() {
            Self::Unconfirmed
        } else if report.authenticity == Authenticity::SelfConsistent {
            Self::SelfConsistent
        } else {
            Self::Authenticated
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Unconfirmed => "unconfirmed",
            Self::SelfConsistent => "self-consistent",
            Self::Authenticated => "authenticated",
        }
    }
}

/// The reasons why not every verdict is confirmed, in words; empty when each is.
fn doubts(rechecked: &Rechecked) -> Vec<&'static str> {
    let any = |of: fn(Standing) -> bool| rechecked.unconfirmed().any(|latest| of(latest.standing));
    [
        (!rechecked.policy_is_known, "no policy in effect can be read, so that nothing says what is promised"),
        (any(|standing| standing == Standing::OutOfReach), "a verdict in effect rests on evidence that is destroyed"),
        (
            rechecked.has_unknown || any(|standing| matches!(standing, Standing::NotJudged(_))),
            "a verdict in effect was not judged, because a later release wrote it: verify with that",
        ),
    ]
    .into_iter()
    .filter_map(|(holds, doubt)| holds.then_some(doubt))
    .collect()
}

/// The fingerprints that a domain publishes: one, or two while a key is being replaced.
async fn fingerprints_of(domain: &str, name_server: Option<SocketAddr>) -> Result<Vec<Fingerprint>, Failure> {
    let name = format!("_garant.{}", domain.trim_end_matches('.'));
    let resolver = match name_server {
        Some(address) => Resolver::asking(&[address]),
        None => Resolver::system(),
    };
    let resolver = resolver.map_err(|error| Failure::new("no name server can be asked").because(&error))?;
    let none = || {
        Failure::new(format!("{name} has no TXT record that is a fingerprint"))
            .remedy("take the key from somewhere else and name it with --vkey or --fingerprint")
    };
    let texts = resolver.texts(&name, Deadline::within(DNS_WITHIN)).await.map_err(|error| none().because(&error))?;
    // Other records are passed over: somebody who can add one could replace them all.
    let fingerprints: Vec<Fingerprint> = texts.iter().filter_map(|text| text.trim().parse().ok()).collect();
    if fingerprints.is_empty() { Err(none()) } else { Ok(fingerprints) }
}

fn as_json(report: &Report, rechecked: &Rechecked) -> serde_json::Value {
    serde_json::json!({
        "outcome": Conclusion::of(report, rechecked).as_str(),
        "authenticated": report.authenticity == Authenticity::Authenticated,
        "origin": report.origin,
        "size": report.size,
        "root": report.root.to_string(),
        "signed_by": report.signed_by.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "cosigned_by": report.cosigned_by.iter().map(|witness| serde_json::json!({
            "name": witness.name, "at": witness.at.to_string(), "trusted": witness.trusted,
        })).collect::<Vec<_>>(),
        "continues": report.continues,
        "newest": report.newest.map(|time| time.to_string()),
        "disclosed": report.disclosed,
        "withheld": report.withheld,
        "destroyed": report.destroyed,
        "verdicts_recomputed": rechecked.verdicts,
        "verdicts_out_of_reach": rechecked.out_of_reach,
        "verdicts_not_judged": rechecked.not_judged,
        "unconfirmed_because": doubts(rechecked),
        "unknown_kinds": report.unknown_kinds,
        "faults": rechecked.faults.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "more_faults": rechecked.more_faults,
        "remarks": report.remarks,
        "promises": rechecked.latest.iter().map(|latest| {
            let verdict = latest.verdict.as_ref();
            let not_judged = match latest.standing {
                Standing::NotJudged(why) => Some(why.to_string()),
                Standing::Confirmed | Standing::OutOfReach | Standing::Faulty => None,
            };
            serde_json::json!({
                "sequence": latest.sequence, "promise": latest.promise, "objective": latest.objective,
                "outcome": verdict.map(|verdict| verdict.outcome), "figure": verdict.and_then(|verdict| verdict.figure),
                "at": verdict.map(|verdict| verdict.at.to_string()), "not_judged": not_judged,
                "recomputed": latest.standing == Standing::Confirmed, "in_effect": latest.in_effect,
            })
        }).collect::<Vec<_>>(),
    })
}

fn print(report: &Report, rechecked: &Rechecked, terminal: &mut Terminal) {
    let time = |time: Option<Time>| time.map_or_else(|| "unknown".to_owned(), |time| time.to_string());
    terminal.line(format!("log         {}, {} entries, newest {}", report.origin, report.size, time(report.newest)));
    terminal.line(format!("root        {}", report.root));
    let keys: Vec<String> = report.signed_by.iter().map(ToString::to_string).collect();
    terminal.line(format!("signed by   {}", keys.join(", ")));
    for witness in &report.cosigned_by {
        let whose = if witness.trusted { "that you rely on" } else { "named by the log itself" };
        terminal.line(format!("cosigned    {} at {}, a witness {whose}", witness.name, witness.at));
    }
    if let Some(size) = report.continues {
        terminal.line(format!("continues   your checkpoint of {size} entries"));
    }
    terminal.line(format!(
        "payloads    {} disclosed and matching, {} for the team only, {} destroyed",
        report.disclosed, report.withheld, report.destroyed
    ));
    terminal.line(format!(
        "verdicts    {} recomputed, {} out of reach (their evidence is destroyed), {} not judged (a later release wrote \
         them), {} faults",
        rechecked.verdicts,
        rechecked.out_of_reach,
        rechecked.not_judged,
        rechecked.faults.len() as u64 + rechecked.more_faults
    ));
    for Latest { promise, objective, sequence, verdict, standing, in_effect } in &rechecked.latest {
        let (look, word) = match verdict.as_ref().map(|verdict| verdict.outcome) {
            Some(event::promise::Outcome::Kept) => (Style::Good, "kept"),
            Some(event::promise::Outcome::Broken) => (Style::Bad, "broken"),
            Some(event::promise::Outcome::Unproven) => (Style::Doubtful, "unproven"),
            None => (Style::Doubtful, "?"),
        };
        let look = if *standing == Standing::Confirmed { look } else { Style::Doubtful };
        let word = terminal.painted(look, format!("{word:8}"));
        let worth = match standing {
            Standing::Confirmed => String::new(),
            Standing::OutOfReach => "; NOT recomputed: only what the log says".to_owned(),
            Standing::NotJudged(why) => format!("; NOT recomputed: {why}"),
            Standing::Faulty => "; wrong, see below".to_owned(),
        };
        let effect = if *in_effect { "" } else { "; no longer in effect" };
        let at = verdict.as_ref().map_or_else(String::new, |verdict| format!(", as of {}", verdict.window.end));
        terminal.line(format!("  {word}  {promise} ({objective}), entry {sequence}{at}{worth}{effect}"));
    }
    if !report.unknown_kinds.is_empty() {
        let kinds: Vec<String> = report.unknown_kinds.iter().map(|(kind, count)| format!("{kind} ({count})")).collect();
        terminal
            .line(format!("passed over {}: of kinds or versions that this release does not know", kinds.join(", ")));
    }
    for remark in &report.remarks {
        terminal.line(format!("note        {remark}"));
    }
    for fault in &rechecked.faults {
        let word = terminal.painted(Style::Bad, "fault");
        terminal.line(format!("{word}       {fault}"));
    }
    if rechecked.more_faults > 0 {
        terminal.line(format!("            and {} more", rechecked.more_faults));
    }
    let (look, conclusion) = conclusion(report, rechecked);
    let conclusion = terminal.painted(look, conclusion);
    terminal.line(conclusion);
}

/// The last line of the report: the conclusion.
fn conclusion(report: &Report, rechecked: &Rechecked) -> (Style, String) {
    let everything = match rechecked.verdicts {
        0 => "what was recorded holds, and there is no verdict yet",
        _ => "everything holds",
    };
    match (Conclusion::of(report, rechecked), report.authenticity) {
        (Conclusion::Authenticated, _) => {
            (Style::Good, format!("authenticated: {everything}, under the key that you named"))
        }
        (Conclusion::SelfConsistent, _) => (
            Style::Doubtful,
            format!(
                "self-consistent, not authenticated: {everything}, under the key that lies beside the log. Name the key that \
                 you expect with --vkey, --fingerprint or --dns"
            ),
        ),
        (Conclusion::Unconfirmed, standing) => {
            let signed = match standing {
                Authenticity::Authenticated => {
                    "unconfirmed: signed by the key that you named and nothing contradicts itself"
                }
                Authenticity::SelfConsistent => {
                    "unconfirmed, not authenticated: nothing contradicts itself under the key that lies beside the log"
                }
            };
            (
                Style::Doubtful,
                format!("{signed}, but {}. It is only what the log says", doubts(rechecked).join("; and ")),
            )
        }
        (Conclusion::Failed, _) => (Style::Bad, "failed: the verdicts do not follow from what was recorded".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use event::evidence::{Changed, Covered, State};
    use event::policy::{Agreement, Applied, Clause, Probe, Promise, Service, Text};
    use event::promise::{Outcome as Said, Verdict};
    use event::{Interval, Ppb, Retention};
    use journal::testing::Log;
    use promise::objective::{Availability, Objective};

    use super::*;

    const DAY: Span = Span::from_days(1);

    fn policy() -> Applied {
        let (service, observers) = ("shop".parse().expect("a name"), vec!["here".parse().expect("a name")]);
        let objective = Objective::Availability(Availability { service, at_least: Ppb::new(990_000_000), over: DAY });
        let mut promise = Promise {
            id: "AV-1".parse().expect("a name"),
            revision: String::new(),
            text: Text::default(),
            objectives: vec![Clause::from(&objective)],
        };
        promise.revision = promise::revision::of_promise(&promise);
        let mut applied = Applied {
            revision: String::new(),
            services: vec![Service { id: "shop".parse().expect("a name"), title: Text::default() }],
            probes: vec![Probe {
                id: "http".parse().expect("a name"),
                kind: "http".into(),
                service: "shop".parse().expect("a name"),
                every: Span::from_secs(60),
                observers: observers.into(),
                agreement: Agreement::Any,
            }],
            findings: vec![],
            maintenance: vec![],
            promises: vec![promise],
        };
        applied.revision = promise::revision::of_policy(&applied);
        applied
    }

    /// Days of coverage by the hour, with an outage of one hour on the first, and a verdict as of the end.
    fn log(days: i64, forge: impl FnOnce(&mut Verdict)) -> Log {
        let mut log = Log::new("shop.example/1", 1);
        let applied = policy();
        let probe = || ("http".parse().expect("a name"), "shop".parse().expect("a name"));
        log.append(&applied);
        for hour in 0..days * 24 {
            let from = log.now;
            if let Some(state) = match hour {
                0 | 3 => Some(State::Up),
                2 => Some(State::Down),
                _ => None,
            } {
                let (probe, service) = probe();
                log.append(&Changed { probe, service, state, after: from, by: from });
            }
            log.advance(Span::from_secs(3600));
            let interval = Interval::new(from, log.now);
            log.append(&Covered { interval, revision: applied.revision.clone(), every: None, gaps: vec![] });
            if hour % 24 == 23 {
                log.append(&applied);
            }
        }
        let mut judge = promise::Judge::new();
        for sequence in 0..log.entries.len() as u64 {
            judge.apply(sequence, &log.envelope(sequence).expect("there")).expect("readable");
        }
        let mut verdict = judge.verdicts(log.now).remove(0);
        forge(&mut verdict);
        log.append(&verdict);
        log
    }

    fn outcome(log: &Log, pinned: bool) -> (Conclusion, Rechecked) {
        let trust = Trust { vkey: pinned.then(|| log.keys[0].vkey()), ..Trust::default() };
        let (report, rechecked) = examine(&log.export(), &trust, &mut |_, _| ()).expect("it holds");
        (Conclusion::of(&report, &rechecked), rechecked)
    }

    #[test]
    fn the_outcome_says_what_was_shown() {
        let honest = log(1, |_| ());
        assert_eq!(outcome(&honest, true).0, Conclusion::Authenticated);
        assert_eq!(outcome(&honest, false).0, Conclusion::SelfConsistent);
        let invented = log(1, |verdict| verdict.outcome = Said::Kept);
        assert_eq!(outcome(&invented, true).0, Conclusion::Failed);
        // The evidence is destroyed, so the verdict can be neither confirmed nor refuted.
        for mut log in [honest, invented] {
            let day = log.entries[1].leaf.hour.div_euclid(24);
            log.destroy(Retention::Evidence, event::Day::from_days(day));
            for pinned in [true, false] {
                let (outcome, rechecked) = outcome(&log, pinned);
                assert_eq!(outcome, Conclusion::Unconfirmed);
                assert_eq!(rechecked.latest[0].standing, Standing::OutOfReach);
            }
        }
        // Once it lies far enough behind the window, its destruction changes nothing.
        for (forge, expected) in [(false, Conclusion::Authenticated), (true, Conclusion::Failed)] {
            let mut log = log(5, |verdict| {
                if forge {
                    verdict.outcome = Said::Broken;
                }
            });
            let day = log.entries[1].leaf.hour.div_euclid(24);
            log.destroy(Retention::Evidence, event::Day::from_days(day));
            let (outcome, rechecked) = outcome(&log, true);
            assert_eq!(outcome, expected, "{:?}", rechecked.faults);
        }
    }

    /// No verdict is confirmed whose version or evaluator can't be computed, nor one under a policy that can't be read.
    #[test]
    fn what_was_not_judged_is_not_confirmed() {
        let kept = |log: &Log, evaluator| {
            let verdict = log.envelope(log.entries.len() as u64 - 1).and_then(|envelope| envelope.body::<Verdict>());
            let verdict = Verdict { outcome: Said::Kept, evaluator, ..verdict.expect("a verdict").expect("readable") };
            serde_json::to_string(&verdict).expect("serialises")
        };
        for (version, evaluator) in [(2, promise::EVALUATOR), (1, promise::EVALUATOR + 1), (1, 0)] {
            let mut log = log(1, |_| ());
            let text = kept(&log, evaluator);
            log.append_text("promise.verdict", version, "promise.verdict", &text);
            let trust = Trust { vkey: Some(log.keys[0].vkey()), ..Trust::default() };
            let (report, rechecked) = examine(&log.export(), &trust, &mut |_, _| ()).expect("it holds");
            assert_eq!(Conclusion::of(&report, &rechecked), Conclusion::Unconfirmed, "{version} {evaluator}");
            let (_, said) = conclusion(&report, &rechecked);
            assert!(said.contains("was not judged") && !said.contains("everything holds"), "{said}");
            let json = as_json(&report, &rechecked);
            assert_eq!((&json["verdicts_not_judged"], &json["promises"][0]["recomputed"]), (&1.into(), &false.into()));
            assert!(json["promises"][0]["not_judged"].is_string(), "{json}");
        }
        let log = Log::new("shop.example/1", 1);
        let (outcome, _) = outcome(&log, true);
        assert_eq!(outcome, Conclusion::Unconfirmed, "no policy, no promise");
    }
}
