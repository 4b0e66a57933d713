//! Where alerts come from: the journal, the judge's evaluation, and programs outside.

pub mod alertmanager;
pub mod intake;
pub mod journal;
pub mod standing;
