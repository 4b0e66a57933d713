//! The gateways that are known by name: each a template, and how it says that it has taken a message over.

use engine::http::Method;

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
}

impl Preset {
    /// Its request, at this address.
    pub(super) fn template(&self, base: &str) -> Template {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Template {
            method: if self.body.is_some() { Method::POST } else { Method::GET },
            url: format!("{}{}", base.trim_end_matches('/'), self.path),
            headers: self.headers.iter().map(owned).collect(),
            body: self.body.map(|(_, body)| body.to_owned()),
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
    },
];
