//! What the kernel knows of this process, read when somebody asks.

use std::fs;

/// The unit of times in `/proc`: the kernel's interface has a hundred a second on every machine that this is built for.
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor time and memory of this process.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct ProcessReading {
    /// Seconds on a processor, user and system together; zero where `/proc` can't be read.
    pub(super) cpu_seconds: f64,
    /// Resident memory in bytes; zero where `/proc` can't be read.
    pub(super) resident_bytes: u64,
    /// Open files; zero where `/proc` can't be read.
    pub(super) open_files: u64,
}

/// Reads them now.
pub(super) fn read() -> ProcessReading {
    ProcessReading {
        cpu_seconds: fs::read_to_string("/proc/self/stat").ok().and_then(|text| on_processor(&text)).unwrap_or(0.0),
        resident_bytes: fs::read_to_string("/proc/self/status").ok().and_then(|text| resident(&text)).unwrap_or(0),
        open_files: fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as u64),
    }
}

/// User and system time of a `/proc/<pid>/stat` line, fields 14 and 15 of `proc(5)`, in seconds. The second field may hold
/// anything, the last closing bracket ends it.
fn on_processor(stat: &str) -> Option<f64> {
    let mut fields = stat.get(stat.rfind(')')? + 2..)?.split(' ').skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) as f64 / TICKS_PER_SECOND)
}

/// `VmRSS` of a `/proc/<pid>/status` page, in bytes.
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_though_the_name_is_odd() {
        let line = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0";
        assert_eq!(on_processor(line), Some(3.0));
        assert_eq!(on_processor("7 (a"), None);
    }

    #[test]
    fn memory_is_read_from_the_kernels_page() {
        assert_eq!(resident("Name:\tx\nVmRSS:\t    1234 kB\nThreads:\t1\n"), Some(1_263_616));
        assert_eq!(resident("Name:\tx\n"), None);
        let now = read();
        assert!(now.resident_bytes > 1_000_000 && now.open_files > 2, "{now:?}");
    }
}
