//! Statistics: sums that balance to the byte when nothing runs, and the three ways to write them. This program's own
//! allocator is the system's, so the heap holds what the tests ask for and nothing else.

mod support;

use std::thread;

use arenite::{ClassStats, Stats, stats};

use support::child;
use support::process::{alone, resident};
use support::{Block, HARDENED, KIB, MIB, Random, layout};

fn class(stats: &Stats, size: usize) -> ClassStats {
    stats.classes().find(|class| class.size == size).copied().unwrap_or_default()
}

/// Each byte that is out or parked is in its class and in the sum.
fn assert_balanced(stats: &Stats) {
    let sum = |blocks: fn(&ClassStats) -> usize| {
        stats.classes().map(|class| blocks(class) * class.size).sum::<usize>()
    };
    assert_eq!(stats.in_use, sum(|class| class.in_use) + stats.huge_bytes, "{stats}");
    assert_eq!(stats.in_caches, sum(|class| class.in_caches), "{stats}");
    assert!(stats.in_depot >= sum(|class| class.in_depot), "{stats}");
    assert!(stats.in_use <= stats.committed && stats.committed <= stats.reserved, "{stats}");
    for class in stats.classes() {
        assert!(class.slabs > 0 || class.in_use + class.in_caches + class.in_depot == 0, "{class:?}");
    }
}

/// Would catch a block that is counted twice, or not, on any route, in any class, at any place where it may be.
#[test]
fn in_use_balances_to_the_byte() {
    alone("in_use_balances_to_the_byte", || {
        let mut random = Random::new(21);
        let before = stats();
        assert_eq!((before.in_use, before.huge_blocks), (0, 0));
        let mut blocks: Vec<Block> = Vec::new();
        for round in 0..60 {
            for _ in 0..random.between(0, 300) {
                let size = match random.between(0, 99) {
                    0..90 => random.log_between(1, 32 * KIB),
                    90..99 => random.log_between(32 * KIB, 8 * MIB),
                    _ => random.log_between(8 * MIB, 30 * MIB),
                };
                blocks.push(Block::allocate(layout(size, 1 << random.between(0, 10)), false).unwrap());
            }
            random.shuffle(&mut blocks);
            let keep = blocks.len() - random.between(0, blocks.len());
            blocks.drain(keep..).for_each(Block::free);
            if round % 10 == 9 {
                arenite::trim();
            }
            // The usable sizes are the classes' sizes, but for hardened blocks.
            let stats = stats();
            assert_balanced(&stats);
            if HARDENED {
                continue;
            }
            // Huge ones may be kept ones that are a little longer.
            // SAFETY: the blocks are out.
            let usable = |block: &Block| unsafe { arenite::heap::usable_size(block.address()) };
            assert_eq!(stats.in_use, blocks.iter().map(usable).sum::<usize>(), "{round}\n{stats}");
            let huge: Vec<usize> = blocks.iter().map(usable).filter(|&size| size > 8 * MIB).collect();
            assert_eq!((stats.huge_blocks, stats.huge_bytes), (huge.len(), huge.iter().sum()), "{stats}");
            for class in stats.classes() {
                let out = blocks.iter().filter(|block| block.size() == class.size).count();
                assert_eq!(class.in_use, out, "{class:?} in {round}");
            }
        }
        // Resizing, in place and not.
        for block in blocks {
            let size = random.log_between(1, 20 * MIB);
            block.resize(layout(size, 8), false).unwrap().free();
            assert_balanced(&stats());
        }
        arenite::trim();
        let after = stats();
        assert_eq!((after.in_use, after.in_caches, after.in_depot, after.retained), (0, 0, 0, 0), "{after}");
    });
}

/// Would catch blocks of other threads' caches that are lost to the sums.
#[test]
fn caches_of_threads_are_counted() {
    alone("caches_of_threads_are_counted", || {
        let (ready, go) = (std::sync::Barrier::new(4), std::sync::Barrier::new(4));
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let blocks: Vec<Block> = (0..40).map(|_| Block::alloc(layout(100, 8)).unwrap()).collect();
                    let mut blocks = blocks.into_iter();
                    blocks.by_ref().take(30).for_each(Block::free);
                    ready.wait();
                    go.wait();
                    blocks.for_each(Block::free);
                });
            }
            ready.wait();
            let stats = stats();
            go.wait();
            assert_balanced(&stats);
            assert_eq!(stats.threads, 3, "{stats}");
            let class = class(&stats, if HARDENED { 112 } else { 104 });
            assert_eq!(class.in_use, 30, "{stats}");
            assert!(class.in_caches >= 90, "{stats}");
        });
    });
}

/// Would catch a sum of what was given back, of mappings or of segments that drifts from the truth.
#[test]
#[cfg_attr(feature = "hardened", ignore = "a freed huge block gives its memory back at once")]
fn the_figures_follow_what_happens() {
    alone("the_figures_follow_what_happens", || {
        let block = Block::alloc(layout(MIB, 8)).unwrap();
        let one = stats();
        assert_eq!((one.segments, one.huge_blocks), (1, 0));
        assert!(one.mappings >= 1 && one.reserved >= 32 * MIB && one.committed >= MIB);
        let huge = Block::alloc(layout(10 * MIB, 8)).unwrap();
        let two = stats();
        assert_eq!(two.mappings, one.mappings + 1);
        assert_eq!((two.huge_blocks, two.huge_bytes), (1, 10 * MIB));
        huge.bytes().fill(1);
        block.bytes().fill(1);
        block.free();
        huge.free();
        assert_eq!(stats().in_depot, 11 * MIB, "what is kept for a moment");
        let before = resident();
        let bytes = arenite::trim();
        assert_eq!(stats().purged - two.purged, bytes as u64);
        assert!(bytes >= 11 * MIB, "{bytes}");
        // An emulator's own memory counts as the process's, and grows with what it translates.
        let is_emulated = std::env::var_os(child::RUNNER).is_some();
        assert!(is_emulated || before - resident() > 10 * MIB, "{before} and {} are resident", resident());
    });
}

/// Would catch JSON that is none, a name that is missing, a number that differs from the field.
#[test]
fn json_says_what_the_value_says() {
    let blocks = [100, 5000, 100 * KIB, 10 * MIB].map(|size| Block::alloc(layout(size, 8)).unwrap());
    let stats = stats();
    let mut text = String::new();
    stats.write_json(&mut text).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let fields: [(&str, u64); 13] = [
        ("reserved", stats.reserved as u64),
        ("committed", stats.committed as u64),
        ("in_use", stats.in_use as u64),
        ("in_caches", stats.in_caches as u64),
        ("in_depot", stats.in_depot as u64),
        ("retained", stats.retained as u64),
        ("metadata", stats.metadata as u64),
        ("purged", stats.purged),
        ("mappings", stats.mappings as u64),
        ("segments", stats.segments as u64),
        ("huge_blocks", stats.huge_blocks as u64),
        ("huge_bytes", stats.huge_bytes as u64),
        ("threads", stats.threads as u64),
    ];
    for (name, value) in fields {
        assert_eq!(json[name], value, "{name} in {text}");
    }
    assert_eq!(json.as_object().unwrap().len(), fields.len() + 1, "{text}");
    let classes = json["classes"].as_array().unwrap();
    assert_eq!(classes.len(), stats.classes().count());
    for (json, class) in classes.iter().zip(stats.classes()) {
        assert_eq!(json["size"], class.size);
        assert_eq!(json["slabs"], class.slabs);
        assert_eq!(json["in_use"], class.in_use);
        assert_eq!(json["in_caches"], class.in_caches);
        assert_eq!(json["in_depot"], class.in_depot);
    }
    // The table has a line for each too.
    let table = stats.to_string();
    assert!(fields.iter().all(|(name, _)| table.lines().any(|line| line.starts_with(name))), "{table}");
    assert_eq!(table.lines().count(), fields.len() + 1 + classes.len(), "{table}");
    #[cfg(feature = "serde")]
    assert_eq!(serde_json::to_value(stats).unwrap(), json);
    blocks.into_iter().for_each(Block::free);
}

/// An empty heap's JSON is JSON too.
#[test]
fn json_of_an_empty_heap() {
    alone("json_of_an_empty_heap", || {
        let mut text = String::new();
        stats().write_json(&mut text).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["classes"], serde_json::json!([]));
        assert_eq!(json["in_use"], 0);
    });
}

/// Would catch statistics that allocate from the heap that they describe.
#[test]
fn writing_allocates_nothing() {
    struct Nowhere;
    impl std::fmt::Write for Nowhere {
        fn write_str(&mut self, _: &str) -> std::fmt::Result {
            Ok(())
        }
    }
    alone("writing_allocates_nothing", || {
        let block = Block::alloc(layout(100, 8)).unwrap();
        let before = stats();
        for _ in 0..100 {
            let now = stats();
            now.write_json(&mut Nowhere).unwrap();
            std::fmt::Write::write_fmt(&mut Nowhere, format_args!("{now}")).unwrap();
        }
        assert_eq!(stats(), before);
        block.free();
    });
}
