//! A workspace as one plain value, so that a rule is a function and a test can build the workspace it wants to break.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

/// Names of folders that are not read, since nothing in them was written by hand. `garant-data` is the default data directory
/// of `garant up`.
const SKIPPED: [&str; 4] = ["garant-data", "target", "node_modules", "__pycache__"];
/// Hidden folders that are read; all others are not.
const HIDDEN: [&str; 3] = [".cargo", ".ci", ".config"];
/// Endings of the files that are read; a file without an ending is read when it starts with `#!`.
const ENDINGS: [&str; 12] = ["rs", "toml", "md", "sh", "go", "py", "html", "css", "txt", "yml", "service", "conf"];
/// Largest file that is read, in bytes: longer ones were not written by hand.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The crates and the texts of a workspace: all that a rule sees.
#[derive(Clone, Default)]
pub(crate) struct Workspace {
    /// Absolute path of the folder that was read; empty in most tests.
    pub(crate) root: String,
    /// Crates of the workspace.
    pub(crate) crates: Vec<Crate>,
    /// Files written by hand, sorted by path.
    pub(crate) files: Vec<File>,
}

/// A crate of the workspace.
#[derive(Clone, Default)]
pub(crate) struct Crate {
    /// Package name.
    pub(crate) name: String,
    /// Its folder, relative to the root.
    pub(crate) folder: String,
    /// Dependencies that its manifest names.
    pub(crate) uses: Vec<Use>,
    /// Names of all packages that a build of the crate without its tests compiles, itself included.
    pub(crate) tree: BTreeSet<String>,
}

/// A dependency named in a manifest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Use {
    /// Package name.
    pub(crate) package: String,
    /// Whether it is a dev-dependency, which only tests use.
    pub(crate) dev: bool,
    /// Features that the manifest turns on.
    pub(crate) features: Vec<String>,
}

/// A text file of the workspace.
#[derive(Clone)]
pub(crate) struct File {
    /// Path relative to the root, with `/`.
    pub(crate) path: String,
    /// The whole content.
    pub(crate) text: String,
}

impl File {
    /// Whether this is a Rust source.
    pub(crate) fn is_rust(&self) -> bool {
        self.ends_in("rs")
    }

    /// Whether the path has the extension `ending`, without the dot.
    pub(crate) fn ends_in(&self, ending: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|found| found == ending)
    }

    /// Whether the file holds nothing but tests, by its path.
    pub(crate) fn is_test(&self) -> bool {
        let path = &self.path;
        path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("/tests.rs")
    }
}

impl Workspace {
    /// Asks cargo for the crates of the workspace at `root` and reads its files; fails when cargo does.
    pub(crate) fn load(root: &Path) -> Result<Self, String> {
        let metadata = metadata(root)?;
        let mut workspace = Self { root: root.display().to_string(), ..Self::default() };
        let members: BTreeSet<&str> = metadata.workspace_members.iter().map(String::as_str).collect();
        for package in &metadata.packages {
            if members.contains(package.id.as_str()) {
                workspace.crates.push(Crate {
                    name: package.name.clone(),
                    folder: folder_of(&package.manifest_path, &metadata.workspace_root),
                    uses: package.dependencies.iter().map(DependencyJson::to_use).collect(),
                    tree: metadata.tree(&package.id),
                });
            }
        }
        collect(root, "", &mut workspace.files)?;
        workspace.files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(workspace)
    }

    /// The file at `path`, relative to the root.
    pub(crate) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// All Rust sources.
    pub(crate) fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.is_rust())
    }
}

/// The folder of a manifest, relative to the root.
fn folder_of(manifest: &str, root: &str) -> String {
    let inside = manifest.strip_prefix(root).unwrap_or(manifest);
    inside.trim_start_matches('/').trim_end_matches("Cargo.toml").trim_end_matches('/').to_owned()
}

/// Adds every text file under `root`/`below` to `files`.
fn collect(root: &Path, below: &str, files: &mut Vec<File>) -> Result<(), String> {
    let folder = root.join(below);
    let unreadable = |error: std::io::Error| format!("{} can't be read: {error}", folder.display());
    for entry in std::fs::read_dir(&folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
        let kind = entry.file_type().map_err(unreadable)?;
        if kind.is_dir() {
            let hidden = name.starts_with('.') && !HIDDEN.contains(&name.as_str());
            if !hidden && !SKIPPED.contains(&name.as_str()) {
                collect(root, &path, files)?;
            }
        } else if kind.is_file() && entry.metadata().map_err(unreadable)?.len() <= FILE_BYTES_MAX {
            let ending = Path::new(&name).extension().map(|ending| ending.to_string_lossy().into_owned());
            let wanted = ending.as_ref().is_none_or(|ending| ENDINGS.contains(&ending.as_str()));
            if ending.as_deref() == Some("png") {
                // A link may lead to a picture; nothing in it is read.
                files.push(File { path, text: String::new() });
                continue;
            }
            // What is not UTF-8 was not written by hand.
            if let Some(text) = wanted.then(|| std::fs::read_to_string(entry.path()).ok()).flatten()
                && (ending.is_some() || text.starts_with("#!") || name.starts_with("LICENSE"))
            {
                files.push(File { path, text });
            }
        }
    }
    Ok(())
}

/// Runs `cargo metadata` for the platform that we release for.
fn metadata(root: &Path) -> Result<Metadata, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    #[expect(clippy::disallowed_methods, reason = "asking cargo is what this program is for; it ends by itself")]
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(root)
        .output()
        .map_err(|error| format!("`cargo metadata` can't be started: {error}"))?;
    if !output.status.success() {
        return Err(format!("`cargo metadata` failed:\n{}", String::from_utf8_lossy(&output.stderr).trim_end()));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("`cargo metadata` can't be understood: {error}"))
}

/// The part that is used of the answer of `cargo metadata --format-version 1`.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<PackageJson>,
    workspace_members: Vec<String>,
    workspace_root: String,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct PackageJson {
    id: String,
    name: String,
    manifest_path: String,
    dependencies: Vec<DependencyJson>,
}

#[derive(Deserialize)]
struct DependencyJson {
    name: String,
    kind: Option<String>,
    features: Vec<String>,
}

impl DependencyJson {
    fn to_use(&self) -> Use {
        let dev = self.kind.as_deref() == Some("dev");
        Use { package: self.name.clone(), dev, features: self.features.clone() }
    }
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Edge>,
}

#[derive(Deserialize)]
struct Edge {
    pkg: String,
    dep_kinds: Vec<EdgeKind>,
}

#[derive(Deserialize)]
struct EdgeKind {
    kind: Option<String>,
}

impl Metadata {
    /// Names of all packages that a build of the package `id` without its tests compiles, itself included.
    fn tree(&self, id: &str) -> BTreeSet<String> {
        let nodes: BTreeMap<&str, &Node> = self.resolve.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
        let names: BTreeMap<&str, &str> = self.packages.iter().map(|p| (p.id.as_str(), p.name.as_str())).collect();
        let mut seen = BTreeSet::new();
        let mut open = vec![id];
        while let Some(id) = open.pop() {
            if let (true, Some(node)) = (seen.insert(id), nodes.get(id)) {
                let normal = |edge: &&Edge| edge.dep_kinds.iter().any(|kind| kind.kind.is_none());
                open.extend(node.deps.iter().filter(normal).map(|edge| edge.pkg.as_str()));
            }
        }
        seen.into_iter().filter_map(|id| names.get(id).map(|name| (*name).to_owned())).collect()
    }
}
