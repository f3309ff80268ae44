//! The heap's counts, gathered layer by layer. Each layer's are taken under its lock; between two layers other threads
//! go on, so sums over layers are exact only while nothing runs.

use crate::config::GRANULE;
use crate::heap::segments::SEGMENTS;
use crate::heap::size_class::SizeClass;
use crate::heap::{depot, huge, metadata, middle, purge, slab_class, threads};
use crate::vm::{page_size, release};

/// How many size classes there are.
pub(crate) const CLASSES: usize = SizeClass::COUNT;

/// Counts of one size class.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ClassUsage {
    pub(crate) size: usize,
    /// Slabs of the class; a middle block is a slab of one.
    pub(crate) slabs: usize,
    /// Blocks that left the slabs.
    pub(crate) out: usize,
    pub(crate) in_caches: usize,
    /// Blocks in the depot, or on the shelf.
    pub(crate) in_depot: usize,
}

/// Counts of the whole heap, in bytes where nothing else is said.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pub(crate) classes: [ClassUsage; CLASSES],
    pub(crate) huge: huge::Counts,
    pub(crate) metadata: metadata::Usage,
    pub(crate) reserved: usize,
    pub(crate) committed: usize,
    pub(crate) retained: usize,
    pub(crate) given_back: u64,
    pub(crate) segments: usize,
    pub(crate) regions: usize,
    pub(crate) threads: usize,
}

pub(crate) fn usage() -> Usage {
    let mut classes = [ClassUsage::default(); CLASSES];
    threads::parked(|class, blocks| classes[class.index()].in_caches += blocks);
    for (index, usage) in classes.iter_mut().enumerate() {
        let class = SizeClass::from_index(index);
        usage.size = class.size();
        if index < SizeClass::SMALL {
            let counts = slab_class::counts(class);
            (usage.slabs, usage.out) = (counts.slabs, counts.out);
            usage.in_depot = depot::blocks(class);
        } else {
            usage.in_depot = middle::kept(class);
        }
    }
    let huge = huge::counts();
    // Before the segments' lock: the list of threads is above it in the order of locks.
    let threads = threads::count();
    let mut segments = SEGMENTS.lock();
    for (index, usage) in classes.iter_mut().enumerate().skip(SizeClass::SMALL) {
        usage.out = *segments.out_of(SizeClass::from_index(index));
        usage.slabs = usage.out;
    }
    Usage {
        classes,
        huge,
        metadata: metadata::usage(),
        // What the kernel would not unmap yet, too.
        reserved: segments.reserved() + release::stuck_bytes(),
        committed: segments.committed_granules * GRANULE,
        retained: segments.dirty_pages * page_size(),
        given_back: purge::given_back(),
        segments: segments.count,
        regions: segments.regions(),
        threads,
    }
}

/// Calls `each` for every lock of the heap: its layer, the size of its class or zero, and its counts.
#[cfg(arenite_lock_counts)]
pub fn lock_counts(mut each: impl FnMut(&'static str, usize, crate::vm::lock_counts::LockCounts)) {
    for class in (0..SizeClass::SMALL).map(SizeClass::from_index) {
        depot::lock_counts(class).for_each(|counts| each("depot", class.size(), counts));
        slab_class::lock_counts(class).for_each(|counts| each("slabs", class.size(), counts));
    }
    each("purger", 0, purge::lock_counts());
    each("threads", 0, threads::lock_counts());
    each("huge", 0, huge::lock_counts());
    each("segments", 0, SEGMENTS.counts());
    each("metadata", 0, metadata::lock_counts());
}
