//! Segments: aligned pieces of a region, cut into runs of granules.
//!
//! A segment begins with its header, and every pointer into the first granules after a multiple of the segment's size
//! leads to one: `(ptr - 1) & !(SEGMENT - 1)`. (The one less serves huge blocks that are aligned to a segment: their
//! header lies a segment before them.) A granule is *fresh* (never used or purged: reads as zero), *in use*, or
//! *free and dirty*; `dirty` says so by the page.
//!
//! The lock of the collection ([`super::segments`]) guards a header, but for what belongs to the owner of a run: its
//! granules' `kind` and `back`, their `dirty` pages, the descriptor and the bitmap of the slab in it.

use core::ptr::{self, NonNull};

use static_assertions::const_assert;

use crate::base::bitmap::{Bitmap, ones};
use crate::base::sync::{AtomicU8, Ordering};
use crate::config::{GRANULE, GRANULES, SEGMENT};
use crate::heap::size_class::SizeClass;
use crate::heap::slab::{Slab, WORDS};
use crate::vm::{page_size, sys};

/// What a granule is part of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Nothing that was handed out.
    None,
    /// A slab, or a middle block, of this class.
    Class(SizeClass),
    /// A huge block.
    Huge,
}

pub(super) const KIND_NONE: u8 = 0;
const KIND_HUGE: u8 = u8::MAX;

/// The header of a segment. Zero bytes are a valid one with nothing free.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Segment {
    /// One a granule: 0, a class's index + 1, or `KIND_HUGE`. Written before a block in the granule is handed out.
    pub(super) kind: [AtomicU8; GRANULES],
    /// How many granules before this one its slab begins.
    back: [AtomicU8; GRANULES],
    /// The granules' pages that may hold data. A run's owner may read those of the run.
    pub(super) dirty: [u16; GRANULES],
    pub(super) free: Bitmap<{ GRANULES / 64 }>,
    /// Free and dirty granules that were so in the purger's last round.
    pub(super) aging: Bitmap<{ GRANULES / 64 }>,
    /// Granules from the start that are committed.
    pub(super) committed: usize,
    /// In the list of segments whose longest free run is alike.
    pub(super) next: *mut Segment,
    pub(super) prev: *mut Segment,
    /// In the list of all segments, which only the holder of the purger's lock takes segments out of.
    pub(super) next_all: *mut Segment,
    /// Which list it is in: the whole logarithm of the longest free run, or `FULL`.
    pub(super) bucket: usize,
    /// It was empty in the purger's last round.
    pub(super) was_empty: bool,
    slabs: [Slab; GRANULES],
    bits: [[u64; WORDS]; GRANULES],
}

/// Granules that the header takes.
pub(crate) const HEADER_GRANULES: usize = size_of::<Segment>().div_ceil(GRANULE);
/// Granules that can be handed out.
pub(crate) const USABLE_GRANULES: usize = GRANULES - HEADER_GRANULES;

const_assert!(SizeClass::from_index(SizeClass::COUNT - 1).granules() * 2 <= USABLE_GRANULES);
const_assert!(SizeClass::COUNT + 1 < KIND_HUGE as usize);

/// Adjacent granules of one segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) segment: NonNull<Segment>,
    pub(crate) first: usize,
    pub(crate) len: usize,
}

impl Segment {
    /// The header that leads on from a pointer into a block.
    #[inline(always)]
    pub(crate) fn of(ptr: NonNull<u8>) -> *const Segment {
        ptr.as_ptr().map_addr(|addr| (addr - 1) & !(SEGMENT - 1)).cast()
    }

    /// What the block at `ptr` is part of.
    ///
    /// # Safety
    /// `ptr` is a block of this heap.
    #[inline(always)]
    pub(crate) unsafe fn kind_at(ptr: NonNull<u8>) -> Kind {
        let granule = (ptr.addr().get() % SEGMENT) / GRANULE;
        // SAFETY: a block's header is mapped as long as the block is out. Relaxed: whoever has the block has
        // synchronised with its allocation, and the byte was written before that.
        let kind = unsafe { &(&raw const (*Segment::of(ptr)).kind).as_ref_unchecked()[granule] };
        match kind.load(Ordering::Relaxed) {
            KIND_NONE => Kind::None,
            KIND_HUGE => Kind::Huge,
            class => Kind::Class(SizeClass::from_index(class as usize - 1)),
        }
    }

    /// Marks a header that stands for one huge block.
    ///
    /// # Safety
    /// `segment` is committed zero memory of at least a page, the caller's.
    pub(crate) unsafe fn mark_huge(segment: *mut u8) {
        // SAFETY: the kinds are the first bytes of a header.
        unsafe { segment.write_bytes(KIND_HUGE, GRANULES) };
    }

    /// The slab that a block belongs to.
    ///
    /// # Safety
    /// `block` is a small block of this heap that is out.
    pub(crate) unsafe fn slab_of(block: *mut u8) -> *mut Slab {
        let segment = block.map_addr(|addr| addr & !(SEGMENT - 1)).cast::<Segment>();
        let granule = (block.addr() % SEGMENT) / GRANULE;
        // SAFETY: the header is mapped as long as a block is out, `granule < GRANULES`, and the bytes were written
        // before the block was handed out.
        unsafe {
            let back = (&raw const (*segment).back[granule]).as_ref_unchecked().load(Ordering::Relaxed);
            &raw mut (*segment).slabs[granule - back as usize]
        }
    }

    pub(super) fn base(&self) -> *mut u8 {
        ptr::from_ref(self).cast_mut().cast()
    }

    /// Granules that are free and have pages that may hold data.
    pub(super) fn free_and_dirty(&self) -> Bitmap<{ GRANULES / 64 }> {
        let mut dirty = Bitmap::zero();
        for (granule, pages) in self.dirty.iter().enumerate() {
            dirty.0[granule / 64] |= u64::from(*pages != 0) << (granule % 64);
        }
        self.free.and(&dirty)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.free.count() == USABLE_GRANULES
    }
}

impl Run {
    pub(crate) fn base(self) -> *mut u8 {
        self.segment.as_ptr().cast::<u8>().wrapping_add(self.first * GRANULE)
    }

    /// The run under a middle block, or under a slab, that begins at `base`.
    pub(crate) fn at(base: *mut u8, len: usize) -> Run {
        let segment = base.map_addr(|addr| addr & !(SEGMENT - 1)).cast();
        // SAFETY: a segment lies at a multiple of its size, and never at zero.
        let segment = unsafe { NonNull::new_unchecked(segment) };
        Run { segment, first: (base.addr() % SEGMENT) / GRANULE, len }
    }

    /// Says what the granules are part of.
    ///
    /// # Safety
    /// The run is the caller's.
    pub(crate) unsafe fn set_class(self, class: SizeClass) {
        for i in 0..self.len {
            // SAFETY: the run's granules are the caller's, and `first + len <= GRANULES`.
            unsafe {
                let segment = self.segment.as_ref();
                segment.kind[self.first + i].store(class.index() as u8 + 1, Ordering::Relaxed);
                segment.back[self.first + i].store(i as u8, Ordering::Relaxed);
            }
        }
    }

    /// Where the descriptor and the bitmap of a slab in this run go.
    pub(crate) fn slab(self) -> (*mut Slab, *mut u64) {
        let segment = self.segment.as_ptr();
        // SAFETY: both places lie within the header.
        unsafe { (&raw mut (*segment).slabs[self.first], (&raw mut (*segment).bits[self.first]).cast()) }
    }

    /// The pages that may hold data, by bit, of a run of at most 64 pages.
    pub(crate) fn dirty_pages(self) -> u64 {
        let per_granule = GRANULE / page_size();
        invariant!(self.len * per_granule <= 64);
        let mut pages = 0;
        for i in (0..self.len).rev() {
            // SAFETY: the run is the caller's, and with it these words.
            pages = pages << (per_granule % 64)
                | u64::from(unsafe { (*self.segment.as_ptr()).dirty[self.first + i] });
        }
        pages
    }

    /// Says which pages may hold data, by bit, in a run of at most 64 pages.
    ///
    /// # Safety
    /// The run is the caller's.
    pub(crate) unsafe fn set_dirty_pages(self, pages: u64) {
        let per_granule = GRANULE / page_size();
        for i in 0..self.len {
            let in_granule = (pages >> (i * per_granule)) & ones(per_granule);
            // SAFETY: the run is the caller's, and with it this word.
            unsafe { (*self.segment.as_ptr()).dirty[self.first + i] = in_granule as u16 };
        }
    }

    /// Clears the first `len` bytes of the run, the pages that the kernel has cleared left alone.
    ///
    /// # Safety
    /// The run is the caller's.
    pub(crate) unsafe fn clear(self, len: usize) {
        let page = page_size();
        for i in 0..len.div_ceil(GRANULE) {
            // SAFETY: the run is the caller's, and with it this word.
            let mut dirty = unsafe { (*self.segment.as_ptr()).dirty[self.first + i] };
            while dirty != 0 {
                let first = dirty.trailing_zeros() as usize;
                let pages = (dirty >> first).trailing_ones() as usize;
                dirty &= !((ones(pages) << first) as u16);
                let start = i * GRANULE + first * page;
                if start < len {
                    // SAFETY: the bytes lie within the run.
                    unsafe { self.base().add(start).write_bytes(0, (pages * page).min(len - start)) };
                }
            }
        }
    }

    /// Purges the dirty pages; returns how many bytes were given back. Pages that the kernel did not take stay dirty.
    ///
    /// # Safety
    /// The run is the caller's, and nothing in it is needed.
    pub(crate) unsafe fn purge(self) -> usize {
        let page = page_size();
        // SAFETY: the run is the caller's, and with it these words.
        let dirty = unsafe { &mut (&mut (*self.segment.as_ptr()).dirty)[self.first..self.first + self.len] };
        // SAFETY: the range is the run's.
        if unsafe { sys::purge(self.base(), self.len * GRANULE) }.is_err() {
            return 0;
        }
        let pages: u32 = dirty.iter().map(|pages| pages.count_ones()).sum();
        dirty.fill(0);
        pages as usize * page
    }

    /// Marks the pages of the first `len` bytes as holding data.
    ///
    /// # Safety
    /// The run is the caller's.
    pub(crate) unsafe fn mark_dirty(self, len: usize) {
        let pages = len.div_ceil(page_size());
        let per_granule = GRANULE / page_size();
        for i in 0..pages.div_ceil(per_granule) {
            let in_granule = (pages - i * per_granule).min(per_granule);
            // SAFETY: the run is the caller's, and with it this word.
            unsafe { (*self.segment.as_ptr()).dirty[self.first + i] |= ones(in_granule) as u16 };
        }
    }
}
