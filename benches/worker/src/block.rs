//! A block with its own mark in its first and last bytes, so that a broken allocator cannot win.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::hint::black_box;
use std::ptr::NonNull;

/// Owns `size` bytes, at least eight.
pub(crate) struct Block {
    start: NonNull<u8>,
    size: u32,
    mark: u32,
}

// SAFETY: owns its bytes.
unsafe impl Send for Block {}
// SAFETY: gives out no reference to its bytes.
unsafe impl Sync for Block {}

impl Block {
    #[inline]
    pub(crate) fn new(size: usize, mark: u64) -> Block {
        assert!(size >= 8);
        let layout = Layout::from_size_align(size, 8).expect("small numbers");
        // SAFETY: the size is not zero; the mark lies in the block.
        unsafe {
            let Some(start) = NonNull::new(black_box(alloc(layout))) else { handle_alloc_error(layout) };
            let block = Block { start, size: size as u32, mark: mark as u32 };
            start.cast::<u32>().write(block.mark);
            start.add(size - 1).write(block.last());
            block
        }
    }

    fn last(&self) -> u8 {
        (self.mark ^ self.size) as u8 | 1
    }

    /// Frees it, having looked at the marks, which the sum of all blocks' values shows.
    #[inline]
    pub(crate) fn take(self) -> u64 {
        u64::from(self.mark) + u64::from(self.size)
    }

    /// Gives it up for an address that another thread can take. Of at least 16 bytes.
    pub(crate) fn into_raw(self) -> *mut u8 {
        assert!(self.size >= 16);
        let start = self.start.as_ptr();
        // SAFETY: behind the mark and before the last byte.
        unsafe { start.cast::<u32>().add(1).write(self.size) };
        std::mem::forget(self);
        start
    }

    /// # Safety
    /// From [`Block::into_raw`], once.
    pub(crate) unsafe fn from_raw(start: *mut u8) -> Block {
        // SAFETY: the caller's.
        unsafe {
            let header = start.cast::<u32>();
            Block { start: NonNull::new_unchecked(start), mark: header.read(), size: header.add(1).read() }
        }
    }

    pub(crate) fn size(&self) -> usize {
        self.size as usize
    }

    pub(crate) fn address(&self) -> *mut u8 {
        self.start.as_ptr()
    }
}

impl Drop for Block {
    #[inline]
    fn drop(&mut self) {
        let size = self.size as usize;
        // SAFETY: the block was made in `new` with this layout, and nothing else has it.
        unsafe {
            if self.start.cast::<u32>().read() != self.mark || self.start.add(size - 1).read() != self.last()
            {
                overwritten(self.start, size);
            }
            dealloc(self.start.as_ptr(), Layout::from_size_align_unchecked(size, 8));
        }
    }
}

#[cold]
fn overwritten(start: NonNull<u8>, size: usize) -> ! {
    eprintln!("the block of {size} bytes at {start:p} does not hold what was written to it");
    std::process::abort()
}
