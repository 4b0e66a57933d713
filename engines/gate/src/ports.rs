//! Whether the gate could listen at an address, and who does where it can't: nginx at 80 and 443, on many a host that gets a gate.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use tokio::net::TcpSocket;

/// The state of a socket that listens, in `/proc/net/tcp` (proc_net_tcp.txt of the kernel).
const LISTENS: &str = "0A";
/// Most bytes of such a file that are read.
const BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A socket at an address, which does not listen yet.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Another one may still be closing connections there.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Why the gate can't listen at an address, and what to do. Blocks for the disk.
pub(crate) fn problem(address: SocketAddr, error: &io::Error) -> String {
    let (why, remedy) = match (error.kind(), holders(address.port())) {
        (io::ErrorKind::AddrInUse, Some(holders)) => (
            format!("{holders} listens there"),
            "stop it, or have one of them listen elsewhere (`http` and `https` in [gate])",
        ),
        (io::ErrorKind::AddrInUse, None) => (
            "another process listens there, which only root may know".to_owned(),
            "`ss -ltnp` as root names it: stop it, or have one of them listen elsewhere (`http` and `https` in [gate])",
        ),
        (io::ErrorKind::AddrNotAvailable, _) => (
            "this host has no such address".to_owned(),
            "name one of its own in `http` and `https` of [gate], or `[::]` for all",
        ),
        (io::ErrorKind::PermissionDenied, _) => {
            (error.to_string(), "let it bind low ports (CAP_NET_BIND_SERVICE), as `garant up` does that runs as root")
        }
        _ => (error.to_string(), "look at the network of this host"),
    };
    format!("the gate can't listen at {address}: {why}; {remedy}")
}

/// The processes that listen at a port, as far as this user may know.
fn holders(port: u16) -> Option<String> {
    let tables = ["tcp", "tcp6"].map(|name| read_bounded(&Path::new("/proc/net").join(name)));
    let sockets: Vec<String> =
        tables.iter().flat_map(|table| inodes_of(table, port)).map(|inode| format!("socket:[{inode}]")).collect();
    let mut holders: Vec<String> = std::fs::read_dir("/proc")
        .ok()?
        .flatten()
        .filter(|process| has_open(&process.path(), &sockets))
        .filter_map(|process| {
            let name = std::fs::read_to_string(process.path().join("comm")).ok()?;
            // Whoever runs a process names it.
            Some(format!("{} (process {})", name.trim().escape_debug(), process.file_name().display()))
        })
        .collect();
    // A server of many processes has it in each.
    holders.sort();
    let first = holders.first()?.clone();
    Some(if holders.len() > 1 { format!("{first}, and {} more,", holders.len() - 1) } else { first })
}

/// The numbers of the sockets of a table that listen at a port.
fn inodes_of(table: &str, port: u16) -> impl Iterator<Item = &str> {
    let end = format!(":{port:04X}");
    table.lines().filter_map(move |line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (local, state) = (words.next()?, words.nth(1)?);
        (local.ends_with(&end) && state == LISTENS).then(|| words.nth(5)).flatten()
    })
}

fn has_open(process: &Path, sockets: &[String]) -> bool {
    let Ok(open) = std::fs::read_dir(process.join("fd")) else { return false };
    open.flatten().filter_map(|descriptor| std::fs::read_link(descriptor.path()).ok()).any(|link| {
        let link = link.to_str();
        sockets.iter().any(|socket| link == Some(socket))
    })
}

fn read_bounded(path: &Path) -> String {
    use std::io::Read as _;
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(BYTES_MAX).read_to_string(&mut text));
    if read.is_ok() { text } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_found_by_its_port() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0\n\
            1: 0100007F:0050 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0\n\
            2: 00000000:01BB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0 100 0 0 10 0\n";
        assert_eq!(inodes_of(table, 80).collect::<Vec<_>>(), ["4711"]);
        assert_eq!(inodes_of(table, 443).collect::<Vec<_>>(), ["4713"]);
        assert_eq!(inodes_of(table, 8080).count(), 0);
    }
}
