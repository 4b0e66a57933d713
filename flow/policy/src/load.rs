//! The files of a policy, from the disk, within bounds.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use crate::mistake::{Mistake, Mistakes};
use crate::place::Place;

/// Most bytes read, in one file or in all together. Ten thousand services, each with a probe and a promise, are a third of it;
/// it is there for what is no policy at all.
pub(crate) const POLICY_BYTES_MAX: usize = 16 << 20;
/// Most files read.
const FILES_MAX: usize = 100;

/// Name and text of `path`, or the text that it is to have; then of `conf.d/*.toml` beside it.
pub(crate) fn files(path: &Path, text: Option<&str>) -> Result<Vec<(String, String)>, Mistakes> {
    let main = match text {
        Some(text) => text.to_owned(),
        None => read(path).map_err(|trouble| trouble.explain(path, true))?,
    };
    let mut files = vec![(shown(path), main)];
    let mut total = files.iter().map(|(_, text)| text.len()).sum::<usize>();
    for path in beside(path)? {
        let text = read(&path).map_err(|trouble| trouble.explain(&path, false))?;
        total += text.len();
        if total > POLICY_BYTES_MAX {
            let reason = format!("the policy is larger than {} MiB in all", POLICY_BYTES_MAX >> 20);
            return Err(Mistakes::unreadable(shown(&path), reason, "remove files from conf.d".to_owned()));
        }
        files.push((shown(&path), text));
    }
    Ok(files)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// The paths of `conf.d/*.toml`, sorted; none when there is no such directory. Hidden files are an editor's.
fn beside(path: &Path) -> Result<Vec<PathBuf>, Mistakes> {
    let directory = path.parent().unwrap_or(Path::new("")).join("conf.d");
    let failed = |error: &io::Error| {
        let remedy = "give this user the right to read the directory, or remove it".to_owned();
        Mistakes::unreadable(shown(&directory), format!("can't list the directory: {error}"), remedy)
    };
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(&error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| failed(&error))?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
        if paths.len() >= FILES_MAX {
            let reason = format!("more than {FILES_MAX} files of policy");
            return Err(Mistakes::unreadable(shown(&directory), reason, "put several tables into one file".to_owned()));
        }
    }
    paths.sort_unstable();
    Ok(paths)
}

enum Trouble {
    Io(io::Error),
    Directory,
    NotAFile,
    TooLarge,
    NotUtf8 { line: usize },
}

fn read(path: &Path) -> Result<String, Trouble> {
    // Asked before the file is opened: opening a named pipe waits for ever.
    let metadata = fs::metadata(path).map_err(Trouble::Io)?;
    if metadata.is_dir() {
        return Err(Trouble::Directory);
    }
    if !metadata.is_file() {
        return Err(Trouble::NotAFile);
    }
    let mut bytes = Vec::new();
    let bound = u64::try_from(POLICY_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path).and_then(|file| file.take(bound).read_to_end(&mut bytes)).map_err(Trouble::Io)?;
    if bytes.len() > POLICY_BYTES_MAX {
        return Err(Trouble::TooLarge);
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        Trouble::NotUtf8 { line: valid.split(|byte| *byte == b'\n').count() }
    })
}

impl Trouble {
    fn explain(self, path: &Path, main: bool) -> Mistakes {
        let (reason, remedy) = match self {
            Self::Io(error) if error.kind() == ErrorKind::NotFound && main => (
                "there is no policy here".to_owned(),
                "write one with `garant init`, or say where it is with `--policy FILE`".to_owned(),
            ),
            Self::Io(error) if error.kind() == ErrorKind::PermissionDenied => (
                format!("can't read the file: {error}"),
                "give the user that runs garant the right to read it".to_owned(),
            ),
            Self::Io(error) => (format!("can't read the file: {error}"), "check the path and the disk".to_owned()),
            Self::Directory if main => (
                "this is a directory, and not a file".to_owned(),
                format!("name the file itself, such as {}", shown(&path.join("garant.toml"))),
            ),
            Self::NotAFile if main => (
                "this is a device, a pipe or a socket, and a policy is read again at each reload".to_owned(),
                "write the policy to a file, and name that".to_owned(),
            ),
            Self::Directory | Self::NotAFile => {
                ("this is not a file".to_owned(), "remove it, or give it another ending than .toml".to_owned())
            }
            Self::TooLarge => (too_large_reason(), TOO_LARGE_REMEDY.to_owned()),
            Self::NotUtf8 { line } => (
                format!("line {line} is not UTF-8"),
                "save the file as UTF-8: with `iconv -f latin1 -t utf-8`, or in the settings of the editor".to_owned(),
            ),
        };
        Mistakes::unreadable(shown(path), reason, remedy)
    }
}

const TOO_LARGE_REMEDY: &str =
    "check that it is a policy at all; what is larger is for two of garant, each with its policy";

fn too_large_reason() -> String {
    format!("larger than {} MiB", POLICY_BYTES_MAX >> 20)
}

pub(crate) fn too_large(file: u32) -> Mistake {
    Mistake::new(Place::file(file), too_large_reason(), TOO_LARGE_REMEDY)
}
