//! A serde format of long lists, for `#[serde(with = "deltas")]`: a flat list of integers, each the difference from the one in the
//! same place of the row before.
//!
//! A year of a state is some hundred thousand steps, and the fold is saved every few minutes: names of fields and times since
//! 1970 would be four fifths of what is written.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

/// An element of such a list: `N` integers.
pub(crate) trait DeltaRow<const N: usize>: Sized {
    fn numbers(&self) -> [i64; N];
    /// The element with these [`numbers`](Self::numbers); `None` when none has them.
    fn of(numbers: [i64; N]) -> Option<Self>;
}

pub(crate) fn serialize<const N: usize, T: DeltaRow<N>, S: Serializer>(rows: &[T], to: S) -> Result<S::Ok, S::Error> {
    let mut before = [0; N];
    to.collect_seq(rows.iter().flat_map(|row| {
        let row = row.numbers();
        let last = std::mem::replace(&mut before, row);
        std::array::from_fn::<i64, N, _>(|place| row[place].wrapping_sub(last[place]))
    }))
}

pub(crate) fn deserialize<'de, const N: usize, T, D, C>(from: D) -> Result<C, D::Error>
where
    T: DeltaRow<N>,
    D: Deserializer<'de>,
    C: IntoIterator<Item = T> + FromIterator<T>,
{
    let numbers = Vec::<i64>::deserialize(from)?;
    let (rows, rest) = numbers.as_chunks::<N>();
    if !rest.is_empty() {
        return Err(D::Error::custom("the last row is not whole"));
    }
    let mut row = [0_i64; N];
    let read = |difference: &[i64; N]| {
        row = std::array::from_fn(|place| row[place].wrapping_add(difference[place]));
        T::of(row).ok_or_else(|| D::Error::custom(format!("{row:?} is no row")))
    };
    rows.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct Pair(i64, i64);

    impl DeltaRow<2> for Pair {
        fn numbers(&self) -> [i64; 2] {
            [self.0, self.1]
        }

        fn of([one, other]: [i64; 2]) -> Option<Self> {
            (one != 13).then_some(Self(one, other))
        }
    }

    #[derive(serde::Serialize, serde::Deserialize)]
    struct Saved(#[serde(with = "super")] Vec<Pair>);

    #[test]
    fn rows_are_read_as_they_were_written() {
        for rows in [
            vec![],
            vec![Pair(7, -7)],
            vec![Pair(i64::MIN, i64::MAX), Pair(i64::MAX, i64::MIN), Pair(0, -1), Pair(1_700_000_000_000_000, 5)],
        ] {
            let text = serde_json::to_string(&Saved(rows.clone())).expect("JSON");
            assert_eq!(serde_json::from_str::<Saved>(&text).expect("reads what it wrote").0, rows, "{text}");
        }
        assert_eq!(serde_json::to_string(&Saved(vec![Pair(1000, 5), Pair(1001, 4)])).expect("JSON"), "[1000,5,1,-1]");
    }

    #[test]
    fn what_is_not_rows_is_refused() {
        for text in ["[1,2,3]", "[1,2,12,0]", "[1.5,2]", "{}"] {
            assert!(serde_json::from_str::<Saved>(text).is_err(), "{text}");
        }
    }
}
