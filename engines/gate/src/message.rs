//! Requests and replies as all that decides sees them, whatever version of HTTP carried them.
//!
//! A version brings its own framing, and leaves it at the door: here a body is there or not, and of a known length or not. So what
//! picks a site, strips fields and judges replies is written once.

use std::ops::Range;

use crate::claims::is_claim;
use crate::codec::refusal::Refusal;

/// Fields of one message, in order, in one piece of memory that is used again for the next.
#[derive(Default, Debug)]
pub(crate) struct Fields {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    known: Name,
    name: (u32, u32),
    value: (u32, u32),
}

/// A field name that decides something; all the others are [`Name::Other`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Name {
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    Upgrade,
    Expect,
    Cookie,
    Date,
    Referer,
    UserAgent,
    ContentType,
    Te,
    /// Whom a request has passed (RFC 8586).
    CdnLoop,
    /// Of one hop (RFC 9110, section 7.6.1), besides those above.
    Hop,
    /// What proxies say of a client: never believed, said anew.
    Claim,
    Other,
}

/// A field of one hop, or of framing, in small letters.
const NAMES: [(&str, Name); 19] = [
    ("host", Name::Host),
    ("content-length", Name::ContentLength),
    ("transfer-encoding", Name::TransferEncoding),
    ("connection", Name::Connection),
    ("upgrade", Name::Upgrade),
    ("expect", Name::Expect),
    ("cookie", Name::Cookie),
    ("date", Name::Date),
    ("referer", Name::Referer),
    ("user-agent", Name::UserAgent),
    ("content-type", Name::ContentType),
    ("keep-alive", Name::Hop),
    ("proxy-connection", Name::Hop),
    ("proxy-authenticate", Name::Hop),
    ("proxy-authorization", Name::Hop),
    ("te", Name::Te),
    ("trailer", Name::Hop),
    ("http2-settings", Name::Hop),
    ("cdn-loop", Name::CdnLoop),
];

impl Name {
    /// What this name is, in any case of letters.
    pub(crate) fn of(name: &[u8]) -> Self {
        // Most fields are told apart by their length and first letter.
        let first = name.first().map_or(0, u8::to_ascii_lowercase);
        let same = |known: &str| {
            known.len() == name.len()
                && known.as_bytes().first() == Some(&first)
                && name.eq_ignore_ascii_case(known.as_bytes())
        };
        let otherwise = || if is_claim(name) { Self::Claim } else { Self::Other };
        NAMES.iter().find(|(known, _)| same(known)).map_or_else(otherwise, |(_, name)| *name)
    }
}

/// A field.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field<'f> {
    pub(crate) known: Name,
    pub(crate) name: &'f [u8],
    pub(crate) value: &'f [u8],
}

impl Fields {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
    }

    pub(crate) const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of all names and values.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn push(&mut self, name: &[u8], value: &[u8]) -> Name {
        let known = Name::of(name);
        let mut put = |part: &[u8]| {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(part);
            // Heads are bounded far below 4 GiB.
            (u32::try_from(start).unwrap_or(u32::MAX), u32::try_from(self.bytes.len()).unwrap_or(u32::MAX))
        };
        let entry = Entry { known, name: put(name), value: put(value) };
        self.entries.push(entry);
        known
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Field<'_>> {
        let part = |(start, end): (u32, u32)| -> &[u8] {
            let range: Range<usize> = start as usize..end as usize;
            self.bytes.get(range).unwrap_or_default()
        };
        self.entries.iter().map(move |entry| Field {
            known: entry.known,
            name: part(entry.name),
            value: part(entry.value),
        })
    }

    /// Values of a field that decides something.
    pub(crate) fn known(&self, name: Name) -> impl Iterator<Item = &[u8]> {
        self.iter().filter(move |field| field.known == name).map(|field| field.value)
    }

    /// The value of a field that is there once.
    pub(crate) fn first(&self, name: Name) -> Option<&[u8]> {
        self.known(name).next()
    }

    /// Elements of the lists of a field (RFC 9110, section 5.6.1), without empty ones.
    pub(crate) fn elements(&self, name: Name) -> impl Iterator<Item = &[u8]> {
        let values = self.known(name).flat_map(|value| value.split(|byte| *byte == b','));
        values.map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
    }

    /// Whether the lists of a field have an element, in any case of letters.
    pub(crate) fn has_element(&self, name: Name, element: &str) -> bool {
        self.elements(name).any(|found| found.eq_ignore_ascii_case(element.as_bytes()))
    }

    /// The value of a cookie (RFC 6265, section 5.4).
    pub(crate) fn cookie(&self, name: &str) -> Option<&[u8]> {
        let pairs = self.known(Name::Cookie).flat_map(|value| value.split(|byte| *byte == b';'));
        pairs.map(<[u8]>::trim_ascii).find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
    }
}

/// How a body is delimited, as far as anybody but the codec cares.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) enum Length {
    /// There is none.
    #[default]
    None,
    /// Of so many bytes.
    Known(u64),
    /// It ends when its version of HTTP says so.
    Unknown,
}

impl Length {
    pub(crate) const fn has_body(self) -> bool {
        !matches!(self, Self::None | Self::Known(0))
    }
}

/// The version of HTTP in which a client speaks.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) enum Version {
    Http10,
    #[default]
    Http11,
    Http2,
}

impl Version {
    /// Whether a body of unknown length has an end that the connection outlives.
    pub(crate) const fn has_chunks(self) -> bool {
        !matches!(self, Self::Http10)
    }

    /// As it is logged.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2.0",
        }
    }
}

/// The head of a request.
#[derive(Default, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query as they came.
    pub(crate) target: String,
    /// Host in small letters, without a port.
    pub(crate) host: String,
    /// Port, where the client named one.
    pub(crate) port: Option<u16>,
    pub(crate) fields: Fields,
    pub(crate) length: Length,
    /// The client wants to switch to WebSocket.
    pub(crate) upgrades: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub(crate) expects: bool,
    /// The client may send another request on the connection.
    pub(crate) keeps: bool,
    pub(crate) version: Version,
}

impl Request {
    pub(crate) fn clear(&mut self) {
        self.method.clear();
        self.target.clear();
        self.host.clear();
        self.port = None;
        self.fields.clear();
        (self.length, self.upgrades, self.expects) = (Length::None, false, false);
        (self.keeps, self.version) = (false, Version::Http11);
    }

    /// Whether it is a call of gRPC: both sides may be silent for long while they work, and neither is slow for that.
    pub(crate) fn is_grpc(&self) -> bool {
        let is_of = |kind: &[u8]| kind.get(..16).is_some_and(|kind| kind.eq_ignore_ascii_case(b"application/grpc"));
        self.fields.first(Name::ContentType).is_some_and(is_of)
    }

    /// Whether the client keeps apart what comes behind the body of a reply (RFC 9110, section 10.1.4).
    pub(crate) fn wants_trailers(&self) -> bool {
        self.version.has_chunks() && self.fields.has_element(Name::Te, "trailers")
    }

    /// Whether sending it twice is the same as sending it once (RFC 9110, section 9.2.2). The handshake of a WebSocket is a GET: what
    /// comes of it begins with the reply.
    pub(crate) fn is_idempotent(&self) -> bool {
        matches!(self.method.as_str(), "GET" | "HEAD" | "OPTIONS" | "PUT" | "DELETE")
    }
}

/// The head of a reply.
#[derive(Default, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Words after the status; whatever the upstream wrote.
    pub(crate) reason: String,
    pub(crate) fields: Fields,
    pub(crate) length: Length,
    /// The upstream takes another request on the connection.
    pub(crate) keeps: bool,
    /// It answers in the words of HTTP/1.1.
    pub(crate) is_1_1: bool,
}

impl Reply {
    pub(crate) fn clear(&mut self) {
        self.status = 0;
        self.reason.clear();
        self.fields.clear();
        (self.length, self.keeps, self.is_1_1) = (Length::None, false, false);
    }
}

impl Fields {
    /// The fields of a request that are passed on: not those of one hop, of framing or named by `Connection`, nor who the client claims to be.
    /// A name with `_` is dropped: programs behind (CGI, PHP) read `_` and `-` alike, and whatever was stripped under one name would
    /// come in by the other.
    pub(crate) fn passed_on(&self) -> impl Iterator<Item = Field<'_>> {
        self.of_all_hops().filter(|field| field.known != Name::Claim && !field.name.contains(&b'_'))
    }

    /// The fields that are not of one hop, nor of framing.
    pub(crate) fn of_all_hops(&self) -> impl Iterator<Item = Field<'_>> {
        let is_usual = |element: &&[u8]| {
            ["close", "keep-alive", "upgrade"].iter().any(|usual| element.eq_ignore_ascii_case(usual.as_bytes()))
        };
        let named: Vec<&[u8]> = self.elements(Name::Connection).filter(|element| !is_usual(element)).collect();
        self.iter().filter(move |field| {
            let is_own = matches!(
                field.known,
                Name::Other
                    | Name::Claim
                    | Name::CdnLoop
                    | Name::Cookie
                    | Name::Date
                    | Name::Referer
                    | Name::UserAgent
                    | Name::ContentType
            );
            is_own && !named.iter().any(|name| name.eq_ignore_ascii_case(field.name))
        })
    }
}

/// A host and its port as `Host` or an authority writes them (RFC 9110, section 7.2): in small letters, without the last dot.
pub(crate) fn host_and_port(text: &[u8]) -> Result<(String, Option<u16>), Refusal> {
    let text = std::str::from_utf8(text).map_err(|_| Refusal::BadHost)?;
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (inside, rest) = rest.split_once(']').ok_or(Refusal::BadHost)?;
            inside.parse::<std::net::Ipv6Addr>().map_err(|_| Refusal::BadHost)?;
            (text.get(..inside.len() + 2).ok_or(Refusal::BadHost)?, rest)
        }
        None => text.find(':').map_or((text, ""), |colon| text.split_at(colon)),
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => None,
        Some(digits) if (1..=5).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(digits.parse().map_err(|_| Refusal::BadHost)?)
        }
        _ => return Err(Refusal::BadHost),
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    let is_sound = host.starts_with('[')
        || (!host.is_empty()
            && host.len() <= 253
            && !host.starts_with(['.', '-'])
            && !host.contains("..")
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.')));
    if is_sound { Ok((host.to_ascii_lowercase(), port)) } else { Err(Refusal::BadHost) }
}
