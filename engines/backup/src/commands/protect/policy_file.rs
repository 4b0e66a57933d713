//! The file of the policy: what it begins with, and how it is replaced.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::Path;

use engine::Failure;
use policy::Origin;

/// Where the kernel says what this host is called.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// The text of a policy in which nothing stands yet.
pub(super) fn starting() -> String {
    let host = std::fs::read_to_string(HOST_NAME).unwrap_or_default();
    let host = host.trim();
    let name = if host.contains('.') && host.parse::<Origin>().is_ok() { host } else { "site" };
    format!(
        r#"# The policy of garant: what is promised, what is watched, who sees it.
# `garant check` shows every mistake in it; `garant policy reference` explains every key.

# Nothing leaves the team's own listener until this says true.
publish = false

[journal]
name = "{name}"                  # name of the log, for good once `garant up` has run

[pages]
listen = "127.0.0.1:8480"        # the team: pages, /metrics, /api
"#
    )
}

/// Replaces the policy, whole or not at all; it keeps its owner and its mode. Fails where it is not what it was `before`.
pub(super) fn replace(path: &Path, before: Option<&str>, text: &str) -> Result<(), Failure> {
    let failed = |error: &io::Error| {
        Failure::new(format!("the policy can't be written to {}", path.display()))
            .because(error)
            .remedy("run this command as its owner, or as root; the policy is as it was")
    };
    // A link is followed: it is the file that is replaced.
    let target = path.canonicalize().or_else(|error| match (before, error.kind()) {
        (None, io::ErrorKind::NotFound) => std::path::absolute(path),
        _ => Err(error),
    });
    let target = target.map_err(|error| failed(&error))?;
    let now = match std::fs::read_to_string(&target) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed(&error)),
    };
    if now.as_deref() != before {
        return Err(Failure::new(format!(
            "{} was changed by somebody meanwhile, and is left as it is",
            path.display()
        ))
        .remedy("run this again"));
    }
    write(&target, text).map_err(|error| failed(&error))
}

fn write(target: &Path, text: &str) -> io::Result<()> {
    let folder = target.parent().unwrap_or(Path::new("/"));
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let new = folder.join(format!(".{name}.new"));
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = (|| {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        let mut file = match target.metadata() {
            Ok(there) => {
                let file = options.mode(0o600).open(&new)?;
                if file.metadata()?.uid() != there.uid() || file.metadata()?.gid() != there.gid() {
                    fchown(&file, Some(there.uid()), Some(there.gid()))?;
                }
                file.set_permissions(there.permissions())?;
                file
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => options.mode(0o644).open(&new)?,
            Err(error) => return Err(error),
        };
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, target)?;
        File::open(folder)?.sync_all()
    })();
    if written.is_err() {
        drop(std::fs::remove_file(&new));
    }
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_policy_keeps_its_mode_its_link_and_what_others_wrote() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, link) = (folder.path().join("real.toml"), folder.path().join("garant.toml"));
        std::fs::write(&file, "a = 1\n").expect("written");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).expect("set");
        symlink(&file, &link).expect("linked");
        replace(&link, Some("a = 1\n"), "a = 2\n").expect("replaced");
        assert!(link.is_symlink());
        assert_eq!(std::fs::read_to_string(&file).expect("read"), "a = 2\n");
        assert_eq!(file.metadata().expect("there").mode() & 0o777, 0o640);
        let refused = replace(&link, Some("a = 1\n"), "a = 3\n").expect_err("somebody wrote");
        assert!(refused.to_string().contains("meanwhile"), "{refused}");
        assert!(replace(&link, None, "a = 3\n").is_err(), "it is there");
        assert_eq!(std::fs::read_dir(folder.path()).expect("listed").count(), 2, "nothing is left beside it");
    }

    #[test]
    fn a_new_policy_is_sound_toml() {
        let text = starting();
        assert_eq!(policy::with_additions(&text, &[]).as_ref(), Ok(&text));
    }
}
