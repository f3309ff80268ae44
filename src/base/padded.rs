//! Values that must not share a cache line.

use core::ops::Deref;

/// A value with two cache lines to itself: adjacent-line prefetching makes pairs of lines travel together.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

impl<T> Deref for Padded<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}
