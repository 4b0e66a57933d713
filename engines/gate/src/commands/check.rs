//! `garant gate check`: whether the sites of a policy could be served from this host, before anybody serves them.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Arg, ArgMatches, value_parser};
use engine::Failure;
use engine::command::{CommandContext, Question, Style, list, text};
use policy::{Document, Nouns, Part as _};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::json_flag;
use crate::checks::{ask, judged};
use crate::config::Config;
use crate::door::API;
use crate::plan::Plan;
use crate::ports::{self, bind};
use crate::pump::Fault;
use crate::settings::{Site, Upstream};
use crate::tls::{Shown, Tls};

/// Upstreams that are asked at once.
const AT_ONCE: usize = 16;

pub(super) fn arguments() -> clap::Command {
    clap::Command::new("check")
        .about("Check the sites of a policy from this host: certificates and keys, files, upstreams, addresses to listen at")
        .arg(
            Arg::new("policy")
                .long("policy")
                .value_name("FILE")
                .default_value("garant.toml")
                .env("GARANT_POLICY")
                .value_parser(value_parser!(PathBuf))
                .help("The policy file; `conf.d/*.toml` beside it is read as well"),
        )
        .arg(json_flag())
}

pub(super) fn run(matches: &ArgMatches, context: &mut dyn CommandContext) -> Result<u8, Failure> {
    let path = matches.get_one::<PathBuf>("policy").cloned().unwrap_or_default();
    let unreadable = |why: String| {
        Failure::new(format!("the policy {} can't be read", path.display())).because(&Failure::new(why)).code(2)
    };
    let written = std::fs::read_to_string(&path).map_err(|error| unreadable(error.to_string()))?;
    context.judge(&path, &written)?;
    let mut document = Document::load(&path).map_err(|mistakes| unreadable(mistakes.render(false)))?;
    let nouns = Nouns::read(&mut document);
    let Some(desired) = Config::read(&mut document, &nouns).desired() else {
        return Err(Failure::new(format!("the policy {} has no [[site]]", path.display()))
            .remedy("describe one as docs/policy.md does: `[[site]]`"));
    };
    let mut problems = Vec::new();
    drop(Plan::of(&desired, &Plan::default(), &mut problems));
    let means = context.means()?;
    let mut tls = Tls::default();
    let now = means.clock.now();
    drop(tls.configure(&desired.sites, &means.secrets, now, &mut problems));
    for (domain, shown) in tls.shown(&desired.sites, now) {
        if let Shown::Wrong { why, .. } = shown {
            problems.push(format!("the certificate of {domain} is none that a browser takes: {why}"));
        }
    }
    let mut found = Vec::new();
    context.wait(Box::pin(async {
        for site in &desired.sites {
            found.push((site.domain.clone(), reached(site).await));
        }
    }))?;
    for (site, upstreams) in &found {
        for (address, why) in upstreams {
            problems.extend(why.as_ref().map(|why| format!("{site}: the upstream {address} does not work: {why}")));
        }
    }
    let of_gate = listened_at(matches, context);
    let wanted = desired.gate.http.iter().chain(&desired.gate.https).filter(|address| !of_gate.contains(*address));
    problems.extend(wanted.filter_map(|address| unavailable(*address)));
    if matches.get_flag("json") {
        let sites: Vec<Value> = found
            .iter()
            .map(|(site, upstreams)| {
                let upstream = |(address, why): &(SocketAddr, Option<String>)| {
                    json!({ "upstream": address.to_string(), "reached": why.is_none(), "reason": why })
                };
                json!({ "site": site, "upstreams": upstreams.iter().map(upstream).collect::<Vec<_>>() })
            })
            .collect();
        context.json(&json!({ "sites": sites, "problems": problems }));
        return Ok(u8::from(!problems.is_empty()));
    }
    for (site, upstreams) in &found {
        let count = upstreams.len();
        let reached = upstreams.iter().filter(|(_, why)| why.is_none()).count();
        let style = if reached == count { Style::Good } else { Style::Bad };
        let figure = context.painted(style, &format!("{reached} of {count}"));
        context.line(&format!("{site}: {figure} upstreams work, as seen from here"));
    }
    for problem in &problems {
        context.note(problem);
    }
    Ok(u8::from(!problems.is_empty()))
}

/// Where the gate of this host listens: nowhere, if none runs or answers this user.
fn listened_at(matches: &ArgMatches, context: &mut dyn CommandContext) -> Vec<SocketAddr> {
    let status = context.ask_gate(super::socket(matches), Question::get(API).segment("status"));
    let status: Option<Value> = status.ok().and_then(|answer| answer.json().ok());
    let listeners = status.iter().flat_map(|status| list(status, "listeners"));
    listeners.filter_map(|listener| text(listener, "address").parse().ok()).collect()
}

/// Why a gate could not listen at an address. A user who may not bind low ports does not know of these: the gate may.
fn unavailable(address: SocketAddr) -> Option<String> {
    let error = bind(address).err()?;
    (error.kind() != ErrorKind::PermissionDenied).then(|| ports::problem(address, &error))
}

/// The upstreams of a site, each with the reason why it does not work, as the gate itself would find.
async fn reached(site: &Site) -> Vec<(SocketAddr, Option<String>)> {
    let of_routes = site.routes.iter().flat_map(|route| &route.upstreams);
    let upstreams: Vec<&Upstream> = site.upstreams.iter().chain(of_routes).collect();
    let mut found = Vec::new();
    for upstreams in upstreams.chunks(AT_ONCE) {
        let task = |upstream: &&Upstream| {
            let (site, address, protocol) = (site.clone(), upstream.address, upstream.protocol);
            let asking = async move { timeout(site.check_within.to_std(), ask(&site, address, protocol)).await };
            (address, tokio::spawn(asking))
        };
        let tasks: Vec<_> = upstreams.iter().map(task).collect();
        for (address, task) in tasks {
            let outcome = task.await.map(|outcome| judged(outcome.unwrap_or(Err(Fault::Late))));
            found.push((address, outcome.map_err(|error| error.to_string()).flatten().err()));
        }
    }
    found
}
