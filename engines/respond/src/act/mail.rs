//! The channel `mail`: a message in plain text and HTML, over one mail server.
//!
//! SMTP, MIME and DKIM are spoken here and not by a library: those that do it bring TLS and certificates of their own along, or a
//! newer compiler, and would have to be bent to run over a connection that `engine::net` has opened. What is sent is one
//! message of one shape, from one sender to one receiver, which needs a small part of each.

use std::fmt;
use std::sync::Arc;

use engine::net::Deadline;
use engine::{BoxFuture, PrivateKey, SecretError, Secrets};
use event::Span;
use policy::{Address, HostPort, Secret, Section, Slot, Table, Value};

use super::hook::unopened;
use super::{Channel, Kind, Means, Message, Providers, Sent};

mod dkim;
mod mime;
mod smtp;

/// How long a mail server gets for all of it, unless the policy says otherwise.
const TIMEOUT: Span = Span::from_secs(20);
/// The shortest and the longest time that a policy may give it.
const TIMEOUTS: std::ops::RangeInclusive<Span> = Span::from_secs(1)..=Span::from_secs(25);

/// A mail address.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct MailAddress(String);

impl fmt::Debug for MailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl Value for MailAddress {
    const SHAPE: &'static str = "a mail address";
    const EXAMPLE: &'static str = "\"lea@shop.example\"";
    const PRIVATE: bool = true;

    fn read(mut slot: Slot<'_>) -> Option<Self> {
        let text = slot.text::<Self>()?;
        if is_mail(text) {
            return Some(Self(text.to_owned()));
        }
        slot.wrong(format!("`{}` is not a mail address", slot.key()), "write it like \"lea@shop.example\"");
        None
    }
}

impl MailAddress {
    fn domain(&self) -> &str {
        self.0.rsplit_once('@').map_or("", |(_, domain)| domain)
    }
}

/// The shape of RFC 5321 addresses that providers really give: no quotes, no comments, a domain with letters.
fn is_mail(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let atom = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&b);
    let dots = !local.starts_with('.') && !local.ends_with('.') && !local.contains("..");
    let domain = matches!(domain.parse(), Ok(Address::Name(_)));
    (1..=64).contains(&local.len()) && local.bytes().all(atom) && dots && domain
}

/// How a mail server is spoken to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Encryption {
    /// Begins in clear and goes on over TLS, or not at all.
    StartTls,
    /// Over TLS from the start.
    Tls,
    /// In clear.
    None,
}

impl fmt::Display for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StartTls => "starttls",
            Self::Tls => "tls",
            Self::None => "none",
        })
    }
}

impl Value for Encryption {
    const SHAPE: &'static str = "\"starttls\", \"tls\" or \"none\"";
    const EXAMPLE: &'static str = "\"starttls\"";

    fn read(slot: Slot<'_>) -> Option<Self> {
        slot.choose(&[("starttls", Self::StartTls), ("tls", Self::Tls), ("none", Self::None)])
    }
}

/// `[mail]`: the server that mail is handed to.
#[derive(Clone, PartialEq, Debug)]
pub struct Server {
    address: HostPort,
    encryption: Encryption,
    login: Option<Login>,
    from: MailAddress,
    dkim: Option<Dkim>,
    timeout: Span,
}

/// A name and its password.
#[derive(Clone, PartialEq, Debug)]
struct Login {
    user: String,
    password: Secret,
}

/// `dkim` in `[mail]`: how mail is signed.
#[derive(Clone, PartialEq, Debug)]
struct Dkim {
    domain: Option<Address>,
    selector: String,
    key: Secret,
}

impl Section for Dkim {
    const ABOUT: &'static str = "How mail is signed.";
    const EXAMPLE: &'static str = "";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let domain = table.optional("domain", "The domain that signs; that of `from`, if absent");
        let selector: Option<String> = table.required(
            "selector",
            "The name of the key: its public half is in the DNS at `<selector>._domainkey.<domain>`",
        );
        let key = table.required("key", "The private key in PEM: RSA of 2048 bits or more, or Ed25519");
        if let Some(selector) = &selector
            && !matches!(selector.parse(), Ok(Address::Name(_)))
        {
            table.mistake("selector", "not a name for the DNS", "use letters, digits and `-`, such as \"garant\"");
            return None;
        }
        Some(Self { domain, selector: selector?, key: key? })
    }
}

impl Section for Server {
    const ABOUT: &'static str = "\
The server that mail is handed to, for every `{ mail = … }` of a person. It is asked wherever it is, also on this machine. Mail is \
signed (DKIM, RFC 6376, relaxed/relaxed) if `dkim` is there; leave it out if the server signs.";
    const EXAMPLE: &'static str = r#"
[mail]
server = "smtp.shop.example:587"
user = "garant"
password = { file = "/etc/garant/smtp-password" }
from = "garant@shop.example"
dkim = { selector = "garant", key = { file = "/etc/garant/dkim.pem" } }
"#;

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let address: Option<HostPort> =
            table.required("server", "Host and port: 587 and 25 with `tls = \"starttls\"`, 465 with `tls = \"tls\"`");
        let encryption = table.or(
            "tls",
            Encryption::StartTls,
            "How TLS begins; a server that can't is not spoken to. In clear is for one on this machine or in a network that nobody \
             else reads",
        );
        let user: Option<String> = table.optional("user", "Name to log in with");
        let password = table.optional("password", "Password to log in with");
        let from: Option<MailAddress> = table.required("from", "Address of the sender");
        let dkim: Option<Dkim> = table.optional("dkim", "How mail is signed");
        let timeout = table.or_in("timeout", TIMEOUT, &TIMEOUTS, "How long the server may take for all of it");
        let login = match (user, password) {
            (Some(user), Some(password)) => Some(Login { user, password }),
            (None, None) => None,
            (user, _) => {
                let (there, missing) = if user.is_some() { ("user", "password") } else { ("password", "user") };
                if !table.has(missing) {
                    table.mistake(
                        there,
                        format!("`{there}` without `{missing}`"),
                        format!("add `{missing}`, or remove it"),
                    );
                }
                return None;
            }
        };
        let (address, from) = (address?, from?);
        if encryption == Encryption::None && login.is_some() && !is_loopback(&address.host) {
            let remedy = "use tls = \"starttls\" or \"tls\", or no password";
            table.mistake("password", "a password is not sent in clear to another machine", remedy);
            return None;
        }
        let of_sender = |domain: &str| from.domain() == domain || from.domain().ends_with(&format!(".{domain}"));
        if let Some(domain) = dkim.as_ref().and_then(|dkim| dkim.domain.as_ref())
            && !of_sender(&domain.to_string())
        {
            let remedy = "sign with the domain of `from`, or one that it lies in: receivers count no other (RFC 7489, section 3.1)";
            table.mistake("dkim", format!("{domain} is not the domain of the sender"), remedy);
            return None;
        }
        Some(Self { address, encryption, login, from, dkim, timeout })
    }
}

fn is_loopback(host: &Address) -> bool {
    match host {
        Address::Name(name) => name == "localhost" || name.ends_with(".localhost"),
        Address::Ip(address) => address.is_loopback(),
    }
}

impl Server {
    /// What is sound and may still surprise.
    pub(super) fn warnings(&self, secrets: &Secrets) -> Vec<String> {
        let password = self.login.as_ref().and_then(|login| unopened("[mail]", &login.password, secrets));
        let key = self.dkim.as_ref().and_then(|dkim| {
            let opened = super::hook::opened_here(&dkim.key, secrets)?;
            let error = opened.and_then(|opened| private_key(&dkim.key, opened.bytes())).err()?;
            Some(format!("mail can't be signed, for {error}"))
        });
        password.into_iter().chain(key).collect()
    }

    /// The whole message in the form of RFC 5322, signed, and its `Message-ID`.
    async fn compose(
        &self,
        to: &MailAddress,
        message: &Message,
        earlier: Option<&str>,
        means: Means<'_>,
    ) -> Result<(Vec<u8>, String), SecretError> {
        let mut mail = mime::Mail::new(message, (&self.from, to), earlier, means.clock.now());
        if let Some(dkim) = &self.dkim {
            let opened = means.secrets.open(&dkim.key).await?;
            let key = private_key(&dkim.key, opened.bytes())?;
            let domain = dkim.domain.as_ref().map_or_else(|| self.from.domain().to_owned(), ToString::to_string);
            let signer = dkim::Signer { domain: &domain, selector: &dkim.selector, key: &key };
            let can_not = |error: engine::PrivateKeyError| useless(&dkim.key, error);
            let signature = signer.sign(mail.headers(), mail.body(), means.clock.now()).map_err(can_not)?;
            mail.put_first(signature);
        }
        Ok((mail.bytes(), mail.id().to_owned()))
    }
}

fn private_key(secret: &Secret, pem: &[u8]) -> Result<PrivateKey, SecretError> {
    PrivateKey::from_pem(pem).map_err(|error| useless(secret, error))
}

fn useless(secret: &Secret, error: engine::PrivateKeyError) -> SecretError {
    SecretError::useless(secret, error.to_string(), "make one with `openssl genpkey -algorithm rsa`, and name its file")
}

/// `mail`.
#[derive(Clone, PartialEq, Debug)]
pub struct Mail(MailAddress);

impl Kind for Mail {
    const NAME: &'static str = "mail";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        table.optional(Self::NAME, "A mail address; needs the table `[mail]`").map(Self)
    }

    fn provider(&self) -> Option<&'static str> {
        Some("mail")
    }

    fn leads_to(&self) -> String {
        self.0.0.clone()
    }

    fn open(&self, providers: &Providers) -> Option<Arc<dyn Channel>> {
        Some(Arc::new(Mailbox { to: self.0.clone(), server: providers.mail.clone()? }))
    }
}

/// A mailbox and the server that leads to it.
#[derive(Debug)]
struct Mailbox {
    to: MailAddress,
    server: Arc<Server>,
}

impl Channel for Mailbox {
    fn kind(&self) -> &'static str {
        Mail::NAME
    }

    fn send<'a>(&'a self, message: &'a Message, earlier: Option<&'a str>, means: Means<'a>) -> BoxFuture<'a, Sent> {
        Box::pin(async move {
            let server = &*self.server;
            let not_now = |reason: String| Sent::Again { reason, after: None };
            let earlier = earlier.filter(|earlier| mime::is_message_id(earlier));
            let (mail, id) = match server.compose(&self.to, message, earlier, means).await {
                Ok(composed) => composed,
                Err(error) => return not_now(error.to_string()),
            };
            let password = match &server.login {
                None => None,
                Some(login) => match means.secrets.open(&login.password).await {
                    Ok(password) => Some((login.user.as_str(), password)),
                    Err(error) => return not_now(error.to_string()),
                },
            };
            let envelope = smtp::Envelope { from: &server.from, to: &self.to, mail: &mail, login: password };
            match smtp::deliver(server, &envelope, means.net, Deadline::within(server.timeout)).await {
                Ok(()) => Sent::Accepted { reference: Some(earlier.map_or(id, str::to_owned)) },
                Err(sent) => sent,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for good in ["lea@shop.example", "a.b+c@mail.shop.example", "o'neil@x.fr"] {
            assert!(is_mail(good), "{good}");
        }
        for bad in [
            "",
            "lea",
            "@shop.example",
            "a@",
            "a b@shop.example",
            ".a@x.fr",
            "a..b@x.fr",
            "é@x.fr",
            "a@192.0.2.1",
            "a>@x.fr",
        ] {
            assert!(!is_mail(bad), "{bad}");
        }
    }

    #[test]
    fn the_example_is_sound() {
        policy::SectionDoc::check::<Server>("mail", false)
            .unwrap_or_else(|mistakes| panic!("{}", mistakes.render(false)));
    }
}
