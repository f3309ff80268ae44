//! A heap of a tebibyte, hardly touched: what each of its 33,000 segments costs in memory and in time.

mod support;

use std::alloc::{Layout, alloc, dealloc};
use std::time::Instant;

use support::process::{alone, resident};
use support::{KIB, MIB};

#[global_allocator]
static GLOBAL: arenite::Arenite = arenite::Arenite::new();

const SEGMENTS: usize = 32 << 10;
/// A segment of 32 MiB has room for 31 of them beside its header.
const IN_SEGMENT: usize = 31;

fn line_of(file: &str, name: &str) -> usize {
    let text = std::fs::read_to_string(file).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
}

fn timed<R>(what: &str, work: impl FnOnce() -> R) -> R {
    let begin = Instant::now();
    let result = work();
    println!("{what:44} {:>8.1} ms", begin.elapsed().as_secs_f64() * 1e3);
    result
}

/// Would catch anything that is kept for each segment and touched, mappings that add up, and a walk over segments that
/// takes a walk for each.
#[test]
#[ignore = "takes a tebibyte of addresses and half a gibibyte of memory"]
fn a_tebibyte_costs_little() {
    alone("a_tebibyte_costs_little", || {
        let layout = Layout::from_size_align(MIB, 8).unwrap();
        let mut blocks = Vec::with_capacity(SEGMENTS * IN_SEGMENT);
        let (resident_before, tables_before) = (resident(), line_of("/proc/self/status", "VmPTE:") * KIB);
        timed("a million blocks of 1 MiB", || {
            for _ in 0..SEGMENTS * IN_SEGMENT {
                // SAFETY: the layout is not empty.
                let block = unsafe { alloc(layout) };
                assert!(!block.is_null(), "after {} blocks", blocks.len());
                blocks.push(block);
            }
        });
        let stats = timed("stats", arenite::stats);
        assert!(stats.segments >= SEGMENTS && stats.reserved >= 1 << 40, "{stats}");
        let vector = blocks.len() * size_of::<*mut u8>();
        let headers = (resident() - resident_before).saturating_sub(vector);
        let tables = line_of("/proc/self/status", "VmPTE:") * KIB - tables_before;
        let mappings = std::fs::read_to_string("/proc/self/maps").unwrap().lines().count();
        println!("{:44} {:>8} bytes a segment", "headers and the rest, resident", headers / stats.segments);
        println!("{:44} {:>8} bytes a segment", "page tables", tables / stats.segments);
        println!("{:44} {:>8} KiB", "metadata", stats.metadata / KIB);
        println!("{:44} {mappings:>8}", "mappings of the process");
        assert!(headers / stats.segments <= 16 * KIB, "{headers} {stats}");
        assert!(mappings < 4096, "{mappings}");

        timed("a round that finds nothing (`trim`)", arenite::trim);
        // The last made are looked at first, so what becomes empty lies at the far end of any list.
        let freed = blocks.len() / 2;
        timed("half of the blocks freed", || {
            // SAFETY: they came from there.
            blocks.drain(..freed).for_each(|block| unsafe { dealloc(block, layout) });
        });
        timed("half of the segments unmapped (`trim`)", arenite::trim);
        let begin = Instant::now();
        // SAFETY: as above.
        blocks.drain(..).for_each(|block| unsafe { dealloc(block, layout) });
        arenite::trim();
        println!("{:44} {:>8.1} ms", "the other half, too", begin.elapsed().as_secs_f64() * 1e3);
        assert!(arenite::stats().segments < 64, "{}", arenite::stats());
    });
}
