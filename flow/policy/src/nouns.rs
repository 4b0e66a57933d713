//! The nouns that all engines share, and the tables that belong to none of them.

mod journal;
mod people;
mod places;
mod publication;

use event::policy::Text;

pub use journal::{Journal, Origin, RetentionPeriods, VerifierKey, Witness};
pub use people::{Channel, Person};
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

/// Everything in a policy that belongs to no engine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shared {
    /// Whether the pages are for everybody.
    pub publication: Publication,
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
    /// The journal.
    pub journal: Journal,
    /// The pages.
    pub pages: Pages,
}

impl Shared {
    /// Takes its tables out of the document. `None` only after a mistake was reported; the mistakes of single entries
    /// leave them out of the result, and [`Document::finish`] has them all.
    pub fn read(document: &mut Document) -> Option<Self> {
        let publication = document.top::<Publication>();
        let regions = document.tables("region");
        let hosts = document.tables("host");
        let services = places::services(document);
        let people = document.tables("person");
        let maintenance = document.tables("maintenance");
        let observers = places::observers(document);
        let journal = journal::journal(document);
        let pages = publication::pages(document, publication.as_ref());
        Some(Self {
            publication: publication?,
            regions,
            hosts,
            services,
            people,
            maintenance,
            observers,
            journal: journal?,
            pages: pages?,
        })
    }

    /// The chapters of `docs/policy.md` about these tables.
    pub fn reference() -> Vec<SectionDoc> {
        vec![
            SectionDoc::top::<Publication>(),
            SectionDoc::of::<Journal>("journal", false),
            SectionDoc::of::<Pages>("pages", false),
            SectionDoc::of::<Region>("region", true),
            SectionDoc::of::<Host>("host", true),
            SectionDoc::of::<Service>("service", true),
            SectionDoc::of::<Maintenance>("maintenance", true),
            SectionDoc::of::<Observer>("observer", true),
            SectionDoc::of::<Person>("person", true),
        ]
    }
}
