//! What an attacker tries: another name for the team's listener, all its descriptors, its data directory. SECURITY.md says
//! which test shows what.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::harness::{Nginx, Up, command, eventually, folder_with, garant, get, http, transcript, up_refused};
use crate::shadow::policy;

/// Sends these bytes, and reads the status of the answer and the whole of it; 0 when it is closed without one.
fn exchange(url: &str, request: &str) -> (u16, String) {
    let address: SocketAddr = url.trim_start_matches("http://").trim_end_matches('/').parse().expect("an address");
    #[expect(clippy::disallowed_methods, reason = "a test asks over the network")]
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("answered");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    (answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0), answer)
}

/// A page of the internet whose name was made to resolve to this machine gets nothing of the team's, and the public listener
/// repeats no name that it is asked under.
#[test]
fn another_name_for_the_team_s_listener() {
    let nginx = Nginx::start();
    let text = policy(&nginx).replace("[pages]\n", "[pages]\nteam_hosts = \"garant.internal\"\n");
    let up = Up::start(&text);
    let public = up.ready["public"].as_str().expect("it has one").to_owned();
    let path = "/api/status.json";
    for (head, expected) in [
        (format!("GET {path} HTTP/1.1\r\nHost: localhost:9\r\n"), 200),
        (format!("GET {path} HTTP/1.1\r\nHost: LOCALHOST.\r\n"), 200),
        (format!("GET {path} HTTP/1.1\r\nHost: [::1]:8480\r\n"), 200),
        (format!("GET {path} HTTP/1.1\r\nHost: garant.internal\r\n"), 200),
        (format!("GET http://127.0.0.1{path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"), 200),
        (format!("GET {path} HTTP/1.1\r\nHost: attacker.example\r\nX-Forwarded-Host: localhost\r\n"), 421),
        (format!("GET {path} HTTP/1.1\r\nHost: localhost.attacker.example\r\nForwarded: host=localhost\r\n"), 421),
        (format!("GET http://attacker.example{path} HTTP/1.1\r\nHost: localhost\r\n"), 421),
        (format!("GET http://localhost{path} HTTP/1.1\r\nHost: attacker.example\r\n"), 421),
        (format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nHost: attacker.example\r\n"), 400),
        (format!("GET {path} HTTP/1.1\r\n"), 400),
        (format!("GET {path} HTTP/1.0\r\n"), 421),
        ("GET /metrics HTTP/1.1\r\nHost: attacker.example\r\n".to_owned(), 421),
    ] {
        let (status, answer) = exchange(&up.team, &format!("{head}Connection: close\r\n\r\n"));
        assert_eq!(status, expected, "{head}\n{answer}");
        assert!(status == 200 || !answer.contains("attacker"), "{answer}");
    }
    for path in ["/", "/fr", "/log/checkpoint", "/nothing"] {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: attacker.example\r\nX-Forwarded-Host: attacker.example\r\n");
        let (status, answer) = exchange(&public, &format!("{request}Connection: close\r\n\r\n"));
        assert!(status == 200 || status == 404 || status == 303 || status == 503, "{path}: {answer}");
        assert!(!answer.contains("attacker"), "{path}: {answer}");
    }
    up.stop();
}

/// Requests that mean one thing to a proxy and another to a server, another protocol on the same port, and names of files: none
/// gets more than a plain request does.
#[test]
fn requests_that_mean_two_things() {
    let nginx = Nginx::start();
    let up = Up::start(&policy(&nginx));
    let public = up.ready["public"].as_str().expect("it has one").to_owned();
    let hidden = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
    for request in [
        format!("POST /fr HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: {}\r\n\r\n{hidden}", hidden.len()),
        format!("POST /fr HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\nContent-Length: 0\r\n\r\n{hidden}"),
        format!("POST /fr HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\nConnection: close\r\n\r\n0\r\n\r\n{hidden}"),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close, Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
            .to_owned(),
    ] {
        let (status, answer) = exchange(&public, &request);
        assert!(matches!(status, 0 | 400 | 404 | 405 | 501 | 505), "{request}\n{answer}");
        assert!(!answer.contains("garant_") && !answer.contains(" 101 "), "{request}\n{answer}");
    }
    for path in [
        "/log/../data/log.key",
        "/log/%2e%2e/%2e%2e/data/log.key",
        "/log/..%2f..%2fdata%2flog.key",
        "/log/tile/../../log.key",
        "/log//etc/passwd",
        "//attacker.example/",
        "/fr/../metrics",
        "/fr%0d%0aX-Injected:%201",
    ] {
        let (status, answer) =
            exchange(&public, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
        assert!(matches!(status, 400 | 404), "{path}: {answer}");
        let head = answer.split("\r\n\r\n").next().unwrap_or_default().to_lowercase();
        assert!(!head.contains("location:") && !head.contains("x-injected"), "{path}: {answer}");
        assert!(!answer.contains("PRIVATE+KEY") && !answer.contains("garant_"), "{path}: {answer}");
    }
    up.stop();
}

/// One address that opens every connection it can to the public listener, and sends half a request on each, takes nothing
/// from the probes, the publisher and the team.
#[test]
fn a_holder_of_connections_blinds_nobody() {
    const DESCRIPTORS: u32 = 256;
    let nginx = Nginx::start();
    let up = Up::start_limited(folder_with(&policy(&nginx)), DESCRIPTORS);
    assert!(up.errors().contains("LimitNOFILE"), "a low limit is told: {}", up.errors());
    let public = up.ready["public"].as_str().expect("it has one").to_owned();
    let address: SocketAddr = public.trim_start_matches("http://").trim_end_matches('/').parse().expect("an address");
    eventually("a first verdict", || up.verdicts("AV-1").pop());
    let held: Vec<TcpStream> = (0..DESCRIPTORS * 2)
        .filter_map(|_| {
            #[expect(clippy::disallowed_methods, reason = "a test asks over the network")]
            let mut stream = TcpStream::connect(address).ok()?;
            stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nX-").ok()?;
            Some(stream)
        })
        .collect();
    assert!(held.len() > 200, "{} connections are held", held.len());
    let size = || {
        let note = String::from_utf8(get(&up.url("log/checkpoint"))?).ok()?;
        note.lines().nth(1)?.parse::<u64>().ok()
    };
    let before = eventually("a checkpoint, for the team", size);
    eventually("the publisher to go on", || (size()? > before).then_some(()));
    let status = up.status();
    let services = status["services"].as_array().expect("services").clone();
    assert!(services.iter().all(|service| service["state"] == "up"), "{services:?}");
    assert!(!up.errors().contains("Too many open files"), "{}", up.errors());
    drop(held);
    up.stop();
}

/// Where others can write, they could put anything in the place of any file; a link there is not followed.
#[test]
fn a_data_directory_of_everybody() {
    let folder = folder_with("[journal]\nname = \"shop.example\"\n[pages]\nlisten = \"127.0.0.1:0\"\n");
    let data = folder.path().join("data");
    std::fs::create_dir(&data).expect("made");
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o777)).expect("ours");
    let refused = transcript(&up_refused(folder.path()));
    assert!(refused.contains("others than its owner can write") && refused.contains("chmod 700"), "{refused}");
    assert_eq!(std::fs::read_dir(&data).expect("a folder").count(), 0, "nothing was written");

    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o700)).expect("ours");
    let victim = folder.path().join("victim");
    std::fs::write(&victim, "mine").expect("written");
    std::os::unix::fs::symlink(&victim, data.join("reserve")).expect("linked");
    let refused = transcript(&up_refused(folder.path()));
    assert!(refused.contains("is a link"), "{refused}");
    assert_eq!(std::fs::read(&victim).expect("there"), b"mine");

    std::fs::remove_file(data.join("reserve")).expect("removed");
    Up::start_in(folder).stop();
}

/// Started on a full disk, garant says so, is found by the other commands, and goes on when there is room.
#[test]
fn started_on_a_full_disk() {
    let folder = folder_with("[journal]\nname = \"shop.example\"\n[pages]\nlisten = \"127.0.0.1:0\"\n");
    let data = folder.path().join("data");
    std::fs::create_dir(&data).expect("made");
    let size = "size=24m,mode=700";
    let mounted = command("mount").args(["-t", "tmpfs", "-o", size, "tmpfs"]).arg(&data).status().expect("mount runs");
    assert!(mounted.success(), "tests run as root");
    let unmount = crate::faults::Unmount(data.clone());
    let folder = Up::start_in(folder).stop();
    assert!(data.join("reserve").exists(), "space is kept back");
    let ballast = data.join("ballast");
    let fill = || {
        let file = format!("of={}", ballast.display());
        drop(command("dd").args(["if=/dev/zero", "bs=4k", "oflag=append", "conv=notrunc", &file]).output());
    };
    fill();
    let up = Up::start_in(folder);
    let found = || {
        let asked = garant(&["status".as_ref(), "--data".as_ref(), data.as_os_str(), "--json".as_ref()]);
        serde_json::from_slice::<Value>(&asked.stdout).ok()
    };
    eventually("status to find it", found);
    // Killed while even the reserve is gone, as it is when the disk stays full.
    fill();
    let folder = up.crash();
    fill();
    let up = Up::start_in(folder);
    eventually("status to find it again", found);
    std::fs::remove_file(&ballast).expect("removed");
    eventually("entries to be taken", || {
        let ready = http("GET", &up.url("ready"), &[], b"")?;
        (ready.0 == 200).then_some(())
    });
    eventually("status to find it still", found);
    up.stop();
    drop(unmount);
}
