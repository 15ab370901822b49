//! Memory that devices can reach, and where they see it.

use core::ptr::NonNull;
use frames::Frames;
use handoff::layout::{PAGE, PHYSICAL_MAP};
use virtio_drivers::{BufferDirection, Hal, PhysAddr};

/// The system's memory, as `virtio-drivers` asks for it.
#[derive(Debug)]
pub struct Memory;

/// Physical address that stands for "there is none".
const NONE: PhysAddr = 0;

// SAFETY: frames are owned, zeroed, aligned to a page and seen in the physical map until they are given back; registers
// are mapped for ever; buffers are not copied, so sharing them changes nothing.
unsafe impl Hal for Memory {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let Ok(mut frames) = Frames::allocate(pages) else { return (NONE, NonNull::dangling()) };
        frames.clear();
        let (address, start) = (frames.address(), frames.leak());
        NonNull::new(address).map_or((NONE, NonNull::dangling()), |address| (start, address))
    }

    unsafe fn dma_dealloc(start: PhysAddr, _: NonNull<u8>, pages: usize) -> i32 {
        // SAFETY: `dma_alloc` gave up the ownership of these frames, and the caller has stopped using them.
        drop(unsafe { Frames::from_raw(start, pages) });
        0
    }

    unsafe fn mmio_phys_to_virt(start: PhysAddr, size: usize) -> NonNull<u8> {
        // `probe` has mapped every register of the function before anybody asks.
        let mapped = paging::device(start, (size as u64).max(1)).ok().and_then(NonNull::new);
        mapped.unwrap_or(NonNull::dangling())
    }

    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        let address = buffer.cast::<u8>().addr().get() as u64;
        assert!(
            address >= PHYSICAL_MAP && address - PHYSICAL_MAP < PAGE << 40,
            "a buffer at {address:#x} is no memory for devices"
        );
        address - PHYSICAL_MAP
    }

    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}
