//! Arenite's arenas beside bumpalo, bump-scope, blink-alloc, stumpalo and typed-arena: `arena ARENA --list`, or
//! `arena ARENA WORKLOAD quick|full|COUNT THREADS`. The global allocator is the system's: some take their memory from it.

mod peers;
mod work;

use std::process::ExitCode;

use measure::Workload;
use peers::{Arenite, ArenitePacked, Blink, BumpScope, Bumpalo, Stumpalo, Typed};

type Workloads = fn() -> Vec<Workload>;

/// Each with what it can do.
const ARENAS: [(&str, Workloads); 8] = [
    ("arenite", work::of_all::<Arenite>),
    ("arenite-packed", work::of_all::<ArenitePacked>),
    ("arenite-cursor", work::of_cursor),
    ("bumpalo", work::of_all::<Bumpalo>),
    ("bump-scope", work::of_all::<BumpScope>),
    ("blink-alloc", work::of_all::<Blink>),
    ("stumpalo", work::of_all::<Stumpalo>),
    ("typed-arena", work::of_nodes::<Typed>),
];

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let named = arguments.first().and_then(|name| ARENAS.iter().find(|arena| arena.0 == name));
    let Some((_, workloads)) = named else {
        let names: Vec<&str> = ARENAS.iter().map(|arena| arena.0).collect();
        eprintln!("usage: arena {} …", names.join("|"));
        return ExitCode::from(2);
    };
    arguments.remove(0);
    measure::run_with(&arguments, &[&workloads()])
}
