//! Every tunable constant with its reason, and the options that a program may set.

use core::time::Duration;

use static_assertions::const_assert;

/// The feature `hardened`. Nothing else asks for it: what it adds is compiled in every build, behind tests of this
/// constant and in arrays that are empty without it.
pub(crate) const HARDENED: bool = cfg!(feature = "hardened");

/// Blocks at a slab's beginning that are never handed out when hardened, so that each block has one before it that
/// belongs to its slab: what lies in front of a block is checked there. Under valgrind, too, which would take the slab's own
/// pointer to it for a program's and report no leak.
pub(crate) const SLAB_LEAD: usize = if HARDENED || cfg!(feature = "valgrind") { 1 } else { 0 };

/// Granules behind a segment's header that are never committed when hardened: a write up to a mebibyte before a block
/// in a small heap faults instead of changing the header.
pub(crate) const SEGMENT_GAP: usize = if HARDENED { (1 << 20) / GRANULE } else { 0 };

/// Freed small blocks of a class that a thread keeps from being used again when hardened: by number and by bytes. A
/// power of two; the more, the later a block comes back, and the colder it is.
pub(crate) const QUARANTINE: usize = 32;
pub(crate) const QUARANTINE_BYTES: usize = 8 << 10;

/// Freed middle blocks up to this size, in bytes, are cleared when hardened (an eighth of it without a background purger);
/// larger ones give their pages back at once, which costs more when they are used again, and faults whoever still uses
/// them.
pub(crate) const QUARANTINE_CLEARED: usize = 1 << 20;

/// How often `mprotect` makes a guard when hardened, on kernels before Linux 6.13. Each may split a mapping for good, of
/// which a process has 65,530.
pub(crate) const GUARDED_MAX: usize = 16 << 10;

/// The unit in which a segment is cut, in bytes. A multiple of every page size that Arenite knows (4, 16, 64 KiB),
/// so that no page is ever shared by two slabs.
pub(crate) const GRANULE: usize = 64 << 10;

/// A segment, in bytes; also its alignment, so that one mask leads from a block to what is known about it. Large
/// enough that blocks of megabytes need no mapping of their own, small enough for `ulimit -v` of half a gigabyte.
pub(crate) const SEGMENT: usize = 32 << 20;

pub(crate) const GRANULES: usize = SEGMENT / GRANULE;

/// The most bytes that a region reserves: one word has a bit for each of its segments.
pub(crate) const REGION_MAX: usize = 64 * SEGMENT;

/// Pointers in a magazine, its link and its floor among them; 512 bytes. Larger ones were not measured yet:
/// ARCHITECTURE.md, *Decisions*.
pub(crate) const MAGAZINE_SLOTS: usize = 64;

/// What a thread's magazine of a class has room for at first, in bytes, or one block; and by how much more with each
/// exchange.
pub(crate) const ROOM_STEP: usize = 512;

/// How often a thread takes a block of a class from its slab, or puts one back there, before it has a magazine of it. Never
/// when hardened: blocks that leave a slab one at a time leave it in the order of their addresses.
pub(crate) const RARE: u8 = if HARDENED { 0 } else { 4 };

/// After how many exchanges a thread has a second magazine of a class.
pub(crate) const SPARE_FROM: u8 = RARE + 4;

/// What a magazine may hold in bytes, for the classes where 61 blocks would be more.
pub(crate) const MAGAZINE_BYTES: usize = 16 << 10;

/// The largest size that magazines hold, in bytes.
pub(crate) const SMALL_MAX: usize = 32 << 10;

/// The largest size that is cut from a shared segment, in bytes. Above it a block has a mapping of its own.
pub(crate) const MIDDLE_MAX: usize = 8 << 20;

/// Blocks of at least this many bytes span whole pages, so the heap knows which of them the kernel has just cleared.
/// The smallest page size.
pub(crate) const PAGE_MIN: usize = 4 << 10;

/// The largest page size that a granule can hold.
pub(crate) const PAGE_MAX: usize = GRANULE;

/// Slabs hold at least this many blocks, where one granule is too small for that.
pub(crate) const SLAB_BLOCKS_MIN: usize = 8;

/// Bits in a slab's bitmap: a granule of 16-byte blocks.
pub(crate) const SLAB_BLOCKS_MAX: usize = GRANULE / 16;

/// What is committed at once at a segment's growing end, in granules: one `mprotect` for a megabyte.
pub(crate) const COMMIT_STEP: usize = 16;

/// A huge page that the system makes by itself, in bytes: 2 MiB on x86-64, and on aarch64 with pages of 4 KiB.
pub(crate) const HUGE_PAGE: usize = 2 << 20;

/// From which size on a block that grows is made of huge pages, in bytes: the last one may be touched in part only.
pub(crate) const HUGE_PAGES_FROM: usize = 16 * HUGE_PAGE;

/// From how many bytes on what will be filled, further slabs of a class and middle blocks, has segments of its own, made of
/// huge pages. First slabs lie elsewhere, as most of them are never filled.
pub(crate) const DENSE_FROM: usize = HUGE_PAGE;

/// What a depot may hold of one class, in bytes, before exchanges show that more is of use, and at the most.
pub(crate) const DEPOT_BYTES_MIN: usize = 32 << 10;
pub(crate) const DEPOT_BYTES_MAX: usize = 2 << 20;

/// Processors that share depots and slabs, and how many such groups there are at the most. ARCHITECTURE.md, *Scale beyond
/// this machine*: a lock of a class serves eight at a rate that few programs reach.
pub(crate) const PROCESSORS_IN_GROUP: usize = 8;
pub(crate) const GROUPS_MAX: usize = 32;

/// Freed huge blocks that are kept for a moment, by number and by the bytes that they may hold together; an eighth of
/// what is in use comes on top.
pub(crate) const HUGE_KEPT: usize = 8;
pub(crate) const HUGE_KEPT_BYTES: usize = 64 << 20;

/// One part in so many of what was asked for may be unused behind it when a kept huge block is used again.
pub(crate) const HUGE_SLACK_SHARE: usize = 8;

/// The largest kept block that is cleared by hand when it is used again and must be zero; a larger one is purged. Clearing
/// and writing a page took 50 to 250 ns, purging and writing it 1,700 to 2,000.
pub(crate) const HUGE_CLEARED: usize = 32 << 20;

/// Blocks of one middle class that are kept for a moment, by number and by bytes.
pub(crate) const MIDDLE_KEPT: usize = 4;
pub(crate) const MIDDLE_KEPT_BYTES: usize = 1 << 20;

const_assert!(SEGMENT.is_power_of_two() && GRANULE.is_power_of_two());
const_assert!(GRANULES.is_multiple_of(64));
const_assert!(PAGE_MAX <= GRANULE && GRANULE / PAGE_MIN <= 16);
const_assert!(SMALL_MAX < MIDDLE_MAX && MIDDLE_MAX < SEGMENT / 2);
const_assert!(GROUPS_MAX <= 256);
const_assert!(SMALL_MAX * SLAB_BLOCKS_MIN / PAGE_MIN <= 64);

/// What to ask of transparent huge pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum HugePages {
    /// Leave it to the system's own policy.
    System = 0,
    /// Ask for them where memory is used densely, and much of it: in blocks that `realloc` brings to 32 MiB and more,
    /// because what grows was full, and in the heap for what will be filled, once that is 2 MiB: all but the first slab of
    /// each size class, of 64 to 256 KiB. Each 32 MiB keeps them for as long as nothing of it was given back.
    /// Without a background purger 32 MiB later for each eight processors beyond the first, and not when hardened.
    Large = 1,
    /// Ask for them everywhere. Small programs grow by up to 2 MiB a segment, and what was given back may come again.
    Always = 2,
}

/// How a heap behaves: the process has one heap, and the options of whoever allocates first hold.
///
/// Each has an environment variable that overrules it when the process starts.
///
/// ```
/// use arenite::{HugePages, Options};
/// const OPTIONS: Options = Options::new().huge_pages(HugePages::Large).memory_limit(1 << 30);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub(crate) purge_delay_ms: u32,
    pub(crate) huge_pages: HugePages,
    pub(crate) reservation: usize,
    pub(crate) memory_limit: usize,
    pub(crate) retain: usize,
    pub(crate) background_purger: bool,
}

impl Options {
    /// The defaults: a purge delay of one second, a background purger, huge pages where the heap is large and dense,
    /// regions of 1 GiB, no memory limit.
    #[must_use]
    pub const fn new() -> Options {
        Options {
            purge_delay_ms: 1000,
            huge_pages: HugePages::Large,
            reservation: 1 << 30,
            memory_limit: usize::MAX,
            retain: 16 << 20,
            background_purger: true,
        }
    }

    /// How long freed memory is kept for reuse before its pages go back to the system, at the most; a heap that grows
    /// by an eighth takes it back sooner, after an eighth of this at the least. Rounded down to milliseconds. Overruled by
    /// `ARENITE_PURGE_DELAY_MS`.
    #[must_use]
    pub const fn purge_delay(mut self, delay: Duration) -> Options {
        let ms = delay.as_millis();
        self.purge_delay_ms = if ms > u32::MAX as u128 { u32::MAX } else { ms as u32 };
        self
    }

    /// What to ask of transparent huge pages. Overruled by `ARENITE_HUGE_PAGES` (`system`, `large` or `always`).
    #[must_use]
    pub const fn huge_pages(mut self, policy: HugePages) -> Options {
        self.huge_pages = policy;
        self
    }

    /// Address space to reserve at a time, in bytes; rounded down to a multiple of 32 MiB, and between 32 MiB and
    /// 2 GiB. Reserved is not used: nothing is charged for it. Under a limit on address space less is taken.
    /// Overruled by `ARENITE_RESERVATION`.
    #[must_use]
    pub const fn reservation(mut self, bytes: usize) -> Options {
        self.reservation = bytes;
        self
    }

    /// The most memory that blocks may take, in bytes, counted in the heap's units of 64 KiB; beyond it allocation
    /// returns null. Overruled by `ARENITE_MEMORY_LIMIT`.
    #[must_use]
    pub const fn memory_limit(mut self, bytes: usize) -> Options {
        self.memory_limit = bytes;
        self
    }

    /// Without a background purger: freed memory, in bytes, that may wait for reuse whatever its age. An eighth of
    /// what is in use comes on top. Overruled by `ARENITE_RETAIN`.
    #[must_use]
    pub const fn retain(mut self, bytes: usize) -> Options {
        self.retain = bytes;
        self
    }

    /// Whether a thread of Arenite's own gives memory back while the program is idle. It is started when the heap has
    /// grown past 8 MiB. Without it, memory returns while the program frees, and in [`trim`].
    /// Overruled by `ARENITE_BACKGROUND_PURGER` (`0` or `1`).
    ///
    /// [`trim`]: crate::trim
    #[must_use]
    pub const fn background_purger(mut self, yes: bool) -> Options {
        self.background_purger = yes;
        self
    }
}

impl Default for Options {
    fn default() -> Options {
        Options::new()
    }
}

/// Addresses that an arena reserves, in bytes: enough that none ever moves, few enough that thousands fit.
pub(crate) const ARENA_RESERVATION: usize = 64 << 30;

/// The smallest reservation that an arena makes do with, in bytes.
pub(crate) const ARENA_RESERVATION_MIN: usize = 256 << 10;

/// Addresses that arenas share, in bytes: while there are `n` of them, a new one reserves at most one part in `n + 1`. An
/// eighth of the 128 TiB that user space has on x86-64, so that ten thousand arenas leave room for everything else.
pub(crate) const ARENA_ADDRESSES: usize = 16 << 40;

/// Committed at a time, in bytes, at least; what is in use is divided by `2^ARENA_GROWTH_SHIFT` for larger steps. A step
/// costs one `mprotect` and no memory.
pub(crate) const ARENA_GROWTH_STEP: usize = 256 << 10;
pub(crate) const ARENA_GROWTH_SHIFT: u32 = 1;

/// From here on, in bytes, an arena asks for huge pages and has each step filled in by one call, so a step costs
/// memory: one part in `2^ARENA_POPULATE_SHIFT` of what is in use, or one huge page.
pub(crate) const ARENA_LARGE: usize = 4 << 20;
pub(crate) const ARENA_POPULATE_SHIFT: u32 = 6;

/// What stays committed when an arena is reset or gone, in bytes.
pub(crate) const ARENA_KEPT_PREFIX: usize = 1 << 20;

/// Finished reservations that are kept for the next arenas, besides one of each thread.
pub(crate) const ARENA_WARM: usize = 16;

const_assert!(ARENA_ADDRESSES >= ARENA_RESERVATION && ARENA_RESERVATION >= ARENA_RESERVATION_MIN);
const_assert!(ARENA_LARGE.is_multiple_of(HUGE_PAGE) && ARENA_KEPT_PREFIX < ARENA_LARGE);
