//! People.

use crate::name::PersonName;
use crate::table::{Section, Table};

/// A person of the team.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Person {
    /// What the team calls them.
    pub name: PersonName,
}

impl Section for Person {
    const ABOUT: &'static str = "Somebody of the team. Never public.";
    const EXAMPLE: &'static str = r#"
[[person]]
name = "Léa"
"#;

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let name = table.declare("name", "what the team calls them");
        Some(Self { name: name? })
    }
}
