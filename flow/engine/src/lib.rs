//! What an engine is, what it is given, and who restarts it.
//!
//! **Problem.** A monitor that dies unnoticed reports a quiet night. One that panics and takes its neighbours along
//! reports nothing at all. And code that asks the operating system for the time can only be tested as slowly as time
//! passes.
//!
//! **Principle.** An [`Engine`] is a function from a [`Context`] to a future. The context holds everything outside of it:
//! [`clock`], [`random`]ness, [`net`]work, [`Programs`], [`Secrets`] and the [`Recorder`]. The [`Supervisor`] runs each
//! attempt as a task of its own, turns a panic into a value, takes silence for failure, restarts with a growing delay, and
//! writes all of it into the journal: what the engine did not see while it was away is *unproven*, and the journal says why.
//!
//! An engine that follows the journal reads a [`Feed`]; one that does the same again and again is a [`Reconcile`] in a
//! [`Driver`].
//!
//! Somebody outside reaches an engine at its [`door`], which is served for it, and by its [`Command`]s.
//!
//! What happens otherwise: engines that share locks die together; engines that are only restarted, and never counted as
//! blind, turn their own outages into the customer's good news.
//!
//! The main flow: a role makes a [`Context`], adds its engines to a [`Supervisor`], runs it until the stop token is
//! cancelled, then [flushes](Recorder::flush) the recorder. [`sim`] makes the same context without an outside world.
//!
//! What this crate does not know: any engine, what the policy says, promises, how to serve HTTP.

pub mod clock;
pub mod command;
mod context;
pub mod descriptors;
mod desired;
pub mod door;
mod failure;
mod feed;
pub mod heartbeat;
pub mod http;
pub mod memory;
pub mod metrics;
pub mod net;
pub mod printable;
mod private_key;
pub mod program;
mod progress;
pub mod random;
pub mod reason;
mod reconcile;
pub mod recorder;
mod secrets;
pub mod sim;
pub mod standing;
pub mod statement;
pub mod succession;
pub mod supervisor;

pub use command::{Command, CommandContext, Style, Watcher};
pub use context::{BoxFuture, Context, Engine, EngineError};
pub use desired::DesiredState;
pub use event::Clock;
pub use failure::Failure;
pub use feed::{Batch, Feed, FeedEntry};
pub use private_key::{PrivateKey, PrivateKeyError, SignatureKind};
pub use program::{Program, ProgramError, Programs};
pub use progress::Progress;
pub use random::Random;
pub use reconcile::{Driver, Reconcile};
pub use recorder::{EventNumber, RecordError, Recorded, Recorder};
pub use secrets::{OpenedSecret, SecretError, Secrets};
pub use supervisor::{Ended, EngineHealth, EngineState, HealthBoard, Supervisor};
pub use tokio_util::sync::CancellationToken;
