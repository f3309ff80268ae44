//! What makes canaries, and the order of blocks, different in each process.

use crate::base::sync::{AtomicU64, Ordering};
use crate::heap::magazine::Slot;
use crate::vm::platform;

/// Written once, before the process counts as started.
static SECRET: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// Called once, by the thread that starts the heap.
pub(crate) fn set() {
    for (place, word) in SECRET.iter().zip(platform::random()) {
        // Odd, so that no multiplication by it loses a bit.
        place.store(word | 1, Ordering::Relaxed);
    }
}

/// A word that depends on the secret and on every bit of `word`: both halves of a product.
#[inline(always)]
pub(crate) fn mix(word: u64) -> u64 {
    // Relaxed: written before the first block is handed out, see `process::start`.
    let [first, second] = [0, 1].map(|i: usize| SECRET[i].load(Ordering::Relaxed));
    let product = u128::from(word ^ first) * u128::from(second);
    product as u64 ^ (product >> 64) as u64
}

/// Turns the blocks, which stand in the order of their addresses, so that any of them may be the first. More disorder would cost
/// what the order is for: neighbours that are used one after the other share the processor's cache and its prefetching.
pub(crate) fn rotate(blocks: &mut [Slot]) {
    if let Some(first) = blocks.first() {
        let turns = mix(first.addr() as u64) as usize % blocks.len();
        blocks.rotate_left(turns);
    }
}
