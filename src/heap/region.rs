//! Regions: what was reserved from the kernel at a time, handed out by the segment.
//!
//! A slot of a region is *held* (reserved and ours to hand out), *out* (a segment lives there), *gone* (unmapped
//! after its segment emptied) or *lost*. A gone slot is asked for again, at that very address, before a new region is
//! made; the kernel refuses if something else lives there by then, and the slot is lost: it is not ours any more.
//! `check` holds that each slot is one of the four and that the sums agree.
//!
//! All of it is guarded by the lock of the segments.

use core::ptr::{self, NonNull};

use crate::base::bitmap::ones;
use crate::config::{REGION_MAX, SEGMENT};
use crate::heap::{fault, metadata};
use crate::vm::{Errno, sys};

/// One reservation.
#[derive(Debug)]
struct Region {
    next: *mut Region,
    base: *mut u8,
    /// The slots that are not lost.
    known: u64,
    held: u64,
    gone: u64,
}

/// All regions.
#[derive(Debug)]
pub(crate) struct Regions {
    head: *mut Region,
    /// Descriptors of regions that were lost whole, or could not be made.
    spare: *mut Region,
    /// Address space that is reserved now, in bytes.
    reserved: usize,
}

// SAFETY: the descriptors belong to the struct.
unsafe impl Send for Regions {}

impl Regions {
    pub(crate) const fn new() -> Regions {
        Regions { head: ptr::null_mut(), spare: ptr::null_mut(), reserved: 0 }
    }

    pub(crate) fn reserved(&self) -> usize {
        self.reserved
    }

    /// Regions of which something is reserved.
    pub(crate) fn count(&self) -> usize {
        self.iter().filter(|region| region.known != region.gone).count()
    }

    /// Reserved memory for a segment: inaccessible, at a multiple of its size. `want` is how much to reserve when a
    /// new region is needed, in bytes.
    pub(crate) fn take(&mut self, want: usize) -> Option<NonNull<u8>> {
        self.take_held().or_else(|| self.take_gone()).or_else(|| {
            self.add(want)?;
            self.take_held()
        })
    }

    fn take_held(&mut self) -> Option<NonNull<u8>> {
        let region = self.iter().find(|region| region.held != 0)?;
        let slot = region.held.trailing_zeros();
        region.held &= !(1 << slot);
        NonNull::new(region.slot(slot))
    }

    fn take_gone(&mut self) -> Option<NonNull<u8>> {
        let mut taken = None;
        'search: for region in self.iter() {
            while region.gone != 0 {
                let slot = region.gone.trailing_zeros();
                match sys::reserve_at(region.slot(slot), SEGMENT) {
                    Ok(()) => taken = NonNull::new(region.slot(slot)),
                    Err(Errno(libc::EEXIST)) => region.known &= !(1 << slot),
                    Err(_) => break 'search,
                }
                region.gone &= !(1 << slot);
                if taken.is_some() {
                    self.reserved += SEGMENT;
                    break 'search;
                }
            }
        }
        self.drop_lost();
        self.check();
        taken
    }

    /// Takes back the slot at `base`, whose segment was unmapped, or will be when the kernel allows it.
    pub(crate) fn give(&mut self, base: *mut u8) {
        let (region, bit) = self.find_out(base);
        region.gone |= bit;
        self.reserved -= SEGMENT;
        self.check();
    }

    /// Takes back the slot at `base`, in which nothing was committed.
    pub(crate) fn keep(&mut self, base: *mut u8) {
        let (region, bit) = self.find_out(base);
        region.held |= bit;
        self.check();
    }

    /// The region and the bit of a slot that is out.
    fn find_out(&mut self, base: *mut u8) -> (&mut Region, u64) {
        let Some(region) = self.iter().find(|region| region.contains(base)) else {
            fault::die_of_foreign_block(base)
        };
        let bit = 1 << ((base.addr() - region.base.addr()) / SEGMENT);
        invariant!((region.held | region.gone) & bit == 0);
        (region, bit)
    }

    /// Unmaps every slot that no segment lives in: for a process that runs out of address space. Returns how many
    /// bytes that gave back.
    pub(crate) fn release_held(&mut self) -> usize {
        let mut released = 0;
        for region in self.iter() {
            let mut held = region.held;
            while held != 0 {
                let slot = held.trailing_zeros();
                let run = (held >> slot).trailing_ones();
                let mask = ones(run as usize) << slot;
                held &= !mask;
                // SAFETY: no segment lives in these slots.
                if unsafe { sys::unmap(region.slot(slot), run as usize * SEGMENT) }.is_ok() {
                    region.held &= !mask;
                    region.gone |= mask;
                    released += run as usize * SEGMENT;
                }
            }
        }
        self.reserved -= released;
        self.check();
        released
    }

    fn add(&mut self, want: usize) -> Option<()> {
        // First, because it can be kept when the rest fails.
        let descriptor = self.take_descriptor()?;
        let mut len = (want / SEGMENT * SEGMENT).clamp(SEGMENT, REGION_MAX);
        let base = loop {
            match sys::reserve_aligned(len, SEGMENT) {
                Ok(base) => break base.as_ptr(),
                Err(_) if len > SEGMENT => len = (len / 2 / SEGMENT * SEGMENT).max(SEGMENT),
                Err(_) => {
                    // SAFETY: the descriptor is this function's, and zero bytes or an old one are valid.
                    unsafe { (*descriptor.as_ptr()).next = self.spare };
                    self.spare = descriptor.as_ptr();
                    return None;
                }
            }
        };
        let all = ones(len / SEGMENT);
        // SAFETY: the descriptor is this function's.
        unsafe { descriptor.write(Region { next: self.head, base, known: all, held: all, gone: 0 }) };
        self.head = descriptor.as_ptr();
        self.reserved += len;
        self.check();
        Some(())
    }

    fn take_descriptor(&mut self) -> Option<NonNull<Region>> {
        let Some(spare) = NonNull::new(self.spare) else { return metadata::take_zeroed() };
        // SAFETY: a spare descriptor belongs to this struct.
        self.spare = unsafe { spare.as_ref() }.next;
        Some(spare)
    }

    /// Takes the regions of which nothing is known any more out of the list.
    fn drop_lost(&mut self) {
        let mut link = &raw mut self.head;
        // SAFETY: `link` is the head or the `next` of a descriptor in the list, all of which this struct owns.
        unsafe {
            while let Some(region) = (*link).as_mut() {
                if region.known == 0 {
                    *link = region.next;
                    region.next = self.spare;
                    self.spare = region;
                } else {
                    link = &raw mut region.next;
                }
            }
        }
    }

    fn iter<'a>(&self) -> impl Iterator<Item = &'a mut Region> + use<'a> {
        let mut next = self.head;
        core::iter::from_fn(move || {
            // SAFETY: descriptors in the list are valid for ever, and the lock lets one thread at a time come here.
            let region = unsafe { next.as_mut() }?;
            next = region.next;
            Some(region)
        })
    }

    /// Debug builds: each slot is in one state, and the sums agree.
    fn check(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        let mut reserved = 0;
        for region in self.iter() {
            invariant!(region.held & region.gone == 0);
            invariant!((region.held | region.gone) & !region.known == 0);
            reserved += (region.known & !region.gone).count_ones() as usize * SEGMENT;
        }
        invariant!(reserved == self.reserved);
    }
}

impl Region {
    fn slot(&self, slot: u32) -> *mut u8 {
        self.base.wrapping_add(slot as usize * SEGMENT)
    }

    /// Whether a slot that is not lost begins at `base`.
    fn contains(&self, base: *mut u8) -> bool {
        let slot = base.addr().wrapping_sub(self.base.addr()) / SEGMENT;
        slot < 64 && self.known >> slot & 1 == 1
    }
}
