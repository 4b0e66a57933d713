//! Where a secret is kept: in a file or in a credential of systemd, never in the policy.
//!
//! The policy is read by many, kept in repositories and copied between machines, and a change of it is journaled. A token
//! that stands in it is known to all of them. So a key that needs one is read as a [`Secret`], which says where it lies;
//! `engine::Secrets` opens it at each use, so that a new one is taken without a reload.

use std::fmt;
use std::path::PathBuf;

use crate::table::{Section, Table};
use crate::tree::Data;
use crate::value::{Slot, Value};

/// Longest name of a credential; systemd has the same limit, that of a file name.
const CREDENTIAL_BYTES_MAX: usize = 255;

/// Where a secret is kept.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Secret {
    /// In this file.
    File(PathBuf),
    /// In the credential of this name: `LoadCredential=` or `SetCredentialEncrypted=` of the unit that runs garant
    /// (systemd.exec(5)).
    Credential(String),
}

impl fmt::Display for Secret {
    /// To follow "the secret in": where it is kept, never what it is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Credential(name) => write!(f, "the credential `{name}`"),
        }
    }
}

impl Value for Secret {
    const SHAPE: &'static str = "where a secret is kept";
    const EXAMPLE: &'static str = "{ file = \"/etc/garant/token\" }";

    fn read(mut slot: Slot<'_>) -> Option<Self> {
        match slot.node.data {
            Data::Table(_) => slot.table::<Kept>().map(|kept| kept.0),
            Data::Text(_) => {
                let reason = format!("`{}` is a secret, and the policy must hold none", slot.key());
                let remedy = "write it into a file, and name it here: { file = \"/etc/garant/token\" }, or \
                              { credential = \"token\" } for a credential of systemd";
                slot.wrong(reason, remedy);
                None
            }
            _ => slot.wrong_type::<Self, _>(),
        }
    }

    fn keys() -> Vec<crate::KeyDoc> {
        <Kept as Value>::keys()
    }
}

/// The table that says where a secret is kept.
struct Kept(Secret);

impl Section for Kept {
    const ABOUT: &'static str = "Where a secret is kept.";
    const EXAMPLE: &'static str = "";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let file: Option<PathBuf> =
            table.optional("file", "a file that holds it and nothing else, which only garant's user may read");
        let credential: Option<String> =
            table.optional("credential", "the name of a credential that systemd hands to garant");
        match (file, credential) {
            (Some(file), None) => Some(Self(Secret::File(file))),
            (None, Some(name)) => {
                let sound = name.len() <= CREDENTIAL_BYTES_MAX
                    && name != "."
                    && name != ".."
                    && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':');
                if sound {
                    return Some(Self(Secret::Credential(name)));
                }
                let remedy = "give the name that stands in LoadCredential= before the colon";
                table.mistake("credential", "not the name of a credential", remedy);
                None
            }
            (Some(_), Some(_)) => {
                table.mistake("credential", "one secret in two places", "remove one of the two");
                None
            }
            (None, None) => {
                if !table.has("file") && !table.has("credential") {
                    let remedy = "write { file = \"/etc/garant/token\" } or { credential = \"token\" }";
                    table.mistake("", "a secret that is kept nowhere", remedy);
                }
                None
            }
        }
    }
}
