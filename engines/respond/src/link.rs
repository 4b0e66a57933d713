//! One-time links: the address in a message by which its receiver acknowledges, and the one at which a gateway says whether it was
//! delivered.
//!
//! The path names the alert, the person's pseudonym, the channel and the number of the message, and ends with a MAC over them by
//! a key of this installation. So nothing is kept for a link until it is used, nobody can make one, and whoever has one can
//! acknowledge this alert in this name and do nothing else. It works once: the next message has the next one. The same is true of
//! receipts, by a MAC of their own: a gateway that is told the one can't make the other.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use crate::detect::thread::ThreadKey;

/// Bytes of the MAC that stand in a link: 16 can't be guessed.
const MAC_BYTES: usize = 16;

/// The use of a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Use {
    /// Its receiver takes the alert on.
    Acknowledge,
    /// A gateway says what became of the message.
    Receipt,
}

impl Use {
    /// The path of the link of the message `count` of a thread, after `/a/` or `/r/`.
    pub(crate) fn path(self, link_key: &str, key: &ThreadKey, count: u32) -> String {
        let said = format!("{}.{}.{}.{count}", key.alert, key.person, key.channel);
        format!("{said}.{}", URL_SAFE_NO_PAD.encode(self.mac(link_key, &said)))
    }

    /// The thread and the number of its message, if the path was made by [`Self::path`].
    pub(crate) fn read(self, link_key: &str, path: &str) -> Option<(ThreadKey, u32)> {
        if path.len() > 200 {
            return None;
        }
        let (said, shown) = path.rsplit_once('.')?;
        let shown = URL_SAFE_NO_PAD.decode(shown).ok()?;
        if !bool::from(self.mac(link_key, said).as_slice().ct_eq(&shown)) {
            return None;
        }
        let mut parts = said.split('.');
        let (alert, person, channel, count) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let key = ThreadKey { alert: alert.parse().ok()?, person: person.to_owned(), channel: channel.to_owned() };
        Some((key, count.parse().ok()?))
    }

    fn mac(self, link_key: &str, said: &str) -> [u8; MAC_BYTES] {
        let mut short = [0; MAC_BYTES];
        // A key of any length is one for HMAC.
        if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(link_key.as_bytes()) {
            mac.update(match self {
                Self::Acknowledge => b"garant acknowledge 1\n",
                Self::Receipt => b"garant receipt 1\n",
            });
            mac.update(said.as_bytes());
            short.copy_from_slice(&mac.finalize().into_bytes()[..MAC_BYTES]);
        }
        short
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A link can't be made, changed, or used for another alert, person, channel or message, without the key.
    #[test]
    fn a_link_is_made_by_nobody_else() {
        let key = ThreadKey { alert: 12, person: "p-0a1b2c3d".to_owned(), channel: "mail-14462be76cd8248c".to_owned() };
        let made = Use::Acknowledge.path("the key", &key, 3);
        let read = |link_key, path: &str| Use::Acknowledge.read(link_key, path);
        assert_eq!(read("the key", &made), Some((key.clone(), 3)));
        assert_eq!(read("another key", &made), None);
        let receipt = Use::Receipt.path("the key", &key, 3);
        assert_eq!(Use::Receipt.read("the key", &receipt), Some((key.clone(), 3)));
        assert_eq!((Use::Receipt.read("the key", &made), read("the key", &receipt)), (None, None), "each has one use");
        let other = ThreadKey { alert: 13, ..key };
        assert_ne!(made, Use::Acknowledge.path("the key", &other, 3));
        for place in 0..made.len() {
            let mut bytes = made.clone().into_bytes();
            bytes[place] = if bytes[place] == b'1' { b'2' } else { b'1' };
            let changed = String::from_utf8(bytes).expect("ASCII");
            assert_eq!(read("the key", &changed), None, "{changed}");
        }
        let (said, mac) = made.rsplit_once('.').expect("a MAC");
        for shown in [said.to_owned(), format!("{said}."), format!("{said}.{}", &mac[..mac.len() - 2]), "x".repeat(300)]
        {
            assert_eq!(read("the key", &shown), None, "{shown}");
        }
    }
}
