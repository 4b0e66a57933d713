//! `garant status`: what is up, which promises are kept, how garant itself is doing.

use std::process::ExitCode;

use clap::Args;
use engine::clock::SystemClock;
use engine::http::Request;
use engine::net::Net;
use event::Span;
use event::promise::Outcome;
use web::status::Reading;

use crate::cli::{DataArgument, runtime};
use crate::data::Running;
use crate::failure::Failure;
use crate::terminal::{Look, Terminal};

const WITHIN: Span = Span::from_secs(5);

#[derive(Args, Debug)]
pub(crate) struct Status {
    #[command(flatten)]
    data: DataArgument,

    /// Write what the running garant says, as JSON
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(crate) fn run(self, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        let running = Running::read(&self.data.data)?;
        let url = format!("{}api/status.json", running.team);
        let failed = |error: &(dyn std::error::Error + 'static)| {
            Failure::new(format!("process {} does not answer at {url}", running.pid))
                .because(error)
                .remedy("look at what it says on its standard error")
        };
        let body = runtime()?.block_on(async {
            let net = Net::new(&engine::net::Options::default(), std::sync::Arc::new(SystemClock))
                .map_err(|error| failed(&error))?;
            Request::get(url.clone())
                .within(WITHIN)
                .body_bytes_max(16 * 1024 * 1024)
                .send(&net)
                .await
                .map_err(|error| failed(&error))
        })?;
        if self.json {
            terminal.raw(&body.body);
            return Ok(ExitCode::SUCCESS);
        }
        let status: web::status::Status = serde_json::from_slice(&body.body).map_err(|error| failed(&error))?;
        tell(&status, &running, terminal);
        Ok(ExitCode::SUCCESS)
    }
}

/// The same for people.
fn tell(status: &web::status::Status, running: &Running, terminal: &mut Terminal) {
    let published = if status.publish { "published" } else { "not published" };
    terminal.line(format!("garant {}, process {}, {published}", status.version, running.pid));
    for service in &status.services {
        let look = match service.state {
            Reading::Up => Look::Good,
            Reading::Down => Look::Bad,
            Reading::Degraded | Reading::Unknown | Reading::Undecided => Look::Doubtful,
        };
        let word = terminal.painted(look, format!("{:9}", service.state.as_str()));
        let since = service.since.map(|since| format!(" since {since}")).unwrap_or_default();
        terminal.line(format!("  {word} {}{since}", service.service));
        for detail in &service.details {
            terminal.line(format!("            {detail}"));
        }
    }
    for promise in &status.promises {
        let (look, word) = match promise.outcome {
            Outcome::Kept => (Look::Good, "kept"),
            Outcome::Broken => (Look::Bad, "broken"),
            Outcome::Unproven => (Look::Doubtful, "unproven"),
        };
        let word = terminal.painted(look, format!("{word:9}"));
        terminal.line(format!("  {word} {}  {}", promise.promise, promise.text.en));
    }
    for engine in status.engines.iter().filter(|engine| !engine.healthy) {
        let word = terminal.painted(Look::Bad, format!("{:9}", engine.state));
        let why = engine.last_error.as_deref().unwrap_or_default();
        terminal.line(format!("  {word} engine {} (start {}) {why}", engine.engine, engine.attempts));
    }
    let journal = &status.journal;
    let shown = journal.published_size.map_or_else(|| "none published".to_owned(), |size| format!("{size} published"));
    terminal.line(format!("  log       {} entries, {shown}", journal.size));
    if let Some(fault) = &journal.fault {
        let word = terminal.painted(Look::Bad, "refusing");
        terminal.line(format!("  {word}  the journal takes no entries: {fault}"));
    }
}
