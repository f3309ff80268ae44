//! A lock that allocates nothing, knows no poisoning and can be held across `fork`.
//!
//! One word: 0 free, 1 held, 2 held and somebody may sleep (Drepper, *Futexes are tricky*, mutex 2). A short spin
//! first.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};

use crate::base::sync::{AtomicU32, Ordering, SPINS, spin_loop};
use crate::vm::platform;

const FREE: u32 = 0;
const HELD: u32 = 1;
const CONTENDED: u32 = 2;

/// `value`, reached by one thread at a time.
#[derive(Debug)]
pub(crate) struct Lock<T> {
    word: AtomicU32,
    #[cfg(arenite_lock_counts)]
    counter: super::lock_counts::Counter,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached through the lock only, by one thread at a time.
unsafe impl<T: Send> Sync for Lock<T> {}

/// The right to reach the value; gives the lock back when it drops.
#[derive(Debug)]
pub(crate) struct Guard<'a, T> {
    lock: &'a Lock<T>,
}

impl<T> Lock<T> {
    pub(crate) const fn new(value: T) -> Lock<T> {
        Lock {
            word: AtomicU32::new(FREE),
            #[cfg(arenite_lock_counts)]
            counter: super::lock_counts::Counter::new(),
            value: UnsafeCell::new(value),
        }
    }

    #[inline]
    pub(crate) fn lock(&self) -> Guard<'_, T> {
        self.acquire();
        Guard { lock: self }
    }

    pub(crate) fn try_lock(&self) -> Option<Guard<'_, T>> {
        // Acquire: what the last holder wrote is seen.
        let got = self.word.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed);
        #[cfg(arenite_lock_counts)]
        got.is_ok().then(|| self.counter.note_taken());
        // Not `then_some`: a guard made in vain would give back what another thread holds.
        got.is_ok().then(|| Guard { lock: self })
    }

    /// Takes the lock and leaves it taken, for `fork`: [`Lock::release`] must follow, in the parent and in the child.
    #[inline]
    pub(crate) fn acquire(&self) {
        if self.word.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_err() {
            #[cfg(arenite_lock_counts)]
            self.counter.note_contended();
            self.acquire_contended();
        }
        #[cfg(arenite_lock_counts)]
        self.counter.note_taken();
    }

    #[cold]
    fn acquire_contended(&self) {
        for _ in 0..SPINS {
            if self.word.load(Ordering::Relaxed) == FREE
                && self.word.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_ok()
            {
                return;
            }
            spin_loop();
        }
        // Whoever arrives here cannot know of other sleepers, so the word says that there may be some.
        while self.word.swap(CONTENDED, Ordering::Acquire) != FREE {
            platform::wait(&self.word, CONTENDED, None);
        }
    }

    /// A guard for a lock that was taken with [`Lock::acquire`].
    ///
    /// # Safety
    /// The calling thread holds the lock (in the child of a fork: its parent did). The guard gives it back.
    pub(crate) unsafe fn assume_held(&self) -> Guard<'_, T> {
        Guard { lock: self }
    }

    /// Gives back a lock that this thread holds.
    ///
    /// # Safety
    /// The calling thread took it (in the child of a fork: its parent did), and no guard of it is alive.
    #[inline]
    pub(crate) unsafe fn release(&self) {
        #[cfg(arenite_lock_counts)]
        self.counter.note_released();
        // Release: the next holder sees what this one wrote.
        if self.word.swap(FREE, Ordering::Release) == CONTENDED {
            platform::wake_one(&self.word);
        }
    }

    #[cfg(arenite_lock_counts)]
    pub(crate) fn counts(&self) -> super::lock_counts::LockCounts {
        self.counter.read()
    }
}

impl<T> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the guard is the proof that this thread holds the lock, and it ends here.
        unsafe { self.lock.release() };
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard's thread is the only one that reaches the value.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard's thread is the only one that reaches the value, and the guard is borrowed whole.
        unsafe { &mut *self.lock.value.get() }
    }
}
