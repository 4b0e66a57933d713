//! What a person meets at the terminal: mistakes shown in the right place, refusals that say what to do.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::harness::{Up, binary, command, eventually, folder_with, garant, pause, transcript, up_refused};

const QUIET: &str = "[journal]\nname = \"shop.example\"\n[pages]\nlisten = \"127.0.0.1:0\"\n";

/// What `init` writes passes `check`, and `up` starts on it.
#[test]
fn init_check_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("garant.toml");
    let file = file.to_str().expect("UTF-8");
    let init = garant(&["init", "https://127.0.0.1:1/", "--output", file]);
    assert!(init.status.success(), "{}", transcript(&init));
    let again = garant(&["init", "https://127.0.0.1:1/", "--output", file]);
    assert_eq!(again.status.code(), Some(1), "an existing policy is not overwritten");
    assert!(transcript(&again).contains("--force"), "{}", transcript(&again));
    for (url, log) in [
        ("https://shop.example/", "shop.example"),
        ("http://[::1]:8080/health?deep=1", "site"),
        ("http://localhost/", "site"),
        ("http://127.0.0.1/", "site"),
        ("https://shop.example:8443", "shop.example"),
    ] {
        let init = garant(&["init", url, "--force", "--output", file]);
        assert!(init.status.success(), "{url}: {}", transcript(&init));
        assert!(transcript(&init).contains(&format!("called `{log}` for good")), "{url}: {}", transcript(&init));
        let text = std::fs::read_to_string(file).expect("read");
        assert!(text.contains(&format!("\nname = \"{log}\" ")), "{text}");
    }
    let named = |name| garant(&["init", "http://[::1]/", "--force", "--output", file, "--log-name", name]);
    assert_eq!(named("Shop").status.code(), Some(2), "{}", transcript(&named("Shop")));
    assert!(transcript(&named("shop.example/internal")).contains("called `shop.example/internal` for good"));
    // What may be a token stays out of the policy, and of the message about it.
    let init = garant(&["init", "https://shop.example/health?token=s3cret", "--force", "--output", file]);
    assert!(init.status.success() && transcript(&init).contains("left out"), "{}", transcript(&init));
    let text = std::fs::read_to_string(file).expect("read");
    assert!(text.contains("https://shop.example/health\"") && !text.contains("s3cret"), "{text}");
    assert!(!transcript(&init).contains("s3cret"), "{}", transcript(&init));
    let check = garant(&["check", "--policy", file]);
    assert!(check.status.success(), "{}", transcript(&check));
    let text = std::fs::read_to_string(file).expect("read").replace("127.0.0.1:8480", "127.0.0.1:0");
    std::fs::write(file, text).expect("written");
    let up = Up::start_in(folder);
    assert_eq!(up.status()["publish"], false, "shadow mode");
    up.stop();
}

/// A socket whose path Linux does not take is refused by name: that of the policy by `check`, that of the data directory by `up`.
#[test]
fn a_socket_with_too_long_a_path_is_refused() {
    let long = "x".repeat(110);
    let folder = folder_with(&format!("{QUIET}[agent]\nsocket = \"/run/{long}/agent.sock\"\n"));
    let file = folder.path().join("garant.toml");
    let file = file.to_str().expect("UTF-8");
    let check = garant(&["check", "--policy", file]);
    assert_eq!(check.status.code(), Some(2), "{}", transcript(&check));
    assert!(transcript(&check).contains("107"), "{}", transcript(&check));
    let guard = "[[service]]\nname = \"guard\"\n[guard]\nservice = \"guard\"\nscenarios = [\"sshd\"]\n";
    std::fs::write(file, format!("{QUIET}{guard}")).expect("written");
    let data = folder.path().join(&long);
    let up = garant(&["up", "--policy", file, "--data", data.to_str().expect("UTF-8")]);
    assert_eq!(up.status.code(), Some(1), "{}", transcript(&up));
    let said = transcript(&up);
    assert!(said.contains("107") && said.contains("agent.sock") && said.contains("--data"), "{said}");
}

/// Ten mistakes, ten messages, each with its line.
#[test]
fn ten_mistakes_at_once() {
    let policy = r#"publish = "yes"
[journal]
nam = "shop.example"
[[service]]
name = "shop"
title.fr = "La boutique"
title.en = "The shop"
[[service]]
name = "shop"
title.fr = "Encore"
title.en = "Again"
[[probe.http]]
name = "a b"
service = "shop"
url = "ftp://shop.example/"
every = "10 parsecs"
[[probe.htpp]]
name = "x"
[[probe.tcp]]
name = "t"
service = "shpo"
address = "shop.example"
[[promise]]
id = "AV-1"
text.fr = "…"
text.en = "…"
availability = { service = "shop", at_least = "101 %", over = "30 d" }
"#;
    let folder = folder_with(policy);
    let file = folder.path().join("garant.toml");
    let check = garant(&["check", "--json", "--policy", file.to_str().expect("UTF-8")]);
    assert_eq!(check.status.code(), Some(2), "{}", transcript(&check));
    let answer: serde_json::Value = serde_json::from_slice(&check.stdout).expect("JSON");
    let mistakes = answer["mistakes"].as_array().expect("a list");
    let lines: Vec<i64> = mistakes.iter().filter_map(|m| m["line"].as_i64()).collect();
    for line in [1, 3, 9, 13, 15, 16, 17, 21, 22, 27] {
        assert!(lines.contains(&line), "line {line} has a mistake: {answer:#}");
    }
    for mistake in mistakes {
        assert!(mistake["reason"].as_str().is_some_and(|r| !r.is_empty()), "{mistake}");
        assert!(mistake["remedy"].as_str().is_some_and(|r| !r.is_empty()), "{mistake}");
    }
    // For people: the same, in their own file, and `up` refuses for the same reasons.
    let check = garant(&["check", "--policy", file.to_str().expect("UTF-8")]);
    let said = transcript(&check);
    assert!(said.contains("garant.toml:16:"), "{said}");
    assert!(said.contains("probe.http"), "a misspelt table is recognised: {said}");
    assert_eq!(up_refused(folder.path()).status.code(), Some(2));
}

#[test]
fn refusals_say_what_to_do() {
    let nothing = tempfile::tempdir().expect("a folder");
    let missing = nothing.path().join("garant.toml");
    let quiet = folder_with(QUIET);
    let policy = quiet.path().join("garant.toml");
    let policy = policy.to_str().expect("UTF-8");
    for (arguments, code, words) in [
        (vec!["check", "--policy", missing.to_str().expect("UTF-8")], 2, "garant init"),
        (vec!["verify", "/nonexistent"], 1, "/nonexistent"),
        (vec!["verify", nothing.path().to_str().expect("UTF-8")], 1, "no file `checkpoint`"),
        (vec!["verify", ".", "--since", "/dev/null"], 2, "--since"),
        (vec!["verify", ".", "--since", "/dev/zero"], 2, "longer than"),
        (vec!["log", "continue", "--reason", " "], 2, "say why"),
        (vec!["log", "continue", "--reason", "a\u{1b}[2Jb"], 2, "control characters"),
        (vec!["up", "--data", "/etc/hostname", "--policy", policy], 1, "is not a directory"),
        (vec!["status", "--data", "/nonexistent"], 1, "garant up"),
        (vec!["reload", "--data", "/nonexistent"], 1, "garant up"),
        (vec!["log", "export", "--data", "/nonexistent", "/tmp/never"], 1, "/nonexistent"),
        (vec!["up", "--polcy", "x"], 2, "--policy"),
        (vec!["init", "shop.example"], 2, "https://"),
    ] {
        let output = garant(&arguments);
        let said = transcript(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?} must speak of {words}: {said}");
        assert!(!said.contains("panicked"), "{said}");
    }
}

#[test]
fn a_taken_port_is_named() {
    #[expect(clippy::disallowed_methods, reason = "the test takes the port")]
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("its address").port();
    let folder = folder_with(&QUIET.replace("127.0.0.1:0", &format!("127.0.0.1:{port}")));
    let refused = up_refused(folder.path());
    let said = transcript(&refused);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("127.0.0.1:{port}")), "{said}");
    assert!(said.contains("listen"), "the key to change is named: {said}");
    std::fs::write(folder.path().join("garant.toml"), QUIET).expect("written");
    let up = Up::start_in(folder);
    assert!(!up.errors().contains("WARN"), "nothing happened that one would have to know: {}", up.errors());
}

#[test]
fn a_second_instance_is_refused() {
    let up = Up::start(QUIET);
    let refused = up_refused(up.folder.path());
    let said = transcript(&refused);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains(&up.pid().to_string()), "who holds the data is named: {said}");
    assert_eq!(up.status()["publish"], false, "the first goes on");
}

#[test]
fn the_data_of_another_user_is_refused() {
    let folder = Up::start(QUIET).stop();
    let data = folder.path().join("data");
    let given = command("chown").args(["-R", "nobody"]).arg(&data).status().expect("chown runs");
    assert!(given.success());
    let refused = up_refused(folder.path());
    let said = transcript(&refused);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("65534") || said.contains("nobody"), "the owner is named: {said}");

    // The directory stays as it was: its owner could not use it afterwards.
    let path = data.to_str().expect("UTF-8");
    let policy = folder.path().join("garant.toml");
    let policy = policy.to_str().expect("UTF-8");
    for command in [&["log", "continue", "--reason", "lost"][..], &["log", "rotate"], &["log", "rotate", "--dry-run"]] {
        let refused = garant(&[command, &["--data", path, "--policy", policy]].concat());
        assert_eq!(refused.status.code(), Some(1), "{command:?}: {}", transcript(&refused));
    }
    assert!(!folder.path().join("data.log-1").exists(), "no successor was opened");
    let empty = folder_with(QUIET);
    let data = empty.path().join("data");
    std::fs::create_dir(&data).expect("made");
    assert!(command("chown").arg("nobody").arg(&data).status().expect("chown runs").success());
    assert_eq!(up_refused(empty.path()).status.code(), Some(1));
    assert_eq!(std::fs::read_dir(&data).expect("a folder").count(), 0, "nothing was written there");
}

/// A garant whose standard error is refused goes on watching: a full disk under the log of the service costs lines only.
#[test]
fn nobody_hears_it() {
    let probe = "[[service]]\nname = \"shop\"\ntitle.fr = \"La boutique\"\ntitle.en = \"The shop\"\n\
                 [[probe.tcp]]\nname = \"shop-answers\"\nservice = \"shop\"\naddress = \"127.0.0.1:1\"\nevery = \"1 s\"\n";
    let up = Up::start_unheard(&format!("{QUIET}{probe}"));
    for _ in 0..3 {
        up.signal("HUP");
        pause(0.5);
    }
    eventually("the shop to be down", || (up.status()["services"][0]["state"] == "down").then_some(()));
    up.stop();
}

/// A result that could not be written whole is an error; a reader that closes the pipe is none.
#[test]
fn a_result_that_cant_be_written() {
    let folder = folder_with(QUIET);
    let mut check = command(binary());
    check.args(["check", "--policy"]).arg(folder.path().join("garant.toml"));
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("it is there");
    let failed = check.stdout(full).output().expect("garant starts");
    assert_eq!(failed.status.code(), Some(1), "{}", transcript(&failed));
    assert!(transcript(&failed).contains("the disk is full"), "{}", transcript(&failed));

    let mut reference = command(binary());
    let mut reference = reference.args(["policy", "reference"]).stdout(Stdio::piped()).spawn().expect("garant starts");
    drop(reference.stdout.take());
    assert!(reference.wait().expect("it ends").success());
}

/// An export is refused into a folder that holds something else.
#[test]
fn an_export_spares_what_is_there() {
    let folder = Up::start(QUIET).stop();
    let data = folder.path().join("data");
    let to = folder.path().join("export");
    let again =
        |to: &Path| garant(&["log".as_ref(), "export".as_ref(), "--data".as_ref(), data.as_os_str(), to.as_os_str()]);
    assert!(again(&to).status.success() && again(&to).status.success(), "the same log is brought up to date");
    let own = std::fs::read_to_string(to.join("checkpoint")).expect("a checkpoint");
    let mut lines = own.lines();
    let (origin, size) = (lines.next().expect("an origin"), lines.next().expect("a size"));
    let grown = own.replacen(&format!("\n{size}\n"), "\n999999\n", 1);
    for (there, words) in [
        ("hello", "not one of a log"),
        (&own.replacen(origin, "other.example/1", 1), "another log, other.example/1"),
        (&grown, "newer state"),
    ] {
        std::fs::write(to.join("checkpoint"), there).expect("written");
        let refused = again(&to);
        let said = transcript(&refused);
        assert!(refused.status.code() == Some(1) && said.contains(words), "{there}: {said}");
        assert_eq!(std::fs::read_to_string(to.join("checkpoint")).expect("there"), *there, "nothing was written");
    }
    let other = tempfile::tempdir().expect("a folder");
    assert!(again(other.path()).status.success(), "an empty folder");
    let other = tempfile::tempdir().expect("a folder");
    std::fs::write(other.path().join("index.html"), "mine").expect("written");
    let refused = again(other.path());
    assert!(transcript(&refused).contains("holds other files"), "{}", transcript(&refused));
    assert_eq!(std::fs::read_dir(other.path()).expect("listed").count(), 1, "nothing was written");
    let refused = again(&data);
    assert!(transcript(&refused).contains("data directory"), "{}", transcript(&refused));
    assert!(!data.join("checkpoint").exists());
}

/// A copy of the data directory without its remembered head: a warning says that it may not be the newest.
#[test]
fn a_log_that_nothing_remembers() {
    let folder = Up::start(QUIET).stop();
    std::fs::remove_file(folder.path().join("data.head")).expect("it is there");
    let up = Up::start_in(folder);
    assert!(up.errors().contains("nothing remembers the head of the log"), "{}", up.errors());
    let up = Up::start_in(up.stop());
    assert!(!up.errors().contains("nothing remembers"), "once: {}", up.errors());
}

/// A copy of the data directory, with its head, of a garant that runs: commands find out that nothing runs on it, and no
/// second process signs the log. Moved or restored, it starts, says so, and journals it.
#[test]
fn a_copy_of_a_running_garant() {
    let up = Up::start(QUIET);
    let pid = up.pid().to_string();
    let copy = tempfile::tempdir().expect("a folder");
    let copied = command("cp").args(["-a", "."]).arg(copy.path()).current_dir(up.folder.path()).status();
    assert!(copied.expect("cp runs").success());
    let data = copy.path().join("data");
    for word in ["status", "reload"] {
        let refused = garant(&[word.as_ref(), "--data".as_ref(), data.as_os_str()]);
        let said = transcript(&refused);
        assert_eq!(refused.status.code(), Some(1), "{word}: {said}");
        assert!(said.contains("no garant runs") && said.contains(&format!("on which process {pid} runs")), "{said}");
        assert!(said.contains(&up.path("data").display().to_string()), "{said}");
    }
    assert_eq!(up.status()["reload_error"], Value::Null);
    let refused = transcript(&up_refused(copy.path()));
    assert!(refused.contains("is a copy of") && refused.contains(&format!("process {pid} runs")), "{refused}");

    let original = up.stop();
    let restored = Up::start_in(copy);
    let said = restored.errors();
    assert!(said.contains("is not where garant ran on this log last") && said.contains("still there"), "{said}");
    let restored = Up::start_in(restored.stop());
    assert!(!restored.errors().contains("ran on this log last"), "once: {}", restored.errors());
    let folder = restored.stop();
    let moved = ["log", "show", "--kind", "engine.data_moved", "--data"];
    let shown = garant(&[moved.map(AsRef::as_ref).as_slice(), &[folder.path().join("data").as_os_str()]].concat());
    let shown = transcript(&shown);
    assert_eq!(shown.matches("engine.data_moved").count(), 1, "{shown}");

    let up = Up::start_in(original);
    assert!(!up.errors().contains("ran on this log last"), "where it always ran: {}", up.errors());
}

/// A first start that fails leaves no log behind, and a second one on a running garant says what is so.
#[test]
fn a_start_that_fails_leaves_no_log() {
    #[expect(clippy::disallowed_methods, reason = "a test takes a port")]
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let at = |listen: &str| QUIET.replace("127.0.0.1:0", listen);
    for (policy, why) in [
        (at(&format!("127.0.0.1:{port}")), "nothing can listen"),
        (at("127.0.0.1:0") + "public = \"192.0.2.1:80\"\nurl = \"http://192.0.2.1/\"\n", "nothing can listen"),
        (at("127.0.0.1:0") + "[network]\nauthorities = \"/nonexistent/none.pem\"\n", "certificates"),
    ] {
        let folder = folder_with(&policy);
        let said = transcript(&up_refused(folder.path()));
        assert!(said.contains(why), "{said}");
        let left: Vec<_> =
            std::fs::read_dir(folder.path()).expect("listed").map(|e| e.expect("an entry").file_name()).collect();
        assert_eq!(left, ["garant.toml"], "{said}");
    }
    let up = Up::start(&at("127.0.0.1:0"));
    let port = up.team.trim_end_matches('/').rsplit(':').next().expect("a port").to_owned();
    std::fs::write(up.path("garant.toml"), at(&format!("127.0.0.1:{port}"))).expect("written");
    let said = transcript(&up_refused(up.folder.path()));
    assert!(said.contains(&format!("already, as process {}", up.pid())), "{said}");
}

/// A reload that makes the pages public, or no longer so, says it; `--dry-run` does too.
#[test]
fn a_reload_that_publishes_says_so() {
    let private = format!("{QUIET}public = \"127.0.0.1:0\"\nurl = \"http://127.0.0.1/\"\n");
    let up = Up::start(&private);
    let data = up.path("data");
    let reload =
        |more: &[&str]| transcript(&garant(&[&["reload", "--data", data.to_str().expect("UTF-8")], more].concat()));
    std::fs::write(up.path("garant.toml"), format!("publish = true\n{private}")).expect("written");
    for more in [&["--dry-run"][..], &[]] {
        let said = reload(more);
        assert!(said.contains("is shown to everybody from now on"), "{more:?}: {said}");
    }
    std::fs::write(up.path("garant.toml"), &private).expect("written");
    assert!(reload(&[]).contains("nothing is shown to everybody any more"));
}

/// A reload applies the whole policy or nothing, and says which.
#[test]
fn reload_is_whole_or_nothing() {
    let up = Up::start(QUIET);
    let data = up.path("data");
    let reload = || garant(&["reload", "--data", data.to_str().expect("UTF-8")]);
    let before = up.status()["revision"].clone();

    std::fs::write(up.path("garant.toml"), format!("{QUIET}[[service]]\nnme = \"shop\"\n")).expect("written");
    let refused = reload();
    assert_eq!(refused.status.code(), Some(2), "{}", transcript(&refused));
    assert!(transcript(&refused).contains("nme"), "{}", transcript(&refused));
    assert_eq!(up.status()["revision"], before, "the policy in effect is the old one");
    assert!(up.status()["reload_error"].is_string(), "and whoever did not see the refusal is told: {}", up.status());

    let more = "[[service]]\nname = \"shop\"\ntitle.fr = \"La boutique\"\ntitle.en = \"The shop\"\n";
    std::fs::write(up.path("garant.toml"), format!("{QUIET}{more}")).expect("written");
    let applied = reload();
    assert!(applied.status.success(), "{}", transcript(&applied));
    assert_ne!(up.status()["revision"], before, "the new policy is in effect");
    assert!(up.status()["reload_error"].is_null(), "and the refusal is over: {}", up.status());
}

/// After a crash, another process may have the number of garant's: `reload` sends it no signal, which would kill it.
#[test]
fn another_process_of_that_number_is_left_alone() {
    let folder = Up::start(QUIET).crash();
    let data = folder.path().join("data");
    let mut other = command("sleep").arg("600").spawn().expect("sleep starts");
    let path = data.join("running.json");
    let mut running: Value = serde_json::from_slice(&std::fs::read(&path).expect("it crashed")).expect("JSON");
    running["pid"] = other.id().into();
    std::fs::write(&path, running.to_string()).expect("written");
    for word in ["reload", "status"] {
        let refused = garant(&[word, "--data", data.to_str().expect("UTF-8")]);
        assert_eq!(refused.status.code(), Some(1), "{word}: {}", transcript(&refused));
        assert!(transcript(&refused).contains("no garant runs"), "{word}: {}", transcript(&refused));
    }
    let ended = other.try_wait().expect("it can be waited for");
    other.kill().expect("it can be killed");
    other.wait().expect("it ends");
    assert_eq!(ended, None, "it lives");
}

/// The reference of the policy and the manual are generated from the code.
#[test]
fn documents_are_current() {
    let reference = garant(&["policy", "reference"]);
    let written = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/policy.md")).expect("docs/policy.md");
    assert!(
        reference.stdout == written,
        "docs/policy.md is not what the code says: write it again with `garant policy reference > docs/policy.md`"
    );
    let folder = tempfile::tempdir().expect("a folder");
    let man = garant(&["man".as_ref(), folder.path().as_os_str()]);
    assert!(man.status.success() && folder.path().join("garant-verify.1").exists(), "{}", transcript(&man));
    for shell in ["bash", "zsh", "fish"] {
        assert!(!garant(&["completions", shell]).stdout.is_empty(), "{shell}");
    }
}

/// JO-3: the team reads the journal with and without a running garant, and is told when nothing is what it asked for.
#[test]
fn the_journal_is_shown() {
    let up = Up::start(QUIET);
    let data = up.folder.path().join("data");
    let data = data.to_str().expect("UTF-8");
    let show = |arguments: &[&str]| garant(&[&["log", "show", "--data", data], arguments].concat());
    let opened = show(&["--kind", "journal.opened", "--json"]);
    let entry: Value = serde_json::from_slice(&opened.stdout).expect("one line of JSON");
    assert_eq!((&entry["sequence"], &entry["kind"]), (&0.into(), &"journal.opened".into()), "{}", transcript(&opened));
    let people = show(&["--kind", "journal", "--kind", "policy"]);
    assert!(transcript(&people).contains("policy.changed") && people.status.success(), "{}", transcript(&people));
    let none = show(&["--kind", "nope"]);
    assert!(none.stdout.is_empty() && transcript(&none).contains("none of the"), "{}", transcript(&none));
    for (arguments, told) in [
        (["--kind", "evidnce"], "this garant knows no kind of entry `evidnce`; did you mean `evidence`?"),
        (["--kind", "policy.changd"], "did you mean `policy.changed`?"),
        (["--probe", "nope"], "the policy that was journaled last has no probe `nope`"),
        (["--service", "nope"], "the policy that was journaled last has no service `nope`"),
    ] {
        let said = transcript(&show(&arguments));
        assert!(said.contains(told), "{arguments:?}: {said}");
    }
    assert!(!transcript(&people).contains("knows no kind"), "{}", transcript(&people));
    assert_eq!(show(&["--since", "yesterday"]).status.code(), Some(2), "a time that is none");
    let never = show(&["--since", "1 h", "--until", "2 h"]);
    assert!(never.status.code() == Some(2) && transcript(&never).contains("is the later"), "{}", transcript(&never));
    let empty = tempfile::tempdir().expect("a folder");
    for (name, words) in [("", "there is no log in"), ("nowhere", "there is no log in")] {
        let at = empty.path().join(name);
        let none = garant(&["log".as_ref(), "show".as_ref(), "--data".as_ref(), at.as_os_str()]);
        assert!(none.status.code() == Some(1) && transcript(&none).contains(words), "{}", transcript(&none));
    }
    std::fs::write(empty.path().join("garant.db"), "not a database, but longer than the head of one".repeat(9))
        .expect("written");
    let foreign = garant(&["log".as_ref(), "show".as_ref(), "--data".as_ref(), empty.path().as_os_str()]);
    let said = transcript(&foreign);
    assert!(foreign.status.code() == Some(1) && said.contains("is not a database of garant"), "{said}");
    let folder = up.stop();
    let stopped = show(&["--kind", "engine", "-n", "3"]);
    assert!(stopped.status.success() && !stopped.stdout.is_empty(), "{}", transcript(&stopped));
    drop(folder);
}
