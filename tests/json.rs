//! The JSON parser of the example, against RFC 8259 by cases and against serde_json by properties.
#![allow(dead_code, reason = "the example's program uses all of it")]

#[path = "../examples/json/parser.rs"]
mod parser;
#[path = "../examples/json/trees.rs"]
mod trees;

use std::fs;
use std::path::PathBuf;

use parser::{DEPTH_LIMIT, Error, Scalar};
use proptest::prelude::*;
use serde_json::{Map, Number, Value as Serde};
use trees::{BoxValue, Document, Value, parse_boxes};

fn scalar(scalar: Scalar) -> Serde {
    match scalar {
        Scalar::Null => Serde::Null,
        Scalar::Bool(yes) => Serde::Bool(yes),
        Scalar::Unsigned(number) => number.into(),
        Scalar::Negative(number) => number.into(),
        Scalar::Float(number) => Number::from_f64(number).map(Serde::Number).expect("finite"),
    }
}

fn from_arena(value: &Value<'_>) -> Serde {
    match value {
        Value::Scalar(one) => scalar(*one),
        Value::String(text) => (*text).into(),
        Value::Array(values) => values.iter().map(from_arena).collect(),
        Value::Object(members) => Serde::Object(
            members.iter().map(|(name, value)| ((*name).to_owned(), from_arena(value))).collect(),
        ),
    }
}

fn from_boxes(value: &BoxValue) -> Serde {
    match value {
        BoxValue::Scalar(one) => scalar(*one),
        BoxValue::String(text) => (**text).into(),
        BoxValue::Array(values) => values.iter().map(from_boxes).collect(),
        BoxValue::Object(members) => {
            let members = members.iter().map(|(name, value)| (name.to_string(), from_boxes(value)));
            Serde::Object(members.collect::<Map<_, _>>())
        }
    }
}

/// The tree of the text, by way of both of ours, which must agree.
fn ours(text: &[u8]) -> Result<Serde, Error> {
    let arena = Document::parse(text).map(|document| document.with(from_arena));
    assert_eq!(arena, parse_boxes(text).map(|value| from_boxes(&value)));
    arena
}

/// Nicolas Seriot's JSON parsing test suite, which a crate on the registry carries: its name begins with what every parser
/// must do.
fn suite() -> PathBuf {
    let metadata = cargo_metadata::MetadataCommand::new().exec().expect("cargo metadata");
    let package = metadata.packages.iter().find(|package| package.name == "actson").expect("a dependency");
    package.manifest_path.with_file_name("tests/json_test_suite/test_parsing").into()
}

/// Would catch a rule of the grammar that is too lax or too strict: both trees, all 318 cases.
#[test]
fn accepts_and_refuses_as_the_public_suite_has_it() {
    let (mut accepted, mut refused, mut free) = (0, 0, 0);
    for file in fs::read_dir(suite()).expect("the suite") {
        let path = file.expect("a file").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let text = fs::read(&path).expect("a case");
        let (found, theirs) = (ours(&text), serde_json::from_slice::<Serde>(&text).ok());
        match name.as_bytes()[0] {
            b'y' => {
                let tree = found.unwrap_or_else(|error| panic!("{name}: {error}"));
                assert_eq!(ours(tree.to_string().as_bytes()).as_ref(), Ok(&tree), "{name}");
                assert_eq!(Some(tree), theirs, "{name}");
                accepted += 1;
            }
            b'n' => {
                assert!(found.is_err(), "{name}");
                refused += 1;
            }
            // A parser may do as it likes. Ours accepts what serde_json does, whose huge numbers may be a bit off.
            _ => {
                assert_eq!(found.is_ok(), theirs.is_some(), "{name}");
                free += 1;
            }
        }
    }
    assert_eq!((accepted, refused, free), (95, 188, 35));
}

#[test]
fn depth_is_limited_on_both_kinds_of_nesting() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let nested = |depth: usize| format!("{}1{}", open.repeat(depth), close.repeat(depth));
        assert!(Document::parse(nested(DEPTH_LIMIT).as_bytes()).is_ok());
        let error = Document::parse(nested(DEPTH_LIMIT + 1).as_bytes()).unwrap_err();
        assert_eq!(error.reason, "nested too deep");
        assert!(Document::parse(open.repeat(1_000_000).as_bytes()).is_err());
    }
}

#[test]
fn errors_say_where() {
    let at = |text: &str| {
        let error = Document::parse(text.as_bytes()).unwrap_err();
        (error.line, error.column)
    };
    assert_eq!(at("[1,\n 2,\n x]"), (3, 2));
    assert_eq!(at("[1 2]"), (1, 4));
    assert_eq!(at("{\"a\":\n}"), (2, 1));
    assert_eq!(at(""), (1, 1));
    let error = Document::parse(b"\n\n\"\xff").unwrap_err();
    assert_eq!(error.to_string(), "line 3, column 2: not UTF-8");
}

fn values() -> impl Strategy<Value = Serde> {
    let text = prop_oneof![any::<String>(), "[ -~]{0,30}", "[\\x00-\\x20\"\\\\]{0,12}"];
    let leaf = prop_oneof![
        Just(Serde::Null),
        any::<bool>().prop_map(Serde::from),
        any::<u64>().prop_map(Serde::from),
        any::<i64>().prop_map(Serde::from),
        any::<f64>().prop_filter_map("finite", |number| Number::from_f64(number).map(Serde::Number)),
        (-1e6..1e6).prop_map(|number: f64| Serde::from((number * 1000.0).round() / 1000.0)),
        text.prop_map(Serde::from),
    ];
    leaf.prop_recursive(5, 60, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Serde::from),
            prop::collection::vec((any::<String>(), inner), 0..8)
                .prop_map(|members| Serde::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn reads_what_serde_json_writes(value in values()) {
        prop_assert_eq!(ours(serde_json::to_string(&value).unwrap().as_bytes()), Ok(value.clone()));
        prop_assert_eq!(ours(serde_json::to_string_pretty(&value).unwrap().as_bytes()), Ok(value));
    }

    /// Would catch a rule of the grammar that is too lax or too strict.
    #[test]
    fn agrees_with_serde_json_on_damaged_texts(
        value in values(), damages in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3), 1..4)
    ) {
        const USUAL: &[u8] = b"\"\\{}[]:,.-+eE0123456789utfn \n\t/\x00\x1f\x80\xc3";
        let mut text = serde_json::to_vec(&value).unwrap();
        for (at, byte, how) in damages {
            let (at, byte) = (at.index(text.len() + 1), USUAL[usize::from(byte) % USUAL.len()]);
            match how {
                0 if at < text.len() => text[at] = byte,
                1 if at < text.len() => _ = text.remove(at),
                _ => text.insert(at, byte),
            }
        }
        let theirs: Result<Serde, _> = serde_json::from_slice(&text);
        let shown = String::from_utf8_lossy(&text).into_owned();
        prop_assert_eq!(ours(&text).is_ok(), theirs.is_ok(), "{}: {:?}", shown, theirs);
    }
}
