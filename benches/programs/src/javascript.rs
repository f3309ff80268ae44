//! A JavaScript parser whose nodes are boxes and vectors of the global allocator. (oxc keeps its trees in an arena of its
//! own, and would measure that.) No package that we depend on ships JavaScript worth parsing, so the input is written here,
//! from a constant seed: functions, classes, objects, templates, patterns, nested as people nest them.

use std::fmt::Write;
use std::hash::{Hash, Hasher};

use fastrand::Rng;
use measure::{Meter, Unit, Workload};
use rustc_hash::FxHasher;
use swc_common::sync::Lrc;
use swc_common::{FileName, SourceMap};
use swc_ecma_ast::{EsVersion, Program};
use swc_ecma_parser::{EsSyntax, Syntax, parse_file_as_program};

pub(crate) const WORKLOADS: &[Workload] = &[Workload {
    name: "swc",
    group: "programs",
    stresses: "swc parses JavaScript into trees of boxes, which are hashed and dropped: time for a byte",
    unit: Unit::CpuNs,
    quick: 1 << 20,
    full: 2 << 20,
    run: parse,
}];

/// A file's size.
const FILE: usize = 64 << 10;

fn parse(meter: &mut Meter, bytes: u64) -> u64 {
    let mut random = Rng::with_seed(91);
    let texts: Vec<String> = (0..bytes as usize / FILE).map(|_| file(&mut random)).collect();
    let total = texts.iter().map(String::len).sum::<usize>() as u64;
    let (sum, _) = meter.time(total, || {
        let mut sum = 0_u64;
        // As a bundler does: all trees of a batch live until its end.
        for batch in texts.chunks(8) {
            let sources = Lrc::new(SourceMap::default());
            let trees: Vec<Program> = batch
                .iter()
                .enumerate()
                .map(|(number, text)| {
                    let name = FileName::Custom(format!("{number}.js"));
                    let file = sources.new_source_file(name.into(), text.clone());
                    let mut errors = Vec::new();
                    let syntax = Syntax::Es(EsSyntax::default());
                    let program =
                        parse_file_as_program(&file, syntax, EsVersion::latest(), None, &mut errors);
                    assert!(errors.is_empty(), "the input is sound: {errors:?}");
                    program.expect("the input is sound")
                })
                .collect();
            // The hash of a tree is that of all that is in it.
            let mut hasher = FxHasher::default();
            trees.hash(&mut hasher);
            sum = sum.wrapping_add(hasher.finish());
        }
        sum
    });
    sum
}

const WORDS: [&str; 24] = [
    "user", "index", "result", "options", "callback", "node", "value", "key", "items", "state", "props",
    "event", "response", "request", "config", "total", "element", "children", "parent", "buffer", "offset",
    "length", "cache", "next",
];

fn file(random: &mut Rng) -> String {
    let mut text = String::from("'use strict';\nimport { base } from './base.js';\n");
    while text.len() < FILE {
        match random.u8(0..3) {
            0 => class(&mut text, random),
            1 => {
                text.push_str("export ");
                function(&mut text, random);
            }
            _ => {
                _ = write!(text, "export const {} = ", name(random));
                expression(&mut text, random, 5);
                text.push_str(";\n");
            }
        }
    }
    text
}

/// Never the same twice in a file but by chance of one in millions: an export has to be unique.
fn name(random: &mut Rng) -> String {
    format!("{}_{:x}", word(random), random.u32(..))
}

fn word(random: &mut Rng) -> &'static str {
    WORDS[random.usize(0..WORDS.len())]
}

fn class(text: &mut String, random: &mut Rng) {
    _ = writeln!(text, "class {} extends base {{\n  #hidden = 1;\n  static count = 0;", name(random));
    for _ in 0..random.u8(2..6) {
        _ = write!(text, "  {}({}, ...rest) ", word(random), word(random));
        block(text, random, 3);
    }
    text.push_str("}\n");
}

fn function(text: &mut String, random: &mut Rng) {
    let is_async = if random.bool() { "async " } else { "" };
    _ = write!(text, "{is_async}function {}({{ {} = 1 }}, [first, ...others]) ", name(random), word(random));
    block(text, random, 4);
}

fn block(text: &mut String, random: &mut Rng, depth: u8) {
    text.push_str("{\n");
    for _ in 0..random.u8(2..6) {
        statement(text, random, depth);
    }
    text.push_str("}\n");
}

fn statement(text: &mut String, random: &mut Rng, depth: u8) {
    match random.u8(0..if depth == 0 { 3 } else { 8 }) {
        0 => {
            _ = write!(text, "const {} = ", name(random));
            expression(text, random, depth);
            text.push_str(";\n");
        }
        1 => {
            _ = write!(text, "{}.{} = ", word(random), word(random));
            expression(text, random, depth);
            text.push_str(";\n");
        }
        2 => {
            expression_call(text, random, depth);
            text.push_str(";\n");
        }
        3 => {
            text.push_str("if (");
            expression(text, random, depth - 1);
            text.push_str(") ");
            block(text, random, depth - 1);
            text.push_str("else ");
            block(text, random, depth - 1);
        }
        4 => {
            _ = write!(text, "for (const [{}, other] of ", word(random));
            expression(text, random, depth - 1);
            text.push_str(") ");
            block(text, random, depth - 1);
        }
        5 => {
            text.push_str("try ");
            block(text, random, depth - 1);
            text.push_str("catch (error) { throw new Error(`failed: ${error.message}`); }\n");
        }
        6 => {
            text.push_str("switch (");
            expression(text, random, 1);
            _ = write!(text, ") {{ case '{}': break; default: ", word(random));
            statement(text, random, depth - 1);
            text.push_str("}\n");
        }
        _ => {
            text.push_str("return ");
            expression(text, random, depth);
            text.push_str(";\n");
        }
    }
}

fn expression(text: &mut String, random: &mut Rng, depth: u8) {
    match random.u8(0..if depth == 0 { 4 } else { 12 }) {
        0 => text.push_str(word(random)),
        1 => _ = write!(text, "{}", random.u16(..)),
        2 => _ = write!(text, "'{} {}'", word(random), word(random)),
        3 => _ = write!(text, "{}.{}[{}]", word(random), word(random), random.u8(..)),
        4 | 5 => expression_call(text, random, depth - 1),
        6 => {
            text.push_str("{ ");
            for _ in 0..random.u8(1..5) {
                _ = write!(text, "{}: ", word(random));
                expression(text, random, depth - 1);
                text.push_str(", ");
            }
            _ = write!(text, "...{} }}", word(random));
        }
        7 => {
            text.push('[');
            for _ in 0..random.u8(1..5) {
                expression(text, random, depth - 1);
                text.push_str(", ");
            }
            text.push(']');
        }
        8 => {
            _ = write!(text, "(({}, {} = 0) => (", word(random), name(random));
            expression(text, random, depth - 1);
            text.push_str("))");
        }
        9 => {
            text.push('(');
            expression(text, random, depth - 1);
            text.push_str(" ?? ");
            _ = write!(text, "{}?.{}", word(random), word(random));
            text.push_str(" ? ");
            expression(text, random, depth - 1);
            text.push_str(" : ");
            expression(text, random, depth - 1);
            text.push(')');
        }
        10 => {
            _ = write!(text, "`{} ${{", word(random));
            expression(text, random, depth - 1);
            text.push_str("} end`");
        }
        _ => {
            text.push('(');
            expression(text, random, depth - 1);
            text.push_str([" + ", " * ", " === ", " && ", " < "][random.usize(0..5)]);
            expression(text, random, depth - 1);
            text.push(')');
        }
    }
}

fn expression_call(text: &mut String, random: &mut Rng, depth: u8) {
    _ = write!(text, "{}.{}(", word(random), word(random));
    for _ in 0..random.u8(0..4) {
        expression(text, random, depth.saturating_sub(1));
        text.push_str(", ");
    }
    _ = write!(text, "/{}[a-z]+/g)", word(random));
}
