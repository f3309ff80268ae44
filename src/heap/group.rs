//! Groups of processors, each with depots and slabs of its own: what threads exchange stays among processors that are
//! near each other, and the locks of a class are as many as the groups.
//!
//! A group is eight neighbours by number, which is often how the cores of a cache and of a memory node are numbered. A thread
//! belongs to the group that it runs on: it asks whenever it leaves its magazines, so nothing is wrong if it moved, and
//! threads that wander do not gather in one group. Machines of up to eight processors have one group, and nobody asks.

use crate::base::sync::{AtomicU8, AtomicUsize, Ordering};
use crate::config::{GROUPS_MAX, PROCESSORS_IN_GROUP};
use crate::vm::{Processors, processor, processors};

static GROUPS: AtomicUsize = AtomicUsize::new(1);

/// For eight processors by number: their group. Numbers that the process may not use lie between those that it may, where a
/// container has some cores with their second threads.
static OF_EIGHT: [AtomicU8; size_of::<Processors>()] = [const { AtomicU8::new(0) }; _];

/// The number of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Group(usize);

/// Makes as many groups as the processors are worth that the process may run on. Before there are threads.
pub(super) fn set() {
    let mask = processors();
    let count: usize = mask.iter().map(|eight| eight.count_ones() as usize).sum();
    let groups = count.div_ceil(PROCESSORS_IN_GROUP).clamp(1, GROUPS_MAX);
    if groups == 1 {
        return;
    }
    let mut before = 0;
    for (number, (eight, group)) in mask.iter().zip(&OF_EIGHT).enumerate() {
        // Those that it may run on later are spread.
        let nth = if *eight == 0 { number } else { before / PROCESSORS_IN_GROUP };
        group.store((nth % groups) as u8, Ordering::Relaxed);
        before += eight.count_ones() as usize;
    }
    GROUPS.store(groups, Ordering::Relaxed);
}

impl Group {
    /// The calling thread's, at this moment.
    #[inline]
    pub(crate) fn current() -> Group {
        if GROUPS.load(Ordering::Relaxed) == 1 {
            return Group(0);
        }
        Group(OF_EIGHT[processor() / 8 % OF_EIGHT.len()].load(Ordering::Relaxed).into())
    }

    pub(crate) fn all() -> impl Iterator<Item = Group> {
        (0..Group::count()).map(Group)
    }

    pub(crate) fn count() -> usize {
        GROUPS.load(Ordering::Relaxed)
    }

    /// The group with this number. What is none comes from a block that is not ours, and is found out later.
    pub(super) fn from_index(index: usize) -> Group {
        Group(index % GROUPS_MAX)
    }

    pub(crate) fn index(self) -> usize {
        self.0
    }
}
