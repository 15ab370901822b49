//! What a policy decides: from which chunk the next objects of a class come. It is asked when the current chunk of a class
//! is full, outside all locks, and nothing it answers can do harm: an answer that does not fit, or no longer fits, is
//! replaced by the built-in choice.
//!
//! 1. A policy must not allocate. If it does, that allocation is served by the built-in choice.
//! 2. It keeps no state of its own about chunks: they may be gone by the next call.
//! 3. Any object can be freed under any policy, so exchanging policies leaves nothing behind.

/// Chunks that a policy is shown at most.
pub const SHOWN: usize = 32;

/// One chunk with room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChunkSummary {
    /// Its virtual address.
    pub address: u64,
    /// Objects given out.
    pub used: u16,
    /// Objects it has room for.
    pub capacity: u16,
}

/// A policy's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The chunk at this place of those shown.
    Chunk(usize),
    /// A new chunk.
    New,
}

/// A policy of the heap.
pub trait HeapPolicy: Sync {
    /// Chooses for `class` (its objects' size in bytes is `object_bytes`) among `chunks`, those with room, at most
    /// [`SHOWN`], most recently freed into first.
    fn choose(&self, class: u8, object_bytes: usize, chunks: &[ChunkSummary]) -> Choice;
}

/// The choice when no policy is bound: the lowest address, which keeps the used part of memory compact.
pub fn built_in(chunks: &[ChunkSummary]) -> Choice {
    let lowest = chunks.iter().enumerate().min_by_key(|(_, chunk)| chunk.address);
    lowest.map_or(Choice::New, |(at, _)| Choice::Chunk(at))
}
