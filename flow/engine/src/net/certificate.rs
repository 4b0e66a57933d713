//! What a certificate says of itself.

use std::net::IpAddr;

use event::Time;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};
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
    /// What one in DER says (RFC 5280); `None` where it is none.
    pub fn of_der(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        Some(Self::of(&certificate))
    }

    pub(super) fn of(certificate: &X509Certificate<'_>) -> Self {
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
        Self {
            not_before: Time::from_secs(validity.not_before.timestamp()),
            not_after: Time::from_secs(validity.not_after.timestamp()),
            subject: printable(&certificate.subject().to_string()),
            issuer: printable(&certificate.issuer().to_string()),
            names,
            serial: certificate.raw_serial_as_string(),
            key,
            key_bits,
        }
    }
}

/// Longest text of strangers that is told, in characters.
const NAME_CHARS_MAX: usize = 120;

/// What a certificate or a record of the DNS says, for people: its text is of strangers, and a terminal takes some of it for
/// commands. Controls, and what changes the direction of a text or hides in it, are escaped; what is too long is cut.
pub fn printable(text: &str) -> String {
    let mut told = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == NAME_CHARS_MAX {
            told.push('…');
            break;
        }
        // Format characters (Unicode, general category Cf) and the separators of lines.
        let hidden = matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
        if c.is_control() || hidden {
            told.extend(c.escape_unicode());
        } else {
            told.push(c);
        }
    }
    told
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(printable(name)),
        GeneralName::IPAddress(bytes) => {
            let address = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let address = address.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
            address.ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_strangers_is_told_as_text() {
        for (text, told) in [
            ("CN=Société, O=Müller", "CN=Société, O=Müller"),
            ("CN=\u{1b}[31mred", "CN=\\u{1b}[31mred"),
            ("CN=a\u{202e}b\u{200b}\n", "CN=a\\u{202e}b\\u{200b}\\u{a}"),
        ] {
            assert_eq!(printable(text), told);
        }
        assert_eq!(printable(&"x".repeat(10_000)).chars().count(), NAME_CHARS_MAX + 1);
    }
}
