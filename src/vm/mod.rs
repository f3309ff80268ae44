//! The mapping layer: the only place that makes system calls.
//!
//! Inside, `sys` holds the raw calls that the heap uses on its allocation paths.

mod errno;
pub(crate) mod hooks;
#[macro_use]
mod invariant;
mod lock;
mod page;
pub(crate) mod platform;
pub(crate) mod sys;

pub(crate) use invariant::violated;
pub(crate) use lock::Lock;
pub use page::page_size;
