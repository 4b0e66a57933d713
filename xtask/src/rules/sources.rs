//! Rules over the text of files.

use super::Breach;
use crate::house::{File, House};
use crate::rust::{lines_with_word, mask};

/// Macros that stand for code that was not written, or was written to look at something once.
const UNFINISHED: [&str; 3] = ["todo!", "unimplemented!", "dbg!"];
/// Words by which comments promise work.
const PROMISES_OF_WORK: [&str; 3] = ["TODO", "FIXME", "XXX"];
/// Names of modules that say nothing.
const EMPTY_NAMES: [&str; 7] = ["common", "helper", "helpers", "misc", "shared", "util", "utils"];
const LINES_MAX: usize = 1500;

/// Breaches for each line of `text` that holds one of `words`.
fn words(file: &File, text: &str, words: &[&str]) -> Vec<Breach> {
    let found = |word: &&str| {
        lines_with_word(text, word).into_iter().map(|line| (line, (*word).to_owned())).collect::<Vec<_>>()
    };
    words.iter().flat_map(found).map(|(line, word)| Breach::at(&file.path, line, format!("`{word}`"))).collect()
}

pub(super) fn finished(house: &House) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for file in &house.files {
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

pub(super) fn expect_not_allow(house: &House) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for file in house.rust() {
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

pub(super) fn no_common(house: &House) -> Vec<Breach> {
    let empty =
        |file: &&File| file.path.split('/').any(|part| EMPTY_NAMES.contains(&part.strip_suffix(".rs").unwrap_or(part)));
    house.rust().filter(empty).map(|file| Breach::new(&file.path, "a module named after nothing")).collect()
}

pub(super) fn word_page(house: &House) -> Vec<Breach> {
    house.rust().flat_map(|file| words(file, &mask(&file.text).code, &["page", "Page"])).collect()
}

pub(super) fn short_files(house: &House) -> Vec<Breach> {
    let long = house.rust().filter(|file| !file.is_test() && file.text.lines().count() > LINES_MAX);
    long.map(|file| Breach::new(&file.path, format!("{} lines", file.text.lines().count()))).collect()
}

pub(super) fn clean_text(house: &House) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for file in &house.files {
        if !file.text.is_empty() && (!file.text.ends_with('\n') || file.text.ends_with("\n\n")) {
            breaches.push(Breach::new(&file.path, "does not end with exactly one newline"));
        }
        if let Some(at) = file.text.split('\n').position(|line| line.ends_with('\r')) {
            breaches.push(Breach::at(&file.path, at + 1, "a carriage return"));
        }
    }
    breaches
}

pub(super) fn no_place_names(house: &House) -> Vec<Breach> {
    // A checkout directly below the root directory has a path that may well be an ordinary word.
    if house.root.matches('/').count() < 2 {
        return Vec::new();
    }
    let naming = |file: &File| file.text.lines().position(|line| line.contains(&house.root));
    let named = house.files.iter().filter_map(|file| naming(file).map(|at| (file, at)));
    named.map(|(file, at)| Breach::at(&file.path, at + 1, "the path of this checkout")).collect()
}

pub(super) fn bans_say_why(house: &House) -> Vec<Breach> {
    let Some(file) = house.file("clippy.toml") else { return Vec::new() };
    let silent = |line: &str| line.contains("path = ") && !line.contains("reason = ");
    let lines = file.text.lines().enumerate().filter(|(_, line)| silent(line));
    lines.map(|(at, line)| Breach::at(&file.path, at + 1, line.trim().to_owned())).collect()
}
