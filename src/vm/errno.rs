//! The kernel's error number, carried without allocating.

use std::io;

/// An `errno` value. The allocator's own paths carry this and never an [`io::Error`], which may allocate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Errno(pub(crate) i32);

impl Errno {
    /// The calling thread's `errno`.
    pub(crate) fn last() -> Errno {
        // `last_os_error` keeps the number only: it does not allocate.
        Errno(io::Error::last_os_error().raw_os_error().unwrap_or(0))
    }
}
