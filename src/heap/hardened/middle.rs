//! Middle blocks when hardened: each ends at a guard page, as far as its alignment allows, and begins behind another.
//!
//! ```text
//!  run of granules
//!  | guard page | unused | canary | asked bytes | canary: below the alignment | guard page, to the run's end |
//! ```
//!
//! A freed block lies on its shelf until another of its class was freed too. Those up to a bound are cleared, and looked
//! at before they are used again; larger ones lose their pages at once, and what touches them faults.

use core::ptr::{self, NonNull};

use super::{canary, guard};
use crate::base::align;
use crate::base::sync::{AtomicUsize, Ordering};
use crate::config::{GRANULE, QUARANTINE_CLEARED};
use crate::heap::segment::{Placed, Run, Segment};
use crate::heap::settings::settings;
use crate::heap::size_class::SizeClass;
use crate::heap::{fault, middle};
use crate::vm::page_size;

/// The least alignment of a block: C's. What is asked for ends at most this far before the guard.
const ALIGN: usize = 16;

/// Bytes of the canary before a block, where there is room.
const LEAD: usize = 32;

/// Bytes that a class must have for a block, its guards included.
pub(super) fn padded(size: usize, align: usize) -> usize {
    size.saturating_add(2 * page_size() + align.max(ALIGN))
}

/// Where the guard behind a run's block begins.
fn end(base: *mut u8, class: SizeClass) -> *mut u8 {
    base.wrapping_add(align::up(class.size(), page_size()) - page_size())
}

/// A block of `size` bytes that reads as zero, or null when out of memory.
pub(super) fn alloc(class: SizeClass, size: usize, align: usize) -> *mut u8 {
    // SAFETY: the run is this function's.
    let base = match unsafe { reused(class).or_else(|| fresh(class)) } {
        Some(base) => base.as_ptr(),
        None => return ptr::null_mut(),
    };
    let end = end(base, class);
    let block = end.map_addr(|end| align::down(end - size, align.max(ALIGN)));
    // SAFETY: the block and the bytes around it, up to the guards, are this function's.
    unsafe {
        let lead = lead(base, block);
        canary::fill(block.sub(lead), lead);
        canary::fill(block.add(size), end.addr() - block.addr() - size);
        let placed = Segment::placed_at(base);
        placed.size.store(size, Ordering::Relaxed);
        placed.block.store(block.addr(), Ordering::Relaxed);
    }
    block
}

/// Bytes of the canary before `block`.
fn lead(base: *mut u8, block: *mut u8) -> usize {
    (block.addr() - base.addr() - page_size()).min(LEAD)
}

/// What lies between the guards of a run, and how long it is.
fn inner(base: *mut u8, class: SizeClass) -> (*mut u8, usize) {
    let start = base.wrapping_add(page_size());
    (start, end(base, class).addr() - start.addr())
}

/// A run from the shelf: zero, with guards.
///
/// # Safety
/// Nothing but what taking a run asks for.
unsafe fn reused(class: SizeClass) -> Option<NonNull<u8>> {
    let base = middle::take_from_quarantine(class)?;
    let (start, len) = inner(base.as_ptr(), class);
    // SAFETY: the run is this function's.
    unsafe {
        if !Segment::placed_at(base.as_ptr()).is_closed.load(Ordering::Relaxed) {
            expect_zero(base.as_ptr(), class);
        } else if !guard::remove(start, len) {
            middle::free(class, base);
            return None;
        }
    }
    Some(base)
}

/// A run from a segment: zero, with guards.
///
/// # Safety
/// Nothing but what taking a run asks for.
unsafe fn fresh(class: SizeClass) -> Option<NonNull<u8>> {
    let base = middle::take_run(class)?.base();
    // SAFETY: the run is this function's.
    unsafe {
        Segment::placed_at(base).freed.store(0, Ordering::Relaxed);
        // A page each: what else the run has keeps its memory for whoever gets it next. Refusals leave canaries.
        let _ = guard::install(base, page_size());
        let _ = guard::install(end(base, class), page_size());
    }
    NonNull::new(base)
}

/// The bytes of the run at `base` that the block which was freed last had, its canaries included: from the base, and how
/// many.
///
/// # Safety
/// A run of `class` begins at `base` that is the caller's, and a block of it was freed.
unsafe fn cleared(base: *mut u8, class: SizeClass) -> (usize, usize) {
    // SAFETY: passed on to the caller.
    let block = unsafe { Segment::placed_at(base) }.freed.load(Ordering::Relaxed);
    let block = base.with_addr(block);
    let start = block.addr() - lead(base, block) - base.addr();
    (start, end(base, class).addr() - base.addr() - start)
}

/// Dies unless what a freed block had is as it was left: zero.
///
/// # Safety
/// As for [`cleared`], and it was.
unsafe fn expect_zero(base: *mut u8, class: SizeClass) {
    // SAFETY: passed on to the caller.
    let bytes = unsafe {
        let (start, len) = cleared(base, class);
        core::slice::from_raw_parts(base.add(start), len)
    };
    if !canary::is_zero_throughout(bytes)
        && let Some(written) = bytes.iter().find(|byte| **byte != 0)
    {
        fault::die_of_write_after_free(ptr::from_ref(written).cast_mut());
    }
}

/// What is known about the block at `block`, which must be one that is out, and its run's beginning.
///
/// # Safety
/// `block` is an address in a run of a middle class.
unsafe fn find<'a>(block: NonNull<u8>) -> (*mut u8, &'a Placed) {
    let base = Segment::start_of_run(block);
    // SAFETY: the run's header is mapped.
    let placed = unsafe { Segment::placed_at(base) };
    if placed.block.load(Ordering::Relaxed) != block.addr().get() {
        if placed.freed.load(Ordering::Relaxed) == block.addr().get() {
            fault::die_of_bad_free(block.as_ptr(), true);
        }
        fault::die_of_inner_pointer(block.as_ptr());
    }
    (base, placed)
}

/// The block that is out in the run at `base`, if there is one.
///
/// # Safety
/// A run of a middle class begins at `base`.
pub(super) unsafe fn block_in(base: *mut u8) -> Option<NonNull<u8>> {
    // SAFETY: passed on to the caller.
    let block = unsafe { Segment::placed_at(base) }.block.load(Ordering::Relaxed);
    (block != 0).then(|| NonNull::new(base.with_addr(block))).flatten()
}

/// How many bytes were asked for of a block that is out: dies of any other.
///
/// # Safety
/// `block` is an address in a run of a middle class.
pub(super) unsafe fn size(block: NonNull<u8>) -> usize {
    // SAFETY: passed on to the caller.
    unsafe { find(block) }.1.size.load(Ordering::Relaxed)
}

/// Frees a block that is out: dies of any other, and of one that was written over.
///
/// # Safety
/// `block` is an address in a run of `class`, and the caller's.
pub(super) unsafe fn free(class: SizeClass, block: NonNull<u8>) {
    // SAFETY: passed on to the caller; what is looked at and cleared lies between the guards.
    unsafe {
        let (base, placed) = find(block);
        let size = placed.size.load(Ordering::Relaxed);
        let end = end(base, class);
        let block = block.as_ptr();
        let lead = lead(base, block);
        if !canary::is_intact(block.add(size), end.addr() - block.addr() - size) {
            fault::die_of_overflow(block);
        }
        if !canary::is_intact(block.sub(lead), lead) {
            fault::die_of_underflow(block);
        }
        // An exchange: of two threads that free it at once, one is told.
        if placed.block.swap(0, Ordering::Relaxed) == 0 {
            fault::die_of_bad_free(block, true);
        }
        placed.freed.store(block.addr(), Ordering::Relaxed);
        let (start, _) = inner(base, class);
        // Without a purger nobody ages what lies on the shelf.
        let cleared =
            if settings().background_purger() { QUARANTINE_CLEARED } else { QUARANTINE_CLEARED / 8 };
        // Up to the run's end, so that nothing of it holds data.
        let is_closed = size > cleared && guard::install(start, class.granules() * GRANULE - page_size());
        placed.is_closed.store(is_closed, Ordering::Relaxed);
        if !is_closed {
            block.sub(lead).write_bytes(0, end.addr() - block.addr() + lead);
        }
        if let Some(base) = NonNull::new(base) {
            middle::free(class, base);
        }
    }
}

/// Makes a run that goes home readable and writable throughout, and says which of its pages may hold data; false when
/// that is refused. Dies when the block that was freed last was written to.
///
/// # Safety
/// The run is the caller's, and a block of `class` that is on its shelf.
pub(crate) unsafe fn release(run: Run, class: SizeClass) -> bool {
    // SAFETY: passed on to the caller.
    unsafe {
        if Segment::placed_at(run.base()).is_closed.load(Ordering::Relaxed) {
            run.mark_clean();
        } else {
            expect_zero(run.base(), class);
            let (start, len) = cleared(run.base(), class);
            run.mark_dirty(start, len);
        }
        guard::remove(run.base(), run.len())
    }
}

/// The runs that could not be made accessible again, as a list: where the size was is the next one's address.
static KEPT: AtomicUsize = AtomicUsize::new(0);

/// Keeps a run that [`release`] was refused for.
///
/// # Safety
/// A run of a middle class, with no block out, begins at `base`, and is the caller's, who gives it away.
pub(crate) unsafe fn keep(base: *mut u8) {
    // SAFETY: passed on to the caller.
    let next = unsafe { &Segment::placed_at(base).size };
    let mut first = KEPT.load(Ordering::Relaxed);
    loop {
        next.store(first, Ordering::Relaxed);
        // Release: who takes the list sees where it leads to.
        match KEPT.compare_exchange_weak(
            first,
            base.expose_provenance(),
            Ordering::Release,
            Ordering::Relaxed,
        ) {
            Ok(_) => return,
            Err(other) => first = other,
        }
    }
}

/// Takes all runs that are kept: they are the caller's again.
pub(crate) fn take_kept() -> impl Iterator<Item = NonNull<u8>> {
    let mut next = KEPT.swap(0, Ordering::Acquire);
    core::iter::from_fn(move || {
        let base = NonNull::new(ptr::with_exposed_provenance_mut(next))?;
        // SAFETY: a run that is kept begins there.
        next = unsafe { Segment::placed_at(base.as_ptr()) }.size.load(Ordering::Relaxed);
        Some(base)
    })
}
