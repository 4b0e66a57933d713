//! DNS: a name has the records it should have. Its figure is the number of records.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use engine::net::{Deadline, RecordType, ResolveFailure, Resolver};
use policy::{Address, Section, Slot, Table, Value};

use crate::config::Common;
use crate::source::{Answer, Asking, Probe, Settings, reason};

/// Which records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Type(RecordType);

impl Value for Type {
    const SHAPE: &'static str = "\"A\", \"AAAA\", \"CNAME\", \"MX\", \"TXT\" or \"NS\"";
    const EXAMPLE: &'static str = "\"MX\"";

    fn read(slot: Slot<'_>) -> Option<Self> {
        let types =
            [RecordType::A, RecordType::AAAA, RecordType::CNAME, RecordType::MX, RecordType::TXT, RecordType::NS];
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
#[derive(Clone, Debug)]
pub struct Dns {
    common: Common,
    host: Address,
    records: Type,
    servers: Vec<SocketAddr>,
    expect: Vec<String>,
}

impl Section for Dns {
    const ABOUT: &'static str = "A name of the DNS that has records of a type, and among them the expected ones.";
    const EXAMPLE: &'static str = "[[probe.dns]]\nname = \"mail-exchanger\"\nservice = \"mail\"\nhost = \"shop.example\"\n\
        type = \"MX\"\nserver = \"192.0.2.53:53\"\nexpect = \"mx.shop.example.\"\n";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let common = Common::read_asked(table);
        let host: Option<Address> = table.required("host", "The name to ask for.");
        let records = table.or("type", Type(RecordType::A), "The type of its records.");
        let about =
            "Name servers to ask, each time anew. By default those of the system, whose answers may be a minute old.";
        let servers = table.list("server", about);
        let about = "Texts of which each must be part of some record, written as in a zone file: names end with a dot.";
        let expect = table.list("expect", about);
        if matches!(host, Some(Address::Ip(_))) {
            table.mistake("host", "an address has no records to ask for", "write a name, such as \"shop.example\"");
            return None;
        }
        Some(Self { common: common?, host: host?, records, servers, expect })
    }
}

impl Settings for Dns {
    fn common(&self) -> &Common {
        &self.common
    }

    fn into_probe(self) -> Arc<dyn Probe> {
        let target = self.servers.first().map(ToString::to_string);
        Arc::new(Name {
            target,
            host: self.host.to_string(),
            records: self.records.0,
            servers: self.servers,
            expect: self.expect,
            resolver: OnceLock::new(),
        })
    }
}

struct Name {
    target: Option<String>,
    host: String,
    records: RecordType,
    servers: Vec<SocketAddr>,
    expect: Vec<String>,
    /// Asks the servers; made by the first question, which comes from inside the runtime.
    resolver: OnceLock<Result<Resolver, String>>,
}

#[async_trait]
impl Probe for Name {
    async fn ask(&self, asking: &Asking<'_>) -> Answer {
        let resolver = if self.servers.is_empty() {
            asking.net.resolver()
        } else {
            let made = || Resolver::without_cache(&self.servers).map_err(|error| error.to_string());
            match self.resolver.get_or_init(made) {
                Ok(resolver) => resolver,
                Err(reason) => return Answer::unknown(format!("the name servers can't be asked: {reason}")),
            }
        };
        let records = match resolver.records(&self.host, self.records, Deadline::within(asking.timeout)).await {
            Ok(records) => records,
            // A server that is named here is what is watched: its silence is its outage.
            Err(error) if matches!(error.failure, ResolveFailure::Unreachable(_)) && !self.servers.is_empty() => {
                return Answer::down(error.to_string());
            }
            Err(error) => return reason::no_name(&error),
        };
        let missing: Vec<&str> = self
            .expect
            .iter()
            .filter(|expected| !records.iter().any(|record| record.contains(expected.as_str())))
            .map(String::as_str)
            .collect();
        let count = i64::try_from(records.len()).unwrap_or(i64::MAX);
        let answer = if missing.is_empty() {
            Answer::up(format!("{count} {} records", self.records))
        } else {
            Answer::down(format!(
                "no {} record holds {}; there are: {}",
                self.records,
                missing.join(", "),
                records.join(", ")
            ))
        };
        answer.with_value(count)
    }

    fn target(&self) -> Option<&str> {
        self.target.as_deref()
    }
}

#[cfg(test)]
mod tests;
