//! DNS: a name has the records it should have. Its figure is the number of records.
//!
//! A name server that the policy names is what is watched. That it answers with an alias (CNAME) for a name in the zone of
//! somebody else is an answer, and a good one unless the policy expects records: it is not followed to servers that the policy
//! does not name.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use engine::net::{Deadline, RecordType, ResolveFailure, Resolved, Resolver, printable};
use engine::reason::Reason;
use policy::{Address, Section, Slot, Table, Value};

use crate::source::{Answer, Asking, Common, Probe, Settings, reason};

/// Most records that a message tells.
const RECORDS_TOLD_MAX: usize = 8;

/// Which records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Type(RecordType);

impl Value for Type {
    const SHAPE: &'static str = "a type of DNS records, such as \"A\", \"AAAA\", \"CNAME\", \"MX\", \"TXT\", \"NS\", \"SOA\", \"SRV\", \"CAA\" or \"PTR\"";
    const EXAMPLE: &'static str = "\"MX\"";

    fn read(slot: Slot<'_>) -> Option<Self> {
        use RecordType as R;
        let types = [R::A, R::AAAA, R::CNAME, R::MX, R::TXT, R::NS, R::SOA, R::SRV, R::CAA, R::PTR];
        let names = types.map(|record_type| record_type.to_string());
        let words: Vec<_> =
            names.iter().zip(types).map(|(name, record_type)| (name.as_str(), Self(record_type))).collect();
        slot.choose(&words)
    }
}

impl std::fmt::Display for Type {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// `[[probe.dns]]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Dns {
    common: Common,
    domain: Address,
    records: Type,
    servers: Vec<SocketAddr>,
    expect: Vec<String>,
}

impl Section for Dns {
    const ABOUT: &'static str = "A name of the DNS that has records of a type, and among them the expected ones.";
    const EXAMPLE: &'static str = "[[probe.dns]]\nname = \"mail-exchanger\"\nservice = \"mail\"\ndomain = \"shop.example\"\n\
        type = \"MX\"\nserver = \"192.0.2.53:53\"\nexpect = \"mx.shop.example.\"\n";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let common = Common::read_asked(table);
        let domain: Option<Address> = table.required("domain", "The name to ask for.");
        let records = table.or("type", Type(RecordType::A), "The type of its records.");
        let about = "Name servers to ask. By default those of the system.";
        let servers = table.list("server", about);
        let about = "What must be among the records: addresses, names, those of mail exchangers (MX) and of servers (SRV) \
            with or without the numbers before them, each as a whole; for TXT, CAA and SOA, texts of which each must be part of \
            some record.";
        let expect: Vec<String> = table.list("expect", about);
        if let Some(wrong) = expect.iter().find(|expected| Expected::read(expected, records.0).is_none()) {
            let reason = format!("`{wrong}` can't be the value of a record of type {records}");
            table.mistake("expect", reason, "write the whole value: an address for A and AAAA");
        }
        if matches!(domain, Some(Address::Ip(_))) && records.0 != RecordType::PTR {
            let remedy = "write a name, such as \"shop.example\"; only PTR is asked of an address";
            table.mistake("domain", "an address has no records to ask for", remedy);
            return None;
        }
        Some(Self { common: common?, domain: domain?, records, servers, expect })
    }
}

impl Settings for Dns {
    fn common(&self) -> &Common {
        &self.common
    }

    fn into_probe(self: Arc<Self>) -> Arc<dyn Probe> {
        let settings = Arc::unwrap_or_clone(self);
        let target = settings.servers.first().map(ToString::to_string);
        let expect =
            settings.expect.iter().filter_map(|expected| Expected::read(expected, settings.records.0)).collect();
        Arc::new(Name {
            target,
            domain: match &settings.domain {
                Address::Ip(address) => engine::net::reverse_name(*address),
                Address::Name(name) => name.clone(),
            },
            records: settings.records.0,
            servers: settings.servers,
            expect,
            resolver: OnceLock::new(),
        })
    }
}

/// A value that must be there.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Expected {
    Address(IpAddr),
    /// A name in lower case, without the dot at its end.
    Name(String),
    /// Part of a text.
    Part(String),
}

impl Expected {
    fn read(text: &str, records: RecordType) -> Option<Self> {
        match records {
            RecordType::A => text.parse().ok().map(|address| Self::Address(IpAddr::V4(address))),
            RecordType::AAAA => text.parse().ok().map(|address| Self::Address(IpAddr::V6(address))),
            RecordType::TXT | RecordType::CAA | RecordType::SOA => Some(Self::Part(text.to_owned())),
            _ => Some(Self::Name(plain(text))),
        }
    }

    /// Whether a record, as a zone file writes it, has this value. `192.0.2.1` is not in `192.0.2.10`.
    fn is_in(&self, record: &str) -> bool {
        match self {
            Self::Address(address) => record.parse() == Ok(*address),
            // Of a mail exchanger, `10 mx.shop.example.`, the preference may be left out, and so may the numbers of a server.
            Self::Name(name) => {
                plain(record).strip_suffix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with(' '))
            }
            Self::Part(part) => record.contains(part.as_str()),
        }
    }
}

impl std::fmt::Display for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Name(text) | Self::Part(text) => f.write_str(text),
        }
    }
}

/// Names of the DNS are the same in any case, and with or without the dot that says that they are whole.
fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

struct Name {
    target: Option<String>,
    domain: String,
    records: RecordType,
    servers: Vec<SocketAddr>,
    expect: Vec<Expected>,
    /// Asks the servers; made by the first question, which comes from inside the runtime.
    resolver: OnceLock<Result<Resolver, String>>,
}

impl Name {
    /// Who answered what.
    fn says(&self, found: &Resolved) -> String {
        let who = found.server.map_or_else(|| "the answer is".to_owned(), |server| format!("{server} answers"));
        if let Some(alias) = &found.alias {
            let (domain, alias, records) = (&self.domain, printable(alias), self.records);
            return format!("{who} NOERROR: `{domain}` is an alias (CNAME) for `{alias}`, and no {records} record");
        }
        let told = found.records.iter().take(RECORDS_TOLD_MAX).map(|record| printable(record));
        let more = if found.records.len() > RECORDS_TOLD_MAX { ", …" } else { "" };
        let told = told.collect::<Vec<_>>().join(", ");
        let (count, plural) = (found.records.len(), if found.records.len() == 1 { "" } else { "s" });
        format!("{who} NOERROR, {count} {} record{plural}: {told}{more}", self.records)
    }
}

#[async_trait]
impl Probe for Name {
    async fn ask(&self, asking: &Asking<'_>) -> Answer {
        let resolver = if self.servers.is_empty() {
            asking.net.resolver()
        } else {
            let made = || Resolver::watching(&self.servers).map_err(|error| error.to_string());
            match self.resolver.get_or_init(made) {
                Ok(resolver) => resolver,
                Err(reason) => return Answer::unknown(format!("the name servers can't be asked: {reason}")),
            }
        };
        let found = match resolver.records(&self.domain, self.records, Deadline::within(asking.timeout)).await {
            Ok(found) => found,
            // A server that is named here is what is watched: its silence is its outage.
            Err(error) if matches!(error.failure, ResolveFailure::Unreachable(_)) && !self.servers.is_empty() => {
                return Answer::down(error.to_string()).because(vec![Reason::of_name(&error)]);
            }
            Err(error) => return reason::no_name(&error),
        };
        let missing: Vec<String> = self
            .expect
            .iter()
            .filter(|expected| !found.records.iter().any(|record| expected.is_in(record)))
            .map(ToString::to_string)
            .collect();
        let count = i64::try_from(found.records.len()).unwrap_or(i64::MAX);
        let says = self.says(&found);
        let answer = if missing.is_empty() {
            Answer::up(says)
        } else {
            Answer::down(format!("no {} record holds {}; {says}", self.records, missing.join(", ")))
                .because(vec![Reason::record_missing(&self.records, &missing)])
        };
        answer.with_value(count)
    }

    fn target(&self) -> Option<&str> {
        self.target.as_deref()
    }
}

#[cfg(test)]
mod tests;
