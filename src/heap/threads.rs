//! The threads that use the heap: a list of their caches, which come to it when they go from *new* to *live* and leave it
//! when they are *over*.

use core::ptr;

use crate::heap::cache::{Cache, State};
use crate::heap::size_class::SizeClass;
use crate::heap::{depot, purge};
use crate::vm::Lock;

/// The caches of the threads that run.
struct Threads {
    head: *const Cache,
    count: usize,
}

// SAFETY: caches in the list are alive: a thread's exit hook takes its cache out.
unsafe impl Send for Threads {}

static THREADS: Lock<Threads> = Lock::new(Threads { head: ptr::null(), count: 0 });

impl Cache {
    /// The end of the thread that owns the cache.
    ///
    /// # Safety
    /// Called by that thread.
    pub(super) unsafe fn on_thread_exit(cache: *const Cache) {
        // SAFETY: the thread's cache lives until after its hooks have run.
        unsafe { (*cache).leave() };
        purge::note_work();
    }

    /// From new to live.
    pub(super) fn go_live(&self) {
        self.state.set(State::Live);
        self.enlist();
    }

    /// From live to over: what is cached goes to others.
    pub(super) fn leave(&self) {
        self.state.set(State::Over);
        self.delist();
        self.empty(|class, magazine| {
            // Half a refill is worth another thread's while.
            let is_worth = magazine.len() * 2 >= self.room(class);
            // SAFETY: the magazine is handed over by `empty`.
            is_worth && unsafe { depot::give_full(class, magazine) }
        });
    }

    fn enlist(&self) {
        let mut threads = THREADS.lock();
        self.next.set(threads.head);
        // SAFETY: caches in the list are alive, and the lock guards their links.
        if let Some(next) = unsafe { threads.head.as_ref() } {
            next.prev.set(self);
        }
        threads.head = self;
        threads.count += 1;
    }

    fn delist(&self) {
        let mut threads = THREADS.lock();
        // SAFETY: caches in the list are alive, and the lock guards their links.
        unsafe {
            match self.prev.get().as_ref() {
                Some(prev) => prev.next.set(self.next.get()),
                None => threads.head = self.next.get(),
            }
            if let Some(next) = self.next.get().as_ref() {
                next.prev.set(self.prev.get());
            }
        }
        threads.count -= 1;
    }
}

/// Calls `count` for each class with the blocks that the caches of all threads hold of it: exact for the calling thread
/// and for threads that stand still.
pub(crate) fn parked(mut count: impl FnMut(SizeClass, usize)) {
    let threads = THREADS.lock();
    let mut next = threads.head;
    // SAFETY: caches in the list are alive as long as the lock is held.
    while let Some(cache) = unsafe { next.as_ref() } {
        for index in 0..SizeClass::SMALL {
            let class = SizeClass::from_index(index);
            count(class, cache.parked(class));
        }
        next = cache.next.get();
    }
}

/// Threads that have used the heap and run.
pub(crate) fn count() -> usize {
    THREADS.lock().count
}

#[cfg(arenite_lock_counts)]
pub(crate) fn lock_counts() -> crate::vm::lock_counts::LockCounts {
    THREADS.counts()
}

/// Takes the lock for a fork.
pub(crate) fn freeze() {
    THREADS.acquire();
}

/// # Safety
/// Follows [`freeze`] in the same thread, or in the child's only one.
pub(crate) unsafe fn thaw() {
    // SAFETY: passed on to the caller.
    unsafe { THREADS.release() };
}

/// In a forked child, between [`freeze`] and [`thaw`]: the caches of all threads but the one that forked, `own`, went
/// with their threads. What they held is lost to the child: they may have been in the middle of an exchange.
///
/// # Safety
/// The lock is held by this thread's parent self, and no other thread exists.
pub(crate) unsafe fn forget_other_threads(own: *const Cache) {
    // SAFETY: the lock is held, by the rule above.
    let mut threads = unsafe { THREADS.assume_held() };
    // SAFETY: the thread's own cache is alive, if it has one.
    let own = unsafe { own.as_ref() }.filter(|cache| cache.state.get() == State::Live);
    threads.head = own.map_or(ptr::null(), ptr::from_ref);
    threads.count = usize::from(own.is_some());
    if let Some(own) = own {
        own.next.set(ptr::null());
        own.prev.set(ptr::null());
    }
    core::mem::forget(threads);
}
