//! The index: built by every worker for the files that it took, merged, then sorted and made searchable.
//!
//! The shape is the one that a text tool's author would write first: owned strings in maps of vectors. Millions of
//! small blocks, vectors that grow and shrink, strings that one thread makes and another drops.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use indicatif::ProgressBar;
use rayon::prelude::*;

use super::sources::{self, Skipped};
use super::tokens;

/// How much of a line is kept, to show it in an answer.
const MAX_EXCERPT_CHARS: usize = 120;
/// The shortest piece of a word that the index finds without looking at every word.
pub(crate) const TRIGRAM_BYTES: usize = 3;

/// A place of a word. Sorts by file, then by place in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Posting {
    /// Number in the sorted list of files.
    pub(crate) file: u32,
    /// How many words of the file stand before this one. The parts of an identifier stand where it stands.
    pub(crate) word: u32,
    /// From 0.
    pub(crate) line: u32,
}

/// A file's name, and the excerpts of its lines.
#[derive(Debug)]
pub(crate) struct TextFile {
    pub(crate) path: PathBuf,
    pub(crate) lines: Vec<String>,
}

/// Sums over all files.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) files: usize,
    pub(crate) bytes: u64,
    pub(crate) lines: usize,
    pub(crate) words: u64,
    /// Words that differ, parts of identifiers included.
    pub(crate) different: usize,
}

/// The finished index; all words in it are lower case.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) files: BTreeMap<u32, TextFile>,
    /// Where each word stands, sorted, each place once.
    pub(crate) postings: HashMap<String, Vec<Posting>>,
    /// All words, for what they begin with; each with its number in `spellings`.
    pub(crate) sorted: BTreeMap<String, u32>,
    /// All words by number.
    pub(crate) spellings: Vec<String>,
    /// For three bytes, the numbers of the words that contain them.
    pub(crate) trigrams: HashMap<[u8; TRIGRAM_BYTES], Vec<u32>>,
    bytes: u64,
    words: u64,
}

/// What one worker made of the files that it took.
#[derive(Debug, Default)]
struct Partial {
    files: BTreeMap<u32, TextFile>,
    postings: HashMap<String, Vec<Posting>>,
    skipped: Vec<Skipped>,
    bytes: u64,
    words: u64,
}

/// Reads and indexes `paths` on the threads of the pool that this is called in. The result does not depend on their
/// number.
pub(crate) fn build(paths: &[PathBuf], bar: &ProgressBar) -> (Index, Vec<Skipped>) {
    let next = AtomicU32::new(0);
    let partials = rayon::broadcast(|_| Partial::of_files(paths, &next, bar));
    let mut merged = partials.into_par_iter().reduce(Partial::default, Partial::merge);
    merged.skipped.sort_unstable();
    let skipped = std::mem::take(&mut merged.skipped);
    (merged.finish(), skipped)
}

impl Partial {
    /// Takes files, one at a time, until none is left.
    fn of_files(paths: &[PathBuf], next: &AtomicU32, bar: &ProgressBar) -> Partial {
        let mut partial = Partial::default();
        loop {
            // Relaxed: the number alone is shared; `paths` was there before the workers.
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(path) = paths.get(number as usize) else { return partial };
            match sources::read(path) {
                Ok(text) => partial.add(number, path.clone(), &text),
                Err(skipped) => partial.skipped.push(skipped),
            }
            bar.inc(1);
        }
    }

    fn add(&mut self, file: u32, path: PathBuf, text: &str) {
        let mut lines = Vec::new();
        let mut word = 0;
        for (line, content) in (0..).zip(text.lines()) {
            for spelling in tokens::words(content) {
                let posting = Posting { file, word, line };
                self.note(spelling, posting);
                let parts = tokens::parts(spelling);
                if parts.len() > 1 {
                    parts.into_iter().for_each(|part| self.note(part, posting));
                }
                word += 1;
            }
            lines.push(excerpt(content));
        }
        self.bytes += text.len() as u64;
        self.words += u64::from(word);
        self.files.insert(file, TextFile { path, lines });
    }

    fn note(&mut self, spelling: &str, posting: Posting) {
        self.postings.entry(spelling.to_lowercase()).or_default().push(posting);
    }

    fn merge(self, other: Partial) -> Partial {
        let (mut into, from) =
            if self.postings.len() < other.postings.len() { (other, self) } else { (self, other) };
        into.files.extend(from.files);
        for (word, postings) in from.postings {
            match into.postings.entry(word) {
                Entry::Occupied(mut known) => known.get_mut().extend(postings),
                Entry::Vacant(new) => {
                    new.insert(postings);
                }
            }
        }
        into.skipped.extend(from.skipped);
        into.bytes += from.bytes;
        into.words += from.words;
        into
    }

    fn finish(mut self) -> Index {
        self.postings.par_iter_mut().for_each(|(_, postings)| {
            postings.sort_unstable();
            postings.dedup();
            postings.shrink_to_fit();
        });
        let mut spellings: Vec<String> = self.postings.keys().cloned().collect();
        spellings.par_sort_unstable();
        let sorted = spellings.iter().cloned().zip(0..).collect();
        let mut trigrams: HashMap<[u8; TRIGRAM_BYTES], Vec<u32>> = HashMap::new();
        for (number, spelling) in (0..).zip(&spellings) {
            for trigram in spelling.as_bytes().array_windows() {
                let numbers = trigrams.entry(*trigram).or_default();
                // A word may contain the same three bytes twice.
                if numbers.last() != Some(&number) {
                    numbers.push(number);
                }
            }
        }
        let Partial { files, postings, bytes, words, .. } = self;
        Index { files, postings, sorted, spellings, trigrams, bytes, words }
    }
}

impl Index {
    pub(crate) fn totals(&self) -> Totals {
        Totals {
            files: self.files.len(),
            bytes: self.bytes,
            lines: self.files.values().map(|file| file.lines.len()).sum(),
            words: self.words,
            different: self.postings.len(),
        }
    }
}

/// The beginning of a line, safe to print: what would steer a terminal becomes a space.
fn excerpt(line: &str) -> String {
    line.trim().chars().take(MAX_EXCERPT_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
