//! Cores that compute, take a lock, hold it, and compute again.
//!
//! Between two visits a core computes for a time that is distributed exponentially, with the mean that makes the wanted
//! rate if nobody ever waits. Which lock it takes is drawn by the counts. Under it, it holds the lock for as long as was
//! measured on one core, and for as long as the cache lines take that another core had last. Who finds a lock taken spins
//! as `vm/lock.rs` does, then sleeps; a sleeper that is woken comes late, and may find that another was first.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};

use crate::inputs::{Demand, Layer, Name, Visit};

#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) group: usize,
    pub(crate) node: usize,
    pub(crate) near_ns: f64,
    pub(crate) far_ns: f64,
    pub(crate) allocations_per_ns: f64,
    /// Lines that a depot takes beyond its one.
    pub(crate) more_depot_lines: f64,
}

impl Machine {
    fn lines(&self, layer: Layer) -> f64 {
        layer.lines() + if layer == Layer::Depot { self.more_depot_lines } else { 0.0 }
    }
}

#[derive(Debug)]
pub(crate) struct Outcome {
    /// The busiest lock, and the part of the time for which it is held.
    pub(crate) busiest: String,
    pub(crate) utilisation: f64,
    /// What an allocation waits for locks in the mean.
    pub(crate) wait_ns: f64,
    pub(crate) allocations_per_ns: f64,
    /// The part of the visits that found the lock taken.
    pub(crate) contended: f64,
}

/// For how long a lock spins: 40 looks with a pause between them.
const SPIN_NS: f64 = 800.0;
/// From waking a sleeper until it looks at the lock, and what waking costs the one who wakes.
const WAKE_NS: f64 = 5_000.0;
const WAKER_NS: f64 = 1_000.0;

#[derive(Default)]
struct Lock {
    held: bool,
    last: Option<usize>,
    spinning: VecDeque<usize>,
    sleeping: VecDeque<usize>,
    busy_ns: f64,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Event {
    /// The core comes to a lock.
    Arrives,
    /// The core has spun long enough, if it is still at this visit.
    GivesUp(u64),
    /// The core was woken.
    Wakes,
    Releases,
}

#[derive(Clone, Copy, PartialEq, Debug)]
struct At(f64, usize, Event);

impl Eq for At {}

impl PartialOrd for At {
    fn partial_cmp(&self, other: &At) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for At {
    fn cmp(&self, other: &At) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

struct Core {
    lock: usize,
    visit: usize,
    since: f64,
    visits: u64,
}

struct Simulation<'a> {
    machine: &'a Machine,
    visits: Vec<(Name, Visit)>,
    /// The visits' shares, added up.
    shares: Vec<f64>,
    groups: usize,
    locks: Vec<Lock>,
    cores: Vec<Core>,
    events: BinaryHeap<Reverse<At>>,
    random: fastrand::Rng,
    think_ns: f64,
    done: u64,
    contended: u64,
    waited_ns: f64,
}

pub(crate) fn simulate(machine: &Machine, demand: &Demand, ns: f64) -> Outcome {
    let visits: Vec<_> = demand.visits.iter().map(|(name, visit)| (*name, *visit)).collect();
    let per_allocation: f64 = visits.iter().map(|(_, visit)| visit.per_allocation).sum();
    let groups = machine.cores.div_ceil(machine.group);
    let mut sum = 0.0;
    let shares = visits
        .iter()
        .map(|(_, visit)| {
            sum += visit.per_allocation / per_allocation;
            sum
        })
        .collect();
    let mut simulation = Simulation {
        machine,
        shares,
        groups,
        locks: (0..visits.len() * groups).map(|_| Lock::default()).collect(),
        cores: (0..machine.cores).map(|_| Core { lock: 0, visit: 0, since: 0.0, visits: 0 }).collect(),
        events: BinaryHeap::new(),
        random: fastrand::Rng::with_seed(7),
        think_ns: machine.cores as f64 / (machine.allocations_per_ns * per_allocation),
        done: 0,
        contended: 0,
        waited_ns: 0.0,
        visits,
    };
    (0..machine.cores).for_each(|core| simulation.compute(core, 0.0));
    while let Some(Reverse(At(now, core, event))) = simulation.events.pop() {
        if now > ns {
            break;
        }
        simulation.step(now, core, event);
    }
    simulation.outcome(ns, per_allocation)
}

impl Simulation<'_> {
    fn compute(&mut self, core: usize, now: f64) {
        let ns = -self.think_ns * (1.0 - self.random.f64()).ln();
        self.events.push(Reverse(At(now + ns, core, Event::Arrives)));
    }

    fn step(&mut self, now: f64, core: usize, event: Event) {
        match event {
            Event::Arrives => {
                let drawn = self.random.f64();
                let visit =
                    self.shares.iter().position(|share| drawn < *share).unwrap_or(self.visits.len() - 1);
                let name = self.visits[visit].0;
                let group = if name.layer.is_grouped() { core / self.machine.group } else { 0 };
                let state = &mut self.cores[core];
                (state.visit, state.lock, state.since) = (visit, visit * self.groups + group, now);
                state.visits += 1;
                let (lock, number) = (state.lock, state.visits);
                if self.locks[lock].held {
                    self.contended += 1;
                    self.locks[lock].spinning.push_back(core);
                    self.events.push(Reverse(At(now + SPIN_NS, core, Event::GivesUp(number))));
                } else {
                    self.hold(core, now);
                }
            }
            Event::GivesUp(number) => {
                let lock = &mut self.locks[self.cores[core].lock];
                if self.cores[core].visits == number
                    && let Some(place) = lock.spinning.iter().position(|other| *other == core)
                {
                    lock.spinning.remove(place);
                    lock.sleeping.push_back(core);
                }
            }
            Event::Wakes => {
                let lock = &mut self.locks[self.cores[core].lock];
                if lock.held {
                    lock.sleeping.push_back(core);
                } else {
                    self.hold(core, now);
                }
            }
            Event::Releases => {
                let lock = self.cores[core].lock;
                self.locks[lock].held = false;
                self.done += 1;
                let next = self.locks[lock].spinning.pop_front();
                let woken = self.locks[lock].sleeping.pop_front();
                if let Some(woken) = woken {
                    self.events.push(Reverse(At(now + WAKE_NS, woken, Event::Wakes)));
                }
                if let Some(next) = next {
                    self.hold(next, now);
                }
                self.compute(core, now + if woken.is_some() { WAKER_NS } else { 0.0 });
            }
        }
    }

    fn hold(&mut self, core: usize, now: f64) {
        let Core { lock, visit, since, .. } = self.cores[core];
        let (name, visit) = self.visits[visit];
        let lock = &mut self.locks[lock];
        let line_ns = match lock.last.replace(core) {
            Some(last) if last == core => 0.0,
            Some(last) if last / self.machine.node != core / self.machine.node => self.machine.far_ns,
            _ => self.machine.near_ns,
        };
        // The lock's own line comes while others already have to wait.
        let ns = visit.held_ns + line_ns * self.machine.lines(name.layer);
        lock.held = true;
        lock.busy_ns += ns;
        self.waited_ns += now - since;
        self.events.push(Reverse(At(now + ns, core, Event::Releases)));
    }

    fn outcome(&self, ns: f64, per_allocation: f64) -> Outcome {
        let busiest = (0..self.locks.len())
            .max_by(|a, b| self.locks[*a].busy_ns.total_cmp(&self.locks[*b].busy_ns))
            .expect("a lock was counted");
        let allocations = self.done as f64 / per_allocation;
        Outcome {
            busiest: self.visits[busiest / self.groups].0.to_string(),
            utilisation: (self.locks[busiest].busy_ns / ns).min(1.0),
            wait_ns: self.waited_ns / allocations.max(1.0),
            allocations_per_ns: allocations / ns,
            contended: self.contended as f64 / self.done.max(1) as f64,
        }
    }
}
