//! Names and identifiers.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest name that the policy accepts, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// Longest name of a vantage, in bytes: the name of an engine and a dot fit behind it.
const VANTAGE_BYTES_MAX: usize = 40;

/// Why a text can't be a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadName {
    text: String,
    bytes_max: usize,
}

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is not a name: use 1 to {} of the characters a-z A-Z 0-9 - _ . and start with a letter or a digit",
            self.text, self.bytes_max
        )
    }
}

impl std::error::Error for BadName {}

fn is_name(text: &str, bytes_max: usize) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    text.len() <= bytes_max
        && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && text.bytes().all(allowed)
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $bytes_max:expr) => {
        $(#[$doc])*
        // Shared, not copied: a policy of ten thousand probes says each name in a dozen places.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = BadName;
            fn from_str(text: &str) -> Result<Self, BadName> {
                if is_name(text, $bytes_max) {
                    Ok(Self(text.into()))
                } else {
                    Err(BadName { text: text.to_owned(), bytes_max: $bytes_max })
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name!(/// A service that customers use.
    ServiceId, NAME_BYTES_MAX);
name!(/// A question asked of a service at an interval, or a sign of life waited for.
    ProbeId, NAME_BYTES_MAX);
name!(/// A vantage point: from where something is seen, and whose clock dates it. Public, so it names a place or a role, never a
    /// host.
    VantageId, VANTAGE_BYTES_MAX);
name!(/// Who saw it: an engine at a vantage point, `<vantage>.<engine>`. The last dot divides the two.
    ObserverId, NAME_BYTES_MAX);
name!(/// A public sentence, as code. The ids of `docs/promises.md` where one fits.
    PromiseId, NAME_BYTES_MAX);
name!(/// A region of a provider.
    RegionId, NAME_BYTES_MAX);
name!(/// A machine of the team. Never public.
    HostId, NAME_BYTES_MAX);
name!(/// What a detector looks for, such as `disk-usage`.
    FindingId, NAME_BYTES_MAX);

impl VantageId {
    /// The observer that an engine is at this vantage point. The name of an engine has 23 characters at most, and no dot.
    pub fn observer(&self, engine: &str) -> ObserverId {
        joined(self.as_str(), engine)
    }
}

impl ObserverId {
    /// Its vantage point: what is before the last dot.
    pub fn vantage(&self) -> &str {
        self.0.rsplit_once('.').map_or(&*self.0, |(vantage, _)| vantage)
    }

    /// The observer that another engine is at the same vantage point.
    #[must_use]
    pub fn beside(&self, engine: &str) -> Self {
        joined(self.vantage(), engine)
    }
}

fn joined(vantage: &str, engine: &str) -> ObserverId {
    let name = format!("{vantage}.{engine}");
    debug_assert!(!engine.contains('.') && is_name(&name, NAME_BYTES_MAX), "`{name}` is no observer");
    ObserverId(name.into())
}

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name([u8; 16]);

        impl $name {
            /// From 16 random bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }
            /// The 16 bytes.
            pub const fn bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            /// 32 lower-case hexadecimal digits.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // One number, not sixteen: every entry of a log is written with two of these.
                write!(f, "{:032x}", u128::from_be_bytes(self.0))
            }
        }

        impl FromStr for $name {
            type Err = BadName;
            fn from_str(text: &str) -> Result<Self, BadName> {
                let bad = || BadName { text: text.to_owned(), bytes_max: 32 };
                if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
                    return Err(bad());
                }
                let number = u128::from_str_radix(text, 16).map_err(|_| bad())?;
                Ok(Self(number.to_be_bytes()))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

random_id!(/// An installation of garant, for its whole life.
    InstallationId);
random_id!(/// One run of one process: sequences of an observer start again at 0 with each.
    BootId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_not_assumed() {
        for good in ["shop", "AV-1", "a.b_c-d", "0", &"x".repeat(64)] {
            assert!(good.parse::<ServiceId>().is_ok(), "{good}");
        }
        for bad in ["", "-x", "é", "a b", "a/b", "a\n", &"x".repeat(65)] {
            assert!(bad.parse::<ServiceId>().is_err(), "{bad}");
            assert!(serde_json::from_value::<ServiceId>(bad.into()).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_observer_is_an_engine_at_a_vantage_point() {
        let vantage: VantageId = "eu.gravelines".parse().expect("a name");
        let watch = vantage.observer("watch");
        assert_eq!(watch.as_str(), "eu.gravelines.watch");
        assert_eq!(watch.vantage(), vantage.as_str());
        assert_eq!(watch.beside("guard"), vantage.observer("guard"));
        assert_eq!(watch.as_str().parse(), Ok(watch));
        let longest: VantageId = "v".repeat(40).parse().expect("a name");
        assert_eq!(longest.observer(&"e".repeat(23)).as_str().len(), 64);
        assert!("v".repeat(41).parse::<VantageId>().is_err());
        assert_eq!("here".parse::<ObserverId>().expect("a name").vantage(), "here");
    }

    #[test]
    fn random_ids_round_trip() {
        let id = BootId::from_bytes([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255]);
        assert_eq!(id.to_string(), "000102030405060708090a0b0c0d0eff");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("000102030405060708090A0B0C0D0EFF".parse::<BootId>().is_err(), "one spelling only");
    }
}
