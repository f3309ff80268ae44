//! What can be told to the kernel about a mapping's pages, sorted by what it does to their contents: [`Advice`]
//! leaves them, [`Discard`] drops them, [`ForkAdvice`] changes what a child sees. Which numbers a system has for
//! them stands in `platform`.
//!
//! Left out on purpose: `MADV_HWPOISON` and `MADV_SOFT_OFFLINE`, which only exercise the kernel's handling of
//! broken memory, and `MADV_GUARD_INSTALL`, which is [`Mapping::guard`](crate::vm::Mapping::guard).

/// Advice that leaves the contents as they are. Linux has all of them; other systems the first four.
///
/// Given by [`Mapping::advise`](crate::vm::Mapping::advise), which reports what the kernel does not support.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Advice {
    /// No special access pattern.
    Normal,
    /// Accessed in no order: read ahead less.
    Random,
    /// Accessed in order: read ahead more.
    Sequential,
    /// Needed soon: start reading it in.
    WillNeed,
    /// Back the range with transparent huge pages.
    HugePage,
    /// Keep transparent huge pages out of the range.
    NoHugePage,
    /// Build transparent huge pages out of the range now (Linux 6.1).
    Collapse,
    /// Fault every page in for reading now, without touching it (Linux 5.14).
    PopulateRead,
    /// Fault every page in for writing now, without changing it (Linux 5.14).
    PopulateWrite,
    /// Not needed for a while: first to go when memory is short (Linux 5.4).
    Cold,
    /// Move the range out to swap or its file now (Linux 5.4).
    PageOut,
    /// Leave the range out of core dumps.
    DontDump,
    /// Put the range into core dumps again.
    DoDump,
    /// Let the kernel share pages with equal contents.
    Mergeable,
    /// Undo [`Advice::Mergeable`].
    Unmergeable,
}

/// Ways to drop contents. Given by [`Mapping::discard`](crate::vm::Mapping::discard).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Discard {
    /// Give the pages back now. Afterwards private anonymous memory reads as zero, a mapping of a file as the file
    /// (writes to a private one are gone).
    DontNeed,
    /// As [`Discard::DontNeed`], for pages that are locked too (Linux 5.18).
    DontNeedLocked,
    /// Give the pages back when memory is short. Until it is written again, a page reads as before or as zero, and
    /// may turn from one to the other at any time. Private anonymous memory only.
    Free,
    /// Drop the pages and what backs them: a hole in the file, for everybody who maps it. Shared, writable
    /// mappings only.
    Remove,
}

/// What the child of a `fork` sees of the range. Given by
/// [`Mapping::advise_fork`](crate::vm::Mapping::advise_fork).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ForkAdvice {
    /// The child does not have the range.
    DontFork,
    /// The child has it again.
    DoFork,
    /// The child has the range, full of zeros. Private anonymous memory only.
    WipeOnFork,
    /// The child has the contents again.
    KeepOnFork,
}
