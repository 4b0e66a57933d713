//! What a certificate says of itself.

use std::net::IpAddr;

use event::{Span, Time};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use x509_parser::public_key::PublicKey;

/// Kind of a public key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyKind {
    /// RSA.
    Rsa,
    /// ECDSA on a NIST curve.
    Ecdsa,
    /// Ed25519 (RFC 8410).
    Ed25519,
    /// Another.
    Other,
}

/// What a certificate says of itself; nothing of it is verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certificate {
    /// Valid from here on.
    pub not_before: Time,
    /// Valid up to here, included.
    pub not_after: Time,
    /// Subject as text (RFC 4514), such as `CN=shop.example`.
    pub subject: String,
    /// Issuer as text.
    pub issuer: String,
    /// Names and addresses it is for.
    pub names: Vec<String>,
    /// Serial number, hexadecimal with colons.
    pub serial: String,
    /// Kind of its key.
    pub key: KeyKind,
    /// Length of its key in bits; 0 when unknown.
    pub key_bits: usize,
}

/// OID of Ed25519 keys, RFC 8410 section 3.
const ED25519: &str = "1.3.101.112";

impl Certificate {
    /// Reads the DER encoding; `None` when it is none.
    pub fn parse(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let validity = certificate.validity();
        let (key, key_bits) = match certificate.public_key().parsed() {
            Ok(PublicKey::RSA(rsa)) => (KeyKind::Rsa, rsa.key_size()),
            Ok(PublicKey::EC(point)) => (KeyKind::Ecdsa, point.key_size()),
            _ if certificate.public_key().algorithm.algorithm.to_id_string() == ED25519 => (KeyKind::Ed25519, 256),
            Ok(other) => (KeyKind::Other, other.key_size()),
            Err(_) => (KeyKind::Other, 0),
        };
        let names = match certificate.subject_alternative_name() {
            Ok(Some(extension)) => extension.value.general_names.iter().filter_map(name).collect(),
            _ => Vec::new(),
        };
        Some(Self {
            not_before: Time::from_secs(validity.not_before.timestamp()),
            not_after: Time::from_secs(validity.not_after.timestamp()),
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            names,
            serial: certificate.raw_serial_as_string(),
            key,
            key_bits,
        })
    }

    /// How long it is still valid; negative once it expired.
    pub fn left(&self, now: Time) -> Span {
        self.not_after.since(now)
    }
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let address = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let address = address.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
            address.ok().map(|address| address.to_string())
        }
        _ => None,
    }
}
