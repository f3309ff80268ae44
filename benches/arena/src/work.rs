//! What is measured. Each is one loop, generic over the arena, and not inlined.

use std::hint::black_box;

use measure::{Meter, Unit, Workload, rss};

use crate::peers::{Arenite, Nodes, Peer};

/// A node of a tree, 40 bytes long.
#[derive(Clone, Copy)]
pub(crate) struct Node {
    words: [u64; 5],
}

impl Node {
    #[inline(always)]
    pub(crate) fn of(n: u64) -> Node {
        Node { words: [n; 5] }
    }
}

macro_rules! workload {
    ($name:literal, $unit:ident, $quick:expr, $full:expr, $run:expr, $stresses:literal) => {
        Workload {
            name: $name,
            group: "arenas",
            stresses: $stresses,
            unit: Unit::$unit,
            quick: $quick,
            full: $full,
            run: $run,
        }
    };
}

/// Of those that take nodes only and cannot be emptied.
pub(crate) fn of_nodes<P: Nodes>() -> Vec<Workload> {
    vec![
        workload!(
            "a-request",
            CpuNs,
            400_000,
            1_000_000,
            |meter, count| meter.warmed(count, requests::<P>),
            "a new arena, 20 nodes of 40 bytes, and its end: time for all that"
        ),
        workload!(
            "a-node-cold",
            CpuNs,
            2_000_000,
            26_843_545,
            |meter, count| cold(meter, count, fill_nodes::<P>, P::new),
            "one new arena filled with nodes of 40 bytes (1 GiB, quick 76 MiB), in a process that has touched none of the memory: time for a node"
        ),
        workload!(
            "ai-request",
            Instructions,
            2_000,
            5_000,
            |_, count| requests::<P>(count),
            "instructions: a new arena, 20 nodes, and its end"
        ),
    ]
}

pub(crate) fn of_all<P: Peer>() -> Vec<Workload> {
    let mut all = vec![
        workload!(
            "a-u32-warm",
            CpuNs,
            20_000_000,
            50_000_000,
            |meter, count| warm(meter, count, number_batch::<P>),
            "numbers of four bytes, emptied every 10,000: time for one, its memory warm"
        ),
        workload!(
            "a-node-warm",
            CpuNs,
            10_000_000,
            25_000_000,
            |meter, count| warm(meter, count, node_batch::<P>),
            "nodes of 40 bytes, emptied every 10,000: time for one, its memory warm"
        ),
        workload!(
            "a-text-warm",
            CpuNs,
            5_000_000,
            15_000_000,
            |meter, count| warm(meter, count, text_batch::<P>),
            "texts of 1 to 24 bytes copied, emptied every 10,000: time for one, its memory warm"
        ),
        workload!(
            "a-growth-warm",
            CpuNs,
            200,
            500,
            growth::<P>,
            "a vector that reserves for one more number 10,007 times: time for a vector, its memory warm"
        ),
    ];
    all.extend(of_nodes::<P>());
    all.extend([
        workload!(
            "a-u32-cold",
            CpuNs,
            10_000_000,
            30_000_000,
            |meter, count| cold(meter, count, fill_numbers::<P>, P::new),
            "one new arena filled with numbers of four bytes, in a process that has touched none of the memory"
        ),
        workload!(
            "a-text-cold",
            CpuNs,
            4_000_000,
            10_000_000,
            |meter, count| cold(meter, count, fill_texts::<P>, P::new),
            "one new arena filled with texts of 1 to 24 bytes, in a process that has touched none of the memory"
        ),
        workload!(
            "a-spike",
            Bytes,
            256 << 20,
            256 << 20,
            spike::<P>,
            "what stays resident when an arena that held 256 MiB is emptied"
        ),
        workload!(
            "ai-u32",
            Instructions,
            20_000,
            50_000,
            |_, count| batches::<P>(count, number_batch::<P>),
            "instructions: a number of four bytes"
        ),
        workload!(
            "ai-node",
            Instructions,
            20_000,
            50_000,
            |_, count| batches::<P>(count, node_batch::<P>),
            "instructions: a node of 40 bytes"
        ),
        workload!(
            "ai-text",
            Instructions,
            20_000,
            50_000,
            |_, count| batches::<P>(count, text_batch::<P>),
            "instructions: a text of 1 to 24 bytes"
        ),
    ]);
    all
}

/// Of the cursor, which only Arenite's arenas have: the fastest way to many values in a row.
pub(crate) fn of_cursor() -> Vec<Workload> {
    let number = |workload: &Workload| ["a-u32-warm", "ai-u32"].contains(&workload.name);
    let mut all: Vec<Workload> = of_all::<Arenite>().into_iter().filter(number).collect();
    all[0].run = |meter, count| warm(meter, count, cursor_batch);
    all[1].run = |_, count| batches(count, cursor_batch);
    all
}

/// Allocations between two resets.
const BATCH: u64 = 10_000;

/// Runs `count` allocations in batches, after each of which the arena is emptied. Starts with all the memory that it needs.
#[inline(always)]
fn batches<P: Peer>(count: u64, batch: fn(&mut P, u64) -> u64) -> u64 {
    let mut arena = P::with_capacity(1 << 20);
    let mut sum = 0;
    let mut left = count;
    while left > 0 {
        let now = left.min(BATCH);
        sum += batch(&mut arena, now);
        arena.reset();
        left -= now;
    }
    sum
}

#[inline(always)]
fn warm<P: Peer>(meter: &mut Meter, count: u64, batch: fn(&mut P, u64) -> u64) -> u64 {
    meter.warmed(count, |count| batches(count, batch))
}

/// Every batch looks in the end at what it has put in first: an arena that gives memory out twice cannot win.
#[inline(never)]
fn number_batch<P: Peer>(arena: &mut P, count: u64) -> u64 {
    let arena = &*arena;
    let first = arena.number(7);
    for n in (0..count as u32).rev() {
        black_box(arena.number(n));
    }
    u64::from(*first)
}

#[inline(never)]
fn cursor_batch(arena: &mut Arenite, count: u64) -> u64 {
    let mut cursor = arena.inner().cursor();
    let first = cursor.alloc(7_u32);
    for n in (0..count as u32).rev() {
        black_box(cursor.alloc(n));
    }
    u64::from(*first)
}

#[inline(never)]
fn node_batch<P: Peer>(arena: &mut P, count: u64) -> u64 {
    let arena = &*arena;
    let first = arena.node(Node::of(7));
    for n in 0..count {
        black_box(arena.node(Node::of(n)));
    }
    first.words.iter().sum()
}

/// Words of 1 to 24 bytes, as in names and keys.
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
fn text_batch<P: Peer>(arena: &mut P, count: u64) -> u64 {
    let arena = &*arena;
    let words = black_box(&WORDS);
    let first = arena.text(words[3]);
    for n in 0..count {
        black_box(arena.text(words[n as usize % 16]));
    }
    u64::from(*first == *words[3])
}

/// One unit is a whole vector.
fn growth<P: Peer>(meter: &mut Meter, count: u64) -> u64 {
    const LEN: u64 = 10_007;
    let mut arena = P::with_capacity(1 << 20);
    meter.warmed(count, |count| {
        let mut sum = 0;
        for _ in 0..count {
            sum += arena.exact_growth(LEN);
            arena.reset();
        }
        sum
    })
}

/// One unit is a request: an arena, 20 nodes, gone.
fn requests<P: Nodes>(count: u64) -> u64 {
    (0..count).map(request::<P>).sum()
}

#[inline(never)]
fn request<P: Nodes>(number: u64) -> u64 {
    let arena = P::new();
    let first = arena.node(Node::of(number));
    for n in 1..20 {
        black_box(arena.node(Node::of(n)));
    }
    first.words[0] ^ first.words[4]
}

/// Fills one arena, and looks at a thousandth of what is in it: all within the time, and the arena's end as well.
fn cold<P>(meter: &mut Meter, count: u64, fill: fn(&P, u64) -> u64, new: fn() -> P) -> u64 {
    meter.time(count, || fill(&new(), count)).0
}

/// Between two values that are looked at.
const STEP: u64 = 1024;

#[inline(never)]
fn fill_nodes<P: Nodes>(arena: &P, count: u64) -> u64 {
    let mut some = Vec::with_capacity((count / STEP + 1) as usize);
    for n in 0..count / STEP {
        some.push(&*arena.node(Node::of(n)));
        for n in 1..STEP {
            black_box(arena.node(Node::of(n)));
        }
    }
    some.iter().map(|node| node.words[2]).sum()
}

#[inline(never)]
fn fill_numbers<P: Peer>(arena: &P, count: u64) -> u64 {
    let mut some = Vec::with_capacity((count / STEP + 1) as usize);
    for n in 0..(count / STEP) as u32 {
        some.push(&*arena.number(n));
        for n in 1..STEP as u32 {
            black_box(arena.number(n));
        }
    }
    some.iter().map(|&&number| u64::from(number)).sum()
}

#[inline(never)]
fn fill_texts<P: Peer>(arena: &P, count: u64) -> u64 {
    let words = black_box(&WORDS);
    let mut some = Vec::with_capacity((count / STEP + 1) as usize);
    for n in 0..count / STEP {
        some.push(&*arena.text(words[n as usize % 16]));
        for n in 1..STEP {
            black_box(arena.text(words[n as usize % 16]));
        }
    }
    some.iter().map(|text| text.len() as u64).sum()
}

fn spike<P: Peer>(meter: &mut Meter, bytes: u64) -> u64 {
    let before = rss();
    let mut arena = P::new();
    let count = bytes / size_of::<Node>() as u64;
    let sum = meter.time(count, || fill_nodes(&arena, count)).0;
    meter.time(1, || arena.reset());
    meter.score(rss().saturating_sub(before) as f64);
    sum
}
