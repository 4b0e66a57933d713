//! Trailers: fields that come behind a body (RFC 9110, section 6.5).
//!
//! Who merges them into the head is fooled by them, so few go on: none that would say where a message ends, whom it is for or who sent it
//! (section 6.5.1), and none with `_`, as with fields of heads.

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use crate::message::{Fields, Name};

fn may_pass(name: &[u8]) -> bool {
    Name::of(name) == Name::Other && !name.contains(&b'_')
}

/// The trailers of HTTP/2 that go on.
pub(crate) fn passed_on(trailers: &HeaderMap) -> HeaderMap {
    let mut passed = HeaderMap::with_capacity(trailers.len());
    for (name, value) in trailers.iter().filter(|(name, _)| may_pass(name.as_str().as_bytes())) {
        passed.append(name.clone(), value.clone());
    }
    passed
}

/// The trailers of HTTP/1.1 that go on; `None` where there is none.
pub(crate) fn of_fields(trailers: &Fields) -> Option<HeaderMap> {
    let mut passed = HeaderMap::new();
    for field in trailers.iter().filter(|field| may_pass(field.name)) {
        // What was judged as a field is one.
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(field.name), HeaderValue::from_bytes(field.value)) {
            passed.append(name, value);
        }
    }
    (!passed.is_empty()).then_some(passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_decides_does_not_go_on() {
        let mut fields = Fields::default();
        assert_eq!(of_fields(&fields), None);
        for (name, value) in
            [("X-Sum", "1"), ("Host", "b.example"), ("X-Forwarded-For", "6.6.6.6"), ("X_Sum", "2"), ("x-sum", "3")]
        {
            fields.push(name.as_bytes(), value.as_bytes());
        }
        let passed = of_fields(&fields).expect("some");
        let pairs: Vec<_> = passed.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(pairs, [("x-sum", &b"1"[..]), ("x-sum", b"3")]);
        assert_eq!(passed_on(&passed), passed);
    }
}
