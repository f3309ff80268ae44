//! Resident memory, as the kernel counts it.

use std::fs;

/// Where the kernel says it, in lines such as `VmRSS:      1234 kB`.
const STATUS: &str = "/proc/self/status";
const NOW: &str = "VmRSS:";
const PEAK: &str = "VmHWM:";
/// The kernel writes kB and means 1,024 bytes.
const STATUS_UNIT_BYTES: u64 = 1024;

/// What of this process is in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resident {
    pub(crate) now_bytes: u64,
    /// The most that ever was.
    pub(crate) peak_bytes: u64,
}

impl Resident {
    /// `None` where there is no `/proc`.
    pub(crate) fn read() -> Option<Resident> {
        let status = fs::read_to_string(STATUS).ok()?;
        Some(Resident { now_bytes: bytes(&status, NOW)?, peak_bytes: bytes(&status, PEAK)? })
    }
}

fn bytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let count: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(count * STATUS_UNIT_BYTES)
}
