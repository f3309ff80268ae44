//! Ranges without access: guards around blocks, and freed blocks that shall not be touched.
//!
//! Linux 6.13 marks pages as guards without making a mapping of them (`MADV_GUARD_INSTALL`). Elsewhere `mprotect` does it,
//! and the mapping that it splits may never be whole again, because the kernel does not join parts that were touched one
//! by one: so it is asked so many times in the life of a process, and no more. Blocks beyond that have canaries only.

use crate::base::sync::{AtomicBool, AtomicUsize, Ordering};
use crate::config::GUARDED_MAX;
use crate::vm::{page_size, platform, sys};

/// How many times `mprotect` took access away.
static PROTECTED: AtomicUsize = AtomicUsize::new(0);

/// Whether the kernel has made a guard by advice. Only ever set, before the block with the guard is handed out, so whoever
/// frees it sees it.
static IS_ADVISED: AtomicBool = AtomicBool::new(false);

/// Takes access to a range away. False when the kernel refuses, or was asked too often.
///
/// # Safety
/// The range, whole pages of committed memory, is the caller's, and nothing in it is needed: it may be lost or not.
pub(super) unsafe fn install(start: *mut u8, len: usize) -> bool {
    invariant!(start.addr().is_multiple_of(page_size()) && len.is_multiple_of(page_size()));
    // SAFETY: passed on to the caller.
    unsafe {
        if platform::GUARD_ADVICE.is_some_and(|advice| sys::advise(start, len, advice).is_ok()) {
            IS_ADVISED.store(true, Ordering::Relaxed);
            return true;
        }
        PROTECTED.fetch_add(1, Ordering::Relaxed) < GUARDED_MAX
            && sys::purge(start, len).is_ok()
            && sys::protect(start, len, libc::PROT_NONE).is_ok()
    }
}

/// Gives access back; what was lost reads as zero. False when the kernel refuses.
///
/// # Safety
/// As for [`install`].
pub(super) unsafe fn remove(start: *mut u8, len: usize) -> bool {
    // Both, where both were used: which of the two made a guard is not remembered.
    // SAFETY: passed on to the caller.
    unsafe {
        if IS_ADVISED.load(Ordering::Relaxed)
            && platform::UNGUARD_ADVICE.is_none_or(|advice| sys::advise(start, len, advice).is_err())
        {
            return false;
        }
        PROTECTED.load(Ordering::Relaxed) == 0 || sys::commit(start, len).is_ok()
    }
}
