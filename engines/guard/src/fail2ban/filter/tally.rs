//! What is counted of lines besides failures, for those who test a filter.

/// A line that patterns of several lines see.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Buffered {
    /// The line without its date.
    pub text: String,
    /// The date, as it was written there or in the line before.
    pub(super) date: String,
    /// Where it stood, in bytes.
    pub(super) date_at: usize,
    /// Whether there is a text in it without which no pattern matches.
    pub(super) is_possible: bool,
}

impl Buffered {
    /// A line without a date.
    pub(super) fn of(text: String) -> Self {
        Self { text, date: String::new(), date_at: 0, is_possible: true }
    }

    /// The line with its date.
    pub fn line(&self) -> String {
        let (before, after) = self.text.split_at_checked(self.date_at).unwrap_or(("", &self.text));
        [before, &self.date, after].concat()
    }
}

/// What is counted besides failures; see [`Filter::keep_tally`](super::Filter::keep_tally).
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Tally {
    /// How often each `ignoreregex` matched, in their order.
    pub ignoreregex: Vec<u64>,
    /// Whether one of them matched in the last line.
    pub is_ignored: bool,
    /// Whether the `prefregex` matched when it was last searched.
    pub is_prefixed: bool,
}

impl Tally {
    pub(super) fn note_ignored(&mut self, index: usize) {
        self.is_ignored = true;
        if let Some(count) = self.ignoreregex.get_mut(index) {
            *count += 1;
        }
    }
}
