//! `garant status`: prints the services, the promises and the state of the running garant.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;
use engine::clock::SystemClock;
use engine::http::Request;
use engine::net::Net;
use event::promise::Outcome;
use event::{ObserverId, ProbeId, Span, Time, Zone};
use web::status::CurrentState;
use web::{Language, Times};

use crate::cli::{DataArgument, runtime};
use crate::data::Running;
use crate::failure::Failure;
use crate::terminal::{Style, Terminal, counted};

const WITHIN: Span = Span::from_secs(5);
/// Shortest answer whose time is shown when its phases are not known.
const NOTEWORTHY: Span = Span::from_millis(1);

/// Certificates that expire sooner than this get a line: automatic renewal happens a month before.
const EXPIRES_SOON: Span = Span::from_days(21);

#[derive(Args, Debug)]
pub(crate) struct StatusCommand {
    #[command(flatten)]
    data: DataArgument,

    /// Show what each observer says of each probe too: where the time went, and when certificates expire
    #[arg(long)]
    probes: bool,

    /// Write what the running garant says, as JSON
    #[arg(long)]
    json: bool,
}

impl StatusCommand {
    pub(crate) fn run(self, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        let running = Running::read(&self.data.data)?;
        let url = format!("{}api/status.json", running.team);
        let failed = |error: &(dyn std::error::Error + 'static)| {
            Failure::new(format!("process {} does not answer at {url}", running.pid))
                .because(error)
                .remedy("look at what it says on its standard error")
        };
        let body = runtime()?.block_on(async {
            let net = Net::new(&engine::net::NetOptions::default(), std::sync::Arc::new(SystemClock))
                .map_err(|error| failed(&error))?;
            Request::get(url.clone())
                .within(WITHIN)
                .body_bytes_max(16 * 1024 * 1024)
                .send(&net)
                .await
                .map_err(|error| failed(&error))
        })?;
        if self.json {
            terminal.raw(&body.body);
            return Ok(ExitCode::SUCCESS);
        }
        let status: web::status::Status = serde_json::from_slice(&body.body).map_err(|error| failed(&error))?;
        for line in lines(&status, running.pid, self.probes, |look, text| terminal.painted(look, text)) {
            terminal.line(line);
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Prints the status for people.
fn lines(
    status: &web::status::Status,
    pid: i32,
    each_probe: bool,
    painted: impl Fn(Style, String) -> String,
) -> Vec<String> {
    let published = if status.publish { "published" } else { "not published" };
    // A name that this release does not know is shown in UTC, and said so.
    let zone = Zone::named(&status.time_zone).unwrap_or_default();
    let times = Times { language: Language::English, zone: &zone, now: status.at };
    let mut lines = vec![format!("garant {}, process {pid}, {published}; times in {zone}", status.version)];
    let state = |current: CurrentState| {
        let look = match current {
            CurrentState::Up => Style::Good,
            CurrentState::Down => Style::Bad,
            CurrentState::Degraded | CurrentState::Unknown | CurrentState::Undecided => Style::Doubtful,
        };
        painted(look, format!("{:10}", current.as_str()))
    };
    if let Some(behind) = status.clock_behind {
        let word = painted(Style::Doubtful, format!("{:10}", "clock"));
        let behind = Language::English.about(behind).replace('\u{202f}', " ");
        lines.push(format!(
            "  {word} it stands {behind} behind what was recorded before: it was set back. What began in its future is shown as now"
        ));
    }
    let since = |since: Option<Time>| since.map(|since| format!(" since {since}")).unwrap_or_default();
    // What began while nobody looked.
    let since_between = |after: Option<Time>, by: Time| match after {
        Some(after) => format!(" since some time between {after} and {by}"),
        None => format!(" since {by}"),
    };
    for service in &status.services {
        let maintenance = service.maintenance.as_ref();
        let maintenance = maintenance.map(|window| format!(" (announced maintenance until {})", window.until));
        let maintenance = maintenance.unwrap_or_default();
        let unwatched = service.unwatched.map(|breaks| not_watched(&breaks)).unwrap_or_default();
        let since = service.since.map(|since| since_between(service.began_after, since)).unwrap_or_default();
        lines.push(format!("  {} {}{since}{unwatched}{maintenance}", state(service.state), service.service));
        lines.extend(service.details.iter().map(|detail| {
            let observers: Vec<&str> = detail.observers.iter().map(ObserverId::vantage).collect();
            format!("             {} from {}: {}", detail.probe, observers.join(", "), detail.text)
        }));
    }
    for (probe, left) in expiring(status) {
        let days = left.micros().div_euclid(Span::from_days(1).micros());
        lines.push(if left < Span::ZERO {
            format!("  {} certificate that {probe} is shown", painted(Style::Bad, format!("{:10}", "expired")))
        } else {
            let word = painted(Style::Doubtful, format!("{:10}", "expires"));
            format!(
                "  {word} certificate that {probe} is shown, in {}",
                counted(usize::try_from(days).unwrap_or_default(), "day")
            )
        });
    }
    for probe in &status.probes {
        for finding in &probe.findings {
            let word = painted(Style::Bad, format!("{:10}", "found"));
            let since = since_between(finding.began_after, finding.since);
            lines.push(format!("  {word} {} in {}{since}", finding.finding, probe.probe));
            if !finding.text.is_empty() {
                lines.push(format!("             {}", finding.text));
            }
        }
    }
    for probe in status.probes.iter().filter(|_| each_probe) {
        let word = state(probe.state);
        let or_before = if probe.or_before && probe.since.is_some() { " or before" } else { "" };
        let (vantage, since) = (probe.observer.vantage(), since(probe.since));
        lines.push(format!("  {word} {} from {vantage}{since}{or_before}", probe.probe));
        let phases: Vec<String> =
            probe.phases.each().map(|(phase, took)| format!("{} {}", phase.replace('_', " "), short(took))).collect();
        let of_it = if phases.is_empty() { String::new() } else { format!(": {}", phases.join(", ")) };
        // A probe that only reads this machine, or waits, takes no time that says anything.
        if probe.took >= NOTEWORTHY || !phases.is_empty() {
            lines.push(format!("             {}{of_it}", short(probe.took)));
        }
        lines.extend(probe.certificate_expires.map(|at| format!("             certificate until {at}")));
    }
    for promise in &status.promises {
        let look = match promise.outcome {
            Outcome::Kept => Style::Good,
            Outcome::Broken => Style::Bad,
            Outcome::Unproven => Style::Doubtful,
        };
        let word = painted(look, format!("{:10}", outcome_word(promise.outcome)));
        lines.push(format!("  {word} {}  {}", promise.promise, promise.text.en));
        lines.extend(promise.objectives.iter().flat_map(|objective| objective_lines(objective, times)));
    }
    for engine in status.engines.iter().filter(|engine| !engine.healthy) {
        let word = painted(Style::Bad, format!("{:10}", engine.state));
        let why = engine.last_error.as_deref().unwrap_or_default();
        lines.push(format!("  {word} engine {} (start {}) {why}", engine.engine, engine.attempts));
    }
    if let Some(at) = status.evaluated_at.filter(|_| !status.promises.is_empty()) {
        lines.push(format!("  evaluated  {at}"));
    }
    if let Some(error) = &status.reload_error {
        let word = painted(Style::Bad, format!("{:10}", "refused"));
        lines.push(format!("  {word} the last reload; the policy from before stays in effect: {error}"));
    }
    let journal = &status.journal;
    let shown = journal.published_size.map_or_else(|| "none published".to_owned(), |size| format!("{size} published"));
    lines.push(format!("  log        {} entries, {shown}", journal.size));
    if let Some(fault) = &journal.fault {
        let word = painted(Style::Bad, format!("{:10}", "refusing"));
        lines.push(format!("  {word} the journal takes no entries: {fault}"));
    }
    lines.into_iter().map(|line| zone.of_text(&line).into_owned()).collect()
}

const fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Kept => "kept",
        Outcome::Broken => "broken",
        Outcome::Unproven => "unproven",
    }
}

/// `, not watched from … to …`: the breaks in the time since which a service is what it is.
fn not_watched(breaks: &web::status::UnwatchedStatus) -> String {
    let web::status::UnwatchedStatus { length, last } = breaks;
    let several = if *length == last.length() {
        String::new()
    } else {
        format!(" for {}, last", Language::English.about(*length).replace('\u{202f}', " "))
    };
    format!(", not watched{several} from {} to {}", last.start, last.end)
}

/// The figure of an objective and up to when it holds, and what to know beside it.
fn objective_lines(objective: &web::status::ObjectiveStatus, times: Times<'_>) -> Vec<String> {
    let english = Language::English;
    let figure = objective.figure.map_or_else(|| "nothing yet".to_owned(), |figure| english.figure(&figure));
    let as_of = times.as_of(objective.window.end);
    let reasons: Vec<String> = objective.reasons.iter().map(|reason| english.reason(&objective.kind, reason)).collect();
    let outcome = outcome_word(objective.outcome);
    let first = format!("             {outcome:8} {}: {figure}, {as_of}", objective.measure.en);
    let second = (!reasons.is_empty()).then(|| format!("               {}", reasons.join("; ")));
    let third = objective.journaled.as_ref().map(|journaled| {
        let other = (journaled.outcome != objective.outcome).then(|| format!(", {}", outcome_word(journaled.outcome)));
        let other = other.unwrap_or_default();
        format!("               last in the log: entry {}, {}{other}", journaled.sequence, journaled.at)
    });
    [Some(first), second, third].into_iter().flatten().map(|line| line.replace('\u{202f}', " ")).collect()
}

/// The certificates that expire soon, by probe, the soonest first; what observers see apart counts once.
fn expiring(status: &web::status::Status) -> Vec<(&ProbeId, Span)> {
    let mut soonest = BTreeMap::new();
    for probe in &status.probes {
        let Some(left) = probe.certificate_expires.map(|at| at.since(status.at)) else { continue };
        if left < EXPIRES_SOON {
            let known = soonest.entry(&probe.probe).or_insert(left);
            *known = left.min(*known);
        }
    }
    let mut soonest: Vec<_> = soonest.into_iter().collect();
    soonest.sort_by_key(|(_, left)| *left);
    soonest
}

/// The duration of a question: `12 ms`, `1.204 s`.
fn short(took: Span) -> String {
    let micros = took.micros();
    if micros < 10_000 {
        format!("{}.{} ms", micros / 1000, micros % 1000 / 100)
    } else if micros < 1_000_000 {
        format!("{} ms", micros / 1000)
    } else {
        format!("{}.{:03} s", micros / 1_000_000, micros % 1_000_000 / 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_reads() {
        let status: web::status::Status = serde_json::from_str(SAMPLE).expect("a status");
        insta::assert_snapshot!("a_status", lines(&status, 4711, false, |_, text| text).join("\n"));
        insta::assert_snapshot!("a_status_with_probes", lines(&status, 4711, true, |_, text| text).join("\n"));
    }

    const SAMPLE: &str = r#"{
        "version": "0.1.0", "at": 1795388400000000, "time_zone": "Europe/Paris", "publish": false, "revision": "fedcba9876543210",
        "reload_error": "the policy has 2 mistakes, the first in line 7 of garant.toml", "evaluated_at": 1795388398000000,
        "clock_behind": 5400000000,
        "journal": {
            "vkey": "shop.example/1+8a3c21f0+AX", "size": 304, "published_size": 302, "published_at": null,
            "witnesses": [], "fault": "no space left on device"
        },
        "services": [
            { "service": "shop", "title": { "fr": "La boutique", "en": "The shop" }, "state": "undecided",
              "since": 1795384740000000, "began_after": 1795384140000000,
              "unwatched": { "length": 1200000000, "last": { "start": 1795386000000000, "end": 1795387200000000 } }, "maintenance": { "until": 1795392000000000, "text": { "fr": "x", "en": "x" } },
              "details": [{ "probe": "shop-front", "observers": ["strasbourg.watch"], "text": "status 502" }] },
            { "service": "mail", "title": { "fr": "Le courrier", "en": "Mail" }, "state": "unknown", "since": null,
              "details": [] }
        ],
        "probes": [
            { "probe": "shop-front", "observer": "gravelines.watch", "state": "up", "since": 1795388340000000, "or_before": true,
              "at": 1795388395000000, "took": 61250,
              "phases": { "dns": 950, "connect": 2100, "tls": 15000, "first_byte": 40000, "body": 3200 },
              "certificate_expires": 1796079600000000 },
            { "probe": "shop-front", "observer": "strasbourg.watch", "state": "down", "since": 1795388340000000,
              "at": 1795388395000000, "took": 1204000,
              "phases": { "dns": 950 },
              "certificate_expires": null },
            { "probe": "old", "observer": "gravelines.watch", "state": "down", "since": null, "at": 1795388395000000,
              "took": 2000, "phases": { "dns": 0, "connect": 0, "tls": 0, "first_byte": 0, "body": 0 },
              "certificate_expires": 1795384800000000,
              "findings": [{ "finding": "disk-usage", "text": "disk of /srv 97.00 % used, threshold 90 %",
                             "since": 1795384800000000 }] },
            { "probe": "far", "observer": "gravelines.watch", "state": "up", "since": null, "at": 1795388395000000,
              "took": 2000, "phases": { "dns": 0, "connect": 0, "tls": 0, "first_byte": 0, "body": 0 },
              "certificate_expires": 1826924400000000 }
        ],
        "promises": [
            { "promise": "AV-1", "text": { "fr": "La boutique est disponible.", "en": "The shop is available." },
              "outcome": "broken", "objectives": [
                { "objective": 0, "measure": { "fr": "disponibilité sur 30 jours", "en": "availability over 30 days" },
                  "outcome": "unproven", "figure": { "unit": "ppb", "low": 990000000, "high": 999000000, "target": 999900000 },
                  "reasons": [
                    { "reason": "window_filling", "elapsed": 120000000, "length": 2592000000000 },
                    { "reason": "budget", "used_at_least": 1900000, "used_at_most": 9900000, "of": 2592000000 }
                  ],
                  "window": { "start": 1795388160000000, "end": 1795388280000000 },
                  "since": 1795388340000000, "at": 1795388340000000,
                  "journaled": { "sequence": 301, "at": 1795388340000000, "outcome": "kept" } },
                { "objective": 1, "measure": { "fr": "disponibilité sur 1 jour", "en": "availability over 1 day" },
                  "outcome": "broken", "figure": null, "reasons": [],
                  "window": { "start": 1795200000000000, "end": 1795286400000000 },
                  "since": 1795388340000000, "at": 1795388340000000,
                  "journaled": { "sequence": 302, "at": 1795388340000000, "outcome": "broken" } }
              ] }
        ],
        "engines": [
            { "engine": "watch", "healthy": false, "state": "restarting", "attempts": 3,
              "last_error": "it panicked", "since": 1795388340000000 }
        ]
    }"#;
}
