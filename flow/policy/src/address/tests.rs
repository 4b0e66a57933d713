use super::*;

#[test]
fn urls_are_read_and_shown_in_their_shortest_form() {
    for (text, shown, host, port, target) in [
        ("https://shop.example", "https://shop.example/", "shop.example", 443, "/"),
        ("HTTP://Shop.Example:80/A", "http://shop.example/A", "shop.example", 80, "/A"),
        (
            "https://shop.example:8443/a/b?c=d&e=%20",
            "https://shop.example:8443/a/b?c=d&e=%20",
            "shop.example",
            8443,
            "/a/b?c=d&e=%20",
        ),
        ("http://10.1.0.10:8080", "http://10.1.0.10:8080/", "10.1.0.10", 8080, "/"),
        ("http://[2001:DB8::1]:8080/x", "http://[2001:db8::1]:8080/x", "[2001:db8::1]", 8080, "/x"),
        ("https://shop.example?deep", "https://shop.example/?deep", "shop.example", 443, "/?deep"),
        ("https://xn--caf-dma.example/@a:b", "https://xn--caf-dma.example/@a:b", "xn--caf-dma.example", 443, "/@a:b"),
        ("http://localhost/", "http://localhost/", "localhost", 80, "/"),
    ] {
        let url: Url = text.parse().unwrap_or_else(|bad| panic!("{text}: {bad}"));
        assert_eq!(url.to_string(), shown);
        assert_eq!((url.host().to_string().as_str(), url.port(), url.target()), (host, port, target), "{text}");
        assert_eq!(shown.parse(), Ok(url), "what we show, we read");
    }
    let url: Url = "https://shop.example:8443/a?b".parse().expect("a URL");
    assert_eq!((url.authority().as_str(), url.path()), ("shop.example:8443", "/a"));
}

#[test]
fn urls_that_a_browser_would_guess_are_refused() {
    for (text, reason) in [
        ("", "is not a URL"),
        ("shop.example", "is not a URL"),
        ("//shop.example", "is not a URL"),
        ("ftp://shop.example", "is not an HTTP URL"),
        (" https://shop.example", "is not an HTTP URL"),
        ("https://", "has no host name"),
        ("https:///path", "has no host name"),
        ("https://:443/", "has no host name"),
        ("https://user@shop.example", "has a user name"),
        ("https://user:secret@shop.example/", "has a user name"),
        ("https://shop.example/#top", "has a fragment"),
        ("https://shop.example:/", "has no valid port"),
        ("https://shop.example:0/", "has no valid port"),
        ("https://shop.example:65536/", "has no valid port"),
        ("https://shop.example:+1/", "has no valid port"),
        ("https://2001:db8::1/", "has no valid port"),
        ("https://shop.example./", "has a dot at the end of the host name"),
        ("https://café.example/", "has a host name with letters outside ASCII"),
        ("https://shop..example/", "has no valid host name"),
        ("https://-shop.example/", "has no valid host name"),
        ("https://shop example/", "has no valid host name"),
        ("https://shop.example\\@evil.example/", "has a user name"),
        ("https://127.1/", "is not an IPv4 address"),
        ("https://0x7f.1/", "is not an IPv4 address"),
        ("https://0x7f/", "is not an IPv4 address"),
        ("https://2130706433/", "is not an IPv4 address"),
        ("https://256.0.0.1/", "is not an IPv4 address"),
        ("https://[::1/", "has no valid port"),
        ("https://[::g]/", "is not an IPv6 address"),
        ("https://[fe80::1%25eth0]/", "is not an IPv6 address"),
        ("https://[::1]x/", "is not an IPv6 address"),
        ("https://shop.example/a b", "has a character that may not stand in a URL"),
        ("https://shop.example/é", "has a character that may not stand in a URL"),
        ("https://shop.example/a\nb", "has a character that may not stand in a URL"),
        ("https://shop.example/%2", "has a `%` that escapes nothing"),
        ("https://shop.example/%zz", "has a `%` that escapes nothing"),
    ] {
        assert_eq!(text.parse::<Url>().expect_err(text).reason, reason, "{text}");
    }
    let long = format!("https://shop.example/{}", "a".repeat(2048));
    assert_eq!(long.parse::<Url>().expect_err("too long").reason, "is longer than 2048 bytes");
}

#[test]
fn hosts_with_ports() {
    for (text, shown) in
        [("shop.example:443", "shop.example:443"), ("[::1]:53", "[::1]:53"), ("192.0.2.1:25", "192.0.2.1:25")]
    {
        assert_eq!(text.parse::<HostPort>().map(|both| both.to_string()), Ok(shown.to_owned()));
    }
    for (text, reason) in [
        ("shop.example", "has no port"),
        ("::1:53", "has no valid port"),
        ("[::1]", "has no port"),
        (":80", "has no host name"),
        ("https://shop.example:443", "has no valid port"),
    ] {
        assert_eq!(text.parse::<HostPort>().expect_err(text).reason, reason, "{text}");
    }
}
