//! The JSON parser of the example, against RFC 8259 by cases and against serde_json by properties.
#![allow(dead_code, reason = "the example's program uses all of it")]

#[path = "../examples/json/parser.rs"]
mod parser;
#[path = "../examples/json/trees.rs"]
mod trees;

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

/// Named as in the public JSON parsing test suite: what every parser must accept.
const ACCEPTED: [&str; 36] = [
    "[]",
    "[ ]",
    "[\"\"]",
    "[\"a\"]",
    "[false]",
    "[null, 1, \"1\", {}]",
    "[null]",
    "[1\n]",
    " [1]",
    "[1,null,null,null,2]",
    "[2] ",
    "[123e65]",
    "[0e+1]",
    "[0e1]",
    "[ 4]",
    "[-0]",
    "[-0.000000000000000000000000000001]",
    "[20e1]",
    "[-1]",
    "[1E22]",
    "[1E-2]",
    "[1E+2]",
    "[123.456789]",
    "{\"a\":\"b\",\"a\":\"c\"}",
    "{\"\":0}",
    "{\"foo\\u0000bar\": 42}",
    "{ \"min\": -1.0e+28, \"max\": 1.0e+28 }",
    "[\"\\u0060\\u012a\\u12AB\"]",
    "[\"\\uD801\\udc37\"]",
    "[\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"]",
    "[\"\\\\u0000\"]",
    "[\"a/*b*/c/*d//e\"]",
    "[\"\\u0012\"]",
    "[\"\u{2028}\u{10ffff}\"]",
    "\"asd\"",
    " [] \t\r\n",
];

/// What every parser must refuse.
const REFUSED: [&str; 60] = [
    "",
    " ",
    "[1 true]",
    "[a\u{e5}]",
    "[\"\": 1]",
    "[\"\"],",
    "[,1]",
    "[1,,2]",
    "[\"x\",,]",
    "[\"x\"]]",
    "[\"\",]",
    "[\"x\"",
    "[3[4]]",
    "[1:2]",
    "[,]",
    "[-]",
    "[   , \"\"]",
    "[1,]",
    "[1,,]",
    "[*]",
    "[fals]",
    "[nul]",
    "[tru]",
    "[++1234]",
    "[+1]",
    "[-01]",
    "[-1.0.]",
    "[-2.]",
    "[-NaN]",
    "[.-1]",
    "[.2e-3]",
    "[0.1.2]",
    "[0.3e+]",
    "[0.e1]",
    "[0e]",
    "[0e+]",
    "[1.0e+]",
    "[1eE2]",
    "[2.e3]",
    "[9.e+]",
    "[Infinity]",
    "[NaN]",
    "[1+2]",
    "[0x1]",
    "[012]",
    "[- 1]",
    "[1e1.5]",
    "{\"x\", null}",
    "{\"a\":\"a\" 123}",
    "{a: \"b\"}",
    "{\"a\":1,}",
    "{1:1}",
    "{'a':0}",
    "[\"\\uD800\\u\"]",
    "[\"\\uD800\"]",
    "[\"\\uDC00\"]",
    "[\"\\x00\"]",
    "[\"\t\"]",
    "[\"\\u00A\"]",
    "[\"\\",
];

#[test]
fn accepts_and_refuses_as_the_suite_has_it() {
    for text in ACCEPTED {
        let tree = ours(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(ours(tree.to_string().as_bytes()).as_ref(), Ok(&tree), "{text}");
    }
    for text in REFUSED {
        assert!(ours(text.as_bytes()).is_err(), "{text}");
    }
    for bytes in [&b"[\"\xff\"]"[..], b"\xef\xbb\xbf[]", b"[\"\xed\xa0\x80\"]", b"[1]\0"] {
        assert!(ours(bytes).is_err(), "{bytes:?}");
    }
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
