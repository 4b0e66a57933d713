//! The literals without which a pattern can't match: the cheapest reason not to try it.

use super::syntax::{Class, Item, Node};

/// How many literals may stand for one pattern.
const MAX_LITERALS: usize = 256;
/// How many texts a part of a pattern may stand for before it is no longer spelled out.
const MAX_EXACT: usize = 24;
/// How long a literal has to be to be worth looking for.
const MIN_LENGTH: usize = 2;

/// How many sets are kept of a pattern.
const MAX_SETS: usize = 4;

/// In whatever a pattern matches there is a text of each of these sets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Literals {
    /// The sets, of which there is one at least; the one with the longest texts first.
    pub sets: Vec<Vec<String>>,
    /// Whether they may stand there in capitals: then they are in small letters here, and tell something of texts of ASCII alone,
    /// for letters beyond it may stand for some of theirs.
    pub ignores_case: bool,
}

/// All texts that a node can match, or some of which one must be within.
struct Parts {
    /// All texts that it matches, when they are few.
    exact: Option<Vec<String>>,
    /// One of these is in each match.
    within: Option<Vec<String>>,
}

/// The literals of a pattern, when there are any.
pub(super) fn of(root: &Node) -> Option<Literals> {
    let mut all = sets(root, false);
    let mut chosen: Vec<_> = std::iter::from_fn(|| take_best(&mut all)).take(MAX_SETS).collect();
    let ignores_case = ignores_case(root);
    if ignores_case {
        for set in &mut chosen {
            for text in set.iter_mut() {
                text.make_ascii_lowercase();
            }
            set.sort();
            set.dedup();
        }
    }
    (!chosen.is_empty()).then_some(Literals { sets: chosen, ignores_case })
}

/// All sets of which a text is in each match.
fn sets(node: &Node, ignore_case: bool) -> Vec<Vec<String>> {
    match node {
        Node::Capture { node, .. } | Node::Atomic(node) => sets(node, ignore_case),
        Node::Case { ignored, node } => sets(node, *ignored),
        Node::Concat(of) => {
            let (candidates, last, _) = runs(of, ignore_case);
            candidates.into_iter().chain([last]).collect()
        }
        _ => {
            let parts = parts(node, ignore_case);
            parts.exact.into_iter().chain(parts.within).collect()
        }
    }
}

fn take_best(sets: &mut Vec<Vec<String>>) -> Option<Vec<String>> {
    let best = best(sets.iter().cloned())?;
    sets.retain(|set| *set != best);
    Some(best)
}

fn ignores_case(node: &Node) -> bool {
    matches!(node, Node::Case { ignored: true, .. }) || super::emit::children(node).into_iter().any(ignores_case)
}

/// The set whose shortest text is longest.
fn best(sets: impl Iterator<Item = Vec<String>>) -> Option<Vec<String>> {
    sets.filter(|set| set.len() <= MAX_LITERALS)
        .map(|set| (shortest(&set), set))
        .filter(|(length, _)| *length >= MIN_LENGTH)
        .max_by_key(|(length, set)| (*length, std::cmp::Reverse(set.len())))
        .map(|(_, set)| set)
}

fn shortest(set: &[String]) -> usize {
    set.iter().map(String::len).min().unwrap_or(0)
}

fn nothing() -> Parts {
    Parts { exact: Some(vec![String::new()]), within: None }
}

fn unknown() -> Parts {
    Parts { exact: None, within: None }
}

fn parts(node: &Node, ignore_case: bool) -> Parts {
    match node {
        Node::Char(c) => char(*c, ignore_case),
        Node::Class(class) => self::class(class, ignore_case),
        Node::Start { .. } | Node::End { .. } | Node::TextEnd | Node::Boundary { .. } | Node::Look { .. } => nothing(),
        Node::Any { .. } | Node::Back(_) => unknown(),
        Node::Concat(of) => concat(of, ignore_case),
        Node::Alternate(of) => alternate(of.iter(), ignore_case),
        Node::Condition { yes, no, .. } => alternate([&**yes, &**no].into_iter(), ignore_case),
        Node::Capture { node, .. } | Node::Atomic(node) => parts(node, ignore_case),
        Node::Case { ignored, node } => parts(node, *ignored),
        Node::Repeat { node, min, max, .. } => {
            let inner = parts(node, ignore_case);
            match (min, max) {
                (1, Some(1)) => inner,
                (0, Some(1)) => {
                    let exact = inner.exact.map(|mut exact| {
                        exact.push(String::new());
                        exact
                    });
                    Parts { exact, within: None }
                }
                (0, _) => unknown(),
                _ => Parts { exact: None, within: best(inner.exact.into_iter().chain(inner.within)) },
            }
        }
    }
}

fn char(c: char, ignore_case: bool) -> Parts {
    // The newline at the end of a text is not within the line; and letters beyond ASCII have capitals of their own.
    if c == '\n' || !c.is_ascii() && ignore_case {
        return unknown();
    }
    let c = if ignore_case { c.to_ascii_lowercase() } else { c };
    Parts { exact: Some(vec![c.to_string()]), within: None }
}

fn class(class: &Class, ignore_case: bool) -> Parts {
    let mut exact = Vec::new();
    for item in &class.items {
        match *item {
            Item::Range(low, high) if !class.negated && u32::from(high) - u32::from(low) < 4 => {
                for c in low..=high {
                    let Some(mut one) = char(c, ignore_case).exact else { return unknown() };
                    exact.append(&mut one);
                }
            }
            _ => return unknown(),
        }
    }
    exact.sort();
    exact.dedup();
    if exact.len() > 6 { unknown() } else { Parts { exact: Some(exact), within: None } }
}

/// The sets within a sequence, and the texts of its end; whether these are all of it.
fn runs(of: &[Node], ignore_case: bool) -> (Vec<Vec<String>>, Vec<String>, bool) {
    let mut candidates: Vec<Vec<String>> = Vec::new();
    let mut run = vec![String::new()];
    let mut is_exact = true;
    for node in of {
        let next = parts(node, ignore_case);
        candidates.extend(next.within);
        match next.exact {
            Some(exact) if run.len() * exact.len() <= MAX_EXACT => {
                run = run.iter().flat_map(|start| exact.iter().map(move |end| format!("{start}{end}"))).collect();
                run.sort();
                run.dedup();
            }
            exact => {
                is_exact = false;
                candidates.push(std::mem::replace(&mut run, exact.unwrap_or_else(|| vec![String::new()])));
            }
        }
    }
    (candidates, run, is_exact)
}

fn concat(of: &[Node], ignore_case: bool) -> Parts {
    let (mut candidates, run, is_exact) = runs(of, ignore_case);
    if is_exact {
        return Parts { exact: Some(run), within: best(candidates.into_iter()) };
    }
    candidates.push(run);
    Parts { exact: None, within: best(candidates.into_iter()) }
}

fn alternate<'n>(of: impl Iterator<Item = &'n Node>, ignore_case: bool) -> Parts {
    let mut exact = Some(Vec::new());
    let mut within = Some(Vec::new());
    for node in of {
        let mut next = parts(node, ignore_case);
        let mut chosen = best(next.exact.clone().into_iter().chain(next.within.take()));
        match (&mut exact, &mut next.exact) {
            (Some(all), Some(some)) if all.len() + some.len() <= MAX_EXACT => all.append(some),
            _ => exact = None,
        }
        match (&mut within, &mut chosen) {
            (Some(all), Some(some)) if all.len() + some.len() <= MAX_LITERALS => all.append(some),
            _ => within = None,
        }
    }
    Parts { exact, within }
}
