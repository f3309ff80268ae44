//! Size classes: 8-byte steps up to 128 bytes, then eight classes a doubling up to 8 MiB, so that a block wastes at
//! most an eighth of the size that was asked for.
//!
//! With `e` the place of the highest bit of `n - 1` (at least 6), the class of `n` is the four highest bits of
//! `n - 1`, counted on over the doublings. Every class from `2^e` to `2^(e+1)` is a multiple of `2^(e-3)`, and a size
//! that was rounded up to its alignment is either a class itself or falls into one that is a multiple of the
//! alignment: so blocks cut from a granule's start have every alignment up to a granule.

use static_assertions::const_assert;

use crate::config::{
    GRANULE, MAGAZINE_BYTES, MIDDLE_MAX, PAGE_MIN, SLAB_BLOCKS_MAX, SLAB_BLOCKS_MIN, SMALL_MAX,
};
use crate::heap::magazine::CAPACITY_MAX;

/// The number of a size class.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(transparent)]
pub(crate) struct SizeClass(u32);

impl SizeClass {
    /// How many classes magazines hold: those up to [`SMALL_MAX`].
    pub(crate) const SMALL: usize = SizeClass::of(SMALL_MAX).index() + 1;
    /// How many classes there are: those up to [`MIDDLE_MAX`].
    pub(crate) const COUNT: usize = SizeClass::of(MIDDLE_MAX).index() + 1;

    /// The class of a size from 1 to [`MIDDLE_MAX`] bytes.
    #[inline(always)]
    pub(crate) const fn of(size: usize) -> SizeClass {
        debug_assert!(size >= 1 && size <= MIDDLE_MAX);
        let last = size - 1;
        let exponent = (last | 64).ilog2();
        SizeClass(((exponent - 6) << 3) + (last >> (exponent - 3)) as u32)
    }

    /// The same for a size of at most [`INLINE_MAX`], by a table: a load in the place of a bit scan and five instructions.
    #[inline(always)]
    pub(crate) const fn of_inline(size: usize) -> SizeClass {
        debug_assert!(size >= 1 && size <= INLINE_MAX);
        SizeClass(INLINE[size.div_ceil(8)] as u32)
    }

    pub(crate) const fn from_index(index: usize) -> SizeClass {
        debug_assert!(index < SizeClass::COUNT);
        SizeClass(index as u32)
    }

    #[inline(always)]
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }

    /// Bytes in a block of this class.
    #[inline]
    pub(crate) const fn size(self) -> usize {
        let index = self.index();
        if index < 8 {
            return (index + 1) * 8;
        }
        (8 + index % 8 + 1) << (index / 8 + 2)
    }

    /// The same for a small class, by a table.
    #[inline(always)]
    pub(crate) const fn small_size(self) -> usize {
        SMALL_SIZES[self.index()] as usize
    }

    /// Granules in a slab (of a small class) or under a block (of a middle class).
    pub(crate) const fn granules(self) -> usize {
        let blocks = if self.index() < SizeClass::SMALL { SLAB_BLOCKS_MIN } else { 1 };
        (self.size() * blocks).div_ceil(GRANULE)
    }

    /// Blocks in a slab of a small class.
    #[inline]
    pub(crate) const fn slab_blocks(self) -> usize {
        SLAB_BLOCKS[self.index()] as usize
    }

    /// Blocks that a magazine of a small class holds at the most.
    #[inline]
    pub(crate) const fn capacity(self) -> usize {
        CAPACITIES[self.index()] as usize
    }

    /// Which block of a slab the byte at `offset` belongs to.
    #[inline]
    pub(crate) const fn block_at(self, offset: usize) -> usize {
        // One multiplication: exact, see the test over every offset.
        ((offset as u64 * RECIPROCALS[self.index()] as u64) >> RECIPROCAL_SHIFT) as usize
    }
}

/// The largest size that the inlined paths serve: blocks below a page carry no mark.
pub(crate) const INLINE_MAX: usize = SizeClass::from_index(SizeClass::of(PAGE_MIN).index() - 1).size();

/// The largest size up to which classes are 8 bytes apart.
pub(crate) const LINEAR_MAX: usize = 128;
const_assert!(SizeClass::of(LINEAR_MAX).index() + 1 == LINEAR_MAX / 8);

/// The class of each multiple of 8 up to [`INLINE_MAX`].
static INLINE: [u8; INLINE_MAX / 8 + 1] = {
    let mut table = [0; INLINE_MAX / 8 + 1];
    let mut i = 1;
    while i < table.len() {
        table[i] = SizeClass::of(i * 8).index() as u8;
        i += 1;
    }
    table
};

const SMALL_SIZES: [u16; SizeClass::SMALL] = {
    let mut table = [0; SizeClass::SMALL];
    let mut index = 0;
    while index < SizeClass::SMALL {
        table[index] = SizeClass::from_index(index).size() as u16;
        index += 1;
    }
    table
};

/// A table, so that no path divides.
static SLAB_BLOCKS: [u16; SizeClass::SMALL] = {
    let mut table = [0; SizeClass::SMALL];
    let mut index = 0;
    while index < SizeClass::SMALL {
        let class = SizeClass::from_index(index);
        let fit = class.granules() * GRANULE / class.size();
        table[index] = if fit > SLAB_BLOCKS_MAX { SLAB_BLOCKS_MAX } else { fit } as u16;
        index += 1;
    }
    table
};

/// As above.
static CAPACITIES: [u8; SizeClass::SMALL] = {
    let mut table = [0; SizeClass::SMALL];
    let mut index = 0;
    while index < SizeClass::SMALL {
        let fit = MAGAZINE_BYTES / SizeClass::from_index(index).size();
        let fit = if fit > CAPACITY_MAX { CAPACITY_MAX } else { fit };
        table[index] = if fit < 2 { 2 } else { fit } as u8;
        index += 1;
    }
    table
};

const RECIPROCAL_SHIFT: u32 = 34;

static RECIPROCALS: [u32; SizeClass::SMALL] = {
    let mut table = [0; SizeClass::SMALL];
    let mut index = 0;
    while index < SizeClass::SMALL {
        let reciprocal = (1_u64 << RECIPROCAL_SHIFT).div_ceil(SizeClass::from_index(index).size() as u64);
        table[index] = reciprocal as u32;
        index += 1;
    }
    table
};

const_assert!(SizeClass::COUNT < 255);
const_assert!(SizeClass::from_index(SizeClass::SMALL - 1).size() == SMALL_MAX);
const_assert!(SizeClass::from_index(SizeClass::COUNT - 1).size() == MIDDLE_MAX);
const_assert!(SizeClass::from_index(SizeClass::COUNT - 1).granules() <= 255);

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch a class that is too small, one that is too large by a step, and waste above an eighth.
    #[test]
    fn every_size_gets_the_smallest_class_that_holds_it() {
        for size in 1..=MIDDLE_MAX {
            let class = SizeClass::of(size);
            assert!(size > INLINE_MAX || SizeClass::of_inline(size) == class);
            assert!(class.size() >= size, "{size}");
            if class.index() > 0 {
                assert!(SizeClass::from_index(class.index() - 1).size() < size, "{size}");
            }
            if size > 64 {
                assert!((class.size() - size) * 8 <= size, "{size} in {}", class.size());
            }
        }
    }

    #[test]
    fn aligned_sizes_get_aligned_blocks() {
        for shift in 0..=16 {
            let align = 1_usize << shift;
            for size in (1..=4096).chain([5000, 9999, 65_537, 100_000, 1_000_001]) {
                let rounded = crate::base::align::up(size, align);
                assert!(SizeClass::of(rounded).size().is_multiple_of(align), "{size} aligned {align}");
            }
        }
    }

    #[test]
    fn offsets_find_their_block() {
        for index in 0..SizeClass::SMALL {
            let class = SizeClass::from_index(index);
            for offset in 0..class.granules() * GRANULE {
                assert_eq!(class.block_at(offset), offset / class.size(), "{offset} of {}", class.size());
            }
        }
    }

    #[test]
    fn slabs_and_magazines_are_bounded() {
        for index in 0..SizeClass::SMALL {
            let class = SizeClass::from_index(index);
            assert!(class.slab_blocks() >= SLAB_BLOCKS_MIN && class.slab_blocks() <= SLAB_BLOCKS_MAX);
            assert!(class.granules() * GRANULE / PAGE_MIN <= 64);
            assert!((2..=CAPACITY_MAX).contains(&class.capacity()));
        }
    }
}
