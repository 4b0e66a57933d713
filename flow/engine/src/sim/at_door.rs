//! The context of a command that asks a door directly, without a process and a socket between.

use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use event::{Time, Zone};
use tokio::runtime;

use super::lock;
use crate::command::{Answer, CommandContext, JudgedPolicy, Question, Style, Watcher};
use crate::door::{self, Door, Reply};
use crate::{BoxFuture, Command, Context, Failure};

/// A command beside a door, as if garant ran: what it asks is answered by the door, what it prints is kept. The team token is
/// taken for right; a page is answered by its heading in English.
///
/// A question waits for the door on a thread of its own, so that a test may run a command inside a runtime of tokio.
pub struct AtDoor {
    /// The door. Without one no garant runs.
    pub door: Option<Arc<dyn Door>>,
    /// The time, of the command and of its calls.
    pub now: Time,
    /// The zone of the policy.
    pub zone: Zone,
    /// Lines of the result, plain.
    pub lines: Vec<String>,
    notes: Mutex<Vec<String>>,
}

impl AtDoor {
    /// A command that asks this door.
    pub fn new(door: Arc<dyn Door>, now: Time) -> Self {
        Self { door: Some(door), now, zone: Zone::default(), lines: Vec::new(), notes: Mutex::default() }
    }

    /// Runs `command` with these arguments, the name of the command first; the lines of its result are added to
    /// [`lines`](Self::lines).
    ///
    /// # Errors
    /// The arguments are wrong, or what the command fails with.
    pub fn run(&mut self, command: Command, arguments: &[&str]) -> Result<u8, Failure> {
        let matches = command
            .arguments
            .try_get_matches_from(arguments)
            .map_err(|error| Failure::new("the arguments are wrong").because(&error).code(2))?;
        (command.run)(&matches, self)
    }

    /// What was printed on standard error.
    pub fn notes(&self) -> Vec<String> {
        lock(&self.notes).clone()
    }

    fn running(&self) -> Result<Arc<dyn Door>, Failure> {
        self.door.clone().ok_or_else(|| Failure::new("no garant runs"))
    }
}

impl CommandContext for AtDoor {
    fn ask(&self, question: Question) -> Result<Answer, Failure> {
        let door = self.running()?;
        let Some(call) = door::call_of(door.as_ref(), &question, self.now) else {
            return Ok(Answer { status: 404, body: Bytes::new() });
        };
        let reply = std::thread::scope(|scope| {
            let asking = match runtime::Handle::try_current() {
                Ok(handle) => scope.spawn(move || Ok(handle.block_on(door.call(call)))),
                Err(_none) => scope.spawn(move || {
                    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
                    Ok(runtime.block_on(door.call(call)))
                }),
            };
            asking.join()
        });
        let reply: std::io::Result<Reply> = reply.map_err(|_| Failure::new("the door panicked"))?;
        let reply = reply.map_err(|error| Failure::new("the asynchronous runtime can't be started").because(&error))?;
        let status = reply.status();
        let body = match reply {
            Reply::Json(_, body) => body,
            Reply::Text(_, text) | Reply::Calendar(text) => text.into_bytes(),
            Reply::DoorPage(_, shown) => shown.title.en.into_bytes(),
            Reply::Refused(_) => Vec::new(),
        };
        Ok(Answer { status, body: body.into() })
    }

    fn ask_agent(&self, _socket: Option<&Path>, question: Question) -> Result<Answer, Failure> {
        self.ask(question)
    }

    fn ask_gate(&self, _socket: Option<&Path>, question: Question) -> Result<Answer, Failure> {
        self.ask(question)
    }

    fn zone(&self) -> Result<Zone, Failure> {
        self.running().map(|_| self.zone.clone())
    }

    fn now(&self) -> Time {
        self.now
    }

    fn painted(&self, _style: Style, text: &str) -> String {
        text.to_owned()
    }

    fn line(&mut self, text: &str) {
        self.lines.push(text.to_owned());
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.lines.push(String::from_utf8_lossy(bytes).into_owned());
    }

    fn json(&mut self, value: &serde_json::Value) {
        self.lines.push(value.to_string());
    }

    fn note(&self, text: &str) {
        lock(&self.notes).push(text.to_owned());
    }

    fn means(&self) -> Result<Context, Failure> {
        let observer = "server.command".parse().map_err(|error: event::BadName| Failure::new(error.to_string()))?;
        let failed = |error| Failure::new("there is no network").because(&error);
        super::World::at(self.now).context(observer).map_err(failed)
    }

    fn wait(&self, work: BoxFuture<'_, ()>) -> Result<(), Failure> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        runtime
            .map_err(|error| Failure::new("the asynchronous runtime can't be started").because(&error))?
            .block_on(work);
        Ok(())
    }

    fn watcher(&self) -> Arc<dyn Watcher> {
        Arc::new(())
    }

    fn counter(&self) -> Arc<dyn Watcher> {
        Arc::new(())
    }

    fn prompts(&self) -> bool {
        false
    }

    fn prompt(&self, _question: &str) -> Option<String> {
        None
    }

    fn judge(&self, _policy: &Path, _text: &str) -> Result<JudgedPolicy, Failure> {
        Err(Failure::new("beside a door there is no policy"))
    }

    fn reload(&self, _policy: &Path) -> Result<bool, Failure> {
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use clap::{Arg, ArgMatches};

    use super::*;
    use crate::BoxFuture;
    use crate::door::{Access, Call, Listeners, Method, Mount};

    struct Echo;

    impl Door for Echo {
        fn mounts(&self) -> &'static [Mount] {
            &[Mount {
                prefix: "/api/v1/echo",
                listeners: Listeners::Team,
                access: Access::TeamToken,
                methods: &[Method::Get, Method::Post],
                body_bytes_max: 8,
            }]
        }

        fn call(&self, call: Call) -> BoxFuture<'_, Reply> {
            Box::pin(async move {
                tokio::task::yield_now().await;
                match call.segments()[..] {
                    ["gone"] => Reply::error(404, "it is gone"),
                    _ => Reply::json(&(call.path, call.query, call.at)),
                }
            })
        }
    }

    fn command() -> Command {
        fn run(arguments: &ArgMatches, context: &mut dyn CommandContext) -> Result<u8, Failure> {
            let what = arguments.get_one::<String>("what").map_or("", String::as_str);
            let answer = context.ask(Question::get("/api/v1/echo").segment(what).parameter("q", "é"))?;
            context.json(&answer.accepted("nothing came back")?.json()?);
            context.note("that was it");
            Ok(0)
        }
        Command { arguments: clap::Command::new("echo").arg(Arg::new("what").required(true)), run }
    }

    fn asked() {
        let mut context = AtDoor::new(Arc::new(Echo), Time::from_secs(60));
        assert_eq!(context.run(command(), &["echo", "a/b ü"]).expect("it is there"), 0);
        assert_eq!(context.lines, [r#"[["a/b ü"],[["q","é"]],60000000]"#]);
        assert_eq!(context.notes(), ["that was it"]);
        let failure = context.run(command(), &["echo", "gone"]).expect_err("refused");
        assert_eq!(failure.to_string(), "nothing came back: it is gone");
        assert_eq!(context.run(command(), &["echo"]).expect_err("no argument").exit_code(), 2);
        for question in [
            Question::new(Method::Delete, "/api/v1/echo"),
            Question::get("/api/v1/echoes"),
            Question::post("/api/v1/echo").json(&"longer than that").expect("JSON"),
        ] {
            assert_eq!(context.ask(question.clone()).expect("an answer").status, 404, "{question:?}");
        }
        context.door = None;
        assert!(context.run(command(), &["echo", "x"]).is_err() && context.zone().is_err());
    }

    /// Commands are synchronous; what a test made in a runtime may be asked by them all the same.
    #[test]
    fn a_command_is_run_without_a_process() {
        asked();
        runtime::Builder::new_current_thread().build().expect("a runtime").block_on(async { asked() });
    }
}
