//! The text of a policy with tables added to it. What its author wrote stays as it is: comments, order, spaces.
//!
//! Called by commands that write a policy for somebody. What comes of it is judged as any policy: here it is known to be TOML, and no more.

use std::fmt;
use std::path::Path;

use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, TomlError, Value};

/// A table to add to a policy.
#[derive(Clone, Debug)]
pub struct Addition {
    /// Where it is: `backup` and `mariadb` of `[[backup.mariadb]]`.
    path: &'static [&'static str],
    /// Whether there may be many.
    is_list: bool,
    /// Its keys, `title.fr` among them, with their values.
    keys: Vec<(&'static str, Value)>,
}

impl Addition {
    /// The table `[path]`.
    pub const fn table(path: &'static [&'static str]) -> Self {
        Self { path, is_list: false, keys: Vec::new() }
    }

    /// A table `[[path]]`, behind those that there are.
    pub const fn one_more(path: &'static [&'static str]) -> Self {
        Self { path, is_list: true, keys: Vec::new() }
    }

    /// Adds a key with a text.
    #[must_use]
    pub fn key(mut self, key: &'static str, text: impl Into<String>) -> Self {
        self.keys.push((key, text.into().into()));
        self
    }

    /// The same; nothing where there is no text.
    #[must_use]
    pub fn maybe(self, key: &'static str, text: Option<impl Into<String>>) -> Self {
        match text {
            Some(text) => self.key(key, text),
            None => self,
        }
    }

    /// Adds a key with a list of texts; nothing where there are none.
    #[must_use]
    pub fn list(mut self, key: &'static str, texts: &[String]) -> Self {
        if !texts.is_empty() {
            self.keys.push((key, texts.iter().collect::<Array>().into()));
        }
        self
    }

    /// Adds a key with a secret that is in a file.
    #[must_use]
    pub fn secret(mut self, key: &'static str, file: &Path) -> Self {
        let mut secret = InlineTable::new();
        secret.insert("file", file.display().to_string().into());
        self.keys.push((key, secret.into()));
        self
    }

    /// As a table of its own.
    fn of_header(&self) -> Table {
        let mut table = Table::new();
        table.decor_mut().set_prefix("\n");
        for (key, value) in &self.keys {
            let value = Item::Value(value.clone());
            match key.split_once('.') {
                None => _ = table.insert(key, value),
                Some((parent, key)) => {
                    let nested = table.entry(parent).or_insert_with(|| {
                        let mut nested = Table::new();
                        nested.set_dotted(true);
                        Item::Table(nested)
                    });
                    nested[key] = value;
                }
            }
        }
        table
    }

    /// As a value in a list.
    fn inline(&self) -> InlineTable {
        let mut table = InlineTable::new();
        for (key, value) in &self.keys {
            table.insert(*key, value.clone());
        }
        table
    }
}

/// Why a table can't be added.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unfit {
    /// The policy is no TOML: where, and why.
    Toml(String),
    /// This table is written in a form to which nothing is added.
    Form(&'static str),
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Toml(why) => f.write_str(why),
            Self::Form(name) => write!(f, "`{name}` is not written as a table with its header in brackets"),
        }
    }
}

impl std::error::Error for Unfit {}

/// The text of a policy with these tables in it.
///
/// # Errors
/// The text is no TOML, or has something else where a table is to be.
pub fn with_additions(text: &str, additions: &[Addition]) -> Result<String, Unfit> {
    let mut document: DocumentMut = text.parse().map_err(|error: TomlError| Unfit::Toml(error.to_string()))?;
    for addition in additions {
        add(&mut document, addition)?;
    }
    Ok(document.to_string())
}

fn add(document: &mut DocumentMut, addition: &Addition) -> Result<(), Unfit> {
    let Some((last, parents)) = addition.path.split_last() else { return Ok(()) };
    let behind_all = 1 + last_position(document.as_table());
    let mut is_new_in = document.as_table_mut();
    for parent in parents {
        let item = is_new_in.entry(parent).or_insert_with(|| {
            let mut table = Table::new();
            table.set_implicit(true);
            Item::Table(table)
        });
        is_new_in = item.as_table_mut().filter(|table| !table.is_dotted()).ok_or(Unfit::Form(parent))?;
    }
    match is_new_in.get_mut(last) {
        None => {
            let mut table = addition.of_header();
            table.set_position(Some(behind_all));
            let item = if addition.is_list {
                let mut list = ArrayOfTables::new();
                list.push(table);
                Item::ArrayOfTables(list)
            } else {
                Item::Table(table)
            };
            is_new_in.insert(last, item);
            comments_first(document, addition.path);
        }
        Some(Item::ArrayOfTables(list)) if addition.is_list => list.push(addition.of_header()),
        Some(Item::Value(Value::Array(list))) if addition.is_list => push(list, addition.inline()),
        Some(Item::Table(table)) if !addition.is_list && table.is_implicit() => {
            // Only tables below it were there.
            let mut new = addition.of_header();
            new.set_position(Some(behind_all));
            for (key, item) in std::mem::take(table) {
                new.insert(&key, item);
            }
            *table = new;
        }
        Some(_) => return Err(Unfit::Form(last)),
    }
    Ok(())
}

/// Puts the comments at the end of the file before the table that was added behind them.
fn comments_first(document: &mut DocumentMut, path: &[&str]) {
    let comments = document.trailing().as_str().unwrap_or_default().trim_end().to_owned();
    if comments.is_empty() {
        return;
    }
    let added = path.iter().try_fold(document.as_item_mut(), |item, key| item.get_mut(key));
    let decor = match added {
        Some(Item::Table(table)) => table.decor_mut(),
        Some(Item::ArrayOfTables(list)) => match list.get_mut(0) {
            Some(table) => table.decor_mut(),
            None => return,
        },
        _ => return,
    };
    decor.set_prefix(format!("{comments}\n\n"));
    document.set_trailing("");
}

/// The place of the last table of the file.
fn last_position(table: &Table) -> isize {
    let below = table.iter().map(|(_, item)| match item {
        Item::Table(table) => last_position(table),
        Item::ArrayOfTables(list) => list.iter().map(last_position).max().unwrap_or(0),
        _ => 0,
    });
    below.chain(table.position()).max().unwrap_or(0)
}

/// Adds a value to a list, on a line of its own where the others have theirs. A comment behind the last one stays behind it.
fn push(list: &mut Array, table: InlineTable) {
    let text = |raw: Option<&toml_edit::RawString>| raw.and_then(|raw| raw.as_str()).unwrap_or_default().to_owned();
    let Some(last) = list.len().checked_sub(1).and_then(|last| list.get_mut(last)) else {
        return list.push(table);
    };
    let before = text(last.decor().prefix());
    let Some((_, indent)) = before.rsplit_once('\n') else { return list.push(table) };
    let behind = text(last.decor().suffix()) + &text(Some(list.trailing()));
    let (comments, closing) = behind.rsplit_once('\n').unwrap_or((&behind, ""));
    let mut value = Value::InlineTable(table);
    value.decor_mut().set_prefix(format!("{}\n{indent}", comments.trim_end()));
    if let Some(last) = list.len().checked_sub(1).and_then(|last| list.get_mut(last)) {
        last.decor_mut().set_suffix("");
    }
    list.push_formatted(value);
    list.set_trailing(format!("\n{closing}"));
    list.set_trailing_comma(true);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(name: &str) -> Addition {
        Addition::one_more(&["backup", "mariadb"]).key("name", name)
    }

    /// What was there is there, line by line and in its order, but for a bracket or a comma of a list on one line.
    fn keeps(before: &str, after: &str) {
        let mut lines = after.lines();
        for line in before.lines() {
            assert!(lines.any(|it| it == line), "`{line}` is not kept:\n{after}");
        }
    }

    #[test]
    fn a_policy_keeps_its_comments_and_its_order() {
        let before = "\
# The policy.
publish = false   # not yet

[journal]
name = \"shop.example\"        # for good

[[region]] # the first
name = \"gravelines\"
provider = \"ovh\"

[[service]]
name = \"shop\"

# Who is told:
# [mail]
";
        let additions = [
            Addition::one_more(&["region"]).key("name", "falkenstein").key("provider", "hetzner"),
            Addition::one_more(&["service"]).key("name", "backup").key("title.fr", "Les sauvegardes"),
            Addition::table(&["backup"]).key("service", "backup").secret("key", "/etc/garant/backup.key".as_ref()),
            Addition::one_more(&["backup", "copy"]).key("name", "near"),
            database("shop-db"),
        ];
        let after = with_additions(before, &additions).expect("it fits");
        keeps(before, &after);
        let added = "\
name = \"shop\"

[[service]]
name = \"backup\"
title.fr = \"Les sauvegardes\"

# Who is told:
# [mail]

[backup]
service = \"backup\"
key = { file = \"/etc/garant/backup.key\" }

[[backup.copy]]
name = \"near\"

[[backup.mariadb]]
name = \"shop-db\"
";
        assert!(after.ends_with(added), "{after}");
        let again = with_additions(&after, &[database("crm-db")]).expect("it fits");
        assert_eq!(again, format!("{after}\n[[backup.mariadb]]\nname = \"crm-db\"\n"));
    }

    #[test]
    fn a_table_goes_behind_its_like() {
        let before =
            "[backup]\nkeep = \"9 d\"\n\n[[backup.mariadb]] # ours\nname = \"a\"\n\n[pages]\nlisten = \"x\" # last";
        let after = with_additions(before, &[database("b")]).expect("it fits");
        let expected = "[backup]\nkeep = \"9 d\"\n\n[[backup.mariadb]] # ours\nname = \"a\"\n\n[[backup.mariadb]]\nname = \"b\"\n\n[pages]\nlisten = \"x\" # last\n";
        assert_eq!(after, expected);
    }

    #[test]
    fn a_list_in_brackets_stays_one() {
        let one = with_additions("[backup]\nmariadb = [{ name = \"a\" }]\n", &[database("b")]).expect("it fits");
        assert_eq!(one, "[backup]\nmariadb = [{ name = \"a\" }, { name = \"b\" }]\n");
        let lines = "[backup]\nmariadb = [\n  { name = \"a\" }, # ours\n]\nkeep = \"9 d\"\n";
        let after = with_additions(lines, &[database("b")]).expect("it fits");
        let expected = "[backup]\nmariadb = [\n  { name = \"a\" }, # ours\n  { name = \"b\" },\n]\nkeep = \"9 d\"\n";
        assert_eq!(after, expected);
        let bare = lines.replace(" },", " }");
        assert_eq!(with_additions(&bare, &[database("b")]).expect("it fits"), expected);
        // Where only tables of it are there, the header comes before nothing that it would take in.
        let implicit = "[[backup.copy]]\nname = \"near\"\n";
        let after = with_additions(implicit, &[Addition::table(&["backup"]).key("service", "x")]).expect("it fits");
        assert!(after.contains("[backup]\nservice = \"x\"\n") && after.parse::<DocumentMut>().is_ok(), "{after}");
    }

    #[test]
    fn what_has_another_form_is_named() {
        for text in ["backup = { keep = \"9 d\" }\n", "backup.keep = \"9 d\"\n", "[backup]\nmariadb = 3\n"] {
            assert!(matches!(with_additions(text, &[database("b")]), Err(Unfit::Form(_))), "{text}");
        }
        assert!(matches!(with_additions("[backup", &[database("b")]), Err(Unfit::Toml(_))));
    }
}
