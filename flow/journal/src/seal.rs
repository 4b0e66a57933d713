//! Commitments, and payloads at rest.
//!
//! What is committed can be forgotten without the tree noticing, as long as two things hold. The commitment must tell
//! nothing by itself: an unsalted hash of an address is undone by trying all addresses, so each entry has a salt of 256
//! random bits which is forgotten with it. And forgetting must reach every copy, backups and disk images included: so
//! salt and payload exist only sealed under a key per retention class and day, and forgetting a day is destroying 32
//! bytes that are kept apart from the database.

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use zeroize::{Zeroize as _, ZeroizeOnDrop};

use crate::Hash;

/// 256 random bits, used for one entry only.
pub type Salt = [u8; SALT_BYTES];

const SALT_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;

/// SHA-256(salt ‖ payload).
pub fn commitment(salt: &Salt, payload: &[u8]) -> Hash {
    Hash::of(&[salt, payload])
}

/// The key that seals what one retention class recorded on one UTC day. Overwritten when dropped.
#[derive(Clone)]
pub struct DayKey([u8; 32]);

impl Drop for DayKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl ZeroizeOnDrop for DayKey {}

impl DayKey {
    /// From 32 random bytes, or from what [`bytes`](Self::bytes) gave.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes, for the file of the key.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for DayKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DayKey(…)")
    }
}

/// The reason why a sealed payload does not open.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SealError {
    /// The cipher refuses: a payload of 64 GiB and more.
    #[error("the payload is too large to be sealed")]
    TooLarge,
    /// Another key, another sequence, or other bytes than were sealed.
    #[error("the sealed payload does not open: it was altered, moved from another entry, or sealed under another key")]
    Refused,
}

/// Seals salt and payload of entry `sequence`: nonce ‖ AES-256-GCM(salt ‖ payload), with the sequence (u64, big-endian) as
/// associated data so that a sealed payload can't be moved to another entry.
///
/// The nonce must be random and new. With 2^32 entries in a day under one key, the chance that any two share a nonce is
/// 2^-33 (NIST SP 800-38D §8.3 sets the limit there); that is 49,000 entries per second all day long.
pub fn seal(
    key: &DayKey,
    sequence: u64,
    nonce: [u8; NONCE_BYTES],
    salt: &Salt,
    payload: &[u8],
) -> Result<Vec<u8>, SealError> {
    let mut clear = Vec::with_capacity(SALT_BYTES + payload.len());
    clear.extend_from_slice(salt);
    clear.extend_from_slice(payload);
    let cipher = Aes256Gcm::new(&key.0.into());
    let sealed = cipher.encrypt(&Nonce::from(nonce), Payload { msg: &clear, aad: &sequence.to_be_bytes() });
    clear.zeroize();
    let sealed = sealed.map_err(|_| SealError::TooLarge)?;
    let mut out = Vec::with_capacity(NONCE_BYTES + sealed.len());
    out.extend_from_slice(&nonce);
    out.extend_from_slice(&sealed);
    Ok(out)
}

/// Opens what [`seal`] sealed for the same entry.
pub fn open(key: &DayKey, sequence: u64, sealed: &[u8]) -> Result<(Salt, Vec<u8>), SealError> {
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or(SealError::Refused)?;
    let cipher = Aes256Gcm::new(&key.0.into());
    let mut clear = cipher
        .decrypt(&Nonce::from(*nonce), Payload { msg: sealed, aad: &sequence.to_be_bytes() })
        .map_err(|_| SealError::Refused)?;
    let salt = *clear.first_chunk().ok_or(SealError::Refused)?;
    clear.drain(..SALT_BYTES);
    Ok((salt, clear))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_for_the_same_entry_only() {
        let key = DayKey::new([1; 32]);
        let sealed = seal(&key, 5, [2; 12], &[3; 32], b"payload").expect("small");
        assert_eq!(open(&key, 5, &sealed), Ok(([3; 32], b"payload".to_vec())));
        assert_eq!(open(&key, 6, &sealed), Err(SealError::Refused), "moved to another entry");
        assert_eq!(open(&DayKey::new([9; 32]), 5, &sealed), Err(SealError::Refused), "another key");
        for position in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[position] ^= 1;
            assert_eq!(open(&key, 5, &altered), Err(SealError::Refused), "byte {position} altered");
            assert_eq!(open(&key, 5, &sealed[..position]), Err(SealError::Refused), "cut at {position}");
        }
    }

    #[test]
    fn the_key_does_not_print() {
        assert_eq!(format!("{:?}", DayKey::new([1; 32])), "DayKey(…)");
    }

    #[test]
    fn commitment_is_salt_then_payload() {
        assert_eq!(commitment(&[0; 32], b"a"), Hash::of(&[&[0; 32], b"a"]));
        assert_ne!(commitment(&[0; 32], b"a"), commitment(&[1; 32], b"a"));
    }
}
