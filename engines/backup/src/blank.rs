//! The blank place: programs on restored data run where nothing of the live server can be reached.
//!
//! **Problem.** A restored database is no inert thing: a table of another server (FEDERATED, a foreign table), a function, a script that
//! checks files may connect, and change the very server that the test is to leave alone.
//! **Principle.** A namespace of the network has no network at all, and one of mounts covers the sockets, which are files: those of the
//! policy, and the folders where Debian puts them. Where no namespace can be had (a unit with `RestrictNamespaces=yes`, a kernel
//! without them for users), programs run without, as the unprivileged user that they always are, and a warning says so.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use engine::{Context, Program};

use crate::owner::Owner;

/// Covers the folders where sockets of databases are, and those that come before `--`; then becomes the program behind it.
const COVER: &str = r#"
for folder in /run/mysqld /run/postgresql; do
  [ ! -d "$folder" ] || mount -t tmpfs -o ro none "$folder" || exit 126
done
while [ "$1" != -- ]; do
  [ ! -S "$1" ] || mount --bind /dev/null "$1" || exit 126
  shift
done
shift
exec "$@""#;
/// The programs that make namespaces, and tie a program to this process (util-linux).
const UNSHARE: &str = "/usr/bin/unshare";
const SETPRIV: &str = "/usr/bin/setpriv";
const ENV: &str = "/usr/bin/env";

/// How namespaces can be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Namespaces {
    /// As root.
    ByRoot,
    /// Within a namespace of users, in which this user is root for a moment.
    ByUser,
    /// Not at all.
    None,
}

/// A place for programs on restored data.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Blank {
    namespaces: Namespaces,
    /// Sockets of live servers.
    sockets: Vec<PathBuf>,
}

impl Blank {
    /// The place that can be had here, in which nobody reaches `sockets`.
    pub(crate) async fn find(context: &Context, sockets: &[PathBuf]) -> Self {
        let wanted = if rustix::process::geteuid().is_root() { Namespaces::ByRoot } else { Namespaces::ByUser };
        let blank = Self { namespaces: wanted, sockets: sockets.to_vec() };
        match context.programs.run(&blank.enter("unshare", None, None).arg("true")).await {
            Ok(_) => blank,
            Err(error) => {
                tracing::warn!(%error, "no namespaces can be had: what is restored is tested without");
                Self { namespaces: Namespaces::None, ..blank }
            }
        }
    }

    /// A program in it, whose arguments are added; it is known as `name` and found by it, runs as `owner`, and ends with this process.
    pub(crate) fn server(&self, name: &'static str, owner: &Owner) -> Program {
        self.program(name, Path::new(name), owner)
    }

    /// The same, of a program at a path.
    pub(crate) fn program(&self, name: &'static str, path: &Path, owner: &Owner) -> Program {
        self.enter(name, owner.numbers(), None).arg(path)
    }

    /// A command in it, with a folder to begin in, as this user and group where this process is root: it ends with all that it has
    /// started.
    pub(crate) fn command(&self, argv: &[String], folder: &Path, owner: Option<(u32, u32)>) -> Program {
        self.enter("the check", owner, Some(folder)).args(argv)
    }

    /// What becomes the program that is added to it. One with a folder begins there, whoever may go into it, and takes all that it has
    /// started along when it ends.
    fn enter(&self, name: &'static str, owner: Option<(u32, u32)>, folder: Option<&Path>) -> Program {
        let tree: &[&str] = if folder.is_some() { &["--pid", "--fork", "--kill-child=KILL"] } else { &[] };
        let begin =
            || folder.map(|folder| [ENV.into(), "--chdir".into(), folder.as_os_str().to_owned()]).into_iter().flatten();
        let apart = ["--net", "--mount", "--propagation", "private"];
        let cover = |program: Program| {
            program.args(tree).args(apart).args(["--", "sh", "-c", COVER, "sh"]).args(&self.sockets).arg("--")
        };
        let unshare = || Program::at(name, PathBuf::from(UNSHARE));
        let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        match self.namespaces {
            Namespaces::ByRoot => cover(unshare()).args(begin()).args(bound(owner)),
            Namespaces::ByUser => cover(unshare().args(["--user", "--map-root-user"]))
                .args(begin())
                .args(["unshare", "--user"])
                .arg(format!("--map-user={user}"))
                .arg(format!("--map-group={group}"))
                .arg("--")
                .args(bound(None)),
            Namespaces::None => {
                let mut words = begin().chain(bound(owner));
                let first = words.next().unwrap_or_default();
                Program::at(name, PathBuf::from(first)).args(words)
            }
        }
    }
}

/// The words that give up all rights but those of a user, and tie a program to its parent.
fn bound(owner: Option<(u32, u32)>) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec![SETPRIV.into()];
    if let Some((user, group)) = owner {
        words.push(format!("--reuid={user}").into());
        words.push(format!("--regid={group}").into());
        words.push("--clear-groups".into());
    }
    words
        .extend(["--inh-caps=-all", "--ambient-caps=-all", "--no-new-privs", "--pdeathsig=KILL", "--"].map(Into::into));
    words
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use engine::Programs;
    use engine::sim::World;
    use event::Time;

    use super::*;

    fn context() -> Context {
        let context = World::at(Time::from_secs(1_800_000_000)).context("host".parse().expect("an observer"));
        Context { programs: std::sync::Arc::new(Programs::of_system()), ..context.expect("a context") }
    }

    /// What a program in the place reaches: a port of this host, and a socket that is covered.
    #[tokio::test]
    async fn nothing_of_the_host_is_reached() {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("socket");
        let _live = UnixListener::bind(&socket).expect("bound");
        #[expect(clippy::disallowed_methods, reason = "a port of this host that must not be reached")]
        let port = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let reach = format!(
            "import socket, sys\n\
             def reached(family, place):\n    \
             try: socket.socket(family).connect(place)\n    \
             except OSError: return False\n    \
             return True\n\
             print(reached(socket.AF_UNIX, '{}'), reached(socket.AF_INET, ('127.0.0.1', {})))",
            socket.display(),
            port.local_addr().expect("a port").port()
        );
        let (context, argv) = (context(), ["python3".to_owned(), "-c".to_owned(), reach]);
        let blank = Blank::find(&context, &[socket]).await;
        assert_ne!(blank.namespaces, Namespaces::None, "this machine has namespaces");
        let without = Blank { namespaces: Namespaces::None, ..blank.clone() };
        for (blank, reached) in [(blank, "False False\n"), (without, "True True\n")] {
            let output = context.programs.run(&blank.command(&argv, Path::new("/"), None)).await.expect("it runs");
            assert_eq!(String::from_utf8_lossy(&output.stdout), reached, "{blank:?}");
        }
    }

    #[tokio::test]
    async fn a_command_runs_in_its_folder_as_its_user_and_ends_with_all_it_started() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("here"), "yes").expect("written");
        let context = context();
        let blank = Blank::find(&context, &[]).await;
        let run = |argv: &[&str], owner| {
            let argv: Vec<String> = argv.iter().map(ToString::to_string).collect();
            blank.command(&argv, folder.path(), owner).deadline(event::Span::from_secs(2))
        };
        let read = context.programs.run(&run(&["cat", "here"], None)).await.expect("it is there");
        assert_eq!(read.stdout, b"yes");
        if rustix::process::geteuid().is_root() {
            let id = context.programs.run(&run(&["id", "-u"], Some((65_534, 65_534)))).await.expect("it runs");
            assert_eq!(id.stdout, b"65534\n");
        }
        // One that goes on in the background is gone with it.
        let marked = format!("sleep 9{} & sleep 60", std::process::id());
        context.programs.run(&run(&["sh", "-c", &marked], None)).await.expect_err("it takes too long");
        let seen = async {
            loop {
                let all = context.programs.run(&Program::new("ps").args(["-eo", "args"])).await.expect("ps runs");
                if !String::from_utf8_lossy(&all.stdout).contains(&format!("sleep 9{}", std::process::id())) {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), seen).await.expect("it has ended");
    }
}
