//! The exact walk over a stopped task's frames, from its register block to the base of its stack.
//!
//! It is trusted by a live update with rewriting return addresses, so it proves what it can and refuses the rest:
//!
//! 1. A return address belongs to the function of the byte before it, a saved program counter to the function it points
//!    into: a function may end in a call.
//! 2. In the innermost frame of an interrupted task, and in a frame below a signal frame, a rule whose slot lies below
//!    rsp is void: the epilogue has popped the register already and the tables do not say so.
//! 3. A return address follows a call instruction.
//! 4. Every slot lies in the given stacks; rsp only grows.
//! 5. The walk ends at a return address 0 in the word below the base, and nowhere else.
//!
//! It allocates nothing, writes nothing, and needs at most 6 KiB of stack.

use crate::fde::{Rows, row};
use crate::registers::{CALLED, RegisterBlock, number};
use crate::text_map::{TextMap, text_map};
use core::ops::Range;
use gimli::{CfaRule, Register, RegisterRule};

/// One frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Where this function goes on: a return address, or a saved program counter if `exact`.
    pub pc: u64,
    /// Where `pc` is stored: a word of the stack, or `rip` of the register block.
    pub at: *mut u64,
    /// `pc` was saved by an interrupt or exception: it belongs to the function it points into. Otherwise it is a return
    /// address and belongs to the function of the byte before it.
    pub exact: bool,
    /// What rsp was before this function was called (its canonical frame address).
    pub cfa: u64,
}

/// Why a stack could not be walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the sentences name the fields")]
pub enum WalkError {
    #[error("there is no map of text yet")]
    NoMap,
    #[error("no cell has text at {pc:#x}")]
    NoText { pc: u64 },
    #[error("no unwind table covers {pc:#x}")]
    NoUnwindInfo { pc: u64 },
    #[error("the unwind table for {pc:#x} is malformed: {source}")]
    Malformed { pc: u64, source: gimli::Error },
    #[error("the frame at {pc:#x} is described by a rule that no compiler of this system writes")]
    Unsupported { pc: u64 },
    #[error("the frame at {pc:#x} depends on register {register}, whose value is lost")]
    RegisterLost { pc: u64, register: u16 },
    #[error("the frame at {pc:#x} would end at {cfa:#x}, not above the stack pointer {rsp:#x}")]
    Descends { pc: u64, cfa: u64, rsp: u64 },
    #[error("the frame at {pc:#x} keeps a word at {slot:#x}, outside the task's stack")]
    OutsideStack { pc: u64, slot: u64 },
    #[error("{pc:#x}, found at {slot:#x}, is no return address: no call stands before it")]
    NotAfterCall { pc: u64, slot: u64 },
    #[error("the walk ended at {slot:#x}, expected at {expected:#x}")]
    WrongEnd { slot: u64, expected: u64 },
    #[error("stopped at {pc:#x} by the one who asked for the walk")]
    Stopped { pc: u64 },
}

/// Walks the task stopped at `block`, with the map of the running system. See [`walk_in`].
///
/// # Errors
/// The first rule that does not hold, or what `each` returned.
pub fn walk(
    block: *mut RegisterBlock,
    bounds: &[Range<u64>],
    base: u64,
    each: &mut dyn FnMut(&Frame) -> Result<(), WalkError>,
) -> Result<(), WalkError> {
    walk_in(text_map().ok_or(WalkError::NoMap)?, block, bounds, base, each)
}

/// Walks the task stopped at `block`, innermost frame first, and calls `each` for every frame.
///
/// `bounds` are the stacks that frames may lie in; `base` is the top of the task's stack: its first function was entered
/// with rsp at `base - 8`, where 0 stands as its return address. The task must not run meanwhile. The caller walks to
/// the end before it writes through any `Frame::at`.
///
/// # Errors
/// The first rule that does not hold, or what `each` returned.
pub fn walk_in(
    map: &TextMap,
    block: *mut RegisterBlock,
    bounds: &[Range<u64>],
    base: u64,
    each: &mut dyn FnMut(&Frame) -> Result<(), WalkError>,
) -> Result<(), WalkError> {
    let mut rows = Rows::new_in();
    let mut cursor = Cursor::new(block);
    while cursor.step(map, &mut rows, bounds, each)? {}
    let expected = base.wrapping_sub(8);
    if cursor.at as u64 != expected {
        return Err(WalkError::WrongEnd { slot: cursor.at as u64, expected });
    }
    Ok(())
}

/// A walk between two frames: the registers as they were in the frame that is next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor {
    /// By DWARF's numbers; only those of `known` mean anything.
    registers: [u64; 16],
    known: u16,
    pub(crate) pc: u64,
    pub(crate) at: *mut u64,
    pub(crate) exact: bool,
    /// Whether the last step met a void rule, so that its function was in an epilogue.
    pub(crate) in_epilogue: bool,
}

/// rbx, rbp, r12 to r15: what a function gives back as it found it. rsp is known always.
const PRESERVED: u16 = 1 << number::RBX | 1 << number::RBP | 1 << number::RSP | 0xf << number::R12;

impl Cursor {
    pub(crate) fn new(block: *mut RegisterBlock) -> Cursor {
        // SAFETY: the caller has a stopped task's block, or its own.
        let (kept, at) = unsafe { (&*block, &raw mut (*block).rip) };
        let called = kept.kind == CALLED;
        Cursor {
            registers: kept.by_number(),
            known: if called { PRESERVED } else { u16::MAX },
            pc: kept.rip,
            at,
            exact: !called,
            in_epilogue: false,
        }
    }

    /// A register by DWARF's number, if its value is known here.
    pub(crate) fn register(&self, register: usize) -> Option<u64> {
        (register < 16 && self.known & 1 << register != 0).then(|| self.registers[register])
    }

    /// The byte by which the frame's function is found.
    fn lookup(&self) -> u64 {
        if self.exact { self.pc } else { self.pc.wrapping_sub(1) }
    }

    /// Reports the frame and goes to its caller. False at the end, where `at` is the slot that holds 0.
    pub(crate) fn step(
        &mut self,
        map: &TextMap,
        rows: &mut Rows,
        bounds: &[Range<u64>],
        each: &mut dyn FnMut(&Frame) -> Result<(), WalkError>,
    ) -> Result<bool, WalkError> {
        let pc = self.pc;
        let rsp = self.registers[number::RSP];
        let (row, signal) = row(map, rows, self.lookup())?;

        let CfaRule::RegisterAndOffset { register, offset } = *row.cfa() else {
            return Err(WalkError::Unsupported { pc });
        };
        let from = self.register(register.0.into()).ok_or(WalkError::RegisterLost { pc, register: register.0 })?;
        let cfa = from.wrapping_add_signed(offset);
        each(&Frame { pc, at: self.at, exact: self.exact, cfa })?;

        let mut caller = *self;
        caller.in_epilogue = false;
        caller.known = self.known & PRESERVED;
        caller.registers[number::RSP] = cfa;
        let mut slot = None;
        for &(Register(register), ref rule) in row.registers() {
            let value = match *rule {
                RegisterRule::Offset(offset) => {
                    let at = cfa.wrapping_add_signed(offset);
                    if register == number::RETURN_ADDRESS {
                        slot = Some(at);
                        continue;
                    }
                    if self.exact && at < rsp {
                        caller.in_epilogue = true;
                        continue;
                    }
                    Some(read(bounds, pc, at)?)
                }
                RegisterRule::ValOffset(offset) => Some(cfa.wrapping_add_signed(offset)),
                RegisterRule::SameValue => self.register(register.into()),
                RegisterRule::Register(Register(from)) => self.register(from.into()),
                RegisterRule::Undefined => None,
                _ => return Err(WalkError::Unsupported { pc }),
            };
            if register >= 16 {
                return Err(WalkError::Unsupported { pc });
            }
            match value {
                Some(value) => {
                    caller.registers[usize::from(register)] = value;
                    caller.known |= 1 << register;
                }
                None => caller.known &= !(1 << register),
            }
        }

        let slot = slot.ok_or(WalkError::Unsupported { pc })?;
        caller.pc = read(bounds, pc, slot)?;
        caller.at = slot as *mut u64;
        caller.exact = signal;
        let above = caller.register(number::RSP).ok_or(WalkError::RegisterLost { pc, register: number::RSP as u16 })?;
        if above <= rsp {
            return Err(WalkError::Descends { pc, cfa: above, rsp });
        }
        if caller.pc != 0 && !signal && !follows_call(map, caller.pc) {
            return Err(WalkError::NotAfterCall { pc: caller.pc, slot });
        }
        *self = caller;
        Ok(self.pc != 0)
    }

    /// Goes to the caller of code that no cell has: a call through a wild pointer, after which only the return address
    /// has been pushed. False if none is there.
    #[cfg_attr(not(target_os = "none"), allow(dead_code, reason = "used where faults are raised"))]
    pub(crate) fn leave_wild_call(&mut self, map: &TextMap, bounds: &[Range<u64>]) -> bool {
        let rsp = self.registers[number::RSP];
        let Ok(pc) = read(bounds, self.pc, rsp) else { return false };
        if map.find(self.pc).is_some() || !follows_call(map, pc) {
            return false;
        }
        self.known &= PRESERVED;
        self.registers[number::RSP] = rsp + 8;
        (self.pc, self.at, self.exact) = (pc, rsp as *mut u64, false);
        true
    }
}

/// The word at `slot` of the stacks `bounds`.
fn read(bounds: &[Range<u64>], pc: u64, slot: u64) -> Result<u64, WalkError> {
    let inside = bounds.iter().any(|area| area.start <= slot && slot < area.end && area.end - slot >= 8);
    if !inside || !slot.is_multiple_of(8) {
        return Err(WalkError::OutsideStack { pc, slot });
    }
    // SAFETY: a whole, aligned word of a stack, which is mapped; nobody runs on it, or the caller does and only above.
    Ok(unsafe { (slot as *const u64).read() })
}

/// Whether a call instruction ends where `pc` points: `call rel32`, or `call r/m64` in one of its lengths (Intel SDM
/// volume 2, CALL and table 2-2).
pub(crate) fn follows_call(map: &TextMap, pc: u64) -> bool {
    let Some(range) = map.find(pc.wrapping_sub(1)) else { return false };
    let before = usize::try_from(pc - range.start).unwrap_or(usize::MAX).min(7);
    // SAFETY: these bytes lie in the text that the map names, which is mapped and readable.
    let bytes = unsafe { core::slice::from_raw_parts((pc - before as u64) as *const u8, before) };
    ends_in_call(bytes)
}

/// Whether `bytes`, up to seven, end in a call instruction.
fn ends_in_call(bytes: &[u8]) -> bool {
    let len = bytes.len();
    let back = |count: usize| bytes.get(len.checked_sub(count)?).copied();
    if back(5) == Some(0xe8) {
        return true;
    }
    (2..=7).any(|count| {
        let (Some(0xff), Some(modrm)) = (back(count), back(count - 1)) else { return false };
        let (mode, operation, memory) = (modrm >> 6, modrm >> 3 & 7, modrm & 7);
        let sib = usize::from(mode != 3 && memory == 4);
        let displacement = match mode {
            0 if memory == 5 => 4,
            0 if memory == 4 && back(count - 2).is_some_and(|sib| sib & 7 == 5) => 4,
            1 => 1,
            2 => 4,
            _ => 0,
        };
        operation == 2 && count == 2 + sib + displacement
    })
}

#[cfg(test)]
mod tests {
    use super::ends_in_call;

    #[test]
    fn calls_in_all_their_lengths() {
        let calls: [&[u8]; 10] = [
            &[0xe8, 1, 2, 3, 4],
            &[0xff, 0xd0],                      // call rax
            &[0x41, 0xff, 0xd3],                // call r11
            &[0xff, 0x10],                      // call [rax]
            &[0xff, 0x50, 0x18],                // call [rax+0x18]
            &[0xff, 0x90, 0, 1, 0, 0],          // call [rax+0x100]
            &[0xff, 0x14, 0x24],                // call [rsp]
            &[0xff, 0x54, 0x24, 8],             // call [rsp+8]
            &[0xff, 0x14, 0xc5, 0, 0, 0, 0x80], // call [rax*8-0x80000000]
            &[0xff, 0x94, 0x24, 0, 1, 0, 0],    // call [rsp+0x100]
        ];
        for call in calls {
            assert!(ends_in_call(call), "{call:x?}");
        }
    }

    #[test]
    fn what_is_no_call() {
        let others: [&[u8]; 7] = [
            &[],
            &[0x90],
            &[0xc3, 0xc3],
            &[0xe9, 1, 2, 3, 4], // jmp rel32
            &[0xff, 0xe0],       // jmp rax
            &[0xff, 0x60, 0x18], // jmp [rax+0x18]
            &[0xff, 0xd0, 0x90], // call rax, and one byte more
        ];
        for other in others {
            assert!(!ends_in_call(other), "{other:x?}");
        }
    }
}
