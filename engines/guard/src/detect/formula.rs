//! The arithmetic of `bantime.formula` and `bantime.factor`: what fail2ban evaluates as Python, read as a small language.
//!
//! Numbers are Python's: whole numbers that become fractions where `/`, `math` or a fraction is involved. There are `+ - * / // %
//! ** << >>`, comparisons (chained as well), `and`, `or`, `not`, `a if c else b`, `int float round abs min max`, a few functions of
//! `math`, and the names `ban.Time`, `ban.Count` and `banFactor`. Everything else is refused when the configuration is read. A whole
//! number beyond 128 bits and a root of a negative number (a complex one), which Python would go on with, are errors of the
//! evaluation; so is what Python raises on.

use std::cmp::Ordering;

/// Longest formula, in bytes.
const LENGTH_MAX: usize = 1024;
/// Deepest nesting.
const DEPTH_MAX: u32 = 64;

/// A formula, read.
#[derive(Clone, PartialEq, Debug)]
pub struct Formula(Expr);

/// Why a formula can't be used.
#[derive(Clone, PartialEq, Eq, thiserror::Error, Debug)]
pub enum FormulaError {
    /// It is too long, or nested too deeply.
    #[error("the formula is longer than {LENGTH_MAX} bytes or nested deeper than {DEPTH_MAX}")]
    TooLarge,
    /// Something that is not of the language.
    #[error(
        "`{found}` at character {at} is not understood: a formula has numbers, ban.Time, ban.Count, banFactor, + - * / // % ** << \
         >>, comparisons, and, or, not, `a if c else b`, int, float, round, abs, min, max and math.exp, log, log2, log10, sqrt, pow, \
         floor, ceil, pi, e"
    )]
    NotUnderstood {
        /// What stands there.
        found: String,
        /// From 1.
        at: usize,
    },
    /// The evaluation has no result.
    #[error("the formula has no result for this ban: {0}")]
    NoResult(&'static str),
}

/// A number of Python.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Number {
    Whole(i128),
    Fraction(f64),
}

/// What a formula is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names {
    pub(super) time: Number,
    pub(super) count: i128,
    pub(super) factor: Number,
}

#[derive(Clone, PartialEq, Debug)]
enum Expr {
    Number(Number),
    BanTime,
    BanCount,
    BanFactor,
    Unary(Unary, Box<Expr>),
    Binary(Binary, Box<Expr>, Box<Expr>),
    Compare(Box<Expr>, Vec<(Comparison, Expr)>),
    Both(Box<Expr>, Box<Expr>),
    Either(Box<Expr>, Box<Expr>),
    Conditional { then: Box<Expr>, condition: Box<Expr>, otherwise: Box<Expr> },
    Call(Function, Vec<Expr>),
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Unary {
    Minus,
    Plus,
    Not,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Binary {
    Add,
    Subtract,
    Multiply,
    Divide,
    DivideWhole,
    Remainder,
    Power,
    Left,
    Right,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
    NotEqual,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Function {
    Int,
    Float,
    Round,
    Abs,
    Min,
    Max,
    Exp,
    Log,
    Log2,
    Log10,
    Sqrt,
    Pow,
    Floor,
    Ceil,
}

const FUNCTIONS: [(&str, Function); 14] = [
    ("int", Function::Int),
    ("float", Function::Float),
    ("round", Function::Round),
    ("abs", Function::Abs),
    ("min", Function::Min),
    ("max", Function::Max),
    ("math.exp", Function::Exp),
    ("math.log", Function::Log),
    ("math.log2", Function::Log2),
    ("math.log10", Function::Log10),
    ("math.sqrt", Function::Sqrt),
    ("math.pow", Function::Pow),
    ("math.floor", Function::Floor),
    ("math.ceil", Function::Ceil),
];

impl Formula {
    /// Reads a formula.
    pub fn parse(text: &str) -> Result<Self, FormulaError> {
        if text.len() > LENGTH_MAX {
            return Err(FormulaError::TooLarge);
        }
        let mut parser = Parser { text, at: 0, depth: 0 };
        let expr = parser.conditional()?;
        parser.skip_space();
        if parser.at < text.len() { Err(parser.not_understood()) } else { Ok(Self(expr)) }
    }

    pub(super) fn evaluate(&self, names: &Names) -> Result<Number, FormulaError> {
        self.0.evaluate(names)
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: u32,
}

/// Binary operators that associate to the left, from the loosest binding; longer spellings before shorter.
const LEVELS: [&[(&str, Binary)]; 3] = [
    &[("<<", Binary::Left), (">>", Binary::Right)],
    &[("+", Binary::Add), ("-", Binary::Subtract)],
    &[("//", Binary::DivideWhole), ("*", Binary::Multiply), ("/", Binary::Divide), ("%", Binary::Remainder)],
];

const COMPARISONS: [(&str, Comparison); 6] = [
    ("<=", Comparison::LessOrEqual),
    (">=", Comparison::GreaterOrEqual),
    ("==", Comparison::Equal),
    ("!=", Comparison::NotEqual),
    ("<", Comparison::Less),
    (">", Comparison::Greater),
];

impl Parser<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn skip_space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn not_understood(&self) -> FormulaError {
        let found = if self.rest().is_empty() { "the end".to_owned() } else { self.rest().chars().take(12).collect() };
        FormulaError::NotUnderstood { found, at: self.text[..self.at].chars().count() + 1 }
    }

    /// Takes the operator, if it is next. `*` is not the first half of `**`, and `<` not that of `<<`.
    fn operator(&mut self, operator: &str) -> bool {
        self.skip_space();
        let Some(after) = self.rest().strip_prefix(operator) else { return false };
        let doubled = matches!(operator, "*" | "<" | ">" | "/") && after.starts_with(operator);
        if !doubled {
            self.at += operator.len();
        }
        !doubled
    }

    fn word(&mut self, word: &str) -> bool {
        self.skip_space();
        let Some(after) = self.rest().strip_prefix(word) else { return false };
        let ends = !after.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '.');
        if ends {
            self.at += word.len();
        }
        ends
    }

    fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, FormulaError>) -> Result<T, FormulaError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(FormulaError::TooLarge);
        }
        let result = read(self);
        self.depth -= 1;
        result
    }

    fn conditional(&mut self) -> Result<Expr, FormulaError> {
        self.nested(|parser| {
            let then = parser.either()?;
            if !parser.word("if") {
                return Ok(then);
            }
            let condition = parser.either()?;
            if !parser.word("else") {
                return Err(parser.not_understood());
            }
            let otherwise = parser.conditional()?;
            let (then, condition, otherwise) = (Box::new(then), Box::new(condition), Box::new(otherwise));
            Ok(Expr::Conditional { then, condition, otherwise })
        })
    }

    fn either(&mut self) -> Result<Expr, FormulaError> {
        let mut left = self.both()?;
        while self.word("or") {
            left = Expr::Either(Box::new(left), Box::new(self.both()?));
        }
        Ok(left)
    }

    fn both(&mut self) -> Result<Expr, FormulaError> {
        let mut left = self.negation()?;
        while self.word("and") {
            left = Expr::Both(Box::new(left), Box::new(self.negation()?));
        }
        Ok(left)
    }

    fn negation(&mut self) -> Result<Expr, FormulaError> {
        if self.word("not") {
            return self.nested(|parser| Ok(Expr::Unary(Unary::Not, Box::new(parser.negation()?))));
        }
        let first = self.binary(0)?;
        let mut rest = Vec::new();
        while let Some((_, comparison)) = COMPARISONS.into_iter().find(|(sign, _)| self.operator(sign)) {
            rest.push((comparison, self.binary(0)?));
        }
        Ok(if rest.is_empty() { first } else { Expr::Compare(Box::new(first), rest) })
    }

    fn binary(&mut self, level: usize) -> Result<Expr, FormulaError> {
        let Some(operators) = LEVELS.get(level) else { return self.signed() };
        let mut left = self.binary(level + 1)?;
        while let Some((_, operator)) = operators.iter().find(|(sign, _)| self.operator(sign)) {
            left = Expr::Binary(*operator, Box::new(left), Box::new(self.binary(level + 1)?));
        }
        Ok(left)
    }

    fn signed(&mut self) -> Result<Expr, FormulaError> {
        let sign = [("-", Unary::Minus), ("+", Unary::Plus)].into_iter().find(|(sign, _)| self.operator(sign));
        match sign {
            Some((_, sign)) => self.nested(|parser| Ok(Expr::Unary(sign, Box::new(parser.signed()?)))),
            None => self.power(),
        }
    }

    fn power(&mut self) -> Result<Expr, FormulaError> {
        let base = self.atom()?;
        if !self.operator("**") {
            return Ok(base);
        }
        let exponent = self.nested(Self::signed)?;
        Ok(Expr::Binary(Binary::Power, Box::new(base), Box::new(exponent)))
    }

    fn atom(&mut self) -> Result<Expr, FormulaError> {
        if self.operator("(") {
            let inner = self.conditional()?;
            return if self.operator(")") { Ok(inner) } else { Err(self.not_understood()) };
        }
        self.skip_space();
        if self.rest().starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            return self.number();
        }
        let length = self.rest().find(|c: char| !(c.is_ascii_alphanumeric() || c == '.' || c == '_'));
        let name = self.rest()[..length.unwrap_or(self.rest().len())].to_owned();
        let named = match name.as_str() {
            "ban.Time" => Some(Expr::BanTime),
            "ban.Count" => Some(Expr::BanCount),
            "banFactor" => Some(Expr::BanFactor),
            "math.pi" => Some(Expr::Number(Number::Fraction(std::f64::consts::PI))),
            "math.e" => Some(Expr::Number(Number::Fraction(std::f64::consts::E))),
            _ => None,
        };
        if let Some(expr) = named {
            self.at += name.len();
            return Ok(expr);
        }
        let Some((_, function)) = FUNCTIONS.into_iter().find(|(known, _)| *known == name) else {
            return Err(self.not_understood());
        };
        let start = self.at;
        self.at += name.len();
        if !self.operator("(") {
            return Err(self.not_understood());
        }
        let mut arguments = vec![self.conditional()?];
        while self.operator(",") {
            arguments.push(self.conditional()?);
        }
        if !self.operator(")") {
            return Err(self.not_understood());
        }
        let fits = match function {
            Function::Min | Function::Max => arguments.len() >= 2,
            Function::Pow => arguments.len() == 2,
            Function::Log => arguments.len() <= 2,
            _ => arguments.len() == 1,
        };
        if !fits {
            self.at = start;
            return Err(self.not_understood());
        }
        Ok(Expr::Call(function, arguments))
    }

    fn number(&mut self) -> Result<Expr, FormulaError> {
        let bytes = self.rest().as_bytes();
        let digits = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let mut end = digits(0);
        let mut is_whole = true;
        if bytes.get(end) == Some(&b'.') {
            is_whole = false;
            end += 1;
            end += digits(end);
        }
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(end + 1), Some(b'-' | b'+')));
            let exponent = digits(end + 1 + sign);
            if exponent > 0 {
                is_whole = false;
                end += 1 + sign + exponent;
            }
        }
        let text = &self.rest()[..end];
        let continues = self.rest()[end..].starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '.');
        // Python refuses a whole number with a leading zero.
        let is_octal = is_whole && text.len() > 1 && text.starts_with('0') && text.bytes().any(|digit| digit != b'0');
        let number = if continues || is_octal {
            None
        } else if is_whole {
            text.parse().ok().map(Number::Whole)
        } else {
            text.parse().ok().map(Number::Fraction)
        };
        let number = number.ok_or_else(|| self.not_understood())?;
        self.at += end;
        Ok(Expr::Number(number))
    }
}

pub(super) const TOO_LARGE: FormulaError = FormulaError::NoResult("a number is too large");
const BY_ZERO: FormulaError = FormulaError::NoResult("a division by zero");
const NOT_WHOLE: FormulaError = FormulaError::NoResult("a shift of what is no whole number");
pub(super) const COMPLEX: FormulaError = FormulaError::NoResult("a root of a negative number");
const OUTSIDE: FormulaError = FormulaError::NoResult("a function was asked outside of where it is defined");

impl Number {
    #[expect(clippy::cast_precision_loss, reason = "rounded to nearest, as Python's float()")]
    pub(super) fn float(self) -> f64 {
        match self {
            Self::Whole(whole) => whole as f64,
            Self::Fraction(fraction) => fraction,
        }
    }

    fn is_true(self) -> bool {
        match self {
            Self::Whole(whole) => whole != 0,
            Self::Fraction(fraction) => fraction != 0.0,
        }
    }

    /// A fraction that is a number; Python's operators raise where these overflow, or its `inf` has no use here.
    fn fraction(fraction: f64) -> Result<Self, FormulaError> {
        if fraction.is_finite() { Ok(Self::Fraction(fraction)) } else { Err(TOO_LARGE) }
    }

    #[expect(clippy::cast_possible_truncation, reason = "within the bounds")]
    fn truncated(fraction: f64) -> Result<Self, FormulaError> {
        if fraction.abs() < 1e38 { Ok(Self::Whole(fraction as i128)) } else { Err(TOO_LARGE) }
    }

    /// Exact where both are whole; else as fractions, which differs from Python only beyond 2^53.
    pub(super) fn compare(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => a.cmp(&b),
            (a, b) => a.float().partial_cmp(&b.float()).unwrap_or(Ordering::Equal),
        }
    }

    pub(super) fn times(self, other: Self) -> Result<Self, FormulaError> {
        Binary::Multiply.of(self, other)
    }
}

impl Binary {
    fn of(self, left: Number, right: Number) -> Result<Number, FormulaError> {
        if let (Number::Whole(a), Number::Whole(b)) = (left, right) {
            return self.of_whole(a, b);
        }
        let (a, b) = (left.float(), right.float());
        if b == 0.0 && matches!(self, Self::Divide | Self::DivideWhole | Self::Remainder) {
            return Err(BY_ZERO);
        }
        match self {
            Self::Add => Number::fraction(a + b),
            Self::Subtract => Number::fraction(a - b),
            Self::Multiply => Number::fraction(a * b),
            Self::Divide => Number::fraction(a / b),
            Self::DivideWhole => Number::fraction(floor_quotient(a, b)),
            Self::Remainder => Number::fraction(floor_remainder(a, b)),
            Self::Power if a == 0.0 && b < 0.0 => Err(BY_ZERO),
            Self::Power if a < 0.0 && b.fract() != 0.0 => Err(COMPLEX),
            Self::Power => Number::fraction(a.powf(b)),
            Self::Left | Self::Right => Err(NOT_WHOLE),
        }
    }

    fn of_whole(self, a: i128, b: i128) -> Result<Number, FormulaError> {
        if b == 0 && matches!(self, Self::Divide | Self::DivideWhole | Self::Remainder) {
            return Err(BY_ZERO);
        }
        let whole = match self {
            Self::Add => a.checked_add(b),
            Self::Subtract => a.checked_sub(b),
            Self::Multiply => a.checked_mul(b),
            Self::Divide => return Number::fraction(Number::Whole(a).float() / Number::Whole(b).float()),
            Self::DivideWhole => {
                a.checked_div(b).map(|quotient| quotient - i128::from(a % b != 0 && (a < 0) != (b < 0)))
            }
            Self::Remainder => {
                a.checked_rem(b).map(|rest| if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest })
            }
            Self::Power if b < 0 => {
                return Self::Power.of(Number::Fraction(Number::Whole(a).float()), Number::Whole(b));
            }
            Self::Power => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)),
            Self::Left | Self::Right if b < 0 => return Err(FormulaError::NoResult("a shift by less than nothing")),
            Self::Left => u32::try_from(b).ok().and_then(|b| 2_i128.checked_pow(b)).and_then(|by| a.checked_mul(by)),
            Self::Right => Some(a >> b.min(127)),
        };
        // What 128 bits don't hold, Python does; zero shifted by anything is still zero.
        match whole {
            Some(whole) => Ok(Number::Whole(whole)),
            None if a == 0 => Ok(Number::Whole(0)),
            None => Err(TOO_LARGE),
        }
    }
}

/// Python's `a % b`: of the sign of `b`.
fn floor_remainder(a: f64, b: f64) -> f64 {
    let rest = a % b;
    if rest == 0.0 {
        return 0.0_f64.copysign(b);
    }
    if (b < 0.0) == (rest < 0.0) { rest } else { rest + b }
}

/// Python's `a // b`, from the exact remainder.
fn floor_quotient(a: f64, b: f64) -> f64 {
    let rest = a % b;
    let mut quotient = (a - rest) / b;
    if rest != 0.0 && (b < 0.0) != (rest < 0.0) {
        quotient -= 1.0;
    }
    let floor = quotient.floor();
    if quotient - floor > 0.5 { floor + 1.0 } else { floor }
}

impl Expr {
    fn evaluate(&self, names: &Names) -> Result<Number, FormulaError> {
        Ok(match self {
            Self::Number(number) => *number,
            Self::BanTime => names.time,
            Self::BanCount => Number::Whole(names.count),
            Self::BanFactor => names.factor,
            Self::Unary(unary, of) => match (unary, of.evaluate(names)?) {
                (Unary::Minus, Number::Whole(whole)) => Number::Whole(whole.checked_neg().ok_or(TOO_LARGE)?),
                (Unary::Minus, Number::Fraction(fraction)) => Number::Fraction(-fraction),
                (Unary::Plus, number) => number,
                (Unary::Not, number) => Number::Whole(i128::from(!number.is_true())),
            },
            Self::Binary(operator, left, right) => operator.of(left.evaluate(names)?, right.evaluate(names)?)?,
            Self::Compare(first, rest) => {
                let mut left = first.evaluate(names)?;
                for (comparison, right) in rest {
                    let right = right.evaluate(names)?;
                    let order = left.compare(right);
                    let holds = match comparison {
                        Comparison::Less => order.is_lt(),
                        Comparison::LessOrEqual => order.is_le(),
                        Comparison::Greater => order.is_gt(),
                        Comparison::GreaterOrEqual => order.is_ge(),
                        Comparison::Equal => order.is_eq(),
                        Comparison::NotEqual => order.is_ne(),
                    };
                    if !holds {
                        return Ok(Number::Whole(0));
                    }
                    left = right;
                }
                Number::Whole(1)
            }
            Self::Both(left, right) => match left.evaluate(names)? {
                left if left.is_true() => right.evaluate(names)?,
                left => left,
            },
            Self::Either(left, right) => match left.evaluate(names)? {
                left if left.is_true() => left,
                _ => right.evaluate(names)?,
            },
            Self::Conditional { then, condition, otherwise } => {
                if condition.evaluate(names)?.is_true() {
                    then.evaluate(names)?
                } else {
                    otherwise.evaluate(names)?
                }
            }
            Self::Call(function, arguments) => {
                let arguments: Vec<Number> = arguments.iter().map(|of| of.evaluate(names)).collect::<Result<_, _>>()?;
                function.of(&arguments)?
            }
        })
    }
}

impl Function {
    fn of(self, arguments: &[Number]) -> Result<Number, FormulaError> {
        let [first, rest @ ..] = arguments else { return Err(OUTSIDE) };
        let float = first.float();
        match (self, first) {
            (Self::Int | Self::Round | Self::Floor | Self::Ceil, Number::Whole(_)) => Ok(*first),
            (Self::Int, _) => Number::truncated(float.trunc()),
            (Self::Round, _) => Number::truncated(float.round_ties_even()),
            (Self::Floor, _) => Number::truncated(float.floor()),
            (Self::Ceil, _) => Number::truncated(float.ceil()),
            (Self::Float, _) => Ok(Number::Fraction(float)),
            (Self::Abs, Number::Whole(whole)) => whole.checked_abs().map(Number::Whole).ok_or(TOO_LARGE),
            (Self::Abs, _) => Ok(Number::Fraction(float.abs())),
            (Self::Min, _) => {
                Ok(rest.iter().fold(*first, |least, of| if of.compare(least).is_lt() { *of } else { least }))
            }
            (Self::Max, _) => {
                Ok(rest.iter().fold(*first, |most, of| if of.compare(most).is_gt() { *of } else { most }))
            }
            (Self::Exp, _) => Number::fraction(float.exp()),
            (Self::Sqrt, _) if float < 0.0 => Err(OUTSIDE),
            (Self::Sqrt, _) => Ok(Number::Fraction(float.sqrt())),
            (Self::Log | Self::Log2 | Self::Log10, _) if float <= 0.0 => Err(OUTSIDE),
            (Self::Log2, _) => Ok(Number::Fraction(float.log2())),
            (Self::Log10, _) => Ok(Number::Fraction(float.log10())),
            (Self::Log, _) => match rest.first().map(|base| base.float()) {
                None => Ok(Number::Fraction(float.ln())),
                Some(base) if base <= 0.0 => Err(OUTSIDE),
                Some(1.0) => Err(BY_ZERO),
                Some(base) => Number::fraction(float.ln() / base.ln()),
            },
            (Self::Pow, _) => {
                let power = rest.first().map_or(1.0, |power| power.float());
                if (float == 0.0 && power < 0.0) || (float < 0.0 && power.fract() != 0.0) {
                    return Err(OUTSIDE);
                }
                Number::fraction(float.powf(power))
            }
        }
    }
}
