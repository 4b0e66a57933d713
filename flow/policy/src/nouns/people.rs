//! People, and the channels on which they are reached.

use crate::name::PersonName;
use crate::table::{Section, Table};
use crate::value::Private;

/// A person of the team.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Person {
    /// What the team calls them.
    pub name: PersonName,
    /// How they are reached, the first one first.
    pub channels: Vec<Channel>,
}

impl Section for Person {
    const ABOUT: &'static str = "Somebody of the team, and how they are reached. Never public. Declared now: it is read and checked, and \
        used from the release with alerts on; until then nobody is sent anything.";
    const EXAMPLE: &'static str = r#"
[[person]]
name = "Léa"
channel = [{ mail = "lea@shop.example" }, { sms = "+33600000000" }]
"#;

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let name = table.declare("name", "what the team calls them");
        let channels = table.required_list("channel", "how they are reached, the first one first");
        Some(Self { name: name?, channels: channels? })
    }
}

/// A way to reach a person.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Channel {
    /// By mail, at this address.
    Mail(String),
    /// By text message, at this number in the form of E.164.
    Sms(String),
}

impl Section for Channel {
    const ABOUT: &'static str = "One way to reach somebody: a mail address or a telephone number.";
    const EXAMPLE: &'static str = "";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let mail: Option<Private<String>> = table.optional("mail", "a mail address");
        let sms: Option<Private<String>> = table.optional("sms", "a telephone number with `+` and country code");
        match (mail.map(|mail| mail.0), sms.map(|sms| sms.0)) {
            (Some(mail), None) if is_mail(&mail) => Some(Self::Mail(mail)),
            (Some(_), None) => {
                table.mistake("mail", "not a mail address", "write it like \"lea@shop.example\"");
                None
            }
            (None, Some(sms)) => {
                let number = sms.replace([' ', '.', '-'], "");
                if is_telephone(&number) {
                    return Some(Self::Sms(number));
                }
                table.mistake("sms", "not a telephone number", "write it with its country code, like \"+33600000000\"");
                None
            }
            (Some(_), Some(_)) => {
                table.mistake("sms", "one channel with two addresses", "write { mail = \"…\" }, { sms = \"…\" }");
                None
            }
            (None, None) => {
                if !table.has("mail") && !table.has("sms") {
                    table.mistake("", "a channel without an address", "write { mail = \"…\" } or { sms = \"…\" }");
                }
                None
            }
        }
    }
}

/// The shape of RFC 5321 addresses that providers really give: no quotes, no comments, a domain with letters.
fn is_mail(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let atom = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&b);
    let dots = !local.starts_with('.') && !local.ends_with('.') && !local.contains("..");
    let domain = matches!(domain.parse(), Ok(crate::Address::Name(_)));
    (1..=64).contains(&local.len()) && local.bytes().all(atom) && dots && domain
}

/// E.164: a plus and up to fifteen digits, of which the first is not 0.
fn is_telephone(number: &str) -> bool {
    let Some(digits) = number.strip_prefix('+') else { return false };
    (7..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_numbers() {
        for good in ["lea@shop.example", "a.b+c@mail.shop.example", "o'neil@x.fr"] {
            assert!(is_mail(good), "{good}");
        }
        for bad in
            ["", "lea", "@shop.example", "a@", "a b@shop.example", ".a@x.fr", "a..b@x.fr", "é@x.fr", "a@192.0.2.1"]
        {
            assert!(!is_mail(bad), "{bad}");
        }
        for (number, good) in [("+33600000000", true), ("0600000000", false), ("+0600000000", false), ("+33", false)] {
            assert_eq!(is_telephone(number), good, "{number}");
        }
    }
}
