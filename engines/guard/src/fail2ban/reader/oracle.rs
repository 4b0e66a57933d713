//! The reader of the installed fail2ban, asked through `tests/fail2ban/reader_oracle.py`.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use serde_json::Value;

/// Where Debian's package puts the filters.
pub(crate) const CONFIG: &str = "/etc/fail2ban";
/// Where it puts its own tests, with configurations to read.
pub(crate) const TEST_CONFIG: &str = "/usr/lib/python3/dist-packages/fail2ban/tests/config";

/// A running oracle.
pub(crate) struct Oracle {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Oracle {
    pub(crate) fn start() -> Self {
        assert!(
            std::path::Path::new(CONFIG).join("filter.d").is_dir(),
            "{CONFIG}/filter.d is missing: install fail2ban (`apt-get install fail2ban`), as scripts/test does"
        );
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fail2ban/reader_oracle.py");
        #[expect(clippy::disallowed_methods, reason = "a reader that is not ours")]
        let mut child = std::process::Command::new("/usr/bin/python3")
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("install python3 and fail2ban (`apt-get install fail2ban`), as scripts/test does");
        let ask = child.stdin.take().expect("a pipe was asked for");
        let answers = BufReader::new(child.stdout.take().expect("a pipe was asked for"));
        Self { child, ask, answers }
    }

    pub(crate) fn ask(&mut self, question: &Value) -> Value {
        writeln!(self.ask, "{question}").expect("the oracle reads");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the oracle answers");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{question} was answered by {line:?}: {error}"))
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
