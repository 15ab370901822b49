//! Memory of this process at the addresses that the linker chooses, below 2 GiB as code of this model wants it.

use linker::{Access, Memory, OutOfMemory, PAGE, Places};

/// Where the areas begin.
pub const PLACES: Places =
    Places { text: 0x1000_0000, constants: 0x2000_0000, thunks: 0x3000_0000, hosted: 0x4000_0000, per_cpu: 0 };
/// Where they end.
pub const ENDS: Places =
    Places { text: 0x1800_0000, constants: 0x2800_0000, thunks: 0x3100_0000, hosted: 0x4100_0000, per_cpu: PAGE };
/// What the workload's allocator hands out, and the words at its start that are its state.
pub const HEAP: u64 = 0x5000_0000;
pub const HEAP_BYTES: u64 = 1 << 24;

/// The process's own address space; it is given back when the process ends.
pub struct Machine;

/// Maps pages that can be read, written and run.
pub fn map(address: u64, len: u64) {
    let access = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    let how = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    // SAFETY: nothing of the process lies in these areas but what was mapped here.
    let mapped = unsafe { libc::mmap(address as *mut _, len as usize, access, how, -1, 0) };
    assert_eq!(mapped as u64, address, "no memory at {address:#x}");
}

/// Changes what pages may be used for.
pub fn protect(address: u64, len: u64, access: i32) {
    // SAFETY: pages that were mapped here.
    let done = unsafe { libc::mprotect(address as *mut _, len as usize, access) };
    debug_assert_eq!(done, 0, "{address:#x} cannot be protected");
}

impl Memory for Machine {
    fn back(&mut self, address: u64, len: u64, _: Access) -> Result<(), OutOfMemory> {
        map(address, len);
        Ok(())
    }

    fn bytes_mut(&mut self, address: u64, len: u64) -> &mut [u8] {
        // SAFETY: backed before, and lent to the linker alone.
        unsafe { core::slice::from_raw_parts_mut(address as *mut u8, len as usize) }
    }

    fn bytes(&self, address: u64, len: u64) -> &[u8] {
        // SAFETY: as above.
        unsafe { core::slice::from_raw_parts(address as *const u8, len as usize) }
    }
}
