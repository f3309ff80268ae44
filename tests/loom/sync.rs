//! Loom's atomics in the shape of the standard library's: made in constants, and new in each execution.
//!
//! Loom gives sequentially consistent accesses no more than acquire and release, and only fences the full meaning. So such
//! an access has a fence here: before it in one run of each model, behind it in another, which are the two ways in
//! which compilers make them. (With both at once the fence of one access would do its neighbour's work, and nobody
//! would see that the neighbour has none.)

use std::cell::{Cell, UnsafeCell};
use std::mem::MaybeUninit;
use std::sync::atomic::AtomicUsize as Number;

pub(crate) use std::sync::atomic::AtomicUsize as PlacedUsize;

pub(crate) use loom::hint::spin_loop;
pub(crate) use loom::sync::atomic::Ordering;
use loom::sync::atomic::fence;
use loom::sync::{Condvar, Mutex};

pub(crate) const SPINS: u32 = 1;

static EXECUTION: Number = Number::new(0);

struct Sleepers {
    lock: Mutex<()>,
    woken: Condvar,
}

thread_local! {
    static SLEEPERS: Cell<Option<&'static Sleepers>> = const { Cell::new(None) };
}

/// To be called first in each execution of a model. (All threads of a model run in one thread of the system.)
pub(crate) fn begin() {
    EXECUTION.fetch_add(1, Ordering::Relaxed);
    SLEEPERS.set(Some(Box::leak(Box::new(Sleepers { lock: Mutex::new(()), woken: Condvar::new() }))));
}

/// A futex: the word is looked at and the thread put to sleep in one step, as the kernel does it.
pub(crate) fn wait(word: &AtomicU32, expected: u32) {
    let sleepers = SLEEPERS.get().expect("`begin` was called");
    let guard = sleepers.lock.lock().unwrap();
    if word.load(Ordering::Relaxed) == expected {
        drop(sleepers.woken.wait(guard).unwrap());
    }
}

/// Wakes all, as spurious wakings may: who should not have woken looks again.
pub(crate) fn wake() {
    let sleepers = SLEEPERS.get().expect("`begin` was called");
    drop(sleepers.lock.lock().unwrap());
    sleepers.woken.notify_all();
}

struct Fresh<A> {
    cell: UnsafeCell<(usize, MaybeUninit<A>)>,
}

impl<A> Fresh<A> {
    const fn new() -> Fresh<A> {
        Fresh { cell: UnsafeCell::new((0, MaybeUninit::uninit())) }
    }

    fn get(&self, make: impl FnOnce() -> A) -> &A {
        let now = EXECUTION.load(Ordering::Relaxed);
        // SAFETY: a model's threads take turns in one thread of the system, and none does in here.
        unsafe {
            let (made, atomic) = &mut *self.cell.get();
            if *made != now {
                // The last execution's is forgotten: it means nothing any more.
                (*made, *atomic) = (now, MaybeUninit::new(make()));
            }
            atomic.assume_init_ref()
        }
    }
}

/// Whether fences stand behind their accesses.
pub(crate) static TRAILING: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// Runs `access` with `order`, or with `plain` and a fence.
fn fenced<R>(order: Ordering, plain: Ordering, access: impl FnOnce(Ordering) -> R) -> R {
    if order != Ordering::SeqCst {
        return access(order);
    }
    let is_trailing = TRAILING.load(Ordering::Relaxed);
    if !is_trailing {
        fence(Ordering::SeqCst);
    }
    let result = access(plain);
    if is_trailing {
        fence(Ordering::SeqCst);
    }
    result
}

macro_rules! atomic {
    ($name:ident, $value:ty $(, $generic:ident)?) => {
        pub(crate) struct $name$(<$generic: 'static>)? {
            initial: $value,
            fresh: Fresh<loom::sync::atomic::$name$(<$generic>)?>,
        }

        // SAFETY: see `Fresh::get`.
        unsafe impl$(<$generic>)? Sync for $name$(<$generic>)? {}
        // SAFETY: as above.
        unsafe impl$(<$generic>)? Send for $name$(<$generic>)? {}

        #[allow(dead_code, reason = "each type has what the one that needs most has")]
        impl$(<$generic>)? $name$(<$generic>)? {
            pub(crate) const fn new(initial: $value) -> Self {
                Self { initial, fresh: Fresh::new() }
            }

            fn get(&self) -> &loom::sync::atomic::$name$(<$generic>)? {
                self.fresh.get(|| loom::sync::atomic::$name::new(self.initial))
            }

            pub(crate) fn load(&self, order: Ordering) -> $value {
                fenced(order, Ordering::Acquire, |order| self.get().load(order))
            }

            pub(crate) fn store(&self, value: $value, order: Ordering) {
                fenced(order, Ordering::Release, |order| self.get().store(value, order));
            }

            pub(crate) fn swap(&self, value: $value, order: Ordering) -> $value {
                fenced(order, Ordering::AcqRel, |order| self.get().swap(value, order))
            }

            pub(crate) fn compare_exchange(
                &self,
                old: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                fenced(success, Ordering::AcqRel, |success| {
                    self.get().compare_exchange(old, new, success, failure)
                })
            }
        }

        impl$(<$generic>)? std::fmt::Debug for $name$(<$generic>)? {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    };
}

macro_rules! counting {
    ($name:ident, $value:ty) => {
        #[allow(dead_code, reason = "as above")]
        impl $name {
            pub(crate) fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                fenced(order, Ordering::AcqRel, |order| self.get().fetch_add(value, order))
            }

            pub(crate) fn fetch_sub(&self, value: $value, order: Ordering) -> $value {
                fenced(order, Ordering::AcqRel, |order| self.get().fetch_sub(value, order))
            }
        }
    };
}

atomic!(AtomicBool, bool);
atomic!(AtomicU32, u32);
atomic!(AtomicU64, u64);
atomic!(AtomicUsize, usize);
atomic!(AtomicPtr, *mut T, T);
counting!(AtomicU32, u32);
counting!(AtomicU64, u64);
counting!(AtomicUsize, usize);
