//! What an arena offers, one thing at a time.

use std::alloc::Layout;
use std::cell::Cell;
use std::rc::Rc;

use allocator_api2::alloc::Allocator;
use arenite::arena::{Arena, ArenaErrorKind, ArenaOptions, Checkpoint, Owned, Scope};
use arenite::vm::{MapOptions, Sharing, page_size};

/// Counts its drops.
struct Counted(Rc<Cell<u32>>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

fn packed() -> Arena<1> {
    ArenaOptions::new().build_with_min_align().unwrap()
}

#[test]
fn values_of_every_alignment_stay_apart() {
    #[repr(align(512))]
    struct Wide(u8);
    let arena = packed();
    let bytes: Vec<&mut u8> = (0..100).map(|n| arena.alloc(n)).collect();
    let wide = arena.alloc(Wide(7));
    let words: Vec<&mut u64> = (0..100).map(|n| arena.alloc(n)).collect();
    assert!(std::ptr::from_ref(wide).addr().is_multiple_of(512));
    assert!(bytes.iter().enumerate().all(|(n, byte)| **byte == n as u8));
    assert!(words.iter().enumerate().all(|(n, word)| **word == n as u64));
    assert_eq!(wide.0, 7);
}

#[test]
fn slices_and_text_of_every_source() {
    let arena = Arena::new();
    assert_eq!(arena.alloc_slice_copy(&[1, 2, 3]), [1, 2, 3]);
    assert_eq!(arena.alloc_slice_clone(&["a".to_owned()]), ["a".to_owned()]);
    assert_eq!(arena.alloc_slice_fill(3, 'x'), ['x'; 3]);
    assert_eq!(arena.alloc_slice_default::<u32>(2), [0; 2]);
    assert_eq!(arena.alloc_slice_with(4, |n| n * n), [0, 1, 4, 9]);
    assert_eq!(arena.alloc_slice_exact([5, 6]), [5, 6]);
    assert_eq!(arena.alloc_slice_iter((0..1000).filter(|n| n % 3 == 0)).len(), 334);
    assert_eq!(arena.alloc_slice_uninit::<u64>(5).len(), 5);
    assert_eq!(arena.alloc_str("text"), "text");
    assert_eq!(arena.alloc_str(""), "");
    assert_eq!(arena.alloc_fmt(format_args!("{:>50}|{}", "right", 7)).len(), 52);
    assert_eq!(arena.alloc_c_str(c"c string"), c"c string");
    assert_eq!(arena.alloc_c_str_from("cut\0here"), c"cut");
    assert_eq!(arena.alloc_with(|| [7_u8; 4096])[4095], 7);
    assert_eq!(arena.alloc_try_with(|| "7".parse::<u32>()), Ok(&mut 7));
    assert!(arena.try_alloc_try_with(|| "x".parse::<u32>()).unwrap().is_err());
    let layout = Layout::from_size_align(100, 64).unwrap();
    assert!(arena.alloc_layout(layout).addr().get().is_multiple_of(64));
}

#[test]
fn an_iterator_that_lies_harms_nobody() {
    struct Liar(usize, u32);
    impl Iterator for Liar {
        type Item = u32;
        fn next(&mut self) -> Option<u32> {
            self.1 += 1;
            (self.1 <= 10).then_some(self.1)
        }
        fn size_hint(&self) -> (usize, Option<usize>) {
            (self.0, Some(self.0))
        }
    }
    impl ExactSizeIterator for Liar {}
    let arena = packed();
    assert_eq!(arena.alloc_slice_exact(Liar(4, 0)), [1, 2, 3, 4]);
    assert_eq!(arena.alloc_slice_exact(Liar(20, 0)).len(), 10);
    assert_eq!(arena.used(), 14 * 4, "what was promised and did not come is given back");
    let huge = arena.try_alloc_slice_exact(Liar(usize::MAX / 2, 0)).unwrap_err();
    assert_eq!(huge.kind(), ArenaErrorKind::LengthOverflow);
    assert_eq!(arena.alloc_slice_iter(Liar(usize::MAX, 0)).len(), 10);
}

#[test]
fn plain_references_never_drop_and_owners_do() {
    let drops = Rc::new(Cell::new(0));
    {
        let arena = Arena::new();
        arena.alloc(Counted(drops.clone()));
        let owned = arena.alloc_owned(Counted(drops.clone()));
        let moved = arena.alloc_owned(Counted(drops.clone()));
        let row = arena.alloc_owned_slice((0..5).map(|_| Counted(drops.clone())));
        let leaked = Owned::leak(arena.alloc_owned(Counted(drops.clone())));
        assert_eq!(leaked.0.get(), 0);
        drop((owned, row));
        assert_eq!(drops.get(), 6);
        drop(Owned::into_inner(moved));
        assert_eq!(drops.get(), 7);
    }
    assert_eq!(drops.get(), 7, "the arena itself drops nothing");
}

#[test]
fn scopes_nest_and_give_back() {
    let mut arena = Arena::new();
    arena.alloc(1_u64);
    let result = arena.scope(|outer| {
        let sum = outer.alloc(0_u64);
        for round in 0..100 {
            *sum += outer.scope(|inner| {
                let numbers = inner.alloc_slice_fill(1000, round);
                assert_eq!((inner.used(), inner.peak()), (8000, 8000));
                inner.scope(|innermost| innermost.alloc_slice_copy(numbers).len());
                assert_eq!((inner.used(), inner.peak()), (8000, 16000));
                numbers.iter().sum::<u64>()
            });
            assert_eq!(outer.used(), 8);
        }
        assert_eq!(outer.peak(), 16008);
        *sum
    });
    assert_eq!((result, arena.used(), arena.peak()), (4_950_000, 8, 16016));
}

#[test]
fn a_panic_rewinds_each_scope_that_it_leaves() {
    let mut arena = Arena::new();
    arena.alloc(1_u64);
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        arena.scope(|outer| {
            outer.alloc([0_u8; 100]);
            outer.scope(|inner| {
                inner.alloc([0_u8; 100]);
                panic!("on purpose");
            })
        })
    }));
    assert!(caught.is_err());
    assert_eq!(arena.used(), 8);
    arena.scope(|scope| assert_eq!(*scope.alloc(3), 3));
}

#[test]
fn forgotten_guards_and_cursors_hand_nothing_out_twice() {
    let mut arena = Arena::new();
    let mut all = arena.as_scope();
    let mut cursor = all.cursor();
    let from_cursor = cursor.alloc([1_u64; 8]);
    std::mem::forget(cursor);
    let next = all.alloc([2_u64; 8]);
    let mut guard = all.scope_guard();
    let in_guard = guard.scope().alloc([3_u64; 8]);
    assert_eq!(in_guard, &[3; 8]);
    std::mem::forget(guard);
    let last = all.alloc([4_u64; 8]);
    assert_eq!((*from_cursor, *next, *last), ([1; 8], [2; 8], [4; 8]));
}

#[test]
fn swapped_handles_swap_where_they_allocate_and_nothing_else() {
    let (mut a, mut b) = (Arena::new(), Arena::new());
    {
        let (mut in_a, mut in_b) = (a.as_scope(), b.as_scope());
        let (one, two) = (in_a.alloc(1_u64), in_b.alloc(2_u64));
        std::mem::swap(&mut in_a, &mut in_b);
        let three = in_a.alloc(3_u64);
        in_a.scope(|scope| scope.alloc([9_u64; 100])[0] = 1);
        let (mut cursor_a, mut cursor_b) = (in_a.cursor(), in_b.cursor());
        let four = cursor_a.alloc(4_u64);
        std::mem::swap(&mut cursor_a, &mut cursor_b);
        let five = cursor_a.alloc(5_u64);
        drop(cursor_a);
        let six = cursor_b.alloc(6_u64);
        drop(cursor_b);
        let seven = in_b.alloc(7_u64);
        assert_eq!([*one, *two, *three, *four, *five, *six, *seven], [1, 2, 3, 4, 5, 6, 7]);
    }
    assert_eq!((a.used(), b.used()), (24, 32));
}

#[test]
fn a_cursor_allocates_over_many_steps() {
    let mut arena = ArenaOptions::new().growth_step(page_size()).build().unwrap();
    let mut all = arena.as_scope();
    let before = all.alloc(1_u32);
    let mut cursor = all.cursor();
    let values: Vec<&mut u64> = (0..100_000).map(|n| cursor.alloc(n)).collect();
    let text = cursor.alloc_str("text");
    assert_eq!(cursor.try_alloc_slice_fill(3, 1).unwrap(), [1; 3]);
    drop(cursor);
    let after = all.alloc(2_u32);
    assert!(values.iter().enumerate().all(|(n, value)| **value == n as u64));
    assert_eq!((*before, *after, &*text), (1, 2, "text"));
    assert_eq!(all.used(), 8 + 800_000 + 8 + 16 + 8);
}

#[test]
fn checkpoints_come_back_and_strange_ones_are_refused() {
    let mut arena = Arena::new();
    arena.alloc(1);
    let checkpoint = arena.checkpoint();
    arena.alloc([0_u8; 5000]);
    let later = arena.checkpoint();
    arena.rewind(checkpoint);
    assert_eq!(arena.used(), 8);
    for strange in [later, Arena::new().checkpoint()] {
        let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| arena.rewind(strange)));
        assert!(refused.is_err());
    }
    let kept = arena.alloc(2);
    let mut guarded = Arena::new();
    let mut guard = guarded.scope_guard();
    guard.scope().alloc(1);
    guard.rewind();
    assert_eq!(guard.scope().used(), 0);
    assert_eq!(*kept, 2);
}

#[test]
fn the_last_block_grows_shrinks_and_goes_in_place() {
    let arena = Arena::new();
    let layout = |size| Layout::from_size_align(size, 8).unwrap();
    let block = (&arena).allocate(layout(100)).unwrap().cast::<u8>();
    // SAFETY: each call has the block with the layout of the call before.
    unsafe {
        for size in [200, 5000, 1 << 20, 300 << 20] {
            let old = arena.used().min(size);
            let grown =
                (&arena).grow(block, layout(if old == 104 { 100 } else { old }), layout(size)).unwrap();
            assert_eq!((grown.cast(), grown.len()), (block, size));
        }
        let shrunk = (&arena).shrink(block, layout(300 << 20), layout(16)).unwrap();
        assert_eq!((shrunk.cast(), arena.used()), (block, 16));
        let behind = (&arena).allocate(layout(8)).unwrap().cast::<u8>();
        let moved = (&arena).grow(block, layout(16), layout(32)).unwrap().cast::<u8>();
        assert_ne!(moved, block);
        (&arena).deallocate(moved, layout(32));
        (&arena).deallocate(behind, layout(8));
        (&arena).deallocate(block, layout(16));
        assert_eq!(arena.used(), 0);
    }
}

#[test]
fn zeroed_blocks_are_zero_where_something_was() {
    let mut arena = Arena::new();
    arena.alloc([0xff_u8; 5000]);
    arena.reset_keep_all();
    let layout = Layout::from_size_align(20_000, 16).unwrap();
    let block = (&arena).allocate_zeroed(layout).unwrap();
    // SAFETY: the block is initialised, and nobody writes to it.
    assert!(unsafe { block.as_ref() }.iter().all(|&byte| byte == 0));
}

#[test]
fn collections_of_allocator_api2() {
    use allocator_api2::{boxed::Box, vec::Vec};
    let mut arena = Arena::new();
    {
        let mut numbers = Vec::new_in(&arena);
        numbers.extend(0..10_000_u32);
        let boxed = Box::new_in(numbers, &arena);
        assert_eq!(boxed.iter().sum::<u32>(), 49_995_000);
    }
    arena.scope(|scope: &mut Scope<'_>| {
        let mut numbers = Vec::new_in(&*scope);
        for n in 0..1000_u32 {
            numbers.reserve_exact(1);
            numbers.push(n);
        }
        assert_eq!(scope.used(), 4000, "a vector that is the last block never moves");
        let leaked = numbers.leak();
        assert_eq!(leaked[999], 999);
    });
}

#[test]
fn limits_hold_and_the_arena_stays_usable() {
    let mut arena = ArenaOptions::new().limit(1000).build().unwrap();
    arena.alloc([0_u8; 900]);
    let error = arena.try_alloc([0_u8; 200]).unwrap_err();
    assert_eq!(error.kind(), ArenaErrorKind::LimitReached);
    assert_eq!((error.asked(), error.used(), error.bound()), (200, 904, 1000));
    assert_eq!(error.to_string(), "arena: 200 bytes do not fit: 904 of its limit of 1000 bytes are in use");
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| *arena.alloc([0_u8; 200])));
    assert!(panicked.unwrap_err().downcast_ref::<String>().unwrap().contains("limit of 1000 bytes"));
    assert_eq!(*arena.alloc(7_u64), 7);
    assert!(arena.try_alloc_slice_iter(0..1000_u64).is_err());
    assert!(arena.try_alloc_fmt(format_args!("{:500}", 1)).is_err());
    assert_eq!(arena.used(), 912, "what did not come to be left nothing behind");
    arena.set_limit(usize::MAX);
    arena.alloc([0_u8; 100_000]);
}

/// Would catch a limit that stays where the arena stood when it was set.
#[test]
fn a_limit_below_what_is_in_use_holds_from_the_next_reset_on() {
    let ways: [fn(&mut Arena, Checkpoint); 3] =
        [|arena, _| arena.reset(), |arena, _| arena.reset_keep_all(), |arena, start| arena.rewind(start)];
    for way in ways {
        let mut arena = Arena::new();
        let start = arena.checkpoint();
        arena.alloc([1_u8; 5000]);
        arena.set_limit(100);
        assert_eq!(arena.remaining(), 0, "what is in use stays, and no more comes");
        assert_eq!(arena.try_alloc(1_u8).unwrap_err().kind(), ArenaErrorKind::LimitReached);
        way(&mut arena, start);
        assert_eq!(arena.remaining(), 100);
        arena.alloc([2_u8; 96]);
        assert_eq!(arena.try_alloc(1_u64).unwrap_err().bound(), 100);
        arena.set_limit(usize::MAX);
        arena.alloc([3_u8; 5000]);
    }
}

/// Would catch padding that a mapping shows as it was, which is no byte at all to the language.
#[test]
fn a_mapping_is_bytes_again_when_its_arena_is_gone() {
    let arena: Arena = Arena::over(MapOptions::new(1 << 16).map_anonymous().unwrap()).unwrap();
    arena.alloc((1_u8, 2_u64));
    arena.alloc_slice_uninit::<u64>(100);
    let mapping = arena.into_mapping().unwrap();
    let sum: u64 = mapping.as_slice().unwrap().iter().map(|&byte| u64::from(byte)).sum();
    assert!(sum >= 3);
}

#[test]
fn a_full_range_says_that_it_cannot_grow() {
    let arena = ArenaOptions::new().reservation(1 << 20).build().unwrap();
    let reserved = arena.reserved();
    assert!((1 << 19..=1 << 20).contains(&reserved));
    let error = arena.try_alloc_slice_fill(reserved + 1, 0_u8).unwrap_err();
    assert_eq!(error.kind(), ArenaErrorKind::RangeFull);
    assert!(error.to_string().contains("cannot grow in place"), "{error}");
    arena.alloc_slice_fill(reserved - 8, 1_u8);
    assert_eq!(arena.remaining(), 8);
    arena.alloc(1_u64);
    assert!(arena.try_alloc(1_u64).is_err() && arena.try_alloc(()).is_ok());
    assert!(arena.try_alloc_slice_uninit::<u64>(0).is_ok());
}

#[test]
fn lengths_that_overflow_are_errors() {
    let arena = Arena::new();
    for len in [usize::MAX, usize::MAX / 8 + 1, isize::MAX as usize / 8 + 1] {
        assert_eq!(
            arena.try_alloc_slice_uninit::<u64>(len).unwrap_err().kind(),
            ArenaErrorKind::LengthOverflow
        );
        assert_eq!(
            arena.try_alloc_slice_fill(len, 0_u64).unwrap_err().kind(),
            ArenaErrorKind::LengthOverflow
        );
    }
    let largest = isize::MAX as usize / 8;
    assert_eq!(arena.try_alloc_slice_uninit::<u64>(largest).unwrap_err().kind(), ArenaErrorKind::RangeFull);
    assert_eq!(arena.used(), 0);
}

#[test]
fn reset_keeps_a_prefix_and_returns_the_tail() {
    let mut arena = Arena::new();
    let spike = 64 << 20;
    arena.alloc_slice_fill(spike, 1_u8);
    assert!(arena.committed() >= spike && arena.peak() >= spike);
    arena.reset();
    assert!(arena.committed() <= (1 << 20) + page_size(), "{arena:?}");
    assert_eq!((arena.used(), arena.peak()), (0, 0));
    arena.alloc_slice_fill(spike, 1_u8);
    arena.reset_keep_all();
    assert!(arena.committed() >= spike);
    arena.alloc([0_u8; 100]);
    arena.trim();
    assert!(arena.committed() < 2 * page_size());
    assert_eq!(arena.alloc_slice_fill(spike, 3_u8)[spike - 1], 3);
}

#[test]
fn an_arena_moves_with_its_values_behind_it() {
    let mut arena = Arena::new();
    let offset = {
        let value = arena.alloc(77_u64);
        arena.offset_of(value).unwrap()
    };
    let moved = Box::new(arena);
    arena = *moved;
    assert_eq!((arena.used(), offset), (8, 0));
    let (there, here) = std::thread::spawn(move || (*arena.alloc(1_u64), arena)).join().unwrap();
    assert_eq!((there, here.used()), (1, 16));
}

#[test]
fn arenas_over_mappings() {
    let arena: Arena = Arena::over(MapOptions::new(10_000).map_anonymous().unwrap()).unwrap();
    assert_eq!((arena.reserved(), arena.remaining()), (10_000, 10_000));
    arena.alloc_slice_fill(9_992, 1_u8);
    assert_eq!(arena.try_alloc([0_u64; 2]).unwrap_err().kind(), ArenaErrorKind::RangeFull);
    let mapping = arena.into_mapping().unwrap();
    assert_eq!(mapping.len(), 10_000);
    let shared = MapOptions::new(10_000).sharing(Sharing::Shared).map_anonymous().unwrap();
    assert!(Arena::<8>::over(shared).is_err());
    assert!(Arena::new().into_mapping().is_err());
}

#[cfg(all(target_os = "linux", not(arenite_portable)))]
#[test]
fn a_memfd_shows_its_values_to_others() {
    use arenite::vm::Memfd;
    use std::sync::atomic::{AtomicU64, Ordering};
    let memfd = Memfd::new(c"arena", 1 << 16).unwrap();
    let map = || MapOptions::whole_file(&memfd).unwrap().sharing(Sharing::Shared).map_file(&memfd).unwrap();
    let other = map();
    // SAFETY: the other mapping only reads, and writes to the atomic.
    let arena: Arena = unsafe { Arena::over_shared(map()) };
    let text = arena.offset_of(arena.alloc_str("seen")).unwrap();
    let count = arena.alloc(AtomicU64::new(1));
    let count_at = arena.offset_of(count).unwrap();
    // SAFETY: both lie in the mapping, and the text is not written any more.
    unsafe {
        assert_eq!(std::slice::from_raw_parts(other.as_ptr().add(text), 4), b"seen");
        (*other.as_ptr().add(count_at).cast::<AtomicU64>()).fetch_add(1, Ordering::Relaxed);
    }
    assert_eq!(count.load(Ordering::Relaxed), 2);
}

#[test]
fn numbers_say_what_is_there() {
    let mut arena = Arena::with_capacity(3 << 20);
    assert!(arena.committed() >= 3 << 20);
    let value = arena.alloc(5_u32);
    let stack = 5_u32;
    let ptr = std::ptr::from_ref(value);
    assert!(arena.contains(ptr) && !arena.contains(&raw const stack));
    assert_eq!(arena.offset_of(&raw const stack), None);
    arena.scope(|scope| assert!(!scope.contains(ptr)));
    assert!(format!("{arena:?}").contains("used: 8"));
}

#[test]
#[cfg(debug_assertions)]
fn debug_builds_fill_what_was_rewound() {
    let mut arena = Arena::new();
    let address = std::ptr::from_ref(arena.alloc([1_u8; 64])).cast::<u8>();
    let checkpoint = arena.checkpoint();
    let behind = std::ptr::from_ref(arena.alloc([2_u8; 64])).cast::<u8>();
    arena.rewind(checkpoint);
    // SAFETY: committed memory of an arena that is alive and that nobody writes to now.
    unsafe {
        assert_eq!(address.read(), 1);
        assert!((0..64).all(|n| behind.add(n).read() == 0xa5));
    }
}
