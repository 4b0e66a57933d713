//! The entries that verdicts rest on, typed.

use event::engine::ClockStepped;
use event::evidence::{Changed, Counted, Covered, Found, Reacted, Restored, Succeeded};
use event::policy::Applied;
use event::{Body, Envelope, Unreadable};

/// The body of an entry that a verdict may rest on. All are of public kinds, so every export has them.
#[derive(Clone, Debug)]
pub(crate) enum Fact {
    Applied(Box<Applied>),
    Changed(Changed),
    Covered(Covered),
    Succeeded(Succeeded),
    Found(Found),
    Reacted(Reacted),
    Restored(Restored),
    Counted(Counted),
    ClockStepped(ClockStepped),
}

fn read<B: Body>(envelope: &Envelope, fact: impl Fn(B) -> Fact) -> Result<Option<Fact>, Unreadable> {
    envelope.body::<B>().map(|body| body.map(fact)).transpose()
}

impl Fact {
    /// Reads the body of `envelope`; `None` when no verdict rests on its kind, or when its version is a later one.
    pub(crate) fn read(envelope: &Envelope) -> Result<Option<Self>, Unreadable> {
        match envelope.kind.as_str() {
            name if name == Covered::KIND.name => read(envelope, Self::Covered),
            name if name == Changed::KIND.name => read(envelope, Self::Changed),
            name if name == Succeeded::KIND.name => read(envelope, Self::Succeeded),
            name if name == Found::KIND.name => read(envelope, Self::Found),
            name if name == Reacted::KIND.name => read(envelope, Self::Reacted),
            name if name == Restored::KIND.name => read(envelope, Self::Restored),
            name if name == Counted::KIND.name => read(envelope, Self::Counted),
            name if name == ClockStepped::KIND.name => read(envelope, Self::ClockStepped),
            name if name == Applied::KIND.name => read(envelope, |applied| Self::Applied(Box::new(applied))),
            _ => Ok(None),
        }
    }
}
