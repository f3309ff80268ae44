//! Parsers: trees of many small nodes, made and dropped.

use std::hint::black_box;

use measure::{Meter, Unit, Workload};
use serde_json::Value;
use syn::visit::Visit;

use crate::input;

pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "syn",
        group: "programs",
        stresses: "syn parses the sources of the dependencies, and the trees are walked: time for a byte",
        unit: Unit::CpuNs,
        quick: 1 << 20,
        full: 3 << 20,
        run: syn_parse,
    },
    Workload {
        name: "serde-json",
        group: "programs",
        stresses: "serde_json reads cargo's metadata as values, changes them, writes them: time for a byte",
        unit: Unit::CpuNs,
        quick: 2,
        full: 6,
        run: json,
    },
    Workload {
        name: "regex",
        group: "programs",
        stresses: "regex compiles twelve patterns, Unicode classes among them: time for one",
        unit: Unit::CpuNs,
        quick: 240,
        full: 720,
        run: regexes,
    },
];

struct Count(u64);

impl<'ast> Visit<'ast> for Count {
    fn visit_expr(&mut self, expr: &'ast syn::Expr) {
        self.0 += 1;
        syn::visit::visit_expr(self, expr);
    }

    fn visit_ident(&mut self, _: &'ast syn::Ident) {
        self.0 += 1;
    }
}

fn syn_parse(meter: &mut Meter, bytes: u64) -> u64 {
    let files = input::files("rs", bytes as usize);
    let total = files.iter().map(String::len).sum::<usize>() as u64;
    let (count, _) = meter.time(total, || {
        let mut count = Count(0);
        // All trees live until the end of their package's worth.
        for some in files.chunks(40) {
            let trees: Vec<syn::File> = some.iter().filter_map(|text| syn::parse_file(text).ok()).collect();
            trees.iter().for_each(|tree| count.visit_file(tree));
        }
        count.0
    });
    assert!(count > 10_000, "hardly anything was parsed");
    count
}

fn json(meter: &mut Meter, rounds: u64) -> u64 {
    let text = input::metadata();
    // Where the packages lie differs from machine to machine, and the length with it.
    let ((), _) = meter.time(rounds * text.len() as u64, || {
        for round in 0..rounds {
            let mut value: Value = serde_json::from_str(&text).expect("cargo writes JSON");
            let kept = value.clone();
            for package in value["packages"].as_array_mut().expect("packages") {
                package["round"] = Value::from(round);
                package.as_object_mut().expect("an object").remove("description");
            }
            let written = serde_json::to_string(&value).expect("a value");
            let again: Value = serde_json::from_str(&written).expect("what was just written");
            assert_eq!(again, value);
            black_box(kept);
        }
    });
    text.len() as u64
}

const PATTERNS: [&str; 12] = [
    r"\b\w+ing\b",
    r"(?i)unsafe\s+(fn|impl|trait)\s+(\w+)",
    r"^\p{Lu}\p{Ll}+(\s\p{Lu}\p{Ll}+)*$",
    r"[\w.+-]+@[\w-]+\.[\w.-]+",
    r"(\d{1,3}\.){3}\d{1,3}",
    r"(?x) (?P<year>\d{4}) - (?P<month>\d{2}) - (?P<day>\d{2})",
    r"\p{Greek}+|\p{Cyrillic}+|\p{Han}+",
    r#""([^"\\]|\\.)*""#,
    r"(alloc|dealloc|realloc|grow|shrink)(_zeroed)?\(",
    r"https?://[^\s/]+(/[^\s]*)?",
    r"[[:alpha:]_][[:alnum:]_]*::<.*?>",
    r"(a|b|c|d|e){2,40}f",
];

fn regexes(meter: &mut Meter, ops: u64) -> u64 {
    let text = "unsafe fn alloc_zeroed(layout: Layout) at https://example.org/2026-11-23 by Ada Lovelace <ada@example.org>";
    meter.warmed(ops, |ops| {
        let mut sum = 0;
        for n in 0..ops as usize {
            let regex = regex::Regex::new(PATTERNS[n % PATTERNS.len()]).expect("a sound pattern");
            sum += regex.find_iter(black_box(text)).map(|found| found.len() as u64 + 1).sum::<u64>();
        }
        sum
    })
}
