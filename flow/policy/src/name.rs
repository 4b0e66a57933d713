//! Names that tables declare and others refer to.
//!
//! A typed name read as a [`Value`] *is* a reference: it must be declared somewhere in the policy, before or after, and
//! no section can forget to check it. The table that defines the name reads it with [`crate::Table::declare`] instead.

use std::fmt;
use std::str::FromStr;

use event::{FindingId, HostId, ProbeId, PromiseId, RegionId, ServiceId, VantageId};

use crate::value::{Slot, Value};

/// The noun that a name belongs to: `service`, `probe`… Each noun has its own names.
pub type Noun = &'static str;

/// A name that is declared once and may be referred to.
pub trait Name: FromStr + fmt::Display {
    /// The noun.
    const NOUN: Noun;
    /// The table to add when a name is missing, such as `[[service]]`.
    const DECLARED_BY: &'static str;
    /// What the reference says about the key of a declaration.
    const NEW: &'static str = "a new name";
    /// What it should be, with the article.
    const WHAT: &'static str = "a name";
    /// The rule for the spelling of the name.
    const RULE: &'static str = "use 1 to 64 of the characters a-z A-Z 0-9 - _ . and start with a letter or a digit";

    /// The rule, for a remedy.
    fn rule() -> String {
        Self::RULE.to_owned()
    }
}

/// Name of a person as people write it: spaces and accents welcome.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PersonName(String);

impl PersonName {
    const BYTES_MAX: usize = 100;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PersonName {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let sound = !text.trim().is_empty() && text.len() <= Self::BYTES_MAX && !text.chars().any(char::is_control);
        if sound { Ok(Self(text.trim().to_owned())) } else { Err(()) }
    }
}

impl fmt::Display for PersonName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Name of a backup, which is part of names of objects and of its probes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BackupName(String);

impl BackupName {
    const BYTES_MAX: usize = 40;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BackupName {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let is_sound = text.len() <= Self::BYTES_MAX
            && text.starts_with(|first: char| first.is_ascii_lowercase())
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if is_sound { Ok(Self(text.to_owned())) } else { Err(()) }
    }
}

impl fmt::Display for BackupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! spelled_like_hosts {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name(HostId);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }

        impl FromStr for $name {
            type Err = event::BadName;

            fn from_str(text: &str) -> Result<Self, event::BadName> {
                text.parse().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

spelled_like_hosts! {
    /// Name of a group of hosts, such as `web`: declared by the hosts that belong to it. A group stands where a host may.
    HostGroup;
    /// Name of an on-call schedule.
    ScheduleName;
    /// Name of an escalation policy.
    EscalationName;
}

macro_rules! names {
    ($($name:ident, $noun:literal, $table:literal, $article:literal $(, $rule:literal, $private:literal)?;)*) => {$(
        impl Name for $name {
            const NOUN: Noun = $noun;
            const DECLARED_BY: &'static str = $table;
            $(const RULE: &'static str = $rule;)?
        }

        impl Value for $name {
            const SHAPE: &'static str = concat!("the name of ", $article, " ", $noun);
            const EXAMPLE: &'static str = "\"…\"";
            $(const PRIVATE: bool = $private;)?

            fn read(slot: Slot<'_>) -> Option<Self> {
                slot.reference()
            }
        }
    )*};
}

names! {
    ServiceId, "service", "[[service]]", "a";
    ProbeId, "probe", "[[probe.http]] or another table of probes", "a";
    VantageId, "observer", "[[observer]]", "an",
        "use 1 to 40 of the characters a-z A-Z 0-9 - _ . and start with a letter or a digit", false;
    PromiseId, "promise", "[[promise]]", "a";
    RegionId, "region", "[[region]]", "a";
    HostId, "host", "[[host]]", "a";
    HostGroup, "host group", "`groups` in a [[host]]", "a";
    ScheduleName, "schedule", "[[schedule]]", "a";
    EscalationName, "escalation", "[[escalation]]", "an";
    BackupName, "backup", "[[backup.mariadb]], [[backup.postgres]] or [[backup.files]]", "a",
        "write 1 to 40 of the characters a-z 0-9 - and start with a letter: it is part of names of objects", false;
    FindingId, "finding", "a probe that looks for it", "a";
    PersonName, "person", "[[person]]", "a", "write 1 to 100 bytes of text on one line", true;
}
