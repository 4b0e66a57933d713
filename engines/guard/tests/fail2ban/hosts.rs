//! Texts as addresses, beside `IPAddr` of fail2ban.

use std::collections::BTreeMap;

use drawn::Draws;
use event::{Time, Zone};
use garant_guard::fail2ban::FilterDefinition;
use garant_guard::fail2ban::filter::{Filter, FilterSettings, Host};
use serde_json::{Value, json};

use crate::beside::Known;
use crate::oracle::Oracle;

const EDGES: &[&str] = &[
    "1.2.3.4",
    "01.2.3.4",
    "1.2.3",
    "256.1.1.1",
    "1.2.3.4/24",
    "1.2.3.4/255.255.0.0",
    "1.2.3.4/255.0.255.0",
    "1.2.3.4/0",
    "1.2.3.4/33",
    "1.2.3.4/-1",
    "1.2.3.4/-2",
    "1.2.3.4/-4",
    "1.2.3.4/-12",
    "1.2.3.4/+8",
    "1.2.3.4/1_6",
    "1.2.3.4/",
    "1.2.3.4/x",
    "1.2.3.4/1.2",
    "1.2.3.4/1.2.3.4/8",
    "user/a.b",
    "::1",
    "::",
    "::1.2.3.4",
    "::102:304",
    "::ffff:1.2.3.4",
    "::ffff:102:304",
    "::FFFF:0:0",
    "[::1]",
    "[1.2.3.4]",
    "[]",
    "[a]",
    "2001:DB8::1",
    "2001:db8::1/32",
    "2001:db8::1/128",
    "2001:db8::1/129",
    "2001:db8::1/ffff:ffff::",
    "1:2:3:4:5:6:7::",
    "1:2:3:4:5:6:7:8",
    "::2:3:4:5:6:7:8",
    "1::2::3",
    "1:2:3:4:5:6:7:8:9",
    "fe80::1%eth0",
    "::ffff:1.2.3.4/8",
    "::ffff:1.2.3.4/112",
    "1:0:0:2:0:0:0:3",
    "1:0:2:3:4:5:6:7",
    "::7f00:1",
    "::1:0",
    "0:0:0:0:0:1:0:0",
    "name",
    "a/1",
    "é/8",
];

fn drawn_text(draws: &mut Draws) -> String {
    let pieces = [
        "1", "0", "255", "256", ".", ".", ":", "::", "ffff", "a", "/", "/8", "[", "]", "2001", "db8", ":1", "1.2.3.4",
        "-", "%",
    ];
    (0..=draws.below(8_usize)).map(|_| draws.pick(&pieces)).collect()
}

/// NH-1: what identifies an author is read as fail2ban reads it: addresses, networks, masks, and what is none.
#[test]
fn texts_are_read_as_by_fail2ban() {
    let mut draws = Draws::from_environment();
    let mut texts: Vec<String> = EDGES.iter().map(|text| (*text).to_owned()).collect();
    texts.extend((0..5000).map(|_| drawn_text(&mut draws)));
    let answer = Oracle::start().ask(&json!({ "do": "addresses", "texts": texts }));
    let definition = FilterDefinition {
        failregex: vec!["^<F-ID>.*</F-ID>$".to_owned()],
        maxlines: 1,
        ..FilterDefinition::default()
    };
    let mut filter = Filter::compile(&definition, FilterSettings::new(Zone::UTC, Time::from_secs(0))).unwrap();
    let now = Time::from_secs(0);
    for (text, theirs) in texts.iter().zip(answer["found"].as_array().unwrap()) {
        let found = filter.process_dated(text, now, now, &mut Known(BTreeMap::new()));
        let ours = match &found {
            Err(_) => json!({ "error": "ValueError" }),
            Ok(found) => {
                let host = found[0].host.as_ref().unwrap();
                json!({
                    "text": host.text(),
                    "family": host.network().map(|(address, _)| if address.is_ipv4() { 4 } else { 6 }),
                    "prefix": host.network().map_or(0, |(_, prefix)| prefix),
                })
            }
        };
        // A prefix longer than any address has is only known to be too long.
        let mut theirs = theirs.clone();
        if theirs["prefix"].as_u64().is_some_and(|prefix| prefix > 255) {
            theirs["prefix"] = json!(255);
        }
        let is_alike = if ours.get("error").is_some() { theirs.get("error").is_some() } else { ours == theirs };
        assert!(is_alike, "{text}: {ours}, not {theirs}");
        let alone = found.ok().and_then(|found| found[0].host.as_ref().and_then(Host::address));
        let theirs_alone = matches!((&theirs["family"], &theirs["prefix"]), (Value::Number(family), Value::Number(prefix))
            if prefix.as_u64() == Some(if family.as_u64() == Some(4) { 32 } else { 128 }));
        assert_eq!(alone.is_some(), theirs_alone, "{text}");
    }
}
