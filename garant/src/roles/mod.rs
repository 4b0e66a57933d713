//! What runs for long: the server's work (publish, judge, forget, show) and, through `watch`, the agent's.

pub(crate) mod server;
pub(crate) mod up;
