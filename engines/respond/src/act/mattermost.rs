//! The channel `mattermost`: a message over an incoming webhook of Mattermost, or of a chat that understands the same.

use std::sync::Arc;

use engine::Secrets;
use policy::{Secret, Table};

use super::hook::HookUrl;
use super::slack::Incoming;
use super::{Channel, Kind, Message, Providers, compose};

/// Longest text of a message, in bytes: Mattermost takes 16 383 characters.
const TEXT_BYTES_MAX: usize = 12 * 1024;

/// `mattermost`: where the address of an incoming webhook is kept.
#[derive(Clone, PartialEq, Debug)]
pub struct Mattermost(Secret);

impl Kind for Mattermost {
    const NAME: &'static str = "mattermost";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let about =
            "Where the address of an incoming webhook of Mattermost or Rocket.Chat is kept; whoever has it may write";
        table.optional(Self::NAME, about).map(Self)
    }

    fn leads_to(&self) -> String {
        self.0.to_string()
    }

    fn open(&self, _providers: &Providers) -> Option<Arc<dyn Channel>> {
        Some(Arc::new(Incoming { kind: Self::NAME, url: HookUrl::Kept(self.0.clone()), text }))
    }

    fn warnings(&self, secrets: &Secrets) -> Vec<String> {
        HookUrl::Kept(self.0.clone()).warnings("the webhook of Mattermost", secrets)
    }
}

/// The text, with what Markdown would take for more made plain, and nobody called by name.
fn text(message: &Message) -> String {
    let text = compose::whole(message, TEXT_BYTES_MAX / 2);
    format!("**{}**\n{}", plain(&compose::subject(message)), plain(&text))
}

fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len() + text.len() / 8);
    for word in text.split_inclusive([' ', '\n']) {
        // An address is not escaped: what is put into it would be part of it.
        let address =
            (word.starts_with("https://") || word.starts_with("http://")) && !word.contains(['<', '>', '[', ']']);
        for c in word.chars() {
            if !address && matches!(c, '\\' | '`' | '*' | '~' | '[' | ']' | '<' | '>' | '|' | '#') {
                plain.push('\\');
            }
            plain.push(c);
            if c == '@' && !address {
                // Without a width, and enough for nobody to be called.
                plain.push('\u{2060}');
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_is_text_and_addresses_stay_whole() {
        for (text, expected) in [
            ("#1 is *down*, see https://x.example/a#b~c now", "\\#1 is \\*down\\*, see https://x.example/a#b~c now"),
            ("@all\n@here", "@\u{2060}all\n@\u{2060}here"),
            ("https://x.example](b)", "https://x.example\\](b)"),
        ] {
            assert_eq!(plain(text), expected);
        }
    }
}
