//! Witnesses: what one has cosigned can be required, and what one remembers can't be taken back. Ours cosigns for others and
//! others cosign for us: the counterpart, aics-witness, shares no code with garant. Promises BX-2, BX-4.

use std::path::{Path, PathBuf};

use crate::faults::all_envelopes;
use crate::harness::{
    Nginx, Service, Up, binary, command, eventually, export, free_port, garant, get, python, python_script, transcript,
};
use crate::proof::{copy_folder, text, verify};
use crate::shadow::policy;

/// A `garant witness` that was initialised and does not serve yet.
struct Witness {
    folder: tempfile::TempDir,
    port: u16,
    vkey: String,
}

impl Witness {
    fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path().join("state");
        let initialised = garant(&[
            "witness".as_ref(),
            "init".as_ref(),
            "--state".as_ref(),
            state.as_os_str(),
            "--name".as_ref(),
            name.as_ref(),
        ]);
        assert!(initialised.status.success(), "{}", transcript(&initialised));
        let vkey = String::from_utf8(initialised.stdout).expect("UTF-8").trim().to_owned();
        Self { folder, port: free_port(), vkey }
    }

    fn serve(&self, log: &str) -> Service {
        let mut serve = command(binary());
        serve.args(["witness", "serve", "--state"]).arg(self.folder.path().join("state"));
        serve.args(["--listen", &format!("127.0.0.1:{}", self.port), "--log", log]);
        Service::start(&mut serve, self.port)
    }
}

/// A policy that names these witnesses: port and key.
fn witnessed_by(nginx: &Nginx, witnesses: &[(u16, &str)]) -> String {
    let list: Vec<String> = witnesses
        .iter()
        .map(|(port, vkey)| format!("{{ url = \"http://127.0.0.1:{port}/\", vkey = \"{vkey}\" }}"))
        .collect();
    policy(nginx).replace("[journal]\n", &format!("[journal]\nwitness = [{}]\n", list.join(", ")))
}

/// A log that was started once, so that it has a key, and whose policy names these witnesses from now on.
fn log_with_key(nginx: &Nginx, witnesses: &[(u16, &str)]) -> (tempfile::TempDir, String) {
    let up = Up::start(&policy(nginx));
    let vkey = up.ready["vkey"].as_str().expect("the vkey is in the ready line").to_owned();
    let folder = up.stop();
    std::fs::write(folder.path().join("garant.toml"), witnessed_by(nginx, witnesses)).expect("written");
    (folder, vkey)
}

/// Waits for the published checkpoint to have the cosignature of that witness.
fn cosigned(up: &Up, witness: &str) -> String {
    let public = up.ready["public"].as_str().expect("a public URL").to_owned();
    let line = format!("— {witness} ");
    eventually("a cosignature", || {
        let note = String::from_utf8(get(&format!("{public}log/checkpoint"))?).ok()?;
        note.contains(&line).then_some(note)
    })
}

/// Exports the log at a checkpoint that the witness has cosigned. The witness gets the newest checkpoint within a second or
/// two, so this waits for a moment without a new entry.
fn cosigned_export(up: &Up, witness: &str) -> PathBuf {
    let to = up.path("export");
    let line = format!("— {witness} ");
    eventually("an export of a checkpoint that is cosigned", || {
        export(&up.path("data"), &to);
        text(&to.join("checkpoint")).contains(&line).then_some(())
    });
    to
}

/// Exit code of `garant verify` on an export when that quorum is required.
fn verified_with(export: &Path, vkey: &str, witnesses: &[(&str, &str)], quorum: &str) -> Option<i32> {
    let witnesses: String = witnesses.iter().flat_map(|(name, key)| ["witness ", name, " ", key, "\n"]).collect();
    let file = export.with_extension("tlog-policy");
    std::fs::write(&file, format!("log {vkey}\n{witnesses}{quorum}\n")).expect("written");
    let (export, file) = (export.to_str().expect("UTF-8"), file.to_str().expect("UTF-8"));
    verify(&[export, "--vkey", vkey, "--tlog-policy", file]).status.code()
}

/// The cosignature of a witness is collected, published and exported. A verifier that requires it accepts the export; one
/// that requires another witness rejects it.
#[test]
fn a_witness_is_required_by_who_asks_for_it() {
    let nginx = Nginx::start();
    let (witness, other) = (Witness::new("witness.example"), Witness::new("other.example"));
    let (folder, vkey) = log_with_key(&nginx, &[(witness.port, &witness.vkey)]);
    let served = witness.serve(&vkey);
    let up = Up::start_in(folder);
    let note = cosigned(&up, "witness.example");
    assert!(note.contains("— shop.example/1 "), "{note}");
    let to = cosigned_export(&up, "witness.example");
    drop(served);

    let (ours, theirs) = (("ours", witness.vkey.as_str()), ("theirs", other.vkey.as_str()));
    for (witnesses, quorum, code) in [
        (vec![ours], "quorum ours", 0),
        (vec![theirs], "quorum theirs", 1),
        (vec![ours, theirs], "group one any ours theirs\nquorum one", 0),
        (vec![ours, theirs], "group both all ours theirs\nquorum both", 1),
        (vec![theirs], "quorum none", 0),
        // A key of another witness under the name that cosigned.
        (vec![("ours", theirs.1)], "quorum ours", 1),
    ] {
        assert_eq!(verified_with(&to, &vkey, &witnesses, quorum), Some(code), "{quorum} of {witnesses:?}");
    }
    let Some(python) = python() else { return };
    let at = to.to_str().expect("UTF-8");
    for (key, success) in [(&witness.vkey, true), (&other.vkey, false)] {
        let checked = python_script(&python, "verify.py", &[at, "--vkey", &vkey, "--witness", key]);
        assert_eq!(checked.status.success(), success, "{}", transcript(&checked));
    }
}

/// A witness that starts later than the log delays nothing, and is asked again.
#[test]
fn a_witness_may_come_late() {
    let nginx = Nginx::start();
    let witness = Witness::new("witness.example");
    let up = Up::start(&witnessed_by(&nginx, &[(witness.port, &witness.vkey)]));
    let vkey = up.ready["vkey"].as_str().expect("the vkey is in the ready line").to_owned();
    let alone = eventually("a checkpoint without it", || get(&up.url("log/checkpoint")));
    assert!(!String::from_utf8_lossy(&alone).contains("— witness.example "));
    let _served = witness.serve(&vkey);
    cosigned(&up, "witness.example");
}

/// The operator puts an old copy back and removes the remembered head. The witness remembers the newer one: nothing is
/// signed, and the message says how to go on.
#[test]
fn a_witness_remembers_what_the_operator_forgets() {
    let nginx = Nginx::start();
    let witness = Witness::new("witness.example");
    let (folder, vkey) = log_with_key(&nginx, &[(witness.port, &witness.vkey)]);
    let served = witness.serve(&vkey);
    let up = Up::start_in(folder);
    cosigned(&up, "witness.example");
    let folder = up.stop();
    let (data, early) = (folder.path().join("data"), folder.path().join("early"));
    copy_folder(&data, &early);
    // The size in the store, published or not.
    let size = |data: &Path| all_envelopes(data).len() as u64;

    // The log grows, and the witness cosigns it: the entries of each start are enough.
    let up = Up::start_in(folder);
    let later = eventually("a later cosignature", || {
        let note = cosigned(&up, "witness.example");
        note.lines().nth(1)?.parse::<u64>().ok().filter(|later| *later > size(&early))
    });
    let folder = up.stop();
    let newest = size(&data);
    let remembered = std::fs::read_to_string(witness.folder.path().join("state")).expect("the witness has a state");

    // The early copy is put back, without the remembered head: only the witness knows of more.
    std::fs::remove_dir_all(&data).expect("removed");
    copy_folder(&early, &data);
    std::fs::remove_file(folder.path().join("data.head")).expect("the remembered head is beside the data");
    let refused = crate::harness::up_refused(folder.path());
    let said = transcript(&refused);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    // The witness may not have seen the last entries, journaled while garant stopped.
    let seen = said.split_once("it has seen ").and_then(|(_, rest)| rest.split(' ').next()?.parse::<u64>().ok());
    assert!(said.contains("witness.example"), "who knows better: {said}");
    assert!(seen.is_some_and(|seen| (later..=newest).contains(&seen)), "and what: {later}, {newest}: {said}");
    assert!(said.contains("log continue"), "the way out is named: {said}");
    assert_eq!(size(&data), size(&early), "nothing was signed, not even for a moment");
    let after = std::fs::read_to_string(witness.folder.path().join("state")).expect("the witness has a state");
    assert_eq!(after, remembered, "the witness has cosigned nothing more");
    // The head that the witness named is remembered again: from now on the log is refused without the witness too.
    drop(served);
    let refused = crate::harness::up_refused(folder.path());
    assert_eq!(refused.status.code(), Some(1), "{}", transcript(&refused));
}

/// A witness that shares no code with ours: aics-witness.
struct Stranger {
    python: PathBuf,
    folder: tempfile::TempDir,
    port: u16,
    vkey: String,
}

impl Stranger {
    fn new(python: PathBuf) -> Self {
        let mut stranger =
            Self { python, folder: tempfile::tempdir().expect("a folder"), port: free_port(), vkey: String::new() };
        let output = stranger.command("init").args(["--name", "stranger.example/w1"]).output().expect("it starts");
        assert!(output.status.success(), "{}", transcript(&output));
        let said = String::from_utf8(output.stdout).expect("UTF-8");
        let key = said.split_whitespace().find(|word| word.starts_with("stranger.example/w1+"));
        key.unwrap_or_else(|| panic!("no key in {said}")).clone_into(&mut stranger.vkey);
        stranger
    }

    fn command(&self, command: &str) -> std::process::Command {
        let mut run = crate::harness::command(&self.python);
        run.args(["-m", "aics_witness", command, "--config"]).arg(self.folder.path().join("witness.json"));
        run
    }

    fn serve(&self, origin: &str, log: &str) -> Service {
        let added = self.command("add-log").args(["--origin", origin, "--vkey", log]).output().expect("it starts");
        assert!(added.status.success(), "{}", transcript(&added));
        let mut serve = self.command("serve");
        serve.args(["--listen", &format!("127.0.0.1:{}", self.port), "--log-level", "ERROR"]);
        Service::start(&mut serve, self.port)
    }
}

/// The foreign witness cosigns our log, and a verifier may require it.
#[test]
fn a_strangers_witness_cosigns_our_log() {
    let Some(python) = python() else { return };
    let nginx = Nginx::start();
    let (stranger, other) = (Stranger::new(python.clone()), Witness::new("other.example"));
    let (folder, vkey) = log_with_key(&nginx, &[(stranger.port, &stranger.vkey)]);
    let _served = stranger.serve("shop.example/1", &vkey);
    let up = Up::start_in(folder);
    cosigned(&up, "stranger.example/w1");
    // More than one checkpoint, so that a proof of consistency of ours was accepted.
    let size_of = |note: &str| note.lines().nth(1).and_then(|size| size.parse::<u64>().ok()).expect("a size");
    let first = size_of(&cosigned(&up, "stranger.example/w1"));
    eventually("a second cosignature", || (size_of(&cosigned(&up, "stranger.example/w1")) > first).then_some(()));
    let to = cosigned_export(&up, "stranger.example/w1");
    assert_eq!(verified_with(&to, &vkey, &[("w", &stranger.vkey)], "quorum w"), Some(0));
    assert_eq!(verified_with(&to, &vkey, &[("w", &other.vkey)], "quorum w"), Some(1));
    let at = to.to_str().expect("UTF-8");
    let checked = python_script(&python, "verify.py", &[at, "--vkey", &vkey, "--witness", &stranger.vkey]);
    assert!(checked.status.success(), "{}", transcript(&checked));
}

/// Our witness cosigns a log that foreign code makes, signs and submits, and refuses its forks.
#[test]
fn our_witness_cosigns_a_strangers_log() {
    let Some(python) = python() else { return };
    let witness = Witness::new("witness.example");
    let key = python_script(&python, "feed.py", &["vkey"]);
    assert!(key.status.success(), "{}", transcript(&key));
    let log = String::from_utf8(key.stdout).expect("UTF-8").trim().to_owned();
    let _served = witness.serve(&log);
    let fed =
        python_script(&python, "feed.py", &["feed", &format!("http://127.0.0.1:{}", witness.port), &witness.vkey]);
    assert!(fed.status.success(), "{}", transcript(&fed));
}
