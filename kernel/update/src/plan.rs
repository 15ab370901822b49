//! What a rendezvous is to do, made beforehand.

use alloc::vec::Vec;
use applier::{Prepared, Word};
use arrayvec::ArrayString;
use linker::Placement;

/// Text that moves as a whole: from a copy to another of the same object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Move {
    pub from: u64,
    pub len: u64,
    pub to: u64,
}

/// Why a rendezvous was given up.
#[derive(Clone, Debug)]
pub(crate) struct Obstacle {
    pub task: ArrayString<32>,
    pub why: ArrayString<128>,
}

/// A plan: words to write, and text whose frames move.
#[derive(Debug)]
pub(crate) struct Plan {
    pub prepared: Prepared,
    /// Sorted by `from`.
    moves: Vec<Move>,
    /// Words that do not depend on the moment.
    fixed: usize,
    /// Where the blob lies.
    pub blob: u64,
    /// Why the last rendezvous was given up.
    pub note: Option<Obstacle>,
    /// Frames that the last rendezvous led to new copies.
    pub frames: usize,
}

impl Plan {
    pub fn new(prepared: Prepared, pairs: &[(&Placement, &Placement)], blob: u64) -> Plan {
        let step = |(old, new): &(&Placement, &Placement)| Move { from: old.text.address, len: old.text.len, to: new.text.address };
        let mut moves: Vec<Move> = pairs.iter().map(step).collect();
        moves.sort_unstable_by_key(|step| step.from);
        let fixed = prepared.words().len();
        Plan { prepared, moves, fixed, blob, note: None, frames: 0 }
    }

    /// Forgets the frames of a rendezvous that was given up.
    pub fn begin(&mut self) {
        self.prepared.truncate(self.fixed);
        self.frames = 0;
    }

    /// Where a program counter moves. A return address belongs to the function before it.
    pub fn moved(&self, pc: u64, exact: bool) -> Option<u64> {
        let within = if exact { pc } else { pc - 1 };
        let after = self.moves.partition_point(|step| step.from <= within);
        let step = self.moves.get(after.checked_sub(1)?)?;
        (within - step.from < step.len).then(|| pc - step.from + step.to)
    }

    /// Adds the word of a frame; false if there is no room for it.
    pub fn push_frame(&mut self, at: u64, old: u64, new: u64) -> bool {
        self.frames += 1;
        self.prepared.push(Word { address: at, old, new, width: 8 })
    }
}
