//! An arena and what is in it, in one value that can be moved, stored and returned.
//!
//! The root's type depends on the lifetime of the arena that it lies in, which has no name outside of the struct. A
//! [`Root`] says what the type is for each lifetime; every access is by a closure that must take any lifetime, so that
//! nothing of the arena gets out and nothing of a shorter life gets in. The lifetime that a closure sees is also the
//! arena's brand: [`Offset`](crate::arena::Offset)s that one closure stored, another can use.
//!
//! The root lies in the arena, and so does the arena's own handle: both are reached through pointers, so that moving the
//! struct invalidates no reference (a `&mut` in a struct that is moved would be a promise that nobody else has it).

use core::fmt;
use core::marker::PhantomData;
use core::ptr::NonNull;

use crate::arena::Arena;
use crate::arena::offset::{Handle, Offset, SliceOffset};

/// A type for each lifetime: what a [`Rooted`] holds.
pub trait Root {
    /// The root in an arena that lives for `'a`.
    type In<'a>;
}

/// An arena together with a root that is allocated in it.
///
/// ```
/// use arenite::arena::{Arena, Root, Rooted};
///
/// struct Words;
/// impl Root for Words {
///     type In<'a> = &'a [&'a str];
/// }
///
/// fn split(text: &str) -> Rooted<Words> {
///     Rooted::new(Arena::new(), |arena| {
///         &*arena.alloc_slice_iter(text.split(' ').map(|word| &*arena.alloc_str(word)))
///     })
/// }
///
/// let words = split("moved out of its function");
/// assert_eq!(words.with(|_, words| words.len()), 5);
/// ```
///
/// Nothing of it gets out, and nothing of a shorter life gets in:
///
/// ```compile_fail
/// # use arenite::arena::{Arena, Root, Rooted};
/// # struct Text;
/// # impl Root for Text { type In<'a> = &'a str; }
/// let rooted: Rooted<Text> = Rooted::new(Arena::new(), |arena| &*arena.alloc_str("text"));
/// let escaped: &str = rooted.with(|_, text| *text);
/// ```
///
/// ```compile_fail,E0597
/// # use arenite::arena::{Arena, Root, Rooted};
/// # struct Text;
/// # impl Root for Text { type In<'a> = &'a str; }
/// let short = String::from("short");
/// let rooted: Rooted<Text> = Rooted::new(Arena::new(), |_| short.as_str());
/// ```
///
/// ```compile_fail,E0521
/// # use arenite::arena::{Arena, Root, Rooted};
/// # struct Text;
/// # impl Root for Text { type In<'a> = std::cell::Cell<&'a str>; }
/// # let one: Rooted<Text> = Rooted::new(Arena::new(), |_| std::cell::Cell::new(""));
/// # let two: Rooted<Text> = Rooted::new(Arena::new(), |_| std::cell::Cell::new(""));
/// one.with(|_, one| two.with(|_, two| one.swap(two)));
/// ```
pub struct Rooted<R: Root, const MIN_ALIGN: usize = 8> {
    /// In the arena that it owns. Never borrowed mutably.
    arena: NonNull<Arena<MIN_ALIGN>>,
    /// In the arena. The lifetime stands for one that ends when this struct does.
    root: NonNull<R::In<'static>>,
    /// Invariant in `R`, whatever the root's type is.
    family: PhantomData<fn(R) -> R>,
}

// SAFETY: the struct owns the arena, which is `Send`, and the root, which is if its type is at every lifetime. Whatever else
// is in the arena is reached through the root.
unsafe impl<R: Root, const MIN_ALIGN: usize> Send for Rooted<R, MIN_ALIGN> where for<'a> R::In<'a>: Send {}

impl<R: Root, const MIN_ALIGN: usize> Rooted<R, MIN_ALIGN> {
    /// Builds the root in the arena. What `build` needs from outside it must own, or it must live for ever.
    ///
    /// # Panics
    /// If the arena has no room for the root, or `build` panics.
    pub fn new(
        arena: Arena<MIN_ALIGN>,
        build: impl for<'a> FnOnce(Handle<'a, MIN_ALIGN>) -> R::In<'a>,
    ) -> Self {
        match Rooted::try_new(arena, |handle| Ok::<_, core::convert::Infallible>(build(handle))) {
            Ok(rooted) => rooted,
            Err(never) => match never {},
        }
    }

    /// As [`new`](Rooted::new), if `build` can.
    ///
    /// # Errors
    /// What `build` says. The arena is gone then.
    ///
    /// # Panics
    /// As for [`new`](Rooted::new).
    pub fn try_new<E>(
        arena: Arena<MIN_ALIGN>,
        build: impl for<'a> FnOnce(Handle<'a, MIN_ALIGN>) -> Result<R::In<'a>, E>,
    ) -> Result<Self, E> {
        let slot = NonNull::from(arena.alloc_uninit::<Arena<MIN_ALIGN>>()).cast::<Arena<MIN_ALIGN>>();
        // SAFETY: the slot was made for it. From here on the arena is reached there only.
        unsafe { slot.write(arena) };
        let owner = Owner(slot);
        // SAFETY: the arena is there until the owner drops it, and not borrowed mutably. `build` takes any lifetime, so it
        // has no other handle with this one.
        let handle = unsafe { Handle::new(slot.as_ref()) };
        let place = NonNull::from(handle.alloc_uninit::<R::In<'static>>()).cast();
        let root = build(handle)?;
        // SAFETY: the place was made for it; types that differ in lifetimes only are laid out alike.
        unsafe { place.cast().write(root) };
        core::mem::forget(owner);
        Ok(Rooted { arena: slot, root: place, family: PhantomData })
    }

    /// Looks at the root, and may allocate more.
    pub fn with<T>(&self, look: impl for<'a> FnOnce(Handle<'a, MIN_ALIGN>, &R::In<'a>) -> T) -> T {
        // SAFETY: arena and root are there as long as this struct, the root is borrowed as it is. `look` takes any
        // lifetime.
        unsafe { look(Handle::new(self.arena.as_ref()), self.root.cast().as_ref()) }
    }

    /// Changes the root, and may allocate more.
    pub fn with_mut<T>(
        &mut self,
        change: impl for<'a> FnOnce(Handle<'a, MIN_ALIGN>, &mut R::In<'a>) -> T,
    ) -> T {
        // SAFETY: as in `with`; the root is borrowed mutably, as this struct is.
        unsafe { change(Handle::new(self.arena.as_ref()), self.root.cast().as_mut()) }
    }

    /// Bytes in use in the arena.
    #[must_use]
    pub fn used(&self) -> usize {
        // SAFETY: the arena is there as long as this struct.
        unsafe { self.arena.as_ref() }.used()
    }

    /// Drops the root and gives the arena back, reset.
    #[must_use]
    pub fn into_arena(self) -> Arena<MIN_ALIGN> {
        let this = core::mem::ManuallyDrop::new(self);
        let owner = Owner(this.arena);
        // SAFETY: the root is dropped once, here, and the arena moved out of what is not used again.
        unsafe {
            this.root.drop_in_place();
            core::mem::forget(owner);
            let mut arena = this.arena.read();
            arena.reset();
            arena
        }
    }

    /// The same, read-only and shareable between threads. What the arena has left over goes back to the system.
    #[must_use]
    pub fn into_frozen(self) -> Frozen<R, MIN_ALIGN> {
        // SAFETY: nobody has the arena borrowed, and what lies behind its cursor is nobody's.
        unsafe { self.arena.as_ref().header().trim_unused() };
        Frozen(self)
    }
}

/// Drops an arena that lies in itself.
struct Owner<const MIN_ALIGN: usize>(NonNull<Arena<MIN_ALIGN>>);

impl<const MIN_ALIGN: usize> Drop for Owner<MIN_ALIGN> {
    fn drop(&mut self) {
        // SAFETY: the arena is moved out of its own memory first, and is not used there again.
        drop(unsafe { self.0.read() });
    }
}

impl<R: Root, const MIN_ALIGN: usize> Drop for Rooted<R, MIN_ALIGN> {
    fn drop(&mut self) {
        // Dropped also if the root's `Drop` panics.
        let _owner = Owner(self.arena);
        // SAFETY: the root is dropped once, before the arena.
        unsafe { self.root.drop_in_place() };
    }
}

impl<R: Root, const MIN_ALIGN: usize> fmt::Debug for Rooted<R, MIN_ALIGN> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rooted").field("used", &self.used()).finish_non_exhaustive()
    }
}

/// A [`Rooted`] that is finished: nothing is allocated in it any more, and threads can share it.
///
/// ```
/// use arenite::arena::{Arena, Frozen, Offset, Root, Rooted};
///
/// struct Number;
/// impl Root for Number {
///     type In<'a> = Offset<'a, u64>;
/// }
///
/// let frozen: Frozen<Number> =
///     Rooted::new(Arena::new(), |arena| arena.offset(arena.alloc(7))).into_frozen();
/// std::thread::scope(|threads| {
///     threads.spawn(|| frozen.with(|view, number| assert_eq!(*view.get(*number), 7)));
///     threads.spawn(|| frozen.with(|view, number| assert_eq!(*view.get(*number), 7)));
/// });
/// ```
///
/// What one thread alone may use is not shared:
///
/// ```compile_fail,E0277
/// # use arenite::arena::{Arena, Frozen, Root, Rooted};
/// struct Shared;
/// impl Root for Shared {
///     type In<'a> = &'a std::cell::Cell<u64>;
/// }
/// # let frozen: Frozen<Shared> =
/// #     Rooted::new(Arena::new(), |arena| &*arena.alloc(std::cell::Cell::new(7))).into_frozen();
/// std::thread::scope(|threads| {
///     threads.spawn(|| frozen.with(|_, number| number.set(8)));
/// });
/// ```
pub struct Frozen<R: Root, const MIN_ALIGN: usize = 8>(Rooted<R, MIN_ALIGN>);

// SAFETY: a shared `Frozen` gives shared references to the root only, and reads of the arena that nobody changes: to
// allocate takes a handle, which only a root that is not `Sync` can have kept.
unsafe impl<R: Root, const MIN_ALIGN: usize> Sync for Frozen<R, MIN_ALIGN> where for<'a> R::In<'a>: Sync {}

/// Takes [`Offset`](crate::arena::Offset)s of a [`Frozen`]'s arena.
#[derive(Clone, Copy, Debug)]
pub struct View<'id, const MIN_ALIGN: usize = 8>(Handle<'id, MIN_ALIGN>);

impl<R: Root, const MIN_ALIGN: usize> Frozen<R, MIN_ALIGN> {
    /// Looks at the root.
    pub fn with<T>(&self, look: impl for<'a> FnOnce(View<'a, MIN_ALIGN>, &R::In<'a>) -> T) -> T {
        self.0.with(|handle, root| look(View(handle), root))
    }

    /// Bytes in use in the arena.
    #[must_use]
    pub fn used(&self) -> usize {
        self.0.used()
    }

    /// The same, to be changed again.
    #[must_use]
    pub fn into_rooted(self) -> Rooted<R, MIN_ALIGN> {
        self.0
    }
}

impl<'id, const MIN_ALIGN: usize> View<'id, MIN_ALIGN> {
    /// The value.
    #[must_use]
    pub fn get<T>(self, offset: Offset<'id, T>) -> &'id T {
        self.0.get(offset)
    }

    /// The slice.
    #[must_use]
    pub fn slice<T>(self, offset: SliceOffset<'id, T>) -> &'id [T] {
        self.0.slice(offset)
    }
}

impl<R: Root, const MIN_ALIGN: usize> fmt::Debug for Frozen<R, MIN_ALIGN> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frozen").field("used", &self.used()).finish_non_exhaustive()
    }
}
