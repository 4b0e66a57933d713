use std::fs;

use store::Reading;

use super::*;
use crate::source::testing::{ask, plain, run};

/// A `/proc` in which the processors were busy for so many of a hundred ticks, and the memory is used by so many percent.
fn look_at(busy: u64, memory: u64, mdstat: Option<&str>) -> Look {
    let proc = tempfile::tempdir().expect("a directory");
    fs::write(proc.path().join("stat"), format!("cpu  {busy} 0 0 {} 0 0 0 0 0 0\n", 100 - busy)).expect("written");
    let meminfo = format!("MemTotal: 100 kB\nMemAvailable: {} kB\n", 100 - memory);
    fs::write(proc.path().join("meminfo"), meminfo).expect("written");
    if let Some(text) = mdstat {
        fs::write(proc.path().join("mdstat"), text).expect("written");
    }
    mounted(proc.path(), "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n");
    let disks = look_at_disks(proc.path(), &named(&["/"]));
    Look { disks, ..look(proc.path()) }
}

/// Makes a `/proc` say that this is mounted.
fn mounted(proc: &Path, mountinfo: &str) {
    fs::create_dir_all(proc.join("self")).expect("made");
    fs::write(proc.join("self/mountinfo"), mountinfo).expect("written");
}

fn named(directories: &[&str]) -> Watched {
    Watched { disks: directories.iter().map(PathBuf::from).collect(), ..Watched::default() }
}

fn disk_used(share: i64, directory: &str) -> Use {
    Use { directory: directory.to_owned(), share, of_inodes: false }
}

fn machine() -> Machine {
    let limit = Ppb::new(800_000_000);
    let limits = Limits { cpu: limit, memory: limit, disk: limit, lasting: Span::from_secs(300) };
    Machine::new(limits, Watched::default())
}

fn level_of(answer: &Answer, finding: &str) -> Option<Level> {
    answer.symptoms.iter().find(|symptom| symptom.finding.as_str() == finding).map(|symptom| symptom.level)
}

/// WA-2: at 80 % it is a finding, at 75 % it may still be, below it is over; RAID at once.
#[test]
fn figures_become_symptoms() {
    for (memory, expect) in [(80, Level::High), (79, Level::Between), (75, Level::Between), (74, Level::Low)] {
        let answer = machine().answer(&look_at(0, memory, None));
        assert_eq!(level_of(&answer, "memory-usage"), Some(expect), "{memory} %: {}", answer.text);
        assert_eq!(answer.reading, Reading::Up, "a full machine is a finding, not an outage");
    }
    let degraded = machine().answer(&look_at(0, 0, Some(include_str!("fixtures/mdstat-degraded"))));
    assert_eq!(level_of(&degraded, "raid-degraded"), Some(Level::High));
    assert!(degraded.text.contains("RAID md1: 1 of 2 members work"), "{}", degraded.text);
    let healthy = machine().answer(&look_at(0, 0, Some(include_str!("fixtures/mdstat-healthy"))));
    assert_eq!(level_of(&healthy, "raid-degraded"), Some(Level::Low));
    assert!(level_of(&healthy, "disk-usage").is_some());

    // By name: one that must be there is not, one that is broken may be so.
    let limits = machine().limits;
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    for (arrays, arrays_ignored, mdstat, text) in [
        (vec!["md0"], vec![], Some(include_str!("fixtures/mdstat-healthy")), "all RAID arrays are complete"),
        (vec!["md0", "md7"], vec![], Some(include_str!("fixtures/mdstat-healthy")), "RAID md7: it is not there"),
        (vec!["md0"], vec![], None, "RAID md0: it is not there"),
        (vec![], vec![], None, "there is no RAID array to look at"),
        (
            vec![],
            vec!["md0", "md1"],
            Some(include_str!("fixtures/mdstat-degraded")),
            "there is no RAID array to look at",
        ),
        (vec!["md0"], vec!["md1"], Some(include_str!("fixtures/mdstat-degraded")), "all RAID arrays are complete"),
    ] {
        let watched = Watched { arrays: names(&arrays), arrays_ignored: names(&arrays_ignored), ..Watched::default() };
        let answer = Machine::new(limits, watched).answer(&look_at(0, 0, mdstat));
        assert!(answer.text.contains(text), "{arrays:?} {arrays_ignored:?}: {}", answer.text);
        let level = if text.starts_with("RAID") { Level::High } else { Level::Low };
        assert_eq!(level_of(&answer, "raid-degraded"), Some(level), "{arrays:?} {arrays_ignored:?}");
    }
}

#[test]
fn use_of_processors_is_a_difference() {
    let machine = machine();
    let earlier = CpuTicks::parse("cpu  0 0 0 0 0 0 0 0").expect("ticks");
    let first = machine.answer(&Look { ticks: Some(earlier), ..look_at(0, 0, None) });
    assert_eq!((first.value, level_of(&first, "cpu-usage")), (None, None), "nothing to compare with yet");
    let second = machine.answer(&look_at(90, 0, None));
    assert_eq!((second.value, level_of(&second, "cpu-usage")), (Some(9_000), Some(Level::High)));
}

#[test]
fn what_can_not_be_read_is_unknown() {
    let proc = tempfile::tempdir().expect("a directory");
    let answer = machine().answer(&look(proc.path()));
    assert_eq!(level_of(&answer, "memory-usage"), None);
    assert!(answer.text.contains("stat can't be read"), "{}", answer.text);
    assert_eq!(answer.reading, Reading::Degraded, "no file `mdstat` is no RAID: {}", answer.text);
    fs::create_dir(proc.path().join("mdstat")).expect("made");
    assert_eq!(machine().answer(&look(proc.path())).reading, Reading::Unknown, "nothing at all");
    let nowhere = Path::new("/nonexistent/garant");
    assert!(disk(nowhere, true).expect_err("no such directory").contains("/nonexistent/garant"));
    assert_eq!(disk(nowhere, false), Ok(None), "a mount that another hides");
}

/// A disk that fails hides neither another that is full, nor a broken array.
#[test]
fn one_failing_disk_hides_nothing() {
    let proc = tempfile::tempdir().expect("a directory");
    fs::write(proc.path().join("stat"), "cpu  0 0 0 100 0 0 0 0 0 0\n").expect("written");
    fs::write(proc.path().join("meminfo"), "MemTotal: 100 kB\nMemAvailable: 1 kB\n").expect("written");
    fs::write(proc.path().join("mdstat"), include_str!("fixtures/mdstat-degraded")).expect("written");
    mounted(proc.path(), "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n");
    let disks = look_at_disks(proc.path(), &named(&["/nonexistent/garant", "/"]));
    assert_eq!(disks.uses.len(), 1);
    let look = Look { disks, ..look(proc.path()) };
    let answer = machine().answer(&look);
    assert_eq!(answer.reading, Reading::Degraded, "{}", answer.text);
    assert!(answer.text.contains("the disk of /nonexistent/garant can't be looked at"), "{}", answer.text);
    assert_eq!(level_of(&answer, "memory-usage"), Some(Level::High));
    assert_eq!(level_of(&answer, "raid-degraded"), Some(Level::High));
    for (share, expect) in [(9_000, Some(Level::High)), (1_000, None)] {
        let (uses, troubles) = (vec![disk_used(share, "/")], vec!["the other can't be looked at".to_owned()]);
        let look = Look { disks: Disks { uses, troubles, ..Disks::default() }, ..Look::default() };
        let answer = machine().answer(&look);
        assert_eq!(level_of(&answer, "disk-usage"), expect, "{share}: the other may be full");
        let told = format!("disk of / {}.00 % used", share / 100);
        assert!(answer.text.contains(&told), "what can be looked at is told: {}", answer.text);
    }
}

/// Each disk that is too full is told, whichever is the fullest.
#[test]
fn every_full_disk_is_named() {
    let uses = [(9_500, "/"), (1_000, "/boot"), (8_000, "/srv")].map(|(share, name)| disk_used(share, name));
    let disks = Disks { uses: uses.to_vec(), ..Disks::default() };
    let symptom = machine().disk_usage(&disks).expect("a figure");
    assert_eq!((symptom.level, symptom.about), (Level::High, vec!["/".to_owned(), "/srv".to_owned()]));
    assert!(symptom.text.contains("disk of / 95.00 %") && symptom.text.contains("disk of /srv 80.00 %"));
    assert!(!symptom.text.contains("/boot"), "{}", symptom.text);
    let uses = vec![Use { of_inodes: true, ..disk_used(10_000, "/srv") }];
    let symptom = machine().disk_usage(&Disks { uses, ..Disks::default() }).expect("a figure");
    assert!(symptom.text.contains("inodes of the disk of /srv 100.00 %"), "{}", symptom.text);
}

#[tokio::test]
async fn this_machine_can_be_looked_at() {
    let answer = ask(&plain(), "host", "disk = \"99.9 %\"\ndisks = [\"/\"]").await;
    assert_eq!(answer.reading, Reading::Up, "{}", answer.text);
    assert!(answer.text.contains("memory "), "{}", answer.text);
    assert!(answer.text.contains("disk of / "), "{}", answer.text);
}

/// A file system that hangs holds one thread, not one more at each turn, and hides nothing else.
#[tokio::test]
async fn a_look_that_hangs_is_not_repeated() {
    let machine = machine();
    machine.reading.store(true, Ordering::Release);
    let (net, clock) = (plain(), engine::clock::SimClock::starting_at(event::Time::from_secs(0)));
    let asking = Asking { net: &net, secrets: &engine::Secrets::default(), clock: &clock, timeout: Span::from_secs(1) };
    let answer = machine.ask(&asking).await;
    assert_eq!(answer.reading, Reading::Degraded, "{}", answer.text);
    assert!(answer.text.contains("a disk does not answer"), "{}", answer.text);
    assert!(level_of(&answer, "raid-degraded").is_some() && level_of(&answer, "disk-usage").is_none());
    machine.reading.store(false, Ordering::Release);
    assert_eq!(machine.ask(&asking).await.reading, Reading::Up);
    assert_eq!(machine.ask(&asking).await.reading, Reading::Up, "the flag is lowered after each look");
}

/// A promise of absence is kept only where somebody looked: no disk, no figure, and a word why.
#[test]
fn no_disk_at_all_is_no_empty_disk() {
    let proc = tempfile::tempdir().expect("a directory");
    let container = "1 0 0:50 / / rw - overlay overlay rw\n2 1 0:51 / /tmp rw - tmpfs tmpfs rw\n";
    let disk = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n";
    for (mountinfo, directories, expect) in [
        (container, vec![], "no disk of this machine is seen here"),
        ("", vec![], "no disk of this machine is seen here"),
        ("/dev/md1 / ext4 rw 0 0\n", vec![], "self/mountinfo is not as Linux writes it"),
        ("/dev/md1 / ext4 rw 0 0\n", vec!["/"], "self/mountinfo is not as Linux writes it"),
        (disk, vec!["/proc"], "it has no size"),
        (disk, vec!["/nonexistent/garant"], "the disk of /nonexistent/garant can't be looked at"),
        (disk, vec!["/proc/self/exe/inside"], "the disk of /proc/self/exe/inside can't be looked at"),
    ] {
        mounted(proc.path(), mountinfo);
        let disks = look_at_disks(proc.path(), &named(&directories));
        assert!(disks.troubles.iter().any(|trouble| trouble.contains(expect)), "{mountinfo}: {disks:?}");
        let answer = machine().answer(&Look { disks, memory: Some(100), ..Look::default() });
        assert_eq!((level_of(&answer, "disk-usage"), level_of(&answer, "disk-read-only")), (None, None), "{mountinfo}");
        assert_eq!(answer.reading, Reading::Degraded, "it shows: {}", answer.text);
    }
    mounted(proc.path(), disk);
    assert_eq!(look_at_disks(proc.path(), &Watched::default()).uses.len(), 1);
}

/// A full disk that turns read-only stays full, and is one that can't be written to, also for a garant that starts later. One
/// that is meant to be read-only, such as an image, is neither.
#[test]
fn a_read_only_disk_is_found_unless_it_is_meant() {
    let proc = tempfile::tempdir().expect("a directory");
    let meant = Watched { read_only: vec![PathBuf::from("/")], ..Watched::default() };
    let both = Watched { read_only: vec![PathBuf::from("/")], ..named(&["/"]) };
    // This machine's `/` can be written to, whatever the table says: what is seen is that it is looked at.
    for (of_mount, of_disk, watched, looked_at, found) in [
        ("rw", "rw", Watched::default(), true, false),
        ("rw", "ro,errors=remount-ro", Watched::default(), true, true),
        ("rw", "rw,emergency_ro", Watched::default(), true, true),
        ("ro", "ro", Watched::default(), true, true),
        // How systemd shows the disks to a service that it protects.
        ("ro", "rw", Watched::default(), true, false),
        ("rw", "ro", named(&["/"]), true, true),
        ("rw", "ro", named(&["/etc"]), true, true),
        ("ro", "ro", meant, false, false),
        ("ro", "ro", both, true, false),
    ] {
        mounted(proc.path(), &format!("1 0 8:1 / / {of_mount} - ext4 /dev/sda1 {of_disk}\n"));
        let disks = look_at_disks(proc.path(), &watched);
        let seen = (!disks.uses.is_empty(), !disks.read_only.is_empty());
        assert_eq!(seen, (looked_at, found), "{of_mount} {of_disk} {watched:?}");
    }
    let uses = vec![disk_used(10_000, "/srv")];
    let disks = Disks { uses, read_only: vec!["/srv".to_owned()], ..Disks::default() };
    let answer = machine().answer(&Look { disks, ..Look::default() });
    assert_eq!(level_of(&answer, "disk-usage"), Some(Level::High));
    assert_eq!(level_of(&answer, "disk-read-only"), Some(Level::High));
    assert!(answer.text.contains("disk of /srv: it can only be read"), "{}", answer.text);
}

/// The name of the variable that says where the disk of the test below is, in the process that may mount it.
const DISK_IN: &str = "GARANT_TEST_DISK_IN";

/// A real disk that fills up, turns read-only, and runs out of inodes. The test runs itself again where nobody else sees what
/// it mounts.
#[test]
fn a_real_disk_is_told_as_it_is() {
    let done = |folder: &Path| folder.join("done");
    let Some(folder) = std::env::var_os(DISK_IN) else {
        let folder = tempfile::tempdir().expect("a directory");
        let told = format!("{DISK_IN}={}", folder.path().display());
        let me = std::env::current_exe().expect("a test knows its own path").display().to_string();
        let name = "source::host::tests::a_real_disk_is_told_as_it_is";
        run("unshare", &["--mount", "env", &told, &me, "--exact", name, "--nocapture"]);
        assert!(done(folder.path()).exists(), "the test of that name did run");
        return;
    };
    let folder = PathBuf::from(folder);
    let (image, disk) = (folder.join("image"), folder.join("disk"));
    fs::create_dir(&disk).expect("made");
    fs::File::create(&image).and_then(|file| file.set_len(8 << 20)).expect("written");
    let (image, at) = (image.display().to_string(), disk.display().to_string());
    run("mkfs.ext4", &["-q", &image]);
    run("mount", &["-o", "loop", &image, &at]);

    let look = |watched: &Watched| {
        let disks = look_at_disks(Path::new(PROC), watched);
        let seen = disks.uses.iter().any(|found| found.directory == at);
        let answer = machine().answer(&Look { disks, ..Look::default() });
        let of = |finding: &str| {
            let symptom = answer.symptoms.iter().find(|symptom| symptom.finding.as_str() == finding);
            let symptom = symptom.unwrap_or_else(|| panic!("{finding} in {}", answer.text));
            symptom.about.contains(&at).then(|| symptom.text.clone())
        };
        (seen, of("disk-usage"), of("disk-read-only"))
    };
    let by_name = named(&[&at]);
    let expect = |watched: &Watched, full: Option<&str>, read_only: bool, about: &str| {
        let (seen, usage, turned) = look(watched);
        assert!(seen, "{about}: it is looked at");
        let told = usage.as_deref().zip(full).is_some_and(|(usage, full)| usage.contains(&format!("{full} {at} ")));
        assert!(usage.is_some() == full.is_some() && (told || full.is_none()), "{about}: {usage:?}");
        assert_eq!(turned.is_some(), read_only, "{about}: {turned:?}");
    };
    for watched in [&by_name, &Watched::default()] {
        expect(watched, None, false, "a new disk");
    }
    fs::write(disk.join("all"), vec![0; 16 << 20]).expect_err("there is no room for it");
    for watched in [&by_name, &Watched::default()] {
        expect(watched, Some("disk of"), false, "full");
    }
    run("mount", &["-o", "remount,ro", &at]);
    for watched in [&by_name, &Watched::default()] {
        expect(watched, Some("disk of"), true, "full, then read-only");
    }
    let meant = Watched { read_only: vec![disk.clone()], ..Watched::default() };
    let disks = look_at_disks(Path::new(PROC), &meant);
    assert!(!disks.uses.iter().any(|found| found.directory == at) && !disks.read_only.contains(&at), "{disks:?}");
    expect(&Watched { disks: vec![disk.clone()], ..meant }, Some("disk of"), false, "meant, and named");

    run("mount", &["-o", "remount,rw", &at]);
    fs::remove_file(disk.join("all")).expect("removed");
    expect(&by_name, None, false, "emptied");
    run("mount", &["-o", "remount,bind,ro", &at]);
    expect(&by_name, None, false, "written to elsewhere, and shown read-only here");
    run("mount", &["-o", "remount,bind,rw", &at]);
    let error =
        (0..).find_map(|number| fs::File::create(disk.join(format!("{number}"))).err()).expect("there is an end");
    assert_eq!(error.kind(), io::ErrorKind::StorageFull, "no inode is left");
    expect(&by_name, Some("inodes of the disk of"), false, "room without inodes");
    fs::write(done(&folder), "").expect("written");
}

/// Below a disk that is not mounted lies another one, of which nobody asked.
#[test]
fn a_disk_that_is_unmounted_is_not_looked_at() {
    let proc = tempfile::tempdir().expect("a directory");
    let place = tempfile::tempdir().expect("a directory");
    let at = place.path().canonicalize().expect("there");
    let directory = at.to_str().expect("UTF-8");
    let root = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n";
    let both = format!("{root}2 1 8:2 / {directory} rw - ext4 /dev/sdb1 rw\n");
    let watched = named(&[directory]);
    let look = |mountinfo: &str, watched: &Watched| {
        mounted(proc.path(), mountinfo);
        let disks = look_at_disks(proc.path(), watched);
        (disks.uses.len(), disks.troubles.join("; "))
    };
    assert_eq!(look(root, &watched), (1, String::new()), "a directory of a disk, as it ever was");
    assert_eq!(look(&both, &watched), (1, String::new()));
    let (uses, troubles) = look(root, &watched.clone());
    assert!(uses == 0 && troubles.contains("it was mounted there, and is no more"), "{troubles}");
    assert_eq!(look(&both, &watched), (1, String::new()), "it is back");

    // A link that leads to a disk, and is taken away, or leads elsewhere: the disk is where it was.
    let link = proc.path().join("link");
    let watched = named(&[link.to_str().expect("UTF-8")]);
    for elsewhere in [None, Some("/")] {
        std::os::unix::fs::symlink(&at, &link).expect("made");
        assert_eq!(look(&both, &watched), (1, String::new()));
        fs::remove_file(&link).expect("removed");
        if let Some(elsewhere) = elsewhere {
            std::os::unix::fs::symlink(elsewhere, &link).expect("made");
        }
        let (uses, troubles) = look(&both.replace("/ / rw", "/ /nowhere rw"), &watched);
        let expected = format!("it led to {directory}, and does no more");
        assert!(uses == 0 && troubles.contains(&expected), "{troubles}");
        fs::remove_file(&link).ok();
    }

    let fstab = proc.path().join("fstab");
    fs::write(&fstab, format!("# /dev/sdb1 /x ext4\n/dev/sdb1 {directory} ext4 defaults 0 2\n")).expect("written");
    let new = Watched { fstab: fstab.clone(), ..named(&[directory]) };
    let (uses, troubles) = look(root, &new);
    assert!(uses == 0 && troubles.contains("it is not mounted"), "{troubles}");
    fs::write(&fstab, format!("/dev/sdb1 {directory} ext4 noauto,user 0 2\n")).expect("written");
    assert_eq!(look(root, &new), (1, String::new()), "nobody said that it is mounted");
}
