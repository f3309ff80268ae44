//! Tables in the terminal, Markdown for the README, and one file of HTML.

mod arenas;
mod charts;
mod html;
mod markdown;
mod terminal;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use crate::cli::{CompareOptions, ReportOptions};
use crate::results::Results;
use crate::summary::{self, Row, STABLE};

pub(crate) fn run(options: &ReportOptions) -> anyhow::Result<ExitCode> {
    let results = Results::load_all(&options.results)?;
    if options.markdown {
        print!("{}", markdown::page(&results, &summary::rows(&results)));
        return Ok(ExitCode::SUCCESS);
    }
    let against = options.against.as_deref().map(Results::load).transpose()?;
    all(&results, &options.results[0], against.as_ref())
}

/// The table in the terminal, and the page beside the results.
pub(crate) fn all(results: &Results, path: &Path, against: Option<&Results>) -> anyhow::Result<ExitCode> {
    let rows = summary::rows(results);
    let drift = against.map(|other| drift(&rows, &summary::rows(other))).unwrap_or_default();
    terminal::print(results, &rows);
    let page = path.with_extension("html");
    fs::write(&page, html::page(results, &rows, &drift, path.parent().unwrap_or(Path::new(".")))?)?;
    println!("{}, .csv and .html", path.display());
    let is_broken = results
        .measurements
        .iter()
        .any(|one| summary::is_ours(&one.peer) && matches!(one.outcome, crate::results::Outcome::Failure(_)));
    Ok(if is_broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// How far the medians of two runs lie apart, for each workload and allocator.
type Drift = BTreeMap<(String, String), f64>;

fn drift(rows: &[Row], others: &[Row]) -> Drift {
    let mut drift = Drift::new();
    for row in rows {
        let Some(other) = others.iter().find(|other| other.workload.name == row.workload.name) else {
            continue;
        };
        for (peer, cell) in &row.cells {
            if let Some(before) = other.cells.get(peer) {
                drift.insert((row.workload.name.clone(), peer.clone()), cell.score / before.score - 1.0);
            }
        }
    }
    drift
}

pub(crate) fn compare(options: &CompareOptions) -> anyhow::Result<ExitCode> {
    let rows = summary::rows(&Results::load(&options.second)?);
    let drift = drift(&rows, &summary::rows(&Results::load(&options.first)?));
    let far: Vec<_> = drift.iter().filter(|(_, drift)| drift.abs() > STABLE).collect();
    for ((workload, peer), drift) in &far {
        println!("{workload:22} {peer:14} {:+.1} %", *drift * 100.0);
    }
    println!("{} of {} medians lie within 5 %", drift.len() - far.len(), drift.len());
    Ok(ExitCode::SUCCESS)
}
