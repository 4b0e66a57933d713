//! What Linux says of itself in `/proc`, read from text: proc(5).

use std::path::Path;

/// Time that all processors together spent since the machine started, in clock ticks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct CpuTicks {
    busy: u64,
    all: u64,
}

impl CpuTicks {
    /// The first line of `/proc/stat`. Waiting for a disk is idle time; time that the hypervisor took is not.
    pub(super) fn parse(stat: &str) -> Option<Self> {
        let line = stat.lines().next()?.strip_prefix("cpu ")?;
        // user nice system idle iowait irq softirq steal; guest time, after these, is counted in user already.
        let ticks: Vec<u64> = line.split_whitespace().take(8).map_while(|word| word.parse().ok()).collect();
        let idle: u64 = ticks.get(3)? + ticks.get(4)?;
        let all: u64 = ticks.iter().sum();
        Some(Self { busy: all - idle, all })
    }

    /// How busy the processors were between two readings, in hundredths of a percent.
    pub(super) fn share_since(self, earlier: Self) -> Option<i64> {
        let all = self.all.checked_sub(earlier.all).filter(|&all| all > 0)?;
        share(self.busy.checked_sub(earlier.busy)?, all)
    }
}

/// How much of the memory is used, in hundredths of a percent: what is not available to a new process without swapping.
pub(super) fn memory_share(meminfo: &str) -> Option<i64> {
    let kib = |name: &str| -> Option<u64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let total = kib("MemTotal")?;
    share(total.checked_sub(kib("MemAvailable")?)?, total)
}

/// `part` of `whole` in hundredths of a percent, rounded down.
pub(super) fn share(part: u64, whole: u64) -> Option<i64> {
    let share = u128::from(part) * 10_000 / u128::from(Some(whole).filter(|&whole| whole > 0)?);
    i64::try_from(share).ok()
}

/// Kinds of file system that hold no data of their own, or that an absent server could block for ever.
const NOT_DISKS: [&str; 15] = [
    "tmpfs", "devtmpfs", "ramfs", "overlay", "squashfs", "iso9660", "udf", "erofs", "cramfs", "nfs", "nfs4", "cifs",
    "smb3", "ceph", "9p",
];

/// What is mounted somewhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Mounted {
    /// What is mounted: `/dev/md1`.
    pub(super) device: String,
    /// Where.
    pub(super) directory: String,
    /// Kind of its file system.
    kind: String,
    /// Whether the file system takes no writes: mounted so, or turned so by an error. What is only shown read-only at this
    /// place, as to a service under systemd's `ProtectSystem=`, is written to elsewhere.
    pub(super) read_only: bool,
}

/// All that is mounted, out of `/proc/self/mountinfo` (proc_pid_mountinfo(5)). `None` when the text is not as Linux writes it.
pub(super) fn mounts(mountinfo: &str) -> Option<Vec<Mounted>> {
    let mounted = |line: &str| {
        // 36 35 98:0 /root /directory rw,noatime master:1 - ext4 /dev/root rw,errors=continue
        let (mount, file_system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(4);
        let (directory, _of_mount) = (mount.next()?, mount.next()?);
        let mut file_system = file_system.split(' ');
        let (kind, device, of_disk) = (file_system.next()?, file_system.next()?, file_system.next()?);
        // ext4 says `ro` after an error, and from Linux 6.15 on `emergency_ro` or `shutdown`.
        let read_only = of_disk.split(',').any(|option| ["ro", "emergency_ro", "shutdown"].contains(&option));
        Some(Mounted { device: unescape(device), directory: unescape(directory), kind: kind.to_owned(), read_only })
    };
    mountinfo.lines().map(mounted).collect()
}

/// Where something is to be mounted when the machine starts, by the text of fstab(5).
pub(super) fn to_be_mounted(fstab: &str) -> Vec<String> {
    let entries = fstab.lines().filter(|line| !line.trim_start().starts_with('#'));
    let directory = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (directory, _kind, options) = (fields.next()?, fields.next()?, fields.next().unwrap_or_default());
        let by_itself = !options.split(',').any(|option| option == "noauto");
        (directory.starts_with('/') && by_itself).then(|| unescape(directory))
    };
    entries.filter_map(directory).collect()
}

/// The disks of this machine, each once.
pub(super) fn disks(mounts: &[Mounted]) -> Vec<&Mounted> {
    let mut disks: Vec<&Mounted> = Vec::new();
    for mounted in mounts {
        let kind = mounted.kind.as_str();
        let is_disk = mounted.device.starts_with('/') || ["zfs", "btrfs", "bcachefs"].contains(&kind);
        // The same device mounted twice (a bind mount) is one disk, and the first mount is the one people know.
        let known = disks.iter().any(|disk| disk.device == mounted.device);
        if is_disk && !known && !NOT_DISKS.contains(&kind) && !kind.starts_with("fuse") {
            disks.push(mounted);
        }
    }
    disks
}

/// What a directory is on, when that is mounted; the directory has no `..` and no links in it.
pub(super) fn mount_of<'a>(mounts: &'a [Mounted], directory: &Path) -> Option<&'a Mounted> {
    // Of two at one place, the later hides the other.
    let over = mounts.iter().filter(|mounted| directory.starts_with(&mounted.directory));
    over.max_by_key(|mounted| mounted.directory.len())
}

/// Spaces and the like are written as `\040`.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let octal = match rest {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] => {
                Some((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'))
            }
            _ => None,
        };
        bytes.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { rest.get(4..).unwrap_or_default() } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors() {
        let earlier = CpuTicks::parse("cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 1 2 3\n").expect("a first line");
        let later = CpuTicks::parse("cpu  180 0 110 705 105 0 0 0 50 0\n").expect("a first line");
        assert_eq!(later.share_since(earlier), Some(9_000));
        assert_eq!(earlier.share_since(earlier), None, "no time passed");
        assert_eq!(earlier.share_since(later), None, "counters that run backwards say nothing");
        for bad in ["", "cpu", "cpu  x", "cpu  1 2 3", "intr 1 2 3 4 5 6 7 8"] {
            assert_eq!(CpuTicks::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn memory() {
        let meminfo = "MemTotal:       16000 kB\nMemFree:         100 kB\nMemAvailable:    4000 kB\n";
        assert_eq!(memory_share(meminfo), Some(7_500));
        for bad in
            ["", "MemTotal: 0 kB\nMemAvailable: 0 kB\n", "MemTotal: 5 kB\n", "MemTotal: 5 kB\nMemAvailable: 6 kB\n"]
        {
            assert_eq!(memory_share(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_mounted() {
        let mountinfo = "22 1 0:20 / /proc rw - proc proc rw\n\
            23 1 9:1 / / rw,relatime shared:1 - ext4 /dev/md1 rw\n\
            24 23 0:21 / /run rw - tmpfs tmpfs rw\n\
            25 23 9:2 / /srv/my\\040data rw - xfs /dev/md2 rw\n\
            26 23 9:2 /bind /var/bind rw - xfs /dev/md2 rw\n\
            27 23 7:3 / /snap/core/1 ro - squashfs /dev/loop3 ro\n\
            28 23 0:30 / /mnt/nas rw - nfs4 nas:/export rw\n\
            29 23 0:31 / /home rw shared:2 master:1 - zfs tank/home rw\n\
            30 23 0:32 / /mnt/f rw - fuse.sshfs /dev/fuse rw\n\
            31 23 8:17 / /mnt/image ro,relatime - ext4 /dev/sdb1 ro\n\
            32 23 8:33 / /srv/rows rw - ext4 /dev/sdc1 ro,errors=remount-ro\n\
            33 23 8:49 /etc /jail/etc ro - ext4 /dev/sdd1 rw\n\
            34 23 8:49 / /jail rw - ext4 /dev/sdd1 rw\n\
            35 23 11:0 / /media/dvd rw - udf /dev/sr0 rw\n\
            36 23 7:4 / /opt/image rw - erofs /dev/loop4 rw\n\
            37 23 8:65 / /srv/new rw - ext4 /dev/sde1 rw,emergency_ro\n";
        let mounts = mounts(mountinfo).expect("as Linux writes it");
        let seen: Vec<_> = disks(&mounts).iter().map(|disk| (disk.directory.as_str(), disk.read_only)).collect();
        let expect = [
            ("/", false),
            ("/srv/my data", false),
            ("/home", false),
            ("/mnt/image", true),
            ("/srv/rows", true),
            ("/jail/etc", false),
            ("/srv/new", true),
        ];
        assert_eq!(seen, expect, "shown read-only at one place is not read-only");
        let device = |directory: &str| mount_of(&mounts, Path::new(directory)).map(|mounted| mounted.device.as_str());
        assert_eq!(device("/srv/my data/base"), Some("/dev/md2"));
        assert_eq!(device("/srv/my dat"), Some("/dev/md1"));
        assert_eq!(device("/mnt/image"), Some("/dev/sdb1"));
        for bad in ["/dev/md1 / ext4 rw,relatime 0 0\n", "23 1 9:1 / / - ext4\n", "broken\n"] {
            assert_eq!(super::mounts(bad), None, "{bad}");
        }
    }
}
