//! The same tree twice: in an arena and in boxes.

use arenite::Arena;
use arenite::arena::{Handle, Root, Rooted};

use crate::parser::{Build, Error, Scalar, parse};

/// A value whose parts lie in an arena.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Value<'a> {
    Scalar(Scalar),
    String(&'a str),
    Array(&'a [Value<'a>]),
    Object(&'a [(&'a str, Value<'a>)]),
}

/// A value whose parts lie in boxes.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum BoxValue {
    Scalar(Scalar),
    String(Box<str>),
    Array(Box<[BoxValue]>),
    Object(Box<[(Box<str>, BoxValue)]>),
}

struct InArena<'a>(Handle<'a>);

impl<'a> Build for InArena<'a> {
    type Text = &'a str;
    type Value = Value<'a>;

    #[inline]
    fn text(&mut self, text: &str) -> &'a str {
        self.0.alloc_str(text)
    }
    #[inline]
    fn scalar(&mut self, scalar: Scalar) -> Value<'a> {
        Value::Scalar(scalar)
    }
    #[inline]
    fn string(&mut self, text: &'a str) -> Value<'a> {
        Value::String(text)
    }
    #[inline]
    fn array(&mut self, values: impl ExactSizeIterator<Item = Value<'a>>) -> Value<'a> {
        Value::Array(self.0.alloc_slice_exact(values))
    }
    #[inline]
    fn object(&mut self, members: impl ExactSizeIterator<Item = (&'a str, Value<'a>)>) -> Value<'a> {
        Value::Object(self.0.alloc_slice_exact(members))
    }
}

struct InBoxes;

impl Build for InBoxes {
    type Text = Box<str>;
    type Value = BoxValue;

    fn text(&mut self, text: &str) -> Box<str> {
        text.into()
    }
    fn scalar(&mut self, scalar: Scalar) -> BoxValue {
        BoxValue::Scalar(scalar)
    }
    fn string(&mut self, text: Box<str>) -> BoxValue {
        BoxValue::String(text)
    }
    fn array(&mut self, values: impl ExactSizeIterator<Item = BoxValue>) -> BoxValue {
        BoxValue::Array(values.collect())
    }
    fn object(&mut self, members: impl ExactSizeIterator<Item = (Box<str>, BoxValue)>) -> BoxValue {
        BoxValue::Object(members.collect())
    }
}

/// A document: its tree together with the arena that it lies in.
#[derive(Debug)]
pub(crate) struct Document(Rooted<Tree>);

#[derive(Debug)]
struct Tree;

impl Root for Tree {
    type In<'a> = Value<'a>;
}

impl Document {
    /// Parses a text into an arena of its own.
    pub(crate) fn parse(input: &[u8]) -> Result<Document, Error> {
        Rooted::try_new(Arena::new(), |arena| parse(input, InArena(arena))).map(Document)
    }

    /// Looks at the tree.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&Value<'_>) -> T) -> T {
        self.0.with(|_, root| look(root))
    }
}

/// Parses a text into boxes.
pub(crate) fn parse_boxes(input: &[u8]) -> Result<BoxValue, Error> {
    parse(input, InBoxes)
}

impl Value<'_> {
    /// Values in the tree: that all three trees have as many shows that they are of one text.
    pub(crate) fn count(&self) -> usize {
        1 + match self {
            Value::Array(values) => values.iter().map(Value::count).sum(),
            Value::Object(members) => members.iter().map(|(_, value)| value.count()).sum(),
            _ => 0,
        }
    }
}

impl BoxValue {
    /// As [`Value::count`].
    pub(crate) fn count(&self) -> usize {
        1 + match self {
            BoxValue::Array(values) => values.iter().map(BoxValue::count).sum(),
            BoxValue::Object(members) => members.iter().map(|(_, value)| value.count()).sum(),
            _ => 0,
        }
    }
}
