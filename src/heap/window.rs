//! Which small class the blocks at an address are of, for a part of the address space: one byte for each granule. So a
//! free that has a pointer only learns from one load where the block goes, and reads nothing through the pointer.
//!
//! The window lies around the first segment. The kernel puts each mapping below the last, so most of it lies below.
//! What is outside, and what is no small block, says nothing here: for these [`super::directory`] and the segments'
//! headers are asked, which know everything. The bytes lie in the program's zeroed data, a mebibyte of it, of which the
//! pages that were written are resident: each covers 256 MiB of addresses. Less than a huge page, or the kernel might
//! make one of it.

#[cfg(all(target_arch = "x86_64", not(arenite_portable)))]
use core::mem::offset_of;
use core::ptr::NonNull;

use static_assertions::const_assert;

use crate::base::sync::{AtomicU8, AtomicUsize, Ordering};
use crate::config::{GRANULE, HUGE_PAGE};
use crate::heap::size_class::SizeClass;

/// Addresses that the window covers, in bytes, and those of them that lie below the first segment.
const SPAN: usize = 64 << 30;
const BELOW: usize = 48 << 30;

const GRANULES: usize = SPAN / GRANULE;

/// One object, so that one address serves for both.
#[repr(C)]
struct Window {
    /// The first granule, counted from the address zero. Zero until the first segment is there, and then for ever the
    /// same: written by whoever holds the lock of the segments, before any byte behind it is.
    first: AtomicUsize,
    /// 0, or a small class's index + 1. Written by the owner of the granule's run.
    kinds: [AtomicU8; GRANULES],
}

static WINDOW: Window = Window { first: AtomicUsize::new(0), kinds: [const { AtomicU8::new(0) }; GRANULES] };

const_assert!(SizeClass::SMALL < u8::MAX as usize);
const_assert!(size_of::<Window>() < HUGE_PAGE);

/// Opens the window around the first segment, which begins at `base`; later calls do nothing.
pub(crate) fn open(base: NonNull<u8>) {
    if WINDOW.first.load(Ordering::Relaxed) == 0 {
        WINDOW.first.store((base.addr().get().saturating_sub(BELOW) / GRANULE).max(1), Ordering::Relaxed);
    }
}

/// The index + 1 of the class of the small block at an address; zero where there is none; none where the window does not
/// reach.
///
/// Relaxed: whoever has a block has synchronised with its allocation, and what is read here was written before that.
#[cfg(any(not(target_arch = "x86_64"), arenite_portable))]
#[inline(always)]
pub(crate) fn kind_at(addr: usize) -> Option<usize> {
    place(addr / GRANULE).map(|place| usize::from(place.load(Ordering::Relaxed)))
}

/// The same with the two loads spelt out: the compiler puts an atomic load into an instruction of its own, extends a byte
/// by another, and would load the window's address twice.
#[cfg(all(target_arch = "x86_64", not(arenite_portable)))]
#[inline(always)]
pub(crate) fn kind_at(addr: usize) -> Option<usize> {
    let mut place = addr / GRANULE;
    let mut window = &raw const WINDOW;
    // SAFETY: reads `first`, which is where the window begins, as a relaxed load does.
    unsafe {
        core::arch::asm!(
            "sub {place}, qword ptr [{window} + {first}]",
            place = inout(reg) place,
            window = inout(reg) window,
            first = const offset_of!(Window, first),
            options(pure, readonly, nostack),
        );
    }
    if place >= GRANULES {
        return None;
    }
    let kind: usize;
    // SAFETY: reads one of the window's bytes as a relaxed load does.
    unsafe {
        core::arch::asm!(
            "movzx {kind:e}, byte ptr [{window} + {place} + {kinds}]",
            kind = lateout(reg) kind,
            window = in(reg) window,
            place = in(reg) place,
            kinds = const offset_of!(Window, kinds),
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    Some(kind)
}

/// Where the kind of a granule stands, which is counted from the address zero.
#[inline(always)]
fn place(granule: usize) -> Option<&'static AtomicU8> {
    WINDOW.kinds.get(granule.wrapping_sub(WINDOW.first.load(Ordering::Relaxed)))
}

/// Says of which small class the slab is that the `granules` from the one that begins at `base` on are part of.
pub(crate) fn set(base: *mut u8, granules: usize, class: Option<SizeClass>) {
    let kind = class.map_or(0, |class| class.index() as u8 + 1);
    for granule in 0..granules {
        if let Some(place) = place(base.addr() / GRANULE + granule) {
            place.store(kind, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch a granule that stands for its neighbour, and addresses beyond
    /// the window's ends.
    #[test]
    fn each_granule_has_its_class() {
        open(NonNull::without_provenance((1_usize << 46).try_into().expect("not zero")));
        let first = WINDOW.first.load(Ordering::Relaxed) * GRANULE;
        // Far from where this process's heap is.
        let base = core::ptr::without_provenance_mut::<u8>(first + 5 * GRANULE);
        let kinds = |offsets: [usize; 4]| offsets.map(|offset| kind_at(base.addr().wrapping_add(offset)));
        set(base, 2, Some(SizeClass::from_index(7)));
        let around = [0, 2 * GRANULE - 1, 2 * GRANULE, usize::MAX];
        assert_eq!(kinds(around), [Some(8), Some(8), Some(0), Some(0)]);
        set(base, 2, Some(SizeClass::from_index(SizeClass::SMALL - 1)));
        assert_eq!(kind_at(base.addr()), Some(SizeClass::SMALL));
        set(base, 2, None);
        assert_eq!(kinds(around), [Some(0); 4]);
        assert_eq!(kind_at(first + SPAN - 1), Some(0));
        for outside in [0, 1, first - 1, first + SPAN, 0xdead_beef_dead_beef, usize::MAX] {
            assert_eq!(kind_at(outside), None, "{outside:#x}");
        }
    }
}
