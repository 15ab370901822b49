//! What a rendezvous is to do, made beforehand.

use crate::migrate::Migrating;
use alloc::vec::Vec;
use applier::{Prepared, Word};
use arrayvec::ArrayString;
use core::fmt::{self, Write};
use linker::Move;

/// Why a rendezvous was given up.
#[derive(Clone, Debug)]
pub(crate) struct Obstacle {
    pub task: ArrayString<32>,
    pub why: ArrayString<256>,
}

impl Obstacle {
    /// An obstacle, and why it is one.
    pub fn new(task: ArrayString<32>, why: fmt::Arguments<'_>) -> Obstacle {
        let mut text = ArrayString::new();
        // A sentence that is cut still says enough.
        let _ = text.write_fmt(why);
        Obstacle { task, why: text }
    }
}

/// A plan: words to write, and text whose frames move.
#[derive(Debug)]
pub(crate) struct Plan {
    pub prepared: Prepared,
    /// Sorted by `from`.
    moves: Vec<Move>,
    /// Text that is replaced: start and length, sorted.
    old: Vec<(u64, u64)>,
    /// Words that do not depend on the moment.
    fixed: usize,
    /// Where the blob lies.
    pub blob: u64,
    /// Why the last rendezvous was given up.
    pub note: Option<Obstacle>,
    /// Frames that the last rendezvous led to new copies.
    pub frames: usize,
    /// Starts of replaced texts in which a frame stays.
    pub pinned: Vec<u64>,
    /// The values that move, if any do.
    pub migrating: Option<Migrating>,
}

/// Where a frame goes.
pub(crate) enum Fate {
    /// It is not in text that is replaced.
    None,
    /// To the same place in the new copy.
    Moves(u64),
    /// Its function has changed: it runs to its end in the old copy.
    Stays(u64),
}

impl Plan {
    pub fn new(
        prepared: Prepared,
        moves: Vec<Move>,
        old: Vec<(u64, u64)>,
        blob: u64,
        migrating: Option<Migrating>,
    ) -> Plan {
        let fixed = prepared.words().len();
        // In the event kernel no memory is asked for: every text can be pinned once.
        let pinned = Vec::with_capacity(old.len());
        Plan { prepared, moves, old, fixed, blob, note: None, frames: 0, pinned, migrating }
    }

    /// Forgets the frames of a rendezvous that was given up.
    pub fn begin(&mut self) {
        self.prepared.truncate(self.fixed);
        self.frames = 0;
        self.pinned.clear();
    }

    /// What becomes of a program counter. A return address belongs to the function before it.
    pub fn fate(&self, pc: u64, exact: bool) -> Fate {
        let within = if exact { pc } else { pc - 1 };
        let after = self.moves.partition_point(|step| step.from <= within);
        if let Some(step) = after.checked_sub(1).map(|at| &self.moves[at]).filter(|step| within - step.from < step.len)
        {
            return Fate::Moves(pc - step.from + step.to);
        }
        let after = self.old.partition_point(|(start, _)| *start <= within);
        match after.checked_sub(1).map(|at| self.old[at]) {
            Some((start, len)) if within - start < len => Fate::Stays(start),
            _ => Fate::None,
        }
    }

    /// What a frame is in, if no task may stand there.
    pub fn holder(&self, pc: u64, exact: bool) -> Option<&str> {
        self.migrating.as_ref()?.holder(if exact { pc } else { pc - 1 })
    }

    /// Remembers that a frame stays in the text at `start`.
    pub fn pin(&mut self, start: u64) {
        if !self.pinned.contains(&start) && self.pinned.len() < self.pinned.capacity() {
            self.pinned.push(start);
        }
    }

    /// Adds the word of a frame; false if there is no room for it.
    pub fn push_frame(&mut self, at: u64, old: u64, new: u64) -> bool {
        self.frames += 1;
        self.prepared.push(Word { address: at, old, new, width: 8 })
    }
}
