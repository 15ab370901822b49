//! The global allocator's entry points, as `alloc::alloc` declares them.

use core::alloc::Layout;

#[rustc_std_internal_symbol]
unsafe fn __rust_alloc(size: usize, align: usize) -> *mut u8 {
    // SAFETY: `alloc::alloc` passes the parts of a `Layout`.
    heap::allocate(unsafe { Layout::from_size_align_unchecked(size, align) })
}

#[rustc_std_internal_symbol]
unsafe fn __rust_alloc_zeroed(size: usize, align: usize) -> *mut u8 {
    // SAFETY: `alloc::alloc` passes the parts of a `Layout`.
    heap::allocate_zeroed(unsafe { Layout::from_size_align_unchecked(size, align) })
}

#[rustc_std_internal_symbol]
unsafe fn __rust_dealloc(block: *mut u8, size: usize, align: usize) {
    // SAFETY: `alloc::alloc` passes a block of ours with the parts of the layout that it was asked for.
    unsafe { heap::free(block, Layout::from_size_align_unchecked(size, align)) }
}

#[rustc_std_internal_symbol]
unsafe fn __rust_realloc(block: *mut u8, old_size: usize, align: usize, new_size: usize) -> *mut u8 {
    // SAFETY: `alloc::alloc` passes a block of ours with the parts of the layout that it was asked for.
    unsafe { heap::reallocate(block, Layout::from_size_align_unchecked(old_size, align), new_size) }
}

/// For collections whose methods cannot say that there is no memory.
#[rustc_std_internal_symbol]
unsafe fn __rust_alloc_error_handler(size: usize, align: usize) -> ! {
    panic!("out of memory: {size} bytes, aligned to {align}")
}

/// Called by every allocation, so that nobody defines the others by accident.
#[rustc_std_internal_symbol]
fn __rust_no_alloc_shim_is_unstable_v2() {}
