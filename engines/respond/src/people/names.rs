//! Names in rows: people and schedules as their text.

use std::fmt::Display;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serializer};

fn read<'de, N: FromStr, D: Deserializer<'de>>(deserializer: D, noun: &str) -> Result<N, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| serde::de::Error::custom(format!("`{}` is not the name of a {noun}", text.escape_debug())))
}

fn write<N: Display, S: Serializer>(name: &N, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(name)
}

macro_rules! as_text {
    ($($(#[$doc:meta])* $module:ident, $name:ident, $noun:literal;)*) => {$(
        $(#[$doc])*
        pub mod $module {
            use policy::$name;
            use serde::{Deserializer, Serializer};

            /// Reads it.
            pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                super::read(deserializer, $noun)
            }

            /// Writes it.
            pub fn serialize<S: Serializer>(name: &$name, serializer: S) -> Result<S::Ok, S::Error> {
                super::write(name, serializer)
            }
        }
    )*};
}

as_text! {
    /// For `#[serde(with)]`: the name of a person.
    person_as_text, PersonName, "person";
    /// For `#[serde(with)]`: the name of a schedule.
    schedule_as_text, ScheduleName, "schedule";
    /// For `#[serde(with)]`: the name of an escalation.
    escalation_as_text, EscalationName, "escalation";
}
