//! Any other Unix: the same functions by means that every one of them has, or a refusal.

use core::ffi::CStr;
use core::ptr::NonNull;
use std::os::fd::{BorrowedFd, OwnedFd};

use crate::base::sync::{AtomicU32, Ordering};
use crate::vm::advice::{Advice, Discard, ForkAdvice};
use crate::vm::errno::Errno;
use crate::vm::{Processors, first_processors};

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

pub(crate) fn processors() -> Processors {
    // SAFETY: takes a number.
    first_processors(usize::try_from(unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) }).unwrap_or(1))
}

/// There is no common way to ask: threads are spread by where their stacks lie.
pub(crate) fn processor() -> usize {
    let here = 0_u8;
    ((&raw const here).addr() >> 16).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52
}

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
    to: NonNull<u8>,
    to_len: usize,
) -> Result<(), Errno> {
    // SAFETY: passed on to the caller.
    unsafe { crate::vm::release::release(to.as_ptr(), to_len) };
    Err(Errno(libc::ENOSYS))
}

/// # Safety
/// As on Linux; here it does nothing.
pub(crate) unsafe fn advise_huge_pages(_base: *mut u8, _len: usize) {}

/// # Safety
/// As on Linux; here it does nothing.
pub(crate) unsafe fn advise_small_pages(_base: *mut u8, _len: usize) {}

/// # Safety
/// As on Linux; here it always refuses.
pub(crate) unsafe fn name_range(_base: *mut u8, _len: usize, _name: &CStr) -> Result<(), Errno> {
    Err(Errno(libc::ENOSYS))
}

pub(crate) const MAP_NORESERVE: Option<i32> = None;
pub(crate) const MAP_POPULATE: Option<i32> = None;
pub(crate) const MAP_LOCKED: Option<i32> = None;
pub(crate) const MAP_STACK: Option<i32> = None;

pub(crate) fn huge_page_flags(_size: usize) -> Option<i32> {
    None
}

pub(crate) fn default_huge_page_size() -> Result<usize, Errno> {
    Err(Errno(libc::ENOSYS))
}

pub(crate) fn huge_page_size_of(_fd: BorrowedFd<'_>) -> Option<usize> {
    None
}

pub(crate) fn memfd_create(_name: &CStr, _huge_page_size: Option<usize>) -> Result<OwnedFd, Errno> {
    Err(Errno(libc::ENOSYS))
}

pub(crate) fn add_seals(_fd: BorrowedFd<'_>, _bits: i32) -> Result<(), Errno> {
    Err(Errno(libc::ENOSYS))
}

pub(crate) fn seals(_fd: BorrowedFd<'_>) -> Result<i32, Errno> {
    Err(Errno(libc::ENOSYS))
}

/// # Safety
/// As on Linux; here it always refuses.
pub(crate) unsafe fn resize_range(
    _base: *mut u8,
    _len: usize,
    _new_len: usize,
    _may_move: bool,
) -> Result<NonNull<u8>, Errno> {
    Err(Errno(libc::ENOSYS))
}

/// # Safety
/// As on Linux; here it always refuses.
pub(crate) unsafe fn residency(_base: *mut u8, _len: usize, _pages: &mut [u8]) -> Result<(), Errno> {
    Err(Errno(libc::ENOSYS))
}

pub(crate) fn advice_number(advice: Advice) -> Option<i32> {
    match advice {
        Advice::Normal => Some(libc::MADV_NORMAL),
        Advice::Random => Some(libc::MADV_RANDOM),
        Advice::Sequential => Some(libc::MADV_SEQUENTIAL),
        Advice::WillNeed => Some(libc::MADV_WILLNEED),
        _ => None,
    }
}

pub(crate) fn discard_number(discard: Discard) -> Option<i32> {
    match discard {
        Discard::DontNeed => Some(libc::MADV_DONTNEED),
        Discard::Free => Some(libc::MADV_FREE),
        _ => None,
    }
}

/// No advice is sure to zero: elsewhere `MADV_DONTNEED` may keep what was there.
pub(crate) const ZEROING_ADVICE: Option<i32> = None;

pub(crate) fn fork_advice_number(_advice: ForkAdvice) -> Option<i32> {
    None
}

pub(crate) const GUARD_ADVICE: Option<i32> = None;
pub(crate) const UNGUARD_ADVICE: Option<i32> = None;

pub(crate) fn is_secure_execution() -> bool {
    // SAFETY: the four calls only report.
    unsafe { libc::getuid() != libc::geteuid() || libc::getgid() != libc::getegid() }
}

/// Unknown here, so memory that is mapped is taken to cost nothing.
pub(crate) fn is_commit_strict() -> bool {
    false
}

pub(crate) fn set_errno(errno: Errno) {
    #[cfg(any(target_os = "openbsd", target_os = "netbsd"))]
    use libc::__errno as place;
    #[cfg(any(target_os = "linux", target_os = "dragonfly"))]
    use libc::__errno_location as place;
    #[cfg(any(target_os = "macos", target_os = "ios", target_os = "freebsd"))]
    use libc::__error as place;
    // SAFETY: the C library gives the place of the calling thread's errno, which is always there.
    unsafe { *place() = errno.0 };
}

pub(crate) fn write_error(text: &[u8]) {
    // SAFETY: the pointer and the length are of one slice.
    let _ = unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
}

pub(crate) fn name_this_thread(_name: &CStr) {}

/// Sixteen bytes that nobody can guess.
pub(crate) fn random() -> [u64; 2] {
    let mut words = [now_ms(), 0];
    // SAFETY: the buffer is this long. A refusal leaves it as it was.
    unsafe { libc::getentropy(words.as_mut_ptr().cast(), size_of_val(&words)) };
    words
}
