//! An independent program verifies the log, and every kind of tampering is found.
//! Promises BX-2, BX-4, JO-1, JO-2.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::OnceLock;

use crate::harness::{Nginx, Up, command, eventually, export, garant, get, pause, python, python_script, transcript};
use crate::shadow::policy;

/// The verifier on Go's `x/mod/sumdb`, built once.
pub(crate) fn go_verifier() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("verify-go");
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/verify-go");
        let built = command("go")
            .args(["build", "-o"])
            .arg(&target)
            .arg(".")
            .current_dir(folder)
            .env("GO111MODULE", "off")
            .env("GOPATH", "/usr/share/gocode")
            .env("GOFLAGS", "")
            .output()
            .expect("go starts; scripts/test installs it");
        assert!(built.status.success(), "{}", transcript(&built));
        target
    })
}

pub(crate) fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn verify(arguments: &[&str]) -> Output {
    let mut all = vec!["verify", "--json"];
    all.extend(arguments);
    garant(&all)
}

/// A log with some history, exported, and the site that it watched, whose certificate the policy names. The folder holds
/// `export/` and `data/`.
fn exported() -> (tempfile::TempDir, PathBuf, String, Nginx) {
    let mut nginx = Nginx::start();
    let up = Up::start(&policy(&nginx));
    eventually("a first verdict", || up.verdicts("AV-1").pop());
    nginx.kill();
    pause(3.0);
    nginx.run();
    pause(2.0);
    let folder = up.stop();
    let to = folder.path().join("export");
    let vkey = export(&folder.path().join("data"), &to);
    (folder, to, vkey, nginx)
}

#[test]
fn a_stranger_verifies_an_export() {
    let (_folder, export, vkey, _) = exported();
    let at = export.to_str().expect("UTF-8");

    let pinned = verify(&[at, "--vkey", &vkey]);
    assert_eq!(pinned.status.code(), Some(0), "authenticated: {}", transcript(&pinned));
    let alone = verify(&[at]);
    assert_eq!(alone.status.code(), Some(3), "self-consistent only: {}", transcript(&alone));
    let other = verify(&[at, "--vkey", "shop.example/1+00000000+AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"]);
    assert!(matches!(other.status.code(), Some(1 | 2)), "a wrong key: {}", transcript(&other));

    let go = command(go_verifier()).args([at, &vkey]).output().expect("the Go verifier starts");
    assert!(go.status.success(), "{}", transcript(&go));

    if let Some(python) = python() {
        let checked = python_script(&python, "verify.py", &[at, "--vkey", &vkey]);
        assert!(checked.status.success(), "{}", transcript(&checked));
    }

    // No file holds a payload of the team.
    for file in files(&export) {
        let bytes = std::fs::read(&file).expect("read");
        for secret in [&b"engine.started"[..], b"watch.detail", b"policy.changed"] {
            assert!(
                !bytes.windows(secret.len()).any(|w| w == secret),
                "{} in {}",
                String::from_utf8_lossy(secret),
                file.display()
            );
        }
    }
}

/// The golden log of release 0.1 verifies with its first key, verdicts included, here and with the program that was written
/// from the documents.
#[test]
fn the_golden_log_verifies() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../flow/journal/golden/0.1");
    let at = golden.to_str().expect("UTF-8");
    let first_key = "golden.example/1+61259390+ARl/ayPhbIUyxqvIOPrNXqeJvgx2spIDNAOb+os9No1h";
    let pinned = verify(&[at, "--vkey", first_key, "--max-age", "any"]);
    assert_eq!(pinned.status.code(), Some(0), "{}", transcript(&pinned));
    let said: serde_json::Value = serde_json::from_slice(&pinned.stdout).expect("JSON");
    assert_eq!(said["outcome"], "authenticated");
    assert_eq!((&said["verdicts_recomputed"], &said["verdicts_out_of_reach"]), (&33.into(), &6.into()));

    for key in [text(&golden.join("vkey")).trim(), first_key] {
        let go = command(go_verifier()).args([at, key]).output().expect("the Go verifier starts");
        let said = transcript(&go);
        assert!(
            go.status.success() && said.contains("33 computed again, every member of them; 6 out of reach"),
            "{said}"
        );
    }
}

/// The log of tomorrow: what a later release wrote is skipped and counted, and no verdict that was not computed again is
/// called confirmed; here and with the program that was written from the documents.
#[test]
fn the_log_of_tomorrow_is_neither_blamed_nor_confirmed() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../flow/journal/golden/tomorrow");
    let (at, key) = (golden.to_str().expect("UTF-8"), text(&golden.join("vkey")));
    let pinned = verify(&[at, "--vkey", key.trim(), "--max-age", "any"]);
    assert_eq!(pinned.status.code(), Some(4), "{}", transcript(&pinned));
    let said: serde_json::Value = serde_json::from_slice(&pinned.stdout).expect("JSON");
    assert_eq!((&said["verdicts_recomputed"], &said["verdicts_not_judged"]), (&2.into(), &5.into()));
    let reasons: Vec<&str> = said["promises"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|promise| promise["not_judged"].as_str())
        .collect();
    assert_eq!(reasons.len(), 4, "{said}");
    for reason in ["an entry of version 2", "computed by evaluator", "an objective that this release does not know"] {
        assert!(reasons.iter().any(|said| said.contains(reason)), "{reason}: {reasons:?}");
    }
    let shown = transcript(&garant(&["verify", at, "--vkey", key.trim(), "--max-age", "any"]));
    assert!(shown.contains("was not judged") && shown.contains("gate.counted (1)"), "{shown}");
    assert!(!shown.contains("everything holds"), "{shown}");

    let go = command(go_verifier()).args([at, key.trim()]).output().expect("the Go verifier starts");
    let said = transcript(&go);
    assert_eq!(go.status.code(), Some(4), "{said}");
    assert!(
        said.contains("verdicts: 2 computed again") && said.contains("5 not judged") && !said.contains("OK: every"),
        "{said}"
    );
}

pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// One bit flipped in any file of an export is found by verification alone.
#[test]
fn no_bit_can_be_flipped() {
    let (_folder, export, vkey, _) = exported();
    let at = export.to_str().expect("UTF-8");
    let mut tried = 0;
    // What a log proposes as trust policy is not signed, and counts for nothing.
    for file in files(&export).into_iter().filter(|file| !file.ends_with("tlog-policy")) {
        let genuine = std::fs::read(&file).expect("read");
        // The first, the last but one (the last is a newline in text files), and some between.
        for position in [0, genuine.len() / 3, genuine.len() / 2, genuine.len().saturating_sub(2)] {
            let mut altered = genuine.clone();
            let Some(byte) = altered.get_mut(position) else { continue };
            *byte ^= 0x01;
            std::fs::write(&file, &altered).expect("written");
            let found = verify(&[at, "--vkey", &vkey]);
            assert_ne!(
                found.status.code(),
                Some(0),
                "a bit of byte {position} of {} was flipped and nobody noticed: {}",
                file.display(),
                transcript(&found)
            );
            tried += 1;
        }
        std::fs::write(&file, &genuine).expect("written");
    }
    assert!(tried > 30, "only {tried} places were tried");
    assert_eq!(verify(&[at, "--vkey", &vkey]).status.code(), Some(0), "and put back, all is well");
}

/// The same log over HTTP, an older snapshot, and a fork by somebody who has the key.
#[test]
fn what_a_remembered_checkpoint_finds() {
    let nginx = Nginx::start();
    let up = Up::start(&policy(&nginx));
    let public = up.ready["public"].as_str().expect("a public URL").to_owned();
    let log = format!("{public}log/");
    eventually("a first verdict", || up.verdicts("AV-1").pop());
    let vkey = String::from_utf8(get(&format!("{log}vkey")).expect("vkey")).expect("UTF-8").trim().to_owned();

    let over_http = verify(&[&log, "--vkey", &vkey]);
    assert_eq!(over_http.status.code(), Some(0), "{}", transcript(&over_http));

    // The operator keeps a copy of an early state …
    let early = up.stop();
    let copy = early.path().join("early");
    copy_folder(&early.path().join("data"), &copy);
    let up = Up::start_in(early);
    pause(3.0);
    let remembered = up.path("remembered");
    let public = up.ready["public"].as_str().expect("a public URL").to_owned();
    let note = eventually("a later checkpoint", || get(&format!("{public}log/checkpoint")));
    std::fs::write(&remembered, note).expect("written");
    let folder = up.stop();

    // … and puts it back, head and all, then goes on from there with the same key: a fork.
    let data = folder.path().join("data");
    let refused_copy = folder.path().join("honest");
    std::fs::rename(&data, &refused_copy).expect("moved");
    copy_folder(&copy, &data);
    let refused = crate::harness::up_refused(folder.path());
    let said = transcript(&refused);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("log continue"), "the way out is named: {said}");

    // A dishonest operator removes the remembered head too.
    std::fs::remove_file(folder.path().join("data.head")).expect("the remembered head is beside the data");
    let forked = Up::start_in(folder);
    pause(6.0);
    let public = forked.ready["public"].as_str().expect("a public URL").to_owned();
    let log = format!("{public}log/");
    let blind = verify(&[&log, "--vkey", &vkey]);
    assert_eq!(blind.status.code(), Some(0), "alone, a fork can't be seen: {}", transcript(&blind));
    let seen = eventually("the fork to be found", || {
        let found = verify(&[&log, "--vkey", &vkey, "--since", forked.path("remembered").to_str().expect("UTF-8")]);
        (found.status.code() == Some(1)).then_some(found)
    });
    drop(seen);
}

pub(crate) fn copy_folder(from: &Path, to: &Path) {
    let copied = command("cp").args(["-a"]).arg(from).arg(to).status().expect("cp runs");
    assert!(copied.success());
}

/// A key is rotated inside the log: a verifier that pinned the old one follows.
#[test]
fn the_key_rotates_inside_the_log() {
    let (folder, _, old, _nginx) = exported();
    let data = folder.path().join("data");
    let rotate = |more: &[&str]| {
        let policy = folder.path().join("garant.toml");
        let mut arguments = vec!["log", "rotate", "--data", data.to_str().expect("UTF-8")];
        arguments.extend(["--policy", policy.to_str().expect("UTF-8")]);
        arguments.extend(more);
        let output = garant(&arguments);
        assert!(output.status.success(), "{}", transcript(&output));
    };
    let export_to = |name: &str| {
        let export = folder.path().join(name);
        let output =
            garant(&["log", "export", "--data", data.to_str().expect("UTF-8"), export.to_str().expect("UTF-8")]);
        assert!(output.status.success(), "{}", transcript(&output));
        export
    };
    rotate(&[]);
    let both = export_to("both");
    assert_eq!(
        verify(&[both.to_str().expect("UTF-8"), "--vkey", &old]).status.code(),
        Some(0),
        "the old key still signs"
    );
    rotate(&["--finish"]);
    let after = export_to("after");
    let new = text(&after.join("vkey")).trim().to_owned();
    assert_ne!(old, new);
    let by_old = verify(&[after.to_str().expect("UTF-8"), "--vkey", &old]);
    assert_eq!(
        by_old.status.code(),
        Some(0),
        "who pinned the old key follows the announcement: {}",
        transcript(&by_old)
    );
    let by_new = verify(&[after.to_str().expect("UTF-8"), "--vkey", &new]);
    assert_eq!(by_new.status.code(), Some(0), "{}", transcript(&by_new));
    for export in [&both, &after] {
        let go = command(go_verifier()).arg(export).arg(&old).output().expect("the Go verifier starts");
        assert!(go.status.success(), "so does a stranger: {}", transcript(&go));
    }
}

/// A log whose data is lost is continued in a new one, which cites what is known of the old.
#[test]
fn a_lost_log_is_continued() {
    let (folder, _, old, _nginx) = exported();
    let checkpoint = text(&folder.path().join("data.head"));
    std::fs::remove_dir_all(folder.path().join("data")).expect("the disk is lost");
    let refused = crate::harness::up_refused(folder.path());
    assert!(transcript(&refused).contains("log continue"), "{}", transcript(&refused));

    let data = folder.path().join("data");
    let data = data.to_str().expect("UTF-8");
    let policy_file = folder.path().join("garant.toml");
    let policy_file = policy_file.to_str().expect("UTF-8").to_owned();
    let go_on =
        |reason: &str| garant(&["log", "continue", "--data", data, "--policy", &policy_file, "--reason", reason]);
    let continued = go_on("the disk of 2026-11-23 is lost");
    assert!(continued.status.success(), "{}", transcript(&continued));
    // The server that was watched is gone, with the authority that the policy names.
    let policy = text(&folder.path().join("garant.toml"));
    let policy: String =
        policy.lines().filter(|line| !line.starts_with("authorities")).flat_map(|l| [l, "\n"]).collect();
    std::fs::write(folder.path().join("garant.toml"), policy).expect("written");
    let up = Up::start_in(folder);
    assert_eq!(up.ready["origin"], "shop.example/2");
    let again = go_on("no");
    assert_eq!(again.status.code(), Some(1), "not while it runs: {}", transcript(&again));
    let folder = up.stop();

    let second = folder.path().join("second");
    let second = second.to_str().expect("UTF-8");
    let exported = garant(&["log", "export", "--data", data, second]);
    assert!(exported.status.success(), "{}", transcript(&exported));
    let new = text(&Path::new(second).join("vkey"));
    assert_eq!(verify(&[second, "--vkey", new.trim()]).status.code(), Some(0));
    assert_eq!(verify(&[second, "--vkey", &old]).status.code(), Some(1), "the old key does not speak for the new log");
    // Who kept a checkpoint of the old log asks for what can't be shown, and nobody is accused of anything.
    let kept = folder.path().join("kept");
    std::fs::write(&kept, &checkpoint).expect("written");
    let kept = kept.to_str().expect("UTF-8");
    let since = verify(&[second, "--vkey", new.trim(), "--since", kept]);
    let said = transcript(&since);
    assert_eq!(since.status.code(), Some(1), "{said}");
    assert!(said.contains("`shop.example/2` continues") && said.contains("nothing here speaks against"), "{said}");
    let arguments = ["-since", kept, second, new.trim()];
    let go = command(go_verifier()).args(arguments).output().expect("the Go verifier starts");
    assert!(!go.status.success() && transcript(&go).contains("nothing is said against either"), "{}", transcript(&go));

    // The first entries of the new log say which log they continue, and why.
    let payloads = text(
        &Path::new(second)
            .join("payload/000.p")
            .read_dir()
            .expect("a folder")
            .next()
            .expect("a file")
            .expect("an entry")
            .path(),
    );
    let root = checkpoint.lines().nth(2).expect("a root");
    assert!(payloads.contains("the disk of 2026-11-23 is lost") && payloads.contains(root), "{payloads}");
}
