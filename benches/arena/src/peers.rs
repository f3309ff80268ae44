//! The arenas, each behind one trait, each used as its documentation says is fastest.

use std::hint::black_box;

use crate::work::Node;

/// An arena that can be measured.
pub trait Peer: Sized {
    const NAME: &'static str;

    fn new() -> Self;
    fn with_capacity(bytes: usize) -> Self;
    fn number(&self, value: u32) -> &mut u32;
    fn node(&self, value: Node) -> &mut Node;
    fn text(&self, value: &str) -> &mut str;
    fn reset(&mut self);

    /// Reserves for one more number, then pushes it, `count` times, on one vector.
    fn exact_growth(&self, count: u64);
}

macro_rules! grow_exactly {
    ($vec:expr, $count:expr) => {
        let mut numbers = $vec;
        for n in 0..$count {
            numbers.reserve_exact(1);
            numbers.push(n);
        }
        black_box(&numbers);
    };
}

macro_rules! arenite {
    ($type:ident, $min:literal, $name:literal) => {
        pub struct $type(arenite::Arena<$min>);

        impl Peer for $type {
            const NAME: &'static str = $name;

            #[inline(always)]
            fn new() -> Self {
                $type(arenite::ArenaOptions::new().build_with_min_align().unwrap())
            }
            fn with_capacity(bytes: usize) -> Self {
                $type(arenite::ArenaOptions::new().capacity(bytes).build_with_min_align().unwrap())
            }
            #[inline(always)]
            fn number(&self, value: u32) -> &mut u32 {
                self.0.alloc(value)
            }
            #[inline(always)]
            fn node(&self, value: Node) -> &mut Node {
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
            fn exact_growth(&self, count: u64) {
                grow_exactly!(allocator_api2::vec::Vec::new_in(&self.0), count);
            }
        }
    };
}

arenite!(Arenite, 8, "arenite");
arenite!(ArenitePacked, 1, "arenite, min align 1");

impl Arenite {
    pub fn inner(&mut self) -> &mut arenite::Arena {
        &mut self.0
    }
}

pub struct Bumpalo(bumpalo::Bump);

impl Peer for Bumpalo {
    const NAME: &'static str = "bumpalo";

    #[inline(always)]
    fn new() -> Self {
        Bumpalo(bumpalo::Bump::new())
    }
    fn with_capacity(bytes: usize) -> Self {
        Bumpalo(bumpalo::Bump::with_capacity(bytes))
    }
    #[inline(always)]
    fn number(&self, value: u32) -> &mut u32 {
        self.0.alloc(value)
    }
    #[inline(always)]
    fn node(&self, value: Node) -> &mut Node {
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
    fn exact_growth(&self, count: u64) {
        grow_exactly!(allocator_api2_02::vec::Vec::new_in(&self.0), count);
    }
}

type Scoped = bump_scope::Bump<bump_scope::alloc::Global>;

pub struct BumpScope(Scoped);

impl Peer for BumpScope {
    const NAME: &'static str = "bump-scope";

    #[inline(always)]
    fn new() -> Self {
        BumpScope(Scoped::new())
    }
    fn with_capacity(bytes: usize) -> Self {
        BumpScope(Scoped::with_size(bytes))
    }
    #[inline(always)]
    fn number(&self, value: u32) -> &mut u32 {
        bump_scope::BumpBox::leak(self.0.alloc(value))
    }
    #[inline(always)]
    fn node(&self, value: Node) -> &mut Node {
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
    fn exact_growth(&self, count: u64) {
        grow_exactly!(bump_scope::BumpVec::new_in(&self.0), count);
    }
}

pub struct Blink(blink_alloc::Blink);

impl Peer for Blink {
    const NAME: &'static str = "blink-alloc";

    #[inline(always)]
    fn new() -> Self {
        Blink(blink_alloc::Blink::new())
    }
    fn with_capacity(bytes: usize) -> Self {
        Blink(blink_alloc::Blink::with_chunk_size(bytes))
    }
    #[inline(always)]
    fn number(&self, value: u32) -> &mut u32 {
        self.0.put_no_drop(value)
    }
    #[inline(always)]
    fn node(&self, value: Node) -> &mut Node {
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
    fn exact_growth(&self, count: u64) {
        grow_exactly!(allocator_api2::vec::Vec::new_in(self.0.allocator()), count);
    }
}

pub struct Stumpalo(stumpalo::Arena);

impl Peer for Stumpalo {
    const NAME: &'static str = "stumpalo";

    #[inline(always)]
    fn new() -> Self {
        Stumpalo(stumpalo::Arena::new())
    }
    fn with_capacity(bytes: usize) -> Self {
        Stumpalo(stumpalo::Arena::with_capacity(bytes))
    }
    #[inline(always)]
    fn number(&self, value: u32) -> &mut u32 {
        self.0.alloc(value)
    }
    #[inline(always)]
    fn node(&self, value: Node) -> &mut Node {
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
    fn exact_growth(&self, count: u64) {
        grow_exactly!(allocator_api2::vec::Vec::new_in(&self.0), count);
    }
}
