//! Quarantine: freed small blocks that a thread keeps from being used again.
//!
//! For each class a ring in a magazine's memory: a freed block goes into it, and the block that has been there longest
//! is looked at and goes on to the loaded magazine. So no block is used again before as many others of its class were
//! freed as the ring has places; they keep their order, because neighbours that come back together are used together.
//!
//! Only the owner of the cache writes; the places are atomic because `Cache::parked` counts them from other threads.

use core::ptr::{self, NonNull};

use crate::base::sync::{AtomicPtr, Ordering};
use crate::config::{HARDENED, MAGAZINE_SLOTS, Options, QUARANTINE, QUARANTINE_BYTES};
use crate::heap::cache::Cache;
use crate::heap::hardened::small::{self, NARROW_MAX};
use crate::heap::magazine::{Magazine, Slot};
use crate::heap::size_class::{LINEAR_MAX, SizeClass};
use crate::heap::{metadata, slab_class};
use crate::vm::KeepErrno;

use static_assertions::const_assert;

// The first word of the memory counts the blocks that came.
const_assert!(QUARANTINE.is_power_of_two() && QUARANTINE < MAGAZINE_SLOTS);

/// One less than the places of each class, which are a power of two.
const MASKS: [u8; SizeClass::SMALL] = {
    let mut masks = [0; SizeClass::SMALL];
    let mut index = 0;
    while index < SizeClass::SMALL {
        let mut places = QUARANTINE;
        while places > 2 && places * SizeClass::from_index(index).size() > QUARANTINE_BYTES {
            places /= 2;
        }
        masks[index] = places as u8 - 1;
        index += 1;
    }
    masks
};

/// One less than the places of a class with this `room`: the same for all that the fast path serves.
#[inline(always)]
fn mask(class: SizeClass, room: usize) -> usize {
    if room <= NARROW_MAX { QUARANTINE - 1 } else { usize::from(MASKS[class.index()]) }
}

const_assert!(QUARANTINE * LINEAR_MAX <= QUARANTINE_BYTES);

/// The places of a class in the magazine's memory at `base`.
///
/// # Safety
/// The memory was cleared by `Cache::quarantine_slowly` and is a cache's.
unsafe fn places<'a>(base: *mut Slot, class: SizeClass) -> &'a [AtomicPtr<u8>] {
    let count = usize::from(MASKS[class.index()]) + 1;
    // SAFETY: passed on to the caller; one word for the count, and `count` places, fit.
    unsafe { core::slice::from_raw_parts(base.add(1).cast(), count) }
}

impl Cache {
    /// Puts a block that was out into quarantine, cleared, and takes another back into the cache.
    ///
    /// # Safety
    /// As for [`Cache::push`]; the block has no tag any more, and `room` is that of its class.
    #[inline(always)]
    pub(super) unsafe fn quarantine(
        &self,
        options: &Options,
        class: SizeClass,
        room: usize,
        block: NonNull<u8>,
    ) {
        let base = self.quarantined[class.index()].load(Ordering::Relaxed);
        // SAFETY: passed on to the caller; the place is one of the class's.
        unsafe {
            if base.is_null() {
                return self.quarantine_slowly(options, class, room, block);
            }
            let next = base.cast::<usize>();
            let place = *next & mask(class, room);
            *next += 1;
            let place = &*base.add(1 + place).cast::<AtomicPtr<u8>>();
            let oldest = NonNull::new(place.load(Ordering::Relaxed));
            place.store(block.as_ptr(), Ordering::Relaxed);
            // Where none comes out, the block itself is looked at.
            small::clear_and_look(block, oldest.unwrap_or(block), room);
            if let Some(oldest) = oldest {
                self.push(options, class, oldest.as_ptr());
            }
        }
    }

    /// The first block of a class: makes the places.
    ///
    /// # Safety
    /// As for [`Cache::quarantine`].
    #[cold]
    #[inline(never)]
    unsafe fn quarantine_slowly(&self, options: &Options, class: SizeClass, room: usize, block: NonNull<u8>) {
        let _errno = KeepErrno::new();
        let is_live = self.is_live() || self.enter(options);
        // SAFETY: passed on to the caller; the magazine's memory is this function's.
        unsafe {
            let Some(magazine) = is_live.then(|| metadata::take_magazine(1)).flatten() else {
                // A thread that is over keeps nothing; and without memory there is no quarantine.
                small::clear_and_look(block, block, room);
                return self.push(options, class, block.as_ptr());
            };
            magazine.base().write_bytes(0, MAGAZINE_SLOTS);
            self.quarantined[class.index()].store(magazine.base(), Ordering::Relaxed);
            self.quarantine(options, class, room, block);
        }
    }

    /// Sends the quarantined blocks of a class home; returns whether there were any.
    pub(crate) fn empty_quarantine(&self, class: SizeClass) -> bool {
        let base = self.quarantined[class.index()].swap(ptr::null_mut(), Ordering::Relaxed);
        if base.is_null() {
            return false;
        }
        let mut blocks = [ptr::null_mut(); QUARANTINE];
        let mut count = 0;
        // SAFETY: the places were this cache's and are this function's now, as are the blocks.
        unsafe {
            for place in places(base, class) {
                if let Some(block) = NonNull::new(place.load(Ordering::Relaxed)) {
                    small::expect_zero(block, class);
                    blocks[count] = block.as_ptr();
                    count += 1;
                }
            }
            slab_class::give(class, &blocks[..count]);
            metadata::give_magazine(Magazine::empty_at(base, 1));
        }
        count > 0
    }

    /// How many blocks of a class are in quarantine. May be asked by another thread that holds the list of threads.
    pub(crate) fn count_quarantined(&self, class: SizeClass) -> usize {
        let base =
            if HARDENED { self.quarantined[class.index()].load(Ordering::Relaxed) } else { ptr::null_mut() };
        if base.is_null() {
            return 0;
        }
        // SAFETY: a magazine's memory is never unmapped: at worst another one's words are counted.
        let places = unsafe { places(base, class) };
        places.iter().filter(|place| !place.load(Ordering::Relaxed).is_null()).count()
    }
}
