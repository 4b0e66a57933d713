//! The installed fail2ban, asked for its decisions.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use serde::Deserialize;
use serde_json::{Value, json};

/// 2005-08-14 10:00:00 UTC: the time at which the samples of fail2ban are read.
pub(crate) const TEST_NOW: i64 = 1_124_013_600;

/// 2026-01-01: when the Python of the test was started, as it knows.
pub(crate) const STARTED: i64 = 1_767_225_600;

/// A process of Python in which fail2ban runs.
pub(crate) struct Oracle {
    process: Child,
    /// Closed at the end: then it ends.
    asks: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

/// A line of the sample suite, as one filter with its options sees it.
#[derive(Clone, Deserialize, Debug)]
pub(crate) struct Step {
    pub(crate) base: String,
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) missing: bool,
    #[serde(default)]
    pub(crate) options: Value,
    #[serde(default)]
    pub(crate) key: String,
    #[serde(default)]
    pub(crate) file: String,
    #[serde(default)]
    pub(crate) number: u32,
    #[serde(default)]
    pub(crate) line: String,
    #[serde(default)]
    pub(crate) journal: bool,
    #[serde(default)]
    pub(crate) expect: serde_json::Map<String, Value>,
}

impl Step {
    /// What tells this filter from the others: its name and its options.
    pub(crate) fn filter(&self) -> String {
        match self.options.as_object() {
            Some(options) if !options.is_empty() => format!("{}{}{}", self.name, self.key, self.options),
            _ => format!("{}{}", self.name, self.key),
        }
    }
}

/// What fail2ban makes of one line.
#[derive(Deserialize, Debug)]
pub(crate) struct Answer {
    #[serde(default)]
    pub(crate) matches: Vec<Found>,
    #[serde(default)]
    pub(crate) error: Option<String>,
    /// The parts of the line before, of and after its date; none when the line was not looked at.
    #[serde(default)]
    pub(crate) cut: Option<[String; 3]>,
    /// Whether Python took too long for this line, or for one before.
    #[serde(default)]
    pub(crate) slow: bool,
}

/// A failure that fail2ban found.
#[derive(Clone, PartialEq, Deserialize, Debug)]
pub(crate) struct Found {
    pub(crate) regex: usize,
    pub(crate) id: Value,
    pub(crate) family: Option<u8>,
    pub(crate) prefix: Option<u32>,
    pub(crate) time: Option<f64>,
    pub(crate) attempts: usize,
    pub(crate) fields: serde_json::Map<String, Value>,
}

impl Oracle {
    /// Starts Python.
    #[expect(clippy::disallowed_methods, reason = "a test starts the program it compares with")]
    pub(crate) fn start() -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fail2ban/oracle.py");
        let mut process = std::process::Command::new("/usr/bin/python3")
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("install python3 and fail2ban (Debian's packages): the decisions are compared with theirs");
        let asks = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().expect("its output is a pipe"));
        Self { process, asks, answers }
    }

    /// Asks one question.
    pub(crate) fn ask(&mut self, question: &Value) -> Value {
        writeln!(self.asks.as_mut().expect("it is open"), "{question}")
            .expect("install fail2ban (Debian's package): its Python ended at once");
        let mut answer = String::new();
        let read = self.answers.read_line(&mut answer).expect("fail2ban answers in UTF-8");
        assert!(read > 0, "install fail2ban (Debian's package): its Python ended without an answer");
        serde_json::from_str(&answer).expect("the answer is JSON")
    }

    /// The sample suite.
    pub(crate) fn samples(&mut self) -> Vec<Step> {
        let mut answer = self.ask(&json!({ "do": "samples" }));
        serde_json::from_value(answer["steps"].take()).expect("steps")
    }

    /// Opens a filter with some settings, and tells its definition.
    pub(crate) fn open(&mut self, id: &str, step: &Step, settings: &Value) -> garant_guard::fail2ban::FilterDefinition {
        let mut question =
            json!({ "do": "open", "id": id, "name": step.name, "base": step.base, "options": step.options });
        for (key, value) in settings.as_object().into_iter().flatten() {
            question[key] = value.clone();
        }
        let mut answer = self.ask(&question);
        assert!(answer["error"].is_null(), "{id}: {}", answer["error"]);
        serde_json::from_value(answer["definition"].take()).expect("a definition")
    }

    /// Makes a filter of a definition, in the place of another of that name.
    pub(crate) fn define(&mut self, id: &str, definition: &garant_guard::fail2ban::FilterDefinition, settings: &Value) {
        let mut question = json!({ "do": "define", "id": id, "definition": definition });
        for (key, value) in settings.as_object().into_iter().flatten() {
            question[key] = value.clone();
        }
        let answer = self.ask(&question);
        assert!(answer["error"].is_null(), "{id}: {}", answer["error"]);
    }

    /// What it makes of lines: plain ones, or with their date.
    pub(crate) fn lines(&mut self, id: &str, now: i64, lines: &[Value], names: &Value) -> Vec<Answer> {
        let mut answer = self.ask(&json!({ "do": "lines", "id": id, "now": now, "lines": lines, "names": names }));
        serde_json::from_value(answer["answers"].take()).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        drop(self.asks.take());
        drop(self.process.wait());
    }
}
