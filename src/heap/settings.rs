//! The options that hold for the process, and the environment that overrules them.

use core::ffi::CStr;

use crate::base::sync::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering};
use crate::config::{HugePages, Options};
use crate::vm::{platform, sys};

/// The options that hold for the process. Written once, before the process counts as started.
#[derive(Debug)]
pub(crate) struct Settings {
    purge_delay_ms: AtomicU32,
    huge_pages: AtomicU8,
    reservation: AtomicUsize,
    memory_limit: AtomicUsize,
    retain: AtomicUsize,
    background_purger: AtomicBool,
    is_commit_strict: AtomicBool,
}

static SETTINGS: Settings = Settings {
    purge_delay_ms: AtomicU32::new(0),
    huge_pages: AtomicU8::new(0),
    reservation: AtomicUsize::new(0),
    memory_limit: AtomicUsize::new(0),
    retain: AtomicUsize::new(0),
    background_purger: AtomicBool::new(false),
    is_commit_strict: AtomicBool::new(false),
};

pub(crate) fn settings() -> &'static Settings {
    &SETTINGS
}

// Relaxed: the settings are written once, before the heap's state is released, and each read stands behind an acquire of
// it.
impl Settings {
    pub(crate) fn purge_delay_ms(&self) -> u32 {
        self.purge_delay_ms.load(Ordering::Relaxed)
    }

    pub(crate) fn huge_pages(&self) -> HugePages {
        match self.huge_pages.load(Ordering::Relaxed) {
            1 => HugePages::Large,
            2 => HugePages::Always,
            _ => HugePages::System,
        }
    }

    pub(crate) fn reservation(&self) -> usize {
        self.reservation.load(Ordering::Relaxed)
    }

    pub(crate) fn memory_limit(&self) -> usize {
        self.memory_limit.load(Ordering::Relaxed)
    }

    pub(crate) fn retain(&self) -> usize {
        self.retain.load(Ordering::Relaxed)
    }

    pub(crate) fn background_purger(&self) -> bool {
        self.background_purger.load(Ordering::Relaxed)
    }

    /// The system charges memory when it is mapped, touched or not (`vm.overcommit_memory=2`).
    pub(crate) fn is_commit_strict(&self) -> bool {
        self.is_commit_strict.load(Ordering::Relaxed)
    }

    /// Called once, by the thread that starts the heap.
    pub(super) fn set(&self, options: &Options) {
        let options = override_from_environment(*options);
        // Under a limit on address space the rest of the process needs most of it.
        let share = sys::address_space_limit().map_or(usize::MAX, |limit| limit / 8);
        self.purge_delay_ms.store(options.purge_delay_ms, Ordering::Relaxed);
        self.huge_pages.store(options.huge_pages as u8, Ordering::Relaxed);
        self.reservation.store(options.reservation.min(share), Ordering::Relaxed);
        self.memory_limit.store(options.memory_limit, Ordering::Relaxed);
        self.retain.store(options.retain, Ordering::Relaxed);
        self.background_purger.store(options.background_purger, Ordering::Relaxed);
        self.is_commit_strict.store(platform::is_commit_strict(), Ordering::Relaxed);
    }
}

fn override_from_environment(mut options: Options) -> Options {
    // A program with more rights than its caller does not let the caller steer it.
    if platform::is_secure_execution() {
        return options;
    }
    if let Some(ms) = number(c"ARENITE_PURGE_DELAY_MS") {
        options.purge_delay_ms = u32::try_from(ms).unwrap_or(u32::MAX);
    }
    if let Some(bytes) = number(c"ARENITE_RESERVATION") {
        options.reservation = bytes;
    }
    if let Some(bytes) = number(c"ARENITE_MEMORY_LIMIT") {
        options.memory_limit = bytes;
    }
    if let Some(bytes) = number(c"ARENITE_RETAIN") {
        options.retain = bytes;
    }
    match sys::variable(c"ARENITE_BACKGROUND_PURGER") {
        None => {}
        Some(b"0") => options.background_purger = false,
        Some(b"1") => options.background_purger = true,
        Some(value) => refuse(c"ARENITE_BACKGROUND_PURGER", value, b"neither 0 nor 1"),
    }
    match sys::variable(c"ARENITE_HUGE_PAGES") {
        None => {}
        Some(b"system") => options.huge_pages = HugePages::System,
        Some(b"large") => options.huge_pages = HugePages::Large,
        Some(b"always") => options.huge_pages = HugePages::Always,
        Some(value) => refuse(c"ARENITE_HUGE_PAGES", value, b"none of system, large, always"),
    }
    options
}

/// A variable's decimal number, with `k`, `m` or `g` behind it for units of 1024, 1024² or 1024³.
fn number(name: &CStr) -> Option<usize> {
    let value = sys::variable(name)?;
    let parsed = parse_number(value);
    if parsed.is_none() {
        refuse(name, value, b"not a number (with k, m or g behind it for KiB, MiB or GiB)");
    }
    parsed
}

fn parse_number(value: &[u8]) -> Option<usize> {
    let (digits, unit) = match value.split_last()? {
        (b'k' | b'K', digits) => (digits, 1 << 10),
        (b'm' | b'M', digits) => (digits, 1 << 20),
        (b'g' | b'G', digits) => (digits, 1 << 30),
        _ => (value, 1),
    };
    if digits.is_empty() {
        return None;
    }
    let add = |sum: usize, digit: &u8| {
        let digit = digit.is_ascii_digit().then(|| usize::from(digit - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    };
    digits.iter().try_fold(0, add)?.checked_mul(unit)
}

fn refuse(name: &CStr, value: &[u8], why: &[u8]) {
    sys::complain(&[b"arenite: ", name.to_bytes(), b"=", value, b" is ", why, b"; ignored\n"]);
}

#[cfg(test)]
mod tests {
    use super::parse_number;

    #[test]
    fn numbers_with_units() {
        assert_eq!(parse_number(b"0"), Some(0));
        assert_eq!(parse_number(b"250"), Some(250));
        assert_eq!(parse_number(b"3k"), Some(3 << 10));
        assert_eq!(parse_number(b"2G"), Some(2 << 30));
        for bad in [&b""[..], b"k", b"-1", b"1.5", b"12q", b"99999999999999999999", b"18446744073709551615k"]
        {
            assert_eq!(parse_number(bad), None);
        }
    }
}
