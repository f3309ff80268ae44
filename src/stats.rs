//! What the heap holds: a snapshot as a value, a table, JSON. Gathering it costs the fast paths nothing, and printing it
//! allocates nothing.

use core::fmt;

use crate::heap::usage::{self, Usage};

/// How many size classes there are.
const CLASSES: usize = usage::CLASSES;

/// Blocks of one size class.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ClassStats {
    /// Bytes in a block.
    pub size: usize,
    /// Slabs that hold blocks of this class. A block above 32 KiB is a slab of one.
    pub slabs: usize,
    /// Blocks that callers hold.
    pub in_use: usize,
    /// Free blocks in the caches of threads.
    pub in_caches: usize,
    /// Free blocks where threads exchange them.
    pub in_depot: usize,
}

/// What the heap held when [`stats`] was called, in bytes where nothing else is said.
///
/// Taken layer by layer while other threads go on: sums are exact when nothing else runs. `Display` prints a table,
/// [`Stats::write_json`] JSON, neither allocates; with the feature `serde` it is `Serialize` too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Stats {
    /// Address space taken from the system. Most of it is never touched.
    pub reserved: usize,
    /// The part of it that may be read and written, without the room that huge blocks have to grow. Untouched pages of
    /// it are not resident.
    pub committed: usize,
    /// In blocks that callers hold, rounded up to their classes.
    pub in_use: usize,
    /// In free blocks in the caches of threads.
    pub in_caches: usize,
    /// In free blocks where threads exchange them, or kept for a moment.
    pub in_depot: usize,
    /// Free, out of any cache, and kept for reuse until the purge delay has passed.
    pub retained: usize,
    /// For what the heap knows about itself, apart from the headers of segments.
    pub metadata: usize,
    /// Given back to the system since the process began.
    pub purged: u64,
    /// Mappings that the heap made and holds: regions, huge blocks, metadata.
    pub mappings: usize,
    /// Segments of 32 MiB in use.
    pub segments: usize,
    /// Huge blocks that callers hold, each with a mapping of its own.
    pub huge_blocks: usize,
    /// Bytes in them, which `in_use` includes.
    pub huge_bytes: usize,
    /// Threads that have used the heap and run.
    pub threads: usize,
    #[cfg_attr(feature = "serde", serde(serialize_with = "serialize_classes"))]
    classes: [ClassStats; CLASSES],
}

/// What the heap holds now.
///
/// ```
/// let stats = arenite::stats();
/// assert!(stats.in_use <= stats.committed);
/// println!("{stats}");
/// ```
#[must_use]
pub fn stats() -> Stats {
    Stats::from(&usage::usage())
}

impl From<&Usage> for Stats {
    fn from(usage: &Usage) -> Stats {
        let mut classes = [ClassStats::default(); CLASSES];
        for (class, usage) in classes.iter_mut().zip(&usage.classes) {
            *class = ClassStats {
                size: usage.size,
                slabs: usage.slabs,
                // Blocks move while the layers are counted.
                in_use: usage.out.saturating_sub(usage.in_caches + usage.in_depot),
                in_caches: usage.in_caches,
                in_depot: usage.in_depot,
            };
        }
        let bytes = |blocks: fn(&ClassStats) -> usize| {
            classes.iter().map(|class| blocks(class) * class.size).sum::<usize>()
        };
        let huge = &usage.huge;
        Stats {
            reserved: usage.reserved + huge.mapped + usage.metadata.reserved,
            committed: usage.committed + huge.bytes + huge.kept_bytes + usage.metadata.committed,
            in_use: bytes(|class| class.in_use) + huge.bytes,
            in_caches: bytes(|class| class.in_caches),
            in_depot: bytes(|class| class.in_depot) + huge.kept_bytes,
            retained: usage.retained,
            metadata: usage.metadata.committed,
            purged: usage.given_back,
            mappings: usage.regions + huge.blocks + huge.kept + usage.metadata.chunks,
            segments: usage.segments,
            huge_blocks: huge.blocks,
            huge_bytes: huge.bytes,
            threads: usage.threads,
            classes,
        }
    }
}

impl Stats {
    /// The size classes that hold anything, the smallest first.
    pub fn classes(&self) -> impl Iterator<Item = &ClassStats> {
        self.classes.iter().filter(|class| class.slabs > 0)
    }

    /// Writes it as one JSON object, in which `classes` is an array of objects.
    ///
    /// # Errors
    /// Those of `out`.
    ///
    /// ```
    /// let mut json = String::new();
    /// arenite::stats().write_json(&mut json)?;
    /// assert!(json.starts_with("{\"reserved\":"));
    /// # Ok::<(), std::fmt::Error>(())
    /// ```
    pub fn write_json(&self, out: &mut impl fmt::Write) -> fmt::Result {
        let mut before = '{';
        for (name, value) in self.rows() {
            write!(out, "{before}\"{name}\":{value}")?;
            before = ',';
        }
        out.write_str(",\"classes\":")?;
        let mut before = '[';
        for ClassStats { size, slabs, in_use, in_caches, in_depot } in self.classes() {
            write!(out, "{before}{{\"size\":{size},\"slabs\":{slabs},\"in_use\":{in_use},")?;
            write!(out, "\"in_caches\":{in_caches},\"in_depot\":{in_depot}}}")?;
            before = ',';
        }
        out.write_str(if before == '[' { "[]}" } else { "]}" })
    }

    fn rows(&self) -> [(&'static str, u64); 13] {
        [
            ("reserved", self.reserved as u64),
            ("committed", self.committed as u64),
            ("in_use", self.in_use as u64),
            ("in_caches", self.in_caches as u64),
            ("in_depot", self.in_depot as u64),
            ("retained", self.retained as u64),
            ("metadata", self.metadata as u64),
            ("purged", self.purged),
            ("mappings", self.mappings as u64),
            ("segments", self.segments as u64),
            ("huge_blocks", self.huge_blocks as u64),
            ("huge_bytes", self.huge_bytes as u64),
            ("threads", self.threads as u64),
        ]
    }
}

/// How many of [`Stats::rows`] are bytes, from the first on; `huge_bytes` is the one behind them.
const BYTE_ROWS: usize = 8;

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (name, value)) in self.rows().into_iter().enumerate() {
            if i < BYTE_ROWS || name == "huge_bytes" {
                writeln!(f, "{name:<12} {:>12}", Bytes(value))?;
            } else {
                writeln!(f, "{name:<12} {value:>12}")?;
            }
        }
        write!(f, "{:>12} {:>9} {:>11} {:>10} {:>10}", "class", "slabs", "in_use", "in_caches", "in_depot")?;
        for ClassStats { size, slabs, in_use, in_caches, in_depot } in self.classes() {
            let size = Bytes(*size as u64);
            write!(f, "\n{size:>12} {slabs:>9} {in_use:>11} {in_caches:>10} {in_depot:>10}")?;
        }
        Ok(())
    }
}

/// A number of bytes, printed in the largest unit that leaves at least one before the point.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
        let width = f.width().unwrap_or(0);
        if self.0 < 1 << 10 {
            return write!(f, "{:>1$} B  ", self.0, width.saturating_sub(4));
        }
        let unit = ((self.0.ilog2() / 10) as usize).min(UNITS.len());
        let value = self.0 as f64 / (1_u64 << (10 * unit)) as f64;
        write!(f, "{value:>0$.2} {1}", width.saturating_sub(4), UNITS[unit - 1])
    }
}

#[cfg(feature = "serde")]
fn serialize_classes<S: serde::Serializer>(
    classes: &[ClassStats; CLASSES],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(classes.iter().filter(|class| class.slabs > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_keep_their_column() {
        let lines = [0, 1023, 1024, 1536, 10 << 20, 3 << 30, u64::MAX].map(|n| format!("{:>12}|", Bytes(n)));
        assert_eq!(lines[0], "       0 B  |");
        assert_eq!(lines[3], "    1.50 KiB|");
        assert!(lines[..6].iter().all(|line| line.len() == 13), "{lines:?}");
    }
}
