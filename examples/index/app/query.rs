//! What can be asked, and the answers.

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Bound;
use std::str::FromStr;

use super::text_index::{Index, Posting, TRIGRAM_BYTES};
use super::tokens;

/// A question. It is asked in lower case, and of identifiers also finds the parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Query {
    /// `heap`
    Word(String),
    /// `alloc*`
    Prefix(String),
    /// `*align*`
    Substring(String),
    /// `unsafe impl`: words that follow each other, over the end of a line too
    Phrase(Vec<String>),
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) query: Query,
    /// Places, each once.
    pub(crate) places: usize,
    /// Files with a place.
    pub(crate) files: usize,
    /// The lines with a place, in the order of the files.
    pub(crate) lines: Vec<FoundLine>,
}

/// A line with a place.
#[derive(Debug, Hash)]
pub(crate) struct FoundLine {
    pub(crate) path: String,
    /// From 1.
    pub(crate) number: u32,
    pub(crate) excerpt: String,
}

impl Query {
    pub(crate) fn answer(self, index: &Index) -> Answer {
        let places: BTreeSet<Posting> = match &self {
            Query::Word(word) => postings(index, word).iter().copied().collect(),
            Query::Prefix(prefix) => with_prefix(index, prefix),
            Query::Substring(piece) => with_substring(index, piece),
            Query::Phrase(words) => with_phrase(index, words),
        };
        let hits: BTreeSet<(u32, u32)> = places.iter().map(|place| (place.file, place.line)).collect();
        let files: BTreeSet<u32> = hits.iter().map(|&(file, _)| file).collect();
        let lines = hits.iter().map(|&(file, line)| {
            let file = &index.files[&file];
            FoundLine {
                path: file.path.display().to_string(),
                number: line + 1,
                excerpt: file.lines[line as usize].clone(),
            }
        });
        Answer { query: self, places: places.len(), files: files.len(), lines: lines.collect() }
    }
}

fn postings<'a>(index: &'a Index, word: &str) -> &'a [Posting] {
    index.postings.get(word).map_or(&[], Vec::as_slice)
}

fn with_prefix(index: &Index, prefix: &str) -> BTreeSet<Posting> {
    let from = (Bound::Included(prefix), Bound::Unbounded);
    let words =
        index.sorted.range::<str, _>(from).map(|(word, _)| word).take_while(|word| word.starts_with(prefix));
    words.flat_map(|word| postings(index, word)).copied().collect()
}

fn with_substring(index: &Index, piece: &str) -> BTreeSet<Posting> {
    let trigrams = piece.as_bytes().array_windows::<TRIGRAM_BYTES>();
    let candidates: Vec<&String> =
        match trigrams.map(|three| index.trigrams.get(three)).min_by_key(candidates) {
            // Too short for a trigram: every word may contain it.
            None => index.spellings.iter().collect(),
            Some(numbers) => {
                numbers.into_iter().flatten().map(|&number| &index.spellings[number as usize]).collect()
            }
        };
    let words = candidates.into_iter().filter(|word| word.contains(piece));
    words.flat_map(|word| postings(index, word)).copied().collect()
}

fn candidates(numbers: &Option<&Vec<u32>>) -> usize {
    numbers.map_or(0, Vec::len)
}

fn with_phrase(index: &Index, words: &[String]) -> BTreeSet<Posting> {
    let Some((first, rest)) = words.split_first() else { return BTreeSet::new() };
    let follows = |place: &Posting| {
        (place.word + 1..).zip(rest).all(|(at, word)| {
            let places = postings(index, word);
            places.binary_search_by_key(&(place.file, at), |place| (place.file, place.word)).is_ok()
        })
    };
    postings(index, first).iter().copied().filter(follows).collect()
}

/// One number for all answers: equal where the answers are, whatever the allocator and the number of threads.
pub(crate) fn digest(answers: &[Answer]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for answer in answers {
        (answer.query.to_string(), answer.places, answer.files, &answer.lines).hash(&mut hasher);
    }
    hasher.finish()
}

impl FromStr for Query {
    type Err = String;

    fn from_str(text: &str) -> Result<Query, String> {
        let text = text.trim();
        let words: Vec<&str> = tokens::words(text).collect();
        // Lower case comes after the words are found, as it does when a file is read.
        match words[..] {
            [word] if text == format!("{word}*") => Ok(Query::Prefix(word.to_lowercase())),
            [word] if text == format!("*{word}*") => Ok(Query::Substring(word.to_lowercase())),
            [word] if !text.contains('*') => Ok(Query::Word(word.to_lowercase())),
            [_, _, ..] if !text.contains('*') => {
                Ok(Query::Phrase(words.iter().map(|word| word.to_lowercase()).collect()))
            }
            _ => {
                Err("a query is a word, a begin*, a *piece* of a word, or several words in a row".to_owned())
            }
        }
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Query::Word(word) => f.write_str(word),
            Query::Prefix(prefix) => write!(f, "{prefix}*"),
            Query::Substring(piece) => write!(f, "*{piece}*"),
            Query::Phrase(words) => f.write_str(&words.join(" ")),
        }
    }
}
