//! Backups, as promises name them: by their name and a kind, which are a probe together.
//!
//! The engine of backups has a probe in the public policy for each kind of what it makes, called after both: `shop-db-log` is the log
//! of `shop-db`. The journal and every verifier know the probe alone.

use event::ProbeId;
use event::policy::Applied;
use policy::{BackupName, Slot, Value};

/// The kind of these probes in the public policy.
pub(crate) const BACKUP: &str = "backup";

/// What is made of a backup.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BackupKind {
    /// Full bases, and snapshots of files.
    Full,
    /// Incremental bases.
    Incremental,
    /// The log.
    Log,
    /// Restore tests.
    Restore,
}

impl BackupKind {
    const ALL: [Self; 4] = [Self::Full, Self::Incremental, Self::Log, Self::Restore];

    const fn word(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Incremental => "incremental",
            Self::Log => "log",
            Self::Restore => "restore",
        }
    }

    /// The probe of this kind of the backup; `None` for no backup that there is.
    pub(crate) fn probe(self, backup: &BackupName) -> Option<ProbeId> {
        format!("{backup}-{}", self.word()).parse().ok()
    }

    /// What is wrong with asking for this kind of the backup, and what to write instead. A backup that is not there at all is
    /// reported as such.
    pub(crate) fn lacking(self, backup: &BackupName, applied: &Applied) -> Option<(String, String)> {
        let is_made = |kind: &Self| {
            let probe = kind.probe(backup);
            applied.probes.iter().any(|declared| &*declared.kind == BACKUP && Some(&declared.id) == probe.as_ref())
        };
        let made = Self::ALL.iter().filter(|kind| is_made(kind));
        let made: Vec<_> = made.map(|kind| format!("\"{}\"", kind.word())).collect();
        (!made.is_empty() && !is_made(&self)).then(|| {
            let reason = format!("nothing of kind \"{}\" is made of backup `{backup}`", self.word());
            (reason, format!("write a kind that is: {}", made.join(", ")))
        })
    }
}

impl Value for BackupKind {
    const SHAPE: &'static str = "\"full\", \"incremental\", \"log\" or \"restore\"";
    const EXAMPLE: &'static str = "\"log\"";

    fn read(slot: Slot<'_>) -> Option<Self> {
        slot.choose(&Self::ALL.map(|kind| (kind.word(), kind)))
    }
}
