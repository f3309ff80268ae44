//! Recorded allocations. [`Recorder`] is a global allocator that writes down what a program asks for; [`convert`] makes a
//! compact file of that, with a stream of operations for each thread; [`Trace`] and [`Stream`] read it.
//!
//! To record a program of your own, make the recorder its allocator, and run it by `record` of the driver:
//!
//! ```
//! #[global_allocator]
//! static GLOBAL: trace::Recorder = trace::Recorder;
//! # let text = String::from("records nothing unless it is told the name of a file");
//! # drop(text);
//! ```

mod convert;
mod file;
mod recorder;

pub use convert::convert;
pub use file::{Header, Op, Place, Stream, ThreadInfo, Trace};
pub use recorder::{FILE_VARIABLE, Recorder};
