//! Processors: which there are, and which one a thread runs on. A test may simulate others.

use crate::vm::{inject, platform};

/// A bit for each processor by its number, from the lowest of the first byte on. Eight thousand of them: what Linux can be
/// built for.
pub(crate) type Processors = [u8; 1024];

/// Those that the calling thread may run on.
pub(crate) fn processors() -> Processors {
    inject::simulated_processors().map_or_else(platform::processors, first_processors)
}

/// The `count` lowest numbers.
pub(crate) fn first_processors(count: usize) -> Processors {
    core::array::from_fn(|byte| !(u8::MAX.checked_shl(count.saturating_sub(8 * byte) as u32).unwrap_or(0)))
}

/// The number of the one that the caller runs on, or did a moment ago.
pub(crate) fn processor() -> usize {
    inject::simulated_processor().unwrap_or_else(platform::processor)
}
