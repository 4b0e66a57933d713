use store::Reading;

use crate::source::Level;
use crate::source::testing::{Authority, NOW, ask, serve};

const TLS12: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS12];

/// Everything that is wrong with a certificate is told in one answer.
#[tokio::test]
async fn certificates_are_judged_whole() {
    let authority = Authority::new();
    let net = authority.net();
    let all = rustls::ALL_VERSIONS;
    let good = serve(Some(authority.server("127.0.0.1", (2027, 6, 1), all)), false, "").await;
    let soon = serve(Some(authority.server("127.0.0.1", (2026, 12, 1), all)), false, "").await;
    let late = serve(Some(authority.server("other.example", (2026, 11, 1), all)), false, "").await;
    let old = serve(Some(authority.server("127.0.0.1", (2027, 6, 1), TLS12)), false, "").await;
    let strange = serve(Some(Authority::new().server("127.0.0.1", (2027, 6, 1), all)), false, "").await;
    let plain = serve(None, false, "HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let cases = [
        (good, "", Reading::Up, Some(190), vec!["TLSv1.3"]),
        (good, "certificate_days = 365", Reading::Degraded, Some(190), vec!["expires in 190 days, less than 365"]),
        (good, "server_name = \"shop.example\"", Reading::Down, Some(190), vec!["not for `shop.example`"]),
        // Its customers still connect.
        (soon, "", Reading::Degraded, Some(8), vec!["expires in 8 days, less than 14"]),
        (
            soon,
            "server_name = \"shop.example\"",
            Reading::Down,
            Some(8),
            vec!["expires in 8 days, less than 14", "not for `shop.example`"],
        ),
        (soon, "certificate_days = 7", Reading::Up, Some(8), vec![]),
        (late, "", Reading::Down, Some(-22), vec!["it expired on 2026-11-01", "not for `127.0.0.1`"]),
        (old, "", Reading::Up, Some(190), vec!["TLSv1.2"]),
        (old, "at_least = \"1.3\"", Reading::Down, Some(190), vec!["TLSv1.2 was agreed upon, at least TLS 1.3"]),
        (strange, "", Reading::Down, Some(190), vec!["has not signed it"]),
        (plain, "", Reading::Down, None, vec!["handshake"]),
    ];
    for (address, keys, reading, days, texts) in cases {
        let answer = ask(&net, "tls", &format!("address = \"{address}\"\n{keys}")).await;
        assert_eq!((answer.reading, answer.value), (reading, days), "{keys}: {}", answer.text);
        let left = answer.certificate.map(|expiry| expiry.time().since(NOW).secs().div_euclid(86_400));
        assert_eq!(left, days, "{keys}");
        assert_eq!(answer.phases.tls > 0, days.is_some(), "{keys}: {:?}", answer.phases);
        assert_eq!((answer.phases.first_byte, answer.phases.body), (0, 0), "nothing was asked");
        for text in texts {
            assert!(answer.text.contains(text), "`{text}` in: {}", answer.text);
        }
    }
}

/// A certificate that is about to expire is a finding, until it is renewed; absence objectives may name it.
#[tokio::test]
async fn a_certificate_that_expires_soon_is_a_finding() {
    let authority = Authority::new();
    let net = authority.net();
    let all = rustls::ALL_VERSIONS;
    let soon = serve(Some(authority.server("127.0.0.1", (2026, 12, 1), all)), false, "").await;
    let late = serve(Some(authority.server("127.0.0.1", (2026, 11, 1), all)), false, "").await;
    for (address, keys, expect) in [
        (soon, "", Some(Level::High)),
        (soon, "certificate_days = 8", Some(Level::Low)),
        (soon, "certificate_days = 0", None),
        (late, "", Some(Level::High)),
    ] {
        let answer = ask(&net, "tls", &format!("address = \"{address}\"\n{keys}")).await;
        let found = answer.symptoms.iter().find(|symptom| symptom.finding.as_str() == "certificate-expiring");
        assert_eq!(found.map(|symptom| symptom.level), expect, "{keys}: {}", answer.text);
    }
}
