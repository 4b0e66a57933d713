//! How many lines a second a filter judges: `lines FILTER LOG [--config /etc/fail2ban] [--zone UTC] [--repeat N]`.
//!
//! FILTER is as in `jail.conf`: `sshd`, `sshd[mode=aggressive]`; several are separated by commas outside of brackets, and each
//! line is given to all. Dates are read, names are not looked up, and only the judging is
//! timed.
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a program to measure with, run by hand")]

use std::error::Error;
use std::path::PathBuf;

use event::{Time, Zone};
use garant_guard::fail2ban::filter::{Filter, FilterSet, FilterSettings, NoNames};
use garant_guard::fail2ban::{JailOverrides, read_filter};

fn main() -> Result<(), Box<dyn Error>> {
    let mut given = std::env::args().skip(1);
    let (Some(names), Some(log)) = (given.next(), given.next()) else {
        return Err("usage: lines FILTER[,FILTER] LOG [--config DIR] [--zone ZONE] [--repeat N]".into());
    };
    let (mut config, mut zone, mut repeat) = (PathBuf::from("/etc/fail2ban"), Zone::UTC, 1_usize);
    while let (Some(option), Some(value)) = (given.next(), given.next()) {
        match option.as_str() {
            "--config" => config = value.into(),
            "--zone" => zone = Zone::named(&value).ok_or("no such zone")?,
            "--repeat" => repeat = value.parse()?,
            _ => return Err(format!("{option}: not an option").into()),
        }
    }
    let now = Time::from_micros(i64::try_from(
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_micros(),
    )?);
    let mut filters = Vec::new();
    for name in split(&names) {
        let definition = read_filter(&config, name, &JailOverrides::default())?;
        let settings = FilterSettings { check_find_time: false, ..FilterSettings::new(zone.clone(), now) };
        filters.push(Filter::compile(&definition, settings)?);
    }
    let count = filters.len();
    let text = String::from_utf8_lossy(&std::fs::read(log)?).into_owned();
    let (mut lines, mut matched) = (0_u64, 0_u64);
    let start = std::time::Instant::now();
    let mut set = FilterSet::new(filters);
    for _ in 0..repeat {
        for line in text.lines() {
            lines += 1;
            set.process_line(line, now, &mut NoNames, &mut |_, found| {
                matched += found.map_or(0, |found| found.len() as u64);
            });
        }
    }
    let took = start.elapsed().as_secs_f64();
    let limits: u64 = set.filters().iter().map(Filter::step_limits).sum();
    println!("{lines} lines, {count} filters, {matched} failures, {limits} searches given up, {took:.3} s");
    println!("{:.0} lines/s", lines as f64 / took);
    Ok(())
}

/// Names of filters, split at the commas outside of brackets.
fn split(names: &str) -> Vec<&str> {
    let mut depth = 0;
    names
        .split(|c| {
            depth += match c {
                '[' => 1,
                ']' => -1,
                _ => 0,
            };
            c == ',' && depth == 0
        })
        .collect()
}
