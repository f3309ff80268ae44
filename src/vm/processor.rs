//! Processors: how many there are, and which one a thread runs on. A test may simulate others.

use crate::vm::{inject, platform};

/// Those that the process may run on.
pub(crate) fn processors() -> usize {
    inject::simulated_processors().unwrap_or_else(platform::processors)
}

/// The number of the one that the caller runs on, or did a moment ago.
pub(crate) fn processor() -> usize {
    inject::simulated_processor().unwrap_or_else(platform::processor)
}
