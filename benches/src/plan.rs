//! What is run in which order: round after round, in each every workload, in that every allocator, each time in another order,
//! so that a slow minute of the machine meets all alike.

use measure::Description;

use crate::foreign;
use crate::peers::{ARENAS, Kind, PEERS, Peer};

/// The group whose columns are arenas.
pub(crate) const ARENA_GROUP: &str = "arenas";

/// What to measure once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step<'a> {
    pub(crate) workload: &'a Description,
    pub(crate) peer: &'a Peer,
}

/// A workload and who takes part.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    pub(crate) workload: &'a Description,
    peers: Vec<&'a Peer>,
    /// As many run side by side.
    width: usize,
}

/// The rows in their order.
pub(crate) fn rows<'a>(workloads: &'a [Description], peers: &'a [Peer], cores: usize) -> Vec<Row<'a>> {
    let row = |workload: &'a Description| {
        let peers: Vec<_> = peers.iter().filter(|peer| takes_part(peer, workload)).collect();
        // Counts and what sleeping processes hold do not depend on the time.
        let width = if workload.is_counted {
            cores
        } else if workload.idle {
            peers.len()
        } else {
            1
        };
        Row { workload, peers, width }
    };
    workloads.iter().map(row).filter(|row| !row.peers.is_empty()).collect()
}

fn takes_part(peer: &Peer, workload: &Description) -> bool {
    let is_arena = matches!(peer.kind, Kind::Arena { .. });
    if is_arena != (workload.group == ARENA_GROUP) {
        return false;
    }
    if workload.group == foreign::GROUP {
        return peer.is_for_foreign();
    }
    let cannot = workload.threaded && peer.single_threaded || workload.is_counted && peer.no_valgrind;
    !(cannot || peer.foreign_only)
        && (workload.only.is_empty() || workload.only.iter().any(|name| name == peer.name))
}

impl<'a> Row<'a> {
    /// How often it is run when all is run so often. What is counted, once; what sits still for ten seconds, and memory that
    /// hardly varies, seldom.
    pub(crate) fn rounds(&self, rounds: usize) -> usize {
        match self.workload.group.as_str() {
            _ if self.workload.is_counted => 1,
            _ if self.workload.idle => rounds.div_ceil(4),
            "memory" => rounds.div_ceil(3),
            _ => rounds,
        }
    }

    /// Whether more rounds make it any better: not for what is counted or sits still.
    pub(crate) fn is_timed(&self) -> bool {
        !self.workload.is_counted && self.workload.group != "memory"
    }

    /// The steps of one round; those in one list run side by side.
    pub(crate) fn steps(&self, round: usize) -> Vec<Vec<Step<'a>>> {
        let mut steps: Vec<Step<'a>> =
            self.peers.iter().map(|&peer| Step { workload: self.workload, peer }).collect();
        let add = |seed: u64, byte: u8| seed.wrapping_mul(31).wrapping_add(byte.into());
        let seed = self.workload.name.bytes().fold(round as u64, add);
        fastrand::Rng::with_seed(seed).shuffle(&mut steps);
        steps.chunks(self.width.max(1)).map(<[Step<'_>]>::to_vec).collect()
    }
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

/// The allocators and the arenas with these names; for none all of them. Who is named takes part in everything it can do.
pub(crate) fn peers(names: &[String]) -> anyhow::Result<Vec<Peer>> {
    let all = || PEERS.iter().chain(ARENAS);
    for name in names {
        anyhow::ensure!(
            all().any(|peer| peer.name == name),
            "no allocator and no arena is named {name}: see `list`"
        );
    }
    if names.is_empty() {
        return Ok(all().cloned().collect());
    }
    let is_named = |peer: &&Peer| names.iter().any(|name| name == peer.name);
    Ok(all().filter(is_named).map(|peer| Peer { foreign_only: false, ..peer.clone() }).collect())
}
