use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use event::{Retention, Span};
use journal::tile::{bundles_for, tiles_for};
use journal::tlog_proof::TlogProof;
use tower::ServiceExt as _;

use crate::AnswerBudget;
use crate::fake::{Fixture, NOW, SECRET, applied, contradict, get, log_with};

/// BX-2: over HTTP there are the same files as in an export, byte for byte, so one specification describes both.
#[tokio::test]
async fn http_and_export_are_the_same() {
    let fixture = Fixture::new();
    let export = fixture.log.export();
    assert!(export.0.len() > 10, "{:?}", export.0.keys());
    for (path, bytes) in &export.0 {
        let answer = get(fixture.public(), &format!("/log/{path}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        assert_eq!(String::from_utf8_lossy(&answer.body), String::from_utf8_lossy(bytes), "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert!(!answer.header("content-type").contains("html"), "{path}: {}", answer.header("content-type"));
        assert!(!answer.header("etag").is_empty(), "{path}");
    }
}

/// JO-2: what is for the team leaves neither listener, whatever is asked for.
#[tokio::test]
async fn payloads_for_the_team_are_never_disclosed() {
    let mut log = log_with(300);
    // Entries whose leaf and payload disagree: neither side alone discloses anything.
    let mut contradictions = Vec::new();
    for (coarse, kind) in [
        ("watch.detail", "watch.detail"),
        ("evidence.changed", "watch.detail"),
        ("team:security", "evidence.changed"),
        ("evidence.changed", "some.future_kind"),
    ] {
        contradictions.push(contradict(&mut log, coarse, kind));
    }
    let fixture = Fixture::with(applied(), log, &[]);
    let size = fixture.log.entries.len() as u64;
    let bundles = bundles_for(size).flat_map(|id| [id.payload_path(), id.entries_path()]);
    let tiles = tiles_for(size).map(|id| id.path());
    let proofs = (0..size).map(journal::export::proof_path);
    let mut seen = 0;
    for path in bundles.chain(tiles).chain(proofs) {
        for router in [fixture.public(), fixture.team()] {
            let answer = get(router, &format!("/log/{path}")).await;
            assert_eq!(answer.status, StatusCode::OK, "{path}");
            assert!(!contains_secret(&answer.body), "{path} discloses what is for the team");
            if let Some(proof) = path.starts_with("proof/").then(|| TlogProof::parse(answer.text()).expect("a proof")) {
                assert!(!contains_secret(proof.extra.as_deref().expect("the leaf")), "{path}");
                seen += usize::from(proof.evidence().expect("evidence").disclosure.is_some());
            }
        }
    }
    assert!(seen > 300, "public entries are disclosed: {seen}");
    for sequence in contradictions {
        let answer = get(fixture.public(), &format!("/log/proof/{sequence}.tlog-proof")).await;
        let proof = TlogProof::parse(answer.text()).expect("a proof");
        assert_eq!(proof.evidence().expect("evidence").disclosure, None, "{sequence}");
    }
}

fn contains_secret(bytes: &[u8]) -> bool {
    bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes())
}

/// A head that no witness saw may still be lost in a crash: nobody may have seen its entries.
#[tokio::test]
async fn nothing_beyond_the_published_checkpoint() {
    let fixture = Fixture::new();
    let whole = fixture.log.entries.len();
    fixture.publish_only(258);
    for (path, expected) in [
        ("tile/0/000", true),
        ("tile/0/001.p/2", true),
        ("tile/0/001.p/1", true),
        ("tile/0/001.p/3", false),
        ("tile/0/001", false),
        ("tile/0/002.p/1", false),
        ("tile/0/000.p/200", true),
        ("tile/1/000.p/1", true),
        ("tile/1/000.p/2", false),
        ("tile/1/000", false),
        ("tile/2/000.p/1", false),
        ("tile/entries/001.p/2", true),
        ("tile/entries/001.p/3", false),
        ("payload/001.p/2", true),
        ("payload/001.p/3", false),
        ("proof/257.tlog-proof", true),
        ("proof/258.tlog-proof", false),
        ("proof/18446744073709551615.tlog-proof", false),
    ] {
        let answer = get(fixture.public(), &format!("/log/{path}")).await;
        let expected = if expected { StatusCode::OK } else { StatusCode::NOT_FOUND };
        assert_eq!(answer.status, expected, "{path} of 258 entries published, {whole} there");
    }
    let verdicts = get(fixture.public(), "/log/verdicts.json").await;
    assert_eq!(verdicts.text(), "[]", "no verdict is below the checkpoint");
    let policy = get(fixture.public(), "/log/policy.json").await;
    assert_eq!(policy.status, StatusCode::NOT_FOUND, "nor is the policy");
    let checkpoint = get(fixture.public(), "/log/checkpoint").await;
    assert_eq!(checkpoint.text().lines().nth(1), Some("258"));
}

/// While two keys sign, every commit has a note signed by both: only those that are published lead anywhere.
#[tokio::test]
async fn no_rotation_is_ahead_of_the_checkpoint() {
    let mut log = log_with(300);
    log.rotations = vec![log.checkpoint(250), log.checkpoint(290)];
    let fixture = Fixture::with(applied(), log.clone(), &[]);
    let both = get(fixture.public(), "/log/rotations").await;
    assert_eq!(both.text(), log.rotations.join("\n"));
    fixture.publish_only(258);
    assert_eq!(get(fixture.public(), "/log/rotations").await.text(), log.rotations[0]);
    fixture.publish_only(249);
    assert_eq!(get(fixture.public(), "/log/rotations").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn before_the_first_checkpoint_there_is_nothing() {
    let fixture = Fixture::new();
    fixture.published.send_replace(None);
    for path in ["checkpoint", "vkey", "verdicts.json", "tile/0/000", "proof/0.tlog-proof"] {
        assert_eq!(get(fixture.team(), &format!("/log/{path}")).await.status, StatusCode::NOT_FOUND, "{path}");
    }
}

/// Every file has one spelling; whatever else is asked for is not there, and nothing panics.
#[tokio::test]
async fn hostile_paths_find_nothing() {
    let fixture = Fixture::new();
    let long = format!("tile/0/{}", "x001/".repeat(2000));
    for path in [
        ".",
        "..",
        "../policy.json",
        "tile/../checkpoint",
        "%2e%2e/%2e%2e/etc/passwd",
        "tile%2f0%2f000",
        "%",
        "%zz",
        "%ff%fe",
        "checkpoint/",
        "CHECKPOINT",
        "//checkpoint",
        "checkpoint%00",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/999",
        "tile/0/000.p/-1",
        "tile/0/000.p/01",
        "tile/0/0",
        "tile/0/0000",
        "tile/0/x000/000",
        "tile/00/000",
        "tile/8/000",
        "tile/255/000",
        "tile/0/x018/x446/x744/x073/x709/x551/615",
        "tile/entries/x999/x999/x999/x999/x999/x999/999",
        "payload/x072/x057/x594/x037/x927/935.p/255",
        "tile/0/nope",
        "tile/data/000",
        "proof/-1.tlog-proof",
        "proof/+1.tlog-proof",
        "proof/01.tlog-proof",
        "proof/1",
        "proof/99999999999999999999999.tlog-proof",
        "proof/.tlog-proof",
        "rotations",
        "garant.db",
        "log.key",
        &long,
    ] {
        let answer = get(fixture.public(), &format!("/log/{path}")).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert!(answer.text().contains("Page not found"), "{path}");
    }
    let query = "q".repeat(20_000);
    assert_eq!(
        get(fixture.public(), &format!("/log/checkpoint?{query}")).await.status,
        StatusCode::OK,
        "a query is ignored"
    );
}

/// CO-7: the link beside a verdict leads to a file that proves it offline, to whoever has the key.
#[tokio::test]
async fn a_proof_stands_alone() {
    let fixture = Fixture::new();
    let key = fixture.log.keys[0].vkey();
    let shown = get(fixture.public(), "/en").await;
    let links: Vec<&str> = shown.text().split("href=\"").filter_map(|rest| rest.split('"').next()).collect();
    let proofs: Vec<_> = links.into_iter().filter(|link| link.ends_with(".tlog-proof")).collect();
    assert_eq!(proofs.len(), 3, "one a verdict");
    for link in proofs {
        let answer = get(fixture.public(), link).await;
        let proof = TlogProof::parse(answer.text()).expect("a proof");
        let (_opened, evidence) = proof.verify_evidence(std::slice::from_ref(&key)).expect("it verifies");
        let payload = evidence.disclosure.expect("a verdict is public").payload;
        let envelope = event::Envelope::decode(payload).expect("an envelope");
        assert_eq!(envelope.kind, "promise.verdict", "{link}");
    }
}

#[tokio::test]
async fn copies_are_kept_for_as_long_as_they_are_true() {
    let fixture = Fixture::new();
    for (path, caching) in [
        ("tile/0/000", "public, max-age=31536000, immutable"),
        ("tile/0/001.p/5", "public, max-age=31536000, immutable"),
        ("tile/entries/000", "public, max-age=31536000, immutable"),
        // A payload may be destroyed.
        ("payload/000", "no-cache"),
        ("checkpoint", "no-cache"),
        ("verdicts.json", "no-cache"),
        ("proof/5.tlog-proof", "no-cache"),
    ] {
        assert_eq!(get(fixture.public(), &format!("/log/{path}")).await.header("cache-control"), caching, "{path}");
    }
}

#[tokio::test]
async fn what_was_destroyed_is_gone() {
    let mut log = log_with(300);
    log.advance(Span::from_days(2));
    log.destroy(Retention::Evidence, NOW.day());
    let fixture = Fixture::with(applied(), log, &[]);
    let first = get(fixture.public(), "/log/payload/000").await;
    assert_eq!((first.status, first.text().lines().count()), (StatusCode::OK, 1), "the opening is kept for ever");
    assert!(first.text().contains("journal.opened"), "{}", first.text());
    let entries = get(fixture.public(), "/log/tile/entries/000").await;
    assert!(entries.body.len() > 256 * 80, "the leaves stay");
    let proof = get(fixture.public(), "/log/proof/1.tlog-proof").await;
    let proof = TlogProof::parse(proof.text()).expect("a proof");
    assert_eq!(proof.evidence().expect("evidence").disclosure, None);
}

/// Who asks for much and does not read it takes a bounded part of the memory, and what is small is not kept waiting by it.
#[tokio::test]
async fn answers_that_nobody_reads_are_bounded() {
    let mut log = log_with(10);
    for number in 0..4 {
        let body = format!("{{\"number\":{number},\"text\":\"{}\"}}", "x".repeat(200_000));
        log.append_text("some.future_kind", 1, "some.future_kind", &body);
    }
    let mut fixture = Fixture::with(applied(), log, &[]);
    Arc::get_mut(&mut fixture.state).expect("nobody else has it").budget = AnswerBudget::of(1_600_000);
    let size = fixture.log.entries.len();
    let path = bundles_for(size as u64).map(|id| format!("/log/{}", id.payload_path())).last().expect("a bundle");
    let ask = async || {
        let request = Request::builder().uri(&path).body(Body::empty()).expect("a request");
        fixture.public().oneshot(request).await.expect("infallible")
    };
    let unread = ask().await;
    assert_eq!(unread.status(), StatusCode::OK);
    let refused = ask().await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()["retry-after"], "5");
    assert_eq!(get(fixture.public(), "/log/checkpoint").await.status, StatusCode::OK, "a small one");
    drop(unread);
    let whole = get(fixture.public(), &path).await;
    assert!(whole.status == StatusCode::OK && whole.body.len() > 800_000, "{} bytes", whole.body.len());
}
