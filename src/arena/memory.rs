//! Where an arena's memory comes from and goes to: reserving, committing in growing steps, giving back.
//!
//! Nothing here is on the fast path. A reservation is made once and released once; between these it waits in
//! [`warm`] whenever it has no arena. What is committed grows by steps in proportion to what is in use. Small arenas
//! commit far ahead, because that costs no memory; from `ARENA_LARGE` on each step is filled in at once, by huge pages
//! where the system has them, and is small in proportion to what is in use already.

use core::arch::asm;
use core::cell::{Cell, UnsafeCell};
use core::ptr::NonNull;
use std::io;

use crate::arena::error::{ArenaError, ArenaErrorKind};
use crate::arena::header::{HEADER_SIZE, Header};
use crate::arena::options::{ArenaOptions, Shape};
use crate::arena::{poison, warm};
use crate::base::sync::{AtomicUsize, Ordering};
use crate::base::{align, bump};
use crate::config::{
    ARENA_ADDRESSES, ARENA_GROWTH_SHIFT, ARENA_KEPT_PREFIX, ARENA_LARGE, ARENA_POPULATE_SHIFT,
    ARENA_RESERVATION_MIN, HUGE_PAGE, HugePages,
};
use crate::vm::{Advice, Mapping, Reservation, page_size, sys};

/// What an arena lies in.
#[derive(Debug)]
pub(crate) enum Memory {
    /// Reserved addresses, committed as the arena grows. The header is at their start.
    Reserved(Reservation),
    /// Somebody's mapping, all of it there from the start. The header is in a box.
    Mapped(Mapping),
}

/// Reservations that exist, warm ones too.
static RESERVATIONS: AtomicUsize = AtomicUsize::new(0);

impl Header {
    /// The header of a new arena, from the pool if one with these options is there.
    pub(crate) fn make(options: &ArenaOptions) -> io::Result<NonNull<Header>> {
        let header = match warm::take(options.shape) {
            Some(header) => header,
            None => Header::reserve(options)?,
        };
        // SAFETY: nobody else knows of the header.
        let this = unsafe { header.as_ref() };
        this.growth_step.set(options.growth_step);
        this.keep.set(options.keep);
        if options.limit != usize::MAX {
            this.set_limit(options.limit);
        }
        if options.capacity > 0 {
            let wanted =
                this.first.addr().get().checked_add(options.capacity).filter(|&end| end < bump::ADDRESS_MAX);
            let done = match wanted {
                Some(end) if end <= this.limit.get() => Ok(()),
                Some(end) => this.commit_to(end, options.capacity),
                None => Err(ArenaError::overflow()),
            };
            if let Err(error) = done {
                // SAFETY: the header was made just now.
                unsafe { Header::release(header) };
                return Err(io::Error::new(io::ErrorKind::OutOfMemory, error));
            }
        }
        Ok(header)
    }

    /// The header of an arena over a mapping. Its contents are not read.
    pub(crate) fn over(mapping: Mapping) -> NonNull<Header> {
        // SAFETY: a mapping's address is never null.
        let base = unsafe { NonNull::new_unchecked(mapping.as_ptr()) };
        // A mapping may begin at any byte of a file.
        let skipped = align::up(base.addr().get(), bump::MIN_ALIGN_MAX) - base.addr().get();
        let len = mapping.len();
        assert!(
            skipped <= len,
            "an arena over {len} bytes: the first {skipped} are no multiple of its alignment"
        );
        // SAFETY: at most the mapping's length.
        let first = unsafe { base.add(skipped) };
        let end = base.addr().get() + mapping.len();
        let shape = Shape { reservation: 0, huge_pages: HugePages::System, guard_page: false };
        let committed = mapping.len();
        let header = Header::new(first, end, committed, shape, Memory::Mapped(mapping));
        header.limit.set(end);
        header.dirty.set(end);
        poison::lay_fresh(first.as_ptr(), end - first.addr().get());
        NonNull::from(Box::leak(Box::new(header)))
    }

    fn new(first: NonNull<u8>, ceiling: usize, committed: usize, shape: Shape, memory: Memory) -> Header {
        let start = first.addr().get();
        assert!(ceiling <= bump::ADDRESS_MAX, "an arena's addresses must lie in user space");
        Header {
            cursor: Cell::new(first),
            first,
            limit: Cell::new(start),
            ceiling: Cell::new(ceiling),
            high: Cell::new(start),
            dirty: Cell::new(start),
            committed: Cell::new(committed),
            growth_step: Cell::new(0),
            keep: Cell::new(0),
            bound: Cell::new(usize::MAX),
            shape,
            next: Cell::new(None),
            memory: UnsafeCell::new(memory),
        }
    }

    fn reserve(options: &ArenaOptions) -> io::Result<NonNull<Header>> {
        let page = page_size();
        let guard = if options.shape.guard_page { page } else { 0 };
        let at_least = align::up(HEADER_SIZE, page) + guard;
        let mut len = options.shape.reservation.max(at_least).min(ARENA_ADDRESSES);
        len = len
            .min((ARENA_ADDRESSES / (1 + RESERVATIONS.load(Ordering::Relaxed))).max(ARENA_RESERVATION_MIN));
        if let Some(space) = sys::address_space_limit() {
            // The rest of the program needs addresses too.
            len = len.min((space / 4).max(ARENA_RESERVATION_MIN));
        }
        let reservation = loop {
            match Reservation::new(align::up(len, page)) {
                Ok(reservation) => break reservation,
                Err(_) if len / 2 >= ARENA_RESERVATION_MIN.max(at_least) => len /= 2,
                Err(error) => return Err(error),
            }
        };
        // SAFETY: a reservation's address is never null.
        let base = unsafe { NonNull::new_unchecked(reservation.as_ptr()) };
        let range = reservation.mapped_len() - guard;
        let ceiling = base.addr().get() + range;
        let committed = options.growth_step.min(range - HEADER_SIZE) + HEADER_SIZE;
        let mut committed = align::up(committed, page).min(range);
        if reservation.commit(..committed).is_err() {
            committed = align::up(HEADER_SIZE, page);
            reservation.commit(..committed)?;
        }
        if options.shape.huge_pages == HugePages::Always {
            // A kernel without huge pages refuses, which harms nothing.
            let _ = reservation.advise(.., Advice::HugePage);
        }
        RESERVATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: what is committed has room for the header, at whose end the first block goes.
        unsafe {
            let first = base.add(HEADER_SIZE);
            let header = base.cast::<Header>();
            let memory = Memory::Reserved(reservation);
            header.write(Header::new(first, ceiling, committed, options.shape, memory));
            header.as_ref().limit.set(base.addr().get() + committed);
            poison::lay_fresh(first.as_ptr(), committed - HEADER_SIZE);
            Ok(header)
        }
    }

    /// Lets the cursor rise to `end`, which is above the limit. `asked` is for the message.
    #[cold]
    pub(crate) fn commit_to(&self, end: usize, asked: usize) -> Result<(), ArenaError> {
        let ceiling = self.ceiling.get();
        if end > ceiling {
            let limited = ceiling < self.range_end();
            let kind = if limited { ArenaErrorKind::LimitReached } else { ArenaErrorKind::RangeFull };
            return Err(self.error(kind, asked));
        }
        // SAFETY: nobody has the memory borrowed mutably: such calls have the arena to themselves.
        let Memory::Reserved(reservation) = (unsafe { &*self.memory.get() }) else {
            return Err(self.error(ArenaErrorKind::RangeFull, asked));
        };
        let base = reservation.as_ptr().addr();
        let (needed, committed) = (end - base, self.committed.get());
        if needed > committed {
            let to =
                self.commit_pages(reservation, needed, committed, align::up(ceiling - base, page_size()));
            self.committed.set(to.ok_or_else(|| self.error(ArenaErrorKind::OutOfMemory, asked))?);
        }
        let limit = (base + self.committed.get()).min(ceiling);
        let old = self.limit.replace(limit);
        // SAFETY: the old limit lies in the reservation.
        poison::lay_fresh(unsafe { reservation.as_ptr().add(old - base) }, limit - old);
        Ok(())
    }

    /// Commits `needed` bytes from the start, of which `committed` are, or more; says how many are now.
    fn commit_pages(
        &self,
        reservation: &Reservation,
        needed: usize,
        committed: usize,
        bound: usize,
    ) -> Option<usize> {
        let huge = match self.shape.huge_pages {
            HugePages::System => false,
            HugePages::Large => needed > ARENA_LARGE,
            HugePages::Always => true,
        };
        let fills = needed > ARENA_LARGE;
        let shift = if fills { ARENA_POPULATE_SHIFT } else { ARENA_GROWTH_SHIFT };
        let unit = if fills { HUGE_PAGE } else { page_size() };
        // Steps end at huge pages' addresses, not at multiples of their size from the start.
        let skew = if fills { reservation.as_ptr().addr() % HUGE_PAGE } else { 0 };
        let step = self.growth_step.get();
        let to = bump::commit_to(needed + skew, committed + skew, bound + skew, step, shift, unit) - skew;
        let to = if reservation.commit(committed..to).is_ok() {
            to
        } else {
            let least = align::up(needed, page_size()).min(bound);
            reservation.commit(committed..least).ok()?;
            least
        };
        if huge {
            let _ = reservation.advise(committed..to, Advice::HugePage);
        }
        // A block much larger than a step may be meant to stay sparse. What is not filled in now, is when it is touched.
        let most = (committed >> ARENA_POPULATE_SHIFT).max(step).saturating_add(2 * HUGE_PAGE);
        if fills && to - committed <= most {
            let _ = reservation.advise(committed..to, Advice::PopulateWrite);
        }
        Some(to)
    }

    fn error(&self, kind: ArenaErrorKind, asked: usize) -> ArenaError {
        let bound = self.ceiling.get() - self.first.addr().get();
        ArenaError { kind, asked, used: self.used(), bound }
    }

    /// Bytes that may be in use at the most; what is in use stays. `usize::MAX` is no limit.
    pub(crate) fn set_limit(&self, bytes: usize) {
        self.bound.set(bytes);
        self.apply_limit();
    }

    /// To be called when the cursor has fallen: the limit may have been set when more was in use than it allows.
    #[inline]
    pub(crate) fn reapply_limit(&self) {
        if self.bound.get() != usize::MAX {
            self.apply_limit();
        }
    }

    /// Brings the ceiling to where the limit wants it, as far down as the cursor allows.
    #[cold]
    fn apply_limit(&self) {
        let wanted = self.first.addr().get().saturating_add(self.bound.get());
        let ceiling = wanted.min(self.range_end()).max(self.cursor_addr());
        self.ceiling.set(ceiling);
        // SAFETY: nobody has the memory borrowed mutably.
        let base = unsafe { &*self.memory.get() }.base();
        self.limit.set((base + self.committed.get()).min(ceiling));
    }

    /// The end of what the arena could have without a limit, as an address.
    pub(crate) fn range_end(&self) -> usize {
        // SAFETY: nobody has the memory borrowed mutably.
        match unsafe { &*self.memory.get() } {
            Memory::Reserved(reservation) => {
                let guard = if self.shape.guard_page { page_size() } else { 0 };
                reservation.as_ptr().addr() + reservation.mapped_len() - guard
            }
            Memory::Mapped(mapping) => mapping.as_ptr().addr() + mapping.len(),
        }
    }

    /// Falls back to the first byte, and gives what is committed behind the kept prefix back to the system if that is
    /// more than the prefix once more.
    ///
    /// # Safety
    /// Nothing that was allocated is used any more, and nobody uses the header at the same time.
    pub(crate) unsafe fn reset(&self) {
        let keep = self.keep.get().saturating_add(HEADER_SIZE);
        if self.committed.get() > keep.saturating_mul(2) {
            // SAFETY: passed on to the caller.
            unsafe { self.trim(keep) };
        }
        if self.first.addr().get() < self.cursor_addr() {
            self.fall_to(self.first);
        }
        self.high.set(self.first.addr().get());
        self.reapply_limit();
    }

    /// Gives what is committed behind `keep` bytes from the start back to the system.
    ///
    /// # Safety
    /// Nothing behind these bytes is used any more, and nobody uses the header at the same time.
    #[cold]
    pub(crate) unsafe fn trim(&self, keep: usize) {
        // SAFETY: the caller has the arena to itself.
        let Memory::Reserved(reservation) = (unsafe { &mut *self.memory.get() }) else { return };
        let (base, committed) = (reservation.as_ptr(), self.committed.get());
        let keep = align::up(keep.min(committed), page_size()).min(committed);
        // SAFETY: inside of the reservation.
        let (tail, end) = unsafe { (base.add(keep), base.addr() + keep) };
        poison::lift_all(tail, committed - keep);
        if keep == committed {
            return;
        }
        let dirty = self.dirty.get().max(self.cursor_addr());
        // A refusal leaves the pages as they were, or lost to this arena: in either case they are committed anew before
        // they are used again.
        let is_done = reservation.decommit(keep..committed).is_ok();
        self.committed.set(keep);
        self.limit.set(self.limit.get().min(end));
        self.high.set(self.high.get().min(end));
        self.dirty.set(if is_done { dirty.min(end) } else { dirty });
        if self.cursor_addr() > end {
            // SAFETY: the end lies in the reservation, which is not at null.
            self.cursor.set(unsafe { NonNull::new_unchecked(base.add(keep)) });
        }
    }

    /// Gives what is committed behind the cursor back to the system.
    ///
    /// # Safety
    /// Nobody uses the header at the same time.
    pub(crate) unsafe fn trim_unused(&self) {
        // SAFETY: nobody has the memory borrowed mutably. What lies behind the cursor is nobody's.
        unsafe {
            let base = (*self.memory.get()).base();
            self.trim(self.cursor_addr() - base);
        }
    }

    /// The end of an arena: its reservation is kept warm, or goes back to the system.
    ///
    /// # Safety
    /// Nobody uses the header or the memory any more.
    pub(crate) unsafe fn release(header: NonNull<Header>) {
        // SAFETY: the caller gives the header away, whole.
        unsafe {
            let this = header.as_ref();
            match &*this.memory.get() {
                Memory::Reserved(_) => {
                    this.keep.set(this.keep.get().min(ARENA_KEPT_PREFIX));
                    this.reset();
                    if this.bound.get() != usize::MAX {
                        this.set_limit(usize::MAX);
                    }
                    // Not one that the kernel lost a part of, which could never grow again.
                    match &*this.memory.get() {
                        Memory::Reserved(reservation) if reservation.is_lost() => Header::unmap(header),
                        _ => warm::give(header),
                    }
                }
                Memory::Mapped(_) => drop(Header::into_mapping(header)),
            }
        }
    }

    /// The mapping that the arena lies in; the arena is gone. `None`, and nothing has changed, for a reservation.
    ///
    /// # Safety
    /// As for [`Header::release`].
    pub(crate) unsafe fn into_mapping(header: NonNull<Header>) -> Option<Mapping> {
        // SAFETY: the header of a mapping came from a box, and the caller gives it away.
        unsafe {
            if matches!(&*header.as_ref().memory.get(), Memory::Reserved(_)) {
                return None;
            }
            let header = Box::from_raw(header.as_ptr());
            match header.memory.into_inner() {
                Memory::Mapped(mapping) => {
                    poison::lift_all(mapping.as_ptr(), mapping.len());
                    initialise(mapping.as_ptr());
                    Some(mapping)
                }
                Memory::Reserved(_) => None,
            }
        }
    }

    /// Unmaps a reservation.
    ///
    /// # Safety
    /// As for [`Header::release`], and the header is that of a reservation.
    pub(crate) unsafe fn unmap(header: NonNull<Header>) {
        // SAFETY: the memory is moved out of the header, which lies in it and is not used afterwards.
        unsafe {
            let committed = header.as_ref().committed.get();
            poison::lift_all(header.as_ptr().cast(), committed);
            drop(header.as_ref().memory.get().read());
        }
        RESERVATIONS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Makes every byte of the pointer's mapping initialised as it is: values had padding, and a mapping can be read as bytes
/// without `unsafe`. To the compiler the empty instruction may have written there whatever it finds.
fn initialise(start: *mut u8) {
    // SAFETY: nothing is run. Nobody else has a reference into the mapping.
    unsafe { asm!("/* {0} */", in(reg) start, options(nostack, preserves_flags)) };
}

impl Memory {
    fn base(&self) -> usize {
        match self {
            Memory::Reserved(reservation) => reservation.as_ptr().addr(),
            Memory::Mapped(mapping) => mapping.as_ptr().addr(),
        }
    }
}
