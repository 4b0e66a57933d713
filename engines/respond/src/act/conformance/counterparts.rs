//! Real counterparts: Postfix with and without TLS, signatures as dkimpy reads them, a gateway of Kannel, a receiver of webhooks
//! in the words of docs/webhook.md.
//!
//! Postfix switches users, so it runs as root only; scripts/test does. Each test takes addresses of the loopback network of its
//! own.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use engine::clock::SimClock;
use engine::net::{Net, NetOptions};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};

use super::server::{Behaviour, Speaks, TestServer};
use super::{NOW, World, message, read, reason};
use crate::act::{Channel, Language, Message, Sent};

/// An address of this machine that nobody else uses: of this process, and of this test in it.
fn own_address(port: u16) -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    ([127, 64 | NEXT.fetch_add(1, Ordering::Relaxed) & 63, high, low.clamp(1, 254)], port).into()
}

fn run(program: &str, arguments: &[&str]) -> Output {
    #[expect(clippy::disallowed_methods, reason = "tests start real programs")]
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    output.unwrap_or_else(|error| panic!("{program}: {error}; scripts/test installs it"))
}

/// A program that runs until it is dropped; what it says goes into a file.
struct Program(Child);

impl Program {
    fn start(program: &str, arguments: &[&str], said: &Path) -> Self {
        let file = fs::File::create(said).expect("a file");
        #[expect(clippy::disallowed_methods, reason = "tests start real programs")]
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stderr(file.try_clone().expect("a file")).stdout(file);
        Self(command.spawn().unwrap_or_else(|error| panic!("{program}: {error}; scripts/test installs it")))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Waits until `there` finds something; what it is about is only said when it never does.
async fn until<T>(what: impl Fn() -> String, mut there: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..3000 {
        if let Some(found) = there().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it does not come: {}", what());
}

async fn listening(address: SocketAddr) {
    until(
        || address.to_string(),
        async || {
            #[expect(clippy::disallowed_methods, reason = "the test waits for the other side")]
            tokio::net::TcpStream::connect(address).await.ok()
        },
    )
    .await;
}

/// Postfix for the domain shop.example, with a mailbox for Léa.
struct Postfix {
    folder: tempfile::TempDir,
    address: SocketAddr,
}

impl Postfix {
    /// `smtpd` are further lines of main.cf.
    async fn start(certificate: &CertifiedIssuer<'static, KeyPair>, smtpd: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().display().to_string();
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).expect("set");
        for name in ["queue", "data", "config", "mail"] {
            fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        let address = own_address(2525);
        let mut params = CertificateParams::new(vec![address.ip().to_string()]).expect("a name");
        (params.not_before, params.not_after) = (date_time_ymd(2026, 1, 1), date_time_ymd(2040, 1, 1));
        let key = KeyPair::generate().expect("a key");
        let server = params.signed_by(&key, certificate).expect("a certificate");
        fs::write(format!("{root}/server.pem"), key.serialize_pem() + &server.pem()).expect("written");
        fs::set_permissions(format!("{root}/server.pem"), fs::Permissions::from_mode(0o600)).expect("set");
        let main = format!(
            "compatibility_level = 3.6\nqueue_directory = {root}/queue\ndata_directory = {root}/data\nmail_owner = postfix\n\
             setgid_group = postdrop\ncommand_directory = /usr/sbin\ndaemon_directory = /usr/lib/postfix/sbin\n\
             myhostname = mx.shop.example\nmydestination =\nalias_maps =\ninet_interfaces = 127.0.0.1\ninet_protocols = ipv4\nmaillog_file = {root}/log\n\
             maillog_file_prefixes = /\nvirtual_mailbox_domains = shop.example\nvirtual_mailbox_base = {root}/mail\n\
             virtual_mailbox_maps = inline:{{ lea@shop.example=lea }}\nvirtual_minimum_uid = 1\nvirtual_uid_maps = static:65534\n\
             virtual_gid_maps = static:65534\nmynetworks = 127.0.0.0/8\nsmtpd_tls_security_level = may\n\
             smtpd_tls_chain_files = {root}/server.pem\nsmtpd_recipient_restrictions = check_recipient_access \
             inline:{{ {{ busy@shop.example = 450 4.7.1 later }} }}, reject_unauth_destination\n{smtpd}\n"
        );
        let (ip, smtps) = (address.ip(), address.port() + 1);
        let services =
            ["cleanup unix n - n - 0 cleanup", "qmgr unix n - n 300 1 qmgr", "tlsmgr unix - - n 1000? 1 tlsmgr"];
        let rest = "rewrite:trivial-rewrite bounce defer:bounce trace:bounce verify flush proxymap smtp virtual error retry:error \
                    discard anvil scache";
        let rest = rest.split_whitespace().map(|service| {
            let (name, program) = service.split_once(':').unwrap_or((service, service));
            // The one that writes into mailboxes switches users.
            let unprivileged = if name == "virtual" { "n" } else { "-" };
            format!("{name} unix - {unprivileged} n - - {program}\n")
        });
        let master = format!(
            "{ip}:{} inet n - n - - smtpd\n{ip}:{smtps} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes\n{}\n{}\
             postlog unix-dgram n - n - 1 postlogd\n",
            address.port(),
            services.join("\n"),
            rest.collect::<String>()
        );
        fs::write(format!("{root}/config/main.cf"), main).expect("written");
        fs::write(format!("{root}/config/master.cf"), master).expect("written");
        for name in ["data", "mail"] {
            let owner = if name == "data" { "postfix" } else { "nobody" };
            assert!(run("chown", &[owner, &format!("{root}/{name}")]).status.success());
        }
        let postfix = Self { folder, address };
        let started = run("/usr/sbin/postfix", &["-c", &format!("{root}/config"), "start"]);
        let said = String::from_utf8_lossy(&started.stderr).into_owned();
        assert!(started.status.success(), "postfix does not start (as root?): {said} {}", postfix.log());
        listening(postfix.address).await;
        postfix
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The mails of Léa, once there are so many.
    async fn mails(&self, count: usize) -> Vec<String> {
        let path = self.folder.path().join("mail/lea");
        until(
            || self.log(),
            async || {
                let mailbox = fs::read_to_string(&path).unwrap_or_default();
                let mails: Vec<String> = mailbox
                    .split("From garant@shop.example  ")
                    .skip(1)
                    .filter_map(|mail| mail.split_once('\n').map(|(_, mail)| mail.trim_end().to_owned() + "\n"))
                    .collect();
                (mails.len() >= count).then_some(mails)
            },
        )
        .await
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        let config = self.folder.path().join("config").display().to_string();
        drop(run("/usr/sbin/postfix", &["-c", &config, "abort"]));
    }
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2040, 1, 1));
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a root")
}

/// A world that trusts this authority.
fn world_trusting(authority: &CertifiedIssuer<'static, KeyPair>) -> World {
    let world = World::new();
    let roots = world.folder.path().join("roots.pem");
    fs::write(&roots, authority.pem()).expect("written");
    let options = NetOptions { extra_roots: Some(roots), ..NetOptions::default() };
    World { net: Net::new(&options, Arc::new(SimClock::starting_at(NOW))).expect("a network"), ..world }
}

/// The channel of a person at `to`, over the server that these lines describe.
fn mailbox(to: &str, server: &str) -> Arc<dyn Channel> {
    let text =
        format!("[[person]]\nchannel = {{ mail = \"{to}\" }}\n[mail]\nfrom = \"garant@shop.example\"\n{server}\n");
    let (settings, providers) = read(&text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    settings[0].open(&providers).expect("has its provider")
}

/// What Python makes of a mail: whether its signature holds, whether it does with one letter changed, and what a reader sees.
const READER: &str = r#"
import base64, dkim, email, email.policy, json, sys
raw = open(sys.argv[1], "rb").read().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
record = open(sys.argv[2], "rb").read().strip()
asked = []
def dns(name, timeout=5):
    asked.append(name.decode() if isinstance(name, bytes) else name)
    return record
mail = email.message_from_bytes(raw, policy=email.policy.default)
plain, html = (mail.get_body((kind,)).get_content() for kind in ("plain", "html"))
print(json.dumps({
    "good": dkim.verify(raw, dnsfunc=dns),
    "changed": dkim.verify(raw.replace(b"Gravelines", b"Gravelinet", 1), dnsfunc=dns),
    "added": dkim.verify(b"Subject: other\r\n" + raw, dnsfunc=dns),
    "asked": asked[0],
    "subject": mail["Subject"], "from": mail["From"], "to": mail["To"], "id": mail["Message-ID"],
    "refers": mail["In-Reply-To"], "date": mail["Date"].datetime.isoformat(), "plain": plain, "html": html,
    "defects": [str(defect) for part in mail.walk() for defect in part.defects],
}))
"#;

/// STARTTLS, TLS from the start, and none; what arrives is read and verified by others. RSA and Ed25519 sign.
#[tokio::test]
async fn postfix_delivers_and_dkimpy_verifies() {
    let known = authority("Known");
    let world = world_trusting(&known);
    let postfix = Postfix::start(&known, "").await;
    let (address, ip) = (postfix.address, postfix.address.ip());
    let ed25519 = KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
    let rsa = include_str!("../../../fixtures/dkim-of-a-test.pem");
    let folder = world.folder.path();
    let public = folder.join("public.der");
    fs::write(folder.join("rsa.pem"), rsa).expect("written");
    let arguments =
        ["pkey", "-in", &folder.join("rsa.pem").display().to_string(), "-pubout", "-outform", "DER", "-out"];
    assert!(run("openssl", &[&arguments[..], &[&public.display().to_string()]].concat()).status.success());
    let (rsa_key, ed25519_key) = (world.keep("rsa", rsa), world.keep("ed25519", &ed25519.serialize_pem()));
    let base64 = |bytes: &[u8]| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes);
    let records = [
        format!("v=DKIM1; k=rsa; p={}", base64(&fs::read(&public).expect("read"))),
        format!("v=DKIM1; k=ed25519; p={}", base64(ed25519.public_key_raw())),
    ];
    let mut first: Option<String> = None;
    for (index, (server, key, record)) in [
        (format!("server = \"{address}\""), &rsa_key, &records[0]),
        (format!("server = \"{ip}:{}\"\ntls = \"tls\"", address.port() + 1), &ed25519_key, &records[1]),
        (format!("server = \"{address}\"\ntls = \"none\""), &rsa_key, &records[0]),
    ]
    .into_iter()
    .enumerate()
    {
        let language = if index == 1 { Language::En } else { Language::Fr };
        let message = Message {
            subject: "« shop » est en panne — œuvre".to_owned(),
            ..message(&format!("m-{index}"), language)
        };
        let channel = mailbox("lea@shop.example", &format!("{server}\ndkim = {{ selector = \"sel\", key = {key} }}"));
        let sent = channel.send(&message, first.as_deref(), world.means()).await;
        let Sent::Accepted { reference: Some(reference) } = sent else { panic!("{sent:?} {}", postfix.log()) };
        let mails = postfix.mails(index + 1).await;
        let (raw, text) = (folder.join("mail"), folder.join("record"));
        fs::write(&raw, &mails[index]).expect("written");
        fs::write(&text, record).expect("written");
        let output = run("/usr/bin/python3", &["-c", READER, &raw.display().to_string(), &text.display().to_string()]);
        assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), mails[index]);
        let seen: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(
            (&seen["good"], &seen["changed"], &seen["added"]),
            (&true.into(), &false.into(), &false.into()),
            "{seen}"
        );
        assert_eq!(seen["asked"], "sel._domainkey.shop.example.");
        assert_eq!(seen["subject"], "« shop » est en panne — œuvre");
        assert_eq!((&seen["from"], &seen["to"]), (&"garant <garant@shop.example>".into(), &"lea@shop.example".into()));
        assert!(seen["date"].as_str().is_some_and(|date| date.starts_with("2026-11-22T23:0")), "{seen}");
        assert_eq!(seen["id"].as_str(), Some(&*format!("<m-{index}@shop.example>")));
        assert_eq!(seen["refers"].as_str(), first.as_deref());
        assert_eq!(seen["defects"], serde_json::json!([]));
        for part in ["plain", "html"] {
            let text = seen[part].as_str().expect("a text");
            for line in message.text.lines() {
                assert!(text.contains(line), "{part}: {text}");
            }
            assert!(text.contains("https://trust.shop.example/a/abc123"), "{part}: {text}");
        }
        assert_eq!(first.get_or_insert_with(|| reference.clone()), &reference, "the thread keeps its first");
    }
    assert!(postfix.log().contains("TLS connection established") || postfix.mails(1).await[0].contains("with ESMTPS"));
}

/// What Postfix refuses, and what it puts off; nobody is told an address, and a server that can't be trusted gets nothing.
#[tokio::test]
async fn postfix_refuses_and_puts_off() {
    let known = authority("Known");
    let world = world_trusting(&known);
    let postfix = Postfix::start(&known, "message_size_limit = 3000\nsmtpd_tls_security_level = encrypt").await;
    let tls = format!("server = \"{}\"", postfix.address);
    let clear = format!("{tls}\ntls = \"none\"");
    let message = message("m-1", Language::Fr);
    for (to, server, expected) in [
        ("nobody@shop.example", &tls, "answers 550 5.1.1 to RCPT TO: it does not take mail for this person"),
        ("tom@elsewhere.example", &tls, "answers 554 5.7.1 to RCPT TO: it does not take mail for this person"),
        ("lea@shop.example", &clear, "answers 530 5.7.0 to MAIL FROM: it wants TLS or a login"),
    ] {
        let sent = mailbox(to, server).send(&message, None, world.means()).await;
        assert!(matches!(&sent, Sent::Refused { reason } if reason.contains(expected)), "{to}: {sent:?}");
        assert!(!reason(&sent).contains('@'), "{sent:?}");
    }
    let sent = mailbox("busy@shop.example", &tls).send(&message, None, world.means()).await;
    assert!(matches!(&sent, Sent::Again { reason, .. } if reason.contains("answers 450 4.7.1 to RCPT TO")), "{sent:?}");
    let long = Message { text: "long ".repeat(2000), ..message.clone() };
    let sent = mailbox("lea@shop.example", &tls).send(&long, None, world.means()).await;
    assert!(matches!(&sent, Sent::Refused { reason } if reason.contains("raise its limit")), "{sent:?}");
    // The same server to who does not know its authority.
    let stranger = world_trusting(&authority("Stranger"));
    let sent = mailbox("lea@shop.example", &tls).send(&message, None, stranger.means()).await;
    assert!(matches!(&sent, Sent::Again { reason, .. } if reason.contains("certificate is refused")), "{sent:?}");
    assert!(reason(&sent).contains("`tls = \"none\"` in [mail] will do"), "{sent:?}");
    assert!(!postfix.log().contains("to=<lea@shop.example>"), "{}", postfix.log());
}

/// STARTTLS that is not offered is not done without.
#[tokio::test]
async fn mail_does_not_go_in_clear_for_want_of_starttls() {
    let known = authority("Known");
    let world = world_trusting(&known);
    let postfix = Postfix::start(&known, "smtpd_discard_ehlo_keywords = starttls").await;
    let channel = mailbox("lea@shop.example", &format!("server = \"{}\"", postfix.address));
    let sent = channel.send(&message("m-1", Language::Fr), None, world.means()).await;
    assert!(matches!(&sent, Sent::Again { reason, .. } if reason.contains("does not offer STARTTLS")), "{sent:?}");
    assert!(!postfix.log().contains("to=<"), "{}", postfix.log());
}

/// A gateway of Kannel takes a text, and a telephone shows it, accents and all, as one message.
#[tokio::test]
async fn kannel_hands_the_text_over() {
    let world = World::new();
    let [admin, boxes, centre, http] = free_ports();
    let folder = world.folder.path();
    let config = folder.join("kannel.conf");
    fs::write(
        &config,
        format!(
            "group = core\nadmin-port = {admin}\nadmin-interface = 127.0.0.1\nadmin-password = x\nsmsbox-port = {boxes}\n\
             smsbox-interface = 127.0.0.1\nbox-allow-ip = 127.0.0.1\n\ngroup = smsc\nsmsc = fake\nsmsc-id = fake\n\
             port = {centre}\nconnect-allow-ip = 127.0.0.1\n\ngroup = smsbox\nbearerbox-host = 127.0.0.1\n\
             sendsms-port = {http}\nsendsms-interface = 127.0.0.1\n\ngroup = sendsms-user\nusername = garant\n\
             password = s3cret\nmax-messages = 1\n\ngroup = sms-service\nkeyword = default\nmax-messages = 0\ntext = none\n"
        ),
    )
    .expect("written");
    let config = config.display().to_string();
    let local = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let _bearerbox = Program::start("/usr/sbin/bearerbox", &[&config], &folder.join("bearerbox"));
    // The port of the centre takes one connection, which is for the telephone.
    listening(local(boxes)).await;
    let shown = folder.join("telephone");
    let telephone = "/usr/lib/kannel/test/fakesmsc";
    let centre = centre.to_string();
    let arguments = ["-H", "127.0.0.1", "-r", &centre, "-m", "1", "1 2 text hi"];
    let mut _telephone = Program::start(telephone, &arguments, &shown);
    let _smsbox = Program::start("/usr/sbin/smsbox", &[&config], &folder.join("smsbox"));
    listening(local(http)).await;

    for (password, message, expected) in [
        (
            "s3cret",
            "Où est l’hôte {web} ? 3 €…",
            Ok("Où est l'hote {web} ? 3 €... https://trust.shop.example/a/abc123"),
        ),
        ("wrong", "x", Err("status 403: check the token")),
    ] {
        let password = world.keep("password", password);
        let text = format!(
            "[[person]]\nchannel = {{ sms = \"+33612345678\" }}\n[sms]\npreset = \"kannel\"\nurl = \"http://127.0.0.1:{http}\"\n\
             user = \"garant\"\npassword = {password}\nsender = \"SHOP\"\n"
        );
        let (settings, providers) = read(&text).expect("sound");
        let channel = settings[0].open(&providers).expect("has its provider");
        let message = Message { short: message.to_owned(), ..super::message("m-1", Language::Fr) };
        let sent = channel.send(&message, None, world.means()).await;
        match expected {
            Ok(text) => {
                assert!(matches!(sent, Sent::Accepted { .. }), "{sent:?}");
                let got = until(
                    || format!("{message:?}"),
                    async || {
                        let said = fs::read(&shown).unwrap_or_default();
                        let said = String::from_utf8_lossy(&said).into_owned();
                        said.lines().find_map(|line| line.split_once("<SHOP ").map(|(_, got)| got.to_owned()))
                    },
                )
                .await;
                assert_eq!(got, format!("+33612345678 text {text}>"));
            }
            Err(expected) => assert!(reason(&sent).contains(expected), "{sent:?}"),
        }
    }
}

/// The receiver that docs/webhook.md shows believes what is sent, and nothing that was changed or is old.
#[tokio::test]
async fn a_receiver_in_python_verifies() {
    let document = include_str!("../../../../../docs/webhook.md");
    let (_, code) = document.split_once("```python\n").expect("an example");
    let (code, _) = code.split_once("```").expect("an end");
    let world = World::new();
    let server = TestServer::start(Speaks::Http, Behaviour::Accept).await;
    let secret = world.keep("secret", "clé s3cret");
    let hook = format!("{{ webhook = \"http://{}/hook-path\", secret = {secret} }}", server.address);
    let (settings, providers) = read(&format!("[[person]]\nchannel = {hook}\n")).expect("sound");
    let channel = settings[0].open(&providers).expect("needs nothing");
    let sent = channel.send(&message("m-1", Language::Fr), None, world.means()).await;
    assert!(matches!(sent, Sent::Accepted { .. }), "{sent:?}");
    let recorded = server.recorded().pop().expect("one");
    let body = world.folder.path().join("body");
    fs::write(&body, &recorded.body).expect("written");
    let asks = format!(
        "{code}\nimport sys\nbody, header = open(sys.argv[1], 'rb').read(), sys.argv[2]\nsecret = 'clé s3cret'.encode()\n\
         at = {}\nprint(verified(secret, header, body, lambda: at), verified(secret, header, body + b' ', lambda: at), \
         verified(b'other', header, body, lambda: at), verified(secret, header, body, lambda: at + 400))",
        NOW.micros() / 1_000_000
    );
    let header = recorded.header("X-Garant-Signature").expect("signed");
    let output = run("/usr/bin/python3", &["-c", &asks, &body.display().to_string(), &header]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "True False False False\n", "{output:?}");
    // Every key is in it.
    let json = recorded.json();
    for key in json.as_object().expect("an object").keys() {
        assert!(document.contains(&format!("| `{key}` | ")), "{key} is not in docs/webhook.md");
    }
}

/// Ports that are free now. All are held until all are known, so that they differ.
fn free_ports() -> [u16; 4] {
    let listener = || {
        #[expect(clippy::disallowed_methods, reason = "the test is the other side")]
        std::net::TcpListener::bind("0.0.0.0:0").expect("a port")
    };
    let held = [listener(), listener(), listener(), listener()];
    held.each_ref().map(|listener| listener.local_addr().expect("an address").port())
}
