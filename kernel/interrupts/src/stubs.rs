//! The stubs: the only code of the system that is written for its effect on the stack.
//!
//! A block is written from its end (`ss`) to its start (`kind`), so that `rsp` is its address. Between the first
//! instruction of a stub and the switch of stacks interrupts are off, so no walk ever begins there.

use core::arch::naked_asm;
use unwind::RegisterBlock;

unsafe extern "sysv64" {
    // The event kernel, in the cell `task`, above this one: joined by name, as the platform is.
    fn delias_event(block: *mut RegisterBlock, argument: u64) -> !;
    // Says that the event kernel itself failed, and leaves the machine.
    fn delias_event_failed(block: *mut RegisterBlock) -> !;
}

/// Comes in from interrupt `VECTOR`, for which the CPU pushes no error code.
#[unsafe(naked)]
pub(crate) extern "sysv64" fn plain<const VECTOR: u32>() {
    naked_asm!(
        ".cfi_startproc", ".cfi_signal_frame", ".cfi_def_cfa rsp, 40", ".cfi_offset rip, -40", ".cfi_offset rsp, -16",
        "push 0",
        "push {vector}",
        "jmp {enter}",
        ".cfi_endproc",
        vector = const VECTOR, enter = sym enter,
    )
}

/// Comes in from exception `VECTOR`, for which the CPU pushes an error code.
#[unsafe(naked)]
pub(crate) extern "sysv64" fn with_error<const VECTOR: u32>() {
    naked_asm!(
        ".cfi_startproc", ".cfi_signal_frame", ".cfi_def_cfa rsp, 48", ".cfi_offset rip, -40", ".cfi_offset rsp, -16",
        "push {vector}",
        "jmp {enter}",
        ".cfi_endproc",
        vector = const VECTOR, enter = sym enter,
    )
}

/// Completes the block and enters the event kernel on the CPU's event stack; an event inside an event is a failure.
#[unsafe(naked)]
extern "sysv64" fn enter() {
    naked_asm!(
        ".cfi_startproc", ".cfi_signal_frame", ".cfi_def_cfa rsp, 56", ".cfi_offset rip, -40", ".cfi_offset rsp, -16",
        "push rax", "push rbx", "push rcx", "push rdx", "push rsi", "push rdi", "push rbp",
        "push r8", "push r9", "push r10", "push r11", "push r12", "push r13", "push r14", "push r15",
        "push 0", // kind: interrupted at rip
        "mov rdi, rsp",
        "xor esi, esi",
        "cld",
        "cmp dword ptr gs:[44], 0",
        "jne 2f",
        "mov rsp, gs:[24]",
        "xor ebp, ebp",
        "call {event}",
        "ud2",
        "2:",
        "and rsp, -16",
        "call {failed}",
        "ud2",
        ".cfi_endproc",
        event = sym delias_event, failed = sym delias_event_failed,
    )
}

/// Leaves the running task for the event kernel, for a `reason`; returns what the event kernel put into the block's `rax`
/// when the task runs again. To be called by tasks with preemption on.
#[unsafe(naked)]
pub extern "sysv64" fn switch(reason: u64, argument: u64) -> u64 {
    naked_asm!(
        ".cfi_startproc",
        "pushfq",
        ".cfi_adjust_cfa_offset 8",
        "cli",
        "pop r9",
        ".cfi_adjust_cfa_offset -8",
        "pop rax",             // the caller's program counter
        "mov rcx, rsp",        // and its stack, once this call is over
        "mov edx, ss",
        "push rdx", "push rcx", "push r9",
        "mov edx, cs",
        "push rdx", "push rax",
        "push 0",              // error
        "push rdi",            // vector: the reason
        "push 0", "push rbx", "push 0", "push 0", "push 0", "push 0", "push rbp",
        "push 0", "push 0", "push 0", "push 0", "push r12", "push r13", "push r14", "push r15",
        "push 1",              // kind: called, rip is a return address
        "mov rdi, rsp",
        "mov rsp, gs:[24]",
        "xor ebp, ebp",
        "call {event}",
        "ud2",
        ".cfi_endproc",
        event = sym delias_event,
    )
}

/// Goes back to a task where its block says.
///
/// # Safety
/// Interrupts are off, the caller is the event kernel, and the block is that of a task that runs nowhere else.
#[unsafe(naked)]
pub unsafe extern "sysv64" fn resume(block: *mut RegisterBlock) -> ! {
    naked_asm!(
        ".cfi_startproc",
        "lea rsp, [rdi + 8]",
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
        ".cfi_endproc",
    )
}

/// Leaves the event kernel for code that lies outside of every cell, with `argument` in `rdi`.
///
/// # Safety
/// `entry` is executable code that never returns and expects `argument`.
#[unsafe(naked)]
pub unsafe extern "sysv64" fn jump_to(entry: u64, argument: u64) -> ! {
    naked_asm!(".cfi_startproc", "mov rax, rdi", "mov rdi, rsi", "jmp rax", ".cfi_endproc")
}
