//! `[agent]`: where the agent of this host is, and what it runs as.

use std::path::{Path, PathBuf};

use policy::{Document, Nouns, Part, Section, SectionDoc, Table};

use crate::account::{Account, ROOT, agent_may_read};

/// Longest path of a socket, in bytes: the kernel takes 108 with the NUL at the end (unix(7)).
const SOCKET_BYTES_MAX: usize = 107;

/// What is wrong with the path of a socket that is too long for the kernel, if it is.
pub fn socket_too_long(socket: &Path) -> Option<String> {
    let bytes = socket.as_os_str().len();
    (bytes > SOCKET_BYTES_MAX).then(|| {
        format!("the path of its socket has {bytes} bytes, and Linux takes {SOCKET_BYTES_MAX}: {}", socket.display())
    })
}

/// The agent of this host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Agent {
    /// The socket of an agent that runs by itself; without one, `garant up` starts the agent.
    pub socket: Option<PathBuf>,
    /// The user that the agent runs as.
    pub user: String,
}

impl Default for Agent {
    fn default() -> Self {
        Self { socket: None, user: "garant-agent".to_owned() }
    }
}

impl Agent {
    /// The number and the group of the user that the agent runs as: those of root where there is no such user and `garant up` starts
    /// it. `None` where the unit has a user that this host does not know, or `/etc/passwd` can't be read.
    pub fn ids(&self) -> Option<(u32, u32)> {
        let account = Account::named(&self.user).ok()?;
        account.or_else(|| self.socket.is_none().then_some(ROOT)).map(|account| (account.uid, account.gid))
    }

    /// Whether the agent may read a file, by the user that it runs as; `None` where this process can't tell.
    pub fn may_read(&self, path: &Path) -> Option<bool> {
        agent_may_read(&self.user, self.socket.is_some(), path)
    }
}

impl Section for Agent {
    const ABOUT: &'static str = "\
The agent of this host: the process that may change it, with the rights that its engines need and no others.";
    const EXAMPLE: &'static str = "[agent]\nsocket = \"/run/garant-agent/agent.sock\"\n";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let socket: Option<PathBuf> = table.optional(
            "socket",
            "the socket of an agent that runs as a unit of its own; without it `garant up`, as root, starts the agent",
        );
        let user: Option<String> = table.optional(
            "user",
            "the user that an agent started by `garant up` runs as; \"garant-agent\" unless said, and root, without its \
             capabilities, where there is no such user",
        );
        if let Some(socket) = &socket
            && !socket.is_absolute()
        {
            table.mistake("socket", "it is not absolute", "write the whole path, \"/run/garant-agent/agent.sock\"");
            return None;
        }
        if let Some(why) = socket.as_deref().and_then(socket_too_long) {
            table.mistake("socket", why, "name a shorter path, and give it to the agent with `--socket`");
            return None;
        }
        let default = Self::default();
        Some(Self { socket, user: user.unwrap_or(default.user) })
    }
}

/// The part of the policy about agents.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Config {
    /// `[agent]`.
    pub agent: Agent,
}

impl Part for Config {
    fn read(document: &mut Document, _nouns: &Nouns) -> Self {
        Self { agent: document.table("agent").unwrap_or_default() }
    }

    fn reference() -> Vec<SectionDoc> {
        vec![SectionDoc::of::<Agent>("agent", false)]
    }
}
