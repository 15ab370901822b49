//! The registers of the running code, as a block that a walk can start from.

use crate::fde::Rows;
use crate::registers::RegisterBlock;
use crate::text_map::{TextMap, text_map};
use crate::walk::Cursor;
use core::ops::Range;
use handoff::layout::{STACK_SLOT, STACK_SLOTS, STACKS, stack};
use sync::PreemptGuard;

/// Calls `then` with the caller's registers, of kind [`crate::CALLED`], and `data`. The block is on the stack.
#[unsafe(naked)]
pub(crate) extern "sysv64" fn capture(then: extern "sysv64" fn(&mut RegisterBlock, *mut ()), data: *mut ()) {
    core::arch::naked_asm!(
        ".cfi_startproc",
        "sub rsp, 184",
        ".cfi_def_cfa_offset 192",
        "mov qword ptr [rsp], 1",
        "mov [rsp + 8], r15",
        "mov [rsp + 16], r14",
        "mov [rsp + 24], r13",
        "mov [rsp + 32], r12",
        "mov [rsp + 72], rbp",
        "mov [rsp + 112], rbx",
        "mov rax, [rsp + 184]",
        "mov [rsp + 144], rax",
        "lea rax, [rsp + 192]",
        "mov [rsp + 168], rax",
        "mov rax, rdi",
        "mov rdi, rsp",
        "call rax",
        "add rsp, 184",
        ".cfi_def_cfa_offset 8",
        "ret",
        ".cfi_endproc",
    );
}

/// The mapped parts of the guarded stack that `rsp` lies on: reserve and stack. Empty ranges if it lies on none.
pub(crate) fn stack_around(rsp: u64) -> [Range<u64>; 2] {
    let number = rsp.wrapping_sub(STACKS) / STACK_SLOT;
    if number >= STACK_SLOTS {
        return [0..0, 0..0];
    }
    let slot = STACKS + number * STACK_SLOT;
    [slot + stack::RESERVE.start..slot + stack::RESERVE.end, slot + stack::STACK.start..slot + stack::STACK.end]
}

/// Calls `each` with an address inside every function that the caller is called from, innermost first, until the stack
/// ends or cannot be followed. In all but interrupted functions that is the last byte of the call.
///
/// Addresses are good until the next live update: what is kept is made of [`crate::Place`].
pub fn backtrace(each: &mut dyn FnMut(u64)) {
    let _stay = PreemptGuard::new();
    let Some(map) = text_map() else { return };
    here(&mut |block| {
        let bounds = stack_around(block.rsp);
        follow(Cursor::new(block), map, &bounds, each);
    });
}

/// Calls `then` with the registers at its own call.
pub(crate) fn here(mut then: &mut dyn FnMut(&mut RegisterBlock)) {
    extern "sysv64" fn call(block: &mut RegisterBlock, data: *mut ()) {
        // SAFETY: `data` is the reference below, which outlives the call to `capture`.
        let then = unsafe { &mut *data.cast::<&mut dyn FnMut(&mut RegisterBlock)>() };
        then(block);
    }
    capture(call, (&raw mut then).cast());
}

/// Calls `each` with an address inside every function from `cursor` on, as far as the stack can be followed.
pub(crate) fn follow(mut cursor: Cursor, map: &TextMap, bounds: &[Range<u64>], each: &mut dyn FnMut(u64)) {
    let mut rows = Rows::new_in();
    let mut report = |frame: &crate::Frame| {
        each(if frame.exact { frame.pc } else { frame.pc - 1 });
        Ok(())
    };
    while let Ok(true) = cursor.step(map, &mut rows, bounds, &mut report) {}
}
