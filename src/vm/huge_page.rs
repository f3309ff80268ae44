//! Huge pages from the kernel's pool (`hugetlb`): their sizes. Transparent huge pages are advice, not this.

use core::fmt;

use crate::base::sync::{AtomicUsize, Ordering};
use crate::vm::errno::Errno;
use crate::vm::platform;

/// Which huge pages a mapping is made of.
///
/// They come from a pool that the administrator fills (`/proc/sys/vm/nr_hugepages`); with none free, mapping fails
/// with an error that names them. Every length of such a mapping, for mapping, unmapping and protecting alike, is
/// rounded to the huge page.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum HugePage {
    /// The kernel's default size: 2 MiB on x86-64 if nobody changed it.
    Default,
    /// 2 MiB.
    Mib2,
    /// 1 GiB.
    Gib1,
}

impl HugePage {
    /// Bytes in one such page.
    ///
    /// # Errors
    /// For [`HugePage::Default`], an error if the kernel has no huge pages.
    pub(crate) fn size(self) -> Result<usize, Errno> {
        static DEFAULT: AtomicUsize = AtomicUsize::new(0);
        match self {
            HugePage::Mib2 => Ok(2 << 20),
            HugePage::Gib1 => Ok(1 << 30),
            // Relaxed: every thread that finds zero computes the same value.
            HugePage::Default => match DEFAULT.load(Ordering::Relaxed) {
                0 => {
                    let size = platform::default_huge_page_size()?;
                    DEFAULT.store(size, Ordering::Relaxed);
                    Ok(size)
                }
                size => Ok(size),
            },
        }
    }
}

impl fmt::Display for HugePage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HugePage::Default => "huge pages (default size)",
            HugePage::Mib2 => "huge pages (2 MiB)",
            HugePage::Gib1 => "huge pages (1 GiB)",
        })
    }
}
