//! What a process has used, from outside.

use std::fs;

use super::Failure;

/// Ticks a second in `/proc/PID/stat`: `USER_HZ`, the same on every Linux.
const TICKS: f64 = 100.0;

/// What a process has used so far.
pub(crate) struct Usage {
    pub(crate) cpu_seconds: f64,
    pub(crate) peak_kib: u64,
}

impl Usage {
    pub(crate) fn of(pid: u32) -> Result<Self, Failure> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let fields = stat.rsplit_once(") ").ok_or("no stat")?.1;
        // User and system time are fields 14 and 15; the state, after the name, is field 3.
        let ticks: f64 = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no peak")?;
        let peak_kib = peak.trim().trim_end_matches(" kB").parse()?;
        Ok(Self { cpu_seconds: ticks / TICKS, peak_kib })
    }
}
