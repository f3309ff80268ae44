//! Huge blocks when hardened: mapped to measure, with a guard page behind, which the block ends at as far as its alignment
//! allows. Freed ones give their memory back at once and keep their addresses, without access, until the purger's next
//! round but one.

use core::ptr::NonNull;

use static_assertions::const_assert;

use super::canary;
use crate::base::align;
use crate::config::PAGE_MIN;
use crate::heap::huge::{self, Header};
use crate::heap::{fault, segments};
use crate::vm::{page_size, sys};

/// Bytes of the canary before a block.
const LEAD: usize = 32;

// It may lie at the end of the header's page.
const_assert!(size_of::<Header>() + LEAD <= PAGE_MIN);

/// A block of `size` bytes that reads as zero, or null when out of memory.
pub(super) fn alloc(size: usize, align: usize) -> *mut u8 {
    let Some(header) = huge::map(size, align) else { return core::ptr::null_mut() };
    // SAFETY: the mapping was made just now, and what is written lies in it: the block is moved within its last page.
    unsafe {
        let fields = &mut *header.as_ptr();
        let slack = fields.size - size;
        let moved = if align < page_size() { align::down(slack, align.max(16)) } else { 0 };
        fields.offset += moved;
        fields.asked = size;
        let block = huge::data(header);
        canary::fill(block.sub(LEAD), LEAD);
        canary::fill(block.add(size), slack - moved);
        block
    }
}

/// The block that is out behind the header that `inner` leads to, if there is one.
///
/// # Safety
/// `inner` leads to a header of a huge block.
pub(super) unsafe fn block_at(inner: NonNull<u8>) -> Option<NonNull<u8>> {
    let header = huge::header_of(inner);
    // SAFETY: passed on to the caller.
    unsafe { if (*header.as_ptr()).asked == 0 { None } else { NonNull::new(huge::data(header)) } }
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
        match (*header.as_ptr()).asked {
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
        let Header { offset, size, asked, .. } = *header.as_ptr();
        // The pages of the data begin at a page, where the block may have been moved away from.
        let slack = size - offset % page_size() - asked;
        if !canary::is_intact(start.add(asked), slack) {
            fault::die_of_overflow(start);
        }
        if !canary::is_intact(start.sub(LEAD), LEAD) {
            fault::die_of_underflow(start);
        }
        (*header.as_ptr()).asked = 0;
        huge::free(block);
    }
}

/// Gives back the memory of a block that is being freed, and takes away access.
///
/// # Safety
/// The block is the caller's, who is done with it.
pub(crate) unsafe fn close(header: NonNull<Header>) {
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
