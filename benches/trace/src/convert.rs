//! From what was recorded, addresses in the order of a counter, to a stream for each thread, with places for the blocks.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::Path;

use anyhow::{Context, ensure};
use rustc_hash::FxHashMap;

use crate::file::{Header, Op, Place, ThreadInfo, VERSION};
use crate::recorder::{Kind, Raw};

/// Operations in a part of the whole.
const PART: u64 = 8192;

/// A block from where it is made until it is freed or given to `realloc`.
struct Block {
    size: u64,
    align_log2: u8,
    maker: u32,
    /// None: it was never freed.
    ender: Option<u32>,
}

/// An operation on blocks by their numbers.
enum Event {
    Alloc { block: usize, zeroed: bool },
    Free { block: usize },
    Realloc { from: usize, to: usize },
}

/// All that was recorded, in its order.
struct Recording {
    blocks: Vec<Block>,
    /// With the thread's number.
    events: Vec<(u32, Event)>,
    peak_live_bytes: u64,
}

/// Reads what a [`Recorder`](crate::Recorder) has written, and writes it as a trace. Returns its header.
pub fn convert(program: &str, from: &Path, to: &Path) -> anyhow::Result<Header> {
    let mut records = read(from).with_context(|| from.display().to_string())?;
    ensure!(!records.is_empty(), "{}: nothing was recorded", from.display());
    records.sort_unstable_by_key(|record| record.number);
    let Recording { blocks, events, peak_live_bytes } = events(&records)?;
    let threads = records.iter().map(|record| record.thread).max().map_or(0, |most| most as usize + 1);
    let (streams, places, shared) = streams(&blocks, &events, threads);
    let header = Header {
        arenite_trace: VERSION,
        program: program.to_owned(),
        ops: events.len() as u64,
        peak_live_bytes,
        shared,
        threads: streams
            .iter()
            .zip(places)
            .map(|(stream, places)| ThreadInfo { places, bytes: stream.len() as u64 })
            .collect(),
    };
    let mut file = BufWriter::new(File::create(to).with_context(|| to.display().to_string())?);
    serde_json::to_writer(&mut file, &header)?;
    file.write_all(b"\n")?;
    for stream in streams {
        file.write_all(&stream)?;
    }
    file.flush()?;
    Ok(header)
}

fn read(path: &Path) -> anyhow::Result<Vec<Raw>> {
    const LEN: usize = size_of::<Raw>();
    let bytes = fs::metadata(path)?.len() as usize;
    ensure!(bytes.is_multiple_of(LEN), "{bytes} bytes are not a number of records");
    let mut records = Vec::with_capacity(bytes / LEN);
    let mut file = std::io::BufReader::with_capacity(LEN << 12, File::open(path)?);
    let mut line = [0; LEN];
    for _ in 0..bytes / LEN {
        file.read_exact(&mut line)?;
        let word = |at: usize| u64::from_ne_bytes(line[at..at + 8].try_into().expect("eight bytes"));
        records.push(Raw {
            number: word(0),
            address: word(8),
            size: word(16),
            thread: u32::from_ne_bytes(line[24..28].try_into().expect("four bytes")),
            kind: line[28],
            align_log2: line[29],
            unused: 0,
        });
    }
    Ok(records)
}

/// The blocks, what was done with them by whom, and the most bytes that lived at once. What was made before the recording
/// began, or after it had ended on another thread, is left out.
fn events(records: &[Raw]) -> anyhow::Result<Recording> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut events = Vec::with_capacity(records.len());
    let mut living: FxHashMap<u64, usize> = FxHashMap::default();
    let mut in_realloc: FxHashMap<u32, (u64, usize)> = FxHashMap::default();
    let (mut live, mut peak) = (0, 0);
    for record in records {
        let thread = record.thread;
        let mut make = |blocks: &mut Vec<Block>| {
            let (size, align_log2) = (record.size, record.align_log2);
            blocks.push(Block { size, align_log2, maker: thread, ender: None });
            ensure!(
                living.insert(record.address, blocks.len() - 1).is_none(),
                "two blocks at one address: a broken record"
            );
            live += record.size;
            peak = live.max(peak);
            Ok(blocks.len() - 1)
        };
        match Kind::from_number(record.kind).context("a record of no kind")? {
            kind @ (Kind::Alloc | Kind::AllocZeroed) => {
                let block = make(&mut blocks)?;
                events.push((thread, Event::Alloc { block, zeroed: kind == Kind::AllocZeroed }));
            }
            Kind::Free => {
                let Some(block) = living.remove(&record.address) else { continue };
                blocks[block].ender = Some(thread);
                live -= blocks[block].size;
                events.push((thread, Event::Free { block }));
            }
            Kind::ReallocFrom => {
                let Some(block) = living.remove(&record.address) else { continue };
                blocks[block].ender = Some(thread);
                live -= blocks[block].size;
                in_realloc.insert(thread, (record.address, block));
            }
            Kind::ReallocTo => match in_realloc.remove(&thread) {
                Some((address, from)) if record.address == 0 => {
                    // It failed, and the block is still there.
                    blocks[from].ender = None;
                    live += blocks[from].size;
                    living.insert(address, from);
                }
                Some((_, from)) => {
                    let to = make(&mut blocks)?;
                    events.push((thread, Event::Realloc { from, to }));
                }
                None => {
                    let block = make(&mut blocks)?;
                    events.push((thread, Event::Alloc { block, zeroed: false }));
                }
            },
        }
    }
    Ok(Recording { blocks, events, peak_live_bytes: peak })
}

/// Where blocks are held: in tables of the threads, whose places are used again, or where all threads see them.
struct Places<'a> {
    blocks: &'a [Block],
    of_block: Vec<Place>,
    /// By thread: places in its table, and those of them that are empty.
    used: Vec<u32>,
    free: Vec<Vec<u32>>,
    shared: u32,
}

impl Places<'_> {
    fn take(&mut self, block: usize) -> Place {
        let Block { maker, ender, .. } = self.blocks[block];
        let thread = maker as usize;
        let place = if ender.is_none_or(|ender| ender == maker) {
            Place::Own(self.free[thread].pop().unwrap_or_else(|| {
                self.used[thread] += 1;
                self.used[thread] - 1
            }))
        } else {
            self.shared += 1;
            Place::Shared(self.shared - 1)
        };
        self.of_block[block] = place;
        place
    }

    fn give(&mut self, block: usize) -> Place {
        let place = self.of_block[block];
        if let Place::Own(number) = place {
            self.free[self.blocks[block].maker as usize].push(number);
        }
        place
    }
}

/// A stream for each thread, the places in its table, and how many blocks change threads.
fn streams(blocks: &[Block], events: &[(u32, Event)], threads: usize) -> (Vec<Vec<u8>>, Vec<u32>, u32) {
    let mut streams = vec![Vec::new(); threads];
    let mut parts = vec![u32::MAX; threads];
    let mut places = Places {
        blocks,
        of_block: vec![Place::Own(0); blocks.len()],
        used: vec![0; threads],
        free: vec![Vec::new(); threads],
        shared: 0,
    };
    for (number, (thread, event)) in events.iter().enumerate() {
        let stream = &mut streams[*thread as usize];
        let part = (number as u64 / PART) as u32;
        if std::mem::replace(&mut parts[*thread as usize], part) != part {
            Op::Part(part).write(stream);
        }
        let op = match *event {
            Event::Alloc { block, zeroed } => {
                let Block { size, align_log2, .. } = blocks[block];
                Op::Alloc { place: places.take(block), size, align_log2, zeroed }
            }
            Event::Free { block } => Op::Free { place: places.give(block) },
            Event::Realloc { from, to } => {
                let from = places.give(from);
                Op::Realloc { from, to: places.take(to), size: blocks[to].size }
            }
        };
        op.write(stream);
    }
    (streams, places.used, places.shared)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::Trace;

    /// The records as the recorder writes them, in an order of threads' buffers and not of time.
    fn convert_records(records: &[(u64, u32, Kind, u64, u64)]) -> anyhow::Result<(Trace, Vec<Vec<Op>>)> {
        let folder = tempfile::tempdir()?;
        let (raw, to) = (folder.path().join("raw"), folder.path().join("trace"));
        let mut bytes = Vec::new();
        for &(number, thread, kind, address, size) in records {
            bytes.extend([number, address, size].map(u64::to_ne_bytes).concat());
            bytes.extend(thread.to_ne_bytes());
            bytes.extend([kind as u8, 3, 0, 0]);
        }
        fs::write(&raw, bytes)?;
        convert("test", &raw, &to)?;
        let trace = Trace::open(&to)?;
        let mut threads = Vec::new();
        for thread in 0..trace.header.threads.len() {
            let (mut stream, mut ops) = (trace.stream(thread), Vec::new());
            while let Some(op) = stream.next_op()? {
                ops.push(op);
            }
            threads.push(ops);
        }
        Ok((trace, threads))
    }

    /// Catches blocks that are mistaken for each other when an address is used again, by one thread or by another.
    #[test]
    fn an_address_is_another_block_each_time() -> anyhow::Result<()> {
        let (trace, threads) = convert_records(&[
            // The second thread's buffer was written first.
            (3, 1, Kind::Free, 0x10, 8),
            (4, 1, Kind::Alloc, 0x10, 24),
            (5, 1, Kind::ReallocFrom, 0x10, 24),
            (6, 1, Kind::ReallocTo, 0x20, 4000),
            (0, 0, Kind::Alloc, 0x10, 16),
            (1, 0, Kind::Free, 0x10, 16),
            (2, 0, Kind::AllocZeroed, 0x10, 8),
        ])?;
        let part = Op::Part(0);
        let own = Place::Own(0);
        let shared = Place::Shared(0);
        assert_eq!(
            threads,
            [
                vec![
                    part,
                    Op::Alloc { place: own, size: 16, align_log2: 3, zeroed: false },
                    Op::Free { place: own },
                    Op::Alloc { place: shared, size: 8, align_log2: 3, zeroed: true },
                ],
                vec![
                    part,
                    Op::Free { place: shared },
                    Op::Alloc { place: own, size: 24, align_log2: 3, zeroed: false },
                    Op::Realloc { from: own, to: own, size: 4000 },
                ],
            ]
        );
        let header = trace.header;
        assert_eq!((header.ops, header.shared, header.peak_live_bytes), (6, 1, 4000));
        assert_eq!(header.threads.iter().map(|thread| thread.places).collect::<Vec<_>>(), [1, 1]);
        Ok(())
    }

    /// Catches a block that is lost when `realloc` fails, and records from before and after the recording.
    #[test]
    fn what_failed_or_came_too_early_changes_nothing() -> anyhow::Result<()> {
        let (_, threads) = convert_records(&[
            (0, 0, Kind::Free, 0x99, 1),
            (1, 0, Kind::Alloc, 0x10, 16),
            (2, 0, Kind::ReallocFrom, 0x10, 16),
            (3, 0, Kind::ReallocTo, 0, 1 << 60),
            (4, 0, Kind::Free, 0x10, 16),
        ])?;
        let place = Place::Own(0);
        let alloc = Op::Alloc { place, size: 16, align_log2: 3, zeroed: false };
        assert_eq!(threads, [vec![Op::Part(0), alloc, Op::Free { place }]]);
        Ok(())
    }

    /// Catches a reader that loses its place at the end of its buffer.
    #[test]
    fn a_stream_longer_than_the_buffer_comes_back_whole() -> anyhow::Result<()> {
        let records: Vec<_> =
            (0..100_000).map(|n| (n, 0, Kind::Alloc, 8 + n * 1_000_003, 1 + (n << (n % 20)))).collect();
        let (_, threads) = convert_records(&records)?;
        let sizes = threads[0].iter().filter_map(|op| match op {
            Op::Alloc { size, .. } => Some(*size),
            _ => None,
        });
        assert!(sizes.eq(records.iter().map(|record| record.4)));
        assert_eq!(threads[0].iter().filter(|op| matches!(op, Op::Part(_))).count(), 13);
        Ok(())
    }

    #[test]
    fn two_blocks_at_one_address_are_refused() {
        let records = [(0, 0, Kind::Alloc, 0x10, 8), (1, 1, Kind::Alloc, 0x10, 8)];
        assert!(convert_records(&records).is_err());
    }
}
