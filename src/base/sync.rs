//! The one import of atomics, so that a model checker can take their place: `tests/loom` compiles the files of the
//! exchange protocols with atomics of its own.

pub(crate) use core::hint::spin_loop;
pub(crate) use core::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering,
};

/// A word in the midst of memory that somebody else laid out, which orders nothing: no model stands for it.
pub(crate) use core::sync::atomic::AtomicUsize as PlacedUsize;

/// How often a lock looks again before its thread sleeps: what the heap does under one takes tens of nanoseconds.
pub(crate) const SPINS: u32 = 40;
