//! Drawn failures and ban times against the installed fail2ban: the same decisions, all of them.

use std::io::Write as _;
use std::process::{Command, Stdio};

use drawn::Draws;
use event::{Span, Time};
use serde_json::{Value, json};

use super::formula::{COMPLEX, TOO_LARGE};
use super::{Attempts, AttemptsLimits, BanLength, BanTimes, BanTimesText, Failure};

/// The answers of fail2ban to the cases, in their order.
pub(crate) fn asked(cases: &[Value]) -> Vec<Value> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fail2ban/attempts_oracle.py");
    #[expect(clippy::disallowed_methods, reason = "a test asks the program that it compares with")]
    let mut python = Command::new("/usr/bin/python3")
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python of the system: apt-get install fail2ban");
    let text = cases.iter().fold(String::new(), |text, case| text + &case.to_string() + "\n");
    let mut stdin = python.stdin.take().expect("a pipe");
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = python.wait_with_output().expect("its output");
    writer.join().expect("the writer").expect("it reads the cases: apt-get install fail2ban");
    assert!(output.status.success(), "the oracle failed: apt-get install fail2ban");
    let text = String::from_utf8(output.stdout).expect("JSON");
    let answers: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(answers.len(), cases.len(), "an answer for each case");
    answers
}

pub(crate) fn rounds(usual: usize) -> usize {
    std::env::var("GARANT_TRIALS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

const ADDRESSES: [&str; 5] = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "198.51.100.7", "203.0.113.9"];

/// One drawn sequence, and what [`Attempts`] makes of it.
fn drawn_attempts(draws: &mut Draws) -> (Value, Value) {
    let (max_retry, find_s) = (draws.below(7_u32) + 1, draws.pick(&[1_i64, 10, 60, 600, 86_400]));
    let limits = AttemptsLimits { max_retry, find_time: Span::from_secs(find_s), tickets_max: 1000 };
    let mut attempts: Attempts<String> = Attempts::new(limits);
    let with_fractions = draws.chance(50);
    let addresses = draws.below(ADDRESSES.len()) + 1;
    let mut now = 1_700_000_000_000_000_i64 + draws.below(1_000_000_i64) * i64::from(with_fractions);
    let (mut steps, mut answers) = (Vec::new(), Vec::new());
    for _ in 0..draws.below(60) {
        let step = draws.pick(&[0, 1, find_s / 7, find_s / 2, find_s, find_s + 1, find_s * 2, find_s * 5, -1, -find_s]);
        let fraction = if with_fractions { draws.pick(&[0_i64, 1, 100_000, 123_456, 500_000, 999_999]) } else { 0 };
        now += step * 1_000_000 + fraction;
        if draws.chance(10) {
            steps.push(json!({"op": "clean", "now": now}));
            attempts.clean_up(Time::from_micros(now));
            answers.push(json!([null, attempts.len()]));
            continue;
        }
        let id = ADDRESSES[draws.below(addresses)];
        let said = if draws.chance(20) { draws.below(4_u32) } else { 0 };
        let bans = if draws.chance(30) { draws.below(25_u32) } else { 0 };
        let last_ban =
            now - draws.pick(&[-1_500_000_i64, -500_000, 0, 499_999, 500_000, 500_001, 10_000_000, 100_000_000]);
        steps.push(json!({"op": "add", "id": id, "time": now, "attempts": said, "bans": bans, "last_ban": last_ban}));
        let failure = Failure { id: id.to_owned(), time: Time::from_micros(now), attempts: said };
        let is_first = !attempts.holds(&failure.id);
        let mut offence = attempts.add(&failure);
        if offence.is_none() && bans > 0 {
            offence = attempts.add_known(&failure, bans, Time::from_micros(last_ban), is_first);
        }
        let offence =
            offence.map(|offence| json!([offence.id, offence.time.micros(), offence.attempts, offence.retries]));
        answers.push(json!([offence, attempts.len()]));
    }
    (
        json!({"attempts": {"limits": {"max_retry": max_retry, "find_time": find_s}, "steps": steps}}),
        Value::Array(answers),
    )
}

#[test]
fn failures_are_counted_as_fail2ban_counts_them() {
    let mut draws = Draws::from_environment();
    let (cases, ours): (Vec<Value>, Vec<Value>) = (0..rounds(2000)).map(|_| drawn_attempts(&mut draws)).unzip();
    let theirs = asked(&cases);
    let offences =
        ours.iter().flat_map(|answers| answers.as_array().expect("answers")).filter(|answer| !answer[0].is_null());
    assert!(offences.count() > cases.len(), "the sequences are about offences");
    for ((case, ours), theirs) in cases.iter().zip(ours).zip(theirs) {
        assert_eq!(ours, theirs, "{case}");
    }
}

const FORMULAS: [&str; 6] = [
    "ban.Time * (1<<(ban.Count if ban.Count<20 else 20)) * banFactor",
    "ban.Time * math.exp(float(ban.Count+1)*banFactor)/math.exp(1*banFactor)",
    "ban.Time * banFactor ** ban.Count",
    "min(ban.Time * 2 ** ban.Count, 86400 * 7)",
    "604800 if ban.Count >= 5 else ban.Time * (ban.Count + 1)",
    "ban.Time * max(1, int(math.sqrt(ban.Count)) * 3) // 2",
];

fn drawn_formula(draws: &mut Draws, depth: u32) -> String {
    if depth == 0 {
        return draws
            .pick(&["ban.Time", "ban.Count", "banFactor", "1", "2", "3.5", "0", "20", "1e3", ".5", "7."])
            .to_owned();
    }
    let part = |draws: &mut Draws| drawn_formula(draws, depth - 1);
    match draws.below(14) {
        0 => format!("({} if {} else {})", part(draws), part(draws), part(draws)),
        1 => format!("{} << ({}) % 5", part(draws), part(draws)),
        2 => format!("({}) ** {}", part(draws), draws.pick(&["2", "3", "-1", "0.5", "0"])),
        3 => format!("{}({})", draws.pick(&["int", "float", "round", "abs", "math.floor", "math.ceil"]), part(draws)),
        4 => format!("{}({}, {})", draws.pick(&["min", "max"]), part(draws), part(draws)),
        5 => format!("math.{}({})", draws.pick(&["exp", "log", "log2", "log10", "sqrt"]), part(draws)),
        6 => format!("({}{}{})", part(draws), draws.pick(&["<", "<=", ">", ">=", "==", "!="]), part(draws)),
        7 => format!("({} {} {})", part(draws), draws.pick(&["and", "or"]), part(draws)),
        8 => format!("({}({}))", draws.pick(&["-", "+", "not "]), part(draws)),
        9 => format!("{} >> 1", part(draws)),
        _ => format!("{} {} {}", part(draws), draws.pick(&["+", "-", "*", "/", "//", "%"]), part(draws)),
    }
}

fn drawn_bantime(draws: &mut Draws) -> (Value, BanTimesText, Vec<u64>, f64) {
    let time_s = draws.pick(&[1_i64, 60, 600, 3600, 86_400]);
    let mut text = BanTimesText::fixed(BanLength::For(Span::from_secs(time_s)));
    text.increment = true;
    let mut options = serde_json::Map::from_iter([("increment".to_owned(), json!("true"))]);
    if draws.chance(50) {
        let factor = draws.pick(&["1", "2", "24", "0.5", "2.0 / 2.885385", "3600*2", "1/3"]);
        options.insert("factor".to_owned(), json!(factor));
        text.factor = Some(factor.to_owned());
    }
    if draws.chance(70) {
        let depth = draws.below(4) + 1;
        let formula = if draws.chance(20) { draws.pick(&FORMULAS).to_owned() } else { drawn_formula(draws, depth) };
        options.insert("formula".to_owned(), json!(formula));
        text.formula = Some(formula);
    }
    if draws.chance(25) {
        let multipliers = draws.pick(&["1 2 4 8 16 32 64", "1 5 30 60 300 720 1440 2880", "1", "0 3", "2 -1"]);
        options.insert("multipliers".to_owned(), json!(multipliers));
        text.multipliers = Some(multipliers.to_owned());
    }
    if draws.chance(40) {
        let max_s = draws.pick(&[3600_i64, 604_800, 1]);
        options.insert("maxtime".to_owned(), json!(max_s.to_string()));
        text.max_time = Some(Span::from_secs(max_s));
    }
    if draws.chance(40) {
        let rnd_s = draws.pick(&[100_i64, 1, 86_400]);
        options.insert("rndtime".to_owned(), json!(rnd_s.to_string()));
        text.rnd_time = Some(Span::from_secs(rnd_s));
    }
    let draw_ppb = draws.below(1_000_000_000_u32);
    let draw = f64::from(draw_ppb) / 1e9;
    let counts: Vec<u64> = vec![1, 2, 3, 5, 8, 19, 20, 21, 40];
    (json!({"bantime": {"options": options, "time": time_s, "draw": draw, "counts": counts}}), text, counts, draw)
}

#[test]
fn bans_last_as_long_as_in_fail2ban() {
    let mut draws = Draws::from_environment();
    let drawn: Vec<_> = (0..rounds(2000)).map(|_| drawn_bantime(&mut draws)).collect();
    let cases: Vec<Value> = drawn.iter().map(|(case, ..)| case.clone()).collect();
    let (mut same, mut beyond) = (0, 0);
    for ((case, text, counts, draw), theirs) in drawn.iter().zip(asked(&cases)) {
        let rule = BanTimes::parse(text).unwrap_or_else(|error| panic!("{error}: {case}"));
        let BanLength::For(plain) = text.time else { unreachable!("it is a length") };
        for (count, theirs) in counts.iter().zip(theirs.as_array().expect("answers")) {
            match rule.length_s(plain, *count, *draw) {
                // Where Python goes on with whole numbers of any size, with infinity, or with complex numbers, we leave the plain
                // time.
                Err(error) if [TOO_LARGE, COMPLEX].contains(&error) => beyond += 1,
                // Where fail2ban raises, the observer logs it and leaves the plain time as well.
                Err(_) => assert_eq!(theirs, "error", "{count}: {case}"),
                Ok(ours) => {
                    let theirs = theirs.as_str().expect("text");
                    assert_eq!(hex(ours), theirs, "{count}, {ours}: {case}");
                    same += 1;
                }
            }
        }
    }
    assert!(same > 9 * beyond, "{same} the same, {beyond} beyond our numbers");
}

/// As Python's `float.hex`.
fn hex(number: f64) -> String {
    if number.abs() >= 1e300 {
        return "too large".to_owned();
    }
    let (bits, sign) = (number.to_bits(), if number.is_sign_negative() { "-" } else { "" });
    let (exponent, fraction) = (i64::try_from(bits >> 52 & 0x7ff).expect("11 bits"), bits & ((1 << 52) - 1));
    match (exponent, fraction) {
        (0, 0) => format!("{sign}0x0.0p+0"),
        (0, _) => format!("{sign}0x0.{fraction:013x}p-1022"),
        _ => format!("{sign}0x1.{fraction:013x}p{:+}", exponent - 1023),
    }
}
