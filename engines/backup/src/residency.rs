//! Where the copies are (AV-12), and that they are apart (AV-7), as far as that can be looked at.
//!
//! That a copy is in a region is what the policy declares. What a provider says of a bucket is asked: the region that it is in has to be
//! the one that the policy names (`s3_region`). What two copies show of each other is compared: two that answer at one address are at
//! one provider, and two directories on one file system are on one disk, whatever they are called. Where a directory is nobody can ask.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;

use engine::Context;

use crate::config::{CopySettings, PlaceSettings, Settings};
use crate::objects::S3;

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
            Err(error) => seen.unknown.push(format!(
                "where the copy `{}` is can't be asked: {error}; allow the key s3:GetBucketLocation",
                copy.name
            )),
        }
    }
    seen
}

/// What can be said without asking anybody: regions and providers as they are declared, addresses, file systems.
pub(crate) fn together(settings: &Settings) -> Vec<String> {
    let mut wrong = Vec::new();
    let copies = &settings.copies;
    if copies.len() < 2 {
        return vec!["there is one copy: what destroys it destroys every backup".to_owned()];
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

/// What two copies that are apart do not have in common, and what it means where they have.
fn place(copy: &CopySettings) -> Option<(String, &'static str)> {
    match &copy.place {
        PlaceSettings::S3(bucket) => {
            let url: url::Url = bucket.endpoint.parse().ok()?;
            Some((format!("{}:{}", url.host_str()?, url.port_or_known_default()?), "behind one address"))
        }
        PlaceSettings::Directory(path) => {
            let device = std::fs::metadata(path).ok()?.dev();
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
        let mut document = policy::Document::from_text("garant.toml", policy);
        let nouns = policy::Nouns::read(&mut document);
        let config = <Config as policy::Part>::read(&mut document, &nouns);
        config.settings().expect("it is sound").clone()
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
