//! Publication: whether the pages are public, and where they are served.

use std::net::SocketAddr;

use event::Zone;

use crate::address::{Address, Url};
use crate::document::Document;
use crate::mistake::Mistake;
use crate::table::{Section, Table};

/// Whether the promises are shown to everybody, and in which time zone people read times. A team looks at them in private first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Publication {
    /// Whether the promises are public.
    pub publish: bool,
    /// The zone of all times that people read.
    pub zone: Zone,
}

impl Section for Publication {
    const ABOUT: &'static str = "Two keys stand above all tables.";
    const EXAMPLE: &'static str = "publish = true\ntime_zone = \"Europe/Paris\"";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let publish =
            table.or("publish", false, "whether the public listener shows the promises, their verdicts and the log");
        let zone = table.or(
            "time_zone",
            Zone::UTC,
            "the time zone in which people read times: on the pages, in `garant status`, `check` and `log show`, on standard error; \
             what programs read stays in UTC",
        );
        Some(Self { publish, zone })
    }
}

/// Where the pages are served.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pages {
    /// Address of the team's listener, on this machine only.
    pub listen: SocketAddr,
    /// Address of the public listener.
    pub public: Option<SocketAddr>,
    /// URL of the public pages, which stands in the commands that check a proof.
    pub url: Option<Url>,
    /// Hosts under which the team's listener answers, beside those of this machine.
    pub team_hosts: Vec<Address>,
    /// Whether the public listener takes heartbeats before anything is published.
    pub pings: bool,
}

impl Default for Pages {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8480)),
            public: None,
            url: None,
            team_hosts: Vec::new(),
            pings: false,
        }
    }
}

impl Section for Pages {
    const ABOUT: &'static str = "Where the pages are served, both over plain HTTP. The team's listener has no login, so it stays on the \
        machine itself, and answers a request when the host that it names is `localhost`, a loopback address, or listed in \
        `team_hosts`: a page of the internet whose name was made to lead here is not. The public one answers only once \
        `publish = true`, and belongs behind a proxy that speaks TLS (`docs/running.md` has samples).";
    const EXAMPLE: &'static str = r#"
[pages]
listen = "127.0.0.1:8480"
public = "127.0.0.1:8481"
url = "https://trust.shop.example"
"#;

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let listen = table.or("listen", Self::default().listen, "the team's listener, on a loopback address");
        let public = table.optional("public", "the public listener, plain HTTP: the proxy in front of it speaks TLS");
        let url = table.optional("url", "where everybody finds the pages: stands in the commands that check a proof");
        let team_hosts = table.list(
            "team_hosts",
            "names and addresses under which the team's listener answers, beside `localhost` and the loopback addresses: such as \
             the name in a tunnel",
        );
        let pings = table.or(
            "pings",
            false,
            "whether the public listener takes heartbeats while `publish` is false; once it is true, it does in any case",
        );
        if !listen.ip().is_loopback() {
            let remedy = "write \"127.0.0.1:8480\" or \"[::1]:8480\", and reach it through an SSH tunnel";
            table.mistake(
                "listen",
                format!("{listen} is reachable from outside, and the team's pages have no login"),
                remedy,
            );
        }
        if public.is_some_and(|public: SocketAddr| collide(listen, public)) {
            table.mistake("public", "the same address as the team's listener", "give it another port");
        }
        Some(Self { listen, public, url, team_hosts, pings })
    }
}

/// Whether two listeners can't both have their address. Port 0 is any free one.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let same_ip = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.port() != 0 && same_ip
}

/// The pages; a policy that publishes says where.
pub(super) fn pages(document: &mut Document, publication: Option<&Publication>) -> Option<Pages> {
    let pages = document.table::<Pages>("pages");
    let publish = publication.is_some_and(|publication| publication.publish);
    if publish && !document.has("pages.url") && !document.is_broken() {
        let remedy = "add url = \"https://trust.shop.example\" to [pages]: the command that checks a proof names it";
        let place = document.place_of("publish");
        document.mistake(Mistake::new(place, "published, but nobody knows where", remedy));
    }
    if document.has("pages") { pages } else { Some(Pages::default()) }
}
