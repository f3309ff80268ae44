//! Arenas for many threads: each thread takes one, and what it allocates lives as long as the pool is not reset.
//!
//! A guard holds its arena and the pool that it goes back to, and gives out shared references to its scope only: were it
//! possible to swap scopes between guards, an arena could go to a pool that is reset while its values are still alive.

use core::fmt;
use core::mem::{self, ManuallyDrop};
use core::ops::Deref;
use std::io;
use std::sync::Mutex;

use crate::arena::Arena;
use crate::arena::options::ArenaOptions;
use crate::arena::scope::{Scope, ScopeGuard};

/// Arenas that threads share by taking turns.
///
/// ```
/// use arenite::arena::ArenaPool;
///
/// let mut pool = ArenaPool::new();
/// let words: Vec<&str> = std::thread::scope(|threads| {
///     let pool = &pool;
///     let made: Vec<_> = (0..4)
///         .map(|n| threads.spawn(move || &*pool.get().alloc_fmt(format_args!("word {n}"))))
///         .collect();
///     made.into_iter().map(|thread| thread.join().unwrap()).collect()
/// });
/// assert_eq!(words[3], "word 3");
/// pool.reset();
/// ```
#[derive(Debug)]
pub struct ArenaPool<const MIN_ALIGN: usize = 8> {
    options: ArenaOptions,
    idle: Mutex<Vec<Arena<MIN_ALIGN>>>,
}

/// An arena of a pool, the calling thread's until it drops. Derefs to a [`Scope`] whose values live as long as the
/// pool's borrow: longer than the guard.
///
/// ```compile_fail,E0505
/// let pool = arenite::arena::ArenaPool::new();
/// let word = pool.get().alloc_str("word");
/// drop(pool);
/// println!("{word}");
/// ```
pub struct PoolGuard<'p, const MIN_ALIGN: usize = 8> {
    pool: &'p ArenaPool<MIN_ALIGN>,
    /// Taken when the guard drops.
    arena: ManuallyDrop<Arena<MIN_ALIGN>>,
    scope: Scope<'p, MIN_ALIGN>,
}

impl ArenaPool {
    /// A pool of arenas with the default options.
    #[must_use]
    pub const fn new() -> ArenaPool {
        ArenaPool::with_options(ArenaOptions::new())
    }
}

impl<const MIN_ALIGN: usize> ArenaPool<MIN_ALIGN> {
    /// A pool of arenas with these options, each of which has the limit for itself.
    #[must_use]
    pub const fn with_options(options: ArenaOptions) -> Self {
        ArenaPool { options, idle: Mutex::new(Vec::new()) }
    }

    /// An arena that nobody uses; a new one if there is none.
    ///
    /// # Panics
    /// Where [`try_get`](ArenaPool::try_get) is an error.
    #[must_use]
    pub fn get(&self) -> PoolGuard<'_, MIN_ALIGN> {
        self.try_get().expect("addresses for an arena")
    }

    /// As [`get`](ArenaPool::get).
    ///
    /// # Errors
    /// As for [`ArenaOptions::build`].
    pub fn try_get(&self) -> io::Result<PoolGuard<'_, MIN_ALIGN>> {
        let idle = self.lock().pop();
        let arena = match idle {
            Some(arena) => arena,
            None => self.options.build_with_min_align()?,
        };
        let header = arena.header();
        // SAFETY: the guard has the arena to itself. It goes back to this pool, which rewinds and drops its arenas only
        // when its borrow has ended.
        let scope = unsafe { Scope::new(header.into(), header.first) };
        Ok(PoolGuard { pool: self, arena: ManuallyDrop::new(arena), scope })
    }

    /// Takes everything back, as [`Arena::reset`] does.
    pub fn reset(&mut self) {
        let idle = self.idle.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner());
        idle.iter_mut().for_each(Arena::reset);
    }

    /// Bytes in use in the arenas that nobody has taken.
    #[must_use]
    pub fn used(&self) -> usize {
        self.lock().iter().map(Arena::used).sum()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arena<MIN_ALIGN>>> {
        // A push or a pop that panicked has left the arenas whole.
        self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Default for ArenaPool {
    fn default() -> ArenaPool {
        ArenaPool::new()
    }
}

impl<const MIN_ALIGN: usize> PoolGuard<'_, MIN_ALIGN> {
    /// Runs `body` in an inner scope, as [`Arena::scope`] does.
    pub fn scope<R>(&mut self, body: impl for<'s> FnOnce(&mut Scope<'s, MIN_ALIGN>) -> R) -> R {
        self.scope.scope(body)
    }

    /// An inner scope that ends when the guard drops.
    pub fn scope_guard(&mut self) -> ScopeGuard<'_, MIN_ALIGN> {
        self.scope.scope_guard()
    }
}

impl<'p, const MIN_ALIGN: usize> Deref for PoolGuard<'p, MIN_ALIGN> {
    type Target = Scope<'p, MIN_ALIGN>;

    fn deref(&self) -> &Scope<'p, MIN_ALIGN> {
        &self.scope
    }
}

impl<const MIN_ALIGN: usize> Drop for PoolGuard<'_, MIN_ALIGN> {
    fn drop(&mut self) {
        // SAFETY: the arena is not used again: the guard ends here.
        let arena = unsafe { ManuallyDrop::take(&mut self.arena) };
        let mut idle = self.pool.lock();
        if idle.try_reserve(1).is_ok() {
            idle.push(arena);
        } else {
            // Its values must stay; no memory for one pointer is no reason to lose them.
            mem::forget(arena);
        }
    }
}

impl<const MIN_ALIGN: usize> fmt::Debug for PoolGuard<'_, MIN_ALIGN> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PoolGuard").field(&*self.arena).finish()
    }
}
