use super::*;
use crate::audit::Source as _;
use crate::testing::{Files, Log};
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

impl Sink for Failing {
    fn write(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        if self.order.len() == self.refuse_at {
            return Err(io::Error::other("no space left"));
        }
        self.order.push(path.to_owned());
        self.files.write(path, bytes)
    }
}

fn write_all(log: &Log, note: &str, refuse_at: usize) -> (Failing, Result<Checkpoint, ExportError>) {
    let mut sink = Failing { files: Files::default(), order: Vec::new(), refuse_at };
    let mut writer = Writer::new(&mut sink);
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
