//! `run fault [null|ud|div|stack]`: raises a CPU exception: a write to address 0 (page fault; also without an
//! argument), an invalid opcode, a division by zero, or a stack overflow that ends in the guard page.
#![no_std]
#![allow(unsafe_code, reason = "raises the exceptions by single instructions, and an app is found by its symbol")]

use core::arch::asm;
use core::hint::black_box;

/// Faults; status 2 for an argument that is wrong, 1 if the machine went on.
#[unsafe(no_mangle)]
pub extern "Rust" fn delias_app_fault(args: &[&str]) -> i32 {
    match args {
        [] | ["null"] => null(),
        ["ud"] => invalid_opcode(),
        ["div"] => divide(),
        ["stack"] => {
            black_box(overflow(black_box(u64::MAX)));
        }
        [.., wrong] => {
            console::println!("fault: `{wrong}` is not understood: expected one of null, ud, div, stack");
            return 2;
        }
    }
    1
}

#[inline(never)]
fn null() {
    // SAFETY: no memory is changed: nothing is mapped at address 0, the write raises a page fault.
    unsafe { asm!("mov byte ptr [{}], 1", in(reg) 0_u64, options(nostack)) }
}

#[inline(never)]
fn invalid_opcode() {
    // SAFETY: the instruction does nothing but raise #UD.
    unsafe { asm!("ud2", options(nomem, nostack)) }
}

#[inline(never)]
fn divide() {
    // SAFETY: raises #DE before it writes its results, which are declared.
    unsafe {
        asm!("div {}", in(reg) 0_u64, inout("rax") 1_u64 => _, inout("rdx") 0_u64 => _, options(nomem, nostack));
    }
}

/// Goes `depth` calls down, each with a frame that the compiler cannot leave out.
#[inline(never)]
fn overflow(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    if depth == 0 { frame[0] } else { overflow(depth - 1) + frame[1] }
}
