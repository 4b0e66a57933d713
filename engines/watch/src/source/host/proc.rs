//! What Linux says of itself in `/proc`, read from text: proc(5).

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

/// The directories of `/proc/mounts` behind which is a disk of this machine that can fill up, each disk once. What is
/// mounted to be read only can't: an image is always full.
pub(super) fn disks(mounts: &str) -> Vec<String> {
    let mut seen = Vec::new();
    let mut directories = Vec::new();
    for line in mounts.lines() {
        let mut words = line.split(' ');
        let (Some(device), Some(directory), Some(kind)) = (words.next(), words.next(), words.next()) else { continue };
        if words.next().is_some_and(|options| options.split(',').any(|option| option == "ro")) {
            continue;
        }
        let is_disk = device.starts_with('/') || ["zfs", "btrfs", "bcachefs"].contains(&kind);
        // The same device mounted twice (a bind mount) is one disk; the first mount is the one people know.
        if is_disk && !NOT_DISKS.contains(&kind) && !kind.starts_with("fuse") && !seen.contains(&device) {
            seen.push(device);
            directories.push(unescape(directory));
        }
    }
    directories
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
    fn mounts() {
        let mounts = "proc /proc proc rw 0 0\n\
            /dev/md1 / ext4 rw,relatime 0 0\n\
            tmpfs /run tmpfs rw 0 0\n\
            /dev/md2 /srv/my\\040data xfs rw 0 0\n\
            /dev/md2 /var/bind xfs rw 0 0\n\
            /dev/loop3 /snap/core/1 squashfs ro 0 0\n\
            nas:/export /mnt/nas nfs4 rw 0 0\n\
            tank/home /home zfs rw 0 0\n\
            /dev/fuse /mnt/f fuse.sshfs rw 0 0\n\
            /dev/sdb1 /mnt/image ext4 ro,relatime 0 0\n\
            /dev/sdc1 /srv/rows ext4 rw,errors=remount-ro 0 0\n\
            /dev/sr0 /media/dvd udf rw 0 0\n\
            /dev/loop4 /opt/image erofs rw 0 0\n\
            broken\n";
        assert_eq!(disks(mounts), ["/", "/srv/my data", "/home", "/srv/rows"]);
    }
}
