//! Huge blocks when hardened: mapped to measure, with a guard page behind, which the block ends at as far as its alignment
//! allows. Freed ones give their memory back at once and keep their addresses, without access, until the purger's next
//! round but one.

use core::ptr::{self, NonNull};

use static_assertions::const_assert;

use super::canary;
use crate::base::align;
use crate::base::sync::{AtomicPtr, AtomicUsize, Ordering};
use crate::config::{HUGE_KEPT, PAGE_MIN};
use crate::heap::huge::{self, Header};
use crate::heap::{fault, segments};
use crate::vm::{page_size, sys};

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
        fields.offset += moved;
        fields.asked.store(size, Ordering::Relaxed);
        let block = huge::data(header);
        canary::fill(block.sub(LEAD), LEAD);
        canary::fill(block.add(size), slack - moved);
        block
    }
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
    let start = block.as_ptr();
    // SAFETY: passed on to the caller; the canaries lie in the mapping.
    unsafe {
        let &Header { offset, size, ref asked, .. } = header.as_ref();
        // Of two threads that free it one comes second.
        let asked = asked.swap(0, Ordering::Relaxed);
        if asked == 0 {
            fault::die_of_bad_free(start, true);
        }
        // The pages of the data begin at a page, where the block may have been moved away from.
        let slack = size - offset % page_size() - asked;
        if !canary::is_intact(start.add(asked), slack) {
            fault::die_of_overflow(start);
        }
        if !canary::is_intact(start.sub(LEAD), LEAD) {
            fault::die_of_underflow(start);
        }
        huge::uncount(size);
        close(header);
        let turn = QUARANTINE.turn.fetch_add(1, Ordering::Relaxed) % HUGE_KEPT;
        let oldest = QUARANTINE.places[turn].swap(header.as_ptr(), Ordering::AcqRel);
        if let Some(oldest) = NonNull::new(oldest) {
            huge::unmap(oldest);
        }
    }
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
        segments::uncharge(fields.size);
        (fields.size, fields.dirty) = (0, 0);
    }
}
