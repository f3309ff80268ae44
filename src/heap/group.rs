//! Groups of processors, each with depots and slabs of its own: what threads exchange stays among processors that are
//! near each other, and the locks of a class are as many as the groups.
//!
//! A group is eight neighbours by number, which is often how the cores of a cache and of a memory node are numbered. A thread
//! belongs to the group that it runs on: it asks whenever it leaves its magazines, so nothing is wrong if it moved, and
//! threads that wander do not gather in one group. Machines of up to eight processors have one group, and nobody asks.

use crate::base::sync::{AtomicUsize, Ordering};
use crate::config::{GROUPS_MAX, PROCESSORS_IN_GROUP};
use crate::vm::{processor, processors};

static GROUPS: AtomicUsize = AtomicUsize::new(1);

/// The number of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Group(usize);

/// Makes as many groups as the processors are worth that the process may run on. Before there are threads.
pub(super) fn set() {
    GROUPS.store(processors().div_ceil(PROCESSORS_IN_GROUP).clamp(1, GROUPS_MAX), Ordering::Relaxed);
}

impl Group {
    /// The calling thread's, at this moment.
    #[inline]
    pub(crate) fn current() -> Group {
        match GROUPS.load(Ordering::Relaxed) {
            1 => Group(0),
            groups => Group(processor() / PROCESSORS_IN_GROUP % groups),
        }
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
