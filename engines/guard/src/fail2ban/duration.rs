//! Times as fail2ban writes them: `1h 30m`, `1d12h`, `-1`, `60*60`: units become factors, spaces become `+`, and what comes
//! out is arithmetic.

use std::sync::LazyLock;

use fancy_regex::Regex;

use super::options::short;

/// Longest text.
const TEXT_MAX: usize = 200;
/// How deep brackets may be nested.
const DEPTH_MAX: u32 = 20;
/// Most seconds, either way: more than 30,000 years. What is more is taken for this.
const SECONDS_MAX: f64 = 1e12;

static LETTER_DIGIT: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"(?i)(?<=[a-z])(\d)").ok());
static UNITS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    [
        ("days?|da|dd?", "*86400"),
        ("weeks?|wee?|ww?", "*604800"),
        ("months?|mon?", "*2629800.0"),
        ("years?|yea?|yy?", "*31557600.0"),
        ("seconds?|sec?|ss?", "*1"),
        ("minutes?|min?|mm?", "*60"),
        ("hours?|hou?|hh?", "*3600"),
    ]
    .into_iter()
    .filter_map(|(unit, factor)| Some((Regex::new(&format!(r"(?i)(?<=[\d\s])({unit})\b")).ok()?, factor)))
    .collect()
});
static DIGIT_DIGIT: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"(\d)\s+(\d)").ok());

/// Seconds of a text; the error says what is wrong with it.
pub(crate) fn seconds(text: &str) -> Result<i64, String> {
    let wrong = || format!("`{}` is no time: write it as `600`, `10m`, `1h 30m` or `-1`", short(text));
    if text.len() > TEXT_MAX {
        return Err(wrong());
    }
    let mut worked = text.to_owned();
    if let Some(pattern) = LETTER_DIGIT.as_ref() {
        worked = pattern.replace_all(&worked, " $1").into_owned();
    }
    for (unit, factor) in UNITS.iter() {
        worked = unit.replace_all(&worked, *factor).into_owned();
    }
    if let Some(pattern) = DIGIT_DIGIT.as_ref() {
        worked = pattern.replace_all(&worked, "$1+$2").into_owned();
    }
    let mut arithmetic = Arithmetic { rest: &worked, depth: 0 };
    arithmetic.skip_lines().ok_or_else(wrong)?;
    let value = arithmetic.sum().filter(|value| !value.is_nan()).ok_or_else(wrong)?;
    arithmetic.skip_lines().ok_or_else(wrong)?;
    if !arithmetic.rest.is_empty() {
        return Err(wrong());
    }
    #[expect(clippy::cast_possible_truncation, reason = "bounded; fail2ban cuts fractions off")]
    Ok(value.clamp(-SECONDS_MAX, SECONDS_MAX) as i64)
}

/// What is left of an expression: `+ - * / // %`, brackets and numbers.
struct Arithmetic<'a> {
    rest: &'a str,
    depth: u32,
}

impl Arithmetic<'_> {
    /// Passes over white space and comments: to the end of the line, but in brackets, as Python does.
    fn skip(&mut self) {
        let is_over = |c: char| !c.is_whitespace() || (self.depth == 0 && c == '\n');
        loop {
            self.rest = self.rest.trim_start_matches(|c| !is_over(c));
            let Some(comment) = self.rest.strip_prefix('#') else { return };
            self.rest = &comment[comment.find('\n').unwrap_or(comment.len())..];
        }
    }

    /// Passes over lines that are empty or comments; nothing where one is indented that is neither, which is a mistake of Python.
    fn skip_lines(&mut self) -> Option<()> {
        self.skip();
        while let Some(rest) = self.rest.strip_prefix('\n') {
            let line = rest.trim_start_matches([' ', '\t']);
            if line.len() < rest.len() && !line.starts_with(['\n', '#']) {
                return None;
            }
            self.rest = rest;
            self.skip();
        }
        Some(())
    }

    fn take(&mut self, sign: &str) -> bool {
        self.skip();
        let rest = self.rest.strip_prefix(sign);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn sum(&mut self) -> Option<f64> {
        let mut value = self.product()?;
        loop {
            if self.take("+") {
                value += self.product()?;
            } else if self.take("-") {
                value -= self.product()?;
            } else {
                return Some(value);
            }
        }
    }

    fn product(&mut self) -> Option<f64> {
        let mut value = self.signed()?;
        loop {
            self.skip();
            if self.rest.starts_with("**") {
                return None;
            }
            if self.take("//") {
                value = (value / self.divisor()?).floor();
            } else if self.take("*") {
                value *= self.signed()?;
            } else if self.take("/") {
                value /= self.divisor()?;
            } else if self.take("%") {
                let by = self.divisor()?;
                value -= (value / by).floor() * by;
            } else {
                return Some(value);
            }
        }
    }

    fn divisor(&mut self) -> Option<f64> {
        self.signed().filter(|&by| by != 0.0)
    }

    fn signed(&mut self) -> Option<f64> {
        let mut negative = false;
        loop {
            if self.take("-") {
                negative = !negative;
            } else if !self.take("+") {
                break;
            }
        }
        let value = self.number()?;
        Some(if negative { -value } else { value })
    }

    fn number(&mut self) -> Option<f64> {
        if self.take("(") {
            self.depth += 1;
            let value = (self.depth <= DEPTH_MAX).then(|| self.sum()).flatten()?;
            let is_closed = self.take(")");
            self.depth -= 1;
            return is_closed.then_some(value);
        }
        let end = self.rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(self.rest.len());
        let (number, rest) = self.rest.split_at(end);
        // Python takes `010` for a mistake, not for ten or eight.
        if number.len() > 1
            && number.starts_with('0')
            && number.bytes().all(|b| b.is_ascii_digit())
            && number.bytes().any(|b| b != b'0')
        {
            return None;
        }
        self.rest = rest;
        number.parse().ok()
    }
}
