//! The tables in the README files, between their markers.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::Context;

use crate::cli::package;
use crate::plan::ARENA_GROUP;
use crate::report::{Drift, markdown};
use crate::results::Results;
use crate::summary::{self, Row};

const BEGIN: &str = "<!-- written by `report --readme`: begin -->";
const END: &str = "<!-- written by `report --readme`: end -->";

/// All tables into this package's, what they come to into the library's.
pub(crate) fn write(results: &Results, against: Option<&Results>) -> anyhow::Result<()> {
    let rows = summary::rows(results);
    let drift = Drift::between(&rows, against);
    splice(&package().join("README.md"), &markdown::page(results, &rows, &drift))?;
    splice(&package().join("../README.md"), &overview(results, &rows))
}

fn splice(path: &Path, text: &str) -> anyhow::Result<()> {
    let old = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let (before, rest) =
        old.split_once(BEGIN).with_context(|| format!("{} has no {BEGIN}", path.display()))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("{} has no {END}", path.display()))?;
    let new = format!("{before}{BEGIN}\n{}\n{END}{after}", text.trim());
    fs::write(path, new).with_context(|| path.display().to_string())
}

/// A line for each allocator: the geometric means of its groups.
fn overview(results: &Results, rows: &[Row]) -> String {
    let mut text = String::new();
    let (arenas, heaps): (Vec<&str>, Vec<&str>) =
        summary::groups(rows).into_iter().partition(|group| *group == ARENA_GROUP);
    for groups in [heaps, arenas].into_iter().filter(|groups| !groups.is_empty()) {
        let all = if groups[0] == ARENA_GROUP { &results.arenas } else { &results.peers };
        let has_memory = groups.contains(&"programs");
        let memory = if has_memory { " peak RSS of programs |" } else { "" };
        _ = writeln!(text, "| | {} |{memory}", groups.join(" | "));
        _ = writeln!(text, "|---|{}", "--:|".repeat(groups.len() + usize::from(has_memory)));
        for peer in all.iter().filter(|peer| peer.absent.is_none()) {
            let number = |mean: Option<f64>| mean.map_or("–".to_owned(), |mean| format!("{mean:.2}"));
            let mean = |group: &&str| number(summary::mean(rows, &peer.name, group, |_, cell| cell.ratio));
            let means: Vec<String> = groups.iter().map(mean).collect();
            // Was there and took no part.
            if means.iter().all(|mean| mean == "–") {
                continue;
            }
            _ = write!(text, "| {} | {} |", peer.name, means.join(" | "));
            if has_memory {
                let mean = summary::mean(rows, &peer.name, "programs", summary::memory_ratio);
                _ = write!(text, " {} |", number(mean));
            }
            text.push('\n');
        }
        text.push('\n');
    }
    _ = writeln!(text, "{}", markdown::origin(results));
    text
}
