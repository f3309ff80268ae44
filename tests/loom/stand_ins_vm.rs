//! What the protocols use of the system: futexes, a clock, mappings that are numbers.

use std::cell::{Cell, RefCell};

thread_local! {
    /// What `munmap` was called with, when it did not refuse.
    pub(crate) static UNMAPPED: RefCell<Vec<(usize, usize)>> = const { RefCell::new(Vec::new()) };
    /// How many more calls of `munmap` are refused.
    pub(crate) static REFUSE: Cell<usize> = const { Cell::new(0) };
}

pub(crate) mod sys {
    pub(crate) use super::{REFUSE, UNMAPPED};

    pub(crate) unsafe fn unmap(base: *mut u8, len: usize) -> Result<(), ()> {
        if REFUSE.get() > 0 {
            REFUSE.set(REFUSE.get() - 1);
            return Err(());
        }
        UNMAPPED.with_borrow_mut(|unmapped| unmapped.push((base.addr(), len)));
        Ok(())
    }

    pub(crate) unsafe fn purge(_base: *mut u8, _len: usize) -> Result<(), ()> {
        Ok(())
    }
}

pub(crate) mod platform {
    use std::ffi::CStr;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use crate::base::sync::{self, AtomicU32};

    pub(crate) fn wait(word: &AtomicU32, expected: u32, timeout_ms: Option<u32>) {
        assert!(timeout_ms.is_none(), "time goes by in leaps: nobody sleeps for a while");
        sync::wait(word, expected);
    }

    pub(crate) fn wake_one(_word: &AtomicU32) {
        sync::wake();
    }

    pub(crate) fn now_ms() -> u64 {
        static NOW: AtomicU64 = AtomicU64::new(0);
        NOW.fetch_add(1 << 20, Relaxed)
    }

    pub(crate) fn name_this_thread(_name: &CStr) {}
}

pub(crate) mod hooks {
    use core::ffi::c_void;

    pub(crate) fn spawn_detached(_body: extern "C" fn(*mut c_void) -> *mut c_void) -> Result<(), ()> {
        Ok(())
    }
}
