//! What to map: every argument of `mmap`, typed, and the checks that come before the call.
//!
//! [`MapOptions`] is plain data. `MapOptions::request` turns it into one call: it asks the file for its page
//! size and its end, rounds (in `extent`), and refuses what is wrong without having changed anything. A
//! replacement inside of a [`Reservation`](crate::vm::Reservation) is made from the same request.
//!
//! Left out on purpose: `MAP_GROWSDOWN`, whose mappings grow beyond what their owner unmaps; `MAP_FIXED` outside
//! of a reservation, which can replace memory that somebody else uses; `MAP_UNINITIALIZED` and `MAP_32BIT`, which
//! no current system needs.

use core::fmt;
use core::ptr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use crate::vm::errno::Errno;
use crate::vm::error::MapError;
use crate::vm::extent::Extent;
use crate::vm::huge_page::HugePage;
use crate::vm::page::page_size;
use crate::vm::protection::Protection;
use crate::vm::span::Span;
use crate::vm::sys::{self, MapCall};
use crate::vm::{calls, platform};

/// Where a mapping goes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Address {
    /// Wherever the kernel finds room.
    KernelChoice,
    /// Near this address if there is room, else anywhere.
    Hint(usize),
    /// The first page exactly here, or an error of kind [`io::ErrorKind::AlreadyExists`] if anything is mapped in
    /// the way: nothing is ever replaced. A multiple of the page size.
    Exact(usize),
}

/// Who sees writes to a mapping.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Sharing {
    /// This process alone; a page is copied when it is first written. Writes never reach a file.
    Private,
    /// Everybody who maps the same file, and the children of a `fork`. Writes reach the file.
    Shared,
}

/// Options for a mapping, then the call that makes it: [`map_anonymous`](MapOptions::map_anonymous) or
/// [`map_file`](MapOptions::map_file).
///
/// ```
/// use arenite::vm::{Advice, MapOptions};
///
/// let mut scratch = MapOptions::new(1 << 20).map_anonymous()?;
/// scratch.advise(.., Advice::HugePage).ok(); // not every kernel has them
/// scratch.as_mut_slice()?[0] = 1;
/// assert_eq!(scratch.len(), 1 << 20);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "options alone map nothing"]
pub struct MapOptions {
    len: usize,
    pub(crate) address: Address,
    pub(crate) protection: Protection,
    pub(crate) sharing: Sharing,
    offset: u64,
    past_end: bool,
    pub(crate) no_reserve: bool,
    populate: bool,
    locked: bool,
    stack: bool,
    pub(crate) huge_pages: Option<HugePage>,
}

/// What a mapping shows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Backing<'fd> {
    Anonymous,
    File(BorrowedFd<'fd>),
}

/// One call of `mmap`, checked and rounded.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    options: &'a MapOptions,
    backing: Backing<'a>,
    pub(crate) extent: Extent,
    pub(crate) call: MapCall,
}

impl MapOptions {
    /// `len` bytes (not pages: the kernel's rounding stays inside), readable and writable, private, at an address
    /// of the kernel's choice.
    pub const fn new(len: usize) -> MapOptions {
        MapOptions {
            len,
            address: Address::KernelChoice,
            protection: Protection::ReadWrite,
            sharing: Sharing::Private,
            offset: 0,
            past_end: false,
            no_reserve: false,
            populate: false,
            locked: false,
            stack: false,
            huge_pages: None,
        }
    }

    /// As [`MapOptions::new`], as long as a regular file or memfd is now.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] if the descriptor is of anything else, which has no length to go by.
    pub fn whole_file(fd: impl AsFd) -> io::Result<MapOptions> {
        let fd = fd.as_fd();
        let len = calls::regular_file_len(fd).and_then(|len| usize::try_from(len).ok());
        len.map(MapOptions::new).ok_or_else(|| {
            let fd = fd.as_raw_fd();
            MapError::argument("fstat", format_args!("fd={fd}"), format_args!("fd={fd}: no regular file"))
        })
    }

    /// Where the mapping goes. With an odd [`offset`](MapOptions::offset) this is the address of the first page,
    /// and the pointer lies behind it.
    pub const fn address(mut self, address: Address) -> MapOptions {
        self.address = address;
        self
    }

    /// What may be done with the pages, at first.
    pub const fn protection(mut self, protection: Protection) -> MapOptions {
        self.protection = protection;
        self
    }

    /// Who sees writes.
    pub const fn sharing(mut self, sharing: Sharing) -> MapOptions {
        self.sharing = sharing;
        self
    }

    /// The byte of the file that the mapping's first byte is: any, not only a multiple of the page size.
    pub const fn offset(mut self, offset: u64) -> MapOptions {
        self.offset = offset;
        self
    }

    /// Maps also what lies past the end of the file, where touching a whole page raises `SIGBUS` until the file
    /// has grown. Without this, such a range is an error.
    pub const fn past_end(mut self) -> MapOptions {
        self.past_end = true;
        self
    }

    /// Charges nothing for the memory in advance (`MAP_NORESERVE`): the process may be killed when it touches more
    /// than there is.
    pub const fn no_reserve(mut self) -> MapOptions {
        self.no_reserve = true;
        self
    }

    /// Faults all pages in at once (`MAP_POPULATE`). That this falls short is not reported;
    /// [`Advice::PopulateWrite`](crate::vm::Advice::PopulateWrite) reports it.
    pub const fn populate(mut self) -> MapOptions {
        self.populate = true;
        self
    }

    /// Locks all pages into memory (`MAP_LOCKED`). Only the limit is checked: that a page could not be read in is
    /// not reported; [`Mapping::lock`](crate::vm::Mapping::lock) reports it.
    pub const fn locked(mut self) -> MapOptions {
        self.locked = true;
        self
    }

    /// Says that the memory is for a stack (`MAP_STACK`).
    pub const fn stack(mut self) -> MapOptions {
        self.stack = true;
        self
    }

    /// Takes huge pages from the kernel's pool (`MAP_HUGETLB`). All lengths are rounded to them. A file needs no
    /// such flag: one that is made of huge pages is recognised, and any other is refused with the flag.
    pub const fn huge_pages(mut self, size: HugePage) -> MapOptions {
        self.huge_pages = Some(size);
        self
    }

    /// The call that these options ask for, or what is wrong with them.
    pub(crate) fn request<'a>(&'a self, backing: Backing<'a>) -> io::Result<Request<'a>> {
        let arguments = Arguments { options: self, backing };
        let refuse = |reason: fmt::Arguments<'_>| Err(MapError::argument("mmap", arguments, reason));
        let granule = self.granule(backing)?;
        let (extent, offset) = match Extent::new(self.len, self.offset, granule) {
            Ok(fitting) => fitting,
            Err(misfit) => return refuse(format_args!("{misfit}")),
        };
        match backing {
            Backing::Anonymous if self.offset != 0 => {
                return refuse(format_args!("offset={}: anonymous memory has none", self.offset));
            }
            Backing::File(fd) if !self.past_end => {
                // The sum fits: `Extent::new` has seen it rounded up.
                let end = self.offset + self.len as u64;
                if let Some(file_len) = calls::regular_file_len(fd).filter(|&file_len| end > file_len) {
                    return refuse(format_args!(
                        "offset={}, len={}: past the end of the file, which has {file_len} bytes",
                        self.offset, self.len
                    ));
                }
            }
            _ => {}
        }
        let mut flags = self.flags().map_err(|flag| {
            MapError::unsupported("mmap", arguments, format_args!("{flag}: not on this system"))
        })?;
        let addr = match self.address {
            Address::KernelChoice => 0,
            Address::Hint(addr) => addr,
            Address::Exact(0) => return refuse(format_args!("addr=0x0: null is no address of a mapping")),
            Address::Exact(addr) if addr.is_multiple_of(granule) => {
                flags |= platform::MAP_FIXED_NOREPLACE;
                addr
            }
            Address::Exact(addr) => {
                return refuse(format_args!("addr={addr:#x}: not between two pages of {granule} bytes"));
            }
        };
        let fd = match backing {
            Backing::Anonymous => {
                flags |= libc::MAP_ANON;
                -1
            }
            Backing::File(fd) => fd.as_raw_fd(),
        };
        let call = MapCall {
            addr: ptr::without_provenance_mut(addr),
            len: extent.mapped_len(),
            protection: self.protection.raw(),
            flags,
            fd,
            offset,
        };
        Ok(Request { options: self, backing, extent, call })
    }

    /// The unit that the kernel rounds to.
    fn granule(&self, backing: Backing<'_>) -> io::Result<usize> {
        match (backing, self.huge_pages) {
            // What the file is made of counts. A flag that does not fit it is for the kernel to refuse.
            (Backing::File(fd), _) => Ok(platform::huge_page_size_of(fd).unwrap_or_else(page_size)),
            (Backing::Anonymous, None) => Ok(page_size()),
            (Backing::Anonymous, Some(huge)) => huge.size().map_err(|errno| {
                let kind = io::ErrorKind::Unsupported;
                let reason = format_args!("{huge}: not on this system");
                MapError::os_because("mmap", Arguments { options: self, backing }, errno, kind, reason)
            }),
        }
    }

    /// The flags but for those of address and backing; on an error the flag that the system lacks.
    fn flags(&self) -> Result<i32, String> {
        let mut flags = match self.sharing {
            Sharing::Private => libc::MAP_PRIVATE,
            Sharing::Shared => libc::MAP_SHARED,
        };
        let simple = [
            (self.no_reserve, platform::MAP_NORESERVE, "no-reserve"),
            (self.populate, platform::MAP_POPULATE, "populate"),
            (self.locked, platform::MAP_LOCKED, "locked"),
            (self.stack, platform::MAP_STACK, "stack"),
        ];
        for (_, flag, name) in simple.into_iter().filter(|(wanted, ..)| *wanted) {
            flags |= flag.ok_or(name)?;
        }
        if let Some(huge) = self.huge_pages {
            let size = huge.size().ok();
            flags |= size.and_then(platform::huge_page_flags).ok_or_else(|| huge.to_string())?;
        }
        Ok(flags)
    }

    /// What `errno` says about these options, where that is known.
    fn explain(&self, backing: Backing<'_>, granule: usize, errno: Errno) -> Option<String> {
        match (errno.0, self.huge_pages, self.address, backing) {
            (libc::EAGAIN | libc::EPERM, ..) if self.locked => {
                Some("locked: more than RLIMIT_MEMLOCK allows".to_owned())
            }
            // What musl makes of EPERM.
            (libc::ENOMEM, None, Address::KernelChoice, Backing::Anonymous)
                if self.locked && cfg!(target_env = "musl") =>
            {
                Some("locked: more than RLIMIT_MEMLOCK allows, or out of memory".to_owned())
            }
            (libc::ENOMEM, Some(huge), ..) => Some(format!("{huge}: too few are free in the kernel's pool")),
            (libc::ENOMEM, None, ..) if granule > page_size() => Some(format!(
                "huge pages ({granule} bytes) of the file: too few are free in the kernel's pool"
            )),
            (libc::EINVAL | libc::ENODEV | libc::EOPNOTSUPP, Some(huge), _, Backing::File(_)) => {
                Some(format!("{huge}: the file is not made of them"))
            }
            (libc::EINVAL | libc::ENODEV | libc::EOPNOTSUPP, Some(huge), ..) => {
                Some(format!("{huge}: this kernel has none of this size"))
            }
            (libc::EEXIST, _, Address::Exact(addr), _) => {
                Some(format!("addr={addr:#x}: something is mapped in the way"))
            }
            (libc::EACCES, .., Backing::File(_)) => {
                Some("fd: not open for what protection and sharing need".to_owned())
            }
            _ => None,
        }
    }
}

impl Request<'_> {
    /// Makes the call. Nothing has changed after an error.
    pub(crate) fn map(&self) -> io::Result<Span> {
        // SAFETY: no `MAP_FIXED`: `request` never sets it.
        let base = unsafe { sys::map(self.call) }.map_err(|errno| self.failed(errno))?;
        // SAFETY: the mapping was made just now, at a page of its kind, and nobody knows of it.
        let span = unsafe { Span::new(base, self.extent) };
        match self.options.address {
            // A system without the flag, or a kernel before 4.17, takes the address for a hint.
            Address::Exact(addr) if base.addr().get() != addr => Err(self.failed(Errno(libc::EEXIST))),
            _ => Ok(span),
        }
    }

    /// The error of this call.
    pub(crate) fn failed(&self, errno: Errno) -> io::Error {
        let arguments = Arguments { options: self.options, backing: self.backing };
        match self.options.explain(self.backing, self.extent.granule(), errno) {
            Some(reason) => MapError::os_because("mmap", arguments, errno, errno.kind(), reason),
            None => MapError::os("mmap", arguments, errno),
        }
    }

    /// No call was made, for `reason`.
    pub(crate) fn refused(&self, reason: impl fmt::Display) -> io::Error {
        MapError::argument("mmap", Arguments { options: self.options, backing: self.backing }, reason)
    }

    /// The same call at an address of the kernel's choice, without the flags that make it slow: does it work?
    pub(crate) fn rehearse(&self) -> io::Result<()> {
        let slow = platform::MAP_POPULATE.unwrap_or(0) | platform::MAP_LOCKED.unwrap_or(0);
        let call = MapCall { addr: ptr::null_mut(), flags: self.call.flags & !slow, ..self.call };
        // SAFETY: no `MAP_FIXED`: `request` never sets it.
        let base = unsafe { sys::map(call) }.map_err(|errno| self.failed(errno))?;
        // SAFETY: the mapping was made just now and nobody knows of it.
        unsafe { Span::new(base, self.extent) }.unmap()
    }
}

/// The arguments as the messages show them.
#[derive(Clone, Copy)]
struct Arguments<'a> {
    options: &'a MapOptions,
    backing: Backing<'a>,
}

impl fmt::Display for Arguments<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = self.options;
        match options.address {
            Address::KernelChoice => write!(f, "addr=kernel's choice")?,
            Address::Hint(addr) => write!(f, "addr=near {addr:#x}")?,
            Address::Exact(addr) => write!(f, "addr=exactly {addr:#x}")?,
        }
        let sharing = match options.sharing {
            Sharing::Private => "private",
            Sharing::Shared => "shared",
        };
        write!(f, ", len={}, {}, {sharing}", options.len, options.protection)?;
        let flags = [
            (options.no_reserve, "no-reserve"),
            (options.populate, "populate"),
            (options.locked, "locked"),
            (options.stack, "stack"),
        ];
        for (_, name) in flags.into_iter().filter(|(wanted, _)| *wanted) {
            write!(f, ", {name}")?;
        }
        if let Some(huge) = options.huge_pages {
            write!(f, ", {huge}")?;
        }
        match self.backing {
            Backing::Anonymous => f.write_str(", anonymous")?,
            Backing::File(fd) => write!(f, ", fd={}", fd.as_raw_fd())?,
        }
        write!(f, ", offset={}", options.offset)
    }
}
