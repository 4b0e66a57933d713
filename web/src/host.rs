//! The hosts that the team's listener answers to.
//!
//! **Problem.** The team's listener asks for no password: it is safe because only this machine reaches it. A page on the
//! internet has its reader's browser reach it all the same, when the name of that page is made to resolve to 127.0.0.1 (DNS
//! rebinding). The browser then sends the name of that page as the host. **Principle.** A request is answered when every host
//! that it names is a loopback name or address, or one that the policy lists (`team_hosts` in `[pages]`), whatever its port;
//! 421 otherwise. `X-Forwarded-Host` and its like are not looked at: whoever sends a request writes them.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State as FromState};
use axum::http::{StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::Response;

use crate::answer;
use crate::state::State;

/// Refuses requests that name a host other than those of the team.
pub(crate) async fn of_the_team(FromState(state): FromState<Arc<State>>, request: Request, next: Next) -> Response {
    let refused = refuse(&request, &state.policy.borrow().team_hosts);
    match refused {
        None => next.run(request).await,
        Some(status) => answer::refusal(status),
    }
}

/// The status with which the request is refused; `None` when it is to be answered.
fn refuse(request: &Request, listed: &[String]) -> Option<StatusCode> {
    let mut fields = request.headers().get_all(header::HOST).iter();
    let field = match (fields.next(), fields.next()) {
        (Some(field), None) => match field.to_str() {
            Ok(field) => Some(field),
            Err(_) => return Some(StatusCode::BAD_REQUEST),
        },
        // RFC 9112, section 3.2: none or several are a bad request in HTTP/1.1.
        (None, _) if request.version() == Version::HTTP_11 => return Some(StatusCode::BAD_REQUEST),
        (None, _) => None,
        (Some(_), Some(_)) => return Some(StatusCode::BAD_REQUEST),
    };
    let target = request.uri().authority().map(axum::http::uri::Authority::as_str);
    let mut named = [field, target].into_iter().flatten().peekable();
    let all_ours = named.peek().is_some() && named.all(|host| is_ours(host, listed));
    (!all_ours).then_some(StatusCode::MISDIRECTED_REQUEST)
}

/// Whether `authority`, a host with or without a port, names this machine or a listed host.
fn is_ours(authority: &str, listed: &[String]) -> bool {
    let Some(host) = without_port(authority) else { return false };
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner.parse().is_ok_and(|address: IpAddr| address.is_ipv6() && is_ours_at(address, listed));
    }
    if let Ok(address) = host.parse::<IpAddr>() {
        return address.is_ipv4() && is_ours_at(address, listed);
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    name.eq_ignore_ascii_case("localhost") || listed.iter().any(|listed| name.eq_ignore_ascii_case(listed))
}

fn is_ours_at(address: IpAddr, listed: &[String]) -> bool {
    address.to_canonical().is_loopback()
        || listed.iter().any(|listed| listed.trim_matches(['[', ']']).parse() == Ok(address))
}

/// The host of `host` or `host:port`; the colons inside brackets are the host's. `None` when what follows is no port.
fn without_port(authority: &str) -> Option<&str> {
    let host_end = authority.rfind(']').map_or(0, |bracket| bracket + 1);
    let Some(colon) = authority.get(host_end..)?.find(':') else { return Some(authority) };
    let (host, port) = (authority.get(..host_end + colon)?, authority.get(host_end + colon + 1..)?);
    port.bytes().all(|byte| byte.is_ascii_digit()).then_some(host)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;
    use crate::fake::{Fixture, get};

    /// A name that a page of the internet has resolve to this machine is refused, however it is spelt or sent.
    #[test]
    fn hosts_of_the_team() {
        let listed = ["garant.internal".to_owned(), "[2001:db8::1]".to_owned(), "192.0.2.7".to_owned()];
        for host in [
            "localhost",
            "LOCALHOST:8480",
            "localhost.",
            "localhost.:8480",
            "localhost:",
            "127.0.0.1:8480",
            "127.9.9.9",
            "[::1]:8480",
            "[0:0:0:0:0:0:0:1]",
            "[::ffff:127.0.0.1]",
            "garant.internal",
            "Garant.Internal.:80",
            "[2001:db8:0::1]:1",
            "192.0.2.7",
        ] {
            assert!(is_ours(host, &listed), "{host}");
        }
        for host in [
            "",
            ":8480",
            "attacker.example",
            "attacker.example:8480",
            "localhost.attacker.example",
            "127.0.0.1.attacker.example",
            "attacker.example#localhost",
            "localhost@attacker.example",
            "attacker.example@localhost",
            "user:1@localhost",
            "localhost:8480:1",
            "localhost:x",
            "localhost..",
            "0.0.0.0",
            "[::]",
            "::1",
            "127.1",
            "0x7f.0.0.1",
            "2130706433",
            "192.0.2.8",
            "[2001:db8::2]",
            "[127.0.0.1]",
            "[::1]x",
            "[::1",
            "sub.garant.internal",
            "localhost, attacker.example",
            " localhost",
        ] {
            assert!(!is_ours(host, &listed), "{host}");
        }
    }

    #[test]
    fn every_host_of_a_request_counts() {
        let status = |version: Version, target: &str, hosts: &[&str]| {
            let mut request = Request::builder().version(version).uri(target).header("X-Forwarded-Host", "localhost");
            for host in hosts {
                request = request.header(header::HOST, *host);
            }
            refuse(&request.body(Body::empty()).expect("a request"), &[])
        };
        let (misdirected, bad) = (Some(StatusCode::MISDIRECTED_REQUEST), Some(StatusCode::BAD_REQUEST));
        for (version, target, hosts, expected) in [
            (Version::HTTP_11, "/", &["localhost"][..], None),
            (Version::HTTP_11, "/", &["attacker.example"], misdirected),
            (Version::HTTP_11, "/", &[], bad),
            (Version::HTTP_11, "http://localhost/", &[], bad),
            (Version::HTTP_11, "/", &["localhost", "attacker.example"], bad),
            (Version::HTTP_11, "/", &["localhost", "localhost"], bad),
            (Version::HTTP_11, "http://localhost:1/", &["localhost"], None),
            (Version::HTTP_11, "http://attacker.example/", &["localhost"], misdirected),
            (Version::HTTP_11, "http://localhost/", &["attacker.example"], misdirected),
            (Version::HTTP_10, "/", &["127.0.0.1"], None),
            (Version::HTTP_10, "/", &[], misdirected),
            (Version::HTTP_2, "http://localhost/", &[], None),
            (Version::HTTP_2, "http://attacker.example/", &[], misdirected),
            (Version::HTTP_2, "http://attacker.example/", &["localhost"], misdirected),
        ] {
            assert_eq!(status(version, target, hosts), expected, "{version:?} {target} {hosts:?}");
        }
    }

    /// The public listener answers under any name, for it knows not which a proxy uses, and repeats none of them.
    #[tokio::test]
    async fn who_asks_under_a_strange_name() {
        let fixture = Fixture::new();
        let strange = [("host", "attacker.example"), ("x-forwarded-host", "attacker.example")];
        for path in ["/", "/fr", "/metrics", "/ready", "/api/status.json", "/log/checkpoint", "/nothing"] {
            let ask = |router| crate::fake::ask(router, axum::http::Method::GET, path, &strange, Body::empty());
            let team = ask(fixture.team()).await;
            assert_eq!(team.status, StatusCode::MISDIRECTED_REQUEST, "{path}");
            let public = ask(fixture.public()).await;
            let usual = get(fixture.public(), path).await;
            assert_eq!(
                (public.status, &public.headers, &public.body),
                (usual.status, &usual.headers, &usual.body),
                "{path}"
            );
            for answer in [team, public] {
                let said = String::from_utf8_lossy(&answer.body).into_owned() + &format!("{:?}", answer.headers);
                assert!(!said.contains("attacker"), "{path}: {said}");
            }
        }
    }

    #[tokio::test]
    async fn a_listed_host_is_answered_from_the_reload_on() {
        let fixture = Fixture::new();
        let headers = [("host", "garant.internal")];
        let ask = || crate::fake::ask(fixture.team(), axum::http::Method::GET, "/ready", &headers, Body::empty());
        assert_eq!(ask().await.status, StatusCode::MISDIRECTED_REQUEST);
        fixture.policy.send_modify(|policy| Arc::make_mut(policy).team_hosts = vec!["garant.internal".to_owned()]);
        assert_eq!(ask().await.status, StatusCode::OK);
    }
}
