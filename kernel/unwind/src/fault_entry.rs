//! Where the event kernel resumes a task that faulted or is to die: inside the task, on its own stack, with a frame whose
//! caller is the interrupted instruction.
//!
//! ```text
//!   what the task was doing     its frames, up to the base of its stack
//!   ------------------------    rsp when it was stopped
//!   RegisterBlock               its registers then; rdi points here
//!   ------------------------    rsp on entry, or lower; on the reserve after a stack overflow
//!   entry, raise, unwinder
//! ```
//!
//! [`entry`] describes itself as a signal frame: canonical frame address = the block, and every register that a landing
//! pad or another frame's description may need, rip and rsp included, restored from it. So the unwinder and the exact
//! walk pass from it to the interrupted function. (r10 and r11: a stack probe keeps its frame's address there.)

#[cfg(target_os = "none")]
use crate::fault::raise_from;
use crate::registers::{CALLED, INTERRUPTED, RegisterBlock};
#[cfg(test)]
use crate::tests::raise_from;

/// Why a task is sent to [`fault_entry_address`].
#[repr(u64)]
#[cfg_attr(test, allow(dead_code, reason = "the tests send one of the two"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The CPU raised the exception of the block's `vector` and `error`.
    Fault = 0,
    /// Somebody ends it.
    Kill = 1,
}

/// Where a task is resumed to raise a failure in it, with
///
/// - rdi = address of the [`RegisterBlock`] of what it was doing, 8-byte aligned, on its stack or reserve;
/// - rsi = [`Cause`]; rdx = the address that could not be accessed, or 0;
/// - rsp = the block's address or lower, with 16 KiB of stack below;
/// - direction flag clear; interrupts as the task had them.
///
/// [`aim_at_fault_entry`] does all this.
pub fn fault_entry_address() -> u64 {
    entry as *const () as u64
}

/// Changes a stopped task so that, when `block` is resumed, it unwinds. Copies `block` below `top`, the lowest address in
/// use of the stack to unwind on: the address of the block itself, or the end of the reserve after a stack overflow.
/// Returns where the copy lies.
///
/// # Safety
/// `block` must be that of a stopped task, with a stack below `top` of 16 KiB that nobody uses. A task that is marked as
/// unwinding ends without destructors: let it land first.
pub unsafe fn aim_at_fault_entry(
    block: *mut RegisterBlock,
    top: u64,
    cause: Cause,
    address: u64,
) -> *mut RegisterBlock {
    /// Carry, parity, adjust, zero, sign, overflow, interrupt: what a task may keep; not trap, direction, resume, ...
    const KEPT_FLAGS: u64 = 0xad5;
    /// Interrupts on; bit 1 is always set.
    const CALLED_FLAGS: u64 = 0x202;
    let copy = ((top - size_of::<RegisterBlock>() as u64) & !15) as *mut RegisterBlock;
    let (cs, ss): (u64, u64);
    // SAFETY: reads two selectors.
    unsafe {
        core::arch::asm!("mov {:e}, cs", "mov {:e}, ss", out(reg) cs, out(reg) ss, options(nomem, nostack, preserves_flags));
    }
    // SAFETY: the caller's promise: both are ours, and they do not overlap.
    unsafe {
        let was = *block;
        copy.write(was);
        *block = RegisterBlock {
            kind: INTERRUPTED,
            rdi: copy as u64,
            rsi: cause as u64,
            rdx: address,
            rip: fault_entry_address(),
            rsp: copy as u64,
            rflags: if was.kind == CALLED { CALLED_FLAGS } else { was.rflags & KEPT_FLAGS | 2 },
            cs,
            ss,
            ..was
        };
    }
    copy
}

#[unsafe(naked)]
unsafe extern "sysv64" fn entry(block: &mut RegisterBlock, cause: u64, address: u64) -> ! {
    core::arch::naked_asm!(
        ".cfi_startproc",
        ".cfi_signal_frame",
        ".cfi_def_cfa rdi, 0",
        ".cfi_offset r15, 8",
        ".cfi_offset r14, 16",
        ".cfi_offset r13, 24",
        ".cfi_offset r12, 32",
        ".cfi_offset r11, 40",
        ".cfi_offset r10, 48",
        ".cfi_offset rbp, 72",
        ".cfi_offset rbx, 112",
        ".cfi_offset rip, 144",
        ".cfi_offset rsp, 168",
        "mov rbx, rdi",
        ".cfi_def_cfa rbx, 0",
        "and rsp, -16",
        "call {raise}",
        "ud2",
        ".cfi_endproc",
        raise = sym raise_from,
    );
}
