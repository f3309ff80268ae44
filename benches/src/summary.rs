//! Medians, their spread, and ratios to the best peer.

use std::collections::BTreeMap;

use measure::{Description, Record, Unit, geomean};

use crate::peers::OURS;
use crate::plan::ARENA_GROUP;
use crate::results::{Measurement, Outcome, Results};

/// Beyond this a figure is said to be unstable.
pub(crate) const STABLE: f64 = 0.05;

/// One workload.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) workload: Description,
    pub(crate) unit: Unit,
    pub(crate) cells: BTreeMap<String, Cell>,
    /// Who is best without Arenite, and its median.
    pub(crate) best: Option<(String, f64)>,
}

/// One allocator's figures in a row: medians over the rounds.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub(crate) score: f64,
    /// The farther end of the median's confidence interval (95 %, from the order of the values), as a part of it. With
    /// fewer than nine rounds that is the farthest of them.
    pub(crate) uncertainty: f64,
    pub(crate) rounds: usize,
    /// The score over the best peer's: below one, it beats all peers.
    pub(crate) ratio: f64,
    pub(crate) wall_ms: f64,
    pub(crate) cpu_ms: f64,
    pub(crate) peak_rss: f64,
    pub(crate) faults: f64,
    pub(crate) mappings: f64,
    pub(crate) failure: Option<String>,
    /// Curves of the round whose score is the median.
    pub(crate) series: BTreeMap<String, Vec<(f64, f64)>>,
}

/// Whether a figure is Arenite's, linked or preloaded.
pub(crate) fn is_ours(peer: &str) -> bool {
    peer.starts_with(OURS)
}

/// All workloads that were measured, in their order.
pub(crate) fn rows(results: &Results) -> Vec<Row> {
    let all = results.workloads.iter().map(|workload| row(workload, &results.measurements));
    all.filter(|row| !row.cells.is_empty()).collect()
}

/// Who takes part in the group, in the order of the results.
pub(crate) fn columns<'a>(results: &'a Results, rows: &[Row], group: &str) -> Vec<&'a str> {
    let all = if group == ARENA_GROUP { &results.arenas } else { &results.peers };
    let is_there =
        |name: &&str| rows.iter().any(|row| row.workload.group == group && row.cells.contains_key(*name));
    all.iter().map(|peer| peer.name.as_str()).filter(is_there).collect()
}

pub(crate) fn row(workload: &Description, measurements: &[Measurement]) -> Row {
    let mut records: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    let mut failures: BTreeMap<&str, &str> = BTreeMap::new();
    for measurement in measurements.iter().filter(|measurement| measurement.workload == workload.name) {
        match &measurement.outcome {
            Outcome::Record(record) => records.entry(&measurement.peer).or_default().push(record),
            Outcome::Failure(reason) => _ = failures.insert(&measurement.peer, reason),
        }
    }
    let unit = records.values().flatten().next().map_or(Unit::CpuNs, |record| record.unit);
    let mut cells: BTreeMap<String, Cell> =
        records.iter().map(|(peer, records)| ((*peer).to_owned(), cell(records))).collect();
    for (peer, reason) in failures {
        // One failure is one too many, whatever the other rounds gave.
        let failed = Cell { failure: Some(reason.to_owned()), score: f64::NAN, ..cell(&[]) };
        cells.insert(peer.to_owned(), failed);
    }
    let best = cells
        .iter()
        .filter(|(peer, cell)| !is_ours(peer) && cell.failure.is_none())
        .min_by(|(_, a), (_, b)| a.score.total_cmp(&b.score))
        .map(|(peer, cell)| (peer.clone(), cell.score));
    // What a program holds that does nothing at all, so that nearly nothing over nothing is no wonder.
    let floor = if unit == Unit::Bytes { f64::from(1 << 20) } else { 0.0 };
    for cell in cells.values_mut() {
        cell.ratio = best.as_ref().map_or(f64::NAN, |(_, best)| (cell.score + floor) / (best + floor));
    }
    Row { workload: workload.clone(), unit, cells, best }
}

fn cell(records: &[&Record]) -> Cell {
    let of = |value: fn(&Record) -> f64| quartiles(records.iter().map(|record| value(record)).collect());
    let [_, score, _] = of(|record| record.score);
    let median = |value| of(value)[1];
    let nearest = records.iter().min_by(|a, b| (a.score - score).abs().total_cmp(&(b.score - score).abs()));
    Cell {
        score,
        uncertainty: match records {
            // A count is what it is; of a time that was taken once nothing is known.
            [one] if one.unit != Unit::Instructions => f64::INFINITY,
            _ => uncertainty(records.iter().map(|record| record.score).collect()),
        },
        rounds: records.len(),
        ratio: f64::NAN,
        wall_ms: median(|record| record.wall_ns as f64 / 1e6),
        cpu_ms: median(|record| record.cpu_ns as f64 / 1e6),
        peak_rss: median(|record| record.peak_rss as f64),
        faults: median(|record| (record.minor_faults + record.major_faults) as f64),
        mappings: median(|record| record.mappings as f64),
        failure: None,
        series: nearest.map(|record| record.series.clone()).unwrap_or_default(),
    }
}

/// The lower quartile, the median and the upper one, between neighbours in proportion.
fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_unstable_by(f64::total_cmp);
    [0.25, 0.5, 0.75].map(|part| {
        let at = part * values.len().saturating_sub(1) as f64;
        let (below, above) = (at.floor() as usize, at.ceil() as usize);
        match (values.get(below), values.get(above)) {
            (Some(below), Some(above)) => below + (above - below) * at.fract(),
            _ => f64::NAN,
        }
    })
}

/// How far the ends of the median's confidence interval lie from it. The values on both sides of the median are as many as
/// throws of a coin: the interval reaches from the one whose rank is missed so seldom to its mirror.
fn uncertainty(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let count = values.len();
    let [_, median, _] = quartiles(values.clone());
    // The chance of fewer than `rank` heads, for growing ranks.
    let (mut chance, mut term, mut rank) = (0.0, 0.5_f64.powi(count as i32), 0);
    while chance + term <= 0.025 && rank < count / 2 {
        chance += term;
        term *= (count - rank) as f64 / (rank + 1) as f64;
        rank += 1;
    }
    let at = rank.saturating_sub(1);
    match (values.get(at), values.get(count.saturating_sub(1 + at))) {
        (Some(low), Some(high)) => (high - median).max(median - low) / median.max(f64::MIN_POSITIVE),
        _ => f64::NAN,
    }
}

/// What the groups come to for one allocator: the geometric mean of what `value` says of the rows in which it and all
/// others took part.
pub(crate) fn mean(rows: &[Row], peer: &str, group: &str, value: fn(&Row, &Cell) -> f64) -> Option<f64> {
    let values: Vec<f64> = rows
        .iter()
        .filter(|row| row.workload.group == group)
        .filter_map(|row| {
            row.cells.get(peer).filter(|cell| cell.failure.is_none()).map(|cell| value(row, cell))
        })
        .filter(|value| value.is_finite() && *value > 0.0)
        .collect();
    (!values.is_empty()).then(|| geomean(values))
}

/// Peak resident memory over the least of any peer in the row.
pub(crate) fn memory_ratio(row: &Row, cell: &Cell) -> f64 {
    let others = row.cells.iter().filter(|(peer, cell)| !is_ours(peer) && cell.failure.is_none());
    cell.peak_rss / others.map(|(_, cell)| cell.peak_rss).fold(f64::INFINITY, f64::min)
}

/// The groups in the order of the workloads.
pub(crate) fn groups(rows: &[Row]) -> Vec<&str> {
    let mut groups: Vec<&str> = Vec::new();
    for row in rows {
        if !groups.contains(&row.workload.group.as_str()) {
            groups.push(&row.workload.group);
        }
    }
    groups
}

/// A score as people read it.
pub(crate) fn show(unit: Unit, score: f64) -> String {
    let digits = |value: f64| {
        let digits = if value < 9.995 {
            2
        } else if value < 99.95 {
            1
        } else {
            0
        };
        format!("{value:.digits$}")
    };
    match unit {
        Unit::CpuNs | Unit::WallNs if score >= 1e6 => format!("{} ms", digits(score / 1e6)),
        Unit::CpuNs | Unit::WallNs if score >= 1e3 => format!("{} µs", digits(score / 1e3)),
        Unit::CpuNs | Unit::WallNs => format!("{} ns", digits(score)),
        Unit::Instructions => format!("{} instr", digits(score)),
        Unit::RssPerLive => format!("{} ×", digits(score)),
        Unit::Bytes => format!("{} MiB", digits(score / f64::from(1 << 20))),
    }
}
