//! What one client, one loop and one line may not do, and what everybody is told.

use std::net::Ipv4Addr;

use super::client::{Client, exchange, reply};
use super::upstream::{Recorder, Upstream};
use super::{Gate, policy};
use crate::harness::{Up, eventually, folder_with, free_port, get};

const HELLO: &str = "GET /echo HTTP/1.1\r\nHost: t.example\r\n\r\n";

/// A connection whose head of the PROXY protocol names this client.
fn connect_as(port: u16, address: [u8; 4]) -> Client {
    let mut client = Client::connect(port).expect("it listens");
    let head =
        [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..], &address, &Ipv4Addr::LOCALHOST.octets(), &[0x1f, 0x90, 0, 0x50]];
    assert!(client.send_bytes(&head.concat()));
    client
}

/// NH-11: one address has a bounded part of the requests that a site takes, and leaves the rest to others.
#[test]
fn one_address_can_not_take_all_of_a_site() {
    let (near, patient) = (Upstream::start(1), Recorder::start(""));
    let site = format!(
        "upstream = [{{ url = \"http://{}\" }}]\nroute = [{{ path = \"/wait\", upstream = [{{ url = \"http://{}\" }}] }}]",
        near.address(),
        patient.address()
    );
    let gate = Gate::start_with("requests_per_address_max = 2\nproxy_from = [\"127.0.0.1\"]", &site);
    let waiting = || {
        let mut client = connect_as(gate.http, [192, 0, 2, 7]);
        client.send("GET /wait HTTP/1.1\r\nHost: t.example\r\n\r\n");
        client
    };
    let first = waiting();
    let _second = waiting();
    eventually("both to be under way", || (patient.heard().matches("GET /wait").count() == 2).then_some(()));
    let refused = connect_as(gate.http, [192, 0, 2, 7]).ask(HELLO);
    assert_eq!((refused.status, refused.field("retry-after")), (429, Some("5")));
    assert_eq!(connect_as(gate.http, [192, 0, 2, 8]).ask(HELLO).status, 200, "others are served");
    let figures = String::from_utf8(get(&gate.up.url("metrics")).expect("figures")).expect("UTF-8");
    assert!(figures.contains("garant_gate_requests_turned_away"), "{figures}");
    drop(first);
    eventually("the place to be free", || {
        (connect_as(gate.http, [192, 0, 2, 7]).ask(HELLO).status == 200).then_some(())
    });
}

/// Two gates that name each other: a request goes round once.
#[test]
fn a_request_that_comes_back_goes_no_further() {
    let (one, other) = (free_port(), free_port());
    let site = |port: u16| format!("upstream = [{{ url = \"http://127.0.0.1:{port}\" }}]\ncheck_every = \"1 h\"");
    let _far = Up::start_in(folder_with(&policy(free_port(), other, "", &site(one))));
    let gate = Gate::start_at(one, "", &site(other));
    eventually("the other gate", || Client::connect(other));
    assert_eq!(exchange(gate.http, HELLO), 508);
    assert_eq!(gate.status()["sites"][0]["requests"], 1, "it was not taken for one of the site again");
}

/// A request that has passed others goes on, and says so; a reply without a date gets one; failures of the only upstream are failures of
/// the site.
#[test]
fn upstreams_hear_where_a_request_was_and_clients_when() {
    let bare = Recorder::start("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
    let gate = Gate::start(&format!("upstream = [{{ url = \"http://{}\" }}]", bare.address()));
    for _ in 0..3 {
        let mut client = Client::connect(gate.http).expect("it listens");
        let busy = client.ask("GET / HTTP/1.1\r\nHost: t.example\r\nCDN-Loop: other; a=b\r\nVia: 1.1 x\r\n\r\n");
        assert_eq!(busy.status, 503);
        assert!(busy.field("date").is_some_and(|date| date.ends_with(" GMT")), "{}", busy.head);
    }
    let heard = bare.heard();
    assert!(heard.contains("CDN-Loop: other; a=b\r\n") && heard.contains("CDN-Loop: garant-gate-"), "{heard}");
    let site = gate.status()["sites"][0].clone();
    assert_eq!((site["requests"].as_u64(), site["failed"].as_u64()), (Some(3), Some(3)));
}

/// A request that was refused is logged as it came, as far as it came, and without a raw byte.
#[test]
fn what_is_refused_is_logged() {
    let near = Upstream::start(1);
    let log = tempfile::NamedTempFile::new().expect("a file");
    let gate = Gate::start_with(
        &format!("access_log = \"{}\"\nhead_within = \"1 s\"", log.path().display()),
        &format!("upstream = [{{ url = \"http://{}\" }}]", near.address()),
    );
    for (bytes, status) in [
        (&b"\x16\x03\x01\x02\0\n"[..], 400),
        (b"GET /x\x1b[31m HTTP/1.1\r\nHost: t.example\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nHost: t.example\r\nHost: b\r\n\r\n", 400),
        (b"GET /slow HTTP/1.1\r\nHo", 408),
    ] {
        let mut client = Client::connect(gate.http).expect("it listens");
        assert!(client.send_bytes(bytes));
        assert_eq!(reply(&mut client).status, status);
    }
    let lines =
        eventually("the log", || std::fs::read_to_string(log.path()).ok().filter(|lines| lines.lines().count() == 4));
    for line in [
        r#""\x16\x03\x01\x02\x00" 400 "#,
        r#""GET /x\x1B[31m HTTP/1.1" 400 "#,
        r#""GET /a HTTP/1.1" 400 "#,
        r#""GET /slow HTTP/1.1" 408 "#,
    ] {
        assert!(lines.contains(line), "{line}: {lines}");
    }
}
