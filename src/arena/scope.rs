//! Scopes: what is allocated in one is gone when it ends, and cannot be held longer.
//!
//! Why this is sound. At any time each arena has one *innermost* scope, and only its handle can allocate: making an
//! inner scope borrows the outer handle mutably until the inner one has ended. Values of a scope live for `'s`, its own
//! lifetime, not for the borrow of its handle; so values of the outer scope stay usable inside of the inner one, and
//! they lie below the point that it rewinds to.
//!
//! The point is kept by the guard (on `scope`'s stack, out of the user's reach), the handle only leads to the header.
//! Handles that are swapped therefore swap where one allocates, and nothing else; a guard that is forgotten rewinds
//! nothing. `'s` is invariant, so that no handle passes for one of another scope, and a collection that lives in the
//! outer scope borrows its handle and cannot grow into an inner one's memory.

use core::alloc::Layout;
use core::cell::Cell;
use core::ffi::CStr;
use core::fmt;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ptr::NonNull;

use crate::arena::build::{Slot, Text, as_c_str, as_text, c_text, copy_to, layout, of_any, of_exact};
use crate::arena::cursor::Cursor;
use crate::arena::error::ArenaError;
use crate::arena::header::{Header, Mark};
use crate::arena::methods::{slice_methods, value_methods, with_try_form};
use crate::arena::owned::Owned;

/// Allocates in a scope of an [`Arena`](crate::arena::Arena): what it gives out lives for `'s`.
///
/// Made by [`Arena::scope`](crate::arena::Arena::scope), by a [`ScopeGuard`], or inside of another scope. Collections
/// take `&Scope` for their allocator.
///
/// Nothing gets out:
///
/// ```compile_fail,E0521
/// let mut arena = arenite::Arena::new();
/// let mut kept: Option<&mut u32> = None;
/// arena.scope(|scope| kept = Some(scope.alloc(1)));
/// ```
///
/// ```compile_fail
/// let mut arena = arenite::Arena::new();
/// let escaped: &mut u32 = arena.scope(|scope| scope.alloc(1));
/// ```
///
/// The outer scope allocates again when the inner one has ended, not before:
///
/// ```compile_fail,E0501
/// let mut arena = arenite::Arena::new();
/// arena.scope(|outer| {
///     outer.scope(|_inner| outer.scope(|_| ()));
/// });
/// ```
///
/// ```compile_fail,E0502
/// use allocator_api2::vec::Vec;
/// let mut arena = arenite::Arena::new();
/// arena.scope(|outer| {
///     let mut outer_values: Vec<u32, _> = Vec::new_in(&*outer);
///     outer.scope(|_inner| outer_values.push(1)); // would grow into the inner scope's memory
/// });
/// ```
///
/// Two scopes' handles are of different types:
///
/// ```compile_fail,E0521
/// let (mut a, mut b) = (arenite::Arena::new(), arenite::Arena::new());
/// a.scope(|in_a| b.scope(|in_b| std::mem::swap(in_a, in_b)));
/// ```
pub struct Scope<'s, const MIN_ALIGN: usize = 8> {
    header: NonNull<Header>,
    start: NonNull<u8>,
    /// Invariant, and neither `Send` nor `Sync`.
    life: PhantomData<Cell<&'s mut ()>>,
}

/// Ends a scope when it drops. [`Arena::scope`](crate::arena::Arena::scope) is the simpler way.
///
/// ```
/// let mut arena = arenite::Arena::new();
/// {
///     let mut guard = arena.scope_guard();
///     let scope = guard.scope();
///     let numbers = scope.alloc_slice_fill(100, 7_u64);
///     assert_eq!(numbers.iter().sum::<u64>(), 700);
/// }
/// assert_eq!(arena.used(), 0);
/// ```
///
/// ```compile_fail,E0597
/// let mut arena = arenite::Arena::new();
/// let kept = {
///     let mut guard = arena.scope_guard();
///     guard.scope().alloc(1)
/// };
/// println!("{kept}");
/// ```
pub struct ScopeGuard<'p, const MIN_ALIGN: usize = 8> {
    header: NonNull<Header>,
    mark: Mark,
    parent: PhantomData<&'p mut Header>,
}

/// A point in an arena to come back to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Checkpoint(pub(crate) NonNull<u8>);

impl<'s, const MIN_ALIGN: usize> Scope<'s, MIN_ALIGN> {
    /// # Safety
    /// During `'s` the header is there, this thread's, nothing rewinds its arena below where it is now, and whatever
    /// allocates in it then does so through this handle or inner scopes of it.
    #[inline(always)]
    pub(crate) unsafe fn new(header: NonNull<Header>, start: NonNull<u8>) -> Self {
        Scope { header, start, life: PhantomData }
    }

    #[inline(always)]
    pub(crate) fn header(&self) -> &'s Header {
        // SAFETY: the header is there during `'s`, and is never borrowed mutably.
        unsafe { self.header.as_ref() }
    }

    #[inline(always)]
    pub(crate) fn start_addr(&self) -> usize {
        self.start.addr().get()
    }

    value_methods!('s);
    slice_methods!('s);

    /// A cursor that the compiler can keep in registers over a batch of allocations.
    #[must_use]
    #[inline(always)]
    pub fn cursor(&mut self) -> Cursor<'_, 's, MIN_ALIGN> {
        Cursor::new(self.header())
    }

    /// Runs `body` in an inner scope, as [`Arena::scope`](crate::arena::Arena::scope) does. Values of this scope can be
    /// used in it.
    ///
    /// ```
    /// let mut arena = arenite::Arena::new();
    /// arena.scope(|outer| {
    ///     let sum = outer.alloc(0);
    ///     outer.scope(|inner| *sum = inner.alloc_slice_fill(10, 3).iter().sum());
    ///     assert_eq!(*sum, 30);
    ///     assert_eq!(outer.used(), 8);
    /// });
    /// ```
    #[inline]
    pub fn scope<R>(&mut self, body: impl for<'i> FnOnce(&mut Scope<'i, MIN_ALIGN>) -> R) -> R {
        body(&mut self.scope_guard().scope())
    }

    /// An inner scope that ends when the guard drops.
    #[inline]
    pub fn scope_guard(&mut self) -> ScopeGuard<'_, MIN_ALIGN> {
        ScopeGuard::new(self.header())
    }

    /// Where the scope is now.
    #[must_use]
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint(self.header().cursor.get())
    }

    /// Takes back everything that was allocated after the checkpoint.
    ///
    /// # Safety
    /// The checkpoint is of this scope and not above where it is now, and nothing that was allocated after it is used
    /// any more.
    pub unsafe fn rewind(&self, checkpoint: Checkpoint) {
        debug_assert!(self.start <= checkpoint.0);
        self.header().fall_to(checkpoint.0);
    }
}

impl<const MIN_ALIGN: usize> ScopeGuard<'_, MIN_ALIGN> {
    /// The caller's borrow of the header's arena or scope is mutable and as long as the guard's lifetime.
    #[inline(always)]
    pub(crate) fn new(header: &Header) -> Self {
        ScopeGuard { mark: header.mark(), header: NonNull::from(header), parent: PhantomData }
    }

    #[inline(always)]
    fn header(&self) -> &Header {
        // SAFETY: the header's arena is borrowed for longer than the guard lives.
        unsafe { self.header.as_ref() }
    }

    /// The scope. What it gives out lives until the guard is used again.
    #[inline]
    pub fn scope(&mut self) -> Scope<'_, MIN_ALIGN> {
        // SAFETY: the guard has the arena to itself, is borrowed mutably for the scope's lifetime, and rewinds to no
        // point below where it began.
        unsafe { Scope::new(self.header, self.mark.cursor) }
    }

    /// Takes back everything that was allocated in the scope so far.
    #[inline]
    pub fn rewind(&mut self) {
        self.header().rewind(self.mark);
        self.mark = self.header().mark();
    }
}

impl<const MIN_ALIGN: usize> Drop for ScopeGuard<'_, MIN_ALIGN> {
    #[inline]
    fn drop(&mut self) {
        self.header().rewind(self.mark);
    }
}

impl<const MIN_ALIGN: usize> fmt::Debug for Scope<'_, MIN_ALIGN> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").field("used", &self.used()).field("peak", &self.peak()).finish()
    }
}

impl<const MIN_ALIGN: usize> fmt::Debug for ScopeGuard<'_, MIN_ALIGN> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopeGuard").field("start", &self.mark.cursor).finish()
    }
}
