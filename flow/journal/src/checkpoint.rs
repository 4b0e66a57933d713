//! Checkpoints (C2SP tlog-checkpoint): a log signs for one tree.

use std::fmt;

use crate::Hash;
use crate::note::{Note, NoteError, SigningKey, VerifierKey};
use crate::tile::parse_decimal;

/// The head of a log.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Checkpoint {
    /// Origin of the log.
    pub origin: String,
    /// Number of entries.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
}

/// The reason why a note can't be relied on as a checkpoint.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The note has no valid form, or lacks the signature asked for.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The text is not that of a checkpoint.
    #[error("not a checkpoint: {0}")]
    Form(&'static str),
}

/// A checkpoint with at least one verified signature of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifiedCheckpoint {
    /// The head.
    pub checkpoint: Checkpoint,
    /// The note that carries it, with all its lines.
    pub note: Note,
    /// The keys asked for that signed it.
    pub signers: Vec<VerifierKey>,
}

impl Checkpoint {
    /// The text that is signed: three lines.
    pub fn to_text(&self) -> String {
        self.to_string()
    }

    /// Reads the text of a checkpoint. Extension lines are allowed by the specification and mean nothing here.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let text = text.strip_suffix('\n').ok_or(CheckpointError::Form("no newline at its end"))?;
        let mut lines = text.split('\n');
        let mut line = || lines.next().filter(|line| !line.is_empty());
        let origin = line().ok_or(CheckpointError::Form("no origin in its first line"))?;
        let size = line().and_then(parse_decimal).ok_or(CheckpointError::Form("no tree size in its second line"))?;
        let root = line().and_then(|line| Hash::from_base64(line).ok());
        let root = root.ok_or(CheckpointError::Form("no root hash in its third line"))?;
        if lines.any(str::is_empty) {
            return Err(CheckpointError::Form("an empty line in it"));
        }
        Ok(Self { origin: origin.to_owned(), size, root })
    }

    /// The checkpoint in a signed note. **Nothing is verified**: that is [`open`].
    pub fn of_note(note: &str) -> Result<Self, CheckpointError> {
        Self::parse(&Note::parse(note)?.text)
    }

    /// The note of this checkpoint, signed by each of `keys`.
    pub fn sign(&self, keys: &[&SigningKey]) -> String {
        let text = self.to_text();
        let signatures = keys.iter().map(|key| key.sign_text(&text)).collect();
        Note { text, signatures }.to_string()
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.size, self.root.to_base64())
    }
}

/// Reads a signed checkpoint and verifies that one of `keys` signed it.
pub fn open(note: &str, keys: &[VerifierKey]) -> Result<VerifiedCheckpoint, CheckpointError> {
    let note = Note::parse(note)?;
    let checkpoint = Checkpoint::parse(&note.text)?;
    let signers = note.signed_by(keys)?.into_iter().cloned().collect();
    Ok(VerifiedCheckpoint { checkpoint, note, signers })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> SigningKey {
        SigningKey::generate([seed; 32], "shop.example/1").expect("a name")
    }

    #[test]
    fn signs_and_opens() {
        let checkpoint = Checkpoint { origin: "shop.example/1".into(), size: 5, root: Hash::of(&[b"r"]) };
        let note = checkpoint.sign(&[&key(1), &key(2)]);
        let opened = open(&note, &[key(2).vkey(), key(3).vkey()]).expect("signed by the second");
        assert_eq!(opened.checkpoint, checkpoint);
        assert_eq!(opened.signers, [key(2).vkey()]);
        let refused = open(&note, &[key(3).vkey()]).expect_err("unknown key").to_string();
        assert!(refused.contains("shop.example/1 (key "), "{refused}");
        let altered = note.replacen("\n5\n", "\n6\n", 1);
        assert!(matches!(open(&altered, &[key(1).vkey()]), Err(CheckpointError::Note(NoteError::BadSignature { .. }))));
    }

    #[test]
    fn texts_have_one_form() {
        let root = Hash::of(&[]).to_base64();
        let check = |text: String, good: bool| assert_eq!(Checkpoint::parse(&text).is_ok(), good, "{text:?}");
        check(format!("o\n0\n{root}\n"), true);
        check(format!("o\n0\n{root}\nextension\n"), true);
        check(format!("o\n0\n{root}"), false);
        check(format!("o\n00\n{root}\n"), false);
        check(format!("o\n-1\n{root}\n"), false);
        check(format!("\n0\n{root}\n"), false);
        check(format!("o\n0\n{root}\n\nx\n"), false);
        check("o\n0\nroot\n".to_owned(), false);
    }
}
