//! The alphabet of text messages (GSM 03.38, now 3GPP TS 23.038), and a text made to fit into one.
//!
//! One letter outside of it, a `ê` or a `’`, turns the whole message into UCS-2: 70 characters instead of 160, or two messages
//! for the price of two. So what it has not is written with what it has, and what is too long is cut at a word.

/// Room in one message, in septets.
pub(super) const SEPTETS_MAX: usize = 160;

/// The default alphabet, without the escape to the extension (section 6.2.1).
const DEFAULT: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿\
    abcdefghijklmnopqrstuvwxyzäöñüà";

/// Its extension: each takes two septets (section 6.2.1.1).
const EXTENSION: &str = "^{}\\[~]|€";

/// What stands for the letters that it has not.
const INSTEAD: &[(&str, &str)] = &[
    ("âãáāăą", "a"),
    ("ÀÁÂÃĀĂĄ", "A"),
    ("çćĉċč", "c"),
    ("ĆĈĊČ", "C"),
    ("ďđð", "d"),
    ("ĎĐÐ", "D"),
    ("êëēĕėęě", "e"),
    ("ÈÊËĒĔĖĘĚ", "E"),
    ("ĝğġģ", "g"),
    ("ĜĞĠĢ", "G"),
    ("ĥħ", "h"),
    ("ĤĦ", "H"),
    ("íîïĩīĭįı", "i"),
    ("ÌÍÎÏĨĪĬĮİ", "I"),
    ("ĵ", "j"),
    ("Ĵ", "J"),
    ("ķ", "k"),
    ("Ķ", "K"),
    ("ĺļľŀł", "l"),
    ("ĹĻĽĿŁ", "L"),
    ("ńņňŋ", "n"),
    ("ŃŅŇŊ", "N"),
    ("óôõōŏő", "o"),
    ("ÒÓÔÕŌŎŐ", "O"),
    ("ŕŗř", "r"),
    ("ŔŖŘ", "R"),
    ("śŝşšș", "s"),
    ("ŚŜŞŠȘ", "S"),
    ("ţťŧț", "t"),
    ("ŢŤŦȚ", "T"),
    ("úûũūŭůűų", "u"),
    ("ÙÚÛŨŪŬŮŰŲ", "U"),
    ("ŵ", "w"),
    ("Ŵ", "W"),
    ("ýÿŷ", "y"),
    ("ÝŸŶ", "Y"),
    ("źżž", "z"),
    ("ŹŻŽ", "Z"),
    ("œ", "oe"),
    ("Œ", "OE"),
    ("þ", "th"),
    ("Þ", "TH"),
    ("’‘‚‛′`´ʼ", "'"),
    ("“”„‟″«»", "\""),
    ("‹", "<"),
    ("›", ">"),
    ("…", "..."),
    ("–—‐‑‒―−•", "-"),
    ("·", "."),
    (
        "\u{a0}\u{2000}\u{2001}\u{2002}\u{2003}\u{2004}\u{2005}\u{2006}\u{2007}\u{2008}\u{2009}\u{200a}\u{202f}\u{205f}\u{3000}\t",
        " ",
    ),
    ("→", "->"),
    ("←", "<-"),
    ("≥", ">="),
    ("≤", "<="),
    ("≠", "!="),
    ("×", "x"),
    ("÷", "/"),
    ("µμ", "u"),
    ("°º", "o"),
    ("ª", "a"),
    ("¹", "1"),
    ("²", "2"),
    ("³", "3"),
    ("½", "1/2"),
    ("¼", "1/4"),
    ("¾", "3/4"),
    ("©", "(c)"),
    ("®", "(r)"),
    ("™", "TM"),
    ("¢", "c"),
    ("¦", "|"),
];

/// The text in the alphabet: `?` for what nothing stands for.
pub(super) fn transliterated(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if septets_of(c).is_some() {
            out.push(c);
        } else {
            out.push_str(INSTEAD.iter().find(|(letters, _)| letters.contains(c)).map_or("?", |(_, instead)| instead));
        }
    }
    out
}

fn septets_of(c: char) -> Option<usize> {
    if DEFAULT.contains(c) {
        Some(1)
    } else if EXTENSION.contains(c) {
        Some(2)
    } else {
        None
    }
}

/// The room that the text takes, in septets; it is in the alphabet.
pub(super) fn septets(text: &str) -> usize {
    text.chars().filter_map(septets_of).sum()
}

/// The text and a link in one message: the link whole at its end, the text cut at a word with `...` where it must be. A link
/// that leaves the text no room is left out.
pub(super) fn in_one(text: &str, link: Option<&str>) -> String {
    /// What must remain for the text.
    const TEXT_MIN: usize = 20;
    let text = transliterated(text);
    let link = link.map(transliterated).filter(|link| septets(link) + 1 + TEXT_MIN <= SEPTETS_MAX);
    match link {
        Some(link) => format!("{} {link}", shortened(&text, SEPTETS_MAX - 1 - septets(&link))),
        None => shortened(&text, SEPTETS_MAX),
    }
}

fn shortened(text: &str, max: usize) -> String {
    const MARK: &str = "...";
    /// The most of a word that is left out for being cut.
    const WORD_BYTES_MAX: usize = 20;
    if septets(text) <= max {
        return text.to_owned();
    }
    let room = max - MARK.len();
    let (mut taken, mut end, mut word_end) = (0, 0, 0);
    for (at, c) in text.char_indices() {
        if c == ' ' {
            word_end = at;
        }
        taken += septets_of(c).unwrap_or_default();
        if taken > room {
            break;
        }
        end = at + c.len_utf8();
    }
    // A word that would cost much of the text is cut inside.
    let at_word = if text[end..].starts_with(' ') { end } else { word_end };
    let kept = if at_word == 0 || end - at_word > WORD_BYTES_MAX { end } else { at_word };
    let kept = text.get(..kept).unwrap_or_default();
    format!("{}{MARK}", kept.trim_end_matches([' ', ',', ':', ';']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn french_fits() {
        for (text, gsm) in [
            ("Où est l’hôte « web-1 » ? Ça a coûté 3 €…", "Où est l'hote \" web-1 \" ? Ça a couté 3 €..."),
            ("Œuvre — cœur, naïf, garçon, Noël, À Évian, Ê", "OEuvre - coeur, naif, garcon, Noel, A Évian, E"),
            ("é è ù à ç É", "é è ù à c É"),
            ("日本 🔥", "?? ?"),
        ] {
            assert_eq!(transliterated(text), gsm);
            assert_eq!(transliterated(gsm), gsm, "once is enough");
        }
        // 127 characters and the escape make 128, as the standard has it.
        assert_eq!(DEFAULT.chars().count(), 127);
        for (_, instead) in INSTEAD {
            assert_eq!(transliterated(instead), *instead);
        }
        assert_eq!(septets("a€b[c]"), 9);
    }

    #[test]
    fn a_message_is_one() {
        let link = "https://trust.shop.example/a/abc_123~x";
        for text in ["court", &"mot ".repeat(100), &"x".repeat(500), &"€".repeat(500), "", &"é€ ".repeat(60)] {
            for link in [None, Some(link)] {
                let message = in_one(text, link);
                assert!(septets(&message) <= SEPTETS_MAX, "{message}");
                assert!(septets(text) < 120 || septets(&message) > 100, "room is used: {message}");
                assert!(link.is_none_or(|link| message.ends_with(link)), "{message}");
            }
        }
        assert_eq!(shortened("un deux trois", 10), "un deux...");
        assert_eq!(shortened("un deux trois", 9), "un...");
        assert_eq!(shortened("abcdefghijkl", 8), "abcde...");
        assert_eq!(shortened("juste assez", 11), "juste assez");
        // What can't be whole is not there in part.
        assert_eq!(in_one("text", Some(&"l".repeat(160))), "text");
    }
}
