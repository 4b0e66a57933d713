//! Where a redirect leads, and with what.
//!
//! `Location` is read as browsers read it (WHATWG URL, and Fetch, section 4.4): relative or whole, with blanks around it,
//! with letters beyond ASCII in whatever encoding the server writes them.

use std::fmt::Write as _;

use cookie_store::CookieStore;
use url::Url;

use super::{HeaderMap, HeaderValue, header};

/// Why a redirect is not followed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RedirectFault {
    /// There were as many already as the request allows.
    TooOften(u8),
    /// From https to http: what was secret on the way is read by others from there on.
    Downgrade,
    /// It leads to what is no URL, or to one of another scheme than http and https.
    NoUrl,
}

impl std::fmt::Display for RedirectFault {
    /// Without where it leads, for that may hold the token of a session.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooOften(1) => f.write_str("it redirects more than once"),
            Self::TooOften(max) => write!(f, "it redirects more than {max} times"),
            Self::Downgrade => f.write_str("it redirects from https to http, which is not followed"),
            Self::NoUrl => f.write_str("it redirects to what is no http or https URL"),
        }
    }
}

/// The URL that the answer of `base` leads to; nothing when its `Location` is missing or empty.
pub(super) fn location(base: &Url, headers: &HeaderMap) -> Option<Result<Url, RedirectFault>> {
    let location = headers.get(header::LOCATION)?.as_bytes();
    if location.is_empty() {
        return None;
    }
    // Bytes beyond ASCII are escaped as they stand, whether they are UTF-8 or Latin-1: the server gets back what it wrote.
    let mut text = String::with_capacity(location.len());
    for &byte in location {
        if byte.is_ascii() {
            text.push(char::from(byte));
        } else if write!(text, "%{byte:02X}").is_err() {
            return Some(Err(RedirectFault::NoUrl));
        }
    }
    let joined = base.join(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let Some(mut url) = joined else { return Some(Err(RedirectFault::NoUrl)) };
    url.set_fragment(None);
    // A browser keeps them for a server that asks for them, which no probe answers.
    if url.set_username("").and_then(|()| url.set_password(None)).is_err() {
        return Some(Err(RedirectFault::NoUrl));
    }
    Some(Ok(url))
}

/// The cookies of one request and its redirects.
#[derive(Clone, Default, Debug)]
pub(super) struct Jar(Option<Box<CookieStore>>);

impl Jar {
    /// Keeps what the answer of `url` sets.
    pub(super) fn keep(&mut self, url: &Url, headers: &HeaderMap) {
        for cookie in headers.get_all(header::SET_COOKIE) {
            // One that can't be read, or is for another host, is passed over, as browsers do.
            if let Ok(cookie) = std::str::from_utf8(cookie.as_bytes()) {
                drop(self.0.get_or_insert_default().parse(cookie, url));
            }
        }
    }

    /// The value of `Cookie` for a request to `url`, after what the request itself says of it.
    pub(super) fn value(&self, url: &Url, declared: Option<&HeaderValue>) -> Option<HeaderValue> {
        let jar = self.0.as_ref()?;
        let mut value = declared.map(|declared| declared.as_bytes().to_vec()).unwrap_or_default();
        for (name, cookie) in jar.get_request_values(url) {
            let between = if value.is_empty() { "" } else { "; " };
            value.extend([between, name, "=", cookie].concat().as_bytes());
        }
        let mut value = HeaderValue::from_bytes(&value).ok().filter(|value| !value.is_empty())?;
        value.set_sensitive(true);
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(base: &str, location: &[u8]) -> Option<Result<String, RedirectFault>> {
        let mut headers = HeaderMap::new();
        headers.insert(header::LOCATION, HeaderValue::from_bytes(location).expect("a value"));
        super::location(&base.parse().expect("a URL"), &headers).map(|url| url.map(String::from))
    }

    /// What browsers make of each.
    #[test]
    fn locations_are_joined() {
        for (base, location, expected) in [
            ("http://a.example/x/y?q", &b"https://b.example/z"[..], "https://b.example/z"),
            ("https://a.example:8443/x/y", b"//b.example/z", "https://b.example/z"),
            ("http://a.example/x/y", b"/z?k=v#part", "http://a.example/z?k=v"),
            ("http://a.example/x/y", b"z", "http://a.example/x/z"),
            ("http://a.example/x/y", b"../z", "http://a.example/z"),
            ("http://a.example/x/y/", b"..", "http://a.example/x/"),
            ("http://a.example/x/y", b"?k=http://c.example/", "http://a.example/x/y?k=http://c.example/"),
            ("http://a.example/", b"/go?to=http://c.example/../d", "http://a.example/go?to=http://c.example/../d"),
            ("http://[::1]:80/x", b"/z", "http://[::1]/z"),
            ("http://a.example/", "/café".as_bytes(), "http://a.example/caf%C3%A9"),
            ("http://a.example/", b"/caf\xe9?n=\xe9", "http://a.example/caf%E9?n=%E9"),
            ("http://a.example/", "http://münchen.example/".as_bytes(), "http://xn--mnchen-3ya.example/"),
            ("http://a.example/", b" /a b\t/c ", "http://a.example/a%20b/c"),
            ("http://a.example/", b"http:\\\\b.example\\z", "http://b.example/z"),
            ("http://a.example/", b"HTTP://B.example:80", "http://b.example/"),
            ("http://a.example/", b"http://me:s3cret@b.example/", "http://b.example/"),
            ("http://a.example/", b"http://0x7f.1/", "http://127.0.0.1/"),
        ] {
            let said = String::from_utf8_lossy(location);
            assert_eq!(joined(base, location), Some(Ok(expected.to_owned())), "{base} {said}");
        }
        for no_url in [&b"ftp://b.example/"[..], b"http://", b"javascript:alert(1)", b"http://b.example:99999/"] {
            let said = String::from_utf8_lossy(no_url);
            assert_eq!(joined("http://a.example/", no_url), Some(Err(RedirectFault::NoUrl)), "{said}");
        }
        assert_eq!(joined("http://a.example/", b""), None);
    }

    #[test]
    fn cookies_go_back_where_they_came_from() {
        let url = |text: &str| text.parse::<Url>().expect("a URL");
        let mut headers = HeaderMap::new();
        for cookie in ["seen=1; Path=/", "deep=1; Path=/deep", "safe=1; Secure", "not=ours; Domain=b.example", "=;;="] {
            headers.append(header::SET_COOKIE, HeaderValue::from_static(cookie));
        }
        let mut jar = Jar::default();
        assert_eq!(jar.value(&url("https://a.example/"), None), None);
        jar.keep(&url("https://a.example/"), &headers);
        let sent = |to: &str| {
            let value = jar.value(&url(to), None);
            let mut sent: Vec<String> = value
                .map(|value| value.to_str().expect("ASCII").split("; ").map(str::to_owned).collect())
                .unwrap_or_default();
            sent.sort_unstable();
            sent
        };
        assert_eq!(sent("https://a.example/deep/er"), ["deep=1", "safe=1", "seen=1"]);
        assert_eq!(sent("http://a.example/"), ["seen=1"]);
        assert!(sent("https://b.example/").is_empty());
        let both = jar.value(&url("http://a.example/"), Some(&HeaderValue::from_static("id=7")));
        assert_eq!(both.expect("a value"), "id=7; seen=1");
        let declared = HeaderValue::from_static("id=7");
        assert_eq!(Jar::default().value(&url("http://a.example/"), Some(&declared)), None, "it is sent as declared");
    }
}
