//! Two sections as other crates write them, and policies that use them.

use event::policy::{Agreement, Text};
use event::{Ppb, ProbeId, PromiseId, ServiceId, Span, VantageId};

use crate::{PersonName, Private, Section, Table, Url};

#[derive(PartialEq, Debug)]
pub(super) struct Probe {
    pub(super) id: ProbeId,
    pub(super) service: ServiceId,
    pub(super) url: Url,
    pub(super) every: Span,
    pub(super) statuses: Vec<u16>,
    pub(super) from: Vec<VantageId>,
    pub(super) agreement: Option<Agreement>,
}

impl Section for Probe {
    const ABOUT: &'static str = "Asks a URL and looks at the answer.";
    const EXAMPLE: &'static str = r#"
[[probe.http]]
service = "shop"
url = "https://shop.example/health"
every = "10 s"
from = ["gravelines", "strasbourg"]
"#;

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let service: Option<ServiceId> = table.required("service", "whose state it tells");
        let default = service.as_ref().and_then(|service| format!("{service}-http").parse().ok());
        let id = table.declare_or("name", default, "service-http", "what others call it");
        let url = table.required("url", "what is asked");
        let range = Span::from_secs(1)..=Span::from_days(1);
        let every = table.or_in("every", Span::from_secs(10), &range, "how often");
        let statuses = table.list("status", "the statuses that are right; 200 | 204 when absent");
        let from = table.list("from", "who asks; everybody when absent");
        let agreement = table.optional("agreement", "how many must see it down");
        Some(Self { id: id?, service: service?, url: url?, every, statuses, from, agreement })
    }
}

#[derive(PartialEq, Debug)]
pub(super) struct Promise {
    pub(super) id: PromiseId,
    pub(super) text: Text,
    pub(super) availability: Vec<Availability>,
}

impl Section for Promise {
    const ABOUT: &'static str = "A sentence that customers may hold us to.";
    const EXAMPLE: &'static str = r#"
[[promise]]
id = "AV-1"
text.fr = "Le service est disponible 99,99 % du temps."
text.en = "The service is available 99.99 % of the time."
availability = { service = "shop", at_least = "99.99 %", over = ["180 d", "365 d"] }
"#;

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let id = table.declare("id", "its id");
        let text = table.required("text", "the sentence");
        let availability = table.list("availability", "the share of time that a service is up");
        Some(Self { id: id?, text: text?, availability })
    }
}

#[derive(PartialEq, Debug)]
pub(super) struct Availability {
    pub(super) service: ServiceId,
    pub(super) at_least: Ppb,
    pub(super) over: Vec<Span>,
}

impl Section for Availability {
    const ABOUT: &'static str = "A share of time.";
    const EXAMPLE: &'static str = "";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let service = table.required("service", "which service");
        let at_least = table.required("at_least", "the share promised");
        let over = table.required_list("over", "the windows");
        Some(Self { service: service?, at_least: at_least?, over: over? })
    }
}

/// How a person is reached: keys of a table that another reader has too.
#[derive(Debug)]
pub(super) struct Reached;

impl Section for Reached {
    const ABOUT: &'static str = "How a person is reached.";
    const EXAMPLE: &'static str = "";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let name: Option<PersonName> = table.required("name", "who");
        let channels: Option<Vec<Channel>> = table.required_list("channel", "how they are reached");
        name.and(channels).map(|_| Self)
    }
}

#[derive(Debug)]
struct Channel;

impl Section for Channel {
    const ABOUT: &'static str = "One way.";
    const EXAMPLE: &'static str = "";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let mail: Option<Private<String>> = table.optional("mail", "an address");
        let sms: Option<Private<String>> = table.optional("sms", "a number");
        if mail.is_none() && sms.is_none() && !table.has("mail") && !table.has("sms") {
            table.mistake("", "a channel without an address", "write { mail = \"…\" } or { sms = \"…\" }");
        }
        mail.or(sms).map(|_| Self)
    }
}

/// Every table and every key.
pub(super) const POLICY: &str = r#"publish = true

[journal]
name = "shop.example"
remember = ["/mnt/elsewhere/garant.head"]
retention = { evidence = "1100 d", audit = "90 d" }
witness = [{ name = "friend", url = "https://witness.example", vkey = "witness.example+4f2c1b0a+BHfQ6v4cCzJ5rK0kxmyyTzmJqF3vJmQ0b6mEo3hFhXkA" }]

[pages]
listen = "127.0.0.1:8480"
public = "0.0.0.0:8443"
url = "https://trust.shop.example"

[[region]]
name = "gravelines"
provider = "ovh"

[[host]]
name = "web-1"
region = "gravelines"
groups = ["web", "paris"]

[[service]]
name = "database"
host = "web-1"
region = "gravelines"

[[service]]
name = "shop"
title.fr = "La boutique"
title.en = "The shop"
depends_on = ["database"]

[[observer]]
name = "gravelines"
region = "gravelines"

[[person]]
name = "Léa"
channel = [{ mail = "lea@shop.example" }, { sms = "+33600000000" }]

[[maintenance]]
services = "shop"
from = 2026-12-01T02:00:00+01:00
to = "2026-12-01T04:00:00+01:00"
text.fr = "Mise à jour."
text.en = "Upgrade."

[[probe.http]]
service = "shop"
name = "shop-health"
url = "https://shop.example/health?deep=1"
every = "10s"
status = [200, 204]
from = ["gravelines"]
agreement = "any"

[[promise]]
id = "AV-1"
text.fr = "Le service est disponible 99,99 % du temps."
text.en = "The service is available 99.99 % of the time."
availability = { service = "shop", at_least = "99.99 %", over = ["180 d", "365 d"] }
"#;

/// Ten mistakes, each of another kind.
pub(super) const TEN_MISTAKES: &str = r#"# A policy written in a hurry.
[[service]]
name = "shop"
depends_on = ["database"]

[[service]]
name = "database"
depends_on = "shop"

[[service]]
name = "shop"

[[probe.http]]
service = "shpo"
url = "https://léa:secret@shop.example/health"
evry = "10 s"
status = ["200"]

[[probe.http]]
name = "slow"
service = "shop"
every = "2 w"

[[promise]]
id = "AV-1"
text.fr = "Le service est disponible 99,99 % du temps."
text.en = "The service is available 99.99 % of the time."
availability = { service = "shop", at_least = "99.99", over = [180 d] }

[[prob.http]]
publish = true

[journal]
name = "shop.example"
"#;
