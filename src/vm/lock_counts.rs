//! How often each lock is taken, and for how long: the inputs of the model in `benches/scale`. With `--cfg
//! arenite_lock_counts` only; each look at the clock makes a lock slower by some ten nanoseconds.

// Not by way of `base::sync`: a model checker has no business here.
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What one lock counts of itself. Written by its holder, but for `contended`.
#[derive(Debug)]
pub(super) struct Counter {
    taken: AtomicU64,
    contended: AtomicU64,
    held: AtomicU64,
    since: AtomicU64,
}

/// The counts of one lock.
#[derive(Clone, Copy, Debug)]
pub struct LockCounts {
    /// How often it was taken.
    pub taken: u64,
    /// How often somebody else had it at that moment.
    pub contended: u64,
    /// For how long it was held, in ticks of [`now`].
    pub held: u64,
}

/// What holding a lock once counts for at the most, in ticks, some twenty microseconds: a holder may lose its core.
const LONGEST: u64 = 1 << 16;

/// The processor's clock, in ticks of its own.
#[must_use]
pub fn now() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instructions wait for the loads before them and read a counter.
    unsafe {
        core::arch::x86_64::_mm_lfence();
        core::arch::x86_64::_rdtsc()
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        let ticks;
        core::arch::asm!("isb", "mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack));
        ticks
    }
}

/// The counts of a lock around nothing that is taken a thousand times: what counting itself costs.
#[must_use]
pub fn of_nothing() -> LockCounts {
    let lock = super::Lock::new(());
    (0..1000).for_each(|_| drop(lock.lock()));
    lock.counts()
}

impl Counter {
    pub(super) const fn new() -> Counter {
        Counter {
            taken: AtomicU64::new(0),
            contended: AtomicU64::new(0),
            held: AtomicU64::new(0),
            since: AtomicU64::new(0),
        }
    }

    pub(super) fn note_contended(&self) {
        self.contended.fetch_add(1, Relaxed);
    }

    pub(super) fn note_taken(&self) {
        self.taken.store(self.taken.load(Relaxed) + 1, Relaxed);
        self.since.store(now(), Relaxed);
    }

    pub(super) fn note_released(&self) {
        let held = now().saturating_sub(self.since.load(Relaxed)).min(LONGEST);
        self.held.store(self.held.load(Relaxed) + held, Relaxed);
    }

    pub(super) fn read(&self) -> LockCounts {
        LockCounts {
            taken: self.taken.load(Relaxed),
            contended: self.contended.load(Relaxed),
            held: self.held.load(Relaxed),
        }
    }
}
