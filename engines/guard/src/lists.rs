//! Lists of networks that are banned: files of this host, and URLs that are fetched each hour.
//!
//! A list that can't be read stays as it was read last; its copy is in the state of the engine, so a restart without the network
//! bans the same. One that was never read bans nobody, and is said.
//!
//! What a server answers may be no list: a page that says that it is being repaired, or half of a file that is just being made. So an
//! answer without a network counts as none, and one with fewer than half of the networks that there were is taken once each answer
//! of a day was such. A file is taken as it is: whoever writes it is on this host.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use engine::Context;
use engine::http::{HeaderMap, Method, Request, header};
use event::{Span, Time};
use ipnet::IpNet;

use crate::act::read_list;

/// Largest list, in bytes, and most networks of all lists.
const BYTES_MAX: usize = 4 * 1024 * 1024;
const NETWORKS_MAX: usize = 30_000;
/// Most IPv4 addresses of all lists.
const ADDRESSES_MAX: u64 = 1 << 30;
/// What that means of a list that can't be read.
const NEVER_READ: &str = "it was never read, and nobody is banned by it";
/// Of a list with at least so many networks, an answer with fewer than half of them is doubted, for so long.
const DOUBTED_FROM: usize = 20;
const DOUBTED_FOR: Span = Span::from_days(1);
/// How often lists are read again.
pub(crate) const EVERY: Span = Span::from_secs(3600);

/// Widest networks that count as banned: wider ones are left out whoever names them.
const PREFIX_MIN_V4: u8 = 8;

/// The networks of all lists, and what is wrong with lists.
pub(crate) type ReadLists = (Vec<IpNet>, BTreeMap<String, ListTrouble>);

/// What is wrong with a list.
#[derive(Clone, Default, Debug)]
pub(crate) struct ListTrouble {
    /// Why it is not read, or not whole.
    pub(crate) reasons: Vec<String>,
    /// It was never read, so nobody is banned by it.
    pub(crate) is_unknown: bool,
}

/// Why the file of a list can't be read; nothing of one that can, nor of a URL. Blocks for the disk.
pub(crate) fn file_error(list: &str) -> Option<io::Error> {
    list.starts_with('/').then(|| open(Path::new(list)).err())?
}

/// Why the file of a list that was never read can't be read, as [`read`] will say it. Blocks for the disk.
pub(crate) fn never_read(list: &str, state: &Path) -> Option<String> {
    let error = file_error(list)?;
    (!state.join(copy_name(list)).exists()).then(|| format!("{}: {NEVER_READ}", words(&error)))
}

/// The first of these lists that names the network or a part of it, as it was read last.
pub(crate) async fn naming(lists: &[String], state: &Path, network: IpNet) -> Option<String> {
    let copies: Vec<_> = lists.iter().map(|list| (list.clone(), state.join(copy_name(list)))).collect();
    let search = move || {
        copies.into_iter().find_map(|(list, copy)| {
            let (networks, _) = read_list(&std::fs::read_to_string(copy).ok()?, NETWORKS_MAX);
            let meets = |listed: &IpNet| listed.contains(&network) || network.contains(listed);
            networks.iter().any(meets).then_some(list)
        })
    };
    tokio::task::spawn_blocking(search).await.ok()?
}

/// The words for why a file can't be read.
pub(crate) fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "it is not there".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "the agent may not read it: give its user or its group the right to".to_owned()
        }
        _ => format!("it can't be read ({error})"),
    }
}

/// Reads all lists.
pub(crate) async fn read(lists: &[String], state: &Path, context: &Context) -> ReadLists {
    let (mut networks, mut wrong) = (Vec::new(), BTreeMap::new());
    let mut addresses = 0_u64;
    for list in lists {
        let (mut reasons, mut is_unknown) = (Vec::new(), false);
        let copy = state.join(copy_name(list));
        let (fetched, now) = (fetch(list, context).await, context.clock.now());
        let is_url = !list.starts_with('/');
        let settled = tokio::task::spawn_blocking(move || settle(fetched, is_url, &copy, now)).await;
        let text = match settled {
            Ok((text, said)) => {
                is_unknown = text.is_none();
                reasons.extend(said);
                text.unwrap_or_default()
            }
            Err(error) => {
                reasons.push(format!("it was not read: {error}"));
                String::new()
            }
        };
        let room = NETWORKS_MAX.saturating_sub(networks.len());
        let (read, bad) = read_list(&text, room);
        if bad > 0 {
            let lines = if bad == 1 { "1 line is".to_owned() } else { format!("{bad} lines are") };
            reasons.push(format!("{lines} no network, or more than the {NETWORKS_MAX} that are taken: left out"));
        }
        let of_list = addresses_of(&read);
        // A quarter of the addresses of the internet is no list of attackers.
        if addresses.saturating_add(of_list) > ADDRESSES_MAX {
            let with = if addresses == 0 { "it names" } else { "with the lists before it, it names" };
            reasons.push(format!(
                "{with} more than a quarter of the internet: none of its {} networks is banned",
                read.len()
            ));
        } else {
            addresses = addresses.saturating_add(of_list);
            networks.extend(read);
        }
        if !reasons.is_empty() {
            wrong.insert(list.clone(), ListTrouble { reasons, is_unknown });
        }
    }
    (networks, wrong)
}

/// The text of a list after it was fetched, and what is wrong with it; none of one that was never read. Blocks for the disk.
fn settle(
    fetched: Result<(String, bool), String>,
    is_url: bool,
    copy: &Path,
    now: Time,
) -> (Option<String>, Option<String>) {
    let last = std::fs::read_to_string(copy).ok();
    let doubted = copy.with_extension("doubted");
    let networks_of = |text: &str| read_list(text, NETWORKS_MAX).0;
    let as_before = |last: Option<String>, reason: String| match last {
        Some(last) => (Some(last), Some(format!("{reason}: the list is as it was read last"))),
        None => (None, Some(format!("{reason}: {NEVER_READ}"))),
    };
    let (text, is_whole) = match fetched {
        Ok(fetched) => fetched,
        Err(reason) => return as_before(last, reason),
    };
    let networks = networks_of(&text);
    if is_url {
        let before = last.as_deref().map_or(0, |last| networks_of(last).len());
        if networks.is_empty() {
            return as_before(last, "its server answers with nothing that is a network".to_owned());
        }
        if before >= DOUBTED_FROM && networks.len() < before.div_ceil(2) {
            let since = std::fs::read_to_string(&doubted).ok().and_then(|text| text.trim().parse().ok());
            let is_first = since.is_none();
            if now.since(since.map_or(now, Time::from_secs)) < DOUBTED_FOR {
                if is_first
                    && let Err(error) =
                        store::write_whole(&doubted, (now.micros() / 1_000_000).to_string().as_bytes(), 0o600)
                {
                    tracing::warn!(%error, "since when a list is doubted could not be kept");
                }
                let reason = format!(
                    "its server answers with {} networks, where there were {before}: that is believed once each answer of a day is \
                     such, or at the next `garant guard reload` when {} is deleted",
                    networks.len(),
                    copy.display()
                );
                return as_before(last, reason);
            }
        }
        // It is not there, most of the time.
        drop(std::fs::remove_file(&doubted));
    }
    // The networks alone: what else a file that was named by mistake holds is nobody's business.
    let lines: Vec<String> = networks.iter().map(ToString::to_string).collect();
    if let Err(error) = store::write_whole(copy, lines.join("\n").as_bytes(), 0o600) {
        tracing::warn!(%error, "no copy of a list could be kept");
    }
    let cut = (!is_whole).then(|| format!("it has more than {BYTES_MAX} bytes: what comes after them is left out"));
    (Some(text), cut)
}

/// How many IPv4 addresses these networks hold that would be banned.
fn addresses_of(networks: &[IpNet]) -> u64 {
    let v4 = |network: &IpNet| matches!(network, IpNet::V4(v4) if v4.prefix_len() >= PREFIX_MIN_V4);
    let apart = IpNet::aggregate(&networks.iter().copied().filter(v4).collect());
    apart.iter().map(|network| 1_u64 << (32_u8.saturating_sub(network.prefix_len()))).sum()
}

/// Text of these bytes, and whether that is all: at most so many, and whole lines. What is no UTF-8 makes its own line no network.
fn text_of(mut bytes: Vec<u8>) -> (String, bool) {
    let is_whole = bytes.len() <= BYTES_MAX;
    if !is_whole {
        // Half a line may be a far wider network than the whole one.
        bytes.truncate(BYTES_MAX);
        let end = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        bytes.truncate(end);
    }
    (String::from_utf8_lossy(&bytes).into_owned(), is_whole)
}

fn open(path: &Path) -> io::Result<File> {
    if std::fs::metadata(path)?.is_file() { File::open(path) } else { Err(io::Error::other("it is no file")) }
}

async fn fetch(list: &str, context: &Context) -> Result<(String, bool), String> {
    if list.starts_with('/') {
        let path = PathBuf::from(list);
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = Vec::new();
            let most = u64::try_from(BYTES_MAX + 1).unwrap_or(u64::MAX);
            open(&path)?.take(most).read_to_end(&mut bytes).map(|_| text_of(bytes))
        });
        return match read.await {
            Ok(Ok(text)) => Ok(text),
            Ok(Err(error)) => Err(words(&error)),
            Err(_) => Err("it can't be read".to_owned()),
        };
    }
    let request = Request::new(Method::GET, list).within(Span::from_secs(30)).body_bytes_max(BYTES_MAX);
    let response = request.send(&context.net).await.map_err(|error| format!("it can't be fetched ({error})"))?;
    refusal(response.status, &response.headers).map_or_else(|| Ok(text_of(response.body.to_vec())), Err)
}

/// Why an answer is no list, by its head.
fn refusal(status: u16, headers: &HeaderMap) -> Option<String> {
    if status != 200 {
        return Some(format!("its server answers with status {status}"));
    }
    // None was asked for, so what is in it can't be read.
    let encoding = headers.get(header::CONTENT_ENCODING).filter(|encoding| *encoding != "identity")?;
    Some(format!("its server answers with the content-encoding {encoding:?}, which was not asked for"))
}

/// The name of the copy of a list: letters and digits of its own, and no two alike.
fn copy_name(list: &str) -> String {
    let mut name = String::from("list-");
    for byte in list.bytes().take(100) {
        if byte.is_ascii_alphanumeric() { name.push(char::from(byte)) } else { name.push('-') }
    }
    format!("{name}-{:08x}", sum(list))
}

/// A small sum that tells two long URLs apart.
fn sum(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5_u32, |sum, byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that is being repaired, or sends half of a list, lifts no bans; one that says the same for a day is believed.
    #[test]
    fn an_answer_that_is_no_list_or_half_of_one_is_doubted() {
        let folder = tempfile::tempdir().expect("a folder");
        let copy = folder.path().join("list-x");
        let list = |count: u32| (0..count).map(|n| format!("198.18.{n}.0/24\n")).collect::<Vec<_>>().concat();
        let at = |hours: i64| Time::from_secs(1_800_000_000 + hours * 3600);
        let asked = |text: &str, hours: i64| {
            let (text, said) = settle(Ok((text.to_owned(), true)), true, &copy, at(hours));
            (text.map(|text| read_list(&text, 100).0.len()), said.unwrap_or_default())
        };
        let (none, said) = asked("<html>maintenance</html>\n", 0);
        assert!(none.is_none() && said.contains("never read"), "{said}");
        assert_eq!(asked(&list(40), 1), (Some(40), String::new()));
        for text in ["", "; nothing\n", "<html>maintenance</html>\n", "\u{1f}\u{fffd}\n"] {
            let (networks, said) = asked(text, 100);
            assert!(
                networks == Some(40) && said.contains("nothing that is a network") && said.contains("read last"),
                "{said}"
            );
        }
        assert_eq!(asked(&list(20), 101), (Some(20), String::new()), "half of it is believed");
        assert_eq!(asked(&list(40), 102), (Some(40), String::new()));
        let (networks, said) = asked(&list(19), 103);
        assert!(networks == Some(40) && said.contains("19 networks, where there were 40"), "{said}");
        assert_eq!(asked(&list(19), 126).0, Some(40));
        // An answer in between that is good begins it anew.
        assert_eq!(asked(&list(39), 126).0, Some(39));
        assert_eq!(asked(&list(3), 130).0, Some(39));
        assert_eq!(asked(&list(2), 154), (Some(2), String::new()));
        assert_eq!(asked(&list(1), 155), (Some(1), String::new()), "small ones are believed");
        // A file is as it is.
        let (text, said) = settle(Ok((String::new(), true)), false, &copy, at(156));
        assert_eq!((text.as_deref(), said), (Some(""), None));
    }

    #[test]
    fn an_answer_in_an_encoding_that_was_not_asked_for_is_refused() {
        let mut headers = HeaderMap::new();
        assert_eq!(refusal(200, &headers), None);
        assert!(refusal(503, &headers).is_some_and(|reason| reason.contains("503")));
        headers.insert(header::CONTENT_ENCODING, "gzip".parse().expect("a value"));
        assert!(refusal(200, &headers).is_some_and(|reason| reason.contains("gzip")));
        headers.insert(header::CONTENT_ENCODING, "identity".parse().expect("a value"));
        assert_eq!(refusal(200, &headers), None);
    }

    #[tokio::test]
    async fn a_list_that_is_gone_stays_as_it_was() {
        let folder = tempfile::tempdir().expect("a folder");
        let list = folder.path().join("drop.txt");
        let name = list.display().to_string();
        std::fs::write(&list, "; Spamhaus\n192.0.2.0/24 ; SBL1\nnonsense\n2001:db8::/32\n").expect("written");
        let world = engine::sim::World::at(Time::from_secs(1_000_000));
        let context = world.context("server.guard".parse().expect("a name")).expect("a context");
        let (networks, wrong) = read(std::slice::from_ref(&name), folder.path(), &context).await;
        assert_eq!(networks.len(), 2, "{networks:?}");
        assert!(wrong[&name].reasons[0].starts_with("1 line is no network"), "{wrong:?}");
        std::fs::remove_file(&list).expect("removed");
        let (again, wrong) = read(std::slice::from_ref(&name), folder.path(), &context).await;
        assert_eq!(again, networks);
        assert!(wrong[&name].reasons[0].contains("as it was read last") && !wrong[&name].is_unknown, "{wrong:?}");
        // One that was never there.
        let never = folder.path().join("never.txt").display().to_string();
        let (none, wrong) = read(std::slice::from_ref(&never), folder.path(), &context).await;
        assert_eq!(none, []);
        let said = &wrong[&never];
        assert!(said.reasons[0].contains("never read") && !said.reasons[0].contains("last"), "{said:?}");
        assert!(said.is_unknown);
    }

    #[tokio::test]
    async fn a_bad_byte_costs_its_line_and_a_list_of_too_much_is_left_out_by_itself() {
        let folder = tempfile::tempdir().expect("a folder");
        let names: Vec<String> =
            ["good", "huge", "long"].iter().map(|name| folder.path().join(name).display().to_string()).collect();
        std::fs::write(&names[0], b"192.0.2.0/24 ; Stra\xdfe\n198.51.100.\xff\n203.0.113.0/24\n64.0.0.0/3\n")
            .expect("written");
        let huge: Vec<String> = (1..=70).map(|first| format!("{first}.0.0.0/8\n")).collect();
        std::fs::write(&names[1], huge.concat() + "nonsense\n").expect("written");
        // The last line would be cut to half of the addresses that there are.
        let mut long = vec![b'#'; BYTES_MAX - 13];
        long.extend(b"\n192.0.0.0/24\n");
        std::fs::write(&names[2], &long).expect("written");
        let world = engine::sim::World::at(Time::from_secs(1_000_000));
        let context = world.context("server.guard".parse().expect("a name")).expect("a context");
        let (networks, wrong) = read(&names, folder.path(), &context).await;
        let networks: Vec<String> = networks.iter().map(ToString::to_string).collect();
        assert_eq!(networks, ["64.0.0.0/3", "192.0.2.0/24", "203.0.113.0/24"], "{wrong:?}");
        assert!(wrong[&names[0]].reasons[0].starts_with("1 line is no network"), "{wrong:?}");
        // Both are said of the one that is left out whole.
        assert_eq!(wrong[&names[1]].reasons.len(), 2, "{wrong:?}");
        assert!(wrong[&names[1]].reasons[1].contains("none of its 70 networks is banned"), "{wrong:?}");
        assert!(wrong[&names[2]].reasons[0].contains("more than 4194304 bytes"), "{wrong:?}");
    }
}
