//! Opens what the policy keeps elsewhere: tokens and passwords, in files and in credentials of systemd.
//!
//! **Problem.** A secret that is read once is an old one after its rotation, and one that is kept is in every copy of the
//! memory. One that others may read is no secret, and a policy that names `/dev/zero` or a pipe must not hang a probe.
//! **Principle.** [`Secrets::open`] reads it at each use, judges the very file that it has opened, and gives a value that
//! wipes itself and shows nothing. What it can't open says which file, why, and what to do: whoever needed it could not
//! look, and nothing is known of the other side.
//!
//! Links are followed, as for every other key of garant: what counts are the rights of the file that they lead to. A
//! credential lies where systemd has put it, readable by the unit alone, so its rights are systemd's matter.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use policy::Secret;
use rustix::fs::OFlags;
use zeroize::Zeroizing;

/// Longest secret, in bytes.
const BYTES_MAX: usize = 64 * 1024;
/// Rights that a file with a secret must not have: any for others than its owner.
const RIGHTS_FORBIDDEN: u32 = 0o077;

/// Where secrets are opened.
#[derive(Clone, Default, Debug)]
pub struct Secrets {
    credentials: Option<PathBuf>,
}

/// A secret that was opened. Wiped when it is dropped, and shown nowhere.
pub struct OpenedSecret(Zeroizing<Vec<u8>>);

impl OpenedSecret {
    /// Its bytes, without the end of the line that an editor leaves.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for OpenedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// Why a secret could not be opened.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the secret in {secret} can't be used: {reason}; {remedy}")]
pub struct SecretError {
    secret: String,
    reason: String,
    remedy: String,
}

impl SecretError {
    /// The secret was opened, and what it holds is of no use to whoever needed it.
    pub fn useless(secret: &Secret, reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { secret: secret.to_string(), reason: reason.into(), remedy: remedy.into() }
    }
}

impl Secrets {
    /// Those of this machine: credentials are where systemd says (systemd.exec(5)).
    pub fn of_system() -> Self {
        Self { credentials: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from) }
    }

    /// With credentials in this directory.
    pub fn with_credentials(directory: impl Into<PathBuf>) -> Self {
        Self { credentials: Some(directory.into()) }
    }

    /// Whether systemd has handed over any credentials: where it has not, such as in the shell of whoever checks a policy,
    /// nothing is known of them.
    pub const fn has_credentials(&self) -> bool {
        self.credentials.is_some()
    }

    /// Opens it on a thread that may wait for a disk.
    pub async fn open(&self, secret: &Secret) -> Result<OpenedSecret, SecretError> {
        let (secrets, wanted) = (self.clone(), secret.clone());
        let opened = tokio::task::spawn_blocking(move || secrets.open_now(&wanted)).await;
        opened.unwrap_or_else(|_| Err(SecretError::useless(secret, "garant is stopping", "start it again")))
    }

    /// Opens it, waiting for the disk.
    pub fn open_now(&self, secret: &Secret) -> Result<OpenedSecret, SecretError> {
        let failed = |reason: String, remedy: String| Err(SecretError::useless(secret, reason, remedy));
        let (path, of_systemd) = match (secret, &self.credentials) {
            (Secret::File(path), _) => (path.clone(), false),
            (Secret::Credential(name), Some(directory)) => (directory.join(name), true),
            (Secret::Credential(name), None) => {
                let remedy = format!("add LoadCredential={name}:FILE to its unit and start it with systemctl");
                return failed("systemd has handed garant no credentials".to_owned(), remedy);
            }
        };
        let (file, metadata) = match open(&path) {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound && of_systemd => {
                let name = path.file_name().unwrap_or_default().display();
                let remedy = format!("add LoadCredential={name}:FILE to the unit of garant, and restart it");
                return failed("it is not there".to_owned(), remedy);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let remedy = format!(
                    "write it, as the user that garant runs as, with `install -m 600 /dev/stdin {}`",
                    path.display()
                );
                return failed("it is not there".to_owned(), remedy);
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let remedy = "give the file, and a way to it, to the user that garant runs as".to_owned();
                return failed("this user may not read it".to_owned(), remedy);
            }
            Err(error) => return failed(error.to_string(), "name a file that can be read".to_owned()),
        };
        if !metadata.is_file() {
            return failed("it is no regular file".to_owned(), "write the secret into a file of its own".to_owned());
        }
        if !of_systemd && metadata.mode() & RIGHTS_FORBIDDEN != 0 {
            let remedy = format!("replace it if they have; then `chmod 600 {}`", path.display());
            return failed("others than its owner may read or change it".to_owned(), remedy);
        }
        let bytes = match read(file, metadata.len()) {
            Ok(bytes) => bytes,
            Err(error) => return failed(error.to_string(), "name a file that can be read".to_owned()),
        };
        if bytes.len() > BYTES_MAX {
            let remedy = "name the file that holds the secret and nothing else".to_owned();
            return failed(format!("it is longer than {} KiB", BYTES_MAX / 1024), remedy);
        }
        if bytes.is_empty() {
            return failed("it is empty".to_owned(), "write the secret into it".to_owned());
        }
        Ok(OpenedSecret(bytes))
    }
}

/// Opens a file without waiting for what writes into a pipe.
fn open(path: &Path) -> io::Result<(File, std::fs::Metadata)> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    Ok((file, metadata))
}

/// Reads a file that is said to have this length, without its last end of a line. Never more than one byte beyond the limit,
/// and in one piece of memory: a buffer that grows leaves copies that nobody wipes.
fn read(file: File, length: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    // Two more for the end of the line, and one to see that there is more.
    let room = usize::try_from(length).unwrap_or(usize::MAX).min(BYTES_MAX + 2) + 1;
    let mut bytes = Zeroizing::new(vec![0; room]);
    let mut filled = 0;
    let mut file = file.take(u64::try_from(room).unwrap_or(u64::MAX));
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    let line = bytes.strip_suffix(b"\n").map_or(filled, |line| line.strip_suffix(b"\r").unwrap_or(line).len());
    bytes.truncate(line);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn write(path: &Path, bytes: &[u8], mode: u32) -> Secret {
        fs::write(path, bytes).expect("written");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
        Secret::File(path.to_owned())
    }

    fn said(opened: Result<OpenedSecret, SecretError>) -> String {
        opened.expect_err("refused").to_string()
    }

    #[test]
    fn a_secret_is_opened_at_each_use_and_shown_nowhere() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        let secrets = Secrets::default();
        let longest = vec![b'x'; BYTES_MAX];
        for (written, read) in [
            (&b"s3cret"[..], &b"s3cret"[..]),
            (b"rotated\n", b"rotated"),
            (b"from elsewhere\r\n", b"from elsewhere"),
            (b" two\n\n", b" two\n"),
            (&longest, &longest),
        ] {
            let opened = secrets.open_now(&write(&path, written, 0o600)).expect("a secret");
            assert_eq!(opened.bytes(), read);
            assert_eq!(format!("{opened:?}"), "…");
        }
        let line = [&longest[..], b"\r\n"].concat();
        assert_eq!(secrets.open_now(&write(&path, &line, 0o400)).expect("just fits").bytes().len(), BYTES_MAX);
        // What counts are the rights of the file that a link leads to.
        let link = folder.path().join("link");
        symlink(&path, &link).expect("a link");
        assert!(secrets.open_now(&Secret::File(link.clone())).is_ok());
        write(&path, b"s3cret", 0o640);
        assert!(said(secrets.open_now(&Secret::File(link))).contains("others than its owner"));
    }

    /// What is no secret, or no file, is refused by name, with what to do.
    #[test]
    fn what_others_may_read_and_what_is_no_file_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        let secrets = Secrets::default();
        for mode in [0o640, 0o620, 0o604, 0o602, 0o644] {
            let said = said(secrets.open_now(&write(&path, b"s3cret", mode)));
            let (shown, remedy) = (path.display(), format!("`chmod 600 {}`", path.display()));
            assert!(said.starts_with(&format!("the secret in {shown} can't be used: others than its owner")), "{said}");
            assert!(said.ends_with(&remedy) && !said.contains("s3cret"), "{said}");
        }
        for bytes in [vec![b'x'; BYTES_MAX + 1], vec![b'\n'; BYTES_MAX + 3], vec![b'x'; 10 * BYTES_MAX]] {
            assert!(said(secrets.open_now(&write(&path, &bytes, 0o600))).contains("longer than 64 KiB"));
        }
        for bytes in [&b""[..], b"\n", b"\r\n"] {
            assert!(said(secrets.open_now(&write(&path, bytes, 0o600))).contains("it is empty"));
        }
        fs::remove_file(&path).expect("removed");
        assert!(said(secrets.open_now(&Secret::File(path.clone()))).contains("it is not there; write it"));
        // Neither what is no file nor a pipe that nobody writes into holds anybody up.
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a pipe");
        for no_file in [path.as_path(), folder.path(), Path::new("/dev/zero")] {
            assert!(said(secrets.open_now(&Secret::File(no_file.to_owned()))).contains("no regular file"));
        }
    }

    /// systemd sees to the rights of a credential; its size is bounded all the same.
    #[tokio::test]
    async fn a_credential_is_opened_where_systemd_puts_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let door = Secret::Credential("door".to_owned());
        assert!(said(Secrets::default().open(&door).await).contains("add LoadCredential=door:FILE"));
        let secrets = Secrets::with_credentials(folder.path());
        assert!(said(secrets.open(&door).await).contains("the secret in the credential `door` can't be used"));
        write(&folder.path().join("door"), b"s3cret\n", 0o440);
        assert_eq!(secrets.open(&door).await.expect("a credential").bytes(), b"s3cret");
        write(&folder.path().join("door"), &vec![b'x'; BYTES_MAX + 1], 0o440);
        assert!(said(secrets.open(&door).await).contains("longer than 64 KiB"));
    }
}
