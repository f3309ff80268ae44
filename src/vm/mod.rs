//! The mapping layer: every argument of `mmap`, typed, and the only place that makes system calls.
//!
//! | to | use |
//! |---|---|
//! | map anonymous memory, a file, a device | [`MapOptions`], which makes a [`Mapping`] |
//! | hold addresses first and fill them later | [`Reservation`]: commit, decommit, replace |
//! | share memory with another process | [`Memfd`], sealed by [`Seals`], mapped [`Sharing::Shared`] |
//! | advise, drop contents | [`Advice`], [`Discard`], [`ForkAdvice`], [`Mapping::purge`] |
//! | see why a call failed | [`MapError`], inside of each [`io::Error`](std::io::Error) |
//!
//! An owner unmaps exactly what was mapped. Lengths, offsets and ranges are in bytes and keep what was asked; the
//! kernel's rounding, to pages or huge pages, stays inside. What is wrong with an argument is an error that names
//! it, before any call. What drops or moves contents, or takes access away, takes `&mut`. Private anonymous memory
//! can be read as a safe slice; everything that somebody else can change or truncate cannot.
//!
//! ```
//! use arenite::vm::{Flush, MapOptions, Sharing};
//! use std::fs::File;
//!
//! # let path = std::env::temp_dir().join(format!("arenite-doc-{}", std::process::id()));
//! let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
//! file.set_len(10_000)?;
//!
//! // 100 bytes from byte 5,001 on: not at a page, nor a whole page long.
//! let record = MapOptions::new(100).offset(5_001).sharing(Sharing::Shared).map_file(&file)?;
//! // SAFETY: the byte is mapped and writable, and no other process knows of the file.
//! unsafe { record.as_ptr().write(b'!') };
//! record.flush(.., Flush::Sync)?;
//! assert_eq!(std::fs::read(&path)?[5_001], b'!');
//! # std::fs::remove_file(&path)?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Inside, `sys` holds the raw calls that the heap uses on its allocation paths.

mod advice;
mod calls;
mod errno;
mod error;
mod extent;
pub(crate) mod hooks;
#[macro_use]
mod invariant;
mod huge_page;
#[cfg(not(arenite_faults))]
mod inject;
#[cfg(arenite_faults)]
pub mod inject;
mod lock;
#[cfg(arenite_lock_counts)]
pub mod lock_counts;
#[cfg(test)]
mod lock_tests;
mod mapping;
mod memfd;
mod options;
mod page;
mod paging;
pub(crate) mod platform;
mod processor;
mod protection;
pub(crate) mod release;
mod reservation;
pub(crate) mod sanitizer;
mod span;
pub(crate) mod sys;

pub use advice::{Advice, Discard, ForkAdvice};
pub(crate) use errno::{Errno, KeepErrno};
pub use error::MapError;
pub use huge_page::HugePage;
pub(crate) use invariant::violated;
pub(crate) use lock::{Guard, Lock};
pub use mapping::Mapping;
pub use memfd::{Memfd, Seals};
pub use options::{Address, MapOptions, Sharing};
pub use page::page_size;
pub use paging::Flush;
pub(crate) use processor::{Processors, first_processors, processor, processors};
pub use protection::Protection;
pub use reservation::Reservation;
