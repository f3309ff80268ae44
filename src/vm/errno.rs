//! The kernel's error number, carried without allocating.

use std::io;

use crate::vm::platform;

/// An `errno` value. The allocator's own paths carry this and never an [`io::Error`], which may allocate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Errno(pub(crate) i32);

/// Puts the calling thread's `errno` back to what it was, when it drops: freeing memory must not change it.
#[derive(Debug)]
pub(crate) struct KeepErrno(Errno);

impl KeepErrno {
    pub(crate) fn new() -> KeepErrno {
        KeepErrno(Errno::last())
    }
}

impl Drop for KeepErrno {
    fn drop(&mut self) {
        platform::set_errno(self.0);
    }
}

impl Errno {
    /// The calling thread's `errno`.
    pub(crate) fn last() -> Errno {
        // `last_os_error` keeps the number only: it does not allocate.
        Errno(io::Error::last_os_error().raw_os_error().unwrap_or(0))
    }
}
