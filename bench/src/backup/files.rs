//! Files, beside restic: a tree of many small files and a few large ones.

use std::path::Path;

use super::agent::Agent;
use super::{AGENT_MB, Words, beside, settle, shell, size_of, write};
use crate::process::now;
use crate::{Outcome, row};

const SMALL: usize = 20_000;
const LARGE: usize = 4;
const LARGE_BYTES: usize = 64_000_000;

pub(super) fn run() -> Outcome {
    let folder = tempfile::tempdir()?;
    let at = folder.path();
    let tree = at.join("tree");
    grow(&tree)?;
    let bytes = size_of(&tree)?;
    settle()?;
    row(&format!("a tree of {SMALL} small files and {LARGE} large ones"), &format!("{} MB", bytes / 1_000_000), "–");

    let restic = |arguments: &str| {
        let at = at.display();
        shell(&format!(
            "export RESTIC_PASSWORD=x RESTIC_REPOSITORY={at}/restic RESTIC_CACHE_DIR={at}/cache; restic --quiet {arguments}"
        ))
    };
    restic("init")?;
    let tree_shown = tree.display();
    let theirs = restic(&format!("backup {tree_shown}"))?;
    let unchanged = restic(&format!("backup {tree_shown}"))?;
    settle()?;

    let begun = now();
    let backup = format!("files = [{{ name = \"it\", paths = [\"{tree_shown}\"] }}]");
    let agent = Agent::start(at, "root", &backup)?;
    let ours = agent.first(begun)?;
    beside("first backup", "restic 0.14", &theirs, &ours, bytes, "≥ 0.8 ×");
    let again = agent.take()?;
    beside("backup of the unchanged tree", "restic 0.14", &unchanged, &again, bytes, "≥ 0.8 ×");
    row("agent, the most resident of both", &format!("{:.0} MB", ours.peak_mb.max(again.peak_mb)), AGENT_MB);
    let stored = |name: &str| size_of(&at.join(name)).map(|bytes| bytes / 1_000_000);
    row("stored", &format!("{} MB, restic {} MB", stored("copy/restic/it")?, stored("restic")?), "–");
    settle()?;
    let theirs = restic(&format!("restore latest --target {}/theirs", at.display()))?;
    settle()?;
    let ours = agent.restore("ours")?;
    beside("restore", "restic 0.14", &theirs, &ours, bytes, "≥ 2 ×, ≤ 300 MB");
    Ok(())
}

fn grow(tree: &Path) -> Outcome {
    let mut words = Words(1);
    for number in 0..SMALL {
        let folder = tree.join(format!("{:02}/{:02}", number % 40, number / 40 % 25));
        std::fs::create_dir_all(&folder)?;
        write(&folder.join(format!("file-{number}")), &mut words, 200 + number * 7919 % 16_000)?;
    }
    for number in 0..LARGE {
        write(&tree.join(format!("large-{number}")), &mut words, LARGE_BYTES)?;
    }
    Ok(())
}
