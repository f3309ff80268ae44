//! A range of addresses that the kernel gave: what both owners, [`Mapping`](crate::vm::Mapping) and
//! [`Reservation`](crate::vm::Reservation), are made of.
//!
//! Invariant: `base..base + extent.mapped_len()` is mapped and belongs to this span alone, from its making until
//! its drop unmaps exactly that. Every call on a part of it goes through [`Span::pages`] or [`Span::covering`],
//! which check the range first: no call can reach a neighbour.

use core::fmt;
use core::mem::ManuallyDrop;
use core::ops::{Range, RangeBounds};
use core::ptr::NonNull;
use std::io;

use crate::vm::advice::Advice;
use crate::vm::errno::Errno;
use crate::vm::error::MapError;
use crate::vm::extent::{Extent, Misfit, resolve};
use crate::vm::protection::Protection;
use crate::vm::{platform, release, sys};

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Span {
    base: NonNull<u8>,
    extent: Extent,
}

// SAFETY: the span owns its range as a `Vec` owns its buffer: no call on it depends on the thread.
unsafe impl Send for Span {}
// SAFETY: what a shared span offers are the address, and calls that the kernel makes safe against one another.
unsafe impl Sync for Span {}

/// Whole granules of one span, checked: what a call on a part of it takes.
#[derive(Clone, Debug)]
pub(crate) struct Pages {
    pub(crate) base: *mut u8,
    /// Zero for an empty range, which needs no call.
    pub(crate) len: usize,
    /// The user's range, for messages.
    asked: Range<usize>,
}

impl Span {
    /// # Safety
    /// `base..base + extent.mapped_len()` is mapped, `base` lies at a multiple of the granule, and the range
    /// belongs to the caller, who gives it away.
    pub(crate) unsafe fn new(base: NonNull<u8>, extent: Extent) -> Span {
        debug_assert!(base.addr().get().is_multiple_of(extent.granule()));
        Span { base, extent }
    }

    /// The first mapped byte.
    pub(crate) const fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// The first byte that was asked for.
    pub(crate) const fn start(&self) -> NonNull<u8> {
        // SAFETY: `lead < mapped_len`, so the sum lies in the range.
        unsafe { self.base.add(self.extent.lead()) }
    }

    pub(crate) const fn extent(&self) -> Extent {
        self.extent
    }

    pub(crate) fn covers_all(&self, pages: &Pages) -> bool {
        pages.len == self.extent.mapped_len()
    }

    /// The pages of `range`, whose edges lie between two of them; else an error that names it. `call` is what is
    /// to be done with them.
    pub(crate) fn pages(&self, call: &'static str, range: impl RangeBounds<usize>) -> io::Result<Pages> {
        self.checked(call, resolve(range, self.extent.len()), Extent::pages)
    }

    /// The pages that hold any byte of `range`.
    pub(crate) fn covering(&self, call: &'static str, range: impl RangeBounds<usize>) -> io::Result<Pages> {
        self.checked(call, resolve(range, self.extent.len()), Extent::covering)
    }

    fn checked(
        &self,
        call: &'static str,
        asked: Range<usize>,
        check: impl Fn(Extent, Range<usize>) -> Result<Range<usize>, Misfit>,
    ) -> io::Result<Pages> {
        match check(self.extent, asked.clone()) {
            Ok(pages) => {
                // SAFETY: the extent gives ranges inside of `0..=mapped_len` only.
                let base = unsafe { self.base.add(pages.start) };
                Ok(Pages { base: base.as_ptr(), len: pages.len(), asked })
            }
            Err(misfit) => Err(self.misfit(call, misfit)),
        }
    }

    /// `misfit` as the error of a call on this span.
    pub(crate) fn misfit(&self, call: &'static str, misfit: Misfit) -> io::Error {
        MapError::argument(call, format_args!("addr={:p}, len={}", self.base, self.extent.len()), misfit)
    }

    /// `mprotect`.
    pub(crate) fn protect(&self, pages: &Pages, protection: Protection) -> io::Result<()> {
        // SAFETY: the pages are this span's. That no reference into them asks for more is up to the owner, which
        // takes `&mut self` for this or gives out no references.
        pages.call(|base, len| unsafe { sys::protect(base, len, protection.raw()) }).map_err(|errno| {
            MapError::os("mprotect", format_args!("{pages}, protection={protection}"), errno)
        })
    }

    /// `madvise` with advice that leaves the contents.
    pub(crate) fn advise(&self, range: impl RangeBounds<usize>, advice: Advice) -> io::Result<()> {
        let pages = self.pages("madvise", range)?;
        // SAFETY: the pages are this span's, and an `Advice` leaves their contents.
        unsafe { pages.advise(platform::advice_number(advice), &advice) }
    }

    /// Gives the range up without unmapping it.
    pub(crate) fn into_parts(self) -> (NonNull<u8>, Extent) {
        let span = ManuallyDrop::new(self);
        (span.base, span.extent)
    }

    /// Unmaps the range and says whether that went well; after an error that is tried again by and by.
    pub(crate) fn unmap(self) -> io::Result<()> {
        let (base, extent) = self.into_parts();
        // SAFETY: the span owned the range, and it is gone.
        unsafe { sys::unmap(base.as_ptr(), extent.mapped_len()) }.map_err(|errno| {
            // SAFETY: as above.
            unsafe { release::keep(base.as_ptr(), extent.mapped_len()) };
            MapError::os("munmap", format_args!("addr={base:p}, len={}", extent.mapped_len()), errno)
        })
    }

    /// Two owners of the two sides of byte `at`.
    pub(crate) fn split_off(&mut self, at: usize) -> Result<Span, Misfit> {
        let (left, right) = self.extent.split(at)?;
        self.extent = left;
        // SAFETY: the parts meet at `left.mapped_len()`, a multiple of the granule; this span gives up the second.
        Ok(unsafe { Span::new(self.base.add(left.mapped_len()), right) })
    }

    /// Takes note that the kernel moved or resized the range.
    ///
    /// # Safety
    /// As for [`Span::new`], and the old range outside of the new one is not mapped for this span any more.
    pub(crate) unsafe fn become_range(&mut self, base: NonNull<u8>, extent: Extent) {
        self.base = base;
        self.extent = extent;
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        // SAFETY: the span owns the range, and it ends here.
        unsafe { release::release(self.base.as_ptr(), self.extent.mapped_len()) };
    }
}

impl Pages {
    /// `call` on the pages, if there are any.
    pub(crate) fn call(&self, call: impl FnOnce(*mut u8, usize) -> Result<(), Errno>) -> Result<(), Errno> {
        if self.len == 0 { Ok(()) } else { call(self.base, self.len) }
    }

    /// `madvise`; `None` is advice that this system lacks.
    ///
    /// # Safety
    /// The pages belong to the caller, who expects what the advice does to their contents.
    pub(crate) unsafe fn advise(&self, number: Option<i32>, advice: &dyn fmt::Debug) -> io::Result<()> {
        let arguments = format_args!("{self}, advice={advice:?}");
        let Some(number) = number else {
            let reason = format_args!("advice={advice:?}: not on this system");
            return Err(MapError::unsupported("madvise", arguments, reason));
        };
        // SAFETY: passed on to the caller.
        self.call(|base, len| unsafe { sys::advise(base, len, number) }).map_err(|errno| match errno.0 {
            // The range was checked, so this is about the advice.
            libc::EINVAL => MapError::os_because(
                "madvise",
                arguments,
                errno,
                io::ErrorKind::Unsupported,
                format_args!("advice={advice:?}: not for pages like these, or not in this kernel"),
            ),
            _ => MapError::os("madvise", arguments, errno),
        })
    }
}

impl fmt::Display for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "addr={:p}, len={}, range={:?}", self.base, self.len, self.asked)
    }
}
