//! Rules over the text of sources and other files.

use super::Breach;
use crate::rust::{lines_with_word, mask};
use crate::workspace::{File, Workspace};

/// Macros of unfinished code, and of code that was written to look at something once.
const UNFINISHED: [&str; 3] = ["todo!", "unimplemented!", "dbg!"];
/// Words that mark unfinished work in comments.
const PROMISES_OF_WORK: [&str; 3] = ["TODO", "FIXME", "XXX"];
/// Names of files and folders that do not say what is in them.
const EMPTY_NAMES: [&str; 7] = ["common", "helper", "helpers", "misc", "shared", "util", "utils"];
/// Folders whose sources may hold no float: entries are made, kept and judged there.
const WHOLE_NUMBERS: [&str; 3] = ["flow/event/", "flow/journal/", "flow/promise/"];
/// Functions that clippy.toml must ban, since `engine::Context` provides what they do.
pub(super) const BANNED: [&str; 15] = [
    "std::time::SystemTime::now",
    "std::time::Instant::now",
    "tokio::time::Instant::now",
    "std::thread::sleep",
    "jiff::Timestamp::now",
    "jiff::Zoned::now",
    "getrandom::fill",
    "std::process::Command::new",
    "tokio::process::Command::new",
    "std::net::TcpStream::connect",
    "tokio::net::TcpStream::connect",
    "std::net::TcpListener::bind",
    "tokio::net::TcpListener::bind",
    "std::net::UdpSocket::bind",
    "tokio::net::UdpSocket::bind",
];
/// Longest source, but for tests, in lines.
const LINES_MAX: usize = 1500;

/// A breach for each line of `text` (of `file`, or masked) that holds one of `words`.
fn words(file: &File, text: &str, words: &[&str]) -> Vec<Breach> {
    let found = |word: &&str| {
        lines_with_word(text, word).into_iter().map(|line| (line, (*word).to_owned())).collect::<Vec<_>>()
    };
    words.iter().flat_map(found).map(|(line, word)| Breach::at(&file.path, line, format!("`{word}`"))).collect()
}

pub(super) fn finished(workspace: &Workspace) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for file in &workspace.files {
        if file.is_rust() {
            let masked = mask(&file.text);
            breaches.extend(words(file, &masked.code, &UNFINISHED));
            breaches.extend(words(file, &masked.comments, &PROMISES_OF_WORK));
            let ignored = masked.code.lines().enumerate().filter(|(_, line)| line.trim_start().starts_with("#[ignore"));
            breaches.extend(ignored.map(|(at, _)| Breach::at(&file.path, at + 1, "a test that never runs")));
        } else if !file.ends_in("md") {
            breaches.extend(words(file, &file.text, &PROMISES_OF_WORK));
        }
    }
    breaches
}

pub(super) fn expect_not_allow(workspace: &Workspace) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for file in workspace.rust() {
        let code = mask(&file.text).code;
        for (name, needs_reason) in [("[allow(", false), ("[expect(", true)] {
            for (at, _) in code.match_indices(name) {
                let attribute = code[at..].split(']').next().unwrap_or_default();
                if needs_reason && attribute.contains("reason") {
                    continue;
                }
                let line = code[..at].matches('\n').count() + 1;
                let what = if needs_reason { "an `expect` without a reason" } else { "an `allow`" };
                breaches.push(Breach::at(&file.path, line, what));
            }
        }
    }
    breaches
}

/// Whether a line of code holds a literal such as `0.5`; `pair.0.1` and `1..2` hold none.
fn holds_a_float(line: &str) -> bool {
    let bytes = line.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let points = line.match_indices('.').filter(|&(at, _)| at > 0 && digit(at - 1) && digit(at + 1));
    points.into_iter().any(|(at, _)| {
        let start = line[..at].rfind(|c: char| !c.is_alphanumeric() && c != '_').map_or(0, |before| before + 1);
        digit(start) && !line[..start].ends_with('.')
    })
}

/// Fenced blocks in documentation that rustdoc would take for code.
pub(super) fn doc_examples(workspace: &Workspace) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for file in workspace.rust() {
        let mut inside = false;
        for (at, line) in file.text.lines().enumerate() {
            let line = line.trim_start();
            let documentation = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"));
            let Some(fence) = documentation.and_then(|text| text.trim_start().strip_prefix("```")) else { continue };
            let language = fence.split(',').next().unwrap_or_default();
            if !inside && matches!(language, "" | "rust" | "no_run" | "should_panic" | "compile_fail" | "ignore") {
                breaches.push(Breach::at(&file.path, at + 1, "an example that nobody compiles"));
            }
            inside = !inside;
        }
    }
    breaches
}

pub(super) fn no_floats(workspace: &Workspace) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for file in workspace.rust().filter(|file| WHOLE_NUMBERS.iter().any(|folder| file.path.starts_with(folder))) {
        let code = mask(&file.text).code;
        breaches.extend(words(file, &code, &["f32", "f64"]));
        let literals = code.lines().enumerate().filter(|(_, line)| holds_a_float(line));
        breaches.extend(literals.map(|(at, line)| Breach::at(&file.path, at + 1, format!("`{}`", line.trim()))));
    }
    breaches
}

pub(super) fn no_common(workspace: &Workspace) -> Vec<Breach> {
    let empty =
        |file: &&File| file.path.split('/').any(|part| EMPTY_NAMES.contains(&part.strip_suffix(".rs").unwrap_or(part)));
    workspace.rust().filter(empty).map(|file| Breach::new(&file.path, "a module named after nothing")).collect()
}

pub(super) fn word_page(workspace: &Workspace) -> Vec<Breach> {
    workspace.rust().flat_map(|file| words(file, &mask(&file.text).code, &["page", "Page"])).collect()
}

/// Errors of libraries, and how one is shown as it is: on the line that names its type, or on the next.
const LIBRARY_ERRORS: [&str; 7] =
    ["rusqlite::Error", "hyper::Error", "NetError", "rustls::Error", "webpki::Error", "pem::Error", "url::ParseError"];
const SHOWN: [&str; 6] = [".to_string()", "{error}", "{error:?}", "%error", "?error", "\"{0}\""];

pub(super) fn words_of_libraries(workspace: &Workspace) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for file in workspace
        .rust()
        .filter(|file| !file.is_test() && !file.path.ends_with("words.rs") && !file.path.starts_with("xtask/"))
    {
        let lines: Vec<&str> = file.text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let Some(name) = LIBRARY_ERRORS.iter().find(|name| line.contains(**name)) else { continue };
            let around = lines.get(at.saturating_sub(1)..lines.len().min(at + 2)).unwrap_or_default();
            if around.iter().any(|line| SHOWN.iter().any(|shown| line.contains(shown))) {
                breaches.push(Breach::at(&file.path, at + 1, format!("a `{name}` in its own words")));
            }
        }
    }
    breaches
}

pub(super) fn short_files(workspace: &Workspace) -> Vec<Breach> {
    let long = workspace.rust().filter(|file| !file.is_test() && file.text.lines().count() > LINES_MAX);
    long.map(|file| Breach::new(&file.path, format!("{} lines", file.text.lines().count()))).collect()
}

pub(super) fn clean_text(workspace: &Workspace) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for file in &workspace.files {
        if !file.text.is_empty() && (!file.text.ends_with('\n') || file.text.ends_with("\n\n")) {
            breaches.push(Breach::new(&file.path, "does not end with exactly one newline"));
        }
        if let Some(at) = file.text.split('\n').position(|line| line.ends_with('\r')) {
            breaches.push(Breach::at(&file.path, at + 1, "a carriage return"));
        }
    }
    breaches
}

pub(super) fn no_place_names(workspace: &Workspace) -> Vec<Breach> {
    // A checkout directly below the root directory has a path that may well be an ordinary word.
    if workspace.root.matches('/').count() < 2 {
        return Vec::new();
    }
    let naming = |file: &File| file.text.lines().position(|line| line.contains(&workspace.root));
    let named = workspace.files.iter().filter_map(|file| naming(file).map(|at| (file, at)));
    named.map(|(file, at)| Breach::at(&file.path, at + 1, "the path of this checkout")).collect()
}

pub(super) fn bans_complete(workspace: &Workspace) -> Vec<Breach> {
    const PLACE: &str = "clippy.toml";
    let text = workspace.file(PLACE).map_or("", |file| file.text.as_str());
    let listed = |path: &str| {
        let ban = format!("path = \"{path}\"");
        text.lines().any(|line| line.contains(&ban) && !line.trim_start().starts_with('#'))
    };
    let open = BANNED.into_iter().filter(|path| !listed(path));
    open.map(|path| Breach::new(PLACE, format!("does not ban `{path}`"))).collect()
}

pub(super) fn bans_say_why(workspace: &Workspace) -> Vec<Breach> {
    let Some(file) = workspace.file("clippy.toml") else { return Vec::new() };
    let silent = |line: &str| line.contains("path = ") && !line.contains("reason = ");
    let lines = file.text.lines().enumerate().filter(|(_, line)| silent(line));
    lines.map(|(at, line)| Breach::at(&file.path, at + 1, line.trim().to_owned())).collect()
}
