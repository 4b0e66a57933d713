//! S3 with real counterparts: the strict server of `tests/s3`, and moto.

use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Duration;

use engine::sim::World;
use strict_s3::{BucketSettings as Behaviour, Checksums, Fault, HOST, Identity, SERVER, StrictS3};
use tempfile::TempDir;

use super::super::conformance::{destroys, keeps_the_contract};
use super::*;
use crate::config::SecretPlace;

mod moto;

const BUCKET: &str = "shop-backup";
/// What a locked object is called in these tests, and holds.
const NAME: &str = "sets/shop/1/data.00001";
const BODY: Bytes = Bytes::from_static(b"sealed");

/// A strict server, and what it takes to ask it.
struct Stage {
    server: StrictS3,
    folder: TempDir,
    context: Context,
}

impl Stage {
    fn new() -> Self {
        Self::of(Behaviour::default())
    }

    fn of(behaviour: Behaviour) -> Self {
        let server = StrictS3::start(&[(BUCKET, behaviour)]);
        Self { server, folder: tempfile::tempdir().expect("a folder"), context: context(now()) }
    }

    fn settings(&self, identity: Identity) -> BucketSettings {
        settings(&self.folder, &self.server.endpoint(), identity)
    }

    fn s3(&self, identity: Identity) -> S3 {
        S3::new(&self.settings(identity), &self.context).expect("a bucket")
    }

    fn stored(&self) -> Vec<Option<Bytes>> {
        let versions = self.server.versions(BUCKET, &format!("garant/{NAME}"));
        versions.into_iter().map(|version| version.body).collect()
    }
}

/// The time of the machine, which is that of the servers: what is signed at another time they refuse.
fn now() -> Time {
    engine::clock::SystemClock.now()
}

fn context(now: Time) -> Context {
    World::at(now).context("here.backup".parse().expect("an observer")).expect("a context")
}

fn settings(folder: &TempDir, endpoint: &str, identity: Identity) -> BucketSettings {
    let secret = folder.path().join(identity.access_key);
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(&secret);
    std::io::Write::write_all(&mut file.expect("a file"), identity.secret_key.as_bytes()).expect("written");
    BucketSettings {
        endpoint: endpoint.to_owned(),
        bucket: BUCKET.to_owned(),
        prefix: Some("garant".to_owned()),
        path_style: true,
        region: "eu-north-1".to_owned(),
        access_key: identity.access_key.to_owned(),
        secret_key: SecretPlace::File(secret),
        lock: true,
        bytes_per_second_max: None,
        destroys: None,
    }
}

fn in_days(days: i64) -> Option<Time> {
    Some(now() + Span::from_days(days))
}

#[tokio::test]
async fn s3_keeps_the_contract() {
    let stage = Stage::new();
    keeps_the_contract(&stage.s3(HOST)).await;
    destroys(&stage.s3(SERVER)).await;
    // A thousand objects, and a few connections: they are used again.
    assert!(stage.server.connections() < 10, "{}", stage.server.connections());
}

#[tokio::test]
async fn a_bucket_without_versions_keeps_the_contract_too() {
    let stage = Stage::of(Behaviour { lock: false, ..Behaviour::default() });
    let unlocked = |identity| BucketSettings { lock: false, prefix: None, ..stage.settings(identity) };
    let s3 = |identity| S3::new(&unlocked(identity), &stage.context).expect("a bucket");
    keeps_the_contract(&s3(HOST)).await;
    destroys(&s3(SERVER)).await;
}

#[tokio::test]
async fn what_is_locked_stays_and_goes_when_its_time_has_come() {
    let stage = Stage::new();
    let (host, server) = (stage.s3(HOST), stage.s3(SERVER));
    let until = in_days(90).expect("a time");
    host.put(NAME, BODY, Some(until)).await.expect("added");
    let versions = stage.server.versions(BUCKET, &format!("garant/{NAME}"));
    assert_eq!(versions[0].locked_until, Some(end_of_second(until).micros() / 1_000_000), "to the end of the second");

    let error = server.delete(NAME).await.expect_err("locked");
    assert_eq!(error.why, Why::Refused);
    assert_eq!(error.reason, format!("it is locked until {}; delete it then", end_of_second(until)));
    assert_eq!(stage.stored(), [Some(BODY)]);

    stage.server.pass(Duration::from_hours(91 * 24));
    let error = host.delete(NAME).await.expect_err("a host deletes nothing, locked or not");
    assert_eq!((error.why, stage.stored()), (Why::Refused, vec![Some(BODY)]));
    server.delete(NAME).await.expect("its time has come");
    assert_eq!(stage.stored(), []);
}

/// What is locked is hidden from whoever lists, and goes when its lock ends.
#[tokio::test]
async fn what_is_locked_is_hidden_until_it_goes() {
    let stage = Stage::new();
    let server = stage.s3(SERVER);
    server.put(NAME, BODY, in_days(90)).await.expect("added");
    server.hide(NAME).await.expect("hidden");
    assert_eq!((server.size(NAME).await.expect("it answers"), stage.stored()), (None, vec![Some(BODY), None]));
    assert_eq!(server.delete(NAME).await.expect_err("locked").why, Why::Refused);
    assert!(stage.stored().contains(&Some(BODY)));
    stage.server.pass(Duration::from_hours(91 * 24));
    server.delete(NAME).await.expect("its time has come");
    assert_eq!(stage.stored(), []);
}

/// What is said to be deleted is looked for: the listing is the proof.
#[tokio::test]
async fn a_deletion_that_is_only_said_is_refused() {
    let stage = Stage::new();
    let server = stage.s3(SERVER);
    server.put(NAME, BODY, None).await.expect("added");
    stage.server.fault("DELETE", "data", 1, Fault::Refused(200, ""));
    let error = server.delete(NAME).await.expect_err("it is there");
    assert!(error.why == Why::Refused && error.reason.contains("listed still"), "{error}");
    server.delete(NAME).await.expect("deleted");
    assert_eq!(stage.stored(), []);
}

/// An object is locked for as long as anything needs it: put again for a later time, its lock is extended, and never shortened.
#[tokio::test]
async fn a_lock_is_extended_and_never_shortened() {
    let stage = Stage::new();
    let host = stage.s3(HOST);
    for (days, locked) in [(10, 10), (20, 20), (5, 20)] {
        let (until, expected) = (in_days(days), in_days(locked).expect("a time"));
        host.put(NAME, BODY, until).await.expect("it is there, and locked");
        let versions = stage.server.versions(BUCKET, &format!("garant/{NAME}"));
        assert_eq!(versions.len(), 1);
        let found = Time::from_secs(versions[0].locked_until.expect("locked"));
        assert!(found.since(expected).secs().abs() < 60, "{found} for {days} days");
    }
}

/// The same without the bytes, for what later objects depend on.
#[tokio::test]
async fn the_lock_of_what_others_depend_on_is_extended_and_never_shortened() {
    let stage = Stage::new();
    let host = stage.s3(HOST);
    host.put(NAME, BODY, in_days(10)).await.expect("added");
    for (days, locked) in [(20, 20), (5, 20), (30, 30)] {
        host.extend(NAME, in_days(days).expect("a time")).await.expect("locked for as long, or longer");
        let found = host.locked_until(NAME).await.expect("it answers").expect("locked");
        let expected = in_days(locked).expect("a time");
        assert!(found.since(expected).secs().abs() < 60, "{found} for {days} days");
        assert_eq!(stage.stored(), [Some(BODY)]);
    }
    assert_eq!(host.locked_until("sets/none").await.expect("it answers"), None);
    host.extend("sets/none", in_days(1).expect("a time")).await.expect_err("there is nothing to lock");
    let unlocked = BucketSettings { lock: false, ..stage.settings(HOST) };
    let unlocked = S3::new(&unlocked, &stage.context).expect("a bucket");
    unlocked.extend(NAME, in_days(90).expect("a time")).await.expect("nothing is asked for");
    let found = host.locked_until(NAME).await.expect("it answers").expect("locked");
    assert!(found < in_days(40).expect("a time"), "{found}");
}

/// A lock that was asked for and is not there is a failure, though the object is.
#[tokio::test]
async fn a_provider_that_passes_over_a_lock_is_not_believed() {
    let stage = Stage::of(Behaviour { honours_lock: false, lock: false, ..Behaviour::default() });
    let host = stage.s3(HOST);
    let error = host.put(NAME, BODY, in_days(90)).await.expect_err("not locked");
    assert_eq!(error.why, Why::Refused);
    assert!(error.reason.starts_with("it is stored, but not locked until"), "{error}");
    assert!(error.reason.contains("made with object lock") && error.reason.contains("lock = false"), "{error}");
    host.put("other", BODY, None).await.expect("without a lock");
    // One that honours them, of a bucket that has none, refuses.
    stage.server.set(BUCKET, Behaviour { lock: false, ..Behaviour::default() });
    let error = host.put("third", BODY, in_days(90)).await.expect_err("no locks");
    assert!(error.why == Why::Refused && error.reason.contains("made with object lock"), "{error}");
}

#[tokio::test]
async fn a_bucket_is_tried_out_before_it_is_relied_on() {
    let all = BucketAbilities { locks: true, versions: true, never_overwrites: true };
    let stage = Stage::new();
    let host = stage.s3(HOST);
    for _ in 0..2 {
        assert_eq!(host.examine().await.expect("it answers"), all);
    }
    stage.server.set(BUCKET, Behaviour { lock: false, ..Behaviour::default() });
    let none = BucketAbilities { locks: false, versions: false, ..all };
    assert_eq!(host.examine().await.expect("it answers"), none);
    stage.server.set(BUCKET, Behaviour { lock: false, conditions: false, ..Behaviour::default() });
    let overwrites = BucketAbilities { never_overwrites: false, ..none };
    assert_eq!(host.examine().await.expect("it answers"), overwrites);
    let elsewhere = BucketSettings { bucket: "nowhere".into(), ..stage.settings(HOST) };
    let error = S3::new(&elsewhere, &stage.context).expect("a bucket").examine().await.expect_err("no bucket");
    assert!(error.why == Why::Refused && error.reason.contains("there is no bucket `nowhere`"), "{error}");
}

/// BK-9: with all the credentials of a host, what is locked is neither deleted nor altered, nor is its lock shortened. Each attempt is
/// made as an attacker makes it, past everything that [`S3`] would not do.
#[tokio::test]
async fn with_the_credentials_of_a_host_nothing_that_is_locked_is_destroyed() {
    let stage = Stage::new();
    let host = stage.s3(HOST).patience(Span::ZERO);
    host.put(NAME, BODY, in_days(90)).await.expect("added");
    let key = format!("garant/{NAME}");
    let before = stage.server.versions(BUCKET, &key);
    let object = |method| Question::of_object(method, host.key(NAME), "anything");
    let retention = |mode: &str, until: Time| {
        let body = format!("<Retention><Mode>{mode}</Mode><RetainUntilDate>{until}</RetainUntilDate></Retention>");
        let md5 = BASE64_STANDARD.encode(Md5::digest(&body));
        object(Method::Put).query("retention", "").header("content-md5", &md5).body(body.into())
    };
    let yesterday = now() - Span::from_days(1);
    let attempts = [
        object(Method::Delete),
        object(Method::Delete).query("versionId", &before[0].id),
        object(Method::Delete).query("versionId", &before[0].id).header("x-amz-bypass-governance-retention", "true"),
        retention("COMPLIANCE", in_days(1).expect("a time")),
        retention("COMPLIANCE", yesterday),
        retention("GOVERNANCE", in_days(100).expect("a time")),
        retention("COMPLIANCE", in_days(1).expect("a time")).header("x-amz-bypass-governance-retention", "true"),
        object(Method::Put).body(BODY).header("if-none-match", "*"),
        object(Method::Put).body(BODY).header("x-amz-checksum-sha256", &sha256(b"another")),
        Question::of_bucket(Method::Put, "anything")
            .query("versioning", "")
            .body(Bytes::from_static(b"<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>")),
        Question::of_bucket(Method::Put, "anything").query("object-lock", "").body(Bytes::from_static(
            b"<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>",
        )),
        Question::of_bucket(Method::Delete, "anything"),
    ];
    for attempt in attempts {
        host.ask(NAME, &attempt, &[]).await.expect_err("refused");
        assert_eq!(stage.server.versions(BUCKET, &key), before, "{attempt:?}");
    }
    // What it may do is put another version over it.
    host.ask(NAME, &object(Method::Put).body(Bytes::new()), &[]).await.expect("put over it");
    assert_eq!(stage.server.versions(BUCKET, &key)[..1], before);
    assert_eq!(host.as_first_written(None).get(NAME, None).await.expect("the first one"), BODY);
}

/// Whoever has the credentials of a host puts other versions over what is there. The first one is still read.
#[tokio::test]
async fn what_was_put_over_an_object_is_not_read() {
    let stage = Stage::new();
    let host = stage.s3(HOST);
    host.put(NAME, BODY, in_days(90)).await.expect("added");
    host.put("sets/shop/1/data.000010", BODY, in_days(90)).await.expect("added");
    stage.server.set(BUCKET, Behaviour { conditions: false, ..Behaviour::default() });
    for poison in [&b"poison"[..], b"much more of it"] {
        host.put(NAME, Bytes::from_static(poison), None).await.expect("as the attacker does it");
    }
    let marked = Question::of_object(Method::Delete, host.key(NAME), "s3:DeleteObject");
    stage.s3(SERVER).ask(NAME, &marked, &[]).await.expect("as an attacker does who may delete");
    assert_eq!(host.size(NAME).await.expect("it answers"), None);
    assert_eq!(host.list("sets/", None).await.expect("a listing").len(), 1);

    let first = stage.s3(HOST).as_first_written(None);
    assert_eq!(first.get(NAME, None).await.expect("the first one"), BODY);
    assert_eq!(first.get(NAME, Some(2..4)).await.expect("a part of it"), &BODY[2..4]);
    assert_eq!(first.size(NAME).await.expect("it answers"), Some(6));
    let listed: Vec<_> = first.list("sets/", None).await.expect("a listing");
    assert_eq!(
        listed.iter().map(|listed| (listed.name.as_str(), listed.size)).collect::<Vec<_>>(),
        [(NAME, 6), ("sets/shop/1/data.000010", 6)]
    );
    assert_eq!(first.folders("sets/shop/").await.expect("folders"), ["1"]);
    assert_eq!(first.get("sets/none", None).await.expect_err("none").why, Why::Missing);
}

#[tokio::test]
async fn an_untouched_bucket_reads_the_same_as_first_written() {
    let stage = Stage::new();
    keeps_the_contract(&stage.s3(HOST).as_first_written(None)).await;
}

/// An attacker may put thousands of versions over one object: listings have a way past them.
#[tokio::test]
async fn many_versions_of_one_object_hide_no_other() {
    let stage = Stage::new();
    let server = stage.s3(SERVER);
    server.put("a/1", BODY, None).await.expect("added");
    server.put("a/2", BODY, None).await.expect("added");
    stage.server.set(BUCKET, Behaviour { conditions: false, ..Behaviour::default() });
    for _ in 0..1100 {
        server.put("a/1", Bytes::from_static(b"x"), None).await.expect("put over it");
    }
    let first = stage.s3(HOST).as_first_written(None);
    let listed = first.list("a/", None).await.expect("a listing");
    assert_eq!(listed.iter().map(|listed| listed.size).collect::<Vec<_>>(), [6, 6]);
    assert_eq!(first.get("a/1", None).await.expect("the first one"), BODY);
    server.delete("a/1").await.expect("all of them");
    assert!(stage.server.versions(BUCKET, "garant/a/1").is_empty());
    assert_eq!(server.list("a/", None).await.expect("a listing").len(), 1);
}

#[tokio::test]
async fn what_passes_is_asked_again() {
    let stage = Stage::new();
    let host = stage.s3(HOST);
    for (name, fault) in [
        ("1", Fault::Refused(503, "SlowDown")),
        ("2", Fault::Refused(500, "InternalError")),
        ("3", Fault::Refused(400, "RequestTimeout")),
        ("4", Fault::Refused(429, "")),
        ("5", Fault::Dropped),
        ("6", Fault::Refused(400, "BadDigest")),
        ("7", Fault::Refused(409, "OperationAborted")),
    ] {
        stage.server.fault("PUT", name, 1, fault);
        host.put(name, BODY, None).await.expect("the second time");
        assert_eq!(
            (stage.server.faults_left(), host.get(name, None).await.expect("it is there")),
            (0, BODY),
            "{fault:?}"
        );
    }
    for fault in [Fault::Refused(503, "SlowDown"), Fault::Dropped, Fault::AnswerCut, Fault::AnswerLost] {
        stage.server.fault("GET", "garant/1?", 2, fault);
        stage.server.fault("GET", "list-type", 1, fault);
        assert_eq!(host.get("1", None).await.expect("the third time"), BODY, "{fault:?}");
        assert_eq!(host.list("", None).await.expect("the second time").len(), 7, "{fault:?}");
        assert_eq!(stage.server.faults_left(), 0, "{fault:?}");
    }
}

/// The answer to a put is lost: the next attempt finds the object there, and it is the same.
#[tokio::test]
async fn a_lost_acknowledgement_is_no_second_object() {
    let stage = Stage::new();
    let host = stage.s3(HOST);
    stage.server.fault("PUT", "data", 1, Fault::AnswerLost);
    host.put(NAME, BODY, in_days(90)).await.expect("it is there");
    assert_eq!((stage.stored(), stage.server.faults_left()), (vec![Some(BODY)], 0));
}

/// Two write the same name at once: one of them is told so, then finds what is there.
#[tokio::test]
async fn a_conflict_is_looked_into() {
    let stage = Stage::new();
    let host = stage.s3(HOST);
    stage.server.fault("PUT", "data", 2, Fault::Refused(409, "ConditionalRequestConflict"));
    host.put(NAME, BODY, None).await.expect("nothing was there, so again");
    stage.server.fault("PUT", "data", 1, Fault::Refused(409, "ConditionalRequestConflict"));
    host.put(NAME, BODY, None).await.expect("it is there");
    stage.server.fault("PUT", "data", 1, Fault::Refused(409, "ConditionalRequestConflict"));
    assert_eq!(host.put(NAME, Bytes::new(), None).await.expect_err("another one").why, Why::Exists);
}

/// Trying has an end, and the message says what for.
#[tokio::test]
async fn patience_has_an_end() {
    let stage = Stage::new();
    let host = S3::new(&stage.settings(HOST), &stage.context).expect("a bucket").patience(Span::from_secs(3));
    stage.server.fault("PUT", "data", 1000, Fault::Refused(503, "SlowDown"));
    let error = host.put(NAME, BODY, None).await.expect_err("given up");
    assert!(error.why == Why::Unavailable && error.reason.contains("503 SlowDown"), "{error}");
    assert!(error.reason.contains("times in"), "{error}");
    let place = format!("{}/{BUCKET}/garant: {NAME}: ", stage.server.endpoint());
    assert!(error.to_string().starts_with(&place), "{error}");
    let asked = stage.server.requests().len();
    assert!((2..20).contains(&asked), "{asked}");

    let gone = settings(&stage.folder, "http://127.0.0.1:9", HOST);
    let gone = S3::new(&gone, &stage.context).expect("a bucket").patience(Span::from_millis(300));
    let error = gone.get(NAME, None).await.expect_err("nobody listens");
    assert!(error.why == Why::Unavailable && error.reason.contains("nobody listens there"), "{error}");
}

/// A provider that answers late is waited for; others are not held up.
#[tokio::test]
async fn a_slow_answer_is_an_answer() {
    let stage = Stage::new();
    let host = stage.s3(HOST);
    stage.server.fault("PUT", "slow", 1, Fault::Slow(Duration::from_millis(500)));
    let (slow, quick) = tokio::join!(host.put("slow", BODY, None), host.put("quick", BODY, None));
    slow.and(quick).expect("both are added");
    assert_eq!(stage.server.faults_left(), 0);
}

#[tokio::test]
async fn what_comes_back_otherwise_is_damaged() {
    let stage = Stage::new();
    let host = stage.s3(HOST);
    host.put(NAME, BODY, None).await.expect("added");
    stage.server.fault("GET", "data", 1, Fault::AnswerAltered);
    assert_eq!(host.get(NAME, None).await.expect_err("altered on its way").why, Why::Damaged);
    assert_eq!(host.get(NAME, None).await.expect("whole again"), BODY);
    stage.server.damage(BUCKET, &format!("garant/{NAME}"));
    assert_eq!(host.get(NAME, None).await.expect_err("rotten").why, Why::Damaged);
    assert_eq!(host.put(NAME, BODY, None).await.expect_err("not what it was").why, Why::Damaged);
}

/// A provider without checksums shows the MD5 as ETag; one that refuses the header field gets it no more.
#[tokio::test]
async fn without_checksums_the_md5_counts() {
    for checksums in [Checksums::PassedOver, Checksums::Refused] {
        let stage = Stage::of(Behaviour { checksums, ..Behaviour::default() });
        let host = stage.s3(HOST);
        for name in ["a", "b"] {
            host.put(name, BODY, in_days(90)).await.expect("added");
            assert_eq!(host.get(name, None).await.expect("it is there"), BODY);
        }
        let put = stage.server.requests().iter().filter(|request| request.starts_with("PUT")).count();
        assert_eq!(put, if checksums == Checksums::Refused { 3 } else { 2 }, "{checksums:?}");
    }
}

/// Neither checksum nor MD5 is shown, as where objects are encrypted under a key of the customer: then it is read back.
#[tokio::test]
async fn what_no_answer_shows_is_read_back() {
    let stage = Stage::of(Behaviour { checksums: Checksums::PassedOver, e_tag_is_md5: false, ..Behaviour::default() });
    let host = stage.s3(HOST);
    host.put(NAME, BODY, None).await.expect("added");
    let got = stage.server.requests().iter().filter(|request| request.starts_with("GET")).count();
    assert_eq!(got, 1);
    stage.server.fault("GET", "other", 1, Fault::AnswerAltered);
    assert_eq!(host.put("other", BODY, None).await.expect_err("not what was sent").why, Why::Damaged);
}

#[tokio::test]
async fn who_may_not_is_told_what_to_change() {
    let stage = Stage::new();
    let error = async |settings: BucketSettings| {
        let s3 = S3::new(&settings, &stage.context).expect("a bucket");
        let error = s3.put(NAME, BODY, None).await.expect_err("refused");
        let shown = format!("{error} {error:?} {s3:?}");
        assert!(!shown.contains(HOST.secret_key) && !shown.contains("X-Amz-Signature"), "{shown}");
        error
    };
    let unknown = error(BucketSettings { access_key: "NOBODY".into(), ..stage.settings(HOST) }).await;
    assert!(unknown.why == Why::Refused && unknown.reason.contains("access key `NOBODY` is not known"), "{unknown}");
    let wrong = error(stage.settings(Identity { secret_key: "not this one", ..HOST })).await;
    assert!(
        wrong.why == Why::Refused && wrong.reason.contains("is not that of the access key `GARANTHOST`"),
        "{wrong}"
    );
    let elsewhere = error(BucketSettings { bucket: "nowhere".into(), ..stage.settings(HOST) }).await;
    assert!(elsewhere.why == Why::Refused && elsewhere.reason.contains("no bucket `nowhere`"), "{elsewhere}");
    // A bucket that is not there is no object that is missing: that would be taken for one that was destroyed.
    let s3 = S3::new(&BucketSettings { bucket: "nowhere".into(), ..stage.settings(HOST) }, &stage.context);
    let s3 = s3.expect("a bucket");
    assert_eq!(s3.get(NAME, None).await.expect_err("no bucket").why, Why::Refused);
    assert_eq!(s3.size(NAME).await.expect_err("no bucket").why, Why::Refused);
    assert_eq!(s3.list("", None).await.expect_err("no bucket").why, Why::Refused);
    stage.server.fault("PUT", "data", 1, Fault::Refused(507, "InsufficientStorage"));
    let full = error(stage.settings(HOST)).await;
    assert_eq!(full.why, Why::Full);
    let gone = BucketSettings { secret_key: SecretPlace::File("/nowhere/key".into()), ..stage.settings(HOST) };
    let gone = error(gone).await;
    assert!(gone.why == Why::Refused && gone.reason.contains("/nowhere/key"), "{gone}");
}

/// Signed at another time, a request is refused as if it were forged; the message names the clocks.
#[tokio::test]
async fn a_clock_that_is_off_is_told() {
    let stage = Stage::new();
    for off in [Span::from_secs(-7200), Span::from_secs(7200)] {
        let host = S3::new(&stage.settings(HOST), &context(now() + off)).expect("a bucket");
        let error = host.put(NAME, BODY, None).await.expect_err("refused");
        assert_eq!(error.why, Why::Unavailable);
        assert!(error.reason.contains("the clocks are too far apart") && error.reason.contains("NTP"), "{error}");
    }
}

#[tokio::test]
async fn the_bucket_may_be_in_the_host() {
    let stage = Stage::new();
    let settings = BucketSettings { path_style: false, endpoint: stage.server.domain(), ..stage.settings(HOST) };
    let host = S3::new(&settings, &stage.context).expect("a bucket");
    host.put(NAME, BODY, None).await.expect("added");
    assert!(stage.server.requests()[0].starts_with("PUT /garant/sets/"), "{:?}", stage.server.requests());
    assert_eq!(stage.s3(HOST).get(NAME, None).await.expect("the same bucket"), BODY);
}

#[test]
fn settings_that_name_no_bucket_are_refused() {
    let stage = Stage::new();
    let told = |change: &dyn Fn(&mut BucketSettings)| {
        let mut settings = stage.settings(HOST);
        change(&mut settings);
        let error = S3::new(&settings, &stage.context).expect_err("refused");
        assert_eq!(error.why, Why::Impossible);
        error.reason
    };
    for endpoint in ["http://s3.example", "http://10.0.0.1:9000", "ftp://s3.example"] {
        assert!(told(&|settings| settings.endpoint = endpoint.into()).contains("over https only"), "{endpoint}");
    }
    assert!(told(&|settings| settings.endpoint = "s3.example".into()).contains("is no URL"));
    assert!(told(&|settings| settings.endpoint = "https://a:b@s3.example".into()).contains("neither a name"));
    assert!(told(&|settings| settings.bucket = "a/b".into()).contains("`prefix`"));
    assert!(told(&|settings| settings.prefix = Some("a b".into())).contains("no name can begin so"));
    assert!(told(&|settings| settings.region = String::new()).contains("must not be empty"));
    for endpoint in ["https://s3.example", "http://[::1]:9000", "http://localhost:9000"] {
        let settings = BucketSettings { endpoint: endpoint.into(), prefix: None, ..stage.settings(HOST) };
        let s3 = S3::new(&settings, &stage.context).expect("a bucket");
        assert_eq!(s3.place(), format!("{endpoint}/{BUCKET}"));
    }
}

/// At a pace: the bytes are all there. How long it takes is the matter of `engine::http`.
#[tokio::test]
async fn at_a_pace_all_bytes_arrive() {
    let stage = Stage::new();
    let settings = BucketSettings { bytes_per_second_max: Some(4 * 1024 * 1024), ..stage.settings(HOST) };
    let host = S3::new(&settings, &stage.context).expect("a bucket");
    let body = Bytes::from(vec![7; 1024 * 1024]);
    host.put(NAME, body.clone(), None).await.expect("added");
    assert_eq!(host.get(NAME, None).await.expect("it is there"), body);
}

/// The largest object there is.
#[tokio::test]
async fn a_large_object_goes_and_comes() {
    let stage = Stage::new();
    let host = stage.s3(HOST);
    let body = Bytes::from(vec![7; OBJECT_BYTES_MAX]);
    host.put(NAME, body.clone(), in_days(1)).await.expect("added");
    assert!(host.get(NAME, None).await.expect("it is there") == body);
}
