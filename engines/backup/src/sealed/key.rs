//! Keys: that of a repository, which people keep, and those of its folders, which it wraps.

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use engine::random::Random;
use hmac::{Hmac, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// What the text of a repository key begins with.
const PREFIX: &str = "garant-backup-key-1-";
/// Words that separate the uses of a key.
const WRAP: &[u8] = b"garant backup data key 1\n";
const IDENTIFY: &[u8] = b"garant backup key identity 1\n";

/// The key of a repository: it wraps the data keys, and opens everything. 256 random bits.
#[derive(Clone)]
pub struct RepositoryKey(Zeroizing<[u8; 32]>);

/// The key of one folder of objects. 256 random bits.
#[derive(Clone)]
pub struct DataKey(pub(super) Zeroizing<[u8; 32]>);

/// A data key as it lies in the repository.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wrapped {
    /// The format: 1.
    format: u8,
    /// The identity of the repository key that wraps it.
    by: String,
    /// 12 bytes in hexadecimal.
    nonce: String,
    /// 48 bytes in hexadecimal: the key, and the tag of AES-256-GCM.
    sealed: String,
}

/// A key can't be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyError {
    /// The text is no repository key.
    #[error("it is no repository key: it is to begin with `{PREFIX}` and to have 72 hexadecimal digits behind it")]
    NotAKey,
    /// The text has the form of one, and a digit is wrong.
    #[error("a digit of the repository key is wrong: its check digits do not fit")]
    Mistyped,
    /// A wrapped key is not what was written, or belongs to another folder.
    #[error("the wrapped data key is damaged, or is that of another folder")]
    Damaged,
    /// A wrapped key was wrapped by another repository key.
    #[error("the data key is wrapped by the repository key {0}, which is not the one that is given")]
    OtherKey(String),
}

impl RepositoryKey {
    /// A new one.
    pub fn random(random: &dyn Random) -> Self {
        Self(random_key(random))
    }

    /// Reads what [`Self::text`] wrote; white space around it and the case of digits do not matter.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let digits = text.trim().strip_prefix(PREFIX).ok_or(KeyError::NotAKey)?;
        let bytes = Zeroizing::new(unhex(digits).ok_or(KeyError::NotAKey)?);
        let (key, check) = bytes.split_at_checked(32).ok_or(KeyError::NotAKey)?;
        let key: [u8; 32] = key.try_into().map_err(|_| KeyError::NotAKey)?;
        if check.len() != 4 {
            return Err(KeyError::NotAKey);
        }
        if Sha256::digest(key)[..4] != *check {
            return Err(KeyError::Mistyped);
        }
        Ok(Self(Zeroizing::new(key)))
    }

    /// The key as people keep it: 64 hexadecimal digits, and 8 to find a mistyped one.
    pub fn text(&self) -> Zeroizing<String> {
        let check = hex(&Sha256::digest(*self.0)[..4]);
        Zeroizing::new(format!("{PREFIX}{}{check}", hex(&*self.0)))
    }

    /// What tells this key from others, and nothing of it: 16 hexadecimal digits.
    pub fn identity(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(IDENTIFY);
        hash.update(*self.0);
        hex(&hash.finalize()[..8])
    }

    /// A secret for another use, by words of that use: whoever has it learns nothing of this key (HMAC-SHA-256).
    pub(crate) fn derive(&self, words: &str) -> Zeroizing<[u8; 32]> {
        let mut block = Zeroizing::new([0; 64]);
        block[..32].copy_from_slice(&*self.0);
        let mut mac = Hmac::<Sha256>::new(&(*block).into());
        mac.update(words.as_bytes());
        Zeroizing::new(mac.finalize().into_bytes().into())
    }

    /// The object that holds `key`, which is that of `folder`.
    pub fn wrap(&self, key: &DataKey, folder: &str, random: &dyn Random) -> Result<Vec<u8>, KeyError> {
        let mut nonce = [0; 12];
        random.fill(&mut nonce);
        let cipher = Aes256Gcm::new(&(*self.0).into());
        let payload = Payload { msg: &*key.0, aad: &bound(folder) };
        let sealed = cipher.encrypt(&Nonce::from(nonce), payload).map_err(|_| KeyError::Damaged)?;
        let wrapped = Wrapped { format: 1, by: self.identity(), nonce: hex(&nonce), sealed: hex(&sealed) };
        serde_json::to_vec(&wrapped).map_err(|_| KeyError::Damaged)
    }

    /// The key of `folder`, out of the object that [`Self::wrap`] made.
    pub fn unwrap(&self, object: &[u8], folder: &str) -> Result<DataKey, KeyError> {
        let wrapped: Wrapped = serde_json::from_slice(object).map_err(|_| KeyError::Damaged)?;
        if wrapped.by != self.identity() {
            return Err(KeyError::OtherKey(wrapped.by.chars().filter(char::is_ascii_hexdigit).take(16).collect()));
        }
        let nonce = unhex(&wrapped.nonce).and_then(|nonce| <[u8; 12]>::try_from(nonce).ok());
        let (Some(nonce), Some(sealed), 1) = (nonce, unhex(&wrapped.sealed), wrapped.format) else {
            return Err(KeyError::Damaged);
        };
        let cipher = Aes256Gcm::new(&(*self.0).into());
        let payload = Payload { msg: &sealed, aad: &bound(folder) };
        let clear = Zeroizing::new(cipher.decrypt(&Nonce::from(nonce), payload).map_err(|_| KeyError::Damaged)?);
        let key: [u8; 32] = clear.as_slice().try_into().map_err(|_| KeyError::Damaged)?;
        Ok(DataKey(Zeroizing::new(key)))
    }
}

impl DataKey {
    /// A new one.
    pub fn random(random: &dyn Random) -> Self {
        Self(random_key(random))
    }
}

impl std::fmt::Debug for RepositoryKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RepositoryKey({})", self.identity())
    }
}

impl std::fmt::Debug for DataKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DataKey(…)")
    }
}

/// What binds a wrapped key to its folder.
fn bound(folder: &str) -> Vec<u8> {
    [WRAP, folder.as_bytes()].concat()
}

fn random_key(random: &dyn Random) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    random.fill(&mut *key);
    key
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

pub(crate) fn unhex(digits: &str) -> Option<Vec<u8>> {
    let digits = digits.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    digits.chunks(2).map(|pair| Some(value(pair[0])? << 4 | value(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use engine::random::SeededRandom;

    use super::*;

    #[test]
    fn a_repository_key_is_read_as_it_was_written_and_a_slip_is_found() {
        let key = RepositoryKey::random(&SeededRandom::new(1));
        let text = key.text();
        let read = RepositoryKey::parse(&format!("  {}\n", *text)).expect("it is one");
        assert_eq!(read.identity(), key.identity());
        assert_eq!(
            RepositoryKey::parse(&text.to_uppercase().replace("GARANT-BACKUP-KEY", "garant-backup-key"))
                .map(|key| key.identity()),
            Ok(key.identity())
        );
        let slip: String = text
            .chars()
            .rev()
            .enumerate()
            .map(|(at, c)| if at == 20 { if c == '0' { '1' } else { '0' } } else { c })
            .collect();
        let slip: String = slip.chars().rev().collect();
        assert_eq!(RepositoryKey::parse(&slip).expect_err("a slip"), KeyError::Mistyped);
        for text in ["", "secret", &text[..50], &format!("{}00", *text)] {
            assert_eq!(RepositoryKey::parse(text).expect_err("no key"), KeyError::NotAKey, "{text}");
        }
        assert!(!format!("{key:?}").contains(&text[20..40]), "nothing of it is shown");
    }

    #[test]
    fn a_data_key_opens_for_its_folder_and_under_its_repository_key_alone() {
        let random = SeededRandom::new(2);
        let (ours, theirs) = (RepositoryKey::random(&random), RepositoryKey::random(&random));
        let key = DataKey::random(&random);
        let wrapped = ours.wrap(&key, "sets/shop/1", &random).expect("wrapped");
        assert_eq!(*ours.unwrap(&wrapped, "sets/shop/1").expect("ours").0, *key.0);
        assert_eq!(ours.unwrap(&wrapped, "sets/shop/2").expect_err("another folder"), KeyError::Damaged);
        assert_eq!(
            theirs.unwrap(&wrapped, "sets/shop/1").expect_err("another key"),
            KeyError::OtherKey(ours.identity())
        );
        for at in 0..wrapped.len() {
            let mut changed = wrapped.clone();
            changed[at] ^= 1;
            assert!(ours.unwrap(&changed, "sets/shop/1").is_err(), "byte {at}");
        }
    }
}
