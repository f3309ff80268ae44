//! Tables in the terminal, Markdown for the README, and one file of HTML.

mod charts;
mod html;
mod markdown;
mod readme;
mod terminal;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use crate::cli::{CompareOptions, ReportOptions};
use crate::results::{Outcome, Results};
use crate::summary::{self, Row, STABLE};

pub(crate) fn run(options: &ReportOptions) -> anyhow::Result<ExitCode> {
    let results = Results::load_all(&options.results)?;
    let against = options.against.as_deref().map(Results::load).transpose()?;
    if options.readme {
        readme::write(&results, against.as_ref())?;
    }
    if options.markdown {
        let rows = summary::rows(&results);
        print!("{}", markdown::page(&results, &rows, &Drift::between(&rows, against.as_ref())));
        return Ok(ExitCode::SUCCESS);
    }
    all(&results, &options.results[0], against.as_ref())
}

/// The table in the terminal, and the page beside the results.
pub(crate) fn all(results: &Results, path: &Path, against: Option<&Results>) -> anyhow::Result<ExitCode> {
    let rows = summary::rows(results);
    let drift = Drift::between(&rows, against);
    terminal::print(results, &rows, &drift);
    let page = path.with_extension("html");
    fs::write(&page, html::page(results, &rows, &drift)?)?;
    println!("{}, .csv and .html", path.display());
    let is_broken = results
        .measurements
        .iter()
        .any(|one| summary::is_ours(&one.peer) && matches!(one.outcome, Outcome::Failure(_)));
    Ok(if is_broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// How far the figures lie from those of another run of the set, as parts of them.
#[derive(Debug, Default)]
pub(crate) struct Drift {
    /// When the other run was.
    date: Option<String>,
    /// Ratios to the best peer, by workload and allocator.
    ratios: BTreeMap<(String, String), f64>,
    /// Best peers' own figures, by workload.
    bests: BTreeMap<String, f64>,
}

impl Drift {
    pub(crate) fn between(rows: &[Row], other: Option<&Results>) -> Drift {
        let mut drift = Drift::default();
        let Some(other) = other else { return drift };
        drift.date = Some(other.date.clone());
        for before in summary::rows(other) {
            let name = &before.workload.name;
            let Some(row) = rows.iter().find(|row| row.workload.name == *name) else { continue };
            if let (Some((_, now)), Some((_, then))) = (&row.best, &before.best) {
                drift.bests.insert(name.clone(), now / then - 1.0);
            }
            for (peer, cell) in &row.cells {
                if let Some(then) = before.cells.get(peer) {
                    drift.ratios.insert((name.clone(), peer.clone()), cell.ratio / then.ratio - 1.0);
                }
            }
        }
        drift.ratios.retain(|_, drift| drift.is_finite());
        drift.bests.retain(|_, drift| drift.is_finite());
        drift
    }

    /// Before a ratio: whether the other run gave another.
    pub(crate) fn of_ratio(&self, row: &Row, peer: &str) -> &'static str {
        mark(self.ratios.get(&(row.workload.name.clone(), peer.to_owned())))
    }

    /// Before the best peer's figure: whether the other run gave another.
    pub(crate) fn of_best(&self, row: &Row) -> &'static str {
        mark(self.bests.get(&row.workload.name))
    }

    /// What there is to say about it in one sentence.
    pub(crate) fn sentence(&self) -> Option<String> {
        let near = self.ratios.values().filter(|drift| drift.abs() <= STABLE).count();
        let date = self.date.as_ref()?;
        Some(format!(
            "Of {} ratios {near} lie within {:.0} % of those of another run of the set ({date}); ≠ stands before the \
             others.",
            self.ratios.len(),
            STABLE * 100.0
        ))
    }
}

fn mark(drift: Option<&f64>) -> &'static str {
    if drift.is_some_and(|drift| drift.abs() > STABLE) { "≠" } else { "" }
}

pub(crate) fn compare(options: &CompareOptions) -> anyhow::Result<ExitCode> {
    let rows = summary::rows(&Results::load(&options.second)?);
    let drift = Drift::between(&rows, Some(&Results::load(&options.first)?));
    let all = drift.ratios.iter().map(|((workload, peer), drift)| (workload.as_str(), peer.as_str(), *drift));
    let all: Vec<_> =
        drift.bests.iter().map(|(workload, drift)| (workload.as_str(), "", *drift)).chain(all).collect();
    for (workload, peer, drift) in all.iter().filter(|(.., drift)| drift.abs() > STABLE) {
        let peer = if peer.is_empty() { "(the best peer)" } else { peer };
        println!("{workload:22} {peer:16} {:+.1} %", drift * 100.0);
    }
    for group in summary::groups(&rows) {
        let is_of_group =
            |name: &str| rows.iter().any(|row| row.workload.group == group && row.workload.name == name);
        let of_group = || all.iter().filter(|(workload, peer, _)| !peer.is_empty() && is_of_group(workload));
        let near = of_group().filter(|(.., drift)| drift.abs() <= STABLE).count();
        println!("{group}: {near} of {} ratios to the best peer lie within 5 %", of_group().count());
    }
    Ok(ExitCode::SUCCESS)
}
