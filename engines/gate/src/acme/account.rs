//! The account at an authority: a key, which is all that an authority knows it by.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use engine::Secrets;
use policy::Secret;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest as _, Sha256};

use crate::settings::KeyPlace;

/// The file of a key that the gate has made itself.
const FILE: &str = "account.key";

/// The account.
pub(super) struct Account {
    key: KeyPair,
}

impl Account {
    /// Opens the key of the account, or makes one where the policy names none and there is none.
    pub(super) async fn open(secrets: &Secrets, place: Option<&KeyPlace>, folder: &Path) -> Result<Self, String> {
        let own = folder.join(FILE);
        let (made_in, makes_key) = (folder.to_owned(), place.is_none());
        let made = tokio::task::spawn_blocking(move || make(&made_in, makes_key)).await.unwrap_or(Ok(()));
        made.map_err(|error| format!("{} can't be made: {error}", folder.display()))?;
        let secret = place.map_or_else(|| Secret::File(own), KeyPlace::secret);
        let opened = secrets.open(&secret).await.map_err(|error| error.to_string())?;
        let text = std::str::from_utf8(opened.bytes()).ok();
        let key = text.and_then(|text| KeyPair::from_pem(text).ok());
        let key = key.filter(|key| key.is_compatible(&PKCS_ECDSA_P256_SHA256));
        let remedy = "make one with `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`";
        key.map(|key| Self { key })
            .ok_or_else(|| format!("its key is none of the curve P-256 in PEM (PKCS #8): {remedy}"))
    }

    /// The fingerprint of its key (RFC 7638): public, and half of each answer to a challenge.
    pub(super) fn thumbprint(&self) -> String {
        // Uncompressed: 4, then both coordinates (SEC 1, section 2.3.3).
        let point = self.key.der_bytes();
        let half = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(point.get(range).unwrap_or_default());
        let members = format!(r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#, half(1..33), half(33..65));
        URL_SAFE_NO_PAD.encode(Sha256::digest(members))
    }

    /// The key as the client of ACME takes it.
    pub(super) fn key(&self) -> Result<(instant_acme::Key, PrivateKeyDer<'static>), instant_acme::Error> {
        let der = PrivatePkcs8KeyDer::from(self.key.serialize_der());
        Ok((instant_acme::Key::from_pkcs8_der(der.clone_key())?, der.into()))
    }
}

/// Makes the folder of certificates, and a key in it where one is to be there and is not.
fn make(folder: &Path, makes_key: bool) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let path = folder.join(FILE);
    if !makes_key || path.exists() {
        return Ok(());
    }
    let key = KeyPair::generate().map_err(std::io::Error::other)?;
    store::write_whole(&path, zeroize::Zeroizing::new(key.serialize_pem()).as_bytes(), 0o600)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_account_is_kept_and_can_be_given() {
        let folder = tempfile::tempdir().expect("a folder");
        let secrets = Secrets::of_system();
        let made = Account::open(&secrets, None, folder.path()).await.expect("made");
        let again = Account::open(&secrets, None, folder.path()).await.expect("kept");
        assert_eq!(made.thumbprint(), again.thumbprint());
        let given = KeyPlace::File(folder.path().join(FILE));
        let other = tempfile::tempdir().expect("a folder");
        let shared = Account::open(&secrets, Some(&given), other.path()).await.expect("given");
        assert_eq!(shared.thumbprint(), made.thumbprint());
        assert!(
            std::fs::read_dir(other.path()).expect("a folder").next().is_none(),
            "none is made beside one that is given"
        );
        std::fs::write(folder.path().join("bad"), "no key").expect("written");
        std::fs::set_permissions(folder.path().join("bad"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .expect("set");
        let bad = KeyPlace::File(folder.path().join("bad"));
        assert!(Account::open(&secrets, Some(&bad), folder.path()).await.is_err_and(|why| why.contains("openssl")));
    }

    /// A key of openssl, and its fingerprint as Python computes it from what openssl shows of it.
    #[test]
    fn the_fingerprint_is_that_of_everybody() {
        let pem = "-----BEGIN PRIVATE KEY-----\n\
                   MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgWeocZWQwq8T3KtYl\n\
                   XOWr48CQ8laG5VeNBt9Tl2yRvKehRANCAATGIUzRI21VxcpiVh9CNOiNzG1RRJQp\n\
                   9IspaYtaMF9TmqLGntrtH9Chme2bSz+Qw9AE2gyvyC/FYPoD6ZjVOcz6\n\
                   -----END PRIVATE KEY-----\n";
        let account = Account { key: KeyPair::from_pem(pem).expect("a key") };
        assert_eq!(account.thumbprint(), "jwdeCaeK9lakrF9uTZMh8x3E8cGIvEwArnNQWprj3Mc");
        assert!(account.key().is_ok());
    }
}
