//! One block of the heap with contents that are known, so that a block that overlaps another, moves without its
//! contents, or is handed out twice is seen.

use std::alloc::{GlobalAlloc, Layout};
use std::ptr::NonNull;

use allocator_api2::alloc::Allocator;
use arenite::Arenite;

use super::random::mix;

/// The heap, reached directly: a test that counts blocks does not count the test's own.
pub(crate) static HEAP: Arenite = Arenite::new();

pub(crate) fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).unwrap()
}

/// A block that is out. Dropping it leaks it: tests free by [`Block::free`].
#[derive(Debug)]
#[must_use]
pub(crate) struct Block {
    address: NonNull<u8>,
    layout: Layout,
    /// What the contents are made from; none before [`Block::fill`].
    seed: Option<u64>,
}

// SAFETY: a block belongs to whoever holds the value, in any thread.
unsafe impl Send for Block {}

impl Block {
    /// None when the heap refuses.
    pub(crate) fn alloc(layout: Layout) -> Option<Block> {
        assert_ne!(layout.size(), 0);
        // SAFETY: the size is not zero.
        Block::new(unsafe { HEAP.alloc(layout) }, layout)
    }

    pub(crate) fn alloc_zeroed(layout: Layout) -> Option<Block> {
        assert_ne!(layout.size(), 0);
        // SAFETY: the size is not zero.
        Block::new(unsafe { HEAP.alloc_zeroed(layout) }, layout)
    }

    fn new(address: *mut u8, layout: Layout) -> Option<Block> {
        let block = Block { address: NonNull::new(address)?, layout, seed: None };
        assert!(block.addr().is_multiple_of(layout.align()), "{block:?} is not aligned");
        Some(block)
    }

    /// With the usable size in the layout; blocks of no bytes too.
    pub(crate) fn allocate(layout: Layout, zeroed: bool) -> Option<Block> {
        let result = if zeroed { HEAP.allocate_zeroed(layout) } else { HEAP.allocate(layout) };
        Block::of_slice(result.ok()?, layout)
    }

    fn of_slice(slice: NonNull<[u8]>, asked: Layout) -> Option<Block> {
        assert!(slice.len() >= asked.size());
        Block::new(slice.as_ptr().cast(), layout(slice.len(), asked.align()))
    }

    /// The free through the interface by which the block came does not matter, but only one of them knows blocks of no
    /// bytes.
    pub(crate) fn free(self) {
        self.check();
        // SAFETY: the block is out, with this layout or one that fits it.
        unsafe {
            if self.layout.size() == 0 {
                HEAP.deallocate(self.address, self.layout);
            } else {
                HEAP.dealloc(self.address.as_ptr(), self.layout);
            }
        }
    }

    /// The contents that both sizes share are checked. The block as it was when the heap refuses.
    pub(crate) fn realloc(self, size: usize) -> Result<Block, Block> {
        assert!(size != 0 && self.layout.size() != 0);
        self.check();
        // SAFETY: the block is out, with this layout or one that fits it; the new size is a layout's.
        let moved = unsafe { HEAP.realloc(self.address.as_ptr(), self.layout, size) };
        let moved = Block::new(moved, layout(size, self.layout.align()));
        self.resized(moved, size, 0)
    }

    /// `grow`, `grow_zeroed` or `shrink` of the [`Allocator`], whichever the sizes say.
    pub(crate) fn resize(self, new: Layout, zeroed: bool) -> Result<Block, Block> {
        self.check();
        let old = self.layout;
        // SAFETY: the block is out and its layout fits it; the sizes say which of the three may be called.
        let result = unsafe {
            if new.size() < old.size() {
                HEAP.shrink(self.address, old, new)
            } else if zeroed {
                HEAP.grow_zeroed(self.address, old, new)
            } else {
                HEAP.grow(self.address, old, new)
            }
        };
        let zero_from = if zeroed && new.size() >= old.size() { old.size() } else { usize::MAX };
        let moved = result.ok().and_then(|slice| Block::of_slice(slice, new));
        self.resized(moved, new.size(), zero_from)
    }

    fn resized(self, moved: Option<Block>, size: usize, zero_from: usize) -> Result<Block, Block> {
        let Some(moved) = moved else {
            self.check();
            return Err(self);
        };
        if let Some(seed) = self.seed {
            for (offset, word) in words(self.size(), seed) {
                let offset_end = offset + word.len();
                if offset_end <= size {
                    assert_eq!(
                        &moved.bytes()[offset..offset_end],
                        word,
                        "{self:?} became {moved:?}: {offset}"
                    );
                }
            }
        }
        if zero_from > 0 && zero_from < moved.size() {
            assert!(is_zero(&moved.bytes()[zero_from..]), "{moved:?} grew dirty");
        }
        Ok(moved)
    }

    pub(crate) fn addr(&self) -> usize {
        self.address.addr().get()
    }

    pub(crate) fn address(&self) -> NonNull<u8> {
        self.address
    }

    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    pub(crate) fn size(&self) -> usize {
        self.layout.size()
    }

    #[expect(clippy::mut_from_ref, reason = "the slice is used before the next call")]
    pub(crate) fn bytes(&self) -> &mut [u8] {
        // SAFETY: the block is out, this long, and belongs to this value. What was never written is some byte.
        unsafe { std::slice::from_raw_parts_mut(self.address.as_ptr(), self.size()) }
    }

    /// Writes contents that [`Block::check`] will ask for.
    pub(crate) fn fill(&mut self, seed: u64) {
        self.seed = Some(seed);
        let bytes = self.bytes();
        for (offset, word) in words(bytes.len(), seed) {
            bytes[offset..offset + word.len()].copy_from_slice(word);
        }
    }

    pub(crate) fn check(&self) {
        let Some(seed) = self.seed else { return };
        let bytes = self.bytes();
        for (offset, word) in words(bytes.len(), seed) {
            assert_eq!(&bytes[offset..offset + word.len()], word, "{self:?} was changed at {offset}");
        }
    }

    pub(crate) fn is_zero(&self) -> bool {
        is_zero(self.bytes())
    }
}

/// Written so that it is fast in debug builds too: whole blocks are looked at.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    // SAFETY: both ranges lie in the slice.
    bytes.is_empty()
        || bytes[0] == 0
            && unsafe { libc::memcmp(bytes.as_ptr().cast(), bytes.as_ptr().add(1).cast(), bytes.len() - 1) }
                == 0
}

/// What is written where in a block of `len` bytes: all of a small one, of larger ones the ends and a word in each
/// stride. The place depends on the offset, not on the address, so that contents can be followed through a move.
fn words(len: usize, seed: u64) -> impl Iterator<Item = (usize, &'static [u8])> {
    let stride = match len {
        ..257 => 8,
        257..4097 => 128,
        4097..0x80_0001 => 4096,
        _ => 64 << 10,
    };
    let tail = len.saturating_sub(1) / 8 * 8;
    (0..len).step_by(stride).chain((len > 0).then_some(tail)).map(move |offset| {
        let from = (mix(seed.wrapping_add((offset / 8) as u64)) % (NOISE.len() as u64 - 8)) as usize;
        (offset, &NOISE[from..from + (len - offset).min(8)])
    })
}

/// Bytes of noise.
static NOISE: [u8; 1024] = {
    let mut noise = [0; 1024];
    let mut state = 1_u64;
    let mut i = 0;
    while i < noise.len() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        noise[i] = (state >> 56) as u8;
        i += 1;
    }
    noise
};
