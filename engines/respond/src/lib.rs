//! Respond: alerts, on-call schedules, notifications.

pub mod act;
pub mod people;

/// The name of the engine.
pub const NAME: &str = "respond";
