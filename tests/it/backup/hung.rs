//! A copy on a file system that hangs, as a mount of a server which has gone away: one of FUSE that nobody serves.

use std::process::{Child, Command, Stdio};

use super::folder;
use crate::harness::{binary, command, eventually, transcript};

/// Mounts what hangs over `$0`, in a namespace of its own, and runs the rest there.
const HUNG: &str = "exec 3<>/dev/fuse && \
    mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 hung \"$0\" && exec \"$@\"";

/// Garant, to which the copy `far` of this folder hangs.
fn garant_beside(far: &str, arguments: &[&str]) -> Command {
    let mut garant = command("unshare");
    garant.args(["-m", "--propagation", "private", "sh", "-c", HUNG, far]).arg(binary()).args(arguments);
    garant.stdout(Stdio::piped()).stderr(Stdio::piped());
    garant
}

/// Waits until a thread of the process waits for the file system, and signals are handled: the policy is read before that.
fn until_it_hangs(child: &Child) {
    eventually("signals to be handled", || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
        let caught = u64::from_str_radix(caught.trim(), 16).ok()?;
        // SIGINT is 2, SIGTERM 15, and the first bit is of 1.
        (caught & 1 << 1 != 0 && caught & 1 << 14 != 0).then_some(())
    });
    eventually("a thread that hangs", || {
        let threads = std::fs::read_dir(format!("/proc/{}/task", child.id())).ok()?;
        let mut waits = threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("wchan")).ok());
        waits.find(|wchan| wchan.contains("request_wait_answer") || wchan.contains("fuse"))
    });
}

/// BK-4: the other copy is read, and what does not answer is named; a command that waits for it ends when it is told to.
#[test]
fn a_copy_that_hangs_holds_up_no_command() {
    assert!(std::path::Path::new("/dev/fuse").exists(), "it takes the module fuse of the kernel: modprobe fuse");
    let folder = folder("root", |_| "[[backup.mariadb]]\nname = \"shop-db\"\nsocket = \"/nowhere\"\n".to_owned());
    let (policy, far) = (folder.path().join("garant.toml"), folder.path().join("far"));
    let (policy, far) = (policy.to_str().expect("UTF-8"), far.to_str().expect("UTF-8"));

    for (word, signal, code) in [("list", "TERM", 143), ("explain", "INT", 130), ("check", "TERM", 143)] {
        let child = garant_beside(far, &["backup", word, "shop-db", "--policy", policy]).spawn().expect("it starts");
        until_it_hangs(&child);
        let sent = command("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().expect("kill runs");
        assert!(sent.success());
        let ended = child.wait_with_output().expect("it ends");
        assert_eq!(ended.status.code(), Some(code), "{word}: {}", transcript(&ended));
    }

    let listed = garant_beside(far, &["backup", "list", "shop-db", "--policy", policy]).output().expect("it runs");
    let text = transcript(&listed);
    assert!(listed.status.success() && text.contains("nothing can be restored yet"), "{text}");
    assert!(text.contains("the copy far does not answer"), "{text}");
}
