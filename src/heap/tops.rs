//! The first words of a cache: the top of each class's loaded magazine, behind one that stands for no class and always
//! at the sentinel. What allocates and frees on the fast paths is here.

use crate::base::align;
use crate::heap::magazine::{MAGAZINE_SIZE, Slot};
use crate::heap::size_class::{LINEAR_MAX, SizeClass};
use crate::vm::sanitizer;

/// How many words.
pub(super) const TOPS: usize = SizeClass::SMALL + 1;

/// Bytes in one.
const WORD: usize = size_of::<*mut Slot>();

/// How a thread reaches the tops of its own magazines: through a reference to its [`Cache`], or as a shim knows better.
///
/// Each function is about the word that lies `steps * STEP + FIRST` bytes from the beginning of the thread's cache.
///
/// # Safety
/// An implementation does what is said here, and to no other cache than the calling thread's.
///
/// [`Cache`]: crate::heap::Cache
pub unsafe trait Tops: Copy {
    /// The word.
    ///
    /// # Safety
    /// It is one of the first [`Cache::TOPS`].
    ///
    /// [`Cache::TOPS`]: crate::heap::Cache::TOPS
    unsafe fn load<const STEP: usize, const FIRST: usize>(self, steps: usize) -> *mut *mut u8;

    /// Moves the word, which is `top`, by `BY` bytes.
    ///
    /// # Safety
    /// As for [`Tops::load`], which gave `top`.
    unsafe fn advance<const STEP: usize, const FIRST: usize, const BY: isize>(
        self,
        steps: usize,
        top: *mut *mut u8,
    );
}

/// Takes a block of `class` if the loaded magazine has one; null if not.
#[inline(always)]
pub(super) fn pop(tops: impl Tops, class: SizeClass) -> *mut u8 {
    invariant!(class.index() < SizeClass::SMALL);
    // SAFETY: the class is a small one.
    unsafe { pop_at::<WORD, WORD>(tops, class.index()) }
}

/// The same for a size of 1 to [`LINEAR_MAX`] bytes in the class of the next multiple of 16: every second class, whose
/// tops lie 16 bytes apart.
#[inline(always)]
pub(super) fn pop_sixteens(tops: impl Tops, size: usize) -> *mut u8 {
    let steps = (size - 1) & !15;
    debug_assert!(size <= LINEAR_MAX && steps / 8 + 1 == SizeClass::of(align::up(size, 16)).index());
    // SAFETY: a multiple of a word's size, short of the end of the words of the linear classes.
    unsafe { pop_at::<1, { 2 * WORD }>(tops, steps) }
}

/// # Safety
/// As for [`Tops::load`].
#[inline(always)]
unsafe fn pop_at<const STEP: usize, const FIRST: usize>(tops: impl Tops, steps: usize) -> *mut u8 {
    // SAFETY: passed on to the caller. A top has a slot below it; where that holds a block it is not the floor, and
    // there is one below it, too.
    unsafe {
        let top = tops.load::<STEP, FIRST>(steps);
        let block = *top.sub(1);
        if !block.is_null() {
            tops.advance::<STEP, FIRST, { -(WORD as isize) }>(steps, top);
            sanitizer::forget(top.sub(1));
        }
        block
    }
}

/// Takes back a block of the class with the index `kind - 1` if the loaded magazine has room for it, which it never has
/// where `kind` is zero; else it stays the caller's.
///
/// # Safety
/// `kind` is at most [`SizeClass::SMALL`], and `block`, if `kind` is not zero, a block of that class that is out, and the
/// caller's.
#[inline(always)]
#[must_use]
pub(super) unsafe fn push(tops: impl Tops, kind: usize, block: *mut u8) -> bool {
    // SAFETY: passed on to the caller. A top that is short of a magazine's end is a slot of it, and the magazine is this
    // thread's.
    unsafe {
        let top = tops.load::<WORD, 0>(kind);
        if top.addr().is_multiple_of(MAGAZINE_SIZE) {
            return false;
        }
        *top = block;
        tops.advance::<WORD, 0, { WORD as isize }>(kind, top);
    }
    true
}
