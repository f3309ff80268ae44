//! [`Arenite`]: the heap as Rust's global allocator and as an [`Allocator`].

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};
use core::time::Duration;

use allocator_api2::alloc::{AllocError, Allocator};

use crate::config::{HARDENED, HugePages, Options};
use crate::heap::{self, Cache};
use crate::vm::sanitizer;

/// Whether a sanitizer is told of blocks. Not when hardened: that writes around them and reads what was freed.
const WATCHED: bool = sanitizer::IS_ON && !HARDENED;

/// Bytes behind each block that nobody may touch.
const REDZONE: usize = if WATCHED { 16 } else { 0 };

std::thread_local! {
    // Constant and without a destructor: an access is one instruction, at any point of a thread's life.
    static CACHE: Cache = const { Cache::new() };
}

/// The calling thread's cache. `LocalKey::with` would do, but is inlined with fat LTO only; `try_with` always can be.
#[inline(always)]
fn cache() -> &'static Cache {
    // SAFETY: a key whose value needs no destructor is there at any point of a thread's life. The reference does not
    // leave the functions below, which the thread does not outlive.
    unsafe { &*CACHE.try_with(ptr::from_ref).unwrap_unchecked() }
}

/// The allocator. Every value of it stands for the one heap of the process.
///
/// ```
/// #[global_allocator]
/// static GLOBAL: arenite::Arenite = arenite::Arenite::new();
///
/// fn main() {
///     let words: Vec<String> = "one allocator for all of them".split(' ').map(String::from).collect();
///     assert_eq!(words.len(), 6);
/// }
/// ```
///
/// Options are set on the way; those of the value that allocates first in the process hold.
///
/// ```
/// use arenite::Arenite;
/// use std::time::Duration;
///
/// #[global_allocator]
/// static GLOBAL: Arenite = Arenite::new().purge_delay(Duration::from_millis(250)).memory_limit(2 << 30);
/// # fn main() {}
/// ```
///
/// # Behaviour to know of
/// - When the heap has grown past 8 MiB, a thread named `arenite-purge` is started, which gives memory back while the
///   program is idle. It sleeps while there is nothing to do, takes no signals, and is not there after a `fork` until
///   the child's heap grows. [`Arenite::background_purger`] turns it off.
/// - Out of memory is null (`AllocError` from [`Allocator`]), never the end of the process.
/// - A signal handler must not allocate or free, as with any allocator.
/// - Blocks above 8 MiB are mapped with room to grow, which `mlockall(MCL_FUTURE)` makes resident.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arenite {
    options: Options,
}

impl Arenite {
    /// The allocator with the default [`Options`].
    #[must_use]
    pub const fn new() -> Arenite {
        Arenite::with_options(Options::new())
    }

    /// The allocator with these options.
    #[must_use]
    pub const fn with_options(options: Options) -> Arenite {
        Arenite { options }
    }

    /// See [`Options::purge_delay`].
    #[must_use]
    pub const fn purge_delay(self, delay: Duration) -> Arenite {
        Arenite::with_options(self.options.purge_delay(delay))
    }

    /// See [`Options::huge_pages`].
    #[must_use]
    pub const fn huge_pages(self, policy: HugePages) -> Arenite {
        Arenite::with_options(self.options.huge_pages(policy))
    }

    /// See [`Options::reservation`].
    #[must_use]
    pub const fn reservation(self, bytes: usize) -> Arenite {
        Arenite::with_options(self.options.reservation(bytes))
    }

    /// See [`Options::memory_limit`].
    #[must_use]
    pub const fn memory_limit(self, bytes: usize) -> Arenite {
        Arenite::with_options(self.options.memory_limit(bytes))
    }

    /// See [`Options::retain`].
    #[must_use]
    pub const fn retain(self, bytes: usize) -> Arenite {
        Arenite::with_options(self.options.retain(bytes))
    }

    /// See [`Options::background_purger`].
    #[must_use]
    pub const fn background_purger(self, yes: bool) -> Arenite {
        Arenite::with_options(self.options.background_purger(yes))
    }
}

/// Gives back to the system all memory that is free: what the calling thread has cached, what threads exchange, what is
/// kept for reuse. Returns how many bytes of memory went back. What other threads have cached stays with them: at most
/// some tens of blocks of each size that they use.
///
/// Takes milliseconds for each gigabyte, in which other threads go on.
///
/// ```
/// drop(vec![1_u8; 100 << 20]);
/// println!("{} bytes went back to the system", arenite::trim());
/// ```
pub fn trim() -> usize {
    cache().trim()
}

// SAFETY: the heap gives out blocks that overlap no other, of the layout's size and alignment; layouts meet what its
// functions ask for. The cache is the calling thread's, and none of them unwinds.
unsafe impl GlobalAlloc for Arenite {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if WATCHED {
            // SAFETY: passed on to the caller.
            return unsafe { self.alloc_watched(layout) };
        }
        // SAFETY: the caller's layout has a size above zero.
        unsafe { cache().alloc(&self.options, layout.size(), layout.align()) }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // What a sanitizer watches has a redzone behind it.
        let size = layout.size() + REDZONE;
        if WATCHED {
            sanitizer::take_back(block, heap::usable_size_of_layout(size, layout.align()));
        }
        // SAFETY: the caller's block came from here with this layout, so it is not null either.
        unsafe { cache().free(&self.options, NonNull::new_unchecked(block), size, layout.align()) };
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if WATCHED {
            // SAFETY: passed on to the caller; the block is at least as long as its layout.
            return unsafe {
                let block = self.alloc(layout);
                if !block.is_null() {
                    block.write_bytes(0, layout.size());
                }
                block
            };
        }
        // SAFETY: the caller's layout has a size above zero.
        unsafe { cache().alloc_zeroed(&self.options, layout.size(), layout.align()) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if WATCHED {
            // Always elsewhere, so that a stale pointer is seen.
            // SAFETY: the new size is valid with the alignment; the new block is another one, and both hold the smaller
            // size.
            return unsafe {
                let moved = self.alloc(Layout::from_size_align_unchecked(new_size, layout.align()));
                if !moved.is_null() {
                    ptr::copy_nonoverlapping(block, moved, layout.size().min(new_size));
                    self.dealloc(block, layout);
                }
                moved
            };
        }
        // SAFETY: the caller's block came from here with this layout, and the new size is valid with its alignment.
        unsafe {
            let block = NonNull::new_unchecked(block);
            cache().realloc(&self.options, block, layout.size(), layout.align(), new_size)
        }
    }
}

impl Arenite {
    /// A block that a sanitizer watches, with a redzone behind it.
    ///
    /// # Safety
    /// As for [`GlobalAlloc::alloc`].
    unsafe fn alloc_watched(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size() + REDZONE, layout.align());
        if Layout::from_size_align(size, align).is_err() {
            return ptr::null_mut();
        }
        // SAFETY: the size is above zero, and one that goes with the alignment.
        let block = unsafe { cache().alloc(&self.options, size, align) };
        if !block.is_null() {
            sanitizer::give_out(block, layout.size(), heap::usable_size_of_layout(size, align));
        }
        block
    }

    fn allocate_with(
        &self,
        layout: Layout,
        alloc: impl FnOnce(Layout) -> *mut u8,
    ) -> Result<NonNull<[u8]>, AllocError> {
        if layout.size() == 0 {
            return Ok(NonNull::slice_from_raw_parts(dangling(layout), 0));
        }
        let block = NonNull::new(alloc(layout)).ok_or(AllocError)?;
        let usable = usable_size(layout.size(), layout.align());
        Ok(NonNull::slice_from_raw_parts(block, usable))
    }

    /// # Safety
    /// As for [`Allocator::grow`] and [`Allocator::shrink`], whichever it is.
    unsafe fn resize(
        &self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        if old.size() == 0 || new.size() == 0 || old.align() != new.align() {
            let moved = self.allocate(new)?;
            // SAFETY: the new block is another one, and both hold the smaller size.
            unsafe {
                ptr::copy_nonoverlapping(block.as_ptr(), moved.as_ptr().cast(), old.size().min(new.size()));
                self.deallocate(block, old);
            }
            return Ok(moved);
        }
        // SAFETY: passed on to the caller; neither size is zero.
        self.allocate_with(new, |new| unsafe { self.realloc(block.as_ptr(), old, new.size()) })
    }
}

// SAFETY: as for `GlobalAlloc`; every value stands for the same heap, so blocks outlive any of them, and a layout
// between the asked size and the usable one takes the same route to `dealloc`.
unsafe impl Allocator for Arenite {
    #[inline]
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the size is not zero.
        self.allocate_with(layout, |layout| unsafe { self.alloc(layout) })
    }

    #[inline]
    fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // The whole of what is handed out reads as zero, so the whole is asked for: it takes the same route.
        let usable = usable_size(layout.size().max(1), layout.align());
        self.allocate_with(layout, |layout| match Layout::from_size_align(usable, layout.align()) {
            // SAFETY: the size is not zero.
            Ok(whole) => unsafe { self.alloc_zeroed(whole) },
            Err(_) => ptr::null_mut(),
        })
    }

    #[inline]
    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        if layout.size() != 0 {
            // SAFETY: passed on to the caller.
            unsafe { self.dealloc(block.as_ptr(), layout) };
        }
    }

    unsafe fn grow(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        debug_assert!(new.size() >= old.size());
        // SAFETY: passed on to the caller.
        unsafe { self.resize(block, old, new) }
    }

    unsafe fn grow_zeroed(
        &self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on to the caller.
        let grown = unsafe { self.grow(block, old, new) }?;
        // SAFETY: the block is this function's, and at least as long as the old layout.
        unsafe { grown.cast::<u8>().add(old.size()).write_bytes(0, grown.len() - old.size()) };
        Ok(grown)
    }

    unsafe fn shrink(
        &self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        debug_assert!(new.size() <= old.size());
        // SAFETY: passed on to the caller.
        unsafe { self.resize(block, old, new) }
    }
}

/// The bytes that an [`Allocator`] says its block has. Under a sanitizer those that were asked for, and no more.
fn usable_size(size: usize, align: usize) -> usize {
    if WATCHED { size } else { heap::usable_size_of_layout(size, align) }
}

/// An address for blocks of no bytes.
fn dangling(layout: Layout) -> NonNull<u8> {
    // SAFETY: an alignment is not zero.
    unsafe { NonNull::new_unchecked(ptr::without_provenance_mut(layout.align())) }
}
