//! Four-byte references, and the handle that gives and takes them.
//!
//! An [`Offset`] counts from its arena's start, in units of its type's alignment. It is checked twice: when it is made, that
//! the value lies in this arena; when it is used, by the compiler, that it is used with the same arena. For that both carry
//! a lifetime that no other arena's handle has: a [`Handle`] is only ever given to a closure that must take any lifetime,
//! and is invariant in it. The lifetime also says how long the value is there.

use core::alloc::Layout;
use core::cell::Cell;
use core::cmp::Ordering;
use core::ffi::CStr;
use core::fmt;
use core::hash::{Hash, Hasher};
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::num::NonZero;
use core::ptr::NonNull;

use static_assertions::const_assert;

use crate::arena::Arena;
use crate::arena::build::{Slot, Text, as_c_str, as_text, c_text, copy_to, layout, of_any, of_exact};
use crate::arena::error::ArenaError;
use crate::arena::header::{self, Header};
use crate::arena::methods::{slice_methods, value_methods, with_try_form};
use crate::arena::owned::Owned;

/// Invariant in the lifetime that stands for one arena.
type Brand<'id> = PhantomData<Cell<&'id ()>>;

/// Invariant too, `Send` and `Sync`: what an offset carries.
type SharedBrand<'id> = PhantomData<fn(&'id ()) -> &'id ()>;

/// A shared borrow of one arena, which allocates as the arena does and makes and takes [`Offset`]s.
pub struct Handle<'id, const MIN_ALIGN: usize = 8> {
    arena: &'id Arena<MIN_ALIGN>,
    brand: Brand<'id>,
}

/// A reference to a `T` in the arena `'id`, four bytes long; `Option<Offset>` is no longer. Reaches 4 GiB of bytes,
/// 32 GiB of values that are aligned to eight.
///
/// ```
/// use arenite::arena::{Arena, Offset};
///
/// struct Tree<'id> {
///     children: [Option<Offset<'id, Tree<'id>>>; 2],
///     value: u32,
/// }
/// assert_eq!(size_of::<Tree<'_>>(), 12);
///
/// Arena::new().with_handle(|arena| {
///     let leaf = arena.offset(arena.alloc(Tree { children: [None; 2], value: 7 }));
///     let root = arena.alloc(Tree { children: [Some(leaf), None], value: 1 });
///     assert_eq!(arena.get(root.children[0].unwrap()).value, 7);
/// });
/// ```
///
/// One arena's offset means nothing in another:
///
/// ```compile_fail,E0521
/// use arenite::Arena;
/// Arena::new().with_handle(|a| {
///     Arena::new().with_handle(|b| {
///         let offset = a.offset(a.alloc(1));
///         b.get(offset);
///     });
/// });
/// ```
pub struct Offset<'id, T> {
    units: NonZero<u32>,
    brand: SharedBrand<'id>,
    value: PhantomData<&'id T>,
}

/// As [`Offset`], for a slice: eight bytes long.
pub struct SliceOffset<'id, T> {
    first: Offset<'id, T>,
    len: u32,
}

const_assert!(size_of::<Option<Offset<'static, u64>>>() == 4);
const_assert!(size_of::<Option<SliceOffset<'static, u64>>>() == 8);

impl<const MIN_ALIGN: usize> Arena<MIN_ALIGN> {
    /// Runs `body` with a handle that makes and takes [`Offset`]s. To keep them longer, see
    /// [`Rooted`](crate::arena::Rooted).
    pub fn with_handle<R>(&self, body: impl for<'id> FnOnce(Handle<'id, MIN_ALIGN>) -> R) -> R {
        body(Handle { arena: self, brand: PhantomData })
    }
}

impl<'id, const MIN_ALIGN: usize> Handle<'id, MIN_ALIGN> {
    /// # Safety
    /// `'id` is the arena's alone: whoever gets the handle cannot have one of another arena with the same lifetime.
    pub(crate) unsafe fn new(arena: &'id Arena<MIN_ALIGN>) -> Self {
        Handle { arena, brand: PhantomData }
    }

    #[inline(always)]
    fn header(&self) -> &'id Header {
        self.arena.header()
    }

    #[inline(always)]
    fn start_addr(&self) -> usize {
        self.arena.start_addr()
    }

    value_methods!('id);
    slice_methods!('id);

    /// The arena: an allocator for collections, say.
    #[must_use]
    pub fn arena(self) -> &'id Arena<MIN_ALIGN> {
        self.arena
    }

    /// Where the value lies.
    ///
    /// # Panics
    /// Where [`try_offset`](Handle::try_offset) is `None`.
    #[must_use]
    #[track_caller]
    pub fn offset<T>(self, value: &'id T) -> Offset<'id, T> {
        self.try_offset(value).expect("the value is not in this arena, or out of an offset's reach")
    }

    /// Where the value lies; `None` if that is not in this arena, or out of an offset's reach.
    #[must_use]
    pub fn try_offset<T>(self, value: &'id T) -> Option<Offset<'id, T>> {
        let place = NonNull::from(value);
        if size_of::<T>() == 0 {
            // Lies nowhere; any place would do.
            return Some(Offset::new(NonZero::<u32>::MIN));
        }
        if !self.arena.contains(place.as_ptr()) {
            return None;
        }
        let bytes = place.addr().get() - self.start::<T>();
        let units = u32::try_from(bytes / align_of::<T>()).ok().and_then(NonZero::new)?;
        Some(Offset::new(units))
    }

    /// The value.
    #[must_use]
    #[inline(always)]
    pub fn get<T>(self, offset: Offset<'id, T>) -> &'id T {
        if size_of::<T>() == 0 {
            // SAFETY: nothing is read, and a value of the type was seen when the offset was made.
            return unsafe { NonNull::dangling().as_ref() };
        }
        // SAFETY: the offset has this arena's lifetime, so it was made from a `&'id T` in it by `try_offset`.
        unsafe { self.place(offset).as_ref() }
    }

    /// Where the slice lies.
    ///
    /// # Panics
    /// If that is not in this arena, out of an offset's reach, or longer than `u32::MAX` values.
    #[must_use]
    #[track_caller]
    pub fn slice_offset<T>(self, values: &'id [T]) -> SliceOffset<'id, T> {
        let len = u32::try_from(values.len()).expect("a slice offset counts up to u32::MAX values");
        let first = values.first().map_or(Offset::new(NonZero::<u32>::MIN), |first| self.offset(first));
        SliceOffset { first, len }
    }

    /// The slice.
    #[must_use]
    pub fn slice<T>(self, offset: SliceOffset<'id, T>) -> &'id [T] {
        if offset.len == 0 {
            return &[];
        }
        let first = if size_of::<T>() == 0 { NonNull::dangling() } else { self.place(offset.first) };
        // SAFETY: the offset was made from a `&'id [T]` in this arena, of this length.
        unsafe { NonNull::slice_from_raw_parts(first, offset.len as usize).as_ref() }
    }

    /// The place of a value that is not of size zero.
    #[inline(always)]
    fn place<T>(self, offset: Offset<'id, T>) -> NonNull<T> {
        let at = self.start::<T>() + offset.units.get() as usize * align_of::<T>();
        debug_assert!(self.arena.contains(core::ptr::without_provenance::<T>(at)));
        // SAFETY: an offset leads to a value in this arena.
        unsafe { header::at(self.arena.header().first, at) }.cast()
    }

    /// What offsets count from: a multiple of the type's alignment below the first byte, so that none is zero.
    #[inline(always)]
    fn start<T>(self) -> usize {
        (self.arena.header().first.addr().get() - 1) & !(align_of::<T>() - 1)
    }
}

impl<const MIN_ALIGN: usize> Clone for Handle<'_, MIN_ALIGN> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<const MIN_ALIGN: usize> Copy for Handle<'_, MIN_ALIGN> {}

impl<const MIN_ALIGN: usize> fmt::Debug for Handle<'_, MIN_ALIGN> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.arena.fmt(f)
    }
}

impl<T> Offset<'_, T> {
    fn new(units: NonZero<u32>) -> Self {
        Offset { units, brand: PhantomData, value: PhantomData }
    }
}

impl<T> Clone for Offset<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Offset<'_, T> {}

impl<T> PartialEq for Offset<'_, T> {
    /// Whether both lead to the same place.
    fn eq(&self, other: &Self) -> bool {
        self.units == other.units
    }
}

impl<T> Eq for Offset<'_, T> {}

impl<T> PartialOrd for Offset<'_, T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Offset<'_, T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.units.cmp(&other.units)
    }
}

impl<T> Hash for Offset<'_, T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.units.hash(state);
    }
}

impl<T> fmt::Debug for Offset<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Offset({})", u64::from(self.units.get()) * align_of::<T>() as u64)
    }
}

impl<T> Clone for SliceOffset<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for SliceOffset<'_, T> {}

impl<T> fmt::Debug for SliceOffset<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}[{}]", self.first, self.len)
    }
}
