//! The exchange protocols under a model checker: locks, depots, shelves, the purger's hand-over, addresses that wait to
//! be unmapped. Every interleaving of a few steps of a few threads, and every value that the memory model lets a load
//! see, up to a bound on preemptions.
//!
//! The files of `src` are compiled into this test as they are, with loom's atomics for `base::sync`, and with small
//! stand-ins for the layers under them. A block is a cell that loom watches: whoever has the block writes the cell, so
//! that two owners at once, or one that does not see what the last one wrote, are found, whichever line let them.
//!
//! Would catch any ordering that is too weak. Each was weakened once to see that: SECURITY.md.

#![allow(dead_code, unused_imports, reason = "the models use a part of what the files have")]
#![allow(clippy::modulo_one, reason = "there is one middle class")]
#![allow(unreachable_pub, missing_debug_implementations, reason = "the files are another crate's")]

macro_rules! invariant {
    ($condition:expr) => {
        assert!($condition);
    };
}

mod base;
mod heap;
mod vm;
mod config {
    pub(crate) const MAGAZINE_SLOTS: usize = 64;
    pub(crate) const DEPOT_BYTES_MIN: usize = 32 << 10;
    pub(crate) const DEPOT_BYTES_MAX: usize = 64 << 10;
    pub(crate) const GROUPS_MAX: usize = 1;
    pub(crate) const HARDENED: bool = false;
    pub(crate) const MIDDLE_KEPT: usize = 4;
    /// One place on the shelf of the only class.
    pub(crate) const MIDDLE_KEPT_BYTES: usize = 1 << 20;
}
mod models;
