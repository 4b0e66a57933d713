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
    let plain = |text: &str| {
        let mut plain = String::with_capacity(text.len());
        for c in text.chars() {
            if matches!(c, '\\' | '`' | '*' | '~' | '[' | ']' | '<' | '>' | '|' | '#') {
                plain.push('\\');
            }
            plain.push(c);
            if c == '@' {
                // Without a width, and enough for nobody to be called.
                plain.push('\u{2060}');
            }
        }
        plain
    };
    let text = compose::whole(message, TEXT_BYTES_MAX / 2);
    // Each line on its own: a single end of a line is none in Markdown.
    format!("**{}**\n{}", plain(&compose::subject(message)), plain(&text))
}
