//! How the bytes that were asked for lie in the pages that the kernel maps: pure arithmetic, no pointers, no
//! calls.
//!
//! ```text
//!        file offset, rounded down                                    rounded up
//!        v                                                                     v
//!        +------------+-----------------------------------------------+--------+
//!        |    lead    |               len: what was asked             |        |
//!        +------------+-----------------------------------------------+--------+
//!        ^            ^ the pointer that users get
//!        base         <--------------- mapped_len, from base ------------------>
//! ```
//!
//! A *granule* is the unit that the kernel rounds this mapping to: a page, or a huge page. Invariants, held by
//! [`Extent::check`]: `lead < granule`, `len > 0`, `mapped_len` is `lead + len` rounded up to a granule and no
//! more than `isize::MAX`. Ranges that users give are in bytes of `0..len`.
#![forbid(unsafe_code)]

use core::fmt;
use core::ops::{Bound, Range, RangeBounds};

use crate::base::align;

/// See the file's head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Extent {
    granule: usize,
    lead: usize,
    len: usize,
    mapped_len: usize,
}

/// Why a length, an offset or a range cannot be used. Names the argument and its value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Misfit {
    ZeroLen,
    LenTooLarge { len: usize, lead: usize, granule: usize },
    OffsetTooLarge { offset: u64, len: usize },
    Outside { range: Range<usize>, len: usize },
    Unaligned { range: Range<usize>, granule: usize },
    SplitOutside { at: usize, len: usize },
    SplitUnaligned { at: usize, granule: usize },
    NotLonger { new_len: usize, len: usize },
    NotShorter { new_len: usize, len: usize },
}

impl Extent {
    /// `len` bytes from `offset` in a file, and the offset to give to the kernel. `granule` is a power of two.
    pub(crate) fn new(len: usize, offset: u64, granule: usize) -> Result<(Extent, u64), Misfit> {
        debug_assert!(granule.is_power_of_two());
        // Less than a granule, so it fits.
        let lead = (offset % granule as u64) as usize;
        let extent = Extent::with_lead(len, lead, granule)?;
        let start = offset - lead as u64;
        // The kernel's offsets are signed 64-bit numbers.
        match start.checked_add(extent.mapped_len as u64) {
            Some(end) if i64::try_from(end).is_ok() => Ok((extent, start)),
            _ => Err(Misfit::OffsetTooLarge { offset, len }),
        }
    }

    fn with_lead(len: usize, lead: usize, granule: usize) -> Result<Extent, Misfit> {
        if len == 0 {
            return Err(Misfit::ZeroLen);
        }
        let rounded = len.checked_add(lead).and_then(|sum| align::checked_up(sum, granule));
        match rounded.filter(|&rounded| isize::try_from(rounded).is_ok()) {
            Some(mapped_len) => Ok(Extent { granule, lead, len, mapped_len }.check()),
            None => Err(Misfit::LenTooLarge { len, lead, granule }),
        }
    }

    fn check(self) -> Extent {
        debug_assert!(self.granule.is_power_of_two() && self.lead < self.granule && self.len > 0);
        debug_assert!(isize::try_from(self.mapped_len).is_ok());
        debug_assert_eq!(self.mapped_len, align::up(self.lead + self.len, self.granule));
        self
    }

    pub(crate) const fn granule(self) -> usize {
        self.granule
    }

    pub(crate) const fn lead(self) -> usize {
        self.lead
    }

    pub(crate) const fn len(self) -> usize {
        self.len
    }

    pub(crate) const fn mapped_len(self) -> usize {
        self.mapped_len
    }

    /// The same start, `new_len` bytes long, longer than before.
    pub(crate) fn grown(self, new_len: usize) -> Result<Extent, Misfit> {
        if new_len < self.len {
            return Err(Misfit::NotLonger { new_len, len: self.len });
        }
        Extent::with_lead(new_len, self.lead, self.granule)
    }

    /// The same start, `new_len` bytes long, shorter than before.
    pub(crate) fn shrunk(self, new_len: usize) -> Result<Extent, Misfit> {
        if new_len > self.len {
            return Err(Misfit::NotShorter { new_len, len: self.len });
        }
        Extent::with_lead(new_len, self.lead, self.granule)
    }

    /// Two extents, the second from byte `at` on. Neither is empty, and the cut lies between two granules.
    pub(crate) fn split(self, at: usize) -> Result<(Extent, Extent), Misfit> {
        if at == 0 || at >= self.len {
            return Err(Misfit::SplitOutside { at, len: self.len });
        }
        let cut = self.lead + at;
        if !cut.is_multiple_of(self.granule) {
            return Err(Misfit::SplitUnaligned { at, granule: self.granule });
        }
        let left = Extent { len: at, mapped_len: cut, ..self };
        let right =
            Extent { lead: 0, len: self.len - at, mapped_len: self.mapped_len - cut, granule: self.granule };
        Ok((left.check(), right.check()))
    }

    /// The granules that `range` is made of, counted in bytes from the base. The edges of the range lie between
    /// two granules or are the mapping's own: a call for them reaches no byte that was not meant.
    pub(crate) fn pages(self, range: Range<usize>) -> Result<Range<usize>, Misfit> {
        let range = self.inside(range)?;
        let edge = |at: usize| match at {
            0 => Some(0),
            at if at == self.len => Some(self.mapped_len),
            at => Some(self.lead + at).filter(|edge| edge.is_multiple_of(self.granule)),
        };
        match (edge(range.start), edge(range.end)) {
            (Some(start), Some(end)) => Ok(start..end),
            _ => Err(Misfit::Unaligned { range, granule: self.granule }),
        }
    }

    /// The granules that hold any byte of `range`, counted in bytes from the base: for calls that do no harm to
    /// the bytes beside the range.
    pub(crate) fn covering(self, range: Range<usize>) -> Result<Range<usize>, Misfit> {
        let range = self.inside(range)?;
        let start = align::down(self.lead + range.start, self.granule);
        // At most `mapped_len`, so it does not overflow.
        let end = if range.is_empty() { start } else { align::up(self.lead + range.end, self.granule) };
        Ok(start..end)
    }

    fn inside(self, range: Range<usize>) -> Result<Range<usize>, Misfit> {
        let fits = range.start <= range.end && range.end <= self.len;
        if fits { Ok(range) } else { Err(Misfit::Outside { range, len: self.len }) }
    }
}

/// `range` with its open ends filled in from a mapping of `len` bytes. A bound past `usize::MAX` stays there,
/// which is outside of every mapping.
pub(crate) fn resolve(range: impl RangeBounds<usize>, len: usize) -> Range<usize> {
    let start = match range.start_bound() {
        Bound::Included(&at) => at,
        Bound::Excluded(&at) => at.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&at) => at.saturating_add(1),
        Bound::Excluded(&at) => at,
        Bound::Unbounded => len,
    };
    start..end
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Misfit::ZeroLen => write!(f, "len=0: a mapping has at least one byte"),
            Misfit::LenTooLarge { len, lead, granule } => {
                write!(f, "len={len}: too large when rounded to pages of {granule} bytes")?;
                if *lead > 0 {
                    write!(f, " together with the {lead} bytes before the offset")
                } else {
                    Ok(())
                }
            }
            Misfit::OffsetTooLarge { offset, len } => {
                write!(f, "offset={offset}: with len={len} it is past the largest offset of a file")
            }
            Misfit::Outside { range, len } => {
                write!(f, "range={range:?}: not inside of the mapping, which has len={len}")
            }
            Misfit::Unaligned { range, granule } => {
                write!(f, "range={range:?}: an edge is neither the mapping's own nor between two pages of ")?;
                write!(f, "{granule} bytes")
            }
            Misfit::SplitOutside { at, len } => {
                write!(f, "at={at}: both parts need a byte, and the mapping has len={len}")
            }
            Misfit::SplitUnaligned { at, granule } => {
                write!(f, "at={at}: not between two pages of {granule} bytes")
            }
            Misfit::NotLonger { new_len, len } => write!(f, "new_len={new_len}: less than len={len}"),
            Misfit::NotShorter { new_len, len } => write!(f, "new_len={new_len}: more than len={len}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 4, 16, 64 KiB, 2 MiB, 1 GiB: bits of the granules that exist.
    fn granule() -> impl Strategy<Value = usize> {
        prop::sample::select(vec![12u32, 14, 16, 21, 30]).prop_map(|bits| 1 << bits)
    }

    /// Numbers near zero, near multiples of a granule and near the top.
    fn number() -> impl Strategy<Value = u64> {
        let near = (any::<u64>(), 0u32..64, -2i64..=2)
            .prop_map(|(n, bits, off)| (n >> bits << (bits / 2)).wrapping_add_signed(off));
        prop_oneof![0u64..1 << 20, near, (0u64..4096).prop_map(|n| u64::MAX - n)]
    }

    proptest! {
        /// Would catch a rounding that loses an asked byte, maps a granule too many, or wraps.
        #[test]
        fn covers_exactly_what_was_asked(len in number(), offset in number(), granule in granule()) {
            // Wide numbers are the model: they cannot wrap.
            let (wide_len, wide_offset, wide_granule) = (u128::from(len), u128::from(offset), granule as u128);
            let start = wide_offset / wide_granule * wide_granule;
            let end = (wide_offset + wide_len).div_ceil(wide_granule) * wide_granule;
            let fits = len > 0 && end - start <= isize::MAX as u128 && end <= i64::MAX as u128;
            match Extent::new(len as usize, offset, granule) {
                Ok((extent, kernel_offset)) => {
                    prop_assert!(fits);
                    prop_assert_eq!(u128::from(kernel_offset), start);
                    prop_assert_eq!(extent.mapped_len() as u128, end - start);
                    prop_assert_eq!(start + extent.lead() as u128, wide_offset);
                    prop_assert_eq!(extent.len() as u64, len);
                }
                Err(misfit) => prop_assert!(!fits, "refused {len} at {offset}: {misfit}"),
            }
        }

        /// Would catch a range that reaches a neighbour, or an aligned one that is refused.
        #[test]
        fn ranges_stay_inside(len in 1usize..1 << 24, offset in 0u64..1 << 24, a in 0usize..1 << 25,
                              b in 0usize..1 << 25, snap in any::<bool>(), granule in granule()) {
            let (extent, _) = Extent::new(len, offset, granule).unwrap();
            let at_page = |n: usize| (align::down(n, granule) + granule - extent.lead()) % (1 << 25);
            let (a, b) = if snap { (at_page(a), at_page(b)) } else { (a, b) };
            let inside = a <= b && b <= len;
            let edge = |n: usize| n == 0 || n == len || (extent.lead() + n).is_multiple_of(granule);
            match extent.pages(a..b) {
                Ok(pages) => {
                    prop_assert!(inside && edge(a) && edge(b));
                    prop_assert!(pages.start <= pages.end && pages.end <= extent.mapped_len());
                    prop_assert!(pages.start.is_multiple_of(granule) && pages.end.is_multiple_of(granule));
                    prop_assert_eq!(pages.is_empty(), a == b);
                    prop_assert_eq!(extent.covering(a..b).unwrap().len(), pages.len());
                }
                Err(Misfit::Outside { .. }) => prop_assert!(!inside),
                Err(_) => prop_assert!(inside && !(edge(a) && edge(b))),
            }
            if let Ok(pages) = extent.covering(a..b) {
                prop_assert!(inside && pages.start <= extent.lead() + a && pages.end <= extent.mapped_len());
                prop_assert!(a == b || extent.lead() + b <= pages.end);
            }
        }

        /// Would catch two owners of one granule, or a granule without one.
        #[test]
        fn split_parts_meet(len in 1usize..1 << 24, offset in 0u64..1 << 24, at in 0usize..1 << 24,
                            snap in any::<bool>(), granule in granule()) {
            let (extent, _) = Extent::new(len, offset, granule).unwrap();
            let at = if snap { (align::down(at, granule) + granule - extent.lead()) % (1 << 24) } else { at };
            match extent.split(at) {
                Ok((left, right)) => {
                    prop_assert_eq!(left.mapped_len() + right.mapped_len(), extent.mapped_len());
                    prop_assert_eq!(left.len() + right.len(), len);
                    prop_assert_eq!(left.lead() + left.len(), left.mapped_len());
                    prop_assert_eq!(right.lead(), 0);
                }
                Err(Misfit::SplitOutside { .. }) => prop_assert!(at == 0 || at >= len),
                Err(_) => prop_assert!(!(extent.lead() + at).is_multiple_of(granule)),
            }
        }

        #[test]
        fn resizing_keeps_the_start(len in 1usize..1 << 24, offset in 0u64..1 << 24, new in 0usize..1 << 25,
                                    granule in granule()) {
            let (extent, _) = Extent::new(len, offset, granule).unwrap();
            let fresh = Extent::new(new, offset, granule).map(|(fresh, _)| fresh);
            prop_assert_eq!(extent.grown(new).is_ok(), new >= len);
            prop_assert_eq!(extent.shrunk(new).is_ok(), new <= len && new > 0);
            prop_assert!(extent.grown(new).ok().into_iter().chain(extent.shrunk(new).ok())
                .all(|resized| Ok(resized) == fresh));
        }
    }

    #[test]
    fn open_ranges_are_filled_in() {
        assert_eq!(resolve(.., 10), 0..10);
        assert_eq!(resolve(3.., 10), 3..10);
        assert_eq!(resolve(..=3, 10), 0..4);
        assert_eq!(resolve((Bound::Excluded(3), Bound::Unbounded), 10), 4..10);
        assert_eq!(resolve(0..=usize::MAX, 10), 0..usize::MAX);
    }

    #[test]
    fn messages_name_argument_and_value() {
        let text =
            |result: Result<_, Misfit>| result.err().map(|misfit| misfit.to_string()).unwrap_or_default();
        assert!(text(Extent::new(0, 0, 4096)).starts_with("len=0: "));
        assert!(text(Extent::new(usize::MAX, 0, 4096)).contains("len=18446744073709551615: "));
        assert!(text(Extent::new(1, u64::MAX, 4096)).starts_with("offset=18446744073709551615: "));
    }
}
