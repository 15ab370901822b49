//! When the event kernel itself fails: it is unwound, somebody is told, and the system goes on without what failed.
//!
//! ```text
//! serving an event fails ──▶ `recover`: the event is answered as well as it can be ──┐
//! choosing who runs fails ─────────────────────────────────────────────────────────┴▶ for a while: `by_turns`
//! ```
//! Meanwhile no policy, no timer and no waking is trusted: whoever could run does, by turns. That is long enough for an
//! update to be taken back. What is here uses nothing of what it stands in for.

use crate::{
    fault::UNWINDER_BYTES,
    kernel::{DOUBLE_FAULT, MACHINE_CHECK, NMI, Next, Then, stop},
    record::{Status, Task, TaskRef},
    schedule::{DEFAULT_SLICE_NS, Why},
    spawn::current,
    table::{TASKS, Tasks},
    wait::answer,
    watch::tell_of_failure,
};
use core::sync::atomic::Ordering;
use handoff::{event, layout::stack};
use interrupts::{EXCEPTIONS, RegisterBlock, reason};
use platform::vector;
use unwind::{Caught, Cause};

/// How long after a failure whoever can run does so by turns, in nanoseconds.
const DOUBT_NS: u64 = 2_000_000_000;

/// Goes on after a failure that nothing nearer has caught; `depth` is how often the running task had turned preemption off.
pub(crate) fn go_on(depth: u32, caught: &Caught) -> Result<Next, state_db::Error> {
    platform::cpu().preempt_depth.store(depth, Ordering::Relaxed);
    TASKS.with(|tasks| {
        let runs =
            tasks.table.with(current(), |record| record.status.load(Ordering::Acquire)) == Ok(Status::Running as u32);
        // Guards of a task that is over are nobody's.
        let depth = if runs { depth } else { 0 };
        tasks.doubt(depth + 1, caught);
        tasks.by_turns(false, depth, time::now_ns())
    })
}

impl Tasks {
    /// Notes a failure of the event kernel. `depth` is how often preemption is off now: guards that were not reached by the
    /// unwinding have counted too.
    fn doubt(&self, depth: u32, caught: &Caught) {
        let head = platform::cpu();
        head.preempt_depth.store(depth, Ordering::Relaxed);
        self.doubted_ns.store(time::now_ns().saturating_add(DOUBT_NS), Ordering::Relaxed);
        tell_of_failure("", caught);
        head.preempt_depth.store(depth, Ordering::Relaxed);
    }

    /// Whether the event kernel has failed of late.
    pub(crate) fn is_doubted(&self, now_ns: u64) -> bool {
        now_ns < self.doubted_ns.load(Ordering::Relaxed)
    }

    /// Lets the next one run of those that can, in the order of the table; the idle task, if nobody can. `away`: the running
    /// one cannot.
    pub(crate) fn by_turns(&self, away: bool, depth: u32, now_ns: u64) -> Next {
        let head = platform::cpu();
        let (running, idle) = (current(), self.idle(head.cpu));
        let runs = |record: &Task| record.status.load(Ordering::Acquire) == Status::Running as u32;
        let stays = !away && depth > 0 && self.table.with(running, runs) == Ok(true);
        let next = if stays { running } else { self.after(running, away, now_ns).unwrap_or(idle) };
        if next != running {
            let _ = self.table.with(running, |record| {
                if runs(record) {
                    let status = if running == idle { Status::Waiting } else { Status::Ready };
                    record.status.store(status as u32, Ordering::Release);
                }
            });
        }
        head.resched.store(0, Ordering::Relaxed);
        head.task.store(next.bits(), Ordering::Relaxed);
        time::alarm(Some(DEFAULT_SLICE_NS));
        let block = self.table.with(next, |record| {
            record.since_ns.store(now_ns, Ordering::Relaxed);
            record.status.store(Status::Running as u32, Ordering::Release);
            record.resumptions.fetch_add(1, Ordering::Relaxed);
            record.block.load(Ordering::Acquire) as *mut RegisterBlock
        });
        match block {
            Ok(block) => Next::Task(block),
            Err(_) => stop(format_args!("nobody is left who could run")),
        }
    }

    /// The next task after `running` that can run, which comes last itself.
    fn after(&self, running: TaskRef, away: bool, now_ns: u64) -> Option<TaskRef> {
        let cpu = platform::cpu().cpu;
        let (idle, picked) = (self.idle(cpu), self.picked[cpu as usize].load(Ordering::Relaxed));
        let place = |task: TaskRef| task.bits() as u32;
        let (mut first, mut next) = (None, None);
        self.table.for_each(|task, record| {
            let can = match Status::from_word(record.status.load(Ordering::Acquire)) {
                Status::Ready => true,
                // Claimed by a choice that failed afterwards, or the one that ran.
                Status::Running => task.bits() == picked || task == running && !away,
                // Whoever should have been woken.
                Status::Waiting => record.waiting.try_lock().is_some_and(|tokens| tokens.are_due(now_ns)),
                Status::Ended => false,
            };
            if can && task != idle {
                first = first.or(Some(task));
                next = next.or((place(task) > place(running)).then_some(task));
            }
        });
        next.or(first)
    }

    /// What becomes of an event whose service failed: whoever watches is told, and the system goes on as well as it can. An
    /// interrupt is served again later, by then perhaps by other code. `depth` is how often the task had turned preemption off.
    pub(crate) fn recover(
        &self,
        task: TaskRef,
        block: *mut RegisterBlock,
        number: u64,
        caught: &Caught,
        depth: u32,
    ) -> Then {
        self.doubt(depth + 1, caught);
        let answer = |value: u64| {
            // SAFETY: the task does not run; its block is ours.
            unsafe { (*block).rax = value };
            Then::Same
        };
        match number {
            ..EXCEPTIONS | reason::EXIT => {
                self.cut(task);
                Then::Away
            }
            reason::YIELD => Then::Other(Why::Yielded),
            reason::WAIT => {
                // It tests again: a wait may end too early, but never says that the task is to end.
                if let Some(mut timers) = self.timers.try_lock() {
                    timers.cancel(task);
                }
                let _ = self.table.with(task, |record| record.status.store(Status::Running as u32, Ordering::Release));
                answer(answer::MOVED)
            }
            reason::RENDEZVOUS => answer(u64::MAX),
            number => {
                let number = number as u8;
                if number != vector::TIMER && number != vector::SPURIOUS {
                    self.unserved[usize::from(number) / 64].fetch_or(1 << (number % 64), Ordering::Relaxed);
                    // A device that was not served would ask again at once, and nobody would ever run.
                    platform::mask(number);
                }
                platform::end_of_interrupt(number);
                Then::Other(Why::Preempted)
            }
        }
    }

    /// Whether there are interrupts whose service failed.
    pub(crate) fn any_unserved(&self) -> bool {
        self.unserved.iter().any(|word| word.load(Ordering::Relaxed) != 0)
    }

    /// Tries them again.
    pub(crate) fn serve_again(&self) {
        if !self.any_unserved() {
            return;
        }
        for number in 0..=u8::MAX {
            let (word, bit) = (&self.unserved[usize::from(number) / 64], 1 << (number % 64));
            if word.fetch_and(!bit, Ordering::Relaxed) & bit == 0 {
                continue;
            }
            match unwind::catch(|| interrupts::dispatch(number)) {
                Ok(()) => platform::unmask(number),
                Err(caught) => {
                    word.fetch_or(bit, Ordering::Relaxed);
                    tell_of_failure("", &caught);
                }
            }
        }
    }
}

/// The block that lets the event kernel go on in the unwinder's entry, on its own stack.
///
/// # Safety
/// `block` is what the stub wrote.
pub(crate) unsafe fn unwinding(block: *mut RegisterBlock) -> Option<*mut RegisterBlock> {
    // SAFETY: the caller's.
    let saved = unsafe { block.read() };
    let head = platform::cpu();
    let is_exception = saved.vector < EXCEPTIONS && !matches!(saved.vector, NMI | DOUBLE_FAULT | MACHINE_CHECK);
    let lowest = head.event_stack - (stack::STACK.end - stack::STACK.start);
    let top =
        saved.rsp.min(if (lowest..head.event_stack).contains(&(block as u64)) { block as u64 } else { saved.rsp });
    let has_room = (lowest + UNWINDER_BYTES..=head.event_stack).contains(&top);
    if !is_exception || head.in_event.load(Ordering::Relaxed) != event::RUNS || !has_room {
        return None;
    }
    let moved = ((top - size_of::<RegisterBlock>() as u64) & !15) as *mut RegisterBlock;
    // SAFETY: below `top`, which is the lowest address that the event kernel uses of its stack, there is room.
    unsafe {
        moved.write(saved);
        unwind::aim_at_fault_entry(moved, moved as u64, Cause::Fault, platform::fault_address());
    }
    Some(moved)
}
