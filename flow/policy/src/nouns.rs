//! The nouns that all engines share, and the tables that belong to none of them.

mod journal;
mod people;
mod places;
mod publication;

use event::policy::{Applied, Text};

pub use journal::{JournalSettings, Origin, RetentionPeriods, VerifierKeyText, Witness};
pub use people::Person;
pub use places::{Host, Maintenance, Observer, Region, Service};
pub use publication::{Pages, Publication};

use crate::document::Document;
use crate::reference::SectionDoc;
use crate::table::{Section, Table};

impl Section for Text {
    const ABOUT: &'static str = "A text for customers, in the two languages of the pages.";
    const EXAMPLE: &'static str = "";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let fr = table.required("fr", "in French");
        let en = table.required("en", "in English");
        Some(Self { fr: fr?, en: en? })
    }
}

/// The nouns that all parts of a policy refer to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Nouns {
    /// Regions.
    pub regions: Vec<Region>,
    /// Machines.
    pub hosts: Vec<Host>,
    /// Services.
    pub services: Vec<Service>,
    /// People.
    pub people: Vec<Person>,
    /// Announced maintenance.
    pub maintenance: Vec<Maintenance>,
    /// Vantage points: at least one.
    pub observers: Vec<Observer>,
}

impl Nouns {
    /// Takes its tables out of the document. Entries with mistakes are left out, and [`Document::finish`] has the mistakes.
    pub fn read(document: &mut Document) -> Self {
        Self {
            regions: document.tables("region"),
            hosts: document.tables("host"),
            services: places::services(document),
            people: document.tables("person"),
            maintenance: document.tables("maintenance"),
            observers: places::observers(document),
        }
    }

    /// The chapters of `docs/policy.md` about these tables.
    pub fn reference() -> Vec<SectionDoc> {
        vec![
            SectionDoc::of::<Region>("region", true),
            SectionDoc::of::<Host>("host", true),
            SectionDoc::of::<Service>("service", true),
            SectionDoc::of::<Maintenance>("maintenance", true),
            SectionDoc::of::<Observer>("observer", true),
            SectionDoc::of::<Person>("person", true),
        ]
    }

    /// Adds what everybody may see of them: names that the team chose for the public, and no address, host or person.
    pub fn publish(&self, public: &mut Applied) {
        let service =
            |service: &Service| event::policy::Service { id: service.id.clone(), title: service.title.clone() };
        public.services.extend(self.services.iter().map(service));
        let window = |window: &Maintenance| event::policy::Maintenance {
            services: window.services.clone(),
            interval: window.interval,
            text: window.text.clone(),
        };
        public.maintenance.extend(self.maintenance.iter().map(window));
    }

    /// The declared tables that have no effect in this release.
    pub fn unused(&self) -> Vec<&'static str> {
        let declared = [("`region` of [[observer]]", self.observers.iter().any(|observer| observer.region.is_some()))];
        declared.into_iter().filter(|(_, is)| *is).map(|(what, _)| what).collect()
    }
}

/// The tables that every policy has, whatever engines there are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Basics {
    /// Whether the pages are public.
    pub publication: Publication,
    /// The journal.
    pub journal: JournalSettings,
    /// The pages.
    pub pages: Pages,
}

impl Basics {
    /// Takes its tables out of the document. `None` only after a mistake was reported.
    pub fn read(document: &mut Document) -> Option<Self> {
        let publication = document.top::<Publication>();
        let journal = journal::journal(document);
        let pages = publication::pages(document, publication.as_ref());
        Some(Self { publication: publication?, journal: journal?, pages: pages? })
    }

    /// The chapters of `docs/policy.md` about these tables.
    pub fn reference() -> Vec<SectionDoc> {
        vec![
            SectionDoc::top::<Publication>(),
            SectionDoc::of::<JournalSettings>("journal", false),
            SectionDoc::of::<Pages>("pages", false),
        ]
    }

    /// Keys that are read at the start only; see [`crate::Part::fixed`].
    pub fn fixed(&self) -> Vec<(&'static str, String)> {
        vec![
            ("name in [journal]", self.journal.name.to_string()),
            ("listen in [pages]", self.pages.listen.to_string()),
            ("public in [pages]", self.pages.public.map(|address| address.to_string()).unwrap_or_default()),
        ]
    }
}
