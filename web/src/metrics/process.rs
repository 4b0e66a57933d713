//! Figures of the process, under the names that every collector knows (`process_…`).

use std::fs;

use engine::metrics::{MetricValue, MetricsText};

pub(super) fn write(text: &mut MetricsText) {
    let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    text.counter("process_cpu_seconds", "seconds", "Processor time used, of the system included.")
        .sample(&[], MetricValue::Millionths(cpu.tv_sec * 1_000_000 + cpu.tv_nsec / 1000));
    // Where /proc is not mounted the figure is left out.
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(kibibytes) = resident_kibibytes(&status) {
        text.gauge("process_resident_memory_bytes", "bytes", "Memory in use that is not swapped out.")
            .sample(&[], kibibytes.saturating_mul(1024));
    }
}

/// The line `VmRSS:   12345 kB` (proc_pid_status(5)).
fn resident_kibibytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use engine::metrics::MetricsFormat;

    use super::*;

    #[test]
    fn memory_is_read_from_proc() {
        assert_eq!(resident_kibibytes("Name:\tgarant\nVmRSS:\t   12345 kB\nThreads:\t3\n"), Some(12_345));
        assert_eq!(resident_kibibytes("Name:\tgarant\n"), None);
        assert_eq!(resident_kibibytes("VmRSS:\tmany kB\n"), None);
    }

    #[test]
    fn this_process_uses_something() {
        let mut text = MetricsText::new(MetricsFormat::Text);
        write(&mut text);
        let text = text.finish();
        for name in ["process_cpu_seconds_total ", "process_resident_memory_bytes "] {
            let line = text.lines().find(|line| line.starts_with(name)).expect(name);
            assert_ne!(line.rsplit_once(' ').map(|(_, value)| value), Some("0"), "{line}");
        }
    }
}
