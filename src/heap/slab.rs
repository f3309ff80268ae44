//! Slabs: runs of equal blocks. A slab's descriptor and bitmap lie in its segment's header, never in its blocks, so
//! free pages between live blocks can be purged and a double free is seen exactly.
//!
//! Everything here is guarded by the lock of the slab's class, but for `class` and `base`, which are written before
//! any block of the slab is out.

use core::ptr;

use crate::base::align;
use crate::base::bitmap::ones;
use crate::config::{GRANULE, PAGE_MIN, SLAB_BLOCKS_MAX, SLAB_LEAD};
use crate::heap::fault;
use crate::heap::magazine::{FRESH, FRESH_WITHIN, MARKS, Slot};
use crate::heap::size_class::SizeClass;
use crate::vm::{page_size, sys};

/// Words in a slab's bitmap.
pub(crate) const WORDS: usize = SLAB_BLOCKS_MAX / 64;

/// Which list a slab is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Home {
    /// None: no block is free, or the slab is being made or taken apart.
    None,
    /// Blocks are free, and something changed lately.
    Active,
    /// Blocks are free, and the free whole pages have been purged.
    Settled,
    /// Off the lists while its pages are purged without the lock: blocks may come home, none are taken.
    Purging,
}

/// What is known about one slab.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Slab {
    pub(crate) next: *mut Slab,
    pub(crate) prev: *mut Slab,
    /// The first block.
    pub(crate) base: *mut u8,
    /// One bit a block: set when it is free and at home.
    bits: *mut u64,
    /// The pages that may hold data, by bit: the others read as zero.
    touched: u64,
    /// Blocks that are out: with a caller, in a magazine or in a depot.
    pub(crate) out: u32,
    /// The round of the purger in which a block last left or came home.
    pub(crate) stamp: u32,
    pub(crate) class: SizeClass,
    pub(crate) home: Home,
    /// No word of the bitmap before this one has a free block.
    hint: u8,
}

impl Slab {
    /// Makes the slab of all free blocks.
    ///
    /// # Safety
    /// `base` begins a run of the class's granules and `bits` has [`WORDS`] words, all of it the caller's; `touched`
    /// has the bit of each page that may not read as zero.
    pub(crate) unsafe fn new(base: *mut u8, bits: *mut u64, class: SizeClass, touched: u64) -> Slab {
        let blocks = class.slab_blocks();
        for word in 0..blocks.div_ceil(64) {
            // SAFETY: a slab has at most `WORDS * 64` blocks.
            unsafe { bits.add(word).write(ones((blocks - word * 64).min(64))) };
        }
        // SAFETY: the first word is one of them.
        unsafe { *bits &= !ones(SLAB_LEAD) };
        Slab {
            next: ptr::null_mut(),
            prev: ptr::null_mut(),
            base,
            bits,
            touched,
            out: 0,
            stamp: 0,
            class,
            home: Home::None,
            hint: 0,
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.out as usize == self.class.slab_blocks() - SLAB_LEAD
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.out == 0
    }

    pub(crate) fn touched(&self) -> u64 {
        self.touched
    }

    /// Takes free blocks in the order of their addresses until `blocks` is full or none are free; returns how many.
    /// Blocks that span pages carry the mark [`FRESH`] or [`FRESH_WITHIN`] where it holds.
    pub(crate) fn take(&mut self, blocks: &mut [Slot]) -> usize {
        let size = self.class.small_size();
        let words = self.class.slab_blocks().div_ceil(64);
        let mut taken = 0;
        let mut word = self.hint as usize;
        while word < words && taken < blocks.len() {
            // SAFETY: `word < WORDS`, and the bitmap is the slab's.
            let place = unsafe { self.bits.add(word) };
            // SAFETY: as above.
            let free = unsafe { *place };
            let mut left = free;
            let first = self.base.wrapping_add(word * 64 * size);
            for slot in &mut blocks[taken..] {
                if left == 0 {
                    break;
                }
                let block = left.trailing_zeros() as usize;
                left &= left - 1;
                *slot = match size < PAGE_MIN {
                    true => first.wrapping_add(block * size),
                    false => self.hand_out_pages(word * 64 + block),
                };
                taken += 1;
            }
            // SAFETY: as above.
            unsafe { *place = left };
            let chosen = free & !left;
            if size < PAGE_MIN && chosen != 0 {
                // Blocks between them that were not free are out, so their pages are touched already.
                let (first, last) = (chosen.trailing_zeros() as usize, chosen.ilog2() as usize);
                self.touched |= pages_within((word * 64 + first) * size, (last - first + 1) * size);
            }
            if left == 0 {
                word += 1;
            }
        }
        self.hint = word as u8;
        self.out += taken as u32;
        self.check();
        taken
    }

    /// A block that spans pages, marked by what these hold.
    fn hand_out_pages(&mut self, block: usize) -> Slot {
        let size = self.class.size();
        let pages = pages_within(block * size, size);
        let touched = self.touched & pages;
        self.touched |= pages;
        let mark = match touched {
            0 => FRESH,
            touched if touched & whole_pages_within(block * size, size) == 0 => FRESH_WITHIN,
            _ => 0,
        };
        self.base.wrapping_add(block * size).map_addr(|addr| addr | mark)
    }

    /// Takes blocks home, from the first on, as long as they lie in this slab and really were out; returns how many.
    pub(crate) fn give(&mut self, blocks: &[Slot]) -> usize {
        // Locals: for all that the compiler knows, the bitmap that is written could be this descriptor.
        let Slab { base, bits, class, .. } = *self;
        let (size, count) = (class.small_size(), class.slab_blocks());
        let mut hint = usize::from(self.hint);
        let mut given = 0;
        for block in blocks {
            // A block that comes home from a magazine may still be marked.
            let offset = (block.addr() & !MARKS).wrapping_sub(base.addr());
            if offset >= count * size {
                break;
            }
            let index = class.block_at(offset);
            if index * size != offset || !(SLAB_LEAD..).contains(&index) {
                fault::die_of_inner_pointer(block.map_addr(|addr| addr & !MARKS));
            }
            let word = index / 64;
            // SAFETY: the block lies in this slab, so its word is one of the bitmap's.
            let bits = unsafe { &mut *bits.add(word) };
            let bit = 1 << (index % 64);
            if *bits & bit != 0 {
                break;
            }
            *bits |= bit;
            hint = hint.min(word);
            given += 1;
        }
        self.hint = hint as u8;
        self.out -= given as u32;
        self.check();
        given
    }

    /// Whether a block of this slab is free and here.
    pub(crate) fn is_home(&self, block: *mut u8) -> bool {
        let index = self.class.block_at(block.addr() - self.base.addr());
        // SAFETY: the block lies in this slab, so its word is one of the bitmap's.
        let bits = unsafe { *self.bits.add(index / 64) };
        bits >> (index % 64) & 1 == 1
    }

    /// The pages that hold nothing but free blocks and may hold data; and, where huge pages made untouched pages resident,
    /// those too, if anything is to be purged at all.
    pub(crate) fn purgeable(&self, untouched_too: bool) -> u64 {
        let free = self.free_pages();
        if untouched_too && free & self.touched != 0 { free } else { free & self.touched }
    }

    fn free_pages(&self) -> u64 {
        let all = pages_within(0, self.class.granules() * GRANULE);
        if self.is_empty() {
            return all;
        }
        let size = self.class.size();
        let mut busy = 0;
        for word in 0..self.class.slab_blocks().div_ceil(64) {
            let blocks = (self.class.slab_blocks() - word * 64).min(64);
            // SAFETY: `word < WORDS`.
            let mut out = !unsafe { *self.bits.add(word) } & ones(blocks);
            while out != 0 {
                let first = out.trailing_zeros() as usize;
                let run = (out >> first).trailing_ones() as usize;
                out &= !(ones(run) << first);
                busy |= pages_within((word * 64 + first) * size, run * size);
            }
        }
        all & !busy
    }

    /// Notes that `pages` have been purged.
    pub(crate) fn mark_purged(&mut self, pages: u64) {
        self.touched &= !pages;
    }

    /// Debug builds: what is out and what is free make up the slab, and the hint is true.
    fn check(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        let mut free = 0;
        for word in 0..self.class.slab_blocks().div_ceil(64) {
            // SAFETY: `word < WORDS`.
            let bits = unsafe { *self.bits.add(word) };
            invariant!(bits == 0 || word >= self.hint as usize);
            free += bits.count_ones();
        }
        invariant!((free + self.out) as usize == self.class.slab_blocks() - SLAB_LEAD);
    }
}

/// The pages, by bit, that `len` bytes at `offset` into a slab lie in.
fn pages_within(offset: usize, len: usize) -> u64 {
    let shift = page_size().trailing_zeros();
    let first = offset >> shift;
    let last = (offset + len - 1) >> shift;
    ones(last - first + 1) << first
}

/// The pages, by bit, that lie wholly within `len` bytes at `offset` into a slab.
fn whole_pages_within(offset: usize, len: usize) -> u64 {
    let shift = page_size().trailing_zeros();
    let first = align::up(offset, page_size()) >> shift;
    let end = (offset + len) >> shift;
    if first < end { ones(end - first) << first } else { 0 }
}

/// Purges the pages of `pages` in the slab that begins at `base`; returns those that the kernel took.
///
/// # Safety
/// The pages belong to the caller and nothing in them is needed.
pub(crate) unsafe fn purge_pages(base: *mut u8, pages: u64) -> u64 {
    let mut left = pages;
    let mut purged = 0;
    while left != 0 {
        let first = left.trailing_zeros() as usize;
        let run = (left >> first).trailing_ones() as usize;
        left &= !(ones(run) << first);
        // SAFETY: passed on to the caller.
        if unsafe { sys::purge(base.add(first * page_size()), run * page_size()) }.is_ok() {
            purged |= ones(run) << first;
        }
    }
    purged
}
