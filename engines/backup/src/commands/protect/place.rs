//! A copy, as it is named on the command line: `/mnt/backup`, or
//! `https://fsn1.example/shop-backup,region=falkenstein,access_key=AK1,secret_key=/etc/garant/s3.key`.

use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, chown};
use std::path::{Path, PathBuf};

use engine::{Failure, Secrets};
use policy::{Addition, Nouns, Secret, Url};

use crate::config::{CopySettings, PlaceSettings};

/// The region of a directory for which none is named, and its provider.
const HERE: (&str, &str) = ("here", "own");
/// Names of copies for which none is given.
const NAMES: [&str; 2] = ["near", "far"];

/// A copy to add.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct NewCopy {
    name: Option<String>,
    region: Option<String>,
    provider: Option<String>,
    place: Place,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Place {
    Directory(PathBuf),
    Bucket {
        endpoint: String,
        bucket: String,
        prefix: Option<String>,
        s3_region: Option<String>,
        access_key: String,
        secret_key: PathBuf,
        /// The identity that may delete, and where its secret key is.
        destroys: Option<(String, PathBuf)>,
    },
}

fn wrong(text: &str, why: impl std::fmt::Display) -> Failure {
    Failure::new(format!("--copy {text}: {why}"))
        .remedy(
            "write a directory, /mnt/backup, or a bucket, \
             https://ENDPOINT/BUCKET,region=REGION,provider=PROVIDER,access_key=KEY,secret_key=FILE, \
             with destroy_access_key=KEY,destroy_secret_key=FILE of another identity, which may delete",
        )
        .code(2)
}

impl NewCopy {
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let mut parts = text.split(',');
        let place = parts.next().unwrap_or_default();
        let (mut name, mut region, mut provider, mut s3_region) = (None, None, None, None);
        let (mut access_key, mut secret_key) = (None, None);
        let (mut destroy_access_key, mut destroy_secret_key) = (None, None);
        for part in parts {
            let Some((key, value)) = part.split_once('=') else {
                return Err(wrong(text, format!("`{part}` is no KEY=VALUE")));
            };
            let slot = match key {
                "name" => &mut name,
                "region" => &mut region,
                "provider" => &mut provider,
                "s3_region" => &mut s3_region,
                "access_key" => &mut access_key,
                "secret_key" => &mut secret_key,
                "destroy_access_key" => &mut destroy_access_key,
                "destroy_secret_key" => &mut destroy_secret_key,
                _ => return Err(wrong(text, format!("`{key}` is nothing that is known of a copy"))),
            };
            if slot.replace(value.to_owned()).is_some() {
                return Err(wrong(text, format!("`{key}` is there twice")));
            }
        }
        let place = if place.starts_with('/') {
            let keys = [&access_key, &secret_key, &destroy_access_key, &destroy_secret_key, &s3_region];
            if keys.into_iter().any(Option::is_some) {
                return Err(wrong(text, "a directory has no keys"));
            }
            Place::Directory(place.into())
        } else {
            let url: Url = place.parse().map_err(|_| wrong(text, "it is neither an absolute path nor a URL"))?;
            let target = url.target().trim_matches('/').to_owned();
            let (bucket, prefix) = match target.split_once('/') {
                Some((bucket, prefix)) => (bucket.to_owned(), Some(prefix.to_owned())),
                None => (target, None),
            };
            let whole = url.to_string();
            let endpoint = whole.split('/').take(3).collect::<Vec<_>>().join("/");
            let (Some(access_key), Some(secret_key), false) = (access_key, secret_key, bucket.is_empty()) else {
                return Err(wrong(text, "a bucket has a name, an access_key and a secret_key"));
            };
            if region.is_none() {
                return Err(wrong(text, "where a bucket is has to be said: region=REGION"));
            }
            let destroys = match (destroy_access_key, destroy_secret_key) {
                (Some(key), Some(_)) if key == access_key => {
                    let why = "destroy_access_key is the identity of the host: make a second one at the provider";
                    return Err(wrong(text, why));
                }
                (Some(key), Some(secret)) => Some((key, secret.into())),
                (None, None) => None,
                _ => {
                    return Err(wrong(
                        text,
                        "an identity that may delete has a destroy_access_key and a destroy_secret_key",
                    ));
                }
            };
            let secret_key = secret_key.into();
            Place::Bucket { endpoint, bucket, prefix, s3_region, access_key, secret_key, destroys }
        };
        Ok(Self { name, region, provider, place })
    }

    /// Fails where a secret key of it can't be opened, or where its directory is among the data of a server.
    pub(super) fn check(&self, secrets: &Secrets) -> Result<(), Failure> {
        let (bucket, secret_key, destroys) = match &self.place {
            Place::Directory(path) => return crate::commands::is_apart(path),
            Place::Bucket { bucket, secret_key, destroys, .. } => (bucket, secret_key, destroys),
        };
        let of_destroyer = destroys.as_ref().map(|(_, secret_key)| ("delete from", secret_key));
        for (what, secret_key) in [("write to", secret_key)].into_iter().chain(of_destroyer) {
            secrets.open_now(&Secret::File(secret_key.clone())).map_err(|error| {
                Failure::new(format!("nobody could {what} the bucket {bucket}")).because(&error).code(2)
            })?;
        }
        Ok(())
    }

    /// Whether the policy has it already.
    pub(super) fn is_one_of(&self, copies: &[CopySettings]) -> bool {
        copies.iter().any(|copy| match (&self.place, &copy.place) {
            (Place::Directory(here), PlaceSettings::Directory(there)) => here == there,
            (Place::Bucket { bucket, .. }, PlaceSettings::S3(there)) => *bucket == there.bucket,
            _ => false,
        })
    }

    /// Its directory, where it is one.
    pub(super) fn directory(&self) -> Option<&Path> {
        match &self.place {
            Place::Directory(path) => Some(path),
            Place::Bucket { .. } => None,
        }
    }

    /// The tables that declare it, and the region that it is in where that is a new one. `taken` are the names of other copies, to
    /// which its own is added, and `regions` those of regions.
    pub(super) fn additions(
        &self,
        taken: &mut Vec<String>,
        regions: &mut Vec<String>,
    ) -> Result<Vec<Addition>, Failure> {
        let free = || {
            let numbered = (3..).map(|number: u32| format!("copy-{number}"));
            NAMES.iter().map(|name| (*name).to_owned()).chain(numbered).find(|name| !taken.contains(name))
        };
        let name = self.name.clone().or_else(free).unwrap_or_default();
        taken.push(name.clone());
        let region = self.region.clone().unwrap_or_else(|| HERE.0.to_owned());
        let mut additions = Vec::new();
        if !regions.contains(&region) {
            let provider = self.provider.clone().or_else(|| (region == HERE.0).then(|| HERE.1.to_owned()));
            let provider = provider.ok_or_else(|| {
                Failure::new(format!("the policy has no region of the name `{region}`"))
                    .remedy("say whose it is, provider=PROVIDER, and it is declared")
                    .code(2)
            })?;
            additions.push(Addition::one_more(&["region"]).key("name", &region).key("provider", &provider));
            regions.push(region.clone());
        }
        let copy = Addition::one_more(&["backup", "copy"]).key("name", &name).key("region", &region);
        additions.push(match &self.place {
            Place::Directory(path) => copy.key("directory", path.display().to_string()),
            Place::Bucket { endpoint, bucket, prefix, s3_region, access_key, secret_key, destroys } => {
                let copy = copy
                    .key("endpoint", endpoint)
                    .key("bucket", bucket)
                    .maybe("prefix", prefix.as_ref())
                    .maybe("s3_region", s3_region.as_ref())
                    .key("access_key", access_key)
                    .secret("secret_key", secret_key);
                match destroys {
                    Some((access_key, secret_key)) => {
                        copy.key("destroy_access_key", access_key).secret("destroy_secret_key", secret_key)
                    }
                    None => copy,
                }
            }
        });
        Ok(additions)
    }
}

/// The names of the regions of a policy.
pub(super) fn regions(nouns: &Nouns) -> Vec<String> {
    nouns.regions.iter().map(|region| region.id.to_string()).collect()
}

/// Makes the directory of a copy, for the agent of these numbers; one that is there must be the agent's.
pub(super) fn make(directory: &Path, agent: &str, ids: (u32, u32)) -> Result<(), Failure> {
    let failed = |error: &std::io::Error| {
        Failure::new(format!("the directory {} can't be made for {agent}", directory.display()))
            .because(error)
            .remedy("name a folder on a disk that is mounted, and run this as root")
    };
    match std::fs::metadata(directory) {
        Ok(there) if there.is_dir() && there.uid() == ids.0 && there.mode() & 0o300 == 0o300 => Ok(()),
        Ok(there) => {
            let what = if there.is_dir() { "belongs to another user" } else { "is no directory" };
            Err(Failure::new(format!("{} {what}, and the agent, which runs as {agent}, can't write to it", directory.display()))
                .remedy(format!(
                    "give it to the agent, `chown {agent} {0}`, or name a folder in it that is not there yet, {0}/garant: it is made",
                    directory.display()
                )))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let made = std::fs::DirBuilder::new().mode(0o700).create(directory);
            let is_other = rustix::process::geteuid().as_raw() != ids.0;
            let made = made.and_then(|()| if is_other { chown(directory, Some(ids.0), Some(ids.1)) } else { Ok(()) });
            made.map_err(|error| failed(&error))
        }
        Err(error) => Err(failed(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(texts: &[&str]) -> String {
        let (mut taken, mut regions) = (Vec::new(), vec!["gravelines".to_owned()]);
        let additions: Vec<Addition> = texts
            .iter()
            .flat_map(|text| NewCopy::parse(text).expect(text).additions(&mut taken, &mut regions).expect(text))
            .collect();
        policy::with_additions("", &additions).expect("it fits")
    }

    #[test]
    fn a_copy_is_declared_with_its_region() {
        let bucket =
            "https://fsn1.example:8443/shop/base,region=fsn,provider=hetzner,access_key=AK1,secret_key=/etc/s3.key";
        let shown = declared(&["/mnt/backup", bucket, "/srv/other,region=gravelines,name=third"]);
        for part in [
            "[[region]]\nname = \"here\"\nprovider = \"own\"\n",
            "[[backup.copy]]\nname = \"near\"\nregion = \"here\"\ndirectory = \"/mnt/backup\"\n",
            "[[region]]\nname = \"fsn\"\nprovider = \"hetzner\"\n",
            "name = \"far\"\nregion = \"fsn\"\nendpoint = \"https://fsn1.example:8443\"\nbucket = \"shop\"\nprefix = \"base\"\n\
             access_key = \"AK1\"\nsecret_key = { file = \"/etc/s3.key\" }\n",
            "name = \"third\"\nregion = \"gravelines\"\ndirectory = \"/srv/other\"\n",
        ] {
            assert!(shown.contains(part), "{part}\nis not in\n{shown}");
        }
        assert_eq!(shown.matches("[[region]]").count(), 2, "{shown}");
    }

    /// Promise BK-6: without an identity of its own the server could destroy nothing in a bucket.
    #[test]
    fn a_bucket_is_declared_with_the_identity_that_deletes_from_it() {
        let bucket = "https://fsn1.example/shop,region=gravelines,access_key=AK1,secret_key=/etc/s3.key,\
                      destroy_access_key=AK2,destroy_secret_key=/etc/s3-destroy.key";
        let shown = declared(&[bucket]);
        let keys = "destroy_access_key = \"AK2\"\ndestroy_secret_key = { file = \"/etc/s3-destroy.key\" }\n";
        assert!(shown.contains(keys), "{shown}");
        let folder = tempfile::tempdir().expect("a folder");
        let (secret, missing) = (folder.path().join("s3.key"), folder.path().join("missing"));
        std::fs::write(&secret, "a secret").expect("written");
        std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("set");
        let copy = |destroys: &Path| {
            let bucket = format!(
                "https://fsn1.example/shop,region=x,access_key=AK1,secret_key={},destroy_access_key=AK2,destroy_secret_key={}",
                secret.display(),
                destroys.display()
            );
            NewCopy::parse(&bucket).expect("a bucket").check(&Secrets::of_system())
        };
        copy(&secret).expect("both can be opened");
        assert!(copy(&missing).expect_err("one is not there").to_string().contains("delete from the bucket shop"));
    }

    /// The server would take the copy for a database of its own, and a base would hold all bases before it.
    #[test]
    fn no_copy_is_among_the_data_of_a_server() {
        let folder = tempfile::tempdir().expect("a folder");
        let secrets = Secrets::of_system();
        let copy = |path: &str| NewCopy::parse(&folder.path().join(path).display().to_string()).expect("a place");
        copy("data/copy").check(&secrets).expect("no server has its data there");
        std::fs::create_dir(folder.path().join("data")).expect("made");
        std::fs::write(folder.path().join("data/ibdata1"), "").expect("written");
        for path in ["data/copy", "data", "data/a/b"] {
            let error = copy(path).check(&secrets).expect_err("among the data");
            assert!(error.to_string().contains("where a server has its data"), "{error}");
        }
        copy("copy").check(&secrets).expect("beside it");
    }

    #[test]
    fn what_is_no_copy_is_called_so() {
        for text in [
            "",
            "mnt/backup",
            "/mnt/backup,where=here",
            "/mnt/backup,region",
            "/mnt/backup,region=a,region=b",
            "/mnt/backup,access_key=AK1",
            "https://s3.example/",
            "https://s3.example/shop,region=x",
            "https://s3.example/shop,access_key=AK1,secret_key=/k",
            "https://s3.example/shop,region=x,access_key=AK1,secret_key=/k,destroy_access_key=AK2",
            "https://s3.example/shop,region=x,access_key=AK1,secret_key=/k,destroy_access_key=AK1,destroy_secret_key=/d",
            "/mnt/backup,destroy_access_key=AK2,destroy_secret_key=/d",
        ] {
            assert_eq!(NewCopy::parse(text).expect_err(text).exit_code(), 2, "{text}");
        }
        let unknown = NewCopy::parse("/mnt,region=mars").expect("a place").additions(&mut Vec::new(), &mut Vec::new());
        assert!(unknown.expect_err("nobody's").to_string().contains("mars"));
    }
}
