//! A heap policy: objects come from the lowest chunk with room, so that memory fills from below and the chunks above empty
//! and go back. Ties cannot occur; a new chunk is wanted only if none has room.
//!
//! It has no parameters and no state.
#![no_std]
#![allow(unsafe_code, reason = "the binder is found by its unmangled name")]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use heap::{Choice, ChunkSummary, HeapPolicy};

/// The policy.
#[derive(Clone, Copy, Debug)]
pub struct Lowest;

impl HeapPolicy for Lowest {
    fn choose(&self, _class: u8, _object_bytes: usize, chunks: &[ChunkSummary]) -> Choice {
        let lowest = chunks.iter().enumerate().min_by_key(|(_, chunk)| chunk.address);
        lowest.map_or(Choice::New, |(at, _)| Choice::Chunk(at))
    }
}

/// Binds the policy. Called by the starter for the service `heap`.
///
/// # Errors
/// If there are parameters.
// SAFETY: the name is this service's alone: it is that of the cell.
#[unsafe(no_mangle)]
pub extern "Rust" fn delias_service_heap_lowest(parameters: &str) -> Result<(), String> {
    if !parameters.is_empty() {
        return Err(format!("heap_lowest takes no parameters, but got {parameters:?}"));
    }
    heap::set_policy(Some(&Lowest));
    Ok(())
}

/// Ends it: the heap chooses by itself again.
///
/// # Errors
/// None.
// SAFETY: the name is this service's alone: it is that of the cell.
#[unsafe(no_mangle)]
pub extern "Rust" fn delias_revoke_heap_lowest() -> Result<(), String> {
    heap::set_policy(None);
    Ok(())
}
