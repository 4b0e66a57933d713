//! The engine as a whole, beside a packet filter in memory: what its commands and its journal say is what is so.

use std::io::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use engine::command::CommandContext as _;
use engine::sim::{AtDoor, World};
use event::evidence::{Changed, Found as FoundEvidence, Reacted};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::watch;

use super::*;
use crate::act::simulated::Simulated;
use crate::act::test_net::put_script;
use crate::config::LOGS_UNREAD;
use crate::door::ImportedBan;
use crate::events::{Acted, Detail, Impaired};

/// A guard that runs on a folder of its own.
struct Running {
    folder: tempfile::TempDir,
    world: World,
    firewall: Arc<Simulated>,
    desired: watch::Sender<Option<Arc<RawValue>>>,
    door: Arc<dyn Door>,
    settings: Settings,
    task: tokio::task::JoinHandle<Result<(), EngineError>>,
}

/// The time of the start.
const DATE: &str = "2027-01-15T08:00:00Z";

const JAIL: &str = "[DEFAULT]\nbantime = 600\nfindtime = 600\nmaxretry = 2\nbackend = auto\naction = nftables[port=ssh]\n\
                    [web]\nenabled = true\nlogpath = @/web.log\nfilter = web\n";

impl Running {
    /// Starts it with these jails, and what a test changes of its settings.
    async fn start(jail_local: &str, change: impl FnOnce(&mut Settings, &Path)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path();
        for (name, text) in [
            ("fail2ban/jail.conf", JAIL),
            ("fail2ban/jail.local", jail_local),
            ("fail2ban/filter.d/web.conf", "[Definition]\nfailregex = ^\\s*from <HOST>$\n"),
            (
                "fail2ban/action.d/nftables.conf",
                "[Definition]\nactionban = nft <ip>\n[Init]\nport = ssh\nprotocol = tcp\n",
            ),
            ("web.log", ""),
        ] {
            write(at, name, text);
        }
        let mut settings: Settings = serde_json::from_value(json!({
            "probe": "guard", "service": "guard", "fail2ban": at.join("fail2ban"), "allow": [], "simulate": false,
            "bans_per_minute_max": 300, "scans": false, "scan_ban": Span::from_secs(60),
            "logins_remembered": Span::from_secs(60),
        }))
        .expect("settings");
        change(&mut settings, at);
        std::fs::create_dir(at.join("state")).expect("made");
        Self::run(folder, World::at(Time::from_secs(1_800_000_000)), settings).await
    }

    async fn run(folder: tempfile::TempDir, world: World, settings: Settings) -> Self {
        let firewall = Arc::new(Simulated::default());
        let (desired, follows) = watch::channel(None);
        let state = folder.path().join("state");
        let guard = Guard::new(DesiredState::of(follows), state).with_firewall(firewall.clone());
        let door = Arc::new(guard.door());
        let context = world.context("server.guard".parse().expect("a name")).expect("a context");
        let task = tokio::spawn(async move { guard.run(context).await });
        let running = Self { folder, world, firewall, desired, door, settings, task };
        running.follow();
        running.until("the guard to be at work", |running| running.guard(&["status"]).is_ok()).await;
        running
    }

    /// The same after a restart of the process, with another kernel.
    async fn restarted(self) -> Self {
        self.world.stop.cancel();
        self.task.await.expect("it ends").expect("in order");
        Self::run(self.folder, self.world.restarted(Span::from_secs(1)), self.settings).await
    }

    /// The same after a restart of the process alone, which was down for so long.
    async fn restarted_after(self, down: Span) -> Self {
        self.world.stop.cancel();
        self.task.await.expect("it ends").expect("in order");
        let clock = self.world.clock.clone();
        clock.suspend(down);
        let mut world = self.world.restarted(Span::ZERO);
        world.clock = clock;
        Self::run(self.folder, world, self.settings).await
    }

    /// Has it follow these jails; the answer of the reload.
    fn reload(&self, jail_local: &str) -> Result<(u8, String), engine::Failure> {
        write(self.folder.path(), "fail2ban/jail.local", jail_local);
        self.guard(&["reload"])
    }

    /// Has it follow its settings, and waits until it does.
    async fn simulate(&mut self, is_simulated: bool) {
        self.settings.simulate = is_simulated;
        self.follow();
        self.until("the change", |running| running.json(&["status"])["simulated"] == is_simulated).await;
    }

    /// The failures that were journaled of a rule.
    fn attempts(&self, rule: &str) -> u64 {
        let all = self.world.journal.of::<Attempts>();
        all.iter().filter(|attempts| attempts.rule == rule).map(|attempts| attempts.failures).sum()
    }

    /// Waits until a rule has counted so many failures since the start, or since it is followed.
    async fn until_counted(&self, rule: &str, failures: u64) {
        let counted = |running: &Self| {
            let status = running.json(&["status"]);
            let rules = status["rules"].as_array().expect("rules").iter();
            rules.filter(|of| of["rule"] == rule).map(|of| of["failures"].as_u64().expect("a number")).sum::<u64>()
        };
        self.until("the count", |running| counted(running) == failures).await;
    }

    /// Has it follow its settings.
    fn follow(&self) {
        let desired = Desired { settings: self.settings.clone(), revision: "r1".to_owned() };
        let text = serde_json::to_string(&desired).expect("JSON");
        self.desired.send_replace(Some(Arc::from(RawValue::from_string(text).expect("JSON"))));
    }

    /// Runs a command: its code, and what it printed.
    fn guard(&self, arguments: &[&str]) -> Result<(u8, String), engine::Failure> {
        let mut at = AtDoor::new(self.door.clone(), self.world.now());
        let command = crate::commands().pop().expect("a command");
        let code = at.run(command, &[&["guard"], arguments].concat())?;
        let printed = at.lines.iter().cloned().chain(at.notes()).collect::<Vec<_>>();
        Ok((code, printed.join("\n")))
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let (_, text) = self.guard(&[arguments, &["--json"]].concat()).expect("an answer");
        serde_json::from_str(&text).expect("JSON")
    }

    async fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        for _ in 0..1200 {
            if is_so(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no sign of {what}: {:?}, told {:?}", self.guard(&["status"]), self.told());
    }

    fn fail(&self, address: &str) {
        append(self.folder.path(), "web.log", &format!("{DATE} from {address}\n{DATE} from {address}\n"));
    }

    fn drops(&self, address: &str) -> bool {
        self.firewall.drops(address.parse().expect("an address"))
    }

    fn banned(&self, address: &str) -> Option<Banned> {
        self.world.journal.of::<Banned>().into_iter().rfind(|banned| banned.address == address)
    }

    /// Whether the finding is open, as it was said last.
    fn is_open(&self, finding: &str) -> Option<bool> {
        let found = self.world.journal.of::<FoundEvidence>();
        found.iter().rfind(|found| found.finding.as_str() == finding).map(|found| found.open)
    }

    /// The words that were said last of the finding.
    fn words(&self, finding: &str) -> Option<String> {
        let of = |detail: &Detail| detail.finding.as_ref().is_some_and(|name| name.as_str() == finding);
        self.world.journal.of::<Detail>().into_iter().rfind(of).map(|detail| detail.text)
    }
}

fn write(at: &Path, name: &str, text: &str) {
    let path = at.join(name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    std::fs::write(path, text.replace('@', at.to_str().expect("UTF-8"))).expect("written");
}

fn append(at: &Path, name: &str, text: &str) {
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(at.join(name)).expect("the log");
    file.write_all(text.as_bytes()).expect("written");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_simulation_nobody_is_dropped_whatever_is_ordered() {
    let mut running = Running::start("", |_, _| ()).await;
    running.guard(&["ban", "10.66.0.1"]).expect("banned");
    assert!(running.drops("10.66.0.1"));
    assert_eq!(running.json(&["bans"])[0]["in_force"], true);

    running.settings.simulate = true;
    running.follow();
    running.until("the end of the drops", |running| !running.drops("10.66.0.1")).await;
    let (_, said) = running.guard(&["ban", "10.66.0.4", "--for", "5 min"]).expect("recorded");
    assert!(said.contains("not dropped") && said.contains("simulate"), "{said}");
    let import = [ImportedBan {
        network: "10.66.0.5".parse::<IpAddr>().expect("an address").into(),
        rule: "web".to_owned(),
        since: running.world.now(),
        until: None,
        count: 1,
        ports: None,
    }];
    let answer = AtDoor::new(running.door.clone(), running.world.now())
        .ask(engine::command::Question::post(crate::door::API).segment("import").json(&import).expect("JSON"))
        .expect("an answer");
    let answer: Value = answer.json().expect("JSON");
    assert_eq!((&answer["taken"], &answer["enforced"]), (&1.into(), &false.into()), "{answer}");
    running.fail("10.66.0.6");
    running.until("the offence", |running| running.banned("10.66.0.6").is_some()).await;
    for address in ["10.66.0.1", "10.66.0.4", "10.66.0.5", "10.66.0.6"] {
        assert!(!running.drops(address), "{address}");
    }
    assert!(running.firewall.state.lock().expect("a lock").is_none(), "our table is not there at all");
    for address in ["10.66.0.4", "10.66.0.5", "10.66.0.6"] {
        assert!(!running.banned(address).expect("an entry").enforced, "{address}");
    }
    let bans = running.json(&["bans"]);
    assert!(bans.as_array().expect("bans").iter().all(|ban| ban["in_force"] == false), "{bans}");
    let simulated = |bans: &Value, is_simulated: bool| -> Vec<String> {
        let of = bans.as_array().expect("bans").iter().filter(|ban| ban["simulated"] == is_simulated);
        of.map(|ban| ban["address"].as_str().expect("text").to_owned()).collect()
    };
    assert_eq!(simulated(&bans, false), ["10.66.0.1", "10.66.0.4", "10.66.0.5"]);
    assert_eq!(simulated(&bans, true), ["10.66.0.6"]);
    let (_, said) = running.guard(&["bans"]).expect("bans");
    assert_eq!(said.lines().filter(|line| line.ends_with(", not in force")).count(), 3, "{said}");
    let line = said.lines().find(|line| line.contains("10.66.0.6")).expect("a line");
    assert!(line.contains("web") && line.contains("until") && line.ends_with(", simulated"), "{line}");
    let (_, said) = running.guard(&["status"]).expect("a status");
    assert!(said.contains("nobody is dropped") && said.contains("3 bans wait, 1 simulated"), "{said}");
    // Over a restart, and until somebody ends it.
    let running = running.restarted().await;
    assert_eq!(simulated(&running.json(&["bans"]), true), ["10.66.0.6"]);
    assert_eq!(running.json(&["unban", "10.66.0.6"])["unbanned"], 1);
    assert_eq!(simulated(&running.json(&["bans"]), true), [""; 0]);
    let mut running = running;
    running.fail("10.66.0.6");
    running.until("the offence", |running| simulated(&running.json(&["bans"]), true) == ["10.66.0.6"]).await;

    // Without it, what was recorded is in force.
    running.settings.simulate = false;
    running.follow();
    running
        .until("the drops", |running| ["10.66.0.1", "10.66.0.4", "10.66.0.5"].iter().all(|ip| running.drops(ip)))
        .await;
    assert!(!running.drops("10.66.0.6"));
    let bans = running.json(&["bans"]);
    assert_eq!((simulated(&bans, false).len(), simulated(&bans, true)), (3, vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_read_of_the_configuration_is_followed_as_it_was() {
    let mut running = Running::start("", |_, _| ()).await;
    assert_eq!(running.guard(&["reload"]).expect("read again").0, 0);
    write(running.folder.path(), "fail2ban/jail.local", "[web]\nport = 1\n[web]\nport = 2\n");
    let failure = running.guard(&["reload"]).expect_err("it can't be read").to_string();
    assert!(failure.contains("jail.local:3") && failure.contains("as it was read last"), "{failure}");
    running.fail("10.66.1.1");
    running.until("the ban", |running| running.drops("10.66.1.1")).await;
    running.until("the finding", |running| running.is_open(LOGS_UNREAD) == Some(true)).await;
    assert!(running.words(LOGS_UNREAD).expect("words").contains("jail.local:3"));
    let status = running.json(&["status"]);
    assert_eq!(status["enabled"], 1, "{status}");
    assert!(status["impaired"].to_string().contains("jail.local:3"), "{status}");
    // Another policy changes nothing of that.
    running.settings.bans_per_minute_max = 200;
    running.follow();
    running.fail("10.66.1.2");
    running.until("the ban", |running| running.drops("10.66.1.2")).await;
    // One jail alone that can't be read.
    write(running.folder.path(), "fail2ban/jail.local", "[web]\nmaxretry = many\n");
    let failure = running.guard(&["reload"]).expect_err("it can't be read").to_string();
    assert!(failure.contains("jail web") && failure.contains("jail.local:2"), "{failure}");
    write(running.folder.path(), "fail2ban/jail.local", "[web]\nfailregex = (\n");
    running.guard(&["reload"]).expect_err("it is no pattern");
    running.fail("10.66.1.3");
    running.until("the ban", |running| running.drops("10.66.1.3")).await;
    // Mended, nothing is wrong any more.
    write(running.folder.path(), "fail2ban/jail.local", "[web]\nmaxretry = 1\n");
    assert_eq!(running.guard(&["reload"]).expect("read again").0, 0);
    append(running.folder.path(), "web.log", &format!("{DATE} from 10.66.1.4\n"));
    running.until("the ban", |running| running.drops("10.66.1.4")).await;
    running.until("the end of the finding", |running| running.is_open(LOGS_UNREAD) == Some(false)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_with_a_configuration_that_can_not_be_read_keeps_the_bans_and_says_so() {
    let running = Running::start("nonsense\n", |_, _| ()).await;
    running.until("the finding", |running| running.is_open(LOGS_UNREAD) == Some(true)).await;
    let words = running.words(LOGS_UNREAD).expect("words");
    assert!(words.contains("jail.local:1") && words.contains("garant guard reload"), "{words}");
    running.guard(&["ban", "10.66.2.1"]).expect("banned");
    assert!(running.drops("10.66.2.1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_finding_has_words_of_its_own_and_the_cap_opens_that_of_bans() {
    let running = Running::start("", |settings, _| settings.bans_per_minute_max = 1).await;
    write(running.folder.path(), "fail2ban/jail.local", "nonsense\n");
    running.guard(&["reload"]).expect_err("it can't be read");
    running.until("the finding", |running| running.is_open(LOGS_UNREAD) == Some(true)).await;
    assert_eq!(running.is_open(BANS_NOT_ENFORCED), Some(false));
    for address in 1..=4 {
        running.fail(&format!("10.66.3.{address}"));
    }
    running.until("the finding", |running| running.is_open(BANS_NOT_ENFORCED) == Some(true)).await;
    let (unread, unenforced) = (running.words(LOGS_UNREAD), running.words(BANS_NOT_ENFORCED));
    assert!(
        unread.as_ref().is_some_and(|words| words.contains("jail.local") && !words.contains("minute")),
        "{unread:?}"
    );
    assert!(unenforced.as_ref().is_some_and(|words| words.contains("more than 1 bans in a minute")), "{unenforced:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mended_list_is_read_at_a_reload_and_what_is_left_out_is_counted_apart() {
    let list = |at: &Path| at.join("drop.txt");
    let running = Running::start("", |settings, at| {
        let huge: Vec<String> = (1..=70).map(|first| format!("{first}.0.0.0/8\n")).collect();
        std::fs::write(list(at), huge.concat()).expect("written");
        settings.lists = vec![list(at).display().to_string()];
    })
    .await;
    running
        .until("a word on the list", |running| {
            running.json(&["status"])["impaired"].to_string().contains("none of its 70 networks is banned")
        })
        .await;
    std::fs::write(list(running.folder.path()), "192.0.2.0/24\n64.0.0.0/3\n::/0\n").expect("written");
    assert_eq!(running.guard(&["reload"]).expect("read again").0, 0);
    running.until("the list", |running| running.drops("192.0.2.9")).await;
    assert!(!running.drops("70.1.1.1"));
    let status = running.json(&["status"]);
    assert_eq!((&status["listed_networks"], &status["listed_networks_left_out"]), (&1.into(), &2.into()), "{status}");
    assert!(status["impaired"].to_string().contains("2 of the networks are not banned"), "{status}");
    // The policy names none any more.
    let mut running = running;
    running.settings.lists = Vec::new();
    running.follow();
    running.until("the end of the list", |running| !running.drops("192.0.2.9")).await;
}

/// JO-1: a jail that is switched off and on, or whose settings change, goes on where it stopped, and judges what came meanwhile. No
/// line counts twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_jail_that_comes_back_goes_on_where_it_stopped() {
    const MANY: &str = "maxretry = 100\n";
    let other = format!("[other]\nenabled = true\nlogpath = @/web.log\nfilter = web\n{MANY}");
    let jails = |more: &str| format!("{other}[web]\n{MANY}{more}");
    let running = Running::start(&jails(""), |_, _| ()).await;
    let fail = |running: &Running, count: u8| {
        let lines: Vec<String> = (0..count).map(|n| format!("{DATE} from 10.66.6.{n}\n")).collect();
        append(running.folder.path(), "web.log", &lines.concat());
    };
    fail(&running, 30);
    running.until_counted("web", 30).await;
    for change in [
        "enabled = false\n",
        "",
        "findtime = 3600\n",
        "ignorecommand = /bin/true\n",
        "",
        "logpath = @/new.log\n",
        "",
        "datepattern = {^LN-BEG}\n",
    ] {
        let reloaded = running.reload(&jails(change));
        assert_eq!(reloaded.is_err(), change.contains("ignorecommand"), "{change}: {reloaded:?}");
        fail(&running, 1);
        running.until("the line", |running| running.json(&["status"])["lines"].as_u64() > Some(30)).await;
    }
    running.reload(&jails("")).expect("read");
    running.until_counted("other", 38).await;
    // And over restarts, with and without the jail.
    let running = running.restarted().await;
    running
        .until("all lines of both", |running| running.attempts("other") == 38 && running.attempts("web") == 38)
        .await;
    running.reload(&other).expect("read");
    let running = running.restarted().await;
    running.reload(&jails("")).expect("read");
    fail(&running, 1);
    running.until_counted("web", 1).await;
    running.reload(&jails("findtime = 1200\n")).expect("read");
    assert_eq!((running.attempts("web"), running.attempts("other")), (39, 39));
}

/// An offence of the simulation is judged: nobody is banned for it later, whatever becomes of the jail.
#[tokio::test(flavor = "multi_thread")]
async fn an_offence_of_the_simulation_becomes_no_ban_later() {
    let mut running = Running::start("", |settings, _| settings.simulate = true).await;
    running.fail("10.66.7.1");
    running.until("the offence", |running| running.banned("10.66.7.1").is_some()).await;
    running.simulate(false).await;
    for change in ["[web]\nenabled = false\n", "", "[web]\nfindtime = 1h\n", "[web]\nmaxretry = 1\n"] {
        running.reload(change).expect("read");
        running.fail("10.66.7.2");
    }
    running.until("the ban", |running| running.drops("10.66.7.2")).await;
    let mut running = running.restarted().await;
    running.simulate(true).await;
    running.simulate(false).await;
    running.fail("10.66.7.3");
    running.until("the ban", |running| running.drops("10.66.7.3")).await;
    assert!(!running.drops("10.66.7.1"));
    let of = |address: &str| running.world.journal.of::<Banned>().into_iter().filter(|b| b.address == address).count();
    assert_eq!(of("10.66.7.1"), 1, "it was journaled once");
}

/// A list that is not there is said at the reload, and what it would ban is not banned: a finding says that.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_was_never_read_is_said_everywhere() {
    let running =
        Running::start("", |settings, at| settings.lists = vec![at.join("drop.txt").display().to_string()]).await;
    let list = running.folder.path().join("drop.txt");
    let failure = running.guard(&["reload"]).expect_err("it is not there").to_string();
    assert!(failure.contains(list.to_str().expect("UTF-8")) && failure.contains("not there"), "{failure}");
    running.until("the finding", |running| running.is_open(BANS_NOT_ENFORCED) == Some(true)).await;
    let (words, status) = (running.words(BANS_NOT_ENFORCED).expect("words"), running.json(&["status"]));
    assert!(words.contains("never read") && words.contains("drop.txt"), "{words}");
    assert!(status["impaired"].to_string().contains("never read") && status["enforced"] == true, "{status}");
    assert_eq!(running.is_open(LOGS_UNREAD), Some(false));
    std::fs::write(&list, "192.0.2.0/24\n").expect("written");
    running.guard(&["reload"]).expect("read again");
    running.until("the list", |running| running.drops("192.0.2.9")).await;
    running.until("the end of the finding", |running| running.is_open(BANS_NOT_ENFORCED) == Some(false)).await;
    // A reload without a change in between said nothing else.
    let found = running.world.journal.of::<FoundEvidence>();
    let said: Vec<bool> =
        found.iter().filter(|found| found.finding.as_str() == BANS_NOT_ENFORCED).map(|found| found.open).collect();
    assert_eq!(said, [true, true, false]);
    // As it was read last is less, and a reload says so all the same.
    std::fs::remove_file(&list).expect("removed");
    let failure = running.guard(&["reload"]).expect_err("it is not there").to_string();
    assert!(failure.contains("drop.txt"), "{failure}");
    running
        .until("a word", |running| running.json(&["status"])["impaired"].to_string().contains("as it was read last"))
        .await;
    assert_eq!((running.drops("192.0.2.9"), running.is_open(BANS_NOT_ENFORCED)), (true, Some(false)));
}

/// A simulation is no outage: the probe is neither up nor down, the finding says what is the matter, and who may never be banned is
/// spared in it too.
#[tokio::test(flavor = "multi_thread")]
async fn a_simulation_is_told_as_what_it_is() {
    let mut running =
        Running::start("", |settings, _| settings.allow = vec!["10.66.8.0/24".parse().expect("a network")]).await;
    running.simulate(true).await;
    running.until("the finding", |running| running.is_open(BANS_NOT_ENFORCED) == Some(true)).await;
    assert!(running.words(BANS_NOT_ENFORCED).expect("words").contains("`simulate = true`"));
    let of_probe = |detail: &Detail| detail.finding.is_none() && detail.text.contains("`simulate = true`");
    running.until("words", |running| running.world.journal.of::<Detail>().iter().any(of_probe)).await;
    running.fail("10.66.8.1");
    running
        .until("a word", |running| {
            running.world.journal.of::<Spared>().iter().any(|spared| spared.address == "10.66.8.1")
        })
        .await;
    assert!(running.banned("10.66.8.1").is_none() && running.json(&["bans"]) == json!([]));
    running.simulate(false).await;
    running.until("the end of the finding", |running| running.is_open(BANS_NOT_ENFORCED) == Some(false)).await;
    let mut states: Vec<State> =
        running.world.journal.of::<Changed>().into_iter().map(|changed| changed.state).collect();
    states.dedup();
    assert_eq!(states, [State::Up, State::Flapping, State::Up]);
}

/// Each mistake is said by itself, and whether a file is passed over or all is followed as it was.
#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_said_one_by_one_and_with_what_is_done_about_them() {
    let running = Running::start("", |_, _| ()).await;
    let at = running.folder.path();
    let lines = |running: &Running| {
        let (_, said) = running.guard(&["status"]).expect("a status");
        assert!(!said.contains("\\n"), "{said}");
        said.lines().filter(|line| line.contains("fail2ban/")).map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    let failure = running.reload("[web]\nport = 1\nport = 2\n[web]\n").expect_err("two mistakes").to_string();
    assert!(failure.contains("jail.local:3:") && failure.contains("jail.local:4:"), "{failure}");
    let said = lines(&running);
    assert!(said.len() == 2 && said.iter().all(|line| line.contains("as it was read last")), "{said:?}");
    assert!(said[0].contains("jail.local:3:") && said[1].contains("jail.local:4:"), "{said:?}");
    // Two files that fail2ban would pass over.
    for name in ["fail2ban/jail.d/a.local", "fail2ban/jail.d/b.local"] {
        write(at, name, "");
        std::fs::write(at.join(name), b"# caf\xe9\n").expect("written");
    }
    let failure = running.reload("").expect_err("two files").to_string();
    assert!(!failure.contains("passed over"), "{failure}");
    let said = lines(&running);
    assert!(said.len() == 2 && said.iter().all(|line| line.contains("as it was read last")), "{said:?}");
    assert!(said[0].contains("a.local:1:") && said[1].contains("b.local:1:"), "{said:?}");
    // Where nothing was read before, they are.
    let running = running.restarted().await;
    let said = lines(&running);
    assert!(said.len() == 2 && said.iter().all(|line| line.contains("passed over, as fail2ban does")), "{said:?}");
    assert!(said.iter().all(|line| !line.contains("read last")), "{said:?}");
    assert_eq!(running.json(&["status"])["enabled"], 1);
}

/// Whom a list bans is not unbanned: which list it is, and what to do, is said.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_a_list_bans_is_said_to_be_in_it() {
    let mut running = Running::start("", |settings, at| {
        for (name, network) in [("drop.txt", "192.0.2.0/24"), ("edrop.txt", "198.51.100.0/24")] {
            std::fs::write(at.join(name), format!("{network}\n")).expect("written");
            settings.lists.push(at.join(name).display().to_string());
        }
    })
    .await;
    running.until("the lists", |running| running.drops("198.51.100.7")).await;
    let failure = running.guard(&["unban", "198.51.100.7"]).expect_err("a list bans it");
    let said = format!("{failure} {:?} {:?}", failure.why(), failure.what_to_do());
    for part in ["198.51.100.7 is still banned", "edrop.txt", "`allow`", "garant guard allow"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert!(!said.contains("not known"), "{said}");
    // One that a rule has banned, too.
    running.guard(&["ban", "192.0.2.9"]).expect("banned");
    let (_, said) = running.guard(&["unban", "192.0.2.9"]).expect("the ban is over");
    assert!(said.contains("1 ban is over") && said.contains("drop.txt") && !said.contains("edrop"), "{said}");
    running.settings.allow = vec!["198.51.100.7/32".parse().expect("a network")];
    running.follow();
    running.until("the exception", |running| !running.drops("198.51.100.7")).await;
}

/// A formula without a result is said, once, and the plain time is taken.
#[tokio::test(flavor = "multi_thread")]
async fn a_formula_without_a_result_is_said() {
    let increment = "[web]\nmaxretry = 1\nbantime.increment = true\nbantime.formula = ban.Time / (ban.Count - 1)\n";
    let running = Running::start(increment, |_, _| ()).await;
    let fail = |address: u8, second: u8| {
        append(running.folder.path(), "web.log", &format!("2027-01-15T08:00:{second:02}Z from 10.66.9.{address}\n"));
    };
    for address in [1, 2] {
        fail(address, 0);
        running.until("the ban", |running| running.drops(&format!("10.66.9.{address}"))).await;
        running.guard(&["unban", &format!("10.66.9.{address}")]).expect("unbanned");
    }
    running.world.clock.suspend(Span::from_secs(30));
    for address in [1, 2] {
        fail(address, 20);
        running.until("the ban", |running| running.drops(&format!("10.66.9.{address}"))).await;
    }
    let of_formula =
        |impaired: &Impaired| impaired.reason.contains("bantime.formula") || impaired.what.contains("bantime.formula");
    let said: Vec<Impaired> = running.world.journal.of::<Impaired>().into_iter().filter(of_formula).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].what.contains("web") && said[0].reason.contains("plain"), "{said:?}");
    assert!(running.json(&["status"])["impaired"].to_string().contains("bantime.formula"));
    assert_ne!(running.is_open(LOGS_UNREAD), Some(true), "every log is read");
}

/// NH-1: what is not followed as it may be meant is said, and not passed over: a jail whose action is not taken over, a switch that is
/// mistyped, a configuration without a jail.
#[tokio::test(flavor = "multi_thread")]
async fn what_bans_nobody_is_said() {
    let route = "[web]\naction = route\n";
    let running = Running::start("", |_, at| {
        write(at, "fail2ban/action.d/route.conf", "[Definition]\nactionban = ip route add blackhole <ip>\n");
    })
    .await;
    let impaired = |running: &Running| -> Vec<String> {
        let status = running.json(&["status"]);
        let all = status["impaired"].as_array().expect("a list").iter();
        all.map(|of| format!("{}: {}", of["what"].as_str().expect("text"), of["reason"].as_str().expect("text")))
            .collect()
    };
    assert_eq!(impaired(&running), [""; 0]);
    let (code, said) = running.reload(route).expect("read again");
    assert!(code == 0 && said.contains("bans of jail web") && said.contains("`route` is not taken over"), "{said}");
    assert!(impaired(&running)[0].starts_with("bans of jail web: its offenders are recorded and not banned"));
    running.until("the finding", |running| running.is_open(BANS_NOT_ENFORCED) == Some(true)).await;
    assert_eq!(running.is_open(LOGS_UNREAD), Some(false), "its log is read");
    assert!(running.words(BANS_NOT_ENFORCED).expect("words").contains("bans of jail web"));
    // Beside an action that bans, it is only not run; and without any, nobody is to be banned.
    for meant in ["[web]\naction = route\n         nftables[port=ssh]\n", "[web]\naction =\n"] {
        assert_eq!(running.reload(meant).expect("read again").0, 0);
        assert_eq!(impaired(&running), [""; 0], "{meant}");
    }
    let failure = running.reload("[web]\nenabled = ture\n").expect_err("a mistake").to_string();
    assert!(
        failure.contains("jail.local:2") && failure.contains("`enabled = ture` is neither true nor false"),
        "{failure}"
    );
    let said = impaired(&running).join("\n");
    assert!(said.contains("no jail is enabled") && said.contains("as with fail2ban"), "{said}");
    let (code, said) = running.reload("[web]\nenabled = no\n").expect("read again");
    assert!(code == 0 && said.contains("no jail is enabled"), "{said}");
    assert!(running.guard(&["status"]).expect("a status").1.contains("no jail is enabled"));
}

/// NH-1: what is read back of the time before a rule was followed answers nobody late, for nobody was promised anything then; what
/// comes late to a rule that was followed does.
#[tokio::test(flavor = "multi_thread")]
async fn lines_of_before_a_rule_was_followed_are_no_late_reactions() {
    let running = Running::start("", |_, _| ()).await;
    let at = running.folder.path();
    append(at, "late.log", &"2027-01-15T07:55:00Z from 10.66.9.1\n".repeat(2));
    running.reload("[late]\nenabled = true\nlogpath = @/late.log\nfilter = web\n").expect("read again");
    running.until("the ban", |running| running.drops("10.66.9.1")).await;
    let reacted = |running: &Running| running.world.journal.of::<Reacted>();
    running.until("the reaction", |running| !reacted(running).is_empty()).await;
    assert!(reacted(&running)[0].since >= Time::from_secs(1_800_000_000), "{:?}", reacted(&running));
    append(at, "web.log", &"2027-01-15T07:59:30Z from 10.66.9.2\n".repeat(2));
    running.until("the other reaction", |running| reacted(running).len() == 2).await;
    assert_eq!(reacted(&running)[1].since, Time::from_secs(1_800_000_000 - 30));
}

/// NH-1: who attacks while the process stands still is banned when it goes on, and the reaction that is told is as slow as it was: from
/// the first offence on.
#[tokio::test(flavor = "multi_thread")]
async fn a_standstill_makes_no_fast_reaction() {
    let running = Running::start("", |_, _| ()).await;
    running.fail("10.66.8.1");
    running.until("the ban", |running| running.drops("10.66.8.1")).await;
    running.world.clock.stop(Span::from_secs(80));
    let line = |ago: i64| format!("{} from 10.66.8.2\n", running.world.now() - Span::from_secs(ago));
    append(running.folder.path(), "web.log", &[75, 70, 30, 20].map(line).concat());
    running.until("the ban", |running| running.drops("10.66.8.2")).await;
    let reacted = || running.world.journal.of::<Reacted>();
    running.until("the reaction", |_| reacted().len() == 2).await;
    let took = reacted()[1].at.since(reacted()[1].since);
    assert!(took >= Span::from_secs(70), "{:?}", reacted());
}

/// JO-1: a journal of systemd that is not there is not read, and that is said.
#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_is_not_there_is_not_read() {
    let running =
        Running::start("[web]\nbackend = systemd[journalpath=@/journal]\njournalmatch = _COMM=web\n", |_, _| ()).await;
    let status = running.json(&["status"]);
    assert_eq!(status["logs"], json!([]), "{status}");
    assert!(status["impaired"][0]["reason"].as_str().expect("text").starts_with("there is no journal in "), "{status}");
    running.until("the finding", |running| running.is_open(LOGS_UNREAD) == Some(true)).await;
}

/// NH-1: an address whose failures go on while it is banned is told of once, and is one ban.
#[tokio::test(flavor = "multi_thread")]
async fn prolongations_of_a_ban_are_no_bans_and_are_told_together() {
    let running = Running::start("", |_, _| ()).await;
    running.fail("10.66.2.1");
    running.until("the ban", |running| running.drops("10.66.2.1")).await;
    for second in 1..=3 {
        let date = format!("2027-01-15T08:00:0{second}Z");
        append(running.folder.path(), "web.log", &format!("{date} from 10.66.2.1\n{date} from 10.66.2.1\n"));
        running.until_counted("web", 2 + 2 * second).await;
    }
    let of_address = |running: &Running| {
        let all = running.world.journal.of::<Banned>();
        all.into_iter().filter(|banned| banned.address == "10.66.2.1").collect::<Vec<_>>()
    };
    assert_eq!((of_address(&running).len(), running.json(&["status"])["bans_since_start"].as_u64()), (1, Some(1)));
    // At the end of what is followed, what was not told yet is.
    assert_eq!(running.guard(&["reload"]).expect("read again").0, 0);
    let told = of_address(&running);
    assert_eq!(told.len(), 2);
    assert!(told[1].prolonged > 0 && told[1].failures == 2 * told[1].prolonged, "{told:?}");
}

/// NH-1: the status and the list have one line for what is held back, however many offenders of a /64 there are.
#[tokio::test(flavor = "multi_thread")]
async fn offenders_of_one_network_are_one_line() {
    let running = Running::start("", |_, _| ()).await;
    let all = ["2001:db8:1::2", "2001:db8:1::3", "2001:db8:2::2", "10.66.3.1"];
    for address in all {
        running.fail(address);
    }
    running.until("the bans", |running| all.iter().all(|address| running.drops(address))).await;
    let status = running.json(&["status"]);
    assert_eq!((&status["bans"], &status["rules"][0]["banned"]), (&3.into(), &3.into()), "{status}");
    let bans = running.json(&["bans"]);
    let rows: Vec<_> =
        bans.as_array().expect("a list").iter().map(|ban| (&ban["address"], &ban["offenders"])).collect();
    let (null, both, one) = (Value::Null, json!(["2001:db8:1::2", "2001:db8:1::3"]), json!(["2001:db8:2::2"]));
    assert_eq!(
        rows,
        [(&"10.66.3.1".into(), &null), (&"2001:db8:1::/64".into(), &both), (&"2001:db8:2::/64".into(), &one)]
    );
    assert!(running.guard(&["bans"]).expect("bans").1.contains(", for 2001:db8:1::2, 2001:db8:1::3"));
    // A network that somebody has banned is not opened for one address.
    running.guard(&["ban", "10.67.0.0/16"]).expect("banned");
    let failure = running.guard(&["unban", "10.67.0.5"]).expect_err("it is in a network").to_string();
    assert!(failure.contains("10.67.0.0/16 (by manual)") && failure.contains("--yes"), "{failure}");
    assert!(running.drops("10.67.0.5"));
    assert_eq!(running.json(&["unban", "10.67.0.5", "--yes"])["unbanned"], 1);
    assert!(!running.drops("10.67.0.5"));
}

/// What is kept is written whole, and no more of it in a second than a disk and a processor have to spare.
#[test]
fn what_is_large_is_kept_less_often() {
    let seconds = [0, 300_000, 10_000_000, 1_000_000_000].map(|bytes| keep_every(bytes).secs());
    assert_eq!(seconds, [1, 1, 38, 60]);
}

/// A program of the shell for `on_ban`, which does this with its arguments `$1 $2 $3`; `@` is the folder.
fn program(settings: &mut Settings, at: &Path, text: &str) {
    let path = at.join("program");
    put_script(&format!("#!/bin/sh\n{text}\n").replace('@', at.to_str().expect("UTF-8")), &path);
    settings.on_ban = Some(path);
}

impl Running {
    /// The lines that the program of `on_ban` has written.
    fn told(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.path().join("told")).unwrap_or_default();
        text.lines().map(ToOwned::to_owned).collect()
    }

    /// The runs of the program that were journaled, and whether each did its work.
    fn acted(&self) -> Vec<(String, bool)> {
        let acted = self.world.journal.of::<Acted>().into_iter();
        acted.map(|acted| (format!("{} {}", acted.action, acted.address), acted.failed.is_none())).collect()
    }
}

/// However many are banned at once, the program is told of each, and of each end.
#[tokio::test(flavor = "multi_thread")]
async fn the_program_is_told_of_every_ban_of_a_burst_and_of_every_end() {
    let running = Running::start("", |settings, at| program(settings, at, "echo \"$1 $2 $3\" >> @/told")).await;
    for address in 1..=80 {
        running.fail(&format!("10.67.0.{address}"));
    }
    running.until("80 bans", |running| running.told().len() == 80).await;
    assert_eq!(running.json(&["unban", "--all"])["unbanned"], 80);
    running.until("80 ends", |running| running.told().len() == 160).await;
    let mut told = running.told();
    told.sort();
    told.dedup();
    assert_eq!(told.len(), 160, "each once");
    running.until("entries", |running| running.acted().len() == 160).await;
    assert!(running.acted().iter().all(|(_, did)| *did));
}

/// The end of a ban is told when the program is through with its beginning.
#[tokio::test(flavor = "multi_thread")]
async fn the_program_is_told_of_one_address_in_order() {
    let slow = "[ $1 = ban ] && { echo began >> @/told; while ! [ -e @/go ]; do /bin/sleep 0.05; done; }\n\
                echo \"$1 $2\" >> @/told";
    let running = Running::start("", |settings, at| program(settings, at, slow)).await;
    running.guard(&["ban", "10.67.1.1"]).expect("banned");
    running.until("the run", |running| running.told() == ["began"]).await;
    // A ban that is over before anything was told of it is nothing to tell of.
    running.guard(&["unban", "10.67.1.1"]).expect("unbanned");
    running.guard(&["ban", "10.67.1.2"]).expect("banned");
    running.until("the other run", |running| running.told().len() >= 2).await;
    write(running.folder.path(), "go", "");
    running.until("all", |running| running.told().len() >= 5).await;
    let told = running.told();
    let of_first: Vec<_> = told.iter().filter(|line| line.ends_with("10.67.1.1")).collect();
    assert_eq!(of_first, ["ban 10.67.1.1", "unban 10.67.1.1"], "{told:?}");
}

/// What ended while nothing ran, or was under way at the stop, is told at the next start.
#[tokio::test(flavor = "multi_thread")]
async fn the_program_is_told_after_a_restart_of_what_it_does_not_know() {
    let text = "[ $2 = 10.67.2.9 ] && ! [ -e @/go ] && { echo began >> @/told; exec /bin/sleep 8; }\n\
                echo \"$1 $2\" >> @/told";
    let running = Running::start("", |settings, at| program(settings, at, text)).await;
    running.guard(&["ban", "10.67.2.1", "--for", "30 s"]).expect("banned");
    running.guard(&["ban", "10.67.2.2"]).expect("banned");
    running.until("two bans", |running| running.told().len() == 2).await;
    running.guard(&["ban", "10.67.2.9", "--for", "30 s"]).expect("banned");
    let is_begun =
        |running: &Running| running.told().len() == 3 && running.json(&["status"])["on_ban"]["under_way"] == 1;
    running.until("the third alone", is_begun).await;
    write(running.folder.path(), "go", "");
    let running = running.restarted_after(Span::from_secs(60)).await;
    running.until("two ends", |running| running.told().len() >= 5).await;
    let mut told = running.told().split_off(3);
    told.sort();
    // Of the third it is not known whether the program has done it.
    assert_eq!(told, ["unban 10.67.2.1", "unban 10.67.2.9"]);
    running.until("the end of all", |running| running.json(&["status"])["on_ban"]["under_way"] == 0).await;
    let running = running.restarted_after(Span::from_secs(1)).await;
    running.guard(&["unban", "10.67.2.2"]).expect("unbanned");
    running.until("the last end", |running| running.told().len() == 6).await;
    assert_eq!(running.told()[5], "unban 10.67.2.2");
}

/// A run that fails is tried again, a bounded number of times; then it is said, and a reload tries again. What a simulation does not
/// enforce, the program is told is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_fails_is_run_again_until_it_is_given_up() {
    let text = "[ -e @/works ] || { echo \"no answer\" >&2; exit 3; }\necho \"$1 $2\" >> @/told";
    let running = Running::start("", |settings, at| program(settings, at, text)).await;
    running.guard(&["ban", "10.67.3.1", "--for", "ever"]).expect("banned");
    running
        .until("a failure", |running| {
            !running.json(&["status"])["on_ban"]["failed"].as_array().expect("a list").is_empty()
        })
        .await;
    let (_, said) = running.guard(&["status"]).expect("a status");
    assert!(said.contains("ban 10.67.3.1 manual") && said.contains("no answer"), "{said}");
    running
        .until("the end of it", |running| {
            running.world.clock.suspend(Span::from_secs(300));
            running.json(&["status"])["on_ban"]["failed"][0]["given_up"] == true
        })
        .await;
    assert_eq!(running.acted().len(), 10, "each run is journaled");
    running.until("a word", |running| running.json(&["status"])["impaired"].to_string().contains("on_ban")).await;
    assert_ne!(running.is_open(LOGS_UNREAD), Some(true), "every log is read");
    write(running.folder.path(), "works", "");
    running.guard(&["ban", "10.67.3.2", "--for", "10 d"]).expect("banned");
    running.until("another one", |running| running.told() == ["ban 10.67.3.2"]).await;
    running.guard(&["reload"]).expect("read again");
    running.until("the first", |running| running.told().len() == 2).await;
    running.until("nothing to do", |running| running.json(&["status"])["impaired"] == json!([])).await;
    // A simulation enforces nothing, and what it does not enforce is told once it does.
    let mut running = running;
    running.simulate(true).await;
    running.until("the ends", |running| running.told().len() == 4).await;
    running.simulate(false).await;
    running.until("the bans", |running| running.told().len() == 6).await;
    let mut told = running.told();
    told[2..4].sort();
    told[4..].sort();
    let both = |action: &str| [1, 2].map(|last| format!("{action} 10.67.3.{last}"));
    assert_eq!((&told[2..4], &told[4..]), (&both("unban")[..], &both("ban")[..]));
}

/// A program that is not there is said before the first ban needs it, and told of all once it is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_not_there_is_said_before_it_is_needed() {
    let named = |settings: &mut Settings, at: &Path| settings.on_ban = Some(at.join("program"));
    let running = Running::start("", named).await;
    let said = |running: &Running| running.json(&["status"])["impaired"].to_string();
    running.until("a word", |running| said(running).contains("program: it is not there")).await;
    running.guard(&["ban", "10.67.4.1", "--for", "10 d"]).expect("banned");
    running.until("a run that fails", |running| running.acted().len() == 1).await;
    let failed = running.world.journal.of::<Acted>().into_iter().find_map(|acted| acted.failed).expect("a reason");
    assert!(failed.contains(&running.folder.path().join("program").display().to_string()), "{failed}");
    let at = running.folder.path();
    let (path, aside) = (at.join("program"), at.join("aside"));
    put_script(&format!("#!/bin/sh\necho \"$1 $2\" >> {}/told\n", at.display()), &aside);
    let mode = |path: &Path, mode| std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode));
    mode(&aside, 0o644).expect("set");
    std::fs::rename(&aside, &path).expect("moved");
    let found = |running: &Running, what: &str| {
        running.world.clock.suspend(Span::from_secs(61));
        said(running).contains(what)
    };
    running.until("another word", |running| found(running, "`chmod +x` it")).await;
    mode(&path, 0o755).expect("executable");
    running.until("the ban", |running| found(running, "") && running.told() == ["ban 10.67.4.1"]).await;
    running.until("nothing to say", |running| found(running, "") && said(running) == "[]").await;
}

/// JO-1: `recidive` counts the bans of garant itself, so it needs no log of fail2ban; a name before a bracket is missed as such.
#[tokio::test(flavor = "multi_thread")]
async fn recidive_needs_no_log_and_an_empty_banaction_is_named() {
    let jail = "[web]\nenabled = false\n[recidive]\nenabled = true\nfilter = recidive\nlogpath = @/gone.log\n";
    let running = Running::start(jail, |_, at| {
        let filter = "[Definition]\nfailregex = NOTICE\\s+\\[[^\\]]+\\]\\s+Ban\\s+<HOST>\n";
        write(at, "fail2ban/filter.d/recidive.conf", filter);
    })
    .await;
    let status = running.json(&["status"]);
    assert_eq!((&status["impaired"], &status["enabled"]), (&json!([]), &1.into()), "{status}");
    let failure =
        running.reload("[web]\naction = %(banaction)s[port=22]\nbanaction =\n").expect_err("no name").to_string();
    assert!(failure.contains("banaction") && failure.contains("before the bracket"), "{failure}");
}

/// A user of this host writes into the log of sshd, by syslog: nobody is spared by that. What was learned can be taken off.
#[tokio::test(flavor = "multi_thread")]
async fn a_forged_login_spares_nobody_and_what_was_learned_can_be_taken_off() {
    let log = "[sshd]\nenabled = true\nlogpath = @/auth.log\nfilter = sshd\n";
    let mut running = Running::start("", |_, at| {
        write(at, "fail2ban/filter.d/sshd.conf", "[Definition]\nfailregex = ^.*sshd.* Failed .* from <HOST> \n");
        write(at, "fail2ban/jail.local", log);
        let line = |address: &str| {
            format!("{DATE} web sshd[4711]: Accepted publickey for root from {address} port 22 ssh2: RSA SHA256:a\n")
        };
        append(at, "auth.log", &line("10.68.0.1"));
    })
    .await;
    let allowed = |running: &Running| running.json(&["allow"]).to_string();
    append(
        running.folder.path(),
        "auth.log",
        &format!("{DATE} web sshd[4712]: Accepted publickey for root from 10.68.0.2 port 22 ssh2: RSA SHA256:a\n"),
    );
    running.until("the lines", |running| running.json(&["status"])["lines"].as_u64() >= Some(2)).await;
    assert!(!allowed(&running).contains("10.68.0."), "{}", allowed(&running));
    running.guard(&["ban", "10.68.0.2"]).expect("banned");
    // As kept by an earlier release, or learned from the kernel.
    running.world.stop.cancel();
    running.task.await.expect("it ends").expect("in order");
    let kept = running.folder.path().join("state/logs.json");
    let mut state: Value = serde_json::from_slice(&std::fs::read(&kept).expect("kept")).expect("JSON");
    state["logins"] = json!([["10.68.0.3", running.world.now()]]);
    std::fs::write(&kept, state.to_string()).expect("written");
    running = Running::run(running.folder, running.world.restarted(Span::from_secs(1)), running.settings).await;
    let refused = running.guard(&["ban", "10.68.0.3"]).expect_err("it is spared");
    assert!(format!("{refused} {:?}", refused.why()).contains("garant guard allow remove 10.68.0.3"), "{refused}");
    let (_, said) = running.guard(&["allow", "remove", "10.68.0.3"]).expect("taken off");
    assert!(said.contains("10.68.0.3 is taken off"), "{said}");
    assert!(!allowed(&running).contains("10.68.0.3"));
    let running = running.restarted().await;
    assert!(!allowed(&running).contains("10.68.0.3"));
    running.guard(&["ban", "10.68.0.3"]).expect("banned");
    let (_, said) = running.guard(&["allow", "remove", "127.0.0.1"]).expect("an answer");
    assert!(said.contains("was not learned") && said.contains("loopback"), "{said}");
}

/// Where scans go unnoticed, nobody knows whether somebody was to be banned: that is said, and proves nothing.
#[tokio::test(flavor = "multi_thread")]
async fn scans_that_go_unnoticed_are_said() {
    let running = Running::start("", |settings, _| settings.scans = true).await;
    running.until("a state", |running| !running.world.journal.of::<Changed>().is_empty()).await;
    running.firewall.missed.lock().expect("a lock").udp = 7;
    running.until("the finding", |running| running.is_open(BANS_NOT_ENFORCED) == Some(true)).await;
    assert!(running.words(BANS_NOT_ENFORCED).expect("words").contains("over UDP that the kernel has no room"));
    let status = running.json(&["status"]);
    assert!(status["impaired"].to_string().contains("port scans") && status["enforced"] == true, "{status}");
    running.world.clock.suspend(Span::from_secs(60));
    running.until("the end of the finding", |running| running.is_open(BANS_NOT_ENFORCED) == Some(false)).await;
    let mut states: Vec<State> =
        running.world.journal.of::<Changed>().into_iter().map(|changed| changed.state).collect();
    states.dedup();
    assert_eq!(states, [State::Up, State::Flapping, State::Up]);
    assert_ne!(running.is_open(LOGS_UNREAD), Some(true));
}

/// NH-1: an offence that fail2ban and garant have both banned is one for `recidive`, whichever of the two tells of it first.
#[tokio::test(flavor = "multi_thread")]
async fn recidive_counts_an_offence_once_that_fail2ban_has_banned_too() {
    let jail = "[recidive]\nenabled = true\nfilter = recidive\nlogpath = @/fail2ban.log\nmaxretry = 2\nfindtime = 86400\n\
                bantime = 86400\nlogtimezone = UTC\n";
    let ban_line = |second: i64, address: &str, rule: &str| {
        let at = Time::from_secs(1_800_000_000 + second).to_string();
        let at = at.trim_end_matches('Z').replace('T', " ");
        let at = at.split('.').next().unwrap_or_default();
        format!("{at},500 fail2ban.actions        [7]: NOTICE  [{rule}] Ban {address}\n")
    };
    let before = ban_line(-9, "10.68.0.1", "web");
    let running = Running::start(jail, |_, at| {
        let filter = "[Definition]\nfailregex = NOTICE\\s+\\[(?!recidive)[^\\]]+\\]\\s+Ban\\s+<HOST>\n";
        write(at, "fail2ban/filter.d/recidive.conf", filter);
        let date = "2027-01-15T07:59:50Z";
        write(at, "web.log", &format!("{date} from 10.68.0.1\n{date} from 10.68.0.1\n"));
        write(at, "fail2ban.log", &before);
    })
    .await;
    let by = |running: &Running, address: &str, rule: &str| {
        let bans = running.json(&["bans"]);
        bans.as_array().expect("bans").iter().any(|ban| ban["address"] == address && ban["rule"] == rule)
    };
    running.until("the ban", |running| by(running, "10.68.0.1", "web")).await;
    running.until_counted("recidive", 1).await;
    // While both run: fail2ban logs its ban of an offence that garant has banned, and one of its own.
    running.fail("10.68.0.2");
    running.until_counted("recidive", 2).await;
    append(running.folder.path(), "fail2ban.log", &ban_line(1, "10.68.0.2", "web"));
    append(running.folder.path(), "fail2ban.log", &ban_line(1, "10.68.0.3", "sshd"));
    running.until_counted("recidive", 3).await;
    for address in ["10.68.0.1", "10.68.0.2", "10.68.0.3"] {
        assert!(!by(&running, address, "recidive"), "{address}");
    }
    // So it is after a restart, and a second offence is one.
    let running = running.restarted_after(Span::from_secs(2)).await;
    append(running.folder.path(), "fail2ban.log", &ban_line(2, "10.68.0.2", "web"));
    append(running.folder.path(), "fail2ban.log", &ban_line(3, "10.68.0.4", "sshd"));
    running.until_counted("recidive", 1).await;
    assert!(!by(&running, "10.68.0.2", "recidive"));
    running.guard(&["unban", "10.68.0.1"]).expect("unbanned");
    running.fail("10.68.0.1");
    running.until("the ban of who came back", |running| by(running, "10.68.0.1", "recidive")).await;
}

/// Where `[guard]` is gone, nobody is banned any more, and the program is told of the ends; and of the bans once it is back.
#[tokio::test(flavor = "multi_thread")]
async fn the_program_is_told_of_the_ends_when_the_guard_is_removed() {
    let running = Running::start("", |settings, at| program(settings, at, "echo \"$1 $2\" >> @/told")).await;
    running.guard(&["ban", "10.67.5.1"]).expect("banned");
    running.until("the ban", |running| running.told() == ["ban 10.67.5.1"]).await;
    running.desired.send_replace(None);
    running.until("the end", |running| running.told() == ["ban 10.67.5.1", "unban 10.67.5.1"]).await;
    assert!(!running.drops("10.67.5.1"));
    running.follow();
    running.until("the ban again", |running| running.told().len() == 3).await;
    assert_eq!(running.told()[2], "ban 10.67.5.1");
    assert!(running.drops("10.67.5.1"));
}

/// JO-1: a jail whose filter has no pattern finds nobody, and that is said by a reload and the status.
#[tokio::test(flavor = "multi_thread")]
async fn a_jail_without_a_pattern_is_said() {
    let running = Running::start("", |_, _| ()).await;
    write(running.folder.path(), "fail2ban/filter.d/empty.conf", "[Definition]\nfailregex =\n");
    let (code, said) = running.reload("[web]\nfilter = empty\n").expect("read");
    assert!(code == 0 && said.contains("jail web") && said.contains("no `failregex`"), "{said}");
    let impaired = running.json(&["status"])["impaired"].to_string();
    assert!(impaired.contains("no `failregex`"), "{impaired}");
    running.until("the finding", |running| running.is_open(BANS_NOT_ENFORCED) == Some(true)).await;
    running.reload("").expect("read");
    running.until("its end", |running| running.is_open(BANS_NOT_ENFORCED) == Some(false)).await;
}
