//! The file: a line of JSON that says what is in it, then the stream of each thread, numbers as LEB128.
//!
//! An operation is a number whose lowest three bits are its kind, then two bits for where its blocks are held, then the
//! logarithm of the alignment; behind it the places, and the size. A block that the thread frees which has made it lies in a
//! table of that thread, whose places are used again; a block that changes threads has a place that all threads see, and no
//! other block ever has it.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};

pub(crate) const VERSION: u32 = 1;

/// What the first line says.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Header {
    /// The version of the format.
    pub arenite_trace: u32,
    /// What was recorded.
    pub program: String,
    /// Operations of all threads: a `realloc` is one.
    pub ops: u64,
    /// The most bytes that were asked for and not freed at once.
    pub peak_live_bytes: u64,
    /// Blocks that change threads.
    pub shared: u32,
    pub threads: Vec<ThreadInfo>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ThreadInfo {
    /// Places in its table.
    pub places: u32,
    /// Length of its stream in the file.
    pub bytes: u64,
}

/// Where a block is held while it lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    Own(u32),
    Shared(u32),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    Alloc {
        place: Place,
        size: u64,
        align_log2: u8,
        zeroed: bool,
    },
    Free {
        place: Place,
    },
    Realloc {
        from: Place,
        to: Place,
        size: u64,
    },
    /// What follows belongs to this part of the whole, which begins when all threads are done with all parts before the
    /// last: so that the threads stay as near to each other as they were.
    Part(u32),
}

const ALLOC: u64 = 0;
const ALLOC_ZEROED: u64 = 1;
const FREE: u64 = 2;
const REALLOC: u64 = 3;
const PART: u64 = 4;

impl Op {
    pub(crate) fn write(self, to: &mut Vec<u8>) {
        let split = |place| match place {
            Place::Own(number) => (0, u64::from(number)),
            Place::Shared(number) => (1, u64::from(number)),
        };
        let mut put = |number: u64| {
            let mut buffer = unsigned_varint::encode::u64_buffer();
            to.extend_from_slice(unsigned_varint::encode::u64(number, &mut buffer));
        };
        match self {
            Op::Alloc { place, size, align_log2, zeroed } => {
                let (shared, place) = split(place);
                put(if zeroed { ALLOC_ZEROED } else { ALLOC } | shared << 3 | u64::from(align_log2) << 5);
                put(place);
                put(size);
            }
            Op::Free { place } => {
                let (shared, place) = split(place);
                put(FREE | shared << 3);
                put(place);
            }
            Op::Realloc { from, to, size } => {
                let ((from_shared, from), (to_shared, to)) = (split(from), split(to));
                put(REALLOC | from_shared << 3 | to_shared << 4);
                put(from);
                put(to);
                put(size);
            }
            Op::Part(part) => {
                put(PART);
                put(u64::from(part));
            }
        }
    }
}

/// A file, open.
#[derive(Debug)]
pub struct Trace {
    pub header: Header,
    file: File,
    /// Where the first stream begins.
    start: u64,
}

impl Trace {
    pub fn open(path: &Path) -> anyhow::Result<Trace> {
        let context = || path.display().to_string();
        let file = File::open(path).with_context(context)?;
        let mut line = Vec::new();
        BufReader::new(&file).read_until(b'\n', &mut line).with_context(context)?;
        let header: Header = serde_json::from_slice(&line)
            .context("not a trace: its first line is not a trace's")
            .with_context(context)?;
        let streams: u64 = header.threads.iter().map(|thread| thread.bytes).sum();
        ensure!(
            header.arenite_trace == VERSION,
            "{}: a trace of version {}",
            path.display(),
            header.arenite_trace
        );
        ensure!(
            file.metadata()?.len() == line.len() as u64 + streams,
            "{}: not a whole trace",
            path.display()
        );
        Ok(Trace { header, file, start: line.len() as u64 })
    }

    /// What this thread did. Nothing is read before it is asked for, and little is held: 64 KiB.
    pub fn stream(&self, thread: usize) -> Stream<'_> {
        let before: u64 = self.header.threads[..thread].iter().map(|thread| thread.bytes).sum();
        let at = self.start + before;
        Stream {
            file: &self.file,
            at,
            end: at + self.header.threads[thread].bytes,
            buffer: vec![0; 64 << 10].into_boxed_slice(),
            next: 0,
            filled: 0,
        }
    }
}

/// The operations of one thread.
#[derive(Debug)]
pub struct Stream<'a> {
    file: &'a File,
    /// What of the file was not read yet.
    at: u64,
    end: u64,
    buffer: Box<[u8]>,
    /// What of the buffer was not decoded yet.
    next: usize,
    filled: usize,
}

impl Stream<'_> {
    /// The next operation; an error where the file cannot be read or holds something else.
    #[inline]
    pub fn next_op(&mut self) -> anyhow::Result<Option<Op>> {
        // No operation is longer than four numbers.
        if self.filled - self.next < 40 && self.at < self.end {
            self.fill()?;
        }
        if self.next == self.filled {
            return Ok(None);
        }
        let tag = self.number()?;
        let place = |shared: u64, number: u64| {
            let number = u32::try_from(number)?;
            anyhow::Ok(if shared & 1 == 0 { Place::Own(number) } else { Place::Shared(number) })
        };
        Ok(Some(match tag & 7 {
            kind @ (ALLOC | ALLOC_ZEROED) => Op::Alloc {
                place: place(tag >> 3, self.number()?)?,
                size: self.number()?,
                align_log2: u8::try_from(tag >> 5)?,
                zeroed: kind == ALLOC_ZEROED,
            },
            FREE => Op::Free { place: place(tag >> 3, self.number()?)? },
            REALLOC => Op::Realloc {
                from: place(tag >> 3, self.number()?)?,
                to: place(tag >> 4, self.number()?)?,
                size: self.number()?,
            },
            PART => Op::Part(u32::try_from(self.number()?)?),
            other => bail!("no operation has the number {other}"),
        }))
    }

    fn number(&mut self) -> anyhow::Result<u64> {
        let bytes = &self.buffer[self.next..self.filled];
        let (number, rest) =
            unsigned_varint::decode::u64(bytes).context("the trace ends within an operation")?;
        self.next += bytes.len() - rest.len();
        Ok(number)
    }

    #[cold]
    fn fill(&mut self) -> anyhow::Result<()> {
        self.buffer.copy_within(self.next..self.filled, 0);
        self.filled -= self.next;
        self.next = 0;
        let room = (self.buffer.len() - self.filled).min((self.end - self.at) as usize);
        self.file.read_exact_at(&mut self.buffer[self.filled..self.filled + room], self.at)?;
        self.filled += room;
        self.at += room as u64;
        Ok(())
    }
}
