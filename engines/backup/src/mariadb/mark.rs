//! Marks: at which instants the log of the server ended where.
//!
//! **Problem.** The second in the header of a transaction is that in which its last statement began, by the clock of the server, and
//! whoever may `SET TIMESTAMP` chooses it. A statement that ran for a minute was committed a minute later than it says.
//! **Principle.** Once a second the server is asked where its log ends. What was committed before the question lies before that place,
//! what is committed after the answer behind it: whatever the headers say. Between two marks, a second apart, the headers decide.

use event::{Span, Time};
use serde::{Deserialize, Serialize};

/// A place in the binary log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Default, Debug)]
pub(super) struct Position {
    /// The number of the file.
    pub(super) file: u32,
    /// The byte in it.
    pub(super) at: u64,
}

/// At this instant the log ended there.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(super) struct Mark {
    /// When the question was asked, by the clock of the agent.
    pub(super) asked: Time,
    /// When the answer was there.
    pub(super) answered: Time,
    /// Where the log ended in between.
    pub(super) position: Position,
}

/// How long after an instant the log may be asked where it ends, and still tell what was committed by then.
const LATE_MAX: Span = Span::from_secs(1);
/// Most marks that are remembered at once: of more, every other is forgotten.
pub(super) const MARKS_MAX: usize = 256;

/// Adds a mark; of those that stand at one place, the first and the last are kept.
pub(super) fn add(marks: &mut Vec<Mark>, mark: Mark) {
    if let [.., a, b] = marks.as_slice()
        && a.position == mark.position
        && b.position == mark.position
    {
        marks.pop();
    }
    if marks.len() >= MARKS_MAX {
        let mut number = 0;
        // The last one stays: it says how far everything is there.
        marks.retain(|_| {
            number += 1;
            number % 2 == 0
        });
    }
    marks.push(mark);
}

/// Between which places the state of an instant ends, if marks reach it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Window {
    /// What lies before was there before the instant.
    pub(super) from: Option<Position>,
    /// What lies behind came after it.
    pub(super) to: Position,
    /// When what lies between was there: a header that names a later second is wrong.
    pub(super) known_at: Time,
    /// Since when nobody had asked, where that was so long that commits on both sides of the instant lie between: the headers alone
    /// tell them apart then, and do not know how long a statement ran.
    pub(super) unwatched_from: Option<Time>,
}

/// The window of the instant `to`, by marks in the order of the log; `None` where no mark is at it or behind.
pub(super) fn window(marks: &[Mark], to: Time) -> Option<Window> {
    let at = marks.iter().position(|mark| mark.asked >= to)?;
    let before = marks.get(..at).unwrap_or_default().iter().rev().find(|mark| mark.answered <= to);
    let mark = marks.get(at)?;
    let from = before.map(|mark| mark.position);
    let is_unwatched = mark.answered.since(to) > LATE_MAX && from != Some(mark.position);
    let unwatched_from = is_unwatched.then(|| before.map_or(to, |mark| mark.answered));
    Some(Window { from, to: mark.position, known_at: mark.answered, unwatched_from })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(asked: i64, answered: i64, at: u64) -> Mark {
        let micros = Time::from_micros;
        Mark { asked: micros(asked), answered: micros(answered), position: Position { file: 1, at } }
    }

    #[test]
    fn the_state_of_an_instant_ends_between_the_marks_around_it() {
        let marks = [mark(10, 12, 100), mark(20, 25, 200), mark(30, 31, 200), mark(40, 41, 300)];
        let window = |to| {
            let window = window(&marks, Time::from_micros(to))?;
            Some((window.from.map(|from| from.at), window.to.at))
        };
        assert_eq!(window(5), Some((None, 100)));
        assert_eq!(window(11), Some((None, 200)), "the first was answered later, and says nothing of before");
        assert_eq!(window(12), Some((Some(100), 200)));
        assert_eq!(window(30), Some((Some(200), 200)), "nothing happened");
        assert_eq!(window(31), Some((Some(200), 300)));
        assert_eq!(window(40), Some((Some(200), 300)));
        assert_eq!(window(41), None, "nothing is known of it");
    }

    #[test]
    fn an_instant_that_nobody_watched_is_known_as_such() {
        let mark = |asked: i64, at| mark(asked * 1_000_000, asked * 1_000_000 + 5, at);
        let marks = [mark(10, 100), mark(11, 200), mark(40, 200), mark(41, 300), mark(90, 400)];
        let unwatched = |to| window(&marks, Time::from_secs(to)).expect("known").unwatched_from;
        assert_eq!(unwatched(11), None);
        assert_eq!(unwatched(20), None, "nothing was committed meanwhile");
        assert_eq!(unwatched(60), Some(marks[3].answered));
        assert_eq!(unwatched(90), None, "it was asked just then");
    }

    /// The clock was set back by 15: the earlier of the two states that it names is meant.
    #[test]
    fn an_instant_that_came_twice_means_its_first_time() {
        let marks = [mark(10, 11, 100), mark(20, 21, 200), mark(6, 7, 300), mark(16, 17, 400)];
        let found = window(&marks, Time::from_micros(16)).expect("known");
        assert_eq!((found.from.map(|from| from.at), found.to.at), (Some(100), 200));
    }

    #[test]
    fn marks_at_one_place_are_two_and_all_are_bounded() {
        let mut marks = Vec::new();
        for at in 0..100 {
            add(&mut marks, mark(at, at, 5));
        }
        assert_eq!(marks, [mark(0, 0, 5), mark(99, 99, 5)]);
        for at in 100..5000 {
            add(&mut marks, mark(at, at, u64::try_from(at).expect("positive")));
        }
        assert!(marks.len() <= MARKS_MAX && marks.last() == Some(&mark(4999, 4999, 4999)));
        assert!(marks.windows(2).all(|pair| pair[0].asked < pair[1].asked));
    }
}
