//! What is stored: buckets of objects, each with all its versions, the oldest first.
//!
//! The rules are those of Amazon S3, as its reference says them: a version that is locked (`COMPLIANCE`) can't be deleted and its lock
//! can't be shortened, by nobody; `If-None-Match: *` refuses a name that is taken; checksums are computed and compared.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use md5::{Digest as _, Md5};
use s3s::dto::{
    BucketLocationConstraint, BucketVersioningStatus, ChecksumMode, CommonPrefix, DeleteMarkerEntry, DeleteObjectInput,
    DeleteObjectOutput, ETag, GetBucketLocationInput, GetBucketLocationOutput, GetBucketVersioningInput,
    GetBucketVersioningOutput, GetObjectInput, GetObjectLockConfigurationInput, GetObjectLockConfigurationOutput,
    GetObjectOutput, GetObjectRetentionInput, GetObjectRetentionOutput, HeadBucketInput, HeadBucketOutput,
    HeadObjectInput, HeadObjectOutput, ListObjectVersionsInput, ListObjectVersionsOutput, ListObjectsV2Input,
    ListObjectsV2Output, Object, ObjectLockConfiguration, ObjectLockEnabled, ObjectLockMode, ObjectLockRetention,
    ObjectLockRetentionMode, ObjectVersion, PutObjectInput, PutObjectOutput, PutObjectRetentionInput,
    PutObjectRetentionOutput, StreamingBlob, Timestamp,
};
use s3s::{S3, S3Error, S3Request, S3Response, S3Result, s3_error};
use sha2::Sha256;
use time::OffsetDateTime;

use crate::lock;

/// How a bucket behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is one way in which a provider may fall short")]
pub struct BucketSettings {
    /// Objects can be locked, and so all their versions are kept.
    pub lock: bool,
    /// `If-None-Match` is honoured; old servers pass over it.
    pub conditions: bool,
    /// The header fields of a lock are honoured; a server without locks may pass over them.
    pub honours_lock: bool,
    /// What becomes of the SHA-256 that is sent along.
    pub checksums: Checksums,
    /// The ETag of an object is its MD5; it is not where objects are encrypted under a key of the customer.
    pub e_tag_is_md5: bool,
}

/// What a server does with a checksum that is sent along.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Checksums {
    /// It is compared, stored, and shown.
    Compared,
    /// It is passed over.
    PassedOver,
    /// The request is refused.
    Refused,
}

impl Default for BucketSettings {
    /// As Amazon has them, with locks.
    fn default() -> Self {
        Self { lock: true, conditions: true, honours_lock: true, checksums: Checksums::Compared, e_tag_is_md5: true }
    }
}

/// A version of an object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredVersion {
    /// Its name among the versions.
    pub id: String,
    /// Its bytes; `None` for one that says that the object was deleted.
    pub body: Option<Bytes>,
    /// Until when it is locked, in seconds after 1970.
    pub locked_until: Option<i64>,
    checksum: Option<String>,
    e_tag: String,
    modified: OffsetDateTime,
}

impl StoredVersion {
    fn e_tag(&self) -> ETag {
        ETag::Strong(self.e_tag.clone())
    }

    fn size(&self) -> i64 {
        self.body.as_ref().map_or(0, |body| i64::try_from(body.len()).unwrap_or(i64::MAX))
    }

    fn lock_mode(&self) -> Option<ObjectLockMode> {
        self.locked_until.map(|_| ObjectLockMode::from_static(ObjectLockMode::COMPLIANCE))
    }

    fn retain_until(&self) -> Option<Timestamp> {
        self.locked_until.and_then(|until| OffsetDateTime::from_unix_timestamp(until).ok()).map(Timestamp::from)
    }

    /// Its checksum, for whoever asks for it.
    fn checksum(&self, mode: Option<&ChecksumMode>) -> Option<String> {
        mode.and(self.checksum.clone())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

#[derive(Debug)]
struct Bucket {
    settings: BucketSettings,
    /// The region that it is in; `us-east-1` where there is none, as Amazon has it.
    location: Option<String>,
    objects: BTreeMap<String, Vec<StoredVersion>>,
}

#[derive(Debug)]
struct State {
    buckets: BTreeMap<String, Bucket>,
    /// How much time has passed for the locks beyond that of the machine.
    passed: Duration,
    written: u64,
}

impl State {
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc() + self.passed
    }

    fn bucket(&mut self, name: &str) -> S3Result<&mut Bucket> {
        self.buckets.get_mut(name).ok_or_else(|| s3_error!(NoSuchBucket, "The specified bucket does not exist"))
    }

    fn new_id(&mut self) -> String {
        self.written += 1;
        // No order in it that a client could rely on.
        format!("{}-{}", hex(&Sha256::digest(self.written.to_be_bytes())[..6]), self.written)
    }
}

/// All buckets.
#[derive(Clone, Debug)]
pub(crate) struct Storage(Arc<Mutex<State>>);

impl Storage {
    pub(crate) fn new(buckets: &[(&str, BucketSettings)]) -> Self {
        let bucket = |settings| Bucket { settings, location: None, objects: BTreeMap::new() };
        let buckets = buckets.iter().map(|(name, settings)| ((*name).to_owned(), bucket(*settings))).collect();
        Self(Arc::new(Mutex::new(State { buckets, passed: Duration::ZERO, written: 0 })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }

    pub(crate) fn pass(&self, time: Duration) {
        self.state().passed += time;
    }

    pub(crate) fn set(&self, bucket: &str, settings: BucketSettings) {
        self.state().bucket(bucket).expect("a bucket").settings = settings;
    }

    pub(crate) fn is_in(&self, bucket: &str, region: &str) {
        self.state().bucket(bucket).expect("a bucket").location = Some(region.to_owned());
    }

    pub(crate) fn versions(&self, bucket: &str, key: &str) -> Vec<StoredVersion> {
        self.state().bucket(bucket).expect("a bucket").objects.get(key).cloned().unwrap_or_default()
    }

    pub(crate) fn damage(&self, bucket: &str, key: &str) {
        let mut state = self.state();
        let versions = state.bucket(bucket).expect("a bucket").objects.get_mut(key).expect("an object");
        let version = versions.last_mut().expect("a version");
        let mut bytes = version.body.take().expect("a body").to_vec();
        *bytes.first_mut().expect("a byte") ^= 1;
        version.body = Some(bytes.into());
    }

    /// The version that is asked for, or the newest.
    fn find(&self, bucket: &str, key: &str, id: Option<&str>) -> S3Result<StoredVersion> {
        let mut state = self.state();
        let bucket = state.bucket(bucket)?;
        let missing = || s3_error!(NoSuchKey, "The specified key does not exist.");
        let versions = bucket.objects.get(key).ok_or_else(missing)?;
        let found = match id {
            None => versions.last().filter(|version| version.body.is_some()).ok_or_else(missing)?,
            Some(id) => versions
                .iter()
                .find(|version| version.id == id)
                .ok_or_else(|| s3_error!(NoSuchVersion, "The specified version does not exist."))?,
        };
        if found.body.is_none() {
            return Err(s3_error!(MethodNotAllowed, "The specified method is not allowed against this resource."));
        }
        Ok(found.clone())
    }
}

/// Checks what is sent for the checksum that is sent along.
fn check(sent: Option<&str>, computed: &[u8], name: &str) -> S3Result<()> {
    match sent {
        Some(sent) if sent != BASE64_STANDARD.encode(computed) => {
            Err(S3Error::with_message(s3s::S3ErrorCode::BadDigest, format!("The {name} you specified did not match")))
        }
        _ => Ok(()),
    }
}

fn unix(time: &Timestamp) -> i64 {
    // A lock lasts to the end of the second that it names.
    let time = OffsetDateTime::from(time.clone());
    time.unix_timestamp() + i64::from(time.nanosecond() > 0)
}

fn unsupported<T>(what: &str) -> S3Result<T> {
    Err(S3Error::with_message(s3s::S3ErrorCode::NotImplemented, format!("{what}: not by this server")))
}

#[async_trait::async_trait]
impl S3 for Storage {
    async fn head_bucket(&self, request: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        self.state().bucket(&request.input.bucket)?;
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    async fn get_bucket_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        let location = self.state().bucket(&request.input.bucket)?.location.clone();
        let location_constraint = location.map(BucketLocationConstraint::from);
        Ok(S3Response::new(GetBucketLocationOutput { location_constraint }))
    }

    async fn get_bucket_versioning(
        &self,
        request: S3Request<GetBucketVersioningInput>,
    ) -> S3Result<S3Response<GetBucketVersioningOutput>> {
        let lock = self.state().bucket(&request.input.bucket)?.settings.lock;
        let status = lock.then(|| BucketVersioningStatus::from_static(BucketVersioningStatus::ENABLED));
        Ok(S3Response::new(GetBucketVersioningOutput { status, ..Default::default() }))
    }

    async fn get_object_lock_configuration(
        &self,
        request: S3Request<GetObjectLockConfigurationInput>,
    ) -> S3Result<S3Response<GetObjectLockConfigurationOutput>> {
        if !self.state().bucket(&request.input.bucket)?.settings.lock {
            return Err(s3_error!(ObjectLockConfigurationNotFoundError, "it does not exist for this bucket"));
        }
        let enabled = Some(ObjectLockEnabled::from_static(ObjectLockEnabled::ENABLED));
        let configuration = ObjectLockConfiguration { object_lock_enabled: enabled, rule: None };
        Ok(S3Response::new(GetObjectLockConfigurationOutput { object_lock_configuration: Some(configuration) }))
    }

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let input = request.input;
        let other_checksum = input.checksum_crc32.is_some()
            || input.checksum_crc32c.is_some()
            || input.checksum_crc64nvme.is_some()
            || input.checksum_sha1.is_some();
        if other_checksum || input.if_match.is_some() || input.object_lock_legal_hold_status.is_some() {
            return unsupported("another checksum than SHA-256, If-Match, or a legal hold");
        }
        let Some(length) = input.content_length else {
            return Err(s3_error!(MissingContentLength, "You must provide the Content-Length HTTP header."));
        };
        let mut body = Vec::new();
        if let Some(mut stream) = input.body {
            while let Some(chunk) = stream.next().await {
                body.extend_from_slice(&chunk.map_err(|_| s3_error!(IncompleteBody))?);
            }
        }
        if i64::try_from(body.len()) != Ok(length) {
            return Err(s3_error!(IncompleteBody, "You did not provide the number of bytes specified"));
        }
        check(input.content_md5.as_deref(), &Md5::digest(&body), "Content-MD5")?;

        let mut state = self.state();
        let (now, id) = (state.now(), state.new_id());
        let bucket = state.bucket(&input.bucket)?;
        let settings = bucket.settings;
        if settings.checksums == Checksums::Refused && input.checksum_sha256.is_some() {
            return Err(s3_error!(
                InvalidArgument,
                "Unsupported header 'x-amz-checksum-sha256' received for this API call."
            ));
        }
        let checksum = input.checksum_sha256.filter(|_| settings.checksums == Checksums::Compared);
        check(checksum.as_deref(), &Sha256::digest(&body), "SHA256")?;
        let locked_until = match (input.object_lock_mode, input.object_lock_retain_until_date) {
            _ if !settings.honours_lock => None,
            (None, None) => None,
            (Some(mode), Some(until)) if mode.as_str() == ObjectLockMode::COMPLIANCE => {
                if !settings.lock {
                    return Err(s3_error!(InvalidRequest, "Bucket is missing Object Lock Configuration"));
                }
                if checksum.is_none() && input.content_md5.is_none() {
                    return Err(s3_error!(
                        InvalidRequest,
                        "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters"
                    ));
                }
                let until = unix(&until);
                if until <= now.unix_timestamp() {
                    return Err(s3_error!(InvalidArgument, "The retain until date must be in the future!"));
                }
                Some(until)
            }
            _ => return Err(s3_error!(InvalidArgument, "a lock has the mode COMPLIANCE and a date, or there is none")),
        };
        if let Some(condition) = input.if_none_match.filter(|_| settings.conditions) {
            if !condition.is_any() {
                return unsupported("If-None-Match with an ETag");
            }
            let newest = bucket.objects.get(&input.key).and_then(|versions| versions.last());
            if newest.is_some_and(|version| version.body.is_some()) {
                return Err(s3_error!(
                    PreconditionFailed,
                    "At least one of the pre-conditions you specified did not hold"
                ));
            }
        }
        let id = if settings.lock { id } else { "null".to_owned() };
        let e_tag = if settings.e_tag_is_md5 { hex(&Md5::digest(&body)) } else { id.clone() };
        let stored = StoredVersion { id, body: Some(body.into()), locked_until, checksum, e_tag, modified: now };
        let versions = bucket.objects.entry(input.key).or_default();
        if !settings.lock {
            versions.clear();
        }
        let output = PutObjectOutput {
            e_tag: Some(stored.e_tag()),
            checksum_sha256: stored.checksum.clone(),
            version_id: settings.lock.then(|| stored.id.clone()),
            ..Default::default()
        };
        versions.push(stored);
        Ok(S3Response::new(output))
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        if input.if_match.is_some() || input.if_none_match.is_some() || input.part_number.is_some() {
            return unsupported("a condition, or a part");
        }
        let version = self.find(&input.bucket, &input.key, input.version_id.as_deref())?;
        let body = version.body.clone().unwrap_or_default();
        let (whole, part, checksum) = match input.range {
            None => (body.len(), body.clone(), version.checksum(input.checksum_mode.as_ref())),
            Some(range) => {
                let length = u64::try_from(body.len()).unwrap_or(u64::MAX);
                let range = range
                    .check(length)
                    .map_err(|_| s3_error!(InvalidRange, "The requested range is not satisfiable"))?;
                let (start, end) = (index(range.start), index(range.end));
                (body.len(), body.slice(start..end), None)
            }
        };
        let content_range = input.range.map(|_| {
            let start = part.as_ptr() as usize - body.as_ptr() as usize;
            format!("bytes {start}-{}/{whole}", start + part.len().saturating_sub(1))
        });
        let output = GetObjectOutput {
            content_length: i64::try_from(part.len()).ok(),
            content_range,
            body: Some(StreamingBlob::wrap(stream::iter([Ok::<_, std::convert::Infallible>(part)]))),
            checksum_sha256: checksum,
            e_tag: Some(version.e_tag()),
            last_modified: Some(version.modified.into()),
            object_lock_mode: version.lock_mode(),
            object_lock_retain_until_date: version.retain_until(),
            version_id: Some(version.id),
            ..Default::default()
        };
        Ok(S3Response::new(output))
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = request.input;
        let version = self.find(&input.bucket, &input.key, input.version_id.as_deref())?;
        let output = HeadObjectOutput {
            content_length: Some(version.size()),
            checksum_sha256: version.checksum(input.checksum_mode.as_ref()),
            e_tag: Some(version.e_tag()),
            last_modified: Some(version.modified.into()),
            object_lock_mode: version.lock_mode(),
            object_lock_retain_until_date: version.retain_until(),
            version_id: Some(version.id),
            ..Default::default()
        };
        Ok(S3Response::new(output))
    }

    async fn get_object_retention(
        &self,
        request: S3Request<GetObjectRetentionInput>,
    ) -> S3Result<S3Response<GetObjectRetentionOutput>> {
        let input = request.input;
        let version = self.find(&input.bucket, &input.key, input.version_id.as_deref())?;
        let Some(until) = version.retain_until() else {
            return Err(s3_error!(NoSuchObjectLockConfiguration, "it does not exist for this object"));
        };
        let mode = Some(ObjectLockRetentionMode::from_static(ObjectLockRetentionMode::COMPLIANCE));
        let retention = Some(ObjectLockRetention { mode, retain_until_date: Some(until) });
        Ok(S3Response::new(GetObjectRetentionOutput { retention }))
    }

    async fn put_object_retention(
        &self,
        request: S3Request<PutObjectRetentionInput>,
    ) -> S3Result<S3Response<PutObjectRetentionOutput>> {
        let input = request.input;
        let version = self.find(&input.bucket, &input.key, input.version_id.as_deref())?;
        let asked = input.retention.unwrap_or_default();
        let is_compliance = asked.mode.is_some_and(|mode| mode.as_str() == ObjectLockRetentionMode::COMPLIANCE);
        if !is_compliance {
            return Err(s3_error!(AccessDenied, "Access Denied: a lock of another mode than COMPLIANCE"));
        }
        let until = asked.retain_until_date.as_ref().map(unix);
        let mut state = self.state();
        let now = state.now().unix_timestamp();
        let bucket = state.bucket(&input.bucket)?;
        if !bucket.settings.lock {
            return Err(s3_error!(InvalidRequest, "Bucket is missing Object Lock Configuration"));
        }
        let Some(until) = until.filter(|until| *until > now) else {
            return Err(s3_error!(InvalidArgument, "The retain until date must be in the future!"));
        };
        let versions = bucket.objects.get_mut(&input.key).map(Vec::as_mut_slice).unwrap_or_default();
        for stored in versions.iter_mut().filter(|stored| stored.id == version.id) {
            if stored.locked_until.is_some_and(|locked| locked > now && locked > until) {
                return Err(s3_error!(AccessDenied, "Access Denied because object protected by object lock."));
            }
            stored.locked_until = Some(until);
        }
        Ok(S3Response::new(PutObjectRetentionOutput::default()))
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        let input = request.input;
        let mut state = self.state();
        let (now, id) = (state.now(), state.new_id());
        let bucket = state.bucket(&input.bucket)?;
        let versioned = bucket.settings.lock;
        let mut output = DeleteObjectOutput::default();
        match input.version_id {
            Some(wanted) => {
                let versions = bucket.objects.entry(input.key.clone()).or_default();
                let is_locked = |version: &StoredVersion| {
                    version.id == wanted && version.locked_until.is_some_and(|until| until > now.unix_timestamp())
                };
                if versions.iter().any(is_locked) {
                    return Err(s3_error!(AccessDenied, "Access Denied because object protected by object lock."));
                }
                versions.retain(|version| version.id != wanted);
                if versions.is_empty() {
                    bucket.objects.remove(&input.key);
                }
                output.version_id = Some(wanted);
            }
            None if versioned => {
                let e_tag = String::new();
                let marker = StoredVersion { id, body: None, locked_until: None, checksum: None, e_tag, modified: now };
                (output.delete_marker, output.version_id) = (Some(true), Some(marker.id.clone()));
                bucket.objects.entry(input.key).or_default().push(marker);
            }
            None => drop(bucket.objects.remove(&input.key)),
        }
        Ok(S3Response::new(output))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        let mut state = self.state();
        let bucket = state.bucket(&input.bucket)?;
        let prefix = input.prefix.clone().unwrap_or_default();
        // `delimiter=` is no delimiter: what restic sends.
        let delimiter = input.delimiter.clone().filter(|delimiter| !delimiter.is_empty());
        let max = usize::try_from(input.max_keys.unwrap_or(1000)).unwrap_or(0).min(1000);
        let after = input.continuation_token.clone().or_else(|| input.start_after.clone()).unwrap_or_default();
        let (mut contents, mut folders, mut truncated) = (Vec::new(), BTreeSet::new(), false);
        let mut last = String::new();
        let current = bucket.objects.iter().filter_map(|(key, versions)| Some((key, versions.last()?)));
        for (key, version) in current.filter(|(key, version)| key.starts_with(&prefix) && version.body.is_some()) {
            let folder = delimiter.as_ref().and_then(|delimiter| {
                let rest = key.get(prefix.len()..)?;
                Some(format!("{prefix}{}{delimiter}", rest.split_once(delimiter)?.0))
            });
            let entry = folder.as_ref().unwrap_or(key);
            if *entry <= after || folder.as_ref().is_some_and(|folder| folders.contains(folder)) {
                continue;
            }
            if contents.len() + folders.len() == max {
                truncated = true;
                break;
            }
            last.clone_from(entry);
            match folder {
                Some(folder) => drop(folders.insert(folder)),
                None => contents.push(Object {
                    key: Some(key.clone()),
                    size: Some(version.size()),
                    e_tag: Some(version.e_tag()),
                    last_modified: Some(version.modified.into()),
                    ..Default::default()
                }),
            }
        }
        let folders = folders.into_iter().map(|prefix| CommonPrefix { prefix: Some(prefix) }).collect();
        let output = ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: input.prefix,
            delimiter,
            max_keys: input.max_keys.or(Some(1000)),
            key_count: i32::try_from(contents.len()).ok(),
            contents: Some(contents),
            common_prefixes: Some(folders),
            is_truncated: Some(truncated),
            next_continuation_token: truncated.then_some(last),
            start_after: input.start_after,
            ..Default::default()
        };
        Ok(S3Response::new(output))
    }

    async fn list_object_versions(
        &self,
        request: S3Request<ListObjectVersionsInput>,
    ) -> S3Result<S3Response<ListObjectVersionsOutput>> {
        let input = request.input;
        let mut state = self.state();
        let bucket = state.bucket(&input.bucket)?;
        let prefix = input.prefix.clone().unwrap_or_default();
        let delimiter = input.delimiter.clone().filter(|delimiter| !delimiter.is_empty());
        let max = usize::try_from(input.max_keys.unwrap_or(1000)).unwrap_or(0).min(1000);
        let keys = bucket.objects.iter().filter(|(key, _)| key.starts_with(&prefix));
        // The newest version of a key comes first.
        let all: Vec<_> = keys.flat_map(|(key, versions)| versions.iter().rev().map(move |it| (key, it))).collect();
        let id = input.version_id_marker.as_ref().filter(|id| !id.is_empty());
        let start = match (input.key_marker.as_ref().filter(|key| !key.is_empty()), id) {
            (None, _) => 0,
            (Some(marker), None) => all.iter().position(|(key, _)| *key > marker).unwrap_or(all.len()),
            (Some(marker), Some(id)) => {
                let at = all.iter().position(|(key, version)| *key == marker && version.id == *id);
                at.ok_or_else(|| s3_error!(InvalidArgument, "Invalid version id specified"))? + 1
            }
        };
        let mut output = ListObjectVersionsOutput { is_truncated: Some(false), ..Default::default() };
        let (mut versions, mut markers, mut folders) = (Vec::new(), Vec::new(), BTreeSet::new());
        for (key, version) in all.into_iter().skip(start) {
            let folder = delimiter.as_ref().and_then(|delimiter| {
                let rest = key.get(prefix.len()..)?;
                Some(format!("{prefix}{}{delimiter}", rest.split_once(delimiter)?.0))
            });
            let is_told = |folder: &String| {
                folders.contains(folder) || input.key_marker.as_ref().is_some_and(|marker| marker >= folder)
            };
            if folder.as_ref().is_some_and(is_told) {
                continue;
            }
            if versions.len() + markers.len() + folders.len() == max {
                output.is_truncated = Some(true);
                break;
            }
            (output.next_key_marker, output.next_version_id_marker) = match &folder {
                Some(folder) => (Some(folder.clone()), None),
                None => (Some(key.clone()), Some(version.id.clone())),
            };
            let newest = bucket.objects.get(key).and_then(|versions| versions.last());
            let is_latest = Some(newest.is_some_and(|newest| newest.id == version.id));
            let (id, modified) = (Some(version.id.clone()), Some(version.modified.into()));
            let key = Some(key.clone());
            match folder {
                Some(folder) => drop(folders.insert(folder)),
                None if version.body.is_none() => {
                    let last_modified = modified;
                    markers.push(DeleteMarkerEntry { key, version_id: id, is_latest, last_modified, owner: None });
                }
                None => versions.push(ObjectVersion {
                    key,
                    version_id: id,
                    is_latest,
                    last_modified: modified,
                    size: Some(version.size()),
                    e_tag: Some(version.e_tag()),
                    ..Default::default()
                }),
            }
        }
        if output.is_truncated == Some(false) {
            (output.next_key_marker, output.next_version_id_marker) = (None, None);
        }
        let folders = folders.into_iter().map(|prefix| CommonPrefix { prefix: Some(prefix) }).collect();
        Ok(S3Response::new(ListObjectVersionsOutput {
            name: Some(input.bucket),
            prefix: input.prefix,
            key_marker: input.key_marker,
            version_id_marker: input.version_id_marker,
            max_keys: input.max_keys.or(Some(1000)),
            versions: Some(versions),
            delete_markers: Some(markers),
            common_prefixes: Some(folders),
            ..output
        }))
    }
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
