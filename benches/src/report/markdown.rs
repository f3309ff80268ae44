//! The tables of README.md.

use std::fmt::Write;

use crate::report::terminal::ratio;
use crate::results::Results;
use crate::summary::{self, Row, show};

pub(crate) fn page(results: &Results, rows: &[Row]) -> String {
    let mut text = String::new();
    let peers: Vec<&str> =
        results.peers.iter().filter(|peer| peer.absent.is_none()).map(|peer| peer.name.as_str()).collect();
    let machine = &results.machine;
    _ = writeln!(
        text,
        "{}, {} rounds{}. {} ({} cores, {} GiB), {}, huge pages: {}, {}.\n",
        results.date,
        results.rounds,
        if results.quick { " of the quick set" } else { "" },
        machine.processor,
        machine.cores,
        machine.memory_gib,
        machine.kernel,
        machine.huge_pages,
        machine.rustc,
    );
    for group in summary::groups(rows) {
        _ = writeln!(text, "| {group} | best peer | {} |", peers.join(" | "));
        _ = writeln!(text, "|---|---|{}", "--:|".repeat(peers.len()));
        for row in rows.iter().filter(|row| row.workload.group == group) {
            let best = row
                .best
                .as_ref()
                .map(|(name, score)| format!("{name}, {}", show(row.unit, *score)))
                .unwrap_or_default();
            let ratios: Vec<String> = peers.iter().map(|peer| ratio(row, peer)).collect();
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

fn versions(results: &Results) -> String {
    let list: Vec<String> = results
        .peers
        .iter()
        .map(|peer| match &peer.absent {
            None => format!("{} ({})", peer.name, peer.version),
            Some(reason) => format!("{} left out: {reason}", peer.name),
        })
        .collect();
    list.join(", ")
}
