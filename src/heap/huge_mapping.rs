//! Mappings for huge blocks: how long they are, and where in them the header goes. Addresses only: the header itself is
//! [`super::huge`]'s.

use crate::base::align;
use crate::config::{HARDENED, HUGE_PAGES_FROM, HugePages, SEGMENT};
use crate::heap::directory::ADDRESS_BITS;
use crate::heap::settings::settings;
use crate::vm::release::release;
use crate::vm::{page_size, platform, sys};

/// Whether mappings are made to measure: what is mapped and not touched counts for something.
pub(super) fn is_scarce() -> bool {
    settings().is_commit_strict() || sys::address_space_limit().is_some() || sys::data_limit().is_some()
}

/// No address space is larger.
const LARGEST: usize = 1 << ADDRESS_BITS;

/// Whether a block of this layout may exist. What is impossible does not send the heap looking for memory to give back: who
/// chooses a length shall not choose when others lose what is kept for them.
pub(super) fn is_possible(size: usize, align: usize) -> bool {
    align <= LARGEST && whole_pages(size).is_some_and(|len| len <= settings().memory_limit())
}

/// How many bytes of whole pages a block of `size` has; none where no address space is so large.
pub(super) fn whole_pages(size: usize) -> Option<usize> {
    align::checked_up(size, page_size()).filter(|len| *len <= LARGEST)
}

/// How long a mapping for `len` bytes of data at `offset` should be, room included; none where that overflows.
pub(super) fn roomy(offset: usize, len: usize) -> Option<usize> {
    len.checked_mul(2)?.checked_add(offset)
}

/// Maps `total` bytes or more from a header on, which lies at a multiple of a segment and `offset` bytes before a multiple
/// of `align`. Returns the mapping and the header.
pub(super) fn map_aligned(total: usize, offset: usize, align: usize) -> Option<(*mut u8, usize, *mut u8)> {
    let align = align.max(SEGMENT);
    let len = total.checked_add(align)?;
    let start = sys::map_zeroed(len).ok()?.as_ptr();
    Some((start, len, header_in(start, offset, align)?))
}

/// The same to measure: a page more than `total` is neither charged nor kept from others.
pub(super) fn map_aligned_to_measure(
    total: usize,
    offset: usize,
    align: usize,
) -> Option<(*mut u8, usize, *mut u8)> {
    let align = align.max(SEGMENT);
    // A page without access, which is part of the mapping, and the rest of the header's last segment too: nobody who asks
    // whether it is written over may come to a header that another thread unmaps. Where addresses are short, that is left out.
    let guard = if HARDENED { page_size() } else { 0 };
    let room = if HARDENED && !is_scarce() { SEGMENT } else { 0 };
    let reserved = total.checked_add(guard)?.checked_add(align)?.checked_add(room)?;
    let start = sys::reserve(reserved).ok()?.as_ptr();
    let header = header_in(start, offset, align)?;
    let before = header.addr() - start.addr();
    let guard = if room > 0 { align::up(total + guard, SEGMENT) - total } else { guard };
    let behind = reserved - before - total - guard;
    // SAFETY: all three parts lie in the reservation, which is this function's.
    unsafe {
        if before > 0 {
            release(start, before);
        }
        if behind > 0 {
            release(header.add(total + guard), behind);
        }
        if sys::commit(header, total).is_err() {
            release(header, total + guard);
            return None;
        }
    }
    Some((header, total + guard, header))
}

/// Where the header goes in a mapping that is longer than needed by `align`.
fn header_in(start: *mut u8, offset: usize, align: usize) -> Option<*mut u8> {
    // For alignments of a segment and more it is the data that must be aligned, and the header a segment before them.
    let lead = if offset == SEGMENT { SEGMENT } else { 0 };
    let aligned = align::checked_up(start.addr().checked_add(lead)?, align)?;
    Some(start.with_addr(aligned - lead))
}

/// Asks for huge pages in a block's mapping when the block grows from `old` to `new` bytes, for which they are wanted: what
/// grows was full, so it will be again.
///
/// # Safety
/// The mapping is the caller's.
pub(super) unsafe fn advise_growing(start: *mut u8, mapped: usize, old: usize, new: usize) {
    let is_wanted = old < HUGE_PAGES_FROM && HUGE_PAGES_FROM <= new;
    if is_wanted && settings().huge_pages() == HugePages::Large {
        // The whole of it, so that it stays one mapping to the kernel and can be moved by one call.
        // SAFETY: passed on to the caller.
        unsafe { platform::advise_huge_pages(start, mapped) };
    }
}
