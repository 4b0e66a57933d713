//! Releases of databases of which a restore test has passed here: what is not tested by us is trusted from then on.

use std::collections::BTreeSet;
use std::path::Path;

/// The file that knows them, in the folder of a backup.
const FILE: &str = "tested-versions";
/// Most that are remembered.
const VERSIONS_MAX: usize = 100;

/// The release of a version, as the problem of a database names it: `10.11` of MariaDB, `15` of PostgreSQL.
pub(crate) fn release(engine: &str, version: &str) -> String {
    let parts = if engine == "mariadb" { 2 } else { 1 };
    version.split('.').take(parts).collect::<Vec<_>>().join(".")
}

/// The releases of which a restore test has passed.
pub(crate) fn passed(work: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(work.join(FILE)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Remembers that a restore test of a release has passed.
pub(crate) fn remember(work: &Path, release: &str) {
    let mut known = passed(work);
    if known.len() >= VERSIONS_MAX || !known.insert(release.to_owned()) {
        return;
    }
    let text = known.into_iter().collect::<Vec<_>>().join("\n");
    if let Err(error) = std::fs::write(work.join(FILE), text) {
        tracing::warn!(%error, "that a restore test of a release has passed can't be written down");
    }
}
