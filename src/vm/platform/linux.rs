//! Linux: futexes, `mremap`, named mappings.

use core::ffi::{CStr, c_char};
use core::ptr::{self, NonNull};

use crate::base::sync::AtomicU32;
use crate::vm::errno::Errno;

pub(crate) const MAP_FIXED_NOREPLACE: i32 = libc::MAP_FIXED_NOREPLACE;

/// Sleeps while `*word == expected`, until woken or, if given, `timeout_ms` have passed. May return early.
pub(crate) fn wait(word: &AtomicU32, expected: u32, timeout_ms: Option<u32>) {
    let timeout = timeout_ms
        .map(|ms| libc::timespec { tv_sec: (ms / 1000).into(), tv_nsec: ((ms % 1000) * 1_000_000).into() });
    let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the word and the timeout outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
            expected,
            timeout,
        )
    };
}

/// Wakes one thread that sleeps on `word`.
pub(crate) fn wake_one(word: &AtomicU32) {
    // SAFETY: the word outlives the call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1) };
}

/// Milliseconds of a clock that only goes forward, a few milliseconds coarse; no system call where the vDSO has it.
pub(crate) fn now_ms() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel fills the struct that it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut now) };
    now.tv_sec.unsigned_abs() * 1000 + now.tv_nsec.unsigned_abs() / 1_000_000
}

/// Moves the pages of `from..from + len` onto the reservation at `to`, `to_len` bytes long, replacing it.
///
/// # Safety
/// Both ranges belong to the caller and do not overlap; nothing uses the old one afterwards.
pub(crate) unsafe fn move_pages(
    from: *mut u8,
    len: usize,
    to: NonNull<u8>,
    to_len: usize,
) -> Result<(), Errno> {
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: passed on to the caller.
    let moved = unsafe { libc::mremap(from.cast(), len, to_len, flags, to.as_ptr()) };
    if moved == libc::MAP_FAILED { Err(Errno::last()) } else { Ok(()) }
}

/// Asks for huge pages in the range. A kernel without them refuses, which harms nothing.
///
/// # Safety
/// The range belongs to the caller.
pub(crate) unsafe fn advise_huge_pages(base: *mut u8, len: usize) {
    // SAFETY: passed on; the advice does not change contents.
    let _ = unsafe { super::super::sys::advise(base, len, libc::MADV_HUGEPAGE) };
}

/// Names an anonymous range in `/proc/self/maps` (Linux 5.17 and later).
///
/// # Safety
/// The range belongs to the caller.
pub(crate) unsafe fn name_range(base: *mut u8, len: usize, name: &CStr) -> Result<(), Errno> {
    const PR_SET_VMA: i32 = 0x5356_4d41;
    const PR_SET_VMA_ANON_NAME: usize = 0;
    // SAFETY: the kernel copies the name; the range is the caller's.
    super::super::sys::check(unsafe {
        libc::prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, base.addr(), len, name.as_ptr())
    })
}

/// Whether the process runs with more rights than its caller, whose environment must then not steer it.
pub(crate) fn is_secure_execution() -> bool {
    // SAFETY: any key may be asked for.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Whether the kernel charges memory when it is mapped, touched or not.
pub(crate) fn is_commit_strict() -> bool {
    let mut mode = 0_u8;
    // SAFETY: the path is a C string, and the one byte read goes into `mode`.
    unsafe {
        let file = libc::open(c"/proc/sys/vm/overcommit_memory".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        if file == -1 {
            return false;
        }
        let read = libc::read(file, (&raw mut mode).cast(), 1);
        libc::close(file);
        read == 1 && mode == b'2'
    }
}

/// Names the calling thread.
pub(crate) fn name_this_thread(name: &CStr) {
    // SAFETY: the kernel copies at most 16 bytes up to the NUL.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr().cast::<c_char>()) };
}
