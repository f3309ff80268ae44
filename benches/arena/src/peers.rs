//! The arenas, each behind one trait, each used as its documentation says is fastest.

#![allow(clippy::mut_from_ref, reason = "a new place each time: what arenas are for")]

use std::hint::black_box;

use crate::work::Node;

/// What every arena can do.
pub(crate) trait Nodes: Sized {
    fn new() -> Self;
    fn node(&self, value: Node) -> &mut Node;
}

/// An arena for values of any type, that can be emptied.
pub(crate) trait Peer: Nodes {
    fn with_capacity(bytes: usize) -> Self;
    fn number(&self, value: u32) -> &mut u32;
    fn text(&self, value: &str) -> &mut str;
    fn reset(&mut self);

    /// Reserves for one more number, then pushes it, `count` times, on one vector. Returns the sum of its numbers.
    fn exact_growth(&self, count: u64) -> u64;
}

macro_rules! grow_exactly {
    ($vec:expr, $count:expr) => {{
        let mut numbers = $vec;
        for n in 0..$count {
            numbers.reserve_exact(1);
            numbers.push(n);
        }
        black_box(&numbers).iter().sum()
    }};
}

macro_rules! arenite {
    ($type:ident, $min:literal) => {
        pub(crate) struct $type(arenite::Arena<$min>);

        impl Nodes for $type {
            #[inline(always)]
            fn new() -> Self {
                $type(arenite::ArenaOptions::new().build_with_min_align().unwrap())
            }
            #[inline(always)]
            fn node(&self, value: Node) -> &mut Node {
                self.0.alloc(value)
            }
        }

        impl Peer for $type {
            fn with_capacity(bytes: usize) -> Self {
                $type(arenite::ArenaOptions::new().capacity(bytes).build_with_min_align().unwrap())
            }
            #[inline(always)]
            fn number(&self, value: u32) -> &mut u32 {
                self.0.alloc(value)
            }
            #[inline(always)]
            fn text(&self, value: &str) -> &mut str {
                self.0.alloc_str(value)
            }
            fn reset(&mut self) {
                self.0.reset();
            }
            #[inline(always)]
            fn exact_growth(&self, count: u64) -> u64 {
                grow_exactly!(allocator_api2::vec::Vec::new_in(&self.0), count)
            }
        }
    };
}

arenite!(Arenite, 8);
arenite!(ArenitePacked, 1);

impl Arenite {
    pub(crate) fn inner(&mut self) -> &mut arenite::Arena {
        &mut self.0
    }
}

pub(crate) struct Bumpalo(bumpalo::Bump);

impl Nodes for Bumpalo {
    #[inline(always)]
    fn new() -> Self {
        Bumpalo(bumpalo::Bump::new())
    }
    #[inline(always)]
    fn node(&self, value: Node) -> &mut Node {
        self.0.alloc(value)
    }
}

impl Peer for Bumpalo {
    fn with_capacity(bytes: usize) -> Self {
        Bumpalo(bumpalo::Bump::with_capacity(bytes))
    }
    #[inline(always)]
    fn number(&self, value: u32) -> &mut u32 {
        self.0.alloc(value)
    }
    #[inline(always)]
    fn text(&self, value: &str) -> &mut str {
        self.0.alloc_str(value)
    }
    fn reset(&mut self) {
        self.0.reset();
    }
    #[inline(always)]
    fn exact_growth(&self, count: u64) -> u64 {
        grow_exactly!(allocator_api2_02::vec::Vec::new_in(&self.0), count)
    }
}

type Scoped = bump_scope::Bump<bump_scope::alloc::Global>;

pub(crate) struct BumpScope(Scoped);

impl Nodes for BumpScope {
    #[inline(always)]
    fn new() -> Self {
        BumpScope(Scoped::new())
    }
    #[inline(always)]
    fn node(&self, value: Node) -> &mut Node {
        bump_scope::BumpBox::leak(self.0.alloc(value))
    }
}

impl Peer for BumpScope {
    fn with_capacity(bytes: usize) -> Self {
        BumpScope(Scoped::with_size(bytes))
    }
    #[inline(always)]
    fn number(&self, value: u32) -> &mut u32 {
        bump_scope::BumpBox::leak(self.0.alloc(value))
    }
    #[inline(always)]
    fn text(&self, value: &str) -> &mut str {
        bump_scope::BumpBox::leak(self.0.alloc_str(value))
    }
    fn reset(&mut self) {
        self.0.reset();
    }
    #[inline(always)]
    fn exact_growth(&self, count: u64) -> u64 {
        grow_exactly!(bump_scope::BumpVec::new_in(&self.0), count)
    }
}

pub(crate) struct Blink(blink_alloc::Blink);

impl Nodes for Blink {
    #[inline(always)]
    fn new() -> Self {
        Blink(blink_alloc::Blink::new())
    }
    #[inline(always)]
    fn node(&self, value: Node) -> &mut Node {
        self.0.put_no_drop(value)
    }
}

impl Peer for Blink {
    fn with_capacity(bytes: usize) -> Self {
        Blink(blink_alloc::Blink::with_chunk_size(bytes))
    }
    #[inline(always)]
    fn number(&self, value: u32) -> &mut u32 {
        self.0.put_no_drop(value)
    }
    #[inline(always)]
    fn text(&self, value: &str) -> &mut str {
        self.0.copy_str(value)
    }
    fn reset(&mut self) {
        self.0.reset();
    }
    #[inline(always)]
    fn exact_growth(&self, count: u64) -> u64 {
        grow_exactly!(allocator_api2::vec::Vec::new_in(self.0.allocator()), count)
    }
}

pub(crate) struct Stumpalo(stumpalo::Arena);

impl Nodes for Stumpalo {
    #[inline(always)]
    fn new() -> Self {
        Stumpalo(stumpalo::Arena::new())
    }
    #[inline(always)]
    fn node(&self, value: Node) -> &mut Node {
        self.0.alloc(value)
    }
}

impl Peer for Stumpalo {
    fn with_capacity(bytes: usize) -> Self {
        Stumpalo(stumpalo::Arena::with_capacity(bytes))
    }
    #[inline(always)]
    fn number(&self, value: u32) -> &mut u32 {
        self.0.alloc(value)
    }
    #[inline(always)]
    fn text(&self, value: &str) -> &mut str {
        self.0.alloc_str(value)
    }
    fn reset(&mut self) {
        self.0.clear();
    }
    #[inline(always)]
    fn exact_growth(&self, count: u64) -> u64 {
        grow_exactly!(allocator_api2::vec::Vec::new_in(&self.0), count)
    }
}

/// For one type, and only dropped as a whole.
pub(crate) struct Typed(typed_arena::Arena<Node>);

impl Nodes for Typed {
    #[inline(always)]
    fn new() -> Self {
        Typed(typed_arena::Arena::new())
    }
    #[inline(always)]
    fn node(&self, value: Node) -> &mut Node {
        self.0.alloc(value)
    }
}
