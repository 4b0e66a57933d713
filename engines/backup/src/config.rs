//! `[backup]`: what is backed up, where its copies are, and how long they are kept.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use event::policy::{Agreement, Applied, Detector, Text};
use event::{FindingId, ProbeId, RegionId, ServiceId, Span};
use policy::{BackupName, Document, Mistake, Nouns, Part, Secret, Section, SectionDoc, Table};
use serde::{Deserialize, Serialize};

use crate::canary::CanaryTable;
use crate::checks::{CommandCheck, SqlCheck};
use crate::database::IDLE_EVERY;
use crate::residency::{doubles, resolved, together};
use crate::sources;

/// How often it is stated what was looked at: one coverage record.
pub(crate) const EVERY: Span = Span::from_secs(60);
/// The kind of the probes.
pub(crate) const PROBE: &str = "backup";

/// The finding that the last attempt of a kind has failed, or is late.
pub(crate) const BACKUP_FAILING: &str = "backup-failing";
/// The finding that a copy does not have all that another has.
pub(crate) const COPIES_UNEQUAL: &str = "copies-unequal";
/// The finding that a part of the past can't be restored: a log has a gap.
pub(crate) const LOG_BROKEN: &str = "log-broken";
/// The finding that something is not as it was stored, at one copy or at all of them.
pub(crate) const BACKUP_DAMAGED: &str = "backup-damaged";
/// The finding that something is still there that was to be destroyed.
pub(crate) const EXPIRED_KEPT: &str = "expired-backups-kept";
/// The finding that a host has what it takes to destroy its own backups.
pub(crate) const HOST_CAN_DESTROY: &str = "host-can-destroy-backups";
/// Why it is not proved that no host has it: in this release the agent is always beside the server.
pub(crate) const SAME_HOST: &str = "that no host can destroy its own backups (BK-9) is unproven, reason: same host; whoever is root here \
                                    has the agent and the server with its right to destroy. What is locked in a bucket stays all the same";
/// The finding that a copy is elsewhere than the policy says.
pub(crate) const COPY_ELSEWHERE: &str = "copy-elsewhere";
/// The finding that the copies are not at two providers in two regions.
pub(crate) const COPIES_TOGETHER: &str = "copies-together";
/// The probe of expiry, and how often it is looked at.
pub(crate) const EXPIRY_PROBE: &str = "backup-expiry";
pub(crate) const EXPIRY_EVERY: Span = Span::from_secs(3600);
/// The findings of backups, with their titles.
const FINDINGS: [(&str, &str, &str); 6] = [
    (BACKUP_FAILING, "Une sauvegarde échoue", "A backup fails"),
    (BACKUP_DAMAGED, "Une sauvegarde est endommagée", "A backup is damaged"),
    (COPIES_UNEQUAL, "Une copie des sauvegardes est incomplète", "A copy of the backups is incomplete"),
    (
        COPY_ELSEWHERE,
        "Une copie des sauvegardes n’est pas dans la région promise",
        "A copy of the backups is not in the region that was promised",
    ),
    (
        COPIES_TOGETHER,
        "Les copies ne sont pas chez deux fournisseurs de deux régions",
        "The copies are not at two providers in two regions",
    ),
    (LOG_BROKEN, "Un journal de base de données a une lacune", "The log of a database has a gap"),
];

/// How often a base may be taken.
const INTERVALS: RangeInclusive<Span> = Span::from_secs(60)..=LONGEST_INTERVAL;
/// The longest time between two bases, or snapshots.
pub(crate) const LONGEST_INTERVAL: Span = Span::from_days(31);
/// How often a row of a canary may be committed.
const CANARY_INTERVALS: RangeInclusive<Span> = Span::from_secs(5)..=Span::from_secs(3600);
/// How long backups may be kept.
const KEPT: RangeInclusive<Span> = Span::from_days(1)..=Span::from_days(3650);
/// Longest name of a copy: it is part of names of objects, as that of a backup.
const NAME_BYTES_MAX: usize = 40;

/// One copy of the repository.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct CopySettings {
    /// Its name.
    pub name: String,
    /// The region that it is in.
    pub region: RegionId,
    /// The provider of that region, as the policy declares it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// What it is made of.
    pub place: PlaceSettings,
}

impl CopySettings {
    /// Its directory, where it is one.
    pub(crate) fn directory(&self) -> Option<&std::path::Path> {
        match &self.place {
            PlaceSettings::Directory(path) => Some(path),
            PlaceSettings::S3(_) => None,
        }
    }
}

/// What a copy is made of.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum PlaceSettings {
    /// A directory.
    Directory(PathBuf),
    /// A bucket.
    S3(Box<BucketSettings>),
}

/// A bucket of S3.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct BucketSettings {
    /// URL of the provider.
    pub endpoint: String,
    /// The bucket.
    pub bucket: String,
    /// What all names begin with.
    pub prefix: Option<String>,
    /// Whether the bucket is named in the path of a URL, and not in its host.
    pub path_style: bool,
    /// The region, as the provider calls it.
    pub region: String,
    /// The access key, which is no secret.
    pub access_key: String,
    /// Where the secret key is.
    pub secret_key: SecretPlace,
    /// Whether objects are locked for as long as they are kept.
    pub lock: bool,
    /// The identity that the server destroys with what is not kept any longer.
    pub destroys: Option<Identity>,
    /// Most bytes per second that are sent.
    pub bytes_per_second_max: Option<u64>,
}

/// An access key, and where its secret key is.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Identity {
    /// The access key, which is no secret.
    pub access_key: String,
    /// Where the secret key is.
    pub secret_key: SecretPlace,
}

/// Where a secret is kept, as the agent is told.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum SecretPlace {
    /// In this file.
    File(PathBuf),
    /// In the credential of this name.
    Credential(String),
}

impl SecretPlace {
    /// As `engine::Secrets` opens it.
    pub fn secret(&self) -> Secret {
        match self {
            Self::File(path) => Secret::File(path.clone()),
            Self::Credential(name) => Secret::Credential(name.clone()),
        }
    }
}

impl From<Secret> for SecretPlace {
    fn from(secret: Secret) -> Self {
        match secret {
            Secret::File(path) => Self::File(path),
            Secret::Credential(name) => Self::Credential(name),
        }
    }
}

/// How a database is reached.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Connection {
    /// The socket of MariaDB, or the folder of the socket of PostgreSQL.
    pub socket: PathBuf,
    /// The user; of MariaDB by `unix_socket`, of PostgreSQL by `peer`, unless there is a password.
    pub user: Option<String>,
    /// Where its password is.
    pub password: Option<SecretPlace>,
}

/// A database.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct DatabaseSettings {
    /// Name of the backup.
    pub name: String,
    /// The service that its probes belong to, where it is another than that of all.
    pub service: Option<ServiceId>,
    /// How it is reached.
    pub connection: Connection,
    /// How often a full base is taken.
    pub full_every: Span,
    /// How often an incremental one is, between the full ones; none of PostgreSQL.
    pub incremental_every: Option<Span>,
    /// What must be true of it once it was restored.
    #[serde(default)]
    pub checks: Vec<SqlCheck>,
    /// The canary rows.
    #[serde(default)]
    pub canary: Option<Canary>,
    /// Its directory of data, where the server can't be asked.
    #[serde(default)]
    pub data: Option<PathBuf>,
    /// What stops the server, and starts it, where it is not the unit of Debian.
    #[serde(default)]
    pub stop: Vec<String>,
    /// See `stop`.
    #[serde(default)]
    pub start: Vec<String>,
}

impl DatabaseSettings {
    /// Whether it is of MariaDB, which alone has incremental bases.
    pub(crate) fn is_mariadb(&self) -> bool {
        self.incremental_every.is_some()
    }
}

/// Rows that are committed to a database, and must come back.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Canary {
    /// Their table.
    pub table: CanaryTable,
    /// How often one is committed.
    pub every: Span,
}

/// Files.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct FilesSettings {
    /// Name of the backup.
    pub name: String,
    /// The service that its probes belong to, where it is another than that of all.
    pub service: Option<ServiceId>,
    /// Files and directories.
    pub paths: Vec<PathBuf>,
    /// Volumes of Docker, by name.
    pub volumes: Vec<String>,
    /// What is left out, as in a `.gitignore`.
    pub exclude: Vec<String>,
    /// Whether what is mounted below them is left out.
    pub one_file_system: bool,
    /// Whether a path may be empty that was not when it was last backed up.
    pub may_be_empty: bool,
    /// How often they are backed up.
    pub every: Span,
    /// What must be true of them once they were restored.
    #[serde(default)]
    pub checks: Vec<CommandCheck>,
}

/// `[backup]`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Settings {
    /// The service that the probes belong to, where a backup names no other.
    pub service: ServiceId,
    /// Where the repository key is.
    pub key: SecretPlace,
    /// How long everything is kept.
    pub keep: Span,
    /// How often each backup is restored to a random instant.
    pub restore_every: Span,
    /// The copies.
    pub copies: Vec<CopySettings>,
    /// Databases of MariaDB.
    pub mariadb: Vec<DatabaseSettings>,
    /// Clusters of PostgreSQL.
    pub postgres: Vec<DatabaseSettings>,
    /// Files.
    pub files: Vec<FilesSettings>,
}

/// What is backed up of something: each kind is a probe of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Kind {
    /// Full bases, and snapshots of files.
    Full,
    /// Incremental bases.
    Incremental,
    /// The log.
    Log,
    /// Restore tests.
    Restore,
}

impl Kind {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Incremental => "incremental",
            Self::Log => "log",
            Self::Restore => "restore",
        }
    }

    /// The probe of this kind of the backup `name`.
    pub(crate) fn probe(self, name: &str) -> Option<ProbeId> {
        format!("{name}-{}", self.word()).parse().ok()
    }
}

impl Settings {
    /// The backups of databases, each with how often a full base is taken of it.
    pub(crate) fn databases(&self) -> impl Iterator<Item = (&str, Span)> {
        self.mariadb.iter().chain(&self.postgres).map(|database| (database.name.as_str(), database.full_every))
    }

    /// Files that hold a copy of the repository, the copy, and its directory as a walk comes to it.
    fn held_copy(&self) -> Option<(&str, &str, PathBuf)> {
        self.files.iter().find_map(|files| {
            let files_of = sources::files(files);
            let copy = self.copies.iter().find_map(|copy| {
                let PlaceSettings::Directory(directory) = &copy.place else { return None };
                let at = resolved(directory);
                files_of.reaches(&at).then_some((&*copy.name, at))
            });
            copy.map(|(copy, at)| (&*files.name, copy, at))
        })
    }

    /// How long the bases, or snapshots, of each backup are apart.
    pub(crate) fn intervals(&self) -> BTreeMap<String, Span> {
        let files = self.files.iter().map(|files| (files.name.as_str(), files.every));
        self.databases().chain(files).map(|(name, apart)| (name.to_owned(), apart)).collect()
    }

    /// The database of that name.
    pub(crate) fn database(&self, name: &str) -> Option<&DatabaseSettings> {
        self.mariadb.iter().chain(&self.postgres).find(|database| database.name == name)
    }

    /// Whether anything must be true of what is restored of the backup of that name.
    pub(crate) fn has_checks(&self, name: &str) -> bool {
        self.database(name).is_some_and(|database| !database.checks.is_empty())
            || self.files.iter().any(|files| files.name == name && !files.checks.is_empty())
    }

    /// All backups, each with its service and the kinds that there are of it.
    pub(crate) fn backups(&self) -> impl Iterator<Item = (&str, &ServiceId, Vec<Kind>)> {
        let databases = self.mariadb.iter().chain(&self.postgres).map(|database| {
            let incremental = database.incremental_every.map(|_| Kind::Incremental);
            let kinds = [Kind::Full, Kind::Log, Kind::Restore].into_iter().chain(incremental).collect();
            (database.name.as_str(), database.service.as_ref().unwrap_or(&self.service), kinds)
        });
        let files = self.files.iter().map(|files| {
            let service = files.service.as_ref().unwrap_or(&self.service);
            (files.name.as_str(), service, vec![Kind::Full, Kind::Restore])
        });
        databases.chain(files)
    }
}

/// Declares the probes of a backup, and reads its name.
fn declare(table: &mut Table<'_>, kinds: &[Kind]) -> Option<String> {
    let doc =
        "name of the backup; its probes are called so with `-full`, `-incremental`, `-log` and `-restore` behind it";
    let name: BackupName = table.declare("name", doc)?;
    for kind in kinds {
        let probe = kind.probe(name.as_str())?;
        table.provide(&probe);
    }
    Some(name.to_string())
}

fn is_short_name(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

impl Section for CopySettings {
    const ABOUT: &'static str =
        "A copy of all backups: a directory, or a bucket of S3. Two at least, in two regions of two providers.";
    const EXAMPLE: &'static str = "";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let name: Option<String> = table.required("name", "what the team calls it");
        let region = table.required("region", "the region that it is in");
        let directory: Option<PathBuf> =
            table.optional("directory", "a directory: a disk of its own, or a mount of another machine");
        let bucket: Option<String> = table.optional("bucket", "a bucket of S3");
        let endpoint: Option<policy::Url> = table.optional("endpoint", "of a bucket, the URL of its provider");
        let prefix = table.optional("prefix", "of a bucket, what all names begin with");
        let path_style = table.or("path_style", true, "of a bucket, name it in the path of the URL, not in its host");
        let s3_region: Option<String> =
            table.optional("s3_region", "of a bucket, its region as the provider calls it; \"us-east-1\" unless said");
        let access_key: Option<String> =
            table.optional("access_key", "of a bucket, the access key, which is no secret");
        let secret_key: Option<Secret> = table.optional("secret_key", "of a bucket, where its secret key is kept");
        let destroy_access_key: Option<String> = table.optional(
            "destroy_access_key",
            "of a bucket, the access key of another identity, which may add, read and delete; read by the server, never by a host",
        );
        let destroy_secret_key: Option<Secret> =
            table.optional("destroy_secret_key", "of a bucket, where the secret key of that identity is kept");
        let lock = table.or("lock", true, "of a bucket, lock objects for as long as they are kept (object lock)");
        let bytes_per_second_max =
            table.optional("bytes_per_second_max", "of a bucket, the most that is sent in a second, in bytes");
        let name = name?;
        if !is_short_name(&name) {
            let remedy = "write 1 to 40 of the characters a-z 0-9 - and start with a letter";
            table.mistake("name", format!("`{name}` is no name of a copy"), remedy);
            return None;
        }
        let place = match (directory, bucket) {
            (Some(directory), None) => PlaceSettings::Directory(directory),
            (None, Some(bucket)) => {
                let (Some(endpoint), Some(access_key), Some(secret_key)) = (endpoint, access_key, secret_key) else {
                    let remedy = "write `endpoint`, `access_key` and `secret_key = { file = \"…\" }` beside it";
                    table.mistake("bucket", "nobody can reach a bucket by its name alone", remedy);
                    return None;
                };
                let destroys = match (destroy_access_key, destroy_secret_key) {
                    (Some(access_key), Some(secret)) => Some(Identity { access_key, secret_key: secret.into() }),
                    (None, None) => None,
                    _ => {
                        let remedy = "write `destroy_access_key` and `destroy_secret_key`, or neither";
                        table.mistake("bucket", "half an identity that may delete", remedy);
                        return None;
                    }
                };
                if destroys.as_ref().is_some_and(|identity| identity.access_key == access_key) {
                    let remedy =
                        "make a second identity at the provider: that of the host may add and read, and never delete";
                    table.mistake("destroy_access_key", "it is the identity of the host", remedy);
                    return None;
                }
                PlaceSettings::S3(Box::new(BucketSettings {
                    destroys,
                    endpoint: endpoint.to_string(),
                    bucket,
                    prefix,
                    path_style,
                    region: s3_region.unwrap_or_else(|| "us-east-1".to_owned()),
                    access_key,
                    secret_key: secret_key.into(),
                    lock,
                    bytes_per_second_max,
                }))
            }
            (Some(_), Some(_)) => {
                table.mistake("bucket", "one copy in two places", "declare two copies, or remove one of the two keys");
                return None;
            }
            (None, None) => {
                table.mistake("name", "a copy that is nowhere", "write `directory = \"…\"`, or `bucket = \"…\"`");
                return None;
            }
        };
        Some(Self { name, region: region?, provider: None, place })
    }
}

/// The checks, each of which needs a name of its own.
fn named_once<C>(table: &mut Table<'_>, checks: Vec<C>, name: impl Fn(&C) -> &String) -> Vec<C> {
    let mut names = BTreeSet::new();
    let twice = checks.iter().map(&name).find(|name| !names.insert(*name)).cloned();
    if let Some(name) = twice {
        table.mistake("check", format!("two checks are called `{name}`"), "give one of them another name");
    }
    checks
}

/// What a server is called in its chapter, and where its socket is on Debian.
struct Server {
    check_doc: &'static str,
    canary_doc: &'static str,
    socket_doc: &'static str,
    socket: &'static str,
    incremental: Option<Span>,
}

fn database(table: &mut Table<'_>, server: &Server) -> Option<DatabaseSettings> {
    let kinds = [Some(Kind::Full), Some(Kind::Log), Some(Kind::Restore), server.incremental.map(|_| Kind::Incremental)];
    let kinds: Vec<Kind> = kinds.into_iter().flatten().collect();
    let name = declare(table, &kinds);
    let service = table.optional("service", "the service that its probes belong to, where it is another one");
    let socket: Option<PathBuf> = table.optional("socket", server.socket_doc);
    let user = table.optional("user", "the user; that of the agent unless said");
    let password: Option<Secret> =
        table.optional("password", "where its password is kept; without one the server asks the kernel who connects");
    let full_every = table.or_in("full_every", Span::from_secs(6 * 3600), &INTERVALS, "how often a full base is taken");
    let incremental_every = server.incremental.map(|default| {
        table.or_in("incremental_every", default, &INTERVALS, "how often an incremental base is taken in between")
    });
    let checks = table.list("check", server.check_doc);
    let checks = named_once(table, checks, |check: &SqlCheck| &check.name);
    let canary: Option<String> = table.optional("canary", server.canary_doc);
    let doc = "how often a row of the canary is committed";
    let every = table.or_in("canary_every", Span::from_secs(60), &CANARY_INTERVALS, doc);
    let canary = match canary.map(|canary| canary.parse::<CanaryTable>()).transpose() {
        Ok(found) if found.as_ref().is_some_and(|table| table.schema.is_some()) && server.incremental.is_some() => {
            let remedy = "write `canary = \"database.table\"`: MariaDB has no schemas";
            table.mistake("canary", "a table has two parts in its name", remedy);
            None
        }
        Ok(found) => found.map(|table| Canary { table, every }),
        Err(why) => {
            let remedy = "write its database and its name, of letters, digits and _: `canary = \"shop.garant_canary\"`";
            table.mistake("canary", why, remedy);
            None
        }
    };
    let data = table.optional("data", "its directory of data, for a rewind of a server that does not answer");
    let doc = "a program and its arguments that stops the server for a rewind; the unit of Debian unless said";
    let stop = table.list("stop", doc);
    let doc = "a program and its arguments that starts it again, and returns";
    let start: Vec<String> = table.list("start", doc);
    if stop.is_empty() != start.is_empty() {
        let key = if stop.is_empty() { "start" } else { "stop" };
        let remedy = "write both: `stop = [\"systemctl\", \"stop\", \"mariadb\"]` and `start = [\"systemctl\", \"start\", \"mariadb\"]`";
        table.mistake(key, "a server that is stopped has to be started again", remedy);
    }
    let socket = socket.unwrap_or_else(|| PathBuf::from(server.socket));
    let connection = Connection { socket, user, password: password.map(SecretPlace::from) };
    Some(DatabaseSettings {
        name: name?,
        service,
        connection,
        full_every,
        incremental_every,
        checks,
        canary,
        data,
        stop,
        start,
    })
}

/// A table of `[[backup.mariadb]]`.
struct MariaDbTable(DatabaseSettings);

impl Section for MariaDbTable {
    const ABOUT: &'static str = "A server of MariaDB, with its binary log.";
    const EXAMPLE: &'static str = "";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let server = Server {
            check_doc: "what must be true of it once it was restored, [[backup.mariadb.check]]",
            canary_doc: "a table, \"database.table\", to which rows are committed that each restore test must bring back; none unless said",
            socket_doc: "its socket; `/run/mysqld/mysqld.sock` unless said",
            socket: "/run/mysqld/mysqld.sock",
            incremental: Some(Span::from_secs(3600)),
        };
        database(table, &server).map(Self)
    }
}

/// A table of `[[backup.postgres]]`.
struct PostgresTable(DatabaseSettings);

impl Section for PostgresTable {
    const ABOUT: &'static str = "A cluster of PostgreSQL, with its write-ahead log.";
    const EXAMPLE: &'static str = "";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let server = Server {
            check_doc: "what must be true of it once it was restored, [[backup.postgres.check]]",
            canary_doc: "a table, \"database.table\" or \"database.schema.table\", to which rows are committed that each restore test \
                         must bring back; none unless said",
            socket_doc: "the folder of its socket, or the socket itself where its port is not 5432; `/run/postgresql` unless said",
            socket: "/run/postgresql",
            incremental: None,
        };
        database(table, &server).map(Self)
    }
}

impl Section for FilesSettings {
    const ABOUT: &'static str = "Files and directories, and volumes of Docker.";
    const EXAMPLE: &'static str = "";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let name = declare(table, &[Kind::Full, Kind::Restore]);
        let service = table.optional("service", "the service that its probes belong to, where it is another one");
        let paths: Vec<PathBuf> = table.list("paths", "files and directories");
        let volumes: Vec<String> = table.list("volumes", "volumes of Docker, by name");
        let exclude = table.list("exclude", "what is left out, as in a `.gitignore`; a `/` at the start is the root");
        let one_file_system = table.or(
            "one_file_system",
            false,
            "whether other file systems that are mounted below the paths are left out",
        );
        let doc = "whether a path may be empty that was not when it was last backed up: else its file system is away, and nothing \
                   is kept";
        let may_be_empty = table.or("may_be_empty", false, doc);
        let every = table.or_in("every", Span::from_secs(6 * 3600), &INTERVALS, "how often they are backed up");
        let checks = table.list("check", "what must be true of them once they were restored, [[backup.files.check]]");
        let checks = named_once(table, checks, |check: &CommandCheck| &check.name);
        if paths.is_empty() && volumes.is_empty() {
            table.mistake("paths", "nothing is backed up", "write `paths = [\"/etc\", \"/srv/www\"]`, or `volumes`");
            return None;
        }
        let name = name?;
        let made = Self { name, service, paths, volumes, exclude, one_file_system, may_be_empty, every, checks };
        if let Some(error) = sources::files(&made).unsound() {
            table.mistake("paths", error.to_string(), "correct what is named in `paths`, `volumes` or `exclude`");
        }
        Some(made)
    }
}

impl Section for Settings {
    const ABOUT: &'static str = "\
Files and databases, kept at several places and brought back to any second. It runs in the agent of this host.";
    const EXAMPLE: &'static str = r#"
[backup]
service = "backup"
key = { file = "/etc/garant/backup.key" }
copy = [
  { name = "near", region = "gravelines", directory = "/mnt/backup" },
  { name = "far", region = "gravelines", endpoint = "https://s3.example", bucket = "shop-backup", access_key = "AK1", secret_key = { file = "/etc/garant/s3.key" } },
]
mariadb = [{ name = "shop-db" }]
postgres = [{ name = "crm-db" }]
files = [{ name = "etc", paths = ["/etc"] }]
"#;

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let service = table.required("service", "the service that the probes belong to; best one of its own");
        let key: Option<Secret> =
            table.required("key", "where the repository key is kept: `garant backup key new` makes one");
        let keep = table.or_in("keep", Span::from_days(90), &KEPT, "how long everything is kept");
        let doc = "how often each backup is restored to a random instant, in a place of its own";
        let restore_every = table.or_in("restore_every", Span::from_days(1), &INTERVALS, doc);
        let copies: Vec<CopySettings> = table.list("copy", "the copies, [[backup.copy]]");
        let mariadb: Vec<MariaDbTable> = table.list("mariadb", "servers of MariaDB, [[backup.mariadb]]");
        let postgres: Vec<PostgresTable> = table.list("postgres", "clusters of PostgreSQL, [[backup.postgres]]");
        let files: Vec<FilesSettings> = table.list("files", "files, [[backup.files]]");
        if copies.is_empty() && !table.has("copy") {
            table.mistake("key", "there is no place for any backup", "declare a [[backup.copy]], best two");
        }
        let settings = Self {
            service: service?,
            key: key?.into(),
            keep,
            restore_every,
            copies,
            mariadb: mariadb.into_iter().map(|table| table.0).collect(),
            postgres: postgres.into_iter().map(|table| table.0).collect(),
            files,
        };
        if let Some((files, copy, path)) = settings.held_copy() {
            let is_root = settings.files.iter().any(|it| it.name == files && it.paths.contains(&path));
            let path = path.display();
            let what = format!(
                "the files `{files}` hold the copy `{copy}`, in {path}: it would be backed up into itself, and grow for ever"
            );
            let remedy = if is_root {
                format!("take it out of `paths` of `{files}`, or move the copy")
            } else {
                format!("write `exclude = [\"{path}\"]` for `{files}`, or move the copy")
            };
            table.mistake("files", what, remedy);
        }
        for double in doubles(&settings) {
            let remedy = format!("give `{}` a place of its own, best at another provider, or remove it", double.copy);
            table.mistake("copy", double.words(), remedy);
        }
        let mut copies = BTreeSet::new();
        let copy_twice = settings.copies.iter().map(|copy| &copy.name).find(|name| !copies.insert(*name)).cloned();
        if let Some(name) = copy_twice {
            table.mistake("copy", format!("two copies are called `{name}`"), "give one of them another name");
        }
        Some(settings)
    }
}

/// The part of the policy that the engine reads.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Config {
    settings: Option<Settings>,
    revision: String,
}

/// What the engine is to do, as the agent keeps it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Desired {
    /// `[backup]`.
    pub settings: Settings,
    /// The revision of the policy, which coverage records name.
    pub revision: String,
}

/// How often one kind of a backup succeeds at best.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pace {
    /// The backup.
    pub backup: String,
    /// Its probe.
    pub probe: ProbeId,
    /// The shortest time between two successes, but for the time that each takes.
    pub every: Span,
    /// The key of the policy that says so.
    pub key: Option<&'static str>,
    /// Of restore tests, the age that the newest instant which can be restored may have reached at any time, and the key that says so.
    pub loses: Option<(Span, Option<&'static str>)>,
}

#[cfg(test)]
impl Config {
    /// What a policy says, for tests.
    pub(crate) fn of_text(policy: &str) -> Self {
        let mut document = Document::from_text("garant.toml", policy);
        let nouns = Nouns::read(&mut document);
        let config = <Self as Part>::read(&mut document, &nouns);
        assert!(config.settings().is_some(), "it is not sound: {policy}");
        config
    }

    /// The settings of one copy in a directory, and of the backups that these lines of `[backup]` declare.
    pub(crate) fn sample(backups: &str) -> Settings {
        let policy = format!(
            r#"
            [[service]]
            name = "backup"
            [[region]]
            name = "near"
            provider = "ovh"
            [backup]
            service = "backup"
            key = {{ file = "/etc/garant/backup.key" }}
            copy = [{{ name = "near", region = "near", directory = "/mnt/backup" }}]
            {backups}
        "#
        );
        Self::of_text(&policy).settings().expect("it is sound").clone()
    }
}

impl Config {
    /// How often each kind of each backup succeeds at best.
    pub fn paces(&self) -> Vec<Pace> {
        let Some(settings) = &self.settings else { return Vec::new() };
        let mut paces = Vec::new();
        let mut add = |backup: &str, kind: Kind, every: Span, key, loses| {
            let backup = backup.to_owned();
            paces.extend(kind.probe(&backup).map(|probe| Pace { backup, probe, every, key, loses }));
        };
        let restore_key = Some("restore_every");
        for database in settings.mariadb.iter().chain(&settings.postgres) {
            let name = &database.name;
            add(name, Kind::Full, database.full_every, Some("full_every"), None);
            if let Some(every) = database.incremental_every {
                // A full base shows all that an incremental one would.
                add(name, Kind::Incremental, every.min(database.full_every), Some("incremental_every"), None);
            }
            // Where nothing happens, the log says so once a minute.
            add(name, Kind::Log, IDLE_EVERY, None, None);
            add(name, Kind::Restore, settings.restore_every, restore_key, Some((IDLE_EVERY, None)));
        }
        for files in &settings.files {
            let every = (files.every, Some("every"));
            add(&files.name, Kind::Full, every.0, every.1, None);
            add(&files.name, Kind::Restore, settings.restore_every, restore_key, Some(every));
        }
        paces
    }

    /// What the agent of this host is to do; `None` without `[backup]`.
    pub fn desired(&self) -> Option<Desired> {
        let settings = self.settings.clone()?;
        Some(Desired { settings, revision: self.revision.clone() })
    }

    /// The revision of the policy.
    pub(crate) fn revision(&self) -> &str {
        &self.revision
    }

    /// `[backup]`.
    pub fn settings(&self) -> Option<&Settings> {
        self.settings.as_ref()
    }
}

fn finding(name: &str) -> Option<FindingId> {
    name.parse().ok()
}

impl Part for Config {
    fn read(document: &mut Document, nouns: &Nouns) -> Self {
        let mut settings: Option<Settings> = document.table("backup");
        if let Some(settings) = &mut settings {
            for name in
                FINDINGS.into_iter().map(|(name, ..)| name).chain([EXPIRED_KEPT, HOST_CAN_DESTROY]).filter_map(finding)
            {
                document.provide(&name);
            }
            if let Ok(probe) = EXPIRY_PROBE.parse::<ProbeId>() {
                document.provide(&probe);
            }
            for copy in &mut settings.copies {
                let region = nouns.regions.iter().find(|region| region.id == copy.region);
                copy.provider = region.map(|region| region.provider.clone());
            }
            if settings.backups().next().is_none() && !document.is_broken() {
                let remedy = "declare a [[backup.mariadb]], a [[backup.postgres]] or a [[backup.files]]";
                document.mistake(Mistake::new(document.place_of("backup"), "nothing is backed up", remedy));
            }
        }
        Self { settings, revision: String::new() }
    }

    fn reference() -> Vec<SectionDoc> {
        vec![SectionDoc::of::<Settings>("backup", false)]
    }

    fn warnings(&self) -> Vec<String> {
        let Some(settings) = &self.settings else { return Vec::new() };
        let mut warnings = Vec::new();
        if settings.copies.len() < 2 {
            warnings.push("[backup] has one copy: what destroys it destroys every backup".to_owned());
        } else {
            warnings.extend(together(settings).into_iter().map(|why| format!("[backup]: {why}")));
        }
        let directories = settings.copies.iter().filter(|copy| matches!(copy.place, PlaceSettings::Directory(_)));
        for copy in directories {
            warnings.push(format!(
                "the copy `{}` is a directory: whoever takes this host over can delete from it, as nothing locks",
                copy.name
            ));
        }
        for copy in &settings.copies {
            if let PlaceSettings::S3(bucket) = &copy.place
                && !bucket.lock
            {
                let name = &copy.name;
                warnings.push(format!(
                    "the copy `{name}` locks no objects: whoever has credentials that delete can delete what it holds"
                ));
            }
            if let PlaceSettings::S3(bucket) = &copy.place
                && bucket.destroys.is_none()
            {
                warnings.push(format!(
                    "nobody may delete from the copy `{}`: what was kept for {} stays there, and `{EXPIRED_KEPT}` opens; write \
                     `destroy_access_key` and `destroy_secret_key` of an identity that no host holds",
                    copy.name, settings.keep
                ));
            }
        }
        warnings.push(format!("[backup]: {SAME_HOST}"));
        warnings
    }

    fn unread(&self) -> Vec<String> {
        let files = self.settings.iter().flat_map(|settings| &settings.files);
        files
            .flat_map(|files| {
                let missing = sources::files(files).missing();
                missing.into_iter().map(|what| format!("the files `{}`: {what}", files.name))
            })
            .collect()
    }

    fn set_revision(&mut self, revision: &str) {
        revision.clone_into(&mut self.revision);
    }

    fn publish(&self, public: &mut Applied) {
        let (Some(settings), Ok(observer)) = (&self.settings, "server.backup".parse::<event::ObserverId>()) else {
            return;
        };
        let mut of_findings = Vec::new();
        for (name, service, kinds) in settings.backups() {
            for probe in kinds.into_iter().filter_map(|kind| kind.probe(name)) {
                of_findings.push(probe.clone());
                public.probes.push(event::policy::Probe {
                    id: probe,
                    kind: PROBE.into(),
                    service: service.clone(),
                    every: EVERY,
                    observers: [observer.clone()].into(),
                    agreement: Agreement::default(),
                });
            }
        }
        if let (Ok(probe), Ok(observer)) = (EXPIRY_PROBE.parse::<ProbeId>(), "server.expiry".parse()) {
            let fr = "Des sauvegardes expirées ne sont pas détruites".to_owned();
            let title = Text { fr, en: "Expired backups are not destroyed".to_owned() };
            let of_expiry =
                finding(EXPIRED_KEPT).map(|finding| Detector { finding, title, probes: vec![probe.clone()] });
            public.findings.extend(of_expiry);
            let fr = "Une machine peut détruire ses propres sauvegardes".to_owned();
            let title = Text { fr, en: "A host can destroy its own backups".to_owned() };
            let of_hosts =
                finding(HOST_CAN_DESTROY).map(|finding| Detector { finding, title, probes: vec![probe.clone()] });
            public.findings.extend(of_hosts);
            public.probes.push(event::policy::Probe {
                id: probe,
                kind: PROBE.into(),
                service: settings.service.clone(),
                every: EXPIRY_EVERY,
                observers: [observer].into(),
                agreement: Agreement::default(),
            });
        }
        for (name, fr, en) in FINDINGS {
            let Some(finding) = finding(name) else { continue };
            let title = Text { fr: fr.to_owned(), en: en.to_owned() };
            public.findings.push(Detector { finding, title, probes: of_findings.clone() });
        }
    }
}
