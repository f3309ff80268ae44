//! The size-class heap: one for the process, a [`Cache`] for each thread.
//!
//! Memory moves down and up one stair. An allocation of a small size (up to 32 KiB):
//!
//! 1. The thread's loaded magazine of the class: pop a pointer. *Costs a handful of instructions.*
//! 2. It is empty: change places with the spare. *Once in up to 61 allocations.*
//! 3. Both are: exchange the spare for a full one at the depot. *One lock for a magazine's worth.*
//! 4. The depot has none: take blocks from a slab, in the order of their addresses. *One lock and a bitmap.* A thread that
//!    has used the class less than a handful of times comes here at once, and takes one.
//! 5. No slab has a free block, here or with another group of processors: take a run of granules from a segment and make a
//!    slab. *Two locks for 64 KiB.* Before fresh granules are touched, the middle blocks that are kept for reuse go home.
//! 6. No segment has the room: take one from a region and commit its beginning. *A system call for a megabyte.*
//! 7. No region has one: reserve another. *A system call for a gigabyte.*
//!
//! A free is the mirror: push; change places; give the full magazine to the depot; the depot has enough: bring its
//! blocks home; the slab is empty: give back its granules; purge what stays free; unmap the segment that stays empty.
//! The last three happen after a delay, out of the way.
//!
//! Middle sizes (up to 8 MiB) are runs of granules behind a shelf of a few blocks a class; huge ones have mappings of
//! their own.
//!
//! The layout that Rust passes to a free names the class, so steps 1 to 3 read nothing but the thread's own words. A C
//! shim, which gets a pointer only, finds the class in one byte of a table, without a look through the pointer:
//! [`free_if_cached`].
//!
//! # For shims
//! A program uses [`Arenite`]. This module is public for those who bind the heap to another language's allocation
//! functions, as the `preload` example does, and hold the caches themselves: one in each thread's own memory, never
//! moved, made by [`Cache::new`] or as [`Cache::TOPS`] says.
//!
//! [`Arenite`]: crate::Arenite

mod cache;
mod depot;
mod directory;
mod fault;
mod footprint;
mod group;
mod hardened;
mod huge;
mod huge_mapping;
mod magazine;
mod metadata;
mod middle;
mod process;
mod purge;
mod region;
mod round;
mod route;
mod segment;
mod segments;
mod settings;
mod size_class;
mod slab;
mod slab_class;
mod threads;
mod tops;
pub(crate) mod usage;
mod window;
mod work;

pub use cache::Cache;
pub use magazine::{EMPTY_MAGAZINE, EmptyMagazine};
pub(crate) use route::usable_size_of_layout;
pub use route::{
    alloc_if_cached, askable_size, check_size, check_write, fits_as_it_is, free_if_cached, usable_size,
};
pub use tops::Tops;
#[cfg(arenite_lock_counts)]
pub use usage::lock_counts;
