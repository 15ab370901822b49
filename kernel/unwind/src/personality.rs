//! The personality of every Rust function: which landing pad a frame offers, and how it is entered.
//!
//! It differs from the standard library's in three points:
//!
//! 1. A place that is not in a function's table lets the exception pass; the standard library aborts. Exceptions that
//!    the CPU raises come from such places, and a live update can make a callee throw that its old caller took for one
//!    that does not. What the function held itself is lost.
//! 2. The function in which the CPU raised an exception is passed over entirely. Its table may name a landing pad for the
//!    place, but that expects registers and drop flags as they are at a call.
//! 3. A landing pad is entered through [`land`]. `unwinding` restores registers from below the stack pointer that it
//!    has just set; an interrupt on the same stack would overwrite them.

use crate::exception::{CLASS, Exception};
use crate::lsda::{self, Action};
use core::mem::offset_of;
use unwinding::abi::{
    _Unwind_GetGR, _Unwind_GetIPInfo, _Unwind_GetLanguageSpecificData, _Unwind_GetRegionStart, _Unwind_SetGR,
    _Unwind_SetIP, UnwindAction, UnwindContext, UnwindException, UnwindReasonCode,
};

/// The registers with which a landing pad is entered.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Landing {
    pc: u64,
    rsp: u64,
    rbx: u64,
    rbp: u64,
    r12: u64,
    r13: u64,
    r14: u64,
    r15: u64,
    /// What rsp is at [`land`], but for bytes of arguments that the unwinder pops.
    entry_rsp: u64,
}

/// Decides for one frame. The signature is the C ABI's (Itanium C++ ABI, exception handling, 2.5.2); all values are
/// numbers here, so that the cell which gives this its well-known name needs no types of the unwinder.
///
/// # Safety
/// Called by the unwinder only: `exception` is one of ours if `class` says so, `context` the unwinder's.
pub unsafe fn personality(version: i32, actions: i32, class: u64, exception: *mut (), context: *mut ()) -> i32 {
    if version != 1 || class != CLASS {
        return UnwindReasonCode::FATAL_PHASE1_ERROR.0;
    }
    // SAFETY: the class was checked, and the unwinder gives its own context, for the length of this call.
    let (thrown, context) = unsafe { (&mut *exception.cast::<Exception>(), &mut *context.cast::<UnwindContext<'_>>()) };
    decide(UnwindAction(actions), thrown, context).0
}

fn decide(actions: UnwindAction, thrown: &mut Exception, context: &mut UnwindContext<'_>) -> UnwindReasonCode {
    let table = _Unwind_GetLanguageSpecificData(context).cast::<u8>();
    let mut before_instruction = 0;
    let pc = _Unwind_GetIPInfo(context, &mut before_instruction) as u64;
    let interrupted = before_instruction != 0;
    if table.is_null() || (interrupted && thrown.between_calls) {
        return UnwindReasonCode::CONTINUE_UNWIND;
    }
    let place = if interrupted { pc } else { pc.wrapping_sub(1) };
    // SAFETY: the table is mapped as long as its function is, and it is read to its own end only.
    let byte = |offset: u64| Some(unsafe { table.add(offset as usize).read() });
    let Ok(action) = lsda::action(byte, _Unwind_GetRegionStart(context) as u64, place) else {
        return UnwindReasonCode::FATAL_PHASE1_ERROR;
    };
    let searching = actions.contains(UnwindAction::SEARCH_PHASE);
    match action {
        Action::Pass | Action::Absent => UnwindReasonCode::CONTINUE_UNWIND,
        Action::Cleanup(_) if searching => UnwindReasonCode::CONTINUE_UNWIND,
        Action::Catch(_) if searching => UnwindReasonCode::HANDLER_FOUND,
        Action::Cleanup(pc) | Action::Catch(pc) => {
            prepare(thrown, context, pc);
            UnwindReasonCode::INSTALL_CONTEXT
        }
    }
}

/// Lets the unwinder go to [`land`], with a stack pointer below everything it still reads, instead of to `pc`.
fn prepare(thrown: &mut Exception, context: &mut UnwindContext<'_>, pc: u64) {
    let register = |number| _Unwind_GetGR(context, number) as u64;
    // Below this frame lies nothing, and the unwinder's registers lie above it.
    let low = ((&raw const pc) as u64 - 512) & !15;
    thrown.landing = Landing {
        pc,
        rsp: register(7),
        rbx: register(3),
        rbp: register(6),
        r12: register(12),
        r13: register(13),
        r14: register(14),
        r15: register(15),
        entry_rsp: low,
    };
    _Unwind_SetGR(context, 5, (&raw mut *thrown) as usize);
    _Unwind_SetGR(context, 7, low as usize);
    _Unwind_SetIP(context, land as *const () as usize);
}

/// Enters the landing pad of the exception in rdi: rax holds the exception, rdx 0, and the rest what the frame had.
/// Reads nothing below rsp. Nobody called it, so a walk that finds it ends here.
#[unsafe(naked)]
unsafe extern "sysv64" fn land() {
    core::arch::naked_asm!(
        ".cfi_startproc",
        ".cfi_undefined rip",
        "mov rbx, [rdi + {landing} + {rbx}]",
        "mov rbp, [rdi + {landing} + {rbp}]",
        "mov r12, [rdi + {landing} + {r12}]",
        "mov r13, [rdi + {landing} + {r13}]",
        "mov r14, [rdi + {landing} + {r14}]",
        "mov r15, [rdi + {landing} + {r15}]",
        "mov rcx, rsp",
        "sub rcx, [rdi + {landing} + {entry_rsp}]",
        "add rcx, [rdi + {landing} + {rsp}]",
        "mov rax, rdi",
        "xor edx, edx",
        "mov rsi, [rdi + {landing} + {pc}]",
        "mov rsp, rcx",
        "jmp rsi",
        ".cfi_endproc",
        landing = const offset_of!(Exception, landing),
        rbx = const offset_of!(Landing, rbx),
        rbp = const offset_of!(Landing, rbp),
        r12 = const offset_of!(Landing, r12),
        r13 = const offset_of!(Landing, r13),
        r14 = const offset_of!(Landing, r14),
        r15 = const offset_of!(Landing, r15),
        entry_rsp = const offset_of!(Landing, entry_rsp),
        rsp = const offset_of!(Landing, rsp),
        pc = const offset_of!(Landing, pc),
    );
}

const _: () = assert!(size_of::<UnwindException>() == 64);
