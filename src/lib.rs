#![doc = include_str!("../README.md")]
//!
//! # Layers
//! Each layer imports only what stands above it.
//!
//! | module | holds |
//! |---|---|
//! | `base` | arithmetic, bitmaps, the one import of atomics |
//! | [`vm`] | every system call: mappings, advice, hooks |
//! | [`arena`] | scoped arenas |
//! | [`heap`] | size classes, caches, depots, slabs, segments |
//! | `global` | [`Arenite`]: the heap as an allocator |
//! | `stats` | [`stats()`]: what the heap holds, as a value, a table, JSON |

#![cfg_attr(feature = "nightly", feature(allocator_api, cfg_sanitize))]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("arenite needs a 64-bit address space: it reserves gigabytes and uses little of them");

#[cfg(not(target_endian = "little"))]
compile_error!("arenite has been run on little-endian machines only");

#[cfg(not(unix))]
compile_error!("arenite needs mmap: it supports Linux, and by construction macOS and the BSDs");

mod base;
mod config;
#[macro_use]
pub mod vm;

pub mod arena;
pub mod heap;

mod global;

mod stats;

pub use arena::{Arena, ArenaError, ArenaOptions, Owned, Scope};
pub use config::{HugePages, Options};
pub use global::{Arenite, trim};
pub use stats::{ClassStats, Stats, stats};
