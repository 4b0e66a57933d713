//! Rules over the dependencies of the crates: which crate may use which.

use super::Breach;
use crate::workspace::{Crate, Use, Workspace};

/// The floor of each crate, as in ARCHITECTURE.md; engines are found by their folder. A crate without a floor is a breach of
/// [`floors`].
const FLOORS: &[(&str, u8)] = &[
    ("garant-event", 0),
    ("garant-drawn", 0),
    ("garant-strict-s3", 0),
    ("garant-journal", 1),
    ("garant-policy", 1),
    ("garant-promise", 2),
    ("garant-store", 2),
    ("garant-engine", 3),
    ("garant-web", ENGINES),
    ("garant", 5),
    ("garant-tests", OUTSIDE),
    ("garant-toy", OUTSIDE),
    ("garant-bench", OUTSIDE),
    ("xtask", OUTSIDE),
];
/// The floor of everything in `engines/`, and of `web`.
const ENGINES: u8 = 4;
/// The floor of tests, benchmarks and this program: they may use every crate, and none may use them.
const OUTSIDE: u8 = 6;

/// Crates that `garant verify` rests on.
const PURE: [&str; 4] = ["garant-event", "garant-journal", "garant-policy", "garant-promise"];
/// Packages that must not be in the trees of the [`PURE`] crates: network, databases, runtimes, TLS.
const IMPURE: &[&str] = &[
    "async-std",
    "axum",
    "hickory-proto",
    "hickory-resolver",
    "hyper",
    "hyper-util",
    "libsqlite3-sys",
    "mio",
    "native-tls",
    "openssl-sys",
    "reqwest",
    "rusqlite",
    "rustls",
    "smol",
    "socket2",
    "sqlx",
    "sqlx-core",
    "tokio",
    "tokio-postgres",
    "tokio-rustls",
    "ureq",
];
const SQL: &[&str] = &["diesel", "libsqlite3-sys", "rusqlite", "sea-orm", "sqlx", "tokio-postgres"];
const TOML: &[&str] = &["basic-toml", "toml", "toml_edit", "toml_parser"];
const HTTP_SERVERS: &[&str] = &["actix-web", "axum", "axum-server", "poem", "rocket", "warp"];
const HTTP_CLIENTS: &[&str] = &["attohttpc", "isahc", "reqwest", "ureq"];

/// The floor of a package; `None` for a crate that has none, and for those of others.
fn floor(workspace: &Workspace, package: &str) -> Option<u8> {
    let listed = FLOORS.iter().find(|(name, _)| *name == package).map(|&(_, floor)| floor);
    let is_engine = || workspace.crates.iter().any(|c| c.name == package && is_engine(c));
    listed.or_else(|| is_engine().then_some(ENGINES))
}

fn is_engine(found: &Crate) -> bool {
    found.folder.starts_with("engines/")
}

fn manifest(found: &Crate) -> String {
    format!("{}/Cargo.toml", found.folder)
}

/// Every dependency of a crate of the workspace on another of them, with the floors of both.
fn pairs(workspace: &Workspace) -> impl Iterator<Item = (&Crate, &Use, Option<u8>, Option<u8>)> {
    workspace.crates.iter().flat_map(move |user| {
        let inside = |used: &&Use| workspace.crates.iter().any(|found| found.name == used.package);
        user.uses
            .iter()
            .filter(inside)
            .map(move |used| (user, used, floor(workspace, &user.name), floor(workspace, &used.package)))
    })
}

pub(super) fn floors(workspace: &Workspace) -> Vec<Breach> {
    let unplaced = workspace.crates.iter().filter(|found| floor(workspace, &found.name).is_none());
    let unplaced = unplaced.map(|found| Breach::new(manifest(found), format!("`{}` has no floor", found.name)));
    let upward = pairs(workspace).filter_map(|(user, used, own, other)| {
        let (own, other) = (own?, other?);
        let allowed = other < own || (own == ENGINES && other == ENGINES);
        let what = || format!("`{}` (floor {own}) uses `{}` (floor {other})", user.name, used.package);
        (!allowed).then(|| Breach::new(manifest(user), what()))
    });
    unplaced.chain(upward).collect()
}

pub(super) fn engines_apart(workspace: &Workspace) -> Vec<Breach> {
    let sideways = pairs(workspace).filter(|(_, _, own, other)| *own == Some(ENGINES) && *other == Some(ENGINES));
    sideways
        .map(|(user, used, ..)| Breach::new(manifest(user), format!("`{}` uses `{}`", user.name, used.package)))
        .collect()
}

pub(super) fn pure_spine(workspace: &Workspace) -> Vec<Breach> {
    let spine = workspace.crates.iter().filter(|found| PURE.contains(&found.name.as_str()));
    spine
        .flat_map(|found| {
            let impure = IMPURE.iter().filter(|name| found.tree.contains(**name));
            impure.map(|name| Breach::new(manifest(found), format!("`{}` compiles in `{name}`", found.name)))
        })
        .collect()
}

/// Normal dependencies that are `forbidden`, in every crate but `owner`, those of the floor [`OUTSIDE`] and those that are there for
/// the tests of others.
fn named_elsewhere(workspace: &Workspace, owner: &str, forbidden: impl Fn(&Use) -> bool) -> Vec<Breach> {
    let is_outside =
        |found: &Crate| floor(workspace, &found.name) == Some(OUTSIDE) || found.folder.starts_with("tests/");
    let others = workspace.crates.iter().filter(|found| found.name != owner && !is_outside(found));
    others
        .flat_map(|found| {
            let named = found.uses.iter().filter(|used| !used.dev && forbidden(used));
            named.map(|used| {
                let features =
                    if used.features.is_empty() { String::new() } else { format!(" with {:?}", used.features) };
                Breach::new(manifest(found), format!("`{}` names `{}`{features}", found.name, used.package))
            })
        })
        .collect()
}

/// Whether a use of hyper or hyper-util turns on a feature of that side of a connection, `client` or `server`.
fn hyper_side(used: &Use, side: &str) -> bool {
    let asks = |feature: &String| feature.starts_with(side) || feature == "full";
    matches!(used.package.as_str(), "hyper" | "hyper-util") && used.features.iter().any(asks)
}

pub(super) fn sql_in_store(workspace: &Workspace) -> Vec<Breach> {
    named_elsewhere(workspace, "garant-store", |used| SQL.contains(&used.package.as_str()))
}

pub(super) fn toml_in_policy(workspace: &Workspace) -> Vec<Breach> {
    named_elsewhere(workspace, "garant-policy", |used| TOML.contains(&used.package.as_str()))
}

pub(super) fn http_server_in_web(workspace: &Workspace) -> Vec<Breach> {
    let server = |used: &Use| HTTP_SERVERS.contains(&used.package.as_str()) || hyper_side(used, "server");
    named_elsewhere(workspace, "garant-web", server)
}

pub(super) fn http_client_in_engine(workspace: &Workspace) -> Vec<Breach> {
    let client = |used: &Use| HTTP_CLIENTS.contains(&used.package.as_str()) || hyper_side(used, "client");
    named_elsewhere(workspace, "garant-engine", client)
}

pub(super) fn lints_inherited(workspace: &Workspace) -> Vec<Breach> {
    let inherits = |found: &&Crate| {
        let text = workspace.file(&manifest(found)).map_or("", |file| file.text.as_str());
        text.split("\n[").any(|section| section.starts_with("lints]") && section.contains("workspace = true"))
    };
    let without = workspace.crates.iter().filter(|found| !inherits(found));
    without.map(|found| Breach::new(manifest(found), format!("`{}` does not inherit the lints", found.name))).collect()
}
