//! Segments: aligned pieces of a region, cut into runs of granules.
//!
//! A segment begins with its header, and every pointer into the first granules after a multiple of the segment's size
//! leads to one: `(ptr - 1) & !(SEGMENT - 1)`. (The one less serves huge blocks that are aligned to a segment: their
//! header lies a segment before them.) A granule is *fresh* (never used or purged: reads as zero), *in use*, or
//! *free and dirty*; `dirty` says so by the page.
//!
//! The lock of the collection ([`super::segments`]) guards a header, but for what belongs to the owner of a run: its
//! granules' `kind` and `back`, their `dirty` pages, the descriptor and the bitmap of the slab in it.

use core::ptr::NonNull;

use static_assertions::const_assert;

use crate::base::bitmap::{Bitmap, ones};
use crate::base::sync::{AtomicBool, AtomicU8, AtomicU16, AtomicUsize, Ordering};
use crate::config::{GRANULE, GRANULES, HARDENED, HUGE_PAGE, HugePages, SEGMENT, SEGMENT_GAP};
use crate::heap::directory;
use crate::heap::group::Group;
use crate::heap::settings::settings;
use crate::heap::size_class::SizeClass;
use crate::heap::slab::{Slab, WORDS};
use crate::vm::{page_size, platform, sys};

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

const KIND_NONE: u8 = 0;
const KIND_HUGE: u8 = u8::MAX;

/// The header of a segment. Zero bytes are a valid one with nothing free. It is reached by parts: never is there a
/// reference to the whole, because its parts belong to different owners.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Segment {
    /// One a granule: 0, a class's index + 1, or `KIND_HUGE`. Written by a run's owner before a block is handed out.
    kind: [AtomicU8; GRANULES],
    /// How many granules before this one its slab begins. Written by a run's owner before a block is handed out.
    back: [AtomicU8; GRANULES],
    /// The group of the slab that begins in a granule. Written by the run's owner before a block is handed out.
    group: [AtomicU8; GRANULES],
    /// Each granule's pages that may hold data: belong to the owner of its run, or to the lock while it is free. The
    /// lock's holder reads all of them, and means only the free ones'.
    dirty: [AtomicU16; GRANULES],
    /// Whether huge pages were asked for. Written before anything of the segment is handed out, and once more, by
    /// whoever gives the first of its pages back.
    is_huge: AtomicBool,
    /// Whether they ever were: then pages may be resident that nobody touched. Written before anything of the segment is
    /// handed out.
    was_huge: AtomicBool,
    /// What the lock guards.
    pub(super) state: State,
    /// The descriptor of the slab that begins in a granule, and its bitmap: the owner's of the run.
    slabs: [Slab; GRANULES],
    bits: [[u64; WORDS]; GRANULES],
    /// When hardened: what is known about the middle block in the run that begins in a granule: its owner's.
    placed: [Placed; if HARDENED { GRANULES } else { 0 }],
}

/// What is known about a middle block when hardened. Addresses in bytes, zero for none.
#[derive(Debug)]
pub(crate) struct Placed {
    /// The block that is out, and how many bytes were asked for.
    pub(crate) block: AtomicUsize,
    pub(crate) size: AtomicUsize,
    /// The block that was freed last.
    pub(crate) freed: AtomicUsize,
    /// What lies between the run's guards cannot be accessed and has no pages.
    pub(crate) is_closed: AtomicBool,
}

/// What the collection knows about a segment, guarded by its lock.
#[derive(Debug)]
pub(crate) struct State {
    pub(super) free: Granules,
    /// Free and dirty granules that were so in the purger's last round.
    pub(super) aging: Granules,
    /// Granules in use that will be filled.
    pub(super) dense: Granules,
    /// Granules from the start that are committed.
    pub(super) committed: usize,
    /// For what will be filled: says which of two lists of a kind it is in.
    pub(super) is_dense: bool,
    /// In the list of segments whose longest free run is alike.
    pub(super) next: *mut Segment,
    pub(super) prev: *mut Segment,
    /// In the list of all segments, which only the holder of the purger's lock takes segments out of.
    pub(super) next_all: *mut Segment,
    pub(super) prev_all: *mut Segment,
    /// Which list it is in: the whole logarithm of the longest free run, or `FULL`.
    pub(super) bucket: usize,
    /// It was empty in the purger's last round.
    pub(super) was_empty: bool,
}

/// A bit for each granule of a segment.
pub(crate) type Granules = Bitmap<{ GRANULES / 64 }>;

/// Granules that the header takes.
pub(crate) const HEADER_GRANULES: usize = size_of::<Segment>().div_ceil(GRANULE);
/// Granules before the first that can be handed out.
pub(crate) const LEAD_GRANULES: usize = HEADER_GRANULES + SEGMENT_GAP;
/// Granules that can be handed out.
pub(crate) const USABLE_GRANULES: usize = GRANULES - LEAD_GRANULES;

const_assert!(SizeClass::from_index(SizeClass::COUNT - 1).granules() * 2 <= USABLE_GRANULES);
const_assert!(SizeClass::COUNT + 1 < KIND_HUGE as usize);
const_assert!(HEADER_GRANULES * GRANULE <= HUGE_PAGE);

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

    /// The byte that says what the address at `ptr` is part of, whatever pointer that is.
    #[inline(always)]
    fn kind_byte_at(ptr: NonNull<u8>) -> u8 {
        if !directory::holds(ptr) {
            return KIND_NONE;
        }
        let granule = (ptr.addr().get() % SEGMENT) / GRANULE;
        // SAFETY: the directory knows the header, so it is mapped, unless another thread gives the segment up just now:
        // then no block in it is out, and the pointer is none of a correct program's. Relaxed: whoever has the block
        // has synchronised with its allocation, and the byte was written before that.
        let kinds = unsafe { (&raw const (*Segment::of(ptr)).kind).as_ref_unchecked() };
        kinds[granule].load(Ordering::Relaxed)
    }

    /// What the address at `ptr` is part of, whatever pointer that is.
    #[inline]
    pub(crate) fn kind_at(ptr: NonNull<u8>) -> Kind {
        match Segment::kind_byte_at(ptr) {
            KIND_NONE => Kind::None,
            KIND_HUGE => Kind::Huge,
            class => Kind::Class(SizeClass::from_index(class as usize - 1)),
        }
    }

    /// The class of a small block; none for any other pointer: two loads.
    #[inline(always)]
    pub(crate) fn small_class_at(ptr: NonNull<u8>) -> Option<SizeClass> {
        let index = usize::from(Segment::kind_byte_at(ptr).wrapping_sub(1));
        (index < SizeClass::SMALL).then(|| SizeClass::from_index(index))
    }

    /// Whether a middle block begins at `ptr`, an address in one.
    pub(crate) fn is_start_of_run(ptr: NonNull<u8>) -> bool {
        let granule = (ptr.addr().get() % SEGMENT) / GRANULE;
        // SAFETY: the header is mapped, as an address in it has a kind.
        let back = unsafe { (&raw const (*Segment::of(ptr)).back[granule]).as_ref_unchecked() };
        ptr.addr().get().is_multiple_of(GRANULE) && back.load(Ordering::Relaxed) == 0
    }

    /// Marks a header that stands for one huge block.
    ///
    /// # Safety
    /// `segment` is committed zero memory of at least a page, the caller's.
    pub(crate) unsafe fn mark_huge(segment: *mut u8) {
        // SAFETY: the kinds are the first bytes of a header.
        unsafe { segment.write_bytes(KIND_HUGE, GRANULES) };
    }

    /// Asks for huge pages.
    ///
    /// # Safety
    /// The segment is a new one, its header committed, and nobody knows of it.
    pub(super) unsafe fn ask_for_huge_pages(segment: NonNull<Segment>) {
        // SAFETY: passed on to the caller.
        unsafe {
            platform::advise_huge_pages(segment.as_ptr().cast(), SEGMENT);
            for word in [&raw const (*segment.as_ptr()).is_huge, &raw const (*segment.as_ptr()).was_huge] {
                word.as_ref_unchecked().store(true, Ordering::Relaxed);
            }
        }
    }

    /// To be called before pages are given back: the kernel would make huge pages again of what is left between them.
    pub(super) fn keep_pages_small(segment: NonNull<Segment>) {
        // SAFETY: the segment is mapped as long as somebody has pages of it to give back; the word is atomic.
        let is_huge = unsafe { (&raw const (*segment.as_ptr()).is_huge).as_ref_unchecked() };
        if settings().huge_pages() != HugePages::Always && is_huge.swap(false, Ordering::Relaxed) {
            // SAFETY: the advice concerns the segment only.
            unsafe { platform::advise_small_pages(segment.as_ptr().cast(), SEGMENT) };
        }
    }

    /// Whether huge pages were asked for.
    pub(super) fn is_huge(segment: NonNull<Segment>) -> bool {
        // SAFETY: segments in the collection are mapped; the word is atomic.
        unsafe { (&raw const (*segment.as_ptr()).is_huge).as_ref_unchecked() }.load(Ordering::Relaxed)
    }

    /// Whether pages may be resident that nobody touched.
    pub(super) fn was_huge(segment: NonNull<Segment>) -> bool {
        // SAFETY: the segment is mapped as long as somebody has pages of it to give back; the word is atomic.
        unsafe { (&raw const (*segment.as_ptr()).was_huge).as_ref_unchecked() }.load(Ordering::Relaxed)
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

    /// The group whose slabs this one is among.
    ///
    /// # Safety
    /// `slab` came from [`Segment::slab_of`], and its segment is mapped.
    pub(crate) unsafe fn group_of(slab: *mut Slab) -> Group {
        if Group::count() == 1 {
            return Group::from_index(0);
        }
        let segment = slab.map_addr(|addr| addr & !(SEGMENT - 1)).cast::<Segment>();
        // SAFETY: the descriptor lies among those of its segment's header.
        let (granule, groups) = unsafe {
            (
                slab.offset_from_unsigned((&raw mut (*segment).slabs).cast()),
                (&raw const (*segment).group).as_ref_unchecked(),
            )
        };
        // Relaxed: whoever has the block has synchronised with its allocation, and the byte was written before that.
        Group::from_index(groups[granule].load(Ordering::Relaxed).into())
    }

    /// Bytes from the slab's first block to an address in it.
    ///
    /// # Safety
    /// `ptr` is an address in a slab.
    pub(crate) unsafe fn offset_in_slab(ptr: NonNull<u8>) -> usize {
        ptr.addr().get() - Segment::start_of_run(ptr).addr()
    }

    /// Where the run of the middle block, or the slab, at `ptr` begins.
    pub(crate) fn start_of_run(ptr: NonNull<u8>) -> *mut u8 {
        let granule = (ptr.addr().get() % SEGMENT) / GRANULE;
        // SAFETY: the header is mapped, as an address in it has a kind.
        let back = unsafe { (&raw const (*Segment::of(ptr)).back[granule]).as_ref_unchecked() };
        let back = usize::from(back.load(Ordering::Relaxed)) * GRANULE;
        ptr.as_ptr().map_addr(|addr| addr / GRANULE * GRANULE - back)
    }

    /// What is known about the middle block in the run at `base`, when hardened.
    ///
    /// # Safety
    /// A run begins at `base`.
    pub(crate) unsafe fn placed_at<'a>(base: *mut u8) -> &'a Placed {
        let segment = base.map_addr(|addr| addr & !(SEGMENT - 1)).cast::<Segment>();
        // SAFETY: a run's header is mapped, and what stands there is atomic.
        unsafe { &(&raw const (*segment).placed).as_ref_unchecked()[(base.addr() % SEGMENT) / GRANULE] }
    }

    /// The free granules, by the segment's state, that may hold data.
    pub(super) fn idle(segment: NonNull<Segment>, state: &State) -> Granules {
        let (committed, never) = Segment::dirty_words(segment).split_at(state.committed);
        invariant!(never.iter().all(|pages| pages.load(Ordering::Relaxed) == 0));
        let mut idle = Bitmap::zero();
        for ((idle, free), granules) in idle.0.iter_mut().zip(&state.free.0).zip(committed.chunks(64)) {
            if *free != 0 {
                let is_dirty = |pages: &AtomicU16| u64::from(pages.load(Ordering::Relaxed) != 0);
                *idle = free & granules.iter().rev().fold(0, |dirty, pages| dirty << 1 | is_dirty(pages));
            }
        }
        idle
    }

    fn dirty_words<'a>(segment: NonNull<Segment>) -> &'a [AtomicU16; GRANULES] {
        // SAFETY: a segment with a run in use, or in the collection, is mapped; the words are atomic.
        unsafe { (&raw const (*segment.as_ptr()).dirty).as_ref_unchecked() }
    }
}

impl State {
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
        self.set_kind(class.index() as u8 + 1);
    }

    /// Says which group's the slab in the run is.
    ///
    /// # Safety
    /// The run is the caller's.
    pub(crate) unsafe fn set_group(self, group: Group) {
        // SAFETY: the segment is mapped as long as the run is somebody's; the bytes are atomic.
        let groups = unsafe { (&raw const (*self.segment.as_ptr()).group).as_ref_unchecked() };
        groups[self.first].store(group.index() as u8, Ordering::Relaxed);
    }

    /// Says that the granules are part of nothing.
    ///
    /// # Safety
    /// The run is the caller's.
    pub(super) unsafe fn clear_kind(self) {
        self.set_kind(KIND_NONE);
    }

    fn set_kind(self, kind: u8) {
        let segment = self.segment.as_ptr();
        // SAFETY: the segment is mapped as long as the run is somebody's; the bytes are atomic.
        let (kinds, backs) = unsafe {
            ((&raw const (*segment).kind).as_ref_unchecked(), (&raw const (*segment).back).as_ref_unchecked())
        };
        for i in 0..self.len {
            kinds[self.first + i].store(kind, Ordering::Relaxed);
            backs[self.first + i].store(i as u8, Ordering::Relaxed);
        }
    }

    /// Bytes in the run.
    pub(crate) fn len(self) -> usize {
        self.len * GRANULE
    }

    /// Where the descriptor and the bitmap of a slab in this run go.
    pub(crate) fn slab(self) -> (*mut Slab, *mut u64) {
        let segment = self.segment.as_ptr();
        // SAFETY: both places lie within the header.
        unsafe { (&raw mut (*segment).slabs[self.first], (&raw mut (*segment).bits[self.first]).cast()) }
    }

    fn dirty(self) -> &'static [AtomicU16] {
        &Segment::dirty_words(self.segment)[self.first..self.first + self.len]
    }

    /// How many pages may hold data.
    pub(super) fn count_dirty(self) -> usize {
        self.dirty().iter().map(|pages| pages.load(Ordering::Relaxed).count_ones() as usize).sum()
    }

    /// The pages that may hold data, by bit, of a run of at most 64 pages.
    pub(crate) fn dirty_pages(self) -> u64 {
        let per_granule = GRANULE / page_size();
        invariant!(self.len * per_granule <= 64);
        self.dirty().iter().enumerate().fold(0, |pages, (i, in_granule)| {
            pages | u64::from(in_granule.load(Ordering::Relaxed)) << (i * per_granule)
        })
    }

    /// Says which pages may hold data, by bit, in a run of at most 64 pages.
    ///
    /// # Safety
    /// The run is the caller's.
    pub(crate) unsafe fn set_dirty_pages(self, pages: u64) {
        let per_granule = GRANULE / page_size();
        for (i, word) in self.dirty().iter().enumerate() {
            word.store(((pages >> (i * per_granule)) & ones(per_granule)) as u16, Ordering::Relaxed);
        }
    }

    /// Marks the pages of `len` bytes from `start` on as holding data.
    ///
    /// # Safety
    /// The run is the caller's.
    pub(crate) unsafe fn mark_dirty(self, start: usize, len: usize) {
        let (first, end) = (start / page_size(), (start + len).div_ceil(page_size()));
        let per_granule = GRANULE / page_size();
        let granules = first / per_granule..end.div_ceil(per_granule);
        for (i, word) in granules.clone().zip(&self.dirty()[granules]) {
            let from = first.saturating_sub(i * per_granule);
            let to = (end - i * per_granule).min(per_granule);
            word.store(word.load(Ordering::Relaxed) | (ones(to - from) << from) as u16, Ordering::Relaxed);
        }
    }

    /// Clears the first `len` bytes of the run, the pages that the kernel has cleared left alone.
    ///
    /// # Safety
    /// The run is the caller's, and at least `len` bytes long.
    pub(crate) unsafe fn clear(self, len: usize) {
        for (start, bytes) in self.dirty_ranges() {
            if start < len {
                // SAFETY: the bytes lie within the run.
                unsafe { self.base().add(start).write_bytes(0, bytes.min(len - start)) };
            }
        }
    }

    /// The pages that may hold data, in runs: bytes from the base, and how many.
    pub(crate) fn dirty_ranges(self) -> impl Iterator<Item = (usize, usize)> {
        self.dirty().iter().enumerate().flat_map(|(i, word)| {
            let mut dirty = word.load(Ordering::Relaxed);
            core::iter::from_fn(move || {
                let first = dirty.trailing_zeros() as usize;
                let pages = (dirty.checked_shr(first as u32)?).trailing_ones() as usize;
                dirty &= !((ones(pages) << first) as u16);
                Some((i * GRANULE + first * page_size(), pages * page_size()))
            })
        })
    }

    /// Purges the dirty pages; returns how many bytes were given back. Pages that the kernel does not take stay dirty.
    ///
    /// # Safety
    /// The run is the caller's, and nothing in it is needed.
    pub(super) unsafe fn purge(self) -> usize {
        Segment::keep_pages_small(self.segment);
        // SAFETY: the range is the run's.
        if unsafe { sys::purge(self.base(), self.len * GRANULE) }.is_err() {
            return 0;
        }
        let pages = self.count_dirty();
        // SAFETY: passed on to the caller.
        unsafe { self.mark_clean() };
        pages * page_size()
    }

    /// Says that every page reads as zero and holds nothing.
    ///
    /// # Safety
    /// As for [`Run::purge`], and it is true.
    pub(crate) unsafe fn mark_clean(self) {
        self.dirty().iter().for_each(|word| word.store(0, Ordering::Relaxed));
    }
}
