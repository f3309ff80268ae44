//! Arenas: over reservations and over mappings, in steps small and large, with guards, limits and huge pages; reset,
//! trimmed, kept warm, given to other threads.

use arenite::HugePages;
use arenite::arena::{Arena, ArenaOptions, ArenaPool, release_warm};
use arenite::vm::MapOptions;

use crate::driver::{Subject, fail_each_place};
use crate::support::process::in_bare_thread;
use crate::support::{KIB, MIB, Random};

/// An arena with the values that must be in it.
struct Filled {
    arena: Arena,
    values: Vec<(*const [u64], u64)>,
}

#[derive(Default)]
struct Arenas {
    filled: Vec<Filled>,
    round: u64,
}

impl Filled {
    fn fill(&mut self, seed: u64, refusals: bool, most: usize) {
        let mut random = Random::new(seed);
        while self.arena.used() < most {
            let len = if random.one_in(20) { random.between(1, 40 * KIB) } else { random.between(1, 64) };
            let value = random.next();
            match self.arena.try_alloc_slice_fill(len, value) {
                Ok(place) => self.values.push((&raw const *place, value)),
                Err(error) => {
                    assert!(refusals || !error.to_string().contains("memory"), "{error}");
                    return;
                }
            }
        }
    }

    fn check(&self) {
        for &(place, value) in &self.values {
            // SAFETY: allocated in the arena, which was not reset since: `reset` forgets the values.
            assert!(unsafe { &*place }.iter().all(|&word| word == value), "{:?} was changed", self.arena);
        }
    }

    fn reset(&mut self) {
        self.check();
        self.values.clear();
        self.arena.reset();
    }
}

impl Arenas {
    fn work(&mut self, refusals: bool) {
        self.round += 1;
        let options = [
            ArenaOptions::new(),
            ArenaOptions::new().growth_step(4 * KIB).kept_prefix(16 * KIB),
            ArenaOptions::new().capacity(3 * MIB).guard_page(true),
            ArenaOptions::new().limit(MIB).reservation(8 * MIB),
            ArenaOptions::new().huge_pages(HugePages::Always),
            ArenaOptions::new().huge_pages(HugePages::Large),
        ];
        for (i, options) in options.into_iter().enumerate() {
            let seed = self.round * 100 + i as u64;
            let built = options.build();
            assert!(refusals || built.is_ok(), "{built:?}");
            let Ok(arena) = built else { continue };
            let mut filled = Filled { arena, values: Vec::new() };
            // Past the border from which each step is filled in by the kernel.
            filled.fill(seed, refusals, if i == 5 { 20 * MIB } else { 3 * MIB });
            filled.check();
            if i % 2 == 1 {
                filled.reset();
                filled.fill(seed + 50, refusals, MIB);
                filled.arena.trim();
                filled.fill(seed + 60, refusals, 2 * MIB);
            }
            filled.check();
            self.filled.push(filled);
        }
        match MapOptions::new(MIB).map_anonymous().and_then(Arena::over) {
            Ok(arena) => {
                let mut filled = Filled { arena, values: Vec::new() };
                filled.fill(self.round, true, MIB);
                self.filled.push(filled);
            }
            Err(error) => assert!(refusals, "{error}"),
        }
        in_bare_thread(|| {
            let pool = ArenaPool::new();
            for _ in 0..3 {
                match pool.try_get() {
                    Ok(arena) => assert!(arena.try_alloc([7_u64; 100]).is_ok() || refusals),
                    Err(error) => assert!(refusals, "{error}"),
                }
            }
        });
        // Some are kept warm, some are not.
        for filled in self.filled.drain(..self.filled.len() / 2) {
            filled.check();
        }
    }
}

impl Subject for Arenas {
    fn run(&mut self) {
        self.work(true);
        self.filled.iter().for_each(Filled::check);
    }

    fn check(mut self) -> usize {
        self.filled.iter().for_each(Filled::check);
        self.work(false);
        self.filled.iter().for_each(Filled::check);
        drop(self.filled);
        release_warm();
        // What other threads left.
        release_warm();
        arenite::trim();
        arenite::stats().reserved
    }
}

#[test]
fn arenas_survive_each_refusal() {
    let refused = fail_each_place("arenas", |_| true, Arenas::default);
    for call in ["mmap", "munmap", "mprotect", "madvise"] {
        assert!(refused.keys().any(|(name, ..)| *name == call), "{call} was never failed");
    }
}
