//! From a panic to an exception, or, where there is nothing to unwind, to the end of the system.

use crate::capture::{backtrace, follow, here, stack_around};
use crate::caught::{Caught, Cut, Failure, Message, Place, TRACE};
use crate::exception::{abort, begin, raise};
use crate::text_map::text_map;
use crate::walk::Cursor;
use arrayvec::{ArrayString, ArrayVec};
use core::fmt::Write;
use core::panic::PanicInfo;
use core::sync::atomic::Ordering;
use handoff::event;
use platform::Leave;
use sync::PreemptGuard;

/// The exit status of a system that panicked.
const STATUS: u8 = 101;

/// Ends the running task's work, or the event kernel's, up to its innermost [`catch`](crate::catch()). Where there is none, as before
/// the first task, it says so on the console of last resort and leaves the machine.
pub fn panicked(info: &PanicInfo<'_>) -> ! {
    if !can_unwind() || text_map().is_none() {
        end_system(info);
    }
    begin(&Failure::Panic);
    let mut message = Message::new_const();
    let _cannot_fail = write!(Cut(&mut message), "{}", info.message());
    if !info.can_unwind() {
        let mut reason = ArrayString::<256>::new();
        let _cannot_fail = write!(Cut(&mut reason), "panic where nothing may unwind: {message}");
        abort(&reason);
    }
    raise(Caught { failure: Failure::Panic, message, trace: trace() }, false)
}

/// Whether there is a task, or an event kernel that is not being unwound already.
fn can_unwind() -> bool {
    let _stay = PreemptGuard::new();
    let cpu = platform::cpu();
    cpu.in_event.load(Ordering::Relaxed) <= event::RUNS && cpu.task.load(Ordering::Relaxed) != 0
}

/// The frames that led here.
fn trace() -> ArrayVec<Place, TRACE> {
    let mut trace = ArrayVec::new();
    let _stay = PreemptGuard::new();
    let Some(map) = text_map() else { return trace };
    here(&mut |block| {
        let bounds = stack_around(block.rsp);
        follow(Cursor::new(block), map, &bounds, &mut |pc| {
            let _full = trace.try_push(Place::of(map, pc));
        });
    });
    trace
}

/// Says what happened, with addresses for the host's tools, and powers off.
pub(crate) fn end_system(what: &dyn core::fmt::Display) -> ! {
    struct LastResort;
    impl Write for LastResort {
        fn write_str(&mut self, text: &str) -> core::fmt::Result {
            platform::debug_write(text.as_bytes());
            Ok(())
        }
    }
    let cpu = platform::cpu();
    // A panic inside this one must not come back here for ever.
    if cpu.in_event.swap(event::OVER, Ordering::Relaxed) == event::OVER {
        platform::leave(Leave::PowerOff { status: STATUS });
    }
    let _cannot_fail = write!(LastResort, "\r\nthe event kernel of CPU {} failed: {what}", cpu.cpu);
    let _cannot_fail = write!(LastResort, "\r\n  at");
    backtrace(&mut |pc| {
        let _cannot_fail = write!(LastResort, " {pc:#x}");
    });
    let _cannot_fail = write!(LastResort, "\r\n");
    platform::leave(Leave::PowerOff { status: STATUS })
}
