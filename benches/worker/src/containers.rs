//! What programs do: text, maps, trees.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::hint::black_box;

use measure::{Meter, Unit, Workload};
use rustc_hash::FxHashMap;

pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "strings",
        group: "micro",
        stresses: "sentences formatted, split into owned words, sorted, joined: many short strings, a few that grow",
        unit: Unit::CpuNs,
        quick: 200_000,
        full: 400_000,
        run: strings,
    },
    Workload {
        name: "hash-map",
        group: "micro",
        stresses: "a map from words to lists of numbers, filled, changed and emptied again: rehashing, small vectors",
        unit: Unit::CpuNs,
        quick: 200_000,
        full: 400_000,
        run: hash_map,
    },
    Workload {
        name: "btree-map",
        group: "micro",
        stresses: "an ordered map with boxed values, a random half replaced again and again",
        unit: Unit::CpuNs,
        quick: 300_000,
        full: 800_000,
        run: btree_map,
    },
];

fn strings(meter: &mut Meter, ops: u64) -> u64 {
    meter.warmed(ops, |ops| {
        let mut sum = 0;
        let mut n = 0_u64;
        while n < ops {
            let mut text = String::new();
            for _ in 0..1000 {
                n += 1;
                _ = write!(text, "the {}th word, {:x} in sixteens; ", n, n.wrapping_mul(0x9e37_79b9));
            }
            let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
            words.sort_unstable();
            words.dedup();
            let joined = words.iter().map(|word| format!("<{word}>")).collect::<Vec<_>>().join("\n");
            sum += black_box(joined).len() as u64;
        }
        sum
    })
}

fn hash_map(meter: &mut Meter, ops: u64) -> u64 {
    meter.warmed(ops, |ops| {
        let mut random = fastrand::Rng::with_seed(21);
        let mut map: FxHashMap<String, Vec<u32>> = FxHashMap::default();
        for n in 0..ops as u32 {
            // Few words are often there, many seldom.
            let most = random.u32(0..200_000);
            let word = random.u32(0..=most);
            map.entry(format!("word-{word}")).or_default().push(n);
            if n % 4 == 3 {
                map.remove(&format!("word-{}", random.u32(0..200_000)));
            }
        }
        map.iter().map(|(word, uses)| (word.len() + uses.len()) as u64).sum()
    })
}

fn btree_map(meter: &mut Meter, ops: u64) -> u64 {
    meter.warmed(ops, |ops| {
        let mut random = fastrand::Rng::with_seed(22);
        let mut map: BTreeMap<u32, Box<[u8]>> = BTreeMap::new();
        for n in 0..ops {
            let key = random.u32(0..100_000);
            if n % 2 == 0 {
                map.insert(key, vec![n as u8; random.usize(1..200)].into_boxed_slice());
            } else {
                map.remove(&key);
            }
        }
        map.iter().map(|(key, value)| u64::from(*key) + value.len() as u64 + u64::from(value[0])).sum()
    })
}
