//! Which multiples of a segment in the address space hold a header of ours: one bit each. So a pointer that came from
//! outside is looked up before anything is read through it.
//!
//! The bits lie in the program's zeroed data, half a mebibyte of it, of which the pages that were written are
//! resident: each of them covers 1 TiB of addresses. A bit is set before the first block of its segment is handed out,
//! and cleared before the header is unmapped, by whoever owns the header then.

use core::ptr::NonNull;

use static_assertions::const_assert;

use crate::base::sync::{AtomicU64, Ordering};
use crate::config::SEGMENT;

/// Bits of an address that the kernel may give out without being asked for more by a hint.
pub(super) const ADDRESS_BITS: u32 = if cfg!(target_arch = "x86_64") { 47 } else { 48 };

const WORDS: usize = (1 << ADDRESS_BITS) / SEGMENT / 64;

static HEADERS: [AtomicU64; WORDS] = [const { AtomicU64::new(0) }; WORDS];

const_assert!(WORDS * size_of::<u64>() <= 1 << 20);

/// The word and the bit of the header that a block at `addr` would have.
#[inline(always)]
fn place(addr: usize) -> (usize, u32) {
    // The same byte less as in `Segment::of`.
    let segment = (addr - 1) / SEGMENT;
    (segment / 64, (segment % 64) as u32)
}

/// Whether the header that `Segment::of` finds for the pointer is one of ours and mapped.
#[inline(always)]
pub(crate) fn holds(ptr: NonNull<u8>) -> bool {
    let (word, bit) = place(ptr.addr().get());
    // Relaxed: whoever has a block has synchronised with its allocation, and the bit was set before that.
    HEADERS.get(word).is_some_and(|word| word.load(Ordering::Relaxed) >> bit & 1 == 1)
}

/// Notes that a header is mapped at `header`, a multiple of a segment.
pub(crate) fn add(header: *mut u8) {
    let (word, bit) = place(header.addr() + 1);
    invariant!(word < WORDS);
    if let Some(word) = HEADERS.get(word) {
        let before = word.fetch_or(1 << bit, Ordering::Relaxed);
        invariant!(before >> bit & 1 == 0);
    }
}

/// Notes that the header at `header` is about to go.
pub(crate) fn remove(header: *mut u8) {
    let (word, bit) = place(header.addr() + 1);
    if let Some(word) = HEADERS.get(word) {
        let before = word.fetch_and(!(1 << bit), Ordering::Relaxed);
        invariant!(before >> bit & 1 == 1);
    }
}

#[cfg(test)]
mod tests {
    use core::ptr;

    use super::*;

    /// Would catch a bit that stands for a neighbour's segment, and addresses beyond the table.
    #[test]
    fn each_segment_has_its_bit() {
        let header = ptr::without_provenance_mut::<u8>((3 << 40) + SEGMENT);
        let at = |offset: isize| NonNull::new(header.wrapping_offset(offset)).expect("no null near it");
        assert!(!holds(at(1)));
        add(header);
        // A block that begins at the next multiple has its header here.
        assert!(holds(at(1)) && holds(at(SEGMENT as isize)));
        assert!(!holds(at(0)) && !holds(at(SEGMENT as isize + 1)));
        remove(header);
        assert!(!holds(at(1)));
        for wild in [1, SEGMENT, 1 << 47, 0xdead_beef_dead_beef, usize::MAX] {
            assert!(!holds(NonNull::new(ptr::without_provenance_mut(wild)).expect("not null")), "{wild:#x}");
        }
    }
}
