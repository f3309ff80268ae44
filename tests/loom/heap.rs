//! `heap`: what is exchanged between threads, over stand-ins for the rest.

#[path = "../../src/heap/depot.rs"]
pub(crate) mod depot;
#[path = "../../src/heap/magazine.rs"]
pub(crate) mod magazine;
#[path = "../../src/heap/middle.rs"]
pub(crate) mod middle;
#[path = "../../src/heap/purge.rs"]
pub(crate) mod purge;
#[path = "../../src/heap/round.rs"]
mod round;
#[path = "stand_ins.rs"]
pub(crate) mod stand_ins;
#[path = "../../src/heap/work.rs"]
pub(crate) mod work;

pub(crate) use stand_ins::{
    fault, footprint, group, hardened, huge, metadata, segment, segments, settings, size_class, slab_class,
};
