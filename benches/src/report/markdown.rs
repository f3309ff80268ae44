//! The tables of README.md.

use std::fmt::Write;

use crate::peers::OURS;
use crate::report::Drift;
use crate::report::terminal::ratio;
use crate::results::Results;
use crate::summary::{self, Row, show};

pub(crate) fn page(results: &Results, rows: &[Row], drift: &Drift) -> String {
    let mut text = origin(results);
    if let Some(sentence) = drift.sentence() {
        _ = write!(text, " {sentence}");
    }
    text.push_str("\n\n");
    for group in summary::groups(rows) {
        let peers = summary::columns(results, rows, group);
        _ = writeln!(text, "| {group} | best peer | {} |", peers.join(" | "));
        _ = writeln!(text, "|---|---|{}", "--:|".repeat(peers.len()));
        for row in rows.iter().filter(|row| row.workload.group == group) {
            let best = row
                .best
                .as_ref()
                .map(|(name, score)| format!("{name}, {}{}", drift.of_best(row), show(row.unit, *score)))
                .unwrap_or_default();
            let ratios: Vec<String> = peers.iter().map(|peer| ratio(row, peer, drift)).collect();
            _ = writeln!(text, "| {} | {best} | {} |", row.workload.name, ratios.join(" | "));
        }
        let means: Vec<String> = peers
            .iter()
            .map(|peer| {
                let mean = summary::mean(rows, peer, group, |_, cell| cell.ratio);
                mean.map_or(String::new(), |mean| format!("**{mean:.2}**"))
            })
            .collect();
        _ = writeln!(text, "| *geometric mean* | | {} |", means.join(" | "));
        let means: Vec<String> = peers
            .iter()
            .map(|peer| {
                summary::mean(rows, peer, group, summary::memory_ratio)
                    .map_or(String::new(), |mean| format!("{mean:.2}"))
            })
            .collect();
        _ = writeln!(text, "| *peak RSS over the least of any peer* | | {} |\n", means.join(" | "));
    }
    _ = writeln!(text, "Versions: {}.", versions(results));
    text
}

/// When and where.
pub(crate) fn origin(results: &Results) -> String {
    let machine = &results.machine;
    format!(
        "{}, {} rounds{}, more where they differed. {} ({} cores, {} GiB), {}, huge pages: {}, {}.",
        results.date,
        results.rounds,
        if results.quick { " of the quick set" } else { "" },
        machine.processor,
        machine.cores,
        machine.memory_gib,
        machine.kernel,
        machine.huge_pages,
        machine.rustc,
    )
}

fn versions(results: &Results) -> String {
    let list: Vec<String> = results
        .peers
        .iter()
        .chain(results.arenas.iter().filter(|arena| !arena.name.starts_with(OURS)))
        .map(|peer| match &peer.absent {
            None => format!("{} ({})", peer.name, peer.version),
            Some(reason) => format!("{} left out: {reason}", peer.name),
        })
        .collect();
    list.join(", ")
}
