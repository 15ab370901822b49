//! What is known of a failure where it is caught.

use crate::text_map::TextMap;
use arrayvec::{ArrayString, ArrayVec};
use core::fmt;
use handoff::layout;

/// Frames that a failure remembers.
pub const TRACE: usize = 16;

/// A panic's words, cut where they no longer fit.
pub type Message = ArrayString<200>;

/// What made a task fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Its code panicked.
    Panic,
    /// The CPU raised an exception.
    Fault {
        /// Which one (Intel SDM volume 3, table 6-1).
        vector: u8,
        /// The error code that came with it, or 0.
        error: u64,
        /// The address it could not access, for a page fault.
        address: u64,
    },
    /// Somebody ended it.
    Killed,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Failure::Panic => f.write_str("panic"),
            Failure::Killed => f.write_str("killed"),
            Failure::Fault { vector: 14, error, address } => {
                let what = match (error & 16 != 0, error & 2 != 0) {
                    (true, _) => "execute",
                    (false, true) => "write",
                    (false, false) => "read",
                };
                let how = match error & 1 != 0 {
                    true => ", which is mapped otherwise",
                    // Nothing of the area is unmapped but the guards below stacks, and stacks that are gone.
                    false if layout::is_stack(address) => ", below a stack: it is full",
                    false => "",
                };
                write!(f, "page fault: {what} at {address:#x}{how}")
            }
            Failure::Fault { vector, error, .. } => write!(f, "{} (error {error:#x})", exception(vector)),
        }
    }
}

fn exception(vector: u8) -> &'static str {
    match vector {
        0 => "division error",
        1 => "debug exception",
        3 => "breakpoint",
        4 => "overflow",
        5 => "bound range exceeded",
        6 => "invalid instruction",
        7 => "device not available",
        8 => "double fault",
        10 => "invalid task state segment",
        11 => "segment not present",
        12 => "stack segment fault",
        13 => "general protection fault",
        16 => "floating-point error",
        17 => "misaligned access",
        19 => "vector floating-point error",
        _ => "CPU exception",
    }
}

/// A place in code that stays true when code moves: addresses are never kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The loader's index of the cell; `None` if no cell has text there.
    pub cell: Option<u32>,
    /// Which copy of the cell.
    pub copy: u32,
    /// Bytes from the start of the copy's text; the address itself where there is no cell.
    pub offset: u64,
}

impl Place {
    /// The place of the instruction at, or around, `pc`.
    pub fn of(map: &TextMap, pc: u64) -> Place {
        match map.find(pc) {
            Some(range) => Place { cell: Some(range.cell), copy: range.copy, offset: pc - range.start },
            None => Place { cell: None, copy: 0, offset: pc },
        }
    }
}

/// A failure that was caught. It owns nothing, so it may go anywhere.
#[derive(Clone, Debug)]
pub struct Caught {
    /// What happened.
    pub failure: Failure,
    /// A panic's words; empty otherwise.
    pub message: Message,
    /// Where, innermost function first. A fault's first place is the instruction itself; a panic's first places are in
    /// the cells that make a panic (`unwind`, `runtime`, `core`), for the reader to skip by name.
    pub trace: ArrayVec<Place, TRACE>,
}

impl fmt::Display for Caught {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.failure, f)?;
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        Ok(())
    }
}

/// Writes into a string of fixed size and drops what no longer fits, at a character's boundary.
#[cfg(target_os = "none")]
pub(crate) struct Cut<'a, const N: usize>(pub &'a mut ArrayString<N>);

#[cfg(target_os = "none")]
impl<const N: usize> fmt::Write for Cut<'_, N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.0.remaining_capacity();
        self.0.push_str(&text[..text.floor_char_boundary(room)]);
        Ok(())
    }
}
