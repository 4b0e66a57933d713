//! The channel `sms`: a text message, in one part, over any gateway that takes one over HTTP.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::door::Call;
use engine::http::{HeaderName, Method, Request, Response};
use engine::{BoxFuture, Clock, SecretError, Secrets};
use policy::{Private, Secret, Section, Slot, Table, Url, Value};
use serde_json::Value as Json;
use zeroize::Zeroizing;

use super::hook::unopened;
use super::request::{Wanted, ask, failed};
use super::{Channel, Delivery, Kind, Means, Message, Providers, Sent, compose};
use presets::{PRESETS, Preset, PresetReceipt};
use template::{Encoding, FIELDS, Template, Values};

mod gsm;
mod presets;
mod template;

/// Longest identifier of a gateway that is kept, in bytes.
const ID_BYTES_MAX: usize = 100;
/// Longest text that is looked at, in bytes: no more of it fits.
const TEXT_BYTES_MAX: usize = 1000;
/// Longest sender, in characters: letters and digits, or a number.
const SENDER_CHARS_MAX: usize = 16;

/// A telephone number in the form of E.164.
#[derive(Clone, PartialEq, Eq)]
struct Telephone(String);

impl fmt::Debug for Telephone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl Value for Telephone {
    const SHAPE: &'static str = "a telephone number with `+` and country code";
    const EXAMPLE: &'static str = "\"+33600000000\"";
    const PRIVATE: bool = true;

    fn read(mut slot: Slot<'_>) -> Option<Self> {
        let number = slot.text::<Self>()?.replace([' ', '.', '-'], "");
        if is_telephone(&number) {
            return Some(Self(number));
        }
        let remedy = "write it with its country code, like \"+33600000000\"";
        slot.wrong(format!("`{}` is not a telephone number", slot.key()), remedy);
        None
    }
}

/// E.164: a plus and up to fifteen digits, of which the first is not 0.
fn is_telephone(number: &str) -> bool {
    let Some(digits) = number.strip_prefix('+') else { return false };
    (7..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0')
}

/// `[sms]`: the gateway that text messages are handed to.
#[derive(Clone, PartialEq, Debug)]
pub struct Gateway {
    template: Template,
    sender: String,
    account: String,
    user: String,
    password: Option<Secret>,
    success: Success,
    id: Option<String>,
    not_now: Vec<u16>,
    /// The address before `/r/…` of receipts.
    receipts: Option<Url>,
    receipt: Option<Receipt>,
}

/// `receipt` in `[sms]`: how the gateway says what became of a message.
#[derive(Clone, PartialEq, Debug)]
struct Receipt {
    key: String,
    delivered: Vec<String>,
    failed: Vec<String>,
}

impl Section for Receipt {
    const ABOUT: &'static str = "How the gateway says what became of a message.";
    const EXAMPLE: &'static str = "";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let about = "What holds the state: a parameter of the address, a field of the form, or a key or place (RFC 6901) of the JSON \
                     that it sends";
        let key: Option<String> = table.required("key", about);
        let delivered = table.required_list("delivered", "The values that say that the telephone has it");
        let failed = table.required_list("failed", "The values that say that it never will");
        Some(Self { key: key?, delivered: delivered?, failed: failed? })
    }
}

impl Receipt {
    /// What a call says; nothing, if it is no last word.
    fn read_from(&self, call: &Call) -> Option<Delivery> {
        let said = call.parameter(&self.key).map(str::to_owned).or_else(|| call.field(&self.key)).or_else(|| {
            let json: Json = call.json().ok()?;
            let value = if self.key.starts_with('/') { json.pointer(&self.key) } else { json.get(&self.key) };
            value.map(plain_value)
        })?;
        if self.delivered.contains(&said) {
            return Some(Delivery::Delivered);
        }
        let reason =
            || "the gateway says that the message did not reach the telephone: check number and credit".to_owned();
        self.failed.contains(&said).then(|| Delivery::Failed { reason: reason() })
    }
}

/// `success` in `[sms]`: how an answer says that the message was taken over.
#[derive(Clone, PartialEq, Default, Debug)]
struct Success {
    status: Vec<u16>,
    contains: Option<String>,
    at: Option<String>,
    is: Vec<String>,
}

impl Section for Success {
    const ABOUT: &'static str = "How an answer says that the message was taken over.";
    const EXAMPLE: &'static str = "";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let status = table.list("status", "The statuses of success; those from 200 to 299, if absent");
        let contains = table.optional("contains", "A text that the answer must hold");
        let at: Option<Pointer> =
            table.optional("at", "A place in an answer in JSON (RFC 6901) whose value is one of `is`");
        let is: Vec<String> = table.list("is", "The values of success there");
        if at.is_some() == is.is_empty() {
            let (there, missing) = if is.is_empty() { ("at", "is") } else { ("is", "at") };
            table.mistake(there, format!("`{there}` without `{missing}`"), format!("add `{missing}`, or remove it"));
            return None;
        }
        Some(Self { status, contains, at: at.map(|at| at.0), is })
    }
}

/// A place in a document of JSON.
struct Pointer(String);

impl Value for Pointer {
    const SHAPE: &'static str = "a JSON pointer";
    const EXAMPLE: &'static str = "\"/messages/0/id\"";

    fn read(mut slot: Slot<'_>) -> Option<Self> {
        let text = slot.text::<Self>()?;
        if text.starts_with('/') {
            return Some(Self(text.to_owned()));
        }
        slot.wrong(format!("`{}` is not a JSON pointer", slot.key()), "start it with a `/`, like \"/messages/0/id\"");
        None
    }
}

impl Value for Encoding {
    const SHAPE: &'static str = "\"form\", \"json\" or \"text\"";
    const EXAMPLE: &'static str = "\"form\"";

    fn read(slot: Slot<'_>) -> Option<Self> {
        slot.choose(&[("form", Self::Form), ("json", Self::Json), ("text", Self::Text)])
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "form",
            Self::Json => "json",
            Self::Text => "text",
        })
    }
}

/// The name of a gateway.
#[derive(Clone, Copy)]
struct Named(&'static Preset);

impl Value for Named {
    const SHAPE: &'static str = "\"ovh\", \"freemobile\", \"octopush\", \"smspartner\", \"twilio\" or \"kannel\"";
    const EXAMPLE: &'static str = "\"ovh\"";

    fn read(slot: Slot<'_>) -> Option<Self> {
        slot.choose(&PRESETS.map(|preset| (preset.name, Self(preset))))
    }
}

/// How a request begins.
#[derive(Clone)]
struct Verb(Method);

impl Value for Verb {
    const SHAPE: &'static str = "\"GET\" or \"POST\"";
    const EXAMPLE: &'static str = "\"POST\"";

    fn read(slot: Slot<'_>) -> Option<Self> {
        slot.choose(&[("GET", Self(Method::GET)), ("POST", Self(Method::POST))])
    }
}

/// `headers` in `[sms]`.
#[derive(Default)]
struct Headers(Vec<(String, String)>);

impl Value for Headers {
    const SHAPE: &'static str = "a table of header fields, each a text";
    const EXAMPLE: &'static str = "{ X-Api-Key = \"{password}\" }";

    fn read(slot: Slot<'_>) -> Option<Self> {
        slot.named::<Self, Header>()
            .map(|headers| Self(headers.into_iter().map(|(name, Header(value))| (name, value)).collect()))
    }
}

/// A header field.
struct Header(String);

impl Value for Header {
    const SHAPE: &'static str = "a text";
    const EXAMPLE: &'static str = "\"{password}\"";

    fn read(mut slot: Slot<'_>) -> Option<Self> {
        slot.hide();
        let key = slot.key().to_owned();
        if key.parse::<HeaderName>().is_err() {
            slot.wrong(
                format!("`{}` is not the name of a header field", key.escape_debug()),
                "use letters, digits and `-`",
            );
            return None;
        }
        String::read(slot).map(Self)
    }
}

impl Section for Gateway {
    const ABOUT: &'static str = "\
The gateway that text messages are handed to, for every `{ sms = … }` of a person. A message is one part, in the alphabet of text \
messages (GSM-7): what is not in it is written with what is (`ê` as e, `’` as '), and what is too long is cut at a word; the link \
at its end stays whole.

Known by name, with what each needs: `ovh` (`account`, `user`, `password`, `sender`), `freemobile` (`user`, `password`; it sends \
to the telephone of the account alone), `octopush` (the login as `user`, the key as `password`, `sender`), `smspartner` (the key \
as `password`, `sender`), `twilio` (the account as `user`, the token as `password`, a number as `sender`), `kannel` (`url`, `user`, \
`password`, `sender`).

Any other takes `url` and, as far as needed, `method`, `headers`, `body`, `encoding`, `success` and `id`. In the address, the \
values of header fields and the body, `{to}` stands for the number, `{to_digits}` and `{to_00}` for the number without `+` and with \
00 instead, `{text}`, `{id}` (the same at each attempt), `{sender}`, `{account}`, `{user}`, `{password}`, `{basic}` for these two as \
HTTP Basic wants them, and `{receipt}` for the address at which the gateway says whether the message reached the telephone, each \
encoded for where it stands.

With `receipts`, a message is `delivered` once the gateway says so, and the next channel is used when it says that it could not \
deliver it. `twilio` and `kannel` are asked for receipts then; any other needs `{receipt}` in its request, and `receipt`, such as \
`receipt = { key = \"status\", delivered = [\"delivered\"], failed = [\"undelivered\", \"expired\"] }`.";
    const EXAMPLE: &'static str = r#"
[sms]
preset = "ovh"
account = "sms-ab1234-1"
user = "garant"
password = { file = "/etc/garant/sms-password" }
sender = "SHOP"
"#;

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let preset: Option<Named> = table.optional("preset", "A gateway that is known by name");
        let sender: Option<String> =
            table.optional("sender", "Who the message is from: a name of 11 letters and digits at most, or a number");
        let account: Option<String> = table.optional("account", "The account there");
        let user: Option<String> = table.optional("user", "The name to log in with");
        let password: Option<Secret> = table.optional("password", "The password, key or token");
        let url: Option<Private<String>> = table
            .optional("url", "Where the request goes; of a gateway that is known by name, the part up to its path");
        let method: Option<Verb> = table.optional("method", "How the request begins; POST, if absent");
        let headers: Option<Headers> = table.optional("headers", "Header fields beside `Content-Type`");
        let body: Option<Private<String>> = table.optional("body", "What is sent");
        let encoding = table.or("encoding", Encoding::Form, "How the body is encoded");
        let success: Option<Success> = table.optional("success", "How an answer says that the message was taken over");
        let id: Option<Pointer> = table.optional("id", "Where an answer in JSON has the identifier of the message");
        let receipts: Option<Url> = table.optional(
            "receipts",
            "The address before `/r/…` at which the gateway says whether a message reached the telephone, as the gateway reaches \
             garant: that of a listener, or of the proxy before the public one; no receipts, if absent",
        );
        let receipt: Option<Receipt> =
            table.optional("receipt", "How the gateway says whether a message reached the telephone");

        let template = match (preset, url) {
            (Some(Named(preset)), url) => {
                let own = ["method", "headers", "body", "encoding", "success", "id", "receipt"];
                if let Some(own) = own.into_iter().find(|key| table.has(key)) {
                    let remedy = "remove it, or remove `preset` and write the whole request";
                    table.mistake(own, format!("`{own}` comes with the gateway `{}`", preset.name), remedy);
                    return None;
                }
                let Some(base) = url.map(|url| url.0).or_else(|| preset.base.map(str::to_owned)) else {
                    let remedy = "add `url`, such as url = \"http://127.0.0.1:13013\"";
                    table.mistake("preset", format!("nothing says where `{}` is", preset.name), remedy);
                    return None;
                };
                if receipts.is_some() && preset.receipt.is_none() {
                    let reason = format!("`{}` is not told where to send receipts", preset.name);
                    table.mistake(
                        "receipts",
                        reason,
                        "remove it: what it takes over is all that is known of a message",
                    );
                    return None;
                }
                preset.template(&base, receipts.is_some())
            }
            (None, Some(Private(url))) => Template {
                method: method.map_or(Method::POST, |method| method.0),
                url,
                headers: headers.unwrap_or_default().0,
                body: body.map(|body| body.0),
                encoding,
            },
            (None, None) => {
                if !table.has("preset") && !table.has("url") {
                    let remedy = "add `preset`, such as preset = \"ovh\", or `url` for any other";
                    table.mistake("", "a gateway without an address", remedy);
                }
                return None;
            }
        };
        let preset = preset.map(|preset| preset.0);
        let says = preset.and_then(|preset| preset.says).map(|(at, is)| Success {
            at: Some(at.to_owned()),
            is: is.iter().map(|value| (*value).to_owned()).collect(),
            ..Success::default()
        });
        let gateway = Self {
            sender: sender.unwrap_or_default(),
            account: account.unwrap_or_default(),
            user: user.unwrap_or_default(),
            password,
            success: says.or(success).unwrap_or_default(),
            id: preset.and_then(|preset| preset.id.map(str::to_owned)).or(id.map(|id| id.0)),
            not_now: preset.map(|preset| preset.not_now.to_vec()).unwrap_or_default(),
            receipts,
            receipt: preset.and_then(|preset| preset.receipt.as_ref()).map(PresetReceipt::read).or(receipt),
            template,
        };
        gateway.check(table).then_some(gateway)
    }
}

impl Gateway {
    /// Whether the request can be made; what can't is reported.
    fn check(&self, table: &mut Table<'_>) -> bool {
        let at = if table.has("url") { "url" } else { "preset" };
        for name in self.template.wants() {
            if !FIELDS.iter().any(|(known, _)| *known == name) {
                let known: Vec<String> = FIELDS.iter().map(|(known, _)| format!("{{{known}}}")).collect();
                table.mistake(
                    at,
                    format!("`{{{name}}}` stands for nothing"),
                    format!("write one of {}", known.join(", ")),
                );
                return false;
            }
            let needed: &[&str] = match name.as_str() {
                "basic" => &["user", "password"],
                "sender" => &["sender"],
                "account" => &["account"],
                "user" => &["user"],
                "password" => &["password"],
                "receipt" => &["receipts"],
                _ => &[],
            };
            if let Some(needed) = needed.iter().find(|key| !table.has(key)) {
                table.mistake(at, format!("the request needs `{needed}`"), format!("add `{needed}` to [sms]"));
                return false;
            }
        }
        let asks_for_receipts = self.template.wants().iter().any(|name| name == "receipt");
        if self.receipts.is_some() && !asks_for_receipts {
            let remedy = "put `{receipt}` where the gateway wants the address of receipts";
            table.mistake("receipts", "the request does not name the address of receipts", remedy);
            return false;
        }
        if asks_for_receipts != self.receipt.is_some() && !table.has("preset") {
            let (at, missing) = if asks_for_receipts { ("receipts", "receipt") } else { ("receipt", "receipts") };
            let remedy = format!("add `{missing}`, or remove `{at}`: see `garant policy reference`");
            table.mistake(at, format!("receipts without `{missing}`"), remedy);
            return false;
        }
        let sender = self.sender.chars().count() <= SENDER_CHARS_MAX
            && self.sender.chars().all(|c| c.is_ascii_graphic() || c == ' ');
        if !sender {
            table.mistake("sender", "not a sender", "write a name of 11 letters and digits at most, or a number");
            return false;
        }
        let sample = |name| (name, Zeroizing::new("a\"b".to_owned()));
        let sample = Values(FIELDS.map(|(name, _)| sample(name)).into());
        if let Err(bad) = self.template.url(&sample).parse::<Url>() {
            table.mistake(at, format!("the address {}", bad.reason), bad.remedy);
            return false;
        }
        let json = self.template.encoding == Encoding::Json;
        if let Some(body) = self.template.body(&sample).filter(|_| json)
            && serde_json::from_str::<Json>(&body).is_err()
        {
            let remedy = "put each {…} between quotes, and look for a comma or a brace too many";
            table.mistake("body", "the body is no JSON", remedy);
            return false;
        }
        true
    }

    /// What is sound and may still surprise.
    pub(super) fn warnings(&self, secrets: &Secrets) -> Vec<String> {
        let password = self.password.as_ref().and_then(|password| unopened("[sms]", password, secrets));
        password.into_iter().collect()
    }

    async fn values(&self, to: &Telephone, message: &Message, secrets: &Secrets) -> Result<Values, SecretError> {
        let mut password = Zeroizing::new(String::new());
        if let Some(secret) = &self.password {
            let opened = secrets.open(secret).await?;
            let Ok(text) = str::from_utf8(opened.bytes()) else {
                return Err(SecretError::useless(secret, "it is no text", "write the password into it"));
            };
            password.push_str(text);
        }
        let digits = to.0.trim_start_matches('+');
        let login = Zeroizing::new(format!("{}:{}", self.user, *password));
        let plain = |text: &str| Zeroizing::new(text.to_owned());
        let short = compose::cut(compose::line(&message.short), TEXT_BYTES_MAX);
        let text = gsm::in_one(&short, message.link.as_deref().map(compose::line).as_deref());
        Ok(Values(vec![
            ("to", plain(&to.0)),
            ("to_digits", plain(digits)),
            ("to_00", Zeroizing::new(format!("00{digits}"))),
            ("text", Zeroizing::new(text)),
            ("id", plain(&message.id)),
            ("sender", plain(&self.sender)),
            ("account", plain(&self.account)),
            ("user", plain(&self.user)),
            ("password", password),
            ("basic", Zeroizing::new(STANDARD.encode(&*login))),
            ("receipt", Zeroizing::new(self.address_of(message).unwrap_or_default())),
        ]))
    }

    /// The address at which the gateway says what became of a message.
    fn address_of(&self, message: &Message) -> Option<String> {
        let base = self.receipts.as_ref()?.to_string();
        Some(format!("{}/r/{}", base.trim_end_matches('/'), message.receipt))
    }

    /// What an answer means.
    fn judged(&self, response: &Response, host: &str, clock: &dyn Clock) -> Sent {
        let status = response.status;
        let listed = &self.success.status;
        let success = if listed.is_empty() { response.success() } else { listed.contains(&status) };
        if !success {
            if self.not_now.contains(&status) {
                return Sent::Again { reason: format!("{host} answers with status {status}"), after: None };
            }
            if response.success() {
                return refused(host);
            }
            return failed(response, host, clock);
        }
        if self.success.contains.as_ref().is_some_and(|wanted| !response.text().contains(wanted.as_str())) {
            return refused(host);
        }
        let answer: Option<Json> = serde_json::from_slice(&response.body).ok();
        let at = |pointer: &String| answer.as_ref().and_then(|answer| answer.pointer(pointer)).map(plain_value);
        if let Some(pointer) = &self.success.at {
            match at(pointer) {
                Some(value) if self.success.is.contains(&value) => {}
                _ if answer.is_none() => {
                    let reason = format!("{host} answers with something else than its answer");
                    return Sent::Again { reason, after: None };
                }
                _ => return refused(host),
            }
        }
        let sound =
            |id: &String| id.len() <= ID_BYTES_MAX && !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_graphic());
        Sent::Accepted { reference: self.id.as_ref().and_then(at).filter(sound) }
    }
}

/// That a gateway has answered, and not taken the message over. It is not asked again: if it is the answer that is read wrongly,
/// each attempt would be another message.
fn refused(host: &str) -> Sent {
    let reason = format!(
        "{host} does not say that it has taken the message: check number, sender and credit, and `success` of [sms]"
    );
    Sent::Refused { reason }
}

/// A value as people write it: a text without its quotes.
fn plain_value(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// `sms`.
#[derive(Clone, PartialEq, Debug)]
pub struct Sms(Telephone);

impl Kind for Sms {
    const NAME: &'static str = "sms";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        table.optional(Self::NAME, "A telephone number for text messages; needs the table `[sms]`").map(Self)
    }

    fn provider(&self) -> Option<&'static str> {
        Some("sms")
    }

    fn leads_to(&self) -> String {
        self.0.0.clone()
    }

    fn open(&self, providers: &Providers) -> Option<Arc<dyn Channel>> {
        Some(Arc::new(Phone { to: self.0.clone(), gateway: providers.sms.clone()? }))
    }
}

/// A telephone and the gateway that leads to it.
#[derive(Debug)]
struct Phone {
    to: Telephone,
    gateway: Arc<Gateway>,
}

impl Channel for Phone {
    fn kind(&self) -> &'static str {
        Sms::NAME
    }

    fn send<'a>(&'a self, message: &'a Message, _earlier: Option<&'a str>, means: Means<'a>) -> BoxFuture<'a, Sent> {
        Box::pin(async move {
            let gateway = &*self.gateway;
            let values = match gateway.values(&self.to, message, means.secrets).await {
                Ok(values) => values,
                Err(error) => return Sent::Again { reason: error.to_string(), after: None },
            };
            let url = gateway.template.url(&values);
            let host = match url.parse::<Url>() {
                Ok(url) => url.host().to_string(),
                // Too long, at most: it was read with the policy.
                Err(bad) => return Sent::Refused { reason: format!("the address of [sms] {bad}") },
            };
            let mut request = Request::new(gateway.template.method.clone(), url.as_str());
            if let Some(body) = gateway.template.body(&values) {
                request = request
                    .header("Content-Type", gateway.template.encoding.content_type())
                    .body(body.as_bytes().to_vec());
            }
            for (name, value) in gateway.template.headers(&values) {
                request = request.header(name, value.as_bytes());
            }
            match ask(request, message, &host, Wanted::Body, means).await {
                Ok(response) => gateway.judged(&response, &host, means.clock),
                Err(sent) => sent,
            }
        })
    }

    fn receipt(&self, call: &Call) -> Option<Delivery> {
        self.gateway.receipts.as_ref()?;
        self.gateway.receipt.as_ref()?.read_from(call)
    }
}

#[cfg(test)]
mod tests {
    use engine::door::CallBody;

    use super::*;

    #[test]
    fn the_example_is_sound() {
        policy::SectionDoc::check::<Gateway>("sms", false).unwrap_or_else(|error| panic!("{}", error.render(false)));
    }

    /// A gateway out of its table.
    fn gateway(table: &str) -> Result<Gateway, String> {
        let mut document = policy::Document::from_text("test", &format!("[sms]\n{table}\n"));
        let gateway = document.table::<Gateway>("sms");
        document.finish_with(gateway).map(|(gateway, _)| gateway).map_err(|mistakes| mistakes.render(false))
    }

    /// Each gateway that is known by name is sent what its documentation asks for.
    #[tokio::test]
    async fn presets_send_what_their_documentation_says() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("password");
        std::fs::write(&path, "p&\"w").expect("written");
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("set");
        let message =
            Message { link: None, short: "Où est \"shop\" ?".to_owned(), ..crate::act::conformance::sample() };
        let text = "O%C3%B9%20est%20%22shop%22%20%3F";
        for (preset, url, headers, body) in [
            (
                "ovh",
                &*format!(
                    "https://www.ovh.com/cgi-bin/sms/http2sms.cgi?account=sms-1&login=me&password=p%26%22w&from=SHOP\
                     &to=0033612345678&message={text}&noStop=1&smsCoding=1&tag=m-1&contentType=application/json"
                ),
                vec![],
                None,
            ),
            (
                "freemobile",
                &*format!("https://smsapi.free-mobile.fr/sendmsg?user=me&pass=p%26%22w&msg={text}"),
                vec![],
                None,
            ),
            (
                "octopush",
                "https://api.octopush.com/v1/public/sms-campaign/send",
                vec![("api-login", "me"), ("api-key", "p&\"w")],
                Some(
                    "{\"recipients\":[{\"phone_number\":\"+33612345678\"}],\"text\":\"Où est \\\"shop\\\" ?\",\
                     \"type\":\"sms_premium\",\"purpose\":\"alert\",\"sender\":\"SHOP\"}",
                ),
            ),
            (
                "smspartner",
                "https://api.smspartner.fr/v1/send",
                vec![],
                Some(
                    "{\"apiKey\":\"p&\\\"w\",\"phoneNumbers\":\"+33612345678\",\"message\":\"Où est \\\"shop\\\" ?\",\
                     \"gamme\":1,\"sender\":\"SHOP\",\"tag\":\"m-1\"}",
                ),
            ),
            (
                "twilio",
                "https://api.twilio.com/2010-04-01/Accounts/me/Messages.json",
                vec![("Authorization", "Basic bWU6cCYidw==")],
                Some(&*format!("To=%2B33612345678&From=SHOP&Body={text}")),
            ),
        ] {
            let table = format!(
                "preset = \"{preset}\"\nsender = \"SHOP\"\naccount = \"sms-1\"\nuser = \"me\"\npassword = {{ file = \"{}\" }}",
                path.display()
            );
            let gateway = gateway(&table).expect(preset);
            let to = Telephone("+33612345678".to_owned());
            let values = gateway.values(&to, &message, &Secrets::default()).await.expect("opened");
            assert_eq!(*gateway.template.url(&values), url, "{preset}");
            let sent: Vec<_> =
                gateway.template.headers(&values).map(|(name, value)| (name, value.to_string())).collect();
            assert!(sent.iter().map(|(name, value)| (*name, value.as_str())).eq(headers), "{preset}: {sent:?}");
            assert_eq!(gateway.template.body(&values).as_deref().map(String::as_str), body, "{preset}");
        }
    }

    /// What gateways answer, and what that means.
    #[tokio::test]
    async fn answers_are_judged() {
        let keys = "sender = \"SHOP\"\naccount = \"sms-1\"\nuser = \"me\"\npassword = { file = \"/p\" }\nurl = \"http://x.example\"";
        let clock = engine::clock::SystemClock;
        for (gateway_is, status, body, expected) in [
            ("preset = \"ovh\"", 200, r#"{"status":100,"creditLeft":"9","SmsIds":["10867690"]}"#, Ok(Some("10867690"))),
            ("preset = \"ovh\"", 200, r#"{"status":202,"message":"Invalid"}"#, Err("does not say")),
            ("preset = \"ovh\"", 200, "<html>", Err("something else")),
            ("preset = \"freemobile\"", 200, "", Ok(None)),
            ("preset = \"freemobile\"", 402, "", Err("status 402")),
            ("preset = \"freemobile\"", 403, "", Err("check the token")),
            ("preset = \"octopush\"", 201, r#"{"sms_ticket":"sms_5f6c","number_of_contacts":1}"#, Ok(Some("sms_5f6c"))),
            ("preset = \"smspartner\"", 200, r#"{"success":true,"code":200,"message_id":306}"#, Ok(Some("306"))),
            ("preset = \"smspartner\"", 200, r#"{"success":false,"code":10}"#, Err("does not say")),
            ("preset = \"twilio\"", 201, r#"{"sid":"SM1","status":"queued"}"#, Ok(Some("SM1"))),
            ("preset = \"twilio\"", 400, r#"{"code":21211}"#, Err("status 400")),
            ("preset = \"kannel\"", 202, "0: Accepted for delivery", Ok(None)),
            ("preset = \"kannel\"", 503, "Temporal failure, try again later.", Err("status 503")),
            ("success = { status = 204 }", 204, "", Ok(None)),
            ("success = { status = 204 }", 200, "", Err("does not say")),
            ("success = { contains = \"OK\" }", 200, "OK 1", Ok(None)),
            ("success = { contains = \"OK\" }", 200, "KO 1", Err("does not say")),
            ("id = \"/id\"", 200, "{\"id\":\"a b\"}", Ok(None)),
        ] {
            let gateway = gateway(&format!("{gateway_is}\n{keys}")).expect(gateway_is);
            let response = Response {
                status,
                headers: engine::http::HeaderMap::new(),
                body: body.as_bytes().to_vec().into(),
                close_notify_missing: false,
                phases: engine::http::RequestPhases::default(),
                peer: None,
                remote: ([127, 0, 0, 1], 80).into(),
                url: String::new(),
            };
            match (gateway.judged(&response, "x.example", &clock), expected) {
                (Sent::Accepted { reference }, Ok(expected)) => assert_eq!(reference.as_deref(), expected, "{body}"),
                (Sent::Again { reason, .. } | Sent::Refused { reason }, Err(expected)) => {
                    assert!(reason.contains(expected), "{body}: {reason}");
                }
                (other, _) => panic!("{gateway_is} {status} {body}: {other:?}"),
            }
        }
    }

    /// Receipts are asked for where the policy says how the gateway reaches garant, and read as the gateway writes them.
    #[tokio::test]
    async fn receipts_are_asked_for_and_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("password");
        std::fs::write(&path, "pw").expect("written");
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("set");
        let keys = format!(
            "user = \"me\"\nsender = \"SHOP\"\npassword = {{ file = \"{}\" }}\nreceipts = \"https://x.example/\"\n",
            path.display()
        );
        let message = crate::act::conformance::sample();
        let address = format!("https%3A%2F%2Fx.example%2Fr%2F{}", message.receipt);
        let call = |method, query: &[(&str, &str)], body| Call {
            query: query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            body,
            ..Call::new(method, "/r", &["x"], event::Time::from_secs(0))
        };
        let query = |value: &str| call(engine::door::Method::Get, &[("status", value)], CallBody::Empty);
        let form = |value: &str| {
            let body = CallBody::Form(format!("MessageSid=SM1&MessageStatus={value}").into_bytes().into());
            call(engine::door::Method::Post, &[], body)
        };
        let json = |text: &str| call(engine::door::Method::Post, &[], CallBody::Json(text.as_bytes().to_vec().into()));
        let own = "url = \"https://y.example/?to={to}\"\nencoding = \"json\"\nbody = '{\"call\": \"{receipt}\"}'\n";
        let says = |key: &str| {
            format!("{own}receipt = {{ key = \"{key}\", delivered = [\"1\", \"ok\"], failed = [\"no\"] }}\n")
        };
        for (gateway_is, asked, told) in [
            (
                "preset = \"kannel\"\nurl = \"http://127.0.0.1:13013\"\n".to_owned(),
                format!("&dlr-mask=19&dlr-url={address}%3Fstatus%3D%25d"),
                vec![
                    (query("1"), Some(true)),
                    (query("2"), Some(false)),
                    (query("16"), Some(false)),
                    (query("8"), None),
                ],
            ),
            (
                "preset = \"twilio\"\n".to_owned(),
                format!("&StatusCallback={address}"),
                vec![
                    (form("delivered"), Some(true)),
                    (form("undelivered"), Some(false)),
                    (form("sent"), None),
                    (query("delivered"), None),
                ],
            ),
            (
                says("/a/b"),
                format!("\"https://x.example/r/{}\"", message.receipt),
                vec![
                    (json(r#"{"a":{"b":1}}"#), Some(true)),
                    (json(r#"{"a":{"b":"no"}}"#), Some(false)),
                    (json("{"), None),
                ],
            ),
            (says("state"), "https://x.example/r/".to_owned(), vec![(json(r#"{"state":"ok"}"#), Some(true))]),
        ] {
            let gateway = gateway(&format!("{gateway_is}{keys}")).unwrap_or_else(|why| panic!("{gateway_is}: {why}"));
            let to = Telephone("+33612345678".to_owned());
            let values = gateway.values(&to, &message, &Secrets::default()).await.expect("opened");
            let body = gateway.template.body(&values).map(|body| body.to_string()).unwrap_or_default();
            let request = format!("{}\n{body}", *gateway.template.url(&values));
            assert!(request.contains(&asked), "{gateway_is}: {request}");
            let phone = Phone { to, gateway: Arc::new(gateway) };
            for (call, expected) in told {
                let delivered = phone.receipt(&call).map(|delivery| delivery == Delivery::Delivered);
                assert_eq!(delivered, expected, "{gateway_is}: {call:?}");
            }
            // Without the address of receipts there is none.
            let without = Gateway { receipts: None, ..(*phone.gateway).clone() };
            assert_eq!(Phone { gateway: Arc::new(without), ..phone }.receipt(&query("1")), None);
        }
    }

    #[test]
    fn mistakes_say_what_to_write() {
        for (table, said) in [
            ("", "add `preset`"),
            ("preset = \"ovi\"", "did you mean \"ovh\"?"),
            ("preset = \"kannel\"", "nothing says where `kannel` is"),
            ("preset = \"twilio\"\nuser = \"a\"\nsender = \"1\"", "the request needs `password`"),
            ("preset = \"ovh\"\nbody = \"x\"", "`body` comes with the gateway `ovh`"),
            ("url = \"https://x.example/{tto}\"", "`{tto}` stands for nothing"),
            ("url = \"ftp://x.example/{to}\"", "is not an HTTP URL"),
            ("url = \"https://x.example\"\nencoding = \"json\"\nbody = '{\"a\": {text}}'", "the body is no JSON"),
            ("url = \"https://x.example\"\nsuccess = { at = \"/a\" }", "add `is`"),
            ("url = \"https://x.example\"\nid = \"a\"", "start it with a `/`"),
            (
                "preset = \"freemobile\"\nreceipts = \"https://x.example\"",
                "`freemobile` is not told where to send receipts",
            ),
            ("url = \"https://x.example\"\nreceipts = \"https://x.example\"", "does not name the address of receipts"),
            ("url = \"https://x.example?a={receipt}\"", "add `receipts`"),
            ("url = \"https://x.example?a={receipt}\"\nreceipts = \"https://x.example\"", "receipts without `receipt`"),
            (
                "url = \"https://x.example\"\nreceipt = { key = \"a\", delivered = [\"b\"], failed = [\"c\"] }",
                "without `receipts`",
            ),
            ("url = \"https://x.example\"\nheaders = { \"a b\" = \"c\" }", "is not the name of a header field"),
            ("url = \"https://x.example\"\npassword = \"s3cret\"", "the policy must hold none"),
            ("url = \"https://x.example\"\nsender = \"a name that is too long\"", "not a sender"),
        ] {
            let mistakes = gateway(table).map(drop).expect_err(table);
            assert!(mistakes.contains(said), "{table}: {mistakes}");
        }
    }

    #[test]
    fn numbers() {
        for (number, good) in [("+33600000000", true), ("0600000000", false), ("+0600000000", false), ("+33", false)] {
            assert_eq!(is_telephone(number), good, "{number}");
        }
    }
}
