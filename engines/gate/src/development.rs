//! Certificates for development: of an authority that is made for one name of this machine, and forgotten.
//!
//! Whoever trusts it trusts it for names of this machine alone (RFC 5280, section 4.2.1.10), and nobody can have it sign anything more: its
//! key is never written.

use event::{Span, Time};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, NameConstraints,
};
use time::OffsetDateTime;
use zeroize::Zeroizing;

/// How long such a certificate is valid.
const VALID: Span = Span::from_days(90);

/// What is made, in PEM.
pub struct Development {
    /// The certificate of the authority, for browsers to trust.
    pub authority: String,
    /// The certificate of the site.
    pub chain: String,
    /// Its key.
    pub key: Zeroizing<String>,
}

/// Whether a name is one of this machine, whoever asks (RFC 6761, section 6.3).
pub fn is_of_this_machine(name: &str) -> bool {
    name == "localhost" || name.strip_suffix(".localhost").is_some_and(|rest| !rest.is_empty())
}

/// Makes a certificate for a name of this machine, and an authority for it.
///
/// # Errors
/// The name is none of this machine, or the cryptographic library fails.
pub fn development(name: &str, now: Time) -> Result<Development, String> {
    if !is_of_this_machine(name) {
        return Err(format!("`{name}` is no name of this machine alone"));
    }
    let failed = |error: rcgen::Error| format!("no certificate can be made: {error}");
    let second = |time: Time| {
        let seconds = time.micros().div_euclid(1_000_000);
        OffsetDateTime::from_unix_timestamp(seconds).map_err(|error| error.to_string())
    };
    // An hour earlier: clocks differ.
    let (from, until) = (second(now - Span::from_secs(3600))?, second(now + VALID)?);

    let own_key = KeyPair::generate().map_err(failed)?;
    let mut own = CertificateParams::new(Vec::<String>::new()).map_err(failed)?;
    own.distinguished_name.push(DnType::CommonName, "garant, for development on this machine");
    own.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    own.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    own.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName("localhost".to_owned())],
        excluded_subtrees: vec![
            GeneralSubtree::IpAddress(CidrSubnet::V4([0; 4], [0; 4])),
            GeneralSubtree::IpAddress(CidrSubnet::V6([0; 16], [0; 16])),
        ],
    });
    (own.not_before, own.not_after) = (from, until);
    let authority = own.self_signed(&own_key).map_err(failed)?.pem();
    let issuer = Issuer::new(own, own_key);

    let key = KeyPair::generate().map_err(failed)?;
    let mut site = CertificateParams::new(vec![name.to_owned()]).map_err(failed)?;
    site.distinguished_name.push(DnType::CommonName, name);
    site.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    (site.not_before, site.not_after) = (from, until);
    let chain = site.signed_by(&key, &issuer).map_err(failed)?.pem();
    Ok(Development { authority, chain, key: Zeroizing::new(key.serialize_pem()) })
}

#[cfg(test)]
mod tests {
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier as _;
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{RootCertStore, crypto::aws_lc_rs};

    use super::*;

    #[test]
    fn it_is_for_this_machine_alone() {
        let now = Time::from_secs(1_800_000_000);
        for name in ["shop.example", "localhost.example", "127.0.0.1", ".localhost", "notlocalhost"] {
            assert!(development(name, now).is_err(), "{name}");
        }
        let made = development("shop.localhost", now).expect("made");
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(made.authority.as_bytes()).expect("PEM")).expect("a root");
        let provider = std::sync::Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build().expect("a verifier");
        let certificate = CertificateDer::from_pem_slice(made.chain.as_bytes()).expect("PEM");
        let verify = |name: &str, seconds| {
            let name = ServerName::try_from(name.to_owned()).expect("a name");
            let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
            verifier.verify_server_cert(&certificate, &[], &name, &[], at).is_ok()
        };
        assert!(verify("shop.localhost", 1_800_000_000) && !verify("other.localhost", 1_800_000_000));
        assert!(!verify("shop.localhost", 1_800_000_000 + 91 * 86_400), "it ends");
    }
}
