//! Listings: answer after answer, of the objects as they are now or of all their versions.

use event::Time;
use rusty_s3::Method;

use super::wire::Question;
use super::xml::Element;
use super::{ObjectError, S3, Why};

/// Most answers of one listing: an attacker may have marked an object as deleted a million times.
pub(super) const ANSWERS_MAX: u32 = 2000;

/// A version of an object.
pub(super) struct Version {
    /// Its name among the versions; empty where only the newest is listed.
    pub(super) id: String,
    /// Its size in bytes.
    pub(super) size: u64,
}

/// An object of a listing.
pub(super) struct Entry {
    /// Its whole key.
    pub(super) key: String,
    /// The version that is listed.
    pub(super) version: Version,
}

/// One answer to a listing.
pub(super) struct Listing {
    /// Objects, in the order of their keys; with versions, the newest of a key first.
    pub(super) entries: Vec<Entry>,
    /// Whole keys of the folders, where those are asked for.
    pub(super) folders: Vec<String>,
    /// Where the next answer goes on.
    pub(super) next: Option<Mark>,
}

/// Where a listing begins.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Mark {
    /// After this key, or at the beginning.
    Key(Option<String>),
    /// Where the answer before says.
    Token(String),
    /// After this version of this key.
    Version(String, String),
}

impl Mark {
    pub(super) fn name(key: Option<String>) -> Self {
        Self::Key(key)
    }
}

impl S3 {
    /// One answer to a listing of what is below `prefix`: with `folders`, in the folder alone.
    pub(super) async fn listing(&self, prefix: &str, folders: bool, from: &Mark) -> Result<Listing, ObjectError> {
        let listing = if self.first_written {
            self.listing_of_versions(prefix, folders, from).await?
        } else {
            self.listing_of_objects(prefix, folders, from).await?
        };
        match &listing.next {
            Some(next) if next == from => {
                Err(self.error(prefix, Why::Damaged, "the listing does not go on: the provider says the same again"))
            }
            _ => Ok(listing),
        }
    }

    async fn listing_of_objects(&self, prefix: &str, folders: bool, from: &Mark) -> Result<Listing, ObjectError> {
        let mut asked = Question::of_bucket(Method::Get, "s3:ListBucket").query("list-type", "2");
        asked = self.asked_for(asked, prefix, folders);
        match from {
            Mark::Key(Some(key)) => asked = asked.query("start-after", key),
            Mark::Token(token) => asked = asked.query("continuation-token", token),
            Mark::Key(None) | Mark::Version(..) => {}
        }
        let answer = self.ask(prefix, &asked, &[]).await?;
        let root = self.parse(prefix, &answer)?;
        let next = match (root.text("IsTruncated"), root.text("NextContinuationToken")) {
            ("true", "") => return Err(self.unfinished(prefix)),
            ("true", token) => Some(Mark::Token(token.to_owned())),
            _ => None,
        };
        let entries = root.all("Contents").map(|element| self.entry(prefix, element)).collect::<Result<_, _>>()?;
        Ok(Listing { entries, folders: folders_in(&root), next })
    }

    async fn listing_of_versions(&self, prefix: &str, folders: bool, from: &Mark) -> Result<Listing, ObjectError> {
        let mut asked = Question::of_bucket(Method::Get, "s3:ListBucketVersions").query("versions", "");
        asked = self.asked_for(asked, prefix, folders);
        match from {
            Mark::Key(Some(key)) => asked = asked.query("key-marker", key),
            Mark::Version(key, id) => asked = asked.query("key-marker", key).query("version-id-marker", id),
            Mark::Key(None) | Mark::Token(_) => {}
        }
        let answer = self.ask(prefix, &asked, &[]).await?;
        let root = self.parse(prefix, &answer)?;
        let versions = root.all("Version").filter(|element| {
            let written = Time::parse_rfc3339(element.text("LastModified"));
            self.written_before.is_none_or(|before| written.is_some_and(|written| written <= before))
        });
        let entries = versions.map(|element| self.entry(prefix, element)).collect::<Result<_, _>>()?;
        Ok(Listing { entries, folders: folders_in(&root), next: self.next_of_versions(prefix, &root)? })
    }

    fn next_of_versions(&self, prefix: &str, root: &Element) -> Result<Option<Mark>, ObjectError> {
        Ok(match (root.text("IsTruncated"), root.text("NextKeyMarker"), root.text("NextVersionIdMarker")) {
            ("true", "", _) => return Err(self.unfinished(prefix)),
            ("true", key, "") => Some(Mark::Key(Some(key.to_owned()))),
            ("true", key, id) => Some(Mark::Version(key.to_owned(), id.to_owned())),
            _ => None,
        })
    }

    fn asked_for(&self, asked: Question, prefix: &str, folders: bool) -> Question {
        let asked = asked.query("prefix", &self.key(prefix));
        // `delimiter=` is taken for a delimiter by some.
        if folders { asked.query("delimiter", "/") } else { asked }
    }

    /// The error of a listing without an end.
    pub(super) fn too_long(&self, prefix: &str) -> ObjectError {
        self.error(prefix, Why::Impossible, format!("the listing has no end after {ANSWERS_MAX} answers"))
    }

    fn unfinished(&self, prefix: &str) -> ObjectError {
        self.error(prefix, Why::Damaged, "the listing is cut off, and does not say where it goes on")
    }

    fn entry(&self, prefix: &str, element: &Element) -> Result<Entry, ObjectError> {
        let size = element.text("Size").parse();
        let size =
            size.map_err(|_| self.error(prefix, Why::Damaged, "the listing does not say how large an object is"))?;
        let version = Version { id: element.text("VersionId").to_owned(), size };
        Ok(Entry { key: element.text("Key").to_owned(), version })
    }

    /// The version of an object that was written first.
    pub(super) async fn first_version(&self, name: &str) -> Result<Option<Version>, ObjectError> {
        let (key, mut from, mut first) = (self.key(name), Mark::name(None), None);
        for _ in 0..ANSWERS_MAX {
            let listing = self.listing(name, false, &from).await?;
            // Keys that begin with this one come behind it.
            let is_past = listing.entries.last().is_some_and(|entry| entry.key > key);
            for entry in listing.entries.into_iter().filter(|entry| entry.key == key) {
                first = Some(entry.version);
            }
            match listing.next {
                Some(next) if !is_past => from = next,
                _ => return Ok(first),
            }
        }
        Err(self.too_long(name))
    }

    /// The names of versions of an object, marks of deletion among them: some of them, and of none only when none is left. `None`
    /// where the provider knows no versions.
    pub(super) async fn versions_of(&self, name: &str) -> Result<Option<Vec<String>>, ObjectError> {
        let key = self.key(name);
        let asked = Question::of_bucket(Method::Get, "s3:ListBucketVersions").query("versions", "");
        // Of all keys that begin with this one it is the first.
        let answer = self.ask(name, &self.asked_for(asked, name, false), &[501]).await?;
        if answer.status == 501 {
            return Ok(None);
        }
        let root = self.parse(name, &answer)?;
        let all = root.children.iter().filter(|child| matches!(child.name.as_str(), "Version" | "DeleteMarker"));
        let of_key = all.filter(|child| child.text("Key") == key);
        Ok(Some(of_key.map(|child| child.text("VersionId").to_owned()).collect()))
    }
}

fn folders_in(root: &Element) -> Vec<String> {
    root.all("CommonPrefixes").map(|folder| folder.text("Prefix").to_owned()).collect()
}
