//! Private keys that sign what others verify, such as mail (DKIM).
//!
//! The journal signs with keys and code of its own. These are keys as tools of the field make them, and rustls, which is there
//! for TLS, reads them and signs with them: no second implementation of RSA comes along.

use std::fmt;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::sign::SigningKey;

/// A kind of signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SignatureKind {
    /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017).
    RsaSha256,
    /// Ed25519 (RFC 8032).
    Ed25519,
}

/// A private key.
pub struct PrivateKey {
    key: Arc<dyn SigningKey>,
    kind: SignatureKind,
}

/// Why a private key can't be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PrivateKeyError {
    /// There is no key in PEM.
    #[error("it holds no private key in PEM, such as `openssl genpkey` writes it")]
    NoKey,
    /// The key is of another kind, or too short.
    #[error("its key is neither RSA of 2048 to 8192 bits nor Ed25519")]
    Kind,
    /// The library refuses to sign.
    #[error("its key can't sign")]
    CanNotSign,
}

impl PrivateKey {
    /// Reads PEM: PKCS #8, or PKCS #1 for RSA.
    pub fn from_pem(pem: &[u8]) -> Result<Self, PrivateKeyError> {
        let der = PrivateKeyDer::from_pem_slice(pem).map_err(|_| PrivateKeyError::NoKey)?;
        let key = any_supported_type(&der).map_err(|_| PrivateKeyError::Kind)?;
        let kinds = [SignatureKind::RsaSha256, SignatureKind::Ed25519];
        let kind = kinds.into_iter().find(|kind| key.choose_scheme(&[scheme(*kind)]).is_some());
        Ok(Self { key, kind: kind.ok_or(PrivateKeyError::Kind)? })
    }

    /// The kind of its signatures.
    pub const fn kind(&self) -> SignatureKind {
        self.kind
    }

    /// Signs `message`, which it hashes itself.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, PrivateKeyError> {
        let signer = self.key.choose_scheme(&[scheme(self.kind)]).ok_or(PrivateKeyError::CanNotSign)?;
        signer.sign(message).map_err(|_| PrivateKeyError::CanNotSign)
    }
}

const fn scheme(kind: SignatureKind) -> SignatureScheme {
    match kind {
        SignatureKind::RsaSha256 => SignatureScheme::RSA_PKCS1_SHA256,
        SignatureKind::Ed25519 => SignatureScheme::ED25519,
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({:?})", self.kind)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::KeyPair;

    use super::*;

    /// An independent implementation verifies the signature; a key of another kind, and what is none, are refused.
    #[test]
    fn a_key_in_pem_signs() {
        let pair = KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
        let key = PrivateKey::from_pem(pair.serialize_pem().as_bytes()).expect("a key");
        assert_eq!(key.kind(), SignatureKind::Ed25519);
        let signature = key.sign(b"said").expect("signed");
        let public: [u8; 32] = pair.public_key_raw().try_into().expect("32 bytes");
        let public = ed25519_dalek::VerifyingKey::from_bytes(&public).expect("a point");
        let signature = ed25519_dalek::Signature::from_slice(&signature).expect("64 bytes");
        assert!(public.verify_strict(b"said", &signature).is_ok());
        assert!(public.verify_strict(b"sad", &signature).is_err());

        let other = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key").serialize_pem();
        assert_eq!(PrivateKey::from_pem(other.as_bytes()).expect_err("no kind of ours"), PrivateKeyError::Kind);
        assert_eq!(PrivateKey::from_pem(b"s3cret").expect_err("no key"), PrivateKeyError::NoKey);
    }
}
