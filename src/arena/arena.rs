//! The arena itself: its owner, what only the owner may do, and the shared methods.

use core::alloc::Layout;
use core::ffi::CStr;
use core::fmt;
use core::mem::{self, MaybeUninit};
use core::ptr::NonNull;
use std::io;

use static_assertions::{assert_impl_all, assert_not_impl_any, const_assert};

use crate::arena::build::{Slot, Text, as_c_str, as_text, c_text, copy_to, layout, of_any, of_exact};
use crate::arena::cursor::Cursor;
use crate::arena::error::ArenaError;
use crate::arena::header::Header;
use crate::arena::methods::{slice_methods, value_methods, with_try_form};
use crate::arena::options::ArenaOptions;
use crate::arena::owned::Owned;
use crate::arena::scope::{Checkpoint, Scope, ScopeGuard};
use crate::base::bump;
use crate::vm::Mapping;

/// A bump allocator over one contiguous range: see the [module](crate::arena).
///
/// Every block is aligned to `MIN_ALIGN` at least and its size rounded up to it; a power of two up to 256.
///
/// ```
/// use arenite::Arena;
///
/// #[derive(Debug)]
/// struct Node<'a> {
///     name: &'a str,
///     next: Option<&'a Node<'a>>,
/// }
///
/// let mut arena = Arena::new();
/// let last = arena.alloc(Node { name: arena.alloc_str("last"), next: None });
/// let first = arena.alloc(Node { name: "first", next: Some(last) });
/// assert_eq!(first.next.unwrap().name, "last");
/// arena.reset();
/// assert_eq!(arena.used(), 0);
/// ```
///
/// What it holds cannot outlive it, nor a reset:
///
/// ```compile_fail,E0502
/// let mut arena = arenite::Arena::new();
/// let number = arena.alloc(1);
/// arena.reset();
/// println!("{number}");
/// ```
///
/// ```compile_fail,E0505
/// let arena = arenite::Arena::new();
/// let number = arena.alloc(1);
/// drop(arena);
/// println!("{number}");
/// ```
///
/// One thread at a time uses it:
///
/// ```compile_fail,E0277
/// let arena = arenite::Arena::new();
/// std::thread::scope(|threads| {
///     threads.spawn(|| arena.alloc(1));
/// });
/// ```
pub struct Arena<const MIN_ALIGN: usize = 8> {
    header: NonNull<Header>,
}

// SAFETY: the arena owns its header and memory, and no call on it depends on the thread. Values in it are reached
// through borrows of the arena only, which end before it is moved to another thread, and are not dropped by it.
unsafe impl<const MIN_ALIGN: usize> Send for Arena<MIN_ALIGN> {}

assert_impl_all!(Arena: Send);
assert_not_impl_any!(Arena: Sync, Clone);
assert_not_impl_any!(&'static Arena: Send);
assert_not_impl_any!(Scope<'static>: Send, Sync, Clone);
assert_not_impl_any!(ScopeGuard<'static>: Send, Sync);
assert_not_impl_any!(Cursor<'static, 'static>: Send, Sync, Clone);
const_assert!(size_of::<Option<Arena>>() == size_of::<usize>());

impl Arena {
    /// An arena with the default [`ArenaOptions`]. No system call is made if a finished one's reservation waits.
    ///
    /// # Panics
    /// When the system refuses even a small range; [`ArenaOptions::build`] returns that.
    #[must_use]
    #[inline]
    pub fn new() -> Arena {
        ArenaOptions::new().build().expect("addresses for an arena")
    }

    /// As [`new`](Arena::new), with `bytes` committed from the start.
    ///
    /// # Panics
    /// As [`new`](Arena::new), and when the system has no memory for so many bytes.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Arena {
        ArenaOptions::new().capacity(bytes).build().expect("memory for an arena")
    }

    /// Options for an arena.
    pub const fn options() -> ArenaOptions {
        ArenaOptions::new()
    }
}

#[expect(clippy::mut_from_ref, reason = "each call gives out other memory")]
impl<const MIN_ALIGN: usize> Arena<MIN_ALIGN> {
    const MIN_ALIGN_IS_VALID: () = assert!(
        MIN_ALIGN.is_power_of_two() && MIN_ALIGN <= bump::MIN_ALIGN_MAX,
        "the least alignment of an arena is a power of two up to 256"
    );

    /// The header is the arena's from now on, and its cursor is at the first byte.
    #[inline(always)]
    pub(crate) fn from_header(header: NonNull<Header>) -> Self {
        let () = Self::MIN_ALIGN_IS_VALID;
        Arena { header }
    }

    #[inline(always)]
    pub(crate) fn header(&self) -> &Header {
        // SAFETY: the header is there as long as the arena, and is never borrowed mutably.
        unsafe { self.header.as_ref() }
    }

    #[inline(always)]
    pub(crate) fn start_addr(&self) -> usize {
        self.header().first.addr().get()
    }

    /// An arena over private anonymous memory. It takes all of it at once and does not grow.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] or [`io::ErrorKind::InvalidInput`], as
    /// [`Mapping::as_mut_slice`] has it, for every other mapping: see [`over_shared`](Arena::over_shared).
    ///
    /// ```
    /// use arenite::{Arena, vm::MapOptions};
    ///
    /// let arena: Arena = Arena::over(MapOptions::new(1 << 16).populate().map_anonymous()?)?;
    /// assert_eq!(arena.reserved(), 1 << 16);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn over(mut mapping: Mapping) -> io::Result<Self> {
        mapping.as_mut_slice()?;
        Ok(Arena::from_header(Header::over(mapping)))
    }

    /// An arena over any mapping: of a file, a memfd that another process maps too, shared anonymous memory. What was
    /// in the mapping is overwritten. The arena keeps nothing of its own in it: the first block begins at the first
    /// byte that is a multiple of 256, and [`offset_of`](Arena::offset_of) says where a value lies for the others.
    ///
    /// # Safety
    /// As for [`Mapping::as_mut_slice_unchecked`], for as long as the arena lives: the mapping is readable and writable
    /// throughout, its file does not shrink, and nobody changes the bytes of a value that this arena gave out unless
    /// they are meant for that (atomics, say).
    ///
    /// # Panics
    /// If the mapping has no byte at a multiple of 256, nor one ends there: one of less than 256 bytes at an odd offset.
    pub unsafe fn over_shared(mapping: Mapping) -> Self {
        Arena::from_header(Header::over(mapping))
    }

    /// The mapping that the arena was made over. For any other arena the arena itself, reset.
    ///
    /// # Errors
    /// The arena, if it lies in a reservation of its own.
    pub fn into_mapping(mut self) -> Result<Mapping, Self> {
        self.reset();
        // SAFETY: the arena is given away; if it was over a mapping, the header is not used any more.
        match unsafe { Header::into_mapping(self.header) } {
            Some(mapping) => {
                mem::forget(self);
                Ok(mapping)
            }
            None => Err(self),
        }
    }

    value_methods!('_);
    slice_methods!('_);

    /// A cursor that the compiler can keep in registers over a batch of allocations. Its values keep the arena
    /// borrowed mutably; those of a [`Scope::cursor`] do not.
    #[must_use]
    #[inline(always)]
    pub fn cursor(&mut self) -> Cursor<'_, '_, MIN_ALIGN> {
        Cursor::new(self.header())
    }

    /// Runs `body` in a scope: what is allocated in it is gone when it ends, by returning or by a panic.
    ///
    /// ```
    /// let mut arena = arenite::Arena::new();
    /// let total: u64 = arena.scope(|scope| {
    ///     let squares = scope.alloc_slice_with(1000, |n| (n * n) as u64);
    ///     squares.iter().sum()
    /// });
    /// assert_eq!((total, arena.used()), (332_833_500, 0));
    /// ```
    #[inline]
    pub fn scope<R>(&mut self, body: impl for<'s> FnOnce(&mut Scope<'s, MIN_ALIGN>) -> R) -> R {
        body(&mut self.scope_guard().scope())
    }

    /// A scope that ends when the guard drops.
    #[inline]
    pub fn scope_guard(&mut self) -> ScopeGuard<'_, MIN_ALIGN> {
        ScopeGuard::new(self.header())
    }

    /// The arena as its outermost scope, which is not rewound at its end: for values that stay, next to inner scopes.
    ///
    /// ```
    /// let mut arena = arenite::Arena::new();
    /// let mut all = arena.as_scope();
    /// let kept = all.alloc_str("kept");
    /// all.scope(|scope| scope.alloc_str("gone").len());
    /// assert_eq!((&*kept, all.used()), ("kept", 8));
    /// ```
    pub fn as_scope(&mut self) -> Scope<'_, MIN_ALIGN> {
        // SAFETY: the arena is borrowed mutably for the scope's lifetime, so nothing rewinds it.
        unsafe { Scope::new(self.header, self.header().first) }
    }

    /// Where the arena is now.
    #[must_use]
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint(self.header().cursor.get())
    }

    /// Takes back everything that was allocated after the checkpoint.
    ///
    /// # Panics
    /// If the checkpoint is not of this arena or lies above where it is now.
    ///
    /// ```
    /// let mut arena = arenite::Arena::new();
    /// arena.alloc(1);
    /// let checkpoint = arena.checkpoint();
    /// arena.alloc(2);
    /// arena.rewind(checkpoint);
    /// assert_eq!(arena.used(), 8);
    /// ```
    pub fn rewind(&mut self, checkpoint: Checkpoint) {
        let (to, header) = (checkpoint.0.addr().get(), self.header());
        let is_ours =
            header.first.addr().get() <= to && to <= header.cursor_addr() && to.is_multiple_of(MIN_ALIGN);
        assert!(is_ours, "the checkpoint is not of this arena, or lies above where it is now");
        // With `&mut self` nothing of the arena is borrowed, so any point of it will do.
        header.fall_to(header.first.with_addr(checkpoint.0.addr()));
        header.reapply_limit();
    }

    /// Takes everything back. The kept prefix stays committed; what is behind it goes back to the system once the
    /// arena had more than twice as much. A new [`peak`](Arena::peak) begins.
    pub fn reset(&mut self) {
        // SAFETY: with `&mut self` nothing of the arena is borrowed.
        unsafe { self.header().reset() };
    }

    /// Takes everything back, and gives nothing to the system.
    pub fn reset_keep_all(&mut self) {
        self.header().fall_to(self.header().first);
        self.header().high.set(self.start_addr());
        self.header().reapply_limit();
    }

    /// Gives what is committed and not in use back to the system.
    pub fn trim(&mut self) {
        // SAFETY: nothing behind the cursor is anybody's.
        unsafe { self.header().trim_unused() };
    }

    /// Bytes of the arena's range: what it can have in use at the most, unless it has a limit. Less than was asked for
    /// under a limit on address space.
    #[must_use]
    pub fn reserved(&self) -> usize {
        self.header().range_end() - self.start_addr()
    }

    /// Bytes that may still be allocated: to the end of the range, or of the limit. An arena never moves, so at zero it
    /// cannot grow any more.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.header().ceiling.get() - self.header().cursor_addr()
    }

    /// Bytes that may be in use at the most, from now on. `usize::MAX` is no limit. Where more is in use already, that
    /// stays, and no more than that may be in use until the arena is reset or rewound.
    pub fn set_limit(&mut self, bytes: usize) {
        self.header().set_limit(bytes);
    }

    /// Where a value lies, in bytes from the arena's first: in a mapping that others have too, it lies there for them
    /// as well. `None` for what is not in use in this arena.
    #[must_use]
    pub fn offset_of<T: ?Sized>(&self, ptr: *const T) -> Option<usize> {
        self.contains(ptr).then(|| ptr.addr() - self.start_addr())
    }
}

impl Default for Arena {
    fn default() -> Arena {
        Arena::new()
    }
}

impl<const MIN_ALIGN: usize> Drop for Arena<MIN_ALIGN> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the arena is gone, and with it every borrow of what it holds.
        unsafe { Header::release(self.header) };
    }
}

impl<const MIN_ALIGN: usize> fmt::Debug for Arena<MIN_ALIGN> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arena")
            .field("used", &self.used())
            .field("peak", &self.peak())
            .field("committed", &self.committed())
            .field("reserved", &self.reserved())
            .finish()
    }
}
