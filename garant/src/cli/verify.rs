//! `garant verify`: what a customer who doubts runs against us. Offline: a URL is copied into a temporary folder first.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use engine::Clock;
use engine::clock::SystemClock;
use engine::net::{Deadline, Resolver};
use event::{Span, Time};
use journal::audit::{self, Directory, Report, Standing, Trust};
use journal::note::{Fingerprint, VerifierKey};
use journal::tlog_policy::TlogPolicy;
use promise::audit::{Recheck, Rechecked};

use crate::cli::runtime;
use crate::failure::{Failure, USAGE};
use crate::mirror;
use crate::terminal::{Look, Terminal};

/// How long the DNS may take.
const DNS_WITHIN: Span = Span::from_secs(10);

/// Exit code when everything holds together but nobody said whose key it should be.
const SELF_CONSISTENT: u8 = 3;

#[derive(Args, Debug)]
#[command(after_help = "\
Exit codes:
  0  authenticated: everything holds, under a key that you named
  3  self-consistent only: everything holds, under the key that lies beside the log; whoever replaced
     the one could replace the other. Name the key with --vkey, --fingerprint, --dns or --tlog-policy
  1  verification failed, or could not be done: the first line says what was found and what it means
  2  called wrongly

What this can't tell: whether a probe told the truth, and whether something was never recorded. Time
that nobody recorded is unproven, never kept. docs/log.md says what each check is worth.")]
pub(crate) struct Verify {
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

impl Verify {
    pub(crate) fn run(self, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        let trust = self.trust()?;
        if self.source.starts_with("http://") || self.source.starts_with("https://") {
            let copy =
                tempfile::tempdir().map_err(|error| Failure::new("no temporary folder can be made").because(&error))?;
            runtime()?.block_on(mirror::copy(&self.source, copy.path(), terminal))?;
            return self.verify(copy.path(), &trust, terminal);
        }
        let folder = PathBuf::from(&self.source);
        if !folder.is_dir() {
            return Err(Failure::new(format!("{} is neither a folder nor a URL", self.source))
                .remedy("name a folder made by `garant log export`, or an address that starts with https://"));
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
            fs::read_to_string(path)
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
        Ok(Trust { vkey, fingerprints, since, policy, at: Some(SystemClock.now()), max_age })
    }

    fn verify(&self, folder: &Path, trust: &Trust, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        let bar = terminal.progress("verifying", 0);
        let mut recheck = Recheck::new();
        let audited = audit::audit(
            &Directory::new(folder),
            trust,
            &mut |entry| {
                // Old verdicts whose evidence is destroyed can't be recomputed, and nobody is to blame for it.
                if entry.envelope.is_none() && entry.leaf.is_public() {
                    recheck.destroyed(entry.leaf.hour);
                } else {
                    recheck.entry(entry.sequence, entry.envelope.as_ref());
                }
            },
            &mut |done, all| {
                bar.set_length(all);
                bar.set_position(done);
            },
        );
        bar.finish_and_clear();
        let report = match audited {
            Ok(report) => report,
            Err(error) if self.json => {
                terminal.json(&serde_json::json!({ "outcome": "failed", "reason": error.to_string() }));
                return Ok(ExitCode::FAILURE);
            }
            Err(error) => return Err(Failure::new(format!("{} does not hold", self.source)).because(&error)),
        };
        let rechecked = recheck.finish(report.size);
        if self.json {
            terminal.json(&as_json(&report, &rechecked));
        } else {
            tell(&report, &rechecked, terminal);
        }
        Ok(match (rechecked.faults.is_empty(), report.standing) {
            (false, _) => ExitCode::FAILURE,
            (true, Standing::Authenticated) => ExitCode::SUCCESS,
            (true, Standing::SelfConsistent) => ExitCode::from(SELF_CONSISTENT),
        })
    }
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
    // Other records may stand beside; whoever can add one could replace them all.
    let fingerprints: Vec<Fingerprint> = texts.iter().filter_map(|text| text.trim().parse().ok()).collect();
    if fingerprints.is_empty() { Err(none()) } else { Ok(fingerprints) }
}

fn outcome(report: &Report, rechecked: &Rechecked) -> &'static str {
    match (rechecked.faults.is_empty(), report.standing) {
        (false, _) => "failed",
        (true, Standing::Authenticated) => "authenticated",
        (true, Standing::SelfConsistent) => "self-consistent",
    }
}

fn as_json(report: &Report, rechecked: &Rechecked) -> serde_json::Value {
    serde_json::json!({
        "outcome": outcome(report, rechecked),
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
        "faults": rechecked.faults.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "more_faults": rechecked.more_faults,
        "remarks": report.remarks,
        "promises": rechecked.latest.iter().map(|(sequence, verdict)| serde_json::json!({
            "sequence": sequence, "promise": verdict.promise, "objective": verdict.objective,
            "outcome": verdict.outcome, "figure": verdict.figure, "at": verdict.at.to_string(),
        })).collect::<Vec<_>>(),
    })
}

fn tell(report: &Report, rechecked: &Rechecked, terminal: &mut Terminal) {
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
        "payloads    {} disclosed and matching, {} for the team only, {} destroyed on schedule",
        report.disclosed, report.withheld, report.destroyed
    ));
    terminal.line(format!(
        "verdicts    {} recomputed, {} out of reach (their evidence is destroyed), {} faults",
        rechecked.verdicts,
        rechecked.out_of_reach,
        rechecked.faults.len()
    ));
    for (sequence, verdict) in &rechecked.latest {
        let (look, word) = match verdict.outcome {
            event::promise::Outcome::Kept => (Look::Good, "kept"),
            event::promise::Outcome::Broken => (Look::Bad, "broken"),
            event::promise::Outcome::Unproven => (Look::Doubtful, "unproven"),
        };
        let word = terminal.painted(look, format!("{word:8}"));
        terminal.line(format!(
            "  {word}  {} ({}), entry {sequence}, as of {}",
            verdict.promise, verdict.objective, verdict.at
        ));
    }
    for remark in &report.remarks {
        terminal.line(format!("note        {remark}"));
    }
    for fault in &rechecked.faults {
        let word = terminal.painted(Look::Bad, "fault");
        terminal.line(format!("{word}       {fault}"));
    }
    if rechecked.more_faults > 0 {
        terminal.line(format!("            and {} more", rechecked.more_faults));
    }
    let conclusion = match outcome(report, rechecked) {
        "authenticated" => {
            terminal.painted(Look::Good, "authenticated: everything holds, under the key that you named")
        }
        "self-consistent" => terminal.painted(
            Look::Doubtful,
            "self-consistent, not authenticated: everything holds under the key that lies beside the log. Name the key \
             that you expect with --vkey, --fingerprint or --dns",
        ),
        _ => terminal.painted(Look::Bad, "failed: the verdicts do not follow from what was recorded"),
    };
    terminal.line(conclusion);
}
