//! What is measured. Each function is one loop, generic over the arena, and not inlined.

use std::hint::black_box;

use crate::peers::{Arenite, Peer};

/// A node of a tree, 40 bytes long.
#[derive(Clone, Copy)]
pub struct Node {
    _words: [u64; 5],
}

impl Node {
    #[inline(always)]
    pub fn of(n: u64) -> Node {
        Node { _words: [n; 5] }
    }
}

/// Allocations between two resets.
const BATCH: u64 = 10_000;

/// Runs `count` allocations in batches, after each of which the arena is reset.
#[inline(always)]
fn batches<A>(arena: &mut A, count: u64, mut batch: impl FnMut(&mut A, u64), mut reset: impl FnMut(&mut A)) {
    let mut left = count;
    while left > 0 {
        let now = left.min(BATCH);
        batch(arena, now);
        reset(arena);
        left -= now;
    }
}

#[inline(never)]
fn number_batch<P: Peer>(arena: &P, count: u64) {
    for n in (0..count as u32).rev() {
        black_box(arena.number(n));
    }
}

pub fn numbers<P: Peer>(count: u64) {
    let mut arena = P::with_capacity(1 << 20);
    batches(&mut arena, count, |arena, now| number_batch(arena, now), P::reset);
}

#[inline(never)]
fn number_cursor_batch(arena: &mut arenite::Arena, count: u64) {
    let mut cursor = arena.cursor();
    for n in (0..count as u32).rev() {
        black_box(cursor.alloc(n));
    }
}

pub fn numbers_by_cursor(count: u64) {
    let mut arena = Arenite::with_capacity(1 << 20);
    batches(&mut arena, count, |arena, now| number_cursor_batch(arena.inner(), now), Arenite::reset);
}

#[inline(never)]
fn node_batch<P: Peer>(arena: &P, count: u64) {
    for n in 0..count {
        black_box(arena.node(Node::of(n)));
    }
}

pub fn nodes<P: Peer>(count: u64) {
    let mut arena = P::with_capacity(1 << 20);
    batches(&mut arena, count, |arena, now| node_batch(arena, now), P::reset);
}

/// Words of 1 to 23 bytes, as in names and keys.
const WORDS: [&str; 16] = [
    "id",
    "name",
    "x",
    "address",
    "coordinates",
    "type",
    "a_rather_long_identifier",
    "value",
    "ok",
    "children",
    "left",
    "right",
    "created_at",
    "properties",
    "geometry",
    "y",
];

#[inline(never)]
fn text_batch<P: Peer>(arena: &P, words: &[&str; 16], count: u64) {
    for n in 0..count {
        black_box(arena.text(words[n as usize % 16]));
    }
}

pub fn texts<P: Peer>(count: u64) {
    let mut arena = P::with_capacity(1 << 20);
    let words = black_box(WORDS);
    batches(&mut arena, count, |arena, now| text_batch(arena, &words, now), P::reset);
}

/// One unit is a whole vector.
pub fn exact_growth<P: Peer>(count: u64) {
    let mut arena = P::with_capacity(1 << 20);
    for _ in 0..count {
        exact_growth_once(&arena);
        arena.reset();
    }
}

#[inline(never)]
fn exact_growth_once<P: Peer>(arena: &P) {
    arena.exact_growth(10_007);
}

/// One unit is a request: an arena, 20 nodes, gone.
pub fn requests<P: Peer>(count: u64) {
    for _ in 0..count {
        request::<P>();
    }
}

#[inline(never)]
fn request<P: Peer>() {
    let arena = P::new();
    for n in 0..20 {
        black_box(arena.node(Node::of(n)));
    }
}

/// Bytes in the large run.
pub const FRESH: u64 = 1 << 30;

/// Fills a new arena with a gigabyte of nodes.
pub fn fresh<P: Peer>(count: u64) {
    for _ in 0..count {
        let arena = P::new();
        node_batch(&arena, FRESH / size_of::<Node>() as u64);
    }
}
