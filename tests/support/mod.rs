//! What the tests of the heap share.
//!
//! - [`block`]: one block with known contents, the only place that calls the allocator.
//! - [`program`]: one op program with a shadow model; property, stress and fork tests run the same one.
//! - [`child`]: tests in a process of their own.
//! - [`process`]: forks, bare threads, and what the kernel knows about a process. Every wait ends.

#![allow(dead_code, unused_imports, reason = "each test binary uses its part")]

pub(crate) mod block;
pub(crate) mod child;
pub(crate) mod process;
pub(crate) mod program;
pub(crate) mod random;

pub(crate) use block::{Block, HEAP, layout};
pub(crate) use random::Random;

/// Blocks have more around them than the plain heap's, and freed ones wait before they are used again.
pub(crate) const HARDENED: bool = cfg!(feature = "hardened");

pub(crate) const KIB: usize = 1 << 10;
pub(crate) const MIB: usize = 1 << 20;
pub(crate) const GIB: usize = 1 << 30;

/// Groups of processors that have depots and slabs of their own.
pub(crate) fn groups() -> usize {
    let simulated = std::env::var("SIMULATED_PROCESSORS").ok().and_then(|number| number.parse().ok());
    simulated.unwrap_or_else(processors).div_ceil(8).clamp(1, 32)
}

/// Those that the process may run on, whatever share of their time it has: the standard library looks at that too.
fn processors() -> usize {
    // SAFETY: a set of no processors is one; the kernel writes to it, no more than its size.
    unsafe {
        let mut set = std::mem::zeroed::<libc::cpu_set_t>();
        libc::sched_getaffinity(0, size_of_val(&set), &raw mut set);
        usize::try_from(libc::CPU_COUNT(&set)).unwrap()
    }
}
