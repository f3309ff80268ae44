//! Indexes over source text, on several threads.

use dashmap::DashMap;
use measure::{Meter, Unit, Workload};
use rayon::prelude::*;
use rustc_hash::FxBuildHasher;
use tantivy::collector::Count;
use tantivy::query::QueryParser;
use tantivy::schema::{STORED, Schema, TEXT};
use tantivy::{Index, TantivyDocument};

use crate::input;

pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "dashmap",
        group: "programs",
        stresses: "rayon fills a concurrent map from every word of the sources to its places, and drops it: time for a byte",
        unit: Unit::WallNs,
        quick: 4 << 20,
        full: 10 << 20,
        run: words,
    },
    Workload {
        name: "tantivy",
        group: "programs",
        stresses: "tantivy indexes the lines of the sources in memory, and is asked: time for a byte",
        unit: Unit::WallNs,
        quick: 2 << 20,
        full: 4 << 20,
        run: full_text,
    },
];

fn words(meter: &mut Meter, bytes: u64) -> u64 {
    let files = input::files("rs", bytes as usize);
    let total = files.iter().map(String::len).sum::<usize>() as u64;
    let threads = meter.threads();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    meter
        .time(total, || {
            pool.install(|| {
                let map: DashMap<String, Vec<(u32, u32)>, FxBuildHasher> = DashMap::default();
                files.par_iter().enumerate().for_each(|(file, text)| {
                    for (line, text) in text.lines().enumerate() {
                        for word in
                            text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|w| !w.is_empty())
                        {
                            map.entry(word.to_owned()).or_default().push((file as u32, line as u32));
                        }
                    }
                });
                let lists = map.into_par_iter().map(|(word, mut places)| {
                    places.sort_unstable();
                    places.dedup();
                    (word.len() + places.len()) as u64
                });
                lists.sum::<u64>()
            })
        })
        .0
}

fn full_text(meter: &mut Meter, bytes: u64) -> u64 {
    let files = input::files("rs", bytes as usize);
    let total = files.iter().map(String::len).sum::<usize>() as u64;
    let threads = meter.threads();
    meter
        .time(total, || {
            let mut schema = Schema::builder();
            let line = schema.add_text_field("line", TEXT | STORED);
            let index = Index::create_in_ram(schema.build());
            let mut writer = index.writer_with_num_threads(threads, threads * (20 << 20)).expect("a writer");
            for text in files.iter().flat_map(|text| text.lines()) {
                let mut document = TantivyDocument::default();
                document.add_text(line, text);
                writer.add_document(document).expect("room");
            }
            writer.commit().expect("in memory");
            writer.wait_merging_threads().expect("in memory");
            let searcher = index.reader().expect("a reader").searcher();
            let parser = QueryParser::for_index(&index, vec![line]);
            let count = |query| {
                searcher.search(&parser.parse_query(query).expect("a query"), &Count).expect("an answer")
            };
            let counts = ["unsafe", "alloc AND layout", "\"for the\"", "impl OR trait"].map(count);
            counts.into_iter().fold(0, |sum, count| sum * 31 + count as u64)
        })
        .0
}
