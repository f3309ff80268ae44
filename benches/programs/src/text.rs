//! Documents.

use html5ever::driver::ParseOpts;
use html5ever::tendril::TendrilSink;
use html5ever::{parse_document, serialize};
use markup5ever_rcdom::{Handle, NodeData, RcDom, SerializableHandle};
use measure::{Meter, Unit, Workload};
use pulldown_cmark::{Options, Parser};

use crate::input;

pub(crate) const WORKLOADS: &[Workload] = &[Workload {
    name: "markdown",
    group: "programs",
    stresses: "pulldown-cmark makes HTML of the dependencies' documents, html5ever reads it into a tree: time for a byte",
    unit: Unit::CpuNs,
    quick: 1 << 20,
    full: 4 << 20,
    run: markdown,
}];

fn markdown(meter: &mut Meter, bytes: u64) -> u64 {
    let files = input::files("md", bytes as usize);
    let total = files.iter().map(String::len).sum::<usize>() as u64;
    meter
        .time(total, || {
            let mut sum = 0;
            for text in &files {
                let mut page = String::new();
                pulldown_cmark::html::push_html(&mut page, Parser::new_ext(text, Options::all()));
                let dom = parse_document(RcDom::default(), ParseOpts::default()).one(page.as_str());
                let mut again = Vec::new();
                let handle = SerializableHandle::from(dom.document.clone());
                serialize(&mut again, &handle, Default::default()).expect("into memory");
                sum += letters(&dom.document) + again.len() as u64;
            }
            sum
        })
        .0
}

fn letters(node: &Handle) -> u64 {
    let own = match &node.data {
        NodeData::Text { contents } => contents.borrow().len() as u64,
        _ => 1,
    };
    own + node.children.borrow().iter().map(letters).sum::<u64>()
}
