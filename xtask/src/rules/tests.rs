//! Each rule is broken once: a sound workspace of a few lines, and one change to it at a time.

use super::*;
use crate::workspace::{Crate, File, Use, Workspace};
use std::path::Path;

fn uses(package: &str, features: &[&str]) -> Use {
    Use { package: package.to_owned(), dev: false, features: features.iter().map(|f| (*f).to_owned()).collect() }
}

fn build(name: &str, folder: &str, used: Vec<Use>) -> Crate {
    let tree = used.iter().map(|used| used.package.clone()).collect();
    Crate { name: name.to_owned(), folder: folder.to_owned(), uses: used, tree }
}

fn write(workspace: &mut Workspace, path: &str, text: &str) {
    workspace.files.retain(|file| file.path != path);
    workspace.files.push(File { path: path.to_owned(), text: text.to_owned() });
}

/// A workspace in which every rule holds.
fn sound() -> Workspace {
    let mut workspace = Workspace { root: "/home/somebody/garant".to_owned(), ..Workspace::default() };
    workspace.crates = vec![
        build("garant-event", "flow/event", vec![uses("serde", &[])]),
        build("garant-journal", "flow/journal", vec![uses("garant-event", &[])]),
        build("garant-store", "flow/store", vec![uses("garant-event", &[]), uses("rusqlite", &[])]),
        build("garant-engine", "flow/engine", vec![uses("garant-store", &[]), uses("hyper", &["client"])]),
        build("garant-watch", "engines/watch", vec![uses("garant-engine", &[])]),
        build("garant-web", "web", vec![uses("garant-engine", &[]), uses("hyper", &["server"]), uses("axum", &[])]),
        build("garant-tests", "tests", vec![uses("garant-journal", &[]), uses("hyper", &["client", "server"])]),
    ];
    let folders: Vec<String> = workspace.crates.iter().map(|c| c.folder.clone()).collect();
    for folder in &folders {
        write(
            &mut workspace,
            &format!("{folder}/Cargo.toml"),
            "[package]\nname = \"x\"\n\n[lints]\nworkspace = true\n",
        );
    }
    let map = format!("`{}/`\n", folders.join("/`\n`"));
    let bans = sources::BANNED.map(|path| format!("  {{ path = \"{path}\", reason = \"so\" }},\n")).concat();
    for (path, text) in [
        ("Cargo.toml", "[workspace.package]\nversion = \"0.1.0\"\n"),
        ("ARCHITECTURE.md", map.as_str()),
        ("CHANGELOG.md", "# Changes\n\n## 0.1.0\n"),
        (
            "SECURITY.md",
            "## Which test shows it\n\n| attack | test |\n|---|---|\n| `x` | `status_page` |\n\n## Then\n| `y` |\n",
        ),
        ("README.md", "# One\n\nA [map](ARCHITECTURE.md).\n\n```sh\nrun it  # now\n```\n"),
        ("README.fr.md", "# Un\n\n```sh\nrun it  # maintenant\n```\n"),
        ("docs/log.md", "`evidence.changed`: a change. See [promises](promises.md#ids).\n"),
        ("docs/promises.md", "| id | promise |\n|---|---|\n| AV-1 | up |\n| AV-2 | a pair |\n"),
        ("clippy.toml", &format!("disallowed-methods = [\n{bans}]\n")),
        // Whole numbers, two fields of pairs, a range, a comment and a string.
        ("flow/promise/src/lib.rs", "let a = b.0.1 + 1_000 + c[0..9].len(); // 0.5 of f64\nlet d = \"0.5\";\n"),
        (
            "flow/event/src/watch.rs",
            "const KIND: Kind = Kind::public(\"evidence.changed\", F);\n// Never `todo!` here.\n",
        ),
        ("web/src/trust_page.rs", "#[expect(lint, reason = \"page\")]\nfn status_page() {}\n"),
    ] {
        write(&mut workspace, path, text);
    }
    workspace
}

fn the_crate<'a>(workspace: &'a mut Workspace, name: &str) -> &'a mut Crate {
    workspace.crates.iter_mut().find(|found| found.name == name).expect(name)
}

type Change = fn(&mut Workspace);

/// (the rule that must notice, where it must point, what was done to the workspace)
const CHANGES: &[(&str, &str, Change)] = &[
    ("floors", "flow/event/Cargo.toml", |h| the_crate(h, "garant-event").uses.push(uses("garant-journal", &[]))),
    ("floors", "flow/store/Cargo.toml", |h| the_crate(h, "garant-store").uses.push(uses("garant-engine", &[]))),
    ("floors", "flow/journal/Cargo.toml", |h| {
        // A test of a low crate must not look up either.
        the_crate(h, "garant-journal").uses.push(Use { dev: true, ..uses("garant-store", &[]) });
    }),
    ("floors", "flow/new/Cargo.toml", |h| {
        h.crates.push(build("garant-new", "flow/new", vec![]));
        write(h, "flow/new/Cargo.toml", "[package]\n\n[lints]\nworkspace = true\n");
        let map = format!("{}`flow/new/`\n", h.file("ARCHITECTURE.md").expect("the map").text);
        write(h, "ARCHITECTURE.md", &map);
    }),
    ("engines-apart", "engines/watch/Cargo.toml", |h| the_crate(h, "garant-watch").uses.push(uses("garant-web", &[]))),
    ("pure-spine", "flow/journal/Cargo.toml", |h| {
        // Not named by the crate, but by something it uses.
        the_crate(h, "garant-journal").tree.insert("tokio".to_owned());
    }),
    ("sql-in-store", "web/Cargo.toml", |h| the_crate(h, "garant-web").uses.push(uses("rusqlite", &[]))),
    ("toml-in-policy", "web/Cargo.toml", |h| the_crate(h, "garant-web").uses.push(uses("toml", &["parse"]))),
    ("http-server-in-web", "flow/engine/Cargo.toml", |h| the_crate(h, "garant-engine").uses.push(uses("axum", &[]))),
    ("http-server-in-web", "flow/engine/Cargo.toml", |h| {
        the_crate(h, "garant-engine").uses.push(uses("hyper-util", &["server-auto"]));
    }),
    ("http-client-in-engine", "web/Cargo.toml", |h| the_crate(h, "garant-web").uses.push(uses("hyper", &["client"]))),
    ("lints-inherited", "web/Cargo.toml", |h| write(h, "web/Cargo.toml", "[lints]\n[x]\nworkspace = true\n")),
    ("finished", "web/src/lib.rs:2", |h| write(h, "web/src/lib.rs", "fn a() {\n    todo!()\n}\n")),
    ("finished", "web/src/lib.rs:1", |h| write(h, "web/src/lib.rs", "// FIXME: later\n")),
    ("finished", "web/src/lib.rs:2", |h| write(h, "web/src/lib.rs", "#[test]\n#[ignore = \"slow\"]\nfn a() {}\n")),
    ("finished", "scripts/test:2", |h| write(h, "scripts/test", "#!/bin/sh\n# TODO\n")),
    ("expect-not-allow", "web/src/lib.rs:2", |h| write(h, "web/src/lib.rs", "\n#![allow(dead_code)]\n")),
    ("expect-not-allow", "web/src/lib.rs:1", |h| write(h, "web/src/lib.rs", "#[expect(dead_code)]\nfn reason() {}\n")),
    ("doc-examples", "web/src/lib.rs:2", |h| write(h, "web/src/lib.rs", "//! A.\n//! ```\n//! a();\n//! ```\n")),
    ("doc-examples", "web/src/lib.rs:3", |h| {
        write(h, "web/src/lib.rs", "/// ```text\n/// ```\n/// ```rust\n/// ```\n");
    }),
    ("no-floats", "flow/event/src/time.rs:2", |h| write(h, "flow/event/src/time.rs", "\nfn a() -> f64;\n")),
    ("no-floats", "flow/journal/src/a.rs:1", |h| write(h, "flow/journal/src/a.rs", "let x: f32;\n")),
    ("no-floats", "flow/promise/src/a.rs:1", |h| write(h, "flow/promise/src/a.rs", "let x = 3 as X * 99.9;\n")),
    ("no-common", "web/src/utils.rs", |h| write(h, "web/src/utils.rs", "\n")),
    ("no-common", "tests/common/mod.rs", |h| write(h, "tests/common/mod.rs", "\n")),
    ("words-of-libraries", "flow/store/src/lib.rs:1", |h| {
        write(h, "flow/store/src/lib.rs", "|error: rusqlite::Error| E {\n    reason: error.to_string(),\n};\n");
    }),
    ("word-page", "web/src/lib.rs:1", |h| write(h, "web/src/lib.rs", "let page = 1;\n")),
    ("short-files", "web/src/lib.rs", |h| write(h, "web/src/lib.rs", &"a();\n".repeat(1501))),
    ("clean-text", "web/src/lib.rs", |h| write(h, "web/src/lib.rs", "fn a() {}")),
    ("clean-text", "web/src/lib.rs", |h| write(h, "web/src/lib.rs", "fn a() {}\n\n")),
    ("clean-text", "a.txt:1", |h| write(h, "a.txt", "a\r\nb\n")),
    ("no-place-names", "a.txt:2", |h| write(h, "a.txt", "see\n/home/somebody/garant/web\n")),
    ("bans-say-why", "clippy.toml:1", |h| {
        let bans = h.file("clippy.toml").expect("the bans").text.clone();
        write(h, "clippy.toml", &format!("x = [{{ path = \"a::b\" }}]\n{bans}"));
    }),
    ("bans-complete", "clippy.toml", |h| {
        let bans = h.file("clippy.toml").expect("the bans").text.clone();
        write(
            h,
            "clippy.toml",
            &bans.replace("  { path = \"std::thread::sleep\"", "# { path = \"std::thread::sleep\""),
        );
    }),
    ("kinds-documented", "docs/log.md", |h| {
        write(h, "flow/event/src/engine.rs", "const KIND: Kind = Kind::team(\"engine.new\", F);\n");
    }),
    ("kinds-documented", "flow/event/src", |h| write(h, "flow/event/src/watch.rs", "\n")),
    ("promise-ids", "docs/promises.md:2", |h| write(h, "docs/promises.md", "| AV-1 | a |\n| AV-1 | b |\n")),
    ("promise-ids", "docs/promises.md", |h| write(h, "docs/promises.md", "none\n")),
    ("our-own-words", "docs/promises.md:5", |h| {
        // One of the names is also a word of style sheets.
        write(h, "docs/promises.md", "| AV-1 | a |\n\n\n\nas Z-Index does\n");
    }),
    ("readme-mirrored", "README.fr.md", |h| write(h, "README.fr.md", "# Un\n\n```sh\nrun  # maintenant\n```\n")),
    ("readme-mirrored", "README.fr.md", |h| write(h, "README.fr.md", "# Un\n\n```sh\nrun it\n```\n\n## Deux\n")),
    ("change-log", "CHANGELOG.md", |h| write(h, "CHANGELOG.md", "# Changes\n\n## 0.0.9\n")),
    ("links-lead-somewhere", "docs/x.md:1", |h| write(h, "docs/x.md", "[a](../README.md) [b](gone.md)\n")),
    ("attacks-tested", "SECURITY.md:4", |h| {
        write(h, "SECURITY.md", "## Which test shows it\n|---|\n| a | `status_page` |\n| a | `gone` |\n");
    }),
    ("map-complete", "ARCHITECTURE.md", |h| write(h, "ARCHITECTURE.md", "# Map\n")),
];

#[test]
fn the_sound_workspace_breaks_no_rule() {
    let report = report(&sound());
    assert_eq!(report.breaches, 0, "{}", report.text);
}

#[test]
fn every_change_is_noticed_by_its_rule_at_its_place_and_by_no_other() {
    for (at, (name, place, change)) in CHANGES.iter().enumerate() {
        let mut workspace = sound();
        change(&mut workspace);
        for rule in ALL {
            let breaches = (rule.broken)(&workspace);
            if rule.name == *name {
                assert!(
                    breaches.iter().any(|b| b.place == *place),
                    "change {at} at {place}: {name} found {breaches:?}"
                );
            } else {
                assert!(breaches.is_empty(), "change {at} was for {name}, and {} found {breaches:?}", rule.name);
            }
        }
        assert!(report(&workspace).text.contains(rule_named(name).instead), "the report says what to do");
    }
}

fn rule_named(name: &str) -> &'static Rule {
    ALL.iter().find(|rule| rule.name == name).expect(name)
}

#[test]
fn every_rule_is_shown_being_broken() {
    for rule in ALL {
        assert!(CHANGES.iter().any(|(name, ..)| *name == rule.name), "no change shows that `{}` works", rule.name);
    }
}

/// The same through cargo and the file system: a workspace in which `event` compiles in a runtime, through another crate.
#[test]
fn a_broken_workspace_on_disk_is_reported() {
    let folder = tempfile::tempdir().expect("a folder");
    let put = |path: &str, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().expect("has a parent")).expect("folders");
        std::fs::write(path, text).expect("written");
    };
    let member = |name: &str, uses: &str| {
        format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[dependencies]\n{uses}\n")
    };
    put("Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"flow/event\"]\nexclude = [\"vendor\"]\n");
    put("flow/event/Cargo.toml", &member("garant-event", "middle = { path = \"../../vendor/middle\" }"));
    put("flow/event/src/lib.rs", "");
    put("vendor/middle/Cargo.toml", &member("middle", "tokio = { path = \"../tokio\" }"));
    put("vendor/middle/src/lib.rs", "");
    put("vendor/tokio/Cargo.toml", &member("tokio", ""));
    put("vendor/tokio/src/lib.rs", "// XXX\n");
    put("target/generated.rs", "todo!()");

    let workspace = Workspace::load(folder.path()).expect("cargo reads it");
    let text = report(&workspace).text;
    for line in [
        "flow/event/Cargo.toml: `garant-event` compiles in `tokio`",
        "flow/event/Cargo.toml: `garant-event` does not inherit the lints",
        "vendor/tokio/src/lib.rs:1: `XXX`",
    ] {
        assert!(text.contains(line), "`{line}` is missing in\n{text}");
    }
    assert!(!text.contains("target/"), "what was generated is not read:\n{text}");

    let mut written = Vec::new();
    assert_eq!(crate::tidy(&workspace, &mut written), Ok(false), "the program fails");
    assert_eq!(String::from_utf8(written).expect("text"), text);
}

/// Arguments for a call of each banned function.
const CALLS: [(&str, &str); sources::BANNED.len()] = [
    ("std::time::SystemTime::now", "()"),
    ("std::time::Instant::now", "()"),
    ("tokio::time::Instant::now", "()"),
    ("std::thread::sleep", "(std::time::Duration::ZERO)"),
    ("jiff::Timestamp::now", "()"),
    ("jiff::Zoned::now", "()"),
    ("getrandom::fill", "()"),
    ("std::process::Command::new", "(\"a\")"),
    ("tokio::process::Command::new", "()"),
    ("std::net::TcpStream::connect", "(\"a\")"),
    ("tokio::net::TcpStream::connect", "()"),
    ("std::net::TcpListener::bind", "(\"a\")"),
    ("tokio::net::TcpListener::bind", "()"),
    ("std::net::UdpSocket::bind", "(\"a\")"),
    ("tokio::net::UdpSocket::bind", "()"),
];

/// clippy, with our clippy.toml, refuses each banned function in a crate that calls them all. The crates of others are
/// stand-ins with the same paths: a ban knows no more of them.
#[test]
fn clippy_refuses_every_banned_function() {
    let folder = tempfile::tempdir().expect("a folder");
    let put = |path: &str, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().expect("has a parent")).expect("folders");
        std::fs::write(path, text).expect("written");
    };
    let package = |name: &str| format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n");
    let ty = |name: &str, method: &str| format!("pub struct {name}; impl {name} {{ pub fn {method}() {{}} }}\n");
    put("jiff/src/lib.rs", &(ty("Timestamp", "now") + &ty("Zoned", "now")));
    put("getrandom/src/lib.rs", "pub fn fill() {}\n");
    let net = ty("TcpStream", "connect") + &ty("TcpListener", "bind") + &ty("UdpSocket", "bind");
    let (time, process) = (ty("Instant", "now"), ty("Command", "new"));
    put(
        "tokio/src/lib.rs",
        &format!("pub mod time {{ {time} }} pub mod process {{ {process} }} pub mod net {{ {net} }}\n"),
    );
    let others = ["jiff", "getrandom", "tokio"];
    for name in others {
        put(&format!("{name}/Cargo.toml"), &package(name));
    }
    let uses: String = others.map(|name| format!("{name} = {{ path = \"{name}\" }}\n")).concat();
    put("Cargo.toml", &format!("{}[dependencies]\n{uses}[workspace]\n", package("caller")));
    let calls: Vec<String> = CALLS.iter().map(|(path, with)| format!("    drop({path}{with});\n")).collect();
    put("src/lib.rs", &format!("pub fn call() {{\n{}}}\n", calls.concat()));

    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a folder of the workspace");
    #[expect(clippy::disallowed_methods, reason = "the lint is a program")]
    let output = std::process::Command::new(env!("CARGO"))
        .args(["clippy", "--quiet", "--offline", "--message-format", "short"])
        .current_dir(folder.path())
        .env("CLIPPY_CONF_DIR", root)
        .env("CARGO_TARGET_DIR", folder.path().join("target"))
        .output()
        .expect("cargo starts");
    let said = String::from_utf8_lossy(&output.stderr);
    for path in sources::BANNED {
        let ban = format!("use of a disallowed method `{path}`");
        assert!(said.contains(&ban), "clippy lets `{path}` pass:\n{said}");
    }
}

#[test]
fn this_workspace_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a folder of the workspace");
    let report = report(&Workspace::load(root).expect("cargo reads it"));
    assert_eq!(report.breaches, 0, "\n{}", report.text);
}
