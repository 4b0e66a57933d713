//! The trust page in a real browser, and before checkers that we did not write: Chromium shows it, the checker of the W3C
//! parses it, axe looks for what keeps people out. Promises CO-7, BX-1, BX-5.
//!
//! Chromium has no way to its maker's servers: no name but this machine's is found. With `GARANT_PICTURE` in the environment,
//! the file that it names becomes a picture of the top of the page: that of README.md is made so.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Up, command, eventually, free_port, get, transcript};

/// One service that is up, one that is not, and a finding: promises of every kind, judged within seconds.
fn policy() -> String {
    let gone = free_port();
    let service = |name: &str, fr: &str, en: &str| {
        format!("[[service]]\nname = \"{name}\"\ntitle.fr = \"{fr}\"\ntitle.en = \"{en}\"\n")
    };
    let promise = |id: &str, fr: &str, en: &str, objective: &str| {
        format!("[[promise]]\nid = \"{id}\"\ntext.fr = \"{fr}\"\ntext.en = \"{en}\"\n{objective}\n")
    };
    [
        "publish = true\n[journal]\nname = \"shop.example\"\n[pages]\nlisten = \"127.0.0.1:0\"\npublic = \"127.0.0.1:0\"\n\
         url = \"http://127.0.0.1/\"\n"
            .to_owned(),
        service("shop", "La boutique", "The shop"),
        service("mail", "La messagerie", "Mail"),
        "[[probe.host]]\nname = \"machine\"\nservice = \"shop\"\nevery = \"1 s\"\n".to_owned(),
        format!("[[probe.tcp]]\nname = \"mail-in\"\nservice = \"mail\"\naddress = \"127.0.0.1:{gone}\"\nevery = \"1 s\"\n"),
        "[[maintenance]]\nservices = [\"shop\", \"mail\"]\nfrom = \"2100-01-01T00:00:00Z\"\nto = \"2100-01-01T01:00:00Z\"\n\
         text.fr = \"Coupure prévue : une heure.\"\ntext.en = \"An outage is planned: an hour.\"\n"
            .to_owned(),
        promise(
            "AV-1",
            "La messagerie est disponible 99,9 % du temps.",
            "Mail is available 99.9 % of the time.",
            "availability = { service = \"mail\", at_least = \"99.9 %\", over = [\"1 min\", \"365 d\"] }",
        ),
        promise(
            "WA-2.disk",
            "Aucun disque n’est trop plein.",
            "No disk is too full.",
            "absence = { finding = \"disk-usage\", over = \"30 d\" }",
        ),
    ]
    .concat()
}

/// The screen that Chromium is given.
#[derive(Clone, Copy, Debug)]
struct Screen {
    width: u32,
    dark: bool,
}

const SCREENS: [Screen; 3] =
    [Screen { width: 1280, dark: false }, Screen { width: 1280, dark: true }, Screen { width: 360, dark: false }];

/// What a browser made of a document: its text after scripts ran, messages of the console, and requests.
struct Seen {
    /// The document after the browser has shown it.
    html: String,
    /// Messages of the console: errors, and what the policy of the document forbade.
    console: Vec<String>,
    /// Addresses that the document asked for, its own included.
    asked: Vec<String>,
}

/// Chromium without a window, with a fresh profile in this folder.
fn chromium(folder: &TempDir, screen: Screen, height: u32) -> Command {
    let mut chromium = command("chromium");
    chromium
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"])
        .args(["--disable-component-update", "--disable-sync", "--disable-extensions", "--disable-dev-shm-usage"])
        .args(["--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1", "--enable-logging=stderr", "--lang=en"])
        .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
        .arg(format!("--window-size={},{height}", screen.width))
        .arg(format!("--blink-settings=preferredColorScheme={}", u8::from(!screen.dark)));
    chromium
}

/// Takes a picture of the top of a document.
fn picture(url: &str, screen: Screen, to: &Path) {
    let folder = TempDir::new().expect("a temporary folder");
    let mut chromium = chromium(&folder, screen, 860);
    chromium.args(["--hide-scrollbars", "--virtual-time-budget=10000"]);
    let taken = chromium.arg(format!("--screenshot={}", to.display())).arg(url).output().expect("chromium starts");
    assert!(taken.status.success() && to.exists(), "{}", transcript(&taken));
}

/// Loads a document in a browser with a fresh profile.
fn show(url: &str, screen: Screen) -> Seen {
    let folder = TempDir::new().expect("a temporary folder");
    let network = folder.path().join("network.json");
    let mut chromium = chromium(&folder, screen, 900);
    chromium
        // Ten seconds of the document's own time: what it does with a delay is part of what is shown.
        .args(["--virtual-time-budget=10000", "--dump-dom"])
        .arg(format!("--log-net-log={}", network.display()))
        .arg(url);
    let shown = chromium.output().expect("chromium starts; scripts/test installs it");
    assert!(shown.status.success(), "{}", transcript(&shown));
    let said = String::from_utf8_lossy(&shown.stderr);
    let log: Value = serde_json::from_slice(&std::fs::read(&network).expect("a log of the network")).expect("JSON");
    let events = log["events"].as_array().expect("events").iter();
    let asked = events.filter_map(|event| {
        let of_the_browser = event["params"]["initiator"] == "not an origin";
        // Requests without a document are those of the browser itself, with another scheme or host.
        let url = event["params"]["url"].as_str()?;
        (!of_the_browser && event["params"]["initiator"].is_string() || url.starts_with("http://127.0.0.1:"))
            .then(|| url.to_owned())
    });
    Seen {
        html: String::from_utf8_lossy(&shown.stdout).into_owned(),
        console: said.lines().filter(|line| line.contains("CONSOLE")).map(str::to_owned).collect(),
        asked: asked.collect(),
    }
}

fn tool(path: &str) -> PathBuf {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/browser/node_modules").join(path);
    assert!(tool.exists(), "{} is missing; scripts/test installs it", tool.display());
    tool
}

/// Mistakes that the W3C's checker of HTML, CSS and ARIA finds in a document.
fn faults(html: &[u8]) -> Vec<Value> {
    let file = tempfile::Builder::new().suffix(".html").tempfile().expect("a file");
    std::fs::write(file.path(), html).expect("written");
    let mut checker = command("java");
    let checked =
        checker.arg("-jar").arg(tool("vnu-jar/build/dist/vnu.jar")).args(["--format", "json"]).arg(file.path());
    let checked = checked.output().expect("java starts; scripts/test installs it");
    let report: Value = serde_json::from_slice(&checked.stderr).unwrap_or_else(|_| panic!("{}", transcript(&checked)));
    report["messages"].as_array().expect("messages").clone()
}

/// Barriers that axe finds in a document on that screen (WCAG 2.2, A and AA, and good practice), each with its place; and
/// how many rules the document kept.
fn barriers(html: &str, screen: Screen) -> (Vec<String>, usize) {
    let axe = std::fs::read_to_string(tool("axe-core/axe.min.js")).expect("axe");
    let run = "axe.run().then(found => document.body.append(document.createComment('axe:' + JSON.stringify({\
               barriers: found.violations.flatMap(v => v.nodes.map(n => v.id + ' at ' + n.target + ': ' + n.failureSummary)),\
               held: found.passes.length}).replaceAll('-', '\\\\u002d') + ':axe')))";
    let with_axe = html.replace("</body>", &format!("<script>{axe}</script><script>{run}</script></body>"));
    let file = tempfile::Builder::new().suffix(".html").tempfile().expect("a file");
    std::fs::write(file.path(), with_axe).expect("written");
    let seen = show(&format!("file://{}", file.path().display()), screen);
    let report = seen.html.rsplit_once("<!--axe:").and_then(|(_, rest)| rest.split_once(":axe-->"));
    let report = report.unwrap_or_else(|| panic!("axe said nothing: {:?}", seen.console)).0;
    let report: Value = serde_json::from_str(report).expect("JSON");
    let barriers = report["barriers"].as_array().expect("a list").iter();
    let held = report["held"].as_u64().expect("a count");
    (barriers.map(|text| text.as_str().unwrap_or_default().to_owned()).collect(), usize::try_from(held).expect("few"))
}

#[test]
fn the_trust_page_in_a_browser() {
    let up = Up::start(&policy());
    let public = up.ready["public"].as_str().expect("a public listener").to_owned();
    eventually("verdicts on all objectives", || (up.verdicts("AV-1").len() == 2).then_some(()));
    eventually("a verdict that is broken", || {
        up.verdicts("AV-1").iter().any(|v| v["outcome"] == "broken").then_some(())
    });

    for (path, language, sentence) in [
        ("fr", "fr", "La messagerie est disponible 99,9\u{202f}% du temps."),
        ("en", "en", "Mail is available 99.9\u{202f}% of the time."),
    ] {
        let url = format!("{public}{path}");
        let seen = show(&url, SCREENS[0]);
        assert!(seen.html.contains(&format!("<html lang=\"{language}\">")), "{}", seen.html);
        assert!(seen.html.contains(sentence) && seen.html.contains("class=\"b\""), "{}", seen.html);
        assert!(seen.console.is_empty(), "{path}: {:?}", seen.console);
        assert!(seen.asked.contains(&url), "the log of the network was read: {:?}", seen.asked);
        assert!(seen.asked.iter().all(|asked| asked.starts_with(&public)), "{path} asks elsewhere: {:?}", seen.asked);

        let html = String::from_utf8(get(&url).expect("it is served")).expect("UTF-8");
        assert_eq!(faults(html.as_bytes()), [] as [Value; 0], "{path}");
        for screen in SCREENS {
            let (barriers, held) = barriers(&html, screen);
            assert!(barriers.is_empty(), "{path} on {screen:?}: {barriers:#?}");
            assert!(held >= 15, "axe looked at little: {held} rules on {screen:?}");
        }
    }
    if let Some(to) = std::env::var_os("GARANT_PICTURE") {
        picture(&format!("{public}en"), SCREENS[0], Path::new(&to));
    }
    let refused = crate::harness::http("GET", &format!("{public}nothing"), &[], b"").expect("an answer");
    assert_eq!((refused.0, faults(&refused.2)), (404, Vec::new()));
}

/// Both checkers find something in a document that is wrong: silence means that nothing is.
#[test]
fn a_bad_document_is_noticed() {
    let elsewhere = format!("http://127.0.0.1:{}/x.png", free_port());
    let bad = format!(
        "<!doctype html><html><head><title>x</title></head><body><p style=\"color:#aaa\">pale</p>\
         <img src=\"{elsewhere}\"></body></html>"
    );
    assert!(!faults(format!("{bad}<p></div>").as_bytes()).is_empty());
    let (barriers, _) = barriers(&bad, SCREENS[0]);
    for rule in ["image-alt", "html-has-lang", "color-contrast"] {
        assert!(barriers.iter().any(|barrier| barrier.starts_with(rule)), "{rule}: {barriers:?}");
    }
    let file = tempfile::Builder::new().suffix(".html").tempfile().expect("a file");
    let url = format!("file://{}", file.path().display());
    std::fs::write(file.path(), &bad).expect("written");
    assert!(show(&url, SCREENS[0]).asked.contains(&elsewhere), "what a document asks for is seen");
    let policy = "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'\">";
    std::fs::write(file.path(), bad.replace("<title>", &format!("{policy}<title>"))).expect("written");
    let seen = show(&url, SCREENS[0]);
    assert!(seen.console.iter().any(|line| line.contains("Content Security Policy")), "{:?}", seen.console);
}
