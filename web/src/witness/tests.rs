use std::sync::Mutex as Blocking;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};

use axum::http::Method;
use journal::note::Note;
use journal::testing::{Log, test_key};
use journal::tree;

use super::*;
use crate::fake::{Answer, NOW, Stopped, ask, log_with};

#[derive(Default)]
struct InMemory {
    kept: Blocking<Option<witness::WitnessState>>,
    evidence: Blocking<Vec<String>>,
    writes: AtomicUsize,
    broken: AtomicBool,
}

impl Persist for InMemory {
    fn persist(&self, state: &witness::WitnessState) -> io::Result<()> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(io::Error::other("the disk is full"));
        }
        self.writes.fetch_add(1, Ordering::Relaxed);
        *self.kept.lock().expect("no panic") = Some(state.clone());
        Ok(())
    }

    fn accuse(&self, fork: &Fork) -> io::Result<()> {
        self.evidence.lock().expect("no panic").push(fork.to_string());
        Ok(())
    }
}

fn witness_of(log: &Log) -> (Arc<Witness>, Arc<InMemory>) {
    let mut state = witness::WitnessState::default();
    state.trust(log.keys[0].vkey());
    let memory = Arc::new(InMemory::default());
    let clock = Arc::new(Stopped);
    let witness = Witness::new(test_key(9, "witness.example"), state, memory.clone(), clock);
    (Arc::new(witness), memory)
}

fn request(log: &Log, old: u64, new: u64) -> String {
    let proof = tree::prove_consistency(old, new, &log.tree(log.entries.len())).expect("within the log");
    witness::encode_request(old, &proof, &log.checkpoint(usize::try_from(new).expect("small")))
}

async fn send(witness: &Arc<Witness>, request: impl Into<Body>) -> Answer {
    ask(router(Arc::clone(witness)), Method::POST, "/add-checkpoint", &[], request.into()).await
}

/// BX-2, BX-4: what a log and its witness say to each other.
#[tokio::test]
async fn a_witness_follows_a_log() {
    let log = log_with(40);
    let (witness, memory) = witness_of(&log);
    for (old, new) in [(0, 5), (5, 5), (5, 32), (32, 40)] {
        let answer = send(&witness, request(&log, old, new)).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        let note = Note::parse(&log.checkpoint(usize::try_from(new).expect("small"))).expect("a note");
        let key = test_key(9, "witness.example").cosigner_vkey();
        let (_line, at) = witness::accept_answer(&note, answer.text(), &key).expect("a cosignature");
        assert_eq!(at, NOW);
        let kept = memory.kept.lock().expect("no panic").clone().expect("it was persisted before the answer");
        assert_eq!(kept.logs["shop.example/1"].size, new);
    }
    let stale = send(&witness, request(&log, 5, 40)).await;
    assert_eq!(
        (stale.status, stale.text(), stale.header("content-type")),
        (StatusCode::CONFLICT, "40\n", "text/x.tlog.size")
    );
}

#[tokio::test]
async fn refusals_have_the_status_of_the_specification() {
    let log = log_with(40);
    let (witness, _memory) = witness_of(&log);
    let stranger = Log::new("other.example/1", 5);
    let mut impostor = log.clone();
    impostor.keys = vec![test_key(77, "shop.example/1")];
    let good = request(&log, 0, 5);
    for (request, expected) in [
        (request(&stranger, 0, 1), 404),
        (request(&impostor, 0, 5), 403),
        (good.replacen("old 0", "old 6", 1), 400),
        ("old 0".to_owned(), 400),
        (String::new(), 400),
    ] {
        let answer = send(&witness, request.clone()).await;
        assert_eq!(answer.status.as_u16(), expected, "{request}: {}", answer.text());
    }
    let not_text = send(&witness, vec![0xff, 0xfe]).await;
    assert_eq!(not_text.status, StatusCode::BAD_REQUEST);
    let huge = send(&witness, vec![b'x'; REQUEST_BYTES_MAX + 1]).await;
    assert_eq!(huge.status, StatusCode::PAYLOAD_TOO_LARGE);
    let wrong_method = ask(router(Arc::clone(&witness)), Method::GET, "/add-checkpoint", &[], Body::empty()).await;
    assert_eq!(wrong_method.status, StatusCode::METHOD_NOT_ALLOWED);
}

/// A witness that can't remember must not sign: after a crash it would sign the other branch as well.
#[tokio::test]
async fn nothing_is_signed_that_is_not_remembered() {
    let log = log_with(40);
    let (witness, memory) = witness_of(&log);
    assert_eq!(send(&witness, request(&log, 0, 5)).await.status, StatusCode::OK);
    memory.broken.store(true, Ordering::Relaxed);
    let answer = send(&witness, request(&log, 5, 32)).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(!answer.text().contains('—'), "no cosignature: {}", answer.text());
    memory.broken.store(false, Ordering::Relaxed);
    let again = send(&witness, request(&log, 5, 32)).await;
    assert_eq!(again.status, StatusCode::OK, "it still stands at 5: {}", again.text());
}

#[tokio::test]
async fn a_fork_is_refused_and_kept_as_evidence() {
    let log = log_with(40);
    let mut fork = log_with(30);
    fork.append_text("some.other_history", 1, "some.other_history", "{}");
    for number in 31..40 {
        fork.append_text("some.future_kind", 1, "some.future_kind", &format!("{{\"number\":{number}}}"));
    }
    let (witness, memory) = witness_of(&log);
    assert_eq!(send(&witness, request(&log, 0, 35)).await.status, StatusCode::OK);
    let forked = send(&witness, request(&fork, 35, 40)).await;
    assert_eq!(forked.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", forked.text());
    let evidence = memory.evidence.lock().expect("no panic").clone();
    assert_eq!(evidence.len(), 1);
    for head in [log.head(35), fork.head(40)] {
        let signed = head.sign(&[&log.keys[0]]);
        assert!(evidence[0].contains(&signed), "{signed} in {}", evidence[0]);
    }
    assert_eq!(memory.kept.lock().expect("no panic").clone().expect("kept").logs["shop.example/1"].size, 35);
}

/// A reader of the log sends its newest checkpoint with nonsense for a proof. That convicts nobody, and what convicts later
/// still finds its place.
#[tokio::test]
async fn strangers_plant_no_evidence() {
    let log = log_with(40);
    let (witness, memory) = witness_of(&log);
    assert_eq!(send(&witness, request(&log, 0, 35)).await.status, StatusCode::OK);
    let mut nonsense = tree::prove_consistency(35, 40, &log.tree(40)).expect("within the log");
    nonsense[1] = tree::EMPTY_ROOT;
    let planted = witness::encode_request(35, &nonsense, &log.checkpoint(40));
    assert_eq!(send(&witness, planted).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(memory.evidence.lock().expect("no panic").len(), 0);
}

#[tokio::test]
async fn the_latest_checkpoint_is_shown() {
    let log = log_with(40);
    let (witness, _memory) = witness_of(&log);
    let path = format!("/{}", witness::checkpoint_path("shop.example/1"));
    let shown = || ask(router(Arc::clone(&witness)), Method::GET, &path, &[], Body::empty());
    assert_eq!(shown().await.status, StatusCode::NOT_FOUND, "nothing was cosigned yet");
    assert_eq!(send(&witness, request(&log, 0, 35)).await.status, StatusCode::OK);
    let answer = shown().await;
    assert_eq!((answer.status, answer.header("content-type")), (StatusCode::OK, "text/plain; charset=utf-8"));
    let note = Note::parse(answer.text()).expect("a note");
    assert_eq!(note.signed_by(&[log.keys[0].vkey()]).expect("signed by the log").len(), 1);
    let witness_key = test_key(9, "witness.example").cosigner_vkey();
    assert_eq!(journal::cosignature::cosigners(&note, [&witness_key]).expect("it verifies").len(), 1);
}

/// A clock that a test moves.
struct Moved(AtomicI64);

impl Clock for Moved {
    fn now(&self) -> event::Time {
        NOW
    }
    fn monotonic(&self) -> Monotonic {
        Monotonic(self.0.load(Ordering::Relaxed))
    }
}

/// Steps forward are written to the disk, so there are so many; the same checkpoint again costs no write.
#[tokio::test]
async fn a_log_may_take_so_many_steps() {
    let log = log_with(40);
    let (_, memory) = witness_of(&log);
    let mut state = witness::WitnessState::default();
    state.trust(log.keys[0].vkey());
    let clock = Arc::new(Moved(AtomicI64::new(0)));
    let witness = Witness::new(test_key(9, "witness.example"), state, memory.clone(), clock.clone());
    let witness = Arc::new(witness);
    for old in 0..16 {
        assert_eq!(send(&witness, request(&log, old, old + 1)).await.status, StatusCode::OK, "step {old}");
        assert_eq!(send(&witness, request(&log, old + 1, old + 1)).await.status, StatusCode::OK, "again {old}");
    }
    assert_eq!(memory.writes.load(Ordering::Relaxed), 16);
    assert_eq!(send(&witness, request(&log, 16, 17)).await.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(send(&witness, request(&log, 16, 16)).await.status, StatusCode::OK, "it still stands at 16");
    clock.0.store(1_000_000, Ordering::Relaxed);
    assert_eq!(send(&witness, request(&log, 16, 17)).await.status, StatusCode::OK, "a second later");
    assert_eq!(send(&witness, request(&log, 17, 18)).await.status, StatusCode::TOO_MANY_REQUESTS);
}

/// Of two requests that continue the same checkpoint, one is granted: they are taken one at a time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_at_a_time() {
    let log = log_with(40);
    let (witness, _memory) = witness_of(&log);
    let requests: Vec<_> = (1..=16).map(|new| request(&log, 0, new)).collect();
    let tasks = requests.into_iter().map(|request| {
        let witness = Arc::clone(&witness);
        tokio::spawn(async move { send(&witness, request).await.status })
    });
    let mut granted = 0;
    for task in tasks.collect::<Vec<_>>() {
        match task.await.expect("no panic") {
            StatusCode::OK => granted += 1,
            status => assert_eq!(status, StatusCode::CONFLICT),
        }
    }
    assert_eq!(granted, 1);
}
