//! Where a redirect leads.

use hyper::http::Uri;

/// The address that `location` means when `base` was asked for (RFC 3986 section 5.2, as far as `Location` needs it).
pub(super) fn join(base: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next().unwrap_or_default();
    let (scheme, authority) = (base.scheme_str()?, base.authority()?);
    let text = if location.contains("://") && !location.starts_with(['/', '?']) {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{}", without_dots(location))
    } else if location.starts_with('?') || location.is_empty() {
        format!("{scheme}://{authority}{}{location}", base.path())
    } else {
        let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{}", without_dots(&format!("{folder}/{location}")))
    };
    text.parse().ok()
}

/// Removes `.` and `..` segments from the path part (RFC 3986 section 5.2.4).
fn without_dots(target: &str) -> String {
    let (path, query) = target.find('?').map_or((target, ""), |at| target.split_at(at));
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            other => kept.push(other),
        }
        if last && matches!(segment, "." | "..") {
            kept.push("");
        }
    }
    format!("/{}{query}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_joined() {
        for (base, location, expected) in [
            ("http://a.example/x/y?q", "https://b.example/z", Some("https://b.example/z")),
            ("https://a.example:8443/x/y", "//b.example/z", Some("https://b.example/z")),
            ("http://a.example/x/y", "/z?k=v#part", Some("http://a.example/z?k=v")),
            ("http://a.example/x/y", "z", Some("http://a.example/x/z")),
            ("http://a.example/x/y", "../z", Some("http://a.example/z")),
            ("http://a.example/x/y/", "..", Some("http://a.example/x/")),
            ("http://a.example/x/y", "?k=http://c.example/", Some("http://a.example/x/y?k=http://c.example/")),
            (
                "http://a.example/x/y",
                "/go?to=http://c.example/../d",
                Some("http://a.example/go?to=http://c.example/../d"),
            ),
            ("http://[::1]:80/x", "/z", Some("http://[::1]:80/z")),
            ("http://a.example/", "http://", None),
        ] {
            let base: Uri = base.parse().expect(base);
            let joined = join(&base, location).map(|uri| uri.to_string());
            assert_eq!(joined.as_deref(), expected, "{base} {location}");
        }
    }
}
