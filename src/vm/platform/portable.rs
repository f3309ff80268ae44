//! Any other Unix: the same functions by means that every one of them has, or a refusal.

use core::ffi::CStr;
use core::ptr::NonNull;

use crate::base::sync::{AtomicU32, Ordering};
use crate::vm::errno::Errno;

/// Without a flag for it an address is a hint, and the caller looks at what it got.
pub(crate) const MAP_FIXED_NOREPLACE: i32 = 0;

pub(crate) fn wait(word: &AtomicU32, expected: u32, timeout_ms: Option<u32>) {
    if word.load(Ordering::Relaxed) != expected {
        return;
    }
    match timeout_ms {
        // SAFETY: both calls take plain numbers.
        Some(ms) => unsafe { _ = libc::usleep(ms.min(900) * 1000) },
        // SAFETY: as above.
        None => unsafe { _ = libc::usleep(100) },
    }
}

pub(crate) fn wake_one(_word: &AtomicU32) {}

pub(crate) fn now_ms() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel fills the struct that it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec.unsigned_abs() * 1000 + now.tv_nsec.unsigned_abs() / 1_000_000
}

/// # Safety
/// As on Linux; here it always refuses, and the caller copies.
pub(crate) unsafe fn move_pages(
    _from: *mut u8,
    _len: usize,
    _to: NonNull<u8>,
    _to_len: usize,
) -> Result<(), Errno> {
    Err(Errno(libc::ENOSYS))
}

/// # Safety
/// As on Linux; here it does nothing.
pub(crate) unsafe fn advise_huge_pages(_base: *mut u8, _len: usize) {}

/// # Safety
/// As on Linux; here it always refuses.
pub(crate) unsafe fn name_range(_base: *mut u8, _len: usize, _name: &CStr) -> Result<(), Errno> {
    Err(Errno(libc::ENOSYS))
}

pub(crate) fn is_secure_execution() -> bool {
    // SAFETY: the four calls only report.
    unsafe { libc::getuid() != libc::geteuid() || libc::getgid() != libc::getegid() }
}

/// Unknown here, so memory that is mapped is taken to cost nothing.
pub(crate) fn is_commit_strict() -> bool {
    false
}

pub(crate) fn name_this_thread(_name: &CStr) {}
