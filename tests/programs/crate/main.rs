//! Uses the generated module and the macro, with threads, and leaves the compiler something to warn of.

use std::collections::{BTreeMap, HashMap};

mod generated {
    include!(concat!(env!("OUT_DIR"), "/generated.rs"));
}

fn unused(argument: u32) -> u32 {
    let also_unused = 1;
    7
}

fn main() {
    println!("{}", shout::shout!(read with the eyes));
    let sums: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|part| {
                scope.spawn(move || {
                    let functions = generated::ALL.iter().skip(part).step_by(4);
                    functions.flat_map(|function| function(200)).flatten().sum()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    println!("{sums:?}");
    let words: HashMap<String, usize> = (0..50_000).map(|i| (format!("word {i}"), i)).collect();
    let sorted: BTreeMap<_, _> = words.iter().filter(|(_, i)| **i % 9999 == 3).collect();
    println!("{sorted:?}");
}
