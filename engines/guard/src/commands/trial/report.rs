//! What is printed of a test: text in the manner of `fail2ban-regex`, or one JSON object. Matches are printed as they are found, so
//! that a log of any size needs no more memory than a small one.

use std::collections::VecDeque;
use std::fmt::Write as _;

use clap::ArgMatches;
use engine::command::{CommandContext, Style};
use serde_json::json;

use crate::fail2ban::FilterDefinition;
use crate::fail2ban::filter::{Filter, Host, Match};

/// How many lines of a kind are printed, unless all are asked for.
const FEW: usize = 20;
/// How much JSON is written at once, in bytes.
const PIECE: usize = 64 << 10;

/// What is counted.
#[derive(Default, Debug)]
pub(super) struct Counts {
    pub(super) lines: i64,
    pub(super) matched: i64,
    pub(super) missed: i64,
    pub(super) ignored: i64,
    pub(super) prefregex: u64,
    pub(super) failregex: Vec<u64>,
}

/// What a line is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Matched,
    Missed,
    Ignored,
}

/// Which lines are printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Lines {
    /// None.
    None,
    /// A few, at the end.
    Few,
    /// All.
    All,
}

/// The lines that are printed, by what they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    matched: Lines,
    missed: Lines,
    ignored: Lines,
}

impl From<&ArgMatches> for Wanted {
    fn from(matches: &ArgMatches) -> Self {
        let of = |all: &str, none: bool| match (matches.get_flag(all), none) {
            (true, _) => Lines::All,
            (_, true) => Lines::None,
            _ => Lines::Few,
        };
        Self {
            matched: of("print-all-matched", true),
            missed: of("print-all-missed", matches.get_flag("print-no-missed")),
            ignored: of("print-all-ignored", matches.get_flag("print-no-ignored")),
        }
    }
}

/// The form of the result.
pub(super) enum Printed {
    Json,
    Text(Wanted),
}

/// What is printed.
pub(super) struct Report {
    printed: Printed,
    /// JSON that is not written yet.
    json: String,
    has_match: bool,
    /// A few missed lines; with all of them, those that a later match may still take.
    missed: VecDeque<(u64, String)>,
    ignored: VecDeque<(u64, String)>,
}

impl Report {
    pub(super) fn new(printed: Printed) -> Self {
        let json = r#"{"matches":["#.to_owned();
        Self { printed, json, has_match: false, missed: VecDeque::new(), ignored: VecDeque::new() }
    }

    /// A line was judged; patterns see `max_lines` at once.
    pub(super) fn line(
        &mut self,
        verdict: Verdict,
        number: u64,
        line: &str,
        max_lines: usize,
        context: &mut dyn CommandContext,
    ) {
        let Printed::Text(wanted) = &self.printed else { return };
        let (wanted, word, kept) = match verdict {
            Verdict::Matched if wanted.matched == Lines::All => return show("matched", number, line, context),
            Verdict::Matched => return,
            Verdict::Missed => (wanted.missed, "missed", &mut self.missed),
            Verdict::Ignored => (wanted.ignored, "ignored", &mut self.ignored),
        };
        match wanted {
            Lines::Few if kept.len() < FEW => kept.push_back((number, line.to_owned())),
            Lines::None | Lines::Few => {}
            Lines::All if verdict == Verdict::Missed && max_lines > 1 => {
                kept.push_back((number, line.to_owned()));
                if kept.len() > max_lines
                    && let Some((number, line)) = kept.pop_front()
                {
                    show(word, number, &line, context);
                }
            }
            Lines::All => show(word, number, line, context),
        }
    }

    /// A line that was missed is part of a match.
    pub(super) fn take_back_missed(&mut self, line: &str, context: &mut dyn CommandContext) {
        let Some(at) = self.missed.iter().position(|(_, missed)| missed == line) else { return };
        let taken = self.missed.remove(at);
        if let (Printed::Text(Wanted { matched: Lines::All, .. }), Some((number, line))) = (&self.printed, taken) {
            show("matched", number, &line, context);
        }
    }

    /// A failure was found.
    pub(super) fn found(&mut self, number: u64, found: &Match, context: &mut dyn CommandContext) {
        if !matches!(self.printed, Printed::Json) {
            return;
        }
        if std::mem::replace(&mut self.has_match, true) {
            self.json.push(',');
        }
        let value = json!({
            "line": number,
            "host": found.host.as_ref().map(Host::text),
            "time": found.time.map(event::Time::to_rfc3339),
            "user": found.user(),
            "regex": found.regex,
        });
        push_ascii(&mut self.json, &value.to_string());
        if self.json.len() >= PIECE {
            context.raw(self.json.as_bytes());
            self.json.clear();
        }
    }

    /// Prints the rest.
    pub(super) fn end(
        mut self,
        counts: &Counts,
        definition: &FilterDefinition,
        counter: &Filter,
        context: &mut dyn CommandContext,
    ) {
        let Counts { lines, matched, missed, ignored, .. } = *counts;
        let Printed::Text(wanted) = self.printed else {
            // Writing to a string does not fail.
            _ = writeln!(self.json, r#"],"lines":{lines},"matched":{matched},"missed":{missed},"ignored":{ignored}}}"#);
            return context.raw(self.json.as_bytes());
        };
        if wanted.missed == Lines::All {
            for (number, line) in std::mem::take(&mut self.missed) {
                show("missed", number, &line, context);
            }
        }
        let list = |title: &str, total: u64, patterns: &[String], hits: &[u64], context: &mut dyn CommandContext| {
            let title = context.painted(Style::Strong, title);
            context.line(&format!("{title}: {total} total"));
            for (index, (pattern, hits)) in patterns.iter().zip(hits).enumerate().filter(|(_, (_, hits))| **hits > 0) {
                context.line(&format!("{:4}) [{hits}] {pattern}", index + 1));
            }
        };
        if let Some(pattern) = &definition.prefregex {
            list("Prefregex", counts.prefregex, std::slice::from_ref(pattern), &[counts.prefregex], context);
        }
        list("Failregex", counts.failregex.iter().sum(), &definition.failregex, &counts.failregex, context);
        let hits = counter.tally().map_or(&[][..], |tally| &tally.ignoreregex);
        list("Ignoreregex", hits.iter().sum(), &definition.ignoreregex, hits, context);
        let title = context.painted(Style::Strong, "Date template hits");
        context.line(&format!("{title}:"));
        for (name, hits) in counter.date_hits() {
            context.line(&format!("  [{hits}] {name}"));
        }
        context.line(&format!("Lines: {lines} lines, {ignored} ignored, {matched} matched, {missed} missed"));
        for (word, wanted, count, kept) in
            [("ignored", wanted.ignored, ignored, self.ignored), ("missed", wanted.missed, missed, self.missed)]
        {
            if wanted != Lines::Few || count == 0 {
                continue;
            }
            if usize::try_from(count).is_ok_and(|count| count < FEW) {
                for (number, line) in kept {
                    show(word, number, &line, context);
                }
            } else {
                context.line(&format!("{word}: {count} lines, print them with --print-all-{word}"));
            }
        }
    }
}

fn show(word: &str, number: u64, line: &str, context: &mut dyn CommandContext) {
    let style = if word == "matched" { Style::Good } else { Style::Faint };
    let word = context.painted(style, word);
    context.line(&format!("{word} {number}: {line}"));
}

/// Adds JSON with all that is not ASCII escaped: a terminal would obey or hide some of it.
fn push_ascii(to: &mut String, json: &str) {
    for c in json.chars() {
        if c.is_ascii() && c != '\x7f' {
            to.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a string does not fail.
                _ = write!(to, "\\u{unit:04x}");
            }
        }
    }
}
