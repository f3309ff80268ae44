//! The owner of what one `mmap` returned.
//!
//! A [`Mapping`] is a `Span`, which unmaps it, and what must be known to give out safe slices. References into
//! memory promise that nobody else changes it and that it can be touched. The kernel keeps that promise only for
//! private anonymous memory that is accessible throughout and whose contents are not about to vanish, so
//! [`Access`] tracks exactly this, always on the safe side: it may say no where yes would do, until a call on the
//! whole mapping settles it. Everything else is read through the pointer, or by `unsafe` slices. What takes access
//! away, drops or moves contents takes `&mut self`: no slice is alive then.
//!
//! Advice and guards stand in `paging`, with what is done to pages and leaves the range as it is.

use core::fmt;
use core::ops::RangeBounds;
use core::slice;
use std::io;
use std::os::fd::AsFd;

use crate::vm::error::MapError;
use crate::vm::extent::Extent;
use crate::vm::options::{Backing, MapOptions, Sharing};
use crate::vm::protection::Protection;
use crate::vm::span::{Pages, Span};
use crate::vm::{platform, sys};

/// An owned mapping: made by [`MapOptions`], unmapped when dropped, exactly as long as it was mapped.
///
/// Lengths and ranges are in bytes, counted from the first byte that was asked for. Where a call changes pages,
/// the edges of its range must lie between two pages or be the mapping's own; anything else is an error before any
/// call, so that no byte outside of the range is reached.
///
/// The child of a `fork` has its own mapping, which its copy of the owner unmaps.
///
/// ```
/// use arenite::vm::{MapOptions, Protection, page_size};
///
/// let mut table = MapOptions::new(3 * page_size()).map_anonymous()?;
/// table.as_mut_slice()?.fill(7);
/// table.protect(.., Protection::Read)?;
/// assert_eq!(table.as_slice()?[0], 7);
/// assert!(table.as_mut_slice().is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Mapping {
    pub(crate) span: Span,
    kind: Kind,
    pub(crate) access: Access,
}

/// Where the contents come from, and who else can change them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Private anonymous memory.
    Own,
    /// Private anonymous memory for which nothing may be left when it is touched: `SIGBUS`.
    OwnUnreserved,
    /// Shared anonymous memory. The object behind it is as long as the mapping was when it was made.
    SharedAnonymous,
    /// A file whose other users do not see writes.
    PrivateFile,
    /// A file.
    SharedFile,
}

/// What holds for every page. Written by the owner's methods under `&mut`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access {
    readable: bool,
    writable: bool,
    /// No page's contents may change by themselves, as after [`Discard::Free`](crate::vm::Discard::Free).
    pub(crate) settled: bool,
    /// No page is a guard.
    pub(crate) unguarded: bool,
}

impl Kind {
    pub(crate) fn of(options: &MapOptions, backing: Backing<'_>) -> Kind {
        let unreserved = options.huge_pages.is_some() && options.no_reserve;
        match (backing, options.sharing) {
            (Backing::Anonymous, Sharing::Private) if unreserved => Kind::OwnUnreserved,
            (Backing::Anonymous, Sharing::Private) => Kind::Own,
            (Backing::Anonymous, Sharing::Shared) => Kind::SharedAnonymous,
            (Backing::File(_), Sharing::Private) => Kind::PrivateFile,
            (Backing::File(_), Sharing::Shared) => Kind::SharedFile,
        }
    }
}

#[expect(clippy::len_without_is_empty, reason = "a mapping has at least one byte")]
impl Mapping {
    pub(crate) fn new(span: Span, kind: Kind, protection: Protection) -> Mapping {
        let (readable, writable) = (protection.can_read(), protection.can_write());
        Mapping { span, kind, access: Access { readable, writable, settled: true, unguarded: true } }
    }

    /// The first byte that was asked for. The pointer is good for reads and writes of [`len`](Mapping::len) bytes,
    /// as far as the protection goes, until the mapping is dropped, shrunk, moved or split; a file that has shrunk
    /// answers with `SIGBUS`. Memory that others share is best reached through atomics at this pointer.
    #[must_use]
    pub const fn as_ptr(&self) -> *mut u8 {
        self.span.start().as_ptr()
    }

    /// Bytes that were asked for.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.span.extent().len()
    }

    /// Bytes that the kernel mapped, and that dropping unmaps: [`len`](Mapping::len) and what lies before an odd
    /// offset, rounded up to [`page_len`](Mapping::page_len).
    #[must_use]
    pub const fn mapped_len(&self) -> usize {
        self.span.extent().mapped_len()
    }

    /// Bytes in one page of this mapping: the machine's page size, or the huge page's.
    #[must_use]
    pub const fn page_len(&self) -> usize {
        self.span.extent().granule()
    }

    pub(crate) const fn kind(&self) -> Kind {
        self.kind
    }

    /// The contents of private anonymous memory.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`], saying why, if a slice would be unsound: the mapping is shared or of a
    /// file, not every page is readable (whole calls of [`protect`](Mapping::protect) settle this again), a page
    /// is a [`guard`](Mapping::guard), or contents were given up by [`Discard::Free`](crate::vm::Discard::Free)
    /// and may still vanish (a [`purge`](Mapping::purge) of the whole settles this again).
    pub fn as_slice(&self) -> io::Result<&[u8]> {
        match self.why_no_slice(self.access.readable, "not readable throughout") {
            // SAFETY: the memory is the process's own, readable throughout and settled: `why_no_slice` has looked.
            // What could change that takes `&mut self`.
            None => Ok(unsafe { self.as_slice_unchecked() }),
            Some(reason) => Err(self.no_slice(reason)),
        }
    }

    /// The contents of private anonymous memory, to be written.
    ///
    /// # Errors
    /// As for [`as_slice`](Mapping::as_slice), and if not every page is writable.
    pub fn as_mut_slice(&mut self) -> io::Result<&mut [u8]> {
        let accessible = self.access.readable && self.access.writable;
        match self.why_no_slice(accessible, "not readable and writable throughout") {
            // SAFETY: as in `as_slice`, writable too, and borrowed mutably.
            None => Ok(unsafe { self.as_mut_slice_unchecked() }),
            Some(reason) => Err(self.no_slice(reason)),
        }
    }

    /// The contents of any mapping.
    ///
    /// # Safety
    /// For as long as the slice lives:
    /// - every page is readable;
    /// - nobody changes the contents. For a file or shared memory that is a promise about every other process:
    ///   another one can write to the file at any time, also under a *private* mapping, whose pages show the file
    ///   until they are written;
    /// - the file is not truncated: touching what it no longer has raises `SIGBUS`. A [`Memfd`](crate::vm::Memfd)
    ///   that is sealed against shrinking and writing keeps the last two promises.
    #[must_use]
    pub const unsafe fn as_slice_unchecked(&self) -> &[u8] {
        // SAFETY: `len` bytes from `start` lie in the span, and `len` is at most `isize::MAX`; the rest is the
        // caller's.
        unsafe { slice::from_raw_parts(self.as_ptr(), self.len()) }
    }

    /// The contents of any mapping, to be written.
    ///
    /// # Safety
    /// As for [`as_slice_unchecked`](Mapping::as_slice_unchecked), every page is writable, and nobody else reads
    /// the contents either.
    #[must_use]
    pub const unsafe fn as_mut_slice_unchecked(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice_unchecked`, and the owner is borrowed mutably.
        unsafe { slice::from_raw_parts_mut(self.as_ptr(), self.len()) }
    }

    fn why_no_slice(&self, accessible: bool, otherwise: &'static str) -> Option<&'static str> {
        match self.kind {
            Kind::Own if !accessible => Some(otherwise),
            Kind::Own if !self.access.unguarded => Some("some pages are guards"),
            Kind::Own if !self.access.settled => Some("contents given up by Discard::Free may still vanish"),
            Kind::Own => None,
            Kind::OwnUnreserved => Some("huge pages that are not reserved may be missing when touched"),
            Kind::SharedAnonymous => Some("shared: other processes can change it"),
            Kind::PrivateFile | Kind::SharedFile => Some("a file: others can change or truncate it"),
        }
    }

    #[cold]
    fn no_slice(&self, reason: &str) -> io::Error {
        let arguments = format_args!("addr={:p}, len={}", self.as_ptr(), self.len());
        MapError::argument("slice", arguments, reason)
    }

    /// Changes what may be done with the pages of `range`; `..` is all of them.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for a range outside of the mapping or with an edge inside of a page, before
    /// any call; else what the kernel says, and then a part of the range may have changed.
    pub fn protect(&mut self, range: impl RangeBounds<usize>, protection: Protection) -> io::Result<()> {
        let pages = self.span.pages("mprotect", range)?;
        let done = self.span.protect(&pages, protection);
        let (readable, writable) = (protection.can_read(), protection.can_write());
        if done.is_ok() && self.span.covers_all(&pages) {
            self.access = Access { readable, writable, ..self.access };
        } else if pages.len > 0 {
            self.access.readable &= readable;
            self.access.writable &= writable;
        }
        done
    }

    /// Makes the mapping `new_len` bytes long, moving it to where there is room if need be; contents move along,
    /// nothing is copied. New pages of anonymous memory are zero; those of a file are the file's, and whether it has
    /// any is not checked here.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for a length that is less than [`len`](Mapping::len) or too large;
    /// [`io::ErrorKind::Unsupported`] for shared anonymous memory, whose object cannot grow (use a
    /// [`Memfd`](crate::vm::Memfd)), and on systems that cannot do it; else what the kernel says. It refuses for huge
    /// pages, and for a mapping that it holds in pieces: once parts of it differed in protection or advice, this may
    /// stay so when they are alike again. The mapping is as before then.
    pub fn grow(&mut self, new_len: usize) -> io::Result<()> {
        self.resize(new_len, true)
    }

    /// As [`grow`](Mapping::grow), without moving: pointers stay good.
    ///
    /// # Errors
    /// As for [`grow`](Mapping::grow), and [`io::ErrorKind::OutOfMemory`] if something is mapped in the way.
    pub fn grow_in_place(&mut self, new_len: usize) -> io::Result<()> {
        self.resize(new_len, false)
    }

    fn resize(&mut self, new_len: usize, may_move: bool) -> io::Result<()> {
        let (base, old) = (self.span.base(), self.span.extent());
        let new = old.grown(new_len).map_err(|misfit| self.span.misfit("mremap", misfit))?;
        let manner = if may_move { "may move" } else { "in place" };
        let arguments = format_args!("addr={base:p}, len={}, new_len={new_len}, {manner}", old.len());
        if self.kind == Kind::SharedAnonymous && new.mapped_len() > old.mapped_len() {
            let reason = "shared anonymous memory cannot grow: touching the new part would raise SIGBUS";
            return Err(MapError::unsupported("mremap", arguments, reason));
        }
        let mut to = base;
        if new.mapped_len() > old.mapped_len() {
            // SAFETY: the range is the span's, and with `&mut self` no reference into it is alive.
            let moved = unsafe {
                platform::resize_range(base.as_ptr(), old.mapped_len(), new.mapped_len(), may_move)
            };
            to = moved.map_err(|errno| match errno.0 {
                libc::EFAULT => {
                    let reason = "the kernel holds the mapping in pieces, and grows only whole ones";
                    MapError::os_because("mremap", arguments, errno, errno.kind(), reason)
                }
                _ => MapError::os("mremap", arguments, errno),
            })?;
        }
        // SAFETY: the kernel has the pages at `to` now, `new.mapped_len()` bytes of them, and none at the old
        // place.
        unsafe { self.span.become_range(to, new) };
        Ok(())
    }

    /// Makes the mapping `new_len` bytes long by unmapping whole pages at its end; the rest stays where it is.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for a length that is zero or more than [`len`](Mapping::len); else what the
    /// kernel says. The mapping is as before then.
    pub fn shrink(&mut self, new_len: usize) -> io::Result<()> {
        let (base, old) = (self.span.base(), self.span.extent());
        let new = old.shrunk(new_len).map_err(|misfit| self.span.misfit("munmap", misfit))?;
        self.unmap_tail(new).map_err(|errno| {
            let arguments = format_args!("addr={base:p}, len={}, new_len={new_len}", old.len());
            MapError::os("munmap", arguments, errno)
        })
    }

    fn unmap_tail(&mut self, new: Extent) -> Result<(), crate::vm::Errno> {
        let base = self.span.base();
        let tail = self.span.extent().mapped_len() - new.mapped_len();
        // SAFETY: the tail is the span's, and with `&mut self` no reference into it is alive. The span gives it
        // up.
        unsafe {
            if tail > 0 {
                sys::unmap(base.add(new.mapped_len()).as_ptr(), tail)?;
            }
            self.span.become_range(base, new);
        }
        Ok(())
    }

    /// Cuts the mapping in two: this owner keeps `0..at`, the new one has the rest. No call is made, and each
    /// unmaps its own part.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] if `at` is not between two pages, or one part would be empty.
    ///
    /// ```
    /// use arenite::vm::{MapOptions, page_size};
    ///
    /// let mut head = MapOptions::new(2 * page_size()).map_anonymous()?;
    /// let tail = head.split_off(page_size())?;
    /// drop(head);
    /// assert_eq!(tail.as_slice()?.len(), page_size());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn split_off(&mut self, at: usize) -> io::Result<Mapping> {
        match self.span.split_off(at) {
            Ok(span) => Ok(Mapping { span, ..*self }),
            Err(misfit) => Err(self.span.misfit("split_off", misfit)),
        }
    }

    /// Unmaps, as dropping does, and reports an error; the kernel is then asked again when there is room.
    ///
    /// # Errors
    /// What the kernel says. After a split it may be out of room for its own records.
    pub fn unmap(self) -> io::Result<()> {
        self.span.unmap()
    }

    /// The pages of a call that only some kinds of mapping can have; `refusal` says why this one cannot.
    pub(crate) fn pages_of(
        &self,
        call: &'static str,
        range: impl RangeBounds<usize>,
        refusal: Option<impl fmt::Display>,
    ) -> io::Result<Pages> {
        let pages = self.span.pages(call, range)?;
        match refusal {
            None => Ok(pages),
            Some(reason) => Err(MapError::unsupported(call, &pages, reason)),
        }
    }
}

impl MapOptions {
    /// Maps memory of no file, full of zeros.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`], naming the argument, for a length that is zero or too large, an
    /// [`Address::Exact`](crate::vm::Address::Exact) that is no multiple of the page size, or an offset;
    /// [`io::ErrorKind::Unsupported`], naming the flag, for one that this system lacks; else what the kernel says, naming
    /// the flag if it was about one. Nothing has changed then.
    pub fn map_anonymous(&self) -> io::Result<Mapping> {
        self.map(Backing::Anonymous)
    }

    /// Maps a file, a memfd, a device: anything with a descriptor that the kernel can map. The descriptor may be
    /// closed afterwards.
    ///
    /// # Errors
    /// As for [`MapOptions::map_anonymous`] (an offset is fine here). A range of a regular file or memfd that is
    /// not wholly inside of it is [`io::ErrorKind::InvalidInput`], unless [`MapOptions::past_end`] was asked for;
    /// the message names offset, length and file length. A device knows its own end, and the kernel's word on it
    /// is passed on.
    ///
    /// ```
    /// use arenite::vm::{MapOptions, Memfd, Sharing};
    ///
    /// # if !cfg!(any(target_os = "linux", target_os = "android")) { return Ok(()); }
    /// let memfd = Memfd::new(c"example", 10_000)?;
    /// let shared = MapOptions::new(100).offset(5_001).sharing(Sharing::Shared).map_file(&memfd)?;
    /// assert_eq!(shared.len(), 100);
    /// assert!(MapOptions::new(100).offset(9_901).map_file(&memfd).is_err());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn map_file(&self, fd: impl AsFd) -> io::Result<Mapping> {
        self.map(Backing::File(fd.as_fd()))
    }

    fn map(&self, backing: Backing<'_>) -> io::Result<Mapping> {
        let request = self.request(backing)?;
        let span = request.map()?;
        Ok(Mapping::new(span, Kind::of(self, backing), self.protection))
    }
}
