//! `garant guard test`: what a filter makes of a log, with the counts of `fail2ban-regex`. It needs no agent and no privilege.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, value_parser};
use engine::command::CommandContext;
use engine::{Failure, Programs};
use event::{Time, Zone};

use super::{json_flag, wants_json};
use crate::fail2ban::filter::{Filter, FilterError, FilterSettings, MAX_LINE};
use crate::fail2ban::{FilterDefinition, JailOverrides, UseDns, read_filter};
use crate::plan::{journal_settings, local_zone};
use crate::source::{Encoding, Journal, JournalError, JournalSettings};

mod judge;
mod report;

use judge::Judge;
use report::{Printed, Report};

/// How the journal is named instead of a file.
const JOURNAL: &str = "systemd-journal";
/// The section that options of a filter are resolved in.
const JAIL: &str = "fail2ban-regex-jail";

pub(super) fn arguments() -> clap::Command {
    let switch =
        |name: &'static str, help: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue).help(help);
    let value = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    clap::Command::new("test")
        .about("Show what a filter finds in a log, as fail2ban-regex does")
        .long_about(
            "Gives the lines of a log to a filter of fail2ban, and prints the counts of fail2ban-regex: a line is matched, missed, \
             or ignored (by an ignoreregex, or because it tells of no failure by itself). Empty lines and lines that begin with # \
             are not counted, nor is the end of a file without a line feed. How old a line is does not matter. Names of hosts are not looked up.",
        )
        .arg(Arg::new("filter").value_name("FILTER").required(true).help(
            "The name of a filter, with options or without (sshd, sshd[mode=aggressive]), its file, or a failregex itself",
        ))
        .arg(Arg::new("log").value_name("LOG").required(true).allow_hyphen_values(true).help(
            "A file, - for standard input, systemd-journal with options or without, or a line of a log itself",
        ))
        .arg(Arg::new("ignoreregex").value_name("IGNOREREGEX").help("A pattern of what is not to count, beside those of the filter"))
        .arg(
            value("config", "DIR", "The configuration of fail2ban")
                .short('c')
                .default_value("/etc/fail2ban")
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(value("mode", "MODE", "The mode of the filter, as in `sshd[mode=MODE]`"))
        .arg(
            value("time-zone", "ZONE", "The zone of dates that name none: Europe/Paris, UTC+0200; that of this machine unless given")
                .visible_alias("timezone"),
        )
        .arg(value("now", "TIME", "The time at which the log is read, for dates without a year: 2026-01-31T12:00:00Z"))
        .arg(switch(
            "check-all-regex",
"List in `matches` what every regex finds, with names of hosts as they are written and in a last line without a line feed; a jail would count the first only",
        ))
        .arg(
            switch("no-check-all", "Stop at the first regex that matches a line, for the counts too, as a jail does")
                .conflicts_with("check-all-regex"),
        )
        .arg(value("datepattern", "PATTERN", "The pattern of dates, instead of that of the filter").short('d'))
        .arg(value("encoding", "NAME", "The encoding of the log: utf-8, ascii, latin-1").short('e').default_value("auto"))
        .arg(
            value("maxlines", "N", "How many lines a regex sees at once, instead of what the filter says")
                .short('L')
                .value_parser(value_parser!(u32).range(1..=10_000)),
        )
        .arg(
            value("usedns", "HOW", "Which hosts <HOST> matches: with `no` addresses only, with `raw` names as they are")
                .value_parser(PossibleValuesParser::new(["yes", "warn", "no", "raw"]))
                .default_value("warn"),
        )
        .arg(switch("raw", "Take names of hosts as they are").short('r'))
        .arg(value("journalmatch", "MATCHES", "Which entries of the journal, instead of those of the filter").short('m'))
        .arg(switch("print-all-matched", "Print the lines that are matched").conflicts_with("json"))
        .arg(switch("print-all-missed", "Print all lines that are missed, and not only a few").conflicts_with("json"))
        .arg(switch("print-all-ignored", "Print all lines that are ignored, and not only a few").conflicts_with("json"))
        .arg(switch("print-no-missed", "Print no line that is missed").conflicts_with("print-all-missed"))
        .arg(switch("print-no-ignored", "Print no line that is ignored").conflicts_with("print-all-ignored"))
        .arg(json_flag())
}

fn text<'a>(matches: &'a ArgMatches, name: &str) -> Option<&'a str> {
    matches.get_one::<String>(name).map(String::as_str)
}

pub(super) fn run(matches: &ArgMatches, context: &mut dyn CommandContext) -> Result<u8, Failure> {
    let log = text(matches, "log").unwrap_or_default();
    let definition = definition(matches, log)?;
    let now = match text(matches, "now") {
        Some(written) => Time::parse_rfc3339(written).ok_or_else(|| {
            Failure::new(format!("--now: `{written}` is no time")).remedy("write it like 2026-01-31T12:00:00Z").code(2)
        })?,
        None => context.now(),
    };
    let encoding = text(matches, "encoding").unwrap_or("auto");
    let encoding = Encoding::named(encoding).map_err(|_| {
        Failure::new(format!("--encoding: `{encoding}` is not read")).remedy("name utf-8, ascii or latin-1").code(2)
    })?;
    let settings = settings(matches, context.now().max(now), now)?;
    let compile =
        |settings| Filter::compile(&definition, settings).map_err(|error| broken(&definition, matches, &error));
    // Opened before anything is compiled or printed: most mistakes are here.
    let source = Source::open(log, &definition, matches, encoding)?;
    let mut counter = compile(settings.clone())?;
    counter.keep_tally();
    let is_json = wants_json(matches);
    let finder = match is_json {
        false => None,
        true if matches.get_flag("check-all-regex") => Some(compile(FilterSettings {
            use_dns: if settings.use_dns == UseDns::No { UseDns::No } else { UseDns::Raw },
            ..settings
        })?),
        true => Some(compile(FilterSettings { check_all_regex: false, ignore_pending: true, ..settings })?),
    };
    let printed = if is_json { Printed::Json } else { Printed::Text(matches.into()) };
    let mut judge = Judge::new(counter, finder, matches.get_flag("check-all-regex"), Report::new(printed), now);
    if definition.failregex.is_empty() {
        context.note(&format!("the filter `{}` has no failregex: it finds nothing", definition.name));
    }
    source.read(&mut judge, context)?;
    judge.end(&definition, context)?;
    Ok(0)
}

fn settings(matches: &ArgMatches, started: Time, now: Time) -> Result<FilterSettings, Failure> {
    let mut zone = machine_zone();
    let mut log_zone = None;
    if let Some(named) = text(matches, "time-zone") {
        match Zone::named(named) {
            Some(known) => zone = known,
            None => log_zone = Some(named.to_owned()),
        }
    }
    let settings = FilterSettings {
        log_zone,
        use_dns: match text(matches, "usedns") {
            Some("yes") => UseDns::Yes,
            Some("no") => UseDns::No,
            Some("raw") => UseDns::Raw,
            _ => UseDns::Warn,
        },
        raw_host: matches.get_flag("raw"),
        check_all_regex: !matches.get_flag("no-check-all"),
        check_find_time: false,
        ignore_pending: false,
        ..FilterSettings::new(zone, started)
    };
    // The zone is the only thing here that the filter does not name in its error.
    if let Some(zone) = &settings.log_zone
        && let Err(error) = Filter::compile(&FilterDefinition::default(), settings.clone())
    {
        return Err(Failure::new(format!("--time-zone: `{zone}` is no zone at {}", now.to_rfc3339()))
            .because(&error)
            .remedy("write it like Europe/Paris, UTC or UTC+0200")
            .code(2));
    }
    Ok(settings)
}

/// The zone of this machine: that of `TZ`, where it names one.
fn machine_zone() -> Zone {
    let named = std::env::var("TZ").ok();
    let named = named.as_deref().and_then(|name| Zone::named(name.trim_start_matches(':')));
    named.unwrap_or_else(|| local_zone(Path::new("/")))
}

/// Whether a text is a name of a filter, or a file, with options or without, and not a pattern.
fn is_name(text: &str) -> bool {
    let (name, options) = text.split_once('[').map_or((text, None), |(name, options)| (name, Some(options)));
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '/' | '-' | '.');
    !name.is_empty() && name.chars().all(is_part) && options.is_none_or(|options| options.trim_end().ends_with(']'))
}

fn definition(matches: &ArgMatches, log: &str) -> Result<FilterDefinition, Failure> {
    let given = text(matches, "filter").unwrap_or_default();
    let mode = text(matches, "mode");
    let config = matches.get_one::<PathBuf>("config").cloned().unwrap_or_default();
    let mut definition = if is_name(given) || Path::new(given).is_file() {
        let overrides = JailOverrides {
            jail: JAIL.to_owned(),
            backend: if log.starts_with(JOURNAL) { "systemd" } else { "auto" }.to_owned(),
            options: Vec::new(),
        };
        if let Ok(bytes) = std::fs::read(given)
            && std::str::from_utf8(&bytes).is_err()
        {
            return Err(Failure::new(format!("the filter `{given}` can't be read: it is no UTF-8"))
                .remedy("write it anew in UTF-8: `iconv -f latin1 -t utf8` does it")
                .code(2));
        }
        let filter = with_mode(&in_this_folder(given, &config), mode)?;
        read_filter(&config, &filter, &overrides).map_err(|error| {
            Failure::new(format!("the filter `{given}` can't be read")).because(&error).remedy(
                "correct what is named, or name a filter of the configuration (--config), a file, or write a failregex",
            )
        })?
    } else if mode.is_some() {
        return Err(Failure::new("--mode is for filters, and this is a failregex").remedy("leave --mode out").code(2));
    } else {
        FilterDefinition { name: "given".to_owned(), failregex: vec![given.to_owned()], ..FilterDefinition::default() }
    };
    definition.ignoreregex.extend(text(matches, "ignoreregex").map(str::to_owned));
    if let Some(pattern) = text(matches, "datepattern") {
        definition.datepattern = Some(pattern.to_owned());
    }
    if let Some(lines) = matches.get_one::<u32>("maxlines") {
        definition.maxlines = *lines;
    }
    Ok(definition)
}

/// A file of the folder one stands in, where the configuration has none of that name.
fn in_this_folder(given: &str, config: &Path) -> String {
    let name = given.split('[').next().unwrap_or_default();
    let is_here = !name.contains('/') && Path::new(name).is_file();
    let is_known = [name.to_owned(), format!("{name}.conf"), format!("{name}.local")]
        .iter()
        .any(|file| config.join("filter.d").join(file).is_file());
    if is_here && !is_known { format!("./{given}") } else { given.to_owned() }
}

fn with_mode(filter: &str, mode: Option<&str>) -> Result<String, Failure> {
    let Some(mode) = mode else { return Ok(filter.to_owned()) };
    if mode.is_empty() || !mode.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-')) {
        return Err(Failure::new(format!("--mode: `{mode}` is no name of a mode")).remedy("write one word").code(2));
    }
    Ok(match filter.trim_end().strip_suffix(']') {
        Some(open) if open.ends_with('[') => format!("{open}mode={mode}]"),
        Some(open) => format!("{open}, mode={mode}]"),
        None => format!("{filter}[mode={mode}]"),
    })
}

fn broken(definition: &FilterDefinition, matches: &ArgMatches, error: &FilterError) -> Failure {
    let config = matches.get_one::<PathBuf>("config").cloned().unwrap_or_default();
    let failure = Failure::new("the filter can't be used").because(error);
    failure.remedy(if matches!(error, FilterError::Dates { .. }) && text(matches, "datepattern").is_some() {
        "correct the pattern that is given by --datepattern".to_owned()
    } else if definition.name == "given" {
        "correct the failregex, or name a filter".to_owned()
    } else {
        let given = in_this_folder(text(matches, "filter").unwrap_or_default(), &config);
        let name = given.split('[').next().unwrap_or_default();
        let file = config.join(format!("filter.d/{}.conf", definition.name)).display().to_string();
        format!("correct that pattern in {}", if name.contains('/') { name } else { &file })
    })
}

/// Where the lines come from.
enum Source {
    /// A file, with its name, and whether its last line counts without a line feed.
    Bytes {
        name: String,
        from: Box<dyn BufRead>,
        encoding: Encoding,
        with_open_end: bool,
    },
    Lines(Vec<String>),
    Journal(JournalSettings),
}

impl Source {
    fn open(
        log: &str,
        definition: &FilterDefinition,
        matches: &ArgMatches,
        encoding: Encoding,
    ) -> Result<Self, Failure> {
        if log == "-" {
            let from = Box::new(BufReader::new(io::stdin()));
            return Ok(Self::Bytes { name: "standard input".to_owned(), from, encoding, with_open_end: true });
        }
        let failed = |error: &io::Error| {
            let failure = Failure::new(format!("the log {log} can't be read")).because(error);
            failure.remedy(match error.kind() {
                io::ErrorKind::PermissionDenied => "run this as root, or as a user in the group of the log (adm)",
                io::ErrorKind::IsADirectory => "name a file in it",
                _ => "name a file, a line of a log in quotes, - or systemd-journal",
            })
        };
        match std::fs::metadata(log) {
            Ok(metadata) if metadata.is_dir() => return Err(failed(&io::ErrorKind::IsADirectory.into())),
            Ok(_) => {
                let from = File::open(log).map_err(|error| failed(&error))?;
                let from = Box::new(BufReader::with_capacity(MAX_LINE, from));
                return Ok(Self::Bytes { name: log.to_owned(), from, encoding, with_open_end: false });
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(failed(&error)),
            Err(_) if log.starts_with(JOURNAL) => return journal(log, definition, matches, encoding),
            // A word is a file that is not there; a line has spaces.
            Err(error) if !log.contains(char::is_whitespace) => return Err(failed(&error)),
            Err(_) => {}
        }
        Ok(Self::Lines(log.split('\n').map(|line| line.trim_end_matches('\r').to_owned()).collect()))
    }

    fn read(self, judge: &mut Judge, context: &mut dyn CommandContext) -> Result<(), Failure> {
        match self {
            Self::Lines(lines) => lines.iter().for_each(|line| judge.line(line, context)),
            Self::Bytes { name, mut from, encoding, with_open_end } => {
                let mut line = Vec::new();
                while let Some(is_whole) = next_line(&mut *from, &mut line)
                    .map_err(|error| Failure::new(format!("the log {name} can't be read to its end")).because(&error))?
                {
                    if is_whole || with_open_end {
                        judge.line(&encoding.decode(&line), context);
                    } else {
                        judge.open_end(&encoding.decode(&line), context);
                    }
                }
            }
            Self::Journal(settings) => {
                if let Some(folders) = settings.missing(Path::new("/")) {
                    return Err(Failure::new(format!("there is no journal in {folders}"))
                        .remedy("name a file, or the journal with systemd-journal[journalpath=DIRECTORY]"));
                }
                let failed = |error: &JournalError| {
                    let failure = Failure::new("the journal can't be read");
                    match error {
                        JournalError::Program(error) => failure
                            .because(error)
                            .remedy("run this as root, or as a user in the group systemd-journal, where systemd is"),
                        error => failure.because(error),
                    }
                };
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .map_err(|error| Failure::new("the asynchronous runtime can't be started").because(&error))?;
                runtime.block_on(async {
                    let mut journal = Journal::past(&Programs::of_system(), &settings, judge.now())
                        .map_err(|error| failed(&error))?;
                    loop {
                        match journal.next().await {
                            Ok(batch) => {
                                for line in batch.lines {
                                    judge.dated(&line.text, line.time, context);
                                }
                            }
                            Err(JournalError::Ended) => return Ok(()),
                            Err(error) => return Err(failed(&error)),
                        }
                    }
                })?;
            }
        }
        Ok(())
    }
}

fn journal(
    log: &str,
    definition: &FilterDefinition,
    matches: &ArgMatches,
    encoding: Encoding,
) -> Result<Source, Failure> {
    let wrong = |why: String| {
        Failure::new(format!("`{log}` can't be read: {why}"))
            .remedy("write it like systemd-journal or systemd-journal[journalpath=/var/log/journal]")
            .code(2)
    };
    let (name, options) = crate::fail2ban::extract_options(log).map_err(wrong)?;
    if name != JOURNAL {
        return Err(wrong("there is no such file".to_owned()));
    }
    let given = match text(matches, "journalmatch") {
        Some(given) => vec![crate::fail2ban::words_of(given).map_err(wrong)?],
        None => definition.journalmatch.clone(),
    };
    journal_settings(given, &options, encoding).map(Source::Journal).map_err(wrong)
}

/// Reads a line with its line feed, cut at [`MAX_LINE`]; whether it has an end, or `None` after the last.
fn next_line(from: &mut dyn BufRead, line: &mut Vec<u8>) -> io::Result<Option<bool>> {
    line.clear();
    let mut last = None;
    loop {
        let piece = match from.fill_buf() {
            Ok(piece) => piece,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let Some(end) = piece.last() else { return Ok(last.map(|last| last == b'\r')) };
        let newline = memchr::memchr(b'\n', piece);
        let taken = newline.map_or(piece.len(), |at| at + 1);
        let room = MAX_LINE.saturating_sub(line.len());
        line.extend_from_slice(&piece[..newline.unwrap_or(taken).min(room)]);
        last = Some(*end);
        from.consume(taken);
        if newline.is_some() {
            return Ok(Some(true));
        }
    }
}
