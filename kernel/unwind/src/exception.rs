//! What is thrown, and where it lies meanwhile.
//!
//! A task has one failure at a time: a second one during the first ends the task at once. So the exception needs no
//! allocation; it lies at the low end of the reserve of the stack that the task runs on. The reserve is used otherwise
//! only by a task that overflowed its stack, from its high end.

use crate::caught::{Caught, Cut};
use crate::panic::end_system;
use crate::personality::Landing;
use arrayvec::ArrayString;
use core::fmt::{Display, Write};
use core::mem::MaybeUninit;
use core::sync::atomic::Ordering;
use handoff::{event, layout::stack};
use unwinding::abi::{_Unwind_RaiseException, UnwindException, UnwindReasonCode};

unsafe extern "Rust" {
    // Defined by the cell `task`, which depends on this one. The first marks the running task as unwinding, or as landed,
    // and says how it was marked before: a marked task's frames do not move. The second ends it without unwinding.
    safe fn delias_task_unwinding(begin: bool) -> bool;
    safe fn delias_task_abort(reason: &str) -> !;
}

/// "DELIASRT", so that nobody takes another language's exception for one of ours.
pub(crate) const CLASS: u64 = u64::from_be_bytes(*b"DELIASRT");

/// The exception. The unwinder's part comes first: its address is the exception's.
#[repr(C)]
pub(crate) struct Exception {
    header: UnwindException,
    /// Its own address while it is under way.
    itself: *const (),
    /// How the next landing pad is entered.
    pub(crate) landing: Landing,
    /// The innermost function failed between two calls, where no landing pad is right.
    pub(crate) between_calls: bool,
    /// What the catcher is given.
    pub(crate) caught: Caught,
}

/// Bytes at the low end of a stack's reserve that belong to an exception.
pub const EXCEPTION_BYTES: u64 = (size_of::<Exception>() as u64).next_multiple_of(16);

const _: () = assert!(EXCEPTION_BYTES <= 1024);

/// Where the running task's exception lies.
fn place() -> Option<*mut Exception> {
    let here = 0u8;
    let [reserve, _] = crate::capture::stack_around((&raw const here) as u64);
    debug_assert_eq!(reserve.start % handoff::layout::PAGE, stack::RESERVE.start % handoff::layout::PAGE);
    (!reserve.is_empty()).then_some(reserve.start as *mut Exception)
}

/// Whether the event kernel runs here, as [`handoff::event`] has it.
pub(crate) fn event_state() -> u32 {
    platform::cpu().in_event.load(Ordering::Relaxed)
}

/// Marks the running task, or the event kernel, as unwinding. Ends it at once if it was already: a destructor that runs because
/// of one failure must not fail itself.
pub(crate) fn begin(what: &dyn Display) {
    match event_state() {
        event::NO => {}
        event::RUNS => {
            platform::cpu().in_event.store(event::UNWINDS, Ordering::Relaxed);
            return;
        }
        _ => {
            let mut reason = ArrayString::<256>::new();
            let _cannot_fail = write!(Cut(&mut reason), "{what} while unwinding");
            abort(&reason);
        }
    }
    if !delias_task_unwinding(true) {
        return;
    }
    let mut reason = ArrayString::<256>::new();
    let _cannot_fail = write!(Cut(&mut reason), "{what} while unwinding");
    if let Some(place) = place() {
        // SAFETY: the place is mapped, and a header of ours that names its own place was written with the rest.
        unsafe {
            if (*place).header.exception_class == CLASS && (*place).itself == place.cast() {
                let _cannot_fail = write!(Cut(&mut reason), " from an earlier failure ({})", (*place).caught);
            }
        }
    }
    abort(&reason);
}

/// Takes the mark back: the failure has landed.
///
/// # Safety
/// `exception` must be the one that has landed.
pub(crate) unsafe fn landed(exception: *mut Exception) {
    // SAFETY: the caller's promise. Nobody reads it any more.
    unsafe { (*exception).itself = core::ptr::null() };
    match event_state() {
        event::NO => drop(delias_task_unwinding(false)),
        _ => platform::cpu().in_event.store(event::RUNS, Ordering::Relaxed),
    }
}

/// Ends the running task without unwinding; if it is the event kernel, the system.
pub(crate) fn abort(reason: &str) -> ! {
    match event_state() {
        event::NO => delias_task_abort(reason),
        _ => end_system(&reason),
    }
}

/// Unwinds the running task, or the event kernel, marked before by [`begin`], to its innermost catcher.
pub(crate) fn raise(caught: Caught, between_calls: bool) -> ! {
    let mut reason = ArrayString::<256>::new();
    let Some(place) = place() else {
        let _cannot_fail = write!(Cut(&mut reason), "{caught}; on a stack that has no reserve");
        abort(&reason);
    };
    // SAFETY: all of it are integers and optional function pointers, for which zero is a value.
    let mut header: UnwindException = unsafe { MaybeUninit::zeroed().assume_init() };
    header.exception_class = CLASS;
    // SAFETY: the reserve is mapped, aligned and, but for its high end, unused; the task is marked, so no other exception
    // lies there.
    let code = unsafe {
        place.write(Exception { header, itself: place.cast(), landing: Landing::default(), between_calls, caught });
        _Unwind_RaiseException(place.cast())
    };
    // SAFETY: still ours: nobody caught it.
    let caught = unsafe { &(*place).caught };
    let why = if code == UnwindReasonCode::END_OF_STACK { "nothing catches it" } else { "its stack cannot be unwound" };
    let _cannot_fail = write!(Cut(&mut reason), "{caught}; {why}");
    abort(&reason)
}
