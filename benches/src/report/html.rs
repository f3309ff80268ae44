//! The report: one page with its style and its charts inside.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use measure::Unit;

use crate::plan::ARENA_GROUP;
use crate::report::Drift;
use crate::report::charts::{self, Axis, Curve, Scale};
use crate::report::terminal::ratio;
use crate::results::Results;
use crate::summary::{self, Cell, Row, STABLE, show};

const STYLE: &str = "
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1400px; padding: 0 1rem; color: #222 }
h1 { margin-bottom: 0 } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ddd } .dim { color: #777 }
table { border-collapse: collapse; font-size: 13px } td, th { padding: 3px 8px; text-align: right; white-space: nowrap }
td:first-child, th:first-child { text-align: left } tr:hover td { outline: 1px solid #bbb }
th { border-bottom: 2px solid #999 } tfoot td { border-top: 2px solid #999; font-weight: bold }
.charts { display: flex; flex-wrap: wrap; gap: 12px } .ours { font-weight: bold } svg { max-width: 100%; height: auto }
.scroll { overflow-x: auto } .charts, .pair { align-items: flex-start }
.pair { display: flex; flex-wrap: wrap; gap: 4px; border: 1px solid #eee; padding: 4px }
";

pub(crate) fn page(results: &Results, rows: &[Row], drift: &Drift) -> anyhow::Result<String> {
    let machine = &results.machine;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                title { "Arenite and its peers" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "Arenite and its peers" }
                p.dim {
                    (results.date) ", " (results.rounds) " rounds" @if results.quick { " of the quick set" } ". "
                    (machine.processor) " (" (machine.cores) " cores, " (machine.memory_gib) " GiB), "
                    (machine.kernel) ", huge pages: " (machine.huge_pages) ", " (machine.rustc) "."
                }
                p {
                    "Each figure is the median over the rounds, each round a process of its own, those of all allocators "
                    "interleaved. Ratios are to the best peer of the row: green beats every peer, red is behind. "
                    "~ stands where the median is uncertain by more than " (STABLE * 100.0) " %. "
                    @if let Some(sentence) = drift.sentence() { (sentence) " " }
                    "Hover over a cell for its figures."
                }
                h2 { "Geometric means" }
                div.charts { @for chart in means(results, rows)? { (chart) } }
                @for group in summary::groups(rows) {
                    @let peers = summary::columns(results, rows, group);
                    h2 { (group) }
                    (table(rows, group, &peers, drift))
                    (curves(rows, group, &peers)?)
                    div.charts { @for chart in bars(rows, group, &peers)? { (chart) } }
                }
                h2 { "What each workload does" }
                dl {
                    @for row in rows { dt { b { (row.workload.name) } } dd { (row.workload.stresses) } }
                }
                h2 { "Allocators" }
                ul {
                    @for peer in results.peers.iter().chain(&results.arenas) {
                        li {
                            (peer.name) ": " (peer.version)
                            @if let Some(reason) = &peer.absent { " (left out: " (reason) ")" }
                        }
                    }
                }
            }
        }
    };
    Ok(page.into_string())
}

fn means(results: &Results, rows: &[Row]) -> anyhow::Result<Vec<Markup>> {
    let mut all = Vec::new();
    let mut add = |title: String, group: &str, value: fn(&Row, &Cell) -> f64| -> anyhow::Result<()> {
        let peers = &summary::columns(results, rows, group);
        let values: Vec<_> = peers
            .iter()
            .filter_map(|peer| {
                summary::mean(rows, peer, group, value).map(|mean| (*peer, mean, format!("{mean:.2}")))
            })
            .collect();
        all.push(PreEscaped(charts::bars(&title, &values, 8.0)?));
        Ok(())
    };
    for group in summary::groups(rows) {
        add(format!("{group}: ratio to the best peer"), group, |_, cell| cell.ratio)?;
        if group != "instructions" {
            add(format!("{group}: peak RSS over the least of a peer"), group, summary::memory_ratio)?;
        }
    }
    Ok(all)
}

fn table(rows: &[Row], group: &str, peers: &[&str], drift: &Drift) -> Markup {
    html! {
        div.scroll {
            table {
                thead {
                    tr {
                        th { "workload" } th { "best peer" } th {}
                        @for peer in peers { th class=[summary::is_ours(peer).then_some("ours")] { (peer) } }
                    }
                }
                tbody {
                    @for row in rows.iter().filter(|row| row.workload.group == group) {
                        tr {
                            td title=(row.workload.stresses) { (row.workload.name) }
                            @if let Some((name, score)) = &row.best {
                                td { (name) } td { (drift.of_best(row)) (show(row.unit, *score)) }
                            } @else { td {} td {} }
                            @for peer in peers { (table_cell(row, peer, drift)) }
                        }
                    }
                }
                tfoot {
                    tr {
                        td { "geometric mean" } td {} td {}
                        @for peer in peers {
                            td { @if let Some(mean) = summary::mean(rows, peer, group, |_, cell| cell.ratio) { (format!("{mean:.2}")) } }
                        }
                    }
                }
            }
        }
    }
}

fn table_cell(row: &Row, peer: &str, drift: &Drift) -> Markup {
    let Some(cell) = row.cells.get(peer) else { return html! { td.dim { "–" } } };
    if let Some(reason) = &cell.failure {
        return html! { td title=(reason) style="background:#f99" { "failed" } };
    }
    let figures = format!(
        "{}: {} ±{:.1} %, {} rounds; wall {:.1} ms, processor {:.1} ms, peak {:.1} MiB, {} faults, {} mappings",
        peer,
        show(row.unit, cell.score),
        cell.uncertainty * 100.0,
        cell.rounds,
        cell.wall_ms,
        cell.cpu_ms,
        cell.peak_rss / f64::from(1 << 20),
        cell.faults,
        cell.mappings,
    );
    html! {
        td title=(figures) style=(format!("background:{}", shade(cell.ratio))) class=[summary::is_ours(peer).then_some("ours")] {
            (ratio(row, peer, drift))
        }
    }
}

/// White where it equals the best peer or there is none, green below, red above, full at four times.
fn shade(ratio: f64) -> String {
    let far = if ratio.is_nan() { 0.0 } else { (ratio.max(0.01).log2() / 2.0).clamp(-1.0, 1.0) };
    let fade = |strength: f64| 255 - (strength * 110.0) as u8;
    if far < 0.0 { format!("rgb({0},255,{0})", fade(-far)) } else { format!("rgb(255,{0},{0})", fade(far)) }
}

/// Time or what else the row is about, and the peak of resident memory.
fn bars(rows: &[Row], group: &str, peers: &[&str]) -> anyhow::Result<Vec<Markup>> {
    let mut all = Vec::new();
    for row in rows.iter().filter(|row| row.workload.group == group) {
        let name = &row.workload.name;
        let figures = |value: &dyn Fn(&Cell) -> (f64, String)| -> Vec<(&str, f64, String)> {
            let sound = peers.iter().filter_map(|peer| Some((*peer, row.cells.get(*peer)?)));
            let sound = sound.filter(|(_, cell)| cell.failure.is_none());
            sound.map(|(peer, cell)| (peer, value(cell).0, value(cell).1)).collect()
        };
        let scores = figures(&|cell| (cell.score, show(row.unit, cell.score)));
        let least = scores.iter().map(|value| value.1).fold(f64::INFINITY, f64::min);
        let what = match row.unit {
            Unit::CpuNs => "processor time an operation",
            Unit::WallNs => "wall time an operation",
            Unit::Instructions => "instructions an operation",
            Unit::RssPerLive => "resident for each live byte",
            Unit::Bytes if group == ARENA_GROUP => "resident after it was emptied",
            Unit::Bytes => "resident after ten idle seconds",
        };
        let mut pair = charts::bars(&format!("{name}: {what}"), &scores, (least * 12.0).max(1e-9))?;
        if row.unit != Unit::Instructions {
            let peaks = figures(&|cell| (cell.peak_rss, show(Unit::Bytes, cell.peak_rss)));
            pair += &charts::bars(&format!("{name}: peak resident"), &peaks, f64::INFINITY)?;
        }
        all.push(html! { div.pair { (PreEscaped(pair)) } });
    }
    Ok(all)
}

/// The curves that workloads of the group have drawn.
fn curves(rows: &[Row], group: &str, peers: &[&str]) -> anyhow::Result<Markup> {
    let mut all = Vec::new();
    for row in rows.iter().filter(|row| row.workload.group == group) {
        let mut names: Vec<&String> = row.cells.values().flat_map(|cell| cell.series.keys()).collect();
        names.sort();
        names.dedup();
        for name in names {
            let curves: Vec<Curve<'_>> = peers
                .iter()
                .filter_map(|peer| Some(Curve { peer, points: row.cells.get(*peer)?.series.get(name)? }))
                .filter(|curve| curve.points.len() > 1)
                .collect();
            if curves.is_empty() {
                continue;
            }
            let (x, y) = axes(name);
            all.push((format!("{}: {name}", row.workload.name), charts::curves(x, y, &curves)?));
        }
    }
    Ok(html! {
        div.charts { @for (title, svg) in all { div { h3 { (title) } (PreEscaped(svg)) } } }
    })
}

/// What a series of this name is drawn over.
fn axes(name: &str) -> (Axis, Axis) {
    let bytes = |value: f64| match value {
        value if value >= f64::from(1 << 20) => format!("{:.0} MiB", value / f64::from(1 << 20)),
        value if value >= 1024.0 => format!("{:.0} KiB", value / 1024.0),
        value => format!("{value:.0} B"),
    };
    let x = if name.ends_with("by bytes") {
        Axis { title: "size", scale: Scale::Log(2.0), show: bytes }
    } else if name.ends_with("seconds") {
        Axis {
            title: "seconds since all was freed",
            scale: Scale::Linear(1.0),
            show: |value| format!("{value:.0}"),
        }
    } else {
        Axis { title: "phase", scale: Scale::Linear(1.0), show: |value| format!("{value:.0}") }
    };
    let y = if name.starts_with("ns") {
        let show = |value: f64| {
            if value >= 1000.0 { format!("{:.0} µs", value / 1000.0) } else { format!("{value:.0} ns") }
        };
        Axis { title: "a pair", scale: Scale::Log(10.0), show }
    } else if name.starts_with("resident per") {
        Axis {
            title: "resident for each live byte",
            scale: Scale::Linear(1.0),
            show: |value| format!("{value:.1}"),
        }
    } else {
        Axis { title: "resident", scale: Scale::Linear(f64::from(1 << 20)), show: bytes }
    };
    (x, y)
}
