//! The part of the program that needs the arena itself: what is known by offsets, owned together with its root, taken
//! from a pool, lies in a mapping.

use arenite::arena::{Arena, ArenaPool, Frozen, Handle, Offset, Root, Rooted, SliceOffset};
use arenite::vm::MapOptions;

use super::{LIMIT, OfArena, Shadow, options};

/// A list by offsets, with a text by length at each node.
struct Node<'id> {
    before: Option<Offset<'id, Node<'id>>>,
    text: SliceOffset<'id, u8>,
    number: u32,
}

/// The end of the list, and how long it is.
struct List;

impl Root for List {
    type In<'a> = (Option<Offset<'a, Node<'a>>>, u32);
}

/// Runs the call; the arena, or one in its place.
pub(crate) fn run<const MIN: usize>(mut arena: Arena<MIN>, call: &OfArena) -> Arena<MIN> {
    match *call {
        OfArena::Reset { keep_all } => {
            if keep_all {
                arena.reset_keep_all();
            } else {
                arena.reset();
            }
            assert_eq!((arena.used(), arena.peak()), (0, 0));
        }
        OfArena::Trim => {
            let (used, committed) = (arena.used(), arena.committed());
            arena.trim();
            assert!(arena.used() == used && (used..=committed).contains(&arena.committed()));
        }
        OfArena::Limit(bytes) => {
            let bytes = bytes as usize % LIMIT;
            arena.set_limit(bytes);
            assert_eq!(arena.remaining(), bytes.saturating_sub(arena.used()));
            arena.reset();
            assert_eq!(arena.remaining(), bytes);
            assert!(arena.try_alloc_slice_fill(bytes + 1, 0_u8).is_err());
            assert!(bytes < 8 || arena.try_alloc_slice_fill(bytes - 8, 0_u8).is_ok());
            arena.set_limit(LIMIT);
        }
        OfArena::Offsets(len) => arena.with_handle(|handle| {
            let list = extend(handle, (None, 0), len);
            check(list, |node| handle.get(node), |text| handle.slice(text));
            assert!(handle.try_offset(&0_u64).is_none(), "what is elsewhere has no offset here");
        }),
        OfArena::Rooted { len, more, freeze } => return rooted(arena, len, more, freeze),
        OfArena::Pool { guards, len } => pool::<MIN>(guards, len),
        OfArena::Mapped(len) => mapped::<MIN>(len),
    }
    arena
}

/// The list with up to `len` nodes more, as far as there is room.
fn extend<'id, const MIN: usize>(
    handle: Handle<'id, MIN>,
    list: <List as Root>::In<'id>,
    len: u16,
) -> <List as Root>::In<'id> {
    let (mut last, mut count) = list;
    for _ in 0..len % 3000 {
        let Ok(text) = handle.try_alloc_fmt(format_args!("{count}")) else { break };
        let text = handle.slice_offset(text.as_bytes());
        let Ok(node) = handle.try_alloc(Node { before: last, text, number: count }) else { break };
        last = handle.try_offset(node);
        assert!(last.is_some());
        count += 1;
    }
    (last, count)
}

/// Reads the list from its end.
fn check<'id>(
    (mut last, mut count): <List as Root>::In<'id>,
    node: impl Fn(Offset<'id, Node<'id>>) -> &'id Node<'id>,
    text: impl Fn(SliceOffset<'id, u8>) -> &'id [u8],
) {
    while let Some(offset) = last {
        let node = node(offset);
        count -= 1;
        assert_eq!((node.number, text(node.text)), (count, count.to_string().as_bytes()));
        last = node.before;
    }
    assert_eq!(count, 0);
}

/// An arena with a list for its root: built, moved, extended, frozen, read by two threads.
fn rooted<const MIN: usize>(mut arena: Arena<MIN>, len: u16, more: u16, freeze: bool) -> Arena<MIN> {
    // So that there is room for the root itself.
    arena.reset();
    let rooted: Rooted<List, MIN> = Rooted::new(arena, |handle| extend(handle, (None, 0), len));
    let mut moved = Box::new(rooted);
    moved.with_mut(|handle, list| *list = extend(handle, *list, more));
    let mut rooted = *moved;
    if freeze {
        let frozen: Frozen<List, MIN> = rooted.into_frozen();
        let read = || {
            frozen.with(|view, list| check(*list, |node| view.get(node), |text| view.slice(text)));
        };
        std::thread::scope(|threads| {
            threads.spawn(read);
            read();
        });
        rooted = frozen.into_rooted();
    }
    rooted.with(|handle, list| {
        check(*list, |node| handle.get(node), |text| handle.slice(text));
        assert_eq!(list.1 == 0, list.0.is_none());
    });
    let arena = rooted.into_arena();
    assert_eq!(arena.used(), 0);
    arena
}

/// A pool whose guards come and go: what was allocated through them stays until the reset.
fn pool<const MIN: usize>(guards: u8, len: u16) {
    let mut pool: ArenaPool<MIN> = ArenaPool::with_options(options());
    for _ in 0..2 {
        let mut shadow = Shadow::default();
        let mut held = Vec::new();
        for n in 0..guards % 6 {
            let mut guard = pool.get();
            let used = guard.used();
            guard.scope(|scope| {
                scope.alloc([n; 50]);
            });
            assert_eq!(guard.used(), used);
            shadow.fill_value(guard.alloc([0_u64; 3]), MIN);
            if let Ok(text) = guard.try_alloc_slice_fill(usize::from(len % 1000), n) {
                assert!(text.iter().all(|&byte| byte == n));
                shadow.fill(std::ptr::NonNull::from(&mut *text).cast(), text.len(), MIN, false);
            }
            if n % 2 == 0 {
                held.push(guard);
            }
            shadow.check_all();
        }
        drop(held);
        shadow.check_all();
        assert!(pool.used() >= 24 * usize::from(guards % 6));
        pool.reset();
        assert_eq!(pool.used(), 0);
    }
}

/// An arena over a mapping takes all of it and no more; the mapping comes back with what was written there.
fn mapped<const MIN: usize>(len: u16) {
    let mapping = MapOptions::new(usize::from(len) + 256).map_anonymous().unwrap();
    let mut arena: Arena<MIN> = Arena::over(mapping).unwrap();
    let room = arena.reserved();
    assert!(arena.try_alloc_slice_fill(room + 1, 1_u8).is_err());
    arena.scope(|scope| scope.alloc_slice_fill(100, 1_u8).len());
    let row = arena.alloc_slice_fill(room / 8 * 8, 9_u8);
    let len = row.len();
    assert!(arena.try_alloc(1_u64).is_err());
    let mapping = arena.into_mapping().unwrap();
    let pattern = if cfg!(debug_assertions) { 0xa5 } else { 9 };
    assert_eq!(mapping.as_slice().unwrap().iter().filter(|&&byte| byte == pattern).count(), len);
}
