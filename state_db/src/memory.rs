//! Allocation that reports failure instead of ending the program.

use crate::Error;
use alloc::alloc::Layout;
use alloc::boxed::Box;
use alloc::string::String;
use core::ptr::NonNull;

/// Memory of `layout`, whose size is not 0.
pub(crate) fn allocate(layout: Layout) -> Result<NonNull<u8>, Error> {
    assert!(layout.size() != 0);
    // SAFETY: the size is not 0.
    NonNull::new(unsafe { alloc::alloc::alloc(layout) }).ok_or(Error::OutOfMemory)
}

/// `value` on the heap.
pub(crate) fn boxed<T>(value: T) -> Result<Box<T>, Error> {
    let layout = Layout::new::<T>();
    if layout.size() == 0 {
        return Ok(Box::new(value)); // takes no memory
    }
    let place = allocate(layout)?.cast::<T>();
    // SAFETY: fresh memory with the layout of `T`, which the box then owns, as its documentation allows.
    unsafe {
        place.write(value);
        Ok(Box::from_raw(place.as_ptr()))
    }
}

/// `text` on the heap, with no byte to spare.
pub(crate) fn text(text: &str) -> Result<String, Error> {
    let mut copy = String::new();
    copy.try_reserve_exact(text.len()).map_err(|_| Error::OutOfMemory)?;
    copy.push_str(text);
    Ok(copy)
}
