//! From signals to what is due: alerts, their groups, and what each person is owed.

pub mod alert;
pub mod desk;
pub mod places;
pub mod silence;
pub mod thread;

#[cfg(test)]
mod tests;
