//! A request to a gateway for text messages, as a template: what stands in braces is put in, encoded for where it stands.

use engine::http::Method;
use zeroize::Zeroizing;

/// What can be put in, as it is written in a template between braces, and what it is.
pub(super) const FIELDS: [(&str, &str); 11] = [
    ("to", "the number, such as +33600000000"),
    ("to_digits", "the number without +"),
    ("to_00", "the number with 00 instead of +"),
    ("text", "the text"),
    ("id", "the identifier of the message, the same at each attempt"),
    ("sender", "`sender`"),
    ("account", "`account`"),
    ("user", "`user`"),
    ("password", "`password`"),
    ("basic", "`user` and `password` as HTTP Basic wants them"),
    ("receipt", "the address of the receipt"),
];

/// How a body is encoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Encoding {
    /// `application/x-www-form-urlencoded`.
    Form,
    /// `application/json`.
    Json,
    /// `text/plain` in UTF-8.
    Text,
}

impl Encoding {
    /// The media type.
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Form => "application/x-www-form-urlencoded",
            Self::Json => "application/json",
            Self::Text => "text/plain; charset=utf-8",
        }
    }

    fn escape(self, value: &str) -> Zeroizing<String> {
        match self {
            Self::Form => percent(value),
            Self::Json => {
                let quoted = Zeroizing::new(serde_json::to_string(value).unwrap_or_default());
                let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
                Zeroizing::new(inner.unwrap_or_default().to_owned())
            }
            Self::Text => Zeroizing::new(value.to_owned()),
        }
    }
}

/// A template.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Template {
    /// GET or POST.
    pub(super) method: Method,
    /// The address.
    pub(super) url: String,
    /// Header fields beside `Content-Type`.
    pub(super) headers: Vec<(String, String)>,
    /// The body.
    pub(super) body: Option<String>,
    /// How the body is encoded.
    pub(super) encoding: Encoding,
}

/// The values that are put in, by name.
pub(super) struct Values(pub(super) Vec<(&'static str, Zeroizing<String>)>);

impl Values {
    fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value.as_str())
    }
}

impl Template {
    /// The names of all that it wants, each once.
    pub(super) fn wants(&self) -> Vec<String> {
        let values = self.headers.iter().map(|(_, value)| value).chain(&self.body);
        let mut names: Vec<String> = Vec::new();
        for text in std::iter::once(&self.url).chain(values) {
            for piece in pieces(text) {
                if let Piece::Field(name) = piece
                    && !names.iter().any(|known| known == name)
                {
                    names.push(name.to_owned());
                }
            }
        }
        names
    }

    /// The address with all put in.
    pub(super) fn url(&self, values: &Values) -> Zeroizing<String> {
        filled(&self.url, values, percent)
    }

    /// The header fields with all put in.
    pub(super) fn headers(&self, values: &Values) -> impl Iterator<Item = (&str, Zeroizing<String>)> {
        let line = |value: &str| Zeroizing::new(value.replace(char::is_control, " "));
        self.headers.iter().map(move |(name, value)| (name.as_str(), filled(value, values, line)))
    }

    /// The body with all put in.
    pub(super) fn body(&self, values: &Values) -> Option<Zeroizing<String>> {
        let body = self.body.as_ref()?;
        Some(filled(body, values, |value| self.encoding.escape(value)))
    }
}

impl std::fmt::Debug for Template {
    /// A template may hold a token as it is.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Template({} …)", self.method)
    }
}

enum Piece<'a> {
    Text(&'a str),
    Field(&'a str),
}

/// The pieces of a template. A brace that opens no name is a brace: JSON is full of them.
fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut from = 0;
    while let Some(open) = rest.get(from..).and_then(|rest| rest.find('{')).map(|at| from + at) {
        let inner = rest.get(open + 1..).unwrap_or_default();
        let length = inner.bytes().take_while(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'_').count();
        let (name, after) = inner.split_at(length);
        match after.strip_prefix('}') {
            Some(after) if length > 0 => {
                pieces.push(Piece::Text(rest.get(..open).unwrap_or_default()));
                pieces.push(Piece::Field(name));
                (rest, from) = (after, 0);
            }
            _ => from = open + 1,
        }
    }
    pieces.push(Piece::Text(rest));
    pieces
}

/// What is put in is not looked at again: a text with braces remains one.
fn filled(text: &str, values: &Values, escape: impl Fn(&str) -> Zeroizing<String>) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::new());
    for piece in pieces(text) {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Field(name) => out.push_str(&escape(values.get(name))),
        }
    }
    out
}

/// Everything but the unreserved characters of RFC 3986 as `%` and two digits, which both a query and a form understand.
fn percent(value: &str) -> Zeroizing<String> {
    use std::fmt::Write as _;
    let mut out = Zeroizing::new(String::with_capacity(value.len() * 3));
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // A String takes everything.
            write!(out, "%{byte:02X}").unwrap_or_default();
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_encoded_for_where_they_stand() {
        let values = Values(vec![
            ("to", Zeroizing::new("+336".to_owned())),
            ("text", Zeroizing::new("é \"{to}\"\n&".to_owned())),
        ]);
        let template = |encoding, body: &str| Template {
            method: Method::POST,
            url: "https://x.example/{to}?t={text}".to_owned(),
            headers: vec![("X-To".to_owned(), "<{to}>{text}".to_owned())],
            body: Some(body.to_owned()),
            encoding,
        };
        for (encoding, body, filled) in [
            (Encoding::Form, "a={to}&b={text}", "a=%2B336&b=%C3%A9%20%22%7Bto%7D%22%0A%26"),
            (Encoding::Json, "{\"a\":{\"b\":\"{text}\"}}", "{\"a\":{\"b\":\"é \\\"{to}\\\"\\n&\"}}"),
            (Encoding::Text, "{ {to} {} {To} {to", "{ +336 {} {To} {to"),
        ] {
            let template = template(encoding, body);
            assert_eq!(template.body(&values).as_deref().map(String::as_str), Some(filled));
            assert_eq!(&*template.url(&values), "https://x.example/%2B336?t=%C3%A9%20%22%7Bto%7D%22%0A%26");
            let headers: Vec<_> = template.headers(&values).map(|(_, value)| value.to_string()).collect();
            assert_eq!(headers, ["<+336>é \"{to}\" &"]);
            assert_eq!(template.wants(), ["to", "text"]);
        }
    }
}
