//! Blocks of no bytes, which C's functions give out: addresses that nothing can be read from or written to. A range of
//! them is reserved once, with a bit for each that is out. Where it is used up, or could not be reserved, callers get a
//! block of one byte.

use core::ptr::{self, NonNull};

use crate::base::sync::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use crate::heap::fault;
use crate::vm::sys;

/// Bytes from one block to the next: what C aligns to.
pub(super) const STEP: usize = 16;
const RANGE: usize = 1 << 20;
const WORDS: usize = RANGE / STEP / 64;

static BASE: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());
/// A bit for each block that is out.
static OUT: [AtomicU64; WORDS] = [const { AtomicU64::new(0) }; WORDS];
/// The word to look for a free bit in: the one after the last, so that blocks are not used again soon.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// A block of no bytes, or none when there are too many.
#[cold]
pub(super) fn alloc() -> Option<NonNull<u8>> {
    let base = base()?;
    let first = NEXT.fetch_add(1, Ordering::Relaxed);
    (first..first + WORDS).map(|word| word % WORDS).find_map(|word| {
        let bits = OUT[word].load(Ordering::Relaxed);
        let bit = bits.trailing_ones();
        let is_taken = bit < 64
            && OUT[word]
                .compare_exchange(bits, bits | 1 << bit, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        // SAFETY: the offset is within the range.
        is_taken.then(|| unsafe { base.add((word * 64 + bit as usize) * STEP) })
    })
}

/// Whether the pointer leads into the range.
#[inline]
pub(super) fn holds(block: NonNull<u8>) -> bool {
    let base = BASE.load(Ordering::Relaxed);
    !base.is_null() && block.addr().get().wrapping_sub(base.addr()) < RANGE
}

/// Takes back a block in the range; dies when it is not out.
pub(super) fn free(block: NonNull<u8>) {
    if !is_out(block, |word, mask| word.fetch_and(!mask, Ordering::Relaxed)) {
        fault::die_of_bad_free(block.as_ptr(), true);
    }
}

/// Dies unless the block in the range is out.
pub(super) fn check(block: NonNull<u8>) {
    if !is_out(block, |word, _| word.load(Ordering::Relaxed)) {
        fault::die_of_bad_free(block.as_ptr(), true);
    }
}

fn is_out(block: NonNull<u8>, bits: impl FnOnce(&AtomicU64, u64) -> u64) -> bool {
    let offset = block.addr().get() - BASE.load(Ordering::Relaxed).addr();
    if !offset.is_multiple_of(STEP) {
        fault::die_of_inner_pointer(block.as_ptr());
    }
    let (index, mask) = (offset / STEP, 1 << (offset / STEP % 64));
    bits(&OUT[index / 64], mask) & mask != 0
}

/// The range, reserved by the first call.
fn base() -> Option<NonNull<u8>> {
    let known = NonNull::new(BASE.load(Ordering::Relaxed));
    known.or_else(|| {
        let new = sys::reserve(RANGE).ok()?;
        match BASE.compare_exchange(ptr::null_mut(), new.as_ptr(), Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => Some(new),
            Err(other) => {
                // SAFETY: the range was reserved just now and nobody knows of it.
                let _ = unsafe { sys::unmap(new.as_ptr(), RANGE) };
                NonNull::new(other)
            }
        }
    })
}
