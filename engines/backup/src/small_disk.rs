//! A disk that is soon full, for tests.

use std::path::{Path, PathBuf};

use engine::{Program, Programs};

/// A disk in memory. Unmounted when it is dropped.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one at a path, with these options of tmpfs, as `size=8m`; open to all users.
    pub(crate) async fn at(path: &Path, options: &str) -> Self {
        std::fs::create_dir_all(path).expect("made");
        mount(&format!("mode=0777,{options}"), path).await;
        Self(path.to_owned())
    }

    /// Gives it another size.
    pub(crate) async fn resize(&self, size: &str) {
        mount(&format!("remount,size={size}"), &self.0).await;
    }

    /// Fills what is left of it, until the file at the path given is removed.
    pub(crate) fn fill(&self) -> PathBuf {
        use std::io::Write as _;
        let path = self.0.join("filler");
        let mut filler = std::fs::File::create(&path).expect("made");
        let full = loop {
            if let Err(error) = filler.write_all(&[1; 4096]) {
                break error;
            }
        };
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        path
    }
}

async fn mount(options: &str, path: &Path) {
    let mount = Program::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(path);
    Programs::of_system().run(&mount).await.expect("mounting takes root");
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        #[expect(clippy::disallowed_methods, reason = "nothing can be waited for while something is dropped")]
        let unmounted = std::process::Command::new("umount").arg("--lazy").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "{}", self.0.display());
    }
}
