//! Rules over the documents, and over what they say of the code.

use std::collections::{BTreeMap, BTreeSet};

use super::Breach;
use crate::workspace::{File, Workspace};

/// FNV-1a hashes of the lower-case names that no document may hold; hashes, so that this file holds none of them either.
const NAMES: [u64; 9] = [
    0xf924_3410_cd9f_5190,
    0x4c4e_5ab9_2dba_9123,
    0x9ebf_7b0b_391e_fdf0,
    0x56a0_a705_ea99_2abb,
    0x0e11_a703_50b4_3808,
    0x748b_587f_761d_8a1c,
    0x26cf_94b7_d6fb_1d33,
    0x004c_c0d4_4e5b_a3cd,
    0x0d71_9736_878e_440f,
];

/// The breach of a rule whose document does not exist.
fn missing(path: &str) -> Vec<Breach> {
    vec![Breach::new(path, "is not there")]
}

/// The names of kinds declared in `event`: the first string after `Kind::public(` or `Kind::team(`.
fn kinds(workspace: &Workspace) -> BTreeSet<&str> {
    let sources = workspace.rust().filter(|file| file.path.starts_with("flow/event/src/"));
    let declared = sources.flat_map(|file| {
        let text = file.text.as_str();
        let starts = ["Kind::public(", "Kind::team("].into_iter().flat_map(|start| text.match_indices(start));
        starts.filter_map(|(at, start)| text[at + start.len()..].strip_prefix('"')?.split('"').next())
    });
    declared.collect()
}

pub(super) fn kinds_documented(workspace: &Workspace) -> Vec<Breach> {
    const PLACE: &str = "docs/log.md";
    let Some(document) = workspace.file(PLACE) else { return missing(PLACE) };
    let kinds = kinds(workspace);
    if kinds.is_empty() {
        return vec![Breach::new(
            "flow/event/src",
            "declares no kind in the form `Kind::public(\"…\"` or `Kind::team(\"…\"`",
        )];
    }
    let silent = kinds.into_iter().filter(|kind| !document.text.contains(&format!("`{kind}`")));
    silent.map(|kind| Breach::new(PLACE, format!("says nothing of `{kind}`"))).collect()
}

/// The promise ids (`AV-1`) in the first column of the tables, with their line numbers.
fn promise_rows(document: &File) -> impl Iterator<Item = (usize, &str)> {
    document.text.lines().enumerate().filter_map(|(at, line)| {
        let id = line.strip_prefix("| ")?.split(" |").next()?;
        let (family, number) = id.split_once('-')?;
        let shaped = family.len() == 2 && family.bytes().all(|b| b.is_ascii_uppercase());
        (shaped && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())).then_some((at + 1, id))
    })
}

pub(super) fn promise_ids(workspace: &Workspace) -> Vec<Breach> {
    const PLACE: &str = "docs/promises.md";
    let Some(document) = workspace.file(PLACE) else { return missing(PLACE) };
    let mut seen = BTreeMap::new();
    let mut breaches = Vec::new();
    for (line, id) in promise_rows(document) {
        if let Some(before) = seen.insert(id, line) {
            breaches.push(Breach::at(PLACE, line, format!("`{id}` is taken since line {before}")));
        }
    }
    if seen.is_empty() {
        breaches.push(Breach::new(PLACE, "has no row `| XY-1 | …`"));
    }
    breaches
}

/// FNV-1a, 64 bits.
fn fnv(word: &str) -> u64 {
    word.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

pub(super) fn our_own_words(workspace: &Workspace) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for file in workspace.files.iter().filter(|file| file.ends_in("md")) {
        for (at, line) in file.text.lines().enumerate() {
            let words = line.split(|c: char| !c.is_alphanumeric() && c != '-').map(str::to_lowercase);
            let found = words.filter(|word| NAMES.contains(&fnv(word)));
            breaches.extend(found.map(|word| Breach::at(&file.path, at + 1, format!("`{word}`"))));
        }
    }
    breaches
}

/// The part of a README that its translation shares: the levels of its headings, and its code without comments.
fn skeleton(text: &str) -> Vec<String> {
    let mut bones = Vec::new();
    let mut in_code = false;
    for line in text.lines() {
        if line.starts_with("```") {
            in_code = !in_code;
            bones.push(line.to_owned());
        } else if in_code {
            let code = if line.starts_with('#') { "" } else { line.split(" #").next().unwrap_or_default().trim_end() };
            if !code.is_empty() {
                bones.push(code.to_owned());
            }
        } else if line.starts_with('#') {
            bones.push(line.chars().take_while(|&c| c == '#').collect());
        }
    }
    bones
}

pub(super) fn readme_mirrored(workspace: &Workspace) -> Vec<Breach> {
    let (Some(english), Some(french)) = (workspace.file("README.md"), workspace.file("README.fr.md")) else {
        return missing("README.md or README.fr.md");
    };
    let (english, french) = (skeleton(&english.text), skeleton(&french.text));
    let length = english.len().max(french.len());
    let differs = (0..length).find(|&at| english.get(at) != french.get(at));
    let show = |bones: &[String], at: usize| bones.get(at).map_or("its end".to_owned(), |bone| format!("`{bone}`"));
    let what = |at| format!("has {} where README.md has {}", show(&french, at), show(&english, at));
    differs.map(|at| Breach::new("README.fr.md", what(at))).into_iter().collect()
}

pub(super) fn change_log(workspace: &Workspace) -> Vec<Breach> {
    const PLACE: &str = "CHANGELOG.md";
    let Some(document) = workspace.file(PLACE) else { return missing(PLACE) };
    let manifest = workspace.file("Cargo.toml").map_or("", |file| file.text.as_str());
    let version =
        manifest.lines().find_map(|line| line.strip_prefix("version = ")).unwrap_or_default().trim_matches('"');
    let is_current = |line: &str| {
        line.strip_prefix("## ").is_some_and(|title| title.starts_with("Unreleased") || title.starts_with(version))
    };
    if document.text.lines().any(is_current) {
        return Vec::new();
    }
    vec![Breach::new(PLACE, format!("has no heading for {version}, and none for what is unreleased"))]
}

/// The path, relative to the root, of a relative `link` in the file `from`.
fn resolve(from: &str, link: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

pub(super) fn links_lead_somewhere(workspace: &Workspace) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for file in workspace.files.iter().filter(|file| file.ends_in("md")) {
        for (at, line) in file.text.lines().enumerate() {
            let targets = line.match_indices("](").filter_map(|(start, _)| line[start + 2..].split(')').next());
            for target in targets.filter(|target| !target.contains(':') && !target.starts_with('#')) {
                let path = resolve(&file.path, target.split('#').next().unwrap_or_default());
                let is_there = |other: &File| other.path == path || other.path.starts_with(&format!("{path}/"));
                if !workspace.files.iter().any(is_there) {
                    breaches.push(Breach::at(&file.path, at + 1, format!("`{target}` is not there")));
                }
            }
        }
    }
    breaches
}

/// The tests that SECURITY.md names, with their line numbers: the words in backquotes in the last column of the table under
/// `Which test shows it`.
fn named_tests(document: &File) -> impl Iterator<Item = (usize, &str)> {
    let lines = document.text.lines().enumerate().skip_while(|(_, line)| *line != "## Which test shows it").skip(1);
    let rows = lines.take_while(|(_, line)| !line.starts_with("## ")).filter(|(_, line)| line.starts_with("| "));
    rows.flat_map(|(at, line)| {
        let cell = line.trim_end_matches([' ', '|']).rsplit('|').next().unwrap_or_default();
        cell.split('`').skip(1).step_by(2).map(move |name| (at + 1, name))
    })
}

pub(super) fn attacks_tested(workspace: &Workspace) -> Vec<Breach> {
    const PLACE: &str = "SECURITY.md";
    let Some(document) = workspace.file(PLACE) else { return missing(PLACE) };
    let is_there = |name: &str| workspace.rust().any(|file| file.text.contains(&format!("fn {name}(")));
    let (found, gone): (Vec<_>, Vec<_>) = named_tests(document).partition(|(_, name)| is_there(name));
    if found.is_empty() && gone.is_empty() {
        return vec![Breach::new(PLACE, "names no test under `## Which test shows it`")];
    }
    gone.into_iter().map(|(line, name)| Breach::at(PLACE, line, format!("there is no test `{name}`"))).collect()
}

pub(super) fn map_complete(workspace: &Workspace) -> Vec<Breach> {
    const PLACE: &str = "ARCHITECTURE.md";
    let Some(map) = workspace.file(PLACE) else { return missing(PLACE) };
    let unseen = workspace.crates.iter().filter(|found| !map.text.contains(&format!("`{}/`", found.folder)));
    unseen.map(|found| Breach::new(PLACE, format!("does not show `{}/`", found.folder))).collect()
}
