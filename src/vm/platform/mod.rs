//! What differs between systems, chosen here and nowhere else.
//!
//! `--cfg arenite_portable` chooses the portable twin on Linux too, so that it can be built and tested there.

#[cfg(all(any(target_os = "linux", target_os = "android"), not(arenite_portable)))]
#[path = "linux.rs"]
mod chosen;

#[cfg(any(not(any(target_os = "linux", target_os = "android")), arenite_portable))]
#[path = "portable.rs"]
mod chosen;

pub(crate) use chosen::*;
