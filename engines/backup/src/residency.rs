//! Where the copies are (AV-12), and that they are apart (AV-7), as far as that can be looked at.
//!
//! That a copy is in a region is what the policy declares. What a provider says of a bucket is asked: the region that it is in has to be
//! the one that the policy names (`s3_region`). What two copies show of each other is compared: two that answer at one address are at
//! one provider, and two directories on one file system are on one disk, whatever they are called. Where a directory is nobody can ask.
//!
//! Two copies at one place are one copy. The policy is refused that has them; where links or mounts make them one later, the second is
//! not opened, so that nothing counts it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use engine::Context;

use crate::config::{CopySettings, PlaceSettings, Settings};
use crate::objects::{S3, Why};

/// What was seen of where the copies are.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Residency {
    /// Copies that are elsewhere than the policy says.
    pub(crate) elsewhere: Vec<String>,
    /// Copies of which nobody says where they are, each with the cause.
    pub(crate) unknown: Vec<String>,
    /// How the copies are not apart.
    pub(crate) together: Vec<String>,
}

/// Looks at where the copies are.
pub(crate) async fn look(settings: &Settings, context: &Context) -> Residency {
    // A file system may not answer.
    let of_directories = settings.clone();
    let together = tokio::task::spawn_blocking(move || together(&of_directories)).await;
    let together =
        together.unwrap_or_else(|error| vec![format!("whether the copies are apart can't be looked at: {error}")]);
    let mut seen = Residency { together, ..Residency::default() };
    for copy in &settings.copies {
        let PlaceSettings::S3(bucket) = &copy.place else { continue };
        let found = match S3::new(bucket, context) {
            Ok(bucket) => bucket.location().await,
            Err(error) => Err(error),
        };
        match found {
            Ok(location) if location == bucket.region => {}
            Ok(location) => seen.elsewhere.push(format!(
                "the copy `{}` is in `{location}`, and the policy says `{}`: correct `s3_region` and `region`, or move the bucket",
                copy.name, bucket.region
            )),
            Err(error) => {
                let remedy = if error.why == Why::Refused { "; allow the key s3:GetBucketLocation" } else { "" };
                seen.unknown.push(format!("where the copy `{}` is can't be asked: {error}{remedy}", copy.name));
            }
        }
    }
    seen
}

/// What can be said without asking anybody: regions and providers as they are declared, addresses, file systems.
pub(crate) fn together(settings: &Settings) -> Vec<String> {
    let mut wrong = Vec::new();
    let copies = &settings.copies;
    let doubles = doubles(settings);
    wrong.extend(doubles.iter().map(Double::words));
    let is_double = |copy: &CopySettings| doubles.iter().any(|double| double.copy == copy.name);
    let copies: Vec<&CopySettings> = copies.iter().filter(|copy| !is_double(copy)).collect();
    if copies.len() < 2 {
        wrong.push("there is one copy: what destroys it destroys every backup".to_owned());
        return wrong;
    }
    let regions: BTreeSet<_> = copies.iter().map(|copy| &copy.region).collect();
    let providers: BTreeSet<_> = copies.iter().filter_map(|copy| copy.provider.as_deref()).collect();
    if regions.len() < 2 || providers.len() < 2 {
        wrong.push("the copies are not in two regions of two providers".to_owned());
    }
    let mut at = BTreeMap::<String, &CopySettings>::new();
    for copy in copies {
        let Some((place, words)) = place(copy) else { continue };
        match at.get(&place) {
            Some(other) if other.provider != copy.provider || other.region != copy.region => wrong.push(format!(
                "the copies `{}` and `{}` are declared at different places, and are {words}",
                other.name, copy.name
            )),
            Some(_) => {}
            None => drop(at.insert(place, copy)),
        }
    }
    wrong
}

/// A copy that is at the place of another one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Double {
    /// The copy.
    pub(crate) copy: String,
    /// The one before it.
    of: String,
    place: String,
}

impl Double {
    /// What is wrong, in words.
    pub(crate) fn words(&self) -> String {
        let Self { copy, of, place } = self;
        format!("the copies `{of}` and `{copy}` are both {place}: that is one copy, not two")
    }
}

/// The copies that are at the place of one before them: in the same directory, by whatever path, or in the same part of a bucket.
pub(crate) fn doubles(settings: &Settings) -> Vec<Double> {
    let mut found = Vec::new();
    let mut before: Vec<(&str, Place)> = Vec::new();
    for copy in &settings.copies {
        let place = Place::of(&copy.place);
        match before.iter().find(|(_, other)| place.is(other)) {
            Some((of, _)) => {
                found.push(Double { copy: copy.name.clone(), of: (*of).to_owned(), place: place.to_string() });
            }
            None => before.push((&copy.name, place)),
        }
    }
    found
}

/// How long a look at a directory may take.
const MOMENT: std::time::Duration = std::time::Duration::from_secs(1);

/// What a look at a file system finds, or nothing where it hangs: a policy is read all the same. The thread ends when the file system does.
fn in_a_moment<T: Send + 'static>(look: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || drop(tell.send(look())));
    told.recv_timeout(MOMENT).ok()
}

/// Where objects of a copy lie.
enum Place {
    /// A directory by its path without links, and by its number where it is there: it may be mounted twice.
    Directory(PathBuf, Option<(u64, u64)>),
    /// A host with its port, a bucket and a prefix.
    Bucket(String, String, String),
}

impl Place {
    fn of(place: &PlaceSettings) -> Self {
        match place {
            PlaceSettings::Directory(path) => {
                let looked = path.clone();
                let found = in_a_moment(move || {
                    let found = std::fs::metadata(&looked).ok();
                    (resolve(&looked), found.map(|found| (found.dev(), found.ino())))
                });
                let (path, number) = found.unwrap_or_else(|| (path.clone(), None));
                Self::Directory(path, number)
            }
            PlaceSettings::S3(bucket) => {
                let prefix = bucket.prefix.as_deref().unwrap_or_default().trim_matches('/').to_owned();
                let host = address(&bucket.endpoint).unwrap_or_else(|| bucket.endpoint.clone());
                Self::Bucket(host, bucket.bucket.clone(), prefix)
            }
        }
    }

    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Directory(path, number), Self::Directory(other, of_other)) => {
                path == other || number.is_some() && number == of_other
            }
            (Self::Bucket(..), Self::Bucket(..)) => self.to_string() == other.to_string(),
            _ => false,
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Directory(path, _) => write!(f, "the directory {}", path.display()),
            Self::Bucket(host, bucket, prefix) if prefix.is_empty() => write!(f, "the bucket {bucket} at {host}"),
            Self::Bucket(host, bucket, prefix) => write!(f, "{prefix} of the bucket {bucket} at {host}"),
        }
    }
}

/// A path without `..` and without links, as far as it is there; as it is where its file system hangs.
pub(crate) fn resolved(path: &Path) -> PathBuf {
    let looked = path.to_owned();
    in_a_moment(move || resolve(&looked)).unwrap_or_else(|| path.to_owned())
}

fn resolve(path: &Path) -> PathBuf {
    let mut whole = PathBuf::new();
    for part in path.components() {
        if part == Component::ParentDir {
            whole.pop();
            continue;
        }
        whole.push(part);
        if let Ok(found) = whole.canonicalize() {
            whole = found;
        }
    }
    whole
}

/// The host of an endpoint, and its port.
fn address(endpoint: &str) -> Option<String> {
    let url: url::Url = endpoint.parse().ok()?;
    Some(format!("{}:{}", url.host_str()?.trim_end_matches('.'), url.port_or_known_default()?))
}

/// What two copies that are apart do not have in common, and what it means where they have.
fn place(copy: &CopySettings) -> Option<(String, &'static str)> {
    match &copy.place {
        PlaceSettings::S3(bucket) => Some((address(&bucket.endpoint)?, "behind one address")),
        PlaceSettings::Directory(path) => {
            let path = path.clone();
            let device = in_a_moment(move || std::fs::metadata(path).ok())??.dev();
            Some((format!("device {device}"), "on one file system"))
        }
    }
}

#[cfg(test)]
mod tests {
    use engine::Clock as _;
    use engine::clock::SystemClock;
    use engine::sim::World;
    use strict_s3::{BucketSettings as Behaviour, Fault, HOST, StrictS3};

    use super::*;
    use crate::config::{BucketSettings, Config, SecretPlace};

    fn settings() -> Settings {
        let policy = r#"
            [journal]
            name = "shop.example"
            [[service]]
            name = "backup"
            [[region]]
            name = "gravelines"
            provider = "ovh"
            [[region]]
            name = "falkenstein"
            provider = "hetzner"
            [backup]
            service = "backup"
            key = { file = "/etc/garant/backup.key" }
            copy = [
              { name = "near", region = "gravelines", directory = "/mnt/backup" },
              { name = "far", region = "falkenstein", directory = "/mnt/other" },
            ]
            mariadb = [{ name = "shop-db" }]
        "#;
        Config::of_text(policy).settings().expect("it is sound").clone()
    }

    /// AV-7: copies that are one place under two names are no two copies.
    #[test]
    fn copies_that_are_together_are_told() {
        let mut settings = settings();
        assert_eq!(together(&settings), Vec::<String>::new());
        let folder = tempfile::tempdir().expect("a folder");
        for copy in &mut settings.copies {
            let path = folder.path().join(&copy.name);
            std::fs::create_dir(&path).expect("made");
            copy.place = PlaceSettings::Directory(path);
        }
        let told = together(&settings);
        assert!(told.len() == 1 && told[0].ends_with("and are on one file system"), "{told:?}");
        settings.copies[1].region = settings.copies[0].region.clone();
        settings.copies[1].provider = settings.copies[0].provider.clone();
        assert_eq!(together(&settings), ["the copies are not in two regions of two providers"]);
        settings.copies.pop();
        assert!(together(&settings)[0].starts_with("there is one copy"));
    }

    /// BK-4: two names for one place are one copy, by whatever path or URL.
    #[test]
    fn copies_at_one_place_are_one_copy() {
        let folder = tempfile::tempdir().expect("a folder");
        let near = folder.path().join("near");
        std::fs::create_dir(&near).expect("made");
        std::os::unix::fs::symlink(&near, folder.path().join("link")).expect("linked");
        let mut settings = settings();
        settings.copies[0].place = PlaceSettings::Directory(near);
        for (path, is_double) in [
            ("near/", true),
            ("./near", true),
            ("link", true),
            ("near/../near", true),
            ("link/../near", true),
            ("far", false),
            ("near/below", false),
        ] {
            settings.copies[1].place = PlaceSettings::Directory(folder.path().join(path));
            let told = together(&settings).join("; ");
            assert_eq!(told.contains("that is one copy, not two"), is_double, "{path}: {told}");
        }
        // What is not there yet is compared as it is written.
        for (near, far, is_double) in [("gone", "near/../gone", true), ("gone", "link/gone", false)] {
            settings.copies[0].place = PlaceSettings::Directory(folder.path().join(near));
            settings.copies[1].place = PlaceSettings::Directory(folder.path().join(far));
            assert_eq!(doubles(&settings).len(), usize::from(is_double), "{near} {far}");
        }
        let bucket = |endpoint: &str, prefix: Option<&str>| {
            PlaceSettings::S3(Box::new(BucketSettings {
                endpoint: endpoint.into(),
                bucket: "shop".into(),
                prefix: prefix.map(Into::into),
                path_style: true,
                region: "fsn1".into(),
                access_key: "AK1".into(),
                secret_key: SecretPlace::File("/nowhere".into()),
                lock: true,
                bytes_per_second_max: None,
                destroys: None,
            }))
        };
        for (endpoint, prefix, is_double) in [
            ("https://S3.example:443", None, true),
            ("https://s3.example./", Some("/"), true),
            ("https://s3.example", Some("other"), false),
            ("https://s3.other.example", None, false),
        ] {
            settings.copies[0].place = bucket("https://s3.example/", None);
            settings.copies[1].place = bucket(endpoint, prefix);
            assert_eq!(doubles(&settings).len(), usize::from(is_double), "{endpoint} {prefix:?}");
        }
    }

    /// AV-12: a bucket is where its provider says, not where the policy does.
    #[tokio::test]
    async fn a_bucket_that_is_elsewhere_is_told() {
        let server = StrictS3::start(&[("shop", Behaviour::default())]);
        server.is_in("shop", "eu-north-1");
        let folder = tempfile::tempdir().expect("a folder");
        let secret = folder.path().join("secret");
        std::fs::write(&secret, HOST.secret_key).expect("written");
        std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("set");
        let context = World::at(SystemClock.now()).context("agent".parse().expect("a name")).expect("a context");
        let mut settings = settings();
        let at = |region: &str| {
            PlaceSettings::S3(Box::new(BucketSettings {
                endpoint: server.endpoint(),
                bucket: "shop".into(),
                prefix: None,
                path_style: true,
                region: region.into(),
                access_key: HOST.access_key.into(),
                secret_key: SecretPlace::File(secret.clone()),
                lock: true,
                bytes_per_second_max: None,
                destroys: None,
            }))
        };
        settings.copies[1].place = at("eu-north-1");
        assert_eq!(look(&settings, &context).await, Residency::default());
        settings.copies[1].place = at("eu-central-1");
        let seen = look(&settings, &context).await;
        assert!(seen.elsewhere.len() == 1 && seen.unknown.is_empty(), "{seen:?}");
        assert!(seen.elsewhere[0].contains("is in `eu-north-1`, and the policy says `eu-central-1`"), "{seen:?}");
        // One that nobody may ask is not where it should be, nor elsewhere.
        server.fault("GET", "location", 1, Fault::Refused(403, "AccessDenied"));
        let seen = look(&settings, &context).await;
        assert!(seen.elsewhere.is_empty() && seen.unknown[0].contains("s3:GetBucketLocation"), "{seen:?}");
    }
}
