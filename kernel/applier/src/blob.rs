//! The blob's code. `rdi` holds the request throughout; interrupts are off.
//!
//! Text is written although its pages are read-only, by clearing CR0.WP (Intel SDM volume 3, 4.6.1) on this CPU for as long
//! as it takes. `iretq` serialises, so the new instructions are seen by whoever is resumed.

use core::arch::global_asm;

global_asm!(
    ".pushsection .rodata.delias_applier_blob,\"a\",@progbits",
    ".balign 16",
    ".globl delias_applier_blob",
    ".type delias_applier_blob, @object",
    "delias_applier_blob:",
    ".long 90f - delias_applier_blob", // bytes in all
    ".long 50f - delias_applier_blob", // offset of the fault entry
    ".quad 0",
    // Entry, at offset 16.
    "mov rsp, [rdi + 16]",
    "sidt [rdi + 64]",
    "lidt [rdi + 48]",
    "mov rax, cr0",
    "btr rax, 16",
    "mov cr0, rax",
    "mov rsi, [rdi]",
    "mov rcx, [rdi + 8]",
    "xor edx, edx",
    "10:",
    "cmp rdx, rcx",
    "je 30f",
    "mov r8, [rsi]",
    "mov r9, [rsi + 16]",
    "cmp qword ptr [rsi + 24], 8",
    "jne 20f",
    "mov [r8], r9",
    "jmp 25f",
    "20:",
    "cmp qword ptr [rsi + 24], 4",
    "jne 22f",
    "mov [r8], r9d",
    "jmp 25f",
    "22:",
    "mov [r8], r9b",
    "25:",
    "add rsi, 32",
    "inc rdx",
    "mov [rdi + 40], rdx",
    "jmp 10b",
    "30:",
    "mov qword ptr [rdi + 32], 1",
    // Leave: protection and descriptor table as they were, then the task.
    "40:",
    "mov rax, cr0",
    "bts rax, 16",
    "mov cr0, rax",
    "mov rax, cr3",
    "mov cr3, rax",
    "lidt [rdi + 64]",
    "mov dword ptr gs:[44], 0", // out of the event kernel
    "mov rsp, [rdi + 24]",
    "add rsp, 8",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop r11",
    "pop r10",
    "pop r9",
    "pop r8",
    "pop rbp",
    "pop rdi",
    "pop rsi",
    "pop rdx",
    "pop rcx",
    "pop rbx",
    "pop rax",
    "add rsp, 16",
    "iretq",
    // Fault: the words that were written are put back, last first.
    "50:",
    "mov rsp, [rdi + 16]",
    "mov rdx, [rdi + 40]",
    "mov rsi, rdx",
    "shl rsi, 5",
    "add rsi, [rdi]",
    "60:",
    "test rdx, rdx",
    "je 80f",
    "sub rsi, 32",
    "dec rdx",
    "mov r8, [rsi]",
    "mov r9, [rsi + 8]",
    "cmp qword ptr [rsi + 24], 8",
    "jne 70f",
    "mov [r8], r9",
    "jmp 60b",
    "70:",
    "cmp qword ptr [rsi + 24], 4",
    "jne 75f",
    "mov [r8], r9d",
    "jmp 60b",
    "75:",
    "mov [r8], r9b",
    "jmp 60b",
    "80:",
    "mov qword ptr [rdi + 32], 2",
    "jmp 40b",
    "90:",
    ".size delias_applier_blob, . - delias_applier_blob",
    ".popsection",
);

unsafe extern "C" {
    static delias_applier_blob: [u32; 2];
}

/// Offset of the entry in the blob.
pub(crate) const ENTRY: u64 = 16;

/// The blob, from its head on.
pub(crate) fn bytes() -> &'static [u8] {
    // SAFETY: the head says how many bytes the assembler laid down there.
    unsafe {
        let head = &raw const delias_applier_blob;
        core::slice::from_raw_parts(head.cast::<u8>(), (*head)[0] as usize)
    }
}

/// Offset of the entry for exceptions.
pub(crate) fn fault_offset() -> u64 {
    // SAFETY: as in `bytes`.
    unsafe { u64::from((&raw const delias_applier_blob).cast::<u32>().add(1).read()) }
}
