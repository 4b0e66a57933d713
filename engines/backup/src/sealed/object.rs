//! One sealed object: a head in JSON and a payload, compressed, in frames of AES-256-GCM.
//!
//! ```text
//! 8 bytes    "garant", 0, 1
//! 16 bytes   salt, random
//! frames     each 1 MiB of plaintext and 16 bytes of tag; the last one is shorter, and holds at least a byte
//! ```
//!
//! The key of the frames is HMAC-SHA-256 of the folder's data key over the words `garant backup object 1`, a line feed, the salt and
//! the whole name of the object: an object under another name does not open. The nonce of frame number n (from 0) is 7 zero bytes, n in
//! 4 bytes, and 1 for the last frame, else 0, as in STREAM (Hoang, Reyhanitabar, Rogaway, Vizár 2015): no frame can be left out, put
//! elsewhere or taken from the end. The plaintext is: 1 byte, 0 for a payload as it is and 1 for one in a frame of Zstandard (RFC 8878);
//! 4 bytes, the length of the head; the head; the payload. Numbers have their highest byte first.

use std::io::Read as _;

use aes_gcm::aead::{Aead as _, AeadInOut as _, KeyInit as _};
use aes_gcm::{Aes256Gcm, Nonce};
use engine::random::Random;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::key::DataKey;
use crate::objects::OBJECT_BYTES_MAX;

const MAGIC: [u8; 8] = *b"garant\0\x01";
const SALT_BYTES: usize = 16;
const CLEAR_BYTES: usize = 1 << 20;
const TAG_BYTES: usize = 16;
const FRAME_BYTES: usize = CLEAR_BYTES + TAG_BYTES;
const WORDS: &[u8] = b"garant backup object 1\n";
/// Level at which a base is compressed: that of restic and of the tools of PostgreSQL.
pub(super) const BASE_LEVEL: i32 = 3;
/// Level at which a log is: it costs its host processor time all day, and a third less at this one, for a quarter more bytes.
pub(super) const LOG_LEVEL: i32 = 1;
/// What is compressed first to see whether it pays.
const PROBE_BYTES: usize = 64 * 1024;
/// Longest head; it is in the first frame.
const HEAD_BYTES_MAX: usize = 256 * 1024;
/// Largest payload.
pub(crate) const PAYLOAD_BYTES_MAX: usize = OBJECT_BYTES_MAX - 1024 * 1024;

/// Bytes from the start of an object that hold its whole head.
pub(super) const FIRST_BYTES: u64 = (MAGIC.len() + SALT_BYTES + FRAME_BYTES) as u64;

/// An object is not what was sealed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SealError {
    /// It does not begin as one.
    #[error("it is no sealed object of format 1")]
    NotSealed,
    /// It does not open.
    #[error("it was damaged, cut, or is that of another name or key: it does not open")]
    Damaged,
    /// It opens, and what is in it is not as the format says.
    #[error("what is in it is not as format 1 says")]
    Malformed,
    /// It is larger than any that is written.
    #[error("it is larger than any object that is written")]
    TooLarge,
}

/// Seals `head`, which is JSON, and `payload` under the data key of the folder, as the object `name`; compressed at `level`, where that
/// pays.
pub fn seal(
    key: &DataKey,
    name: &str,
    head: &[u8],
    payload: &[u8],
    level: i32,
    random: &dyn Random,
) -> Result<Vec<u8>, SealError> {
    if head.len() > HEAD_BYTES_MAX || payload.len() > PAYLOAD_BYTES_MAX {
        return Err(SealError::TooLarge);
    }
    let mut salt = [0; SALT_BYTES];
    random.fill(&mut salt);
    let compressed = compress(payload, level);
    let body = compressed.as_deref().unwrap_or(payload);
    let head_length = u32::try_from(head.len()).unwrap_or(u32::MAX).to_be_bytes();
    let first = [&[u8::from(compressed.is_some())], &head_length[..], head].concat();
    let length = first.len() + body.len();
    let cipher = cipher(key, name, &salt);
    let frames = length.div_ceil(CLEAR_BYTES);
    let mut object = Vec::with_capacity(MAGIC.len() + SALT_BYTES + length + frames * TAG_BYTES);
    object.extend(MAGIC);
    object.extend(salt);
    // Each frame is encrypted where it is going to be: a payload is large, and every copy of it is memory of the host.
    let mut plain = first.as_slice().chain(body);
    for number in 0..frames {
        let start = object.len();
        (&mut plain).take(CLEAR_BYTES as u64).read_to_end(&mut object).map_err(|_| SealError::TooLarge)?;
        let nonce = nonce(number, number + 1 == frames);
        let sealed = cipher.encrypt_inout_detached(&nonce, b"", (&mut object[start..]).into());
        object.extend(sealed.map_err(|_| SealError::TooLarge)?);
    }
    Ok(object)
}

/// The head and the payload of an object.
pub fn open(key: &DataKey, name: &str, object: &[u8]) -> Result<(Vec<u8>, Vec<u8>), SealError> {
    let mut memory = Memory::default();
    let head = open_into(key, name, object, &mut memory)?;
    Ok((head, memory.payload))
}

/// The memory that objects are opened in: the system clears each page of it that is new, which for many objects takes as long as
/// opening them.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) plain: Vec<u8>,
    /// The payload of the object that was opened last.
    pub(super) payload: Vec<u8>,
}

/// The head of an object; its payload is in `memory`.
pub(super) fn open_into(key: &DataKey, name: &str, object: &[u8], memory: &mut Memory) -> Result<Vec<u8>, SealError> {
    if object.len() > OBJECT_BYTES_MAX {
        return Err(SealError::TooLarge);
    }
    let (cipher, frames) = begin(key, name, object)?;
    let count = frames.len().div_ceil(FRAME_BYTES);
    let Memory { plain, payload } = memory;
    plain.clear();
    payload.clear();
    plain.reserve(frames.len());
    for (number, frame) in frames.chunks(FRAME_BYTES).enumerate() {
        let (sealed, tag) = frame.split_last_chunk::<TAG_BYTES>().ok_or(SealError::Damaged)?;
        let start = plain.len();
        plain.extend(sealed);
        let nonce = nonce(number, number + 1 == count);
        let clear = cipher.decrypt_inout_detached(&nonce, b"", (&mut plain[start..]).into(), tag.into());
        clear.map_err(|_| SealError::Damaged)?;
    }
    let (compression, head, body) = parts(plain)?;
    match compression {
        0 => payload.extend(body),
        1 => {
            payload.reserve(PAYLOAD_BYTES_MAX);
            zstd::bulk::Decompressor::new()
                .and_then(|mut it| it.decompress_to_buffer(body, payload))
                .map_err(|_| SealError::Malformed)?;
        }
        _ => return Err(SealError::Malformed),
    }
    Ok(head.to_vec())
}

/// The head of an object, of which `first` are the first [`FIRST_BYTES`], or all if there are fewer.
pub fn head(key: &DataKey, name: &str, first: &[u8]) -> Result<Vec<u8>, SealError> {
    let (cipher, frames) = begin(key, name, first)?;
    let frame = frames.get(..FRAME_BYTES).unwrap_or(frames);
    // Of an object of just one frame it is the last.
    let clear = cipher.decrypt(&nonce(0, false), frame).or_else(|_| cipher.decrypt(&nonce(0, true), frame));
    let clear = clear.map_err(|_| SealError::Damaged)?;
    let (_, head, _) = parts(&clear)?;
    Ok(head.to_vec())
}

fn begin<'a>(key: &DataKey, name: &str, object: &'a [u8]) -> Result<(Aes256Gcm, &'a [u8]), SealError> {
    let rest = object.strip_prefix(&MAGIC).ok_or(SealError::NotSealed)?;
    let (salt, frames) = rest.split_at_checked(SALT_BYTES).ok_or(SealError::Damaged)?;
    if frames.is_empty() {
        return Err(SealError::Damaged);
    }
    Ok((cipher(key, name, salt), frames))
}

fn parts(plain: &[u8]) -> Result<(u8, &[u8], &[u8]), SealError> {
    let (compression, rest) = plain.split_first().ok_or(SealError::Malformed)?;
    let (length, rest) = rest.split_first_chunk::<4>().ok_or(SealError::Malformed)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if length > HEAD_BYTES_MAX {
        return Err(SealError::Malformed);
    }
    let (head, body) = rest.split_at_checked(length).ok_or(SealError::Malformed)?;
    Ok((*compression, head, body))
}

fn cipher(key: &DataKey, name: &str, salt: &[u8]) -> Aes256Gcm {
    // A key that is shorter than a block of the hash is filled with zeros (RFC 2104, section 2).
    let mut block = Zeroizing::new([0; 64]);
    block[..32].copy_from_slice(&*key.0);
    let mut mac = Hmac::<Sha256>::new(&(*block).into());
    mac.update(WORDS);
    mac.update(salt);
    mac.update(name.as_bytes());
    Aes256Gcm::new(&mac.finalize().into_bytes())
}

fn nonce(frame: usize, is_last: bool) -> Nonce<aes_gcm::aead::consts::U12> {
    let mut nonce = [0; 12];
    nonce[7..11].copy_from_slice(&u32::try_from(frame).unwrap_or(u32::MAX).to_be_bytes());
    nonce[11] = u8::from(is_last);
    nonce.into()
}

/// The payload in a frame of Zstandard, where that makes it shorter.
fn compress(payload: &[u8], level: i32) -> Option<Vec<u8>> {
    let start = payload.get(..PROBE_BYTES).unwrap_or(payload);
    let probe = zstd::bulk::compress(start, 1).ok()?;
    // What is compressed or encrypted already costs time and gains nothing.
    if probe.len() > start.len() / 32 * 31 {
        return None;
    }
    zstd::bulk::compress(payload, level).ok().filter(|compressed| compressed.len() < payload.len())
}

#[cfg(test)]
mod tests {
    use engine::random::SeededRandom;

    use super::*;

    fn noise(seed: u64, bytes: usize) -> Vec<u8> {
        let mut noise = vec![0; bytes];
        SeededRandom::new(seed).fill(&mut noise);
        noise
    }

    #[test]
    fn what_was_sealed_opens_whole_at_every_length() {
        let random = SeededRandom::new(1);
        let key = DataKey::random(&random);
        let frame = CLEAR_BYTES - 5 - 2;
        for length in [0, 1, 100, frame - 1, frame, frame + 1, 2 * frame, 3 * CLEAR_BYTES] {
            for payload in [noise(2, length), vec![b'a'; length]] {
                let object = seal(&key, "a/1", b"{}", &payload, BASE_LEVEL, &random).expect("sealed");
                assert_eq!(open(&key, "a/1", &object).expect("opens"), (b"{}".to_vec(), payload), "{length}");
                let first = &object[..object.len().min(usize::try_from(FIRST_BYTES).expect("small"))];
                assert_eq!(head(&key, "a/1", first).expect("its head"), b"{}");
            }
        }
    }

    #[test]
    fn nothing_that_was_changed_opens() {
        let random = SeededRandom::new(3);
        let key = DataKey::random(&random);
        let object =
            seal(&key, "a/1", b"{\"a\":1}", &noise(4, 2 * CLEAR_BYTES + 500), BASE_LEVEL, &random).expect("sealed");
        assert!(open(&key, "a/2", &object).is_err(), "another name");
        assert!(open(&DataKey::random(&random), "a/1", &object).is_err(), "another key");
        for at in (0..object.len()).step_by(40_009).chain(0..64) {
            let mut changed = object.clone();
            changed[at] ^= 0x10;
            assert!(open(&key, "a/1", &changed).is_err(), "byte {at}");
        }
        let frames = MAGIC.len() + SALT_BYTES;
        for length in [0, 7, 8, 24, 25, frames + FRAME_BYTES, frames + 2 * FRAME_BYTES, object.len() - 1] {
            assert!(open(&key, "a/1", &object[..length]).is_err(), "cut to {length}");
        }
        let mut swapped = object[..frames].to_vec();
        swapped.extend(&object[frames + FRAME_BYTES..frames + 2 * FRAME_BYTES]);
        swapped.extend(&object[frames..frames + FRAME_BYTES]);
        swapped.extend(&object[frames + 2 * FRAME_BYTES..]);
        assert!(open(&key, "a/1", &swapped).is_err(), "frames in another order");
        assert!(open(&key, "a/1", &[&object[..], b"x"].concat()).is_err(), "longer");
    }

    #[test]
    fn what_compresses_is_shorter_and_what_does_not_is_as_long() {
        let random = SeededRandom::new(5);
        let key = DataKey::random(&random);
        let text = b"insert into orders values (1, 'a');\n".repeat(100_000);
        let object = seal(&key, "a", b"", &text, LOG_LEVEL, &random).expect("sealed");
        assert!(object.len() < text.len() / 20, "{}", object.len());
        let object = seal(&key, "a", b"", &noise(6, 1000), BASE_LEVEL, &random).expect("sealed");
        assert_eq!(object.len(), 1000 + 5 + TAG_BYTES + SALT_BYTES + MAGIC.len());
        assert_eq!(
            seal(&key, "a", b"", &vec![0; PAYLOAD_BYTES_MAX + 1], BASE_LEVEL, &random),
            Err(SealError::TooLarge)
        );
    }
}
