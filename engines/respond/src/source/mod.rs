//! Where alerts come from: the journal, the judge's evaluation, and programs outside.

pub mod alertmanager;
mod french;
pub mod intake;
pub mod journal;
pub mod standing;
