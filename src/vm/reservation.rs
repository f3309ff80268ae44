//! Address space that is held first and filled later.
//!
//! A [`Reservation`] owns its whole range from reserving to releasing, whatever is in it: parts that are only held
//! (no access, nothing charged), parts that are committed, parts that show a file. Because it owns the range, it
//! is the one place where a mapping may replace another (`MAP_FIXED`). It gives out pointers and no slices: what a
//! part is at the moment is the caller's to know.

use core::mem::ManuallyDrop;
use core::ops::{Range, RangeBounds};
use core::ptr::NonNull;
use std::io;
use std::os::fd::AsFd;

use crate::vm::advice::Advice;
use crate::vm::errno::Errno;
use crate::vm::error::MapError;
use crate::vm::options::{Address, Backing, MapOptions};
use crate::vm::platform;
use crate::vm::protection::Protection;
use crate::vm::release::release;
use crate::vm::span::{Pages, Span};
use crate::vm::sys::{self, MapCall};

/// Reserved address space: committed and decommitted in parts, released when dropped.
///
/// Ranges are in bytes from the start; their edges must lie between two pages or be the reservation's own.
/// Anything else is an error before any call.
///
/// ```
/// use arenite::vm::Reservation;
///
/// let mut table = Reservation::new(1 << 40)?; // a terabyte of addresses, no memory
/// table.commit(..1 << 20)?;
/// // SAFETY: these bytes are committed, and nobody else uses them.
/// unsafe { table.as_ptr().write(42) };
/// table.decommit(..1 << 20)?;
/// table.release()?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Reservation {
    span: ManuallyDrop<Span>,
    /// A part of the range, in bytes from the base, was lost to the kernel's failure, and may belong to somebody else:
    /// no call is made any more but to unmap the rest.
    lost: Option<Range<usize>>,
}

#[expect(clippy::len_without_is_empty, reason = "a reservation has at least one byte")]
impl Reservation {
    /// Reserves `len` bytes, rounded up to pages, at an address of the kernel's choice.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for a length that is zero or too large; else what the kernel says.
    pub fn new(len: usize) -> io::Result<Reservation> {
        Reservation::at(Address::KernelChoice, len)
    }

    /// Reserves `len` bytes, rounded up to pages.
    ///
    /// # Errors
    /// As for [`new`](Reservation::new), and for an [`Address::Exact`] that is no multiple of the page size or
    /// occupied.
    pub fn at(address: Address, len: usize) -> io::Result<Reservation> {
        let options = MapOptions::new(len).address(address).protection(Protection::None);
        let span = ManuallyDrop::new(options.request(Backing::Anonymous)?.map()?);
        Ok(Reservation { span, lost: None })
    }

    /// The first byte. What may be done with it, the calls on the reservation decide.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.span.start().as_ptr()
    }

    /// Bytes that were asked for.
    #[must_use]
    pub fn len(&self) -> usize {
        self.span.extent().len()
    }

    /// Bytes that are held: [`len`](Reservation::len) rounded up to pages.
    #[must_use]
    pub fn mapped_len(&self) -> usize {
        self.span.extent().mapped_len()
    }

    /// Makes `range` readable and writable, and charges it to the process. What is new reads as zero; what was
    /// committed stays.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for a range outside of the reservation or with an edge inside of a page,
    /// before any call; else what the kernel says, [`io::ErrorKind::OutOfMemory`] where it will not promise as
    /// much.
    pub fn commit(&self, range: impl RangeBounds<usize>) -> io::Result<()> {
        self.span.protect(&self.pages("mprotect", range)?, Protection::ReadWrite)
    }

    /// Makes `range` inaccessible again, drops its contents (or the file's mapping that was put there) and charges
    /// nothing for it.
    ///
    /// # Errors
    /// As for [`commit`](Reservation::commit).
    pub fn decommit(&mut self, range: impl RangeBounds<usize>) -> io::Result<()> {
        let pages = self.pages("mmap", range)?;
        if pages.len == 0 {
            return Ok(());
        }
        let flags = libc::MAP_PRIVATE | libc::MAP_ANON | libc::MAP_FIXED;
        let protection = libc::PROT_NONE;
        let call = MapCall { addr: pages.base, len: pages.len, protection, flags, fd: -1, offset: 0 };
        match self.replace(call) {
            // What was to go is gone.
            Ok(()) | Err((_, true)) => Ok(()),
            Err((errno, false)) => {
                let arguments = format_args!("{pages}, no access, private, fixed, anonymous");
                Err(MapError::os("mmap", arguments, errno))
            }
        }
    }

    /// Drops the contents of `range`, which is committed: it stays so, reads as zero, and takes no memory until it
    /// is written again.
    ///
    /// # Errors
    /// As for [`commit`](Reservation::commit); [`io::ErrorKind::Unsupported`] on systems that cannot do it.
    pub fn purge(&mut self, range: impl RangeBounds<usize>) -> io::Result<()> {
        let pages = self.pages("madvise", range)?;
        // SAFETY: the pages are this reservation's, which gives out no slices, and their contents may go.
        unsafe { pages.advise(platform::ZEROING_ADVICE, &"purge") }
    }

    /// Changes what may be done with the pages of `range`.
    ///
    /// # Errors
    /// As for [`commit`](Reservation::commit).
    pub fn protect(&mut self, range: impl RangeBounds<usize>, protection: Protection) -> io::Result<()> {
        self.span.protect(&self.pages("mprotect", range)?, protection)
    }

    /// Gives advice about `range`. Its contents stay.
    ///
    /// # Errors
    /// As for [`Mapping::advise`](crate::vm::Mapping::advise).
    pub fn advise(&self, range: impl RangeBounds<usize>, advice: Advice) -> io::Result<()> {
        self.pages("madvise", ..)?;
        self.span.advise(range, advice)
    }

    /// Puts anonymous memory at byte `at`, in place of whatever is there, and returns its first byte. The
    /// reservation owns it.
    ///
    /// # Errors
    /// What [`MapOptions::map_anonymous`] refuses; [`io::ErrorKind::InvalidInput`] also for an `at` that is not
    /// between two pages, for a length that does not fit behind it, and for options with an address. Nothing has
    /// changed then.
    pub fn replace_anonymous(&mut self, at: usize, options: &MapOptions) -> io::Result<NonNull<u8>> {
        self.replace_with(at, options, Backing::Anonymous)
    }

    /// Puts a file at byte `at`, in place of whatever is there, and returns the first byte that was asked for. The
    /// reservation owns the mapping.
    ///
    /// # Errors
    /// What [`MapOptions::map_file`] refuses, and as for [`replace_anonymous`](Reservation::replace_anonymous).
    ///
    /// ```
    /// use arenite::vm::{MapOptions, Memfd, Reservation, Sharing, page_size};
    ///
    /// # if !cfg!(any(target_os = "linux", target_os = "android")) { return Ok(()); }
    /// // A ring: the same page twice in a row, so that no access has to wrap around.
    /// let memfd = Memfd::new(c"ring", page_size() as u64)?;
    /// let page = MapOptions::new(page_size()).sharing(Sharing::Shared);
    /// let mut ring = Reservation::new(2 * page_size())?;
    /// let first = ring.replace_file(0, &page, &memfd)?;
    /// let second = ring.replace_file(page_size(), &page, &memfd)?;
    /// // SAFETY: both pages are readable and writable, and nobody else has the memfd.
    /// unsafe {
    ///     first.write(42);
    ///     assert_eq!(second.read(), 42);
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn replace_file(
        &mut self,
        at: usize,
        options: &MapOptions,
        fd: impl AsFd,
    ) -> io::Result<NonNull<u8>> {
        self.replace_with(at, options, Backing::File(fd.as_fd()))
    }

    fn replace_with(
        &mut self,
        at: usize,
        options: &MapOptions,
        backing: Backing<'_>,
    ) -> io::Result<NonNull<u8>> {
        self.pages("mmap", ..)?;
        let request = options.request(backing)?;
        let (extent, held) = (request.extent, self.mapped_len());
        if options.address != Address::KernelChoice {
            return Err(request.refused("addr: the reservation says where, so options must not"));
        }
        if at.checked_add(extent.mapped_len()).is_none_or(|end| end > held) {
            let needed = extent.mapped_len();
            return Err(request.refused(format_args!("at={at}: {needed} bytes do not fit into {held}")));
        }
        // SAFETY: `at` is less than `held`.
        let base = unsafe { self.span.base().add(at) };
        if !base.addr().get().is_multiple_of(extent.granule()) {
            let granule = extent.granule();
            let reason =
                format_args!("at={at}: the address {base:p} is not between two pages of {granule} bytes");
            return Err(request.refused(reason));
        }
        // The kernel may take the old pages out before it finds the new ones wanting.
        request.rehearse()?;
        let flags = request.call.flags | libc::MAP_FIXED;
        let call = MapCall { addr: base.as_ptr(), flags, ..request.call };
        self.replace(call).map_err(|(errno, _)| request.failed(errno))?;
        // SAFETY: `lead` is less than `mapped_len`.
        Ok(unsafe { base.add(extent.lead()) })
    }

    /// Makes a `MAP_FIXED` call inside of the range. With an error comes whether the range is only held now: the old
    /// pages were gone.
    fn replace(&mut self, call: MapCall) -> Result<(), (Errno, bool)> {
        debug_assert!(call.addr.addr() >= self.span.base().addr().get());
        debug_assert!(call.addr.addr() + call.len <= self.span.base().addr().get() + self.mapped_len());
        // SAFETY: the range lies inside of the reservation, which gives out no slices and is borrowed mutably.
        let Err(errno) = (unsafe { sys::map(call) }) else { return Ok(()) };
        // The kernel refuses before it touches the old pages, or (out of memory for its own records, and in
        // drivers) when they are gone. Then the hole must be closed before somebody else maps into it. That
        // something is in the way means that the old pages are: it would take another thread's mapping between
        // these two calls to be wrong.
        let is_gone = match sys::reserve_at(call.addr, call.len) {
            Ok(()) => true,
            Err(Errno(libc::EEXIST)) => false,
            Err(_) => {
                let at = call.addr.addr() - self.span.base().addr().get();
                self.lost = Some(at..at + call.len);
                true
            }
        };
        Err((errno, is_gone && self.lost.is_none()))
    }

    /// Whether no call can be made any more.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost.is_some()
    }

    /// Unmaps everything, as dropping does, and reports an error; the kernel is then asked again when there
    /// is room.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn release(self) -> io::Result<()> {
        self.pages("munmap", ..)?;
        let mut reservation = ManuallyDrop::new(self);
        // SAFETY: the reservation is never used or dropped again.
        unsafe { ManuallyDrop::take(&mut reservation.span) }.unmap()
    }

    fn pages(&self, call: &'static str, range: impl RangeBounds<usize>) -> io::Result<Pages> {
        let pages = self.span.pages(call, range)?;
        if self.lost.is_some() {
            let reason = "the kernel lost a part of this reservation, which may belong to somebody else now";
            return Err(MapError::argument(call, &pages, reason));
        }
        Ok(pages)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let Some(lost) = self.lost.take() else {
            // SAFETY: the span is not used again: this is the owner's end.
            return unsafe { ManuallyDrop::drop(&mut self.span) };
        };
        let (base, len) = (self.span.base().as_ptr(), self.mapped_len());
        // SAFETY: the span owns what lies on both sides of the lost part, and it ends here.
        unsafe {
            if lost.start > 0 {
                release(base, lost.start);
            }
            if lost.end < len {
                release(base.add(lost.end), len - lost.end);
            }
        }
    }
}
