//! The heap around the protocols: one small class, one middle class, blocks that are cells of loom's.

use std::cell::{Cell as StdCell, RefCell};
use std::ptr::NonNull;

use loom::cell::UnsafeCell;

/// A block's contents.
pub(crate) type Cell = UnsafeCell<u32>;

thread_local! {
    /// Blocks that went home, by address.
    pub(crate) static HOME: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
    /// Blocks that came from home.
    pub(crate) static MADE: StdCell<usize> = const { StdCell::new(0) };
}

/// A new block. Cells are forgotten at an execution's end: their addresses must differ.
pub(crate) fn block() -> NonNull<u8> {
    MADE.set(MADE.get() + 1);
    NonNull::from(Box::leak(Box::new(Cell::new(0)))).cast()
}

/// What an owner does: loom ends the model if another one can be at it at the same time.
pub(crate) fn use_block(block: NonNull<u8>) {
    // SAFETY: blocks are cells.
    // A magazine's marks are not part of the address, and these blocks have none.
    unsafe { block.cast::<Cell>().as_ref() }.with_mut(|value| unsafe { *value += 1 });
}

pub(crate) fn begin() {
    HOME.with_borrow_mut(Vec::clear);
    MADE.set(0);
}

fn take_home(block: *mut u8) {
    use_block(NonNull::new(block).unwrap());
    HOME.with_borrow_mut(|home| home.push(block.addr()));
}

pub(crate) mod size_class {
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct SizeClass(usize);

    impl SizeClass {
        pub(crate) const SMALL: usize = 1;
        pub(crate) const COUNT: usize = 2;

        pub(crate) const fn from_index(index: usize) -> SizeClass {
            SizeClass(index)
        }

        pub(crate) const fn index(self) -> usize {
            self.0
        }

        pub(crate) const fn size(self) -> usize {
            [8 << 10, 1 << 20][self.0]
        }

        pub(crate) const fn granules(self) -> usize {
            self.size().div_ceil(64 << 10)
        }

        pub(crate) const fn capacity(self) -> usize {
            2
        }
    }
}

/// One group of processors.
pub(crate) mod group {
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct Group;

    impl Group {
        pub(crate) fn current() -> Group {
            Group
        }

        pub(crate) fn all() -> impl Iterator<Item = Group> {
            std::iter::once(Group)
        }

        pub(crate) fn count() -> usize {
            1
        }

        pub(crate) fn index(self) -> usize {
            0
        }
    }
}

pub(crate) mod settings {
    pub(crate) struct Settings;

    pub(crate) fn settings() -> Settings {
        Settings
    }

    impl Settings {
        pub(crate) fn background_purger(&self) -> bool {
            true
        }

        pub(crate) fn purge_delay_ms(&self) -> u32 {
            2
        }

        pub(crate) fn retain(&self) -> usize {
            0
        }
    }
}

pub(crate) mod fault {
    pub(crate) fn die_of_bad_free(block: *mut u8, _is_of_class: bool) -> ! {
        panic!("a bad free of {block:p}");
    }
}

pub(crate) mod hardened {
    pub(crate) mod middle {
        use crate::heap::segment::Run;
        use crate::heap::size_class::SizeClass;

        pub(crate) unsafe fn release(_run: Run, _class: SizeClass) -> bool {
            true
        }

        pub(crate) unsafe fn keep(_base: *mut u8) {}

        pub(crate) fn take_kept() -> impl Iterator<Item = core::ptr::NonNull<u8>> {
            core::iter::empty()
        }
    }

    pub(crate) mod secret {
        pub(crate) fn mix(_value: u64) -> u64 {
            0
        }
    }
}

pub(crate) mod metadata {
    use crate::heap::magazine::{MAGAZINE_SIZE, Magazine};

    pub(crate) fn take_magazine(capacity: usize) -> Option<Magazine> {
        let layout = std::alloc::Layout::from_size_align(MAGAZINE_SIZE, MAGAZINE_SIZE).unwrap();
        // SAFETY: the memory is a magazine's, and nobody else's.
        Some(unsafe { Magazine::empty_at(std::alloc::alloc_zeroed(layout).cast(), capacity) })
    }

    pub(crate) unsafe fn give_magazine(magazine: Magazine) {
        let layout = std::alloc::Layout::from_size_align(MAGAZINE_SIZE, MAGAZINE_SIZE).unwrap();
        // SAFETY: as it came.
        unsafe { std::alloc::dealloc(magazine.base().cast(), layout) };
    }
}

pub(crate) mod segment {
    use std::ptr::NonNull;

    use crate::heap::size_class::SizeClass;

    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) enum Kind {
        None,
        Class(SizeClass),
    }

    pub(crate) struct Segment;

    impl Segment {
        pub(crate) fn kind_at(_block: NonNull<u8>) -> Kind {
            Kind::Class(SizeClass::from_index(1))
        }
    }

    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Run {
        pub(crate) base: *mut u8,
        pub(crate) len: usize,
    }

    impl Run {
        pub(crate) fn at(base: *mut u8, len: usize) -> Run {
            Run { base, len }
        }

        pub(crate) fn len(self) -> usize {
            self.len << 16
        }

        pub(crate) fn base(self) -> *mut u8 {
            self.base
        }

        pub(crate) unsafe fn set_class(self, _class: SizeClass) {}

        pub(crate) unsafe fn mark_dirty(self, _start: usize, _len: usize) {}

        pub(crate) unsafe fn clear(self, _len: usize) {}
    }
}

pub(crate) mod footprint {
    pub(crate) fn retains_too_much(_elsewhere: usize) -> bool {
        false
    }

    /// Enough for a thread, and no growth that lets a round come early.
    pub(crate) fn footprint() -> usize {
        8 << 20
    }
}

pub(crate) mod segments {
    use crate::heap::segment::Run;
    use crate::vm::Lock;

    #[derive(Debug)]
    pub(crate) struct Segments {
        pub(crate) middle_out: [usize; 1],
    }

    /// So many are out that none runs short: the count lives longer than an execution.
    pub(crate) static SEGMENTS: Lock<Segments> = Lock::new(Segments { middle_out: [1 << 40] });

    impl Segments {
        /// None, so that every run is looked for on the shelf first.
        pub(crate) fn take_used(&mut self, _len: usize, _dense: bool) -> Option<Run> {
            None
        }

        pub(crate) fn take(&mut self, len: usize, _dense: bool) -> Option<Run> {
            Some(Run { base: super::block().as_ptr(), len })
        }

        pub(crate) unsafe fn give(&mut self, run: Run) {
            super::take_home(run.base);
        }

        pub(crate) unsafe fn resize(&mut self, _run: Run, _len: usize) -> bool {
            false
        }

        pub(crate) fn release_reserved(&mut self) -> usize {
            0
        }
    }

    pub(crate) fn purge(_all: bool) -> (usize, bool) {
        (0, false)
    }
}

pub(crate) mod slab_class {
    use crate::heap::group::Group;
    use crate::heap::magazine::Slot;
    use crate::heap::size_class::SizeClass;

    pub(crate) unsafe fn give(_class: SizeClass, blocks: &[Slot]) {
        blocks.iter().for_each(|&block| super::take_home(block));
    }

    pub(crate) fn purge(_group: Group, _class: SizeClass, _all: bool) -> (usize, bool) {
        (0, false)
    }
}

pub(crate) mod huge {
    pub(crate) fn flush(_all: bool) -> (usize, bool) {
        (0, false)
    }

    pub(crate) fn kept_bytes() -> usize {
        0
    }
}
