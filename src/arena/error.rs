//! Why an arena could not give memory, with the numbers.

use core::fmt;

/// Why an arena could not give memory. The arena is as it was, and usable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ArenaError {
    pub(crate) kind: ArenaErrorKind,
    pub(crate) asked: usize,
    pub(crate) used: usize,
    pub(crate) bound: usize,
}

/// The kinds of [`ArenaError`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum ArenaErrorKind {
    /// The length in bytes is more than any object can have.
    LengthOverflow,
    /// It would take the arena over the limit that was set for it.
    LimitReached,
    /// The arena's range of addresses is used up: it cannot grow in place any more.
    RangeFull,
    /// The system refused the memory.
    OutOfMemory,
}

impl ArenaError {
    #[cold]
    pub(crate) const fn overflow() -> ArenaError {
        ArenaError {
            kind: ArenaErrorKind::LengthOverflow,
            asked: usize::MAX,
            used: 0,
            bound: isize::MAX as usize,
        }
    }

    /// Which of the reasons it is.
    #[must_use]
    pub const fn kind(&self) -> ArenaErrorKind {
        self.kind
    }

    /// Bytes that were asked for; `usize::MAX` for a length that overflows.
    #[must_use]
    pub const fn asked(&self) -> usize {
        self.asked
    }

    /// Bytes that were in use.
    #[must_use]
    pub const fn used(&self) -> usize {
        self.used
    }

    /// Bytes that the arena can have at the most.
    #[must_use]
    pub const fn bound(&self) -> usize {
        self.bound
    }

    /// The end of those calls that have no error to return.
    #[cold]
    #[inline(never)]
    #[track_caller]
    pub(crate) fn panic(self) -> ! {
        panic!("{self}")
    }
}

impl fmt::Display for ArenaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ArenaError { kind, asked, used, bound } = self;
        match kind {
            ArenaErrorKind::LengthOverflow => write!(f, "arena: the length in bytes is more than {bound}"),
            ArenaErrorKind::LimitReached => {
                write!(f, "arena: {asked} bytes do not fit: {used} of its limit of {bound} bytes are in use")
            }
            ArenaErrorKind::RangeFull => {
                write!(
                    f,
                    "arena: {asked} bytes do not fit: {used} of the {bound} bytes of its range are in use, "
                )?;
                write!(f, "and it cannot grow in place any more")
            }
            ArenaErrorKind::OutOfMemory => {
                write!(
                    f,
                    "arena: the system has no memory for {asked} bytes; {used} of {bound} bytes are in use"
                )
            }
        }
    }
}

impl std::error::Error for ArenaError {}
