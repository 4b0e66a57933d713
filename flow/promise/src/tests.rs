//! Verdicts against stories with a known end, and against a model that counts seconds.

mod audit;
mod fold;
mod golden;
mod hostile;
mod model;
mod objectives;
mod offences;
mod random;
mod reaction;
mod requests;
mod restore;
mod scene;
mod section;
mod services;
mod specification;
mod stranger;
mod tomorrow;
mod truth;
