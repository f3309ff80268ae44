//! `base`, with atomics of loom.

#[path = "../../src/base/padded.rs"]
pub(crate) mod padded;
#[path = "sync.rs"]
pub(crate) mod sync;
