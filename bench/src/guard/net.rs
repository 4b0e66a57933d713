//! Two network namespaces with a cable between them, and what runs in each: the host, whose ear hears what gets through, and a peer,
//! which sends a packet each millisecond.

use std::io::Write as _;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::process::{Process, now, pause};

/// The address of the host, and the one at which the peer is told from which address to send.
const HOST: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 2);
/// The ports of the ear, and of the peer.
const EAR: u16 = 9999;
const TOLD: u16 = 9998;
/// Addresses of each group that the peer can send from.
const ADDRESSES: u8 = 40;
/// Groups of addresses: each measurement has its own.
const GROUPS: u8 = 4;
/// Failures that are written at once: as many as make an offence.
const FAILURES: usize = 5;
/// Silence after which an address is taken for banned.
const SILENCE: Duration = Duration::from_millis(400);
/// How long a ban is waited for.
const PATIENCE: Duration = Duration::from_mins(1);

/// The namespaces; removed at the end.
pub(crate) struct Net {
    name: String,
    _peer: Process,
}

fn address(group: u8, number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 98, group, number)
}

fn ip(arguments: &str) -> Outcome {
    let status = Process::command("ip").args(arguments.split(' ')).status()?;
    if status.success() { Ok(()) } else { Err(format!("`ip {arguments}` failed: root is needed").into()) }
}

impl Net {
    pub(crate) fn new() -> Result<Self, Box<dyn std::error::Error>> {
        let name = format!("gb{}", std::process::id());
        ip(&format!("netns add {name}h"))?;
        ip(&format!("netns add {name}p"))?;
        ip(&format!("-n {name}h link add veth0 type veth peer name veth1 netns {name}p"))?;
        for (side, link) in [("h", "veth0"), ("p", "veth1")] {
            ip(&format!("-n {name}{side} link set lo up"))?;
            ip(&format!("-n {name}{side} link set {link} up"))?;
        }
        ip(&format!("-n {name}h addr add {HOST}/16 dev veth0"))?;
        ip(&format!("-n {name}p addr add {PEER}/16 dev veth1"))?;
        for group in 1..=GROUPS {
            for number in 1..=ADDRESSES {
                ip(&format!("-n {name}p addr add {}/16 dev veth1", address(group, number)))?;
            }
        }
        let mut peer = Process::command("ip");
        peer.args(["netns", "exec", &format!("{name}p")]).arg(std::env::current_exe()?).arg("guard-peer");
        let peer = Process::start(&mut peer)?;
        Ok(Self { name, _peer: peer })
    }

    /// A program on the host.
    pub(crate) fn on_host(&self, program: &std::path::Path) -> Command {
        let mut command = Process::command("ip");
        command.args(["netns", "exec", &format!("{}h", self.name)]).arg(program).stdin(Stdio::null());
        command
    }

    /// Runs the ear to its end; the milliseconds that it prints, one line each.
    pub(crate) fn ear(&self, arguments: &[&std::ffi::OsStr]) -> Result<Vec<f64>, Box<dyn std::error::Error>> {
        let mut ear = self.on_host(&std::env::current_exe()?);
        let output = ear.arg("guard-ear").args(arguments).stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            return Err("the ear failed".into());
        }
        Ok(String::from_utf8(output.stdout)?.lines().map(str::parse).collect::<Result<_, _>>()?)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for side in ["h", "p"] {
            drop(ip(&format!("netns del {}{side}", self.name)));
        }
    }
}

/// `guard-peer`: sends from the address that it was last told of, until it is killed.
pub(crate) fn peer() -> Outcome {
    let told = UdpSocket::bind((PEER, TOLD))?;
    told.set_nonblocking(true)?;
    let mut from: Option<UdpSocket> = None;
    let mut which = [0_u8; 2];
    let (mut current, mut next) = ([0_u8; 2], now());
    loop {
        if told.recv_from(&mut which).is_ok() && which != current {
            from = Some(UdpSocket::bind((address(which[0], which[1]), 0))?);
            current = which;
        }
        if now() >= next {
            next = now() + Duration::from_millis(1);
            if let Some(from) = &from {
                drop(from.send_to(&current, (HOST, EAR)));
            }
        }
        pause(Duration::from_micros(100));
    }
}

/// What gets through to the host.
struct Ear {
    socket: UdpSocket,
}

impl Ear {
    fn new() -> std::io::Result<Self> {
        let socket = UdpSocket::bind((HOST, EAR))?;
        socket.set_read_timeout(Some(Duration::from_millis(20)))?;
        Ok(Self { socket })
    }

    /// Has the peer send from an address, and waits until that is heard well.
    fn listen_to(&self, which: [u8; 2]) -> Outcome {
        let (start, mut heard) = (now(), 0);
        while heard < 50 {
            self.socket.send_to(&which, (PEER, TOLD))?;
            heard += u32::from(self.hears(which));
            if start.elapsed() > PATIENCE {
                return Err(format!("nothing is heard of {}", address(which[0], which[1])).into());
            }
        }
        Ok(())
    }

    fn hears(&self, which: [u8; 2]) -> bool {
        let mut heard = [0_u8; 2];
        self.socket.recv_from(&mut heard).is_ok() && heard == which
    }

    /// When the last packet was heard before there was silence.
    fn last_of(&self, which: [u8; 2], start: Instant) -> Result<Instant, Box<dyn std::error::Error>> {
        let mut last = start;
        loop {
            if self.hears(which) {
                last = now();
            }
            if last.elapsed() > SILENCE {
                return Ok(last);
            }
            if start.elapsed() > PATIENCE {
                return Err(format!("{} was never banned", address(which[0], which[1])).into());
            }
        }
    }
}

#[expect(clippy::print_stdout, reason = "what the measuring process reads")]
fn tell(took: Duration) {
    println!("{:.2}", took.as_secs_f64() * 1e3);
}

/// `guard-ear lines LOG GROUP COUNT`: writes the lines of an attacker and hears when it falls silent, for one after the other.
/// `guard-ear start GROUP NUMBER PROGRAM …`: starts a program, and hears when an address falls silent.
pub(crate) fn ear() -> Outcome {
    let arguments: Vec<_> = std::env::args_os().skip(2).collect();
    let text: Vec<_> = arguments.iter().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let ear = Ear::new()?;
    match text.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["lines", log, group, count] => {
            let mut log = std::fs::OpenOptions::new().append(true).create(true).open(log)?;
            for number in 1..=count.parse::<u8>()?.min(ADDRESSES) {
                let which = [group.parse()?, number];
                ear.listen_to(which)?;
                let lines = failures(address(which[0], which[1]))?;
                let start = now();
                log.write_all(lines.as_bytes())?;
                tell(ear.last_of(which, start)?.duration_since(start));
            }
        }
        ["start", group, number, program, rest @ ..] => {
            let which = [group.parse()?, number.parse()?];
            ear.listen_to(which)?;
            let start = now();
            let _running =
                Process::start(Process::command(program).args(rest).stdout(Stdio::null()).stderr(Stdio::null()))?;
            tell(ear.last_of(which, start)?.duration_since(start));
            // Until it is looked at, and then killed.
            pause(Duration::from_secs(1));
        }
        _ => return Err("usage: guard-ear lines LOG GROUP COUNT | start GROUP NUMBER PROGRAM …".into()),
    }
    Ok(())
}

/// Lines of sshd with which an address is banned, written now.
#[expect(clippy::disallowed_methods, reason = "what a log says is the time of day")]
fn failures(from: Ipv4Addr) -> Result<String, Box<dyn std::error::Error>> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let date = event::Time::from_micros(i64::try_from(since.as_micros())?);
    let line = format!("{date} web sshd[4711]: Failed password for root from {from} port 4711 ssh2\n");
    Ok(line.repeat(FAILURES))
}
