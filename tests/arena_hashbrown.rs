//! hashbrown's maps, which are on allocator-api2 0.2, in an arena and in a scope.

use arenite::Arena;
use hashbrown::{HashMap, HashSet};

#[test]
fn maps_and_sets_live_in_arenas_and_scopes() {
    let mut arena = Arena::new();
    {
        let mut squares = HashMap::new_in(&arena);
        squares.extend((0..10_000_u64).map(|n| (n, n * n)));
        assert_eq!(squares[&99], 9801);
        assert!(arena.used() > 160_000);
    }
    arena.scope(|scope| {
        let mut words: HashMap<&str, usize, _, _> = HashMap::new_in(&*scope);
        for word in "one two one".split(' ') {
            *words.entry(scope.alloc_str(word)).or_default() += 1;
        }
        assert_eq!(words["one"], 2);
        let mut seen = HashSet::new_in(&*scope);
        assert!(seen.insert(1) && !seen.insert(1));
    });
}

#[test]
fn the_older_traits_vector_grows_in_place() {
    use allocator_api2_02::vec::Vec;
    let arena = Arena::new();
    let mut numbers = Vec::new_in(&arena);
    for n in 0..1000_u64 {
        numbers.reserve_exact(1);
        numbers.push(n);
    }
    assert_eq!((numbers.len(), arena.used()), (1000, 8000));
    drop(numbers);
    assert_eq!(arena.used(), 0);
}
