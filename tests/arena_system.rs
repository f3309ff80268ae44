//! Arenas against the system: limits on address space, guard pages, system calls, memory that goes back.
#![cfg(all(target_os = "linux", not(arenite_portable)))]

mod common;

use arenite::arena::{Arena, ArenaErrorKind, ArenaOptions};
use arenite::vm::page_size;
use common::*;

fn limit_address_space(bytes: u64) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: plain numbers; the process is the test's own.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }, 0);
}

#[test]
fn under_a_limit_on_address_space_the_range_falls_back() {
    alone("under_a_limit_on_address_space_the_range_falls_back", || {
        limit_address_space(4 << 30);
        let arena = Arena::new();
        assert!((64 << 20..=1 << 30).contains(&arena.reserved()), "{arena:?}");
        let error = arena.try_alloc_slice_uninit::<u8>(2 << 30).unwrap_err();
        assert_eq!((error.kind(), error.bound()), (ArenaErrorKind::RangeFull, arena.reserved()));
        assert!(error.to_string().contains("cannot grow in place any more"));
        assert_eq!(arena.alloc_slice_fill(8 << 20, 7_u8)[1 << 20], 7);
        let many: Vec<Arena> = (0..8).map_while(|_| ArenaOptions::new().build().ok()).collect();
        assert!(many.iter().all(|arena| *arena.alloc(1) == 1) && many.len() == 8);
    });
}

#[test]
fn ten_thousand_arenas_fit() {
    alone("ten_thousand_arenas_fit", || {
        let arenas: Vec<Arena> = (0..10_000).map(|_| Arena::new()).collect();
        assert!(arenas.iter().all(|arena| *arena.alloc(1) == 1 && arena.reserved() >= 1 << 30));
    });
}

#[test]
fn a_guard_page_ends_the_range() {
    let options = ArenaOptions::new().reservation(1 << 20).guard_page(true);
    let arena: Arena = options.build().unwrap();
    let range = arena.alloc_slice_fill(arena.reserved(), 1_u8);
    let end = range.as_mut_ptr_range().end;
    assert!(end.addr().is_multiple_of(page_size()) && writes(end.wrapping_sub(1)));
    assert!(!writes(end) && !reads(end.wrapping_add(page_size() - 1)));
    assert!(all_mapped(end.addr(), page_size()), "the guard is the arena's own page");
}

/// Would catch a call on the way from one arena to the next: the kernel ends the process at the first.
#[test]
fn a_warm_arena_costs_no_system_call() {
    alone("a_warm_arena_costs_no_system_call", || {
        let request = |n: u64| {
            let arena = Arena::new();
            (0..20).for_each(|_| assert_eq!(*arena.alloc([n; 5]), [n; 5]));
        };
        request(0);
        // SAFETY: from here on the kernel kills the process for any call but read, write and exit.
        let end = in_fork(|| unsafe {
            if libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_STRICT) != 0 {
                libc::_exit(77);
            }
            (1..1000).for_each(request);
            // `_exit` is `exit_group`, which the mode forbids.
            libc::syscall(libc::SYS_exit, 0);
            true
        });
        assert!(matches!(end, End::Exit(0 | 77)), "{end:?}");
        if end == End::Exit(77) {
            eprintln!("SKIPPED: this kernel has no strict seccomp");
        }
    });
}

#[test]
fn a_spike_goes_back_to_the_system() {
    alone("a_spike_goes_back_to_the_system", || {
        let resident = || {
            let text = std::fs::read_to_string("/proc/self/statm").unwrap();
            text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * page_size()
        };
        let mut arena = Arena::new();
        let before = resident();
        arena.alloc_slice_fill(256 << 20, 1_u8);
        assert!(resident() >= before + (256 << 20));
        arena.reset();
        assert!(resident() <= before + (3 << 20), "{} bytes stay", resident() - before);
        arena.alloc_slice_fill(64 << 20, 1_u8);
        drop(arena);
        assert!(resident() <= before + (3 << 20), "{} bytes wait warm", resident() - before);
    });
}

/// Would catch steps that fill in far more than is used.
#[test]
fn memory_stays_in_proportion_to_what_is_used() {
    alone("memory_stays_in_proportion_to_what_is_used", || {
        let resident = || {
            let text = std::fs::read_to_string("/proc/self/statm").unwrap();
            text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * page_size()
        };
        let before = resident();
        let arena = Arena::new();
        for _ in 0..400 {
            for _ in 0..1 << 14 {
                arena.alloc([7_u64; 4]);
            }
            let (used, more) = (arena.used(), resident() - before);
            assert!(more <= used + used / 50 + (3 << 20), "{more} bytes are resident for {used}");
        }
        // A large block that is not touched takes nothing.
        let used = arena.used();
        arena.alloc_slice_uninit::<u8>(1 << 30);
        assert!(resident() - before <= used + used / 50 + (8 << 20));
    });
}
