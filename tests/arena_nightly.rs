//! The standard library's own collections in an arena, by nightly's `Allocator`.
#![feature(allocator_api, btreemap_alloc)]

use arenite::Arena;

#[test]
fn vectors_and_boxes_live_in_arenas_and_scopes() {
    let mut arena = Arena::new();
    {
        let mut numbers = Vec::new_in(&arena);
        for n in 0..1000_u64 {
            numbers.reserve_exact(1);
            numbers.push(n);
        }
        assert_eq!(arena.used(), 8000);
        let boxed: Box<dyn Fn() -> usize, _> = Box::new_in(move || numbers.len(), &arena);
        assert_eq!(boxed(), 1000);
    }
    arena.scope(|scope| {
        let mut map = std::collections::BTreeMap::new_in(&*scope);
        map.extend((0..1000).map(|n| (n, n)));
        assert_eq!(map[&7], 7);
    });
}
