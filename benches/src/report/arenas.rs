//! The place of the arena benchmarks, which are a package of their own: what they have written is shown here.

use std::fs;
use std::path::Path;

use maud::{Markup, html};
use serde::Deserialize;

/// What that package writes beside the other results, as `arenas.json`: a list of these.
#[derive(Deserialize)]
struct Line {
    workload: String,
    arena: String,
    value: f64,
    unit: String,
}

pub(crate) fn section(folder: &Path) -> anyhow::Result<Markup> {
    let Ok(text) = fs::read_to_string(folder.join("arenas.json")) else { return Ok(html! {}) };
    let lines: Vec<Line> = serde_json::from_str(&text)?;
    Ok(html! {
        h2 { "arenas" }
        table {
            thead { tr { th { "workload" } th { "arena" } th {} } }
            tbody {
                @for line in lines {
                    tr { td { (line.workload) } td { (line.arena) } td { (format!("{:.2} {}", line.value, line.unit)) } }
                }
            }
        }
    })
}
