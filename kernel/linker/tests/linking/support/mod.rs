//! What the tests share.

pub mod check;
pub mod elf;
pub mod frames;
pub mod goblin;
pub mod heap;
pub mod memory;
pub mod random;
pub mod small;
pub mod world;

use linker::Places;

/// Where a test's areas begin: where they begin on the machine.
pub const PLACES: Places = Places {
    text: 0xffff_ffff_8000_0000,
    constants: 0xffff_ffff_8800_0000,
    thunks: 0xffff_ffff_8a00_0000,
    hosted: 0xffff_ffff_8a80_0000,
    per_cpu: 256,
};
