//! What a call of this layer was asked to do and why it did not: the payload of every [`io::Error`] from here.
//!
//! Made on failing paths only, and it allocates: the heap's own calls carry an [`Errno`] instead.

use core::error::Error;
use core::fmt;
use std::io;

use crate::vm::errno::Errno;

/// The error inside of an [`io::Error`] from this module: the call, its arguments, and the reason.
///
/// The [`io::Error`] has the kind of the `errno`, or [`io::ErrorKind::InvalidInput`] for an argument that was
/// refused before any call, or [`io::ErrorKind::Unsupported`] for what this system lacks. Its own `raw_os_error`
/// is `None`, as it is for every error that carries more than a number: ask [`MapError::errno`] (or the payload,
/// by `error.get_ref().and_then(|inner| inner.downcast_ref::<MapError>())`, which [`MapError::of`] does for you).
///
/// ```
/// use arenite::vm::{MapError, MapOptions};
///
/// let directory = std::fs::File::open("/")?;
/// let error = MapOptions::new(1).map_file(&directory).unwrap_err();
/// let inner = MapError::of(&error).unwrap();
/// assert_eq!(inner.call(), "mmap");
/// assert!(inner.errno().is_some());
/// // mmap(addr=kernel's choice, len=1, read+write, private, fd=3, offset=0): Permission denied (os error 13)
/// assert!(error.to_string().starts_with("mmap(addr=kernel's choice, len=1, "));
///
/// let error = MapOptions::new(0).map_anonymous().unwrap_err();
/// assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
/// assert_eq!(MapError::of(&error).unwrap().errno(), None);
/// assert!(error.to_string().contains("len=0"));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct MapError {
    call: &'static str,
    arguments: String,
    errno: Option<Errno>,
    reason: Option<String>,
}

impl MapError {
    /// The payload of `error`, if it comes from this module.
    #[must_use]
    pub fn of(error: &io::Error) -> Option<&MapError> {
        error.get_ref()?.downcast_ref()
    }

    /// The kernel's error number; `None` if the arguments were refused before any call.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        self.errno.map(|errno| errno.0)
    }

    /// The call that failed or would have been made, as the system's manual names it: `"mmap"`.
    #[must_use]
    pub fn call(&self) -> &'static str {
        self.call
    }

    /// The call was made and the kernel refused.
    #[cold]
    pub(crate) fn os(call: &'static str, arguments: impl fmt::Display, errno: Errno) -> io::Error {
        let arguments = arguments.to_string();
        MapError { call, arguments, errno: Some(errno), reason: None }.into_io(errno.kind())
    }

    /// The kernel refused, and `reason` says what that means here: which flag it was, or what is unsupported.
    #[cold]
    pub(crate) fn os_because(
        call: &'static str,
        arguments: impl fmt::Display,
        errno: Errno,
        kind: io::ErrorKind,
        reason: impl fmt::Display,
    ) -> io::Error {
        let (arguments, reason) = (arguments.to_string(), Some(reason.to_string()));
        MapError { call, arguments, errno: Some(errno), reason }.into_io(kind)
    }

    /// No call was made: `reason` names the argument, its value and what is wrong with it.
    #[cold]
    pub(crate) fn argument(
        call: &'static str,
        arguments: impl fmt::Display,
        reason: impl fmt::Display,
    ) -> io::Error {
        let (arguments, reason) = (arguments.to_string(), Some(reason.to_string()));
        MapError { call, arguments, errno: None, reason }.into_io(io::ErrorKind::InvalidInput)
    }

    /// No call was made: this system lacks what `reason` names, or this mapping cannot have it.
    #[cold]
    pub(crate) fn unsupported(
        call: &'static str,
        arguments: impl fmt::Display,
        reason: impl fmt::Display,
    ) -> io::Error {
        let (arguments, reason) = (arguments.to_string(), Some(reason.to_string()));
        MapError { call, arguments, errno: None, reason }.into_io(io::ErrorKind::Unsupported)
    }

    fn into_io(self, kind: io::ErrorKind) -> io::Error {
        io::Error::new(kind, self)
    }
}

impl Errno {
    /// The kind that the standard library gives to this number.
    pub(crate) fn kind(self) -> io::ErrorKind {
        io::Error::from_raw_os_error(self.0).kind()
    }
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({}): ", self.call, self.arguments)?;
        if let Some(errno) = self.errno {
            write!(f, "{}", io::Error::from_raw_os_error(errno.0))?;
        }
        match &self.reason {
            Some(reason) if self.errno.is_some() => write!(f, "; {reason}"),
            Some(reason) => f.write_str(reason),
            None => Ok(()),
        }
    }
}

impl Error for MapError {}
