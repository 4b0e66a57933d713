//! The key of a restic repository, and the file in which stock restic finds it.
//!
//! What encrypts everything in a repository, and the password under which stock restic finds that, are both derived from the
//! repository key and the name. So we stretch no password to open one, and a repository whose key files are lost is still open to
//! whoever has the repository key.

use aes256ctr_poly1305aes::aead::Aead as _;
use aes256ctr_poly1305aes::{Aes256CtrPoly1305Aes, Key, Nonce};
use base64::Engine as _;
use engine::random::Random;
use serde::Serialize;
use zeroize::Zeroizing;

use super::FilesError;
use crate::sealed::{RepositoryKey, hex};

/// What scrypt (RFC 7914) costs: 16 MiB. rustic_core would take 128 MiB of the host's memory; a password of 256 random bits, which
/// nobody guesses at, gains nothing by either.
const LOG_N: u8 = 14;
const R: u32 = 8;
const P: u32 = 1;
/// restic refuses any other length.
const SALT_BYTES: usize = 64;
const NONCE_BYTES: usize = 16;

/// The password of the restic repository `name`, for stock restic: 64 hexadecimal digits.
///
/// Whoever has it reads that repository, and nothing else of the repository key.
pub fn password(key: &RepositoryKey, name: &str) -> Zeroizing<String> {
    Zeroizing::new(hex(&*key.derive(&format!("garant restic password 1\n{name}"))))
}

/// The key of the restic repository `name`: 32 bytes that encrypt, 16 and 16 that authenticate, `k` and `r`.
pub(super) fn cipher_key(key: &RepositoryKey, name: &str) -> Zeroizing<[u8; 64]> {
    let encrypt = key.derive(&format!("garant restic encryption key 1\n{name}"));
    let authenticate = key.derive(&format!("garant restic authentication key 1\n{name}"));
    let mut all = Zeroizing::new([0; 64]);
    all[..32].copy_from_slice(&*encrypt);
    all[32..].copy_from_slice(&*authenticate);
    // What Poly1305 leaves out of `r`, restic stores as zeros.
    let r = &mut all[48..];
    for (at, mask) in [(3, 0x0f), (7, 0x0f), (11, 0x0f), (15, 0x0f), (4, 0xfc), (8, 0xfc), (12, 0xfc)] {
        r[at] &= mask;
    }
    all
}

/// The same, in the form in which restic stores it.
pub(super) fn master_key(key: &RepositoryKey, name: &str) -> serde_json::Value {
    let all = cipher_key(key, name);
    let (encrypt, authenticate) = all.split_at(32);
    let (k, r) = authenticate.split_at(16);
    serde_json::json!({ "mac": { "k": base64(k), "r": base64(r) }, "encrypt": base64(encrypt) })
}

/// A key file of restic: the master key, encrypted under what the password is stretched to.
#[derive(Serialize)]
struct KeyFile {
    kdf: &'static str,
    #[serde(rename = "N")]
    n: u32,
    r: u32,
    p: u32,
    /// The nonce, then the ciphertext with its tag; base64.
    data: String,
    salt: String,
}

/// The content of a new key file of the restic repository `name`, as its format says ("Keys, Encryption and MAC"): JSON.
pub(super) fn key_file(key: &RepositoryKey, name: &str, random: &dyn Random) -> Result<Vec<u8>, FilesError> {
    let unusable = |error: &dyn std::fmt::Display| FilesError::Stored(format!("no key file can be made: {error}"));
    let (mut salt, mut nonce) = ([0; SALT_BYTES], [0; NONCE_BYTES]);
    random.fill(&mut salt);
    random.fill(&mut nonce);
    let mut stretched = Zeroizing::new([0; 64]);
    let params = scrypt::Params::new(LOG_N, R, P).map_err(|error| unusable(&error))?;
    scrypt::scrypt(password(key, name).as_bytes(), &salt, &params, &mut *stretched)
        .map_err(|error| unusable(&error))?;
    let master = Zeroizing::new(serde_json::to_vec(&master_key(key, name)).map_err(|error| unusable(&error))?);
    let cipher = Aes256CtrPoly1305Aes::new(&Key::from(*stretched));
    let encrypted = cipher.encrypt(&Nonce::from(nonce), &**master).map_err(|error| unusable(&error))?;
    let data = base64(&[&nonce[..], &encrypted].concat());
    let file = KeyFile { kdf: "scrypt", n: 1 << LOG_N, r: R, p: P, data, salt: base64(&salt) };
    serde_json::to_vec(&file).map_err(|error| unusable(&error))
}

/// Base64 (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
