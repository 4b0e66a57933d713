//! How long a ban lasts: `bantime` and `bantime.increment` with all that belongs to it (`server/jail.py`, `server/observer.py`).

use event::Span;

use super::formula::{Formula, FormulaError, Names, Number};

/// Default of `bantime.formula`.
const FORMULA: &str = "ban.Time * (1<<(ban.Count if ban.Count<20 else 20)) * banFactor";
/// Most multipliers.
const MULTIPLIERS_MAX: usize = 256;

/// How long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BanLength {
    /// For ever (`-1`).
    Forever,
    /// For so long; not at all when that is not positive.
    For(Span),
}

/// The values of the jail, as its configuration has them. Times are read already: `1h` is `For(3600 s)`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BanTimesText {
    /// `bantime`.
    pub time: BanLength,
    /// `bantime.increment`.
    pub increment: bool,
    /// `bantime.factor`.
    pub factor: Option<String>,
    /// `bantime.formula`.
    pub formula: Option<String>,
    /// `bantime.multipliers`.
    pub multipliers: Option<String>,
    /// `bantime.maxtime`.
    pub max_time: Option<Span>,
    /// `bantime.rndtime`.
    pub rnd_time: Option<Span>,
    /// `bantime.overalljails`.
    pub overall_jails: bool,
}

impl BanTimesText {
    /// A fixed time.
    pub fn fixed(time: BanLength) -> Self {
        let (factor, formula, multipliers, max_time, rnd_time) = (None, None, None, None, None);
        Self { time, increment: false, factor, formula, multipliers, max_time, rnd_time, overall_jails: false }
    }
}

/// Why the values can't be used.
#[derive(Clone, PartialEq, Eq, thiserror::Error, Debug)]
pub enum BanTimeError {
    /// Of `bantime.formula`.
    #[error("bantime.formula: {0}")]
    Formula(FormulaError),
    /// Of `bantime.factor`.
    #[error("bantime.factor: {0}")]
    Factor(FormulaError),
    /// Of `bantime.multipliers`.
    #[error(
        "bantime.multipliers: `{0}` is no whole number; write them with one space between two, at most {MULTIPLIERS_MAX}"
    )]
    Multipliers(String),
}

/// The rule of one jail.
#[derive(Clone, PartialEq, Debug)]
pub struct BanTimes {
    time: BanLength,
    increment: bool,
    factor: Number,
    formula: Formula,
    multipliers: Vec<i128>,
    max_time: Option<Span>,
    rnd_time: Option<Span>,
    overall_jails: bool,
}

impl BanTimes {
    /// Reads the values of a jail.
    pub fn parse(text: &BanTimesText) -> Result<Self, BanTimeError> {
        let names = Names { time: Number::Whole(0), count: 0, factor: Number::Whole(1) };
        let factor = Formula::parse(text.factor.as_deref().unwrap_or("1"));
        let factor = factor.and_then(|factor| factor.evaluate(&names)).map_err(BanTimeError::Factor)?;
        let formula = Formula::parse(text.formula.as_deref().unwrap_or(FORMULA)).map_err(BanTimeError::Formula)?;
        let multipliers = text.multipliers.as_deref().filter(|text| !text.is_empty());
        let read = |text: &str| text.trim().parse().map_err(|_| BanTimeError::Multipliers(text.to_owned()));
        let multipliers: Vec<i128> = multipliers.map_or(Ok(Vec::new()), |text| text.split(' ').map(read).collect())?;
        if multipliers.len() > MULTIPLIERS_MAX {
            return Err(BanTimeError::Multipliers(format!("{} numbers", multipliers.len())));
        }
        let BanTimesText { time, increment, max_time, rnd_time, overall_jails, .. } = *text;
        Ok(Self { time, increment, factor, formula, multipliers, max_time, rnd_time, overall_jails })
    }

    /// Whether the bans of all jails count (`bantime.overalljails`), and not only those of this one.
    pub const fn counts_all_jails(&self) -> bool {
        self.overall_jails
    }

    /// Whether those who come back are banned for longer.
    pub const fn increments(&self) -> bool {
        self.increment
    }

    /// The longest ban before `rndtime`; `None` when nothing bounds it.
    pub fn longest(&self) -> Option<BanLength> {
        if self.increment { self.max_time.map(BanLength::For) } else { Some(self.time) }
    }

    /// The length of a ban of somebody who was banned `bans` times before, and a random number of [0, 1), in parts per billion.
    ///
    /// An error says that the formula has no result for this count, as where fail2ban would log an exception: the ban has its
    /// plain time then, which [`plain`](Self::plain) gives.
    pub fn length(&self, bans: u64, draw_ppb: u32) -> Result<BanLength, FormulaError> {
        let BanLength::For(plain) = self.time else { return Ok(BanLength::Forever) };
        if !self.increment || bans == 0 || plain.micros() <= 0 {
            return Ok(self.time);
        }
        let draw = f64::from(draw_ppb) / 1e9;
        Ok(length(self.length_s(plain, bans, draw)?))
    }

    /// The length without any increment.
    pub const fn plain(&self) -> BanLength {
        self.time
    }

    /// In seconds, with the operations of fail2ban in their order.
    pub(super) fn length_s(&self, plain: Span, bans: u64, draw: f64) -> Result<f64, FormulaError> {
        let names = Names { time: seconds(plain), count: i128::from(bans), factor: self.factor };
        let mut time = if self.multipliers.is_empty() {
            let time = self.formula.evaluate(&names)?;
            if time.compare(names.time).is_gt() { time } else { names.time }
        } else {
            let last = self.multipliers.len() - 1;
            let multiplier = self.multipliers[usize::try_from(bans).map_or(last, |bans| bans.min(last))];
            names.time.times(self.factor)?.times(Number::Whole(multiplier))?
        };
        if let Some(max_time) = self.max_time.map(seconds)
            && max_time.compare(time).is_lt()
        {
            time = max_time;
        }
        Ok(time.float() + self.rnd_time.map_or(0.0, |rnd_time| draw * seconds(rnd_time).float()))
    }
}

/// A time of the configuration, whole where it is.
fn seconds(span: Span) -> Number {
    if span.micros() % 1_000_000 == 0 {
        Number::Whole(i128::from(span.micros() / 1_000_000))
    } else {
        Number::Fraction(span.micros() as f64 / 1e6)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "`as` saturates, which is as good as for ever")]
#[expect(clippy::float_cmp, reason = "exactly -1 is what fail2ban takes for ever")]
fn length(seconds: f64) -> BanLength {
    if seconds == -1.0 {
        return BanLength::Forever;
    }
    BanLength::For(Span::from_micros((seconds * 1e6).round() as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(edit: impl FnOnce(&mut BanTimesText)) -> Result<BanTimes, BanTimeError> {
        let mut text = BanTimesText::fixed(BanLength::For(Span::from_secs(600)));
        text.increment = true;
        edit(&mut text);
        BanTimes::parse(&text)
    }

    fn lengths(edit: impl FnOnce(&mut BanTimesText)) -> Vec<i64> {
        let rule = rule(edit).expect("a rule");
        let length = |bans| match rule.length(bans, 500_000_000).expect("a length") {
            BanLength::For(span) => span.secs(),
            BanLength::Forever => -1,
        };
        (0..6).map(length).collect()
    }

    #[test]
    fn bans_grow_as_the_configuration_says() {
        assert_eq!(lengths(|_| ()), [600, 1200, 2400, 4800, 9600, 19200]);
        assert_eq!(lengths(|text| text.increment = false), [600; 6]);
        assert_eq!(lengths(|text| text.max_time = Some(Span::from_secs(3000))), [600, 1200, 2400, 3000, 3000, 3000]);
        assert_eq!(lengths(|text| text.rnd_time = Some(Span::from_secs(100))), [600, 1250, 2450, 4850, 9650, 19250]);
        assert_eq!(
            lengths(|text| text.multipliers = Some("1 5 30".to_owned())),
            [600, 3000, 18000, 18000, 18000, 18000]
        );
        assert_eq!(lengths(|text| text.time = BanLength::Forever), [-1; 6]);
        let formula = "ban.Time * math.exp(float(ban.Count+1)*banFactor)/math.exp(1*banFactor)";
        let with = |text: &mut BanTimesText| {
            (text.formula, text.factor) = (Some(formula.to_owned()), Some("2.0 / 2.885385".to_owned()));
        };
        assert_eq!(lengths(with), [600, 1200, 2400, 4800, 9600, 19200]);
    }

    #[test]
    fn what_is_not_arithmetic_is_refused_where_it_stands() {
        let refused = |formula: &str| match Formula::parse(formula) {
            Err(FormulaError::NotUnderstood { found, at }) => format!("{at} {found}"),
            other => panic!("{formula}: {other:?}"),
        };
        assert_eq!(refused("__import__('os').system('id')"), "1 __import__('");
        assert_eq!(refused("ban.Time * ban.IP"), "12 ban.IP");
        assert_eq!(refused("ban.Time *"), "11 the end");
        assert_eq!(refused("(ban.Time"), "10 the end");
        assert_eq!(refused("1 if 2"), "7 the end");
        assert_eq!(refused("min(1)"), "1 min(1)");
        assert_eq!(refused("010"), "1 010");
        assert_eq!(Formula::parse(&"(".repeat(500)), Err(FormulaError::TooLarge));
        assert_eq!(Formula::parse(&"1+".repeat(1000)), Err(FormulaError::TooLarge));
        let error = rule(|text| text.multipliers = Some("1  2".to_owned())).expect_err("two spaces");
        assert!(error.to_string().contains("one space between two"), "{error}");
    }

    #[test]
    fn a_formula_without_a_result_says_so_and_leaves_the_plain_time() {
        let rule = rule(|text| text.formula = Some("ban.Time << 2.0".to_owned())).expect("it reads");
        assert!(matches!(rule.length(1, 0), Err(FormulaError::NoResult(_))));
        assert_eq!(rule.plain(), BanLength::For(Span::from_secs(600)));
    }
}
