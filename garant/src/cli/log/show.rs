//! `garant log show`: prints entries of the log, for the team.
//!
//! The journal is opened for reading only, so it works beside a running `garant up` and without one. An entry whose payload was
//! destroyed says no more than what its leaf does.

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Write as _;

use clap::Args;
use engine::clock::SystemClock;
use event::policy::Applied;
use event::{Clock as _, Envelope, ProbeId, ServiceId, Span, Time, Zone};
use journal::leaf::Leaf;
use notary::log;
use policy::nearest;
use serde_json::Value;
use serde_json::value::RawValue;
use store::Read as _;
use store::sqlite::SqliteReader;

use super::{note_if_outdated, open_to_read, unreadable};
use crate::changes::Journaled;
use crate::cli::{DataArgument, runtime};
use crate::failure::{Failure, USAGE};
use crate::registry::Registry;
use crate::terminal::Terminal;

/// Time between two looks for new entries, with `--follow`.
const LOOK_EVERY: Span = Span::from_secs(1);
/// Entries that are read at a time.
const PIECE: u64 = 1024;
/// The kind that is left out unless it is asked for: there is one a minute and observer.
const RECORDS: &str = "evidence.covered";
/// Keys of bodies that hold a time, in microseconds.
const TIMES: [&str; 7] = ["at", "after", "by", "start", "end", "since", "until"];
/// Longest text of a line, in bytes; a longer one is cut, and is whole with `--json`.
const TEXT_BYTES_MAX: usize = 400;

#[derive(Args, Debug)]
pub(crate) struct ShowCommand {
    #[command(flatten)]
    data: DataArgument,

    /// Only entries of this kind, such as `evidence.changed`, or whose kind begins with it, such as `evidence`; may be repeated.
    /// Without it, all but `evidence.covered`, of which there is one a minute
    #[arg(long, value_name = "KIND")]
    kind: Vec<String>,

    /// Only entries about this probe
    #[arg(long, value_name = "NAME")]
    probe: Option<ProbeId>,

    /// Only entries about this service and its probes
    #[arg(long, value_name = "NAME")]
    service: Option<ServiceId>,

    /// Only entries recorded from then on: a time such as `2026-11-28T17:00:00Z`, or how long ago, such as `"2 h"`
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,

    /// Only entries recorded before then
    #[arg(long, value_name = "WHEN")]
    until: Option<String>,

    /// The last so many of them
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 50)]
    last: usize,

    /// Go on with what is recorded from now on
    #[arg(short, long)]
    follow: bool,

    /// Write each entry as it is, as one line of JSON
    #[arg(long)]
    json: bool,
}

/// The entries that are asked for.
struct Filter {
    kinds: Vec<String>,
    /// Probes of which one must be named: those of a service, or one; `None` for all entries.
    probes: Option<BTreeSet<String>>,
    service: Option<String>,
    since: Option<Time>,
    until: Option<Time>,
}

/// An entry to be shown.
struct ShownEntry {
    sequence: u64,
    /// The kind, or what the leaf shows of it.
    kind: String,
    /// `None` when the payload was destroyed, or is no envelope of this format.
    payload: Option<(Envelope, Value, Vec<u8>)>,
}

impl ShowCommand {
    pub(super) fn run(&self, registry: &Registry, terminal: &mut Terminal) -> Result<(), Failure> {
        let store = open_to_read(&self.data.data)?;
        note_if_outdated(&store, &self.data.data, terminal)?;
        runtime()?.block_on(self.show(&store, registry, terminal))
    }

    async fn show(&self, store: &SqliteReader, registry: &Registry, terminal: &mut Terminal) -> Result<(), Failure> {
        let journaled = Journaled::load(store).await.map_err(|error| unreadable(&error))?;
        let zone = journaled.zone();
        let filter = self.filter(store).await?;
        let mut next = store.head().await.map_err(|error| unreadable(&error))?.size;
        let last = self.last(store, &filter, next).await?;
        for shown in &last {
            self.print(shown, &zone, terminal);
        }
        if last.is_empty() && self.last > 0 {
            // Without this line a misspelt kind would look as if nothing had happened.
            terminal.note(format!("none of the {next} entries is one that was asked for"));
        }
        let kinds: Vec<&str> = registry.kinds().map(|kind| kind.name).collect();
        let declared = match (&self.probe, &self.service) {
            (None, None) => None,
            _ => log::last_applied(store).await?,
        };
        for unknown in self.unknown(&kinds, declared.as_ref()) {
            terminal.note(unknown);
        }
        while self.follow && terminal.is_read() {
            tokio::time::sleep(LOOK_EVERY.to_std()).await;
            loop {
                let entries = store.entries(next..next + PIECE).await.map_err(|error| unreadable(&error))?;
                let Some(last) = entries.last() else { break };
                next = last.sequence + 1;
                for shown in entries.into_iter().map(ShownEntry::of).filter(|shown| filter.wants(shown)) {
                    self.print(&shown, &zone, terminal);
                }
            }
        }
        Ok(())
    }

    /// What was asked for under a name that nothing has: a slip of the finger, or what is no more.
    fn unknown(&self, kinds: &[&str], declared: Option<&Applied>) -> Vec<String> {
        let meant = |word: &str, known: &[&str]| match nearest(word, known.iter().copied()) {
            Some(meant) => format!("; did you mean `{meant}`?"),
            None => String::new(),
        };
        let begins = |kind: &&str, with: &str| kind.strip_prefix(with).is_some_and(|rest| rest.starts_with('.'));
        // A kind may be meant by its beginning.
        let mut words: Vec<&str> =
            kinds.iter().filter_map(|kind| kind.split_once('.')).map(|(family, _)| family).collect();
        words.dedup();
        words.extend(kinds);
        let is_unknown = |kind: &&String| !kinds.iter().any(|known| known == *kind || begins(known, kind));
        let unknown = |kind: &String| format!("this garant knows no kind of entry `{kind}`{}", meant(kind, &words));
        let of_kind = self.kind.iter().filter(is_unknown).map(unknown);
        let of_name = |noun: &str, asked: Option<String>, known: Vec<&str>| {
            let asked = asked.filter(|asked| !known.contains(&asked.as_str()))?;
            Some(format!("the policy that was journaled last has no {noun} `{asked}`{}", meant(&asked, &known)))
        };
        let of_policy = declared.map(|declared| {
            let probes = declared.probes.iter().map(|probe| probe.id.as_str()).collect();
            let services = declared.services.iter().map(|service| service.id.as_str()).collect();
            [
                of_name("probe", self.probe.as_ref().map(ToString::to_string), probes),
                of_name("service", self.service.as_ref().map(ToString::to_string), services),
            ]
        });
        of_kind.chain(of_policy.into_iter().flatten().flatten()).collect()
    }

    async fn filter(&self, store: &SqliteReader) -> Result<Filter, Failure> {
        let now = SystemClock.now();
        let probes = match (&self.probe, &self.service) {
            (None, None) => None,
            (Some(probe), None) => Some([probe.to_string()].into()),
            (probe, Some(service)) => {
                let policy = log::last_applied(store).await?;
                let probes = policy.iter().flat_map(|policy| &policy.probes).filter(|probe| probe.service == *service);
                let wanted = probes.filter(|of_it| probe.as_ref().is_none_or(|probe| of_it.id == *probe));
                Some(wanted.map(|probe| probe.id.to_string()).collect())
            }
        };
        let since = self.since.as_deref().map(|text| when(text, now)).transpose()?;
        let until = self.until.as_deref().map(|text| when(text, now)).transpose()?;
        if let (Some(since), Some(until)) = (since, until)
            && until <= since
        {
            return Err(Failure::new(format!("nothing is both recorded since {since} and before {until}"))
                .remedy("--until is the later of the two")
                .code(USAGE));
        }
        Ok(Filter {
            kinds: self.kind.clone(),
            probes,
            service: self.service.as_ref().filter(|_| self.probe.is_none()).map(ToString::to_string),
            since,
            until,
        })
    }

    /// The last entries below `size` that the filter wants, in their order.
    async fn last(&self, store: &SqliteReader, filter: &Filter, size: u64) -> Result<VecDeque<ShownEntry>, Failure> {
        let (mut found, mut end) = (VecDeque::new(), size);
        while end > 0 && found.len() < self.last {
            let start = end.saturating_sub(PIECE);
            let (mut piece, mut next) = (Vec::new(), start);
            while next < end {
                let entries = store.entries(next..end).await.map_err(|error| unreadable(&error))?;
                let Some(last) = entries.last() else {
                    return Err(Failure::new(format!("entry {next} of {size} can't be read")));
                };
                next = last.sequence + 1;
                piece.extend(entries.into_iter().map(ShownEntry::of));
            }
            end = start;
            let is_over = piece.first().is_some_and(|first| filter.is_before(first));
            for shown in piece.into_iter().rev().filter(|shown| filter.wants(shown)) {
                if found.len() < self.last {
                    found.push_front(shown);
                }
            }
            if is_over {
                break;
            }
        }
        Ok(found)
    }

    fn print(&self, shown: &ShownEntry, zone: &Zone, terminal: &mut Terminal) {
        if self.json {
            terminal.line(shown.json());
        } else {
            terminal.line(shown.line(zone));
        }
    }
}

/// Parses a time, or a span before now.
fn when(text: &str, now: Time) -> Result<Time, Failure> {
    let ago = || Span::parse(text).ok().map(|ago| now - ago);
    Time::parse_rfc3339(text).or_else(ago).ok_or_else(|| {
        Failure::new(format!("`{text}` is no time"))
            .remedy("write a time such as 2026-11-28T17:00:00Z, or how long ago it is, such as \"2 h\"")
            .code(USAGE)
    })
}

impl Filter {
    fn wants(&self, shown: &ShownEntry) -> bool {
        let of_kind = |kind: &String| {
            shown.kind.strip_prefix(kind.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let kind = if self.kinds.is_empty() { shown.kind != RECORDS } else { self.kinds.iter().any(of_kind) };
        if !kind {
            return false;
        }
        let is_open = self.probes.is_none() && self.since.is_none() && self.until.is_none();
        let Some((envelope, body, _)) = &shown.payload else { return is_open };
        let recorded = envelope.recorded_at;
        self.since.is_none_or(|since| since <= recorded)
            && self.until.is_none_or(|until| recorded < until)
            && self.probes.as_ref().is_none_or(|probes| self.is_about(probes, body))
    }

    /// Whether the body names one of the probes, or the service.
    fn is_about(&self, probes: &BTreeSet<String>, body: &Value) -> bool {
        let named = |key: &str| body.get(key).and_then(Value::as_str);
        let by_service = self.service.is_some() && named("service") == self.service.as_deref();
        let gaps = body.get("gaps").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let in_gaps = gaps.iter().filter_map(|gap| gap.get("probe")?.as_str());
        by_service || named("probe").into_iter().chain(in_gaps).any(|probe| probes.contains(probe))
    }

    /// Whether no entry before this one is wanted: entries are in the order of their recording, but for steps of the clock.
    fn is_before(&self, shown: &ShownEntry) -> bool {
        let recorded = shown.payload.as_ref().map(|(envelope, ..)| envelope.recorded_at);
        self.since.zip(recorded).is_some_and(|(since, recorded)| recorded + CLOCKS < since)
    }
}

/// The most that recorded times are taken to go back, by steps of the clock.
const CLOCKS: Span = Span::from_secs(3600);

impl ShownEntry {
    fn of(entry: store::Entry) -> Self {
        let payload = entry.payload.and_then(|payload| {
            let envelope = Envelope::decode(&payload.bytes).ok()?;
            let body = serde_json::from_str(envelope.body.get()).ok()?;
            Some((envelope, body, payload.bytes))
        });
        let kind = match &payload {
            Some((envelope, ..)) => envelope.kind.clone(),
            None => Leaf::parse(&entry.leaf).map_or_else(|_| "?".to_owned(), |leaf| leaf.coarse),
        };
        Self { sequence: entry.sequence, kind, payload }
    }

    /// The line: time, entry, kind, observer, body.
    fn line(&self, zone: &Zone) -> String {
        let Self { sequence, kind, payload } = self;
        let Some((envelope, body, _)) = payload else {
            return format!("{:27}  {sequence:>7}  {kind}: its payload was destroyed, or can't be read", "");
        };
        let recorded = zone.rfc3339(envelope.recorded_at);
        printable(&format!("{recorded:27}  {sequence:>7}  {kind}  {}  {}", envelope.observer, words(body, zone)))
    }

    fn json(&self) -> String {
        #[derive(serde::Serialize)]
        struct Line<'a> {
            sequence: u64,
            kind: &'a str,
            entry: Option<&'a RawValue>,
        }
        let entry = self.payload.as_ref().and_then(|(.., bytes)| serde_json::from_slice(bytes).ok());
        serde_json::to_string(&Line { sequence: self.sequence, kind: &self.kind, entry }).unwrap_or_default()
    }
}

/// Replaces each time of a body, in microseconds or as text, by its text in `zone`.
fn write_times(value: &mut Value, zone: &Zone) {
    match value {
        Value::Object(members) => {
            for (key, member) in members.iter_mut() {
                match member.as_i64().filter(|_| TIMES.contains(&key.as_str())) {
                    Some(micros) => *member = zone.rfc3339(Time::from_micros(micros)).into(),
                    None => write_times(member, zone),
                }
            }
        }
        Value::Array(members) => members.iter_mut().for_each(|member| write_times(member, zone)),
        Value::String(text) => *text = zone.of_text(text).into_owned(),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The keys and values of a body, without the punctuation of JSON.
fn words(body: &Value, zone: &Zone) -> String {
    let mut text = String::new();
    let mut body = body.clone();
    write_times(&mut body, zone);
    let Some(members) = body.as_object() else { return body.to_string() };
    for (key, value) in members {
        let gap = if text.is_empty() { "" } else { " " };
        // Writing to a String can't fail.
        let _infallible = match value {
            Value::String(said) if !said.contains([' ', '"', '=']) => write!(text, "{gap}{key}={said}"),
            value => write!(text, "{gap}{key}={value}"),
        };
    }
    if text.len() > TEXT_BYTES_MAX {
        let end = (0..=TEXT_BYTES_MAX).rev().find(|&place| text.is_char_boundary(place)).unwrap_or_default();
        text.truncate(end);
        text.push('…');
    }
    text
}

/// The text without control characters and marks of writing direction: others may have written it.
fn printable(text: &str) -> String {
    let acts = |c: char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if acts(c) { safe.extend(c.escape_unicode()) } else { safe.push(c) }
    }
    safe
}

#[cfg(test)]
mod tests {
    use event::evidence::{Changed, Covered, Gap, State};
    use event::{Body, BootId, InstallationId, Interval, Observed};

    use super::*;

    const NOW: Time = Time::from_secs(1_795_388_400);

    fn shown(sequence: u64, body: &impl Body, recorded: Time) -> ShownEntry {
        let (observer, boot) = ("here.watch".parse().expect("a name"), BootId::from_bytes([1; 16]));
        let observed = Observed::new(body, observer, boot, 0, recorded).expect("JSON");
        let envelope = observed.record(InstallationId::from_bytes([1; 16]), "shop.example/1", recorded);
        let bytes = envelope.encode();
        let body = serde_json::from_str(envelope.body.get()).expect("JSON");
        ShownEntry { sequence, kind: envelope.kind.clone(), payload: Some((envelope, body, bytes)) }
    }

    fn changed(probe: &str) -> Changed {
        let (probe, service) = (probe.parse().expect("a name"), "shop".parse().expect("a name"));
        Changed { probe, service, state: State::Down, after: NOW, by: NOW }
    }

    fn covered(gap: &str) -> Covered {
        let gap = Gap { probe: gap.parse().expect("a name"), finding: None, interval: Interval::new(NOW, NOW) };
        Covered { interval: Interval::new(NOW, NOW), revision: "r1".to_owned(), every: None, gaps: vec![gap] }
    }

    fn any() -> Filter {
        Filter { kinds: vec![], probes: None, service: None, since: None, until: None }
    }

    #[test]
    fn entries_are_chosen_by_kind_probe_service_and_time() {
        let entries = [shown(0, &changed("front"), NOW), shown(1, &changed("back"), NOW + Span::from_secs(60))];
        let record = shown(2, &covered("front"), NOW + Span::from_secs(120));
        let destroyed = ShownEntry { sequence: 3, kind: "team:monitoring".to_owned(), payload: None };
        let all = || entries.iter().chain([&record, &destroyed]);
        let of = |filter: &Filter| all().filter(|shown| filter.wants(shown)).map(|s| s.sequence).collect::<Vec<_>>();
        assert_eq!(of(&any()), [0, 1, 3], "no records of coverage");
        let kinds = |kind: &str| Filter { kinds: vec![kind.to_owned()], ..any() };
        assert_eq!(of(&kinds("evidence")), [0, 1, 2]);
        assert_eq!(of(&kinds("evidence.changed")), [0, 1]);
        assert_eq!(of(&kinds("evid")), [0; 0], "no half a word");
        let front = || Some(["front".to_owned()].into());
        assert_eq!(of(&Filter { probes: front(), ..any() }), [0]);
        assert_eq!(of(&Filter { probes: front(), ..kinds("evidence") }), [0, 2], "a gap is about its probe");
        assert_eq!(of(&Filter { probes: front(), service: Some("shop".to_owned()), ..any() }), [0, 1]);
        let since = Some(NOW + Span::from_secs(60));
        assert_eq!(of(&Filter { since, ..any() }), [1], "a destroyed entry has no time");
        assert_eq!(of(&Filter { until: since, ..any() }), [0]);
        let long_ago = Filter { since: Some(NOW + Span::from_days(1)), ..any() };
        assert!(long_ago.is_before(&entries[0]) && !any().is_before(&entries[0]));
    }

    #[test]
    fn an_entry_is_one_line() {
        let line = shown(7, &changed("front"), NOW).line(&Zone::UTC);
        assert_eq!(
            line,
            format!(
                "{:27}  {:>7}  evidence.changed  here.watch  after={NOW} by={NOW} probe=front service=shop state=down",
                NOW.to_string(),
                7
            )
        );
        let paris = Zone::named("Europe/Paris").expect("a zone");
        let line = shown(7, &changed("front"), NOW).line(&paris);
        assert!(
            line.starts_with("2026-11-23T00:00:00+01:00  ") && line.contains("by=2026-11-23T00:00:00+01:00"),
            "{line}"
        );
        let line = shown(7, &covered("front"), NOW).line(&paris);
        assert!(line.contains("interval={\"end\":\"2026-11-23T00:00:00+01:00\""), "{line}");
        let until = words(&serde_json::json!({ "rule": "sshd", "until": NOW.micros() }), &paris);
        assert_eq!(until, "rule=sshd until=2026-11-23T00:00:00+01:00", "the end of a ban");
        let json: Value = serde_json::from_str(&shown(7, &changed("front"), NOW).json()).expect("JSON");
        assert_eq!((&json["sequence"], &json["entry"]["body"]["probe"]), (&7.into(), &"front".into()));
        assert_eq!(printable("a\u{1b}[31m\u{202e}b"), "a\\u{1b}[31m\\u{202e}b");
        assert!(words(&serde_json::json!({ "text": "x".repeat(2000) }), &paris).len() < TEXT_BYTES_MAX + 10);
    }

    #[test]
    fn times_are_said_in_two_ways() {
        for (text, expected) in
            [("2 h", Some(NOW - Span::from_secs(7200))), ("2026-11-22T23:00:00Z", Some(NOW)), ("yesterday", None)]
        {
            assert_eq!(when(text, NOW).ok(), expected, "{text}");
        }
    }
}
