//! What differs between systems, chosen here and nowhere else.

#[cfg(any(target_os = "linux", target_os = "android"))]
#[path = "linux.rs"]
mod chosen;

#[cfg(not(any(target_os = "linux", target_os = "android")))]
#[path = "portable.rs"]
mod chosen;

pub(crate) use chosen::*;
