//! The bytes of one entry.
//!
//! A leaf is public for ever, so it says almost nothing: what kind of entry (by name when its kind is public, by family
//! when it is not), its sequence, the hour, and a commitment to the payload. It does say the sequence, so that an entry
//! can't be moved; the hour, so that a stranger can tell the age of an entry that he may not read; and the kind, so that
//! he can see whether something that he is entitled to read is kept from him.

use std::str;

use event::{Retention, kind_named};

use crate::Hash;
use crate::tile::parse_decimal;

/// First word of every leaf of this format.
const TAG: &str = "garant-leaf/1";
/// What the coarse kind of an entry for the team starts with.
const TEAM: &str = "team:";
/// Hours from 1970 that a leaf may be away: more than a thousand years, and far from where arithmetic ends.
const HOURS_MAX: i64 = 10_000_000;

/// One entry, as everybody may see it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Leaf {
    /// The name of a public kind, or `team:` and a family; see [`event::Kind::coarse`].
    pub coarse: String,
    /// Its place in the log, from 0.
    pub sequence: u64,
    /// When it was recorded: whole hours since 1970-01-01T00:00Z, at most ten million either way.
    pub hour: i64,
    /// [`commitment`](crate::seal::commitment) to salt and payload.
    pub commitment: Hash,
}

/// Bytes that are not a leaf of this format.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{found}` is not a leaf: `{TAG} <coarse> <sequence> <hour> <hex commitment>` expected")]
pub struct BadLeaf {
    found: String,
}

impl Leaf {
    /// The bytes that are hashed into the tree: ASCII, one line, no newline.
    pub fn encode(&self) -> Vec<u8> {
        format!("{TAG} {} {} {} {}", self.coarse, self.sequence, self.hour, self.commitment).into_bytes()
    }

    /// Reads what [`encode`](Self::encode) writes, in that one spelling.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadLeaf> {
        let parts = || {
            let mut words = str::from_utf8(bytes).ok()?.split(' ');
            let tag = words.next()?;
            let coarse = words.next().filter(|coarse| is_coarse(coarse))?;
            let sequence = parse_decimal(words.next()?)?;
            let hour = words.next()?;
            let hour = match hour.strip_prefix('-') {
                Some(before_1970) => -parse_decimal::<i64>(before_1970).filter(|hour| *hour > 0)?,
                None => parse_decimal::<i64>(hour)?,
            };
            if hour.abs() > HOURS_MAX {
                return None;
            }
            let commitment = Hash::from_hex(words.next()?).ok()?;
            let whole = tag == TAG && words.next().is_none();
            whole.then(|| Self { coarse: coarse.to_owned(), sequence, hour, commitment })
        };
        parts().ok_or_else(|| BadLeaf { found: String::from_utf8_lossy(bytes).chars().take(200).collect() })
    }

    /// Whether everybody is entitled to its payload. A kind that this release does not know is public unless it says
    /// `team:`, so that nothing can be hidden behind a new name.
    pub fn is_public(&self) -> bool {
        !self.coarse.starts_with(TEAM)
    }

    /// The retention class of its payload, as far as the leaf tells: a kind of the team's is taken for one of audit, a public
    /// one that this release does not know for evidence, which a destruction in the log may cover.
    pub fn retention(&self) -> Retention {
        if !self.is_public() {
            return Retention::Audit;
        }
        kind_named(&self.coarse).map_or(Retention::Evidence, |kind| kind.retention)
    }
}

/// Printable ASCII without spaces.
fn is_coarse(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(coarse: &str, sequence: u64, hour: i64) -> Leaf {
        Leaf { coarse: coarse.to_owned(), sequence, hour, commitment: Hash::of(&[b"x"]) }
    }

    #[test]
    fn the_bytes_are_for_ever() {
        assert_eq!(
            leaf("evidence.changed", 7, 498_719).encode(),
            b"garant-leaf/1 evidence.changed 7 498719 2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
        );
    }

    #[test]
    fn leaves_round_trip_and_have_one_spelling() {
        for original in
            [leaf("evidence.changed", 0, 0), leaf("team:security", u64::MAX, -1), leaf("future.kind", 9, 10_000_000)]
        {
            assert_eq!(Leaf::parse(&original.encode()).as_ref(), Ok(&original));
        }
        let good = String::from_utf8(leaf("a.b", 10, 20).encode()).expect("ASCII");
        for (from, to) in [
            ("leaf/1", "leaf/2"),
            (" 10 ", " 010 "),
            (" 10 ", " +10 "),
            (" 20 ", " -0 "),
            (" 20 ", " 20  "),
            (" 20 ", " 10000001 "),
            (" 20 ", " -10000001 "),
            (" 20 ", " 9223372036854775807 "),
            ("a.b", "a\u{e9}b"),
            ("a.b", ""),
            (" 10 ", " 18446744073709551616 "),
            ("2d71", "2D71"),
        ] {
            let bad = good.replacen(from, to, 1);
            assert!(Leaf::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(Leaf::parse(format!("{good}\n").as_bytes()).is_err(), "no newline");
        assert!(Leaf::parse(format!("{good} more").as_bytes()).is_err(), "nothing after");
    }

    #[test]
    fn only_team_is_hidden() {
        assert!(leaf("evidence.changed", 0, 0).is_public());
        assert!(leaf("some.future_kind", 0, 0).is_public());
        assert!(!leaf("team:security", 0, 0).is_public());
    }
}
