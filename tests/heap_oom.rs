//! Out of memory: null, everything else intact, and allocation works again once there is room. By a limit on address
//! space, by the heap's own limit, and where the system never overcommits.

mod support;

use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use support::process::{alone, in_child, in_time, limit, set_limit};
use support::program::{Program, World, random_op};
use support::{Block, GIB, HARDENED, KIB, MIB, Random, layout};

/// Allocates blocks of `sizes` until one is refused.
fn fill(sizes: impl Fn(&mut Random) -> usize) -> Vec<Block> {
    let mut random = Random::new(6);
    // The vector does not grow by this heap, but it shares the limit on address space.
    let mut blocks = Vec::with_capacity(1 << 20);
    while blocks.len() < 1 << 20 {
        let Some(mut block) = Block::alloc(layout(sizes(&mut random), 16)) else { return blocks };
        block.fill(blocks.len() as u64);
        blocks.push(block);
    }
    panic!("nothing was refused");
}

/// Fills the memory by each route, in a process that has some limit of `bytes`; each time all blocks must be intact,
/// most of the limit used, and all of it usable again.
fn fill_and_empty(bytes: usize) {
    for (size, share) in
        [(30 * KIB, 2), (3000, 2), (300 * KIB, 2), (5 * MIB, 2), (12 * MIB, 4), (30 * MIB, 4)]
    {
        for round in 0..2 {
            let mut blocks = fill(|random| random.between(size / 2, size));
            let sum: usize = blocks.iter().map(Block::size).sum();
            assert!(sum >= bytes / share, "{} MiB of at most {size} bytes in round {round}", sum / MIB);
            // What is out stays usable: blocks cannot grow, and are as they were.
            let last = blocks.pop().unwrap();
            let last = match last.realloc(GIB) {
                Err(last) => last,
                Ok(_) => panic!("grew beyond the limit"),
            };
            last.free();
            blocks.iter().for_each(Block::check);
            // There is room for what was freed.
            let block = blocks.pop().unwrap();
            let size_of_last = block.size();
            block.free();
            Block::alloc(layout(size_of_last, 16)).expect("as large as one that was freed").free();
            blocks.into_iter().for_each(Block::free);
        }
    }
    run_a_program();
}

fn run_a_program() {
    let world = World::default();
    let mut program = Program::new(&world, 1);
    let mut random = Random::new(1);
    for _ in 0..50 {
        if let op @ support::program::Op::Free { .. } = random_op(&mut random) {
            program.run(op);
        }
        program.run(support::program::Op::Alloc {
            slot: random.between(0, 7),
            size: random.log_between(1, 2 * MIB),
            align: 16,
            zeroed: true,
        });
    }
    program.finish();
    world.finish();
}

/// `ulimit -v` before the process starts. Would catch reservations that take it all, or that are refused whole.
#[test]
fn under_half_a_gigabyte_of_address_space() {
    const NAME: &str = "under_half_a_gigabyte_of_address_space";
    let set_up = |command: &mut Command| limit(command, libc::RLIMIT_AS, 512 * MIB);
    in_child(NAME, set_up, || fill_and_empty(440 * MIB)).assert_success();
}

/// So little that not even one segment may fit: null or a block, and no end.
#[test]
fn under_hardly_any_address_space() {
    const NAME: &str = "under_hardly_any_address_space";
    in_child(
        NAME,
        |_| {},
        || {
            let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
            let used = statm.split(' ').next().unwrap().parse::<usize>().unwrap() * 4 * KIB;
            set_limit(libc::RLIMIT_AS, used + 12 * MIB).unwrap();
            for size in [8, 1000, 4 * KIB, 40 * KIB, MIB, 9 * MIB, GIB] {
                for align in [8, 4096, 64 * KIB, 64 * MIB] {
                    Block::alloc(layout(size, align)).into_iter().for_each(Block::free);
                    Block::alloc_zeroed(layout(size, align)).into_iter().for_each(Block::free);
                }
            }
            arenite::trim();
            let _ = arenite::stats();
            set_limit(libc::RLIMIT_AS, used + GIB).unwrap();
            for size in [8, 1000, 40 * KIB, MIB, 9 * MIB] {
                Block::alloc(layout(size, 8)).unwrap().free();
            }
        },
    )
    .assert_success();
}

/// A limit that comes while the heap is in use, and goes again.
#[test]
fn address_space_that_shrinks_and_grows() {
    alone("address_space_that_shrinks_and_grows", || {
        let mut blocks: Vec<Block> = (0..100).map(|_| Block::alloc(layout(100 * KIB, 8)).unwrap()).collect();
        blocks.iter_mut().for_each(|block| block.fill(5));
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        let used = statm.split(' ').next().unwrap().parse::<usize>().unwrap() * 4 * KIB;
        set_limit(libc::RLIMIT_AS, used).unwrap();
        assert!(Block::alloc(layout(2 * GIB, 8)).is_none());
        let more = fill(|random| random.between(MIB, 9 * MIB));
        more.into_iter().for_each(Block::free);
        blocks.iter().for_each(Block::check);
        set_limit(libc::RLIMIT_AS, libc::RLIM_INFINITY as usize).unwrap();
        Block::alloc(layout(2 * GIB, 8)).unwrap().free();
        blocks.into_iter().for_each(Block::free);
    });
}

/// Would catch growth that needs more address space than the old and the new block together, address space that a
/// refused move leaves behind, and a shrunk block that keeps it.
#[test]
fn growth_and_shrinking_where_address_space_is_scarce() {
    const NAME: &str = "growth_and_shrinking_where_address_space_is_scarce";
    in_child(
        NAME,
        |command| limit(command, libc::RLIMIT_AS, 1000 * MIB),
        || {
            for round in 0..4 {
                let mut block = Block::alloc(layout(260 * MIB, 8)).unwrap();
                block.fill(round);
                let Ok(block) = block.realloc(520 * MIB) else { panic!("no growth in round {round}") };
                // Far more than there is.
                let Err(block) = block.realloc(900 * MIB) else { panic!("grew beyond the limit") };
                let Ok(block) = block.realloc(9 * MIB) else { panic!("no shrinking in round {round}") };
                Block::alloc(layout(700 * MIB, 8)).expect("the room that the block left").free();
                block.free();
            }
        },
    )
    .assert_success();
}

fn limited(bytes: usize) -> impl FnOnce(&mut Command) {
    move |command| _ = command.env("ARENITE_MEMORY_LIMIT", bytes.to_string())
}

/// Would catch a limit that is passed, one that is not given back, and one that counts what is only kept.
#[test]
fn under_a_memory_limit() {
    const NAME: &str = "under_a_memory_limit";
    let output = in_child(NAME, limited(128 * MIB), || {
        fill_and_empty(128 * MIB);
        let blocks = fill(|random| random.log_between(1000, 20 * MIB));
        let stats = arenite::stats();
        assert!(stats.in_use <= 128 * MIB, "{stats}");
        blocks.into_iter().for_each(Block::free);
        assert!(Block::alloc(layout(129 * MIB, 8)).is_none());
        Block::alloc(layout(120 * MIB, 8)).unwrap().free();
    });
    output.assert_success();
}

/// Would catch a group of processors that keeps its last free blocks to itself: `.ci/run` simulates eight groups.
#[test]
fn the_last_free_blocks_serve_every_group() {
    let output = in_child("the_last_free_blocks_serve_every_group", limited(32 * MIB), || {
        let mut blocks = fill(|_| 1000);
        // Less than a slab in each group.
        let freed = 40;
        let step = blocks.len() / freed;
        (0..freed).rev().for_each(|n| blocks.swap_remove(n * step).free());
        arenite::trim();
        for n in 0..freed {
            blocks.push(Block::alloc(layout(1000, 16)).unwrap_or_else(|| panic!("after {n} of {freed}")));
        }
        blocks.into_iter().for_each(Block::free);
    });
    output.assert_success();
}

/// Would catch a small limit that stops the process, or is not one.
#[test]
fn under_no_memory_at_all() {
    const NAME: &str = "under_no_memory_at_all";
    in_child(NAME, limited(0), || {
        for size in [1, 100, 5000, 40 * KIB, 9 * MIB] {
            assert!(Block::alloc(layout(size, 8)).is_none());
            assert!(Block::allocate(layout(size, 8), true).is_none());
        }
        Block::allocate(layout(0, 8), true).unwrap().free();
        assert_eq!(arenite::stats().in_use, 0);
    })
    .assert_success();
}

/// What a block has around it at the most, in bytes, and what its class rounds up.
const AROUND: usize = if HARDENED { 12 * KIB } else { 0 };

/// Would catch memory that the heap only keeps (in caches, in depots, on shelves, huge blocks, dirty pages) and that
/// stands in the way of a request of another size.
#[test]
fn what_is_kept_does_not_stand_in_the_way() {
    const NAME: &str = "what_is_kept_does_not_stand_in_the_way";
    in_child(NAME, limited(64 * MIB), || {
        let mut random = Random::new(12);
        for round in 0..300 {
            // At most 40 of 64 MiB: small ones of a class for each round, so that blocks of many classes are kept.
            let size = match round % 4 {
                0 => random.log_between(8, 32 * KIB),
                1 => random.log_between(33 * KIB, MIB),
                2 => random.log_between(MIB, 8 * MIB),
                _ => random.log_between(9 * MIB, 40 * MIB),
            };
            // The limit counts in units of 64 KiB.
            let unit =
                if size > 32 * KIB { (size + AROUND).next_multiple_of(64 * KIB) } else { size + AROUND };
            let count = (40 * MIB / unit).clamp(1, 2000);
            let blocks: Vec<Block> = (0..count)
                .map(|i| {
                    let block = Block::alloc(layout(size, 8));
                    block.unwrap_or_else(|| {
                        panic!("{i} of {count} of {size} bytes, {round}:\n{}", arenite::stats())
                    })
                })
                .collect();
            blocks.into_iter().for_each(Block::free);
        }
    })
    .assert_success();
}

/// Would catch blocks that a thread freed itself, and that are refused to it because they lie in its own cache: in
/// quarantine, or in magazines of other classes than the one that it asks for.
#[test]
fn what_a_thread_freed_serves_it() {
    const NAME: &str = "what_a_thread_freed_serves_it";
    in_child(NAME, limited(16 * MIB), || {
        for size in [64, 100, 1000, 2 * KIB, 7 * KIB, 30 * KIB, 100 * KIB] {
            let mut blocks = fill(|_| size);
            blocks.pop().unwrap().free();
            blocks.push(Block::alloc(layout(size, 16)).unwrap_or_else(|| panic!("no {size} bytes")));
            // Neighbours, enough for a slab to be empty once they are home.
            blocks.sort_by_key(Block::addr);
            let (middle, count) = (blocks.len() / 2, (128 * KIB / size).max(16));
            blocks.drain(middle..middle + count).for_each(Block::free);
            for other in [40 * KIB, 5 * KIB, 48] {
                let block = Block::alloc(layout(other, 8));
                block.unwrap_or_else(|| panic!("no {other} bytes after {count} of {size}")).free();
            }
            blocks.into_iter().for_each(Block::free);
        }
    })
    .assert_success();
}

/// Blocks that threads hold for themselves, quarantine among them.
fn parked() -> usize {
    arenite::stats().classes().map(|class| class.in_caches).sum()
}

/// Would catch a request that no memory could meet and that costs others what is kept for them: whoever chooses a length
/// would choose when quarantine ends.
#[test]
fn the_impossible_leaves_caches_as_they_are() {
    const NAME: &str = "the_impossible_leaves_caches_as_they_are";
    in_child(NAME, limited(GIB), || {
        let blocks: Vec<Block> = (0..400).map(|_| Block::alloc(layout(64, 8)).unwrap()).collect();
        blocks.into_iter().for_each(Block::free);
        let (small, huge) =
            (Block::alloc(layout(64, 8)).unwrap(), Block::alloc(layout(10 * MIB, 8)).unwrap());
        let before = parked();
        assert!(before > 0);
        let mut blocks = [small, huge];
        for size in [GIB + 1, 1 << 47, 1 << 60, isize::MAX as usize - 64 * MIB] {
            for align in [8, 64 * KIB, 64 * MIB] {
                assert!(Block::alloc(layout(size, align)).is_none());
                assert!(Block::alloc_zeroed(layout(size, align)).is_none());
            }
            blocks = blocks.map(|block| block.realloc(size).expect_err("that cannot be"));
        }
        assert_eq!(parked(), before);
        blocks.into_iter().for_each(Block::free);
    })
    .assert_success();
}

/// A kept huge block is made larger for the next request, or is in its way.
#[test]
fn a_kept_huge_block_does_not_stand_in_the_way() {
    const NAME: &str = "a_kept_huge_block_does_not_stand_in_the_way";
    in_child(NAME, limited(80 * MIB), || {
        let [first, second] = [30 * MIB, 33 * MIB].map(|size| Block::alloc(layout(size, 8)).unwrap());
        first.free();
        second.free();
        // The first would be reused, and the second is kept: 63 + 20 MiB are more than the limit, 50 are not.
        Block::alloc(layout(50 * MIB, 8)).expect("50 of 80 MiB").free();
    })
    .assert_success();
}

/// The same for a block that grows, in place or by moving its pages, which count once.
#[test]
fn what_is_kept_does_not_stand_in_the_way_of_growth() {
    const NAME: &str = "what_is_kept_does_not_stand_in_the_way_of_growth";
    in_child(NAME, limited(100 * MIB), || {
        let [first, second] = [50 * MIB, 45 * MIB].map(|size| Block::alloc(layout(size, 8)).unwrap());
        second.free();
        first.realloc(60 * MIB).expect("60 of 100 MiB").free();
    })
    .assert_success();
}

/// A kept huge block is a little larger than the next request. Would catch the rest of it counting as that block's.
#[test]
fn what_a_huge_block_does_not_need_does_not_stand_in_the_way() {
    const NAME: &str = "what_a_huge_block_does_not_need_does_not_stand_in_the_way";
    in_child(NAME, limited(100 * MIB), || {
        Block::alloc(layout(45 * MIB, 8)).unwrap().free();
        let first = Block::alloc(layout(40 * MIB, 8)).unwrap();
        Block::alloc(layout(58 * MIB, 8)).expect("98 of 100 MiB").free();
        first.free();
    })
    .assert_success();
}

/// Two threads that together stay below the limit: neither is ever refused. Would catch one that does not wait for the
/// room that the other makes.
#[test]
fn threads_below_the_limit_are_not_refused() {
    const NAME: &str = "threads_below_the_limit_are_not_refused";
    in_child(NAME, limited(64 * MIB), || {
        in_time(80, NAME, || {
            let refused = Mutex::new(Vec::new());
            thread::scope(|scope| {
                for seed in 0..2 {
                    let refused = &refused;
                    scope.spawn(move || {
                        let mut random = Random::new(seed);
                        for _ in 0..3000 {
                            let size = random.between(MIB, 20 * MIB);
                            match Block::alloc(layout(size, 8)) {
                                Some(block) => block.free(),
                                None => refused.lock().unwrap().push(size),
                            }
                        }
                    });
                }
            });
            let refused = refused.into_inner().unwrap();
            assert!(refused.is_empty(), "{} of 6000 were refused: {refused:?}", refused.len());
        });
    })
    .assert_success();
}

/// The same for huge blocks, where the bound on what is kept is low. Would catch one whose memory another thread is just
/// giving back, to keep a newer one in its place.
#[test]
fn threads_with_huge_blocks_below_the_limit_are_not_refused() {
    const NAME: &str = "threads_with_huge_blocks_below_the_limit_are_not_refused";
    let set_up = |command: &mut Command| {
        limited(29 * MIB)(command);
        command.env("ARENITE_BACKGROUND_PURGER", "0");
    };
    in_child(NAME, set_up, || {
        in_time(80, NAME, || {
            let refuse = |seed| {
                let mut random = Random::new(seed);
                let mut is_refused = || {
                    // Freed blocks lie there for a moment, so that the other thread finds them.
                    thread::sleep(Duration::from_micros(random.between(0, 2000) as u64));
                    let Some(block) = Block::alloc(layout(random.between(9 * MIB, 14 * MIB), 8)) else {
                        return true;
                    };
                    // Touched, so that giving it back takes its time.
                    block.bytes().iter_mut().step_by(4 * KIB).for_each(|byte| *byte = 1);
                    block.free();
                    false
                };
                (0..1000).filter(|_| is_refused()).count()
            };
            let refused: usize = thread::scope(|scope| {
                let threads = [0, 1].map(|seed| scope.spawn(move || refuse(seed)));
                threads.into_iter().map(|thread| thread.join().unwrap()).sum()
            });
            assert_eq!(refused, 0, "of 2000");
        });
    })
    .assert_success();
}

/// Would catch mappings with room to grow that are charged in full where the system never overcommits. The setting is
/// the whole machine's, so this test is not run unasked: `--ignored`, as root, and it is restored in any case.
#[test]
#[ignore = "changes vm.overcommit_memory of the machine for some seconds"]
fn without_overcommit() {
    const NAME: &str = "without_overcommit";
    const SETTING: &str = "/proc/sys/vm/overcommit_memory";
    struct Restore(String);
    impl Drop for Restore {
        fn drop(&mut self) {
            std::fs::write(SETTING, &self.0).unwrap();
        }
    }
    let restore = Restore(std::fs::read_to_string(SETTING).unwrap());
    if std::env::var_os("ARENITE_TEST_CHILD").is_none()
        && let Err(error) = std::fs::write(SETTING, "2")
    {
        println!("SKIPPED: {SETTING}: {error}");
        return;
    }
    let output = in_child(
        NAME,
        |_| {},
        || {
            std::mem::forget(restore);
            let committed_as = || {
                let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap();
                let line = meminfo.lines().find(|line| line.starts_with("Committed_AS:")).unwrap();
                line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * KIB
            };
            run_a_program();
            let before = committed_as();
            let block = Block::alloc(layout(512 * MIB, 8)).unwrap();
            assert!(committed_as() < before + 600 * MIB);
            let block = block.realloc(700 * MIB).unwrap();
            block.free();
            // Far more than the machine has.
            assert!(Block::alloc(layout(1 << 42, 8)).is_none());
            assert!(Block::alloc_zeroed(layout(1 << 42, 64 * MIB)).is_none());
            run_a_program();
        },
    );
    output.assert_success();
}
