//! What a run has found, as JSON and as CSV.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use measure::{Description, Record};
use serde::{Deserialize, Serialize};

use crate::machine::Machine;

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Results {
    pub(crate) date: String,
    pub(crate) machine: Machine,
    pub(crate) quick: bool,
    pub(crate) rounds: usize,
    pub(crate) threads: usize,
    pub(crate) peers: Vec<PeerInfo>,
    pub(crate) arenas: Vec<PeerInfo>,
    pub(crate) workloads: Vec<Description>,
    pub(crate) measurements: Vec<Measurement>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct PeerInfo {
    pub(crate) name: String,
    pub(crate) version: String,
    /// Why it was left out.
    pub(crate) absent: Option<String>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Measurement {
    pub(crate) peer: String,
    pub(crate) workload: String,
    pub(crate) round: usize,
    pub(crate) outcome: Outcome,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    Record(Record),
    Failure(String),
}

impl Results {
    pub(crate) fn load(path: &Path) -> anyhow::Result<Results> {
        let text = fs::read_to_string(path).with_context(|| format!("{} (see `run`)", path.display()))?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    }

    /// The results of several runs as those of one: of a workload that was run twice the first counts.
    pub(crate) fn load_all(paths: &[PathBuf]) -> anyhow::Result<Results> {
        let mut all = paths.iter().map(|path| Results::load(path));
        let mut results = all.next().context("no results")??;
        for more in all {
            let more = more?;
            let is_new = |name: &str| !results.workloads.iter().any(|workload| workload.name == name);
            let new: Vec<Description> =
                more.workloads.into_iter().filter(|workload| is_new(&workload.name)).collect();
            let belongs = |one: &Measurement| new.iter().any(|workload| workload.name == one.workload);
            results.measurements.extend(more.measurements.into_iter().filter(belongs));
            results.workloads.extend(new);
            for (all, more) in [(&mut results.peers, more.peers), (&mut results.arenas, more.arenas)] {
                for peer in more {
                    match all.iter_mut().find(|known| known.name == peer.name) {
                        None => all.push(peer),
                        // Whoever took part in one of the runs is there.
                        Some(known) if known.absent.is_some() => *known = peer,
                        Some(_) => {}
                    }
                }
            }
        }
        Ok(results)
    }

    pub(crate) fn save(&self, path: &Path) -> anyhow::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, serde_json::to_string_pretty(self)?).with_context(|| path.display().to_string())?;
        self.save_csv(&path.with_extension("csv"))
    }

    /// A line for each measurement; curves are in the JSON only.
    fn save_csv(&self, path: &Path) -> anyhow::Result<()> {
        let mut csv = csv::Writer::from_path(path)?;
        csv.write_record([
            "workload",
            "allocator",
            "round",
            "score",
            "unit",
            "wall_ns",
            "cpu_ns",
            "ops",
            "peak_rss",
            "minor_faults",
            "major_faults",
            "mappings",
            "checksum",
            "failure",
        ])?;
        for measurement in &self.measurements {
            let Measurement { peer, workload, round, outcome } = measurement;
            let start = [workload.clone(), peer.clone(), round.to_string()];
            let rest = match outcome {
                Outcome::Record(record) => [
                    record.score.to_string(),
                    serde_json::to_string(&record.unit)?.trim_matches('"').to_owned(),
                    record.wall_ns.to_string(),
                    record.cpu_ns.to_string(),
                    record.ops.to_string(),
                    record.peak_rss.to_string(),
                    record.minor_faults.to_string(),
                    record.major_faults.to_string(),
                    record.mappings.to_string(),
                    format!("{:x}", record.checksum),
                    String::new(),
                ],
                Outcome::Failure(reason) => {
                    let mut fields: [String; 11] = Default::default();
                    fields[10].clone_from(reason);
                    fields
                }
            };
            csv.write_record(start.iter().chain(&rest))?;
        }
        Ok(csv.flush()?)
    }
}
