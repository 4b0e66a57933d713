//! Output of the commands: results on standard output, everything else on standard error, colours on terminals only.
//!
//! What is printed may hold text of others, which a terminal must not obey: [`shown`] lets through lines and the colours that
//! garant itself uses, and writes every other control character as its escape (see [`engine::printable`]). The log on
//! standard error goes through [`LogLines`], which lets no newline through either: a line of the log is one event.

use std::ffi::OsStr;
use std::fmt::Display;
use std::io::{self, BufRead as _, IsTerminal, Read as _, Write};
use std::sync::{Mutex, PoisonError};

use clap::ValueEnum;
pub(crate) use engine::Style;
use engine::Watcher;
use engine::printable;
use event::Zone;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::watch;

use crate::failure::Failure;

/// Longest line that is read of a person.
const TYPED_BYTES_MAX: u64 = 4096;

/// When output is coloured.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug, Default)]
pub(crate) enum Colour {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Colour {
    /// `no_color` is what the variable `NO_COLOR` says: anything but nothing means no (no-color.org).
    fn wanted(self, is_terminal: bool, no_color: Option<&OsStr>) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => is_terminal && no_color.is_none_or(OsStr::is_empty),
        }
    }
}

/// The SGR parameters of a style (ECMA-48, 8.3.117).
const fn sgr(style: Style) -> &'static str {
    match style {
        Style::Good => "32",
        Style::Bad => "1;31",
        Style::Doubtful => "33",
        Style::Strong => "1",
        Style::Faint => "2",
    }
}

/// `1 probe`, `2 probes`; for words that take an `s`.
pub(crate) fn counted(count: usize, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

/// Standard output and standard error.
pub(crate) struct Terminal {
    colours: Colours,
    draws_bars: bool,
    out_closed: bool,
    /// Why the result could not be written, unless its reader closed the pipe.
    lost: Option<io::Error>,
}

/// Which of the two streams is coloured.
struct Colours {
    out: bool,
    err: bool,
}

impl Terminal {
    pub(crate) fn new(colour: Colour) -> Self {
        let no_color = std::env::var_os("NO_COLOR");
        Self {
            colours: Colours {
                out: colour.wanted(io::stdout().is_terminal(), no_color.as_deref()),
                err: colour.wanted(io::stderr().is_terminal(), no_color.as_deref()),
            },
            draws_bars: io::stderr().is_terminal(),
            out_closed: false,
            lost: None,
        }
    }

    /// Prints a line of the result. A reader that went away (`| head`) is no error: the rest is dropped.
    pub(crate) fn line(&mut self, text: impl Display) {
        if !self.out_closed {
            let mut out = io::stdout().lock();
            let written = writeln!(out, "{}", shown(&text.to_string(), self.colours.out)).and_then(|()| out.flush());
            self.note_written(written);
        }
    }

    /// Prints the result as it is, and adds no newline.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        if !self.out_closed {
            let mut out = io::stdout().lock();
            let written = out.write_all(bytes).and_then(|()| out.flush());
            self.note_written(written);
        }
    }

    /// Whether somebody may still read the result.
    pub(crate) const fn is_read(&self) -> bool {
        !self.out_closed
    }

    fn note_written(&mut self, written: io::Result<()>) {
        if let Err(error) = written {
            self.out_closed = true;
            self.lost = (error.kind() != io::ErrorKind::BrokenPipe).then_some(error);
        }
    }

    /// Fails when a part of the result could not be written: half a proof on a full disk must not look like one.
    pub(crate) fn finish(&mut self) -> Result<(), Failure> {
        let lost = self.lost.take();
        lost.map_or(Ok(()), |error| Err(Failure::new("the result can't be written to standard output").because(&error)))
    }

    /// Prints a result for programs, on one line.
    pub(crate) fn json(&mut self, value: &impl serde::Serialize) {
        match serde_json::to_string(value) {
            Ok(text) => self.line(ascii_escaped(&text)),
            Err(error) => self.note(format!("the result can't be written as JSON: {error}")),
        }
    }

    /// Prints a line on standard error: progress, warnings, what to do next.
    pub(crate) fn note(&self, text: impl Display) {
        // An error here means that standard error is closed: there is nowhere left to report it.
        drop(writeln!(io::stderr().lock(), "{}", shown(&text.to_string(), self.colours.err)));
    }

    /// Prints a failure on standard error: what failed, why, what to do.
    pub(crate) fn failure(&self, failure: &Failure) {
        self.note(rendered(failure, self.colours.err));
    }

    /// `text` for standard output, in the given style when colours are wanted there.
    pub(crate) fn painted(&self, style: Style, text: impl Display) -> String {
        paint(self.colours.out, style, text)
    }

    pub(crate) fn err_coloured(&self) -> bool {
        self.colours.err
    }

    /// Whether there is a person to ask.
    pub(crate) fn is_interactive() -> bool {
        io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// Shows a question on standard error; false where there is nobody to answer it.
    pub(crate) fn question(&self, question: &str) -> bool {
        let mut err = io::stderr().lock();
        Self::is_interactive()
            && write!(err, "{} ", shown(question, self.colours.err)).and_then(|()| err.flush()).is_ok()
    }

    /// Ends the line of a question that gets no answer.
    pub(crate) fn no_answer() {
        drop(writeln!(io::stderr()));
    }

    /// A progress bar of bytes, drawn on standard error when that is a terminal.
    pub(crate) fn bytes_bar(&self) -> StepBar {
        self.step_bar("{msg:28} {wide_bar} {bytes}/{total_bytes}  {bytes_per_sec}  {eta}")
    }

    /// The same of things that are counted.
    pub(crate) fn count_bar(&self) -> StepBar {
        self.step_bar("{msg:28} {wide_bar} {human_pos}/{human_len}  {eta}")
    }

    fn step_bar(&self, template: &str) -> StepBar {
        let target = if self.draws_bars { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        StepBar { bar, step: Mutex::default() }
    }

    /// A progress bar, drawn on standard error when that is a terminal.
    pub(crate) fn progress(&self, what: &'static str, length: u64) -> ProgressBar {
        let target = if self.draws_bars { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(length), target);
        if let Ok(style) = ProgressStyle::with_template("{msg:20} {wide_bar} {human_pos}/{human_len}  {eta}") {
            bar.set_style(style);
        }
        bar.with_message(what)
    }
}

/// A progress bar, step after step: the engine's words for the step, the rate and the time that is left.
pub(crate) struct StepBar {
    bar: ProgressBar,
    step: Mutex<String>,
}

impl Watcher for StepBar {
    fn doing(&self, step: &str, done: u64, of: Option<u64>) {
        let mut current = self.step.lock().unwrap_or_else(PoisonError::into_inner);
        if *current != step {
            step.clone_into(&mut current);
            self.bar.reset();
            self.bar.set_message(printable::text(step).into_owned());
        }
        match of {
            Some(of) => self.bar.set_length(of),
            None => self.bar.unset_length(),
        }
        self.bar.set_position(done);
    }
}

impl Drop for StepBar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// The text of a failure: what failed, why and what to do, a line each.
pub(crate) fn rendered(failure: &Failure, coloured: bool) -> String {
    let mut lines = vec![format!("{} {}", paint(coloured, Style::Bad, "error:"), failure.what())];
    lines.extend(failure.why().iter().map(|cause| format!("  {} {cause}", paint(coloured, Style::Faint, "because:"))));
    lines.extend(failure.what_to_do().map(|remedy| format!("  {} {remedy}", paint(coloured, Style::Strong, "do:"))));
    lines.join("\n")
}

/// The text as it may be printed: its lines as they are, the styles of [`Style`] and of the mistakes of a policy where colours
/// are wanted, and an escape for whatever else a terminal would obey or hide.
fn shown(text: &str, coloured: bool) -> String {
    let text = printable::in_words(text);
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_ref();
    while let Some(c) = rest.chars().next() {
        if let Some(style) = style_at_start(rest).filter(|_| coloured) {
            out.push_str(style);
            rest = rest.get(style.len()..).unwrap_or_default();
            continue;
        }
        match c {
            '\n' => out.push('\n'),
            c => printable::push(&mut out, c),
        }
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
    }
    out
}

/// The SGR sequence (ECMA-48, 8.3.117) at the start of the text, if it sets nothing but a foreground colour or a weight: text
/// can be hidden by others.
fn style_at_start(text: &str) -> Option<&str> {
    let parameters = text.strip_prefix("\x1b[")?;
    let parameters = parameters.get(..parameters.find(|c: char| !c.is_ascii_digit() && c != ';')?)?;
    let end = "\x1b[".len() + parameters.len();
    let harmless = |parameter: &str| {
        parameter.is_empty()
            || parameter.parse::<u8>().is_ok_and(|number| matches!(number, 0..=4 | 22..=24 | 30..=37 | 39 | 90..=97))
    };
    let is_style = parameters
        .strip_prefix("38;5;")
        .map_or_else(|| parameters.split(';').all(harmless), |colour| colour.parse::<u8>().is_ok());
    (text.get(end..)?.starts_with('m') && is_style).then(|| text.get(..=end))?
}

/// JSON in which every character that a terminal would obey or hide is written as JSON escapes it (RFC 8259, section 7). Such
/// characters stand in its strings only.
fn ascii_escaped(json: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if printable::is_shown(c) {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // A String takes everything.
                write!(out, "\\u{unit:04x}").unwrap_or_default();
            }
        }
    }
    out
}

/// Where the log of the process goes: standard error, a line for each event whatever is in it, its times in the zone of the
/// policy.
#[derive(Clone)]
pub(crate) struct LogLines {
    pub(crate) coloured: bool,
    pub(crate) zone: watch::Receiver<Zone>,
}

impl Write for LogLines {
    /// Takes one event, as the subscriber hands them over.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let line = text.strip_suffix('\n').unwrap_or(&text).replace('\n', "\\n");
        let line = self.zone.borrow().of_text(&line).into_owned();
        writeln!(io::stderr().lock(), "{}", shown(&line, self.coloured))?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}

/// The line that a person types; `None` at the end of what is typed.
pub(crate) fn typed() -> Option<String> {
    let mut typed = String::new();
    let read = io::stdin().lock().take(TYPED_BYTES_MAX).read_line(&mut typed).ok()?;
    (read > 0).then(|| typed.trim().to_owned())
}

fn paint(coloured: bool, style: Style, text: impl Display) -> String {
    if coloured { format!("\x1b[{}m{text}\x1b[0m", sgr(style)) } else { text.to_string() }
}

#[cfg(test)]
mod tests;
