//! The gateways that are known by name: each a template, and how it says that it has taken a message over.

use engine::http::Method;

use super::Receipt;
use super::template::{Encoding, Template};

/// A gateway that is known by name.
pub(super) struct Preset {
    /// Its word in the policy.
    pub(super) name: &'static str,
    /// Where it is; nothing for one that everybody runs for himself.
    pub(super) base: Option<&'static str>,
    path: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: Option<(Encoding, &'static str)>,
    /// What its answer must hold: a pointer (RFC 6901), and the values that mean success.
    pub(super) says: Option<(&'static str, &'static [&'static str])>,
    /// Where its answer has the identifier of the message.
    pub(super) id: Option<&'static str>,
    /// Statuses that mean "not now", beside those that everybody has.
    pub(super) not_now: &'static [u16],
    /// How it says what became of a message, if it can be told where to.
    pub(super) receipt: Option<PresetReceipt>,
}

/// How a gateway that is known by name is asked for a receipt, and what it says in it.
pub(super) struct PresetReceipt {
    /// What follows the body of the request, or its address when it has no body.
    asked: &'static str,
    key: &'static str,
    delivered: &'static [&'static str],
    failed: &'static [&'static str],
}

impl PresetReceipt {
    /// How it is read.
    pub(super) fn read(&self) -> Receipt {
        let owned = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        Receipt { key: self.key.to_owned(), delivered: owned(self.delivered), failed: owned(self.failed) }
    }
}

impl Preset {
    /// Its request, at this address, with or without the request for a receipt.
    pub(super) fn template(&self, base: &str, with_receipt: bool) -> Template {
        let asked = self.receipt.as_ref().filter(|_| with_receipt).map_or("", |receipt| receipt.asked);
        let (of_url, of_body) = if self.body.is_some() { ("", asked) } else { (asked, "") };
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Template {
            method: if self.body.is_some() { Method::POST } else { Method::GET },
            url: format!("{}{}{of_url}", base.trim_end_matches('/'), self.path),
            headers: self.headers.iter().map(owned).collect(),
            body: self.body.map(|(_, body)| format!("{body}{of_body}")),
            encoding: self.body.map_or(Encoding::Form, |(encoding, _)| encoding),
        }
    }
}

/// All of them, after the documentation of each.
pub(super) const PRESETS: [&Preset; 6] = [
    &Preset {
        name: "ovh",
        base: Some("https://www.ovh.com"),
        path: "/cgi-bin/sms/http2sms.cgi?account={account}&login={user}&password={password}&from={sender}&to={to_00}\
               &message={text}&noStop=1&smsCoding=1&tag={id}&contentType=application/json",
        headers: &[],
        body: None,
        says: Some(("/status", &["100", "101"])),
        id: Some("/SmsIds/0"),
        not_now: &[],
        receipt: None,
    },
    &Preset {
        // To the telephone of the account and no other.
        name: "freemobile",
        base: Some("https://smsapi.free-mobile.fr"),
        path: "/sendmsg?user={user}&pass={password}&msg={text}",
        headers: &[],
        body: None,
        says: None,
        id: None,
        // Too many in too short a time.
        not_now: &[402],
        receipt: None,
    },
    &Preset {
        name: "octopush",
        base: Some("https://api.octopush.com"),
        path: "/v1/public/sms-campaign/send",
        headers: &[("api-login", "{user}"), ("api-key", "{password}")],
        body: Some((
            Encoding::Json,
            r#"{"recipients":[{"phone_number":"{to}"}],"text":"{text}","type":"sms_premium","purpose":"alert","sender":"{sender}"}"#,
        )),
        says: None,
        id: Some("/sms_ticket"),
        not_now: &[],
        receipt: None,
    },
    &Preset {
        name: "smspartner",
        base: Some("https://api.smspartner.fr"),
        path: "/v1/send",
        headers: &[],
        body: Some((
            Encoding::Json,
            r#"{"apiKey":"{password}","phoneNumbers":"{to}","message":"{text}","gamme":1,"sender":"{sender}","tag":"{id}"}"#,
        )),
        says: Some(("/success", &["true"])),
        id: Some("/message_id"),
        not_now: &[],
        receipt: None,
    },
    &Preset {
        name: "twilio",
        base: Some("https://api.twilio.com"),
        path: "/2010-04-01/Accounts/{user}/Messages.json",
        headers: &[("Authorization", "Basic {basic}")],
        body: Some((Encoding::Form, "To={to}&From={sender}&Body={text}")),
        says: None,
        id: Some("/sid"),
        not_now: &[],
        receipt: Some(PresetReceipt {
            asked: "&StatusCallback={receipt}",
            key: "MessageStatus",
            delivered: &["delivered", "read"],
            failed: &["undelivered", "failed", "canceled"],
        }),
    },
    &Preset {
        name: "kannel",
        base: None,
        path: "/cgi-bin/sendsms?username={user}&password={password}&from={sender}&to={to}&text={text}&charset=UTF-8&coding=0",
        headers: &[],
        body: None,
        says: None,
        id: None,
        not_now: &[],
        // Of its states, 1 is "delivered to the telephone", 2 "not delivered to it", 16 "rejected by the SMSC"; `%d` is put in by it.
        receipt: Some(PresetReceipt {
            asked: "&dlr-mask=19&dlr-url={receipt}%3Fstatus%3D%25d",
            key: "status",
            delivered: &["1"],
            failed: &["2", "16"],
        }),
    },
];
