//! Memory for what the heap knows about itself: magazines and region descriptors.
//!
//! It grows by chunks, is never given back, and is reused: its size follows the highest number of magazines that were
//! in use at once. Because it stays mapped, a stale pointer to a magazine never faults.

use core::ptr::{self, NonNull};

use crate::base::align;
use crate::config::GRANULE;
use crate::heap::magazine::{MAGAZINE_SIZE, Magazine, Slot, Stack};
use crate::vm::{Lock, page_size, sys};

/// Address space taken at a time.
const CHUNK: usize = 16 * GRANULE;

struct Metadata {
    /// Where the next object goes.
    cursor: *mut u8,
    /// Committed up to here.
    committed: *mut u8,
    /// Reserved up to here.
    end: *mut u8,
    reserved_bytes: usize,
    committed_bytes: usize,
    /// Magazines that nobody holds.
    pool: Stack,
}

// SAFETY: the pointers lead to memory that belongs to the struct, which a lock guards.
unsafe impl Send for Metadata {}

static METADATA: Lock<Metadata> = Lock::new(Metadata {
    cursor: ptr::null_mut(),
    committed: ptr::null_mut(),
    end: ptr::null_mut(),
    reserved_bytes: 0,
    committed_bytes: 0,
    pool: Stack::new(),
});

/// Bytes reserved and committed for metadata.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pub(crate) reserved: usize,
    pub(crate) committed: usize,
    pub(crate) chunks: usize,
}

/// An empty magazine for `capacity` blocks, or none when out of memory.
pub(crate) fn take_magazine(capacity: usize) -> Option<Magazine> {
    let mut metadata = METADATA.lock();
    let base = match metadata.pool.pop() {
        Some(magazine) => magazine.base(),
        None => metadata.carve(MAGAZINE_SIZE, MAGAZINE_SIZE)?.as_ptr().cast::<Slot>(),
    };
    drop(metadata);
    // SAFETY: the memory was in the pool or is new; nobody else knows of it.
    Some(unsafe { Magazine::empty_at(base, capacity) })
}

/// Takes a magazine back, whatever is still in it.
///
/// # Safety
/// The magazine is the caller's, who forgets it.
pub(crate) unsafe fn give_magazine(magazine: Magazine) {
    // SAFETY: passed on to the caller.
    unsafe { METADATA.lock().pool.push(magazine) };
}

/// Zeroed memory for one `T` that is never freed, or none when out of memory.
pub(crate) fn take_zeroed<T>() -> Option<NonNull<T>> {
    METADATA.lock().carve(size_of::<T>(), align_of::<T>()).map(NonNull::cast)
}

pub(crate) fn usage() -> Usage {
    let metadata = METADATA.lock();
    Usage {
        reserved: metadata.reserved_bytes,
        committed: metadata.committed_bytes,
        chunks: metadata.reserved_bytes / CHUNK,
    }
}

#[cfg(arenite_lock_counts)]
pub(crate) fn lock_counts() -> crate::vm::lock_counts::LockCounts {
    METADATA.counts()
}

/// Takes the lock for a fork.
pub(crate) fn freeze() {
    METADATA.acquire();
}

/// # Safety
/// Follows [`freeze`] in the same thread, or in the child's only one.
pub(crate) unsafe fn thaw() {
    // SAFETY: passed on to the caller.
    unsafe { METADATA.release() };
}

impl Metadata {
    /// `size` zero bytes aligned to `align`.
    fn carve(&mut self, size: usize, align: usize) -> Option<NonNull<u8>> {
        let need = align::up(size, align) + align;
        if self.end.addr() - self.cursor.addr() < need {
            self.add_chunk(need)?;
        }
        let start = self.cursor.map_addr(|addr| align::up(addr, align));
        let after = start.wrapping_add(size);
        if after.addr() > self.committed.addr() {
            let step = align::up(after.addr() - self.committed.addr(), GRANULE.max(page_size()));
            let step = step.min(self.end.addr() - self.committed.addr());
            // SAFETY: the range lies within the chunk, whose end is a multiple of the page size.
            unsafe { sys::commit(self.committed, step) }.ok()?;
            self.committed = self.committed.wrapping_add(step);
            self.committed_bytes += step;
        }
        self.cursor = after;
        NonNull::new(start)
    }

    /// What is left of the old chunk is less than one object, and stays unused.
    fn add_chunk(&mut self, need: usize) -> Option<()> {
        invariant!(need <= CHUNK);
        let chunk = sys::reserve(CHUNK).ok()?.as_ptr();
        self.reserved_bytes += CHUNK;
        self.cursor = chunk;
        self.committed = chunk;
        self.end = chunk.wrapping_add(CHUNK);
        Some(())
    }
}
