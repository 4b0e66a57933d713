//! A DKIM signature (RFC 6376; Ed25519: RFC 8463), relaxed/relaxed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::{PrivateKey, PrivateKeyError, SignatureKind};
use event::Time;
use sha2::{Digest as _, Sha256};

/// Fields whose absence is signed too: nobody can add a second one (section 8.15).
const ONCE: [&str; 4] = ["From", "To", "Subject", "Date"];

/// Who signs.
pub(super) struct Signer<'a> {
    /// Its domain.
    pub(super) domain: &'a str,
    /// The name of its key.
    pub(super) selector: &'a str,
    /// The key.
    pub(super) key: &'a PrivateKey,
}

impl Signer<'_> {
    /// The header field that signs all of these fields, and the body.
    pub(super) fn sign(
        &self,
        headers: &[(&'static str, String)],
        body: &str,
        now: Time,
    ) -> Result<(&'static str, String), PrivateKeyError> {
        let algorithm = match self.key.kind() {
            SignatureKind::RsaSha256 => "rsa-sha256",
            SignatureKind::Ed25519 => "ed25519-sha256",
        };
        let names: Vec<&str> = headers.iter().map(|(name, _)| *name).chain(ONCE).collect();
        let hash = STANDARD.encode(Sha256::digest(relaxed_body(body)));
        let (domain, selector, seconds) = (self.domain, self.selector, now.micros().div_euclid(1_000_000));
        let unsigned = format!(
            "v=1; a={algorithm}; c=relaxed/relaxed;\r\n d={domain};\r\n s={selector}; t={seconds};\r\n h={};\r\n bh={hash};\r\n b=",
            names.join(":\r\n  ")
        );
        let mut signed: String = headers.iter().map(|(name, value)| relaxed_header(name, value) + "\r\n").collect();
        signed.push_str(&relaxed_header(NAME, &unsigned));
        let signature = match self.key.kind() {
            SignatureKind::RsaSha256 => self.key.sign(signed.as_bytes())?,
            // It signs the hash, and hashes that again itself (RFC 8463, section 3).
            SignatureKind::Ed25519 => self.key.sign(&Sha256::digest(signed))?,
        };
        Ok((NAME, unsigned + &folded(&STANDARD.encode(signature))))
    }
}

const NAME: &str = "DKIM-Signature";

/// Section 3.4.2.
fn relaxed_header(name: &str, value: &str) -> String {
    let value: Vec<&str> = value.split_ascii_whitespace().collect();
    format!("{}:{}", name.to_ascii_lowercase(), value.join(" "))
}

/// Section 3.4.4.
fn relaxed_body(body: &str) -> String {
    let blank = |c| c == ' ' || c == '\t';
    let line = |line: &str| {
        let words: Vec<&str> = line.split(blank).filter(|word| !word.is_empty()).collect();
        let start = if line.starts_with(blank) && !words.is_empty() { " " } else { "" };
        format!("{start}{}\r\n", words.join(" "))
    };
    let whole: String = body.split("\r\n").map(line).collect();
    match whole.trim_end_matches("\r\n") {
        "" => String::new(),
        text => format!("{text}\r\n"),
    }
}

/// In lines of 70 characters.
fn folded(signature: &str) -> String {
    let mut out = String::new();
    for (index, c) in signature.chars().enumerate() {
        if index > 0 && index % 70 == 0 {
            out.push_str("\r\n ");
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 6376, section 3.4.5.
    #[test]
    fn relaxed_is_as_the_rfc_has_it() {
        assert_eq!(relaxed_header("A", " X"), "a:X");
        assert_eq!(relaxed_header("B ".trim(), " Y\t\r\n\tZ  "), "b:Y Z");
        assert_eq!(relaxed_body(" C \r\nD \t E\r\n\r\n\r\n"), " C\r\nD E\r\n");
        assert_eq!(relaxed_body("\r\n\r\n"), "");
    }
}
