//! A garant with the toy in its lists: its table is read and documented, its finding has its title on the page, its figure is
//! in `/metrics`, its command asks at its door, its event is journaled and readable.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use event::{Body, Envelope};
use garant_toy::Greeted;
use serde_json::Value;
use store::Read as _;
use store::sqlite::Sqlite;

const POLICY: &str = r#"
[journal]
name = "shop.example"
[pages]
listen = "127.0.0.1:0"
public = "127.0.0.1:0"
[[service]]
name = "shop"
[[toy]]
name = "world"
service = "shop"
words = "hello, world"
[[promise]]
id = "TO-1"
text.fr = "Chacun est salué."
text.en = "Everybody is greeted."
absence = { finding = "toy-ungreeted", over = "1 d" }
"#;

#[expect(clippy::disallowed_methods, reason = "the test runs the program")]
fn program(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_garant-toy"));
    command.current_dir(folder).env_remove("GARANT_POLICY").env_remove("GARANT_DATA").stdin(Stdio::null());
    command
}

fn run(folder: &Path, arguments: &[&str]) -> (i32, String) {
    let Output { status, stdout, stderr } = program(folder).args(arguments).output().expect("it runs");
    let said = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (status.code().expect("it ends by itself"), said)
}

fn get(team: &str, path: &str) -> String {
    send(team, "GET", path, "")
}

fn send(team: &str, method: &str, path: &str, fields: &str) -> String {
    let host = team.trim_start_matches("http://").trim_end_matches('/');
    #[expect(clippy::disallowed_methods, reason = "the test is a reader of the pages")]
    let mut stream = std::net::TcpStream::connect(host).expect("it listens");
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{fields}\r\n").expect("asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    answer
}

/// A child process that is killed when a test fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn entries(data: &Path) -> Vec<Envelope> {
    let store = Sqlite::open_read_only(data).expect("the store");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let read = async {
        let size = store.head().await.expect("a head").size;
        store.entries(0..size).await.expect("entries")
    };
    let payloads = runtime.block_on(read).into_iter().filter_map(|entry| entry.payload);
    payloads.map(|payload| Envelope::decode(&payload.bytes).expect("an envelope")).collect()
}

#[test]
fn an_engine_in_the_lists_is_an_engine_of_the_house() {
    let folder = tempfile::tempdir().expect("a folder");
    let (folder, policy) = (folder.path(), folder.path().join("garant.toml"));

    fs::write(&policy, POLICY.replace("words =", "wrods =")).expect("written");
    let (code, said) = run(folder, &["check"]);
    assert!(
        code == 2 && said.contains("[[toy]] has no key `wrods`") && said.contains("did you mean `words`?"),
        "{said}"
    );
    fs::write(&policy, POLICY).expect("written");
    let (code, said) = run(folder, &["check"]);
    assert!(code == 0 && said.contains("1 probe"), "{said}");
    assert!(run(folder, &["policy", "reference"]).1.contains("## `[[toy]]`"));

    let (code, said) = run(folder, &["toy", "you"]);
    assert!(code == 1 && said.contains("no garant runs on the data directory"), "{said}");
    assert!(run(folder, &["toy", "--help"]).1.contains("--data"));
    assert!(run(folder, &["--help"]).1.contains("Greet somebody"));
    assert!(run(folder, &["completions", "bash"]).1.contains("garant__subcmd__toy"));

    let mut up =
        program(folder).args(["up", "--json"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("up");
    let mut ready = String::new();
    BufReader::new(up.stdout.take().expect("piped")).read_line(&mut ready).expect("it says that it is ready");
    let mut up = Running(up);
    let ready: Value = serde_json::from_str(&ready).expect("JSON");
    let team = ready["team"].as_str().expect("where it listens");
    let metrics = get(team, "/metrics");
    assert!(metrics.contains("\ngarant_toy_greeted_total 1\n"), "{metrics}");
    assert!(metrics.contains("engine=\"toy\""), "{metrics}");
    assert!(get(team, "/en").contains("Nobody said hello"), "{}", get(team, "/en"));
    assert!(get(team, "/fr").contains("Personne non saluée"));

    assert_eq!(run(folder, &["toy", "a b/ü?"]), (0, "hello, a b/ü?\n".to_owned()));
    assert_eq!(run(folder, &["--colour", "always", "toy", "you"]).1, "\u{1b}[32mhello, you\u{1b}[0m\n");
    let hostile = run(folder, &["toy", "\u{202e}you"]).1;
    assert!(!hostile.contains('\u{202e}') && hostile.starts_with("hello, "), "{hostile:?}");
    assert!(get(team, "/api/v1/toy").starts_with("HTTP/1.1 401 "), "no token, no answer");
    // Nobody is asked for a body before they were let in (RFC 9110, section 10.1.1).
    let with_body = |token: &str| {
        let fields = "Content-Type: application/json\r\nContent-Length: 2\r\nExpect: 100-continue";
        send(team, "POST", "/api/v1/toy", &format!("Authorization: Bearer {token}\r\n{fields}\r\n"))
    };
    assert!(with_body("wrong").starts_with("HTTP/1.1 401 "));
    // The page of the door is there for everybody, though nothing is published.
    let door_page = get(ready["public"].as_str().expect("where it listens"), "/toy/not-so-secret");
    assert!(door_page.contains("content-security-policy: ") && door_page.contains("form-action 'self'"), "{door_page}");
    assert!(
        door_page.contains("<dd>3</dd>") && door_page.contains("<button name=\"do\" value=\"greet\">Greet"),
        "{door_page}"
    );

    // The token is kept over restarts; a wrong one, or one that others may read, is told from an engine that fails.
    let token = folder.join("garant-data/team.token");
    let kept = fs::read(&token).expect("the token");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).expect("set");
    let (code, said) = run(folder, &["toy", "you"]);
    assert!(code == 1 && said.contains("may be read or changed by others"), "{said}");
    fs::write(&token, "A".repeat(43)).expect("written");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).expect("set");
    let (code, said) = run(folder, &["toy", "you"]);
    assert!(code == 1 && said.contains("does not take the team token"), "{said}");
    fs::write(&token, &kept).expect("written");
    assert!(
        !fs::read_to_string(folder.join("garant-data/running.json"))
            .expect("there")
            .contains(&*String::from_utf8_lossy(&kept[..43]))
    );

    let pid = up.0.id().to_string();
    #[expect(clippy::disallowed_methods, reason = "the test stops the program")]
    let told = Command::new("kill").args(["-TERM", &pid]).status().expect("kill");
    assert!(told.success() && up.0.wait().expect("it ends").success());

    let greeted = entries(&folder.join("garant-data")).into_iter().find(|entry| entry.kind == Greeted::KIND.name);
    let greeted = greeted.expect("it is journaled");
    assert_eq!(greeted.observer.as_str(), "server.toy");
    assert_eq!(greeted.body::<Greeted>().expect("its kind").expect("readable").words, "hello, world");
}
