//! Memory that goes back to the system: by `trim`, after a delay, while freeing, and in an idle program; and the thread
//! that does it. Each test is a process of its own.

mod support;

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use support::process::{alone, eventually, in_child, mappings, purger, resident};
use support::{Block, HARDENED, KIB, MIB, Random, groups, layout};

/// Blocks of the sizes together `bytes` long, all touched.
fn burst(bytes: usize, sizes: impl Fn(&mut Random) -> usize) -> Vec<Block> {
    let mut random = Random::new(13);
    let mut blocks = Vec::new();
    let mut sum = 0;
    while sum < bytes {
        let block = Block::alloc(layout(sizes(&mut random), 8)).unwrap();
        block.bytes().fill(1);
        sum += block.size();
        blocks.push(block);
    }
    random.shuffle(&mut blocks);
    blocks
}

/// All routes: a third of the bytes each.
fn mixed_burst() -> Vec<Block> {
    let mut blocks = burst(64 * MIB, |random| random.log_between(16, 32 * KIB));
    blocks.extend(burst(64 * MIB, |random| random.log_between(33 * KIB, 8 * MIB)));
    blocks.extend(burst(64 * MIB, |random| random.log_between(9 * MIB, 20 * MIB)));
    blocks
}

fn free_all(blocks: Vec<Block>) {
    blocks.into_iter().for_each(Block::free);
}

fn without_purger(command: &mut Command) {
    command.env("ARENITE_BACKGROUND_PURGER", "0");
}

/// Would catch memory that `trim` leaves, and a number that is not what went: the delay is so long that nothing else
/// gives back.
#[test]
fn trim_gives_back_all_and_says_how_much() {
    const NAME: &str = "trim_gives_back_all_and_says_how_much";
    let set_up = |command: &mut Command| _ = command.env("ARENITE_PURGE_DELAY_MS", "1000000");
    in_child(NAME, set_up, || {
        Block::alloc(layout(8, 8)).unwrap().free();
        arenite::trim();
        let before = (resident(), mappings());
        free_all(mixed_burst());
        let (full, purged_before) = (resident(), arenite::stats().purged);
        let least = if HARDENED { 60 } else { 120 };
        assert!(full > before.0 + least * MIB, "given back though the delay is long: {}", arenite::stats());
        let bytes = arenite::trim();
        let gone = full - resident();
        let stats = arenite::stats();
        assert!(resident() < before.0 + 2 * MIB, "{} KiB more\n{stats}", (resident() - before.0) / KIB);
        assert!(mappings() < before.1 + 20, "{}", mappings());
        // The kernel's count is rough, and headers were never touched whole.
        assert!(bytes.abs_diff(gone) < gone / 10, "{bytes} were said, {gone} went");
        assert_eq!(stats.purged, purged_before + bytes as u64);
        assert_eq!((stats.in_use, stats.in_caches, stats.in_depot, stats.retained), (0, 0, 0, 0), "{stats}");
        assert_eq!((stats.segments, stats.huge_blocks), (0, 0), "{stats}");
        assert_eq!(arenite::trim(), 0);
    })
    .assert_success();
}

/// Would catch a `trim` that stops at a slab with a live block: whole free pages go, live blocks stay.
#[test]
fn trim_gives_back_the_pages_between_live_blocks() {
    alone("trim_gives_back_the_pages_between_live_blocks", || {
        let blocks = burst(64 * MIB, |random| random.between(600, 1500));
        let full = resident();
        let mut live = Vec::new();
        for (i, mut block) in blocks.into_iter().enumerate() {
            if i % 200 == 0 {
                block.fill(i as u64);
                live.push(block);
            } else {
                block.free();
            }
        }
        arenite::trim();
        // 300 or so live blocks, on two pages each at the most.
        assert!(resident() + 58 * MIB < full, "{} of {full}", resident());
        free_all(live);
    });
}

/// Would catch an idle program that keeps what it freed: nothing calls into the heap. (Reading the figures does not: the
/// program's own allocator is another.)
#[test]
fn an_idle_program_gives_back() {
    alone("an_idle_program_gives_back", || {
        let before = resident();
        let blocks = mixed_burst();
        let full = resident();
        free_all(blocks);
        // Two delays and a bit; the machine may be busy.
        let is_back = || resident() < before + (full - before) / 20;
        assert!(
            eventually(Duration::from_secs(8), is_back),
            "{} of {full}\n{}",
            resident(),
            arenite::stats()
        );
        // What stays is in the cache of this thread.
        let is_home = || (arenite::stats().in_depot, arenite::stats().retained) == (0, 0);
        assert!(eventually(Duration::from_secs(8), is_home), "{}", arenite::stats());
        // Once all is given back the thread sleeps: it does not wake the processor.
        thread::sleep(Duration::from_millis(1500));
        let time = processor_time();
        thread::sleep(Duration::from_millis(1500));
        assert!(processor_time() - time < Duration::from_millis(30));
    });
}

fn processor_time() -> Duration {
    // SAFETY: zero is a valid `timespec`, which the call fills.
    unsafe {
        let mut now: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut now);
        Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
    }
}

/// Would catch an idle thread whose cache keeps memory in proportion to what it freed.
#[test]
fn what_idle_threads_keep_is_bounded() {
    alone("what_idle_threads_keep_is_bounded", || {
        let before = resident();
        let (done, wait) = (std::sync::Barrier::new(5), std::sync::Barrier::new(5));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    free_all(burst(40 * MIB, |random| random.log_between(16, 32 * KIB)));
                    done.wait();
                    wait.wait();
                });
            }
            done.wait();
            let is_back = || resident() < before + 4 * 8 * MIB;
            let is_bounded = eventually(Duration::from_secs(8), is_back);
            let stats = arenite::stats();
            wait.wait();
            assert!(is_bounded, "{}", stats);
            assert!(stats.in_caches < 4 * 5 * MIB, "{stats}");
        });
    });
}

/// Would catch memory that goes at once, to be faulted in again by the next burst.
#[test]
#[cfg_attr(feature = "hardened", ignore = "large freed blocks give their pages back at once")]
fn memory_stays_for_the_delay() {
    const NAME: &str = "memory_stays_for_the_delay";
    let set_up = |command: &mut Command| _ = command.env("ARENITE_PURGE_DELAY_MS", "6000");
    in_child(NAME, set_up, || {
        let start = Instant::now();
        let blocks = burst(20 * MIB, |random| random.log_between(33 * KIB, MIB));
        let full = resident();
        free_all(blocks);
        // Half the delay at least.
        while start.elapsed() < Duration::from_millis(2800) {
            assert!(resident() + MIB > full, "gone after {:?}", start.elapsed());
            thread::sleep(Duration::from_millis(100));
        }
        assert!(eventually(Duration::from_secs(10), || resident() + 18 * MIB < full));
    })
    .assert_success();
}

/// The same for small blocks that are freed just before a round: nothing that was freed less than half a delay ago goes.
#[test]
fn small_blocks_stay_for_half_the_delay() {
    const NAME: &str = "small_blocks_stay_for_half_the_delay";
    let set_up = |command: &mut Command| _ = command.env("ARENITE_PURGE_DELAY_MS", "4000");
    in_child(NAME, set_up, || {
        // Together enough for a purger, and less than lets a round come early.
        let blocks = burst(10 * MIB, |random| random.between(900, 1000));
        // Starts the clock of the first round.
        free_all(burst(2 * MIB, |_| 100 * KIB));
        let start = Instant::now();
        thread::sleep(Duration::from_millis(1500));
        let full = resident();
        let (kept, freed): (Vec<_>, Vec<_>) = blocks.into_iter().enumerate().partition(|(i, _)| i % 100 == 0);
        let freed_at = Instant::now();
        freed.into_iter().for_each(|(_, block)| block.free());
        while freed_at.elapsed() < Duration::from_millis(1700) {
            let gone = full.saturating_sub(resident());
            assert!(gone < 3 * MIB, "{gone} bytes gone {:?} after the free", freed_at.elapsed());
            thread::sleep(Duration::from_millis(50));
        }
        assert!(start.elapsed() < Duration::from_secs(4), "too slow a machine for this test");
        kept.into_iter().for_each(|(_, block)| block.free());
    })
    .assert_success();
}

/// Would catch rounds that only the clock begins: the heap would hold what was freed and what is new, side by side.
#[test]
fn growth_lets_rounds_come_early() {
    const NAME: &str = "growth_lets_rounds_come_early";
    // A round every ten seconds, an early one after an eighth of that at the least.
    let set_up = |command: &mut Command| _ = command.env("ARENITE_PURGE_DELAY_MS", "20000");
    in_child(NAME, set_up, || {
        let blocks = burst(64 * MIB, |random| random.between(900, 1000));
        let (kept, freed): (Vec<_>, Vec<_>) = blocks.into_iter().enumerate().partition(|(i, _)| i % 100 == 0);
        freed.into_iter().for_each(|(_, block)| block.free());
        let before = resident();
        let mut grown = Vec::new();
        // Other sizes, so that nothing of the old is used again as it is. Slowly enough for several early rounds.
        for _ in 0..30 {
            grown.extend(burst(3 * MIB, |random| random.between(3000, 4000)));
            thread::sleep(Duration::from_millis(150));
        }
        assert!(
            eventually(Duration::from_secs(2), || resident() < before + 45 * MIB),
            "{} MiB",
            resident() / MIB
        );
        free_all(grown);
        kept.into_iter().for_each(|(_, block)| block.free());
    })
    .assert_success();
}

/// Would catch a purger where none was asked for, one that is started with nothing to do, and one that takes the
/// program's signals.
#[test]
fn the_purger_is_there_when_it_is_needed() {
    alone("the_purger_is_there_when_it_is_needed", || {
        let block = Block::alloc(layout(100, 8)).unwrap();
        thread::sleep(Duration::from_millis(50));
        assert_eq!(purger(), None);
        block.free();
        free_all(burst(32 * MIB, |random| random.log_between(1000, MIB)));
        assert!(eventually(Duration::from_secs(5), || purger().is_some()));
        let (_, blocked) = purger().unwrap();
        // The kernel and the C library keep a few for themselves: KILL (9), STOP (19), 32 to 34.
        let own = 1 << 8 | 1 << 18 | 0b111 << 31;
        assert_eq!(blocked | own, u64::MAX, "{blocked:#x}");
    });
}

#[test]
fn no_purger_where_it_is_turned_off() {
    const NAME: &str = "no_purger_where_it_is_turned_off";
    in_child(NAME, without_purger, || {
        for _ in 0..20 {
            free_all(burst(32 * MIB, |random| random.log_between(1000, 9 * MIB)));
            assert_eq!(purger(), None);
            thread::sleep(Duration::from_millis(10));
        }
    })
    .assert_success();
}

/// Without the thread, a program that frees gives back what is above the bound, within the frees themselves: what stays
/// is the bound, an eighth of what is in use, and what caches hold.
#[test]
fn freeing_gives_back_down_to_the_bound() {
    const NAME: &str = "freeing_gives_back_down_to_the_bound";
    let set_up = |command: &mut Command| {
        command.env("ARENITE_RETAIN", "8m").env("ARENITE_PURGE_DELAY_MS", "1000000");
        without_purger(command);
    };
    in_child(NAME, set_up, || {
        let before = resident();
        free_all(burst(200 * MIB, |random| random.log_between(16, 32 * KIB)));
        let kept = resident().saturating_sub(before);
        // Parked blocks keep the pages of their slabs until a round, which never comes with this delay.
        // Those of a thread that wanders lie in the slabs of each group.
        let most = (45 + 5 * groups()) * MIB;
        assert!(kept < most, "{} MiB are kept\n{}", kept / MIB, arenite::stats());
    })
    .assert_success();
}

/// The same for huge blocks and the largest middle ones, which are kept beside the granules that the bound counts.
#[test]
fn freeing_large_blocks_gives_back_down_to_the_bound() {
    const NAME: &str = "freeing_large_blocks_gives_back_down_to_the_bound";
    let set_up = |command: &mut Command| {
        command.env("ARENITE_RETAIN", "8m").env("ARENITE_PURGE_DELAY_MS", "1000000");
        without_purger(command);
    };
    in_child(NAME, set_up, || {
        let before = resident();
        free_all(burst(300 * MIB, |random| random.log_between(33 * KIB, 12 * MIB)));
        let kept = resident().saturating_sub(before);
        assert!(kept < (8 + 5) * MIB, "{} MiB are kept\n{}", kept / MIB, arenite::stats());
    })
    .assert_success();
}

/// Would catch growth in place that does not count as growth: no purger, and what is freed stays for ever.
#[test]
fn blocks_that_grew_in_place_are_given_back() {
    in_child(
        "blocks_that_grew_in_place_are_given_back",
        |_| {},
        || {
            let before = resident();
            let grown: Vec<Block> = (0..2)
                .map(|_| {
                    let block = Block::alloc(layout(40 * KIB, 8)).unwrap();
                    let Ok(block) = block.realloc(7 * MIB) else { panic!("no growth") };
                    block.bytes().fill(1);
                    block
                })
                .collect();
            grown.into_iter().for_each(Block::free);
            assert!(
                eventually(Duration::from_secs(10), || resident() < before + 2 * MIB),
                "{}",
                arenite::stats()
            );
        },
    )
    .assert_success();
}

/// Without the thread and with a short delay: rounds run within the frees.
#[test]
fn frees_run_the_rounds() {
    const NAME: &str = "frees_run_the_rounds";
    let set_up = |command: &mut Command| {
        command.env("ARENITE_PURGE_DELAY_MS", "50");
        without_purger(command);
    };
    in_child(NAME, set_up, || {
        let before = resident();
        free_all(mixed_burst());
        for _ in 0..20 {
            thread::sleep(Duration::from_millis(30));
            // A little work that leaves the caches.
            free_all((0..4).map(|_| Block::alloc(layout(100 * KIB, 8)).unwrap()).collect());
        }
        assert!(
            resident() < before + if HARDENED { 12 } else { 8 } * MIB,
            "{} MiB\n{}",
            (resident() - before) / MIB,
            arenite::stats()
        );
    })
    .assert_success();
}
