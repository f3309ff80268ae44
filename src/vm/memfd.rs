//! Files without a name, in memory only: made to be mapped, handed to other processes, and sealed.

use core::ffi::CStr;
use core::fmt;
use core::ops::BitOr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::base::align;
use crate::vm::errno::Errno;
use crate::vm::error::MapError;
use crate::vm::huge_page::HugePage;
use crate::vm::{calls, platform};

/// A file in memory (`memfd_create`), closed when dropped and on `exec`. Mappings of it stay.
///
/// Map it by [`MapOptions::map_file`](crate::vm::MapOptions::map_file). Linux only: elsewhere making one is
/// [`io::ErrorKind::Unsupported`].
///
/// ```
/// use arenite::vm::{MapOptions, Memfd, Seals, Sharing};
///
/// # if !cfg!(any(target_os = "linux", target_os = "android")) { return Ok(()); }
/// let memfd = Memfd::new(c"table", 64)?;
/// let writer = MapOptions::whole_file(&memfd)?.sharing(Sharing::Shared).map_file(&memfd)?;
/// // SAFETY: the byte is mapped and writable, and nobody else has the memfd.
/// unsafe { writer.as_ptr().write(7) };
/// drop(writer);
/// memfd.seal(Seals::WRITE | Seals::SHRINK | Seals::GROW)?;
///
/// let reader = MapOptions::whole_file(&memfd)?.map_file(&memfd)?;
/// // SAFETY: the seals keep everybody from writing and from shrinking.
/// assert_eq!(unsafe { reader.as_slice_unchecked() }[0], 7);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Memfd(OwnedFd);

/// What nobody may do with a memfd any more, in any process: a set, joined by `|`. Seals are never taken off.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Seals(i32);

impl Memfd {
    /// A memfd of `len` bytes, all zero, which may be sealed. The name shows in `/proc/self/maps` and need not be
    /// unique.
    ///
    /// # Errors
    /// What the kernel says: [`io::ErrorKind::InvalidInput`] for a name of more than 249 bytes.
    pub fn new(name: &CStr, len: u64) -> io::Result<Memfd> {
        Memfd::create(name, len, None)
    }

    /// A memfd made of huge pages from the kernel's pool, `len` rounded up to them.
    ///
    /// # Errors
    /// As for [`new`](Memfd::new); [`io::ErrorKind::Unsupported`], naming the size, where the kernel has none
    /// such. That the pool has too few free shows when it is mapped.
    pub fn with_huge_pages(name: &CStr, len: u64, size: HugePage) -> io::Result<Memfd> {
        Memfd::create(name, len, Some(size))
    }

    fn create(name: &CStr, len: u64, huge: Option<HugePage>) -> io::Result<Memfd> {
        let failed = |errno: Errno| {
            let arguments = format_args!("name={name:?}, len={len}");
            match (huge, errno.0) {
                (Some(huge), libc::ENODEV | libc::ENOSYS | libc::EOPNOTSUPP) => MapError::os_because(
                    "memfd_create",
                    arguments,
                    errno,
                    io::ErrorKind::Unsupported,
                    format_args!("{huge}: not on this system"),
                ),
                _ => MapError::os("memfd_create", arguments, errno),
            }
        };
        let page_size = huge.map(HugePage::size).transpose().map_err(failed)?;
        let memfd = Memfd(platform::memfd_create(name, page_size).map_err(failed)?);
        let whole = match page_size {
            // A length that overflows is for the next call to refuse.
            Some(size) => usize::try_from(len)
                .ok()
                .and_then(|len| align::checked_up(len, size))
                .map_or(u64::MAX, |len| len as u64),
            None => len,
        };
        memfd.set_len(whole)?;
        Ok(memfd)
    }

    /// Bytes in it now.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] if the descriptor, come from elsewhere, is of no regular file.
    pub fn len(&self) -> io::Result<u64> {
        calls::regular_file_len(self.as_fd()).ok_or_else(|| {
            let fd = self.0.as_raw_fd();
            MapError::argument("fstat", format_args!("fd={fd}"), format_args!("fd={fd}: no regular file"))
        })
    }

    /// Whether it has no bytes.
    ///
    /// # Errors
    /// As for [`len`](Memfd::len).
    pub fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }

    /// Makes it `len` bytes long; new ones are zero. Whoever has mapped what goes gets `SIGBUS` on touching it.
    ///
    /// # Errors
    /// What the kernel says: [`io::ErrorKind::PermissionDenied`] if it is sealed against this.
    pub fn set_len(&self, len: u64) -> io::Result<()> {
        calls::set_file_len(self.as_fd(), len).map_err(|errno| {
            MapError::os("ftruncate", format_args!("fd={}, len={len}", self.0.as_raw_fd()), errno)
        })
    }

    /// Adds seals.
    ///
    /// # Errors
    /// What the kernel says: [`io::ErrorKind::ResourceBusy`] for [`Seals::WRITE`] while a shared writable mapping
    /// exists, [`io::ErrorKind::PermissionDenied`] after [`Seals::SEAL`].
    pub fn seal(&self, seals: Seals) -> io::Result<()> {
        platform::add_seals(self.as_fd(), seals.0).map_err(|errno| {
            let arguments = format_args!("fd={}, F_ADD_SEALS, {seals:?}", self.0.as_raw_fd());
            MapError::os("fcntl", arguments, errno)
        })
    }

    /// The seals that are set.
    ///
    /// # Errors
    /// What the kernel says, if the descriptor, come from elsewhere, cannot have any.
    pub fn seals(&self) -> io::Result<Seals> {
        platform::seals(self.as_fd()).map(Seals).map_err(|errno| {
            MapError::os("fcntl", format_args!("fd={}, F_GET_SEALS", self.0.as_raw_fd()), errno)
        })
    }
}

impl AsFd for Memfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A descriptor that came from another process, say.
impl From<OwnedFd> for Memfd {
    fn from(fd: OwnedFd) -> Memfd {
        Memfd(fd)
    }
}

impl From<Memfd> for OwnedFd {
    fn from(memfd: Memfd) -> OwnedFd {
        memfd.0
    }
}

impl Seals {
    /// No more seals.
    pub const SEAL: Seals = Seals(0x01);
    /// No shrinking.
    pub const SHRINK: Seals = Seals(0x02);
    /// No growing.
    pub const GROW: Seals = Seals(0x04);
    /// No writing, nor any shared writable mapping.
    pub const WRITE: Seals = Seals(0x08);
    /// No writing but through shared mappings that exist (Linux 5.1).
    pub const FUTURE_WRITE: Seals = Seals(0x10);
    /// No change of the execute permission (Linux 6.3).
    pub const EXEC: Seals = Seals(0x20);

    const NAMES: [(Seals, &'static str); 6] = [
        (Seals::SEAL, "SEAL"),
        (Seals::SHRINK, "SHRINK"),
        (Seals::GROW, "GROW"),
        (Seals::WRITE, "WRITE"),
        (Seals::FUTURE_WRITE, "FUTURE_WRITE"),
        (Seals::EXEC, "EXEC"),
    ];

    /// Whether all of `other` are in this set.
    #[must_use]
    pub const fn contains(self, other: Seals) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Seals {
    type Output = Seals;

    fn bitor(self, other: Seals) -> Seals {
        Seals(self.0 | other.0)
    }
}

impl fmt::Debug for Seals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Seals::NAMES.iter().filter(|(seal, _)| self.contains(*seal)).map(|(_, name)| name);
        f.write_str("Seals(")?;
        for (n, name) in names.enumerate() {
            write!(f, "{}{name}", if n == 0 { "" } else { " | " })?;
        }
        f.write_str(")")
    }
}

/// The numbers are the kernel's.
#[cfg(any(target_os = "linux", target_os = "android"))]
const _: () = {
    assert!(Seals::SEAL.0 == libc::F_SEAL_SEAL && Seals::SHRINK.0 == libc::F_SEAL_SHRINK);
    assert!(Seals::GROW.0 == libc::F_SEAL_GROW && Seals::WRITE.0 == libc::F_SEAL_WRITE);
    assert!(Seals::FUTURE_WRITE.0 == libc::F_SEAL_FUTURE_WRITE && Seals::EXEC.0 == libc::F_SEAL_EXEC);
};
