//! A value in an arena that somebody owns.

use core::fmt;
use core::marker::PhantomData;
use core::mem;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

/// Owns a value that lies in an arena: its `Drop` runs when the handle goes. The memory comes back with the arena's.
///
/// A handle that is forgotten forgets its value; nothing else happens.
///
/// ```
/// use arenite::arena::{Arena, Owned};
///
/// let arena = Arena::new();
/// let words: Owned<'_, Vec<String>> = arena.alloc_owned(vec!["dropped".to_owned()]);
/// assert_eq!(words.len(), 1);
/// drop(words); // and with it the vector's own buffer
/// ```
pub struct Owned<'a, T: ?Sized> {
    value: NonNull<T>,
    owns: PhantomData<(&'a (), T)>,
}

// SAFETY: the handle is the only way to the value, as with a `Box`.
unsafe impl<T: ?Sized + Send> Send for Owned<'_, T> {}
// SAFETY: a shared handle gives shared references to the value only.
unsafe impl<T: ?Sized + Sync> Sync for Owned<'_, T> {}

impl<'a, T: ?Sized> Owned<'a, T> {
    /// Takes over a value in an arena, as [`leak`](Owned::leak) and [`into_raw`](Owned::into_raw) gave it up.
    ///
    /// # Safety
    /// The value is initialised, nobody else uses it or has it dropped, and its memory is there during `'a`.
    #[must_use]
    pub const unsafe fn from_raw(value: NonNull<T>) -> Owned<'a, T> {
        Owned { value, owns: PhantomData }
    }

    /// Gives the value up without dropping it.
    #[must_use = "the value is never dropped otherwise"]
    pub fn into_raw(this: Self) -> NonNull<T> {
        let value = this.value;
        mem::forget(this);
        value
    }

    /// The value as a plain reference: its `Drop` never runs.
    #[must_use]
    pub fn leak(this: Self) -> &'a mut T
    where
        T: 'a,
    {
        // SAFETY: the handle owned the value, whose memory is there during `'a`.
        unsafe { Owned::into_raw(this).as_mut() }
    }
}

impl<T> Owned<'_, T> {
    /// Moves the value out.
    #[must_use]
    pub fn into_inner(this: Self) -> T {
        // SAFETY: the handle owned the value, and nobody drops it any more.
        unsafe { Owned::into_raw(this).read() }
    }
}

impl<T: ?Sized> Drop for Owned<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the handle owns the value and is gone afterwards.
        unsafe { self.value.drop_in_place() };
    }
}

impl<T: ?Sized> Deref for Owned<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the value is initialised and there; borrowed as the handle is.
        unsafe { self.value.as_ref() }
    }
}

impl<T: ?Sized> DerefMut for Owned<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, mutably.
        unsafe { self.value.as_mut() }
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Owned<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        T::fmt(self, f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for Owned<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        T::fmt(self, f)
    }
}
