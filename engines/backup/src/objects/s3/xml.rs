//! Answers of S3 in XML, as far as they are read: elements with their texts, without attributes and namespaces, which providers
//! write as they like.

use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::Event;

/// Deepest nesting that is read.
const DEPTH_MAX: usize = 16;

/// An element.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Element {
    /// Its name, without a prefix.
    pub(super) name: String,
    /// The text in it.
    pub(super) text: String,
    /// The elements in it.
    pub(super) children: Vec<Element>,
}

impl Element {
    /// The outermost element of a document; `None` where that is none.
    pub(super) fn parse(document: &[u8]) -> Option<Self> {
        let document = std::str::from_utf8(document).ok()?;
        let mut reader = Reader::from_str(document);
        let mut open = vec![Self::default()];
        loop {
            match reader.read_event().ok()? {
                Event::Start(start) if open.len() <= DEPTH_MAX => open.push(Self::named(start.local_name().as_ref())),
                Event::Empty(start) => open.last_mut()?.children.push(Self::named(start.local_name().as_ref())),
                Event::End(_) => {
                    let ended = open.pop()?;
                    open.last_mut()?.children.push(ended);
                }
                Event::Text(text) => open.last_mut()?.text.push_str(&text.decode().ok()?),
                Event::CData(text) => open.last_mut()?.text.push_str(&text.decode().ok()?),
                Event::GeneralRef(reference) => {
                    let open = &mut open.last_mut()?.text;
                    match reference.resolve_char_ref() {
                        Ok(Some(character)) => open.push(character),
                        Ok(None) => open.push_str(resolve_predefined_entity(&reference.decode().ok()?)?),
                        // One that XML does not have: in no name of ours.
                        Err(_) => open.push(char::REPLACEMENT_CHARACTER),
                    }
                }
                Event::Eof if open.len() == 1 => return open.pop()?.children.pop(),
                Event::Start(_) | Event::Eof => return None,
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
            }
        }
    }

    fn named(name: &[u8]) -> Self {
        Self { name: String::from_utf8_lossy(name).into_owned(), ..Self::default() }
    }

    /// Those elements in it that have this name.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The text of the first element in it of this name; empty where there is none.
    pub(super) fn text(&self, name: &str) -> &str {
        self.children.iter().find(|child| child.name == name).map_or("", |child| child.text.trim())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_read_whatever_stands_around_them() {
        let document = b"<?xml version=\"1.0\"?>\n<!-- x --><a:R xmlns:a='u'>\n <K>a&amp;b &#x41;&quot;</K><E/><L><K>1</K><K><![CDATA[<2>]]></K></L>\n</a:R>";
        let root = Element::parse(document).expect("a document");
        assert_eq!((root.name.as_str(), root.text("K"), root.text("E"), root.text("none")), ("R", "a&b A\"", "", ""));
        let keys: Vec<&str> = root.all("L").flat_map(|l| l.all("K")).map(|k| k.text.as_str()).collect();
        assert_eq!(keys, ["1", "<2>"]);
    }

    #[test]
    fn what_is_no_document_is_none() {
        let deep = "<a>".repeat(100) + &"</a>".repeat(100);
        for document in ["", "<a>", "<a></b>", "no", "<a>&nothing;</a>", &deep] {
            assert_eq!(Element::parse(document.as_bytes()), None, "{document}");
        }
        assert_eq!(Element::parse(b"\xff"), None);
    }
}
