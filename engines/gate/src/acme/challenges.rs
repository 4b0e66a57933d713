//! What is answered to an authority that looks whether a name is ours.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::sign::CertifiedKey;

/// The protocol of a handshake that is a challenge (RFC 8737, section 4).
pub(crate) const ALPN: &[u8] = b"acme-tls/1";
/// Longest token that is answered: those of Let's Encrypt have 43 characters.
const TOKEN_MAX: usize = 128;

/// The challenges that are open.
#[derive(Default, Debug)]
pub(crate) struct Challenges(Mutex<Open>);

#[derive(Default, Debug)]
struct Open {
    /// The fingerprint of the account's key.
    account: Option<Arc<str>>,
    /// What is shown in a handshake, by name.
    handshakes: HashMap<String, Arc<CertifiedKey>>,
}

impl Challenges {
    pub(super) fn set_account(&self, thumbprint: Option<String>) {
        self.open().account = thumbprint.map(Into::into);
    }

    /// The answer to the token of a challenge of `http-01` (RFC 8555, section 8.3), whoever has ordered.
    pub(crate) fn answer(&self, token: &str) -> Option<String> {
        let is_token = (1..=TOKEN_MAX).contains(&token.len())
            && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        let account = self.open().account.clone()?;
        is_token.then(|| format!("{token}.{account}"))
    }

    pub(super) fn show(&self, name: &str, certificate: Arc<CertifiedKey>) {
        self.open().handshakes.insert(name.to_owned(), certificate);
    }

    pub(super) fn forget(&self, names: &[String]) {
        self.open().handshakes.retain(|name, _| !names.contains(name));
    }

    /// What is shown to whoever looks at this name.
    pub(crate) fn certificate(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        self.open().handshakes.get(name).map(Arc::clone)
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        // Nothing that can panic runs under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_answered_and_nothing_else() {
        let challenges = Challenges::default();
        assert_eq!(challenges.answer("abc"), None, "there is no account");
        challenges.set_account(Some("print".to_owned()));
        assert_eq!(challenges.answer("a-Z_9").as_deref(), Some("a-Z_9.print"));
        let long = "x".repeat(129);
        for bad in ["", "a/b", "a.b", "<script>", "a%20b", &long] {
            assert_eq!(challenges.answer(bad), None, "{bad}");
        }
    }
}
