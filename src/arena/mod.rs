//! Scoped arenas: one reservation of addresses, one cursor, one branch.
//!
//! An [`Arena`] hands out memory by moving a cursor and takes it back all at once, or scope by scope. Its range is
//! contiguous and grows where it is, so the last block grows at any size; what it does not need it gives back.
//!
//! | to | use |
//! |---|---|
//! | allocate values, slices, text | [`Arena::alloc`] and its neighbours, each with a `try_` form |
//! | take memory back early | [`Arena::scope`], [`ScopeGuard`], [`Checkpoint`], [`Arena::reset`] |
//! | have `Drop` run | [`Owned`]: plain references never drop their values |
//! | allocate a batch in registers | [`Cursor`] |
//! | keep collections in it | `&Arena` and `&Scope` are `Allocator`s |
//! | own an arena together with what is in it | [`Rooted`]; [`Frozen`] to share that between threads |
//! | halve the pointers of a tree | [`Offset`] |
//! | use many threads | [`ArenaPool`] |
//! | set limits, guards, huge pages | [`ArenaOptions`] |
//!
//! # Behaviour to know of
//! - Values are not dropped, as said above: a `String` in an arena leaks its buffer unless an [`Owned`] holds it.
//! - A finished arena's reservation waits for the next one, with its kept prefix (1 MiB at most): one for each thread,
//!   16 for all. [`release_warm`] gives them back.
//! - Under a limit on address space (`ulimit -v`), or when thousands of arenas exist, an arena reserves less:
//!   [`Arena::reserved`] says how much. It never moves; when its range is full, `try_` methods say so.
//! - Freed memory is filled with `0xa5` in debug builds and poisoned under AddressSanitizer (feature `nightly`).
//!
//! Inside, `header` holds the fast path, `memory` the system's side, `build` whatever runs code of the user's.

mod allocator;
#[expect(clippy::module_inception, reason = "the module's main type")]
mod arena;
mod build;
mod cursor;
mod error;
mod header;
mod memory;
mod methods;
mod offset;
mod options;
mod owned;
mod poison;
mod pool;
mod rooted;
mod scope;
mod warm;

pub use arena::Arena;
pub use cursor::Cursor;
pub use error::{ArenaError, ArenaErrorKind};
pub use offset::{Handle, Offset, SliceOffset};
pub use options::ArenaOptions;
pub use owned::Owned;
pub use pool::{ArenaPool, PoolGuard};
pub use rooted::{Frozen, Root, Rooted, View};
pub use scope::{Checkpoint, Scope, ScopeGuard};

/// Gives the finished reservations that wait for their next arena back to the system: those that wait for all threads,
/// and the calling thread's own. Says how many there were.
pub fn release_warm() -> usize {
    warm::clear()
}
