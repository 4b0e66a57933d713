//! What the buckets of a policy can do, tried out when a copy is declared and at each start of the agent.

use engine::Context;

use crate::config::{BucketSettings, CopySettings, PlaceSettings};
use crate::objects::{BucketAbilities, ObjectError, S3};

/// Tries a bucket out, and says what it lacks, in words; nothing where it is as it should be.
///
/// # Errors
/// It can't be asked.
pub(crate) async fn lacking(bucket: &BucketSettings, context: &Context) -> Result<Vec<String>, ObjectError> {
    Ok(words(S3::new(bucket, context)?.examine().await?, bucket.lock))
}

fn words(can: BucketAbilities, lock: bool) -> Vec<String> {
    let mut lacking = Vec::new();
    if lock && !can.locks {
        lacking
            .push("it locks no objects: make a bucket with object lock, or write `lock = false`, which protects less");
    }
    if !can.versions {
        lacking.push("it keeps no versions: what somebody writes over or deletes there is gone; switch versioning on");
    }
    if !can.never_overwrites {
        lacking.push(
            "it writes over objects though it is asked not to: whoever has the credentials of this host can put something else in \
             the place of a backup; only old versions, or locks, are left then",
        );
    }
    lacking.into_iter().map(str::to_owned).collect()
}

/// Tries out the buckets that are left, and says of each that answers what it lacks.
pub(crate) async fn of_copies(left: &mut Vec<CopySettings>, context: &Context) -> Vec<(String, Vec<String>)> {
    let mut said = Vec::new();
    for copy in std::mem::take(left) {
        let PlaceSettings::S3(bucket) = &copy.place else { continue };
        match lacking(bucket, context).await {
            Ok(lacking) => said.push((copy.name, lacking)),
            // That it does not answer is said where something is put there.
            Err(error) => {
                tracing::info!(copy = copy.name, %error, "what the bucket can do is asked again");
                left.push(copy);
            }
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use engine::Clock as _;
    use engine::clock::SystemClock;
    use engine::sim::World;
    use strict_s3::{BucketSettings as Behaviour, HOST, StrictS3};

    use super::*;
    use crate::config::SecretPlace;

    /// BK-9: a bucket that does not protect is named when the agent starts, and one that does not answer is asked again.
    #[tokio::test]
    async fn what_a_bucket_lacks_is_said() {
        let careless = Behaviour { lock: false, conditions: false, ..Behaviour::default() };
        let server = StrictS3::start(&[("good", Behaviour::default()), ("careless", careless)]);
        let folder = tempfile::tempdir().expect("a folder");
        let secret = folder.path().join("secret");
        std::fs::write(&secret, HOST.secret_key).expect("written");
        std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("set");
        let context = World::at(SystemClock.now()).context("agent".parse().expect("a name")).expect("a context");
        let copy = |name: &str| CopySettings {
            name: name.into(),
            region: "far".parse().expect("a name"),
            provider: None,
            place: PlaceSettings::S3(Box::new(BucketSettings {
                endpoint: server.endpoint(),
                bucket: name.into(),
                prefix: None,
                path_style: true,
                region: "us-east-1".into(),
                access_key: HOST.access_key.into(),
                secret_key: SecretPlace::File(secret.clone()),
                lock: true,
                destroys: None,
                bytes_per_second_max: None,
            })),
        };
        let mut left = vec![copy("good"), copy("careless"), copy("nowhere")];
        let said = of_copies(&mut left, &context).await;
        assert_eq!(said[0], ("good".to_owned(), Vec::new()));
        let (name, lacks) = &said[1];
        assert!(name == "careless" && lacks.len() == 3 && lacks[0].contains("locks no objects"), "{lacks:?}");
        assert_eq!(left.iter().map(|copy| &*copy.name).collect::<Vec<_>>(), ["nowhere"], "it is asked again");
        assert!(of_copies(&mut left, &context).await.is_empty() && left.len() == 1);
    }
}
