//! Every system call made to fail: `RUSTFLAGS="--cfg arenite_faults" cargo test --test faults`.
//!
//! A subject is a body of work with a shadow. It runs in a forked child, first with no fault, which shows the places in
//! the code that make calls; then once for each place, error and choice of calls (the first, one in the middle, all, some
//! at random) with those refused. A refusal may lead to further calls, on the way back: places that only show then are
//! failed too, with what led there. After each run all faults are off: contents must be as the shadow has them, the same
//! work must succeed, and when all is freed what is mapped must be what the counts say, to the byte.
//!
//! Would catch: a result that is not looked at, a half-done step that is not taken back, a count that is not, a mapping
//! that is lost, a lock that is kept.
#![cfg(arenite_faults)]

mod arenas;
mod driver;
mod heap;
mod mappings;
#[path = "../support/mod.rs"]
mod support;
