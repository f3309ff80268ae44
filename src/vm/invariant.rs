//! Checks of what must hold. Debug builds run them; a violation ends the process with one line, because a panic would
//! allocate, in the middle of the allocator.

use crate::vm::sys;

/// Debug builds: ends the process unless the condition holds.
macro_rules! invariant {
    ($condition:expr) => {
        if cfg!(debug_assertions) && !$condition {
            $crate::vm::violated(concat!(file!(), ":", line!(), ": ", stringify!($condition), "\n"));
        }
    };
}

#[cold]
pub(crate) fn violated(what: &str) -> ! {
    sys::complain(&[b"arenite: this does not hold at ", what.as_bytes()]);
    sys::abort()
}
