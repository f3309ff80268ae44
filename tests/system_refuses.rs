//! The kernel itself refuses: calls by a seccomp filter, memory by `RLIMIT_DATA`, mappings by `vm.max_map_count`. Each in
//! a process of its own. What [`faults`](../faults/main.rs) injects stands here for real: null or an error, contents as
//! they were, and everything works again where the refusal ends.
#![cfg(all(target_os = "linux", not(arenite_portable)))]

mod support;

use std::process::Command;
use std::ptr;

use arenite::arena::{Arena, ArenaOptions, release_warm};
use arenite::vm::{MapOptions, Mapping};
use support::process::{alone, in_child, set_limit};
use support::program::{Op, Program, World, random_op};
use support::{Block, HARDENED, KIB, MIB, Random, layout};

/// From now on the kernel answers `call` with `errno`, for this process and for good.
fn refuse(call: libc::c_long, errno: i32) {
    let instruction = |code: u32, yes: u8, no: u8, k: u32| libc::sock_filter {
        code: u16::try_from(code).unwrap(),
        jt: yes,
        jf: no,
        k,
    };
    let mut filter = [
        // The number of the call is the first word of what a filter sees.
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, call as u32),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    // SAFETY: the kernel copies the program.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let set = libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program);
        assert_eq!(set, 0, "seccomp: {}", std::io::Error::last_os_error());
    }
}

/// Ops of all kinds, refusals allowed; says how many there were.
fn run_ops(seed: u64, ops: usize) -> usize {
    let world = World::default();
    let mut program = Program::new(&world, seed);
    program.allow_refusals(true);
    let mut random = Random::new(seed);
    for _ in 0..ops {
        program.run(random_op(&mut random));
    }
    for size in [9 * MIB, 40 * MIB, 20 * MIB, 70 * MIB] {
        program.run(Op::Alloc { slot: 0, size: 9 * MIB, align: 8, zeroed: true });
        program.run(Op::Realloc { slot: 0, size });
    }
    program.check();
    let refused = program.refused();
    program.finish();
    world.finish();
    refused
}

/// Fills arenas and resets them; says how many refused to be made or to grow.
fn run_arenas(bytes: usize) -> usize {
    let mut refused = 0;
    for options in [ArenaOptions::new(), ArenaOptions::new().growth_step(4 * KIB).guard_page(true)] {
        let Ok(mut arena) = options.build() else {
            refused += 1;
            continue;
        };
        for round in 0..3_u64 {
            let mut values = Vec::new();
            while arena.used() < bytes {
                match arena.try_alloc_slice_fill(1000, round) {
                    Ok(words) => values.push(words.as_ptr_range()),
                    Err(_) => {
                        refused += 1;
                        break;
                    }
                }
            }
            for range in values {
                // SAFETY: the words are in the arena, which was not reset since.
                assert!((0..1000).all(|i| unsafe { *range.start.add(i) } == round));
            }
            arena.reset();
            arena.trim();
        }
    }
    refused
}

/// Would catch a purge whose refusal is taken for done: memory would be handed out as zero that is not; and a purger
/// that does not end.
#[test]
fn madvise_is_refused() {
    for errno in [libc::EPERM, libc::ENOSYS, libc::ENOMEM, libc::EINVAL] {
        alone("madvise_is_refused", || {
            let mut before = Block::alloc(layout(MIB, 8)).unwrap();
            before.fill(1);
            refuse(libc::SYS_madvise, errno);
            assert_eq!(run_ops(1, 400) + run_arenas(8 * MIB), 0, "nothing needs madvise");
            before.free();
            arenite::trim();
            let stats = arenite::stats();
            assert_eq!((stats.in_caches, stats.in_depot), (0, 0), "{stats}");
            // Hardened, guards that were made by advice go by advice: their runs wait for it, and count.
            assert!(HARDENED || stats.in_use == 0, "{stats}");
        });
    }
}

/// Would catch growth that is lost with its block, or that is refused though copying would do.
#[test]
fn mremap_is_refused() {
    for errno in [libc::EPERM, libc::ENOMEM, libc::EAGAIN, libc::EFAULT] {
        alone("mremap_is_refused", || {
            refuse(libc::SYS_mremap, errno);
            assert_eq!(run_ops(2, 300), 0, "blocks can be copied");
            arenite::trim();
            let stats = arenite::stats();
            assert_eq!((stats.in_use, stats.huge_blocks, stats.in_depot), (0, 0, 0), "{stats}");
            assert!(stats.reserved < 3 << 30, "addresses are lost:\n{stats}");
            assert!(MapOptions::new(5000).map_anonymous().unwrap().grow(1 << 20).is_err());
        });
    }
}

/// A sandbox that refuses that too by which the heap asks what became of a place that pages were not moved to. Would catch
/// addresses that are lost time and again.
#[test]
fn mremap_and_questions_are_refused() {
    alone("mremap_and_questions_are_refused", || {
        refuse(libc::SYS_mremap, libc::EPERM);
        refuse(libc::SYS_process_vm_readv, libc::EPERM);
        let before = status("VmSize:");
        for n in 0..100 {
            let mut block = Block::alloc(layout(10 * MIB, 8)).unwrap();
            block.fill(n);
            // Beyond the room to grow.
            block.realloc(60 * MIB).unwrap().free();
        }
        arenite::trim();
        let more = status("VmSize:") - before;
        assert!(more < 400 * MIB, "{} MiB more", more / MIB);
    });
}

/// Bytes by a line of what the kernel says of this process.
fn status(name: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * KIB
}

/// Nothing can be committed any more. Would catch a crash on the way to null, and committed memory that is not used.
#[test]
fn mprotect_is_refused() {
    const NAME: &str = "mprotect_is_refused";
    for starts_before in [true, false] {
        // The C library's further heaps grow by this call.
        let set_up = |command: &mut Command| _ = command.env("MALLOC_ARENA_MAX", "1");
        let output = in_child(NAME, set_up, || {
            let mut early = starts_before.then(|| Block::alloc(layout(100, 8)).unwrap());
            early.iter_mut().for_each(|block| block.fill(3));
            let arena = starts_before.then(Arena::new);
            refuse(libc::SYS_mprotect, libc::ENOMEM);
            let refused = run_ops(3, 300);
            assert!(refused > 0, "nothing was refused");
            if let Some(early) = early {
                early.free();
                let arena = arena.unwrap();
                assert_eq!(*arena.alloc([5_u64; 20]), [5; 20]);
                assert!(arena.try_alloc_slice_uninit::<u8>(100 * MIB).is_err());
            } else {
                assert!(Block::alloc(layout(100, 8)).is_none());
                assert!(ArenaOptions::new().build().is_err());
            }
            arenite::trim();
            let stats = arenite::stats();
            assert_eq!((stats.in_use, stats.huge_blocks), (0, 0), "{stats}");
        });
        output.assert_success();
    }
}

/// A limit on private memory, as containers without cgroups have it. Would catch mappings with room to grow that are
/// charged in full, and memory that is not found again when the limit goes.
#[test]
fn under_a_limit_on_data() {
    const NAME: &str = "under_a_limit_on_data";
    in_child(
        NAME,
        |_| {},
        || {
            let mut kept = Block::alloc(layout(5 * MIB, 8)).unwrap();
            kept.fill(4);
            set_limit(libc::RLIMIT_DATA, status("VmData:") + 128 * MIB).unwrap();
            for size in [1000, 20 * KIB, 700 * KIB, 30 * MIB] {
                let mut random = Random::new(size as u64);
                let mut blocks = Vec::with_capacity(1 << 18);
                while let Some(mut block) = Block::alloc(layout(random.between(size / 2, size), 8)) {
                    block.fill(blocks.len() as u64);
                    blocks.push(block);
                    assert!(blocks.len() < 1 << 18, "nothing was refused");
                }
                let sum: usize = blocks.iter().map(Block::size).sum();
                assert!(sum >= 50 * MIB, "{} MiB of at most {size} bytes", sum / MIB);
                let last = blocks.pop().unwrap().realloc(600 * MIB).expect_err("beyond the limit");
                last.free();
                blocks.into_iter().for_each(Block::free);
                arenite::trim();
            }
            assert!(run_arenas(600 * MIB) > 0, "no arena was refused");
            release_warm();
            kept.check();
            set_limit(libc::RLIMIT_DATA, libc::RLIM_INFINITY as usize).unwrap();
            Block::alloc(layout(600 * MIB, 8)).unwrap().free();
            assert_eq!(run_arenas(200 * MIB), 0);
            kept.free();
            assert_eq!(run_ops(5, 200), 0);
        },
    )
    .assert_success();
}

/// Would catch a block that does not grow because of what is kept: the limit is met when what it grows by is committed.
#[test]
#[cfg_attr(feature = "hardened", ignore = "a hardened block has two mappings while it grows")]
fn growth_under_a_limit_on_data() {
    alone("growth_under_a_limit_on_data", || {
        Block::alloc(layout(8, 8)).unwrap().free();
        set_limit(libc::RLIMIT_DATA, status("VmData:") + 128 * MIB).unwrap();
        let [mut block, freed] = [60 * MIB, 40 * MIB].map(|size| Block::alloc(layout(size, 8)).unwrap());
        block.fill(6);
        freed.free();
        block.realloc(110 * MIB).expect("50 of 68 MiB").free();
    });
}

/// The process has as many mappings as it may. Would catch arenas and mappings that break then, and addresses that are
/// never unmapped because that was refused once.
#[test]
fn arenas_and_mappings_with_no_mapping_left() {
    alone("arenas_and_mappings_with_no_mapping_left", || {
        let limit: usize =
            std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap().trim().parse().unwrap();
        if limit > 200_000 {
            println!("SKIPPED: {limit} mappings are too many to fill");
            return;
        }
        let page = arenite::vm::page_size();
        let addresses = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
            line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * KIB
        };
        run_arenas(MIB);
        release_warm();
        let before = addresses();
        // One mapping to the kernel, of which parts can be dropped only by splitting it.
        let mut mappings: Vec<Mapping> = vec![MapOptions::new(100 * page).map_anonymous().unwrap()];
        for _ in 0..49 {
            let last = mappings.last_mut().unwrap();
            let rest = last.split_off(2 * page).unwrap();
            mappings.push(rest);
        }
        let len = 2 * limit * page;
        // SAFETY: a new mapping; its odd pages get another protection, so that each page is a mapping.
        let filler = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
            let filler = libc::mmap(ptr::null_mut(), len, libc::PROT_NONE, flags, -1, 0);
            assert_ne!(filler, libc::MAP_FAILED);
            let mut at = filler.cast::<u8>();
            while libc::mprotect(at.cast(), page, libc::PROT_READ) == 0 {
                at = at.add(2 * page);
            }
            filler
        };
        assert!(ArenaOptions::new().build().is_err() || run_arenas(8 * MIB) > 0, "there was a mapping left");
        // Every other one: each is in the middle of one that the kernel cannot split.
        let mut kept = Vec::new();
        for (i, mapping) in mappings.into_iter().enumerate() {
            if i % 2 == 0 {
                kept.push(mapping);
            }
        }
        // SAFETY: the mapping is this test's.
        unsafe { libc::munmap(filler, len) };
        drop(kept);
        assert_eq!(run_arenas(8 * MIB), 0);
        release_warm();
        arenite::trim();
        let after = addresses();
        assert!(after <= before + MIB, "{} KiB of addresses are lost", (after - before) / KIB);
    });
}
