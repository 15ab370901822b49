//! Faults and forced ends: a task that cannot go on where it stands is sent to the unwinder.

use crate::{
    record::{Exit, Status, Task, TaskRef, killing},
    spawn::{current, leave},
    table::{TASKS, Tasks, set_exit},
};
use core::sync::atomic::Ordering;
use interrupts::RegisterBlock;
use unwind::Cause;

/// Bytes of stack that the unwinder needs below the block.
pub(crate) const UNWINDER_BYTES: u64 = 16 << 10;
/// How often a task that must not be unwound at the moment is tried again, and how long after, in nanoseconds.
const FORCE_TRIES: u32 = 100;
const FORCE_AGAIN_NS: u64 = 5_000_000;
/// How long a task that is being unwound by force may take, in nanoseconds.
const UNWIND_NS: u64 = 1_000_000_000;
/// The interrupt flag.
const INTERRUPTS_ON: u64 = 0x200;

impl Tasks {
    /// Sends a task that raised an exception to the unwinder. Its block may lie on another stack than its own.
    pub(crate) fn fault(&self, task: TaskRef, block: *mut RegisterBlock) {
        let address = platform::fault_address();
        let sent = self.table.with(task, |record| {
            !record.unwinding.load(Ordering::Relaxed) && send(record, block, Cause::Fault, address)
        });
        if sent != Ok(true) {
            self.cut(task);
        }
    }

    /// Goes on with the killing of a task whose deadline has come.
    pub(crate) fn force(&self, task: TaskRef, now_ns: u64) {
        let running = current() == task;
        let again = self.table.with(task, |record| {
            if record.status.load(Ordering::Acquire) == Status::Ended as u32 {
                return None;
            }
            if record.killing.load(Ordering::Relaxed) == killing::FORCED {
                return Some(None);
            }
            let block = record.block.load(Ordering::Acquire) as *mut RegisterBlock;
            // SAFETY: the task does not run (this is the event kernel), so its block is valid.
            let open = unsafe { (*block).rflags } & INTERRUPTS_ON != 0;
            // A depth of 1 is the event kernel's own.
            let guarded = running && platform::cpu().preempt_depth.load(Ordering::Relaxed) > 1;
            if open && !guarded && !record.unwinding.load(Ordering::Relaxed) && send(record, block, Cause::Kill, 0) {
                record.killing.store(killing::FORCED, Ordering::Relaxed);
                return Some(Some(now_ns + UNWIND_NS));
            }
            let tries = record.force_tries.fetch_add(1, Ordering::Relaxed);
            Some((tries < FORCE_TRIES).then_some(now_ns + FORCE_AGAIN_NS))
        });
        match again {
            Ok(Some(Some(deadline_ns))) => self.timers.lock().set(task, deadline_ns),
            Ok(Some(None)) => self.cut(task),
            Ok(None) | Err(_) => {}
        }
    }

    /// Ends a task where it stands.
    pub(crate) fn cut(&self, task: TaskRef) {
        let cut = self.table.with(task, |record| set_exit(record, Exit::Cut));
        if cut.is_ok() {
            self.end(task);
        }
    }
}

/// Lets the task resume in the unwinder's entry, with its block where the unwinder finds it: on the task's own stack, or on
/// its reserve if the stack is full.
fn send(record: &Task, block: *mut RegisterBlock, cause: Cause, address: u64) -> bool {
    let stack = record.stack.lock();
    let Some(stack) = stack.as_ref() else { return false };
    let room = |top: u64, range: &core::ops::Range<u64>| {
        top > range.start && top <= range.end && top - range.start >= UNWINDER_BYTES
    };
    let (bounds, reserve) = (stack.bounds(), stack.reserve());
    // SAFETY: the block is valid, see the callers.
    let saved = unsafe { block.read() };
    let own = bounds.contains(&(block as u64)) || reserve.contains(&(block as u64));
    let lowest = if own { block as u64 } else { saved.rsp };
    let top = if room(lowest, &bounds) || room(lowest, &reserve) { lowest } else { reserve.end };
    if !room(top, &bounds) && !room(top, &reserve) {
        return false;
    }
    // SAFETY: between `top` and the start of its range lie more bytes than both blocks need, all mapped, below every frame
    // of the task, which does not run.
    unsafe {
        let moved = if top == block as u64 {
            block
        } else {
            ((top - size_of::<RegisterBlock>() as u64) & !15) as *mut RegisterBlock
        };
        moved.write(saved);
        unwind::aim_at_fault_entry(moved, moved as u64, cause, address);
        record.block.store(moved as u64, Ordering::Release);
    }
    true
}

/// Marks the running task as being unwound, or no longer; says how it was.
#[unsafe(no_mangle)]
extern "Rust" fn delias_task_unwinding(begin: bool) -> bool {
    let swap = |record: &Task| record.unwinding.swap(begin, Ordering::AcqRel);
    TASKS.with(|tasks| tasks.table.with(current(), swap)).is_ok_and(|was| was == Ok(true))
}

/// Ends the running task at once: it cannot be unwound.
#[unsafe(no_mangle)]
extern "Rust" fn delias_task_abort(reason: &str) -> ! {
    log::error!("a task could not be unwound and is cut: {reason}");
    leave(Exit::Cut)
}
