//! What is known of the locks: how often a workload takes each, for how long on one core, and how many cache lines that
//! another core wrote last are read under it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::Context;
use serde::Deserialize;

/// A lock of the heap: there is one for each size in some layers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Name {
    pub(crate) layer: Layer,
    pub(crate) size: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Layer {
    Depot,
    Slabs,
    Segments,
    Metadata,
    Huge,
    Threads,
    Purger,
    /// A lock around nothing: what counting costs.
    Nothing,
    /// How many allocations there were: `taken` of them.
    Allocations,
}

/// How often a lock is taken for each allocation, and for how long on one core, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visit {
    pub(crate) per_allocation: f64,
    pub(crate) held_ns: f64,
}

#[derive(Debug)]
pub(crate) struct Demand {
    pub(crate) name: String,
    pub(crate) visits: BTreeMap<Name, Visit>,
}

#[derive(Deserialize)]
struct Row {
    layer: Layer,
    size: usize,
    taken: f64,
    held_ns: f64,
}

impl Demand {
    /// Reads what the `preload` example wrote, and a last line that says how many allocations there were.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Demand> {
        let in_file = || path.display().to_string();
        let rows: Vec<Row> = csv::Reader::from_path(path)
            .and_then(|mut rows| rows.deserialize().collect())
            .with_context(in_file)?;
        let find = |layer: Layer| {
            rows.iter()
                .find(|row| row.layer == layer)
                .with_context(|| format!("{}: no line for {layer:?}", path.display()))
        };
        let nothing = find(Layer::Nothing)?;
        let counting_ns = nothing.held_ns / nothing.taken;
        let allocations = find(Layer::Allocations)?.taken;
        // A machine of many processors has a line for each group.
        let mut sums = BTreeMap::<Name, (f64, f64)>::new();
        for row in rows
            .iter()
            .filter(|row| !matches!(row.layer, Layer::Nothing | Layer::Allocations | Layer::Purger))
        {
            let (taken, held_ns) = sums.entry(Name { layer: row.layer, size: row.size }).or_default();
            *taken += row.taken;
            *held_ns += row.held_ns;
        }
        let visits = sums
            .into_iter()
            .map(|(name, (taken, held_ns))| {
                let held_ns = (held_ns / taken - counting_ns).max(1.0);
                (name, Visit { per_allocation: taken / allocations, held_ns })
            })
            .collect();
        let name = path.file_stem().map_or_else(in_file, |stem| stem.to_string_lossy().into_owned());
        Ok(Demand { name, visits })
    }
}

impl Layer {
    /// Cache lines that are read or written under the lock, the lock's own among them, and that another core had last. Read
    /// off the code.
    pub(crate) fn lines(self) -> f64 {
        match self {
            // The depot, and the first line of the magazine at the top.
            Layer::Depot => 2.0,
            // The class's two; a slab's descriptor, and the line of its bitmap that has free blocks; the lines that say
            // which slab a block is in stay where they are.
            Layer::Slabs => 4.0,
            // The collection's three, a segment's state, three of it, a neighbour's in the list; the sixteen that say which
            // pages may hold data, of which the others' owners have changed a few.
            Layer::Segments => 12.0,
            // The pool's two, and the first line of a magazine.
            Layer::Metadata => 3.0,
            _ => 2.0,
        }
    }

    /// Whether each group of cores has one of its own.
    pub(crate) fn is_grouped(self) -> bool {
        matches!(self, Layer::Depot | Layer::Slabs)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layer = format!("{:?}", self.layer).to_lowercase();
        if self.size == 0 { f.write_str(&layer) } else { write!(f, "{layer} {}", self.size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch groups of which only the last counts.
    #[test]
    fn the_locks_of_all_groups_count() {
        let path = std::env::temp_dir().join(format!("arenite-scale-{}.csv", std::process::id()));
        let lines = "layer,size,taken,contended,held_ns\ndepot,64,30,0,900\ndepot,64,10,0,300\nnothing,0,10,0,100\n\
                     allocations,0,100,0,0\n";
        std::fs::write(&path, lines).unwrap();
        let demand = Demand::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let visit = demand.visits[&Name { layer: Layer::Depot, size: 64 }];
        assert!(
            (visit.per_allocation - 0.4).abs() < 1e-9 && (visit.held_ns - 20.0).abs() < 1e-9,
            "{visit:?}"
        );
    }
}
