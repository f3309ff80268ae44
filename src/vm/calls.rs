//! The raw calls that only the typed layer makes: locking, flushing, and what it asks of files. Like `sys`, each
//! takes its arguments as they go in and returns the result or an [`Errno`].

use std::fs::File;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd};

use crate::vm::errno::Errno;
use crate::vm::inject;
use crate::vm::sys::check;

/// `mlock`.
///
/// # Safety
/// The range belongs to the caller.
#[cfg_attr(arenite_faults, track_caller)]
pub(crate) unsafe fn lock(base: *mut u8, len: usize) -> Result<(), Errno> {
    inject::point("mlock")?;
    // SAFETY: the call keeps pages in memory and changes none.
    check(unsafe { libc::mlock(base.cast(), len) })
}

/// `munlock`.
///
/// # Safety
/// The range belongs to the caller.
#[cfg_attr(arenite_faults, track_caller)]
pub(crate) unsafe fn unlock(base: *mut u8, len: usize) -> Result<(), Errno> {
    inject::point("munlock")?;
    // SAFETY: the call changes no page.
    check(unsafe { libc::munlock(base.cast(), len) })
}

/// `msync`.
///
/// # Safety
/// The range belongs to the caller.
#[cfg_attr(arenite_faults, track_caller)]
pub(crate) unsafe fn sync(base: *mut u8, len: usize, flags: i32) -> Result<(), Errno> {
    inject::point("msync")?;
    // SAFETY: the call writes pages to their file and changes none.
    check(unsafe { libc::msync(base.cast(), len, flags) })
}

/// The bytes in a regular file or memfd; `None` for anything else (a device knows its own end) and for a
/// descriptor that cannot be asked, which the call after this one reports.
pub(crate) fn regular_file_len(fd: BorrowedFd<'_>) -> Option<u64> {
    let metadata = as_file(fd).metadata().ok()?;
    metadata.is_file().then_some(metadata.len())
}

/// `ftruncate`.
#[cfg_attr(arenite_faults, track_caller)]
pub(crate) fn set_file_len(fd: BorrowedFd<'_>, len: u64) -> Result<(), Errno> {
    inject::point("ftruncate")?;
    as_file(fd).set_len(len).map_err(|error| Errno(error.raw_os_error().unwrap_or(libc::EINVAL)))
}

fn as_file(fd: BorrowedFd<'_>) -> ManuallyDrop<File> {
    // SAFETY: the descriptor is borrowed: `ManuallyDrop` keeps the file from closing it.
    ManuallyDrop::new(unsafe { File::from_raw_fd(fd.as_raw_fd()) })
}
