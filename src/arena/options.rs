//! How an arena is to be: plain data, checked where the arena is made.

use std::io;

use crate::arena::Arena;
use crate::arena::header::Header;
use crate::config::{ARENA_GROWTH_STEP, ARENA_KEPT_PREFIX, ARENA_RESERVATION, HugePages};

/// Options for an [`Arena`].
///
/// ```
/// use arenite::arena::ArenaOptions;
///
/// let arena = ArenaOptions::new().limit(1 << 20).guard_page(true).build()?;
/// assert!(arena.try_alloc_slice_default::<u8>(2 << 20).is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "options alone make no arena"]
pub struct ArenaOptions {
    pub(crate) shape: Shape,
    pub(crate) capacity: usize,
    pub(crate) growth_step: usize,
    pub(crate) keep: usize,
    pub(crate) limit: usize,
}

/// What a finished reservation must have been made with to serve again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Shape {
    pub(crate) reservation: usize,
    pub(crate) huge_pages: HugePages,
    pub(crate) guard_page: bool,
}

impl ArenaOptions {
    /// 64 GiB of addresses, no limit, 1 MiB kept by a reset, huge pages where the arena is large and dense.
    pub const fn new() -> ArenaOptions {
        ArenaOptions {
            shape: Shape { reservation: ARENA_RESERVATION, huge_pages: HugePages::Large, guard_page: false },
            capacity: 0,
            growth_step: ARENA_GROWTH_STEP,
            keep: ARENA_KEPT_PREFIX,
            limit: usize::MAX,
        }
    }

    /// Bytes of address space to reserve: what the arena can grow to without ever moving. Nothing is charged for
    /// it. Where there is less to be had, halves are tried; [`Arena::reserved`] says what came of it.
    pub const fn reservation(mut self, bytes: usize) -> ArenaOptions {
        self.shape.reservation = bytes;
        self
    }

    /// Bytes that are there from the start, without a call to the system on the way to them.
    pub const fn capacity(mut self, bytes: usize) -> ArenaOptions {
        self.capacity = bytes;
        self
    }

    /// Bytes to commit at a time, at least. Steps grow with what is in use.
    pub const fn growth_step(mut self, bytes: usize) -> ArenaOptions {
        self.growth_step = bytes;
        self
    }

    /// Whether to ask for huge pages: [`HugePages::Large`] from 4 MiB on.
    pub const fn huge_pages(mut self, policy: HugePages) -> ArenaOptions {
        self.shape.huge_pages = policy;
        self
    }

    /// Bytes that stay committed when the arena is reset or gone; what is behind them goes back to the system once
    /// the arena had more than twice as much.
    pub const fn kept_prefix(mut self, bytes: usize) -> ArenaOptions {
        self.keep = bytes;
        self
    }

    /// Bytes that may be in use at the most.
    pub const fn limit(mut self, bytes: usize) -> ArenaOptions {
        self.limit = bytes;
        self
    }

    /// Whether the last page of the range is never accessible: writing past the arena's end then ends the process.
    pub const fn guard_page(mut self, yes: bool) -> ArenaOptions {
        self.shape.guard_page = yes;
        self
    }

    /// An arena.
    ///
    /// # Errors
    /// What the system says when not even a small range can be reserved, or the capacity not be committed.
    pub fn build(self) -> io::Result<Arena> {
        self.build_with_min_align()
    }

    /// An arena in which every block is aligned to `MIN_ALIGN` at least, and its size rounded up to it: a power of
    /// two up to 256. What asks for no more alignment is allocated by two instructions less.
    ///
    /// # Errors
    /// As for [`build`](ArenaOptions::build).
    ///
    /// ```
    /// use arenite::arena::{Arena, ArenaOptions};
    ///
    /// let packed: Arena<1> = ArenaOptions::new().build_with_min_align()?;
    /// packed.alloc(1_u8);
    /// packed.alloc(2_u8);
    /// assert_eq!(packed.used(), 2);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn build_with_min_align<const MIN_ALIGN: usize>(self) -> io::Result<Arena<MIN_ALIGN>> {
        Header::make(&self).map(Arena::from_header)
    }
}

impl Default for ArenaOptions {
    fn default() -> ArenaOptions {
        ArenaOptions::new()
    }
}
