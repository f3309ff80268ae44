//! What a workload is.

use measure::{Description, Meter, Unit};

/// A piece of work whose result is known.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) group: &'static str,
    pub(crate) stresses: &'static str,
    pub(crate) unit: Unit,
    /// Operations in a quick and in a full run.
    pub(crate) quick: u64,
    pub(crate) full: u64,
    /// Returns the checksum. Ends the process when a block does not hold what was written to it.
    pub(crate) run: fn(&mut Meter, u64) -> u64,
}

impl Workload {
    pub(crate) fn describe(&self) -> Description {
        Description {
            name: self.name.to_owned(),
            group: self.group.to_owned(),
            stresses: self.stresses.to_owned(),
            threaded: self.unit == Unit::WallNs || self.name.ends_with("-threads"),
            idle: self.name.starts_with("burst"),
        }
    }
}

/// How much work to do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scale {
    Quick,
    Full,
    Count(u64),
}

impl Scale {
    pub(crate) fn parse(text: &str) -> Option<Scale> {
        match text {
            "quick" => Some(Scale::Quick),
            "full" => Some(Scale::Full),
            count => count.parse().ok().map(Scale::Count),
        }
    }

    pub(crate) fn ops(self, workload: &Workload) -> u64 {
        match self {
            Scale::Quick => workload.quick,
            Scale::Full => workload.full,
            Scale::Count(count) => count,
        }
    }
}
