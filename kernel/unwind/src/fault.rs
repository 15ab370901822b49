//! From the registers of a task that faulted or is to die to an exception in it.

use crate::capture::{follow, stack_around};
use crate::caught::{Caught, Failure, Message, Place, TRACE};
use crate::exception::{begin, raise};
use crate::fault_entry::Cause;
use crate::fde::Rows;
use crate::registers::{RegisterBlock, number};
use crate::text_map::text_map;
use crate::walk::Cursor;
use arrayvec::ArrayVec;
use sync::PreemptGuard;

/// Turns a stopped task's registers into an exception. An ABI through which one may pass.
pub(crate) extern "sysv64-unwind" fn raise_from(block: &mut RegisterBlock, cause: u64, address: u64) -> ! {
    let failure = if cause == Cause::Kill as u64 {
        Failure::Killed
    } else {
        Failure::Fault { vector: block.vector as u8, error: block.error, address }
    };
    begin(&failure);
    let mut trace = ArrayVec::new();
    let between_calls = start_at_a_call(block, &mut trace);
    raise(Caught { failure, message: Message::new_const(), trace }, between_calls)
}

/// Lets the block say where unwinding starts, and whether that is between two calls; writes down the frames.
///
/// Where the tables are not exact, the caller's registers take the place of the stopped function's: after the first `pop`
/// of an epilogue, whose saved registers the tables still seek below rsp, and after a call through a wild pointer.
fn start_at_a_call(block: &mut RegisterBlock, trace: &mut ArrayVec<Place, TRACE>) -> bool {
    let _stay = PreemptGuard::new();
    let Some(map) = text_map() else { return true };
    let bounds = stack_around(block.rsp);
    let mut cursor = Cursor::new(block);
    if map.find(cursor.pc).is_none() {
        trace.push(Place::of(map, cursor.pc));
        if !cursor.leave_wild_call(map, &bounds) {
            return true;
        }
    }
    follow(cursor, map, &bounds, &mut |pc| {
        let _full = trace.try_push(Place::of(map, pc));
    });
    if cursor.exact {
        let mut caller = cursor;
        let stepped = caller.step(map, &mut Rows::new_in(), &bounds, &mut |_| Ok(()));
        if stepped == Ok(true) && caller.in_epilogue {
            cursor = caller;
        }
    }
    let known = |register, kept| cursor.register(register).unwrap_or(kept);
    block.rbx = known(number::RBX, block.rbx);
    block.rbp = known(number::RBP, block.rbp);
    block.rsp = known(number::RSP, block.rsp);
    block.r12 = known(number::R12, block.r12);
    block.r13 = known(number::R12 + 1, block.r13);
    block.r14 = known(number::R12 + 2, block.r14);
    block.r15 = known(number::R12 + 3, block.r15);
    // The entry is a signal frame: the unwinder takes rip as it stands, so a return address goes back into its call.
    block.rip = if cursor.exact { cursor.pc } else { cursor.pc - 1 };
    cursor.exact
}
