//! What can be done to a mapping's pages without changing its range: advice, dropping contents, guards, locking,
//! flushing, asking what is in memory, naming.
//!
//! Calls that leave contents and access alone take `&self`; those that do not take `&mut self` and keep
//! [`Access`](crate::vm::mapping) true.

use core::ffi::CStr;
use core::ops::RangeBounds;
use std::io;

use crate::vm::advice::{Advice, Discard, ForkAdvice};
use crate::vm::error::MapError;
use crate::vm::mapping::{Kind, Mapping};
use crate::vm::page::page_size;
use crate::vm::{calls, platform, sys};

/// Whether [`Mapping::flush`] waits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Flush {
    /// Returns when the pages are written (`MS_SYNC`).
    Sync,
    /// Has them written soon (`MS_ASYNC`). Linux does this by itself, so there it does nothing but check.
    Async,
}

/// What is done to the pages. In all of these `..` is the whole mapping.
impl Mapping {
    /// Gives advice about `range`. Its contents stay.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for a range outside of the mapping or with an edge inside of a page, before
    /// any call; [`io::ErrorKind::Unsupported`] for advice that this system or kernel lacks or that is not for
    /// such a mapping, naming it; else what the kernel says.
    pub fn advise(&self, range: impl RangeBounds<usize>, advice: Advice) -> io::Result<()> {
        self.span.advise(range, advice)
    }

    /// Drops the contents of `range`; see [`Discard`] for what is there afterwards. After [`Discard::Free`] there
    /// are no safe slices until the whole mapping is purged.
    ///
    /// # Errors
    /// As for [`advise`](Mapping::advise).
    pub fn discard(&mut self, range: impl RangeBounds<usize>, discard: Discard) -> io::Result<()> {
        let pages = self.span.pages("madvise", range)?;
        let number = platform::discard_number(discard);
        // Even if the call fails: it may have done a part.
        self.access.settled &= discard != Discard::Free || pages.len == 0 || number.is_none();
        // SAFETY: the pages are this mapping's, their contents may go, and with `&mut self` no slice of them is
        // alive.
        unsafe { pages.advise(number, &discard) }
    }

    /// Drops the contents of `range`: it reads as zero, and takes no memory until it is written again. For shared
    /// anonymous memory this is so for every process that has it.
    ///
    /// # Errors
    /// As for [`advise`](Mapping::advise). Mappings of files are [`io::ErrorKind::Unsupported`]: say by
    /// [`discard`](Mapping::discard) whether the file's contents are to come back or to go too. So are pages that
    /// are locked: see [`Discard::DontNeedLocked`].
    ///
    /// No slice outlives its contents:
    /// ```compile_fail,E0502
    /// # fn purge_under_a_slice(mut mapping: arenite::vm::Mapping) -> std::io::Result<()> {
    /// let slice = mapping.as_slice()?;
    /// mapping.purge(..)?;
    /// assert_eq!(slice[0], 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn purge(&mut self, range: impl RangeBounds<usize>) -> io::Result<()> {
        let (number, refusal) = match self.kind() {
            Kind::Own | Kind::OwnUnreserved => (platform::ZEROING_ADVICE, None),
            Kind::SharedAnonymous => (platform::discard_number(Discard::Remove), None),
            Kind::PrivateFile | Kind::SharedFile => (None, Some("a mapping of a file: use discard")),
        };
        let pages = self.pages_of("madvise", range, refusal)?;
        // SAFETY: as in `discard`.
        unsafe { pages.advise(number, &"purge") }?;
        self.access.settled |= self.span.covers_all(&pages);
        Ok(())
    }

    /// Drops the contents of `range` and makes each touch of it raise `SIGSEGV`, without a mapping of its own for
    /// the kernel to keep (Linux 6.13). There are no safe slices until the whole mapping is
    /// [`unguard`](Mapping::unguard)ed.
    ///
    /// # Errors
    /// As for [`advise`](Mapping::advise).
    pub fn guard(&mut self, range: impl RangeBounds<usize>) -> io::Result<()> {
        let pages = self.span.pages("madvise", range)?;
        // An older kernel refuses even for no bytes: then nothing changes.
        // SAFETY: no byte is touched.
        let known = |&number: &i32| unsafe { sys::advise(pages.base, 0, number) }.is_ok();
        let number = platform::GUARD_ADVICE.filter(known);
        self.access.unguarded &= pages.len == 0 || number.is_none();
        // SAFETY: as in `discard`, and `unguarded` keeps slices away.
        unsafe { pages.advise(number, &"guard") }
    }

    /// Takes guards away; where they were, anonymous memory reads as zero.
    ///
    /// # Errors
    /// As for [`advise`](Mapping::advise).
    pub fn unguard(&mut self, range: impl RangeBounds<usize>) -> io::Result<()> {
        let pages = self.span.pages("madvise", range)?;
        // SAFETY: the pages are this mapping's, and those that are no guards stay as they are.
        unsafe { pages.advise(platform::UNGUARD_ADVICE, &"unguard") }?;
        self.access.unguarded |= self.span.covers_all(&pages);
        Ok(())
    }

    /// Says what the child of a `fork` sees of `range`.
    ///
    /// # Safety
    /// In a child that does not have the range ([`ForkAdvice::DontFork`]), nothing touches it, and this owner is
    /// not dropped or otherwise called: the addresses may belong to somebody else there. In a child that has it
    /// wiped, nothing relies on a slice taken before.
    ///
    /// # Errors
    /// As for [`advise`](Mapping::advise).
    pub unsafe fn advise_fork(&self, range: impl RangeBounds<usize>, advice: ForkAdvice) -> io::Result<()> {
        let pages = self.span.pages("madvise", range)?;
        // SAFETY: the pages are this mapping's; what children see is up to the caller.
        unsafe { pages.advise(platform::fork_advice_number(advice), &advice) }
    }

    /// Reads `range` in and keeps it in memory until [`unlock`](Mapping::unlock).
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for a range outside of the mapping or with an edge inside of a page, before
    /// any call; else what the kernel says, naming `RLIMIT_MEMLOCK` where that is the reason.
    pub fn lock(&self, range: impl RangeBounds<usize>) -> io::Result<()> {
        let pages = self.span.pages("mlock", range)?;
        // SAFETY: the pages are this mapping's.
        pages.call(|base, len| unsafe { calls::lock(base, len) }).map_err(|errno| match errno.0 {
            // Linux has one number for a limit that is too low and for pages that cannot be touched.
            libc::EPERM | libc::EAGAIN | libc::ENOMEM => MapError::os_because(
                "mlock",
                &pages,
                errno,
                errno.kind(),
                "more than RLIMIT_MEMLOCK allows, or pages that cannot be read in",
            ),
            _ => MapError::os("mlock", &pages, errno),
        })
    }

    /// Lets `range` leave memory again.
    ///
    /// # Errors
    /// As for [`lock`](Mapping::lock).
    pub fn unlock(&self, range: impl RangeBounds<usize>) -> io::Result<()> {
        let pages = self.span.pages("munlock", range)?;
        // SAFETY: the pages are this mapping's.
        pages
            .call(|base, len| unsafe { calls::unlock(base, len) })
            .map_err(|errno| MapError::os("munlock", &pages, errno))
    }

    /// Writes what has changed in `range` to the file. Any range of bytes will do: the pages that hold them are
    /// written.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for a range outside of the mapping; [`io::ErrorKind::Unsupported`] for a
    /// private mapping, whose writes never reach the file; else what the kernel says, such as an error of the
    /// disk.
    pub fn flush(&self, range: impl RangeBounds<usize>, flush: Flush) -> io::Result<()> {
        let pages = self.span.covering("msync", range)?;
        let flags = match flush {
            Flush::Sync => libc::MS_SYNC,
            Flush::Async => libc::MS_ASYNC,
        };
        let arguments = format_args!("{pages}, {flush:?}");
        if !matches!(self.kind(), Kind::SharedFile | Kind::SharedAnonymous) {
            let reason = "a private mapping: its writes never reach a file";
            return Err(MapError::unsupported("msync", arguments, reason));
        }
        // SAFETY: the pages are this mapping's.
        pages
            .call(|base, len| unsafe { calls::sync(base, len, flags) })
            .map_err(|errno| MapError::os("msync", arguments, errno))
    }

    /// Which pages that hold bytes of `range` are in memory, in order: one answer for each [`page_size`] bytes (of
    /// a huge page, as many answers as fit into it). Old news when it arrives, unless the pages are locked. For a
    /// file that the process could not write to, the kernel says that all are.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for a range outside of the mapping; [`io::ErrorKind::Unsupported`] where
    /// the system cannot tell.
    pub fn residency(&self, range: impl RangeBounds<usize>) -> io::Result<Vec<bool>> {
        let mut answers = Vec::new();
        self.each_page(range, |resident| answers.push(resident))?;
        Ok(answers)
    }

    /// How many of the pages that hold bytes of `range` are in memory, counted as by
    /// [`residency`](Mapping::residency), without allocating.
    ///
    /// # Errors
    /// As for [`residency`](Mapping::residency).
    pub fn resident_pages(&self, range: impl RangeBounds<usize>) -> io::Result<usize> {
        let mut count = 0;
        self.each_page(range, |resident| count += usize::from(resident))?;
        Ok(count)
    }

    fn each_page(&self, range: impl RangeBounds<usize>, mut each: impl FnMut(bool)) -> io::Result<()> {
        const BATCH: usize = 1024;
        let pages = self.span.covering("mincore", range)?;
        let mut answers = [0; BATCH];
        let mut done = 0;
        while done < pages.len {
            let len = (pages.len - done).min(BATCH * page_size());
            // SAFETY: `done + len` is at most `pages.len`, all of it this mapping's, and the batch has room.
            unsafe { platform::residency(pages.base.add(done), len, &mut answers) }.map_err(|errno| {
                let kind = if errno.0 == libc::ENOSYS { io::ErrorKind::Unsupported } else { errno.kind() };
                MapError::os_because("mincore", &pages, errno, kind, "cannot tell what is in memory")
            })?;
            answers[..len / page_size()].iter().for_each(|answer| each(answer & 1 != 0));
            done += len;
        }
        Ok(())
    }

    /// Names anonymous memory: `/proc/self/maps` shows `[anon:name]` (Linux 5.17, if it was built so).
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for a name that the kernel would refuse: it has at most 79 bytes, printable
    /// ASCII and none of ``[ ] \ $ ` ``. [`io::ErrorKind::Unsupported`] where the kernel has no names, or none for
    /// a mapping of this kind (that of a file shows the file).
    pub fn set_name(&self, name: &CStr) -> io::Result<()> {
        let bytes = name.to_bytes();
        let arguments = format_args!("addr={:p}, len={}, name={name:?}", self.span.base(), self.mapped_len());
        let printable = |byte: &u8| matches!(byte, b' '..=b'~') && !br"[]\$`".contains(byte);
        if bytes.len() > 79 || !bytes.iter().all(printable) {
            let reason = format_args!("name={name:?}: not at most 79 printable bytes without []\\$`");
            return Err(MapError::argument("prctl", arguments, reason));
        }
        // SAFETY: the range is this mapping's.
        unsafe { platform::name_range(self.span.base().as_ptr(), self.mapped_len(), name) }.map_err(|errno| {
            match errno.0 {
                // The name was checked, so this is about names as such.
                libc::EINVAL | libc::EBADF | libc::ENOSYS => MapError::os_because(
                    "prctl",
                    arguments,
                    errno,
                    io::ErrorKind::Unsupported,
                    "name: not for pages like these, or not in this kernel",
                ),
                _ => MapError::os("prctl", arguments, errno),
            }
        })
    }
}
