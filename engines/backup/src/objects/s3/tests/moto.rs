//! The same against moto, which somebody else wrote: a second opinion on versions and locks.
//!
//! It checks neither signatures nor checksums and lets a lock be shortened: the strict server is there for those.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::*;

/// Anybody, for moto.
const ANYBODY: Identity = Identity { access_key: "ANYBODY", secret_key: "anything", may_delete: true };

/// A moto that listens, until it is dropped.
struct Moto {
    process: Child,
    endpoint: String,
}

impl Moto {
    /// Starts it where it is installed. `scripts/test` names the Python that has it, and then it must work; on other machines the
    /// test is skipped, with a message.
    #[expect(clippy::disallowed_methods, reason = "the test is the other side")]
    fn start() -> Option<Self> {
        let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/moto/bin/python");
        let python = match std::env::var_os("GARANT_TEST_MOTO") {
            Some(given) => PathBuf::from(given),
            None if made.exists() => made,
            None => {
                report("no Python with what tests/s3/requirements.txt names: scripts/test makes one");
                return None;
            }
        };
        let mut command = Command::new(&python);
        command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]).stdout(Stdio::null()).stderr(Stdio::piped());
        let started = command.spawn();
        let mut process = started.unwrap_or_else(|error| panic!("{} does not start: {error}", python.display()));
        let mut said = BufReader::new(process.stderr.take().expect("a pipe")).lines();
        let endpoint = said
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| Some(line.split_once(" * Running on ")?.1.trim().to_owned()))
            .unwrap_or_else(|| panic!("{} -m moto.server ends without listening", python.display()));
        // It says a line for each request, and must not wait for a reader.
        std::thread::spawn(move || said.for_each(drop));
        Some(Self { process, endpoint })
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Prints a line of a test: shown when the test fails, and with `--nocapture`.
fn report(text: &str) {
    println!("{text}");
}

#[tokio::test]
async fn moto_agrees_on_versions_and_locks() {
    let Some(moto) = Moto::start() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let context = context(now());
    let bucket = async |name: &str| {
        let region = "us-east-1".to_owned();
        let s3 = BucketSettings { bucket: name.to_owned(), region, ..settings(&folder, &moto.endpoint, ANYBODY) };
        let s3 = S3::new(&s3, &context).expect("a bucket");
        let made =
            Question::of_bucket(Method::Put, "s3:CreateBucket").header("x-amz-bucket-object-lock-enabled", "true");
        s3.ask(name, &made, &[]).await.expect("made");
        s3
    };
    let s3 = bucket("contract").await;
    keeps_the_contract(&s3).await;
    destroys(&s3).await;
    keeps_the_contract(&bucket("versions").await.as_first_written(None)).await;

    let s3 = bucket("locks").await;
    let abilities = BucketAbilities { locks: true, versions: true, never_overwrites: true };
    assert_eq!(s3.examine().await.expect("it answers"), abilities);
    let until = in_days(90);
    s3.put(NAME, BODY, until).await.expect("added, and seen to be locked");
    s3.put(NAME, BODY, until).await.expect("the same again");
    let error = s3.delete(NAME).await.expect_err("locked");
    assert_eq!(error.why, Why::Refused);
    assert_eq!(error.reason, format!("it is locked until {}; delete it then", end_of_second(until.expect("a time"))));
    let later = in_days(95).expect("a time");
    s3.extend(NAME, later).await.expect("locked for longer");
    assert_eq!(s3.locked_until(NAME).await.expect("it answers"), Some(end_of_second(later)));
    let later = in_days(100);
    s3.put(NAME, BODY, later).await.expect("locked for longer still");
    let error = s3.delete(NAME).await.expect_err("locked");
    assert_eq!(error.reason, format!("it is locked until {}; delete it then", end_of_second(later.expect("a time"))));
    assert_eq!(s3.get(NAME, None).await.expect("it is there"), BODY);

    // A mark of deletion hides it, and what is put then is another version: the first one is still read.
    let marked = Question::of_object(Method::Delete, s3.key(NAME), "s3:DeleteObject");
    s3.ask(NAME, &marked, &[]).await.expect("marked");
    assert_eq!(s3.size(NAME).await.expect("it answers"), None);
    s3.put(NAME, Bytes::from_static(b"poison"), None).await.expect("its name is free");
    let first = s3.as_first_written(None);
    assert_eq!(first.get(NAME, None).await.expect("the first one"), BODY);
    assert_eq!(first.delete(NAME).await.expect_err("locked").why, Why::Refused);
    assert_eq!(first.get(NAME, None).await.expect("the first one"), BODY);
}
