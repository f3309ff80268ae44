//! A thread's cache: for each small size class a magazine that is *loaded* and a *spare* behind it.
//!
//! Allocating pops from the loaded magazine and freeing pushes onto it; neither looks at the block or at anything that
//! another thread writes. When the loaded one runs out (or over) and the spare is full (or empty), the two change
//! places; else a magazine is exchanged at the depot; else blocks come from the slabs (or go home). The spare is always
//! empty or full, or as full as a thread that ended left it. A class that the thread has hardly used yet has no magazine:
//! each block comes from a slab and goes there.
//!
//! A cache is *new* until its thread first leaves a fast path, *live*, and *over* after the thread's exit hook: then
//! each call goes to the slabs. New and over caches stand on [`EMPTY_MAGAZINE`], which sends every call to the slow
//! path; so the fast paths know nothing of it.
//!
//! Who writes: only the owner. `tops` and `spare` are atomic because [`Cache::parked`] reads them from other threads, relaxed.
//! The links belong to the list of threads.
//!
//! [`EMPTY_MAGAZINE`]: crate::heap::EMPTY_MAGAZINE

use core::cell::Cell;
use core::ptr::{self, NonNull};

use crate::base::sync::{AtomicPtr, Ordering};
use crate::config::{HARDENED, Options, RARE, ROOM_STEP, SPARE_FROM};
use crate::heap::hardened::secret;
use crate::heap::magazine::{MARKS, Magazine, Slot, sentinel};
use crate::heap::size_class::SizeClass;
use crate::heap::tops::{self, TOPS, Tops};
use crate::heap::{depot, metadata, purge, slab_class, work};
use crate::vm::KeepErrno;

/// The state of one thread; see [`crate::heap`] for how to hold one.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Cache {
    /// The sentinel, and the top of each class's loaded magazine.
    tops: [AtomicPtr<Slot>; TOPS],
    /// The top of each class's spare magazine, or null.
    spare: [AtomicPtr<Slot>; SizeClass::SMALL],
    /// How often magazines were exchanged or filled, as far as it is counted: see [`Cache::room`].
    exchanges: [Cell<u8>; SizeClass::SMALL],
    /// When hardened: the memory of each class's quarantine, or null; see [`super::hardened`].
    pub(super) quarantined: [AtomicPtr<Slot>; if HARDENED { SizeClass::SMALL } else { 0 }],
    pub(super) state: Cell<State>,
    pub(super) next: Cell<*const Cache>,
    pub(super) prev: Cell<*const Cache>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum State {
    New = 0,
    Live = 1,
    Over = 2,
}

impl Cache {
    /// How many words, one more than there are small size classes, a cache begins with. In a new cache each points to
    /// the end of [`EMPTY_MAGAZINE`], and all that follows is zero.
    ///
    /// [`EMPTY_MAGAZINE`]: crate::heap::EMPTY_MAGAZINE
    pub const TOPS: usize = TOPS;

    /// A new cache.
    #[must_use]
    pub const fn new() -> Cache {
        Cache {
            tops: [const { AtomicPtr::new(sentinel()) }; TOPS],
            spare: [const { AtomicPtr::new(ptr::null_mut()) }; SizeClass::SMALL],
            exchanges: [const { Cell::new(0) }; SizeClass::SMALL],
            quarantined: [const { AtomicPtr::new(ptr::null_mut()) }; _],
            state: Cell::new(State::New),
            next: Cell::new(ptr::null()),
            prev: Cell::new(ptr::null()),
        }
    }

    /// Takes a block of `class`, which may be marked if it spans pages. Null when out of memory.
    #[inline(always)]
    pub(super) fn pop(&self, options: &Options, class: SizeClass) -> *mut u8 {
        let block = tops::pop(self, class);
        if block.is_null() {
            return self.pop_slowly(options, class);
        }
        block
    }

    /// Takes a block back.
    ///
    /// # Safety
    /// `block` is a block of `class` that is out, and the caller's.
    #[inline(always)]
    pub(super) unsafe fn push(&self, options: &Options, class: SizeClass, block: *mut u8) {
        // SAFETY: passed on to the caller.
        unsafe {
            if !tops::push(self, class.index() + 1, block) {
                self.push_slowly(options, class, block);
            }
        }
    }

    fn top(&self, class: SizeClass) -> &AtomicPtr<Slot> {
        &self.tops[class.index() + 1]
    }

    /// # Safety
    /// `offset` is a multiple of a word, in bytes, and one of the words lies there.
    #[inline(always)]
    unsafe fn top_at(&self, offset: usize) -> &AtomicPtr<Slot> {
        invariant!(offset.is_multiple_of(size_of::<*mut Slot>()) && offset < size_of_val(&self.tops));
        // SAFETY: passed on to the caller.
        unsafe { self.tops.as_ptr().byte_add(offset).as_ref_unchecked() }
    }

    #[cold]
    #[inline(never)]
    fn pop_slowly(&self, options: &Options, class: SizeClass) -> *mut u8 {
        if !self.is_live() {
            // In there the C library may allocate through this very cache, and then a magazine is loaded.
            return if self.enter(options) { self.pop(options, class) } else { self.take_one(class) };
        }
        let loaded = self.loaded(class);
        if loaded.is_none() && self.is_rare(class) {
            self.count_exchange(class);
            let block = self.take_one(class);
            purge::note_growth();
            return block;
        }
        let spare = self.spare(class);
        if let Some(full) = spare.filter(|spare| !spare.is_empty()) {
            self.load(class, full, loaded);
            return self.pop(options, class);
        }
        // An empty magazine is given for the full one: the spare, or, where there is to be none yet, the loaded one.
        let (given, kept) = match spare {
            None if !self.is_worth_a_spare(class) => (loaded, None),
            spare => (spare, loaded),
        };
        // SAFETY: it is this thread's and empty, and is replaced below if the depot took it.
        if let Some(full) = unsafe { depot::take_full(class, given) } {
            self.count_exchange(class);
            self.load(class, full, kept);
            return self.pop(options, class);
        }
        self.fill_from_slab(options, class, loaded)
    }

    /// Takes blocks from a slab, which are popped in the order of their addresses; the first is returned.
    fn fill_from_slab(&self, options: &Options, class: SizeClass, loaded: Option<Magazine>) -> *mut u8 {
        let Some(mut magazine) = loaded.or_else(|| depot::take_empty(class, self.room(class))) else {
            return self.take_one(class);
        };
        invariant!(magazine.is_empty());
        // What is taken may be what the cache is emptied for.
        self.top(class).store(sentinel(), Ordering::Relaxed);
        // SAFETY: the magazine is this thread's and empty; there is room for what is taken.
        let got = unsafe {
            magazine.clear(self.room(class));
            magazine.fill(self.room(class), |slots| {
                let got = self.take(class, slots);
                if HARDENED {
                    secret::rotate(&mut slots[..got]);
                }
                got
            })
        };
        self.count_exchange(class);
        self.top(class).store(magazine.top(), Ordering::Relaxed);
        if got == 0 {
            return ptr::null_mut();
        }
        let block = self.pop(options, class);
        // Last: it may start a thread, for which the C library may allocate through this very cache.
        purge::note_growth();
        block
    }

    /// # Safety
    /// As for [`Cache::push`].
    #[cold]
    #[inline(never)]
    unsafe fn push_slowly(&self, options: &Options, class: SizeClass, block: *mut u8) {
        let _errno = KeepErrno::new();
        if !self.is_live() {
            // SAFETY: passed on to the caller; a magazine may be loaded now, as in `pop_slowly`.
            unsafe {
                if self.enter(options) {
                    return self.push(options, class, block);
                }
                slab_class::give(class, &[block]);
            }
            return purge::note_work();
        }
        let loaded = self.loaded(class);
        let is_rare = loaded.is_none() && self.is_rare(class);
        self.count_exchange(class);
        if is_rare {
            // SAFETY: passed on to the caller.
            unsafe { slab_class::give(class, &[block]) };
            return purge::note_work();
        }
        let (empty, full) = match (loaded, self.spare(class)) {
            (Some(loaded), Some(spare)) if spare.is_empty() => (Some(spare), Some(loaded)),
            // SAFETY: the spare is this thread's, and is replaced below.
            (Some(loaded), Some(spare)) => (unsafe { self.give_away(class, spare) }, Some(loaded)),
            (Some(loaded), None) if !self.is_worth_a_spare(class) => {
                // SAFETY: the loaded one is this thread's, and is replaced below.
                (unsafe { self.give_away(class, loaded) }, None)
            }
            (loaded, spare) => (depot::take_empty(class, self.room(class)), loaded.or(spare)),
        };
        match empty {
            Some(mut empty) => {
                // SAFETY: the magazine is empty and this thread's.
                unsafe {
                    empty.clear(self.room(class));
                    empty.push(block);
                }
                self.load(class, empty, full);
            }
            None => {
                // Out of memory for magazines: the full one stays, as the spare.
                self.top(class).store(sentinel(), Ordering::Relaxed);
                self.set_spare(class, full);
                // SAFETY: passed on to the caller.
                unsafe { slab_class::give(class, &[block]) };
            }
        }
        purge::note_work();
    }

    /// How many blocks a refill brings and a magazine has room for: more with each exchange. A thread that needs little
    /// of a class keeps little, and one that needs thousands comes here seldom.
    pub(super) fn room(&self, class: SizeClass) -> usize {
        let exchanges = usize::from(self.exchanges[class.index()].get().saturating_sub(RARE));
        ((1 + exchanges) * ROOM_STEP / class.size()).clamp(1, class.capacity())
    }

    /// Whether a class is used so much that a second magazine pays: it takes 512 bytes by itself.
    fn is_worth_a_spare(&self, class: SizeClass) -> bool {
        self.exchanges[class.index()].get() >= SPARE_FROM
    }

    /// Whether a class has been used so little that it is worth no magazine yet.
    fn is_rare(&self, class: SizeClass) -> bool {
        // Not `<`: the constant may be zero.
        self.exchanges[class.index()].get().checked_sub(RARE).is_none()
    }

    fn count_exchange(&self, class: SizeClass) {
        let exchanges = &self.exchanges[class.index()];
        exchanges.set(exchanges.get().saturating_add(1));
    }

    /// Gives a full magazine to the depot, or its blocks home if the depot has enough; returns an empty one, if there is
    /// memory for it.
    ///
    /// # Safety
    /// The magazine is the caller's, who forgets it.
    unsafe fn give_away(&self, class: SizeClass, full: Magazine) -> Option<Magazine> {
        // SAFETY: passed on to the caller.
        unsafe {
            depot::exchange_full(class, full, self.room(class)).unwrap_or_else(|full| {
                slab_class::give(class, full.blocks());
                Some(full)
            })
        }
    }

    /// How many blocks it holds of a class. May be asked by another thread that holds the list of threads.
    pub(super) fn parked(&self, class: SizeClass) -> usize {
        let magazines = [self.loaded(class), self.spare(class)];
        let cached: usize = magazines.into_iter().flatten().map(Magazine::len).sum();
        cached + self.count_quarantined(class)
    }

    fn loaded(&self, class: SizeClass) -> Option<Magazine> {
        Magazine::from_top(self.top(class).load(Ordering::Relaxed))
    }

    fn spare(&self, class: SizeClass) -> Option<Magazine> {
        Magazine::from_top(self.spare[class.index()].load(Ordering::Relaxed))
    }

    fn set_spare(&self, class: SizeClass, spare: Option<Magazine>) {
        let top = spare.map_or(ptr::null_mut(), Magazine::top);
        self.spare[class.index()].store(top, Ordering::Relaxed);
    }

    fn load(&self, class: SizeClass, magazine: Magazine, spare: Option<Magazine>) {
        self.set_spare(class, spare);
        self.top(class).store(magazine.top(), Ordering::Relaxed);
    }

    pub(super) fn is_live(&self) -> bool {
        self.state.get() == State::Live
    }

    pub(super) fn is_over(&self) -> bool {
        self.state.get() == State::Over
    }

    /// Sends everything that is cached home; returns whether that was anything.
    pub(super) fn flush(&self) -> bool {
        self.empty(|_, _| false)
    }

    /// Takes all magazines out. Those that `keep` does not take over are emptied into the slabs. Returns whether there were
    /// blocks.
    pub(super) fn empty(&self, keep: impl Fn(SizeClass, Magazine) -> bool) -> bool {
        let mut found = false;
        for index in 0..SizeClass::SMALL {
            let class = SizeClass::from_index(index);
            if HARDENED {
                found |= self.empty_quarantine(class);
            }
            // No magazine comes without one.
            if self.exchanges[index].get() == 0 {
                invariant!(self.loaded(class).is_none() && self.spare(class).is_none());
                continue;
            }
            let magazines = [self.loaded(class), self.spare(class)];
            self.top(class).store(sentinel(), Ordering::Relaxed);
            self.set_spare(class, None);
            for magazine in magazines.into_iter().flatten() {
                found |= !magazine.is_empty();
                if keep(class, magazine) {
                    continue;
                }
                // SAFETY: the magazine was this thread's and is this function's now, as are its blocks.
                unsafe {
                    slab_class::give(class, magazine.blocks());
                    metadata::give_magazine(magazine);
                }
            }
        }
        found
    }

    /// Runs `attempt`; when it fails, gives back what can be and tries again. For the calls that make room: out of memory
    /// means null only when nothing that the heap merely keeps stood in the way. Several times, because other threads may
    /// meanwhile have freed, and had kept, what they held. The thread's own cache goes if the rest did not do.
    pub(super) fn retry_after_reclaim<T>(&self, mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
        const RETRIES: usize = 4;
        attempt().or_else(|| {
            (0..RETRIES).find_map(|retry| {
                if retry > 0 && self.flush() {
                    work::note();
                }
                purge::reclaim();
                attempt()
            })
        })
    }

    /// Takes blocks from slabs; if there is no memory for a new one, again after memory was given back. Returns how many.
    fn take(&self, class: SizeClass, blocks: &mut [Slot]) -> usize {
        let taken = self.retry_after_reclaim(|| match slab_class::take(class, blocks) {
            0 => None,
            taken => Some(taken),
        });
        taken.unwrap_or(0)
    }

    fn take_one(&self, class: SizeClass) -> *mut u8 {
        let mut block = [ptr::null_mut()];
        self.take(class, &mut block);
        block[0]
    }
}

// SAFETY: a cache begins with its tops, and a reference to one is given away as `Tops` by the thread that owns it.
unsafe impl Tops for &Cache {
    #[inline(always)]
    unsafe fn load<const STEP: usize, const FIRST: usize>(self, steps: usize) -> *mut Slot {
        // SAFETY: passed on to the caller.
        unsafe { self.top_at(steps * STEP + FIRST) }.load(Ordering::Relaxed)
    }

    #[inline(always)]
    unsafe fn advance<const STEP: usize, const FIRST: usize, const BY: isize>(
        self,
        steps: usize,
        top: *mut Slot,
    ) {
        // SAFETY: passed on to the caller.
        let place = unsafe { self.top_at(steps * STEP + FIRST) };
        // Loaded again where one instruction changes a word in memory: the compiler makes that of it.
        let top = if cfg!(target_arch = "x86_64") { place.load(Ordering::Relaxed) } else { top };
        place.store(top.wrapping_byte_offset(BY), Ordering::Relaxed);
    }
}

impl Default for Cache {
    fn default() -> Cache {
        Cache::new()
    }
}

/// Splits what [`Cache::pop`] gave into the block and its mark.
pub(super) fn unmark(block: *mut u8) -> (Option<NonNull<u8>>, usize) {
    (NonNull::new(block.map_addr(|addr| addr & !MARKS)), block.addr() & MARKS)
}
