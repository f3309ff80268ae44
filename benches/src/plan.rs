//! What is run in which order: round after round, in each every workload, in that every allocator, and each round begins
//! with another one, so that a slow minute of the machine meets all alike.

use measure::Description;

use crate::foreign;
use crate::peers::{PEERS, Peer};

/// What to measure once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step<'a> {
    pub(crate) workload: &'a Description,
    pub(crate) peer: &'a Peer,
    pub(crate) round: usize,
}

/// The steps in their order; those in one list run side by side.
pub(crate) fn steps<'a>(
    workloads: &'a [Description],
    peers: &'a [Peer],
    rounds: usize,
    quick: bool,
    cores: usize,
) -> Vec<Vec<Step<'a>>> {
    let mut steps = Vec::new();
    for round in 0..rounds {
        for workload in workloads {
            // A quick run has time for several rounds of what is short only. Counts and what sleeping processes hold do not depend on the time: once, or at least side by side.
            let is_counted = workload.group == "instructions";
            let is_once = is_counted || quick && !["micro", "threads"].contains(&workload.group.as_str());
            if is_once && round > 0 || workload.idle && round >= rounds.div_ceil(3) {
                continue;
            }
            let takes_part = |peer: &&Peer| {
                let is_foreign = workload.group == foreign::GROUP;
                !(workload.threaded && peer.single_threaded || is_foreign && !peer.is_for_foreign())
            };
            let taking_part: Vec<_> = peers.iter().filter(takes_part).collect();
            if taking_part.is_empty() {
                continue;
            }
            let rotated = (0..taking_part.len())
                .map(|n| taking_part[(n + round * taking_part.len() / rounds) % taking_part.len()]);
            let all: Vec<_> = rotated.map(|peer| Step { workload, peer, round }).collect();
            let width = if is_counted {
                cores
            } else if workload.idle {
                all.len()
            } else {
                1
            };
            steps.extend(all.chunks(width.max(1)).map(<[Step<'_>]>::to_vec));
        }
    }
    steps
}

/// The workloads that the names choose: each a group, or else a workload's name or a part of it. All for no names.
pub(crate) fn chosen(all: &[Description], names: &[String]) -> anyhow::Result<Vec<Description>> {
    let is_group = |name: &str| all.iter().any(|workload| workload.group == name);
    let fits = |workload: &Description, name: &String| {
        if is_group(name) { workload.group == *name } else { workload.name.contains(name.as_str()) }
    };
    for name in names {
        anyhow::ensure!(
            all.iter().any(|workload| fits(workload, name)),
            "no workload or group is named {name}: see `list`"
        );
    }
    let is_chosen =
        |workload: &&Description| names.is_empty() || names.iter().any(|name| fits(workload, name));
    Ok(all.iter().filter(is_chosen).cloned().collect())
}

/// The allocators with these names; for none all, but in a quick run those only once that are there twice.
pub(crate) fn peers(names: &[String], quick: bool) -> anyhow::Result<Vec<Peer>> {
    for name in names {
        anyhow::ensure!(
            PEERS.iter().any(|peer| peer.name == name),
            "no allocator is named {name}: see `list`"
        );
    }
    let is_chosen = |peer: &&Peer| {
        if names.is_empty() { peer.quick || !quick } else { names.iter().any(|name| name == peer.name) }
    };
    Ok(PEERS.iter().filter(is_chosen).cloned().collect())
}
