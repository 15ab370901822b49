//! The loader: the running system's knowledge of its own code.
//!
//! At boot it links the boot set once more from the archive, at the same addresses, and compares every byte with what
//! `nano_core` left; then it links the cells that were not in the boot set. From then on it owns the [`World`]: the graph of
//! cells, the memory of their copies, the map that the unwinder reads.
//!
//! 1. Whoever changes the world, or reads it for longer than a moment, does so inside [`with_world`]: one at a time.
//! 2. A cell that cannot be linked is refused with a sentence; the others run without it.
#![no_std]
#![allow(unsafe_code, reason = "turns linked addresses into functions and memory")]

extern crate alloc;

mod archive;
mod boot;
mod error;
mod memory;
mod names;
mod text_map;
mod world;

pub use archive::Archive;
pub use boot::start;
pub use error::Error;
pub use memory::{Live, Running};
pub use names::{Named, name, plain};
pub use text_map::Map;
pub use world::{Copy, Listed, OldCopy, Refused, World, with_world};

/// The function that the exported symbol names: its thunk, which may be kept.
///
/// # Errors
/// [`Error::NoSymbol`] and [`Error::Busy`].
pub fn symbol(name: &str) -> Result<usize, Error> {
    with_world(|world| world.graph.symbol(name))?
        .map(|address| address as usize)
        .ok_or_else(|| Error::NoSymbol(alloc::string::String::from(name)))
}
