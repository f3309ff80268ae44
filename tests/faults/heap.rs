//! The heap: every route, threads that end, growth that moves, purging, running out of memory; with room and where
//! address space is scarce.

use arenite::vm::inject::Place;
use arenite::{Arenite, HugePages};

use crate::driver::{Subject, fail_each_place};
use crate::support::process::{in_bare_thread, set_limit};
use crate::support::program::{Op, Program, World, random_op};
use crate::support::{Block, HARDENED, KIB, MIB, Random, layout};

struct Heap {
    world: &'static World,
    program: Program<'static>,
    seed: u64,
}

impl Heap {
    /// `options` hold for the process, which has not used the heap yet.
    fn new(options: Arenite) -> Heap {
        // Not an allocation: the first one is the subject's, with its options.
        OPTIONS.set(options).expect("one subject a process");
        let world: &'static World = Box::leak(Box::default());
        Heap { world, program: Program::new(world, 1), seed: 1 }
    }

    fn work(&mut self, refusals: bool) {
        self.program.allow_refusals(refusals);
        self.seed += 1;
        let mut random = Random::new(self.seed);
        // The options of the first allocation hold, so it must be this one.
        let first = OPTIONS.get().expect("set by `new`");
        // SAFETY: the size is not zero, and the block is freed as it came.
        unsafe {
            use std::alloc::GlobalAlloc;
            let block = first.alloc(layout(40, 8));
            assert!(refusals || !block.is_null());
            if !block.is_null() {
                first.dealloc(block, layout(40, 8));
            }
        }
        for _ in 0..60 {
            self.program.run(small(random_op(&mut random)));
        }
        self.in_a_thread(refusals);
        self.huge();
        self.program.run(Op::Trim);
        if !refusals {
            return;
        }
        // Asks for what nobody has, so that the heap gives back even addresses.
        assert!(Block::alloc(layout(ALL, 8)).is_none());
        // A limit that is out of reach: mappings are made to measure all the same.
        set_limit(libc::RLIMIT_AS, 1 << 46).unwrap();
        self.huge();
        for _ in 0..30 {
            self.program.run(small(random_op(&mut random)));
        }
        set_limit(libc::RLIMIT_AS, libc::RLIM_INFINITY as usize).unwrap();
        self.program.check();
    }

    /// A thread that takes and leaves blocks, with magazines full and empty, and ends.
    fn in_a_thread(&mut self, refusals: bool) {
        let (world, seed) = (self.world, self.seed);
        in_bare_thread(move || {
            let mut program = Program::new(world, seed + 100);
            program.allow_refusals(refusals);
            let mut random = Random::new(seed + 100);
            for _ in 0..40 {
                program.run(small(random_op(&mut random)));
            }
            for size in [24, 2000] {
                let blocks: Vec<Block> = (0..300).map_while(|_| Block::alloc(layout(size, 8))).collect();
                assert!(refusals || blocks.len() == 300);
                blocks.into_iter().for_each(Block::free);
            }
            program.hand_over_all();
        });
    }

    /// Growth in place and by moving, shrinking, reuse of kept blocks, large alignments.
    fn huge(&mut self) {
        let first = self.seed == 2;
        let mut run = |op| self.program.run(op);
        // One behind the other, so that those in front must move to grow.
        for (slot, align) in [(0, 8), (1, 8), (2, 64 * MIB), (3, 8)] {
            run(Op::Alloc { slot, size: 9 * MIB, align, zeroed: false });
        }
        for slot in 0..4 {
            // More than the mapping has, wherever the header came to lie in it: the block moves, and what was before its
            // header goes. One of two is enough, because no two lie alike in their segments.
            let most = if slot % 2 == 1 { 52 * MIB } else { 28 * MIB };
            for size in [19 * MIB, most, 10 * MIB] {
                run(Op::Realloc { slot, size });
            }
        }
        (0..4).for_each(|slot| run(Op::Free { slot }));
        // Kept, and cleared by hand or by the kernel.
        run(Op::Alloc { slot: 3, size: 9 * MIB, align: 8, zeroed: false });
        run(Op::Alloc { slot: 3, size: 9 * MIB, align: 8, zeroed: true });
        // With nothing else kept, for which there is a bound.
        run(Op::Trim);
        run(Op::Alloc { slot: 3, size: 33 * MIB, align: 8, zeroed: false });
        // So large that the kernel clears it: once is enough.
        run(Op::Alloc { slot: 3, size: 33 * MIB, align: 8, zeroed: first });
        // Segments come and go, untouched.
        let blocks: Vec<Block> = (0..12).map_while(|_| Block::alloc(layout(7 * MIB, 8))).collect();
        blocks.into_iter().for_each(Block::free);
        run(Op::Trim);
    }
}

/// As many bytes as there are addresses.
const ALL: usize = 1 << if cfg!(target_arch = "x86_64") { 47 } else { 48 };

/// The op with blocks that are cheap to fill and to look at: what is huge has its own place in the work.
fn small(mut op: Op) -> Op {
    if let Op::Alloc { size, .. }
    | Op::Allocate { size, .. }
    | Op::Realloc { size, .. }
    | Op::Resize { size, .. } = &mut op
    {
        *size = (*size).min(400 * KIB);
    }
    op
}

static OPTIONS: std::sync::OnceLock<Arenite> = std::sync::OnceLock::new();

impl Subject for Heap {
    fn run(&mut self) {
        self.work(true);
    }

    fn check(mut self) -> usize {
        self.program.check();
        self.work(false);
        self.program.finish();
        // SAFETY: leaked by `new`, and the programs are over.
        let world = unsafe { Box::from_raw(std::ptr::from_ref(self.world).cast_mut()) };
        world.finish();
        arenite::trim();
        // The first may have found memory that a purger was at.
        arenite::trim();
        let stats = arenite::stats();
        let left = (stats.in_use, stats.in_caches, stats.in_depot, stats.retained, stats.huge_blocks);
        assert_eq!(left, (0, 0, 0, 0, 0), "{stats}");
        // So that addresses are given back too; what is left is metadata's.
        assert!(Block::alloc(layout(ALL, 8)).is_none());
        let stats = arenite::stats();
        assert!(
            stats.segments == 0 && stats.reserved - arenite::vm::inject::stuck_bytes() < 32 * MIB,
            "{stats}"
        );
        stats.reserved
    }
}

/// Each place in the heap that makes a call was failed, and so was each way through it.
#[test]
fn the_heap_survives_each_refusal() {
    let refused = fail_each_place(
        "heap",
        |_| true,
        || Heap::new(Arenite::new().background_purger(false).retain(64 * MIB)),
    );
    let calls = calls_of("src/heap");
    assert!(calls.len() > 20, "only {} calls were seen: the search has lost its object", calls.len());
    let missed: Vec<String> = calls
        .into_iter()
        .filter(|(file, line)| !refused.keys().any(|(_, f, l)| f == file && l == line))
        .filter(|(file, line)| !is_elsewhere(file, &line_of(file, *line)))
        .map(|(file, line)| format!("{file}:{line}: {}", line_of(&file, line).trim()))
        .collect();
    assert!(missed.is_empty(), "calls that no case reached:\n{}", missed.join("\n"));
}

#[test]
fn the_heap_survives_each_refusal_beside_a_purger() {
    let options = Arenite::new().purge_delay(std::time::Duration::from_millis(2));
    let refused =
        fail_each_place("heap with a purger", |place| place.call == "pthread_create", || Heap::new(options));
    assert!(refused.keys().any(|(call, ..)| *call == "pthread_create"), "no purger was started");
}

#[test]
fn the_heap_survives_each_refusal_with_huge_pages() {
    let options = Arenite::new().background_purger(false).huge_pages(HugePages::Always);
    let is_new = |place: &Place| line_of(place.file, place.line).contains("advise_huge_pages");
    fail_each_place("heap with huge pages", is_new, || Heap::new(options));
}

/// Whether another test, or this one in a build with or without the feature `hardened`, is there for a call.
fn is_elsewhere(file: &str, line: &str) -> bool {
    let has = |calls: &[&str]| calls.iter().any(|call| line.contains(call));
    if has(&["advise_huge_pages", "spawn_detached"]) {
        // These need other options.
        return true;
    }
    if HARDENED {
        // Huge blocks are mapped to measure, not kept, and grow in their own way.
        let is_left_out =
            file == "src/heap/huge.rs" && !has(&["release(start, mapped)"]) || has(&["map_zeroed("]);
        // For blocks that the kernel holds in pieces (`heap_huge`), and C's of no bytes, which Rust does not ask for.
        is_left_out || has(&["release(to, new_size)"]) || file == "src/heap/hardened/zero.rs"
    } else {
        file.starts_with("src/heap/hardened/") || has(&["sys::purge(block, run.len())"])
    }
}

/// The lines of a folder of the source, and of those in it, that call the system, with the file as the compiler names it.
fn calls_of(folder: &str) -> Vec<(String, u32)> {
    // `reserve_aligned` is made of calls in `vm/sys.rs`, and `release(emptied)` is about slabs.
    const CALLS: [&str; 15] = [
        "sys::advise(",
        "sys::protect(",
        "sys::unmap(",
        "sys::commit(",
        "sys::purge(",
        "sys::reserve(",
        "sys::reserve_at(",
        "sys::map_zeroed(",
        "unsafe { release(start, mapped)",
        "platform::resize_range(",
        "platform::move_pages(",
        "platform::advise_huge_pages(",
        "hooks::spawn_detached(",
        "hooks::at_fork(",
        "ExitKey::new(",
    ];
    let mut calls = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            calls.extend(calls_of(path.to_str().unwrap()));
            continue;
        }
        for (number, line) in std::fs::read_to_string(&path).unwrap().lines().enumerate() {
            let line = line.trim_start();
            if CALLS.iter().any(|call| line.contains(call))
                || line.starts_with("release(") && !line.contains("release(slab)")
            {
                calls.push((path.to_str().unwrap().to_owned(), number as u32 + 1));
            }
        }
    }
    calls
}

fn line_of(file: &str, line: u32) -> String {
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().nth(line as usize - 1).unwrap().to_owned()
}
