//! The application's own checks: what the policy says of a backup that was restored well, asked of what was restored.
//!
//! Of a database it is a statement of SQL whose first value must be true, run by an account that can only read; of files a command that
//! must end with 0. Each runs in the [blank place](crate::blank), has its time, and is named where it fails.

use std::fs;
use std::ops::RangeInclusive;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use engine::{BoxFuture, Context, ProgramError};
use event::Span;
use policy::{Section, Table};
use serde::{Deserialize, Serialize};

use crate::blank::Blank;
use crate::database::DatabaseError;
use crate::owner::may_become_others;

/// How long a check may take.
const WITHIN: RangeInclusive<Span> = Span::from_secs(1)..=Span::from_days(1);
const WITHIN_DEFAULT: Span = Span::from_secs(60);
/// Longest name of a check.
const NAME_CHARS_MAX: usize = 80;
/// Most that a command may write.
const OUTPUT_BYTES_MAX: usize = 1024 * 1024;
/// Whom commands run as where this process is root and nobody else is named.
const NOBODY: &str = "nobody";

/// A check of a database.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct SqlCheck {
    /// What it is called.
    pub name: String,
    /// The database that it is asked of.
    pub database: String,
    /// One statement; the first column of its first row must be true.
    pub sql: String,
    /// How long it may take.
    pub within: Span,
}

/// A check of files.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct CommandCheck {
    /// What it is called.
    pub name: String,
    /// A program and its arguments.
    pub command: Vec<String>,
    /// Whom it runs as, where this process is root.
    pub user: Option<String>,
    /// How long it may take.
    pub within: Span,
}

/// What a check has shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Checked {
    /// What it is called.
    pub name: String,
    /// Whether all is well.
    pub passed: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Checked {
    /// What came of the check of this name.
    pub(crate) fn of(name: &str, result: Result<(), String>) -> Self {
        Self { name: name.to_owned(), passed: result.is_ok(), why: result.err() }
    }
}

/// What is wrong, by the names of the checks; `None` where all have passed.
pub(crate) fn failure(checked: &[Checked]) -> Option<String> {
    let failed = checked.iter().filter(|check| !check.passed);
    let words: Vec<String> = failed
        .map(|check| format!("the check `{}` failed: {}", check.name, check.why.as_deref().unwrap_or("it is not so")))
        .collect();
    (!words.is_empty()).then(|| words.join("; "))
}

/// The name of a check, and how long it may take; `None` where the name is none.
fn read_name(table: &mut Table<'_>) -> Option<(String, Span)> {
    let name: Option<String> = table.required("name", "what it is called where it fails");
    let within = table.or_in("within", WITHIN_DEFAULT, &WITHIN, "how long it may take");
    let name = name?;
    if name.trim().is_empty() || name.chars().count() > NAME_CHARS_MAX || name.chars().any(char::is_control) {
        table.mistake("name", "no name of a check", "write 1 to 80 characters: `name = \"each order has a customer\"`");
        return None;
    }
    Some((name, within))
}

impl Section for SqlCheck {
    const ABOUT: &'static str = "What must be true of a database that was restored.";
    const EXAMPLE: &'static str = "";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let name = read_name(table);
        let database = table.required("database", "the database that is asked");
        let doc = "one statement, which can only read; the first column of its first row must be true, or a number other than 0";
        let sql: Option<String> = table.required("sql", doc);
        let (name, within) = name?;
        Some(Self { name, database: database?, sql: sql?, within })
    }
}

impl Section for CommandCheck {
    const ABOUT: &'static str = "What must be true of files that were restored.";
    const EXAMPLE: &'static str = "";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let name = read_name(table);
        let doc = "a program and its arguments, without a shell; it begins in the folder that was restored, and must end with 0";
        let command = table.required_list("command", doc);
        let user = table.optional("user", "whom it runs as, where garant is root; `nobody` unless said");
        let (name, within) = name?;
        Some(Self { name, command: command?, user, within })
    }
}

/// Whether the first column of a row means yes: a truth value of PostgreSQL, or a number other than 0.
fn is_true(value: &str) -> bool {
    matches!(value, "t" | "true") || value.parse::<f64>().is_ok_and(|number| number != 0.0)
}

/// A server on what was restored, in a [blank place](crate::blank), that answers questions and changes nothing.
pub(crate) trait Examined: Send + Sync {
    /// The rows of one statement, `rows_max` at most, or why there is no answer. The reason holds none of the data.
    fn ask<'a>(
        &'a self,
        database: &'a str,
        sql: &'a str,
        within: Span,
        rows_max: u16,
    ) -> BoxFuture<'a, Result<Vec<Vec<Option<String>>>, String>>;

    /// Stops it in good order.
    fn stop<'a>(self: Box<Self>) -> BoxFuture<'a, Result<(), DatabaseError>>
    where
        Self: 'a;
}

/// Asks a check of a database.
pub(crate) async fn ask(server: &dyn Examined, check: &SqlCheck) -> Checked {
    let rows = server.ask(&check.database, &check.sql, check.within, 1).await;
    let is_so = rows.and_then(|rows| match rows.first().and_then(|row| row.first()) {
        None => Err("it has no row".to_owned()),
        Some(None) => Err("it is NULL".to_owned()),
        Some(Some(value)) if is_true(value) => Ok(()),
        Some(Some(_)) => Err("it is not true".to_owned()),
    });
    Checked::of(&check.name, is_so)
}

/// Runs the checks of files in the folder that was restored.
pub(crate) async fn run(context: &Context, checks: &[CommandCheck], folder: &Path) -> Vec<Checked> {
    if checks.is_empty() {
        return Vec::new();
    }
    let blank = Blank::find(context, &[]).await;
    let mut checked = Vec::new();
    for check in checks {
        checked.push(Checked::of(&check.name, run_one(context, check, folder, &blank).await));
    }
    checked
}

async fn run_one(context: &Context, check: &CommandCheck, folder: &Path, blank: &Blank) -> Result<(), String> {
    let owner = if rustix::process::geteuid().is_root() {
        let user = check.user.as_deref().unwrap_or(NOBODY);
        may_become_others(user)?;
        Some(numbers_of(user)?)
    } else {
        None
    };
    let program = blank.command(&check.command, folder, owner);
    let program = program.deadline(check.within).output_bytes_max(OUTPUT_BYTES_MAX);
    let opened = owner.map(|(_, group)| Opened::to(folder, group)).transpose();
    let _opened = opened.map_err(|error| format!("{} can't be opened to its user: {error}", folder.display()))?;
    match context.programs.run(&program).await {
        Ok(_) => Ok(()),
        Err(ProgramError::Failed { ended, stderr, .. }) if stderr.is_empty() => Err(ended),
        Err(ProgramError::Failed { ended, stderr, .. }) => Err(format!("{ended}: {stderr}")),
        Err(ProgramError::Late(_, within)) => Err(format!("it took longer than {within}")),
        Err(error) => Err(error.to_string()),
    }
}

/// A folder of root that a group may look into, until it is dropped.
struct Opened<'a> {
    folder: &'a Path,
    before: (u32, fs::Permissions),
}

impl<'a> Opened<'a> {
    fn to(folder: &'a Path, group: u32) -> std::io::Result<Self> {
        let found = fs::metadata(folder)?;
        let opened = Self { folder, before: (found.gid(), found.permissions()) };
        chown(folder, None, Some(group))?;
        fs::set_permissions(folder, fs::Permissions::from_mode(found.mode() | 0o050))?;
        Ok(opened)
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        let (group, permissions) = &self.before;
        let closed = chown(self.folder, None, Some(*group));
        if let Err(error) = closed.and_then(|()| fs::set_permissions(self.folder, permissions.clone())) {
            tracing::error!(folder = %self.folder.display(), %error, "a restored folder stays open to who has checked it");
        }
    }
}

fn numbers_of(user: &str) -> Result<(u32, u32), String> {
    let path = PathBuf::from("/etc/passwd");
    let passwd = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let found = passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, user_number, group, ..] = fields.as_slice() else { return None };
        (*name == user).then_some((user_number.parse().ok()?, group.parse().ok()?))
    });
    found.ok_or_else(|| format!("there is no user `{user}` here: name another one with `user`"))
}

/// An error of a server without what it quotes: that is the data of others.
pub(crate) fn without_data(error: &str, quotes: &[char]) -> String {
    let (mut said, mut quote, mut before) = (String::new(), None, ' ');
    let mut rest = error.chars().take(1000).peekable();
    while let Some(c) = rest.next() {
        // The apostrophe of a word has letters on both sides.
        let is_inside = |c: char| c.is_alphanumeric();
        let is_apostrophe = c == '\'' && is_inside(before) && rest.peek().copied().is_some_and(is_inside);
        match quote {
            None if quotes.contains(&c) && !is_apostrophe => {
                quote = Some(c);
                said.extend([c, '…']);
            }
            None => said.push(c),
            Some(open) if c == open && !is_apostrophe => {
                quote = None;
                said.push(c);
            }
            Some(_) => {}
        }
        before = c;
    }
    said
}

#[cfg(test)]
mod tests {
    use engine::Programs;
    use engine::sim::World;
    use event::Time;

    use super::*;

    #[test]
    fn a_truth_is_a_truth_value_or_a_number() {
        for (value, wanted) in
            [("t", true), ("true", true), ("1", true), ("-0.5", true), ("f", false), ("0", false), ("0.0", false)]
        {
            assert_eq!(is_true(value), wanted, "{value}");
        }
        assert!(!is_true("") && !is_true("yes") && !is_true("NaN rows"));
    }

    #[test]
    fn an_error_shows_no_data() {
        let said = without_data("invalid input syntax for type integer: \"ada@example.org\"", &['"']);
        assert_eq!(said, "invalid input syntax for type integer: \"…\"");
        assert_eq!(without_data("Can't find 'o'hara; 'cut", &['\'']), "Can't find '…'cut");
        assert_eq!(without_data("'cut off", &['\'']), "'…");
    }

    #[tokio::test]
    async fn commands_check_what_was_restored() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).expect("set");
        fs::write(folder.path().join("orders.csv"), "1,ada\n").expect("written");
        let context = World::at(Time::from_secs(1_800_000_000)).context("host".parse().expect("an observer"));
        let context = Context { programs: std::sync::Arc::new(Programs::of_system()), ..context.expect("a context") };
        let check = |name: &str, command: &[&str]| CommandCheck {
            name: name.to_owned(),
            command: command.iter().map(ToString::to_string).collect(),
            user: None,
            within: Span::from_secs(5),
        };
        let checks = [
            check("orders", &["test", "-s", "orders.csv"]),
            check("customers", &["sh", "-c", "echo no customers >&2; exit 3"]),
            check("slow", &["sleep", "60"]),
            check("loud", &["yes"]),
            check("writes", &["sh", "-c", "! touch /etc/written-by-a-check 2>/dev/null"]),
            check("missing", &["no-such-program"]),
        ];
        let checked = run(&context, &checks, folder.path()).await;
        let passed: Vec<bool> = checked.iter().map(|check| check.passed).collect();
        assert_eq!(fs::metadata(folder.path()).expect("there").mode() & 0o777, 0o700, "it is closed again");
        assert_eq!(passed, [true, false, false, false, true, false], "{checked:?}");
        let why = failure(&checked).expect("some failed");
        assert!(
            why.starts_with("the check `customers` failed: exit status: 3: no customers; the check `slow`"),
            "{why}"
        );
        assert!(why.contains("the check `loud` failed: ") && why.contains("bytes"), "{why}");
        assert_eq!(failure(&checked[..1]), None);
    }
}
