//! `vm`: the lock and the addresses that wait, over a stand-in for the system.

#[path = "../../src/vm/lock.rs"]
mod lock;
#[path = "../../src/vm/release.rs"]
pub(crate) mod release;
#[path = "stand_ins_vm.rs"]
pub(crate) mod stand_ins;

pub(crate) use lock::{Guard, Lock};
pub(crate) use stand_ins::{hooks, platform, sys};
