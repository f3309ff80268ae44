//! What may be done with a mapping's pages.

use core::fmt;

/// What the process may do with the pages: the combinations of read, write and execute that mean something.
///
/// Write without read is left out: the page tables of x86-64 and aarch64 cannot say it, and the kernel grants
/// reading too.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Protection {
    /// No access. Touching the pages raises `SIGSEGV`.
    None,
    /// Read only.
    Read,
    /// Read and write.
    ReadWrite,
    /// Read and run: code that is finished.
    ReadExecute,
    /// Run only. Where the processor cannot do this, the pages are readable too.
    Execute,
    /// Read, write and run. Hardened systems refuse it.
    ReadWriteExecute,
}

impl Protection {
    pub(crate) const fn raw(self) -> i32 {
        match self {
            Protection::None => libc::PROT_NONE,
            Protection::Read => libc::PROT_READ,
            Protection::ReadWrite => libc::PROT_READ | libc::PROT_WRITE,
            Protection::ReadExecute => libc::PROT_READ | libc::PROT_EXEC,
            Protection::Execute => libc::PROT_EXEC,
            Protection::ReadWriteExecute => libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC,
        }
    }

    pub(crate) const fn can_read(self) -> bool {
        self.raw() & libc::PROT_READ != 0
    }

    pub(crate) const fn can_write(self) -> bool {
        self.raw() & libc::PROT_WRITE != 0
    }
}

impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protection::None => "no access",
            Protection::Read => "read",
            Protection::ReadWrite => "read+write",
            Protection::ReadExecute => "read+execute",
            Protection::Execute => "execute",
            Protection::ReadWriteExecute => "read+write+execute",
        })
    }
}
