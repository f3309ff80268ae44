//! Unmapping for good, where a refusal has nobody to be told.
//!
//! The kernel refuses to unmap when that would split one of its records and the process has as many as it may
//! (`vm.max_map_count`). The range is given up all the same: its pages go back at once, and the addresses wait here
//! until something else could be unmapped, or memory is given back. A few places are enough: a process in this state
//! merges ranges more often than it splits them. When all are taken the addresses are lost, and nothing else; they stay
//! counted.
//!
//! No lock: a `fork` may come at any time, and in the child nobody would open it. A place is empty (its length 0),
//! [`BUSY`] with the one thread that changed it from empty or full, or full.

use crate::base::sync::{AtomicUsize, Ordering};
use crate::vm::sys;

struct Place {
    base: AtomicUsize,
    len: AtomicUsize,
}

const PLACES: usize = 16;
/// The length of a place that a thread is at. No range is that long.
const BUSY: usize = 1;

static STUCK: [Place; PLACES] =
    [const { Place { base: AtomicUsize::new(0), len: AtomicUsize::new(0) } }; PLACES];

/// Bytes that wait or are lost, for looks at them that cost nothing.
static BYTES: AtomicUsize = AtomicUsize::new(0);

/// Unmaps a range, now or later.
///
/// # Safety
/// The range belongs to the caller, who gives it away.
#[cfg_attr(arenite_faults, track_caller)]
pub(crate) unsafe fn release(base: *mut u8, len: usize) {
    // SAFETY: passed on to the caller.
    unsafe {
        if sys::unmap(base, len).is_ok() {
            if BYTES.load(Ordering::Relaxed) > 0 {
                retry();
            }
            return;
        }
        keep(base, len);
    }
}

/// As [`release`], for a range that was just refused.
///
/// # Safety
/// As for [`release`].
pub(crate) unsafe fn keep(base: *mut u8, len: usize) {
    // SAFETY: passed on to the caller.
    unsafe {
        // Locked pages stay resident, and there is nothing left to try.
        let _ = sys::purge(base, len);
        BYTES.fetch_add(len, Ordering::Relaxed);
        // Acquire: the place's last owner is done with it.
        let take = |place: &&Place| {
            place.len.compare_exchange(0, BUSY, Ordering::Acquire, Ordering::Relaxed).is_ok()
        };
        if let Some(place) = STUCK.iter().find(take) {
            place.base.store(base.expose_provenance(), Ordering::Relaxed);
            // Release: whoever sees the length sees the base.
            place.len.store(len, Ordering::Release);
        }
    }
}

/// Tries once more to unmap what waits; returns how many bytes of addresses that were.
pub(crate) fn retry() -> usize {
    let mut bytes = 0;
    for place in &STUCK {
        let len = place.len.load(Ordering::Relaxed);
        // Acquire: the base is the one that belongs to the length.
        if len <= BUSY || place.len.compare_exchange(len, BUSY, Ordering::Acquire, Ordering::Relaxed).is_err()
        {
            continue;
        }
        let base = core::ptr::with_exposed_provenance_mut(place.base.load(Ordering::Relaxed));
        // SAFETY: the range was given away to this module, and whoever changed its place to busy has it alone.
        let is_unmapped = unsafe { sys::unmap(base, len) }.is_ok();
        if is_unmapped {
            BYTES.fetch_sub(len, Ordering::Relaxed);
            bytes += len;
        }
        // Release: the next owner of the place comes after this one.
        place.len.store(if is_unmapped { 0 } else { len }, Ordering::Release);
    }
    bytes
}

/// Bytes of addresses that wait or are lost.
pub(crate) fn stuck_bytes() -> usize {
    BYTES.load(Ordering::Relaxed)
}
