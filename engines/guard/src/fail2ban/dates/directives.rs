//! The directives of a date pattern (`%Y`, `%ExY` …): the expression each stands for, and what it is called in names.
//!
//! Those of Python's `strptime` in the C locale, with the stricter and the additional ones of fail2ban.

/// A field of a date, by the name of its group.
pub(super) type Field = u8;

/// Names of the groups that a time is made of, in no order that matters.
pub(super) const FIELDS: [&str; 20] =
    ["y", "Y", "m", "B", "b", "d", "H", "I", "p", "M", "S", "f", "A", "a", "w", "j", "U", "W", "z", "Z"];

/// The field of a group with this name.
pub(super) fn field(name: &str) -> Option<Field> {
    FIELDS.iter().position(|known| *known == name).and_then(|place| Field::try_from(place).ok())
}

/// Directive, expression and name.
const DIRECTIVES: [(&str, &str, &str); 40] = [
    ("ExZ", r"(?P<Z>[A-Z](?:[A-Z]{2,4})?)", "ExZone name"),
    ("Exz", r"(?P<z>(?:[A-Z](?:[A-Z]{2,4})?)?[+-][01]\d(?::?\d{2})?|[A-Z](?:[A-Z]{2,4})?)", "ExZone offset"),
    ("Exd", r"(?P<d>[1-2]\d|0[1-9]|3[0-1])", "ExDay"),
    ("Exm", r"(?P<m>0[1-9]|1[0-2])", "ExMonth"),
    ("ExH", r"(?P<H>[0-1]\d|2[0-3])", "Ex24hour"),
    ("Exk", r" ?(?P<H>[0-1]?\d|2[0-3])", "%Exk"),
    ("Exl", r" ?(?P<I>1[0-2]|\d)", "%Exl"),
    ("ExM", r"(?P<M>[0-5]\d)", "ExMinute"),
    ("ExS", r"(?P<S>[0-5]\d|6[0-1])", "ExSecond"),
    ("ExY", "", "ExYear"), // depends on the year: see `expression`
    ("Exy", r"(?P<y>\d{2})", "ExYear2"),
    ("d", r"(?P<d>[1-2]\d|[0 ]?[1-9]|3[0-1])", "Day"),
    ("f", r"(?P<f>[0-9]{1,6})", "Microseconds"),
    ("H", r"(?P<H>[0-1]?\d|2[0-3])", "24hour"),
    ("I", r"(?P<I>1[0-2]|0[1-9]|[1-9])", "12hour"),
    ("G", r"(?P<G>\d\d\d\d)", "%G"),
    ("j", r"(?P<j>36[0-6]|3[0-5]\d|[1-2]\d\d|0[1-9]\d|00[1-9]|[1-9]\d|0[1-9]|[1-9])", "Yearday"),
    ("m", r"(?P<m>0?[1-9]|1[0-2])", "Month"),
    ("M", r"(?P<M>[0-5]?\d)", "Minute"),
    ("S", r"(?P<S>[0-5]?\d|6[0-1])", "Second"),
    ("U", r"(?P<U>5[0-3]|[0-4]\d|\d)", "Yearweek"),
    ("w", r"(?P<w>[0-6])", "Weekday"),
    ("u", r"(?P<u>[1-7])", "%u"),
    ("V", r"(?P<V>5[0-3]|0[1-9]|[1-4]\d|\d)", "%V"),
    ("y", r"(?P<y>\d\d)", "Year2"),
    ("Y", r"(?P<Y>\d{4})", "Year"),
    ("z", r"(?P<z>Z|UTC|GMT|[+-][01]\d(?::?\d{2})?)", "Zone offset"),
    ("A", "(?P<A>wednesday|thursday|saturday|tuesday|monday|friday|sunday)", "DAYNAME"),
    ("a", "(?P<a>mon|tue|wed|thu|fri|sat|sun)", "DAY"),
    ("B", "(?P<B>september|february|november|december|january|october|august|march|april|june|july|may)", "MONTH"),
    ("b", "(?P<b>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)", "MON"),
    ("p", "(?P<p>am|pm)", "AMPM"),
    ("Z", "(?P<Z>Z|[A-Z]{3,5})", "Zone name"),
    ("%", "%", "%"),
    ("W", r"(?P<W>5[0-3]|[0-4]\d|\d)", "Yearweek"),
    (
        "c",
        r"(?P<a>mon|tue|wed|thu|fri|sat|sun)\s+(?P<b>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)\s+(?P<d>3[0-1]|[1-2]\d|0[1-9]|[1-9]| [1-9])\s+(?P<H>2[0-3]|[0-1]\d|\d):(?P<M>[0-5]\d|\d):(?P<S>6[0-1]|[0-5]\d|\d)\s+(?P<Y>\d\d\d\d)",
        "%c",
    ),
    ("x", r"(?P<m>1[0-2]|0[1-9]|[1-9])/(?P<d>3[0-1]|[1-2]\d|0[1-9]|[1-9]| [1-9])/(?P<y>\d\d)", "%x"),
    ("X", r"(?P<H>2[0-3]|[0-1]\d|\d):(?P<M>[0-5]\d|\d):(?P<S>6[0-1]|[0-5]\d|\d)", "%X"),
    ("k", r" ?(?P<H>[0-2]?\d)", "%k"),
    ("l", r" ?(?P<I>1?\d)", "%l"),
];

/// The decades of the years that `%ExY` takes, for a program that started in `year`: from 2000 to the end of the decade three
/// years ahead, and the decade of last year.
pub(super) fn recent_decades(year: i64) -> Vec<i64> {
    let mut decades: Vec<i64> = vec![(year - 1) / 10, (year + 3) / 10];
    decades.extend((2000..=year).step_by(3).map(|year| year / 10));
    decades.sort_unstable();
    decades.dedup();
    decades
}

/// The expression of such a year.
fn recent_year(year: i64) -> String {
    let decades: Vec<String> = recent_decades(year).iter().map(|decade| format!("{decade:03}")).collect();
    format!(r"(?P<Y>(?:{})\d)", decades.join("|"))
}

/// `pattern` with its directives replaced by expressions, and by names.
pub(super) fn expand(pattern: &str, started_in: i64) -> Result<(String, String), String> {
    let (mut regex, mut name) = (String::new(), String::new());
    let mut rest = pattern;
    while let Some(place) = rest.find('%') {
        let (literal, directive) = rest.split_at(place);
        regex.push_str(literal);
        name.push_str(literal);
        let directive = directive.get(1..).unwrap_or_default();
        let found = DIRECTIVES.iter().find(|(key, ..)| directive.starts_with(key));
        let Some((key, expression, called)) = found else {
            let shown: String = directive.chars().take(1).collect();
            return Err(format!("%{shown} is no directive; write %% for a percent sign"));
        };
        match *key {
            "ExY" => regex.push_str(&recent_year(started_in)),
            _ => regex.push_str(expression),
        }
        name.push_str(called);
        rest = directive.get(key.len()..).unwrap_or_default();
    }
    regex.push_str(rest);
    name.push_str(rest);
    Ok((regex, name))
}
