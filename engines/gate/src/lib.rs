//! The edge: HTTP from clients to the upstreams of sites, over regions, without losing a request that need not be lost.
//!
//! **Problem.** What stands in front of a site sees every request: what it reads in another way than the program behind is how
//! strangers get in, and what it does when a server, a region or itself is replaced is what customers call an outage. **Principle.**
//! Bytes are understood strictly and written anew ([`codec`], [`message`], [`heads`]); a request belongs to one task of one thread from
//! the first byte to the last ([`worker`], [`client`], [`exchange`]); what decides where it goes does no I/O ([`group`], [`health`]);
//! and whatever can be stretched has a bound.
//!
//! The engine runs in a process of its own, `garant gate`, with no right but that to bind low ports. It follows a desired state
//! ([`settings::Desired`]), and goes on with it while no server is there.
//!
//! The main flow: [`worker`] accepts, [`client`] reads one request after the other, [`plan`] says which site and group it is for,
//! [`exchange`] has an upstream answer it. [`run`] carries between them and the world; [`checks`] asks upstreams how they are.
//!
//! What is around a site: [`acme`] orders its certificate and [`tls`] shows it, [`hsts`] and [`hardening`] say what browsers are told,
//! [`bans`] who is let in nowhere, [`served`] how it was served, and [`observed`] and [`counting`] what that is evidence of.
//!
//! HTTP/1.1 and HTTP/2 on both sides ([`wire`], [`http2`]). A version brings a [`pump::Source`] and a [`pump::Sink`] for its bodies and fills a
//! [`message::Request`]; nothing above them knows how bytes were framed.

mod access_log;
mod acme;
mod bans;
mod checks;
mod claims;
mod client;
mod codec;
mod commands;
mod config;
mod count;
mod counting;
mod customers;
mod decisions;
pub mod development;
mod door;
mod downstream;
mod events;
mod exchange;
mod figures;
mod file;
mod group;
mod hardening;
mod heads;
mod health;
mod hsts;
mod http2;
mod message;
mod meter;
mod observed;
mod peer;
mod plan;
mod pool;
mod ports;
mod proxy_protocol;
mod pump;
mod run;
mod served;
pub mod settings;
mod status;
mod stay;
mod stream;
mod succession;
mod tally;
mod tls;
mod trailers;
mod tunnel;
mod websocket;
mod wire;
mod worker;

pub use commands::commands;
pub use config::{Config, Process};
pub use events::KINDS;
pub use figures::{FIGURES, Figures};
pub use run::{GateEngine, STOPS_WITHIN};

/// Name of the engine.
pub const NAME: &str = "gate";
