//! The characters that a pattern at the start of a text can begin with: most lines have another there.

use super::emit::ascii_members;
use super::syntax::{Class, Item, Node};

/// Characters of ASCII.
pub(super) type Characters = [bool; 128];

/// What a node can begin with.
struct First {
    characters: Characters,
    /// Whether it may match nothing: then what follows begins the text, too.
    may_be_empty: bool,
}

const NOTHING: Characters = [false; 128];
const ANYTHING: Characters = [true; 128];

/// The characters of ASCII with which a text of ASCII begins in which a pattern is found; nothing when the pattern may be found
/// elsewhere than at the start of the text, or may match nothing.
pub(super) fn of(root: &Node) -> Option<Characters> {
    let first = first(root, false);
    (is_at_start(root) && !first.may_be_empty).then_some(first.characters)
}

/// Whether a node is found at the start of a text only.
fn is_at_start(node: &Node) -> bool {
    match node {
        Node::Start { multi } => !multi,
        Node::Concat(of) => of.first().is_some_and(is_at_start),
        Node::Alternate(of) => !of.is_empty() && of.iter().all(is_at_start),
        Node::Capture { node, .. } | Node::Atomic(node) | Node::Case { node, .. } => is_at_start(node),
        _ => false,
    }
}

fn first(node: &Node, ignore_case: bool) -> First {
    let of = |characters| First { characters, may_be_empty: false };
    match node {
        Node::Char(c) => {
            let class = Class { negated: false, items: vec![Item::Range(*c, *c)] };
            of(ascii_members(&class, ignore_case))
        }
        Node::Class(class) => of(ascii_members(class, ignore_case)),
        Node::Any { .. } => of(ANYTHING),
        Node::Start { .. } | Node::End { .. } | Node::TextEnd | Node::Boundary { .. } | Node::Look { .. } => {
            First { characters: NOTHING, may_be_empty: true }
        }
        Node::Back(_) => First { characters: ANYTHING, may_be_empty: true },
        Node::Concat(of) => {
            let mut all = First { characters: NOTHING, may_be_empty: true };
            for node in of {
                let next = first(node, ignore_case);
                all = First { characters: both(&all.characters, &next.characters), ..next };
                if !all.may_be_empty {
                    break;
                }
            }
            all
        }
        Node::Alternate(of) => either(of.iter(), ignore_case),
        Node::Condition { yes, no, .. } => either([&**yes, &**no].into_iter(), ignore_case),
        Node::Repeat { node, min, .. } => {
            let inner = first(node, ignore_case);
            First { may_be_empty: inner.may_be_empty || *min == 0, ..inner }
        }
        Node::Capture { node, .. } | Node::Atomic(node) => first(node, ignore_case),
        Node::Case { ignored, node } => first(node, *ignored),
    }
}

fn either<'n>(of: impl Iterator<Item = &'n Node>, ignore_case: bool) -> First {
    let nothing = First { characters: NOTHING, may_be_empty: false };
    of.map(|node| first(node, ignore_case)).fold(nothing, |all, next| First {
        characters: both(&all.characters, &next.characters),
        may_be_empty: all.may_be_empty || next.may_be_empty,
    })
}

/// The characters of two.
pub(super) fn both(one: &Characters, other: &Characters) -> Characters {
    std::array::from_fn(|c| one[c] || other[c])
}

#[cfg(test)]
mod tests {
    use super::super::Pattern;

    #[test]
    fn beginnings_are_those_of_patterns_at_the_start() {
        let of = |pattern: &str| {
            let characters = Pattern::beginnings([&Pattern::new(pattern, false).expect("a pattern")])?;
            Some((0..128_u8).map(char::from).filter(|c| characters[*c as usize]).collect::<String>())
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(of("^abc"), some("a"));
        assert_eq!(of("^(?:=x )?([12]|3)"), some("123="));
        assert_eq!(of("(?i)^k?s"), some("KSks"));
        assert_eq!(of(r"^\b(?=x)\d{1,3}"), some("0123456789"));
        assert_eq!(of("^(a)?(?(1)b|c)"), some("abc"));
        assert_eq!(of("^(?:a|b)+|^c"), some("abc"));
        assert_eq!(of("^[^a]x").map(|all| all.len()), Some(127));
        for anywhere in ["abc", "^a|b", "^a*", "^(?:a|)", "(?m)^a", "(^a)?b"] {
            assert_eq!(of(anywhere), None, "{anywhere}");
        }
    }
}
