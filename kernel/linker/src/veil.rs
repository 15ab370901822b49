//! Addresses that are written down so that they do not look like ones.
//!
//! Whether something still refers to an old constant or thunk is found by looking through memory for its address. The
//! linker's own books know every address, and must not count.

/// An address in the books. 0 stays 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Veiled(u64);

impl Veiled {
    pub const fn new(address: u64) -> Veiled {
        Veiled(address.rotate_left(32))
    }

    pub const fn get(self) -> u64 {
        self.0.rotate_right(32)
    }
}
