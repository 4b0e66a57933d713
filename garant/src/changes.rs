//! The entries `policy.changed`: the team's record of what changed in the policy, when, and on whose word (JO-3), without private
//! values (JO-2).
//!
//! A diff needs the text that was journaled last. The files of a minute ago won't do: a policy is edited while garant is
//! stopped, too. So that text is kept in the store, in the transaction of the `policy.changed` entry, and every
//! start and every reload is compared with that.
//!
//! Private values are out of the text before it gets here (`policy::Sources::redacted`). Two different secrets must
//! still make a difference, so in their place stands a mark: 32 bits of a hash over the value and a random salt. The salt
//! is drawn anew with each record, and neither salt nor mark ever leaves those rows; the diff says `…`, and
//! `# changed` where nothing else tells two lines apart.

use engine::Random;
use event::policy::Changed;
use event::{Observed, Zone};
use journal::Hash;
use policy::Sources;
use serde::{Deserialize, Serialize};
use similar::TextDiff;
use store::{LongValue, Rows, Step, StoreError};

/// Consumer name of the rows that hold what was journaled last.
const CONSUMER: &str = "policy.changed";
/// Key of the row that holds the text.
const TEXT: &str = "text";
/// Lines of context around a change.
const CONTEXT: usize = 2;
/// Longest diff that is journaled, in bytes; of a longer one the start is, and how much is missing.
const DIFF_BYTES_MAX: usize = 1024 * 1024;
/// Longest search for the shortest diff; after that a longer one is taken.
const DIFF_WITHIN: std::time::Duration = std::time::Duration::from_secs(2);
/// The character around a mark. TOML allows it nowhere, so no policy has it.
const EDGE: char = '\u{1}';

/// The cause of reading the policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Trigger {
    /// garant starts.
    Start,
    /// Somebody sent SIGHUP, as process managers do.
    Signal,
    /// Somebody ran `garant reload`.
    Reload,
}

impl Trigger {
    /// The word that is journaled.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Signal => "signal",
            Self::Reload => "reload",
        }
    }
}

/// The text of a policy as it may be kept, with a mark for each private value.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
struct MarkedText {
    salt: [u8; 16],
    marked: String,
}

impl MarkedText {
    fn of(sources: &Sources, salt: [u8; 16]) -> Self {
        let mark = |secret: &str| {
            let hash = Hash::of(&[&salt, secret.as_bytes()]).to_string();
            format!("…{EDGE}{}{EDGE}", hash.get(..8).unwrap_or_default())
        };
        let files = sources.redacted(mark);
        // Named as they lie beside the first: the same files are the same policy, from whatever folder it is started.
        let folder = files.first().map_or("", |(name, _)| name.rsplit_once('/').map_or("", |(folder, _)| folder));
        let mut marked = String::new();
        for (name, text) in &files {
            let name = name.strip_prefix(folder).unwrap_or(name).trim_start_matches('/');
            marked.extend(["# ", name, "\n", text.trim_end(), "\n"]);
        }
        Self { salt, marked }
    }
}

/// The policy as it was journaled last, with private values replaced by marks. Loaded at the start; decides whether a start
/// or a reload has changed anything.
#[derive(Debug, Default)]
pub(crate) struct Journaled {
    /// Sequence of the last `policy.changed`; `None` before the first.
    position: Option<u64>,
    stored: LongValue,
    text: Option<MarkedText>,
}

impl Journaled {
    /// Reads what the last `policy.changed` left in the rows; empty in a new log.
    pub(crate) async fn load(store: &dyn Rows) -> Result<Self, StoreError> {
        let Some(position) = store.position(CONSUMER).await? else { return Ok(Self::default()) };
        let stored = LongValue::read(store, CONSUMER, TEXT).await?;
        let text = serde_json::from_slice(&stored.bytes).ok();
        if text.is_none() {
            tracing::warn!("what was journaled of the policy can't be read: the whole policy is journaled anew");
        }
        Ok(Self { position: Some(position), stored, text })
    }

    /// The difference between what was journaled and `sources`, as a unified diff; `None` when they are equal.
    pub(crate) fn diff(&self, sources: &Sources) -> Option<String> {
        let Some(before) = &self.text else {
            return Some(diff("", &MarkedText::of(sources, [0; 16]).marked));
        };
        let now = MarkedText::of(sources, before.salt);
        (now.marked != before.marked).then(|| diff(&before.marked, &now.marked))
    }

    /// The time zone that this policy gives to people; UTC when it names none. The journal itself holds none: a log is the same
    /// wherever it is read.
    pub(crate) fn zone(&self) -> Zone {
        let Some(text) = &self.text else { return Zone::UTC };
        let value = |line: &str| {
            let (key, value) = line.split_once('=')?;
            (key.trim() == "time_zone").then(|| Zone::named(value.split(['"', '\'']).nth(1)?))?
        };
        text.marked.lines().find_map(value).unwrap_or_default()
    }

    /// The transaction that journals `events`, the change among them, and keeps `sources` as what was journaled last.
    pub(crate) fn step(&self, events: Vec<Observed>, sources: &Sources, random: &dyn Random) -> Step {
        let mut salt = [0; 16];
        random.fill(&mut salt);
        let text = LongValue::from(serde_json::to_vec(&MarkedText::of(sources, salt)).unwrap_or_default());
        let to = self.position.map_or(0, |position| position + 1);
        Step { rows: text.rows(TEXT, &self.stored), events, ..Step::new(CONSUMER, self.position, to) }
    }
}

/// The body of the entry that tells the team of a change.
pub(crate) fn changed(revision: &str, diff: String, trigger: Trigger) -> Changed {
    Changed { revision: revision.to_owned(), diff, trigger: trigger.as_str().to_owned() }
}

fn diff(before: &str, now: &str) -> String {
    let diff = TextDiff::configure().timeout(DIFF_WITHIN).diff_lines(before, now);
    let unified = diff.unified_diff().context_radius(CONTEXT).to_string();
    let removed: Vec<String> =
        unified.lines().filter_map(|line| line.strip_prefix('-')).map(|line| without_marks(line).0).collect();
    let mut out = String::with_capacity(unified.len());
    for line in unified.lines() {
        let (shown, has_mark) = without_marks(line);
        if out.len() + shown.len() > DIFF_BYTES_MAX {
            let left = unified.lines().count() - out.lines().count();
            out.extend(["… ", &left.to_string(), " more lines are not journaled\n"]);
            break;
        }
        let differs_by_a_secret =
            has_mark && shown.strip_prefix('+').is_some_and(|added| removed.iter().any(|before| before == added));
        out.push_str(&shown);
        out.push_str(if differs_by_a_secret { "  # changed\n" } else { "\n" });
    }
    out
}

/// The line without its marks, and whether it had any.
fn without_marks(line: &str) -> (String, bool) {
    // Marks stand at the odd places between the edges.
    let shown: String = line.split(EDGE).step_by(2).collect();
    let had = line.contains(EDGE);
    (shown, had)
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::{Basics, Document, Nouns, Part as _};

    fn sources(text: &str) -> Sources {
        let mut document = Document::from_text("/etc/garant/garant.toml", text);
        let nouns = Nouns::read(&mut document);
        drop((Basics::read(&mut document), respond::Config::read(&mut document, &nouns)));
        document.finish().expect("a sound policy")
    }

    fn journaled(text: &str) -> Journaled {
        Journaled { text: Some(MarkedText::of(&sources(text), [7; 16])), ..Journaled::default() }
    }

    const POLICY: &str = "[journal]\nname = \"shop.example\"\n[[person]]\nname = \"Léa\"\nchannel = { webhook = \"https://example.com/+33600000000\" }\n";

    #[test]
    fn the_first_policy_is_journaled_whole() {
        let diff = Journaled::default().diff(&sources(POLICY)).expect("all of it");
        assert!(diff.contains("+# garant.toml\n+[journal]\n+name = \"shop.example\"\n"), "{diff}");
        assert!(diff.ends_with("+name = \"…\"\n+channel = { webhook = \"…\" }\n"), "{diff}");
        assert!(!diff.contains(EDGE) && !diff.contains("Léa") && !diff.contains("336"), "{diff}");
    }

    #[test]
    fn the_same_policy_is_no_change() {
        assert_eq!(journaled(POLICY).diff(&sources(POLICY)), None);
        let commented = POLICY.replace("[[person]]", "[[person]] # Léa");
        assert!(journaled(POLICY).diff(&sources(&commented)).is_some(), "that there is a comment is a change");
        assert_eq!(
            journaled(&commented).diff(&sources(&commented.replace("# Léa", "# Zoé"))),
            None,
            "its words are none"
        );
    }

    #[test]
    fn the_zone_is_that_of_the_policy() {
        assert_eq!(journaled(POLICY).zone(), Zone::UTC);
        for line in ["time_zone = \"Asia/Kathmandu\" # ours\n", "time_zone='Asia/Kathmandu'\n"] {
            assert_eq!(journaled(&format!("{line}{POLICY}")).zone().name(), "Asia/Kathmandu");
        }
    }

    #[test]
    fn another_secret_is_a_change_that_shows() {
        let moved = POLICY.replace("33600000000", "33611111111");
        let diff = journaled(POLICY).diff(&sources(&moved)).expect("a change");
        assert!(
            diff.ends_with("-channel = { webhook = \"…\" }\n+channel = { webhook = \"…\" }  # changed\n"),
            "{diff}"
        );
        assert!(!diff.contains("336") && !diff.contains(EDGE), "{diff}");
        assert!(!diff.contains("name = \"…\"  # changed"), "what did not change does not seem to: {diff}");
    }

    #[test]
    fn a_diff_has_a_bound() {
        let long: String =
            (0..200_000).flat_map(|n: u32| ["n = ".to_owned(), n.to_string(), "\n".to_owned()]).collect();
        let diff = diff("", &long);
        assert!(diff.len() < DIFF_BYTES_MAX + 100, "{} bytes", diff.len());
        assert!(diff.ends_with(" more lines are not journaled\n"), "{}", &diff[diff.len() - 100..]);
    }
}
