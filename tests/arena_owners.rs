//! Arenas that something else owns: roots, frozen trees, pools of threads, warm reservations.

use std::cell::Cell;
use std::rc::Rc;

use arenite::Arena;
use arenite::arena::{ArenaPool, Frozen, Handle, Offset, Root, Rooted, SliceOffset};
use static_assertions::{assert_impl_all, assert_not_impl_any};

struct Tree<'id> {
    value: u64,
    children: SliceOffset<'id, Tree<'id>>,
}

struct TreeRoot;

impl Root for TreeRoot {
    type In<'a> = Offset<'a, Tree<'a>>;
}

assert_impl_all!(Rooted<TreeRoot>: Send);
assert_not_impl_any!(Rooted<TreeRoot>: Sync);
assert_impl_all!(Frozen<TreeRoot>: Send, Sync);
assert_impl_all!(ArenaPool: Send, Sync);
assert_not_impl_any!(Handle<'static>: Send, Sync);

fn grow<'id>(arena: Handle<'id>, depth: u64) -> Tree<'id> {
    let children = if depth == 0 { 0 } else { 3 };
    let children = arena.alloc_slice_with(children, |_| grow(arena, depth - 1));
    Tree { value: depth, children: arena.slice_offset(children) }
}

fn planted() -> Rooted<TreeRoot> {
    Rooted::new(Arena::new(), |arena| arena.offset(arena.alloc(grow(arena, 6))))
}

#[test]
fn a_tree_moves_and_is_read_by_threads() {
    let mut rooted = planted();
    let moved = std::thread::spawn(move || {
        rooted.with_mut(|arena, root| {
            let children = arena.get(*root).children;
            *root = arena.offset(arena.alloc(Tree { value: 100, children }));
        });
        rooted
    });
    let frozen = moved.join().unwrap().into_frozen();
    let sum = || {
        frozen.with(|view, root| {
            let (mut sum, mut rest) = (0, vec![view.get(*root)]);
            while let Some(tree) = rest.pop() {
                sum += tree.value;
                rest.extend(view.slice(tree.children));
            }
            sum
        })
    };
    let expected: u64 = 100 + (0..6).map(|depth| 3_u64.pow(6 - depth as u32) * depth).sum::<u64>();
    std::thread::scope(|threads| {
        let sums: Vec<_> = (0..4).map(|_| threads.spawn(sum)).collect();
        assert!(sums.into_iter().all(|sum| sum.join().unwrap() == expected));
    });
    assert!(frozen.used() > 1000 * 16);
    assert_eq!(frozen.into_rooted().into_arena().used(), 0);
}

#[test]
fn a_root_is_dropped_once_and_before_its_arena() {
    struct Noisy<'a>(&'a Cell<u32>, Rc<Cell<u32>>);
    impl Drop for Noisy<'_> {
        fn drop(&mut self) {
            self.1.set(self.1.get() + self.0.get());
        }
    }
    struct NoisyRoot;
    impl Root for NoisyRoot {
        type In<'a> = Noisy<'a>;
    }
    let drops = Rc::new(Cell::new(0));
    let make = || {
        let drops = drops.clone();
        Rooted::<NoisyRoot>::new(Arena::new(), |arena| Noisy(arena.alloc(Cell::new(7)), drops))
    };
    drop(make());
    assert_eq!(drops.get(), 7);
    _ = make().into_arena();
    drop(make().into_frozen());
    assert_eq!(drops.get(), 21);
    let failed = Rooted::<NoisyRoot>::try_new(Arena::new(), |_| Err("no root"));
    assert_eq!(failed.unwrap_err(), "no root");
    assert_eq!(drops.get(), 21);
}

#[test]
fn collections_with_their_allocator_live_in_a_root() {
    struct Numbers;
    impl Root for Numbers {
        type In<'a> = allocator_api2::vec::Vec<u64, &'a Arena>;
    }
    let mut rooted: Rooted<Numbers> =
        Rooted::new(Arena::new(), |arena| allocator_api2::vec::Vec::new_in(arena.arena()));
    let mut moved = Box::new(rooted);
    moved.with_mut(|_, numbers| numbers.extend(0..10_000));
    rooted = *moved;
    rooted.with(|_, numbers| assert_eq!(numbers.iter().sum::<u64>(), 49_995_000));
}

#[test]
fn offsets_are_only_of_what_lies_in_their_arena() {
    Arena::new().with_handle(|arena| {
        static OUTSIDE: u64 = 7;
        assert!(arena.try_offset(&OUTSIDE).is_none());
        let first = arena.offset(arena.alloc(1_u8));
        let unit = arena.offset(arena.alloc(()));
        assert_eq!((*arena.get(first), *arena.get(unit)), (1, ()));
        let none: SliceOffset<'_, u64> = arena.slice_offset(&[]);
        assert!(arena.slice(none).is_empty());
        assert_eq!(arena.slice(arena.slice_offset(arena.alloc_slice_copy(&[(); 3]))).len(), 3);
        let values = arena.alloc_slice_with(1000, |n| n as u64);
        let offsets: Vec<_> = values.iter().map(|value| arena.offset(value)).collect();
        assert!(offsets.iter().enumerate().all(|(n, offset)| *arena.get(*offset) == n as u64));
        assert!(offsets.is_sorted() && offsets[0] != offsets[1]);
    });
}

#[test]
fn threads_take_turns_with_a_pools_arenas() {
    let mut pool = ArenaPool::new();
    for _ in 0..3 {
        let mut values: Vec<&mut [u64; 8]> = std::thread::scope(|threads| {
            let pool = &pool;
            let made: Vec<_> = (0..8_u64)
                .map(|thread| {
                    threads.spawn(move || {
                        let make = |n: u64| {
                            let mut guard = pool.get();
                            guard.scope(|scope| assert_eq!(scope.alloc([n; 100])[99], n));
                            guard.alloc([thread * 1000 + n; 8])
                        };
                        (0..1000_u64).map(make).collect::<Vec<_>>()
                    })
                })
                .collect();
            made.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert!(values.iter_mut().enumerate().all(|(n, value)| **value == [n as u64; 8]));
        assert_eq!(pool.used(), 8000 * 64);
        pool.reset();
        assert_eq!(pool.used(), 0);
    }
}

#[test]
fn finished_reservations_wait_warm_and_bounded() {
    arenite::arena::release_warm();
    let first = Arena::new();
    let address = std::ptr::from_ref(first.alloc(1)).addr();
    drop(first);
    let second = Arena::new();
    assert_eq!(std::ptr::from_ref(second.alloc(2)).addr(), address, "a new arena takes the warm range");
    drop(second);
    let many: Vec<Arena> = (0..100).map(|_| Arena::new()).collect();
    drop(many);
    let kept = arenite::arena::release_warm();
    assert!(kept <= 17, "{kept} reservations wait");
    let spike = Arena::new();
    spike.alloc_slice_fill(64 << 20, 1_u8);
    drop(spike);
    assert!(Arena::new().committed() <= 2 << 20, "a warm reservation keeps its prefix only");
}
