//! Object storage over S3, of any provider that speaks it.
//!
//! **Problem.** What S3 promises is Amazon's; a provider that calls itself compatible may pass over a header field that it does not
//! know, and answer 200. A backup that was said to be locked, or whole, and is not, is found out on the worst day.
//! **Principle.** A provider is believed what it shows. What is put goes with `If-None-Match: *` and its SHA-256; the answer must show
//! that checksum, or the MD5 as ETag, else the object is read back. A lock is asked for with the object and then looked up: one that
//! is not there is a failure, though the object is. [`S3::examine`] tries out what a bucket can do, when it is declared and at each start of the agent.
//!
//! Whoever has the credentials of a host can put a newer version over an object; the locked one below it stays. A reader that is
//! [as first written](S3::as_first_written) sees that one, whatever was put over it, or marked as deleted, since.
//!
//! Signatures are in the query (Signature Version 4, presigned for some minutes): the header fields that count are signed one by one,
//! the checksum of the body among them. Requests share connections, are made again with growing pauses while that can help, and have
//! an end: see [`wire`].

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use engine::http::{Connections, HeaderMap, Response};
use engine::net::Net;
use engine::random::Random;
use engine::{BoxFuture, Clock, Context, Secrets};
use event::{Span, Time};
use md5::Md5;
use policy::Secret;
use rusty_s3::{Bucket, BucketError, Method, UrlStyle};
use sha2::{Digest as _, Sha256};

mod listing;
mod refusal;
#[cfg(test)]
mod tests;
mod wire;
mod xml;

use super::{Destroy, LISTED_MAX, Listed, OBJECT_BYTES_MAX, ObjectError, Objects, Why, is_name};
use crate::config::BucketSettings;
use crate::sealed::hex;
use listing::{ANSWERS_MAX, Mark};
use refusal::Refusal;
use wire::Question;

/// For how long a call goes on trying, unless told otherwise.
const PATIENCE: Span = Span::from_secs(30);
/// After how long without a byte a request is given up.
const STALLED_AFTER: Span = Span::from_secs(60);
/// Largest body that is hashed in passing, in bytes; what is larger is hashed on a thread of its own.
const HASHED_IN_PASSING_MAX: usize = 256 * 1024;
/// How often an object is put anew because another one of its name came and went.
const CONFLICTS_MAX: u32 = 3;
/// The header field of the SHA-256 of an object.
const CHECKSUM: &str = "x-amz-checksum-sha256";
/// The object that [`S3::examine`] tries a bucket out with.
const EXAMINED: &str = "examined";

/// A bucket, or the part of one below a prefix.
pub struct S3 {
    bucket: Bucket,
    place: String,
    /// What all names begin with: nothing, or a folder with its `/`.
    prefix: String,
    access_key: String,
    secret_key: Secret,
    lock: bool,
    first_written: bool,
    /// What was written after this instant is not there.
    written_before: Option<Time>,
    bytes_per_second_max: Option<u64>,
    patience: Span,
    /// Whether the provider has refused the header field of a checksum: it gets the MD5 alone from then on.
    refuses_checksums: AtomicBool,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    net: Arc<Net>,
    secrets: Arc<Secrets>,
    connections: Connections,
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3").field("place", &self.place).finish_non_exhaustive()
    }
}

/// What a bucket can do, as [`S3::examine`] has found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BucketAbilities {
    /// Objects can be locked.
    pub locks: bool,
    /// An object that is put over another one, or deleted, leaves the old version behind.
    pub versions: bool,
    /// An object is not put over another one when that is what the request says.
    pub never_overwrites: bool,
}

impl S3 {
    /// The bucket of `settings`. Nothing is asked yet.
    ///
    /// # Errors
    /// The settings name no bucket that could be asked, or one that would be asked in clear over a network.
    pub fn new(settings: &BucketSettings, context: &Context) -> Result<Self, ObjectError> {
        let shown = |prefix: &str| {
            format!("{}/{}/{prefix}", settings.endpoint.trim_end_matches('/'), settings.bucket)
                .trim_end_matches('/')
                .to_owned()
        };
        let unusable = |reason: String| ObjectError {
            why: Why::Impossible,
            place: shown(settings.prefix.as_deref().unwrap_or_default()),
            name: settings.bucket.clone(),
            reason,
        };
        let endpoint: url::Url = settings
            .endpoint
            .parse()
            .map_err(|_| unusable(format!("`{}` is no URL; write one in `endpoint`", settings.endpoint)))?;
        if endpoint.scheme() != "https" && !(endpoint.scheme() == "http" && is_loopback(&endpoint)) {
            return Err(unusable("backups go over https only; write an `endpoint` that begins with https://".into()));
        }
        if !endpoint.username().is_empty() || endpoint.password().is_some() || endpoint.query().is_some() {
            return Err(unusable("`endpoint` must hold neither a name, a password nor a query".into()));
        }
        if settings.region.is_empty() || settings.access_key.is_empty() {
            return Err(unusable("`s3_region` and `access_key` must not be empty".into()));
        }
        let prefix = settings.prefix.as_deref().unwrap_or_default().trim_matches('/');
        if !prefix.is_empty() && !is_name(prefix) {
            return Err(unusable(format!(
                "`prefix` is `{prefix}`, and no name can begin so; write letters, digits, `-_.:` and `/`"
            )));
        }
        let style = if settings.path_style { UrlStyle::Path } else { UrlStyle::VirtualHost };
        let bucket = Bucket::new(endpoint, style, settings.bucket.clone(), settings.region.clone());
        let bucket = bucket.map_err(|error| match error {
            BucketError::UnsupportedScheme | BucketError::MissingHost => unusable("`endpoint` names no host".into()),
            BucketError::ParseError(_) => {
                unusable("`bucket` can't be a part of a host name; write `path_style = true`".into())
            }
        })?;
        if settings.bucket.is_empty() || settings.bucket.contains('/') {
            return Err(unusable("`bucket` must be the name of a bucket alone; a folder in it is its `prefix`".into()));
        }
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Ok(Self {
            place: shown(&prefix),
            bucket,
            prefix,
            access_key: settings.access_key.clone(),
            secret_key: settings.secret_key.secret(),
            lock: settings.lock,
            first_written: false,
            written_before: None,
            bytes_per_second_max: settings.bytes_per_second_max,
            patience: PATIENCE,
            refuses_checksums: AtomicBool::new(false),
            clock: Arc::clone(&context.clock),
            random: Arc::clone(&context.random),
            net: Arc::clone(&context.net),
            secrets: Arc::clone(&context.secrets),
            connections: Connections::new(STALLED_AFTER, settings.bytes_per_second_max),
        })
    }

    /// The same, for which a call goes on trying for so long while the provider does not answer, or says that it can't now.
    #[must_use]
    pub fn patience(mut self, patience: Span) -> Self {
        self.patience = patience;
        self
    }

    /// The same, read as it was first written: of each name the oldest version, whatever was put over it or deleted since; without what
    /// was first written after `before`, by the clock of the provider. For a restore after an attack. It needs the rights to list and read
    /// versions, and asks once more for each object.
    #[must_use]
    pub fn as_first_written(mut self, before: Option<Time>) -> Self {
        (self.first_written, self.written_before) = (true, before);
        self
    }

    /// The region that the bucket is in, as its provider says.
    pub async fn location(&self) -> Result<String, ObjectError> {
        let asked = Question::of_bucket(Method::Get, "s3:GetBucketLocation").query("location", "");
        let answer = self.ask("location", &asked, &[]).await?;
        let root = self.parse("location", &answer)?;
        // Amazon says nothing of its first region, and calls another one by an old name.
        Ok(match root.text.trim() {
            "" => "us-east-1".to_owned(),
            "EU" => "eu-west-1".to_owned(),
            region => region.to_owned(),
        })
    }

    /// Tries out what the bucket can do. It puts a small object, `examined`, which it leaves behind.
    pub async fn examine(&self) -> Result<BucketAbilities, ObjectError> {
        let asked = Question::of_bucket(Method::Get, "s3:GetBucketObjectLockConfiguration").query("object-lock", "");
        let answer = self.ask(EXAMINED, &asked, &[404, 501]).await?;
        let locks = match answer.status {
            200 => self.parse(EXAMINED, &answer)?.text("ObjectLockEnabled") == "Enabled",
            _ => match Refusal::of(&answer).code.as_str() {
                "NoSuchBucket" => return Err(self.refused(EXAMINED, &asked, &answer)),
                _ => false,
            },
        };
        let asked = Question::of_bucket(Method::Get, "s3:GetBucketVersioning").query("versioning", "");
        let answer = self.ask(EXAMINED, &asked, &[501]).await?;
        let versions = answer.status == 200 && self.parse(EXAMINED, &answer)?.text("Status") == "Enabled";
        let body = Bytes::from_static(b"What garant tries this bucket out with.\n");
        let other = Bytes::from_static(b"This should never have been stored: the provider overwrites objects.\n");
        // What is put over the first must be refused.
        let mut never_overwrites = false;
        for body in [body, other] {
            match self.add(EXAMINED, &body, None).await {
                Err(error) if error.why == Why::Exists => never_overwrites = true,
                added => added?,
            }
        }
        Ok(BucketAbilities { locks, versions, never_overwrites })
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn error(&self, name: &str, why: Why, reason: impl Into<String>) -> ObjectError {
        ObjectError { why, place: self.place.clone(), name: name.to_owned(), reason: reason.into() }
    }

    fn check(&self, name: &str) -> Result<(), ObjectError> {
        if is_name(name) {
            return Ok(());
        }
        Err(self.error(name, Why::Impossible, "that is no name of an object"))
    }

    /// What `hash` makes of a body: on a thread of its own where that takes long.
    async fn hashed<T: Send + 'static>(
        &self,
        name: &str,
        body: &Bytes,
        hash: impl FnOnce(&[u8]) -> T + Send + 'static,
    ) -> Result<T, ObjectError> {
        if body.len() <= HASHED_IN_PASSING_MAX {
            return Ok(hash(body));
        }
        let body = body.clone();
        let hashed = tokio::task::spawn_blocking(move || hash(&body)).await;
        hashed.map_err(|_| self.error(name, Why::Unavailable, "garant is stopping; start it again"))
    }

    /// Adds an object, and sees that it is whole and locked.
    async fn add(&self, name: &str, body: &Bytes, keep_until: Option<Time>) -> Result<(), ObjectError> {
        let keep_until = keep_until.filter(|_| self.lock).map(end_of_second);
        let digests = self.hashed(name, body, Digests::of).await?;
        let mut conflicts = 0;
        loop {
            let asked = self.put_of(name, body, keep_until, &digests);
            let answer = self.ask(name, &asked, &[409, 412, 400, 501]).await?;
            match answer.status {
                409 | 412 => match self.read(name, None).await {
                    Ok(stored) if stored == *body => break,
                    Ok(_) => return Err(self.error(name, Why::Exists, "an object with other bytes has this name")),
                    Err(error) if error.why == Why::Missing && conflicts < CONFLICTS_MAX => {
                        conflicts += 1;
                        tokio::time::sleep(self.pause(conflicts).to_std()).await;
                    }
                    Err(error) => return Err(error),
                },
                400 | 501 if self.refuses_checksum(&asked, &answer) => {}
                400 | 501 => return Err(self.refused(name, &asked, &answer)),
                _ => {
                    if !digests.are_shown(&answer.headers) {
                        self.compare(name, body).await?;
                    }
                    break;
                }
            }
        }
        match keep_until {
            Some(until) => self.see_locked(name, until).await,
            None => Ok(()),
        }
    }

    fn put_of(&self, name: &str, body: &Bytes, keep_until: Option<Time>, digests: &Digests) -> Question {
        let needs = if keep_until.is_some() { "s3:PutObject and s3:PutObjectRetention" } else { "s3:PutObject" };
        let mut asked = Question::of_object(Method::Put, self.key(name), needs)
            .header("content-md5", &digests.md5)
            .header("if-none-match", "*")
            .body(body.clone());
        if !self.refuses_checksums.load(Ordering::Relaxed) {
            asked = asked.header(CHECKSUM, &digests.sha256);
        }
        if let Some(until) = keep_until {
            asked = asked
                .header("x-amz-object-lock-mode", "COMPLIANCE")
                .header("x-amz-object-lock-retain-until-date", &until.to_rfc3339());
        }
        asked
    }

    /// Whether an answer refuses the header field of the checksum, which is then not sent again.
    fn refuses_checksum(&self, asked: &Question, answer: &Response) -> bool {
        let refuses = asked.has(CHECKSUM) && answer.text().to_ascii_lowercase().contains("x-amz-checksum");
        self.refuses_checksums.fetch_or(refuses, Ordering::Relaxed);
        refuses
    }

    /// Reads an object back, and compares it with what was to be stored.
    async fn compare(&self, name: &str, body: &Bytes) -> Result<(), ObjectError> {
        if self.read(name, None).await? == *body {
            return Ok(());
        }
        let reason = "what is stored is not what was sent; it can't be put right under this name";
        Err(self.error(name, Why::Damaged, reason))
    }

    /// Sees that an object is locked until `until`; of one that is locked for less the lock is extended.
    async fn see_locked(&self, name: &str, until: Time) -> Result<(), ObjectError> {
        if self.is_locked(name, until).await? {
            return Ok(());
        }
        let body = format!(
            "<Retention xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Mode>COMPLIANCE</Mode><RetainUntilDate>{until}</RetainUntilDate></Retention>"
        );
        let asked = Question::of_object(Method::Put, self.key(name), "s3:PutObjectRetention")
            .query("retention", "")
            .header("content-md5", &BASE64_STANDARD.encode(Md5::digest(&body)))
            .body(body.into());
        let extended = self.ask(name, &asked, &[]).await;
        if extended.is_ok() && self.is_locked(name, until).await? {
            return Ok(());
        }
        let said = extended.err().map(|error| format!(" ({})", error.reason)).unwrap_or_default();
        let reason = format!(
            "it is stored, but not locked until {until}{said}; use a bucket that was made with object lock, and allow the key s3:PutObjectRetention and s3:GetObjectRetention, or write `lock = false`"
        );
        Err(self.error(name, Why::Refused, reason))
    }

    async fn is_locked(&self, name: &str, until: Time) -> Result<bool, ObjectError> {
        Ok(self.lock_of(name).await?.is_some_and(|found| found >= until))
    }

    /// Until when an object is locked; `None` also where there is none of that name.
    async fn lock_of(&self, name: &str) -> Result<Option<Time>, ObjectError> {
        let asked = Question::of_object(Method::Head, self.key(name), "s3:GetObject and s3:GetObjectRetention");
        let answer = self.ask(name, &asked, &[404]).await?;
        Ok(if answer.status == 404 { None } else { locked_until(&answer.headers) })
    }

    /// Reads an object, or a part of it.
    async fn read(&self, name: &str, range: Option<Range<u64>>) -> Result<Bytes, ObjectError> {
        if range.as_ref().is_some_and(Range::is_empty) {
            // A part without bytes can't be asked for.
            let size = self.size_of(name).await?;
            return size.map(|_| Bytes::new()).ok_or_else(|| self.missing(name));
        }
        let needs = if self.first_written { "s3:GetObjectVersion" } else { "s3:GetObject" };
        let mut asked = Question::of_object(Method::Get, self.key(name), needs);
        if self.first_written {
            let version = self.first_version(name).await?.ok_or_else(|| self.missing(name))?;
            asked = asked.query("versionId", &version.id);
        }
        let most = u64::try_from(OBJECT_BYTES_MAX).unwrap_or(u64::MAX);
        let range = range.map(|range| range.start..range.end.min(range.start.saturating_add(most)));
        let length = range.as_ref().map_or(most, |range| range.end - range.start);
        asked = match &range {
            // The last byte belongs to it: RFC 9110, section 14.1.2.
            Some(range) => asked.header("range", &format!("bytes={}-{}", range.start, range.end - 1)),
            None => asked.header("x-amz-checksum-mode", "ENABLED"),
        };
        // Whoever passes over the range sends all of it.
        let asked = asked.answer_bytes_max(OBJECT_BYTES_MAX).expecting(length);
        let answer = self.ask(name, &asked, &[416]).await?;
        match (answer.status, range) {
            // It ends before the part begins.
            (416, Some(_)) => Ok(Bytes::new()),
            (416, None) => Err(self.refused(name, &asked, &answer)),
            (206, Some(range)) => {
                let begins = format!("bytes {}-", range.start);
                let at = text_of(&answer.headers, "content-range").unwrap_or_default();
                if !at.starts_with(&begins) || length_of(&answer.body) > length {
                    return Err(self.error(name, Why::Damaged, "the answer is another part than was asked for"));
                }
                Ok(answer.body)
            }
            (_, Some(range)) => {
                let at = |byte: u64| usize::try_from(byte).unwrap_or(usize::MAX).min(answer.body.len());
                Ok(answer.body.slice(at(range.start)..at(range.end)))
            }
            (_, None) => {
                // One with a dash is a checksum of parts, which others have put.
                let shown = text_of(&answer.headers, CHECKSUM).filter(|shown| !shown.contains('-'));
                if let Some(shown) = shown
                    && self.hashed(name, &answer.body, sha256).await? != shown
                {
                    let reason = "what came is not what was stored: its SHA-256 is another one";
                    return Err(self.error(name, Why::Damaged, reason));
                }
                Ok(answer.body)
            }
        }
    }

    fn missing(&self, name: &str) -> ObjectError {
        self.error(name, Why::Missing, "no object has this name")
    }

    async fn size_of(&self, name: &str) -> Result<Option<u64>, ObjectError> {
        if self.first_written {
            return Ok(self.first_version(name).await?.map(|version| version.size));
        }
        let asked = Question::of_object(Method::Head, self.key(name), "s3:GetObject");
        let answer = self.ask(name, &asked, &[404]).await?;
        if answer.status == 404 {
            // An answer to HEAD has no body, and so does not say what is not there: an object, or the whole bucket.
            let asked = Question::of_object(Method::Get, self.key(name), "s3:GetObject").header("range", "bytes=0-0");
            return match self.ask(name, &asked, &[416]).await {
                Err(error) if error.why == Why::Missing => Ok(None),
                Err(error) => Err(error),
                Ok(_) => Err(self.error(name, Why::Unavailable, "it has come into being just now; ask again")),
            };
        }
        let length = text_of(&answer.headers, "content-length").and_then(|length| length.parse().ok());
        length.map(Some).ok_or_else(|| self.error(name, Why::Damaged, "the answer does not say how large it is"))
    }

    /// Deletes each version of an object.
    async fn destroy(&self, name: &str) -> Result<(), ObjectError> {
        let mut before = Vec::new();
        loop {
            let Some(versions) = self.versions_of(name).await? else {
                let asked = Question::of_object(Method::Delete, self.key(name), "s3:DeleteObject");
                self.ask(name, &asked, &[404]).await?;
                return Ok(());
            };
            if versions.is_empty() {
                return Ok(());
            }
            if versions == before {
                let reason = "its versions are said to be deleted, and are listed still; ask the provider why";
                return Err(self.error(name, Why::Refused, reason));
            }
            before.clone_from(&versions);
            let (mut deleted, mut refused) = (0, None);
            for version in versions {
                let asked = Question::of_object(Method::Delete, self.key(name), "s3:DeleteObjectVersion")
                    .query("versionId", &version);
                match self.ask(name, &asked, &[404]).await {
                    Ok(_) => deleted += 1,
                    Err(error) if error.why == Why::Refused => {
                        refused.get_or_insert((error, version));
                    }
                    Err(error) => return Err(error),
                }
            }
            if let (Some((error, version)), 0) = (refused, deleted) {
                return Err(self.locked_or(error, name, &version).await);
            }
        }
    }

    /// Says until when a version is locked, where that is why it was not deleted.
    async fn locked_or(&self, error: ObjectError, name: &str, version: &str) -> ObjectError {
        let asked =
            Question::of_object(Method::Head, self.key(name), "s3:GetObjectVersion").query("versionId", version);
        match self.ask(name, &asked, &[]).await.ok().and_then(|answer| locked_until(&answer.headers)) {
            Some(until) if until > self.clock.now() => {
                self.error(name, Why::Refused, format!("it is locked until {until}; delete it then"))
            }
            _ => error,
        }
    }
}

/// Whether an endpoint is on this machine: nobody listens on the way there.
fn is_loopback(endpoint: &url::Url) -> bool {
    match endpoint.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// The end of the second of an instant: a lock is written in whole seconds.
fn end_of_second(time: Time) -> Time {
    Time::from_secs(time.micros().saturating_add(999_999).div_euclid(1_000_000))
}

/// Until when an object can't be deleted by anybody, as an answer shows it.
fn locked_until(headers: &HeaderMap) -> Option<Time> {
    (text_of(headers, "x-amz-object-lock-mode")? == "COMPLIANCE").then_some(())?;
    Time::parse_rfc3339(text_of(headers, "x-amz-object-lock-retain-until-date")?)
}

/// A header field of an answer.
fn text_of<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn length_of(body: &[u8]) -> u64 {
    u64::try_from(body.len()).unwrap_or(u64::MAX)
}

/// SHA-256 in base64.
fn sha256(body: &[u8]) -> String {
    BASE64_STANDARD.encode(Sha256::digest(body))
}

/// What a body is known by, as header fields have it.
struct Digests {
    /// SHA-256 in base64.
    sha256: String,
    /// MD5 in base64.
    md5: String,
    /// MD5 in hexadecimal, which is the ETag of an object that was put in one piece.
    e_tag: String,
}

impl Digests {
    fn of(body: &[u8]) -> Self {
        let md5 = Md5::digest(body);
        Self { sha256: sha256(body), md5: BASE64_STANDARD.encode(md5), e_tag: hex(&md5) }
    }

    /// Whether an answer shows that exactly this was stored.
    fn are_shown(&self, headers: &HeaderMap) -> bool {
        match text_of(headers, CHECKSUM) {
            Some(checksum) => checksum == self.sha256,
            None => text_of(headers, "etag").is_some_and(|e_tag| e_tag.trim_matches('"') == self.e_tag),
        }
    }
}

impl Objects for S3 {
    fn place(&self) -> &str {
        &self.place
    }

    fn put<'a>(
        &'a self,
        name: &'a str,
        body: Bytes,
        keep_until: Option<Time>,
    ) -> BoxFuture<'a, Result<(), ObjectError>> {
        Box::pin(async move {
            self.check(name)?;
            if body.len() > OBJECT_BYTES_MAX {
                return Err(self.error(name, Why::Impossible, "it is larger than any object may be"));
            }
            self.add(name, &body, keep_until).await
        })
    }

    fn get<'a>(&'a self, name: &'a str, range: Option<Range<u64>>) -> BoxFuture<'a, Result<Bytes, ObjectError>> {
        Box::pin(async move {
            self.check(name)?;
            self.read(name, range).await
        })
    }

    fn size<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<u64>, ObjectError>> {
        Box::pin(async move {
            self.check(name)?;
            self.size_of(name).await
        })
    }

    fn locked_until<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Time>, ObjectError>> {
        Box::pin(async move {
            self.check(name)?;
            self.lock_of(name).await
        })
    }

    fn extend<'a>(&'a self, name: &'a str, until: Time) -> BoxFuture<'a, Result<(), ObjectError>> {
        Box::pin(async move {
            self.check(name)?;
            if self.lock { self.see_locked(name, end_of_second(until)).await } else { Ok(()) }
        })
    }

    fn list<'a>(&'a self, prefix: &'a str, after: Option<&'a str>) -> BoxFuture<'a, Result<Vec<Listed>, ObjectError>> {
        Box::pin(async move {
            let (mut found, mut from) = (Vec::<Listed>::new(), Mark::name(after.map(|after| self.key(after))));
            // One more than is told: its oldest version is known only when another name has come.
            for _ in 0..ANSWERS_MAX {
                let listing = self.listing(prefix, false, &from).await?;
                for entry in listing.entries {
                    let Some(name) = entry.key.strip_prefix(&self.prefix).filter(|name| is_name(name)) else {
                        continue;
                    };
                    if after.is_some_and(|after| name <= after) {
                        continue;
                    }
                    let listed = Listed { name: name.to_owned(), size: entry.version.size };
                    match found.last_mut() {
                        Some(last) if last.name == listed.name => *last = listed,
                        Some(last) if last.name > listed.name => {
                            let reason = "the listing is not in the order of names; a provider that lists otherwise can't be used";
                            return Err(self.error(prefix, Why::Damaged, reason));
                        }
                        _ => found.push(listed),
                    }
                }
                match listing.next {
                    Some(next) if found.len() <= LISTED_MAX => from = next,
                    _ => {
                        found.truncate(LISTED_MAX);
                        return Ok(found);
                    }
                }
            }
            Err(self.too_long(prefix))
        })
    }

    fn folders<'a>(&'a self, folder: &'a str) -> BoxFuture<'a, Result<Vec<String>, ObjectError>> {
        Box::pin(async move {
            let (mut found, mut from) = (BTreeSet::new(), Mark::name(None));
            for _ in 0..ANSWERS_MAX {
                let listing = self.listing(folder, true, &from).await?;
                for whole in listing.folders {
                    let name = whole.strip_prefix(&self.prefix).and_then(|name| name.strip_prefix(folder));
                    let name = name.and_then(|name| name.strip_suffix('/')).filter(|name| is_name(name));
                    found.extend(name.map(str::to_owned));
                }
                match listing.next {
                    Some(next) => from = next,
                    None => return Ok(found.into_iter().collect()),
                }
            }
            Err(self.too_long(folder))
        })
    }
}

impl Destroy for S3 {
    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), ObjectError>> {
        Box::pin(async move {
            self.check(name)?;
            self.destroy(name).await
        })
    }

    fn hide<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), ObjectError>> {
        Box::pin(async move {
            self.check(name)?;
            let asked = Question::of_object(Method::Delete, self.key(name), "s3:DeleteObject");
            self.ask(name, &asked, &[404]).await.map(drop)
        })
    }
}
