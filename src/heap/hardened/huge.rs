//! Huge blocks when hardened: mapped to measure, with a guard page behind, which the block ends at as far as its alignment
//! allows. Freed ones give their memory back at once and keep their addresses, without access, until the purger's next
//! round but one.
//!
//! A block that grows or shrinks leaves its addresses like one that is freed: its pages move to another mapping. There it
//! ends before the guard by as much as it takes to begin where in a page it began.

use core::ptr::{self, NonNull};

use static_assertions::const_assert;

use super::canary;
use crate::base::align;
use crate::base::sync::{AtomicPtr, AtomicUsize, Ordering};
use crate::config::{HUGE_KEPT, PAGE_MIN};
use crate::heap::cache::Cache;
use crate::heap::huge::{self, Header};
use crate::heap::huge_mapping::{advise_growing, is_possible, whole_pages};
use crate::heap::{directory, fault, segments};
use crate::vm::release::release;
use crate::vm::{Errno, page_size, platform, sys};

/// Freed blocks.
struct Quarantine {
    /// Their headers, or null. Whoever exchanges one out owns it.
    places: [AtomicPtr<Header>; HUGE_KEPT],
    /// How many came, each into the next place.
    turn: AtomicUsize,
    /// How many had come at the purger's last round.
    seen: AtomicUsize,
}

static QUARANTINE: Quarantine = Quarantine {
    places: [const { AtomicPtr::new(ptr::null_mut()) }; HUGE_KEPT],
    turn: AtomicUsize::new(0),
    seen: AtomicUsize::new(0),
};

/// Bytes of the canary before a block.
const LEAD: usize = 32;

// It may lie at the end of the header's page.
const_assert!(size_of::<Header>() + LEAD <= PAGE_MIN);

/// A block of `size` bytes that reads as zero, or null when out of memory.
pub(super) fn alloc(size: usize, align: usize) -> *mut u8 {
    let Some(header) = huge::map(size, align) else { return ptr::null_mut() };
    // SAFETY: the mapping was made just now, and what is written lies in it: the block is moved within its last page.
    unsafe {
        let fields = &mut *header.as_ptr();
        let slack = fields.size - size;
        let moved = if align < page_size() { align::down(slack, align.max(16)) } else { 0 };
        place(header, moved, size)
    }
}

/// Puts a block of `size` bytes, with canaries around it, `moved` bytes behind the beginning of the header's data.
///
/// # Safety
/// The header is that of a mapping with no block yet, which has the room, and the caller's.
unsafe fn place(header: NonNull<Header>, moved: usize, size: usize) -> *mut u8 {
    // SAFETY: passed on to the caller.
    unsafe {
        let fields = &mut *header.as_ptr();
        fields.offset += moved;
        fields.asked.store(size, Ordering::Relaxed);
        let block = huge::data(header);
        canary::fill(block.sub(LEAD), LEAD);
        canary::fill(block.add(size), fields.size - moved - size);
        block
    }
}

/// How far behind the beginning of its pages the block begins.
///
/// # Safety
/// The header is that of a block, and the caller's.
unsafe fn moved(header: NonNull<Header>) -> usize {
    // The pages of the data begin at a page.
    // SAFETY: passed on to the caller.
    unsafe { (*header.as_ptr()).offset % page_size() }
}

/// Whether `inner` lies in the mapping whose header it leads to.
///
/// # Safety
/// `inner` leads to a header of a huge block.
pub(super) unsafe fn is_in_mapping(inner: NonNull<u8>) -> bool {
    // SAFETY: passed on to the caller.
    let Header { start, mapped, .. } = unsafe { huge::header_of(inner).as_ref() };
    inner.addr().get() - start.addr() < *mapped
}

/// The block that is out behind the header that `inner` leads to, if there is one.
///
/// # Safety
/// `inner` leads to a header of a huge block.
pub(super) unsafe fn block_at(inner: NonNull<u8>) -> Option<NonNull<u8>> {
    let header = huge::header_of(inner);
    // SAFETY: passed on to the caller.
    unsafe {
        let asked = (*header.as_ptr()).asked.load(Ordering::Relaxed);
        if asked == 0 { None } else { NonNull::new(huge::data(header)) }
    }
}

/// How many bytes were asked for of a block that is out: dies of any other.
///
/// # Safety
/// `block` leads to a header of a huge block.
pub(super) unsafe fn size(block: NonNull<u8>) -> usize {
    let header = huge::header_of(block);
    // SAFETY: passed on to the caller.
    unsafe {
        if huge::data(header) != block.as_ptr() {
            fault::die_of_inner_pointer(block.as_ptr());
        }
        match (*header.as_ptr()).asked.load(Ordering::Relaxed) {
            0 => fault::die_of_bad_free(block.as_ptr(), true),
            asked => asked,
        }
    }
}

/// Frees a block that is out: dies of one that was written over.
///
/// # Safety
/// [`size`] was asked of the block, which is the caller's.
pub(super) unsafe fn free(block: NonNull<u8>) {
    let header = huge::header_of(block);
    // SAFETY: passed on to the caller.
    unsafe {
        take(header);
        let size = (*header.as_ptr()).size;
        huge::uncount(size);
        close(header);
        segments::uncharge(size);
        quarantine(header);
    }
}

/// Makes a block that is out one that is not: dies of one that was written over. Returns how many bytes were asked for, and
/// how many lie between them and the guard.
///
/// # Safety
/// As for [`free`].
unsafe fn take(header: NonNull<Header>) -> (usize, usize) {
    // SAFETY: passed on to the caller; the canaries lie in the mapping.
    unsafe {
        let &Header { size, ref asked, .. } = header.as_ref();
        let block = huge::data(header);
        // Of two threads that free it one comes second.
        let asked = asked.swap(0, Ordering::Relaxed);
        if asked == 0 {
            fault::die_of_bad_free(block, true);
        }
        let slack = size - moved(header) - asked;
        if !canary::is_intact(block.add(asked), slack) {
            fault::die_of_overflow(block);
        }
        if !canary::is_intact(block.sub(LEAD), LEAD) {
            fault::die_of_underflow(block);
        }
        (asked, slack)
    }
}

/// Makes a block `size` bytes long in a new mapping, to which its pages move: none is copied or touched, and nobody reaches
/// them by the old addresses. Null, and it is as it was, when that cannot be done.
///
/// # Safety
/// [`size`] was asked of the block, which is the caller's and was allocated with this `align` or a larger one. The calling
/// thread owns the cache.
pub(super) unsafe fn realloc(cache: &Cache, block: NonNull<u8>, size: usize, align: usize) -> *mut u8 {
    let old = huge::header_of(block);
    // SAFETY: passed on to the caller; the new mapping is this function's.
    unsafe {
        let (moved, old_size) = (moved(old), (*old.as_ptr()).size);
        let new_size = size.checked_add(moved).filter(|&len| is_possible(len, align)).and_then(whole_pages);
        let Some(new_size) = new_size else { return ptr::null_mut() };
        // What moves counts already.
        let more = new_size.saturating_sub(old_size);
        let map = || {
            let new = segments::charge(more).then(|| huge::map_charged(new_size, align))?;
            if new.is_none() {
                segments::uncharge(more);
            }
            new
        };
        let Some(new) = cache.retry_after_reclaim(map) else { return ptr::null_mut() };
        // No more than goes there: the kernel may have dropped the rest when it refuses.
        let len = old_size.min(new_size);
        let (from, to) = (block.as_ptr().sub(moved), huge::data(new));
        let (asked, slack) = take(old);
        // Of the two places one is nobody's for an instant, and then another thread's perhaps, or a forked child's: nothing
        // that lies there is to be taken for a part of the block.
        directory::remove(old.as_ptr().cast());
        directory::remove(new.as_ptr().cast());
        // Kernels from 6.17 on move what is in pieces if it gets no longer, and may give up in the middle.
        let is_in_pieces = len == new_size
            && platform::resize_range(from, len, len + page_size(), false) == Err(Errno(libc::EFAULT));
        let is_moved = if is_in_pieces {
            release(to, new_size);
            false
        } else {
            platform::move_pages(from, len, NonNull::new_unchecked(to), new_size).is_ok()
        };
        if !is_moved {
            (*old.as_ptr()).asked.store(asked, Ordering::Relaxed);
            directory::add(old.as_ptr().cast());
            huge::uncount(new_size);
            unmap_around(new, to, new_size);
            segments::uncharge(more);
            return ptr::null_mut();
        }
        let is_reserved = sys::reserve_at(from, len).is_ok();
        directory::add(new.as_ptr().cast());
        // What was the canary.
        let kept = asked.min(size);
        to.add(moved + kept).write_bytes(0, slack.min(size - kept));
        let block = place(new, moved, size);
        advise_growing((*new.as_ptr()).start, (*new.as_ptr()).mapped, old_size, new_size);
        huge::uncount(old_size);
        segments::uncharge(old_size.saturating_sub(new_size));
        // Another thread may have been faster.
        if is_reserved {
            directory::add(old.as_ptr().cast());
            close(old);
            quarantine(old);
        } else {
            unmap_around(old, from, len);
        }
        block
    }
}

/// Keeps the addresses of a block from being used again for a while.
///
/// # Safety
/// The block is closed, and the caller's, who gives it away.
unsafe fn quarantine(header: NonNull<Header>) {
    let turn = QUARANTINE.turn.fetch_add(1, Ordering::Relaxed) % HUGE_KEPT;
    let oldest = QUARANTINE.places[turn].swap(header.as_ptr(), Ordering::AcqRel);
    if let Some(oldest) = NonNull::new(oldest) {
        // SAFETY: whoever exchanged it out of its place owns it.
        unsafe { huge::unmap(oldest) };
    }
}

/// Unmaps a block but for the range of its mapping, behind the header and before the guard, that is not its own any more.
///
/// # Safety
/// The block is the caller's, who is done with it, and the directory does not know it.
unsafe fn unmap_around(header: NonNull<Header>, hole: *mut u8, len: usize) {
    // SAFETY: passed on to the caller.
    let &Header { start, mapped, .. } = unsafe { header.as_ref() };
    let behind = hole.wrapping_add(len);
    // SAFETY: both parts are the block's.
    unsafe {
        release(start, hole.addr() - start.addr());
        release(behind, start.addr() + mapped - behind.addr());
    }
    huge::remap_counts(mapped, 0);
}

/// Unmaps what is in quarantine, unless something came since the last call and not `all` shall go. Returns how many bytes
/// that gave back, which is none, and whether something remains.
pub(crate) fn flush(all: bool) -> (usize, bool) {
    let turn = QUARANTINE.turn.load(Ordering::Relaxed);
    if QUARANTINE.seen.swap(turn, Ordering::Relaxed) != turn && !all {
        return (0, true);
    }
    for place in &QUARANTINE.places {
        if let Some(header) = NonNull::new(place.swap(ptr::null_mut(), Ordering::AcqRel)) {
            // SAFETY: whoever exchanged it out of its place owns it.
            unsafe { huge::unmap(header) };
        }
    }
    (0, false)
}

/// Gives back the memory of a block that was freed, and takes away access.
///
/// # Safety
/// The block is the caller's, who is done with it.
unsafe fn close(header: NonNull<Header>) {
    // SAFETY: passed on to the caller. Refusals leave it readable: it is unmapped soon.
    unsafe {
        let fields = &mut *header.as_ptr();
        let start = huge::data(header).map_addr(|addr| align::down(addr, page_size()));
        let _ = sys::purge(start, fields.size);
        let _ = sys::protect(start, fields.size, libc::PROT_NONE);
        (fields.size, fields.dirty) = (0, 0);
    }
}
