//! An observer at fault: no message about a service, and one about the observer. Promises WA-3, WA-4.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use drawn::Draws;
use serde_json::Value;

use crate::harness::{
    PATIENCE, Up, binary, command, eventually, eventually_within, folder_with, garant, number, pause, report,
    transcript,
};

/// A network namespace with one link to this one, removed when it is dropped.
struct Namespace {
    name: String,
    outside: String,
    link: String,
}

impl Namespace {
    /// A namespace of this process alone: the third byte of its addresses is drawn from the process number.
    fn new() -> Self {
        let number = std::process::id() % 250;
        let (name, link) = (format!("garant-{number}"), format!("gar{number}"));
        let outside = format!("10.213.{number}.1");
        let namespace = Self { name, outside, link };
        // What a test that was killed left behind.
        drop(Self::ip(&["netns", "del", &namespace.name]));
        drop(Self::ip(&["link", "del", &namespace.link]));
        let (name, link, peer) = (&namespace.name, &namespace.link, format!("{}p", namespace.link));
        let names = Path::new("/etc/netns").join(name);
        std::fs::create_dir_all(&names).expect("a folder for its resolv.conf");
        let resolv = format!("nameserver {}\noptions timeout:1 attempts:1\n", namespace.outside);
        std::fs::write(names.join("resolv.conf"), resolv).expect("its resolv.conf");
        for arguments in [
            vec!["netns", "add", name],
            vec!["link", "add", link, "type", "veth", "peer", "name", &peer, "netns", name],
            vec!["addr", "add", &format!("{}/24", namespace.outside), "dev", link],
            vec!["link", "set", link, "up"],
            vec!["-n", name, "addr", "add", &format!("10.213.{number}.2/24"), "dev", &peer],
            vec!["-n", name, "link", "set", &peer, "up"],
            vec!["-n", name, "link", "set", "lo", "up"],
        ] {
            let made = Self::ip(&arguments);
            assert!(made.status.success(), "ip {arguments:?}: {}", transcript(&made));
        }
        namespace
    }

    fn ip(arguments: &[&str]) -> Output {
        command("ip").args(arguments).output().expect("ip runs")
    }

    /// Cuts the link, or joins it again.
    fn cut(&self, cut: bool) {
        let set = Self::ip(&["link", "set", &self.link, if cut { "down" } else { "up" }]);
        assert!(set.status.success(), "{}", transcript(&set));
    }

    /// Runs garant inside.
    fn garant(&self, arguments: &[&str]) -> Output {
        let mut inside = command("ip");
        inside.args(["netns", "exec", &self.name]).arg(binary()).args(arguments);
        inside.output().expect("garant runs inside")
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(Self::ip(&["netns", "del", &self.name]));
        drop(Self::ip(&["link", "del", &self.link]));
        drop(std::fs::remove_dir_all(Path::new("/etc/netns").join(&self.name)));
    }
}

/// Serves `ok` for ever.
#[expect(clippy::disallowed_methods, reason = "a test serves what is asked")]
fn serve(address: &str) -> u16 {
    let listener = TcpListener::bind((address, 0)).expect("the address of the link");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            std::thread::spawn(move || {
                let mut request = [0; 1024];
                drop(stream.read(&mut request));
                drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n"));
            });
        }
    });
    port
}

/// A name server that knows every name, and answers for as long as it is not `dead`.
#[expect(clippy::disallowed_methods, reason = "a test serves what is asked")]
fn name_server(address: &str, dead: Arc<AtomicBool>) {
    let socket = UdpSocket::bind((address, 53)).expect("the port of the DNS on the address of the link");
    let octets = address.parse::<Ipv4Addr>().expect("an address").octets();
    std::thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut packet) {
            if dead.load(Ordering::Relaxed) || length < 17 {
                continue;
            }
            // The question ends after its name, its type and its class (RFC 1035, section 4.1.2).
            let name = packet[12..length].iter().position(|byte| *byte == 0).expect("the end of the name");
            let end = 12 + name + 5;
            let is_a = packet[end - 4..end - 2] == [0, 1];
            let mut answer = packet[..end].to_vec();
            answer[2..4].copy_from_slice(&[0x85, 0x80]);
            answer[6..12].copy_from_slice(&[0, u8::from(is_a), 0, 0, 0, 0]);
            if is_a {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
                answer.extend(octets);
            }
            drop(socket.send_to(&answer, from));
        }
    });
}

/// What befalls an observer.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Its process stands still, for so many seconds.
    Stopped(f64),
    /// Its link is cut, for so many seconds.
    Cut(f64),
    /// Its link is cut until it tells of itself.
    CutForLong,
    /// Its name server is dead, for so many seconds.
    Nameless(f64),
}

/// The link of the observer is cut, its process stands still, its name server is dead: nobody is told that a service fails, for
/// nobody knows; that the observer sees nothing is an alert, and is over once it sees again. `scripts/campaign observer N` draws N
/// faults.
#[test]
fn an_observer_at_fault_tells_of_itself_alone() {
    let mut draws = Draws::from_environment();
    let mut faults = vec![Fault::Stopped(12.0), Fault::Nameless(8.0), Fault::CutForLong];
    if let Some(drawn) = number("GARANT_FAULTS", 0).checked_sub(3) {
        faults.extend((0..drawn).map(|_| {
            let seconds = 1.0 + f64::from(u32::try_from(draws.below(40)).expect("small"));
            match draws.below(7) {
                0 | 1 => Fault::Stopped(seconds),
                2 | 3 => Fault::Cut(seconds),
                4 | 5 => Fault::Nameless(seconds),
                _ => Fault::CutForLong,
            }
        }));
    }
    let dead = Arc::new(AtomicBool::new(false));
    let namespace = Namespace::new();
    name_server(&namespace.outside, Arc::clone(&dead));
    let (service, canary) = (serve(&namespace.outside), serve(&namespace.outside));
    let outside = &namespace.outside;
    let mut policy = format!(
        "[journal]\nname = \"observer.example\"\n[pages]\nlisten = \"127.0.0.1:0\"\n[respond]\nweekly_test = \"never\"\n\
         [[observer]]\nname = \"local\"\ncanary = [\"{outside}:{canary}\"]\n\
         [[person]]\nname = \"Léa\"\nchannel = [{{ ntfy = \"https://ntfy.invalid/garant\" }}]\n"
    );
    for number in 0..10 {
        // Half of them by name.
        let host = if number % 2 == 0 { outside.clone() } else { format!("s{number}.garant.test") };
        write!(
            policy,
            "[[service]]\nname = \"s{number}\"\n[[probe.http]]\nname = \"p{number}\"\nservice = \"s{number}\"\n\
             url = \"http://{host}:{service}/\"\nevery = \"2 s\"\ntimeout = \"1 s\"\n"
        )
        .expect("a string takes it");
    }
    let up = Up::start_inside(folder_with(&policy), &namespace.name);
    let data = up.path("data");
    let data = data.to_str().expect("UTF-8");
    let alerts = || -> Vec<Value> {
        let listed = namespace.garant(&["alerts", "--all", "--json", "--data", data]);
        serde_json::from_slice(&listed.stdout).unwrap_or_else(|_| panic!("no alerts: {}", transcript(&listed)))
    };
    let watched = || {
        let status = namespace.garant(&["status", "--json", "--data", data]);
        let status: Value = serde_json::from_slice(&status.stdout).unwrap_or_default();
        let services = status["services"].as_array().cloned().unwrap_or_default();
        services.len() == 10 && services.iter().all(|service| service["state"] == "up")
    };
    let observer =
        |state: &'static str| move |alert: &Value| alert["key"] == "observer/local.watch" && alert["state"] == state;
    eventually("all services to be seen", || watched().then_some(()));
    let all = faults.len();
    for (place, fault) in
        faults.into_iter().enumerate().skip(usize::try_from(number("GARANT_PART", 0)).expect("a number"))
    {
        report(&format!("fault {} of {all}: {fault:?}", place + 1));
        match fault {
            Fault::Stopped(seconds) => {
                up.signal("STOP");
                pause(seconds);
                up.signal("CONT");
            }
            Fault::Cut(seconds) => {
                namespace.cut(true);
                pause(seconds);
                namespace.cut(false);
            }
            Fault::CutForLong => {
                namespace.cut(true);
                // A whole record of coverage, and the one that the cut fell into.
                let firing = eventually_within(2 * PATIENCE, "the observer to tell of itself", || {
                    alerts().into_iter().find(observer("firing"))
                });
                report(&firing.to_string());
                namespace.cut(false);
                eventually("the observer to see again", || alerts().into_iter().find(observer("resolved")));
            }
            Fault::Nameless(seconds) => {
                dead.store(true, Ordering::Relaxed);
                pause(seconds);
                dead.store(false, Ordering::Relaxed);
            }
        }
        eventually("all services to be seen again", || watched().then_some(()));
        for alert in alerts() {
            // A state that was uncertain for a moment is listed, and told to nobody.
            let is_told = alert["notified"].as_array().is_some_and(|notified| !notified.is_empty());
            let of_observer = alert["key"].as_str().is_some_and(|key| key.starts_with("observer/"));
            assert!(of_observer || !is_told, "after {fault:?}, a message about what nobody saw: {alert}");
            assert!(of_observer || alert["source"] != "probe", "after {fault:?}, an alert of what nobody saw: {alert}");
        }
    }
}

/// If garant dies, somebody hears: it pings a heartbeat of a second one each minute, which alerts once it no longer does, and
/// ends the alert when it is back.
#[test]
fn somebody_hears_when_garant_is_dead() {
    let uuid = std::fs::read_to_string("/proc/sys/kernel/random/uuid").expect("the kernel draws one");
    let uuid = uuid.trim();
    let start =
        "[journal]\nname = \"dead.example\"\n[pages]\nlisten = \"127.0.0.1:0\"\n[[service]]\nname = \"garant\"\n";
    let second = Up::start(&format!(
        "{start}[[probe.heartbeat]]\nname = \"first\"\nservice = \"garant\"\nuuid = \"{uuid}\"\nevery = \"65 s\"\ngrace = \"5 s\"\n"
    ));
    let policy = format!(
        "{start}[respond]\nheartbeat = {{ file = \"HERE/url\" }}\n[[promise]]\nid = \"AV-1\"\ntext.fr = \"a\"\ntext.en = \"b\"\n\
         coverage = {{ service = \"garant\", at_least = \"1 %\", over = \"1 d\" }}\n[[probe.host]]\nname = \"host\"\nservice = \"garant\"\n"
    );
    let folder = folder_with("");
    let here = folder.path().to_str().expect("UTF-8").to_owned();
    std::fs::write(folder.path().join("garant.toml"), policy.replace("HERE", &here)).expect("written");
    let url = folder.path().join("url");
    std::fs::write(&url, second.url(&format!("ping/{uuid}"))).expect("written");
    std::fs::set_permissions(&url, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("private");
    let first = Up::start_in(folder);
    let state = |second: &Up| {
        let listed = garant(&["alerts", "--all", "--json", "--data", second.path("data").to_str().expect("UTF-8")]);
        let listed: Vec<Value> = serde_json::from_slice(&listed.stdout).unwrap_or_default();
        listed.iter().find(|alert| alert["key"] == "probe/first").map(|alert| alert["state"].clone())
    };
    eventually("the first sign of life", || {
        let status = second.status();
        status["services"][0]["state"].as_str().filter(|state| *state == "up").map(|_| ())
    });
    assert_eq!(state(&second), None);
    let folder = first.crash();
    eventually("the alert that it is dead", || state(&second).filter(|state| state == "firing"));
    let _first = Up::start_in(folder);
    eventually("the end of the alert", || state(&second).filter(|state| state == "resolved"));
}
