//! Every answer that a witness can give, by an honest one and by one that lies.

#![expect(clippy::disallowed_methods, reason = "the witnesses of these tests listen")]

use std::sync::{Arc, Mutex};

use engine::Recorder;
use engine::clock::SystemClock;
use event::engine::Stopped;
use event::{BootId, Clock};
use journal::note::SigningKey;
use journal::witness::{self, WitnessState};
use store::sqlite::{Sqlite, SqliteOptions};
use store::{Proofs as _, Read as _};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

const ORIGIN: &str = "shop.example/1";

fn log_key() -> SigningKey {
    SigningKey::generate([1; 32], ORIGIN).expect("a name")
}

fn witness_key() -> SigningKey {
    SigningKey::generate([50; 32], "witness.example").expect("a name")
}

/// A log on disk.
struct Log {
    store: Arc<Sqlite>,
    recorder: Recorder,
    net: Net,
    keys: Vec<VerifierKey>,
    folder: TempDir,
}

impl Log {
    async fn of(kind: &str, entries: u64) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let observer: event::ObserverId = "server".parse().expect("a name");
        let options = SqliteOptions {
            dir: folder.path().join("data"),
            origin: ORIGIN.to_owned(),
            observer: observer.clone(),
            signers: vec![log_key()],
            remembered: Vec::new(),
            continues: None,
            clock: Arc::clone(&clock),
        };
        let store = Sqlite::open(options).expect("a new log");
        let recorder =
            Recorder::new(Arc::clone(&store) as _, observer, BootId::from_bytes([7; 16]), Arc::clone(&clock));
        let net = Net::new(&engine::net::NetOptions::default(), clock).expect("a network");
        let log = Self { store, recorder, net, keys: vec![log_key().vkey()], folder };
        log.grow(kind, entries).await;
        log
    }

    /// Until it has so many.
    async fn grow(&self, kind: &str, entries: u64) {
        while self.store.head().await.expect("a head").size < entries {
            let event = Stopped { engine: kind.to_owned(), in_time: true };
            self.recorder.record(&event).await.expect("recorded");
        }
    }

    async fn ask(&self, peer: &RemoteWitness, known: Option<u64>) -> WitnessAnswer {
        let head = self.store.head().await.expect("a head");
        self.ask_about(peer, &head, known).await
    }

    async fn ask_about(&self, peer: &RemoteWitness, head: &Head, known: Option<u64>) -> WitnessAnswer {
        let note = Note::parse(&head.note).expect("a note");
        let log = self.store.as_ref();
        peer.ask(&About { net: &self.net, log, keys: &self.keys, head, note: &note }, known).await
    }
}

fn peer_at(address: std::net::SocketAddr) -> RemoteWitness {
    RemoteWitness { name: "friend".to_owned(), url: format!("http://{address}/"), vkey: witness_key().cosigner_vkey() }
}

/// One scripted answer: status, content type, body.
type Line = (u16, &'static str, String);

/// What it is about, the answers, the size known before, and the contradiction expected.
type Case = (&'static str, Vec<Line>, Option<u64>, Option<u64>);

/// Somebody who answers requests, with the path of a GET or the body of a POST, by `answer`.
async fn answers(mut answer: impl FnMut(Result<&str, &str>) -> Line + Send + 'static) -> RemoteWitness {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let peer = peer_at(listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut request = Vec::new();
            let text = loop {
                let mut piece = [0; 4096];
                let read = stream.read(&mut piece).await.expect("readable");
                request.extend_from_slice(&piece[..read]);
                let text = String::from_utf8_lossy(&request).into_owned();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let length = head
                    .lines()
                    .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
                if body.len() >= length.unwrap_or(0) {
                    break text;
                }
            };
            let (head, body) = text.split_once("\r\n\r\n").expect("whole");
            let path = head.strip_prefix("GET /").and_then(|rest| rest.split_once(' ')).map(|(path, _)| path);
            let (status, content_type, body) = answer(path.ok_or(body));
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status} x\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
            stream.write_all(answer.as_bytes()).await.expect("writable");
        }
    });
    peer
}

/// An honest witness of the log.
async fn witness() -> RemoteWitness {
    let mut state = WitnessState::default();
    state.trust(log_key().vkey());
    let key = witness_key();
    answers(move |request| match request {
        Ok(path) => state
            .checkpoint_at(path)
            .map_or((404, "text/plain", String::new()), |note| (200, "text/plain", note.to_owned())),
        Err(body) => match witness::add_checkpoint(&mut state, &key, body, SystemClock.now()) {
            Ok(cosignature) => (200, "text/plain", cosignature),
            Err(refusal) => (refusal.status, refusal.content_type, refusal.body),
        },
    })
    .await
}

/// Somebody who answers each POST with the next line, the last for ever, and each GET with `shown`; and what was posted.
async fn scripted(lines: Vec<Line>, shown: Option<String>) -> (RemoteWitness, Arc<Mutex<Vec<String>>>) {
    let posted = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&posted);
    let peer = answers(move |request| match request {
        Ok(_) => shown.clone().map_or((404, "text/plain", String::new()), |note| (200, "text/plain", note)),
        Err(body) => {
            let mut seen = seen.lock().expect("no panic");
            seen.push(body.to_owned());
            lines[(seen.len() - 1).min(lines.len() - 1)].clone()
        }
    })
    .await;
    (peer, posted)
}

fn stands(size: u64) -> Line {
    (409, witness::SIZE_CONTENT_TYPE, format!("{size}\n"))
}

fn refuses() -> Line {
    (422, "text/plain", "no\n".to_owned())
}

fn contradicts(what: &str, answer: WitnessAnswer) -> Contradiction {
    match answer {
        WitnessAnswer::Contradicts(contradiction) => contradiction,
        other => panic!("{what}: {other:?}"),
    }
}

fn fails(what: &str, answer: WitnessAnswer) -> String {
    match answer {
        WitnessAnswer::Failed { why, .. } => why,
        other => panic!("{what}: {other:?}"),
    }
}

#[tokio::test]
async fn a_log_that_grows_is_cosigned() {
    let (log, witness) = (Log::of("leaf", 5).await, witness().await);
    for (size, known) in [(5, None), (9, Some(5)), (9, None), (40, Some(3))] {
        log.grow("leaf", size).await;
        let answer = log.ask(&witness, known).await;
        assert!(matches!(answer, WitnessAnswer::Cosigned(_)), "{size}: {answer:?}");
    }
}

/// The copy that was put back: shorter than what the witness saw, of the same size, or longer by now.
#[tokio::test]
async fn a_second_history_is_found_and_proved() {
    let (true_log, witness) = (Log::of("leaf", 21).await, witness().await);
    assert!(matches!(true_log.ask(&witness, None).await, WitnessAnswer::Cosigned(_)));
    let fork = Log::of("another", 10).await;
    for (size, known) in
        [(10, Some(10)), (10, None), (21, Some(21)), (21, None), (35, Some(21)), (35, Some(35)), (35, None)]
    {
        fork.grow("another", size).await;
        let what = format!("{size} entries, {known:?} known");
        let found = contradicts(&what, fork.ask(&witness, known).await);
        assert_eq!((found.seen, found.own), (21, size), "{what}");
        let proof = found.proof.as_deref().expect("the witness shows what it has seen");
        let proof = checkpoint::open(proof, &[log_key().vkey()]).expect("signed by the log").checkpoint;
        assert_eq!(proof.root, true_log.store.root_at(21).await.expect("a root"), "{what}");
    }
    assert!(matches!(true_log.ask(&witness, None).await, WitnessAnswer::Cosigned(_)), "the true one goes on");
}

/// At the start the proof is remembered, and keeps the next start from signing even when the witness is silent.
#[tokio::test]
async fn a_start_is_refused_and_its_reason_kept() {
    let (true_log, witness) = (Log::of("leaf", 21).await, witness().await);
    assert!(matches!(true_log.ask(&witness, None).await, WitnessAnswer::Cosigned(_)));
    let fork = Log::of("another", 35).await;
    let data = fork.folder.path().join("data");
    let heads = RememberedHeads::beside(&data);
    let peers = [witness];
    let refused = refuse_a_fork(&fork.net, fork.store.as_ref(), &fork.keys, &peers, &heads).await;
    let refused = refused.expect_err("another history");
    assert!(refused.to_string().contains("friend contradicts this log"), "{refused}");
    assert!(refused.what_to_do().is_some_and(|remedy| remedy.contains("garant log continue")));
    let kept = heads.of_log(&data, &fork.keys).await.expect("a checkpoint of this log");
    assert_eq!((kept[0].size, kept[0].root), (21, true_log.store.root_at(21).await.expect("a root")));

    let data = true_log.folder.path().join("data");
    let heads = RememberedHeads::beside(&data);
    let allowed = refuse_a_fork(&true_log.net, true_log.store.as_ref(), &true_log.keys, &peers, &heads).await;
    allowed.expect("the true history");
    let kept = heads.of_log(&data, &true_log.keys).await.expect("a checkpoint");
    assert_eq!(kept[0].size, 21, "what was shown to the witness was remembered before");
}

/// A witness that shows no checkpoint is believed when it says so in full, and only then.
#[tokio::test]
async fn what_is_believed_without_proof() {
    let log = Log::of("leaf", 20).await;
    let html = (422, "text/html", "<html>blocked</html>".to_owned());
    let unavailable = (503, "text/plain", "not now\n".to_owned());
    let cases: Vec<Case> = vec![
        ("beyond, twice", vec![stands(900)], None, Some(900)),
        ("refuses a proof from where it stands", vec![stands(7), refuses(), stands(7)], None, Some(7)),
        ("the same, known before", vec![refuses(), stands(7)], Some(7), Some(7)),
        ("the same, known wrongly before", vec![refuses(), stands(9), refuses(), stands(9)], Some(7), Some(9)),
        ("another root of the same size", vec![(409, "text/plain", "no\n".to_owned()), stands(20)], Some(20), Some(20)),
        ("422 alone", vec![refuses()], Some(7), None),
        ("422 alone, at the first time", vec![refuses()], None, None),
        ("422, and then no size", vec![refuses(), unavailable.clone()], Some(7), None),
        ("a size without its type", vec![(409, "text/plain", "900\n".to_owned())], None, None),
        ("beyond, and then not", vec![stands(900), stands(7), unavailable.clone()], None, None),
        ("any number", vec![stands(7), stands(8), stands(9), stands(10), stands(11), stands(12)], None, None),
        ("refuses where it stands not", vec![refuses(), stands(9), unavailable.clone()], Some(7), None),
        ("409 for where it stands", vec![stands(7)], Some(7), None),
        ("409 without a size", vec![(409, "text/plain", "no\n".to_owned())], Some(7), None),
        ("a proxy", vec![html], Some(7), None),
        ("unavailable", vec![unavailable], Some(7), None),
        ("200 with nonsense", vec![(200, "text/plain", "<html>".to_owned())], Some(7), None),
        ("unknown log", vec![(404, "text/plain", "no\n".to_owned())], None, None),
    ];
    for (what, lines, known, expected) in cases {
        let (peer, posted) = scripted(lines, None).await;
        let answer = log.ask(&peer, known).await;
        match expected {
            Some(seen) => {
                let found = contradicts(what, answer);
                assert_eq!((found.seen, found.own, found.proof.is_none()), (seen, 20, true), "{what}");
                assert!(found.remedy().contains("take it out of"), "{what}");
            }
            None => drop(fails(what, answer)),
        }
        assert!(posted.lock().expect("no panic").len() <= REQUESTS_MAX as usize, "{what}");
    }
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    fails("nobody there", log.ask(&peer_at(gone), None).await);
}

/// What a lying witness shows is looked at: only what the log's own key signed proves anything.
#[tokio::test]
async fn a_lie_is_no_proof() {
    let log = Log::of("leaf", 20).await;
    let script = || vec![stands(7), refuses(), stands(7)];
    let root = log.store.root_at(7).await.expect("a root");
    let agreeing = journal::checkpoint::Checkpoint { origin: ORIGIN.to_owned(), size: 7, root };
    let (peer, _) = scripted(script(), Some(agreeing.sign(&[&log_key()]))).await;
    let why = fails("it shows what we have", log.ask(&peer, None).await);
    assert!(why.contains("broken"), "{why}");

    let other = journal::checkpoint::Checkpoint { root: journal::Hash::of(&[b"lie"]), ..agreeing.clone() };
    let forged = SigningKey::generate([2; 32], ORIGIN).expect("a name");
    let (peer, _) = scripted(script(), Some(other.sign(&[&forged]))).await;
    let found = contradicts("signed by another key", log.ask(&peer, None).await);
    assert!(found.proof.is_none(), "its word stands, and is not proved");

    let foreign = SigningKey::generate([1; 32], "other.example/1").expect("a name");
    let foreign =
        journal::checkpoint::Checkpoint { origin: "other.example/1".to_owned(), ..other.clone() }.sign(&[&foreign]);
    let (peer, _) = scripted(script(), Some(foreign)).await;
    assert!(contradicts("of another log", log.ask(&peer, None).await).proof.is_none());

    let (peer, _) = scripted(script(), Some(other.sign(&[&log_key()]))).await;
    assert!(contradicts("signed by the log", log.ask(&peer, None).await).proof.is_some());
}

/// The witness was shown a newer checkpoint while it was asked about an older: no contradiction.
#[tokio::test]
async fn a_log_may_grow_meanwhile() {
    let log = Log::of("leaf", 20).await;
    let head = log.store.head().await.expect("a head");
    log.grow("leaf", 25).await;
    let (peer, _) = scripted(vec![stands(25)], None).await;
    assert!(matches!(log.ask_about(&peer, &head, None).await, WitnessAnswer::Failed { known: Some(25), .. }));
}

/// What is proposed to readers, they can read, whatever the team calls its witnesses.
#[test]
fn the_proposed_policy_is_one() {
    let key = |seed: u8| SigningKey::generate([seed; 32], "w.example/1").expect("a name").cosigner_vkey();
    let peer = |name: &str, seed| RemoteWitness {
        name: name.to_owned(),
        url: "https://w.example/".to_owned(),
        vkey: key(seed),
    };
    let check = |peers: &[RemoteWitness], names: &[&str], threshold: usize| {
        let text = proposed_policy(&log_key().vkey(), "https://shop.example/log/", peers);
        let policy = TlogPolicy::parse(&text).unwrap_or_else(|error| panic!("{error}:\n{text}"));
        let found: Vec<_> = policy.witnesses.iter().map(|witness| witness.name.as_str()).collect();
        assert_eq!(found, names, "{text}");
        assert!(policy.witnesses.iter().all(|w| w.url.as_deref() == Some("https://w.example")), "{text}");
        assert_eq!(policy.groups.first().map_or(0, |group| group.threshold), threshold, "{text}");
    };
    check(&[], &[], 0);
    check(&[peer("friend", 1)], &["friend"], 1);
    check(&[peer("w", 1), peer("w", 2), peer("w-2", 3)], &["w", "w-2", "w-2-2"], 2);
    check(&[peer("witnesses", 1), peer("none", 2), peer("", 3)], &["witnesses-2", "none-2", "witness"], 2);
    check(&[peer(" our\tfriend in\nLyon ", 1), peer("é/+#", 2)], &["our-friend-in-Lyon", "é/+#"], 2);
    check(&[peer("a", 1), peer("the same key again", 1)], &["a"], 1);
}
