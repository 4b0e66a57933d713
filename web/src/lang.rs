//! French and English (promise BX-5).
//!
//! Two languages, chosen by two people who read both, need no catalogue and no translation engine: every sentence is here in
//! both, and the compiler refuses one that is missing in either. Sentences with figures are functions, since the two
//! languages differ in more than words: French writes a comma in a decimal number, and a narrow space that may not break
//! before `; ! ? %`.

mod figures;
mod sentences;
mod times;
mod words;

pub use figures::Precision;
pub use times::Times;
pub(crate) use words::Words;

/// A language of the pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Language {
    /// Français.
    French,
    /// English.
    English,
}

/// A narrow space at which a line may not break (U+202F): before `; ! ? %` in French, before units in both.
pub(crate) const NARROW: char = '\u{202f}';

impl Language {
    /// Both, in the order in which a bilingual text shows them.
    pub const ALL: [Self; 2] = [Self::French, Self::English];

    /// The tag for `lang` and `hreflang` (BCP 47).
    pub const fn code(self) -> &'static str {
        match self {
            Self::French => "fr",
            Self::English => "en",
        }
    }

    /// The fixed sentences of this language.
    pub(crate) const fn words(self) -> &'static Words {
        match self {
            Self::French => &words::FRENCH,
            Self::English => &words::ENGLISH,
        }
    }

    /// The text of `text` in this language.
    pub(crate) fn of(self, text: &event::policy::Text) -> &str {
        match self {
            Self::French => &text.fr,
            Self::English => &text.en,
        }
    }

    /// The language that the reader prefers, from `Accept-Language` (RFC 9110, section 12.5.4). English when the header
    /// names neither or can't be read: no header is a reason to refuse a page.
    pub fn preferred(accept_language: Option<&str>) -> Self {
        // A header has a few ranges; more are not read.
        const RANGES_MAX: usize = 32;
        let (mut french, mut english, mut any) = (None, None, 0);
        for range in accept_language.unwrap_or("").split(',').take(RANGES_MAX) {
            let (tag, weight) = range.split_once(';').unwrap_or((range, ""));
            let weight = weight_in_thousandths(weight);
            let tag = tag.trim().to_ascii_lowercase();
            match tag.split('-').next() {
                Some("fr") => french = french.max(Some(weight)),
                Some("en") => english = english.max(Some(weight)),
                Some("*") => any = weight,
                _ => {}
            }
        }
        if french.unwrap_or(any) > english.unwrap_or(any) { Self::French } else { Self::English }
    }
}

/// A quality in thousandths: `q=0.8` is 800. What can't be read weighs nothing.
fn weight_in_thousandths(parameter: &str) -> u32 {
    let Some((_, value)) = parameter.split_once('=') else { return 1000 };
    let (whole, decimals) = value.trim().split_once('.').unwrap_or((value.trim(), ""));
    let readable = matches!(whole, "0" | "1") && decimals.len() <= 3 && decimals.bytes().all(|b| b.is_ascii_digit());
    if !readable {
        return 0;
    }
    format!("{whole}{decimals:0<3}").parse().unwrap_or(0).min(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reader_chooses() {
        for (header, expected) in [
            ("", Language::English),
            ("fr", Language::French),
            ("fr-CA, en;q=0.8", Language::French),
            ("en-GB,en;q=0.9,fr;q=0.8", Language::English),
            ("de, fr;q=0.5, en;q=0.4", Language::French),
            ("de, *;q=0.5", Language::English),
            ("*, en;q=0", Language::French),
            ("fr;q=0, en;q=0", Language::English),
            ("FR;q=1.000", Language::French),
            ("fr;q=nonsense", Language::English),
            ("fr;q=7", Language::English),
            (";;;,,,=,q=1;fr", Language::English),
        ] {
            assert_eq!(Language::preferred(Some(header)), expected, "{header}");
        }
        assert_eq!(Language::preferred(None), Language::English);
    }
}
