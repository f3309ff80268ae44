//! One op program with a shadow model. A *world* knows every live block by its address, whichever thread holds it; a
//! *program* has slots with blocks and runs ops on them; programs of several threads hand blocks to each other through
//! the world's pool.
//!
//! The shadow would catch: a block that overlaps another, or is handed out twice; a block that is not aligned; contents
//! that were changed, or lost in a move; zeroed blocks that are not zero.

use std::alloc::Layout;
use std::collections::BTreeMap;
use std::sync::Mutex;

use proptest::prelude::*;

use super::{Block, KIB, MIB, Random, layout};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    /// Into a slot, whose block is freed first.
    Alloc {
        slot: usize,
        size: usize,
        align: usize,
        zeroed: bool,
    },
    /// By the `Allocator` interface, which knows blocks of no bytes.
    Allocate {
        slot: usize,
        size: usize,
        align: usize,
        zeroed: bool,
    },
    Free {
        slot: usize,
    },
    Realloc {
        slot: usize,
        size: usize,
    },
    Resize {
        slot: usize,
        size: usize,
        align: usize,
        zeroed: bool,
    },
    /// To the pool.
    HandOver {
        slot: usize,
    },
    /// From the pool: the block that has been there longest.
    TakeOver {
        slot: usize,
    },
    Trim,
}

pub(crate) const SLOTS: usize = 32;

/// Bytes that the blocks of one program may have together: beyond it, allocations are skipped.
const BUDGET: usize = 512 * MIB;

/// Sizes of each route and both sides of the borders between them.
pub(crate) fn random_size(random: &mut Random) -> usize {
    const BORDERS: [usize; 8] = [8, 128, 4 * KIB, 32 * KIB, 64 * KIB, MIB, 8 * MIB, 16 * MIB];
    match random.between(0, 99) {
        0..40 => random.between(1, 512),
        40..70 => random.log_between(1, 32 * KIB),
        70..80 => BORDERS[random.between(0, 7)] + random.between(0, 2) - 1,
        80..94 => random.log_between(32 * KIB, 2 * MIB),
        94..98 => random.log_between(MIB, 9 * MIB),
        _ => random.log_between(8 * MIB, 48 * MIB),
    }
}

pub(crate) fn random_align(random: &mut Random) -> usize {
    match random.between(0, 99) {
        0..75 => 1 << random.between(0, 4),
        75..92 => 1 << random.between(5, 16),
        92..99 => 1 << random.between(17, 21),
        _ => 1 << random.between(22, 26),
    }
}

pub(crate) fn random_op(random: &mut Random) -> Op {
    let slot = random.between(0, SLOTS - 1);
    let size = random_size(random);
    let align = random_align(random);
    let zeroed = random.one_in(4);
    match random.between(0, 999) {
        0..300 => Op::Alloc { slot, size, align, zeroed },
        300..400 => Op::Allocate { slot, size: if random.one_in(9) { 0 } else { size }, align, zeroed },
        400..600 => Op::Free { slot },
        600..700 => Op::Realloc { slot, size },
        700..800 => Op::Resize { slot, size, align: 1 << random.between(0, 12), zeroed },
        800..895 => Op::HandOver { slot },
        895..995 => Op::TakeOver { slot },
        _ => Op::Trim,
    }
}

/// Ops for proptest, which shrinks slots and sizes to small ones and alignments to one.
pub(crate) fn any_op() -> impl Strategy<Value = Op> {
    let size = || {
        prop_oneof![
            5 => 1..=512_usize,
            4 => 1..=(40 * KIB),
            2 => prop::sample::select(vec![8, 128, 4 * KIB, 32 * KIB, 64 * KIB, MIB, 8 * MIB])
                .prop_flat_map(|border| border - 1..=border + 1),
            2 => (32 * KIB)..=(2 * MIB),
            1 => MIB..=(20 * MIB),
        ]
    };
    let align = || {
        prop_oneof![
            6 => 0..=4_u32,
            3 => 5..=16_u32,
            1 => 17..=26_u32,
        ]
        .prop_map(|shift| 1_usize << shift)
    };
    let slot = || 0..SLOTS;
    prop_oneof![
        6 => (slot(), size(), align(), any::<bool>())
            .prop_map(|(slot, size, align, zeroed)| Op::Alloc { slot, size, align, zeroed }),
        2 => (slot(), prop_oneof![1 => Just(0), 9 => size()], align(), any::<bool>())
            .prop_map(|(slot, size, align, zeroed)| Op::Allocate { slot, size, align, zeroed }),
        4 => slot().prop_map(|slot| Op::Free { slot }),
        3 => (slot(), size()).prop_map(|(slot, size)| Op::Realloc { slot, size }),
        2 => (slot(), prop_oneof![1 => Just(0), 9 => size()], align(), any::<bool>())
            .prop_map(|(slot, size, align, zeroed)| Op::Resize { slot, size, align, zeroed }),
        1 => slot().prop_map(|slot| Op::HandOver { slot }),
        1 => slot().prop_map(|slot| Op::TakeOver { slot }),
        1 => Just(Op::Trim),
    ]
}

/// The live blocks, by their first byte, with their ends; and the pool.
#[derive(Debug, Default)]
pub(crate) struct World {
    live: Mutex<BTreeMap<usize, usize>>,
    pool: Mutex<std::collections::VecDeque<Block>>,
}

impl World {
    /// To be called after a block was handed out.
    fn note(&self, block: &Block) {
        if block.size() == 0 {
            return;
        }
        let (start, end) = (block.addr(), block.addr() + block.size());
        let mut live = self.live.lock().unwrap();
        if let Some((&other, &other_end)) = live.range(..end).next_back() {
            assert!(other_end <= start, "{block:?} overlaps {other:#x}..{other_end:#x}");
        }
        live.insert(start, end);
    }

    /// To be called before a block is given back.
    fn forget(&self, block: &Block) {
        if block.size() != 0 {
            assert_eq!(
                self.live.lock().unwrap().remove(&block.addr()),
                Some(block.addr() + block.size()),
                "{block:?}"
            );
        }
    }

    /// Frees what is left in the pool. No block may be live then.
    pub(crate) fn finish(self) {
        for block in self.pool.into_inner().unwrap() {
            // Forgotten without the lock, which is gone.
            self.live.lock().unwrap().remove(&block.addr());
            block.free();
        }
        assert_eq!(self.live.into_inner().unwrap(), BTreeMap::new());
    }
}

/// Slots, and what runs on them.
#[derive(Debug)]
pub(crate) struct Program<'w> {
    world: &'w World,
    slots: [Option<Block>; SLOTS],
    bytes: usize,
    seed: u64,
    /// Refusals so far; none where a refusal is a failure.
    refused: Option<usize>,
}

impl<'w> Program<'w> {
    /// Contents differ between programs with different seeds.
    pub(crate) fn new(world: &'w World, seed: u64) -> Program<'w> {
        Program { world, slots: [const { None }; SLOTS], bytes: 0, seed: seed << 32, refused: None }
    }

    /// From now on the heap may refuse: a slot stays empty then, or its block as it was.
    pub(crate) fn allow_refusals(&mut self, yes: bool) {
        self.refused = yes.then_some(0);
    }

    /// How often the heap refused since this was allowed.
    pub(crate) fn refused(&self) -> usize {
        self.refused.unwrap_or(0)
    }

    pub(crate) fn run(&mut self, op: Op) {
        match op {
            Op::Alloc { slot, size, align, zeroed } => {
                self.free(slot);
                if self.bytes + size > BUDGET {
                    return;
                }
                let layout = layout(size, align);
                let block = if zeroed { Block::alloc_zeroed(layout) } else { Block::alloc(layout) };
                self.put_new(slot, block, zeroed, layout);
            }
            Op::Allocate { slot, size, align, zeroed } => {
                self.free(slot);
                if self.bytes + size > BUDGET {
                    return;
                }
                let layout = layout(size, align);
                let block = Block::allocate(layout, zeroed);
                self.put_new(slot, block, zeroed, layout);
            }
            Op::Free { slot } => self.free(slot),
            Op::Realloc { slot, size } => {
                if let Some(block) = self.take_to_resize(slot, size)
                    && block.size() != 0
                {
                    self.world.forget(&block);
                    let asked = layout(size, block.layout().align());
                    self.put_resized(slot, block.realloc(size), asked);
                }
            }
            Op::Resize { slot, size, align, zeroed } => {
                if let Some(block) = self.take_to_resize(slot, size) {
                    self.world.forget(&block);
                    let asked = layout(size, align);
                    self.put_resized(slot, block.resize(asked, zeroed), asked);
                }
            }
            Op::HandOver { slot } => {
                if let Some(block) = self.take(slot) {
                    self.world.pool.lock().unwrap().push_back(block);
                }
            }
            Op::TakeOver { slot } => {
                self.free(slot);
                let block = self.world.pool.lock().unwrap().pop_front();
                if let Some(block) = block {
                    block.check();
                    self.put(slot, block);
                }
            }
            Op::Trim => {
                arenite::trim();
            }
        }
    }

    /// Frees all.
    pub(crate) fn finish(mut self) {
        for slot in 0..SLOTS {
            self.free(slot);
        }
    }

    /// Leaves all to the pool.
    pub(crate) fn hand_over_all(mut self) {
        for slot in 0..SLOTS {
            self.run(Op::HandOver { slot });
        }
    }

    pub(crate) fn check(&self) {
        self.slots.iter().flatten().for_each(Block::check);
    }

    fn free(&mut self, slot: usize) {
        if let Some(block) = self.take(slot) {
            self.world.forget(&block);
            block.free();
        }
    }

    fn take(&mut self, slot: usize) -> Option<Block> {
        let block = self.slots[slot].take()?;
        self.bytes -= block.size();
        Some(block)
    }

    /// The block, if it may get that large.
    fn take_to_resize(&mut self, slot: usize, size: usize) -> Option<Block> {
        if self.bytes + size > BUDGET { None } else { self.take(slot) }
    }

    fn note_refusal(&mut self, asked: Layout) {
        match &mut self.refused {
            Some(refused) => *refused += 1,
            None => panic!("{asked:?} was refused"),
        }
    }

    fn put_resized(&mut self, slot: usize, resized: Result<Block, Block>, asked: Layout) {
        match resized {
            Ok(block) => self.put_new(slot, Some(block), false, asked),
            // It has looked at its contents.
            Err(block) => {
                self.note_refusal(asked);
                self.world.note(&block);
                self.put(slot, block);
            }
        }
    }

    fn put_new(&mut self, slot: usize, block: Option<Block>, zeroed: bool, asked: Layout) {
        let Some(mut block) = block else { return self.note_refusal(asked) };
        self.world.note(&block);
        if zeroed {
            assert!(block.is_zero(), "{block:?} is not zero");
        }
        self.seed += 1;
        block.fill(self.seed);
        self.put(slot, block);
    }

    fn put(&mut self, slot: usize, block: Block) {
        self.bytes += block.size();
        self.slots[slot] = Some(block);
    }
}
