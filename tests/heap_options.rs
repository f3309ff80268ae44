//! Options and the environment variables that overrule them. Each in a process of its own.

mod support;

use std::alloc::GlobalAlloc;
use std::time::{Duration, Instant};

use arenite::{Arenite, HugePages, Options};
use support::process::{Output, eventually, in_child, purger, resident};
use support::{Block, GIB, HARDENED, KIB, MIB, layout};

/// Runs `body` with these variables; their names without the common beginning.
fn with(name: &str, variables: &[(&str, &str)], body: impl FnOnce()) -> Output {
    in_child(
        name,
        |command| _ = command.envs(variables.iter().map(|(name, value)| (format!("ARENITE_{name}"), value))),
        body,
    )
}

/// The same, where nothing must be said on standard error.
fn quietly_with(name: &str, variables: &[(&str, &str)], body: impl FnOnce()) {
    let output = with(name, variables, body);
    output.assert_success();
    assert_eq!(output.complaints(), Vec::<&str>::new());
}

fn touched(size: usize) -> Block {
    let block = Block::alloc(layout(size, 8)).unwrap();
    block.bytes().fill(1);
    block
}

/// Makes the process's first allocation, with other options than the defaults.
fn start_with(options: Options) {
    let heap = Arenite::with_options(options);
    // SAFETY: the size is not zero, and the block is freed as it came.
    unsafe {
        let block = heap.alloc(layout(8, 8));
        assert!(!block.is_null());
        heap.dealloc(block, layout(8, 8));
    }
}

#[test]
fn purge_delay() {
    quietly_with("purge_delay", &[("PURGE_DELAY_MS", "20")], || {
        let full = {
            let blocks = [touched(40 * MIB), touched(MIB), touched(MIB)];
            let full = resident();
            blocks.into_iter().for_each(Block::free);
            full
        };
        let start = Instant::now();
        assert!(eventually(Duration::from_secs(10), || resident() + 40 * MIB < full));
        assert!(start.elapsed() < Duration::from_millis(700), "the default's time: {:?}", start.elapsed());
    });
}

#[test]
fn reservation() {
    for (value, bytes) in [("64m", 64 * MIB), ("1k", 32 * MIB), ("100000000000", 2 * GIB), ("2g", 2 * GIB)] {
        quietly_with("reservation", &[("RESERVATION", value), ("EXPECT", &bytes.to_string())], || {
            Block::alloc(layout(MIB, 8)).unwrap().free();
            let reserved = arenite::stats().reserved - MIB.min(arenite::stats().reserved % (32 * MIB));
            assert_eq!(reserved, std::env::var("ARENITE_EXPECT").unwrap().parse::<usize>().unwrap());
        });
    }
}

#[test]
fn memory_limit() {
    for value in ["67108864", "65536k", "64M"] {
        quietly_with("memory_limit", &[("MEMORY_LIMIT", value)], || {
            assert!(Block::alloc(layout(65 * MIB, 8)).is_none());
            Block::alloc(layout(60 * MIB, 8)).unwrap().free();
        });
    }
}

#[test]
fn retain() {
    for (value, least, most) in [("0", 0, 7 * MIB), ("64m", 40 * MIB, 66 * MIB)] {
        let variables = [
            ("RETAIN", value),
            ("BACKGROUND_PURGER", "0"),
            ("PURGE_DELAY_MS", "100000"),
            ("EXPECT_LEAST", &least.to_string()),
            ("EXPECT_MOST", &most.to_string()),
        ];
        quietly_with("retain", &variables, || {
            let expected = |name| std::env::var(name).unwrap().parse::<usize>().unwrap();
            // The first free runs a round, whatever the delay.
            touched(MIB).free();
            let before = resident();
            let blocks: Vec<Block> = (0..50 * 1024).map(|_| touched(KIB)).collect();
            blocks.into_iter().for_each(Block::free);
            let kept = resident().saturating_sub(before);
            let range = expected("ARENITE_EXPECT_LEAST")..expected("ARENITE_EXPECT_MOST");
            assert!(range.contains(&kept), "{kept}: {}", arenite::stats());
        });
    }
}

#[test]
fn background_purger() {
    for value in ["0", "1"] {
        quietly_with("background_purger", &[("BACKGROUND_PURGER", value), ("EXPECT", value)], || {
            (0..20).map(|_| touched(MIB)).collect::<Vec<_>>().into_iter().for_each(Block::free);
            let has_one = eventually(Duration::from_secs(2), || purger().is_some());
            assert_eq!(has_one, std::env::var("ARENITE_EXPECT").unwrap() == "1");
        });
    }
}

/// The mark that the kernel sets on a mapping which was advised.
fn is_advised(block: &Block) -> bool {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut here = false;
    for line in maps.lines() {
        if let Some((from, to)) = line.split(' ').next().unwrap().split_once('-')
            && let (Ok(from), Ok(to)) = (usize::from_str_radix(from, 16), usize::from_str_radix(to, 16))
        {
            here = (from..to).contains(&block.addr());
        } else if here && line.starts_with("VmFlags:") {
            return line.split(' ').any(|flag| flag == "hg");
        }
    }
    panic!("{block:?} is in no mapping");
}

#[test]
fn huge_pages() {
    // Middle blocks of a hardened heap have guards that would split them.
    let large = if HARDENED { "..H.." } else { "..HHH" };
    for (value, expected) in [("system", "....."), ("large", large), ("always", "HHHHH")] {
        quietly_with("huge_pages", &[("HUGE_PAGES", value), ("EXPECT", expected)], || {
            let first = touched(MIB);
            let fixed = touched(40 * MIB);
            let grown = touched(20 * MIB).realloc(40 * MIB).unwrap();
            // Beyond the first two, and beyond what one segment holds.
            let mut many: Vec<Block> = (0..40).map(|_| touched(MIB)).collect();
            let found = [&first, &fixed, &grown, &many[3], &many[39]]
                .map(|block| if is_advised(block) { 'H' } else { '.' });
            assert_eq!(String::from_iter(found), std::env::var("ARENITE_EXPECT").unwrap());
            many.extend([first, fixed, grown]);
            many.into_iter().for_each(Block::free);
        });
    }
}

/// Would catch first slabs, of which most stay empty for the most part, on huge pages, and what will be filled on small ones.
#[test]
fn what_will_be_filled_lies_apart() {
    quietly_with("what_will_be_filled_lies_apart", &[], || {
        let blocks: Vec<Block> = (0..4000).map(|_| touched(1000)).collect();
        assert!(!is_advised(&blocks[0]));
        // A thread that comes into another group of processors begins there.
        let advised = blocks.iter().skip(3200).step_by(100).filter(|block| is_advised(block)).count();
        assert!(advised >= 5, "{advised}");
        blocks.into_iter().for_each(Block::free);
    });
}

/// Would catch pages given back that the kernel may fill again, as parts of huge ones.
#[test]
#[cfg_attr(feature = "hardened", ignore = "the middle blocks of a hardened heap have small pages")]
fn what_was_given_back_in_part_is_made_of_small_pages() {
    quietly_with("what_was_given_back_in_part_is_made_of_small_pages", &[], || {
        let mut blocks: Vec<Option<Block>> = (0..60).map(|_| Some(touched(MIB))).collect();
        let last = blocks.len() - 1;
        assert!(is_advised(blocks[last].as_ref().unwrap()));
        for block in blocks.iter_mut().step_by(2) {
            block.take().unwrap().free();
        }
        arenite::trim();
        assert!(!is_advised(blocks[last].as_ref().unwrap()));
        blocks.into_iter().flatten().for_each(Block::free);
    });
}

/// Would catch a bad value that is taken for another, that ends the process, or that is not named.
#[test]
fn bad_values_are_named_and_ignored() {
    let bad = [
        ("PURGE_DELAY_MS", "soon"),
        ("PURGE_DELAY_MS", ""),
        ("PURGE_DELAY_MS", "-1"),
        ("RESERVATION", "1.5g"),
        ("RESERVATION", "99999999999999999999"),
        ("MEMORY_LIMIT", "10 MB"),
        ("MEMORY_LIMIT", "0x1000"),
        ("RETAIN", "m"),
        ("BACKGROUND_PURGER", "no"),
        ("BACKGROUND_PURGER", ""),
        ("HUGE_PAGES", "sometimes"),
        ("HUGE_PAGES", "Always"),
    ];
    for (name, value) in bad {
        let output = with("bad_values_are_named_and_ignored", &[(name, value)], || {
            Block::alloc(layout(MIB, 8)).unwrap().free();
            Block::alloc(layout(300 * MIB, 8)).unwrap().free();
            assert!(arenite::stats().reserved >= GIB, "{}", arenite::stats());
            (0..20).map(|_| touched(MIB)).collect::<Vec<_>>().into_iter().for_each(Block::free);
            assert!(eventually(Duration::from_secs(2), || purger().is_some()));
        });
        output.assert_success();
        let complaints = output.complaints();
        assert_eq!(complaints.len(), 1, "{complaints:?}");
        let line = complaints[0];
        assert!(line.starts_with(&format!("arenite: ARENITE_{name}={value} is ")), "{line}");
        assert!(line.ends_with("; ignored"), "{line}");
    }
}

/// Would catch options that are not those of the first allocation.
#[test]
fn options_of_the_first_allocation_hold() {
    quietly_with("options_of_the_first_allocation_hold", &[], || {
        start_with(
            Options::new()
                .memory_limit(64 * MIB)
                .reservation(96 * MIB)
                .background_purger(false)
                .huge_pages(HugePages::Always)
                .purge_delay(Duration::from_secs(100)),
        );
        start_with(Options::new().memory_limit(GIB));
        assert!((96 * MIB..128 * MIB).contains(&arenite::stats().reserved), "{}", arenite::stats());
        assert!(Block::alloc(layout(65 * MIB, 8)).is_none());
        let blocks: Vec<Block> = (0..20).map(|_| touched(2 * MIB)).collect();
        blocks.into_iter().for_each(Block::free);
        assert_eq!(purger(), None);
        let large = touched(10 * MIB);
        assert!(is_advised(&large));
        large.free();
    });
}

/// Would catch an environment that does not overrule the program.
#[test]
fn the_environment_overrules_options() {
    quietly_with(
        "the_environment_overrules_options",
        &[("MEMORY_LIMIT", "32m"), ("BACKGROUND_PURGER", "0")],
        || {
            start_with(Options::new().memory_limit(64 * MIB).background_purger(true));
            assert!(Block::alloc(layout(33 * MIB, 8)).is_none());
            (0..20).map(|_| touched(MIB)).collect::<Vec<_>>().into_iter().for_each(Block::free);
            assert_eq!(purger(), None);
        },
    );
}
