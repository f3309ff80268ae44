//! Where the next block of an arena goes: arithmetic on plain addresses, no pointers.
//!
//! ```text
//!  cursor      start                      end        limit
//!    |  padding  |          size           | rounding  |
//!    v           v                         v           v
//!    +-----------+-------------------------+----+------+
//! ```
//!
//! `start` is the cursor rounded up to the alignment; `end`, the next cursor, is rounded up to the arena's least
//! alignment, so that a block which asks for no more than that needs no padding and no instruction for it.
//!
//! No sum can overflow, and so none is checked: addresses are below [`ADDRESS_MAX`], which whoever makes an arena
//! asserts, and size and alignment are those of a `Layout`.
#![forbid(unsafe_code)]

use static_assertions::const_assert;

use crate::base::align;

/// Arenas lie below this address. User space ends far before it on every 64-bit system.
pub(crate) const ADDRESS_MAX: usize = 1 << 62;

/// The largest least alignment that an arena can have.
pub(crate) const MIN_ALIGN_MAX: usize = 256;

/// A block's place, as addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub(crate) start: usize,
    /// Where the next block may begin: a multiple of the least alignment.
    pub(crate) end: usize,
}

// cursor + (align - 1) + size + (min_align - 1), where `Layout` holds size + (align - 1) <= isize::MAX.
const_assert!(usize::MAX - ADDRESS_MAX - (MIN_ALIGN_MAX - 1) > isize::MAX as usize);

/// The place of a block after `cursor`, which is a multiple of `min_align`; whether it fits is not asked.
#[inline(always)]
pub(crate) const fn place(cursor: usize, size: usize, align: usize, min_align: usize) -> Place {
    debug_assert!(cursor <= ADDRESS_MAX && cursor.is_multiple_of(min_align) && min_align <= MIN_ALIGN_MAX);
    debug_assert!(align.is_power_of_two() && size <= isize::MAX as usize - (align - 1));
    let start = if align <= min_align { cursor } else { align::up(cursor, align) };
    Place { start, end: start + align::up(size, min_align) }
}

/// The end of a block that begins at `start`, as [`place`] has it.
#[inline(always)]
pub(crate) const fn end(start: usize, size: usize, min_align: usize) -> usize {
    start + align::up(size, min_align)
}

/// How far to commit when `needed` bytes from the start must be there, `committed` are, and `bound` is the end of the
/// range: in steps that grow with what is in use, by one part in `2^shift`, at least `step`. All in bytes from
/// the start; `unit` is a power of two that the result is a multiple of, unless it is `bound`.
pub(crate) const fn commit_to(
    needed: usize,
    committed: usize,
    bound: usize,
    step: usize,
    shift: u32,
    unit: usize,
) -> usize {
    debug_assert!(committed <= needed && needed <= bound && bound < ADDRESS_MAX);
    let share = committed >> shift;
    let more = if share > step { share } else { step };
    let more = if more > bound { bound } else { more };
    let wanted = if committed + more > needed { committed + more } else { needed };
    let rounded = align::up(wanted, unit);
    if rounded > bound { bound } else { rounded }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Would catch an end that wraps, a start off its alignment, a cursor off the least one. Wide numbers are the
        /// model: they cannot wrap.
        #[test]
        fn places_as_wide_numbers_do(cursor in 0..=ADDRESS_MAX, size in 0..=isize::MAX as usize, bits in 0u32..63,
                                     small in 0usize..5000, min_bits in 0u32..=8, is_small in any::<bool>()) {
            let min_align = 1 << min_bits;
            let align = 1_usize << bits;
            let cursor = cursor & !(min_align - 1);
            let size = if is_small { small } else { size }.min(isize::MAX as usize - (align - 1));
            let found = place(cursor, size, align, min_align);
            let wide_start = (cursor as u128).next_multiple_of(align as u128);
            let wide_end = wide_start + (size as u128).next_multiple_of(min_align as u128);
            prop_assert_eq!(found.start as u128, wide_start);
            prop_assert_eq!(found.end as u128, wide_end);
            prop_assert_eq!(end(found.start, size, min_align), found.end);
            prop_assert!(found.end.is_multiple_of(min_align) || align < min_align);
        }

        /// Would catch a step that falls short, passes the range, or asks for far more than was in use.
        #[test]
        fn commits_enough_and_in_proportion(bound in 1usize..1 << 40, a in any::<usize>(), b in any::<usize>(),
                                            step in 1usize..1 << 24, shift in 0u32..8, unit_bits in 0u32..22) {
            let needed = a % (bound + 1);
            let committed = b % (needed + 1);
            let unit = 1_usize << unit_bits;
            let to = commit_to(needed, committed, bound, step, shift, unit);
            prop_assert!(needed <= to && to <= bound);
            prop_assert!(to == bound || to.is_multiple_of(unit));
            prop_assert!(to <= needed.max(committed + step.max(committed >> shift)) + unit);
        }
    }

    #[test]
    fn the_largest_layout_does_not_wrap() {
        let size = isize::MAX as usize;
        assert_eq!(place(ADDRESS_MAX, size, 1, 256).end, ADDRESS_MAX + (1 << 63));
    }
}
