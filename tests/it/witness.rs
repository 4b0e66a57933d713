//! A log and its witness, each a real process: what happens when they disagree, and which messages people get.
//! Promises BX-4, JO-2.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};

use journal::checkpoint::Checkpoint;
use journal::note::{Note, SigningKey};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{
    Up, binary, command, eventually, folder_with, free_port, garant, get, http, pause, transcript, up_refused,
};

/// A policy without probes: the log grows only when the test makes it.
fn policy(more: &str) -> String {
    format!(
        "publish = true\n[journal]\nname = \"shop.example\"\n{more}\n[pages]\nlisten = \"127.0.0.1:0\"\npublic = \
         \"127.0.0.1:0\"\nurl = \"http://127.0.0.1/\"\n[[service]]\nname = \"shop\"\ntitle.fr = \"La boutique\"\ntitle.en \
         = \"The shop\"\n"
    )
}

/// A `garant witness` with a state file of its own.
struct Witness {
    folder: TempDir,
    port: u16,
    vkey: String,
    child: Option<Child>,
}

impl Witness {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path().join("state");
        let state = state.to_str().expect("UTF-8");
        let done = garant(&["witness", "init", "--state", state, "--name", "witness.example"]);
        assert!(done.status.success(), "{}", transcript(&done));
        let vkey = String::from_utf8(done.stdout).expect("UTF-8").trim().to_owned();
        Self { folder, port: free_port(), vkey, child: None }
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn known(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.state()).expect("the state")).expect("JSON")
    }

    fn seen(&self) -> u64 {
        self.known()["logs"]["shop.example/1"]["size"].as_u64().unwrap_or(0)
    }

    fn serve(&mut self, more: &[&str]) {
        let mut child = command(binary())
            .args(["witness", "serve", "--state"])
            .arg(self.state())
            .args(["--listen", &format!("127.0.0.1:{}", self.port)])
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the witness starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("readable");
        assert!(line.contains("witness.example"), "{line}");
        self.child = Some(child);
    }

    /// Runs the witness where it must refuse to start, and returns its message.
    fn refused(&self, more: &[&str]) -> Output {
        let mut arguments = vec!["witness", "serve", "--state"];
        let state = self.state();
        arguments.push(state.to_str().expect("UTF-8"));
        arguments.extend(more);
        let output = command("timeout").arg("20").arg(binary()).args(arguments).output().expect("timeout runs");
        assert_ne!(output.status.code(), Some(124), "it was expected to refuse, and runs");
        output
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it can be killed");
            child.wait().expect("it ends");
        }
    }

    /// The lines of `[journal]` that name this witness.
    fn named(&self) -> String {
        format!("witness = {{ name = \"friend\", url = \"http://127.0.0.1:{}\", vkey = \"{}\" }}", self.port, self.vkey)
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.kill();
    }
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn checkpoint(note: &str) -> Checkpoint {
    Checkpoint::parse(&Note::parse(note).expect("a note").text).expect("a checkpoint")
}

fn published(up: &Up) -> Option<Checkpoint> {
    Some(checkpoint(&String::from_utf8(get(&up.url("log/checkpoint"))?).ok()?))
}

fn copy(from: &Path, to: &Path) {
    drop(std::fs::remove_dir_all(to));
    drop(std::fs::remove_file(to));
    assert!(command("cp").arg("-a").arg(from).arg(to).status().expect("cp runs").success());
}

/// A machine is set back to a snapshot, its remembered head included, while the witness is away. Only the witness can know:
/// it stops the running log and each start, and the note that it showed is remembered without it.
#[test]
fn a_witness_stops_a_log_that_forgot() {
    let mut witness = Witness::new();
    let up = Up::start(&policy(&witness.named()));
    let vkey = up.ready["vkey"].as_str().expect("the key is in the ready line").to_owned();
    let folder = up.stop();
    witness.serve(&["--log", &vkey]);
    let up = Up::start_in(folder);
    eventually("a first cosignature", || (witness.seen() > 0).then_some(()));
    let folder = up.stop();
    let (data, head) = (folder.path().join("data"), folder.path().join("data.head"));
    let (data_then, head_then) = (folder.path().join("data.then"), folder.path().join("head.then"));
    copy(&data, &data_then);
    copy(&head, &head_then);
    let folder = Up::start_in(folder).stop();
    let seen = witness.seen();
    assert!(seen > checkpoint(&text(&head_then)).size, "the witness saw the log go on");

    // The snapshot, with no witness: garant starts, publishes, and grows beyond what the witness saw.
    witness.kill();
    copy(&data_then, &data);
    copy(&head_then, &head);
    let mut folder = folder;
    let up = loop {
        let up = Up::start_in(folder);
        let size = eventually("a checkpoint of this run", || published(&up).filter(|it| it.size > seen / 2)).size;
        if size > seen {
            break up;
        }
        folder = up.stop();
    };

    // The witness comes back, and the running log stops by itself.
    witness.serve(&[]);
    let (status, errors, folder) = up.ended();
    assert_eq!(status, Some(1), "{errors}");
    assert!(errors.contains("friend contradicts this log") && errors.contains("garant log continue"), "{errors}");
    assert_eq!(witness.seen(), seen, "it cosigned nothing of the second history");
    let evidence: Vec<_> = std::fs::read_dir(witness.folder.path())
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.to_string_lossy().contains("state.evidence-"))
        .collect();
    assert!(evidence.len() <= 4, "{evidence:?}");
    // A proof from a size that is a power of two does not say what it leaves out: see journal::witness.
    assert!(seen.is_power_of_two() || !evidence.is_empty(), "the witness keeps what convicts the log");
    for path in &evidence {
        assert_eq!(text(path).matches("\n— shop.example/1 ").count(), 2, "two checkpoints, each signed by the log");
    }

    // Each start is refused, whether or not this machine remembers why.
    let remembered = text(&head);
    assert_eq!(checkpoint(&remembered).size, seen, "what the witness showed is remembered");
    copy(&head_then, &head);
    for silent in [false, true] {
        if silent {
            witness.kill();
        }
        let refused = up_refused(folder.path());
        let said = transcript(&refused);
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(said.contains("log continue"), "{said}");
        assert_eq!(said.contains("friend contradicts this log"), !silent, "{said}");
        assert_eq!(checkpoint(&text(&head)).size, seen);
    }

    // The continuation cites the head that the witness had.
    let policy_file = folder.path().join("garant.toml");
    let done = garant(&[
        "log",
        "continue",
        "--policy",
        policy_file.to_str().expect("UTF-8"),
        "--data",
        data.to_str().expect("UTF-8"),
        "--reason",
        "a snapshot was put back",
    ]);
    assert!(done.status.success(), "{}", transcript(&done));
    let up = Up::start_in(folder);
    let root = checkpoint(&remembered).root.to_base64();
    eventually("the successor to say what it follows", || {
        let payloads = String::from_utf8(get(&up.url(&format!("log/payload/000.p/{}", published(&up)?.size)))?).ok()?;
        payloads.contains(&root).then_some(())
    });
}

/// A witness that is broken, slow or absent is no reason to stop: only a contradiction is.
#[test]
fn a_witness_that_answers_nonsense_stops_nothing() {
    // A server that answers every request with 422 and nothing else.
    #[expect(clippy::disallowed_methods, reason = "the test is the other side")]
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 16 * 1024];
            drop(stream.read(&mut request));
            drop(stream.write_all(b"HTTP/1.1 422 no\r\ncontent-length: 3\r\nconnection: close\r\n\r\nno\n"));
        }
    });
    let mut witness = Witness::new();
    witness.port = port;
    let up = Up::start(&policy(&witness.named()));
    let first = eventually("a checkpoint", || published(&up));
    let folder = up.stop();
    let up = Up::start_in(folder);
    eventually("a later one", || published(&up).filter(|it| it.size > first.size));
    eventually("that the witness did not cosign", || up.errors().contains("did not cosign").then_some(()));
    up.stop();
}

/// With a witness in the policy, checkpoints are published at the pace of the witness; those signed in between are shown to
/// nobody.
#[test]
fn nobody_gets_what_is_not_remembered() {
    let witness = Witness::new();
    let up = Up::start(&policy(&witness.named()));
    eventually("a first checkpoint", || published(&up));
    let (data, remembered) = (up.path("data"), up.path("data.head"));
    let data = data.to_str().expect("UTF-8").to_owned();
    let head = || {
        let output = garant(&["log", "head", "--data", &data, "--json"]);
        let head: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", transcript(&output)));
        head["size"].as_u64().expect("a size")
    };
    let size = |up: &Up| up.status()["journal"]["size"].as_u64().expect("a size");
    let known = || checkpoint(&text(&remembered)).size;
    // Right after one checkpoint was published, the next has to wait; the log itself does not.
    let before = known();
    let policy_file = up.path("garant.toml");
    let mut round = 0;
    let beyond = eventually("the log to be ahead of what is published", || {
        round += 1;
        std::fs::write(&policy_file, format!("{}[[service]]\nname = \"s{round}\"\n", policy(&witness.named())))
            .expect("written");
        up.signal("HUP");
        pause(0.2);
        (size(&up) > known() && known() > before).then(|| size(&up))
    });
    let given = head();
    assert!(given <= known(), "{given} entries were given away, and {} are remembered", known());
    let export = up.path("export");
    let exported = garant(&["log", "export", "--data", &data, export.to_str().expect("UTF-8")]);
    assert!(exported.status.success(), "{}", transcript(&exported));
    assert!(checkpoint(&text(&export.join("checkpoint"))).size <= known());

    // After a crash, a command that asks for the head publishes the rest, and remembers it first.
    let folder = up.crash();
    let given = head();
    assert!(given >= beyond, "{given} of at least {beyond}");
    assert_eq!(known(), given);
    let proof = garant(&["log", "proof", "--data", &data, &(given - 1).to_string()]);
    assert!(proof.status.success(), "{}", transcript(&proof));
    drop(folder);
}

/// Messages for people who run a witness for the first time.
#[test]
fn the_command_says_what_to_do() {
    let mut witness = Witness::new();
    let key = |seed: u8, name: &str| SigningKey::generate([seed; 32], name).expect("a name");
    let (old, new) = (key(1, "shop.example/1").vkey().to_string(), key(2, "shop.example/1").vkey().to_string());
    let other = key(3, "other.example/1").vkey().to_string();
    let of_a_witness = key(4, "w.example").cosigner_vkey().to_string();
    let says = |output: &Output, code: i32, words: &[&str]| {
        let said = transcript(output);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{words:?} in {said}");
    };
    says(&witness.refused(&[]), 2, &["no log to cosign for", "--log"]);
    says(&witness.refused(&["--log", "nonsense"]), 2, &["`nonsense` is not the key of a log"]);
    says(&witness.refused(&["--log", &of_a_witness]), 2, &["key of a witness"]);
    says(&witness.refused(&["--log", &old, "--forget", "unknown.example"]), 2, &["no log `unknown.example`"]);
    #[expect(clippy::disallowed_methods, reason = "the test takes the port")]
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().map(|address| (address.to_string(), taken)).expect("an address");
    says(&witness.refused(&["--log", &old, "--listen", &taken.0]), 1, &["nothing can listen on", "--listen"]);
    assert_eq!(witness.known()["logs"], serde_json::json!({}), "who did not come up has changed nothing");
    let there = garant(&["witness", "init", "--state", witness.state().to_str().expect("UTF-8"), "--name", "w"]);
    says(&there, 1, &["is there already"]);
    let nowhere = witness.folder.path().join("no/such/folder");
    let nowhere = nowhere.to_str().expect("UTF-8");
    says(&garant(&["witness", "init", "--state", nowhere, "--name", "w"]), 1, &["that you may write"]);
    says(&garant(&["witness", "serve", "--state", nowhere, "--log", &old]), 1, &["garant witness init"]);
    let missing = witness.folder.path().join("missing");
    says(&garant(&["witness", "serve", "--state", missing.to_str().expect("UTF-8")]), 1, &["garant witness init"]);
    assert!(!witness.folder.path().join("missing.lock").exists(), "a path that was mistyped leaves nothing behind");
    set_mode(&witness.state(), 0o644);
    says(&witness.refused(&["--log", &old]), 1, &["can be read by others", "chmod 600"]);
    set_mode(&witness.state(), 0o600);

    // A rotation: both keys, then the new one alone; the other log keeps its own.
    let keys = |witness: &Witness, log: &str| witness.known()["logs"][log]["keys"].clone();
    witness.serve(&["--log", &old, "--log", &new, "--log", &other]);
    assert_eq!(keys(&witness, "shop.example/1"), serde_json::json!([old, new]));
    says(&witness.refused(&["--listen", "127.0.0.1:0"]), 1, &["another process", "witness init"]);
    witness.kill();
    witness.serve(&["--log", &new]);
    assert_eq!(keys(&witness, "shop.example/1"), serde_json::json!([new]));
    assert_eq!(keys(&witness, "other.example/1"), serde_json::json!([other]));
    let empty = Checkpoint { origin: "shop.example/1".to_owned(), size: 0, root: journal::tree::EMPTY_ROOT };
    let submit = |witness: &Witness, seed: u8| {
        let request = journal::witness::encode_request(0, &[], &empty.sign(&[&key(seed, "shop.example/1")]));
        let url = format!("http://127.0.0.1:{}/add-checkpoint", witness.port);
        http("POST", &url, &[], request.as_bytes()).expect("an answer").0
    };
    assert_eq!((submit(&witness, 1), submit(&witness, 2)), (403, 200), "the retired key counts no more");
    witness.kill();
    witness.serve(&["--forget", "shop.example/1"]);
    assert_eq!(submit(&witness, 2), 404);

    // Ctrl-C ends the witness, with exit code 0.
    let mut child = witness.child.take().expect("it runs");
    assert!(command("kill").args(["-INT", &child.id().to_string()]).status().expect("kill runs").success());
    let status = eventually("the end of the witness", || child.try_wait().expect("it can be waited for"));
    assert!(status.success(), "{status}");
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("its mode can be set");
}

/// A policy that gives the key of a log for that of a witness is refused with a reason.
#[test]
fn a_witness_has_the_key_of_a_witness() {
    let key = SigningKey::generate([1; 32], "w.example").expect("a name").vkey();
    let folder = folder_with(&policy(&format!("witness = {{ url = \"http://127.0.0.1:9\", vkey = \"{key}\" }}")));
    let refused = up_refused(folder.path());
    assert!(transcript(&refused).contains("it is the key of a log"), "{}", transcript(&refused));
}
