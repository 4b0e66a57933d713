//! Figures of engines for `/metrics`, as OpenMetrics text, version 1.0.0
//! (<https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md>), or in the text format of Prometheus,
//! version 0.0.4 (<https://prometheus.io/docs/instrumenting/exposition_formats/>), for what reads nothing newer.
//!
//! The format has rules that a `format!` forgets: a family is written once and in one piece, a counter's samples end in
//! `_total`, a unit is the end of the name, label values have three characters to escape, and the text ends with `# EOF`.
//! Here the types see to them: a [`MetricFamily`] borrows the [`MetricsText`] until it is complete. Figures are integers or decimal
//! fractions of integers; nothing is rounded.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// An engine, or another part of the process, that has figures to show. Figures begin at the start of the process and are
/// no evidence: a verdict never reads them.
pub trait MetricsSource: Send + Sync {
    /// Adds families. Called at each scrape; must neither wait nor fail. Names start with `garant_` and the owner's name.
    fn write(&self, text: &mut MetricsText);
}

/// A figure of an engine on a host, which the server shows. What it is called is fixed; the agent says numbers only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ToldFigure {
    /// Its name, as of [`MetricsText::gauge`].
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// Whether it only goes up, until the agent starts anew.
    pub is_counter: bool,
    /// The label that tells its samples apart; `None` when there is one sample.
    pub label: Option<&'static str>,
}

/// A sample of a [`ToldFigure`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct ToldSample {
    /// The name of the figure.
    pub figure: String,
    /// The value of its label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// The number.
    pub count: u64,
}

/// An engine on a host that has figures. Asked every few seconds; must neither wait nor fail.
pub trait FiguresTold: Send + Sync {
    /// The figures as they stand.
    fn told(&self) -> Vec<ToldSample>;
}

impl MetricsText {
    /// Adds these figures, with the samples that an agent told. A sample without its label, or of no figure, is left out.
    pub fn told(&mut self, figures: &[ToldFigure], samples: &[ToldSample]) {
        for figure in figures {
            let mut shown = BTreeSet::new();
            let ToldFigure { name, about, is_counter, label } = *figure;
            let mut family = if is_counter { self.counter(name, "", about) } else { self.gauge(name, "", about) };
            for ToldSample { of, count, .. } in samples.iter().filter(|sample| sample.figure == name) {
                let of = of.as_deref();
                // Two samples with the same labels would make the whole exposition void.
                if label.is_none() != of.is_none() || !shown.insert(of) {
                    continue;
                }
                let labels = label.zip(of);
                family.sample(labels.as_slice(), *count);
            }
        }
    }
}

/// The format of an exposition.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum MetricsFormat {
    /// OpenMetrics 1.0.0.
    #[default]
    OpenMetrics,
    /// The text format of Prometheus, version 0.0.4.
    Text,
}

impl MetricsFormat {
    /// The content type to serve it with.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// The one that a field `Accept` prefers (RFC 9110, section 12.5.1); OpenMetrics where it makes no difference or can't be
    /// read.
    pub fn preferred(accept: &str) -> Self {
        let weight = |wanted: &str| {
            let ranges = accept.split(',').filter_map(|range| {
                let mut parts = range.split(';').map(str::trim);
                let name = parts.next()?;
                let (kind, _) = wanted.split_once('/')?;
                let closeness = match name {
                    _ if name.eq_ignore_ascii_case(wanted) => 2,
                    _ if name.strip_suffix("/*").is_some_and(|name| name.eq_ignore_ascii_case(kind)) => 1,
                    "*/*" => 0,
                    _ => return None,
                };
                let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
                Some((closeness, thousandths(weight.unwrap_or("1"))?))
            });
            // The range that says most of it counts.
            ranges.max().map_or(0, |(_, weight)| weight)
        };
        if weight("text/plain") > weight("application/openmetrics-text") { Self::Text } else { Self::OpenMetrics }
    }
}

/// A weight of RFC 9110, section 12.4.2: `1`, `0.5`, `0.125`.
fn thousandths(weight: &str) -> Option<u32> {
    let (whole, fraction) = weight.split_once('.').unwrap_or((weight, ""));
    let figure =
        |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<u32>().ok()).flatten();
    let fraction = format!("{fraction:0<3}");
    let thousandths = figure(whole)?.checked_mul(1000)? + figure(fraction.get(..3)?)?;
    (thousandths <= 1000).then_some(thousandths)
}

/// The type of a family (OpenMetrics), which decides how its samples end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum MetricType {
    Gauge,
    Counter,
    Info,
    StateSet,
}

impl MetricType {
    const fn as_str(self, format: MetricsFormat) -> &'static str {
        match (self, format) {
            (Self::Counter, _) => "counter",
            (Self::Info, MetricsFormat::OpenMetrics) => "info",
            (Self::StateSet, MetricsFormat::OpenMetrics) => "stateset",
            (Self::Gauge | Self::Info | Self::StateSet, _) => "gauge",
        }
    }

    const fn suffix(self) -> &'static str {
        match self {
            Self::Counter => "_total",
            Self::Info => "_info",
            Self::Gauge | Self::StateSet => "",
        }
    }
}

/// An exact figure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MetricValue {
    /// A whole number.
    Whole(i64),
    /// A number of millionths: microseconds as seconds.
    Millionths(i64),
    /// A number of thousand-millionths: parts per billion as a ratio.
    Billionths(i64),
}

impl From<u64> for MetricValue {
    /// A count, cut at 2⁶³ − 1.
    fn from(count: u64) -> Self {
        Self::Whole(i64::try_from(count).unwrap_or(i64::MAX))
    }
}

impl From<bool> for MetricValue {
    fn from(yes: bool) -> Self {
        Self::Whole(i64::from(yes))
    }
}

impl std::fmt::Display for MetricValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (figure, decimals) = match *self {
            Self::Whole(figure) => return write!(f, "{figure}"),
            Self::Millionths(figure) => (figure, 6),
            Self::Billionths(figure) => (figure, 9),
        };
        let sign = if figure < 0 { "-" } else { "" };
        let one = 10_u64.pow(decimals);
        let (whole, fraction) = (figure.unsigned_abs() / one, figure.unsigned_abs() % one);
        let fraction = format!("{fraction:0width$}", width = decimals as usize);
        let fraction = fraction.trim_end_matches('0');
        let dot = if fraction.is_empty() { "" } else { "." };
        write!(f, "{sign}{whole}{dot}{fraction}")
    }
}

/// The text of an exposition, built family by family.
#[derive(Debug, Default)]
pub struct MetricsText {
    format: MetricsFormat,
    out: String,
    /// Names of the families written so far: each may be written once.
    families: BTreeSet<String>,
}

/// One family, open for samples.
#[derive(Debug)]
pub struct MetricFamily<'t> {
    /// The text; `None` for a second family of the same name, which is left out: an exposition that lacks a family is worth
    /// more than one that is refused whole.
    out: Option<&'t mut String>,
    name: String,
    kind: MetricType,
}

impl MetricsText {
    /// An empty exposition.
    pub fn new(format: MetricsFormat) -> Self {
        Self { format, ..Self::default() }
    }

    /// A figure that goes up and down. `unit` is `""`, or what the name ends with: `seconds`, `bytes`, `ratio`.
    pub fn gauge(&mut self, name: &str, unit: &str, help: &str) -> MetricFamily<'_> {
        self.family(MetricType::Gauge, name, unit, help)
    }

    /// A figure that only goes up, until the process starts anew. The name is given without `_total`.
    pub fn counter(&mut self, name: &str, unit: &str, help: &str) -> MetricFamily<'_> {
        self.family(MetricType::Counter, name, unit, help)
    }

    /// Labels that describe the owner. The name is given without `_info`.
    pub fn info(&mut self, name: &str, help: &str) -> MetricFamily<'_> {
        self.family(MetricType::Info, name, "", help)
    }

    /// The current one of several states.
    pub fn state_set(&mut self, name: &str, help: &str) -> MetricFamily<'_> {
        self.family(MetricType::StateSet, name, "", help)
    }

    fn family(&mut self, kind: MetricType, name: &str, unit: &str, help: &str) -> MetricFamily<'_> {
        debug_assert!(is_metric_name(name), "`{name}` is not the name of a metric");
        debug_assert!(unit.is_empty() || name.ends_with(&format!("_{unit}")), "`{name}` does not end with its unit");
        debug_assert!(!name.ends_with("_total") && !name.ends_with("_info"), "`{name}` has the suffix of its samples");
        let name = name.to_owned();
        if !self.families.insert(name.clone()) {
            tracing::error!(name, "two families of one name; the second is left out");
            return MetricFamily { out: None, name, kind };
        }
        // In the text format a family has the name of its samples.
        let (suffix, help) = match self.format {
            MetricsFormat::OpenMetrics => ("", escaped(help)),
            MetricsFormat::Text => (kind.suffix(), Cow::Owned(help.replace('\\', "\\\\").replace('\n', "\\n"))),
        };
        // Writing to a String can't fail.
        let mut line = |word: &str, text: &str| {
            let _infallible = writeln!(self.out, "# {word} {name}{suffix} {text}");
        };
        line("TYPE", kind.as_str(self.format));
        if !unit.is_empty() && self.format == MetricsFormat::OpenMetrics {
            line("UNIT", unit);
        }
        line("HELP", &help);
        MetricFamily { out: Some(&mut self.out), name, kind }
    }

    /// The whole text; OpenMetrics is closed with `# EOF`.
    pub fn finish(mut self) -> String {
        if self.format == MetricsFormat::OpenMetrics {
            self.out.push_str("# EOF\n");
        }
        self.out
    }
}

impl MetricFamily<'_> {
    /// One sample.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Into<MetricValue>) -> &mut Self {
        self.write(labels, None, value.into());
        self
    }

    /// The samples of a state set: 1 for the state it is in, 0 for the others.
    pub fn state(&mut self, labels: &[(&str, &str)], states: &[&str], current: Option<&str>) -> &mut Self {
        for state in states {
            self.write(labels, Some(state), MetricValue::from(current == Some(*state)));
        }
        self
    }

    fn write(&mut self, labels: &[(&str, &str)], state: Option<&str>, value: MetricValue) {
        let Some(out) = self.out.as_deref_mut() else { return };
        out.push_str(&self.name);
        out.push_str(self.kind.suffix());
        // The label of a state has the name of its family.
        let state = state.map(|state| (self.name.as_str(), state));
        let mut before = '{';
        for (name, text) in labels.iter().copied().chain(state) {
            debug_assert!(is_label_name(name) || Some((name, text)) == state, "`{name}` is not the name of a label");
            // Writing to a String can't fail.
            let _infallible = write!(out, "{before}{name}=\"{}\"", escaped(text));
            before = ',';
        }
        if before == ',' {
            out.push('}');
        }
        let _infallible = writeln!(out, " {value}");
    }
}

/// Label values and help texts escape the same three characters. Few have any.
fn escaped(text: &str) -> Cow<'_, str> {
    if text.contains(['\\', '"', '\n']) {
        Cow::Owned(text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
    } else {
        Cow::Borrowed(text)
    }
}

fn is_metric_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    name.bytes().next().is_some_and(|b| b.is_ascii_lowercase()) && name.bytes().all(allowed)
}

fn is_label_name(name: &str) -> bool {
    is_metric_name(name) && !name.starts_with("__")
}

#[cfg(test)]
mod tests;
