//! Connections of TCP that this host has accepted, as the kernel tells of them: over netlink (sock_diag(7)), which needs no right.
//! Where that is not there, `/proc/net/tcp` has the connections too, and nothing else of what is told here.
//!
//! Netlink says two things of a socket that `/proc` does not, and that no peer decides, so [`Sessions`](super::Sessions) rests on
//! them:
//!
//! * **How it marks its packets** (the DSCP of RFC 2474), which is what our program has set with `IP_TOS` or `IPV6_TCLASS`. There are
//!   two ways in which a peer would decide it. The two low bits of that byte are not the DSCP but ECN (RFC 3168), and are set when the
//!   peer asks for ECN: they are cut off. And with `net.ipv4.tcp_reflect_tos` a socket takes over what the peer's first packet had:
//!   then nothing is told.
//! * **When our program began to keep it alive** (`SO_KEEPALIVE`). That starts a timer of `net.ipv4.tcp_keepalive_time`, which goes on
//!   whatever is received, until it has run out once; how much is left of it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, sockopt};

use super::host::{FILE_BYTES_MAX, hex4, read_bounded};

/// Most sockets of each family that are looked at.
const SOCKETS_MAX: usize = 100_000;
/// How often a family is asked for once more, when it changed while it was told.
const ASKED_MAX: usize = 4;
/// Larger than any part of an answer, of which the kernel makes no larger ones than 32 KiB.
const PART_BYTES: usize = 64 * 1024;
/// How long the kernel is waited for, which answers at once.
const ANSWERED_IN: Duration = Duration::from_secs(2);

/// A connection of TCP: this end, and the other.
pub(super) type Connection = (SocketAddr, SocketAddr);

/// What the kernel tells of the socket of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Socket {
    /// How it marks its packets; `None` where that is not told, or where a peer decides it.
    pub(super) dscp: Option<u8>,
    /// Since when it is kept alive: between these hundredths of a second from the boot. Of a connection that is older than
    /// `tcp_keepalive_time`, it may be a later time.
    pub(super) kept_alive: Option<(u64, u64)>,
}

/// The connections that programs of root have accepted: each sshd that can let people in is one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Sockets {
    /// The connections, to ports that something listens on, or did: a session outlives its listener.
    pub(super) accepted: BTreeMap<Connection, Socket>,
    /// The ports that something listens on, and how a connection to them is marked in the instant in which it is accepted.
    pub(super) listening: BTreeSet<(u16, Option<u8>)>,
    /// Whether there are more of them than are looked at.
    pub(super) is_cut: bool,
}

impl Sockets {
    /// Looks at the host under `root`, which is `/` but in tests. Only there is netlink asked.
    pub(super) fn read(root: &Path) -> Self {
        if root == Path::new("/") {
            match Self::told(root) {
                Ok(sockets) => return sockets,
                Err(error) => tracing::debug!(%error, "netlink does not tell of sockets: /proc/net/tcp is read"),
            }
        }
        let text = |path: &str| read_bounded(&root.join(path)).unwrap_or_default();
        let files = [text("proc/net/tcp"), text("proc/net/tcp6")];
        let is_cut = files.iter().any(|text| u64::try_from(text.len()).is_ok_and(|bytes| bytes >= FILE_BYTES_MAX));
        Self::of(files.iter().flat_map(|text| text.lines()).filter_map(Row::parse), is_cut, |_| Socket::default())
    }

    /// What netlink tells of the namespace of this thread; times are those of the `/proc` under `root`.
    pub(super) fn told(root: &Path) -> Result<Self, Errno> {
        let began = uptime(root);
        let (mut rows, mut is_cut) = (Vec::new(), false);
        for family in [AddressFamily::INET, AddressFamily::INET6] {
            let told = all_told(family)?;
            is_cut |= told.len() >= SOCKETS_MAX;
            rows.extend(told);
        }
        let ended = uptime(root);
        let number = |name: &str| {
            let text = std::fs::read_to_string(root.join("proc/sys/net/ipv4").join(name));
            text.map(|text| text.trim().parse::<u64>().ok())
        };
        let keepalive = number("tcp_keepalive_time").ok().flatten().map(|seconds| seconds * 100);
        let is_reflected = match number("tcp_reflect_tos") {
            Ok(reflects) => reflects != Some(0),
            // Kernels before 5.10 have no such setting, and reflect nothing.
            Err(error) => error.kind() != std::io::ErrorKind::NotFound || keepalive.is_none(),
        };
        let tell = |row: &Row| {
            let dscp = row.traffic_class.map(|class| class >> 2).filter(|_| !is_reflected);
            let past = row.keepalive_left_ms.and_then(|left| keepalive?.checked_sub(u64::from(left) / 10));
            let kept_alive = past.and_then(|past| Some((began.checked_sub(past)?, ended.checked_sub(past)?)));
            Socket { dscp, kept_alive }
        };
        Ok(Self::of(rows.into_iter(), is_cut, tell))
    }

    fn of(rows: impl Iterator<Item = Row>, is_cut: bool, tell: impl Fn(&Row) -> Socket) -> Self {
        /// A port below it is none that this end would have chosen for a connection of its own.
        const CHOSEN_FROM: u16 = 32_768;
        let mut sockets = Self { is_cut, ..Self::default() };
        for row in rows {
            match row.state {
                LISTENING => _ = sockets.listening.insert((row.ours.port(), tell(&row).dscp)),
                TIME_WAIT => {}
                _ if row.has_process && row.user == ROOT => {
                    sockets.accepted.insert((row.ours, row.peer), tell(&row));
                }
                _ => {}
            }
        }
        let listening: BTreeSet<u16> = sockets.listening.iter().map(|(port, _)| *port).collect();
        sockets.accepted.retain(|(ours, _), _| ours.port() < CHOSEN_FROM || listening.contains(&ours.port()));
        sockets
    }
}

/// Hundredths of a second since the boot, in `/proc/uptime`: `12345.67 …`.
pub(super) fn uptime(root: &Path) -> u64 {
    let text = read_bounded(&root.join("proc/uptime")).unwrap_or_default();
    let digits = text.split(' ').next().and_then(|first| first.split_once('.'));
    digits.and_then(|(seconds, rest)| Some(seconds.parse::<u64>().ok()? * 100 + rest.parse::<u64>().ok()?)).unwrap_or(0)
}

/// States of TCP, by their numbers in the kernel.
const TIME_WAIT: u8 = 6;
const LISTENING: u8 = 10;
/// The states that are asked for: a listener, and connections that a program may have: established, and closed by one end.
const STATES: u32 = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << LISTENING | 1 << 11;

const ROOT: u32 = 0;

/// A socket, from either source.
struct Row {
    ours: SocketAddr,
    peer: SocketAddr,
    state: u8,
    /// The user whose program accepted it.
    user: u32,
    /// Whether a program has it open.
    has_process: bool,
    /// The byte of IP, which is DSCP and ECN.
    traffic_class: Option<u8>,
    keepalive_left_ms: Option<u32>,
}

impl Row {
    /// A line of `/proc/net/tcp` or `tcp6`.
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split_whitespace().skip(1);
        let (ours, peer) = (end(fields.next()?)?, end(fields.next()?)?);
        let state = u8::from_str_radix(fields.next()?, 16).ok()?;
        let user = fields.nth(3)?.parse().ok()?;
        let has_process = fields.nth(1)? != "0";
        Some(Self { ours, peer, state, user, has_process, traffic_class: None, keepalive_left_ms: None })
    }
}

/// An end of a connection in `/proc/net/tcp` or `tcp6`: an IPv6 address there is four numbers of the machine's byte order.
fn end(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let address = match address.len() {
        8 => IpAddr::V4(hex4(address)?),
        32 if address.is_ascii() => {
            let mut bytes = [0; 16];
            for (number, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                let digits = address.get(number * 8..number * 8 + 8)?;
                chunk.copy_from_slice(&u32::from_str_radix(digits, 16).ok()?.to_ne_bytes());
            }
            IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

// What follows is `linux/netlink.h`, `linux/sock_diag.h` and `linux/inet_diag.h`. Numbers are of the machine's byte order, but for
// ports and addresses; messages and attributes begin at multiples of four bytes.

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_DUMP_INTR: u16 = 0x10;
const HEADER_BYTES: usize = 16;
/// `struct inet_diag_req_v2`, of which all of the id is zero: every socket.
const REQUEST_BYTES: usize = 56;
/// `struct inet_diag_msg`.
const SOCKET_BYTES: usize = 72;
const IPPROTO_TCP: u8 = 6;
const INET_DIAG_TOS: u16 = 5;
const INET_DIAG_TCLASS: u16 = 6;
const KEEPALIVE_TIMER: u8 = 2;

/// The sockets of TCP of one family; `EAGAIN` when they change faster than they are told.
fn all_told(family: AddressFamily) -> Result<Vec<Row>, Errno> {
    let mut request = Vec::with_capacity(HEADER_BYTES + REQUEST_BYTES);
    request.extend(u32::try_from(HEADER_BYTES + REQUEST_BYTES).map_err(|_| Errno::INVAL)?.to_ne_bytes());
    request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    request.extend([0; 8]);
    request.push(u8::try_from(family.as_raw()).map_err(|_| Errno::INVAL)?);
    request.extend([IPPROTO_TCP, 1 << (INET_DIAG_TOS - 1) | 1 << (INET_DIAG_TCLASS - 1), 0]);
    request.extend(STATES.to_ne_bytes());
    request.resize(HEADER_BYTES + REQUEST_BYTES, 0);
    let flags = SocketFlags::CLOEXEC;
    for _ in 0..ASKED_MAX {
        // A socket of its own, so that nothing of an answer that was given up is taken for the next one.
        let kernel = net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(netlink::SOCK_DIAG))?;
        // Nobody else's messages reach it from now on.
        net::connect(&kernel, &netlink::SocketAddrNetlink::new(0, 0))?;
        sockopt::set_socket_timeout(&kernel, sockopt::Timeout::Recv, Some(ANSWERED_IN))?;
        net::send(&kernel, &request, SendFlags::empty())?;
        let mut answer = Answer::default();
        let mut part = vec![0; PART_BYTES];
        while !answer.is_done && answer.rows.len() < SOCKETS_MAX {
            let (_, bytes) = net::recv(&kernel, &mut part[..], RecvFlags::TRUNC)?;
            answer.take(part.get(..bytes).ok_or(Errno::MSGSIZE)?)?;
        }
        if !answer.is_interrupted {
            return Ok(answer.rows);
        }
    }
    Err(Errno::AGAIN)
}

/// An answer of netlink that comes in parts.
#[derive(Default)]
struct Answer {
    rows: Vec<Row>,
    is_done: bool,
    /// Something changed while it was told: sockets may be missing.
    is_interrupted: bool,
}

impl Answer {
    fn take(&mut self, mut part: &[u8]) -> Result<(), Errno> {
        if part.is_empty() {
            return Err(Errno::CONNRESET);
        }
        while let Some(header) = part.first_chunk::<HEADER_BYTES>() {
            let length = usize::try_from(u32_at(header, 0).unwrap_or(0)).unwrap_or(usize::MAX);
            let message = part.get(HEADER_BYTES..length).ok_or(Errno::BADMSG)?;
            self.is_interrupted |= u16_at(header, 6).is_some_and(|flags| flags & NLM_F_DUMP_INTR != 0);
            match u16_at(header, 4) {
                Some(NLMSG_DONE) => self.is_done = true,
                Some(NLMSG_ERROR) => {
                    let error = u32_at(message, 0).map_or(0, u32::cast_signed);
                    return Err(Errno::from_raw_os_error(error.saturating_neg()));
                }
                Some(SOCK_DIAG_BY_FAMILY) => self.rows.push(row(message).ok_or(Errno::BADMSG)?),
                _ => {}
            }
            part = part.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(())
    }
}

/// A socket of `struct inet_diag_msg` and its attributes.
fn row(message: &[u8]) -> Option<Row> {
    let (socket, mut attributes) = message.split_at_checked(SOCKET_BYTES)?;
    let [family, state, timer, _, ..] = *socket else { return None };
    let is_v4 = u16::from(family) == AddressFamily::INET.as_raw();
    let end = |port_at: usize, address_at: usize| {
        let address = if is_v4 {
            IpAddr::V4(Ipv4Addr::from(bytes_at::<4>(socket, address_at)?))
        } else {
            IpAddr::V6(Ipv6Addr::from(bytes_at::<16>(socket, address_at)?))
        };
        Some(SocketAddr::new(address.to_canonical(), u16::from_be_bytes(bytes_at(socket, port_at)?)))
    };
    let (ours, peer) = (end(4, 8)?, end(6, 24)?);
    let (expires, user, inode) = (u32_at(socket, 52)?, u32_at(socket, 64)?, u32_at(socket, 68)?);
    // A socket of IPv6 with an IPv4 connection sends packets of IPv4.
    let wanted = if ours.is_ipv4() { INET_DIAG_TOS } else { INET_DIAG_TCLASS };
    let mut traffic_class = None;
    while let (Some(length), Some(kind)) = (u16_at(attributes, 0), u16_at(attributes, 2)) {
        let length = usize::from(length);
        if kind == wanted {
            traffic_class = attributes.get(4..length)?.first().copied();
        }
        attributes = attributes.get(length.max(4).next_multiple_of(4)..).unwrap_or_default();
    }
    let keepalive_left_ms = (timer == KEEPALIVE_TIMER).then_some(expires);
    Some(Row { ours, peer, state, user, has_process: inode != 0, traffic_class, keepalive_left_ms })
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes_at(bytes, at).map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes_at(bytes, at).map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests;
