//! Whether a range that is about to be written lies in one block that is out.

use core::ptr::NonNull;

use super::{huge, middle, small, zero};
use crate::heap::segment::{Kind, Segment};
use crate::heap::size_class::SizeClass;
use crate::heap::{directory, fault};

/// Dies when `len` bytes from `start` on begin in the heap's memory, and do not lie in one block that is out.
pub(crate) fn check_write(start: NonNull<u8>, len: usize) {
    if len == 0 {
        return;
    }
    if !directory::holds(start) {
        if zero::holds(start) {
            fault::die_of_stray_write(start.as_ptr());
        }
        return;
    }
    // SAFETY: the directory knows the header. Of a block that is freed meanwhile something is said that was true. Of a
    // small one only the tag is looked at: the rest can wait until it is freed.
    let out = unsafe {
        match Segment::kind_at(start) {
            Kind::Class(class) if class.index() < SizeClass::SMALL => small::find(start, class),
            Kind::Class(_) => {
                let block = middle::block_in(Segment::start_of_run(start));
                block.map(|block| (block, middle::size(block)))
            }
            // The header's segment may be longer than its mapping: others live behind.
            Kind::Huge if !huge::is_in_mapping(start) => return,
            Kind::Huge => huge::block_at(start).map(|block| (block, huge::size(block))),
            Kind::None => None,
        }
    };
    let Some((block, size)) = out.filter(|(block, _)| *block <= start) else {
        fault::die_of_stray_write(start.as_ptr())
    };
    let offset = start.addr().get() - block.addr().get();
    if offset >= size {
        fault::die_of_stray_write(start.as_ptr());
    }
    if len > size - offset {
        fault::die_of_long_write(block.as_ptr());
    }
}
