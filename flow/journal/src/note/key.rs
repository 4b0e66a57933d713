//! Keys that sign notes, and keys that verify them.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, VerifyingKey};

use super::Signature;
use crate::Hash;

/// The use of a key; the number is its byte in a vkey.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum KeyType {
    /// 0x01: an Ed25519 signature of the text of a note, by a log.
    Ed25519,
    /// 0x04: an Ed25519 cosignature/v1 with its time, by a witness.
    Cosignature,
}

impl KeyType {
    const fn byte(self) -> u8 {
        match self {
            Self::Ed25519 => 0x01,
            Self::Cosignature => 0x04,
        }
    }
}

/// The reason why a text is not a key.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadKey {
    /// Not of the form.
    #[error("not a verifier key: `<name>+<8 hexadecimal digits>+<base64>` expected")]
    Form,
    /// Not of the form of a private key. The text is not repeated here.
    #[error("not a private key: `PRIVATE+KEY+<name>+<8 hexadecimal digits>+<base64>` expected")]
    PrivateForm,
    /// A name that a key can't have.
    #[error("`{0}` can't name a key: it is not empty and has no spaces and no `+`")]
    Name(String),
    /// A type that this release does not know.
    #[error("the key `{name}` is of type {byte:#04x}; Ed25519 (0x01) and cosignature/v1 (0x04) are supported")]
    Type {
        /// Name of the key.
        name: String,
        /// Its type.
        byte: u8,
    },
    /// Not a point of the curve, or one of small order.
    #[error("the key `{0}` is not a valid Ed25519 key")]
    Point(String),
    /// The id does not belong to the rest: a typing or copying mistake.
    #[error("the key `{name}` has the id {written}, but its id is {computed}: it was not copied whole")]
    Id {
        /// Name of the key.
        name: String,
        /// The id in the text.
        written: String,
        /// The id that belongs to name and key.
        computed: String,
    },
    /// Not a fingerprint.
    #[error("not a fingerprint: `sha256:` and 64 hexadecimal digits expected")]
    Fingerprint,
}

pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+')
}

pub(super) fn hex(key_id: [u8; 4]) -> String {
    format!("{:08x}", u32::from_be_bytes(key_id))
}

/// SHA-256(name ‖ "\n" ‖ type ‖ key)[:4]
fn key_id(name: &str, key_type: KeyType, public: &[u8; 32]) -> [u8; 4] {
    let hash = Hash::of(&[name.as_bytes(), b"\n", &[key_type.byte()], public]);
    let [a, b, c, d, ..] = *hash.as_bytes();
    [a, b, c, d]
}

/// A public key with its name, as in `shop.example/1+8a3c21f0+AX…`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct VerifierKey {
    name: String,
    key_type: KeyType,
    key_id: [u8; 4],
    public: VerifyingKey,
}

impl VerifierKey {
    /// Name of the key: for a log, its origin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The use of the key.
    pub const fn key_type(&self) -> KeyType {
        self.key_type
    }

    /// The four bytes by which signature lines refer to it.
    pub const fn key_id(&self) -> [u8; 4] {
        self.key_id
    }

    /// The same as eight hexadecimal digits.
    pub fn key_id_hex(&self) -> String {
        hex(self.key_id)
    }

    /// Name and id, for a message.
    pub(crate) fn describe(&self) -> String {
        format!("{} (key {})", self.name, self.key_id_hex())
    }

    /// The bare Ed25519 key. Two keys of another name or type with the same bytes are duplicates in a tlog-policy.
    pub fn public_bytes(&self) -> &[u8; 32] {
        self.public.as_bytes()
    }

    /// SHA-256 of the key as text: short enough for a DNS record, and `printf %s VKEY | sha256sum` gives it.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint(Hash::of(&[self.to_string().as_bytes()]))
    }

    /// Whether the key signed `message`. Strict: weak keys and malleable signatures are refused.
    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        ed25519_dalek::Signature::from_slice(signature)
            .is_ok_and(|signature| self.public.verify_strict(message, &signature).is_ok())
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let material = [&[self.key_type.byte()][..], self.public.as_bytes()].concat();
        write!(f, "{}+{}+{}", self.name, self.key_id_hex(), STANDARD.encode(material))
    }
}

/// Name, id and (type ‖ key) of `<name>+<id>+<base64>`.
fn parse_parts(text: &str) -> Option<(&str, &str, u8, [u8; 32])> {
    let (name, rest) = text.split_once('+')?;
    let (id, encoded) = rest.split_once('+')?;
    let material = STANDARD.decode(encoded).ok()?;
    let (key_type, key) = material.split_first()?;
    let id_is_hex = id.len() == 8 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    id_is_hex.then_some((name, id, *key_type, key.try_into().ok()?))
}

impl FromStr for VerifierKey {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Self, BadKey> {
        let (name, id, byte, public) = parse_parts(text).ok_or(BadKey::Form)?;
        if !is_name(name) {
            return Err(BadKey::Name(name.to_owned()));
        }
        let key_type = [KeyType::Ed25519, KeyType::Cosignature].into_iter().find(|t| t.byte() == byte);
        let key_type = key_type.ok_or_else(|| BadKey::Type { name: name.to_owned(), byte })?;
        let key_id = key_id(name, key_type, &public);
        if hex(key_id) != id {
            return Err(BadKey::Id { name: name.to_owned(), written: id.to_owned(), computed: hex(key_id) });
        }
        let public = VerifyingKey::from_bytes(&public).ok().filter(|key| !key.is_weak());
        let public = public.ok_or_else(|| BadKey::Point(name.to_owned()))?;
        Ok(Self { name: name.to_owned(), key_type, key_id, public })
    }
}

/// Type of an ML-DSA-44 cosignature (C2SP tlog-cosignature).
const ML_DSA_44: u8 = 0x06;
/// Bytes of an ML-DSA-44 public key (FIPS 204, table 2).
const ML_DSA_44_KEY_BYTES: usize = 1312;

/// Whether the text is a key of a witness that cosigns with ML-DSA-44. This release can't verify its cosignatures, but a
/// policy may name it; `None` when the text is a key of another type, or none.
pub(crate) fn ml_dsa_key(text: &str) -> Option<Result<(), BadKey>> {
    let (name, rest) = text.split_once('+')?;
    let (id, encoded) = rest.split_once('+')?;
    let material = STANDARD.decode(encoded).ok()?;
    if *material.first()? != ML_DSA_44 || material.len() != 1 + ML_DSA_44_KEY_BYTES {
        return None;
    }
    if !is_name(name) {
        return Some(Err(BadKey::Name(name.to_owned())));
    }
    let hash = Hash::of(&[name.as_bytes(), b"\n", &material]);
    let [a, b, c, d, ..] = *hash.as_bytes();
    let computed = hex([a, b, c, d]);
    let (name, written) = (name.to_owned(), id.to_owned());
    Some(if id == computed { Ok(()) } else { Err(BadKey::Id { name, written, computed }) })
}

impl serde::Serialize for VerifierKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for VerifierKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// SHA-256 of a verifier key as text, for places with little room: `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Fingerprint(Hash);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

impl FromStr for Fingerprint {
    type Err = BadKey;
    fn from_str(text: &str) -> Result<Self, BadKey> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        Hash::from_hex(&digits.to_ascii_lowercase()).map(Self).map_err(|_| BadKey::Fingerprint)
    }
}

/// A private key with its name. Never printed, overwritten when dropped.
#[derive(Clone)]
pub struct SigningKey {
    name: String,
    key: ed25519_dalek::SigningKey,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({}, …)", self.name)
    }
}

impl SigningKey {
    /// A key from 32 random bytes, for the name: of a log, its origin.
    pub fn generate(seed: [u8; 32], name: &str) -> Result<Self, BadKey> {
        if !is_name(name) {
            return Err(BadKey::Name(name.to_owned()));
        }
        Ok(Self { name: name.to_owned(), key: ed25519_dalek::SigningKey::from_bytes(&seed) })
    }

    /// Reads `PRIVATE+KEY+<name>+<id>+<base64>`, the form of Go's `x/mod/sumdb/note`; white space around it is ignored.
    pub fn from_text(text: &str) -> Result<Self, BadKey> {
        let parts = text.trim().strip_prefix("PRIVATE+KEY+").and_then(parse_parts);
        let (name, id, byte, seed) = parts.ok_or(BadKey::PrivateForm)?;
        if byte != KeyType::Ed25519.byte() {
            return Err(BadKey::Type { name: name.to_owned(), byte });
        }
        let key = Self::generate(seed, name)?;
        let computed = key.vkey().key_id_hex();
        if computed != id {
            return Err(BadKey::Id { name: name.to_owned(), written: id.to_owned(), computed });
        }
        Ok(key)
    }

    /// The whole key as text, one line without a newline: a secret.
    pub fn to_text(&self) -> String {
        let material = [&[KeyType::Ed25519.byte()][..], self.key.as_bytes()].concat();
        format!("PRIVATE+KEY+{}+{}+{}", self.name, self.vkey().key_id_hex(), STANDARD.encode(material))
    }

    /// Name of the key.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The public half, for the signatures of a log.
    pub fn vkey(&self) -> VerifierKey {
        self.verifier(KeyType::Ed25519)
    }

    /// The public half, for the cosignatures of a witness. A key is used for the one or for the other.
    pub fn cosigner_vkey(&self) -> VerifierKey {
        self.verifier(KeyType::Cosignature)
    }

    fn verifier(&self, key_type: KeyType) -> VerifierKey {
        let public = self.key.verifying_key();
        VerifierKey {
            name: self.name.clone(),
            key_type,
            key_id: key_id(&self.name, key_type, public.as_bytes()),
            public,
        }
    }

    /// The signature line (type 0x01) for a text, which must end in a newline to be the text of a note.
    pub fn sign_text(&self, text: &str) -> Signature {
        Signature { name: self.name.clone(), key_id: self.vkey().key_id(), bytes: self.sign(text.as_bytes()).to_vec() }
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }
}
