//! The body of an answer as a reader sees it: unpacked, and in the letters that it was written in.
//!
//! **Problem.** `contains = "Verfügbar"` is in a page that says so in Latin-1, or in gzip, and the bytes don't show it.
//! **Principle.** What browsers do: content codings in the order in which they are named (RFC 9110, section 8.4), the charset
//! by its mark, its header or its `meta`, in this order (WHATWG HTML, section 13.2.3), else UTF-8, else windows-1252. Only a
//! body in which something is looked for is read so, and what most of them are, plain UTF-8, is searched where it lies.
//! Nothing unpacks to more than what a body may be long.

use std::borrow::Cow;
use std::io::Read;

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};
use engine::http::{HeaderMap, HeaderName, header};
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use memchr::memmem;

/// How much of a page is looked through for its charset (WHATWG HTML, section 13.2.3.2).
const PRESCAN_BYTES: usize = 1024;
/// Most codings that a body may have, one over the other.
const CODINGS_MAX: usize = 3;
/// Buffer of an unpacker, in bytes.
const UNPACK_BYTES: usize = 4096;

/// The body as UTF-8, or why it can't be read.
pub(super) fn readable<'b>(headers: &HeaderMap, body: &'b [u8], bytes_max: usize) -> Result<Cow<'b, [u8]>, String> {
    if let Some(coding) = transfer_coding(headers) {
        return Err(format!("the body has the transfer coding {coding}, which was not asked for and can't be read"));
    }
    let codings = codings(headers);
    if codings.len() > CODINGS_MAX {
        return Err(format!("the body is compressed more than {CODINGS_MAX} times"));
    }
    let mut plain = Cow::Borrowed(body);
    for coding in codings.iter().rev().filter(|_| !body.is_empty()) {
        plain = Cow::Owned(unpacked(coding, &plain, bytes_max)?);
    }
    let encoding = match charset(headers, &plain) {
        Some(encoding) => encoding,
        None if std::str::from_utf8(&plain).is_ok() => UTF_8,
        None => WINDOWS_1252,
    };
    if encoding == UTF_8 {
        return Ok(plain);
    }
    let text = encoding.decode_with_bom_removal(&plain).0;
    Ok(Cow::Owned(text.into_owned().into_bytes()))
}

/// Whether the text is in a body that is UTF-8.
pub(super) fn holds(body: &[u8], text: &str) -> bool {
    memmem::find(body, text.as_bytes()).is_some()
}

/// The content codings, in the order in which they were applied, in lower case.
fn codings(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(header::CONTENT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let codings = values.flat_map(|value| value.split(',')).map(|coding| coding.trim().to_ascii_lowercase());
    codings.filter(|coding| !matches!(coding.as_str(), "" | "identity" | "none")).collect()
}

/// A transfer coding that packs the body (RFC 9112, section 7.2). One that is not known is passed over, as browsers do.
fn transfer_coding(headers: &HeaderMap) -> Option<&'static str> {
    let values = headers.get_all(header::TRANSFER_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let mut codings = values.flat_map(|value| value.split(',')).map(|coding| coding.trim().to_ascii_lowercase());
    codings.find_map(|coding| match coding.as_str() {
        "gzip" | "x-gzip" => Some("gzip"),
        "deflate" => Some("deflate"),
        "compress" | "x-compress" => Some("compress"),
        _ => None,
    })
}

fn unpacked(coding: &str, packed: &[u8], bytes_max: usize) -> Result<Vec<u8>, String> {
    let mut unpacker: Box<dyn Read + '_> = match coding {
        "gzip" | "x-gzip" => Box::new(MultiGzDecoder::new(packed)),
        "deflate" if is_zlib(packed) => Box::new(ZlibDecoder::new(packed)),
        // What some servers take `deflate` for.
        "deflate" => Box::new(DeflateDecoder::new(packed)),
        "br" => Box::new(brotli_decompressor::Decompressor::new(packed, UNPACK_BYTES)),
        "zstd" | "compress" | "x-compress" => {
            return Err(format!("the body is compressed with {coding}, which was not asked for and can't be read"));
        }
        // Nothing that the other side sent is told.
        _ => return Err("the body is compressed in a way that is unknown here".to_owned()),
    };
    let mut plain = Vec::new();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    match unpacker.by_ref().take(limit).read_to_end(&mut plain) {
        // What there is of a packed body that was cut off is shown by browsers, too.
        Err(_) if plain.is_empty() => Err(format!("the body is not the {coding} that its head says")),
        _ if plain.len() > bytes_max => Err(format!("the body is longer than {bytes_max} bytes once unpacked")),
        _ => Ok(plain),
    }
}

/// Whether it starts as RFC 1950 says.
fn is_zlib(packed: &[u8]) -> bool {
    matches!(packed, [method, flags, ..]
        if method & 0x0f == 8 && (u16::from(*method) << 8 | u16::from(*flags)).is_multiple_of(31))
}

/// What the body is written in, as far as that is said.
fn charset(headers: &HeaderMap, body: &[u8]) -> Option<&'static Encoding> {
    if let Some((encoding, _)) = Encoding::for_bom(body) {
        return Some(encoding);
    }
    let content_type = headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes().to_ascii_lowercase());
    let content_type = content_type.unwrap_or_default();
    let declared = memmem::find(&content_type, b"charset").and_then(|at| label(content_type.get(at..)?));
    declared.or_else(|| prescan(body.get(..PRESCAN_BYTES).unwrap_or(body)))
}

/// The charset that the start of a page names, in a `meta` of HTML or in the declaration of XML.
fn prescan(start: &[u8]) -> Option<&'static Encoding> {
    let start = start.to_ascii_lowercase();
    let mut rest = start.as_slice();
    let named = loop {
        let at = memmem::find(rest, b"<")?;
        rest = rest.get(at..)?;
        let end = if rest.starts_with(b"<!--") { memmem::find(rest, b"-->") } else { memmem::find(rest, b">") }?;
        let tag = rest.get(..end)?;
        let word: &[u8] = match tag {
            [b'<', b'm', b'e', b't', b'a', b' ' | b'\t' | b'\n' | b'\r' | b'/', ..] => b"charset",
            [b'<', b'?', b'x', b'm', b'l', ..] => b"encoding",
            _ => b"",
        };
        if !word.is_empty()
            && let Some(encoding) = memmem::find(tag, word).and_then(|at| label(tag.get(at..)?))
        {
            break encoding;
        }
        rest = rest.get(end..)?;
    };
    // It could be read byte by byte, so it is not that.
    Some(if named == UTF_16BE || named == UTF_16LE { UTF_8 } else { named })
}

/// The encoding in `charset=…` or `encoding=…`, in quotes or not.
fn label(attribute: &[u8]) -> Option<&'static Encoding> {
    let (_, value) = attribute.split_at_checked(memmem::find(attribute, b"=")?)?;
    let value = value.get(1..)?.trim_ascii_start();
    let value = value.strip_prefix(b"\"").or_else(|| value.strip_prefix(b"'")).unwrap_or(value);
    let end = value.iter().position(|byte| matches!(byte, b'"' | b'\'' | b';' | b' ' | b'>' | b'/' | b'?'));
    Encoding::for_label(value.get(..end.unwrap_or(value.len()))?)
}

/// Looks through an answer that never ends, such as server-sent events, as it comes.
pub(super) struct Watching<'w> {
    wanted: &'w [String],
    /// What must not come before them.
    unwanted: &'w [String],
    /// Whether the end need not be waited for; known once the head is there.
    endless: Option<bool>,
    /// For each of the texts, whether it has come.
    found: Vec<bool>,
    searched: usize,
}

impl<'w> Watching<'w> {
    /// For all of the texts that are wanted, or the first of the others. Where nothing is wanted but that others do not come,
    /// there is no moment at which all of it was seen.
    pub(super) const fn new(wanted: &'w [String], unwanted: &'w [String]) -> Self {
        Self { wanted, unwanted, endless: None, found: Vec::new(), searched: 0 }
    }

    /// Whether it goes on for ever while it can't be said at any time that no text of those that must not be there comes.
    pub(super) fn never_enough(&self) -> bool {
        self.endless == Some(true) && self.wanted.is_empty() && !self.unwanted.is_empty()
    }

    /// Whether all has come that is waited for.
    pub(super) fn enough(&mut self, headers: &HeaderMap, body: &[u8]) -> bool {
        if !*self.endless.get_or_insert_with(|| is_endless(headers)) {
            return false;
        }
        let searched = self.searched;
        let comes = |text: &String| body.get(searched.saturating_sub(text.len())..).is_some_and(|new| holds(new, text));
        self.found.resize(self.wanted.len(), false);
        for (found, text) in self.found.iter_mut().zip(self.wanted).filter(|(found, _)| !**found) {
            *found = comes(text);
        }
        self.searched = body.len();
        self.unwanted.iter().any(comes) || self.found.iter().all(|found| *found) && !self.never_enough()
    }
}

/// Whether an answer is of a kind that goes on for ever (server-sent events, a camera, a radio), and can be searched as it comes.
fn is_endless(headers: &HeaderMap) -> bool {
    let value = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = value(header::CONTENT_TYPE).to_ascii_lowercase();
    let endless = ["text/event-stream", "multipart/x-mixed-replace", "application/x-ndjson", "audio/", "video/"];
    endless.iter().any(|endless| kind.starts_with(endless))
        && !headers.contains_key(header::CONTENT_LENGTH)
        && codings(headers).is_empty()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use engine::http::HeaderValue;
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    fn headers(fields: &[(HeaderName, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    fn typed(content_type: &'static str) -> HeaderMap {
        headers(&[(header::CONTENT_TYPE, content_type)])
    }

    /// A page in whatever charset it says, or a browser would guess, holds the text.
    #[test]
    fn charsets_are_those_of_browsers() {
        let latin = b"<p>Verf\xfcgbar".as_slice();
        let meta = |tag: &str| [tag.as_bytes(), latin].concat();
        let utf16: Vec<u8> = "\u{feff}Verfügbar".encode_utf16().flat_map(u16::to_be_bytes).collect();
        for (what, headers, body) in [
            ("UTF-8", HeaderMap::new(), "Verfügbar".as_bytes().to_vec()),
            ("said by the header", typed("text/html; charset=ISO-8859-1"), latin.to_vec()),
            ("in quotes", typed("text/html;CHARSET=\"latin1\""), latin.to_vec()),
            ("said by a meta", typed("text/html"), meta("<html><meta charset=\"iso-8859-15\">")),
            ("said by an old meta", typed("text/html"), meta("<META http-equiv=x content='a/b; charset=latin1'/>")),
            ("said by XML", typed("application/xml"), meta("<?xml version=\"1.0\" encoding='ISO-8859-1'?>")),
            ("said by a mark", typed("text/html; charset=latin1"), "\u{feff}Verfügbar".as_bytes().to_vec()),
            ("UTF-16", HeaderMap::new(), utf16),
            ("not said", typed("text/html"), latin.to_vec()),
            ("of no name", typed("text/html; charset=klingon"), latin.to_vec()),
            ("a comment", typed("text/html"), meta("<!-- <meta charset=utf-8> -->")),
        ] {
            let read = readable(&headers, &body, 1000).expect(what);
            assert!(holds(&read, "Verfügbar"), "{what}: {}", String::from_utf8_lossy(&read));
        }
        // The header outweighs the page.
        let contradicting = meta("<meta charset=latin1>");
        let read = readable(&typed("text/html; charset=utf-8"), &contradicting, 1000).expect("read");
        assert!(!holds(&read, "Verfügbar"));
    }

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(plain).expect("packed");
        gzip.finish().expect("packed")
    }

    #[test]
    fn codings_are_undone_within_the_bound() {
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::best());
        zlib.write_all(b"welcome").expect("packed");
        let mut raw = DeflateEncoder::new(Vec::new(), Compression::best());
        raw.write_all(b"welcome").expect("packed");
        // What zlib.brotliCompressSync of Node.js makes of it.
        let brotli = b"\x1b\x06\x00\xf8\x25\x00\xa2\x90\x30\x01".to_vec();
        let packed = |coding: &'static str| headers(&[(header::CONTENT_ENCODING, coding)]);
        for (coding, body) in [
            ("gzip", gzip(b"welcome")),
            ("X-GZIP, identity", gzip(b"welcome")),
            ("deflate", zlib.finish().expect("packed")),
            ("deflate", raw.finish().expect("packed")),
            ("br", brotli),
            ("gzip, gzip", gzip(&gzip(b"welcome"))),
            // Two members are the one after the other (RFC 1952, section 2.2), and what is no third one is passed over.
            ("gzip", [gzip(b"wel"), gzip(b"come")].concat()),
            ("gzip", [gzip(b"welcome"), vec![0; 9]].concat()),
        ] {
            let read = readable(&packed(coding), &body, 100);
            assert_eq!(read.as_deref(), Ok(&b"welcome"[..]), "{coding}");
        }
        let cut_off = gzip(b"welcome");
        assert_eq!(readable(&packed("gzip"), &cut_off[..cut_off.len() - 8], 100).as_deref(), Ok(&b"welcome"[..]));
        let bomb = gzip(&vec![b' '; 10_000_000]);
        for (coding, body, reason) in [
            ("gzip", bomb.as_slice(), "longer than 1000 bytes once unpacked"),
            ("gzip", b"welcome", "not the gzip that its head says"),
            ("br", b"welcome", "not the br that its head says"),
            ("zstd", b"welcome", "compressed with zstd"),
            ("s3cret", b"welcome", "in a way that is unknown here"),
            ("gzip, gzip, gzip, gzip", b"welcome", "more than 3 times"),
        ] {
            let told = readable(&packed(coding), body, 1000).expect_err(coding);
            assert!(told.contains(reason), "{coding}: {told}");
        }
        let transferred =
            |coding| readable(&headers(&[(header::TRANSFER_ENCODING, coding)]), b"welcome", 100).map(drop);
        let fault = transferred("gzip, chunked").expect_err("packed");
        assert!(fault.contains("transfer coding gzip, which was not asked for"), "{fault}");
        assert_eq!((transferred("Chunked"), transferred("s3cret, chunked")), (Ok(()), Ok(())));
        assert_eq!(readable(&packed("gzip"), b"", 100).as_deref(), Ok(&b""[..]), "no body, nothing to unpack");
    }

    #[test]
    fn an_endless_answer_is_searched_as_it_comes() {
        let wanted = ["alive".to_owned(), "well".to_owned()];
        let stream = typed("text/event-stream; charset=utf-8");
        let unwanted = ["ERROR".to_owned()];
        let mut watching = Watching::new(&wanted, &unwanted);
        let steps = [("", false), ("data: ali", false), ("data: alive, and w", false), ("data: alive, and well", true)];
        for (body, enough) in steps {
            assert_eq!(watching.enough(&stream, body.as_bytes()), enough, "{body}");
        }
        // Nothing is looked for in it: its head is enough. What has an end is waited for.
        assert!(Watching::new(&[], &[]).enough(&stream, b""));
        assert!(!Watching::new(&[], &[]).enough(&typed("text/html"), b""));
        // What must not be there is the end of it as soon as it comes, and never before.
        let mut watching = Watching::new(&[], &unwanted);
        for (body, enough) in [("", false), ("data: ok, ER", false), ("data: ok, ERROR", true)] {
            assert_eq!(watching.enough(&stream, body.as_bytes()), enough, "{body}");
        }
        assert!(watching.never_enough() && !Watching::new(&[], &unwanted).never_enough(), "only of an endless answer");
        let mut watching = Watching::new(&wanted, &unwanted);
        for (body, enough) in [("alive", false), ("alive, ERROR", true)] {
            assert_eq!(watching.enough(&stream, body.as_bytes()), enough, "{body}");
        }
        assert!(!watching.never_enough());
        let bounded = headers(&[(header::CONTENT_TYPE, "video/mp4"), (header::CONTENT_LENGTH, "9")]);
        assert!(!Watching::new(&[], &[]).enough(&bounded, b""));
    }
}
