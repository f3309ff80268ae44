//! The table in the terminal: ratios to the best peer.

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, ContentArrangement, Table};

use crate::report::Drift;
use crate::results::Results;
use crate::summary::{self, Row, STABLE, show};

pub(crate) fn print(results: &Results, rows: &[Row], drift: &Drift) {
    for group in summary::groups(rows) {
        let peers = summary::columns(results, rows, group);
        let mut table = Table::new();
        table.load_style(UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header([group, "best peer", ""].into_iter().chain(peers.iter().copied()));
        for row in rows.iter().filter(|row| row.workload.group == group) {
            let best = row.best.as_ref();
            let mut line = vec![
                row.workload.name.clone(),
                best.map(|(name, _)| name.clone()).unwrap_or_default(),
                best.map(|(_, score)| drift.of_best(row).to_owned() + &show(row.unit, *score))
                    .unwrap_or_default(),
            ];
            line.extend(peers.iter().map(|peer| ratio(row, peer, drift)));
            table.add_row(line);
        }
        let mut means = vec!["geometric mean".to_owned(), String::new(), String::new()];
        means.extend(peers.iter().map(|peer| {
            summary::mean(rows, peer, group, |_, cell| cell.ratio)
                .map_or(String::new(), |mean| format!("{mean:.2}"))
        }));
        table.add_row(means);
        for column in table.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        println!("{table}");
    }
    println!(
        "Ratios to the best peer's median (below 1: better than all peers). ~: the median is uncertain by more than {:.0} %. \
         –: does not take part. !: failed.",
        STABLE * 100.0
    );
    if let Some(sentence) = drift.sentence() {
        println!("{sentence}");
    }
    for peer in results.peers.iter().chain(&results.arenas) {
        if let Some(reason) = &peer.absent {
            println!("{} was left out: {reason}", peer.name);
        }
    }
}

/// A cell's ratio with its marks; its figure where there is no peer to compare with.
pub(crate) fn ratio(row: &Row, peer: &str, drift: &Drift) -> String {
    match row.cells.get(peer) {
        None => "–".to_owned(),
        Some(cell) if cell.failure.is_some() => "!".to_owned(),
        Some(cell) => {
            let uncertain = if cell.uncertainty > STABLE { "~" } else { "" };
            let figure = match &row.best {
                Some(_) => format!("{:.2}", cell.ratio),
                None => show(row.unit, cell.score),
            };
            format!("{uncertain}{}{figure}", drift.of_ratio(row, peer))
        }
    }
}
