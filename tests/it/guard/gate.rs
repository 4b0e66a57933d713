//! From the guard of a host to a gate: what is banned there is let in nowhere here.

use serde_json::Value;

use super::bench::{ATTACKER, Bench, OPERATOR};
use crate::harness::{eventually, folder_with, garant, transcript};

/// NH-1: a ban of the guard is in the desired state of the gate, until it is over; and after the server was away.
#[test]
fn a_ban_of_the_guard_reaches_the_gate() {
    let bench = Bench::new();
    let policy = format!(
        "[journal]\nname = \"shop.example\"\n[pages]\nlisten = \"127.0.0.1:0\"\n\
         [[service]]\nname = \"guard\"\ntitle.fr = \"La garde\"\ntitle.en = \"The guard\"\n\
         [guard]\nservice = \"guard\"\nscans = true\nallow = [\"{OPERATOR}\"]\n\
         [gate]\nhttp = [\"10.97.0.1:80\"]\n[[site]]\ndomain = \"t.example\"\nupstream = [{{ url = \"http://10.97.0.1:81\" }}]\n"
    );
    let up = bench.up(folder_with(&policy));
    let data = up.path("data");
    let data = data.to_str().expect("UTF-8").to_owned();
    let bans = || {
        let shown = garant(&["gate", "status", "--json", "--data", &data]);
        serde_json::from_slice::<Value>(&shown.stdout).ok()?["bans"].as_u64()
    };
    let guard = |arguments: &[&str]| {
        let done = garant(&[&["guard"], arguments, &["--data", &data]].concat());
        done.status.success().then_some(()).ok_or(transcript(&done))
    };
    eventually("the gate", || (bans() == Some(0)).then_some(()));
    eventually("the guard to ban", || guard(&["ban", ATTACKER]).ok());
    eventually("the ban at the gate", || (bans() == Some(1)).then_some(()));
    guard(&["ban", "2001:db8::/64"]).expect("banned");
    eventually("the second", || (bans() == Some(2)).then_some(()));
    guard(&["unban", ATTACKER]).expect("unbanned");
    eventually("its end at the gate", || (bans() == Some(1)).then_some(()));
    // A server that starts anew takes nothing back.
    let folder = up.crash();
    let _up = bench.up(folder);
    assert_eq!(bans(), Some(1));
    guard(&["unban", "2001:db8::/64"]).expect("unbanned");
    eventually("its end at the gate", || (bans() == Some(0)).then_some(()));
}
