use super::*;
use crate::audit::ExportSource as _;
use crate::testing::{Files, Log, policy_of, verdict};
use event::Span;

fn small_log() -> Log {
    let mut log = Log::new("shop.example/1", 1);
    for _ in 0..300 {
        log.advance(Span::from_secs(60));
        log.append_text("future.kind", 1, "future.kind", "{}");
    }
    log
}

#[test]
fn holds_the_files_of_its_size() {
    let files = small_log().export();
    let paths: Vec<_> = files.0.keys().map(String::as_str).collect();
    assert_eq!(
        paths,
        [
            "checkpoint",
            "payload/000",
            "payload/001.p/45",
            "tile/0/000",
            "tile/0/001.p/45",
            "tile/1/000.p/1",
            "tile/entries/000",
            "tile/entries/001.p/45",
            "tlog-policy",
            "verdicts.json",
            "vkey",
        ]
    );
}

/// Remembers the order of writing; refuses from a certain file on.
struct Failing {
    files: Files,
    order: Vec<String>,
    refuse_at: usize,
}

impl ExportSink for Failing {
    fn write(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        if self.order.len() == self.refuse_at {
            return Err(io::Error::other("no space left"));
        }
        self.order.push(path.to_owned());
        self.files.write(path, bytes)
    }

    fn checkpoint(&self) -> io::Result<Option<Vec<u8>>> {
        self.files.checkpoint()
    }

    fn paths(&self) -> io::Result<Vec<String>> {
        self.files.paths()
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        self.files.remove(path)
    }

    fn sync(&mut self) -> io::Result<()> {
        assert!(self.files.0.contains_key(VERDICTS), "all else is written before");
        self.files.sync()
    }
}

fn write_all(log: &Log, note: &str, refuse_at: usize) -> (Failing, Result<Checkpoint, ExportError>) {
    let mut sink = Failing { files: Files::default(), order: Vec::new(), refuse_at };
    let mut writer = ExportWriter::new(&mut sink);
    let mut outcome = Ok(());
    for entry in &log.entries {
        outcome = outcome.and_then(|()| writer.push(&entry.leaf.encode(), None));
    }
    let vkey = log.keys[0].vkey();
    let extras = Extras {
        checkpoint_note: note,
        vkey: &vkey,
        tlog_policy: "quorum none\n",
        policy: None,
        verdicts: &[],
        rotations: &[],
        proofs: &[(0, "proof".to_owned())],
    };
    let outcome = outcome.and_then(|()| writer.finish(&extras));
    (sink, outcome)
}

#[test]
fn the_checkpoint_comes_last_or_not_at_all() {
    let log = small_log();
    let note = log.checkpoint(log.entries.len());
    let (whole, outcome) = write_all(&log, &note, usize::MAX);
    assert_eq!(outcome.expect("written"), log.head(301));
    assert_eq!(whole.order.last().map(String::as_str), Some(CHECKPOINT));
    for refuse_at in 0..whole.order.len() {
        let (sink, outcome) = write_all(&log, &note, refuse_at);
        let error = outcome.expect_err("refused").to_string();
        assert!(error.contains(&format!("`{}`", whole.order[refuse_at])) && error.contains("no space"), "{error}");
        assert_eq!(sink.files.read(CHECKPOINT).expect("in memory"), None);
    }
}

#[test]
fn a_checkpoint_of_another_tree_is_not_published() {
    let log = small_log();
    let (sink, outcome) = write_all(&log, &log.checkpoint(300), usize::MAX);
    assert!(matches!(outcome, Err(ExportError::OtherTree { .. })));
    assert_eq!(sink.files.read(CHECKPOINT).expect("in memory"), None);
    assert!(matches!(write_all(&log, "no note", usize::MAX).1, Err(ExportError::Checkpoint(_))));
}

/// A later export in the same folder leaves exactly what it leaves in an empty one, and what is not ours.
#[test]
fn nothing_of_an_earlier_export_is_left() {
    let mut log = small_log();
    log.rotations = vec![log.checkpoint(200)];
    log.append(&policy_of(&[("AV-1", "r1", 1)]));
    let verdict = verdict(&log, "AV-1", "r1", 0);
    log.append(&verdict);
    let mut there = Files::default();
    assert!(log.export_to(&mut there));
    let ours: Vec<String> = there.0.keys().cloned().collect();
    for path in ["policy.json", "rotations", "proof/302.tlog-proof", "payload/001.p/47", "tile/0/001.p/47"] {
        assert!(ours.iter().any(|ours| ours == path), "{path} of {ours:?}");
    }
    for path in ["notes", "proof/mine", "payload/000.p/x", "tile/0/000.md", "policy.json.bak"] {
        there.0.insert(path.to_owned(), b"mine".to_vec());
    }
    // Something that was left half written, and tiles of a longer log.
    for path in ["checkpoint.tmp", "payload/000.tmp", "tile/0/002", "tile/entries/002.p/3", "tile/1/000.p/3"] {
        there.0.insert(path.to_owned(), b"old".to_vec());
    }
    // The policy is destroyed, another key signs alone, and the log has grown.
    log.rotations.clear();
    let day = event::Day::of_hour(log.entries[301].leaf.hour);
    log.destroy(event::Retention::Evidence, day);
    let mut mine: Vec<String> =
        ["notes", "proof/mine", "payload/000.p/x", "tile/0/000.md", "policy.json.bak"].map(str::to_owned).into();
    assert!(log.export_to(&mut there));
    mine.extend(log.export().0.into_keys());
    mine.sort();
    assert_eq!(there.0.into_keys().collect::<Vec<_>>(), mine);

    // Where there was no export, nothing is ours to remove.
    let mut folder = Files::default();
    folder.0.insert("rotations".to_owned(), b"of crops".to_vec());
    assert!(log.export_to(&mut folder));
    assert_eq!(folder.0["rotations"], b"of crops");
}
