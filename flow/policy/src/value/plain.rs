//! Texts, numbers, times, shares and addresses.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use event::policy::Agreement;
use event::{Ppb, Span, Time, Zone};
use ipnet::IpNet;

use super::{Slot, Value, short};
use crate::suggest::nearest;

impl Value for String {
    const SHAPE: &'static str = "a text";
    const EXAMPLE: &'static str = "\"…\"";

    /// Never empty: an empty text is a forgotten one. No control characters but line breaks and tabs: texts end up on
    /// terminals, and there an escape sequence is a command.
    fn read(mut slot: Slot<'_>) -> Option<Self> {
        let text = slot.text::<Self>()?;
        if text.trim().is_empty() {
            slot.wrong(format!("`{}` is empty", slot.key()), "write something between the quotes, or remove the key");
            return None;
        }
        if text.contains(|c: char| c.is_control() && c != '\n' && c != '\t') {
            slot.wrong(
                format!("`{}` has a control character", slot.key()),
                "remove what is written as \\u…, \\b, \\e or \\r",
            );
            return None;
        }
        Some(text.to_owned())
    }
}

impl Value for bool {
    const SHAPE: &'static str = "true or false";
    const EXAMPLE: &'static str = "true";

    fn read(mut slot: Slot<'_>) -> Option<Self> {
        slot.boolean::<Self>()
    }
}

macro_rules! integers {
    ($($type:ty, $shape:literal;)*) => {$(
        impl Value for $type {
            const SHAPE: &'static str = $shape;
            const EXAMPLE: &'static str = "10";
            const SHAPE_IN_RANGE: &'static str = "a whole number";

            fn read(mut slot: Slot<'_>) -> Option<Self> {
                let number = slot.integer::<Self>()?;
                let fits = Self::try_from(number).ok();
                if fits.is_none() {
                    let reason = format!("`{}` is {number}, out of range", slot.key());
                    let remedy = format!("write {}", slot.shape::<Self>());
                    slot.wrong(reason, remedy);
                }
                fits
            }
        }
    )*};
}

integers! {
    u16, "a whole number from 0 to 65535";
    u32, "a whole number from 0 to 4294967295";
    u64, "a whole number that is not negative";
    i64, "a whole number";
}

impl Value for Span {
    const SHAPE: &'static str = "a length of time";
    const EXAMPLE: &'static str = "\"10 s\"";

    fn read(mut slot: Slot<'_>) -> Option<Self> {
        let text = slot.text::<Self>()?;
        let span = Self::parse(text).ok();
        if span.is_none() {
            let reason = format!("`{}` is not a length of time", short(text));
            slot.wrong(reason, "write a whole number and a unit (ms, s, min, h, d, w), such as \"90 s\" or \"15 min\"");
        }
        span
    }
}

impl Value for Ppb {
    const SHAPE: &'static str = "a share";
    const EXAMPLE: &'static str = "\"99.99 %\"";

    fn read(mut slot: Slot<'_>) -> Option<Self> {
        let text = slot.text::<Self>()?;
        let share = Self::parse_percent(text);
        if share.is_none() {
            let reason = format!("`{}` is not a share", short(text));
            slot.wrong(
                reason,
                "write a percentage from \"0 %\" to \"100 %\" with seven decimals at most, such as \"99.99 %\"",
            );
        }
        share
    }
}

impl Value for Time {
    const SHAPE: &'static str = "a date and time";
    const EXAMPLE: &'static str = "\"2026-11-22T23:00:00Z\"";

    fn read(mut slot: Slot<'_>) -> Option<Self> {
        let text = slot.date::<Self>()?;
        let time = Self::parse_rfc3339(text);
        if time.is_none() {
            let reason = format!("`{}` is not a date and time with its offset", short(text));
            slot.wrong(
                reason,
                "write it as in RFC 3339, such as \"2026-11-22T23:00:00Z\" or \"2026-11-23T00:00:00+01:00\"",
            );
        }
        time
    }
}

impl Value for Zone {
    const SHAPE: &'static str = "a time zone";
    const EXAMPLE: &'static str = "\"Europe/Paris\"";

    fn read(mut slot: Slot<'_>) -> Option<Self> {
        let text = slot.text::<Self>()?;
        let zone = Self::named(text);
        if zone.is_none() {
            let reason = format!("`{}` is not the name of a time zone", short(text));
            let remedy = nearest(text, Self::names().iter().map(String::as_str)).map_or_else(
                || "write a name of the IANA database, a continent and a city, such as \"Europe/Paris\"".to_owned(),
                |meant| format!("did you mean \"{meant}\"?"),
            );
            slot.wrong(reason, remedy);
        }
        zone
    }
}

impl Value for SocketAddr {
    const SHAPE: &'static str = "an address with a port";
    const EXAMPLE: &'static str = "\"127.0.0.1:8480\"";

    fn read(slot: Slot<'_>) -> Option<Self> {
        slot.parse()
    }
}

impl Value for IpNet {
    const SHAPE: &'static str = "a range of addresses";
    const EXAMPLE: &'static str = "\"10.1.0.0/16\"";

    /// A range or a single address. A range with address bits beyond its length is refused: which of the two is meant can't be told.
    fn read(mut slot: Slot<'_>) -> Option<Self> {
        let text = slot.text::<Self>()?;
        let range = text.parse::<Self>().or_else(|_| text.parse::<IpAddr>().map(Self::from)).ok();
        let range = range.filter(|range| *range == range.trunc());
        if range.is_none() {
            let wrong = format!("`{}` is not {}", short(text), Self::SHAPE);
            slot.wrong(wrong, format!("write it like {}", Self::EXAMPLE));
        }
        range
    }
}

impl Value for PathBuf {
    const SHAPE: &'static str = "an absolute path";
    const EXAMPLE: &'static str = "\"/var/lib/garant\"";

    /// Absolute, since a relative one would depend on where garant happens to be started.
    fn read(mut slot: Slot<'_>) -> Option<Self> {
        let text = slot.text::<Self>()?;
        let path = Self::from(text);
        if path.is_absolute() && !text.contains('\0') {
            return Some(path);
        }
        slot.wrong(format!("`{}` is not an absolute path", short(text)), "start it with a `/`");
        None
    }
}

impl Value for Agreement {
    const SHAPE: &'static str = "\"majority\", \"any\" or \"all\"";
    const EXAMPLE: &'static str = "\"majority\"";

    fn read(slot: Slot<'_>) -> Option<Self> {
        slot.choose(&[("majority", Self::Majority), ("any", Self::Any), ("all", Self::All)])
    }
}
