//! The desk of respond: ten thousand services of a region fail at once, or each in a region of its own, and recover.
//!
//! There is no peer here: what Prometheus and Alertmanager do is measured from failure to message, in a run of its own.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use event::policy::Text;
use event::{ServiceId, Span, Time};
use policy::{Document, Nouns, Part as _};
use respond::act::{Sent, Severity};
use respond::config::Config;
use respond::detect::alert::{Opening, Signal, SignalState, Source};
use respond::detect::desk::{Desk, Now, Rules};

use crate::process::{now, resident_mb};
use crate::{Outcome, row};

const ALERTS: usize = 10_000;

pub(crate) fn run() -> Outcome {
    for (regions, wanted) in [(1, "≤ 1 s"), (100, "≤ 1 s"), (ALERTS, "–")] {
        measure(regions, wanted)?;
    }
    Ok(())
}

fn measure(regions: usize, wanted: &str) -> Outcome {
    let resident = || resident_mb(std::process::id()).ok_or("no memory figure");
    let rules = rules(regions)?;
    let services: Vec<ServiceId> =
        (0..ALERTS).map(|service| format!("s{service}").parse()).collect::<Result<_, _>>()?;
    let mut at = Time::from_secs(1_800_000_000);
    let clocks = |at| Now { steady: at, wall: at };
    let mut desk = Desk::new(Arc::clone(&rules), "0123456789abcdef".to_owned(), "key".to_owned());
    let before = resident()?;
    let begun = now();
    // As they come out of the journal: some at a time, with a turn after each.
    for some in services.chunks(100) {
        for service in some {
            let state = SignalState::Open(Box::new(opening(&rules, service, at)));
            desk.signal(Signal { key: format!("probe/{service}"), state }, clocks(at));
        }
        turn(&mut desk, clocks(at));
        at = at + Span::from_millis(50);
    }
    at = at + Span::from_secs(2);
    turn(&mut desk, clocks(at));
    let spent = begun.elapsed().as_secs_f64();
    row(&format!("{ALERTS} alerts of {regions} regions opened and grouped"), &format!("{spent:.2} s"), wanted);
    // The allocator gives nothing back: only the first run shows what it takes.
    if regions == 1 {
        row("resident memory for them", &format!("{:.0} MB", resident()? - before), "≤ 40 MB");
    }

    let begun = now();
    for _ in 0..100 {
        at = at + Span::from_secs(1);
        turn(&mut desk, clocks(at));
    }
    row("a turn while they fire", &format!("{:.1} ms", begun.elapsed().as_secs_f64() * 10.0), "–");

    let begun = now();
    for some in services.chunks(100) {
        for service in some {
            let state = SignalState::Over(at);
            desk.signal(Signal { key: format!("probe/{service}"), state }, clocks(at));
        }
        turn(&mut desk, clocks(at));
    }
    at = at + Span::from_secs(10);
    turn(&mut desk, clocks(at));
    row("all of them over", &format!("{:.2} s", begun.elapsed().as_secs_f64()), "–");
    Ok(())
}

/// What the engine does at each turn, with channels that take everything and a storage that costs nothing.
fn turn(desk: &mut Desk, at: Now) {
    desk.turn(at);
    for letter in desk.letters(at) {
        desk.sent(&letter, &Sent::Accepted { reference: None }, 0, at);
    }
    drop(desk.take_rows());
    drop(desk.take_notes());
}

fn rules(regions: usize) -> Result<Arc<Rules>, Box<dyn std::error::Error>> {
    let mut text = "[[person]]\nname = \"Lea\"\nchannel = [{ ntfy = \"https://ntfy.shop.example/t\" }]\n".to_owned();
    let hosts = (ALERTS / 100).max(regions);
    for region in 0..regions {
        write!(text, "[[region]]\nname = \"r{region}\"\nprovider = \"p\"\n")?;
    }
    for host in 0..hosts {
        write!(text, "[[host]]\nname = \"h{host}\"\nregion = \"r{}\"\n", host % regions)?;
    }
    for service in 0..ALERTS {
        write!(text, "[[service]]\nname = \"s{service}\"\nhost = [\"h{}\"]\n", service % hosts)?;
    }
    let mut document = Document::from_text("garant.toml", &text);
    let nouns = Nouns::read(&mut document);
    let config = Config::read(&mut document, &nouns);
    document.finish().map_err(|mistakes| format!("{mistakes:?}"))?;
    Ok(Arc::new(config.rules(Arc::new(Vec::new))))
}

fn opening(rules: &Rules, service: &ServiceId, at: Time) -> Opening {
    let hosts = rules.places.hosts(service, None);
    Opening {
        severity: Severity::Critical,
        title: Text { fr: format!("{service} : en panne"), en: format!("{service} is down") },
        detail: format!("{service} from local: refuses the connection"),
        region: rules.places.region(service, &hosts),
        hosts,
        services: BTreeSet::from([service.clone()]),
        shown_by: Some(at),
        ..Opening::bare(Source::Probe, at)
    }
}
