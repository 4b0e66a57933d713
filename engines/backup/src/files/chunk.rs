//! Opening the chunks of a pack that was read whole.
//!
//! What the library does for one chunk at a time, with memory of its own for each, is done here with memory that is used again: a restore
//! opens chunks by the ten thousand. The format is restic's ("Pack format", "Compression"): nonce, ciphertext and tag, and below them
//! zstd where the index gives the length of what is compressed.

use aes256ctr_poly1305aes::aead::AeadInPlace as _;
use aes256ctr_poly1305aes::{Aes256CtrPoly1305Aes, Key, Nonce, Tag};
use rustic_core::Id;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;
use zstd::bulk::Decompressor;

use super::key::cipher_key;
use crate::sealed::RepositoryKey;

const NONCE_BYTES: usize = 16;
const TAG_BYTES: usize = 16;
/// Most bytes of a chunk that is opened here; chunks have 8 MiB at most.
const CHUNK_BYTES_MAX: usize = 64 << 20;

/// What opens the chunks of one repository, for one thread.
pub(super) struct Opener {
    cipher: Aes256CtrPoly1305Aes,
    unpacker: Decompressor<'static>,
    /// What was decrypted last.
    decrypted: Vec<u8>,
    /// What was unpacked last.
    unpacked: Vec<u8>,
    /// What the last one was called, and whether it was compressed.
    last: Option<(Id, bool)>,
}

impl Opener {
    /// The opener of the restic repository `name`; `None` where there is no memory for one.
    pub(super) fn new(key: &RepositoryKey, name: &str) -> Option<Self> {
        let key: Zeroizing<[u8; 64]> = cipher_key(key, name);
        let cipher = Aes256CtrPoly1305Aes::new(Key::from_slice(&*key));
        let unpacker = Decompressor::new().ok()?;
        Some(Self { cipher, unpacker, decrypted: Vec::new(), unpacked: Vec::new(), last: None })
    }

    /// The content of a chunk, which is `sealed` as it lies in its pack and has `length` bytes; `None` where it is not what its
    /// name says.
    pub(super) fn open(&mut self, sealed: &[u8], is_compressed: bool, length: u32, id: &Id) -> Option<&[u8]> {
        let length = usize::try_from(length).ok().filter(|length| *length <= CHUNK_BYTES_MAX)?;
        // A long hole is one chunk again and again: what is there was proved.
        let was_last = self.last.take() == Some((*id, is_compressed));
        if !was_last {
            self.decrypt(sealed, is_compressed, length)?;
        }
        let plain = if is_compressed { &self.unpacked } else { &self.decrypted };
        if plain.len() == length && (was_last || Id::new(Sha256::digest(plain).into()) == *id) {
            self.last = Some((*id, is_compressed));
            return Some(plain);
        }
        None
    }

    /// Leaves what is sealed in `decrypted`, and what is compressed in `unpacked`.
    fn decrypt(&mut self, sealed: &[u8], is_compressed: bool, length: usize) -> Option<()> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_BYTES)?;
        let (sealed, tag) = sealed.split_at_checked(sealed.len().checked_sub(TAG_BYTES)?)?;
        self.decrypted.clear();
        self.decrypted.extend_from_slice(sealed);
        let (nonce, tag) = (Nonce::from_slice(nonce), Tag::from_slice(tag));
        self.cipher.decrypt_in_place_detached(nonce, &[], &mut self.decrypted, tag).ok()?;
        if is_compressed {
            self.unpacked.clear();
            self.unpacked.reserve(length);
            self.unpacker.decompress_to_buffer(&self.decrypted, &mut self.unpacked).ok()?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_opened_as_it_was_sealed_and_not_otherwise() {
        let key = RepositoryKey::random(&engine::random::SeededRandom::new(7));
        let cipher = Aes256CtrPoly1305Aes::new(Key::from_slice(&*cipher_key(&key, "www")));
        let nonce = Nonce::from_slice(b"one of 16 bytes.");
        let sealed = |plain: &[u8]| {
            let mut bytes = plain.to_vec();
            let tag = cipher.encrypt_in_place_detached(nonce, &[], &mut bytes).expect("encrypted");
            [nonce.as_slice(), &bytes, tag.as_slice()].concat()
        };
        let content = b"hello, hello, hello".repeat(100);
        let id = Id::new(Sha256::digest(&content).into());
        let length = u32::try_from(content.len()).expect("small");
        let mut opener = Opener::new(&key, "www").expect("made");
        let (plain, packed) = (sealed(&content), sealed(&zstd::bulk::compress(&content, 3).expect("packed")));
        for _ in 0..2 {
            assert_eq!(opener.open(&plain, false, length, &id), Some(&*content));
            assert_eq!(opener.open(&packed, true, length, &id), Some(&*content));
        }
        assert_eq!(opener.open(&packed, true, length - 1, &id), None, "longer than the index says");
        assert_eq!(opener.open(&packed, true, length + 1, &id), None, "shorter");
        assert_eq!(opener.open(&packed, true, u32::MAX, &id), None, "more than a chunk has");
        assert_eq!(opener.open(&packed, false, length, &id), None);
        assert_eq!(opener.open(&plain, true, length, &id), None);
        assert_eq!(opener.open(&plain, false, length, &Id::default()), None, "another one");
        assert_eq!(opener.open(&packed[..31], true, length, &id), None, "cut off");
        assert_eq!(opener.open(&[], true, length, &id), None);
        let mut damaged = packed.clone();
        damaged[20] ^= 1;
        assert_eq!(opener.open(&damaged, true, length, &id), None);
        let mut other = Opener::new(&key, "mail").expect("made");
        assert_eq!(other.open(&packed, true, length, &id), None, "the key of another repository");
    }
}
