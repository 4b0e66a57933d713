//! Lists of networks that are banned: files of this host, and URLs that are fetched each hour.
//!
//! A list that can't be read stays as it was read last; its copy is in the state of the engine, so a restart without the network
//! bans the same.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use engine::Context;
use engine::http::{Method, Request};
use event::Span;
use ipnet::IpNet;

use crate::act::read_list;

/// Largest list, in bytes, and most networks of all lists.
const BYTES_MAX: usize = 4 * 1024 * 1024;
const NETWORKS_MAX: usize = 30_000;
/// Most IPv4 addresses of all lists.
const ADDRESSES_MAX: u64 = 1 << 30;
/// How often lists are read again.
pub(crate) const EVERY: Span = Span::from_secs(3600);

/// The networks of all lists, and the lists that could not be read whole, each with the reason.
pub(crate) type ReadLists = (Vec<IpNet>, Vec<(String, String)>);

/// Reads all lists.
pub(crate) async fn read(lists: &[String], state: &Path, context: &Context) -> ReadLists {
    let (mut networks, mut wrong) = (Vec::new(), Vec::new());
    for list in lists {
        let copy = state.join(copy_name(list));
        let text = match fetch(list, context).await {
            Ok(text) => {
                // The networks alone: what else a file that was named by mistake holds is nobody's business.
                let (networks, _) = read_list(&text, NETWORKS_MAX);
                let lines: Vec<String> = networks.iter().map(ToString::to_string).collect();
                let (path, bytes) = (copy, lines.join("\n").into_bytes());
                let kept = tokio::task::spawn_blocking(move || store::write_whole(&path, &bytes, 0o600)).await;
                if !matches!(kept, Ok(Ok(()))) {
                    tracing::warn!(list, "no copy of the list could be kept");
                }
                text
            }
            Err(reason) => {
                wrong.push((list.clone(), format!("{reason}: the list is as it was read last")));
                let last = tokio::task::spawn_blocking(move || std::fs::read_to_string(copy)).await;
                last.ok().and_then(Result::ok).unwrap_or_default()
            }
        };
        let room = NETWORKS_MAX.saturating_sub(networks.len());
        let (read, bad) = read_list(&text, room);
        if bad > 0 {
            let reason = format!(
                "{bad} lines are no network, or more than the {NETWORKS_MAX} that are taken: they are left out"
            );
            wrong.push((list.clone(), reason));
        }
        networks.extend(read);
    }
    // A quarter of the addresses of the internet is no list of attackers.
    let addresses: u64 = networks
        .iter()
        .map(|network| match network {
            IpNet::V4(v4) => 1_u64 << (32 - v4.prefix_len()),
            IpNet::V6(_) => 0,
        })
        .sum();
    if addresses > ADDRESSES_MAX {
        let reason = "all lists together name more than a quarter of the internet: none of them is banned".to_owned();
        wrong.extend(lists.iter().map(|list| (list.clone(), reason.clone())));
        networks.clear();
    }
    (networks, wrong)
}

async fn fetch(list: &str, context: &Context) -> Result<String, String> {
    if list.starts_with('/') {
        let path = PathBuf::from(list);
        let read = tokio::task::spawn_blocking(move || {
            if !std::fs::metadata(&path)?.is_file() {
                return Err(std::io::Error::other("it is no file"));
            }
            let mut text = String::new();
            let most = u64::try_from(BYTES_MAX).unwrap_or(u64::MAX);
            std::fs::File::open(path)?.take(most).read_to_string(&mut text).map(|_| text)
        });
        return match read.await {
            Ok(Ok(text)) => Ok(text),
            Ok(Err(error)) => Err(format!("it can't be read ({error})")),
            Err(_) => Err("it can't be read".to_owned()),
        };
    }
    let request = Request::new(Method::GET, list).within(Span::from_secs(30)).body_bytes_max(BYTES_MAX);
    let response = request.send(&context.net).await.map_err(|error| format!("it can't be fetched ({error})"))?;
    if response.status != 200 {
        return Err(format!("its server answers with status {}", response.status));
    }
    String::from_utf8(response.body.to_vec()).map_err(|_| "it is no text".to_owned())
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
    use event::Time;

    use super::*;

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
        assert!(wrong[0].1.starts_with("1 lines are no network"), "{wrong:?}");
        std::fs::remove_file(&list).expect("removed");
        let (again, wrong) = read(&[name], folder.path(), &context).await;
        assert_eq!(again, networks);
        assert!(wrong.iter().any(|(_, reason)| reason.contains("as it was read last")), "{wrong:?}");
    }
}
