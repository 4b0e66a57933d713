//! What is said is what is so: simulation, and configurations that can't be read.

use std::path::Path;

use super::bench::{Bench, SSHD, append, ask, failures, folder, guard, ready, until_banned};
use super::durability::SmallDisk;
use crate::harness::{binary, command, eventually, transcript};

#[test]
fn a_reload_of_what_can_not_be_read_fails_and_detection_goes_on() {
    let bench = Bench::new();
    let folder = folder(SSHD, "", "");
    let at = folder.path().to_path_buf();
    append(&at.join("auth.log"), "");
    let up = bench.up(folder);
    ready(&at);
    let reload = || {
        let output = command(binary()).args(["reload", "--data"]).arg(at.join("data")).output().expect("it runs");
        (output.status.code(), transcript(&output))
    };
    let (code, said) = reload();
    assert_eq!(code, Some(0), "{said}");
    // A section that is there twice, as a line that was appended in a hurry makes it.
    append(&at.join("fail2ban/jail.local"), "[sshd]\nport = 2\n");
    let (code, said) = reload();
    assert!(code == Some(1) && said.contains("jail.local:7"), "{said}");
    let output = guard(&at, &["reload"]);
    let said = transcript(&output);
    assert!(output.status.code() == Some(1) && said.contains("jail.local:7") && said.contains("read last"), "{said}");
    eventually("a word on it", || {
        ask(&at, &["status"])?["impaired"].to_string().contains("jail.local:7").then_some(())
    });
    append(&at.join("auth.log"), failures("10.97.80.1", 3));
    until_banned(&at, "10.97.80.1", "sshd");
    drop(up.stop());
}

/// What fail2ban passes over with a line in its log would here switch detection off without a word: a file in another encoding, or
/// one that can't be read.
#[test]
fn a_file_that_is_passed_over_switches_nothing_off() {
    let bench = Bench::new();
    let folder = folder(SSHD, "", "");
    let at = folder.path().to_path_buf();
    append(&at.join("auth.log"), "");
    let up = bench.up(folder);
    ready(&at);
    let local = at.join("fail2ban/jail.local");
    let good = std::fs::read(&local).expect("jails");
    let latin = [&good[..], b"# caf\xe9\n"].concat();
    for (number, wrong) in [(1, Some(latin)), (2, None)] {
        std::fs::remove_file(&local).expect("removed");
        match wrong {
            Some(text) => std::fs::write(&local, text).expect("written"),
            None => std::os::unix::fs::symlink("/nonexistent", &local).expect("a link"),
        }
        for said in [
            guard(&at, &["reload"]),
            command(binary()).args(["reload", "--data"]).arg(at.join("data")).output().expect("it runs"),
        ] {
            let text = transcript(&said);
            assert!(said.status.code() == Some(1) && text.contains("jail.local"), "{text}");
        }
        assert!(ask(&at, &["status"]).expect("a status")["impaired"].to_string().contains("jail.local"));
        let address = format!("10.97.80.{number}");
        append(&at.join("auth.log"), failures(&address, 3));
        until_banned(&at, &address, "sshd");
    }
    std::fs::remove_file(&local).expect("removed");
    std::fs::write(&local, good).expect("written");
    assert!(guard(&at, &["reload"]).status.success());
    drop(up.stop());
}

/// A list that is not there is said by whatever reads the policy, and told as what it is: nobody is banned by it.
#[test]
fn a_list_that_is_not_there_fails_the_reload() {
    let bench = Bench::new();
    let folder = folder(SSHD, "", "");
    let at = folder.path().to_path_buf();
    append(&at.join("auth.log"), "");
    let up = bench.up(folder);
    ready(&at);
    let (policy, list) = (at.join("garant.toml"), at.join("drop.txt"));
    let lists = format!("[guard]\nlists = [\"{}\"]\n", list.display());
    let text = std::fs::read_to_string(&policy).expect("a policy");
    std::fs::write(&policy, text.replace("[guard]\n", &lists)).expect("written");
    let reload = || command(binary()).args(["reload", "--data"]).arg(at.join("data")).output().expect("it runs");
    let check = || command(binary()).args(["check", "--policy"]).arg(&policy).output().expect("it runs");
    let output = reload();
    let said = transcript(&output);
    assert!(output.status.code() == Some(1) && said.contains("drop.txt: it is not there"), "{said}");
    let said = transcript(&check());
    assert!(said.contains("drop.txt: it is not there"), "{said}");
    eventually("a word on it", || {
        ask(&at, &["status"])?["impaired"]
            .to_string()
            .contains("it was never read, and nobody is banned by it")
            .then_some(())
    });
    let finding = || {
        let found = super::bench::entries(&at, "evidence.found");
        found.iter().rfind(|found| found["finding"] == "bans-not-enforced").is_some_and(|found| found["open"] == true)
    };
    eventually("the finding", || finding().then_some(()));
    append(&list, "10.97.84.0/24\n");
    assert!(reload().status.success() && !transcript(&check()).contains("drop.txt"));
    let output = guard(&at, &["reload"]);
    assert!(output.status.success(), "{}", transcript(&output));
    eventually("the list", || (ask(&at, &["status"])?["listed_networks"] == 1).then_some(()));
    eventually("the end of the finding", || (!finding()).then_some(()));
    drop(up.stop());
}

/// On a full disk the agent follows the policy all the same: it may be what spares somebody.
#[test]
fn on_a_full_disk_the_policy_is_followed() {
    let bench = Bench::new();
    let folder = folder(SSHD, "", "");
    let at = folder.path().to_path_buf();
    append(&at.join("auth.log"), "");
    let disk = SmallDisk::new(&at.join("data.agent"));
    let up = bench.up(folder);
    ready(&at);
    disk.fill();
    let policy = std::fs::read_to_string(at.join("garant.toml")).expect("a policy");
    std::fs::write(at.join("garant.toml"), policy.replace("[guard]\n", "[guard]\nsimulate = true\n")).expect("written");
    let output = command(binary()).args(["reload", "--data"]).arg(at.join("data")).output().expect("it runs");
    assert!(output.status.success(), "{}", transcript(&output));
    eventually("the simulation", || (ask(&at, &["status"])?["simulated"] == true).then_some(()));
    disk.free();
    eventually("the policy on the disk", || {
        std::fs::read_to_string(at.join("data.agent/desired.json")).ok()?.contains("\"simulate\":true").then_some(())
    });
    drop(up.stop());
}

#[test]
fn simulation_drops_nobody_in_the_kernel() {
    let bench = Bench::new();
    let folder = folder(SSHD, "", "");
    let at = folder.path().to_path_buf();
    append(&at.join("auth.log"), "");
    let up = bench.up(folder);
    ready(&at);
    append(&at.join("auth.log"), failures("10.97.81.1", 3));
    until_banned(&at, "10.97.81.1", "sshd");
    assert_eq!(bench.held(), 1);
    let policy = std::fs::read_to_string(at.join("garant.toml")).expect("a policy");
    std::fs::write(at.join("garant.toml"), policy.replace("[guard]\n", "[guard]\nsimulate = true\n")).expect("written");
    let output = command(binary()).args(["reload", "--data"]).arg(at.join("data")).output().expect("it runs");
    assert!(output.status.success(), "{}", transcript(&output));
    eventually("the simulation", || (ask(&at, &["status"])?["simulated"] == true).then_some(()));
    let ordered = ask(&at, &["ban", "10.97.81.2"]).expect("an answer");
    assert_eq!(ordered["enforced"], false, "{ordered}");
    let listed = bench.host(&["nft", "list", "table", "inet", "garant"]).output().expect("it starts");
    assert!(!listed.status.success(), "{}", transcript(&listed));
    let bans = ask(&at, &["bans"]).expect("bans");
    assert!(
        bans.as_array().is_some_and(|bans| bans.len() == 2 && bans.iter().all(|ban| ban["in_force"] == false)),
        "{bans}"
    );
    append(&at.join("auth.log"), failures("10.97.81.3", 3));
    eventually("the simulated ban", || {
        let bans = ask(&at, &["bans"])?;
        bans.as_array()?.iter().any(|ban| ban["simulated"] == true && ban["address"] == "10.97.81.3").then_some(())
    });
    // A simulation pages nobody.
    let (garant, data) = (binary(), at.join("data"));
    let [garant, data] = [Path::new(garant), &data].map(|path| path.to_str().expect("UTF-8"));
    let alerts = eventually("the alert", || {
        let listed = bench.host(&[garant, "alerts", "--all", "--json", "--data", data]).output().expect("it starts");
        let alerts: serde_json::Value = serde_json::from_slice(&listed.stdout).ok()?;
        let is_said = alerts.as_array()?.iter().any(|alert| alert["key"] == "finding/bans-not-enforced/guard");
        is_said.then_some(alerts)
    });
    let severities = alerts.as_array().expect("alerts").iter().map(|alert| &alert["severity"]);
    assert!(severities.into_iter().all(|severity| severity == "warning"), "{alerts}");
    drop(up.stop());
}

#[test]
fn on_a_full_disk_bans_end_at_once_and_the_end_is_written_when_there_is_room() {
    let bench = Bench::new();
    let folder = folder(SSHD, "", "");
    let at = folder.path().to_path_buf();
    append(&at.join("auth.log"), "");
    let disk = SmallDisk::new(&at.join("data.agent"));
    let up = bench.up(folder);
    ready(&at);
    append(&at.join("auth.log"), failures("10.97.82.1", 3) + &failures("10.97.82.2", 3));
    until_banned(&at, "10.97.82.1", "sshd");
    until_banned(&at, "10.97.82.2", "sshd");
    disk.fill();
    // The last page of the file may have room for some lines still.
    let is_full = |number: &usize| {
        ask(&at, &["ban", &format!("10.97.83.{number}")]).expect("banned on a full disk too");
        ask(&at, &["status"]).expect("a status")["impaired"].to_string().contains("file of bans")
    };
    let more = (1..200).find(is_full).expect("a disk that is full");
    assert_eq!(bench.held(), more + 2);
    for (arguments, over, held) in
        [(["unban", "10.97.82.1"], "1 ban is over", more + 1), (["unban", "--all"], " bans are over", 0)]
    {
        let output = guard(&at, &arguments);
        let said = transcript(&output);
        assert!(output.status.success() && said.contains(over), "{said}");
        assert!(said.contains("not on the disk yet") && said.contains("bans.log"), "{said}");
        assert_eq!(bench.held(), held, "{said}");
    }
    let status = ask(&at, &["status"]).expect("a status");
    assert!(status["impaired"].to_string().contains("file of bans") && status["enforced"] == true, "{status}");
    disk.free();
    eventually("an end of what was wrong", || ask(&at, &["status"])?["impaired"].as_array()?.is_empty().then_some(()));
    assert_eq!((bench.held(), ask(&at, &["bans"])), (0, Some(serde_json::json!([]))));
    drop(up.stop());
}
