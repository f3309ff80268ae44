//! Pure parts: arithmetic, bitmaps and the one import of atomics. Nothing here touches memory or the system.

pub(crate) mod align;
pub(crate) mod bitmap;
pub(crate) mod bump;
pub(crate) mod padded;
pub(crate) mod sync;
