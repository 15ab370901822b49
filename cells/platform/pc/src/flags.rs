//! The interrupt flag, and the two places that need the stack for something that compiled code does not know of.

use core::arch::naked_asm;

/// The interrupt flag's bit in RFLAGS.
pub const INTERRUPTS: usize = 0x200;

/// Turns interrupts off; returns the flags as they were.
#[unsafe(naked)]
pub extern "sysv64" fn save() -> usize {
    naked_asm!(
        ".cfi_startproc",
        "pushfq",
        ".cfi_adjust_cfa_offset 8",
        "pop rax",
        ".cfi_adjust_cfa_offset -8",
        "cli",
        "ret",
        ".cfi_endproc",
    )
}

/// Loads the code segment, by a far return to the caller.
///
/// # Safety
/// `selector` is that of a 64-bit code segment in the loaded table.
#[unsafe(naked)]
pub unsafe extern "sysv64" fn set_code_segment(selector: u64) {
    naked_asm!(
        ".cfi_startproc",
        "push qword ptr [rsp]",
        ".cfi_adjust_cfa_offset 8",
        ".cfi_offset rip, -16",
        "mov [rsp + 8], rdi",
        "retfq",
        ".cfi_endproc",
    )
}
