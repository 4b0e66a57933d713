//! Copies a log over HTTP into a folder, for `garant verify` of a URL.
//!
//! **Problem.** The log grows while it is copied, and the files beside its tree change with it. And the server may be none of a
//! log at all, but one that wants to keep its reader busy or fill the disk.
//!
//! So first come the checkpoint and the files beside the tree, read between two readings of the same checkpoint: together
//! they are one state. Then the checkpoint must be signed by a key that the reader named, before anything is copied because
//! of the size in it. Then the tree below it, which never changes, several files at a time; the first one that is missing
//! ends it. Each file has a bound, so has all of it, and it can be watched.
//!
//! Any web server may serve a log, and some answer with a page of their own where a file is not there, as if it were: a page
//! (HTML) is no file of a log, and stands for none. Files are wanted as they are, not packed, and a server that packs them all
//! the same is told from one that alters them.

use std::path::Path;
use std::sync::Arc;

use engine::Failure;
use engine::clock::SystemClock;
use engine::http::{Request, Response, header};
use engine::net::{Net, NetOptions};
use event::Span;
use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use journal::audit::{Directory, Trust};
use journal::checkpoint::Checkpoint;
use journal::export::{self, ExportSink as _, ListedVerdict};
use journal::note::{Note, VerifierKey};
use journal::tile::{bundles_for, tiles_for};

/// Deadline of one file.
const WITHIN: Span = Span::from_secs(60);
const REDIRECTS_MAX: u8 = 3;
/// Number of files that are fetched at the same time.
const AT_ONCE: usize = 8;
/// Attempts to read one state. A log that is published each second leaves a second for five small files.
const STATES_MAX: u32 = 30;

/// Largest entry bundle: 256 leaves of the largest size, each after two bytes of its length.
const ENTRIES_BYTES_MAX: usize = 256 * 65_537;
/// Largest tile: 256 hashes.
const TILE_BYTES_MAX: usize = 256 * 32;
/// Largest payload bundle: what our own server serves at most; `garant log export` writes larger ones.
const PAYLOADS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Largest checkpoint with its cosignatures, key, trust policy, or list of rotations.
const SMALL_BYTES_MAX: usize = 1024 * 1024;
/// Largest policy, list of verdicts, or proof.
const JSON_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most bytes of all files together.
const TOTAL_BYTES_MAX: u64 = 16 * 1024 * 1024 * 1024;
/// Most verdicts whose proofs are fetched.
const PROOFS_MAX: usize = 65_536;
/// Least bytes of an entry: a leaf with its length.
const ENTRY_BYTES_MIN: u64 = 90;

/// A callback with the number of files copied and the number of all.
pub type CopyProgress<'a> = &'a mut dyn FnMut(u64, u64);

/// Copies the log at the URL `source` into `folder`, if `trust` gives reason to: see [the module](self).
pub async fn copy(source: &str, folder: &Path, trust: &Trust, progress: CopyProgress<'_>) -> Result<(), Failure> {
    let net = Net::new(&NetOptions::default(), Arc::new(SystemClock))
        .map_err(|error| Failure::new("the certificates that this machine trusts can't be read").because(&error))?;
    let base = format!("{}/", source.trim_end_matches('/'));
    let mirror = Mirror { net, base, source, total_max: TOTAL_BYTES_MAX };
    mirror.copy(&mut Directory::new(folder), trust, progress).await
}

struct Mirror<'a> {
    net: Net,
    base: String,
    source: &'a str,
    total_max: u64,
}

/// A file to be fetched.
struct Wanted {
    path: String,
    bytes_max: usize,
    /// Whether every log of that size has it.
    required: bool,
}

/// The checkpoint and the files beside the tree, all of one state of the log.
struct LogState {
    note: Vec<u8>,
    checkpoint: Checkpoint,
    beside: Vec<(&'static str, Option<Vec<u8>>)>,
}

impl LogState {
    fn file(&self, path: &str) -> Option<&[u8]> {
        self.beside.iter().find(|(name, _)| *name == path)?.1.as_deref()
    }
}

impl Mirror<'_> {
    async fn copy(&self, folder: &mut Directory, trust: &Trust, progress: CopyProgress<'_>) -> Result<(), Failure> {
        let state = self.state().await?;
        self.trusted(&state, trust)?;
        let size = state.checkpoint.size;
        if size.saturating_mul(ENTRY_BYTES_MIN) > self.total_max {
            return Err(self.too_large(&format!("its checkpoint speaks of {size} entries")));
        }
        let listed: Vec<ListedVerdict> =
            state.file(export::VERDICTS).and_then(|text| serde_json::from_slice(text).ok()).unwrap_or_default();
        // What can't be read here, or is too much, is a fault that the audit reports.
        let proofs = listed.iter().take(PROOFS_MAX).map(|verdict| Wanted {
            path: export::proof_path(verdict.sequence),
            bytes_max: JSON_BYTES_MAX,
            required: false,
        });

        let bundles = bundles_for(size).flat_map(|bundle| {
            let entries = Wanted { path: bundle.entries_path(), bytes_max: ENTRIES_BYTES_MAX, required: true };
            let payloads = Wanted { path: bundle.payload_path(), bytes_max: PAYLOADS_BYTES_MAX, required: false };
            [entries, payloads]
        });
        let tiles = tiles_for(size).map(|tile| Wanted { path: tile.path(), bytes_max: TILE_BYTES_MAX, required: true });
        let count = (bundles_for(size).count() * 2 + tiles_for(size).count() + listed.len().min(PROOFS_MAX)) as u64;
        progress(0, count);
        let mut files = stream::iter(bundles.chain(tiles).chain(proofs))
            .map(|wanted| async move {
                let bytes = self.file(&wanted.path, wanted.bytes_max).await?;
                if bytes.is_none() && wanted.required {
                    return Err(self.missing(&wanted.path));
                }
                Ok((wanted.path, bytes))
            })
            .buffer_unordered(AT_ONCE);
        let (mut done, mut total) = (0, 0u64);
        while let Some(fetched) = files.next().await {
            let (path, bytes) = fetched?;
            done += 1;
            progress(done, count);
            let Some(bytes) = bytes else { continue };
            total = total.saturating_add(bytes.len() as u64);
            if total > self.total_max {
                return Err(self.too_large("it goes on"));
            }
            write(folder, &path, &bytes)?;
        }
        for (path, bytes) in &state.beside {
            if let Some(bytes) = bytes {
                write(folder, path, bytes)?;
            }
        }
        write(folder, export::CHECKPOINT, &state.note)
    }

    /// Reads the checkpoint and the files beside the tree until the checkpoint is the same before and after them.
    async fn state(&self) -> Result<LogState, Failure> {
        const BESIDE: [(&str, usize); 5] = [
            (export::VKEY, SMALL_BYTES_MAX),
            (export::TLOG_POLICY, SMALL_BYTES_MAX),
            (export::ROTATIONS, SMALL_BYTES_MAX),
            (export::POLICY, JSON_BYTES_MAX),
            (export::VERDICTS, JSON_BYTES_MAX),
        ];
        let mut head = self.head().await?;
        for _ in 0..STATES_MAX {
            let files = join_all(BESIDE.map(|(path, bytes_max)| self.file(path, bytes_max))).await;
            let files = files.into_iter().collect::<Result<Vec<_>, _>>()?;
            let again = self.head().await?;
            if again.1 == head.1 {
                let (note, checkpoint) = again;
                return Ok(LogState {
                    note,
                    checkpoint,
                    beside: BESIDE.iter().map(|(path, _)| *path).zip(files).collect(),
                });
            }
            head = again;
        }
        Err(Failure::new(format!("the log at {} moves on faster than it can be copied", self.source))
            .remedy("try again from a place that is nearer to it, or ask its owner for an export"))
    }

    async fn head(&self) -> Result<(Vec<u8>, Checkpoint), Failure> {
        let bytes = self.file(export::CHECKPOINT, SMALL_BYTES_MAX).await?.ok_or_else(|| {
            Failure::new(format!("there is no log at {}", self.source))
                .remedy("name the address that ends with /log/, as the trust page shows it; is the log published?")
        })?;
        let unreadable = |error: &(dyn std::error::Error + 'static)| {
            Failure::new(format!("what {} calls its checkpoint is none", self.source)).because(error)
        };
        let note = Note::parse(&String::from_utf8_lossy(&bytes)).map_err(|error| unreadable(&error))?;
        let checkpoint = Checkpoint::parse(&note.text).map_err(|error| unreadable(&error))?;
        Ok((bytes, checkpoint))
    }

    /// Fails unless the checkpoint is signed by a key that the reader named, or by a successor of one. The audit judges it again with
    /// all entries about keys; this only keeps a stranger from making the reader copy as much as a false checkpoint says.
    fn trusted(&self, state: &LogState, trust: &Trust) -> Result<(), Failure> {
        let origin = &state.checkpoint.origin;
        let beside: Option<VerifierKey> = state
            .file(export::VKEY)
            .and_then(|line| String::from_utf8_lossy(line).trim().parse().ok())
            .filter(|key: &VerifierKey| key.name() == origin);
        let of_policy = trust.policy.iter().flat_map(journal::tlog_policy::TlogPolicy::log_keys);
        let mut pinned: Vec<VerifierKey> = trust.vkey.iter().cloned().chain(of_policy).collect();
        let nobody = pinned.is_empty() && trust.fingerprints.is_empty();
        // A fingerprint is of the key beside the log, or of one before that: the audit knows when it has read the entries.
        pinned.extend(beside.clone().filter(|key| nobody || trust.fingerprints.contains(&key.fingerprint())));
        if pinned.is_empty() && state.file(export::ROTATIONS).is_some() {
            return Ok(());
        }
        let signed = |note: &Note, keys: &[VerifierKey]| note.signed_by(keys).is_ok();
        let parse = |bytes: &[u8]| Note::parse(&String::from_utf8_lossy(bytes)).ok();
        let Some(head) = parse(&state.note) else { return Err(self.strange()) };
        let by_pinned = signed(&head, &pinned);
        // A reader who pinned a key that was replaced since follows the notes that both keys signed.
        let rotations = state.file(export::ROTATIONS).map(String::from_utf8_lossy).unwrap_or_default();
        let led_on = Note::parse_many(&rotations).unwrap_or_default().iter().any(|note| signed(note, &pinned));
        let by_next = beside.is_some_and(|key| signed(&head, &[key]));
        if by_pinned || (led_on && by_next) { Ok(()) } else { Err(self.strange()) }
    }

    fn strange(&self) -> Failure {
        Failure::new(format!(
            "the checkpoint at {} is not signed by the key that you trust, or that lies beside it",
            self.source
        ))
        .remedy("it is another log, or somebody else's; ask its owner for the key, by another way than this address")
    }

    fn missing(&self, path: &str) -> Failure {
        Failure::new(format!("{}{path} is not there, and a log of that size has it", self.base))
            .remedy("try again; if it stays so, the log is not served whole, and nothing of it is proved either way")
    }

    fn too_large(&self, why: &str) -> Failure {
        let most = self.total_max / (1024 * 1024);
        Failure::new(format!("the log at {} is larger than the {most} MiB that are copied: {why}", self.source))
            .remedy("copy its files with a tool of your own, or ask its owner for an export, and verify the folder")
    }

    /// Fetches one file; `None` when there is none.
    async fn file(&self, path: &str, bytes_max: usize) -> Result<Option<Vec<u8>>, Failure> {
        let url = format!("{}{path}", self.base);
        let request = Request::get(url.clone())
            .header("Accept-Encoding", "identity")
            .within(WITHIN)
            .body_bytes_max(bytes_max)
            .redirects_max(REDIRECTS_MAX);
        let response = request
            .send(&self.net)
            .await
            .map_err(|error| Failure::new(format!("{url} can't be fetched")).because(&error))?;
        match response.status {
            200 if is_packed(&response) => Err(Failure::new(format!(
                "{url} comes packed (Content-Encoding), and was asked for as it is: nothing of the log is proved either way"
            ))
            .remedy("have the server send the files of the log without compression, or verify an export in a folder")),
            200 if is_page(&response.body) => Ok(None),
            200 => Ok(Some(response.body.to_vec())),
            404 => Ok(None),
            status => Err(Failure::new(format!("{url} answers {status}"))),
        }
    }
}

/// Whether the bytes are not those of the file (RFC 9110, section 8.4).
fn is_packed(response: &Response) -> bool {
    let codings = response.headers.get_all(header::CONTENT_ENCODING).iter().map(|value| value.as_bytes().trim_ascii());
    codings.into_iter().any(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"))
}

/// Whether it is a web page: no file of a log begins so.
fn is_page(body: &[u8]) -> bool {
    let start = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii_start();
    let begins = |with: &[u8]| start.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
    [b"<!doctype".as_slice(), b"<html", b"<head", b"<!--"].into_iter().any(begins)
}

fn write(folder: &mut Directory, path: &str, bytes: &[u8]) -> Result<(), Failure> {
    folder
        .write(path, bytes)
        .map_err(|error| Failure::new(format!("the copy of {path} can't be written")).because(&error))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use journal::audit::audit;
    use journal::note::SigningKey;
    use journal::testing::{Files, Log, policy_of, test_key, verdict};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    const ORIGIN: &str = "shop.example/1";

    fn log(entries: usize) -> Log {
        let mut log = Log::new(ORIGIN, 1);
        log.append(&policy_of(&[("AV-1", "r1", 1)]));
        for _ in 0..entries {
            log.advance(Span::from_secs(60));
            log.append_text("future.kind", 1, "future.kind", "{}");
        }
        let verdict = verdict(&log, "AV-1", "r1", 0);
        log.append(&verdict);
        log
    }

    fn trust(key: &SigningKey) -> Trust {
        Trust { vkey: Some(key.vkey()), ..Trust::default() }
    }

    /// How a packed file begins (RFC 1952, section 2.3.1).
    const GZIP: &[u8] = b"\x1f\x8b";

    /// What somebody answers.
    type Answer = dyn Fn(&str) -> Option<Vec<u8>> + Send + Sync;

    /// A server on the loopback that answers so; how often it was asked.
    async fn serve(answer: Arc<Answer>) -> (String, Arc<AtomicUsize>) {
        #[expect(clippy::disallowed_methods, reason = "the test is the other side")]
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}/log/", listener.local_addr().expect("bound"));
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (answer, count) = (Arc::clone(&answer), Arc::clone(&count));
                tokio::spawn(async move {
                    let mut request = Vec::new();
                    while !request.ends_with(b"\r\n\r\n") {
                        let mut byte = [0];
                        if stream.read_exact(&mut byte).await.is_err() {
                            return;
                        }
                        request.push(byte[0]);
                    }
                    count.fetch_add(1, Ordering::Relaxed);
                    let request = String::from_utf8_lossy(&request).into_owned();
                    let path =
                        request.split(' ').nth(1).and_then(|path| path.strip_prefix("/log/")).unwrap_or_default();
                    // What is not asked for as it is comes packed.
                    let as_it_is = request.to_ascii_lowercase().contains("\r\naccept-encoding: identity\r\n");
                    let packed = if as_it_is { "" } else { "content-encoding: gzip\r\n" };
                    let (status, body) = answer(path).map_or(("404 Not Found", Vec::new()), |body| ("200 OK", body));
                    let packed = if body.starts_with(GZIP) { "content-encoding: gzip\r\n" } else { packed };
                    let length = body.len();
                    let head =
                        format!("HTTP/1.1 {status}\r\n{packed}content-length: {length}\r\nconnection: close\r\n\r\n");
                    // A reader that has enough goes away.
                    drop(stream.write_all(&[head.as_bytes(), &body].concat()).await);
                });
            }
        });
        (base, asked)
    }

    fn serves(files: Files) -> Arc<Answer> {
        Arc::new(move |path: &str| files.0.get(path).cloned())
    }

    struct Copied {
        outcome: Result<(), Failure>,
        folder: tempfile::TempDir,
        asked: usize,
    }

    impl Copied {
        fn message(&self) -> String {
            self.outcome.as_ref().expect_err("refused").to_string()
        }
    }

    async fn copied_within(answer: Arc<Answer>, trust: &Trust, total_max: u64) -> Copied {
        let (base, asked) = serve(answer).await;
        let folder = tempfile::tempdir().expect("a folder");
        let net = Net::new(&NetOptions::default(), Arc::new(SystemClock)).expect("a network");
        let mirror = Mirror { net, base: base.clone(), source: &base, total_max };
        let outcome = mirror.copy(&mut Directory::new(folder.path()), trust, &mut |_, _| ()).await;
        Copied { outcome, folder, asked: asked.load(Ordering::Relaxed) }
    }

    async fn copied(answer: Arc<Answer>, trust: &Trust) -> Copied {
        copied_within(answer, trust, TOTAL_BYTES_MAX).await
    }

    #[tokio::test]
    async fn an_honest_log_is_copied_whole() {
        let log = log(600);
        let files = log.export();
        let trust = trust(&log.keys[0]);
        let copied = copied(serves(files.clone()), &trust).await;
        copied.outcome.expect("copied");
        let copy = Directory::new(copied.folder.path());
        for (path, bytes) in &files.0 {
            let there = journal::audit::ExportSource::read(&copy, path).expect("readable");
            assert_eq!(there.as_ref(), Some(bytes), "{path}");
        }
        audit(&copy, &trust, &mut |_| (), &mut |_, _| ()).expect("it holds");
    }

    /// A host that has a page for whatever is not there, and says that it is (200), has a log all the same.
    #[tokio::test]
    async fn a_page_in_the_place_of_a_file_is_none() {
        let log = log(10);
        let (mut files, trust) = (log.export(), trust(&log.keys[0]));
        assert!(files.0.remove(export::ROTATIONS).is_none(), "its key was never replaced");
        let not_here =
            |path: &str| format!("\n<!DOCTYPE html><html><title>{path} is not here</title></html>").into_bytes();
        let served = files.clone();
        let answer: Arc<Answer> =
            Arc::new(move |path| Some(served.0.get(path).cloned().unwrap_or_else(|| not_here(path))));
        let copied = copied(answer, &trust).await;
        copied.outcome.expect("copied");
        let copy = Directory::new(copied.folder.path());
        audit(&copy, &trust, &mut |_| (), &mut |_, _| ()).expect("it holds");
        // A log that lacks what it must have, and a host that has none.
        let entries = files.0.keys().find(|path| path.contains("entries")).cloned().expect("a bundle");
        files.0.remove(&entries);
        let lacking: Arc<Answer> =
            Arc::new(move |path| Some(files.0.get(path).cloned().unwrap_or_else(|| not_here(path))));
        let told = super::tests::copied(lacking, &trust).await.message();
        assert!(told.contains("is not there, and a log of that size has it"), "{told}");
        let told = super::tests::copied(Arc::new(move |path| Some(not_here(path))), &trust).await.message();
        assert!(told.contains("there is no log at"), "{told}");
    }

    /// A server that packs what was asked for as it is has altered nothing.
    #[tokio::test]
    async fn a_packed_file_is_called_so() {
        let log = log(10);
        let (files, trust) = (log.export(), trust(&log.keys[0]));
        let answer: Arc<Answer> =
            Arc::new(move |path| Some([GZIP, files.0.get(path).map(Vec::as_slice).unwrap_or_default()].concat()));
        let told = copied(answer, &trust).await.message();
        assert!(told.contains("comes packed (Content-Encoding)"), "{told}");
    }

    /// While it is copied, the log grows, another verdict is listed, and its key is being replaced.
    #[tokio::test]
    async fn a_log_that_moves_on_is_copied_as_it_was_at_one_moment() {
        let mut grown = log(300);
        let before = grown.export();
        grown.advance(Span::from_secs(60));
        let later = verdict(&grown, "AV-1", "r1", 0);
        grown.append(&later);
        let (after, checkpoints) = (grown.export(), AtomicUsize::new(0));
        let answer: Arc<Answer> = Arc::new(move |path| {
            let seen = if path == export::CHECKPOINT {
                checkpoints.fetch_add(1, Ordering::Relaxed)
            } else {
                checkpoints.load(Ordering::Relaxed)
            };
            // The second checkpoint is already a newer one; what lay beside the first is gone.
            if seen == 0 { before.0.get(path).cloned() } else { after.0.get(path).cloned() }
        });
        let trust = trust(&grown.keys[0]);
        let copied = copied(answer, &trust).await;
        copied.outcome.expect("copied");
        let copy = Directory::new(copied.folder.path());
        let report = audit(&copy, &trust, &mut |_| (), &mut |_, _| ()).expect("one state");
        assert_eq!(report.size, grown.entries.len() as u64);
    }

    #[tokio::test]
    async fn a_log_that_never_rests_is_given_up() {
        let (log, size) = (log(300), Mutex::new(3));
        let answer: Arc<Answer> = Arc::new(move |path| {
            let mut size = size.lock().expect("no panic");
            *size += usize::from(path == export::CHECKPOINT);
            (path == export::CHECKPOINT).then(|| log.checkpoint(*size).into_bytes())
        });
        let copied = copied(answer, &Trust::default()).await;
        assert!(copied.message().contains("moves on faster"), "{}", copied.message());
    }

    /// The size in a checkpoint is worth nothing before its signature is.
    #[tokio::test]
    async fn a_stranger_is_not_copied() {
        let (stranger, key) = (Log { keys: vec![test_key(66, ORIGIN)], ..log(300) }, test_key(1, ORIGIN));
        let mut files = stranger.export();
        files.0.insert(export::VKEY.to_owned(), stranger.keys[0].vkey().to_string().into_bytes());
        let of_policy = Log { keys: vec![key.clone()], ..log(1) }.tlog_policy();
        let by_fingerprint = Trust { fingerprints: vec![key.vkey().fingerprint()], ..Trust::default() };
        for trust in [trust(&key), by_fingerprint, Trust { policy: Some(of_policy), ..Trust::default() }] {
            let copied = copied(serves(files.clone()), &trust).await;
            assert!(copied.message().contains("not signed by the key that you trust"), "{}", copied.message());
            assert!(copied.asked < 10, "{} requests", copied.asked);
        }
        // A false signature is refused with nobody pinned, too.
        let mut forged = log(300).export();
        let note = String::from_utf8(forged.0[export::CHECKPOINT].clone()).expect("text");
        forged.0.insert(export::CHECKPOINT.to_owned(), note.replacen("\n303\n", "\n900000\n", 1).into_bytes());
        let copied = copied(serves(forged), &Trust::default()).await;
        assert!(copied.message().contains("not signed"), "{}", copied.message());
    }

    /// A reader who pinned the key before follows the rotation to the new one.
    #[tokio::test]
    async fn a_replaced_key_is_followed() {
        let mut log = log(300);
        let (old, new) = (log.keys[0].clone(), test_key(2, ORIGIN));
        let (vkey, replaces) = (new.vkey().to_string(), old.vkey().to_string());
        log.append(&event::journal::KeyAnnounced { vkey, replaces });
        log.keys = vec![old.clone(), new.clone()];
        log.rotations.push(log.checkpoint(log.entries.len()));
        log.keys = vec![new];
        log.append_text("future.kind", 1, "future.kind", "{}");
        let by_fingerprint = Trust { fingerprints: vec![old.vkey().fingerprint()], ..Trust::default() };
        for trust in [trust(&old), by_fingerprint] {
            let copied = copied(serves(log.export()), &trust).await;
            copied.outcome.expect("copied");
            audit(&Directory::new(copied.folder.path()), &trust, &mut |_| (), &mut |_, _| ()).expect("followed");
        }
    }

    /// Signed by the key beside it, which anybody can make: nothing is fetched for ever, and nothing fills the disk.
    #[tokio::test]
    async fn whoever_answers_can_not_keep_a_reader_busy() {
        let key = test_key(1, ORIGIN);
        let head = |size| Checkpoint { origin: ORIGIN.to_owned(), size, root: journal::tree::EMPTY_ROOT }.sign(&[&key]);
        let files = |size: u64| {
            let mut files = Files::default();
            files.0.insert(export::CHECKPOINT.to_owned(), head(size).into_bytes());
            files.0.insert(export::VKEY.to_owned(), key.vkey().to_string().into_bytes());
            files
        };
        let huge = copied(serves(files(u64::MAX)), &Trust::default()).await;
        assert!(huge.message().contains("larger than"), "{}", huge.message());
        let absent = copied(serves(files(10_000_000)), &Trust::default()).await;
        // Whichever of those asked for at once is answered first.
        assert!(absent.message().contains("/log/tile/entries/00"), "{}", absent.message());
        assert!(absent.message().contains("is not there"), "{}", absent.message());
        assert!(absent.asked < 40, "{} requests", absent.asked);

        // Bundles as large as they may be, without an end.
        let (beside, bundle) = (files(1_000_000), vec![b'x'; 1_000_000]);
        let answer: Arc<Answer> = Arc::new(move |path| {
            let is_bundle = path.starts_with("tile/") || path.starts_with("payload/");
            beside.0.get(path).cloned().or_else(|| is_bundle.then(|| bundle.clone()))
        });
        let endless = copied_within(answer, &Trust::default(), 95_000_000).await;
        assert!(endless.message().contains("it goes on"), "{}", endless.message());
        assert!(endless.asked < 200, "{} requests", endless.asked);

        // One file larger than any can be.
        let (beside, bundle) = (files(1000), vec![b'x'; ENTRIES_BYTES_MAX + 1]);
        let answer: Arc<Answer> = Arc::new(move |path| {
            beside.0.get(path).cloned().or_else(|| path.starts_with("tile/").then(|| bundle.clone()))
        });
        let large = copied(answer, &Trust::default()).await;
        assert!(large.message().contains("can't be fetched"), "{}", large.message());
    }
}
