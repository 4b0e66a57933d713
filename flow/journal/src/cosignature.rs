//! Cosignatures (C2SP tlog-cosignature, Ed25519 `cosignature/v1`): a witness says that, at a time, a checkpoint was the
//! largest it had seen of a log, and consistent with all it had seen before.

use event::Time;

use crate::note::{KeyType, Note, Signature, SigningKey, VerifierKey};

const TIME_BYTES: usize = 8;

/// The reason why a signature line is no cosignature of a text.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CosignatureError {
    /// The key is not one for cosignatures.
    #[error("the key of {0} is not that of a witness (type 0x04)")]
    KeyType(String),
    /// The line does not come from this key.
    #[error("the line is not by {0}")]
    OtherKey(String),
    /// The line comes from this key, but does not verify.
    #[error("the cosignature by {0} does not verify")]
    Refused(String),
}

fn message(seconds: u64, text: &str) -> Vec<u8> {
    format!("cosignature/v1\ntime {seconds}\n{text}").into_bytes()
}

/// Cosigns the text of a checkpoint (its lines without signatures) as of `now`; a time before 1970 is taken as 1970.
pub fn cosign(key: &SigningKey, text: &str, now: Time) -> Signature {
    let seconds = u64::try_from(now.micros().div_euclid(1_000_000)).unwrap_or(0);
    let signed = key.sign(&message(seconds, text));
    let bytes = [&seconds.to_be_bytes()[..], &signed].concat();
    Signature { name: key.name().to_owned(), key_id: key.cosigner_vkey().key_id(), bytes }
}

/// Verifies a cosignature of `text` and returns its time.
pub fn verify(key: &VerifierKey, text: &str, signature: &Signature) -> Result<Time, CosignatureError> {
    if key.key_type() != KeyType::Cosignature {
        return Err(CosignatureError::KeyType(key.describe()));
    }
    if !signature.claims(key) {
        return Err(CosignatureError::OtherKey(key.describe()));
    }
    let refused = || CosignatureError::Refused(key.describe());
    let (seconds, signed) = signature.bytes.split_first_chunk::<TIME_BYTES>().ok_or_else(refused)?;
    let seconds = u64::from_be_bytes(*seconds);
    if !key.verify(&message(seconds, text), signed) {
        return Err(refused());
    }
    // The specification allows times up to 2^63 - 1 seconds; a time that does not fit in microseconds is no time.
    let micros = i64::try_from(seconds).ok().and_then(|seconds| seconds.checked_mul(1_000_000)).ok_or_else(refused)?;
    Ok(Time::from_micros(micros))
}

/// Those of `keys` that cosigned the note, each with the time of its latest cosignature.
pub fn cosigners<'k>(
    note: &Note,
    keys: impl IntoIterator<Item = &'k VerifierKey>,
) -> Result<Vec<(&'k VerifierKey, Time)>, CosignatureError> {
    let mut cosigners = Vec::new();
    for key in keys {
        let lines = note.signatures.iter().filter(|line| line.claims(key));
        let times = lines.map(|line| verify(key, &note.text, line)).collect::<Result<Vec<_>, _>>()?;
        cosigners.extend(times.into_iter().max().map(|time| (key, time)));
    }
    Ok(cosigners)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_when_and_what() {
        let key = SigningKey::generate([1; 32], "witness.example/w1").expect("a name");
        let text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
        let now = Time::from_micros(1_679_315_147_999_999);
        let line = cosign(&key, text, now);
        assert_eq!(line.bytes.len(), 72, "u64 time and Ed25519 signature");
        assert_eq!(verify(&key.cosigner_vkey(), text, &line), Ok(Time::from_secs(1_679_315_147)));
        assert!(matches!(verify(&key.vkey(), text, &line), Err(CosignatureError::KeyType(_))));
        let other = text.replace("20852163", "20852164");
        assert!(matches!(verify(&key.cosigner_vkey(), &other, &line), Err(CosignatureError::Refused(_))));
        let mut later = line.clone();
        later.bytes[7] ^= 1;
        assert!(matches!(verify(&key.cosigner_vkey(), text, &later), Err(CosignatureError::Refused(_))));
        let short = Signature { bytes: line.bytes[..7].to_vec(), ..line };
        assert!(matches!(verify(&key.cosigner_vkey(), text, &short), Err(CosignatureError::Refused(_))));
    }

    #[test]
    fn the_latest_of_each_witness_counts() {
        let key = SigningKey::generate([1; 32], "witness.example/w1").expect("a name");
        let vkeys = [key.cosigner_vkey(), SigningKey::generate([2; 32], "w2").expect("a name").cosigner_vkey()];
        let text = "o\n1\nx\n";
        let signatures = [20, 30, 10].map(|second| cosign(&key, text, Time::from_secs(second))).to_vec();
        let note = Note { text: text.to_owned(), signatures };
        assert_eq!(cosigners(&note, &vkeys), Ok(vec![(&vkeys[0], Time::from_secs(30))]));
    }
}
