//! Alignment arithmetic on plain integers. Alignments are powers of two.

/// `n` rounded up to a multiple of `align`, or `None` where that overflows.
#[inline]
pub(crate) const fn checked_up(n: usize, align: usize) -> Option<usize> {
    debug_assert!(align.is_power_of_two());
    match n.checked_add(align - 1) {
        Some(sum) => Some(sum & !(align - 1)),
        None => None,
    }
}

/// `n` rounded up to a multiple of `align`; the caller knows that it does not overflow.
#[inline]
pub(crate) const fn up(n: usize, align: usize) -> usize {
    debug_assert!(align.is_power_of_two() && n <= usize::MAX - (align - 1));
    (n + (align - 1)) & !(align - 1)
}

/// `n` rounded down to a multiple of `align`.
#[inline]
pub(crate) const fn down(n: usize, align: usize) -> usize {
    debug_assert!(align.is_power_of_two());
    n & !(align - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_both_ways() {
        assert_eq!((up(0, 16), up(1, 16), up(16, 16), up(17, 16)), (0, 16, 16, 32));
        assert_eq!((down(0, 16), down(15, 16), down(16, 16), down(31, 16)), (0, 0, 16, 16));
    }

    #[test]
    fn overflow_is_none() {
        assert_eq!(checked_up(usize::MAX - 14, 16), None);
        assert_eq!(checked_up(usize::MAX - 15, 16), Some(usize::MAX - 15));
    }
}
