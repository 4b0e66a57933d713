//! Files, beside restic and borg: a tree of many small files and a few large ones.

use std::path::Path;

use super::agent::Agent;
use super::{AGENT_MB, Measured, OURS, ROUNDS, Words, settle, shell, size_of, write};
use crate::process::now;
use crate::{Outcome, row};

const SMALL: usize = 20_000;
const LARGE: usize = 4;
const LARGE_BYTES: usize = 64_000_000;
const RESTIC: &str = "restic 0.14";
const BORG: &str = "borg 1.2";
const COPY: &str = "cp -a";

/// What was measured in all rounds.
#[derive(Default)]
struct Figures {
    first: Measured,
    unchanged: Measured,
    changed: Measured,
    restore: Measured,
    agent_mb: f64,
}

pub(crate) fn run() -> Outcome {
    let mut figures = Figures::default();
    let mut bytes = 0;
    // Nothing is removed meanwhile: ext4 takes long to make files for minutes after it has removed many.
    let mut folders = Vec::new();
    for number in 0..ROUNDS {
        let folder = tempfile::tempdir()?;
        let tree = folder.path().join("tree");
        grow(&tree, number as u64 + 1)?;
        bytes = size_of(&tree)?;
        if number == 0 {
            let what = format!("a tree of {SMALL} small files and {LARGE} large ones");
            row(&what, &format!("{} MB", bytes / 1_000_000), "–");
        }
        round(folder.path(), &tree, &mut figures, number == 0)?;
        folders.push(folder);
    }
    figures.first.rows("first backup", bytes, "≥ 0.8 × restic");
    figures.unchanged.rows("backup of the unchanged tree", bytes, "≥ 0.8 × restic");
    figures.changed.rows("backup after a change of 1 %", bytes, "≥ 0.8 × restic");
    row("agent, the most resident of all", &format!("{:.0} MB", figures.agent_mb), AGENT_MB);
    figures.restore.rows("restore, synced", bytes, "≥ 2 × restic, ≥ 0.7 × a copy, ≤ 300 MB");
    Ok(())
}

fn round(at: &Path, tree: &Path, figures: &mut Figures, says_sizes: bool) -> Outcome {
    let (shown, tree_shown) = (at.display(), tree.display());
    // A repository is made within the first backup, as ours is.
    let restic = |line: &str| {
        let environment = format!("RESTIC_PASSWORD=x RESTIC_REPOSITORY={shown}/restic RESTIC_CACHE_DIR={shown}/cache");
        settle()?;
        shell(&format!("export {environment}; {line}"))
    };
    let borg = |line: &str| {
        let environment = format!("BORG_PASSPHRASE=x BORG_REPO={shown}/borg BORG_BASE_DIR={shown}/borg-base");
        settle()?;
        shell(&format!("export {environment}; {line}"))
    };
    let backup = format!("files = [{{ name = \"it\", paths = [\"{tree_shown}\"] }}]");
    let create = |name: &str| format!("borg create --compression zstd,3 ::{name} {tree_shown}");

    figures.first.add(RESTIC, restic(&format!("restic -q init; restic -q backup {tree_shown}"))?);
    figures.first.add(BORG, borg(&format!("borg init -e repokey-blake2; {}", create("first")))?);
    settle()?;
    let begun = now();
    let agent = Agent::start(at, "root", &backup)?;
    let mut ours = |measured: &mut Measured, took: super::Took| {
        figures.agent_mb = figures.agent_mb.max(took.peak_mb);
        measured.add(OURS, took);
    };
    ours(&mut figures.first, agent.first(begun)?);

    figures.unchanged.add(RESTIC, restic(&format!("restic -q backup {tree_shown}"))?);
    figures.unchanged.add(BORG, borg(&create("unchanged"))?);
    settle()?;
    ours(&mut figures.unchanged, agent.take()?);

    change(tree)?;
    figures.changed.add(RESTIC, restic(&format!("restic -q backup {tree_shown}"))?);
    figures.changed.add(BORG, borg(&create("changed"))?);
    settle()?;
    ours(&mut figures.changed, agent.take()?);
    if says_sizes {
        let stored = |name: &str| size_of(&at.join(name)).map(|bytes| bytes / 1_000_000);
        let (ours, restic, borg) = (stored("copy/restic/it")?, stored("restic")?, stored("borg")?);
        row("stored after all three", &format!("{ours} MB, restic {restic} MB, borg {borg} MB"), "–");
    }

    figures
        .restore
        .add(RESTIC, restic(&format!("restic -q restore latest --target {shown}/by-restic; sync -f {shown}"))?);
    figures.restore.add(
        BORG,
        borg(&format!("mkdir {shown}/by-borg; cd {shown}/by-borg; borg extract ::changed; sync -f {shown}"))?,
    );
    settle()?;
    figures.restore.add(COPY, shell(&format!("cp -a {tree_shown} {shown}/copied; sync -f {shown}/copied"))?);
    settle()?;
    figures.restore.add(OURS, agent.restore("ours")?);
    shell(&format!("diff -r --no-dereference {tree_shown} {shown}/ours{tree_shown}"))?;
    Ok(())
}

fn grow(tree: &Path, seed: u64) -> Outcome {
    let mut words = Words(seed);
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

/// Writes each hundredth of the small files anew, and a hundredth in the midst of each large one.
fn change(tree: &Path) -> Outcome {
    use std::os::unix::fs::FileExt as _;
    let mut words = Words(99);
    for number in (0..SMALL).step_by(100) {
        let folder = tree.join(format!("{:02}/{:02}", number % 40, number / 40 % 25));
        write(&folder.join(format!("file-{number}")), &mut words, 200 + number * 7919 % 16_000)?;
    }
    for number in 0..LARGE {
        let mut part = Vec::new();
        words.write(&mut part, LARGE_BYTES / 100)?;
        let file = std::fs::File::options().write(true).open(tree.join(format!("large-{number}")))?;
        file.write_all_at(&part, LARGE_BYTES as u64 / 2)?;
    }
    Ok(())
}
