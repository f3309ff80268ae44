//! The library's `index` example: its own source, on any allocator.
#![allow(dead_code, reason = "its command line and its report are not run here")]

#[path = "../../../../examples/index/app/query.rs"]
mod query;
#[path = "../../../../examples/index/app/sources.rs"]
mod sources;
#[path = "../../../../examples/index/app/text_index.rs"]
mod text_index;
#[path = "../../../../examples/index/app/tokens.rs"]
mod tokens;

use indicatif::ProgressBar;
use measure::{Meter, Unit, Workload};

use crate::input;

pub(crate) const WORKLOADS: &[Workload] = &[Workload {
    name: "index",
    group: "programs",
    stresses: "the library's example: a search index over the sources, built by all threads, asked, dropped: time for a byte",
    unit: Unit::WallNs,
    quick: 8,
    full: 20,
    run: index,
}];

/// One of each kind.
const QUERIES: [&str; 4] = ["heap", "alloc*", "*align*", "unsafe impl"];

/// Over the first so many packages.
fn index(meter: &mut Meter, packages: u64) -> u64 {
    let found = sources::walk(&input::folders()[..packages as usize]);
    let bytes = found.files.iter().filter_map(|path| path.metadata().ok()).map(|file| file.len()).sum();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(meter.threads()).build().expect("threads");
    let queries = QUERIES.map(|text| text.parse::<query::Query>().expect("a query"));
    meter
        .time(bytes, || {
            let (index, _) = pool.install(|| text_index::build(&found.files, &ProgressBar::hidden()));
            let answers: Vec<_> = queries.into_iter().map(|query| query.answer(&index)).collect();
            assert!(answers.iter().all(|answer| answer.places > 0), "something is not found");
            query::digest(&answers)
        })
        .0
}
