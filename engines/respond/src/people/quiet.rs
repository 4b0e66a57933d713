//! Quiet hours: when a person is told only of what can't wait.

use event::{Time, Zone};
use policy::{PersonName, Section, Table};

use super::clock::WallClock;
use super::window::{Window, cover_the_week, spans};

/// How many windows one person may have.
const WINDOWS_MAX: usize = 20;

/// The quiet hours of one person: parts of the week, by the clock of where they live.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QuietHours {
    clock: WallClock,
    windows: Vec<Window>,
}

impl QuietHours {
    /// Whether the person is not to be disturbed.
    pub fn is_quiet(&self, at: Time) -> bool {
        self.ends(at).is_some()
    }

    /// When the quiet hours end that the instant is in; nothing when it is in none.
    pub fn ends(&self, at: Time) -> Option<Time> {
        if self.windows.is_empty() {
            return None;
        }
        let today = self.clock.date(at);
        // A window is a week long at most, and several that follow each other leave something of the week out.
        let near = spans(&self.windows, &self.clock, today.plus(-15), today.plus(15));
        near.intervals().iter().find(|quiet| quiet.start <= at && at < quiet.end).map(|quiet| quiet.end)
    }
}

/// The hours of one `[[person]]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PersonHours {
    /// Whose they are.
    pub person: PersonName,
    /// The quiet ones.
    pub quiet: QuietHours,
    /// Whether the table names a zone of its own.
    has_zone: bool,
}

impl PersonHours {
    /// Where their clock is.
    pub const fn zone(&self) -> &Zone {
        self.quiet.clock.zone()
    }

    /// The same by the clock of `zone`, unless the person has one of their own.
    #[must_use]
    pub fn or_in(mut self, zone: &Zone) -> Self {
        if !self.has_zone {
            self.quiet.clock = WallClock::of(zone);
        }
        self
    }
}

impl Section for PersonHours {
    const ABOUT: &'static str = "When somebody of the team is not to be disturbed.";
    const EXAMPLE: &'static str = r#"
[[person]]
name = "Léa"
quiet = ["22:00-07:00", "Sat-Sun"]
time_zone = "Europe/Paris"
"#;

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let person = table.declare("name", "what the team calls them");
        let windows: Vec<Window> = table.list(
            "quiet",
            "parts of the week, by the clock on their wall, in which only what is critical is sent, and the rest waits for the end",
        );
        let zone: Option<Zone> =
            table.optional("time_zone", "where their clock is; absent, the zone at the top of the policy");
        if windows.len() > WINDOWS_MAX {
            table.mistake(
                "quiet",
                format!("more than {WINDOWS_MAX} parts of the week"),
                "join what follows each other",
            );
        }
        if cover_the_week(&windows) {
            table.mistake(
                "quiet",
                "quiet the whole week: nothing but the critical would ever be sent",
                "leave some hours out",
            );
        }
        let clock = WallClock::of(zone.as_ref().unwrap_or(&Zone::UTC));
        Some(Self { person: person?, quiet: QuietHours { clock, windows }, has_zone: zone.is_some() })
    }
}
