//! The channels under test: how each is written in a policy, and how to read what its server got.

use super::World;
use super::server::{Recorded, Speaks};

/// A channel under test.
pub(super) struct Subject {
    /// What the tests call it.
    pub(super) name: &'static str,
    /// Its kind.
    pub(super) kind: &'static str,
    pub(super) speaks: Speaks,
    /// A policy of one person who has it, towards a server at that address.
    pub(super) policy: fn(&World, &str) -> String,
    /// The text that a person would see.
    pub(super) text: fn(&Recorded) -> String,
    /// What tells another attempt from another message.
    pub(super) identity: fn(&Recorded) -> String,
    /// What a later message refers to, for a channel that has threads.
    pub(super) thread: Option<fn(&Recorded) -> Option<String>>,
    /// Whether it adds words of its own.
    pub(super) labels: bool,
    /// Whether a secret is kept for it.
    pub(super) has_secret: bool,
}

/// All of them.
pub(super) const SUBJECTS: &[Subject] = &[MAIL, SMS, SMS_OF_ANOTHER, WEBHOOK, SLACK, SLACK_INCOMING, MATTERMOST, NTFY];

/// The answer with which a server that got a request at this path accepts it.
pub(super) fn accepted(path: &str) -> String {
    match path {
        "/hook-path" => "ok, said by the server".to_owned(),
        "/api/chat.postMessage" => r#"{"ok":true,"ts":"1503435956.000247","said by the server":1}"#.to_owned(),
        "/" => r#"{"id":"sPs71M8A2T","event":"message","said by the server":1}"#.to_owned(),
        "/send" => r#"{"result":{"code":0},"id":"said by the server"}"#.to_owned(),
        kannel if kannel.starts_with("/cgi-bin/sendsms?") => "0: Accepted for delivery".to_owned(),
        other => panic!("nobody asked for {other}"),
    }
}

fn person(channel: &str) -> String {
    format!("[[person]]\nchannel = [{channel}]\n")
}

fn idempotency_key(recorded: &Recorded) -> String {
    recorded.header("Idempotency-Key").unwrap_or_default()
}

const MAIL: Subject = Subject {
    name: "mail",
    kind: "mail",
    speaks: Speaks::Smtp,
    policy: |world, address| {
        let password = world.keep("password", "s3cret-password\n");
        let key = world.keep("key", include_str!("../../../fixtures/dkim-of-a-test.pem"));
        person("{ mail = \"lea@shop.example\" }")
            + &format!(
                "[mail]\nserver = \"{address}\"\ntls = \"none\"\nuser = \"garant\"\npassword = {password}\n\
                 from = \"garant@shop.example\"\ndkim = {{ selector = \"garant\", key = {key} }}\n"
            )
    },
    text: |recorded| {
        assert_eq!(recorded.to, "TO:<lea@shop.example>");
        assert_eq!(recorded.header("Auto-Submitted").as_deref(), Some("auto-generated"));
        assert!(recorded.header("DKIM-Signature").is_some_and(|value| value.contains("d=shop.example")));
        assert!(recorded.head.is_ascii() && recorded.body.is_ascii());
        let (_, plain) = recorded.body.split_once("\r\n\r\n").expect("a first part");
        let (plain, _) = plain.split_once("\r\n--=_").expect("a boundary");
        format!("{}\n{}", decoded_words(&recorded.header("Subject").expect("a subject")), unquoted(plain))
    },
    identity: |recorded| recorded.header("Message-ID").unwrap_or_default(),
    thread: Some(|recorded| {
        let reply = recorded.header("In-Reply-To");
        assert_eq!(reply, recorded.header("References"));
        reply
    }),
    labels: true,
    has_secret: true,
};

/// The text of encoded words (RFC 2047), as far as we write them.
fn decoded_words(text: &str) -> String {
    use base64::Engine as _;
    if !text.starts_with("=?") {
        return text.to_owned();
    }
    let word = |word: &str| {
        let inner = word.strip_prefix("=?utf-8?B?").and_then(|rest| rest.strip_suffix("?=")).expect("an encoded word");
        String::from_utf8(base64::engine::general_purpose::STANDARD.decode(inner).expect("base 64")).expect("UTF-8")
    };
    text.split(' ').map(word).collect()
}

/// The text of quoted-printable.
fn unquoted(text: &str) -> String {
    let joined = text.replace("=\r\n", "").replace("\r\n", "\n");
    let mut bytes = Vec::new();
    let mut rest = joined.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'=' {
            let hex = str::from_utf8(&after[..2]).expect("two digits");
            bytes.push(u8::from_str_radix(hex, 16).expect("hexadecimal"));
            rest = &after[2..];
        } else {
            bytes.push(byte);
            rest = after;
        }
    }
    String::from_utf8(bytes).expect("UTF-8")
}

const WEBHOOK: Subject = Subject {
    name: "webhook",
    kind: "webhook",
    speaks: Speaks::Http,
    policy: |world, address| {
        let secret = world.keep("secret", "s3cret-of-webhook");
        person(&format!("{{ webhook = \"http://{address}/hook-path\", secret = {secret} }}"))
    },
    text: |recorded| {
        let json = recorded.json();
        let signature = recorded.header("X-Garant-Signature").expect("signed");
        assert_eq!(signature.len(), "t=1795388400,v1=".len() + 64);
        assert_eq!(recorded.header("Content-Type").as_deref(), Some("application/json"));
        assert_eq!((json["version"].as_u64(), json["what"].as_str()), (Some(1), Some("firing")));
        assert_eq!(json["id"].as_str(), recorded.header("Idempotency-Key").as_deref());
        ["subject", "text", "link"].map(|key| json[key].as_str().unwrap_or_default()).join("\n")
    },
    identity: idempotency_key,
    thread: Some(|recorded| recorded.json()["thread"].as_str().map(str::to_owned)),
    labels: false,
    has_secret: true,
};

const SLACK: Subject = Subject {
    name: "slack as a bot",
    kind: "slack",
    speaks: Speaks::Http,
    policy: |world, address| {
        let token = world.keep("token", "xoxb-s3cret");
        person("{ slack = \"C0123456789\" }") + &format!("[slack]\ntoken = {token}\napi = \"http://{address}/api\"\n")
    },
    text: |recorded| {
        let json = recorded.json();
        assert_eq!(recorded.header("Authorization").as_deref(), Some("Bearer xoxb-s3cret"));
        assert_eq!(json["channel"], "C0123456789");
        chat_text(&json)
    },
    identity: idempotency_key,
    thread: Some(|recorded| recorded.json()["thread_ts"].as_str().map(str::to_owned)),
    labels: true,
    has_secret: true,
};

/// The text of a message in the form of Slack, in which nobody is called.
fn chat_text(json: &serde_json::Value) -> String {
    let text = json["text"].as_str().expect("a text").to_owned();
    assert!(!text.contains(['<', '>']), "{text}");
    text
}

const SLACK_INCOMING: Subject = Subject {
    name: "slack over a webhook",
    kind: "slack",
    speaks: Speaks::Http,
    policy: |world, address| {
        person(&format!("{{ slack = {} }}", world.keep("hook", &format!("http://{address}/hook-path\n"))))
    },
    text: |recorded| chat_text(&recorded.json()),
    identity: idempotency_key,
    thread: None,
    labels: true,
    has_secret: true,
};

const MATTERMOST: Subject = Subject {
    name: "mattermost",
    kind: "mattermost",
    policy: |world, address| {
        person(&format!("{{ mattermost = {} }}", world.keep("hook", &format!("http://{address}/hook-path\n"))))
    },
    text: |recorded| {
        let text = recorded.json()["text"].as_str().expect("a text").to_owned();
        assert!(!text.contains("@all"), "{text}");
        text
    },
    ..SLACK_INCOMING
};

const NTFY: Subject = Subject {
    name: "ntfy",
    kind: "ntfy",
    speaks: Speaks::Http,
    policy: |world, address| {
        let token = world.keep("token", "tk_s3cret");
        person(&format!("{{ ntfy = \"http://{address}/hook-path\", token = {token} }}"))
    },
    text: |recorded| {
        let json = recorded.json();
        assert_eq!(recorded.header("Authorization").as_deref(), Some("Bearer tk_s3cret"));
        assert_eq!((json["topic"].as_str(), json["priority"].as_u64()), (Some("hook-path"), Some(5)));
        assert_eq!(json["click"], "https://trust.shop.example/a/abc123");
        let message = json["message"].as_str().expect("a message");
        assert!(message.len() < 4096, "{}", message.len());
        format!("{}\n{message}", json["title"].as_str().expect("a title"))
    },
    identity: idempotency_key,
    thread: Some(|recorded| recorded.json()["sequence_id"].as_str().map(str::to_owned)),
    labels: true,
    has_secret: true,
};

const SMS: Subject = Subject {
    name: "sms over kannel",
    kind: "sms",
    speaks: Speaks::Http,
    policy: |world, address| {
        let password = world.keep("password", "s3cret+password");
        person("{ sms = \"+33 6 12.34-56 78\" }")
            + &format!(
                "[sms]\npreset = \"kannel\"\nurl = \"http://{address}\"\nuser = \"garant\"\n\
                 password = {password}\nsender = \"SHOP\"\n"
            )
    },
    text: |recorded| {
        assert_eq!(query(recorded, "to"), "+33612345678");
        assert_eq!((&*query(recorded, "password"), &*query(recorded, "from")), ("s3cret+password", "SHOP"));
        one_message(query(recorded, "text"))
    },
    identity: idempotency_key,
    thread: None,
    labels: false,
    has_secret: true,
};

/// A parameter of the request line, as a server reads it.
fn query(recorded: &Recorded, name: &str) -> String {
    let target = recorded.head.split(' ').nth(1).expect("a target");
    let url: url::Url = format!("http://x{target}").parse().expect("a URL");
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned()).unwrap_or_default()
}

/// A text of 160 septets at most, by a count of the test's own: nothing in it but ASCII and what GSM-7 has beside it.
fn one_message(text: String) -> String {
    let septets = |c: char| if "^{}\\[~]|€".contains(c) { 2 } else { 1 };
    assert!(text.chars().map(septets).sum::<usize>() <= 160, "{text}");
    assert!(text.chars().all(|c| c.is_ascii() || "@£$¥èéùìòÇØøÅåΔΦΓΛΩΠΨΣΘΞÆæßÉ¤¡ÄÖÑÜ§¿äöñüà€".contains(c)), "{text}");
    text
}

const SMS_OF_ANOTHER: Subject = Subject {
    name: "sms over a template",
    policy: |world, address| {
        let password = world.keep("password", "s3cret\"password");
        person("{ sms = \"+33612345678\" }")
            + &format!(
                "[sms]\nurl = \"http://{address}/send\"\nuser = \"garant\"\npassword = {password}\n\
                 headers = {{ X-Key = \"{{password}}\" }}\nencoding = \"json\"\n\
                 body = '{{\"to\": [\"{{to_digits}}\"], \"text\": \"{{text}}\", \"ref\": \"{{id}}\"}}'\n\
                 success = {{ at = \"/result/code\", is = \"0\" }}\nid = \"/id\"\n"
            )
    },
    text: |recorded| {
        let json = recorded.json();
        assert_eq!(recorded.header("X-Key").as_deref(), Some("s3cret\"password"));
        assert_eq!((json["to"][0].as_str(), json["ref"].as_str()), (Some("33612345678"), Some("m-1")));
        one_message(json["text"].as_str().expect("a text").to_owned())
    },
    ..SMS
};
