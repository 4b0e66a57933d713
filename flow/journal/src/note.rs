//! Signed notes (C2SP signed-note): a text and its signatures.
//!
//! ```text
//! text, any number of lines
//!
//! — shop.example/1 Az3grlgtzPICa5OS8npVmf1Myq/5…
//! ```
//!
//! A signature line names its key and carries the first four bytes of a hash of it, so that a reader knows which lines to
//! check and which to leave alone: a note may be signed by keys that the reader has never heard of (a witness, the next
//! key of the log). Those lines prove nothing to him and disturb nothing.

mod key;

pub(crate) use key::ml_dsa_key;
pub use key::{BadKey, Fingerprint, KeyType, SigningKey, VerifierKey};

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Most signatures that a note may have. The specification asks for 16 at least.
pub const SIGNATURES_MAX: usize = 64;
/// Longest note, in bytes: sixty-four signatures of the post-quantum kinds fit.
pub const NOTE_BYTES_MAX: usize = 512 * 1024;

const EM_DASH: &str = "\u{2014} ";

/// One signature line.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Signature {
    /// Name of the key.
    pub name: String,
    /// First four bytes of the hash of name, type and key.
    pub key_id: [u8; 4],
    /// The rest; its meaning depends on the type of the key.
    pub bytes: Vec<u8>,
}

/// A text and its signatures, none of them verified yet.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Note {
    /// The signed text, its final newline included.
    pub text: String,
    /// The signatures, in the order of the lines.
    pub signatures: Vec<Signature>,
}

/// The reason why a text is not a signed note, or not one to trust.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoteError {
    /// Too long, or too many signatures.
    #[error("the note is too large: at most {NOTE_BYTES_MAX} bytes and {SIGNATURES_MAX} signatures are read")]
    TooLarge,
    /// The form of a note is not kept.
    #[error("not a signed note: {0}")]
    Form(&'static str),
    /// A line that claims to come from a known key does not.
    #[error("the signature by {name} (key {key_id}) does not verify")]
    BadSignature {
        /// Name of the key.
        name: String,
        /// Its id, in hexadecimal.
        key_id: String,
    },
    /// None of the lines comes from the keys that were asked for.
    #[error("no signature by {wanted}; the note is signed by {found}")]
    NotSigned {
        /// Keys that were asked for.
        wanted: String,
        /// Keys that signed.
        found: String,
    },
}

impl Signature {
    /// Reads one line, without its newline.
    pub fn parse_line(line: &str) -> Result<Self, NoteError> {
        let rest = line.strip_prefix(EM_DASH).ok_or(NoteError::Form("a signature line starts with an em dash"))?;
        let (name, encoded) =
            rest.split_once(' ').ok_or(NoteError::Form("a signature line has a name and a signature"))?;
        if !key::is_name(name) {
            return Err(NoteError::Form("the name of a key is not empty and has no spaces and no `+`"));
        }
        let decoded = STANDARD.decode(encoded).map_err(|_| NoteError::Form("a signature is base64"))?;
        let (key_id, bytes) = decoded.split_first_chunk().ok_or(NoteError::Form("a signature has a key id"))?;
        if bytes.is_empty() {
            return Err(NoteError::Form("a signature is not empty"));
        }
        Ok(Self { name: name.to_owned(), key_id: *key_id, bytes: bytes.to_vec() })
    }

    /// Whether the line claims to come from this key.
    pub fn claims(&self, key: &VerifierKey) -> bool {
        self.name == key.name() && self.key_id == key.key_id()
    }
}

impl fmt::Display for Signature {
    /// The line, without its newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encoded = STANDARD.encode([&self.key_id[..], &self.bytes].concat());
        write!(f, "{EM_DASH}{} {encoded}", self.name)
    }
}

impl Note {
    /// Reads a note.
    pub fn parse(note: &str) -> Result<Self, NoteError> {
        if note.len() > NOTE_BYTES_MAX {
            return Err(NoteError::TooLarge);
        }
        if note.bytes().any(|byte| byte < b' ' && byte != b'\n') {
            return Err(NoteError::Form("it holds a control character other than newline"));
        }
        let blank = note.rfind("\n\n").ok_or(NoteError::Form("no blank line before the signatures"))?;
        let (text, lines) = (&note[..=blank], &note[blank + 2..]);
        let lines = lines.strip_suffix('\n').ok_or(NoteError::Form("no newline at its end"))?;
        if lines.split('\n').count() > SIGNATURES_MAX {
            return Err(NoteError::TooLarge);
        }
        let signatures = lines.split('\n').map(Signature::parse_line).collect::<Result<_, _>>()?;
        Ok(Self { text: text.to_owned(), signatures })
    }

    /// Reads notes that follow one another in a file, with or without blank lines between them. The text of each must be
    /// free of blank lines, as the text of a checkpoint is.
    pub fn parse_many(notes: &str) -> Result<Vec<Self>, NoteError> {
        let mut parsed = Vec::new();
        let mut current = String::new();
        let mut signed = false;
        for line in notes.split_inclusive('\n') {
            if signed && !line.starts_with(EM_DASH) {
                parsed.push(Self::parse(&current)?);
                current.clear();
                signed = false;
            }
            if current.is_empty() && line == "\n" {
                continue;
            }
            signed |= line.starts_with(EM_DASH);
            current.push_str(line);
        }
        if !current.is_empty() {
            parsed.push(Self::parse(&current)?);
        }
        Ok(parsed)
    }

    /// Those of `keys` whose Ed25519 signature (type 0x01) the note carries. Lines of other keys are left alone; a line
    /// that claims to come from one of `keys` and does not verify spoils the note.
    pub fn signers<'k>(&self, keys: &'k [VerifierKey]) -> Result<Vec<&'k VerifierKey>, NoteError> {
        let mut signers = Vec::new();
        for signature in &self.signatures {
            for key in keys.iter().filter(|key| key.key_type() == KeyType::Ed25519 && signature.claims(key)) {
                if !key.verify(self.text.as_bytes(), &signature.bytes) {
                    let key_id = key.key_id_hex();
                    return Err(NoteError::BadSignature { name: key.name().to_owned(), key_id });
                }
                if !signers.contains(&key) {
                    signers.push(key);
                }
            }
        }
        Ok(signers)
    }

    /// As [`signers`](Self::signers), but none is an error.
    pub fn signed_by<'k>(&self, keys: &'k [VerifierKey]) -> Result<Vec<&'k VerifierKey>, NoteError> {
        let signers = self.signers(keys)?;
        if signers.is_empty() {
            let wanted = list(keys.iter().map(VerifierKey::describe));
            let found = self.signatures.iter().map(|s| format!("{} (key {})", s.name, key::hex(s.key_id)));
            return Err(NoteError::NotSigned { wanted, found: list(found) });
        }
        Ok(signers)
    }
}

fn list(names: impl Iterator<Item = String>) -> String {
    let names: Vec<_> = names.collect();
    if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
}

impl fmt::Display for Note {
    /// The whole note.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| writeln!(f, "{signature}"))
    }
}

#[cfg(test)]
mod tests;
